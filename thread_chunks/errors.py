"""Every exception and warning: what happened, what is safe, what to do next.

All errors derive from `ThreadChunksError`, and each that is raised also from the builtin
that a user would catch. Whatever actor or process meets one, it is raised, or warned of, in
the thread that called `chunk`, or that goes through `Chunker.as_completed`, or that uses a
`Checkpoint`. An `execute` of the user's meets two of them earlier, in its worker's thread:
`WorkerDiedError` and `CallTimeoutError`. This room knows nothing of the others.
"""

import signal
from dataclasses import dataclass
from typing import Any


class ThreadChunksError(Exception):
    """Base of every error that this library raises of its own.

    Each that is raised is also the builtin that one would catch, and is raised in the thread that called
    `chunk`. What a user's function raises is none of them: it is raised as it is.

    Examples
    --------
    >>> from thread_chunks import CallTimeoutError, ThreadChunksError
    >>> issubclass(CallTimeoutError, ThreadChunksError), issubclass(CallTimeoutError, TimeoutError)
    (True, True)
    """


class CheckpointError(ThreadChunksError):
    """Base of the errors about a checkpoint file. The file is as it was.

    Raised in the caller's thread: by `chunk` before any call runs, and by the methods of `Checkpoint` that
    read or write a file.

    Examples
    --------
    >>> from thread_chunks import CheckpointError, chunk
    >>> with open("notes.txt", "w") as file:
    ...     print("buy milk", file=file)
    >>> try:
    ...     chunk(abs, [[-1]], path="notes.txt")
    ... except CheckpointError as error:
    ...     print(type(error).__name__)
    NotACheckpointError
    """


class NotACheckpointError(CheckpointError, ValueError):
    """The file at the path is some other program's; it is left alone.

    Also for what is no regular file. Raised in the caller's thread, by `chunk` before any call runs, and by
    `Checkpoint.load`.

    Examples
    --------
    >>> from thread_chunks import Checkpoint, NotACheckpointError
    >>> with open("notes.txt", "w") as file:
    ...     print("buy milk", file=file)
    >>> try:
    ...     Checkpoint.load("notes.txt")
    ... except NotACheckpointError as error:
    ...     print(error)
    notes.txt is not a checkpoint of thread-chunks. It was left alone. Use another path, or move the file away.
    """


class CheckpointVersionError(CheckpointError, ValueError):
    """The file was written by a newer release of this library, or by a Python that pickles in a newer way.

    It is left alone. Raised in the caller's thread, by `chunk` before any call runs, and by `Checkpoint.load`.

    Examples
    --------
    >>> import zlib
    >>> from pathlib import Path
    >>> from thread_chunks import Checkpoint, CheckpointVersionError, chunk
    >>> outputs = chunk(abs, [[-1]], path="newer.pkl", progress_bar=False)
    >>> data = bytearray(Path("newer.pkl").read_bytes())
    >>> data[12] = 99  # the version of the format; the checksum of the header is at byte 160
    >>> data[160:164] = zlib.crc32(data[4:16] + bytes(4) + data[20:160]).to_bytes(4, "little")
    >>> count = Path("newer.pkl").write_bytes(data)
    >>> try:
    ...     Checkpoint.load("newer.pkl")
    ... except CheckpointVersionError as error:
    ...     print("file format 99" in str(error))
    True
    """


class CheckpointCorruptError(CheckpointError, ValueError):
    """The file is ours, but its head is damaged and cannot be trusted.

    Or a module is missing that its parameters need. The file is left alone. Raised in the caller's
    thread, by `chunk` before any call runs, and by `Checkpoint.load`.

    Examples
    --------
    >>> from thread_chunks import Checkpoint, CheckpointCorruptError, chunk
    >>> outputs = chunk(abs, [[-1]], path="hit.pkl", progress_bar=False)
    >>> with open("hit.pkl", "r+b") as file:  # behind the header of 165 bytes is the head
    ...     place = file.seek(200)
    ...     count = file.write(bytes(8))
    >>> try:
    ...     Checkpoint.load("hit.pkl")
    ... except CheckpointCorruptError as error:
    ...     print("damaged" in str(error))
    True
    """


