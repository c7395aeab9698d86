"""Executors that reach beyond this machine, and what each needs beyond `concurrent.futures`.

One rule: an engine is known by its executor, and never imported here. What has no public way is
taken from where it is, each with its reason. This room runs in the worker's thread.
"""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any, ClassVar

from . import _engine, config
from ._executors import Engine


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
