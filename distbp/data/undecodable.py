"""A stored value that has no meaning, or two."""

from __future__ import annotations


class Undecodable(ValueError):
    """What is wrong with a value, and how to mend it; `at`: its place among all that were decoded together."""

    def __init__(self, words: str, at: int) -> None:
        super().__init__(words)
        self.at = at
