"""distbp: data-parallel training of feed-forward neural networks on CPU clusters, with exact gradients.

A network that `distbp train` has trained is used in Python with `distbp.load`, which needs no MPI library:

>>> import distbp
>>> model = distbp.load("run")  # a run directory, or a checkpoint file
>>> model
<distbp.Model 64-32-10, relu, softmax, cross_entropy: 10 classes, float32, run/best.h5>

What is in a data set is looked at with `distbp.open_dataset`:

>>> test = distbp.open_dataset("digits.h5")["test"]
>>> x, y = test.read(5, 10)
>>> x.shape, x.dtype
((5, 64), dtype('uint8'))

>>> model.predict(x).tolist()
[0, 7, 1, 2, 3]
>>> model.predict_proba(x).shape
(5, 10)

Every error that a caller may want to catch is a `distbp.DistbpError`.  The modules behind the names below are imported
when a name is used for the first time, so `import distbp` itself is quick.
"""

__version__ = "0.1.0"
TYPE_CHECKING = False  # for type checkers it is True; the module typing would take longer than all the rest

__all__ = [
    "CheckpointError",
    "DataError",
    "Dataset",
    "DatasetSplit",
    "DistbpError",
    "DivergedError",
    "DriftError",
    "LaunchError",
    "Model",
    "Run",
    "RunError",
    "Scores",
    "Stopped",
    "TooLargeError",
    "UsageError",
    "__version__",
    "evaluate",
    "load",
    "open_dataset",
    "train",
]

if TYPE_CHECKING:
    from distbp.api import evaluate, load, open_dataset, train
    from distbp.errors import (
        CheckpointError,
        DataError,
        DistbpError,
        DivergedError,
        DriftError,
        LaunchError,
        RunError,
        Stopped,
        TooLargeError,
        UsageError,
    )
    from distbp.inspection.dataset import Dataset, DatasetSplit
    from distbp.model.model import Model
    from distbp.runs.run import Run
    from distbp.runs.scores import Scores
else:
    _MODULES = {
        "Dataset": "distbp.inspection.dataset",
        "DatasetSplit": "distbp.inspection.dataset",
        "Model": "distbp.model.model",
        "Run": "distbp.runs.run",
        "Scores": "distbp.runs.scores",
        "evaluate": "distbp.api",
        "load": "distbp.api",
        "open_dataset": "distbp.api",
        "train": "distbp.api",
    }  # all other public names are those of errors

    def __getattr__(name):
        """Imports a public name when it is used for the first time (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module 'distbp' has no attribute {name!r}")
        from importlib import import_module

        globals()[name] = getattr(import_module(_MODULES.get(name, "distbp.errors")), name)
        return globals()[name]

    def __dir__():
        """Lists all names, those included that were not used yet."""
        return sorted({*globals(), *__all__})
