"""Strangers: nothing of a file that somebody else may have written runs before we said so, or at all.

The trap is a pickle that makes a folder. Whoever finds the folder knows that the
pickle was loaded, however that ended.
"""

import os
import pickle
import secrets
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Programs, Trap, note, noted
from disk import Disk

import thread_chunks._log
from thread_chunks import (
    Checkpoint,
    CheckpointCorruptError,
    CheckpointDamagedWarning,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointRestartedWarning,
    CheckpointUntrustedWarning,
    CheckpointVersionError,
    NotACheckpointError,
    ThreadWorker,
    _format,
    _records,
    chunk,
)
from thread_chunks._records import RESULT, Record

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

STRANGER = 1234
ROWS = [[n] for n in range(4)]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Where the trap leaves its trace."""
    return tmp_path / "trace"


@pytest.fixture
def path(folder: Path) -> Path:
    """Where the run wants its checkpoint."""
    return folder / "c.pkl"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where calls are noted."""
    return tmp_path / "log"


def squarer(log: Path) -> Callable[[int], int]:
    """Return the function of the run: it notes its calls."""

    def square(x: int) -> int:
        note(log, x)
        if len(noted(log)) == 3 and log.with_name("stop").exists():
            raise InterruptedError
        return x * x

    return square


def run(path: Path, log: Path, rows: list[list[int]] = ROWS, **options: Any) -> list[Any]:
    """Make the run whose file is planted."""
    return chunk(squarer(log), rows, chunk_size=1, worker=ThreadWorker, path=path, **options)


def half(path: Path, log: Path, rows: list[list[int]] = ROWS) -> None:
    """Leave the file of a run that was stopped half-way."""
    log.with_name("stop").touch()
    with pytest.raises(InterruptedError):
        run(path, log, rows)
    log.with_name("stop").unlink()
    log.unlink()


def header_of(path: Path) -> _format.Header:
    """Return what a file says of itself."""
    with open(path, "rb") as file:
        return _format.read(file, str(path)).header


def trapped_head(trace: Path, fingerprint: bytes) -> bytes:
    """Return a whole file of our format whose head is the trap."""
    head = pickle.dumps(Trap(trace))
    return _format.header_bytes(secrets.token_bytes(16), fingerprint, head, _format.About()) + head


def legacy(trace: Path) -> bytes:
    """Return what begins as a file of release 1.0.5 does, with the trap behind."""
    pickled = pickle.dumps((Checkpoint, Trap(trace)), protocol=4)
    data = pickled[:11] + pickled[pickled.index(_format.LEGACY_START) :]
    assert _format.is_legacy(data)
    return data


# --- a file that is not ours, not whole, or not of this run ---------------------------------


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def _newer(data: bytes) -> bytes:
    start, end = len(_format._OPEN), _format.HEADER_SIZE - 1
    magic, version, spare, _, *rest, _ = _format._HEADER.unpack(data[start:end])
    crc = _format._header_crc(version + 1, spare, *rest)
    header = _format._HEADER.pack(magic, version + 1, spare, 0, *rest, crc)
    return data[:start] + header + data[end:]


PLANTED: dict[str, tuple[Callable[[bytes], bytes], type[CheckpointError]]] = {
    "another magic": (lambda data: data.replace(_format.MAGIC, b"thrdchnx"), CheckpointCorruptError),
    "the header's checksum": (
        lambda data: _flipped(data, _format.HEADER_SIZE - 2),
        CheckpointCorruptError,
    ),
    "another fingerprint without its checksum": (lambda data: _flipped(data, 40), CheckpointCorruptError),
    "the head's checksum": (lambda data: _flipped(data, len(data) - 1), CheckpointCorruptError),
    "a head that is cut short": (lambda data: data[:-1], CheckpointCorruptError),
    "a header that is cut short": (lambda data: data[:60], CheckpointCorruptError),
    "a newer version": (_newer, CheckpointVersionError),
    "bytes in front": (lambda data: b"\x80\x05" + data, NotACheckpointError),
    "no header": (lambda data: data[_format.HEADER_SIZE :] * 4, NotACheckpointError),
}


