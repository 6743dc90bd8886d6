#!/usr/bin/env bash
# PyArrow: one element of a tensor column is not what the whole column says that it is.
#
# Expected: for a FixedShapeTensorArray, `array[0].to_numpy()` equals `array.to_numpy_ndarray()[0]`. The documentation
# of the scalar's `to_numpy` promises the permuted shape, and that of `to_tensor` the type's shape and strides.
# Happens: where the type has a permutation (made by `from_numpy_ndarray` from any array whose axes were exchanged, as
# images from channels last to channels first) the element has the right shape and numbers in the wrong places: the
# strides are not permuted as the shape is. Rows taken one by one are scrambled, rows taken together are right.
# Versions: PyArrow 26.0.1, NumPy 2.4.6, Python 3.11.
# Source: documentation of pyarrow.FixedShapeTensorScalar.to_numpy and to_tensor, and of FixedShapeTensorArray.
# Seen:
#   given            [[0, 3], [1, 4], [2, 5]]
#   whole column, 0  [[0, 3], [1, 4], [2, 5]]
#   element 0        [[0, 2], [1, 3], [2, 4]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import numpy as np
import pyarrow as pa

given = np.arange(12).reshape(2, 2, 3).transpose(0, 2, 1)
column = pa.FixedShapeTensorArray.from_numpy_ndarray(given)
whole, element = column.to_numpy_ndarray()[0].tolist(), column[0].to_numpy().tolist()
print("given           ", given[0].tolist())
print("whole column, 0 ", whole)
print("element 0       ", element)
if whole != given[0].tolist() or element != [[0, 2], [1, 3], [2, 4]]:
    sys.exit("changed: the column was right, and its element was [[0, 2], [1, 3], [2, 4]]")
PY
"$folder/venv/bin/python" check.py
