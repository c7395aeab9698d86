"""The executor worker: one actor that keeps many calls going on somebody else's engine.

One rule: it waits for nothing. It submits a call, and the end of its future comes back as a
message like any other; so one thread is enough for ten thousand calls. (An override of
`execute` waits, and then each worker takes one call at a time.) Where its engine comes from,
and of what kind it is, is known to `_source`, how it is asked to `_executors`, and what runs at
its other end is `_engine`.
"""

import concurrent.futures
import functools
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import suppress
from typing import Any, ClassVar, Self

import pykka

from . import _wire, config
from ._halt import Halt
from ._here import failed_call
from ._source import Engines, Source, check_source
from .errors import RunStoppedError, WorkerDiedError
from .messages import (
    Call,
    CallEnded,
    CallsFinished,
    CheckEngine,
    EngineStalled,
    FailedCall,
    GetReady,
    JoinRun,
    LeaveRun,
    ReportLost,
    RunChunk,
    WorkerDied,
    WorkerJoined,
    WorkerStopped,
)
from .worker import Worker

__all__ = ["ExecutorWorker"]

_ADVICE = (
    "Make the same call again with another executor, or give ExecutorWorker.on() a function that makes one: "
    "then a new one is made"
)


class ExecutorWorker(Worker):
    """Run calls on any `concurrent.futures.Executor`: Dask, MPI, Slurm, or a pool of this machine.

    The supervisor, the writer and the checkpoint stay where the script runs, and so does every
    promise about saved results. `chunk_size` calls are in flight at once; how many of them run
    at the same time is up to the executor. One worker takes all of them: it never waits for one.

    An override of `execute` runs in the worker's thread in the script's process, and its
    ``super().execute(...)`` blocks until the executor ran the call. Then each worker takes one
    call at a time, and there are `chunk_size` of them.

    thread-chunks must be installed where the executor runs its calls.

    Parameters
    ----------
    func : callable, optional
        The function to run until a run brings another.
    executor : Executor or callable
        An executor, which is left open; or what makes one, such as a class: then it is made when
        it is first needed, again after it broke, and shut down with the worker.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from thread_chunks import ExecutorWorker, chunk
    >>> with ThreadPoolExecutor(4) as executor:
    ...     chunk(abs, [[-1], [2]], progress_bar=False, worker=ExecutorWorker.on(executor))
    [1, 2]
    """

    needs_pickle: ClassVar[bool] = True

    def __init__(self, func: Callable[..., Any] | None = None, *, executor: Source) -> None:
        super().__init__(func)
        self._engines = Engines(executor)
        self._shipped: tuple[Any, Any] | None = None
        self._futures: dict[int, tuple[int, Future[Any]]] = {}
        self._lost: dict[int, BaseException] = {}
        self._is_killed = False
        self._halt = Halt(config.stall_seconds)

    @classmethod
    def on(cls, executor: Source) -> "functools.partial[Self]":
        """Choose the executor; for the ``worker`` of `chunk` and `Chunker`.

        Starts nothing and does not block. What makes an executor is called in the worker's thread.

        Parameters
        ----------
        executor : Executor or callable
            An executor, which is left open; or a class or function without arguments that makes
            one, which is then shut down at the end, and made anew after it broke.

        Returns
        -------
        functools.partial
            ``worker=ExecutorWorker.on(executor)``.

        Raises
        ------
        TypeError
            If it is neither.

        Examples
        --------
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from functools import partial
        >>> from thread_chunks import ExecutorWorker, chunk
        >>> worker = ExecutorWorker.on(partial(ThreadPoolExecutor, 2))  # made for the run, and shut down after it
        >>> chunk(abs, [[-1], [2]], worker=worker, progress_bar=False)
        [1, 2]
        """
        check_source(executor)
        return functools.partial(cls, executor=executor)

    @classmethod
    def holds_many(cls) -> bool:
        """Tell whether one worker takes all calls: unless `execute` is overridden, which waits.

        Asked in any thread of a run; does not block.

        Returns
        -------
        bool
            If so, a run has one such worker, with ``chunk_size`` slots.
        """
        return cls.execute is ExecutorWorker.execute

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Have the executor run one call, and return its result.

        Blocks the worker's thread until the call ended. Only an override comes through here.

        Parameters
        ----------
        func : callable
            The function.
        *args, **kwargs : Any
            The arguments of the call; they are pickled, unless the executor has threads of this process.

        Returns
        -------
        Any
            What the call returned.

        Raises
        ------
        WorkerDiedError
            If the executor lost the call.
        BaseException
            Whatever the call raised.
        """
        packed = self._engines.current().pack(Call(0, args, kwargs))
        try:
            future = self._submit(func, packed, 0, durable=False)
            while not self._is_killed and not future.done():
                concurrent.futures.wait((future,), timeout=config.heartbeat_seconds)
            future.cancel()
            value = future.result()
        except Exception as error:
            if self._engines.current().is_broken_by(error) and self._engines.can_replace:
                self._engines.close(is_idle=False)
            self._shipped, self._death = None, _loss(error)
            raise self._death from error
        outcome = self._engines.current().outcome(0, value, durable=False)
        if isinstance(outcome, FailedCall):
            raise outcome.exception
        return outcome.outputs[0]

    # --- the actor ---------------------------------------------------------------

    def on_receive(self, message: Any) -> Any:
        """Obey the supervisor, and take what the executor is done with; in the worker's thread.

        Parameters
        ----------
        message
            One of `thread_chunks.messages`.

        Returns
        -------
        Any
            As `Worker.on_receive`.
        """
        match message:
            case CallEnded(slot, future):
                self._take(slot, future)
            case ReportLost():
                self._report_lost()
            case CheckEngine():
                self._check_engine()
            case LeaveRun(supervisor) if self._is_in_run_of(supervisor):
                self._cancel()
                return super().on_receive(message)
            case _:
                return super().on_receive(message)
        return None

    def on_stop(self) -> None:
        """Cancel what is still in flight, shut down what was made here, and report.

        Runs in the worker's thread. Blocks it until what was made here has shut down, if nothing was in flight.
        """
        is_idle = not self._futures
        self._cancel()
        self._engines.close(is_idle=is_idle)
        super().on_stop()

    def _get_ready(self, message: GetReady) -> None:
        with suppress(Exception):  # whoever joins the run next will see
            self._engines.current()

    def _join(self, message: JoinRun) -> None:
        self._is_killed = False
        self._halt = Halt(config.stall_seconds)
        self._run = message
        self._report(WorkerJoined(self.actor_ref, self._kill, lambda: 0))
        self._engines.current().join(message.occupied)
        super()._join(message)

    def _kill(self) -> None:
        """Stop waiting in `execute`; called in the supervisor's thread."""
        self._is_killed = True

    def _cancel(self) -> None:
        futures, self._futures, self._lost = self._futures, {}, {}
        for _, future in futures.values():
            future.cancel()

    # --- calls, out and back ------------------------------------------------------

    def _run_chunk(self, chunk: RunChunk) -> None:
        """Submit the call, and do not wait; or run it through an `execute` of the user's."""
        run, func = self._run, self._func
        if not self.holds_many() or run is None or func is None:
            super()._run_chunk(chunk)
            return
        if self._engines.is_broken and self._lost:  # that is about to be reported, and this with it
            self._lost[chunk.slot] = next(iter(self._lost.values()))
            return
        (call,) = map(Call, chunk.indices, *_wire.unflat(*chunk.rows))
        try:
            packed = self._engines.current().pack(call)
        except BaseException as error:  # noqa: BLE001 - pickling runs the user's code
            self._report(
                CallsFinished(
                    self.actor_ref, (failed_call(call.index, error),), is_last=True, slot=chunk.slot
                )
            )
            return
        try:
            future = self._submit(func, packed, run.number + chunk.slot, durable=run.durable)
        except Exception as error:  # noqa: BLE001 - executors refuse in many ways: shut down, closed, broken
            self._engines.is_broken = True
            self._lose(chunk.slot, error)
            return
        self._futures[chunk.slot] = call.index, future
        future.add_done_callback(functools.partial(self._tell_ended, chunk.slot))

    def _submit(self, func: Callable[..., Any], packed: Any, slot: int, *, durable: bool) -> "Future[Any]":
        """Hand a call to the executor; the function is made ready for the journey once."""
        engine = self._engines.current()
        if self._shipped is None or self._shipped[0] is not func:
            self._shipped = func, engine.ship(func, self._pickled_by_run(func))
        return engine.submit(self._shipped[1], packed, slot, durable=durable)

    def _tell_ended(self, slot: int, future: "Future[Any]") -> None:
        """Pass on that a call ended; in whichever thread the executor says so."""
        with suppress(pykka.ActorDeadError):
            self.actor_ref.tell(CallEnded(slot, future))

    def _take(self, slot: int, future: "Future[Any]") -> None:
        """Hand back how a call ended, unless it is of a run that is over."""
        index, current = self._futures.get(slot, (0, None))
        if future is not current or self._run is None:
            return
        del self._futures[slot]
        error = CancelledError("it was cancelled") if future.cancelled() else future.exception()
        if error is not None:
            self._engines.is_broken |= self._engines.current().is_broken_by(error)
            self._lose(slot, error)
            return
        outcome = self._engines.current().outcome(index, future.result(), durable=self._run.durable)
        self._report(CallsFinished(self.actor_ref, (outcome,), is_last=True, slot=slot))

    def _check_engine(self) -> None:
        """Lose all calls where the engine is gone; tell, once, where it has come to a halt for long."""
        if not self._futures:
            return
        try:
            reason = self._engines.current().check()
        except (BrokenExecutor, CancelledError) as error:
            self._engines.is_broken |= isinstance(error, BrokenExecutor)
            futures, self._futures = self._futures, {}
            for slot, (_, future) in futures.items():
                self._lose(slot, error)
                future.cancel()
            return
        if reason is not None and self._halt.is_news(time.monotonic()):
            self._report(EngineStalled(reason))
        elif reason is None and self._halt.ended():
            self._shipped = None  # those who are there now have nothing

    def _lose(self, slot: int, error: BaseException) -> None:
        if not self._lost:
            self.actor_ref.tell(ReportLost())
        self._lost[slot] = error

    def _report_lost(self) -> None:
        """Report what was lost: with a broken executor that is all, and without it those lost together."""
        lost, self._lost = self._lost, {}
        if self._run is None or not lost:
            return
        self._shipped = None  # where it was kept may be lost, too
        error = next(iter(lost.values()))
        if self._engines.is_broken and not self._engines.can_replace:
            stopped = RunStoppedError(f"the executor takes no more calls: {_shown(error)}. {_ADVICE}")
            stopped.__cause__ = error
            self._report(WorkerStopped(self.actor_ref, stopped))
            self._run = None
            self._cancel()
            self._engines.close(is_idle=False)
            return
        if self._engines.is_broken:
            lost |= dict.fromkeys(self._futures, error)
            self._futures = {}
            self._engines.close(is_idle=False)
        self._report(WorkerDied(self.actor_ref, _loss(error), tuple(lost)))


def _loss(error: BaseException) -> WorkerDiedError:
    """Say that an executor lost a call; those that are cancelled are no danger to each other."""
    loss = WorkerDiedError(
        f"the executor lost it: {_shown(error)}", is_shared=not isinstance(error, CancelledError)
    )
    loss.__cause__ = error
    return loss


def _shown(error: BaseException) -> str:
    """Say it in one line; the whole of it is the cause of what we raise."""
    line = str(error).partition("\n")[0].removesuffix(".")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