@pytest.mark.parametrize("name", PLANTED)
def test_run_unpickles_nothing_of_a_planted_file_when_something_is_wrong_with_it(
    name: str, path: Path, log: Path, trace: Path
) -> None:
    """A file whose header, version or checksums are wrong is refused by every entry point, unread and untouched."""
    change, error = PLANTED[name]
    half(path, log)
    data = change(trapped_head(trace, header_of(path).fingerprint))
    path.write_bytes(data)
    for on_mismatch in ("restart", "reuse", "raise"):
        with pytest.raises(error, match=r"c\.pkl"):
            run(path, log, on_mismatch=on_mismatch)
    arguments = ("square", ROWS, [None] * 4, [False] * 4, 0, 0)
    for read in (
        lambda: Checkpoint.load(path),
        lambda: Checkpoint.tryload(str(path)),
        lambda: Checkpoint.loadif(*arguments, path=str(path)),
        lambda: Checkpoint.loadifparams(*arguments, path=str(path)),
        lambda: Checkpoint(*arguments, path=path),
    ):
        with pytest.raises(error, match=r"c\.pkl"):
            read()
    assert not trace.exists()
    assert path.read_bytes() == data
    assert os.listdir(path.parent) == ["c.pkl"]
    assert noted(log) == []


def test_run_unpickles_nothing_when_a_file_only_nearly_begins_as_an_old_one(
    path: Path, log: Path, trace: Path
) -> None:
    """Only the exact beginning of a file of release 1.0.5 is taken for one."""
    for data in (_flipped(legacy(trace), 20), b" " + legacy(trace), legacy(trace)[1:]):
        path.write_bytes(data.ljust(200, b"."))
        with pytest.raises(NotACheckpointError):
            run(path, log)
        with pytest.raises(NotACheckpointError):
            Checkpoint.load(path)
    assert not trace.exists()
    assert noted(log) == []


def _trapped_record(path: Path, trace: Path, index: int, salt: bytes | None = None) -> bytes:
    record = Record(RESULT, index, 0.0, 0, pickle.dumps(Trap(trace)))
    return b"".join(_records.record_pieces([record], salt or header_of(path).salt, path.stat().st_size))


RECORDS: dict[str, Callable[[Path, Path], bytes]] = {
    "wrong payload": lambda path, trace: _flipped(_trapped_record(path, trace, 3), 70),
    "wrong fields": lambda path, trace: _flipped(_trapped_record(path, trace, 3), 30),
    "of another file": lambda path, trace: _trapped_record(path, trace, 3, bytes(16)),
    "cut short": lambda path, trace: _trapped_record(path, trace, 3)[:-1],
    "of no call": lambda path, trace: _trapped_record(path, trace, 4),
    "of no call at all": lambda path, trace: _trapped_record(path, trace, 2**63),
}


@pytest.mark.parametrize("name", RECORDS)
def test_run_unpickles_no_planted_record_when_it_does_not_fit(
    name: str, path: Path, log: Path, trace: Path
) -> None:
    """A record whose checksums, salt or index do not fit is never unpickled, and its call runs again."""
    half(path, log)
    whole = path.read_bytes()
    path.write_bytes(whole + RECORDS[name](path, trace))
    with pytest.warns(CheckpointDamagedWarning):
        assert Checkpoint.load(path).completed == [True, True, False, False]
    with pytest.warns(CheckpointDamagedWarning):
        assert run(path, log) == [0, 1, 4, 9]
    assert noted(log) == ["2", "3"]
    assert not trace.exists()


@pytest.mark.parametrize("on_mismatch", ["restart", "raise"])
def test_run_unpickles_no_result_of_another_run(on_mismatch: str, path: Path, log: Path, trace: Path) -> None:
    """To say what differs only the parameters of our own user's file are read, never its results."""
    half(path, log, [[9], [8], [7], [6]])
    path.write_bytes(path.read_bytes() + _trapped_record(path, trace, 2))
    if on_mismatch == "restart":
        with pytest.warns(CheckpointRestartedWarning, match="call 0"):
            assert run(path, log) == [0, 1, 4, 9]
    else:
        with pytest.raises(CheckpointMismatchError, match="call 0"):
            run(path, log, on_mismatch="raise")
    assert not trace.exists()


# --- a file that somebody else may have written -------------------------------------------------


