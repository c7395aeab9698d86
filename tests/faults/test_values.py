"""Values: parameters and results of every kind, many and large, through chunk() and the file."""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Programs, note, noted

from thread_chunks import (
    Checkpoint,
    CheckpointRestartedWarning,
    Chunker,
    ParametersChangedWarning,
    ProcessWorker,
    ThreadWorker,
    chunk,
)

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

WORKERS = [ProcessWorker, ThreadWorker]


# --- parameters -----------------------------------------------------------------------------------


def _scattered() -> Any:
    return np.arange(12.0).reshape(3, 4)[::2, ::2]


def _read_only() -> Any:
    array = np.array([1.0, np.nan])
    array.flags.writeable = False
    return array


EQUAL: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "keywords in another order": (lambda: {"x": 1, "y": 2}, lambda: {"y": 2, "x": 1}),
    "a dict in another order": (lambda: [{"a": 1, "b": 2}], lambda: [{"b": 2, "a": 1}]),
    "a set in another order": (lambda: [{8, 16, 0}], lambda: [{0, 16, 8}]),
    "another NaN": (lambda: [float("nan")], lambda: [float("inf") - float("inf")]),
    "an array that is scattered": (lambda: [_scattered()], lambda: [_scattered().copy()]),
    "an array in another order": (lambda: [np.eye(3, 4)], lambda: [np.asfortranarray(np.eye(3, 4))]),
    "an array that is read-only": (lambda: [_read_only()], lambda: [_read_only().copy()]),
    "one object twice": (lambda: [2 * [[1]]], lambda: [[[1], [1]]]),
    "a string made anew": (lambda: ["ab" * 1], lambda: [str(b"ab", "ascii")]),
    "a range as a row": (lambda: range(3), lambda: [0, 1, 2]),
    "an array as a row": (lambda: np.array([1, 2]), lambda: [np.int64(1), np.int64(2)]),
}


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("name", EQUAL)
def test_run_resumes_when_parameters_are_equal(name: str, worker: Any, folder: Path) -> None:
    """Equal values are the same call, however they were made; and the run executes nothing."""

    def f(*args: Any, **kwargs: Any) -> str:
        note(folder / "log", "ran")
        return f"{len(args)} {len(kwargs)}"

    outputs = [
        chunk(f, [make(), [0]], chunk_size=1, worker=worker, path=folder / "c.pkl") for make in EQUAL[name]
    ]
    assert outputs[0] == outputs[1]
    assert len(noted(folder / "log")) == 2


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("count", [0, 3])
def test_run_resumes_when_rows_are_empty_or_missing(count: int, worker: Any, folder: Path) -> None:
    """No rows give an empty list and empty rows are calls without arguments, with a file too, and again."""

    def f() -> str:
        note(folder / "log", "ran")
        return "called"

    for _ in range(2):
        outputs = chunk(f, [[] for _ in range(count)], chunk_size=2, worker=worker, path=folder / "c.pkl")
        assert outputs == count * ["called"]
    assert len(noted(folder / "log")) == count
    assert Checkpoint.load(folder / "c.pkl").output == count * ["called"]


def test_run_without_rows_sets_a_file_with_rows_aside(folder: Path) -> None:
    """An empty list is another list: the old file is kept."""
    chunk(abs, [[-1]], chunk_size=1, path=folder / "c.pkl")
    with pytest.warns(CheckpointRestartedWarning):
        assert chunk(abs, [], chunk_size=1, path=folder / "c.pkl") == []
    assert Checkpoint.load(folder / "c.pkl.bak").output == [1]


