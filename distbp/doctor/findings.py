"""What `distbp doctor` finds: a verdict, about what, and in words; and how those of many ranks become a few lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "FAIL"
LEVELS = (OK, WARN, FAIL)


@dataclass(frozen=True)
class Finding:
    """`level`: OK; WARN, a run works, but not as well as it could; FAIL, it would not work.  `mend`: what to do."""

    level: str
    what: str
    text: str
    mend: str = ""

    def line(self, where: str = "") -> str:
        """One line, or two where there is something to do."""
        mend = f"\n{'':<20}-> {self.mend}" if self.mend else ""
        return f"{self.level:<5}{self.what:<15}{where}{self.text}{mend}"


def merged(of_ranks: Sequence[tuple[str, Sequence[Finding]]]) -> Iterator[tuple[Finding, str]]:
    """What all ranks found, each finding once; and which ranks, where they differ or something is wrong with a few.

    `of_ranks`: the host of each rank, and its findings.
    """
    kinds = list(dict.fromkeys(finding.what for _, findings in of_ranks for finding in findings))
    for what in kinds:
        found: dict[Finding, list[int]] = {}
        for rank, (_, findings) in enumerate(of_ranks):
            for finding in findings:
                if finding.what == what:
                    found.setdefault(finding, []).append(rank)
        for finding, ranks in found.items():
            if len(ranks) == len(of_ranks) or (len(found) == 1 and finding.level == OK):
                yield finding, ""
                continue
            hosts = list(dict.fromkeys(of_ranks[rank][0] for rank in ranks))
            shown = ", ".join(hosts[:4]) + ", …" * (len(hosts) > 4)
            yield finding, f"rank{'s' * (len(ranks) > 1)} {_ranges(ranks)} ({shown}): "


def _ranges(numbers: Sequence[int]) -> str:
    """0-3, 7"""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
