#!/usr/bin/env bash
# HDF5's scale-offset filter makes an ordinary number of a NaN.
#
# Expected: `create_dataset(..., scaleoffset=2)` keeps two decimals of each value, as h5py's documentation says, and
# what has no decimals (NaN) stays or is refused: infinities are kept, the filter then stores the chunk as it is.
# Happens: NaN comes back as a value of the same chunk (20.1 here), finite and plausible. Missing values of a sensor
# become measurements. Whether a NaN survives depends on its place: one in first place does, and turns other NaN into
# NaN as well.
# Versions: h5py 3.16.0 (HDF5 2.0.0), NumPy 2.4.6, Python 3.11.
# Source: h5py documentation, datasets, lossy scale-offset filter; HDF5's H5Pset_scaleoffset.
# Seen:
#   [20.1, 20.2, nan, 20.4] -> [20.1, 20.2, 20.1, 20.4]
#   [20.1, 20.2, inf, 20.4] -> [20.1, 20.2, inf, 20.4]
#   of 100 NaN in 1000 numbers are left: 0
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


def stored(x, decimals):
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=x.shape, scaleoffset=decimals)
    with h5py.File("x.h5") as file:
        return file["x"][:]


nan, inf = np.array([20.1, 20.2, np.nan, 20.4]), np.array([20.1, 20.2, np.inf, 20.4])
print(nan.tolist(), "->", np.round(stored(nan, 2), 3).tolist())
print(inf.tolist(), "->", np.round(stored(inf, 2), 3).tolist())
many = np.random.default_rng(0).normal(size=1000)
many[5::10] = np.nan
left = int(np.isnan(stored(many, 2)).sum())
print("of 100 NaN in 1000 numbers are left:", left)
if not np.isfinite(stored(nan, 2)).all() or not np.isinf(stored(inf, 2)[2]) or left:
    sys.exit("changed: NaN used to become finite numbers, and the infinity used to stay")
PY
"$folder/venv/bin/python" check.py
