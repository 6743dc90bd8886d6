#!/usr/bin/env bash
# safetensors saves a transposed matrix with its numbers in other places.
#
# Expected: the values of the array, as version 0.5.3 stores them, or a refusal: the documentation asks for contiguous
# and dense arrays, and nothing tells that this is not checked.
# Happens: `safetensors.numpy.save_file({"w": a.T})` stores the memory of `a` under the shape of `a.T`: of a layer's
# weights, turned for a library that has inputs and outputs the other way round, only the corners are right. Of one
# column, `a[:, 1]`, it stores the numbers that lie side by side. Names, shapes and types are right; rows `a[1:3]` are.
# Versions: safetensors 0.8.0, and 0.5.3, which is right; NumPy 2.4.6, Python 3.11.
# Source: documentation of safetensors.numpy.save_file.
# Seen:
#   0.5.3: [[0, 3], [1, 4], [2, 5]] -> [[0, 3], [1, 4], [2, 5]], [1, 4] -> [1, 4]
#   0.8.0: [[0, 3], [1, 4], [2, 5]] -> [[0, 1], [2, 3], [4, 5]], [1, 4] -> [1, 2]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.5.3 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

a = np.arange(6).reshape(2, 3)
save_file({"column": a[:, 1], "transposed": a.T}, "a.safetensors")
read = load_file("a.safetensors")
column, transposed = read["column"].tolist(), read["transposed"].tolist()
print(f"{safetensors.__version__}: {a.T.tolist()} -> {transposed}, {a[:, 1].tolist()} -> {column}")
right = column == [1, 4] and transposed == a.T.tolist()
if right != (safetensors.__version__ == "0.5.3"):
    sys.exit("changed: 0.5.3 used to be right and 0.8.0 wrong")
PY
"$folder/venv/bin/python" check.py
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0
"$folder/venv/bin/python" check.py
