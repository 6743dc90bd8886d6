"""What a reproducible run of the compiled engine depends on, and what it does not; what the records say of it."""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import checkable_runs
import numpy as np
import pytest
from runs import Notes, Runner, check_error, configuration, resumed, to_preload, train_on, write_data

from distbp.engine.native.library import Library, library
from distbp.errors import RunError, UsageError
from distbp.inspection.file_inspection import describe, describe_difference
from distbp.mathematics.numerics import NUMERICS
from distbp.ranks.denormals import check_denormals, keeps_denormals
from distbp.ranks.machine_record import machine
from distbp.settings.config import Config
from distbp.training.basis import basis_in_words, is_checkable
from distbp.training.checkpoint import read, write
from distbp.training.comparison import digest
from distbp.training.run_directory import RunDirectory
from distbp.training.state import Checkpoint

HERE = Path(__file__).parent
ROOT = HERE.parent
needs_fused = pytest.mark.skipif(
    not isinstance(library(reproducible=True), Library), reason="no compiled step with fused multiply-add"
)
CHECKABLE = {"reproducible": True, "engine": "compiled"}


def child(runner: Runner, options: dict[str, Any], **environment: str) -> dict[str, str]:
    result = runner.run(sys.executable, str(HERE / "checkable_runs.py"), json.dumps(options), **environment)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    return checkable_runs.results(**CHECKABLE)


@needs_fused
def test_another_c_library_blas_and_cpu_change_no_bit(runner: Runner, expected: dict[str, str]) -> None:
    """All at once: other last bits of libm, NumPy without the instructions it has found, and other kernels."""
    simd = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[index]
    found = child(
        runner,
        CHECKABLE,
        LD_PRELOAD=to_preload("other_functions"),
        NPY_DISABLE_CPU_FEATURES=" ".join(simd.get("found", [])),
        OPENBLAS_CORETYPE="Nehalem",
    )
    assert found.pop("functions") != machine(1)["function_bits"]  # they are others, indeed
    assert found == expected


