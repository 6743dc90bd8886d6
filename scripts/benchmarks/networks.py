"""The networks, and the data they are trained on: random numbers, with labels and targets that are partly learnable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np


@dataclass(frozen=True)
class Network:
    """Its layers, the n of its batches, and the samples of its data set.  ReLU; classes, or real targets."""

    name: str
    layers: tuple[int, ...]
    n: int
    samples: int
    is_regression: bool = False

    @property
    def words(self) -> str:
        """S 784-30-10, n = 32"""
        return f"{self.name} {'-'.join(map(str, self.layers))}, n = {self.n}"


NETWORKS = {
    network.name: network
    for network in (
        Network("S", (784, 30, 10), 32, 40960),
        Network("M", (784, 128, 10), 128, 40960),
        Network("L", (784, 512, 512, 10), 512, 20480),
        Network("XL", (1024, 2048, 2048, 1024), 1024, 8192, is_regression=True),
        Network("R", (8, 256, 256, 256, 64), 4096, 65536, is_regression=True),
    )
}


def make_data(network: Network, directory: Path, batches: int = 0) -> Path:
    """The data set of a network, or one of so many batches; made where it is not there yet."""
    samples = batches * network.n if batches else network.samples
    path = directory / f"{network.name}-{samples}.h5"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    inputs, outputs = network.layers[0], network.layers[-1]
    x = rng.standard_normal((samples, inputs), dtype=np.float32)
    with h5py.File(path, "w") as file:
        if network.is_regression:
            mixed = rng.standard_normal((inputs, outputs), dtype=np.float32) / np.float32(np.sqrt(inputs))
            file["train/y"] = np.sin(x @ mixed)
        else:
            labels = rng.integers(0, outputs, samples)
            x += 0.2 * rng.standard_normal((outputs, inputs), dtype=np.float32)[labels]
            file["train/y"] = labels
        file["train/x"] = x
    return path
