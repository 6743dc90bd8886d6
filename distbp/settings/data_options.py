"""The options about the data, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass

from distbp.settings.option import AUTO, DATA, option


@dataclass
class DataOptions:
    """The options about the data, and how they are read."""

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
