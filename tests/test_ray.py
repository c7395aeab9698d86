"""Calls on Ray: the same promises, with a real Ray that is started here."""

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import Programs, beginning, is_living, members, note, noted, sampled, wait_for, wait_until

from thread_chunks import (
    CallExitError,
    CallTimeoutError,
    Checkpoint,
    Chunker,
    EngineStalledWarning,
    Failure,
    RayWorker,
    RunStoppedError,
    WorkerDiedError,
    chunk,
    config,
)

pytestmark = [pytest.mark.engines, pytest.mark.usefixtures("_quiet", "_tidy", "shared_ray")]


@pytest.fixture(scope="module")
def shared_ray() -> Iterator[str]:
    """Keep one Ray for all tests, as a worker that is still there does; give its address."""
    worker = RayWorker(os.getpid)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        worker.run("start")
    ray = sys.modules["ray"]
    yield str(ray.get_runtime_context().gcs_address)
    worker.on_stop()
    assert not ray.is_initialized()


def double(x: Any) -> Any:
    return 2 * x


def triple(x: Any) -> Any:
    return 3 * x


# --- a run ---------------------------------------------------------------------------------


def test_both_kinds_of_arguments_reach_a_call_on_ray() -> None:
    """A call has positional and keyword arguments at once, and rows of either kind arrive as they are."""

    def given(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    worker = RayWorker(given)
    try:
        assert worker.run("label", 5, scale=2) == ("label", ((5,), {"scale": 2}))
    finally:
        worker.on_stop()
    assert chunk(given, [[1], {"x": 2}], worker=RayWorker, chunk_size=1) == [((1,), {}), ((), {"x": 2})]


def test_calls_run_on_ray_and_are_resumed(tmp_path: Path) -> None:
    """Closures, arrays and keyword rows travel; results are saved, may be written into, and are not computed again."""
    path, log = tmp_path / "c.pkl", tmp_path / "log"
    table = np.arange(50_000.0)

    def scale(x: Any, factor: float = 2.0) -> Any:
        note(log, int(x[0]))
        x += 1  # a call's arguments are its own
        table[0] += 1  # and so is the process's copy of what the function holds
        return factor * x + table[1]

    parameters = [{"x": np.full(50_000, float(i)), "factor": 3.0} for i in range(6)]
    for _ in range(2):
        outputs = chunk(scale, parameters, worker=RayWorker, path=path, chunk_size=2)
        assert [float(output[-1]) for output in outputs] == [4.0, 7.0, 10.0, 13.0, 16.0, 19.0]
    outputs[0][:] = 1.0
    assert sorted(noted(log)) == list("012345")
    assert Checkpoint.load(path).completed == 6 * [True]


def test_each_bad_call_fails_alone(tmp_path: Path) -> None:
    """An error, an exit, a crash, a hang and a result that does not travel: each fails its own call."""
    path = tmp_path / "c.pkl"

    def call(x: int) -> Any:
        if x == 1:
            raise ZeroDivisionError("one")
        if x == 2:
            sys.exit(3)
        if x == 3:
            raise KeyboardInterrupt
        if x == 4:
            return threading.Lock()
        if x == 5:
            os._exit(3)
        while x == 6:
            pass
        return x

    outputs = chunk(
        call,
        [[i] for i in range(9)],
        worker=RayWorker,
        chunk_size=2,
        timeout=4.0,
        path=path,
        on_error="return",
    )
    failed = {output.index: output for output in outputs if isinstance(output, Failure)}
    assert {index: type(failure.exception).__name__ for index, failure in failed.items()} == {
        1: "ZeroDivisionError",
        2: "SystemExit",
        3: "KeyboardInterrupt",
        4: "PicklingError",
        5: "WorkerDiedError",
        6: "CallTimeoutError",
    }
    assert "in call" in failed[1].traceback
    assert isinstance(failed[5].exception, WorkerDiedError)
    assert str(failed[5].exception).startswith(
        "call 5: the Ray actor died: ActorDiedError: The actor is dead"
    )
    assert isinstance(failed[6].exception, CallTimeoutError)
    assert "its timeout of 4 s, and its Ray actor was killed" in str(failed[6].exception)
    assert [outputs[i] for i in (0, 7, 8)] == [0, 7, 8]
    assert Checkpoint.load(path).completed == [index not in failed for index in range(9)]


def test_run_goes_on_when_the_process_of_a_ray_actor_is_killed(tmp_path: Path) -> None:
    """A killed process costs the call that ran in it, which runs again in another; nothing else does."""
    log = tmp_path / "log"

    def call(x: int) -> int:
        note(log, x)
        note(tmp_path / f"process {x}", os.getpid())
        if x == 2 and len(noted(tmp_path / "process 2")) == 1:
            wait_for(tmp_path / "never")
        return x

    def on_result(index: int, output: int) -> None:
        if index == 1:
            wait_for(tmp_path / "process 2")
            os.kill(int(noted(tmp_path / "process 2")[0]), signal.SIGKILL)

    outputs = chunk(call, [[i] for i in range(6)], worker=RayWorker, chunk_size=1, on_result=on_result)
    assert outputs == list(range(6))
    assert sorted(noted(log)) == list("0122345")


def test_run_leaves_the_ray_of_others_alone(tmp_path: Path) -> None:
    """Runs at the same time share one Ray, and none of them stops it for the other."""
    gate = tmp_path / "gate"
    ended: list[Any] = []

    def waits(x: int) -> int:
        wait_for(gate)
        return x

    thread = threading.Thread(target=lambda: ended.append(chunk(waits, [[1], [2]], worker=RayWorker)))
    thread.start()
    assert chunk(double, [[i] for i in range(4)], worker=RayWorker, chunk_size=1) == [0, 2, 4, 6]
    gate.touch()
    thread.join(100)
    assert ended == [[1, 2]]


def test_stream_that_is_left_early_ends_what_runs(tmp_path: Path) -> None:
    """Leaving a loop over results kills the calls that still run, and the workers serve the next run."""

    def call(x: int) -> int:
        note(tmp_path / f"process {x}", os.getpid())
        if x == 1:
            wait_for(tmp_path / "never")
        return x

    with Chunker(call, chunk_size=2, worker=RayWorker) as chunker:
        stream = chunker.as_completed([[0], [1]])
        assert next(stream) == (0, 0)
        wait_until(lambda: noted(tmp_path / "process 1"))
        stream.close()
        process = int(noted(tmp_path / "process 1")[0])
        wait_until(lambda: not is_living(process), what="the end of the call")
        assert chunker([[2], [3]]) == [2, 3]


# --- the worker -------------------------------------------------------------------------------


def test_worker_runs_what_it_holds_when_it_is_called_directly() -> None:
    """`run(label, ...)` on an instance, `set_func`, and the function's own exception."""
    worker = RayWorker(double)
    try:
        assert worker.run("label", 21) == ("label", 42)
        worker.set_func(int)
        assert worker.run("label", "3") == ("label", 3)
        with pytest.raises(ValueError, match="invalid literal"):
            worker.run("label", "not a number")
    finally:
        worker.on_stop()


def test_actors_hold_their_function_and_stay() -> None:
    """The user's own actors keep their function and their Ray actor from run to run."""

    def where(x: int) -> tuple[int, int]:
        return x, os.getpid()

    actor = RayWorker.start(where)
    first = chunk(None, [[1], [2]], [actor])
    assert chunk(None, [[1], [2]], [actor]) == first
    assert first[0][1] != os.getpid()
    assert chunk(triple, [[1]], [actor]) == [3]
    assert actor.is_alive()


def test_actors_pickle_the_function_that_they_hold_once(tmp_path: Path) -> None:
    """Not for each call, nor for each run."""
    log = tmp_path / "log"

    class Held:
        __name__ = "held"

        def __call__(self, x: int) -> int:
            return x

        def __getstate__(self) -> int:
            note(log, "pickled")
            return 1

        def __setstate__(self, state: int) -> None:
            pass

    actor = RayWorker.start(Held())
    for _ in range(2):
        assert chunk(None, [[1], [2], [3]], [actor]) == [1, 2, 3]
    assert noted(log) == ["pickled"]


class Counting(RayWorker):
    """Notes every call in the script's process, and calls super()."""

    def __init__(self, log: Path, func: Callable[..., Any] | None = None, **options: Any) -> None:
        super().__init__(func, **options)
        self.log = log

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        note(self.log, args[0])
        return -super().execute(func, *args, **kwargs)


def test_execute_is_honoured_for_every_call(tmp_path: Path) -> None:
    """An overridden `execute` runs here, and its super() on Ray; options of Ray go with arguments of its own."""
    log = tmp_path / "log"
    worker = Counting.on(log=log, num_cpus=0.5)
    assert chunk(double, [[i] for i in range(5)], worker=worker, chunk_size=2) == [0, -2, -4, -6, -8]
    assert sorted(noted(log)) == list("01234")


def test_more_workers_than_cpus_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """By default a Ray actor keeps no CPU, so `chunk_size` calls run at the same time however few there are."""
    count = (os.cpu_count() or 1) + 2

    def meet(x: int) -> int:
        note(tmp_path / "here", x)
        wait_until(lambda: len(noted(tmp_path / "here")) == count)
        return x

    assert chunk(meet, [[i] for i in range(count)], worker=RayWorker, chunk_size=count) == list(range(count))


def test_workers_without_room_leave_the_run_to_the_others() -> None:
    """When only one Ray actor finds room, it runs all calls, and the rest do not hold up the end."""
    count = os.cpu_count() or 1
    worker = RayWorker.on(num_cpus=count / 2 + 0.5)
    assert chunk(double, [[i] for i in range(4)], worker=worker, chunk_size=3) == [0, 2, 4, 6]


def test_run_ends_with_an_error_when_there_can_never_be_room() -> None:
    """What the Ray that was started here will never have is an error that says so, and no wait."""
    with pytest.raises(RunStoppedError, match="has 0 telescope of the 1 that a worker needs: ask for less"):
        chunk(double, [[1]], worker=RayWorker.on(resources={"telescope": 1}))


@pytest.mark.parametrize(
    ("options", "match"),
    [({"max_restarts": 3}, "decides about max_restarts itself"), ({"number_of_gpus": 1}, "number_of_gpus")],
)
def test_options_are_refused_when_ray_does_not_know_them_or_they_are_ours(options: Any, match: str) -> None:
    """What would be wrong is an error in the caller's thread, before anything starts."""
    with pytest.raises(ValueError, match=match):
        chunk(double, [[1]], worker=RayWorker.on(**options))


def test_missing_ray_is_an_error_that_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ray, the error names what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'python -m pip install "thread-chunks\[ray\]"'):
        chunk(double, [[1]], worker=RayWorker)


