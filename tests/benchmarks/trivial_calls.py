"""Trivial calls with a checkpoint, against joblib without one.

Run it as a script: ``python tests/benchmarks/trivial_calls.py [calls] [rounds]``. It
needs joblib beside the package. Both sides run alternately, each in a new
interpreter, and the medians and the median of the pairs' ratios are printed:
machines are noisy, ratios of neighbours less so. Imports are not timed, starting
workers is.
"""

import json
import statistics
import subprocess
import sys
import tempfile

OURS = """
import sys, time
from thread_chunks import chunk
def f(x):
    return x + 1
n, folder = int(sys.argv[1]), sys.argv[2]
start = time.perf_counter()
outputs = chunk(f, [[i] for i in range(n)], path=f"{folder}/trivial.pkl", progress_bar=False, chunk_size=2)
seconds = time.perf_counter() - start
assert outputs == list(range(1, n + 1))
print(seconds)
"""

THEIRS = """
import sys, time
from joblib import Parallel, delayed
def f(x):
    return x + 1
n = int(sys.argv[1])
start = time.perf_counter()
outputs = Parallel(n_jobs=2)(delayed(f)(i) for i in range(n))
seconds = time.perf_counter() - start
assert outputs == list(range(1, n + 1))
print(seconds)
"""


def seconds(program: str, calls: int) -> float:
    """Run one program in a new interpreter and return the seconds that it reports."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", program, str(calls), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main(calls: int = 20_000, rounds: int = 7) -> None:
    """Print the medians and their ratio as JSON."""
    pairs = [(seconds(OURS, calls), seconds(THEIRS, calls)) for _ in range(rounds)]
    ours, theirs = zip(*pairs, strict=True)
    report = {
        "calls": calls,
        "rounds": rounds,
        "thread-chunks with a checkpoint, seconds": statistics.median(ours),
        "joblib without one, seconds": statistics.median(theirs),
        "median ratio": statistics.median(one / other for one, other in pairs),
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
