"""The records of a checkpoint file: one call that ended, or a group of many.

A record counts if its own checksum and its payload's hold; its own covers the place where it lies,
so that what was copied from elsewhere, another checkpoint inside a result, is none. A group is many small results
that were saved together. Each has a checksum of its own, and what says where they lie, the
columns, stands before them and behind them: so a damaged byte costs one result there, too.
One rule: nothing is read that does not check, and whatever does not check is reported.

This room knows bytes, and nothing of what stands before the first record.
"""

import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from . import _wire

_RECORD = struct.Struct("<4s8sQdQQHHIdII")  # and the checksum of these fields behind them
_CRC = struct.Struct("<I")
_PLACE = struct.Struct("<Q")  # the offset of a record, which its checksum begins with
RECORD_SIZE = _RECORD.size + _CRC.size
_PART = struct.Struct("<Q")  # the length of one out-of-band buffer, before the payload
_RECORD_MAGIC = b"\xfarec"

RESULT, FAILURE, GROUP, GROUP_END, DEATH = KINDS = range(5)
"""The kinds of record; a death is a failure, too."""


class Record(NamedTuple):
    """One call that ended."""

    kind: int
    index: int  # type: ignore[assignment]  # it hides tuple.index, which nobody calls
    seconds: float
    code: int
    main: Any
    buffers: Sequence[Any] = ()
    checksum: int | None = None
    """Of main and buffers as they lie in the file, if it is known already."""
    trace: tuple[float, int, int] = _wire.NO_TRACE
    """When the call was started, its worker's number, the peak of its memory in KiB; zeros if not known."""


class Group(NamedTuple):
    """Many small results that one worker computed and that were saved together; see `_wire` for the columns."""

    code: int
    columns: bytes
    body: Any
    trace: tuple[float, int, int] = _wire.NO_TRACE
    """As in a `Record`: of the first call, and the peak of all."""


class Damage(NamedTuple):
    """A stretch of the file that cannot be used."""

    offset: int
    size: int
    index: int | None  # type: ignore[assignment]
    """The call it belonged to, if that can still be told."""
    is_tail: bool
    """Whether nothing valid follows: a torn tail."""


# --- reading ------------------------------------------------------------------


