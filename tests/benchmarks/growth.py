"""Tell how long ever more trivial calls take: ``python tests/benchmarks/growth.py``.

Ours saves and syncs every result, the others save nothing. Seconds are medians; starting
and stopping the processes is within them. What is printed is the table of the page on
performance, which ``python docs/pictures/draw.py`` plots.
"""

import argparse
import sys
from collections.abc import Sequence

from facts import facts
from race import Entry, median, race

CONTENDERS = {
    "chunk(), every result saved": "ours.saved",
    "joblib.Parallel, nothing saved": "peers.joblib",
    "multiprocessing.Pool.starmap, nothing saved": "peers.pool",
}


def main() -> None:
    """Measure each number of calls and print the table."""
    parser = argparse.ArgumentParser(prog="growth.py", description="Measure seconds against calls.")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each one runs (3)")
    parser.add_argument(
        "--largest", type=int, default=6, metavar="N", help="10 to this power are the most (6)"
    )
    given = parser.parse_args()
    counts = [10**power for power in range(2, given.largest + 1)]
    seconds = [measured(count, given.rounds) for count in counts]
    sys.stdout.write(f"{facts()}\n\n{table(counts, seconds)}\n")


def measured(count: int, rounds: int) -> list[float]:
    """Return the median of each contender for so many calls."""
    entries = [Entry(label, contender, "add", count) for label, contender in CONTENDERS.items()]
    results = race(entries, rounds, note=lambda text: sys.stderr.write(f"{count:,} calls, {text}\n"))
    return [
        median(results, entry.label, "seconds") if entry.is_installed() else float("nan") for entry in entries
    ]


def table(counts: Sequence[int], seconds: Sequence[Sequence[float]]) -> str:
    """Return the medians as a table."""
    lines = [["calls", *CONTENDERS], ["--:"] * (1 + len(CONTENDERS))]
    lines += [[f"{n:,}", *(f"{t:.3f} s" for t in row)] for n, row in zip(counts, seconds, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
