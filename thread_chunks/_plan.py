"""The plan: the pure policy behind the supervisor. Events in, actions out.

What is pending, running, saved, failed; how large the next chunk is; what is
tried again; when to stop. No threads, no clocks, no messages sent: the supervisor
tells the plan what happened and carries out what it answers, so every rule of a
run can be read, and tested, here.

Sizing chunks follows guided self-scheduling (Polychronopoulos and Kuck, 1987):
no chunk is more than a fair part of what is left, so all workers end together.
"""

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from . import config
from ._memory import Memory
from ._policy import RestartPolicy, RunPolicy
from ._queue import Chunk, Queue
from ._time_limit import TimeLimit
from .errors import RunStoppedError, WorkerDiedError
from .messages import FailedCall, Outcome, Results

WorkerId: TypeAlias = Hashable

_FAIR_PARTS = 2  # a chunk is at most half of one worker's equal share of what is left


@dataclass(frozen=True, slots=True)
class HandOut:
    """Let a worker run these calls."""

    worker: WorkerId
    indices: Sequence[int]


@dataclass(frozen=True, slots=True)
class Save:
    """Have these outcomes made durable."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A call failed for good: tell the caller."""

    failed: FailedCall


@dataclass(frozen=True, slots=True)
class End:
    """The run is over."""

    error: BaseException | None


Action: TypeAlias = HandOut | Save | GiveUp | End


@dataclass(slots=True)
class _Cost:
    """What one call costs, as measured so far."""

    seconds: float = 0.0
    size: float = 0.0

    def learn(self, seconds: float, size: float) -> None:
        """Weigh the newest chunk as much as all before it: costs drift along a sweep."""
        self.seconds = (self.seconds + seconds) / 2 if self.seconds else seconds
        self.size = (self.size + size) / 2 if self.size else size


