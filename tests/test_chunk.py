"""`chunk` in the calling process: order, rows, options, failures, and what one bad call may not do."""

import dataclasses
import itertools
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Programs, note, noted, wait_for, wait_until

from thread_chunks import (
    CallTimeoutError,
    Checkpoint,
    Failure,
    ProcessWorker,
    RemoteError,
    RemoteTraceback,
    ThreadWorker,
    Worker,
    WorkerDiedError,
    chunk,
)

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")


def add(x: Any, y: Any = 0) -> Any:
    return x + y


# --- what comes back --------------------------------------------------------------


def test_chunk_returns_outputs_in_order_when_calls_end_out_of_order(tmp_path: Path) -> None:
    """The outputs stand in the order of the parameters, whichever call ends first."""

    def last_first(index: int) -> int:
        if index == 0:
            wait_for(tmp_path / "2")
        note(tmp_path / str(index), "ended")
        return 10 * index

    assert chunk(last_first, [[0], [1], [2]], chunk_size=2) == [0, 10, 20]


def test_chunk_runs_the_readme_example(tmp_path: Path) -> None:
    """The example of the contract gives what the contract says, and a checkpoint file."""
    path = tmp_path / "checkpoint.pkl"
    assert chunk(add, [[1, 4], [2, 5], [3, 6]], path=path) == [5, 7, 9]
    assert Checkpoint.load(path).output == [5, 7, 9]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        pytest.param([{"x": 1}, {"x": 2, "y": 3}], [1, 5], id="mappings"),
        pytest.param([(1, 2), [3, 4], {"y": 6, "x": 5}], [3, 7, 11], id="mixed"),
        pytest.param(((n, 1) for n in range(3)), [1, 2, 3], id="generator"),
        pytest.param(np.array([[1, 2], [3, 4]]), [3, 7], id="array"),
        pytest.param([np.array([1.5, 2.0]), np.array([0.5])], [3.5, 0.5], id="rows"),
        pytest.param([range(2), range(1)], [1, 0], id="ranges"),
        pytest.param([], [], id="none"),
        pytest.param(iter(()), [], id="nothing"),
    ],
)
def test_chunk_takes_parameters_of_any_kind(parameters: Any, expected: list[Any]) -> None:
    """A row is a sequence of positional arguments or a mapping of keyword arguments; rows come from any iterable."""
    assert chunk(add, parameters, chunk_size=2) == expected


def test_chunk_calls_without_arguments_when_rows_are_empty() -> None:
    """An empty row is a call without arguments."""
    assert chunk(lambda: "called", [[], (), {}], chunk_size=1) == ["called"] * 3


def test_chunk_reads_a_generator_once_when_there_is_a_checkpoint(tmp_path: Path) -> None:
    """The parameters are read once, although they are both run and saved."""
    reads = []

    def rows() -> Iterator[list[int]]:
        for number in range(5):
            reads.append(number)
            yield [number]

    assert chunk(add, rows(), chunk_size=2, path=tmp_path / "c.pkl") == [0, 1, 2, 3, 4]
    assert reads == [0, 1, 2, 3, 4]


def test_chunk_returns_arrays_whole_and_writable_when_they_are_large() -> None:
    """Large arrays come back by value, and the caller may write to them."""
    outputs = chunk(lambda n: np.full(200_000, n), [[1], [2]], chunk_size=2)
    assert [int(array.sum()) for array in outputs] == [200_000, 400_000]
    outputs[0][0] = 7


def test_chunk_returns_the_right_list_when_there_are_20000_trivial_calls(tmp_path: Path) -> None:
    """Many very short calls are each run once, saved, and returned in order."""
    path = tmp_path / "many.pkl"
    parameters = [[n] for n in range(20_000)]
    expected = [3 * n for n in range(20_000)]
    assert chunk(lambda n: 3 * n, parameters, chunk_size=2, path=path) == expected
    assert Checkpoint.load(path).output == expected


# --- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "fix"),
    [
        pytest.param([1, 2], r"\[\[1\], \[2\]\]", id="numbers"),
        pytest.param(["ab", "cd"], r"\['ab'\]", id="strings"),
        pytest.param([[1], b"cd"], r"parameters\[1\]", id="bytes"),
        pytest.param([None], r"\[None\]", id="none"),
        pytest.param(np.arange(3), r"\[\[1\], \[2\]\]", id="flat array"),
        pytest.param("abc", r"\[\[1, 4\], \[2, 5\]\]", id="a string"),
        pytest.param({"x": 1}, r"\[\[1, 4\], \[2, 5\]\]", id="a mapping"),
        pytest.param(3, r"\[\[1, 4\], \[2, 5\]\]", id="a number"),
    ],
)
def test_chunk_shows_the_fix_when_a_row_is_no_row(parameters: Any, fix: str, tmp_path: Path) -> None:
    """A scalar or string where a list of arguments belongs is a TypeError that shows the fix; nothing ran."""
    path = tmp_path / "c.pkl"
    with pytest.raises(TypeError, match=fix):
        chunk(lambda *args: note(tmp_path / "log", args), parameters, path=path)
    assert not path.exists()
    assert noted(tmp_path / "log") == []


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": 0},
        {"chunk_size": -1},
        {"chunk_size": 1.5},
        {"on_error": "ignore"},
        {"on_mismatch": "overwrite"},
        {"retries": -1},
        {"retries": 0.5},
        {"timeout": 0},
        {"timeout": -1.0},
    ],
    ids=str,
)
def test_chunk_refuses_an_option_when_it_makes_no_sense(options: dict[str, Any], tmp_path: Path) -> None:
    """A bad option is a ValueError that names it, before any call and any file."""
    path = tmp_path / "c.pkl"
    with pytest.raises(ValueError, match=next(iter(options))):
        chunk(add, [[1]], path=path, **options)
    assert not path.exists()


