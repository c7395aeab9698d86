"""A picture of a run: when each call ran on which worker, and how long each took.

One rule: every call is drawn, and no display is needed. Stretches in which nothing ran, as
between a crash and the resumed run, are cut short and marked. This room knows spans and
matplotlib, which is asked for when a picture is.
"""

from typing import Any

import numpy as np

from ._frame import needed
from ._glance import Spans
from ._outfile import OutputError, replacing
from ._report import clock, duration, printable
from ._summary import Summary

_CUT = 0.1  # a pause is cut if it is longer than this share of the time in which calls ran
_KEPT = 0.02  # and then takes this share of the picture
_COLOURS = ("#3b6ea5", "#8fb4d9")  # in turn, so that neighbours can be told apart
_MINUTES, _HOURS, _DAYS = 60.0, 3600.0, 86400.0


def plot(summary: Summary, out: str) -> None:
    """Draw a run into a file.

    Parameters
    ----------
    summary
        What its checkpoint tells.
    out
        The picture; its extension says which format.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    OutputError
        If no times are known, matplotlib does not know the format, or `out` must not be overwritten.
    """
    figure_of = needed("matplotlib.figure", "plot").Figure
    if not len(summary.traced.index):
        notes = "".join(f": {note}" for note in summary.notes)
        msg = f"{summary.path} tells of no call when it ran, so there is nothing to draw{notes}"
        raise OutputError(msg)
    kind = out.rpartition(".")[2].lower()
    figure = figure_of(figsize=(10, 6.5), layout="constrained")
    if kind not in figure.canvas.get_supported_filetypes():
        msg = f"{out} must end in .png, .pdf or .svg, which says what to draw"
        raise OutputError(msg)
    draw(summary, figure)
    with replacing(out) as file:
        figure.savefig(file, format=kind, dpi=150)


def draw(summary: Summary, figure: Any) -> None:
    """Draw both panels into a figure of matplotlib."""
    lanes, times = figure.subplots(2, 1, height_ratios=(3, 2))
    name = printable(summary.function).replace("$", r"\$")
    figure.suptitle(
        f"{name}: {summary.done} of {summary.calls} calls, {duration(float(summary.seconds.sum()))} of computing"
    )
    _draw_lanes(lanes, summary.traced)
    _draw_times(times, summary)


def _draw_lanes(axes: Any, spans: Spans) -> None:
    collections = needed("matplotlib.collections", "plot")
    begin, end, pauses = without_pauses(spans.started, spans.started + spans.seconds)
    total = end.max() or 1e-9
    unit, name = _unit(float(total))
    workers, lane = np.unique(spans.worker, return_inverse=True)
    corners = np.empty((len(begin), 4, 2))
    corners[:, (0, 1), 0], corners[:, (2, 3), 0] = begin[:, None] / unit, end[:, None] / unit
    corners[:, (0, 3), 1], corners[:, (1, 2), 1] = lane[:, None] - 0.4, lane[:, None] + 0.4
    colours = np.array(_COLOURS)[_turns(lane) % 2]
    axes.add_collection(
        collections.PolyCollection(
            corners, facecolors=colours, edgecolors=colours, linewidths=0.2, rasterized=True
        )
    )
    for place, length in pauses:
        axes.axvline(place / unit, color="0.35", linestyle=":", linewidth=1)
        axes.annotate(
            f"nothing ran for {duration(length)}", (place / unit, 1), xycoords=("data", "axes fraction"),
            xytext=(0, 3), textcoords="offset points", ha="center", fontsize="small", color="0.35",
        )  # fmt: skip
    axes.set_xlim(-0.01 * total / unit, 1.01 * total / unit)
    axes.set_ylim(len(workers) - 0.4, -0.6)
    shown = range(0, len(workers), 1 + len(workers) // 20)
    axes.set_yticks(shown, [str(workers[place]) for place in shown])
    since = clock(float(spans.started[0]))
    cut = ", pauses cut out" if pauses else ""
    axes.set(ylabel="worker", xlabel=f"time since the first start, {since} ({name}){cut}")


def _turns(lane: Any) -> Any:
    """Count the calls of each lane, in the order of their start."""
    turns = np.empty(len(lane), int)
    for each in range(lane.max() + 1):
        own = np.flatnonzero(lane == each)
        turns[own] = np.arange(len(own))
    return turns


def without_pauses(started: Any, ended: Any) -> tuple[Any, Any, list[tuple[float, float]]]:
    """Shift calls together where long stretches lie between them in which none ran.

    Parameters
    ----------
    started, ended
        Seconds; ordered by start.

    Returns
    -------
    array, array, list of (float, float)
        Both from 0 on; and where each pause was cut, in the middle, and how long it was.
    """
    begin, end = started - started[0], ended - started[0]
    latest = np.maximum.accumulate(end)
    gaps = np.maximum(begin[1:] - latest[:-1], 0.0)
    busy = latest[-1] - gaps.sum()
    cut = gaps > _CUT * busy
    kept = _KEPT * busy
    shift = np.concatenate(([0.0], np.cumsum(np.where(cut, gaps - kept, 0.0))))
    begin, end = begin - shift, end - shift
    middles = begin[1:][cut] - kept / 2
    return begin, end, list(zip(middles.tolist(), gaps[cut].tolist(), strict=True))


def _draw_times(axes: Any, summary: Summary) -> None:
    spans = summary.spans
    known = ~np.isnan(spans.seconds)
    seconds = np.maximum(spans.seconds[known], 1e-9)
    unit, name = _unit(float(seconds.max()))
    median = float(np.median(seconds))
    size = float(np.clip(4000 / len(seconds), 1.0, 16.0))
    axes.scatter(spans.index[known], seconds / unit, s=size, color=_COLOURS[0], linewidths=0, rasterized=True)
    axes.axhline(median / unit, color="#c0504d", linewidth=1, label=f"median {duration(median)}")
    if seconds.max() > 50 * seconds.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0)
    axes.set(xlabel="call", ylabel=f"time per call ({name})")
    axes.set_xlim(-0.5 - 0.01 * summary.calls, summary.calls - 0.5 + 0.01 * summary.calls)


def _unit(seconds: float) -> tuple[float, str]:
    """Choose the unit in which a length of time is drawn."""
    for limit, unit, name in ((1e-3, 1e-6, "µs"), (1.0, 1e-3, "ms"), (5 * _MINUTES, 1.0, "s"),
                              (5 * _HOURS, _MINUTES, "min"), (5 * _DAYS, _HOURS, "h")):  # fmt: skip
        if seconds < limit:
            return unit, name
    return _DAYS, "d"
