"""Processes: what f does to its own process, and what it leaves there, reaches nobody else."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    Programs,
    children,
    is_living,
    least,
    members,
    note,
    noted,
    shared_memory,
    wait_for,
    wait_until,
)

from thread_chunks import (
    Checkpoint,
    CheckpointLockedError,
    Chunker,
    ProcessWorker,
    ThreadWorker,
    WorkerDiedError,
    chunk,
)

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

SECONDS = 3.0  # the contract says one


# --- chunk() inside of chunk() ----------------------------------------------------------------------


@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker])
def test_nested_run_saves_to_its_own_file_three_levels_deep(worker: Any, folder: Path) -> None:
    """chunk() in a call of chunk() in a call of chunk(): each saves to its own file, and each resumes."""

    def leaf(x: int) -> int:
        note(folder / "log", x)
        return x

    def level(depth: int, x: int) -> Any:
        if depth == 0:
            return leaf(x)
        rows = [[depth - 1, 2 * x], [depth - 1, 2 * x + 1]]
        path = folder / f"{depth} {x}.pkl"
        return chunk(level, rows, chunk_size=2, path=path, worker=worker, progress_bar=False)

    expected = [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]
    assert chunk(level, [[3, 0]], chunk_size=2, worker=worker) == expected
    assert sorted(noted(folder / "log")) == [str(n) for n in range(8)]
    assert chunk(level, [[3, 0]], chunk_size=2, worker=worker) == expected
    assert len(noted(folder / "log")) == 8
    assert Checkpoint.load(folder / "3 0.pkl").output == expected[0]
    assert not children()
    assert sorted(os.listdir(folder)) == sorted(
        ["log", "3 0.pkl", "2 0.pkl", "2 1.pkl", "1 0.pkl", "1 1.pkl", "1 2.pkl", "1 3.pkl"]
    )


@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker])
def test_nested_run_is_refused_when_it_uses_the_file_of_the_outer_one(worker: Any, folder: Path) -> None:
    """The path of the outer run is held: that call fails with the holder named, and the outer file is whole."""
    path = folder / "c.pkl"

    def outer(x: int) -> Any:
        return x if x != 1 else chunk(abs, [[-1]], path=path, progress_bar=False)

    outputs = chunk(outer, [[0], [1], [2]], chunk_size=2, path=path, worker=worker, on_error="return")
    assert outputs[::2] == [0, 2]
    error = outputs[1].exception
    assert isinstance(error, CheckpointLockedError)
    assert error.pid == os.getpid()
    assert str(os.getpid()) in str(error)
    assert Checkpoint.load(path).completed == [True, False, True]


def test_nested_failure_is_shown_through_all_levels(folder: Path) -> None:
    """An exception three levels down arrives with its type, and says on its way which call of each level it was."""

    def level(depth: int, x: int) -> Any:
        if depth == 0:
            msg = f"leaf {x}"
            raise KeyError(msg)
        return chunk(level, [[depth - 1, x + 1]], chunk_size=1, progress_bar=False)

    with pytest.raises(KeyError, match="leaf 5") as caught:
        chunk(level, [[3, 2]], chunk_size=1, path=folder / "c.pkl")
    notes = "\n".join(caught.value.__notes__)
    assert "with parameters [3, 2]" in notes
    assert "with parameters [0, 5]" in notes + str(caught.value.__cause__)


# --- what f does to its process --------------------------------------------------------------------------

DEEDS = {
    "prints a lot": (
        "for n in range(20_000): sys.stdout.write(f'out {n}\\n'), sys.stderr.write(f'err {n}\\n')"
    ),
    "writes a lot to its descriptors": "os.write(1, b'o' * 3_000_000); os.write(2, b'e' * 3_000_000)",
    "closes its streams": "sys.stdin.close(), sys.stdout.close(), sys.stderr.close()",
    "closes descriptors 0 to 2": "os.closerange(0, 3)",
    "replaces its streams": "sys.stdin = sys.stdout = sys.stderr = None",
    "sends its output elsewhere": "fd = os.open('/dev/null', os.O_RDWR); [os.dup2(fd, n) for n in range(3)]",
    "changes the directory": "os.chdir('/')",
    "removes its directory": "import tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)",
    "changes its environment": "os.environ.clear(); os.environ['PYTHONPATH'] = '/nowhere'; sys.path.clear()",
    "changes signal handlers": (
        "[signal.signal(n, signal.SIG_IGN) for n in signal.valid_signals() - {9, 19, 32, 33}]"
    ),
    "blocks all signals": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "sets the mode of new files": "os.umask(0o777)",
    "lowers its limits": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8)); os.nice(5)",
    "traces every line": "sys.settrace(lambda *them: None); threading.settrace(lambda *them: None)",
    "raises in other threads": "threading.Thread(target=lambda: 1 // 0).start()",
    "forgets its modules": "sys.modules.clear()",
    "runs a subprocess": "import subprocess; subprocess.run([sys.executable, '-c', 'print(1)'], check=True)",
    "runs a pool of its own": (
        "import concurrent.futures as c\n"
        "            with c.ProcessPoolExecutor(2) as pool: assert list(pool.map(abs, [-1, -2])) == [1, 2]"
    ),
    "forks and lets the fork exit": "pid = os.fork()\n            if not pid: os._exit(0)\n            os.waitpid(pid, 0)",
    "leaves a thread that waits": "threading.Thread(target=time.sleep, args=(0.5,)).start()",
}


@pytest.mark.parametrize("deed", DEEDS)
def test_run_is_not_concerned_when_f(deed: str, programs: Programs) -> None:
    """Whatever f does to its own process, all calls return, all are saved, and nothing of it reaches the script."""
    program = f"""
        import os, signal, sys, threading, time
        from thread_chunks import *

        def f(x):
            {DEEDS[deed]}
            return x

        state = os.getcwd(), dict(os.environ), [signal.getsignal(n) for n in signal.valid_signals()]
        for _ in range(2):
            assert chunk(f, [[n] for n in range(6)], chunk_size=2, path="c.pkl", progress_bar=False) == list(range(6))
        assert Checkpoint.load("c.pkl").output == list(range(6))
        assert state == (os.getcwd(), dict(os.environ), [signal.getsignal(n) for n in signal.valid_signals()])
        assert "c.pkl" in os.listdir()
        assert not os.path.exists("/proc/self/maps") or "/dev/shm/" not in open("/proc/self/maps").read()
        with open("done", "w") as file:
            file.write("done")
    """
    done = programs.run(program, flags=())
    assert (programs.folder / "done").exists()
    assert not [name for name in os.listdir(programs.folder) if name.endswith((".tmp", ".lock", ".bak"))]
    if deed == "prints a lot":
        assert sorted(done.stdout.split()) == sorted(
            6 * ["out", *map(str, range(20_000))] + 6 * 19_999 * ["out"]
        )
        assert len(done.stderr.split()) == len(done.stdout.split())
    elif deed == "writes a lot to its descriptors":
        assert len(done.stdout) == len(done.stderr) == 6 * 3_000_000


def test_run_fails_one_call_only_when_it_closes_every_descriptor(folder: Path) -> None:
    """A call that closes our socket too ends its process: it fails with the reason, also when it opens files then."""

    def f(x: int) -> int:
        if x == 1:
            os.closerange(0, 256)
            for n in range(20):
                os.open(folder / f"file {n}", os.O_RDWR | os.O_CREAT)
        return x

    outputs = chunk(f, [[0], [1], [2]], chunk_size=1, path=folder / "c.pkl", on_error="return")
    assert outputs[::2] == [0, 2]
    assert isinstance(outputs[1].exception, WorkerDiedError)
    assert "closed the descriptors" in str(outputs[1].exception)
    assert all((folder / f"file {n}").read_bytes() == b"" for n in range(20))


def test_run_ends_when_f_leaves_a_thread_that_does_not(programs: Programs) -> None:
    """A thread that f leaves running for ever holds up the end of its process, and so of the run, no longer than bounded."""
    program = """
        import threading, time
        from thread_chunks import chunk

        def f(x):
            threading.Thread(target=time.sleep, args=(600,)).start()
            return x

        assert chunk(f, [[0], [1], [2]], chunk_size=2, path="c.pkl", progress_bar=False) == [0, 1, 2]
    """
    programs.run(program)


@pytest.mark.parametrize("end", ["return x", "sys.exit(0)", "raise KeyError(x)"])
def test_fork_that_comes_out_of_f_is_no_worker(end: str, programs: Programs) -> None:
    """A fork whose copy also leaves f, by whatever way, returns no second result and is not left behind."""
    program = f"""
        import os, sys
        from thread_chunks import chunk

        def f(x):
            pid = os.fork()
            if not pid:
                open(f"forked {{x}}", "w").close()
                {end}
            return 10 * x

        assert chunk(f, [[0], [1], [2]], chunk_size=2, path="c.pkl", progress_bar=False) == [0, 10, 20]
    """
    process = programs.start(program, flags=())
    assert process.wait(100) == 0  # and not for the end of its output, which a fork that is left holds open
    assert sum((programs.folder / f"forked {n}").exists() for n in range(3)) == 3
    programs.expect_gone(process)


# --- the end of the parent -----------------------------------------------------------------------------------

IDLERS = """
    import os, sys, time
    from thread_chunks import Chunker, chunk

    def f(x):
        open(f"started {x} {os.getpid()}", "w").close()
        return x

    with Chunker(f, chunk_size=3, progress_bar=False) as chunker:
        assert chunker([[n] for n in range(3)], path="c.pkl") == [0, 1, 2]
        open("ready", "w").close()
        time.sleep(600)
