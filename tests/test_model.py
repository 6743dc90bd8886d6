"""A trained network in Python: the formula, the bits of `distbp predict`, all that x may be, and what is refused."""

from __future__ import annotations

import copy
import csv
import pickle
import shutil
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import configuration, train_on, write_data

import distbp
from distbp.data.problem import Names, Problem
from distbp.data.scaling import Scaling
from distbp.inspection.file_inspection import describe_digest
from distbp.mathematics.network import Network, Parameters, initialize
from distbp.model.model import Model
from distbp.prediction.predict import predict
from distbp.prediction.trained import Use, load
from distbp.ranks.communicator import OneProcess
from distbp.training.checkpoint import Checkpoint

SLOW = pytest.mark.slow
NAMES = ("mass", "speed", "width, dry", "größe")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run directories of small networks, by what they were trained on."""
    found: dict[str, Path] = {}
    place = tmp_path_factory.mktemp("runs")
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "classes": ("classes", {"activation": "tanh"}),
        "binary": ("binary", {"loss": "binary_cross_entropy", "dtype": "float32"}),
        "targets": ("targets", {"dtype": "float32", "hidden": [5, 7]}),
        "unscaled": ("targets", {"dtype": "float32", "scale": "none"}),
        "mse": ("classes", {"loss": "mse", "output_activation": "sigmoid", "task": "classes"}),
    }
    for name, (kind, options) in kinds.items():
        data = write_data(place / f"{name}.h5", train=60, test=230, kind=kind)
        with h5py.File(data, "r+") as file:
            for split in ("train", "test"):
                file[f"{split}/x"].attrs["columns"] = np.array([text.encode() for text in NAMES], "S16")
                file[f"{split}/x"].attrs["units"] = np.array([b"kg", b"m/s", b"m", b""], "S16")
        train_on(1, configuration(data, place / name, epochs=4, **options))
        found[name] = place / name
    return found


@pytest.fixture(scope="module")
def strings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on labels that are strings, with inputs without names."""
    place = tmp_path_factory.mktemp("strings")
    data = write_data(place / "d.h5", train=60, test=20)
    with h5py.File(data, "r+") as file:
        for split in ("train", "test"):
            y = np.array(["Löwe", "cat", "dog"], object)[file[f"{split}/y"][()]]
            del file[f"{split}/y"]
            file[f"{split}/y"] = y
    train_on(1, configuration(data, place / "run", epochs=2))
    return place / "run"


def made(layers: list[int], *, dtype: str = "float64", names: tuple[str, ...] = (), classes: bool = True) -> Model:
    """A model that was not trained."""
    loss, output = ("cross_entropy", "softmax") if classes else ("mse", "identity")
    network = Network.of(layers, "relu", output, loss)
    parameters = Parameters.zeros(network, dtype)
    initialize(parameters, network, 3)
    options = {"hidden": layers[1:-1], "loss": loss, "output_activation": output, "dtype": dtype}
    labels = tuple(range(layers[-1])) if classes else None
    n_1, n_F = layers[0], layers[-1]
    problem = Problem(network, Scaling.none(n_1), Scaling.none(n_F), labels, Names(x=names))
    return Model(Checkpoint(configuration("d.h5", "run", **options), problem, parameters.vector))


def rows(count: int = 9) -> Any:
    return np.random.default_rng(1).standard_normal((count, 4)) * 3 + 1


def by_the_formula(path: Path, x: Any) -> Any:
    """a^F in the units of the targets, worked out from the arrays of the file alone."""
    sigma = {
        "tanh": np.tanh,
        "relu": lambda z: np.where(z > 0, z, 0),
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "identity": lambda z: z,
        "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
    }
    config = distbp.load(path).config
    with h5py.File(path / "best.h5") as file:
        a = (x - file["input/shift"][()]) / file["input/spread"][()]
        F = 2 + len(config["hidden"])
        for l in range(2, F + 1):
            z = a @ file[f"network/layer_{l}/W"][()].T.astype(np.float64) + file[f"network/layer_{l}/b"][()]
            a = sigma[config["output_activation"] if l == F else config["activation"]](z)
        return a * file["target/spread"][()] + file["target/shift"][()]


