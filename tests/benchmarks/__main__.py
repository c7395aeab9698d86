"""Measure all rows and print one table: ``python tests/benchmarks``.

``python tests/benchmarks trivial million`` measures two of them, ``--list`` names them
all. Figures are medians over the rounds; each ratio is the median of the ratios within
the rounds, with the smallest and the largest in brackets. `Pool` is `multiprocessing.Pool`,
forked. Peers that are not installed are left out; ``pip install -e ".[bench]"`` has most.
Everything runs on Linux only, and writes its files below `race.DISK`. Wait some minutes before
the row 10kB is measured again: for so long file systems remember the files deleted at its end.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence

import rows_of_calls
import rows_of_data
from facts import facts
from race import Round, median, race
from row import Line, Row

ROWS = {row.name: row for row in rows_of_calls.ROWS + rows_of_data.ROWS}
HEAD = ("what", "ours", "others", "ratio", "of", "at least", "aim", "holds?")
NONE = "-"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description="Measure; print a table.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which rows; all by default")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each one runs (5)")
    parser.add_argument("--warm-up", action="store_true", help="run one round more first, not counted")
    parser.add_argument("--all-peers", action="store_true", help="Dask and Ray too, which take long")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: only see that all run")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--json", metavar="FILE", help="write every measurement to a file")
    given = parser.parse_args()
    if unknown := set(given.rows) - set(ROWS):
        parser.error(f"no row is called {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    if given.rounds < 1:
        parser.error("at least one round is needed")
    return given


def main() -> None:
    """Do what the command line says."""
    given = arguments()
    if given.list:
        write("\n".join(f"{name:12}{row.lines[0].what}" for name, row in ROWS.items()))
        return
    write(facts())
    if given.quick:
        write("\nQuick: the sizes are not those in the table, and no figure means anything.")
    write(f"\n{cells(HEAD)}\n{'|---' * len(HEAD)}|")
    measured = {name: measure(ROWS[name], given) for name in given.rows or ROWS}
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"facts": facts(), "quick": given.quick, "rows": measured}, file, indent=1)


def measure(row: Row, given: argparse.Namespace) -> list[Round]:
    """Run one row and print its lines."""
    entries = [entry for entry in row.entries if given.all_peers or not entry.slow]
    setup = row.setup
    if given.quick:
        entries, setup = [entry.shrunk() for entry in entries], setup and setup.shrunk()
    rounds = race(
        entries,
        1 if given.quick else given.rounds,
        setup,
        warm_up=int(given.warm_up),
        note=lambda text: sys.stderr.write(f"{row.name}, {text}\n"),
    )
    labels = [entry.label for entry in entries]
    for line in row.lines:
        texts = described(line, labels, rounds)
        write(cells([*texts[:-1], NONE] if given.quick else texts))
    return rounds


def described(line: Line, labels: Sequence[str], rounds: Sequence[Round]) -> list[str]:
    """Return the cells of one line."""
    peers = [label for label in (labels if line.peers is None else line.peers) if label in labels]
    others = ", ".join(f"{peer}: {shown(line, peer, rounds)}" for peer in peers if peer != line.ours) or NONE
    start = [line.what, shown(line, line.ours, rounds), others]
    marks = [marked(line, line.at_least), marked(line, line.aim)]
    try:
        ratios = [line.ratio(result) for result in rounds]
    except (KeyError, ValueError):  # whom it compares with is not there
        return [*start, NONE, line.against, *marks, "not measured"]
    ratio = statistics.median(ratios)
    spread = f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return [*start, spread, line.against, *marks, verdict(line, ratio)]


def shown(line: Line, label: str, rounds: Sequence[Round]) -> str:
    """Return one median with its unit."""
    if label not in rounds[0]:
        return "not installed"
    value = median(rounds, label, line.shown)
    if line.shown.endswith("_mb"):
        return f"{value:.0f} MB"
    return f"{value:.3f} s" if value >= 0.001 else f"{value * 1e6:.1f} µs"


def marked(line: Line, mark: float | None) -> str:
    """Return a mark with its direction."""
    return NONE if mark is None else f"{'≤' if line.is_limit else '≥'} {mark:g}"


def verdict(line: Line, ratio: float) -> str:
    """Say which of its marks a ratio reaches."""
    parts = []
    if line.at_least is not None:
        parts.append("yes" if line.reaches(ratio, line.at_least) else "NO")
    if line.aim is not None:
        parts.append("aim reached" if line.reaches(ratio, line.aim) else "aim not reached")
    return ", ".join(parts) or NONE


def cells(texts: Sequence[str]) -> str:
    """Return one line of a table."""
    return f"| {' | '.join(texts)} |"


def write(text: str) -> None:
    """Print at once: the next row may take minutes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
