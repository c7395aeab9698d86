"""The checkpoint file: one head, then one record for each call that ended.

::

    header  165 bytes   plain bytes inside a valid pickle: PROTO 5, SHORT_BINBYTES, POP
    head     a pickle   the Checkpoint, with every result that was folded into it
    record   72 bytes + payload
    group    72 bytes + columns, the results, 72 bytes + the columns again
    record   ...

Rules of validity. The header says whether the file is ours and whole, before
anything is unpickled. Which records count is known to `_records`; the last one of an
index wins. What follows the last valid record is a torn tail: normal after a crash, cut
before the next append. Damage with a valid record behind it is news: it is skipped,
reported and never cut.

This room knows bytes, and nothing of what they mean or how they get to the disk.
"""

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from ._records import Damage, Group, Record, RecordReader
from .errors import (
    CheckpointCorruptError,
    CheckpointVersionError,
    NotACheckpointError,
)

VERSION = 3
MAGIC = b"thrdchnk"
_OPEN, _CLOSE = b"\x80\x05C\xa0", b"0"  # PROTO 5, SHORT_BINBYTES of 160 bytes; POP
_NAME_BYTES = 64
_PIECE = 1 << 20
_HEADER = struct.Struct(f"<8sHHI16s32sQIQQ{_NAME_BYTES}sI")
_UNRELEASED = b"\x80\x05C\x50" + MAGIC + b"\x01\x00"  # how the first format began
HOLDER_OFFSET = len(_OPEN) + 12
START = _OPEN + MAGIC
"""How every checkpoint file begins."""
HEADER_SIZE = len(_OPEN) + _HEADER.size + len(_CLOSE)

LEGACY_START = b"\x8c\x19thread_chunks._checkpoint\x94\x8c\x0aCheckpoint\x94\x93"
"""How the pickle of a `Checkpoint` begins: what release 1.0.5 wrote."""


class About(NamedTuple):
    """What a header says of the run, for who only wants to count."""

    name: str = ""
    """The function; a long name is cut."""
    calls: int = 0
    """How many calls there are."""
    folded: int = 0
    """How many of them have their result in the head."""


class Header(NamedTuple):
    """What a file says of itself in plain bytes."""

    salt: bytes
    fingerprint: bytes
    holder: int
    head_size: int
    head_crc: int
    about: About

    @property
    def records_start(self) -> int:
        """Where the first record begins."""
        return HEADER_SIZE + self.head_size


@dataclass(slots=True)
class Contents:
    """What a file holds."""

    header: Header
    head: bytes
    records: list[Record | Group]
    damages: list[Damage]
    end: int
    """Where the last valid record ends."""
    size: int


# --- reading ------------------------------------------------------------------


def is_legacy(start: bytes) -> bool:
    """Tell from its first bytes whether a file was written by release 1.0.5."""
    return start[:1] == b"\x80" and start[11:].startswith(LEGACY_START)


def read(file: BinaryIO, path: str) -> Contents:
    """Read a checkpoint file; nothing is unpickled.

    Parameters
    ----------
    file
        The open file, at its start.
    path
        Its name, for the messages.

    Returns
    -------
    Contents
        Header, head, valid records and damages.

    Raises
    ------
    NotACheckpointError, CheckpointVersionError, CheckpointCorruptError
        If the file is not ours, too new, or its head is damaged.
    """
    scan = Scan(file, path)
    records = list(scan.records)
    return Contents(scan.header, scan.head, records, scan.damages, scan.end, scan.size)


class Scan:
    """What `read` returns, but for the records: they are read as they are taken, and not kept.

    Parameters
    ----------
    file, path
        As for `read`, with the same errors. The file must stay open.
    """

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.size = os.fstat(file.fileno()).st_size
        self.header = read_header(file, path)
        self.head = read_head(file, self.header, path)
        self._file = file
        self._reader = self._begin()

    def _begin(self) -> RecordReader:
        return RecordReader(self._file, self.size, self.header.salt)

    @property
    def records(self) -> Iterator[Record | Group]:
        """The valid records, from the first one on."""
        self._reader = self._begin()
        return self._reader.read_from(self.header.records_start)

    @property
    def damages(self) -> list[Damage]:
        """What was damaged among the records, once all were taken."""
        return joined_damages(self._reader)

    @property
    def end(self) -> int:
        """Where the last valid record ends, once all were taken."""
        return self._reader.end


def read_header(file: BinaryIO, path: str) -> Header:
    """Read what a file says of itself in plain bytes; the errors are those of `read`."""
    return _parse_header(file.read(HEADER_SIZE), path)


