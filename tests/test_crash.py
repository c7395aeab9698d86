"""Crashes: kill -9 of the run and of its children, and what is there afterwards."""

import os
import signal
import warnings
from pathlib import Path

import pytest
from conftest import STRICT, Programs, children, members, note, noted, wait_for, wait_until
from test_format import parsed

from thread_chunks import Checkpoint, CheckpointDamagedWarning, chunk
from thread_chunks._records import Group

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")


def test_run_leaves_no_temporary_files_when_it_was_killed_while_it_made_its_file(programs: Programs) -> None:
    """What a killed run left half-made is removed by the next one."""
    path = programs.folder / "c.pkl"
    program = """
        import os, sys
        from thread_chunks import chunk

        original = os.replace
        def replace(*args):
            os.kill(os.getpid(), 9)
        if sys.argv[1] == "die":
            os.replace = replace
        print(chunk(abs, [[-1], [-2]], chunk_size=1, path="c.pkl", progress_bar=False))
    """
    programs.run(program, "die", code=-signal.SIGKILL)
    assert programs.run(program, "live").stdout == "[1, 2]\n"
    assert [name for name in sorted(os.listdir(programs.folder)) if not name.endswith(".py")] == ["c.pkl"]
    assert Checkpoint.load(path).output == [1, 2]


def test_run_keeps_everything_when_it_is_killed_while_it_folds_its_file(programs: Programs) -> None:
    """A kill between the last result and the end of the run costs nothing."""
    program = """
        import os, sys
        from thread_chunks import chunk

        original = os.replace
        calls = []
        def replace(*args):
            calls.append(args)
            if len(calls) == 2:
                os.kill(os.getpid(), 9)
            original(*args)
        if sys.argv[1] == "die":
            os.replace = replace
        def f(x):
            fd = os.open("execution.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(fd, b"%d\\n" % x)
            return x
        print(chunk(f, [[1], [2]], chunk_size=1, path="c.pkl", progress_bar=False))
    """
    programs.run(program, "die", code=-signal.SIGKILL)
    assert Checkpoint.load(programs.folder / "c.pkl").output == [1, 2]
    assert programs.run(program, "live").stdout == "[1, 2]\n"
    assert noted(programs.folder / "execution.log") == ["1", "2"]


HOLD = """
    import os, sys, time
    from thread_chunks import chunk

    def f(x):
        time.sleep(0.05)  # work, so that calls are handed out one by one
        open(f"started {x}", "w").close()
        if x == 3:
            HANG
        while x == 2 and not os.path.exists("go on"):
            time.sleep(0.01)
        return None if x == 1 else 10 * x

    def on_result(index, output):
        open(f"saved {index}", "w").close()

    print(chunk(f, [[n] for n in range(4)], chunk_size=2, path="c.pkl", on_result=on_result, progress_bar=False))
"""


def test_load_shows_the_progress_while_the_run_goes_on(programs: Programs) -> None:
    """Another process can load the file at any time: what is missing is None, and `completed` tells it from a None."""
    process = programs.start(HOLD.replace("HANG", "while not os.path.exists('go on'): time.sleep(0.01)"))
    for name in ("saved 0", "saved 1", "started 2", "started 3"):
        wait_for(programs.folder / name)
    path = programs.folder / "c.pkl"
    before = path.read_bytes()
    checkpoint = Checkpoint.load(path)
    assert checkpoint.output == [0, None, None, None]
    assert checkpoint.completed == [True, True, False, False]
    assert checkpoint.done == 2
    assert checkpoint.func_name == "f"
    assert path.read_bytes() == before
    (programs.folder / "go on").touch()
    assert programs.finish(process)[0] == "[0, None, 20, 30]\n"
    assert Checkpoint.load(path).output == [0, None, 20, 30]


HANGS = {
    "sleeping": "time.sleep(600)",
    "busy": "sum(iter(int, 1))",
    "holding the lock of the interpreter": "import re; re.match(r'(a+)+$', 'a' * 40 + 'b')",
    "ignoring signals": "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(600)",
}


@pytest.mark.parametrize("how", HANGS)
def test_children_end_when_the_run_is_killed(how: str, programs: Programs) -> None:
    """After kill -9 of the run its children are gone, whatever they were doing; what was saved is there."""
    process = programs.start(HOLD.replace("HANG", HANGS[how]))
    for name in ("saved 0", "saved 1", "started 2", "started 3"):
        wait_for(programs.folder / name)
    assert len(members(process.pid)) == 3
    process.kill()
    process.wait()
    programs.expect_gone(process)
    assert Checkpoint.load(programs.folder / "c.pkl").completed == [True, True, False, False]


