"""Errors before work: every wrong argument is refused before a child starts, by a message that shows the fix."""

import asyncio
import datetime as dt
import functools
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import numpy as np
import pandas as pd
import pytest
from test_literal import Proxy

from thread_chunks import Checkpoint, CheckpointWarning, Chunker, ProcessWorker, ThreadWorker, chunk
from thread_chunks import _by_value as by_value
from thread_chunks._memory import to_bytes
from thread_chunks._parameters import read_calls
from thread_chunks._travel import check, is_plain
from thread_chunks.cli import main

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

LOCK = threading.Lock()
EXECUTOR = ThreadPoolExecutor(1)
PARAMETERS = [[1], [2]]
FRAME = pd.DataFrame({"x": [1, 2]})


def double(x: Any) -> Any:
    return 2 * x


def locked(x: Any) -> Any:
    with LOCK:
        return x


OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"chunk_size": 0}, ValueError, "chunk_size.* at least 1, not 0"),
    ({"chunk_size": -2}, ValueError, "chunk_size.* at least 1, not -2"),
    ({"chunk_size": 1.5}, ValueError, "chunk_size.* whole number .*not 1.5"),
    ({"chunk_size": 2.0}, ValueError, "chunk_size.* not 2.0: write chunk_size=2"),
    ({"chunk_size": "2"}, ValueError, "chunk_size.* whole number .*not '2'"),
    ({"chunk_size": True}, ValueError, "chunk_size.* whole number .*not True"),
    ({"chunk_size": np.array([1, 2])}, ValueError, "chunk_size.* whole number .*not array"),
    ({"chunk_size": float("nan")}, ValueError, "chunk_size.* whole number .*not nan"),
    ({"on_error": "ignore"}, ValueError, "on_error.* 'raise', 'continue', 'return', not 'ignore'"),
    ({"on_error": None}, ValueError, "on_error.* 'raise', 'continue', 'return', not None"),
    ({"on_error": ["raise"]}, ValueError, "on_error.* 'raise', 'continue', 'return', not "),
    ({"on_mismatch": "overwrite"}, ValueError, "on_mismatch.* 'restart', 'reuse', 'raise', not 'overwrite'"),
    ({"on_mismatch": np.array(["raise", "reuse"])}, ValueError, "on_mismatch.* 'restart', 'reuse', 'raise'"),
    ({"retries": -1}, ValueError, "retries.* at least 0, not -1"),
    ({"retries": 0.5}, ValueError, "retries.* whole number.* not 0.5"),
    ({"retries": 2.0}, ValueError, "retries.* not 2.0: write retries=2"),
    ({"retries": "3"}, ValueError, "retries.* whole number.* not '3'"),
    ({"retries": True}, ValueError, "retries.* whole number.* not True"),
    ({"timeout": 0}, ValueError, "timeout.* above 0.* or None for no limit, not 0"),
    ({"timeout": -1.0}, ValueError, "timeout.* above 0.* or None for no limit, not -1.0"),
    ({"timeout": float("nan")}, ValueError, "timeout.* or None for no limit, not nan"),
    ({"timeout": float("inf")}, ValueError, "timeout.* or None for no limit, not inf"),
    ({"timeout": "60"}, TypeError, "timeout.* number of seconds.* such as 60, .*not '60'"),
    ({"timeout": True}, TypeError, "timeout.* number of seconds.* not True"),
    ({"timeout": dt.timedelta(minutes=1)}, TypeError, "timeout.* number of seconds.* not datetime"),
    ({"timeout": 1, "worker": ThreadWorker}, ValueError, "timeout.* use worker=ProcessWorker"),
    (
        {"on_result": "print"},
        TypeError,
        r"on_result.* function of \(index, output\), such as print, not 'print'",
    ),
    ({"on_result": 3}, TypeError, r"on_result.* function of \(index, output\), such as print, not 3"),
    ({"worker": "ProcessWorker"}, TypeError, "worker.* such as ProcessWorker or ThreadWorker, not"),
    ({"worker": None}, TypeError, "worker.* such as ProcessWorker or ThreadWorker, not None"),
    ({"worker": int}, TypeError, "worker.* such as ProcessWorker or ThreadWorker, not"),
    ({"progress_bar": "no"}, TypeError, "progress_bar.* True or False, or None.* not 'no'"),
    (
        {"progress_bar": 2},
        TypeError,
        r"progress_bar.* True or False, or None.* not 2: did you mean chunk_size=2\?",
    ),
    ({"progress_bar": "c.pkl"}, TypeError, r"progress_bar.* did you mean path='c.pkl'\?"),
    ({"chunk_size": "c.pkl"}, ValueError, r"chunk_size.* did you mean path='c.pkl'\?"),
    ({"chunk_size": Path("c.pkl")}, ValueError, r"chunk_size.* did you mean path='c.pkl'\?"),
    ({"chunk_size": True}, ValueError, r"chunk_size.* not True: did you mean progress_bar=True\?"),
    ({"chunk_size": ThreadWorker}, ValueError, r"chunk_size.* did you mean worker=ThreadWorker\?"),
    ({"worker": EXECUTOR}, TypeError, r"worker.* did you mean worker=ExecutorWorker.on\(executor\)\?"),
    ({"worker": 4}, TypeError, r"worker.* did you mean chunk_size=4\?"),
    (
        {"max_memory": float("nan")},
        ValueError,
        'max_memory.* bytes above 0, or text such as "8 GB".* not nan',
    ),
    ({"max_memory": np.inf}, ValueError, "max_memory.* not inf"),
    ({"max_memory": np.float64("-inf")}, ValueError, "max_memory.* not .*-inf"),
    ({"max_memory": 0.5}, ValueError, "max_memory.* not 0.5"),
    ({"max_memory": True}, ValueError, "max_memory.* not True"),
    ({"max_memory": 1j}, ValueError, "max_memory.* not 1j"),
    ({"max_memory": 10**400}, ValueError, "max_memory.* not 1000"),
    ({"max_memory": "1e999 GB"}, ValueError, "max_memory.* not '1e999 GB'"),
    ({"max_memory": "nan"}, ValueError, "max_memory.* not 'nan'"),
]
"""What is wrong however it is passed: the option, the error, and what the message says."""

