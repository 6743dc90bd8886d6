#!/usr/bin/env bash
# fastparquet reads whole numbers that are far apart wrongly when they are stored as differences.
#
# Expected: the numbers that were written. DELTA_BINARY_PACKED is an encoding of the Parquet format for integers;
# fastparquet decodes it; encodings that it does not have it refuses by name.
# Happens: a column of 32-bit hashes, written by PyArrow: 99 of 100 values are wrong, in a column of the right length
# and type, without a word. Numbers that lie closer, whose differences fit into 28 bits, are right. PyArrow itself and
# Polars read the same file right.
# Versions: fastparquet 2026.9.0, pandas 3.1.1, PyArrow 26.0.1, NumPy 2.4.6, Python 3.11.
# Source: Parquet format, Encodings, delta encoding: up to 32 bits for a difference of INT32, 64 for INT64;
# fastparquet's own list of what it reads.
# Seen:
#   numbers of 27 bits: 100.0 % right
#   numbers of 32 bits: 0.2 % right
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    fastparquet==2026.9.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import fastparquet
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

right = []
for bits in (27, 32):
    x = np.random.default_rng(0).integers(0, 2**bits, 1000, dtype=np.int64) - 2 ** (bits - 1)
    differences = {"x": "DELTA_BINARY_PACKED"}
    pq.write_table(pa.table({"x": x}), "x.parquet", use_dictionary=False, column_encoding=differences)
    if not np.array_equal(pq.read_table("x.parquet")["x"].to_numpy(), x):
        sys.exit("changed: PyArrow does not read its own file")
    with open("x.parquet", "rb") as file:
        read = fastparquet.ParquetFile(file).to_pandas()["x"].to_numpy()
    right.append(float((read == x).mean()))
    print(f"numbers of {bits} bits: {100 * right[-1]:.1f} % right")
if not (right[0] == 1 and right[1] < 0.05):
    sys.exit("changed: of numbers of 32 bits fewer than 5 % were right")
PY
"$folder/venv/bin/python" check.py
