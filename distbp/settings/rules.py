"""Which options go together."""

from __future__ import annotations

import re

from distbp.errors import UsageError
from distbp.mathematics.activations import ACTIVATIONS
from distbp.mathematics.losses import LOSSES
from distbp.mathematics.optimizers import OPTIMIZERS
from distbp.settings.config import Config, flag
from distbp.settings.option import AUTO
from distbp.settings.training_options import takers
from distbp.settings.words import shown

STOP_SIGNALS = ("INT", "TERM", "USR1", "USR2", "HUP", "QUIT", "ALRM", "XCPU")
MOST_LAYERS = 1000


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
    if (config.audit_epochs != AUTO or config.audit_steps) and not config.reproducible:
        name = "audit_steps" if config.audit_steps else "audit_epochs"
        raise UsageError(
            f"{flag(name)} {getattr(config, name)} needs --reproducible; other runs cannot be repeated bit for bit, "
            "and keep no audit.csv"
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
