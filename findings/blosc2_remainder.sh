#!/usr/bin/env bash
# Blosc2: the remainder of a negative number has the other sign than in Python and NumPy.
#
# Expected: `blosc2.remainder(a, 3)` of -7 is 2; its documentation says that it is Python's modulus operator, the array
# API standard (which Blosc2 follows) that the result has the sign of the divisor.
# Happens: it is -1, the remainder of C, for integers and floating point numbers, for `a % 3` as well; in an array of
# one element it is 2. A condition such as `a % 4 == 3` (a phase, an hour of the day) misses all negative rows.
# Versions: blosc2 4.14.1, NumPy 2.4.6, Python 3.11.
# Source: documentation of blosc2.remainder; array API standard, remainder.
# Seen:
#   -7 mod 3: NumPy 2; blosc2 2 in an array of one, -1 in an array of two
#   a % 4 == 3 in -6 ... 5: blosc2 finds 1, NumPy 3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check blosc2==4.14.1 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import blosc2
import numpy as np

a = np.arange(-6, 6)
one, two = (int(blosc2.remainder(blosc2.asarray(np.full(n, -7)), 3)[:][0]) for n in (1, 2))
found, true = int((blosc2.asarray(a) % 4 == 3)[:].sum()), int((a % 4 == 3).sum())
print(f"-7 mod 3: NumPy {np.remainder(-7, 3)}; blosc2 {one} in an array of one, {two} in an array of two")
print(f"a % 4 == 3 in -6 ... 5: blosc2 finds {found}, NumPy {true}")
if (one, two, found, true) != (2, -1, 1, 3):
    sys.exit("changed: the remainder used to have the sign of the dividend")
PY
"$folder/venv/bin/python" check.py
