"""How a summary is shown: as a block for eyes at 2 a.m., or as one object for scripts.

One rule: what comes from a file is shown without control characters, for a stranger may
have written it, and a terminal obeys them. This room knows summaries and text.
"""

import json
import math
import os
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ._glance import Failed
from ._parameters import last_line
from ._summary import Extreme, Summary

_FAILURES = 3  # shown one by one; --json has all of them
_NAMED = 12  # columns of the names at the left


def block(summary: Summary, now: float | None = None) -> list[str]:
    """Lay a summary out for reading.

    Parameters
    ----------
    summary
        What a file tells.
    now
        Seconds since 1970; by default the present.

    Returns
    -------
    list of str
        Its lines, aligned, without line ends.
    """
    lines = []
    for name, text in _rows(summary, time.time() if now is None else now):
        lines.append(f"{name:{_NAMED}}{printable(text)}")
    return lines


def _rows(summary: Summary, now: float) -> Iterator[tuple[str, str]]:
    yield "file", f"{os.path.abspath(summary.path)}, {size_text(summary.size)}"
    yield "function", summary.function or "unknown"
    yield "calls", _counts(summary)
    yield "state", _state(summary)
    yield from _times(summary)
    if summary.started is not None and summary.last_result is not None:
        ago = duration(max(now - summary.last_result, 0.0))
        yield "started", clock(summary.started)
        yield "last result", f"{clock(summary.last_result)}, {ago} ago"
    for place, (index, failed) in enumerate(summary.failures.items()):
        if place == _FAILURES:
            yield "", f"and {len(summary.failures) - _FAILURES} more; --json shows all"
            break
        yield "" if place else "failed", _failure(summary, index, failed)
    for place, damage in enumerate(summary.damages):
        whose = "" if damage.index is None else f" of call {damage.index}"
        what = "a torn tail" if damage.is_tail else f"a damaged record{whose}"
        yield "" if place else "damage", f"{what}, {damage.size} bytes at byte {damage.offset}"
    for place, note in enumerate(summary.notes):
        yield "" if place else "note", note


def _counts(summary: Summary) -> str:
    percent = 100.0 if not summary.calls else math.floor(1000 * summary.done / summary.calls) / 10
    failed = f", {len(summary.failures)} failed" if summary.failures else ""
    left = f", {summary.missing} to do" if summary.missing else ""
    return f"{summary.done} of {summary.calls} done ({percent:.4g} %){left}{failed}"


def _state(summary: Summary) -> str:
    if summary.holder is not None:
        left = summary.seconds_left
        rest = "" if left is None else f"; about {duration(left)} left"
        return f"{summary.state}: process {summary.holder} holds the file{rest}"
    if summary.state == "complete":
        return "complete"
    return "stopped: no run holds the file; make the same call again to go on"


def _times(summary: Summary) -> Iterator[tuple[str, str]]:
    slowest, largest = summary.slowest, summary.largest
    if slowest is not None:
        known = len(summary.seconds)
        of_some = "" if known == summary.done else f" (known of {known} calls)"
        median, total = float(np.median(summary.seconds)), float(summary.seconds.sum())
        yield "time", f"median {duration(median)} per call, {duration(total)} of computing{of_some}"
        yield "slowest", f"{duration(slowest.value)}: {_call(slowest)}"
    if largest is not None:
        yield "memory", f"at most {size_text(int(largest.value))}: {_call(largest)}"


def _call(extreme: Extreme) -> str:
    with_parameters = "" if extreme.parameters is None else f", with {extreme.parameters}"
    return f"call {extreme.index}{with_parameters}"


def _failure(summary: Summary, index: int, failed: Failed) -> str:
    parameters = summary.parameters_of(index)
    with_parameters = "" if parameters is None else f", with {parameters}"
    died = " (it took its process down)" if failed.is_death else ""
    error = last_line(failed.text).removeprefix(f"call {index}: ")
    return f"call {index}{with_parameters}: {error}{died}"


def wrapped(line: str, width: int) -> list[str]:
    """Break a line of a block so that a terminal need not."""
    return textwrap.wrap(
        line, max(width, 3 * _NAMED), subsequent_indent=" " * _NAMED, break_on_hyphens=False
    ) or [""]


def printable(text: str) -> str:
    """Escape what a terminal would obey instead of showing it."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def duration(seconds: float) -> str:
    """Show a duration with two or three digits that matter."""
    for limit, unit, name in ((1e-3, 1e-6, "µs"), (1.0, 1e-3, "ms"), (100.0, 1.0, "s")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    minutes = round(seconds / 60)
    hours, days = minutes // 60, round(seconds / 3600) // 24
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60:02} min" if days < 2 else f"{days} d {round(seconds / 3600) % 24} h"  # noqa: PLR2004


def size_text(size: float) -> str:
    """Show a number of bytes in a unit that fits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size:.0f} bytes"
        size /= 1000
    return f"{size:.4g} TB"


def clock(seconds: float) -> str:
    """Show a moment, in the time of the machine."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


# --- for scripts ---------------------------------------------------------------------


def as_json(summary: Summary) -> str:
    """Write a summary as one JSON object in one line; the documentation lists its keys."""
    seconds = None
    if len(summary.seconds):
        seconds = {
            "known": len(summary.seconds),
            "total": float(summary.seconds.sum()),
            "median": float(np.median(summary.seconds)),
            "slowest": _extreme(summary.slowest, "seconds"),
        }
    return json.dumps(
        {
            "path": os.path.abspath(summary.path),
            "bytes": summary.size,
            "function": summary.function,
            "calls": summary.calls,
            "done": summary.done,
            "failed": len(summary.failures),
            "missing": summary.missing,
            "state": summary.state,
            "holder": summary.holder,
            "seconds": seconds,
            "seconds_left": summary.seconds_left,
            "peak_memory": _extreme(summary.largest, "bytes"),
            "started": summary.started,
            "last_result": summary.last_result,
            "failures": _failures(summary),
            "damages": _damages(summary),
            "notes": list(summary.notes),
        },
        allow_nan=False,
    )


def _failures(summary: Summary) -> list[dict[str, Any]]:
    return [
        {
            "call": index,
            "error": last_line(failed.text),
            "traceback": failed.text,
            "died": failed.is_death,
            "parameters": summary.parameters_of(index),
        }
        for index, failed in summary.failures.items()
    ]


def _damages(summary: Summary) -> list[dict[str, Any]]:
    return [
        {"offset": damage.offset, "bytes": damage.size, "call": damage.index, "is_tail": damage.is_tail}
        for damage in summary.damages
    ]


def _extreme(extreme: Extreme | None, unit: str) -> dict[str, Any] | None:
    if extreme is None:
        return None
    return {"call": extreme.index, unit: extreme.value, "parameters": extreme.parameters}
