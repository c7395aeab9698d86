"""Bad calls: whatever one call does, it alone fails, says so usefully, and is the only one to be tried again."""

import contextlib
import ctypes
import dataclasses
import os
import re
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pykka
import pytest
from conftest import Programs, beginning, children, note, noted, sampled, wait_until

from thread_chunks import (
    CallTimeoutError,
    Checkpoint,
    CheckpointDamagedWarning,
    Chunker,
    Failure,
    ProcessWorker,
    RemoteError,
    RemoteTraceback,
    RunStoppedError,
    ThreadWorker,
    WorkerDiedError,
    chunk,
    config,
)

pytestmark = [
    pytest.mark.usefixtures("_quiet", "_tidy"),
    # Tested where an exit ends a script; here one is a failure among many.
    pytest.mark.filterwarnings("ignore::thread_chunks.CallExitWarning"),
]

BAD = 3
COUNT = 8
ROWS = [[n] for n in range(COUNT)]


def _raise(error: BaseException) -> NoReturn:
    raise error


# --- exceptions that do not travel well; they stand in the script, as a user's would ------------


class UnpicklableError(Exception):
    """Holds what cannot be pickled."""

    __module__ = "__main__"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class KeywordsOnlyError(Exception):
    """Pickles, and fails to unpickle, as every exception of this common form does."""

    __module__ = "__main__"

    def __init__(self, *, step: int) -> None:
        super().__init__(f"diverged in step {step}")


class ExitWhenReadError(Exception):
    """Asks the process that unpickles it to exit."""

    __module__ = "__main__"

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('read')",)


class InterruptWhenReadError(Exception):
    """Is an interrupt for the process that unpickles it."""

    __module__ = "__main__"

    def __reduce__(self) -> Any:
        return exec, ("raise KeyboardInterrupt",)


class DisguisedError(Exception):
    """Becomes something else when it is unpickled."""

    __module__ = "__main__"

    def __reduce__(self) -> Any:
        return int, (3,)


class DieWhenWrittenError(Exception):
    """Ends the process that pickles it."""

    __module__ = "__main__"

    def __reduce__(self) -> Any:
        os._exit(9)


class SpeechlessError(Exception):
    """Cannot say what it is."""

    __module__ = "__main__"

    def __str__(self) -> str:
        raise RuntimeError


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """Refuses every attribute that Python code sets, as frozen dataclasses do."""

    __module__ = "__main__"

    step: int


class StrictError(Exception):
    """Refuses every attribute, and has none of its own."""

    __module__ = "__main__"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class ArrayError(Exception):
    """Carries what the user needs to see: the state that did not converge."""

    __module__ = "__main__"

    def __init__(self, text: str, state: Any) -> None:
        super().__init__(text, state)


# --- results that do not travel ---------------------------------------------------------------------


class Unreduced:
    """Runs some code when it is pickled."""

    __module__ = "__main__"

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def __reduce__(self) -> Any:
        return int, (self.act(),)


class Unread:
    """Runs some code when it is unpickled."""

    __module__ = "__main__"

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return exec, (self.code,)


def _nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


def _recurse() -> object:
    return _recurse()


# --- ways to die and to hang --------------------------------------------------------------------------


def _kill(number: int) -> None:
    os.kill(os.getpid(), number)


def _limit_memory(megabytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, resource.RLIM_INFINITY))


def _take_8_gigabytes() -> None:
    _limit_memory(2048)
    bytearray(8 << 30)


def _take_all_by_bits() -> None:
    _limit_memory(512)
    hoard: list[bytes] = []
    while True:
        hoard.append(bytes(10_000))


def _sleep() -> None:
    time.sleep(600)


def _compute() -> None:
    while True:
        pass


def _hold_the_lock() -> None:
    ctypes.PyDLL(None).pause()


def _ignore_signals() -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def _catch_everything() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(600)


def _leave_the_group() -> None:
    os.setpgid(0, os.getpgid(os.getppid()))
    time.sleep(600)


# --- the table ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """What a bad call does, and how its failure must look."""

    act: Callable[[], object]
    error: type[BaseException]
    says: str
    cause: str = ""
    options: dict[str, Any] = field(default_factory=dict)


