"""`distbp verify`: an honest run is true on any ranks, 300 forgeries are found, and segments find what they promise."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from forgery import Liar, with_a_bit
from jobs import in_one_job
from runs import Runner, StopAt, check_error, configuration, nodes_of, samples, train_on, write_data

import distbp
from distbp.errors import RunError, Stopped, UsageError
from distbp.ranks.attention import Attention
from distbp.ranks.communicator import OneProcess, run_threads
from distbp.training import checkpoint
from distbp.training.chain import HEADER, break_of
from distbp.verification.claims import Claims
from distbp.verification.plan import bisected, drawn, segments_of
from distbp.verification.verify import How, verify, verify_claims

EPOCHS = 8
OPTIONS = {
    "reproducible": True,
    "grain": 4,
    "dtype": "float32",
    "hidden": [5],
    "batch_size": 8,
    "epochs": EPOCHS,
    "audit_epochs": 1,
    "checkpoint_every": 1,
    "keep": 100,
}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("honest")
    train_on(1, configuration(write_data(home / "data.h5", train=24), home / "run", **OPTIONS))
    return home / "run"


@pytest.fixture(scope="module")
def liar(honest: Path) -> Iterator[Liar]:
    one = Liar(honest)
    yield one
    one.close()


def audit(claims: Claims, ranks: int = 1, **how: object) -> tuple[str, list[str]]:
    """What is false, and what was said."""
    said: list[str] = []
    asked = How(**how)  # type: ignore[arg-type]
    if ranks == 1:
        return verify_claims(OneProcess(), claims, asked, Attention(), said.append), said
    everywhere = run_threads(ranks, lambda comm: verify_claims(comm, claims, asked, Attention(), said.append))
    assert len(set(everywhere)) == 1
    return everywhere[0], said


def told(said: list[str]) -> list[str]:
    """The lines about segments."""
    return [line for line in said if line.startswith("steps ")]


# ---- forgeries: each changes one thing, and all that follows is honest and fits


Forge = Callable[[Liar, np.random.Generator, int], Claims]


def a_bit(liar: Liar, rng: np.random.Generator, place: int) -> Claims:
    forged = with_a_bit(liar.state(place + 1), rng)
    rest = liar.after(liar.way("honest"), forged, range(place + 2, EPOCHS + 1))
    return liar.told({place + 1: forged, **rest})


def another_way(liar: Liar, way: object, place: int) -> Claims:
    forged = liar.after(way, liar.state(place), range(place + 1, place + 2))  # type: ignore[arg-type]
    rest = liar.after(liar.way("honest"), forged[place + 1], range(place + 2, EPOCHS + 1))
    return liar.told({**forged, **rest})


def a_swapped_row(liar: Liar, rng: np.random.Generator, place: int) -> Claims:
    y = samples(train=24)["train"][1]
    pairs = [(i, j) for i in range(6) for j in range(i) if y[i] != y[j]]
    return another_way(liar, liar.swapped(pairs[rng.integers(len(pairs))]), place)


def another_rate(liar: Liar, rng: np.random.Generator, place: int) -> Claims:
    factor = [0.5, 1.001, 1.0001][rng.integers(3)]
    return another_way(liar, liar.way(f"rate {factor}", learning_rate=1e-3 * factor), place)


def another_seed(liar: Liar, rng: np.random.Generator, place: int) -> Claims:
    seed = int(rng.integers(1, 4))
    return another_way(liar, liar.way(f"seed {seed}", seed=seed), place)


def another_seed_from_the_beginning(liar: Liar, rng: np.random.Generator, place: int) -> Claims:
    way = liar.way("seed 1", seed=1)
    first = way.first()
    assert first is not None
    return liar.told({0: first, **liar.after(way, first, range(1, EPOCHS + 1))})


def a_skipped_step(liar: Liar, rng: np.random.Generator, place: int) -> Claims:
    step, way, found = liar.lines[place + 1].step, liar.way("honest"), []
    start = liar.state(place)
    way.part(start, [step - 1], lambda _: found.append(way.state()) or "")  # type: ignore[func-returns-value]
    forged = replace(found[0], step=step)
    return liar.told({place + 1: forged, **liar.after(way, forged, range(place + 2, EPOCHS + 1))})


def an_edited_configuration(liar: Liar, rng: np.random.Generator, place: int) -> Claims:
    changes = [{"learning_rate": 1e-2}, {"seed": 5}, {"batch_size": 6}, {"activation": "tanh"}, {"hidden": [4]}]
    return replace(liar.claims, config=replace(liar.claims.config, **changes[rng.integers(len(changes))]))


def an_edited_chain(liar: Liar, rng: np.random.Generator, place: int) -> Claims:
    column = ["parameters", "optimizer", "data", "configuration", "before"][rng.integers(5)]
    victim, digit = liar.lines[place + (column != "configuration")], int(rng.integers(64))
    digits = getattr(victim, column)
    other = digits[:digit] + format(int(digits[digit], 16) ^ 1, "x") + digits[digit + 1 :]
    edited = victim._replace(**{column: other})
    if column == "before" or rng.integers(2):
        lines = [edited if line == victim else line for line in liar.lines]
        return replace(liar.claims, lines=lines, flaw=break_of(lines))
    return liar.told({}, lambda line: edited if line == victim else line)


def a_line_left_out(liar: Liar, rng: np.random.Generator, place: int) -> Claims:
    lines = [line for line in liar.lines if line is not liar.lines[min(place + 1, EPOCHS - 1)]]
    return replace(liar.claims, lines=lines, flaw=break_of(lines))


FORGERIES: list[Forge] = [
    a_bit,
    a_swapped_row,
    another_rate,
    another_seed,
    another_seed_from_the_beginning,
    a_skipped_step,
    an_edited_configuration,
    an_edited_chain,
    a_line_left_out,
]


def forgery(liar: Liar, number: int) -> tuple[Claims, int]:
    """One of 300, and the place of the segment in which something was changed."""
    rng = np.random.default_rng([20, number])
    place = int(rng.integers(EPOCHS))
    return FORGERIES[number % len(FORGERIES)](liar, rng, place), place


def test_the_honest_run_is_true(liar: Liar) -> None:
    found, said = audit(liar.claims)
    assert found == ""
    assert len(told(said)) == EPOCHS
    assert all("true, 1 line" in line for line in told(said))


MANY = [pytest.param(range(first, first + 94), marks=pytest.mark.slow) for first in (18, 112, 206)]


@pytest.mark.parametrize("numbers", [range(18), *MANY], ids=str)
def test_every_forgery_is_found(liar: Liar, numbers: range) -> None:
    missed = [number for number in numbers if not audit(forgery(liar, number)[0])[0]]
    assert missed == []


def test_a_forged_bit_is_said_with_its_step(liar: Liar) -> None:
    for place in range(EPOCHS):
        claims = a_bit(liar, np.random.default_rng(place), place)
        found, said = audit(claims)
        assert found.startswith(f"step {liar.lines[place + 1].step}: "), found
        assert len([line for line in told(said) if "true" in line]) == place


# ---- segments by lot, and bisection


def forged_at(liar: Liar, places: list[int], path: Path) -> Claims:
    """The files of a liar who changed a bit in these segments."""
    rng, forged, state = np.random.default_rng(1), {}, None
    for place in range(EPOCHS):
        if state is not None:
            state = liar.after(liar.way("honest"), state, range(place + 1, place + 2))[place + 1]
        if place in places:
            state = with_a_bit(state or liar.state(place + 1), rng)
        if state is not None:
            forged[place + 1] = state
    return liar.written(forged, path)


def test_segments_find_what_is_forged_in_them_alone(liar: Liar, tmp_path: Path) -> None:
    places = [2, 5]
    claims = forged_at(liar, places, tmp_path / "forged")
    found, said = audit(claims, segments=EPOCHS)
    assert ["false" in line for line in told(said)] == [place in places for place in range(EPOCHS)]
    assert found.startswith(f"step {liar.lines[3].step}: ")
    assert "layer 2 " in found or "layer 3 " in found or "optimizer " in found


def test_random_segments_find_a_forged_share_at_their_rate() -> None:
    """A segment that is forged is found when it is repeated (the test above); here is how often that is so."""
    N, trials = 200, 3000
    for forged, s in ((10, 5), (20, 10), (60, 3), (2, 40)):
        false = set(np.random.default_rng(forged).choice(N, forged, replace=False).tolist())
        rate = sum(bool(false & set(drawn(N, s, seed))) for seed in range(trials)) / trials
        f = forged / N
        without_replacement = 1 - math.comb(N - forged, s) / math.comb(N, s)
        error = math.sqrt(without_replacement * (1 - without_replacement) / trials)
        assert abs(rate - without_replacement) < 4 * error
        assert rate > 1 - (1 - f) ** s - 4 * error
        assert without_replacement - (1 - (1 - f) ** s) < 0.05


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 100, 1000])
def test_bisection_needs_few_segments(count: int) -> None:
    for first in range(0, count + 1, max(1, count // 40)):
        asked: list[int] = []

        def is_true(place: int, asked: list[int] = asked, first: int = first) -> bool:
            asked.append(place)
            return place < first

        found = bisected(count, is_true)
        assert found == (first if first < count else None)
        assert len(asked) <= math.ceil(math.log2(count)) + 1


@pytest.mark.parametrize("first", [0, 3, EPOCHS - 1])
def test_a_bisection_finds_where_a_lasting_fault_begins(liar: Liar, tmp_path: Path, first: int) -> None:
    claims = forged_at(liar, list(range(first, EPOCHS)), tmp_path / "forged")
    found, said = audit(claims, bisect=True)
    assert found.startswith(f"step {liar.lines[first + 1].step}: ")
    assert len(told(said)) <= math.ceil(math.log2(EPOCHS)) + 1


def test_a_bisection_of_a_fault_that_does_not_last_repeats_all(liar: Liar, tmp_path: Path) -> None:
    claims = forged_at(liar, [3], tmp_path / "forged")
    found, said = audit(claims, bisect=True)
    assert found.startswith(f"step {liar.lines[4].step}: ")
    assert any("the last segment is true" in line for line in said)


def test_segments_lead_from_kept_line_to_kept_line(liar: Liar) -> None:
    steps = [line.step for line in liar.lines]
    assert segments_of(liar.lines, {steps[2], steps[5], 17000}) == [(0, 2), (2, 5), (5, EPOCHS)]
    assert segments_of(liar.lines, set(steps)) == list(pairwise(range(EPOCHS + 1)))
    assert segments_of(liar.lines[:1], {0}) == []


# ---- files beside the chain


def test_a_checkpoint_or_best_of_another_state_is_found(liar: Liar, tmp_path: Path) -> None:
    for name in (f"checkpoint-{liar.lines[3].step:010d}.h5", "best.h5"):
        claims = liar.written({}, tmp_path / name)
        path = tmp_path / name / name
        state = checkpoint.read(path)
        state.vector[3] += np.float32(1e-3)
        checkpoint.write(path, state)
        found = verify(OneProcess(), claims.path, How(segments=1), Attention(), lambda line: None)
        assert f"{path}: step {state.progress.step}: its parameters are not those of audit.csv" in found


def test_other_classes_losses_and_metrics_are_found(liar: Liar, tmp_path: Path) -> None:
    claims = liar.written({}, tmp_path / "run")
    path = tmp_path / "run" / f"checkpoint-{liar.lines[-1].step:010d}.h5"
    state = checkpoint.read(path)
    assert state.problem.labels
    other = replace(state, problem=replace(state.problem, labels=(0, 1, 7)))
    checkpoint.write(path, other)
    found = verify(OneProcess(), claims.path, How(), Attention(), lambda line: None)
    assert "its classes are not those of the run" in found
    checkpoint.write(path, state)
    table = tmp_path / "run" / "metrics.csv"
    header, *rows = table.read_text().splitlines()
    cells = rows[4].split(",")
    cells[header.split(",").index("validation_accuracy")] = "0.99"
    rows[4] = ",".join(cells)
    table.write_text("\n".join([header, *rows]) + "\n")
    found = verify(OneProcess(), claims.path, How(), Attention(), lambda line: None)
    assert found.startswith("metrics.csv: epoch 5: validation_accuracy is 0.99, repeated ")


def test_what_lies_behind_a_chain_that_was_cut_is_repeated_too(liar: Liar, tmp_path: Path) -> None:
    claims = liar.written({}, tmp_path / "run")
    for kept in (1, 4):
        text = "".join(",".join(line.cells) + "\n" for line in liar.lines[:kept])
        (tmp_path / "run" / "audit.csv").write_text(HEADER + text)
        said: list[str] = []
        assert verify(OneProcess(), claims.path, How(), Attention(), said.append) == ""
        assert f"{kept - 1} of {EPOCHS} epochs" in said[0]
        path = tmp_path / "run" / f"checkpoint-{liar.lines[-1].step:010d}.h5"
        good = path.read_bytes()
        checkpoint.write(path, liar.filled(with_a_bit(liar.state(EPOCHS), np.random.default_rng(3))))
        found = verify(OneProcess(), claims.path, How(), Attention(), lambda line: None)
        assert f"{path}: " in found
        path.unlink()  # rows of metrics.csv are written more often than checkpoints
        assert verify(OneProcess(), claims.path, How(), Attention(), said.append) == ""
        path.write_bytes(good)
    table = tmp_path / "run" / "metrics.csv"
    table.write_text(table.read_text() + table.read_text().splitlines()[-1].replace("8,", "9,", 1) + "\n")
    found = verify(OneProcess(), claims.path, How(), Attention(), lambda line: None)
    assert found == "metrics.csv: epoch 9 is behind the end of the run"


# ---- ranks, nodes, and what cannot be verified


@pytest.mark.parametrize(("ranks", "nodes"), [(2, 1), (3, 2), (5, 1)])
def test_on_simulated_ranks(liar: Liar, ranks: int, nodes: int) -> None:
    everywhere = run_threads(
        ranks,
        lambda comm: verify_claims(comm, liar.claims, How(segments=3, seed=1), Attention(), lambda line: None),
        nodes_of(ranks, nodes),
    )
    assert everywhere == [""] * ranks
    found, _ = audit(a_bit(liar, np.random.default_rng(0), 4), ranks)
    assert found.startswith(f"step {liar.lines[5].step}: ")


def test_the_command_and_what_it_refuses(honest: Path, runner: Runner) -> None:
    data = str(honest.parent / "data.h5")
    (runner.directory / "elsewhere.h5").write_bytes(Path(data).read_bytes())
    write_data(runner.directory / "other.h5", train=24, kind="binary")
    plain = ("train", data, "--epochs", "1", "--hidden", "3", "--out", "plain")
    good, again, other, wrong, seed, both, _, mode, absent = in_one_job(
        runner,
        0,
        ("verify", honest),
        ("verify", honest, "elsewhere.h5", "--segments", "2", "--seed", "7"),
        ("verify", honest, "--data", "other.h5"),
        ("verify", honest, "--data", "absent.h5"),
        ("verify", honest, "--seed", "7"),
        ("verify", honest, "--segments", "2", "--bisect"),
        plain,
        ("verify", "plain"),
        ("verify", "nothing"),
    )
    assert good.returncode == 0, good.stderr
    assert good.stdout.splitlines()[-1] == f"verified  {honest}: all that was repeated is true"
    assert f"2 of {EPOCHS} between kept checkpoints, by lot with --seed 7" in again.stdout
    check_error(other, 1, "these are not the data of the run (y: ")
    check_error(wrong, 1, "absent.h5: no such file\nname the data of the run with --data FILE")
    check_error(seed, 2, "--seed 7 needs --segments K")
    check_error(both, 2, "--segments and --bisect: expected one of them")
    check_error(mode, 1, "plain: cannot be verified: it was trained without --reproducible")
    check_error(absent, 1, "nothing: expected the directory of a run")


def test_a_run_on_arrays_is_verified_with_their_file(tmp_path: Path) -> None:
    (x, y), (u, v) = samples(train=24).values()
    data = write_data(tmp_path / "data.h5", train=24)
    options = {name: OPTIONS[name] for name in ("reproducible", "grain", "hidden", "batch_size", "epochs")}
    for name, validation in (("both", (u, v)), ("one", None)):
        run = str(tmp_path / name)
        distbp.train((x, y), validation=validation, out=run, **options)
        assert verify(OneProcess(), run, How([data]), Attention(), lambda line: None) == ""
        with pytest.raises(RunError, match="was trained on arrays in memory; name files that hold them with --data"):
            verify(OneProcess(), run, How(), Attention(), lambda line: None)


def test_a_stop_is_no_verdict(liar: Liar) -> None:
    asked = StopAt(5)
    with pytest.raises(Stopped, match="nothing was found false so far") as stopped:
        verify_claims(OneProcess(), liar.claims, How(), Attention(asked.beat, asked), lambda line: None)
    assert stopped.value.agreed


def test_a_directory_of_a_stranger_writes_and_hangs_nothing(liar: Liar, tmp_path: Path) -> None:
    """Its configuration names files to write, and what it holds is no file."""
    claims = liar.written({}, tmp_path / "run")
    path = tmp_path / "run" / "config.toml"
    text, trace = path.read_text(), tmp_path / "trace.json"
    path.write_text(text.replace('trace = ""', f'trace = "{trace}"').replace("threads = 0", "threads = 1000"))
    before = sorted(tmp_path.rglob("*"))
    assert verify(OneProcess(), claims.path, How(), Attention(), lambda line: None) == ""
    assert sorted(tmp_path.rglob("*")) == before
    path.write_text(text.replace("trust_links = false", "trust_links = true"))
    with pytest.raises(UsageError, match="add --trust-links if you trust the data"):
        verify(OneProcess(), claims.path, How(), Attention(), lambda line: None)
    path.write_text(text)
    for name in ("audit.csv", "metrics.csv", "config.toml"):
        content = (tmp_path / "run" / name).read_bytes()
        (tmp_path / "run" / name).unlink()
        os.mkfifo(tmp_path / "run" / name)
        with pytest.raises(RunError, match=f"{name}: expected a file of at most 1024 MiB"):
            verify(OneProcess(), claims.path, How(), Attention(), lambda line: None)
        (tmp_path / "run" / name).unlink()
        (tmp_path / "run" / name).write_bytes(content)
    audit_file = tmp_path / "run" / "audit.csv"
    audit_file.write_text(HEADER + audit_file.read_text().split("\n")[1] + "\n" + "7\x1b[31m,,numpy\n")
    found = verify(OneProcess(), claims.path, How(), Attention(), lambda line: None)
    assert found == "audit.csv: line 3 is not a line of audit.csv"


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_on_real_ranks(liar: Liar, honest: Path, runner: Runner, tmp_path: Path, ranks: int) -> None:
    forged_at(liar, [5], tmp_path / "forged")
    options = [
        "--reproducible",
        "--grain",
        "4",
        "--hidden",
        "5",
        "--batch-size",
        "8",
        "--audit-epochs",
        "1",
        "--checkpoint-every",
        "1",
    ]
    many, good, bad = in_one_job(
        runner,
        ranks,
        ("train", honest.parent / "data.h5", *options, "--epochs", EPOCHS, "--out", "many"),
        ("verify", honest, "--segments", "2"),
        ("verify", "forged"),
    )
    assert many.returncode == 0, many.stderr
    assert (tmp_path / "many" / "audit.csv").read_bytes() == (honest / "audit.csv").read_bytes()
    assert good.returncode == 0, good.stderr
    assert good.stdout.count("verified  ") == 1
    assert bad.returncode == 1
    check_error(bad, 1, f"forged: this run is false: step {liar.lines[6].step}: ")
