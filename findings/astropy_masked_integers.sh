#!/usr/bin/env bash
# astropy: in a masked column of bytes the number 63 goes missing when the table is written to FITS.
#
# Expected: write a table with a MaskedColumn to FITS, read it, and have the same values and the same mask; the unified
# input and output page says that masked values are kept. The column's own fill value was never set.
# Happens: the masked places are stored as the column's fill value, which by default is 999999 cut to the column's
# width: 63 for uint8, 16959 for int16 and uint16. Every true 63 is masked after reading, also where nothing in the
# column was masked. Other readers (fitsio) show 63 for the missing ones.
# Versions: astropy 8.0.2, NumPy 2.4.6, Python 3.11.
# Source: astropy documentation, table and FITS input and output, masked columns; FITS standard, TNULLn: a value that
# stands for "undefined" and so must be one that the data do not have.
# Seen:
#   uint8 [62, 63, 64, 65] -> [62, None, 64, 65]
#   uint8 [62, 63, 64, None] -> [62, None, 64, None]
#   int16 [16958, 16959, 16960, None] -> [16958, None, 16960, None]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check astropy==8.0.2 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import numpy as np
from astropy.table import MaskedColumn, Table

for kind, values, masked in (("uint8", [62, 63, 64, 65], False), ("uint8", [62, 63, 64, 65], True),
                             ("int16", [16958, 16959, 16960, 1], True)):
    column = MaskedColumn(np.array(values, kind), mask=[False, False, False, masked], name="count")
    Table([column], masked=True).write("count.fits", overwrite=True)
    read = Table.read("count.fits")["count"].tolist()
    print(kind, column.tolist(), "->", read)
    if read != [values[0], None, values[2], None if masked else values[3]]:
        sys.exit("changed: the second value used to be masked as well")
PY
"$folder/venv/bin/python" check.py
