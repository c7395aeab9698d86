"""The checkpoint file on disk: what was acknowledged stays, and nobody else gets in."""

import contextlib
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Programs, members, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st
from test_format import ANY_GROUP, ANY_RECORD, FOREIGN, foreign, group, plain, singles, with_version

from thread_chunks import (
    CheckpointCorruptError,
    CheckpointLockedError,
    CheckpointVersionError,
    NotACheckpointError,
    _log,
    _records,
    _wire,
)
from thread_chunks._format import HEADER_SIZE, HOLDER_OFFSET, VERSION, About
from thread_chunks._log import Log
from thread_chunks._records import FAILURE, RESULT, Group, Record

HEAD = b"\x80\x05K\x01."  # the pickle of 1
FINGERPRINT = bytes(range(32))
ABOUT = About("sweep", 9, 2)


def result(index: int, payload: bytes = b"payload", buffers: Sequence[Any] = ()) -> Record:
    return Record(RESULT, index, 0.25, 9, payload, buffers)


def grouped(*indices: int, payload: bytes = b"payload") -> Group:
    """Make a group of results."""
    return group(*[(index, 0.25, payload) for index in indices], code=9)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a.pkl")


@contextlib.contextmanager
def opened(path: str) -> Iterator[Log]:
    """Open a file that exists and get ready to append."""
    log = Log(path)
    try:
        log.read()
        yield log
    finally:
        log.close()


@contextlib.contextmanager
def begun(path: str) -> Iterator[Log]:
    """Begin a file."""
    log = Log(path)
    try:
        log.replace(HEAD, FINGERPRINT, about=ABOUT)
        yield log
    finally:
        log.close()


def recorded(path: str) -> list[tuple[Any, ...]]:
    """Return the records of a file, as another run would find them."""
    log = Log(path)
    try:
        contents = log.read()
    finally:
        log.close()
    assert contents.damages == []
    return [plain(record) for record in contents.records]


def indices(path: str) -> list[int]:
    with opened(path) as log:
        contents = log.read()
    assert contents.damages == []
    return [index for _, index, *_ in singles(contents.records)]


def descriptors() -> set[str]:
    return set(os.listdir("/dev/fd"))


# --- append and read ----------------------------------------------------------------------


def test_log_reads_what_was_appended(path: str) -> None:
    """Records come back in the order in which they were appended, in however many groups."""
    records: list[Record | Group] = [
        result(0),
        Record(FAILURE, 1, 0.0, 0, b"Traceback"),
        grouped(5, 6, 7),
        result(2, b"", [b"x" * 99]),
        grouped(8),
    ]
    with begun(path) as log:
        log.append(records[:1])
        log.append(records[1:])
        assert log.end == log.size
        assert log.record_bytes > 0
    assert recorded(path) == [plain(record) for record in records]


def test_log_keeps_head_and_fingerprint(path: str) -> None:
    """Whose run a file is and what it began with is read back as it was written."""
    with begun(path):
        pass
    with opened(path) as log:
        assert log.read().head == HEAD
        assert log.fingerprint == FINGERPRINT
        assert log.record_bytes == 0


@settings(max_examples=40, deadline=None)
@given(
    appended=st.lists(st.lists(ANY_RECORD | ANY_GROUP, max_size=5), max_size=5),
)
def test_log_reads_all_when_each_run_appends_some(
    tmp_path_factory: pytest.TempPathFactory, appended: list[list[Record | Group]]
) -> None:
    """A file that many runs appended to holds what all of them saved, results by themselves and groups of them."""
    path = str(tmp_path_factory.mktemp("log") / "a.pkl")
    with begun(path):
        pass
    for records in appended:
        with opened(path) as log:
            log.append(records)
    assert recorded(path) == [plain(record) for records in appended for record in records]


