"""The commands as a user calls them, in one process."""

from __future__ import annotations

import csv
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import LIMIT, Runner, check_error, write_data

from distbp import __version__
from distbp.training import checkpoint

OTHERS = ("TQDM_NCOLS=x", "TQDM_ASCII=x", "TQDM_BAR_FORMAT={no}")
SMALL = ("--hidden", "6", "--epochs", "2", "--batch-size", "7")


def test_help_and_version_start_neither_mpi_nor_numpy(runner: Runner) -> None:
    assert runner.distbp("--version").stdout == f"distbp {__version__}\n"
    for command in ("train", "evaluate", "predict", "import", "inspect", "gradcheck", "doctor", "bench", "help"):
        result = runner.distbp(command, "--help", OPENBLAS_NUM_THREADS="x", PYTHONPROFILEIMPORTTIME="1")
        assert result.returncode == 0
        assert "Usage: distbp " + command in result.stdout
        assert not re.search(r"\bnumpy\b", result.stderr)  # and `deferred_numpy` is another
        assert "mpi4py" not in result.stderr
    words = " ".join(runner.distbp("train", "--help").stdout.split())
    for word in ("--learning-rate", "--batch-size", "default", "Network:", "Training:", "over all ranks together"):
        assert word in words


@pytest.mark.slow
def test_train_evaluate_predict_inspect(runner: Runner, data_file: str) -> None:
    """Each command once as a user starts it; `distbp` starts it for less."""
    trained = runner.afresh("train", data_file, *SMALL)
    assert trained.returncode == 0, trained.stderr
    for words in ("1 process", "23 samples to train on", "4-6-3", "51 parameters", "epoch 2/2", "run/best.h5"):
        assert words in trained.stdout
    evaluated = runner.afresh("evaluate", "run/best.h5", data_file).stdout
    assert evaluated.startswith("test: 11 samples, cross_entropy loss ")
    assert runner.distbp("evaluate", "run").stdout == evaluated  # the run's best.h5, on the run's data
    with open(runner.directory / "run" / "metrics.csv") as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    assert float(evaluated.split("loss ")[1].split(",")[0]) == pytest.approx(min(losses), rel=1e-6)

    predicted = runner.afresh("predict", "run", "--out", "p.h5")
    assert "predictions for 11 samples" in predicted.stdout
    with h5py.File(runner.directory / "p.h5") as file, h5py.File(data_file) as data:
        probability, labels = file["probability"][()], file["class"][()]
        right = np.mean(labels == data["test/y"][()])
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probability.argmax(axis=1), labels)
    assert right == pytest.approx(float(evaluated.split("accuracy ")[1]))
    check_error(runner.distbp("predict", "run", "--out", "p.h5"), 1, "p.h5: exists already", "--overwrite")
    assert runner.distbp("predict", "run", "--out", "p.h5", "--overwrite").returncode == 0

    described = runner.afresh("inspect", "run").stdout
    for words in ("checksum good", "4-6-3", "epoch 2", "classes    0 … 2", "learning_rate = 0.001"):
        assert words in described
    described = runner.afresh("inspect", data_file).stdout
    assert runner.distbp("inspect", data_file[:-1] + "?").stdout == described
    assert "train/x  (23, 4) float64, contiguous" in described
    assert "train/y  (23,) int64, contiguous\n    3 labels, samples of each: 0: " in described
    assert f"distbp train {data_file}\n  4-128-3, relu, softmax, cross_entropy; 1027 parameters" in described
    assert "probability  (11, 3)" in runner.distbp("inspect", "p.h5").stdout


def test_predictions_of_targets_are_in_their_units(runner: Runner) -> None:
    data = write_data(runner.directory / "d.h5", train=300, test=50, kind="targets")
    assert runner.distbp("train", data, "--hidden", "32", "--epochs", "40", "--learning-rate", "0.01").returncode == 0
    evaluated = runner.distbp("evaluate", "run").stdout
    runner.distbp("predict", "run", "--out", "p.h5")
    with h5py.File(runner.directory / "p.h5") as file, h5py.File(data) as truth:
        error = file["y"][()] - truth["test/y"][()]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(float(evaluated.split("rmse ")[1]), rel=1e-5)


def test_without_data_the_digits(runner: Runner) -> None:
    result = runner.distbp("train", "--epochs", "1")
    assert "the digits data set that comes with distbp" in result.stdout
    assert "1437 samples to train on" in result.stdout


