"""Whether what the commands made is what the files hold: rows, names, classes, and predictions that are good."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from family import DATA, PREDICTIONS, RUN, Case, Truth
from numpy.typing import NDArray

TOLERANCE = 3e-6  # of numbers that were stored as float32
SPREAD_TOLERANCE = 1e-3


class Wrong(Exception):
    """A number, name or class is not what it has to be."""


def texts(values: Any) -> list[str]:
    """Strings of an array of strings or numbers."""
    return [one.decode() if isinstance(one, bytes) else str(one) for one in np.asarray(values).ravel().tolist()]


def check_data_set(path: Path, truth: Truth) -> str:
    """Compares a data set that was imported with the truth; what was compared.  Raises Wrong."""
    with h5py.File(path) as file:
        parts = {name: (group["x"][:], group["y"][:]) for name, group in file.items()}
        first = next(iter(file.values()))["x"].attrs
        columns, units = texts(first.get("columns", ())), texts(first.get("units", ()))
    order = [name for name in ("train", "val", "validation", "test") if name in parts]
    x = np.concatenate([parts[name][0].reshape(len(parts[name][0]), -1) for name in order])
    y = np.concatenate([parts[name][1] for name in order])
    _check_shape("x", x.shape, (len(truth.x), truth.x[0].size))
    _check_names(columns, units, truth, x.shape[1])
    tests = len(parts["test"][1]) if "test" in parts else 0
    wanted = truth.drawn if truth.test is None else int(truth.test.sum())
    if tests != wanted:
        raise Wrong(f"{tests} rows are for testing, expected {wanted}")
    if truth.test is None:
        _check_rows(*_sorted(x, y), *_sorted(truth.x, truth.y), "after sorting")
    else:
        taken = np.concatenate([np.flatnonzero(~truth.test), np.flatnonzero(truth.test)])
        _check_rows(x, y, truth.x[taken], truth.y[taken], "in the order of the file")
    named = f", {len(truth.names)} names" if truth.names else ""
    return f"{len(x)} x {x.shape[1]} values equal{named}"


def _check_shape(what: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if found != wanted:
        raise Wrong(f"{what} has the shape {found}, expected {wanted}")


def _check_names(columns: list[str], units: list[str], truth: Truth, width: int) -> None:
    """Names are there, one for each column, and those that the file has."""
    if truth.names and columns != list(truth.names):
        raise Wrong(f"the inputs are called {columns}, expected {list(truth.names)}")
    if truth.units and units != list(truth.units):
        raise Wrong(f"the units of the inputs are {units}, expected {list(truth.units)}")
    if columns and len(columns) != width:
        raise Wrong(f"{len(columns)} names for {width} inputs")


def _sorted(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows in an order that depends on their values alone; the truth is rounded as what is stored is."""
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    rounded = flat.astype(np.float32)
    order = np.lexsort(np.concatenate([rounded.T[::-1], rounded.T[:1]]))
    return flat[order], np.asarray(y)[order]


def _check_rows(x: Any, y: Any, true_x: Any, true_y: Any, how: str) -> None:
    x, true_x = (np.asarray(one, np.float64).reshape(len(one), -1) for one in (x, true_x))
    off = ~np.isclose(x, true_x, rtol=TOLERANCE, atol=TOLERANCE * np.abs(true_x).max(initial=1e-300) * 1e-3)
    if off.any():
        row, column = np.argwhere(off)[0].tolist()
        raise Wrong(
            f"x, {how}: {off.sum()} of {off.size} values differ; the first is in row {row}, column {column}: "
            f"{x[row, column]:g}, expected {true_x[row, column]:g}"
        )
    if true_y.ndim == 1:
        found, wanted = texts(y), texts(true_y)
        if found != wanted:
            i = next((i for i, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), -1)
            raise Wrong(
                f"labels, {how}: row {i} is {found[i]!r}, expected {wanted[i]!r}; there are {sorted(set(found))}"
            )
        return
    y = np.asarray(y, np.float64).reshape(len(y), -1)
    _check_shape("y", y.shape, true_y.shape)
    if not np.allclose(y, true_y, rtol=TOLERANCE, atol=1e-6 * np.abs(true_y).max()):
        raise Wrong(f"targets, {how}, differ by up to {np.abs(y - true_y).max():g}")


