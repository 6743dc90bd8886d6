"""The pages that `distbp help` shows: where they are, what they are called, in which order they are listed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from distbp.errors import DistbpError

# In the order in which a new user needs them. Other pages follow by name.
FIRST = ("install", "training", "data", "python", "cluster", "slurm", "reproducibility", "performance", "proposal")


@dataclass(frozen=True)
class Topic:
    """A page: `name` is what follows `distbp help`, `title` is the first line of the page."""

    name: str
    title: str
    file: Path

    def text(self) -> str:
        """The page as it was written, in Markdown."""
        return self.file.read_text(encoding="utf-8")


def topics() -> list[Topic]:
    """All pages. Raises DistbpError if this installation has none."""
    files = {file.stem: file for file in _directory().glob("*.md")}
    slurm = _directory().parent / "slurm" / "README.md"  # in a checkout it stands beside its scripts
    if "slurm" not in files and slurm.exists():
        files["slurm"] = slurm
    order = [*(name for name in FIRST if name in files), *sorted(set(files) - set(FIRST))]
    return [Topic(name, _title(files[name]), files[name]) for name in order]


def _title(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        return next(lines, "").lstrip("#").strip()


def _directory() -> Path:
    package = Path(__file__).resolve().parent.parent
    for directory in (package / "docs", package.parent / "docs"):  # a wheel; a checkout
        if directory.is_dir():
            return directory
    raise DistbpError(f"{package / 'docs'}: the pages are missing from this installation; install distbp again")
