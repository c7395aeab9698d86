"""`chunk` and `Chunker`: one blocking call over the actors.

This room is the public signature. What a run does is known to `_run`, which
workers it has to `_pool`, and what options mean to `_options`.
"""

import os
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Self, TypeAlias

from . import config
from ._actor import Steward, wait
from ._job import Job, checked_path
from ._options import (
    Options,
    WorkerKind,
    check_function,
    check_runs,
    check_switch,
    checked_size,
    worker_class,
)
from ._pool import Pool, constructor_arguments
from ._run import as_completed, collect
from ._time_limit import Moment
from .messages import WorkerRef
from .process_worker import ProcessWorker

Function: TypeAlias = Callable[..., Any]


def chunk(
    func: Function | None,
    parameters: Iterable[Any],
    actors: Sequence[WorkerRef] | None = None,
    chunk_size: int | None = None,
    progress_bar: bool | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    worker: WorkerKind = ProcessWorker,
    on_error: str = "raise",
    retries: int = 0,
    timeout: float | None = None,
    on_mismatch: str = "restart",
    on_result: Callable[[int, Any], None] | None = None,
    max_memory: float | str | None = None,
    stop_before: Moment | None = None,
) -> list[Any]:
    """Call a function for every entry of a parameter list, a chunk at a time, in parallel.

    Blocks the calling thread until every call ended; any thread may call it. By default each call
    runs in a child process. At most `chunk_size` calls run at any moment,
    and a new one starts as soon as one ends. With a `path`, each result is saved
    the moment its call completes, and the same call to `chunk` after a crash picks
    up where it left off. Errors and warnings are raised in the calling thread.

    Parameters
    ----------
    func : callable or None
        The function. ``None`` uses the function that the `actors` hold.
    parameters : iterable of sequence or mapping
        One entry for each call: a sequence of positional arguments, or a mapping
        of keyword arguments. Any iterable; it is read once.
    actors : sequence of pykka.ActorRef, optional
        Worker actors to use, started by you and left running. By default workers
        are started for this call and stopped after it.
    chunk_size : int, optional
        How many calls may run at the same time. By default the CPUs that this
        process may really use (`config.default_chunk_size`).
    progress_bar : bool, optional
        Whether to show a bar on stderr. By default `config.progress_bar`.
    path : str or os.PathLike, optional
        The checkpoint file. Without an extension, ``_Checkpoint.pkl`` is added.
    worker : type or functools.partial, optional
        The class of the workers to start, or a `functools.partial` of one that
        holds its constructor's arguments.
    on_error : {"raise", "continue", "return"}, optional
        ``"raise"``: after the first failure start no further call, let the running
        ones finish, and raise the function's own exception. ``"continue"``: run
        everything else, then raise an `ExceptionGroup`. ``"return"``: put a
        `Failure` in that place of the list.
    retries : int, optional
        How often a call that raised, or took longer than `timeout`, is tried again.
    timeout : float, optional
        Seconds for one call; a call that takes longer is killed. For workers that can do
        that: `ProcessWorker` and `RayWorker`.
    on_mismatch : {"restart", "reuse", "raise"}, optional
        What to do about a checkpoint of another function or other parameters:
        ``"restart"`` sets it aside and starts afresh, ``"reuse"`` keeps the results
        of all parameters that still occur, ``"raise"`` leaves it alone.
    on_result : callable, optional
        Called as ``on_result(index, output)`` in the calling thread, once the result is
        saved (or, without a path, received), in any order. Not called for resumed results.
    max_memory : float or str, optional
        Bytes, or text such as ``"8 GB"``: no further call starts while the resident memory
        of the workers' processes, and the largest growth seen in a call so far, would pass
        it. At least one call always runs. By default there is no limit. For `ProcessWorker`.
    stop_before : datetime.datetime, datetime.timedelta or float, optional
        When the run has to be over, as in a batch job: a `datetime.datetime` (local time, if it
        is naive), a `datetime.timedelta` from now, or seconds since 1970, such as
        ``time.time() + 3600``. No call starts that would not end before it if it took as long as
        the longest so far, resumed results included. What still runs then is killed, where the
        workers can do that.

    Returns
    -------
    list
        The outputs, in the order of the parameters and as many.

    Raises
    ------
    TypeError, ValueError
        If an option, the parameters or the function cannot be used. No call was run.
    RuntimeError
        If it is called while a module is imported, or `actors` wait for the call that it is made in.
        No call was run.
    CheckpointError, OSError
        If the file at `path` must be left alone, or cannot be made, read or written. No call was run.
    WorkerDiedError
        If a call took its worker process down, and again when it was retried.
    CallTimeoutError
        If a call took longer than `timeout`.
    RemoteError
        If what a call raised or returned could not be brought here.
    CallExitError
        If a call ended with an exit, and this is not the main thread of a script.
    ExceptionGroup
        With all of these that calls raised, under ``on_error="continue"``; with an exit among them it is
        a `BaseExceptionGroup`.
    TimeLimitError
        If calls are left at the time of `stop_before`. Results are safe in the checkpoint.
    RunStoppedError
        If the run cannot go on: workers die one after the other, or were stopped by someone else.
    Exception
        Whatever the function raised, as `on_error` says.

    Warns
    -----
    CheckpointWarning
        If a file was set aside, is damaged, or cannot be written for now.
    EngineStalledWarning
        If what runs the calls has come to a halt.
    CallExitWarning
        If a call ended with `SystemExit`, which is raised next.

    Examples
    --------
    >>> from thread_chunks import chunk
    >>> chunk(max, [[1, 4], [2, 5]], progress_bar=False)
    [4, 5]
    >>> executed = []
    >>> for _ in range(2):
    ...     chunk(pow, [[2, 3], [2, 4]], path="powers.pkl", progress_bar=False,
    ...           on_result=lambda index, output: executed.append(index))
    [8, 16]
    [8, 16]
    >>> sorted(executed)  # the second one found both in the file
    [0, 1]
    """
    options = Options(worker, on_error, retries, timeout, on_mismatch, on_result, max_memory, stop_before)
    options.check_actors(actors)
    if func is None and actors is None:
        msg = (
            "func is None, and so is actors: give chunk() a function, without parentheses, as in "
            "chunk(f, [[1], [2]]), or actors that hold one"
        )
        raise ValueError(msg)
    if actors is None:
        constructor_arguments(worker, func)
        kinds = [worker_class(worker)]
        return collect(Job.read(func, parameters, path, progress_bar, options, chunk_size, kinds))
    pool = Pool.of(actors, chunk_size)
    return collect(Job.read(func, parameters, path, progress_bar, options, pool.size, pool.kinds), pool)