@pytest.mark.parametrize("name", ["classes", "binary", "targets", "unscaled", "mse"])
def test_the_formula(runs: dict[str, Path], name: str) -> None:
    model, x = distbp.load(runs[name]), rows(50)
    a = by_the_formula(runs[name], x)
    close = {"rtol": 1e-12, "atol": 1e-12} if model.config["dtype"] == "float64" else {"rtol": 1e-4, "atol": 1e-4}
    found = model.predict(x)
    if name in ("targets", "unscaled"):
        assert model.classes is None
        assert found.dtype == ("float64" if name == "targets" else "float32")
        np.testing.assert_allclose(found, a, **close)
        with pytest.raises(distbp.UsageError, match=r"predict_proba: .*use predict$"):
            model.predict_proba(x)
        with pytest.raises(distbp.UsageError, match="class_outputs"):
            model.class_outputs(x)
        return
    values = np.hstack([1 - a, a]) if name == "binary" else a
    assert model.classes is not None
    np.testing.assert_allclose(model.class_outputs(x), values, **close)
    assert found.dtype == np.int64
    assert np.array_equal(found, model.classes[values.argmax(axis=1)])
    if name == "mse":
        with pytest.raises(distbp.UsageError, match="use class_outputs"):
            model.predict_proba(x)
    else:
        assert model.predict_proba(x).shape == (50, len(model.classes))


@pytest.mark.parametrize("name", ["classes", "binary", "targets", "unscaled", "mse"])
@pytest.mark.parametrize("N", [1, 2, 37, 64, 230])
@pytest.mark.parametrize("dtype", ["float32", *(pytest.param(name, marks=SLOW) for name in ("float64", "uint8"))])
def test_the_bits_of_the_command(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, N: int, dtype: str
) -> None:
    monkeypatch.setattr("distbp.prediction.network_outputs.BLOCK", 100)
    monkeypatch.setattr("distbp.mathematics.backprop.PIECE_SAMPLES", 64)
    x = np.abs(rows(N)).astype(dtype)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["test/x"] = x
    best = runs[name] / "best.h5"
    used = load(OneProcess(), str(best), Use([str(tmp_path / "d.h5")], "test", targets=False))
    predict(OneProcess(), used.state, used.data, tmp_path / "p.h5")
    model = distbp.load(best)
    for _ in range(2):  # the second time in memory that is there
        with h5py.File(tmp_path / "p.h5") as file:
            if "y" in file:
                assert model.predict(x).tobytes() == file["y"][()].tobytes()
                continue
            values = next(file[key] for key in ("probability", "output") if key in file)
            assert model.class_outputs(x).tobytes() == values[()].tobytes()
            assert np.array_equal(model.predict(x), file["class"][()])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "i1", "u1", "i2", "i4", "i8", "u8", "?", ">f4", ">i2"])
def test_any_type_of_numbers(runs: dict[str, Path], dtype: str) -> None:
    model, x = distbp.load(runs["classes"]), np.abs(rows()).astype(dtype)
    np.testing.assert_allclose(model.predict_proba(x), by_the_formula(runs["classes"], x.astype("f8")), rtol=1e-12)


