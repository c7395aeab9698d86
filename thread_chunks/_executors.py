"""How executors differ: what each is asked, and how the function gets to where its calls run.

One rule: everything here is said in the words of `concurrent.futures.Executor`, and what one
kind of executor needs beyond that is a subclass here, found without importing the engine. This
room runs in the worker's thread and knows nothing of runs.
"""

import concurrent.futures
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any, ClassVar

from . import _engine, config
from ._by_value import dump_copied
from ._here import run_here
from ._received import outcome
from .messages import Call, Outcome


class Engine:
    """An executor that pickles what it is given.

    Parameters
    ----------
    executor
        It.
    """

    _advice: ClassVar[str] = "give the run an executor of its own"

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._occupied: tuple[object, ...] = ()

    def join(self, occupied: tuple[object, ...]) -> None:
        """Take note of what waits for the calls that are about to come.

        Parameters
        ----------
        occupied
            As in `JoinRun`.

        Raises
        ------
        RuntimeError
            If that is this executor: its threads may all be in calls that wait for these.
        """
        if self.address in occupied:
            msg = (
                "this run is made in a call that the same executor runs, and all its threads may be in calls that "
                f"wait for such runs: {self._advice}"
            )
            raise RuntimeError(msg)
        self._occupied = *occupied, self.address

    @property
    def address(self) -> object:
        """What tells it from others in this process."""
        return self.executor

    def ship(self, func: Callable[..., Any], pickled: tuple[bytes, list[Any]] | None) -> Any:
        """Return what stands for a function in each call; blocks where that takes the network.

        Parameters
        ----------
        func
            The function.
        pickled
            The same, pickled; ``None`` if that is still to be done.
        """
        return _engine.Shipped.of(pickled or dump_copied(func))

    def pack(self, call: Call) -> Any:
        """Make one call ready to travel; raises whatever pickling its arguments raises."""
        return call.index, dump_copied(call.kwargs or call.args)

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

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)
        self._running: set[int] = set()
        self._has_begun = False

    def check(self) -> str | None:
        """Look whether any call has begun: the threads may all wait for this very run."""
        has_begun, self._has_begun = self._has_begun, False
        return None if has_begun or self._running else "no thread of the executor begins a call"

    def ship(self, func: Callable[..., Any], pickled: tuple[bytes, list[Any]] | None) -> Any:
        """Return the function."""
        return func

    def pack(self, call: Call) -> Any:
        """Return the call."""
        return call

    def submit(self, function: Any, packed: Any, slot: int, *, durable: bool) -> "Future[Outcome]":
        """Hand one call over."""
        return self.executor.submit(self._run, function, packed, slot, durable)

    def _run(self, func: Callable[..., Any], call: Call, slot: int, durable: bool) -> Outcome:
        """Run one call; in one of those threads."""
        self._has_begun = True
        self._running.add(call.index)
        try:
            return run_here(func, call, slot, durable, self._occupied)
        finally:
            self._running.discard(call.index)

    def outcome(self, index: int, value: Any, *, durable: bool) -> Outcome:
        """Return it: it was made where the call ran."""
        return value  # type: ignore[no-any-return]


class DaskEngine(Engine):
    """Dask's executor.

    It takes equal calls of one function for one call, unless told that they are not pure. And
    its workers pass on to each other what was scattered to them, so a large function goes to
    each of them once, and not with every call.
    """

    _advice: ClassVar[str] = (
        "call chunk() within `with distributed.worker_client() as client:`, and use that client"
    )

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)
        self._scheduler = self._identity.get("id")  # to see when it is another

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
        status = self._client.status
        if status in {"closing", "closed"}:  # what was just submitted then is never heard of again
            msg = "the Dask client is closed"
            raise BrokenExecutor(msg)
        if status != "running":
            return "the connection to the Dask scheduler is lost"
        known, self._scheduler = self._scheduler, self._identity.get("id")
        if known not in {None, self._scheduler}:  # what was submitted as the old one went may be lost
            msg = "the Dask scheduler was started anew"
            raise CancelledError(msg)
        return "the Dask cluster has no worker" if self._identity.get("n_workers", 1) == 0 else None

    @property
    def address(self) -> object:
        """Return where its scheduler is."""
        return self._client.scheduler.address

    def _submit(self, run: Callable[..., Any], *args: Any) -> "Future[Any]":
        return self.executor.submit(run, *args, pure=False)

    @property
    def _identity(self) -> Any:
        """What the scheduler last said of itself: to ask it would block."""
        return self._client._scheduler_identity  # noqa: SLF001 - nothing public tells without asking

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

    def check(self) -> str | None:
        """Look whether its threads still live: at an error of their own, as when squeue fails, they just end."""
        if not self._lives():
            msg = "a thread of executorlib ended; its own error is above"
            raise BrokenExecutor(msg)
        return None

    def close(self, *, is_idle: bool) -> None:
        """Shut it down, unless one of its threads has ended: shutting down would wait for that one, for ever."""
        if self._lives():
            super().close(is_idle=is_idle)

    def _lives(self) -> bool:
        scheduler = getattr(self.executor, "_task_scheduler", None)
        while scheduler is not None:
            thread = getattr(scheduler, "_process", None)
            if isinstance(thread, threading.Thread) and not thread.is_alive():
                return False
            scheduler = (getattr(scheduler, "_process_kwargs", None) or {}).get("executor")
        return True

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
