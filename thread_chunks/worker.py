"""The worker: the actor that runs calls, and the class that users subclass.

One rule: whatever comes out of the user's code, an exit included, becomes an
outcome; nothing of it may reach pykka, which would take ``SystemExit`` in one
actor as a reason to stop every actor of the process.

A worker knows its supervisor's address and the messages, not the plan behind
them and nothing of checkpoints.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, ClassVar

import pykka

from . import _inside, _outcome, _wire
from ._actor import Actor
from ._here import failed_call, returned
from .errors import WorkerDiedError
from .messages import (
    Call,
    CallsFinished,
    FailedCall,
    GetFunction,
    GetReady,
    JoinRun,
    LeaveRun,
    Outcome,
    RunChunk,
    WorkerDied,
    WorkerReady,
    WorkerStopped,
)

__all__ = ["ThreadWorker", "Worker"]


class Worker(Actor):
    """Run the calls of one chunk at a time, as its supervisor hands them out.

    Subclass `ThreadWorker` or `ProcessWorker` and override `execute` to decide
    how a call is carried out. A worker that was started has a thread of its own, and
    in a run that alone calls `execute`, so it needs no locks. The constructor runs in
    the thread that called `chunk`.

    Parameters
    ----------
    func : callable, optional
        The function to run until a run brings another.

    Attributes
    ----------
    can_kill : bool
        Whether a running call can be ended from outside, as ``timeout=`` needs.
    can_measure : bool
        Whether the memory of its calls can be told from that of others, as ``max_memory=`` needs.
    needs_pickle : bool
        Whether the function travels pickled.

    Examples
    --------
    >>> from thread_chunks import ThreadWorker, Worker, chunk
    >>> worker = ThreadWorker.start(abs)  # the address of an actor, and its thread
    >>> issubclass(worker.actor_class, Worker)
    True
    >>> chunk(None, [[-1], [2]], actors=[worker], progress_bar=False)
    [1, 2]
    >>> worker.stop()
    True
    """

    can_kill: ClassVar[bool] = False
    can_measure: ClassVar[bool] = False
    needs_pickle: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse an override that no run would ever call: workers of release 1.0.5 overrode `run`."""
        super().__init_subclass__(**kwargs)
        is_ours = getattr(cls.execute, "__module__", "").partition(".")[0] == __package__
        if "run" in vars(cls) and is_ours:
            msg = (
                f"{cls.__name__} overrides run(), which chunk() does not call: "
                "override execute(self, func, /, *args, **kwargs) instead"
            )
            raise TypeError(msg)

    def _handle_receive(self, message: Any) -> Any:
        """Handle a message; who sent it learns of an error that will end this actor."""
        try:
            return super()._handle_receive(message)
        except Exception as error:
            if isinstance(message, GetReady):  # only a hint: what is wrong comes up again in the run
                return None
            if isinstance(message, (JoinRun, RunChunk)):
                _tell(message.supervisor, WorkerStopped(self.actor_ref, error))
            raise

    def __init__(self, func: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self._func = func
        self._run: JoinRun | None = None
        self._death: WorkerDiedError | None = None
        self._peak = 0  # of the memory of the call that is carried out, in KiB; 0 if not known

    # --- what users override and call -----------------------------------------

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Carry out one call and return its result: the hook to override.

        Runs in the worker's own thread and blocks it until the call ended. Every
        call comes through an override, however many are handed out at once.

        Parameters
        ----------
        func : callable
            The function.
        *args, **kwargs : Any
            One entry of the parameter list.

        Returns
        -------
        Any
            What ``func(*args, **kwargs)`` returned, or whatever the override makes of it.

        Raises
        ------
        BaseException
            Whatever the call raised, or the override: that is the failure of the call.

        Examples
        --------
        >>> import time
        >>> from thread_chunks import ThreadWorker, chunk
        >>> class Patient(ThreadWorker):
        ...     def execute(self, func, /, *args, **kwargs):
        ...         time.sleep(0.01)  # in this worker's thread
        ...         return super().execute(func, *args, **kwargs)
        >>> chunk(abs, [[-1], [2]], worker=Patient, progress_bar=False)
        [1, 2]
        """
        return func(*args, **kwargs)

    def run(self, label: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Execute the worker's own function and return the result beside a label.

        Runs in the thread that calls it, and blocks it; no actor need be running. A run does not come
        through here: it is for trying a worker out.

        Parameters
        ----------
        label : Any
            Anything; it comes back unchanged.
        *args, **kwargs : Any
            The arguments of the call.

        Returns
        -------
        (Any, Any)
            The label and the result.

        Raises
        ------
        ValueError
            If the worker holds no function.

        Examples
        --------
        >>> from thread_chunks import ThreadWorker
        >>> worker = ThreadWorker(abs)
        >>> worker.run("label", -1)
        ('label', 1)
        >>> worker.set_func(len)
        >>> worker.run("label", "four"), worker.get_func()
        (('label', 4), <built-in function len>)
        """
        if self._func is None:
            msg = "this worker holds no function: give it one with set_func(f)"
            raise ValueError(msg)
        return label, self.execute(self._func, *args, **kwargs)

    def set_func(self, func: Callable[..., Any]) -> None:
        """Replace the worker's function.

        A run does so in the worker's thread, before its first call; others may while no run goes on. Does
        not block, and sends nothing: the function travels with the next call.

        Parameters
        ----------
        func : callable
            The new function.
        """
        self._func = func

    def get_func(self) -> Callable[..., Any] | None:
        """Return the worker's function, in the thread that calls it; does not block.

        Returns
        -------
        callable or None
            The function, if it holds one.
        """
        return self._func

    @classmethod
    def holds_many(cls) -> bool:
        """Tell whether one worker has any number of calls going on, and waits for none; most have one.

        Asked in any thread of a run; does not block.

        Returns
        -------
        bool
            If so, a run has one such worker, with ``chunk_size`` slots.
        """
        return False

    @classmethod
    def wait_released(cls, seconds: float) -> None:
        """Wait until what ended workers of this class shared is given back; here that is nothing.

        Blocks the thread that called `chunk`, when its workers have ended.

        Parameters
        ----------
        seconds : float
            At most so long.
        """

    # --- the actor ---------------------------------------------------------------

    def on_receive(self, message: Any) -> Any:
        """Obey the supervisor, one message at a time, in the worker's thread.

        Parameters
        ----------
        message
            One of `thread_chunks.messages`.

        Returns
        -------
        Any
            The function, for `GetFunction`; otherwise ``None``.
        """
        match message:
            case RunChunk(supervisor) if self._run is not None and self._is_in_run_of(supervisor):
                _inside.calling(self._run.occupied, partial(self._run_chunk, message))
            case RunChunk(supervisor):
                _tell(supervisor, WorkerStopped(self.actor_ref))
            case JoinRun(supervisor) if self._run is not None and self._run.supervisor.is_alive():
                _tell(supervisor, WorkerStopped(self.actor_ref))  # it is in the middle of another run
            case JoinRun():
                self._join(message)
            case GetReady():
                self._get_ready(message)
            case LeaveRun(supervisor):
                self._run = None if self._is_in_run_of(supervisor) else self._run
            case GetFunction():
                return self.get_func()
            case _:
                return super().on_receive(message)
        return None

    def on_stop(self) -> None:
        """Tell the supervisor, if there is one, that this worker runs nothing more; in the worker's thread."""
        self._report(WorkerStopped(self.actor_ref))

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do as `on_stop`, in the same thread: pykka calls this one instead when a message handler raised."""
        self.on_stop()

    def _get_ready(self, message: GetReady) -> None:
        """Start what takes time to start; here that is nothing."""

    def _join(self, message: JoinRun) -> None:
        self._run = message
        if message.func is not None:
            self.set_func(message.func)
        self._report(WorkerReady(self.actor_ref, self._takes_chunks))

    @property
    def _takes_chunks(self) -> bool:
        """Whether calls behind a long one can be handed back while it runs."""
        return False

    def _died(self, error: WorkerDiedError) -> None:
        """Report the death of this worker's process: what it ran is suspect."""
        self._report(WorkerDied(self.actor_ref, error))

    def _pickled_by_run(self, func: Callable[..., Any]) -> tuple[bytes, list[Any]] | None:
        """Return a function as the run pickled it; ``None`` if that is still to be done."""
        return self._run.pickled if self._run is not None and func is self._run.func else None

    def _report(self, fact: Any) -> None:
        if self._run is not None:
            _tell(self._run.supervisor, fact)

    def _is_in_run_of(self, supervisor: "pykka.ActorRef[Any]") -> bool:
        return self._run is not None and self._run.supervisor is supervisor

    def _run_chunk(self, chunk: RunChunk) -> None:
        """Run the calls through `execute`, each result handed back as it comes."""
        for number, call in enumerate(map(Call, chunk.indices, *_wire.unflat(*chunk.rows)), 1):
            try:
                outcome = self._outcome(call)
            except WorkerDiedError as error:
                self._died(error)
                return
            is_stop = chunk.stops_at_failure and isinstance(outcome, FailedCall)
            is_last = is_stop or number == len(chunk.indices)
            self._report(CallsFinished(self.actor_ref, (outcome,), is_last))
            if is_last:
                return

    def _outcome(self, call: Call) -> Outcome:
        """Run one call through `execute`; only the death of the worker's process gets past."""
        self._peak, started, start, process = 0, time.time(), time.perf_counter(), os.getpid()
        try:
            if self._func is None:
                msg = "this worker holds no function: pass func, or start the actor with one"
                raise ValueError(msg)
            output = self.execute(self._func, *call.args, **call.kwargs)
        except BaseException as error:  # an exit in f is f's failure, not ours
            if error is self._death:
                raise
            failed = failed_call(call.index, error)
            _outcome.leave_fork(process, failed.traceback)
            return failed
        _outcome.leave_fork(process, None)
        seconds = time.perf_counter() - start
        trace = started, 0 if self._run is None else self._run.number, self._peak
        return returned(
            call.index, output, seconds, trace, durable=self._run is not None and self._run.durable
        )


class ThreadWorker(Worker):
    """Run calls in the actor's own thread, which each call blocks.

    For functions that release the interpreter's lock (most of NumPy, I/O) or
    that share large data with the script: nothing is copied. A call cannot be
    killed, so there is no ``timeout=``, and one that still runs when its run was
    stopped goes on in its thread until it ends. A call that crashes the interpreter
    crashes the script.

    Parameters
    ----------
    func : callable, optional
        The function to run until a run brings another.

    Examples
    --------
    >>> from thread_chunks import ThreadWorker, chunk
    >>> seen = []
    >>> chunk(seen.append, [[1], [2]], worker=ThreadWorker, progress_bar=False)
    [None, None]
    >>> sorted(seen)  # the list itself, and no copy
    [1, 2]
    """


def _tell(supervisor: "pykka.ActorRef[Any]", fact: Any) -> None:
    """Tell a supervisor; if it is gone, nobody needs to know."""
    with suppress(pykka.ActorDeadError):
        supervisor.tell(fact)
