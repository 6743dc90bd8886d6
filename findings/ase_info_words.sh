#!/usr/bin/env bash
# ASE: words in an extended XYZ file become other values: the molecule "F" is read as False.
#
# Expected: `atoms.info["smiles"] = "F"` comes back as the text "F": ASE writes text and numbers by its own rules, and
# knows when it writes that the value was text.
# Happens: text is written bare and guessed when it is read: "F" and "T" are False and True, "01" is 1, "1e3" is 1000.0,
# "1 2" is an array. Labels, folds and identifiers of a data set lose their type, and "01" and "1" are one group. None,
# a missing value, is read as True.
# Versions: ASE 3.29.0, NumPy 2.4.6, Python 3.11.
# Source: ASE documentation, ase.io.extxyz (key=value pairs; quotes are said to protect blanks).
# Seen:
#   'F' -> False, 'O' -> 'O', '01' -> 1, '1e3' -> 1000.0, None -> True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ase==3.29.0 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

from ase import Atoms
from ase.io import read, write

given = {"hf": "F", "water": "O", "fold": "01", "name": "1e3", "missing": None}
atoms = Atoms("H")
atoms.info.update(given)
write("a.xyz", atoms, format="extxyz")
info = read("a.xyz", format="extxyz").info
seen = {key: value.item() if hasattr(value, "item") else value for key, value in info.items()}
print(", ".join(f"{given[key]!r} -> {seen[key]!r}" for key in given))
if list(map(repr, seen.values())) != ["False", "'O'", "1", "1000.0", "True"]:
    sys.exit("changed: they used to be False, 'O', 1, 1000.0, True")
PY
"$folder/venv/bin/python" check.py