@pytest.mark.parametrize("worker", [int, "ProcessWorker", None, lambda: 0])
def test_chunk_refuses_a_worker_when_it_is_no_worker_class(worker: Any) -> None:
    """What is no subclass of Worker is a TypeError."""
    with pytest.raises(TypeError, match="worker"):
        chunk(add, [[1]], worker=worker)


def test_chunk_refuses_to_start_when_func_and_actors_are_missing() -> None:
    """Without a function and without actors there is nothing to run: a ValueError."""
    with pytest.raises(ValueError, match="func"):
        chunk(None, [[1]])


@pytest.mark.parametrize("func", [3, "f", [1]])
def test_chunk_refuses_a_function_when_it_cannot_be_called(func: Any) -> None:
    """What cannot be called is a TypeError."""
    with pytest.raises(TypeError, match="func"):
        chunk(func, [[1]])


@pytest.mark.parametrize("size", [1, 3])
def test_chunk_refuses_a_size_when_it_is_not_the_number_of_actors(size: int) -> None:
    """Each actor runs one call at a time, so another chunk_size than their number is a ValueError."""
    actors = [ThreadWorker.start(add) for _ in range(2)]
    with pytest.raises(ValueError, match="2 actors"):
        chunk(None, [[1]], actors, size)
    assert chunk(None, [[1]], actors, 2) == [1]


