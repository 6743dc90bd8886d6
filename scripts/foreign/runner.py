"""Takes families of foreign files through distbp: inspect, import, train on 2 ranks, evaluate, predict."""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import climate  # noqa: F401  (each module adds its families)
import facilities  # noqa: F401
import frames  # noqa: F401
import genomics  # noqa: F401
import images  # noqa: F401
import matlab  # noqa: F401
import molecules  # noqa: F401
import particles  # noqa: F401
import simulations  # noqa: F401
import texts  # noqa: F401
from commands import Commands, Done, Failure
from family import DATA, FAMILIES, PREDICTIONS, RUN, Case, Family
from judgement import Wrong, check_data_set, check_network, check_predictions

RANKS = 2
TRAINING = "--hidden 16 --epochs 20 --batch-size 32 --learning-rate 0.02 --threads 1 --checkpoint-every 1000"
OK, FAILED, SKIPPED = "ok", "FAILED", "skipped"


@dataclass
class Outcome:
    """What came of a family."""

    family: Family
    verdict: str = FAILED
    checked: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    message: str = ""
    own_lines: int = 0
    seconds: float = 0.0


def missing(family: Family) -> list[str]:
    """What a family needs and is not there."""
    return [
        need.removeprefix("program:")
        for need in family.needs
        if (shutil.which(need[8:]) if need.startswith("program:") else importlib.util.find_spec(need)) is None
    ]


def attempt(family: Family, programs: Path, folder: Path) -> Outcome:
    """Makes the files, runs the commands, checks what they made; whatever fails is in the outcome."""
    outcome, started = Outcome(family), time.monotonic()
    folder.mkdir(parents=True)
    try:
        warnings.simplefilter("ignore")  # of the libraries, about their own matters
        case = family.make(folder)
        outcome.own_lines = case.own_lines
        commands = Commands(programs, folder, case.environment, RANKS)
        outcome.lines = commands.lines
        _use(case, commands, folder, outcome.checked)
        outcome.verdict = OK
    except (Failure, Wrong, AssertionError) as error:
        outcome.message = str(error)
    except Exception as error:  # a family that fails does not end the others
        outcome.message = f"{type(error).__name__}: {error}"
    outcome.seconds = time.monotonic() - started
    return outcome


