"""`chunk` is called by what is no script: an actor, a thread, an event loop, a task, a call of another run."""

import asyncio
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError as CancelledFutureError
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pykka
import pytest
from conftest import Programs, children, note, noted, wait_for, wait_until

from thread_chunks import (
    CallExitError,
    CallExitWarning,
    Checkpoint,
    Chunker,
    EngineStalledWarning,
    ExecutorWorker,
    ProcessWorker,
    RunStoppedError,
    ThreadWorker,
    chunk,
    config,
)

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

EXITS = {
    "CancelledError of a future": CancelledFutureError(),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
    "CancelledError": asyncio.CancelledError(),
    "StopIteration": StopIteration(),
}


def double(x: int) -> int:
    return 2 * x


def exits(error: BaseException) -> Callable[[int], int]:
    def call(x: int) -> int:
        if x == 2:
            raise error
        return x

    return call


class Asked(pykka.ThreadingActor):
    """Somebody else's actor, that runs what it is told."""

    def on_receive(self, message: Any) -> Any:
        return message()


# --- actors of others ---------------------------------------------------------------


def test_actor_of_others_runs_chunk(tmp_path: Path) -> None:
    """In an actor that is not ours a run does what it does in a script, and the actor goes on."""
    actor = Asked.start()
    try:
        path = tmp_path / "c.pkl"
        assert actor.ask(lambda: chunk(double, [[1], [2]], path=path)) == [2, 4]
        assert Checkpoint.load(path).output == [2, 4]
        assert pykka.ActorRegistry.get_all() == [actor]
    finally:
        actor.stop()


@pytest.mark.parametrize("name", EXITS)
@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker])
def test_exit_of_a_call_leaves_all_actors_alive(name: str, worker: Any) -> None:
    """An exit in f would have pykka stop every actor of the process: it is the cause of an ordinary error."""
    actor, bystander = Asked.start(), Asked.start()
    try:
        with pytest.raises(CallExitError, match=r"call 1, with parameters \[2\], ended with ") as raised:
            actor.ask(lambda: chunk(exits(EXITS[name]), [[1], [2]], worker=worker), timeout=20)
        assert type(raised.value.__cause__) is type(EXITS[name])
        assert actor.ask(lambda: "alive") == bystander.ask(lambda: "alive") == "alive"
    finally:
        actor.stop()
        bystander.stop()


# --- threads ------------------------------------------------------------------------


def in_thread(*args: Any, **options: Any) -> Any:
    """Call `chunk` in a thread; return what it returned, or what it raised."""
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(chunk, *args, **options)
        return run.exception(100) or run.result()


def test_thread_runs_chunk_beside_others(tmp_path: Path) -> None:
    """Several threads have runs of their own at the same time, each with its own file."""
    with ThreadPoolExecutor(3) as threads:
        runs = [
            threads.submit(chunk, double, [[n], [n + 1]], path=tmp_path / f"{n}.pkl", chunk_size=2)
            for n in range(3)
        ]
        assert [run.result(100) for run in runs] == [[2 * n, 2 * n + 2] for n in range(3)]


def test_group_of_failures_is_one_that_a_thread_survives() -> None:
    """Under "continue", too, nothing leaves chunk() in a thread that `except Exception` does not catch."""
    error = in_thread(exits(SystemExit(3)), [[1], [2], [3]], on_error="continue")
    assert isinstance(error, ExceptionGroup)
    (inner,) = error.exceptions
    assert isinstance(inner, CallExitError)
    assert isinstance(inner.__cause__, SystemExit)


def test_failure_object_holds_the_exit_itself_in_a_thread() -> None:
    """What is returned ends nothing, and so is what the function raised."""
    outputs = in_thread(exits(SystemExit(3)), [[2]], on_error="return")
    assert isinstance(outputs[0].exception, SystemExit)


def test_script_that_ends_with_a_call_says_so(programs: Programs) -> None:
    """In a script sys.exit() of a call ends it with that status, and one line says which call it was, and what is safe."""
    script = """
        import sys
        from thread_chunks import chunk
        def f(x):
            if x == 3:
                sys.exit(7)
            return x
        chunk(f, [[1], [2], [3]], path="c.pkl", chunk_size=1)
    """
    program = programs.run(script, flags=(), code=7)
    assert re.search(
        r"CallExitWarning: the script ends with SystemExit\(7\), which was raised in call 2, with parameters "
        r"\[3\]; 2 of 3 results are safe in c.pkl; make the same call again",
        program.stderr,
    )