class CheckpointLockedError(CheckpointError, BlockingIOError):
    """Another run holds the checkpoint file.

    Raised in the caller's thread, by `chunk` before any call runs, and where a `Checkpoint` is saved; neither
    waits for the other run. `Checkpoint.load` needs no lock.

    Attributes
    ----------
    pid : int or None
        The process that holds the file, where the file says so.

    Examples
    --------
    >>> import os
    >>> from thread_chunks import CheckpointLockedError, Chunker, chunk
    >>> with Chunker(abs, chunk_size=1, progress_bar=False) as chunker:
    ...     for index, output in chunker.as_completed([[-1], [-2]], path="held.pkl"):
    ...         try:
    ...             chunk(abs, [[-1], [-2]], path="held.pkl")
    ...         except CheckpointLockedError as error:
    ...             print(error.pid == os.getpid())
    True
    True
    """

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid

    def __str__(self) -> str:
        return str(self.args[0])


class CheckpointMismatchError(CheckpointError, ValueError):
    """The file belongs to another function or to other parameters.

    Only under ``on_mismatch="raise"``; the text says what differs. The file is left alone. Raised in the
    caller's thread, before any call runs.

    Examples
    --------
    >>> from thread_chunks import CheckpointMismatchError, chunk
    >>> outputs = chunk(abs, [[-1], [-2]], path="abs.pkl", progress_bar=False)
    >>> try:
    ...     chunk(abs, [[-1], [-3]], path="abs.pkl", on_mismatch="raise")
    ... except CheckpointMismatchError as error:
    ...     print("-2 was saved, -3 is asked for" in str(error))
    True
    """


class RunStoppedError(ThreadChunksError, RuntimeError):
    """The run cannot go on: its actors were stopped by someone else, or it crashed in a loop.

    Or another thread closed the `Chunker` that it belongs to. Raised in the caller's thread; what was saved is
    safe, and with a path a note on the error says how much that is.

    Examples
    --------
    >>> import os
    >>> from thread_chunks import RunStoppedError, chunk
    >>> try:
    ...     chunk(os._exit, [[3]] * 50, on_error="continue", progress_bar=False)
    ... except RunStoppedError as error:
    ...     print("exit code 3" in str(error))
    True
    """


class TimeLimitError(ThreadChunksError, TimeoutError):
    """The run came to the time of ``stop_before`` before all its calls ended.

    Raised in the caller's thread. With a path, what was saved is safe, and the same call goes on from there.

    Examples
    --------
    >>> from datetime import timedelta
    >>> from thread_chunks import TimeLimitError, chunk
    >>> try:
    ...     chunk(abs, [[-1]], path="late.pkl", stop_before=timedelta(seconds=-1), progress_bar=False)
    ... except TimeLimitError as error:
    ...     print(error.__notes__[0])
    0 of 1 results are safe in late.pkl; make the same call again to go on from there
    """


class WorkerDiedError(ThreadChunksError, RuntimeError):
    """The process that ran a call died, the Ray actor did, or the executor lost the call.

    Raised by ``super().execute(...)`` in a worker's thread, where it should be let through; and for a call
    that died again when it was retried, as `on_error` says, in the caller's thread.

    Attributes
    ----------
    index : int or None
        The call; ``None`` in the worker's thread, where it is not known.
    parameters : Any
        The entry of the parameter list; ``None`` in the worker's thread.
    exit_code : int or None
        What the process ended with, if it was a child process: negative numbers are signals.
    is_shared : bool
        Whether other calls may have run in the same process, so that one of them may be to blame.

    Examples
    --------
    >>> import os
    >>> from thread_chunks import chunk
    >>> [failure] = chunk(os._exit, [[3]], on_error="return", progress_bar=False)
    >>> failure.exception
    WorkerDiedError('call 0: the worker process ended with exit code 3', 3)
    >>> failure.exception.index, failure.exception.parameters, failure.exception.exit_code
    (0, [3], 3)
    """

    index: int | None = None
    parameters: Any = None

    def __init__(self, message: str, exit_code: int | None = None, *, is_shared: bool = False) -> None:
        super().__init__(message, exit_code)
        self.exit_code = exit_code
        self.is_shared = is_shared

    @property
    def is_kill(self) -> bool:
        """Whether it was killed by SIGKILL, as by a system whose memory ran out."""
        return self.exit_code == -signal.SIGKILL

    def __str__(self) -> str:
        return str(self.args[0])