EXCEPTIONS = {
    "SystemExit": Bad(lambda: sys.exit(3), SystemExit, "3", "SystemExit: 3"),
    "sys.exit()": Bad(sys.exit, SystemExit, "", "SystemExit"),
    "KeyboardInterrupt": Bad(lambda: _raise(KeyboardInterrupt()), KeyboardInterrupt, "", "KeyboardInterrupt"),
    "GeneratorExit": Bad(lambda: _raise(GeneratorExit()), GeneratorExit, "", "GeneratorExit"),
    "BaseException": Bad(lambda: _raise(BaseException("bare")), BaseException, "bare", "in _raise"),
    "StopIteration": Bad(lambda: next(iter(())), StopIteration, "", "StopIteration"),
    "RecursionError": Bad(_recurse, RecursionError, "recursion depth", "in _recurse"),
    "MemoryError": Bad(lambda: _raise(MemoryError("8 GB")), MemoryError, "8 GB", "in _raise"),
    "an ExceptionGroup": Bad(
        lambda: _raise(ExceptionGroup("both", [KeyError("k"), OSError("o")])),
        ExceptionGroup,
        "both",
        "KeyError",
    ),
    "a worker's death of its own": Bad(
        lambda: _raise(WorkerDiedError("somebody else's process", 1)),
        WorkerDiedError,
        "somebody else",
        "in _raise",
    ),
    "an exception that cannot show itself": Bad(
        lambda: _raise(SpeechlessError()), SpeechlessError, "", "SpeechlessError"
    ),
    "an exception that takes no attribute": Bad(
        lambda: _raise(StrictError("strict")), StrictError, "strict", "in _raise"
    ),
    "an exception that carries an array": Bad(
        lambda: _raise(ArrayError("no convergence", np.zeros(100_000))),
        ArrayError,
        "no convergence",
        "in _raise",
    ),
}
"""What a call may raise in a worker of any kind: the type is kept."""

STAND_INS = {
    "an exception that cannot be pickled": Bad(
        lambda: _raise(UnpicklableError("holds a lock")),
        RemoteError,
        "UnpicklableError: holds a lock",
        "in _raise",
    ),
    "an exception that cannot be unpickled": Bad(
        lambda: _raise(KeywordsOnlyError(step=5)),
        RemoteError,
        "KeywordsOnlyError: diverged in step 5",
        "in _raise",
    ),
    "an exception that exits when it is read": Bad(
        lambda: _raise(ExitWhenReadError("out")), RemoteError, "ExitWhenReadError: out", "in _raise"
    ),
    "an exception that interrupts when it is read": Bad(
        lambda: _raise(InterruptWhenReadError("out")), RemoteError, "InterruptWhenReadError: out", "in _raise"
    ),
    "a frozen exception": Bad(lambda: _raise(FrozenError(7)), RemoteError, "FrozenError: 7", "in _raise"),
    "an exception that becomes a number": Bad(
        lambda: _raise(DisguisedError("hidden")), RemoteError, "DisguisedError: hidden", "in _raise"
    ),
}
"""What does not survive the way out of a child: a stand-in has its name, message and traceback."""

