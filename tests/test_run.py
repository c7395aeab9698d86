"""The rules of one run: its actors may be stopped, its file may not be writable."""

import os
import resource
import threading
import types
import warnings
from pathlib import Path
from typing import Any

import pykka
import pytest
from conftest import wait_until

from thread_chunks import (
    Checkpoint,
    CheckpointFailedWarning,
    Chunker,
    RunStoppedError,
    ThreadWorker,
    _notices,
    _tally,
    chunk,
)


def test_run_is_refused_when_its_workers_are_in_another_one() -> None:
    """Workers finish the run that they are in; a second run on them ends with an error at once."""
    actors = [ThreadWorker.start() for _ in range(2)]
    has_started, may_end = threading.Event(), threading.Event()

    def first(x: int) -> tuple[str, int]:
        has_started.set()
        may_end.wait(100)
        return "first", x

    outputs: list[Any] = []
    thread = threading.Thread(
        target=lambda: outputs.extend(chunk(first, [[x] for x in range(50)], actors, progress_bar=False))
    )
    thread.start()
    assert has_started.wait(100)
    refused: list[BaseException] = []

    def second() -> None:
        try:
            chunk(str, [[1], [2]], actors, progress_bar=False)
        except RunStoppedError as error:
            refused.append(error)

    other = threading.Thread(target=second)
    other.start()
    wait_until(lambda: all(not actor.actor_inbox.empty() for actor in actors))
    may_end.set()
    other.join(100)
    thread.join(100)
    assert outputs == [("first", x) for x in range(50)]
    assert "another run" in str(refused[0])
    assert chunk(str, [[1], [2]], actors, progress_bar=False) == ["1", "2"]
    for actor in actors:
        actor.stop()


def test_run_ends_with_an_error_when_someone_stops_all_actors() -> None:
    """A stop of every actor of the process is reported, and nobody waits for ever."""

    def stop_everything(x: int) -> int:
        if x == 1:
            pykka.ActorRegistry.stop_all(block=False)
        return x

    with pytest.raises(RunStoppedError):
        chunk(stop_everything, [[x] for x in range(1000)], worker=ThreadWorker, progress_bar=False)
    assert pykka.ActorRegistry.get_all() == []


def test_run_returns_everything_when_the_file_cannot_grow(tmp_path: Path) -> None:
    """A full disk costs durability and no result: the run warns, goes on, and what was saved stays valid."""
    path = tmp_path / "full.pkl"
    saved: list[int] = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            outputs = chunk(
                os.urandom,
                [[10_000]] * 12,
                path=path,
                progress_bar=False,
                on_result=lambda index, _: saved.append(index),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept = Checkpoint.load(path)
    assert all(len(output) == 10_000 for output in outputs)
    assert kept.done < 12
    assert all(kept.output[index] == outputs[index] for index in saved)
    assert kept.done == len(saved)
    assert {warning.category for warning in caught} == {CheckpointFailedWarning}
    assert len(caught) == 2  # at once, and at the end with the number


def test_run_saves_everything_when_space_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saving is tried again with each new result, and everything is saved once it works."""
    path = tmp_path / "freed.pkl"
    has_failed = threading.Event()

    def failed_save(path: str, error: Exception) -> CheckpointFailedWarning:
        has_failed.set()
        return _notices.failed_save(path, error)

    monkeypatch.setattr(_tally, "failed_save", failed_save)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))

    def output(x: int) -> bytes:
        if x == 8:
            assert has_failed.wait(100)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        return bytes([x]) * 10_000

    saved: list[int] = []
    try:
        with pytest.warns(CheckpointFailedWarning, match="keeps trying"):
            chunk(
                output,
                [[x] for x in range(12)],
                path=path,
                worker=ThreadWorker,
                chunk_size=1,
                progress_bar=False,
                on_result=lambda index, _: saved.append(index),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Checkpoint.load(path).completed == [True] * 12
    assert sorted(saved) == list(range(12))


@pytest.mark.parametrize("name", ["thread_chunks_study", "thread_chunksy.sub", "__main__"])
def test_warnings_point_at_the_users_line_whatever_the_module_is_called(name: str, tmp_path: Path) -> None:
    """A module whose name only begins as ours does is the user's own."""
    module = types.ModuleType(name)
    source = "def run(chunk, f, path, **options):\n    return chunk(f, [[1]], path=path, **options)\n"
    exec(compile(source, "study.py", "exec"), module.__dict__)  # noqa: S102 - our own source
    for func in (lambda x: x, lambda x: -x):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module.run(chunk, func, tmp_path / "c.pkl", worker=ThreadWorker, progress_bar=False)
    assert [(each.filename, each.lineno) for each in caught] == [("study.py", 2)]


@pytest.mark.parametrize("is_saved", [True, False])
def test_stop_iteration_of_a_callback_reaches_the_caller_as_it_is(is_saved: bool, tmp_path: Path) -> None:
    """Generators inside of the run do not make something else of it; results are safe, and the next run goes on."""
    path = tmp_path / "c.pkl" if is_saved else None
    error, cause = StopIteration("enough"), KeyError("why")
    seen = []

    def stop(index: int, _: object) -> None:
        seen.append(index)
        if len(seen) == 3:
            raise error from cause

    options: dict[str, Any] = {"worker": ThreadWorker, "chunk_size": 1, "path": path, "progress_bar": False}
    with pytest.raises(StopIteration) as caught:
        chunk(abs, [[-n] for n in range(9)], on_result=stop, **options)
    assert caught.value is error
    assert error.__cause__ is cause
    if path is not None:
        assert "results are safe in" in "".join(error.__notes__)
        assert Checkpoint.load(path).done >= 3
    assert chunk(abs, [[-n] for n in range(9)], **options) == list(range(9))


def test_stop_iteration_of_a_callback_in_a_stream_is_the_cause_of_a_runtime_error() -> None:
    """As of any generator: a loop would take it for its end, and miss results in silence."""

    def stop(index: int, _: object) -> None:
        raise StopIteration(index)

    with Chunker(abs, chunk_size=1, worker=ThreadWorker, progress_bar=False, on_result=stop) as chunker:
        with pytest.raises(RuntimeError) as caught:
            list(chunker.as_completed([[-1], [-2]]))
        assert isinstance(caught.value.__cause__, StopIteration)