def test_run_reads_a_generator_to_its_end_before_the_first_call(folder: Path) -> None:
    """A generator is read once and whole before anything runs; one that raises ends the call, and no file is touched."""
    log = folder / "log"

    def rows(last: bool) -> Iterator[list[int]]:
        for n in range(3):
            note(log, f"row {n}")
            yield [n]
        if not last:
            msg = "no more rows"
            raise OSError(msg)

    def f(x: int) -> int:
        note(log, f"call {x}")
        return x

    with pytest.raises(OSError, match="no more rows"):
        chunk(f, rows(last=False), chunk_size=1, path=folder / "c.pkl")
    assert noted(log) == ["row 0", "row 1", "row 2"]
    assert not (folder / "c.pkl").exists()
    assert chunk(f, rows(last=True), chunk_size=1, path=folder / "c.pkl") == [0, 1, 2]
    assert noted(log)[3:] == ["row 0", "row 1", "row 2", "call 0", "call 1", "call 2"]


def test_run_makes_calls_again_when_they_change_their_arguments(folder: Path) -> None:
    """Whether a call or the script changed arguments cannot be told: the list is right, and the file keeps no result of them."""

    def f(values: list[int]) -> int:
        note(folder / "log", "ran")
        values.append(len(values))
        return len(values)

    for _ in range(2):
        with pytest.warns(ParametersChangedWarning, match="call 0, 1 were changed"):
            assert chunk(f, [[[1]], [[1, 2]]], chunk_size=1, worker=ThreadWorker, path=folder / "c.pkl") == [
                2,
                3,
            ]
    assert len(noted(folder / "log")) == 4


class _Unreduced:
    """Raises when it is pickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


def _nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


UNPICKLABLE: dict[str, Callable[[], Any]] = {
    "a lock": threading.Lock,
    "a generator": lambda: (n for n in "ab"),
    "an open file": lambda: open(2, "w", closefd=False),  # noqa: SIM115
    "a frame": sys._getframe,
    "a deep nest": _nested,
    "an object that raises": lambda: _Unreduced(ValueError("not me")),
    "an object that raises AttributeError": lambda: _Unreduced(AttributeError("not me")),
}


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("name", UNPICKLABLE)
def test_run_refuses_parameters_when_they_cannot_be_saved(name: str, worker: Any, folder: Path) -> None:
    """With a path, parameters that cannot be pickled are a TypeError before any call runs, and the file stays."""
    path = folder / "c.pkl"

    def f(x: object) -> str:
        note(folder / "log", "ran")
        return type(x).__name__

    chunk(f, [[1], [2]], chunk_size=1, worker=worker, path=path)
    before, names = path.read_bytes(), sorted(os.listdir(folder))
    for options in ({}, {"on_mismatch": "reuse"}, {"on_mismatch": "raise"}):
        with pytest.raises(TypeError, match="parameters cannot be pickled"):
            chunk(f, [[1], [UNPICKLABLE[name]()]], chunk_size=1, worker=worker, path=path, **options)  # type: ignore[arg-type]
        assert path.read_bytes() == before
        assert sorted(os.listdir(folder)) == names
    assert len(noted(folder / "log")) == 2


def test_run_of_threads_takes_a_function_that_cannot_be_pickled_with_a_file(folder: Path) -> None:
    """In the script's own process a function that holds a lock is saved and resumed: only its name goes to the file."""
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            note(folder / "log", x)
            return x

    for _ in range(2):
        assert chunk(locked, [[1], [2]], chunk_size=2, worker=ThreadWorker, path=folder / "c.pkl") == [1, 2]
    assert len(noted(folder / "log")) == 2


@pytest.mark.nightly
def test_run_takes_a_million_rows_and_resumes_them(folder: Path) -> None:
    """10^6 rows are each run once, saved and returned in order; made again, the run executes nothing."""

    def f(x: int) -> int:
        return x + int((folder / "changed").exists())

    for _ in range(2):
        outputs = chunk(f, ([n] for n in range(1_000_000)), chunk_size=2, path=folder / "c.pkl")
        assert outputs == list(range(1_000_000))
        (folder / "changed").touch()
    assert Checkpoint.load(folder / "c.pkl").done == 1_000_000


# --- results ----------------------------------------------------------------------------------------------


