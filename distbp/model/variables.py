"""What the inputs or outputs of a network are called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variables:
    """The inputs or the outputs of a network.

    `count` is how many there are.  `names` and `units` hold a string for each of them, in the order in which the
    network knows them, and are empty if the data did not say it.  The outputs of a classifier are one for each class;
    `names` then holds the name of the labels alone.

    >>> import distbp
    >>> inputs = distbp.load("run").inputs
    >>> inputs.count, inputs.names, inputs.units
    (64, (), ())
    """

    count: int
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