@dataclass(slots=True)
class RecordReader:
    """Reads the records of a file, one after the other, and finds its way behind damage."""

    file: BinaryIO
    size: int
    salt: bytes
    damages: list[Damage] = field(default_factory=list)
    end: int = 0
    """Where the last valid record ends."""
    has_strays: bool = False
    """Whether heads stand behind that end which belong to another place: they were not torn there by a crash."""
    _found: list[Record | Group] = field(default_factory=list)

    def read_from(self, offset: int) -> Iterator[Record | Group]:
        """Read everything from here to the end of the file; what is taken is not kept."""
        self.end = offset
        while offset < self.size:
            self.file.seek(offset)
            data = self.file.read(RECORD_SIZE)
            fields = self._fields(data, offset)
            if fields is None or fields.kind not in KINDS:
                following = self._skip(offset, self.size, None)
            elif fields.kind == GROUP:
                following = self._group(offset, fields)
            elif fields.kind == GROUP_END:
                following = self._group_from_end(offset, fields)
            else:
                following = self._record(offset, fields)
            while self._found:
                yield self._found.pop()
            offset = following

    def _fields(self, data: bytes, offset: int) -> "_Fields | None":
        """Return what a record head says, or ``None`` if these bytes are none of this place."""
        is_head = _is_record_head(data[:RECORD_SIZE], self.salt, offset)
        return _Fields(*_RECORD.unpack_from(data)[2:]) if is_head else None

    def _skip(self, offset: int, limit: int, index: int | None) -> int:
        """Note damage up to where the next valid record begins: perhaps before this one says it ends."""
        following = self._find(offset + 1, min(limit, self.size))
        self.damages.append(Damage(offset, following - offset, index, following >= self.size))
        return following

    def _accept(self, record: Record | Group, following: int) -> int:
        self._found.append(record)
        self.end, self.has_strays = following, False
        return following

    def _record(self, offset: int, fields: "_Fields") -> int:
        following = offset + RECORD_SIZE + fields.length
        record = _read_record(self.file, fields) if following <= self.size else None
        if record is None:
            return self._skip(offset, following, fields.index)
        return self._accept(record, following)

    def _group(self, offset: int, fields: "_Fields") -> int:
        """Read a group; if its columns are damaged, those behind it count."""
        front, following = fields.group_size(offset)
        if following > self.size:
            return self._skip(offset, following, None)
        columns = self.file.read(front - RECORD_SIZE)
        body = self.file.read(fields.length)
        end = self.file.read(front)
        if zlib.crc32(columns) != fields.crc:
            return self._skip(offset, following, None)  # to its end, which has the columns again
        place = following - front
        is_end_there = self._fields(end, place) == fields._replace(kind=GROUP_END)
        if not is_end_there or end[RECORD_SIZE:] != columns:
            following = self._damaged_end(
                place + RECORD_SIZE if is_end_there else offset + front, place, following
            )
        return self._take_group(Group(fields.code, columns, body, fields.trace), offset + front, following)

    def _damaged_end(self, start: int, end: int, following: int) -> int:
        """Note that what stands behind the results of a group is damaged; return where the next record begins."""
        found = self._find(start, following)
        if found > end:  # else bytes are missing between the results
            self.damages.append(Damage(end, found - end, None, is_tail=False))
        return found

    def _group_from_end(self, offset: int, fields: "_Fields") -> int:
        """Read a group whose beginning is damaged, from its end."""
        front, _ = fields.group_size(offset)
        following, start = offset + front, offset - fields.length
        if following > self.size:
            return self._skip(offset, following, None)
        columns = self.file.read(front - RECORD_SIZE)
        if zlib.crc32(columns) != fields.crc:
            return self._skip(offset, self.size, None)
        if start < self.end:
            return following  # the end of a group that was read as far as possible
        self.file.seek(start)
        body = self.file.read(fields.length)
        if self.damages and self.damages[-1].offset + self.damages[-1].size == offset:
            begin = self.damages.pop().offset
            self.damages.append(Damage(begin, start - begin, None, is_tail=False))
        return self._take_group(Group(fields.code, columns, body, fields.trace), start, following)

    def _take_group(self, group: Group, start: int, following: int) -> int:
        """Take the results of a group that are whole, and note those that are not."""
        indices, seconds, sizes, checksums = _wire.unpack(group.columns)
        pieces = _wire.parts(group.body, sizes)
        if list(map(zlib.crc32, pieces)) == checksums.tolist():
            return self._accept(group, following)
        is_whole = [zlib.crc32(piece) == checksum for piece, checksum in zip(pieces, checksums, strict=True)]
        for index, piece, is_fine in zip(indices, pieces, is_whole, strict=True):
            if not is_fine:
                self.damages.append(Damage(start, len(piece), index, is_tail=False))
            start += len(piece)
        if any(is_whole):
            columns = indices, seconds, pieces
            whole = _wire.group(*(list(itertools.compress(column, is_whole)) for column in columns))
            self._found.append(Group(group.code, *whole, group.trace))
        self.end, self.has_strays = following, False
        return following

    def _find(self, offset: int, limit: int) -> int:
        """Find where the next valid record head begins; `limit` if there is none before it."""
        mark = _RECORD_MAGIC + self.salt[:8]
        step = 1 << 20
        while offset < limit:
            self.file.seek(offset)
            found = self.file.read(step + len(mark)).find(mark)
            if found < 0:
                offset += step
                continue
            offset += found
            if offset >= limit:
                return limit
            self.file.seek(offset)
            data = self.file.read(RECORD_SIZE)
            if _is_record_head(data, self.salt, offset):
                return offset
            self.has_strays |= len(data) == RECORD_SIZE
            offset += 1
        return limit


