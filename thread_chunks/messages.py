"""The whole protocol: everything that one actor ever says to another.

::

    caller             Supervisor              Worker 1..n         CheckpointWriter
      │ GetReady ────────────────────────────────▶ │ (its child starts)   │
      │ ask OpenCheckpoint ─────────────────────────────────────────────▶ │
      │ ◀─ CheckpointOpened ───────────────────────────────────────────── │
      │ StartRun ─────▶ │ JoinRun ───────────────▶ │                      │
      │                 │ ◀─────────── WorkerJoined │                      │
      │                 │ ◀──────────── WorkerReady │                      │
      │                 │ RunChunk ──────────────▶ │ execute(f, *args)    │
      │                 │ ◀────────── CallsFinished │ (as results come)    │
      │                 │ SaveResults ────────────────────────────────▶   │
      │                 │                                          Flush ⤸│
      │ ◀─ ResultsSaved │ ◀──────────────────────────────── ResultsSaved  │
      │ ResultsTaken ─▶ │                          │                      │
      │ ◀─ CheckpointNoted (the file was moved, say) ──────────────────── │
      │ ◀─ RunFinished  │                          │                      │
      │ ask StopRun ──▶ │ LeaveRun ──────────────▶ │                      │
      │ ask CloseCheckpoint ────────────────────────────────────────────▶ │
      │ ◀─ CheckpointClosed ───────────────────────────────────────────── │

Commands are imperative, facts are in the past tense. Anything sent is given
away: the sender does not touch it again. This room holds data only and knows
nothing of who sends it or why.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import pykka

from . import _wire

WorkerRef: TypeAlias = "pykka.ActorRef[Any]"
"""The address of a worker actor."""


class Slot(NamedTuple):
    """A place of a worker in which one chunk runs at a time. Most workers have one."""

    worker: WorkerRef
    """Whose."""
    number: int = 0
    """Which of its places, from 0 on."""


class Call(NamedTuple):
    """One call of the function: ``func(*args, **kwargs)``."""

    index: int  # type: ignore[assignment]  # it hides tuple.index, which nobody calls
    """Its place in the parameter list."""
    args: tuple[Any, ...]
    """The positional arguments."""
    kwargs: dict[str, Any]
    """The keyword arguments; calls without any may share one dict."""


Row: TypeAlias = "list[Any] | tuple[Any, ...] | dict[str, Any]"
"""The arguments of one call as they are given: positional ones, or keyword arguments by name."""


class Pickled(NamedTuple):
    """Results as their worker pickled them (protocol 5), each by itself, side by side."""

    columns: bytes
    """Index, seconds, size and checksum of each, as `_wire.pack` lays them out."""
    body: Any
    """The pickles, one after the other: `bytes`, or anything with a buffer."""
    buffers: Sequence[Any]
    """The large buffers of a result that stands alone."""


NOT_PICKLED = Pickled(b"", b"", ())
"""What stands for the pickles of results that nobody will save."""


class Results(NamedTuple):
    """Calls that returned: one, or many short ones, in the order in which they were run."""

    indices: Sequence[int]
    """Which calls."""
    outputs: list[Any]
    """What each returned."""
    seconds: Sequence[float]
    """How long each took."""
    pickled: Pickled
    """The same as their worker pickled it."""
    trace: tuple[float, int, int] = _wire.NO_TRACE
    """When the first was started, in seconds since 1970, the number of the worker, and the peak of its memory in
    KiB; zeros if not known."""
    size: int = 0
    """Bytes of what they returned, as far as that is known."""

    def give_away(self) -> Iterator[tuple[int, Any]]:
        """Yield the index and the output of each, and keep no output."""
        for place, index in enumerate(self.indices):
            output = [self.outputs[place]]
            self.outputs[place] = None
            yield index, output.pop()


class FailedCall(NamedTuple):
    """A call that raised, or that took its worker down."""

    index: int  # type: ignore[assignment]
    """Which call."""
    exception: BaseException
    """What it raised, its remote traceback as the ``__cause__``."""
    traceback: str
    """The worker's traceback as text."""
    is_death: bool = False
    """Whether it took its worker's process down."""


Outcome: TypeAlias = Results | FailedCall


# --- caller to supervisor ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartRun:
    """Tell the workers to join and hand out the first chunks."""


@dataclass(frozen=True, slots=True)
class CheckWorkers:
    """Look whether every actor still lives; sent by the waiting caller at each heartbeat."""


