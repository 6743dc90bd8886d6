"""How text is to be read: what a user says about it, and what is found by looking where nothing is said."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from distbp.data.missing_words import MISSING_WORDS
from distbp.errors import UsageError

DEFAULT_MISSING = MISSING_WORDS
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "blanks": " "}
FORMATS = ("auto", "text", "libsvm", "arff")


@dataclass(frozen=True)
class TextOptions:
    r"""Options of `distbp import` for text.  Raises UsageError where they cannot be meant.

    `delimiter`: "auto", one of DELIMITERS, or a character; a blank stands for one or more blanks or tabs.
    `header`: whether names of columns come first; None: found by looking.
    `thousands`: the mark between groups of three digits, or "" for none.
    `missing_words`: cells that mean "no value"; upper and lower case matter.
    """

    delimiter: str = "auto"
    header: bool | None = None
    decimal: str = "."
    thousands: str = ""
    encoding: str = "auto"
    missing_words: tuple[str, ...] = DEFAULT_MISSING
    format: str = "auto"

    def __post_init__(self) -> None:
        mark = self.delimiter_mark
        if mark is not None and (
            len(mark) != 1
            or not mark.isascii()
            or mark.isalnum()
            or mark in "\"'.+-_\\"
            or (mark < " " and mark != "\t")
        ):
            raise UsageError(
                f"--delimiter {self.delimiter!r}: expected auto, comma, semicolon, tab, blanks, or a single character "
                "that is no letter, digit, quote, point, sign or line end"
            )
        if self.decimal not in (".", ","):
            raise UsageError(f"--decimal {self.decimal!r}: expected . or ,")
        if (
            self.thousands not in ("", ".", ",", "'", "’", " ", "\u00a0", "\u202f", "_")
            or self.thousands == self.decimal
        ):
            raise UsageError(
                f"--thousands {self.thousands!r}: expected one of . , ' _ or a blank, and another mark than that of "
                f"--decimal, {self.decimal!r}"
            )
        if self.format not in FORMATS:
            raise UsageError(f"--format {self.format!r}: expected one of {', '.join(FORMATS)}")
        if self.encoding != "auto":
            _check_encoding(self.encoding)

    @property
    def delimiter_mark(self) -> str | None:
        """The character between two cells; None: to be found by looking."""
        return None if self.delimiter == "auto" else DELIMITERS.get(self.delimiter, self.delimiter)


def _check_encoding(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
        codecs.getincrementaldecoder(encoding)
        "1".encode(encoding)  # refused for what is no encoding of text, such as hex
    except (LookupError, ValueError):
        raise UsageError(
            f"--encoding {encoding!r}: not known; expected a name such as utf-8, utf-16, latin-1 or cp1252"
        ) from None
