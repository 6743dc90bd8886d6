"""The options about the network, its first weights and its loss."""

from __future__ import annotations

from dataclasses import dataclass

from distbp.mathematics.activations import ACTIVATIONS
from distbp.mathematics.losses import LOSSES, default_loss
from distbp.settings.option import AUTO, NETWORK, option


@dataclass
class NetworkOptions:
    """The options about the network, its first weights and its loss."""

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
