"""PyTorch with torch.compile: one process with threads; the whole step is one compiled graph.

Gathering the batch, forward and backward pass (`torch.func.grad_and_value`) and the update are compiled together, which
leaves one call for a step.  It was faster than compiling the model or the loss alone.  It needs a C++ compiler.
"""

from __future__ import annotations

from typing import Any

import torch
import torch._inductor.config
from task import Task, first_weights, given, perform, read_data
from torch.nn import functional


class PyTorchCompiled:
    """The only process."""

    rank, together = 0, 1

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        torch._inductor.config.compile_threads = 1  # no other processes, whose memory would be counted
        x, y = read_data(task)
        self.x, self._y = torch.from_numpy(x), torch.from_numpy(y)
        self._weights = [torch.from_numpy(array.copy()) for layer in first_weights(task) for array in layer]
        self._velocity = [torch.zeros_like(w) for w in self._weights]
        self._order, self._n = torch.arange(len(x)), task.n
        self._loss = torch.zeros(())
        self._random = torch.Generator().manual_seed(0)
        self._step = self._compiled(task)

    def _compiled(self, task: Task) -> Any:
        eta, mu = task.learning_rate, task.momentum
        loss_function = functional.mse_loss if task.is_regression else functional.cross_entropy

        def loss_of(weights: list[Any], a: Any, y: Any) -> Any:
            for l in range(0, len(weights), 2):
                a = functional.linear(a, weights[l], weights[l + 1])
                if l + 2 < len(weights):
                    a = functional.relu(a)
            return loss_function(a, y)

        def step(weights: list[Any], velocity: list[Any], x: Any, y: Any, rows: Any) -> Any:
            gradients, loss = torch.func.grad_and_value(loss_of)(
                weights, x.index_select(0, rows), y.index_select(0, rows)
            )
            torch._foreach_mul_(velocity, mu)
            torch._foreach_add_(velocity, gradients)
            torch._foreach_add_(weights, velocity, alpha=-eta)
            return loss

        return torch.compile(step, fullgraph=True, dynamic=False, options={"max_autotune": True, "cpp_wrapper": True})

    def shuffle(self) -> None:
        """See Contestant, as for the rest."""
        self._order = torch.randperm(len(self.x), generator=self._random)

    def step(self, number: int) -> None:
        rows = self._order[number * self._n : (number + 1) * self._n]
        self._loss = self._step(self._weights, self._velocity, self.x, self._y, rows)

    def wait(self) -> None:
        pass

    def loss(self) -> float:
        return float(self._loss)

    def agree(self, value: int) -> int:
        return value

    def slowest(self, seconds: float) -> float:
        return seconds


def main() -> None:
    """Does the task."""
    task = given()
    contestant = PyTorchCompiled(task)
    perform(task, contestant, len(contestant.x))


if __name__ == "__main__":
    main()
