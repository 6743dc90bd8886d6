"""Whatever training can write is read again, and goes on: over options, magnitudes, and what is not finite."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from runs import configuration, resumed, train_on, write_data

from distbp.errors import DataError, DistbpError, DivergedError, UsageError
from distbp.mathematics.optimizers import make_optimizer
from distbp.settings.config import Config
from distbp.training import checkpoint
from distbp.training.run_directory import RunDirectory

MAGNITUDES = st.integers(-40, 38).map(lambda exponent: 10.0**exponent)
USUAL = st.sampled_from([1e-4, 1e-2, 1.0, 10.0])
FRACTIONS = st.sampled_from([0.0, 0.5, 0.9, 0.999, 1.0 - 1e-7, 1.0 - 1e-12, 1.0 - 2.0**-53])


def magnitudes(usual: st.SearchStrategy[float] = USUAL) -> st.SearchStrategy[float]:
    return st.one_of(usual, MAGNITUDES)


@st.composite
def data_sets(draw: Any) -> dict[str, Any]:
    """Four columns and a few rows, each of some magnitude; maybe with an outlier."""
    rows, kind = draw(st.sampled_from([1, 4, 9, 100])), draw(st.sampled_from(["f4", "f8"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    units = np.array([draw(magnitudes()) for _ in range(2)] + [1.0, 1.0])
    x = rng.standard_normal((rows, 4)) * units + draw(st.sampled_from([0.0, 1.0])) * units * 1e3
    y = rng.standard_normal((rows, 1)) * draw(magnitudes())
    if draw(st.booleans()):
        x[draw(st.integers(0, rows - 1)), 2], y[0] = draw(MAGNITUDES), draw(MAGNITUDES)
    with np.errstate(over="ignore"):
        x, y = (np.nan_to_num(one.astype(kind), posinf=3e38, neginf=-3e38) for one in (x, y))
    if draw(st.booleans()):
        y = np.arange(rows) % 2
    return {"x": x, "y": y, "validated": draw(st.booleans())}


OPTIONS = st.fixed_dictionaries(
    {
        "scale": st.sampled_from(["none", "none", "standardize", "minmax"]),
        "optimizer": st.sampled_from(["adam", "adam", "adamw", "sgd"]),
        "learning_rate": magnitudes(),
        "beta1": FRACTIONS,
        "beta2": FRACTIONS,
        "epsilon": magnitudes(st.sampled_from([1e-8, 1e-300])),
        "weight_decay": st.one_of(st.just(0.0), magnitudes()),
        "clip_norm": st.one_of(st.just(0.0), magnitudes()),
        "schedule": st.sampled_from(["constant", "step", "cosine"]),
        "step_epochs": st.just(0.5),
        "step_factor": magnitudes(st.sampled_from([0.1, 1e300])),
        "warmup_epochs": st.sampled_from([0.0, 1.0, 5.0]),
        "activation": st.sampled_from(["relu", "sigmoid", "softplus", "identity"]),
        "hidden": st.sampled_from([[], [3], [5, 2]]),
        "dtype": st.sampled_from(["float32", "float32", "float64"]),
        "batch_size": st.sampled_from([3, 10, "all"]),
        "on_nan": st.sampled_from(["stop", "skip"]),
        "skip_limit": st.sampled_from([0, 2, 1000]),
        "reproducible": st.booleans(),
        "memory": st.sampled_from([1.0, 3e-6]),  # GiB
        "shuffle_window": st.sampled_from([1, 8]),
        "seed": st.integers(0, 9),
    },
    optional={"momentum": st.sampled_from([0.5, 0.9, 1.0 - 2.0**-53]), "nesterov": st.booleans()},
)


def write(path: Path, data: dict[str, Any]) -> str:
    with h5py.File(path, "w") as file:
        for split in ("train", "test")[: 1 + data["validated"]]:
            file[f"{split}/x"], file[f"{split}/y"] = data["x"], data["y"]
    return str(path)


def outcome(ranks: int, config: Config, **words: Any) -> str:
    """How training ends."""
    try:
        train_on(ranks, config, **words)
    except (DivergedError, DataError, UsageError) as error:
        return type(error).__name__
    return "done"


def check_all_can_be_read(out: Path) -> list[checkpoint.Checkpoint]:
    """Every checkpoint in a directory, and best.h5."""
    assert list(out.glob("checkpoint-*.h5"))
    return [checkpoint.read(path) for path in sorted(out.glob("*.h5"))]


@pytest.fixture
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for a disk, and little data count as much."""
    monkeypatch.setattr("distbp.data.loading.BLOCK_BYTES", 64)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.mark.slow
