"""Every exception and warning: what happened, what is safe, what to do next.

All errors derive from `ThreadChunksError`, and each also from the builtin that a
user would catch. This room knows nothing of the others.
"""

import signal
from dataclasses import dataclass
from typing import Any


class ThreadChunksError(Exception):
    """Base of every error that this library raises of its own."""


class CheckpointError(ThreadChunksError):
    """Base of the errors about a checkpoint file. The file is as it was."""


class NotACheckpointError(CheckpointError, ValueError):
    """The file at the path is some other program's; it is left alone."""


class CheckpointVersionError(CheckpointError, ValueError):
    """The file was written by a newer release of this library."""


class CheckpointCorruptError(CheckpointError, ValueError):
    """The file is ours, but its head is damaged and cannot be trusted."""


class CheckpointLockedError(CheckpointError, BlockingIOError):
    """Another run holds the checkpoint file.

    Attributes
    ----------
    pid : int or None
        The process that holds the file, where the file says so.
    """

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid

    def __str__(self) -> str:
        return str(self.args[0])


class CheckpointMismatchError(CheckpointError, ValueError):
    """The file belongs to another function or to other parameters."""


class RunStoppedError(ThreadChunksError, RuntimeError):
    """The run cannot go on: its actors were stopped by someone else, or it crashed in a loop."""


class TimeLimitError(ThreadChunksError, TimeoutError):
    """The run came to the time of ``stop_before`` before all its calls ended."""


class WorkerDiedError(ThreadChunksError, RuntimeError):
    """The process that ran a call died.

    Attributes
    ----------
    index : int or None
        The call that was running, if one call alone can be blamed.
    parameters : Any
        The parameters of that call.
    exit_code : int or None
        What the process ended with: negative numbers are signals.
    is_shared : bool
        Whether other calls may have run in the same process, so that one of them may be to blame.
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
    """A call took longer than ``timeout`` seconds and its process was killed.

    Attributes
    ----------
    index : int or None
        The call.
    parameters : Any
        The parameters of that call.
    """

    index: int | None = None
    parameters: Any = None


class CallExitError(ThreadChunksError, RuntimeError):
    """A call ended with an exit, such as `SystemExit`, which would end more than the script that called ``chunk()``.

    In the main thread of a script the exit itself is raised. In another thread, where it would stop
    every actor of the process, an event loop, or just that thread without a word, it is the cause of this
    error. So is `StopIteration`, which an event loop may wait for in vain.
    """


class RemoteError(ThreadChunksError, RuntimeError):
    """Stands in for an exception of a call that did not survive pickling.

    Attributes
    ----------
    type_name : str
        The name of the original exception type.
    """

    def __init__(self, message: str, type_name: str = "") -> None:
        super().__init__(message, type_name)
        self.type_name = type_name

    def __str__(self) -> str:
        return str(self.args[0])


class RemoteTraceback(ThreadChunksError):  # noqa: N818 - it is shown as a traceback, never raised
    """The traceback of a call as the worker saw it: the cause of the exception that is raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class CallExitWarning(UserWarning):
    """A call ended with `SystemExit`, and so does the script now; Python shows nothing of that by itself."""


class EngineStalledWarning(UserWarning):
    """What runs the calls has come to a halt, such as a cluster without workers. The run waits for it."""


class CheckpointWarning(UserWarning):
    """Base of the warnings about a checkpoint file."""


class CheckpointFailedWarning(CheckpointWarning):
    """Results could not be saved; the run goes on and keeps trying."""


class CheckpointRestartedWarning(CheckpointWarning):
    """The file did not match this run: it was set aside, and the run starts afresh."""


class CheckpointDamagedWarning(CheckpointWarning):
    """Part of the file was damaged; the results it held are computed again."""


class CheckpointUntrustedWarning(CheckpointWarning):
    """Another user could have written the file, and loading a pickle can run code of whoever wrote it.

    It is given before anything in the file is unpickled: turn it into an error to refuse such files.
    """


class FunctionChangedWarning(CheckpointWarning):
    """Saved results stem from an earlier version of the function's code."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What stands in the output list for a call that failed under ``on_error="return"``.

    Attributes
    ----------
    exception : BaseException
        What the call raised.
    index : int
        The place of the call in the parameter list.
    parameters : Any
        The entry of the parameter list.
    traceback : str
        The worker's traceback as text.
    """

    exception: BaseException
    index: int
    parameters: Any
    traceback: str
