"""I/O errors: a disk that fails costs durability, never results, and before the first call it costs nothing."""

import errno
import itertools
import os
import shutil
import subprocess
import tempfile
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pykka
import pytest
from conftest import Programs, beginning, note, noted, sampled, wait_until
from disk import CHANGES, QUESTIONS, Disk, Fault
from harness import PRELUDE, Case, value

import thread_chunks._checkpoint
import thread_chunks._log
from thread_chunks import (
    Checkpoint,
    CheckpointDamagedWarning,
    CheckpointFailedWarning,
    CheckpointRestartedWarning,
    CheckpointWarning,
    Chunker,
    ProcessWorker,
    ThreadWorker,
    chunk,
    config,
)

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

COUNT = 4
ROWS = [[n] for n in range(COUNT)]
ALL = set(range(COUNT))


@dataclass
class Outcome:
    """What one run came to."""

    outputs: list[Any] | None = None
    error: OSError | None = None
    acknowledged: set[int] = field(default_factory=set)
    executed: list[int] = field(default_factory=list)
    caught: list[warnings.WarningMessage] = field(default_factory=list)

    def texts(self, part: str) -> list[str]:
        """Return the warnings that results could not be saved which say this."""
        texts = [str(each.message) for each in self.caught if each.category is CheckpointFailedWarning]
        return [text for text in texts if part in text]


@dataclass
class Sweep:
    """A run of four calls, one after another, in this process, over a disk that can fail."""

    path: Path
    log: Path
    patch: pytest.MonkeyPatch
    during: Callable[[int], None] = lambda x: None
    """What else a call does."""

    def run(self, disk: Any = os, rows: list[list[int]] = ROWS, **options: Any) -> Outcome:
        """Carry the run out, and check what must hold however it ended."""
        log, during = self.log, self.during

        def f(x: int) -> Any:
            note(log, x)
            during(x)
            return value(x)

        outcome = self.outcome = Outcome()
        usual: dict[str, Any] = {
            "chunk_size": 1,
            "worker": ThreadWorker,
            "path": self.path,
            "on_result": lambda index, output: outcome.acknowledged.add(index),
        }
        with warnings.catch_warnings(record=True) as outcome.caught, self.patch.context() as patch:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)  # of itertools objects in closures of tests
            patch.setattr(thread_chunks._log, "os", disk)
            try:
                outcome.outputs = chunk(f, rows, **(usual | options))
            except OSError as error:
                outcome.error = error
        outcome.executed = sorted(map(int, noted(self.log)))
        self.log.unlink(missing_ok=True)
        self._verify(outcome, [value(row[0]) for row in rows])
        fault = getattr(disk, "fault", None)
        if fault is None or "unlink" not in fault.operations:
            assert not [name for name in os.listdir(self.path.parent) if name.endswith(".tmp")]
        return outcome

    def _verify(self, outcome: Outcome, expected: list[Any]) -> None:
        assert {each.category for each in outcome.caught} <= {
            CheckpointFailedWarning,
            CheckpointDamagedWarning,
            CheckpointRestartedWarning,
        }
        if outcome.error is not None:
            assert outcome.executed == []
            assert outcome.error.filename is not None
        else:
            assert outcome.outputs == expected
        assert outcome.acknowledged <= self.held()

    def held(self) -> set[int]:
        """Return which calls the file holds, after a look at their values."""
        if not self.path.exists() or not self.path.stat().st_size:
            return set()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = Checkpoint.load(self.path)
        found = {index for index, is_completed in enumerate(checkpoint.completed) if is_completed}
        for index in found:
            assert checkpoint.output[index] == value(checkpoint.parameters[index][0])
        return found


