"""The parts of a file that is split by the names in it: x_train, x_val, x_test; train_images, test_images; test/x."""

from __future__ import annotations

import re
from collections.abc import Sequence

PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "valid",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_WORDS = "|".join(sorted(PARTS, key=len, reverse=True))
_BEFORE = re.compile(rf"(?:.*[./])?(?P<part>{_WORDS})[_\-./](?P<base>.+)", re.IGNORECASE)
_BEHIND = re.compile(rf"(?P<base>.+)[_\-./](?P<part>{_WORDS})", re.IGNORECASE)


def by_part(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Of each part its columns: what they are called there, and their names in the file; {} for a file of one part.

    A file has parts if the names of two or more are in it, and each of them has two arrays, or all arrays have one.
    Names without one are the part "train" where others have the same name with "test" (x, y, x_test, y_test).
    """
    found: dict[str, dict[str, str]] = {}
    bare = []
    for name in names:
        match = _BEHIND.fullmatch(name) or _BEFORE.fullmatch(name)
        part = found.setdefault(PARTS[match["part"].lower()], {}) if match else {}
        if match and match["base"] not in part:
            part[match["base"]] = name
        else:
            bare.append(name)
    bases = {base for columns in found.values() for base in columns}
    if found and "train" not in found and bases <= set(bare):
        return {"train": {name: name for name in bare if name in bases}, **found}
    if len(found) < 2 or (bare and min(map(len, found.values())) < 2):
        return {}
    return {part: found[part] for part in dict.fromkeys(PARTS.values()) if part in found}


def part_of_path(path: str) -> str:
    """The part that a file belongs to by the folder it is in, or its name (train-00000-of-00002.parquet), or ""."""
    folders, _, name = path.rpartition("/")
    for step in folders.split("/"):
        if step.lower() in PARTS:
            return PARTS[step.lower()]
    match = re.match(rf"({_WORDS})(?=[_\-.])", name, re.IGNORECASE)
    return PARTS[match[1].lower()] if match else ""