@dataclass(slots=True)
class Plan:
    """The state of one run.

    Parameters
    ----------
    missing
        The calls to run, in order.
    policy
        The rules.
    workers
        How many workers there are to run them.
    deadly
        Those of the calls that took their process down when they were last tried: they come last, and alone.
    longest
        Seconds that the longest call took that ended in an earlier run.
    """

    missing: Sequence[int]
    policy: RunPolicy
    workers: int
    deadly: Sequence[int] = ()
    longest: float = 0.0
    failures: dict[int, FailedCall] = field(default_factory=dict)
    """The calls that failed for good, in the order in which they did."""
    _pending: Queue = field(init=False)
    _suspects: deque[int] = field(default_factory=deque)
    _last: deque[int] = field(init=False)
    _neighbours: dict[int, int] = field(default_factory=dict)
    _memory: Memory = field(init=False)
    _time: TimeLimit = field(init=False)
    _running: dict[WorkerId, Chunk] = field(default_factory=dict)
    _idle: dict[WorkerId, None] = field(default_factory=dict)
    _single: set[WorkerId] = field(default_factory=set)
    _gone: set[WorkerId] = field(default_factory=set)
    _last_size: dict[WorkerId, int] = field(default_factory=dict)
    _unsaved: dict[int, int] = field(default_factory=dict)
    _backlog: int = 0
    _raises: Counter[int] = field(default_factory=Counter)
    _deaths: Counter[int] = field(default_factory=Counter)
    _death_times: deque[float] = field(default_factory=deque)
    _cost: _Cost = field(default_factory=_Cost)
    _is_stopping: bool = False
    _is_over: bool = False
    _error: BaseException | None = None
    _reason: BaseException | None = None

    def __post_init__(self) -> None:
        deadly = frozenset(self.deadly)
        pending = [index for index in self.missing if index not in deadly] if deadly else self.missing
        self._pending = Queue(pending)
        self._last = deque(self.deadly)
        self._neighbours.update(dict.fromkeys(deadly, 0))
        self._memory = Memory(self.policy.max_memory)
        self._time = TimeLimit(self.policy.stop_before, self.longest)

    # --- events ------------------------------------------------------------------

    def start(self) -> list[Action]:
        """Begin; a run without calls is over at once."""
        return self._proceed([])

    def worker_ready(self, worker: WorkerId, *, takes_chunks: bool = True) -> list[Action]:
        """Take note of a worker that waits for calls.

        Parameters
        ----------
        worker
            Who.
        takes_chunks
            Whether it can hand back calls of a chunk that it has not started; others get one at a time.
        """
        if not takes_chunks:
            self._single.add(worker)
        if worker not in self._running:
            self._set_idle(worker)
        return self._proceed([])

    def calls_finished(
        self,
        worker: WorkerId,
        outcomes: Iterable[Outcome],
        *,
        is_last: bool,
        chunk_bytes: int = 0,
        returned: Sequence[int] = (),
    ) -> list[Action]:
        """Take the outcomes of some calls of a worker's chunk, and calls that it hands back unstarted."""
        chunk = self._running.get(worker)
        if chunk is None:
            return []
        actions: list[Action] = []
        saves: list[Outcome] = []
        for outcome in outcomes:
            if isinstance(outcome, Results):
                if chunk.take(outcome.indices):
                    chunk.seconds += sum(outcome.seconds)
                    self._time.took(chunk.seconds)
                    self._memory.ended(worker, outcome)
                    self._wait_for_save(outcome)
                    saves.append(outcome)
            elif chunk.take((outcome.index,)):
                self._time.took(self._time.now - chunk.started)
                saves.extend(self._failed(outcome, actions))
        if saves:
            actions.insert(0, Save(tuple(saves)))
        self._pending.give_back(chunk.give_back(returned))
        if is_last:
            self._chunk_done(worker, chunk, chunk_bytes)
        return self._proceed(actions)

    def worker_died(
        self, worker: WorkerId, error: Exception, now: float, others: Sequence[WorkerId] = ()
    ) -> list[Action]:
        """Answer the death of a worker's process: retry its calls alone, or give up.

        Parameters
        ----------
        worker
            Whose process died. It can start another.
        error
            How it died.
        now
            The time in seconds, on any clock that only goes forward.
        others
            Workers that shared the process, and lost their calls with it.
        """
        actions: list[Action] = []
        suspects = [index for each in (worker, *others) for index in self._drop(each)]
        for each in (worker, *others):
            self._set_idle(each)
        self._death_times.append(now)
        while self._death_times[0] < now - self.policy.restart.seconds:
            self._death_times.popleft()
        if _may_be_innocent(error):  # too little memory, or a neighbour's fault: have fewer next time
            beside = len(self._running) + len(others)
            self._neighbours.update(dict.fromkeys(suspects, beside // 2))
        if len(suspects) == 1:
            self._blame(suspects[0], error, actions)
        else:
            self._suspects.extend(suspects)
        if len(self._death_times) > self.policy.restart.budget:
            self._fail_run(_crash_loop(len(self._death_times), self.policy.restart, error))
        return self._proceed(actions)

    def worker_stopped(self, *workers: WorkerId, error: BaseException | None = None) -> list[Action]:
        """Go on without workers; with none left the run ends, because of `error` if there is one."""
        self._reason = error or self._reason
        for worker in workers:
            self._suspects.extend(self._drop(worker))
            self._idle.pop(worker, None)
            if worker not in self._gone:
                self._gone.add(worker)
                self.workers -= 1
        if self.workers < 1 and not self._is_over and self._has_work():
            self._fail_run(_no_workers(self._reason))
        return self._proceed([])

    def results_saved(self, saved: Iterable[Results]) -> list[Action]:
        """Take note that results are durable, or could not be saved for now: the run waits no longer."""
        for results in saved:
            self._backlog -= self._unsaved.pop(results.indices[0], 0)
        return self._proceed([])

    def stop(self) -> list[Action]:
        """Start no further call."""
        self._is_stopping = True
        return self._proceed([])

    def memory_measured(self, resident: Mapping[Any, int]) -> list[Action]:
        """Take note of the bytes of memory that each worker's process holds now."""
        self._memory.measured(resident)
        return self._proceed([])

    def time_told(self, now: float) -> list[Action]:
        """Take note of the time; at the limit, the run is over whatever still runs.

        Parameters
        ----------
        now
            The time in seconds since 1970.
        """
        self._time.now = now
        if not self._time.has_come or not self._running or self._is_over:
            return self._proceed([])
        self._is_stopping = self._is_over = True
        return [End(self._time.error(is_running=True))]

    @property
    def busy(self) -> tuple[WorkerId, ...]:
        """The workers that run calls at this moment."""
        return tuple(self._running)

    # --- rules -----------------------------------------------------------------------

    def _failed(self, failed: FailedCall, actions: list[Action]) -> Iterable[Outcome]:
        """A call raised: try it again while it has retries left, else note the failure."""
        self._raises[failed.index] += 1
        if self._raises[failed.index] <= self.policy.retries and not self._is_stopping:
            self._pending.put(failed.index)
            return ()
        return self._give_up(failed, actions)

    def _give_up(self, failed: FailedCall, actions: list[Action]) -> Iterable[Outcome]:
        self.failures[failed.index] = failed
        actions.append(GiveUp(failed))
        if self.policy.stop_at_failure:
            self._is_stopping = True
        return (failed,)

    def _blame(self, index: int, error: Exception, actions: list[Action]) -> None:
        """A call died alone: it is to blame, and is tried again only so often."""
        self._deaths[index] += 1
        has_neighbours = _may_be_innocent(error) and bool(self._running)
        if self._deaths[index] <= self.policy.restart.call_restarts or has_neighbours:
            self._suspects.append(index)
            return
        code = error.exit_code if isinstance(error, WorkerDiedError) else None
        blamed = WorkerDiedError(f"call {index}: {error}", code)
        blamed.index = index
        actions.append(
            Save(tuple(self._give_up(FailedCall(index, blamed, str(blamed), is_death=True), actions)))
        )

    def _drop(self, worker: WorkerId) -> tuple[int, ...]:
        chunk = self._running.pop(worker, None)
        self._memory.forget(worker)
        if chunk is None:
            return ()
        self._time.took(self._time.now - chunk.started)
        return tuple(chunk.left)

    def _chunk_done(self, worker: WorkerId, chunk: Chunk, chunk_bytes: int) -> None:
        self._pending.give_back(chunk.left)
        del self._running[worker]
        self._set_idle(worker)
        if chunk.finished:
            seconds = chunk.seconds / chunk.finished + config.call_overhead_seconds
            self._cost.learn(seconds, chunk_bytes / chunk.finished)

    def _wait_for_save(self, results: Results) -> None:
        self._unsaved[results.indices[0]] = results.size
        self._backlog += results.size

    def _can_start(self) -> bool:
        """Whether a further call may start: something is left, and there is room for it."""
        if not self._is_waiting() or self._is_stopping or self._backlog > self.policy.backlog_bytes:
            return False
        if not self._running:
            return True  # at least one call always runs
        return len(self._running) <= self._most_neighbours() and self._memory.has_room(self._running)

    def _is_waiting(self) -> bool:
        return bool(self._pending or self._suspects or self._last)

    def _most_neighbours(self) -> int:
        """How many calls may run beside those that tolerate the fewest: of what runs, and what is next."""
        if not self._neighbours:
            return len(self._running)
        single = [chunk.left[0] for chunk in self._running.values() if len(chunk.left) == 1]
        if self._suspects:
            single.append(self._suspects[0])
        elif not self._pending:
            single.append(self._last[0])
        return min(
            (self._neighbours.get(index, len(self._running)) for index in single), default=len(self._running)
        )

    def _set_idle(self, worker: WorkerId) -> None:
        if worker not in self._gone:
            self._idle[worker] = None

    def _fail_run(self, error: BaseException) -> None:
        self._is_stopping = True
        self._error = self._error or error

    def _has_work(self) -> bool:
        return bool(self._running or (self._is_waiting() and not self._is_stopping))

    def _proceed(self, actions: list[Action]) -> list[Action]:
        """Hand out what can be handed out, and end the run when nothing is left."""
        if self._time.is_near and self._is_waiting() and not self._is_stopping:
            self._fail_run(self._time.error(is_running=False))
        while self._idle and self._can_start():
            worker = next(iter(self._idle))
            del self._idle[worker]
            actions.append(HandOut(worker, self._next_chunk(worker)))
        if not self._has_work() and not self._unsaved and not self._is_over:
            self._is_over = True
            actions.append(End(self._error))
        return actions

    def _next_chunk(self, worker: WorkerId) -> Sequence[int]:
        if self._suspects or not self._pending:  # alone, so that blame falls on the right call
            indices: Sequence[int] = ((self._suspects or self._last).popleft(),)
        else:
            indices = self._pending.take(self._chunk_size(worker))
        self._memory.started(worker)
        self._running[worker] = Chunk(indices, started=self._time.now)
        self._last_size[worker] = len(indices)
        return indices

    def _chunk_size(self, worker: WorkerId) -> int:
        """Size a chunk from what calls cost: so much work, so many bytes, a fair part of the rest."""
        last = self._last_size.get(worker, 0)
        if self.policy.one_by_one or worker in self._single or not last or not self._cost.seconds:
            return 1
        fair = len(self._pending) / (_FAIR_PARTS * max(1, self.workers))
        limits = (
            config.chunk_seconds / self._cost.seconds,
            config.chunk_bytes / max(self._cost.size, 1),
            config.chunk_growth * last,
            max(fair, config.smallest_chunk_seconds / self._cost.seconds),
            len(self._pending),
        )
        return max(1, int(min(limits)))


def _may_be_innocent(error: Exception) -> bool:
    return isinstance(error, WorkerDiedError) and (error.is_kill or error.is_shared)


def _no_workers(error: BaseException | None) -> RunStoppedError:
    if error is None:
        return RunStoppedError(
            "every worker was stopped, or belongs to another run, before this one was over"
        )
    stopped = RunStoppedError(f"no worker is left to run the calls: {error}")
    stopped.__cause__ = error
    return stopped


def _crash_loop(deaths: int, policy: RestartPolicy, error: Exception) -> RunStoppedError:
    stopped = RunStoppedError(
        f"{deaths} worker processes died within {policy.seconds:g} seconds, so the run was "
        f"given up. The last one: {error}. Make one call of the function by itself to see why"
    )
    stopped.__cause__ = error
    return stopped