def by_everyone(path: Path) -> None:
    """Let every user write the file."""
    path.chmod(0o666)


def by_another_user(path: Path) -> None:
    """Give the file to another user."""
    os.chown(path, STRANGER, STRANGER)


written = pytest.mark.parametrize(
    "written", [by_everyone, pytest.param(by_another_user, marks=pytest.mark.root)]
)

ARGUMENTS = ("square", ROWS, [None] * 4, [False] * 4, 0, 0)

# Entry points, and whether the planted file is one of release 1.0.5.
ENTRIES: dict[str, tuple[Callable[[Path, Path], Any], bool]] = {
    "chunk": (run, False),
    "chunk with reuse": (lambda path, log: run(path, log, [[7], [0]], on_mismatch="reuse"), False),
    "chunk with an old file": (run, True),
    "load": (lambda path, log: Checkpoint.load(path), False),
    "load of an old file": (lambda path, log: Checkpoint.load(path), True),
    "tryload": (lambda path, log: Checkpoint.tryload(str(path)), False),
    "loadif": (lambda path, log: Checkpoint.loadif(*ARGUMENTS, path=str(path)), False),
    "loadifparams": (lambda path, log: Checkpoint.loadifparams(*ARGUMENTS, path=str(path)), False),
    "constructor": (lambda path, log: Checkpoint(*ARGUMENTS, path=path), False),
    "save": (lambda path, log: Checkpoint(*ARGUMENTS).save(str(path)), False),
    "update_save": (lambda path, log: Checkpoint(*ARGUMENTS).update_save(str(path)), False),
}


def _plant(path: Path, log: Path, trace: Path, written: Callable[[Path], None], *, is_old: bool) -> bytes:
    """Plant a file that every check takes for one of this run."""
    half(path, log)
    data = legacy(trace) if is_old else trapped_head(trace, header_of(path).fingerprint)
    path.write_bytes(data)
    written(path)
    return data


@written
@pytest.mark.parametrize("name", ENTRIES)
def test_strangers_file_is_warned_of_before_anything_is_unpickled(
    name: str, written: Callable[[Path], None], path: Path, log: Path, trace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Whoever opens a file that somebody else may have written is warned first, at every entry point."""
    enter, is_old = ENTRIES[name]
    _plant(path, log, trace, written, is_old=is_old)
    seen: list[tuple[type[Warning], bool, str]] = []

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        seen.append((category, trace.exists(), str(message)))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show)
        with suppress(CheckpointError, TypeError):  # the trap returns nothing that anyone could use
            enter(path, log)
    assert trace.exists()  # it was unpickled, so the order is worth something
    assert seen, "nobody was warned"
    category, was_sprung, message = seen[0]
    assert category is CheckpointUntrustedWarning
    assert not was_sprung
    assert "c.pkl" in message
    assert ("another user (1234)" if written is by_another_user else "every user") in message


@written
@pytest.mark.parametrize("name", ENTRIES)
def test_strangers_file_is_refused_and_untouched_when_warnings_are_errors(
    name: str, written: Callable[[Path], None], path: Path, log: Path, trace: Path
) -> None:
    """With warnings as errors such a file is refused by every entry point, before anything in it is unpickled."""
    enter, is_old = ENTRIES[name]
    data = _plant(path, log, trace, written, is_old=is_old)
    before = path.stat()
    with pytest.raises(CheckpointUntrustedWarning, match=r"c\.pkl"):
        enter(path, log)
    assert not trace.exists()
    assert path.read_bytes() == data
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_uid, after.st_mode) == (
        before.st_ino, before.st_mtime_ns, before.st_uid, before.st_mode,
    )  # fmt: skip
    assert os.listdir(path.parent) == ["c.pkl"]
    assert noted(log) == []


@written
def test_strangers_file_is_set_aside_unread_when_it_is_of_another_run(
    written: Callable[[Path], None], path: Path, log: Path, trace: Path
) -> None:
    """Of a stranger's file that does not match nothing is unpickled, not even to say what differs."""
    data = trapped_head(trace, secrets.token_bytes(32))
    path.write_bytes(data)
    written(path)
    with (
        pytest.warns(CheckpointUntrustedWarning),
        pytest.warns(CheckpointRestartedWarning, match="was not read"),
    ):
        assert run(path, log) == [0, 1, 4, 9]
    assert not trace.exists()
    assert path.with_name("c.pkl.bak").read_bytes() == data


@written
def test_strangers_file_is_left_unread_when_it_is_of_another_run_and_a_mismatch_raises(
    written: Callable[[Path], None], path: Path, log: Path, trace: Path
) -> None:
    """Neither does on_mismatch="raise" read a stranger's file to say what differs."""
    data = trapped_head(trace, secrets.token_bytes(32))
    path.write_bytes(data)
    written(path)
    with (
        pytest.warns(CheckpointUntrustedWarning),
        pytest.raises(CheckpointMismatchError, match="was not read"),
    ):
        run(path, log, on_mismatch="raise")
    assert not trace.exists()
    assert path.read_bytes() == data


@written
def test_strangers_file_is_resumed_after_a_warning_when_it_matches(
    written: Callable[[Path], None], path: Path, log: Path
) -> None:
    """A colleague's file that is whole and of this very run is taken up, with the warning."""
    half(path, log)
    written(path)
    with pytest.warns(CheckpointUntrustedWarning, match="make a copy of your own"):
        assert run(path, log) == [0, 1, 4, 9]
    assert noted(log) == ["2", "3"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o400])
