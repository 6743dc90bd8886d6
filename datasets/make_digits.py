"""Makes digits.h5 from scikit-learn's load_digits: python make_digits.py [digits.h5]."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

SEED = 20260101
ATTRIBUTES = {
    "title": "Handwritten digits, 8x8 pixels of 0 ... 16",
    "source": "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, "
    "1998, doi:10.24432/C50P49, through scikit-learn's load_digits",
    "license": "CC BY 4.0, creativecommons.org/licenses/by/4.0",
    "changes": "split into train and test, a fifth of each class in test; made by datasets/make_digits.py",
}


def shuffled(rows: NDArray[Any], bits: np.random.PCG64) -> NDArray[Any]:
    """A permutation (Fisher-Yates) from the raw bits alone: the same with every version of NumPy."""
    rows = rows.copy()
    for i in range(len(rows) - 1, 0, -1):
        j = bits.random_raw() % (i + 1)
        rows[i], rows[j] = rows[j], rows[i]
    return rows


def test_rows(y: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows are the test split: a fifth of each class, rounded so that the fifths add up."""
    bits = np.random.PCG64(SEED)
    is_test = np.zeros(len(y), dtype=bool)
    ends = -(-np.cumsum(np.bincount(y)) // 5)
    for label, n in enumerate(np.diff(ends, prepend=0)):
        is_test[shuffled(np.flatnonzero(y == label), bits)[:n]] = True
    return is_test


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description="Makes digits.h5 from scikit-learn's load_digits.")
    parser.add_argument("path", nargs="?", type=Path, default=Path(__file__).with_name("digits.h5"))
    path = parser.parse_args().path
    images, labels = load_digits(return_X_y=True)
    x, y = images.astype(np.uint8), labels.astype(np.uint8)
    assert np.array_equal(x, images)
    is_test = test_rows(y)
    with h5py.File(path, "w") as file:
        file.attrs.update(ATTRIBUTES)
        for split, rows in (("train", ~is_test), ("test", is_test)):
            group = file.create_group(split)
            group.create_dataset("x", data=x[rows], track_times=False)
            group.create_dataset("y", data=y[rows], track_times=False)
    print(f"{path}: {np.count_nonzero(~is_test)} train and {np.count_nonzero(is_test)} test samples")


if __name__ == "__main__":
    main()
