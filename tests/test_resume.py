"""Resuming: what is not run again, what starts afresh and says why, and which files are left alone."""

import contextlib
import functools
import os
import pickle
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Programs, Trap, note, noted, wait_for, wait_until

from thread_chunks import (
    Checkpoint,
    CheckpointDamagedWarning,
    CheckpointError,
    CheckpointLockedError,
    CheckpointMismatchError,
    CheckpointRestartedWarning,
    CheckpointVersionError,
    Chunker,
    FunctionChangedWarning,
    NotACheckpointError,
    ParametersChangedWarning,
    ProcessWorker,
    ThreadWorker,
    _mutation,
    chunk,
)
from thread_chunks._format import HOLDER_OFFSET

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

PARAMETERS = [[n, 0.5] for n in range(6)]
EXPECTED = [n + 0.5 for n in range(6)]


def adder(log: Path) -> Callable[..., float]:
    """Make a function that notes each of its executions outside the checkpoint."""

    def add(x: int, y: float) -> float:
        note(log, x)
        return x + y

    return add


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "c.pkl"


# --- resuming -----------------------------------------------------------------------


@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker])
def test_run_executes_nothing_when_it_is_made_again(path: Path, log: Path, worker: Any) -> None:
    """The same call to chunk() after a finished run returns the saved list and executes nothing."""
    for _ in range(3):
        assert chunk(adder(log), PARAMETERS, chunk_size=2, path=path, worker=worker) == EXPECTED
    assert sorted(noted(log)) == list("012345")
    assert os.listdir(path.parent) == ["c.pkl"]


@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker])
def test_run_executes_only_what_is_missing_when_one_was_stopped(path: Path, log: Path, worker: Any) -> None:
    """After a run that was stopped half-way, only calls whose results were not saved are executed."""

    def stop(index: int, output: float) -> None:
        if index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chunk(adder(log), PARAMETERS, chunk_size=1, path=path, on_result=stop, worker=worker)
    saved = Checkpoint.load(path).completed
    assert saved[:3] == [True] * 3
    before = len(noted(log))
    assert chunk(adder(log), PARAMETERS, chunk_size=1, path=path, worker=worker) == EXPECTED
    assert noted(log)[before:] == [str(n) for n in range(6) if not saved[n]]


def test_run_resumes_with_another_chunk_size_and_other_workers(path: Path, log: Path) -> None:
    """How calls are run is no part of what a checkpoint belongs to."""
    assert chunk(adder(log), PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path) == EXPECTED
    assert chunk(adder(log), PARAMETERS, chunk_size=3, path=path, worker=ThreadWorker, retries=2) == EXPECTED
    assert chunk(adder(log), iter(PARAMETERS), [ThreadWorker.start()], path=str(path)) == EXPECTED
    assert len(noted(log)) == 6


def test_run_resumes_when_sequences_travel_in_another_container(path: Path, log: Path) -> None:
    """A row is its arguments: a list, a tuple or an array row of the same values is the same row."""
    chunk(adder(log), [[1, 2], [3, 4]], chunk_size=1, worker=ThreadWorker, path=path)
    chunk(adder(log), [(1, 2), (3, 4)], chunk_size=1, worker=ThreadWorker, path=path)
    assert len(noted(log)) == 2


def test_run_tries_a_failure_again_when_it_is_made_again(path: Path, log: Path, tmp_path: Path) -> None:
    """A failure is never stored as a result: the next run tries that call, and only that."""

    def picky(x: int) -> int:
        note(log, x)
        if x == 1 and not (tmp_path / "mended").exists():
            raise OSError
        return x

    with pytest.raises(ExceptionGroup):
        chunk(picky, [[0], [1], [2]], chunk_size=1, worker=ThreadWorker, path=path, on_error="continue")
    checkpoint = Checkpoint.load(path)
    assert checkpoint.output == [0, None, 2]
    assert "OSError" in checkpoint.failures[1]
    (tmp_path / "mended").touch()
    assert chunk(picky, [[0], [1], [2]], chunk_size=1, worker=ThreadWorker, path=path) == [0, 1, 2]
    assert noted(log) == ["0", "1", "2", "1"]
    assert Checkpoint.load(path).failures == {}


def test_run_does_not_repeat_a_call_when_its_result_is_none(path: Path, log: Path) -> None:
    """None is a result like any other, and so are False and what equals nothing."""
    results: list[Any] = [None, False, float("nan"), [], NotImplemented]

    def give(index: int) -> Any:
        note(log, index)
        return results[index]

    for _ in range(2):
        assert str(chunk(give, [[n] for n in range(5)], chunk_size=1, worker=ThreadWorker, path=path)) == str(
            results
        )
    assert len(noted(log)) == 5


def test_run_gives_the_first_result_when_the_caller_changed_what_was_returned(path: Path) -> None:
    """What the caller does to a returned object does not reach the file."""

    def make(n: int) -> list[int]:
        return [n]

    for _ in range(2):
        outputs = chunk(make, [[1], [2]], chunk_size=1, path=path, worker=ThreadWorker)
        assert outputs == [[1], [2]]
        outputs[0].append(7)


@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker])
@pytest.mark.parametrize("size", [3, 20_000])
@pytest.mark.parametrize("when", ["on_result", "as_completed"])
def test_run_keeps_a_result_when_the_caller_changed_it_during_the_run(
    when: str, size: int, worker: Any, path: Path
) -> None:
    """What the caller does to a result that was reported to him does not reach the file: it was saved before."""

    def make(n: int) -> Any:
        return np.full(size, float(n))

    def spoil(index: int, output: Any) -> None:
        output *= -1

    parameters = [[1], [2], [3]]
    if when == "on_result":
        chunk(make, parameters, chunk_size=1, path=path, worker=worker, on_result=spoil)
    else:
        with Chunker(make, chunk_size=1, path=path, worker=worker) as chunker:
            for index, output in chunker.as_completed(parameters):
                spoil(index, output)
    assert [float(output[-1]) for output in Checkpoint.load(path).output] == [1.0, 2.0, 3.0]
    again = chunk(make, parameters, chunk_size=1, path=path, worker=worker)
    assert [float(output[0]) for output in again] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker])
