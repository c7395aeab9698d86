"""The relay: what child processes print takes a way round, so that it does not tear the bar.

Each child gets the end of a pseudo-terminal as stdout and stderr, where these are the terminal
that the bar is drawn on. A terminal and no pipe: programs that ask are told that it is one,
and C libraries keep no lines back that the end of their process would swallow. One for each:
what two of them print is not mixed within a line. One daemon thread reads them all, and gives
whole lines to whoever shows them.

One rule: nothing is lost and nobody waits. What cannot be shown soon, because no bar is
there or its owner is busy, is written straight to the terminal. This room knows
descriptors, and nothing of bars, runs or workers.
"""

import fcntl
import os
import queue
import selectors
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TextIO

from . import config

_PIECE = 1 << 16
_MOST_PIECES = 4096  # that are read at once: who prints for ever does not hold up the rest


class Relay:
    """What controls the thread, and makes ends for children.

    It ends when `close` is called, or when nobody needs it any more.

    Parameters
    ----------
    screen
        The descriptor of the terminal.
    numbers
        Which of 1 and 2 are that terminal, too.
    """

    def __init__(self, screen: int, numbers: frozenset[int]) -> None:
        self._screen = screen
        self._numbers = numbers
        listening, ringing = map(_above_standard, os.pipe())
        self._bell = open(ringing, "wb", buffering=0)  # noqa: SIM115 - closed by `close`
        self._reader = _Reader(listening, _above_standard(os.dup(screen)))
        self._thread = threading.Thread(target=self._reader.run, name="thread_chunks relay", daemon=True)
        self._thread.start()

    @classmethod
    def around(cls, stream: TextIO) -> Self | None:
        """Make a relay for a terminal, if children would print on that same one.

        Parameters
        ----------
        stream
            What the bar is drawn on.

        Returns
        -------
        Relay or None
            ``None`` if none is needed, or none can be had.
        """
        try:
            screen = stream.fileno()
            numbers = frozenset(number for number in (1, 2) if is_same_terminal(number, screen))
            return cls(screen, numbers) if numbers else None
        except (AttributeError, OSError, ValueError):
            return None

    @contextmanager
    def outputs(self) -> Iterator[tuple[int | None, int | None]]:
        """Give what a child that is started meanwhile gets as stdout and stderr.

        Yields
        ------
        (int or None, int or None)
            ``None`` stands for those of this process, and for all if the system has no pseudo-terminal left.
        """
        try:
            ends = None if self._bell.closed else os.openpty()
        except OSError:
            ends = None
        if ends is None:
            yield None, None
            return
        ours, theirs = map(_above_standard, ends)
        try:
            _make_raw(theirs, self._screen)
            self._ask("watch", ours)
            yield theirs if 1 in self._numbers else None, theirs if 2 in self._numbers else None  # noqa: PLR2004
        finally:
            os.close(theirs)

    def attach(self, notify: Callable[[], None]) -> None:
        """Keep what is printed from now on for `take`.

        Parameters
        ----------
        notify
            Called in the relay's thread each time there is something.
        """
        self._wait(self._ask("attach", notify))

    def take(self) -> bytes:
        """Take the whole lines that are there.

        Returns
        -------
        bytes
            They end with the end of a line.
        """
        return self._reader.take()

    def detach(self) -> bytes:
        """Write straight to the terminal from now on; blocks until what was printed so far is read.

        Returns
        -------
        bytes
            What is still to be shown.
        """
        self._wait(self._ask("attach", None))
        return self.take()

    def close(self) -> None:
        """Take the way round away; blocks until what was printed is written.

        A program that was left behind by a call keeps its end, and finds nobody at the other.
        """
        self._let_go(0.0)
        if self._thread.is_alive():
            self._thread.join(config.grace_seconds)

    def __del__(self) -> None:
        """Close it, if nobody did, and do not wait; children may live and print a moment longer."""
        if hasattr(self, "_thread"):
            self._let_go(config.grace_seconds)

    def _let_go(self, seconds: float) -> None:
        if not self._bell.closed:
            self._ask("close", seconds)
            self._bell.close()

    def _ask(self, kind: str, value: Any) -> "queue.SimpleQueue[None]":
        """Have the thread do something."""
        answer: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._reader.requests.put((kind, value, answer))
        with suppress(OSError, ValueError):
            self._bell.write(b"!")
        return answer

    def _wait(self, answer: "queue.SimpleQueue[None]") -> None:
        """Wait until it has done so; in a fork there is no such thread."""
        if self._thread.is_alive():
            with suppress(queue.Empty):
                answer.get(timeout=config.grace_seconds)


class _Reader:
    """What the relay's thread does; it does not hold the relay, whose end ends it."""

    def __init__(self, bell: int, screen: int) -> None:
        self.requests: queue.SimpleQueue[tuple[str, Any, queue.SimpleQueue[None]]] = queue.SimpleQueue()
        self._bell, self._screen = bell, screen
        self._selector = selectors.DefaultSelector()
        self._selector.register(bell, selectors.EVENT_READ)
        self._rests: dict[int, bytes] = {}  # by source, what it began of a line
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
        """Take all lines; in the thread of whoever shows them."""
        lines = self._all_lines()
        self._taken += len(lines)
        return lines

    def _all_lines(self) -> bytes:
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._lines.get_nowait())
        return b"".join(found)

    def _turn(self) -> None:
        """Wait for something and do it."""
        patience = config.unfinished_line_seconds if any(self._rests.values()) else None
        if self._end is not None:
            left = max(0.0, self._end - time.monotonic())
            patience = left if patience is None else min(patience, left)
        ready = {key.fd for key, _ in self._selector.select(patience)}
        if self._bell in ready:
            if not os.read(self._bell, _PIECE):
                self._selector.unregister(self._bell)  # nobody is there to ask any more
            self._obey()
        for source in ready & self._rests.keys():
            self._read(source)
        if not ready:
            self._finish_lines()

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
                    self._show(self._all_lines())  # if whoever was to show them forgot us
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
        late = self._all_lines()  # whoever shows them is busy with something else: the bar comes back later
        self._escaped += len(late)
        self._show(b"\r\x1b[K" + late)

    def _show(self, lines: bytes) -> None:
        """Write to the terminal; one that is gone cannot be helped."""
        with suppress(OSError):
            while lines:
                lines = lines[os.write(self._screen, lines) :]


def _make_raw(end: int, screen: int) -> None:
    """Let bytes through as they are, and make it as large as the terminal."""
    mode = termios.tcgetattr(end)
    mode[1] &= ~termios.OPOST
    mode[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(end, termios.TCSANOW, mode)
    with suppress(OSError, termios.error):
        termios.tcsetwinsize(end, termios.tcgetwinsize(screen))


def _above_standard(number: int) -> int:
    """Keep a descriptor from the numbers of the standard streams, should these be closed."""
    if number > 2:  # noqa: PLR2004 - stderr
        return number
    try:
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(number)


def is_same_terminal(number: int, screen: int) -> bool:
    """Tell whether two descriptors are one terminal.

    Parameters
    ----------
    number, screen
        The descriptors.

    Returns
    -------
    bool
        Whether they are.
    """
    try:
        return os.isatty(number) and os.fstat(number).st_rdev == os.fstat(screen).st_rdev
    except OSError:
        return False
