"""The rows about many calls, short calls and small results."""

from contender import WORKERS
from race import CALIBRATED, Entry
from row import Line, Row, clusters, cost, ideal, pools, speed

MEMORY = ("joblib.Memory, serial", "joblib.Memory in Parallel")

ROWS = (
    Row(
        "trivial",
        (
            Entry("ours", "ours.saved", "add", 20_000),
            *pools("add", 20_000),
            *clusters("add", 2_000, scale=10),
        ),
        (
            Line(
                "20,000 calls of `x + y`, saved and synced",
                "joblib's speed, saving nothing",
                speed("joblib"),
                3,
                5,
            ),
        ),
    ),
    Row(
        "million",
        (
            Entry("ours", "ours.saved", "add", 1_000_000, watched=True),
            Entry("joblib", "peers.joblib", "add", 1_000_000, watched=True),
            Entry("Pool", "peers.pool", "add", 1_000_000, watched=True),
        ),
        (
            Line("1,000,000 of them, saved and synced", "joblib's speed, saving nothing", speed("joblib"), 2),
            Line("the same", "the speed of `Pool.starmap`, saving nothing", speed("Pool"), aim=0.5),
            Line(
                "the same, peak memory",
                "joblib's",
                cost("joblib", "peak_mb"),
                1.2,
                0.8,
                is_limit=True,
                shown="peak_mb",
            ),
            Line(
                "the same, peak memory of the largest child",
                "joblib's",
                cost("joblib", "largest_child_mb"),
                shown="largest_child_mb",
            ),
        ),
    ),
    Row(
        "10kB",
        (
            Entry("ours", "ours.saved", "blob", 3_000, 10_000),
            Entry(MEMORY[0], "peers.memory", "blob", 3_000, 10_000),
            Entry(MEMORY[1], "peers.memory_parallel", "blob", 3_000, 10_000),
        ),
        (
            Line(
                "3,000 results of 10 kB, saved and synced",
                "the speed of `joblib.Memory`, the faster way, not synced",
                speed(*MEMORY),
                5,
                12,
            ),
        ),
    ),
    Row(
        "cost",
        (
            Entry("ours", "ours.warm_saved", "blob", 100_000, 100),
            Entry("1,000 results", "ours.warm_saved", "blob", 1_000, 100),
        ),
        (
            Line(
                "each of 100,000 saved results of 100 B, warm `Chunker`",
                "the cost of each of 1,000",
                cost("1,000 results", "call_seconds"),
                1.3,
                1,
                is_limit=True,
                shown="call_seconds",
            ),
        ),
    ),
    Row(
        "5ms",
        (
            Entry("ours", "ours.unsaved", "burn", 200, CALIBRATED),
            *pools("burn", 200, CALIBRATED),
            Entry(
                "ProcessPoolExecutor, told to use chunks of 25",
                "peers.executor_in_chunks",
                "burn",
                200,
                CALIBRATED,
            ),
        ),
        (
            Line(
                "200 calls of 5 ms of pure Python, cold",
                "the speed of `ProcessPoolExecutor`",
                speed("ProcessPoolExecutor"),
                1,
                1,
            ),
            Line("the same", "the speed of a forked `Pool`", speed("Pool"), 0.85, 1, peers=("Pool",)),
        ),
    ),
    Row(
        "warm",
        (
            Entry("ours", "ours.warm", "burn", 200, CALIBRATED),
            Entry("bare forks", "peers.forked", "burn", 200, CALIBRATED),
        ),
        (
            Line(
                "the same, warm `Chunker`", f"its ideal: serial time / {WORKERS}", ideal("ours"), 0.92, 0.97
            ),
            Line(
                "an even part in each of as many bare forks",
                "their ideal: this machine's ceiling",
                ideal("bare forks"),
                ours="bare forks",
                peers=(),
            ),
        ),
    ),
    Row(
        "three",
        (
            Entry("ours", "ours.saved", "add", 3),
            Entry("as typed", "ours.as_typed", "add", 3),
            Entry("joblib", "peers.joblib", "add", 3),
        ),
        (
            Line(
                "three trivial calls, saved: the whole process",
                "joblib's time, saving nothing",
                cost("joblib", "process_seconds"),
                0.5,
                0.3,
                is_limit=True,
                peers=("joblib",),
                shown="process_seconds",
            ),
            Line(
                "the same with no option but the path",
                "joblib's time, saving nothing",
                cost("joblib", "process_seconds", "as typed"),
                0.5,
                0.3,
                is_limit=True,
                ours="as typed",
                peers=("joblib",),
                shown="process_seconds",
            ),
        ),
    ),
)
