"""Instruments: NeXus and its links, signals of brains and speech, filters that need a plugin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from family import Case, Truth, classes_of, drawn, family, generator, last


@family("nexusformat")
def nexus(folder: Path) -> Case:
    """NeXus: soft links to the detector, written by nexusformat."""
    from nexusformat.nexus import NXdata, NXdetector, NXentry, NXfield, NXinstrument, NXlink, NXroot

    x = generator().integers(0, 60000, (200, 4, 4)).astype(np.uint16)
    y = classes_of(x, 2)
    root = NXroot(NXentry(NXinstrument(NXdetector(data=NXfield(x))), phase=NXfield(y.astype("i4"))))
    root["entry/data"] = NXdata()
    root["entry/data/data"] = NXlink(root["entry/instrument/detector/data"])
    root.save(str(folder / "scan.nxs"), "w")
    return Case(
        [
            "inspect scan.nxs",
            "import scan.nxs --x entry/data/data --y entry/phase --test-last 0.25 --trust-links --out d.h5",
        ],
        Truth(x.reshape(200, 16), y, last(200, 0.25)),
        says=("entry/phase",),
        enough=0.75,
        training="--epochs 40",
    )


@family()
def eiger(folder: Path) -> Case:
    """Eiger: the data are external links to files beside; trained on as they are."""
    import h5py

    x = generator().integers(0, 6000, (240, 3, 5)).astype(np.uint32)
    y = classes_of(x, 2)
    with h5py.File(folder / "scan_data_000001.h5", "w") as file:
        file.create_dataset("entry/data/data", data=x, chunks=(1, 3, 5), compression="gzip")
    with h5py.File(folder / "scan_master.h5", "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("scan_data_000001.h5", "entry/data/data")
        file["entry/hit"] = y
    every = np.ones(240, bool)
    return Case(
        [
            "inspect scan_master.h5 --trust-links",
            "! train scan_master.h5 --split entry --x data/data_000001 --y hit --out no # --trust-links",
        ],
        Truth(x.reshape(240, 15), y, every, every),
        train="scan_master.h5 --split entry --x data/data_000001 --y hit --trust-links",
        evaluate="scan_master.h5 --split entry --trust-links",
        predict="scan_master.h5 --split entry --trust-links",
        says=("entry/data/data_000001",),
        enough=0.85,
        training="--epochs 40",
    )


@family()
def eeg_subjects(folder: Path) -> Case:
    """EEG: a group a subject, one of them for testing."""
    import h5py

    x = generator().standard_normal((320, 3, 5)).astype(np.float32)
    y = classes_of(x, 2)
    with h5py.File(folder / "bci.h5", "w") as file:
        for subject in range(4):
            rows = slice(80 * subject, 80 * subject + 80)
            file[f"subject_{subject + 1}/X"], file[f"subject_{subject + 1}/y"] = x[rows], y[rows]
    return Case(
        [
            "inspect bci.h5",
            "import bci.h5 --x '*/X' --y '*/y' --test-where @group=subject_4 --out d.h5",
        ],
        Truth(x.reshape(320, 15), y, np.arange(320) >= 240),
        says=("subject_1", "X"),
        enough=0.85,
    )


@family()
def eeg_trials_last(folder: Path) -> Case:
    """EEG: trials along the last axis."""
    import h5py

    x = generator().standard_normal((240, 3, 6)).astype(np.float32)
    y = classes_of(x, 2)
    with h5py.File(folder / "epochs.h5", "w") as file:
        file["data"], file["labels"] = np.moveaxis(x, 0, 2), y + 1
    return Case(
        [
            "inspect epochs.h5",
            "! train epochs.h5 --split / --x data --y labels --out no # samples",
            "! import epochs.h5 --x data --y labels --out no.h5 # samples",
            "import epochs.h5 --x 'data[:, :, samples]' --y labels --test-last 0.25 --out d.h5",
        ],
        Truth(x.reshape(240, 18), y + 1, last(240, 0.25)),
        says=("data", "labels"),
        enough=0.85,
    )


@family()
def speech(folder: Path) -> Case:
    """Speech (TIMIT): a group an utterance, of unequal lengths."""
    import h5py

    rng = generator()
    lengths = [int(n) for n in rng.integers(20, 60, 12)]
    x = rng.standard_normal((sum(lengths), 6)).astype(np.float32)
    y = classes_of(x, 3)
    at = 0
    with h5py.File(folder / "timit.h5", "w") as file:
        for i, length in enumerate(lengths):
            group = file.create_group(f"{'train' if i < 9 else 'test'}/FDHC0_SX{i:03d}")
            group["features"], group["labels"] = x[at : at + length], y[at : at + length]
            at += length
    test = np.arange(len(x)) >= sum(lengths[:9])
    return Case(
        ["inspect timit.h5"],
        Truth(x, y, test),
        train="timit.h5 --x '*/features' --y '*/labels'",
        evaluate="timit.h5",
        predict="timit.h5",
        says=("features", "labels"),
        enough=0.8,
    )


@family("hdf5plugin")
def filters(folder: Path) -> Case:
    """Detector data packed with bitshuffle and blosc: the filter plugins of hdf5plugin."""
    import h5py
    import hdf5plugin

    x = generator().integers(0, 4000, (240, 3, 4)).astype(np.uint16)
    y = classes_of(x, 3)
    with h5py.File(folder / "packed.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(20, 3, 4), **hdf5plugin.Bitshuffle(nelems=0, cname="lz4"))
        file.create_dataset("y", data=y, chunks=(50,), **hdf5plugin.Blosc(cname="zstd"))
    plugins = {"HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH}
    without = "env HDF5_PLUGIN_PATH=/nowhere"
    return Case(
        [
            f"! {without} train packed.h5 --out no # hdf5plugin",
            "inspect packed.h5",
            "import packed.h5 --test-fraction 0.25 --out d.h5",
        ],
        Truth(x.reshape(240, 12), y, drawn=drawn(y, 0.25)),
        enough=0.7,
        training="--epochs 40",
        environment=plugins,
    )
