"""The options about the steps: what is computed, and how many of them."""

from __future__ import annotations

from dataclasses import dataclass

from distbp.mathematics.optimizers import OPTIMIZERS
from distbp.mathematics.schedules import SCHEDULES
from distbp.settings.option import AUTO, TRAINING, option

MOST_EPOCHS = 1e9  # of warm-up, or between reductions: their steps are still a number


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


@dataclass
class TrainingOptions:
    """The options about the steps: what is computed, and how many of them."""

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
    audit_epochs: int | str = option(
        AUTO,
        "With --reproducible: epochs between two lines of audit.csv, by which distbp verify checks the run. auto: 1, "
        "or so many that the lines take about 1 % of the time.",
        low=1,
        word=AUTO,
        group=TRAINING,
    )
    audit_steps: int = option(
        0,
        "With --reproducible: steps between two further lines of audit.csv, also inside an epoch. 0: none.",
        low=0,
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
