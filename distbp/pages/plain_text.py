"""Markdown, as far as our pages use it, as plain text of a given width."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator

NO_BREAK = "\N{NO-BREAK SPACE}"  # holds the words of a short command together while lines are filled
TOGETHER = 40  # characters of code that are not broken
GAP = 2  # blanks between the columns of a table

Style = Callable[[str], str]
LIST_ITEM = re.compile(r"(\s*)([-*]|\d+\.) +")


def plain_text(page: str, width: int, heading: Style = str) -> str:
    """The page in lines of at most `width` characters; `heading` decorates a heading.

    Code, and words that are longer than a line, keep their length.
    """
    page = re.sub(r"<!--.*?-->\n?", "", page, flags=re.DOTALL)
    blocks = [text for text in (_block(lines, width, heading) for lines in _blocks(page)) if text]
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(blocks)) + "\n"


def _blocks(page: str) -> Iterator[list[str]]:
    """Lines that belong together: a code block, a table, a heading, a list, or a paragraph."""
    block: list[str] = []
    fenced = False
    for line in page.splitlines():
        if line.startswith("```"):
            if not fenced and block:
                yield block
                block = []
            block.append(line)
            if fenced:
                yield block
                block = []
            fenced = not fenced
        elif fenced:
            block.append(line)
        elif not line.strip() or line.startswith("#") or _begins_a_list(line, block):
            if block:
                yield block
            block = [line] if line.strip() else []
            if line.startswith("#"):
                yield block
                block = []
        else:
            block.append(line)
    if block:
        yield block


def _begins_a_list(line: str, block: list[str]) -> bool:
    """True for the first item of a list; its other items belong to the same block."""
    inside = bool(block) and (block[0].startswith("    ") or LIST_ITEM.match(block[0]) is not None)
    return not inside and LIST_ITEM.match(line) is not None


def _block(lines: list[str], width: int, heading: Style) -> str:
    first = lines[0]
    if first.startswith("```"):
        return "\n".join(f"    {line}".rstrip() for line in lines[1:-1])
    if first.startswith("#"):
        level = len(first) - len(first.lstrip("#"))
        words = inline(first.lstrip("#").strip()).replace(NO_BREAK, " ")
        return f"{heading(words)}\n{('=' if level == 1 else '-') * min(len(words), width)}"
    if first.startswith("    ") and not LIST_ITEM.match(first):
        return "\n".join(line.rstrip() for line in lines)
    if first.startswith("|"):
        return _table(lines, width)
    if LIST_ITEM.match(first):
        return "\n".join(_item(words, width) for words in _items(lines))
    return _filled(inline(" ".join(line.strip() for line in lines)), width)


def _items(lines: list[str]) -> list[str]:
    items: list[str] = []
    for line in lines:
        if LIST_ITEM.match(line):
            items.append(line)
        else:
            items[-1] += " " + line.strip()
    return items


def _item(words: str, width: int) -> str:
    mark = LIST_ITEM.match(words)
    assert mark
    return _filled(inline(words.strip()), width, " " * len(mark.group()), mark.group(1))


def inline(words: str) -> str:
    """A line without the marks for code, emphasis and links; a link to a page names the command that shows it."""

    def code(found: re.Match[str]) -> str:
        inside = found.group(1)
        # Marks inside code are no marks.
        inside = inside.translate({ord("*"): "\x01", ord("["): "\x02", ord("`"): "\x03"})
        return inside.replace(" ", NO_BREAK) if len(inside) <= TOGETHER else inside

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        if target.startswith("http"):
            return text if text == target else f"{text} ({target})"
        page = "slurm" if target.startswith(("slurm/", "../slurm/README")) else target.split("/")[-1]
        is_page = page == "slurm" or page.split("#")[0].endswith(".md")
        return f"{text} (distbp{NO_BREAK}help{NO_BREAK}{page.split('.md')[0]})" if is_page else text

    words = re.sub(r"`([^`]+)`", code, words.replace("\\|", "|"))
    words = re.sub(r"\[([^\]]+)\]\(([^)]+)\)", link, words)
    words = re.sub(r"\*\*([^*]+)\*\*", r"\1", words)
    words = re.sub(r"(?<!\w)\*([^*\s][^*]*)\*(?!\w)", r"\1", words)
    return words.translate({1: "*", 2: "[", 3: "`"})


def _filled(words: str, width: int, indent: str = "", before: str = "") -> str:
    lines = textwrap.wrap(
        before + words, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace(NO_BREAK, " ")


def _table(lines: list[str], width: int) -> str:
    rows = [[_cell(cell) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
    rows = [row for row in rows if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    columns = max(map(len, rows))
    rows = [row + [""] * (columns - len(row)) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(columns)]
    least = [max(_longest_word(row[i]) for row in rows) for i in range(columns)]
    room = width - GAP * (columns - 1)
    if sum(widths) > room and sum(least) > room:
        return _records(rows, width)
    while sum(widths) > room:  # the widest column that can be narrower gives a character
        widest = max((i for i in range(columns) if widths[i] > least[i]), key=lambda i: widths[i])
        widths[widest] -= 1
    return _aligned(rows, widths)


def _cell(text: str) -> str:
    return inline(text.strip()).replace(NO_BREAK, " ")


def _longest_word(cell: str) -> int:
    return max(map(len, cell.split()), default=0)


def _aligned(rows: list[list[str]], widths: list[int]) -> str:
    cells = [[_filled(cell, one).split("\n") for cell, one in zip(row, widths, strict=True)] for row in rows]
    is_tall = any(len(cell) > 1 for row in cells for cell in row)
    blocks = []
    for row in cells:
        height = max(map(len, row))
        padded = [cell + [""] * (height - len(cell)) for cell in row]
        blocks.append("\n".join(_line(parts, widths) for parts in zip(*padded, strict=True)))
    if not rows[0] or not any(rows[0]):
        blocks = blocks[1:]
    else:
        blocks[0] += "\n" + "-" * (sum(widths) + GAP * (len(widths) - 1))
    return ("\n\n" if is_tall else "\n").join(blocks)


def _line(parts: tuple[str, ...], widths: list[int]) -> str:
    return (" " * GAP).join(part.ljust(one) for part, one in zip(parts, widths, strict=True)).rstrip()


def _records(rows: list[list[str]], width: int) -> str:
    """A table that is too wide for columns: a block for each row, a line for each cell."""
    names, blocks = rows[0], []
    for row in rows[1:]:
        lines = [_filled(row[0], width)] if not names[0] else [_filled(f"{names[0]}: {row[0]}", width)]
        lines += [
            _filled(f"  {name}: {cell}" if name else f"  {cell}", width, "    ")
            for name, cell in zip(names[1:], row[1:], strict=True)
            if cell
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
