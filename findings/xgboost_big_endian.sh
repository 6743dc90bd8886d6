#!/usr/bin/env bash
# XGBoost takes big-endian arrays (what readers of FITS and netCDF-3 return) for little-endian numbers.
#
# Expected: the same numbers for any NumPy dtype that it accepts, or a refusal: PyArrow's arrays and mpi4py refuse,
# Polars converts. The array interface by which XGBoost reads NumPy arrays carries the byte order in its first letter.
# Happens: features, labels and weights are read with their bytes reversed: 1 becomes 4.6e-41 as float32 and 16777216 as
# int32, labels of 0.0 and 1.0 (float64) become 0 and 0. Training goes on and says nothing. Left over is a model that is
# right only for data in the same byte order.
# Versions: xgboost-cpu 3.2.0, NumPy 2.4.6, Python 3.11.
# Source: documentation of xgboost.DMatrix (NumPy arrays are taken as data and label); NumPy's array interface protocol.
# Seen:
#   float32 [[1.0, 2.0]] -> [[4.600602988224807e-41, 8.96831017167883e-44]]
#   int32   [[1.0, 2.0]] -> [[16777216.0, 33554432.0]]
#   labels  [0.0, 1.0] (float64) -> [0.0, 0.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check xgboost-cpu==3.2.0 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import numpy as np
import xgboost

x = np.array([[1.0, 2.0]])
single = xgboost.DMatrix(x.astype(">f4")).get_data().toarray().tolist()
whole = xgboost.DMatrix(x.astype(">i4")).get_data().toarray().tolist()
label = xgboost.DMatrix(np.zeros((2, 1)), label=np.array([0.0, 1.0], ">f8")).get_label().tolist()
print("float32", x.tolist(), "->", single)
print("int32  ", x.tolist(), "->", whole)
print("labels  [0.0, 1.0] (float64) ->", label)
if single[0][0] > 1e-40 or whole != [[2.0**24, 2.0**25]] or label != [0, 0]:
    sys.exit("changed: big-endian numbers used to be read with their bytes reversed")
PY
"$folder/venv/bin/python" check.py
