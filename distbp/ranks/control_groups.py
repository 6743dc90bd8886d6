"""The control groups of this process, by which a job or a container has less than the node: CPU quotas, memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TREE = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def groups(controller: str, tree: Path = TREE, membership: Path = MEMBERSHIP) -> Iterator[tuple[int, Path]]:
    """The version, 1 or 2, and the directory of each group that may limit this process, from its own one up.

    In a container the path may be one that is not seen from inside; the uppermost directory is then that of its group.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = _mounted(tree, controllers, controller)
        group = top / path.lstrip("/")
        while True:
            yield (1 if controllers else 2), group
            if group == top or top not in group.parents:
                break
            group = group.parent


def _mounted(tree: Path, controllers: str, controller: str) -> Path:
    """Of version 1 cpu,cpuacct or cpu; of version 2 the tree itself, or a part of it beside version 1."""
    names = (controllers, controller) if controllers else ("unified",)
    return next((tree / name for name in names if (tree / name).is_dir()), tree / controller if controllers else tree)


@dataclass(frozen=True)
class Quota:
    """So many cores' worth of time for all processes of a group together."""

    group: tuple[int, int]  # which one: processes that are in it see the same numbers here, also in a container
    cores: float


def quotas(tree: Path = TREE, membership: Path = MEMBERSHIP) -> tuple[Quota, ...]:
    """The CPU quotas that this process is under: its group's, and those of the groups above."""
    found = []
    for version, group in groups("cpu", tree, membership):
        try:
            cores = _cores(version, group)
            if cores is not None:
                status = group.stat()
                found.append(Quota((status.st_dev, status.st_ino), cores))
        except (OSError, ValueError, ZeroDivisionError):  # no such file: this group has no quota
            pass
    return tuple(found)


def _cores(version: int, group: Path) -> float | None:
    if version == 1:
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    else:
        quota, period = (group / "cpu.max").read_text().split()
    cores = None if quota == "max" else int(quota) / int(period)
    return cores if cores is not None and cores > 0 else None
