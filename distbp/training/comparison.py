"""Are two checkpoints the same?  A digest of the parameters, and where two files differ, and by how much.

The distance of two floating-point numbers is counted in ulps, units in the last place: how many numbers of that dtype
lie between them, plus one.  Numbers of one sign are ordered as their bit patterns are, as whole numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.labels import in_words
from distbp.mathematics.activations import Array
from distbp.mathematics.network import Parameters
from distbp.settings.config import FIELDS, as_dict, flag
from distbp.training.state import Checkpoint


def digest(parameters: Parameters) -> str:
    """SHA-256 of all W^l and b^l with their shapes and dtype, in hexadecimal; the same on any CPU."""
    sha = hashlib.sha256()
    for l in range(2, len(parameters.W)):
        for name, array in (("W", parameters.W[l]), ("b", parameters.b[l])):
            sha.update(f"{name}^{l} {array.dtype.name} {array.shape}\n".encode())
            sha.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return sha.hexdigest()


def ulps(a: Array, b: Array) -> NDArray[np.uint64]:
    """How far a is from b, element by element, in ulps; a and b are finite, of one shape and dtype."""
    return np.where(_order(a) > _order(b), _order(a) - _order(b), _order(b) - _order(a))


def _order(a: Array) -> NDArray[np.uint64]:
    """Whole numbers in the order of the floating-point numbers, and as close together; +0 and -0 are one."""
    bits = a.view(np.int32 if a.dtype == np.float32 else np.int64).astype(np.int64)
    lowest = np.int64(np.iinfo(np.int32 if a.dtype == np.float32 else np.int64).min)
    middle = np.uint64(2**63)
    return np.where(bits < 0, middle - (bits - lowest).astype(np.uint64), middle + bits.astype(np.uint64))


def differences(a: Checkpoint, b: Checkpoint) -> Iterator[str]:
    """A line for each thing in which two checkpoints differ.

    Clocks do not count, nor do the machines, nor options that may change in a run, such as --out.
    """
    if a.problem.network.sizes != b.problem.network.sizes or a.vector.dtype != b.vector.dtype:
        yield f"network    {_network(a)} and {_network(b)}: the parameters cannot be compared"
        return
    for l in range(2, a.problem.network.F + 1):
        for name in ("W", "b"):
            yield from _arrays(f"layer {l} {name}", *(getattr(state.parameters, name)[l] for state in (a, b)))
    if a.numerics != b.numerics:
        yield f"numerics   {a.numerics} and {b.numerics}: the runs have their samples in another order"
    for flaw in sorted({state.flaw for state in (a, b)} - {""}):
        yield f"optimizer  is not compared: {flaw}"
    for name in sorted(a.optimizer.keys() | b.optimizer.keys()) if not a.flaw and not b.flaw else ():
        if name in a.optimizer and name in b.optimizer:
            yield from _arrays(f"optimizer {name}", a.optimizer[name], b.optimizer[name])
        else:
            yield f"optimizer {name}: only in one of them"
    for what in ("input", "target"):
        for part in ("shift", "spread"):
            yield from _arrays(f"{what} {part}", *(getattr(getattr(s.problem, what), part) for s in (a, b)))
    if a.problem.labels != b.problem.labels:
        one, other = ("none" if s.problem.labels is None else in_words(s.problem.labels) for s in (a, b))
        yield f"classes    {one}, and {other}"
    for name, value in vars(a.progress).items():
        other = getattr(b.progress, name)
        if other != value and "seconds" not in name:
            yield f"progress   {name.replace('_', ' ')}: {value} and {other}"
    for column in sorted(a.history.keys() | b.history.keys()):
        x, y = (np.array(state.history.get(column, [])) for state in (a, b))
        if "second" not in column and not np.array_equal(x, y, equal_nan=True):
            yield f"history    {column}: {_first_difference(x, y)}"
    theirs = as_dict(b.config)
    for name, option in as_dict(a.config).items():
        if option != theirs[name] and not FIELDS[name].metadata["may_change"]:
            yield f"config     {flag(name)}: {option!r} and {theirs[name]!r}"


def _network(state: Checkpoint) -> str:
    return "-".join(map(str, state.problem.network.sizes[1:])) + f" {state.vector.dtype}"


def _arrays(name: str, a: Any, b: Any) -> Iterator[str]:
    if a.shape != b.shape or a.dtype != b.dtype:
        yield f"{name}: {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        return
    distance = ulps(a, b)
    if a.tobytes() != b.tobytes() and not distance.any():
        yield f"{name}: values that are zero differ in its sign"
    if distance.any():
        where = np.unravel_index(int(distance.argmax()), a.shape)
        place = ", ".join(str(int(index)) for index in where)
        count = int(np.count_nonzero(distance))
        yield (
            f"{name}: {count} of {a.size} values differ, by up to {int(distance.max())} ulps, "
            f"at [{place}]: {a[where]!s} and {b[where]!s}"
        )


def _first_difference(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    for row, (one, other) in enumerate(zip(x.tolist(), y.tolist(), strict=False), 1):
        if one != other and not (np.isnan(one) and np.isnan(other)):
            return f"from row {row} on, {one!r} and {other!r}"
    return f"{len(x)} and {len(y)} rows"
