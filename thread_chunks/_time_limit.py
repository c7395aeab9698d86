"""When a run has to end: what the user said, and whether one more call may end before it.

One rule: no call starts that would not end before the limit if it took as long as the longest
so far. Pure policy, as the plan is: somebody else looks at the clock.
"""

import math
import numbers
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeAlias

from ._pace import duration
from ._parameters import shown
from .errors import TimeLimitError

Moment: TypeAlias = datetime | timedelta | float
"""A time, the time from now to it, or its seconds since 1970."""

_EARLIEST = 1e9  # in 2001, before any run; and nobody means 31 years from now


def to_seconds(stop_before: object, now: float) -> float:
    """Read a time.

    Parameters
    ----------
    stop_before
        What the user said: a `Moment`.
    now
        The time that a `timedelta` counts from, in seconds since 1970.

    Returns
    -------
    float
        Seconds since 1970. It may be past.

    Raises
    ------
    TypeError, ValueError
        If it is something else, with the fix.
    """
    if isinstance(stop_before, timedelta):
        seconds = now + stop_before.total_seconds()
    elif isinstance(stop_before, datetime):
        seconds = _timestamp(stop_before)
    elif isinstance(stop_before, numbers.Real) and not isinstance(stop_before, bool):
        seconds = _since_1970(float(stop_before))
    else:
        raise TypeError(_expected(stop_before) + _number_in(stop_before))
    if _text(seconds) is None:
        raise ValueError(f"{_expected(stop_before)}: that is not between the years 1 and 9999")
    return seconds


def _timestamp(moment: datetime) -> float:
    try:
        return moment.timestamp()
    except (ValueError, OverflowError, OSError) as error:  # at the ends of the calendar, and pandas' NaT
        raise ValueError(_expected(moment)) from error


def _since_1970(seconds: float) -> float:
    if not math.isfinite(seconds):
        raise ValueError(f"{_expected(seconds)}: leave it out for no limit")
    when = _text(seconds)
    if seconds < _EARLIEST and when is not None:
        number = int(seconds) if seconds.is_integer() else seconds
        year = int(when[:4])
        msg = (
            f"stop_before={number} is a time in seconds since 1970, and {number} is in {year}: "
            f"write time.time() + {number} or timedelta(seconds={number})"
        )
        raise ValueError(msg)
    return seconds


def _expected(value: object) -> str:
    return (
        "stop_before must be a datetime, a timedelta from now, or a time in seconds since 1970, "
        f"such as time.time() + 3600, not {shown(value)}"
    )


def _number_in(value: object) -> str:
    """Show how to turn text into a number, as an environment variable has it, if it is one."""
    with suppress(TypeError, ValueError):
        if isinstance(value, str) and float(value):
            return f": write float({value!r})"
    return ""


def _text(seconds: float) -> str | None:
    """Say it as a local time; ``None`` if it is too far away for that."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")[:19]
    except (ValueError, OverflowError, OSError):
        return None


class TimeLimit:
    """What is known of the time that a run has.

    Parameters
    ----------
    limit
        When it has to be over, in seconds since 1970; ``None`` for no limit.
    longest
        Seconds that the longest call took that is known of.

    Attributes
    ----------
    now : float
        The time, in seconds since 1970, as it was told last.
    """

    def __init__(self, limit: float | None, longest: float) -> None:
        self._limit = limit
        self._longest = longest
        self.now = 0.0

    def took(self, seconds: float) -> None:
        """Learn how long a call, or a chunk of short ones, took."""
        self._longest = max(self._longest, seconds)

    @property
    def is_near(self) -> bool:
        """Whether a call that starts now may not end before the limit."""
        return self._limit is not None and self.now + self._longest >= self._limit

    @property
    def has_come(self) -> bool:
        """Whether the limit is past."""
        return self._limit is not None and self.now >= self._limit

    def error(self, *, is_running: bool) -> TimeLimitError:
        """Say why the run ends.

        Parameters
        ----------
        is_running
            Whether calls run that must be given up.

        Returns
        -------
        TimeLimitError
            To be raised.
        """
        assert self._limit is not None
        when = _text(self._limit)
        took = f": the longest so far took {duration(self._longest)}" if self._longest else ""
        if is_running:
            return TimeLimitError(f"what still ran at {when} was given up, as stop_before says{took}")
        if not took:
            return TimeLimitError(f"no call was started, because {when} is past, and stop_before says so")
        return TimeLimitError(f"no call was started that may not end before {when}{took}")
