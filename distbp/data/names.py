"""Names of columns, as a user writes them for --x, --y and the like: commas between them, quotes where they must be.

    pressure,velocity            two data sets, or columns
    "mass, dry",b                a name with a comma in it, in double or single quotes: all of it is the name
    state_t[:, samples]          an index for each axis; the axis called `samples` holds the samples
    jets[:, 12:20]   x[:, 0]     a part of each sample
    t2m[time=samples, lat=3]     axes by the names that the file gives them (netCDF, dimension scales)
    f[samples, samples, :]       two axes together are the samples
    */coordinates                in all groups that have it, end to end
    gas@Re   @nu                 an attribute of a group, or of the split
    @group   @file               the name of the group, or of the file

A name that stands in the file as it was written is that, whatever it holds: "temp [K]" needs no quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from distbp.errors import DataError

SAMPLES = "samples"
GROUP, FILE = "@group", "@file"
_ENTRY = re.compile(r"(?:(?P<name>[^=]+)=)?(?P<what>[^=]+)")
_WHOLE = re.compile(r"[+-]?[0-9]{1,15}")


@dataclass(frozen=True)
class Index:
    """What is taken along an axis: a number, a slice, or all; `samples`: the axis holds the samples.

    `axis`: the name that the file gives the axis, or "" for the next one.
    """

    what: int | slice
    samples: bool = False
    axis: str = ""


@dataclass(frozen=True)
class Name:
    """One name: `text` as it was written, without quotes.  Where it was in quotes it has no other meaning."""

    text: str
    quoted: bool = False

    @property
    def path(self) -> str:
        """What stands before the brackets."""
        return self.text if self.quoted or not self.text.endswith("]") else self.text[: self.text.index("[")].strip()

    @property
    def has_index(self) -> bool:
        """Whether there are brackets at its end."""
        return not self.quoted and self.text.endswith("]") and "[" in self.text

    @property
    def stars(self) -> int:
        """How many steps of the path stand for all groups."""
        return 0 if self.quoted else self.path.split("/").count("*")

    def index(self) -> tuple[Index, ...] | None:
        """What stands in the brackets.  Raises DataError."""
        if not self.has_index:
            return None
        inside = self.text[self.text.index("[") + 1 : -1]
        return tuple(_index(part.strip(), self.text) for part in inside.split(","))

    def __str__(self) -> str:
        return self.text


def _index(part: str, name: str) -> Index:
    found = _ENTRY.fullmatch(part)
    axis, what = (found["name"] or "", found["what"].strip()) if found else ("", "")
    if what == SAMPLES:
        return Index(slice(None), samples=True, axis=axis.strip())
    bounds = [bound.strip() for bound in what.split(":")]
    if len(bounds) == 1 and _WHOLE.fullmatch(what):
        return Index(int(what), axis=axis.strip())
    if 2 <= len(bounds) <= 3 and all(not bound or _WHOLE.fullmatch(bound) for bound in bounds):
        numbers = [int(bound) if bound else None for bound in bounds]
        if len(numbers) == 2 or numbers[2] is None or numbers[2] > 0:
            return Index(slice(*numbers), axis=axis.strip())
    raise DataError(
        f"{name}: {part!r} in the brackets: expected a number, a slice such as 12:20 or :, the word {SAMPLES}, or one "
        "of these behind the name of an axis, such as time=samples"
    )


def parse(text: str, option: str) -> tuple[Name, ...]:
    """The names in the value of an option.  Raises DataError."""
    found: list[Name] = []
    at = 0
    while at <= len(text):
        name, at = _next(text, at, option)
        if name.text or name.quoted:
            found.append(name)
        at += 1
    if not found:
        raise DataError(f"{option} {text!r}: expected the name of a data set or a column, or several with commas")
    return tuple(found)


def _next(text: str, at: int, option: str) -> tuple[Name, int]:
    """The name that begins here, and where the comma behind it is."""
    while at < len(text) and text[at].isspace():
        at += 1
    if at < len(text) and text[at] in "\"'":
        quote = text[at]
        end = text.find(quote, at + 1)
        behind = re.compile(r"\s*(,|$)").match(text, end + 1) if end > 0 else None
        if behind:
            return Name(text[at + 1 : end], quoted=True), behind.start(1)
        if end < 0:
            raise DataError(f"{option} {text!r}: a name in quotes has no end; expected another {quote}")
    depth, end = 0, at
    while end < len(text) and not (text[end] == "," and depth <= 0):
        depth += (text[end] == "[") - (text[end] == "]")
        end += 1
    if depth > 0:  # no bracket that ends: the comma is the end after all
        end = text.find(",", at) if "," in text[at:] else len(text)
    return Name(text[at:end].strip()), end


def quoted(name: str) -> str:
    """The name as it has to be written in an option, so that it is that name and nothing else."""
    plain = name and name == name.strip() and not re.search(r"[,\[\]*@\"']", name)
    if plain:
        return name
    return f"'{name}'" if '"' in name else f'"{name}"'