@pytest.fixture
def sweep(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Retry at every chance, so that runs take no time."""
    monkeypatch.setattr(config, "save_retry_seconds", 0.0)
    return Sweep(folder / "c.pkl", tmp_path / "log", monkeypatch)


# --- what the file may be when the disk begins to fail ----------------------------------


def nothing(sweep: Sweep) -> None:
    """No file is there."""


def torn(sweep: Sweep) -> None:
    """A run that was killed in the middle of its third record."""
    with sweep.patch.context() as patch:
        patch.setattr(config, "fold_bytes", 0)
        sweep.run()
    data = sweep.path.read_bytes()
    third = [place for place in range(len(data)) if data.startswith(b"\xfarec", place)][2]
    sweep.path.write_bytes(data[: third + 20])


def damaged(sweep: Sweep) -> None:
    """A finished run whose second record was hit."""
    with sweep.patch.context() as patch:
        patch.setattr(config, "fold_bytes", 0)
        sweep.run()
    data = bytearray(sweep.path.read_bytes())
    second = [place for place in range(len(data)) if data.startswith(b"\xfarec", place)][1]
    data[second + 60] ^= 1
    sweep.path.write_bytes(data)


def others(sweep: Sweep) -> None:
    """A finished run of other parameters."""
    sweep.run(rows=[[7], [8]])


def shorter(sweep: Sweep) -> None:
    """A finished run of the first two calls."""
    sweep.run(rows=ROWS[:2])


STATES: dict[str, tuple[Callable[[Sweep], None], set[int], dict[str, Any]]] = {
    "new": (nothing, set(), {}),
    "torn": (torn, {0, 1}, {}),
    "damaged": (damaged, {0, 2, 3}, {}),
    "restarted": (others, set(), {}),
    "reused": (shorter, {0, 1}, {"on_mismatch": "reuse"}),
}
"""What is there before, which results of it count, and how the run is made."""

FAULTS = {
    "any": CHANGES,
    "write": ("write",),
    "fsync": ("fsync",),
    "replace": ("replace",),
    "cut": ("ftruncate", "fsync"),
}


# --- the nth operation fails: rows 20 and 22 ------------------------------------------------


@sampled(3)  # writes and fsyncs take turns, so each fails
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("when", ["before", "half", "after"])
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_run_saves_everything_when_the_disk_fails_once(
    error: str, when: str, state: str, stride: int, sweep: Sweep
) -> None:
    """Any one operation fails, once: refused before the first call, or all results returned and saved after all."""
    before, found, options = STATES[state]
    for at in itertools.count(1 + beginning(stride), stride):
        _clear(sweep, before)
        old = _contents(sweep)
        held = sweep.held()
        disk = Disk(Fault(at, CHANGES, getattr(errno, error), when))
        outcome = sweep.run(disk, **options)
        if outcome.error is None:
            assert sweep.held() == ALL
            assert outcome.executed == sorted(ALL - found)
            assert outcome.acknowledged == ALL - found
            assert len(outcome.texts("")) == len(outcome.texts("for now")) <= 1
        elif state != "reused":
            _expect_kept(sweep, old, held)
        _expect_finished(sweep, outcome, found, options)
        if disk.matched < at:
            break
    print(f"{state} {when} {error}: {at - 1} faults")  # noqa: T201 - counted in the docs
    assert at > 8


@sampled(3)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    ("name", "when"),
    [
        *itertools.product(FAULTS, ["before", "after"]),
        *itertools.product(["any", "write"], ["half"]),  # half of anything else is nothing of it
    ],
)
def test_run_returns_everything_when_the_disk_fails_for_good(
    name: str, when: str, state: str, stride: int, sweep: Sweep
) -> None:
    """From any operation on all fail: refused before the first call, or all results returned, with a warning."""
    before, found, options = STATES[state]
    stride = 1 if name in {"replace", "cut"} else stride  # of these there are few
    for at in itertools.count(1 + beginning(stride), stride):
        _clear(sweep, before)
        old = _contents(sweep)
        held = sweep.held()
        disk = Disk(Fault(at, FAULTS[name], errno.EIO, when, is_lasting=True))
        outcome = sweep.run(disk, **options)
        if outcome.error is None:
            unsaved = ALL - found - outcome.acknowledged
            assert len(outcome.texts("for now")) <= 1
            assert len(outcome.texts("next run will compute them again")) == bool(unsaved)
            assert not unsaved or outcome.texts(f"{len(unsaved)} results could not be saved")
            assert found | outcome.acknowledged <= sweep.held()
        elif state != "reused":
            _expect_kept(sweep, old, held)
        _expect_finished(sweep, outcome, found, options)
        if disk.matched < at:
            break
    print(f"{state} {when} {name}: {at - 1} faults")  # noqa: T201 - counted in the docs


@pytest.mark.parametrize("before", [nothing, torn, others])
@pytest.mark.parametrize("operation", [*CHANGES, *QUESTIONS, "all"])
def test_run_returns_everything_when_an_operation_fails_for_good_from_any_moment_on(
    operation: str, before: Callable[[Sweep], None], sweep: Sweep
) -> None:
    """Whatever of the disk stops to work, and when: no call was run yet, or the list is returned, and nothing is untrue."""
    operations = (*CHANGES, *QUESTIONS) if operation == "all" else (operation,)
    for at in itertools.count(1):
        before(sweep)
        disk = Disk(Fault(at, operations, errno.EIO, is_lasting=True))
        outcome = sweep.run(disk)
        if disk.matched < at:
            break
        if outcome.error is None and len(outcome.acknowledged) < len(outcome.executed):
            assert outcome.caught
        _clear(sweep, before)
    assert outcome.outputs is not None


def test_stream_hands_out_everything_when_nothing_can_be_saved(sweep: Sweep) -> None:
    """What a full disk did not take comes at the end of the loop, and a warning says how much that is."""
    disk = Disk(Fault(2, ("write",), errno.ENOSPC, is_lasting=True))  # the first is that of the head
    with warnings.catch_warnings(record=True) as caught, sweep.patch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr(thread_chunks._log, "os", disk)
        with Chunker(value, chunk_size=1, worker=ThreadWorker, path=sweep.path) as chunker:
            pairs = list(chunker.as_completed(ROWS))
    assert sorted(pairs) == [(n, value(n)) for n in range(COUNT)]
    missing = ALL - sweep.held()
    assert missing
    texts = [str(each.message) for each in caught if each.category is CheckpointFailedWarning]
    assert [text for text in texts if f"{len(missing)} results could not be saved" in text]


class Stale(Disk):
    """A disk on which descriptors of the checkpoint die, as after a server was away; opened anew, the file is there."""

    dead: set[int]

    def _check(self, descriptor: int) -> None:
        if descriptor in self.dead:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def fstat(self, descriptor: int) -> os.stat_result:
        """Ask for a file."""
        self._check(descriptor)
        return os.fstat(descriptor)

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        """Read at a place."""
        self._check(descriptor)
        return os.pread(descriptor, size, offset)

    def lseek(self, descriptor: int, offset: int, whence: int) -> int:
        """Go to a place."""
        self._check(descriptor)
        return os.lseek(descriptor, offset, whence)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """Open a file, which gives a living descriptor."""
        descriptor = super().open(path, flags, mode)
        self.dead.discard(descriptor)
        return descriptor


def test_run_saves_everything_when_its_descriptor_dies_again_and_again(sweep: Sweep) -> None:
    """The file is opened anew, found to be ours, and gone on with: no result waits, and nothing is set aside."""
    disk = Stale()
    disk.dead = set()

    def during(x: int) -> None:
        disk.dead |= {int(name) for name in os.listdir("/dev/fd")}

    sweep.during = during
    outcome = sweep.run(disk)
    assert outcome.acknowledged == sweep.held() == ALL
    assert not [each for each in outcome.caught if issubclass(each.category, CheckpointWarning)]
    assert os.listdir(sweep.path.parent) == ["c.pkl"]


def _clear(sweep: Sweep, before: Callable[[Sweep], None]) -> None:
    shutil.rmtree(sweep.path.parent)
    sweep.path.parent.mkdir()
    before(sweep)


def _contents(sweep: Sweep) -> bytes:
    return sweep.path.read_bytes() if sweep.path.exists() else b""


def _expect_kept(sweep: Sweep, old: bytes, held: set[int]) -> None:
    """Check that a refused run left what was there: in place, in a whole copy, or set aside."""
    if not old:
        return
    kept = [path.read_bytes() for path in sweep.path.parent.iterdir()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        is_whole = sweep.held() == held and Checkpoint.load(sweep.path).parameters == ROWS
    assert is_whole or any(_is_same(data, old) for data in kept), "the old file is gone"


def _is_same(data: bytes, old: bytes) -> bool:
    """Compare two files, whoever is noted as their holder."""
    return data[:16] + data[20:] == old[:16] + old[20:]


def _expect_finished(sweep: Sweep, outcome: Outcome, found: set[int], options: dict[str, Any]) -> None:
    """Let a run on a whole disk follow: what was reported is not run again, and then all is there."""
    held = sweep.held() if outcome.error is None else found
    second = sweep.run(**options)
    assert second.error is None
    assert set(second.executed) == ALL - held
    assert not set(second.executed) & outcome.acknowledged
    assert sweep.held() == ALL


# --- the disk recovers: row 20 ---------------------------------------------------------------


@pytest.mark.parametrize("operation", ["write", "fsync"])
def test_run_saves_everything_when_the_disk_recovers(operation: str, sweep: Sweep) -> None:
    """After space returns all is saved and reported; each of two outages is warned of, once."""
    disk = Disk()
    fault = Fault(1, (operation,), errno.ENOSPC, "half", is_lasting=True)

    def during(x: int) -> None:
        outages = 1 if x < 7 else 2
        if x in {1, 7}:
            wait_until(lambda: sweep.outcome.acknowledged == set(range(x)), what="the results before")
            disk.matched, disk.fault = 0, fault
        if x in {4, 9}:
            wait_until(lambda: len(sweep.outcome.texts("for now")) == outages, what="the warning")
            assert sweep.outcome.acknowledged == set(range(x - 3 if x == 4 else 7))
            disk.fault = None

    sweep.during = during
    outcome = sweep.run(disk, [[n] for n in range(12)])
    assert outcome.acknowledged == set(range(12))
    assert sweep.held() == set(range(12))
    assert len(outcome.texts("")) == 2


def test_run_saves_everything_at_its_end_when_the_next_try_would_have_been_later(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long saving is not tried again, it is once more before the run returns."""
    monkeypatch.setattr(config, "save_retry_seconds", 3600.0)
    outcome = sweep.run(Disk(Fault(2, ("write",), errno.ENOSPC)))
    assert outcome.texts("for now")
    assert outcome.acknowledged == sweep.held() == ALL


def test_results_before_an_outage_stay_readable_during_it(sweep: Sweep) -> None:
    """While nothing can be saved, the file holds what was saved before, whole: half-written records are cut off."""
    disk = Disk()
    seen: list[tuple[list[bool], int]] = []

    def during(x: int) -> None:
        if x == 2:
            wait_until(lambda: sweep.outcome.acknowledged == {0, 1}, what="two results")
            size = sweep.path.stat().st_size
            disk.fault = Fault(disk.matched + 1, ("write",), errno.ENOSPC, "half", is_lasting=True)
            seen.append(([True, True, False, False], size))
        if x == 3:
            wait_until(lambda: sweep.outcome.texts("for now"), what="the warning")
            checkpoint = Checkpoint.load(sweep.path)
            seen.append((checkpoint.completed, sweep.path.stat().st_size))

    sweep.during = during
    outcome = sweep.run(disk)
    assert seen[0] == seen[1]
    assert outcome.texts("2 results could not be saved")
    assert sweep.held() == {0, 1}


# --- a failed fsync: row 22 -------------------------------------------------------------------


class SyncDisk(Disk):
    """Remembers what is written to a file after it could not be synced."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.kept = -1
        """A copy of its descriptor, so that no other file gets its number."""
        self.written: list[int] = []

    def fsync(self, descriptor: int) -> None:
        """Keep the file whose turn it is to fail."""
        try:
            super().fsync(descriptor)
        except OSError:
            self.kept = os.dup(descriptor)
            raise

    def write(self, descriptor: int, data: Any) -> int:
        """Note the file."""
        if self.kept >= 0:
            self.written.append(os.fstat(descriptor).st_ino)
        return super().write(descriptor, data)


@pytest.mark.parametrize("at", [3, 4])  # the first two create the file
def test_nothing_is_written_to_a_file_again_when_its_fsync_failed(
    at: int, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync that file never gets a result again: all is written to a new one, and reported then."""
    monkeypatch.setattr(config, "fold_bytes", 0)
    disk = SyncDisk(Fault(at, ("fsync",), errno.EIO))

    def during(x: int) -> None:
        if x == at - 3:
            wait_until(lambda: len(sweep.outcome.acknowledged) == x, what="the result before")

    sweep.during = during
    outcome = sweep.run(disk)
    failed = os.fstat(disk.kept).st_ino
    os.close(disk.kept)
    assert outcome.acknowledged == sweep.held() == ALL
    assert disk.written
    assert failed not in {*disk.written, sweep.path.stat().st_ino}


def test_nothing_is_reported_when_every_fsync_fails(sweep: Sweep) -> None:
    """If the new file cannot be synced either, results are returned, and none is said to be durable."""
    outcome = sweep.run(Disk(Fault(3, ("fsync",), errno.EIO, is_lasting=True)))
    assert outcome.acknowledged == set()
    assert outcome.texts("4 results could not be saved")
    assert outcome.texts("Input/output error")


def test_run_goes_on_when_a_failed_fsync_is_followed_by_failing_reads(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the file cannot be read back to be rewritten, the run returns all; what was saved stays valid."""
    disk = Disk()

    def during(x: int) -> None:
        if x == 1:
            wait_until(lambda: sweep.outcome.acknowledged == {0}, what="the first result")
            disk.matched, disk.fault = 0, Fault(1, ("fsync",), errno.EIO)
            monkeypatch.setattr(thread_chunks._log, "open", failing_open, raising=False)

    sweep.during = during
    outcome = sweep.run(disk)
    monkeypatch.undo()
    assert outcome.acknowledged == {0}
    assert outcome.texts("3 results could not be saved")
    assert 0 in sweep.held()


# --- reading fails: row 23 -----------------------------------------------------------------------


class FailingFile:
    """An open file whose reads fail."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> Self:
        """Return the object."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Fail."""
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    readinto = read


def failing_open(*args: Any, **kwargs: Any) -> FailingFile:
    """Open a file whose reads fail."""
    return FailingFile(open(*args, **kwargs))


class UnreadableDisk(Disk):
    """A disk that cannot read the start of a file."""

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        """Fail."""
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("state", ["torn", "damaged", "restarted", "reused"])
@pytest.mark.parametrize("place", ["the start", "the rest"])
def test_run_is_refused_when_the_file_cannot_be_read(
    place: str, state: str, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO at resume is an error before any call; nothing is overwritten, cut or set aside."""
    before, found, options = STATES[state]
    before(sweep)
    data = sweep.path.read_bytes()
    with monkeypatch.context() as patch:
        if place == "the rest":
            patch.setattr(thread_chunks._log, "open", failing_open, raising=False)
        outcome = sweep.run(UnreadableDisk() if place == "the start" else Disk(), **options)
    assert outcome.error is not None
    assert outcome.error.errno == errno.EIO
    assert sweep.path.read_bytes() == data
    assert os.listdir(sweep.path.parent) == ["c.pkl"]
    _expect_finished(sweep, outcome, found, options)


def test_load_and_save_are_refused_when_the_file_cannot_be_read(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO in load() or save() is raised as it is, and the file stays."""
    torn(sweep)
    data = sweep.path.read_bytes()
    with pytest.warns(CheckpointDamagedWarning):
        checkpoint = Checkpoint.load(sweep.path)
    monkeypatch.setattr(thread_chunks._checkpoint, "open", failing_open, raising=False)
    monkeypatch.setattr(thread_chunks._log, "open", failing_open, raising=False)
    for act in (lambda: Checkpoint.load(sweep.path), checkpoint.save, checkpoint.update_save):
        with pytest.raises(OSError, match="Input/output error"):
            act()
    assert sweep.path.read_bytes() == data
    assert os.listdir(sweep.path.parent) == ["c.pkl"]


# --- replacing fails in save(): rows 20 and 22 ----------------------------------------------------


@pytest.mark.parametrize("when", ["before", "half", "after"])
@pytest.mark.parametrize("is_other", [False, True], ids=["own file", "file of another run"])
def test_save_loses_nothing_when_the_disk_fails(is_other: bool, when: str, sweep: Sweep) -> None:
    """Whatever fails in Checkpoint.save(), what the file held is there afterwards, and no temporary file is left."""
    for at in itertools.count(1):
        _clear(sweep, nothing)
        sweep.run()
        old = sweep.path.read_bytes()
        checkpoint = Checkpoint.load(sweep.path)
        if is_other:
            checkpoint.parameters[0] = [9]
            checkpoint.output[0] = value(9)
        disk = Disk(Fault(at, CHANGES, errno.EIO, when))
        with sweep.patch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patch.setattr(thread_chunks._log, "os", disk)
            try:
                checkpoint.save()
            except OSError as error:
                assert error.errno == errno.EIO  # noqa: PT017 - it need not be raised
        assert sweep.held() == ALL
        assert not [name for name in os.listdir(sweep.path.parent) if name.endswith(".tmp")]
        is_saved = Checkpoint.load(sweep.path).parameters == checkpoint.parameters
        kept = [_is_same(path.read_bytes(), old) for path in sweep.path.parent.iterdir()]
        assert any(kept) or (is_saved and not is_other)
        if disk.matched < at:
            break
    assert at > 4


# --- real programs over a failing disk: rows 20 and 22 --------------------------------------------

FAILING = """
    import warnings
    import disk

    config.save_retry_seconds = 0
    at, error, when, lasting = int(sys.argv[2]), *sys.argv[3:6]
    if at:
        disk.fails(at, error, when=when, lasting=lasting == "lasting")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            outputs = sweep()
        except OSError as failure:
            assert failure.errno == getattr(__import__("errno"), error)
            print("refused")
        else:
            assert outputs == [value(x) for x in range(6)]
            print("returned", len(caught))
    assert {each.category for each in caught} <= {CheckpointFailedWarning}
    expect_tidy()
"""


@pytest.mark.parametrize(
    ("at", "error", "when", "lasting"),
    [
        (2, "ENOSPC", "half", "lasting"),
        pytest.param(2, "ENOSPC", "half", "once", marks=pytest.mark.nightly),  # the run is refused at once
        (6, "ENOSPC", "half", "once"),
        (6, "ENOSPC", "half", "lasting"),
        (8, "EIO", "after", "once"),
        (8, "EIO", "after", "lasting"),
    ],
)
def test_program_loses_nothing_when_its_disk_fails(
    at: int, error: str, when: str, lasting: str, programs: Programs
) -> None:
    """The same with worker processes: no process, thread, descriptor or file is left, and the next run completes."""
    case = Case(programs, FAILING)
    done = case.run(at, error, when, lasting)
    if at == 2:
        assert done.stdout == "refused\n"
        assert not case.events()
    else:
        assert done.stdout.startswith("returned")
        assert (
            done.stdout != "returned 0\n" or at > 6
        )  # the sixth saves the first result, the eighth may fold
    case.finish(0, "EIO", "before", "once")


LIMITED = """
    import resource, warnings

    def fault(x):
        while x and f" ack 0\\n" not in open(os.path.join(FOLDER, "events.log")).read():
            time.sleep(0.005)

    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))

    def show(message, category, *_):
        note(category.__name__, len(given))
        given.append(str(message))
        if sys.argv[2] == "lifted":
            limit(most)

    given = []
    warnings.simplefilter("always")
    warnings.showwarning = show
    config.save_retry_seconds = 0
    if sys.argv[2] != "none":
        limit(2500)
    assert sweep(count=30) == [value(x) for x in range(30)]
    limit(most)
    expect_tidy()
"""


@pytest.mark.parametrize("how", ["lifted", "lasting"])
def test_run_returns_everything_when_its_file_may_not_grow(how: str, programs: Programs) -> None:
    """A limit on the size of files kills nobody: it is warned of, and once it is lifted all is saved."""
    case = Case(programs, LIMITED, count=30)
    case.run(how)
    warned = [event for event in case.events() if event.what == "CheckpointFailedWarning"]
    assert len(warned) == (1 if how == "lifted" else 2)
    assert (case.acknowledged() == set(range(30))) == (how == "lifted")
    assert case.acknowledged()
    case.finish("none")


@dataclass
class Mounts:
    """File systems of the test's own."""

    folder: Path
    _mounted: list[Path] = field(default_factory=list)

    def tmpfs(self, name: str, options: str) -> Path:
        """Mount a file system in memory."""
        return self.mount(name, "-t", "tmpfs", "-o", options, "none")

    def mount(self, name: str, *arguments: object) -> Path:
        """Mount anything."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", *map(str, arguments), place], check=True)
        self._mounted.append(place)
        return place

    def close(self) -> None:
        """Unmount everything that is still mounted."""
        for place in reversed(self._mounted):
            while os.path.ismount(place):
                subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    found = Mounts(tmp_path)
    yield found
    found.close()


FULL = """
    import subprocess, warnings

    def fault(x):
        while x == 1 and f" ack 0\\n" not in open(os.path.join(FOLDER, "events.log")).read():
            time.sleep(0.005)

    def show(message, category, *_):
        note(category.__name__, len(given))
        given.append(str(message))
        if sys.argv[2] == "grows":
            subprocess.run(["mount", "-o", "remount,size=4m", "disk"], check=True)

    given = []
    warnings.simplefilter("always")
    warnings.showwarning = show
    config.save_retry_seconds = 0
    outputs = sweep(count=400, path="disk/c.pkl")
    assert outputs == [value(x) for x in range(400)]
    expect_tidy()
"""


@pytest.mark.root
@pytest.mark.parametrize("how", ["grows", "stays full"])
def test_run_returns_everything_when_a_real_disk_is_full(
    how: str, programs: Programs, mounts: Mounts
) -> None:
    """A file system of 64 KiB that fills: all is returned; as soon as it is given space, all is saved."""
    mounts.tmpfs("disk", "size=64k")
    case = Case(programs, FULL, count=400, path="disk/c.pkl")
    case.run(how)
    warned = [event for event in case.events() if event.what == "CheckpointFailedWarning"]
    assert len(warned) == (1 if how == "grows" else 2)
    assert (case.acknowledged() == set(range(400))) == (how == "grows")
    assert case.acknowledged()
    assert case.finish("grows").returncode == 0


@pytest.mark.root
def test_run_is_refused_when_a_real_disk_cannot_be_read(programs: Programs, mounts: Mounts) -> None:
    """A file system whose device lost its blocks: an error before any call, and when they are back, all is there."""
    image = programs.folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    place = mounts.mount("disk", "-o", "loop", image)
    case = Case(
        programs, "assert sweep(path='disk/c.pkl') == [value(x) for x in range(6)]", path="disk/c.pkl"
    )
    case.run()
    mounts.close()
    data = image.read_bytes()
    mounts.mount("disk", "-o", "loop", image)
    before = (place / "c.pkl").stat()
    found = subprocess.run(["filefrag", "-e", place / "c.pkl"], check=True, capture_output=True, text=True)
    block = int(found.stdout.split("0:", 1)[1].split("..")[1].split(":")[1])
    with image.open("r+b") as file:
        file.truncate(block * before.st_blksize)
    program = """
        from thread_chunks import chunk
        chunk(print, [[1]], path="disk/c.pkl", progress_bar=False)
    """
    done = programs.run(program, code=1)
    assert "Input/output error" in done.stderr
    assert done.stdout == ""
    after = (place / "c.pkl").stat()
    assert (after.st_size, after.st_ino, after.st_mtime_ns) == (
        before.st_size,
        before.st_ino,
        before.st_mtime_ns,
    )
    mounts.close()
    image.write_bytes(data)
    mounts.mount("disk", "-o", "loop", image)
    case.finish()
    assert len([event for event in case.events() if event.what == "start"]) == 6


# --- writes that are cut short: row 24 ----------------------------------------------------------------


class SlowDisk(Disk):
    """Writes a few bytes at a time, as a system may."""

    def write(self, descriptor: int, data: Any) -> int:
        """Write a part."""
        return super().write(descriptor, data[: 1 + self.matched % 13])


def test_run_saves_everything_when_the_system_writes_a_few_bytes_at_a_time(sweep: Sweep) -> None:
    """Short writes are continued where they ended, whatever their size."""
    torn(sweep)
    disk = SlowDisk(Fault(0, ()))
    outcome = sweep.run(disk)
    assert outcome.acknowledged == {2, 3}
    assert outcome.texts("") == []
    assert sweep.held() == ALL
    assert disk.done.count("write") > 50


INTERRUPTED = """
    import signal

    signal.signal(signal.SIGALRM, lambda *_: counted.append(1))
    signal.siginterrupt(signal.SIGALRM, True)
    counted = []
    value_of = value
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    assert sweep(count=40) == [value(x) for x in range(40)]
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert RUN or len(counted) > 20  # a run that finds everything in its file takes no time
    expect_tidy()
"""


def test_run_saves_everything_when_signals_interrupt_it_all_the_time(programs: Programs) -> None:
    """EINTR, a thousand times a second: no call of the system is given up, and no result is lost."""
    case = Case(programs, INTERRUPTED, count=40)
    case.run()
    assert case.acknowledged() == set(range(40))
    case.finish()


@pytest.mark.nightly
def test_result_of_more_than_two_gigabytes_is_saved_whole(folder: Path) -> None:
    """A record larger than what the kernel writes at once comes back to the last byte; cut, it is reported."""
    path = folder / "c.pkl"
    size = (1 << 31) + 12345

    def large(x: int) -> Any:
        array = np.zeros(size, dtype=np.uint8)
        array[:: 1 << 20] = x
        array[-1] = 77
        return array

    options: dict[str, Any] = {"path": path, "chunk_size": 1, "worker": ThreadWorker}
    (output,) = chunk(large, [[7]], **options)
    assert path.stat().st_size > size
    del output
    (output,) = Checkpoint.load(path).output
    assert output.shape == (size,)
    assert (output[:: 1 << 20] == 7).all()
    assert output[-1] == 77
    assert int(output.sum(dtype=np.int64)) == 77 + 7 * len(output[:: 1 << 20])
    del output
    os.truncate(path, path.stat().st_size - 1)
    with pytest.warns(CheckpointDamagedWarning, match=r"torn tail of call 0, 2147\d{6} bytes"):
        assert Checkpoint.load(path).output == [None]


# --- what may not be written: row 25 --------------------------------------------------------------------

FORBIDDEN = """
    import os, sys, warnings
    from thread_chunks import Checkpoint, ThreadWorker, chunk, config

    os.umask(0o022)
    USER = 1234
    executed = []
    whole = []

    def f(x):
        executed.append(x)
        if x == 2 and not whole:
            raise ValueError(x)
        return 10 * x

    def run(path, rows=((0,), (1,), (2,)), **options):
        executed.clear()
        return chunk(
            f, rows, path=path, worker=ThreadWorker, chunk_size=1, progress_bar=False, on_error="return", **options
        )

    def made(path):
        whole.clear()
        run(path)
        whole.append(1)  # a list: what is no setting is not watched
        return path

    def own(path, mode):
        os.chown(path, USER, USER)
        os.chmod(path, mode)

    def read(path):
        with open(path, "rb") as file:
            return file.read()

    for name in ("closed", "locked", "shut"):
        os.mkdir(name)
        made(f"{name}/c.pkl")
        own(f"{name}/c.pkl", 0o644)
    files = {"read-only": 0o444, "unreadable": 0, "write-only": 0o200}
    for name, mode in files.items():
        os.mkdir(name)
        own(name, 0o755)
        own(made(f"{name}/c.pkl"), mode)
    own("closed", 0)
    own("locked", 0o555)
    own("shut", 0o555)
    paths = [
        "closed/c.pkl", "locked/new.pkl", "locked/folder/new.pkl", "read-only/c.pkl", "unreadable/c.pkl",
        "write-only/c.pkl", *sys.argv[1:],
    ]
    before = {path: read(path) for path in paths if os.path.exists(path)}
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)
        for path in paths:
            try:
                print(path, "returned", run(path))
            except OSError as error:
                print(path, type(error).__name__, error.errno, error.filename is not None, executed)
        # A folder that may not be written costs the fold only, and nothing if the file may.
        results = run("locked/c.pkl")
        print("locked file", results, executed, Checkpoint.load("locked/c.pkl").output)
        data = read("shut/c.pkl")
        try:
            run("shut/c.pkl", ((5,),))
        except OSError as error:
            print("shut", type(error).__name__, executed, read("shut/c.pkl")[20:] == data[20:])
        print("read-only", Checkpoint.load("read-only/c.pkl").output)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for path, data in before.items():
        assert read(path) == data, path
    print(sorted(os.listdir("locked")), sorted(os.listdir("read-only")))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that another user can enter; those of pytest are private."""
    found = Path(tempfile.mkdtemp())
    found.chmod(0o777)
    yield found
    shutil.rmtree(found)


@pytest.mark.root
def test_run_is_refused_when_its_file_may_not_be_written(open_folder: Path, programs: Programs) -> None:
    """Read-only folders, files and mounts are errors before any call, and what is there stays as it is."""
    mounts = Mounts(open_folder)
    try:
        mounts.tmpfs("mounted", "ro,mode=777")
        out = programs.run(FORBIDDEN, "mounted/new.pkl", cwd=open_folder).stdout.splitlines()
    finally:
        mounts.close()
    refused = [line for line in out if "Error" in line]
    denied = errno.EACCES
    assert refused[:-1] == [
        *(
            f"{path} PermissionError {denied} True []"
            for path in (
                "closed/c.pkl", "locked/new.pkl", "locked/folder/new.pkl", "read-only/c.pkl", "unreadable/c.pkl",
                "write-only/c.pkl",
            )
        ),
        f"mounted/new.pkl OSError {errno.EROFS} True []",
    ]  # fmt: skip
    assert refused[-1] == "shut PermissionError [] True"
    assert "locked file [0, 10, 20] [2] [0, 10, 20]" in out
    assert "read-only [0, 10, None]" in out
    assert out[-1] == "['c.pkl'] ['c.pkl']"


# --- the folder goes: row 26 -----------------------------------------------------------------------------


def removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def file_removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("act", [removed, moved, file_removed])
def test_run_saves_everything_when_its_folder_goes(act: Callable[[Path], None], sweep: Sweep) -> None:
    """If folder or file is removed or moved during the run, both are made again, with all that was reported before."""

    def during(x: int) -> None:
        if x == 2:
            wait_until(lambda: sweep.outcome.acknowledged == {0, 1}, what="two results")
            act(sweep.path)

    sweep.during = during
    outcome = sweep.run()
    assert outcome.acknowledged == sweep.held() == ALL
    assert os.listdir(sweep.path.parent) == ["c.pkl"]


def test_run_returns_everything_when_a_file_takes_the_place_of_its_folder(sweep: Sweep) -> None:
    """Where no file can be written any more, the run goes on, says so, and touches nothing."""
    folder, log = sweep.path.parent, sweep.log
    reported: list[int] = []

    def f(x: int) -> Any:
        note(log, x)
        if x == 2:
            wait_until(lambda: len(reported) == 2, what="two results")
            folder.rename(folder.with_name("elsewhere"))
            folder.write_text("a file")
        return value(x)

    with pytest.warns(CheckpointFailedWarning) as caught:
        outputs = chunk(
            f,
            ROWS,
            chunk_size=1,
            worker=ThreadWorker,
            path=sweep.path,
            on_result=lambda index, output: reported.append(index),
        )
    assert outputs == [value(x) for x in range(4)]
    assert len(caught) == 2
    assert folder.read_text() == "a file"
    assert Checkpoint.load(folder.with_name("elsewhere") / "c.pkl").completed == [True, True, False, False]
    folder.unlink()


UNMOUNTED = """
    import subprocess

    def fault(x):
        if x == 3:
            while not os.path.exists(os.path.join(FOLDER, "go")):
                time.sleep(0.005)

    def acknowledge(index, output):
        note("ack", index)
        if index == 2:
            subprocess.run(["umount", "-l", "disk"], check=True)
            open(os.path.join(FOLDER, "go"), "w").close()

    assert sweep(chunk_size=1, path="disk/c.pkl") == [value(x) for x in range(6)]
    expect_tidy()
"""


@pytest.mark.root
def test_run_saves_everything_when_its_file_system_is_unmounted(programs: Programs, mounts: Mounts) -> None:
    """If the file system goes during the run, all that was reported is written where the path now leads."""
    place = mounts.tmpfs("disk", "size=1m")
    case = Case(programs, UNMOUNTED, path="disk/c.pkl")
    case.run()
    assert not os.path.ismount(place)
    assert case.acknowledged() == set(range(6))
    case.finish("never")


WITHOUT_FOLDER = """
    import shutil

    def acknowledge(index, output):
        note("ack", index)
        if index == 0:
            shutil.rmtree(os.path.join(FOLDER, "inner"))

    os.mkdir("inner")
    os.chdir("inner")
    assert sweep() == [value(x) for x in range(6)]
    os.chdir(FOLDER)
    expect_tidy()
"""


def test_run_saves_everything_when_its_working_directory_is_removed(programs: Programs) -> None:
    """A relative path is made absolute at the start: it still leads somewhere when the working directory is gone."""
    case = Case(programs, WITHOUT_FOLDER, path="inner/c.pkl")
    case.run()
    assert case.acknowledged() == set(range(6))
    loaded = case.load()
    assert loaded is not None
    assert loaded.output == [value(x) for x in range(6)]


# --- descriptors, threads and memory: row 27 ------------------------------------------------------------

SHORT = """
    import errno, resource

    config.fold_bytes = 0

    def tries(what, *errors, **options):
        try:
            outputs = sweep(count=64, **options)
        except BaseException as error:
            assert isinstance(error, errors), repr(error)
            print(what, type(error).__name__)
        else:
            assert outputs == [value(x) for x in range(64)]
            print(what, "returned")

    def descriptors():
        count = len(os.listdir("/dev/fd"))
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        for more in (0, 2, 4, 7, 20):
            resource.setrlimit(resource.RLIMIT_NOFILE, (count + more, limit[1]))
            tries("descriptors", OSError, RunStoppedError, chunk_size=64, path=None, on_result=None)
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            expect_tidy()

    def no_descriptors():
        held = []
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        tries("no descriptors", OSError, worker=ThreadWorker)
        for descriptor in held:
            os.close(descriptor)

    def memory():
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        limit = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + (60 << 20), limit[1]))
        tries("memory", RuntimeError, MemoryError, worker=ThreadWorker, chunk_size=64)
        resource.setrlimit(resource.RLIMIT_AS, limit)

    def threads():
        chunk(f, [[0], [1]], chunk_size=2, worker=ThreadWorker, progress_bar=False)  # all modules are there now
        os.chmod(FOLDER, 0o777)
        for name in ("case.py", "events.log"):
            os.chmod(os.path.join(FOLDER, name), 0o666)
        os.setgroups([])
        os.setgid(1234)
        os.setuid(1234)
        limit = resource.getrlimit(resource.RLIMIT_NPROC)
        resource.setrlimit(resource.RLIMIT_NPROC, (8, limit[1]))
        tries("threads", RuntimeError, worker=ThreadWorker, chunk_size=64)
        resource.setrlimit(resource.RLIMIT_NPROC, limit)
        expect_tidy()
        assert sweep(count=64, worker=ThreadWorker) == [value(x) for x in range(64)]

    case = sys.argv[2]
    if case != "none":
        globals()[case]()
    else:
        assert sweep(count=64) == [value(x) for x in range(64)]
    expect_tidy()
