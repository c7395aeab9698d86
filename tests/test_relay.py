"""What calls print while a bar is on the terminal: every line stands whole, and none is lost.

Programs run in a pseudo-terminal of their own; what they write is drawn by a small terminal
in here, and its rows are looked at.
"""

import os
import re
import signal
import subprocess
import sys
import termios
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import STRICT, is_living, wait_until

from thread_chunks import config
from thread_chunks._relay import Relay

COLUMNS = 100


# --- a small terminal --------------------------------------------------------------------------


def rows(written: bytes, columns: int = COLUMNS) -> list[str]:
    """Draw what a program wrote and return all rows, those that scrolled away too."""
    screen, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[K|[^\x1b]", written.decode(), re.DOTALL):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row += 1
            screen += [""] * (row + 1 - len(screen))
        elif piece == "\x1b[K":
            screen[row] = screen[row][:column]
        else:
            if column == columns:
                row, column = row + 1, 0
                screen += [""] * (row + 1 - len(screen))
            screen[row] = screen[row].ljust(column)[:column] + piece + screen[row][column + 1 :]
            column += 1
    return [text.rstrip() for text in screen]


def test_small_terminal_draws_as_a_terminal_does() -> None:
    """The terminal of these tests overwrites, clears and breaks lines."""
    assert rows(b"bar\rline\r\nnext\r\x1b[Kend\r\n", 80) == ["line", "end", ""]
    assert rows(b"bar 50%hello\r\n", 80) == ["bar 50%hello", ""]
    assert rows(b"abcdef", 4) == ["abcd", "ef"]


class Terminal:
    """A program in a terminal of its own, as started by a shell."""

    def __init__(self, folder: Path, source: str, redirect: str | None = None) -> None:
        path = folder / "program.py"
        path.write_text(PREAMBLE + textwrap.dedent(source), encoding="utf-8")
        self.master, end = os.openpty()
        termios.tcsetwinsize(end, (24, COLUMNS))
        out = end if redirect is None else os.open(folder / redirect, os.O_WRONLY | os.O_CREAT)
        self.process = subprocess.Popen(
            [sys.executable, *STRICT, path], cwd=folder, stdin=end, stdout=out, stderr=end,
            start_new_session=True,
        )  # fmt: skip
        for number in {end, out}:
            os.close(number)
        self.written = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 4096)
            except OSError:
                return
            if not data:
                return
            self.written += data

    def wait_for(self, text: str) -> None:
        """Wait until the program wrote something."""
        wait_until(lambda: text.encode() in self.written, what=f"{text!r} in the terminal")

    def finish(self, code: int = 0) -> list[str]:
        """Wait for the end of the program, and return the rows."""
        assert self.process.wait(100) == code, self.written.decode()
        self._thread.join(100)
        assert not self._thread.is_alive()
        return rows(self.written)

    def close(self) -> None:
        """Kill what a failed test left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(100)
        self._thread.join(100)
        os.close(self.master)


PREAMBLE = """\
import ctypes, fcntl, os, subprocess, sys, termios, threading, time
from thread_chunks import Chunker, ThreadWorker, chunk, config

fcntl.ioctl(0, termios.TIOCSCTTY, 0)

def await_file(name):
    end = time.monotonic() + 100
    while not os.path.exists(name) and time.monotonic() < end:
        time.sleep(0.005)

def prints(x):
    await_file("go")  # the bar is there by now
    for _ in range(5):
        print("print", x)
        sys.stderr.write(f"stderr {x}\\n")
        os.write(1, f"write {x}\\n".encode())
        os.write(2, f"write error {x}\\n".encode())
        subprocess.run(["echo", f"echo {x}"])
        ctypes.CDLL(None).printf(f"printf {x}\\n".encode())
    return x

"""
KINDS = ("print", "stderr", "write", "write error", "echo", "printf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the folder in which the program runs."""
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Terminal]]:
    """Start programs in terminals, and end them."""
    started: list[Terminal] = []

    def begin(source: str, redirect: str | None = None) -> Terminal:
        started.append(Terminal(folder, source, redirect))
        return started[-1]

    yield begin
    for terminal in started:
        terminal.close()


def bars(shown: list[str]) -> list[str]:
    """Return the rows with a bar, and check that each is whole and has its row for itself."""
    found = [row for row in shown if "|" in row or "calls" in row]
    for row in found:
        assert re.fullmatch(
            r"\w+: +\d+%\|[^|]+\| \d+/\d+ calls, [^|]*(elapsed|left|took [^|,]*)(\^C)?", row
        ), row
    return found


