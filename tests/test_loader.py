"""Data that stay in their files: the same samples in the same order as in memory, on any number of ranks."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import StopAt, configuration, resumed, split_of, train_on

from distbp.data.block_loader import BlockLoader
from distbp.data.loader import InMemory, Streamed
from distbp.data.loading import Choice
from distbp.data.lots import lots
from distbp.data.reader import Reader
from distbp.data.row_loader import RowLoader
from distbp.data.sample_order import SampleOrder
from distbp.data.scaling import measure
from distbp.data.split import read_split
from distbp.engine.evaluate import Evaluation
from distbp.engine.planned_rank import PlannedRank
from distbp.errors import DataError, Stopped, UsageError
from distbp.mathematics.grains import sample_shares
from distbp.prediction.predict import predict
from distbp.ranks.communicator import Communicator, run_threads
from distbp.training.comparison import digest
from distbp.training.train import train


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distbp.data.loading.BLOCK_BYTES", 120)
    monkeypatch.setattr("distbp.data.split.BLOCK_BYTES", 500)


def several_files(
    here: Path, *, kind: str = "classes", rows: tuple[int, ...] = (40, 3, 57), packed: bool = True
) -> str:
    """A split in files of several layouts; the pattern that finds them."""
    rng = np.random.default_rng(5)
    for number, count in enumerate(rows):
        x = rng.standard_normal((count, 4))
        y = (x[:, 0] + x[:, 1] > 0).astype(int) if kind == "classes" else np.stack([x[:, 0] * x[:, 1], x[:, 2]], 1)
        with h5py.File(here / f"part-{number}.h5", "w") as file:
            layout: dict[str, Any] = {"chunks": (7, 4), "compression": "gzip"} if packed and number == 2 else {}
            file.create_dataset("train/x", data=x, **layout)
            file["train/y"] = y
    return str(here / "part-*.h5")


@given(
    ranks=st.integers(1, 6),
    n=st.integers(1, 30),
    window=st.integers(1, 110),
    grain=st.one_of(st.none(), st.integers(1, 9)),
    block=st.integers(40, 2000),
    first=st.integers(0, 3),
    batches_ahead=st.integers(0, 5),
    kind=st.sampled_from(["classes", "targets"]),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_batches_hold_what_they_hold_in_memory(
    tmp_path_factory: pytest.TempPathFactory,
    ranks: int,
    n: int,
    window: int,
    grain: int | None,
    block: int,
    first: int,
    batches_ahead: int,
    kind: str,
) -> None:
    """Read in blocks; or, with batches ahead, row by row."""
    made = several_files(tmp_path_factory.mktemp("d"), kind=kind, packed=not batches_ahead)
    files = [str(path) for path in sorted(Path(made).parent.glob("part-*.h5"))]
    window = max(window, n)

    def on_rank(comm: Communicator) -> bool:
        whole = read_split(comm, files, "train", "x", "y")
        data = read_split(comm, files, "train", "x", "y", memory=0)
        assert not data.in_memory
        assert data.labels == whole.labels
        order = SampleOrder(data.layout.blocks(block), window, lots(3))

        def shares(m: int) -> list[tuple[int, int]]:
            return sample_shares(m, grain, comm.size)

        source = Streamed(comm, order, n, data, shares, 2)
        streamed: Any = BlockLoader(source)
        if batches_ahead:
            assert data.layout.is_plain
            streamed = RowLoader(source, batches_ahead)
        expected = InMemory(SampleOrder(data.layout.blocks(block), window, lots(3)), n)
        try:
            for epoch in (0, 1):
                begin = min(first, len(data) // n) if epoch == 0 else 0
                batches = zip(streamed.batches(epoch, begin), expected.batches(epoch, begin), strict=True)
                for one, other in batches:
                    batch, rows = one.rows, other.rows
                    assert (one.epoch, one.place, len(batch)) == (epoch, other.place, len(rows))
                    assert np.array_equal(streamed.numbers(one), rows)
                    start, end = shares(len(rows))[comm.rank]
                    x, y = streamed.training.x, streamed.training.y
                    assert y is not None and whole.y is not None  # noqa: PT018
                    assert np.array_equal(x[batch[start:end]], whole.x[rows[start:end]])
                    assert np.array_equal(y[batch[start:end]], whole.y[rows[start:end]])
        finally:
            streamed.close()
        return True

    assert all(run_threads(ranks, on_rank))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


MEMORY = 30_000 / 2**30  # GiB; the data take 36,000 bytes
MANY = (400, 3, 597)
STREAMED: dict[str, Any] = dict(
    batch_size=16, grain=3, reproducible=True, shuffle_window=50, epochs=2, validation_split="train"
)


@pytest.mark.parametrize("kind", ["classes", "targets"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.slow
def test_memory_changes_no_bit(tmp_path: Path, kind: str, dtype: str) -> None:
    options, memory = {**STREAMED, "dtype": dtype, "shuffle_window": 24}, MEMORY * 0.68
    data = several_files(tmp_path, kind=kind, rows=(240, 3, 357))
    whole = train_on(1, configuration(data, tmp_path / "whole", **options))
    assert whole.training.in_memory
    for ranks in (1, 2, 5):
        run = train_on(ranks, configuration(data, tmp_path / f"{ranks}", memory=memory, **options))
        assert not run.training.in_memory
        assert run.validation is not None
        assert not run.validation.in_memory
        assert digest(run.state.parameters) == digest(whole.state.parameters)
        for column in ("train_loss", "validation_loss"):
            assert run.state.history[column].tolist() == whole.state.history[column].tolist()


@pytest.mark.usefixtures("small_blocks")
def test_the_plain_mode_streams_too(tmp_path: Path) -> None:
    options = {**STREAMED, "grain": "auto", "reproducible": False}
    data = several_files(tmp_path, rows=MANY)
    for ranks in (1, 3):
        whole = train_on(ranks, configuration(data, tmp_path / f"whole{ranks}", **options))
        run = train_on(ranks, configuration(data, tmp_path / f"part{ranks}", memory=MEMORY, **options))
        assert digest(run.state.parameters) == digest(whole.state.parameters)


@pytest.mark.usefixtures("small_blocks")
def test_a_resume_finds_its_place_with_any_memory(tmp_path: Path) -> None:
    options = {**STREAMED, "epochs": 3}
    data = several_files(tmp_path, rows=MANY)
    whole = train_on(1, configuration(data, tmp_path / "whole", **options))
    config = configuration(data, tmp_path / "parts", memory=MEMORY, **options)
    with pytest.raises(Stopped):
        train_on(1, config, **StopAt(75).words)  # 63 steps an epoch
    run = resumed(2, config, memory=1.0)
    assert run.training.in_memory
    assert digest(run.state.parameters) == digest(whole.state.parameters)
    assert run.config.shuffle_window == 50
    with pytest.raises(UsageError, match="--shuffle-window: the run has 50"):
        resumed(1, config, shuffle_window=60)


@pytest.mark.usefixtures("small_blocks")
def test_a_window_too_large_for_memory_is_read_row_by_row(tmp_path: Path) -> None:
    options = {**STREAMED, "shuffle_window": "auto"}
    data = several_files(tmp_path, rows=MANY, packed=False)
    whole = train_on(1, configuration(data, tmp_path / "whole", **options))
    run = train_on(1, configuration(data, tmp_path / "rows", memory=MEMORY, **options))
    assert isinstance(run.loader, RowLoader)
    assert digest(run.state.parameters) == digest(whole.state.parameters)


@pytest.mark.usefixtures("small_blocks")
def test_what_does_not_fit_is_refused_with_the_sum(tmp_path: Path) -> None:
    options = {**STREAMED, "shuffle_window": "auto"}
    for packed, memory, advice in ((True, MEMORY, "uncompressed with distbp import"), (False, 1e-5, "when the run")):
        (tmp_path / f"{packed}").mkdir()
        data = several_files(tmp_path / f"{packed}", rows=MANY, packed=packed)
        words = rf"windows of 1000 samples needs .* GiB .*smaller --shuffle-window.*{advice}"
        with pytest.raises(UsageError, match=words) as error:
            train_on(2, configuration(data, tmp_path / f"run{packed}", memory=memory, **options))
        assert error.value.agreed


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.usefixtures("small_blocks")
def test_damage_that_one_rank_meets_ends_the_run(tmp_path: Path, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the midst of the second epoch, in the thread of the rank that reads the block."""
    data = several_files(tmp_path, rows=MANY)
    read, reads = Reader.read, iter(range(10**9))

    def damaged(reader: Reader, of: str, start: int, stop: int, out: Any, missing: Any = None) -> None:
        if threading.current_thread().name.startswith("reader") and start <= 411 < stop and next(reads) >= 2:
            raise DataError(f"{reader.layout.place(411, of)}: cannot be read")
        read(reader, of, start, stop, out, missing)

    monkeypatch.setattr(Reader, "read", damaged)
    with pytest.raises(DataError, match=r"part-2\.h5: train/x, row 8: cannot be read") as error:
        train_on(
            ranks, configuration(data, tmp_path / "run", memory=MEMORY, checkpoint_every=1, **{**STREAMED, "epochs": 9})
        )
    assert error.value.agreed
    assert (tmp_path / "run" / "checkpoint-0000000063.h5").exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


