"""Mutated files are refused in words, or read: a few hundred of those that scripts/fuzz makes, and made-up text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings
from runs import LIMIT, environment

from distbp.engine.work import optimizer_of
from distbp.errors import DistbpError, UsageError
from distbp.settings.config import FIELDS
from distbp.settings.files import read_toml
from distbp.settings.merged import merge
from distbp.training.rates import schedule_of

FUZZ = Path(__file__).parent.parent / "scripts" / "fuzz"

numbers = st.one_of(st.integers(), st.integers(2**60, 2**5000), st.floats())
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(st.characters())),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=2)),
    max_leaves=6,
)
options = st.dictionaries(st.one_of(st.sampled_from(list(FIELDS)), st.text(max_size=20)), values, max_size=4)


def check_message(error: DistbpError) -> None:
    """It can be printed, on a screen."""
    assert len(str(error).encode()) < 2500


@pytest.mark.slow
def test_mutated_files() -> None:
    done = subprocess.run(
        [sys.executable, FUZZ, "--files", "350"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=max(110.0, LIMIT),
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@given(options)
@example({"epochs": 2**53, "learning_rate": 5e-324, "step_epochs": 1e-300, "warmup_epochs": 1e300})
@example({"seed": "\ud800", "x": "\0"})
@settings(max_examples=300)
def test_any_options(given_options: dict[str, Any]) -> None:
    """Of a stored configuration: what passes can be used."""
    try:
        config = merge(given_options, "test")
    except UsageError as error:
        check_message(error)
        return
    json.dumps(config.__dict__)
    for step in (0, 1, 10**6):
        schedule_of(config, 10)(step)
    optimizer_of(config)


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("x = " + "[" * 100_000)
@example("epochs = " + "9" * 5000)
@example("epochs = 0x" + "f" * 10_000)
@example("a.b.c = 1\n" * 2)
@settings(max_examples=200)
def test_any_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8")
    try:
        merge(read_toml(path), str(path))
    except DistbpError as error:
        check_message(error)
