"""Molecules: conformations in groups, in NPZ files, and a table of properties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from family import Case, Truth, family, generator, last, weighted

ATOMS = 4


@family()
def ani_1x(folder: Path) -> Case:
    """ANI-1x: a group a molecule, some energies are NaN."""
    import h5py

    rng = generator()
    counts = (90, 60, 0, 110, 40)
    x = rng.standard_normal((sum(counts), ATOMS, 3)).astype(np.float32)
    y = weighted(x) * 20 - 4000
    y[::13] = np.nan
    at = 0
    with h5py.File(folder / "ani1x.h5", "w") as file:
        for i, count in enumerate(counts):
            group = file.create_group(f"C1H{i}O1")
            group["coordinates"], group["atomic_numbers"] = x[at : at + count], np.array([6, 1, 1, 8], "u1")
            group["ccsd(t)_cbs.energy"] = y[at : at + count]
            group["wb97x_dz.energy"] = np.zeros(count)
            at += count
        file.create_group("C9")["coordinates"] = np.zeros((5, ATOMS, 3), np.float32)  # without energies
    kept = ~np.isnan(y)
    names = "--x '*/coordinates' --y '*/ccsd(t)_cbs.energy'"
    return Case(
        [
            "inspect ani1x.h5",
            f"! import ani1x.h5 {names} --test-where @group=C1H4O1 --out no.h5 # {np.isnan(y).sum()}",
            f"import ani1x.h5 {names} --on-missing drop --test-where @group=C1H4O1 --out d.h5",
        ],
        Truth(x.reshape(-1, ATOMS * 3)[kept], y[kept, None], (np.arange(300) >= 260)[kept]),
        says=("coordinates", "atomic_numbers"),
        enough=0.5,
        training="--epochs 40",
    )


@family()
def ani_1(folder: Path) -> Case:
    """ANI-1: groups two levels deep, the file as it is."""
    import h5py

    rng = generator()
    x = rng.standard_normal((280, ATOMS, 3)).astype(np.float32)
    y = weighted(x) * 20 - 4000
    with h5py.File(folder / "ani_gdb_s02.h5", "w") as file:
        for i in range(4):
            group = file.create_group(f"gdb11_s02/gdb11_s02-{i}")
            rows = slice(70 * i, 70 * i + 70)
            group["coordinates"], group["energies"] = x[rows], y[rows]
            group["species"], group["smiles"] = np.array(list("CHHO"), "S1"), np.array(list("[C]=O"), "S1")
    every = np.ones(280, bool)
    return Case(
        ["inspect ani_gdb_s02.h5"],
        Truth(x.reshape(-1, ATOMS * 3), y[:, None], every, every),
        train="ani_gdb_s02.h5 --split / --x '*/*/coordinates' --y '*/*/energies'",
        evaluate="ani_gdb_s02.h5 --split /",
        predict="ani_gdb_s02.h5 --split /",
        says=("gdb11_s02", "coordinates"),
        enough=0.5,
        training="--epochs 40",
    )


@family()
def md17(folder: Path) -> Case:
    """MD17: npz with strings and single values beside the arrays."""
    rng = generator()
    R = rng.standard_normal((300, ATOMS, 3))
    E = weighted(R)[:, None] - 97000.0
    z = np.array([6, 1, 1, 8], np.uint8)
    np.savez(
        folder / "md17_ethanol.npz", E=E, F=-R, R=R, z=z, name="ethanol", theory="PBE+vdW-TS", md5="0" * 32, type="d"
    )
    return Case(
        ["import md17_ethanol.npz --x R --y E --test-last 0.25 --out d.h5", "inspect d.h5"],
        Truth(R.reshape(300, 12), E, last(300, 0.25)),
        enough=0.5,
        training="--epochs 40",
    )


@family()
def rmd17(folder: Path) -> Case:
    """RMD17: npz, energies and forces together."""
    rng = generator()
    coords = rng.standard_normal((300, ATOMS, 3))
    energies = weighted(coords) * 10 - 97000.0
    forces = weighted(coords, 12).reshape(300, ATOMS, 3) * 20
    np.savez_compressed(
        folder / "rmd17_ethanol.npz",
        nuclear_charges=np.array([6, 1, 1, 8]),
        coords=coords,
        energies=energies,
        forces=forces,
        old_indices=np.arange(300),
        old_energies=energies + 1,
        old_forces=forces,
    )
    y = np.concatenate([energies[:, None], forces.reshape(300, 12)], 1)
    return Case(
        ["import rmd17_ethanol.npz --x coords --y energies,forces --test-last 0.25 --out d.h5", "inspect d.h5"],
        Truth(coords.reshape(300, 12), y, last(300, 0.25)),
        enough=0.6,
        training="--epochs 40",
    )


@family()
def qm9(folder: Path) -> Case:
    """QM9 as CSV: names, SMILES and numbers."""
    rng = generator()
    x = rng.standard_normal((300, 4)).round(5)
    y = weighted(x, 2).round(6)
    lines = ["mol_id,smiles,A,B,C,mu,homo,lumo"]
    lines += [
        f"gdb_{i + 1},C{'C' * (i % 7)}O,{','.join(map(str, [*x[i].tolist(), *y[i].tolist()]))}" for i in range(300)
    ]
    (folder / "qm9.csv").write_text("\n".join([*lines, ""]))
    return Case(
        ["import qm9.csv --drop mol_id,smiles --y homo,lumo --test-fraction 0.2 --out d.h5", "inspect d.h5"],
        Truth(x, y, drawn=60, names=("A", "B", "C", "mu")),
        enough=0.5,
        training="--epochs 40",
    )
