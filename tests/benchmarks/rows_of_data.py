"""The rows about large arrays, memory and finished files."""

from contender import WORKERS
from race import Entry, Round
from row import CLUSTERS, MB, POOLS, Line, Row, clusters, cost, pools, speed

LARGE = 200
"""How many results of 4 MB."""


def above_outputs(r: Round, start: float) -> float:
    """Return the peak memory in units of all outputs, less what part of it is asked for of that before the call."""
    return (r["ours"]["peak_mb"] - start * r["ours"]["start_mb"]) / r["ours"]["output_mb"]


def against_a_write(r: Round) -> float:
    """Return the time with saving, in units of the time without it and a plain write of the same bytes."""
    return r["saved"]["seconds"] / (r["ours"]["seconds"] + r["plain write"]["seconds"])


ROWS = (
    Row(
        "arrays",
        (
            Entry("ours", "ours.unsaved", "full", 60, 8 * MB),
            Entry("saved", "ours.saved", "full", 60, 8 * MB),
            Entry("plain write", "peers.plain_write", "full", 60, 8 * MB),
            *pools("full", 60, 8 * MB),
            *clusters("full", 60, 8 * MB),
        ),
        (
            Line(
                "60 results of 8 MB",
                "the speed of the best pool",
                speed(*POOLS),
                1.4,
                2,
                peers=(*POOLS, *CLUSTERS),
            ),
            Line(
                "the same, saved and synced",
                "unsaved + a plain write and sync of the same bytes",
                against_a_write,
                1.5,
                1.05,
                is_limit=True,
                ours="saved",
                peers=("ours", "plain write"),
            ),
        ),
    ),
    Row(
        "large",
        (Entry("ours", "ours.saved", "full", LARGE, 4 * MB, watched=True),),
        (
            Line(
                "200 results of 4 MB, saved: peak memory",
                "the size of all outputs",
                lambda r: above_outputs(r, 0),
                1.35,
                is_limit=True,
                shown="peak_mb",
            ),
            Line(
                "the same, beyond the interpreter's own before the call",
                "the size of all outputs",
                lambda r: above_outputs(r, 1),
                aim=1 + WORKERS / LARGE,
                is_limit=True,
                shown="peak_mb",
            ),
            Line(
                "the same, the largest child",
                "one result",
                lambda r: r["ours"]["largest_child_mb"] / 4,
                shown="largest_child_mb",
            ),
        ),
    ),
    Row(
        "holding",
        (
            Entry("ours", "ours.unsaved", "peek", 200, 100 * MB),
            Entry("as a closure", "ours.closure", "peek", 200, 100 * MB),
            Entry("spawned Pool", "peers.spawned", "peek", 200, 100 * MB),
        ),
        (
            Line(
                "200 calls of a function that holds 100 MB",
                "the time of a spawned `Pool` with an initializer",
                cost("spawned Pool"),
                0.8,
                0.3,
                is_limit=True,
            ),
        ),
    ),
    Row(
        "parameters",
        (Entry("ours", "ours.unsaved", "total", 50, 8 * MB), *pools("total", 50, 8 * MB)),
        (
            Line(
                "50 parameters of 8 MB",
                "the speed of `ProcessPoolExecutor`",
                speed("ProcessPoolExecutor"),
                1.3,
                2.5,
            ),
        ),
    ),
    Row(
        "resume",
        (
            Entry("resume", "ours.resume", "add", 200_000),
            Entry("load", "ours.load", "add", 200_000),
            Entry("resume, unfolded", "ours.resume_unfolded", "add", 200_000),
            Entry("load, unfolded", "ours.load_unfolded", "add", 200_000),
            Entry("pickle.load", "peers.plain_load", "add", 200_000),
        ),
        tuple(
            Line(
                f"{what} 200,000 saved results",
                "`pickle.load` of the plain lists",
                cost("pickle.load", ours=ours),
                2,
                1,
                is_limit=True,
                ours=ours,
                peers=("pickle.load",),
            )
            for what, ours in (
                ("resume", "resume"),
                ("`Checkpoint.load` of", "load"),
                ("resume, from a file not folded,", "resume, unfolded"),
                ("`Checkpoint.load`, from a file not folded, of", "load, unfolded"),
            )
        ),
        setup=Entry("files", "ours.write_files", "add", 200_000),
    ),
)
