"""What this process itself prints while a bar is on its terminal: whole lines, above the bar.

Workers that are threads print through `sys.stdout` and `sys.stderr` of the script, and so do its
callbacks. While the bar is there, these two are replaced by streams that pass on whole lines:
those of the bar's own thread at once, those of others by way of that thread.

One rule: a stream of ours that somebody kept does no harm. Once the bar is gone, or in a
fork, it writes straight to the one it stands for. This room knows streams and nothing of runs.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TextIO

from ._reader import drained
from ._relay import is_same_terminal

_NAMES = ("stdout", "stderr")


class Streams:
    """Both streams, from now until `close`.

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
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._owner = threading.get_ident()
        self._show, self._notify = show, notify
        self._ours: dict[str, _Stream] = {}
        for name in _NAMES:
            stream = getattr(sys, name)
            if _is_on(terminal, stream):
                self._ours[name] = _Stream(stream, self._pass_on)
                setattr(sys, name, self._ours[name])

    def take(self) -> bytes:
        """Take the whole lines that other threads printed.

        Returns
        -------
        bytes
            They end with the end of a line.
        """
        return drained(self._lines)

    def close(self) -> None:
        """Put the streams back that were there; lines that were only begun are there to be taken."""
        for name, ours in self._ours.items():
            if getattr(sys, name) is ours:  # else somebody else replaced it, and will put ours back
                setattr(sys, name, ours.stream)
            for text in ours.close():
                self._lines.put(text)
        self._ours.clear()

    def _pass_on(self, lines: bytes) -> None:
        if threading.get_ident() == self._owner:
            self._show(lines)
        else:
            self._lines.put(lines)
            self._notify()


class _Stream:
    """One of them; all but writing is left to the stream it stands for."""

    def __init__(self, stream: TextIO, pass_on: Callable[[bytes], None]) -> None:
        self.stream = stream
        self._pass_on = pass_on
        self._process = os.getpid()
        self._begun: dict[int, str] = {}  # what each thread wrote of a line
        self._is_open = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Keep what is no whole line yet, and pass on the others."""
        if not self._is_open or os.getpid() != self._process or sys.is_finalizing():
            return self.stream.write(text)
        writer = threading.get_ident()
        lines, line_end, rest = (self._begun.pop(writer, "") + text).rpartition("\n")
        if rest:
            self._begun[writer] = rest
        if line_end:
            self._pass_on(self._encoded(lines + line_end))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write them one after the other."""
        for line in lines:
            self.write(line)

    def close(self) -> Iterator[bytes]:
        """Write straight to the stream from now on; give the lines that were only begun."""
        self._is_open = False
        while self._begun:
            _, text = self._begun.popitem()
            yield self._encoded(f"{text}\n")

    def _encoded(self, text: str) -> bytes:
        return text.encode(self.stream.encoding or "utf-8", "backslashreplace")


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
    stream = sys.stderr
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
