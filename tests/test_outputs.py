"""No option destroys a file: all options of all commands that name an output, against all that may be there."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from runs import write_data

from distbp.cli import cli
from distbp.ranks.launch import Launch, guard

# What each option that takes text or a path is.  A new option has to be entered: an output is tried below.
OUTPUTS = {("train", "trace"), ("predict", "out"), ("import", "out"), ("bench", "out")}
DIRECTORIES = {("train", "out"), ("train", "stage_to"), ("doctor", "out")}
INPUTS = {"data", "checkpoint", "file", "source", "config_file", "run", "data_files", "test", "y_from", "like"}
NAMES = {"split", "validation_split", "x", "y", "drop", "categorical", "test_group", "test_where"}
OTHERS = {
    "shuffle_window",
    "checkpoint_every",
    "hidden",
    "batch_size",
    "grain",
    "stop_signals",
    "trace_steps",
    "audit_epochs",
}
OTHERS |= {"topic", "missing_words", "delimiter", "decimal", "thousands", "encoding"}

ENDINGS = {"trace": ".json", "predict": ".h5", "import": ".h5", "bench": ".png"}
CALLS: dict[tuple[str, str], list[str]] = {
    ("train", "trace"): ["train", "data.h5", "--epochs", "1", "--out", "new-run", "--trace-steps", "1-2"],
    ("predict", "out"): ["predict", "run", "data.h5"],
    ("import", "out"): ["import", "table.csv", "--y", "y", "--task", "classes"],
    ("bench", "out"): ["bench", "data.h5", "--seconds", "0.01", "--nodes", "1"],
}


def run(*words: str) -> int:
    launch = Launch({})
    return guard(launch, lambda: cli.main(list(words), obj=launch, prog_name="distbp", standalone_mode=False))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a table, and a run that was trained."""
    home = tmp_path_factory.mktemp("outputs")
    write_data(home / "data.h5")
    (home / "table.csv").write_text("a,y\n" + "".join(f"{i / 7},{i % 2}\n" for i in range(20)))
    assert run("train", str(home / "data.h5"), "--epochs", "1", "--hidden", "3", "--out", str(home / "run")) == 0
    return home


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, which is the current directory; signals are as before afterwards."""
    for path in made.rglob("*"):
        target = tmp_path / path.relative_to(made)
        if path.is_file():
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


def parameters() -> list[tuple[str, click.Parameter]]:
    return [(name, one) for name, command in cli.commands.items() for one in command.params]


def test_every_option_is_known() -> None:
    """So that the next one cannot be forgotten."""
    for command, parameter in parameters():
        name = str(parameter.name)
        takes_words = isinstance(parameter.type, click.types.StringParamType | click.Path | click.File)
        if takes_words and (command, name) not in OUTPUTS | DIRECTORIES:
            assert name in INPUTS | NAMES | OTHERS, f"{command}: {name}: is it an output? Enter it above"


def test_every_output_is_tried() -> None:
    assert set(CALLS) == OUTPUTS
    assert {(command, str(one.name)) for command, one in parameters()} >= OUTPUTS | DIRECTORIES


def everything(home: Path) -> dict[str, bytes | str]:
    """All that is in a directory: contents of files, targets of links, kinds of others."""
    found: dict[str, bytes | str] = {}
    for path in sorted(home.rglob("*")):
        status = os.lstat(path)
        name = str(path.relative_to(home))
        if stat.S_ISLNK(status.st_mode):
            found[name] = f"link to {os.readlink(path)}"
        elif stat.S_ISREG(status.st_mode):
            found[name] = path.read_bytes()
        else:
            found[name] = f"of kind {stat.S_IFMT(status.st_mode)}"
    return found


def a_file(path: Path) -> None:
    path.write_text("the only copy")


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_directory(path: Path) -> None:
    path.mkdir()


def a_link(path: Path) -> None:
    path.symlink_to("data.h5")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nothing")


def an_input_of_another_name(path: Path) -> None:
    path.hardlink_to("data.h5")


THERE: list[Callable[[Path], None]] = [a_file, a_pipe, a_directory, a_link, a_dangling_link, an_input_of_another_name]


def called(option: tuple[str, str], out: str, *more: str) -> int:
    return run(*CALLS[option], f"--{option[1]}", out, *more)


def ending(option: tuple[str, str]) -> str:
    return ENDINGS.get(option[1]) or ENDINGS[option[0]]


@pytest.mark.parametrize("option", sorted(OUTPUTS))
@pytest.mark.parametrize("there", THERE)
def test_what_is_there_stays(option: tuple[str, str], there: Callable[[Path], None], here: Path) -> None:
    if option[0] == "bench":
        pytest.importorskip("matplotlib")
    there(here / f"precious{ending(option)}")
    before = everything(here)
    assert called(option, f"precious{ending(option)}") in (1, 2)
    after = everything(here)
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("option", sorted(OUTPUTS))
@pytest.mark.parametrize("out", ["data.h5", "table.csv", "run/best.h5", "run/config.toml", "./data.h5", "/dev/null"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_inputs_and_other_formats_stay(option: tuple[str, str], out: str, overwrite: bool, here: Path) -> None:
    """Under their own name, whatever is said: an input of the command, or a file whose ending is of another format."""
    is_input = out in {"predict": ("data.h5", "./data.h5", "run/best.h5"), "import": ("table.csv",)}.get(option[0], ())
    is_other = not out.endswith((ending(option), ".csv" if option[0] == "predict" else ending(option)))
    if overwrite and (option[0] == "train" or not (is_input or is_other)):
        pytest.skip("train has no --overwrite" if option[0] == "train" else "replaced, as was said")
    before = everything(here)
    assert called(option, out, *(["--overwrite"] if overwrite else [])) in (1, 2)
    after = everything(here)
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("option", [*sorted(OUTPUTS), ("train", "out")])
@pytest.mark.parametrize("value", ["--overwrite", "--resume", "-", "-x"])
def test_an_option_is_no_name(option: tuple[str, str], value: str, here: Path) -> None:
    """A value that was forgotten: the next option is not taken for it."""
    before = everything(here)
    words = ["train", "data.h5", "--epochs", "1"] if option == ("train", "out") else CALLS[option]
    assert run(*words, f"--{option[1]}", value) == 2
    assert everything(here) == before


def test_a_trace_replaces_a_trace_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(("train", "trace"), "t.json") == 0
    assert run("train", "data.h5", "--epochs", "1", "--out", "second", "--trace", "t.json", "--trace-steps", "1-2") == 0
    (here / "t.json").write_text('{"traceEvents": []}')  # of another program
    assert run("train", "data.h5", "--epochs", "1", "--out", "third", "--trace", "t.json") == 1
    assert "t.json: exists already; choose another --trace" in capsys.readouterr().err


def test_no_output_inside_of_an_input(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory of Parquet files, or a Zarr store, is no place for the result."""
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    (here / "table").mkdir()
    pq.write_table(pa.table({"a": [1.0, 2.0, 3.0], "y": [0, 1, 0]}), here / "table" / "part.parquet")
    assert run("import", "table", "--y", "y", "--task", "classes", "--out", "table/new.h5", "--overwrite") == 1
    assert "--out table/new.h5: is in table, which is read by this command" in capsys.readouterr().err


def test_the_network_that_is_asked_stays(here: Path) -> None:
    before = (here / "run" / "best.h5").read_bytes()
    words = ("import", "table.csv", "--like", "run", "--unlabelled", "--out", "run/best.h5", "--overwrite")
    assert run(*words) == 1
    assert (here / "run" / "best.h5").read_bytes() == before
