#!/usr/bin/env bash
# MPICH: mpirun returns 0 for a job whose ranks it has ended in the midst of their work.
#
# Expected: where one rank leaves before MPI_Finalize, though with exit code 0, and the launcher therefore ends all
# others before their work is done, mpirun says so and returns another code than 0, as Open MPI's does. A batch script
# goes by that code.
# Happens: mpirun ends the other rank, which has written nothing yet, prints no word, and returns 0: the largest code of
# the ranks that ended by themselves. A job that was cut short looks like one that is done.
# Versions: MPICH 5.0.2 (wheel mpich), mpi4py 4.1.2, Python 3.11; for comparison Open MPI 5.0.11: code 1 and a message.
# Source: MPI 4.1, section 11.2.2 (a process that was initialized calls MPI_Finalize before it exits); Hydra's help
# speaks of -disable-auto-cleanup, the default being that processes are cleaned up on error.
# Seen:
#   mpirun returned 0
#   rank 0 has written nothing
#   words: none
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mpich==5.0.2 mpi4py==4.1.2
cd "$folder"
cat >job.py <<'PY'
import os
import time
from pathlib import Path

from mpi4py import MPI

if MPI.COMM_WORLD.rank == 1:
    os._exit(0)  # as a library does that ends its process without a word to MPI
time.sleep(3)
Path("result").touch()
PY
code=0
timeout 60 venv/bin/mpirun -n 2 venv/bin/python job.py >words 2>&1 || code=$?
echo "mpirun returned $code"
[ -e result ] && echo "rank 0 has written its result" || echo "rank 0 has written nothing"
[ -s words ] && cat words || echo "words: none"
if [ "$code" != 0 ] || [ -e result ] || [ -s words ]; then
    echo "changed: mpirun returned 0, without a word, and rank 0 had written nothing"
    exit 1
fi
