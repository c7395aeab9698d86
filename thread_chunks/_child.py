"""The child's half of a process worker: run calls in a fresh interpreter.

This file is started as a script with one argument, the number of a socket that
it shares with its worker. It must start fast, so it imports little and knows
nothing of the rest of the package (the parent imports *it*, for the framing and
the pickling that both ends share).

Three threads, joined by queues::

    socket ──▶ reader ──inbox──▶ main: runs the calls ──outbox──▶ sender ──▶ socket

* *main* runs the user's code, as user code expects (signals, GUIs, event loops).
* *reader* notices at once when the parent is gone, and ends the process.
* *sender* takes everything that waits in the outbox as one message: a long call
  never holds back the result of the short one before it, nor, beyond the lease of
  its chunk, the calls behind it; and many short calls share one message.

A message is one pickle of builtin types, its large buffers out of band:
``count, lengths of the parts, pickle, buffer, buffer, ...``
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    class Stream(Protocol):
        """What both ends of the conversation are: a socket in the parent, a `Descriptor` here."""

        def send(self, data: memoryview, /) -> int: ...
        def recv_into(self, buffer: memoryview, /) -> int: ...


OUT_OF_BAND_BYTES = 1 << 16  # below this, copying is cheaper than another system call
PIECE = 1 << 30  # the kernel moves no more than 2 GiB at once
MAX_BUFFERS = 1000  # beyond this the buffers travel inside the pickle
FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
LOST_SOCKET = 74  # exit code of a child whose socket was closed by the user's code
DONE = None  # in the outbox: the chunk is over; as a message: end of the conversation


# --- framing and pickling, shared with the parent -----------------------------


def dump(value: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle `value` into ``(main, buffers)``; what pickle cannot take, cloudpickle takes by value."""
    buffers: list[memoryview] = []
    return _dumps(value, buffers), buffers


def _dumps(value: Any, buffers: list[memoryview] | None = None) -> bytes:
    """Pickle `value`, its large buffers out of band if there is a list for them."""

    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        # Only contiguous buffers have a flat view; the others travel inside the pickle.
        if buffers is None or len(buffers) == MAX_BUFFERS:
            return True
        try:
            view = buffer.raw()
        except BufferError:
            return True
        if view.nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(view)
        return False

    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL, buffer_callback=keep_in_band)
    except (pickle.PicklingError, AttributeError, TypeError):
        import cloudpickle

        if buffers is not None:
            buffers.clear()
        pickled: bytes = cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL, buffer_callback=keep_in_band)
        return pickled


def send(stream: Stream, message: Any, check: Callable[[], None] | None = None) -> int:
    """Write one message. With a time-out on the socket, `check` is called at each, to raise or go on."""
    body, buffers = dump(message)
    parts = [body, *buffers]
    head = struct.pack(f"<I{len(parts)}Q", len(parts), *map(_size, parts))
    _write(stream, head + body, check)
    for buffer in buffers:
        _write(stream, buffer, check)
    return len(body) + sum(buffer.nbytes for buffer in buffers)


def receive(stream: Stream, check: Callable[[], None] | None = None) -> Any:
    """Read one message, as `send` wrote it; an `EOFError` if the other end is gone."""
    (count,) = struct.unpack("<I", _read(stream, 4, check))
    sizes = struct.unpack(f"<{count}Q", _read(stream, 8 * count, check))
    body, *buffers = [_read(stream, size, check) for size in sizes]
    return pickle.loads(body, buffers=buffers)


def _size(part: Any) -> int:
    return memoryview(part).nbytes


def _write(stream: Stream, data: Any, check: Callable[[], None] | None) -> None:
    view = memoryview(data).cast("B")
    while view:
        try:
            view = view[stream.send(view) :]
        except TimeoutError:
            _look_up(check)


def _read(stream: Stream, size: int, check: Callable[[], None] | None) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        try:
            count = stream.recv_into(view)
        except TimeoutError:
            _look_up(check)
            continue
        if not count:
            raise EOFError
        view = view[count:]
    return data


def _look_up(check: Callable[[], None] | None) -> None:
    if check is not None:
        check()


# --- running calls --------------------------------------------------------------