def expect_whole(shown: list[str], lines: dict[str, int]) -> None:
    """Check that each line is there as often as it was printed, on a row of its own."""
    counts = {line: shown.count(line) for line in lines}
    assert counts == lines, "\n".join(shown)


# --- child processes ---------------------------------------------------------------------------


def test_lines_of_calls_stand_whole_above_the_bar(start: Callable[..., Terminal], folder: Path) -> None:
    """Whatever way a call prints, every line is whole, and the bar is below them all."""
    program = start("""
        chunk(prints, [[n] for n in range(6)], chunk_size=2)
        print("end")
    """)
    program.wait_for("0/6 calls")
    (folder / "go").touch()
    shown = program.finish()
    expect_whole(shown, {f"{kind} {n}": 5 for kind in KINDS for n in range(6)})
    assert len(bars(shown)) == 1
    assert shown[-2:] == ["end", ""]
    assert "prints: 100%|" in shown[-3]
    assert len(shown) == 6 * 5 * len(KINDS) + 3


def test_lines_of_calls_stand_whole_when_a_run_is_interrupted(
    start: Callable[..., Terminal], folder: Path
) -> None:
    """After Ctrl-C, all that was printed is there, and the last bar too."""
    program = start("""
        def hangs(x):
            prints(x)
            await_file("never")

        try:
            chunk(hangs, [[n] for n in range(6)], chunk_size=2)
        except KeyboardInterrupt:
            print("interrupted")
    """)
    program.wait_for("0/6 calls")
    (folder / "go").touch()
    wait_until(lambda: all(program.written.count(f"printf {n}".encode()) == 5 for n in (0, 1)))
    os.write(program.master, b"\x03")
    shown = program.finish()
    expect_whole(shown, {f"{kind} {n}": 5 for kind in KINDS for n in (0, 1)})
    assert len(bars([row.replace("^C", "") for row in shown])) == 1
    assert shown[-2:] == ["interrupted", ""]


def test_lines_without_an_end_are_shown(start: Callable[..., Terminal], folder: Path) -> None:
    """What is printed without a line end is shown while the call goes on, and on a row of its own."""
    program = start("""
        def begins(x):
            await_file("go")
            print("begun", end="", flush=True)
            await_file("seen")
            print("last", end="")

        chunk(begins, [[1]])
    """)
    program.wait_for("0/1 calls")
    (folder / "go").touch()
    program.wait_for("begun")
    (folder / "seen").touch()
    shown = program.finish()
    expect_whole(shown, {"begun": 1, "last": 1})
    bars(shown)


def test_calls_find_a_terminal_of_the_right_size(start: Callable[..., Terminal], folder: Path) -> None:
    """Programs that ask are told that they print on a terminal, and how wide it is."""
    program = start("""
        def asks():
            return sys.stdout.isatty(), os.isatty(2), tuple(os.get_terminal_size(1))

        assert chunk(asks, [[]]) == [(True, True, (100, 24))]
    """)
    program.finish()


def test_stream_that_is_no_terminal_is_left_alone(start: Callable[..., Terminal], folder: Path) -> None:
    """With stdout in a file, the file gets what is printed there as ever, and the terminal the rest."""
    program = start("chunk(prints, [[n] for n in range(2)], chunk_size=1)", "out.txt")
    program.wait_for("0/2 calls")
    (folder / "go").touch()
    shown = program.finish()
    expect_whole(shown, {f"{kind} {n}": 5 for kind in ("stderr", "write error") for n in range(2)})
    bars(shown)
    written = (folder / "out.txt").read_text().splitlines()
    expect_whole(written, {f"{kind} {n}": 5 for kind in ("print", "write", "echo") for n in range(2)})


def test_chunker_shows_what_is_printed_between_its_runs(start: Callable[..., Terminal], folder: Path) -> None:
    """Workers that stay print above the bar in each run, and straight to the terminal in between."""
    program = start("""
        def lingers(x):
            print("call", x)
            def later():
                await_file("between")
                print("between", x)
                os.close(os.open("printed", os.O_CREAT))
            if x == 0:
                threading.Thread(target=later).start()

        with Chunker(lingers, chunk_size=1) as chunker:
            chunker([[0], [1]])
            print("over")
            os.close(os.open("between", os.O_CREAT))
            await_file("printed")
            chunker([[2], [3]], progress_bar=False)
            chunker([[4], [5]])
        print(len(threading.enumerate()), "thread")
    """)
    shown = program.finish()
    expect_whole(shown, {f"call {n}": 1 for n in range(6)} | {"over": 1, "between 0": 1, "1 thread": 1})
    assert shown.index("over") < shown.index("between 0") < shown.index("call 2")
    assert len(bars(shown)) == 2