def test_chunk_leaves_the_file_alone_when_the_function_cannot_be_pickled(tmp_path: Path) -> None:
    """A function that cannot travel is a TypeError before any call, and an existing checkpoint stays as it is."""
    path = tmp_path / "c.pkl"
    chunk(add, [[1], [2]], chunk_size=1, path=path)
    before = path.read_bytes()
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            note(tmp_path / "log", x)
        return x

    with pytest.raises(TypeError, match="cannot be pickled"):
        chunk(locked, [[1], [2]], path=path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["c.pkl"]


def test_chunk_leaves_the_file_alone_when_parameters_cannot_be_pickled(tmp_path: Path) -> None:
    """Parameters that cannot be kept are a TypeError before any call, and an existing checkpoint stays as it is."""
    path = tmp_path / "c.pkl"
    chunk(add, [[1], [2]], chunk_size=1, path=path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="parameters"):
        chunk(add, [[1], [threading.Lock()]], path=path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["c.pkl"]


class Holder:
    """Something that pickles or not, as what it holds does."""

    def __init__(self, held: Any) -> None:
        self.held = held


def test_chunk_fails_one_call_when_its_parameters_turn_out_not_to_pickle() -> None:
    """One value of each type is tried beforehand; another that cannot travel fails its own call and no other."""
    outputs = chunk(
        lambda holder: holder.held,
        [[Holder(1)], [Holder(threading.Lock())], [Holder(3)]],
        chunk_size=1,
        on_error="return",
    )
    assert outputs[0] == 1
    assert isinstance(outputs[1], Failure)
    assert outputs[2] == 3


# --- how many at once --------------------------------------------------------------------


def test_chunk_never_runs_more_than_chunk_size_calls_at_once(tmp_path: Path) -> None:
    """At no time more than chunk_size calls run: this bounds memory."""
    running = tmp_path / "running"
    running.mkdir()

    def watched(index: int) -> int:
        mine = running / str(index)
        mine.touch()
        together = len(os.listdir(running))
        note(tmp_path / "log", together)
        sum(range(20_000))
        mine.unlink()
        return together

    outputs = chunk(watched, [[n] for n in range(100)], chunk_size=3)
    assert max(outputs) <= 3
    assert len(noted(tmp_path / "log")) == 100


def test_chunk_runs_calls_at_the_same_time(tmp_path: Path) -> None:
    """As many as chunk_size calls do run at once: here each waits for all the others."""

    def meet(index: int) -> int:
        (tmp_path / str(index)).touch()
        for other in range(3):
            wait_for(tmp_path / str(other))
        return index

    assert chunk(meet, [[0], [1], [2]], chunk_size=3) == [0, 1, 2]


def test_chunk_starts_a_call_when_another_ends(tmp_path: Path) -> None:
    """A new call starts as soon as a running one ends, while a long one still runs."""

    def one_long(index: int) -> int:
        note(tmp_path / f"{index}", "started")
        if index == 0:
            wait_for(tmp_path / "5")
        return index

    assert chunk(one_long, [[n] for n in range(6)], chunk_size=2) == list(range(6))


# --- failures ---------------------------------------------------------------------------


def test_chunk_raises_the_functions_own_exception(tmp_path: Path) -> None:
    """The exception keeps its type, names its call, and has the worker's traceback as its cause."""

    def fails(x: int) -> int:
        if x == 2:
            msg = "two is odd"
            raise KeyError(msg)
        return x

    path = tmp_path / "c.pkl"
    with pytest.raises(KeyError, match="two is odd") as caught:
        chunk(fails, [[1], [2]], chunk_size=1, path=path)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in fails" in str(caught.value.__cause__)
    text = "".join(traceback.format_exception(caught.value))
    assert "call 1" in text
    assert "1 of 2 results are safe" in text


def test_chunk_keeps_an_exceptions_attributes_and_cause() -> None:
    """An exception class of the script comes back with its attributes, its cause shown."""

    class OddError(Exception):
        def __init__(self, number: int) -> None:
            super().__init__(number)
            self.number = number

    def fails(x: int) -> None:
        try:
            [][x]
        except IndexError as error:
            raise OddError(x) from error

    with pytest.raises(OddError) as caught:
        chunk(fails, [[5]], chunk_size=1)
    assert caught.value.number == 5
    assert "IndexError" in str(caught.value.__cause__)


def test_chunk_starts_no_further_call_when_one_raised(tmp_path: Path) -> None:
    """Under "raise" no further call starts after the failure; those that run end and are saved."""
    path = tmp_path / "c.pkl"
    log = tmp_path / "log"

    def fails(index: int) -> int:
        note(log, index)
        if index == 1:
            wait_until(lambda: "0" in noted(log))
            raise ArithmeticError
        if index == 0:
            wait_for(tmp_path / "go on")
        return index

    def release() -> None:
        wait_until(lambda: path.exists() and path.stat().st_size, what="a file that is begun")
        wait_until(lambda: 1 in Checkpoint.load(path).failures)
        (tmp_path / "go on").touch()

    thread = threading.Thread(target=release)
    thread.start()
    with pytest.raises(ArithmeticError):
        chunk(fails, [[n] for n in range(8)], chunk_size=2, path=path)
    thread.join()
    assert sorted(noted(log)) == ["0", "1"]
    assert Checkpoint.load(path).completed == [True] + 7 * [False]


def test_chunk_starts_no_further_call_when_a_short_one_raised(tmp_path: Path) -> None:
    """That holds too for calls so short that many are handed out at once."""

    def fails(index: int) -> int:
        note(tmp_path / "log", index)
        if index == 300:
            raise ArithmeticError
        return index

    with pytest.raises(ArithmeticError):
        chunk(fails, [[n] for n in range(2000)], chunk_size=1)
    assert noted(tmp_path / "log") == [str(n) for n in range(301)]


def test_chunk_runs_everything_else_when_told_to_continue(tmp_path: Path) -> None:
    """Under "continue" all other calls run and are saved; then an ExceptionGroup holds each failure."""
    path = tmp_path / "c.pkl"

    def fails(x: int) -> float:
        return 1 / (x % 3)

    with pytest.raises(ExceptionGroup) as caught:
        chunk(fails, [[n] for n in range(7)], chunk_size=2, path=path, on_error="continue")
    assert [type(error) for error in caught.value.exceptions] == 3 * [ZeroDivisionError]
    assert Checkpoint.load(path).completed == [n % 3 != 0 for n in range(7)]
    assert sorted(Checkpoint.load(path).failures) == [0, 3, 6]


def test_chunk_puts_a_failure_in_its_place_when_told_to_return(tmp_path: Path) -> None:
    """Under "return" a Failure with exception, index, parameters and traceback stands in the list, never in the file."""
    path = tmp_path / "c.pkl"

    def fails(x: int) -> float:
        return 1 / x

    outputs = chunk(fails, [[1], {"x": 0}, [2]], chunk_size=2, path=path, on_error="return")
    assert outputs[::2] == [1.0, 0.5]
    failure = outputs[1]
    assert isinstance(failure, Failure)
    assert isinstance(failure.exception, ZeroDivisionError)
    assert failure.index == 1
    assert failure.parameters == {"x": 0}
    assert "in fails" in failure.traceback
    checkpoint = Checkpoint.load(path)
    assert checkpoint.output == [1.0, None, 0.5]
    assert checkpoint.completed == [True, False, True]
    assert "ZeroDivisionError" in checkpoint.failures[1]


def test_chunk_tries_a_call_again_when_it_has_retries(tmp_path: Path) -> None:
    """A call that raised is tried again as often as `retries` says, and its result counts."""

    def third_time(index: int) -> int:
        note(tmp_path / str(index), "tried")
        if index == 1 and len(noted(tmp_path / "1")) < 3:
            raise OSError
        return index

    assert chunk(third_time, [[0], [1], [2]], chunk_size=2, retries=2) == [0, 1, 2]
    assert [len(noted(tmp_path / str(n))) for n in range(3)] == [1, 3, 1]


def test_chunk_gives_up_a_call_when_its_retries_are_used_up(tmp_path: Path) -> None:
    """After its retries a call fails with its last exception."""

    def fails() -> None:
        note(tmp_path / "log", "tried")
        msg = f"try {len(noted(tmp_path / 'log'))}"
        raise OSError(msg)

    with pytest.raises(OSError, match="try 3"):
        chunk(fails, [[]], chunk_size=1, retries=2)


def test_chunk_kills_only_the_call_that_takes_too_long(tmp_path: Path) -> None:
    """A call that outlives its timeout fails with a TimeoutError; every other call runs once and is saved."""
    path = tmp_path / "c.pkl"

    def one_hangs(index: int) -> int:
        note(tmp_path / "log", index)
        while index == 2:
            pass
        return index

    outputs = chunk(one_hangs, [[n] for n in range(6)], chunk_size=2, path=path, timeout=3, on_error="return")
    failure = outputs.pop(2)
    assert outputs == [0, 1, 3, 4, 5]
    assert isinstance(failure.exception, CallTimeoutError)
    assert isinstance(failure.exception, TimeoutError)
    assert sorted(noted(tmp_path / "log")) == ["0", "1", "2", "3", "4", "5"]
    assert Checkpoint.load(path).completed == [n != 2 for n in range(6)]


def test_chunk_times_the_call_and_not_the_start_of_its_process(programs: Programs) -> None:
    """The timeout is for one call: importing what the function needs does not count."""
    programs.write(
        "import os, time\nif 'SLOW' in os.environ: time.sleep(1.5)\ndef f(x): return x\n", "slow.py"
    )
    program = """
        import os
        import slow
        from thread_chunks import chunk

        os.environ["SLOW"] = "1"
        assert chunk(slow.f, [[1], [2]], chunk_size=1, timeout=1, progress_bar=False) == [1, 2]
    """
    programs.run(program)


class _UnreadableError(Exception):
    """Pickles, and fails to unpickle."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class _ExitWhenRead:
    """Exits wherever it is unpickled."""

    def __reduce__(self) -> Any:
        return os._exit, (9,)


class _RaiseWhenRead:
    """Asks the reader to exit."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('read')",)


def _raise(error: BaseException) -> None:
    raise error


def _unpicklable_error() -> None:
    error = ValueError("holds a lock")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


def _recurse() -> object:
    return _recurse()


def _nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


BAD_CALLS: dict[str, tuple[Callable[[], object], type[BaseException]]] = {
    "SystemExit": (lambda: _raise(SystemExit(3)), SystemExit),
    "sys.exit(0)": (lambda: _raise(SystemExit(0)), SystemExit),
    "KeyboardInterrupt": (lambda: _raise(KeyboardInterrupt()), KeyboardInterrupt),
    "GeneratorExit": (lambda: _raise(GeneratorExit()), GeneratorExit),
    "BaseException": (lambda: _raise(BaseException("bare")), BaseException),
    "StopIteration": (lambda: next(iter(())), StopIteration),
    "RecursionError": (_recurse, RecursionError),
    "MemoryError": (lambda: bytearray(1 << 62), MemoryError),
    "unpicklable exception": (_unpicklable_error, RemoteError),
    "unreadable exception": (lambda: _raise(_UnreadableError(1, 2)), RemoteError),
    "unpicklable result": (threading.Lock, pickle.PicklingError),
    "too deeply nested result": (_nested, Exception),
    "result that exits when read": (_RaiseWhenRead, RemoteError),
    "os._exit": (lambda: os._exit(3), WorkerDiedError),
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), WorkerDiedError),
    "SIGSEGV": (lambda: os.kill(os.getpid(), signal.SIGSEGV), WorkerDiedError),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), WorkerDiedError),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_chunk_loses_one_call_only_when_it_is_bad(name: str, tmp_path: Path) -> None:
    """Whatever one call does, it fails alone: all others are returned and saved."""
    bad, expected = BAD_CALLS[name]
    path = tmp_path / "c.pkl"

    def one_bad(index: int) -> object:
        if index == 3:
            return bad()
        note(tmp_path / "log", index)
        return 10 * index

    outputs = chunk(one_bad, [[n] for n in range(8)], chunk_size=2, path=path, on_error="return")
    failure = outputs.pop(3)
    assert outputs == [0, 10, 20, 40, 50, 60, 70]
    assert isinstance(failure, Failure)
    assert isinstance(failure.exception, expected), failure.exception
    assert failure.index == 3
    ran = sorted(noted(tmp_path / "log"))
    assert sorted(set(ran)) == ["0", "1", "2", "4", "5", "6", "7"]
    if expected is not WorkerDiedError:  # a death may take along what was not handed back yet
        assert len(ran) == 7
    checkpoint = Checkpoint.load(path)
    assert checkpoint.completed == [n != 3 for n in range(8)]
    assert 3 in checkpoint.failures