NOT_PICKLED = "result of the call cannot be pickled"
UNSAVABLE = {
    "a lock": Bad(threading.Lock, Exception, NOT_PICKLED),
    "an open file": Bad(lambda: open(2, "w", closefd=False), Exception, NOT_PICKLED),  # noqa: SIM115
    "a generator": Bad(lambda: (n for n in "ab"), Exception, NOT_PICKLED),
    "a deep nest": Bad(_nested, Exception, NOT_PICKLED),
    "a result that raises when it is written": Bad(
        lambda: Unreduced(lambda: 1 // 0), Exception, f"(?s){NOT_PICKLED}.*division"
    ),
    "a result that exits when it is written": Bad(lambda: Unreduced(sys.exit), BaseException, NOT_PICKLED),
}
"""Results that cannot be pickled, so with a path not saved, by a worker of any kind."""

UNREADABLE = {
    "a result that raises when it is read": Bad(
        lambda: Unread("1 // 0"), RemoteError, "result of the call cannot be unpickled: ZeroDivisionError"
    ),
    "a result that exits when it is read": Bad(
        lambda: Unread("raise SystemExit('read')"),
        RemoteError,
        "result.*cannot be unpickled: SystemExit: read",
    ),
    "a result that interrupts when it is read": Bad(
        lambda: Unread("raise KeyboardInterrupt"),
        RemoteError,
        "result.*cannot be unpickled: KeyboardInterrupt",
    ),
}
"""Results that cannot be unpickled: no value comes out of the child."""

DEATHS = {
    "os._exit": Bad(lambda: os._exit(3), WorkerDiedError, r"call 3: .*exit code 3\b"),
    "os._exit(0)": Bad(lambda: os._exit(0), WorkerDiedError, r"call 3: .*exit code 0\b"),
    "SIGKILL": Bad(lambda: _kill(9), WorkerDiedError, "call 3: .*killed by SIGKILL.*out-of-memory killer"),
    "SIGTERM": Bad(lambda: _kill(15), WorkerDiedError, "call 3: .*killed by SIGTERM"),
    "a segfault": Bad(lambda: ctypes.string_at(0), WorkerDiedError, "call 3: .*killed by SIGSEGV"),
    "abort()": Bad(os.abort, WorkerDiedError, "call 3: .*killed by SIGABRT"),
    "an exception that dies when it is written": Bad(
        lambda: _raise(DieWhenWrittenError()), WorkerDiedError, "call 3: .*exit code 9"
    ),
    "a result that dies when it is written": Bad(
        lambda: Unreduced(lambda: os._exit(8)), WorkerDiedError, "call 3: .*exit code 8"
    ),
    "a result that crashes when it is written": Bad(
        lambda: Unreduced(lambda: ctypes.string_at(0)), WorkerDiedError, "call 3: .*SIGSEGV"
    ),
    "closing every descriptor": Bad(
        lambda: os.closerange(0, 256), WorkerDiedError, "call 3: .*closed the descriptors"
    ),
}
"""What takes the process of the call down."""

MEMORY = {
    "8 GB where there are 2": Bad(_take_8_gigabytes, MemoryError, "", "in _take_8_gigabytes"),
    "all memory bit by bit": Bad(_take_all_by_bits, MemoryError, "", "in _take_all_by_bits"),
}
"""What happens to a call under a memory limit."""

LATE = {"timeout": 0.5}  # from the start of a call on, so the good ones have time
HANGS = {
    "sleeping": Bad(_sleep, CallTimeoutError, r"longer than its timeout of 0.5 s", options=LATE),
    "computing": Bad(_compute, CallTimeoutError, r"longer than its timeout of 0.5 s", options=LATE),
    "in C with the lock": Bad(
        _hold_the_lock, CallTimeoutError, r"longer than its timeout of 0.5 s", options=LATE
    ),
    "ignoring signals": Bad(
        _ignore_signals, CallTimeoutError, r"longer than its timeout of 0.5 s", options=LATE
    ),
    "catching everything": Bad(
        _catch_everything, CallTimeoutError, r"longer than its timeout of 0.5 s", options=LATE
    ),
    "in another process group": Bad(
        _leave_the_group, CallTimeoutError, r"longer than its timeout of 0.5 s", options=LATE
    ),
}
"""Calls that do not end, under a time limit."""

ANYWHERE = EXCEPTIONS | UNSAVABLE
IN_A_PROCESS = ANYWHERE | STAND_INS | UNREADABLE | DEATHS | MEMORY | HANGS


@dataclass
class Sweep:
    """A function that is bad for one index until it is mended, and a log outside of the file."""

    folder: Path
    bad: Bad
    worker: Any = ProcessWorker
    index: int = BAD
    count: int = COUNT

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return self.folder / "c.pkl"

    def mend(self) -> None:
        """From now on the call is a good one."""
        (self.folder / "mended").touch()

    def run(self, on_error: str, **options: Any) -> list[Any]:
        """Make the call to chunk()."""
        act, log, index = self.bad.act, str(self.folder / "log"), self.index
        mended = str(self.folder / "mended")

        def f(x: int) -> object:
            note(log, f"start {x}")
            if x == index and not os.path.exists(mended):
                return act()
            return 10 * x

        def on_result(result: int, output: object) -> None:
            note(log, f"saved {result}")

        usual = {"chunk_size": 2, "path": self.path, "worker": self.worker, "on_result": on_result}
        rows = [[n] for n in range(self.count)]
        return chunk(f, rows, on_error=on_error, **(usual | self.bad.options | options))

    def started(self) -> list[int]:
        """Return the calls that were started since the last look, in order; none was saved before."""
        lines = [line.split() for line in noted(self.folder / "log")]
        (self.folder / "log").unlink(missing_ok=True)
        saved = set[int]()
        for what, index in lines:
            assert what != "start" or int(index) not in saved, f"call {index} ran after it was saved"
            saved |= {int(index)} if what == "saved" else set()
        return [int(index) for what, index in lines if what == "start"]

    def others(self, outputs: list[Any]) -> list[Any]:
        """Return what the good calls gave."""
        return [output for index, output in enumerate(outputs) if index != self.index]

    @property
    def expected(self) -> list[int]:
        """What the good calls should give."""
        return self.others([10 * n for n in range(self.count)])

    def check_file(self) -> None:
        """Check that all is saved but the bad call, which is noted as failed."""
        checkpoint = Checkpoint.load(self.path)
        assert checkpoint.completed == [index != self.index for index in range(self.count)]
        assert self.others(checkpoint.output) == self.expected
        assert checkpoint.output[self.index] is None
        assert list(checkpoint.failures) == [self.index]
        assert checkpoint.failures[self.index].strip()


def _shown(error: BaseException) -> str:
    """Return what the user sees of an exception."""
    return "".join(traceback.format_exception(error))


def _check_failure(sweep: Sweep, error: BaseException) -> None:
    """Check that an exception says what happened, to which call, and where in the user's code."""
    bad = sweep.bad
    exact = bad not in UNSAVABLE.values()
    assert type(error) is bad.error if exact else isinstance(error, bad.error), repr(error)
    assert re.search(bad.says, _shown(error)), _shown(error)
    assert f"in call {sweep.index}, with parameters [{sweep.index}]" in _shown(error)
    if bad.cause and sweep.worker is ProcessWorker:
        assert isinstance(error.__cause__, RemoteTraceback)
        assert bad.cause in str(error.__cause__)
        assert "_child" not in str(error.__cause__)  # our own frames only hide the user's
    if isinstance(error, RemoteError):
        assert error.type_name
        assert error.type_name in str(error)
    if isinstance(error, WorkerDiedError) and sweep.bad in DEATHS.values():
        assert (error.index, error.parameters) == (sweep.index, [sweep.index])
        assert error.exit_code is not None


WAYS = ("continue", "raise")


def _check_one_bad(sweep: Sweep, executions: int = 1, ways: tuple[str, ...] = WAYS) -> None:
    """Check one bad call among good ones, returned and through other ways to treat a failure, until it is mended."""
    outputs = sweep.run("return")
    assert sweep.others(outputs) == sweep.expected
    failure = outputs[sweep.index]
    assert isinstance(failure, Failure)
    assert (failure.index, failure.parameters) == (sweep.index, [sweep.index])
    _check_failure(sweep, failure.exception)
    assert sweep.bad.cause in failure.traceback
    assert failure.traceback.strip()
    started = sweep.started()
    assert started.count(sweep.index) in {executions, 2 * executions - 1}  # once more, in a chunk that died
    if executions == 1:
        assert sorted(started) == list(range(sweep.count))
    sweep.check_file()

    if "continue" in ways:
        with pytest.raises(BaseExceptionGroup) as group:
            sweep.run("continue")
        assert f"1 of {sweep.count} calls failed" in str(group.value)
        assert len(group.value.exceptions) == 1
        _check_failure(sweep, group.value.exceptions[0])
        assert sweep.started() == [sweep.index] * executions
        sweep.check_file()

    if "raise" in ways:
        with pytest.raises(sweep.bad.error) as caught:
            sweep.run("raise")
        _check_failure(sweep, caught.value)
        assert f"{sweep.count - 1} of {sweep.count} results are safe" in _shown(caught.value)
        assert sweep.started() == [sweep.index] * executions
        sweep.check_file()

    sweep.mend()
    assert sweep.run("raise") == [10 * n for n in range(sweep.count)]
    assert sweep.started() == [sweep.index]
    checkpoint = Checkpoint.load(sweep.path)
    assert (checkpoint.output, checkpoint.failures) == ([10 * n for n in range(sweep.count)], {})


# --- one bad call among good ones ---------------------------------------------------------------------------


@sampled(2)
@pytest.mark.parametrize("name", IN_A_PROCESS)
def test_process_loses_one_call_only_and_tries_it_alone_again_when_it_is_bad(
    name: str, stride: int, folder: Path
) -> None:
    """Whatever a call does in its process, it alone fails, says so usefully, and alone is tried by the next run."""
    ways = WAYS[beginning(stride) :: stride]
    _check_one_bad(Sweep(folder, IN_A_PROCESS[name]), executions=2 if name in DEATHS else 1, ways=ways)


@pytest.mark.parametrize("name", ANYWHERE)
def test_thread_loses_one_call_only_and_tries_it_alone_again_when_it_is_bad(name: str, folder: Path) -> None:
    """Whatever a call raises or returns in the actor's own thread, it alone fails, and alone is tried again."""
    _check_one_bad(Sweep(folder, ANYWHERE[name], ThreadWorker))


@pytest.mark.parametrize("name", STAND_INS)
def test_thread_keeps_an_exception_when_it_could_not_travel(name: str, folder: Path) -> None:
    """In the actor's own thread nothing of an exception is pickled: it is the very one that f raised."""
    sweep = Sweep(folder, STAND_INS[name], ThreadWorker)
    outputs = sweep.run("return")
    assert sweep.others(outputs) == sweep.expected
    assert type(outputs[BAD].exception).__module__ == "__main__"
    sweep.check_file()


def test_thread_pickles_no_exception_when_one_is_raised(programs: Programs) -> None:
    """An exception that ends the process which pickles it does no harm in a thread, where none needs to."""
    program = """
        import os
        from thread_chunks import ThreadWorker, chunk

        class EndError(Exception):
            def __reduce__(self):
                os._exit(9)

        def f(x):
            if x == 1:
                raise EndError("the end")
            return x

        outputs = chunk(f, [[0], [1], [2]], chunk_size=1, worker=ThreadWorker, path="c.pkl", on_error="return",
                        progress_bar=False)
        assert outputs[::2] == [0, 2]
        assert isinstance(outputs[1].exception, EndError)
    """
    programs.run(program)


@pytest.mark.parametrize("name", UNREADABLE)
def test_thread_runs_one_call_again_when_its_saved_result_cannot_be_read(name: str, folder: Path) -> None:
    """A thread's result that fails, or exits, when it is read costs its own call in the next run, with a warning."""
    sweep = Sweep(folder, UNREADABLE[name], ThreadWorker)
    outputs = sweep.run("return")
    assert sweep.others(outputs) == sweep.expected
    assert isinstance(outputs[BAD], Unread)
    sweep.started()
    sweep.mend()
    with (
        pytest.warns(CheckpointDamagedWarning, match="call 3"),
        pytest.warns(CheckpointDamagedWarning, match="computed again; the file with them is kept"),
    ):
        assert sweep.run("raise") == [10 * n for n in range(COUNT)]
    assert sweep.started() == [BAD]


@pytest.mark.parametrize("worker", ["ProcessWorker", "ThreadWorker"])
def test_run_keeps_what_was_saved_when_a_result_ends_the_reader(worker: str, programs: Programs) -> None:
    """A result that ends the process which unpickles it ends the script at most: what was saved before is there."""
    program = f"""
        import os, sys, time
        from thread_chunks import *

        class End:
            def __reduce__(self):
                return os._exit, (9,)

        def f(x):
            with open(f"started {{x}}", "a") as file:
                file.write("x")
            while x == 5 and not os.path.exists("saved 0"):
                time.sleep(0.01)  # it was alone in the first chunk
            return End() if x == 5 and not os.path.exists("mended") else x

        def on_result(index, output):
            open(f"saved {{index}}", "w").close()

        outputs = chunk(f, [[n] for n in range(8)], chunk_size=1, path="c.pkl", progress_bar=False,
                        worker={worker}, on_result=on_result)
        assert os.path.exists("mended") or outputs[:5] == list(range(5))
    """
    process = programs.start(program)
    _, err = programs.finish(process)
    assert process.returncode == (9 if worker == "ProcessWorker" else 0), err  # a thread's result is not read
    saved = [n for n in range(8) if (programs.folder / f"saved {n}").exists()]
    assert 0 in saved
    (programs.folder / "mended").touch()
    if worker == "ThreadWorker":
        return  # the file holds a result that ends every reader: only the user can say what to do about it
    checkpoint = Checkpoint.load(programs.folder / "c.pkl")
    held = [n for n in range(8) if checkpoint.completed[n]]
    assert set(saved) <= set(held)
    programs.run(program)
    assert Checkpoint.load(programs.folder / "c.pkl").output == list(range(8))
    assert [len((programs.folder / f"started {n}").read_text()) for n in held] == [1] * len(held)


# --- among many short ones --------------------------------------------------------------------------------------


MANY = {
    name: IN_A_PROCESS[name]
    for name in (
        "SystemExit",
        "RecursionError",
        "an exception that cannot be pickled",
        "an exception that exits when it is read",
        "a lock",
        "a deep nest",
        "a result that exits when it is read",
        "8 GB where there are 2",
    )
}


@pytest.mark.parametrize("name", MANY)
def test_run_starts_every_call_once_when_one_of_many_short_ones_fails(name: str, folder: Path) -> None:
    """In the middle of 500 trivial calls, handed out many at once, a bad one fails alone and no call runs twice."""
    sweep = Sweep(folder, MANY[name], index=250, count=500)
    outputs = sweep.run("return")
    assert sweep.others(outputs) == sweep.expected
    _check_failure(sweep, outputs[250].exception)
    assert sorted(sweep.started()) == list(range(500))
    sweep.check_file()
    sweep.mend()
    assert sweep.run("raise") == [10 * n for n in range(500)]
    assert sweep.started() == [250]


@pytest.mark.parametrize("name", [name for name in MANY if name in ANYWHERE])
def test_threads_start_every_call_once_when_one_of_many_short_ones_fails(name: str, folder: Path) -> None:
    """The same in the actors' own threads."""
    sweep = Sweep(folder, MANY[name], ThreadWorker, index=250, count=500)
    outputs = sweep.run("return")
    assert sweep.others(outputs) == sweep.expected
    assert sorted(sweep.started()) == list(range(500))
    sweep.check_file()


@pytest.mark.parametrize(
    "name", ["os._exit", "SIGKILL", "a segfault", "a result that dies when it is written"]
)
def test_run_repeats_no_saved_call_when_one_of_many_short_ones_dies(name: str, folder: Path) -> None:
    """A death in the middle of 500 trivial calls: the call is found and fails alone; no other runs more than twice."""
    sweep = Sweep(folder, DEATHS[name], index=250, count=500)
    outputs = sweep.run("return")
    assert sweep.others(outputs) == sweep.expected
    failure = outputs[250]
    assert isinstance(failure.exception, WorkerDiedError)
    assert failure.exception.index == 250
    assert "call 250: " in str(failure.exception)
    started = sweep.started()  # checks that none ran after it was saved
    assert (
        started.count(250) <= 3
    )  # with its chunk, alone, and once more: the system may have picked it by chance
    assert all(started.count(index) in {1, 2} for index in range(500) if index != 250)
    sweep.check_file()
    sweep.mend()
    assert sweep.run("raise") == [10 * n for n in range(500)]
    assert sweep.started() == [250]


def test_run_finds_every_bad_call_when_all_kinds_are_mixed(folder: Path) -> None:
    """Ten different bad calls among 200 good ones: each fails as what it is, and everything else is saved."""
    kinds = [
        "SystemExit", "KeyboardInterrupt", "an exception that cannot be unpickled", "a lock", "os._exit",
        "a result that exits when it is read", "SIGKILL", "RecursionError", "a segfault", "a deep nest",
    ]  # fmt: skip
    acts = {21 * n: IN_A_PROCESS[name].act for n, name in enumerate(kinds)}

    def f(x: int) -> object:
        return acts[x]() if x in acts else x

    outputs = chunk(f, [[n] for n in range(210)], chunk_size=4, path=folder / "c.pkl", on_error="return")
    for n, name in enumerate(kinds):
        assert isinstance(outputs[21 * n].exception, IN_A_PROCESS[name].error), name
    assert [output for x, output in enumerate(outputs) if x not in acts] == [
        x for x in range(210) if x not in acts
    ]
    assert Checkpoint.load(folder / "c.pkl").completed == [x not in acts for x in range(210)]


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMORY)
def test_worker_gets_a_fresh_process_when_a_call_ran_out_of_memory(name: str, folder: Path) -> None:
    """After a MemoryError the next call runs in a process without what the last one held, or was limited to."""
    act = MEMORY[name].act

    def f(x: int) -> object:
        return act() if x == 1 else (os.getpid(), resource.getrlimit(resource.RLIMIT_AS)[0])

    outputs = chunk(f, [[0], [1], [2]], chunk_size=1, on_error="return", path=folder / "c.pkl")
    (first, _), failure, (second, limit) = outputs
    assert isinstance(failure.exception, MemoryError)
    assert first != second
    assert limit == resource.RLIM_INFINITY