class _Fields(NamedTuple):
    """What the head of a record says, behind its marks."""

    index: int  # type: ignore[assignment]
    """The call; of a group, how many calls."""
    seconds: float
    code: int
    length: int
    """The bytes of the payload; of a group, those of its results."""
    kind: int
    parts: int
    crc: int
    """The checksum of the payload; of a group, that of its columns."""
    started: float
    worker: int
    peak: int

    @property
    def trace(self) -> tuple[float, int, int]:
        """What is known of how the call ran."""
        return self[-3:]

    def group_size(self, offset: int) -> tuple[int, int]:
        """Return the size of a group's head with its columns, and where the group ends."""
        front = RECORD_SIZE + self.index * _wire.COLUMN_BYTES
        return front, offset + 2 * front + self.length


def _read_record(file: BinaryIO, fields: _Fields) -> Record | None:
    """Read the payload of a record at the file's position; ``None`` if it is damaged."""
    index, seconds, code, length, kind, parts, crc, *_ = fields
    if not parts:
        main = file.read(length)
        return (
            Record(kind, index, seconds, code, main, (), crc, fields.trace)
            if zlib.crc32(main) == crc
            else None
        )
    sizes = file.read(min(_PART.size * parts, length))
    is_whole = len(sizes) == _PART.size * parts
    lengths = [size for (size,) in _PART.iter_unpack(sizes)] if is_whole else []
    if not is_whole or len(sizes) + sum(lengths) > length:
        return None
    pieces = [bytearray(part) for part in (length - len(sizes) - sum(lengths), *lengths)]
    for piece in pieces:
        file.readinto(piece)  # type: ignore[attr-defined]
    if _wire.checksum(pieces[0], pieces[1:]) != crc:
        return None
    return Record(kind, index, seconds, code, pieces[0], pieces[1:], crc, fields.trace)


def _is_record_head(data: bytes, salt: bytes, offset: int) -> bool:
    is_marked = len(data) == RECORD_SIZE and data.startswith(_RECORD_MAGIC + salt[:8])
    return is_marked and _head_crc(data[:-4], salt, offset) == data[-4:]


def _head_crc(fields: bytes, salt: bytes, offset: int) -> bytes:
    """Checksum a record's fields; salt and offset make records of another file, or place, invalid here."""
    return _CRC.pack(zlib.crc32(fields, zlib.crc32(_PLACE.pack(offset), zlib.crc32(salt))))


# --- writing --------------------------------------------------------------------


def record_pieces(records: Iterable[Record | Group], salt: bytes, offset: int) -> list[Any]:
    """Lay records out for writing at a place of the file; neither buffers nor groups are copied."""
    heads = _HeadMaker(salt)
    pieces: list[Any] = []
    for record in records:
        if isinstance(record, Group):
            made = _group_pieces(record, heads, offset)
        else:
            made = _single_pieces(record, heads, offset)
        pieces += made
        offset += sum(map(len, made))
    return pieces


class _HeadMaker:
    """Makes the heads of the records of one file."""

    def __init__(self, salt: bytes) -> None:
        self._mark = salt[:8]
        self._start = zlib.crc32(salt)

    def of(self, offset: int, *fields: Any) -> bytes:
        packed = _RECORD.pack(_RECORD_MAGIC, self._mark, *fields)
        return packed + _CRC.pack(zlib.crc32(packed, zlib.crc32(_PLACE.pack(offset), self._start)))


def _single_pieces(record: Record, heads: _HeadMaker, offset: int) -> list[Any]:
    kind, index, seconds, code, main, buffers, crc, trace = record
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    payload = [_wire.lengths(views), main, *views] if views else [main]
    crc = _wire.checksum(main, views) if crc is None else crc
    length = sum(map(len, payload))
    return [heads.of(offset, index, seconds, code, length, kind, len(views), crc, *trace), *payload]


def _group_pieces(group: Group, heads: _HeadMaker, offset: int) -> list[Any]:
    code, columns, body, trace = group
    fields = len(columns) // _wire.COLUMN_BYTES, 0.0, code, len(body)
    checks = 0, zlib.crc32(columns), *trace
    end = offset + RECORD_SIZE + len(columns) + len(body)
    front, back = heads.of(offset, *fields, GROUP, *checks), heads.of(end, *fields, GROUP_END, *checks)
    return [front, columns, body, back, columns]
