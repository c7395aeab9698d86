"""What this process itself prints while a bar is on its terminal: whole lines, above the bar.

Workers that are threads print through `sys.stdout` and `sys.stderr` of the script, and so do its
callbacks. While a bar is there, these two are replaced by streams that pass on whole lines:
those of a bar's own thread at once, those of others by way of such a thread.

One rule: there is one stream of ours around each, which all bars of the process share; the last
of them puts back what was there. A stream of ours that somebody kept does no harm: once the bars
are gone, or in a fork, it writes straight to the one it stands for. This room knows streams and
nothing of runs.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TextIO

from ._reader import drained
from ._relay import is_same_terminal

_NAMES = ("stdout", "stderr")


class Streams:
    """Both streams, from now until `close`, for one bar.

    Parameters
    ----------
    terminal
        What the bar is drawn on.
    show
        Shows lines above the bar; called in the thread that makes this object.
    notify
        Called in any other thread when there is something to `take`.
    """

    def __init__(self, terminal: TextIO, show: Callable[[bytes], None], notify: Callable[[], None]) -> None:
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.owner = threading.get_ident()
        self.show, self.notify = show, notify
        self._ours: dict[str, _Stream] = {}
        with drawing():
            for name in _NAMES:
                stream = getattr(sys, name)
                if _is_on(terminal, stream):
                    self._ours[name] = _Stream.around(stream)
                    self._ours[name].join(self)
                    setattr(sys, name, self._ours[name])

    @property
    def is_shared(self) -> bool:
        """Whether another bar is on the terminal."""
        return any(ours.is_shared for ours in self._ours.values())

    def take(self) -> bytes:
        """Take the whole lines that other threads printed.

        Returns
        -------
        bytes
            They end with the end of a line.
        """
        return drained(self.lines)

    def close(self) -> None:
        """Let go of the streams; lines that were only begun, and are nobody else's, are there to be taken.

        The last one who does so puts back the streams that were there.
        """
        with drawing():
            for name, ours in self._ours.items():
                is_last = ours.leave(self)
                if (
                    is_last and getattr(sys, name) is ours
                ):  # else somebody replaced it, and will put ours back
                    setattr(sys, name, ours.stream)
            self._ours.clear()


class _Stream:
    """One of them; all but writing is left to the stream it stands for."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.process = os.getpid()
        self._begun: dict[int, str] = {}  # what each thread wrote of a line
        self._users: list[Streams] = []
        self._lock = threading.RLock()  # nobody passes on lines to one who has left

    @classmethod
    def around(cls, stream: Any) -> "_Stream":
        """Return the stream of ours that stands for another: the same one for every bar."""
        if type(stream) is cls and stream.process == os.getpid():
            return stream
        return cls(bare(stream))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @property
    def is_shared(self) -> bool:
        """Whether more than one bar uses it."""
        return len(self._users) > 1

    def join(self, user: Streams) -> None:
        """Pass on lines to somebody from now on."""
        with self._lock:
            self._users.append(user)

    def leave(self, user: Streams) -> bool:
        """Pass on no more to somebody, but for the lines that were only begun; tell whether that was the last one."""
        if os.getpid() != self.process:  # a fork has no such bars, nor the thread that may hold the lock
            return False
        with self._lock:
            self._users.remove(user)
            for writer in [user.owner] if self._users else list(self._begun):
                if text := self._begun.pop(writer, ""):
                    user.lines.put(self._encoded(f"{text}\n"))
            return not self._users

    def write(self, text: str) -> int:
        """Keep what is no whole line yet, and pass on the others."""
        if not self._users or os.getpid() != self.process or sys.is_finalizing():
            return self.stream.write(text)
        writer = threading.get_ident()
        with self._lock:
            lines = self._begun.pop(writer, "") + text
            own = next((user for user in reversed(self._users) if user.owner == writer), None)
            other = self._users[0] if self._users else None
            if other is not None:
                lines, line_end, rest = lines.rpartition("\n")
                lines += line_end
                if rest:
                    self._begun[writer] = rest
                if lines and own is None:
                    other.lines.put(self._encoded(lines))
        if lines:
            self._show(lines, own, other)
        return len(text)

    def _show(self, lines: str, own: Streams | None, other: Streams | None) -> None:
        """Have lines shown, by the thread that wrote them if it has a bar."""
        if own is not None:
            own.show(self._encoded(lines))
        elif other is not None:
            other.notify()
        else:
            self.stream.write(lines)  # the last bar has just gone

    def writelines(self, lines: Iterable[str]) -> None:
        """Write them one after the other."""
        for line in lines:
            self.write(line)

    def _encoded(self, text: str) -> bytes:
        return text.encode(self.stream.encoding or "utf-8", "backslashreplace")


def bare(stream: Any) -> Any:
    """Return a stream without ours around it.

    Parameters
    ----------
    stream
        Any stream, or ``None``.

    Returns
    -------
    Any
        What ours stands for.
    """
    while type(stream) is _Stream:
        stream = stream.stream
    return stream


_drawing = threading.RLock()


def drawing() -> Any:
    """Return the lock that whoever writes to the terminal beside other bars holds meanwhile.

    Returns
    -------
    Any
        A context manager, the same one for the whole process.
    """
    return _drawing


def _begin_anew() -> None:
    """In a fork, nobody is there who held it."""
    global _drawing  # noqa: PLW0603 - there is one terminal
    _drawing = threading.RLock()


os.register_at_fork(after_in_child=_begin_anew)


def _is_on(terminal: TextIO, stream: Any) -> bool:
    try:
        return is_same_terminal(stream.fileno(), terminal.fileno())
    except (AttributeError, OSError, ValueError):
        return False


def terminal() -> TextIO | None:
    """Return stderr if a bar is drawn on it as on a terminal.

    Returns
    -------
    TextIO or None
        ``None`` where stderr is a log file, or a notebook.
    """
    stream = bare(sys.stderr)
    return stream if not in_notebook() and getattr(stream, "isatty", bool)() else None


def write(stream: TextIO, lines: bytes) -> None:
    """Write bytes as they are, if the stream can; a terminal that is gone ends no run.

    Parameters
    ----------
    stream
        Where to.
    lines
        What.
    """
    with suppress(OSError, ValueError):
        if hasattr(stream, "buffer"):
            stream.flush()
            stream.buffer.write(lines)
        else:
            stream.write(lines.decode(errors="replace"))
        stream.flush()


def in_notebook() -> bool:
    """Tell whether this is the process behind a notebook.

    Returns
    -------
    bool
        Whether it is.
    """
    return "ipykernel" in sys.modules
