"""A row of the table: who runs what, and what has to come of it.

A row is a race. Each of its lines is one figure of that race with its two marks; its
`ratio` says how the figure is made from what one round measured.
"""

from collections.abc import Callable
from typing import NamedTuple

from race import Entry, Round

MB = 125_000
"""Floats in an array of one MB."""


class Line(NamedTuple):
    """One line of the table."""

    what: str
    against: str
    ratio: Callable[[Round], float]
    at_least: float | None = None
    aim: float | None = None
    is_limit: bool = False
    """Whether smaller is better, and `at_least` is "at most"."""
    ours: str = "ours"
    """Whose median is shown as ours."""
    peers: tuple[str, ...] | None = None
    """Whose medians are shown beside it; by default those of all others."""
    shown: str = "seconds"
    """Which figure is shown."""

    def reaches(self, ratio: float, mark: float) -> bool:
        """Tell whether a ratio is on the right side of a mark."""
        return ratio <= mark if self.is_limit else ratio >= mark


class Row(NamedTuple):
    """One race, and the lines it gives."""

    name: str
    entries: tuple[Entry, ...]
    lines: tuple[Line, ...]
    setup: Entry | None = None
    """Writes what all entries find in their folder."""


# --- how ratios are made ------------------------------------------------------------------------


def speed(*peers: str) -> Callable[[Round], float]:
    """Return how many times faster ours was than the fastest of the peers."""
    return lambda r: min(r[peer]["seconds"] for peer in peers if peer in r) / r["ours"]["seconds"]


def cost(peer: str, what: str = "seconds", ours: str = "ours") -> Callable[[Round], float]:
    """Return ours divided by theirs."""
    return lambda r: r[ours][what] / r[peer][what]


def ideal(label: str) -> Callable[[Round], float]:
    """Return how near one came to the serial time divided by the workers."""
    return lambda r: r[label]["ideal_seconds"] / r[label]["seconds"]


# --- who takes part in several rows -------------------------------------------------------------

POOLS = {
    "joblib": "peers.joblib",
    "mpire": "peers.mpire",
    "ProcessPoolExecutor": "peers.executor",
    "Pool": "peers.pool",
    "loky": "peers.loky",
}
CLUSTERS = {"Dask, running": "peers.distributed", "Ray, running": "peers.ray"}


def pools(work: str, calls: int, size: int = 0) -> tuple[Entry, ...]:
    """Enter all pools for the same work."""
    return tuple(Entry(label, function, work, calls, size) for label, function in POOLS.items())


def clusters(work: str, calls: int, size: int = 0, scale: int = 1) -> tuple[Entry, ...]:
    """Enter Dask and Ray, if all are asked for; they may do a part of the work."""
    note = "" if scale == 1 else f", {calls:,} calls x {scale}"
    return tuple(
        Entry(label + note, function, work, calls, size, scale, slow=True)
        for label, function in CLUSTERS.items()
    )
