"""How much memory it takes to use a trained network, before it is taken: see `ranks.memory_plan`."""

from __future__ import annotations

import numpy as np

from distbp.data.loading import held_bytes
from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.data.split import Split, read_ahead_bytes, reading_bytes
from distbp.engine.choice import evaluation_work, make_evaluation
from distbp.mathematics.arena import CountingArena
from distbp.mathematics.network import Parameters, parameter_bytes
from distbp.prediction.predict import room_for_outputs, sent_bytes
from distbp.ranks.communicator import Communicator
from distbp.ranks.memory_plan import DATA, Measured, MemoryPlan, Term, largest_moment, terms_of
from distbp.training.checkpoint import Outline


def evaluation_terms(comm: Communicator, outline: Outline, data: Split) -> list[Term]:
    """Of an `Evaluation`."""
    network, labels = outline.network, (0, 1) if outline.is_labelled else None
    unscaled = Problem(network, Scaling.none(network.sizes[1]), Scaling.none(network.sizes[network.F]), labels)
    counted, parameters = CountingArena(), Parameters.zeros(network, outline.config.dtype, CountingArena())
    make_evaluation(evaluation_work(comm, outline.config, unscaled, data), parameters, counted.of("activations"))
    return terms_of(counted)


def prediction_terms(comm: Communicator, outline: Outline, data: Split) -> list[Term]:
    """Of `predict`."""
    network, counted = outline.network, CountingArena()
    problem = Problem(network, Scaling.none(network.sizes[1]), outline.target, None)
    parameters = Parameters.zeros(network, outline.config.dtype, CountingArena())
    _, found = room_for_outputs(comm, problem, parameters, outline.config, len(data), arena=counted)
    counted.of("predictions of a block").take(sent_bytes(comm, network, len(data), found), np.uint8)
    return terms_of(counted)


def plan_use(comm: Communicator, measured: Measured, outline: Outline, data: Split, work: list[Term]) -> MemoryPlan:
    """The plan for work on a split, of which nothing is read but headers."""
    parameters = parameter_bytes(outline.network, outline.config.dtype)
    parts = 1 if data.why_not_shared else len(comm.node_ranks())
    later = sum(term.bytes for term in work)
    # Rank 0 reads the whole file, with the optimizer's vectors, and sends what is used; it comes packed.
    state = outline.bytes if comm.rank == 0 else parameters
    moments = {
        "reading the checkpoint": state - later - held_bytes(data) // parts,
        f"reading {DATA}": reading_bytes(data, parts) - later,
    }
    return measured.plan(
        [
            Term("parameters", parameters),
            *work,
            Term(f"{data.name} {DATA}", held_bytes(data), shared=not data.why_not_shared),
            Term(f"read from files: windows of {DATA}", 0 if data.in_memory else read_ahead_bytes(data)),
            largest_moment(moments),
        ]
    )
