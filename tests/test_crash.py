"""Crashes: kill -9 of the run and of its children, and what is there afterwards."""

import os
import random
import secrets
import signal
import time
import warnings
from pathlib import Path

import pytest
from conftest import Programs, children, members, note, noted, wait_for, wait_until

from thread_chunks import Checkpoint, chunk

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

KILLS = 12
CALLS = 150

SWEEP = f"""
    import os, sys, time
    from thread_chunks import chunk

    run, path = sys.argv[1], sys.argv[2]

    def note(name, text):
        fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, text.encode())
        os.close(fd)

    def f(x):
        note("execution.log", f"{{run}} {{x}}\\n")
        time.sleep(0.001 * (x % 13))
        return [x * x, "x" * (100 * x)]

    def on_result(index, output):
        note("acknowledgement.log", f"{{run}} {{index}}\\n")

    note("ready " + run, "now")
    outputs = chunk(f, [[n] for n in range({CALLS})], chunk_size=2, path=path, on_result=on_result)
    assert outputs == [[n * n, "x" * (100 * n)] for n in range({CALLS})]
"""


def _check(folder: Path, path: Path, first: int, last: int) -> None:
    """Hold the file against the two logs of the runs `first` to `last`."""
    executed = [tuple(map(int, line.split())) for line in noted(folder / "execution.log")]
    acknowledged = [tuple(map(int, line.split())) for line in noted(folder / "acknowledgement.log")]
    safe = {index for run, index in acknowledged if first <= run <= last}
    if safe or (path.exists() and path.stat().st_size):  # without a byte it was only just begun
        with warnings.catch_warnings(record=True) as caught:  # the kill may have come between two writes
            warnings.simplefilter("always")
            checkpoint = Checkpoint.load(path)
        assert all("torn tail" in str(warning.message) for warning in caught)
        assert len(caught) <= 1
        assert all(checkpoint.completed[index] for index in safe)
        for index, is_completed in enumerate(checkpoint.completed):
            expected = [index * index, "x" * (100 * index)] if is_completed else None
            assert checkpoint.output[index] == expected
    for run in range(first, last + 1):
        before = {index for earlier, index in acknowledged if first <= earlier < run}
        assert not before & {index for now, index in executed if now == run}
        assert len({index for now, index in acknowledged if now == run} & before) == 0


def test_run_recovers_every_reported_result_when_it_is_killed_at_random(programs: Programs) -> None:
    """Whenever the run is killed, what it reported as saved is there, right, and never executed again."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)  # noqa: S311 - it only chooses moments
    kills = run = first = 0
    path = programs.folder / "0.pkl"
    while True:
        process = programs.start(SWEEP, run, path, flags=())
        wait_until(lambda name=f"ready {run}": (programs.folder / name).exists())  # type: ignore[misc]
        if kills < KILLS:
            time.sleep(chance.uniform(0.0, 0.35))  # the moment of the crash
            process.kill()
        out, err = programs.finish(process)
        programs.expect_gone(process)
        _check(programs.folder, path, first, run)
        if process.returncode == -signal.SIGKILL:
            kills += 1
        else:
            assert process.returncode == 0, out + err
            if kills >= KILLS:
                break
            path, first = programs.folder / f"{run + 1}.pkl", run + 1
        run += 1
    assert not [name for name in os.listdir(programs.folder) if ".bak" in name or ".lock" in name]
    assert Checkpoint.load(path).done == CALLS


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
    "sleeping": "time.sleep(60)",
    "busy": "sum(iter(int, 1))",
    "holding the lock of the interpreter": "import re; re.match(r'(a+)+$', 'a' * 40 + 'b')",
    "ignoring signals": "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(60)",
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
            wait_for(tmp_path / "never", 60)
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
    process = programs.start(HOLD.replace("HANG", "time.sleep(60)"))
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
