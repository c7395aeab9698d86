"""What a thread is in the middle of when it comes to call `chunk`.

A call may make runs of its own, and so may an actor, a task, a thread or an event loop. Two rules.
A run must not need what waits for the call that it is made in: both would wait for ever. And what
leaves `chunk` must not end more than the script that called it. This room knows threads, and
nothing of actors: what waits is told here as objects that are compared and not looked at. It runs
in children, too, so it imports little.
"""

from __future__ import annotations

import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

_thread = threading.local()


class Loading:
    """Marks that this thread unpickles what a run sent, and imports what that needs."""

    def __enter__(self) -> None:
        _thread.is_loading = True

    def __exit__(self, *_: object) -> None:
        _thread.is_loading = False


def begin_serving() -> None:
    """Mark this thread as one that runs calls of another process, from now on."""
    _thread.is_serving = True


def calling(waits: tuple[object, ...], run: Callable[[], T]) -> T:
    """Do something in this thread that is part of a call of this process.

    Parameters
    ----------
    waits
        What waits until it has ended.
    run
        What to do.

    Returns
    -------
    Any
        What it returned.
    """
    before = getattr(_thread, "occupied", ())
    _thread.occupied = waits
    try:
        return run()
    finally:
        _thread.occupied = before


def is_in_call() -> bool:
    """Tell whether this thread runs a call of a run, of whichever process."""
    return getattr(_thread, "is_serving", False) or bool(getattr(_thread, "occupied", ()))


def occupied() -> tuple[object, ...]:
    """Return everything that waits until the call which this thread runs has ended.

    Returns
    -------
    tuple
        Workers and executors of this process, and the address of a Dask scheduler; empty outside of calls.
    """
    return (*getattr(_thread, "occupied", ()), *_dask_task())


def check_may_begin() -> None:
    """Refuse a run that is begun by importing what its own calls need: it would begin another one, and so on.

    Raises
    ------
    RuntimeError
        With the fix.
    """
    if getattr(_thread, "is_loading", False):
        msg = (
            "chunk() was called by a module that is being imported in a worker, and so each worker of that run "
            "would import it and call chunk() again. Put the call into a function, or behind "
            'if __name__ == "__main__":'
        )
        raise RuntimeError(msg)


def is_script() -> bool:
    """Tell whether an exit in this thread ends the script, and nothing that others rely on.

    In other threads it would end an actor system, an event loop or nothing at all, and in a worker of
    multiprocessing its pool would wait for ever.
    """
    module: Any = sys.modules.get("multiprocessing.process")
    is_worker = module is not None and module.parent_process() is not None
    return threading.current_thread() is threading.main_thread() and not is_worker


def _dask_task() -> tuple[object, ...]:
    """Return the address of the scheduler whose worker waits for this thread, unless the task gave its place away."""
    pools: Any = sys.modules.get("distributed.threadpoolexecutor")
    if pools is None or not getattr(pools.thread_state, "proceed", False):
        return ()
    try:
        return (sys.modules["distributed"].get_worker().scheduler.address,)
    except (KeyError, ValueError):  # a pool of Dask's, and no task
        return ()
