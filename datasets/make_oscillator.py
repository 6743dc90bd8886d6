"""Makes a regression set from a formula: python make_oscillator.py [oscillator.h5] [--samples N] [--seed S].

With a name that ends in .csv it writes one table of all samples, as an instrument or a simulation might.

A mass m on a spring of stiffness k with damping c, released at time 0 from position 1, at rest:

    m p'' + c p' + k p = 0,    p(0) = 1,    p'(0) = 0

With g = c / 2m and w = sqrt(k/m - g^2), real because all samples are under-damped (c < 2 sqrt(k m)):

    position  p(t) =  e^(-g t) (cos w t + g/w sin w t)
    velocity  p'(t) = -e^(-g t) (k/m)/w sin w t
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

INPUTS = {"mass": (0.5, 2.0), "damping": (0.1, 1.0), "stiffness": (1.0, 4.0), "time": (0.0, 5.0)}
TARGETS = ("position", "velocity")


def oscillator(x: NDArray[Any]) -> NDArray[Any]:
    """(N, 4) of mass, damping, stiffness, time to (N, 2) of position, velocity."""
    m, c, k, t = x.astype(np.float64).T
    g = c / (2 * m)
    w = np.sqrt(k / m - g**2)
    position = np.exp(-g * t) * (np.cos(w * t) + g / w * np.sin(w * t))
    velocity = -np.exp(-g * t) * (k / m) / w * np.sin(w * t)
    return np.stack([position, velocity], axis=1)


def main() -> None:
    """Writes the file: four fifths of the samples in train, the rest in test."""
    parser = argparse.ArgumentParser(
        description="Makes a regression set: position and velocity of a damped oscillator.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "path", nargs="?", type=Path, default=Path("oscillator.h5"), help="the file to write, HDF5 or CSV"
    )
    parser.add_argument("--samples", type=int, default=50_000, help="samples in all, a fifth of them in test")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs")
    options = parser.parse_args()
    if options.samples < 5:
        parser.error(f"--samples {options.samples}: expected 5 or more, for one test sample at least")
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: expected 0 or more")

    low, high = np.array(list(INPUTS.values())).T
    x = np.random.default_rng(options.seed).uniform(low, high, (options.samples, len(INPUTS))).astype(np.float32)
    y = oscillator(x).astype(np.float32)
    if options.path.suffix == ".csv":
        names = ",".join((*INPUTS, *TARGETS))
        np.savetxt(options.path, np.hstack([x, y]), fmt="%.7g", delimiter=",", header=names, comments="")
        print(f"{options.path}: {options.samples} samples")
        return
    n = options.samples - options.samples // 5
    with h5py.File(options.path, "w") as file:
        file.attrs["title"] = "Damped oscillator released from 1 at rest"
        file.attrs["source"] = f"formula, made by datasets/make_oscillator.py, seed {options.seed}"
        file.attrs["inputs"] = ", ".join(INPUTS)
        file.attrs["targets"] = ", ".join(TARGETS)
        for split, rows in (("train", slice(0, n)), ("test", slice(n, None))):
            group = file.create_group(split)
            group.create_dataset("x", data=x[rows], track_times=False)
            group.create_dataset("y", data=y[rows], track_times=False)
    print(f"{options.path}: {n} train and {options.samples - n} test samples")


if __name__ == "__main__":
    main()
