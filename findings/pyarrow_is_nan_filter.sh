#!/usr/bin/env bash
# PyArrow: the filter "is NaN" does not find the NaN rows of a Parquet file.
#
# Expected: `read_table(file, filters=e)` gives the rows of `read_table(file).filter(e)`. The documentation says that
# rows which do not match the predicate are removed, and `pyarrow.compute.is_nan` is true where a value is NaN.
# Happens: a row group is judged by its least and greatest value, from which the Parquet format leaves NaN out. Where
# all other values of a row group are equal the column counts as that constant, for which "is NaN" is false, and so its
# NaN rows are gone: a search for bad values says that there are none. `x != 5` loses them too.
# Versions: PyArrow 26.0.1, NumPy 2.4.6, Python 3.11.
# Source: documentation of pyarrow.parquet.read_table (filters); the Parquet format's text on statistics, by which a
# reader that looks for NaN ignores them.
# Seen:
#   is NaN: 3 rows after reading all, 1 through filters
#   x != 5: 5 rows after reading all, 3 through filters
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
import pyarrow.compute as pc
import pyarrow.parquet as pq

nan = np.nan
pq.write_table(pa.table({"x": [5.0, 5.0, nan, 5.0, nan, 5.0, 1.0, nan, 2.0]}), "x.parquet", row_group_size=3)
counts = []
for name, filters in (("is NaN", pc.is_nan(pc.field("x"))), ("x != 5", pc.field("x") != 5)):
    counts.append((pq.read_table("x.parquet").filter(filters).num_rows,
                   pq.read_table("x.parquet", filters=filters).num_rows))
    print(f"{name}: {counts[-1][0]} rows after reading all, {counts[-1][1]} through filters")
if counts != [(3, 1), (5, 3)]:
    sys.exit(f"changed: the counts were [(3, 1), (5, 3)] and are {counts}")
PY
"$folder/venv/bin/python" check.py
