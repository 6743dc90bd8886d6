"""Who may import whom: the mathematics needs NumPy alone, mpi4py is in one module, and nothing goes in circles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import distbp

PACKAGE = Path(distbp.__file__).parent
MODULES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.glob("*.py")}
USERS = {
    "mpi4py": {"mpi"},
    "h5py": {
        "data_file",
        "reader",
        "layout",
        "import_data",
        "hdf5_table",
        "checkpoint",
        "plain_hdf5",
        "hdf5_predictions",
        "data_inspection",
        "doctor",
    },
    "click": {"cli", "launch"},
    "threadpoolctl": {"threads", "machine"},
    "tqdm": {"progress", "report"},
    "pyarrow": {"parquet_table"},
    "tomli_w": {"run_directory"},
}
MATHEMATICS = (
    "activations",
    "losses",
    "network",
    "backprop",
    "optimizers",
    "schedules",
    "batches",
    "exact_sum",
    "grains",
    "grain_tree",
)


def imports(name: str, *, at_the_top: bool = False) -> set[str]:
    """The modules that a module imports, "distbp." left off."""
    found: set[str] = set()
    tree = MODULES[name]
    for node in tree.body if at_the_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "distbp":
            found |= {f"distbp.{alias.name}" for alias in node.names if alias.name in MODULES}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return {
        module.removeprefix("distbp.") if module.startswith("distbp.") else module.split(".")[0] for module in found
    }


@pytest.mark.parametrize("library", USERS)
def test_a_library_is_used_where_it_belongs(library: str) -> None:
    assert {name for name in MODULES if library in imports(name)} == USERS[library]


@pytest.mark.parametrize("name", MATHEMATICS)
def test_the_mathematics_needs_numpy_alone(name: str) -> None:
    standard = {"__future__", "collections", "dataclasses", "functools", "math", "typing"}
    assert imports(name) - standard - set(MATHEMATICS) <= {"numpy"}


def test_no_circles() -> None:
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in order:
            for other in sorted(imports(name, at_the_top=True) & set(MODULES)):
                visit(other, (*path, name))
            order.append(name)

    for name in MODULES:
        visit(name, ())


def test_no_drawer_for_odds_and_ends() -> None:
    assert not {"utils", "util", "common", "helpers", "misc"} & set(MODULES)
