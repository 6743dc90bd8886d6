"""Groups that are one column: a form in which a library writes an array for which HDF5 has no type.

codes, categories            anndata's categories, -1 for none
values, mask                 anndata's nullable integers, truth values and strings
data, indices, indptr        a sparse matrix: anndata, 10x Genomics (whose columns are the samples), SciPy
data, ir, jc                 MATLAB's sparse matrix
type, value                  Octave (save -hdf5), axes reversed
attributes value, shape      openPMD's constant
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp.data.attributes import Attributes
from distbp.data.categories import Categories, below
from distbp.data.character_array import CharacterArray
from distbp.data.conventions import DecodedArray, Source, Step, open_dataset
from distbp.data.named_values import NamedValues
from distbp.data.plain_array import Index, PlainArray, normalized, without_axes
from distbp.data.sparse_rows import SparseRows
from distbp.data.turned_array import TurnedArray
from distbp.errors import DataError

CATEGORIES, NULLABLE, SPARSE = {"codes", "categories"}, {"values", "mask"}, {"data", "indices", "indptr"}
MATLAB, OCTAVE, CONSTANT = {"ir", "jc"}, {"type", "value"}, {"value", "shape"}
LENGTHS = {"": 0, "csr": 1, "csc": 2}


def is_column(item: Any) -> bool:
    """Whether a group is one column, in a coded form."""
    return isinstance(item, h5py.Group) and bool(_form(item, Attributes(item.file.filename, item)))


def open_group(path: str, group: h5py.Group) -> DecodedArray:
    """A group that is one column.  Raises DataError."""
    attributes = Attributes(path, group)
    form = _form(group, attributes)
    if not form:
        raise DataError(
            f"{attributes.where()} is a group; name a data set in it: {', '.join(map(str, group)) or 'there is none'}"
        )
    return FORMS[form](path, group, attributes)


def _form(group: h5py.Group, attributes: Attributes) -> str:
    """The key of FORMS, "" where it is no column."""
    count = len(group)
    if count == 0:
        return "constant" if attributes.names >= CONSTANT else ""
    encoding = attributes.text("encoding-type")
    names = set(group) if count <= 64 else set()
    if names >= CATEGORIES and encoding in ("", "categorical"):
        return "categories"
    if names >= NULLABLE and (encoding.startswith("nullable") or (not encoding and names == NULLABLE)):
        return "nullable"
    if names >= SPARSE:
        return "sparse"
    if "MATLAB_sparse" in attributes.names and names >= MATLAB:
        return "matlab"
    return "octave" if "OCTAVE_NEW_FORMAT" in attributes.names and names >= OCTAVE else ""


def _member(path: str, group: h5py.Group, name: str) -> h5py.Dataset:
    """A data set of the group that has to be there."""
    found = below(group, name)
    if not isinstance(found, h5py.Dataset):
        where = f"{path}: {str(group.name).lstrip('/')}/{name}"
        raise DataError(f"{where} is not a data set of this file, as this form needs it; write the file again")
    return found


def _whole(path: str, group: h5py.Group, name: str) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """All values of a member, which may be a coded group itself."""
    found = below(group, name)
    inner = open_group(path, found) if isinstance(found, h5py.Group) else open_dataset(
        path, _member(path, group, name), None
    )  # fmt: skip
    if len(inner.shape) != 1:
        raise DataError(f"{path}: {str(group.name).lstrip('/')}/{name} has the shape {inner.shape}; expected one axis")
    return inner.read((slice(None),))


def _categories(path: str, group: h5py.Group, attributes: Attributes) -> DecodedArray:
    codes = PlainArray(path, _member(path, group, "codes"))
    if codes.dtype.kind not in "iu":
        raise DataError(f"{codes.name} is of type {codes.dtype}; expected the numbers of categories")
    values, missing = _whole(path, group, "categories")
    return DecodedArray(codes, [Categories(values, missing, "anndata")], attributes=attributes)


def _nullable(path: str, group: h5py.Group, attributes: Attributes) -> DecodedArray:
    values, mask = (PlainArray(path, _member(path, group, name)) for name in ("values", "mask"))
    if values.shape != mask.shape or mask.dtype.kind not in "biu":
        raise DataError(
            f"{mask.name} has the shape {mask.shape} and type {mask.dtype}; expected truth values of shape "
            f"{values.shape}, which say where {values.name} has none"
        )
    return MaskedArray(values, mask, attributes)


class MaskedArray(DecodedArray):
    """Values, and beside them where there is none."""

    def __init__(self, values: PlainArray, mask: PlainArray, attributes: Attributes) -> None:
        super().__init__(values, notes=("missing where its mask says so",), attributes=attributes)
        self._mask = mask

    def read(self, index: Index) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        values, missing = self._source.read(index), self._mask.read(index).astype(bool)
        if not missing.any():
            return values, None
        if values.dtype.kind == "f":
            values[missing] = np.nan
        return values, missing


def _sparse(path: str, group: h5py.Group, attributes: Attributes) -> DecodedArray:
    numbers, places, pointers = (_member(path, group, name) for name in ("data", "indices", "indptr"))
    shape = _shape_of_sparse(path, group, attributes)
    count = int(pointers.shape[0]) - 1 if pointers.ndim == 1 else -1
    said = attributes.text("encoding-type") or attributes.text("h5sparse_format")
    form = said[:3] if said[:3] in ("csr", "csc") else ""
    if "barcodes" in group and not form:
        if count != shape[1]:
            raise DataError(
                f"{attributes.where()}: its indptr has {count + 1} values; expected {shape[1] + 1}, for as many cells"
            )
        turned = shape[::-1]
        note = f"a sparse matrix of 10x Genomics: its columns are the rows here, {turned[0]} × {turned[1]}"
        return _dense(SparseRows(path, group, (numbers, places, pointers), turned, False), note, attributes)
    fits = [name for name, length in zip(("csr", "csc"), shape, strict=True) if count == length]
    if not form and len(fits) != 1:
        raise DataError(
            f"{attributes.where()} is a sparse matrix of shape {shape[0]} × {shape[1]}, and nothing says whether it is "
            'stored by rows or by columns; add the attribute "encoding-type": csr_matrix or csc_matrix'
        )
    form = form or fits[0]
    return _of_form(path, group, (numbers, places, pointers), shape, form == "csc", attributes)


def _of_form(
    path: str,
    group: h5py.Group,
    members: tuple[Any, Any, Any],
    shape: tuple[int, int],
    by_columns: bool,
    attributes: Attributes,
) -> DecodedArray:
    note = "a sparse matrix, made dense"
    if by_columns:
        note = f"a sparse matrix stored by columns: its {members[0].shape[0]} numbers are turned over in memory"
    return _dense(SparseRows(path, group, members, shape, by_columns), note, attributes)


def _dense(rows: SparseRows, note: str, attributes: Attributes) -> DecodedArray:
    return DecodedArray(rows, notes=(note,), attributes=attributes)


def _shape_of_sparse(path: str, group: h5py.Group, attributes: Attributes) -> tuple[int, int]:
    """Rows and columns."""
    found: Any = attributes.numbers("shape")
    found = attributes.numbers("h5sparse_shape") if found is None else found
    if found is None and "shape" in group:
        array = PlainArray(path, _member(path, group, "shape"))
        found = array.read((slice(None),)) if array.shape == (2,) else None
    if found is None or len(found) != 2 or found.dtype.kind not in "iu" or min(found) < 0:
        raise DataError(
            f"{attributes.where()} is a sparse matrix without a shape; add it as an attribute: [rows, columns]"
        )
    return int(found[0]), int(found[1])


def _matlab(path: str, group: h5py.Group, attributes: Attributes) -> DecodedArray:
    rows = attributes.numbers("MATLAB_sparse")
    if "data" not in group or rows is None:
        raise DataError(f"{attributes.where()} is a sparse matrix of MATLAB without numbers; leave it out")
    members = tuple(_member(path, group, name) for name in ("data", "ir", "jc"))
    shape = (int(rows[0]), int(members[2].shape[0]) - 1)
    return _of_form(path, group, (members[0], members[1], members[2]), shape, True, attributes)


def _octave(path: str, group: h5py.Group, attributes: Attributes) -> DecodedArray:
    kind = str(PlainArray(path, _member(path, group, "type")).read(()))
    value = below(group, "value")
    is_text = kind in ("string", "sq_string")
    if not isinstance(value, h5py.Dataset) or "OCTAVE_EMPTY_MATRIX" in Attributes(path, value).names:
        raise DataError(f"{attributes.where()} is of Octave's type {kind}, which is not read, or empty; leave it out")
    if kind == "range" or kind.startswith(("complex", "float complex", "sparse", "diagonal")):
        raise DataError(f"{attributes.where()} is of Octave's type {kind}; store a real matrix, such as full(x)")
    turned = TurnedArray(PlainArray(path, value))
    notes = [f"written by Octave ({kind}): axes are reversed, to {' × '.join(map(str, turned.shape))}"]
    source: Source = CharacterArray(turned, "latin-1") if is_text and turned.shape else turned
    steps: list[Step] = []
    if kind.startswith("bool") and turned.dtype.kind in "iu":
        steps.append(NamedValues({0: False, 1: True}, notes=("truth values of Octave",)))
    return DecodedArray(source, steps, notes, attributes=attributes)


class ConstantArray:
    """One value everywhere."""

    chunks: tuple[int, ...] | None = None

    def __init__(self, name: str, value: Any, shape: tuple[int, ...]) -> None:
        self.name, self._value, self.shape = name, value, shape
        self.dtype: np.dtype[Any] = value.dtype

    def read(self, index: Index) -> NDArray[Any]:
        """The value, as often as an index asks for it."""
        counts = [count for _, count, _ in normalized(index, self.shape)]
        return without_axes(np.full(counts, self._value), index)


def _constant(path: str, group: h5py.Group, attributes: Attributes) -> DecodedArray:
    value, shape = attributes.numbers("value"), attributes.numbers("shape")
    if value is None or len(value) != 1 or shape is None or shape.dtype.kind not in "iu" or min(shape) < 0:
        raise DataError(f"{attributes.where()}: its attributes value and shape are not those of a constant of openPMD")
    source = ConstantArray(attributes.where(), value[0], tuple(int(length) for length in shape))
    return DecodedArray(source, notes=(f"a constant of openPMD: {value[0]:g} everywhere",), attributes=attributes)


FORMS = {
    "categories": _categories,
    "nullable": _nullable,
    "sparse": _sparse,
    "matlab": _matlab,
    "octave": _octave,
    "constant": _constant,
}
