"""A run that has to be over at a certain time: what it starts, what it ends, and what the next one does."""

import math
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from conftest import children, note, noted, wait_for, wait_until

from thread_chunks import (
    Checkpoint,
    Chunker,
    Failure,
    ProcessWorker,
    ThreadChunksError,
    ThreadWorker,
    TimeLimitError,
    chunk,
    config,
)
from thread_chunks._time_limit import to_seconds

pytestmark = pytest.mark.usefixtures("_quiet")

SOON = timedelta(seconds=1)
LATER = timedelta(hours=1)
PAST = datetime(2026, 1, 1, tzinfo=UTC)
FOREVER = 600.0  # longer than any test may take


def resting(log: Path) -> Callable[[float], float]:
    """Make a function that notes its calls and takes as long as it is told."""

    def rest(seconds: float) -> float:
        note(log, seconds)
        time.sleep(seconds)
        return seconds

    return rest


def numbered(log: Path) -> Callable[[int, float], int]:
    """Make a function that notes the number of each call and takes as long as it is told."""

    def rest(number: int, seconds: float) -> int:
        note(log, number)
        time.sleep(seconds)
        return number

    return rest


class Clock:
    """The time of this process: it stands still, and jumps by a day once something has happened."""

    def __init__(self) -> None:
        self._start = time.time()
        self._has_happened: Callable[[], object] = lambda: False

    @property
    def now(self) -> float:
        return self._start + (86400 if self._has_happened() else 0)

    def jumps_when(self, condition: Callable[[], object]) -> None:
        self._has_happened = condition


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Make the time stand still until a test lets it jump."""
    standing = Clock()
    monkeypatch.setattr(time, "time", lambda: standing.now)
    return standing


# --- the run ------------------------------------------------------------------------------


@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker])
def test_run_stops_by_itself_and_the_next_one_goes_on(tmp_path: Path, worker: Any) -> None:
    """It ends with an error that says what is safe, and no saved call is run again."""
    log, path = tmp_path / "log", tmp_path / "sweep.pkl"
    parameters = [[number, 0.05] for number in range(60)]
    options: dict[str, Any] = {"chunk_size": 2, "path": path, "worker": worker}
    with pytest.raises(TimeLimitError, match=r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d") as caught:
        chunk(numbered(log), parameters, stop_before=SOON, **options)
    saved = Checkpoint.load(path)
    assert 0 <= saved.done < 60
    (told,) = caught.value.__notes__
    assert told.startswith(f"{saved.done} of 60 results are safe in ")
    assert told.endswith("make the same call again to go on from there")
    before = len(noted(log))
    assert chunk(numbered(log), parameters, stop_before=LATER, **options) == list(range(60))
    done = {str(index) for index, is_done in enumerate(saved.completed) if is_done}
    assert not done & set(noted(log)[before:])


def test_run_saves_what_was_running_when_time_is_short(folder: Path, clock: Clock) -> None:
    """A call that runs is left to end, though nothing further is started."""
    path = folder / "sweep.pkl"

    def work(number: int) -> int:
        note(folder / "log", number)
        wait_for(folder / "go on" if number else folder / "log")
        wait_until(lambda: number or len(noted(folder / "log")) > 1)
        time.sleep(0 if number else 1.2)
        return number

    def on_result(index: int, output: int) -> None:
        (folder / "go on").touch()

    with pytest.raises(TimeLimitError, match=r"no call was started .*: the longest so far took \d+ s"):
        chunk(
            work,
            [[n] for n in range(4)],
            chunk_size=2,
            path=path,
            on_result=on_result,
            stop_before=clock.now + 1,
        )
    assert sorted(noted(folder / "log")) == ["0", "1"]
    assert Checkpoint.load(path).output == [0, 1, None, None]


def test_longest_call_of_the_checkpoint_counts(tmp_path: Path) -> None:
    """A run whose longest call so far would not end in time runs nothing, and says why."""
    log, path, ready = tmp_path / "log", tmp_path / "sweep.pkl", tmp_path / "ready"

    def work(number: int) -> int:
        note(log, number)
        if number == 0:
            time.sleep(1.2)
        elif not ready.exists():
            raise ValueError
        return number

    parameters = [[0], [1], [2]]
    with pytest.raises(ValueError):  # noqa: PT011 - it says nothing
        chunk(work, parameters, chunk_size=1, path=path)
    assert noted(log) == ["0", "1"]
    ready.touch()
    with pytest.raises(
        TimeLimitError, match=r"no call was started .*: the longest so far took \d+ s"
    ) as caught:
        chunk(work, parameters, path=path, stop_before=SOON)
    assert caught.value.__notes__[0].startswith("1 of 3 results are safe")
    with (
        Chunker(work, stop_before=SOON) as chunker,
        pytest.raises(TimeLimitError, match="no call was started"),
    ):
        list(chunker.as_completed(parameters, path=path))
    assert noted(log) == ["0", "1"]
    assert chunk(work, parameters, path=path, stop_before=LATER) == [0, 1, 2]


def test_run_kills_what_still_runs_at_the_limit(tmp_path: Path, clock: Clock) -> None:
    """A call that is too long is ended with its process, and what was saved is safe."""
    log, path, before = tmp_path / "log", tmp_path / "sweep.pkl", children()
    clock.jumps_when(lambda: len(noted(log)) == 2 and Checkpoint.load(path).done)
    with pytest.raises(TimeLimitError, match=r"what still ran at .* was given up") as caught:
        chunk(resting(log), [[0.0], [FOREVER]], chunk_size=2, path=path, stop_before=LATER)
    assert caught.value.__notes__[0].startswith("1 of 2 results are safe")
    assert Checkpoint.load(path).output == [0.0, None]
    wait_until(lambda: children() <= before, what="the end of all child processes")


def test_run_ends_at_the_limit_and_not_at_the_next_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits longer than until the limit, however seldom it is looked who lives."""
    monkeypatch.setattr(config, "heartbeat_seconds", FOREVER)
    with pytest.raises(TimeLimitError):
        chunk(time.sleep, [[FOREVER]], stop_before=SOON)


