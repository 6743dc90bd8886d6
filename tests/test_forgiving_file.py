"""A file that keeps errors for who closes it, and is silent where nobody does."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from runs import Runner

from distbp.files.forgiving_file import ForgivingFile

# In the development mode every Python says what a finalizer raises; without it 3.13 and later do.
LEFT_BEHIND = """
import os
from pathlib import Path
from distbp.files.forgiving_file import ForgivingFile

try:
    ForgivingFile(Path("no such directory") / "file")
except FileNotFoundError:
    print("not opened")
full = os.open("/dev/full", os.O_RDWR)
left = ForgivingFile(full)
left.write(b"lost")
del left
at_the_end = ForgivingFile(full)
at_the_end.write(b"lost")
at_the_end.cycle = at_the_end
open_before = len(os.listdir("/dev/fd"))
ForgivingFile(full)
print(len(os.listdir("/dev/fd")) - open_before)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_one_that_nobody_closes_ends_in_silence(runner: Runner) -> None:
    result = runner.run(sys.executable, "-X", "dev", "-c", LEFT_BEHIND)
    assert (result.returncode, result.stdout, result.stderr) == (0, "not opened\n0\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_who_closes_it_is_told() -> None:
    full = os.open("/dev/full", os.O_RDWR)
    file = ForgivingFile(full)
    os.close(full)
    assert file.write(b"lost") == 4
    for ask in (file.check, file.close):
        with pytest.raises(OSError, match="No space left") as error:
            ask()
        assert error.value.errno == errno.ENOSPC
    file.close()  # is closed
