"""Calls on executors of others: the same promises, wherever the calls run."""

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import loky
import numpy as np
import pykka
import pytest
from conftest import note, noted, wait_until

from thread_chunks import (
    Checkpoint,
    Chunker,
    ExecutorWorker,
    Failure,
    RunStoppedError,
    WorkerDiedError,
    chunk,
)

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")


class ByHand(Executor):
    """Runs nothing by itself: the test decides how each future ends."""

    def __init__(self) -> None:
        self.submitted: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.is_shut = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.is_shut:
            msg = "cannot schedule new futures after shutdown"
            raise RuntimeError(msg)
        future: Future[Any] = Future()
        self.submitted.append((future, fn, args))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.is_shut = True

    def carry_out(self, number: int) -> None:
        future, fn, args = self.submitted[number]
        future.set_result(fn(*args))


@pytest.fixture
def by_hand() -> ByHand:
    return ByHand()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def double(x: Any) -> Any:
    return 2 * x


def started(
    executor: Executor, parameters: list[Any], kind: type[ExecutorWorker] = ExecutorWorker, **options: Any
) -> "tuple[threading.Thread, list[Any]]":
    """Start a run in a thread of its own; what comes of it ends up in the list."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(chunk(double, parameters, worker=kind.on(executor), **options))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


# --- arguments -----------------------------------------------------------------------------


def given(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


class Adding(ExecutorWorker):
    """Adds a keyword argument to each call."""

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return super().execute(func, *args, added=10, **kwargs)


@pytest.mark.parametrize("make", [ThreadPoolExecutor, loky.ProcessPoolExecutor])
def test_both_kinds_of_arguments_reach_a_call_on_an_executor(make: Callable[..., Executor]) -> None:
    """A call has positional and keyword arguments at once, and rows of either kind arrive as they are."""
    rows: list[Any] = [[1], {"x": 2}, (3, "four"), []]
    wanted = [((1,), {}), ((), {"x": 2}), ((3, "four"), {}), ((), {})]
    with make(1) as executor:
        assert chunk(given, rows, worker=ExecutorWorker.on(executor)) == wanted
        added = chunk(given, rows, worker=Adding.on(executor))
        assert added == [(args, {"added": 10, **kwargs}) for args, kwargs in wanted]


# --- how many at once --------------------------------------------------------------------


def test_executor_gets_chunk_size_calls_at_once_and_the_next_as_one_ends(by_hand: ByHand) -> None:
    """At most `chunk_size` calls are in flight, and one worker holds all of them."""
    thread, ended = started(by_hand, [[i] for i in range(6)], chunk_size=4)
    wait_until(lambda: len(by_hand.submitted) == 4)
    assert len(pykka.ActorRegistry.get_by_class(ExecutorWorker)) == 1
    by_hand.carry_out(2)
    wait_until(lambda: len(by_hand.submitted) == 5)
    for number in (0, 1, 3, 4):
        by_hand.carry_out(number)
    wait_until(lambda: len(by_hand.submitted) == 6)
    by_hand.carry_out(5)
    thread.join(100)
    assert ended == [[0, 2, 4, 6, 8, 10]]


def test_executor_worker_saves_each_result_the_moment_it_comes(by_hand: ByHand, tmp_path: Path) -> None:
    """A result is in the file while the others still run."""
    path = tmp_path / "results.pkl"
    thread, ended = started(by_hand, [[i] for i in range(3)], chunk_size=3, path=path)
    wait_until(lambda: len(by_hand.submitted) == 3)
    by_hand.carry_out(1)
    wait_until(lambda: Checkpoint.load(str(path)).completed == [False, True, False])
    by_hand.carry_out(0)
    by_hand.carry_out(2)
    thread.join(100)
    assert ended == [[0, 2, 4]]


class Counting(ExecutorWorker):
    """Counts its calls, and changes what they return."""

    counted: ClassVar[list[int]] = []

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.counted.append(args[0])
        return super().execute(func, *args, **kwargs) + 100


def test_override_of_execute_is_honoured_for_every_call(threads: ThreadPoolExecutor) -> None:
    """A subclass decides how each call is carried out; each of its workers takes one call at a time."""
    Counting.counted.clear()
    with Chunker(double, chunk_size=3, worker=Counting.on(threads)) as chunker:
        assert len(chunker.actors) == 3
        assert chunker([[i] for i in range(6)]) == [100 + 2 * i for i in range(6)]
    assert sorted(Counting.counted) == list(range(6))


def test_override_of_execute_is_told_of_failures_and_losses(by_hand: ByHand) -> None:
    """What the function raised, and that the executor lost the call, comes out of `super().execute`."""
    thread, ended = started(by_hand, [[0]], chunk_size=1, kind=Counting, on_error="return")
    for number in (0, 1):
        wait_until(functools.partial(_has_submitted, by_hand, number + 1))
        by_hand.submitted[number][0].set_exception(OSError("a node went down"))
    thread.join(100)
    ((failure,),) = ended
    assert "call 0: the executor lost it: OSError: a node went down" in str(failure.exception)


def test_waiting_ends_when_a_run_with_an_override_is_left_early(by_hand: ByHand) -> None:
    """A worker that waits in `execute` for a call that never ends lets go when nobody needs it."""
    with Chunker(double, chunk_size=2, worker=Counting.on(by_hand)) as chunker:
        stream = chunker.as_completed([[i] for i in range(5)])
        threading.Thread(target=_carry_out_soon, args=(by_hand, 0)).start()
        next(stream)
        stream.close()
        actors = chunker.actors
    wait_until(lambda: not any(actor.is_alive() for actor in actors))
    assert not by_hand.is_shut


def test_worker_runs_one_call_when_it_is_called_directly(threads: ThreadPoolExecutor) -> None:
    """`run(label, *args)` on an instance submits the call, waits, and returns the label beside the result."""
    worker = ExecutorWorker(double, executor=threads)
    assert worker.run("label", 21) == ("label", 42)
    with pytest.raises(TypeError, match="unsupported operand"):
        worker.run("label", None)


def test_actors_that_the_user_started_run_one_call_each(by_hand: ByHand) -> None:
    """As for every kind of worker: each started actor takes one call at a time."""
    actors = [ExecutorWorker.start(double, executor=by_hand) for _ in range(2)]
    outputs: list[Any] = []
    thread = threading.Thread(target=lambda: outputs.extend(chunk(None, [[1], [2], [3]], actors)))
    thread.start()
    wait_until(lambda: len(by_hand.submitted) == 2)
    by_hand.carry_out(1)
    wait_until(lambda: len(by_hand.submitted) == 3)
    by_hand.carry_out(0)
    by_hand.carry_out(2)
    thread.join(100)
    assert outputs == [2, 4, 6]


def test_kept_workers_serve_one_run_after_the_other(by_hand: ByHand) -> None:
    """What a run that was left early had in flight is not taken for the next one's."""
    with Chunker(double, chunk_size=2, worker=ExecutorWorker.on(by_hand)) as chunker:
        stream = chunker.as_completed([[1], [2], [3]])
        threading.Thread(target=_carry_out_soon, args=(by_hand, 0)).start()
        assert next(stream) == (0, 2)
        stream.close()
        outputs: list[Any] = []
        count = len(by_hand.submitted)
        thread = threading.Thread(target=lambda: outputs.extend(chunker([[10], [20]])))
        thread.start()
        wait_until(lambda: len(by_hand.submitted) == count + 2)
        by_hand.carry_out(count + 1)
        by_hand.carry_out(count)
        thread.join(100)
    assert outputs == [20, 40]