# --- parameters and functions that bite ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("1 // 0", ZeroDivisionError),
        ("raise SystemExit(4)", SystemExit),
        ("raise KeyboardInterrupt", KeyboardInterrupt),
        ("import os; os._exit(4)", WorkerDiedError),
    ],
)
def test_run_loses_one_call_only_when_its_parameters_bite(code: str, error: type[BaseException]) -> None:
    """Parameters that raise, exit or die when the child reads them fail their own call; strangers live on."""
    stranger = pykka.ThreadingActor.start()
    rows: list[list[Any]] = [[n] for n in range(6)]
    rows[2] = [Unread(code)]
    outputs = chunk(type, rows, chunk_size=2, on_error="return")
    failure = outputs.pop(2)
    assert outputs == [int] * 5
    assert isinstance(failure, Failure)
    assert isinstance(failure.exception, error)
    assert "in call 2" in _shown(failure.exception)
    assert stranger.is_alive()


class _Biting:
    """A function that runs some code when it is unpickled."""

    __module__ = "__main__"
    __name__ = "biting"

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return exec, (self.code,)

    def __call__(self, x: int) -> int:
        return x


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("1 // 0", ZeroDivisionError),
        ("raise SystemExit(4)", SystemExit),
        ("raise KeyboardInterrupt", KeyboardInterrupt),
        ("import os; os._exit(4)", (WorkerDiedError, RunStoppedError)),
    ],
)
def test_run_ends_with_the_error_when_its_function_bites(code: str, error: Any, folder: Path) -> None:
    """A function that raises, exits or dies when the child reads it ends the run with an error; strangers live on."""
    stranger, before = pykka.ThreadingActor.start(), children()
    with pytest.raises(error):
        chunk(_Biting(code), ROWS, chunk_size=2, path=folder / "c.pkl")
    assert stranger.is_alive()
    assert children() <= before


