"""Progress: what people see of a run on stderr.

It is driven by the thread that called `chunk`, like everything the user sees, and by
no other: what calls print comes to that thread, which puts it above the bar. On a
terminal and in a notebook there is a tqdm bar; anywhere else stderr is a log file, and
gets a line now and then. This room knows how to show; what there is to say is known to
`_pace`, and of actors it knows nothing.
"""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TextIO

from . import config
from ._late import imported
from ._pace import Pace
from ._streams import Streams

_FORMAT = "{desc}: {whole:3d}%|{bar}| {note}"
_NAME = 24  # columns for the function; there must be room for the rest
_AROUND = 12  # columns of the rest of it, with a bar of a few
_SPARE = 3  # columns beside the bar, for the ^C that a terminal echoes


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
            _write(sys.stderr, lines)

    def tick(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A tqdm bar, on a terminal or in a notebook; it is drawn by the first `tick` or news.

    Parameters
    ----------
    pace
        What there is to say.
    notify
        Has the thread of the bar call `printed` soon; called in other threads of this process, when they print.
    """

    def __init__(self, pace: Pace, notify: Callable[[], None]) -> None:
        self._pace = pace
        self._terminal = terminal()
        self._bar: Any = None
        self._drawn = 0.0
        self._is_closed = False
        # Before any call runs: what is printed before the bar is there must not stand in its line.
        self._streams = Streams(self._terminal, self.printed, notify) if self._terminal else None

    def saved(self, count: int, seconds: float) -> None:
        """Move the bar; it is drawn again a few times a second."""
        self._pace.saved(count, seconds)
        if time.monotonic() - self._drawn >= config.bar_seconds or self._pace.done == self._pace.total:
            self._draw()

    def failed(self, index: int) -> None:
        """Count it in the bar, at once."""
        self._pace.failed()
        self._draw()

    def printed(self, lines: bytes) -> None:
        """Take the bar away, write the lines, and draw it again below them."""
        if self._streams is not None:
            lines += self._streams.take()
        if not lines or self._terminal is None:
            return
        self._wipe()
        _write(self._terminal, lines)
        if self._bar is not None and not self._is_closed:
            self._draw()

    def tick(self) -> None:
        """Let the clock of the bar go on."""
        self._draw()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._is_closed:
            return
        if self._streams is not None:
            self._streams.close()
        self.printed(b"")
        self._pace.end()
        if self._bar is not None:
            self._wipe()
            self._bar.n = self._pace.done
            self._bar.close()
        self._is_closed = True

    def _draw(self) -> None:
        if self._bar is None:
            self._bar = self._made()
        self._bar.n = self._pace.done
        self._bar.refresh()
        self._drawn = time.monotonic()

    def _made(self) -> Any:
        pace = self._pace
        # A notebook has a place of its own for a bar, which tqdm finds.
        where = {"file": self._terminal, "dynamic_ncols": True} if self._terminal else {}
        kind = _bar_class(pace)
        name = pace.name if len(pace.name) <= _NAME else f"{pace.name[: _NAME - 3]}..."
        return kind(desc=name, total=pace.total, initial=pace.done, bar_format=_FORMAT, **where)

    def _wipe(self) -> None:
        if self._bar is not None and self._terminal is not None and not self._is_closed:
            self._bar.fp.write(f"\r{' ' * ((self._bar.ncols or 1) - 1)}\r")


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
    return Bar(pace, notify) if _in_notebook() or terminal() else Lines(pace)


def terminal() -> TextIO | None:
    """Return stderr if a bar is drawn on it as on a terminal.

    Returns
    -------
    TextIO or None
        ``None`` where stderr is a log file, or a notebook.
    """
    stream = sys.stderr
    return stream if not _in_notebook() and getattr(stream, "isatty", bool)() else None


def _write(stream: TextIO, lines: bytes) -> None:
    """Write bytes as they are, if the stream can; a terminal that is gone ends no run."""
    with suppress(OSError, ValueError):
        if hasattr(stream, "buffer"):
            stream.flush()
            stream.buffer.write(lines)
        else:
            stream.write(lines.decode(errors="replace"))
        stream.flush()


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


def _bar_class(pace: Pace) -> type[Any]:
    """Make a tqdm class of our own: in our words, and without tqdm's monitor thread and lock between processes."""
    # Slow to import, and not everyone wants a bar; what finds out about notebooks is the slowest part.
    module = imported("tqdm.auto" if _in_notebook() else "tqdm")

    class RunBar(module.tqdm):  # type: ignore[misc, name-defined]
        monitor_interval = 0

        @property
        def format_dict(self) -> dict[str, Any]:
            """Add our words to what tqdm knows."""
            known = super().format_dict
            width = None
            if isinstance(known["ncols"], int) and known["ncols"] > _SPARE:
                known["ncols"] -= _SPARE
                width = known["ncols"] - len(self.desc) - _AROUND
            return {**known, "whole": pace.percent, "note": pace.note(width)}

    RunBar.set_lock(threading.RLock())
    return RunBar
