"""Measure many calls in flight at once: ``python tests/benchmarks/flight.py``.

Two rounds of calls that sleep are given to something as large as a cluster, so the ideal is twice
the sleep. *Simulated* is an executor whose calls take their time on a timer and nothing else, so
what is beyond the ideal is ours. *Dask* is a scheduler and two workers with hundreds of threads
each, on this machine. *Slots* is `ExecutorWorker` as it is: one actor holds all calls. *Actors* is
a subclass that overrides `execute`, and so has an actor, and its thread, for each call. Every
*Alone* is the engine without us, given everything at once: nothing is saved. Every figure is from a
fresh interpreter, ways in turn; seconds and megabytes are medians.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from facts import facts

from thread_chunks import ExecutorWorker, chunk


class Simulated(Executor):
    """A cluster that has room for everything: each call ends its seconds after it was submitted."""

    def __init__(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415 - only this way needs it

        self._seconds = seconds
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> "Future[Any]":
        """Run a call late."""
        future: Future[Any] = Future()

        def end() -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(fn(*args))

        self._loop.call_soon_threadsafe(self._loop.call_later, self._seconds, end)
        return future


class WaitingWorker(ExecutorWorker):
    """Waits for each call in a thread of its own."""

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Wait for one call."""
        return super().execute(func, *args, **kwargs)


WAYS = {"slots": ExecutorWorker, "actors": WaitingWorker}


def same(x: int, _: float) -> int:
    """Return at once: the executor takes the time."""
    return x


def sleep(x: int, seconds: float) -> int:
    """Take the time where it runs."""
    time.sleep(seconds)
    return x


def measured(engine: str, way: str, at_once: int, address: str, each: float) -> dict[str, float]:
    """Run two rounds of calls in this interpreter."""
    executor: Any
    func: Callable[[int, float], int] = same
    if engine == "dask":
        from distributed import Client  # noqa: PLC0415 - only this way needs it

        client = Client(address)
        client.wait_for_workers(2)
        executor, func = client.get_executor(), sleep
    else:
        executor = Simulated(each)
    most = [0]
    watcher = threading.Thread(target=_watch, args=(most,), daemon=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        if way == "alone":
            outputs = [
                future.result() for future in [executor.submit(func, i, each) for i in range(2 * at_once)]
            ]
        else:
            outputs = chunk(
                func,
                [[i, each] for i in range(2 * at_once)],
                chunk_size=at_once,
                worker=WAYS[way].on(executor),
                progress_bar=False,
                path=f"{folder}/flight.pkl",
            )
        seconds = time.perf_counter() - start
    assert outputs == list(range(2 * at_once))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": seconds, "threads": float(most[0]), "mb": grown}


def _watch(most: list[int]) -> None:
    while True:
        most[0] = max(most[0], threading.active_count())
        time.sleep(0.1)


def alone(*case: str) -> dict[str, float] | None:
    """Measure one case in an interpreter of its own; nothing if it takes more than six times the ideal."""
    command = [sys.executable, __file__, "--case", *case]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=12 * float(case[-1]))
    except subprocess.TimeoutExpired:
        return None
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure everything and print a table."""
    parser = argparse.ArgumentParser(prog="flight.py", description="Measure many calls in flight at once.")
    parser.add_argument("--engines", nargs="+", default=["simulated", "dask"], help="which (both)")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="that each call takes (5)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each one runs (3)")
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        engine, way, at_once, address, each = given.case
        sys.stdout.write(json.dumps(measured(engine, way, int(at_once), address, float(each))))
        return
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    from dask_cluster import Cluster  # noqa: PLC0415 - it is the tests'

    sys.stdout.write(
        f"{facts()}\n\n| engine | in flight | way | seconds | beyond the ideal | threads | memory |\n"
    )
    sys.stdout.write("|---|--:|---|--:|--:|--:|--:|\n")
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        try:
            for _ in range(2):
                cluster.start_worker("--no-nanny", threads=500)
            for engine, at_once in (("simulated", 1_000), ("simulated", 10_000), ("dask", 1_000)):
                if engine not in given.engines:
                    continue
                ways = [*WAYS, *(["alone"] if engine == "dask" else [])]
                found: dict[str, list[dict[str, float] | None]] = {way: [] for way in ways}
                for _ in range(given.rounds):
                    for way in ways:
                        if None not in found[way]:  # once is enough
                            found[way].append(
                                alone(engine, way, str(at_once), cluster.address, str(given.seconds))
                            )
                for way in ways:
                    _write(engine, at_once, way, given.seconds, found[way])
        finally:
            cluster.close()


def _write(engine: str, at_once: int, way: str, each: float, given: list[dict[str, float] | None]) -> None:
    found = [run for run in given if run is not None]
    if len(found) < len(given):
        sys.stdout.write(f"| {engine} | {at_once:,} | {way} | given up after {12 * each:.0f} s | | | |\n")
        return
    seconds, threads, mb = (
        statistics.median(run[key] for run in found) for key in ("seconds", "threads", "mb")
    )
    beyond = 100 * (seconds / (2 * each) - 1)
    sys.stdout.write(
        f"| {engine} | {at_once:,} | {way} | {seconds:.2f} s | {beyond:.1f} % | {threads:.0f} | {mb:.0f} MB |\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
