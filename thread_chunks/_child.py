"""The child's half of a process worker: run calls in a fresh interpreter.

The interpreter is started with `PROGRAM`, which imports this module, `_outbox`, `_outcome`,
`_classes`, `_inside` and `_wire` without the rest of the package: a child must start fast, so they import
little. (As modules, and not a script, their compiled code is kept.)

Three threads, joined by boxes::

    socket ──▶ reader ──inbox──▶ main: runs the calls ──outbox──▶ sender ──▶ socket

* *main* runs the user's code, as user code expects (signals, GUIs, event loops).
* *reader* notices at once when the parent is gone, and ends the process.
* *sender* takes everything that waits in the outbox as one message, at the end of a
  chunk at once, before it a few milliseconds after the first: many short calls share
  one message, and a long call never holds back the result of the short one before it,
  nor, beyond the lease of its chunk, the calls behind it.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import os
import sys
import threading
from os import _exit as end_process
from os import fstat, getpid, readv, write
from time import monotonic, perf_counter, time

from . import _inside, _outcome, _wire
from ._classes import load
from ._outbox import DONE, LONG, Message, Outbox, read_peak
from ._outcome import packed

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    import queue
    import signal
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any
else:  # the same without what a child does not need: it starts in half the time
    import _queue as queue
    import _signal as signal

globals()["__builtins__"] = dict(vars(builtins))  # as in `_wire`

PIECE = 1 << 30  # the kernel moves no more than 2 GiB at once
LOST_SOCKET = 74  # exit code of a child whose socket was closed by the user's code
NO_MEMORY = 75  # of one that has none left for what it is sent, or has to say
BROKEN = 76  # of one in which something else failed that is no call
PROGRAM = f"""\
import gc, sys
gc.disable()
package = type(sys)("thread_chunks")
package.__path__ = [{_outcome.FOLDER!r}]
sys.modules["thread_chunks"] = package
from thread_chunks._child import main
del sys.modules["thread_chunks"], package, gc
main(int(sys.argv[1]))
"""  # the package without its own imports; whoever imports it later gets the real one


# --- running calls --------------------------------------------------------------


class Runner:
    """What the main thread does: obey the inbox, one message at a time, until it says stop."""

    def __init__(self, inbox: queue.SimpleQueue[Any], outbox: Outbox) -> None:
        self.inbox = inbox
        self.outbox = outbox
        self.process = getpid()
        self.func: Any = None
        self.worker = 0
        # One iterator for two threads: each call goes to who asks first, and none is made before.
        self.calls: Iterator[tuple[int, Any, Any]] = iter(())

    def loop(self) -> None:
        """Return when the parent says that it needs no more."""
        while (message := self.inbox.get()) is not DONE:
            kind, *content = message
            getattr(self, kind)(*content)

    def setup(self, path: list[str], directory: str | None, argv: list[str]) -> None:
        """Look like the parent: same imports, same working directory, same arguments."""
        sys.path[:] = path
        sys.argv[:] = argv
        if directory is not None:
            os.chdir(directory)

    def environment(self, changed: dict[str, str | None]) -> None:
        """Take over what changed in the parent's environment."""
        for name, value in changed.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def function(self, pickled: bytes, buffers: list[Any]) -> None:
        """Load the function, and say how that went; it stays until the next one."""
        try:
            self.func = load(pickled, buffers)
            answer: tuple[str, Any] = "ready", None
        except BaseException as error:
            answer = "broken function", packed(error)
        if not gc.isenabled():  # the interpreter just started: what was imported stays, and need not be
            gc.freeze()  # looked at again and again; until here, it was not looked at, either
            gc.enable()
        self.outbox.say(answer)

    def chunk(
        self, pickled: bytes, buffers: list[Any], lease: float, stops_at_failure: bool, worker: int
    ) -> None:
        """Run the calls of one chunk; all rows are one pickle, which is for values that can be shared."""
        self.worker = worker
        try:
            indices, rows = load(pickled, buffers)
            self.calls = zip(indices, *_wire.unflat(*rows), strict=True)
        except BaseException as error:
            self.outbox.say(("broken parameters", packed(error)))
            self.outbox.say(DONE)
        else:
            self._run(len(indices), lease, _outcome.run_call, stops_at_failure)

    def rows(
        self,
        indices: Sequence[int],
        rows: list[tuple[bytes, list[Any]]],
        lease: float,
        stops_at_failure: bool,
        worker: int,
    ) -> None:
        """Run the calls of one chunk whose rows are pickled each by itself: no call sees what another did to them."""
        self.worker = worker
        self.calls = zip(indices, *zip(*rows, strict=True), strict=True)
        self._run(len(indices), lease, run_pickled, stops_at_failure)

    def _run(
        self, count: int, lease: float, run: Callable[[Any, Any, Any], _outcome.Ran], stops_at_failure: bool
    ) -> None:
        """Run calls, as long as the sender has not handed them back."""
        func, put, process = self.func, self.outbox.put, self.process
        if count > 1:
            self.outbox.say(("lease", lease))
        for index, args, kwargs in self.calls:
            start, seconds, outcome = run(func, args, kwargs)
            if getpid() != process:
                _outcome.leave_fork(process, outcome[1][2] if outcome[0] == "failed" else None)
            if type(outcome) is bytes and seconds < LONG:
                put(index, seconds, outcome)
            elif outcome[0] == "failed":
                put(index, seconds, outcome)
                if stops_at_failure or outcome[1][-1]:
                    self.take_back()  # what is not started goes to others, or to a process with more memory
            else:
                self._put_alone(index, start, seconds, outcome, is_only=count == 1)
        self.outbox.say(DONE)

    def _put_alone(self, index: int, start: float, seconds: float, outcome: Any, *, is_only: bool) -> None:
        """Hand on a result that is large, or took long, and so knows when it began and what memory it took."""
        is_large = type(outcome) is not bytes
        _, main, buffers = outcome if is_large else ("", outcome, ())
        if not is_only:  # the next call may write into the same memory
            buffers = list(map(bytearray, buffers))
        peak = read_peak() if seconds >= LONG else 0
        elapsed = perf_counter() - start
        started = time() - elapsed
        self.outbox.put(index, seconds, ("alone", main, buffers, started, peak), is_urgent=is_large)

    def take_back(self) -> list[int]:
        """Take every call that is not started out of the chunk; the sender's thread does."""
        return [index for index, *_ in list(self.calls)]


