"""The reader of the relay: the thread that turns what children print into whole lines.

One rule: nothing is lost and nobody waits. What cannot be shown soon, because no bar is
there or its owner is busy, is written straight to the terminal; a child always finds
somebody who reads. This room knows descriptors and lines, and nothing of who prints.
"""

import os
import queue
import selectors
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from . import config

_PIECE = 1 << 16
_MOST_PIECES = 4096  # that are read at once: who prints for ever does not hold up the rest


def drained(lines: "queue.SimpleQueue[bytes]") -> bytes:
    """Take everything that is in a queue, and do not wait."""
    found = []
    with suppress(queue.Empty):
        while True:
            found.append(lines.get_nowait())
    return b"".join(found)


class Reader:
    """What the relay's thread does; it does not hold the relay, whose end ends it.

    Parameters
    ----------
    bell
        Is readable when there are `requests`, and at its end when nobody is there to ask.
    screen
        The terminal. Both descriptors are closed by the thread.

    Attributes
    ----------
    requests : SimpleQueue
        What to do, with a value, and where to answer: ``"watch"`` a descriptor, ``"attach"`` whom to
        notify or ``None``, ``"close"`` after so many seconds at most.
    """

    def __init__(self, bell: int, screen: int) -> None:
        self.requests: queue.SimpleQueue[tuple[str, Any, queue.SimpleQueue[None]]] = queue.SimpleQueue()
        self._bell, self._screen = bell, screen
        self._selector = selectors.DefaultSelector()
        self._selector.register(bell, selectors.EVENT_READ)
        self._rests: dict[int, bytes] = {}  # by source, what it began of a line
        self._begun: dict[int, float] = {}  # and when it did
        self._notify: Callable[[], None] | None = None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._added = self._taken = self._escaped = 0  # bytes, each counted by one thread
        self._end: float | None = None

    def run(self) -> None:
        """Read until the relay is closed, and then until its children are gone or the time is up."""
        try:
            while self._end is None or (self._rests and time.monotonic() < self._end):
                self._turn()
        finally:
            for source in list(self._rests):
                self._drop(source)
            self._selector.close()
            os.close(self._bell)
            os.close(self._screen)

    def take(self) -> bytes:
        """Take all lines; in the thread of whoever shows them.

        Returns
        -------
        bytes
            They end with the end of a line.
        """
        lines = drained(self._lines)
        self._taken += len(lines)
        return lines

    def _turn(self) -> None:
        """Wait for something and do it."""
        ready = {key.fd for key, _ in self._selector.select(self._patience())}
        if self._bell in ready:
            if not os.read(self._bell, _PIECE):
                self._selector.unregister(self._bell)  # nobody is there to ask any more
            self._obey()
        for source in ready & self._rests.keys():
            self._read(source)
        latest = time.monotonic() - config.unfinished_line_seconds
        for source in [source for source, begun in self._begun.items() if begun <= latest]:
            self._finish_line(source)

    def _patience(self) -> float | None:
        """Return how long nothing needs to be done if nothing comes."""
        ends = [begun + config.unfinished_line_seconds for begun in self._begun.values()]
        if self._end is not None:
            ends.append(self._end)
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _obey(self) -> None:
        """Do what was asked, each behind all that was printed before."""
        with suppress(queue.Empty):
            while True:
                kind, value, answer = self.requests.get_nowait()
                for source in list(self._rests):
                    self._read(source)
                if kind == "watch":
                    self._watch(value)
                elif kind == "attach":
                    self._attach(value)
                else:
                    self._attach(None)
                    self._show(drained(self._lines))  # if whoever was to show them forgot us
                    self._end = time.monotonic() + value
                answer.put(None)

    def _watch(self, source: int) -> None:
        os.set_blocking(source, False)
        self._selector.register(source, selectors.EVENT_READ)
        self._rests[source] = b""

    def _attach(self, notify: Callable[[], None] | None) -> None:
        if notify is None:
            self._finish_lines()
        self._notify = notify

    def _read(self, source: int) -> None:
        """Read what is there from one child."""
        for _ in range(_MOST_PIECES):
            try:
                data = os.read(source, _PIECE)
            except BlockingIOError:
                return
            except OSError:  # how Linux says that the other end is gone
                data = b""
            if not data:
                self._drop(source)
                return
            lines, line_end, rest = (self._rests[source] + data).rpartition(b"\n")
            self._rests[source] = rest
            self._deliver(lines + line_end)
            if line_end or not rest:
                self._begun.pop(source, None)
            if rest:
                self._begun.setdefault(source, time.monotonic())
            if len(rest) > _PIECE:
                self._finish_line(source)

    def _drop(self, source: int) -> None:
        self._finish_line(source)
        del self._rests[source]
        self._selector.unregister(source)
        os.close(source)

    def _finish_lines(self) -> None:
        for source in self._rests:
            self._finish_line(source)

    def _finish_line(self, source: int) -> None:
        """End a line whose rest does not come."""
        if self._rests[source]:
            self._deliver(self._rests[source] + b"\n")
            self._rests[source] = b""
            self._begun.pop(source, None)

    def _deliver(self, lines: bytes) -> None:
        if not lines:
            return
        if self._notify is None:
            self._show(lines)
            return
        self._lines.put(lines)
        self._added += len(lines)
        if self._added - self._taken - self._escaped <= config.printed_bytes:
            self._notify()
            return
        late = drained(
            self._lines
        )  # whoever shows them is busy with something else: the bar comes back later
        self._escaped += len(late)
        self._show(b"\r\x1b[K" + late)

    def _show(self, lines: bytes) -> None:
        """Write to the terminal; one that is gone cannot be helped."""
        with suppress(OSError):
            while lines:
                lines = lines[os.write(self._screen, lines) :]