def test_the_command_line_wins_over_files(runner: Runner, data_file: str) -> None:
    (runner.directory / "distbp.toml").write_text(
        f'data = "{data_file}"\nhidden = [5]\nepochs = 1\nout = "from-file"\n'
    )
    result = runner.distbp("train", "--hidden", "3")
    assert "reading distbp.toml of this directory, because no DATA was given" in result.stdout
    assert "4-3-3" in result.stdout
    (runner.directory / "my.toml").write_text("epochs = 0\n[typo]\n")
    check_error(runner.distbp("train", "--config", "my.toml"), 2, "my.toml: unknown option 'typo'")
    (runner.directory / "my.toml").write_text("learning-rat = 0.1\n")
    check_error(runner.distbp("train", "--config", "my.toml"), 2, "did you mean 'learning_rate'?")
    check_error(runner.distbp("train", "--config", "none.toml"), 2, "none.toml: cannot read")


def test_a_configuration_file_elsewhere(runner: Runner, data_file: str) -> None:
    """Its paths are relative to it; config.toml of the run means the same from anywhere."""
    there = runner.directory / "there"
    there.mkdir()
    Path(data_file).rename(there / "own.h5")
    write_data(runner.directory / "own.h5", inputs=9)  # of the same name, where the command is started
    (there / "my.toml").write_text('data = "own.h5"\nout = "run"\nepochs = 1\nhidden = [3]\n')
    result = runner.distbp("train", "--config", "there/my.toml", HOME=str(there))
    assert result.returncode == 0, result.stderr
    assert "paths in there/my.toml are relative to its directory, there\n" in result.stdout
    assert "4-3-3" in result.stdout
    assert "results   there/run/\n" in result.stdout
    stored = tomllib.loads((there / "run" / "config.toml").read_text())
    assert (stored["data"], stored["out"]) == ([str(there / "own.h5")], str(there / "run"))
    again = runner.distbp("train", "--config", "there/run/config.toml", "--out=~/again", HOME=str(there))
    assert again.returncode == 0, again.stderr
    assert "relative" not in again.stdout
    assert (there / "again" / "best.h5").exists()
    assert not (runner.directory / "~").exists()
    check_error(runner.distbp("train", "--config", "there/run/config.toml"), 1, f"{there}/run: already holds a run")
    check_error(runner.distbp("train", "--out", "$SCRATCH/run"), 2, "--out: '$SCRATCH/run': a variable of the shell")


def test_config_toml_repeats_the_run(runner: Runner, data_file: str) -> None:
    runner.distbp("train", data_file, *SMALL, "--seed", "5", "--threads", "1")
    assert tomllib.loads((runner.directory / "run" / "config.toml").read_text())["loss"] == "cross_entropy"
    again = runner.distbp("train", "--config", "run/config.toml", "--out", "again", "--threads", "1")
    assert again.returncode == 0, again.stderr
    first, second = (checkpoint.read(runner.directory / name / "best.h5") for name in ("run", "again"))
    assert first.vector.tobytes() == second.vector.tobytes()


def test_resume_from_another_directory_and_under_another_name(runner: Runner, data_file: str) -> None:
    assert runner.distbp("train", os.path.basename(data_file), *SMALL).returncode == 0
    (runner.directory / "elsewhere").mkdir()
    (runner.directory / "run").rename(runner.directory / "elsewhere" / "moved")
    other = Runner(runner.directory / "elsewhere", runner.scratch)
    result = other.distbp("train", "--resume", "--out", "moved", "--epochs", "3")
    assert result.returncode == 0, result.stderr
    assert "resuming moved/checkpoint-0000000008.h5: 2 epochs, 8 steps done" in result.stdout
    check_error(other.distbp("train", "--resume"), 1, "run: no run to be found here")


def test_simulated_ranks(runner: Runner, data_file: str) -> None:
    result = runner.distbp("train", data_file, *SMALL, "--simulate-ranks", "8")
    assert "8 simulated ranks (threads)" in result.stdout
    check_error(runner.distbp("train", data_file, "--simulate-ranks", "3"), 1, "already holds a run")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--hidden", "4,x"], 2, ["--hidden", "'4,x'"]),
        (["--hidden", "-4"], 2, ["at least 1 neuron"]),
        (["--learning-rate", "fast"], 2, ["--learning-rate", "'fast'"]),
        (["--learning-rate", "0"], 2, ["--learning-rate: expected more than 0"]),
        (["--batch-size", "-3"], 2, ["--batch-size: expected at least 1"]),
        (["--loss", "hinge"], 2, ["--loss", "hinge"]),
        (["--no-such"], 2, ["No such option"]),
        (["nothing.h5"], 1, ["nothing.h5: no such file"]),
        (["--y", "labels"], 1, ["no data set train/labels; those in train are: x, y"]),
        (["--out", "data.h5"], 1, ["data.h5: cannot write the results here", "--out"]),
        (["--out", "/proc/nothing"], 1, ["cannot write the results here"]),
    ],
)
def test_mistakes_get_one_message(
    runner: Runner, data_file: str, arguments: list[str], code: int, words: list[str]
) -> None:
    data = [] if "nothing.h5" in arguments else [data_file]
    start = runner.afresh if arguments[0] in ("--no-such", "nothing.h5") else runner.distbp
    check_error(start("train", *data, *arguments), code, *words)


