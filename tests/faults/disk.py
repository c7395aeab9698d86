"""A disk that fails on request: it stands between the checkpoint's log and the operating system.

`Disk` takes the place of the ``os`` module inside `thread_chunks._log`, the only room
that touches the disk. It counts the operations that change it and can, at the nth one,
raise an error, write only half, or kill the process, before, half-way or after. And it
records what was done, so that `crash_states` can say what may be on the disk if
the power fails at any moment. (The ideas are SQLite's nth-fault loops and ALICE's
abstract persistence model, Pillai et al., 2014.)
"""

import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, product
from typing import Any, NamedTuple

import thread_chunks._log

CHANGES = ("write", "fsync", "replace", "ftruncate", "link", "pwrite")
"""The operations that are counted."""

QUESTIONS = (
    "open",
    "fstat",
    "stat",
    "lstat",
    "pread",
    "lseek",
    "fchmod",
    "unlink",
    "close",
    "makedirs",
    "listdir",
    "dup",
    "rename",
)
"""Those that change nothing, or nothing that has to be durable: they fail only where a fault names them."""  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong.

    Attributes
    ----------
    at : int
        At which operation that matches, counted from 1.
    operations : tuple of str
        Which operations count.
    error : int
        The errno that is raised; 0 to kill the process.
    when : str
        Whether that happens "before" the operation, "half" way through it, or "after" it.
    is_lasting : bool
        Whether every later operation that matches fails too.
    """

    at: int
    operations: tuple[str, ...] = CHANGES
    error: int = 0
    when: str = "before"
    is_lasting: bool = False


class Change(NamedTuple):
    """One thing that was done to the disk, or told to the user."""

    what: str
    file: int = 0
    """Which file, in the order in which they were created; 0 for a folder."""
    name: str = ""
    offset: int = 0
    data: bytes = b""
    target: str = ""


@dataclass
class Disk:
    """The ``os`` module as `thread_chunks._log` sees it.

    Parameters
    ----------
    fault
        What goes wrong, if anything.
    before
        Called with the name of each counted operation before it is done.
    """

    fault: Fault | None = None
    before: Callable[[str], None] | None = None
    matched: int = 0
    done: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)
    _next: Iterator[int] = field(default_factory=lambda: count(1))

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if self.fault is None or name not in QUESTIONS or name not in self.fault.operations:
            return found
        if name == "close":
            return self._close
        return lambda *args, **options: self._do(name, lambda part: found(*args, **options) if part else None)

    def _close(self, descriptor: int) -> None:
        """As Linux does: the descriptor is free, also where an error is told."""
        os.close(descriptor)
        self._do("close", lambda part: None)

    def install(self) -> "Disk":
        """Stand between the log and the system from now on."""
        vars(thread_chunks._log)["os"] = self
        return self

    def told(self, index: int) -> None:
        """Note that the user was told that a result is saved."""
        self.changes.append(Change("told", offset=index))

    def found(self, path: str) -> None:
        """Note a file that is there, whole and durable, when the recording begins."""
        with open(path, "rb") as file:
            number = self._created(file.fileno())
            self.changes += [
                Change("create", number, name=path),
                Change("write", number, data=file.read()),
                Change("fsync", number),
                Change("fsync"),
            ]

    def _created(self, descriptor: int) -> int:
        self._numbers.pop(os.fstat(descriptor).st_ino, None)  # inodes are used again, our numbers are not
        return self._number(descriptor)

    def _number(self, descriptor: int) -> int:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            return 0
        if found.st_ino not in self._numbers:
            self._numbers[found.st_ino] = next(self._next)
        return self._numbers[found.st_ino]

    # --- the operations that change the disk --------------------------------------------

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """Open a file; note it if that creates it."""
        is_new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        descriptor = int(self._do("open", lambda part: os.open(path, flags, mode) if part else -1))
        if is_new:
            self.changes.append(Change("create", self._created(descriptor), name=os.fspath(path)))
        return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        """Write at the descriptor's place."""
        offset = os.lseek(descriptor, 0, os.SEEK_CUR)

        def write(part: float) -> int:
            return self._note_write(descriptor, offset, bytes(data[: int(len(data) * part)]), os.write)

        return int(self._do("write", write))

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        """Write at a place."""

        def write(part: float) -> int:
            piece = data[: int(len(data) * part)]
            return self._note_write(descriptor, offset, piece, lambda fd, it: os.pwrite(fd, it, offset))

        return int(self._do("pwrite", write))

    def fsync(self, descriptor: int) -> None:
        """Make a file, or the names in a folder, durable."""

        def fsync(part: float) -> None:
            if part == 1:
                os.fsync(descriptor)
                self.changes.append(Change("fsync", self._number(descriptor)))

        self._do("fsync", fsync)

    def ftruncate(self, descriptor: int, size: int) -> None:
        """Cut a file."""

        def ftruncate(part: float) -> None:
            if part == 1:
                os.ftruncate(descriptor, size)
                self.changes.append(Change("truncate", self._number(descriptor), offset=size))

        self._do("ftruncate", ftruncate)

    def replace(self, source: str, target: str) -> None:
        """Give a file the name of another."""

        def replace(part: float) -> None:
            if part == 1:
                os.replace(source, target)
                self.changes.append(Change("rename", name=source, target=target))

        self._do("replace", replace)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name."""

        def link(part: float) -> None:
            if part == 1:
                os.link(source, target)
                self.changes.append(Change("link", name=source, target=target))

        self._do("link", link)

    def unlink(self, path: str) -> None:
        """Remove a name."""
        self._do("unlink", lambda part: os.unlink(path) if part else None)
        self.changes.append(Change("unlink", name=path))

    # --- what goes wrong ------------------------------------------------------------------

    def _note_write(
        self, descriptor: int, offset: int, data: bytes, write: Callable[[int, bytes], int]
    ) -> int:
        count = write(descriptor, data)
        self.changes.append(Change("write", self._number(descriptor), offset=offset, data=data[:count]))
        return count

    def _do(self, name: str, operation: Callable[[float], Any]) -> Any:
        """Carry an operation out, or let it fail."""
        if self.before is not None:
            self.before(name)
        fault = self.fault
        if fault is None or name not in fault.operations:
            self.done.append(name)
            return operation(1)
        self.matched += 1
        if self.matched < fault.at or (self.matched > fault.at and not fault.is_lasting):
            self.done.append(name)
            return operation(1)
        if fault.when != "before":
            operation(0.5 if fault.when == "half" else 1)
        if not fault.error:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(fault.error, os.strerror(fault.error))


def fails(at: int, error: str = "EIO", *operations: str, when: str = "before", lasting: bool = False) -> Disk:
    """Install a disk on which the nth operation fails."""
    return Disk(Fault(at, operations or CHANGES, getattr(errno, error), when, lasting)).install()


def kills(at: int, when: str, *operations: str) -> Disk:
    """Install a disk whose nth operation is the last thing that this process does."""
    return Disk(Fault(at, operations or CHANGES, when=when)).install()


# --- what may be on the disk when the power fails ------------------------------------------


def crash_states(changes: list[Change], first: int = 0) -> Iterator[tuple[dict[str, bytes], set[int]]]:
    """Yield every state in which a power cut may leave the files, and what the user had been told by then.

    The model is a weak one. What was written since the last fsync of its file may be
    there, or not, or half of it, or as zeros only; each write by itself. A name that
    was given or taken since the last fsync of its folder may be there or not. Names
    keep their order among each other, as journals of file systems do.
    The `first` changes were there before there was any danger.
    """
    for moment in range(first, len(changes) + 1):
        past = changes[:moment]
        told = {change.offset for change in past if change.what == "told"}
        seen = set[tuple[tuple[str, bytes], ...]]()
        for names in _name_states(past):
            files = sorted(set(names.values()))
            for contents in product(*(_content_states(past, file) for file in files)):
                content = dict(zip(files, contents, strict=True))
                state = {name: content[file] for name, file in names.items()}
                key = tuple(sorted(state.items()))
                if key not in seen:
                    seen.add(key)
                    yield state, told


def _name_states(past: list[Change]) -> Iterator[dict[str, int]]:
    """Yield which names may exist: all that were made durable, and the first so many of the others."""
    kinds = {"create", "rename", "link", "unlink"}
    given = [change for change in past if change.what in kinds]
    synced = max((number for number, change in enumerate(past) if change == Change("fsync")), default=0)
    durable = sum(change.what in kinds for change in past[:synced])
    for kept in range(durable, len(given) + 1):
        names = {}
        for change in given[:kept]:
            if change.what == "create":
                names[change.name] = change.file
            elif change.what == "link":
                names[change.target] = names[change.name]
            elif change.what == "unlink":
                names.pop(change.name, None)
            else:
                names[change.target] = names.pop(change.name)
        yield names


def _content_states(past: list[Change], file: int) -> list[bytes]:
    """Return what may be in a file: all that was synced, and any part of what came after."""
    own = [change for change in past if change.file == file and change.what in {"write", "truncate", "fsync"}]
    synced = max((number for number, change in enumerate(own) if change.what == "fsync"), default=-1)
    base = b""
    for change in own[: synced + 1]:
        base = _apply(base, change, "whole")
    loose = [change for change in own[synced + 1 :] if change.what != "fsync"]
    states = {base}
    for fates in product(("none", "half", "zeros", "whole"), repeat=len(loose)):
        content = base
        for change, fate in zip(loose, fates, strict=True):
            content = _apply(content, change, fate)
        states.add(content)
    return sorted(states)


def _apply(content: bytes, change: Change, fate: str) -> bytes:
    if change.what == "fsync" or fate == "none":
        return content
    if change.what == "truncate":
        return content[: change.offset].ljust(change.offset, b"\0")
    data = change.data
    if fate == "zeros":
        data = bytes(len(data))
    elif fate == "half":
        data = data[: len(data) // 2]
    content = content.ljust(change.offset, b"\0")
    return content[: change.offset] + data + content[change.offset + len(data) :]