def test_exit_is_raised_as_it_is_in_the_main_thread() -> None:
    """There it is the function's own exception that is raised."""
    with pytest.warns(CallExitWarning), pytest.raises(SystemExit):
        chunk(exits(SystemExit(3)), [[2]])
    with pytest.raises(KeyboardInterrupt):
        chunk(exits(KeyboardInterrupt()), [[2]])


def sleeper(log: Path) -> Callable[[int], int]:
    """Return a function whose first call returns at once, and the others when ten minutes are over."""

    def sleep(x: int) -> int:
        if x:
            note(log, x)
            time.sleep(600)
        return x

    return sleep


# --- event loops ----------------------------------------------------------------------


def test_event_loop_goes_on_while_chunk_runs() -> None:
    """With asyncio.to_thread other tasks of the loop have their turn during the run."""
    begun, seen = threading.Event(), threading.Event()

    def wait(x: int) -> int:
        begun.set()
        assert seen.wait(100)  # set by a task of the loop
        return x

    async def main() -> list[Any]:
        run = asyncio.create_task(asyncio.to_thread(chunk, wait, [[1], [2]], worker=ThreadWorker))
        while not begun.is_set():  # noqa: ASYNC110 - it is set in a worker's thread
            await asyncio.sleep(0.001)
        seen.set()
        return await run

    assert asyncio.run(main()) == [1, 2]


def test_run_ends_with_its_task_when_the_chunker_is_closed(tmp_path: Path) -> None:
    """A task that is cancelled closes its Chunker, and so ends the run in the other thread: calls, children and all."""
    path, log, before = tmp_path / "c.pkl", tmp_path / "log", children()

    async def main() -> None:
        with Chunker(sleeper(log), chunk_size=2, path=path) as chunker:
            run = asyncio.create_task(asyncio.to_thread(chunker, [[0], [1], [2]]))
            while len(noted(log)) < 2:  # noqa: ASYNC110 - they are noted in other processes
                await asyncio.sleep(0.01)
            run.cancel()
            await run

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert children() <= before
    assert Checkpoint.load(path).completed == [True, False, False]


def test_close_ends_a_run_of_another_thread_with_an_error(tmp_path: Path) -> None:
    """Who waits for the run learns that it was closed, and what is safe."""
    path, log = tmp_path / "c.pkl", tmp_path / "log"

    chunker = Chunker(sleeper(log), chunk_size=1, path=path)

    def close() -> None:
        wait_for(log)
        chunker.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(RunStoppedError, match="the Chunker was closed in the middle of this run") as raised:
        chunker([[0], [1]])
    closer.join()
    assert "1 of 2 results are safe" in "".join(raised.value.__notes__)


def test_close_ends_a_run_that_has_not_begun(tmp_path: Path) -> None:
    """Parameters may take long to read; a run that was closed meanwhile does not begin."""
    log, before = tmp_path / "log", children()
    chunker = Chunker(sleeper(log), chunk_size=2)

    def parameters() -> Iterator[list[int]]:
        yield [1]
        chunker.close()
        yield [2]

    with pytest.raises(RunStoppedError, match="the Chunker was closed"):
        chunker(parameters())
    iterator = chunker.as_completed([[1], [2]])
    chunker.close()
    with pytest.raises(RunStoppedError, match="the Chunker was closed"):
        next(iterator)
    assert not noted(log)
    wait_until(lambda: children() <= before, what="no children")
    assert chunker([[0]]) == [0]  # it can be used again
    chunker.close()


def test_close_kills_what_runs_behind_an_iterator_that_waits(tmp_path: Path) -> None:
    """Also where nobody asks for the next result, and so nobody hears of the end before."""
    log, before = tmp_path / "log", children()
    chunker = Chunker(sleeper(log), chunk_size=2)
    iterator = chunker.as_completed([[0], [1]])
    assert next(iterator) == (0, 0)
    wait_for(log)
    chunker.close()
    assert children() <= before
    with pytest.raises(RunStoppedError, match="the Chunker was closed"):
        next(iterator)