class Incomparable:
    """Equals nothing, has no truth value, no length, no hash and no text."""

    __module__ = "__main__"

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        msg = "compared"
        raise RuntimeError(msg)

    def __bool__(self) -> bool:
        msg = "asked for its truth"
        raise RuntimeError(msg)

    def __len__(self) -> int:
        msg = "asked for its length"
        raise RuntimeError(msg)

    def __repr__(self) -> str:
        msg = "asked for its text"
        raise RuntimeError(msg)

    __hash__ = None  # type: ignore[assignment]


def _many() -> dict[str, Any]:
    import pandas as pd  # noqa: PLC0415 - slow to import

    return {
        "none": None,
        "false": False,
        "ellipsis": ...,
        "array": np.arange(6).reshape(2, 3),
        "empty array": np.empty((0, 3)),
        "nan": float("nan"),
        "objects": np.array([1, "a", None], dtype=object),
        "frame": pd.DataFrame({"a": [1.0, float("nan")]}),
        "not implemented": NotImplemented,
        "type": dict,
        "exception": ValueError("as a value"),
        "warning": UserWarning("as a value"),
    }


@pytest.mark.parametrize("worker", WORKERS)
def test_run_returns_and_resumes_results_that_equal_nothing(worker: Any, folder: Path) -> None:
    """A result is never compared, asked for its truth or shown, neither in the run, nor in the file, nor when read."""

    def f(x: int) -> Any:
        note(folder / "log", x)
        return Incomparable(x)

    for _ in range(2):
        outputs = chunk(
            f, [[n] for n in range(5)], chunk_size=2, worker=worker, path=folder / "c.pkl",
            on_result=lambda index, _: note(folder / "reported", index),
        )  # fmt: skip
        assert [output.value for output in outputs] == list(range(5))
    assert sorted(noted(folder / "log")) == sorted(noted(folder / "reported")) == list("01234")
    assert [output.value for output in Checkpoint.load(folder / "c.pkl").output] == list(range(5))
    with Chunker(f, chunk_size=2, worker=worker, path=folder / "c.pkl") as chunker:
        assert sorted(output.value for _, output in chunker.as_completed([[n] for n in range(5)])) == list(
            range(5)
        )


@pytest.mark.parametrize("worker", WORKERS)
def test_run_returns_and_resumes_results_of_every_kind(worker: Any, folder: Path) -> None:
    """None, False, arrays, frames, types and exceptions as values are results like any other, and run once."""
    values = _many()

    def f(name: str) -> Any:
        note(folder / "log", name)
        return values[name]

    for _ in range(2):
        outputs = chunk(f, [[name] for name in values], chunk_size=2, worker=worker, path=folder / "c.pkl")
        assert list(map(repr, outputs)) == list(map(repr, values.values()))
    assert len(noted(folder / "log")) == len(values)
    checkpoint = Checkpoint.load(folder / "c.pkl")
    assert checkpoint.completed == len(values) * [True]
    assert list(map(repr, checkpoint.output)) == list(map(repr, values.values()))


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("way", ["chunk", "as_completed"])
@pytest.mark.parametrize("start", ["fresh", "resumed"])
def test_file_holds_results_as_they_were_when_the_caller_changes_them_at_once(
    start: str, way: str, worker: Any, folder: Path
) -> None:
    """What on_result, a loop or f itself does to a result after it was saved does not reach the file, folded or not."""
    path = folder / "c.pkl"
    mended = folder / "mended"

    def f(x: int) -> Any:
        if x == 2 and not mended.exists():
            raise ValueError
        return [x, np.full(20_000, x)]

    def change(index: int, output: Any) -> None:
        output.append("changed")
        output[1][:] = -1

    rows = [[n] for n in range(4)]
    if start == "resumed":
        chunk(f, rows, chunk_size=1, worker=worker, path=path, on_error="return", on_result=change)
    mended.touch()
    if way == "chunk":
        outputs = chunk(f, rows, chunk_size=1, worker=worker, path=path, on_result=change)
        for output in outputs:
            change(0, output)
    else:
        with Chunker(f, chunk_size=1, worker=worker, path=path) as chunker:
            for index, output in chunker.as_completed(rows):
                change(index, output)
    again = [chunk(f, rows, chunk_size=1, worker=worker, path=path), Checkpoint.load(path).output]
    for outputs in again:
        assert [output[0] for output in outputs] == [0, 1, 2, 3]
        assert [len(output) for output in outputs] == [2, 2, 2, 2]
        assert [set(output[1].tolist()) for output in outputs] == [{0}, {1}, {2}, {3}]


