"""PyTorch: DistributedDataParallel over gloo, or one process with threads; as fast as it goes without writing kernels.

The data are tensors in memory, a batch is taken by index without a DataLoader, the optimizer is the fused one, and
nothing is logged.  RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment, as torchrun sets them.  So is
LOCAL_WORLD_SIZE, which gloo's sums in shared memory asked for (pull request 458 of gloo, taken back by 490 in February
2026).  A note says which way gloo went.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import torch
import torch.distributed as dist
from task import Task, first_weights, given, note, perform, read_data, shard
from torch import nn


class PyTorch:
    """One process."""

    together = 1

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        if task.ranks > 1:
            dist.init_process_group("gloo")
        self.rank = int(os.environ.get("RANK", "0"))
        self._task, self._part = task, shard(task.n, self.rank, task.ranks)
        x, y = read_data(task)
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        modules: list[nn.Module] = []
        for (m, n), (W, b) in zip(itertools.pairwise(task.layers), first_weights(task), strict=True):
            layer = nn.Linear(m, n)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(W))
                layer.bias.copy_(torch.from_numpy(b))
            modules += [layer, nn.ReLU()]
        self._model: nn.Module = nn.Sequential(*modules[:-1])
        if task.ranks > 1:
            self._model = nn.parallel.DistributedDataParallel(
                self._model, gradient_as_bucket_view=True, static_graph=True, broadcast_buffers=False
            )
        self._loss_of = nn.MSELoss() if task.is_regression else nn.CrossEntropyLoss()
        self._optimizer = torch.optim.SGD(
            self._model.parameters(), lr=task.learning_rate, momentum=task.momentum, fused=True
        )
        self._order = torch.arange(len(x))
        self._loss = torch.zeros(())
        self._random = torch.Generator().manual_seed(0)

    def shuffle(self) -> None:
        """See Contestant, as for the rest."""
        self._order = torch.randperm(len(self.x), generator=self._random)

    def step(self, number: int) -> None:
        rows = self._order[number * self._task.n :][self._part]
        self._optimizer.zero_grad(set_to_none=True)
        output = self._model(self.x.index_select(0, rows))
        self._loss = self._loss_of(output, self.y.index_select(0, rows))
        self._loss.backward()
        self._optimizer.step()

    def wait(self) -> None:
        pass

    def loss(self) -> float:
        loss = self._loss.detach().clone()
        if self._task.ranks > 1:
            dist.all_reduce(loss)
        return float(loss) / self._task.ranks

    def agree(self, value: int) -> int:
        number = torch.tensor(value)
        if self._task.ranks > 1:
            dist.broadcast(number, 0)
        return int(number)

    def slowest(self, seconds: float) -> float:
        return seconds  # the ranks go in step


def gloo_went() -> str:
    """How gloo's sums got to the other process: its shared memory is a file of this name."""
    way = "shared memory" if "/shm_allreduce_buffer" in Path("/proc/self/maps").read_text() else "TCP"
    return f"the gloo of torch {torch.__version__} added up gradients over {way}"


def main() -> None:
    """Does the task."""
    task = given()
    contestant = PyTorch(task)
    perform(task, contestant, len(contestant.x))
    if task.ranks > 1:
        note(gloo_went())
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
