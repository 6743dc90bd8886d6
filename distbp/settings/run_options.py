"""The options about how a run goes on: its files, stops, ranks and threads."""

from __future__ import annotations

from dataclasses import dataclass

from distbp.settings.option import AUTO, RUN, option


@dataclass
class RunOptions:
    """The options about how a run goes on: its files, stops, ranks and threads."""

    out: str = option("run", "Directory of the run.", may_change=True, group=RUN)
    checkpoint_every: int | str = option(
        AUTO,
        "Epochs between checkpoints. auto: after each epoch, but so that checkpoints take at most 2 % of the time.",
        low=1,
        word=AUTO,
        may_change=True,
        group=RUN,
    )
    checkpoint_minutes: float = option(
        10.0,
        "Minutes after which a checkpoint is written at the latest, also inside an epoch. A run that is killed can "
        "lose as much. 0: no such limit.",
        low=0,
        may_change=True,
        group=RUN,
    )
    keep: int = option(3, "Number of checkpoints to keep; the newest ones stay.", low=1, may_change=True, group=RUN)
    drift_steps: int = option(
        100,
        "Steps between two comparisons of the parameters of the nodes, which must stay the same. 0: never.",
        low=0,
        may_change=True,
        group=RUN,
    )
    stop_signals: str = option(
        "INT,TERM,USR1,USR2",
        "Signals that ask for a stop: after the current step, with a checkpoint and exit code 75.",
        may_change=True,
        group=RUN,
    )
    time_limit: float = option(
        0.0,
        "Minutes that this command may take. It stops in time for a checkpoint, with exit code 75. 0: until "
        "the end of the SLURM job, if there is one.",
        low=0,
        below=1e6,
        may_change=True,
        group=RUN,
    )
    grace: float = option(
        0.0,
        "Seconds from a stop signal to the end of the process, whatever it is doing then. 0: as long as it takes.",
        low=0,
        may_change=True,
        group=RUN,
    )
    trace: str = option(
        "",
        "File for a trace of some steps of all ranks, for Perfetto. Its name ends in .json.",
        may_change=True,
        group=RUN,
    )
    trace_steps: str = option("11-20", "Steps that --trace records, FIRST-LAST.", may_change=True, group=RUN)
    stall_minutes: float = option(
        60.0,
        "Minutes without progress after which a rank says where it is and the job ends. 0: never.",
        low=0,
        may_change=True,
        group=RUN,
    )
    overlap: bool = option(
        True,
        "Exchange the gradient of a layer between nodes while those of the layers below are computed.",
        may_change=True,
        group=RUN,
    )
    engine: str = option(
        AUTO,
        "What computes the steps: compiled C code, or NumPy, which is slower and reads like the text. auto: compiled, "
        "if it was built when distbp was installed and has what the run needs; the summary says which it is.",
        choices=(AUTO, "compiled", "numpy"),
        may_change=True,
        group=RUN,
    )
    threads: int = option(
        0,
        "Threads of each rank, in the BLAS and in the compiled engine. 0: as OMP_NUM_THREADS or the like says; else "
        "the cores of the node divided by its ranks, or 1 with --reproducible.",
        low=0,
        below=2**16,
        may_change=True,
        group=RUN,
    )
