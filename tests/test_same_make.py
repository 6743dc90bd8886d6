"""Many files of one make: what is taken over from the first file is what each file by itself would have said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from distbp.data import locate
from distbp.data.layout import Layout
from distbp.data.locate import find
from distbp.data.reader import Reader
from distbp.data.same_make import Make
from distbp.errors import DataError

X = np.arange(12, dtype=np.float32).reshape(4, 3)


def write(path: Path, change: Callable[[h5py.Group], Any]) -> str:
    """A file with x (4, 3), float32, and y (4,), and what `change` makes of it."""
    with h5py.File(path, "w") as file:
        train = file.create_group("train")
        train["x"], train["y"] = X, np.arange(4.0)
        change(train)
    return str(path)


def put(train: h5py.Group, name: str, values: Any, **how: Any) -> None:
    del train[name]
    train.create_dataset(name, data=values, **how)


def never_written(train: h5py.Group) -> None:
    del train["x"]
    train.create_dataset("x", (4, 3), np.float32)


CHANGES: dict[str, Callable[[h5py.Group], Any]] = {
    "nothing": lambda train: None,
    "another place": lambda train: (train.create_dataset("a", data=np.zeros(99)), put(train, "x", X + 7)),
    "more rows": lambda train: (put(train, "x", np.vstack([X, X])), put(train, "y", np.zeros(8))),
    "fewer rows": lambda train: (put(train, "x", X[:1]), put(train, "y", np.zeros(1))),
    "no rows": lambda train: (put(train, "x", X[:0]), put(train, "y", np.zeros(0))),
    "rows of x alone": lambda train: put(train, "x", X[:3]),
    "another width": lambda train: put(train, "x", X[:, :2]),
    "another shape": lambda train: put(train, "x", X[:, None]),
    "one axis": lambda train: put(train, "x", X[:, 0]),
    "a single value": lambda train: put(train, "x", 1.0),
    "another type": lambda train: put(train, "x", X.astype(np.float64)),
    "another byte order": lambda train: put(train, "x", X.astype(">f4")),
    "chunks": lambda train: put(train, "x", X, chunks=(2, 3)),
    "compressed": lambda train: put(train, "x", X, compression="gzip"),
    "never written": never_written,
    "packed": lambda train: train["x"].attrs.update(scale_factor=2.0),
    "names": lambda train: train["x"].attrs.update(columns=np.array([b"a", b"b", b"c"])),
    "of MATLAB": lambda train: train["x"].attrs.update(MATLAB_class=np.bytes_(b"single")),
    "a fill value": lambda train: put(train, "x", X, fillvalue=3.0),
    "text": lambda train: put(train, "x", np.array([[b"u", b"v", b"w"]] * 4)),
    "a group": lambda train: (train.__delitem__("x"), train.create_group("x")),
    "a soft link": lambda train: (train.move("x", "z"), train.__setitem__("x", h5py.SoftLink("/train/z"))),
    "not there": lambda train: train.__delitem__("x"),
}


def outcome(paths: list[str]) -> tuple[Any, Any]:
    """The layout and the values that it leads to; or why there is none."""
    try:
        layout = find(paths, "train", "x", "y")
    except DataError as error:
        return str(error), None
    values = np.empty((layout.rows, layout.width("x")), layout.dtype("x"))
    with Reader(layout) as reader:
        reader.read("x", 0, layout.rows, values)
    return layout, values.tolist()


@pytest.mark.parametrize("change", CHANGES)
def test_the_first_file_says_nothing_that_another_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    plain = [write(tmp_path / f"{name}.h5", CHANGES["nothing"]) for name in "ac"]
    other = write(tmp_path / "b.h5", CHANGES[change])
    for paths in ([plain[0], other, plain[1]], [other, *plain]):
        found = outcome(paths)
        with monkeypatch.context() as one_by_one:
            one_by_one.setattr(locate, "make_of", lambda item, column: None)
            assert outcome(paths) == found


def test_what_is_known_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would compare nothing."""
    used = []
    known = Make.column_of

    def counted(make: Make, file: str, dataset: str, item: h5py.Dataset) -> Any:
        used.append(known(make, file, dataset, item))
        return used[-1]

    monkeypatch.setattr(Make, "column_of", counted)
    paths = [write(tmp_path / f"{name}.h5", CHANGES["more rows"]) for name in "abc"]
    layout: Layout = find([write(tmp_path / "0.h5", CHANGES["nothing"]), *paths], "train", "x", "y")
    assert [column.rows for column in used] == [8] * 6
    assert layout.rows == 28


def test_matrices_that_may_have_names_beside_them(tmp_path: Path) -> None:
    """An AnnData file names its genes in var; a file that has none beside one that has is refused."""

    def anndata(path: Path, genes: list[str]) -> str:
        with h5py.File(path, "w") as file:
            file["X"], file["y"] = X, np.arange(4.0)
            if genes:
                file["var/_index"] = np.array(genes, h5py.string_dtype())
        return str(path)

    first, other = anndata(tmp_path / "a.h5", []), anndata(tmp_path / "b.h5", ["g1", "g2", "g3"])
    with pytest.raises(DataError, match="X has the columns g1, g2, g3, but"):
        find([first, other], "/", "X", "y")
