"""The configuration of a training run: every option with its default, help and limits, in this one place.

The command line, configuration files (TOML), `config.toml` of a run and the checkpoint's `config` are all made from
the fields of `Config`.
"""

from __future__ import annotations

import dataclasses
import glob
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distbp.errors import UsageError
from distbp.files.output import check_is_name
from distbp.files.patience import read_patiently, why_no_text
from distbp.mathematics.activations import ACTIVATIONS
from distbp.mathematics.losses import LOSSES, default_loss
from distbp.mathematics.optimizers import OPTIMIZERS
from distbp.mathematics.schedules import SCHEDULES

AUTO = "auto"
STOP_SIGNALS = ("INT", "TERM", "USR1", "USR2", "HUP", "QUIT", "ALRM", "XCPU")
PATHS = ("data", "stage_to", "out", "trace")
MOST_LAYERS = 1000
MOST_EPOCHS = 1e9  # of warm-up, or between reductions: their steps are still a number
LARGEST = 2**53  # of whole numbers: up to here floating-point numbers have them all


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
    word: str = "",
    may_change: bool = False,
    group: str,
) -> Any:
    """A field: `low` <= value, `above` < value, value < `below`, or `word`; `may_change`: on resume."""
    metadata = {
        "help": help,
        "choices": choices,
        "low": low,
        "above": above,
        "below": below,
        "word": word,
        "may_change": may_change,
        "group": group,
    }
    factory = isinstance(default, list)
    return (
        dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
        if factory
        else dataclasses.field(default=default, metadata=metadata)
    )


def takers(option: str) -> str:
    """The optimizers or schedules that take an option: "adam and adamw"."""
    optimizers = [rule.name for rule in OPTIMIZERS.values() if option in rule.options()]
    return " and ".join([*optimizers, *(one.name for one in SCHEDULES.values() if option in one.options)])


def weight_decay_help() -> str:
    """What each optimizer does with weight decay: "adam and sgd: λw is added to the gradient." and the like."""
    names: dict[str, list[str]] = {}
    for rule in OPTIMIZERS.values():
        names.setdefault(rule.decay_help, []).append(rule.name)
    return " ".join(f"{' and '.join(of)}: {what}." for what, of in names.items())


DATA, NETWORK, TRAINING, RUN = "Data", "Network", "Training", "Run"


