"""A calm is none for nothing: whatever the updates in it are, no number comes near to the largest one there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import configuration, train_on, write_data

from distbp.engine.calm import calm_from, is_far
from distbp.engine.finite_update import FiniteUpdate
from distbp.engine.own_slices import slices_of_rank
from distbp.engine.step_memory import Contents, StepMemory
from distbp.mathematics.clipping import BLOCK
from distbp.mathematics.network import Network
from distbp.mathematics.optimizers import make_optimizer
from distbp.mathematics.optimizers.adam import Adam
from distbp.ranks.communicator import OneProcess

MAGNITUDES = st.integers(-30, 30).map(lambda exponent: 10.0**exponent)
SETTINGS = st.fixed_dictionaries(
    {
        "momentum": st.sampled_from([0.0, 0.5, 0.9, 0.999]),
        "nesterov": st.booleans(),
        "beta1": st.sampled_from([0.0, 0.5, 0.9, 0.99]),
        "beta2": st.sampled_from([0.5, 0.9, 0.999, 0.99999]),
        "epsilon": st.sampled_from([1e-8, 1e-3, 1e-30]),
        "weight_decay": st.one_of(st.just(0.0), st.sampled_from([1e-4, 0.1, 3.0]), MAGNITUDES),
    }
)


@given(
    name=st.sampled_from(["sgd", "adam", "adamw"]),
    words=SETTINGS,
    dtype=st.sampled_from(["float32", "float64"]),
    sizes=st.lists(st.one_of(st.just(0.0), MAGNITUDES), min_size=2, max_size=2),
    g=MAGNITUDES,
    rate=st.one_of(st.sampled_from([1e-3, 0.1, 1.0]), MAGNITUDES),
    t=st.sampled_from([1, 2, 1000]),
    seed=st.integers(0, 99),
)
@pytest.mark.slow
def test_a_calm_is_calm(
    name: str, words: dict[str, Any], dtype: str, sizes: list[float], g: float, rate: float, t: int, seed: int
) -> None:
    """The bounds of each update, which other tests hold against updates, stay far to its end."""
    optimizer, most = make_optimizer(name, **words), float(np.finfo(dtype).max) / 4
    largest = {**dict.fromkeys(optimizer.vectors, sizes[1]), "w": sizes[0]}
    calm = calm_from(optimizer, largest, most, g, rate, t)
    if calm is None:
        return
    rng = np.random.default_rng(seed)
    updates = min(calm.updates, 2000)
    of_rates = rng.choice([0.0, 1e-3, 0.5, 1.0], updates, p=[0.1, 0.1, 0.1, 0.7]).tolist()
    of_g = rng.choice([0.0, 1.0], updates, p=[0.1, 0.9]).tolist()
    for update in range(updates):
        rate_then, g_then = calm.learning_rate * of_rates[update], calm.g * of_g[update]
        largest = optimizer.reach(largest, g_then, rate_then, t + update)
        assert is_far(largest, most), (update, largest, calm)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_end_of_a_calm_is_not_far_off(name: str, dtype: str) -> None:
    """Usual runs have a long one; those whose weights can double in each update have none."""
    words = {"momentum": 0.9, "nesterov": False, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    most = float(np.finfo(dtype).max) / 4
    usual = make_optimizer(name, **words, weight_decay=0.01 if name != "adam" else 0.0)
    largest = {**dict.fromkeys(usual.vectors, 0.0), "w": 0.5}
    calm = calm_from(usual, largest, most, 1.0, 1e-3, 1)
    assert calm
    assert calm.updates > 1000
    assert calm.g >= 16.0
    assert calm_from(make_optimizer(name, **words, weight_decay=1e30), largest, most, 1.0, 1.0, 1) is None
    assert calm_from(usual, {**largest, "w": np.inf}, most, 1.0, 1e-3, 1) is None


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4}, {"dtype": "float32"}]
)
def test_a_usual_run_asks_for_bounds_now_and_then(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, kind = [], type(make_optimizer(options.get("optimizer", "adam"), **WORDS))
    reach = kind.reach
    monkeypatch.setattr(kind, "reach", lambda self, *arguments: (asked.append(1), reach(self, *arguments))[1])
    run = train_on(1, configuration(write_data(tmp_path / "d.h5"), tmp_path / "run", epochs=50, **options))
    assert run.state.progress.step == 200
    assert len(asked) < 40


WORDS = {"momentum": 0.0, "nesterov": False, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0}


def test_what_was_refused_leaves_nothing_behind() -> None:
    """Also in a block that is not measured by itself; and a calm ends where a gradient is too long for it."""
    network = Network.of([90, 100, 50], "tanh", "identity", "mse")
    memory = StepMemory(OneProcess(), Contents(network, "float32", Adam().vectors))
    g = memory.sums[0][0][: network.parameter_count]
    update = FiniteUpdate(OneProcess(), memory, network, Adam(), slices_of_rank(memory, [g], []))
    with np.errstate(all="ignore"):
        for size, at in ((1.0, 0), (1e25, 2 * BLOCK + 7), (1.0, 0), (1e19, 2 * BLOCK), (1e25, 3), (1.0, 0)):
            g[:] = 1e-3
            g[at] = size
            memory.measure(g, 0)
            assert np.isfinite(memory.length.scaled)
            wrong = update.what_is_not(memory.length.value, 1e-3, 1)
            assert wrong.startswith("v of W of layer ") == (size > 1e20), (size, wrong)
            if not wrong:
                Adam().update(memory.w, g, memory.vectors, 1e-3, 1)
                assert all(np.isfinite(one).all() for one in (memory.w, *memory.vectors.values()))
