"""What is in a data set, as objects."""

from __future__ import annotations


class Dataset:
    """A data set: its splits."""


class DatasetSplit:
    """A split of a data set."""
