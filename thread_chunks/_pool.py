"""The workers of one run, or of many: start them, name them, stop them.

One rule: workers that the user started are never stopped here. This room knows
worker classes and nothing of runs.
"""

import functools
import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any

import pykka

from . import config
from ._by_value import dumps
from ._options import WorkerKind, worker_class
from .errors import RunStoppedError
from .messages import GetFunction, SetFunction, WorkerRef
from .worker import Worker


class Pool:
    """Worker actors that hold the same function.

    Parameters
    ----------
    actors
        The workers.
    start
        Starts another one; ``None`` if the user owns them.
    """

    def __init__(self, actors: Sequence[WorkerRef], start: Callable[[], WorkerRef] | None = None) -> None:
        self.actors = list(actors)
        self.is_busy = False
        self._add = start
        self._pickled: tuple[Any, bytes] | None = None

    @classmethod
    def start(cls, kind: WorkerKind, func: Callable[..., Any] | None, size: int) -> "Pool":
        """Start workers of a kind.

        Parameters
        ----------
        kind
            Their class.
        func
            What they hold.
        size
            How many.

        Returns
        -------
        Pool
            They run; no child process is started yet.
        """
        pool = cls([], functools.partial(_start_worker, kind, func))
        try:
            for _ in range(size):
                pool.actors.append(_start_worker(kind, func))
        except BaseException:
            wait(pool.stop(), config.grace_seconds)
            raise
        return pool

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
        actors = list(actors)
        if not actors or (chunk_size is not None and chunk_size != len(actors)):
            msg = (
                f"chunk_size is {chunk_size}, but there are {len(actors)} actors: each actor runs one "
                "call at a time, so leave chunk_size out, or make the numbers equal (at least 1)"
            )
            raise ValueError(msg)
        for number, actor in enumerate(actors):
            if not isinstance(actor, pykka.ActorRef) or not issubclass(actor.actor_class, Worker):
                msg = (
                    f"actors[{number}] must be a started worker, such as ThreadWorker.start(), not {actor!r}"
                )
                raise TypeError(msg)
            if not actor.is_alive():
                msg = f"actors[{number}] was stopped; start another with {actor.actor_class.__name__}.start(...)"
                raise ValueError(msg)
        return cls(actors)

    @property
    def kinds(self) -> list[type[Worker]]:
        """The classes of the workers."""
        return [actor.actor_class for actor in self.actors]

    def held_function(self) -> Callable[..., Any]:
        """Ask the first worker for its function; blocks until it is idle.

        Returns
        -------
        callable
            The function.

        Raises
        ------
        ValueError
            If it holds none.
        """
        func = ask(self.actors[0], GetFunction())
        if func is None:
            msg = "func is None and the actors hold no function: pass func, or start them with one"
            raise ValueError(msg)
        return func  # type: ignore[no-any-return]

    def pickled(self, func: Callable[..., Any]) -> bytes | None:
        """Pickle a function once for all workers that need it so; ``None`` if none does.

        Parameters
        ----------
        func
            The function.

        Returns
        -------
        bytes or None
            The pickle, by value where the function cannot be imported.

        Raises
        ------
        TypeError
            If it cannot be pickled.
        """
        if not any(kind.needs_pickle for kind in self.kinds):
            return None
        if self._pickled is None or self._pickled[0] is not func:
            self._pickled = func, pickle_function(func)
        return self._pickled[1]

    def replace_dead(self) -> None:
        """Start a worker for every one that ended, if they are ours."""
        if self._add is not None:
            self.actors = [actor if actor.is_alive() else self._add() for actor in self.actors]

    def stop(self) -> list["pykka.Future[bool]"]:
        """Tell our workers to stop, and do not wait.

        Returns
        -------
        list of Future
            One for each, for `wait`.
        """
        return [] if self._add is None else [actor.stop(block=False) for actor in self.actors]


def wait(stopping: Sequence["pykka.Future[bool]"], seconds: float) -> None:
    """Wait for workers to end; those that take longer are daemon threads and are left.

    Parameters
    ----------
    stopping
        What `Pool.stop` returned.
    seconds
        How long to wait for all of them together.
    """
    deadline = time.monotonic() + seconds
    for future in stopping:
        try:
            future.get(timeout=max(0.0, deadline - time.monotonic()))
        except pykka.Timeout:
            return


def ask(actor: "pykka.ActorRef[Any]", message: Any) -> Any:
    """Ask an actor and wait for the answer, as long as it lives.

    Parameters
    ----------
    actor
        Whom.
    message
        What.

    Returns
    -------
    Any
        The answer.

    Raises
    ------
    RunStoppedError
        If the actor ended without one.
    Exception
        What the actor raised.
    """
    future = actor.ask(message, block=False)
    while True:
        is_alive = actor.is_alive()
        try:
            return future.get(timeout=config.heartbeat_seconds)
        except pykka.Timeout:
            if not is_alive:
                break
        except pykka.ActorDeadError:
            break
    msg = f"{actor.actor_class.__name__} was stopped by someone else"
    raise RunStoppedError(msg)


def pickle_function(func: Callable[..., Any]) -> bytes:
    """Pickle a function by value where it cannot be imported.

    Parameters
    ----------
    func
        The function.

    Returns
    -------
    bytes
        The pickle.

    Raises
    ------
    TypeError
        If it holds something that cannot be pickled.
    """
    try:
        return dumps(func)
    except Exception as error:
        name = getattr(func, "__name__", repr(func))
        msg = (
            f"{name!r} cannot be sent to another process: {error}. It or a global that it uses holds "
            "something that cannot be pickled: create that inside the function, or use worker=ThreadWorker"
        )
        raise TypeError(msg) from error


def _start_worker(kind: WorkerKind, func: Callable[..., Any] | None) -> WorkerRef:
    """Start one worker with its constructor's arguments and the function."""
    args, options = (kind.args, dict(kind.keywords)) if isinstance(kind, functools.partial) else ((), {})
    worker = worker_class(kind)
    signature = inspect.signature(worker)
    try:
        if "func" in signature.parameters and not args:
            options.setdefault("func", func)
        signature.bind(*args, **options)
    except TypeError as error:
        msg = (
            f"{worker.__name__} cannot be started: {error}. Give its constructor's arguments with "
            f"worker=functools.partial({worker.__name__}, ...), or pass actors=[{worker.__name__}.start(...), ...]"
        )
        raise TypeError(msg) from None
    actor: WorkerRef = worker.start(*args, **options)
    if "func" not in options and func is not None:
        actor.tell(SetFunction(func))
    return actor
