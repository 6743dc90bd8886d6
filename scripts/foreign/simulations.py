"""Simulations: cosmology, fluids, particles in fields, chemistry; runs in groups, in files, and with parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from family import Case, Truth, classes_of, family, generator, last, weighted

SMALL = "--epochs 60"


@family()
def cosmoflow(folder: Path) -> Case:
    """CosmoFlow: one universe a file, its parameters beside it."""
    import h5py

    rng = generator()
    n = 160
    x = rng.poisson(3, (n, 2, 2, 2, 4)).astype(np.int16)
    y = weighted(x, 4).astype(np.float32)
    (folder / "train").mkdir()
    for i in range(n):
        with h5py.File(folder / "train" / f"univ_{i:04d}.hdf5", "w") as file:
            file["full"], file["unitPar"], file["physPar"] = x[i], y[i], y[i] * 0.1 + 0.3
            file["namePar"] = np.array(["Om", "si", "ns", "H0"], "S2")
            file["redshifts"] = np.array([0.0, 0.5, 1.5, 3.0])
    return Case(
        [
            "inspect train/univ_0000.hdf5",
            "import 'train/univ_*.hdf5' --each --x full --y unitPar --test-last 0.25 --out d.h5",
        ],
        Truth(x.reshape(n, 32), y, last(n, 0.25)),
        enough=0.7,
        training=SMALL,
    )


@family()
def cosmoflow_direct(folder: Path) -> Case:
    """CosmoFlow: the files as they are, with --each."""
    case = cosmoflow(folder)
    every = np.ones(len(case.truth.x), bool)
    return Case(
        ["inspect train/univ_0000.hdf5 --each --split / --x full --y unitPar"],
        Truth(case.truth.x, case.truth.y, every, every),
        train="'train/univ_*.hdf5' --each --split / --x full --y unitPar",
        evaluate="'train/univ_*.hdf5' --split /",
        predict="'train/univ_*.hdf5' --split /",
        enough=0.7,
        training=SMALL,
    )


@family()
def pdebench_1d(folder: Path) -> Case:
    """PDEBench 1D: from the first step to the last."""
    import h5py

    rng = generator()
    first = rng.standard_normal((300, 8)).astype(np.float32)
    tensor = np.stack([np.roll(first, t, axis=1) * 0.9**t for t in range(5)], 1)
    with h5py.File(folder / "1D_Advection.h5", "w") as file:
        file["tensor"] = tensor
        file["x-coordinate"], file["t-coordinate"] = np.linspace(0, 1, 8), np.linspace(0, 2, 6)
        file.attrs["beta"] = 0.1
    every = np.ones(300, bool)
    return Case(
        [
            "inspect 1D_Advection.h5",
            "import 1D_Advection.h5 --x 'tensor[:, 0]' --y 'tensor[:, -1]' --test-last 0.2 --out unused.h5",
        ],
        Truth(first, tensor[:, -1], every, every),
        train="1D_Advection.h5 --split / --x 'tensor[:, 0]' --y 'tensor[:, -1]'",
        evaluate="1D_Advection.h5 --split /",
        predict="1D_Advection.h5 --split /",
        says=("tensor", "x-coordinate"),
        enough=0.5,
        training=SMALL,
    )


@family()
def pdebench_darcy(folder: Path) -> Case:
    """PDEBench 2D Darcy: from a map to a map."""
    import h5py

    nu = generator().standard_normal((300, 3, 3)).astype(np.float32)
    tensor = np.cumsum(nu, axis=1)[:, None] * 0.5
    with h5py.File(folder / "2D_DarcyFlow.hdf5", "w") as file:
        file["nu"], file["tensor"] = nu, tensor
        file["x-coordinate"] = file["y-coordinate"] = np.linspace(0, 1, 3)
        file.attrs["beta"] = 1.0
    return Case(
        ["inspect 2D_DarcyFlow.hdf5", "import 2D_DarcyFlow.hdf5 --x nu --y tensor --test-last 0.2 --out d.h5"],
        Truth(nu.reshape(300, 9), tensor.reshape(300, 9), last(300, 0.2)),
        says=("nu", "tensor"),
        enough=0.5,
    )


@family()
def pdebench_groups(folder: Path) -> Case:
    """PDEBench 2D reaction-diffusion: a group a simulation."""
    import h5py

    rng = generator()
    n = 160
    start = rng.standard_normal((n, 3, 3, 2)).astype(np.float32)
    with h5py.File(folder / "2D_diff-react.h5", "w") as file:
        for i in range(n):
            file[f"{i:04d}/data"] = np.stack([start[i] * 0.8**t for t in range(4)])
            file[f"{i:04d}/grid/x"] = file[f"{i:04d}/grid/y"] = np.linspace(-1, 1, 3)
            file[f"{i:04d}/grid/t"] = np.arange(4.0)
    y = (start * 0.8**3).reshape(n, 18)
    return Case(
        [
            "inspect 2D_diff-react.h5",
            "import 2D_diff-react.h5 --each --x '*/data[0]' --y '*/data[-1]' --test-last 0.25 --out d.h5",
        ],
        Truth(start.reshape(n, 18), y, last(n, 0.25)),
        says=("data", "grid"),
        enough=0.5,
        training=SMALL,
    )


@family()
def the_well(folder: Path) -> Case:
    """The Well: fields over (trajectory, time, space), coordinates in a group called dimensions."""
    import h5py

    rng = generator()
    shape = (12, 20, 2, 3)
    pressure = rng.standard_normal(shape).astype(np.float32)
    y = weighted(pressure.reshape(240, 6)).astype(np.float32).reshape(12, 20)
    with h5py.File(folder / "well.hdf5", "w") as file:
        file["t0_fields/pressure"], file["t0_fields/buoyancy"] = pressure, y[:, :, None, None] * np.ones((2, 3), "f4")
        file["dimensions/time"] = np.arange(20.0)
        file["dimensions/x"] = file["dimensions/y"] = np.arange(3.0)
        file["scalars/Rayleigh"] = 1e6
        file.create_group("t1_fields")
        file.attrs["n_trajectories"] = 12
    x_name, y_name = "t0_fields/pressure[samples, samples]", "t0_fields/buoyancy[samples, samples, 0, 0]"
    return Case(
        [
            "inspect well.hdf5",
            "! train well.hdf5 --out no",
            f"import well.hdf5 --x '{x_name}' --y '{y_name}' --test-last 0.25 --out d.h5",
        ],
        Truth(pressure.reshape(240, 6), y.reshape(240, 1), last(240, 0.25)),
        says=("t0_fields/pressure",),
        enough=0.5,
    )


@family()
def parameters(folder: Path) -> Case:
    """Parameters as attributes and single values: a run a file."""
    import h5py

    rng = generator()
    n = 160
    x = rng.uniform(0.5, 3, (n, 2))
    y = np.stack([x[:, 0] + x[:, 1] * t for t in range(5)], 1)
    (folder / "runs").mkdir()
    for i in range(n):
        with h5py.File(folder / "runs" / f"run_{i:03d}.h5", "w") as file:
            file.attrs["Re"] = x[i, 0]
            file["params/nu"], file["profile"] = x[i, 1], y[i]
    return Case(
        [
            "inspect runs/run_000.h5",
            "import 'runs/run_*.h5' --each --x '@Re,params/nu' --y profile --test-last 0.25 --out d.h5",
        ],
        Truth(x, y, last(n, 0.25), names=("@Re", "params/nu")),
        says=("profile", "params/nu"),
        enough=0.5,
        training=SMALL,
    )


@family()
def sample_a_file(folder: Path) -> Case:
    """A sample a file, with a leading axis of 1."""
    import h5py

    x = generator().standard_normal((150, 4, 3)).astype(np.float32)
    y = classes_of(x, 2)
    (folder / "shots").mkdir()
    for i in range(150):
        with h5py.File(folder / "shots" / f"shot_{i:03d}.h5", "w") as file:
            file["x"], file["y"] = x[i][None], y[i : i + 1]
    every = np.ones(150, bool)
    return Case(
        ["inspect shots/shot_000.h5"],
        Truth(x.reshape(150, 12), y, every, every),
        train="'shots/shot_*.h5'",
        evaluate="'shots/shot_*.h5' --split /",
        predict="'shots/shot_*.h5' --split /",
        enough=0.85,
        training=SMALL,
    )


@family("openpmd_api")
def openpmd(folder: Path) -> Case:
    """OpenPMD: particles of a simulation, an iteration a file; a constant is an attribute."""
    import openpmd_api as io

    rng = generator()
    series = io.Series(str(folder / "data_%T.h5"), io.Access.create)
    inputs, targets = [], []
    for step in (100, 200):
        x = rng.standard_normal((250, 3)).astype(np.float32)
        y = (x @ np.array([1.0, -2.0, 0.5], np.float32)).astype(np.float32)
        electrons = series.iterations[step].particles["electrons"]
        for i, axis in enumerate("xyz"):
            momentum = electrons["momentum"][axis]
            momentum.reset_dataset(io.Dataset(x.dtype, [250]))
            momentum.store_chunk(np.ascontiguousarray(x[:, i]))
            offset = electrons["positionOffset"][axis]
            offset.reset_dataset(io.Dataset(np.dtype("float32"), [250]))
            offset.make_constant(0.0)
        energy = electrons["energy"]
        energy.reset_dataset(io.Dataset(y.dtype, [250]))
        energy.store_chunk(y)
        series.flush()
        inputs.append(x)
        targets.append(y)
    series.close()
    test = np.arange(500) >= 250
    names = "momentum/x,momentum/y,momentum/z"
    split = "data/{}/particles/electrons"
    return Case(
        ["inspect data_100.h5"],
        Truth(np.concatenate(inputs), np.concatenate(targets)[:, None], test, names=names.split(",")),
        train=f"data_100.h5 --split {split.format(100)} --x {names} --y energy",
        evaluate=f"data_200.h5 --split {split.format(200)}",
        predict=f"data_200.h5 --split {split.format(200)}",
        says=("data/100/particles/electrons",),
        enough=0.5,
    )


@family("openpmd_api")
def openpmd_iterations(folder: Path) -> Case:
    """OpenPMD: all iterations of one file, end to end."""
    import openpmd_api as io

    rng = generator()
    series = io.Series(str(folder / "all.h5"), io.Access.create)
    inputs = [rng.standard_normal(120) for _ in range(3)]
    for step, x in enumerate(inputs):
        ions = series.iterations[step].particles["ions"]
        for name, values in (("position", x), ("momentum", x * 3)):
            component = ions[name]["x"]
            component.reset_dataset(io.Dataset(values.dtype, [120]))
            component.store_chunk(values)
        series.flush()
    series.close()
    x = np.concatenate(inputs)[:, None]
    path = "data/*/particles/ions"
    return Case(
        [
            "inspect all.h5",
            f"import all.h5 --x '{path}/position/x' --y '{path}/momentum/x' --test-where @group=2 --out d.h5",
        ],
        Truth(x, x * 3, np.arange(360) >= 240),
        enough=0.5,
    )


@family("cantera")
def cantera_hdf5(folder: Path) -> Case:
    """Cantera: HDF5 of SolutionArray.save."""
    import cantera as ct

    rng = generator()
    gas = ct.Solution("h2o2.yaml")
    states = ct.SolutionArray(gas, shape=(240,))
    states.TPX = rng.uniform(500, 2000, 240), rng.uniform(1, 3, 240) * 1e5, rng.dirichlet(np.ones(gas.n_species), 240)
    states.save(str(folder / "ignition.h5"), name="ignition", sub="training")
    x = np.concatenate([states.T[:, None], states.density[:, None], states.Y], 1)
    delay = weighted(x[:, :4])[:, None]
    import h5py

    with h5py.File(folder / "ignition.h5", "a") as file:
        file["ignition/training/delay"] = delay[:, 0]
    group = "ignition/training"
    return Case(
        [
            "inspect ignition.h5",
            f"import ignition.h5 --split / --x {group}/T,{group}/D,{group}/Y --y {group}/delay --test-last 0.25"
            " --out d.h5",
        ],
        Truth(x, delay, last(240, 0.25)),
        says=("ignition/training",),
        enough=0.6,
    )


@family("cantera")
def cantera_csv(folder: Path) -> Case:
    """Cantera: CSV of SolutionArray.save."""
    import cantera as ct

    rng = generator()
    gas = ct.Solution("h2o2.yaml")
    states = ct.SolutionArray(gas, shape=(240,))
    temperature = rng.uniform(500, 2000, 240)
    states.TPX = temperature, 1e5, rng.dirichlet(np.ones(gas.n_species), 240)
    states.save(str(folder / "states.csv"), basis="mole")
    import csv

    with open(folder / "states.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("density", "D")]
    x = np.array([[float(row[name]) for name in names] for row in rows])
    y = np.array([[float(row["density" if "density" in row else "D"])] for row in rows])
    target = "density" if "density" in rows[0] else "D"
    return Case(
        [f"import states.csv --y {target} --test-last 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, last(240, 0.25), names=names),
        enough=0.6,
    )