PATHS: list[tuple[Any, type[Exception], str]] = [
    (3, TypeError, "path must be the name of a file, such as 'results.pkl', and not 3"),
    (True, TypeError, r"path must be the name of a file, .* not True: did you mean progress_bar=True\?"),
    (np.int64(4), TypeError, r"path must be the name of a file, .* did you mean chunk_size=4\?"),
    (ThreadWorker, TypeError, r"path must be the name of a file, .* did you mean worker=ThreadWorker\?"),
    (["c.pkl"], TypeError, "path must be the name of a file, .* not .'c.pkl'"),
    ("", ValueError, "path must name a file, such as 'results.pkl', not ''"),
    ("folder/..", ValueError, "path must name a file, such as 'folder/../results.pkl', not 'folder/..'"),
    (".", ValueError, "path must name a file, such as './results.pkl'"),
    ("a\0b.pkl", ValueError, "path must name a file"),
]

FUNCTIONS: list[tuple[Any, type[Exception], str]] = [
    ("double", TypeError, r"func must be a function, not 'double'.* without quotes or parentheses"),
    ("out.pkl", TypeError, r"func must be a function, not 'out.pkl'.*: did you mean path='out.pkl'\?"),
    (4, TypeError, r"func must be a function, not 4.* as? ?chunk\(f, \[\[1\], \[2\]\]\)"),
    ([[1], [2]], TypeError, r"func must be a function, not \[\[1\], \[2\]\].* before the parameters"),
    (locked, TypeError, "func 'locked' .*lock.* create that inside the function, or use worker=ThreadWorker"),
]