def test_shapes(runs: dict[str, Path]) -> None:
    images, x = made([12, 5, 3]), np.arange(60.0).reshape(5, 3, 4)
    assert images.predict(x).shape == (5,)
    assert images.predict_proba(x).tobytes() == images.predict_proba(x.reshape(5, 12)).tobytes()
    assert images.predict(x.reshape(5, 12).tolist()).shape == (5,)
    whole, one = images.predict_proba(x[:1]), images.predict_proba(x[0].ravel())
    assert one.shape == (3,)
    assert one.tobytes() == whole[0].tobytes()
    label = images.predict(x[0].ravel())
    assert label == images.predict(x[:1])[0]
    assert isinstance(label, np.int64)
    targets = distbp.load(runs["targets"])
    assert targets.predict(rows()[0]).shape == (2,)
    assert targets.predict(rows()[:1]).shape == (1, 2)
    assert np.asfortranarray(rows()).flags.f_contiguous
    assert targets.predict(np.asfortranarray(rows())).tobytes() == targets.predict(rows()).tobytes()
    assert targets.predict(rows(18)[::-2]).tobytes() == targets.predict(rows(18)[::-2].copy()).tobytes()
    curve = made([1, 4, 2], classes=False)
    assert curve.predict(np.arange(6.0)).shape == (6, 2)
    assert curve.predict(0.5).shape == (2,)
    assert curve.predict([0.5]).shape == (1, 2)


@pytest.mark.parametrize("name", ["classes", "targets"])
def test_no_rows(runs: dict[str, Path], name: str) -> None:
    model, nothing = distbp.load(runs[name]), np.empty((0, 4), np.float32)
    assert model.predict(nothing).shape == ((0,) if name == "classes" else (0, 2))
    assert model.predict(nothing).dtype == model.predict(rows()).dtype
    if name == "classes":
        assert model.predict_proba(nothing).shape == (0, 3)


def test_labels_that_are_strings(strings: Path) -> None:
    model = distbp.load(strings)
    assert model.classes is not None
    assert model.classes.tolist() == ["Löwe", "cat", "dog"]
    assert set(model.predict(rows(50)).tolist()) <= {"Löwe", "cat", "dog"}
    assert model.predict(rows()[0]) in ("Löwe", "cat", "dog")