@pytest.mark.parametrize("count", [3, 6])
def test_run_completes_when_one_of_its_children_is_killed(count: int, tmp_path: Path) -> None:
    """kill -9 of a worker's child: its call is tried again in a new one, and nothing else runs twice."""
    log = tmp_path / "log"

    def victim(x: int) -> int:
        note(log, x)
        if x == 2 and not (tmp_path / "victim").exists():
            note(tmp_path / "pid", os.getpid())
            wait_for(tmp_path / "never")
        return 10 * x

    def on_result(index: int, output: int) -> None:
        if index == 1:
            wait_until(lambda: noted(tmp_path / "pid"))
            (tmp_path / "victim").touch()
            os.kill(int(noted(tmp_path / "pid")[0]), signal.SIGKILL)

    outputs = chunk(
        victim, [[n] for n in range(count)], chunk_size=2, path=tmp_path / "c.pkl", on_result=on_result
    )
    assert outputs == [10 * n for n in range(count)]
    assert sorted(noted(log)) == sorted([*map(str, range(count)), "2"])


def test_run_completes_when_idle_children_are_killed(tmp_path: Path) -> None:
    """A child that is killed while it waits for work costs nothing."""

    def waits(x: int) -> int:
        note(tmp_path / "log", f"{x} {os.getpid()}")
        if x == 0:
            wait_for(tmp_path / "go on")
        return x

    before = children()

    def on_result(index: int, output: int) -> None:
        if index == 1:
            wait_until(lambda: any(line.startswith("0 ") for line in noted(tmp_path / "log")))
            busy = {int(line.split()[1]) for line in noted(tmp_path / "log") if line.startswith("0 ")}
            for pid in children() - before - busy:
                os.kill(pid, signal.SIGKILL)
            (tmp_path / "go on").touch()

    assert chunk(waits, [[0], [1]], chunk_size=2, on_result=on_result) == [0, 1]


def test_load_drops_a_torn_tail_with_a_warning_and_the_run_goes_on(programs: Programs) -> None:
    """A file that ends in the middle of a record loses that record only, says so, and is taken up again."""
    process = programs.start(HOLD.replace("HANG", "time.sleep(600)"))
    for name in ("saved 0", "saved 1", "started 2", "started 3"):
        wait_for(programs.folder / name)
    process.kill()
    process.wait()
    path = programs.folder / "c.pkl"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="c.pkl.*torn tail"):
        checkpoint = Checkpoint.load(path)
    assert checkpoint.done == 1
    assert not members(process.pid)


SHORT = """
    import os, sys, time
    from thread_chunks import chunk

    kill_at = int(sys.argv[1])
    told = os.open("told", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    ran = os.path.abspath("ran")
    count = 0

    def f(x):
        if sys.argv[1] == "0":  # kill_at is a setting, and would be watched
            with open(ran, "a") as file:
                file.write(f"{x}\\n")
        if sys.argv[1] == "1000000":
            time.sleep(0.001)
        return 3 * x

    def on_result(index, output):
        global count
        count += 1
        os.write(told, b"%d\\n" % index)
        if count == kill_at:
            os.kill(os.getpid(), 9)

    outputs = chunk(f, [[n] for n in range(6000)], chunk_size=2, path="c.pkl", on_result=on_result, progress_bar=False)
    assert outputs == [3 * n for n in range(6000)]
"""


@pytest.mark.parametrize("kill_at", [1, 300, 3000, 5999, "from outside"])
def test_run_of_thousands_of_short_calls_resumes_when_it_was_killed_in_the_middle(
    kill_at: int | str, programs: Programs
) -> None:
    """Short calls are saved in groups: after kill -9 all that were reported are there, and only what is missing is run."""
    if isinstance(kill_at, int):
        programs.run(SHORT, kill_at, code=-signal.SIGKILL)
    else:
        process = programs.start(SHORT, 10**6)
        wait_until(lambda: len(noted(programs.folder / "told")) > 500)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        programs.expect_gone(process)
    path = programs.folder / "c.pkl"
    told = set(map(int, noted(programs.folder / "told")))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torn tail", CheckpointDamagedWarning)
        checkpoint = Checkpoint.load(path)
    saved = {index for index, is_completed in enumerate(checkpoint.completed) if is_completed}
    assert told <= saved
    assert all(checkpoint.output[index] == 3 * index for index in saved)
    if len(saved) in range(500, 6000):
        assert any(isinstance(record, Group) for record in parsed(path.read_bytes()).records)
    programs.run(SHORT, 0, flags=(*STRICT, "-W", "ignore:.*torn tail"))
    ran = sorted(map(int, noted(programs.folder / "ran")))
    assert ran == sorted(set(range(6000)) - saved)
    assert Checkpoint.load(path).output == [3 * n for n in range(6000)]
    assert programs.run(SHORT, 0).stdout == ""
    assert len(noted(programs.folder / "ran")) == len(ran)
