"""How executors differ: what each is asked, and how the function gets to where its calls run.

One rule: everything here is said in the words of `concurrent.futures.Executor`, and what one
kind of executor needs beyond that is a subclass here, found without importing the engine. This
room runs in the worker's thread and knows nothing of runs.
"""

import concurrent.futures
import uuid
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any, TypeAlias

from . import _engine, config
from ._by_value import dump
from ._parameters import shown
from ._received import outcome
from .messages import Call, Outcome
from .worker import run_here

Source: TypeAlias = "Executor | Callable[[], Executor]"
"""An executor, or what makes one."""


class Engine:
    """An executor that pickles what it is given.

    Parameters
    ----------
    executor
        It.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def ship(self, func: Callable[..., Any], pickled: tuple[bytes, list[Any]] | None) -> Any:
        """Return what stands for a function in each call; blocks where that takes the network.

        Parameters
        ----------
        func
            The function.
        pickled
            The same, pickled; ``None`` if that is still to be done.
        """
        return _engine.Shipped.of(dump_function(func) if pickled is None else pickled)

    def pack(self, call: Call) -> Any:
        """Make one call ready to travel; raises whatever pickling its arguments raises."""
        main, buffers = dump(call.kwargs or call.args)
        return call.index, (main, tuple(map(bytearray, buffers)))

    def submit(self, function: Any, packed: Any, slot: int, *, durable: bool) -> "Future[Any]":
        """Hand one call over, and do not wait for it.

        Parameters
        ----------
        function
            What `ship` returned.
        packed
            What `pack` returned.
        slot
            The number that its trace names as the worker.
        durable
            Whether the result will be saved.

        Returns
        -------
        Future
            Of an outcome, or of what `_engine.run` returns.
        """
        return self._submit(_engine.run, function, *packed, slot)

    def _submit(self, run: Callable[..., Any], *args: Any) -> "Future[Any]":
        return self.executor.submit(run, *args)

    def outcome(self, index: int, value: Any, *, durable: bool) -> Outcome:
        """Make an outcome of what a future brought.

        Parameters
        ----------
        index
            The index of the call.
        value
            The result of the future.
        durable
            Whether it will be saved.
        """
        return outcome(index, value, durable=durable)

    def check(self) -> str | None:
        """Look whether calls can be carried out; must not block.

        Returns
        -------
        str or None
            Why not for now; ``None`` if they can, or nobody knows.

        Raises
        ------
        BrokenExecutor
            If they never will be again, and no future may tell.
        CancelledError
            If what is in flight may be lost, and no future may tell.
        """
        return None

    def is_broken_by(self, error: BaseException) -> bool:
        """Tell whether an executor that reports this takes no more calls."""
        return isinstance(error, BrokenExecutor)

    def close(self, *, is_idle: bool) -> None:
        """Shut an executor down that was made here; waits for its end only where nothing runs."""
        if is_idle:
            self.executor.shutdown()
            return
        try:
            self.executor.shutdown(wait=False, cancel_futures=True)
        except TypeError:  # Dask's has no such argument, and cancels then by itself
            self.executor.shutdown(wait=False)


class ThreadEngine(Engine):
    """Threads of this process: nothing is pickled on the way, so calls share what the script holds."""

    def ship(self, func: Callable[..., Any], pickled: tuple[bytes, list[Any]] | None) -> Any:
        """Return the function."""
        return func

    def pack(self, call: Call) -> Any:
        """Return the call."""
        return call

    def submit(self, function: Any, packed: Any, slot: int, *, durable: bool) -> "Future[Outcome]":
        """Hand one call over."""
        return self.executor.submit(run_here, function, packed, slot, durable)

    def outcome(self, index: int, value: Any, *, durable: bool) -> Outcome:
        """Return it: it was made where the call ran."""
        return value  # type: ignore[no-any-return]


class DaskEngine(Engine):
    """Dask's executor.

    It takes equal calls of one function for one call, unless told that they are not pure. And
    its workers pass on to each other what was scattered to them, so a large function goes to
    each of them once, and not with every call.
    """

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)
        self._scheduler = self._client._scheduler_identity.get("id")  # noqa: SLF001 - to see that it is another

    def ship(self, func: Callable[..., Any], pickled: tuple[bytes, list[Any]] | None) -> Any:
        """Scatter a large function; blocks until the workers have it, and not for long where there is none."""
        function = super().ship(func, pickled)
        if function.size <= config.function_bytes:
            return function
        try:
            return self._client.scatter(
                function, broadcast=True, hash=False, timeout=config.heartbeat_seconds
            )
        except TimeoutError:  # there is no worker for now; so it travels with each call
            return function

    def check(self) -> str | None:
        """Look at what the client knows of its cluster; it asks every other second."""
        if self._client.status in {
            "closing",
            "closed",
        }:  # what was submitted just before is never heard of again
            msg = "the Dask client is closed"
            raise BrokenExecutor(msg)
        if self._client.status != "running":
            return "the connection to the Dask scheduler is lost"
        known, self._scheduler = self._scheduler, self._client._scheduler_identity.get("id")  # noqa: SLF001
        if known not in {
            None,
            self._scheduler,
        }:  # what was submitted while the old one went down is never heard of
            msg = "the Dask scheduler was started anew"
            raise CancelledError(msg)
        if self._client._scheduler_identity.get("n_workers", 1) == 0:  # noqa: SLF001 - asking would block
            return "the Dask cluster has no worker"
        return None

    def _submit(self, run: Callable[..., Any], *args: Any) -> "Future[Any]":
        return self.executor.submit(run, *args, pure=False)

    @property
    def _client(self) -> Any:
        return self.executor._client  # type: ignore[attr-defined]  # noqa: SLF001 - it has no other way to it


class ExecutorlibEngine(Engine):
    """One of executorlib's.

    With a block allocation a process that ended is not replaced: its call goes on to the next one, and
    this error is seen when none is left. Else each call has a process of its own, and the error is of that
    call only. No process of it notices that the script was killed, so each is told to end with it.
    With a cache it takes equal calls for one call, for ever, and what says that a call failed is a
    result to it; so no two calls are equal.
    """

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)
        self._is_block = "restart_limit" in (executor.info or ())  # type: ignore[attr-defined]

    def _submit(self, run: Callable[..., Any], *args: Any) -> "Future[Any]":
        return super()._submit(_engine.run_tied, uuid.uuid4().hex, *args)

    def is_broken_by(self, error: BaseException) -> bool:
        """Tell whether no process is left."""
        return super().is_broken_by(error) or (
            self._is_block and type(error).__name__ == "ExecutorlibSocketError"
        )


class MpiEngine(Engine):
    """mpi4py's executor.

    Where MPI cannot start its processes, a thread of that executor ends with a traceback, and no
    future of it ever does. So this waits until they are there.
    """

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)
        executor.bootup(wait=False)  # type: ignore[attr-defined]
        pool = executor._pool  # type: ignore[attr-defined]  # noqa: SLF001 - nothing public tells
        while not pool.event.wait(config.heartbeat_seconds):
            if not pool.thread.is_alive() and not pool.event.is_set():
                msg = (
                    "MPI started no processes; its own error is above. Start the script with them: "
                    "mpiexec -n 8 python -m mpi4py.futures script.py"
                )
                raise RuntimeError(msg)


def engine_for(executor: Executor) -> Engine:
    """Return what knows the ways of an executor."""
    others = getattr(concurrent.futures, "InterpreterPoolExecutor", ())
    if isinstance(executor, concurrent.futures.ThreadPoolExecutor) and not isinstance(executor, others):
        return ThreadEngine(executor)
    package = type(executor).__module__.partition(".")[0]
    return _KINDS.get(package, Engine)(executor)


_KINDS = {"distributed": DaskEngine, "executorlib": ExecutorlibEngine, "mpi4py": MpiEngine}


class Engines:
    """The engine of a worker: the user's, or one that is made here, and made anew after it broke.

    Parameters
    ----------
    source
        An executor, or what makes one.

    Raises
    ------
    TypeError
        If it is neither.
    """

    def __init__(self, source: Source) -> None:
        check_source(source)
        self._source = source
        self._engine: Engine | None = None
        self.is_broken = False  # it takes no more calls; until it is closed

    @property
    def can_replace(self) -> bool:
        """Whether another one can be made."""
        return not isinstance(self._source, Executor)

    def current(self) -> Engine:
        """Return the engine; make one where none is left and that is ours to do."""
        if self._engine is None:
            source = self._source
            self._engine = engine_for(source if isinstance(source, Executor) else _made(source))
        return self._engine

    def close(self, *, is_idle: bool) -> None:
        """Let go of the present one, and shut down what was made here; waits for its end only where nothing runs."""
        engine, self._engine, self.is_broken = self._engine, None, False
        if engine is not None and self.can_replace:
            engine.close(is_idle=is_idle)


class Halt:
    """Tells a halt of an engine from a moment's pause.

    Parameters
    ----------
    seconds
        How long it is only a pause.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._is_told = False

    def ended(self) -> bool:
        """Take note that it goes on; tell whether it had not."""
        was, self._since, self._is_told = self._since is not None, None, False
        return was

    def is_news(self, now: float) -> bool:
        """Take note that it still does not; tell, once, when that is worth telling."""
        self._since = now if self._since is None else self._since
        is_news = not self._is_told and now - self._since >= self._seconds
        self._is_told |= is_news
        return is_news


def check_source(source: object) -> None:
    """Refuse what is neither an executor nor makes one.

    Raises
    ------
    TypeError
        With the fix.
    """
    if isinstance(source, Executor):
        return
    if isinstance(source, type) and issubclass(source, Executor):
        return
    fix = "pass an executor, such as client.get_executor() of a Dask client, or a function that makes one"
    if hasattr(source, "get_executor"):
        fix = "pass its executor: ExecutorWorker.on(client.get_executor())"
    elif callable(source) and not isinstance(source, type):
        return
    msg = f"ExecutorWorker.on() needs a concurrent.futures.Executor, not {shown(source)}: {fix}"
    raise TypeError(msg)


def _made(source: Callable[[], Executor]) -> Executor:
    """Make an executor.

    Raises
    ------
    TypeError
        If that is none.
    """
    executor = source()
    if not isinstance(executor, Executor):
        msg = f"{shown(source)} returned {shown(executor)}, and not a concurrent.futures.Executor"
        raise TypeError(msg)
    return executor


def dump_function(func: Callable[..., Any]) -> tuple[bytes, list[Any]]:
    """Pickle a function for another process."""
    main, buffers = dump(func)
    return main, list(map(bytearray, buffers))
