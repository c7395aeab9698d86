"""Ctrl-C and SIGTERM: nothing that was received is lost, nothing is left running."""

import os
import random
import secrets
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Programs, least, members, noted, wait_for, wait_until

from thread_chunks import Checkpoint

BOUND = 3.0  # the contract says one second

PROGRAM = """
    import os, sys, time
    from thread_chunks import chunk

    def f(x):
        time.sleep(0.05)  # work, so that calls are handed out one by one
        open(f"started {x}", "w").close()
        if x == 3:
            HANG
        while x == 2:
            time.sleep(0.01)
        return 10 * x

    def on_result(index, output):
        open(f"saved {index}", "w").close()

    chunk(f, [[n] for n in range(6)], chunk_size=2, path="c.pkl", on_result=on_result, progress_bar=False)
"""

HANGS = {
    "sleeping": "time.sleep(600)",
    "busy": "sum(iter(int, 1))",
    "in C": "import re; re.match(r'(a+)+$', 'a' * 40 + 'b')",
    "ignoring": "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(600)",
    "catching": """while True:
                try: time.sleep(600)
                except BaseException: pass""",
}


def _half_way(programs: Programs, hang: str = "time.sleep(600)") -> "subprocess.Popen[str]":
    process = programs.start(PROGRAM.replace("HANG", hang))
    for name in ("saved 0", "saved 1", "started 2", "started 3"):
        wait_for(programs.folder / name)
    return process


def _check_file(folder: Path) -> None:
    checkpoint = Checkpoint.load(folder / "c.pkl")
    assert checkpoint.output == [0, 10, None, None, None, None]
    assert checkpoint.completed == [True, True, False, False, False, False]


def _ended(
    programs: Programs, process: "subprocess.Popen[str]", number: int, whom: str
) -> tuple[float, str, str]:
    """Send a signal; return how many seconds the end took, with that of the children, and what was written."""
    start = time.monotonic()
    if whom == "group":
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = programs.finish(process)
    programs.expect_gone(process)
    took = time.monotonic() - start
    _check_file(programs.folder)
    return took, out, err


@pytest.mark.parametrize(
    ("whom", "hang"), [*(("group", hang) for hang in HANGS), ("parent", "sleeping"), ("parent", "ignoring")]
)
def test_run_ends_at_once_when_it_is_interrupted(whom: str, hang: str, programs: Programs) -> None:
    """One Ctrl-C: KeyboardInterrupt, no process left, results kept, and one line that says what is safe."""

    def measure(number: int) -> float:
        inner = programs.within(str(number))
        process = _half_way(inner, HANGS[hang])
        took, out, err = _ended(inner, process, signal.SIGINT, whom)
        assert process.returncode == -signal.SIGINT
        assert err.count("Traceback") == 1, err
        assert "KeyboardInterrupt" in err
        assert "2 of 6 results are safe in c.pkl" in err
        assert out == ""
        assert sorted(name for name in os.listdir(inner.folder) if "c.pkl" in name) == ["c.pkl"]
        return took

    assert least(measure, BOUND) < BOUND


def test_run_ends_at_once_when_it_is_interrupted_twice(programs: Programs) -> None:
    """A second Ctrl-C while the first is carried out ends the program too, and the file stays valid."""

    def measure(number: int) -> float:
        inner = programs.within(str(number))
        process = _half_way(inner, HANGS["ignoring"])
        os.killpg(process.pid, signal.SIGINT)
        took, _, _ = _ended(inner, process, signal.SIGINT, "group")
        assert process.returncode != 0
        return took

    assert least(measure, BOUND) < BOUND


@pytest.mark.parametrize("whom", ["group", "parent"])
def test_run_leaves_nothing_when_it_is_terminated(whom: str, programs: Programs) -> None:
    """SIGTERM: no process left, results kept, and the program ends as the signal says."""

    def measure(number: int) -> float:
        inner = programs.within(str(number))
        process = _half_way(inner)
        took, _, err = _ended(inner, process, signal.SIGTERM, whom)
        assert process.returncode == -signal.SIGTERM
        assert "Traceback" not in err
        return took

    assert least(measure, BOUND) < BOUND


@pytest.mark.parametrize("whom", ["parent", "everyone"])
def test_run_ends_cleanly_when_sigterm_is_made_an_exit(whom: str, programs: Programs) -> None:
    """With one line in the script, SIGTERM ends it as Ctrl-C does: results kept, nobody left, and its exit status."""
    line = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))"
    process = programs.start(
        PROGRAM.replace("HANG", "time.sleep(600)").replace("def f", f"{line}\n\n    def f")
    )
    for name in ("saved 0", "saved 1", "started 2", "started 3"):
        wait_for(programs.folder / name)
    # A batch system sends it to all processes of a job.
    for pid in [process.pid] if whom == "parent" else sorted(members(process.pid), reverse=True):
        os.kill(pid, signal.SIGTERM)
    _, err = programs.finish(process)
    assert process.returncode == 143
    programs.expect_gone(process)
    assert "Traceback" not in err
    _check_file(programs.folder)
    assert sorted(name for name in os.listdir(programs.folder) if "c.pkl" in name) == ["c.pkl"]