@pytest.mark.parametrize("worker", [ThreadWorker, ProcessWorker])
def test_chunker_and_path_are_free_once_close_returned(worker: Any, tmp_path: Path) -> None:
    """Who closed a run may make the next one at once, with the same object or another on the same file."""
    path, log = tmp_path / "c.pkl", tmp_path / "log"
    parameters = [[0.0], [0.3], [0.3]]

    def wait(seconds: float) -> float:
        note(log, seconds)
        time.sleep(seconds)
        return seconds

    with ThreadPoolExecutor(1) as thread:
        chunker = Chunker(wait, chunk_size=1, worker=worker, path=path)
        run = thread.submit(chunker, parameters)
        wait_until(lambda: len(noted(log)) == 2)
        chunker.close()
        assert chunk(wait, parameters, path=path) == [0.0, 0.3, 0.3]
        assert chunker(parameters) == [0.0, 0.3, 0.3]
        assert isinstance(run.exception(100), RunStoppedError)
    chunker.close()
    iterator = chunker.as_completed(parameters, path=tmp_path / "d.pkl")
    next(iterator)
    chunker.close()
    assert chunk(wait, parameters, path=tmp_path / "d.pkl") == [0.0, 0.3, 0.3]  # though the iterator waits
    del iterator


def test_close_ends_a_run_that_waits_for_an_answer() -> None:
    """Also before there is a supervisor: a run over the workers' own function has to ask one of them for it."""
    actor, begun, gate = ThreadWorker.start(double), threading.Event(), threading.Event()

    def busy(_: object) -> bool:
        begun.set()
        return gate.wait(100)

    chunker = Chunker(actors=[actor])
    actor.proxy().set_func(busy).get()
    running = actor.proxy().run("label", 1)
    assert begun.wait(100)
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(chunker, [[1]])
        wait_until(lambda: chunker._pool.interrupt is not None, what="a run")
        chunker.close()
        assert isinstance(run.exception(100), RunStoppedError)
    gate.set()
    assert running.get(timeout=100) == ("label", True)
    actor.stop()


class SlowToRead:
    """A result that takes long to be unpickled, as a large one does."""

    begun: ClassVar[threading.Event] = threading.Event()
    gate: ClassVar[threading.Event] = threading.Event()

    def __reduce__(self) -> Any:
        return read_slowly, ()


def read_slowly() -> int:
    SlowToRead.begun.set()
    SlowToRead.gate.wait(100)
    return 0


def test_close_ends_a_run_that_reads_its_file(tmp_path: Path) -> None:
    """A checkpoint may take long to read; who closes the run meanwhile does not wait for that."""
    path = tmp_path / "c.pkl"

    def make(_: int) -> SlowToRead:
        return SlowToRead()

    with ThreadPoolExecutor(1) as thread:
        chunk(make, [[1]], worker=ThreadWorker, path=path)
        chunker = Chunker(make, chunk_size=1, worker=ThreadWorker, path=path)
        run = thread.submit(chunker, [[1]])
        assert SlowToRead.begun.wait(100)
        chunker.close()
        with pytest.raises(RunStoppedError, match="the Chunker was closed"):
            run.result(100)
        SlowToRead.gate.set()
    assert Checkpoint.load(path).completed == [True]


def test_what_a_call_leaves_behind_is_in_no_call() -> None:
    """A task that a call handed to a loop may run on when the call has ended; then nothing waits for it."""
    actors, ended = [ThreadWorker.start()], threading.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    tasks: list[Any] = []

    async def later() -> Any:
        await asyncio.to_thread(ended.wait, 20)
        return await asyncio.to_thread(chunk, double, [[2]], actors)

    def call(x: int) -> int:
        tasks.append(asyncio.run_coroutine_threadsafe(later(), loop))
        return x

    try:
        assert chunk(call, [[1]], actors=actors) == [1]
        ended.set()
        assert tasks[0].result(100) == [4]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        actors[0].stop()


def test_chunker_of_threads_runs_again_while_its_old_calls_end() -> None:
    """A call in a thread cannot be killed: after close() it runs on, and new workers take the next run."""
    begun, gate = threading.Event(), threading.Event()

    def wait(x: int) -> int:
        if x:
            begun.set()
            assert gate.wait(100)
        return x

    chunker = Chunker(wait, chunk_size=1, worker=ThreadWorker)

    def close() -> None:
        begun.wait(100)
        chunker.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(RunStoppedError, match="the Chunker was closed"):
        chunker([[1]])
    closer.join()
    assert chunker([[0]]) == [0]
    gate.set()
    chunker.close()


