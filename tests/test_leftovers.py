"""After a run, however it ended, everything is as it was before: processes, threads, actors, descriptors, files."""

import gc
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka
import pytest
from conftest import Programs, children, shared_memory, wait_for, wait_until

from thread_chunks import Checkpoint, CheckpointError, Chunker, ProcessWorker, ThreadWorker, chunk

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")


def _descriptors() -> set[tuple[int, str]]:
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    found = set()
    for name in os.listdir(folder):
        try:
            found.add((int(name), os.readlink(f"{folder}/{name}") if folder.startswith("/proc") else name))
        except OSError:  # the descriptor of the listing itself
            continue
    return found


def _state(folder: Path) -> dict[str, Any]:
    return {
        "threads": set(threading.enumerate()),
        "children": children(),
        "actors": set(pykka.ActorRegistry.get_all()),
        "descriptors": _descriptors(),
        "shared memory": shared_memory(os.getpid()),
        "files": {file.name for file in folder.iterdir()} - {"c.pkl"},
    }


def _odd(x: int) -> int:
    if x % 2 == 0:
        msg = "even"
        raise ValueError(msg)
    return x


def _dies(x: int) -> int:
    return x if x != 2 else os._exit(3)


def _hangs(x: int) -> int:
    while x == 2:
        pass
    return x


def _interrupt(index: int, output: Any) -> None:
    raise KeyboardInterrupt


ROWS = [[n] for n in range(5)]

ENDS: dict[str, tuple[Callable[..., Any], dict[str, Any], type[BaseException] | None]] = {
    "return": (abs, {}, None),
    "return of threads": (abs, {"worker": ThreadWorker}, None),
    "failure": (_odd, {}, ValueError),
    "failure in a thread": (_odd, {"worker": ThreadWorker}, ValueError),
    "failures": (_odd, {"on_error": "continue"}, ExceptionGroup),
    "failures returned": (_odd, {"on_error": "return"}, None),
    "death": (_dies, {}, RuntimeError),
    "deaths returned": (_dies, {"on_error": "return"}, None),
    "timeout": (_hangs, {"timeout": 0.5}, TimeoutError),
    "interrupt": (abs, {"on_result": _interrupt}, KeyboardInterrupt),
    "interrupt in the middle": (_hangs, {"on_result": _interrupt}, KeyboardInterrupt),
    "bad option": (abs, {"on_error": "?"}, ValueError),
    "unpicklable": (threading.Lock().acquire, {}, TypeError),
}


UNSAVED = {"return", "failure", "deaths returned", "timeout", "interrupt in the middle", "unpicklable"}
"""The ends that are looked at without a path in every run of the tests; the others are nightly."""


@pytest.fixture(scope="module")
def _warm() -> None:
    """Load once what is loaded once: it is no leftover."""
    for worker in (ProcessWorker, ThreadWorker):
        chunk(abs, [[1]], worker=worker, progress_bar=False)


@pytest.mark.usefixtures("_warm")
@pytest.mark.parametrize(
    ("name", "has_path"),
    [
        *(pytest.param(name, True, id=f"saved-{name}") for name in ENDS),
        *(pytest.param(name, False, id=f"unsaved-{name}") for name in ENDS if name in UNSAVED),
        *(
            pytest.param(name, False, id=f"unsaved-{name}", marks=pytest.mark.nightly)
            for name in ENDS
            if name not in UNSAVED
        ),
    ],
)
def test_run_leaves_nothing_behind(name: str, has_path: bool, folder: Path) -> None:
    """However a run ends, no process, thread, actor, descriptor, lock or temporary file of it is left."""
    func, options, error = ENDS[name]
    path = folder / "c.pkl" if has_path else None
    gc.collect()
    before = _state(folder)

    if error is None:
        chunk(func, ROWS, chunk_size=2, path=path, **options)
    else:
        with pytest.raises(error):
            chunk(func, ROWS, chunk_size=2, path=path, **options)

    wait_until(lambda: _state(folder) == before, what=f"{before} and not {_state(folder)}")
    if has_path and (folder / "c.pkl").exists():
        Checkpoint.load(folder / "c.pkl").save()  # it is not locked


def test_run_leaves_nothing_behind_when_its_file_is_refused(folder: Path) -> None:
    """A run that is refused before its first call leaves nothing either."""
    (folder / "c.pkl").write_bytes(b"another program's" * 20)
    chunk(abs, [[1]])
    before = _state(folder)
    with pytest.raises(CheckpointError):
        chunk(abs, ROWS, path=folder / "c.pkl")
    wait_until(lambda: _state(folder) == before)