class Frame:
    """The least of a frame: columns, and a column by its name."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns, self._columns = list(columns), columns

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]

    def to_numpy(self) -> Any:
        raise AssertionError("columns are read one by one")


def structured(columns: dict[str, Any]) -> Any:
    array = np.empty(len(next(iter(columns.values()))), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        array[name] = values
    return array


def library(name: str) -> Any:
    def make(columns: dict[str, Any]) -> Any:
        if name == "pandas":
            return pytest.importorskip("pandas").DataFrame(columns, index=np.arange(len(columns["mass"])) + 5)
        if name == "polars":
            return pytest.importorskip("polars").DataFrame(columns)
        if name == "pyarrow":
            return pytest.importorskip("pyarrow").table(columns)
        xarray = pytest.importorskip("xarray")
        if name == "Dataset":
            return xarray.Dataset({key: ("sample", values) for key, values in columns.items()})
        stacked = np.stack(list(columns.values()), axis=1)
        return xarray.DataArray(stacked, dims=("sample", "input"), coords={"input": list(columns)})

    return make


FRAMES = {
    "dict": dict,
    "structured": structured,
    "frame": Frame,
    **{name: library(name) for name in ("pandas", "polars", "pyarrow", "Dataset", "DataArray")},
}


@pytest.mark.parametrize("kind", FRAMES)
def test_columns_with_names(runs: dict[str, Path], kind: str) -> None:
    model, x = distbp.load(runs["targets"]), rows()
    columns = {name: x[:, i] for i, name in enumerate(NAMES)}
    truth = model.predict(x).tobytes()
    for order in (NAMES, NAMES[::-1], (NAMES[2], NAMES[0], NAMES[3], NAMES[1])):
        assert model.predict(FRAMES[kind]({name: columns[name] for name in order})).tobytes() == truth
    others = {"mass": x[:, 0], "speed": x[:, 1], "größe": x[:, 3], "depth": x[:, 2]}
    with pytest.raises(distbp.DataError, match=r"mass, speed, größe, depth; .* mass, speed, width, dry, größe .*not "):
        model.predict(FRAMES[kind](others))
    with pytest.raises(distbp.DataError, match="not asked for: more"):
        model.predict(FRAMES[kind]({**columns, "more": x[:, 0]}))
    with pytest.raises(distbp.DataError, match=r"row 3: nan in 'speed'"):
        model.predict(FRAMES[kind]({**columns, "speed": np.where(np.arange(9) == 3, np.nan, x[:, 1])}))
    if kind != "DataArray":  # its numbers are of one type
        mixed = {**columns, "mass": np.arange(9, dtype=np.int16), "speed": np.arange(9) % 2 == 0}
        whole = np.stack([*mixed.values()], axis=1)
        assert model.predict(FRAMES[kind](mixed)).tobytes() == model.predict(whole).tobytes()
        with pytest.raises(distbp.DataError, match=r"column 'mass'.*expected real numbers"):
            model.predict(FRAMES[kind]({**columns, "mass": np.array(list("abcdefghi"))}))


def test_one_sample_with_names(runs: dict[str, Path]) -> None:
    model, x = distbp.load(runs["targets"]), rows()
    one = {name: x[0, i] for i, name in reversed(list(enumerate(NAMES)))}
    truth = model.predict(x[0]).tobytes()
    assert model.predict(one).shape == (2,)
    assert model.predict(one).tobytes() == truth
    assert model.predict(structured({name: np.array([value]) for name, value in one.items()})[0]).tobytes() == truth
    pandas = pytest.importorskip("pandas")
    assert model.predict(pandas.DataFrame([one]).iloc[0]).tobytes() == truth


def test_frames_of_pandas(strings: Path, runs: dict[str, Path]) -> None:
    pandas, x = pytest.importorskip("pandas"), rows()
    unnamed = distbp.load(strings)  # of a network that knows no names, and frames without any
    for frame in (pandas.DataFrame(x), pandas.DataFrame(x, columns=list("abcd"))):
        assert unnamed.predict_proba(frame).tobytes() == unnamed.predict_proba(x).tobytes()
    with pytest.raises(distbp.DataError, match=r"x has 3 columns \(a, b, c\), but the network has 4 inputs"):
        unnamed.predict(pandas.DataFrame(x[:, :3], columns=list("abc")))
    named, frame = distbp.load(runs["targets"]), pandas.DataFrame(x, columns=NAMES)
    assert named.predict(frame.convert_dtypes()).tobytes() == named.predict(frame).tobytes()
    frame["speed"] = pandas.array([1, None, *range(7)], "Int64")
    with pytest.raises(distbp.DataError, match="row 1: nan in 'speed'"):
        named.predict(frame)
    twice = pandas.DataFrame(x, columns=["mass", "mass", "speed", "größe"])
    with pytest.raises(distbp.DataError, match="mass, mass"):
        named.predict(twice)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((3, 5)), r"x has the shape \(3, 5\), but the network has 4 inputs \(mass, speed"),
        (np.zeros(3), r"x has the shape \(3,\)"),
        (np.zeros((2, 2)), r"for one sample: x.reshape\(1, -1\)"),
        (np.zeros((3, 2, 3)), r"x has the shape \(3, 2, 3\)"),
        (1.0, r"x has the shape \(\)"),
        ([], r"x has the shape \(0,\)"),
        (np.empty((0, 3)), r"x has the shape \(0, 3\)"),
        (np.zeros((3, 4), complex), "x holds complex numbers"),
        (np.zeros((3, 4), object), "x holds Python objects"),
        ([[1, 2, 3, 10**30]], "x holds Python objects"),
        ([["a", "b", "c", "d"]], "x holds values of type <U1"),
        (np.zeros((3, 4), "M8[s]"), "x holds times"),
        ([[1, 2, 3, 4], [1, 2]], "x is no array of numbers"),
        (None, "x holds Python objects"),
        ([[1, 2, 3, None]], "x holds Python objects"),
        ([[1, 2, 3, np.nan]], "x, row 0: nan in 'größe'; remove"),
        ([[0, 0, 0, 0], [0, -np.inf, 0, 0]], "x, row 1: -inf in 'speed'"),
        (np.ma.masked_equal([[1, 2, 3, 4], [1, 2, 9, 4]], 9), r"x\[1, 2\]: a value is missing"),
        ({"mass": [1.0], "speed": [1.0], "width, dry": [1.0], "größe": [1.0, 2.0]}, "columns of one length"),
        ({}, "x holds Python objects"),
    ],
)
def test_what_is_refused(runs: dict[str, Path], x: Any, words: str) -> None:
    for name in ("targets", "classes"):
        with pytest.raises(distbp.DataError, match=words):
            distbp.load(runs[name]).predict(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("N", [1, 5, 1500])
def test_every_value_is_looked_at(bad: float, dtype: str, N: int) -> None:
    """Behind relu and softmax, or times a weight of 0, an output could be finite."""
    model = made([4, 6, 3], dtype=dtype)
    W = model._parameters.W[2]
    W[:, 3] = -1.0  # times ∞ it is -∞, of which relu makes 0
    model = Model(model._state)
    for row, column in ((0, 0), (N - 1, 2), (N // 2, 3)):
        x = np.ones((N, 4), dtype)
        x[row, column] = bad
        with pytest.raises(distbp.DataError, match=rf"x, row {row}: {bad} in column {column}"):
            model.predict(x)


def test_a_product_that_leaves_out_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some BLAS libraries do not multiply by 0, so that NaN in an unused input leaves no trace."""
    model = made([4, 6, 3])
    model._parameters.W[2][:, 2] = 0.0
    model = Model(model._state)
    monkeypatch.setattr("distbp.prediction.network_outputs.library", lambda *words: "none is there")
    monkeypatch.setattr("distbp.prediction.network_outputs._are_finite", lambda numbers: True)
    with pytest.raises(distbp.DataError, match="x, row 1: nan in column 2"):
        model.predict([[0, 0, 0, 0], [0, 0, np.nan, 0]])


