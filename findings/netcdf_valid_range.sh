#!/usr/bin/env bash
# The same netCDF file, the same attribute: netCDF4-python hides four of five values, xarray none.
#
# Expected: of a packed variable (int16, scale 0.1) with valid_range given in the unpacked type, float64 0.0 to 50.0,
# the values 1.0 to 5.0 are valid everywhere: the netCDF guide's text on attributes has a range of the unpacked type
# apply to unpacked data.
# Happens: netCDF4-python compares the packed integers 10, 20, ... 100 with 0 to 50 whatever the type of the limits, and
# masks all that are above 5.0; xarray ignores valid_range, so that a value which is outside for everyone (-900 packed)
# is data.
# Versions: netCDF4 1.7.5.1.post1, xarray 2026.9.0, pandas 3.1.1, NumPy 2.4.6, Python 3.11.
# Source: netCDF users' guide, attribute conventions, valid_range; netCDF4-python documentation of set_auto_mask.
# Seen:
#   netCDF4 [1.0, None, None, None, None]
#   xarray  [1.0, 20.0, 30.0, 49.0, -90.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    netCDF4==1.7.5.1.post1 xarray==2026.9.0 pandas==3.1.1 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import netCDF4
import numpy as np
import xarray

with netCDF4.Dataset("t.nc", "w") as file:
    file.createDimension("n", 5)
    t = file.createVariable("t", "i2", ("n",))
    t.scale_factor, t.valid_range = 0.1, np.array([0.0, 50.0])
    t.set_auto_maskandscale(False)
    t[:] = [10, 200, 300, 490, -900]
with netCDF4.Dataset("t.nc") as file:
    one = file["t"][:].round(3).tolist()
with xarray.open_dataset("t.nc", engine="netcdf4") as data:
    other = data["t"].values.round(3).tolist()
print("netCDF4", one)
print("xarray ", other)
if one != [1, None, None, None, None] or other != [1, 20, 30, 49, -90]:
    sys.exit("changed: netCDF4 used to mask all but the first, xarray none")
PY
"$folder/venv/bin/python" check.py
