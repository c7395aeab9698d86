"""Calls on a Dask cluster of real processes, which are killed in the middle."""

import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Programs, is_living, note, noted, wait_until
from dask_cluster import Cluster, connected

from thread_chunks import (
    Checkpoint,
    Chunker,
    EngineStalledWarning,
    ExecutorWorker,
    Failure,
    NotACheckpointError,
    RunStoppedError,
    WorkerDiedError,
    chunk,
    config,
)

pytestmark = [
    pytest.mark.engines,
    pytest.mark.usefixtures("_quiet", "_tidy"),
    # Dask's own, when connections break.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers that nobody kills."""
    cluster = Cluster(tmp_path_factory.mktemp("dask"))
    for _ in range(2):
        cluster.start_worker("--no-nanny", threads=500)
    yield cluster
    cluster.close()


@pytest.fixture
def client(steady: Cluster) -> Iterator[Any]:
    with connected(steady, 2) as client:
        yield client


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler of the test's own, which gives up a call with the first worker that dies of it."""
    cluster = Cluster(tmp_path, {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"})
    yield cluster
    cluster.close()


# --- everyday calls ----------------------------------------------------------------------


def test_dask_runs_the_scripts_own_functions_and_the_script_keeps_the_checkpoint(
    client: Any, tmp_path: Path
) -> None:
    """Closures, arrays and keyword rows travel; what is saved is not run again."""
    path, log = tmp_path / "results.pkl", tmp_path / "log"
    offsets = np.arange(3.0)

    def shifted(x: Any, scale: float = 1.0) -> Any:
        note(log, scale)
        return scale * (x + offsets.sum())

    parameters = [{"x": np.full(20_000, float(i)), "scale": i} for i in range(8)]
    worker = ExecutorWorker.on(client.get_executor())
    for _ in range(2):
        outputs = chunk(shifted, parameters, worker=worker, path=path, chunk_size=4)
        assert [float(output[-1]) for output in outputs] == [i * (i + 3.0) for i in range(8)]
    outputs[0][:] = 1.0  # it can be written into, as after any other run
    assert sorted(noted(log)) == list("01234567")
    assert all(seconds is not None for seconds in Checkpoint.load(str(path)).seconds)


def test_equal_calls_are_each_carried_out(client: Any) -> None:
    """Dask would take equal calls for one; a function that draws random numbers must not notice."""
    worker = ExecutorWorker.on(client.get_executor())
    outputs = chunk(lambda: os.urandom(8), [[]] * 20, worker=worker, chunk_size=10)
    assert len(set(outputs)) == 20


def test_failures_are_the_functions_own_when_calls_fail_on_dask(client: Any) -> None:
    """The exception, its traceback there, and exits arrive; everything else completes."""
    worker = ExecutorWorker.on(client.get_executor())

    def call(x: int) -> float:
        if x == 2:
            raise SystemExit(3)
        return 1 / x

    outputs = chunk(call, [[0], [1], [2], [4]], worker=worker, on_error="return")
    assert outputs[1::2] == [1.0, 0.25]
    assert isinstance(outputs[0].exception, ZeroDivisionError)
    assert "return 1 / x" in outputs[0].traceback
    assert isinstance(outputs[2].exception, SystemExit)


def test_large_function_is_kept_by_each_worker_and_loaded_once(client: Any, tmp_path: Path) -> None:
    """What a large function holds goes to each worker once, and is unpickled there once, however many calls come."""
    log = tmp_path / "log"

    class Table:
        def __init__(self) -> None:
            self.values = np.arange(100_000)

        def __setstate__(self, state: dict[str, Any]) -> None:
            self.__dict__ = state
            note(log, os.getpid())

    table = Table()

    def look_up(place: int) -> int:
        time.sleep(0.01)
        return int(table.values[place])

    with Chunker(look_up, chunk_size=40, worker=ExecutorWorker.on(client.get_executor())) as chunker:
        assert chunker([[i] for i in range(200)]) == list(range(200))
        held = client.has_what()
        assert len(held) == 2
        assert all(any("Shipped" in str(key) for key in keys) for keys in held.values())
    assert noted(log)  # Dask need not use both
    assert len(noted(log)) == len(set(noted(log)))


def test_thousand_calls_are_in_flight_at_once(client: Any, tmp_path: Path) -> None:
    """A thousand calls run at the same time, and none of them needs a thread of the script."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    before = threading.active_count()
    threads: list[int] = []

    def call(x: int) -> int:
        note(log, x)
        while not gate.exists():
            time.sleep(0.5)  # five hundred threads of one process look
        return x

    def open_when_all_run() -> None:
        wait_until(lambda: len(noted(log)) == 1000, what="a thousand calls at once")
        threads.append(threading.active_count())
        gate.touch()

    opener = threading.Thread(target=open_when_all_run)
    opener.start()
    worker = ExecutorWorker.on(client.get_executor())
    outputs = chunk(
        call, [[i] for i in range(1000)], worker=worker, chunk_size=1000, path=tmp_path / "results.pkl"
    )
    opener.join()
    assert outputs == list(range(1000))
    assert threads[0] - before < 20


def test_call_runs_a_chunk_of_its_own_on_the_same_cluster(client: Any) -> None:
    """A call that gives its thread back while it waits may hand out calls in turn."""

    def inner(x: int) -> int:
        return x * x

    def outer(x: int) -> int:
        from distributed import worker_client  # noqa: PLC0415 - where it runs

        with worker_client() as here:
            worker = ExecutorWorker.on(here.get_executor())
            return sum(chunk(inner, [[x], [x + 1]], worker=worker, progress_bar=False))

    worker = ExecutorWorker.on(client.get_executor())
    assert chunk(outer, [[1], [2], [3]], worker=worker) == [5, 13, 25]


@pytest.mark.parametrize("gives_way", [True, False], ids=["secede", "stay"])
def test_task_that_keeps_its_thread_is_refused_a_run_on_its_own_cluster(gives_way: bool, client: Any) -> None:
    """Its cluster may be full of tasks that wait for theirs; one that has given its thread back may wait."""

    def task(x: int) -> Any:
        import distributed  # noqa: PLC0415 - where it runs

        if gives_way:
            distributed.secede()
        worker = ExecutorWorker.on(distributed.get_client().get_executor())
        return chunk(abs, [[-x]], worker=worker, progress_bar=False)

    future = client.submit(task, 1)
    if gives_way:
        assert future.result(100) == [1]
    else:
        with pytest.raises(RunStoppedError, match=r"call chunk\(\) within `with distributed.worker_client"):
            future.result(100)


def test_task_runs_a_chunk_in_processes_of_its_own(client: Any, tmp_path: Path) -> None:
    """A Dask task may do without Dask, and save to its own file."""
    path = tmp_path / "c.pkl"
    assert client.submit(chunk, abs, [[-1], [-2]], path=path, progress_bar=False).result(100) == [1, 2]
    assert Checkpoint.load(path).output == [1, 2]


# --- faults -------------------------------------------------------------------------------


class Watched:
    """A run over calls that note what they do, to look at when half of it is done."""

    def __init__(self, folder: Path, count: int) -> None:
        self.path, self.log, self.saved = folder / "results.pkl", folder / "log", folder / "saved"
        self.count = count
        self.failed: list[BaseException] = []

    def run(self, executor: Any, meanwhile: Callable[[], None], size: int = 4, **options: Any) -> list[Any]:
        """Run all calls, and do something once a third of the results is saved."""
        log = self.log

        def call(x: int) -> int:
            note(log, x)
            time.sleep(0.05)
            return x

        def interfere() -> None:
            try:
                wait_until(lambda: len(noted(self.saved)) >= self.count // 3)
                meanwhile()
            except BaseException as error:  # noqa: BLE001 - the test shows it
                self.failed.append(error)

        thread = threading.Thread(target=interfere)
        thread.start()
        try:
            return chunk(
                options.pop("func", call),
                [[i] for i in range(self.count)],
                worker=ExecutorWorker.on(executor),
                path=self.path,
                chunk_size=size,
                on_result=lambda index, _: note(self.saved, index),
                **options,
            )
        finally:
            thread.join()
            assert self.failed == []

    def expect_no_saved_call_twice(self, at_most: int) -> None:
        """Look that only calls that ran when something was killed ran again."""
        assert len(set(noted(self.saved))) == len(noted(self.saved))
        assert len(noted(self.log)) <= self.count + at_most


def test_run_completes_when_a_worker_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    """The calls of a worker that is killed run on the other one, and nothing that was saved runs again."""
    workers = [cluster.start_worker("--no-nanny") for _ in range(2)]
    watched = Watched(tmp_path, 30)
    with connected(cluster, 2) as client:
        assert watched.run(client.get_executor(), workers[0].kill) == list(range(30))
    watched.expect_no_saved_call_twice(at_most=8)


def test_run_waits_for_workers_when_the_cluster_is_scaled_down_to_zero(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any worker the run waits, says so, and goes on when some come; a large function reaches these, too."""
    first = cluster.start_worker("--no-nanny")
    watched = Watched(tmp_path, 30)
    table, log = np.arange(100_000), watched.log

    def look_up(x: int) -> int:
        note(log, x)
        time.sleep(0.05)
        return int(table[x])

    monkeypatch.setattr(config, "stall_seconds", 0.0)
    with connected(cluster, 1) as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EngineStalledWarning)

        def replace() -> None:
            first.terminate()  # as a batch system ends it
            first.wait(100)
            wait_until(lambda: caught, what="the warning")
            cluster.start_worker("--no-nanny")

        assert watched.run(client.get_executor(), replace, func=look_up) == list(range(30))
    (warning,) = caught
    assert re.fullmatch(
        r"the Dask cluster has no worker, so calls wait\. 1\d of 30 results are safe in .*results\.pkl\. "
        r"The run goes on as soon as it can; Ctrl-C ends it\.",
        str(warning.message),
    )
    watched.expect_no_saved_call_twice(at_most=4)


def test_run_completes_when_the_scheduler_is_killed_and_comes_back(cluster: Cluster, tmp_path: Path) -> None:
    """A scheduler that starts anew knows no calls: those in flight are submitted again."""
    first = cluster.start_worker("--no-nanny")
    watched = Watched(tmp_path, 30)
    with connected(cluster, 1) as client:

        def replace() -> None:
            cluster.scheduler.kill()
            cluster.scheduler.wait()
            first.wait(100)
            cluster.start_scheduler()
            cluster.start_worker("--no-nanny")

        assert watched.run(client.get_executor(), replace) == list(range(30))
    watched.expect_no_saved_call_twice(at_most=8)


def test_run_ends_with_what_is_saved_when_the_scheduler_is_gone(cluster: Cluster, tmp_path: Path) -> None:
    """Where no scheduler comes back, the run ends when Dask gives up, and is resumed on another cluster."""
    cluster.start_worker("--no-nanny")
    watched = Watched(tmp_path, 30)
    with connected(cluster, 1, timeout="1s") as client:
        with pytest.raises(RunStoppedError, match="the executor takes no more calls") as caught:
            watched.run(client.get_executor(), cluster.scheduler.kill)
        saved = len(noted(watched.saved))
        assert f"{saved} of 30 results are safe" in "".join(caught.value.__notes__)
    cluster.start_scheduler()
    cluster.start_worker("--no-nanny")
    with connected(cluster, 1) as client:
        assert watched.run(client.get_executor(), lambda: None) == list(range(30))
    watched.expect_no_saved_call_twice(at_most=8)


def test_deadly_call_fails_alone(cluster: Cluster, tmp_path: Path) -> None:
    """A call that kills its worker, and neighbours that die with it, are told apart: only that call fails."""
    cluster.start_worker("--nworkers", "2", threads=2)
    log = tmp_path / "log"

    def call(x: int) -> int:
        note(log, x)
        if x == 3:
            os._exit(3)
        return x

    with connected(cluster, 2) as client:
        worker = ExecutorWorker.on(client.get_executor())
        outputs = chunk(call, [[i] for i in range(8)], worker=worker, chunk_size=2, on_error="return")
    assert [output for output in outputs if not isinstance(output, Failure)] == [0, 1, 2, 4, 5, 6, 7]
    assert isinstance(outputs[3].exception, WorkerDiedError)
    assert str(outputs[3].exception).startswith("call 3: the executor lost it: KilledWorker: ")


def test_cancelled_calls_run_again(client: Any, tmp_path: Path) -> None:
    """Calls that somebody cancelled while they were in flight are submitted once more."""
    watched = Watched(tmp_path, 30)
    executor = client.get_executor()

    def cancel() -> None:
        client.cancel([future for future in list(executor._futures) if future.status == "pending"])

    assert watched.run(executor, cancel) == list(range(30))
    watched.expect_no_saved_call_twice(at_most=8)


# --- the example --------------------------------------------------------------------------


def test_example_resumes_on_a_cluster_when_it_was_killed(
    cluster: Cluster, programs: Programs, tmp_path: Path
) -> None:
    """`kill -9` of the script half-way costs the calls that ran; the cluster stays, and the next run completes."""
    example = Path(__file__).resolve().parent.parent / "examples" / "on_dask.py"
    path = tmp_path / "on_dask.pkl"
    for _ in range(2):
        cluster.start_worker("--no-nanny", threads=1)
    with connected(cluster, 2):
        pass
    process = programs.start(None, example, cluster.address, flags=())
    wait_until(lambda: saved_in(path) >= 5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(100)
    saved = saved_in(path)
    done = programs.run(None, example, cluster.address, flags=())
    assert f"{saved} resumed" in done.stderr
    assert done.stdout.count("\n") == 16
    assert is_living(cluster.scheduler.pid)


def saved_in(path: Path) -> int:
    try:
        return sum(Checkpoint.load(str(path)).completed)
    except (FileNotFoundError, NotACheckpointError):  # it is made first, and written then
        return 0
