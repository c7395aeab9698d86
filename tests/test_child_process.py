"""One child interpreter: what is sent to it, what comes back, and how it ends."""

import gc
import mmap
import multiprocessing.spawn
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Programs, children, is_living, note, noted, wait_for, wait_until

from thread_chunks import (
    CallTimeoutError,
    RemoteError,
    RemoteTraceback,
    ThreadWorker,
    WorkerDiedError,
    _child,
    _wire,
    chunk,
    config,
)
from thread_chunks._child_process import ChildProcess, UnreadableError
from thread_chunks._interpreter import THREAD_VARIABLES, executable
from thread_chunks._not_started import NotStartedError
from thread_chunks._parameters import read_calls
from thread_chunks._process import Process
from thread_chunks.messages import NOT_PICKLED, FailedCall, Outcome, Results

LEASE = 1000.0
GRACE = 2.0


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    """Start a child, and see to it that nothing of it is left."""
    before = children()
    process = ChildProcess(1)
    process.prepare()
    yield process
    process.kill()
    process.stop(GRACE)
    assert children() == before


def batches(
    child: ChildProcess, func: Callable[..., Any], *entries: Any, **options: Any
) -> list[tuple[tuple[Outcome, ...], bool, tuple[int, ...], int]]:
    """Run calls of a function and return everything that arrives, as it arrives."""
    child.load(func)
    return list(arriving(child, *entries, **options))


def arriving(
    child: ChildProcess, *entries: Any, lease: float = LEASE, **options: Any
) -> Iterator[tuple[tuple[Outcome, ...], bool, tuple[int, ...], int]]:
    """Run calls of the loaded function; what arrives is handed on as it arrives."""
    indices, calls = range(len(entries)), read_calls(entries)[1]
    options = {"timeout": None, "durable": True, **options}
    return child.run(indices, calls.rows_of(indices), lease, **options)


def run(child: ChildProcess, func: Callable[..., Any], *entries: Any, **options: Any) -> list[Outcome]:
    """Run calls of a function and return the outcome of each."""
    parts = batches(child, func, *entries, **options)
    return [each for outcomes, *_ in parts for each in one_by_one(outcomes)]


