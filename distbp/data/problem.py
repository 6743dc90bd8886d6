"""What is to be learnt: the network, the scaling and the metric that follow from a configuration and its data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from distbp.data.labels import Labels, in_words
from distbp.data.layout import CLASSES, TARGETS, Layout
from distbp.data.scaling import Scaling, measure
from distbp.data.split import Split, check_classes
from distbp.data.task import MOST_FLOAT_LABELS, looks_like_labels, looks_like_quantities
from distbp.errors import DataError
from distbp.mathematics.activations import Array
from distbp.mathematics.backprop import Piece, loss_sum
from distbp.mathematics.batches import pieces, shard
from distbp.mathematics.losses import LOSSES, Loss, default_loss
from distbp.mathematics.metrics import Metric, metrics_of, names_of_sums
from distbp.mathematics.network import Network
from distbp.ranks.communicator import Communicator, agree
from distbp.ranks.stop import Pulse
from distbp.settings.config import Config
from distbp.settings.option import AUTO
from distbp.settings.rules import check

CHECK_ROWS = 65536


@dataclass(frozen=True)
class Names:
    """What the columns of x and y are called, and their units; () where the data do not say it."""

    x: tuple[str, ...] = ()
    y: tuple[str, ...] = ()
    x_units: tuple[str, ...] = ()
    y_units: tuple[str, ...] = ()

    @classmethod
    def of(cls, layout: Layout) -> Names:
        """Those of a split; labels are one column, whatever they were made of."""
        y, units = (layout.names("y"), layout.units("y")) if layout.y_name else ((), ())
        labels_of_several = layout.is_labelled and len(y) > 1
        return cls(
            layout.names("x"), () if labels_of_several else y, layout.units("x"), () if labels_of_several else units
        )


@dataclass(frozen=True)
class Problem:
    """The network with how its inputs and outputs are to be read; `labels` of the classes 0 … K-1, where there are."""

    network: Network
    input: Scaling
    target: Scaling
    labels: Labels | None
    columns: Names = Names()

    @property
    def classes(self) -> int | None:
        """K when the targets are class labels, else None."""
        return None if self.labels is None else len(self.labels)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The measures beside the loss: accuracy, or rmse in the units of the targets."""
        return metrics_of(self.network.loss.name, has_classes=self.classes is not None, spread=self.target.spread)

    @cached_property
    def metric_names(self) -> tuple[str, ...]:
        """The names of the metrics."""
        return tuple(metric.name for metric in self.metrics)

    @cached_property
    def sums(self) -> tuple[str, ...]:
        """What is summed up over samples, by name: the loss first, then what the metrics are made of."""
        return names_of_sums(self.metrics)

    def piece_sums(self, piece: Piece) -> list[float]:
        """What a piece adds to the sums, after `forward` and before `backward`."""
        F = self.network.F
        values = [loss_sum(self.network, piece)]
        for metric in self.metrics:
            values += metric.of_piece(piece.y, piece.a[F], piece.s[F])
        return values

    def scores(self, sums: Sequence[float], n: int) -> dict[str, float]:
        """The loss and the metrics of n samples by name, from the sums over them; NaN for n = 0."""
        if not n:
            return dict.fromkeys(("loss", *self.metric_names), math.nan)
        found, rest = {"loss": sums[0] / n}, iter(sums[1:])
        for metric in self.metrics:
            found[metric.name] = metric.value([next(rest) for _ in metric.sums], n)
        return found

    def in_order(self, layout: Layout) -> Layout:
        """The layout with its columns in the order in which the network knows them.  Raises DataError."""
        layout = layout.ordered_as("x", self.columns.x, "the network was trained on")
        if not layout.y_name or self.labels is not None:
            return layout
        return layout.ordered_as("y", self.columns.y, "the network was trained on the targets")

    def check(self, comm: Communicator, data: Split, pulse: Pulse = lambda phase: None) -> None:
        """Raises DataError, agreed by all ranks, where data do not fit this network."""
        agree(comm, lambda: self._check_columns(data))
        if data.layout.y_name and not data.is_labelled and self.network.loss.is_binary:
            _check_probabilities(comm, data, self.network.loss, pulse)

    def _check_columns(self, data: Split) -> None:
        n = self.network.sizes
        if data.layout.width("x") != n[1]:
            raise DataError(
                f"{data.where('x')} has {data.layout.width('x')} columns, but the network has {n[1]} inputs"
            )
        if not data.layout.y_name:
            return
        if data.is_labelled:
            if self.labels is None:
                raise DataError(f"{data.place(0, 'y')}: class labels, but the network was trained on real targets")
            assert data.labels == self.labels, "read with other labels"
        elif self.labels is not None:
            raise DataError(
                f"{data.place(0, 'y')}: {data.layout.dtype('y')} values, but the network was trained on class labels, "
                "which are integers or strings"
            )
        elif data.layout.width("y") != n[self.network.F]:
            raise DataError(
                f"{data.where('y')} has {data.layout.width('y')} columns, "
                f"but the network has {n[self.network.F]} outputs"
            )