def test_run_is_safe_when_it_is_interrupted_at_any_time(programs: Programs) -> None:
    """Whenever Ctrl-C comes: no process left, no worker's traceback, a valid file, and the next run goes on."""
    program = """
        import os, sys, time
        from thread_chunks import chunk

        run = sys.argv[1]

        def note(name, text):
            fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(fd, text.encode())
            os.close(fd)

        def f(x):
            note("execution.log", f"{x}\\n")
            time.sleep(0.004)
            return x

        parameters = [[n] for n in range(120)]
        try:
            note("ready " + run, "now")
            outputs = chunk(f, parameters, chunk_size=2, path="c.pkl", progress_bar=False,
                            on_result=lambda index, output: note("acknowledgement.log", f"{index}\\n"))
        except KeyboardInterrupt:
            print("interrupted")
        else:
            print(outputs == list(range(120)))
    """
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)  # noqa: S311 - it only chooses moments
    for run in range(5):
        safe = set(noted(programs.folder / "acknowledgement.log"))
        before = len(noted(programs.folder / "execution.log"))
        process = programs.start(program, run, flags=())
        wait_for(programs.folder / f"ready {run}")
        if run < 4:
            time.sleep(chance.uniform(0, 0.15))  # the moment of the interrupt
            os.killpg(process.pid, signal.SIGINT)
        out, err = programs.finish(process)
        programs.expect_gone(process)
        assert err == ""
        assert out in {"interrupted\n", "True\n"}, err
        assert not safe & set(noted(programs.folder / "execution.log")[before:])
        if (programs.folder / "c.pkl").exists():
            completed = Checkpoint.load(programs.folder / "c.pkl").completed
            assert all(completed[int(index)] for index in noted(programs.folder / "acknowledgement.log"))
    assert out == "True\n"


def test_run_leaves_signals_as_they_were(programs: Programs) -> None:
    """Handlers and masks are the caller's before, during and after a run, however it ends."""
    program = """
        import os, signal, threading
        from thread_chunks import chunk

        def state():
            handlers = [signal.getsignal(number) for number in signal.valid_signals()]
            return handlers, signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.set_wakeup_fd(-1)

        def mine(number, frame):
            raise ArithmeticError

        def fails(x):
            raise ValueError

        def interrupt(index, output):
            assert state() == before
            os.kill(os.getpid(), signal.SIGINT)

        signal.signal(signal.SIGTERM, mine)
        for blocked in ([], [signal.SIGUSR1, signal.SIGCHLD]):
            signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
            before = state()
            chunk(abs, [[1], [2]], chunk_size=2, progress_bar=False)
            assert state() == before
            try:
                chunk(fails, [[1], [2]], chunk_size=2, progress_bar=False)
            except ValueError:
                assert state() == before
            try:
                chunk(abs, [[1], [2]], chunk_size=2, progress_bar=False, on_result=interrupt, path="c.pkl")
            except KeyboardInterrupt:
                assert state() == before
            signal.signal(signal.SIGINT, mine)
            before = state()
            try:
                chunk(abs, [[1], [2]], chunk_size=2, progress_bar=False, on_result=interrupt)
            except ArithmeticError:
                assert state() == before
                print("done")
            signal.signal(signal.SIGINT, signal.default_int_handler)
    """
    assert programs.run(program).stdout == "done\ndone\n"


def test_run_goes_on_when_the_users_own_handler_does(programs: Programs) -> None:
    """A handler of the user's that does not raise does not stop the run: children ignore Ctrl-C."""
    program = """
        import os, signal, time
        from thread_chunks import chunk

        def f(x):
            open(f"started {x}", "w").close()
            while not os.path.exists("go on"):
                time.sleep(0.01)
            return x

        signal.signal(signal.SIGINT, lambda number, frame: open("handled", "w").close())
        print(chunk(f, [[0], [1], [2]], chunk_size=2, progress_bar=False))
    """
    process = programs.start(program)
    wait_for(programs.folder / "started 0")
    wait_for(programs.folder / "started 1")
    os.killpg(process.pid, signal.SIGINT)
    wait_for(programs.folder / "handled")
    (programs.folder / "go on").touch()
    assert programs.finish(process)[0] == "[0, 1, 2]\n"
    programs.expect_gone(process)


def test_run_in_another_thread_ends_with_the_script(programs: Programs) -> None:
    """An error in the script ends it even while chunk() runs in a daemon thread: no process stays."""
    program = """
        import os, threading, time
        from thread_chunks import chunk

        def f(x):
            open("started", "w").close()
            time.sleep(600)

        threading.Thread(target=chunk, args=(f, [[1]]), kwargs={"progress_bar": False}, daemon=True).start()
        while not os.path.exists("started"):
            time.sleep(0.01)
        raise SystemExit(5)
    """
    programs.run(program, code=5)


def test_chunker_leaves_nothing_when_the_script_ends_without_closing_it(programs: Programs) -> None:
    """A script that forgets to close its Chunker, or dies of an error, ends and leaves no process."""
    program = """
        import os
        from thread_chunks import Chunker

        chunker = Chunker(abs, chunk_size=2, persistent=%s, progress_bar=False)
        print(chunker([[-1], [-2]]))
        raise SystemExit(3)
    """
    for persistent in (False, True):
        assert programs.run(program % persistent, code=3).stdout == "[1, 2]\n"


def test_interrupt_does_not_reach_children_that_a_chunker_keeps(programs: Programs) -> None:
    """After a Ctrl-C that the script catches, a Chunker can be used again."""
    program = """
        import os, signal, time
        from thread_chunks import Chunker

        def f(x):
            if x == 2:
                open("started", "w").close()
                time.sleep(600)
            return x

        with Chunker(f, chunk_size=2, progress_bar=False) as chunker:
            print(chunker([[0], [1]]))
            try:
                chunker([[2], [3]])
            except KeyboardInterrupt:
                print("interrupted")
            print(chunker([[4], [5]]))
    """
    process = programs.start(program)
    wait_for(programs.folder / "started")
    os.killpg(process.pid, signal.SIGINT)
    out, err = programs.finish(process)
    assert out == "[0, 1]\ninterrupted\n[4, 5]\n", err
    assert err == ""
    wait_until(lambda: process.returncode == 0)
    programs.expect_gone(process)