# --- what executors do wrong -----------------------------------------------------------------


def test_cancelled_call_is_submitted_again(by_hand: ByHand) -> None:
    """A call that somebody cancelled runs again."""
    thread, ended = started(by_hand, [[1], [2]], chunk_size=2)
    wait_until(lambda: len(by_hand.submitted) == 2)
    by_hand.submitted[0][0].cancel()
    wait_until(lambda: len(by_hand.submitted) == 3)
    by_hand.carry_out(1)
    by_hand.carry_out(2)
    thread.join(100)
    assert ended == [[2, 4]]


def test_call_fails_when_it_is_cancelled_again_and_again(by_hand: ByHand) -> None:
    """Who cancels a call twice is obeyed, and the error says which call and what happened."""
    thread, ended = started(by_hand, [[1]], chunk_size=1)
    for number in (0, 1):
        wait_until(functools.partial(_has_submitted, by_hand, number + 1))
        by_hand.submitted[number][0].cancel()
    thread.join(100)
    assert isinstance(ended[0], WorkerDiedError)
    assert ended[0].index == 0
    assert str(ended[0]).startswith("call 0: the executor lost it: CancelledError: it was cancelled")


def test_innocent_calls_complete_when_one_of_them_breaks_the_engine_again_and_again(by_hand: ByHand) -> None:
    """Of calls that are lost together fewer run together next time, until it is clear which one is to blame."""
    ended: list[Any] = []
    parameters = [[i] for i in range(5)]

    def run() -> None:
        ended.append(
            chunk(double, parameters, worker=ExecutorWorker.on(by_hand), chunk_size=5, on_error="return")
        )

    thread = threading.Thread(target=run)
    thread.start()
    done = 0
    wait_until(lambda: len(by_hand.submitted) == 5)
    while thread.is_alive():
        batch = by_hand.submitted[done:]
        done += len(batch)
        is_bad = any(args[1] == 3 for _, _, args in batch)
        for future, fn, args in batch:
            if is_bad:
                future.set_exception(OSError("a node went down"))
            else:
                future.set_result(fn(*args))
        while len(by_hand.submitted) == done and thread.is_alive():
            thread.join(0.001)
    (outputs,) = ended
    assert [outputs[i] for i in (0, 1, 2, 4)] == [0, 2, 4, 8]
    assert isinstance(outputs[3], Failure)
    assert "call 3: the executor lost it: OSError: a node went down" in str(outputs[3].exception)


