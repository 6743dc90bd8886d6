"""The order in which the gradients of grains are added: one binary tree, the same for any number of ranks.

Floating-point addition is not associative: (1 + 1e16) - 1e16 = 0, but 1 + (1e16 - 1e16) = 1.  So a sum over ranks has
bits that depend on their number.  Here the order belongs to the batch instead.  Over the grains 0 … count-1 stands a
tree: node (0, i) is grain i, and node (k, i) stands for the grains i 2^k … (i+1) 2^k - 1, those that there are, with

    S(0, i) = ∂L/∂w of grain i
    S(k, i) = S(k-1, 2i) + S(k-1, 2i+1),  or S(k-1, 2i) alone where there is no grain on the right

Each + is rounded once, as IEEE 754 says, and is the same wherever it is computed.  So S(root) has the same bits whoever
computes which node, in whatever order.  A rank adds up the largest nodes of which it has all grains; what is above them
is added by whoever is sent them.

Pairwise sums are also accurate: a sum of `count` numbers x is off by at most about ⌈log₂ count⌉ · u · Σ|x|, where
u = 2^-24 in float32; one after another, count · u · Σ|x| (Higham 1993, The accuracy of floating point summation).
"""

from __future__ import annotations

from collections.abc import Callable

from distbp.mathematics.activations import Array
from distbp.mathematics.batches import shard

Node = tuple[int, int]  # level k, index i


def root(count: int) -> Node:
    """The node of all `count` grains."""
    return (count - 1).bit_length(), 0


def grains_of(node: Node, count: int) -> range:
    """The grains that a node stands for; none where it is to the right of all."""
    level, index = node
    return range(min(index << level, count), min((index + 1) << level, count))


def children(node: Node, count: int) -> list[Node]:
    """The one or two nodes below, which have grains."""
    level, index = node
    return [child for child in ((level - 1, 2 * index), (level - 1, 2 * index + 1)) if grains_of(child, count)]


def largest_nodes(first: int, last: int, count: int) -> list[Node]:
    """The fewest nodes that stand for the grains first … last-1 of `count`, from left to right."""

    def within(node: Node) -> list[Node]:
        grains = grains_of(node, count)
        if grains.start >= last or grains.stop <= first:
            return []
        if first <= grains.start and grains.stop <= last:
            return [node]
        return [found for child in children(node, count) for found in within(child)]

    return within(root(count)) if first < last else []


def merged(nodes: set[Node], count: int) -> list[Node]:
    """The fewest nodes that stand for the grains of these, from left to right."""

    def within(node: Node) -> list[Node]:
        if node in nodes:
            return [node]
        below = [(child, within(child)) for child in (children(node, count) if node[0] else [])]
        if below and all(found == [child] for child, found in below):
            return [node]
        return [one for _, found in below for one in found]

    return within(root(count))


def shares(count: int, size: int) -> list[tuple[int, int]]:
    """The grains [first, last) of each of `size` ranks, cut where the tree is, as far as that keeps the work even.

    The fewer nodes a rank's grains make, the less it keeps and sends.
    """
    even, level = -(-count // size), 0
    while level < root(count)[0] and _most(count, size, level + 1) <= even + even // 16:
        level += 1
    blocks = -(-count // 2**level)
    cuts = [min(count, shard(blocks, rank, size)[0] << level) for rank in range(size)]
    return list(zip(cuts, [*cuts[1:], count], strict=True))


def _most(count: int, size: int, level: int) -> int:
    """Grains of the rank that has most, where blocks of 2^level stay together."""
    blocks = -(-count // 2**level)
    longest: int = -(-blocks // size) * 2**level
    return min(count, longest)


def add_up(node: Node, count: int, known: Callable[[Node], Array | None]) -> Array:
    """S(node), added up in place in the leftmost of the arrays that `known` returns.

    known(node) is S(node), in memory that is free to be overwritten, or None for a node to be added from its children.
    """
    array = known(node)
    if array is None:
        below = children(node, count)
        array = add_up(below[0], count, known)
        if len(below) == 2:
            array += add_up(below[1], count, known)
    return array


def place(index: int, first: int) -> int:
    """Which of some arrays may hold the node `index` of a level, while the nodes `first`, `first` + 1, … are added up.

    Place 0 is that of the sum.  2^k nodes need k + 1 places, if they are one node of a higher level.
    """
    return 0 if index == first else (index & -index).bit_length()
