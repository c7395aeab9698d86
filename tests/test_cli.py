"""The command line: what it shows of a checkpoint, in every state that one can be in."""

import json
import os
import pickle
import pty
import secrets
import select
import signal
import tomllib
import tracemalloc
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Programs, Trap, note, noted, wait_until
from matplotlib.figure import Figure
from test_compatibility import old_file

from thread_chunks import Checkpoint, ThreadWorker, __version__, _format, _report, chunk, config
from thread_chunks._glance import Lookout, Spans
from thread_chunks._log import Log
from thread_chunks._plot import draw, without_pauses
from thread_chunks._records import FAILURE, RESULT, Record
from thread_chunks._summary import Inspector, Summary
from thread_chunks.cli import main

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

KEYS = {
    "path", "bytes", "function", "calls", "done", "failed", "missing", "state", "holder", "seconds",
    "seconds_left", "peak_memory", "started", "last_result", "failures", "damages", "notes",
}  # fmt: skip


@pytest.fixture
def path(folder: Path) -> Path:
    """Where the checkpoint is."""
    return folder / "c.pkl"


@pytest.fixture
def tell_process(programs: Programs, folder: Path) -> Callable[..., str]:
    """Run the command line in a process of its own and return what it prints; its errors follow."""

    def run(*arguments: object, code: int = 0) -> str:
        done = programs.run(None, "-m", "thread_chunks", *arguments, code=code, cwd=folder)
        assert "Traceback (most" not in done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def tell(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run the command line in this process and return what it prints; its errors follow."""
    monkeypatch.chdir(folder)

    def run(*arguments: object, code: int = 0) -> str:
        ended: object
        try:
            ended = main([str(argument) for argument in arguments])
        except SystemExit as error:
            ended = error.code
        shown = "".join(capsys.readouterr())
        assert ended == code, shown
        return shown

    return run


def invert(number: int) -> float:
    """Fail for zero, and take the process down for less."""
    if number < 0:
        os.abort()
    return 1 / number


def stop_half_way(path: Path, rows: list[list[int]]) -> None:
    """Leave the file of a run with failures."""
    chunk(invert, rows, path=path, chunk_size=1, on_error="return")


def rows_of(block: str) -> dict[str, str]:
    """Return the lines of a block by the name at their left."""
    return {line[:12].strip(): line[12:] for line in block.splitlines() if line[:1] != " "}


# --- the three states -----------------------------------------------------------------------


@pytest.mark.parametrize("fold_bytes", [0, config.fold_bytes], ids=["records", "folded"])
def test_show_tells_of_a_finished_run(
    path: Path, tell: Callable[..., str], monkeypatch: pytest.MonkeyPatch, fold_bytes: int
) -> None:
    """Folded or not, a finished run shows its counts and times, and the exit code is 0; the file is not changed."""
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)
    chunk(invert, [[number] for number in range(1, 8)], path=path, chunk_size=2)
    before = path.read_bytes()
    shown = rows_of(tell("show", path))
    assert shown["file"].startswith(f"{path}, ")
    assert shown["function"] == "invert"
    assert shown["calls"] == "7 of 7 done (100 %)"
    assert shown["state"] == "complete"
    assert "per call" in shown["time"]
    assert ": call " in shown["slowest"]
    assert ", with [" in shown["slowest"]
    assert path.read_bytes() == before
    told = json.loads(tell("show", path, "--json"))
    checkpoint = Checkpoint.load(path)
    seconds = [taken or 0.0 for taken in checkpoint.seconds]
    assert told["seconds"]["median"] == np.median(seconds)
    assert told["seconds"]["slowest"]["seconds"] == max(seconds)
    slowest = told["seconds"]["slowest"]["call"]
    assert slowest == seconds.index(max(seconds))
    assert told["seconds"]["slowest"]["parameters"] == str(checkpoint.parameters[slowest])
    assert told["started"] == min(filter(None, checkpoint.started))


def test_show_tells_of_a_stopped_run_and_its_failures(
    path: Path, tell: Callable[..., str], tell_process: Callable[..., str]
) -> None:
    """Failed calls are shown with parameters and error, deaths are told apart, and the exit code is 1."""
    stop_half_way(path, [[1], [0], [-1], [2], [0], [0], [0]])
    text = tell("show", path, code=1)
    shown = rows_of(text)
    assert shown["calls"] == "2 of 7 done (28.5 %), 5 to do, 5 failed"
    assert shown["state"].startswith("stopped: no run holds the file")
    assert shown["failed"] == "call 1, with [0]: ZeroDivisionError: division by zero"
    assert "call 2, with [-1]: " in text
    assert "(it took its process down)" in text
    assert "and 2 more; --json shows all" in text
    told = json.loads(tell_process("show", path, "--json", code=1))
    assert [failure["call"] for failure in told["failures"]] == [1, 2, 4, 5, 6]
    assert [failure["died"] for failure in told["failures"]] == [False, True, False, False, False]
    assert told["failed"] == 5
    assert told["missing"] == 5


BACKGROUND = """
    import os, sys, time
    from thread_chunks import chunk

    def work(number):
        end = time.monotonic() + 100
        while number >= 4 and not os.path.exists("go") and time.monotonic() < end:
            time.sleep(0.01)
        return number

    chunk(work, [[number] for number in range(8)], path="c.pkl", chunk_size=2, progress_bar=False)
"""


@pytest.fixture
def background(programs: Programs, folder: Path, path: Path) -> Any:
    """Start a run that has saved four of its eight calls, and goes on when there is a file `go`."""
    process = programs.start(BACKGROUND, cwd=folder)
    wait_until(lambda: path.exists() and path.stat().st_size, what="the checkpoint")
    wait_until(lambda: Checkpoint.load(path).done == 4, what="four results")
    return process


def test_show_tells_of_a_run_at_work(
    path: Path, tell: Callable[..., str], tell_process: Callable[..., str], background: Any
) -> None:
    """While a run goes on, its process and the time left are shown, and the exit code is 3."""
    shown = rows_of(tell_process("show", path, code=3))
    assert shown["calls"] == "4 of 8 done (50 %), 4 to do"
    assert shown["state"].startswith(f"running: process {background.pid} holds the file; about ")
    told = json.loads(tell("show", path, "--json", code=3))
    assert told["holder"] == background.pid
    assert told["state"] == "running"
    assert told["seconds_left"] > 0
    background.kill()
    background.wait(100)
    told = json.loads(tell("show", path, "--json", code=1))
    assert (told["state"], told["holder"], told["seconds_left"]) == ("stopped", None, None)


def test_watch_ends_when_the_run_is_complete(
    path: Path, folder: Path, programs: Programs, background: Any
) -> None:
    """Watched through a pipe, every look is a block; the last one shows the finished run, and the exit code is 0."""
    watcher = programs.start(
        None, "-m", "thread_chunks", "show", "c.pkl", "--watch", "--every", "0.05", cwd=folder
    )
    assert watcher.stdout is not None
    first = [watcher.stdout.readline() for _ in range(3)]
    assert rows_of(first[2])["calls"] == "4 of 8 done (50 %), 4 to do"
    (folder / "go").touch()
    out, err = programs.finish(watcher)
    assert (watcher.returncode, err) == (0, "")
    last = rows_of(out.rpartition("\n\n")[2])
    assert last["calls"] == "8 of 8 done (100 %)"
    programs.finish(background)


def test_watch_draws_over_the_last_block_on_a_terminal(
    folder: Path, programs: Programs, background: Any
) -> None:
    """On a terminal the next block takes the place of the last one, and no line is wider than the terminal."""
    watcher, terminal = start_on_terminal(programs, folder)
    shown = read_until(terminal, b"\x1b[J")
    height = int(shown.rpartition(b"F\x1b[J")[0].rpartition(b"\x1b[")[2])
    assert shown.split(b"\x1b[")[0].count(b"\n") == height
    (folder / "go").touch()
    shown = read_until(terminal, b"8 of 8 done")
    assert watcher.wait(100) == 0
    os.close(terminal)
    programs.finish(background)


def test_watch_ends_quietly_on_ctrl_c(folder: Path, programs: Programs, background: Any) -> None:
    """Ctrl-C ends the watching and not the run: without a traceback, and with the exit code of an interrupt."""
    watcher = programs.start(None, "-m", "thread_chunks", "show", "c.pkl", "--watch", cwd=folder)
    assert watcher.stdout is not None
    assert watcher.stdout.readline()
    watcher.send_signal(signal.SIGINT)
    _, err = programs.finish(watcher)
    assert (watcher.returncode, err) == (130, "")
    (folder / "go").touch()
    programs.finish(background)
    assert background.returncode == 0


def start_on_terminal(programs: Programs, folder: Path) -> tuple[Any, int]:
    """Start watching on a pseudo-terminal."""
    ours, theirs = pty.openpty()
    source = """
        import os, sys
        os.dup2(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY), 1)
        from thread_chunks.cli import main
        sys.exit(main(["show", "c.pkl", "--watch", "--every", "0.05"]))
    """
    watcher = programs.start(source, os.ttyname(theirs), cwd=folder, env={"COLUMNS": "60"})
    wait_until(lambda: select.select([ours], [], [], 0)[0], what="the first block")
    os.close(theirs)
    return watcher, ours


def read_until(terminal: int, mark: bytes) -> bytes:
    """Read what a terminal shows until there is a mark in it."""
    data = b""
    while mark not in data:
        data += os.read(terminal, 4096)
    return data


# --- nothing is unpickled that need not be ----------------------------------------------------


def trapped(path: Path, result: Any, parameter: Any) -> None:
    """Write a file of three calls, of which one has a record with a result."""
    head = Checkpoint("f", [[parameter], [1], [2]], [None] * 3, [False] * 3, 0, 0)
    data = pickle.dumps(head)
    log = Log(str(path))
    log.replace(data, bytes(32), about=_format.About("f", 3, 0))
    log.append([
        Record(RESULT, 1, 0.5, 0, pickle.dumps(result), (), None, (1.7e9, 2, 300)),
        Record(FAILURE, 2, 0.1, 0, b"Traceback:\nOSError: no disk"),
    ])  # fmt: skip
    log.close()


def test_show_unpickles_no_result(path: Path, tell: Callable[..., str], tmp_path: Path) -> None:
    """A result that runs code when it is unpickled is counted, timed and never unpickled."""
    trapped(path, Trap(tmp_path / "trace"), 7)
    told = json.loads(tell("show", path, "--json", code=1))
    assert (told["done"], told["calls"], told["failed"]) == (1, 3, 1)
    assert told["seconds"]["slowest"] == {"call": 1, "seconds": 0.5, "parameters": "[1]"}
    assert told["peak_memory"]["bytes"] == 300 * 1024
    tell("plot", path, "c.png")
    assert not (tmp_path / "trace").exists()


def test_show_unpickles_no_folded_result(path: Path, tell: Callable[..., str], tmp_path: Path) -> None:
    """In the head, too, results are counted and timed as they lie, and not unpickled."""
    trace = tmp_path / "trace"
    chunk(lambda number: Trap(trace) if number else number, [[0], [1]], path=path, worker=ThreadWorker)
    told = json.loads(tell("show", path, "--json"))
    assert told["seconds"]["known"] == 2
    assert not trace.exists()


def test_show_unpickles_nothing_if_asked(path: Path, tell: Callable[..., str], tmp_path: Path) -> None:
    """With --no-unpickle not even the head is unpickled; the counts are the same, and a line says what is missing."""
    trapped(path, 5, Trap(tmp_path / "trace"))
    shown = rows_of(tell("show", path, "--no-unpickle", code=1))
    assert shown["calls"] == "1 of 3 done (33.3 %), 2 to do, 1 failed"
    assert shown["slowest"] == "500 ms: call 1"
    assert shown["failed"] == "call 2: OSError: no disk"
    assert shown["note"] == "nothing was unpickled, as you asked"
    assert not (tmp_path / "trace").exists()


def test_file_that_others_could_have_written_is_only_counted(
    path: Path, tell: Callable[..., str], tmp_path: Path
) -> None:
    """A file that any user may write is counted without being unpickled, and not exported; both say why."""
    trapped(path, Trap(tmp_path / "trace"), Trap(tmp_path / "trace"))
    path.chmod(0o666)
    told = json.loads(tell("show", path, "--json", code=1))
    assert (told["done"], told["failed"], told["function"]) == (1, 1, "f")
    (why,) = told["notes"]
    assert "may be written by every user" in why
    assert "may be written by every user" in tell("export", path, "c.csv", code=6)
    tell("plot", path, "c.png")
    assert not (tmp_path / "trace").exists()


def test_head_that_cannot_be_unpickled_costs_only_the_parameters(
    path: Path, tell: Callable[..., str]
) -> None:
    """Where a module is missing, counts and times are shown all the same, with the reason."""
    chunk(len, [["a"], ["b"]], path=path, chunk_size=1)
    head = b"cno_such_module\nThing\n."
    log = Log(str(path))
    log.replace(head, bytes(32), about=_format.About("f", 2, 1))
    log.append([Record(RESULT, 1, 0.5, 0, b"N.", (), None, (1.7e9, 2, 300))])
    log.close()
    told = json.loads(tell("show", path, "--json"))
    assert told["state"] == "complete"
    assert told["seconds"]["known"] == 1
    assert "no_such_module" in told["notes"][0]


def test_what_a_file_says_cannot_command_the_terminal(path: Path, tell: Callable[..., str]) -> None:
    """Control characters in names and errors are shown escaped."""
    data = pickle.dumps(Checkpoint("f", [[1]], [None], [False], 0, 0))
    log = Log(str(path))
    log.replace(data, bytes(32), about=_format.About("f\x1b[2J", 1, 0))
    log.append([Record(FAILURE, 0, 0.1, 0, b"\x1b]0;title\x07")])
    log.close()
    text = tell("show", path, "--no-unpickle", code=1)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert r"f\x1b[2J" in text


# --- files that are not whole, not new, or not ours ------------------------------------------


def test_damage_is_shown_and_counted(path: Path, tell: Callable[..., str]) -> None:
    """A damaged record and a torn tail are shown with their place; their calls count as missing."""
    stop_half_way(path, [[1], [2], [4], [0]])
    data = bytearray(path.read_bytes())
    start = data.index(pickle.dumps(0.5, 5))
    data[start + 4] ^= 1
    path.write_bytes(data + data[-30:])
    before = path.read_bytes()
    text = tell("show", path, code=1)
    assert rows_of(text)["calls"] == "2 of 4 done (50 %), 2 to do, 1 failed"
    assert "a damaged record of call 1, " in rows_of(text)["damage"]
    assert f"a torn tail, 30 bytes at byte {len(data)}" in text
    told = json.loads(tell("show", path, "--json", code=1))
    assert [(damage["call"], damage["is_tail"]) for damage in told["damages"]] == [(1, False), (None, True)]
    assert path.read_bytes() == before
    assert "a damaged record of call 1" in tell("export", path, "c.csv")


@pytest.mark.parametrize(("kind", "code"), [("half-finished", 1), ("finished", 0), ("just begun", 1)])
def test_file_of_the_old_release_is_shown(
    kind: str, code: int, folder: Path, tell: Callable[..., str]
) -> None:
    """A file of release 1.0.5 is counted; it knows no times, and a line says so."""
    shown = rows_of(tell("show", old_file(kind, folder), code=code))
    done = {"half-finished": 2, "finished": 4, "just begun": 0}[kind]
    assert shown["calls"].startswith(f"{done} of 4 done")
    assert shown["function"] == "add"
    assert "release 1.0.5" in shown["note"]
    assert "time" not in shown
    assert "so there is nothing to draw" in tell("plot", "old.pkl", "c.png", code=6)


def test_file_of_the_old_release_is_not_unpickled_against_the_will(
    folder: Path, tell: Callable[..., str]
) -> None:
    """Such a file can only be unpickled: where that may not be done, it is an error that says so."""
    path = old_file("finished", folder)
    assert "cannot be counted without unpickling" in tell("show", path, "--no-unpickle", code=5)
    path.chmod(0o666)
    assert "may be written by every user" in tell("show", path, code=5)


def test_run_without_calls_is_complete(path: Path, tell: Callable[..., str]) -> None:
    """No call is missing where there is none."""
    chunk(invert, [], path=path)
    assert rows_of(tell("show", path))["calls"] == "0 of 0 done (100 %)"
    told = json.loads(tell("show", path, "--json"))
    assert (told["seconds"], told["started"], told["peak_memory"]) == (None, None, None)
    assert tell("export", path, "c.csv") == ""


def test_path_without_an_extension_is_that_of_the_run(path: Path, tell_process: Callable[..., str]) -> None:
    """Every command takes the path that the run was given."""
    chunk(invert, [[1]], path=path.with_name("sweep"))
    assert rows_of(tell_process("show", "sweep"))["file"].startswith(
        f"{path.with_name('sweep_Checkpoint.pkl')}, "
    )
    tell_process("export", "sweep", "c.csv")
    tell_process("plot", "sweep", "c.png")


def not_there(path: Path) -> None:
    """Leave nothing at the path."""


def other_program(path: Path) -> None:
    """Plant the file of another program."""
    path.write_text("name,value\n" * 50)


def empty(path: Path) -> None:
    """Plant an empty file."""
    path.touch()


def damaged_head(path: Path) -> None:
    """Damage a byte of the head."""
    chunk(invert, [[1]], path=path)
    data = bytearray(path.read_bytes())
    data[_format.HEADER_SIZE + 5] ^= 1
    path.write_bytes(data)


def damaged_header(path: Path) -> None:
    """Damage a byte of the header."""
    chunk(invert, [[1]], path=path)
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    """Leave the first bytes of a checkpoint."""
    chunk(invert, [[1]], path=path)
    path.write_bytes(path.read_bytes()[: _format.HEADER_SIZE + 5])


def newer(path: Path) -> None:
    """Plant the file of a release to come."""
    chunk(invert, [[1]], path=path)
    data = bytearray(path.read_bytes())
    data[12] = 99
    data[160:164] = zlib.crc32(data[4:16] + bytes(4) + data[20:160]).to_bytes(4, "little")
    path.write_bytes(data)


def other_pickle(path: Path) -> None:
    """Plant the pickle of another program."""
    path.write_bytes(pickle.dumps({"results": [1, 2]}))


def link_to_nothing(path: Path) -> None:
    """Leave a link whose target is gone."""
    path.symlink_to("nowhere")


FOREIGN: list[tuple[Callable[[Path], Any], int, str]] = [
    (not_there, 4, "No such file or directory"),
    (link_to_nothing, 4, "No such file or directory"),
    (Path.mkdir, 5, "is not a regular file, so it cannot be a checkpoint"),
    (os.mkfifo, 5, "is not a regular file, so it cannot be a checkpoint"),
    (other_program, 5, "is not a checkpoint of thread-chunks. Is it the file at the path= of the run?"),
    (other_pickle, 5, "is not a checkpoint of thread-chunks. Is it the file at the path= of the run?"),
    (empty, 5, "it is empty. A run that just began has not written to it, or one ended before it could."),
    (
        damaged_head,
        5,
        "is damaged, so nothing in it can be trusted. Look at a backup, or at FILE.bak if there is one.",
    ),
    (
        damaged_header,
        5,
        "is damaged, so nothing in it can be trusted. Look at a backup, or at FILE.bak if there is one.",
    ),
    (
        cut_short,
        5,
        "is damaged, so nothing in it can be trusted. Look at a backup, or at FILE.bak if there is one.",
    ),
    (
        newer,
        5,
        f"(file format 99; this release reads up to {_format.VERSION}). Install a newer release to read it.",
    ),
]
FOR_RUNS = ["left alone", "another path", "move", "afresh", "No call was run"]
"""What only somebody who wants to run something has a use for."""


@pytest.mark.parametrize(("plant", "code", "text"), FOREIGN, ids=lambda each: getattr(each, "__name__", None))
@pytest.mark.parametrize(
    "command", [["show"], ["export", "x.csv"], ["plot", "x.png"]], ids=lambda each: each[0]
)
def test_file_that_is_no_checkpoint_is_one_line_and_a_code(
    plant: Callable[[Path], Any],
    code: int,
    text: str,
    command: list[str],
    path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever is at the path, the error is one line that names it, with advice for looking; nothing is written."""
    plant(path)
    assert main([command[0], str(path), *(str(path.with_name(name)) for name in command[1:])]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(path) in err
    assert err.startswith("thread-chunks: ")
    assert text in err
    assert not [advice for advice in FOR_RUNS if advice in err]
    assert os.listdir(path.parent) in ([], [path.name])


def test_dead_holder_is_not_taken_for_the_process_that_has_its_number_now(path: Path) -> None:
    """A killed run leaves its process number in the file; another process of that number does not hold it."""
    stop_half_way(path, [[1], [0]])
    with open(path, "r+b") as file:
        file.seek(_format.HOLDER_OFFSET)
        file.write(os.getppid().to_bytes(4, "little"))
    assert Inspector(str(path)).look().state == ("stopped" if os.path.isdir("/proc/self/fd") else "running")


def test_wrong_usage_has_its_own_code(
    path: Path, tell: Callable[..., str], tell_process: Callable[..., str]
) -> None:
    """No command, an unknown one, and a period that is none are usage errors; help and version are none."""
    assert "usage: thread-chunks" in tell_process(code=2)
    assert "usage: thread-chunks" in tell("shwo", path, code=2)
    assert "not a number of seconds: '0'" in tell("show", path, "--watch", "--every", "0", code=2)
    assert __version__ in tell("--version")
    assert "exit codes" in tell("--help")


def test_reader_that_goes_away_is_no_error(path: Path, folder: Path, programs: Programs) -> None:
    """``thread-chunks show FILE | head -0`` ends without a word."""
    chunk(invert, [[1]], path=path)
    source = """
        import os, sys
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        from thread_chunks.cli import main
        sys.exit(main(["show", "c.pkl"]))
    """
    assert programs.run(source, cwd=folder).stderr == ""


def test_script_is_installed_with_the_package() -> None:
    """The script of the package is the function that the tests above run."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))
    module, _, name = project["project"]["scripts"]["thread-chunks"].partition(":")
    assert callable(getattr(import_module(module), name))


def test_json_has_the_documented_keys_in_every_state(path: Path, tell: Callable[..., str]) -> None:
    """Scripts find the same keys in every state, and the page on looking inside names each."""
    page = Path(__file__).parents[1].joinpath("docs", "looking-inside.md").read_text(encoding="utf-8")
    for rows, code in (([], 0), ([[1]], 0), ([[1], [0]], 1)):
        path.unlink(missing_ok=True)
        stop_half_way(path, rows)
        told = json.loads(tell("show", path, "--json", code=code))
        assert set(told) == KEYS
    inner = {
        "known",
        "total",
        "median",
        "slowest",
        "call",
        "seconds",
        "parameters",
        "error",
        "traceback",
        "died",
    }
    for key in KEYS | inner | set(told["failures"][0]) | {"offset", "is_tail"}:
        assert f"`{key}`" in page, key


# --- looking again ------------------------------------------------------------------------------


def record(index: int, result: Any = None) -> Record:
    """Return the record of a call."""
    return Record(RESULT, index, 0.5, 0, pickle.dumps(result), (), None, (1.7e9 + index, index % 2, 0))


def test_lookout_reads_on_where_it_stopped(path: Path) -> None:
    """Whoever looks again sees what a first look would, damage and a file written anew included."""
    data = pickle.dumps(Checkpoint("f", [[n] for n in range(9)], [None] * 9, [False] * 9, 0, 0))
    log = Log(str(path))
    log.replace(data, bytes(32), about=_format.About("f", 9, 0))
    again = Inspector(str(path))
    assert again.look().done == 0
    log.append([record(3), Record(FAILURE, 4, 0.1, 0, b"no")])
    assert compare(again, path) == (1, [4])
    with open(path, "ab") as file:
        file.write(secrets.token_bytes(50))  # a record being written
    assert compare(again, path) == (1, [4])
    log.append([record(4), record(3)])
    assert compare(again, path) == (2, [])
    log.replace(data, bytes(32), [record(8)], about=_format.About("f", 9, 0))
    assert compare(again, path) == (1, [])
    log.close()


def compare(again: Inspector, path: Path) -> tuple[int, list[int]]:
    """Look again, and for the first time."""
    one, other = again.look(), Inspector(str(path)).look()
    assert one.holder == other.holder == os.getpid()
    assert (one.damages, one.failures, one.done) == (other.damages, other.failures, other.done)
    for column, same in zip(one.spans, other.spans, strict=True):
        assert column.tolist() == same.tolist()
    return one.done, list(one.failures)


def test_lookout_holds_no_payload(path: Path) -> None:
    """Looking at many large results takes the memory of a few."""
    log = Log(str(path))
    log.replace(pickle.dumps(None), bytes(32), about=_format.About("f", 40, 0))
    log.append(record(index, b"x" * 1_000_000) for index in range(40))
    log.close()
    tracemalloc.start()
    Lookout(str(path), wants_head=False).look()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


def test_time_left_is_that_of_the_workers_at_work() -> None:
    """What is missing, times the mean of the last calls, over the workers that ran them."""
    count = 4000
    seconds = np.where(np.arange(count) < 2000, 100.0, 3.0)
    started, worker = 1.7e9 + np.arange(count), np.arange(count) % 6
    worker[:2000] += 50
    spans = Spans(np.arange(count), seconds, started, worker, np.zeros(count, "u4"))
    summary = Summary("c.pkl", 0, "f", 4600, count, {}, 1, spans)
    assert summary.seconds_left == 600 * 3.0 / 6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 µs"), (2.5e-6, "2.5 µs"), (0.0123, "12.3 ms"), (1.0, "1 s"), (99.0, "99 s"), (150.0, "2 min"),
     (7500.0, "2 h 05 min"), (3600 * 47.0, "47 h 00 min"), (3600 * 50.0, "2 d 2 h")],
)  # fmt: skip
def test_duration_is_shown_in_the_unit_that_fits(seconds: float, text: str) -> None:
    """A duration is short to read, from microseconds to days."""
    assert _report.duration(seconds) == text


# --- pictures and tables ------------------------------------------------------------------------


def test_plot_draws_every_call(path: Path, folder: Path, tell: Callable[..., str]) -> None:
    """Each call is a bar in its worker's lane and a point; the picture is written in the format of its name."""
    stop_half_way(path, [[number] for number in range(30)])
    assert tell("plot", path, "c.png") == ""
    assert (folder / "c.png").read_bytes().startswith(b"\x89PNG")
    tell("plot", path, "c.svg")
    assert b"<svg" in (folder / "c.svg").read_bytes()
    figure = Figure()
    draw(Inspector(str(path)).look(), figure)
    lanes, times = figure.axes
    (bars,), (points,) = lanes.collections, times.collections
    assert len(bars.get_paths()) == len(points.get_offsets()) == 29  # type: ignore[arg-type]
    assert lanes.get_ylabel() == "worker"


def test_pauses_are_cut_out_of_the_picture() -> None:
    """A night between two runs takes little room and is named; short waits stay as they are."""
    started = np.array([100.0, 100.0, 111.0, 40_000.0])
    begin, end, pauses = without_pauses(started, started + np.array([10.0, 9.0, 10.0, 10.0]))
    assert begin[:3].tolist() == [0, 0, 11]
    assert end[:3].tolist() == [10, 9, 21]
    assert begin[3] == pytest.approx(21 + 0.02 * 31, rel=0.05)
    ((place, length),) = pauses
    assert 21 < place < begin[3]
    assert length == 40_000 - 121


def test_nothing_of_ours_is_overwritten(path: Path, folder: Path, tell: Callable[..., str]) -> None:
    """A checkpoint is never overwritten by what is made of one, whatever it is called; another file is."""
    chunk(invert, [[1]], path=path)
    before = path.read_bytes()
    for name in ("c.csv", "c.png"):
        (folder / name).symlink_to(path)
    assert "is a checkpoint, so it was not overwritten" in tell("export", path, "c.csv", code=6)
    assert "is a checkpoint, so it was not overwritten" in tell("plot", path, "c.png", code=6)
    assert path.read_bytes() == before
    (folder / "d.csv").write_text("old")
    tell("export", path, "d.csv")
    assert (folder / "d.csv").read_text().startswith("call,number,output,")
    assert "must end in .csv or .parquet" in tell("export", path, "d.txt", code=6)
    assert "must end in .png" in tell("plot", path, "d.txt", code=6)
    assert "No such file or directory" in tell("export", path, "no/d.csv", code=6)
    assert sorted(os.listdir(folder)) == ["c.csv", "c.pkl", "c.png", "d.csv"]


@pytest.mark.parametrize(
    ("module", "command"),
    [("pandas", ["export", "c.pkl", "c.csv"]), ("matplotlib", ["plot", "c.pkl", "c.png"])],
    ids=["pandas", "matplotlib"],
)
def test_missing_package_is_named_with_the_fix(
    module: str, command: list[str], path: Path, folder: Path, tell_process: Callable[..., str]
) -> None:
    """Without the optional package there is one line that says what to install; showing works without it."""
    chunk(invert, [[1]], path=path)
    (folder / f"{module}.py").write_text("raise ImportError('not installed')")
    assert f"pip install {module}" in tell_process(*command, code=6)
    tell_process("show", path)


def test_show_works_while_calls_are_noted_elsewhere(path: Path, tmp_path: Path) -> None:
    """Looking takes no lock: a run begins and ends while somebody looks all the time."""
    log = tmp_path / "log"
    inspector: list[Inspector] = []

    def look(index: int, _: Any) -> None:
        inspector[:] = inspector or [Inspector(str(path))]
        note(log, f"{index} {inspector[0].look().done}")

    chunk(invert, [[number] for number in range(1, 5)], path=path, chunk_size=1, on_result=look)
    assert [int(line.split()[1]) >= place + 1 for place, line in enumerate(noted(log))] == [True] * 4
