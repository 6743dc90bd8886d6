#!/usr/bin/env bash
# MPI_Allreduce of a maximum, with one NaN: the ranks go on with different results.
#
# Expected: after an Allreduce all ranks hold the same value, NaN or a number; the MPI standard describes it as a
# reduction whose result all processes receive. Programs rely on it: all decide alike whether to stop.
# Happens: with MPICH and 4 ranks, of which rank 1 has NaN and the others their number, the maximum is 3, 3, nan, 3, and
# the minimum is 2, 0, nan, 0: a rank may get a number that is wrong without a NaN in sight. MPI_MAX compares with ">",
# for which NaN is never greater, and each rank compares in an order of its own. Open MPI 5.0.11 gave 3 on all ranks,
# and nan on all ranks when rank 0 had it.
# Versions: MPICH 5.0.2, mpi4py 4.1.2, NumPy 2.4.6, Python 3.11, 4 ranks on one machine.
# Source: MPI standard, chapter on collective communication, all-reduce and predefined operations (NaN is not
# mentioned).
# Seen:
#   MAX by rank [3.0, 3.0, nan, 3.0]
#   MIN by rank [2.0, 0.0, nan, 0.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mpich==5.0.2 mpi4py==4.1.2 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import numpy as np
from mpi4py import MPI

world = MPI.COMM_WORLD
mine, differ = np.array([np.nan if world.rank == 1 else world.rank], np.float64), []
for name, operation in (("MAX", MPI.MAX), ("MIN", MPI.MIN)):
    result = np.empty(1)
    world.Allreduce(mine, result, operation)
    results = world.allgather(float(result[0]))
    differ.append(len({str(r) for r in results}) > 1)
    if world.rank == 0:
        print(name, "by rank", results, flush=True)
if not all(differ):
    sys.exit("changed: the ranks used to have different results")
PY
"$folder/venv/bin/mpirun" -n 4 "$folder/venv/bin/python" check.py
