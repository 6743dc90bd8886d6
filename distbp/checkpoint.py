"""Checkpoints: all that is needed to go on bit for bit, and to predict with nothing else at hand, in one HDF5 file.

    /network/layer_l/W, /network/layer_l/b   l = 2 … F
    /optimizer/NAME                          flat vectors, in the order W^2, b^2, W^3, …
    /progress/NAME                           epoch, step, samples, skipped, and the sums of an epoch under way
    /input/shift, /input/spread              scaling of the inputs;  /target/… of the targets
    /target/classes                          the labels of the classes, where there are: integers, or strings (UTF-8)
    /history/COLUMN                          the rows of metrics.csv
    attributes of /: format, format_version, distbp_version, config (JSON), machines (JSON: what the bits depended on,
    and from which step on), checksum (SHA-256 of all the rest)

Written to a temporary name, synced, renamed: a checkpoint is whole or absent.  Read strictly: a file may come from
anywhere, so only plain arrays of numbers that are where they belong are accepted, and nothing is followed or run.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from distbp import __version__
from distbp.activations import Array
from distbp.config import AUTO, Config, as_dict, merge
from distbp.errors import CheckpointError, DistbpError
from distbp.labels import from_array, to_array
from distbp.machine import Machine
from distbp.network import Network, Parameters, largest_weights, parameter_bytes
from distbp.new_file import replace_synced
from distbp.problem import Problem
from distbp.scaling import Scaling

FORMAT = "distbp-checkpoint"
FORMAT_VERSION = 3  # 2: machines; 3: skipped batches
ATTRIBUTES = ("format", "format_version", "distbp_version", "config", "machines", "checksum")

Tree = dict[str, NDArray[Any]]


@dataclass
class Progress:
    """How far a run is: whole epochs, steps and samples done, batches skipped; and sums of an epoch under way."""

    epoch: int = 0
    step: int = 0
    samples: int = 0
    skipped: int = 0
    epoch_loss: float = 0.0
    epoch_metric: float = 0.0
    epoch_samples: int = 0
    epoch_seconds: float = 0.0


@dataclass
class Checkpoint:
    """The state of a run.  `vector` holds W^2, b^2, … W^F, b^F; `history` a list of values for each column.

    `machines`: where the run was computed, each with the step since when.
    """

    config: Config
    problem: Problem
    vector: Array
    optimizer: dict[str, Array] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    history: dict[str, list[float]] = field(default_factory=dict)
    machines: list[Machine] = field(default_factory=list)

    @property
    def parameters(self) -> Parameters:
        """W[l] and b[l]."""
        return Parameters(self.problem.network, self.vector)


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint so that `path` is, at any moment, whole or absent.  Raises OSError."""
    tree = _to_tree(checkpoint)
    attributes: dict[str, Any] = {
        "format": np.bytes_(FORMAT),
        "format_version": FORMAT_VERSION,
        "distbp_version": np.bytes_(__version__),
        "config": np.bytes_(json.dumps(as_dict(checkpoint.config)).encode()),
        "machines": np.bytes_(json.dumps(checkpoint.machines).encode()),
    }
    attributes["checksum"] = np.bytes_(_checksum(tree, attributes))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temporary, "x", libver=("v108", "v110"), locking=False) as file:
            for name, array in tree.items():
                file.create_dataset(name, data=array, track_times=False)
            for name, value in attributes.items():
                file.attrs[name] = value
        replace_synced(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> Checkpoint:
    """The checkpoint in a file.  Raises CheckpointError that names what is wrong."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with h5py.File(path, "r", locking=False) as file:
            attributes = _read_attributes(path, file)
            tree: Tree = {}
            _read_group(path, file, "", tree)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        reason = "permission denied" if isinstance(error, PermissionError) else f"not a readable HDF5 file ({error})"
        raise CheckpointError(f"{path}: {reason}") from None
    if attributes["checksum"] != _checksum(tree, {k: v for k, v in attributes.items() if k != "checksum"}).encode():
        raise CheckpointError(f"{path}: the checksum does not match; the file is damaged or was changed")
    return _from_tree(path, tree, attributes["config"], _machines(path, attributes["machines"]))


def _read_attributes(path: Path, file: h5py.File) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name in file.attrs:
        stored = file.attrs.get_id(name)
        right = stored.dtype.kind == ("i" if name == "format_version" else "S") and stored.shape == ()
        if name in ATTRIBUTES and not right:
            raise CheckpointError(f"{path}: attribute {name} is of the wrong type")
        attributes[name] = file.attrs[name] if name in ATTRIBUTES else None
    if not {"format", "format_version", "distbp_version"} <= attributes.keys():
        raise CheckpointError(f"{path}: not a distbp checkpoint (a data set? see distbp inspect)")
    if attributes["format"] != FORMAT.encode():
        raise CheckpointError(f"{path}: format {attributes['format']!r}, expected {FORMAT!r}")
    if attributes["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {attributes['format_version']}, this distbp ({__version__}) reads "
            f"{FORMAT_VERSION}; written by distbp {attributes['distbp_version'].decode(errors='replace')}"
        )
    if sorted(attributes) != sorted(ATTRIBUTES):
        raise CheckpointError(f"{path}: the attributes are {sorted(attributes)}, expected {sorted(ATTRIBUTES)}")
    return attributes


def _read_group(path: Path, group: h5py.Group, prefix: str, tree: Tree) -> None:
    """All arrays below a group.  Only hard links to groups and to plain arrays of numbers that are in this file."""
    for name in group:
        where = f"{prefix}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise CheckpointError(f"{path}: {where} is a link; a checkpoint has none")
        item = group[name]
        if isinstance(item, h5py.Group) and where.count("/") <= 2:
            _read_group(path, item, where, tree)
            continue
        kinds = "ifS" if where == "/target/classes" else "if"
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in kinds:
            raise CheckpointError(f"{path}: {where} is not an array of numbers")
        if item.external is not None or item.is_virtual or item.chunks is not None or len(item.attrs):
            raise CheckpointError(f"{path}: {where} is not a plain array that is stored in this file")
        if item.id.get_storage_size() != item.size * item.dtype.itemsize:
            raise CheckpointError(f"{path}: {where} declares {item.size} values but does not store them")
        tree[where] = item[()]


def _checksum(tree: Tree, attributes: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in [*sorted(attributes.items()), *sorted(tree.items())]:
        array = np.asarray(value)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_bytes(network: Network, dtype: str, *, has_vectors: bool) -> int:
    """Memory that `write` takes for a moment: `_checksum` copies one array after another; HDF5 writes without a copy.

    `has_vectors`: whether there are vectors of the optimizer, each as long as all parameters.
    """
    if has_vectors:
        return parameter_bytes(network, dtype)
    return largest_weights(network) * np.dtype(dtype).itemsize


def _to_tree(checkpoint: Checkpoint) -> Tree:
    problem, parameters = checkpoint.problem, checkpoint.parameters
    tree: Tree = {}
    for l in range(2, problem.network.F + 1):
        tree[f"/network/layer_{l}/W"] = parameters.W[l]
        tree[f"/network/layer_{l}/b"] = parameters.b[l]
    for name, vector in checkpoint.optimizer.items():
        tree[f"/optimizer/{name}"] = vector
    for name, value in vars(checkpoint.progress).items():
        tree[f"/progress/{name}"] = np.asarray(value)
    for group, scaling in (("input", problem.input), ("target", problem.target)):
        tree[f"/{group}/shift"] = scaling.shift
        tree[f"/{group}/spread"] = scaling.spread
    if problem.labels is not None:
        tree["/target/classes"] = to_array(problem.labels)
    for column, values in checkpoint.history.items():
        tree[f"/history/{column}"] = np.asarray(values, dtype=np.float64)
    return tree


def _machines(path: Path, text: bytes) -> list[Machine]:
    try:
        machines = json.loads(text)
    except (ValueError, RecursionError):
        machines = None
    if not isinstance(machines, list) or not all(_is_machine(machine) for machine in machines):
        raise CheckpointError(f"{path}: attribute machines is not a list of machines")
    return machines


def _is_machine(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("step"), int)
        and all(isinstance(fact, str | int) for fact in value.values())
    )


def _from_tree(path: Path, tree: Tree, config_json: bytes, machines: list[Machine]) -> Checkpoint:
    try:
        config = merge(json.loads(config_json), "config")
    except (ValueError, TypeError, AttributeError, RecursionError, DistbpError) as error:
        raise CheckpointError(f"{path}: attribute config: {error}") from None
    rest = dict(tree)

    def take(name: str, shape: tuple[int, ...] | None, dtype: str) -> NDArray[Any]:
        if name not in rest:
            raise CheckpointError(f"{path}: {name} is missing")
        array = rest.pop(name)
        if (shape is not None and array.shape != shape) or array.dtype != np.dtype(dtype):
            raise CheckpointError(
                f"{path}: {name} is {array.dtype} {array.shape}, expected {dtype} {shape if shape is not None else ''}"
            )
        if array.dtype.kind == "f" and not name.startswith("/history") and not np.isfinite(array).all():
            raise CheckpointError(f"{path}: {name} holds values that are not finite")
        return array

    F = 2 + len(config.hidden)
    first, last = tree.get("/network/layer_2/W"), tree.get(f"/network/layer_{F}/b")
    if first is None or last is None or first.ndim != 2 or last.ndim != 1:
        raise CheckpointError(f"{path}: /network does not hold the layers 2 … {F} of its configuration")
    if AUTO in (config.loss, config.output_activation):
        raise CheckpointError(f"{path}: attribute config: loss and output_activation are not resolved")
    network = Network.of(
        [first.shape[1], *config.hidden, len(last)], config.activation, config.output_activation, config.loss
    )
    n = network.sizes
    layers = [
        take(f"/network/layer_{l}/{name}", shape, config.dtype).ravel()
        for l in range(2, F + 1)
        for name, shape in (("W", (n[l], n[l - 1])), ("b", (n[l],)))
    ]
    vector = np.concatenate(layers)
    columns = {"input": n[1], "target": n[F]}
    scaling = {
        group: Scaling(*(take(f"/{group}/{name}", (count,), "float64") for name in ("shift", "spread")))
        for group, count in columns.items()
    }
    try:
        labels = from_array(rest.pop("/target/classes")) if "/target/classes" in rest else None
    except ValueError as error:
        raise CheckpointError(f"{path}: /target/classes: {error}") from None
    optimizer = {
        name.removeprefix("/optimizer/"): take(name, vector.shape, config.dtype)
        for name in tree
        if name.startswith("/optimizer/")
    }
    progress = Progress()
    for name, value in vars(progress).items():
        number = take(f"/progress/{name}", (), "int64" if isinstance(value, int) else "float64").item()
        if number < 0 and name != "epoch_loss":
            raise CheckpointError(f"{path}: /progress/{name} is {number}")
        setattr(progress, name, number)
    history: dict[str, list[float]] = {
        name.removeprefix("/history/"): take(name, None, "float64").tolist()
        for name in tree
        if name.startswith("/history/")
    }
    if rest:
        raise CheckpointError(f"{path}: {next(iter(rest))} does not belong into a checkpoint")
    if any(len(values) != progress.epoch for values in history.values()):
        raise CheckpointError(f"{path}: /history does not have {progress.epoch} rows")
    problem = Problem(network, scaling["input"], scaling["target"], labels)
    return Checkpoint(config, problem, vector, optimizer, progress, history, machines)
