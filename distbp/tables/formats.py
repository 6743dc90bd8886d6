"""Formats of files, known by their first bytes; what a file is called says nothing."""

from __future__ import annotations

import os
import re
import zipfile

from distbp.errors import DataError
from distbp.tables.idx_file import is_idx
from distbp.tables.packed_file import is_packed, unpacked

HDF5 = b"\x89HDF\r\n\x1a\n"
MAGIC = {
    HDF5: "hdf5",
    b"\x93NUMPY": "npy",
    b"\xff\xff\xff\xff": "arrow",
    b"PAR1": "parquet",
    b"ARROW1\0": "arrow",
    b"root\0": "root",
    b"SIMPLE  =": "fits",
    b"CDF\x01": "netcdf",
    b"CDF\x02": "netcdf",
    b"CDF\x05": "netcdf",
    b"MATLAB 5.0 MAT-file": "matlab",
}
REFUSED = {  # what is no table of numbers that anybody should read without its own program, and the way out
    b"FEA1": "Feather of version 1; write it as version 2 or as Parquet: pandas.read_feather(path).to_parquet(…)",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Excel workbook (.xls); save it as CSV",
    b"PARE": "an encrypted Parquet file; write it without encryption",
    b"Obj\x01": "Avro; write it as Parquet",
    b"ORC": "ORC; write it as Parquet: pyarrow.orc.read_table(path), pyarrow.parquet.write_table(…)",
    b"SQLite format 3\0": "an SQLite database; write the table as CSV: sqlite3 -header -csv FILE 'select * from TABLE'",
    b"\x0e\x03\x13\x01": "HDF4; convert it: h4toh5 FILE",
    b"$FL2": "SPSS; write it as CSV or Parquet: pandas.read_spss(path).to_parquet(…)",
    b"<stata_dta>": "Stata; write it as CSV or Parquet: pandas.read_stata(path).to_parquet(…)",
    b"%PDF": "a PDF document; save the table as CSV",
    b"\x89PNG": "a picture; distbp reads arrays of pictures, as NPY or HDF5",
    b"\xff\xd8\xff": "a picture; distbp reads arrays of pictures, as NPY or HDF5",
}
LETTERS = (b"PAR1", b"PARE", b"FEA1", b"ORC")  # with which names of columns may begin
TEXT = bytes({*range(32, 256), *b"\t\n\v\f\r"})
R = "a file of R; write it with write.csv(…, row.names = FALSE) or arrow::write_parquet(…)"
_R = re.compile(rb"RD[AX][23]\n|X\n\0\0\0[\2\3]|A\n[23]\n[0-9]{6}\n[0-9]{5,6}\n")
_PICKLE = re.compile(rb"\x80[\2-\5][^\0]", re.DOTALL)
PICKLE = "a pickle, which could run code; save the arrays with numpy.savez, or the frame as Parquet"
SHOWN = {
    "npz": "NPZ",
    "hdf5": "HDF5",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "root": "ROOT",
    "netcdf": "netCDF",
    "matlab": "a MATLAB file",
}
PACKED_TOO = ("npy", "idx", "fits", "")  # what is read when it is packed as a whole


def format_of(path: str) -> str:
    """ "hdf5", "npz", "parquet", … or "" where the first bytes say nothing, as those of text.

    Packed files (gzip, bzip2, xz) are looked into.  Raises DataError for a format that is refused, by its name.
    """
    if os.path.isdir(path):
        return "zarr" if any(os.path.exists(os.path.join(path, name)) for name in ZARR) else "directory"
    with unpacked(path) as file:
        begin = file.read(512)
    found = _zip(path) if begin.startswith((b"PK\3\4", b"PK\5\6")) else _known(path, begin)
    if found not in PACKED_TOO and is_packed(path):
        raise DataError(f"{path}: {SHOWN[found]} that is packed as a whole; unpack it first")
    if not found and _has_hdf5(path):
        return "hdf5"
    return found


def _known(path: str, begin: bytes) -> str:
    if begin.startswith(LETTERS) and not begin[:64].translate(None, TEXT):
        return ""  # a name in the first line of a text
    found = next((name for magic, name in MAGIC.items() if begin.startswith(magic)), "")
    refused = next((what for magic, what in REFUSED.items() if begin.startswith(magic)), "")
    if _R.match(begin):
        refused = R
    elif _PICKLE.match(begin):
        refused = PICKLE
    if refused:
        raise DataError(f"{path}: {refused}")
    return found or ("idx" if is_idx(begin) else "")


def _has_hdf5(path: str) -> bool:
    """Whether HDF5 begins behind a block of other things, as in MATLAB's files of version 7.3."""
    at, size = 512, os.path.getsize(path)
    with open(path, "rb") as file:
        while at < size:
            file.seek(at)
            if file.read(len(HDF5)) == HDF5:
                return True
            at *= 2
    return False


ZARR = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


def _zip(path: str) -> str:
    """What a ZIP archive holds: "npz", or "" for anything else, which may be text."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: not a NumPy archive, nor another ZIP archive: {error}") from None
    if any(name == "xl/workbook.xml" or name.startswith("xl/") for name in names):
        raise DataError(f"{path}: an Excel workbook (.xlsx); save it as CSV")
    if any(name.endswith("/data.pkl") or name.endswith(".pkl") for name in names):
        raise DataError(f"{path}: {PICKLE}")
    return "npz" if any(name.endswith(".npy") for name in names) or path.endswith(".npz") else ""