def run_call(func: Callable[..., Any], index: int, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run one call; whatever comes out of it, an exit included, becomes an outcome of plain data."""
    start = time.perf_counter()
    try:
        result = func(*args, **kwargs)
    except BaseException as error:
        return index, time.perf_counter() - start, None, packed(error)
    seconds = time.perf_counter() - start
    try:
        main, buffers = dump(result)
    except BaseException as error:
        return index, seconds, None, packed(unpicklable(error))
    return index, seconds, main, tuple(map(pickle.PickleBuffer, buffers))


def unpicklable(error: BaseException) -> Exception:
    """Say that it was the result of a call that could not be pickled; why is the cause."""
    name, message, _ = describe(error)
    error.with_traceback(_users_part(error))
    BaseException.__setattr__(error, "__context__", None)  # how pickle failed before cloudpickle did
    found = pickle.PicklingError(f"the result of the call cannot be pickled: {name}: {message}")
    found.__cause__ = error
    return found


def _users_part(error: BaseException) -> Any:
    """Return the traceback from the user's code on: our own frames only hide it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(FOLDER):
        trace = trace.tb_next
    return trace


def packed(error: BaseException) -> tuple[str, str, str, bytes | None, bool]:
    """Turn an exception into plain data: its description, its pickle, and whether memory ran out."""
    if isinstance(error, MemoryError):
        give_back(error)
    try:
        pickled = _dumps(error)
    except BaseException:
        pickled = None
    return *describe(error), pickled, isinstance(error, MemoryError)


def give_back(error: BaseException) -> None:
    """Drop what the frames of an exception hold: without memory not even that could be said."""
    trace = error.__traceback__
    while trace is not None:
        with contextlib.suppress(RuntimeError):  # our own frame still runs
            trace.tb_frame.clear()
        trace = trace.tb_next


def describe(error: BaseException) -> tuple[str, str, str]:
    """Turn an exception into ``(type name, message, traceback)``."""
    try:
        message = str(error)
    except BaseException:
        message = "(its message cannot be shown)"
    import traceback

    try:
        text = "".join(traceback.format_exception(type(error), error, _users_part(error)))
    except BaseException:
        text = f"{type(error).__qualname__}: {message}\n"
    return type(error).__qualname__, message, text


class Runner:
    """What the main thread does: obey the inbox, one message at a time, until it says stop."""

    def __init__(self, inbox: queue.SimpleQueue[Any], outbox: queue.SimpleQueue[Any]) -> None:
        self.inbox = inbox
        self.outbox = outbox
        self.process = os.getpid()
        self.func: Any = None
        self.calls: collections.deque[Any] = collections.deque()

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

    def function(self, pickled: bytes) -> None:
        """Load the function, and say how that went; it stays until the next one."""
        try:
            self.func = pickle.loads(pickled)
            self.outbox.put(("ready", None))
        except BaseException as error:
            self.outbox.put(("broken function", packed(error)))

    def chunk(self, pickled: bytes, lease: float, stops_at_failure: bool) -> None:
        """Run the calls of one chunk, as long as the sender has not handed them back."""
        self.calls.extend(self._calls(pickled))
        if len(self.calls) > 1:
            self.outbox.put(("lease", lease))
        while self.calls:
            try:
                index, args, kwargs = self.calls.popleft()
            except IndexError:
                break  # the sender was faster
            outcome = run_call(self.func, index, args, kwargs)
            if os.getpid() != self.process:
                leave_fork(outcome)
            self.outbox.put(outcome)
            if outcome[2] is None and (stops_at_failure or outcome[3][-1]):
                self.calls.clear()  # what is not started goes to others, or to a process with more memory
        self.outbox.put(DONE)

    def take_back(self) -> list[int]:
        """Take every call that is not started out of the chunk; the sender's thread does."""
        indices = []
        try:
            while True:
                indices.append(self.calls.pop()[0])
        except IndexError:
            return indices[::-1]

    def _calls(self, pickled: bytes) -> Any:
        try:
            return pickle.loads(pickled)
        except BaseException as error:
            self.outbox.put(("broken parameters", packed(error)))
            return ()


def leave_fork(outcome: Any) -> None:
    """End a copy of this process that the user's call forked and let out of the call: it is no worker."""
    if outcome[2] is None:
        sys.stderr.write(outcome[3][2])
    for output in (sys.stdout, sys.stderr):
        output.flush()
    os._exit(outcome[2] is None)


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
            found = os.fstat(self.number)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def send(self, data: memoryview) -> int:
        """Write some bytes; return how many."""
        self._check()
        return os.write(self.number, data[:PIECE])

    def recv_into(self, buffer: memoryview) -> int:
        """Read some bytes; return how many, 0 if the other end is gone."""
        self._check()
        return os.readv(self.number, [buffer[:PIECE]])

    def _check(self) -> None:
        if self._look() != self.identity:
            os._exit(LOST_SOCKET)


# --- the three threads ------------------------------------------------------------


def read_messages(stream: Stream, inbox: queue.SimpleQueue[Any]) -> None:
    """Feed the inbox; without a parent, end this process, whatever it is doing."""
    try:
        while (message := receive(stream)) is not DONE:
            inbox.put(message)
        inbox.put(DONE)
        receive(stream)
    except (EOFError, OSError):
        os._exit(1)


def send_outcomes(stream: Stream, runner: Runner) -> None:
    """Empty the outbox into the socket, everything that waits as one message.

    When the lease of a chunk is over while one of its calls still runs, hand the
    calls behind it back: another worker is free to run them.
    """
    die_with_parent()
    outbox = runner.outbox
    end: float | None = None
    while True:
        try:
            batch = [outbox.get(timeout=None if end is None else max(0.0, end - time.monotonic()))]
            while not outbox.empty():
                batch.append(outbox.get())
        except queue.Empty:
            batch, end = [("returned", runner.take_back())], None
        for item in batch:
            if item is DONE:
                end = None
            elif item[0] == "lease":
                end = time.monotonic() + item[1]
        batch = [item for item in batch if item is DONE or item[0] != "lease"]
        try:
            if batch:
                send(stream, batch)
        except OSError:
            os._exit(1)


def die_with_parent() -> None:
    """On Linux, ask the kernel to kill this process when the thread that started it ends.

    End-of-file on the socket says the same, but no thread of ours can read it
    while a call holds the interpreter's lock. The kernel keeps the wish with the
    thread that asked, so a thread that stays must ask.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))


def main(descriptor: int) -> None:
    """Run calls until told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    for number in (signal.SIGTTIN, signal.SIGTTOU):  # a group of its own may neither read nor be stopped
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - its only signature
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(line_buffering=True)
    stream = Descriptor(descriptor)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=read_messages, args=(stream, inbox), daemon=True).start()
    runner = Runner(inbox, outbox)
    threading.Thread(target=send_outcomes, args=(stream, runner), daemon=True).start()
    runner.loop()


if __name__ == "__main__":
    main(int(sys.argv[1]))