# --- programs -----------------------------------------------------------------------------------


def test_script_starts_its_own_ray_and_stops_it(programs: Programs) -> None:
    """Ray is imported when it is needed and gone after the run, and signal handlers are as before."""
    program = """
        import os, signal, sys, threading
        from thread_chunks import RayWorker, chunk

        assert "ray" not in sys.modules
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), threading.enumerate()
        print(chunk(lambda x: 2 * x, [[1], [2]], worker=RayWorker, progress_bar=False))
        import ray

        assert not ray.is_initialized()
        assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), threading.enumerate())
        """
    done = programs.run(program, env={"RAY_ADDRESS": ""})
    assert done.stdout == "[2, 4]\n"
    assert done.stderr == ""


def test_script_keeps_the_ray_that_it_initialised(programs: Programs, shared_ray: str) -> None:
    """A Ray that the script has brought is used, and is left as it is."""
    program = f"""
        import ray
        from thread_chunks import RayWorker, chunk

        ray.init(address="{shared_ray}", logging_level="error")
        print(chunk(lambda x: 3 * x, [[1], [2]], worker=RayWorker, progress_bar=False))
        assert ray.is_initialized()
        """
    assert programs.run(program).stdout == "[3, 6]\n"


SLOW = """
    import os, sys, time
    from thread_chunks import RayWorker, chunk

    def slow(x, folder):
        descriptor = os.open(f"{folder}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(descriptor, f"{x}\\n".encode())
        while x == 4 and not os.path.exists(f"{folder}/gate"):
            time.sleep(0.01)
        return x

    def saved(index, output):
        descriptor = os.open("saved", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(descriptor, f"{index}\\n".encode())

    print(chunk(slow, [[i, os.getcwd()] for i in range(8)], worker=RayWorker, chunk_size=1, path="c.pkl", on_result=saved))
    """