class Chunker:
    """Workers that are kept between calls, with their copy of the function.

    A context manager: leaving it stops its workers, unless `persistent`. It may be used by any thread, for
    one run at a time; a run blocks the thread that asked for it, and raises and warns there. Making one with
    a function starts a thread for each worker; a `ProcessWorker` starts its child process at the first run.

    Parameters
    ----------
    func : callable, optional
        The function. Exactly one of `func` and `actors` must be given.
    actors : sequence of pykka.ActorRef, optional
        Worker actors, started by you; they are never stopped here.
    chunk_size : int, optional
        How many calls may run at the same time. By default `config.default_chunk_size`, or as many as
        there are `actors`.
    progress_bar : bool, optional
        Whether to show a bar; by default `config.progress_bar` at each call.
    persistent : bool, optional
        Whether the workers outlive this object. By default they do not.
    path : str or os.PathLike, optional
        The checkpoint file of each call that names no other.
    worker, on_error, retries, timeout, on_mismatch, on_result, max_memory
        As for `chunk`.
    stop_before : datetime.datetime, datetime.timedelta or float, optional
        As for `chunk`; a `datetime.timedelta` counts from each call of the object.

    Raises
    ------
    TypeError, ValueError
        If an option cannot be used; no worker is left.

    Examples
    --------
    >>> from thread_chunks import Chunker
    >>> with Chunker(abs, chunk_size=2, progress_bar=False) as chunker:
    ...     chunker([[-1], [2]]), chunker([[-3]])
    ([1, 2], [3])
    """

    def __init__(
        self,
        func: Function | None = None,
        actors: Sequence[WorkerRef] | None = None,
        chunk_size: int | None = None,
        progress_bar: bool | None = None,
        persistent: bool = False,
        path: str | os.PathLike[str] | None = None,
        *,
        worker: WorkerKind = ProcessWorker,
        on_error: str = "raise",
        retries: int = 0,
        timeout: float | None = None,
        on_mismatch: str = "restart",
        on_result: Callable[[int, Any], None] | None = None,
        max_memory: float | str | None = None,
        stop_before: Moment | None = None,
    ) -> None:
        self._options = Options(
            worker, on_error, retries, timeout, on_mismatch, on_result, max_memory, stop_before
        )
        self._options.check_actors(actors)
        if (func is None) == (actors is None):
            both = "func and actors are both" + (" None" if func is None else " given")
            msg = f"{both}: give a Chunker either func or actors, as in Chunker(f) or Chunker(actors=[...])"
            raise ValueError(msg)
        check_function(func)
        check_switch("progress_bar", progress_bar)
        check_switch("persistent", persistent, has_default=False)
        checked_path(path)
        self.progress_bar = progress_bar
        self.persistent = persistent
        self.path = path
        self._func = func
        if actors is None:
            self._options.check_kinds([worker_class(worker)])
            check_runs(func, [worker_class(worker)])
            size = checked_size(chunk_size)
            self._pool = Pool(worker, func)
            self._fill(size)
        else:
            self._pool = Pool.of(actors, chunk_size)
            self._options.check_kinds(self._pool.kinds)

    @property
    def actors(self) -> list[WorkerRef]:
        """The addresses of the workers, a list of pykka.ActorRef."""
        return self._pool.actors

    @property
    def chunk_size(self) -> int:
        """How many calls may run at the same time, an int of at least 1."""
        return self._pool.size

    def __call__(
        self,
        parameters: Iterable[Any],
        func: Function | None = None,
        progress_bar: bool | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> list[Any]:
        """Call the function for every entry of a parameter list: see `chunk`.

        Blocks the calling thread until every call ended. Any thread may call it.

        Parameters
        ----------
        parameters : iterable of sequence or mapping
            One entry for each call.
        func : callable, optional
            Replaces the function that the workers hold, for later calls too.
        progress_bar, path
            Override those of the object.

        Returns
        -------
        list
            The outputs, in the order of the parameters and as many.

        Raises
        ------
        RuntimeError
            If another run of this object is going on.
        RunStoppedError
            If another thread closed the object meanwhile.
        Exception
            As for `chunk`.
        """
        closes = self._pool.closes
        return collect(self._job(parameters, func, progress_bar, path), self._pool, closes)

    def as_completed(
        self,
        parameters: Iterable[Any],
        func: Function | None = None,
        progress_bar: bool | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> Generator[tuple[int, Any], None, None]:
        """Yield each result as soon as it is saved.

        Results that the checkpoint held already come first. Leaving the loop early
        kills what still runs, where the workers can do that; what was received is saved.
        Failures are raised at the end as `on_error` says; under ``"return"`` they are
        yielded at the end.

        Wrong arguments are refused at once. The run begins with the first ``next()``; each blocks the thread
        that goes through the loop until a result is saved. Everything else is raised, and warned of, there.

        Parameters
        ----------
        parameters : iterable of sequence or mapping
            One entry for each call.
        func, progress_bar, path
            As when the object is called.

        Yields
        ------
        int, Any
            The index of the call, and its output.

        Raises
        ------
        TypeError, ValueError
            If an argument cannot be used.
        RuntimeError, RunStoppedError, Exception
            As when the object is called; in the loop.

        Examples
        --------
        >>> from thread_chunks import Chunker
        >>> with Chunker(abs, chunk_size=1, progress_bar=False) as chunker:
        ...     for index, output in chunker.as_completed([[-5], [-7]], path="abs.pkl"):
        ...         print(index, output)
        0 5
        1 7
        """
        closes = self._pool.closes
        return self._stream(self._job(parameters, func, progress_bar, path), closes)

    def _stream(self, job: Job, closes: int) -> Generator[tuple[int, Any], None, None]:
        """Run a job; as long as the iterator lives, so does this object, and with it the workers."""
        yield from as_completed(job, self._pool, closes)

    def _fill(self, size: int) -> None:
        """Start the workers, all or none, also when Ctrl-C comes in between."""
        steward = Steward()
        try:
            self._pool.fill(size, steward)
        except BaseException:
            steward.do(lambda: wait(self._pool.stop(), config.grace_seconds))
            raise
        finally:
            steward.dismiss()

    def close(self) -> None:
        """Stop the workers that this object started, unless it is persistent.

        Blocks until they ended; for calls that cannot be killed it waits `config.grace_seconds`, and then leaves
        them to end in their threads. May be called from any thread. A run that is going on in another one ends with a
        `RunStoppedError` there; what was saved is safe, and what still runs is killed where the worker class can
        do that. The object can be called again: it starts new workers.
        """
        if not self.persistent:
            wait(self._pool.end(), config.grace_seconds)
            self._pool.close(config.ray_stop_seconds)

    def __enter__(self) -> Self:
        """Return the object."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the workers."""
        self.close()

    def __del__(self) -> None:
        """Stop the workers without waiting for them."""
        pool = getattr(self, "_pool", None)
        if pool is not None and not self.persistent and not sys.is_finalizing():
            pool.stop()

    def _job(
        self,
        parameters: Iterable[Any],
        func: Function | None,
        progress_bar: bool | None,
        path: str | os.PathLike[str] | None,
    ) -> Job:
        check_function(func)
        if func is not None:
            self._func = func
        held = self._func if func is None else func  # another thread may bring its own at any moment
        bar = self.progress_bar if progress_bar is None else progress_bar
        path = self.path if path is None else path
        job = Job.read(held, parameters, path, bar, self._options, self.chunk_size, self._pool.kinds)
        if job.func is not None:
            self._pool.pickled(job.func)  # it is kept for the run; what cannot be sent is refused now
        return job