@dataclass(frozen=True, slots=True)
class ResultsTaken:
    """The loop of the user went through these results; in a stream, only so many are computed ahead of it."""

    results: "tuple[Results, ...]"
    """The results; their outputs are gone."""


@dataclass(frozen=True, slots=True)
class StopRun:
    """Start no further call; answered when the workers have been told."""

    kill: bool
    """Whether calls still running are killed, where the worker can."""


# --- supervisor to worker, and back ------------------------------------------


Outputs: TypeAlias = Callable[[], AbstractContextManager[tuple[int | None, int | None]]]
"""Opens the descriptors that a child gets as stdout and stderr; ``None`` for those of this process."""


def own_outputs() -> AbstractContextManager[tuple[int | None, int | None]]:
    """Give a child the stdout and stderr of this process."""
    return nullcontext((None, None))


@dataclass(frozen=True, slots=True)
class GetReady:
    """A run is about to begin: start what takes time to start."""

    threads: int
    """Threads that numerical libraries may use inside one call."""
    outputs: Outputs
    """Gives what a child process that is started within gets as stdout and stderr."""


@dataclass(frozen=True, slots=True)
class JoinRun:
    """Work for this supervisor from now on."""

    supervisor: "pykka.ActorRef[Any]"
    """Whom to report to."""
    func: Callable[..., Any] | None
    """The function to run from now on; ``None`` keeps the worker's own."""
    pickled: tuple[bytes, list[Any]] | None
    """The same function, pickled once for all workers that need it so: the pickle and its large buffers."""
    threads: int
    """Threads that numerical libraries may use inside one call."""
    timeout: float | None
    """Seconds for one call; ``None`` for no limit."""
    durable: bool
    """Whether results will be saved, and so must be pickled."""
    grace: float = 2.0
    """Seconds that a child which was told to stop has to end by itself before it is killed."""
    number: int = 0
    """The number of the worker's first slot in this run; those of all workers are counted from 0 on."""
    occupied: tuple[object, ...] = ()
    """What waits for the calls of this run: its workers, and what waits for the call that it is made in."""


@dataclass(frozen=True, slots=True)
class LeaveRun:
    """The run is over: report to nobody until the next `JoinRun`."""

    supervisor: "pykka.ActorRef[Any]"
    """Whose run. A worker that has joined another one by now stays there."""


@dataclass(frozen=True, slots=True)
class GetFunction:
    """Answer with the function the worker holds."""


@dataclass(frozen=True, slots=True)
class RunChunk:
    """Run these calls one after another."""

    supervisor: "pykka.ActorRef[Any]"
    """Whose run. A worker that has joined another one by now holds another function and runs nothing."""
    indices: Sequence[int]
    """The calls, in order."""
    rows: tuple[int, Sequence[Any]]
    """The arguments of each, as `_wire.flat` lays them out: the length of all rows, and all values one
    after the other; or 0, and of each the positional and the keyword arguments."""
    lease: float
    """Seconds after which the calls that are not started yet are handed back."""
    stops_at_failure: bool
    """Whether no further call of the chunk is started once one raised."""
    slot: int = 0
    """In which of the worker's slots."""


@dataclass(frozen=True, slots=True)
class CheckEngine:
    """Look whether what runs the calls is still there; for workers that wait for nothing, at each heartbeat."""


@dataclass(frozen=True, slots=True)
class EngineStalled:
    """What runs the calls has come to a halt, and may go on; passed on to the caller."""

    reason: str
    """Why, as the beginning of a sentence."""


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """The worker joined and gets ready, in a way that can be ended from outside; others tell nothing yet."""

    worker: WorkerRef
    """Who."""
    kill: Callable[[], None]
    """Ends whatever its process does, at once; may be called from any thread."""
    resident: Callable[[], int]
    """Returns the bytes of memory that its process holds now; may be called from any thread."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker joined and waits for its first chunk."""

    worker: WorkerRef
    """Who."""
    takes_chunks: bool
    """Whether it can hand back what it has not started while a call runs; others get one call at a time."""


