"""When, where and in how much memory each call ran: what the checkpoint tells of it."""

import itertools
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import least

from thread_chunks import (
    Checkpoint,
    CheckpointRestartedWarning,
    Chunker,
    ProcessWorker,
    ThreadWorker,
    _wire,
    chunk,
    config,
)
from thread_chunks._trace import traced
from thread_chunks.worker import Worker

MEBIBYTE = 1 << 20


class Doubling(ProcessWorker):
    """Carries calls out by itself, in its child."""

    def execute(self, func: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Double the result."""
        return 2 * super().execute(func, *args, **kwargs)


@pytest.mark.parametrize("worker", [ProcessWorker, Doubling, ThreadWorker])
@pytest.mark.parametrize("fold_bytes", [0, config.fold_bytes], ids=["records", "folded"])
def test_checkpoint_tells_when_and_where_each_call_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: type[Worker], fold_bytes: int
) -> None:
    """Under every kind of worker, in records and folded: start, seconds and worker are those of the call."""
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)

    def run(attempt: int, number: int) -> tuple[float, int]:
        Path(tmp_path, f"{attempt} {number}").touch()
        while (
            number < 2 and not Path(tmp_path, f"{attempt} {1 - number}").exists()
        ):  # the first two on two workers
            time.sleep(0.001)
        return time.time(), os.getpid()

    def measure(attempt: int) -> float:
        path, before, off = tmp_path / f"{attempt}.pkl", time.time(), 0.0
        rows = [[attempt, number] for number in range(20)]
        outputs = chunk(run, rows, chunk_size=2, worker=worker, path=path)
        checkpoint = Checkpoint.load(path)
        outputs = [output[:2] for output in outputs]
        for (ended, _), started, seconds in zip(outputs, checkpoint.started, checkpoint.seconds, strict=True):
            assert started is not None
            assert seconds is not None
            assert before <= started
            off = max(
                off, started - ended, ended - started - seconds
            )  # of a short call: told from those before
        assert set(checkpoint.workers) == {0, 1}
        assert checkpoint.workers[0] != checkpoint.workers[1]
        if worker is not ThreadWorker:
            processes = {number: pid for number, (_, pid) in zip(checkpoint.workers, outputs, strict=True)}
            assert [processes[number] for number in checkpoint.workers] == [pid for _, pid in outputs]
        return off

    assert least(measure, 0.05) < 0.05


@pytest.mark.parametrize("fold_bytes", [0, config.fold_bytes], ids=["records", "folded"])
def test_calls_of_one_worker_do_not_overlap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fold_bytes: int
) -> None:
    """Short calls, which are saved in groups, and long ones between them stand one behind the other, where they ran."""
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)

    def work(number: int) -> float:
        begun = time.time()
        time.sleep(0.05 if number % 97 == 0 else number % 5 / 1000)
        return begun

    def measure(attempt: int) -> float:
        path = tmp_path / f"{attempt}.pkl"
        begun = chunk(work, [[number] for number in range(400)], chunk_size=2, path=path)
        checkpoint = Checkpoint.load(path)
        for worker in (0, 1):
            spans = sorted(
                (started, seconds)
                for started, seconds, where in zip(
                    checkpoint.started, checkpoint.seconds, checkpoint.workers, strict=True
                )
                if where == worker and started is not None and seconds is not None
            )
            assert spans
            assert all(
                start + taken < following + 0.01
                for (start, taken), (following, _) in itertools.pairwise(spans)
            )
        assert None not in checkpoint.started
        off = [(started or 0.0) - real for started, real in zip(checkpoint.started, begun, strict=True)]
        return max(*off, -min(off) / 10)  # between two calls a loaded machine takes its time

    assert least(measure, 0.05) < 0.05


@pytest.mark.parametrize("worker", [ProcessWorker, Doubling])
def test_checkpoint_tells_the_peak_of_each_call(tmp_path: Path, worker: type[Worker]) -> None:
    """A call that used much memory and gave it back is told from those before and behind it; only Linux can."""
    path = tmp_path / "a.pkl"

    def use(mebibytes: int) -> int:
        time.sleep(0.02)
        return len(b"x" * (mebibytes * MEBIBYTE)) // MEBIBYTE

    chunk(use, [[1], [200], [2], [100], [1]], chunk_size=1, worker=worker, path=path)
    peaks = Checkpoint.load(path).peak_memory
    if not os.path.exists("/proc/self/clear_refs"):
        assert peaks == [None] * 5
        return
    small = [peaks[0], peaks[2], peaks[4]]
    assert all(peak is not None and MEBIBYTE < peak < 100 * MEBIBYTE for peak in small)
    assert peaks[1] is not None
    assert peaks[3] is not None
    assert 200 * MEBIBYTE < peaks[1] < 300 * MEBIBYTE
    assert 100 * MEBIBYTE < peaks[3] < 200 * MEBIBYTE


def test_checkpoint_knows_no_peak_of_calls_in_threads(tmp_path: Path) -> None:
    """Calls in threads share one process: nothing is made up for them, nor for calls without a result."""
    path = tmp_path / "a.pkl"

    def invert(number: int) -> float:
        return 1 / number

    chunk(invert, [[1], [0]], chunk_size=1, worker=ThreadWorker, path=path, on_error="return")
    checkpoint = Checkpoint.load(path)
    assert checkpoint.peak_memory == [None, None]
    assert checkpoint.started[0] is not None
    assert checkpoint.workers == [0, None]
    assert checkpoint.started[1] is checkpoint.seconds[1] is None


def test_trace_stays_with_its_call_when_results_are_carried_over(tmp_path: Path) -> None:
    """Reused, resumed and saved by hand, a result keeps when and where it was computed."""
    path = tmp_path / "a.pkl"
    chunk(abs, [[-1], [2], [-3]], path=path)
    first = Checkpoint.load(path)
    with pytest.warns(CheckpointRestartedWarning, match="2 of its 3 results were carried over"):
        chunk(abs, [[-3], [5], [-1]], path=path, on_mismatch="reuse")
    second = Checkpoint.load(path)
    for now, was in ((0, 2), (2, 0)):
        assert second.started[now] == first.started[was] is not None
        assert second.workers[now] == first.workers[was]
        assert second.peak_memory[now] == first.peak_memory[was]
    second.save()
    again = Checkpoint.load(path)
    assert again.started == second.started
    assert again.workers == second.workers


def test_worker_keeps_its_number_in_a_run_of_a_chunker(tmp_path: Path) -> None:
    """The numbers of a run's workers are its own: from 0 on, whoever started them."""
    with Chunker(abs, chunk_size=3) as chunker:
        chunker([[-1]] * 30)
        chunker([[-1]], path=tmp_path / "a.pkl")
    assert Checkpoint.load(tmp_path / "a.pkl").workers == [0]


def test_traced_tells_when_each_call_of_a_group_was_started() -> None:
    """They were run one behind the other, on one worker; what nobody watched stays unknown for each."""
    traces = traced((100.0, 3, 2048), [0.5, 0.25, 1.0])
    assert [list(column) for column in traces] == [[100.0, 100.5, 100.75], [3] * 3, [2048] * 3]
    unknown = traced(_wire.NO_TRACE, [0.5, math.nan])
    assert [list(column) for column in unknown] == [[0.0] * 2, [0] * 2, [0] * 2]
