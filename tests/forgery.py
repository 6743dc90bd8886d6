"""A liar: takes an honest run, changes something on the way, goes on from there, and writes all files to fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from distbp.ranks.attention import Attention
from distbp.ranks.communicator import OneProcess
from distbp.training import chain, checkpoint
from distbp.training.audit_digests import of_optimizer
from distbp.training.chain import Line
from distbp.training.comparison import digest
from distbp.training.run_directory import RunDirectory
from distbp.training.state import Checkpoint
from distbp.verification.claims import Claims, Kept, read_claims
from distbp.verification.repeat import Repeat, State


class Liar:
    """Makes forgeries of the honest run in `directory`, whose lines all have a checkpoint."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.claims = read_claims(str(directory), (), lambda: None)
        self.lines = self.claims.lines
        self.states: dict[int, Checkpoint] = {
            one.step: checkpoint.read(one.path) for one in self.claims.kept if one.optimizer
        }
        self._ways: dict[str, Repeat] = {}

    def close(self) -> None:
        for way in self._ways.values():
            way.close()

    def way(self, name: str, **changes: Any) -> Repeat:
        """The run as it would be with other options."""
        if name not in self._ways:
            config = replace(self.claims.config, **changes)
            self._ways[name] = Repeat(OneProcess(), config, Attention())
        return self._ways[name]

    def swapped(self, rows: tuple[int, int]) -> Repeat:
        """The run as it would be with two inputs in each other's place."""
        name = f"swapped {rows}"
        if name not in self._ways:
            path = self.directory.parent / f"swapped-{rows[0]}-{rows[1]}.h5"
            shutil.copy(self.claims.config.data[0], path)
            with h5py.File(path, "r+") as file:
                x = file["train/x"][()]
                x[list(rows)] = x[list(rows[::-1])]
                file["train/x"][...] = x
            self.way(name, data=[str(path)])
        return self._ways[name]

    def state(self, place: int) -> State:
        """The honest state of a line."""
        one = self.states[self.lines[place].step]
        return State(one.progress.step, one.vector.copy(), {name: v.copy() for name, v in one.optimizer.items()})

    def after(self, way: Repeat, start: State, places: range) -> dict[int, State]:
        """The states of these lines, from a state before them, in one way."""
        found: dict[int, State] = {}

        def look(step: int) -> str:
            found[step] = way.state()
            return ""

        way.part(start, [self.lines[place].step for place in places], look)
        return {place: found[self.lines[place].step] for place in places}

    def told(self, forged: dict[int, State], edit: Callable[[Line], Line] = lambda line: line) -> Claims:
        """The claims with other states, and a chain that fits them."""
        lines, kept = list[Line](), list[Kept]()
        for place, honest in enumerate(self.lines):
            line = edit(honest)
            if place in forged:
                state = self.filled(forged[place])
                line = line._replace(parameters=digest(state.parameters), optimizer=of_optimizer(state.optimizer))
            lines.append(line._replace(before=chain.link(lines[-1] if lines else None)))
        by_step = {line.step: line for line in lines}
        for one in self.claims.kept:
            line = by_step[one.step]
            optimizer = line.optimizer if one.optimizer else ""
            kept.append(replace(one, parameters=line.parameters, optimizer=optimizer))
        return replace(self.claims, lines=lines, kept=kept)

    def filled(self, state: State) -> Checkpoint:
        """The checkpoint of a step with other vectors."""
        return replace(self.states[state.step], vector=state.vector, optimizer=state.optimizer)

    def written(self, forged: dict[int, State], path: Path) -> Claims:
        """The claims of a directory with forged files."""
        shutil.copytree(self.directory, path)
        claims = self.told(forged)
        directory = RunDirectory(str(path))
        (path / "audit.csv").write_text(chain.HEADER + "".join(",".join(line.cells) + "\n" for line in claims.lines))
        for state in forged.values():
            checkpoint.write(directory.checkpoint(state.step), self.filled(state))
        best = checkpoint.read(path / "best.h5")
        place = next(place for place, line in enumerate(self.lines) if line.step == best.progress.step)
        if place in forged:
            checkpoint.write(path / "best.h5", replace(best, vector=forged[place].vector))
        return read_claims(str(path), (), lambda: None)


def with_a_bit(state: State, rng: np.random.Generator) -> State:
    """One of the low bits of w or of the optimizer is another one."""
    names = ["w", *state.optimizer]
    name = names[rng.integers(len(names))]
    vectors = {"w": state.vector, **state.optimizer}
    vector = vectors[name].copy()
    vector.view(np.uint32)[rng.integers(vector.size)] ^= np.uint32(1 << int(rng.integers(20)))
    vectors[name] = vector
    w = vectors.pop("w")
    return State(state.step, w, vectors)
