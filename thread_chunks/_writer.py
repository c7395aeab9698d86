"""The checkpoint writer: the actor that owns the checkpoint.

One rule: nobody else mutates or pickles it. Results are committed in groups: the
first one queued makes the writer tell itself `Flush`, and by the order of its
mailbox the flush comes behind every result that already waits. One write, one
fsync, and only then are they reported as saved. There is no timer, and no delay
when there is nothing else to do. (The idea is the group commit of databases.)

If saving fails, the results wait in memory and are tried again with a later
group, and once more when the checkpoint is closed.
"""

import contextlib
import queue
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import pykka

from . import _wire, config
from ._actor import Actor
from ._checkpoint import Checkpoint
from ._identity import FunctionIdentity
from ._log import Log
from ._parameters import Calls
from ._records import DEATH, FAILURE, RESULT, Group, Record
from ._resume import fold, new_checkpoint, open_run
from .errors import CheckpointFailedWarning, RunStoppedError
from .messages import (
    CheckpointClosed,
    CheckpointOpened,
    CloseCheckpoint,
    FailedCall,
    Flush,
    OpenCheckpoint,
    Outcome,
    Results,
    ResultsSaved,
    RunFinished,
    SaveFailed,
    SaveResults,
)


class CheckpointWriter(Actor):
    """Own the checkpoint of one run.

    Parameters
    ----------
    path
        The file, or ``None`` to keep the checkpoint in memory only.
    identity
        The function.
    parameters, calls
        The parameter list as it was given, and as calls.
    on_mismatch
        What to do about a file of another run.
    events
        Where the caller waits for news, should this actor meet an error of its own.
    """

    def __init__(
        self,
        path: str | None,
        identity: FunctionIdentity,
        parameters: list[Any],
        calls: Calls,
        on_mismatch: str,
        events: "queue.SimpleQueue[Any]",
    ) -> None:
        super().__init__()
        self._events = events
        self._path = path
        self._identity = identity
        self._parameters = parameters
        self._calls = calls
        self._on_mismatch = on_mismatch
        self._checkpoint: Checkpoint | None = None
        self._log: Log | None = None
        self._waiting: list[Outcome] = []
        self._unsaved: list[Record | Group] = []
        self._error: OSError | None = None
        self._retry_at = 0.0
        self._is_stream = False
        self._raw: list[Record | Group] | None = None
        self._closed: CheckpointClosed | None = None
        self._unreported: list[Results] = []
        self._supervisor: pykka.ActorRef[Any] | None = None

    def on_receive(self, message: Any) -> Any:
        """Obey, one message at a time.

        Parameters
        ----------
        message
            One of `thread_chunks.messages`.

        Returns
        -------
        CheckpointOpened, CheckpointClosed or None
            The answer to the two messages that are asked.
        """
        match message:
            case SaveResults():
                self._queue(message)
            case Flush():
                self._flush()
            case OpenCheckpoint(is_stream):
                return self._open(is_stream=is_stream)
            case CloseCheckpoint():
                return self._close()
            case _:
                return super().on_receive(message)
        return None

    def on_stop(self) -> None:
        """Save what waits and release the file, whoever stopped this actor."""
        self._close()

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say what happened, and release the file: what was saved stays saved."""
        stopped = RunStoppedError(
            f"the checkpoint writer met an error of its own, so the run was given up: {exception_value!r}"
        )
        stopped.__cause__ = exception_value
        self._events.put(RunFinished(stopped))
        if self._log is not None:
            self._log.close()

    def _open(self, *, is_stream: bool) -> CheckpointOpened:
        self._is_stream = is_stream
        if self._path is None:
            self._checkpoint = new_checkpoint(self._identity, self._parameters)
            return CheckpointOpened(range(len(self._calls)), 0, (), (), ())
        opened = open_run(
            self._path, self._identity, self._parameters, self._calls, self._on_mismatch, is_stream=is_stream
        )
        self._checkpoint, self._log = opened.checkpoint, opened.log
        self._raw = [] if opened.is_fresh else None
        missing, done, deadly = self._checkpoint.missing, self._checkpoint.done, self._checkpoint.deadly
        longest = self._checkpoint.longest
        return CheckpointOpened(missing, done, opened.results, deadly, tuple(opened.warnings), longest)

    def _queue(self, message: SaveResults) -> None:
        if not self._waiting:
            self.actor_ref.tell(Flush())
        self._waiting.extend(message.outcomes)
        self._supervisor = message.supervisor

    def _flush(self) -> None:
        """Commit everything that waits as one group, and report."""
        if self._checkpoint is None:
            return
        outcomes, self._waiting = self._waiting, []
        results = [outcome for outcome in outcomes if isinstance(outcome, Results)]
        error = self._commit(outcomes)
        self._unreported += results
        if error is not None:
            self._report(SaveFailed(tuple(results), error))
        elif self._unreported:
            self._report(ResultsSaved(tuple(self._unreported)))
            self._unreported.clear()

    def _report(self, fact: Any) -> None:
        if self._supervisor is not None:
            with contextlib.suppress(pykka.ActorDeadError):
                self._supervisor.tell(fact)

    def _commit(self, outcomes: Sequence[Outcome]) -> OSError | None:
        """Make outcomes durable, together with those that could not be saved before; not too soon after those."""
        assert self._checkpoint is not None
        for outcome in outcomes:
            self._note(outcome)
        if self._log is None or not (outcomes or self._unsaved):
            return None
        self._unsaved += map(self._record, outcomes)
        if self._error is not None and time.monotonic() < self._retry_at:
            return self._error
        try:
            self._log.append(self._unsaved)
        except OSError as error:
            self._error, self._retry_at = error, time.monotonic() + config.save_retry_seconds
            return error
        self._error = None
        self._keep_for_folding()
        self._unsaved.clear()
        return None

    def _keep_for_folding(self) -> None:
        """Remember what a fold will need, as long as there will be one: it saves reading it back."""
        assert self._log is not None
        if self._raw is not None and self._log.record_bytes > config.fold_bytes:
            self._raw = None
        if self._raw is not None:
            self._raw += map(_kept, self._unsaved)

    def _note(self, outcome: Outcome) -> None:
        """Note an outcome in the checkpoint."""
        assert self._checkpoint is not None
        if isinstance(outcome, FailedCall):
            self._checkpoint.add_failure(outcome.index, outcome.traceback, is_death=outcome.is_death)
        else:
            indices, outputs, seconds, *_ = outcome
            outputs = [None] * len(indices) if self._is_stream else outputs
            self._checkpoint.add_results(indices, outputs, seconds, self._identity.code)

    def _record(self, outcome: Outcome) -> Record | Group:
        """Return what is written of an outcome."""
        if isinstance(outcome, FailedCall):
            kind = DEATH if outcome.is_death else FAILURE
            return Record(kind, outcome.index, 0.0, 0, outcome.traceback.encode("utf-8", "replace"))
        code, (columns, body, buffers) = self._identity.code, outcome.pickled
        if len(outcome.indices) > 1:
            return Group(code, columns, body, outcome.trace)
        (index,), (seconds,), _, (checksum,) = _wire.unpack(columns)
        return Record(RESULT, index, seconds, code, body, buffers, checksum, outcome.trace)

    def _close(self) -> CheckpointClosed | None:
        """Save what waits, and release the file."""
        self._flush()
        checkpoint, self._checkpoint = self._checkpoint, None
        if checkpoint is None:
            return self._closed  # asked twice, by a second Ctrl-C
        if self._log is None:
            self._closed = CheckpointClosed(checkpoint.output, 0)
        else:
            self._closed = self._close_file(checkpoint, self._log)
            self._log = None
        return self._closed

    def _close_file(self, checkpoint: Checkpoint, log: Log) -> CheckpointClosed:
        """Try once more to save what could not be saved; fold a finished file."""
        warnings: list[Warning] = []
        unsaved = _count(self._unsaved)
        try:
            if self._unsaved:
                log.append(self._unsaved)
                self._raw, unsaved = None, 0
            if checkpoint.done == len(self._calls) and 0 < log.record_bytes <= config.fold_bytes:
                self._fold(checkpoint, log)
        except OSError as error:
            if unsaved:
                warnings.append(_unsaved_warning(log.path, unsaved, error))
        finally:
            log.close()
        return CheckpointClosed(checkpoint.output, checkpoint.done - unsaved, tuple(warnings))

    def _fold(self, checkpoint: Checkpoint, log: Log) -> None:
        """Fold the file, if that is possible: all is saved as it is, and nothing may be lost by it now."""
        with contextlib.suppress(Exception):
            fold(checkpoint, log, self._calls, self._raw)


def _kept(record: Record | Group) -> Record | Group:
    """Copy what a record shares with the output of its call, which is the user's from now on."""
    if isinstance(record, Group) or not record.buffers:
        return record
    return record._replace(buffers=tuple(map(bytearray, record.buffers)))


def _count(records: Sequence[Record | Group]) -> int:
    """Count the calls whose results are in records."""
    indices: set[int] = set()
    for record in records:
        if isinstance(record, Group):
            indices.update(_wire.unpack(record.columns)[0])
        elif record.kind == RESULT:
            indices.add(record.index)
    return len(indices)


def _unsaved_warning(path: str, count: int, error: OSError) -> CheckpointFailedWarning:
    return CheckpointFailedWarning(
        f"{count} results could not be saved to {path} ({error}). They are in the list that is "
        "returned, but the next run will compute them again."
    )
