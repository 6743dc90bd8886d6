"""What Python and C must agree on, and that compilers have nothing to say about the C code."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest
from native_build import NATIVE, SECONDS, builder, compile_c, compilers, flags_of_kinds

from distbp.engine.compiled_grains import DEEPEST
from distbp.engine.native import plan
from distbp.engine.reduction import DIGIT
from distbp.engine.step_memory import TAIL
from distbp.mathematics.clipping import BLOCK

HEADER, ENGINE = ((NATIVE / name).read_text(encoding="utf-8") for name in ("plan.h", "engine.c"))
STRUCTURES = {
    "layer": plan.LayerPlan,
    "columns": plan.ColumnsPlan,
    "net": plan.NetPlan,
    "slice": plan.SlicePlan,
    "batch": plan.BatchPlan,
    "tree": plan.TreePlan,
    "run": plan.RunPlan,
}


def fields_of(structure: str) -> list[str]:
    """The names of the fields of a structure of plan.h, in their order."""
    found = re.search(rf"struct {structure} \{{(.*?)\n\}};", HEADER, re.DOTALL)
    assert found
    text = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    declared = [name for line in text.split(";") for name in line.split(",")]
    return [re.findall(r"\w+", re.sub(r"\[.*?\]", "", name))[-1] for name in declared if name.strip()]


def test_all_structures_of_the_header_are_known() -> None:
    assert set(re.findall(r"struct (\w+) \{", HEADER)) == set(STRUCTURES)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_fields_have_the_same_names(structure: str) -> None:
    assert fields_of(structure) == [name for name, _ in STRUCTURES[structure]._fields_]


def test_the_fields_lie_in_the_same_places(tmp_path: Path) -> None:
    """As the compiler says."""
    places = "".join(
        f'printf("{name}.{field} %zu %zu\\n", offsetof(struct {name}, {field}), sizeof(((struct {name} *)0)->{field}));'
        for name in STRUCTURES
        for field in fields_of(name)
    )
    sizes = "".join(f'printf("{name} 0 %zu\\n", sizeof(struct {name}));' for name in STRUCTURES)
    source = tmp_path / "places.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "plan.h"\nint main(void) {{ {places}{sizes} return 0; }}\n'
    )
    program = compile_c(tmp_path / "places", source)
    said = subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout.split("\n")
    expected = []
    for name, structure in STRUCTURES.items():
        for field, _ in structure._fields_:
            where = getattr(structure, field)
            expected.append(f"{name}.{field} {where.offset} {where.size}")
    assert said[:-1] == [*expected, *(f"{name} 0 {ctypes.sizeof(one)}" for name, one in STRUCTURES.items())]


def in_order(enum: str) -> list[str]:
    """The names of an enum of plan.h, in small letters."""
    found = re.search(rf"enum {enum} \{{(.*?)\}};", HEADER)
    assert found
    return [name.strip().lower() for name in found[1].split(",")]


def test_names_have_the_same_numbers() -> None:
    assert tuple(in_order("sigma")) == plan.SIGMAS
    assert tuple(in_order("loss")) == plan.LOSSES
    assert tuple(in_order("rule")) == plan.RULES
    assert tuple(in_order("phase")) == (*plan.PHASES, "phases")
    assert in_order("metric") == [one.name.lower() for one in plan.Metric]
    assert in_order("answer") == [one.name.lower() for one in plan.Answer]
    for name, number in (("TAIL", TAIL), ("SUMS", plan.SUMS), ("BLOCK", BLOCK), ("DIGIT", DIGIT)):
        assert re.search(rf"#define {name} (\d+)", HEADER)[1] == str(number)  # type: ignore[index]
    assert re.search(r"#define DEEPEST (\d+)", ENGINE)[1] == str(DEEPEST)  # type: ignore[index]
    bits = [(f"{'f' if name[0] == 'f' else name[0]}{8 * int(name[1])}") for name in plan.TYPES]
    assert in_order("type") == bits


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("compiler", compilers(), ids=lambda one: one[0])
def test_compilers_warn_of_nothing(compiler: list[str], tmp_path: Path) -> None:
    """For no kind of CPU; of what they see without much optimization."""
    assert builder().build(tmp_path / "step.so", compiler, ("-Wall", "-Wextra", "-Wvla", "-Werror", "-O1")) == ""
    functions = ctypes.CDLL(str(tmp_path / "step.so"))
    assert all(hasattr(functions, f"advance_{kind}") for kind in flags_of_kinds())


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert builder().build_again() == "no C compiler was found"


def test_a_compiler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    assert builder().build_again() == "the compiler that CC names was not found: no-such-compiler"


def test_code_for_a_cpu_that_a_compiler_does_not_know_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The compiler here is a script that writes empty files, and knows no AVX."""
    knows = tmp_path / "cc"
    lines = ('case "$*" in *mavx*) echo "unknown: -mavx" >&2; exit 1 ;; esac', 'while [ "$1" != -o ]; do shift; done')
    knows.write_text("\n".join(["#!/bin/sh", *lines, 'echo >"$2"', ""]))
    knows.chmod(0o755)
    assert builder().build(tmp_path / "step.so", [str(knows)]) == ""
    left_out = [line for line in capsys.readouterr().err.splitlines() if "is left out: unknown: -mavx" in line]
    assert len(left_out) == sum("-mavx2" in flags for flags in flags_of_kinds().values())


def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    failing = tmp_path / "cc"
    failing.write_text("#!/bin/sh\necho no room left >&2\nexit 1\n")
    failing.chmod(0o755)
    assert builder().build(tmp_path / "step.so", [str(failing)]) == "the compiler failed: no room left\n"
    assert not (tmp_path / "step.so").exists()
