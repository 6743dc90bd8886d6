"""The directory of a run: config.toml, metrics.csv, audit.csv, starts.csv, checkpoint-SSSSSSSSSS.h5 and best.h5.

Rank 0 alone writes.  The directory is locked (run.lock) from `create` or `lock` to the end of the `with` block.  Order
is by step; no clock is asked.
"""

from __future__ import annotations

import csv
import errno
import math
import os
import re
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from distbp import __version__
from distbp.errors import CheckpointError, RunError
from distbp.files.new_file import FAILURES, sync, write_synced
from distbp.files.patience import (
    UnreadError,
    is_passing,
    is_system_error,
    patiently,
    read_patiently,
    tried_again,
    why_not_read,
)
from distbp.files.write_patience import failure, written_patiently
from distbp.ranks.job import Job
from distbp.settings.config import Config, as_dict
from distbp.settings.files import with_absolute_paths
from distbp.training import checkpoint, starts
from distbp.training.belonging import why_not_of
from distbp.training.chain import HEADER, Line, parse
from distbp.training.history import History
from distbp.training.run_lock import NAME as LOCK
from distbp.training.run_lock import RunLock
from distbp.training.state import Checkpoint

CHECKPOINT_NAME = re.compile(r"checkpoint-(\d{10})\.h5")
LEFTOVER = re.compile(
    r"\.(checkpoint-\d{10}\.h5|best\.h5|metrics\.csv|audit\.csv|config\.toml)\.\d+\.tmp|\.run\.lock\.[0-9a-f]{16}\.tmp"
)
WHOLE = ("epoch", "step")
SLOW_DISK = 50e6  # bytes/s, a guess for where no checkpoint was written yet
SYNCS = 4  # of a checkpoint, against the one of a line