def pose(comm: Communicator, config: Config, data: Split, pulse: Pulse = lambda phase: None) -> tuple[Config, Problem]:
    """The problem that a training split poses, and the configuration with every "auto" replaced by what it meant.

    Raises DataError or UsageError, agreed by all ranks.
    """
    asked, (config, network) = config, agree(comm, lambda: network_for(config, data))
    if asked.task == AUTO and asked.loss == AUTO:
        _check_task(comm, data, pulse)
    if not data.is_labelled and network.loss.is_binary:
        _check_probabilities(comm, data, network.loss, pulse)
    n_F = network.sizes[network.F]
    regression = not data.is_labelled and network.loss.scales_targets
    input_scaling = measure(comm, data.rows("x"), config.scale, data.extremes.get("x"), pulse)
    target = (
        measure(comm, data.rows("y"), config.scale, data.extremes.get("y"), pulse) if regression else Scaling.none(n_F)
    )

    def check_ranges() -> None:
        _check_range(data, "x", input_scaling, config.dtype)
        _check_range(data, "y", target, config.dtype)

    agree(comm, check_ranges)
    return config, Problem(network, input_scaling, target, data.labels, Names.of(data.layout))


def network_for(config: Config, data: Split) -> tuple[Config, Network]:
    """The network for the columns and classes of a split, and the configuration with what its "auto" meant.

    Raises DataError or UsageError.
    """
    config, n_F = _resolve(config, data)
    layers = [data.layout.width("x"), *config.hidden, n_F]
    return config, Network.of(layers, config.activation, config.output_activation, config.loss)


def _resolve(config: Config, data: Split) -> tuple[Config, int]:
    task = CLASSES if data.is_labelled else TARGETS
    loss = LOSSES[default_loss(task) if config.loss == AUTO else config.loss]
    output = loss.output_activation if config.output_activation == AUTO else config.output_activation
    config = dataclasses.replace(config, loss=loss.name, output_activation=output, task=task)
    check(config)
    if data.is_labelled:
        check_classes(data)
        assert data.labels is not None
        classes = len(data.labels)
        if loss.is_binary and classes != 2:
            raise DataError(
                f"{data.where('y')} has {classes} classes; "
                f"--loss {loss.name} is for two: use --loss {default_loss(CLASSES)}"
            )
        return config, loss.outputs(classes)
    if not loss.takes_targets:
        raise DataError(
            f"{data.where('y')} is of type {data.layout.dtype('y')}; --loss {loss.name} needs "
            f"class labels, which are integers or strings; for regression use --loss {default_loss(TARGETS)}, and for "
            "columns of 0 with one 1 in each row --task classes"
        )
    return config, data.layout.width("y")


def _check_task(comm: Communicator, data: Split, pulse: Pulse) -> None:
    """Raises DataError, agreed, where y may be the other thing than its type says: see `distbp.data.task`."""
    if data.labels is None and data.layout.width("y") > 1:
        return
    first, last = shard(len(data), comm.rank, comm.size)
    if data.labels is not None:
        assert data.classes is not None
        counts = np.bincount(data.classes[first:last], minlength=len(data.labels)).astype(np.float64)
        comm.allreduce(counts)
        whole = {label: int(count) for label, count in zip(data.labels, counts, strict=True) if isinstance(label, int)}
        why = looks_like_quantities(whole) if len(whole) == len(data.labels) else ""
    else:
        values: set[float] = set()

        def look() -> None:
            for start, stop in pieces(first, last, CHECK_ROWS):
                pulse("checking y")
                if len(values) <= MOST_FLOAT_LABELS:
                    values.update(np.unique(data.rows("y")[start:stop]).tolist()[: MOST_FLOAT_LABELS + 1])

        agree(comm, look)
        few = sorted(set().union(*comm.allgather(values)))
        why = f"has whole numbers only: {in_words(tuple(map(int, few)))}" if looks_like_labels(few) else ""
    if why:
        refused = DataError(
            f"{data.where('y')} {why}. Are these the labels of classes, or the targets of a regression? Say "
            "--task classes or --task targets"
        )
        refused.agreed = True
        raise refused


def _check_probabilities(comm: Communicator, data: Split, loss: Loss, pulse: Pulse) -> None:
    """Raises DataError, agreed by all ranks, where targets are not from 0 to 1; each rank looks at its shard."""

    def check() -> None:
        targets = data.rows("y")
        for first, last in pieces(*shard(len(data), comm.rank, comm.size), CHECK_ROWS):
            pulse("checking y")
            y = targets[first:last]
            wrong = ((y < 0) | (y > 1)).any(axis=1)
            if wrong.any():
                row = int(wrong.argmax())
                raise DataError(
                    f"{data.place(first + row, 'y')}: {y[row].tolist()}; --loss {loss.name} needs targets from 0 to 1"
                )

    agree(comm, check)


def _check_range(data: Split, of: str, scaling: Scaling, dtype: str) -> None:
    """Raises DataError where a column cannot be scaled in this dtype."""
    with np.errstate(over="ignore", divide="ignore"):
        usable = np.isfinite(scaling.shift.astype(dtype)) & np.isfinite((1.0 / scaling.spread).astype(dtype))
        usable &= (1.0 / scaling.spread).astype(dtype) > 0
    if not usable.all():
        column = int(usable.argmin())
        advice = "change its unit" + (", or use --dtype float64" if dtype != "float64" else "")
        raise DataError(
            f"{data.where(of)}, column {column}: mean or minimum {scaling.shift[column]:g}, "
            f"spread {scaling.spread[column]:g}; out of the range of {dtype}: {advice}"
        )


def unscaled_output(problem: Problem, a: Array) -> Array:
    """Outputs in the units of the targets; a has shape (n_F, m), the result (m, n_F), float64 where it was scaled."""
    return np.ascontiguousarray(a.T) if problem.target.is_none else problem.target.undo(a.T)
