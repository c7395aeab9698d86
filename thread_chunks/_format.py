"""The checkpoint file: one head, then one record for each call that ended.

::

    header   85 bytes   plain bytes inside a valid pickle: PROTO 5, SHORT_BINBYTES, POP
    head     a pickle   the Checkpoint, with every result that was folded into it
    record   56 bytes + payload
    record   ...

Rules of validity. The header says whether the file is ours and whole, before
anything is unpickled. A record counts if its own checksum and its payload's hold;
the last record of an index wins. What follows the last valid record is a torn
tail: normal after a crash, cut before the next append. Damage with a valid record
behind it is news: it is skipped, reported and never cut.

This room knows bytes, and nothing of what they mean or how they get to the disk.
"""

import errno
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from .errors import (
    CheckpointCorruptError,
    CheckpointVersionError,
    NotACheckpointError,
)

VERSION = 1
MAGIC = b"thrdchnk"
_OPEN, _CLOSE = b"\x80\x05C\x50", b"0"  # PROTO 5, SHORT_BINBYTES of 80 bytes; POP
_HEADER = struct.Struct("<8sHHI16s32sQII")
HOLDER_OFFSET = len(_OPEN) + 12
START = _OPEN + MAGIC
"""How every checkpoint file begins."""
HEADER_SIZE = len(_OPEN) + _HEADER.size + len(_CLOSE)

_RECORD = struct.Struct("<4s8sQdQQHHI")  # and the checksum of these fields behind them
_CRC = struct.Struct("<I")
_RECORD_SIZE = _RECORD.size + _CRC.size
_PART = struct.Struct("<Q")  # the length of one out-of-band buffer, before the payload
_RECORD_MAGIC = b"\xfarec"

LEGACY_START = b"\x8c\x19thread_chunks._checkpoint\x94\x8c\x0aCheckpoint\x94\x93"
"""How the pickle of a `Checkpoint` begins: what release 1.0.5 wrote."""

RESULT, FAILURE = 0, 1  # kinds of record


class Header(NamedTuple):
    """What a file says of itself in plain bytes."""

    salt: bytes
    fingerprint: bytes
    holder: int
    head_size: int
    head_crc: int


class Record(NamedTuple):
    """One call that ended."""

    kind: int
    index: int  # type: ignore[assignment]  # it hides tuple.index, which nobody calls
    seconds: float
    code: int
    main: Any
    buffers: Sequence[Any] = ()


class Damage(NamedTuple):
    """A stretch of the file that cannot be used."""

    offset: int
    size: int
    index: int | None  # type: ignore[assignment]
    """The call it belonged to, if that can still be told."""
    is_tail: bool
    """Whether nothing valid follows: a torn tail."""


@dataclass(slots=True)
class Contents:
    """What a file holds."""

    header: Header
    head: bytes
    records: list[Record]
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
    size = os.fstat(file.fileno()).st_size
    header = _read_header(file.read(HEADER_SIZE), path)
    head = file.read(header.head_size)
    if len(head) < header.head_size or zlib.crc32(head) != header.head_crc:
        raise CheckpointCorruptError(_corrupt(path))
    records: list[Record] = []
    damages: list[Damage] = []
    end = offset = HEADER_SIZE + header.head_size
    while offset < size:
        record, following, index = _read_record(file, offset, size, header.salt)
        if record is None:
            # Bytes may be missing: the next record may begin before this one says it ends.
            found = _find_record(file, offset + 1, min(following or size, size), header.salt)
            following = min(found, following or size, size)
            damages.append(Damage(offset, following - offset, index, following >= size))
            file.seek(following)
        else:
            records.append(record)
            end = following
        offset = following
    return Contents(header, head, records, _joined(damages, end), end, size)


def _joined(damages: list[Damage], end: int) -> list[Damage]:
    """Whatever lies behind the last valid record is one torn tail."""
    inside = [damage for damage in damages if damage.offset < end]
    tail = [damage for damage in damages if damage.offset >= end]
    if tail:
        inside.append(Damage(end, sum(damage.size for damage in tail), tail[0].index, is_tail=True))
    return inside


