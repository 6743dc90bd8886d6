"""All data sets of an HDF5 file in lines: each with its full path and shape, groups of the same make once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import h5py

from distbp.data.data_file import member
from distbp.data.stored import is_column, open_stored, why_not_data
from distbp.errors import DataError

MOST_LINES = 200
PYTABLES = "index of PyTables"
LINKED = "a link, not followed (see --trust-links)"


@dataclass
class _Node:
    """A group, with what is in it by name; or a data set or coded group, with its description.

    `rows`: the least and the most entries along the first axis, of the nodes that it stands for.
    """

    words: str = ""
    rows: tuple[int, int] | None = None
    children: dict[str, _Node] = field(default_factory=dict)

    def make(self) -> tuple[Any, ...]:
        """Equal for groups that hold the same names, with the same descriptions but for the number of rows."""
        return (self.words, *((name, child.make()) for name, child in self.children.items()))


def contents(group: h5py.Group, prefix: str, known: set[str], *, trust_links: bool = False) -> Iterator[str]:
    """Lines about what is in a group and below it, but for the data sets whose paths are `known`.

    `prefix` is the path of the group, "" for the file; `trust_links`: whether it is said what links point to.
    """
    lines = list(_lines(_node(group, prefix, known, set(), trust_links), prefix, "  "))
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        yield f"  … and {len(lines) - MOST_LINES} lines more"


def described(item: h5py.Dataset) -> str:
    """'(20, 3) float64, contiguous'"""
    layout = f"chunks {item.chunks}" if item.chunks else "contiguous"
    packed = f", {item.compression}" if item.compression else ""
    try:
        kind = "string" if h5py.check_string_dtype(item.dtype) else str(item.dtype)
    except TypeError:
        return f"{item.shape} of a type that NumPy does not have"
    if item.dtype.names:
        kind = "table of " + ", ".join(item.dtype.names)
    return f"{item.shape} {kind}, {layout}{packed}"


def _node(group: h5py.Group, prefix: str, known: set[str], seen: set[int], trust_links: bool) -> _Node:
    node = _Node()
    for name in group:
        where = f"{prefix}/{name}".lstrip("/")
        if where in known:
            continue
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            node.children[name] = _link(group, name) if trust_links else _Node(LINKED)
            continue
        item = member(group, name)
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:  # a second name for a group may be one of its own parents
            continue
        seen.add(address)
        if isinstance(item, h5py.Dataset):
            node.children[name] = _dataset(item, name)
        elif isinstance(item, h5py.Group) and is_column(item):
            node.children[name] = _coded(item)
        elif isinstance(item, h5py.Group) and name.startswith("_i_"):
            node.children[name] = _Node(f"a group; no input: {PYTABLES}")
        elif isinstance(item, h5py.Group):
            below = _node(item, where, known, seen, trust_links)
            if below.children:
                node.children[name] = below
    return node


def _link(group: h5py.Group, name: str) -> _Node:
    """What is behind a link that is trusted; groups behind links are not looked into."""
    try:
        item = group[name]
    except (KeyError, OSError, RuntimeError):
        return _Node("a link, and what it points to is not there")
    if isinstance(item, h5py.Group):
        return _coded(item) if is_column(item) else _Node("a link to a group")
    node = _dataset(item, name)
    return _Node(f"{node.words}, behind a link", node.rows)


def _coded(group: h5py.Group) -> _Node:
    """A group that is one column."""
    try:
        stored = open_stored(group.file, group.file.filename, group)
    except DataError as error:
        return _Node(f"a group that cannot be read: {error}")
    kind = "string" if stored.dtype.kind == "O" else str(stored.dtype)
    return _Node(f"{stored.shape} {kind}, a group: {'; '.join(stored.notes) or 'one column'}")


def _dataset(item: h5py.Dataset, name: str) -> _Node:
    why, words = why_not_data(item, name), described(item)
    if not item.shape:
        return _Node(words + (f"; no input: {why}" if why else ""))
    rest = ", ".join(map(str, item.shape[1:]))
    words = words.replace(str(item.shape), f"({{rows}}, {rest})" if rest else "({rows},)", 1)
    return _Node(words + (f"; no input: {why}" if why else ""), (item.shape[0], item.shape[0]))


def _merged(nodes: Sequence[_Node]) -> _Node:
    """One node that stands for several of the same make."""
    rows = [node.rows for node in nodes if node.rows]
    children = {name: _merged([node.children[name] for node in nodes]) for name in nodes[0].children}
    span = (min(low for low, _ in rows), max(high for _, high in rows)) if rows else None
    return _Node(nodes[0].words, span, children)


def _lines(node: _Node, prefix: str, indent: str) -> Iterator[str]:
    """Neighbours of the same make are one."""
    for _, together in groupby(node.children.items(), lambda pair: pair[1].make() if pair[1].children else pair[0]):
        names, nodes = zip(*together, strict=True)
        path = f"{prefix}/{names[0]}".lstrip("/")
        if not nodes[0].children:
            yield f"{indent}{path}  {_words(nodes[0])}"
        elif len(names) == 1:
            yield from _lines(nodes[0], path, indent)
        else:
            yield f"{indent}{path} … {names[-1]}: {len(names)} groups alike"
            yield from _lines(_merged(nodes), f"{prefix}/*".lstrip("/"), indent + "  ")


def _words(node: _Node) -> str:
    if not node.rows:
        return node.words
    low, high = node.rows
    return node.words.replace("{rows}", str(low) if low == high else f"{low} to {high}", 1)
