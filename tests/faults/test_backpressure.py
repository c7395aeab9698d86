"""Backpressure: when the disk is slower than the calls, the calls wait for it, and memory stays bounded."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Programs, note, noted, wait_until
from disk import Disk, Fault

import thread_chunks._log
from thread_chunks import (
    Checkpoint,
    CheckpointFailedWarning,
    Chunker,
    ProcessWorker,
    ThreadWorker,
    chunk,
    config,
)

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

MEGABYTE = 1 << 20
WORKERS = [ProcessWorker, ThreadWorker]


class _Gate:
    """A disk whose fsync waits, from the first call on or a few later, until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, log: Path, passing: int = 0) -> None:
        self.passing = passing
        self.is_reached = threading.Event()
        self.is_open = threading.Event()
        self.log = log
        monkeypatch.setattr(thread_chunks._log, "os", Disk(before=self.before))

    def before(self, operation: str) -> None:
        """Stand between the writer and its fsync."""
        if operation == "fsync" and noted(self.log) and not self.is_open.is_set():
            self.passing -= 1
            if self.passing >= 0:
                return
            self.is_reached.set()
            assert self.is_open.wait(100), "nobody released the disk"


def _in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    return thread, results


def _grows(count: Callable[[], int], limit: int, seconds: float = 0.5) -> bool:
    """Tell whether a count gets beyond its limit, within a time in which hundreds of calls would start."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if count() > limit:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("megabytes", [4, 10])
def test_calls_wait_for_the_disk_when_it_hangs(
    worker: Any, megabytes: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an fsync does not return, no more calls start than their backlog holds; then the run completes."""
    monkeypatch.setattr(config, "backlog_bytes", megabytes * MEGABYTE)
    log = folder / "log"
    gate = _Gate(monkeypatch, log)

    def f(x: int) -> bytes:
        note(log, x)
        return bytes([x]) * MEGABYTE

    saved: list[int] = []
    thread, results = _in_thread(
        lambda: chunk(
            f, [[n] for n in range(40)], chunk_size=2, worker=worker, path=folder / "c.pkl",
            on_result=lambda index, _: saved.append(index),
        )
    )  # fmt: skip
    assert gate.is_reached.wait(100)
    wait_until(lambda: len(noted(log)) >= megabytes, what="as many calls as the backlog holds")
    assert not _grows(lambda: len(noted(log)), megabytes + 2 + 1)
    assert saved == []
    gate.is_open.set()
    thread.join(100)
    assert results == [[bytes([x]) * MEGABYTE for x in range(40)]]
    assert sorted(saved) == list(range(40))
    assert sorted(noted(log)) == sorted(map(str, range(40)))
    assert Checkpoint.load(folder / "c.pkl").output == results[0]


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("backlog", [0, 1, 1000, MEGABYTE])
def test_run_completes_when_one_result_is_larger_than_the_backlog(
    worker: Any, backlog: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single result beyond the limit waits for its own save only: no deadlock, whatever the limit."""
    monkeypatch.setattr(config, "backlog_bytes", backlog)

    def f(x: int) -> bytes:
        return bytes([x]) * (3 * MEGABYTE if x % 2 else 10)

    outputs = chunk(f, [[n] for n in range(12)], chunk_size=3, worker=worker, path=folder / "c.pkl")
    assert outputs == [bytes([x]) * (3 * MEGABYTE if x % 2 else 10) for x in range(12)]
    assert Checkpoint.load(folder / "c.pkl").output == outputs


def test_run_completes_when_the_backlog_is_full_and_calls_fail_and_die(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures, deaths and retries among calls that wait for the disk take no place in the backlog."""
    monkeypatch.setattr(config, "backlog_bytes", MEGABYTE)

    def f(x: int) -> bytes:
        if x % 5 == 1:
            raise ValueError
        if x == 7:
            os._exit(3)
        return bytes([x]) * MEGABYTE

    outputs = chunk(
        f, [[n] for n in range(20)], chunk_size=2, path=folder / "c.pkl", on_error="return", retries=1
    )
    good = [x for x in range(20) if x % 5 != 1 and x != 7]
    assert [outputs[x] for x in good] == [bytes([x]) * MEGABYTE for x in good]
    assert [n for n, done in enumerate(Checkpoint.load(folder / "c.pkl").completed) if done] == good


@pytest.mark.parametrize("worker", WORKERS)
def test_run_completes_when_the_backlog_is_full_and_the_disk_too(
    worker: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes nothing more is waited for no longer: the run goes on, warns, and returns everything."""
    monkeypatch.setattr(config, "backlog_bytes", 2 * MEGABYTE)
    full = Disk(Fault(12, ("write", "pwrite", "fsync"), errno.ENOSPC, is_lasting=True))
    monkeypatch.setattr(thread_chunks._log, "os", full)
    with pytest.warns(CheckpointFailedWarning):
        outputs = chunk(
            lambda x: bytes([x]) * MEGABYTE, [[n] for n in range(20)], chunk_size=2, worker=worker,
            path=folder / "c.pkl",
        )  # fmt: skip
    assert outputs == [bytes([x]) * MEGABYTE for x in range(20)]


def test_calls_do_not_wait_when_nothing_is_saved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path nothing waits for a disk, whatever the limit."""
    monkeypatch.setattr(config, "backlog_bytes", 0)
    outputs = chunk(lambda x: bytes([x]) * MEGABYTE, [[n] for n in range(10)], chunk_size=2)
    assert outputs == [bytes([x]) * MEGABYTE for x in range(10)]


@pytest.mark.parametrize("worker", WORKERS)
def test_iterator_can_be_closed_when_the_backlog_is_full(
    worker: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving the loop while calls wait for the disk ends the run as soon as the disk answers; what was saved stays."""
    monkeypatch.setattr(config, "backlog_bytes", 8 * MEGABYTE)  # what waits for the loop counts, too
    log = folder / "log"

    def f(x: int) -> bytes:
        note(log, x)
        return bytes([x]) * MEGABYTE

    with Chunker(f, chunk_size=2, worker=worker, path=folder / "c.pkl") as chunker:
        gate = _Gate(monkeypatch, log, passing=1)
        results = chunker.as_completed([[n] for n in range(200)])
        first, _ = next(results)
        assert gate.is_reached.wait(100)
        wait_until(lambda: not _grows(lambda: len(noted(log)), len(noted(log)), 0.2), what="no call to start")
        thread, _ = _in_thread(results.close)
        gate.is_open.set()
        thread.join(100)
        assert not thread.is_alive()
        assert len(noted(log)) < 200
    checkpoint = Checkpoint.load(folder / "c.pkl")
    assert checkpoint.completed[first]
    assert all(checkpoint.output[n] == bytes([n]) * MEGABYTE for n in range(200) if checkpoint.completed[n])


SLOW = """
    import os, resource, sys, time
    import numpy as np
    import thread_chunks._log
    from thread_chunks import *
    from thread_chunks import config

    COUNT, WAY, KIND = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    MEGABYTE = 1 << 20

    class Slow:
        "A disk of 100 MB/s, which is less than two processes compute."
        written = 0

        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, descriptor, data):
            count = os.write(descriptor, data)
            self.written += count
            time.sleep(count / 100e6)
            return count

    def peak():
        if not os.path.exists("/proc/self/status"):  # where it exists, ru_maxrss includes what pytest had before exec
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

    def f(x):
        return bytes([x % 251]) * MEGABYTE if KIND == "bytes" else np.full(MEGABYTE, x % 251, np.uint8)

    disk = thread_chunks._log.os = Slow()
    config.backlog_bytes = 32 * MEGABYTE
    rows = [[n] for n in range(COUNT)]
    f(1)
    chunk(f, [[1], [2]], chunk_size=2, path="warm.pkl", progress_bar=False)
    before = peak()
    if WAY == "chunk":
        outputs = chunk(f, rows, chunk_size=2, path="c.pkl", progress_bar=False)
    else:
        with Chunker(f, chunk_size=2, path="c.pkl", progress_bar=False) as chunker:
            outputs = COUNT * [None]
            for index, output in chunker.as_completed(rows):
                outputs[index] = output
    grown = peak() - before
    assert all(output[0] == n % 251 and len(output) == MEGABYTE for n, output in enumerate(outputs))
    assert disk.written >= COUNT * MEGABYTE
    print(int(grown))
"""


def _grown(programs: Programs, count: int, way: str, kind: str) -> int:
    return int(programs.run(SLOW, count, way, kind).stdout)


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        ("as_completed", "bytes"),
        ("chunk", "array"),
        pytest.param("chunk", "bytes", marks=pytest.mark.nightly),
    ],
)
def test_memory_is_that_of_the_outputs_when_the_disk_is_slow(way: str, kind: str, programs: Programs) -> None:
    """200 results of 1 MB on a slow disk: the script's peak is the outputs, the backlog twice, and little else."""
    assert 150 < _grown(programs, 200, way, kind) < 200 + 2 * 32 + 40


@pytest.mark.nightly
@pytest.mark.parametrize("way", ["chunk", "as_completed"])
def test_memory_is_that_of_the_outputs_when_they_are_a_gigabyte(way: str, programs: Programs) -> None:
    """1000 results of 1 MB on a slow disk: the same."""
    assert 950 < _grown(programs, 1000, way, "bytes") < 1000 + 2 * 32 + 60
