"""What a thread is in the middle of when it comes to call `chunk`.

A call may make runs of its own, and so may an actor, a task, a thread or an event loop. Three rules.
A run must not need what waits for the call that it is made in: both would wait for ever. Nor may it
need a module that is still being imported. And what leaves `chunk` must not end more than the
script that called it. This room knows threads, and nothing of actors: what waits is told here as
objects that are compared and not looked at. It runs in children, too, so it imports little.
"""

from __future__ import annotations

import sys
import threading
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

ELSEWHERE: tuple[object, ...] = ("another process",)
"""What waits for a call of which nothing that waits is here."""


class _Call:
    """What waits for a call, until it has ended: copies of a context may outlive it."""

    def __init__(self, waits: tuple[object, ...]) -> None:
        self.waits = waits


# Of a context and not of a thread: asyncio.to_thread hands it on to the thread that it asks.
_current: ContextVar[_Call] = ContextVar("current", default=_Call(()))  # noqa: B039 - that one never changes


def calling(waits: tuple[object, ...], run: Callable[[], T]) -> T:
    """Do something in this thread that is part of a call.

    Parameters
    ----------
    waits
        What waits until it has ended; `ELSEWHERE` if that is all in other processes.
    run
        What to do.

    Returns
    -------
    Any
        What it returned.
    """
    call = _Call(waits)
    before = _current.set(call)
    try:
        return run()
    finally:
        call.waits = ()
        _current.reset(before)


def is_in_call() -> bool:
    """Tell whether this thread runs a call of a run, of whichever process."""
    return bool(_current.get().waits)


def occupied() -> tuple[object, ...]:
    """Return everything that waits until the call which this thread runs has ended.

    Returns
    -------
    tuple
        Workers and executors of this process, and the address of a Dask scheduler; empty outside of calls.
    """
    return (*_current.get().waits, *_dask_task())


def check_imported(func: object) -> None:
    """Refuse a run that is made while a module is being imported.

    Threads that need the module wait until it is whole, and so for the run; and processes that need it would
    import it, and come to the same run again.

    Parameters
    ----------
    func
        The function of the run.

    Raises
    ------
    RuntimeError
        With the fix.
    """
    name = _half_imported(func)
    if name is not None:
        msg = (
            f"chunk() was called while the module {name!r} is being imported. Each worker that needs the module "
            "would wait for the end of that, or import it and call chunk() again. Put the call into a function "
            'that is called later, or run the module as a script and put the call behind if __name__ == "__main__":'
        )
        raise RuntimeError(msg)


def _half_imported(func: object) -> object:
    """Return the name of a module on the way to this call, or of the function's own, that is not yet whole."""
    for name in ("func", "__func__", "__wrapped__"):  # of a partial, a bound method, a decorated function
        func = getattr(func, name, func)
    specs: list[Any] = [getattr(sys.modules.get(str(getattr(func, "__module__", ""))), "__spec__", None)]
    frame: Any = sys._getframe(2)  # noqa: SLF001 - there is no other way to look at the caller
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            specs.append(frame.f_globals.get("__spec__"))
        frame = frame.f_back
    return next((spec.name for spec in specs if getattr(spec, "_initializing", False)), None)


def is_script() -> bool:
    """Tell whether an exit in this thread ends the script, and nothing that others rely on.

    In other threads it would end an actor system, an event loop or nothing at all. Workers of multiprocessing,
    of Ray and of executorlib run what they are told in their main thread, and an exit would take them down.
    """
    module: Any = sys.modules.get("multiprocessing.process")
    is_worker = module is not None and module.parent_process() is not None
    main = getattr(sys.modules["__main__"], "__file__", None) or ""
    is_engine = any(f"-packages/{name}/" in main for name in ("ray", "executorlib"))
    return threading.current_thread() is threading.main_thread() and not (is_worker or is_engine)


def _dask_task() -> tuple[object, ...]:
    """Return the address of the scheduler whose worker waits for this thread, unless the task gave its place away."""
    pools: Any = sys.modules.get("distributed.threadpoolexecutor")
    if pools is None or not getattr(pools.thread_state, "proceed", False):
        return ()
    try:
        return (sys.modules["distributed"].get_worker().scheduler.address,)
    except (KeyError, ValueError):  # a pool of Dask's, and no task
        return ()