def test_mistakes_with_checkpoints(runner: Runner, data_file: str) -> None:
    runner.distbp("train", data_file, *SMALL)
    wide = write_data(runner.directory / "wide.h5", inputs=9)
    check_error(runner.distbp("evaluate", "run", wide), 1, "test/x has 9 columns, but the network has 4 inputs")
    check_error(runner.distbp("evaluate", data_file), 1, "not a distbp checkpoint")
    check_error(runner.distbp("evaluate", "nothing.h5"), 1, "nothing.h5: no such checkpoint")
    check_error(runner.distbp("evaluate", "run", "--split", "other"), 1, "no split 'other'", "test, train")
    check_error(runner.distbp("predict", "run", "--out", "no/such/p.h5"), 1, "directory no/such does not exist")
    check_error(runner.distbp("inspect", "nothing.h5"), 1, "nothing.h5: no such file")
    check_error(runner.distbp("inspect", "nothing-*.h5"), 1, "nothing-*.h5: no file matches")


@pytest.mark.parametrize(
    ("memory", "words"),
    [("-1", "at least 0, got -1.0"), ("nan", "a finite number"), ("inf", "a finite number"), ("x", "'x'")],
)
def test_memory_has_the_limits_it_has_in_training(runner: Runner, memory: str, words: str) -> None:
    for command in ("train", "evaluate run", "predict run --out p.h5"):
        check_error(runner.distbp(*command.split(), "--memory", memory), 2, "--memory", words)


def test_evaluate_and_predict_from_files(runner: Runner, data_file: str) -> None:
    runner.distbp("train", data_file, *SMALL)
    evaluated, predicted = ("evaluate", "run"), ("predict", "run", "--out", "p.h5", "--overwrite")
    for command in (evaluated, predicted):
        assert runner.distbp(*command, "--memory", "1e-7").stdout == runner.distbp(*command).stdout != ""


def test_gradcheck(runner: Runner) -> None:
    result = runner.afresh("gradcheck")
    assert result.returncode == 0
    assert "networks agree with finite differences to 1e-07" in result.stdout


