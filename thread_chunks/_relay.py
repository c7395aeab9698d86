"""The relay: what child processes print takes a way round, so that it does not tear the bar.

Each child gets the end of a pseudo-terminal as stdout and stderr, where these are the terminal
that the bar is drawn on. A terminal and no pipe: programs that ask are told that it is one,
and C libraries keep no lines back that the end of their process would swallow. One for each:
what two of them print is not mixed within a line. What reads the other ends is in `_reader`.

One rule: whatever the relay needs ends with it. This room knows descriptors, and nothing of
bars, runs or workers.
"""

import fcntl
import os
import queue
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TextIO

from . import config
from ._reader import Reader


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
        self._reader = Reader(listening, _above_standard(os.dup(screen)))
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