def read_head(file: BinaryIO, header: Header, path: str, *, keep: bool = True) -> bytes:
    """Read and check the head, which stands behind the header.

    Parameters
    ----------
    file
        The open file, right behind the header.
    header, path
        What it says of itself, and its name.
    keep
        Whether to return the head. Otherwise it is checked and not kept in memory.

    Returns
    -------
    bytes
        The head, a pickle; empty if it was not to be kept.

    Raises
    ------
    CheckpointCorruptError
        If it is damaged.
    """
    if header.records_start > os.fstat(file.fileno()).st_size:
        raise CheckpointCorruptError(_corrupt(path))  # before memory is taken for what is not there
    pieces, left, crc = [], header.head_size, 0
    while left and (piece := file.read(left if keep else min(left, _PIECE))):
        left, crc = left - len(piece), zlib.crc32(piece, crc)
        pieces += [piece] if keep else []
    if left or crc != header.head_crc:
        raise CheckpointCorruptError(_corrupt(path))
    return b"".join(pieces)


def joined_damages(reader: RecordReader) -> list[Damage]:
    """Whatever lies behind the last valid record is one torn tail, unless records of another place are in it."""
    inside = [damage for damage in reader.damages if damage.offset < reader.end]
    tail = [damage for damage in reader.damages if damage.offset >= reader.end]
    if tail:
        size = sum(damage.size for damage in tail)
        inside.append(Damage(reader.end, size, tail[0].index, is_tail=not reader.has_strays))
    return inside


def _parse_header(data: bytes, path: str) -> Header:
    if data.startswith(_UNRELEASED):
        raise CheckpointVersionError(_unreleased(path, 1))
    content = data[len(_OPEN) : -len(_CLOSE)]
    if len(data) < HEADER_SIZE:
        if len(data) > len(_OPEN) and data[: len(START)] == START[: len(data)]:
            raise CheckpointCorruptError(_corrupt(path))
        raise NotACheckpointError(_not_ours(path, is_empty=not data))
    magic, version, spare, holder, *rest, crc = _HEADER.unpack(content)
    expected = _header_crc(version, spare, *rest)
    is_whole = crc == expected and magic == MAGIC and data.startswith(_OPEN) and data.endswith(_CLOSE)
    if not is_whole and magic != MAGIC and crc != expected:
        raise NotACheckpointError(_not_ours(path))
    if not is_whole:
        raise CheckpointCorruptError(_corrupt(path))
    if version < VERSION:
        raise CheckpointVersionError(_unreleased(path, version))
    if version > VERSION:
        msg = (
            f"{path} was written by a newer release of thread-chunks (file format {version}; this "
            f"release reads up to {VERSION}). It was left alone. Install a newer release to read it."
        )
        raise CheckpointVersionError(msg)
    salt, fingerprint, head_size, head_crc, calls, folded, name = rest
    about = About(name.rstrip(b"\0").decode("utf-8", "replace"), calls, folded)
    return Header(salt, fingerprint, holder, head_size, head_crc, about)


def _header_crc(*fields: Any) -> int:
    """Checksum everything but the holder, who changes without a rewrite of the file."""
    version, spare, *rest = fields
    return zlib.crc32(_HEADER.pack(MAGIC, version, spare, 0, *rest, 0)[:-4])


def salt_of(start: bytes) -> bytes:
    """Return the salt of a file that begins so, as far as it is there."""
    return start[HOLDER_OFFSET + 4 : HOLDER_OFFSET + 20]


def header_bytes(salt: bytes, fingerprint: bytes, head: bytes, about: About) -> bytes:
    name = about.name.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore").encode()
    fields = (salt, fingerprint, len(head), zlib.crc32(head), about.calls, about.folded, name)
    crc = _header_crc(VERSION, 0, *fields)
    return _OPEN + _HEADER.pack(MAGIC, VERSION, 0, os.getpid(), *fields, crc) + _CLOSE


def _unreleased(path: str, version: int) -> str:
    return (
        f"{path} was written by a development version of thread-chunks from before its release (file "
        f"format {version}), which this one does not read. It was left alone. Use that version, or another path."
    )


def _not_ours(path: str, *, is_empty: bool = False) -> str:
    if is_empty:  # a run makes the file before it knows what to write
        return (
            f"{path} is not a checkpoint of thread-chunks yet: it is empty. A run that just began has not "
            "written to it, or one ended before it could. It was left alone."
        )
    return (
        f"{path} is not a checkpoint of thread-chunks. It was left alone. "
        "Use another path, or move the file away."
    )


def _corrupt(path: str) -> str:
    return (
        f"the head of {path} is damaged, so nothing in it can be trusted. The file was left alone. "
        "Restore it from a backup, or move it away to start afresh."
    )


def is_held(header: Header) -> bool:
    """Tell whether the process that a file names as its holder lives."""
    if not header.holder:
        return False
    try:
        os.kill(header.holder, 0)
    except OverflowError:
        return False  # no process has such a number: the field, which has no checksum, is damaged
    except OSError as error:
        return error.errno == errno.EPERM
    return True
