"""Open a file of reviews: tell by its content what it is, unpack and decode it, within bounds.

Names lie: a `.csv` may be an Excel workbook, and a `.xlsx` a zip archive with a CSV in it. So the
first bytes decide, and a name only where they do not. Only what is light is imported here, since
the command lines take their checks from this module.
"""

from __future__ import annotations

import bz2
import codecs
import errno
import gzip
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal, Protocol, cast

from sentiment.errors import ReviewDataError, ReviewReadError

# What a file may unpack to: 5 million reviews of 200 letters. It keeps a file of a megabyte, which
# can unpack to a thousand, from filling memory and disk.
MAX_BYTES = 2**30
# An array of JSON and the texts of a workbook are held whole, at some times their size, so they may
# have this share of it only.
WHOLE_SHARE = 4
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}  # which are found out
UTF8 = "UTF-8"

_HEAD = 4_096  # bytes that tell the kind
_PARQUET, _ZIP, _OLE = b"PAR1", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PACKINGS = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ\x00": lzma.LZMAFile}
_BOMS = (  # the longer ones first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_JSON_BEGIN = re.compile(rb'\s*(?:\[\s*[{\]]|\{\s*["}])')
_JSON_NAMES = (".json", ".jsonl", ".ndjson")
_PACKED_NAMES = (".gz", ".bz2", ".xz", ".zip")

Kind = Literal["text", "lines", "array", "parquet", "excel"]


class ReadableBytes(Protocol):
    """What the readers need of a file: whole blocks, and a second pass from the start."""

    def read(self, size: int = -1, /) -> bytes:
        """Return so many bytes, and fewer only at the end."""

    def seek(self, offset: int, /) -> int:
        """Go back to the start: `offset` is 0."""


@dataclass(frozen=True)
class Reading:
    """How to read a file where its content does not say. None: found out.

    Raises `ReviewDataError` for a delimiter or an encoding that there is not.
    """

    delimiter: str | None = None  # a character, or `tab`
    encoding: str | None = None  # a name that Python knows
    max_bytes: int | None = None  # what it may unpack to; None: `MAX_BYTES`

    def __post_init__(self) -> None:
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", checked_delimiter(self.delimiter))
        if self.encoding is not None:
            object.__setattr__(self, "encoding", checked_encoding(self.encoding))


def is_folder(text: str) -> bool:
    """Return whether this names a folder of parts: one that is there, or an address."""
    return "://" in text or Path(text).is_dir()


def checked_delimiter(text: str) -> str:
    """Return the character that `text` stands for. Raises `ReviewDataError`."""
    character = "\t" if text.lower() in ("tab", "\\t") else text
    if (
        len(character) != 1
        or ord(character) > 127
        or character in '"\r\n\0 '
        or character.isalnum()
    ):
        raise ReviewDataError(
            f"{text[:20]!r} is not a delimiter; expected one character such as ; or |, or tab"
        )
    return character


def checked_encoding(name: str) -> str:
    """Return the usual name of an encoding of text. Raises `ReviewDataError`."""
    try:
        found = codecs.lookup(name)
        codecs.getincrementaldecoder(name)
        "a".encode(name)  # a codec that is not of text raises LookupError here
        return UTF8 if found.name in ("utf-8", "utf-8-sig") else found.name
    except (LookupError, ValueError):
        raise ReviewDataError(
            f"{name[:20]!r} is not an encoding that Python knows; common ones are utf-8, cp1252, "
            "latin-1, utf-16, shift_jis, gb18030"
        ) from None


@dataclass(frozen=True)
class Source:
    """A file that was told and unpacked: `data` is UTF-8, unless it is `parquet` or `excel`."""

    kind: Kind
    data: ReadableBytes
    prefix: str = ""  # of messages: the path
    encoding: str = UTF8  # what it was in
    remedy: str = "name its encoding with --encoding, such as cp1252"

    def stray(self, data: bytes, line: int) -> ReviewDataError:
        """Return the error of the first byte that is no UTF-8; `line` is that of the first byte."""
        try:
            data.decode()
            byte, before = "a byte", b""
        except UnicodeDecodeError as error:
            byte, before = f"byte 0x{data[error.start]:02x}", data[: error.start]
        line += len((before + b"x").splitlines()) - 1
        return ReviewDataError(
            f"{self.prefix}line {line:,}: {byte} is not {self.encoding}; {self.remedy}"
        )


def open_source(
    raw: IO[bytes], name: str, prefix: str, reading: Reading, most_bytes: int | None
) -> Source:
    """Tell what an open file that can seek is, and unpack and decode it.

    `most_bytes` bounds what a stranger sends, packed or not. Raises `ReviewDataError`, whose
    message begins with `prefix`, and whatever a damaged stream raises (see `named_errors`).
    """
    if not raw.seekable():
        raise ReviewReadError(f"{prefix}cannot be read twice, as a pipe; save it as a file first")
    limit = most_bytes or reading.max_bytes or MAX_BYTES
    plain = raw
    magic = raw.read(8)
    raw.seek(0)
    if magic.startswith(_PARQUET):
        return Source("parquet", raw, prefix)
    if magic.startswith(_OLE):
        raise ReviewDataError(
            f"{prefix}is an old or a locked Excel file; save it as .xlsx without a password"
        )
    if magic.startswith(_ZIP):
        try:
            archive = zipfile.ZipFile(raw)
            if "xl/workbook.xml" in archive.namelist():
                if sum(entry.file_size for entry in archive.infolist()) > limit // WHOLE_SHARE:
                    raise _too_much(prefix, limit // WHOLE_SHARE, most_bytes, WHOLE_SHARE)
                return Source("excel", raw, prefix)
            plain, name = _only_entry(archive, prefix)
        except (ValueError, struct.error) as error:  # names and places that cannot be
            raise _damaged(prefix, error) from None
    for begin, opened in _PACKINGS.items():
        if magic.startswith(begin):
            plain = cast(IO[bytes], opened(fileobj=raw) if opened is gzip.GzipFile else opened(raw))
    data: ReadableBytes = plain
    if plain is not raw or most_bytes is not None:
        data = _Bounded(plain, limit, _too_much(prefix, limit, most_bytes))
    return _told(data, name, prefix, reading, limit, most_bytes)


def _told(
    data: ReadableBytes,
    name: str,
    prefix: str,
    reading: Reading,
    limit: int,
    most_bytes: int | None,
) -> Source:
    head = data.read(_HEAD)
    data.seek(0)
    if head.startswith((_PARQUET, _ZIP, _OLE, *_PACKINGS)):
        raise ReviewDataError(f"{prefix}holds another packed file; unpack it once and give that")
    marked = next((found for bom, found in _BOMS if head.startswith(bom)), None)
    encoding = reading.encoding or marked or UTF8
    if encoding != UTF8:
        data = _Decoded(data, encoding)
        head = data.read(_HEAD)
        data.seek(0)
    elif head.startswith(codecs.BOM_UTF8):
        head = head.removeprefix(codecs.BOM_UTF8)
    kind: Kind = "text"
    is_json = _JSON_BEGIN.match(head) or plain_name(name).endswith(_JSON_NAMES)
    if is_json and reading.delimiter is None:
        kind = "array" if head.lstrip().startswith(b"[") else "lines"
    if kind == "array":
        whole = limit // WHOLE_SHARE
        data = _Bounded(data, whole, _too_much(prefix, whole, most_bytes, WHOLE_SHARE))
    told = Source(kind, data, prefix, encoding)
    return told if most_bytes is None else replace(told, remedy="save the file as UTF-8")


def plain_name(name: str) -> str:
    """Return the name in lower case without what says that it is packed."""
    name = name.lower()
    for ending in _PACKED_NAMES:
        name = name.removesuffix(ending)
    return name


def _only_entry(archive: zipfile.ZipFile, prefix: str) -> tuple[IO[bytes], str]:
    """Open the one file of an archive; what macOS adds to one does not count."""
    found = [
        entry
        for entry in archive.infolist()
        if not (entry.is_dir() or entry.filename.startswith("__MACOSX/"))
    ]
    if len(found) != 1:
        raise ReviewDataError(
            f"{prefix}is a zip archive of {len(found):,} files, expected one; unpack it and give "
            "the file of reviews"
        )
    return archive.open(found[0]), found[0].filename


def _too_much(prefix: str, limit: int, most_bytes: int | None, share: int = 1) -> ReviewDataError:
    more = ""
    if most_bytes is None:
        of = "" if share == 1 else ", which is read whole, so a quarter of --max-bytes counts"
        more = f" unpacked{of}; allow more with --max-bytes"
    return ReviewDataError(f"{prefix}holds more than {limit:,} bytes{more}")


class _Bounded:
    """A file that raises the error once it gave more than so many bytes."""

    def __init__(self, data: ReadableBytes, most: int, error: ReviewDataError) -> None:
        self._data, self._most, self._error, self._taken = data, most, error, 0

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._most - self._taken + 1
        block = self._data.read(wanted if size < 0 else min(size, wanted))
        self._taken += len(block)
        if self._taken > self._most:
            raise self._error
        return block

    def seek(self, offset: int, /) -> int:
        self._taken = 0
        return self._data.seek(offset)


class _Decoded:
    """A file in another encoding, as UTF-8; bytes that are not in it stay as they are."""

    def __init__(self, data: ReadableBytes, encoding: str) -> None:
        self._data, self._encoding = data, encoding
        self._start()

    def _start(self) -> None:
        self._decoder = codecs.getincrementaldecoder(self._encoding)("surrogateescape")
        self._rest, self._is_end = b"", False

    def read(self, size: int = -1, /) -> bytes:
        parts, found = [self._rest], len(self._rest)
        while not self._is_end and (size < 0 or found < size):
            block = self._data.read(size)
            self._is_end = size < 0 or len(block) < size
            part = self._decoder.decode(block, self._is_end).encode("utf-8", "surrogateescape")
            parts.append(part)
            found += len(part)
        whole = b"".join(parts)
        cut = len(whole) if size < 0 else size
        self._rest = whole[cut:]
        return whole[:cut]

    def seek(self, offset: int, /) -> int:
        self._start()
        return self._data.seek(offset)


@contextmanager
def named_errors(prefix: str, option: str = "") -> Iterator[None]:
    """Turn whatever opening, unpacking or decoding a file raises into our errors."""
    try:
        yield
    except FileNotFoundError:
        advice = f"; give one with {option}" if option else "; check its name"
        raise ReviewDataError(f"{prefix}no such file{advice}") from None
    except IsADirectoryError:
        raise ReviewDataError(f"{prefix}is a folder, expected a file") from None
    except UnicodeError as error:  # of an encoding that needs pairs or states, such as UTF-16
        name = getattr(error, "encoding", "text")
        raise ReviewDataError(
            f"{prefix}is damaged, or not {name} throughout; name its encoding with --encoding"
        ) from None
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # EINVAL: a place before the begin of the file
            raise _damaged(prefix, error) from None
        raise ReviewReadError(f"{prefix}cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise _damaged(prefix, error) from None
    except (RuntimeError, NotImplementedError) as error:  # of zip: a password, a rare method
        raise ReviewDataError(
            f"{prefix}cannot be unpacked: {_brief(error)}; unpack it yourself"
        ) from None


def _damaged(prefix: str, error: Exception) -> ReviewDataError:
    return ReviewDataError(f"{prefix}the packed file is damaged: {_brief(error)}; get it again")


def _brief(error: Exception) -> str:
    """Return what a library said in a line without the names that it took from the file."""
    lines = re.sub(r"'[^']*'|<[^>]*>", "…", str(error)).splitlines() or [""]
    return lines[0][:80] or type(error).__name__
