#!/usr/bin/env bash
# netCDF: rounding to significant digits turns infinity into zero.
#
# Expected: infinities and NaN are kept, as the mode BitRound keeps them, or refused. The netCDF documentation of
# quantisation excepts the fill value only, and speaks of relative errors.
# Happens: with three significant digits, GranularBitRound stores -0 for inf and 0 for -inf: an overflow that would have
# been seen is an ordinary zero. BitGroom (the default mode of `significant_digits`) makes every second one a NaN.
# Versions: netCDF4 1.7.5.1.post1 (netCDF-C 4.10.1), NumPy 2.4.6, Python 3.11.
# Source: netCDF4-python documentation of createVariable (significant_digits, quantize_mode); netCDF-C's page on
# quantization.
# Seen:
#   BitGroom          [inf, -inf] -> [inf, nan]
#   GranularBitRound  [inf, -inf] -> [-0.0, 0.0]
#   BitRound          [inf, -inf] -> [inf, -inf]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check netCDF4==1.7.5.1.post1 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import netCDF4
import numpy as np

x, seen = np.array([np.inf, -np.inf], np.float32), []
with netCDF4.Dataset("x.nc", "w") as file:
    file.createDimension("n", 2)
    for mode in ("BitGroom", "GranularBitRound", "BitRound"):
        digits = 10 if mode == "BitRound" else 3
        file.createVariable(mode, "f4", ("n",), zlib=True, significant_digits=digits, quantize_mode=mode)[:] = x
with netCDF4.Dataset("x.nc") as file:
    file.set_auto_mask(False)
    for mode in file.variables:
        seen.append(str(file[mode][:].tolist()))
        print(f"{mode:<17} {x.tolist()} -> {seen[-1]}")
if seen != ["[inf, nan]", "[-0.0, 0.0]", "[inf, -inf]"]:
    sys.exit("changed: two of the modes used to lose the infinity")
PY
"$folder/venv/bin/python" check.py
