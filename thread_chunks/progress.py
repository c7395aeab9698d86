"""Progress: what people see of a run on stderr.

It is driven by the thread that called `chunk`, like everything the user sees, and by
no other: what calls print comes to that thread, which puts it above the bar. On a
terminal and in a notebook there is a bar, which is in `_bar`; anywhere else stderr is a
log file, and gets a line now and then. What there is to say is known to `_pace`, and
nothing here of actors.
"""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from . import config
from ._bar import Bar
from ._pace import Pace
from ._streams import in_notebook, terminal, write


class Progress(Protocol):
    """What is told of the progress of a run."""

    def saved(self, count: int, seconds: float) -> None:
        """Say that some more calls are saved.

        Parameters
        ----------
        count
            How many.
        seconds
            How long they took, all together.
        """

    def failed(self, index: int) -> None:
        """Say that one call failed for good.

        Parameters
        ----------
        index
            Which.
        """

    def printed(self, lines: bytes) -> None:
        """Show what calls printed.

        Parameters
        ----------
        lines
            Whole lines.
        """

    def tick(self) -> None:
        """Say that time passed without news."""

    def close(self) -> None:
        """Show the last state and leave it there."""


class Silent:
    """Show nothing at all of the run."""

    def saved(self, count: int, seconds: float) -> None:
        """Do nothing."""

    def failed(self, index: int) -> None:
        """Do nothing."""

    def printed(self, lines: bytes) -> None:
        """Pass it on."""
        if lines and sys.stderr is not None:
            write(sys.stderr, lines)

    def tick(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """Lines in a log file: soon one that says where the run starts, then one now and then, and one at the end.

    Parameters
    ----------
    pace
        What there is to say.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._stream = sys.stderr
        self._has_news = False
        self._is_closed = False
        self._failure: float | None = None
        self._add(pace.line())

    def saved(self, count: int, seconds: float) -> None:
        """Write a line if the last one is some time ago."""
        self._pace.saved(count, seconds)
        self._has_news = True
        self.tick()

    def failed(self, index: int) -> None:
        """Write a line at once, unless another failure had one just now."""
        self._pace.failed()
        self._has_news = True
        now = time.monotonic()
        if self._failure is None or now - self._failure >= config.log_line_seconds:
            self._failure = now
            self._add(f"{self._pace.line()}; call {index} failed")

    def printed(self, lines: bytes) -> None:
        """Do nothing: what calls print goes where it always went."""

    def tick(self) -> None:
        """Write a line if it is time for one: earlier with news than without."""
        pause = config.log_line_seconds if self._has_news else config.log_idle_seconds
        if time.monotonic() - self._last >= pause:
            self._add(self._pace.line())

    def close(self) -> None:
        """Write the last line."""
        if not self._is_closed:
            self._is_closed = True
            self._pace.end()
            self._add(self._pace.line())

    def _add(self, line: str) -> None:
        self._last = time.monotonic()
        self._has_news = False
        with suppress(OSError, ValueError):  # a log that cannot be written ends no run
            self._stream.write(f"{line}\n")
            self._stream.flush()


def start(pace: Pace, notify: Callable[[], None], *, is_shown: bool) -> Progress:
    """Begin to show the progress of a run.

    Parameters
    ----------
    pace
        What there is to say.
    notify
        Has this thread call `printed` soon; called in other threads of this process, when they print.
    is_shown
        Whether to show anything.

    Returns
    -------
    Progress
        What to tell.
    """
    if not is_shown or sys.stderr is None:
        return Silent()
    return Bar(pace, notify) if in_notebook() or terminal() else Lines(pace)
