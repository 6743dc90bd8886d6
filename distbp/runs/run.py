"""What a training from Python leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from distbp.errors import UsageError
from distbp.model.model import Model
from distbp.training.state import Checkpoint


@dataclass(frozen=True)
class Run:
    """A run that has ended, the same on all ranks.

    `history`: the columns of metrics.csv by name, each an array with a value for each epoch; `epoch` and `step` are
    int64, all others float64, NaN where there is no value.
    `best`: the row of the epoch with the lowest validation loss; None without a validation.
    `checkpoint`: the path of the newest checkpoint; None if nothing was written.
    `digest`: SHA-256 of all W and b at the end, in hexadecimal.
    `config`: the options by name, with what "auto" meant.
    `notes`: what the run had to say about the data and the machine, on rank 0.

    >>> import distbp
    >>> run = distbp.train("digits.h5", hidden=[32], epochs=2)
    >>> run.history["train_loss"].shape, run.best["epoch"], run.checkpoint
    ((2,), 2, None)
    """

    history: dict[str, NDArray[Any]]
    best: dict[str, float] | None
    checkpoint: str | None
    digest: str
    config: dict[str, Any]
    notes: tuple[str, ...]
    _states: dict[str, Checkpoint] = field(repr=False)

    def model(self, which: str = "best") -> Model:
        """The network: "best", with the lowest validation loss (without a validation the last one), or "last".

        Raises UsageError for another word.

        >>> import distbp
        >>> distbp.train("digits.h5", hidden=[32], epochs=1).model("last")
        <distbp.Model 64-32-10, relu, softmax, cross_entropy: 10 classes, float32>
        """
        if which not in ("best", "last"):
            raise UsageError(f"model: which is {which!r}; expected 'best' or 'last'")
        return Model(self._states[which if which in self._states else "last"])

    def __repr__(self) -> str:
        epochs = len(self.history["epoch"])
        best = f", best {self.best['validation_loss']:.6g} at {self.best['epoch']}" if self.best else ""
        return f"<distbp.Run {epochs} epochs{best}>"