LISTS: list[tuple[Any, str]] = [
    (None, r"parameters must be a list .*such as \[\[1, 4\], \[2, 5\]\]; got None"),
    (3, r"parameters must be a list .*such as \[\[1, 4\], \[2, 5\]\]; got 3"),
    ("abc", r"parameters must be a list .*such as \[\[1, 4\], \[2, 5\]\]; got 'abc'"),
    ({"x": 1}, r"parameters must be a list .*such as \[\[1, 4\], \[2, 5\]\]; got \{'x': 1\}.* as in \[\{...\}\]"),
    (double, "parameters must be a list .*; got <function double"),
    (FRAME, r'a DataFrame, .* its columns and not its rows.* df.itertuples\(index=False\) .*df.to_dict\("records"\)'),
    (FRAME["x"], r"parameters\[0\] is .*1.*write \[.*1.*\[\[1\], \[2\]\] and not \[1, 2\]"),
    ([FRAME], r"parameters\[0\] is .* each entry must be a list of arguments"),
    ([1, 2], r"parameters\[0\] is 1.*write \[1\].*\[\[1\], \[2\]\] and not \[1, 2\]"),
    (["ab"], r"parameters\[0\] is 'ab'.*write \['ab'\]"),
    ([[1], None], r"parameters\[1\] is None.*write \[None\]"),
    ([{1: 2}], r"parameters\[0\] .*keys must be strings"),
    ([[1], [LOCK]], r"cannot be sent .*parameters\[1\], argument 0, is .*lock.*make it inside the function, or use worker"),
    ([[1], {"x": [{"a": LOCK}]}], r"cannot be sent .*parameters\[1\], argument 'x', is .*lock.* in \[\{'a': "),
    ([[(n for n in "ab")]], r"cannot be sent .*parameters\[0\], .*generator.*inside the function"),
    ([[np.array([1, LOCK], object)]], r"cannot be sent .*parameters\[0\], .*lock"),
]  # fmt: skip


class Own(ProcessWorker):
    """A worker with an argument of its own."""

    def __init__(self, func: Any, prefix: str) -> None:
        super().__init__(func)
        self.prefix = prefix


@pytest.fixture
def file(folder: Path) -> Iterator[Path]:
    """Give a checkpoint that must still be there, byte for byte, when the test ends."""
    path = folder / "c.pkl"
    chunk(double, PARAMETERS, chunk_size=1, path=path, worker=ThreadWorker, progress_bar=False)
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before
    assert [each.name for each in folder.iterdir()] == ["c.pkl"]


