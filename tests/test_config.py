"""The configuration: defaults, limits, files, what may change on resume."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from distbp.errors import UsageError
from distbp.settings.config import FIELDS, Config, as_dict
from distbp.settings.files import PATHS, read_toml, with_paths
from distbp.settings.merged import merge, resume
from distbp.settings.values import parse


def test_defaults_pass_their_own_checks_and_survive_toml() -> None:
    text = tomli_w.dumps(as_dict(Config()))
    assert merge(tomllib.loads(text), "x.toml") == Config()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hiden", [3], r"unknown option 'hiden' \(did you mean 'hidden'\?\)"),
        ("hidden", [0], "a layer has at least 1 neuron"),
        ("hidden", [True], "expected a value like"),
        ("hidden", "3", "expected a value like"),
        ("learning_rate", 0.0, "expected more than 0, got 0.0"),
        ("learning_rate", -1, "expected more than 0"),
        ("learning_rate", float("nan"), "expected a finite number"),
        ("learning_rate", float("inf"), "expected a finite number"),
        ("batch_size", 0, "expected at least 1"),
        ("batch_size", "some", "expected a value like"),
        ("batch_size", 2.5, "expected a value like"),
        ("momentum", 1.0, "expected less than 1"),
        ("epochs", -1, "expected at least 0"),
        ("epochs", True, "expected a value like"),
        ("keep", 0, "expected at least 1"),
        ("warmup_epochs", 1e308, r"expected less than 1000000000, got 1e\+308"),
        ("step_epochs", 1e9, "expected less than 1000000000, got"),
        ("time_limit", 1e6, "expected less than 1000000, got"),
        ("threads", 2**16, "expected less than 65536, got 65536"),
        ("loss", "hinge", "expected one of auto, mse"),
        ("dtype", "float16", "expected one of float32, float64"),
    ],
)
def test_bad_values(name: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        merge({name: value}, "my.toml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "cross_entropy", "output_activation": "sigmoid"}, "goes with --output-activation softmax"),
        ({"loss": "mse", "output_activation": "softmax"}, "softmax goes with --loss cross_entropy"),
        ({"nesterov": True, "optimizer": "sgd"}, "--nesterov needs --momentum"),
        ({"momentum": 0.9}, "an option of --optimizer sgd"),
        ({"minimum_learning_rate": 1.0}, "is above --learning-rate"),
    ],
)
def test_contradictions(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        merge(values, "command line")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("hidden", "128, 64", [128, 64]),
        ("hidden", "", []),
        ("batch_size", "all", "all"),
        ("batch_size", "32", 32),
        ("out", "here", "here"),
    ],
)
def test_what_the_command_line_says(name: str, text: str, value: Any) -> None:
    assert parse(name, text) == value


@pytest.mark.parametrize(("name", "text"), [("hidden", "1,x"), ("batch_size", "many"), ("hidden", "1,,2")])
def test_what_it_cannot_say(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}: expected .*got '{text}'"):
        parse(name, text)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('learning-rate = 1\nbatch_size = "all"\ndata = "x.h5"\n')
    config = merge(read_toml(path), str(path))
    assert (config.learning_rate, config.batch_size, config.data) == (1.0, "all", ["x.h5"])
    path.write_text("learning_rate = = 1")
    with pytest.raises(UsageError, match=r"c\.toml: not a TOML file"):
        read_toml(path)
    with pytest.raises(UsageError, match="cannot read this configuration file: No such file"):
        read_toml(tmp_path / "none.toml")


def test_files_with_a_mark_of_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xef\xbb\xbf# \xcf\x83\r\nepochs = 7\r\n")
    assert read_toml(path) == {"epochs": 7}
    path.write_bytes("epochs = 7\n".encode("utf-16"))
    with pytest.raises(UsageError, match=r"c\.toml: not a TOML file"):
        read_toml(path)


def test_no_text_is_the_empty_one() -> None:
    with pytest.raises(UsageError, match=r"""my\.toml: validation_split: .* got False; for none write ""$"""):
        merge({"validation_split": False}, "my.toml")


def test_paths_of_a_file_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    odd = tmp_path / "[1]"
    odd.mkdir()
    (odd / "d[2].h5").touch()
    values = {
        "data": ["d.h5", "~/d*.h5", "/data/d.h5", "d[2].h5", "d?.h5"],
        "out": "~/run",
        "stage_to": "",
        "trace": "../t.json",
        "x": "~/x",
    }
    found = with_paths(values, "c.toml", str(odd))
    assert found == {
        # the directory of a pattern is no pattern
        "data": [f"{odd}/d.h5", "/home/ada/d*.h5", "/data/d.h5", f"{odd}/d[2].h5", f"{tmp_path}/[[]1]/d?.h5"],
        "out": "/home/ada/run",
        "stage_to": "",
        "trace": f"{odd}/../t.json",
        "x": "~/x",
    }
    assert with_paths({"out": "run"}, "command line") == {"out": "run"}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("path", ["$TMPDIR", "/a/${HOME}/b", "~nobody-of-this-name/run"])
def test_what_a_shell_would_have_replaced_is_refused(tmp_path: Path, name: str, path: str) -> None:
    value = [path] if name == "data" else path
    with pytest.raises(UsageError, match=rf"my\.toml: {name}: '.*(not replaced|no such home directory)"):
        with_paths({name: value}, "my.toml")
    with pytest.raises(UsageError, match=r"^(DATA|--[a-z-]+): "):
        with_paths({name: value}, "command line")
    there = tmp_path / path.replace("/", "")
    there.touch()  # a name like that, all the same
    assert with_paths({"out": str(there)}, "my.toml") == {"out": str(there)}


def test_resume_takes_what_may_change_and_names_what_may_not() -> None:
    stored = merge({"epochs": 5, "seed": 3}, "x")
    assert resume(stored, {"epochs": 9, "seed": 3, "keep": 1}, "x") == merge({"epochs": 9, "seed": 3, "keep": 1}, "x")
    with pytest.raises(UsageError) as error:
        resume(stored, {"seed": 4, "hidden": [1], "epochs": 9}, "x")
    assert "--seed: the run has 3, given was 4" in str(error.value)
    assert "--hidden: the run has [128], given was [1]" in str(error.value)
    assert "--epochs: " not in str(error.value)


def test_every_option_has_help_and_only_the_named_ones_may_change() -> None:
    assert all(field.metadata["help"] for field in FIELDS.values())
    assert {name for name, field in FIELDS.items() if field.metadata["may_change"]} == {
        "data",
        "allow_changed_data",
        "trace",
        "trace_steps",
        "overlap",
        "engine",
        "epochs",
        "out",
        "checkpoint_every",
        "checkpoint_minutes",
        "keep",
        "memory",
        "on_nan",
        "skip_limit",
        "stop_signals",
        "stage_to",
        "time_limit",
        "grace",
        "stall_minutes",
        "drift_steps",
        "threads",
    }
