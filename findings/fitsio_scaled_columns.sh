#!/usr/bin/env bash
# fitsio reads a table with one scaled column as other numbers, in the columns beside it too.
#
# Expected: 10.5, 11, 11.5, ... as the FITS standard defines TSCALn and TZEROn (value = zero + scale * stored), and as
# astropy reads the file; and a column without them as it is stored. fitsio scales images of 16 and 32 bits so.
# Happens: `fitsio.read(file)` gives 10 for all of the scaled column, and for the plain integer column beside it numbers
# made of the bytes of its neighbours (720898 instead of 11). Asking for the plain column alone gives the right ones.
# Versions: fitsio 1.4.2, astropy 8.0.2 (it writes the file), NumPy 2.4.6, Python 3.11.
# Source: FITS standard, section on binary tables; fitsio's documentation of read, which says that all data are read.
# Seen:
#   astropy  counts [10.5, 11.0, 11.5, 12.0, 12.5]  label [11, 12, 13, 14, 15]
#   fitsio   counts [10.0, 10.0, 10.0, 10.0, 10.0]  label [720898, 196608, 14, 983040, 0]
#   fitsio, one column: label [11, 12, 13, 14, 15]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check fitsio==1.4.2 astropy==8.0.2 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import fitsio
import numpy as np
from astropy.io import fits

table = fits.BinTableHDU.from_columns([
    fits.Column("counts", "I", array=np.arange(1, 6, dtype=np.int16)),
    fits.Column("label", "J", array=np.arange(11, 16, dtype=np.int32)),
])
table.header["TSCAL1"], table.header["TZERO1"] = 0.5, 10.0
table.writeto("table.fits")
one, other = fits.getdata("table.fits"), fitsio.read("table.fits")
alone = fitsio.read("table.fits", columns="label").tolist()
print("astropy  counts", one["counts"].tolist(), " label", one["label"].tolist())
print("fitsio   counts", other["counts"].tolist(), " label", other["label"].tolist())
print("fitsio, one column: label", alone)
if one["counts"].tolist() != [10.5, 11, 11.5, 12, 12.5] or one["label"].tolist() != [11, 12, 13, 14, 15]:
    sys.exit("changed: astropy used to read the file right")
if other["counts"].tolist() == one["counts"].tolist() or other["label"].tolist() == one["label"].tolist():
    sys.exit("changed: fitsio used to read both columns wrong")
if alone != [11, 12, 13, 14, 15]:
    sys.exit("changed: the plain column alone used to be right")
PY
"$folder/venv/bin/python" check.py
