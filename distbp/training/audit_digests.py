"""What the lines of audit.csv hold: digests over bytes that are the same on every machine.

optimizer      For each vector of the optimizer, in the order of their names: the text "NAME DTYPE COUNT" and a newline,
               such as "m float32 9610", then the numbers, little-endian.
data           The fingerprint of the training split (`distbp.data.fingerprint`) as JSON and a newline; then, for each
               sample that the steps since the line before have seen, in their order, the number of its row in the
               split: an unsigned integer of 32 bits, little-endian, or of 64 bits in a split of more than 2^32 rows.
               In the first line there are no rows.
configuration  JSON: an object with the options that enter the numbers and differ from their defaults, by name, with _;
               "sizes", the numbers of neurons of all layers; "numerics", the version of the numerics; "engine", and
               "horizon" if there is one, as in the line.

JSON has its names in order, no blanks, and letters beyond ASCII as \\uXXXX; numbers are as short as they can be read
back.  Options that --resume may change do not enter the numbers, except --epochs, which is the horizon, and --engine.
Which data are read, and from where, is not part of the configuration: the fingerprint knows the data themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.fingerprint import Fingerprint, to_json
from distbp.data.loader import Loader
from distbp.mathematics.batches import steps_per_epoch
from distbp.mathematics.network import Network
from distbp.mathematics.numerics import NUMERICS
from distbp.mathematics.schedules import SCHEDULES
from distbp.settings.config import FIELDS, Config, as_dict
from distbp.training.chain import sha256

OF_THE_DATA = ("split", "validation_split", "x", "y", "drop", "task", "each", "trust_links")
OF_THE_CHAIN = ("audit_epochs", "audit_steps")
DEFAULTS = as_dict(Config())


def of_optimizer(vectors: Mapping[str, NDArray[Any]]) -> str:
    """The digest of the vectors of the optimizer."""
    sha = hashlib.sha256()
    for name, vector in sorted(vectors.items()):
        sha.update(f"{name} {vector.dtype.name} {vector.size}\n".encode())
        sha.update(np.ascontiguousarray(vector, vector.dtype.newbyteorder("<")).data)
    return sha.hexdigest()


def horizon_of(config: Config) -> str:
    """--epochs, if the learning rate depends on it; otherwise ""."""
    return str(config.epochs) if SCHEDULES[config.schedule].ends else ""


def of_configuration(config: Config, network: Network, engine: str) -> str:
    """The digest of the configuration; each "auto" in it is resolved."""
    left_out = (*OF_THE_DATA, *OF_THE_CHAIN)
    entering = [name for name, field in FIELDS.items() if not field.metadata["may_change"] and name not in left_out]
    values = {name: getattr(config, name) for name in entering if getattr(config, name) != DEFAULTS[name]}
    horizon = {"horizon": config.epochs} if horizon_of(config) else {}
    more = {"engine": engine, "numerics": NUMERICS, "sizes": network.sizes[1:]}
    return sha256(_canonical({**values, **horizon, **more}))


def of_fingerprint(fingerprint: Fingerprint) -> str:
    """The digest of data of which no row was seen."""
    return sha256(_of_print(fingerprint))


class Seen:
    """The digest of the data that a run has seen since a line."""

    def __init__(self, loader: Loader, batch_size: int, rows: int, fingerprint: Fingerprint) -> None:
        self._loader, self._n, self._N = loader, batch_size, rows
        self._print, self._dtype = _of_print(fingerprint), np.dtype("<u4" if rows <= 2**32 else "<u8")
        self._steps_per_epoch = steps_per_epoch(rows, batch_size)
        self.begin(0)

    def begin(self, step: int) -> None:
        """The line before is that of this step."""
        self._sha, self._step = hashlib.sha256(self._print), step

    def up_to(self, step: int) -> str:
        """The digest of all that was seen until so many steps were done."""
        while self._step < step:
            epoch, first = divmod(self._step, self._steps_per_epoch)
            end = min(step, (epoch + 1) * self._steps_per_epoch)
            last = min((end - epoch * self._steps_per_epoch) * self._n, self._N)
            rows = self._loader.rows(epoch, first * self._n, last)
            self._sha.update(np.ascontiguousarray(rows, self._dtype).data)
            self._step = end
        return self._sha.hexdigest()


def _of_print(fingerprint: Fingerprint) -> bytes:
    return _canonical(to_json({"training": fingerprint})["training"]) + b"\n"


def _canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