"""

NEST = """
    import os, sys, time
    from thread_chunks import chunk

    HANGS = {"sleeping": lambda: time.sleep(600), "busy": lambda: sum(iter(int, 1)),
             "in C": lambda: __import__("ctypes").PyDLL(None).pause()}

    def inner(how, x):
        open(f"started {how} {x}", "w").close()
        HANGS[how]()

    def outer(how):
        return chunk(inner, [[how, 0], [how, 1]], chunk_size=2, path=f"{how}.pkl", progress_bar=False)

    chunk(outer, [[how] for how in HANGS], chunk_size=3, path="c.pkl", progress_bar=False)
"""


def _until_gone(programs: Programs, process: "subprocess.Popen[str]") -> float:
    """Kill a script; return how many seconds its children take to end, too."""
    start = time.monotonic()
    process.kill()
    process.wait()
    programs.expect_gone(process)
    return time.monotonic() - start


def test_idle_children_end_when_their_parent_is_killed(programs: Programs) -> None:
    """kill -9 of a script whose Chunker waits: its children are gone, the file is whole, nothing is left anywhere."""

    def measure(number: int) -> float:
        inner = programs.within(str(number))
        process = inner.start(IDLERS)
        wait_for(inner.folder / "ready")
        assert len(members(process.pid)) == 4
        assert not shared_memory(*members(process.pid))
        took = _until_gone(inner, process)
        assert Checkpoint.load(inner.folder / "c.pkl").output == [0, 1, 2]
        assert not [name for name in os.listdir(inner.folder) if name.endswith((".tmp", ".lock"))]
        return took

    assert least(measure, SECONDS) < SECONDS


def test_children_of_children_end_when_the_parent_is_killed(programs: Programs) -> None:
    """kill -9 of a script whose calls call chunk(): the children of its children are gone too, whatever they do."""

    def measure(number: int) -> float:
        inner = programs.within(str(number))
        process = inner.start(NEST)
        for how in ("sleeping", "busy", "in C"):
            for x in range(2):
                wait_for(inner.folder / f"started {how} {x}")
        assert len(members(process.pid)) == 1 + 3 + 6
        assert not shared_memory(*members(process.pid))
        took = _until_gone(inner, process)
        for name in ("c", "sleeping", "busy", "in C"):
            assert not any(Checkpoint.load(inner.folder / f"{name}.pkl").completed)
        return took

    assert least(measure, SECONDS) < SECONDS


def test_children_of_a_child_end_when_it_is_killed(folder: Path) -> None:
    """kill -9 of a child in the middle of a nested run: its own children are gone, and the call is tried again."""

    def inner(x: int) -> int:
        if not (folder / "again").exists():
            note(folder / "inner", os.getpid())
            wait_for(folder / "never")
        return x

    def outer(x: int) -> Any:
        if x == 0:
            note(folder / "outer", os.getpid())
        return x or chunk(inner, [[1], [2]], chunk_size=2, progress_bar=False)

    def on_result(index: int, output: object) -> None:
        if index == 1:
            wait_until(lambda: len(noted(folder / "inner")) == 2)
            (folder / "again").touch()
            os.kill(int(noted(folder / "outer")[0]), signal.SIGKILL)

    assert chunk(outer, [[0], [1]], chunk_size=2, on_result=on_result) == [[1, 2], 1]
    wait_until(lambda: not any(is_living(int(pid)) for pid in noted(folder / "inner")))
    assert len(noted(folder / "outer")) == 2


# --- the end of a worker ----------------------------------------------------------------------------------------


class _Known(ProcessWorker):
    """Notes which worker runs which call."""

    def __init__(self, ran: dict[int, Any]) -> None:
        super().__init__()
        self.ran = ran

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.ran[args[0]] = self.actor_ref
        return super().execute(func, *args, **kwargs)


def test_children_of_other_workers_live_on_when_one_worker_is_stopped(folder: Path) -> None:
    """The thread of one worker ends: its own child ends with it, and the calls of the others go on undisturbed."""
    log = folder / "log"
    ran: dict[int, Any] = {}

    def f(x: int) -> int:
        note(log, f"{x} {os.getpid()}")
        wait_for(folder / ("others" if x == 2 else "go on"))
        return x

    def on_result(index: int, output: int) -> None:
        """While calls 0 and 1 run, stop the worker of call 2 and wait until its child is gone."""
        if index == 2:
            ran[2].stop(block=True, timeout=100)
            wait_until(lambda: not is_living(pid(2)))
            assert is_living(pid(0))
            assert is_living(pid(1))
            (folder / "go on").touch()

    def pid(index: int) -> int:
        return next(int(line.split()[1]) for line in noted(log) if line.startswith(f"{index} "))

    def release() -> None:
        wait_until(lambda: len(noted(log)) == 3)
        (folder / "others").touch()

    actors = [_Known.start(ran) for _ in range(3)]
    thread = threading.Thread(target=release)
    thread.start()
    outputs = chunk(f, [[0], [1], [2]], actors, path=folder / "c.pkl", on_result=on_result)
    thread.join(100)
    assert outputs == [0, 1, 2]
    assert sorted(line.split()[0] for line in noted(log)) == ["0", "1", "2"]  # none of them ran again
    assert [actor.is_alive() for actor in actors] == [actor is not ran[2] for actor in actors]


def test_children_live_on_when_the_thread_that_made_the_call_ends(folder: Path) -> None:
    """Children belong to the threads of their workers: a Chunker used in threads that end keeps its processes."""
    with Chunker(os.getpid, chunk_size=2) as chunker:
        pids: list[set[int]] = []
        for _ in range(3):
            thread = threading.Thread(target=lambda: pids.append(set(chunker([[]] * 2))))
            thread.start()
            thread.join(100)
        assert len(set.union(*pids)) <= 2
        assert children() == set.union(*pids) or len(children()) == 2


# --- what f started ends with it ------------------------------------------------------------------------------------

STARTS = """
    import os, signal, subprocess, sys, time
    from thread_chunks import chunk

    SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"

    def f(x):
        if x == 0:
            return x
        one = subprocess.Popen([sys.executable, "-c", SLEEPER])
        two = subprocess.Popen(f"{sys.executable} -c '{SLEEPER}' & wait", shell=True)
        forked = os.fork()
        if not forked:
            time.sleep(600)
            os._exit(0)
        with open("pids", "w") as file:
            file.write(f"{os.getpid()} {one.pid} {two.pid} {forked} .")
        time.sleep(600)
