"""The bar: what a terminal shows, what a log file gets, and that nothing of it stays behind."""

import io
import os
import pty
import random
import re
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from conftest import Programs, wait_until

from thread_chunks import _bar, _streams, config, progress
from thread_chunks._bar import Bar
from thread_chunks._pace import Pace
from thread_chunks.progress import Lines, Silent


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what was written to stderr, which is no terminal, since the last time."""
    return lambda: capsys.readouterr().err


def quiet() -> None:
    """Take no notice."""


def live(pace: Pace) -> Bar:
    """Draw a bar at once."""
    bar = Bar(pace, quiet)
    bar.tick()
    return bar


# --- log files ---------------------------------------------------------------------------------


def test_log_gets_few_lines_however_many_calls_there_are(log: Callable[[], str]) -> None:
    """A log file gets the first and the last state, however many calls were saved in between."""
    lines = Lines(Pace("f", 10_000))
    for _ in range(10_000):
        lines.saved(1, 0.0)
        lines.tick()
    lines.close()
    written = log().splitlines()
    assert len(written) == 2
    assert written[0] == "f: 0/10000 calls (0%), ? left, <1 s elapsed"
    assert written[1].startswith("f: 10000/10000 calls (100%), ")
    assert ", took " in written[1]


def test_log_gets_whole_plain_lines(log: Callable[[], str]) -> None:
    """A log file gets whole lines of plain characters, and no control codes."""
    lines = Lines(Pace("f", 100))
    lines.saved(33, 1.0)
    lines.failed(50)
    lines.close()
    lines.close()
    text = log()
    assert text.isascii()
    assert text.endswith("\n")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert text.count("\n") == 3


def test_log_gets_a_line_now_and_then_while_calls_end(
    log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long run adds a line each time the configured number of seconds went by."""
    monkeypatch.setattr(config, "log_line_seconds", 0.0)
    lines = Lines(Pace("f", 5))
    for _ in range(5):
        lines.saved(1, 1.0)
    lines.close()
    counts = re.findall(r"(\d)/5 ", log())
    assert list(dict.fromkeys(counts)) == ["0", "1", "2", "3", "4", "5"]


