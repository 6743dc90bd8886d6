"""What cannot be read is called damaged only where it is: a filter, a type, a driver, the system are named."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import Runner, check_error

from distbp.data.data_file import damage_reported, opened, why_not_decodable, why_not_typed
from distbp.doctor.doctor import check_versions
from distbp.errors import DataError

ZSTD, NOBODYS = 32015, 300  # registered numbers; the second is of a range that is free for own filters


def compressed(group: h5py.Group, name: str, values: Any, number: int, left_out: int = 0) -> None:
    """A data set of one chunk that says it has gone through a filter, or that this was left out (1)."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk(values.shape)
    how.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
    space, kind = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
    made = h5py.h5d.create(group.id, name.encode(), kind, space, how)
    made.write_direct_chunk((0,) * values.ndim, values.tobytes(), left_out)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        x, y = np.eye(6), np.arange(6) % 2
        train = file.create_group("train")
        train["x"] = x
        compressed(train, "y", y, ZSTD)
        compressed(train, "own", y, NOBODYS)
        compressed(train, "left_out", y, ZSTD, left_out=1)
        train.create_dataset("gzip", data=y, chunks=(3,), compression="gzip", shuffle=True, fletcher32=True)
    return tmp_path / "d.h5"


def test_filters_that_are_not_installed(file: Path) -> None:
    if h5py.h5z.filter_avail(ZSTD):
        pytest.skip("the plugin is installed here")
    with h5py.File(file) as opened_file:
        said = {name: why_not_decodable(dataset) for name, dataset in opened_file["train"].items()}
        assert opened_file["train/left_out"][3] == 1  # it can be read
    assert said["y"].startswith(
        "is compressed by Zstandard (HDF5 filter 32015), which is not installed; pip install hdf5"
    )
    assert "\n  export HDF5_PLUGIN_PATH=$(python -c 'import hdf5plugin; print(hdf5plugin.PLUGIN_PATH)')" in said["y"]
    assert "(HDF5 filter 300)" in said["own"]
    assert "hdf5plugin" not in said["own"]
    assert said["x"] == said["gzip"] == said["left_out"] == ""


@pytest.mark.slow
def test_commands_on_such_a_file(runner: Runner, file: Path) -> None:
    if h5py.h5z.filter_avail(ZSTD):
        pytest.skip("the plugin is installed here")
    for command in (
        ("train", "d.h5"),
        ("import", "d.h5", "--x", "x", "--y", "y", "--out", "o.h5"),
    ):
        result = runner.distbp(*command)
        check_error(result, 1, "train/y is compressed by", "pip install hdf5plugin", "HDF5_PLUGIN_PATH")
        assert "damaged" not in result.stderr
        assert "copy it again" not in result.stderr
    result = runner.distbp("inspect", "d.h5")  # which says it beside all else that is there
    assert result.returncode == 0, result.stderr
    for word in ("refused: train/y is compressed by", "pip install hdf5plugin", "HDF5_PLUGIN_PATH", "train/x  (6, 6)"):
        assert word in result.stdout
    assert "damaged" not in result.stdout


def test_types_that_numpy_does_not_have(tmp_path: Path) -> None:
    """A time, as PyTables writes it in a table: the field is named."""
    path = tmp_path / "d.h5"
    with h5py.File(path, "w") as file:
        table = h5py.h5t.create(h5py.h5t.COMPOUND, 16)
        table.insert(b"a", 0, h5py.h5t.IEEE_F64LE)
        table.insert(b"when", 8, h5py.h5t.UNIX_D64LE)
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"table", table, space)
        h5py.h5d.create(file.id, b"time", h5py.h5t.UNIX_D64LE, space)
        file["x"] = np.zeros(3, [("a", "f8")])
    with h5py.File(path) as file:
        assert why_not_typed(file["table"]).startswith("has a field when of a type that NumPy does not have")
        assert why_not_typed(file["time"]).startswith("is of a type that NumPy does not have")
        assert why_not_typed(file["x"]) == ""
    with (
        pytest.raises(DataError, match=r"d\.h5: is of a type that NumPy does not have") as error,
        opened(str(path)) as f,
    ):
        _ = f["time"].dtype
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize(
    ("driver", "words", "name", "part"),
    [
        ({"driver": "family", "memb_size": 4096}, "h5repart -family_to_sec2", "d%d.h5", "d0.h5"),
        ({"driver": "split"}, "split or multi driver", "d", "d-m.h5"),
    ],
)
def test_files_in_parts(tmp_path: Path, libver: str, driver: dict[str, Any], words: str, name: str, part: str) -> None:
    with h5py.File(tmp_path / name, "w", libver=libver, **driver) as file:
        file["train/x"] = np.zeros((4000, 3))
    with pytest.raises(DataError, match=words) as error, opened(str(tmp_path / part)):
        pass
    assert "truncated" not in str(error.value)


def test_what_the_system_refuses_is_no_damage() -> None:
    """As h5py tells it: by its number, or in words alone."""
    for error in (
        OSError(errno.ESTALE, os.strerror(errno.ESTALE)),
        OSError("Can't read data (file read failed: errno = 5, error message = 'Input/output error')"),
    ):
        with pytest.raises(DataError, match="that is no damage") as found, damage_reported("d.h5"):
            raise error
        assert "write or copy it again" not in str(found.value)
    with pytest.raises(DataError, match=r"damaged or truncated: bad address; write"), damage_reported("d.h5"):
        raise OSError("bad address")


def test_doctor_lists_the_filters_that_are_there() -> None:
    said = next(finding.text for finding in check_versions() if finding.what == "HDF5 filters")
    assert ("Zstandard" in said) == bool(h5py.h5z.filter_avail(ZSTD))
    assert ("pip install hdf5plugin" in said) == said.startswith("none beside")
