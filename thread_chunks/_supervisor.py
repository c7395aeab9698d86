"""The supervisor: between the messages and the plan.

One rule: it never blocks on anyone. Everything it learns is a message, every
message becomes an event of the plan, and the plan's actions become messages
again. It decides nothing itself.
"""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pykka

from . import config
from ._actor import Actor
from ._halt import SILENCE, Halt
from ._parameters import Calls
from ._plan import Action, End, GiveUp, HandOut, Plan, Save
from ._policy import RunPolicy
from .errors import RunStoppedError
from .messages import (
    CallFailed,
    CallsFinished,
    CheckEngine,
    CheckWorkers,
    EngineStalled,
    Flush,
    JoinRun,
    LeaveRun,
    ResultsSaved,
    ResultsTaken,
    RunChunk,
    RunFinished,
    SaveFailed,
    SaveResults,
    Slot,
    StartRun,
    StopRun,
    WorkerDied,
    WorkerJoined,
    WorkerReady,
    WorkerRef,
    WorkerStopped,
)

log = logging.getLogger("thread_chunks.supervisor")


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works for a supervisor, and how.

    Attributes
    ----------
    workers : sequence of ActorRef
        The workers; only as many are used as there are calls.
    writer : ActorRef
        The checkpoint writer.
    func : callable or None
        The function, or ``None`` for the workers' own.
    pickled : (bytes, list) or None
        The function, pickled once, and its large buffers.
    threads : int
        Threads for numerical libraries inside one call.
    timeout : float or None
        Seconds for one call.
    durable : bool
        Whether results will be saved.
    grace : float
        Seconds that a child which was told to stop has to end by itself.
    is_paced : bool
        Whether the caller says when it took results, and no more are computed ahead of it than
        may wait to be saved.
    slots : int
        How many chunks each worker runs at once.
    around : tuple
        What waits for the call that the run is made in.
    """

    workers: Sequence[WorkerRef]
    writer: "pykka.ActorRef[Any]"
    func: Callable[..., Any] | None
    pickled: "tuple[bytes, list[Any]] | None"
    threads: int
    timeout: float | None
    durable: bool
    grace: float
    is_paced: bool = False
    slots: int = 1
    around: tuple[object, ...] = ()

    @property
    def occupied(self) -> tuple[object, ...]:
        """Everything that waits for the calls of this run; to be made once, as there may be thousands of workers."""
        return (*self.workers, *self.around)

    def joined(self, supervisor: "pykka.ActorRef[Any]", number: int, occupied: tuple[object, ...]) -> JoinRun:
        """Return what a worker is told at the start."""
        return JoinRun(
            supervisor,
            self.func,
            self.pickled,
            self.threads,
            self.timeout,
            self.durable,
            self.grace,
            number,
            occupied,
        )


class Supervisor(Actor):
    """Hand chunks of calls to workers and their results to the writer, until the run is over.

    Parameters
    ----------
    crew
        Who works for it.
    calls
        All calls of the run.
    missing
        The indices of those without a result.
    deadly
        Those of them that took their process down when they were last tried.
    longest
        Seconds that the longest call took that has a result.
    policy
        The rules of the run.
    events
        Where the caller waits for news.
    """

    def __init__(
        self,
        crew: Crew,
        calls: Calls,
        missing: Sequence[int],
        deadly: Sequence[int],
        longest: float,
        policy: RunPolicy,
        events: "queue.SimpleQueue[Any]",
    ) -> None:
        super().__init__()
        self._crew = crew
        self._calls = calls
        self._workers = list(crew.workers[: len(missing)])
        self._slots = min(crew.slots, len(missing))
        self._plan = Plan(missing, policy, len(self._workers) * self._slots, deadly, longest)
        self._has_time_limit = policy.stop_before is not None
        self._measures = policy.max_memory is not None
        self._resident: dict[WorkerRef, Callable[[], int]] = {}
        self._stops_at_failure = policy.stop_at_failure
        self._killers: dict[WorkerRef, Callable[[], None]] = {}
        self._joining: set[WorkerRef] = set()
        self._silence: Halt | None = Halt(config.stall_seconds)  # until one of them says anything
        self._events = events

    def on_receive(self, message: Any) -> Any:  # noqa: C901 - a line for each message
        """Turn a message into an event of the plan.

        Parameters
        ----------
        message
            One of `thread_chunks.messages`.

        Returns
        -------
        None
            Nothing: who needs an answer gets a message.
        """
        self._measure()
        match message:
            case CallsFinished(worker, outcomes, is_last, returned, moved, slot):
                actions = self._plan.calls_finished(
                    Slot(worker, slot), outcomes, is_last=is_last, chunk_bytes=moved, returned=returned
                )
                self._act(actions)
            case ResultsSaved() | SaveFailed() | ResultsTaken():
                self._take_note(message)
            case WorkerJoined(worker, kill, resident):
                self._killers[worker] = kill
                self._resident[worker] = resident
                self._joining.add(worker)
                self._silence = None
            case WorkerReady(worker, takes_chunks):
                self._joining.discard(worker)
                self._silence = None
                for place in self._slots_of(worker):
                    self._act(self._plan.worker_ready(place, takes_chunks=takes_chunks))
            case WorkerDied(worker, error, numbers):
                log.warning("%s; its worker may start another", error)
                first, *others = [Slot(worker, number) for number in numbers]
                self._act(self._plan.worker_died(first, error, time.monotonic(), others))
            case EngineStalled():
                self._events.put(message)
            case WorkerStopped(worker, error):
                self._lose(worker, error)
            case CheckWorkers():
                self._check()
            case StartRun():
                self._start_run()
            case StopRun(kill):
                self._stop_run(kill=kill)
            case _:
                return super().on_receive(message)
        return None

    def on_stop(self) -> None:
        """Tell the caller, should it still be waiting: someone else stopped this actor."""
        self._events.put(RunFinished(RunStoppedError("the run was stopped by someone else")))
        self._kill_calls()

    def on_failure(self, exception_type: Any, exception_value: BaseException | None, traceback: Any) -> None:
        """Tell the caller of an error in this actor itself."""
        self._events.put(RunFinished(exception_value))
        self._kill_calls()

    def _kill_calls(self) -> None:
        """End what still runs, where the worker can: nobody else knows how, and nobody waits for it any more."""
        busy = {slot.worker for slot in self._plan.busy if isinstance(slot, Slot)}
        for worker in busy | self._joining:
            if worker in self._killers:
                self._killers[worker]()

    def _start_run(self) -> None:
        log.debug("%d calls for %d workers", len(self._plan.missing), len(self._workers))
        occupied = self._crew.occupied
        for number, worker in enumerate(tuple(self._workers)):
            self._tell(worker, self._crew.joined(self.actor_ref, number * self._slots, occupied))
        self._act(self._plan.start())

    def _stop_run(self, *, kill: bool) -> None:
        """Start nothing more; what runs is killed, or left to end by itself."""
        self._act(self._plan.stop())
        if kill:
            self._kill_calls()
        for worker in tuple(self._workers):
            self._tell(worker, LeaveRun(self.actor_ref))

    def _check(self) -> None:
        """Learn of deaths that nobody reported, and let the writer try again to save what it could not."""
        with suppress(pykka.ActorDeadError):
            self._crew.writer.tell(Flush())
        if self._silence is not None and self._silence.is_news(time.monotonic()):
            self._events.put(EngineStalled(SILENCE))
        for worker in tuple(self._workers):
            if not worker.is_alive():
                self._lose(worker)
            elif worker.actor_class.holds_many():  # one that waits for its calls would read it too late
                self._tell(worker, CheckEngine())

    def _take_note(self, message: ResultsSaved | SaveFailed | ResultsTaken) -> None:
        """Pass on that results are saved; they count as waiting until then, or until the caller took them."""
        if not isinstance(message, ResultsTaken):
            self._events.put(message)
        if not (self._crew.is_paced and isinstance(message, ResultsSaved)):
            self._act(self._plan.results_saved(message.results))

    def _measure(self) -> None:
        """Look what time it is, and how much memory the workers hold, before the plan decides by it."""
        if self._has_time_limit:
            self._act(self._plan.time_told(time.time()))
        if not self._measures:
            return
        resident = {Slot(worker): read() for worker, read in self._resident.items()}
        self._act(self._plan.memory_measured(resident))

    def _lose(self, worker: WorkerRef, error: BaseException | None = None) -> None:
        if worker in self._workers:
            if error is not None:
                log.warning("the run goes on without a worker: %s", error)
            self._workers.remove(worker)
            self._act(self._plan.worker_stopped(*self._slots_of(worker), error=error))

    def _slots_of(self, worker: WorkerRef) -> list[Slot]:
        return [Slot(worker, number) for number in range(self._slots)]

    def _tell(self, worker: WorkerRef, message: Any) -> None:
        try:
            worker.tell(message)
        except pykka.ActorDeadError:
            self._lose(worker)

    def _hand_out(self, slot: Slot, indices: Sequence[int]) -> None:
        rows = self._calls.rows_of(indices)
        chunk = RunChunk(
            self.actor_ref, indices, rows, config.lease_seconds, self._stops_at_failure, slot.number
        )
        self._tell(slot.worker, chunk)

    def _save(self, message: SaveResults) -> None:
        try:
            self._crew.writer.tell(message)
        except pykka.ActorDeadError:
            error = RunStoppedError("the checkpoint writer was stopped, so results can no longer be saved")
            self._events.put(RunFinished(error))

    def _act(self, actions: Sequence[Action]) -> None:
        # A worker waits for calls, and nobody waits for the rest: that can be done while it runs them.
        for action in sorted(actions, key=lambda action: not isinstance(action, HandOut)):
            match action:
                case HandOut(slot, indices):
                    self._hand_out(slot, indices)  # type: ignore[arg-type]
                case Save(outcomes):
                    self._save(SaveResults(outcomes, self.actor_ref))
                case GiveUp(failed):
                    self._events.put(CallFailed(failed))
                case End(error):
                    log.debug("the run is over: %s", error or "every call ended")
                    self._events.put(RunFinished(error))
