"""The bar: one line that is drawn again and again, on a terminal or in a notebook.

One rule: one thread owns it, the one that called `chunk`; only that thread draws, and
writes above the bar what calls printed. Bars of several threads take turns in the one line. This room knows how to draw with tqdm. What
there is to say is known to `_pace`.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from . import config
from ._late import imported
from ._pace import Pace
from ._streams import Streams, drawing, in_notebook, terminal, write

_FORMAT = "{desc}: {whole:3d}%|{bar}| {note}"
_NAME = 24  # columns for the function; there must be room for the rest
_AROUND = 12  # columns of the rest of it, with a bar of a few
_SPARE = 3  # columns beside the bar, for the ^C that a terminal echoes
_drawn: list[Any] = []  # the tqdm bars of all threads; whoever looks holds the lock of `drawing`


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
        with drawing():
            self._wipe()
            write(self._terminal, lines)
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
            with drawing():
                self._wipe()
                self._bar.n = self._pace.done
                self._bar.close()
                _drawn.remove(self._bar)
        self._is_closed = True

    def _draw(self) -> None:
        with drawing():
            if self._bar is None:
                self._bar = self._made()
                _drawn.append(self._bar)
            self._bar.n = self._pace.done
            self._bar.refresh()
        self._drawn = time.monotonic()

    def _made(self) -> Any:
        pace = self._pace
        # A notebook has a place of its own for a bar, which tqdm finds.
        where = {"file": self._terminal, **_shape(self._terminal)} if self._terminal else {}
        if self._streams is not None and _drawn:
            where["position"] = abs(
                _drawn[0].pos
            )  # tqdm would give each bar a line, and know nothing of what is printed
        kind = _bar_class(pace)
        name = pace.name if len(pace.name) <= _NAME else f"{pace.name[: _NAME - 3]}..."
        return kind(desc=name, total=pace.total, initial=pace.done, bar_format=_FORMAT, **where)

    def _wipe(self) -> None:
        if self._terminal is None or self._is_closed:
            return
        if self._bar is not None:
            self._bar.fp.write(f"\r{' ' * ((self._bar.ncols or 1) - 1)}\r")
        elif self._streams is not None and self._streams.is_shared:
            write(self._terminal, b"\r\x1b[K")  # the bar of another thread is in the line


def _shape(screen: TextIO) -> dict[str, Any]:
    """Tell tqdm how large a terminal is: it asks the terminal itself, and draws nothing on one that does not say."""
    columns, rows = 0, 0
    with suppress(OSError, ValueError):  # it may be gone
        columns, rows = os.get_terminal_size(screen.fileno())
    if columns and rows:
        return {"dynamic_ncols": True}
    usual = shutil.get_terminal_size()  # what $COLUMNS and $LINES say, or 80 times 24
    return {"ncols": columns or usual.columns, "nrows": rows or usual.lines}


def _bar_class(pace: Pace) -> type[Any]:
    """Make a tqdm class of our own: in our words, and without tqdm's monitor thread and lock between processes."""
    # Slow to import, and not everyone wants a bar; what finds out about notebooks is the slowest part.
    module = imported("tqdm.auto" if in_notebook() else "tqdm")

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
