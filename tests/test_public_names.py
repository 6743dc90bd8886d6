"""`import distbp`: what it offers, that it is quick and loads no MPI library, and that its examples run."""

from __future__ import annotations

import ast
import doctest
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import distbp
import distbp.errors
from distbp.data.split import digits_path

EXAMPLES = "distbp.model.variables.Variables", "distbp.inspection.dataset.DatasetColumns"  # which public names lead to
SECONDS = 0.06


def public(name: str) -> Any:
    """A public object by its name, or another by its module and name."""
    module, _, last = name.rpartition(".")
    return getattr(sys.modules[module] if module else distbp, last)


def test_all_names_are_there() -> None:
    assert list(distbp.__all__) == sorted(distbp.__all__)
    assert set(distbp.__all__) <= set(dir(distbp))
    for name in distbp.__all__:
        assert getattr(distbp, name) is not None
    with pytest.raises(AttributeError, match="module 'distbp' has no attribute 'nothing'"):
        _ = distbp.nothing  # type: ignore[attr-defined]


def test_type_checkers_see_the_same_names() -> None:
    (block,) = (node for node in ast.parse(inspect.getsource(distbp)).body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {*seen, "__version__"} == set(distbp.__all__)
    for name, module in seen.items():
        assert getattr(distbp, name) is getattr(sys.modules[str(module)], name)
    assert (Path(distbp.__file__).parent / "py.typed").exists()


def test_all_errors_are_offered() -> None:
    errors = {
        name
        for name, found in vars(distbp.errors).items()
        if isinstance(found, type) and issubclass(found, distbp.DistbpError)
    }
    assert errors - set(distbp.__all__) == {"NodeError"}  # it is a LaunchError


def python(code: str, directory: Path) -> str:
    """What a new Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(distbp.__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_is_quick(tmp_path: Path) -> None:
    code = (
        "import sys, time; before = set(sys.modules); begun = time.perf_counter(); import distbp; "
        "print(time.perf_counter() - begun, *set(sys.modules) - before)"
    )
    found = [python(code, tmp_path).split() for _ in range(3)]
    assert min(float(seconds) for seconds, *_ in found) < SECONDS
    assert found[0][1:] == ["distbp"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `digits.h5` and `run`, which the examples use."""
    place = tmp_path_factory.mktemp("examples")
    (place / "digits.h5").write_bytes(digits_path().read_bytes())
    arguments = ["train", "digits.h5", "--hidden", "32", "--epochs", "12", "--out", "run"]
    code = f"import sys; sys.argv[1:] = {arguments}; from distbp.__main__ import main; main()"
    python(code, place)
    return place


def test_no_mpi_library_is_loaded(place: Path) -> None:
    code = (
        "import sys, distbp; x, _ = distbp.open_dataset('digits.h5')['test'].read(0, 7); "
        "print(len(distbp.load('run').predict(x)), 'mpi4py' in sys.modules, 'click' in sys.modules)"
    )
    assert python(code, place).split() == ["7", "False", "False"]


@pytest.mark.parametrize("name", ["", *(name for name in distbp.__all__ if name != "__version__"), *EXAMPLES])
def test_examples_run(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    thing = public(name) if name else distbp
    assert thing.__doc__
    tests = doctest.DocTestFinder(recurse=bool(name)).find(thing, name or "distbp", module=False)
    examples = [example for test in tests for example in test.examples]
    is_error = isinstance(thing, type) and issubclass(thing, Exception)
    assert examples or is_error or name in EXAMPLES
    runner = doctest.DocTestRunner(verbose=False)
    said: list[str] = []
    for test in tests:
        runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


@pytest.mark.parametrize("name", [name for name in distbp.__all__ if inspect.isclass(getattr(distbp, name))])
def test_all_that_is_public_is_described(name: str) -> None:
    thing = getattr(distbp, name)
    for attribute, value in vars(thing).items():
        if not attribute.startswith("_") and (callable(value) or isinstance(value, property)):
            assert inspect.getdoc(value), f"{name}.{attribute}"