def _orphans(process: "subprocess.Popen[str]") -> set[int]:
    """Return what is left of a program, but for two agents of Ray's that look only now and then whether it lives."""
    left = set()
    for pid in members(process.pid):
        with suppress(psutil.Error):
            left |= set() if "agent" in " ".join(psutil.Process(pid).cmdline()).lower() else {pid}
    return left


def test_script_goes_on_where_it_was_killed(programs: Programs, shared_ray: str) -> None:
    """A script that is killed takes its own Ray along; the next, on a running one, runs no saved call again."""
    process = programs.start(SLOW, env={"RAY_ADDRESS": ""})
    wait_until(lambda: len(noted(programs.folder / "saved")) == 4)
    wait_until(lambda: len(noted(programs.folder / "log")) == 5)
    process.kill()
    wait_until(lambda: not _orphans(process), what="the end of its Ray")
    (programs.folder / "gate").touch()
    again = programs.run(SLOW, env={"RAY_ADDRESS": shared_ray})
    assert again.stdout.splitlines() == [str(list(range(8)))]
    assert sorted(noted(programs.folder / "log")) == list("012344567")
    assert sorted(noted(programs.folder / "saved")) == list("01234567")
    assert sys.modules["ray"].is_initialized()


@sampled(2)
def test_script_ends_at_ctrl_c(stride: int, programs: Programs) -> None:
    """One Ctrl-C while Ray starts or a call runs: KeyboardInterrupt, and nothing is left."""
    for moment in ["start", "call"][beginning(stride) :: stride]:
        inner = programs.within(moment)
        process = inner.start(SLOW, env={"RAY_ADDRESS": ""})
        if moment == "start":
            wait_until(lambda: len(members(process.pid)) > 1)  # noqa: B023 - it is asked right now
        else:
            wait_until(lambda: len(noted(inner.folder / "log")) == 5)  # noqa: B023
        process.send_signal(signal.SIGINT)
        _, err = inner.finish(process, 15)
        assert "KeyboardInterrupt" in err
        assert "of 8 results are safe" in err
        wait_until(lambda: not _orphans(process), what="the end of its Ray")  # noqa: B023


