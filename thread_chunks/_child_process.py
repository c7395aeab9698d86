"""The parent's handle on one child interpreter: start it, talk to it, end it.

One rule: every wait here ends. The socket has a time-out, and at each one the
child is looked at; `ChildProcess.kill` may be called from any thread and ends a
wait at once. Who asks, and what is done about a death, is not known here.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from . import _child, _wire, config
from ._by_value import dump
from ._late import imported
from ._not_started import NotStartedError
from ._outbox import DONE
from ._received import rebuilt, results
from .errors import CallTimeoutError, WorkerDiedError
from .messages import FailedCall, Outcome

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
"""What tells numerical libraries how many threads they may use."""


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

    Attributes
    ----------
    is_exhausted : bool
        Whether a call ran out of memory: a fresh process gives back what this one holds.

    Raises
    ------
    NotStartedError
        If the system does not let it start.
    """

    def __init__(self, threads: int, outputs: tuple[int | None, int | None] = (None, None)) -> None:
        try:
            self._sock, self._process = _start(threads, outputs)
        except OSError as error:
            msg = f"the worker process could not be started: {error}"
            raise NotStartedError(msg) from error
        self.is_exhausted = False
        self._parent = os.getpid()
        self._deadline: float | None = None
        self._timeout = 0.0
        self._surroundings: Any = None
        self._func: Callable[..., Any] | None = None
        self._loading = 0

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs. It is not reaped: its number stays taken until its group is killed."""
        process = self._process
        if process.returncode is not None or not hasattr(os, "waitid"):
            return process.poll() is None
        try:
            return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:  # somebody else waited for it
            return process.poll() is None

    @property
    def resident(self) -> int:
        """The bytes of memory that the process holds now; 0 if it has ended."""
        psutil = imported("psutil")  # slow to import, and only a limit of memory asks
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

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

    def load(self, func: Callable[..., Any], pickled: "tuple[bytes, list[Any]] | None" = None) -> None:
        """Send the function, unless it was the last one sent."""
        if func is not self._func:
            self._send(("function", *_wire.out_of_band(*(pickled or _pickled(func)))))
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
            If no outcome came for `timeout` seconds; the child was killed.
        WorkerDiedError
            If the child died.
        """
        message = _chunk(indices, rows)
        self._finish_loading()  # starting up and importing is no part of the call
        moved = self._send((*message, lease, stops_at_failure, worker))
        self._set_deadline(timeout)
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
        if self._process.returncode is None:
            self._kill_group()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _kill_group(self) -> None:
        self._process.kill()  # it may have left its group
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self, grace: float) -> None:
        """Let the process end by itself; after `grace` seconds, kill it. Blocks until it is gone."""
        if self._process.returncode is None:
            with contextlib.suppress(WorkerDiedError):
                self._send(DONE)
            try:
                # A child that was never given a function runs nothing of the user's: it may still be starting.
                self._process.wait(0 if self._func is None else grace)
            except subprocess.TimeoutExpired:
                self.kill()
                self._process.wait()
        self._sock.close()

    def __del__(self) -> None:
        """End a child whose worker was forgotten without being stopped."""
        if hasattr(self, "_process") and self._parent == os.getpid():  # a fork of it has no children
            if self._process.returncode is None:
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

    def _set_deadline(self, timeout: float | None) -> None:
        self._timeout = timeout or 0.0
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def _check(self) -> None:
        """Look up from a wait: raise if it should end."""
        if not self.is_alive:
            raise EOFError
        if self._deadline is None:
            return
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            self.kill()
            self._process.wait()
            msg = f"the call took longer than its timeout of {self._timeout:g} s, and its process was killed"
            raise CallTimeoutError(msg) from None
        self._sock.settimeout(min(config.heartbeat_seconds, remaining + 0.001))

    def _death(self) -> WorkerDiedError:
        """Say how the process ended; one that lives on without its socket is killed."""
        end = time.monotonic() + config.heartbeat_seconds
        while self.is_alive and time.monotonic() < end:
            time.sleep(0.001)
        self.kill()  # and what the call had started: it would disturb the next try
        code = self._process.wait()
        return WorkerDiedError(f"the worker process {_describe_exit(code)}", code)

    def _failed_call(self, index: int, description: tuple[Any, ...]) -> FailedCall:
        self.is_exhausted |= description[-1]
        return FailedCall(index, rebuilt(*description), description[2])


def _start(
    threads: int, outputs: tuple[int | None, int | None]
) -> "tuple[socket.socket, subprocess.Popen[bytes]]":
    ours, theirs = map(_above_standard, socket.socketpair())
    with theirs:
        try:
            return ours, subprocess.Popen(  # noqa: S603 - our own interpreter and file
                [*_interpreter(), "-c", _child.PROGRAM, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=outputs[0] if _is_open(1) else subprocess.DEVNULL,
                stderr=outputs[1] if _is_open(2) else subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(os.environ, threads),
                process_group=0,  # what a call starts ends with it, when it is killed
            )
        except BaseException:
            ours.close()
            raise


def _above_standard(end: socket.socket) -> socket.socket:
    """Keep a socket from the numbers of the standard streams, should these be closed: calls print to them."""
    if end.fileno() > 2:  # noqa: PLR2004 - stderr
        return end
    with end:
        return socket.socket(fileno=fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _interpreter() -> list[str]:
    # -P: the working directory must not become importable before the parent says so.
    return [sys.executable, *subprocess._args_from_interpreter_flags(), "-P", *_x_options()]  # type: ignore[attr-defined]  # noqa: SLF001


def _x_options() -> Iterator[str]:
    """Yield all of them: what Python itself would pass on are only some."""
    for name, value in sys._xoptions.items():  # noqa: SLF001 - it is documented
        yield from ("-X", name if value is True else f"{name}={value}")


def _environment(environ: Mapping[str, str], threads: int) -> dict[str, str]:
    return dict.fromkeys(THREAD_VARIABLES, str(threads)) | dict(environ)


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


def _describe_exit(code: int) -> str:
    if code == _child.LOST_SOCKET:
        return f"ended with exit code {code}: a call closed the descriptors of its process, our socket too"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if code == -signal.SIGKILL:
        return (
            f"was killed by {name}: often the system's out-of-memory killer; "
            "a smaller chunk_size needs less memory"
        )
    if code == -signal.SIGSEGV:
        return f"was killed by {name}: run the script with python -X faulthandler to see where it crashed"
    return f"was killed by {name}"
