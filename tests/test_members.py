"""Losses, activations, optimizers and schedules: every member of a table is known everywhere, and so is a new one."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import Runner, write_data

from distbp.mathematics.activations import ACTIVATIONS
from distbp.mathematics.gradcheck import all_networks
from distbp.mathematics.losses import LOSSES, default_loss
from distbp.mathematics.optimizers import OPTIMIZERS, make_optimizer
from distbp.mathematics.schedules import SCHEDULES, Schedule
from distbp.settings.config import FIELDS, Config

TABLES = {"loss": LOSSES, "output_activation": ACTIVATIONS, "optimizer": OPTIMIZERS, "schedule": SCHEDULES}
NEW = {"loss": "log_cosh", "activation": "sine", "optimizer": "sign", "schedule": "halving"}


@pytest.mark.parametrize("option", TABLES)
def test_every_member_is_a_choice_under_its_own_name(option: str) -> None:
    table = TABLES[option]
    assert [*table] == [member.name for member in table.values()]  # type: ignore[attr-defined]
    assert [choice for choice in FIELDS[option].metadata["choices"] if choice != "auto"] == [*table]


def test_gradcheck_walks_all_members() -> None:
    networks = list(all_networks())
    assert {network.loss.name for network in networks} == {*LOSSES}
    assert {network.output_activation.name for network in networks} == {*ACTIVATIONS}
    hidden = {network.activation.name for network in networks}
    assert hidden == {*FIELDS["activation"].metadata["choices"]} == {*ACTIVATIONS} - {"softmax"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_options_of_an_optimizer_are_options_of_train(name: str) -> None:
    """With the same defaults, but where the option is of another optimizer; and its vectors are those of its state."""
    rule = OPTIMIZERS[name]
    assert {*rule.options()} <= {*FIELDS}
    optimizer = make_optimizer(name, **vars(Config()))
    assert optimizer == rule()
    assert tuple(optimizer.init(np.zeros(3))) == optimizer.vectors
    assert {*rule.squares} <= {*optimizer.vectors}
    largest = {**dict.fromkeys(optimizer.vectors, 1.0), "w": 1.0}
    assert optimizer.reach(largest, 1.0, 0.1, 1).keys() == {*optimizer.vectors, "w", ""}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_options_of_a_schedule_are_options_of_train(name: str) -> None:
    assert {*SCHEDULES[name].options} <= {*FIELDS}
    assert Schedule(name, 0.4, warmup=0, total=10, every=5, factor=0.5, minimum=0.0)(0) == pytest.approx(0.4)


def test_facts_of_losses() -> None:
    assert (default_loss("classes"), default_loss("targets")) == ("cross_entropy", "mse")
    names = ("mse", "cross_entropy", "binary_cross_entropy")
    assert [LOSSES[name].takes_targets for name in names] == [True, False, True]
    assert [LOSSES[name].scales_targets for name in names] == [True, False, False]
    assert [LOSSES[name].outputs(2) for name in names] == [2, 2, 1]
    assert [sum(loss.default_for == task for loss in LOSSES.values()) for task in ("classes", "targets")] == [1, 1]
    for loss in LOSSES.values():
        assert loss.allows(ACTIVATIONS[loss.output_activation])
        assert (loss.nabla_a is None) != (loss.delta is None)


def test_the_tables_are_read_without_numpy(runner: Runner) -> None:
    """So `--help` does not wait for it."""
    code = "import sys, distbp.settings.config; sys.exit('numpy' in sys.modules)"
    assert runner.run(sys.executable, "-c", code).returncode == 0


@pytest.mark.slow
def test_a_new_member_of_each_kind_needs_its_entry_alone(runner: Runner) -> None:
    """It is in the help, it is checked, it trains, it is resumed, and its network is used."""
    program = (sys.executable, str(Path(__file__).parent / "new_members.py"))
    data = write_data(runner.directory / "d.h5", kind="targets")
    shown = runner.run(*program, "train", "--help").stdout
    assert all(name in shown for name in NEW.values())
    checked = runner.run(*program, "gradcheck", "--verbose")
    assert checked.returncode == 0, checked.stderr
    assert any(line.split()[:3] == ["sine", "sine", "log_cosh"] for line in checked.stdout.splitlines())
    options = [word for option, name in NEW.items() for word in (f"--{option}", name)]
    runs = [
        runner.run(*program, "train", data, *options, "--hidden", "6", "--epochs", "2", "--threads", "1"),
        runner.run(*program, "train", "--resume", "--epochs", "4", "--threads", "1"),
        runner.run(*program, "evaluate", "run", data),
    ]
    for run in runs:
        assert run.returncode == 0, run.stderr
    newest = max((runner.directory / "run").glob("checkpoint-*.h5"))
    with h5py.File(newest) as file:
        assert [*file["optimizer"]] == ["last"]
        assert file["history"]["learning_rate"][-1] < 1e-3 / 2
        assert (np.diff(file["history"]["train_loss"]) < 0).all()


def test_a_checkpoint_of_a_member_that_is_not_there_is_refused_in_words(runner: Runner) -> None:
    program = (sys.executable, str(Path(__file__).parent / "new_members.py"))
    data = write_data(runner.directory / "d.h5", kind="targets")
    made = runner.run(*program, "train", data, "--loss", "log_cosh", "--epochs", "1", "--threads", "1")
    assert made.returncode == 0, made.stderr
    refused = runner.distbp("evaluate", "run", data)
    assert refused.returncode == 1
    assert "--loss: expected one of auto, " in refused.stderr
    assert "got 'log_cosh'" in refused.stderr
    assert "Traceback" not in refused.stderr
