"""The plots: a run that was killed and resumed, and the tables of the page on performance.

One rule: no figure stands here. Those of the run are in ``timeline.json``, as `timeline.py` measured them, and the
speeds are read from the page itself, so that picture and table cannot differ.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from canvas import Canvas, Point

DOCS = Path(__file__).resolve().parent.parent


# --- a run, killed and resumed ------------------------------------------------------------------

LEFT, RIGHT = 66.0, 508.0
LANE = 24


Call: TypeAlias = dict[str, Any]


def timeline() -> Canvas:
    """Draw each call as a bar in the lane of its worker, in both runs."""
    text = (DOCS / "pictures" / "timeline.json").read_text(encoding="utf-8")
    runs: list[list[Call]] = json.loads(text)
    lost = {call["index"] for call in runs[0] if not call["saved"]}
    lengths = [max(call["end"] for call in run) for run in runs]
    width = (RIGHT - LEFT - 34) / sum(lengths)
    lanes = 1 + max(call["worker"] for run in runs for call in run)
    bottom = 44 + lanes * LANE
    picture = Canvas(
        "A run on two workers is killed; the calls that were running are lost, and the next run computes these and what"
        " was missing",
        520,
        bottom + 62,
    )
    for lane in range(lanes):
        picture.words(Point(8, 44 + lane * LANE + 15), f"worker {lane + 1}", "soft", anchor="start")
    left = LEFT
    for title, run, length in zip(["first run", "the same call again"], runs, lengths, strict=True):
        right = left + length * width
        picture.words(Point(left, 32), title, anchor="start", size=12, is_bold=True)
        picture.line(Point(left, bottom + 4), Point(right, bottom + 4))
        for call in run:
            _call(picture, call, left, width, "ours" if call["index"] in lost else "saved")
        left = right + 34
    end = LEFT + lengths[0] * width + 4
    picture.line(Point(end, 24), Point(end, bottom + 8), "lost")
    picture.words(Point(end, bottom + 24), "kill -9", "lost", is_code=True)
    _legend_of_run(picture, bottom + 50)
    return picture


def _call(picture: Canvas, call: Call, left: float, width: float, colour: str) -> None:
    corner = Point(left + call["start"] * width, 44 + call["worker"] * LANE + 2)
    size = Point(max(call["end"] - call["start"], 0.01) * width - 1, LANE - 6)
    _bar(picture, corner, size, colour if call["saved"] else "lost")


def _bar(picture: Canvas, corner: Point, size: Point, colour: str) -> None:
    is_lost = colour == "lost"
    picture.box(corner, size, fill="none" if is_lost else colour, edge=colour, is_dashed=is_lost)


def _legend_of_run(picture: Canvas, y: float) -> None:
    kinds = [
        ("saved", "saved", LEFT - 58),
        ("lost", "running when it was killed: lost", LEFT + 6),
        ("ours", "the same calls, run again", LEFT + 216),
    ]
    for colour, text, x in kinds:
        _bar(picture, Point(x, y - 9), Point(16, 10), colour)
        picture.words(Point(x + 21, y), text, "soft", anchor="start")


# --- speeds ------------------------------------------------------------------------------------------

MARKS = {
    "thread-chunks": ("ours", "circle"),
    "joblib": ("other", "ring"),
    "Pool": ("ink", "cross"),
    "ProcessPoolExecutor": ("soft", "square"),
    "mpire": ("lost", "diamond"),
    "loky": ("saved", "bar"),
}
"""Colour and shape of each contender."""

LABELS = {
    "20,000 calls of `x + y`, saved and synced": "20,000 calls of x + y, saved",
    "1,000,000 of them, saved and synced": "1,000,000 of them, saved",
    "3,000 results of 10 kB, saved and synced": "3,000 results of 10 kB, saved; joblib.Memory saves too",
    "200 calls of 5 ms of pure Python, cold": "200 calls of 5 ms",
    "three trivial calls, saved: the whole process": "three trivial calls, saved: the whole process",
    "60 results of 8 MB": "60 results of 8 MB",
    "200 calls of a function that holds 100 MB": "200 calls of a function that holds 100 MB; a spawned Pool",
    "50 parameters of 8 MB": "50 parameters of 8 MB",
}
"""Which lines of the table are drawn, and how they are called there."""

ALIASES = {"joblib.Memory, serial": "joblib", "spawned Pool": "Pool"}
"""Names of the table that stand for a mark."""


class Timed(NamedTuple):
    """One line of the table: seconds by contender."""

    label: str
    seconds: dict[str, float]


def _table_of_speeds() -> Iterator[Timed]:
    """Read the table from the page."""
    for line in (DOCS / "performance.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in LABELS:
            yield Timed(LABELS[cells[0]], {"thread-chunks": _seconds(cells[1])} | dict(_others(cells[2])))


def _others(cell: str) -> Iterator[tuple[str, float]]:
    """Return those that have a mark; "told to use chunks" and the like are left to the table."""
    for name, time in re.findall(r"(.+?): ([\d.]+ s)(?:, |$)", cell):
        contender = ALIASES.get(name, name)
        if contender in MARKS:
            yield contender, _seconds(time)


def _seconds(text: str) -> float:
    return float(text.removesuffix(" s"))


def speeds() -> Canvas:
    """Draw the table of speeds: a line for each task, a mark for each contender, seconds across."""
    rows = list(_table_of_speeds())
    picture = Canvas(
        "Seconds of each library for eight tasks, as in the table of the page on performance", 520, 0
    )
    left, right, top, step = 14.0, 508.0, 70, 36
    picture.height = top + step * len(rows) + 26
    low, high = math.log10(0.01), math.log10(10)

    def across(seconds: float) -> float:
        return left + (math.log10(seconds) - low) / (high - low) * (right - left)

    for tick in (0.01, 0.1, 1, 10):
        picture.line(Point(across(tick), top - 14), Point(across(tick), picture.height - 24), is_dashed=True)
        anchor = {0.01: "start", 10: "end"}.get(tick, "middle")
        picture.words(Point(across(tick), picture.height - 8), f"{tick:g} s", "soft", anchor=anchor)
    for number, (name, (colour, shape)) in enumerate(MARKS.items()):
        place = Point(20 + number % 3 * 170, 16 + number // 3 * 20)
        picture.dot(place, colour, shape)
        picture.words(Point(place.x + 10, place.y + 4), name, colour, anchor="start")
    for number, row in enumerate(rows):
        y = top + step * number
        picture.words(Point(left, y), row.label, anchor="start")
        picture.line(Point(left, y + 13), Point(right, y + 13))
        for name, seconds in reversed(row.seconds.items()):
            picture.dot(
                Point(across(seconds), y + 13), *MARKS[name], radius=6 if name == "thread-chunks" else 4.5
            )
    return picture


GROWTH = {
    "ours": "thread-chunks, saved",
    "other": "joblib, nothing saved",
    "ink": "Pool.starmap, nothing saved",
}


def growth() -> Canvas:
    """Draw seconds against the number of calls, both logarithmic, from the table on the page."""
    rows = list(_table_of_growth())
    picture = Canvas("Seconds against the number of trivial calls, from a hundred to a million", 480, 300)
    left, right, top, bottom = 52.0, 470.0, 14.0, 262.0

    def place(calls: float, seconds: float) -> Point:
        x = left + (math.log10(calls) - 2) / 4 * (right - left)
        return Point(x, bottom - (math.log10(seconds) + 3) / 4 * (bottom - top))

    for power in range(-3, 2):
        picture.line(place(1e2, 10.0**power), place(1e6, 10.0**power), is_dashed=True)
        at = place(1e2, 10.0**power)
        picture.words(Point(at.x - 6, at.y + 4), f"{10.0**power:g} s", "soft", anchor="end")
    for power in range(2, 7):
        anchor = "end" if power == 6 else "middle"
        picture.words(Point(place(10**power, 1).x, bottom + 18), f"{10**power:,}", "soft", anchor=anchor)
    picture.words(Point((left + right) / 2, bottom + 34), "trivial calls", "soft")
    for number, (colour, label) in enumerate(GROWTH.items()):
        points = [place(calls, seconds[number]) for calls, seconds in rows]
        picture.curve(points, colour)
        for point in points:
            picture.dot(point, colour, radius=3)
        picture.words(Point(left + 12, top + 16 + 17 * number), label, colour, anchor="start", size=12)
    return picture


def _table_of_growth() -> Iterator[tuple[int, Sequence[float]]]:
    text = (DOCS / "performance.md").read_text(encoding="utf-8")
    for calls, *seconds in re.findall(
        r"^\| ([\d,]+) \| ([\d.]+) s \| ([\d.]+) s \| ([\d.]+) s \|$", text, re.MULTILINE
    ):
        yield int(calls.replace(",", "")), [float(each) for each in seconds]