def test_own_file_is_not_warned_of(mode: int, path: Path, log: Path) -> None:
    """A file of our own user that not everyone may write is opened without a word."""
    half(path, log)
    path.chmod(mode)
    assert Checkpoint.load(path).completed == [True, True, False, False]
    if mode & stat.S_IWUSR:
        assert run(path, log) == [0, 1, 4, 9]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that another user can enter; those of pytest are private."""
    found = Path(tempfile.mkdtemp())
    found.chmod(0o777)
    yield found
    shutil.rmtree(found)


@pytest.mark.root
def test_files_of_other_users_are_told_apart_when_the_user_is_not_the_superuser(
    open_folder: Path, programs: Programs
) -> None:
    """An ordinary user is warned of another user's file, and not of his own or the superuser's."""
    program = """
        import os, sys, warnings
        from thread_chunks import Checkpoint, CheckpointUntrustedWarning, ThreadWorker, chunk

        options = {"worker": ThreadWorker, "chunk_size": 1, "progress_bar": False}
        chunk(abs, [[1]], path="loaded.pkl", **options)  # the other user may not read our modules
        os.umask(0o022)
        owners = {"root": 0, "own": 1234, "other": 1235}
        for name, owner in owners.items():
            Checkpoint("abs", [[1]], [None], [False], 0, 0, path=f"{name}.pkl")
            os.chown(f"{name}.pkl", owner, owner)
        os.setgroups([])
        os.setgid(1234)
        os.setuid(1234)
        for name in owners:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                Checkpoint.load(f"{name}.pkl")
            print(name, [warning.category.__name__ for warning in caught])
        try:
            chunk(abs, [[1]], path="other.pkl", **options)
        except CheckpointUntrustedWarning as error:
            print(error)
    """
    out = programs.run(program, cwd=open_folder).stdout.splitlines()
    assert out[:3] == ["root []", "own []", "other ['CheckpointUntrustedWarning']"]
    assert "another user (1235)" in out[3]


# --- names and permissions of what we write ---------------------------------------------------------


def test_run_follows_no_link_at_a_name_that_can_be_guessed(path: Path, log: Path) -> None:
    """Links planted at every likely temporary or backup name are not written through, and stay."""
    victim = path.with_name("victim")
    victim.write_text("precious")
    pid = os.getpid()
    names = [
        *(f"c.pkl{end}" for end in (".tmp", "~", ".new", ".part", ".lock", ".bak", f".{pid}", f".tmp.{pid}")),
        *(f"c.pkl.{pid}.tmp", f".c.pkl.{pid}.tmp", ".c.pkl.tmp", "c.tmp", ".c.pkl.swp", "tmp"),
    ]
    for name in names:
        path.with_name(name).symlink_to(victim)
    half(path, log, [[5], [6], [7], [8]])
    with pytest.warns(CheckpointRestartedWarning, match=r"c\.pkl\.bak1"):
        assert run(path, log) == [0, 1, 4, 9]
    Checkpoint.load(path).save()
    assert victim.read_text() == "precious"
    assert all(path.with_name(name).readlink() == victim for name in names)
    assert sorted(os.listdir(path.parent)) == sorted([*names, "victim", "c.pkl", "c.pkl.bak1"])


@pytest.mark.parametrize("nth", [1, 2], ids=["when the file is made", "when the file is folded"])
def test_run_follows_no_link_when_its_temporary_name_was_guessed(
    nth: int, path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who guesses even the random name gains nothing: the file must not exist when it is made."""
    victim = path.with_name("victim")
    victim.write_text("precious")
    guessed: list[Path] = []
    draw = os.urandom

    def urandom(size: int) -> bytes:
        drawn = draw(size)
        if (
            sys._getframe(1).f_globals["__name__"] == "thread_chunks._log"
        ):  # the salt: the name is its beginning
            guessed.append(path.with_name(f"c.pkl.{drawn[:6].hex()}.tmp"))
            if len(guessed) == nth:
                guessed[-1].symlink_to(victim)
        return drawn

    monkeypatch.setattr(os, "urandom", urandom)
    if nth == 1:
        with pytest.raises(FileExistsError):
            run(path, log)
        assert noted(log) == []
    else:
        assert run(path, log) == [0, 1, 4, 9]  # a file that is not folded is whole, too
        assert Checkpoint.load(path).output == [0, 1, 4, 9]
    assert len(guessed) >= nth
    assert victim.read_text() == "precious"
    assert victim.stat().st_nlink == 1


