"""MATLAB's files, of SciPy, hdf5storage and Octave."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from family import DATA, Case, Truth, check_equal, classes_of, family, generator, last


@family("scipy")
def matlab_v5(folder: Path) -> Case:
    """EMNIST: MATLAB v5, nested structures with a train and a test part."""
    from scipy.io import savemat

    x = generator().integers(0, 256, (320, 16)).astype(np.uint8)
    y = classes_of(x, 3) + 1
    parts = {
        part: {"images": x[rows], "labels": y[rows, None].astype(np.uint8), "writers": np.arange(len(x[rows]))[:, None]}
        for part, rows in (("train", slice(0, 240)), ("test", slice(240, 320)))
    }
    mapping = np.array([[1, 65, 97], [2, 66, 98], [3, 67, 99]])
    savemat(folder / "emnist-letters.mat", {"dataset": {**parts, "mapping": mapping}}, do_compression=True)
    return Case(
        [
            "import emnist-letters.mat --x images --y labels --out d.h5",
            "inspect d.h5",
        ],
        Truth(x, y, np.arange(320) >= 240),
        enough=0.7,
        training="--epochs 40",
    )


@family("scipy")
def matlab_plain(folder: Path) -> Case:
    """MATLAB v5: matrices, a row of labels."""
    from scipy.io import savemat

    x = generator().standard_normal((240, 5))
    y = classes_of(x, 2)
    savemat(folder / "cardio.mat", {"X": x, "y": y[:, None].astype(float)})
    return Case(
        ["import cardio.mat --task classes --test-fraction 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, drawn=60),
        enough=0.85,
    )


@family("hdf5storage")
def matlab_v73(folder: Path) -> Case:
    """MATLAB v7.3, written by hdf5storage: axes turned over."""
    import hdf5storage

    x = generator().standard_normal((240, 5))
    y = classes_of(x, 2)
    hdf5storage.savemat(
        str(folder / "set.mat"), {"X": x, "y": y[:, None].astype(float)}, format="7.3", oned_as="column"
    )
    return Case(
        ["inspect set.mat", "import set.mat --x X --y y --task classes --test-last 0.25 --out d.h5"],
        Truth(x, y, last(240, 0.25)),
        says=("X",),
        enough=0.85,
    )


OCTAVE = """
X = dlmread("x.txt"); y = dlmread("y.txt");
save("-hdf5", "octave.h5", "X", "y");
save("-v7", "octave.mat", "X", "y");
save("-text", "octave.txt", "X");
"""


@family("program:octave-cli")
def octave(folder: Path) -> Case:
    """Octave: save -hdf5 and save -v7."""
    x = generator().standard_normal((240, 4))
    y = classes_of(x, 2)
    np.savetxt(folder / "x.txt", x, fmt="%.17g")
    np.savetxt(folder / "y.txt", y, fmt="%d")
    (folder / "make.m").write_text(OCTAVE)
    subprocess.run(["octave-cli", "make.m"], cwd=folder, check=True, capture_output=True, timeout=60)

    return Case(
        [
            "inspect octave.h5",
            "import octave.mat --task classes --test-last 0.25 --out v7.h5",
            "import octave.h5 --x 'X/value[:, samples]' --y 'y/value[:, samples]' --task classes"
            " --test-last 0.25 --out d.h5",
        ],
        Truth(x, y, last(240, 0.25)),
        enough=0.85,
        check=lambda where: check_equal(where / "v7.h5", where / DATA),
    )