def _read_header(data: bytes, path: str) -> Header:
    content = data[len(_OPEN) : -len(_CLOSE)]
    if len(data) < HEADER_SIZE:
        if len(data) > len(_OPEN) and data[: len(START)] == START[: len(data)]:
            raise CheckpointCorruptError(_corrupt(path))
        raise NotACheckpointError(_not_ours(path))
    magic, version, spare, holder, salt, fingerprint, head_size, head_crc, crc = _HEADER.unpack(content)
    expected = _header_crc(version, spare, salt, fingerprint, head_size, head_crc)
    is_whole = crc == expected and magic == MAGIC and data.startswith(_OPEN) and data.endswith(_CLOSE)
    if not is_whole and magic != MAGIC and crc != expected:
        raise NotACheckpointError(_not_ours(path))
    if not is_whole:
        raise CheckpointCorruptError(_corrupt(path))
    if version > VERSION:
        msg = (
            f"{path} was written by a newer release of thread-chunks (file format {version}; this "
            f"release reads up to {VERSION}). It was left alone. Install a newer release to read it."
        )
        raise CheckpointVersionError(msg)
    return Header(salt, fingerprint, holder, head_size, head_crc)


def _header_crc(*fields: Any) -> int:
    """Checksum everything but the holder, who changes without a rewrite of the file."""
    version, spare, *rest = fields
    return zlib.crc32(_HEADER.pack(MAGIC, version, spare, 0, *rest, 0)[:-4])


def _read_record(
    file: BinaryIO, offset: int, size: int, salt: bytes
) -> tuple[Record | None, int, int | None]:
    """Read the record at the file's position. Without one: where the next begins (0 if unknown), and whose it was."""
    data = file.read(_RECORD_SIZE)
    if not _is_record_head(data, salt):
        return None, 0 if len(data) == _RECORD_SIZE else size, None
    _, _, index, seconds, code, length, kind, parts, crc = _RECORD.unpack_from(data)
    following = offset + _RECORD_SIZE + length
    if following > size:
        return None, size, index
    if not parts:
        main = file.read(length)
        record = Record(kind, index, seconds, code, main)
        return (record if zlib.crc32(main) == crc else None), following, index
    sizes = file.read(min(_PART.size * parts, length))
    is_whole = len(sizes) == _PART.size * parts
    lengths = [size for (size,) in _PART.iter_unpack(sizes)] if is_whole else []
    if not is_whole or len(sizes) + sum(lengths) > length:
        return None, following, index
    pieces = [bytearray(part) for part in (length - len(sizes) - sum(lengths), *lengths)]
    for piece in pieces:
        file.readinto(piece)  # type: ignore[attr-defined]
    if _crc([sizes, *pieces]) != crc:
        return None, following, index
    return Record(kind, index, seconds, code, pieces[0], pieces[1:]), following, index


def _is_record_head(data: bytes, salt: bytes) -> bool:
    return data.startswith(_RECORD_MAGIC + salt[:8]) and _head_crc(data[:-4], salt) == data[-4:]


def _head_crc(fields: bytes, salt: bytes) -> bytes:
    """Checksum a record's fields; the salt makes records of another file invalid here."""
    return _CRC.pack(zlib.crc32(fields, zlib.crc32(salt)))


def _find_record(file: BinaryIO, offset: int, size: int, salt: bytes) -> int:
    """Find where the next valid record head begins; `size` if there is none."""
    mark = _RECORD_MAGIC + salt[:8]
    step = 1 << 20
    while offset < size:
        file.seek(offset)
        block = file.read(step + len(mark))
        found = block.find(mark)
        if found < 0:
            offset += step
            continue
        file.seek(offset + found)
        data = file.read(_RECORD_SIZE)
        if len(data) == _RECORD_SIZE and _is_record_head(data, salt):
            return offset + found
        offset += found + 1
    return size


def _crc(pieces: Iterable[Any]) -> int:
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return value


# --- writing --------------------------------------------------------------------


def record_pieces(records: Iterable[Record], salt: bytes) -> list[Any]:
    """Lay records out for writing; buffers are not copied."""
    mark, start = salt[:8], zlib.crc32(salt)
    pieces: list[Any] = []
    for kind, index, seconds, code, main, buffers in records:
        payload = [main] if not buffers else _with_parts(main, buffers)
        length = len(main) if not buffers else sum(map(len, payload))
        crc = zlib.crc32(main) if not buffers else _crc(payload)
        fields = _RECORD.pack(_RECORD_MAGIC, mark, index, seconds, code, length, kind, len(buffers), crc)
        pieces += (fields, _CRC.pack(zlib.crc32(fields, start)))
        pieces += payload
    return pieces


def _with_parts(main: Any, buffers: Sequence[Any]) -> list[Any]:
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    return [b"".join(_PART.pack(view.nbytes) for view in views), main, *views]


def header_bytes(salt: bytes, fingerprint: bytes, head: bytes) -> bytes:
    fields = (salt, fingerprint, len(head), zlib.crc32(head))
    crc = _header_crc(VERSION, 0, *fields)
    return _OPEN + _HEADER.pack(MAGIC, VERSION, 0, os.getpid(), *fields, crc) + _CLOSE


def _not_ours(path: str) -> str:
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
