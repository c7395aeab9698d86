"""Where a worker's engine comes from: from the user, or made here.

One rule: what is the user's is never shut down here, and what was made here always is. How
engines differ is known to `_executors` and `_cluster_executors`.
"""

import concurrent.futures
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeAlias

from ._cluster_executors import DaskEngine, ExecutorlibEngine, MpiEngine
from ._executors import Engine, ThreadEngine
from ._parameters import shown

Source: TypeAlias = "Executor | Callable[[], Executor]"
"""An executor, or what makes one."""

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
            self._engine = _engine_for(source if isinstance(source, Executor) else _made(source))
        return self._engine

    def close(self, *, is_idle: bool) -> None:
        """Let go of the present one, and shut down what was made here; waits for its end only where nothing runs."""
        engine, self._engine, self.is_broken = self._engine, None, False
        if engine is not None and self.can_replace:
            engine.close(is_idle=is_idle)


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


def _engine_for(executor: Executor) -> Engine:
    """Return what knows the ways of an executor."""
    others = getattr(concurrent.futures, "InterpreterPoolExecutor", ())
    if isinstance(executor, concurrent.futures.ThreadPoolExecutor) and not isinstance(executor, others):
        return ThreadEngine(executor)
    package = type(executor).__module__.partition(".")[0]
    return _KINDS.get(package, Engine)(executor)
