"""Tables: pandas, PyTables, PyArrow, polars, Zarr, FITS and astropy, catalogues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from family import DATA, Case, Truth, check_equal, classes_of, drawn, family, generator, last, weighted


@family()
def halos(folder: Path) -> Case:
    """Halo catalogue: a group with columns x, y, z, mass."""
    import h5py

    columns = generator().uniform(0, 100, (300, 4))
    mass = weighted(columns) * 1e12 + 1e13
    with h5py.File(folder / "halos.h5", "w") as file:
        group = file.create_group("halos")
        for i, name in enumerate(("x", "y", "z", "vmax")):
            group[name] = columns[:, i]
        group["mass"] = mass
    every = np.ones(300, bool)
    return Case(
        ["inspect halos.h5", "! train halos.h5 --split halos --out no", "! import halos.h5 --out no.h5"],
        Truth(columns, mass[:, None], every, every, names=("x", "y", "z", "vmax")),
        train="halos.h5 --split halos --x x,y,z,vmax --y mass",
        evaluate="halos.h5 --split halos",
        predict="halos.h5 --split halos",
        says=("mass", "vmax"),
        enough=0.5,
        training="--epochs 40",
    )


@family()
def catalogue(folder: Path) -> Case:
    """Halo catalogue: a compound table with id, x, y, z, mass."""
    import h5py

    rng = generator()
    table = np.zeros(300, [("id", "i8"), *((name, "f8") for name in ("x", "y", "z", "mass"))])
    table["id"] = rng.permutation(300) + 2**40
    for name in "xyz":
        table[name] = rng.uniform(0, 100, 300)
    x = np.stack([table[name] for name in "xyz"], 1)
    table["mass"] = weighted(x)
    with h5py.File(folder / "catalogue.h5", "w") as file:
        file["subhalo"] = table
    return Case(
        [
            "inspect catalogue.h5",
            "! import catalogue.h5 --out no.h5",
            "import catalogue.h5 --drop id --y mass --test-last 0.25 --out d.h5",
        ],
        Truth(x, table["mass"][:, None], last(300, 0.25), names=("x", "y", "z")),
        says=("subhalo", "mass"),
        enough=0.5,
        training="--epochs 40",
    )


def _sensors() -> tuple[Any, Any]:
    import pandas as pd

    x = generator().standard_normal((300, 3))
    y = classes_of(x, 2)
    state = pd.Categorical.from_codes(y, ["idle", "busy"])
    when = pd.date_range("2024-01-01", periods=300, freq="min")
    frame = pd.DataFrame({"volt": x[:, 0], "amp": x[:, 1], "temp": x[:, 2], "state": state}, index=when)
    return frame, y


@family("pandas", "tables")
def hdfstore(folder: Path) -> Case:
    """Sensors: pandas HDFStore, a table with data columns, a category with gaps."""
    frame, y = _sensors()
    frame.loc[frame.index[4], "state"] = None
    frame.to_hdf(folder / "readings.h5", key="readings", format="table", data_columns=True)
    kept = np.arange(300) != 4
    names = "--split readings/table --x volt,amp,temp --y state"
    return Case(
        [
            "inspect readings.h5",
            f"! import readings.h5 {names} --test-last 0.25 --out no.h5",
            f"import readings.h5 {names} --on-missing drop --test-last 0.25 --out d.h5",
        ],
        Truth(
            frame[["volt", "amp", "temp"]].to_numpy()[kept],
            np.array(["idle", "busy"])[y[kept]],
            last(299, 0.25),
            names=("volt", "amp", "temp"),
        ),
        says=("readings/table",),
        enough=0.85,
    )


@family("pandas", "tables")
def hdfstore_fixed(folder: Path) -> Case:
    """Sensors: pandas HDFStore, fixed format."""
    frame, y = _sensors()
    numbers = frame[["volt", "amp", "temp"]].assign(busy=y)
    numbers.to_hdf(folder / "fixed.h5", key="df", format="fixed")
    return Case(
        [
            "inspect fixed.h5",
            "import fixed.h5 --split df --x block0_values --y block1_values --test-last 0.25 --out d.h5",
        ],
        Truth(numbers[["volt", "amp", "temp"]].to_numpy(), y, last(300, 0.25)),
        says=("df/block0_values",),
        enough=0.85,
    )


@family("tables")
def pytables(folder: Path) -> Case:
    """PyTables: columns of booleans and enumerations."""
    return _pytables(folder, with_times=False)


@family("tables")
def pytables_times(folder: Path) -> Case:
    """PyTables: a column of times (Time64Col), for which NumPy has no type, beside others."""
    return _pytables(folder, with_times=True)


def _pytables(folder: Path, *, with_times: bool) -> Case:
    import tables

    rng = generator()
    x = rng.standard_normal((300, 2))
    flag = rng.integers(0, 2, 300).astype(bool)
    inputs = np.concatenate([x, flag[:, None]], 1)
    y = classes_of(inputs, 3)
    names = ("red", "green", "blue")
    kinds = tables.Enum(names)
    columns = {
        "a": tables.Float64Col(pos=0),
        "b": tables.Float64Col(pos=1),
        "flag": tables.BoolCol(pos=2),
        "colour": tables.EnumCol(kinds, "red", base="uint8", pos=3),
    }
    if with_times:
        columns["when"] = tables.Time64Col(pos=4)
    with tables.open_file(str(folder / "events.h5"), "w") as file:
        table = file.create_table("/", "events", columns)
        for i in range(300):
            table.row["a"], table.row["b"], table.row["flag"] = x[i, 0], x[i, 1], flag[i]
            table.row["colour"] = kinds[names[y[i]]]
            if with_times:
                table.row["when"] = 1.7e9 + i
            table.row.append()
    return Case(
        [
            "inspect events.h5",
            "import events.h5 --split events --x a,b,flag --y colour --test-fraction 0.25 --out d.h5",
        ],
        Truth(inputs, np.array(names)[y], drawn=drawn(y, 0.25), names=("a", "b", "flag")),
        says=("events",),
        enough=0.8,
    )


@family("h5py")
def enumeration(folder: Path) -> Case:
    """HDF5 enumerations as labels."""
    import h5py

    x = generator().standard_normal((300, 4))
    y = classes_of(x, 2)
    kinds = h5py.enum_dtype({"electron": 3, "ion": 7}, "i1")
    with h5py.File(folder / "labels.h5", "w") as file:
        file["train/x"] = x[:220]
        file["test/x"] = x[220:]
        codes = np.array([3, 7], "i1")[y]
        file.create_dataset("train/y", data=codes[:220], dtype=kinds)
        file.create_dataset("test/y", data=codes[220:], dtype=kinds)
    return Case(
        ["inspect labels.h5"],
        Truth(x, np.array(["electron", "ion"])[y], np.arange(300) >= 220),
        train="labels.h5",
        says=("electron",),
        enough=0.85,
    )


@family("pandas")
def kaggle(folder: Path) -> Case:
    """Kaggle: CSV with Id, text categories, empty cells, an integer target; test.csv without target."""
    import pandas as pd

    rng = generator()
    n = 320
    area, rooms = rng.integers(400, 3000, n), rng.integers(1, 9, n)
    zone = np.array(["RL", "RM", "FV"])[rng.integers(0, 3, n)]
    air = rng.integers(0, 2, n).astype(bool)
    hot = np.stack([zone == "FV", zone == "RL", zone == "RM"], 1)
    price = (100 * area + 9000 * rooms + 50000 * hot[:, 0] + 20000 * air).astype(int)
    frame = pd.DataFrame({"Id": np.arange(1, n + 1), "LotArea": area, "Rooms": rooms, "Zone": zone, "Air": air})
    lot = frame["LotArea"].astype(float)
    lot[10] = np.nan
    frame["LotArea"] = lot
    frame["SalePrice"] = price
    frame[:240].to_csv(folder / "train.csv", index=False)
    frame[240:].drop(columns="SalePrice").to_csv(folder / "test.csv", index=False)
    lot[10] = lot[:180].mean()  # of the training rows
    x = np.stack([lot, rooms, *hot.T, air], 1)
    names = ("LotArea", "Rooms", "Zone=FV", "Zone=RL", "Zone=RM", "Air")
    return Case(
        [
            "! import train.csv --drop Id --y SalePrice --task targets --test-last 0.25 --out no.h5 # LotArea",
            "import train.csv --drop Id --y SalePrice --task targets --on-missing mean --test-last 0.25 --out d.h5",
            "inspect d.h5",
            "train d.h5 --hidden 16 --epochs 40 --learning-rate 0.01 --out first",
            "import test.csv --like first --unlabelled --out unlabelled.h5",
            "predict first unlabelled.h5 --split train --out unlabelled.csv",
        ],
        Truth(x[:240], price[:240, None].astype(float), last(240, 0.25), names=names),
        enough=0.5,
        training="--epochs 40",
        check=lambda where: _near(where / "unlabelled.csv", price[240:]),
    )


def _near(path: Path, truth: Any) -> None:
    """Raises AssertionError where predictions in CSV are far from the truth."""
    found = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)[:, -1]
    assert found.shape == truth.shape, f"{path.name}: {found.shape} predictions, {truth.shape} rows"
    error = np.sqrt(np.mean((found - truth) ** 2)) / truth.std()
    assert error < 0.5, f"{path.name}: predictions are off by {error:.2f} spreads"


@family("pandas", "pyarrow")
def pandas_index(folder: Path) -> Case:
    """Pandas: CSV and Parquet with the index among the columns."""
    import pandas as pd

    x = generator().standard_normal((300, 3))
    y = np.array(["u", "v", "w"])[classes_of(x, 3)]
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "lab": y}).sort_values("lab")
    frame.to_csv(folder / "sorted.csv")
    frame.to_parquet(folder / "sorted.parquet")

    return Case(
        [
            "import sorted.csv --y lab --test-fraction 0.25 --out csv.h5",
            "import sorted.parquet --y lab --test-fraction 0.25 --out d.h5",
            "inspect d.h5",
        ],
        Truth(frame[["a", "b", "c"]].to_numpy(), frame["lab"].to_numpy(str), drawn=drawn(y, 0.25), names="abc"),
        enough=0.8,
        check=lambda where: check_equal(where / "csv.h5", where / DATA),
    )


@family("pyarrow")
def parquet_directory(folder: Path) -> Case:
    """A directory of Parquet files (hive), with decimals and dictionaries."""
    from decimal import Decimal

    import pyarrow as pa
    import pyarrow.dataset as ds

    x = generator().integers(-9999, 9999, (300, 3)) / 100
    y = np.array(["low", "high"])[classes_of(x, 2)]
    table = pa.table(
        {
            "price": pa.array([Decimal(f"{value:.2f}") for value in x[:, 0]], pa.decimal128(8, 2)),
            "a": x[:, 1],
            "b": x[:, 2].astype(np.float32),
            "kind": pa.array(y).dictionary_encode(),
            "year": pa.array([2020 + i // 150 for i in range(300)], pa.int32()),
        }
    )
    ds.write_dataset(
        table,
        folder / "sales",
        format="parquet",
        partitioning=ds.partitioning(pa.schema([("year", pa.int32())]), flavor="hive"),
    )
    inputs = np.stack([x[:, 0], x[:, 1], x[:, 2].astype(np.float32)], 1)
    return Case(
        ["import sales --x price,a,b --y kind --test-where year=2021 --out d.h5", "inspect d.h5"],
        Truth(inputs, y, np.arange(300) >= 150, names=("price", "a", "b")),
        enough=0.85,
    )


@family("polars")
def polars_lists(folder: Path) -> Case:
    """Polars: Parquet with lists and categories; Arrow IPC."""
    import polars as pl

    x = generator().standard_normal((300, 5))
    y = np.array(["cat", "dog"])[classes_of(x, 2)]
    frame = pl.DataFrame(
        {"features": x[:, :4].tolist(), "age": x[:, 4], "kind": pl.Series(y.tolist(), dtype=pl.Categorical)}
    )
    frame.write_parquet(folder / "pets.parquet")
    frame.write_ipc(folder / "pets.arrow")
    return Case(
        [
            "import pets.parquet --y kind --test-last 0.25 --out parquet.h5",
            "import pets.arrow --y kind --test-last 0.25 --out d.h5",
            "inspect d.h5",
        ],
        Truth(x, y, last(300, 0.25)),
        check=lambda where: check_equal(where / "parquet.h5", where / DATA),
        enough=0.85,
    )


@family("pyarrow")
def feather(folder: Path) -> Case:
    """Feather and Arrow streams of PyArrow."""
    import pyarrow as pa
    import pyarrow.feather

    x = generator().standard_normal((300, 3))
    y = classes_of(x, 3)
    table = pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "label": y})
    pyarrow.feather.write_feather(table, folder / "t.feather", compression="lz4")
    with pa.OSFile(str(folder / "t.arrows"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Case(
        [
            "import t.arrows --test-last 0.25 --out stream.h5",
            "import t.feather --test-last 0.25 --out d.h5",
            "inspect d.h5",
        ],
        Truth(x, y, last(300, 0.25), names="abc"),
        check=lambda where: check_equal(where / "stream.h5", where / DATA),
        enough=0.85,
    )


@family("zarr")
def zarr_v3(folder: Path) -> Case:
    """Zarr: a group of arrays, version 3."""
    import zarr

    x = generator().standard_normal((300, 2, 3)).astype(np.float32)
    y = classes_of(x, 3)
    group = zarr.open_group(str(folder / "store.zarr"), mode="w", zarr_format=3)
    group.create_array("x", data=x, chunks=(70, 2, 3))
    group.create_array("y", data=y, chunks=(70,))
    return Case(
        ["import store.zarr --test-fraction 0.25 --out d.h5", "inspect d.h5"],
        Truth(x.reshape(300, 6), y, drawn=drawn(y, 0.25)),
        enough=0.85,
    )


@family("zarr", "xarray")
def zarr_xarray(folder: Path) -> Case:
    """Zarr: written by xarray, version 2, packed."""
    import xarray as xr

    rng = generator()
    x = rng.standard_normal((300, 2)) * 5 + 20
    data = xr.Dataset(
        {
            "temp": (("time", "site"), x, {"units": "degC"}),
            "load": ("time", weighted(x), {"units": "MW"}),
        },
        coords={"time": np.arange(300)},
    )
    packing = {"temp": {"dtype": "int16", "scale_factor": 0.001, "add_offset": 20.0, "_FillValue": -32768}}
    data.to_zarr(folder / "load.zarr", zarr_format=2, encoding=packing, consolidated=True)
    with xr.open_zarr(folder / "load.zarr") as file:
        read = file["temp"].values
    return Case(
        ["import load.zarr --x temp --y load --test-last 0.25 --out d.h5", "inspect d.h5"],
        Truth(read, weighted(x)[:, None], last(300, 0.25), units=("degC", "degC")),
        enough=0.5,
        training="--epochs 40",
    )


def _stars() -> tuple[Any, Any]:
    """A catalogue of stars as astropy has it, and its inputs."""
    from astropy import units
    from astropy.table import Table

    rng = generator()
    x = rng.standard_normal((300, 3))
    flux = rng.standard_normal((300, 2)).astype(np.float32)
    inputs = np.concatenate([x, flux], 1)
    y = np.array(["STAR", "QSO", "GALAXY"])[classes_of(inputs, 3)]
    table = Table(
        {
            "ra": x[:, 0] * units.deg,
            "dec": x[:, 1] * units.deg,
            "mag": x[:, 2] * units.mag,
            "flux": flux,
            "CLASS": y,
        }
    )
    return table, inputs


@family("astropy")
def fits_table(folder: Path) -> Case:
    """FITS: a binary table of astropy, big-endian, with a column of arrays."""
    table, x = _stars()
    table.write(folder / "stars.fits")
    y = np.array(table["CLASS"])
    return Case(
        ["import stars.fits --y CLASS --test-fraction 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, drawn=drawn(y, 0.25), units=("deg", "deg", "mag", "", "")),
        enough=0.75,
        training="--epochs 40",
    )


@family("astropy")
def ecsv(folder: Path) -> Case:
    """Astropy: ECSV, CSV after lines of YAML."""
    table, x = _stars()
    table.remove_column("flux")
    table.write(folder / "stars.ecsv", delimiter=",")
    y = classes_of(x[:, :3], 2)
    table["good"] = y
    table.write(folder / "stars.ecsv", delimiter=",", overwrite=True)
    return Case(
        ["import stars.ecsv --drop CLASS --y good --test-fraction 0.25 --out d.h5", "inspect d.h5"],
        Truth(x[:, :3], y, drawn=drawn(y, 0.25), names=("ra", "dec", "mag"), units=("deg", "deg", "mag")),
        enough=0.85,
    )


@family("astropy", "h5py")
def astropy_hdf5(folder: Path) -> Case:
    """Astropy: a table in HDF5 with its hidden description."""
    table, x = _stars()
    table.remove_column("flux")
    table.convert_unicode_to_bytestring()
    y = classes_of(x[:, :3], 2)
    table["good"] = y
    table.write(folder / "stars.hdf5", path="catalog", serialize_meta=True)
    return Case(
        ["inspect stars.hdf5", "import stars.hdf5 --x ra,dec,mag --y good --test-fraction 0.25 --out d.h5"],
        Truth(x[:, :3], y, drawn=drawn(y, 0.25), names=("ra", "dec", "mag")),
        says=("catalog",),
        enough=0.85,
    )


@family("scipy")
def graph_nodes(folder: Path) -> Case:
    """Graphs' nodes as npz (Amazon photo): a sparse matrix in four arrays."""
    from scipy import sparse

    rng = generator()
    x = (rng.random((360, 20)) < 0.3).astype(np.float32)
    y = classes_of(x, 2)
    attributes, links = sparse.csr_matrix(x), sparse.random(360, 360, 0.01, "csr", random_state=0)
    np.savez(
        folder / "amazon_photo.npz",
        **{f"adj_{name}": getattr(links, name) for name in ("data", "indices", "indptr", "shape")},
        **{f"attr_{name}": getattr(attributes, name) for name in ("data", "indices", "indptr", "shape")},
        labels=y,
        class_names=np.array(["Film", "Lens"]),
    )
    return Case(
        ["import amazon_photo.npz --x attr --y labels --test-fraction 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, drawn=drawn(y, 0.25)),
        enough=0.8,
        training="--epochs 30",
    )


@family()
def reddit(folder: Path) -> Case:
    """Graphs' nodes as npz (Reddit): a column says which rows are for testing."""
    x = generator().standard_normal((360, 6))
    y = classes_of(x, 3)
    types = np.array([1, 1, 1, 3])[np.arange(360) % 4]
    np.savez(folder / "reddit.npz", feature=x, label=y, node_types=types, node_ids=np.arange(360))
    return Case(
        ["import reddit.npz --x feature --y label --test-where node_types=3 --out d.h5", "inspect d.h5"],
        Truth(x, y, types == 3),
        enough=0.85,
    )


@family("scipy")
def save_npz(folder: Path) -> Case:
    """Scipy's save_npz and labels as NPY."""
    from scipy import sparse

    x = (generator().random((360, 20)) < 0.3) * 2.5
    y = classes_of(x, 2)
    sparse.save_npz(folder / "features.npz", sparse.csr_matrix(x))
    np.save(folder / "labels.npy", y)
    return Case(
        ["import features.npz --y-from labels.npy --test-fraction 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, drawn=drawn(y, 0.25)),
        enough=0.8,
        training="--epochs 30",
    )


@family()
def npz_beside(folder: Path) -> Case:
    """NPZ with identifiers and weights beside x and y."""
    x = generator().standard_normal((300, 4))
    y = classes_of(x, 3)
    names = np.array(["p", "q", "r", "s"])
    np.savez(folder / "set.npz", x=x, y=y, ids=np.arange(300), sample_weight=np.ones(300), feature_names=names)
    return Case(
        ["import set.npz --test-fraction 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, drawn=drawn(y, 0.25)),
        enough=0.85,
    )


@family()
def npy_pair(folder: Path) -> Case:
    """NumPy: a pair of NPY files, Fortran order, whole numbers of a float type as labels."""
    x = generator().standard_normal((300, 4))
    y = classes_of(x, 3)
    np.save(folder / "X.npy", np.asfortranarray(x.astype(">f4")))
    np.save(folder / "y.npy", y.astype(float))
    return Case(
        [
            "! import X.npy y.npy --test-fraction 0.25 --out no.h5 # --task",
            "import X.npy y.npy --task classes --test-fraction 0.25 --out d.h5",
            "inspect d.h5",
        ],
        Truth(x.astype("f4"), y, drawn=drawn(y, 0.25)),
        enough=0.85,
    )