@dataclass
class Config:
    """All that is needed to repeat a run.  Values are checked by `check`; AUTO means: chosen from the data."""

    data: list[str] = option(
        [],
        'HDF5 files, or patterns such as "run-*.h5". Together they are one data set, end to end. Without any: '
        "the digits.",
        may_change=True,  # to where the same data are now
        group=DATA,
    )
    split: str = option(
        AUTO, 'Group of the files to train on. auto: "train"; if there is none, "/", the file as a whole.', group=DATA
    )
    validation_split: str = option(
        AUTO, 'Group to validate on after each epoch. auto: "test", if the files have it. "" for none.', group=DATA
    )
    x: str = option(
        AUTO,
        "Inputs: names inside a split, side by side, such as p,t,v or table.field. auto: x; without one, all "
        "other columns that are data.",
        group=DATA,
    )
    y: str = option(
        AUTO,
        "Labels or targets: names inside a split, such as drag,lift. auto: y; without one, the only column "
        "called label, target, class or the like.",
        group=DATA,
    )
    drop: str = option("", "Columns that are not to be inputs, if --x does not name the inputs.", group=DATA)
    task: str = option(
        AUTO,
        "What y is: labels of classes, or targets of a regression. auto: as --loss says; else integers and "
        "text are labels.",
        choices=(AUTO, "classes", "targets"),
        group=DATA,
    )
    each: bool = option(
        False, "Each file is one sample, with all of its values. With a star in the names, each group is.", group=DATA
    )
    trust_links: bool = option(
        False,
        "Follow links to other files, and virtual data sets. Only for data from a source that you trust.",
        group=DATA,
    )
    allow_changed_data: bool = option(
        False,
        "Let --resume go on although values in the data have changed. For this start only.",
        may_change=True,
        group=DATA,
    )
    stage_to: str = option(
        "",
        "Directory of each node, such as $TMPDIR. Rank 0 copies the data files there, and the ranks read the copies.",
        may_change=True,
        group=DATA,
    )
    scale: str = option(
        "standardize",
        "Shift and scale inputs, and targets of a regression, by the statistics of the training split.",
        choices=("standardize", "minmax", "none"),
        group=DATA,
    )

    shuffle_window: int | str = option(
        AUTO,
        "Samples that are shuffled together. auto: all, up to 1 GiB of data; of more data, 256 MiB.",
        low=1,
        word=AUTO,
        group=DATA,
    )
    memory: float = option(
        0.0,
        "GiB of each node for the data. What does not fit is read from its files as it is needed. 0: half of "
        "what is free.",
        low=0,
        may_change=True,
        group=DATA,
    )

    hidden: list[int] = option(
        [128], 'Neurons of the hidden layers, such as 128,64. "" for no hidden layer.', group=NETWORK
    )
    activation: str = option(
        "relu",
        "σ of the hidden layers.",
        choices=tuple(activation.name for activation in ACTIVATIONS.values() if activation.may_be_hidden),
        group=NETWORK,
    )
    output_activation: str = option(
        AUTO,
        "σ of the output layer. auto: the one that goes with the loss.",
        choices=(AUTO, *ACTIVATIONS),
        group=NETWORK,
    )
    loss: str = option(
        AUTO,
        f"The loss L. auto: {default_loss('classes')} for labels, {default_loss('targets')} for targets.",
        choices=(AUTO, *LOSSES),
        group=NETWORK,
    )
    initialization: str = option(
        AUTO,
        "Rule for the first weights. auto: he or glorot, by the activation.",
        choices=(AUTO, "glorot", "he"),
        group=NETWORK,
    )
    dtype: str = option(
        "float32", "Type of the numbers to compute with.", choices=("float32", "float64"), group=NETWORK
    )

    optimizer: str = option("adam", "Rule for the update of w.", choices=tuple(OPTIMIZERS), group=TRAINING)
    learning_rate: float = option(1e-3, "η: the learning rate after warm-up.", above=0, group=TRAINING)
    momentum: float = option(0.0, f"μ of {takers('momentum')}.", low=0, below=1, group=TRAINING)
    nesterov: bool = option(False, f"Use Nesterov's form of the momentum of {takers('nesterov')}.", group=TRAINING)
    beta1: float = option(0.9, f"β₁ of {takers('beta1')}.", low=0, below=1, group=TRAINING)
    beta2: float = option(0.999, f"β₂ of {takers('beta2')}.", low=0, below=1, group=TRAINING)
    epsilon: float = option(1e-8, f"ε of {takers('epsilon')}.", above=0, group=TRAINING)
    weight_decay: float = option(0.0, f"λ of weight decay. {weight_decay_help()}", low=0, group=TRAINING)
    decay_bias: bool = option(True, "Apply weight decay to b as well as to W.", group=TRAINING)
    schedule: str = option(
        "constant",
        " ".join(
            ["How the learning rate changes over the run."]
            + [f"{one.name} {one.help}." for one in SCHEDULES.values() if one.help]
        ),
        choices=tuple(SCHEDULES),
        group=TRAINING,
    )
    warmup_epochs: float = option(
        0.0, "Epochs of linear warm-up before the schedule.", low=0, below=MOST_EPOCHS, group=TRAINING
    )
    step_epochs: float = option(
        10.0,
        f"Epochs between two reductions of the {takers('step_epochs')} schedule.",
        above=0,
        below=MOST_EPOCHS,
        group=TRAINING,
    )
    step_factor: float = option(
        0.1, f"Factor of each reduction of the {takers('step_factor')} schedule.", above=0, group=TRAINING
    )
    minimum_learning_rate: float = option(
        0.0,
        f"Learning rate at the end of the {takers('minimum_learning_rate')} schedule.",
        low=0,
        group=TRAINING,
    )
    clip_norm: float = option(
        0.0,
        "Shorten a longer gradient to this norm, taken over all w and b. 0: never.",
        low=0,
        group=TRAINING,
    )
    on_nan: str = option(
        "stop",
        "What to do if the loss, the gradient or the update of a batch is not finite.",
        choices=("stop", "skip"),
        may_change=True,
        group=TRAINING,
    )
    skip_limit: int = option(
        10, "Batches that --on-nan skip may skip in a run.", low=0, may_change=True, group=TRAINING
    )
    batch_size: int | str = option(
        32,
        "n: samples of a batch, over all ranks together. all: gradient descent on L_T.",
        low=1,
        word="all",
        group=TRAINING,
    )
    reproducible: bool = option(
        False,
        "Give the same bits on any number of ranks. See distbp help reproducibility.",
        group=TRAINING,
    )
    grain: int | str = option(
        AUTO,
        "With --reproducible: samples in a grain, the unit that one rank computes. At most n / grain ranks "
        "can work. auto: a quarter of n, from 16 to 256.",
        low=1,
        word=AUTO,
        group=TRAINING,
    )
    wire: str = option(
        "full",
        "Number format of gradients sent between nodes. The 16-bit formats halve the traffic, and rounding "
        "errors are carried to the next step. Not with --reproducible.",
        choices=("full", "float16", "bfloat16"),
        group=TRAINING,
    )
    epochs: int = option(20, "Passes over the training split, in all.", low=0, may_change=True, group=TRAINING)
    seed: int = option(0, "Seed of the first weights and of the order of the samples.", low=0, group=TRAINING)

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

    @property
    def samples_of_a_grain(self) -> int | None:
        """G in the reproducible mode, where it is known, which is not "auto"; else None."""
        return int(self.grain) if self.reproducible else None


