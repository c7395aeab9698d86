"""Plot how long ever more trivial calls take: ``python tests/benchmarks/growth.py FILE``.

Ours saves and syncs every result, the others save nothing. Seconds are medians; starting
and stopping the processes is within them. A small table is printed, too.
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
COLOURS = ("#1b6ca8", "#d1495b", "#6b7a8f")


def main() -> None:
    """Measure each number of calls, print the table and write the plot."""
    parser = argparse.ArgumentParser(prog="growth.py", description="Plot seconds against calls.")
    parser.add_argument("file", help="where the plot goes; .svg or .png")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each one runs (3)")
    parser.add_argument(
        "--largest", type=int, default=6, metavar="N", help="10 to this power are the most (6)"
    )
    given = parser.parse_args()
    counts = [10**power for power in range(2, given.largest + 1)]
    seconds = [measured(count, given.rounds) for count in counts]
    sys.stdout.write(f"{facts()}\n\n{table(counts, seconds)}\n")
    plot(counts, seconds, given.file)


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


def plot(counts: Sequence[int], seconds: Sequence[Sequence[float]], path: str) -> None:
    """Draw one line for each contender on logarithmic axes."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - large, and only needed after hours of measuring

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for label, colour, times in zip(CONTENDERS, COLOURS, zip(*seconds, strict=True), strict=True):
        axes.loglog(counts, times, "o-", color=colour, label=label)
    axes.set_xlabel("trivial calls")
    axes.set_ylabel("seconds")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