@pytest.fixture(autouse=True)
def children(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Record which processes are started: none may be."""
    started: list[Any] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            started.append(args)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    yield started
    assert started == []


def test_children_are_seen_when_one_is_started(children: list[Any]) -> None:
    """The tests below would notice a child."""
    assert chunk(double, PARAMETERS, chunk_size=1) == [2, 4]
    assert len(children) == 1
    children.clear()


def with_chunk(func: Any, parameters: Any, **options: Any) -> Any:
    return chunk(func, parameters, **options)


def with_chunker(func: Any, parameters: Any, **options: Any) -> Any:
    with Chunker(func, **options) as chunker:
        return chunker(parameters)


def with_as_completed(func: Any, parameters: Any, **options: Any) -> Any:
    with Chunker(func, **options) as chunker:
        return chunker.as_completed(parameters)  # it is not asked for a result


WAYS: list[Callable[..., Any]] = [with_chunk, with_chunker, with_as_completed]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("options", "kind", "text"), OPTIONS, ids=lambda value: str(value)[:40])
def test_wrong_option_is_refused_before_work(
    way: Callable[..., Any], options: dict[str, Any], kind: type[Exception], text: str, file: Path
) -> None:
    """Every option with every wrong value: the error names the option and shows what it may be."""
    with pytest.raises(kind, match=text):
        way(double, PARAMETERS, path=file, **options)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("path", "kind", "text"), PATHS, ids=lambda value: repr(value)[:40])
def test_wrong_path_is_refused_before_work(
    way: Callable[..., Any],
    path: Any,
    kind: type[Exception],
    text: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What cannot be the name of a file is refused, and above all no number is taken for an open file."""
    monkeypatch.chdir(file.parent)
    with pytest.raises(kind, match=text):
        way(double, PARAMETERS, path=path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("func", "kind", "text"), FUNCTIONS, ids=lambda value: repr(value)[:20])
def test_wrong_function_is_refused_before_work(
    way: Callable[..., Any], func: Any, kind: type[Exception], text: str, file: Path
) -> None:
    """What cannot be called, and what cannot travel: the error says so, and what to write instead."""
    with pytest.raises(kind, match=text):
        way(func, PARAMETERS, path=file)
    with pytest.raises(kind, match=text):
        way(func, PARAMETERS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("parameters", "text"), LISTS, ids=lambda value: str(value)[:30])
def test_wrong_parameters_are_refused_before_work(
    way: Callable[..., Any], parameters: Any, text: str, file: Path
) -> None:
    """What is no list of arguments, and what cannot travel: the error names the entry and shows the fix."""
    with pytest.raises(TypeError, match=text):
        way(double, parameters, path=file)
    if "generator" not in text:
        with pytest.raises(TypeError, match=text):
            way(double, parameters)


MISPLACED: list[tuple[Any, str]] = [
    ("out.pkl", "path='out.pkl'"),
    ("out", "path='out'"),
    (b"out.pkl", "path='out.pkl'"),
    (Path("a/out.pkl"), "path='a/out.pkl'"),
    (4, "chunk_size=4"),
    (np.int64(4), "chunk_size=4"),
    (4.0, "chunk_size=4"),
    ("4", "chunk_size=4"),
    (True, "progress_bar=True"),
    (np.False_, "progress_bar=False"),
    (ThreadWorker, "worker=ThreadWorker"),
    (functools.partial(Own, prefix="a"), "worker=functools.partial(...)"),
    (EXECUTOR, "worker=ExecutorWorker.on(executor)"),
    (ThreadPoolExecutor, "worker=ExecutorWorker.on(executor)"),
]


@pytest.mark.parametrize("way", [chunk, Chunker])
@pytest.mark.parametrize(("value", "meant"), MISPLACED, ids=str)
def test_argument_in_the_place_of_actors_is_known_for_what_it_was_meant(
    way: Any, value: Any, meant: str, file: Path
) -> None:
    """Whatever follows func and parameters without its name is refused, and the error says which name it lacks."""
    arguments = [double, PARAMETERS, value] if way is chunk else [double, value]
    with pytest.raises(TypeError, match="actors must be a list of started workers") as caught:
        way(*arguments)
    assert str(caught.value).endswith(f": did you mean {meant}?")


@pytest.mark.parametrize("rows", ["itertuples", "to_dict"])
def test_rows_of_a_frame_are_had_as_the_error_says(rows: str, tmp_path: Path) -> None:
    """What the error about a frame says to write works, with a checkpoint, and again from it."""
    for _ in range(2):
        entries: Any = FRAME.itertuples(index=False) if rows == "itertuples" else FRAME.to_dict("records")
        path = tmp_path / "frame.pkl"
        assert chunk(double, entries, path=path, worker=ThreadWorker, on_mismatch="raise") == [2, 4]


@pytest.mark.parametrize(
    "amount", [8e9, np.float64(8e9), np.int64(8 * 10**9), Fraction(8 * 10**9), "8e9", "8 GB"]
)
def test_max_memory_is_a_number_of_bytes_however_it_is_written(amount: Any) -> None:
    """A float, one of NumPy's, or a text with an exponent: each is as good as the whole number."""
    assert to_bytes(amount) == 8 * 10**9


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"func": None}, ValueError, r"func is None, and so is actors.* chunk\(f, "),
        ({"actors": 3}, TypeError, r"actors must be a list of started workers, such as \[ThreadWorker.start\(\)\]"),
        ({"actors": "ab"}, TypeError, "actors must be a list of started workers"),
        ({"actors": []}, ValueError, "there are 0 actors"),
        ({"actors": [ThreadWorker]}, TypeError, r"actors\[0\] must be a started worker, such as ThreadWorker.start"),
        ({"actors": [3]}, TypeError, r"actors\[0\] must be a started worker, such as ThreadWorker.start"),
        ({"worker": Own}, TypeError, r"Own cannot be started.* worker=functools.partial\(Own, ...\)"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_actors_are_refused_before_work(
    arguments: dict[str, Any], kind: type[Exception], text: str, file: Path
) -> None:
    """Neither func nor actors, and actors that are none: the error shows how they are started."""
    with pytest.raises(kind, match=text):
        chunk(**{"func": double, "parameters": PARAMETERS, "path": file, **arguments})


def test_wrong_use_of_actors_is_refused_before_work(file: Path) -> None:
    """Actors that were stopped, stand there twice, are not chunk_size many, or stand beside a class of workers."""
    actors = [ProcessWorker.start(double), ProcessWorker.start(double)]
    with pytest.raises(ValueError, match=r"chunk_size is 3, but there are 2 actors.*leave chunk_size out"):
        chunk(None, PARAMETERS, actors, 3, path=file)
    with pytest.raises(ValueError, match=r"chunk_size is '2', but there are 2 actors.*leave chunk_size out"):
        chunk(None, PARAMETERS, actors, "2", path=file)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"chunk_size must be a whole number.*write chunk_size=2"):
        chunk(None, PARAMETERS, actors, 2.0, path=file)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"actors\[1\] is actors\[0\] again.* start one for each"):
        chunk(None, PARAMETERS, [actors[0]] * 2, path=file)
    with pytest.raises(ValueError, match=r"worker= is the class of workers to start.* leave one out"):
        chunk(None, PARAMETERS, actors, worker=ThreadWorker, path=file)
    with pytest.raises(ValueError, match=r"func and actors are both given.* either func or actors"):
        Chunker(double, actors)
    with pytest.raises(ValueError, match=r"func and actors are both None.* either func or actors"):
        Chunker()
    actors[1].stop()
    with pytest.raises(ValueError, match=r"actors\[1\] was stopped; start another with ProcessWorker.start"):
        chunk(None, PARAMETERS, actors, path=file)
    empty = [ProcessWorker.start()]
    with pytest.raises(ValueError, match="func is None and the actors hold no function: pass func"):
        chunk(None, PARAMETERS, empty, path=file)