def test_iterator_keeps_the_workers_of_a_chunker_that_nobody_holds() -> None:
    """The results of a Chunker that is made on the spot can be taken one by one."""
    assert sorted(Chunker(double, chunk_size=1).as_completed([[1], [2]])) == [(0, 2), (1, 4)]


# --- calls of another run -------------------------------------------------------------


@pytest.mark.parametrize("inner", [ThreadWorker, ProcessWorker])
@pytest.mark.parametrize("outer", [ThreadWorker, ProcessWorker])
def test_call_makes_a_run_of_its_own(outer: Any, inner: Any) -> None:
    """A function may call chunk() in turn, whichever workers run it and whichever it uses."""

    def total(n: int) -> int:
        return sum(chunk(double, [[k] for k in range(n)], worker=inner, chunk_size=2))

    assert chunk(total, [[2], [3]], worker=outer, chunk_size=2) == [2, 6]


def test_run_in_a_call_is_refused_when_its_workers_are_those_of_the_call() -> None:
    """They wait for the call, and the call would wait for them."""
    actors = [ThreadWorker.start() for _ in range(2)]

    def again(x: int) -> Any:
        return chunk(double, [[x]], actors=actors[:1])

    def among_others(x: int) -> Any:  # two levels down
        return chunk(again, [[x]], worker=ThreadWorker)

    try:
        for func in (again, among_others):
            with pytest.raises(
                RuntimeError, match="these workers wait for the call that this run is made in"
            ):
                chunk(func, [[1], [2]], actors=actors)
        assert chunk(double, [[1]], actors=actors) == [2]  # they are as good as before
    finally:
        for actor in actors:
            actor.stop()


def test_run_in_a_task_of_a_call_is_refused_when_its_workers_are_those_of_the_call() -> None:
    """An event loop in a call hands on what waits for the call, to the threads that it asks."""
    actors = [ThreadWorker.start()]

    def again(x: int) -> Any:
        return asyncio.run(asyncio.to_thread(chunk, double, [[x]], actors=actors))

    try:
        with pytest.raises(RuntimeError, match="these workers wait for the call that this run is made in"):
            chunk(again, [[1], [2]], actors=actors)
    finally:
        actors[0].stop()


