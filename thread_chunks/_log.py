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

This room knows bytes, files and locks, and nothing of what the bytes mean.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from .errors import (
    CheckpointCorruptError,
    CheckpointLockedError,
    CheckpointVersionError,
    NotACheckpointError,
)

VERSION = 1
MAGIC = b"thrdchnk"
_OPEN, _CLOSE = b"\x80\x05C\x50", b"0"  # PROTO 5, SHORT_BINBYTES of 80 bytes; POP
_HEADER = struct.Struct("<8sHHI16s32sQII")
_HOLDER_OFFSET = len(_OPEN) + 12
HEADER_SIZE = len(_OPEN) + _HEADER.size + len(_CLOSE)

_RECORD = struct.Struct("<4s8sQdQQHHII")
_RECORD_MAGIC = b"\xfarec"
_PIECE = 1 << 30  # a single write of more than 2 GiB is cut short by the kernel
_JOIN_BYTES = 1 << 16  # smaller pieces are joined before they are written

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
    index: int
    seconds: float
    code: int
    main: Any
    buffers: Sequence[Any] = ()


class Damage(NamedTuple):
    """A stretch of the file that cannot be used."""

    offset: int
    size: int
    index: int | None
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
            following = following or _find_record(file, offset + 1, size, header.salt)
            damages.append(Damage(offset, following - offset, index, following >= size))
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
        start = _OPEN + MAGIC
        if len(data) > len(_OPEN) and data[: len(start)] == start[: len(data)]:
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
    """Read one record. Without one: where the next begins (0 if unknown) and whose it was."""
    file.seek(offset)
    data = file.read(_RECORD.size)
    if len(data) < _RECORD.size:
        return None, size, None
    magic, mark, index, seconds, code, length, kind, parts, crc, head_crc = _RECORD.unpack(data)
    if magic != _RECORD_MAGIC or mark != salt[:8] or zlib.crc32(data[:-4], zlib.crc32(salt)) != head_crc:
        return None, 0, None
    following = offset + _RECORD.size + length
    if following > size:
        return None, size, index
    pieces = [bytearray(8 * parts)]
    file.readinto(pieces[0])  # type: ignore[attr-defined]
    lengths = struct.unpack(f"<{parts}Q", pieces[0])
    if 8 * parts + sum(lengths) > length:
        return None, following, index
    for piece in (length - 8 * parts - sum(lengths), *lengths):
        pieces.append(bytearray(piece))
        file.readinto(pieces[-1])  # type: ignore[attr-defined]
    if _crc(pieces) != crc:
        return None, following, index
    return Record(kind, index, seconds, code, pieces[1], pieces[2:]), following, index


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
        data = file.read(_RECORD.size)
        if len(data) == _RECORD.size and zlib.crc32(data[:-4], zlib.crc32(salt)) == _RECORD.unpack(data)[-1]:
            return offset + found
        offset += found + 1
    return size


def _crc(pieces: Iterable[Any]) -> int:
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return value


# --- writing --------------------------------------------------------------------


def _record_pieces(record: Record, salt: bytes) -> list[Any]:
    """Lay a record out for writing; its buffers are not copied."""
    buffers = [memoryview(buffer).cast("B") for buffer in record.buffers]
    sizes = struct.pack(f"<{len(buffers)}Q", *(buffer.nbytes for buffer in buffers))
    pieces = [sizes, record.main, *buffers]
    length = len(sizes) + len(record.main) + sum(buffer.nbytes for buffer in buffers)
    head = _RECORD.pack(
        _RECORD_MAGIC, salt[:8], record.index, record.seconds, record.code,
        length, record.kind, len(buffers), _crc(pieces), 0,
    )  # fmt: skip
    return [head[:-4] + struct.pack("<I", zlib.crc32(head[:-4], zlib.crc32(salt))), *pieces]


def _joined_pieces(pieces: Iterable[Any]) -> Iterator[Any]:
    """Join small pieces, so that many small records cost one write."""
    small = bytearray()
    for piece in pieces:
        if len(piece) < _JOIN_BYTES:
            small += piece
            continue
        if small:
            yield small
            small = bytearray()
        yield piece
    if small:
        yield small


def _write(descriptor: int, pieces: Iterable[Any]) -> int:
    written = 0
    for piece in _joined_pieces(pieces):
        view = memoryview(piece).cast("B")
        while view:
            count = os.write(descriptor, view[:_PIECE])
            written += count
            view = view[count:]
    return written