@dataclass(frozen=True, slots=True)
class CallsFinished:
    """Some calls of the worker's chunk ended."""

    worker: WorkerRef
    """Who ran them."""
    outcomes: tuple[Outcome, ...]
    """How each ended, in the order in which they were run."""
    is_last: bool
    """Whether the worker is done with its chunk. Calls of it without an outcome were not started."""
    returned: tuple[int, ...] = ()
    """Calls of the chunk that the worker hands back unstarted, because one of them takes long."""
    chunk_bytes: int = 0
    """With the last outcomes: bytes of pickled parameters and results that the chunk moved."""
    slot: int = 0
    """In which of the worker's slots they ran."""


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker's process ended in the middle of a chunk; every call without an outcome is a suspect."""

    worker: WorkerRef
    """Whose process."""
    error: Exception
    """How it died."""
    slots: tuple[int, ...] = (0,)
    """The slots whose chunks ended with it."""


@dataclass(frozen=True, slots=True)
class WorkerStopped:
    """The worker actor ended, or belongs to another run: it will run nothing more in this one."""

    worker: WorkerRef
    """Who."""
    error: BaseException | None = None
    """Why, if not because it was told to."""


# --- a worker's notes to itself -----------------------------------------------


@dataclass(frozen=True, slots=True)
class CallEnded:
    """What an executor was given is done, in whatever way."""

    slot: int
    """Which slot waits for it."""
    future: Future[Any]
    """How it ended."""


@dataclass(frozen=True, slots=True)
class ReportLost:
    """Report the calls that an executor lost, behind everything it had told before: those lost together at once."""


# --- caller and supervisor to the checkpoint writer, and back -----------------


@dataclass(frozen=True, slots=True)
class OpenCheckpoint:
    """Lock the file, find out whether it matches, and answer `CheckpointOpened`."""

    is_stream: bool
    """Whether results are handed on and not kept: those saved before with the answer, others with `ResultsSaved`."""


@dataclass(frozen=True, slots=True)
class CheckpointOpened:
    """The checkpoint is open and held against other runs."""

    missing: Sequence[int]
    """The calls without a saved result, in order."""
    resumed: int
    """How many calls were saved before."""
    results: Iterable[tuple[int, Any]]
    """If the results are a stream, index and output of each of those; to be gone through once, and not later."""
    deadly: Sequence[int]
    """Those of the missing that took their process down when they were last tried."""
    warnings: tuple[Warning, ...]
    """What the caller should be warned of."""
    longest: float = 0.0
    """Seconds that the longest of the calls took that were saved before, as far as that is known."""


@dataclass(frozen=True, slots=True)
class SaveResults:
    """Make these outcomes durable: results as results, failures as text."""

    outcomes: tuple[Outcome, ...]
    """The outcomes, in the order they came."""
    supervisor: "pykka.ActorRef[Any]"
    """Whom to report to."""


@dataclass(frozen=True, slots=True)
class Flush:
    """The writer's note to itself, queued behind every result already waiting: commit them as one group.

    Now and then the supervisor sends one: what could not be saved is tried again though nothing new comes.
    """


@dataclass(frozen=True, slots=True)
class CloseCheckpoint:
    """Save what waits, fold a finished file, release it, and answer `CheckpointClosed`."""


@dataclass(frozen=True, slots=True)
class CheckpointClosed:
    """The file is closed and no longer held."""

    outputs: list[Any]
    """The outputs in order, ``None`` where a call has none."""
    saved: int
    """How many calls have a result that is durable."""
    warnings: tuple[Warning, ...] = field(default=())
    """What the caller should be warned of."""
    unsaved: int = 0
    """How many have one that could not be saved."""
    path: str | None = None
    """Where the file is: beside its path, if somebody else's file has taken that."""


# --- what reaches the caller --------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResultsSaved:
    """These results are durable (or, without a path, held in memory)."""

    results: tuple[Results, ...]
    """The results."""


@dataclass(frozen=True, slots=True)
class SaveFailed:
    """These results could not be saved for now. They are kept, and saving is tried again."""

    results: tuple[Results, ...]
    """The results, safe in memory only."""
    error: Exception
    """What the system said."""


@dataclass(frozen=True, slots=True)
class CheckpointNoted:
    """Something happened to the file of which the caller is to be warned."""

    path: str
    """Where the file is now."""
    warning: Warning
    """What happened."""


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A call failed for good: its retries are used up."""

    failed: FailedCall
    """The call and what it raised."""


@dataclass(frozen=True, slots=True)
class Printed:
    """Calls printed something: there are lines to be shown above the bar."""


@dataclass(frozen=True, slots=True)
class RunFinished:
    """Nothing runs any more, and everything that could be saved is saved."""

    error: BaseException | None
    """Why the run could not go on, or ``None`` if it simply came to its end."""
