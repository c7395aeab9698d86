"""The checkpoint file on disk: lock it, append to it, replace it.

One rule: when `Log.append` or `Log.replace` returns, what was given is durable;
when it raises, the file is as it was. A lock on the file itself keeps every other
run away, and needs no cleaning up: it ends with the process that holds it.

How the bytes look is known to `_format`, what they mean to `_checkpoint`.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from ._format import HEADER_SIZE, HOLDER_OFFSET, START, About, Contents, Scan, header_bytes, read
from ._records import Group, Record, record_pieces
from .errors import CheckpointLockedError, NotACheckpointError

_PIECE = 1 << 30  # a single write of more than 2 GiB is cut short by the kernel
_JOIN_BYTES = 1 << 16  # smaller pieces are joined before they are written


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

    def _remove_stale(self) -> None:
        """Remove what a run that was killed left half-written: nobody else holds the file now."""
        folder, name = os.path.split(self.path)
        pattern = re.compile(re.escape(name) + r"\.[0-9a-f]{12}\.tmp")
        for found in filter(pattern.fullmatch, os.listdir(folder)):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, found))

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
        self._head_size = contents.header.head_size
        self.fingerprint = contents.header.fingerprint
        self.end = contents.end

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
        if not self._is_trusted or not self._is_at_path():
            self._rewrite()  # fsync failed before, or someone deleted the file
        pieces = record_pieces(records, self._salt, self.end)
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

    def _is_at_path(self) -> bool:
        """Tell whether the file is still there; somebody else's at its place is an error, and stays."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return False
        if not os.path.samestat(found, os.fstat(self._descriptor)):
            msg = "another file has taken the place of the checkpoint"
            raise FileExistsError(errno.EEXIST, msg)
        return True

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
        header = contents.header
        self.replace(contents.head, header.fingerprint, contents.records, about=header.about)
        self._is_trusted = True

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
        self._is_at_path()
        salt = os.urandom(16)
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        temporary = f"{self.path}.{os.urandom(6).hex()}.tmp"
        mode = stat.S_IMODE(os.fstat(self._descriptor).st_mode)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        backup = None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(descriptor, mode)  # the umask took away from it
            pieces = [header_bytes(salt, fingerprint, head, about), head]
            end = _write(descriptor, pieces)
            end += _write(descriptor, record_pieces(records, salt, end))
            os.fsync(descriptor)
            backup = self._set_aside() if keep_old else None
            os.replace(temporary, self.path)
        except BaseException:
            self._undo_replace(descriptor, temporary, backup)
            raise
        os.close(self._descriptor)
        self._descriptor, self._salt, self.end = descriptor, salt, end
        self._head_size, self.fingerprint = len(head), fingerprint
        self._is_noted = True  # its header says so
        _sync_folder(self.path)
        return backup

    def _undo_replace(self, descriptor: int, temporary: str, backup: str | None) -> None:
        """Remove what a replacement that failed had made; what may be the old file's only name stays."""
        with contextlib.suppress(OSError):
            if backup is not None and os.path.samestat(os.stat(self.path), os.stat(backup)):
                os.unlink(backup)
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        os.close(descriptor)

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
        self._is_noted = bool(pid)
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, struct.pack("<I", pid), HOLDER_OFFSET)

    def forget(self) -> None:
        """Close this process's copy of the file, and leave the file to the process that holds it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        """Release the file; an empty one that this run created is removed."""
        if self._descriptor < 0:
            return
        if self._is_noted:
            self._write_holder(0)
        if self._is_new and not self.size:
            with contextlib.suppress(OSError):
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


def _sync_folder(path: str) -> None:
    """Make a rename durable."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(path: str, holder: int | None) -> str:
    who = f"process {holder}" if holder else "another run"
    return (
        f"{path} is in use by {who}. Nothing was changed. Wait for that run, stop it, "
        "or give this one another path."
    )
