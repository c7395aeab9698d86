"""Calls that need more memory than their neighbours leave: limits, kills, and what the next run knows of them."""

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import note, noted, wait_until

from thread_chunks import Checkpoint, Chunker, ProcessWorker, ThreadWorker, WorkerDiedError, chunk

MEGABYTE = 10**6


def test_no_call_starts_beyond_max_memory(tmp_path: Path) -> None:
    """Once it is known what a call needs, only as many run at once as there is room for: here, one."""
    log = tmp_path / "log"

    def use(number: int) -> int:
        note(log, f"begin {number}")
        held = b"x" * (200 * MEGABYTE)
        time.sleep(0.03)
        note(log, f"end {number}")
        return len(held)

    outputs = chunk(use, [[number] for number in range(12)], chunk_size=3, max_memory="450 MB")
    assert outputs == [200 * MEGABYTE] * 12
    lines = noted(log)
    later = lines[max(lines.index(f"end {number}") for number in range(3)) + 1 :]
    later = [line for line in later if int(line.split()[1]) > 3]  # the fourth may have begun in between
    assert len(later) == 16
    assert later[::2] == [f"begin {line.split()[1]}" for line in later[1::2]], "two calls ran at once"


def test_calls_that_need_little_run_beside_each_other_under_max_memory(tmp_path: Path) -> None:
    """A limit that is far away changes nothing, also once it is known what a call needs."""
    path = tmp_path / "a.pkl"
    chunk(time.sleep, [[0.1]] * 8, chunk_size=2, max_memory=10**12, path=path)
    checkpoint = Checkpoint.load(path)
    assert all(checkpoint.peak_memory)
    timed = zip(checkpoint.started, checkpoint.seconds, strict=True)
    spans = sorted((started or 0.0, taken or 0.0) for started, taken in timed)
    later = spans[2:]  # the first two start before anything is known
    assert any(start + taken > following for (start, taken), (following, _) in itertools.pairwise(later))


def test_max_memory_is_refused_for_workers_without_processes() -> None:
    """In threads the memory of a call cannot be told from that of the script: the error says so at once."""
    with pytest.raises(ValueError, match=r"max_memory= needs .*ThreadWorker"):
        chunk(abs, [[1]], worker=ThreadWorker, max_memory="1 GB")
    with pytest.raises(ValueError, match=r"max_memory must be .*not '8 gigs'"):
        chunk(abs, [[1]], max_memory="8 gigs")
    with pytest.raises(ValueError, match=r"max_memory= needs .*ThreadWorker"):
        Chunker(abs, worker=ThreadWorker, max_memory="1 GB")


class Halved(ProcessWorker):
    """Carries calls out by itself."""

    def execute(self, func: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Leave everything as it is."""
        return super().execute(func, *args, **kwargs)


@pytest.mark.parametrize("worker", [ProcessWorker, Halved])
def test_call_that_was_killed_is_tried_again_with_fewer_neighbours(tmp_path: Path, worker: Any) -> None:
    """As after an out-of-memory kill: the second try waits until it has more room, and nobody joins it."""
    log = tmp_path / "log"

    def run(number: int) -> int:
        note(log, f"begin {number}")
        if number == 0 and noted(log).count("begin 0") == 1:
            wait_until(lambda: "begin 1" in noted(log))
            note(log, f"pid {os.getpid()}")
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 1:  # goes on for a while after its neighbour was killed
            wait_until(lambda: any(line.startswith("pid") for line in noted(log)))
            (pid,) = (int(line.split()[1]) for line in noted(log) if line.startswith("pid"))
            wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
            time.sleep(0.1)
        note(log, f"end {number}")
        return number

    assert chunk(run, [[number] for number in range(5)], chunk_size=2, worker=worker) == list(range(5))
    lines = noted(log)
    second = len(lines) - 1 - lines[::-1].index("begin 0")
    assert "end 1" in lines[:second]
    assert lines[second + 1] == "end 0", "it had a neighbour"
    assert not {"begin 2", "begin 3", "begin 4"} & set(lines[:second])


def test_call_that_killed_its_worker_is_tried_last_and_alone_on_the_next_run(tmp_path: Path) -> None:
    """The next run does everything else first, and nothing beside it."""
    log, path, cured = tmp_path / "log", tmp_path / "a.pkl", tmp_path / "cured"

    def run(number: int) -> int:
        note(log, f"begin {number}")
        if number == 0 and not cured.exists():
            os._exit(3)
        if number % 2 and not cured.exists():
            msg = "an odd number"
            raise ValueError(msg)
        time.sleep(0.02)
        note(log, f"end {number}")
        return number

    calls = [[number] for number in range(8)]
    outputs = chunk(run, calls, path=path, chunk_size=2, on_error="return")
    assert isinstance(outputs[0].exception, WorkerDiedError)
    assert set(Checkpoint.load(path).failures) == {0, 1, 3, 5, 7}
    cured.touch()
    log.unlink()
    assert chunk(run, calls, path=path, chunk_size=2) == list(range(8))
    lines = noted(log)
    assert lines[-2:] == ["begin 0", "end 0"]
    assert sorted(lines[:-2]) == sorted(
        f"{what} {number}" for number in (1, 3, 5, 7) for what in ("begin", "end")
    )
    assert Checkpoint.load(path).failures == {}


def test_call_that_killed_its_worker_is_still_tried_last_when_the_run_in_between_ended_early(
    tmp_path: Path,
) -> None:
    """What is known of a call stays in the checkpoint until the call has returned or raised."""
    log, path = tmp_path / "log", tmp_path / "a.pkl"

    def run(number: int) -> int:
        note(log, f"begin {number}")
        if number == 0:
            os._exit(3)
        if number == 1 or (number == 2 and noted(log).count("begin 2") < 2):
            msg = "not yet"
            raise ValueError(msg)
        return number

    calls = [[number] for number in range(4)]
    chunk(run, calls, path=path, chunk_size=1, on_error="return")
    with pytest.raises(ValueError, match="not yet"):
        chunk(run, calls, path=path, chunk_size=1)
    assert noted(log)[-1] == "begin 1"
    log.unlink()
    chunk(run, calls, path=path, chunk_size=1, on_error="return")
    assert noted(log) == ["begin 1", "begin 2", "begin 0", "begin 0"]