def test_run_ends_with_what_is_saved_when_the_executor_is_shut_down(by_hand: ByHand, tmp_path: Path) -> None:
    """An executor that takes no more calls ends the run; the error says why, what is safe, and what to do."""
    path = tmp_path / "results.pkl"
    thread, ended = started(by_hand, [[i] for i in range(4)], chunk_size=2, path=path)
    wait_until(lambda: len(by_hand.submitted) == 2)
    by_hand.shutdown()
    by_hand.carry_out(0)
    thread.join(100)
    (error,) = ended
    assert isinstance(error, RunStoppedError)
    assert "cannot schedule new futures after shutdown" in str(error)
    assert "1 of 4 results are safe" in "".join(error.__notes__)
    assert Checkpoint.load(str(path)).completed == [True, False, False, False]


def test_calls_in_flight_are_cancelled_when_the_run_is_left_early(by_hand: ByHand) -> None:
    """A loop over results that is left early leaves nothing in the executor's queue."""
    with Chunker(double, chunk_size=3, worker=ExecutorWorker.on(by_hand)) as chunker:
        stream = chunker.as_completed([[i] for i in range(5)])
        threading.Thread(target=_carry_out_soon, args=(by_hand, 0)).start()
        assert next(stream) == (0, 0)
        wait_until(lambda: len(by_hand.submitted) == 4)
        stream.close()
        wait_until(lambda: all(future.done() for future, _, _ in by_hand.submitted))
        assert not by_hand.is_shut
        assert [future.cancelled() for future, _, _ in by_hand.submitted] == [False, True, True, True]


def _has_submitted(by_hand: ByHand, count: int) -> bool:
    return len(by_hand.submitted) == count


def _carry_out_soon(by_hand: ByHand, number: int) -> None:
    wait_until(lambda: len(by_hand.submitted) > number)
    by_hand.carry_out(number)


@pytest.mark.parametrize("wrong", [3, "dask", None, object(), int, [1]])
def test_worker_is_refused_when_it_is_given_no_executor(wrong: Any) -> None:
    """What is no executor is refused when it is given, and the error shows the fix."""
    with pytest.raises(TypeError, match=r"needs a concurrent\.futures\.Executor.*pass"):
        ExecutorWorker.on(wrong)