def one_by_one(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Take groups apart: one outcome for each call."""
    for outcome in outcomes:
        if isinstance(outcome, FailedCall) or len(outcome.indices) == 1:
            yield outcome
            continue
        for index, output, seconds in zip(outcome.indices, outcome.outputs, outcome.seconds, strict=True):
            yield Results((index,), [output], (seconds,), NOT_PICKLED)


def places(outcomes: Iterable[Outcome]) -> list[int]:
    """Return which calls the outcomes are of, in order."""
    return [
        outcome.index if isinstance(outcome, FailedCall) else outcome.indices[0]
        for outcome in one_by_one(outcomes)
    ]


def outputs(child: ChildProcess, func: Callable[..., Any], *entries: Any, **options: Any) -> list[Any]:
    """Run calls that return."""
    outcomes = run(child, func, *entries, **options)
    assert places(outcomes) == list(range(len(entries)))
    assert all(isinstance(outcome, Results) for outcome in outcomes), outcomes
    return [outcome.outputs[0] for outcome in outcomes if isinstance(outcome, Results)]


def failure(child: ChildProcess, func: Callable[..., Any], *entries: Any) -> FailedCall:
    """Run one call that fails."""
    (outcome,) = run(child, func, entries)
    assert isinstance(outcome, FailedCall)
    return outcome


def pid(child: ChildProcess) -> int:
    return int(child._process.pid)


def hang() -> None:
    threading.Event().wait(600)


class Growing:
    """Changes its array whenever it is unpickled."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self.array += 1


class Slow:
    """A function that takes long to unpickle, but not where it was made."""

    def __init__(self, seconds: float = 600.0) -> None:
        self.seconds = seconds
        self.home = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        if os.getpid() != self.home:
            time.sleep(self.seconds)

    def __call__(self, x: Any) -> Any:
        return x


class SlowReduce:
    """A result that takes long to pickle."""

    def __reduce__(self) -> Any:
        time.sleep(600)


# Functions of this file travel by value, so the child imports no tests.
for each in (hang, Slow, SlowReduce):
    each.__module__ = "__main__"


# --- calls --------------------------------------------------------------------------------


def test_child_runs_calls_in_order(child: ChildProcess) -> None:
    """Every call is run once, in order, with its positional or keyword arguments, in another process."""
    assert outputs(child, lambda x, y=0: (x, y), [1], [2, 3], {"x": 4, "y": 5}) == [(1, 0), (2, 3), (4, 5)]
    assert outputs(child, os.getpid, []) == [pid(child)]
    assert pid(child) != os.getpid()


def test_child_is_used_again_with_other_functions(child: ChildProcess) -> None:
    """One child runs chunk after chunk, and function after function."""
    functions: list[Callable[[int], int]] = [lambda x: x + 1, lambda x: x * 10]
    for func in functions * 3:
        assert outputs(child, func, [1], [2]) == [func(1), func(2)]
    assert outputs(child, os.getpid, []) == [pid(child)]


def test_child_keeps_what_a_function_remembers(child: ChildProcess) -> None:
    """The function stays in the child between chunks: what it loaded or cached is not lost."""
    seen: list[int] = []

    def remember(x: int) -> list[int]:
        seen.append(x)
        return list(seen)

    assert outputs(child, remember, [1]) == [[1]]
    assert outputs(child, remember, [2]) == [[1, 2]]


def test_child_keeps_the_pickled_result_when_it_will_be_saved(child: ChildProcess) -> None:
    """A result comes with its pickle, ready to be written; nobody keeps one that is not saved."""
    array = np.arange(100_000.0)
    (saved,) = run(child, lambda: array, [])
    assert isinstance(saved, Results)
    columns, main, buffers = saved.pickled
    assert len(main) < 1000
    assert [len(buffer) for buffer in buffers] == [array.nbytes]
    assert saved.size == len(main) + array.nbytes
    assert columns == _wire.single(0, saved.seconds[0], main, buffers)
    np.testing.assert_array_equal(pickle.loads(main, buffers=buffers), array)
    (kept,) = run(child, lambda: array, [], durable=False)
    assert isinstance(kept, Results)
    assert kept.pickled == NOT_PICKLED
    np.testing.assert_array_equal(kept.outputs[0], array)
    assert kept.outputs[0].flags.writeable


def test_child_keeps_the_pickles_of_short_calls_side_by_side(child: ChildProcess) -> None:
    """Many results that arrive together are kept as they were pickled: each by itself, its columns beside it."""
    func: Callable[[int], Any] = lambda x: (x, "text") if x % 3 else x  # noqa: E731 - so that it travels by value
    parts = batches(child, func, *[[number] for number in range(500)])
    groups = [outcome for outcomes, *_ in parts for outcome in outcomes if isinstance(outcome, Results)]
    assert places(groups) == list(range(500))
    for group in groups:
        indices, seconds, sizes, checksums = map(list, _wire.unpack(group.pickled.columns))
        pickles = _wire.parts(group.pickled.body, sizes)
        assert (indices, seconds) == (list(group.indices), list(group.seconds))
        assert [_wire.checksum(each, ()) for each in pickles] == checksums
        assert sum(sizes) == len(group.pickled.body) == group.size
        assert [pickle.loads(each) for each in pickles] == group.outputs == list(map(func, indices))
        assert group.pickled.buffers == ()
    quick = batches(child, func, *[[number] for number in range(500)], durable=False)
    assert {
        outcome.pickled for outcomes, *_ in quick for outcome in outcomes if isinstance(outcome, Results)
    } == {NOT_PICKLED}


def test_child_measures_seconds_and_bytes(child: ChildProcess) -> None:
    """What a chunk costs is told with its last outcomes, so that the next can be sized."""
    *_, (outcomes, is_last, _, moved) = batches(child, len, [b"x" * 500_000], [b"y" * 500_000])
    assert is_last
    assert 1_000_000 < moved < 1_100_000
    assert all(isinstance(each, Results) and min(each.seconds) >= 0 for each in outcomes)


def test_child_hands_results_back_as_they_come(child: ChildProcess, tmp_path: Path) -> None:
    """A result arrives while the next call is still running."""

    def second_waits(x: int) -> int:
        if x:
            wait_for(tmp_path / "go")
        return x

    child.load(second_waits)
    parts = arriving(child, [0], [1])
    outcomes, is_last, *_ = next(parts)
    assert places(outcomes) == [0]
    assert not is_last
    (tmp_path / "go").touch()
    assert [index for outcomes, *_ in parts for index in places(outcomes)] == [1]


def test_child_hands_back_unstarted_calls_when_its_lease_is_over(child: ChildProcess, tmp_path: Path) -> None:
    """A call that takes long holds up no other: those behind it are handed back while it still runs."""

    def first_waits(x: int) -> int:
        if not x:
            wait_for(tmp_path / "go")
        return x

    child.load(first_waits)
    parts = arriving(child, [0], [1], [2], lease=0.05)
    outcomes, is_last, returned, _ = next(parts)
    assert (outcomes, is_last, returned) == ((), False, (1, 2))
    (tmp_path / "go").touch()
    rest = list(parts)
    assert [index for outcomes, *_ in rest for index in places(outcomes)] == [0]
    assert [index for _, _, returned, _ in rest for index in returned] == []
    assert rest[-1][1]
    assert outputs(child, lambda x: x, [4]) == [4]


def test_child_hands_nothing_back_when_it_is_done_in_time(child: ChildProcess) -> None:
    """Short calls are all run, and a lease that is over later does not touch the next chunk."""
    for _ in range(20):
        for lease in (0.001, LEASE):
            parts = batches(child, lambda x: x, *[[number] for number in range(50)], lease=lease)
            run_or_returned = [index for outcomes, *_ in parts for index in places(outcomes)]
            run_or_returned += [index for _, _, returned, _ in parts for index in returned]
            assert sorted(run_or_returned) == list(range(50))
            if lease == LEASE:
                assert not any(returned for _, _, returned, _ in parts)


def test_child_starts_no_further_call_when_one_raised_and_errors_stop_the_run(child: ChildProcess) -> None:
    """Under a rule that the first failure ends the run, no call behind it is started."""

    def fail_at_one(x: int) -> int:
        return 1 // (1 - x)

    stopped = run(child, fail_at_one, [0], [1], [2], stops_at_failure=True)
    assert places(stopped) == [0, 1]
    everything = run(child, fail_at_one, [0], [1], [2])
    assert [isinstance(outcome, Results) for outcome in everything] == [True, False, True]


def test_child_returns_large_arguments_and_results(child: ChildProcess) -> None:
    """Many megabytes travel both ways, whole, however they are split on the way."""
    array = np.arange(4_000_000.0)
    (back,) = outputs(child, lambda x: -x, [array])
    np.testing.assert_array_equal(back, -array)


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 1500])
def test_child_returns_many_buffers(child: ChildProcess, count: int) -> None:
    """A result of very many large arrays comes back whole."""
    size = _wire.OUT_OF_BAND_BYTES
    (back,) = outputs(child, lambda: [np.full(size, number % 251, np.uint8) for number in range(count)], [])
    assert [int(array[0]) for array in back] == [number % 251 for number in range(count)]
    assert {array.nbytes for array in back} == {size}


# --- surroundings ----------------------------------------------------------------------------