@pytest.mark.parametrize("when", ["scaled", "evaluated", "predicted"])
@pytest.mark.usefixtures("small_blocks")
def test_damage_that_one_rank_meets_later_ends_the_run(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that could be read and checked, and then can not any more."""
    data = several_files(tmp_path, rows=MANY)
    config = configuration(data, tmp_path / "run", memory=MEMORY, **STREAMED)
    state = train_on(1, config).state
    files = [str(tmp_path / f"part-{number}.h5") for number in range(3)]
    read = Reader.read

    def damaged(reader: Reader, of: str, start: int, stop: int, out: Any, missing: Any = None) -> None:
        if start <= 990 < stop:
            raise DataError(f"{reader.layout.place(990, of)}: cannot be read")
        read(reader, of, start, stop, out, missing)

    def on_rank(comm: Communicator) -> None:
        split = read_split(comm, files, "train", "x", "y", memory=0)
        comm.allgather(None)
        monkeypatch.setattr(Reader, "read", damaged)
        if when == "scaled":
            measure(comm, split.rows("x"), "standardize", split.extremes["x"])
        elif when == "evaluated":
            Evaluation(comm, state.problem, split, "float64")(state.parameters)
        else:
            predict(comm, state, split, tmp_path / "out.h5")

    with pytest.raises(DataError, match=r"^rank \d \(.*part-2\.h5: train/x, row 587: cannot be read") as error:
        run_threads(3, on_rank)
    assert error.value.agreed
    assert not list(tmp_path.glob("*out.h5*"))


@pytest.mark.usefixtures("small_blocks")
def test_a_file_that_changes_ends_the_run(tmp_path: Path) -> None:
    data = several_files(tmp_path, rows=MANY)

    def touch(phase: str) -> None:
        if phase.startswith("in epoch"):
            os.utime(tmp_path / "part-1.h5", (1, 1))

    config = configuration(data, tmp_path / "run", memory=MEMORY, checkpoint_every=1, **{**STREAMED, "epochs": 9})
    with pytest.raises(DataError, match=r"part-1\.h5: has changed since the run began") as error:
        train_on(2, config, beat=touch)
    assert error.value.agreed


def test_bad_values_and_statistics_without_memory(tmp_path: Path) -> None:
    data = several_files(tmp_path, rows=(30, 5, 30))
    files = [str(tmp_path / f"part-{number}.h5") for number in range(3)]
    with h5py.File(files[2], "r+") as file:
        file["train/x"][29, 3] = np.nan
    for ranks in (1, 4):
        with pytest.raises(DataError, match=r"part-2\.h5: train/x, row 29: nan"):
            run_threads(ranks, lambda comm: read_split(comm, files, "train", "x", "y", memory=0))
    assert data


def test_memory_that_streaming_needs() -> None:
    order = SampleOrder([(first, first + 10) for first in range(0, 1000, 10)], 200, lots(0))

    def shares(n: int) -> list[tuple[int, int]]:
        return sample_shares(n, None, 4)

    # two times (12 batches or parts of batches) x 5 samples, 50 + 1 + 10 rows that are sent, and a block
    data = split_of(np.zeros((1000, 24), np.float32), np.zeros((1000, 1), np.float32))
    choice = Choice(configuration("d.h5", "run"), order, shares, 20, in_memory=False)
    comm = PlannedRank(0, [range(4)])
    assert choice.windows_bytes(comm, data) == (2 * 12 * 5 + 200 // 4 + 1 + 10 + 10) * 100
    # two times 3 batches x 5 samples
    assert replace(choice, batches=3).windows_bytes(comm, data) == 2 * 3 * 5 * 100
    assert replace(choice, in_memory=True).windows_bytes(comm, data) == 0


@pytest.mark.parallel
def test_real_ranks_stream(
    comm: Communicator, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distbp.data.loading.BLOCK_BYTES", 120)
    here = tmp_path_factory.mktemp("own")
    shared = Path(comm.broadcast(str(here)))
    if comm.rank == 0:
        several_files(shared, rows=MANY, kind="targets")
    comm.allgather(None)
    options = STREAMED
    data = str(shared / "part-*.h5")
    together = train(comm, configuration(data, shared / "together", memory=MEMORY, **options))
    alone = train_on(1, configuration(data, here / "alone", **options))
    assert not together.training.in_memory
    assert digest(together.state.parameters) == digest(alone.state.parameters)