class CallTimeoutError(ThreadChunksError, TimeoutError):
    """A call took longer than ``timeout`` seconds, and its process or Ray actor was killed.

    Raised by ``super().execute(...)`` in a worker's thread, where it should be let through; and as
    `on_error` says in the caller's thread. It is not tried again, unless `retries` says so.

    Attributes
    ----------
    index : int or None
        The call; ``None`` in the worker's thread, where it is not known.
    parameters : Any
        The entry of the parameter list; ``None`` in the worker's thread.

    Examples
    --------
    >>> import time
    >>> from thread_chunks import chunk
    >>> [failure] = chunk(time.sleep, [[60]], timeout=0.5, on_error="return", progress_bar=False)
    >>> type(failure.exception).__name__, failure.exception.index, failure.exception.parameters
    ('CallTimeoutError', 0, [60])
    """

    index: int | None = None
    parameters: Any = None


class CallExitError(ThreadChunksError, RuntimeError):
    """A call ended with an exit, such as `SystemExit`, which would end more than the script that called ``chunk()``.

    In the main thread of a script the exit itself is raised. In another thread, where it would stop
    every actor of the process, an event loop, or just that thread without a word, it is the ``__cause__`` of
    this error, which is raised there instead. So is `StopIteration`, which an event loop may wait for in vain.
    Under ``on_error="return"`` the exit itself is in the `Failure`.

    Examples
    --------
    >>> import sys
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from thread_chunks import chunk
    >>> with ThreadPoolExecutor(1) as other_thread:
    ...     error = other_thread.submit(chunk, sys.exit, [[3]], progress_bar=False).exception()
    >>> type(error).__name__, error.__cause__
    ('CallExitError', SystemExit(3))
    """


class RemoteError(ThreadChunksError, RuntimeError):
    """Stands in for an exception of a call that did not survive pickling, or that Python could not raise safely.

    Or for a result that cannot be unpickled here. Raised in the caller's thread, as `on_error` says. Where
    calls run in this process, nothing is pickled on the way, and the exception itself is raised.

    Attributes
    ----------
    type_name : str
        The name of the type of the original exception, or of the one that unpickling raised.

    Examples
    --------
    >>> from thread_chunks import chunk
    >>> class Stubborn(Exception):
    ...     def __reduce__(self):
    ...         raise TypeError("I do not travel")
    >>> def fail():
    ...     raise Stubborn("stays where it is")
    >>> [failure] = chunk(fail, [[]], on_error="return", progress_bar=False)
    >>> failure.exception.type_name, "stays where it is" in str(failure.exception)
    ('Stubborn', True)
    """

    def __init__(self, message: str, type_name: str = "") -> None:
        super().__init__(message, type_name)
        self.type_name = type_name

    def __str__(self) -> str:
        return str(self.args[0])


class RemoteTraceback(ThreadChunksError):  # noqa: N818 - it is shown as a traceback, never raised
    """The traceback of a call as the worker saw it: the cause of the exception that is raised.

    Never raised itself: Python shows it above the exception in the caller's thread, as its ``__cause__``. What
    was raised in a thread of this process has its own traceback, and needs none of these.

    Examples
    --------
    >>> from thread_chunks import chunk
    >>> def half(x):
    ...     return x / 2
    >>> [failure] = chunk(half, [["one"]], on_error="return", progress_bar=False)
    >>> cause = failure.exception.__cause__
    >>> type(cause).__name__, "in half" in str(cause)
    ('RemoteTraceback', True)
    """

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class CallExitWarning(UserWarning):
    """A call ended with `SystemExit`, and so does the script now; Python shows nothing of that by itself.

    Given in the main thread of a script, right before the exit is raised there.

    Examples
    --------
    >>> import sys, warnings
    >>> from thread_chunks import chunk
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     try:
    ...         chunk(sys.exit, [[3]], progress_bar=False)
    ...     except SystemExit as exit:
    ...         print(exit.code, caught[0].category.__name__)
    3 CallExitWarning
    """


