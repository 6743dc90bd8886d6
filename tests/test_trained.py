"""What evaluate and predict begin with: a checkpoint and a split, in memory or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import configuration, train_on, write_data

from distbp.engine.evaluate import Evaluation, Scores
from distbp.prediction.predict import predict
from distbp.prediction.trained import Use, load
from distbp.ranks.communicator import Communicator, run_threads

LITTLE = 1e-7  # GiB


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("kind", ["classes", "targets"])
def test_data_that_stay_in_their_files_change_no_bit(tmp_path: Path, kind: str, ranks: int) -> None:
    data = write_data(tmp_path / "d.h5", train=60, test=300, kind=kind)
    train_on(1, configuration(data, tmp_path / "run", epochs=1))

    def work(comm: Communicator, memory: float) -> Scores:
        used = load(comm, str(tmp_path / "run"), Use((), "test", targets=True, memory=memory))
        assert used.data.in_memory == (memory != LITTLE)
        assert used.files == [str(tmp_path / "run" / "best.h5"), data]
        scores = Evaluation(comm, used.state.problem, used.data, "float64")(used.state.parameters)
        used = load(comm, str(tmp_path / "run"), Use((), "test", targets=False, memory=memory))
        predict(comm, used.state, used.data, tmp_path / f"{memory}.h5")
        return scores

    scores = {memory: run_threads(ranks, lambda comm, memory=memory: work(comm, memory)) for memory in (0, LITTLE)}
    assert all(one == scores[0][0] for one in (*scores[0], *scores[LITTLE]))
    assert (tmp_path / "0.h5").read_bytes() == (tmp_path / f"{LITTLE}.h5").read_bytes()
