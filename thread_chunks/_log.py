"""The checkpoint file on disk: lock it, append to it, replace it.

One rule: when `Log.append` or `Log.replace` returns, what was given is durable, in
the file that bears the name of `Log.path` then; when it raises, the file is as it was.
A lock on the file itself keeps every other run away, and needs no cleaning up: it ends
with the process that holds it. It does not keep others from writing, moving or deleting:
so before each append the file is looked at, by its name, its header and its last bytes.

How the bytes look is known to `_format`, what they mean to `_checkpoint`.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import re
import stat
import struct
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from ._format import HEADER_SIZE, HOLDER_OFFSET, START, About, Contents, Scan, header_bytes, read, salt_of
from ._records import Group, Record, RecordReader, record_pieces
from .errors import (
    CheckpointCorruptError,
    CheckpointLockedError,
    CheckpointVersionError,
    NotACheckpointError,
)

_PIECE = 1 << 30  # a single write of more than 2 GiB is cut short by the kernel
_JOIN_BYTES = 1 << 16  # smaller pieces are joined before they are written
_BATCH_BYTES = 1 << 22  # of records that are copied from file to file; so much is held in memory
_TAIL_BYTES = 128  # how much of the file's end is looked at to tell that it is as it was written
_NO_LINKS = {
    errno.EPERM,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EXDEV,
}
"""What systems say that give a file no second name: FAT, exFAT, some network mounts."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a system says that has no room: the descriptor is as good as before."""


class SpoiltFileError(OSError):
    """Somebody else changed what was acknowledged: it has to be written anew from elsewhere."""


_open_logs: weakref.WeakSet["Log"] = weakref.WeakSet()


def _let_go() -> None:
    """Close, in a forked child, what belongs to the parent: the lock would outlive the parent with it."""
    for log in _open_logs:
        log.forget()


