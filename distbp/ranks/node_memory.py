"""How much memory of this node is free: what the kernel says, and what the job's control groups leave; and taken."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from distbp.ranks.control_groups import groups

NO_LIMIT = 2**62
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def free_bytes() -> int:
    """Bytes that this process could still take, before the node or its job is out of memory."""
    return min(_available(), *_left_in_groups())


def group_bytes() -> int | None:
    """What the job's control groups leave; None where they have no limit."""
    left = min(_left_in_groups())
    return left if left < NO_LIMIT else None


def _available() -> int:
    available = _said_by_kernel("/proc/meminfo", "MemAvailable:")
    return 2**33 if available is None else available


def _said_by_kernel(path: str, name: str) -> int | None:
    """Bytes, of a line such as "MemAvailable:  1234 kB"; None where there is none."""
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _left_in_groups() -> list[int]:
    """Limit minus use of each control group above this process (versions 2 and 1)."""
    left = [NO_LIMIT]
    for version, group in groups("memory"):
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
        try:
            limit, used = ((group / name).read_text().strip() for name in names)
            if limit != "max":
                left.append(max(0, int(limit) - int(used) + _reclaimable(group)))
        except (OSError, ValueError):
            pass
    return left


def _reclaimable(group: Path) -> int:
    """File contents that the kernel keeps as long as nobody needs the memory."""
    found = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(found.get("inactive_file", 0)) + int(found.get("active_file", 0))


def taken_bytes() -> int:
    """Bytes that this process has taken; what it shares with others counts in parts (PSS), where the kernel says so."""
    shared_in_parts = _said_by_kernel("/proc/self/smaps_rollup", "Pss:")
    if shared_in_parts is not None:
        return shared_in_parts
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_units(size: float) -> str:
    """1.5 GiB"""
    unit = 0
    while size >= 1023.5 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.3g} {UNITS[unit]}" if size < 1000 else f"{size:.0f} {UNITS[unit]}"