# --- deaths that do not end, and deaths that are not ours ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_error", "count"), [("raise", 2000), ("continue", 2000), ("return", 2000), ("return", 100)]
)
def test_run_ends_soon_with_few_processes_when_every_call_dies(
    on_error: str, count: int, folder: Path
) -> None:
    """A crash loop ends in an error that says so, after a bounded number of processes."""
    log, before = str(folder / "pids"), children()

    def dies(x: int) -> None:
        note(log, os.getpid())
        os._exit(7)

    with pytest.raises((RunStoppedError, WorkerDiedError)) as caught:
        chunk(dies, [[n] for n in range(count)], chunk_size=2, path=folder / "c.pkl", on_error=on_error)
    assert "exit code 7" in str(caught.value)
    assert f"0 of {count} results are safe" in _shown(caught.value)
    if on_error != "raise":
        assert isinstance(caught.value, RunStoppedError)
        assert "processes died" in str(caught.value)
    assert len(set(noted(log))) <= 2 * config.restart_budget + 3
    assert children() <= before


def test_run_keeps_its_results_when_it_gives_up_in_a_crash_loop(folder: Path) -> None:
    """What was saved before a crash loop is there, and the next run goes on from it."""
    mended = folder / "mended"

    def f(x: int) -> int:
        if x >= 20 and not mended.exists():
            os._exit(7)
        note(folder / "log", x)
        return x

    rows = [[n] for n in range(60)]
    saved: list[int] = []
    with pytest.raises(RunStoppedError, match="died") as caught:
        chunk(
            f, rows, chunk_size=2, path=folder / "c.pkl", on_error="continue",
            on_result=lambda index, _: saved.append(index),
        )  # fmt: skip
    assert saved
    assert set(saved) <= set(range(20))  # those that died with a bad one may not have had their turn again
    assert f"{len(saved)} of 60 results are safe" in _shown(caught.value)
    completed = Checkpoint.load(folder / "c.pkl").completed
    assert [index for index in range(60) if completed[index]] == sorted(saved)
    mended.touch()
    assert chunk(f, rows, chunk_size=2, path=folder / "c.pkl") == list(range(60))
    assert set(map(int, noted(folder / "log"))) == set(range(60))