def test_caller_that_is_busy_holds_up_no_call(start: Callable[..., Terminal], folder: Path) -> None:
    """A loop over the results may take its time: calls go on to print, however much."""
    program = start("""
        config.printed_bytes = 1000

        def prints_much(x):
            for n in range(2000 if x else 0):
                print(f"line {n}", "." * 80)
            os.close(os.open(f"done {x}", os.O_CREAT))

        with Chunker(prints_much, chunk_size=1) as chunker:
            for index, _ in chunker.as_completed([[0], [1]], path="c.pkl"):
                await_file("done 1")
    """)
    shown = program.finish()
    expect_whole(shown, {f"line {n} {'.' * 80}": 1 for n in range(2000)})
    bars(shown)


def test_program_that_a_call_left_behind_holds_up_nothing(
    start: Callable[..., Terminal], folder: Path
) -> None:
    """A process that keeps the terminal of its call neither delays the end of the run nor is killed by it."""
    program = start("""
        def leaves():
            print("left")
            return subprocess.Popen(["sleep", "1000"], start_new_session=True).pid

        with open("pid", "w") as file:
            file.write(str(chunk(leaves, [[]])[0]) + "\\n")
        assert threading.active_count() == 1
        print("end")
    """)
    shown = program.finish()
    pid = int((folder / "pid").read_text())
    assert is_living(pid)
    os.kill(pid, signal.SIGKILL)
    expect_whole(shown, {"left": 1, "end": 1})


def test_fork_of_the_script_changes_nothing(start: Callable[..., Terminal], folder: Path) -> None:
    """A process that the script forks in the middle of a run may print and end; the run goes on."""
    program = start("""
        import warnings
        warnings.simplefilter("ignore")

        def forks(index, output):
            if index == 0:
                pid = os.fork()
                if pid == 0:
                    print("fork", flush=True)
                    os._exit(0)
                os.waitpid(pid, 0)

        chunk(prints, [[n] for n in range(4)], chunk_size=2, on_result=forks)
    """)
    program.wait_for("0/4 calls")
    (folder / "go").touch()
    shown = program.finish()
    expect_whole(shown, {f"{kind} {n}": 5 for kind in KINDS for n in range(4)})
    assert any("fork" in row for row in shown)
    assert "prints: 100%|" in shown[-2]


def test_run_leaves_no_descriptor_and_no_thread(start: Callable[..., Terminal], folder: Path) -> None:
    """After runs of all kinds the process has the descriptors, threads and streams it had."""
    program = start("""
        def fails(x):
            print(x)
            return 1 / x

        def state():
            return sorted(os.listdir("/dev/fd")), threading.active_count(), sys.stdout, sys.stderr

        chunk(fails, [[1]])
        before = state()
        for options in ({}, {"worker": ThreadWorker}, {"on_result": lambda index, output: 1 / 0}):
            try:
                chunk(fails, [[1], [0]], **options)
            except ZeroDivisionError:
                assert state() == before, (before, state())
        chunker = Chunker(fails, chunk_size=2)
        chunker([[1], [2]])
        del chunker
        end = time.monotonic() + 100
        while state() != before and time.monotonic() < end:
            time.sleep(0.01)
        assert state() == before, (before, state())
    """)
    bars(program.finish())


# --- this process itself ------------------------------------------------------------------------


