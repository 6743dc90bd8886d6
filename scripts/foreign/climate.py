"""Climate, weather and the ocean: netCDF, written by netCDF4 and xarray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from family import Case, Truth, classes_of, drawn, family, generator, last, weighted


@family("netCDF4")
def climsim(folder: Path) -> Case:
    """ClimSim: inputs and outputs of a step in two files, samples along the last axis."""
    import netCDF4

    rng = generator()
    steps, lev, ncol = 4, 6, 80
    state = rng.standard_normal((steps, 3, lev, ncol)) * 5 + 250
    x = np.concatenate(
        [np.moveaxis(state, 3, 1).reshape(steps * ncol, 3 * lev)[:, : 2 * lev], state[:, 2, 0].reshape(-1, 1)], 1
    )
    y = weighted(x, 2) * 7 + 100
    for step in range(steps):
        for kind in ("mli", "mlo"):
            with netCDF4.Dataset(folder / f"E3SM.{kind}.0001-02-0{step + 1}-00000.nc", "w") as file:
                file.createDimension("ncol", ncol)
                file.createDimension("lev", lev)
                if kind == "mli":
                    columns = {
                        "state_t": state[step, 0],
                        "state_q0001": state[step, 1],
                        "pbuf_SOLIN": state[step, 2, 0],
                    }
                else:
                    out = y[step * ncol : (step + 1) * ncol]
                    columns = {"state_t": state[step, 0] + 1, "cam_out_NETSW": out[:, 0], "cam_out_FLWDS": out[:, 1]}
                for name, values in columns.items():
                    axes = ("lev", "ncol") if values.ndim == 2 else ("ncol",)
                    variable = file.createVariable(name, "f8", axes)
                    variable[:] = values
                    variable.units = "K" if name == "state_t" else "W/m2"
    x_names = "--x 'state_t[:, samples],state_q0001[:, samples],pbuf_SOLIN'"
    y_names = "--y cam_out_NETSW,cam_out_FLWDS"
    mli = [f"E3SM.mli.0001-02-0{step + 1}-00000.nc" for step in range(steps)]
    mlo = [f"--y-from {name.replace('mli', 'mlo')}" for name in mli]
    return Case(
        [
            f"inspect {mli[0]}",
            f"! train {mli[0]} --split / --x state_t --y pbuf_SOLIN --out no # samples",
            f"import {' '.join(mli)} {x_names} {' '.join(mlo)} {y_names} --test-last 0.25 --out d.h5",
        ],
        Truth(x, y, last(len(x), 0.25), units=["K"] * lev + ["W/m2"] * (lev + 1)),
        says=("lev", "ncol"),
        enough=0.5,
    )


def _era5(folder: Path, name: str, engine: str | None, form: str) -> Truth:
    """Packed maps (time, latitude, longitude) of four variables, and what xarray reads of them."""
    import pandas as pd
    import xarray as xr

    rng = generator()
    shape, dims = (12, 6, 8), ("time", "latitude", "longitude")
    fields = {one: rng.standard_normal(shape) * 4 + mean for one, mean in (("u10", 0), ("v10", 1), ("t2m", 280))}
    flat = np.stack([values.ravel() for values in fields.values()], 1)
    fields["sshf"] = weighted(flat).reshape(shape) * 300
    units = {"u10": "m s**-1", "v10": "m s**-1", "t2m": "K", "sshf": "J m**-2"}
    data = xr.Dataset(
        {one: (dims, values, {"units": units[one], "long_name": one}) for one, values in fields.items()},
        coords={
            "time": pd.date_range("2020-01-01", periods=shape[0], freq="6h"),
            "latitude": np.linspace(50, 45, shape[1]),
            "longitude": np.linspace(5, 12, shape[2]),
        },
    )
    packing: dict[str, Any] = {
        one: {
            "dtype": "int16",
            "scale_factor": float(np.ptp(values)) / 60000,
            "add_offset": float(values.mean()),
            "_FillValue": -32767,
        }
        for one, values in fields.items()
    }
    data.to_netcdf(folder / name, engine=engine, format=form, encoding=packing)
    with xr.open_dataset(folder / name, engine=engine) as file:
        x = np.stack([file[one].values.ravel() for one in ("u10", "v10", "t2m")], 1)
        y = file["sshf"].values.reshape(-1, 1)
    return Truth(x, y, last(len(x), 0.25), names=("u10", "v10", "t2m"), units=("m s**-1", "m s**-1", "K"))


POINTS = "--x 'u10[samples,samples,samples],v10[samples,samples,samples],t2m[samples,samples,samples]'"
NAMED = "[time=samples,latitude=samples,longitude=samples]"


@family("xarray", "netCDF4")
def era5(folder: Path) -> Case:
    """ERA5: packed maps, netCDF-4; a point of the map is a sample."""
    truth = _era5(folder, "era5.nc", "netcdf4", "NETCDF4")
    return Case(
        [
            "inspect era5.nc",
            f"import era5.nc {POINTS} --y 'sshf{NAMED}' --test-last 0.25 --out d.h5",
        ],
        Truth(truth.x, truth.y, truth.test, units=truth.units),
        says=("time", "latitude", "longitude"),
        enough=0.5,
    )


@family("xarray", "netCDF4")
def era5_classic(folder: Path) -> Case:
    """ERA5: packed maps, netCDF classic (64-bit offset)."""
    truth = _era5(folder, "era5.nc", "netcdf4", "NETCDF3_64BIT")
    return Case(
        [f"import era5.nc {POINTS} --y 'sshf{NAMED}' --test-last 0.25 --out d.h5", "inspect d.h5"],
        Truth(truth.x, truth.y, truth.test, units=truth.units),
        enough=0.5,
    )


@family("xarray", "netCDF4")
def maps(folder: Path) -> Case:
    """Maps, a month is a sample: from all of a map to an index."""
    import xarray as xr

    rng = generator()
    sst = rng.standard_normal((240, 3, 4)).astype(np.float32) * 2 + 290
    nino = weighted(sst).astype(np.float32)
    data = xr.Dataset(
        {"sst": (("time", "lat", "lon"), sst, {"units": "K"}), "nino34": ("time", nino, {"units": "degC"})},
        coords={"time": np.arange(240.0), "lat": [-5.0, 0.0, 5.0], "lon": np.arange(4) * 10.0},
    )
    data.to_netcdf(folder / "sst.nc", encoding={"sst": {"zlib": True, "chunksizes": (60, 3, 4)}})
    return Case(
        ["inspect sst.nc", "import sst.nc --x sst --y nino34 --test-last 0.2 --out d.h5"],
        Truth(sst.reshape(240, 12), nino[:, None], last(240, 0.2), units=["K"] * 12),
        enough=0.5,
    )


@family("netCDF4")
def goes(folder: Path) -> Case:
    """GOES ABI: bands over (y, x), with coordinates called y and x."""
    import netCDF4

    rng = generator()
    side, bands = 24, 3
    with netCDF4.Dataset(folder / "abi.nc", "w") as file:
        for axis in "yx":
            file.createDimension(axis, side)
            variable = file.createVariable(axis, "i2", (axis,))
            variable.scale_factor, variable.add_offset, variable.units = 5.6e-05, -0.15, "rad"
            variable[:] = np.arange(side) * 5.6e-05 - 0.15
        x = np.empty((side * side, bands))
        for band in range(bands):
            variable = file.createVariable(f"CMI_C{band + 1:02d}", "i2", ("y", "x"), fill_value=-1)
            variable.scale_factor, variable.add_offset, variable.units = 0.05, 200.0, "K"
            variable[:] = rng.uniform(210, 290, (side, side))
            x[:, band] = np.asarray(variable[:]).ravel()
        y = classes_of(x, 2)
        mask = file.createVariable("BCM", "i1", ("y", "x"), fill_value=-1)
        mask.flag_values, mask.flag_meanings = np.array([0, 1], "i1"), "clear cloudy"
        mask[:] = y.reshape(side, side)
    names = ",".join(f"CMI_C{band + 1:02d}[samples, samples]" for band in range(bands))
    return Case(
        [
            "inspect abi.nc",
            "! train abi.nc --out no",
            "! import abi.nc --out no.h5",
            f"import abi.nc --x '{names}' --y 'BCM[y=samples, x=samples]' --test-last 0.25 --out d.h5",
        ],
        Truth(x, np.array(["clear", "cloudy"])[y], last(len(x), 0.25), units=["K"] * bands),
        enough=0.85,
    )


@family("netCDF4")
def stations(folder: Path) -> Case:
    """Stations (Argo, ARM): labels as characters, and as flags with meanings."""
    import netCDF4

    rng = generator()
    x = rng.standard_normal((320, 3)).astype(np.float32)
    y = classes_of(x, 3)
    words = np.array(["Good", "Bad", "Doubtful"], "S8")[y]
    with netCDF4.Dataset(folder / "argo.nc", "w", format="NETCDF4") as file:
        file.createDimension("obs", None)
        file.createDimension("string8", 8)
        for j, name in enumerate(("TEMP", "PSAL", "PRES")):
            file.createVariable(name, "f4", ("obs",))[:] = x[:, j]
        file.createVariable("kind", "S1", ("obs", "string8"))[:] = netCDF4.stringtochar(words)
        flags = file.createVariable("qc", "i1", ("obs",))
        flags[:] = y + 1
        flags.flag_values, flags.flag_meanings = np.array([1, 2, 3], "i1"), "good_data bad_data doubtful"
    train = np.arange(320) < 240
    meant = np.array(["good_data", "bad_data", "doubtful"])[y]
    return Case(
        [
            "inspect argo.nc",
            "import argo.nc --x TEMP,PSAL,PRES --y kind --test-last 0.25 --out kind.h5",
            "import argo.nc --x TEMP,PSAL,PRES --y qc --test-last 0.25 --out d.h5",
        ],
        Truth(x, meant, ~train, names=("TEMP", "PSAL", "PRES")),
        check=lambda where: _is_column(where / "kind.h5", "test/y", words[~train]),
        enough=0.85,
    )


def _is_column(path: Path, name: str, truth: Any) -> None:
    """Raises AssertionError where a column of strings is not as it has to be."""
    import h5py

    with h5py.File(path) as file:
        found = file[name].asstr()[:].tolist()
    assert found == [one.decode() for one in truth.tolist()], f"{path.name}: {name} is {found[:3]}, not {truth[:3]}"


@family("netCDF4")
def netcdf_missing(folder: Path) -> Case:
    """NetCDF: fill values, limits, unsigned bytes, as netCDF4 reads them."""
    import netCDF4

    rng = generator()
    n = 300
    with netCDF4.Dataset(folder / "obs.nc", "w") as file:
        file.createDimension("obs", n)
        file.createVariable("a", "f4", ("obs",))[: n - 20] = rng.standard_normal(n - 20)  # the rest is never written
        b = file.createVariable("b", "f4", ("obs",))
        b.valid_range = np.array([-10, 10], "f4")
        values = rng.standard_normal(n)
        values[5] = -999
        b[:] = values
        c = file.createVariable("c", "i2", ("obs",), fill_value=-9999)
        c.scale_factor, c.add_offset = 0.01, 5.0
        c[:] = np.ma.masked_array(rng.standard_normal(n) + 5, np.arange(n) == 7)
        d = file.createVariable("d", "i1", ("obs",))
        d._Unsigned = "true"
        d.set_auto_maskandscale(False)
        d[:] = rng.integers(0, 250, n).astype("u1").view("i1")
    with netCDF4.Dataset(folder / "obs.nc") as file:
        columns = [file[name][:] for name in "abcd"]
    gone = np.zeros(n, bool)
    for column in columns:
        gone |= np.ma.getmaskarray(column)
    assert gone.sum() == 22
    x = np.stack([np.ma.getdata(column)[~gone] for column in columns], 1).astype(np.float64)
    y = weighted(x)
    with netCDF4.Dataset(folder / "obs.nc", "a") as file:
        target = np.zeros(n)
        target[~gone] = y
        file.createVariable("flux", "f8", ("obs",))[:] = target
    count = len(x)
    return Case(
        [
            "inspect obs.nc",
            "! import obs.nc --y flux --test-last 0.25 --out no.h5 # 20",
            "! train obs.nc --x a,b,c,d --y flux --out no",
            "import obs.nc --y flux --on-missing drop --test-last 0.25 --out d.h5",
        ],
        Truth(x, y[:, None], last(count, 0.25), names=("a", "b", "c", "d")),
        enough=0.5,
    )


@family("xarray", "netCDF4")
def xarray_times(folder: Path) -> Case:
    """Xarray: categories as text, a missing duration."""
    import xarray as xr

    rng = generator()
    n = 300
    duration = rng.integers(1, 100, n)
    x = np.stack([rng.standard_normal(n), duration], 1)
    y = classes_of(x, 3)
    hours = duration.astype("timedelta64[h]").astype("timedelta64[ns]")
    hours[3] = np.timedelta64("NaT")
    data = xr.Dataset(
        {
            "speed": ("event", x[:, 0]),
            "duration": ("event", hours),
            "kind": ("event", np.array(["calm", "storm", "gale"], object)[y]),
        }
    )
    data.to_netcdf(folder / "events.nc")
    kept = np.arange(n) != 3
    return Case(
        [
            "inspect events.nc",
            "! import events.nc --x speed,duration --y kind --test-fraction 0.25 --out no.h5",
            "import events.nc --x speed,duration --y kind --on-missing drop --test-fraction 0.25 --out d.h5",
        ],
        Truth(x[kept], np.array(["calm", "storm", "gale"])[y[kept]], drawn=drawn(y[kept], 0.25)),
        enough=0.85,
    )