def apart(family: Family, programs: Path, folder: Path) -> Outcome:
    """`attempt` in a process of its own: some of the libraries bring HDF5 libraries that do not go together."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, family.name, programs, folder))
    process.start()
    there.close()
    try:
        found: Outcome = here.recv()
        return found
    except EOFError:
        process.join()
        return Outcome(family, message=f"the process that made the files ended with {process.exitcode}")
    finally:
        process.join()


def _send(there: Connection, name: str, programs: Path, folder: Path) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the command it waits for is ended too
    there.send(attempt(FAMILIES[name], programs, folder))
    there.close()


def _use(case: Case, commands: Commands, folder: Path, checked: list[str]) -> None:
    """All commands of a family, and the checks.  Raises Failure, Wrong."""
    problems: list[str] = []
    for line in case.commands:
        try:
            if line.startswith("! "):
                commands.refused(line[2:])
                checked.append("refused as it has to be")
            elif line.startswith("inspect "):
                _check_inspect(commands.distbp(line), case.says if not problems else ())
            else:
                commands.distbp(line)
        except (Failure, Wrong) as error:  # what comes after does not depend on a word of inspect, or a refusal
            if line.startswith(("! ", "inspect ")):
                problems.append(str(error))
            else:
                raise Failure("\n".join([*problems, str(error)])) from None
    try:
        _train(case, commands, folder, checked)
    except (Failure, Wrong, AssertionError, KeyError, OSError) as error:
        problems.append(str(error))
    if problems:
        raise Failure("\n".join(problems))


def _train(case: Case, commands: Commands, folder: Path, checked: list[str]) -> None:
    imported = (folder / DATA).exists()
    if imported:
        checked.append(check_data_set(folder / DATA, case.truth))
    commands.distbp(f"train {case.train} {TRAINING} {case.training} --out {RUN}")
    checked.append(check_network(folder, case.truth, imported=imported))
    said = commands.distbp(f"evaluate {RUN} {case.evaluate}".strip())
    commands.distbp(f"predict {RUN} {case.predict or case.evaluate} --out {PREDICTIONS}".replace("  ", " "))
    checked.append(check_predictions(folder, case, said.out, imported=imported))
    if case.check:
        case.check(folder)
        checked.append("and what is of this family alone")


def _check_inspect(done: Done, says: Sequence[str]) -> None:
    absent = [word for word in says if word not in done.out]
    if absent:
        raise Wrong(f"{done.line} does not say {', '.join(absent)}:\n{done.out[:1500]}")


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: a row for each family."""
    lines = [
        "| family | what | commands | own lines of Python | verdict | checked | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        used = "<br>".join(f"`{line}`" for line in _shown(one.lines)).replace("|", "\\|")
        own = str(one.own_lines) if one.verdict == OK else "–"
        checked = "; ".join(dict.fromkeys(one.checked)) or "–"
        cells = (one.family.name, one.family.title, used or "–", own, one.verdict, checked, f"{one.seconds:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(lines: Sequence[str]) -> list[str]:
    """The commands, without what is the same for all families."""
    return [line.replace(f" {TRAINING}", " …") for line in lines]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="foreign_files",
        description="Makes files of foreign formats with the libraries that write them, takes each through distbp "
        "inspect, import, train on 2 ranks, evaluate and predict, and prints a table of what came out.  Exit code 1 if "
        "a family fails.",
    )
    parser.add_argument("--only", default="", metavar="NAMES", help="families to take, with commas between")
    parser.add_argument("--list", action="store_true", help="the families, and what is missing here for them")
    parser.add_argument("--keep", default="", metavar="DIR", help="where to leave the files and runs (a new directory)")
    parser.add_argument("--jobs", type=int, default=2, help="families at the same time (default: 2)")
    parser.add_argument("--out", default="", metavar="FILE", help="file for the table, beside stdout")
    parser.add_argument(
        "--programs", default=str(Path(sys.executable).parent), metavar="DIR", help="where distbp and mpirun are"
    )
    return parser.parse_args()


def main() -> int:
    """Reads the command line, runs, prints."""
    given = arguments()
    if given.list:
        for one in FAMILIES.values():
            absent = missing(one)
            print(f"{one.name:22} {one.title}" + (f"  (missing: {', '.join(absent)})" if absent else ""))
        return 0
    wanted = [name.strip() for name in given.only.split(",") if name.strip()] or list(FAMILIES)
    unknown = [name for name in wanted if name not in FAMILIES]
    if unknown:
        print(f"foreign_files: no family {unknown[0]}; see --list", file=sys.stderr)
        return 2
    kept = Path(given.keep).resolve() if given.keep else None
    if kept and kept.exists():
        print(f"foreign_files: --keep {kept}: exists; expected a new directory", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="foreign-") as scratch:
        outcomes = run([FAMILIES[name] for name in wanted], Path(given.programs), kept or Path(scratch), given.jobs)
    report(outcomes, given.out)
    return int(any(one.verdict == FAILED for one in outcomes))


def run(families: Sequence[Family], programs: Path, where: Path, jobs: int) -> list[Outcome]:
    """All families, some at the same time."""

    def one(family: Family) -> Outcome:
        absent = missing(family)
        if absent:
            outcome = Outcome(family, SKIPPED, message=f"not installed: {', '.join(absent)}")
        else:
            outcome = apart(family, programs, where / family.name)
        print(f"foreign_files: {family.name}: {outcome.verdict} ({outcome.seconds:.0f} s)", file=sys.stderr, flush=True)
        return outcome

    def stop(*_: object) -> None:
        for process in multiprocessing.active_children():
            process.terminate()
        raise SystemExit(128 + signal.SIGTERM)

    pool = ThreadPoolExecutor(max(1, jobs))
    signal.signal(signal.SIGTERM, stop)
    try:
        return list(pool.map(one, families))
    finally:
        pool.shutdown(cancel_futures=True)


def report(outcomes: Sequence[Outcome], out: str) -> None:
    """The table, what failed with its message, and how many."""
    text = [table(outcomes)]
    for one in outcomes:
        if one.message:
            text.append(f"\n### {one.family.name}: {one.verdict}\n\n```\n{one.message}\n```")
    counts = {verdict: sum(1 for one in outcomes if one.verdict == verdict) for verdict in (OK, FAILED, SKIPPED)}
    text.append("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    whole = "\n".join(text)
    print(whole)
    if out:
        Path(out).write_text(whole + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