def run_pickled(func: Callable[..., Any], main: bytes, buffers: list[Any]) -> _outcome.Ran:
    """Run one call whose row is still pickled; what comes out of unpickling it is its outcome, too."""
    try:
        args, kwargs = load(main, buffers)
    except BaseException as error:
        return 0.0, 0.0, ("failed", packed(error))
    return _outcome.run_call(func, args, kwargs)


class Descriptor:
    """The child's end of the socket, without the slow import of the socket module.

    User code may close every descriptor, as daemons do, and the next file it opens then
    has our number: so it is looked at first, and nothing of ours ever lands in a file of
    the user's, nor is anything of his read.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.identity = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = fstat(self.number)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def send(self, data: memoryview) -> int:
        """Write some bytes; return how many."""
        return self._checked(lambda: write(self.number, data[:PIECE]))

    def recv_into(self, buffer: memoryview) -> int:
        """Read some bytes; return how many, 0 if the other end is gone."""
        return self._checked(lambda: readv(self.number, [buffer[:PIECE]]))

    def _checked(self, use: Callable[[], int]) -> int:
        """Look before it is used; and if it was closed right then, behind it."""
        try:
            self._check()
            return use()
        except OSError:
            self._check()
            raise

    def _check(self) -> None:
        if self._look() != self.identity:
            end_process(LOST_SOCKET)


# --- the three threads ------------------------------------------------------------


def kept(run: Callable[..., None], *arguments: Any) -> None:
    """Do what one of the three threads does; without it the parent would wait for ever, so nothing else is left, either."""
    try:
        run(*arguments)
    except MemoryError:
        end_process(NO_MEMORY)
    except BaseException as error:
        try:
            sys.stderr.write(_outcome.describe(error)[2])
            _outcome.flush()
        except BaseException:  # what a call left there may be broken, too
            pass
        end_process(BROKEN)


def read_messages(stream: _wire.Stream, inbox: queue.SimpleQueue[Any]) -> None:
    """Feed the inbox; without a parent, end this process, whatever it is doing."""
    try:
        while (message := _wire.receive(stream)) is not DONE:
            inbox.put(message)
        inbox.put(DONE)
        _wire.receive(stream)
    except (EOFError, OSError):
        end_process(1)


def send_outcomes(stream: _wire.Stream, runner: Runner) -> None:
    """Empty the outbox into the socket, everything that waits as one message.

    When the lease of a chunk is over while one of its calls still runs, hand the
    calls behind it back: another worker is free to run them.
    """
    die_with_parent()
    end: float | None = None
    while True:
        timeout = None if end is None else max(0.0, end - monotonic())
        began, indices, seconds, items = runner.outbox.take(timeout)
        message = list(Message(runner.worker, indices, seconds, items).parts(began))
        for item in items:
            if item is DONE:
                end = None
            elif type(item) is tuple and item[0] == "lease":
                end = monotonic() + item[1]
        if end is not None and monotonic() >= end:
            message.append(("returned", runner.take_back()))
            end = None
        try:
            if message:
                _wire.send(stream, message)
        except OSError:
            end_process(1)


def die_with_parent() -> None:
    """On Linux, ask the kernel to kill this process when the thread that started it ends.

    End-of-file on the socket says the same, but no thread of ours can read it
    while a call holds the interpreter's lock. The kernel keeps the wish with the
    thread that asked, so a thread that stays must ask.
    """
    if sys.platform == "linux":
        try:
            import ctypes

            ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
        except (ImportError, AttributeError, OSError):  # a Python built without it
            pass


def main(descriptor: int) -> None:
    """Run calls until told to stop."""
    kept(serve, descriptor)


def serve(descriptor: int) -> None:
    """Start the other two threads, and run calls in this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    for number in (signal.SIGTTIN, signal.SIGTTOU):  # a group of its own may neither read nor be stopped
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - its only signature
    for output in (sys.stdout, sys.stderr):
        if hasattr(output, "reconfigure"):
            output.reconfigure(line_buffering=True)
    stream = Descriptor(descriptor)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    outbox = Outbox()
    threading.Thread(target=kept, args=(read_messages, stream, inbox), daemon=True).start()
    runner = Runner(inbox, outbox)
    threading.Thread(target=kept, args=(send_outcomes, stream, runner), daemon=True).start()
    _inside.calling(_inside.ELSEWHERE, runner.loop)
    leave()


def leave() -> None:
    """End this process as the interpreter would, but for taking apart what memory holds."""
    # The first waits for the user's threads. The first two are called so by processes of multiprocessing, too.
    for step in (threading._shutdown, atexit._run_exitfuncs, _outcome.flush):  # type: ignore[attr-defined]  # noqa: SLF001
        try:
            step()
        except BaseException:  # what is raised in here was shown, and ends nothing
            continue
    end_process(0)