def test_a_signal_stops_with_a_checkpoint_and_resume_ends_alike(runner: Runner, data_file: str) -> None:
    """Also where nothing is reproducible but what one process does; other signals: test_faults."""
    options = ("--hidden", "6", "--batch-size", "7", "--epochs", "40", "--keep", "1", "--threads", "1")
    distbp = str(Path(os.sys.executable).parent / "distbp")  # type: ignore[attr-defined]
    process = runner.fork(distbp, "train", data_file, *options, "--out", "stopped")
    while not list((runner.directory / "stopped").glob("metrics.csv")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    result = runner.finish(process)
    assert result.returncode in (75, 0), result.stderr
    if result.returncode == 75:
        assert result.stderr.startswith("distbp: stopped on request at epoch ")
        assert runner.distbp("train", "--resume", "--out", "stopped").returncode == 0
    runner.distbp("train", data_file, *options, "--out", "whole")
    stopped, whole = (next((runner.directory / name).glob("checkpoint-*")) for name in ("stopped", "whole"))
    assert checkpoint.read(stopped).vector.tobytes() == checkpoint.read(whole).vector.tobytes()


def test_a_closed_pipe_is_no_error(runner: Runner, data_file: str) -> None:
    runner.distbp("train", data_file, *SMALL)
    result = runner.run("bash", "-c", f"{os.sys.executable} -m distbp inspect run | head -n 1")  # type: ignore[attr-defined]
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_odd_requests_get_one_message(runner: Runner, data_file: str) -> None:
    runner.distbp("train", data_file, *SMALL)
    check_error(runner.distbp("predict", "run/best.h5", "--out", "run/best.h5", "--overwrite"), 1, "is read by this")
    check_error(runner.distbp("predict", "run", "--out", "run/best.h5", "--overwrite"), 1, "is read by this")
    check_error(runner.distbp("predict", "run", "--out", data_file, "--overwrite"), 1, "is read by this")
    check_error(runner.distbp("predict", "run", "*.h5", "--out", data_file, "--overwrite"), 1, "is read by this")
    check_error(runner.distbp("predict", "run", "--out", ""), 1, "expected the name of a file")
    check_error(runner.distbp("gradcheck", "--seed", "-1"), 2, "--seed")
    check_error(runner.distbp("train", data_file, "--out", ""), 2, "--out: expected a name")
    check_error(runner.distbp("train", data_file, "--out", "b", "--hidden", "9000000,9000000"), 1, "not enough memory")
    (runner.directory / "twice.toml").write_text("batch_size = 1\nbatch-size = 2\n")
    check_error(runner.distbp("train", "--config", "twice.toml"), 2, "given twice")


def test_help_on_a_terminal_without_sigma(runner: Runner) -> None:
    result = runner.distbp("train", "--help", PYTHONIOENCODING="latin-1")
    assert result.returncode == 0, result.stderr


def on_a_terminal(runner: Runner, *arguments: str, **variables: str) -> str:
    """What `distbp ARGUMENTS` shows there; it has to end well."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-X", "dev", "-m", "distbp", *arguments]
    with open(leader, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            command, cwd=runner.directory, stdout=follower, stderr=follower, env={**os.environ, **variables}
        )
        os.close(follower)
        shown = b""
        try:
            while chunk := screen.read(65536):
                shown += chunk
        except OSError:  # the terminal is gone when the program ends
            pass
        assert process.wait(LIMIT) == 0, shown
    return shown.decode()


def test_a_progress_bar_on_a_terminal(runner: Runner, data_file: str) -> None:
    shown = on_a_terminal(runner, "train", data_file, "--epochs", "30")
    assert " samples/s]" in shown
    assert "epoch 30/30" in shown


@pytest.mark.parametrize(
    "variable", ["TQDM_MININTERVAL=abc", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_a_bar_that_cannot_be_drawn_is_left_out(runner: Runner, data_file: str, variable: str) -> None:
    name, _, value = variable.partition("=")
    shown = on_a_terminal(runner, "train", data_file, "--epochs", "3", **{name: value})
    assert "epoch 3/3" in shown
    assert "Traceback" not in shown
    assert "Exception ignored" not in shown


@pytest.mark.slow
def test_bars_of_other_commands_that_cannot_be_drawn(runner: Runner) -> None:
    (runner.directory / "t.csv").write_text("a,b,label\n" + "1,2,0\n3,4,1\n" * 50)
    for command in (("import", "t.csv", "--out", "t.h5", "--test-fraction", "0.2"), ("inspect", "t.h5")):
        shown = on_a_terminal(runner, *command, TQDM_MININTERVAL="abc")
        assert "Traceback" not in shown
        assert "Exception ignored" not in shown


@pytest.mark.parametrize("command", [("inspect",), ("train", "--epochs", "0")])
def test_what_a_file_says_cannot_command_the_terminal(runner: Runner, command: tuple[str, ...]) -> None:
    """Names and values of a file from anywhere are shown with escapes."""
    with h5py.File(runner.directory / "d.h5", "w") as file:
        for split in ("train", "\x1b[2J\x07"):
            file[f"{split}/x"], file[f"{split}/y"] = np.eye(4), ["a", "b", "a\x1b]0;x\x07", "b\r\u202e"]
    with h5py.File(runner.directory / "\x1b[31m.h5", "w") as file:
        file["x"] = 1
    for name in ("d.h5", "\x1b[31m.h5"):
        result = runner.distbp(*command, name)
        assert result.stdout + result.stderr
        assert (result.stdout + result.stderr).replace("\n", "").isprintable()


def test_a_checkpoint_cannot_command_the_terminal(runner: Runner, data_file: str) -> None:
    (runner.directory / "\x1b[31m").mkdir()
    odd = runner.directory / "\x1b[31m" / "d.h5"
    odd.write_bytes(Path(data_file).read_bytes())
    result = runner.distbp("train", str(odd), "--epochs", "0")
    assert result.returncode == 0, result.stderr
    described = runner.distbp("inspect", "run")
    assert "\\x1b[31m/d.h5" in described.stdout
    assert (result.stdout + described.stdout).replace("\n", "").isprintable()


def test_a_termination_in_a_callback_is_not_lost(runner: Runner) -> None:
    """An exception in the callback of a weak reference goes nowhere: the termination comes again."""
    program = """
import os, signal, sys, time, weakref
import distbp.__main__ as entry
sys.unraisablehook = entry._lost
signal.signal(signal.SIGTERM, entry._terminate)
class Thing: pass
thing = Thing()
reference = weakref.ref(thing, lambda gone: os.kill(os.getpid(), signal.SIGTERM))
del thing
time.sleep(20)
"""
    result = runner.run(os.sys.executable, "-c", program)  # type: ignore[attr-defined]
    assert result.returncode == 143, result.stderr