def test_chunk_names_type_and_traceback_when_an_exception_cannot_travel() -> None:
    """The stand-in for an exception that cannot travel has its type's name, message and traceback."""
    with pytest.raises(RemoteError, match="ValueError: holds a lock") as caught:
        chunk(_unpicklable_error, [[]], chunk_size=1)
    assert caught.value.type_name == "ValueError"
    assert "_unpicklable_error" in str(caught.value.__cause__)


@pytest.mark.parametrize(("name", "code"), [("os._exit", 3), ("SIGKILL", -signal.SIGKILL)])
def test_chunk_names_the_call_when_it_took_its_process_down(name: str, code: int) -> None:
    """The death of a process names the call, its parameters and the exit code or signal."""
    bad, _ = BAD_CALLS[name]

    def one_bad(index: int) -> object:
        return bad() if index == 1 else index

    with pytest.raises(WorkerDiedError, match="call 1") as caught:
        chunk(one_bad, [[0], [1]], chunk_size=1)
    assert caught.value.index == 1
    assert caught.value.parameters == [1]
    assert caught.value.exit_code == code
    assert ("SIGKILL" if code < 0 else "exit code 3") in str(caught.value)


def test_chunk_ends_when_every_call_kills_its_process() -> None:
    """A crash loop ends in an error after the restart budget: no hang, no storm of processes."""
    with pytest.raises((WorkerDiedError, RuntimeError)):
        chunk(os._exit, [[7] for _ in range(100)], chunk_size=2, on_error="continue")


