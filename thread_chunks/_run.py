"""One run: start the actors, wait for news, stop the actors.

One rule: whatever happens, what was started here is stopped here, workers first
and the checkpoint writer last. The caller's thread waits on one queue of events;
everything of the user's that is called back (`on_result`, the bar) runs in it.
"""

import itertools
import logging
import os
import queue
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pykka

from . import _definitions, _inside, config, progress
from ._actor import Steward, ask, wait
from ._checkpoint import untrusted
from ._failures import Failures
from ._halt import SILENCE, Halt
from ._identity import FunctionIdentity, identify
from ._job import Job
from ._log import distrust
from ._notices import add_note, exit_warning, warn
from ._options import check_runs, threads_per_call, worker_class
from ._pace import Pace
from ._pool import Pool, pickle_function
from ._streams import terminal
from ._supervisor import Crew, Supervisor
from ._tally import Tally
from ._writer import CheckpointWriter
from .errors import RunStoppedError, TimeLimitError
from .messages import (
    CallFailed,
    CheckpointNoted,
    CheckpointOpened,
    CheckWorkers,
    CloseCheckpoint,
    EngineStalled,
    OpenCheckpoint,
    Printed,
    Results,
    ResultsSaved,
    ResultsTaken,
    RunFinished,
    SaveFailed,
    StartRun,
    StopRun,
    WorkerRef,
)

_CLOSED = "the Chunker was closed in the middle of this run"

log = logging.getLogger("thread_chunks")
log.addHandler(logging.NullHandler())


def collect(job: Job, pool: Pool | None = None, closes: int = 0) -> list[Any]:
    """Run a job to its end and return the outputs in order; blocks.

    Parameters
    ----------
    job
        What to run.
    pool
        Workers to use; by default some are started for this run.
    closes
        How often runs of the pool had been ended when this one was asked for.

    Returns
    -------
    list
        The outputs.
    """
    run = _Run(job, pool, closes)
    try:
        for _ in run.results():
            pass
    except RuntimeError as error:  # what a generator makes of a StopIteration
        if run.stopped_by is None or not _inside.is_script():
            raise
        for note in getattr(error, "__notes__", ()):
            add_note(run.stopped_by, note)
        raise run.stopped_by from None
    run.finish()
    return run.outputs


def as_completed(job: Job, pool: Pool, closes: int) -> Generator[tuple[int, Any], None, None]:
    """Run a job and yield each result once it is saved.

    Parameters
    ----------
    job, pool, closes
        As for `collect`.

    Yields
    ------
    int, Any
        The index and the output of a call; a `Failure` under ``on_error="return"``.
    """
    run = _Run(job, pool, closes, is_stream=True)
    for batch in run.results():
        yield from batch
    run.finish()
    yield from run.failures.returned()


