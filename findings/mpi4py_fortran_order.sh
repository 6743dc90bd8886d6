#!/usr/bin/env bash
# mpi4py adds and broadcasts arrays in the order of their memory, not of their indices.
#
# Expected: `Allreduce` of two arrays of one shape adds element (i, j) to element (i, j), as `allreduce` does, or
# refuses: arrays with gaps and of the other byte order are refused.
# Happens: an array in Fortran order (what `X.T`, `asfortranarray`, many readers of MATLAB's files and SciPy's linear
# algebra give) is contiguous and is taken. Where the other rank's is in C order, elements of different indices are
# added, on all ranks, and a broadcast matrix arrives scrambled. Shape and type agree, nothing is said. One rank of a
# program that takes another branch, or reads from another kind of file, is enough.
# Versions: mpi4py 4.1.2, MPICH 5.0.2, NumPy 2.4.6, Python 3.11, 2 ranks.
# Source: mpi4py tutorial (upper-case methods take NumPy arrays as buffers; layout is not mentioned).
# Seen:
#   sum of [[0, 1, 2], [3, 4, 5]] and itself: [[0, 3, 6], [4, 7, 10]]
#   [[0, 1, 2], [3, 4, 5]] after Bcast: [[0, 3, 1], [4, 2, 5]]
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
a = np.arange(6).reshape(2, 3)
mine = np.asfortranarray(a) if world.rank == 0 else a.copy()
total, matrix = np.empty_like(mine), mine if world.rank == 0 else np.zeros_like(mine)
world.Allreduce(mine, total)
world.Bcast(matrix, root=0)
seen = world.gather((total.tolist(), matrix.tolist()))
if world.rank == 0:
    print("sum of", a.tolist(), "and itself:", seen[0][0])
    print(a.tolist(), "after Bcast:", seen[1][1], flush=True)
    if seen[0][0] != [[0, 3, 6], [4, 7, 10]] or seen[1][1] != [[0, 3, 1], [4, 2, 5]]:
        sys.exit("changed: sums and copies used to follow memory")
PY
"$folder/venv/bin/mpirun" -n 2 "$folder/venv/bin/python" check.py