"""


def _pids(programs: Programs) -> list[int]:
    path = programs.folder / "pids"
    wait_until(lambda: path.exists() and path.read_text().endswith("."), what="the pids")
    return [int(pid) for pid in path.read_text().split()[:-1]]


def test_programs_that_f_started_end_when_it_takes_too_long(programs: Programs) -> None:
    """At a timeout the whole process group of the call is killed: programs, shells and forks that it had started."""
    program = (
        STARTS
        + """
    outputs = chunk(f, [[0], [1]], chunk_size=2, timeout=2, on_error="return", progress_bar=False)
    assert outputs[0] == 0 and isinstance(outputs[1].exception, TimeoutError), outputs
    deadline = time.monotonic() + 100
    while True:  # we are alive, so init is not their parent because of us
        left = []
        for pid in open("pids").read().split()[:-1]:
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    left += [pid] if stat.read().rpartition(")")[2].split()[0] not in "ZX" else []
            except OSError:
                pass
        if not left:
            break
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
    """
    )
    programs.run(program, flags=())
    assert not any(is_living(pid) for pid in _pids(programs))


@pytest.mark.parametrize("whom", ["group", "parent"])
def test_programs_that_f_started_end_when_the_run_is_interrupted(whom: str, programs: Programs) -> None:
    """At Ctrl-C the whole process group of each running call is killed, and the script ends."""
    program = (
        STARTS
        + """
    chunk(f, [[0], [1]], chunk_size=2, path="c.pkl", progress_bar=False)
    """
    )
    process = programs.start(program, flags=())
    pids = _pids(programs)
    assert all(is_living(pid) for pid in pids)
    if whom == "group":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, err = programs.finish(process)
    assert process.returncode == -signal.SIGINT, err
    assert err.count("Traceback") == 1, err
    programs.expect_gone(process)
    assert not any(is_living(pid) for pid in pids)


def test_programs_that_f_started_end_when_its_process_died(folder: Path) -> None:
    """A call that dies takes along what it had started, before it is tried again."""

    def f(x: int) -> int:
        if x == 1:
            for pid in noted(folder / "pids"):
                assert not is_living(int(pid)), "the last try's program still runs"
            sleeper = subprocess.Popen(["sleep", "600"])
            note(folder / "pids", sleeper.pid)
            os._exit(3)
        return x

    outputs = chunk(f, [[0], [1], [2]], chunk_size=1, on_error="return", path=folder / "c.pkl")
    assert outputs[::2] == [0, 2]
    assert isinstance(outputs[1].exception, WorkerDiedError)
    assert len(noted(folder / "pids")) >= 2
    wait_until(lambda: not any(is_living(int(pid)) for pid in noted(folder / "pids")))


@pytest.mark.parametrize("how", ["timeout", "interrupt"])
def test_call_is_killed_when_it_left_its_process_group(how: str, programs: Programs) -> None:
    """A call that moved its process to another group and holds the interpreter's lock is killed all the same: no hang."""
    program = f"""
        import ctypes, os
        from thread_chunks import chunk

        def f(x):
            if x == 1:
                os.setpgid(0, os.getpgid(os.getppid()))
                open("moved", "w").close()
                ctypes.PyDLL(None).pause()
            return x

        timeout = 1 if {how!r} == "timeout" else None
        outputs = chunk(f, [[0], [1], [2]], chunk_size=1, timeout=timeout, on_error="return", progress_bar=False)
        assert outputs[::2] == [0, 2]
        assert isinstance(outputs[1].exception, TimeoutError)
    """
    process = programs.start(program, flags=())
    wait_for(programs.folder / "moved")
    if how == "interrupt":
        process.send_signal(signal.SIGINT)
    try:
        assert process.wait(100) == (0 if how == "timeout" else -signal.SIGINT)
    except subprocess.TimeoutExpired:
        pytest.fail("the run hangs, as its child was not killed")
    programs.expect_gone(process)