def check_network(folder: Path, truth: Truth, *, imported: bool) -> str:
    """Compares what the network knows of its inputs with the truth.  Raises Wrong."""
    with h5py.File(folder / RUN / "best.h5" if (folder / RUN / "best.h5").exists() else newest(folder)) as file:
        shift, spread = file["input/shift"][:], file["input/spread"][:]
        names = texts(file["input/columns"][:]) if "input/columns" in file else []
        classes = texts(file["target/classes"][:]) if "target/classes" in file else None
    if truth.names and not imported and names != list(truth.names):
        raise Wrong(f"the inputs of the network are called {names}, expected {list(truth.names)}")
    trained = truth.trained if truth.trained is not None else None if truth.test is None else ~truth.test
    if trained is not None and trained.any():
        _check_scaling(shift, spread, truth.x[trained].reshape(trained.sum(), -1))
    if truth.is_labelled:
        wanted = sorted(set(texts(truth.y)))
        if classes is None or sorted(classes) != wanted:
            raise Wrong(f"the classes of the network are {classes}, expected {wanted}")
        return f"{len(shift)} inputs, {len(wanted)} classes"
    if classes is not None:
        raise Wrong(f"the network has {len(classes)} classes, expected targets")
    return f"{len(shift)} inputs, {truth.y.shape[1]} targets"


def newest(folder: Path) -> Path:
    """The newest checkpoint of the run.  Raises Wrong."""
    found = sorted((folder / RUN).glob("checkpoint-*.h5"))
    if not found:
        raise Wrong("the run has no checkpoint")
    return found[-1]


def _check_scaling(shift: Any, spread: Any, x: Any) -> None:
    """Mean and spread of each input: an axis, a mask or a column that is another shows here."""
    _check_shape("the scaling of the inputs", shift.shape, (x.shape[1],))
    mean, deviation = x.astype(np.float64).mean(axis=0), x.astype(np.float64).std(axis=0)
    scale = np.where(deviation > 0, deviation, 1)
    for what, off in (("mean", np.abs(shift - mean) / scale), ("spread", np.abs(spread / scale - 1) * (deviation > 0))):
        if off.max() > SPREAD_TOLERANCE:
            i = int(off.argmax())
            found, wanted = (shift[i], mean[i]) if what == "mean" else (spread[i], deviation[i])
            raise Wrong(f"the {what} of input {i} is {found:g}, expected {wanted:g}")


def check_predictions(folder: Path, case: Case, said: str, *, imported: bool) -> str:
    """Compares predictions with the truth, and their score with what evaluate says.  Raises Wrong."""
    found = re.search(r"(\d+) samples.*\b(accuracy|rmse) ([-+.\w]+)", said)
    if not found:
        raise Wrong(f"distbp evaluate says: {said.strip()}")
    true_y = _tested(folder, case, imported=imported)
    if int(found[1]) != len(true_y):
        raise Wrong(f"distbp evaluate has {found[1]} samples, expected {len(true_y)}")
    with h5py.File(folder / PREDICTIONS) as file:
        if case.truth.is_labelled:
            right = np.array(texts(file["class"][:])) == np.array(texts(true_y))
            score, metric = float(right.mean()), "accuracy"
            is_good = score >= case.enough
            shown, bound = f"accuracy {score:.2f}", f"at least {case.enough}"
        else:
            error = file["y"][:].astype(np.float64).reshape(true_y.shape) - true_y
            score, metric = float(np.sqrt(np.square(error).mean())), "rmse"
            relative = float(np.sqrt(np.mean(np.square(error).mean(0) / true_y.var(0))))
            is_good = relative <= case.enough
            shown, bound = f"rmse {relative:.2f} spreads", f"at most {case.enough} spreads"
    if found[2] != metric or not np.isclose(float(found[3]), score, rtol=1e-3, atol=1e-6):
        raise Wrong(f"distbp evaluate says {found[2]} {found[3]}; the predictions have {metric} {score:.8g}")
    if not is_good:
        raise Wrong(f"{shown} on {len(true_y)} samples, expected {bound}")
    return f"{len(true_y)} predicted, {shown}"


def _tested(folder: Path, case: Case, *, imported: bool) -> Any:
    """The truth of the rows that were predicted, in their order."""
    truth = case.truth
    if truth.test is not None and truth.test.any():
        return truth.y[truth.test]
    if truth.test is not None:
        return truth.y
    with h5py.File(folder / DATA) as file:  # its rows were found to be those of the truth
        y = file["test/y"][:]
    return y if truth.is_labelled else y.reshape(len(y), -1)
