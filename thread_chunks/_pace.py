"""The pace of a run: what was counted and timed, and the words for it.

One rule: nothing is claimed that was not measured. What was resumed counts as done
and never as speed; before a call of this run returned, the time left is a question
mark, and so it is when calls take longer than it was thought they would. This room
knows numbers and a clock, and neither terminals nor actors.
"""

import time
from collections.abc import Callable

_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


class Pace:
    """The counts and times of one run.

    Parameters
    ----------
    name
        The function.
    total
        How many calls there are.
    resumed
        How many of them a checkpoint held already.
    at_once
        How many run at the same time.
    stops_at_failure
        Whether no further call is started once one failed.
    clock
        What tells the seconds.

    Attributes
    ----------
    name : str
        The function.
    total : int
        How many calls there are.
    done : int
        How many are saved, the resumed ones included.
    """

    def __init__(
        self,
        name: str,
        total: int,
        resumed: int = 0,
        at_once: int = 1,
        *,
        stops_at_failure: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.total = total
        self.done = resumed
        self._resumed = resumed
        self._at_once = at_once
        self._stops_at_failure = stops_at_failure
        self._clock = clock
        self._failed = 0
        self._seconds = 0.0  # that the saved calls of this run took, one by one
        self._start = self._last = clock()
        self._end: float | None = None

    def saved(self, count: int, seconds: float) -> None:
        """Count calls that returned and are saved.

        Parameters
        ----------
        count
            How many.
        seconds
            How long they took, all together.
        """
        self.done += count
        self._seconds += seconds
        self._last = self._clock()

    def failed(self) -> None:
        """Count a call that failed for good: it has ended, and has no result."""
        self._failed += 1
        self._last = self._clock()

    def end(self) -> None:
        """Stop the clock."""
        if self._end is None:
            self._end = self._clock()

    @property
    def percent(self) -> int:
        """How much is done; rounded down, so that 100 means all."""
        return 100 if self.total == 0 else 100 * self.done // self.total

    @property
    def elapsed(self) -> float:
        """Seconds since the start of this run."""
        return (self._clock() if self._end is None else self._end) - self._start

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take, as far as it was measured; ``None`` if that is not known.

        The larger of two estimates, both made when the last call ended, less the time since then:

        * the mean seconds of a call, times the calls left, divided by how many of them run at once;
        * the time so far, divided by the calls that ended and those that run, times the calls left.

        The first is right for long calls. The second sees what lies between short ones: handing out, saving, slow
        imports. It counts the running calls as if they ended now, so it never says too much.
        """
        left, returned = self._left, self.done - self._resumed
        if not left:
            return 0.0
        if not returned:
            return None
        running = min(self._at_once, left)
        by_calls = self._seconds / returned * left / running
        by_run = (self._last - self._start) * left / (returned + self._failed + running)
        rest = max(by_calls, by_run) - (self._clock() - self._last)
        return rest if rest > 0 else None

    def note(self, width: int | None = None) -> str:
        """Say it in words; where there is no room, without what matters least.

        Parameters
        ----------
        width
            How many characters there is room for; by default enough.

        Returns
        -------
        str
            Such as ``41/60 calls, 12 resumed, 1 failed, 2.4 s/call, 23 s left, 1 min 9 s elapsed``.
        """
        return self._join(f"{self.done}/{self.total} calls", width)

    def line(self) -> str:
        """Say it in a line of its own.

        Returns
        -------
        str
            Such as ``f: 41/60 calls (68%), 12 resumed, 2.4 s/call, 23 s left, 1 min 9 s elapsed``.
        """
        return self._join(f"{self.name}: {self.done}/{self.total} calls ({self.percent}%)", None)

    @property
    def _left(self) -> int:
        return max(0, self.total - self.done - self._failed)

    def _join(self, counts: str, width: int | None) -> str:
        parts = {
            "counts": counts,
            "resumed": f"{self._resumed} resumed" if self._resumed else "",
            "failed": f"{self._failed} failed" if self._failed else "",
            "rate": self._rate(),
            "left": self._time_left(),
            "elapsed": f"{duration(self.elapsed)} elapsed" if self._end is None else self._took(),
        }
        text = ", ".join(filter(None, parts.values()))
        for name in ("elapsed", "rate", "resumed"):
            if width is None or len(text) <= width:
                break
            del parts[name]
            text = ", ".join(filter(None, parts.values()))
        return text

    def _rate(self) -> str:
        """Give calls of this run for each second, as of the last one that ended, or the other way round."""
        ended, seconds = self.done - self._resumed + self._failed, self._last - self._start
        if not ended or seconds <= 0:
            return ""
        if ended < seconds:
            each = seconds / ended
            return f"{each:.3g} s/call" if each < _UNITS[-1][0] else f"{duration(each)}/call"
        rate = ended / seconds
        return f"{rate:,.0f} calls/s" if rate >= 100 else f"{rate:.3g} calls/s"  # noqa: PLR2004 - three digits

    def _time_left(self) -> str:
        if self._end is not None or not self._left:
            return ""
        if self._failed and self._stops_at_failure:
            return "stopping"
        seconds = self.seconds_left
        return "? left" if seconds is None else f"{duration(seconds)} left"

    def _took(self) -> str:
        return f"took {duration(self.elapsed)}"


def duration(seconds: float) -> str:
    """Say how long something takes, in at most two units.

    Parameters
    ----------
    seconds
        How long.

    Returns
    -------
    str
        Such as ``23 s``, ``1 min 9 s``, ``2 h 13 min`` or ``3 d 4 h``.
    """
    if seconds < 1:
        return "<1 s"
    for large, name, small, part in _UNITS:
        if seconds >= large:
            rest = int(seconds % large // small)
            return f"{int(seconds // large)} {name}" + (f" {rest} {part}" if rest else "")
    return f"{int(seconds)} s"
