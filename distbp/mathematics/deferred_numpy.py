"""NumPy, imported when a formula is computed for the first time.

    from distbp.mathematics import deferred_numpy as np

The tables of losses, activations, optimizers and schedules hold names, facts and formulas side by side. The command
line reads the names and facts for its help, which must not wait for NumPy. So the formulas find NumPy here. A name of
NumPy that was used once is a name of this module from then on, and costs no more than in `import numpy as np`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import *  # noqa: F403 - for mypy this module is NumPy


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    import numpy

    globals()[name] = value = getattr(numpy, name)
    return value