async def fetch(x: int) -> int:
    return x


def numbers(x: int) -> Iterator[int]:
    yield x


async def stream(x: int) -> AsyncIterator[int]:
    yield x


class Fetcher:
    async def __call__(self, x: int) -> int:
        return x

    async def fetch(self, x: int) -> int:
        return x

    @staticmethod
    def numbers(x: int) -> Iterator[int]:
        yield x


@functools.wraps(fetch)
def fetched(x: int) -> int:
    return asyncio.run(fetch(x))


class Fetched:
    """A decorator that bears the name of what it runs."""

    def __init__(self, func: Any) -> None:
        functools.update_wrapper(self, func)
        self.func = func

    def __call__(self, x: int) -> int:
        return int(asyncio.run(self.func(x)))


def called_by(call: Any) -> Any:
    """Make an object that something other than a plain method calls."""
    return type("Called", (), {"__call__": call})()


LAZY: list[tuple[Any, str]] = [
    (fetch, r"func fetch is a coroutine function.*return asyncio.run\(fetch\("),
    (numbers, r"func numbers is a generator function.*return list\(numbers\("),
    (stream, r"func stream is an asynchronous generator function.*collect\(stream\("),
    (Fetcher(), "func Fetcher.__call__ is a coroutine function"),
    (Fetcher().fetch, "func fetch is a coroutine function"),
    (Fetcher.numbers, "func numbers is a generator function"),
    (functools.partial(functools.partial(Fetcher().fetch)), r"func Fetcher\.fetch is a coroutine"),
    (functools.cache(fetch), "func fetch is a coroutine function"),
    (staticmethod(fetch), "func fetch is a coroutine function"),
    (AsyncMock(), "is a coroutine function"),
    (called_by(functools.partialmethod(Fetcher.fetch)), r"func Fetcher\.fetch is a coroutine function"),
    (called_by(Fetcher()), r"func Fetcher\.__call__ is a coroutine function"),
    (called_by(staticmethod(numbers)), "func numbers is a generator function"),
]
"""What only makes an object when it is called, and what is said of it."""


@pytest.mark.parametrize(("func", "text"), LAZY, ids=[text for _, text in LAZY])
def test_function_whose_call_runs_nothing_is_refused_before_any_call(
    func: Any, text: str, tmp_path: Path
) -> None:
    """A coroutine or generator function is named, with what runs it, and nothing starts."""
    path = tmp_path / "c.pkl"
    for worker in (ThreadWorker, ProcessWorker):
        with pytest.raises(TypeError, match=text):
            chunk(func, PARAMETERS, path=path, worker=worker)
        with pytest.raises(TypeError, match=text):
            Chunker(func, worker=worker)
    with pytest.raises(TypeError, match=text):
        chunk(None, PARAMETERS, [ThreadWorker.start(func)], path=path)
    assert not path.exists()


