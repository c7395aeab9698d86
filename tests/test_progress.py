"""The bar: what a terminal shows, what a log file gets, and that nothing of it stays behind."""

import os
import pty
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

from thread_chunks import config, progress
from thread_chunks.progress import Bar, Silent


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what was written to stderr, which is no terminal, since the last time."""
    return lambda: capsys.readouterr().err


# --- log files ---------------------------------------------------------------------------------


def test_bar_writes_few_lines_when_stderr_is_no_terminal(log: Callable[[], str]) -> None:
    """A log file gets the first and the last state, however many calls were saved in between."""
    bar = Bar("f", 10_000, 0)
    for _ in range(10_000):
        bar.saved(1)
        bar.tick()
    bar.close()
    text = log()
    lines = text.splitlines()
    assert len(lines) <= 3
    assert lines[0].startswith("f:   0%")
    assert "0/10000" in lines[0]
    assert lines[-1].startswith("f: 100%")
    assert "10000/10000" in lines[-1]
    assert text.endswith("\n")


def test_bar_writes_plain_lines_when_stderr_is_no_terminal(log: Callable[[], str]) -> None:
    """A log file gets whole lines of plain characters that fit any terminal, and no control codes."""
    bar = Bar("f", 100, 0)
    bar.saved(33)
    bar.failed()
    bar.close()
    text = log()
    lines = text.splitlines()
    assert text.isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert all(0 < len(line) <= 80 for line in lines)


def test_bar_writes_a_line_now_and_then_when_a_run_takes_long(
    log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long run adds a line each time the configured number of seconds went by."""
    monkeypatch.setattr(config, "log_line_seconds", 0.0)
    bar = Bar("f", 5, 0)
    for _ in range(5):
        bar.saved(1)
    bar.close()
    text = log()
    counts = re.findall(r"(\d)/5 ", text)
    assert list(dict.fromkeys(counts)) == ["0", "1", "2", "3", "4", "5"]


def test_bar_starts_where_the_checkpoint_stopped(log: Callable[[], str]) -> None:
    """Calls that were saved by an earlier run count from the first line on."""
    bar = Bar("f", 60, 41)
    bar.saved(1)
    bar.close()
    lines = log().splitlines()
    assert "41/60" in lines[0]
    assert "42/60" in lines[-1]


def test_bar_shows_failures(log: Callable[[], str]) -> None:
    """Calls that failed for good are counted beside the bar, and do not move it."""
    bar = Bar("f", 4, 0)
    bar.saved(1)
    bar.failed()
    bar.failed()
    bar.close()
    lines = log().splitlines()
    assert "failed=2" in lines[-1]
    assert "1/4" in lines[-1]


def test_bar_shows_a_run_without_calls(log: Callable[[], str]) -> None:
    """A run of nothing is shown without an error."""
    Bar("f", 0, 0).close()
    lines = log().splitlines()
    assert len(lines) <= 2


def test_bar_leaves_no_thread(log: Callable[[], str]) -> None:
    """The bar has no thread, neither while it is shown nor afterwards."""
    before = threading.enumerate()
    bar = Bar("f", 10, 0)
    bar.saved(5)
    assert threading.enumerate() == before
    bar.close()
    assert threading.enumerate() == before


def test_bar_leaves_the_bars_of_others_alone() -> None:
    """The lock and the monitor of the user's own tqdm bars stay as they are."""
    import tqdm.auto  # noqa: PLC0415 - as the bar does, late

    theirs: Any = tqdm.auto.tqdm
    lock, interval = theirs.get_lock(), theirs.monitor_interval
    progress._bar_class()
    assert theirs.get_lock() is lock
    assert theirs.monitor_interval == interval


# --- nothing -------------------------------------------------------------------------------------


def test_start_shows_nothing_when_not_asked(log: Callable[[], str]) -> None:
    """Without a bar not a byte is written."""
    shown = progress.start("f", 10, 0, is_shown=False)
    assert isinstance(shown, Silent)
    shown.saved(3)
    shown.failed()
    shown.tick()
    shown.close()
    text = log()
    assert text == ""


def test_start_shows_nothing_when_there_is_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without stderr, as one without a console, runs without a bar."""
    monkeypatch.setattr(sys, "stderr", None)
    assert isinstance(progress.start("f", 10, 0, is_shown=True), Silent)


def test_start_shows_a_bar_when_asked(log: Callable[[], str]) -> None:
    """With a bar it is one, on the stderr of this moment."""
    shown = progress.start("name", 10, 2, is_shown=True)
    assert isinstance(shown, Bar)
    shown.close()
    text = log()
    assert "name" in text
    assert "2/10" in text


# --- terminals -------------------------------------------------------------------------------------


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[bytes], threading.Event]]:
    """Make stderr a terminal; what is written to it is collected until its end."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
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
    reader.join(10)
    os.close(ours)
    assert not reader.is_alive()


def test_bar_is_drawn_live_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal one line is drawn again and again in place, at once and at every tick."""
    before = threading.enumerate()
    with terminal(monkeypatch) as (written, drawn):
        bar = Bar("f", 10, 2)
        assert drawn.wait(10)
        wait_until(lambda: b"2/10" in b"".join(written), what="the bar")
        bar.saved(3)
        bar.failed()
        wait_until(lambda: b"failed=1" in b"".join(written), what="the failure, without a wait")
        drawn.clear()
        bar.tick()
        assert drawn.wait(10)
        bar.saved(5)
        bar.close()
    text = b"".join(written).decode()
    assert text.count("\r") >= 4
    assert text.count("\n") == 1
    assert "10/10" in text.split("\r")[-2] + text.split("\r")[-1]
    assert threading.enumerate() == before


def test_bar_is_live_in_a_notebook(log: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook stderr is no terminal, and the bar is live all the same."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    bar = Bar("f", 10, 0)
    bar.tick()
    bar.close()
    text = log()
    assert "\r" in text


def test_bar_is_imported_only_when_it_is_shown(programs: Programs) -> None:
    """Who shows no bar does not wait for the import of one."""
    programs.run("""
        import sys
        from thread_chunks import progress

        progress.start("f", 10, 0, is_shown=False).close()
        assert "tqdm" not in sys.modules
    """)