def test_run_in_threads_ends_at_the_limit(clock: Clock) -> None:
    """A call in a thread cannot be killed: the run ends without it."""
    has_started, may_end = threading.Event(), threading.Event()

    def hang() -> None:
        has_started.set()
        may_end.wait(FOREVER)

    clock.jumps_when(has_started.is_set)
    try:
        with pytest.raises(TimeLimitError, match="was given up"):
            chunk(hang, [[]], worker=ThreadWorker, stop_before=LATER)
    finally:
        may_end.set()


def test_chunker_counts_from_each_call_and_can_be_used_again(tmp_path: Path, clock: Clock) -> None:
    """A time from now is meant from each call of a Chunker, whose workers go on after a run that was ended."""
    log = tmp_path / "log"
    clock.jumps_when(lambda: str(FOREVER) in noted(log))
    with Chunker(resting(log), chunk_size=2, stop_before=LATER) as chunker:
        with pytest.raises(TimeLimitError, match="was given up"):
            chunker([[0.0], [FOREVER]])
        assert chunker([[0.0], [0.1]]) == [0.0, 0.1]


def test_stream_gives_what_was_saved_before_it_says_that_time_is_up(tmp_path: Path) -> None:
    """as_completed yields results until it raises; all that it yielded is safe."""
    path = tmp_path / "sweep.pkl"
    received: list[int] = []

    def receive() -> None:
        with Chunker(numbered(tmp_path / "log"), chunk_size=2, stop_before=SOON) as chunker:
            for index, _ in chunker.as_completed([[number, 0.05] for number in range(60)], path=path):
                received.append(index)

    with pytest.raises(TimeLimitError):
        receive()
    completed = Checkpoint.load(path).completed
    assert all(completed[index] for index in received)
    assert sum(completed) <= len(received) + 2  # those that came back while the others were killed


@pytest.mark.parametrize(
    ("on_error", "kind"), [("raise", ValueError), ("continue", TimeLimitError), ("return", TimeLimitError)]
)
def test_failure_is_raised_at_the_limit_only_if_it_ends_the_run(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, on_error: str, kind: type[Exception]
) -> None:
    """A failure that stopped the run already is what it ends with; else it ends for want of time."""

    def fail_or_hang(number: int) -> None:
        if number == 0:
            wait_for(tmp_path / "runs")
            raise ValueError(number)
        (tmp_path / "runs").touch()
        time.sleep(FOREVER)

    path = tmp_path / "sweep.pkl"
    clock.jumps_when(lambda: "call 0, with parameters" in caplog.text)
    with pytest.raises(kind) as caught:
        chunk(fail_or_hang, [[0], [1]], chunk_size=2, path=path, on_error=on_error, stop_before=LATER)
    assert any("0 of 2 results are safe" in told for told in caught.value.__notes__)
    assert list(Checkpoint.load(path).failures) == [0]


