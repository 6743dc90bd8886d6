"""Images with labels: HDF5, NPZ with parts, files packed as a whole, IDX."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
from family import Case, Truth, classes_of, drawn, family, generator


def pictures(N: int, shape: tuple[int, ...] = (4, 4), K: int = 3) -> tuple[Any, Any]:
    """Bytes (N, *shape), and a class for each."""
    x = generator().integers(0, 256, (N, *shape)).astype(np.uint8)
    return x, classes_of(x, K)


@family()
def usps(folder: Path) -> Case:
    """Usps.h5: train/data, train/target; test/…; the file as it is."""
    import h5py

    x, y = pictures(320)
    flat = (x.reshape(320, 16) / 255).astype(np.float32)
    with h5py.File(folder / "usps.h5", "w") as file:
        file["train/data"], file["train/target"] = flat[:240], y[:240].astype("i4")
        file["test/data"], file["test/target"] = flat[240:], y[240:].astype("i4")
    return Case(
        ["inspect usps.h5"],
        Truth(flat, y, np.arange(320) >= 240),
        train="usps.h5",
        says=("train/data", "train/target"),
        enough=0.75,
        training="--epochs 40",
    )


@family()
def galaxy10(folder: Path) -> Case:
    """Galaxy10.h5: images and ans at the top."""
    import h5py

    x, y = pictures(300, (3, 3, 3))
    with h5py.File(folder / "Galaxy10.h5", "w") as file:
        file["images"], file["ans"] = x, y.astype("u1")
    return Case(
        ["inspect Galaxy10.h5", "import Galaxy10.h5 --x images --y ans --test-fraction 0.2 --out d.h5"],
        Truth(x.reshape(300, 27), y, drawn=drawn(y, 0.2)),
        says=("images", "ans"),
        enough=0.65,
        training="--epochs 60",
    )


@family()
def signs(folder: Path) -> Case:
    """Train_signs.h5: train_set_x, train_set_y, list_classes; the test set in a second file."""
    import h5py

    x, y = pictures(320, (3, 3, 2))
    for name, rows in (("train", slice(0, 240)), ("test", slice(240, 320))):
        with h5py.File(folder / f"{name}_signs.h5", "w") as file:
            file[f"{name}_set_x"], file[f"{name}_set_y"], file["list_classes"] = x[rows], y[rows], np.arange(3)
    return Case(
        ["inspect train_signs.h5"],
        Truth(x.reshape(320, 18), y, np.arange(320) >= 240),
        train="train_signs.h5 --split / --x train_set_x --y train_set_y",
        evaluate="test_signs.h5 --split / --x test_set_x --y test_set_y",
        predict="test_signs.h5 --split / --x test_set_x",
        says=("train_set_x", "train_set_y"),
        enough=0.65,
        training="--epochs 60",
    )


@family()
def mnist_npz(folder: Path) -> Case:
    """Keras' mnist.npz: x_train, y_train, x_test, y_test."""
    x, y = pictures(320)
    np.savez(folder / "mnist.npz", x_train=x[:240], y_train=y[:240], x_test=x[240:], y_test=y[240:])
    return Case(
        ["import mnist.npz --out d.h5", "inspect d.h5"],
        Truth(x.reshape(320, 16), y, np.arange(320) >= 240),
        enough=0.7,
        training="--epochs 40",
    )


@family()
def mnist_idx(folder: Path) -> Case:
    """MNIST's own files: IDX, gzipped."""
    x, y = pictures(320)
    for part, rows in (("train", slice(0, 240)), ("t10k", slice(240, 320))):
        images, labels = x[rows], y[rows].astype(np.uint8)
        with gzip.open(folder / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes())
        with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">4BI", 0, 0, 8, 1, len(labels)) + labels.tobytes())
    return Case(
        [
            "import train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz --test t10k-images-idx3-ubyte.gz"
            " --test t10k-labels-idx1-ubyte.gz --out d.h5",
            "inspect d.h5",
        ],
        Truth(x.reshape(320, 16), y, np.arange(320) >= 240),
        enough=0.7,
        training="--epochs 40",
    )


@family()
def medmnist(folder: Path) -> Case:
    """MedMNIST: npz with a train, a val and a test part."""
    x, y = pictures(400)
    parts = {"train": slice(0, 240), "val": slice(240, 300), "test": slice(300, 400)}
    arrays = {f"{part}_images": x[rows] for part, rows in parts.items()}
    arrays |= {f"{part}_labels": y[rows, None].astype(np.uint8) for part, rows in parts.items()}
    np.savez(folder / "breastmnist.npz", **arrays)
    number = np.arange(400)
    return Case(
        ["import breastmnist.npz --out d.h5", "inspect d.h5"],
        Truth(x.reshape(400, 16), y, number >= 300, number < 240),
        train="d.h5 --validation-split val",
        enough=0.7,
        training="--epochs 40",
    )


@family()
def pcam(folder: Path) -> Case:
    """PatchCamelyon: x and y in two HDF5 files, after gunzip."""
    import h5py

    x, y = pictures(320, (3, 3, 3), 2)
    for part, rows in (("train", slice(0, 240)), ("test", slice(240, 320))):
        for name, values in (("x", x[rows]), ("y", y[rows].reshape(-1, 1, 1, 1).astype(np.uint8))):
            plain = folder / f"camelyonpatch_level_2_split_{part}_{name}.h5"
            with h5py.File(plain, "w") as file:
                file.create_dataset(name, data=values, chunks=(40, *values.shape[1:]), compression="gzip")
            plain.with_suffix(".h5.gz").write_bytes(gzip.compress(plain.read_bytes()))
    name = "camelyonpatch_level_2_split_{}_{}.h5"
    names = {f"{part}_{one}": name.format(part, one) for part in ("train", "test") for one in "xy"}
    return Case(
        [
            f"! import {names['train_x']}.gz --y-from {names['train_y']}.gz --out no.h5 # unpack it",
            f"import {names['train_x']} --y-from {names['train_y']} --out train.h5",
            f"import {names['test_x']} --y-from {names['test_y']} --out d.h5",
            "inspect train.h5",
        ],
        Truth(x.reshape(320, 27)[240:], y[240:], np.zeros(80, bool), np.zeros(80, bool)),
        train="train.h5",
        evaluate="d.h5 --split train",
        predict="d.h5 --split train",
        enough=0.75,
        training="--epochs 40",
    )