@pytest.mark.usefixtures("no_disk")
def test_whatever_is_written_is_read_and_goes_on(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """More of them with `pytest --configurations 2000`."""
    numbers = itertools.count()

    @settings(max_examples=pytestconfig.getoption("--configurations"), phases=[Phase.generate])
    @given(data=data_sets(), options=OPTIONS, ranks=st.sampled_from([1, 1, 2, 3]), more=st.sampled_from([1, 2]))
    def holds(data: dict[str, Any], options: dict[str, Any], ranks: int, more: int) -> None:
        check_configuration(tmp_path / str(next(numbers)), data, options, ranks, more)

    holds()


def check_configuration(here: Path, data: dict[str, Any], options: dict[str, Any], ranks: int, more: int) -> None:
    """Trains, reads what was written, and goes on."""
    here.mkdir()
    if options["optimizer"] != "sgd" or "momentum" not in options:
        options = {name: value for name, value in options.items() if name not in ("nesterov", "momentum")}
    config = configuration(write(here / "d.h5", data), here / "run", **{**options, "epochs": 2, "keep": 9})
    first = outcome(ranks, config)
    event(f"first: {first}")
    if not list((here / "run").glob("*.h5")):
        assert first in ("DataError", "UsageError")
        return
    check_all_can_be_read(here / "run")
    if first == "done":
        assert outcome(4 - ranks, config, resume_with={}) == "done"  # nothing is left to do
    assert outcome(ranks, config, resume_with={"epochs": 2 + more, "on_nan": "skip", "skip_limit": 1000}) == "done"
    check_all_can_be_read(here / "run")
    assert not list((here / "run").glob("*.skipped"))


def outlier(path: Path, size: float = 3e10, rows: int = 400) -> str:
    """The example of a public report: one row far off, and none of the others."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        x = rng.standard_normal((rows, 3)) * [1, 1, 0]
        y = 2 * x[:, :1]
        file["test/x"], file["test/y"] = x[:20], y[:20]
        x[17, :2], y[17] = size, 5 / 3 * size
        file["train/x"], file["train/y"] = x, y
    return str(path)


MODES = [{}, {"reproducible": True, "grain": 2}, {"memory": 3.3e-6, "shuffle_window": 8}, {"clip_norm": 1e30}]
OUTLIER = {"scale": "none", "dtype": "float32", "hidden": [8], "batch_size": 10, "on_nan": "skip"}


@pytest.mark.slow
@pytest.mark.usefixtures("no_disk")
@pytest.mark.parametrize(("ranks", "nodes"), [(1, 1), (2, 1), (3, 1), (3, 2), (3, 3)])
@pytest.mark.parametrize("mode", MODES, ids=["plain", "reproducible", "streamed", "clipped"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_second_moment_that_would_overflow(
    tmp_path: Path, optimizer: str, mode: dict[str, Any], ranks: int, nodes: int
) -> None:
    options = {**OUTLIER, **mode, "optimizer": optimizer}
    data = outlier(tmp_path / "d.h5", rows=120)
    config = configuration(data, tmp_path / "run", **options)
    run = train_on(ranks, config, nodes)
    assert type(run.loader).__name__ == ("BlockLoader" if "memory" in mode else "InMemory")
    assert run.state.progress.skipped == 3  # once in each epoch
    assert np.isfinite(run.state.optimizer["v"]).all()
    losses = run.state.history["validation_loss"]
    assert losses[-1] < losses[0] < 100
    check_all_can_be_read(tmp_path / "run")
    resumed(4 - ranks, config, epochs=4)

    config = configuration(data, tmp_path / "stop", **{**options, "on_nan": "stop"})
    with pytest.raises(
        DivergedError, match=r"v of W of layer [23] would not be finite in float32, .* epoch 1"
    ) as error:
        train_on(ranks, config, nodes)
    assert error.value.agreed
    check_all_can_be_read(tmp_path / "stop")


@pytest.mark.usefixtures("no_disk")
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "sgd", "learning_rate": 1e38}, r"W of layer [23] would"),
        ({"optimizer": "sgd", "learning_rate": 1e300}, r"W of layer [23] would"),
        ({"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e39}, r"v of W of layer [23] would"),
        ({"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "learning_rate": 1e38}, r"W of layer [23] would"),
        ({"optimizer": "adam", "learning_rate": 1e300}, r"W of layer [23] would"),
        ({"optimizer": "adam", "weight_decay": 1e38}, r"v of W of layer [23] would"),
        ({"optimizer": "adamw", "weight_decay": 1e300, "learning_rate": 1.0}, r"W of layer [23] would"),
        ({"optimizer": "adam", "epsilon": 1e-300}, r"W of layer [23] would"),
        ({"optimizer": "adam", "schedule": "step", "step_factor": 1e300, "step_epochs": 0.2}, r"W of layer [23] would"),
    ],
)
def test_what_else_an_update_would_leave(tmp_path: Path, options: dict[str, Any], words: str, ranks: int) -> None:
    """Nothing is changed by such an update, whatever the optimizer."""
    data = outlier(tmp_path / "d.h5", 1.0)
    with pytest.raises(DivergedError, match=f"{words} not be finite in float32"):
        train_on(ranks, configuration(data, tmp_path / "stop", **{**OUTLIER, **options, "on_nan": "stop"}))
    check_all_can_be_read(tmp_path / "stop")
    run = train_on(ranks, configuration(data, tmp_path / "skip", **{**OUTLIER, **options, "skip_limit": 999}))
    assert run.state.progress.skipped > 0
    assert np.isfinite(run.state.vector).all()
    check_all_can_be_read(tmp_path / "skip")


def test_an_epoch_without_a_batch_can_be_read(tmp_path: Path) -> None:
    options = {**OUTLIER, "batch_size": "all", "hidden": []}
    run = train_on(1, configuration(outlier(tmp_path / "d.h5", 1e12), tmp_path / "run", **options))
    assert np.isnan(run.state.history["train_loss"]).all()
    for state in check_all_can_be_read(tmp_path / "run"):
        assert np.isnan(state.history["train_loss"]).all()
    resumed(1, run.config, epochs=4)


def test_losses_of_an_epoch_whose_sum_overflows(tmp_path: Path) -> None:
    """Each loss of a batch is finite."""
    data = str(tmp_path / "d.h5")
    with h5py.File(data, "w") as file:
        file["train/x"], file["train/y"] = np.zeros((40, 1)), np.full((40, 1), 6e153)
    options = {"scale": "none", "dtype": "float64", "batch_size": 1, "optimizer": "sgd", "learning_rate": 1e-9}
    run = train_on(1, configuration(data, tmp_path / "run", **options))
    assert np.isinf(run.state.history["train_loss"]).all()
    resumed(1, run.config, epochs=4)
    check_all_can_be_read(tmp_path / "run")


def test_the_writer_refuses_what_the_reader_would(tmp_path: Path) -> None:
    """The checkpoint before stays, and the run ends with the reason."""
    config = configuration(write_data(tmp_path / "d.h5"), tmp_path / "run")
    state = train_on(1, config).state
    with RunDirectory(config.out) as directory:
        directory.lock(print)
        before = (tmp_path / "run" / "best.h5").read_bytes()
        for vector, words in ((state.optimizer["v"], "/optimizer/v"), (state.vector, "/network/layer_2/W")):
            good, vector[0] = float(vector[0]), np.inf
            with pytest.raises(
                DistbpError, match=f"cannot write the checkpoint: {words} holds values that are not fin"
            ):
                directory.save(state, 1, best=True)
            vector[0] = good
        assert (tmp_path / "run" / "best.h5").read_bytes() == before
        directory.save(state, 1, best=True)


SETTINGS = st.fixed_dictionaries(
    {
        "momentum": FRACTIONS,
        "nesterov": st.booleans(),
        "beta1": FRACTIONS,
        "beta2": FRACTIONS,
        "epsilon": magnitudes(st.sampled_from([1e-8, 1e-45, 1e-300])),
        "weight_decay": st.one_of(st.just(0.0), magnitudes()),
    }
)


@given(
    name=st.sampled_from(["sgd", "adam", "adamw"]),
    words=SETTINGS,
    dtype=st.sampled_from(["float32", "float64"]),
    sizes=st.lists(st.one_of(st.just(0.0), magnitudes()), min_size=2, max_size=2),
    gradients=st.lists(st.one_of(st.just(0.0), magnitudes()), min_size=1, max_size=5),
    learning_rate=magnitudes(),
    seed=st.integers(0, 99),
)
def test_the_bounds_are_bounds(
    name: str,
    words: dict[str, Any],
    dtype: str,
    sizes: list[float],
    gradients: list[float],
    learning_rate: float,
    seed: int,
) -> None:
    """Wherever they are finite, no number is larger."""
    optimizer, rng = make_optimizer(name, **words), np.random.default_rng(seed)
    w = (rng.standard_normal(50) * sizes[0]).clip(-1e38, 1e38).astype(dtype)
    state = {one: np.abs(rng.standard_normal(50) * sizes[1]).clip(0, 1e38).astype(dtype) for one in optimizer.vectors}
    after = {one: float(np.abs(vector).max()) for one, vector in {**state, "w": w}.items()}
    most = float(np.finfo(dtype).max) / 4
    for t, size in enumerate(gradients, 1):
        g = (rng.standard_normal(50) * size).clip(-1e38, 1e38).astype(dtype)
        after = optimizer.reach(after, float(np.abs(g).max()), learning_rate, t)
        if not all(bound < most for bound in after.values()):
            return
        with np.errstate(under="ignore"):
            optimizer.update(w, g, state, learning_rate, t)
        for one, vector in {**state, "w": w}.items():
            assert float(np.abs(vector).max()) <= after[one]