"""


def test_run_needs_no_more_than_one_process_when_there_are_few_descriptors(programs: Programs) -> None:
    """If there are descriptors for few child processes, or one, these do it all; if for none, it is a clear error."""
    done = programs.run(PRELUDE + textwrap.dedent(SHORT), 0, "descriptors").stdout.splitlines()
    assert len(done) == 5
    assert done[0] == "descriptors RunStoppedError"
    assert done[-1] == "descriptors returned"


@pytest.mark.parametrize(
    "case",
    ["no_descriptors", pytest.param("memory", marks=pytest.mark.root)],  # only Linux limits it
)
def test_run_ends_with_an_error_when_the_system_gives_no_more(case: str, programs: Programs) -> None:
    """Without descriptors, or memory for threads, it is a clear error: no hang, no ghosts, and the next run is right."""
    sweep = Case(programs, SHORT, count=64)
    done = sweep.run(case)
    assert done.stdout.endswith("Error\n")
    assert sweep.started(0) == []
    sweep.finish("none")


@pytest.mark.root
def test_run_ends_with_an_error_when_no_thread_can_be_started(open_folder: Path, programs: Programs) -> None:
    """At the limit of threads it is a clear error; no half-started workers are left in the registry of actors."""
    inner = Programs(open_folder)
    inner._started = programs._started
    case = Case(inner, SHORT, count=64)
    done = case.run("threads")
    assert done.stdout == "threads RuntimeError\n"
    case.finish("none")


@pytest.mark.parametrize("worker", [ThreadWorker, ProcessWorker])
def test_run_ends_with_an_error_when_any_one_of_its_threads_cannot_be_started(
    worker: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writer, supervisor or worker: the system's error is raised, no actor is left behind, and the file is free."""
    start = threading.Thread.start
    before = set(pykka.ActorRegistry.get_all())
    for at in itertools.count(1):
        numbers = itertools.count(1)

        def failing(thread: threading.Thread, at: int = at, numbers: Iterator[int] = numbers) -> None:
            if next(numbers) == at:
                msg = "can't start new thread"
                raise RuntimeError(msg)
            start(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", failing)
            try:
                chunk(abs, [[n] for n in range(6)], chunk_size=3, worker=worker, path=sweep.path)
            except RuntimeError as error:
                assert "can't start new thread" in str(error)  # noqa: PT017 - the last run does not raise
            else:
                break
        with suppress(TimeoutError):  # those that were started may take a moment to end
            wait_until(lambda: set(pykka.ActorRegistry.get_all()) <= before)
        left = set(pykka.ActorRegistry.get_all()) - before
        for actor in left:
            pykka.ActorRegistry.unregister(actor)  # it cannot be stopped: nobody reads its mailbox
        assert not left, f"left behind by thread {at}"
        assert chunk(abs, [[n] for n in range(6)], worker=ThreadWorker, path=sweep.path) == list(range(6))
        sweep.path.unlink()
    assert at > 4  # writer, supervisor, and three workers


HUNGRY = """
    def fault(x):
        if x == 2:
            while True:
                try:
                    held.append(os.open(os.devnull, os.O_RDONLY))
                except OSError:
                    break
        if x == 5:
            while held:
                os.close(held.pop())

    import resource
    held = []
    if sys.argv[2] == "eats":
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    noted = note

    def note(what, index):
        os.write(log, f"{sys.argv[1]} {what} {index}\\n".encode())

    log = os.open(os.path.join(FOLDER, "events.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    assert sweep(worker=ThreadWorker, chunk_size=1) == [value(x) for x in range(6)]
    os.close(log)
    expect_tidy()
"""


def test_run_saves_everything_when_its_calls_use_up_all_descriptors(programs: Programs) -> None:
    """The file is open already: calls that take every descriptor there is do not keep their results from being saved."""
    case = Case(programs, HUNGRY)
    case.run("eats")
    assert case.acknowledged() == set(range(6))
    case.finish("never")