def test_run_keeps_its_parameters_when_the_caller_changes_a_row_during_the_run(
    worker: Any, path: Path
) -> None:
    """Calls that wait are run with the arguments that they were given with: those that the file says they have."""
    rows = [[n] for n in range(4)]

    def slow(x: int) -> int:
        time.sleep(0.05)  # work, so that calls are handed out one by one
        return 10 * x

    def change(index: int, output: int) -> None:
        for row in rows[index + 1 :]:
            row[0] = 99

    outputs = chunk(slow, rows, chunk_size=1, path=path, worker=worker, on_result=change)
    assert outputs == [0, 10, 20, 30]
    assert chunk(slow, [[n] for n in range(4)], chunk_size=1, path=path, worker=worker) == outputs


class Box:
    """Holds something that can change."""

    def __init__(self, value: Any) -> None:
        self.value = value


CHANGES: dict[str, tuple[Callable[[], list[Any]], Callable[[list[Any]], None], set[int]]] = {
    "a dict": (lambda: [[{"n": n}] for n in range(6)], lambda rows: rows[4][0].update(n=-1), {4}),
    "a list in a list": (lambda: [[[[n]]] for n in range(6)], lambda rows: rows[5][0][0].append(1), {5}),
    "a set": (lambda: [[{n}] for n in range(6)], lambda rows: rows[1][0].add("x"), {1}),
    "an array": (
        lambda: [[np.arange(n + 3)] for n in range(6)],
        lambda rows: rows[3][0].__setitem__(0, 9),
        {3},
    ),
    "a row of one array": (
        lambda: list(np.arange(48.0).reshape(6, 4, 2)),
        lambda rows: rows[2].__setitem__(0, 9.0),
        {2},
    ),
    "an object": (lambda: [[Box(n)] for n in range(6)], lambda rows: setattr(rows[4][0], "value", None), {4}),
    "a value of a dict of keywords": (
        lambda: [{"x": [n]} for n in range(6)],
        lambda rows: rows[0]["x"].clear(),
        {0},
    ),
    "what all share": (
        lambda: list(zip([{"rate": 1}] * 6, range(6), strict=True)),
        lambda rows: rows[0][0].update(rate=2),
        set(range(6)),
    ),
    "into what cannot be compared": (
        lambda: [[Box(n)] for n in range(6)],
        lambda rows: setattr(rows[3][0], "value", threading.Lock()),
        {3},
    ),
    "nothing": (lambda: [[{"n": n}] for n in range(6)], lambda rows: None, set()),
}
"""Rows, how the caller changes them during the run, and which calls have no result in the file then."""


@pytest.mark.parametrize("way", ["a list", "a stream", "groups", "an interrupt"])
@pytest.mark.parametrize("name", CHANGES)
def test_file_has_no_result_of_a_call_whose_arguments_changed_during_the_run(
    name: str, way: str, path: Path
) -> None:
    """The run returns what it computed, with a warning; the calls count as missing, and the next run makes them again."""
    make, change, wrong = CHANGES[name]
    rows = make()
    shown = sorted(wrong) if way == "an interrupt" else wrong

    def f(x: Any, *rest: Any) -> str:
        return repr(getattr(x, "value", x))

    def on_result(index: int, output: str) -> None:
        if index == 5:
            change(rows)
            if way == "an interrupt":
                raise KeyboardInterrupt

    def run() -> list[Any]:
        if way != "a stream":
            size = 1 if way != "groups" else 2
            return chunk(f, rows, chunk_size=size, path=path, worker=ThreadWorker, on_result=on_result)
        with Chunker(f, chunk_size=1, worker=ThreadWorker) as chunker:
            pairs = []
            for pair in chunker.as_completed(rows, path=path):
                pairs.append(pair)
                on_result(*pair)
            return [output for _, output in sorted(pairs)]

    if way == "an interrupt":
        with pytest.raises(KeyboardInterrupt) as stopped:
            run()
        assert any("were changed" in note for note in stopped.value.__notes__) == bool(wrong)
    elif wrong:
        with pytest.warns(ParametersChangedWarning, match=f"call {min(shown)}"):
            outputs = run()
        assert len(outputs) == 6
    else:
        run()
    saved = Checkpoint.load(path)
    assert {index for index in range(6) if not saved.completed[index]} == wrong
    assert saved.done == 6 - len(wrong)
    executed: list[int] = []
    again = make()
    outputs = chunk(
        f, again, path=path, worker=ThreadWorker, on_result=lambda index, _: executed.append(index)
    )
    assert sorted(executed) == sorted(wrong)
    assert outputs == [f(*(row.values() if isinstance(row, dict) else row)) for row in make()]


def test_file_has_no_result_of_a_call_that_changed_its_own_arguments(path: Path) -> None:
    """In this process a call shares its arguments with whoever made them, and what it changes is changed."""
    rows = [[[3, 1, 2]], [[1, 2, 3]]]

    def in_order(values: list[int]) -> list[int]:
        values.sort()
        return values

    with pytest.warns(ParametersChangedWarning, match="call 0 "):
        assert chunk(in_order, rows, path=path, worker=ThreadWorker) == [[1, 2, 3]] * 2
    assert Checkpoint.load(path).completed == [False, True]
    assert chunk(in_order, [[[3, 1, 2]], [[1, 2, 3]]], path=path) == [[1, 2, 3]] * 2
    assert all(Checkpoint.load(path).completed)


