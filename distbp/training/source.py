"""Where the samples of a run come from: data files, or arrays that the caller holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from distbp.data.data_file import stamp
from distbp.data.given_arrays import Samples, survey_of
from distbp.data.split import data_files
from distbp.data.survey import Survey, survey
from distbp.errors import DataError
from distbp.ranks.communicator import Communicator, from_first
from distbp.ranks.same_everywhere import compare_files
from distbp.ranks.stop import Pulse
from distbp.settings.config import Config
from distbp.training.trace_file import check_trace

if TYPE_CHECKING:
    from distbp.data.staging import Staging


class Source(Protocol):
    """What a run is to learn from."""

    def survey(
        self, comm: Communicator, config: Config, note: Callable[[str], None], pulse: Pulse, *, is_resumed: bool
    ) -> Survey:
        """What is there, found out from shapes, types and names.  `note` tells the user; it is called on rank 0 only.

        Raises DataError, UsageError or RunError, agreed by all ranks.
        """


@dataclass(frozen=True)
class DataFiles:
    """The files that config.data names; `staging`, if they are to be copied to the nodes.

    `dry_run`: nothing is copied.
    """

    staging: Staging | None = None
    dry_run: bool = False

    def survey(
        self, comm: Communicator, config: Config, note: Callable[[str], None], pulse: Pulse, *, is_resumed: bool
    ) -> Survey:
        """From the headers of the files, see `distbp.data.survey`."""
        files = from_first(comm, partial(_files, config, is_resumed=is_resumed))
        config = replace(config, data=files if config.data else [])
        check_trace(comm, config.trace, files)
        if self.staging and config.data and not self.dry_run:
            files = self.staging.stage(files, note, pulse)
        else:
            if self.staging and config.data:
                self.staging.check(files)
            compare_files(comm, files, note)
        return survey(comm, config, files)


@dataclass(frozen=True)
class GivenArrays:
    """Arrays of the caller: the same ones on all ranks."""

    training: Samples
    validation: Samples | None = None

    def survey(
        self, comm: Communicator, config: Config, note: Callable[[str], None], pulse: Pulse, *, is_resumed: bool
    ) -> Survey:
        """From shapes and types."""
        check_trace(comm, config.trace)
        return survey_of(comm, config, self.training, self.validation)


def _files(config: Config, *, is_resumed: bool) -> list[str]:
    files = data_files(config.data)
    if is_resumed:
        for file in files:
            try:
                stamp(file)
            except DataError as error:
                raise DataError(f"{error}\nif the data are elsewhere now, name them there again") from None
    return files