def test_function_that_runs_what_it_wraps_is_accepted() -> None:
    """What counts is what a call does, and not what is behind a decorator."""
    mock = Mock(spec=fetched, side_effect=fetched)  # it says that it is a function
    for func in (fetched, Fetched(fetch), functools.partial(fetched), functools.cache(fetched), mock):
        assert chunk(func, PARAMETERS, worker=ThreadWorker) == [1, 2]
    assert type(chunk(Fetcher, [[]], worker=ThreadWorker)[0]) is Fetcher


def test_coroutine_function_is_accepted_where_an_override_runs_it() -> None:
    """A worker with an `execute` of the user's may do anything with a function."""

    class Running(ThreadWorker):
        def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return asyncio.run(func(*args, **kwargs))

    assert chunk(fetch, PARAMETERS, worker=Running) == [1, 2]
    assert chunk(None, PARAMETERS, [Running.start(fetch)]) == [1, 2]


def test_chunker_refuses_at_once_what_is_wrong_for_every_call() -> None:
    """A Chunker is not made with a bad switch; a call of it names what is wrong with that call."""
    with pytest.raises(TypeError, match="persistent must be True or False, not 'yes'"):
        Chunker(double, persistent="yes")  # type: ignore[arg-type]
    with Chunker(double, chunk_size=1) as chunker:
        calls: list[Any] = [chunker, chunker.as_completed]
        for call in calls:
            with pytest.raises(TypeError, match="progress_bar must be True or False"):
                call(PARAMETERS, progress_bar="no")
            with pytest.raises(TypeError, match="func must be a function, not 'f'"):
                call(PARAMETERS, "f")
            with pytest.raises(TypeError, match="path must be the name of a file"):
                call(PARAMETERS, path=3)


def test_empty_parameters_return_an_empty_list_and_finish_a_checkpoint(tmp_path: Path) -> None:
    """Without calls nothing starts; the list is empty, and a path holds a finished checkpoint that resumes."""
    path = tmp_path / "empty.pkl"
    for _ in range(2):
        assert chunk(double, [], path=path) == []
        assert chunk(double, iter(()), path=path, on_mismatch="raise") == []
    saved = Checkpoint.load(path)
    assert (saved.func_name, saved.parameters, saved.output, saved.done) == ("double", [], [], 0)
    assert chunk(double, []) == []
    with Chunker(double, chunk_size=2) as chunker:
        assert chunker([]) == []
        assert list(chunker.as_completed([])) == []
    with pytest.raises(TypeError, match="func"):
        chunk("double", [])  # type: ignore[arg-type]


def test_good_values_of_other_types_are_taken(tmp_path: Path) -> None:
    """NumPy's numbers and switches, 0 and 1, and paths of any kind are as good as Python's own."""
    untyped: Any = chunk
    for size in (np.int64(2), 2):
        assert untyped(
            double, PARAMETERS, chunk_size=size, retries=np.int8(1), progress_bar=np.False_, worker=ThreadWorker,
            path=bytes(tmp_path / "other.pkl"),
        ) == [2, 4]  # fmt: skip
        assert untyped(double, PARAMETERS, None, 1, 0, tmp_path / "other.pkl", worker=ThreadWorker) == [2, 4]


def test_thread_worker_takes_what_does_not_pickle_unless_it_is_to_be_kept(file: Path) -> None:
    """Threads share the objects themselves; but what stands in a checkpoint must pickle."""
    assert chunk(lambda lock: lock is LOCK, [[LOCK]], worker=ThreadWorker) == [True]
    with pytest.raises(
        TypeError, match=r"cannot be kept in a checkpoint: parameters\[0\], .* or leave path= out"
    ):
        chunk(double, [[LOCK]], path=file, worker=ThreadWorker)


def test_worker_with_an_execute_of_its_own_takes_what_does_not_pickle(children: list[Any]) -> None:
    """Such a worker may well make something else of the parameters, so they are not tried."""

    class Local(ProcessWorker):
        def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return func(*args, **kwargs)

    assert chunk(lambda lock: lock.locked(), [[LOCK]], worker=Local) == [False]
    children.clear()


# --- values that answer to every name ------------------------------------------------------------