def warned(pattern: str, job: Callable[[Callable[[], None]], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Do something that comes to a halt; return what it is worth once a warning says why, which lets it go on."""
    monkeypatch.setattr(config, "stall_seconds", 0.2)
    monkeypatch.setattr(config, "heartbeat_seconds", 0.05)
    told = threading.Event()

    def show(message: Warning, *_: object, **__: object) -> None:
        assert re.search(pattern, str(message))
        told.set()

    def wait() -> None:
        assert told.wait(100)

    monkeypatch.setattr(warnings, "showwarning", show)
    with warnings.catch_warnings():
        warnings.simplefilter("always", EngineStalledWarning)
        return job(wait)


def test_run_whose_workers_do_not_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they are in the middle of, nobody waits for them in silence."""
    actor, begun = ThreadWorker.start(), threading.Event()

    def hold(wait: Callable[[], None]) -> Any:
        def busy(_: int) -> None:
            begun.set()
            wait()

        actor.proxy().set_func(busy).get()
        running = actor.proxy().run("label", 1)
        assert begun.wait(100)
        outputs = chunk(double, [[1]], actors=[actor])
        running.get(timeout=100)
        return outputs

    assert warned(
        "no worker answers: they are still being started, or in the middle of something else",
        hold,
        monkeypatch,
    ) == [2]
    actor.stop()


def test_run_whose_threads_are_all_taken_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool whose threads do something else, such as waiting for this run, begins no call: a warning tells."""
    with ThreadPoolExecutor(1) as executor:

        def hold(wait: Callable[[], None]) -> Any:
            executor.submit(wait)
            return chunk(double, [[1], [2]], worker=ExecutorWorker.on(executor))

        reason = "no thread of the executor begins a call, so calls wait"
        assert warned(reason, hold, monkeypatch) == [2, 4]


def test_run_in_a_call_is_refused_when_its_executor_is_that_of_the_call() -> None:
    """All threads of the executor may be in calls that wait for a free one."""
    with ThreadPoolExecutor(2) as executor, ThreadPoolExecutor(2) as other:
        sys.modules[__name__].__dict__["EXECUTORS"] = executor, other  # not to be pickled with the function

        def again(number: int) -> Any:
            worker = ExecutorWorker.on(sys.modules[__name__].__dict__["EXECUTORS"][number])
            return chunk(double, [[1], [2]], worker=worker)

        with pytest.raises(RunStoppedError, match="give the run an executor of its own"):
            chunk(again, [[0], [0], [0]], worker=ExecutorWorker.on(executor), chunk_size=3)
        assert chunk(again, [[1], [1]], worker=ExecutorWorker.on(executor)) == [[2, 4], [2, 4]]
        assert chunk(double, [[3]], worker=ExecutorWorker.on(executor)) == [6]


def test_workers_are_free_for_the_thread_again_after_its_call() -> None:
    """What a thread was in the middle of is forgotten with the end of the call."""
    with ThreadPoolExecutor(1) as executor:
        assert chunk(double, [[1], [2]], worker=ExecutorWorker.on(executor)) == [2, 4]
        later = executor.submit(lambda: chunk(double, [[3]], worker=ThreadWorker))
        assert later.result(100) == [6]


def test_run_in_a_call_draws_no_bar_unless_it_is_told_to(programs: Programs) -> None:
    """The bar of the outer run tells enough; those of its calls would fill the screen."""
    script = """
        from thread_chunks import ThreadWorker, chunk, config
        config.progress_bar = True
        def inner(x):
            return x
        def outer(shown):
            return len(chunk(inner, [[1], [2]], progress_bar=shown))
        for worker in {}:
            print(chunk(outer, [[None], [True]], chunk_size=1, **worker))
    """
    program = programs.run(script.replace("{}", '{}, {"worker": ThreadWorker}', 1))
    assert program.stderr.count("inner: 2/2") == 2
    assert program.stderr.count("outer: 2/2") == 2


IMPORTED = {
    "its own function": "def f(x):\n    return x\noutputs = chunk(f, [[1], [2]])",
    "its own class": (
        "class P:\n    x = 1\nimport operator\noutputs = chunk(operator.attrgetter('x'), [[P()], [P()]])"
    ),
    "a thread": (
        "import threading\ndef f(x):\n    return x\n"
        "def run():\n    try:\n        chunk(f, [[1]])\n    except RuntimeError as error:\n        errors.append(error)\n"
        "errors = []\nthread = threading.Thread(target=run)\nthread.start()\nthread.join()\nraise errors[0]"
    ),
    "a partial in a thread": (
        "import functools, threading\ndef f(x):\n    return x\n"
        "def run():\n    try:\n        chunk(functools.partial(f), [[1]])\n"
        "    except RuntimeError as error:\n        errors.append(error)\n"
        "errors = []\nthread = threading.Thread(target=run)\nthread.start()\nthread.join()\nraise errors[0]"
    ),
    "a function below": "def main():\n    return chunk(abs, [[1]])\noutputs = main()",
}


@pytest.mark.parametrize("name", IMPORTED)
@pytest.mark.parametrize(
    "start", ["import sweep", "from thread_chunks import chunk\ndef f(x):\n    import sweep\nchunk(f, [[1]])"]
)
def test_run_is_refused_while_a_module_is_being_imported(start: str, name: str, programs: Programs) -> None:
    """Its workers would wait for the end of the import, or import the module and come to the same run, and so on."""
    source = f"from thread_chunks import chunk\n{IMPORTED[name]}\n"
    programs.write(source, "sweep.py")
    errors = programs.run(start, code=1).stderr
    assert "RuntimeError: chunk() was called while the module 'sweep' is being imported" in errors
    assert "Put the call into a function" in errors


def test_module_runs_its_function_once_it_is_imported(programs: Programs) -> None:
    """A module may make its runs in a function, and be a script, too."""
    (programs.folder / "sweep.py").write_text(
        "from thread_chunks import chunk\n"
        "def f(x):\n"
        "    return x\n"
        "def main():\n"
        "    print(chunk(f, [[1], [2]], progress_bar=False))\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    assert programs.run("import sweep\nsweep.main()").stdout == "[1, 2]\n"
    assert programs.run(None, "-m", "sweep").stdout == "[1, 2]\n"


# --- other processes --------------------------------------------------------------------

SWEEP = """
    import dataclasses, multiprocessing, sys
    from thread_chunks import Checkpoint, ProcessWorker, ThreadWorker, chunk, config
    config.progress_bar = False
    @dataclasses.dataclass(frozen=True)
    class Rate:
        value: float
    def f(rate):
        with open("calls", "a") as file:
            print(rate.value, file=file)
        return Rate(2 * rate.value)
    def job(kind):
        worker = ThreadWorker if kind == "threads" else ProcessWorker
        outputs = chunk(f, [[Rate(1.0)], [Rate(2.0)]], path="c.pkl", worker=worker, on_mismatch="raise")
        return outputs if all(type(output) is Rate for output in outputs) else [type(each) for each in outputs]
    if __name__ == "__main__":
        how, kind = sys.argv[1:]
        if how == "script":
            print(job(kind))
        else:
            with multiprocessing.get_context(how).Pool(1) as pool:
                print(pool.apply(job, (kind,)))
"""


@pytest.mark.parametrize(
    ("first", "kind"),
    [("script", "threads"), ("spawn", "processes"), ("forkserver", "threads"), ("fork", "processes")],
)
def test_script_is_the_same_in_processes_of_multiprocessing(
    first: str, kind: str, programs: Programs
) -> None:
    """In a process that imports the script anew, its functions, classes and checkpoints are those of the script."""
    for how in (first, "spawn", "script"):
        program = programs.run(SWEEP, how, kind)
        assert program.stdout == "[Rate(value=2.0), Rate(value=4.0)]\n"
    assert sorted(noted(programs.folder / "calls")) == ["1.0", "2.0"]


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_exit_of_a_call_leaves_a_pool_its_worker(how: str, programs: Programs) -> None:
    """multiprocessing.Pool would wait for ever for a worker that exited."""
    script = f"""
        import multiprocessing, sys
        from thread_chunks import CallExitError, chunk
        def job(x):
            try:
                chunk(sys.exit, [[x]])
            except CallExitError as error:
                return type(error.__cause__).__name__
        if __name__ == "__main__":
            with multiprocessing.get_context("{how}").Pool(1) as pool:
                print(pool.apply(job, (3,)))
    """
    program = programs.run(script)
    assert program.stdout == "SystemExit\n"


def test_chunk_works_in_an_exit_handler(programs: Programs) -> None:
    """A script may run a last sweep when it ends; Python 3.12 starts no threads then, and says so."""
    script = """
        import atexit
        from thread_chunks import chunk
        @atexit.register
        def late():
            try:
                print(chunk(abs, [[-1], [-2]]))
            except RuntimeError as error:
                print("interpreter shutdown" in str(error))
    """
    program = programs.run(script)
    assert program.stdout == "[1, 2]\n" or (program.stdout == "True\n" and sys.version_info[:2] == (3, 12))


SHUTDOWN = {
    "chunk": "partial(chunk, abs, [[-1]], worker=kind, progress_bar=False)",
    "Chunker": "partial(Chunker, abs, chunk_size=1, worker=kind)",
    "call of a Chunker": "partial(made, [[-1]])",
    "stream that goes on": "partial(list, stream)",
    "stream that begins": "partial(list, made.as_completed([[-1]]))",
    "actors": "partial(chunk, None, [[-1]], actors, progress_bar=False)",
}


@pytest.mark.parametrize("kind", ["ThreadWorker", "ProcessWorker"])
def test_chunk_is_refused_while_the_interpreter_shuts_down(kind: str, programs: Programs) -> None:
    """No thread runs any more when ``__del__`` is called last: an error says so, in place of a wait without end."""
    script = f"""
        import sys
        from functools import partial
        from thread_chunks import Chunker, ProcessWorker, ThreadWorker, chunk
        kind = {kind}
        made, going = (Chunker(abs, chunk_size=1, worker=kind, progress_bar=False) for _ in range(2))
        made([[-1]])
        stream = going.as_completed([[-1], [-2], [-3]])
        next(stream)
        sys.kept = stream  # else it would be closed first
        actors = [kind.start(abs)]

        class Late:
            def __init__(self, todo):
                self.todo = todo

            def __del__(self, print=print):
                for name, do in self.todo.items():
                    try:
                        print(name, do())
                    except RuntimeError as error:
                        print(name, type(error).__name__, "interpreter shutdown" in str(error))

        keep = Late({{{", ".join(f"{name!r}: {do}" for name, do in SHUTDOWN.items())}}})
    """
    program = programs.run(script)
    assert program.stdout.splitlines() == [f"{name} RunStoppedError True" for name in SHUTDOWN]


COPIES: dict[str, tuple[str, str]] = {
    "returns": ("pass", "RunStoppedError"),
    "exits": ("raise SystemExit(5)", "SystemExit"),
    "raises": ("raise ValueError", "ValueError"),
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("is_stream", [False, True])
def test_copy_of_the_script_that_was_forked_in_a_run_does_not_go_on_with_it(
    is_stream: bool, name: str, programs: Programs
) -> None:
    """The run is the parent's, whatever becomes of the copy: that is told so, and is handed no result."""
    does, error = COPIES[name]
    script = f"""
        import os
        from thread_chunks import Chunker, chunk
        me, seen, copies = os.getpid(), [], []
        def note(index, output):
            assert os.getpid() == me, "a result in the copy"
            seen.append(index)
            if len(seen) == 2:
                copies.append(os.fork())
                if not copies[0]:
                    {does}
        def f(x):
            return x
        try:
            with Chunker(f, chunk_size=2, progress_bar=False) as chunker:
                if {is_stream}:
                    for index, output in chunker.as_completed([[n] for n in range(9)]):
                        note(index, output)
                else:
                    outputs = chunk(f, [[n] for n in range(9)], chunk_size=2, progress_bar=False, on_result=note)
                    assert outputs == list(range(9))
        except BaseException as error:
            print(os.getpid() != me, type(error).__name__, flush=True)
            os._exit(7)
        assert sorted(seen) == list(range(9)), seen
        assert os.waitstatus_to_exitcode(os.waitpid(copies[0], 0)[1]) == 7
        print("parent")
    """
    program = programs.run(script, flags=("-W", "ignore"))
    assert program.stdout.splitlines() == [f"True {error}", "parent"]


@pytest.mark.parametrize("worker", ["ThreadWorker", "ExecutorWorker.on(ThreadPoolExecutor(2))", "Override"])
def test_copy_that_a_call_forked_ends_with_the_call(worker: str, programs: Programs) -> None:
    """A copy that comes out of the function runs nothing more: no other call, no exit handler, and no waiting thread."""
    script = f"""
        import atexit, os, sys
        from concurrent.futures import ThreadPoolExecutor
        from thread_chunks import ExecutorWorker, ThreadWorker, chunk
        class Override(ThreadWorker):
            def execute(self, func, /, *args, **kwargs):
                return super().execute(func, *args, **kwargs)
        atexit.register(print, "end", flush=True)
        def f(x):
            copy = os.fork()
            if copy:
                return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
            if x:
                raise ValueError("in the copy")
        print(chunk(f, [[0], [1]], worker={worker}, chunk_size=2, progress_bar=False), flush=True)
    """
    program = programs.run(script, flags=("-W", "ignore"))
    assert program.stdout == "[0, 1]\nend\n"
    assert "ValueError: in the copy" in program.stderr


def test_actors_that_others_stop_end_a_run_in_an_actor() -> None:
    """Somebody's stop_all() while an actor waits for a run: the actor is told, and does not hang."""
    actor = Asked.start()
    begun = threading.Event()

    def slow(x: int) -> int:
        begun.set()
        time.sleep(0.5)
        return x

    answer = actor.ask(lambda: chunk(slow, [[1], [2], [3]], worker=ThreadWorker, chunk_size=1), block=False)
    assert begun.wait(100)
    for other in pykka.ActorRegistry.get_all():
        if other is not actor:
            other.stop(block=False)
    with pytest.raises(RunStoppedError):
        answer.get(timeout=100)
    actor.stop()
    wait_until(lambda: not pykka.ActorRegistry.get_all(), what="no actors")