class RunDirectory:
    """Reads and writes the files of a run; `dry`: nothing is written.  Raises RunError where it cannot be used.

    What cannot be written is written anew for a while, where the system's reason may pass; `note` is told so.
    """

    writes = True  # somewhere: the run has files

    def __init__(self, path: str, *, dry: bool = False, note: Callable[[str], None] = lambda text: None) -> None:
        self.path, self._dry, self._note = Path(path), dry, note
        self.best = self.path / "best.h5"
        self._lock = RunLock(self.path)
        self._save_seconds, self._is_measured = 0.0, False

    @property
    def is_dry(self) -> bool:
        """Whether nothing is written, though the run has files."""
        return self._dry

    def __enter__(self) -> RunDirectory:
        """To be locked by `create` or `lock`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Gives up the lock."""
        self._lock.release()

    def create(self, note: Callable[[str], None] = lambda text: None, pulse: Callable[[], None] = lambda: None) -> None:
        """Makes and locks the directory; refuses one that holds a run already."""
        why = why_no_directory(self.path)
        if why:
            raise RunError(f"{self.path}: cannot write the results here: {why}, or choose another directory with --out")
        try:
            if self._dry:
                self._check_access()
            else:
                written_patiently(self.path, lambda: self.path.mkdir(parents=True, exist_ok=True), self._note)
        except OSError as error:
            why = failure(error) if is_passing(error) else os.strerror(error.errno or 0)
            raise RunError(
                f"{self.path}: cannot write the results here: {why}; choose another directory with --out"
            ) from None
        self._check_links()
        if not self._dry:
            self._lock.acquire(note, pulse)
        try:
            there = is_directory(self.path)
            found = [file.name for file in _listed(self.path) if _is_of_a_run(file.name)] if there else []
            if not found and not self._dry:
                self._patiently(self.path, self._remove_leftovers)
        except OSError as error:
            raise self._cannot_write(error, "choose another directory with --out") from None
        if found:
            raise RunError(
                f"{self.path}: already holds a run ({found[0]}); nothing was changed\n"
                "continue it with --resume, or choose another directory with --out"
            )

    def _check_access(self) -> None:
        """Raises OSError where the directory, or the one to make it in, does not look as if it could be written to."""
        existing = next(path for path in (self.path.absolute(), *self.path.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def saved_as(self, step: int) -> str:
        """What messages call the checkpoint after so many updates."""
        return str(self.checkpoint(step))

    def has_checkpoints(self) -> bool:
        """Whether there is something to resume from, or something damaged."""
        return is_directory(self.path) and bool(self.checkpoints())

    def lock(self, note: Callable[[str], None], pulse: Callable[[], None] = lambda: None) -> None:
        """Locks a directory that is there; `note` tells of a lock that was left behind.  Another run's is respected.

        `pulse` is called again and again, where it takes its time, and may raise.
        """
        if not is_directory(self.path):
            why = why_no_directory(self.path) or "no such directory"
            raise RunError(f"{self.path}: no run to be found here: {why}")
        self._check_links()
        if not self._dry:
            self._lock.acquire(note, pulse)

    def _check_links(self) -> None:
        """Raises RunError where files of a run are links: they would be replaced, removed, or written through."""
        if not is_directory(self.path):
            return
        links = [file for file in _listed(self.path) if _is_kept(file.name) and file.is_symlink()]
        if not links:
            return
        more = f", and {len(links) - 1} more of its files are" if len(links) > 1 else ""
        raise RunError(
            f"{links[0]}: is a link to {os.readlink(links[0])}{more}; a run replaces and removes its files as it goes "
            "on, which cannot be done through links; nothing was changed\nput the files themselves there (git annex "
            "unlock, dvc unprotect), or copy the run with cp -rL, and go on with the copy"
        )

    def checkpoint(self, step: int) -> Path:
        """The checkpoint after so many updates."""
        return self.path / f"checkpoint-{step:010d}.h5"

    def checkpoints(self) -> list[Path]:
        """From the oldest to the newest."""
        return [file for file in _listed(self.path) if CHECKPOINT_NAME.fullmatch(file.name)]

    def newest(self, beat: Callable[[], object] = lambda: None) -> tuple[Checkpoint, Path, list[str]]:
        """The newest checkpoint that is whole, and what was wrong with newer ones.

        One that cannot be read now may be the newest good one: then nothing is resumed.  `beat` is called again and
        again where that is tried for a while.
        """
        skipped: list[str] = []
        there = self.checkpoints()
        for path in reversed(there):
            try:
                state = self._read(path, beat)
            except CheckpointError as error:
                skipped.append(str(error))
                continue
            if state.flaw:
                raise RunError(
                    f"{path}: {state.flaw}: an older version went on after such an update, and no run can go on from "
                    "here; nothing was changed\nevaluate and predict use its network; start another run with another "
                    "--out, or move this checkpoint away to go on from one before it"
                )
            if not state.can_continue:
                skipped.append(f"{path}: holds no /optimizer: it is a best.h5, from which no run can go on")
                continue
            if self.checkpoint(state.progress.step) != path:
                raise RunError(
                    f"{path}: holds step {state.progress.step}, which is not what its name says; nothing was changed\n"
                    f"name it {self.checkpoint(state.progress.step).name} if it belongs to this run, else move it away"
                )
            return state, path, skipped
        mend = "start another run with another --out" if there else "leave --resume out to start a run"
        details = "".join(f"\n  {line}" for line in skipped)
        raise RunError(f"{self.path}: no good checkpoint to resume from; {mend}{details}")

    def _read(self, path: Path, beat: Callable[[], object]) -> Checkpoint:
        """Raises CheckpointError for one that is damaged, RunError for one of which that is not known."""
        try:
            return patiently(lambda: checkpoint.read(path), beat)
        except UnreadError as error:
            raise RunError(
                f"{error}\nnothing was changed; continue with --resume when it can be read, or move it away to do "
                "without it"
            ) from None

    def reopen(
        self, state: Checkpoint, note: Callable[[str], None], beat: Callable[[], object] = lambda: None
    ) -> float:
        """Makes the files agree with the checkpoint the run goes on from: no leftovers, no duplicate or missing row.

        Returns the validation loss that a later epoch has to beat for its parameters to become best.h5.  `beat` is
        called again and again where that file is tried for a while.
        """
        lowest = lowest_loss(state)
        if self._dry:
            return lowest
        best, why = None, ""
        try:  # before anything is changed
            best = self._read(self.best, beat)
            other = why_not_of(best, state)
            if other:
                best, why = None, f"{self.best}: does not belong to this run: {other}"
        except CheckpointError as error:
            why = str(error)
        self._tidy(state)
        if best is None:
            is_there = os.path.lexists(self.best)
            return self._replace_best(lowest, why, note, beat) if is_there or lowest < math.inf else lowest
        own = _last_loss(best)  # not the lowest, where this one was put in the place of another
        if best.progress.epoch > state.progress.epoch:  # its epoch was not saved, and takes its place again
            return lowest if own < lowest else math.inf
        return own if own in _losses(state) else lowest

    def _tidy(self, state: Checkpoint) -> None:
        """What is newer than the state, or was not finished, is put aside; metrics.csv has its rows."""

        def tidy() -> None:
            self._remove_leftovers()
            for file in self.checkpoints():
                if int(file.name[-13:-3]) > state.progress.step:  # it is damaged, and was skipped
                    file.rename(_aside(file))
            self._remove_old(state.config.keep)

        try:
            self._patiently(self.path, tidy)
        except OSError as error:
            raise self._cannot_write(error, "continue with --resume") from None
        self.write_metrics(state.history)

    def _replace_best(self, lowest: float, why: str, note: Callable[[str], None], beat: Callable[[], object]) -> float:
        """Puts the best of the checkpoints in the place of a best.h5 that is damaged, gone, or not of this run."""
        found: Checkpoint | None = None
        for path in self.checkpoints():
            try:
                state = self._read(path, beat)
            except CheckpointError:
                continue
            is_end = state.progress.epoch_samples == 0  # of an epoch
            if is_end and not state.flaw and _last_loss(state) < (_last_loss(found) if found else math.inf):
                found = state

        def put_aside() -> None:
            if os.path.lexists(self.best):
                self.best.rename(_aside(self.best))

        try:
            self._patiently(self.best, put_aside)
        except OSError as error:
            raise self._cannot_write(error, "continue with --resume") from None
        note(f"warning   {why}")
        if found is None:
            note("          none of the checkpoints can take its place; the next epoch that is validated will")
            return math.inf
        self.save(replace(found, optimizer={}), keep=0, best=True)
        loss = _last_loss(found)
        note(
            f"          best.h5 is now of epoch {found.progress.epoch}, the best of the checkpoints that are left: "
            f"validation loss {loss:.6g} (lowest so far: {lowest:.6g})"
        )
        return loss

    def save(self, state: Checkpoint, keep: int, *, best: bool = False) -> Path:
        """Writes a checkpoint (`best`: best.h5 instead) and removes all but the newest `keep`."""
        path = self.best if best else self.checkpoint(state.progress.step)
        if self._dry:
            return path

        def write() -> None:
            begun = time.monotonic()
            checkpoint.write(path, state)
            seconds = time.monotonic() - begun  # of the time that it succeeds
            self._save_seconds = max(self._save_seconds, seconds) if self._is_measured else seconds
            self._is_measured = True

        try:
            self._patiently(path, write)
            if not best:
                self._patiently(self.path, lambda: self._remove_old(keep))
        except FAILURES as error:  # h5py tells of a full disk in many ways
            raise self._cannot_save(path, error) from None
        return path

    def _patiently(self, path: Path, action: Callable[[], None]) -> None:
        """`written_patiently`, as long as the directory is this run's.  Raises RunError, or what the action raises."""

        def mine() -> None:
            self._lock.check()
            action()

        written_patiently(path, mine, self._note)

    def save_seconds(self) -> float:
        """What a checkpoint takes at most: measured; before that, from what a line of starts.csv took, and its size."""
        return self._save_seconds

    def _cannot_save(self, path: Path, error: Exception) -> RunError:
        try:
            last = self.checkpoints()[-1:]
            mend = f"the last checkpoint is {last[0]}; continue with --resume" if last else "no checkpoint is there yet"
        except RunError:  # the directory is gone
            mend = "then continue with --resume"
        return RunError(f"{path}: cannot write the checkpoint: {failure(error)}\n{mend}")

    def _cannot_write(self, error: OSError, mend: str, path: Path | None = None) -> RunError:
        where = path or error.filename or self.path
        what = "cannot be written" if path else "cannot write the results here"
        return RunError(f"{where}: {what}: {failure(error)}; {mend}")

    def _remove_old(self, keep: int) -> None:
        for old in self.checkpoints()[:-keep]:
            old.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """What a run that was killed had begun to write."""
        for file in list(self.path.iterdir()):
            if LEFTOVER.fullmatch(file.name):
                file.unlink(missing_ok=True)

    def write_config(self, config: Config, facts: list[str]) -> None:
        """config.toml: `distbp train --config` of it repeats the run.  `facts` become comments."""
        lines = [f"# distbp {__version__}: distbp train --config config.toml --out ANOTHER repeats this run", *facts]
        text = "\n# ".join(lines) + "\n" + tomli_w.dumps(as_dict(with_absolute_paths(config)))
        self._write("config.toml", text)

    def write_metrics(self, history: History) -> None:
        """metrics.csv anew, a row for each epoch."""
        self._write("metrics.csv", "".join(",".join(line) + "\n" for line in cells_of(history)))

    def read_metrics(self) -> list[list[str]]:
        """The cells of metrics.csv, the names of the columns first; [] if there is no such file.  Raises RunError."""
        path = self.path / "metrics.csv"
        try:
            return list(csv.reader(read_patiently(path, "utf-8").splitlines()))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unread(path, error) from None
        except (ValueError, csv.Error) as error:
            raise RunError(f"{path}: cannot be read: {error}") from None

    def append_metrics(self, rows: History, *, synced: bool) -> None:
        """Rows at the end of metrics.csv; `synced`: with all rows before, they are on the disk after it."""
        self._append("metrics.csv", _lines(rows), synced=synced)

    def read_audit(self) -> tuple[list[Line], str]:
        """The lines of audit.csv up to the first that is none, and what is wrong with that one, or "".

        Raises RunError if the file is there and cannot be read.
        """
        path = self.path / "audit.csv"
        try:
            text = patiently(lambda: path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return [], "there is no such file"
        except OSError as error:
            raise _unread(path, error) from None
        return parse(text)

    def write_audit(self, lines: Sequence[Line]) -> None:
        """audit.csv anew."""
        self._write("audit.csv", HEADER + "".join(line.text for line in lines))

    def append_audit(self, lines: Sequence[Line]) -> None:
        """Lines at the end of audit.csv, which are on the disk after it."""
        self._append("audit.csv", [line.cells for line in lines])

    def append_start(self, job: Job, step: int, ranks: int, nodes: int) -> None:
        """One more line of starts.csv.  Raises RunError where SLURM starts this job again and again, in vain."""
        if self._dry:
            return
        path = self.path / "starts.csv"
        try:
            text = patiently(lambda: path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            text = ""
        except OSError as error:
            raise _unread(path, error) from None
        starts.check_progress(starts.parse(text.splitlines()), job, step, str(self.path))
        header = [] if text.startswith(",".join(starts.COLUMNS)) else [list(starts.COLUMNS)]
        is_cut = text != "" and not text.endswith("\n")  # a line that was not written to its end
        line = starts.start_of(job, step, ranks, nodes)
        seconds = self._append("starts.csv", [*([[]] if is_cut else []), *header, line])
        if self._is_measured:
            return
        self._save_seconds = SYNCS * seconds
        with suppress(OSError, RunError):
            self._save_seconds += sum(file.stat().st_size for file in self.checkpoints()[-1:]) / SLOW_DISK

    def _append(self, name: str, rows: list[list[str]], *, synced: bool = True) -> float:
        """Adds rows to a file of the run, each once; returns the seconds that the disk takes for it."""
        path, seconds = self.path / name, 0.0
        if self._dry:
            return seconds
        self._lock.check()
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CREAT * (name == "starts.csv")
        size: int | None = None  # before the rows

        def append() -> None:
            nonlocal seconds, size
            begun = time.monotonic()
            _unshare(path)
            with open(os.open(path, flags, 0o666), "a", newline="", encoding="utf-8") as file:
                there = os.fstat(file.fileno()).st_size
                size = there if size is None else size
                if there > size:  # what is there of them is not known to be on the disk
                    os.ftruncate(file.fileno(), size)
                csv.writer(file, lineterminator="\n").writerows(rows)
                file.flush()
                if synced:
                    sync(file.fileno())
            seconds = time.monotonic() - begun

        try:
            self._patiently(path, append)
        except OSError as error:
            raise self._cannot_write(error, "then continue with --resume", path) from None
        return seconds

    def _write(self, name: str, text: str) -> None:
        if self._dry:
            return
        path = self.path / name
        try:
            self._patiently(path, lambda: write_synced(path, text))
        except OSError as error:
            raise self._cannot_write(error, "then continue with --resume", path) from None


def lowest_loss(state: Checkpoint) -> float:
    """The lowest validation loss of the epochs that are done; ∞ where there is none."""
    return float(np.nanmin(_losses(state), initial=math.inf))


def _last_loss(state: Checkpoint) -> float:
    """The validation loss of the parameters at the end of an epoch; ∞ where there is none."""
    return float(np.nanmin(_losses(state)[-1:], initial=math.inf))


def _losses(state: Checkpoint) -> NDArray[np.float64]:
    """The validation losses of the epochs that are done; NaN where there is none."""
    return state.history["validation_loss"]


def _unread(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path}: cannot be read: {why_not_read(error)}; {tried_again()}\n"
        "nothing was changed; start again when it can be read"
    )


def _listed(path: Path) -> list[Path]:
    """What is in a directory, by name.  Raises RunError."""
    try:
        return sorted(patiently(lambda: list(path.iterdir())))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{path}: no run to be found here: {error.strerror}") from None
    except OSError as error:
        raise _unread(path, error) from None


def _unshare(path: Path) -> None:
    """A file with other names (of a copy by hard links, or in DVC's cache) becomes one of its own.  Raises OSError."""
    with suppress(FileNotFoundError):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            write_synced(path, path.read_text(encoding="utf-8", errors="replace"))


def why_no_directory(path: Path) -> str:
    """What is in the way where this is no directory, and none can be made; or ""."""
    for place in (path.absolute(), *path.absolute().parents):
        if os.path.isdir(place):
            return ""
        if os.path.islink(place) and not os.path.exists(place):
            return f"{place} is a link to {os.readlink(place)}, which is not there; make that directory"
        if os.path.lexists(place):
            return f"{place} is a file, and no directory; move it away"
    return ""


def is_directory(path: Path) -> bool:
    """Whether it is there.  Raises RunError where that cannot be seen."""
    try:
        return stat.S_ISDIR(patiently(lambda: os.stat(path)).st_mode)
    except OSError as error:
        if is_system_error(error):
            raise _unread(path, error) from None
        return False


def _aside(path: Path) -> Path:
    """The name for a file that is skipped; one that nothing has."""
    names = (path.with_name(f"{path.name}.skipped{f'.{i}' if i > 1 else ''}") for i in count(1))
    return next(name for name in names if not os.path.lexists(name))


def _is_there(path: Path) -> bool:
    """Whether there is something of that name.  Raises UnreadError where that cannot be seen."""
    try:
        patiently(lambda: os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UnreadError(f"{path}: cannot be seen: {why_not_read(error)}") from None
    return True


def _is_of_a_run(name: str) -> bool:
    return name in ("config.toml", "metrics.csv", "best.h5") or CHECKPOINT_NAME.fullmatch(name) is not None


def _is_kept(name: str) -> bool:
    """Whether a run writes to files of this name."""
    return _is_of_a_run(name) or name in ("audit.csv", "starts.csv", LOCK)


def _lines(history: History) -> list[list[str]]:
    """The rows of metrics.csv, in text."""
    columns = list(history)
    return [[_cell(name, value) for name, value in zip(columns, row, strict=True)] for row in history.rows.tolist()]


def cells_of(history: History) -> list[list[str]]:
    """The cells of metrics.csv, the names of the columns first."""
    return [list(history), *_lines(history)]


def _cell(column: str, value: Any) -> str:
    if column in WHOLE:
        return str(int(value))
    return "" if math.isnan(value) else repr(float(value))


def find_checkpoint(path: str) -> Path:
    """A checkpoint file; or of a run directory its best.h5, and where there is none its newest checkpoint.

    Raises CheckpointError where there is none, or where the best.h5 is of another run; RunError.
    """
    directory = Path(path)
    if not is_directory(directory):
        return directory
    run = RunDirectory(path)
    if _is_there(run.best):
        _check_best(run)
        return run.best
    found = run.checkpoints()
    if not found:
        raise CheckpointError(f"{path}: a directory without a checkpoint in it")
    return found[-1]


def _check_best(run: RunDirectory) -> None:
    """Raises CheckpointError where best.h5 does not belong to the run, of which the newest good checkpoint tells.

    Where no checkpoint is left that can be read, nothing is known against it.
    """
    try:
        best = patiently(lambda: checkpoint.marks(run.best))
    except UnreadError:
        raise
    except CheckpointError:  # whoever reads the parameters says what is wrong
        return
    for path in reversed(run.checkpoints()):
        if not os.access(path, os.R_OK):
            continue
        with suppress(CheckpointError):
            why = why_not_of(best, patiently(partial(checkpoint.marks, path)))
            break
    else:
        return
    if why:
        raise CheckpointError(
            f"{run.best}: does not belong to the run in this directory, of which {path.name} is: {why}\n"
            f"train --resume puts the run's own in its place; or name {path}; to use this one all the same, name the "
            "file itself"
        )
