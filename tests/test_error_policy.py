"""`on_error`, `retries` and `timeout` together: with a checkpoint, on resume, under every kind of worker."""

import logging
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import note, noted

from thread_chunks import (
    CallTimeoutError,
    Checkpoint,
    Chunker,
    Failure,
    ProcessWorker,
    ThreadWorker,
    Worker,
    WorkerDiedError,
    chunk,
)

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")


class OwnExecute(ProcessWorker):
    """Carries calls out by itself, in its child."""

    def execute(self, func: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Leave everything as it is."""
        return super().execute(func, *args, **kwargs)


KINDS = [ProcessWorker, OwnExecute, ThreadWorker]
POLICIES = ["raise", "continue", "return"]
COUNT = 12
RAISES, RECOVERS, HANGS, DIES = 3, 5, 7, 9


class Sweep:
    """Calls of which some raise, recover, hang or die, until they are cured; each try is noted."""

    def __init__(self, folder: Path, kind: type[Worker]) -> None:
        self.kind = kind
        self.log = folder / "log"
        self.path = folder / "sweep.pkl"
        self.cure = folder / "cured"
        has_process = issubclass(kind, ProcessWorker)
        self.bad = {RAISES: ValueError} | (
            {HANGS: CallTimeoutError, DIES: WorkerDiedError} if has_process else {}
        )
        self.timeout = 0.5 if has_process else None

    def run(self, **options: Any) -> list[Any]:
        log, cured, bad = self.log, self.cure, set(self.bad)

        def call(number: int) -> int:
            note(log, number)
            if not cured.exists():
                if number == RAISES or (number == RECOVERS and noted(log).count(str(number)) == 1):
                    msg = f"{number} is odd"
                    raise ValueError(msg)
                while number == HANGS and number in bad:
                    time.sleep(1)
                if number == DIES and number in bad:
                    os._exit(3)
            return 10 * number

        calls = [[number] for number in range(COUNT)]
        return chunk(call, calls, path=self.path, worker=self.kind, timeout=self.timeout, **options)

    def tries(self) -> Counter[int]:
        """Return how often each call was tried since the last time, and forget it."""
        found = Counter(map(int, noted(self.log)))
        self.log.unlink(missing_ok=True)
        return found

    def saved(self) -> set[int]:
        checkpoint = Checkpoint.load(self.path)
        assert all(
            checkpoint.output[index] == 10 * index for index in range(COUNT) if checkpoint.completed[index]
        )
        return {index for index, is_completed in enumerate(checkpoint.completed) if is_completed}


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.__name__))
def sweep(tmp_path: Path, request: pytest.FixtureRequest) -> Sweep:
    return Sweep(tmp_path, request.param)


def expected_failures(sweep: Sweep, retries: int) -> set[int]:
    return set(sweep.bad) | (set() if retries else {RECOVERS})


@pytest.mark.parametrize(
    ("policy", "retries"),
    [
        ("continue", 0),
        ("return", 2),
        pytest.param("continue", 2, marks=pytest.mark.nightly),
        pytest.param("return", 0, marks=pytest.mark.nightly),
    ],
)
def test_everything_else_runs_and_is_saved_when_calls_fail_in_every_way(
    sweep: Sweep, policy: str, retries: int
) -> None:
    """Each failure is told with its call and kept as text; the next run tries those calls again, and no other."""
    failed = expected_failures(sweep, retries)
    errors: dict[int, Any] = {}
    if policy == "return":
        outputs = sweep.run(on_error="return", retries=retries, chunk_size=2)
        for index, output in enumerate(outputs):
            if isinstance(output, Failure):
                assert (output.index, output.parameters) == (index, [index])
                errors[index] = output.exception
            else:
                assert output == 10 * index
    else:
        with pytest.raises(ExceptionGroup, match=f"{len(failed)} of {COUNT} calls failed") as caught:
            sweep.run(on_error="continue", retries=retries, chunk_size=2)
        for error in caught.value.exceptions:
            (index,) = (
                index for index in failed if f"in call {index}, with parameters [{index}]" in error.__notes__
            )
            errors[index] = error
        assert f"{COUNT - len(failed)} of {COUNT} results are safe" in caught.value.__notes__[0]
    assert set(errors) == failed
    for index, kind in sweep.bad.items():
        assert isinstance(errors[index], kind)
    tries = sweep.tries()
    assert tries[RAISES] == 1 + retries
    assert tries[RECOVERS] == (2 if retries else 1)
    assert tries[HANGS] == (1 + retries if HANGS in sweep.bad else 1)
    assert tries[DIES] == (2 if DIES in sweep.bad else 1), "retries are for what raised"
    assert set(Checkpoint.load(sweep.path).failures) == failed
    assert sweep.saved() == set(range(COUNT)) - failed
    sweep.cure.touch()
    assert sweep.run(chunk_size=2) == [10 * number for number in range(COUNT)]
    assert sweep.tries() == Counter(failed)
    assert Checkpoint.load(sweep.path).failures == {}


def test_no_further_call_starts_and_all_that_ran_is_saved_when_errors_raise(sweep: Sweep) -> None:
    """The error is the function's own, names the call, and says what is safe; the next run meets it again."""
    with pytest.raises(ValueError, match="3 is odd") as caught:
        sweep.run(chunk_size=1)
    before = sweep.saved()
    assert before >= {0, 1, 2}
    assert caught.value.__notes__[0] == "in call 3, with parameters [3]"
    assert caught.value.__notes__[1].startswith(f"{len(before)} of {COUNT} results are safe in ")
    assert caught.value.__notes__[1].endswith("make the same call again to go on from there")
    assert set(sweep.tries()) == before | {RAISES}, "something that had run was not saved"
    with pytest.raises(ValueError, match="3 is odd"):
        sweep.run(chunk_size=1)
    assert not before & set(sweep.tries()), "a saved call was executed again"
    sweep.cure.touch()
    assert sweep.run(chunk_size=2) == [10 * number for number in range(COUNT)]


@pytest.mark.parametrize("kind", KINDS)
def test_error_is_raised_only_when_its_retries_are_used_up(kind: type[Worker], tmp_path: Path) -> None:
    """A call is tried again behind all others, so these are saved by then."""
    log, path = tmp_path / "log", tmp_path / "a.pkl"

    def call(number: int) -> int:
        note(log, number)
        if number == 0:
            raise ZeroDivisionError
        return number

    with pytest.raises(ZeroDivisionError):
        chunk(call, [[number] for number in range(9)], retries=2, worker=kind, chunk_size=1, path=path)
    assert Counter(noted(log)) == Counter({"0": 3} | {str(number): 1 for number in range(1, 9)})
    assert Checkpoint.load(path).completed == [False] + [True] * 8


@pytest.mark.parametrize("kind", [ProcessWorker, OwnExecute])
def test_timeout_and_retries_combine(tmp_path: Path, kind: type[Worker]) -> None:
    """A call that was killed for its time is tried again like one that raised, in a new process."""
    log = tmp_path / "log"

    def call(number: int) -> int:
        note(log, number)
        while number == 1 and noted(log).count("1") == 1:
            time.sleep(600)
        return number

    assert chunk(call, [[0], [1], [2]], timeout=2, retries=1, worker=kind, chunk_size=2) == [0, 1, 2]
    assert Counter(noted(log)) == {"0": 1, "1": 2, "2": 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", POLICIES)
def test_failure_is_logged_when_it_happens_with_its_call(
    kind: type[Worker], policy: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Whoever reads the log knows of a failure hours before the run ends: here, while the next results arrive."""
    told = tmp_path / "told"

    def call(number: int, text: str) -> str:
        if number == 1:
            msg = "no\nroot"
            raise ValueError(msg)
        deadline = time.monotonic() + 100
        while number == 2 and not told.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return text if told.exists() else "the failure was not told in time"

    class Telling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "failed" in record.getMessage():
                told.touch()

    handler = Telling()
    logging.getLogger("thread_chunks").addHandler(handler)
    calls = [[2, "x" * 500], [1, "x" * 500]]
    path = tmp_path / "a.pkl"
    try:
        with Chunker(call, worker=kind, on_error=policy, chunk_size=2) as chunker:
            try:
                chunker(calls, path=path)
            except (ValueError, ExceptionGroup):
                assert policy != "return"
    finally:
        logging.getLogger("thread_chunks").removeHandler(handler)
    assert Checkpoint.load(path).output[0] == "x" * 500
    (message,) = (record.getMessage() for record in caplog.records if "failed" in record.getMessage())
    assert message.startswith("call 1, with parameters [1, 'xxx")
    assert len(message) < 160, "the parameters were not shortened"
    assert "root" in message
    assert caplog.records[-1].levelno <= logging.WARNING
