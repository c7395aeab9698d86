"""The checkpoint writer: the actor that owns the checkpoint.

One rule: nobody else mutates or pickles it. Results are committed in groups: the
first one queued makes the writer tell itself `Flush`, and by the order of its
mailbox the flush comes behind every result that already waits. One write, one
fsync, and only then are they reported as saved. There is no timer, and no delay
when there is nothing else to do. (The idea is the group commit of databases.)

If saving fails, the results wait in memory and are tried again with a later
group, and once more when the checkpoint is closed. Nothing that the disk does ends
this actor: it holds the list of outputs.
"""

import contextlib
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

import pykka

from . import _wire, config
from ._actor import Actor
from ._checkpoint import Checkpoint
from ._identity import FunctionIdentity
from ._log import Log, SpoiltFileError
from ._mutation import Mutations, without
from ._parameters import Calls
from ._records import DEATH, FAILURE, RESULT, Group, Record
from ._rescue import Checks, rescue
from ._resume import fold, new_checkpoint, open_run
from .errors import (
    CheckpointDamagedWarning,
    CheckpointFailedWarning,
    ParametersChangedWarning,
    RunStoppedError,
)
from .messages import (
    CheckpointClosed,
    CheckpointNoted,
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

T = TypeVar("T")


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
        self._error: Exception | None = None
        self._retry_at = 0.0
        self._is_stream = False
        self._raw: list[Record | Group] | None = None
        self._checks: Checks | None = None
        self._mutations: Mutations | None = None
        self._has_unreadable = self._is_spoilt = False
        self._lost = 0
        self._notes: list[Warning] = []
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
                self._tell()
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
        self._mutations, self._has_unreadable = opened.mutations, opened.has_unreadable
        self._checks = Checks(self._checkpoint.completed)
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

    def _tell(self) -> None:
        """Tell the caller what happened to the file; at the end it is told with the answer."""
        while self._notes and self._log is not None:
            self._events.put(CheckpointNoted(self._log.path, self._notes.pop(0)))

    def _report(self, fact: Any) -> None:
        if self._supervisor is not None:
            with contextlib.suppress(pykka.ActorDeadError):
                self._supervisor.tell(fact)

    def _commit(self, outcomes: Sequence[Outcome]) -> Exception | None:
        """Make outcomes durable, together with those that could not be saved before; not too soon after those."""
        assert self._checkpoint is not None
        news = [outcome for outcome in outcomes if not self._is_known(outcome)]
        for outcome in news:
            self._note(outcome)
        if self._log is None or not (news or self._unsaved):
            return None
        self._unsaved += map(self._record, news)
        if self._error is not None and time.monotonic() < self._retry_at:
            return self._error
        try:
            self._append()
        except Exception as error:  # noqa: BLE001 - whatever it is, the outputs are here and nowhere else
            self._error, self._retry_at = error, time.monotonic() + config.save_retry_seconds
            return error
        self._error = None
        self._keep_for_folding()
        self._unsaved.clear()
        return None

    def _is_known(self, outcome: Outcome) -> bool:
        """Tell whether the file says already that the call failed so: it would grow with each run."""
        assert self._checkpoint is not None
        return isinstance(outcome, FailedCall) and self._checkpoint.knows_failure(
            outcome.index, outcome.traceback, is_death=outcome.is_death
        )

    def _append(self) -> None:
        """Append what is not saved; keep the file first, if that supersedes what cannot be read here."""
        assert self._log is not None
        log = self._log
        if self._has_unreadable and _count(self._unsaved):
            backup = self._do(lambda: log.rewrite(keep_old=True))
            self._has_unreadable = False
            self._notes.append(_kept_warning(log.path, str(backup)))
        self._do(lambda: log.append(self._unsaved))

    def _do(self, act: Callable[[], T]) -> T:
        """Do something to the file; if somebody spoilt it, write it anew first."""
        assert self._log is not None
        before, lost = self._log.path, None
        try:
            try:
                return act()
            except SpoiltFileError:
                self._is_spoilt = True
                lost = self._rescue()
                self._is_spoilt = False
                return act()
        finally:
            if lost is not None or self._log.path != before:
                self._notes.append(_moved_warning(before, self._log.path, lost))

    def _rescue(self) -> int:
        assert self._log is not None
        assert self._checkpoint is not None
        checks = None if self._is_stream else self._checks
        lost = rescue(self._checkpoint, self._log, checks, set(_indices(self._unsaved)))
        self._raw = None
        self._lost += lost
        return lost

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
        if self._checks is not None:
            self._checks.add(columns)
        if len(outcome.indices) > 1:
            return Group(code, columns, body, outcome.trace)
        (index,), (seconds,), _, (checksum,) = _wire.unpack(columns)
        return Record(RESULT, index, seconds, code, body, buffers, checksum, outcome.trace)

    def _close(self) -> CheckpointClosed | None:
        """Save what waits, and release the file."""
        self._flush()
        if self._checkpoint is None:
            return self._closed  # asked twice, by a second Ctrl-C
        if self._log is None:
            self._closed = CheckpointClosed(self._checkpoint.output, 0)
        else:
            self._closed = self._close_file(self._checkpoint, self._log)
        self._checkpoint = self._log = None
        return self._closed

    def _close_file(self, checkpoint: Checkpoint, log: Log) -> CheckpointClosed:
        """Try once more to save what could not be saved; leave out what must not stay; fold a finished file."""
        unsaved = _count(self._unsaved)
        try:
            if self._unsaved:
                self._append()
                self._raw, unsaved = None, 0
            else:
                self._do(log.secure)
            changed = self._leave_out_changed(checkpoint, log)
            is_whole = checkpoint.done == len(self._calls) and not changed and not self._lost
            if is_whole and 0 < log.record_bytes <= config.fold_bytes:
                self._fold(checkpoint, log)
        except Exception as error:  # noqa: BLE001 - whatever it is, the outputs are here and nowhere else
            unsaved = checkpoint.done if self._is_spoilt else unsaved
            if unsaved:
                self._notes.append(_unsaved_warning(log.path, unsaved, error))
        finally:
            log.close()
        saved = checkpoint.done - unsaved - self._lost
        return CheckpointClosed(checkpoint.output, saved, tuple(self._notes), unsaved, log.path)

    def _leave_out_changed(self, checkpoint: Checkpoint, log: Log) -> bool:
        """Take results out of the file whose arguments changed since the run began; tell whether any did."""
        assert self._checks is not None
        changed = [] if self._mutations is None else self._mutations.found()
        older = self._checks.is_older
        wrong = [index for index in changed if checkpoint.completed[index] and not older[index]]
        if wrong:
            self._notes.append(_changed_warning(log.path, wrong))
            self._do(lambda: log.rewrite(without(set(wrong))))
            self._lost += len(wrong)
        return bool(changed)

    def _fold(self, checkpoint: Checkpoint, log: Log) -> None:
        """Fold the file, if that is possible: all is saved as it is, and nothing may be lost by it now."""
        with contextlib.suppress(Exception):
            fold(checkpoint, log, self._calls, self._raw)


def _kept(record: Record | Group) -> Record | Group:
    """Copy what a record shares with the output of its call, which is the user's from now on."""
    if isinstance(record, Group) or not record.buffers:
        return record
    return record._replace(buffers=tuple(map(bytearray, record.buffers)))


def _indices(records: Sequence[Record | Group]) -> Iterator[int]:
    """Yield the calls whose results are in records."""
    for record in records:
        if isinstance(record, Group):
            yield from _wire.unpack(record.columns)[0]
        elif record.kind == RESULT:
            yield record.index


def _count(records: Sequence[Record | Group]) -> int:
    return len(set(_indices(records)))


def _unsaved_warning(path: str, count: int, error: Exception) -> CheckpointFailedWarning:
    return CheckpointFailedWarning(
        f"{count} results could not be saved to {path} ({error}). They are in the list that is "
        "returned, but the next run will compute them again."
    )


def _kept_warning(path: str, backup: str) -> CheckpointDamagedWarning:
    return CheckpointDamagedWarning(
        f"results in {path} that cannot be unpickled are computed again; the file with them is kept as {backup}"
    )


def _moved_warning(before: str, path: str, lost: int | None) -> CheckpointDamagedWarning:
    if lost is None:
        what = f"another file has taken the place of {before} during the run, and was left alone"
    else:
        what = f"somebody else wrote to {before} during the run, or cut it"
    rest = f"; {lost} results are lost, and the next run will compute them again" if lost else ""
    return CheckpointDamagedWarning(
        f"{what}. What was saved is in {path}, where the run goes on to save{rest}."
    )


def _changed_warning(path: str, wrong: Sequence[int]) -> ParametersChangedWarning:
    more = len(wrong) - config.shown_calls
    calls = ", ".join(map(str, wrong[: config.shown_calls])) + (f" and {more} more" if more > 0 else "")
    return ParametersChangedWarning(
        f"the arguments of call {calls} were changed during the run, so nobody can say what the results belong to. "
        f"They are returned, and left out of {path}: the next run will make these calls again. "
        "Give each call objects of its own, and change copies of them."
    )
