"""The worker contract: the same promises for workers of every kind, and for what users make of them."""

import functools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pykka
import pytest
from conftest import children, note, noted, wait_for, wait_until

from thread_chunks import Checkpoint, Chunker, Failure, ProcessWorker, ThreadWorker, Worker, chunk

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")


class PlainProcessWorker(ProcessWorker):
    """A subclass that overrides nothing."""


class SuperThreadWorker(ThreadWorker):
    """Adds to what the inherited `execute` returns."""

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return super().execute(func, *args, **kwargs)


class SuperProcessWorker(ProcessWorker):
    """Adds to what the inherited `execute` returns."""

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return super().execute(func, *args, **kwargs)


class InlineProcessWorker(ProcessWorker):
    """Runs its calls in the caller's process after all."""

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)


KINDS = [
    ThreadWorker,
    ProcessWorker,
    PlainProcessWorker,
    SuperThreadWorker,
    SuperProcessWorker,
    InlineProcessWorker,
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
both_kinds = pytest.mark.parametrize("kind", [ThreadWorker, ProcessWorker])


def double(x: Any) -> Any:
    return 2 * x


def triple(x: Any) -> Any:
    return 3 * x


# --- called directly -----------------------------------------------------------------


@every_kind
def test_worker_returns_label_and_result_when_run_directly(kind: type[Worker]) -> None:
    """`run(label, *args)` on an instance returns the label, unchanged, and the result."""
    worker = kind(double)
    label = object()
    try:
        assert worker.run(label, 21) == (label, 42)
        assert worker.run("again", x=4) == ("again", 8)
    finally:
        worker.on_stop()


@every_kind
def test_worker_runs_another_function_when_it_is_set(kind: type[Worker]) -> None:
    """`set_func` replaces the function, and `get_func` returns it."""
    worker = kind(double)
    try:
        assert worker.get_func() is double
        assert worker.run("label", 3) == ("label", 6)
        worker.set_func(triple)
        assert worker.get_func() is triple
        assert worker.run("label", 3) == ("label", 9)
    finally:
        worker.on_stop()


def noted_arguments(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


@every_kind
def test_worker_passes_positional_and_keyword_arguments_on(kind: type[Worker]) -> None:
    """Both kinds of arguments of one call arrive, whether it is run directly or an override adds to a row."""

    class Adding(kind):  # type: ignore[misc, valid-type]
        def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return super().execute(func, *args, added=10, **kwargs)

    rows: list[Any] = [[1], {"x": 2}, (3, "four"), [], {}, [{"x": 5}]]
    wanted = [((1,), {}), ((), {"x": 2}), ((3, "four"), {}), ((), {}), ((), {}), (({"x": 5},), {})]
    outputs = chunk(noted_arguments, rows, chunk_size=1, worker=Adding)
    assert outputs == [(args, {"added": 10, **kwargs}) for args, kwargs in wanted]
    assert chunk(noted_arguments, rows, chunk_size=1, worker=kind) == wanted
    worker = kind(noted_arguments)
    try:
        assert worker.run("label", 5, scale=2) == ("label", ((5,), {"scale": 2}))
    finally:
        worker.on_stop()


@every_kind
def test_worker_says_what_is_missing_when_it_holds_no_function(kind: type[Worker]) -> None:
    """A worker without a function says how to give it one."""
    worker = kind()
    assert worker.get_func() is None
    with pytest.raises(ValueError, match="set_func"):
        worker.run("label", 1)


@every_kind
def test_worker_raises_the_functions_own_exception_when_run_directly(kind: type[Worker]) -> None:
    """An exception of the function reaches whoever called `run`, with its own type."""
    worker = kind(int)
    try:
        with pytest.raises(ValueError, match="invalid literal"):
            worker.run("label", "not a number")
    finally:
        worker.on_stop()


def test_process_worker_leaves_no_child_when_it_is_dropped() -> None:
    """An instance that was called directly and is forgotten leaves no process."""
    before = children()
    worker = ProcessWorker(double)
    worker.run("label", 1)
    assert len(children() - before) == 1
    del worker
    wait_until(lambda: children() <= before, what="the end of the child")


@every_kind
def test_worker_answers_a_proxy(kind: type[Worker]) -> None:
    """A started worker can be used through pykka's own proxy, as any actor."""
    proxy = kind.start(double).proxy()
    assert proxy.run("label", 4).get(timeout=100) == ("label", 8)
    proxy.set_func(triple).get(timeout=100)
    assert proxy.run("label", 4).get(timeout=100) == ("label", 12)


# --- in a run ----------------------------------------------------------------------------


@every_kind
def test_worker_carries_out_a_run(kind: type[Worker], tmp_path: Path) -> None:
    """A run gives the same list with workers of every kind, saved and resumed."""
    path = tmp_path / "c.pkl"
    parameters = [[n] for n in range(20)]
    for _ in range(2):
        assert chunk(double, parameters, chunk_size=2, path=path, worker=kind) == [2 * n for n in range(20)]
    assert Checkpoint.load(path).completed == 20 * [True]


@every_kind
def test_worker_runs_keyword_rows(kind: type[Worker]) -> None:
    """Mappings become keyword arguments with workers of every kind, whatever the keywords are called."""

    def take(**values: int) -> dict[str, int]:
        return values

    row = {"func": 1, "self": 2, "x": 3}
    assert chunk(take, [row], worker=kind) == [row]


@every_kind
@pytest.mark.parametrize(
    "error",
    [ValueError("v"), SystemExit(2), KeyboardInterrupt(), GeneratorExit()],
    ids=lambda error: type(error).__name__,
)
def test_worker_fails_one_call_when_it_raises(
    kind: type[Worker], error: BaseException, tmp_path: Path
) -> None:
    """Whatever a call raises, an exit included, fails that call alone with workers of every kind."""
    path = tmp_path / "c.pkl"

    def fails(x: int) -> int:
        if x == 2:
            raise error
        return x

    outputs = chunk(fails, [[n] for n in range(5)], chunk_size=2, path=path, worker=kind, on_error="return")
    failure = outputs.pop(2)
    assert outputs == [0, 1, 3, 4]
    assert isinstance(failure, Failure)
    assert type(failure.exception) is type(error)
    assert "in fails" in failure.traceback
    assert Checkpoint.load(path).completed == [True, True, False, True, True]


@every_kind
def test_worker_fails_one_call_when_its_result_cannot_be_saved(kind: type[Worker], tmp_path: Path) -> None:
    """A result that cannot be pickled fails its own call, and no other."""
    path = tmp_path / "c.pkl"

    def locks(x: int) -> object:
        return threading.Lock() if x == 1 else x

    outputs = chunk(locks, [[0], [1], [2]], chunk_size=1, path=path, worker=kind, on_error="return")
    assert outputs[0] == 0
    assert isinstance(outputs[1], Failure)
    assert outputs[2] == 2
    assert Checkpoint.load(path).completed == [True, False, True]


@every_kind
def test_worker_tries_a_call_again(kind: type[Worker], tmp_path: Path) -> None:
    """`retries` holds for workers of every kind."""

    def second_time(x: int) -> int:
        note(tmp_path / f"log {x}", "tried")
        if len(noted(tmp_path / f"log {x}")) < 2:
            raise OSError
        return x

    assert chunk(second_time, [[0], [1]], chunk_size=1, retries=1, worker=kind) == [0, 1]


@every_kind
def test_worker_holds_the_function_that_actors_were_started_with(kind: type[Worker]) -> None:
    """chunk(None, ..., actors=...) runs the actors' own function, and func replaces it."""
    actors = [kind.start(double) for _ in range(2)]
    parameters = [[n] for n in range(6)]
    assert chunk(None, parameters, actors=actors) == [2 * n for n in range(6)]
    assert chunk(triple, parameters, actors) == [3 * n for n in range(6)]
    assert chunk(None, parameters, actors) == [3 * n for n in range(6)]


@every_kind
def test_worker_stays_alive_when_the_user_started_it(kind: type[Worker]) -> None:
    """The user's actors survive a run, also one that failed, and can be used again."""
    actors = [kind.start(double) for _ in range(2)]
    for _ in range(2):
        assert chunk(None, [[1], [2]], actors) == [2, 4]
        with pytest.raises(TypeError):
            chunk(None, [[1], [None], [2]], actors)
    assert all(actor.is_alive() for actor in actors)


@pytest.mark.parametrize("kind", [ThreadWorker, ProcessWorker, SuperProcessWorker])
def test_worker_does_not_hold_up_calls_behind_a_long_one(kind: type[Worker], tmp_path: Path) -> None:
    """A long call among many short ones holds up none of them, however they were handed out, while a worker is idle."""

    def one_long(index: int) -> int:
        if index == 500:
            wait_for(tmp_path / "501")
        if index == 501:
            note(tmp_path / "501", "ended")
        return index

    assert chunk(one_long, [[n] for n in range(1000)], chunk_size=2, worker=kind) == list(range(1000))


def test_worker_says_what_is_missing_when_actors_hold_no_function() -> None:
    """Actors without a function, and no func: a ValueError before any call."""
    with pytest.raises(ValueError, match="func"):
        chunk(None, [[1]], [ThreadWorker.start()])


def test_worker_is_refused_when_it_was_stopped() -> None:
    """An actor that was stopped is a ValueError that says so."""
    actor = ThreadWorker.start(double)
    actor.stop()
    with pytest.raises(ValueError, match="stopped"):
        chunk(None, [[1]], [actor])


def test_worker_is_refused_when_it_is_another_kind_of_actor() -> None:
    """An actor that is no worker is a TypeError."""
    stranger: Any = pykka.ThreadingActor.start()
    with pytest.raises(TypeError, match="worker"):
        chunk(double, [[1]], [stranger])


def test_workers_of_several_kinds_work_together() -> None:
    """Actors of different kinds can share one run."""
    kinds: list[type[Worker]] = [ThreadWorker, ProcessWorker, SuperProcessWorker]
    actors = [kind.start() for kind in kinds]
    assert chunk(double, [[n] for n in range(50)], actors) == [2 * n for n in range(50)]


def test_run_goes_on_when_one_of_its_workers_is_stopped(tmp_path: Path) -> None:
    """When someone else stops one worker in the middle, the others finish the run."""
    actors = [ThreadWorker.start() for _ in range(2)]
    stopped: list[int] = []

    def on_result(index: int, output: int) -> None:
        if not stopped:
            stopped.append(index)
            actors[0].stop(block=False)

    outputs = chunk(double, [[n] for n in range(40)], actors, on_result=on_result)
    assert outputs == [2 * n for n in range(40)]
    wait_until(lambda: not actors[0].is_alive())
    assert actors[1].is_alive()


def test_run_ends_with_an_error_when_all_its_workers_are_stopped(tmp_path: Path) -> None:
    """When someone stops every actor of the process, the run ends with an error and keeps what it has."""
    path = tmp_path / "c.pkl"

    def on_result(index: int, output: int) -> None:
        pykka.ActorRegistry.stop_all(block=False)

    def slow_later(x: int) -> int:
        if x:
            wait_for(tmp_path / "never", 0.3)
        return x

    with pytest.raises((RuntimeError, TimeoutError)):
        chunk(slow_later, [[n] for n in range(40)], chunk_size=1, path=path, on_result=on_result)
    assert Checkpoint.load(path).completed[0]


# --- execute -------------------------------------------------------------------------------


class CountingThread(ThreadWorker):
    """Notes every call, and calls super()."""

    def __init__(self, log: Path, func: Callable[..., Any] | None = None) -> None:
        super().__init__(func)
        self.log = log

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        note(self.log, args[0])
        return -super().execute(func, *args, **kwargs)


class CountingProcess(ProcessWorker):
    """Notes every call, and calls super()."""

    def __init__(self, log: Path, func: Callable[..., Any] | None = None) -> None:
        super().__init__(func)
        self.log = log

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        note(self.log, args[0])
        return -super().execute(func, *args, **kwargs)


class ReplacingThread(ThreadWorker):
    """Does not call the function at all."""

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return func.__name__, args, kwargs


class ReplacingProcess(ProcessWorker):
    """Does not call the function at all."""

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return func.__name__, args, kwargs


@pytest.mark.parametrize("kind", [CountingThread, CountingProcess])
@pytest.mark.parametrize("count", [1, 3000])
def test_execute_is_honoured_for_every_call_when_it_calls_super(
    kind: Any, count: int, tmp_path: Path
) -> None:
    """Every call comes through an overridden `execute`, once, however many are handed out at once."""
    log = tmp_path / "log"
    path = tmp_path / "c.pkl"
    worker = functools.partial(kind, log)
    outputs = chunk(double, [[n] for n in range(count)], chunk_size=2, worker=worker, path=path)
    assert outputs == [-2 * n for n in range(count)]
    assert sorted(map(int, noted(log))) == list(range(count))
    assert Checkpoint.load(path).output == outputs


@pytest.mark.parametrize("kind", [ReplacingThread, ReplacingProcess])
def test_execute_is_honoured_for_every_call_when_it_does_not_call_super(kind: type[Worker]) -> None:
    """What an overridden `execute` returns is the result, whether or not it ran the function."""
    outputs = chunk(double, [[n] for n in range(2000)], chunk_size=2, worker=kind)
    assert outputs == [("double", (n,), {}) for n in range(2000)]


def test_execute_is_honoured_when_actors_are_given(tmp_path: Path) -> None:
    """Constructor arguments reach a worker through actors=[My.start(3)]."""

    class Power(ThreadWorker):
        def __init__(self, exponent: int) -> None:
            super().__init__()
            self.exponent = exponent

        def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return super().execute(func, *args, **kwargs) ** self.exponent

    assert chunk(double, [[1], [2]], actors=[Power.start(3)]) == [8, 64]
    assert chunk(double, [[1], [2]], worker=functools.partial(Power, 3)) == [8, 64]
    assert chunk(double, [[1], [2]], worker=functools.partial(Power, exponent=2)) == [4, 16]


def test_execute_is_honoured_when_a_process_worker_has_arguments() -> None:
    """The same holds for a subclass of ProcessWorker, which runs the call in its child."""

    class Tagged(ProcessWorker):
        def __init__(self, tag: str) -> None:
            super().__init__()
            self.tag = tag

        def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return self.tag, os.getpid(), super().execute(func, *args, **kwargs)

    for outputs in (
        chunk(os.getpid, [[]], actors=[Tagged.start("a")]),
        chunk(os.getpid, [[]], worker=functools.partial(Tagged, "a")),
    ):
        tag, ours, theirs = outputs[0]
        assert (tag, ours) == ("a", os.getpid())
        assert theirs != ours


def test_execute_can_change_function_and_arguments() -> None:
    """`super().execute` runs whatever function and arguments it is given, in the child."""

    class Other(ProcessWorker):
        def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            first = super().execute(func, *args, **kwargs)
            return first, super().execute(triple, first), super().execute(os.getpid) != os.getpid()

    assert chunk(double, [[1], [2]], worker=Other, chunk_size=1) == [(2, 6, True), (4, 12, True)]


def test_execute_fails_its_call_only_when_it_raises_itself() -> None:
    """An error in the user's `execute` is that call's failure, an exit included; the worker goes on."""

    class Picky(ProcessWorker):
        def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            if args[0] == 1:
                raise SystemExit(4)
            return super().execute(func, *args, **kwargs)

    outputs = chunk(double, [[0], [1], [2]], worker=Picky, chunk_size=1, on_error="return")
    assert outputs[::2] == [0, 4]
    assert isinstance(outputs[1].exception, SystemExit)


def test_execute_can_catch_what_the_call_raised() -> None:
    """An override may turn an exception of the call into a result."""

    class Catching(ProcessWorker):
        def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().execute(func, *args, **kwargs)
            except ZeroDivisionError:
                return "infinite"

    def inverse(x: int) -> float:
        return 1 / x

    assert chunk(inverse, [[0], [2]], worker=Catching) == ["infinite", 0.5]


def test_execute_loses_one_call_only_when_its_child_is_killed() -> None:
    """A call that kills its child fails alone under an overridden `execute`, too."""

    def kills(x: int) -> int:
        if x == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    outputs = chunk(kills, [[0], [1], [2]], worker=SuperProcessWorker, chunk_size=1, on_error="return")
    assert outputs[::2] == [0, 2]
    assert isinstance(outputs[1], Failure)


def test_execute_is_limited_by_the_timeout() -> None:
    """`timeout` kills the call in the child of an overridden `execute`, too, and only that call."""

    def hangs(x: int) -> int:
        while x == 1:
            pass
        return x

    outputs = chunk(
        hangs, [[0], [1], [2]], worker=SuperProcessWorker, chunk_size=1, timeout=1, on_error="return"
    )
    assert outputs[::2] == [0, 2]
    assert isinstance(outputs[1].exception, TimeoutError)


def test_worker_says_how_to_start_it_when_its_constructor_needs_arguments() -> None:
    """A class that cannot be started without arguments is a TypeError that shows the two ways to give them."""

    class Needy(ThreadWorker):
        def __init__(self, number: int) -> None:
            super().__init__()

    with pytest.raises(TypeError, match=r"functools\.partial") as caught:
        chunk(double, [[1]], worker=Needy)
    assert "Needy.start" in str(caught.value)


def test_worker_hooks_of_the_user_run_around_a_run(tmp_path: Path) -> None:
    """`on_start` and `on_stop` of a subclass that calls super() run once for each worker, in its thread."""

    class Hooked(ProcessWorker):
        def on_start(self) -> None:
            super().on_start()
            note(tmp_path / "log", f"start {threading.get_ident()}")

        def on_stop(self) -> None:
            note(tmp_path / "log", f"stop {threading.get_ident()}")
            super().on_stop()

    chunk(double, [[1], [2], [3]], worker=Hooked, chunk_size=2)
    lines = [line.split() for line in noted(tmp_path / "log")]
    starts = sorted(ident for word, ident in lines if word == "start")
    assert len(starts) == 2
    assert sorted(ident for word, ident in lines if word == "stop") == starts


# --- what is special about threads --------------------------------------------------------------


def test_thread_worker_shares_objects_without_copying(tmp_path: Path) -> None:
    """Parameters and results of a ThreadWorker are the very objects, with a checkpoint too."""
    big = [object()]
    shared: list[object] = []

    def keep(value: object) -> object:
        shared.append(value)
        return value

    assert chunk(keep, [[big]], worker=ThreadWorker)[0] is big
    assert shared[0] is big
    row = [1, 2, 3]
    assert chunk(keep, [[row]], worker=ThreadWorker, path=tmp_path / "c.pkl")[0] is row


def test_thread_worker_runs_in_this_process_in_its_own_thread() -> None:
    """A ThreadWorker runs calls in a thread of this process that is not the caller's."""
    outputs = chunk(lambda: (os.getpid(), threading.get_ident()), [[]], worker=ThreadWorker)
    assert outputs[0][0] == os.getpid()
    assert outputs[0][1] != threading.get_ident()


def test_thread_worker_runs_functions_that_cannot_be_pickled() -> None:
    """A function that holds a lock works in the actor's own thread."""
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            return x

    assert chunk(locked, [[1], [2]], worker=ThreadWorker, chunk_size=2) == [1, 2]


def test_thread_worker_takes_parameters_that_cannot_be_pickled() -> None:
    """Without a path nothing is pickled at all."""
    lock = threading.Lock()
    assert chunk(lambda value: value is lock, [[lock]], worker=ThreadWorker) == [True]


@pytest.mark.parametrize("how", ["worker", "actors", "chunker", "chunker with actors"])
def test_thread_worker_refuses_a_timeout(how: str) -> None:
    """A thread cannot be killed, so timeout= with a ThreadWorker is a ValueError, before any call."""

    def start() -> object:
        if how == "worker":
            return chunk(double, [[1]], worker=ThreadWorker, timeout=1)
        if how == "actors":
            return chunk(double, [[1]], [ThreadWorker.start()], timeout=1)
        if how == "chunker":
            return Chunker(double, worker=ThreadWorker, timeout=1)
        return Chunker(actors=[ThreadWorker.start(double)], timeout=1)

    with pytest.raises(ValueError, match="timeout"):
        start()


def test_worker_class_is_refused_beside_actors() -> None:
    """Started actors and a class of workers to start contradict each other."""
    with pytest.raises(ValueError, match="worker"):
        chunk(double, [[1]], [ThreadWorker.start()], worker=SuperThreadWorker)


@both_kinds
def test_worker_waits_for_a_run_that_is_going_on(kind: type[Worker], tmp_path: Path) -> None:
    """A second run on the same actors while the first goes on is an error, not a mix of both."""
    actors = [kind.start(double)]
    with Chunker(actors=actors) as chunker:
        results = chunker.as_completed([[n] for n in range(3)])
        next(results)
        with pytest.raises(RuntimeError, match="another run"):
            chunk(triple, [[1]], actors)
        results.close()
    assert chunk(triple, [[1]], actors) == [3]


@both_kinds
def test_worker_hands_on_a_result_as_it_was_when_the_call_ended(kind: type[Worker], tmp_path: Path) -> None:
    """A function that fills and returns the same memory each time has each of its results saved as it was."""
    memory = np.zeros(20_000)

    def filled(number: int) -> Any:
        if number < 0:
            raise ValueError
        memory[:] = number
        return memory

    path = tmp_path / "c.pkl"
    parameters = [[number] for number in range(20)]
    chunk(
        filled, [*parameters, [-1]], path=path, chunk_size=1, worker=kind, on_error="return"
    )  # it is not folded
    saved = Checkpoint.load(path).output
    assert [output[0] for output in saved[:-1]] == list(range(20))
    assert all((output == output[0]).all() for output in saved[:-1])


@pytest.mark.parametrize("kind", [ThreadWorker, ProcessWorker])
def test_worker_is_refused_when_it_overrides_what_no_run_calls(kind: type[Worker]) -> None:
    """Workers of release 1.0.5 overrode `run`; a run that calls `execute` would leave that out without a word."""
    with pytest.raises(TypeError, match=r"Doubling overrides run\(\).*override execute\(self, func"):
        type("Doubling", (kind,), {"run": lambda self, label, *args: (label, 2 * self.get_func()(*args))})
    both = type("Both", (kind,), {"run": kind.run, "execute": lambda self, func, /, *args: func(*args)})
    assert both(abs).run("label", -1) == ("label", 1)