def test_chunk_loses_one_call_only_when_its_result_exits_the_reader(programs: Programs) -> None:
    """A result that ends the process that unpickles it costs its call at most, and what was saved stays."""
    program = """
        import os
        from thread_chunks import chunk, Checkpoint

        class Bomb:
            def __reduce__(self):
                return exec, ("raise SystemExit('boom')",)

        def f(x):
            return Bomb() if x == 1 else x

        outputs = chunk(f, [[0], [1], [2]], chunk_size=1, path="c.pkl", on_error="return", progress_bar=False)
        assert outputs[0] == 0 and outputs[2] == 2, outputs
        print(Checkpoint.load("c.pkl").completed)
    """
    assert programs.run(program).stdout == "[True, False, True]\n"


# --- what the user is told -----------------------------------------------------------------


def test_on_result_is_called_when_the_result_is_in_the_file(tmp_path: Path) -> None:
    """`on_result` runs in the caller's thread, once for each call, and by then the file holds the result."""
    path = tmp_path / "c.pkl"
    seen: list[tuple[int, int]] = []

    def on_result(index: int, output: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        checkpoint = Checkpoint.load(path)
        assert checkpoint.completed[index]
        assert checkpoint.output[index] == output
        seen.append((index, output))

    outputs = chunk(lambda n: n * n, [[n] for n in range(20)], chunk_size=2, path=path, on_result=on_result)
    assert sorted(seen) == list(enumerate(outputs))


@pytest.mark.parametrize("is_saved", [True, False])
def test_on_result_is_called_once_for_each_of_thousands_of_short_calls(
    is_saved: bool, tmp_path: Path
) -> None:
    """Results that came and were saved in groups are reported one by one, each with its own index and output."""
    path = tmp_path / "c.pkl"
    seen: list[tuple[int, str]] = []

    def on_result(index: int, output: str) -> None:
        seen.append((index, output))
        if is_saved and len(seen) % 1000 == 1:
            assert Checkpoint.load(path).output[index] == output

    outputs = chunk(
        str, [[n] for n in range(5000)], chunk_size=2, path=path if is_saved else None, on_result=on_result
    )
    assert outputs == [str(n) for n in range(5000)]
    assert len(seen) == 5000
    assert sorted(seen) == sorted(enumerate(outputs))


def test_on_result_stops_the_run_when_it_raises_in_the_middle_of_a_group(tmp_path: Path) -> None:
    """An exception of `on_result` reaches the caller at once, and all that was saved with that result stays saved."""
    path = tmp_path / "c.pkl"
    seen: list[int] = []

    def on_result(index: int, output: int) -> None:
        seen.append(index)
        if len(seen) == 1234:
            raise LookupError

    with pytest.raises(LookupError):
        chunk(abs, [[-n] for n in range(5000)], chunk_size=2, path=path, on_result=on_result)
    assert len(seen) == 1234
    checkpoint = Checkpoint.load(path)
    assert all(checkpoint.completed[index] for index in seen)
    assert chunk(abs, [[-n] for n in range(5000)], chunk_size=2, path=path) == list(range(5000))


def test_on_result_may_raise_what_ends_an_iteration(tmp_path: Path) -> None:
    """A StopIteration of `on_result` reaches the caller as it is, with the note of what is safe."""

    def on_result(index: int, output: int) -> None:
        raise StopIteration(index)

    with pytest.raises(StopIteration, match="0") as caught:
        chunk(abs, [[-1]], path=tmp_path / "c.pkl", on_result=on_result, worker=ThreadWorker)
    assert "1 of 1 results are safe" in caught.value.__notes__[0]


@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker])
def test_chunk_fails_only_the_bad_ones_of_thousands_of_short_calls(
    worker: type[Worker], tmp_path: Path
) -> None:
    """Calls that raise among many that return, in whatever groups, fail alone, and the others are saved."""
    path = tmp_path / "c.pkl"
    bad = {0, 1, 777, 2500, 2501, 2999}

    def picky(n: int) -> int:
        if n in bad:
            raise OSError(n)
        return n

    outputs = chunk(
        picky, [[n] for n in range(3000)], chunk_size=2, path=path, on_error="return", worker=worker
    )
    assert {n for n, output in enumerate(outputs) if isinstance(output, Failure)} == bad
    assert all(output == n for n, output in enumerate(outputs) if n not in bad)
    checkpoint = Checkpoint.load(path)
    assert {n for n, is_completed in enumerate(checkpoint.completed) if not is_completed} == bad
    assert set(checkpoint.failures) == bad