@needs_fused
@pytest.mark.parametrize("kind", ["avx2", "fused"])
def test_another_kind_of_cpu_changes_no_bit(
    kind: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTBP_ISA", kind)
    library.cache_clear()
    try:
        try:
            library()
        except UsageError:
            pytest.skip(f"this CPU cannot run {kind}, or there is no such kind")
        assert checkable_runs.results(**CHECKABLE) == expected
    finally:
        monkeypatch.undo()
        library.cache_clear()


@needs_fused
def test_neither_numpys_generator_nor_its_sums_are_used(
    expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, **words: Any) -> Any:
        raise AssertionError("a function whose bits NumPy does not promise was called")

    for name in ("default_rng", "Generator", "SeedSequence", "PCG64", "RandomState", "permutation", "shuffle"):
        monkeypatch.setattr(np.random, name, refused)
    for name in (
        "matmul",
        "dot",
        "vecdot",
        "einsum",
        "power",
        "exp",
        "log",
        "cos",
        "sin",
        "tanh",
        "logaddexp",
        "log1p",
    ):
        monkeypatch.setattr(np, name, refused)
    monkeypatch.setattr("math.cos", refused)
    monkeypatch.setattr("math.pow", refused)
    assert checkable_runs.results(**CHECKABLE) == expected


@needs_fused
def test_the_pages_have_the_digest_that_any_machine_gives(tmp_path: Path) -> None:
    """Of `distbp train --reproducible --grain 4 --epochs 1`."""
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/reproducibility.md")]
    found = [re.findall("^digest +([0-9a-f]{64})$", page, re.MULTILINE) for page in pages]
    assert all(found)
    printed = {one for digests in found for one in digests}
    run = train_on(1, Config(reproducible=True, grain=4, epochs=1, out=str(tmp_path / "one")))
    assert {digest(run.state.parameters)} == printed


def lines(path: Path, start: str) -> list[str]:
    return [line for line in describe(str(path)) if line.startswith(start)]


@needs_fused
def test_a_run_that_can_be_checked_says_so(data_file: str, tmp_path: Path) -> None:
    config = configuration(data_file, tmp_path / "run", reproducible=True, epochs=1)
    state = train_on(2, config).state
    assert state.machines == [{"step": 0, "engine": "compiled", "numerics": NUMERICS}]
    assert lines(tmp_path / "run", "bits") == [f"bits       checkable on any machine (numerics {NUMERICS})"]
    computed = f"computed   from step 0 on: engine compiled, numerics {NUMERICS}"
    assert lines(tmp_path / "run", "computed") == [computed]
    first = (tmp_path / "run" / "config.toml").read_text().split("\ndata = ")[0].splitlines()
    assert first[1:] == [
        f"# last started on 2 simulated ranks (threads); checkable on any machine (numerics {NUMERICS})"
    ]


@needs_fused
def test_another_machine_is_no_news_for_such_a_run(
    data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(data_file, tmp_path / "run", reproducible=True, epochs=1)
    train_on(2, config)
    monkeypatch.setattr("distbp.training.basis.machine", lambda threads: {"cpu": "another", "numpy": "9.9"})
    notes = Notes()
    train_on(1, config, listener=notes, resume_with={"epochs": 2})
    assert not notes.about("bits")
    state = resumed(1, config, epochs=3).state
    assert is_checkable(state.machines)
    notes = Notes()
    state = train_on(1, config, listener=notes, resume_with={"epochs": 4, "engine": "numpy"}).state
    told = notes.lines[notes.lines.index(notes.about("from here on the bits may differ")[0]) :][:2]
    assert told[1] == "          engine: compiled, now numpy"
    assert not any("9.9" in line for line in notes.lines)
    assert not is_checkable(state.machines)
    assert lines(tmp_path / "run", "bits") == ["bits       depend on what is named here"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reproducible": True, "engine": "numpy"}, "depend on what is named here"),
        ({}, "depend on the number of ranks, the MPI and what is named here"),
    ],
)
def test_other_runs_say_on_what_they_depend(
    options: dict[str, Any], words: str, data_file: str, tmp_path: Path
) -> None:
    state = train_on(1, configuration(data_file, tmp_path / "run", epochs=1, **options)).state
    assert {"cpu", "numpy", "blas", "c_library", "engine", "numerics"} < state.machines[0].keys()
    assert lines(tmp_path / "run", "bits") == [f"bits       {words}"]
    text = (tmp_path / "run" / "config.toml").read_text()
    assert f"the bits {words.removesuffix(' what is named here')}\n# cpu: " in text


def test_records_in_words() -> None:
    one, other = {"step": 0, "engine": "compiled", "numerics": 1}, {"step": 5, "engine": "compiled", "numerics": 2}
    old = {"step": 0, "engine": "compiled (avx2)", "cpu": "a"}
    for records, good in (([one], True), ([other], True), ([one, other], False), ([old, one], False), ([], False)):
        assert is_checkable(records) == good
        assert basis_in_words(records, is_reproducible=True).startswith("checkable" if good else "the bits depend on")


def older(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(HERE / "older" / "version-5.h5", run / "checkpoint-0000000010.h5")
    return run


def test_a_run_of_version_0_keeps_its_order_and_says_what_is_other(tmp_path: Path) -> None:
    run, notes = older(tmp_path), Notes()
    config = Config(out=str(run))
    trained = train_on(1, config, listener=notes, resume_with={"epochs": 3})
    assert len(notes.about("numerics 0 and goes on with 1: its order of samples is kept")) == 1
    assert trained.state.numerics == read(run / "checkpoint-0000000015.h5").numerics == 0
    order = trained.loader.numbers(next(trained.loader.batches(2, 0)))
    drawn = np.random.Generator(np.random.PCG64(np.random.SeedSequence([3, 1, 2]))).permutation(1437)
    np.testing.assert_array_equal(order, drawn[: len(order)])
    notes = Notes()
    train_on(1, config, listener=notes, resume_with={"epochs": 4})
    assert not notes.about("numerics")  # told once
    (line,) = lines(run, "bits")
    assert line == "bits       depend on what is named here"


def test_a_run_of_a_later_version_is_refused(tmp_path: Path) -> None:
    run = older(tmp_path)
    state = read(run / "checkpoint-0000000010.h5")
    state.machines[0]["numerics"] = NUMERICS + 1
    write(run / "checkpoint-0000000010.h5", state)
    with pytest.raises(UsageError, match=rf"begun with numerics {NUMERICS} or older.*with numerics {NUMERICS + 1}"):
        train_on(1, Config(out=str(run)), resume_with={"epochs": 3})


@pytest.mark.parametrize("numerics", ["1", -1])
def test_a_record_with_no_such_number_is_refused(numerics: Any, tmp_path: Path) -> None:
    path = older(tmp_path) / "checkpoint-0000000010.h5"
    state = read(path)
    state.machines[0]["numerics"] = numerics
    with pytest.raises(Exception, match="machines"):
        write(path, state)


def test_diff_names_another_order(tmp_path: Path) -> None:
    path = older(tmp_path) / "checkpoint-0000000010.h5"
    state: Checkpoint = read(path)
    state.machines[0]["numerics"] = NUMERICS
    write(tmp_path / "other.h5", state)
    (line,) = describe_difference(str(path), str(tmp_path / "other.h5"))
    assert line == f"numerics   0 and {NUMERICS}: the runs have their samples in another order"


# --- denormal numbers -------------------------------------------------------------------------------------------------
def test_denormals_are_kept_here() -> None:
    assert keeps_denormals()
    check_denormals()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="another control register")
def test_a_library_that_takes_denormals_for_0_is_told(runner: Runner) -> None:
    preloaded = {"LD_PRELOAD": to_preload("no_denormals")}
    refused = runner.afresh("train", "--reproducible", "--epochs", "1", "--out", "run", **preloaded)
    check_error(refused, 1, "--reproducible: expected a process that computes with numbers below 1.2e-38")
    assert runner.afresh("train", "--epochs", "1", "--out", "plain", **preloaded).returncode == 0


def test_a_library_that_comes_later_is_told_before_anything_is_saved(
    data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first epoch is good and saved, the second is not."""
    good = iter([True, True, False])
    monkeypatch.setattr("distbp.ranks.denormals.keeps_denormals", lambda: next(good))
    config = configuration(data_file, tmp_path / "run", reproducible=True, epochs=3, checkpoint_every=1)
    with pytest.raises(RunError, match="takes them for 0"):
        train_on(1, config)
    assert RunDirectory(config.out).newest()[0].progress.epoch == 1


def test_ranks_are_asked_one_by_one(data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr("distbp.ranks.denormals.keeps_denormals", lambda: threading.current_thread().name != "rank 1")
    with pytest.raises(RunError, match=r"rank 1 .*: --reproducible: expected a process"):
        train_on(2, configuration(write_data(tmp_path / "d.h5"), tmp_path / "run", reproducible=True, epochs=1))
