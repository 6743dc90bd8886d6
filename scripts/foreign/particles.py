"""Particle physics: jets in HDF5, ROOT and Parquet, events in CSV."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from family import Case, Truth, classes_of, drawn, family, generator, last

JETS = ("j_g", "j_q", "j_w", "j_z", "j_t")


def one_hot(y: Any, K: int) -> Any:
    """(N, K) with one 1 in each row."""
    return np.eye(K)[y]


@family()
def lhc_matrix(folder: Path) -> Case:
    """LHC jets (hls4ml): features and one-hot labels in one matrix."""
    import h5py

    x = generator().standard_normal((400, 10))
    y = classes_of(x, 3)
    names = [f"j_f{i}" for i in range(10)] + ["j_g", "j_q", "j_t"]
    with h5py.File(folder / "jets.h5", "w") as file:
        file["jets"] = np.concatenate([x, one_hot(y, 3)], 1)
        file["jetFeatureNames"] = np.array(names, "S8")
        file["jetConstituentList"] = generator().standard_normal((400, 5, 2)).astype("f4")
    return Case(
        [
            "inspect jets.h5",
            "import jets.h5 --x 'jets[:, 0:10]' --y 'jets[:, 10:13]' --task classes --test-last 0.25 --out d.h5",
        ],
        Truth(x, np.array([f"jets[:, 10:13][{i}]" for i in range(3)])[y], last(400, 0.25)),
        says=("jets", "400"),
        enough=0.8,
    )


@family()
def lhc_table(folder: Path) -> Case:
    """LHC jets (hls4ml): a table with columns of 0 and 1."""
    import h5py

    x = generator().standard_normal((400, 6)).astype(np.float32)
    y = classes_of(x, 5)
    names = [f"j_f{i}" for i in range(6)]
    table = np.zeros(400, [("index", "i8"), *((name, "f4") for name in names), *((name, "i4") for name in JETS)])
    table["index"] = np.arange(400)
    for i, name in enumerate(names):
        table[name] = x[:, i]
    for i, name in enumerate(JETS):
        table[name] = y == i
    with h5py.File(folder / "jets.z", "w") as file:
        file["t_allpar_new"] = table
    labels = np.array(JETS)[y]
    return Case(
        [
            "inspect jets.z",
            f"import jets.z --drop index --y {','.join(JETS)} --task classes --test-fraction 0.25 --out d.h5",
        ],
        Truth(x, labels, drawn=drawn(labels, 0.25), names=names),
        says=("t_allpar_new", "j_g"),
        enough=0.7,
        training="--epochs 40",
    )


@family("uproot", "awkward")
def jetclass(folder: Path) -> Case:
    """JetClass: ROOT, flat and jagged branches, columns of 0 and 1."""
    import awkward as ak
    import uproot

    rng = generator()
    x = rng.standard_normal((400, 4)).astype(np.float32)
    y = classes_of(x, 3)
    names, labels = ("jet_pt", "jet_eta", "jet_phi", "jet_sdmass"), ("label_QCD", "label_Hbb", "label_Tbqq")
    lengths = rng.integers(1, 6, 400)
    jagged = ak.unflatten(rng.standard_normal(lengths.sum()), lengths)
    with uproot.recreate(folder / "JetClass.root") as file:
        tree = {name: x[:, i] for i, name in enumerate(names)}
        tree |= {label: y == i for i, label in enumerate(labels)}
        file["tree"] = {**tree, "part_px": jagged}
    meant = np.array(labels)[y]
    return Case(
        [
            f"import JetClass.root --x {','.join(names)} --y {','.join(labels)} --task classes --test-fraction 0.25"
            " --out d.h5",
            "inspect d.h5",
        ],
        Truth(x, meant, drawn=drawn(meant, 0.25), names=names),
        enough=0.8,
    )


@family("pyarrow")
def jet_images(folder: Path) -> Case:
    """Jets as images in Parquet: lists of lists, and lists of unequal length."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = generator()
    x = rng.standard_normal((300, 2, 3, 4))
    y = classes_of(x, 2)
    table = pa.table(
        {
            "X_jets": x.tolist(),
            "tracks": [[1.0] * int(n) for n in rng.integers(1, 5, 300)],
            "pt": x[:, 0, 0, 0] * 10,
            "y": y.astype(float),
        }
    )
    pq.write_table(table, folder / "jets.parquet", row_group_size=100)
    return Case(
        ["import jets.parquet --x X_jets --y y --task classes --test-last 0.25 --out d.h5", "inspect d.h5"],
        Truth(x.reshape(300, 24), y, last(300, 0.25)),
        enough=0.8,
    )


@family()
def jetnet(folder: Path) -> Case:
    """JetNet: a file for each class, which its name tells."""
    import h5py

    rng = generator()
    inputs, labels = [], []
    for i, kind in enumerate("gqt"):
        jets = rng.standard_normal((120, 4)) + 2 * i
        particles = rng.standard_normal((120, 3, 4))
        with h5py.File(folder / f"{kind}.hdf5", "w") as file:
            file["jet_features"], file["particle_features"] = jets, particles
        inputs.append(np.concatenate([jets, particles.reshape(120, 12)], 1))
        labels += [f"{kind}.hdf5"] * 120
    y = np.array(labels)
    return Case(
        [
            "inspect g.hdf5",
            "import g.hdf5 q.hdf5 t.hdf5 --x jet_features,particle_features --y @file --test-fraction 0.25 --out d.h5",
        ],
        Truth(np.concatenate(inputs), y, drawn=drawn(y, 0.25)),
        enough=0.8,
    )


@family()
def higgs(folder: Path) -> Case:
    """HIGGS, SUSY (UCI): csv.gz without header, label first as 1.000e+00."""
    x = generator().standard_normal((400, 8))
    y = classes_of(x, 2)
    rows = np.concatenate([y[:, None], x], 1)
    with gzip.open(folder / "HIGGS.csv.gz", "wt") as file:
        np.savetxt(file, rows, delimiter=",")
    return Case(
        ["import HIGGS.csv.gz --y 0 --task classes --test-last 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, last(400, 0.25), names=[str(i) for i in range(1, 9)]),
        enough=0.85,
    )


@family()
def atlas(folder: Path) -> Case:
    """ATLAS Higgs challenge: -999.0 is missing, a column says which rows are for testing."""
    rng = generator()
    x = rng.standard_normal((400, 5)).round(4)
    y = classes_of(x, 2)
    gone = np.zeros(x.shape, bool)
    gone[rng.permutation(400)[:30], 2] = True
    part = np.array(["t", "t", "t", "b"])[np.arange(400) % 4]
    names = [f"DER_{i}" for i in range(5)]
    lines = [",".join(["EventId", *names, "Weight", "Label", "KaggleSet", "KaggleWeight"])]
    for i in range(400):
        cells = ["-999.0" if gone[i, j] else str(x[i, j]) for j in range(5)]
        lines.append(",".join([str(100000 + i), *cells, "0.5", "sb"[y[i]], part[i], "1.5"]))
    (folder / "atlas.csv").write_text("\n".join([*lines, ""]))
    test = part == "b"
    x[gone[:, 2], 2] = x[~test & ~gone[:, 2], 2].mean()
    return Case(
        [
            "import atlas.csv --y Label --drop EventId,Weight,KaggleWeight --missing-words -999.0 --on-missing mean"
            " --test-where KaggleSet=b --out d.h5",
            "inspect d.h5",
        ],
        Truth(x, np.array(list("sb"))[y], test, names=names),
        enough=0.8,
    )
