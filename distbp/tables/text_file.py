"""The text of a file, whatever it is packed with and however it is encoded, in bounded memory."""

from __future__ import annotations

import codecs
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from distbp.errors import DataError
from distbp.tables import packed_file
from distbp.tables.packed_file import open_file

CHUNK_BYTES = 2**20
LOOK_BYTES = 2**16
TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".dat", ".data", ".test", ".tab", ".arff", ".svm", ".libsvm")
BOMS = (  # the longer ones first: UTF-32 begins like UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
UNUSUAL = bytes(sorted(set(range(32)) - set(b"\t\n\v\f\r\x1b") | {127}))  # bytes that no text has


def is_text(path: str) -> bool:
    """Whether a file is text by its content, maybe packed.  Raises DataError where it cannot be read."""
    start = _start(path)
    if start is None:
        return False
    announced = any(start.startswith(bom) for bom, _ in BOMS)
    return announced or start.translate(None, UNUSUAL) == start or bool(_wide(start))


def _start(path: str) -> bytes | None:
    """The first bytes of the content; None for a zip archive of other things than one text or several."""
    with open_file(path) as file:
        if not _is_zip(file):
            with unpacked(path) as content:
                return content.read(LOOK_BYTES)
        try:
            members = _members(zipfile.ZipFile(file))
        except (zipfile.BadZipFile, NotImplementedError, ValueError):
            return None
    if len(members) != 1:
        texts = members and all(member.filename.lower().endswith(TEXT_ENDINGS) for member in members)
        return b"several" if texts else None
    with unpacked(path) as content:
        return content.read(LOOK_BYTES)


def _wide(start: bytes) -> str:
    """The encoding of a file whose letters of two bytes are not announced by a byte order mark, or ""."""
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = start[offset::2], start[1 - offset :: 2]
        if len(start) >= 4 and zeros.count(0) > 0.7 * len(zeros) and others.translate(None, UNUSUAL) == others:
            return encoding
    return ""


@contextmanager
def unpacked(path: str) -> Iterator[IO[bytes]]:
    """The content of a file: unpacked, where its first bytes are those of gzip, bzip2, xz or a zip archive of one file.

    What goes wrong becomes a DataError.
    """
    with open_file(path) as file:
        if _is_zip(file):
            with _only_member(path, zipfile.ZipFile(file)) as content:
                yield content
            return
    with packed_file.unpacked(path) as content:
        yield content


def _is_zip(file: IO[bytes]) -> bool:
    magic = file.read(4)
    file.seek(0)
    return magic in (b"PK\x03\x04", b"PK\x05\x06")


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in an archive, without folders and what macOS adds to them."""
    return [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/") and Path(member.filename).name[:1] != "."
    ]


def _only_member(path: str, archive: zipfile.ZipFile) -> IO[bytes]:
    members = _members(archive)
    if len(members) != 1:
        names = ", ".join(repr(member.filename[:80]) for member in members[:5]) + (", …" if len(members) > 5 else "")
        raise DataError(
            f"{path}: a zip archive with {len(members)} files{': ' if members else ''}{names}; expected one file; "
            "unpack it and name those that you want"
        )
    if members[0].flag_bits & 1:
        raise DataError(f"{path}: {members[0].filename[:80]!r} in it is encrypted; expected a plain zip archive")
    return archive.open(members[0])


def text_chunks(path: str, encoding: str = "auto") -> Iterator[bytes]:
    r"""The text in pieces of about a mebibyte: as UTF-8 without byte order mark, with \n at the end of each line.

    `encoding`: "auto" is what a byte order mark says, otherwise UTF-8.  Raises DataError with the line of what is not
    in this encoding, and of NUL bytes.
    """
    with unpacked(path) as file:
        start = file.read(CHUNK_BYTES)
        start, encoding, announced = _without_bom(start, encoding)
        text = _Decoded(path, encoding, _wide(start[:LOOK_BYTES]) if not announced else "")
        while start:
            following = file.read(CHUNK_BYTES)
            piece = text.decode(start, final=not following)
            if piece:
                yield piece
            start = following


def _without_bom(start: bytes, encoding: str) -> tuple[bytes, str, bool]:
    """The first bytes without a byte order mark; the encoding; whether the mark or the user tells it."""
    plain = "" if encoding == "auto" else codecs.lookup(encoding).name
    for bom, name in BOMS:
        if start.startswith(bom) and (not plain or name.startswith(plain.removesuffix("-sig"))):
            return start[len(bom) :], name, True
    return start, plain or "utf-8", bool(plain)


class _Decoded:
    """Turns the bytes of a file, piece by piece, into UTF-8 with plain ends of lines, and counts the lines."""

    def __init__(self, path: str, encoding: str, wide: str) -> None:
        self._path, self._encoding, self._wide = path, encoding, wide
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._is_wide = encoding.startswith(("utf-16", "utf-32"))
        self._takes_ascii = not self._is_wide and _takes_ascii(encoding)
        self._lines = 1  # the number of the line in which the next piece begins
        self._held = b""  # a carriage return at the end of a piece: the line feed may follow

    def decode(self, raw: bytes, *, final: bool) -> bytes:
        plain = self._takes_ascii and raw.isascii() and not self._decoder.getstate()[0]
        data = self._held + (raw if plain else self._recoded(raw, final))
        self._held = b""
        if data.endswith(b"\r") and not final:
            data, self._held = data[:-1], b"\r"
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        at = data.find(b"\0")
        if at >= 0:
            self._refuse_nul(self._lines + data.count(b"\n", 0, at))
        self._lines += data.count(b"\n")
        return data

    def _recoded(self, raw: bytes, final: bool) -> bytes:
        try:
            return self._decoder.decode(raw, final).encode("utf-8")
        except UnicodeDecodeError as error:
            if self._wide:
                self._refuse_nul(self._lines)
            before, bad = error.object[: error.start], error.object[error.start : error.start + 1]
            seen = before.decode(self._encoding, "replace") if self._is_wide else before.decode("latin-1")
            line = self._lines + seen.replace("\r\n", "\n").replace("\r", "\n").count("\n")
            what = f"the byte 0x{bad.hex()} is not {self._encoding.upper()} ({error.reason})"
            mend = "" if self._is_wide else "; say how the text is encoded, for instance --encoding latin-1"
            raise DataError(f"{self._path}, line {line}: {what}{mend}") from None
        except UnicodeError as error:
            raise DataError(f"{self._path}, line {self._lines} or later: not {self._encoding}: {error}") from None

    def _refuse_nul(self, line: int) -> None:
        if self._wide:
            raise DataError(f"{self._path}: looks like {self._wide.upper()}; give --encoding {self._wide}")
        raise DataError(f"{self._path}, line {line}: a NUL byte, which text does not have; the file may be damaged")


def _takes_ascii(encoding: str) -> bool:
    """Whether each byte of ASCII always means itself in an encoding, whatever came before it."""
    if encoding in ("utf-7", "hz") or "2022" in encoding:
        return False
    try:
        return bytes(range(128)).decode(encoding) == "".join(map(chr, range(128)))
    except UnicodeError:
        return False
