"""Ranks that do not hold the same parameters any more are noticed, named, and nothing of them is saved."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from runs import configuration, train_on

from distbp.engine.compiled_engine import CompiledEngine
from distbp.engine.numpy_engine import NumpyEngine
from distbp.errors import DriftError
from distbp.mathematics.network import Network, Parameters, initialize
from distbp.ranks.communicator import Communicator, run_threads
from distbp.ranks.drift import DriftGuard
from distbp.training.run_directory import RunDirectory
from distbp.training.train import train

NETWORK = Network.of([4, 5, 3], "tanh", "softmax", "cross_entropy")


def parameters() -> Parameters:
    made = Parameters.zeros(NETWORK, "float32")
    initialize(made, NETWORK, 1)
    return made


def drifted(change: Callable[[int, Parameters], None], ranks: int) -> list[str | None]:
    """What the guard says on each rank."""

    def on_rank(comm: Communicator) -> str | None:
        mine = parameters()
        change(comm.rank, mine)
        try:
            DriftGuard(comm, mine, 10).check(20, "run/checkpoint-0000000010.h5")
        except DriftError as error:
            return str(error) if error.agreed else "not agreed"
        return None

    return run_threads(ranks, on_rank)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_equal_parameters_pass(ranks: int) -> None:
    assert drifted(lambda rank, mine: None, ranks) == [None] * ranks


@pytest.mark.parametrize("wrong", [0, 2])
@pytest.mark.parametrize("layer", [2, 3])
def test_one_bit_on_one_rank_is_found_on_all(wrong: int, layer: int) -> None:
    def change(rank: int, mine: Parameters) -> None:
        if rank == wrong:
            mine.b[layer].view(np.uint32)[1] ^= 1

    for message in drifted(change, 4):
        assert message is not None
        assert f"layer {layer} of rank {wrong} (" in message
        assert "is not what most ranks hold" in message
        assert "checkpoint-0000000010.h5" in message


def test_of_two_ranks_the_second_is_named() -> None:
    message = drifted(lambda rank, mine: mine.W[2].fill(rank), 2)[0]
    assert message is not None
    assert "layer 2 of rank 1 (" in message
    assert "is not what rank 0 holds" in message


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize(("steps", "found"), [(2, 4), (100, 8), (0, None)])
def test_a_run_that_drifts_stops_before_it_saves(
    data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reproducible: bool, steps: int, found: int | None
) -> None:
    """One rank's memory flips a bit in step 4 or after; an epoch has 4 steps."""
    config = configuration(
        data_file, tmp_path / "run", drift_steps=steps, reproducible=reproducible, checkpoint_every=1
    )

    def on_rank(comm: Communicator) -> int:
        return train(comm, config).state.progress.step

    calls = itertools.count(1)

    def with_fault(change: Callable[..., None]) -> Callable[..., None]:
        def faulty(self: NumpyEngine, rate: float, t: int) -> None:
            change(self, rate, t)
            if t == (4 if steps == 2 else 5) and next(calls) == 2:  # one of the three
                self.w.view(np.uint64)[7] ^= 1

        return faulty

    for kind in (NumpyEngine, CompiledEngine):
        monkeypatch.setattr(kind, "_change", with_fault(kind._change))
    if found is None:
        assert run_threads(3, on_rank, [[0], [1], [2]]) == [12] * 3
        return
    saved = 4 if steps == 100 else 0
    with pytest.raises(DriftError, match=f"(?s)after step {found}: layer 2 of rank .*checkpoint-{saved:010d}.h5"):
        run_threads(3, on_rank, [[0], [1], [2]])
    assert RunDirectory(config.out).checkpoints()[-1].name == f"checkpoint-{saved:010d}.h5"


def test_the_guard_is_on_by_default_and_a_good_run_passes(data_file: str, tmp_path: Path) -> None:
    config = configuration(data_file, tmp_path / "run")
    assert config.drift_steps == 100
    assert train_on(3, configuration(data_file, tmp_path / "each", drift_steps=1)).state.progress.step == 12
