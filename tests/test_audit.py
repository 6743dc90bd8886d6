"""audit.csv: what is in it, by a second implementation of its description, and that no stop or resume changes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import Notes, Runner, StopAt, check_error, configuration, resumed, train_on, write_data

import distbp
from distbp.data.block_loader import BlockLoader
from distbp.data.row_loader import RowLoader
from distbp.errors import Stopped
from distbp.mathematics.network import Network
from distbp.ranks.attention import Attention
from distbp.ranks.communicator import OneProcess
from distbp.settings.config import FIELDS, Config
from distbp.training import checkpoint
from distbp.training.audit_digests import OF_THE_CHAIN, OF_THE_DATA, of_configuration
from distbp.training.audit_steps import AuditSteps, default_epochs
from distbp.training.chain import HEADER, break_of, parse
from distbp.verification.verify import How, verify

ROWS, n, EPOCHS = 23, 7, 4  # 4 steps in an epoch
OPTIONS: dict[str, Any] = {"reproducible": True, "grain": 3, "epochs": EPOCHS, "batch_size": n, "seed": 11}
ALL: dict[str, Any] = {"audit_epochs": 1, "checkpoint_every": 1, "keep": 100}


@pytest.fixture
def config(data_file: str, tmp_path: Path) -> Config:
    return configuration(data_file, tmp_path / "run", **OPTIONS, **ALL)


def audit_of(config: Config) -> str:
    return (Path(config.out) / "audit.csv").read_text()


def steps_of(config: Config) -> list[int]:
    return [line.step for line in parse(audit_of(config))[0]]


def is_true(config: Config) -> bool:
    return verify(OneProcess(), config.out, How(), Attention(), lambda line: None) == ""


def sha(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "more", [{"audit_steps": 3}, {"schedule": "cosine", "hidden": [5, 4]}], ids=["steps", "cosine"]
)
def test_a_second_implementation_of_its_description(config: Config, more: dict[str, Any]) -> None:
    """From the page and the docstrings, with the checkpoints of the run, and none of its digests."""
    config = replace(config, **more)
    run = train_on(1, config)
    lines = audit_of(config).splitlines(keepends=True)
    assert lines[0] == "step,horizon,engine,parameters,optimizer,data,configuration,before\n"
    print_ = run.state.fingerprints["training"]
    array = {
        name: {k: getattr(a, k) for k in ("width", "type", "hash")} for name in "xy" if (a := getattr(print_, name))
    }
    fingerprint = canonical({"rows": ROWS, **array}) + b"\n"
    order = np.concatenate([batch.rows for epoch in range(EPOCHS) for batch in run.loader.batches(epoch, 0)])
    assert sorted(order[:ROWS].tolist()) == list(range(ROWS))
    samples = [min(ROWS, i * n) + epoch * ROWS for epoch in range(EPOCHS) for i in range(4)] + [EPOCHS * ROWS]
    values: dict[str, Any] = {"batch_size": n, "dtype": "float64", "grain": 3, "hidden": config.hidden, "seed": 11}
    values |= {"loss": "cross_entropy", "output_activation": "softmax", "reproducible": True, "shuffle_window": ROWS}
    if config.schedule == "cosine":
        values |= {"schedule": "cosine", "horizon": EPOCHS}
    engine = "compiled" if run.choice.is_compiled else "numpy"
    sizes = [4, *config.hidden, 3]
    before, seen = lines[0], 0
    for line in lines[1:]:
        cells = line.rstrip("\n").split(",")
        step = int(cells[0])
        rows = order[samples[seen] : samples[step]].astype("<u4").tobytes()
        assert cells[1:3] == ["4" if config.schedule == "cosine" else "", engine]
        assert cells[5] == sha(fingerprint, rows)
        assert cells[6] == sha(canonical({**values, "engine": engine, "numerics": 1, "sizes": sizes}))
        assert cells[7] == sha(before.encode())
        path = Path(config.out) / f"checkpoint-{step:010d}.h5"
        if path.exists():
            state = checkpoint.read(path)
            layers = list(zip(state.parameters.W, state.parameters.b, strict=True))[2:]
            w = [
                part
                for l, pair in enumerate(layers, 2)
                for name, a in zip("Wb", pair, strict=True)
                for part in (f"{name}^{l} float64 {a.shape}\n".encode(), a.astype("<f8").tobytes())
            ]
            assert cells[3] == sha(*w)
            vectors = sorted(state.optimizer.items())
            assert [name for name, _ in vectors] == ["m", "v"]
            moments = [p for name, v in vectors for p in (f"{name} float64 {v.size}\n".encode(), v.tobytes())]
            assert cells[4] == sha(*moments)
        before, seen = line, step


def test_the_lines_of_a_run(config: Config) -> None:
    train_on(2, config)
    assert steps_of(config) == [0, 4, 8, 12, 16]
    for ranks, nodes in ((1, 1), (3, 2), (5, 1)):
        one = replace(config, out=f"{config.out}-{ranks}-{nodes}")
        train_on(ranks, one, nodes)
        assert audit_of(one) == audit_of(config)
    other = replace(config, out=f"{config.out}-2", audit_epochs=3, audit_steps=5)
    train_on(1, other)
    assert steps_of(other) == [0, 5, 10, 12, 15, 16]
    assert is_true(other)


@pytest.mark.parametrize("stop", [3, 4, 6, 13])
def test_a_stop_and_a_resume_leave_no_trace(config: Config, stop: int) -> None:
    """Inside an epoch and at its end, on other numbers of ranks, with lines in and between epochs."""
    config = replace(config, audit_steps=3, audit_epochs=2)
    whole = replace(config, out=f"{config.out}-whole")
    train_on(1, whole)
    with pytest.raises(Stopped):
        train_on(2, config, **StopAt(stop).words)
    assert is_true(config)
    resumed(3, config)
    assert audit_of(config) == audit_of(whole)
    assert is_true(config)


def test_lines_behind_the_checkpoint_are_cut(config: Config) -> None:
    train_on(1, config)
    whole = audit_of(config)
    for step in (16, 12):
        (Path(config.out) / f"checkpoint-{step:010d}.h5").unlink()
    path = Path(config.out) / "audit.csv"
    path.write_text(whole + "17,,nu")  # the process was killed while it wrote
    resumed(2, config)
    assert audit_of(config) == whole


def test_more_epochs(config: Config) -> None:
    """The end is no line of a run that goes on, unless the learning rate is another one from there on."""
    config = replace(config, audit_epochs=3)
    whole = replace(config, out=f"{config.out}-whole", epochs=6)
    train_on(1, whole)
    train_on(1, config)
    assert steps_of(config) == [0, 12, 16]
    resumed(1, config, epochs=6)
    assert audit_of(config) == audit_of(whole)
    assert is_true(replace(config, epochs=6))


@pytest.mark.parametrize("stop", [9, 16])
def test_more_epochs_of_a_schedule_that_ends(config: Config, stop: int) -> None:
    config = replace(config, audit_epochs=3, schedule="cosine")
    if stop == 16:
        train_on(1, config)
    else:
        with pytest.raises(Stopped):
            train_on(1, config, **StopAt(stop).words)
    resumed(2, config, epochs=6)
    assert steps_of(config) == ([0, 9, 12, 24] if stop == 9 else [0, 12, 16, 24])
    assert [line.horizon for line in parse(audit_of(config))[0]] == (
        ["4", "4", "6", "6"] if stop == 9 else ["4", "4", "4", "6"]
    )
    assert is_true(config)
    # A stop and a resume after that change nothing.
    (Path(config.out) / "checkpoint-0000000024.h5").unlink()
    whole = audit_of(config)
    resumed(1, config, epochs=6)
    assert audit_of(config) == whole


def test_another_engine_from_some_step_on(config: Config) -> None:
    first = train_on(1, replace(config, epochs=1))
    if not first.choice.is_compiled:
        pytest.skip("there is no compiled engine")
    resumed(1, config, epochs=2, engine="numpy")
    assert [line.engine for line in parse(audit_of(config))[0]] == ["compiled", "compiled", "numpy"]
    assert is_true(config)


@pytest.mark.parametrize(
    ("memory", "window", "ranks", "loader"), [(62_000, 200, 2, BlockLoader), (48_000, 1000, 1, RowLoader)]
)
def test_data_that_stay_in_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, window: int, ranks: int, loader: type
) -> None:
    """In windows of an epoch, which a thread reads while the lines are made."""
    monkeypatch.setattr("distbp.data.loading.BLOCK_BYTES", 500)
    path = write_data(tmp_path / "data.h5", train=2000)
    options = {**OPTIONS, **ALL, "epochs": 3, "batch_size": 20, "grain": 5, "audit_steps": 7}
    held = configuration(path, tmp_path / "held", validation_split="", shuffle_window=window, **options)
    streamed = replace(held, out=str(tmp_path / "streamed"), memory=memory / 2**30)
    train_on(1, held)
    assert isinstance(train_on(ranks, streamed).loader, loader)
    assert audit_of(streamed) == audit_of(held)
    assert is_true(held)


def test_batches_that_were_skipped(config: Config) -> None:
    config = replace(config, on_nan="skip", skip_limit=100, learning_rate=1e307, dtype="float32", optimizer="sgd")
    run = train_on(1, config)
    assert run.state.progress.skipped > 0
    assert is_true(config)


def test_runs_without_a_chain(config: Config, tmp_path: Path) -> None:
    plain = replace(config, reproducible=False, grain="auto", audit_epochs="auto", out=str(tmp_path / "plain"))
    train_on(1, plain)
    assert not (tmp_path / "plain" / "audit.csv").exists()
    x = np.random.default_rng(0).normal(size=(20, 2))
    distbp.train((x, (x[:, 0] > 0).astype(int)), hidden=[2], epochs=1, reproducible=True)
    assert not list(tmp_path.glob("**/audit.csv"))


def test_a_run_whose_chain_is_lost_has_none(config: Config) -> None:
    train_on(1, replace(config, epochs=2))
    path = Path(config.out) / "audit.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]))  # without those of steps 4 and 8
    notes = Notes()
    train_on(1, replace(config, epochs=4), resume_with={"epochs": 4}, listener=notes)
    assert notes.about("audit.csv does not have this run from its beginning")
    assert len(path.read_text().splitlines()) == 2
    path.unlink()
    resumed(1, config, epochs=5)
    assert not path.exists()


def test_what_is_no_chain(config: Config) -> None:
    train_on(1, config)
    text = audit_of(config)
    lines, wrong = parse(text)
    assert (break_of(lines), wrong) == ("", "")
    rows = text.splitlines(keepends=True)
    assert parse(text[:-5]) == (lines[:-1], "")
    assert parse("".join(rows[1:]))[1] == f"line 1 is not {HEADER.strip()}"
    assert parse(rows[0] + rows[1].replace(",", ";", 1) + rows[2]) == ([], "line 2 is not a line of audit.csv")
    assert parse("")[1]
    assert break_of([]) == "the first line is not that of step 0"
    assert break_of([lines[0], lines[2]]).startswith("step 8: the last column is not the SHA-256")
    assert break_of([lines[0], lines[0]]) == "the line of step 0 follows that of step 0"
    for odd in ("1e3", "-1", "٣", "01", "99999999999999999"):
        assert parse(rows[0] + rows[1].replace("0", odd, 1))[0] == []


def test_the_chain_covers_each_byte(config: Config) -> None:
    """But for the last line, which nothing follows; a repeat compares it."""
    train_on(1, config)
    good = audit_of(config).encode()
    last = good.rindex(b"\n", 0, -1) + 1
    for place in range(len(good) - 1):
        changed = bytearray(good)
        changed[place] ^= 1
        lines, wrong = parse(changed.decode(errors="replace"))
        found = wrong or break_of(lines) or len(lines) < 5
        assert found or last < place < good.rindex(b","), place


def other(value: Any) -> Any:
    """A value of the same type."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else [*value, 7] if isinstance(value, list) else "another"