class EngineStalledWarning(UserWarning):
    """What runs the calls has come to a halt, such as a cluster without workers. The run waits for it.

    Given in the caller's thread, once for each halt, after `config.stall_seconds` without a sign; the run
    goes on when the engine does. As an error it ends the run.

    Examples
    --------
    >>> import threading, warnings
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from thread_chunks import EngineStalledWarning, ExecutorWorker, chunk, config
    >>> gate, before, config.stall_seconds = threading.Event(), config.stall_seconds, 0.1
    >>> with ThreadPoolExecutor(1) as pool, warnings.catch_warnings():
    ...     warnings.simplefilter("error", EngineStalledWarning)
    ...     waiting = pool.submit(gate.wait, 60)  # it takes the only thread
    ...     try:
    ...         chunk(abs, [[-1]], worker=ExecutorWorker.on(pool), progress_bar=False)
    ...     except EngineStalledWarning as warning:
    ...         print(str(warning).partition(",")[0])
    ...     gate.set()
    no thread of the executor begins a call
    >>> config.stall_seconds = before
    """


class CheckpointWarning(UserWarning):
    """Base of the warnings about a checkpoint file.

    Given in the caller's thread: when the file is opened, while the run goes on, or at its end.

    Examples
    --------
    >>> import warnings
    >>> from thread_chunks import CheckpointWarning, chunk
    >>> outputs = chunk(abs, [[-1]], path="abs.pkl", progress_bar=False)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", CheckpointWarning)
    ...     try:
    ...         chunk(abs, [[-2]], path="abs.pkl", progress_bar=False)
    ...     except CheckpointWarning as warning:
    ...         print(type(warning).__name__)
    CheckpointRestartedWarning
    """


class CheckpointFailedWarning(CheckpointWarning):
    """Results could not be saved; the run goes on and keeps trying.

    Given in the caller's thread at the first result that could not be saved, again if saving went well and
    then fails anew, and at the end if some still are not saved. Their outputs are in the list all the same. As
    an error it ends the run.

    Examples
    --------
    >>> import resource, warnings
    >>> from thread_chunks import chunk
    >>> soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    >>> resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # no file may be larger
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     outputs = chunk(bytes, [[50_000]], path="full.pkl", progress_bar=False)
    >>> resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    >>> len(outputs[0]), {warning.category.__name__ for warning in caught}
    (50000, {'CheckpointFailedWarning'})
    """


class CheckpointRestartedWarning(CheckpointWarning):
    """The file did not match this run: it was set aside, and the run starts afresh.

    Given in the caller's thread, by `chunk` before any call runs, and where a `Checkpoint` is saved over another
    one; the text says what differs, and where the file is now.

    Examples
    --------
    >>> import warnings
    >>> from thread_chunks import chunk
    >>> outputs = chunk(abs, [[-1], [-2]], path="set.pkl", progress_bar=False)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     outputs = chunk(abs, [[-1], [-3]], path="set.pkl", progress_bar=False)
    >>> caught[0].category.__name__, "set.pkl.bak" in str(caught[0].message)
    ('CheckpointRestartedWarning', True)
    """


class CheckpointDamagedWarning(CheckpointWarning):
    """Part of the file was damaged; the results it held are computed again.

    Given in the caller's thread, by `chunk` before any call runs, and by the methods of `Checkpoint` that read a
    file; the text gives the bytes and the calls.

    Examples
    --------
    >>> import os, warnings
    >>> from thread_chunks import Checkpoint, chunk, config
    >>> folded, config.fold_bytes = config.fold_bytes, 0  # leave each result a record of its own
    >>> outputs = chunk(bytes, [[9000], [9001]], path="torn.pkl", chunk_size=1, progress_bar=False)
    >>> config.fold_bytes = folded
    >>> os.truncate("torn.pkl", os.path.getsize("torn.pkl") - 100)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     checkpoint = Checkpoint.load("torn.pkl")
    >>> caught[0].category.__name__, checkpoint.completed
    ('CheckpointDamagedWarning', [True, False])
    """


