#!/usr/bin/env bash
# h5py reads a value that is outside an enumeration of few bits as the last member.
#
# Expected: the byte that is stored, 255, which no member has, so that it can be told from all of them. HDF5 allows an
# enumeration whose base type uses fewer bits than its bytes have; R's package hdf5r writes factors so (as many bits as
# the levels need) and stores a missing one as 255.
# Happens: h5py shows uint8 and converts: what does not fit becomes the largest number of that many bits. With 3, 7 or
# 15 levels that is the code of the last level: missing values count as that class and cannot be found again. Reading
# with the data set's own type gives 255.
# Versions: h5py 3.16.0 (HDF5 2.0.0), NumPy 2.4.6, Python 3.11.
# Source: HDF5 user guide, datatypes (precision, enumerations); h5py documentation, enumerated types.
# Seen:
#   levels a 1, b 2, c 3 in 2 bits; stored 1, 2, 3, 255
#   h5py [1, 2, 3, 3], with the data set's own type [1, 2, 3, 255]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import h5py
import numpy as np
from h5py import h5d, h5s, h5t

base = h5t.NATIVE_UINT8.copy()
base.set_precision(2)
kind = h5t.enum_create(base)
for code, level in enumerate((b"a", b"b", b"c"), 1):
    kind.enum_insert(level, code)
with h5py.File("y.h5", "w") as file:
    y = h5d.create(file.id, b"y", kind, h5s.create_simple((4,)))
    y.write(h5s.ALL, h5s.ALL, np.array([1, 2, 3, 255], np.uint8), kind)
with h5py.File("y.h5") as file:
    plain, own = file["y"][:].tolist(), np.empty(4, np.uint8)
    file["y"].id.read(h5s.ALL, h5s.ALL, own, file["y"].id.get_type())
print("levels a 1, b 2, c 3 in 2 bits; stored 1, 2, 3, 255")
print(f"h5py {plain}, with the data set's own type {own.tolist()}")
if plain != [1, 2, 3, 3] or own.tolist() != [1, 2, 3, 255]:
    sys.exit("changed: 255 used to be read as 3")
PY
"$folder/venv/bin/python" check.py