FIELDS: dict[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(Config)}


def kind(name: str) -> str:
    """The type of an option: "str", "int", "float", "bool", "list[str]", "list[int]" or "int | str"."""
    return str(FIELDS[name].type)


def flag(name: str) -> str:
    """learning_rate -> --learning-rate"""
    return "DATA" if name == "data" else "--" + name.replace("_", "-")


def parse(name: str, text: str) -> Any:
    """The value of an option written on the command line.  Raises UsageError."""
    try:
        match kind(name):
            case "list[int]":
                return [int(part) for part in text.split(",")] if text.strip() else []
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "int | str":
                return text if text == FIELDS[name].metadata["word"] else int(text)
            case _:
                return text
    except ValueError:
        expected = {
            "list[int]": "whole numbers with commas between them, such as 128,64",
            "int": "a whole number",
            "float": "a number",
            "int | str": f'a whole number or "{FIELDS[name].metadata["word"]}"',
        }[kind(name)]
        raise UsageError(f"{flag(name)}: expected {expected}, got {text!r}") from None


def merge(values: Mapping[str, Any], origin: str) -> Config:
    """The configuration with these values in place of the defaults; `origin` says where they came from.

    Raises UsageError for unknown names, wrong types, values out of range and options that contradict one another.
    """
    config = Config(**check_each(values, origin))
    check(config)
    return config


