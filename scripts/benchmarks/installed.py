"""What a package takes on the disk, with all that it needs."""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path


def installed(name: str) -> str:
    """The version of a package, or ""."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def closure(names: list[str]) -> dict[str, Distribution]:
    """These packages and those they depend on, as far as they are installed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, Distribution] = {}
    todo = [canonicalize_name(name) for name in names]
    while todo:
        name = todo.pop()
        if name in found or not installed(name):
            continue
        found[name] = distribution(name)
        for text in found[name].requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(requirement.name))
    return found


def size(packages: dict[str, Distribution]) -> int:
    """Bytes of their files, without compiled Python; an editable distbp counts where it lies."""
    files = {
        Path(str(path.locate())).resolve()
        for package in packages.values()
        for path in package.files or []
        if "__pycache__" not in path.parts
    }
    if "distbp" in packages:
        import distbp

        files.update(path.resolve() for path in Path(distbp.__file__).parent.rglob("*") if path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files if path.is_file())