class _Overridden(ProcessWorker):
    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return super().execute(func, *args, **kwargs)


@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker, _Overridden])
def test_death_that_f_reports_is_no_death_of_its_worker(worker: Any, folder: Path) -> None:
    """A WorkerDiedError that f raises, as an inner chunk() would, is a failure like any other and tried once."""

    def f(x: int) -> int:
        note(folder / "log", x)
        return x if x != 1 else int(chunk(os._exit, [[5]], chunk_size=1, progress_bar=False)[0])

    outputs = chunk(f, [[0], [1], [2]], chunk_size=1, worker=worker, on_error="return", path=folder / "c.pkl")
    assert outputs[::2] == [0, 2]
    assert isinstance(outputs[1].exception, WorkerDiedError)
    assert outputs[1].exception.exit_code == 5
    assert noted(folder / "log") == ["0", "1", "2"]


# --- retries ---------------------------------------------------------------------------------------------------------------


RETRIED: dict[str, tuple[Callable[[], object], int]] = {
    "exceptions": (lambda: _raise(OSError("flaky")), 3),
    "exits": (lambda: sys.exit(1), 3),
    "exceptions that cannot travel": (lambda: _raise(UnpicklableError("flaky")), 3),
    "results that cannot travel": (threading.Lock, 3),
    "results that cannot be read": (lambda: Unread("1 // 0"), 3),
    "hangs": (_sleep, 3),
    "deaths": (lambda: os._exit(3), 2),
}
"""What a call does each time, and how often it is tried with retries=2: deaths have a budget of their own."""