def test_run_that_begins_too_late_runs_nothing_unless_nothing_is_left(tmp_path: Path) -> None:
    """A time that is past is no wrong input: what is finished is returned, and of the rest nothing is run."""
    log, path = tmp_path / "log", tmp_path / "sweep.pkl"
    with pytest.raises(TimeLimitError, match=r"no call was started, because .* is past"):
        chunk(resting(log), [[0.0], [0.1]], path=path, stop_before=PAST)
    assert noted(log) == []
    assert chunk(resting(log), [[0.0], [0.1]], path=path) == [0.0, 0.1]
    assert chunk(resting(log), [[0.0], [0.1]], path=path, stop_before=PAST) == [0.0, 0.1]
    assert chunk(resting(log), [], stop_before=timedelta(seconds=-5)) == []


def test_run_with_time_enough_returns_everything() -> None:
    """A limit that is far away changes nothing, for many short calls and for those that fail."""
    assert chunk(abs, [[-n] for n in range(5000)], stop_before=time.time() + 3600) == list(range(5000))
    (failure,) = chunk(abs, [["x"]], on_error="return", retries=1, stop_before=LATER)
    assert isinstance(failure, Failure)


def test_time_limit_error_is_what_a_user_would_catch() -> None:
    """It is an error of the library and a TimeoutError."""
    assert issubclass(TimeLimitError, ThreadChunksError)
    assert issubclass(TimeLimitError, TimeoutError)


# --- what people write -----------------------------------------------------------------------

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (timedelta(minutes=90), NOW + 5400),
        (timedelta(seconds=-1), NOW - 1),
        (datetime.fromtimestamp(NOW).astimezone().replace(tzinfo=None), NOW),
        (datetime.fromtimestamp(NOW, UTC), NOW),
        (datetime.fromtimestamp(NOW, timezone(timedelta(hours=-9))), NOW),
        (NOW + 0.5, NOW + 0.5),
        (int(NOW), NOW),
        (1e9, 1e9),
    ],
)
def test_time_limit_is_read_as_it_is_meant(moment: object, expected: float) -> None:
    """A time of the wall clock, a time from now, or the seconds since 1970 that a batch system gives."""
    assert to_seconds(moment, NOW) == expected


@pytest.mark.parametrize(
    ("moment", "kind", "told"),
    [
        (3600, ValueError, "3600 is in 1970: write time.time() + 3600 or timedelta(seconds=3600)"),
        (86400.0, ValueError, "86400 is in 1970: write time.time() + 86400 or timedelta(seconds=86400)"),
        (0, ValueError, "0 is in 1970"),
        (math.nan, ValueError, "not nan: leave it out for no limit"),
        (math.inf, ValueError, "not inf: leave it out for no limit"),
        (NOW * 1000, ValueError, "not 1790000000000.0: that is not between the years 1 and 9999"),
        (timedelta.max, ValueError, "not between the years 1 and 9999"),
        (-1e30, ValueError, "not between the years 1 and 9999"),
        (datetime.min, ValueError, "stop_before must be a datetime"),  # noqa: DTZ901 - users may
        (True, TypeError, "time.time() + 3600, not True"),
        ("23:00", TypeError, "time.time() + 3600, not '23:00'"),
        ("1790000000", TypeError, "not '1790000000': write float('1790000000')"),
        ([NOW], TypeError, "a timedelta from now, or a time in seconds since 1970"),
        (PAST.date(), TypeError, "not datetime.date(2026, 1, 1)"),
    ],
)
def test_time_limit_is_refused_with_the_fix(moment: Any, kind: type[Exception], told: str) -> None:
    """What cannot be meant is an error before any work, by the call and by the class."""
    ran = threading.Event()
    with pytest.raises(kind, match=re.escape(told)):
        chunk(ran.set, [[]], worker=ThreadWorker, stop_before=moment)
    with pytest.raises(kind, match=re.escape(told)):
        Chunker(ran.set, worker=ThreadWorker, stop_before=moment)
    assert not ran.is_set()