def test_file_holds_results_as_they_were_when_f_goes_on_changing_them(folder: Path) -> None:
    """A function that returns the same growing list again and again has each state of it saved."""
    state: list[int] = []

    def f(x: int) -> list[int]:
        state.append(x)
        return state

    chunk(f, [[n] for n in range(4)], chunk_size=1, worker=ThreadWorker, path=folder / "c.pkl")
    assert Checkpoint.load(folder / "c.pkl").output == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


LARGE = """
    import os, resource, sys
    import numpy as np
    from thread_chunks import Checkpoint, chunk

    SIZE = int(sys.argv[1]) << 20

    def f(x):
        array = np.arange(SIZE // 8, dtype=np.int64)
        array[0] = x
        return array

    def peak():
        if not os.path.exists("/proc/self/status"):  # where it exists, ru_maxrss includes what pytest had before exec
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

    chunk(abs, [[1]], path="warm.pkl", progress_bar=False)
    before = peak()
    for number in range(2):
        (output,) = chunk(f, [[7]], chunk_size=1, path="c.pkl", progress_bar=False)
        assert output[0] == 7 and output[-1] == SIZE // 8 - 1 and output.nbytes == SIZE
        print(int(peak() - before))
        output[:] = 0
        del output
"""


def _check_large(programs: Programs, megabytes: int) -> None:
    first, second = map(int, programs.run(LARGE, megabytes).stdout.split())
    assert megabytes - 10 < first < 2 * megabytes + 20
    assert second < 2 * megabytes + 20  # reading it back, too
    output = Checkpoint.load(programs.folder / "c.pkl").output[0]
    assert (output[0], output[-1]) == (7, (megabytes << 20) // 8 - 1)


def test_large_result_costs_at_most_twice_its_size(programs: Programs) -> None:
    """A result of 100 MB, received and saved, or read back, takes no more than 200 MB in the script's process."""
    _check_large(programs, 100)


@pytest.mark.nightly
def test_result_of_a_gigabyte_costs_at_most_twice_its_size(programs: Programs) -> None:
    """The same for 1 GB."""
    _check_large(programs, 1024)


# --- functions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worker", WORKERS)
def test_run_goes_from_function_to_function_and_back_without_losing_a_file(worker: Any, folder: Path) -> None:
    """Another function, other parameters and the first again on one path: each restart keeps the file before it."""
    path = folder / "c.pkl"

    def double(x: int) -> int:
        return 2 * x

    runs: list[tuple[Any, list[list[int]], list[int]]] = [
        (abs, [[-1], [-2]], [1, 2]),
        (double, [[1], [2]], [2, 4]),
        (double, [[2], [1]], [4, 2]),
        (lambda x: x + 1, [[1]], [2]),
        (lambda x: x + 2, [[1]], [3]),
        (abs, [[-1], [-2]], [1, 2]),
    ]
    for func, rows, expected in runs:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert chunk(func, rows, chunk_size=1, worker=worker, path=path) == expected
        assert [each.category for each in caught] == (
            [] if func is abs and not caught else [CheckpointRestartedWarning]
        )
    kept = [Checkpoint.load(folder / name).output for name in os.listdir(folder) if name != "c.pkl"]
    assert sorted(kept) == sorted(expected for _, _, expected in runs[:-1])
