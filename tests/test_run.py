"""The rules of one run: its actors may be stopped, its file may not be writable."""

import os
import resource
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka
import pytest

from thread_chunks import (
    Checkpoint,
    CheckpointFailedWarning,
    RunStoppedError,
    ThreadWorker,
    _notices,
    _tally,
    chunk,
)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Poll a condition that another thread will make true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.005)


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
