"""Files and paths: one run at a time, every kind of path, other programs' files, and what dead runs left."""

import errno
import gzip
import io
import os
import pickle
import random
import shutil
import signal
import socket
import sqlite3
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from conftest import Programs, is_living, members, note, noted, wait_for, wait_until
from harness import Case
from saveable_objects import SaveableObject

from thread_chunks import (
    Checkpoint,
    CheckpointLockedError,
    CheckpointRestartedWarning,
    NotACheckpointError,
    ThreadWorker,
    chunk,
)
from thread_chunks._format import START

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

ROWS = [[n] for n in range(4)]
SQUARES = [0, 1, 4, 9]
ARGUMENTS: tuple[str, list[Any], list[Any], list[bool], int, int]
ARGUMENTS = ("square", ROWS, [None] * 4, [False] * 4, 0, 0)


def squarer(log: Path) -> Callable[[int], int]:
    """Make a function that notes its calls; at its third call it fails or waits, if it is told to."""
    place = log.parent

    def square(x: int) -> int:
        note(log, x)
        if x >= 2 and (place / "fail").exists():
            raise ValueError(x)
        if x == 2 and (place / "hold").exists():
            (place / "hold").unlink()
            wait_for(place / "go")
        return x * x

    return square


def run(path: Any, log: Path, rows: list[list[int]] = ROWS, **options: Any) -> list[Any]:
    """Run some calls one after another in this process."""
    usual: dict[str, Any] = {"chunk_size": 1, "worker": ThreadWorker, "path": path}
    return chunk(squarer(log), rows, **(usual | options))


def run_half(path: Any, log: Path) -> None:
    """Make a run that leaves two calls undone."""
    (log.parent / "fail").touch()
    run(path, log, on_error="return")
    (log.parent / "fail").unlink()
    executed(log)


def executed(log: Path) -> list[int]:
    """Return which calls were executed since the last time."""
    found = list(map(int, noted(log)))
    log.unlink(missing_ok=True)
    return found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "c.pkl"


@pytest.fixture
def half(path: Path, log: Path) -> Path:
    """Leave the file of a run of which two calls are done."""
    run_half(path, log)
    return path


# --- two runs on one path: row 53 ------------------------------------------------------


class Held:
    """A run in a thread of this process that waits in its third call."""

    def __init__(self, path: Any, log: Path) -> None:
        self.outputs: list[Any] = []
        self._go = log.parent / "go"
        hold = log.parent / "hold"
        hold.touch()

        def act() -> None:
            self.outputs = run(path, log)

        self._thread = threading.Thread(target=act)
        self._thread.start()
        wait_until(lambda: not hold.exists(), what="the third call")
        assert executed(log) == [0, 1, 2]

    def __enter__(self) -> Self:
        """Return the object."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the run end, which must be right."""
        self._go.touch()
        self._thread.join(100)
        assert self.outputs == SQUARES


@pytest.mark.parametrize("on_mismatch", ["restart", "reuse", "raise"])
@pytest.mark.parametrize("rows", [ROWS, [[5], [6]]], ids=["same", "different"])
def test_second_run_is_refused_when_a_thread_holds_the_path(
    rows: list[list[int]], on_mismatch: str, path: Path, log: Path
) -> None:
    """Of the same or of other parameters, a second run is refused at once, naming the process; the first is right."""
    with Held(path, log):
        with pytest.raises(CheckpointLockedError, match=f"process {os.getpid()}") as caught:
            run(path, log, rows, on_mismatch=on_mismatch)
        assert caught.value.pid == os.getpid()
        assert executed(log) == []
    assert os.listdir(path.parent) == ["c.pkl"]
    assert Checkpoint.load(path).output == SQUARES


def spell_symbolic_link(path: Path) -> Any:
    link = path.with_name("link.pkl")
    link.symlink_to(path)
    return link


def spell_hard_link(path: Path) -> Any:
    link = path.with_name("hard.pkl")
    link.hardlink_to(path)
    return link


def spell_linked_folder(path: Path) -> Any:
    link = path.parent.with_name("linked")
    link.symlink_to(path.parent)
    return link / path.name


