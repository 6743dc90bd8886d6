#!/usr/bin/env bash
# Awkward Array: the sum of a list of float32 stops growing at 2^24.
#
# Expected: `ak.sum(lists, axis=-1)` is NumPy's sum, as its documentation says for lists of one length, up to rounding.
# Happens: along an axis the numbers are added one after the other in float32, where NumPy adds in pairs: 20 million
# ones make 16777216, off by 16 %. `ak.sum` without an axis gives 20000000, `ak.mean` along the axis 1: the sum is not
# the mean times the number. With 0.1 the sum is off by one percent after a million.
# Versions: awkward 2.14.0, NumPy 2.4.6, Python 3.11.
# Source: documentation of ak.sum ("the same as NumPy's" for regular lists, in its words); NumPy's notes on pairwise
# sums.
# Seen:
#   ones   along the axis 16777216, all at once 20000000, NumPy 20000000; mean 1.0
#   tenths along the axis 100958, NumPy 100000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check awkward==2.14.0 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import awkward
import numpy as np

n, ones = 20_000_000, np.ones((1, 20_000_000), np.float32)
along, at_once = float(awkward.sum(ones, axis=-1)[0]), float(awkward.sum(ones))
mean = float(awkward.mean(awkward.from_numpy(ones), axis=-1)[0])
print(f"ones   along the axis {along:.0f}, all at once {at_once:.0f}, NumPy {ones.sum(axis=1)[0]:.0f}; mean {mean}")
tenths = np.full((1, 1_000_000), 0.1, np.float32)
tenth = float(awkward.sum(tenths, axis=-1)[0])
print(f"tenths along the axis {tenth:.0f}, NumPy {tenths.sum(axis=1)[0]:.0f}")
if along != 2**24 or at_once != n or tenth < 100_500:
    sys.exit("changed: the sums along an axis used to be added one after the other")
PY
"$folder/venv/bin/python" check.py