def test_worker_is_refused_when_what_it_is_given_makes_no_executor() -> None:
    """What makes something else than an executor ends the run with an error that says so."""
    with pytest.raises(RunStoppedError, match=r"returned 3, and not a concurrent\.futures\.Executor"):
        chunk(double, [[1]], worker=ExecutorWorker.on(lambda: 3))  # type: ignore[arg-type, return-value]


def test_timeout_is_refused_when_calls_cannot_be_killed(by_hand: ByHand) -> None:
    """A time limit that could not be kept is an error before anything starts."""
    with pytest.raises(ValueError, match="those of ExecutorWorker cannot"):
        chunk(double, [[1]], worker=ExecutorWorker.on(by_hand), timeout=1.0)


# --- pools of this machine -------------------------------------------------------------------


def test_calls_share_what_the_script_holds_when_they_run_in_threads(threads: ThreadPoolExecutor) -> None:
    """A pool of threads gets the function and its arguments themselves, and no copies."""
    seen: list[int] = []
    row = [1, 2]

    def append(value: list[int]) -> int:
        seen.append(id(value))
        return 1

    assert chunk(append, [[row]], worker=ExecutorWorker.on(threads)) == [1]
    assert seen == [id(row)]


@pytest.mark.parametrize("make", [ProcessPoolExecutor, loky.ProcessPoolExecutor], ids=["standard", "loky"])
def test_pool_of_processes_runs_the_scripts_own_functions(make: Any, tmp_path: Path) -> None:
    """Lambdas, arrays and keyword rows travel; results are saved, and resumed without a call."""
    path = tmp_path / "results.pkl"
    log = tmp_path / "log"

    def scale(x: Any, factor: float = 2.0) -> Any:
        note(log, int(x[0]))
        return factor * x

    parameters = [{"x": np.full(20_000, float(i)), "factor": 3.0} for i in range(6)]
    with make(2) as executor:
        for _ in range(2):
            outputs = chunk(scale, parameters, worker=ExecutorWorker.on(executor), path=path, chunk_size=4)
            assert [float(output[-1]) for output in outputs] == [0.0, 3.0, 6.0, 9.0, 12.0, 15.0]
        outputs[0][:] = 1.0  # a result may be written into, as after any other run
    assert sorted(noted(log)) == list("012345")


def test_run_ends_and_resumes_when_a_process_of_the_pool_is_killed(tmp_path: Path) -> None:
    """A broken pool of the user's ends the run; what was saved before is not run again."""
    path, log, gate = tmp_path / "results.pkl", tmp_path / "log", tmp_path / "gate"

    def call(x: int) -> int:
        note(log, x)
        if x == 4 and not gate.exists():
            gate.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    parameters = [[i] for i in range(8)]
    with (
        loky.ProcessPoolExecutor(1) as executor,
        pytest.raises(RunStoppedError, match="the executor takes no more calls: TerminatedWorker") as caught,
    ):
        chunk(call, parameters, worker=ExecutorWorker.on(executor), path=path, chunk_size=1)
    assert "4 of 8 results are safe" in "".join(caught.value.__notes__)
    with loky.ProcessPoolExecutor(1) as executor:
        assert chunk(call, parameters, worker=ExecutorWorker.on(executor), path=path) == list(range(8))
    assert sorted(noted(log)) == list("012344567")


def test_run_goes_on_with_a_new_pool_when_it_may_make_one(tmp_path: Path) -> None:
    """Who gives what makes a pool has a new one made after it broke, and only the call to blame fails."""
    log = tmp_path / "log"

    def call(x: int) -> int:
        note(log, x)
        if x == 5:
            os._exit(3)
        return x

    worker = ExecutorWorker.on(functools.partial(loky.ProcessPoolExecutor, 2))
    outputs = chunk(call, [[i] for i in range(8)], worker=worker, chunk_size=4, on_error="return")
    assert [output for output in outputs if not isinstance(output, Failure)] == [0, 1, 2, 3, 4, 6, 7]
    assert isinstance(outputs[5].exception, WorkerDiedError)
    assert isinstance(outputs[5].exception.__cause__, (BrokenExecutor, type(None)))
