"""The process worker: an actor with one child interpreter of its own.

The child is started by the actor's own thread, when it is first needed and again
after a call took it down. Whether the worker gets another chunk after that is
the plan's decision, not made here. How one talks to a child is known to
`_child_process`.
"""

import logging
import signal
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from . import config
from ._child_process import ChildProcess, UnreadableError
from ._fault import unreadable_part
from ._interpreter import executable
from ._not_started import NotStartedError
from ._remote_worker import RemoteWorker
from .errors import CallTimeoutError, WorkerDiedError
from .messages import (
    Call,
    CallsFinished,
    EngineStalled,
    FailedCall,
    GetReady,
    JoinRun,
    Outcome,
    Outputs,
    RunChunk,
    WorkerJoined,
    own_outputs,
)

__all__ = ["ProcessWorker"]

log = logging.getLogger("thread_chunks.worker")

_NO_LEASE = 1e9  # a single call is never cut short by its lease


class ProcessWorker(RemoteWorker):
    """Run calls in a child process of its own: real parallel speed for pure Python.

    No ``if __name__ == "__main__":`` guard is needed, and lambdas, closures and
    functions of the script or notebook work. The function travels to the child
    once. A call that crashes, or takes longer than ``timeout``, takes only its own child down;
    the next call gets a new one.

    An override of `execute` runs in the actor's thread in the script's process;
    its ``super().execute(...)`` runs the call in the child and returns the result.

    Parameters
    ----------
    func : callable, optional
        The function to run until a run brings another.

    Examples
    --------
    >>> from thread_chunks import ProcessWorker, chunk
    >>> class Twice(ProcessWorker):
    ...     def execute(self, func, /, *args, **kwargs):
    ...         return 2 * super().execute(func, *args, **kwargs)
    >>> chunk(abs, [[-1], [-2]], worker=Twice, progress_bar=False)
    [2, 4]
    """

    can_kill: ClassVar[bool] = True
    can_measure: ClassVar[bool] = True
    needs_pickle: ClassVar[bool] = True

    def __init__(self, func: Callable[..., Any] | None = None) -> None:
        executable()
        super().__init__(func)
        self._child: ChildProcess | None = None
        self._is_killed = False
        self._threads = 1
        self._outputs: Outputs = own_outputs

    def on_start(self) -> None:
        """Block Ctrl-C in the worker's thread, so that children are born with it blocked."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def on_stop(self) -> None:
        """End the child, politely first, and report; blocks the worker's thread until the child has ended."""
        self._end_child()
        super().on_stop()

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run one call in the child process and return its result.

        Blocks the worker's thread until the call ended. Only an override comes through here, and then calls
        travel one by one; otherwise many short ones travel at once.

        Parameters
        ----------
        func : callable
            The function. It travels to the child unless it was the last one there.
        *args, **kwargs : Any
            The arguments; they are pickled.

        Returns
        -------
        Any
            What the call returned.

        Raises
        ------
        WorkerDiedError
            If the child died.
        CallTimeoutError
            If the run has a ``timeout`` and the call took longer.
        BaseException
            Whatever the call raised.
        """
        outcome = self._carry_out(func, Call(0, args, kwargs), durable=False)
        if isinstance(outcome, FailedCall):
            raise outcome.exception
        self._peak = max(self._peak, outcome.trace[2])
        return outcome.outputs[0]

    @property
    def _is_plain(self) -> bool:
        """Whether `execute` is ours: then results go straight from the child to the supervisor."""
        return type(self).execute is ProcessWorker.execute

    def _get_ready(self, message: GetReady) -> None:
        self._threads, self._outputs = message.threads, message.outputs
        with suppress(WorkerDiedError):  # whoever joins the run next will see
            self._ready_child()

    def _join(self, message: JoinRun) -> None:
        self._run, self._is_killed, self._threads = message, False, message.threads
        self._report(WorkerJoined(self.actor_ref, self._killer(), self._resident))
        try:
            child = self._ready_child()
            child.follow_environment()
            if message.func is not None:
                self._loaded_child(message.func)
        except CallTimeoutError:
            log.warning(
                "a worker process did not take the function, and was killed; its worker starts another"
            )
        except NotStartedError as error:
            self._died(error)
            return
        except WorkerDiedError as error:
            self._died(error)
        super()._join(message)

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.stop(config.grace_seconds if self._run is None else self._run.grace)

    @property
    def _takes_chunks(self) -> bool:
        return self._is_plain

    def _killer(self) -> Callable[[], None]:
        def kill() -> None:
            self._is_killed = True
            child = self._child
            if child is not None:
                child.kill()

        return kill

    def _resident(self) -> int:
        child = self._child
        return 0 if child is None else child.resident

    def _ready_child(self) -> ChildProcess:
        """Return a living child; start one if there is none."""
        if self._child is not None and (self._child.is_exhausted or not self._child.is_alive):
            self._end_child()
        if self._child is None:
            with self._outputs() as outputs:
                self._child = ChildProcess(self._threads, outputs, self._stall_teller())
        if self._is_killed:  # a kill from another thread may have come before there was a child
            self._child.kill()
        self._child.prepare()
        return self._child

    def _loaded_child(self, func: Callable[..., Any]) -> ChildProcess:
        """Return a living child that holds the function; what the run pickled is not pickled again."""
        child = self._ready_child()
        child.load(func, self._pickled_by_run(func), None if self._run is None else self._run.timeout)
        return child

    def _stall_teller(self) -> Callable[[str], None]:
        """Return what reports a halt, without keeping this worker: one that is dropped ends its child."""
        worker = weakref.ref(self)

        def tell(reason: str) -> None:
            if (found := worker()) is not None:
                found._report(EngineStalled(reason))  # noqa: SLF001 - its own

        return tell

    def _run_chunk(self, chunk: RunChunk) -> None:
        """Send the whole chunk to the child where nothing asks for one call at a time."""
        run = self._run
        func = self._func
        if run is None or func is None or not self._is_plain or run.timeout is not None:
            super()._run_chunk(chunk)
            return
        try:
            batches = self._loaded_child(func).run(
                chunk.indices,
                chunk.rows,
                chunk.lease,
                durable=run.durable,
                worker=run.number,
                stops_at_failure=chunk.stops_at_failure,
            )
            for outcomes, is_last, returned, moved in batches:
                self._report(CallsFinished(self.actor_ref, outcomes, is_last, returned, moved))
        except UnreadableError:
            super()._run_chunk(chunk)  # one call at a time, to see whose parameters it are
        except WorkerDiedError as error:
            self._died(error)

    def _carry_out(self, func: Callable[..., Any], call: Call, *, durable: bool) -> Outcome:
        run = self._run
        timeout = None if run is None else run.timeout
        try:
            child = self._loaded_child(func)
            rows = 0, [(call.args, call.kwargs)]
            number = 0 if run is None else run.number
            for outcomes, *_ in child.run(
                (call.index,), rows, _NO_LEASE, timeout=timeout, durable=durable, worker=number
            ):
                if outcomes:
                    outcome = outcomes[0]
        except UnreadableError as error:
            if part := unreadable_part(func) or unreadable_part((call.args, call.kwargs)):
                error.args[0].add_note(f"At fault is {part}")
            raise error.args[0] from error.args[0].__cause__
        except WorkerDiedError as error:
            self._death = error
            raise
        return outcome