def test_results_of_an_earlier_run_stay_when_their_arguments_change_in_a_later_one(path: Path) -> None:
    """They were computed before, and belong to what the file says."""
    rows: list[Any] = [[{"n": n}] for n in range(4)]
    with pytest.raises(KeyboardInterrupt):
        chunk(len, rows, chunk_size=1, path=path, worker=ThreadWorker, on_result=interrupt_at(2))
    earlier = [index for index, found in enumerate(Checkpoint.load(path).completed) if found]

    def change(index: int, output: int) -> None:
        rows[earlier[0]][0].clear()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chunk(len, rows, chunk_size=1, path=path, worker=ThreadWorker, on_result=change)
    assert caught == []
    assert Checkpoint.load(path).completed == [True] * 4
    assert Checkpoint.load(path).parameters == [[{"n": n}] for n in range(4)]


def test_nothing_is_compared_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who keeps no file pays nothing: values are not looked at."""
    monkeypatch.setattr(_mutation, "call_forms", None)
    assert chunk(len, [[[1]], [[2, 3]]], worker=ThreadWorker) == [1, 2]


def interrupt_at(count: int) -> Callable[[int, Any], None]:
    """Make an `on_result` that stops the run when it was called so often."""
    seen: list[int] = []

    def on_result(index: int, output: Any) -> None:
        seen.append(index)
        if len(seen) == count:
            raise KeyboardInterrupt

    return on_result


@pytest.mark.parametrize("count", [8, 1600])
def test_run_resumes_from_what_many_runs_saved(count: int, path: Path, log: Path, tmp_path: Path) -> None:
    """Each run adds what it computed, short calls in groups and large results alone; the next goes on from all of it."""
    parameters = [[n] for n in range(count)]

    def part(x: int) -> Any:
        note(log, x)
        if x % 3 and (tmp_path / "broken").exists():
            raise OSError
        return np.full(20_000, float(x)) if x % 50 == 5 else f"text {x}"

    for worker in (ThreadWorker, ProcessWorker):
        with contextlib.suppress(KeyboardInterrupt):  # all may be done by then
            chunk(
                part, parameters, chunk_size=2, path=path, on_result=interrupt_at(count // 4), worker=worker
            )
    (tmp_path / "broken").touch()
    chunk(part, parameters, chunk_size=2, path=path, on_error="return")
    (tmp_path / "broken").unlink()
    before, ran = Checkpoint.load(path).completed, len(noted(log))
    assert count // 4 <= sum(before)
    outputs = chunk(part, parameters, chunk_size=2, path=path)
    assert sorted(map(int, noted(log)[ran:])) == [n for n in range(count) if not before[n]]
    for found in (outputs, Checkpoint.load(path).output):
        for n, output in enumerate(found):
            assert float(output.sum()) == 20_000.0 * n if n % 50 == 5 else output == f"text {n}"


@pytest.mark.parametrize("is_finished", [True, False])
def test_reuse_and_raise_know_the_results_of_thousands_of_short_calls(
    is_finished: bool, path: Path, log: Path
) -> None:
    """Results that were saved in groups are counted without being read, and carried over one by one."""

    def name(x: int) -> str:
        note(log, x)
        return f"text {x}"

    on_result = None if is_finished else interrupt_at(700)
    with contextlib.suppress(KeyboardInterrupt):
        chunk(name, [[n] for n in range(2000)], chunk_size=2, path=path, on_result=on_result)
    saved = [n for n, is_completed in enumerate(Checkpoint.load(path).completed) if is_completed]
    assert len(saved) >= 700
    other = [[n] for n in reversed(range(2010))]
    with pytest.raises(CheckpointMismatchError, match=f"with {len(saved)} of 2000 results"):
        chunk(name, other, chunk_size=2, path=path, on_mismatch="raise")
    before = len(noted(log))
    assert chunk(name, other, chunk_size=2, path=path, on_mismatch="reuse") == [f"text {n}" for (n,) in other]
    assert sorted(map(int, noted(log)[before:])) == sorted(set(range(2010)) - set(saved))
    assert os.listdir(path.parent) == ["c.pkl"]


def test_run_repeats_one_call_when_its_result_in_a_group_cannot_be_unpickled(
    path: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One result of many whose module is gone costs its own call: that is run again, with a warning, and no other."""
    (tmp_path / "fading.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    parameters = [[n] for n in range(300)]

    def give(n: int) -> Any:
        note(log, n)
        return __import__("fading").Thing() if n == 150 and not (tmp_path / "gone").exists() else n

    with pytest.raises(KeyboardInterrupt):
        chunk(give, parameters, chunk_size=1, path=path, on_result=interrupt_at(250))
    (tmp_path / "gone").touch()
    monkeypatch.setitem(sys.modules, "fading", None)
    with pytest.warns(CheckpointDamagedWarning, match="call 150 cannot be unpickled"):
        saved = Checkpoint.load(path).completed
    assert not saved[150]
    assert sum(saved) >= 249
    before = len(noted(log))
    kept = pytest.warns(CheckpointDamagedWarning, match=r"kept as .*\.bak")
    with kept, pytest.warns(CheckpointDamagedWarning, match="call 150 cannot be unpickled"):
        assert chunk(give, parameters, chunk_size=1, path=path) == list(range(300))
    assert sorted(map(int, noted(log)[before:])) == [n for n in range(300) if not saved[n]]


PROGRAM = """
    import collections, dataclasses, enum, os, sys
    import numpy as np
    from thread_chunks import chunk

    @dataclasses.dataclass(frozen=True)
    class Point:
        x: float
        names: frozenset

    class Colour(enum.Enum):
        RED = 1

    class Plain:
        def __init__(self, value):
            self.value = value

    def helper(x):
        return x

    def f(*args, **kwargs):
        fd = os.open("execution.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"%d\\n" % len(args))
        os.close(fd)
        return Point(1.0, frozenset(["a"]))

    words = {f"word {n}" for n in range(20)}
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    parameters = [
        [np.arange(6).reshape(2, 3), np.array([1.0, np.nan])],
        [float("nan"), np.float64("nan"), complex("nan"), -0.0],
        [words, frozenset(words), {word: None for word in words}],
        [Point(1.5, frozenset(words)), Colour.RED, Plain(3)],
        [helper, Point, np.sin, len],
        [lambda x: x + 1, collections.OrderedDict(a=1), range(3), slice(1, 2)],
        [np.asfortranarray(np.eye(3)), masked, np.dtype("f4"), np.random.default_rng(3)],
        {"keyword": [Point(2.0, frozenset())], "other": {1, 2.5}},
        [],
    ]
    outputs = chunk(f, parameters, chunk_size=2, path="c.pkl", progress_bar=False)
"""


def test_run_resumes_in_a_new_process_whatever_the_parameters_are(programs: Programs) -> None:
    """Arrays, NaN, sets, dataclasses, functions and classes of __main__ are recognised in a new process."""
    for seed in "123":
        programs.run(PROGRAM, env={"PYTHONHASHSEED": seed})
    assert len(noted(programs.folder / "execution.log")) == 9


def test_run_resumes_with_results_of_the_scripts_own_classes(programs: Programs) -> None:
    """Results that are objects of the script's own classes are so after a resume too: equal, and instances."""
    check = """
    assert isinstance(outputs[0], Point), (type(outputs[0]), Point)
    assert outputs == [Point(1.0, frozenset("a"))] * 9
    """
    for _ in range(2):
        programs.run(PROGRAM + check)
    assert len(noted(programs.folder / "execution.log")) == 9


@pytest.mark.parametrize("module", ["cProfile", "trace", "pdb"])
def test_run_under_a_profiler_resumes_with_results_of_the_scripts_own_classes(
    module: str, programs: Programs
) -> None:
    """A profiler that is ``__main__`` itself does not hide the script's own classes."""
    options = {"cProfile": ("-o", "profile"), "trace": ("--count", "-C", "counts"), "pdb": ("-c", "continue")}
    program = programs.write("""
        from thread_chunks import chunk

        class Point:
            def __init__(self, x):
                self.x = x

        def f(x):
            return Point(x)

        outputs = chunk(f, [[1], [2]], path="c.pkl", progress_bar=False)
        print("own:", *(type(each) is Point for each in outputs))
    """)
    for _ in range(2):
        done = programs.run(None, *options[module], program, flags=("-m", module))
        assert "own: True True\n" in done.stdout
    assert Checkpoint.load(programs.folder / "c.pkl").done == 2


def test_run_resumes_in_a_new_process_when_a_frame_is_among_the_parameters(programs: Programs) -> None:
    """Data frames of equal contents match, however they were made."""
    program = """
        import os, sys
        import pandas as pd
        from thread_chunks import chunk

        def f(frame):
            fd = os.open("execution.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(fd, b"run\\n")
            return float(frame.a.sum())

        frame = pd.DataFrame({"a": [1.0, 2.0, float("nan")], "b": ["x", "y", None]})
        if sys.argv[1] == "2":
            frame = pd.concat([frame[["a"]], frame[["b"]]], axis=1).copy()
        assert chunk(f, [[frame]], path="c.pkl", progress_bar=False) == [3.0]
    """
    for number in "12":
        programs.run(program, number)
    assert len(noted(programs.folder / "execution.log")) == 1


DIFFERENT: dict[str, tuple[Any, Any]] = {
    "int and float": (1, 1.0),
    "int and bool": (1, True),
    "float and bool": (1.0, True),
    "zero and minus zero": (0.0, -0.0),
    "tuple and list": ((1, 2), [1, 2]),
    "None and string": (None, "None"),
    "string and bytes": ("a", b"a"),
    "array values": (np.array([1, 2]), np.array([1, 3])),
    "array types": (np.array([1, 2], "i4"), np.array([1, 2], "i8")),
    "array shapes": (np.zeros((2, 3)), np.zeros((3, 2))),
    "array and list": (np.array([1, 2]), [1, 2]),
    "set members": ({1, 2}, {1, 3}),
    "dict values": ({"a": 1}, {"a": 2}),
    "float last bits": (0.1 + 0.2, 0.3),
    "nan and number": (float("nan"), 0.0),
    "objects": (slice(1, 2), slice(1, 3)),
    "functions": (np.sin, np.cos),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_run_starts_afresh_when_a_value_is_another(name: str, path: Path) -> None:
    """What f could tell apart, does not match: 1, 1.0 and True for a start."""
    one, other = DIFFERENT[name]

    def show(value: object) -> str:
        return repr(value)

    chunk(show, [["same"], [one]], chunk_size=1, worker=ThreadWorker, path=path)
    with pytest.warns(CheckpointRestartedWarning, match=r"call 1.*argument 0") as caught:
        assert chunk(show, [["same"], [other]], chunk_size=1, worker=ThreadWorker, path=path) == [
            "'same'",
            repr(other),
        ]
    assert len(caught) == 1
    assert chunk(show, [["same"], [other]], chunk_size=1, worker=ThreadWorker, path=path) == [
        "'same'",
        repr(other),
    ]


# --- the five mismatches of the contract ------------------------------------------------

MISMATCHES: dict[str, tuple[list[Any], str]] = {
    "different": ([[n, 0.5] for n in range(5)] + [[5, 0.75]], "call 5.*argument 1.*0.5.*0.75"),
    "more": ([[n, 0.5] for n in range(8)], "6 calls.*8"),
    "fewer": ([[n, 0.5] for n in range(4)], "6 calls.*4"),
    "reordered": ([[n, 0.5] for n in (0, 2, 1, 3, 4, 5)], "order.*call 1.*argument 0"),
    "fewer arguments": ([[n, 0.5] for n in range(5)] + [{"x": 5, "y": 0.5}], "call 5"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_run_starts_afresh_when_its_parameters_are_others(name: str, path: Path, log: Path) -> None:
    """Different, more, fewer or reordered parameters: everything runs again, the old file is kept, and why is said."""
    parameters, reason = MISMATCHES[name]
    chunk(adder(log), PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path)
    old = path.read_bytes()
    log.unlink()
    with pytest.warns(CheckpointRestartedWarning, match=reason) as caught:
        outputs = chunk(adder(log), parameters, chunk_size=1, worker=ThreadWorker, path=path)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "c.pkl.bak" in str(caught[0].message)
    assert len(noted(log)) == len(parameters) == len(outputs)
    assert (path.parent / "c.pkl.bak").read_bytes() == old
    assert sorted(os.listdir(path.parent)) == ["c.pkl", "c.pkl.bak"]
    assert Checkpoint.load(path).output == outputs
    assert Checkpoint.load(path.parent / "c.pkl.bak").output == EXPECTED


def test_run_starts_afresh_when_its_function_has_another_name(path: Path, log: Path) -> None:
    """Another function's results are not mixed in: a warning names both, and the old file is kept."""

    def subtract(x: int, y: float) -> float:
        note(log, x)
        return x - y

    chunk(adder(log), PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path)
    old = path.read_bytes()
    log.unlink()
    with pytest.warns(CheckpointRestartedWarning, match="'add'.*'subtract'"):
        outputs = chunk(subtract, PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path)
    assert outputs == [n - 0.5 for n in range(6)]
    assert len(noted(log)) == 6
    assert (path.parent / "c.pkl.bak").read_bytes() == old
    assert Checkpoint.load(path).func_name == "subtract"


def test_run_keeps_every_old_file_when_it_restarts_again_and_again(path: Path) -> None:
    """A second restart does not overwrite the file that the first one set aside."""
    for number in range(4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CheckpointRestartedWarning)
            chunk(abs, [[-number]], chunk_size=1, worker=ThreadWorker, path=path)
    outputs = sorted(Checkpoint.load(file).output[0] for file in path.parent.iterdir())
    assert outputs == [0, 1, 2, 3]
    assert {file.name for file in path.parent.iterdir()} >= {"c.pkl", "c.pkl.bak"}


def test_run_keeps_the_file_when_its_warning_is_an_error(path: Path) -> None:
    """Under -W error nothing is lost either: the old file is at its place or set aside, and nothing is locked."""
    chunk(abs, [[-1]], chunk_size=1, worker=ThreadWorker, path=path)
    old = path.read_bytes()
    with pytest.raises(CheckpointRestartedWarning):
        chunk(abs, [[-2]], chunk_size=1, worker=ThreadWorker, path=path)
    assert old in [file.read_bytes() for file in path.parent.iterdir()]
    assert chunk(abs, [[-2]], chunk_size=1, worker=ThreadWorker, path=path) == [2]


def test_run_starts_afresh_half_way_when_the_old_run_was_not_finished(path: Path, log: Path) -> None:
    """A half-finished file of other parameters is set aside with the results it holds."""

    def picky(x: int) -> int:
        if x == 1:
            raise OSError
        return x

    chunk(picky, [[0], [1]], chunk_size=1, worker=ThreadWorker, path=path, on_error="return")
    with pytest.warns(CheckpointRestartedWarning):
        chunk(picky, [[2]], chunk_size=1, worker=ThreadWorker, path=path)
    assert Checkpoint.load(path.parent / "c.pkl.bak").output == [0, None]


# --- on_mismatch ----------------------------------------------------------------------------

REUSED: dict[str, tuple[list[Any], str]] = {
    "extended": ([[n, 0.5] for n in range(9)], "678"),
    "shortened": ([[n, 0.5] for n in range(4)], ""),
    "reordered": ([[n, 0.5] for n in (5, 3, 1, 0, 2, 4)], ""),
    "all of it": ([[n, 0.5] for n in (7, 3, 8, 1)], "78"),
    "repeated": ([[2, 0.5]] * 4, "222"),
    "disjoint": ([[n, 0.25] for n in range(3)], "012"),
}


@pytest.mark.parametrize("name", REUSED)
def test_reuse_runs_only_new_calls(name: str, path: Path, log: Path) -> None:
    """Under "reuse" every saved result whose parameters still occur is kept: only new calls run."""
    parameters, new = REUSED[name]
    chunk(adder(log), PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path)
    log.unlink()
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CheckpointRestartedWarning)
            outputs = chunk(
                adder(log), parameters, chunk_size=1, worker=ThreadWorker, path=path, on_mismatch="reuse"
            )
        assert outputs == [x + y for x, y in parameters]
    assert noted(log) == list(new)
    assert Checkpoint.load(path).output == outputs


@pytest.mark.parametrize("name", ["shortened", "all of it", "disjoint"])
def test_reuse_sets_the_old_file_aside_when_it_drops_results(name: str, path: Path, log: Path) -> None:
    """Results that the new list has no place for are not destroyed: the old file is kept, with a warning."""
    parameters, _ = REUSED[name]
    chunk(adder(log), PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path)
    with pytest.warns(CheckpointRestartedWarning, match=r"c\.pkl\.bak"):
        chunk(adder(log), parameters, chunk_size=1, worker=ThreadWorker, path=path, on_mismatch="reuse")
    assert Checkpoint.load(path.parent / "c.pkl.bak").output == EXPECTED


def test_reuse_keeps_results_when_the_saved_run_was_not_finished(path: Path, log: Path) -> None:
    """A half-finished file is reused too; its failures run."""

    def picky(x: int) -> int:
        note(log, x)
        if x == 1:
            raise OSError
        return x

    chunk(picky, [[0], [1], [2]], chunk_size=1, worker=ThreadWorker, path=path, on_error="return")
    log.unlink()
    outputs = chunk(
        picky,
        [[3], [2], [1], [0]],
        chunk_size=1,
        worker=ThreadWorker,
        path=path,
        on_error="return",
        on_mismatch="reuse",
    )
    assert [outputs[0], outputs[1], outputs[3]] == [3, 2, 0]
    assert sorted(noted(log)) == ["1", "3"]


class Moody:
    """A result that can be unpickled once the mood is good."""

    is_good = True

    def __init__(self, x: int) -> None:
        self.x = x

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["x"] == 1 and not Moody.is_good:
            msg = "not today"
            raise OSError(msg)
        self.__dict__.update(state)


def test_reuse_runs_again_what_cannot_be_unpickled(
    path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A saved result that cannot be read costs its own call; the others are carried over and the old file is kept."""

    def made(x: int) -> Moody:
        note(log, x)
        return Moody(x)

    chunk(made, [[0], [1], [2]], chunk_size=1, worker=ThreadWorker, path=path)
    log.unlink()
    monkeypatch.setattr(Moody, "is_good", False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outputs = chunk(
            made, [[2], [1], [0]], chunk_size=1, worker=ThreadWorker, path=path, on_mismatch="reuse"
        )
    assert [output.x for output in outputs] == [2, 1, 0]
    assert noted(log) == ["1"]
    assert [each.category for each in caught] == [CheckpointDamagedWarning, CheckpointRestartedWarning]
    assert "call 1 cannot be unpickled" in str(caught[0].message)
    assert "All that could be read, 2 results, was carried over" in str(caught[1].message)
    monkeypatch.setattr(Moody, "is_good", True)
    assert [output.x for output in Checkpoint.load(path.parent / "c.pkl.bak").output] == [0, 1, 2]


@pytest.mark.parametrize(("saved", "now", "new"), [(1, 3, 2), (3, 1, 0), (3, 5, 2), (2, 2, 0)])
def test_reuse_gives_each_saved_result_to_one_call_when_parameters_occur_several_times(
    saved: int, now: int, new: int, path: Path, log: Path
) -> None:
    """Parameters that occur more often than they were saved are computed as often as that, and no more."""

    def add(x: int) -> int:
        note(log, x)
        return x

    chunk(add, [[5]] * saved, chunk_size=1, worker=ThreadWorker, path=path)
    log.unlink()
    parameters = [[5]] * now + [[6]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointRestartedWarning)
        assert chunk(add, parameters, chunk_size=1, worker=ThreadWorker, path=path, on_mismatch="reuse") == [
            5
        ] * now + [6]
    assert noted(log) == ["5"] * new + ["6"]
    assert (path.parent / "c.pkl.bak").exists() == (saved > now)


def test_restart_says_how_to_get_the_results_back(path: Path, log: Path) -> None:
    """What the warning advises works: rename the old file, ask for "reuse", and only new calls run."""
    chunk(adder(log), PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path)
    longer = [*PARAMETERS, [6, 0.5]]
    with pytest.warns(
        CheckpointRestartedWarning, match=r"To keep 6 results, .* rename .* to c\.pkl again"
    ) as caught:
        chunk(adder(log), longer, chunk_size=1, worker=ThreadWorker, path=path)
    assert "6 of 6 results, is kept as" in str(caught[0].message)
    os.replace(path.parent / "c.pkl.bak", path)
    log.unlink()
    chunk(adder(log), longer, chunk_size=1, worker=ThreadWorker, path=path, on_mismatch="reuse")
    assert noted(log) == ["6"]


def test_reuse_runs_everything_when_the_function_is_another(path: Path, log: Path) -> None:
    """Results of another function are of no use, whatever their parameters."""
    chunk(abs, [[-1], [-2]], chunk_size=1, worker=ThreadWorker, path=path)
    with pytest.warns(CheckpointRestartedWarning, match="abs"):
        assert chunk(
            str, [[-1], [-2]], chunk_size=1, worker=ThreadWorker, path=path, on_mismatch="reuse"
        ) == ["-1", "-2"]


@pytest.mark.parametrize("name", MISMATCHES)
def test_raise_leaves_the_file_alone_when_it_does_not_match(name: str, path: Path, log: Path) -> None:
    """Under "raise" a mismatch is an error that says what differs; the file is as it was and no call ran."""
    parameters, reason = MISMATCHES[name]
    chunk(adder(log), PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path)
    old = path.read_bytes()
    log.unlink()
    with pytest.raises(CheckpointMismatchError, match=reason) as caught:
        chunk(adder(log), parameters, chunk_size=1, worker=ThreadWorker, path=path, on_mismatch="raise")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CheckpointError)
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == ["c.pkl"]
    assert noted(log) == []
    assert (
        chunk(adder(log), PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path, on_mismatch="raise")
        == EXPECTED
    )


# --- the function's identity --------------------------------------------------------------------


def _version(number: int) -> Callable[[int], int]:
    """Make one of two functions of the same name and different code."""
    if number == 1:

        def compute(x: int) -> int:
            if x > 2:
                raise OSError
            return x + 1

        return compute

    def compute(x: int) -> int:  # type: ignore[no-redef]
        return x + 2

    return compute


def test_run_resumes_with_a_warning_when_the_functions_code_changed(path: Path) -> None:
    """A named function whose code changed still resumes; a warning counts the results of the older code."""
    parameters = [[n] for n in range(5)]
    chunk(_version(1), parameters, chunk_size=1, worker=ThreadWorker, path=path, on_error="return")
    with pytest.warns(FunctionChangedWarning, match=r"'compute'.*3 of 3 results") as caught:
        assert chunk(_version(2), parameters, path=path, chunk_size=1) == [1, 2, 3, 5, 6]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.warns(FunctionChangedWarning, match="3 of 5 results"):
        assert chunk(_version(2), parameters, path=path, chunk_size=1) == [1, 2, 3, 5, 6]
    with pytest.warns(FunctionChangedWarning, match="2 of 5 results"):
        assert chunk(_version(1), parameters, path=path, chunk_size=1) == [1, 2, 3, 5, 6]
    assert os.listdir(path.parent) == ["c.pkl"]


def test_run_resumes_without_a_warning_when_only_comments_and_lines_moved(programs: Programs) -> None:
    """A function that was moved, commented or documented has the same code as far as results go."""
    program = """
        from thread_chunks import chunk
        {}
        def f(x):
            {}
            return x + 1

        assert chunk(f, [[1], [2]], chunk_size=1, path="c.pkl", progress_bar=False) == [2, 3]
    """
    programs.run(program.format("", ""))
    programs.run(program.format("import os\n\n\n", "# a comment"))


@pytest.mark.parametrize("name", ["\ud800", "a\udfffb", "\udc80" * 99, "\0", "é" * 99])
def test_run_resumes_whatever_its_function_is_called(name: str, path: Path, log: Path) -> None:
    """A name is text, and need not be such that it can be written in UTF-8."""
    add = adder(log)
    add.__name__ = name
    assert chunk(add, PARAMETERS, path=path, worker=ThreadWorker) == EXPECTED
    log.unlink()
    assert chunk(add, PARAMETERS, path=path) == EXPECTED
    assert noted(log) == []
    assert Checkpoint.load(path).func_name == name


def test_run_starts_afresh_when_a_lambda_has_other_code(path: Path) -> None:
    """Lambdas have no name, so their code stands in for it."""
    assert chunk(lambda x: x + 1, [[1]], chunk_size=1, worker=ThreadWorker, path=path) == [2]
    assert chunk(lambda x: x + 1, [[1]], chunk_size=1, worker=ThreadWorker, path=path) == [2]
    with pytest.warns(CheckpointRestartedWarning, match="lambda"):
        assert chunk(lambda x: x + 2, [[1]], chunk_size=1, worker=ThreadWorker, path=path) == [3]


def test_run_starts_afresh_when_a_lambda_captured_another_value(path: Path) -> None:
    """What a lambda captured is part of its code."""

    def make(amount: int) -> Callable[[int], int]:
        return lambda x: x + amount

    assert chunk(make(1), [[1]], chunk_size=1, worker=ThreadWorker, path=path) == [2]
    assert chunk(make(1), [[1]], chunk_size=1, worker=ThreadWorker, path=path) == [2]
    with pytest.warns(CheckpointRestartedWarning, match="lambda"):
        assert chunk(make(2), [[1]], chunk_size=1, worker=ThreadWorker, path=path) == [3]


def test_run_starts_afresh_when_bound_arguments_of_a_partial_differ(path: Path, log: Path) -> None:
    """Arguments bound by functools.partial count as parameters."""
    assert chunk(
        functools.partial(adder(log), y=1.0), [[1]], chunk_size=1, worker=ThreadWorker, path=path
    ) == [2.0]
    assert chunk(
        functools.partial(adder(log), y=1.0), [[1]], chunk_size=1, worker=ThreadWorker, path=path
    ) == [2.0]
    assert len(noted(log)) == 1
    with pytest.warns(
        CheckpointRestartedWarning, match="bound argument 'y' of 'add': 1.0 was saved, 2.0 is asked"
    ):
        assert chunk(
            functools.partial(adder(log), y=2.0), [[1]], chunk_size=1, worker=ThreadWorker, path=path
        ) == [3.0]


def test_run_starts_afresh_when_a_method_is_bound_to_another_value(path: Path) -> None:
    """The object that a method is bound to counts as a parameter, for the methods of builtins too."""
    assert chunk("{} a".format, [[1]], chunk_size=1, worker=ThreadWorker, path=path) == ["1 a"]
    with pytest.warns(CheckpointRestartedWarning):
        assert chunk("{} b".format, [[1]], chunk_size=1, worker=ThreadWorker, path=path) == ["1 b"]


# --- files that are left alone ----------------------------------------------------------------------


def _foreign(kind: str) -> bytes:
    if kind == "text":
        return b"not a checkpoint, " * 20
    if kind == "short text":
        return b"x"
    if kind == "csv":
        return b"a,b\n1,2\n"
    if kind == "pickle":
        return pickle.dumps({"some": "other", "program": list(range(200))})
    if kind == "zeros":
        return bytes(5000)
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (a)")
    data = connection.serialize()
    connection.close()
    return data


@pytest.mark.parametrize("kind", ["text", "short text", "csv", "pickle", "zeros", "sqlite"])
def test_run_leaves_a_file_alone_when_it_is_another_programs(kind: str, path: Path, log: Path) -> None:
    """Another program's file is an error before any call, whatever on_mismatch says, and its bytes stay."""
    data = _foreign(kind)
    path.write_bytes(data)
    for on_mismatch in ("restart", "reuse", "raise"):
        with pytest.raises(NotACheckpointError, match=r"c\.pkl"):
            chunk(adder(log), PARAMETERS, path=path, on_mismatch=on_mismatch)
    assert path.read_bytes() == data
    assert os.listdir(path.parent) == ["c.pkl"]
    assert noted(log) == []


def test_run_unpickles_nothing_of_a_file_that_is_not_ours(path: Path, tmp_path: Path) -> None:
    """Whether a file is ours is decided before anything in it is unpickled."""
    path.write_bytes(pickle.dumps([Trap(str(tmp_path / "trace")), "padding" * 50]))
    with pytest.raises(NotACheckpointError):
        chunk(abs, [[1]], path=path)
    with pytest.raises(NotACheckpointError):
        Checkpoint.load(path)
    assert not (tmp_path / "trace").exists()


def test_run_leaves_a_file_alone_when_its_head_is_damaged(path: Path, log: Path) -> None:
    """A checkpoint whose head is damaged is an error before any call, and its bytes stay."""
    chunk(adder(log), PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path)
    log.unlink()
    whole = path.read_bytes()
    for position in (20, 60, 100, len(whole) // 2):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            chunk(adder(log), PARAMETERS, path=path)
        assert path.read_bytes() == bytes(damaged)
    assert noted(log) == []


def test_run_leaves_a_file_alone_when_a_newer_release_wrote_it(path: Path, log: Path) -> None:
    """A file of a newer format is an error that says so, and its bytes stay."""
    chunk(adder(log), PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path)
    log.unlink()
    data = _newer(path.read_bytes())
    path.write_bytes(data)
    with pytest.raises(CheckpointVersionError, match="newer release"):
        chunk(adder(log), PARAMETERS, path=path)
    with pytest.raises(CheckpointVersionError, match="newer release"):
        Checkpoint.load(path)
    assert path.read_bytes() == data
    assert noted(log) == []


def _newer(data: bytes) -> bytes:
    """Give a checkpoint file the next format version, its checksum set right."""
    from thread_chunks import _format  # noqa: PLC0415 - only this test looks inside

    start, end = len(_format._OPEN), _format.HEADER_SIZE - 1
    magic, version, spare, holder, *rest, _ = _format._HEADER.unpack(data[start:end])
    crc = _format._header_crc(version + 1, spare, *rest)
    header = _format._HEADER.pack(magic, version + 1, spare, holder, *rest, crc)
    return data[:start] + header + data[end:]


@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_run_refuses_a_path_when_it_is_no_regular_file(kind: str, path: Path, log: Path) -> None:
    """A folder, a pipe or a device is an error before any call: no hang, and nothing is replaced."""
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    with pytest.raises((CheckpointError, OSError)):
        chunk(adder(log), PARAMETERS, path=path)
    assert noted(log) == []
    assert not path.is_file()


def test_run_accepts_an_empty_file(path: Path, log: Path) -> None:
    """A file without a byte holds nothing to lose, and is used."""
    path.touch()
    assert chunk(adder(log), PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path) == EXPECTED
    assert Checkpoint.load(path).output == EXPECTED


# --- one writer ---------------------------------------------------------------------------------------


def test_run_is_refused_when_another_process_holds_the_file(programs: Programs, log: Path) -> None:
    """A second run on one path is refused at once and names the holder; the first is not disturbed."""
    program = """
        import os, sys, time
        from thread_chunks import chunk

        def add(x, y):
            open("started", "w").close()
            while not os.path.exists("go on"):
                time.sleep(0.01)
            return x + y

        print(chunk(add, [[1, 2]], path="c.pkl", progress_bar=False))
    """
    holder = programs.start(program)
    wait_for(programs.folder / "started")
    path = programs.folder / "c.pkl"
    for parameters in ([[1, 2]], [[3, 4]]):
        with pytest.raises(CheckpointLockedError, match=f"process {holder.pid}") as caught:
            chunk(adder(log), parameters, path=path)
        assert caught.value.pid == holder.pid
        assert isinstance(caught.value, BlockingIOError)
    (programs.folder / "go on").touch()
    assert programs.finish(holder)[0] == "[3]\n"
    assert noted(log) == []
    assert not (programs.folder / "c.pkl.bak").exists()


def test_run_goes_on_at_once_when_the_holder_was_killed(programs: Programs, log: Path) -> None:
    """A dead run's lock needs no removal, also while children of it still end."""
    program = """
        import os, time
        from thread_chunks import chunk

        def add(x, y):
            if x == 1:
                open("started", "w").close()
                time.sleep(600)
            return x + y

        chunk(add, [[0, 0.5], [1, 0.5]], chunk_size=1, path="c.pkl", progress_bar=False)
    """
    holder = programs.start(program)
    wait_for(programs.folder / "started")
    # The second call was handed out before the result of the first was saved.
    wait_until(lambda: Checkpoint.load(programs.folder / "c.pkl").done == 1, what="the first result")
    holder.kill()
    holder.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FunctionChangedWarning)
        assert chunk(adder(log), PARAMETERS[:2], chunk_size=1, path=programs.folder / "c.pkl") == EXPECTED[:2]
    assert noted(log) == ["1"]


def test_run_is_refused_when_another_thread_holds_the_file(path: Path, log: Path, tmp_path: Path) -> None:
    """Two threads of one process cannot write to one file either."""

    def waits(x: int) -> int:
        note(tmp_path / "started", x)
        wait_for(tmp_path / "go on")
        return x

    outputs: list[list[int]] = []
    thread = threading.Thread(target=lambda: outputs.append(chunk(waits, [[1]], path=path)))
    thread.start()
    wait_for(tmp_path / "started")
    try:
        with pytest.raises(CheckpointLockedError, match=str(os.getpid())):
            chunk(waits, [[1]], path=path)
    finally:
        (tmp_path / "go on").touch()
        thread.join()
    assert outputs == [[1]]


def test_run_is_refused_when_a_call_of_it_uses_the_same_path(path: Path) -> None:
    """A call that itself calls chunk() with the path of its own run gets an error: no deadlock."""

    def inner(x: int) -> list[int]:
        return chunk(abs, [[x]], path=path, progress_bar=False)

    with pytest.raises(CheckpointLockedError):
        chunk(inner, [[1]], path=path)


def test_runs_one_after_another_give_the_same_list_whoever_comes_first(programs: Programs) -> None:
    """Many processes that start at once on one path: one runs, the others are refused, and the file is whole."""
    program = """
        import time
        from thread_chunks import CheckpointLockedError, chunk

        def f(x):
            time.sleep(0.01)
            return x

        try:
            print(len(chunk(f, [[n] for n in range(60)], chunk_size=2, path="c.pkl", progress_bar=False)))
        except CheckpointLockedError:
            print("refused")
    """
    running = [programs.start(program) for _ in range(4)]
    outputs = [programs.finish(process)[0].strip() for process in running]
    assert set(outputs) <= {"60", "refused"}
    assert "60" in outputs
    assert Checkpoint.load(programs.folder / "c.pkl").output == list(range(60))
    wait_until(lambda: min(os.listdir(programs.folder)) == "c.pkl")
    assert not [name for name in os.listdir(programs.folder) if name.endswith((".tmp", ".bak", ".lock"))]


def test_run_reports_a_torn_tail_when_the_dead_run_had_the_number_of_a_living_process(path: Path) -> None:
    """Process numbers come again, in containers each time: a run that holds the file reports its tail all the same."""
    chunk(abs, [[-1], [-2]], path=path, chunk_size=1)
    data = bytearray(path.read_bytes() + b"torn")
    data[HOLDER_OFFSET : HOLDER_OFFSET + 4] = os.getpid().to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.warns(CheckpointDamagedWarning, match="torn tail"):
        assert chunk(abs, [[-1], [-2]], path=path) == [1, 2]