def test_run_follows_no_link_when_it_clears_up(path: Path, log: Path) -> None:
    """A link that is called like the rest of a dead run is none: it stays, and what it leads to."""
    victim = path.with_name("victim")
    victim.write_text("precious")
    stale = path.with_name("c.pkl.0123456789ab.tmp")
    stale.symlink_to(victim)
    assert run(path, log) == [0, 1, 4, 9]
    assert stale.is_symlink()
    assert victim.read_text() == "precious"


def test_temporary_names_are_random(path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two temporary names are alike, and none can be told from the process, the path or the time."""
    disk = Disk()
    monkeypatch.setattr(thread_chunks._log, "os", disk)
    for _ in range(8):
        run(path, log)
        path.unlink()
    made = [Path(change.name).name for change in disk.changes if change.what == "create"]
    tokens = [name.removeprefix("c.pkl.").removesuffix(".tmp") for name in made if name.endswith(".tmp")]
    assert len(tokens) >= 16
    assert len(set(tokens)) == len(tokens)
    assert all(len(token) == 12 for token in tokens)


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_new_files_follow_the_umask(mask: int, path: Path, log: Path) -> None:
    """A new checkpoint may be read and written by whom the umask allows it, half-finished, folded and saved."""
    before = os.umask(mask)
    try:
        half(path, log)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
        run(path, log)
        Checkpoint.load(path).save()
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660])
def test_replaced_files_keep_their_permissions(mode: int, path: Path, log: Path) -> None:
    """Resuming, folding, restarting and reusing never open a file to others, nor its backup."""
    half(path, log)
    path.chmod(mode)
    run(path, log)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    with pytest.warns(CheckpointRestartedWarning):
        run(path, log, [[5], [6]])
    run(path, log, [[6], [5], [7]], on_mismatch="reuse")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_IMODE(path.with_name("c.pkl.bak").stat().st_mode) == mode


def test_private_file_is_private_at_every_moment(
    path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What replaces a private file is private from the moment it exists: a descriptor outlives a later chmod."""
    half(path, log)
    path.chmod(0o600)
    modes: list[int] = []

    class Watching(Disk):
        def open(self, path: str, flags: int, mode: int = 0o777) -> int:
            is_new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
            descriptor = super().open(path, flags, mode)
            if is_new:
                modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
            return descriptor

    disk = Watching()
    disk.found(str(path))
    monkeypatch.setattr(thread_chunks._log, "os", disk)
    before = os.umask(0o022)
    try:
        run(path, log)
    finally:
        os.umask(before)
    assert modes
    assert not [oct(mode) for mode in modes if mode & 0o077]