def test_exit_of_a_call_leaves_a_ray_actor_alive() -> None:
    """An actor of Ray may run chunk() in its main thread; an exit there would be its end, with all that it holds."""
    ray = sys.modules["ray"]

    class Leader:
        def lead(self) -> str:
            try:
                chunk(sys.exit, [[3]], progress_bar=False)
            except CallExitError as error:
                return repr(error.__cause__)
            return "nothing"

    leader = ray.remote(Leader).remote()
    assert [ray.get(leader.lead.remote()) for _ in range(2)] == ["SystemExit(3)"] * 2
    ray.kill(leader)


def test_run_waits_for_room_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the Ray actors of one run keep all CPUs, another finds none: a warning says what it waits for."""
    monkeypatch.setattr(config, "stall_seconds", 0.5)
    needy = RayWorker.on(num_cpus=os.cpu_count() or 1)
    warned = threading.Event()

    def watch(message: Any, *_: object, **__: object) -> None:
        assert "Ray has no room for another actor with {'num_cpus':" in str(message)
        warned.set()

    monkeypatch.setattr(warnings, "showwarning", watch)
    with Chunker(double, chunk_size=1, worker=needy) as holder, warnings.catch_warnings():
        warnings.simplefilter("always", EngineStalledWarning)
        assert holder([[1]]) == [2]  # its actor stays, and keeps the CPUs

        def make_room() -> None:
            warned.wait(100)
            holder.close()

        threading.Thread(target=make_room).start()
        assert chunk(double, [[2]], worker=needy) == [4]
    assert warned.is_set()