def check_each(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The values, each checked by itself.  Raises UsageError for unknown names, wrong types, values out of range."""
    for name in values:
        if name not in FIELDS:
            raise UsageError(f"{origin}: unknown option {shown(name)}{suggestion(name)}")
    return {name: _checked(name, value, origin) for name, value in values.items()}


def suggestion(name: str) -> str:
    """' (did you mean ...?)', or ''"""
    import difflib

    close = difflib.get_close_matches(name[:80].replace("-", "_"), FIELDS, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f"; known are {', '.join(FIELDS)}"


def _checked(name: str, value: Any, origin: str) -> Any:
    where = f"{origin}: {name if origin.endswith('.toml') else flag(name)}"
    if kind(name) == "list[str]" and isinstance(value, str):
        value = [value]
    if kind(name) == "float" and _is_int(value) and abs(value) < 2**53:
        value = float(value)
    good = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": _is_int(value),
        "float": isinstance(value, float),
        "int | str": _is_int(value) or value == FIELDS[name].metadata["word"],
        "list[int]": isinstance(value, list) and all(_is_int(part) for part in value),
        "list[str]": isinstance(value, list) and all(isinstance(part, str) for part in value),
    }[kind(name)]
    if not good:
        none = '; for none write ""' if value is False and kind(name) == "str" else ""
        raise UsageError(f"{where}: expected a value like {Config().__dict__[name]!r}, got {shown(value)}{none}")
    if (value == "" and name in ("out", "x", "y", "split")) or (name == "data" and "" in value):
        raise UsageError(f"{where}: expected a name, got an empty one")
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, str) and not _is_text(part) for part in parts):
        raise UsageError(f"{where}: expected text that can be written as UTF-8, without zeros, got {shown(value)}")
    if any(_is_int(part) and abs(part) > LARGEST for part in parts):
        raise UsageError(f"{where}: expected whole numbers up to 2^53, got {shown(value)}")
    limits = FIELDS[name].metadata
    if limits["choices"] and value not in limits["choices"]:
        raise UsageError(f"{where}: expected one of {', '.join(limits['choices'])}, got {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where}: expected a finite number, got {shown(value)}")
    if isinstance(value, int | float):
        if limits["low"] is not None and value < limits["low"]:
            raise UsageError(f"{where}: expected at least {limits['low']}, got {shown(value)}")
        if limits["above"] is not None and value <= limits["above"]:
            raise UsageError(f"{where}: expected more than {limits['above']}, got {shown(value)}")
        if limits["below"] is not None and value >= limits["below"]:
            raise UsageError(f"{where}: expected less than {limits['below']:.15g}, got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """A value in a message: as it is written, but not longer than a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits; lists in lists in lists
        return f"a {type(value).__name__} that is too long to print"
    return text if len(text) <= 100 else text[:100] + "…"


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check(config: Config) -> None:
    """Raises UsageError for values that do not go together."""
    if len(config.hidden) > MOST_LAYERS:
        raise UsageError(f"--hidden: expected at most {MOST_LAYERS} layers, got {len(config.hidden)}")
    if any(n < 1 for n in config.hidden):
        raise UsageError(f"--hidden: a layer has at least 1 neuron, got {shown(config.hidden)[1:-1]}")
    _check_output(config)
    if config.nesterov and not config.momentum:
        raise UsageError("--nesterov needs --momentum above 0, such as --momentum 0.9")
    if not config.decay_bias and not config.weight_decay:
        raise UsageError("--no-decay-bias needs --weight-decay above 0, such as --weight-decay 0.01")
    if "momentum" not in OPTIMIZERS[config.optimizer].options() and config.momentum:
        has = ", ".join(flag(name) for name in OPTIMIZERS[config.optimizer].options())
        raise UsageError(f"--momentum is an option of --optimizer {takers('momentum')}; {config.optimizer} has {has}")
    if config.grain != AUTO and not config.reproducible:
        raise UsageError(
            f"--grain {config.grain} needs --reproducible; without it a rank's shard is worked on as a whole"
        )
    if config.wire != "full" and config.reproducible:
        raise UsageError(
            f"--wire {config.wire} does not go with --reproducible: what is rounded depends on who sends it; "
            "leave one of them out"
        )
    if config.stage_to and config.trust_links:
        raise UsageError(
            f"--stage-to {config.stage_to} does not go with --trust-links: what links lead to is not copied; "
            "leave one of them out"
        )
    unknown = [name for name in config.stop_signals.split(",") if name and name not in STOP_SIGNALS]
    if unknown:
        raise UsageError(
            f"--stop-signals: expected some of {','.join(STOP_SIGNALS)} with commas between them, got {unknown[0]!r}"
        )
    if config.minimum_learning_rate > config.learning_rate:
        raise UsageError(
            f"--minimum-learning-rate {config.minimum_learning_rate} is above --learning-rate {config.learning_rate}"
        )
    trace_steps(config)


def _check_output(config: Config) -> None:
    """Raises UsageError for a loss and an output activation that do not go together."""
    if AUTO in (config.loss, config.output_activation):
        return
    loss, output = LOSSES[config.loss], ACTIVATIONS[config.output_activation]
    if loss.allows(output):
        return
    if loss.delta is not None:
        raise UsageError(
            f"--loss {loss.name} goes with --output-activation {loss.output_activation}, not {output.name}"
        )
    partner = next(one.name for one in LOSSES.values() if one.output_activation == output.name)
    raise UsageError(
        f"--output-activation {output.name} goes with --loss {partner}; for {loss.name} take {loss.output_activation}"
    )


def trace_steps(config: Config) -> tuple[int, int]:
    """The first and the last step of --trace-steps.  Raises UsageError."""
    found = re.fullmatch(r"([0-9]{1,15})-([0-9]{1,15})", config.trace_steps)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(
            f"--trace-steps {shown(config.trace_steps)}: expected FIRST-LAST, such as 11-20; steps count from 1"
        )
    return int(found[1]), int(found[2])


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a configuration file, names with - or _.  Raises UsageError."""
    import tomllib

    try:
        text = read_patiently(path, "utf-8-sig")  # editors of Windows begin a file with a mark of UTF-8
        values = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot read this configuration file: {why_no_text(error)}") from None
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, and of numbers with thousands of digits
        raise UsageError(f"{path}: not a TOML file: {error}") from None
    named = {name.replace("-", "_"): value for name, value in values.items()}
    if len(named) < len(values):
        raise UsageError(f"{path}: an option is given twice, once with - and once with _")
    return named


def with_paths(values: Mapping[str, Any], origin: str, directory: str = "") -> dict[str, Any]:
    """The values, each checked already, where paths that begin with ~ are in a home directory, relative ones in this.

    Raises UsageError for a path with a variable of the shell: who wrote it expects its value, which nobody has put in.
    """

    def path(name: str, value: str) -> str:
        where = f"{origin}: {name}" if origin.endswith(".toml") else flag(name)
        if name != "data":
            check_is_name(value, where)
        if re.search(r"\$[A-Za-z_{]", value) and not os.path.lexists(os.path.join(directory, value)):
            raise UsageError(
                f"{where}: {shown(value)}: a variable of the shell is not replaced here; write the path itself, or "
                "give this option on the command line, in double quotes or none"
            )
        home = os.path.expanduser(value)
        if value.startswith("~") and home == value and not os.path.lexists(os.path.join(directory, value)):
            raise UsageError(f"{where}: {shown(value)}: no such home directory; for a file of that name write ./ first")
        return below(directory, home) if value else value

    return {
        name: value
        if name not in PATHS
        else path(name, value)
        if isinstance(value, str)
        else [path(name, part) for part in value]
        for name, value in values.items()
    }


def below(directory: str, pattern: str) -> str:
    """A path or a pattern of paths, relative to a directory, whose own name is no pattern."""
    whole = os.path.join(directory, pattern)
    if glob.has_magic(pattern) and not os.path.lexists(whole):
        return os.path.join(glob.escape(directory), pattern)
    return whole


def with_absolute_paths(config: Config) -> Config:
    """One that means the same read from anywhere."""
    named = {
        name: getattr(config, name) for name in ("out", "trace")
    }  # data are absolute, and stage_to is of one start
    return dataclasses.replace(config, **{name: os.path.abspath(path) for name, path in named.items() if path})


def as_dict(config: Config) -> dict[str, Any]:
    """Name -> value, in the order of the fields."""
    return dataclasses.asdict(config)


def resume(stored: Config, given: Mapping[str, Any], origin: str) -> Config:
    """The configuration of a run that goes on: the stored one, with what was given again and may change.

    Raises UsageError that names every given option that differs and may not.
    """
    given = {  # "auto" is what the run has chosen, but where it may choose again
        name: value for name, value in given.items() if value != AUTO or name not in FIELDS or _may_change(name)
    }
    given = check_each(given, origin)
    wrong = [
        f"{flag(name)}: the run has {getattr(stored, name)!r}, given was {value!r}"
        for name, value in given.items()
        if value != getattr(stored, name) and not _may_change(name)
    ]
    if wrong:
        may = ", ".join(flag(name) for name in FIELDS if _may_change(name))
        raise UsageError(
            "--resume: these options differ from the run's and cannot change in mid-run:\n  "
            + "\n  ".join(wrong)
            + f"\nleave them out, or start another run with another --out (these may change: {may})"
        )
    return merge({**as_dict(stored), **given}, origin)


def _may_change(name: str) -> bool:
    return bool(FIELDS[name].metadata["may_change"])
