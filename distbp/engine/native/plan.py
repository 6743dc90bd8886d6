"""The structures of `plan.h`, field for field: what Python tells the compiled step."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p
from enum import IntEnum

from distbp.engine.laps import Lap
from distbp.engine.step_memory import TAIL

SUMS = 2
SIGMAS = ("identity", "relu", "leaky_relu", "sigmoid", "tanh", "softplus", "gelu", "softmax")
LOSSES = ("mse", "cross_entropy", "binary_cross_entropy")
RULES = ("sgd", "adam", "adamw")
TYPES = ("u1", "i1", "u2", "i2", "f2", "f4", "f8", "i4", "i8")
PHASES = ("data", "forward", "backward", "reduction", "update")
NEEDS_Z = ("softplus", "gelu")  # whose σ' is not made of a


class Metric(IntEnum):
    """What is summed up beside the loss."""

    ACCURACY = 0
    BINARY_ACCURACY = 1
    SQUARED_ERROR = 2


class Answer(IntEnum):
    """Why a call of the compiled step came back."""

    DONE = 0
    WAITING = 1
    LOOK = 2
    REFUSED = 3


class LayerPlan(Structure):
    """`struct layer`"""

    _fields_ = [
        ("n", c_int64),
        ("sigma", c_int64),
        ("start", c_int64),
        ("W", c_void_p),
        ("b", c_void_p),
        ("z", c_void_p),
        ("a", c_void_p),
        ("at", c_void_p),
        ("d", c_void_p),
    ]


class ColumnsPlan(Structure):
    """`struct columns`"""

    _fields_ = [("rows", c_void_p), ("type", c_int64), ("width", c_int64), ("shift", c_void_p), ("factor", c_void_p)]


class NetPlan(Structure):
    """`struct net`"""

    _fields_ = [
        ("F", c_int64),
        ("loss", c_int64),
        ("metric", c_int64),
        ("panel", c_int64),
        ("room", c_int64),
        ("samples", c_int64),
        ("layer", c_void_p),
        ("gradient", c_void_p),
        ("x", ColumnsPlan),
        ("y", ColumnsPlan),
        ("classes", c_void_p),
        ("weights", c_void_p),
        ("c", c_void_p),
        ("y_panels", c_void_p),
        ("row", c_void_p),
        ("arranged", c_void_p),
        ("loss_of", c_void_p),
        ("metric_of", c_void_p),
        ("team", c_void_p),
    ]


class SlicePlan(Structure):
    """`struct slice`"""

    _fields_ = [
        ("start", c_int64),
        ("stop", c_int64),
        ("count", c_int64),
        ("ranks", c_int64),
        ("own", c_int64),
        ("has_tail", c_int64),
        ("slots", c_int64),
        ("gradient", c_void_p),
        ("agreed", c_void_p),
        ("w", c_void_p),
        ("m", c_void_p),
        ("v", c_void_p),
        ("squares", c_void_p),
        ("fence", c_void_p),
        ("spins", c_int64),
        ("rule", c_int64),
        ("nesterov", c_int64),
        ("momentum", c_double),
        ("beta1", c_double),
        ("beta2", c_double),
        ("epsilon", c_double),
        ("decay", c_double),
        ("limit", c_double),
        ("segments", c_int64),
        ("segment", c_void_p),
    ]


class BatchPlan(Structure):
    """`struct batch`"""

    _fields_ = [
        ("n", c_int64),
        ("grains", c_int64),
        ("nodes", c_int64),
        ("node", c_void_p),
        ("leaves", c_int64),
        ("leaf", c_void_p),
    ]


class TreePlan(Structure):
    """`struct tree`"""

    _fields_ = [
        ("grain", c_int64),
        ("together", c_int64),
        ("most", c_int64),
        ("kinds", c_int64),
        ("batch", c_void_p),
        ("above", c_void_p),
        ("shared", c_void_p),
        ("kept", c_void_p),
    ]


class RunPlan(Structure):
    """`struct run`"""

    _fields_ = [
        ("steps", c_int64),
        ("rank", c_int64),
        ("size", c_int64),
        ("tree", c_void_p),
        ("rows", c_void_p),
        ("lengths", c_void_p),
        ("numbers", c_void_p),
        ("requests", c_double * (TAIL - 3)),
        ("calm_length", c_double),
        ("calm_rate", c_double),
        ("calm_steps", c_int64),
        ("part", c_void_p),
        ("agreed", c_void_p),
        ("seconds", c_double * len(PHASES)),
        ("since", c_double),
        ("length", c_double),
        ("step", c_int64),
        ("stage", c_int64),
        ("turn", c_int64),
        ("first_row", c_int64),
        ("is_update", c_int64),
    ]

    def tell_laps(self, lap: Lap) -> None:
        """Tells what the time in C was spent on, since the last time."""
        for i, phase in enumerate(PHASES):
            if self.seconds[i]:
                lap(phase, self.seconds[i])
                self.seconds[i] = 0.0