def test_log_shows_life_while_no_call_ends(log: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without news a line comes after the longer pause only; with news that waits, after the shorter one."""
    lines = Lines(Pace("f", 5))
    monkeypatch.setattr(config, "log_line_seconds", 0.0)
    lines.tick()
    assert len(log().splitlines()) == 1
    monkeypatch.setattr(config, "log_idle_seconds", 0.0)
    lines.tick()
    assert len(log().splitlines()) == 1
    monkeypatch.setattr(config, "log_line_seconds", 1e9)
    lines.saved(1, 1.0)
    assert log() == ""
    monkeypatch.setattr(config, "log_line_seconds", 0.0)
    lines.tick()
    assert log().startswith("f: 1/5 ")


def test_log_says_at_once_what_was_resumed(log: Callable[[], str]) -> None:
    """Calls that were saved by an earlier run are in the first line."""
    lines = Lines(Pace("f", 60, 41))
    assert log().startswith("f: 41/60 calls (68%), 41 resumed, ")
    lines.saved(1, 1.0)
    lines.close()
    assert log().startswith("f: 42/60 calls (70%), 41 resumed, ")


def test_log_names_a_failed_call_at_once(log: Callable[[], str]) -> None:
    """The first failure has a line of its own at once; many at a time do not fill the log."""
    lines = Lines(Pace("f", 4000))
    log()
    lines.failed(17)
    text = log()
    assert text.startswith("f: 0/4000 calls (0%), 1 failed, ")
    assert text.endswith("; call 17 failed\n")
    for index in range(1000):
        lines.failed(index)
    assert log() == ""
    lines.close()
    assert "1001 failed" in log()


def test_log_shows_a_run_without_calls(log: Callable[[], str]) -> None:
    """A run of nothing is shown without an error."""
    Lines(Pace("f", 0)).close()
    assert len(log().splitlines()) == 2


def test_log_that_cannot_be_written_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk under the log file costs its lines and nothing else."""
    with open("/dev/full" if os.path.exists("/dev/full") else os.devnull, "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stderr", full)
        lines = Lines(Pace("f", 1))
        lines.saved(1, 1.0)
        lines.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # so that it can be closed


def test_run_writes_its_progress_into_a_log_file(programs: Programs) -> None:
    """A batch job logs what it resumed, each failure and the end, all in whole lines; calls print as ever."""
    program = """
        from thread_chunks import chunk

        def invert(x):
            print("call", x, flush=True)
            return 1 / x

        chunk(invert, [[x] for x in (1, 2, 0, 4)], path="c.pkl", chunk_size=1, on_error="return")
    """
    first = programs.run(program)
    lines = first.stderr.splitlines()
    assert lines[0] == "invert: 0/4 calls (0%), ? left, <1 s elapsed"
    assert lines[1].endswith("; call 2 failed")
    assert lines[-1].startswith("invert: 3/4 calls (75%), 1 failed, ")
    assert len(lines) == 3
    assert first.stdout.splitlines() == ["call 1", "call 2", "call 0", "call 4"]
    lines = programs.run(program).stderr.splitlines()
    assert lines[0] == "invert: 3/4 calls (75%), 3 resumed, ? left, <1 s elapsed"
    assert len(lines) == 3


# --- whoever shows it ----------------------------------------------------------------------------


def test_bar_leaves_no_thread(log: Callable[[], str]) -> None:
    """The bar has no thread, neither while it is shown nor afterwards."""
    before = threading.enumerate()
    bar = live(Pace("f", 10))
    bar.saved(5, 1.0)
    assert threading.enumerate() == before
    bar.close()
    assert threading.enumerate() == before


def test_bar_leaves_the_bars_of_others_alone() -> None:
    """The lock and the monitor of the user's own tqdm bars stay as they are."""
    import tqdm.auto  # noqa: PLC0415 - as the bar does, late

    theirs: Any = tqdm.auto.tqdm
    lock, interval = theirs.get_lock(), theirs.monitor_interval
    _bar._bar_class(Pace("f", 1))
    assert theirs.get_lock() is lock
    assert theirs.monitor_interval == interval


def test_start_shows_nothing_when_not_asked(log: Callable[[], str]) -> None:
    """Without a bar not a byte is written, but for what calls print."""
    shown = progress.start(Pace("f", 10), quiet, is_shown=False)
    assert isinstance(shown, Silent)
    shown.saved(3, 1.0)
    shown.failed(1)
    shown.tick()
    shown.close()
    assert log() == ""
    shown.printed(b"line\n")
    assert log() == "line\n"


def test_start_shows_nothing_when_there_is_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without stderr, as one without a console, runs without a bar."""
    monkeypatch.setattr(sys, "stderr", None)
    shown = progress.start(Pace("f", 10), quiet, is_shown=True)
    assert isinstance(shown, Silent)
    shown.printed(b"line\n")
    assert _streams.terminal() is None


def test_start_writes_lines_when_stderr_is_a_log_file(log: Callable[[], str]) -> None:
    """Where stderr is no terminal, there are lines and no tqdm."""
    shown = progress.start(Pace("name", 10, 2), quiet, is_shown=True)
    assert isinstance(shown, Lines)
    shown.close()
    assert "name: 2/10" in log()


# --- terminals -------------------------------------------------------------------------------------


@contextmanager
def terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int = 80, rows: int = 24
) -> Iterator[tuple[list[bytes], threading.Event]]:
    """Make stderr a terminal; what is written to it is collected until its end."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (rows, columns))
    written: list[bytes] = []
    drawn = threading.Event()

    def collect() -> None:
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # how Linux says that the other end is gone
                return
            if not data:
                return
            written.append(data)
            drawn.set()

    reader = threading.Thread(target=collect)
    reader.start()
    with monkeypatch.context() as patched, open(theirs, "w", encoding="utf-8") as stream:
        patched.setattr(sys, "stderr", stream)
        yield written, drawn
    reader.join(100)
    os.close(ours)
    assert not reader.is_alive()


def test_bar_is_drawn_live_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal one line is drawn again and again in place, at once and at every tick."""
    before = threading.enumerate()
    with terminal(monkeypatch) as (written, drawn):
        bar = progress.start(Pace("f", 10, 2), quiet, is_shown=True)
        bar.tick()
        assert drawn.wait(100)
        wait_until(lambda: b"2/10 calls, 2 resumed, ? left" in b"".join(written), what="the bar")
        bar.saved(3, 1.0)
        bar.failed(7)
        wait_until(lambda: b"1 failed" in b"".join(written), what="the failure, without a wait")
        drawn.clear()
        bar.tick()
        assert drawn.wait(100)
        bar.printed(b"a line\n")
        bar.saved(5, 1.0)
        bar.close()
        bar.close()
    text = b"".join(written).decode()
    assert isinstance(bar, Bar)
    assert text.count("\r") >= 4
    assert text.count("\n") == 2
    assert "\ra line\r\n" in text
    assert "10/10" in text.split("\r")[-2] + text.split("\r")[-1]
    assert threading.enumerate() == before


@pytest.mark.parametrize("columns", [0, 1, 10, 40, 80, 300])
def test_bar_fits_into_any_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar never fills its line, so it is never broken into two."""
    with terminal(monkeypatch, columns) as (written, _):
        bar = live(Pace("f", 10, 2))
        bar.saved(3, 1.0)
        bar.failed(7)
        bar.close()
    states = re.split(r"[\r\n]+", b"".join(written).decode())
    assert columns < 40 or any("5/10 calls" in state for state in states)
    assert columns < 10 or all(len(state) < columns for state in states)


@pytest.mark.parametrize(("columns", "rows"), [(0, 0), (90, 0), (0, 24)])
def test_bar_is_drawn_on_a_terminal_that_does_not_tell_its_size(
    columns: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terminals that programs make, as `script` and some containers do, have no size: the usual one is taken."""
    monkeypatch.delenv("COLUMNS", raising=False)
    with terminal(monkeypatch, columns, rows) as (written, _):
        bar = live(Pace("f", 10, 2))
        bar.saved(3, 1.0)
        bar.close()
    states = re.split(r"[\r\n]+", b"".join(written).decode())
    assert any("5/10 calls" in state for state in states)
    assert all(len(state) < (columns or 80) for state in states)


def depth(stream: Any) -> int:
    """Count our streams around a stream."""
    count = 0
    while _streams.bare(stream) is not stream:
        stream, count = stream.stream, count + 1
    return count


@pytest.mark.parametrize("seed", range(20))
def test_streams_are_wrapped_once_in_whatever_order_bars_begin_and_end(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars come and go, and the user puts streams in the place of ours and takes them away: none is left in the end."""
    choose = random.Random(seed)  # noqa: S311 - an order, and no secret
    with terminal(monkeypatch):
        original, open_ones, theirs = sys.stderr, list[Any](), list[Any]()
        for _ in range(200):
            action = choose.choice(["begin", "end", "end", "replace", "put back"])
            if action == "begin":
                open_ones.append(_streams.Streams(_streams.bare(sys.stderr), print, quiet))
            elif action == "end" and open_ones:
                open_ones.pop(choose.randrange(len(open_ones))).close()
            elif action == "replace" and not theirs:
                theirs.append(sys.stderr)
                sys.stderr = io.StringIO()
            elif action == "put back" and theirs:
                sys.stderr = theirs.pop()
            assert depth(sys.stderr) <= 1
        own = sys.stderr if theirs else original
        while open_ones:
            open_ones.pop(choose.randrange(len(open_ones))).close()
        assert _streams.bare(sys.stderr) is own
        assert not theirs or sys.stderr is own
        _streams.Streams(_streams.bare(sys.stderr), print, quiet).close()
        assert sys.stderr is own


def test_streams_lose_no_line_while_bars_of_many_threads_begin_and_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every line is shown by one bar, or stands on the terminal: also one that comes as a bar ends."""
    shown: list[bytes] = []
    barrier = threading.Barrier(6)

    def with_bars(name: str) -> None:
        barrier.wait(10)
        for number in range(100):
            streams = _streams.Streams(_streams.bare(sys.stderr), shown.append, quiet)
            sys.stderr.write(f"{name} {number}\n")
            streams.close()
            shown.append(streams.take())

    def without(name: str) -> None:
        barrier.wait(10)
        for number in range(100):
            sys.stderr.write(f"{name} ")
            sys.stderr.write(f"{number}\n")

    with terminal(monkeypatch) as (written, _):
        original = sys.stderr
        threads = [threading.Thread(target=with_bars, args=(f"bars{n}",)) for n in range(4)]
        threads += [threading.Thread(target=without, args=(f"none{n}",)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sys.stderr is original
    text = b"".join(shown + written).decode()
    for name in [f"bars{n}" for n in range(4)] + [f"none{n}" for n in range(2)]:
        assert sorted(re.findall(rf"{name} (\d+)", text), key=int) == list(map(str, range(100))), name


def test_bars_of_two_threads_share_the_line_and_the_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs at once on one terminal: what either prints stands whole, and both end with their last state."""
    with terminal(monkeypatch) as (written, _):
        original = sys.stderr
        one, other = live(Pace("one", 2)), Bar(Pace("other", 3), quiet)
        sys.stderr.write("a line\n")
        other.tick()
        one.saved(2, 1.0)
        one.close()
        assert depth(sys.stderr) == 1
        sys.stderr.write("another line\n")
        other.saved(3, 1.0)
        other.close()
        assert sys.stderr is original
    text = b"".join(written).decode()
    lines = [re.split(r"\r|\x1b\[K", line.rstrip("\r"))[-1] for line in text.split("\n")]
    assert len(lines) == 5, text
    assert lines[0] == "a line"
    assert lines[1].startswith("one: 100%")
    assert lines[2] == "another line"
    assert lines[3].startswith("other: 100%")


def test_fork_of_a_process_with_bars_can_draw_its_own(programs: Programs) -> None:
    """A fork does not wait for a thread that it has not, and that drew a bar when it was made."""
    programs.run("""
        import os, threading, warnings
        from thread_chunks import _streams

        warnings.simplefilter("ignore", DeprecationWarning)
        held, done = threading.Event(), threading.Event()

        def hold():
            with _streams.drawing():
                held.set()
                done.wait(30)

        threading.Thread(target=hold, daemon=True).start()
        assert held.wait(30)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if _streams.drawing().acquire(blocking=False) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        done.set()
    """)


def test_bar_is_live_in_a_notebook(log: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook stderr is no terminal, and the bar is live all the same."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    bar = progress.start(Pace("f", 10), quiet, is_shown=True)
    bar.tick()
    bar.printed(b"")
    bar.close()
    text = log()
    assert "\r" in text
    assert "0/10 calls, ? left" in text


def test_bar_is_imported_only_when_it_is_drawn(programs: Programs) -> None:
    """Who shows no bar, or writes a log file, does not wait for the import of one."""
    programs.run("""
        import sys
        from thread_chunks import chunk

        chunk(abs, [[1]], progress_bar=False)
        chunk(abs, [[1]], progress_bar=True)
        assert "tqdm" not in sys.modules
    """)
