#!/usr/bin/env bash
# SciPy's netcdf_file: a variable that nobody fills destroys the numbers of the others.
#
# Expected: variables over the unlimited dimension may have different numbers of records; the missing ones are filled
# up, as SciPy does with a variable of 3 records beside one of 5, and as the netCDF library does with one of 0.
# Happens: a variable that was created and has no record yet (a run stopped early, a flag never raised) is not filled
# up. The file is written as if it were, so the others' numbers stand at wrong places: 1, 2, 3, 4, 5 is read as 1, 0, 0,
# 0, 0. No error in writing, none in reading by the netCDF library.
# Versions: SciPy 1.17.1, netCDF4 1.7.5.1.post1 (it reads), NumPy 2.4.6, Python 3.11.
# Source: documentation of scipy.io.netcdf_file and createVariable; classic netCDF format, record variables.
# Seen:
#   beside 3 records: [1.0, 2.0, 3.0, 4.0, 5.0]
#   beside 0 records: [1.0, 0.0, 0.0, 0.0, 0.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 netCDF4==1.7.5.1.post1 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import netCDF4
import numpy as np
from scipy.io import netcdf_file

read = []
for records in (3, 0):
    with netcdf_file("x.nc", "w") as file:
        file.createDimension("time", None)
        file.createVariable("x", "f4", ("time",))[:] = np.arange(1, 6)
        other = file.createVariable("other", "f4", ("time",))
        if records:
            other[:] = np.arange(records)
    with netCDF4.Dataset("x.nc") as file:
        read.append(file["x"][:].tolist())
    print(f"beside {records} records:", read[-1])
if read[0] != [1, 2, 3, 4, 5] or read[1] == read[0]:
    sys.exit("changed: beside a variable without records the numbers used to be wrong")
PY
"$folder/venv/bin/python" check.py
