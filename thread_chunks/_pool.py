"""The workers of one run, or of many: start them, name them, stop them.

One rule: workers that the user started are never stopped here. This room knows
worker classes and nothing of runs.
"""

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TextIO

import pykka

from ._actor import Steward, ask
from ._by_value import dump_copied
from ._fault import unpicklable_part
from ._options import WorkerKind, checked_size, worker_class
from ._parameters import shown
from ._relay import Relay
from .errors import RunStoppedError
from .messages import GetFunction, GetReady, WorkerRef, own_outputs
from .worker import Worker

_BUSY = "these workers are in the middle of another run: wait for it, or close its iterator"


class Pool:
    """Worker actors that hold the same function.

    Parameters
    ----------
    kind
        The class of the workers to start, by `fill`; ``None`` if the user owns them.
    func
        What they hold.
    """

    def __init__(self, kind: "WorkerKind | None", func: Callable[..., Any] | None) -> None:
        self.actors: list[WorkerRef] = []
        self._runs: dict[str, Callable[[], None]] = {}  # at most one
        self.closes = 0  # how often runs were ended from outside
        self._stopping: list[WorkerRef] = []
        self._kind = kind
        self._func = func
        self._size = 0
        self._process = os.getpid()
        self._pickled: tuple[Any, tuple[bytes, list[Any]]] | None = None
        self._relay: Relay | None = None

    def fill(self, size: int, steward: Steward, threads: int | None = None) -> None:
        """Start workers until there are so many; those that ended are replaced.

        They are constructed in the caller's thread.

        Parameters
        ----------
        size
            How many.
        steward
            Starts them, and notes each as soon as it is started.
        threads
            Threads that numerical libraries may use inside one call: each worker starts its child process at
            once. By default none is started yet.
        """
        assert self._kind is not None
        self._size = size
        # One that was told to stop lives on until its call has ended.
        self.actors = [actor for actor in self.actors if actor.is_alive() and actor not in self._stopping]
        missing = -(-size // self.slots) - len(self.actors)
        workers = [_new_worker(self._kind, self._func) for _ in range(missing)]

        def begin() -> None:
            for worker in workers:
                worker.begin()
                self.actors.append(worker.actor_ref)
                if threads is not None:
                    self._tell_ready(worker.actor_ref, threads)

        if workers:
            steward.do(begin)

    @classmethod
    def of(cls, actors: Sequence[WorkerRef], chunk_size: int | None) -> "Pool":
        """Use workers that the user started.

        Parameters
        ----------
        actors
            The workers.
        chunk_size
            What the user said of their number.

        Returns
        -------
        Pool
            They are never stopped here.

        Raises
        ------
        ValueError
            If the number differs, there is none, or one was stopped.
        TypeError
            If one is not a worker.
        """
        actors = _listed(actors)
        if not actors or (chunk_size is not None and chunk_size != len(actors)):
            msg = (
                f"chunk_size is {shown(chunk_size)}, but there are {len(actors)} actors: each actor runs one "
                "call at a time, so leave chunk_size out, or make the numbers equal (at least 1)"
            )
            raise ValueError(msg)
        checked_size(
            len(actors) if chunk_size is None else chunk_size
        )  # True and 2.0 are no numbers of actors
        for number, actor in enumerate(actors):
            if not isinstance(actor, pykka.ActorRef) or not issubclass(actor.actor_class, Worker):
                msg = f"actors[{number}] must be a started worker, such as ThreadWorker.start(), not {shown(actor)}"
                raise TypeError(msg)
            if not actor.is_alive():
                msg = f"actors[{number}] was stopped; start another with {actor.actor_class.__name__}.start(...)"
                raise ValueError(msg)
            if actor in actors[:number]:
                msg = (
                    f"actors[{number}] is actors[{actors.index(actor)}] again, and one actor runs one call at a "
                    f"time: start one for each, as in [{actor.actor_class.__name__}.start(...) for _ in range(2)]"
                )
                raise ValueError(msg)
        pool = cls(None, None)
        pool.actors = actors
        return pool

    @property
    def size(self) -> int:
        """How many workers there are when none has ended."""
        return len(self.actors) if self._kind is None else self._size

    @property
    def slots(self) -> int:
        """How many calls each worker runs at once."""
        return max(1, self._size) if self._kind is not None and worker_class(self._kind).holds_many() else 1

    @property
    def is_left_behind(self) -> bool:
        """Whether this process was forked from the one that the workers are in: they look alive, and are not."""
        return self._process != os.getpid()

    @property
    def kinds(self) -> list[type[Worker]]:
        """The classes of the workers."""
        return [actor.actor_class for actor in self.actors]

    def held_function(self, check: Callable[[], None]) -> Callable[..., Any]:
        """Ask the first worker for its function; blocks until it is idle.

        Parameters
        ----------
        check
            Called again and again meanwhile; what it raises ends the waiting.

        Returns
        -------
        callable
            The function.

        Raises
        ------
        ValueError
            If it holds none.
        """
        func = ask(self.actors[0], GetFunction(), check)
        if func is None:
            msg = "func is None and the actors hold no function: pass func, or start them with one"
            raise ValueError(msg)
        return func  # type: ignore[no-any-return]

    def pickled(self, func: Callable[..., Any]) -> tuple[bytes, list[Any]] | None:
        """Pickle a function once for all workers that need it so; ``None`` if none does.

        Parameters
        ----------
        func
            The function.

        Returns
        -------
        (bytes, list) or None
            The pickle, by value where the function cannot be imported, and its large buffers.

        Raises
        ------
        TypeError
            If it cannot be pickled.
        """
        if not any(kind.needs_pickle for kind in self.kinds):
            return None
        found = self._pickled  # read once: another thread may bring another function at any moment
        if found is None or found[0] is not func:
            found = self._pickled = func, pickle_function(func)
        return found[1]

    @property
    def interrupt(self) -> Callable[[], None] | None:
        """What ends the run that is going on, from any thread."""
        return self._runs.get("now")

    def occupy(self, interrupt: Callable[[], None]) -> None:
        """Take the workers for a run, unless another thread was faster.

        Parameters
        ----------
        interrupt
            Ends the run.

        Raises
        ------
        RuntimeError
            If they are taken.
        """
        if self.is_left_behind:
            self._runs = {}
        if self._runs.setdefault("now", interrupt) != interrupt:  # one step: no thread comes in between
            raise RuntimeError(_BUSY)

    def vacate(self, interrupt: Callable[[], None]) -> None:
        """Give the workers back, unless another run has them by now."""
        if self.interrupt == interrupt:
            self._runs.pop("now", None)

    def check_free(self, occupied: tuple[object, ...]) -> None:
        """Refuse workers that are in the middle of a run.

        Parameters
        ----------
        occupied
            What waits for the call that the new run is made in, if it is made in one.

        Raises
        ------
        RuntimeError
            If they are.
        """
        if self.interrupt is not None and not self.is_left_behind:
            raise RuntimeError(_BUSY)
        if any(actor in occupied for actor in self.actors):
            msg = "these workers wait for the call that this run is made in: give the run workers of its own"
            raise RuntimeError(msg)

    def renew(self, steward: Steward) -> None:
        """Start a worker for every one that ended, if they are ours.

        Parameters
        ----------
        steward
            As for `fill`.

        Raises
        ------
        RunStoppedError
            If they are the user's, and were left behind in the process that forked this one.
        """
        if self.is_left_behind:
            if self._kind is None:
                msg = "these actors were started before a fork and live in the parent process: start others here"
                raise RunStoppedError(msg)
            self._process, self.actors = os.getpid(), []
            self._relay = None
        if self._kind is not None:
            self.fill(self._size, steward)

    def get_ready(self, threads: int) -> None:
        """Have our workers start their child processes, and do not wait.

        Parameters
        ----------
        threads
            Threads that numerical libraries may use inside one call.
        """
        for actor in self.actors if self._kind is not None else ():
            self._tell_ready(actor, threads)

    def _tell_ready(self, actor: WorkerRef, threads: int) -> None:
        """Tell a worker; the supervisor will find out about one that ended already."""
        outputs = own_outputs if self._relay is None else self._relay.outputs
        with suppress(pykka.ActorDeadError):
            actor.tell(GetReady(threads, outputs))

    def catch_prints(self, terminal: TextIO, notify: Callable[[], None]) -> None:
        """Keep what the children of our workers print on a terminal for `prints`.

        Children that are started already, or by others, go on to print there themselves.

        Parameters
        ----------
        terminal
            Where the bar is.
        notify
            Called in another thread whenever something was printed.
        """
        if self._relay is None and self._kind is not None and worker_class(self._kind).needs_pickle:
            self._relay = Relay.around(terminal)
        if self._relay is not None:
            self._relay.attach(notify)

    def prints(self) -> bytes:
        """Take the lines that children printed."""
        return b"" if self._relay is None else self._relay.take()

    def release_prints(self) -> bytes:
        """Let children print by themselves again; return the lines that are still to be shown."""
        return b"" if self._relay is None else self._relay.detach()

    def close(self, seconds: float) -> None:
        """Give back what the workers shared; for when they are stopped.

        Parameters
        ----------
        seconds
            How long to wait for it at most.
        """
        if self._relay is not None:
            self._relay.close()
            self._relay = None
        if self._kind is not None and not self.is_left_behind:
            worker_class(self._kind).wait_released(seconds)

    def end(self) -> list["pykka.Future[bool]"]:
        """End the run that is going on, if there is one, whichever thread waits for it; tell our workers to stop.

        What runs is killed where that is possible, as by Ctrl-C, and a `RunStoppedError` is raised in that thread.
        Blocks until the run has let go of its workers and its file.

        Returns
        -------
        list of Future
            One for each worker, for `wait`.
        """
        actors, interrupt = self.actors, self.interrupt
        self._stopping = actors  # first: a run that begins from now on starts workers of its own
        self.closes += 1
        stopping = self.stop(actors)
        if interrupt is not None and not self.is_left_behind:
            interrupt()
        return stopping

    def stop(self, actors: Sequence[WorkerRef] | None = None) -> list["pykka.Future[bool]"]:
        """Tell our workers to stop, and do not wait.

        Parameters
        ----------
        actors
            Those of them to stop; by default all.

        Returns
        -------
        list of Future
            One for each, for `wait`.
        """
        if self._kind is None or self.is_left_behind:
            return []
        return [actor.stop(block=False) for actor in (self.actors if actors is None else actors)]


def _listed(actors: object) -> list[WorkerRef]:
    if isinstance(actors, Iterable) and not isinstance(actors, (str, bytes)):
        return list(actors)
    msg = f"actors must be a list of started workers, such as [ThreadWorker.start()], not {shown(actors)}"
    raise TypeError(msg)


def pickle_function(func: Callable[..., Any]) -> tuple[bytes, list[Any]]:
    """Pickle a function by value where it cannot be imported.

    Parameters
    ----------
    func
        The function.

    Returns
    -------
    bytes, list
        The pickle and its large buffers.

    Raises
    ------
    TypeError
        If it holds something that cannot be pickled.
    """
    try:
        return dump_copied(func)  # as it is now, for children that are started later, too
    except Exception as error:
        name = getattr(func, "__name__", None) or shown(func)
        part = unpicklable_part(func) or "it or a global that it uses"
        msg = (
            f"func {name!r} cannot be sent to another process: {error}. At fault is {part}, "
            "which cannot be pickled: create that inside the function, or use worker=ThreadWorker"
        )
        raise TypeError(msg) from error


def constructor_arguments(
    kind: WorkerKind, func: Callable[..., Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what a worker class is to be called with.

    Parameters
    ----------
    kind
        The ``worker`` option.
    func
        The function.

    Returns
    -------
    tuple, dict
        Positional and keyword arguments.

    Raises
    ------
    TypeError
        If they are not what its constructor takes.
    """
    args, options = (kind.args, dict(kind.keywords)) if isinstance(kind, functools.partial) else ((), {})
    worker = worker_class(kind)
    signature = inspect.signature(worker)
    try:
        if "func" in signature.parameters and not args:
            options.setdefault("func", func)
        signature.bind(*args, **options)
    except TypeError as error:
        name = worker.__name__
        made = f"{name}.on(...)" if hasattr(worker, "on") else f"functools.partial({name}, ...)"
        msg = (
            f"{name} cannot be started: {error}. Give its constructor's arguments with "
            f"worker={made}, or pass actors=[{name}.start(...), ...]"
        )
        raise TypeError(msg) from None
    return args, options


def _new_worker(kind: WorkerKind, func: Callable[..., Any] | None) -> Worker:
    """Construct one worker with its constructor's arguments and the function."""
    args, options = constructor_arguments(kind, func)
    made = worker_class(kind)(*args, **options)
    if "func" not in options and func is not None:
        made.set_func(func)
    return made
