#!/usr/bin/env bash
# astropy: a column of signed bytes is true and false after a round trip through FITS.
#
# Expected: the numbers, or an error. FITS binary tables have no signed byte of their own, but astropy writes int8
# IMAGES exactly (unsigned bytes and BZERO = -128, as the standard says), and int16, uint16, uint32 and uint64 columns
# by the same means.
# Happens: `Table.write` stores an int8 column as LOGICAL: -3, 0, 5 come back as True, False, True. No warning; labels
# of -1 and 1, or quantised weights, are one class afterwards.
# Versions: astropy 8.0.2, NumPy 2.4.6, Python 3.11.
# Source: FITS standard, section on binary tables, TZEROn for integers of the other sign; astropy documentation of
# unsigned integers in FITS.
# Seen:
#   table: int8 [-3, 0, 5] -> bool [True, False, True]
#   image: int8 [-3, 0, 5] -> int8 [-3, 0, 5]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check astropy==8.0.2 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import numpy as np
from astropy.io import fits
from astropy.table import Table

values = np.array([-3, 0, 5], np.int8)
Table({"x": values}).write("table.fits")
fits.PrimaryHDU(values).writeto("image.fits")
table, image = Table.read("table.fits")["x"], fits.getdata("image.fits")
print("table:", values.dtype, values.tolist(), "->", table.dtype, table.tolist())
print("image:", values.dtype, values.tolist(), "->", image.dtype, image.tolist())
if table.tolist() != [True, False, True] or image.tolist() != [-3, 0, 5]:
    sys.exit("changed: the table's column used to come back as [True, False, True]")
PY
"$folder/venv/bin/python" check.py