class Refusing:
    """An object of which nothing can be asked."""

    def _refuse(self, *args: Any) -> Any:
        msg = "it was asked"
        raise RuntimeError(msg)

    __bool__ = __eq__ = __len__ = __iter__ = __repr__ = __contains__ = _refuse
    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse()


class Array:
    """An object that says that it is an array of objects."""

    hasobject = True

    @property
    def dtype(self) -> Any:
        return self

    def ravel(self) -> Any:
        msg = "it was asked"
        raise RuntimeError(msg)


class Nowhere:
    """An object whose class has no module, as those that sympy makes of a name."""

    def __reduce__(self) -> Any:
        return Nowhere, ()


Nowhere.__module__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "make",
    [
        Proxy, Refusing, Array, Nowhere, lambda: np.array([1, None, Proxy()], object),
        lambda: pd.Series([1, "a"], dtype=object), lambda: pd.Series({"columns": 1, "names": 2}),
        lambda: pd.Index([1, "a"], dtype=object), lambda: pd.DataFrame({"columns": [1, "a"], "index": [2, 3]}),
        lambda: pd.MultiIndex.from_tuples([(1, "a")]),
    ],
)  # fmt: skip
def test_values_are_known_by_their_type_and_asked_nothing(
    make: Callable[[], Any], tmp_path: Path, capsys: Any
) -> None:
    """Truth, length, attributes and texts of a parameter may raise or lie: a run does not ask, and resumes."""
    path, executed, value = tmp_path / "a.pkl", list[int](), make()

    def fail(x: Any) -> Any:
        raise ValueError

    def take(x: Any) -> int:
        return 1

    options: dict[str, Any] = {"path": path, "worker": ThreadWorker, "chunk_size": 1, "progress_bar": False}
    rows: list[Any] = [[value], [[{"k": value}]]]
    for _ in range(2):
        assert chunk(take, rows, on_result=lambda index, _: executed.append(index), **options) == [1, 1]
    assert executed == [0, 1]
    with pytest.warns(CheckpointWarning, match="argument|call 0|parameters"):
        assert chunk(take, [[2], rows[1]], **options) == [1, 1]
    chunk(fail, rows, on_error="return", **options | {"path": tmp_path / "b.pkl"})
    assert main(["show", str(tmp_path / "b.pkl")]) == 1
    assert main(["export", str(tmp_path / "b.pkl"), str(tmp_path / "b.csv")]) == 0
    capsys.readouterr()


# --- what it costs --------------------------------------------------------------------------


def tried(parameters: Any, monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """Return the types of which a value was pickled on trial."""
    seen: list[type] = []

    def dump(value: Any) -> Any:
        seen.append(type(value))
        return by_value.dump(value)

    monkeypatch.setattr("thread_chunks._travel.dump", dump)
    check(read_calls(parameters)[1], "sent", "do")
    return seen


def test_trial_pickles_one_value_of_each_type_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand arrays cost one pickle beforehand, and lists of numbers none at all."""
    assert tried([[np.zeros(3), number] for number in range(10_000)], monkeypatch) == [np.ndarray]
    assert tried([[[number] * 3, {"x": (number, "a")}] for number in range(100)], monkeypatch) == []
    assert tried([{"x": {frozenset({1}): [np.ones(2), 1j, None]}}], monkeypatch) == [np.ndarray]


def test_trial_ends_for_lists_that_hold_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list in itself, and one that is nested very deeply, are looked through once."""
    ring: list[Any] = [1]
    ring.append(ring)
    deep: Any = [LOCK]
    for _ in range(100_000):
        deep = [deep]
    assert tried([[ring]], monkeypatch) == []
    with pytest.raises(TypeError, match="lock"):
        tried([[deep]], monkeypatch)


def test_plain_parameters_are_known_to_travel_whatever_their_rows() -> None:
    """Rows of scalars, equally long or not, positional or by name, need no trial."""
    plain: list[Any] = [[], [[1, "a"]], [[1], [1, 2.0]], [{"x": 1}, [None]], [[], []]]
    for parameters in plain:
        assert is_plain(read_calls(parameters)[1])
    others: list[Any] = [[[[1]]], [{"x": (1,)}], [[1], [np.ones(1), 2]]]
    for parameters in others:
        assert not is_plain(read_calls(parameters)[1])