@pytest.mark.parametrize("name", RETRIED)
def test_retries_are_counted_for_the_call_alone(name: str, folder: Path) -> None:
    """retries=2 tries a call that raised or took too long three times and then fails it; a death is tried once more."""
    act, tries = RETRIED[name]
    sweep = Sweep(folder, Bad(act, Exception, ""), index=1, count=4)
    options = LATE if name == "hangs" else {}
    outputs = sweep.run("return", retries=2, **options)
    assert sweep.others(outputs) == sweep.expected
    assert isinstance(outputs[1], Failure)
    started = sweep.started()
    assert started.count(1) == tries
    sweep.check_file()
    if name != "deaths":
        assert sorted(started) == sorted([0, 2, 3] + 3 * [1])


@pytest.mark.parametrize("last", ["returns", "raises"])
def test_retries_count_exceptions_timeouts_and_deaths_together(last: str, folder: Path) -> None:
    """A call that raises, dies, hangs and raises again still returns while neither budget is used up; then it fails."""
    log = folder / "tries"

    def f(x: int) -> int:
        note(folder / "log", x)
        if x != 1:
            return x
        note(log, "tried")
        tries = len(noted(log))
        if tries == 1:
            raise OSError
        if tries == 2:
            os._exit(3)
        if tries == 3:
            time.sleep(600)
        if tries == 4 or last == "raises":
            msg = f"try {tries}"
            raise KeyError(msg)
        return x

    rows = [[n] for n in range(4)]
    outputs = chunk(f, rows, chunk_size=2, retries=3, timeout=2, on_error="return", path=folder / "c.pkl")
    assert len(noted(log)) == 5
    assert [outputs[n] for n in (0, 2, 3)] == [0, 2, 3]
    if last == "returns":
        assert outputs[1] == 1
        assert Checkpoint.load(folder / "c.pkl").failures == {}
    else:
        assert isinstance(outputs[1].exception, KeyError)
        assert "try 5" in outputs[1].traceback
    assert sorted(noted(folder / "log")) == sorted(["0", "2", "3"] + 5 * ["1"])


