"""A family of foreign files: a function that makes them, and what has to come out of the commands that use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

DATA, RUN, PREDICTIONS = "d.h5", "run", "p.h5"


@dataclass(frozen=True)
class Truth:
    """What the samples are, known from making the files: `x` (N, n_1), `y` labels (N,) or targets (N, n_F).

    `test`: which rows are for testing, in their order, None where they are drawn; `trained`: which rows are for
    training, by default all others.  `names`, `units`: of the inputs, where the files say them.
    `drawn`: how many rows are for testing where they are drawn.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    test: NDArray[np.bool_] | None = None
    trained: NDArray[np.bool_] | None = None
    drawn: int = 0
    names: Sequence[str] = ()
    units: Sequence[str] = ()

    @property
    def is_labelled(self) -> bool:
        """Whether y are labels."""
        return self.y.ndim == 1


@dataclass(frozen=True)
class Case:
    """How the files of a family are used.

    `commands`: up to the data set; train, evaluate and predict follow by themselves, each with its options below.
    A command that begins with "! " has to be refused, with the words behind " # ", where there are, in its message.
    `says`: what `distbp inspect` has to name.  `enough`: accuracy at least, or rmse at most, in spreads of the targets.
    `environment`: variables for all commands.  `check`: what is checked beside, in the folder.
    """

    commands: Sequence[str]
    truth: Truth
    train: str = DATA
    evaluate: str = ""
    predict: str = ""
    says: Sequence[str] = ()
    enough: float = 0.0
    training: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    check: Callable[[Path], None] | None = None
    own_lines: int = 0


@dataclass(frozen=True)
class Family:
    """A maker of files.  `needs`: modules without which they cannot be made, and programs, as "program:octave"."""

    name: str
    title: str
    needs: tuple[str, ...]
    make: Callable[[Path], Case]


FAMILIES: dict[str, Family] = {}


def family(*needs: str) -> Callable[[Callable[[Path], Case]], Callable[[Path], Case]]:
    """Adds a function to the families, under its name with - for _; its docstring says what the files are."""

    def add(make: Callable[[Path], Case]) -> Callable[[Path], Case]:
        name = make.__name__.replace("_", "-")
        FAMILIES[name] = Family(name, (make.__doc__ or "").strip().rstrip("."), needs, make)
        return make

    return add


def generator() -> np.random.Generator:
    """The same numbers in each run."""
    return np.random.default_rng(16)


def classes_of(x: NDArray[Any], K: int) -> NDArray[np.int64]:
    """A class for each row, all about as frequent, that follows from a weighted sum of the row."""
    score = weighted(x)
    return np.searchsorted(np.quantile(score, np.arange(1, K) / K), score).astype(np.int64)


def weighted(x: NDArray[Any], outputs: int = 0) -> NDArray[np.float64]:
    """Weighted sums of the columns, each scaled: (N,), or (N, outputs); that of another axis is very different."""
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    spread = flat.std(axis=0)
    scaled = (flat - flat.mean(axis=0)) / np.where(spread > 0, spread, 1)
    weights = np.random.default_rng(5).standard_normal((flat.shape[1], max(1, outputs)))
    found: NDArray[np.float64] = scaled @ weights / np.sqrt(flat.shape[1])
    return found if outputs else found[:, 0]


def last(N: int, fraction: float) -> NDArray[np.bool_]:
    """The rows that `--test-last` takes."""
    return np.arange(N) >= N - round(fraction * N)


def drawn(y: NDArray[Any], fraction: float) -> int:
    """How many rows `--test-fraction` takes: of each class, or of all."""
    if y.ndim > 1:
        return round(fraction * len(y))
    _, counts = np.unique(y, return_counts=True)
    return sum(round(fraction * int(count)) for count in counts)


def check_equal(one: Path, other: Path) -> None:
    """Raises AssertionError where two data sets that were imported differ in their test part."""
    with h5py.File(one) as a, h5py.File(other) as b:
        for name in ("test/x", "test/y"):
            found, wanted = a[name][:], b[name][:]
            same = found.dtype.kind == "O" and found.tolist() == wanted.tolist()
            assert same or np.allclose(found, wanted, rtol=1e-6, atol=0), (
                f"{name} of {one.name} and {other.name} differ"
            )