def _sync_folder(path: str) -> None:
    """Make a rename durable."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Log:
    """A checkpoint file that is open for one run and held against every other.

    Parameters
    ----------
    path
        The file. It is created empty if it does not exist, and its folder too.

    Raises
    ------
    CheckpointLockedError
        If another run holds the file.
    NotACheckpointError
        If the path is not a regular file.
    OSError
        If the file cannot be read and written.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self._is_new = not os.path.lexists(self.path)
        self._descriptor = self._lock()
        self._salt = b""
        self.end = 0
        self._is_trusted = True
        self._head_size = 0
        self.fingerprint = bytes(32)

    def _lock(self) -> int:
        """Open and lock the file that is at the path *now*: a rename may have come in between."""
        while True:
            if os.path.lexists(self.path) and not stat.S_ISREG(os.stat(self.path).st_mode):
                msg = f"{self.path} is not a regular file, so it cannot be a checkpoint"
                raise NotACheckpointError(msg)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                        return descriptor
                os.close(descriptor)
            except BlockingIOError:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise CheckpointLockedError(_locked(self.path, holder), holder) from None
            except BaseException:
                os.close(descriptor)
                raise

    @property
    def size(self) -> int:
        """Bytes in the file; 0 for one that was just created."""
        return os.fstat(self._descriptor).st_size

    @property
    def record_bytes(self) -> int:
        """Bytes of records behind the head."""
        return self.end - HEADER_SIZE - self._head_size

    def start(self) -> bytes:
        """Return the first bytes, enough to tell whose file it is."""
        return os.pread(self._descriptor, 128, 0)

    def read(self) -> Contents:
        """Read everything, and get ready to append: see `read`."""
        with open(os.dup(self._descriptor), "rb", buffering=1 << 20) as file:
            file.seek(0)
            contents = read(file, self.path)
        self._salt = contents.header.salt
        self._head_size = contents.header.head_size
        self.fingerprint = contents.header.fingerprint
        self.end = contents.end
        self._write_holder(os.getpid())
        return contents

    def append(self, records: Iterable[Record]) -> None:
        """Add records, as one group: when this returns they are durable.

        Raises
        ------
        OSError
            If they could not all be saved. The file is as it was before.
        """
        if not self._is_trusted or not os.fstat(self._descriptor).st_nlink:
            self._rewrite()  # fsync failed before, or someone deleted the file
        pieces = [piece for record in records for piece in _record_pieces(record, self._salt)]
        try:
            if self.size != self.end:
                self._cut_tail()
            os.lseek(self._descriptor, self.end, os.SEEK_SET)
            written = _write(self._descriptor, pieces)
            self._sync()
        except OSError:
            with contextlib.suppress(OSError):
                self._cut_tail()
            raise
        self.end += written

    def _cut_tail(self) -> None:
        os.ftruncate(self._descriptor, self.end)
        self._sync()

    def _sync(self) -> None:
        """After a failed fsync the kernel may have dropped what it could not write: never ask it again."""
        try:
            os.fsync(self._descriptor)
        except OSError:
            self._is_trusted = False
            raise

    def _rewrite(self) -> None:
        """Write everything that was acknowledged anew to a fresh file."""
        contents = self.read()
        self.replace(contents.head, contents.header.fingerprint, contents.records)
        self._is_trusted = True

    def replace(
        self, head: bytes, fingerprint: bytes, records: Iterable[Record] = (), *, keep_old: bool = False
    ) -> str | None:
        """Exchange the whole file atomically; the new one is locked before it takes the name.

        Parameters
        ----------
        head
            The pickle of the new head.
        fingerprint
            The digest of the run it belongs to.
        records
            Records to put behind it.
        keep_old
            Whether to set the old file aside.

        Returns
        -------
        str or None
            Where the old file is now.

        Raises
        ------
        OSError
            If it could not be written. The old file is as it was.
        """
        salt = secrets.token_bytes(16)
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        temporary = f"{self.path}.{secrets.token_hex(6)}.tmp"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(self._descriptor).st_mode))
            pieces = [_header(salt, fingerprint, head), head]
            end = _write(descriptor, pieces)
            for record in records:
                end += _write(descriptor, _record_pieces(record, salt))
            os.fsync(descriptor)
            backup = self._set_aside() if keep_old else None
            os.replace(temporary, self.path)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        os.close(self._descriptor)
        self._descriptor, self._salt, self.end = descriptor, salt, end
        self._head_size, self.fingerprint = len(head), fingerprint
        _sync_folder(self.path)
        return backup

    def _set_aside(self) -> str:
        """Give the old file a second name that nothing else has."""
        number = 0
        while True:
            backup = f"{self.path}.bak{number or ''}"
            try:
                os.link(self.path, backup)
            except FileExistsError:
                number += 1
            else:
                return backup

    def _write_holder(self, pid: int) -> None:
        """Note who holds the file, for the message to whoever else wants it."""
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, struct.pack("<I", pid), _HOLDER_OFFSET)

    def close(self) -> None:
        """Release the file; an empty one that this run created is removed."""
        if self._descriptor < 0:
            return
        if self.end:
            self._write_holder(0)
        elif self._is_new and not self.size:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        os.close(self._descriptor)
        self._descriptor = -1


def _header(salt: bytes, fingerprint: bytes, head: bytes) -> bytes:
    fields = (salt, fingerprint, len(head), zlib.crc32(head))
    crc = _header_crc(VERSION, 0, *fields)
    return _OPEN + _HEADER.pack(MAGIC, VERSION, 0, os.getpid(), *fields, crc) + _CLOSE


def _holder(descriptor: int) -> int | None:
    """Return the process that holds a file, as its header says."""
    start = os.pread(descriptor, HEADER_SIZE, 0)
    if len(start) < HEADER_SIZE:
        return None
    return int.from_bytes(start[_HOLDER_OFFSET : _HOLDER_OFFSET + 4], "little") or None


def is_held(header: Header) -> bool:
    """Tell whether the process that a file names as its holder lives."""
    if not header.holder:
        return False
    try:
        os.kill(header.holder, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _locked(path: str, holder: int | None) -> str:
    who = f"process {holder}" if holder else "another run"
    return (
        f"{path} is in use by {who}. Nothing was changed. Wait for that run, stop it, "
        "or give this one another path."
    )


def _not_ours(path: str) -> str:
    return (
        f"{path} is not a checkpoint of thread-chunks. It was left alone. "
        "Give this run another path, or move the file away."
    )


def _corrupt(path: str) -> str:
    return (
        f"the head of {path} is damaged, so nothing in it can be trusted. The file was left alone. "
        "Restore it from a backup, or move it away to start afresh."
    )
