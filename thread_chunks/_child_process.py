"""The parent's handle on one child interpreter: start it, talk to it, end it.

One rule: every wait here ends. The socket has a time-out, and at each one the
child is looked at; `ChildProcess.kill` may be called from any thread and ends a
wait at once. Who asks, and what is done about a death, is not known here.
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import _child, _wire, config
from ._by_value import dump
from ._halt import Halt
from ._interpreter import environment, started
from ._late import imported
from ._not_started import NotStartedError
from ._outbox import DONE
from ._parameters import name_of
from ._process import Process
from ._received import rebuilt, results
from .errors import CallTimeoutError, WorkerDiedError
from .messages import FailedCall, Outcome


class UnreadableError(Exception):
    """The function or the parameters did not survive the journey; ``args[0]`` says why."""


class ChildProcess:
    """One child interpreter.

    Parameters
    ----------
    threads
        Threads that numerical libraries may use in the child, unless the user set the variables.
    outputs
        What the child gets as stdout and stderr; ``None`` for those of this process.
    tell_stalled
        Told, once for each wait, what it is that takes long before a call can begin.

    Attributes
    ----------
    is_exhausted : bool
        Whether a call ran out of memory: a fresh process gives back what this one holds.

    Raises
    ------
    NotStartedError
        If the system does not let it start.
    """

    def __init__(
        self,
        threads: int,
        outputs: tuple[int | None, int | None] = (None, None),
        tell_stalled: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._threads = threads
        self._environment = environment(os.environ, threads)
        try:
            self._sock, popen = started(_child.PROGRAM, self._environment, outputs)
        except (OSError, RuntimeError) as error:
            msg = f"the worker process could not be started: {error}"
            raise NotStartedError(msg) from error
        self._process = Process(popen)
        self.is_exhausted = False
        self._parent = os.getpid()
        self._deadline: float | None = None
        self._timeout = 0.0
        self._doing = ""
        self._halt: Halt | None = None
        self._tell_stalled = tell_stalled
        self._surroundings: Any = None
        self._func: Callable[..., Any] | None = None
        self._loading = 0

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.is_alive

    @property
    def resident(self) -> int:
        """The bytes of memory that the process holds now; 0 if it has ended."""
        psutil = imported("psutil")  # slow to import, and only a limit of memory asks
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def follow_environment(self) -> None:
        """Change in its environment what changed in that of this process; what a call changed there stays."""
        before, now = self._environment, environment(os.environ, self._threads)
        names = before.keys() | now.keys()
        changed = {name: now.get(name) for name in names if before.get(name) != now.get(name)}
        if changed:
            self._send(("environment", changed))
            self._environment = now

    def prepare(self) -> None:
        """Make imports, arguments and working directory those of this process now."""
        try:
            directory = os.getcwd()
        except OSError:  # it was deleted; the child was born in it all the same
            directory = None
        surroundings = list(sys.path), directory, list(sys.argv)
        if surroundings != self._surroundings:
            self._send(("setup", *surroundings))
            self._surroundings = surroundings

    def load(
        self,
        func: Callable[..., Any],
        pickled: "tuple[bytes, list[Any]] | None" = None,
        timeout: float | None = None,
    ) -> None:
        """Send the function, unless it was the last one sent."""
        if func is not self._func:
            message = "function", *_wire.out_of_band(*(pickled or _pickled(func)))
            with self._loading_within(timeout, func):
                self._send(message)
            self._func = func
            self._loading += 1

    def run(
        self,
        indices: Sequence[int],
        rows: tuple[int, Sequence[Any]],
        lease: float,
        *,
        timeout: float | None = None,
        durable: bool,
        worker: int = 0,
        stops_at_failure: bool = False,
    ) -> Iterator[tuple[tuple[Outcome, ...], bool, tuple[int, ...], int]]:
        """Run calls of the loaded function.

        Yields
        ------
        tuple of Outcome
            The outcomes that arrived together.
        bool
            Whether they were the last: calls without an outcome were not started.
        tuple of int
            Calls that are handed back unstarted, because another one takes long.
        int
            Bytes moved so far.

        Raises
        ------
        UnreadableError
            If function or parameters cannot be pickled or unpickled; no call was run.
        CallTimeoutError
            If no outcome came for `timeout` seconds, or the function was not loaded; the child was killed.
        WorkerDiedError
            If the child died.
        """
        message = _chunk(indices, rows)
        with self._loading_within(timeout, self._func):  # starting up and importing is no part of the call
            self._finish_loading()
        self._set_deadline(timeout, "the call")
        self._halt = Halt(config.stall_seconds)
        moved = self._send((*message, lease, stops_at_failure, worker))
        self._halt = None
        unreadable, is_last, ended = None, False, 0  # outcomes come in the order of the calls
        while not is_last:
            items = self._receive()
            is_last = items[-1] is DONE
            outcomes: list[Outcome] = []
            returned: tuple[int, ...] = ()
            for kind, *content in items[:-1] if is_last else items:
                if kind == "results":
                    count = len(content[0]) // _wire.COLUMN_BYTES
                    outcomes += results(indices[ended : ended + count], *content, durable=durable)
                    moved += sum(map(_wire.size, (content[2], *content[3])))
                    ended += count
                elif kind == "failed":
                    outcomes.append(self._failed_call(*content))
                    ended += 1
                elif kind == "returned":
                    returned += tuple(content[0])
                else:
                    unreadable = UnreadableError(rebuilt(*content[0]))
            if unreadable is None:
                yield tuple(outcomes), is_last, returned, moved
        self._set_deadline(None)
        if unreadable is not None:
            raise unreadable

    def kill(self) -> None:
        """End the process and its group at once. May be called from any thread, more than once."""
        self._process.kill()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def stop(self, grace: float) -> None:
        """Let the process end by itself; after `grace` seconds, kill it. Blocks until it is gone."""
        if not self._process.has_ended:
            self._set_deadline(grace, "its end")
            with contextlib.suppress(WorkerDiedError, CallTimeoutError):
                self._send(DONE)
            # A child that was never given a function runs nothing of the user's: it may still be starting.
            if not self._process.wait(0 if self._func is None else grace):
                self.kill()
                self._process.wait()
        self._sock.close()

    def __del__(self) -> None:
        """End a child whose worker was forgotten without being stopped."""
        if hasattr(self, "_process") and self._parent == os.getpid():  # a fork of it has no children
            if not self._process.has_ended:
                self.kill()
                self._process.wait()
            self._sock.close()

    # --- the conversation ---------------------------------------------------------

    def _send(self, message: Any) -> int:
        with self._watching():
            return int(_wire.send(self._sock, message, self._check))

    def _receive(self) -> list[Any]:
        with self._watching():
            return list(_wire.receive(self._sock, self._check))

    def _finish_loading(self) -> None:
        """Wait for what the child says of each function it was sent; the last one counts."""
        error = None
        while self._loading:
            replies = self._receive()
            self._loading -= len(replies)
            _, error = replies[-1]
        if error is not None:
            self._func = None
            raise UnreadableError(rebuilt(*error))

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Turn the end of the conversation into the death that it is."""
        self._sock.settimeout(min(config.heartbeat_seconds, self._timeout or config.heartbeat_seconds))
        try:
            yield
        except CallTimeoutError:
            raise
        except Exception as error:
            # End of file, a broken pipe, or bytes that no child of ours would send.
            raise self._death() from error

    def _set_deadline(self, timeout: float | None, doing: str = "") -> None:
        self._timeout, self._doing = timeout or 0.0, doing
        self._deadline = None if timeout is None else time.monotonic() + timeout

    @contextlib.contextmanager
    def _loading_within(self, timeout: float | None, func: Any) -> Iterator[None]:
        """Limit the time until the child has the function: `timeout`, but not less than importing may take."""
        limit = None if timeout is None else max(timeout, config.load_seconds)
        self._set_deadline(limit, f"loading {name_of(func)} in a worker process")
        self._halt = Halt(config.stall_seconds)
        try:
            yield
        finally:
            self._set_deadline(None)
            self._halt = None

    def _check(self) -> None:
        """Look up from a wait: raise if it should end."""
        if not self.is_alive:
            raise EOFError
        now = time.monotonic()
        if self._halt is not None and self._halt.is_news(now):
            self._tell_stalled(f"{self._doing} has taken more than {config.stall_seconds:g} s")
        if self._deadline is None:
            return
        remaining = self._deadline - now
        if remaining <= 0:
            self.kill()
            self._process.wait()
            msg = f"{self._doing} took longer than its timeout of {self._timeout:g} s, and its process was killed"
            raise CallTimeoutError(msg) from None
        self._sock.settimeout(min(config.heartbeat_seconds, remaining + 0.001))

    def _death(self) -> WorkerDiedError:
        """Say how the process ended; one that lives on without its socket is killed."""
        end = time.monotonic() + config.heartbeat_seconds
        while self.is_alive and time.monotonic() < end:
            time.sleep(0.001)
        self.kill()  # and what the call had started: it would disturb the next try
        self._process.wait()
        return WorkerDiedError(f"the worker process {self._process.describe()}", self._process.code)

    def _failed_call(self, index: int, description: tuple[Any, ...]) -> FailedCall:
        self.is_exhausted |= description[-1]
        return FailedCall(index, rebuilt(*description), description[2])


def _pickled(value: Any) -> tuple[bytes, list[Any]]:
    """Pickle what goes to the child, always by value what the child cannot import."""
    try:
        return dump(value)
    except Exception as error:
        raise UnreadableError(error) from error


def _chunk(indices: Sequence[int], rows: tuple[int, Sequence[Any]]) -> tuple[Any, ...]:
    """Pickle the rows of a chunk: as one if that is the same, else each by itself, as each call gets its own copy."""
    width, values = rows
    if len(indices) == 1 or (width and _wire.kinds(values) <= _wire.PLAIN):
        return "chunk", *_wire.out_of_band(*_pickled((indices, rows)))
    return (
        "rows",
        indices,
        [_wire.out_of_band(*_pickled(row)) for row in zip(*_wire.unflat(*rows), strict=True)],
    )