def test_lines_of_threads_and_callbacks_stand_whole(start: Callable[..., Terminal], folder: Path) -> None:
    """What workers that are threads, `on_result` and a warning print stands whole above the bar, too."""
    program = start("""
        import warnings
        warnings.simplefilter("always")

        def talks(x):
            await_file("go")
            for n in range(5):
                print("print", x)
                print("stderr", x, file=sys.stderr)
            print("begun", x, end="")
            return x

        def hears(index, output):
            print("result", index)
            warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
            warnings.warn(f"warning {index}")

        chunk(talks, [[n] for n in range(4)], chunk_size=2, worker=ThreadWorker, on_result=hears)
    """)
    program.wait_for("0/4 calls")
    (folder / "go").touch()
    shown = program.finish()
    # What a thread began goes on with what it prints next.
    expected = {f"result {n}": 1 for n in range(4)} | {f"warning {n}": 1 for n in range(4)}
    expect_whole(shown, expected | {f"stderr {n}": 5 for n in range(4)})
    text = "\n".join(shown)
    assert all(text.count(f"print {n}") == 5 and text.count(f"begun {n}") == 1 for n in range(4))
    bars(shown)


# --- from inside ------------------------------------------------------------------------------


def test_relay_is_made_only_around_a_terminal(tmp_path: Path) -> None:
    """A file, a stream without a descriptor, and a terminal that is nobody's stdout need no relay."""
    ours, theirs = os.openpty()
    with open(tmp_path / "file", "w", encoding="utf-8") as file, open(theirs, "w", encoding="utf-8") as other:
        assert Relay.around(file) is None
        assert Relay.around(other) is None
    os.close(ours)


def test_relay_writes_straight_to_the_terminal_until_it_is_asked_not_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a bar lines go straight on; with one they wait to be taken; at the end nothing is lost."""
    monkeypatch.setattr(config, "unfinished_line_seconds", 1e6)
    ours, theirs = os.openpty()
    before = threading.active_count()
    relay = Relay(theirs, frozenset({1}))
    with relay.outputs() as (number, other):
        assert other is None
        assert number is not None
        end = os.dup(number)
    os.write(end, b"straight\n")
    assert os.read(ours, 100) == b"straight\r\n"
    told = threading.Event()
    relay.attach(told.set)
    os.write(end, b"kept\nbegun")
    assert told.wait(100)
    assert relay.take() == b"kept\n"
    os.write(end, b" and ended")
    assert relay.detach() == b"begun and ended\n"
    os.write(end, b"last")
    relay.close()
    relay.close()
    assert os.read(ours, 100) == b"last\r\n"
    with pytest.raises(OSError, match="Input/output"):
        os.write(end, b"nobody is there")
    with relay.outputs() as outputs:
        assert outputs == (None, None)
    assert relay.detach() == b""
    assert threading.active_count() == before
    for number in (ours, theirs, end):
        os.close(number)


def test_relay_keeps_the_lines_of_children_apart() -> None:
    """What two children print in pieces at the same time is not mixed within a line."""
    ours, theirs = os.openpty()
    relay = Relay(theirs, frozenset({1, 2}))
    relay.attach(lambda: None)
    with relay.outputs() as (first, same), relay.outputs() as (second, _):
        assert first == same
        assert first is not None
        assert second is not None
        for number, piece in ((first, b"one "), (second, b"two "), (first, b"line\n"), (second, b"line\n")):
            os.write(number, piece)
    assert sorted(relay.detach().splitlines()) == [b"one line", b"two line"]
    relay.close()
    os.close(ours)
    os.close(theirs)


def test_relay_shows_an_unfinished_line_while_another_child_prints_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wait for the rest of a line has a bound, however much comes from elsewhere."""
    monkeypatch.setattr(config, "unfinished_line_seconds", 0.01)
    ours, theirs = os.openpty()
    relay = Relay(theirs, frozenset({1}))
    relay.attach(lambda: None)
    seen = b""
    with relay.outputs() as (first, _), relay.outputs() as (second, _):
        assert first is not None
        assert second is not None
        os.write(first, b"begun")

        def is_shown() -> bool:
            nonlocal seen
            os.write(second, b"line\n")
            seen += relay.take()
            return b"begun\n" in seen

        wait_until(is_shown, what="the line that was only begun")
    relay.close()
    os.close(ours)
    os.close(theirs)


def test_relay_ends_when_nobody_needs_it_any_more() -> None:
    """A relay that was forgotten ends by itself, and writes what it had."""
    ours, theirs = os.openpty()
    before = threading.active_count()
    relay = Relay(theirs, frozenset({1}))
    relay.attach(lambda: None)
    with relay.outputs() as (number, _):
        assert number is not None
        os.write(number, b"forgotten\n")
    del relay
    wait_until(lambda: threading.active_count() == before, what="the end of its thread")
    assert os.read(ours, 100) == b"forgotten\r\n"
    os.close(ours)
    os.close(theirs)