def test_on_result_is_called_without_a_path() -> None:
    """Without a path `on_result` is called as results are received."""
    seen = []
    chunk(add, [[1, 1], [2, 2]], chunk_size=1, on_result=lambda index, output: seen.append((index, output)))
    assert seen == [(0, 2), (1, 4)]


def test_on_result_is_called_while_other_calls_run(tmp_path: Path) -> None:
    """A result is reported at once, not when the run ends: here the last call waits for the report of the first."""

    def waits(index: int) -> int:
        if index == 1:
            wait_for(tmp_path / "0")
        return index

    def on_result(index: int, output: int) -> None:
        note(tmp_path / str(index), output)

    assert chunk(waits, [[0], [1]], chunk_size=2, path=tmp_path / "c.pkl", on_result=on_result) == [0, 1]


def test_on_result_is_not_called_when_a_result_is_resumed(tmp_path: Path) -> None:
    """Results that the file held already are returned, and not reported as new."""
    path = tmp_path / "c.pkl"
    seen: list[int] = []
    for _ in range(2):
        chunk(add, [[1], [2]], chunk_size=1, path=path, on_result=lambda index, _: seen.append(index))
    assert seen == [0, 1]


def test_on_result_stops_the_run_when_it_raises(tmp_path: Path) -> None:
    """An exception of `on_result` reaches the caller; what was reported before is saved."""
    path = tmp_path / "c.pkl"
    seen: list[int] = []

    def on_result(index: int, output: int) -> None:
        seen.append(index)
        if len(seen) == 3:
            msg = "enough"
            raise LookupError(msg)

    with pytest.raises(LookupError, match="enough"):
        chunk(add, [[n] for n in range(50)], chunk_size=2, path=path, on_result=on_result)
    checkpoint = Checkpoint.load(path)
    assert all(checkpoint.completed[index] for index in seen)


# --- functions of all kinds -------------------------------------------------------------------


@dataclasses.dataclass
class Adder:
    """A callable object."""

    amount: int

    def __call__(self, x: int) -> int:
        return x + self.amount

    def method(self, x: int) -> int:
        return x - self.amount


@pytest.mark.parametrize(
    ("func", "expected"),
    [
        pytest.param(abs, [1, 2], id="builtin"),
        pytest.param(np.negative, [1, 2], id="ufunc"),
        pytest.param(str, ["-1", "-2"], id="class"),
        pytest.param(Adder(1), [0, -1], id="object"),
        pytest.param(Adder(1).method, [-2, -3], id="method"),
        pytest.param(lambda x: x * 2, [-2, -4], id="lambda"),
    ],
)
def test_chunk_runs_callables_of_any_kind(func: Any, expected: list[Any], tmp_path: Path) -> None:
    """Whatever can be called can be run, saved and resumed."""
    path = tmp_path / "c.pkl"
    for _ in range(2):
        assert chunk(func, [[-1], [-2]], chunk_size=1, path=path) == expected


def test_chunk_runs_a_closure_over_changing_values() -> None:
    """A closure travels with the values that it holds when the call is made."""
    factor = 2

    def scale(x: int) -> int:
        return x * factor

    assert chunk(scale, [[1]], chunk_size=1) == [2]
    factor = 3
    assert chunk(scale, [[1]], chunk_size=1) == [3]


def test_chunk_works_inside_a_call() -> None:
    """A call may itself call chunk()."""

    def outer(n: int) -> list[int]:
        return chunk(lambda x: x * n, [[1], [2]], chunk_size=2, progress_bar=False)

    assert chunk(outer, [[1], [10]], chunk_size=2) == [[1, 2], [10, 20]]


