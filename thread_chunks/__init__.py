"""Run a function over a list of parameters in parallel, saving each result as it comes."""

from . import config
from ._checkpoint import Checkpoint
from ._chunk import Chunker, chunk
from ._parts import register_identity
from .errors import (
    CallExitError,
    CallExitWarning,
    CallTimeoutError,
    CheckpointCorruptError,
    CheckpointDamagedWarning,
    CheckpointError,
    CheckpointFailedWarning,
    CheckpointLockedError,
    CheckpointMismatchError,
    CheckpointRestartedWarning,
    CheckpointUntrustedWarning,
    CheckpointVersionError,
    CheckpointWarning,
    EngineStalledWarning,
    Failure,
    FunctionChangedWarning,
    NotACheckpointError,
    ParametersChangedWarning,
    ParametersUnstableWarning,
    RemoteError,
    RemoteTraceback,
    RunStoppedError,
    ThreadChunksError,
    TimeLimitError,
    WorkerDiedError,
)
from .executor_worker import ExecutorWorker
from .process_worker import ProcessWorker
from .ray_worker import RayWorker
from .worker import ThreadWorker, Worker

__version__ = "2.0.0.dev0"

__all__ = [
    "CallExitError",
    "CallExitWarning",
    "CallTimeoutError",
    "Checkpoint",
    "CheckpointCorruptError",
    "CheckpointDamagedWarning",
    "CheckpointError",
    "CheckpointFailedWarning",
    "CheckpointLockedError",
    "CheckpointMismatchError",
    "CheckpointRestartedWarning",
    "CheckpointUntrustedWarning",
    "CheckpointVersionError",
    "CheckpointWarning",
    "Chunker",
    "EngineStalledWarning",
    "ExecutorWorker",
    "Failure",
    "FunctionChangedWarning",
    "NotACheckpointError",
    "ParametersChangedWarning",
    "ParametersUnstableWarning",
    "ProcessWorker",
    "RayWorker",
    "RemoteError",
    "RemoteTraceback",
    "RunStoppedError",
    "ThreadChunksError",
    "ThreadWorker",
    "TimeLimitError",
    "Worker",
    "WorkerDiedError",
    "chunk",
    "config",
    "register_identity",
]