def test_run_leaves_no_file_behind_when_nothing_was_saved(folder: Path) -> None:
    """A run that fails before it starts leaves no empty file at its path."""
    with pytest.raises(TypeError):
        chunk(abs, [[threading.Lock()]], path=folder / "c.pkl")
    assert os.listdir(folder) == []


def test_chunker_leaves_nothing_behind(folder: Path) -> None:
    """After a Chunker was closed, also in the middle of an iteration, everything is as before."""
    chunk(abs, [[1]])
    gc.collect()
    before = _state(folder)
    with Chunker(abs, chunk_size=2, path=folder / "c.pkl") as chunker:
        chunker(ROWS)
        for _ in chunker.as_completed([[n] for n in range(-9, 0)], path=folder / "d.pkl"):
            break
    gc.collect()
    (folder / "d.pkl").unlink()
    wait_until(lambda: _state(folder) == before, what=f"{before} and not {_state(folder)}")


def test_chunker_is_left_with_its_workers_only_between_calls(folder: Path) -> None:
    """Between two calls a Chunker holds its workers and their children, and no file."""
    with Chunker(abs, chunk_size=2, path=folder / "c.pkl") as chunker:
        chunker(ROWS)
        before = _state(folder)
        for _ in range(3):
            chunker(ROWS)
        assert len(before["actors"]) >= 2
        wait_until(lambda: _state(folder) == before, what=f"{before} and not {_state(folder)}")