def test_log_writes_large_buffers_whole(path: str) -> None:
    """Pieces small and large come back in order, views of all kinds included."""
    large = bytearray(os.urandom(1 << 20))
    small = memoryview(b"small")
    records: list[Record | Group] = [
        result(0, b"a"),
        result(1, bytes(large), [small, large, memoryview(large)[::1]]),
        grouped(4, 5, payload=bytes(large)),
        result(2),
    ]
    with begun(path) as log:
        log.append(records)
        log.append([result(3)])
    assert recorded(path) == [plain(record) for record in [*records, result(3)]]


def test_log_writes_all_when_the_system_writes_little_at_a_time(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short write is gone on with: not a byte is left out."""
    write = os.write
    with begun(path) as log:
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
        log.append([result(index, bytes([index]) * 50) for index in range(3)])
        log.append([grouped(3, 4)])
        monkeypatch.undo()
    assert indices(path) == [0, 1, 2, 3, 4]


def test_log_syncs_before_it_returns(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each append ends with an fsync behind the last write, and each replace with one of the folder."""
    steps: list[str] = []

    def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            is_folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            steps.append("fsync folder" if is_folder else name)
            return call(*args)

        return run

    for name in ("write", "fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    with begun(path) as log:
        assert steps[-4:] == ["write", "fsync", "replace", "fsync folder"]
        steps.clear()
        log.append([result(0), result(1)])
        assert steps == ["write", "fsync"]


# --- torn tails ---------------------------------------------------------------------------


@pytest.mark.parametrize("last", [result(1, b"torn" * 50), grouped(1, payload=b"torn" * 50)], ids=type)
@pytest.mark.parametrize("torn", [b"\x00" * 4096, b"noise", b"half"])
def test_log_cuts_a_torn_tail_before_it_appends(path: str, torn: bytes, last: Record | Group) -> None:
    """What a crash left half-written goes before the next record comes: then the file is whole again."""
    with begun(path) as log:
        log.append([result(0)])
        log.append([last])
    if torn == b"half":
        os.truncate(path, os.path.getsize(path) - 90)
    else:
        with open(path, "ab") as file:
            file.write(torn)
    kept = [0] if torn == b"half" else [0, 1]
    with opened(path) as log:
        (damage,) = log.read().damages
        assert damage.is_tail
        log.append([result(2)])
    assert indices(path) == [*kept, 2]


def test_log_does_not_cut_what_it_only_reads(path: str) -> None:
    """Reading changes nothing, not even who held the file last."""
    with begun(path) as log:
        log.append([result(0)])
    with open(path, "ab") as file:
        file.write(b"torn")
    before = Path(path).read_bytes()
    with opened(path):
        pass
    assert Path(path).read_bytes() == before


def test_log_appends_behind_damage_when_valid_records_follow_it(path: str) -> None:
    """Damage with a valid record behind it is never cut."""
    with begun(path) as log:
        start = log.end
        log.append([result(index) for index in range(3)])
    with open(path, "r+b") as file:
        file.seek(start + 3)
        file.write(b"\xff")
    with opened(path) as log:
        log.append([result(3)])
    with opened(path) as log:
        contents = log.read()
    assert [index for _, index, *_ in singles(contents.records)] == [1, 2, 3]
    assert [damage.is_tail for damage in contents.damages] == [False]


@pytest.mark.parametrize("place", ["front", "columns", "result", "columns again", "end"])
def test_log_cuts_nothing_off_when_the_last_group_is_damaged_and_can_be_read(path: str, place: str) -> None:
    """A damaged group whose results were read is no torn tail: it stays, as evidence, whatever is appended."""
    with begun(path) as log:
        start = log.end
        log.append([grouped(0, 1)])
        end = log.end
    front = _records.RECORD_SIZE + 2 * _wire.COLUMN_BYTES
    offset = {
        "front": start,
        "columns": start + front - 1,
        "result": end - front - 1,
        "columns again": end - 1,
        "end": end - front,
    }
    with open(path, "r+b") as file:
        file.seek(offset[place])
        before = file.read(1)
        file.seek(offset[place])
        file.write(bytes([before[0] ^ 0xFF]))
    content = Path(path).read_bytes()
    with opened(path) as log:
        assert log.end == end
        log.append([result(2)])
    assert Path(path).read_bytes()[HEADER_SIZE:end] == content[HEADER_SIZE:end]
    with opened(path) as log:
        contents = log.read()
    assert [index for _, index, *_ in singles(contents.records)] == (
        [0, 2] if place == "result" else [0, 1, 2]
    )
    assert [damage.is_tail for damage in contents.damages] == [False]


# --- files that are not ours -----------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FOREIGN if name != "empty"])
def test_log_leaves_the_file_of_another_program_alone(path: str, name: str) -> None:
    """A file that is not a checkpoint is refused, and not a byte or date of it changes."""
    Path(path).write_bytes(foreign(name))
    before = os.stat(path)
    with pytest.raises(NotACheckpointError), opened(path):
        pass
    assert Path(path).read_bytes() == foreign(name)
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns
    assert os.stat(path).st_ino == before.st_ino


def test_log_refuses_an_empty_file_when_it_should_be_read(path: str) -> None:
    """An empty file holds no checkpoint, and stays where it is: it may be someone's placeholder."""
    Path(path).touch()
    with pytest.raises(NotACheckpointError), opened(path):
        pass
    assert Path(path).read_bytes() == b""


def test_log_leaves_a_newer_version_alone(path: str) -> None:
    """A file of a newer release is refused, and not a byte of it changes."""
    Path(path).write_bytes(with_version(VERSION + 1))
    with pytest.raises(CheckpointVersionError), opened(path):
        pass
    assert Path(path).read_bytes() == with_version(VERSION + 1)


def test_log_leaves_a_damaged_head_alone(path: str) -> None:
    """A file whose head cannot be trusted is refused, and not a byte of it changes."""
    with begun(path) as log:
        log.append([result(0)])
    content = bytearray(Path(path).read_bytes())
    content[20] ^= 1
    Path(path).write_bytes(content)
    with pytest.raises(CheckpointCorruptError), opened(path):
        pass
    assert Path(path).read_bytes() == content


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_log_refuses_what_is_no_regular_file(path: str, kind: str) -> None:
    """A folder, a pipe or a device is refused at once, without a wait and without harm."""
    target = path
    if kind == "folder":
        os.mkdir(path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        target = "/dev/null"
    before = descriptors()
    with pytest.raises(NotACheckpointError, match="not a regular file"):
        Log(target)
    assert descriptors() == before
    assert os.path.exists(target)


# --- the lock -------------------------------------------------------------------------------


def test_log_is_refused_when_this_process_holds_the_file(path: str) -> None:
    """A second run in the same process is kept away too, and told who holds the file."""
    with begun(path) as log:
        log.append([result(0)])
        before = descriptors()
        with pytest.raises(CheckpointLockedError, match=f"process {os.getpid()}") as caught:
            Log(path)
        assert caught.value.pid == os.getpid()
        assert descriptors() == before
        log.append([result(1)])
    assert indices(path) == [0, 1]


def test_log_is_refused_when_the_file_is_read_for_a_run(path: str) -> None:
    """A run that resumes notes that it holds the file, as one that begins, and names nobody when it is done."""
    with begun(path):
        pass
    with opened(path) as log:
        log.hold()
        with pytest.raises(CheckpointLockedError, match=f"process {os.getpid()}"):
            Log(path)
    assert Path(path).read_bytes()[HOLDER_OFFSET : HOLDER_OFFSET + 4] == bytes(4)


def test_log_is_refused_without_a_name_when_the_file_is_still_empty(path: str) -> None:
    """A file that is just being begun does not say who holds it, and is refused all the same."""
    log = Log(path)
    with pytest.raises(CheckpointLockedError, match="another run") as caught:
        Log(path)
    assert caught.value.pid is None
    log.close()


def test_log_names_nobody_when_a_locked_file_is_not_ours(path: str) -> None:
    """Bytes of another program's file are not mistaken for a process number."""
    Path(path).write_bytes(foreign("text"))
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(CheckpointLockedError, match="another run") as caught:
            Log(path)
    assert caught.value.pid is None


def test_log_may_be_opened_again_when_it_was_closed(path: str) -> None:
    """Closing frees the file and names nobody as its holder; closing twice does nothing."""
    before = descriptors()
    with begun(path) as log:
        pass
    log.close()
    assert Path(path).read_bytes()[HOLDER_OFFSET : HOLDER_OFFSET + 4] == bytes(4)
    assert recorded(path) == []
    assert descriptors() == before


HOLD = """
    import sys, time
    from thread_chunks._records import RESULT, Record
    from thread_chunks._format import About
    from thread_chunks._log import Log

    log = Log(sys.argv[1])
    log.replace(b"\\x80\\x05K\\x01.", bytes(32), about=About())
    log.append([Record(RESULT, 0, 0.0, 0, b"")])
    open(sys.argv[2], "x").close()
    sys.stdin.read() if len(sys.argv) < 4 else time.sleep(1000)
"""


def test_log_is_free_when_its_holder_was_killed(path: str, tmp_path: Path, programs: Programs) -> None:
    """Another process is kept away by name while the holder lives, and the lock dies with it."""
    process = programs.start(HOLD, path, tmp_path / "held", "for long")
    wait_for(tmp_path / "held")
    with pytest.raises(CheckpointLockedError, match=f"process {process.pid}") as caught:
        Log(path)
    assert caught.value.pid == process.pid
    process.send_signal(signal.SIGKILL)
    programs.finish(process)
    assert indices(path) == [0]


def test_log_keeps_its_lock_when_the_file_is_replaced(path: str) -> None:
    """At no moment of a replacement can another run get in."""
    with begun(path) as log:
        for number in range(3):
            log.replace(HEAD, FINGERPRINT, [result(number)], about=ABOUT)
            with pytest.raises(CheckpointLockedError):
                Log(path)
            log.append([result(9)])
    assert indices(path) == [2, 9]


def test_log_locks_the_file_that_is_at_the_path_now(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was replaced between opening and locking is let go, and the new one is taken."""
    with begun(path):
        pass
    other = f"{path}.other"
    with begun(other) as log:
        log.append([result(5)])
    samestat = os.path.samestat

    def replace_first(one: os.stat_result, two: os.stat_result) -> bool:
        if os.path.exists(other):
            os.replace(other, path)
            return samestat(one, os.stat(path))
        return samestat(one, two)

    monkeypatch.setattr(os.path, "samestat", replace_first)
    before = descriptors()
    log = Log(path)
    assert [index for _, index, *_ in singles(log.read().records)] == [5]
    log.close()
    assert descriptors() == before


def test_log_follows_a_link_to_the_same_lock(path: str, tmp_path: Path) -> None:
    """However a file is spelled, it is one file with one lock, and a link stays a link."""
    link = tmp_path / "link.pkl"
    link.symlink_to(path)
    with begun(str(link)), pytest.raises(CheckpointLockedError):
        Log(path)
    assert link.is_symlink()
    assert indices(path) == []


def test_log_removes_an_empty_file_when_it_created_it(path: str) -> None:
    """A run that came to nothing leaves no file, and one that was there stays."""
    Log(path).close()
    assert not os.path.exists(path)
    Path(path).touch()
    Log(path).close()
    assert os.path.exists(path)


# --- replacing ------------------------------------------------------------------------------


def test_log_numbers_the_files_it_sets_aside(path: str) -> None:
    """An old file is kept whole under a name that nothing else has."""
    names = [f"{path}.bak", f"{path}.bak1", f"{path}.bak2"]
    with begun(path) as log:
        for number, name in enumerate(names):
            log.append([result(number)])
            assert log.replace(HEAD, FINGERPRINT, about=ABOUT, keep_old=True) == name
    assert [indices(name) for name in names] == [[0], [1], [2]]
    assert indices(path) == []


@pytest.mark.parametrize("error", ["EPERM", "EACCES", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EXDEV"])
def test_log_sets_a_file_aside_by_its_name_when_it_can_have_only_one(
    path: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On FAT and some network mounts no file has two names: the old one is renamed, and nothing else is written over."""

    def link(source: str, target: str) -> None:
        raise OSError(getattr(errno, error), "no links here")

    monkeypatch.setattr(os, "link", link)
    Path(f"{path}.bak").write_text("somebody else's")
    with begun(path) as log:
        log.append([result(0)])
        assert log.replace(HEAD, FINGERPRINT, [result(1)], about=ABOUT, keep_old=True) == f"{path}.bak1"
    assert Path(f"{path}.bak").read_text() == "somebody else's"
    assert indices(path) == [1]
    assert indices(f"{path}.bak1") == [0]


def test_log_keeps_the_old_file_when_links_are_refused_and_the_new_one_cannot_take_its_name(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file gets its name back: it is as it was."""
    replace = os.replace

    def fail(source: str, target: str) -> None:
        if source.endswith(".tmp"):
            raise OSError(errno.EIO, "no")
        replace(source, target)

    def link(source: str, target: str) -> None:
        raise OSError(errno.EPERM, "no links here")

    with begun(path) as log:
        log.append([result(0)])
        monkeypatch.setattr(os, "link", link)
        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no"):
            log.replace(HEAD, FINGERPRINT, [result(1)], about=ABOUT, keep_old=True)
        monkeypatch.undo()
        log.append([result(2)])
    assert indices(path) == [0, 2]
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_log_keeps_no_old_file_when_not_asked(path: str, tmp_path: Path) -> None:
    """A replacement leaves one file, and no temporary one."""
    with begun(path) as log:
        assert log.replace(HEAD, FINGERPRINT, [result(0)], about=ABOUT) is None
    assert [found.name for found in tmp_path.iterdir()] == ["a.pkl"]


def test_log_keeps_the_mode_when_the_file_is_replaced(path: str) -> None:
    """Who may read a file is the user's choice, and a rewrite does not undo it."""
    with begun(path) as log:
        os.chmod(path, 0o640)
        log.replace(HEAD, FINGERPRINT, about=ABOUT)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_log_keeps_the_old_file_when_a_replacement_fails(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A replacement that cannot be written changes nothing, leaves no temporary file, and keeps the lock."""
    with begun(path) as log:
        log.append([result(0)])
        before = descriptors()
        monkeypatch.setattr(os, step, failing(getattr(os, step), errno.ENOSPC))
        with pytest.raises(OSError, match="No space"):
            log.replace(HEAD, bytes(32), [result(7)], about=ABOUT)
        monkeypatch.undo()
        assert descriptors() == before
        assert [found.name for found in tmp_path.iterdir()] == ["a.pkl"]
        with pytest.raises(CheckpointLockedError):
            Log(path)
        log.append([result(1)])
    assert indices(path) == [0, 1]


@pytest.mark.parametrize("size", [0, 3, HEADER_SIZE - 1, HEADER_SIZE, None])
def test_log_removes_what_a_killed_run_left(
    path: str, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half-written temporary file of a dead run goes, however far it was written."""
    names: list[str] = []
    monkeypatch.setattr(os, "replace", lambda source, target: names.append(source))
    with begun(path):
        stale = Path(names[0])
    monkeypatch.undo()
    assert stale.exists()
    stale.write_bytes(stale.read_bytes()[:size])
    Log(path).close()
    assert not stale.exists()


def test_log_removes_no_file_that_is_called_like_a_temporary_one(path: str, tmp_path: Path) -> None:
    """What was not left half-written by a run of this path stays: another program's file, and a checkpoint of that name."""
    with begun(path):
        pass
    checkpoint = f"{path}.0123456789ab.tmp"
    with begun(checkpoint) as log:
        log.append([result(0)])
    others = [
        Path(f"{path}.tmp"),
        Path(f"{path}.ffffffffffff.tmp"),
        Path(f"{path}.0123456789ab.tmp.txt"),
        Path(f"{path}.0123456789AB.tmp"),
        tmp_path / "b.pkl.0123456789ab.tmp",
        Path(f"{path}.bak"),
    ]
    for found in others:
        found.write_text("somebody else's")
    os.mkfifo(f"{path}.eeeeeeeeeeee.tmp")
    Log(path).close()
    assert all(found.exists() for found in others)
    assert indices(checkpoint) == [0]


# --- when the disk says no ----------------------------------------------------------------------


def failing(call: Callable[..., Any], number: int, first: int = 1, last: int = 10**9) -> Callable[..., Any]:
    """Let the nth calls of a system call fail."""
    count = 0

    def run(*args: Any) -> Any:
        nonlocal count
        count += 1
        if first <= count <= last:
            raise OSError(number, os.strerror(number))
        return call(*args)

    return run


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EFBIG])
def test_log_goes_on_when_an_append_could_not_be_written(
    path: str, monkeypatch: pytest.MonkeyPatch, nth: int, number: int
) -> None:
    """After a failed write the file is as it was, and the next append works."""
    big = result(1, b"m", [b"x" * 100_000, b"y" * 100_000])  # several writes
    with begun(path) as log:
        log.append([result(0), grouped(7, 8)])
        size = log.size
        monkeypatch.setattr(os, "write", failing(os.write, number, nth))
        with pytest.raises(OSError, match=os.strerror(number)):
            log.append([big, grouped(5, 6)])
        monkeypatch.undo()
        assert log.size == size
        log.append([big, grouped(5, 6), result(2)])
    assert indices(path) == [0, 7, 8, 1, 5, 6, 2]


def test_log_goes_on_when_a_failed_append_could_not_be_cut_off(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a failed append left behind is cut by the next one, should the cut have failed as well."""
    with begun(path) as log:
        log.append([result(0)])
        write = os.write
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", failing(lambda fd, data: write(fd, data[:20]), errno.ENOSPC, 2))
            patched.setattr(os, "ftruncate", failing(os.ftruncate, errno.EIO))
            with pytest.raises(OSError, match="No space"):
                log.append([result(1)])
        assert log.size == log.end + 20
        log.append([result(2)])
    assert indices(path) == [0, 2]


@pytest.mark.parametrize("last", [1, 2, 3], ids=["once", "twice", "thrice"])
def test_log_writes_a_fresh_file_when_an_fsync_failed(
    path: str, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """After a failed fsync the old descriptor is not trusted again: all that was acknowledged is written anew."""
    with begun(path) as log:
        log.append([result(0), grouped(7, 8)])
        before = os.stat(path).st_ino
        held = open(path, "rb")  # noqa: SIM115 - so that its number is not used again
        monkeypatch.setattr(os, "fsync", failing(os.fsync, errno.EIO, 1, last))
        failures = 0
        while True:
            try:
                log.append([result(1), grouped(5, 6)])
            except OSError:
                failures += 1
            else:
                break
        monkeypatch.undo()
        assert 1 <= failures <= last
        assert os.stat(path).st_ino != before
        with pytest.raises(CheckpointLockedError):
            Log(path)
        log.append([result(2)])
        held.close()
    assert indices(path) == [0, 7, 8, 1, 5, 6, 2]


def test_log_writes_a_fresh_file_when_someone_deleted_it(path: str) -> None:
    """A file that is deleted during a run comes back whole with the next append."""
    with begun(path) as log:
        log.append([result(0), grouped(7, 8)])
        os.unlink(path)
        log.append([result(1)])
        with pytest.raises(CheckpointLockedError):
            Log(path)
    assert indices(path) == [0, 7, 8, 1]


@pytest.mark.parametrize("how", ["deleted", "moved"])
@pytest.mark.parametrize("step", ["append", "replace"])
def test_log_does_not_overwrite_the_file_of_another_run(path: str, how: str, step: str) -> None:
    """A run whose file was taken away leaves alone what another run began in its place."""
    with begun(path) as log:
        log.append([result(0)])
        if how == "deleted":
            os.unlink(path)
        else:
            os.rename(path, f"{path}.elsewhere")
        with begun(path) as other:
            other.append([result(5)])
            theirs = os.stat(path)
            with contextlib.suppress(OSError):
                if step == "append":
                    log.append([result(1)])
                else:
                    log.replace(HEAD, FINGERPRINT, [result(1)], about=ABOUT)
            assert os.path.samestat(os.stat(path), theirs)
            other.append([result(6)])
    assert indices(path) == [5, 6]


def test_log_creates_missing_folders(tmp_path: Path) -> None:
    """A folder that does not exist is made."""
    path = tmp_path / "a" / "b" / "c.pkl"
    with begun(str(path)) as log:
        log.append([result(0)])
    assert indices(str(path)) == [0]


LIMITED = """
    import resource, sys
    from thread_chunks._records import RESULT, Record
    from thread_chunks._format import About
    from thread_chunks._log import Log

    log = Log(sys.argv[1])
    log.replace(b"\\x80\\x05K\\x01.", bytes(32), about=About())
    log.append([Record(RESULT, 0, 0.0, 0, b"small")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.size + 1000, resource.RLIM_INFINITY))
    for payload, buffers in ((b"x" * 5000, ()), (b"x", [b"y" * 200_000])):
        try:
            log.append([Record(RESULT, 1, 0.0, 0, payload, buffers)])
        except OSError as error:
            print(error.errno)
    log.append([Record(RESULT, 2, 0.0, 0, b"small")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.append([Record(RESULT, 3, 0.0, 0, b"x" * 5000)])
    log.close()
"""


def test_log_goes_on_when_the_file_may_not_grow(path: str, programs: Programs) -> None:
    """At a real limit of the system an append fails, the file stays whole, and small and later appends work."""
    done = programs.run(LIMITED, path)
    assert done.stdout.split() == [str(errno.EFBIG)] * 2
    assert indices(path) == [0, 2, 3]


def test_log_closes_its_descriptors_in_children(path: str) -> None:
    """A child process does not inherit the file: the lock is free when the run ends, whatever children live."""
    with begun(path) as log:
        log.append([result(0)])
        log.replace(HEAD, FINGERPRINT, about=ABOUT)
        assert not os.get_inheritable(log._descriptor)


FORKED = """
    import os, signal, sys
    from thread_chunks._format import About
    from thread_chunks._log import Log

    log = Log(sys.argv[1])
    log.replace(b"\\x80\\x05K\\x01.", bytes(32), about=About())
    child = os.fork()
    if not child:
        log.close()
        open(sys.argv[2], "x").close()
        signal.pause()
    open(sys.argv[3], "x").close()
    sys.stdin.read() if len(sys.argv) < 5 else signal.pause()
"""


def test_log_is_free_when_its_holder_was_killed_and_a_forked_child_lives(
    path: str, tmp_path: Path, programs: Programs
) -> None:
    """A process that the user forked does not hold the file: neither does its own close touch it, nor its life."""
    process = programs.start(FORKED, path, tmp_path / "child", tmp_path / "parent", "for long")
    wait_for(tmp_path / "child")
    wait_for(tmp_path / "parent")
    with pytest.raises(CheckpointLockedError, match=f"process {process.pid}"):
        Log(path)
    process.send_signal(signal.SIGKILL)
    process.wait(100)
    assert indices(path) == []
    assert members(process.pid)


def test_pieces_are_joined_when_they_are_small() -> None:
    """Many small pieces cost one write, and large ones are not copied."""
    large = bytearray(_log._JOIN_BYTES)
    joined = list(_log._joined_pieces([b"a", b"b", large, b"c", b"d"]))
    assert joined == [b"ab", large, b"cd"]
    assert joined[1] is large
