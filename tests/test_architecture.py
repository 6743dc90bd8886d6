"""Who may import whom: the mathematics needs NumPy alone, mpi4py is in one module, and nothing goes in circles."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import distbp

ROOT = Path(distbp.__file__).parent
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
USERS = {
    "mpi4py": {"ranks.mpi"},
    "h5py": {
        "data.attributes",
        "data.categories",
        "data.chunk_check",
        "data.coded_groups",
        "data.conventions",
        "data.data_file",
        "data.dimension_names",
        "data.locate",
        "data.names_beside",
        "data.not_data",
        "data.plain_array",
        "data.reader",
        "data.same_make",
        "data.sparse_rows",
        "data.stored",
        "data.string_rows",
        "data.survey",
        "doctor.doctor",
        "files.open_beside",
        "files.plain_hdf5",
        "files.write_arrays",
        "inspection.contents",
        "inspection.data_inspection",
        "prediction.hdf5_predictions",
        "tables.hdf5_table",
        "tables.import_data",
    },
    "click": {"cli", "ranks.launch", *(name for name in MODULES if re.match(r"commands\.(?!__init__)", name))},
    "threadpoolctl": {"ranks.threads", "ranks.machine_record"},
    "tqdm": {"progress"},
    "pyarrow": {
        "prediction.parquet_predictions",
        "tables.arrow_table",
        "tables.arrow_text",
        "tables.arrow_values",
        "tables.parquet_files",
    },
    "matplotlib": {"bench.chart"},
    "tomli_w": {"training.run_directory"},
}
# Each package may import from those before it.
ORDER = [
    "files",
    "mathematics",
    "settings",
    "ranks",
    "data",
    "engine",
    "training",
    "verification",
    "bench",
    "inspection",
    "prediction",
    "model",
    "runs",
    "tables",
    "doctor",
    "pages",
    "commands",
]
GROUND = {"errors", "counted", "progress"}  # for all


@cache
def imports(name: str) -> frozenset[str]:
    """The modules that a module imports, anywhere in it, "distbp." left off; "" for what is in distbp/__init__.py."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {_meant(str(node.module), alias.name) for alias in node.names}
    own = {module.removeprefix("distbp.") for module in found if module.startswith("distbp.")}
    return frozenset(own | {module.split(".")[0] for module in found if not module.startswith("distbp.")} - {"distbp"})


def _meant(module: str, name: str) -> str:
    """What `from module import name` imports: a module of that name, a package, or a module with something in it."""
    for one in (f"{module}.{name}", f"{module}.__init__"):
        if one.startswith("distbp.") and one.removeprefix("distbp.") in MODULES and one != "distbp.__init__":
            return one
    return module


def package(name: str) -> str:
    return name.partition(".")[0] if "." in name else ""


@pytest.mark.parametrize("library", USERS)
def test_a_library_is_used_where_it_belongs(library: str) -> None:
    assert {name for name in MODULES if library in imports(name)} == USERS[library]


@pytest.mark.parametrize("name", [name for name in MODULES if package(name) == "mathematics"])
def test_the_mathematics_needs_numpy_alone(name: str) -> None:
    standard = {"__future__", "collections", "dataclasses", "functools", "itertools", "math", "typing"}
    standard |= {"importlib", "pkgutil"} if name.endswith(".__init__") else set()
    others = {other for other in imports(name) - standard if package(other) != "mathematics"}
    assert others <= {"numpy"}


@pytest.mark.parametrize("name", [name for name in MODULES if package(name)])
def test_packages_stand_on_those_before_them(name: str) -> None:
    below = ORDER[: ORDER.index(package(name)) + 1]
    mine = {other for other in imports(name) if other in MODULES}
    assert {other for other in mine - GROUND if package(other) not in below} == set()


def test_no_circles() -> None:
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in order:
            for other in sorted(imports(name) & set(MODULES)):
                visit(other, (*path, name))
            order.append(name)

    for name in MODULES:
        visit(name, ())


def test_no_drawer_for_odds_and_ends() -> None:
    names = {part for name in MODULES for part in name.split(".")}
    assert not {"utils", "util", "common", "helpers", "misc"} & names