def test_each_option_that_enters_the_numbers_enters_the_digest() -> None:
    """A new option is one of these: it is not in the lists of `audit_digests`, and cannot change in a run."""
    network = Network.of([4, 6, 3], "relu", "softmax", "cross_entropy")
    plain = Config()
    digest = of_configuration(plain, network, "numpy")
    left_out = {*OF_THE_DATA, *OF_THE_CHAIN}
    assert left_out <= {name for name, field in FIELDS.items() if not field.metadata["may_change"]}
    for name, field in FIELDS.items():
        value = "cosine" if name == "schedule" else other(getattr(plain, name))
        changed = of_configuration(replace(plain, **{name: value}), network, "numpy")
        assert (changed == digest) == (bool(field.metadata["may_change"]) or name in left_out), name
    ending = replace(plain, schedule="cosine")
    longer = replace(ending, epochs=21)
    assert of_configuration(ending, network, "numpy") != of_configuration(longer, network, "numpy")
    assert of_configuration(plain, network, "compiled") != digest
    assert of_configuration(plain, Network.of([4, 6, 2], "relu", "softmax", "cross_entropy"), "numpy") != digest


def test_which_steps_have_lines() -> None:
    """Against all steps looked at one by one."""
    for per_epoch, epochs, steps in ((4, 1, 0), (5, 3, 0), (5, 3, 7), (1, 1, 2), (6, 2, 4)):
        plan = AuditSteps(per_epoch, epochs, steps)
        truth = [s for s in range(200) if s % (per_epoch * epochs) == 0 or (steps and s % steps == 0)]
        assert [s for s in range(200) if plan.has(s)] == truth
        assert [plan.next(s) for s in range(truth[-1])] == [min(t for t in truth if t > s) for s in range(truth[-1])]


def test_lines_are_thinned_out_for_small_epochs() -> None:
    """784-512-512-10 on 60,000 samples has a line in each epoch; a tiny epoch has one in some hundred."""

    def epochs(sizes: list[int], samples: int, n: int, grains: int) -> int:
        network = Network.of(sizes, "relu", "softmax", "cross_entropy")
        return default_epochs(Config(), network, samples, -(-samples // n), grains)

    assert epochs([784, 512, 512, 10], 60_000, 512, 4) <= 2
    assert epochs([784, 512, 512, 10], 1_000_000, 512, 4) == 1
    assert 4 < epochs([64, 128, 10], 1437, 32, 2) < 40
    assert 40 < epochs([4, 6, 3], 23, 7, 1) < 200


def test_the_options_need_the_reproducible_mode(runner: Runner, data_file: str) -> None:
    for option, value in (("--audit-steps", "3"), ("--audit-epochs", "2")):
        result = runner.distbp("train", data_file, option, value)
        check_error(result, 2, f"{option} {value} needs --reproducible")
