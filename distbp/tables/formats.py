"""Formats of files, known by their first bytes; what a file is called says nothing."""

from __future__ import annotations

import os

from distbp.errors import DataError
from distbp.tables.idx_file import is_idx
from distbp.tables.packed_file import unpacked

HDF5 = b"\x89HDF\r\n\x1a\n"
MAGIC = {
    b"\x93NUMPY": "npy",
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"root": "root",
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
R = "a file of R; write it with write.csv(…, row.names = FALSE) or arrow::write_parquet(…)"
R_BEGIN = (b"RDX2\n", b"RDX3\n", b"RDA2\n", b"RDA3\n", b"X\n\0\0\0\2", b"X\n\0\0\0\3", b"A\n2\n", b"A\n3\n")
PICKLE = "a pickle, which could run code; save the arrays with numpy.savez, or the frame as Parquet"


def format_of(path: str) -> str:
    """ "hdf5", "npz", "zip", "parquet", … or "" where the first bytes say nothing, as those of text.

    Packed files (gzip, bzip2, xz) are looked into.  Raises DataError for a format that is refused, by its name.
    """
    if os.path.isdir(path):
        return "zarr" if any(os.path.exists(os.path.join(path, name)) for name in ZARR) else "directory"
    with unpacked(path) as file:
        begin = file.read(512)
    if begin.startswith(b"PK\x03\x04") or begin.startswith(b"PK\x05\x06"):
        return _zip(path, begin)
    found = next((name for magic, name in MAGIC.items() if begin.startswith(magic)), "")
    if found:
        return found
    refused = next((what for magic, what in REFUSED.items() if begin.startswith(magic)), "")
    if begin.startswith(R_BEGIN):
        refused = R
    elif begin[:1] == b"\x80" and begin[1:2] in b"\2\3\4\5" and len(begin) > 2:
        refused = PICKLE
    if refused:
        raise DataError(f"{path}: {refused}")
    if begin.startswith(b"\xff\xff\xff\xff"):
        return "arrow"
    return "idx" if is_idx(begin) else ""


ZARR = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


def _zip(path: str, begin: bytes) -> str:
    """What a ZIP archive holds: "npz", or "zip" of anything else."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: not a NumPy archive, nor another ZIP archive: {error}") from None
    if any(name == "xl/workbook.xml" or name.startswith("xl/") for name in names):
        raise DataError(f"{path}: an Excel workbook (.xlsx); save it as CSV")
    if any(name.endswith("/data.pkl") or name.endswith(".pkl") for name in names):
        raise DataError(f"{path}: {PICKLE}")
    return "npz" if any(name.endswith(".npy") for name in names) or path.endswith(".npz") else "zip"