def test_chunk_works_in_a_thread_other_than_the_main_one(tmp_path: Path) -> None:
    """chunk() may be called in any thread, and in several at once."""
    outputs: dict[int, list[int]] = {}

    def run(number: int) -> None:
        outputs[number] = chunk(
            add, [[n, number] for n in range(4)], chunk_size=2, path=tmp_path / f"{number}.pkl"
        )

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {number: [n + number for n in range(4)] for number in range(3)}


# --- environments --------------------------------------------------------------------------------

MAIN_BODY = """
    import dataclasses, os
    from thread_chunks import chunk

    fd = os.open("main.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"body\\n")
    OFFSET = 100

    @dataclasses.dataclass
    class Point:
        x: int

    def shift(point, by):
        return Point(point.x + by + OFFSET)

    outputs = chunk(shift, [[Point(n), 1] for n in range(5)], chunk_size=2, path="c.pkl", progress_bar=False)
    print([point.x for point in outputs])
"""


def _start(programs: Programs, kind: str) -> Any:
    source = "\n".join(line[4:] for line in MAIN_BODY.splitlines())
    if kind == "script":
        return programs.run(MAIN_BODY)
    if kind == "stdin":
        return programs.run(None, "-", stdin=MAIN_BODY)
    if kind == "-c":
        return programs.run(None, "-c", source)
    programs.write("", "package/__init__.py")
    programs.write(MAIN_BODY, "package/program.py")
    return programs.run(None, "-m", "package.program")


@pytest.mark.parametrize("kind", ["script", "stdin", "-c", "-m"])
def test_chunk_needs_no_main_guard_however_a_program_is_started(kind: str, programs: Programs) -> None:
    """Functions and classes of __main__ work without a guard, and the body of the program runs once."""
    assert _start(programs, kind).stdout == "[101, 102, 103, 104, 105]\n"
    assert noted(programs.folder / "main.log") == ["body"]


def test_chunk_imports_modules_beside_the_script_in_its_children(programs: Programs) -> None:
    """Modules that the script can import, its children can, and only those: not the folder of the library."""
    programs.write("def f(x):\n    import other\n    return other.VALUE * x\n", "beside.py")
    programs.write("VALUE = 7\n", "other.py")
    program = """
        import importlib.util, sys
        from beside import f
        from thread_chunks import chunk

        assert chunk(f, [[1], [2]], chunk_size=2, progress_bar=False) == [7, 14]
        assert chunk(lambda: list(sys.path), [[]], progress_bar=False) == [sys.path]
        assert chunk(lambda: importlib.util.find_spec("_child"), [[]], progress_bar=False) == [None]
    """
    elsewhere = programs.folder / "elsewhere"
    elsewhere.mkdir()
    programs.run(program, cwd=elsewhere)


def test_chunk_runs_calls_in_the_working_directory_of_the_script(programs: Programs) -> None:
    """Children work in the directory that the script is in when it makes the call; paths are made absolute before."""
    program = """
        import os
        from thread_chunks import Chunker, chunk

        os.mkdir("first"); os.mkdir("second")
        os.chdir("first")
        with Chunker(os.getcwd, chunk_size=1, progress_bar=False) as chunker:
            assert chunker([[]], path="c.pkl") == [os.getcwd()]
            os.chdir("../second")
            assert chunker([[]]) == [os.getcwd()]
        def move():
            os.chdir("/")
        chunk(move, [[], []], chunk_size=1, path="moved.pkl", progress_bar=False)
        assert os.listdir() == ["moved.pkl"]
        assert os.listdir("../first") == ["c.pkl"]
    """
    programs.run(program)


def test_chunk_passes_prints_on_to_the_scripts_own_streams(programs: Programs) -> None:
    """What f prints appears on the script's stdout and stderr; nothing else is printed there."""
    program = """
        import os, sys
        from thread_chunks import chunk

        def f(x):
            print("out", x)
            print("err", x, file=sys.stderr)
            os.write(1, b"raw %d\\n" % x)
            return x

        chunk(f, [[1], [2]], chunk_size=1, progress_bar=False)
    """
    done = programs.run(program)
    assert done.stdout == "out 1\nraw 1\nout 2\nraw 2\n"
    assert done.stderr == "err 1\nerr 2\n"


def test_chunk_passes_arguments_and_flags_on_to_its_children(programs: Programs) -> None:
    """Children see the script's sys.argv and the interpreter's flags, and have no stdin to steal."""
    program = """
        import sys
        from thread_chunks import chunk

        def f():
            return sys.argv, sys.flags.optimize, sys.stdin.read()

        print(*chunk(f, [[]], progress_bar=False)[0])
    """
    done = programs.run(program, "one", "two", flags=("-O",))
    assert done.stdout.endswith("'one', 'two'] 1 \n")


THREADS_PROGRAM = """
    import os, sys
    from thread_chunks import chunk, config

    config.default_chunk_size = 8
    before = dict(os.environ)
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    print(*chunk(lambda: [os.environ[name] for name in names], [[], []], chunk_size=2, progress_bar=False)[0])
    assert dict(os.environ) == before
"""