class ParametersUnstableWarning(CheckpointWarning):
    """A new process will not recognise a parameter, so that its calls will run again after a restart.

    Given in the caller's thread, before any call runs. What is in such an object differs each time it is pickled, or it holds the place of something in
    memory. `register_identity` says what counts.

    Examples
    --------
    >>> import uuid
    >>> import warnings
    >>> from thread_chunks import ParametersUnstableWarning, chunk
    >>> class Job:
    ...     def __reduce__(self):
    ...         return Job, (), {"number": uuid.uuid4()}
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     chunk(type, [[Job()]], path="jobs.pkl", progress_bar=False)  # doctest: +ELLIPSIS
    [<class '...Job'>]
    >>> caught[0].category.__name__
    'ParametersUnstableWarning'
    """


class ParametersChangedWarning(CheckpointWarning):
    """The arguments of calls were changed during the run, so their results do not count in the file.

    Given in the caller's thread at the end of the run. The list that is returned is as it was computed; the next
    run makes the calls again.

    Examples
    --------
    >>> import warnings
    >>> from thread_chunks import Checkpoint, chunk
    >>> rows = [[{"rate": 1}], [{"rate": 2}]]
    >>> def change(index, output):
    ...     rows[1][0]["rate"] = 99
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     outputs = chunk(dict, rows, path="rates.pkl", on_result=change, progress_bar=False)
    >>> caught[0].category.__name__, Checkpoint.load("rates.pkl").completed
    ('ParametersChangedWarning', [True, False])
    """


class CheckpointUntrustedWarning(CheckpointWarning):
    """Another user could have written the file, and loading a pickle can run code of whoever wrote it.

    It is given in the caller's thread, by `chunk` and by the methods of `Checkpoint` that read a file, before
    anything in it is unpickled: turn it into an error to refuse such files.

    Examples
    --------
    >>> import os, warnings
    >>> from thread_chunks import Checkpoint, chunk
    >>> outputs = chunk(abs, [[-1]], path="open.pkl", progress_bar=False)
    >>> os.chmod("open.pkl", 0o666)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     checkpoint = Checkpoint.load("open.pkl")
    >>> caught[0].category.__name__
    'CheckpointUntrustedWarning'
    """


class FunctionChangedWarning(CheckpointWarning):
    """Saved results stem from an earlier version of the function's code, or of what it reads in its module.

    The text names the settings and helpers that changed. The results are kept; delete the file to compute them again. Given in the caller's thread, before any call runs.

    Examples
    --------
    >>> import warnings
    >>> from thread_chunks import chunk
    >>> def version(factor):
    ...     def scaled(x):
    ...         return factor * x
    ...     return scaled
    >>> outputs = chunk(version(2), [[1]], path="scaled.pkl", progress_bar=False)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     chunk(version(3), [[1]], path="scaled.pkl", progress_bar=False), caught[0].category.__name__
    ([2], 'FunctionChangedWarning')
    """


@dataclass(frozen=True, slots=True)
class Failure:
    """What stands in the output list for a call that failed under ``on_error="return"``.

    A plain value, which nothing can change: the thread that called `chunk` gets it in the list, and one that
    goes through `Chunker.as_completed` at the end.

    Attributes
    ----------
    exception : BaseException
        What the call raised; where it ran in another process, a `RemoteTraceback` is its ``__cause__``.
    index : int
        The place of the call in the parameter list, from 0 on.
    parameters : Any
        The entry of the parameter list, as it was given.
    traceback : str
        The worker's traceback as text.

    Examples
    --------
    >>> from thread_chunks import chunk
    >>> half, failure = chunk(divmod, [[1, 2], [1, 0]], on_error="return", progress_bar=False)
    >>> failure.index, failure.parameters, type(failure.exception).__name__
    (1, [1, 0], 'ZeroDivisionError')
    >>> failure.traceback.startswith("ZeroDivisionError")
    True
    """

    exception: BaseException
    index: int
    parameters: Any
    traceback: str
