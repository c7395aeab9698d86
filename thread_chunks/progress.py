"""Progress: the bar on stderr that counts saved calls.

It is driven by the thread that called `chunk`, like everything the user sees. On
a terminal and in a notebook it is a tqdm bar; anywhere else stderr is a log file,
and gets a line now and then. This room knows counts and nothing of actors.
"""

import sys
import threading
from typing import Any, Protocol, TextIO

from . import config
from ._late import imported


class Progress(Protocol):
    """What is told of the progress of a run."""

    def saved(self, count: int) -> None:
        """Say that some more calls are saved.

        Parameters
        ----------
        count
            How many.
        """

    def failed(self) -> None:
        """Say that one call failed for good."""

    def tick(self) -> None:
        """Say that time passed without news."""

    def close(self) -> None:
        """Show the last state and leave it there."""


class Silent:
    """Show nothing at all."""

    def saved(self, count: int) -> None:
        """Do nothing."""

    def failed(self) -> None:
        """Do nothing."""

    def tick(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A tqdm bar.

    Parameters
    ----------
    name
        The function.
    total
        How many calls there are.
    done
        How many of them a checkpoint held already: the bar starts there.
    """

    def __init__(self, name: str, total: int, done: int) -> None:
        stream = sys.stderr
        is_live = bool(getattr(stream, "isatty", bool)()) or _in_notebook()
        options: dict[str, Any] = {} if is_live else {
            "file": _Lines(stream), "mininterval": config.log_line_seconds, "ascii": True, "ncols": 80,
        }  # fmt: skip
        self._is_live = is_live
        self._failures = 0
        self._bar = _bar_class()(desc=name, total=total, initial=done, unit="call", **options)

    def saved(self, count: int) -> None:
        """Move the bar."""
        self._bar.update(count)

    def failed(self) -> None:
        """Count failures beside the bar."""
        self._failures += 1
        self._bar.set_postfix({"failed": self._failures}, refresh=self._is_live)

    def tick(self) -> None:
        """Let the clock of the bar go on."""
        if self._is_live:
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def start(name: str, total: int, done: int, *, is_shown: bool) -> Progress:
    """Begin to show the progress of a run.

    Parameters
    ----------
    name
        The function.
    total
        How many calls there are.
    done
        How many were saved before.
    is_shown
        Whether to show anything.

    Returns
    -------
    Progress
        What to tell.
    """
    if not is_shown or sys.stderr is None:
        return Silent()
    return Bar(name, total, done)


class _Lines:
    """A stream for log files: a new line instead of a return to the start of the old one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = ""

    def write(self, text: str) -> int:
        """Write one state of the bar as one line; line ends and repetitions add nothing."""
        line = text.strip("\r\n")
        if not line.strip() or line == self._last:
            return 0
        self._last = line
        return self._stream.write(f"{line}\n")

    def flush(self) -> None:
        """Pass it on."""
        self._stream.flush()


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


def _bar_class() -> type[Any]:
    """Make a tqdm class of our own: without tqdm's monitor thread and lock between processes."""
    # Slow to import, and not everyone wants a bar; what finds out about notebooks is the slowest part.
    module = imported("tqdm.auto" if _in_notebook() else "tqdm")

    class RunBar(module.tqdm):  # type: ignore[misc, name-defined]
        monitor_interval = 0

    RunBar.set_lock(threading.RLock())
    return RunBar
