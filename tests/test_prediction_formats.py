"""`predict --out`: the ending says the format, and each holds what the HDF5 file holds, bit for bit."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import Runner, check_error, configuration, train_on, write_data
from test_predict import ODD, problem

from distbp.errors import UsageError
from distbp.prediction.columns import column_names
from distbp.prediction.formats import ENDINGS, check_format
from distbp.prediction.json_predictions import JSONPredictions
from distbp.prediction.predict import predict
from distbp.prediction.trained import Use, load
from distbp.ranks.communicator import Communicator, OneProcess, run_threads

KINDS = ("classes", "text", "targets")


def data_of(path: Path, kind: str) -> str:
    """Labels that are words are odd ones."""
    data = write_data(path, train=60, test=330, kind="classes" if kind == "text" else kind)
    if kind == "text":
        with h5py.File(path, "r+") as file:
            for split in ("train", "test"):
                labels = np.array(ODD, object)[file[f"{split}/y"][()] + 3]
                del file[f"{split}/y"]
                file[f"{split}/y"] = labels
    return data


@pytest.fixture(scope="module", params=[(kind, ranks) for kind in KINDS for ranks in (1, 3)], ids=str)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the same predictions in all formats, in blocks of 100 rows."""
    kind, ranks = request.param
    here: Path = tmp_path_factory.mktemp("p")
    options = {"loss": "mse", "output_activation": "identity"} if kind == "targets" else {}
    train_on(1, configuration(data_of(here / "d.h5", kind), here / "run", epochs=1, dtype="float32", **options))

    def work(comm: Communicator) -> None:
        used = load(comm, str(here / "run"), Use((), "test", targets=False))
        for ending in ENDINGS:
            predict(comm, used.state, used.data, here / f"p{ending}", inputs=used.files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distbp.prediction.network_outputs.BLOCK", 100)
        patch.setattr("distbp.prediction.parquet_predictions.GROUP_ROWS", 64)
        run_threads(ranks, work)
    return here


def truth(here: Path) -> tuple[list[str], list[Any] | None, np.ndarray]:
    """The names of the columns, the classes and the values, of the HDF5 file."""
    with h5py.File(here / "p.h5") as file:
        if "class" not in file:
            return ["y_0", "y_1"], None, file["y"][()]
        of_text = h5py.check_string_dtype(file["class"].dtype) is not None
        classes = (file["class"].asstr() if of_text else file["class"])[()].tolist()
        names = (file["classes"].asstr() if of_text else file["classes"])[()].tolist()
        return ["class", *(f"probability_{name}" for name in names)], classes, file["probability"][()]


def check(here: Path, names: list[str], rows: list[list[Any]], kind: type = float) -> None:
    """Rows of cells, text or not."""
    expected, classes, values = truth(here)
    assert names == expected
    if classes is not None:
        assert [row[0] for row in rows] == [str(label) if isinstance(rows[0][0], str) else label for label in classes]
        rows = [row[1:] for row in rows]
    assert np.array([[kind(cell) for cell in row] for row in rows]).astype(values.dtype).tobytes() == values.tobytes()


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz", ".tsv.gz"])
def test_text(written: Path, ending: str) -> None:
    opened = gzip.open if ending.endswith(".gz") else open
    with opened(written / f"p{ending}", "rt", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t" if "tsv" in ending else ",", strict=True)
    check(written, header, rows)


def test_json(written: Path) -> None:
    objects = json.loads((written / "p.json").read_text("utf-8"))
    check(written, list(objects[0]), [list(one.values()) for one in objects])
    lines = (written / "p.jsonl").read_text("utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == objects
    assert lines[-1] == ""


def test_parquet(written: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    table = pyarrow.parquet.read_table(written / "p.parquet")
    check(written, table.column_names, [list(row.values()) for row in table.to_pylist()])
    values = truth(written)[2]
    assert table.schema.field(table.num_columns - 1).type == pyarrow.from_numpy_dtype(values.dtype)
    groups = pyarrow.parquet.ParquetFile(written / "p.parquet").metadata
    assert groups.num_row_groups == -(-330 // 64)  # whatever the ranks have sent


def test_npy(written: Path) -> None:
    found, (_, classes, values) = np.load(written / "p.npy"), truth(written)  # without a pickle
    if classes is not None:
        assert found.dtype.names == ("class", "probability")
        assert found["class"].tolist() == classes
        found = found["probability"]
    assert (found.shape, found.dtype) == (values.shape, values.dtype)
    assert found.tobytes() == values.tobytes()


def test_no_other_file_is_left(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == sorted(["d.h5", "run", *(f"p{e}" for e in ENDINGS)])
    assert (written / "p.h5").read_bytes() == (written / "p.hdf5").read_bytes()


def test_the_same_content_has_the_same_bytes(written: Path) -> None:
    """gzip may put the time and the name of a file into it."""
    used = load(OneProcess(), str(written / "run"), Use((), "test", targets=False))
    predict(OneProcess(), used.state, used.data, written / "again.csv.gz")
    with gzip.open(written / "again.csv.gz") as again, gzip.open(written / "p.csv.gz") as first:
        assert again.read() == first.read()
    header = (written / "again.csv.gz").read_bytes()[:9]
    assert header[3:8] == b"\0" * 5  # no flags, so no name; and no time
    (written / "again.csv.gz").unlink()


def test_what_is_no_number_is_null_in_json(tmp_path: Path) -> None:
    of = problem(3)
    with open(tmp_path / "p", "wb") as place:
        file = JSONPredictions(place.fileno(), of, column_names(of, "a%s,b,c"), is_list=True)
        file.write(np.array([[0.1, np.nan, -np.inf], [0.2, 1e300, -0.0]]))
        file.close()
    assert json.loads((tmp_path / "p").read_text(), parse_constant=lambda word: 1 / 0) == [
        {"a%s": 0.1, "b": None, "c": None},
        {"a%s": 0.2, "b": 1e300, "c": 0.0},
    ]


@pytest.mark.parametrize("name", ["p", "p.txt", "p.csv.bz2", "p.npy.gz", "p.xlsx", "csv", "p.h5.bak"])
def test_another_ending_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"--out {name}: expected a name that ends in \.csv, .* or \.hdf5"):
        check_format(Path(name))


def test_parquet_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"Parquet needs PyArrow: pip install 'distbp\[parquet\]'"):
        check_format(Path("p.PARQUET"))
    assert check_format(Path("p.CSV.GZ")) == ".csv.gz"


def test_by_the_command(runner: Runner, data_file: str) -> None:
    runner.distbp("train", data_file, "--epochs", "1")
    home = str(runner.directory)
    done = runner.distbp("predict", "run", "--out=~/p.tsv", HOME=home)
    assert done.stdout == f"{home}/p.tsv: predictions for 11 samples of test\n", done.stderr
    check_error(runner.distbp("predict", "run", "--out", "$SCRATCH/p.csv"), 2, "a variable of the shell")
    check_error(runner.distbp("predict", "run", "--out", "p.txt"), 2, "--out p.txt: expected a name that ends in")