def test_outputs_that_overflow(runs: dict[str, Path]) -> None:
    model = made([2, 3, 1], dtype="float32", classes=False)
    x = np.full((5, 2), 1e38)
    x[:3] = 1.0
    with pytest.raises(distbp.DataError, match=r"x, row 3: the output is "):
        Model(_times(model._state, 100.0)).predict(x)
    large = np.full((2, 2), 1e30)  # squares of these overflow, and the outputs do not
    assert np.isfinite(model.predict(large)).all()


def _times(state: Checkpoint, factor: float) -> Checkpoint:
    return replace(state, vector=np.abs(state.vector) * np.float32(factor))


def test_threads_share_a_model(runs: dict[str, Path]) -> None:
    model, x = distbp.load(runs["classes"]), rows(3000)
    sizes = [1, 2, 700, 3000, 1024, 1, 65]
    truth = {N: model.predict_proba(x[:N]).tobytes() for N in sizes}
    wrong: list[int] = []

    def work(begin: int) -> None:
        for turn in range(60):
            N = sizes[(begin + turn) % len(sizes)]
            if model.predict_proba(x[:N]).tobytes() != truth[N]:
                wrong.append(N)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert 1 <= len(model._rooms) <= 6


def test_copies(runs: dict[str, Path]) -> None:
    model, x = distbp.load(runs["binary"]), rows()
    model.predict(x)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        assert repr(other) == repr(model)
        assert other.digest == model.digest
        assert other.predict_proba(x).tobytes() == model.predict_proba(x).tobytes()