os.register_at_fork(after_in_child=_let_go)


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
        _open_logs.add(self)
        self._remove_stale()
        self._salt = b""
        self.end = 0
        self._is_trusted = True
        self._is_noted = False
        self._head_size = self._head_crc = 0
        self._start = self._tail = b""
        self._mode = stat.S_IMODE(os.fstat(self._descriptor).st_mode)
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
                _close(descriptor)
            except BlockingIOError:
                holder = _holder(descriptor)
                _close(descriptor)
                raise CheckpointLockedError(_locked(self.path, holder), holder) from None
            except BaseException:
                _close(descriptor)
                raise

    def _remove_stale(self) -> None:
        """Remove what a run that was killed left half-written: nobody else holds the file now.

        It has the beginning of its own salt in its name, unless it was not even begun; a checkpoint of the
        user's that happens to be called so has not.
        """
        folder, name = os.path.split(self.path)
        pattern = re.compile(re.escape(name) + r"\.([0-9a-f]{12})\.tmp")
        with contextlib.suppress(OSError):
            for found in filter(None, map(pattern.fullmatch, os.listdir(folder))):
                stale = os.path.join(folder, found[0])
                with contextlib.suppress(OSError):
                    if _is_left(stale, bytes.fromhex(found[1])):
                        os.unlink(stale)

    @property
    def size(self) -> int:
        """Bytes in the file; 0 for one that was just created."""
        return os.fstat(self._descriptor).st_size

    @property
    def distrust(self) -> str | None:
        """Why somebody else could have written the file, if so."""
        return distrust(os.fstat(self._descriptor))

    @property
    def record_bytes(self) -> int:
        """Bytes of records behind the head."""
        return self.end - HEADER_SIZE - self._head_size

    def start(self) -> bytes:
        """Return the first bytes, enough to tell whose file it is."""
        return os.pread(self._descriptor, 128, 0)

    def read(self) -> Contents:
        """Read everything, and get ready to append: see `read`."""
        with self._file() as file:
            contents = read(file, self.path)
        self._adopt(contents)
        return contents

    @contextlib.contextmanager
    def scan(self) -> Iterator[Scan]:
        """Do as `read`, but for keeping the records; get ready to append once they were all taken."""
        with self._file() as file:
            scan = Scan(file, self.path)
            yield scan
            self._adopt(scan)

    @contextlib.contextmanager
    def _file(self) -> Iterator[BinaryIO]:
        with open(os.dup(self._descriptor), "rb", buffering=1 << 20) as file:
            file.seek(0)
            yield file

    def _adopt(self, contents: Contents | Scan) -> None:
        self._salt = contents.header.salt
        self._head_size, self._head_crc = contents.header.head_size, contents.header.head_crc
        self.fingerprint = contents.header.fingerprint
        self.end = contents.end
        self._start = _unheld(os.pread(self._descriptor, HEADER_SIZE, 0))
        self._tail = self._read_tail(min(_TAIL_BYTES, self.end))

    def _read_tail(self, size: int) -> bytes:
        return os.pread(self._descriptor, size, self.end - size)

    def hold(self) -> None:
        """Note in the file who holds it, once it is clear that this run will use it."""
        self._write_holder(os.getpid())

    def append(self, records: Iterable[Record | Group]) -> None:
        """Add records, as one group: when this returns they are durable.

        Raises
        ------
        OSError
            If they could not all be saved. The file is as it was before.
        """
        self.secure()
        pieces = record_pieces(records, self._salt, self.end)
        try:
            if self.size != self.end:
                self._cut_tail()
            os.lseek(self._descriptor, self.end, os.SEEK_SET)
            written = _write(self._descriptor, pieces)
            self._sync()
        except OSError as error:
            self._is_trusted &= error.errno in _FULL
            with contextlib.suppress(OSError):
                self._cut_tail()
            raise
        self.end += written
        self._tail = _last_bytes(pieces, self._tail)
        self.secure()  # what nobody can find is not durable

    def secure(self) -> None:
        """Make sure that what was acknowledged is in the file that bears our name, or write that anew.

        If another file has taken the name, ours goes on under one beside it, which is `path` from then on.

        Raises
        ------
        SpoiltFileError
            If the bytes are not ours any more: see `rescue`.
        OSError
            If nothing can be done for now.
        """
        try:
            is_whole = self._is_whole()
        except OSError:  # such as that of a mount that was lost, and may have come back
            self._reopen()
            is_whole = self._is_whole()
        if not is_whole:
            raise SpoiltFileError(errno.EIO, "somebody else wrote to the checkpoint")
        if self._is_trusted and self._is_at_path():
            return
        with self._moved_to(self._free_path()):
            self.rewrite()

    @contextlib.contextmanager
    def _moved_to(self, path: str) -> Iterator[None]:
        before, self.path = self.path, path
        try:
            yield
        except BaseException:
            self.path = before
            raise

    def _is_whole(self) -> bool:
        """Tell from both ends whether the file is as it was written; what lies behind its end is no part of it."""
        start = _unheld(os.pread(self._descriptor, HEADER_SIZE, 0))
        return start == self._start and self._read_tail(len(self._tail)) == self._tail

    def _is_at_path(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _reopen(self) -> None:
        """Take a new descriptor of the file, as the old one is of no use; without its lock, nothing of it is."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise SpoiltFileError(errno.ENOENT, "the checkpoint is gone") from None
        self.forget()  # its lock would be in the way
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException as error:
            _close(descriptor)
            if isinstance(error, BlockingIOError):
                raise SpoiltFileError(errno.EEXIST, "another run has taken the checkpoint") from None
            raise
        self._descriptor = descriptor

    def _free_path(self) -> str:
        """Return the path, if nothing of somebody else's is there, or a free one beside it."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return self.path
        with contextlib.suppress(OSError):
            is_ours = os.path.samestat(found, os.fstat(self._descriptor))
            if is_ours and (
                not found.st_size or _unheld(os.pread(self._descriptor, HEADER_SIZE, 0)) == self._start
            ):
                return self.path
        numbers = itertools.count(1)
        names = (f"{self.path}.rescued{number if number > 1 else ''}" for number in numbers)
        return next(name for name in names if not os.path.lexists(name))

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

    def rewrite(
        self,
        choose: "Callable[[Record | Group], Record | Group | None] | None" = None,
        *,
        keep_old: bool = False,
    ) -> str | None:
        """Write everything that was acknowledged anew to a fresh file.

        Parameters
        ----------
        choose
            Gives for each record what is written of it, if anything; by default all are.
        keep_old
            Whether to set the old file aside.

        Returns
        -------
        str or None
            Where the old file is now.

        Raises
        ------
        SpoiltFileError
            If it is not as it was acknowledged any more.
        OSError
            If it could not be written. The old file is as it was.
        """
        with self._file() as file:
            scan = _scan(file, self.path)
            chosen: Iterable[Any] = (
                scan.records if choose is None else filter(None, map(choose, scan.records))
            )
            records = itertools.chain(chosen, self._checked(scan))
            header = scan.header
            return self.replace(scan.head, header.fingerprint, records, about=header.about, keep_old=keep_old)

    def _checked(self, scan: Scan) -> Iterator[Record]:
        """Yield nothing; raise if a record was not there that should have been."""
        is_whole = scan.header.salt == self._salt and scan.end >= self.end
        if not is_whole or any(damage.offset < self.end for damage in scan.damages):
            raise SpoiltFileError(errno.EIO, "somebody else wrote to the checkpoint")
        yield from ()

    def salvage(self) -> tuple[bytes, list[Record | Group]]:
        """Return what can still be read of a spoilt file: the head, or nothing of it, and records at their place."""
        head, records = b"", list[Record | Group]()
        with contextlib.suppress(OSError), self._file() as file:
            file.seek(HEADER_SIZE)
            found = file.read(min(self._head_size, self.size))
            head = found if zlib.crc32(found) == self._head_crc and len(found) == self._head_size else b""
            reader = RecordReader(file, min(self.size, self.end), self._salt)
            records += reader.read_from(HEADER_SIZE + self._head_size)
        return head, records

    def rescue(self, head: bytes, records: Iterable[Record | Group], about: About) -> None:
        """Write a spoilt file anew: at the path, if that is free, or beside it, which is `path` then.

        Parameters
        ----------
        head, records, about
            What is known of it elsewhere, as for `replace`.

        Raises
        ------
        OSError
            If it could not be written.
        """
        path = self._free_path()
        is_there = path == self.path and os.path.lexists(path) and os.path.getsize(path) > 0
        with self._moved_to(path):
            self.replace(head, self.fingerprint, records, about=about, keep_old=is_there)

    def replace(
        self,
        head: bytes,
        fingerprint: bytes,
        records: Iterable[Record | Group] = (),
        *,
        about: About,
        keep_old: bool = False,
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
        about
            What the header says of the run.
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
        self._check_name()
        with contextlib.suppress(OSError):  # else as it was at the beginning
            self._mode = stat.S_IMODE(os.fstat(self._descriptor).st_mode)
        salt, mode = os.urandom(16), self._mode
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        temporary = f"{self.path}.{salt[:6].hex()}.tmp"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        backup = None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(descriptor, mode)  # the umask took away from it
            header = header_bytes(salt, fingerprint, head, about)
            end = _write(descriptor, [header, head])
            end = _write_records(descriptor, records, salt, end)
            os.fsync(descriptor)
            backup = self._set_aside() if keep_old else None
            os.replace(temporary, self.path)
        except BaseException:
            self._undo_replace(descriptor, temporary, backup)
            raise
        if backup is not None and self._is_noted:
            self._write_holder(0)  # nobody holds what was set aside
        self.forget()
        self._descriptor, self._salt, self.end = descriptor, salt, end
        self._head_size, self._head_crc, self.fingerprint = len(head), zlib.crc32(head), fingerprint
        self._start = _unheld(header)
        self._is_noted = True  # its header says so
        self._tail = self._read_tail(min(_TAIL_BYTES, end))
        _sync_folder(self.path)
        self._is_trusted = True
        return backup

    def _check_name(self) -> None:
        """Refuse to take the name from somebody else's file."""
        with contextlib.suppress(FileNotFoundError):
            if not os.path.samestat(os.stat(self.path), os.fstat(self._descriptor)):
                msg = "another file has taken the place of the checkpoint"
                raise FileExistsError(errno.EEXIST, msg)

    def _undo_replace(self, descriptor: int, temporary: str, backup: str | None) -> None:
        """Remove what a replacement that failed had made; what may be the old file's only name stays."""
        with contextlib.suppress(OSError):
            if backup is not None and not os.path.lexists(self.path):
                os.replace(backup, self.path)
            elif backup is not None and os.path.samestat(os.stat(self.path), os.stat(backup)):
                os.unlink(backup)
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        _close(descriptor)

    def _set_aside(self) -> str:
        """Give the old file a second name that nothing else has, or another one where it can have but one."""
        number = 0
        while True:
            backup = f"{self.path}.bak{number or ''}"
            try:
                os.link(self.path, backup)
            except FileExistsError:
                number += 1
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if not os.path.lexists(backup):
                    os.replace(self.path, backup)
                    return backup
                number += 1
            else:
                return backup

    def _write_holder(self, pid: int) -> None:
        """Note who holds the file, for the message to whoever else wants it."""
        self._is_noted = bool(pid)
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, struct.pack("<I", pid), HOLDER_OFFSET)

    def forget(self) -> None:
        """Close this process's copy of the file, and leave the file to the process that holds it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            _close(descriptor)

    def close(self) -> None:
        """Release the file; an empty one that this run created is removed. Nothing that the disk says is an error."""
        if self._descriptor < 0:
            return
        if self._is_noted:
            self._write_holder(0)
        with contextlib.suppress(OSError):
            if self._is_new and not self.size and self._is_at_path():
                os.unlink(self.path)
        self.forget()


def distrust(found: os.stat_result) -> str | None:
    """Say why somebody else could have written a file, or ``None`` if nobody else could.

    The superuser could have, but needs no file for what it wants to do.
    """
    if not stat.S_ISREG(found.st_mode):
        return None  # it is refused for that
    if found.st_uid not in {os.geteuid(), 0}:
        return f"belongs to another user ({found.st_uid})"
    return "may be written by every user" if found.st_mode & stat.S_IWOTH else None


def _holder(descriptor: int) -> int | None:
    """Return the process that holds a file, as its header says."""
    start = os.pread(descriptor, HEADER_SIZE, 0)
    if len(start) < HEADER_SIZE or not start.startswith(START):
        return None
    return int.from_bytes(start[HOLDER_OFFSET : HOLDER_OFFSET + 4], "little") or None


def _close(descriptor: int) -> None:
    """Close a descriptor. The system lets go of it whatever it says; and what had to be durable was synced before."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _unheld(start: bytes) -> bytes:
    """Return a header without who holds the file."""
    return start[:HOLDER_OFFSET] + start[HOLDER_OFFSET + 4 :]


def _is_left(path: str, salt: bytes) -> bool:
    """Tell whether a temporary file is what a killed run left: of this salt, not yet begun, or lost as zeros."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return False
    with open(path, "rb") as file:
        start = file.read(HEADER_SIZE)
        if not start.strip(b"\0"):
            return not file.read().strip(b"\0")
    return START.startswith(start[: len(START)]) and salt.startswith(salt_of(start)[: len(salt)])


def _scan(file: BinaryIO, path: str) -> Scan:
    """Begin to read a file that was whole when this run began with it."""
    try:
        return Scan(file, path)
    except (CheckpointCorruptError, CheckpointVersionError, NotACheckpointError) as error:
        raise SpoiltFileError(errno.EIO, "somebody else wrote to the checkpoint") from error


def _last_bytes(pieces: Sequence[Any], before: bytes) -> bytes:
    """Return the last bytes of what was written."""
    last = b""
    for piece in reversed(pieces):
        last = bytes(memoryview(piece).cast("B")[-_TAIL_BYTES:]) + last if len(piece) else last
        if len(last) >= _TAIL_BYTES:
            break
    return (before + last)[-_TAIL_BYTES:]


def _joined_pieces(pieces: Sequence[Any]) -> Iterator[Any]:
    """Join small pieces, so that many small records cost one write."""
    start = 0
    for number, piece in enumerate(pieces):
        if len(piece) >= _JOIN_BYTES:
            yield b"".join(pieces[start:number])
            yield piece
            start = number + 1
    yield b"".join(pieces[start:])


def _write(descriptor: int, pieces: Sequence[Any]) -> int:
    written = 0
    for piece in _joined_pieces(pieces):
        view = memoryview(piece).cast("B")
        while view:
            count = os.write(descriptor, view[:_PIECE])
            written += count
            view = view[count:]
    return written


def _write_records(descriptor: int, records: Iterable[Record | Group], salt: bytes, offset: int) -> int:
    """Write records, some at a time, and return where they end."""
    waiting: list[Record | Group] = []
    size = 0
    for record in records:
        waiting.append(record)
        body = record.body if isinstance(record, Group) else record.main
        buffers = () if isinstance(record, Group) else record.buffers
        size += len(body) + sum(memoryview(buffer).nbytes for buffer in buffers) + _TAIL_BYTES
        if size > _BATCH_BYTES:
            offset += _write(descriptor, record_pieces(waiting, salt, offset))
            waiting, size = [], 0
    return offset + _write(descriptor, record_pieces(waiting, salt, offset))


def _sync_folder(path: str) -> None:
    """Make a rename durable."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        _close(descriptor)


def _locked(path: str, holder: int | None) -> str:
    who = f"process {holder}" if holder else "another run"
    return (
        f"{path} is in use by {who}. Nothing was changed. Wait for that run, stop it, "
        "or give this one another path."
    )