@pytest.mark.parametrize(("users", "expected"), [(None, "4 4 4"), ("3", "3 4 4")])
def test_chunk_shares_the_processors_among_calls(
    users: str | None, expected: str, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children have OMP_NUM_THREADS and its relatives set to CPUs / chunk_size, unless the user set one."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    environment = {} if users is None else {"OMP_NUM_THREADS": users}
    assert programs.run(THREADS_PROGRAM, env=environment).stdout.split() == expected.split()


def test_chunk_starts_only_as_many_children_as_there_are_calls(programs: Programs) -> None:
    """Few calls do not start many processes, and none are started when nothing is left to run."""
    program = """
        import subprocess
        started = []
        original = subprocess.Popen
        class Counted(original):
            def __init__(self, *args, **kwargs):
                started.append(args)
                super().__init__(*args, **kwargs)
        subprocess.Popen = Counted

        import os
        from thread_chunks import chunk
        for _ in range(2):
            chunk(os.getpid, [[], [], []], chunk_size=8, path="c.pkl", progress_bar=False)
            print(len(started))
        chunk(os.getpid, [], chunk_size=8, progress_bar=False)
        print(len(started))
    """
    assert programs.run(program).stdout.split() == ["3", "3", "3"]


def test_chunk_uses_no_more_processes_than_chunk_size() -> None:
    """All calls of a run share chunk_size processes; none of them is the caller's."""
    pids = set(chunk(os.getpid, [[] for _ in range(200)], chunk_size=2))
    assert len(pids) <= 2
    assert os.getpid() not in pids


def test_chunk_survives_a_call_that_closes_its_streams_and_changes_its_surroundings(
    programs: Programs,
) -> None:
    """Nothing that f does to its own process reaches the run."""
    program = """
        import os, signal, sys
        from thread_chunks import chunk

        def f(x):
            os.close(0), os.close(1), os.close(2)
            os.environ.clear()
            os.chdir("/")
            sys.path.clear()
            sys.setrecursionlimit(100)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            return x

        print(chunk(f, [[1], [2], [3]], chunk_size=3, path="c.pkl", progress_bar=False))
    """
    assert programs.run(program).stdout == "[1, 2, 3]\n"


def test_chunk_works_in_a_forked_process(programs: Programs) -> None:
    """A process that forked may call chunk() in parent and child."""
    program = """
        import os
        from thread_chunks import chunk

        assert chunk(abs, [[-1]], progress_bar=False) == [1]
        child = os.fork()
        assert chunk(abs, [[-2], [-3]], chunk_size=2, progress_bar=False) == [2, 3]
        if child:
            assert os.waitpid(child, 0)[1] == 0
            print("both")
    """
    assert programs.run(program, flags=()).stdout == "both\n"


def test_chunk_size_one_runs_calls_in_the_order_of_the_parameters(tmp_path: Path) -> None:
    """With one worker, calls run one after another in the order given."""
    chunk(lambda n: note(tmp_path / "log", n), [[n] for n in range(100)], chunk_size=1)
    assert noted(tmp_path / "log") == [str(n) for n in range(100)]


def test_chunk_pairs_outputs_with_parameters_when_calls_take_random_times() -> None:
    """However long calls take, each output stands at its own call's place."""
    sizes = list(itertools.islice(itertools.cycle([1, 30_000, 10, 3_000, 1, 100]), 300))
    outputs = chunk(lambda n, size: (n, sum(range(size))), list(enumerate(sizes)), chunk_size=2)
    assert outputs == [(n, sum(range(size))) for n, size in enumerate(sizes)]


@pytest.mark.parametrize("kind", ["array", "list", "dict"])
def test_each_call_gets_its_own_copy_of_an_argument_that_calls_share(kind: str) -> None:
    """One object in many rows is one object for each call, whatever the others do to theirs and however short they are."""
    shared: Any = {"array": np.zeros(3), "list": [0], "dict": {0: 0}}[kind]

    def changed(value: Any, number: int) -> float:
        value[0] += number
        return float(value[0])

    assert chunk(changed, [[shared, number] for number in range(2000)], chunk_size=2) == list(range(2000))
    assert shared[0] == 0


def test_one_argument_of_many_that_cannot_be_unpickled_fails_its_call_alone() -> None:
    """Among short calls whose arguments are objects, one that does not survive the journey costs its own call."""

    class Torn:
        def __reduce__(self) -> Any:
            return int, ("no number",)

    parameters = [[Torn() if number == 700 else [number]] for number in range(1000)]
    outputs = chunk(lambda value: value[0], parameters, chunk_size=2, on_error="return")
    assert isinstance(outputs[700], Failure)
    assert isinstance(outputs[700].exception, ValueError)
    assert [output for output in outputs if not isinstance(output, Failure)] == [
        number for number in range(1000) if number != 700
    ]