# --- who is not concerned ---------------------------------------------------------------------------------------------------


class _Stranger(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> Any:
        return message


@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker])
def test_strangers_and_workers_live_on_whatever_calls_do(worker: Any) -> None:
    """No bad call stops an actor: not other people's, and not the workers, which are used again and again."""
    stranger = _Stranger.start()
    with Chunker(abs, chunk_size=2, worker=worker) as chunker:
        actors = list(chunker.actors)
        for bad in (IN_A_PROCESS if worker is ProcessWorker else ANYWHERE).values():
            act = bad.act

            def f(x: int, act: Callable[[], object] = act) -> object:
                return act() if x == 1 else x

            if not bad.options:
                outputs = chunk(f, [[0], [1], [2]], actors, on_error="return")
                assert outputs[::2] == [0, 2]
            assert stranger.ask("alive?", timeout=100) == "alive?"
            assert all(actor.is_alive() for actor in actors)
        assert chunker([[-1], [-2]], abs) == [1, 2]


def test_run_saves_what_runs_before_it_raises_and_resumes_with_the_rest(folder: Path) -> None:
    """Under "raise" the calls that run are finished and saved; the next run starts the failed and the unstarted only."""
    log, mended = folder / "log", folder / "mended"

    def f(x: int) -> int:
        note(log, x)
        if x == 1 and not mended.exists():
            wait_until(lambda: "0" in noted(log))
            raise ArithmeticError
        if x == 0:
            wait_until(lambda: mended.exists() or 1 in Checkpoint.load(folder / "c.pkl").failures)
        return 10 * x

    rows = [[n] for n in range(6)]
    with pytest.raises(ArithmeticError) as caught:
        chunk(f, rows, chunk_size=2, path=folder / "c.pkl")
    assert "1 of 6 results are safe" in _shown(caught.value)
    assert sorted(noted(log)) == ["0", "1"]
    mended.touch()
    assert chunk(f, rows, chunk_size=2, path=folder / "c.pkl") == [10 * n for n in range(6)]
    assert sorted(noted(log)[2:]) == ["1", "2", "3", "4", "5"]
