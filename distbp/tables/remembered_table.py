"""Tables of text that are parsed once: what the first pass has read is kept for the second, as far as memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from distbp.tables.table import Table, TableColumn, Values

TEXT_BYTES = 72  # of a short string in an array, with the reference to it


class Room:
    """Bytes that all tables together may keep."""

    def __init__(self, size: float) -> None:
        self._left = size

    def take(self, size: float) -> bool:
        """Whether there was room for so much more."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: float) -> None:
        """What was taken is free again."""
        self._left += size


class RememberedTable:
    """A table that keeps the blocks of its first reading, if there is room for all of them."""

    def __init__(self, table: Table, room: Room) -> None:
        self._table, self._room = table, room
        self.name, self.is_text = table.name, table.is_text
        self.notes: tuple[str, ...] = tuple(getattr(table, "notes", ()))
        self._names: tuple[str, ...] = ()
        self._text: frozenset[str] = frozenset()
        self._blocks: list[list[Values]] | None = None
        self._was_read = False

    @property
    def columns(self) -> Sequence[TableColumn]:
        return self._table.columns

    def column(self, name: str) -> TableColumn:
        return self._table.column(name)

    def place(self, row: int) -> str:
        return self._table.place(row)

    def blocks(self, names: Sequence[str], text: frozenset[str] = frozenset()) -> Iterator[list[Values]]:
        if self._has(names, text):
            assert self._blocks is not None
            chosen = [self._names.index(name) for name in names]
            yield from ([block[i] for i in chosen] for block in self._blocks)
        elif self._was_read or len(names) == 1:  # a look at one column is no reading
            yield from self._table.blocks(names, text)
        else:
            yield from self._read(names, text)

    def _has(self, names: Sequence[str], text: frozenset[str]) -> bool:
        """Whether what is kept is what is wanted: numbers as numbers, and text as it is written."""
        if self._blocks is None or not set(names) <= set(self._names):
            return False
        known = {name: self._names.index(name) for name in names if (name in text) != (name in self._text)}
        return all(name in text and all(block[i].is_text for block in self._blocks) for name, i in known.items())

    def _read(self, names: Sequence[str], text: frozenset[str]) -> Iterator[list[Values]]:
        self._was_read = True
        kept: list[list[Values]] | None = []
        taken = 0
        for block in self._table.blocks(names, text):
            size = sum(one.array.nbytes + one.array.size * TEXT_BYTES * one.is_text for one in block)
            if kept is not None and self._room.take(size):
                taken += size
                kept.append(block)
            elif kept is not None:
                self._room.give_back(taken)
                kept = None
            yield block
        self._names, self._text, self._blocks = tuple(names), text, kept