class Stranger(pykka.ThreadingActor):
    """Somebody else's actor."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        self.messages.append(message)
        return list(self.messages)


@pytest.mark.parametrize("name", ["return", "failure", "death", "interrupt", "failure in a thread"])
def test_run_leaves_other_peoples_actors_alone(name: str, folder: Path) -> None:
    """Actors that are not ours live on, were sent nothing, and still answer."""
    func, options, error = ENDS[name]
    stranger: pykka.ActorRef[Stranger] = Stranger.start()
    if error is None:
        chunk(func, ROWS, chunk_size=2, **options)
    else:
        with pytest.raises(error):
            chunk(func, ROWS, chunk_size=2, **options)
    assert stranger.is_alive()
    assert stranger in pykka.ActorRegistry.get_all()
    assert stranger.ask("hello", timeout=100) == ["hello"]


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"]
)
def test_run_leaves_other_peoples_actors_alone_when_a_call_exits(error: BaseException) -> None:
    """An exit in f, in a thread of this very process, stops no actor: not ours and not theirs."""
    stranger: pykka.ActorRef[Stranger] = Stranger.start()
    ours = [ThreadWorker.start()]

    def exits(x: int) -> int:
        raise error

    chunk(exits, ROWS, ours, on_error="return")
    assert stranger.ask("hello", timeout=100) == ["hello"]
    assert ours[0].is_alive()


def test_import_starts_nothing(programs: Programs) -> None:
    """Importing the package starts no thread and no process, opens nothing, and sets up no logging or signals."""
    program = """
        import logging, os, signal, sys, threading
        handlers = [signal.getsignal(number) for number in signal.valid_signals()]
        before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
        environment = dict(os.environ)
        import thread_chunks
        if before is not None:
            assert set(os.listdir("/proc/self/fd")) == before
        assert threading.enumerate() == [threading.main_thread()]
        assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers
        assert logging.getLogger().handlers == []
        assert dict(os.environ) == environment
    """
    assert programs.run(program).stderr == ""


def test_run_prints_nothing_when_there_is_no_bar(programs: Programs) -> None:
    """progress_bar=False prints nothing at all, whether the run is new, resumed or without calls."""
    program = """
        from thread_chunks import chunk
        for _ in range(2):
            chunk(abs, [[-1], [-2]], path="c.pkl", progress_bar=False)
        chunk(abs, [], progress_bar=False)
    """
    done = programs.run(program)
    assert (done.stdout, done.stderr) == ("", "")


def test_child_of_the_user_does_not_hold_up_the_end_of_a_run(programs: Programs) -> None:
    """A process that the user started while workers were open, by fork or otherwise, neither hangs nor holds anything."""
    program = """
        import os, subprocess, sys, time
        from thread_chunks import Chunker, chunk

        with Chunker(abs, chunk_size=2, progress_bar=False) as chunker:
            chunker([[-1], [-2]], path="c.pkl")
            results = chunker.as_completed([[-1], [-2], [-3]], path="d.pkl")
            next(results)
            forked = os.fork()
            if not forked:
                os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"])
            other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            list(results)
        chunk(abs, [[-1], [-2], [-3]], path="d.pkl", progress_bar=False)
        other.kill()
        other.wait()
        os.kill(forked, 9)
        os.waitpid(forked, 0)
        print("done")
    """
    assert programs.run(program).stdout == "done\n"


def test_forked_process_does_not_keep_the_lock(programs: Programs) -> None:
    """A file is free for the next run as soon as its run ended, although a fork of the process lives on."""
    program = """
        import os, time
        from thread_chunks import Chunker, chunk

        with Chunker(abs, chunk_size=1, progress_bar=False) as chunker:
            results = chunker.as_completed([[-1], [-2]], path="c.pkl")
            next(results)
            forked = os.fork()
            if not forked:
                time.sleep(600)
                os._exit(0)
            results.close()
        try:
            print(chunk(abs, [[-1], [-2]], path="c.pkl", progress_bar=False))
        finally:
            os.kill(forked, 9)
            os.waitpid(forked, 0)
    """
    assert programs.run(program, flags=()).stdout == "[1, 2]\n"


def test_call_that_leaves_a_process_behind_does_not_hold_up_the_run(programs: Programs) -> None:
    """A process that f leaves running inherits nothing that would keep the run from ending."""
    program = """
        import subprocess, sys, time
        from thread_chunks import chunk

        def f():
            return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid

        import os
        pids = chunk(f, [[], []], chunk_size=2, path="c.pkl", progress_bar=False)
        for pid in pids:
            os.kill(pid, 9)
    """
    programs.run(program, flags=())


def test_run_waits_for_no_call_when_it_was_interrupted(folder: Path, tmp_path: Path) -> None:
    """An interrupted run of threads returns although a call cannot be killed; it ends by itself, unreported."""

    def slow(x: int) -> int:
        if x:
            wait_for(tmp_path / "go on")
        return x

    with pytest.raises(KeyboardInterrupt):
        chunk(
            slow, [[0], [1]], chunk_size=2, worker=ThreadWorker, path=folder / "c.pkl", on_result=_interrupt
        )
    assert Checkpoint.load(folder / "c.pkl").completed == [True, False]
    (tmp_path / "go on").touch()
    wait_until(lambda: threading.active_count() == 1 or not pykka.ActorRegistry.get_all())


def test_run_ends_children_that_still_start_when_its_file_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children that were started before the file could not be opened are ended at once, however long they take to start."""
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(slow))
    (folder / "file").write_bytes(b"not a folder")
    before = _state(folder)
    with pytest.raises(OSError, match="file"):
        chunk(abs, ROWS, path=folder / "file" / "c.pkl", chunk_size=2)
    wait_until(lambda: _state(folder) == before, what=f"{before} and not {_state(folder)}")


@pytest.mark.parametrize("closed", ["<&- >&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_run_goes_on_when_standard_streams_are_closed(closed: str, programs: Programs) -> None:
    """Where a stream is closed, what calls print to it is gone; no call hangs, and no child complains."""
    script = programs.write(
        """
        from thread_chunks import chunk
        def f(number):
            print("printed", flush=True)
            return number
        outputs = chunk(f, [[0], [1], [2]], chunk_size=2, progress_bar=False)
        open("outputs.txt", "w").write(str(outputs))
        """
    )
    program = "import subprocess, sys; print(subprocess.run(sys.argv[1], shell=True, text=True, capture_output=True).stderr)"
    done = programs.run(program, f"{sys.executable} {script} {closed}")
    assert "Traceback" not in done.stdout
    assert (programs.folder / "outputs.txt").read_text() == "[0, 1, 2]"


def test_child_ends_quietly_when_a_call_took_its_output_away(programs: Programs) -> None:
    """A call may replace or drop the streams of its process."""
    done = programs.run(
        """
        import sys
        from thread_chunks import chunk
        def f(number):
            sys.stdout = None if number else object()
            return number
        assert chunk(f, [[0], [1], [2]], chunk_size=2, progress_bar=False) == [0, 1, 2]
        """
    )
    assert not done.stderr