SPELLINGS: dict[str, Callable[[Path], Any]] = {
    "relative": lambda path: "c.pkl",
    "dot": lambda path: "./c.pkl",
    "up and down": lambda path: f"../{path.parent.name}/c.pkl",
    "double slashes": lambda path: str(path).replace("/", "//"),
    "bytes": os.fsencode,
    "a symbolic link": spell_symbolic_link,
    "a hard link": spell_hard_link,
    "a linked folder": spell_linked_folder,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_second_run_is_refused_however_the_path_is_spelled(
    name: str, path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file is one file, by whatever name it is reached."""
    monkeypatch.chdir(path.parent)
    with Held(path, log):
        with pytest.raises(CheckpointLockedError):
            run(SPELLINGS[name](path), log)
        assert executed(log) == []


@pytest.mark.parametrize("name", sorted(set(SPELLINGS) - {"a hard link"}))
def test_run_resumes_however_the_path_is_spelled(
    name: str, half: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run goes on from the file, by whatever name it is reached, and links stay links."""
    monkeypatch.chdir(half.parent)
    spelling = SPELLINGS[name](half)
    assert run(spelling, log) == SQUARES
    assert executed(log) == [2, 3]
    assert Checkpoint.load(half).output == Checkpoint.load(spelling).output == SQUARES
    assert not half.is_symlink()


HOLDER = """
    import subprocess

    def fault(x):
        if x == 1 and RUN == 0:
            if sys.argv[2] == "process":
                quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
                started = subprocess.Popen(["sleep", "600"], close_fds=False, start_new_session=True, **quiet)
                note("fork", started.pid)
            elif "of the run" not in sys.argv[2] and not os.fork():
                os.setsid()
                note("fork", os.getpid())
                time.sleep(600)
        if x == 3 and RUN == 0:
            note("here", os.getpid())
            time.sleep(600)

    if sys.argv[2] == "fork of the run" and RUN == 0:
        def acknowledge(index, output):
            note("ack", index)
            if index == 0 and not os.fork():
                os.setsid()
                note("fork", os.getpid())
                time.sleep(600)

    assert sweep(chunk_size=1, worker=ThreadWorker if "thread" in sys.argv[2] else ProcessWorker) == [
        value(x) for x in range(6)
    ]
"""


@pytest.mark.parametrize("kind", ["process", "fork", "fork in a thread", "fork of the run"])
def test_path_is_free_when_the_run_was_killed_although_what_it_started_lives(
    kind: str, programs: Programs
) -> None:
    """After kill -9 of the run the next one begins at once, while processes that its calls or it started live on."""
    case = Case(programs, HOLDER)
    process = case.start(kind)
    wait_until(lambda: any(event.what == "here" for event in case.events()), what="call 3")
    wait_until(lambda: case.acknowledged() >= {0, 1, 2}, what="three results")
    wait_until(lambda: any(event.what == "fork" for event in case.events()), what="what is left behind")
    forks = [event.index for event in case.events() if event.what == "fork"]
    process.kill()
    process.wait()
    try:
        assert len(forks) == 1
        case.finish(kind)
        assert case.started(1)[0] == 3
        assert is_living(forks[0])
    finally:
        for pid in forks:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        programs.finish(process)
        programs.expect_gone(process)


RACER = """
    while not os.path.exists(os.path.join(FOLDER, "go")):
        time.sleep(0.001)
    try:
        rows = [[n + 100 * (int(sys.argv[2]) % 2)] for n in range(6)]
        chunk(abs, rows, chunk_size=2, path="c.pkl", progress_bar=False, worker=ThreadWorker)
        print("done")
    except CheckpointLockedError as error:
        print("refused", error.pid)
    expect_tidy()
"""


def test_file_is_whole_when_processes_with_other_parameters_race_for_it(programs: Programs) -> None:
    """Who comes second is refused or sets the first one's finished file aside: nothing is mixed, nothing is lost."""
    case = Case(programs, RACER)
    running = [case.start(number) for number in range(6)]
    (programs.folder / "go").touch()
    ends = [programs.finish(process)[0].split() for process in running]
    assert all(end[0] in {"done", "refused"} for end in ends)
    done = {number % 2 for number, end in enumerate(ends) if end == ["done"]}
    kept = [Checkpoint.load(path) for path in programs.folder.glob("c.pkl*")]
    assert all(checkpoint.output == [row[0] for row in checkpoint.parameters] for checkpoint in kept)
    assert {checkpoint.output[0] // 100 for checkpoint in kept} == done
    assert not list(programs.folder.glob("*.tmp"))


# --- every kind of path: row 54 -----------------------------------------------------------


def make_socket(path: Path) -> Any:
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(path.parent)  # the names of sockets are short
        server.bind(path.name)
        os.chdir(before)
    return path


def make_fifo(path: Path) -> Any:
    os.mkfifo(path)
    return path


def make_folder(path: Path) -> Any:
    path.mkdir()
    return path


def make_null(path: Path) -> Any:
    path.symlink_to("/dev/null")
    return path


def make_loop(path: Path) -> Any:
    path.symlink_to(path)
    return path


def make_below_file(path: Path) -> Any:
    path.write_bytes(b"a file")
    return path / "below.pkl"


def make_slash(path: Path) -> Any:
    return f"{path}/"


def make_long(path: Path) -> Any:
    return path.with_name("x" * 300 + ".pkl")


def make_deep(path: Path) -> Any:
    return path.parent / "/".join(["y" * 200] * 30) / "c.pkl"


def make_null_byte(path: Path) -> Any:
    return f"{path}\0.pkl"


REFUSED: dict[str, tuple[Callable[[Path], Any], type[Exception]]] = {
    "a socket": (make_socket, NotACheckpointError),
    "a pipe": (make_fifo, NotACheckpointError),
    "a folder": (make_folder, NotACheckpointError),
    "a device": (make_null, NotACheckpointError),
    "a link to itself": (make_loop, OSError),
    "below a file": (make_below_file, OSError),
    "a name of 300 characters": (make_long, OSError),
    "a path of 6000 characters": (make_deep, OSError),
    "with a null byte": (make_null_byte, ValueError),
}


@pytest.mark.parametrize("act", ["run", "made", "save"])
@pytest.mark.parametrize("name", REFUSED)
def test_path_is_refused_before_any_call_when_no_file_can_be_there(
    name: str, act: str, path: Path, log: Path
) -> None:
    """What is no regular file, or cannot be one, is an error before any call: no hang, and nothing is changed."""
    make, error = REFUSED[name]
    target = make(path)
    before = _shape(path.parent)
    acts: dict[str, Callable[[], Any]] = {
        "run": lambda: run(target, log),
        "made": lambda: Checkpoint(*ARGUMENTS, path=target),
        "save": lambda: Checkpoint(*ARGUMENTS).save(target),
    }
    with pytest.raises(error):
        acts[act]()
    assert executed(log) == []
    assert _shape(path.parent) == before


def _shape(folder: Path) -> dict[str, int]:
    """Return what is in a folder, and of which kind it is; folders that were made on the way do not count."""
    return {
        name: os.lstat(folder / name).st_mode for name in os.listdir(folder) if not name.startswith("yyy")
    }


def test_empty_path_gets_the_default_name_when_it_is_given(
    folder: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty path is a name without an extension, or refused: never a run that silently saves nothing."""
    monkeypatch.chdir(folder)
    try:
        run("", log)
    except (OSError, ValueError):
        assert executed(log) == []
        assert os.listdir(folder) == []
    else:
        (name,) = os.listdir(folder)
        assert name == "Checkpoint.pkl"
        assert Checkpoint.load("").output == SQUARES


def test_folder_gets_the_default_name_when_the_path_ends_with_a_slash(path: Path, log: Path) -> None:
    """A path that ends with a slash has no extension either: saved where load() finds it, or refused."""
    target = f"{path.parent / 'inner'}/"
    try:
        run(target, log)
    except (OSError, ValueError):
        assert executed(log) == []
    else:
        assert Checkpoint.load(target).output == SQUARES


@pytest.mark.parametrize("length", [200, 237, 238, 239, 240, 247, 250, 251, 252, 254, 255])
def test_long_name_works_or_is_refused_before_any_call(length: int, folder: Path, log: Path) -> None:
    """A name that the system allows is used, or refused before any call; never found too long in the middle."""
    path = folder / ("x" * (length - 4) + ".pkl")
    try:
        assert run(path, log) == SQUARES
    except OSError as error:
        assert error.errno == errno.ENAMETOOLONG  # noqa: PT017 - it need not be raised
        assert executed(log) == []
        assert os.listdir(folder) == []
        return
    executed(log)
    assert Checkpoint.load(path).output == SQUARES
    before = path.read_bytes()
    try:
        with pytest.warns(CheckpointRestartedWarning):
            run(path, log, [[5]])
    except OSError as error:
        assert error.errno == errno.ENAMETOOLONG  # noqa: PT017 - it need not be raised
        assert executed(log) == []
        assert path.read_bytes()[20:] == before[20:]
        assert len(os.listdir(folder)) == 1


@pytest.mark.parametrize(
    "name",
    [
        "new\nline.pkl",
        "back\\slash.pkl",
        "*?[a].pkl",
        "-rf.pkl",
        "%s{}.pkl",
        *([b"\xff\xfe.pkl"] if sys.platform == "linux" else []),  # elsewhere names are text
        "~.pkl",
        "c.pkl ",
    ],
)
def test_path_may_hold_any_character(name: str | bytes, folder: Path, log: Path) -> None:
    """Names that shells, patterns and formats would trip over are used as they are, for temporary files too."""
    path = os.path.join(os.fsencode(folder), os.fsencode(name))
    run_half(path, log)
    assert run(path, log) == SQUARES
    assert executed(log) == [2, 3]
    assert os.listdir(os.fsencode(folder)) == [os.fsencode(name)]
    assert Checkpoint.load(os.fsdecode(path)).output == SQUARES


def test_dangling_link_leads_to_a_new_file_in_a_missing_folder(path: Path, log: Path) -> None:
    """A link to nowhere stays one, and where it leads the file is made, and its folder."""
    target = path.parent / "missing" / "folder" / "target.pkl"
    path.symlink_to(target)
    assert run(path, log) == SQUARES
    assert path.is_symlink()
    assert Checkpoint.load(target).output == SQUARES
    with pytest.warns(CheckpointRestartedWarning, match=r"target\.pkl\.bak"):
        run(path, log, [[5]])
    assert path.is_symlink()
    assert sorted(os.listdir(target.parent)) == ["target.pkl", "target.pkl.bak"]


def test_hard_link_keeps_what_it_had_when_the_file_is_replaced(half: Path, log: Path) -> None:
    """The other name of a file is never left with something that cannot be loaded: at least what it had is there."""
    other = half.with_name("other.pkl")
    other.hardlink_to(half)
    assert run(half, log) == SQUARES
    assert executed(log) == [2, 3]
    assert Checkpoint.load(half).output == SQUARES
    assert Checkpoint.load(other).completed[:2] == [True, True]
    assert run(other, log) == SQUARES
    assert set(executed(log)) <= {2, 3}


@pytest.mark.parametrize("worker", ["process", "thread"])
def test_relative_path_stays_what_it_was_when_calls_change_the_directory(
    worker: str, programs: Programs
) -> None:
    """f and on_result may change the working directory: file, temporary files and .bak stay where the call was made."""
    case = Case(
        programs,
        """
        os.mkdir("elsewhere")

        def fault(x):
            os.chdir(os.path.join(FOLDER, "elsewhere"))

        kind = ThreadWorker if sys.argv[2] == "thread" else ProcessWorker
        assert sweep(worker=kind) == [value(x) for x in range(6)]
        os.chdir(FOLDER)
        assert os.listdir("elsewhere") == []
        os.rmdir("elsewhere")
        expect_tidy()
        """,
    )
    case.run(worker)
    case.finish(worker)


# --- other programs' files: row 55 -----------------------------------------------------------


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (self.trace,)


class Notes(SaveableObject):  # type: ignore[misc]
    """Another class of somebody who uses saveable-objects."""

    def __init__(self, text: str, path: str | None = None) -> None:
        super().__init__(path)
        self.text = text


def foreign(name: str, trace: Path) -> bytes:
    """Return the bytes of another program's file."""
    noise = random.Random(3).randbytes(5000)  # noqa: S311 - bytes that are nobody's
    buffer = io.BytesIO()
    trap = [Trap(str(trace)), "padding" * 50]
    if name.startswith("pickle of protocol"):
        return pickle.dumps(trap, int(name[-1]))
    if name == "npy":
        np.save(buffer, np.arange(100))
    elif name == "npz":
        np.savez(buffer, a=np.arange(100))
    elif name == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a", noise)
    elif name == "sqlite":
        connection = sqlite3.connect(":memory:")
        connection.execute("create table t (a)")
        buffer.write(connection.serialize())
        connection.close()
    return {
        "text": b"some text\n" * 50,
        "byte": b"x",
        "csv": b"x,y\r\n1,4\r\n" * 20,
        "json": b'{"func_name": "square", "output": [1, 4, 9]}',
        "png": b"\x89PNG\r\n\x1a\n" + noise,
        "hdf5": b"\x89HDF\r\n\x1a\n" + noise,
        "elf": b"\x7fELF" + noise,
        "gzip of a pickle": gzip.compress(pickle.dumps(trap)),
        "zeros": bytes(5000),
        "noise": noise,
        "saveable object": pickle.dumps(Notes("text")) + pickle.dumps(((), {})),
        "begins as ours": START[:7] + noise,
        "our magic elsewhere": b"    " + START + noise,
        "trap behind a start that is nearly ours": START[:4] + b"thrdchnq" + bytes(73) + pickle.dumps(trap),
    }.get(name, buffer.getvalue())


FOREIGN = [
    "text", "byte", "csv", "json", "png", "hdf5", "elf", "gzip of a pickle", "zeros", "noise", "npy", "npz", "zip",
    "sqlite", "saveable object", "begins as ours", "our magic elsewhere", "trap behind a start that is nearly ours",
    *(f"pickle of protocol {number}" for number in range(6)),
]  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_other_programs_file_is_left_alone_at_every_entry_point(
    name: str, path: Path, log: Path, tmp_path: Path
) -> None:
    """No way of using a checkpoint changes or unpickles what is none: bytes, times and owner stay, and no call runs."""
    trace = tmp_path / "trace"
    data = foreign(name, trace)
    path.write_bytes(data)
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18))
    before = path.stat()
    acts: dict[str, Callable[[], Any]] = {
        "restart": lambda: run(path, log),
        "reuse": lambda: run(path, log, on_mismatch="reuse"),
        "raise": lambda: run(path, log, on_mismatch="raise"),
        "load": lambda: Checkpoint.load(path),
        "made": lambda: Checkpoint(*ARGUMENTS, path=path),
        "save": lambda: Checkpoint(*ARGUMENTS).save(str(path)),
        "update_save": lambda: Checkpoint(*ARGUMENTS).update_save(str(path)),
        "loadif": lambda: Checkpoint.loadif(*ARGUMENTS, path=path),
        "loadifparams": lambda: Checkpoint.loadifparams(*ARGUMENTS, path=path),
    }
    for act in acts.values():
        with pytest.raises(NotACheckpointError, match=r"c\.pkl is not a checkpoint.*left alone"):
            act()
        after = path.stat()
        assert path.read_bytes() == data
        assert (after.st_ino, after.st_mtime_ns, after.st_mode) == (
            before.st_ino, before.st_mtime_ns, before.st_mode,
        )  # fmt: skip
    assert os.listdir(path.parent) == ["c.pkl"]
    assert executed(log) == []
    assert not trace.exists()


def test_empty_file_is_used_at_every_entry_point(path: Path, log: Path) -> None:
    """A file without a byte holds nothing: runs and saves use it and keep its mode, and load() says what it is."""
    acts: list[Callable[[], Any]] = [
        lambda: run(path, log),
        lambda: run(path, log, on_mismatch="raise"),
        lambda: run(path, log, on_mismatch="reuse"),
        lambda: Checkpoint(*ARGUMENTS, path=path),
        lambda: Checkpoint(*ARGUMENTS).save(str(path)),
        lambda: Checkpoint.loadifparams(*ARGUMENTS, path=path),
    ]
    for act in acts:
        path.write_bytes(b"")
        path.chmod(0o640)
        with pytest.raises(NotACheckpointError):
            Checkpoint.load(path)
        assert path.read_bytes() == b""
        act()
        assert len(Checkpoint.load(path).parameters) == 4
        assert path.stat().st_mode & 0o777 == 0o640
        path.unlink()


def test_empty_file_stays_empty_when_the_run_is_refused(path: Path, log: Path) -> None:
    """An empty file that somebody made is not removed by a run that cannot start."""
    path.write_bytes(b"")
    with pytest.raises(TypeError):
        run(path, log, [[threading.Lock()]])  # type: ignore[list-item]
    assert path.read_bytes() == b""
    assert os.listdir(path.parent) == ["c.pkl"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_backup_takes_no_name_that_is_taken(kind: str, path: Path, log: Path) -> None:
    """What somebody keeps at c.pkl.bak is not overwritten: the old file is set aside under the next name."""
    run(path, log)
    old = path.read_bytes()
    taken = Path(f"{path}.bak")
    if kind == "file":
        taken.write_text("mine")
    elif kind == "folder":
        taken.mkdir()
    else:
        taken.symlink_to("nowhere")
    with pytest.warns(CheckpointRestartedWarning, match=r"c\.pkl\.bak1"):
        run(path, log, [[5]])
    assert Path(f"{path}.bak1").read_bytes() == old
    assert kind != "file" or taken.read_text() == "mine"
    assert kind != "folder" or taken.is_dir()
    assert kind != "link" or os.readlink(taken) == "nowhere"


# --- what dead runs left, times, copies, files in progress: row 56 ------------------------------


def test_stale_temporary_files_are_removed_and_no_others(half: Path, log: Path) -> None:
    """What a dead run of this very file left is removed by the next one; whatever is named otherwise stays."""
    stale = ["c.pkl.0123456789ab.tmp", "c.pkl.ffffffffffff.tmp"]
    others = [
        "c.pkl.tmp", "c.pkl.bak", "c.pkl.lock", "c.pkl.eeeeeeeeeeee.tmp", "d.pkl.0123456789ab.tmp", "c.pkl.0123456789AB.tmp",
        "c.pkl.0123456789a.tmp", "c.pkl.0123456789abc.tmp", "xc.pkl.0123456789ab.tmp", "cxpkl.0123456789ab.tmp",
        "c.pkl.0123456789ab.tmp.txt", "c.pkl.0123456789ab.tmp\n",
    ]  # fmt: skip
    for name in stale:
        half.with_name(name).touch()  # nothing was written yet
    for name in others:
        half.with_name(name).write_text("left")
    folder = half.with_name("c.pkl.aaaaaaaaaaaa.tmp")
    folder.mkdir()
    assert run(half, log) == SQUARES
    assert executed(log) == [2, 3]
    assert sorted(os.listdir(half.parent)) == sorted(["c.pkl", folder.name, *others])
    assert all(half.with_name(name).read_text() == "left" for name in others)


def test_temporary_file_of_a_living_run_is_not_removed(path: Path, log: Path) -> None:
    """A run or load that is refused touches nothing of the run that holds the file."""
    with Held(path, log):
        temporary = path.with_name("c.pkl.0123456789ab.tmp")
        temporary.write_text("in use")
        with pytest.raises(CheckpointLockedError):
            run(path, log)
        Checkpoint.load(path)
        assert temporary.read_text() == "in use"


TEN_YEARS = 10 * 365 * 24 * 3600


@pytest.mark.parametrize("shift", [-TEN_YEARS, TEN_YEARS], ids=["past", "future"])
def test_run_resumes_whatever_the_times_of_its_file_are(shift: int, half: Path, log: Path) -> None:
    """Nothing depends on the times of a file or of its folder."""
    stale = half.with_name("c.pkl.0123456789ab.tmp")
    stale.touch()
    moment = time.time() + shift
    for target in (half, stale, half.parent):
        os.utime(target, (moment, moment))
    assert Checkpoint.load(half).completed == [True, True, False, False]
    assert run(half, log) == SQUARES
    assert executed(log) == [2, 3]
    os.utime(half, (moment, moment))
    assert run(half, log) == SQUARES
    assert executed(log) == []
    assert os.listdir(half.parent) == ["c.pkl"]


CLOCK = """
    import itertools

    real = time.time
    shift = 10 * 365 * 24 * 3600
    jumps = itertools.cycle([0, shift, -shift])
    time.time = lambda: real() + next(jumps)
    time.time_ns = lambda: int(time.time() * 1e9)

    def fault(x):
        if x == 4 and sys.argv[2] == "fails":
            raise ValueError(x)

    try:
        assert sweep() == [value(x) for x in range(6)]
    except ValueError:
        print("failed")
    expect_tidy()
"""


def test_run_is_right_when_the_clock_jumps_by_years(programs: Programs) -> None:
    """A clock that is set forth and back by ten years at every look changes nothing, in a run and when it resumes."""
    case = Case(programs, CLOCK)
    assert case.run("fails").stdout == "failed\n"
    case.finish("whole")


def test_run_goes_on_in_another_folder_when_its_file_was_copied(half: Path, log: Path) -> None:
    """A copy is a checkpoint of its own: it resumes where it is, and the original is untouched."""
    before = half.read_bytes()
    copy = half.parent / "elsewhere" / "d.pkl"
    copy.parent.mkdir()
    shutil.copy(half, copy)
    assert run(copy, log) == SQUARES
    assert executed(log) == [2, 3]
    assert half.read_bytes() == before
    assert Checkpoint.load(copy).path == str(copy)
    half.rename(half.with_name("moved.pkl"))
    assert run(half.with_name("moved.pkl"), log) == SQUARES
    assert executed(log) == [2, 3]


def test_copy_of_a_file_in_progress_is_free(path: Path, log: Path) -> None:
    """A copy of a file that a living run holds is held by nobody, although the holder's number stands in it."""
    copy = path.with_name("copy.pkl")
    with Held(path, log):
        wait_until(lambda: Checkpoint.load(path).done == 2, what="two results")
        shutil.copy(path, copy)
        assert run(copy, log) == SQUARES
        assert executed(log) == [2, 3]
    assert sorted(os.listdir(path.parent)) == ["c.pkl", "copy.pkl"]


IN_PROGRESS = """
    def fault(x):
        while x == 3 and not os.path.exists(os.path.join(FOLDER, "go")):
            time.sleep(0.005)

    assert sweep(chunk_size=1) == [value(x) for x in range(6)]
    expect_tidy()
"""


def test_file_in_progress_can_be_loaded_and_copied_but_not_saved_over(programs: Programs) -> None:
    """From another process load() shows what is saved, save() is refused, a copy can be made, and the run is right."""
    case = Case(programs, IN_PROGRESS)
    process = case.start()
    wait_until(lambda: case.acknowledged() == {0, 1, 2}, what="three results")
    before = case.file.read_bytes()
    checkpoint = Checkpoint.load(case.file)
    assert checkpoint.completed == [True] * 3 + [False] * 3
    checkpoint.add_results([5], ["made up"], [0.0], 0)
    for act in (checkpoint.save, checkpoint.update_save):
        with pytest.raises(CheckpointLockedError, match=f"process {process.pid}"):
            act()
    for name, rows in (("f", checkpoint.parameters), ("g", [[1]])):
        with pytest.raises(CheckpointLockedError):
            Checkpoint(name, rows, [None] * len(rows), [False] * len(rows), 0, 0, path=case.file)
    assert case.file.read_bytes() == before
    copy = programs.folder / "copy.pkl"
    Checkpoint.load(case.file).save(str(copy))
    assert Checkpoint.load(copy).completed == [True] * 3 + [False] * 3
    (programs.folder / "go").touch()
    case.end(process)
    case.finish()
    assert case.started(1) == []
    assert not list(programs.folder.glob("*.bak"))


@pytest.mark.parametrize("method", ["save", "update_save"])
def test_killed_runs_file_keeps_its_results_when_it_is_saved(method: str, programs: Programs) -> None:
    """Saving what was loaded from the file of a killed run keeps each result, and a run goes on from it."""
    case = Case(programs, IN_PROGRESS)
    process = case.start()
    wait_until(lambda: case.acknowledged() == {0, 1, 2}, what="three results")
    process.kill()
    wait_until(lambda: not members(process.pid), what="the end of its processes")
    case.end(process, None)
    getattr(Checkpoint.load(case.file), method)()
    assert Checkpoint.load(case.file).completed == [True] * 3 + [False] * 3
    (programs.folder / "go").touch()
    case.finish()
    assert case.started(1) == [3, 4, 5]
