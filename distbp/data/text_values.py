"""Strings some of which stand for no value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TextValues:
    """Strings; `missing`: those that stand for no value."""

    missing: frozenset[str]
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(object)

    def decode(
        self, values: NDArray[Any], missing: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The same strings, and which of them are missing."""
        gone = np.array([text in self.missing for text in values.reshape(-1).tolist()], bool).reshape(values.shape)
        if missing is not None:
            gone |= missing
        return values, gone if gone.any() else None