class _Run:
    """The state of one run in the caller's thread.

    In a stream, results that were saved by an earlier run come first, and none is kept once it
    was yielded, nor are many computed before they are taken.
    """

    def __init__(self, job: Job, pool: Pool | None, closes: int, *, is_stream: bool = False) -> None:
        self.outputs: list[Any] = []
        self.failures = Failures(job)
        self.stopped_by: StopIteration | None = None  # out of `on_result`
        self._job = job
        self._around = _inside.occupied()
        self._pool = pool
        self._is_own_pool = pool is None
        self._closes = closes
        self._workers: list[WorkerRef] | None = None  # those of the pool, unless it is our own
        self._silence = Halt(config.stall_seconds)
        self._bar: progress.Progress = progress.Silent()
        self._tally = Tally(job.path, len(job.calls))
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tell_printed = partial(self._events.put, Printed())
        self._steward = Steward()
        self._writer: pykka.ActorRef[Any] | None = None
        self._supervisor: pykka.ActorRef[Any] | None = None
        self._is_stream = is_stream
        self._has_ended = False
        self._is_stopped = False
        self._reason: BaseException | None = None
        self._func: Callable[..., Any] | None = None
        self._pickled: tuple[bytes, list[Any]] | None = None

    # --- the run, from start to end ---------------------------------------------------

    def results(self) -> Generator[Iterable[tuple[int, Any]], None, None]:
        """Carry out the run; yield the results of a stream as they are saved, those together that were saved together."""
        if self._pool is not None:
            self._pool.check_free(self._around)
        try:
            opened = self._open()
            yield opened.results
            self._show_progress(opened.resumed)
            self._steward.do(lambda: self._start(opened))
            self._bar.tick()  # to draw it takes a moment, in which calls run already
            for event in self._news():
                yield from self._take(event)
            self._stop()
            yield from self._late_results()
        except BaseException as error:
            self._stop()
            self._explain(error)
            if isinstance(error, GeneratorExit):  # nobody sees it: the loop was left
                self._warn_of_file()
            self._tally.note_on(error)
            raise
        finally:
            self._steward.dismiss(self._stop_actors)

    def _open(self) -> CheckpointOpened:
        """Do everything that can fail before a call runs: pickle the function, open the file."""
        job = self._job
        _definitions.renew()
        if self._pool is None:
            kind = worker_class(job.options.worker)
            assert job.func is not None
            self._func = job.func
            self._pickled = pickle_function(job.func) if kind.needs_pickle else None
        else:
            self._steward.do(self._occupy)
            self._check_open()  # it may have been closed while the parameters were read
            self._pool.renew(self._steward)
            self._workers = self._pool.actors
            self._func = self._pool.held_function(self._check_silence) if job.func is None else job.func
            check_runs(self._func, self._pool.kinds)
            self._pickled = None if job.func is None else self._pool.pickled(job.func)
        # Without a file nothing is compared, and to digest what a function holds can take long.
        identity = FunctionIdentity("", b"", 0) if job.path is None else identify(self._func)
        is_new = job.path is None or (job.is_plain and not os.path.lexists(job.path))
        if is_new:  # nothing can be saved, and every parameter travels: every call will be run
            self._fill_pool(len(job.calls))
        self._warn_of_strangers()
        self._steward.do(lambda: self._start_writer(identity))
        self._check_open()
        assert self._writer is not None
        opened: CheckpointOpened = ask(self._writer, OpenCheckpoint(self._is_stream), self._check_open)
        for warning in opened.warnings:
            warn(warning)
        self._tally.opened(opened.resumed)
        if opened.resumed:
            log.info("%d of %d results resumed from %s", opened.resumed, len(job.calls), job.path)
        if not is_new:
            self._fill_pool(len(opened.missing))
        return opened

    def _show_progress(self, resumed: int) -> None:
        job = self._job
        name = getattr(self._func, "__name__", type(self._func).__name__)
        stops = job.options.on_error == "raise"
        pace = Pace(name, len(job.calls), resumed, job.chunk_size, stops_at_failure=stops)
        self._bar = progress.start(pace, self._tell_printed, is_shown=job.has_bar)

    def _warn_of_strangers(self) -> None:
        """Warn, or refuse where warnings are errors, before the writer reads the file."""
        path = self._job.path
        if path is not None and os.path.exists(path):
            reason = distrust(os.stat(path))
            if reason is not None:
                warn(untrusted(path, reason))

    def _start_writer(self, identity: FunctionIdentity) -> None:
        if self._is_stopped:
            return
        job = self._job
        self._writer = CheckpointWriter.start(
            job.path, identity, job.parameters, job.calls, job.options.on_mismatch, self._events
        )

    def _fill_pool(self, missing: int) -> None:
        """Start workers, if they are ours, and their children, which takes longest."""
        threads = threads_per_call(self._job.chunk_size)
        if self._pool is None:
            self._pool = Pool(self._job.options.worker, self._job.func)
            self._catch_prints(self._pool)
            self._pool.fill(min(self._job.chunk_size, missing), self._steward, threads)
        elif missing:
            self._catch_prints(self._pool)
            self._pool.get_ready(threads)

    def _catch_prints(self, pool: Pool) -> None:
        """Have what children print come to this thread, if it is going to draw on their terminal."""
        screen = terminal() if self._job.has_bar else None
        if screen is not None:
            self._steward.do(lambda: pool.catch_prints(screen, self._tell_printed))

    def _start(self, opened: CheckpointOpened) -> None:
        """Start the supervisor, and with it the run; in the steward's thread."""
        if self._is_stopped:
            return
        job = self._job
        assert self._writer is not None
        assert self._pool is not None
        crew = Crew(
            workers=self._pool.actors,
            writer=self._writer,
            func=job.func,
            pickled=self._pickled,
            threads=threads_per_call(job.chunk_size),
            timeout=job.options.timeout,
            durable=job.path is not None,
            grace=job.policy.restart.grace,
            is_paced=self._is_stream,
            slots=self._pool.slots,
            around=self._around,
        )
        self._supervisor = Supervisor.start(
            crew, job.calls, opened.missing, opened.deadly, opened.longest, job.policy, self._events
        )
        with suppress(pykka.ActorDeadError):  # then it has told why
            self._supervisor.tell(StartRun())

    def _news(self) -> Iterator[Any]:
        """Wait for events until the run is over; nobody is waited for who does not live."""
        while True:
            try:
                event = self._events.get(timeout=self._until_next_check())
            except queue.Empty:
                self._bar.tick()
                self._check_actors()
                continue
            if isinstance(event, RunFinished):
                self._has_ended = event.error is None
                if event.error is not None and not self._has_failed(event.error):
                    raise event.error from event.error.__cause__
                return
            yield event

    def _occupy(self) -> None:
        """Take the workers; in the steward's thread, which is there from now on for whoever interrupts."""
        assert self._pool is not None
        if not self._is_closed:
            self._pool.interrupt = self._interrupt

    def _interrupt(self) -> None:
        """End the run, from any thread: who waits for it learns why. Blocks until it has let go of everything."""
        self._events.put(RunFinished(RunStoppedError(_CLOSED)))
        with suppress(RunStoppedError):  # it has just come to its end
            self._steward.do(self._stop_actors)

    @property
    def _is_closed(self) -> bool:
        """Whether the run was ended from outside since it was asked for."""
        return self._pool is not None and self._pool.closes != self._closes

    def _check_open(self) -> None:
        if self._is_closed:
            raise RunStoppedError(_CLOSED)

    def _check_silence(self) -> None:
        """Look, while a worker does not answer, whether to wait on, and whether that is worth telling."""
        self._check_open()
        if self._silence.is_news(time.monotonic()):
            self._tally.warn_of_halt(SILENCE)

    def _until_next_check(self) -> float:
        """Return how many seconds to wait for news; the supervisor looks at the clock at the time limit, too."""
        limit = self._job.stop_before
        if limit is None:
            return config.heartbeat_seconds
        left = limit - time.time()
        if left <= 0:  # also while news come all the time, of what calls print
            self._tell(CheckWorkers())
            return config.heartbeat_seconds
        return min(left, config.heartbeat_seconds)

    def _has_failed(self, error: BaseException) -> bool:
        """Whether a call failed before the time limit came: `finish` raises that, the next run may meet it again."""
        is_first = self._job.options.on_error == "raise" and bool(self.failures)
        return isinstance(error, TimeLimitError) and is_first

    def _check_actors(self) -> None:
        for actor in (self._supervisor, self._writer):
            if actor is not None and not actor.is_alive() and self._events.empty():
                msg = f"the {actor.actor_class.__name__} was stopped by someone else, so the run cannot go on"
                raise RunStoppedError(msg)
        self._tell(CheckWorkers())

    def _tell(self, message: Any) -> None:
        """Tell the supervisor; should it have ended, that comes up by itself."""
        if self._supervisor is not None:
            with suppress(pykka.ActorDeadError):
                self._supervisor.tell(message)

    def _take(self, event: Any) -> Iterator[Iterable[tuple[int, Any]]]:
        """Pass one piece of news on to the user."""
        match event:
            case ResultsSaved(results):
                yield self._report(results)
                self._tell(ResultsTaken(results))
            case SaveFailed(results, error):
                self._tally.add_unsaved(results, error)
            case CheckpointNoted(path, warning):
                self._tally.moved(path)
                warn(warning)
            case CallFailed(failed):
                self._bar.failed(failed.index)
                self.failures.add(failed)
            case EngineStalled(reason):
                self._tally.warn_of_halt(reason)
            case Printed() if self._pool is not None:
                self._bar.printed(self._pool.prints())

    def _report(self, saved: Sequence[Results]) -> Iterable[tuple[int, Any]]:
        count = self._tally.add(saved)
        self._bar.saved(count, sum(sum(results.seconds) for results in saved))
        if self._job.options.on_result is not None:
            for index, output in _pairs(*saved):
                try:
                    self._job.options.on_result(index, output)
                except StopIteration as error:
                    self.stopped_by = error
                    raise
        return itertools.chain.from_iterable(each.give_away() for each in saved) if self._is_stream else ()

    def _late_results(self) -> Iterator[Iterable[tuple[int, Any]]]:
        """Report results that only the last attempt saved; warn of those it did not."""
        closed = self._tally.closed
        if closed is None:
            msg = "the CheckpointWriter was stopped before it handed the outputs over"
            raise RunStoppedError(msg) from self._reason
        self.outputs = closed.outputs
        self._warn_of_file()
        if late := self._tally.late:
            yield self._report(late)
        if self._is_stream:  # what could not be saved is handed out all the same, as in a list
            yield itertools.chain.from_iterable(each.give_away() for each in self._tally.take_unsaved())

    def _warn_of_file(self) -> None:
        for warning in self._tally.take_warnings():
            warn(warning)

    # --- the end ------------------------------------------------------------------------

    def _stop(self) -> None:
        """Stop what this run started, and leave the bar as it is."""
        if sys.is_finalizing():
            return  # no thread runs any more: the end of the process ends everything
        self._steward.do(self._stop_actors)
        if self._pool is not None:
            self._bar.printed(self._pool.release_prints())
        self._bar.close()
        if self._pool is not None and self._is_own_pool:
            self._pool.close(config.ray_stop_seconds if self._has_ended else config.interrupt_seconds)

    def _stop_actors(self) -> None:
        """Stop what this run started, once, workers first and the writer last; in the steward's thread."""
        if self._is_stopped:
            return
        self._is_stopped = True
        is_early = not self._has_ended
        if self._supervisor is not None:
            _ask_briefly(self._supervisor, StopRun(kill=is_early))
        is_pool_over = self._is_own_pool or self._is_closed
        stopping = self._pool.stop(self._workers) if self._pool is not None and is_pool_over else []
        if is_early and self._supervisor is not None:
            wait(stopping, config.interrupt_seconds)
            _ask_briefly(self._supervisor, CheckWorkers())  # what they handed back last is passed on
        if self._writer is not None and self._tally.is_open:  # else it may still be reading
            try:
                self._tally.close(ask(self._writer, CloseCheckpoint()))
            except Exception as error:  # noqa: BLE001 - the others must be stopped all the same
                self._reason = error
        stopping += [
            actor.stop(block=False) for actor in (self._writer, self._supervisor) if actor is not None
        ]
        wait(stopping, config.interrupt_seconds if is_early else config.grace_seconds)
        # Another run may have the workers by now.
        if self._pool is not None and self._pool.interrupt == self._interrupt:
            self._pool.interrupt = None

    def finish(self) -> None:
        """Do about failures what the user asked for.

        Not in the generator `results`: it would make a ``StopIteration`` of the user's something else.
        """
        for index, failure in self.failures.returned():
            self.outputs[index] = failure
        error = self.failures.error()
        if error is not None:
            self._tally.note_on(error)
            if isinstance(error, SystemExit) and not _inside.is_in_call():
                warn(exit_warning(error))
            raise error

    def _explain(self, error: BaseException) -> None:
        """Give the end of an actor the cause that one of them may have met; they have all ended by now."""
        while issubclass(type(error), RunStoppedError) and error.__cause__ is None and not self._is_closed:
            try:
                event = self._events.get(timeout=config.actor_end_seconds)
            except queue.Empty:
                return
            if isinstance(event, RunFinished) and event.error is not None:
                error.__cause__ = event.error.__cause__


def _pairs(*saved: Results) -> Iterator[tuple[int, Any]]:
    """Give index and output of each result."""
    for results in saved:
        yield from zip(results.indices, results.outputs, strict=True)


def _ask_briefly(actor: "pykka.ActorRef[Any]", message: Any) -> None:
    """Wait until an actor has worked through its mailbox, but not for ever, whatever it meets."""
    with suppress(Exception):
        actor.ask(message, timeout=config.grace_seconds)