def test_memory_is_bounded() -> None:
    model, x = made([8, 300, 2], dtype="float32"), np.ones((60000, 8), np.float32)
    model.predict(x[:5])
    tracemalloc.start()
    model.predict_proba(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    room, out = 1024 * (8 + 600 + 4) * 4, 60000 * 2 * 4
    assert peak < 1.2 * room + 2 * out  # all activations together are 60 times a room


def test_what_it_knows(runs: dict[str, Path]) -> None:
    model = distbp.load(str(runs["targets"]))
    assert model.inputs.names == NAMES
    assert model.inputs.units == ("kg", "m/s", "m", "")
    assert (model.inputs.count, model.outputs.count) == (4, 2)
    assert model.config["hidden"] == [5, 7]
    assert [(W.shape, b.shape, name) for W, b, name in model.layers] == [
        ((5, 4), (5,), "relu"),
        ((7, 5), (7,), "relu"),
        ((2, 7), (2,), "identity"),
    ]
    with h5py.File(runs["targets"] / "best.h5") as file:
        assert np.array_equal(model.layers[1][0], file["network/layer_3/W"][()])
        assert np.array_equal(model.input_scaling[0], file["input/shift"][()])
        assert np.array_equal(model.output_scaling[1], file["target/spread"][()])
    for array in (*model.layers[0][:2], *model.input_scaling, *model.output_scaling):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0
    assert f"{model.digest}  {runs['targets'] / 'best.h5'}" in list(describe_digest(str(runs["targets"])))
    assert repr(model) == (
        f"<distbp.Model 4-5-7-2, relu, identity, mse: 2 targets, float32, {runs['targets'] / 'best.h5'}>"
    )
    with open(runs["targets"] / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))[: len(model.history["epoch"])]
    assert list(model.history) == list(table[0])
    for name, values in model.history.items():
        assert values.dtype == ("int64" if name in ("epoch", "step") else "float64")
        np.testing.assert_array_equal(values, [float(row[name] or "nan") for row in table])


def test_what_is_loaded(runs: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs["classes"], run)
    assert repr(distbp.load(run)).endswith("best.h5>")
    newest = sorted(run.glob("checkpoint-*.h5"))
    assert repr(distbp.load(newest[0])).endswith(f"{newest[0].name}>")
    (run / "best.h5").write_bytes((run / "best.h5").read_bytes()[:5000])
    with pytest.raises(distbp.CheckpointError, match=r"best\.h5"):  # it is not silently another network
        distbp.load(run)
    (run / "best.h5").unlink()
    assert repr(distbp.load(run)).endswith(f"{newest[-1].name}>")
    newest[-1].write_bytes(b"damaged")
    assert repr(distbp.load(run)).endswith(f"{newest[-2].name}>")
    shutil.copy(newest[0], run / "good.h5")
    for path in newest:
        path.write_bytes(b"damaged")
    with pytest.raises(distbp.CheckpointError, match=f"no good checkpoint.*\n.*{newest[-1].name}"):
        distbp.load(run)
    with pytest.raises(distbp.CheckpointError, match="without a checkpoint"):
        distbp.load(tmp_path)
    with pytest.raises(distbp.CheckpointError, match="no such checkpoint"):
        distbp.load(tmp_path / "no")
    for wrong, got in ((3, "int"), (None, "NoneType"), ("", "''"), ("a\0b", "'a")):
        with pytest.raises(distbp.UsageError, match=f"load: expected a path, .*got {got}"):
            distbp.load(wrong)  # type: ignore[arg-type]
    assert repr(distbp.load(bytes(newest[0].parent / "good.h5"))).endswith("good.h5>")


@pytest.mark.parametrize("locking", [None, True, False, "best-effort"])
def test_a_file_that_this_process_has_open(runs: dict[str, Path], locking: Any) -> None:
    """HDF5 opens a file a second time only with the flags of the first time."""
    data = runs["classes"].with_suffix(".h5")
    with (
        h5py.File(runs["classes"] / "best.h5", "r", locking=locking) as checkpoint,
        h5py.File(data, "r", locking=locking) as file,
    ):
        model = distbp.load(runs["classes"])
        x, y = distbp.open_dataset(data)["test"].read()
        assert np.array_equal(checkpoint["network/layer_2/b"][()], model.layers[0][1])  # it is open as before
        assert np.array_equal(file["test/y"][()], y)
    assert model.predict(x).shape == (230,)


def test_errors_of_numpy_are_not_those_of_the_user(runs: dict[str, Path]) -> None:
    before = np.seterr(all="raise")
    try:
        assert distbp.load(runs["classes"]).predict(np.full((3, 4), 1e3)).shape == (3,)
    finally:
        np.seterr(**before)