def test_child_looks_like_its_parent(
    child: ChildProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Import path, arguments and working directory are those of the parent, also after they changed."""
    for _ in range(2):
        assert outputs(child, lambda: (sys.path, sys.argv, os.getcwd()), []) == [
            (sys.path, sys.argv, os.getcwd())
        ]
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path / "more"))
        monkeypatch.setattr(sys, "argv", ["other"])
        child.prepare()


def test_child_starts_without_its_own_folder_on_the_path() -> None:
    """The modules of this package are not importable as if they were the user's."""
    child = ChildProcess(1)
    assert str(Path(_child.__file__).parent) not in outputs(child, lambda: sys.path, [])[0]
    child.stop(GRACE)


def test_child_gets_every_x_option_of_the_script(programs: Programs) -> None:
    """Whatever -X says in the script it says in the child: known options, unknown ones, with and without a value."""
    source = """
        import sys
        from thread_chunks import chunk
        def f():
            import sys
            return sys._xoptions, sys.flags.dev_mode, sys.flags.utf8_mode, sys.pycache_prefix
        assert chunk(f, [[]], chunk_size=1, progress_bar=False) == [f()]
        print(len(sys._xoptions))
    """
    given = (
        "dev",
        "utf8",
        "frozen_modules=off",
        "int_max_str_digits=5000",
        "mine",
        "other=3",
        "tracemalloc=2",
    )
    options = [part for option in (*given, f"pycache_prefix={programs.folder}") for part in ("-X", option)]
    assert programs.run(source, flags=options).stdout == "8\n"


def test_child_loads_only_what_it_needs(child: ChildProcess) -> None:
    """A child that runs a function of a library starts with its own rooms, and without the package or anything slow."""
    (loaded,) = outputs(child, eval, ["set(__import__('sys').modules)"])
    rooms = {
        f"thread_chunks.{name}"
        for name in (
            "_child",
            "_classes",
            "_code",
            "_definitions",
            "_inside",
            "_outbox",
            "_outcome",
            "_script",
            "_wire",
        )
    }
    assert {name for name in loaded if name.startswith("thread_chunks")} == rooms
    slow = {
        "asyncio",
        "cloudpickle",
        "dataclasses",
        "inspect",
        "logging",
        "numpy",
        "pykka",
        "socket",
        "subprocess",
    }
    assert not slow & loaded


def test_child_imports_the_whole_package_when_a_call_does(child: ChildProcess) -> None:
    """A call may use this package like any other program: the child's start leaves no half of it behind."""
    first = "(__import__('thread_chunks').__file__, __import__('thread_chunks').__all__)"
    again = "__import__('thread_chunks').chunk(abs, [[-1], [-2]], chunk_size=1, progress_bar=False)"
    import thread_chunks  # noqa: PLC0415 - of this test alone

    assert outputs(child, eval, [first], [again]) == [
        (thread_chunks.__file__, thread_chunks.__all__),
        [1, 2],
    ]


def test_child_limits_the_threads_of_numerical_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries get as many threads as there is room for, unless the user said how many."""
    monkeypatch.delenv(THREAD_VARIABLES[0], raising=False)
    monkeypatch.setenv(THREAD_VARIABLES[1], "7")
    child = ChildProcess(3)
    first, second = THREAD_VARIABLES[:2]
    assert outputs(child, lambda: (os.environ[first], os.environ[second]), []) == [("3", "7")]
    child.stop(GRACE)


def test_child_inherits_no_other_descriptor(child: ChildProcess) -> None:
    """A child holds its own socket and the three standard streams, and nothing that would keep others alive."""
    other = ChildProcess(1)
    assert outputs(other, lambda: len([fd for fd in range(256) if _is_open(fd)]), []) == [4]
    other.stop(GRACE)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


_is_open.__module__ = "__main__"


def test_child_ignores_interrupts(child: ChildProcess) -> None:
    """Ctrl-C reaches the whole group of processes, and it is for the parent to handle."""

    def interrupted() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "still here"

    assert outputs(child, interrupted, []) == ["still here"]


# --- calls that fail -----------------------------------------------------------------------------


class CannotTravel(Exception):  # noqa: N818 - its name is shown
    def __reduce__(self) -> Any:
        msg = "stays where it is"
        raise TypeError(msg)


class CannotArrive(Exception):  # noqa: N818
    def __reduce__(self) -> Any:
        return _fall, ()


class ExitsOnArrival(Exception):  # noqa: N818
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class MuteError(Exception):
    def __str__(self) -> str:
        msg = "no message"
        raise RuntimeError(msg)


def _fall() -> None:
    msg = "cannot be unpickled"
    raise ValueError(msg)


for _travels in (CannotTravel, CannotArrive, ExitsOnArrival, MuteError, _fall):
    _travels.__module__ = "__main__"


def raiser(error: BaseException | type[BaseException]) -> Callable[[], Any]:
    """Make a function that raises; what it raises is made in the child."""
    kind, args = (error, ()) if isinstance(error, type) else (type(error), error.args)

    def fail() -> Any:
        raise kind(*args)

    return fail


@pytest.mark.parametrize(
    "error",
    [ValueError("bad"), KeyError("k"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("b"),
     StopIteration(1), MemoryError(), RecursionError("deep"), TimeoutError("late"), EOFError(), OSError(5, "io")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_child_reports_what_a_call_raised(child: ChildProcess, error: BaseException) -> None:
    """An exception of any kind, an exit included, is the call's own failure, with the traceback of the child."""
    failed = failure(child, raiser(error))
    assert type(failed.exception) is type(error)
    assert failed.exception.args == error.args
    assert isinstance(failed.exception.__cause__, RemoteTraceback)
    assert "raise kind(*args)" in failed.traceback
    assert _child.__file__ not in failed.traceback
    assert outputs(child, lambda: "still here", []) == ["still here"]


@pytest.mark.parametrize("kind", [CannotTravel, CannotArrive, ExitsOnArrival, MuteError])
def test_child_reports_an_exception_that_does_not_travel(child: ChildProcess, kind: type[Exception]) -> None:
    """An exception that cannot be pickled or unpickled keeps its name, and hurts nobody else."""
    failed = failure(child, raiser(kind))
    name = getattr(failed.exception, "type_name", type(failed.exception).__name__)
    assert name == kind.__name__
    assert "raise kind(*args)" in failed.traceback
    assert outputs(child, lambda: "still here", []) == ["still here"]


def test_child_names_the_exception_that_a_stand_in_stands_for(child: ChildProcess) -> None:
    """A stand-in says the type and message of what it stands for."""
    exception = failure(child, raiser(CannotTravel("why"))).exception
    assert isinstance(exception, RemoteError)
    assert str(exception) == "CannotTravel: why"


@pytest.mark.parametrize(
    ("result", "name"),
    [
        pytest.param("lock", "TypeError", id="cannot-be-pickled"),
        pytest.param("arrives", "ValueError", id="cannot-be-unpickled"),
        pytest.param("exits", "SystemExit", id="exits-when-unpickled"),
        pytest.param("deep", "", id="too-deep"),
        pytest.param("unhashable", "TypeError", id="class-without-a-hash"),
    ],
)
def test_child_fails_a_call_alone_when_its_result_does_not_travel(
    child: ChildProcess, result: str, name: str
) -> None:
    """A result that cannot be pickled or unpickled fails its own call, and the others return."""

    def make(kind: str) -> Any:
        class Equal(type):
            __hash__ = None  # type: ignore[assignment]  # its classes cannot be looked up in a set

        deep: list[Any] = []
        for _ in range(100_000 if kind == "deep" else 0):
            deep = [deep]
        made: dict[str, Any] = {
            "lock": threading.Lock(),
            "arrives": CannotArrive(),
            "exits": ExitsOnArrival(),
        }
        return {**made, "deep": deep, "unhashable": Equal("Made", (), {})(), "fine": 1}[kind]

    first, failed, last = run(child, make, ["fine"], [result], ["fine"])
    assert isinstance(first, Results)
    assert isinstance(last, Results)
    assert isinstance(failed, FailedCall)
    assert failed.index == 1
    assert name in f"{type(failed.exception).__name__} {failed.exception}"


@pytest.mark.parametrize("kind", [str, bytes, list], ids=lambda kind: kind.__name__)
def test_child_fails_a_call_alone_when_memory_is_too_small_for_its_pickle(
    child: ChildProcess, kind: type
) -> None:
    """A result that fits into memory, but not twice, fails its own call; its process lives, and the next call returns."""

    def make(size: int) -> Any:
        import resource  # noqa: PLC0415 - in the child

        made: Any = "x" * size if kind is str else b"x" * size
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        if size > 1000:
            resource.setrlimit(resource.RLIMIT_AS, (used + size // 2, resource.RLIM_INFINITY))
        return [made] if kind is list else made

    first, failed, last = run(child, make, [10], [400_000_000], [10])
    assert isinstance(first, Results)
    assert isinstance(last, Results)
    assert isinstance(failed, FailedCall)
    assert "MemoryError" in f"{type(failed.exception).__name__} {failed.exception}"


@pytest.mark.parametrize("kind", ["arrives", "exits"])
def test_child_fails_a_call_alone_when_its_result_came_with_others(
    child: ChildProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A result that cannot be unpickled costs its own call; those that came in the same group are kept, to be saved too."""
    bad = {50, 51, 120}

    def make(number: int) -> Any:
        if number == 199:
            note(tmp_path / "all ran", "")
        trap: Exception = CannotArrive() if kind == "arrives" else ExitsOnArrival()
        return bytes(8_000_000) if number == 0 else trap if number in bad else number

    receive = child._receive
    groups: list[list[int]] = []

    def receive_late() -> list[Any]:
        wait_for(tmp_path / "all ran")  # so that results pile up in the child, and come together
        items = receive()
        groups.extend(list(_wire.unpack(item[1])[0]) for item in items if item and item[0] == "results")
        return items

    child.load(make)
    child._finish_loading()
    monkeypatch.setattr(child, "_receive", receive_late)
    outcomes = [each for part, *_ in arriving(child, *[[number] for number in range(200)]) for each in part]
    assert places(outcomes) == list(range(200))
    assert {each.index for each in outcomes if isinstance(each, FailedCall)} == bad
    assert any(len(group) > 2 and bad & set(group) for group in groups), "none came with others"
    for kept in [each for each in outcomes if isinstance(each, Results)]:
        indices, _, sizes, checksums = map(list, _wire.unpack(kept.pickled.columns))
        pickles = _wire.parts(kept.pickled.body, sizes)
        assert list(map(pickle.loads, pickles)) == kept.outputs
        assert [_wire.checksum(each, ()) for each in pickles] == checksums
        assert indices == list(kept.indices)
        assert kept.outputs == [index or bytes(8_000_000) for index in indices]


def test_child_keeps_the_order_of_large_and_small_results(child: ChildProcess) -> None:
    """Large results travel by themselves and small ones together, and all of them in the order of their calls."""
    array = np.arange(float(_wire.OUT_OF_BAND_BYTES))
    back = outputs(child, lambda n: (array + n) if n % 5 == 0 else "x" * 99_999 if n % 7 == 0 else n,
                   *[[number] for number in range(60)])  # fmt: skip
    for number, output in enumerate(back):
        if number % 5 == 0:
            np.testing.assert_array_equal(output, array + number)
        else:
            assert output == ("x" * 99_999 if number % 7 == 0 else number)


def test_child_holds_large_arrays_of_its_function_once(child: ChildProcess) -> None:
    """A function travels with the arrays it uses, large ones beside its pickle; in the child they can be written to."""
    table, frozen = np.arange(1_000_000.0), np.ones(100_000)
    frozen.flags.writeable = False

    def look(place: int) -> tuple[float, float, bool]:
        table[place] += 1
        return float(table[place]), float(frozen.sum()), frozen.flags.writeable

    expected = [(6.0, 100_000.0, False), (7.0, 100_000.0, False)]
    assert outputs(child, look, [5], [5]) == expected
    assert table[5] == 5


# --- what does not travel there ---------------------------------------------------------------------


class BreaksOnArrival:
    def __reduce__(self) -> Any:
        return _fall, ()


BreaksOnArrival.__module__ = "__main__"


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([[1], [threading.Lock()]], TypeError),
        ([[threading.Lock()]], TypeError),
        ([[BreaksOnArrival()]], ValueError),
    ],
    ids=["one of two", "the only one", "on arrival"],
)
def test_child_runs_no_call_when_parameters_do_not_travel(
    child: ChildProcess, tmp_path: Path, rows: list[list[Any]], kind: type[Exception]
) -> None:
    """Parameters that cannot be pickled, or the only ones if they do not arrive, are an error before any call runs."""

    def work(x: Any) -> Any:
        note(tmp_path / "ran", x)
        return x

    for _ in range(2):
        with pytest.raises(UnreadableError) as caught:
            run(child, work, *rows)
        assert type(caught.value.args[0]) is kind
    assert noted(tmp_path / "ran") == []
    assert outputs(child, work, [1], [2]) == [1, 2]
    assert noted(tmp_path / "ran") == ["1", "2"]


def test_child_fails_a_call_alone_when_its_parameters_do_not_arrive(child: ChildProcess) -> None:
    """Of several calls, one whose parameters cannot be unpickled fails, and the others are run."""
    one, broken_one, two = run(child, lambda x: x, [[1]], [BreaksOnArrival()], [[2]])
    assert isinstance(one, Results)
    assert isinstance(two, Results)
    assert (one.outputs, two.outputs) == ([[1]], [[2]])
    assert isinstance(broken_one, FailedCall)
    assert isinstance(broken_one.exception, ValueError)


def broken() -> Callable[..., Any]:
    """Make a function that cannot be unpickled."""
    trap = BreaksOnArrival()
    return lambda *args: (trap, args)


def test_child_runs_no_call_when_the_function_does_not_travel(child: ChildProcess) -> None:
    """A function that cannot be unpickled is an error each time it should run, and another one works."""
    func = broken()
    for _ in range(2):
        with pytest.raises(UnreadableError, match="cannot be unpickled"):
            run(child, func, [1])
    assert outputs(child, lambda x: x, [1], [2]) == [1, 2]


def test_child_refuses_a_function_that_cannot_be_pickled(child: ChildProcess) -> None:
    """A function that cannot be pickled is an error before anything is sent."""
    lock = threading.Lock()
    with pytest.raises(UnreadableError):
        child.load(lambda: lock)
    assert outputs(child, lambda x: x, [1]) == [1]


@pytest.mark.parametrize("first", ["good", "broken"])
def test_child_runs_the_last_function_when_another_was_loaded_before(child: ChildProcess, first: str) -> None:
    """A function that was loaded and never run leaves nothing behind that the next one would trip over."""
    child.load(broken() if first == "broken" else lambda x: -x)
    for number in range(3):
        assert outputs(child, lambda x: x, [number], [number + 1]) == [number, number + 1]


def test_child_runs_the_last_function_when_many_were_loaded_at_once(child: ChildProcess) -> None:
    """However many functions were loaded in a row, the last one runs."""
    for number in range(20):
        child.load(lambda x, number=number: x + number)
    assert outputs(child, lambda x: x, [1]) == [1]


# --- death -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("die", "code", "text"),
    [
        pytest.param(lambda: os._exit(3), 3, "exit code 3", id="exit"),
        pytest.param(lambda: os.kill(os.getpid(), signal.SIGKILL), -9, "SIGKILL", id="killed"),
        pytest.param(os.abort, -6, "SIGABRT", id="abort"),
        pytest.param(lambda: os.kill(os.getpid(), signal.SIGTERM), -15, "SIGTERM", id="terminated"),
        pytest.param(lambda: os.kill(os.getpid(), signal.SIGSEGV), -11, "SIGSEGV", id="segfault"),
    ],
)
def test_child_says_how_it_died(child: ChildProcess, die: Callable[[], Any], code: int, text: str) -> None:
    """A death is an error with the exit code or the name of the signal."""
    with pytest.raises(WorkerDiedError, match=text) as caught:
        run(child, die, [])
    assert caught.value.exit_code == code
    assert not child.is_alive
    assert caught.value.index is None


def test_child_hints_at_memory_when_it_was_killed(child: ChildProcess) -> None:
    """A kill by the system is most often for want of memory, and the error says what helps."""
    with pytest.raises(WorkerDiedError, match=r"out-of-memory.*smaller chunk_size"):
        run(child, lambda: os.kill(os.getpid(), signal.SIGKILL), [])


def test_child_keeps_outcomes_that_came_before_its_death(child: ChildProcess, tmp_path: Path) -> None:
    """What arrived before a death counts; only the calls without an outcome are lost."""

    def die_at_two(x: int) -> int:
        if x == 2:
            wait_for(tmp_path / "arrived")
            os._exit(1)
        return x

    child.load(die_at_two)
    parts = arriving(child, [0], [1], [2], [3])
    arrived: list[int] = []
    while len(arrived) < 2:
        outcomes, *_ = next(parts)
        arrived += places(outcomes)
    (tmp_path / "arrived").touch()
    with pytest.raises(WorkerDiedError):
        list(parts)
    assert arrived == [0, 1]


def test_child_is_found_dead_when_it_died_between_chunks(child: ChildProcess) -> None:
    """A child that was killed while it was idle is an error at the next use, never a wait without end."""
    assert outputs(child, lambda x: x, [1]) == [1]
    os.kill(pid(child), signal.SIGKILL)
    wait_until(lambda: not child.is_alive)
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        run(child, lambda x: x, [1])


def test_child_is_killed_when_it_closes_its_end(child: ChildProcess) -> None:
    """A child whose socket was closed by a call cannot answer any more: it ends and is reported dead."""

    def close_all() -> None:
        os.closerange(3, 256)

    with pytest.raises(WorkerDiedError):
        run(child, close_all, [])
    assert not child.is_alive


def test_child_is_killed_when_it_talks_nonsense(child: ChildProcess) -> None:
    """Bytes that no child of ours would send are the end of the conversation, and of the child."""

    nonsense = struct.pack("<IQ", 1, 4) + b"junk"  # a message, but no pickle

    def babble() -> None:
        for descriptor in range(3, 256):
            try:
                os.write(descriptor, nonsense)
            except OSError:
                continue
        threading.Event().wait(600)

    with pytest.raises(WorkerDiedError):
        run(child, babble, [])
    assert not child.is_alive


def test_kill_ends_a_wait_at_once_when_it_comes_from_another_thread(
    child: ChildProcess, tmp_path: Path
) -> None:
    """A call that hangs can be ended from any thread; whoever waits for it learns of the death."""
    caught: list[BaseException] = []

    def hang_noted() -> None:
        note(tmp_path / "hanging", "")
        threading.Event().wait(600)

    def wait_in_vain() -> None:
        try:
            run(child, hang_noted, [])
        except WorkerDiedError as error:
            caught.append(error)

    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    wait_for(tmp_path / "hanging")
    child.kill()
    child.kill()
    waiting.join(100)
    assert not waiting.is_alive()
    (error,) = caught
    assert isinstance(error, WorkerDiedError)
    assert error.exit_code == -9


def gil_holder() -> None:
    """Hang in C without letting go of the interpreter's lock."""
    import ctypes  # noqa: PLC0415 - in the child

    ctypes.PyDLL(None).pause()


def stubborn() -> None:
    """Hang and ignore every signal that can be ignored."""
    import signal as signals  # noqa: PLC0415 - in the child

    for number in (signals.SIGTERM, signals.SIGHUP, signals.SIGINT):
        signals.signal(number, signals.SIG_IGN)
    threading.Event().wait(600)


gil_holder.__module__ = stubborn.__module__ = "__main__"


@pytest.mark.parametrize("func", [hang, gil_holder, stubborn])
def test_child_is_killed_when_a_call_exceeds_its_time(child: ChildProcess, func: Callable[[], None]) -> None:
    """A call that takes too long ends with its child, whatever it does, and the error says how long it had."""
    with pytest.raises(CallTimeoutError, match=r"0\.3 s"):
        run(child, func, [], timeout=0.3)
    assert not child.is_alive


def test_child_is_not_killed_when_calls_keep_their_time(child: ChildProcess) -> None:
    """A time limit does no harm to a call that keeps it, and ends with its call."""
    assert outputs(child, lambda x: x, [1], timeout=30.0) == [1]
    assert outputs(child, lambda x: x, [2]) == [2]


def test_child_is_not_killed_when_an_old_time_limit_is_long_past(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of one call is not the limit of sending the next one's arguments, however long that takes."""
    monkeypatch.setattr(config, "heartbeat_seconds", 0.01)
    assert outputs(child, len, [b""], timeout=30.0) == [0]
    looks = 0
    check = child._check

    def count_looks() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            os.kill(pid(child), signal.SIGCONT)
        check()

    monkeypatch.setattr(child, "_check", count_looks)
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 1000.0)
    os.kill(pid(child), signal.SIGSTOP)
    assert outputs(child, len, [b"x" * 10_000_000], timeout=30.0) == [10_000_000]
    assert looks >= 3


# --- the end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["new", "used", "dead", "killed", "stopped twice"])
def test_stop_leaves_no_process_and_no_descriptor(state: str) -> None:
    """After a stop the process is gone and reaped and the socket closed, whatever state it was in."""
    before, open_before = children(), set(os.listdir("/dev/fd"))
    child = ChildProcess(1)
    if state != "new":
        assert outputs(child, lambda x: x, [1]) == [1]
    if state == "dead":
        os.kill(pid(child), signal.SIGKILL)
    elif state == "killed":
        child.kill()
    child.stop(GRACE)
    if state == "stopped twice":
        child.kill()
    assert children() == before
    assert set(os.listdir("/dev/fd")) == open_before
    assert not child.is_alive
    assert child._sock.fileno() == -1
    code = 0 if state in {"used", "stopped twice"} else -9  # a new one has nothing to end by itself
    assert child._process.code == code


def test_stop_kills_a_child_that_is_busy() -> None:
    """A child whose call does not end is killed after the grace period."""
    child = ChildProcess(1)

    def second_hangs(x: int) -> int:
        if x:
            threading.Event().wait(600)
        return x

    child.load(second_hangs)
    outcomes, *_ = next(arriving(child, [0], [1]))
    assert places(outcomes) == [0]
    child.stop(0.05)
    assert child._process.code == -9


def test_stop_kills_a_child_that_was_stopped_by_a_signal() -> None:
    """A child that cannot answer at all, as one that was suspended, is killed after the grace period."""
    child = ChildProcess(1)
    assert outputs(child, lambda x: x, [1]) == [1]
    os.kill(pid(child), signal.SIGSTOP)
    child.stop(0.05)
    assert child._process.code == -9


PARENT = """
    import ctypes, os, sys, threading, time
    from thread_chunks._child_process import ChildProcess
    from thread_chunks._parameters import read_calls

    def sleeps(path):
        open(path, "w").write(str(os.getpid()))
        time.sleep(600)

    def computes(path):
        open(path, "w").write(str(os.getpid()))
        while True:
            pass

    def holds_the_lock(path):
        open(path, "w").write(str(os.getpid()))
        ctypes.PyDLL(None).pause()

    def work(path, func):
        child = ChildProcess(1)
        child.prepare()
        child.load(func)
        if func is idle:
            run(child, path)
            time.sleep(600)
        run(child, path)

    def run(child, path):
        rows = read_calls([[path]])[1].rows_of(range(1))
        list(child.run(range(1), rows, 1000.0, timeout=None, durable=True))

    def idle(path):
        open(path, "w").write(str(os.getpid()))

    for func in (idle, sleeps, computes, holds_the_lock):
        threading.Thread(target=work, args=(os.path.join(sys.argv[1], func.__name__), func)).start()
"""


def test_children_die_with_their_parent(programs: Programs, tmp_path: Path) -> None:
    """When the parent is killed its children are gone at once, idle, sleeping, computing or deep in C."""
    names = ["idle", "sleeps", "computes", "holds_the_lock"]
    process = programs.start(PARENT, tmp_path)
    wait_until(lambda: all(len(noted_pid(tmp_path / name)) for name in names), what="four children")
    assert children(process.pid) == {int(noted_pid(tmp_path / name)) for name in names}
    process.send_signal(signal.SIGKILL)
    process.wait(100)
    programs.expect_gone(process)


def noted_pid(path: Path) -> str:
    return path.read_text() if path.exists() else ""


# --- what a call may do to its own process -----------------------------------------------------------


def test_kill_ends_what_the_call_had_started(tmp_path: Path) -> None:
    """A call that is killed takes the programs with it that it started."""

    def starts_another() -> None:
        program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        note(tmp_path / "pid", program.pid)
        program.wait()

    child = ChildProcess(1)
    child.load(starts_another)
    with pytest.raises(CallTimeoutError):
        list(arriving(child, [], timeout=1.0, durable=False))
    child.stop(GRACE)
    (other,) = noted(tmp_path / "pid")
    wait_until(lambda: not is_living(int(other)), what="the end of the program that the call had started")


def test_child_dies_when_a_call_closed_its_socket(child: ChildProcess, tmp_path: Path) -> None:
    """A call that closes every descriptor is a death that says so; nothing of ours lands in its next file."""

    def closes_everything() -> None:
        os.closerange(0, 1000)
        for number in range(100):
            os.open(tmp_path / f"of the user {number}", os.O_WRONLY | os.O_CREAT)

    with pytest.raises(WorkerDiedError, match="closed the descriptors of its process"):
        outputs(child, closes_everything, [])
    # Its other threads notice at once, and the process may end before it opens a file.
    assert {path.stat().st_size for path in tmp_path.glob("of the user *")} <= {0}


def test_child_is_exhausted_when_a_call_ran_out_of_memory(child: ChildProcess) -> None:
    """After a MemoryError the child is to be replaced, and after other errors it is not."""
    failure(child, raiser(ValueError))
    assert not child.is_exhausted
    failure(child, raiser(MemoryError))
    assert child.is_exhausted


def test_child_that_cannot_be_started_is_no_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system starts no process, the error says so and no descriptor is left."""
    before = os.listdir("/dev/fd")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(NotStartedError, match=r"could not be started: .*/nowhere/python"):
        ChildProcess(1)
    assert os.listdir("/dev/fd") == before


def test_child_counts_the_buffers_of_results_among_the_bytes_that_it_moved(child: ChildProcess) -> None:
    """What large arrays weigh counts, so that they go out one by one: memory is what the user is short of."""
    (*_, (_, _, _, moved)) = batches(child, np.zeros, [10**6])
    assert moved > 8 * 10**6


# --- what it is asked for takes time -----------------------------------------------------------------------


def _stop(child: ChildProcess) -> None:
    os.kill(pid(child), signal.SIGSTOP)


LARGE = np.zeros(4_000_000)
SLOW_PARTS: dict[str, tuple[Callable[[ChildProcess], object], Callable[..., Any], Any]] = {
    "its parameters are sent": (_stop, abs, LARGE),
    "its function is sent": (_stop, lambda x: x + LARGE, 0),
    "its function is loaded": (lambda _: None, Slow(), 0),
    "its parameters are unpickled": (lambda _: None, repr, Slow()),
    "its result is pickled": (lambda _: None, lambda _, slow=SlowReduce: slow(), 0),
}


@pytest.mark.parametrize("part", SLOW_PARTS)
def test_time_limit_of_a_call_covers_everything_that_its_process_is_asked_for(
    part: str, child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that does not get on is killed when the time is over, whatever it was asked for."""
    monkeypatch.setattr(config, "load_seconds", 0.2)
    assert outputs(child, os.getpid, []) == [pid(child)]
    before, func, parameter = SLOW_PARTS[part]
    before(child)

    def call() -> None:
        child.load(func, timeout=0.3)
        outputs(child, func, [parameter], timeout=0.3)

    with pytest.raises(CallTimeoutError, match=r"timeout of 0\.3 s, and its process was killed") as caught:
        call()
    assert caught.value.__context__ is None  # else it keeps what was sent, and Python 3.12 crashes on that
    assert not child.is_alive


def test_loading_has_time_of_its_own_when_calls_are_short(child: ChildProcess, tmp_path: Path) -> None:
    """A function that takes longer to load than a call may take is loaded all the same."""
    assert outputs(child, Slow(0.3), [0], timeout=0.1) == [0]


def test_halt_is_told_once_when_a_function_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a time limit it is told which function takes long to load, and the child is waited for."""
    monkeypatch.setattr(config, "stall_seconds", 0.1)
    monkeypatch.setattr(config, "heartbeat_seconds", 0.05)
    told: list[str] = []
    child = ChildProcess(1, tell_stalled=told.append)
    child.prepare()
    try:
        assert outputs(child, Slow(0.6), [1]) == [1]
    finally:
        child.kill()
        child.stop(GRACE)
    (text,) = told
    assert text.startswith("loading ")
    assert "has taken more than 0.1 s" in text


# --- how it ended, and what it leaves ------------------------------------------------------------------------


@pytest.mark.parametrize("taken", ["signal.signal(signal.SIGCHLD, signal.SIG_IGN)", "reap()"])
def test_death_is_not_called_an_exit_when_the_script_takes_exit_codes(taken: str, programs: Programs) -> None:
    """Where nobody can know how a process ended that is what is said, and the run goes on."""
    program = f"""
        import os, signal, threading, time
        from thread_chunks import WorkerDiedError, chunk

        def reap():
            def wait():
                while True:
                    try:
                        os.wait()
                    except ChildProcessError:
                        time.sleep(0.001)
            threading.Thread(target=wait, daemon=True).start()

        def f(x):
            if x == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return x

        {taken}
        got = chunk(f, [[0], [1], [2]], chunk_size=1, on_error="return", progress_bar=False)
        assert got[::2] == [0, 2], got
        error = got[1].exception
        assert type(error) is WorkerDiedError
        assert error.exit_code in (None, -9), error.exit_code
        assert "SIGCHLD" in str(error) if error.exit_code is None else "SIGKILL" in str(error), error
        if "SIG_IGN" in {taken!r}:
            assert error.exit_code is None
    """
    programs.run(program)


def test_number_is_not_killed_when_it_was_given_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody else waited for our child, its number may be that of a stranger, who lives on."""
    child = subprocess.Popen([sys.executable, "-c", ""], process_group=0)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
    process = Process(child)
    os.waitpid(child.pid, 0)
    process.pid = stranger.pid
    monkeypatch.setattr(process, "_is_taken", True)
    process.kill()
    assert stranger.poll() is None
    stranger.kill()
    assert stranger.wait() == -9
    child.wait()


def test_programs_of_a_call_are_killed_when_somebody_else_waited_for_the_child() -> None:
    """What a child had started is found by its group, also when the child itself is gone."""
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    popen = subprocess.Popen([sys.executable, "-c", code], process_group=0, stdout=subprocess.PIPE)
    assert popen.stdout is not None
    program = int(popen.stdout.readline())
    process = Process(popen)
    os.waitpid(popen.pid, 0)
    assert not process.is_alive
    process.kill()
    wait_until(lambda: not is_living(program))
    assert process.wait(GRACE)
    assert process.code is None
    popen.stdout.close()


def test_checksum_is_of_what_arrived_when_somebody_writes_into_a_result(child: ChildProcess) -> None:
    """A result in memory that is still written to is saved as it arrived, with the checksum of that."""

    def shared() -> Any:
        array = np.frombuffer(mmap.mmap(-1, 8_000_000))

        def write() -> None:
            while True:
                array[:] = array[0] + 1

        threading.Thread(target=write, daemon=True).start()
        return array

    for result in run(child, shared, [], [], []):
        assert isinstance(result, Results)
        columns, main, buffers = result.pickled.columns, result.pickled.body, result.pickled.buffers
        (checksum,) = _wire.unpack(columns)[3]
        assert checksum == _wire.checksum(main, buffers)


def test_result_is_saved_as_it_arrived_when_unpickling_writes_into_it(child: ChildProcess) -> None:
    """A class that changes its array when it is unpickled does so once for each time, and not in what is saved."""
    (result,) = run(child, lambda: Growing(np.zeros(100_000)), [])
    assert isinstance(result, Results)
    assert result.outputs[0].array[0] == 1
    saved = pickle.loads(result.pickled.body, buffers=result.pickled.buffers)
    assert saved.array[0] == 1


def test_child_follows_the_environment_between_runs(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that were set, changed or deleted here are so there; what a call set itself stays."""

    def look(*names: str) -> list[str | None]:
        os.environ["OF_THE_CALL"] = "call"
        return [os.environ.get(name) for name in names]

    names = ["NEW", "HOME", "OMP_NUM_THREADS", "OF_THE_CALL"]
    assert outputs(child, look, names)[0] == [None, os.environ.get("HOME"), "1", "call"]
    monkeypatch.setenv("NEW", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("HOME", raising=False)
    child.follow_environment()
    assert outputs(child, look, names)[0] == ["1", None, "3", "call"]
    monkeypatch.delenv("NEW")
    monkeypatch.delenv("OMP_NUM_THREADS")
    child.follow_environment()
    assert outputs(child, look, names)[0] == [None, None, "1", "call"]


def test_large_parameters_are_in_no_cycle_when_they_did_not_arrive(child: ChildProcess) -> None:
    """What was sent goes when it was sent: buffers in garbage that refers to itself can crash the interpreter."""

    class Stays:
        def __reduce__(self) -> Any:
            return int, ("no number",)

    def send() -> None:
        with pytest.raises(UnreadableError):
            outputs(child, len, [(np.zeros(100_000), Stays())])

    found: list[Any] = []
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        send()
        gc.collect()
        found += [each for each in gc.garbage if isinstance(each, pickle.PickleBuffer)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not found


# --- how it is started ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 0.001, 30.0])
def test_child_is_not_concerned_when_sockets_have_a_default_time_out(seconds: float) -> None:
    """A default time-out is for the sockets of the script."""
    socket.setdefaulttimeout(seconds)
    try:
        child = ChildProcess(1)
    finally:
        socket.setdefaulttimeout(None)
    assert outputs(child, lambda x: x, [LARGE])[0].shape == LARGE.shape
    child.stop(GRACE)


def test_script_lives_on_when_it_takes_broken_pipes_as_a_signal_and_its_child_is_gone(
    programs: Programs,
) -> None:
    """To write to a child that died is an error of ours, and no SIGPIPE for the script."""
    program = """
        import os, signal
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        from thread_chunks import Chunker
        with Chunker(lambda x: os.getpid(), chunk_size=1, progress_bar=False) as chunker:
            (pid,) = chunker([[0]])
            os.kill(pid, signal.SIGKILL)
            assert chunker([[bytes(1_000_000)]]) != [pid]
    """
    programs.run(program)


INTERPRETERS: dict[str, tuple[dict[str, Any], str | None]] = {
    "as it is": ({}, None),
    "frozen": ({"frozen": True}, "this is a frozen application"),
    "frozen by another name": ({"frozen": "macosx_app"}, "this is a frozen application"),
    "embedded": ({"executable": ""}, "sys.executable does not say which"),
    "embedded otherwise": ({"executable": None}, "sys.executable does not say which"),
}


@pytest.mark.parametrize("told", [None, "/usr/bin/of-the-user", b"/usr/bin/of-the-user"])
@pytest.mark.parametrize("name", INTERPRETERS)
def test_interpreter_is_the_one_that_there_is(
    name: str, told: str | bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one that the user named, or that this program runs in; without one, no call runs, and it is said why."""
    attributes, refusal = INTERPRETERS[name]
    before = sys.executable
    for attribute, value in attributes.items():
        monkeypatch.setattr(sys, attribute, value, raising=False)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", sys.executable if told is None else told)
    if told is not None:
        assert executable() == os.fsdecode(told)
    elif refusal is None:
        assert executable() == before
    else:
        with pytest.raises(RuntimeError, match=refusal) as raised:
            chunk(print, [[1]], progress_bar=False)
        assert "ThreadWorker" in str(raised.value)
        assert chunk(abs, [[-1]], worker=ThreadWorker, progress_bar=False) == [1]


def test_package_runs_where_python_was_built_without_ctypes(programs: Programs) -> None:
    """Only the wish to be killed with the parent needs it: the end of the socket says the same."""
    programs.write("raise ImportError('built without it')", "_ctypes.py")
    script = """
        import sys
        from thread_chunks import ThreadWorker, chunk
        def f(x):
            try:
                import _ctypes
            except ImportError:
                return -x
        for options in ({}, {"worker": ThreadWorker}):
            assert chunk(f, [[1], [2]], path="c.pkl", progress_bar=False, **options) == [-1, -2]
    """
    paths = [str(programs.folder), os.environ.get("PYTHONPATH", "")]
    programs.run(script, env={"PYTHONPATH": os.pathsep.join(filter(None, paths))})
