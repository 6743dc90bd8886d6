"""Checkpoints: all that is needed to go on bit for bit, and to predict with nothing else at hand, in one HDF5 file.

    /network/layer_l/W, /network/layer_l/b   l = 2 … F
    /optimizer/NAME                          flat vectors, in the order W^2, b^2, W^3, …; best.h5 has none
    /progress                                a record: epoch, step, samples, skipped, and the sums of an epoch under way
    /input/shift, /input/spread              scaling of the inputs;  /target/… of the targets
    /target/classes                          the labels of the classes, where there are: integers, or strings (UTF-8)
    /input/columns, /input/units             what the inputs are called and measured in, where the data say it: strings
                                             (UTF-8), one for each; /target/… likewise
    /history                                 the rows of metrics.csv: records of a float64 for each column
    attributes of /: format, format_version, distbp_version, config (JSON), machines (JSON: what the bits depend
    on, and from which step on, see `distbp.training.basis`), fingerprint (JSON: of the data, see
    `distbp.data.fingerprint`; may be missing), checksum
    (SHA-256 over the name, type, shape and SHA-256 of each attribute and array)

Written to a temporary name, synced, renamed: a checkpoint is whole or absent.  Read strictly: a file may come from
anywhere, so only plain arrays of numbers that are where they belong are accepted, and nothing is followed or run (see
`distbp.files.plain_hdf5`); then what they hold is checked, so that whatever is read can be used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp import __version__
from distbp.data.column_texts import decoded, encoded
from distbp.data.fingerprint import Fingerprint, from_json, to_json
from distbp.data.labels import Labels, from_array, to_array
from distbp.data.problem import Names, Problem
from distbp.data.scaling import Scaling
from distbp.errors import CheckpointError, DistbpError
from distbp.files.new_file import replace_synced, temporary_name
from distbp.files.patience import UnreadError
from distbp.files.plain_hdf5 import ATTRIBUTE_BYTES, Expected, PlainFile, open_plain, short
from distbp.files.write_arrays import write_hdf5
from distbp.mathematics.metrics import all_metrics, metrics_of, names_of_sums
from distbp.mathematics.network import Network, largest_weights, parameter_bytes
from distbp.ranks.machine_record import Machine
from distbp.ranks.node_memory import free_bytes
from distbp.settings.config import Config
from distbp.settings.option import AUTO
from distbp.training.history import History, record
from distbp.training.invariants import METRICS, check, flaw_of, history_columns
from distbp.training.older_layouts import LAST, older_names, upgraded
from distbp.training.state import Checkpoint, Progress, optimizer_names
from distbp.training.stored_config import stored_config

FORMAT = "distbp-checkpoint"
FORMAT_VERSION = 7  # 2: machines; 3: skipped batches; 4: seconds of phases; 5: names of columns; 6: history as a table;
# 7: numerics, with which an older distbp would go on in another order of samples
READABLE = (2, 3, 4, 5, 6, 7)
ATTRIBUTES = ("format", "format_version", "distbp_version", "config", "machines", "checksum")
OPTIONAL = ("fingerprint",)
COLUMN_TEXTS = ("/input/columns", "/input/units", "/target/columns", "/target/units")
TEXTS = {"/target/classes", *COLUMN_TEXTS}
MOST_LISTS = 100_000  # in an attribute in JSON

Tree = dict[str, NDArray[Any]]


def _progress_record(sums: Sequence[str]) -> np.dtype[Any]:
    """The record of /progress, of a run with these sums."""
    numbers = {name: "<i8" if isinstance(value, int) else "<f8" for name, value in Progress().numbers.items()}
    return np.dtype([*numbers.items(), *((f"epoch_{name}", "<f8") for name in sums)])


PROGRESSES = [_progress_record(names_of_sums(metrics)) for metrics in all_metrics()]
HISTORIES = [record(history_columns(metrics)) for metrics in METRICS]


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint so that `path` is, at any moment, whole or absent.

    Raises OSError, or what else h5py may raise about a disk: RuntimeError, ValueError; and ValueError or
    CheckpointError for what `read` would refuse.
    """
    check(checkpoint)
    tree = _to_tree(checkpoint)
    attributes: dict[str, Any] = {
        "format": np.bytes_(FORMAT),
        "format_version": FORMAT_VERSION,
        "distbp_version": np.bytes_(__version__),
        "config": np.bytes_(json.dumps(vars(checkpoint.config)).encode()),
        "machines": np.bytes_(json.dumps(checkpoint.machines).encode()),
    }
    if checkpoint.fingerprints:
        attributes["fingerprint"] = np.bytes_(json.dumps(to_json(checkpoint.fingerprints)).encode())
    attributes["checksum"] = np.bytes_(_checksum(tree, attributes, {"/history": checkpoint.history.sha256()}))
    for name, value in attributes.items():
        if np.asarray(value).nbytes > ATTRIBUTE_BYTES:
            raise ValueError(f"attribute {name} is longer than {ATTRIBUTE_BYTES} bytes: name fewer files")
    try:
        _check_json(attributes["config"], attributes["machines"], attributes.get("fingerprint"))
    except CheckpointError:
        _read_json(path, attributes)  # to say where
        raise
    temporary = temporary_name(path)
    try:
        write_hdf5(temporary, tree, attributes)
        replace_synced(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> Checkpoint:
    """The checkpoint in a file.

    Raises CheckpointError that names what is wrong; UnreadError where it cannot be read, or not by this distbp.
    """
    before = _stamp(path)
    try:
        return _read(path)
    except UnreadError:
        raise
    except CheckpointError as error:
        if _stamp(path) == before:
            raise
        changing = UnreadError(f"{path}: was written to while it was read ({error})")
        changing.may_pass = True
        raise changing from None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Which file it is, how large, and when it was changed."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: Path) -> Checkpoint:
    with open_plain(path, free_bytes()) as file:
        attributes = _read_attributes(path, file)
        config, machines, fingerprints = _read_json(path, attributes)
        tree = file.arrays(_expected(config, attributes["format_version"]))
    if attributes["checksum"] != _checksum(tree, {k: v for k, v in attributes.items() if k != "checksum"}).encode():
        raise CheckpointError(f"{path}: the checksum does not match; the file is damaged or was changed")
    _upgrade(path, tree, config, attributes["format_version"])
    state = _from_tree(path, tree, config, machines)
    state.fingerprints = fingerprints
    return state


def _upgrade(path: Path, tree: Tree, config: Config, version: int) -> None:
    """Makes the arrays of an older version those of this one."""
    if version <= LAST:
        metrics = metrics_of(config.loss, has_classes="/target/classes" in tree, spread=np.ones(1))
        upgraded(path, tree, _progress_record(names_of_sums(metrics)), version)


def _progress_of(path: Path, array: NDArray[Any], problem: Problem) -> Progress:
    """From the array /progress."""
    if array.shape != () or array.dtype != _progress_record(problem.sums):
        kind = "of records" if array.dtype.names else str(array.dtype)
        raise CheckpointError(
            f"{path}: /progress is {kind} {array.shape}, expected one record, with the sums {', '.join(problem.sums)}"
        )
    values = array.item()
    numbers = dict(zip(Progress().numbers, values, strict=False))
    sums = values[len(numbers) :]
    return Progress(**numbers, epoch_sums=sums if any(sums) else ())


def _labels_of(path: Path, tree: Tree) -> Labels | None:
    """The labels of the classes, where there are, which are taken out of the tree."""
    try:
        return from_array(tree.pop("/target/classes")) if "/target/classes" in tree else None
    except ValueError as error:
        raise CheckpointError(f"{path}: /target/classes: {short(error)}") from None


def _history_of(path: Path, rows: NDArray[Any], problem: Problem) -> History:
    """From the array /history."""
    if rows.ndim != 1:
        raise CheckpointError(f"{path}: /history is of shape {rows.shape}, expected a row for each epoch")
    none: dict[str, Sequence[float]] = {name: () for name in history_columns(problem.metric_names)}
    return History(rows) if rows.dtype.names else History.of(none)


@dataclass(frozen=True)
class Outline:
    """What is needed of a checkpoint before it is read: its network, the columns that it knows, its size in bytes.

    `is_labelled`: whether it knows classes.
    """

    config: Config
    network: Network
    target: Scaling
    bytes: int
    is_labelled: bool
    columns: Names


def outline_of(state: Checkpoint) -> Outline:
    """The outline of a checkpoint that is in memory already."""
    problem, size = state.problem, state.vector.nbytes
    labelled = problem.labels is not None
    return Outline(state.config, problem.network, problem.target, size, labelled, problem.columns)


def outline(path: Path) -> Outline:
    """The outline of a checkpoint, with no large array read.  Raises CheckpointError; `read` looks closer."""
    with open_plain(path, free_bytes()) as file:
        attributes = _read_attributes(path, file)
        config, size = _config(path, attributes), file.size
        wanted = ["/input/shift", f"/network/layer_{len(config.hidden) + 2}/b", "/target/shift", "/target/spread"]
        there = _expected(config, attributes["format_version"])
        others = (there.required | there.optional) - set(wanted) - TEXTS
        tree = file.arrays(Expected(set(wanted), TEXTS, TEXTS, left=others))
    first, last, shift, spread = (tree[name] for name in wanted)
    if first.ndim != 1 or not last.shape == shift.shape == spread.shape == (last.size,):
        raise CheckpointError(f"{path}: /input, /target and /network are not of one network")
    network = Network.of(
        [len(first), *config.hidden, len(last)], config.activation, config.output_activation, config.loss
    )
    needed = parameter_bytes(network, config.dtype)
    if needed > size:
        raise CheckpointError(
            f"{path}: has {size} bytes, and the parameters of {network.describe()} alone are {needed} bytes; the file "
            "is damaged or was changed"
        )
    names = _columns(path, {name: tree[name] for name in TEXTS & tree.keys()}, network)
    return Outline(config, network, Scaling(shift, spread), size, "/target/classes" in tree, names)


def marks(path: Path) -> Checkpoint:
    """A checkpoint without what may be large: its weights and the vectors of the optimizer, so that `vector` is empty.

    It shows of which run it is (`distbp.training.belonging`).  The checksum is not compared.  Raises CheckpointError.
    """
    with open_plain(path, free_bytes()) as file:
        attributes = _read_attributes(path, file)
        config, version = _config(path, attributes), attributes["format_version"]
        there = _expected(config, version)
        large = {name for name in there.known if name.startswith("/optimizer/") or name.endswith("/W")}
        small = replace(there, required=there.required - large, optional=there.optional - large, left=large)
        tree = file.arrays(small)
    _upgrade(path, tree, config, version)
    inputs, targets = (Scaling(tree[f"/{group}/shift"], tree[f"/{group}/spread"]) for group in ("input", "target"))
    if inputs.shift.ndim != 1 or targets.shift.ndim != 1:
        raise CheckpointError(f"{path}: /input and /target are not those of a checkpoint")
    sizes = [inputs.shift.size, *config.hidden, targets.shift.size]
    network = Network.of(sizes, config.activation, config.output_activation, config.loss)
    problem = Problem(network, inputs, targets, _labels_of(path, tree))
    history = _history_of(path, tree["/history"], problem)
    done = _progress_of(path, tree["/progress"], problem)
    if history.count != done.epoch:
        raise CheckpointError(f"{path}: /history has {history.count} rows, and {done.epoch} epochs are done")
    return Checkpoint(config, problem, np.empty(0, config.dtype), progress=done, history=history)


def _read_attributes(path: Path, file: PlainFile) -> dict[str, Any]:
    names = file.attribute_names()
    if not {"format", "format_version", "distbp_version"} <= set(names):
        raise CheckpointError(f"{path}: not a distbp checkpoint (a data set? see distbp inspect)")
    attributes = {name: file.attribute(name) for name in names if name in (*ATTRIBUTES, *OPTIONAL)}
    for name, value in attributes.items():
        if isinstance(value, bytes) == (name == "format_version"):
            raise CheckpointError(f"{path}: attribute {name} is of the wrong type")
    if attributes["format"] != FORMAT.encode():
        raise CheckpointError(f"{path}: format {short(attributes['format'])}, expected {FORMAT!r}")
    if attributes["format_version"] not in READABLE:
        raise UnreadError(
            f"{path}: format version {attributes['format_version']}, this distbp ({__version__}) reads "
            f"{READABLE[0]} to {READABLE[-1]}; written by distbp {_writer(attributes)}, which can read it"
        )
    if [name for name in names if name not in OPTIONAL] != sorted(ATTRIBUTES):
        raise CheckpointError(f"{path}: the attributes are {short(ascii(names))}, expected {sorted(ATTRIBUTES)}")
    return attributes


def _writer(attributes: Mapping[str, Any]) -> str:
    """The version of distbp that has written a checkpoint, for messages."""
    return short(ascii(attributes.get("distbp_version", b"").decode(errors="replace")))


def _checksum(tree: Tree, attributes: dict[str, Any], known: Mapping[str, bytes] = MappingProxyType({})) -> str:
    """Over all of a checkpoint but the checksum; `known`: the SHA-256 of the content of arrays of the tree.

    That of /history is known without reading it again, so that a checkpoint after many epochs takes no longer.
    """
    digest, is_older = hashlib.sha256(), attributes["format_version"] <= LAST
    for name, value in [*sorted(attributes.items()), *sorted(tree.items())]:
        array = np.asarray(value)
        digest.update(f"{name} {_kind(array.dtype)} {array.shape}\n".encode())
        if is_older:
            digest.update(_content(array))
        else:
            digest.update(known.get(name) or hashlib.sha256(_content(array)).digest())
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _kind(dtype: np.dtype[Any]) -> str:
    """A dtype in text; of records with their fields."""
    return str(dtype.descr) if dtype.names else dtype.str


def _content(array: NDArray[Any]) -> memoryview:
    """The bytes of an array, without a copy where it is large."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.nbytes else memoryview(b"")


def write_bytes(network: Network, *, has_vectors: bool) -> int:
    """Memory that `write` takes for a moment: where values are looked at whether they are finite, a byte for each.

    `has_vectors`: whether there are vectors of the optimizer, each as long as all parameters.  Checksum and file take
    the values from where they are.
    """
    return network.parameter_count if has_vectors else largest_weights(network)


def _to_tree(checkpoint: Checkpoint) -> Tree:
    problem, parameters = checkpoint.problem, checkpoint.parameters
    tree: Tree = {}
    for l in range(2, problem.network.F + 1):
        tree[f"/network/layer_{l}/W"] = parameters.W[l]
        tree[f"/network/layer_{l}/b"] = parameters.b[l]
    for name, vector in checkpoint.optimizer.items():
        tree[f"/optimizer/{name}"] = vector
    progress = checkpoint.progress
    sums = progress.epoch_sums or (0.0,) * len(problem.sums)
    tree["/progress"] = np.array((*progress.numbers.values(), *sums), _progress_record(problem.sums))
    for group, scaling in (("input", problem.input), ("target", problem.target)):
        tree[f"/{group}/shift"] = scaling.shift
        tree[f"/{group}/spread"] = scaling.spread
    if problem.labels is not None:
        tree["/target/classes"] = to_array(problem.labels)
    for name, texts in zip(COLUMN_TEXTS, _texts(problem.columns), strict=True):
        if texts:
            tree[name] = encoded(texts)
    tree["/history"] = checkpoint.history.rows
    return tree


def _expected(config: Config, version: int) -> Expected:
    """The arrays of the checkpoint of a run, in a version of the format."""
    required = {f"/network/layer_{l}/{name}" for l in range(2, len(config.hidden) + 3) for name in ("W", "b")}
    required |= {f"/{group}/{name}" for group in ("input", "target") for name in ("shift", "spread")}
    vectors = {f"/optimizer/{name}" for name in optimizer_names(config)}
    if version <= LAST:
        of_progress, of_history = older_names(version)
        return Expected(required | vectors | of_progress, TEXTS | of_history, TEXTS)
    records = {"/progress": PROGRESSES, "/history": HISTORIES}
    return Expected(required | records.keys(), TEXTS | vectors, TEXTS, records=records)


def _texts(names: Names) -> tuple[tuple[str, ...], ...]:
    """In the order of COLUMN_TEXTS."""
    return names.x, names.x_units, names.y, names.y_units


def _columns(path: Path, tree: Tree, network: Network) -> Names:
    """What the columns are called, which is taken out of the tree.  Raises CheckpointError."""
    found: list[tuple[str, ...]] = []
    for name, width in zip(COLUMN_TEXTS, (network.sizes[1],) * 2 + (network.sizes[-1],) * 2, strict=True):
        array = tree.pop(name, np.empty(0, "S1"))
        try:
            texts = decoded(array)
        except ValueError as error:
            raise CheckpointError(f"{path}: {name}: {short(error)}") from None
        is_labels = name.startswith("/target") and "/target/classes" in tree
        if texts and len(texts) != (1 if is_labels else width):
            raise CheckpointError(f"{path}: {name} holds {len(texts)} names; the network has {width} such columns")
        found.append(texts)
    x, x_units, y, y_units = found
    return Names(x, y, x_units, y_units)


def _json(path: Path, name: str, text: bytes) -> Any:
    """JSON as it is written here: each name once, and no number that is none."""

    def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name is given twice")
        return found

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not a number")

    if text.count(b"[") + text.count(b"{") > MOST_LISTS:  # empty ones take 20 times the memory of their text
        raise CheckpointError(f"{path}: attribute {name} has more than {MOST_LISTS} lists and objects")
    try:
        return json.loads(text, object_pairs_hook=each_once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: attribute {name}: {short(error)}") from None


@lru_cache(maxsize=8)
def _check_json(config: bytes, machines: bytes, fingerprint: bytes | None) -> None:
    """Raises CheckpointError where `read` would refuse the attributes in JSON, which change seldom in a run."""
    attributes = {"config": config, "machines": machines}
    _read_json(Path(), attributes if fingerprint is None else {**attributes, "fingerprint": fingerprint})


def _read_json(path: Path, attributes: dict[str, Any]) -> tuple[Config, list[Machine], dict[str, Fingerprint]]:
    """What the attributes in JSON say.  Raises CheckpointError."""
    return (
        _config(path, attributes),
        _machines(path, attributes["machines"]),
        _fingerprints(path, attributes.get("fingerprint")),
    )


def _machines(path: Path, text: bytes) -> list[Machine]:
    machines = _json(path, "machines", text)
    if not isinstance(machines, list) or not all(_is_machine(machine) for machine in machines):
        raise CheckpointError(f"{path}: attribute machines is not a list of machines")
    return machines


def _fingerprints(path: Path, text: bytes | None) -> dict[str, Fingerprint]:
    if text is None:
        return {}
    try:
        return from_json(_json(path, "fingerprint", text))
    except ValueError as error:
        raise CheckpointError(f"{path}: attribute fingerprint: {short(error)}") from None


def _is_machine(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("step"), int)
        and isinstance(numerics := value.get("numerics", 0), int)
        and numerics >= 0
        and all(isinstance(fact, int) or (isinstance(fact, str) and fact.isprintable()) for fact in value.values())
        and all(name.isprintable() for name in value)
    )


def _config(path: Path, attributes: Mapping[str, Any]) -> Config:
    values = _json(path, "config", attributes["config"])
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: attribute config is not an object with a value for each option")
    try:
        config = stored_config(values, _writer(attributes))
    except (TypeError, ValueError, DistbpError) as error:
        raise CheckpointError(f"{path}: attribute config: {short(error)}") from None
    if AUTO in (config.loss, config.output_activation):
        raise CheckpointError(f"{path}: attribute config: loss and output_activation are not resolved")
    return config


def _from_tree(path: Path, tree: Tree, config: Config, machines: list[Machine]) -> Checkpoint:
    rest = dict(tree)

    def take(name: str, shape: tuple[int, ...], dtype: str | np.dtype[Any]) -> NDArray[Any]:
        if name not in rest:
            raise CheckpointError(f"{path}: {name} is missing")
        array = rest.pop(name)
        if array.shape != shape or array.dtype != np.dtype(dtype):
            kind, expected = ("of records" if one.names else one for one in (array.dtype, np.dtype(dtype)))
            raise CheckpointError(f"{path}: {name} is {kind} {array.shape}, expected {expected} {shape}")
        return array

    F = 2 + len(config.hidden)
    first, last = tree.get("/network/layer_2/W"), tree.get(f"/network/layer_{F}/b")
    if first is None or last is None or first.ndim != 2 or last.ndim != 1:
        raise CheckpointError(f"{path}: /network does not hold the layers 2 … {F} of its configuration")
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
    widths = {"input": n[1], "target": n[F]}
    scaling = {
        group: Scaling(take(f"/{group}/shift", (count,), "float64"), take(f"/{group}/spread", (count,), "float64"))
        for group, count in widths.items()
    }
    columns_of_data = _columns(path, rest, network)
    labels = _labels_of(path, rest)
    stored = [name for name in tree if name.startswith("/optimizer/")]
    expected = optimizer_names(config) if stored else ()  # best.h5 has none
    optimizer = {name: take(f"/optimizer/{name}", vector.shape, config.dtype) for name in expected}
    problem = Problem(network, scaling["input"], scaling["target"], labels, columns_of_data)
    progress = _progress_of(path, rest.pop("/progress"), problem)
    history = _history_of(path, rest.pop("/history"), problem)
    if rest:
        raise CheckpointError(f"{path}: {next(iter(rest))} does not belong into a checkpoint")
    state = Checkpoint(config, problem, vector, optimizer, progress, history, machines)
    state.flaw = flaw_of(optimizer)
    if state.flaw:
        state.optimizer = {}
    try:
        check(state)
    except ValueError as error:
        raise CheckpointError(f"{path}: {short(error)}") from None
    return state
