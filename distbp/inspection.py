"""What is in a file: a data set or a checkpoint, in lines for a person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from distbp import checkpoint
from distbp.comparison import differences, digest
from distbp.config import as_dict
from distbp.data_file import opened, split_names
from distbp.labels import in_words
from distbp.run_directory import find_checkpoint


def describe(name: str) -> Iterator[str]:
    """The lines about a file or a run directory.  Raises DataError or CheckpointError."""
    path = find_checkpoint(name)
    if _is_checkpoint(path):
        yield from _describe_checkpoint(path)
    else:
        yield from _describe_data(path)


def describe_digest(name: str) -> Iterator[str]:
    """The digest of a checkpoint, and which file it is of, as sha256sum prints them."""
    path = find_checkpoint(name)
    yield f"{digest(checkpoint.read(path).parameters)}  {path}"


def describe_difference(first: str, second: str) -> Iterator[str]:
    """A line for each difference of two checkpoints; none where they hold the same."""
    return differences(checkpoint.read(find_checkpoint(first)), checkpoint.read(find_checkpoint(second)))


def _is_checkpoint(path: Path) -> bool:
    with opened(str(path)) as file:
        return "format" in file.attrs


def _describe_checkpoint(path: Path) -> Iterator[str]:
    state = checkpoint.read(path)
    network, progress = state.problem.network, state.progress
    yield f"{path}: distbp checkpoint, checksum good"
    yield f"progress   epoch {progress.epoch}, step {progress.step}, {progress.samples} samples seen"
    yield f"network    {describe_network(network)}; {network.parameter_count} parameters, {state.config.dtype}"
    for l in range(2, network.F + 1):
        W, b = state.parameters.W[l], state.parameters.b[l]
        yield (
            f"  layer {l}  W {W.shape[0]} x {W.shape[1]}, rms {_rms(W):.4g};  b {len(b)}, rms {_rms(b):.4g};  "
            f"σ = {network.sigma(l).name}"
        )
    for what, scaling in (("input", state.problem.input), ("target", state.problem.target)):
        yield f"{what:<11}" + (
            "not scaled" if scaling.is_none else f"{state.config.scale}: {len(scaling.shift)} columns"
        )
    if state.problem.labels is not None:
        yield f"classes    {in_words(state.problem.labels)}"
    if progress.epoch:
        last = {name: values[-1] for name, values in state.history.items()}
        metric = state.problem.metric
        shown = [f"{part}_{of}" for of in ("loss", metric) for part in ("train", "validation")]
        yield "last epoch " + ", ".join(f"{name} {last[name]:.6g}" for name in shown)
    yield f"digest     {digest(state.parameters)}"
    for machine in state.machines:
        facts = ", ".join(f"{name.replace('_', ' ')} {fact}" for name, fact in machine.items() if name != "step")
        yield f"computed   from step {machine['step']} on: {facts}"
    yield "config"
    for option, value in as_dict(state.config).items():
        yield f"  {option} = {value}"


def describe_network(network: Any) -> str:
    """64-128-10, relu, softmax, cross_entropy"""
    sizes = "-".join(map(str, network.sizes[1:]))
    hidden = f"{network.activation.name}, " if network.F > 2 else ""
    return f"{sizes}, {hidden}{network.output_activation.name}, {network.loss.name}"


def _rms(array: Any) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


def _describe_data(path: Path) -> Iterator[str]:
    splits = split_names(str(path))
    with opened(str(path)) as file:
        yield f"{path}: " + (f"data set with the splits {', '.join(splits)}" if splits else "HDF5 file without splits")
        groups = [split for split in splits if isinstance(file[split], h5py.Group)]
        for prefix, group in [("", file), *((f"{split}/", file[split]) for split in groups)]:
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    yield f"  {prefix}{name}  a link, not followed (see --trust-links of distbp train)"
                elif isinstance(group[name], h5py.Dataset):
                    yield f"  {prefix}{name}  {_layout(group[name])}{_labels(group[name])}"


def _layout(item: h5py.Dataset) -> str:
    layout = f"chunks {item.chunks}" if item.chunks else "contiguous"
    packed = f", {item.compression}" if item.compression else ""
    kind = "string" if h5py.check_string_dtype(item.dtype) else str(item.dtype)
    if item.dtype.names:
        kind = "table of " + ", ".join(item.dtype.names)
    return f"{item.shape} {kind}, {layout}{packed}"


def _labels(item: h5py.Dataset) -> str:
    """What classes a data set of labels has, and how many samples the rarest and the commonest have."""
    is_text = h5py.check_string_dtype(item.dtype) is not None
    if item.ndim != 1 or item.size == 0 or not (is_text or item.dtype.kind in "iu"):
        return ""
    labels, counts = np.unique(item.asstr("utf-8")[()].astype(object) if is_text else item[()], return_counts=True)
    span = f"{labels.min()!s} to {labels.max()!s}"
    return f", {len(labels)} labels from {span}, {counts.min()} to {counts.max()} samples each"
