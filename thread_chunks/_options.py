"""The options of `chunk` and `Chunker`, checked before anything starts.

One rule: bad input is an error that names the option and the fix. This room
knows no actors.
"""

import functools
import inspect
import math
import numbers
import operator
import time
import types
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from . import config
from ._late import imported
from ._meant import meant
from ._memory import to_bytes
from ._parameters import shown
from ._time_limit import Moment, to_seconds
from .process_worker import ProcessWorker
from .worker import Worker

WorkerKind: TypeAlias = "type[Worker] | functools.partial[Any]"
"""A worker class, or one with its constructor's arguments."""


@dataclass(frozen=True, slots=True)
class Options:
    """The keyword-only options of `chunk`, checked."""

    worker: WorkerKind = ProcessWorker
    on_error: str = "raise"
    retries: int = 0
    timeout: float | None = None
    on_mismatch: str = "restart"
    on_result: Callable[[int, Any], None] | None = None
    max_memory: float | str | None = None
    stop_before: Moment | None = None

    def __post_init__(self) -> None:
        _check_choice("on_error", self.on_error, ("raise", "continue", "return"))
        _check_choice("on_mismatch", self.on_mismatch, ("restart", "reuse", "raise"))
        object.__setattr__(self, "retries", _whole("retries", self.retries, 0))
        _check_timeout(self.timeout)
        if self.on_result is not None and not callable(self.on_result):
            msg = (
                f"on_result must be a function of (index, output), such as print, not {shown(self.on_result)}: "
                "pass the function itself, without quotes or parentheses"
            )
            raise TypeError(msg)
        worker_class(self.worker)
        if self.max_memory is not None:
            to_bytes(self.max_memory)
            imported("psutil")  # what measures it is slow to import, and must be there
        self.time_limit()

    @property
    def memory_limit(self) -> int | None:
        """`max_memory` in bytes."""
        return None if self.max_memory is None else to_bytes(self.max_memory)

    def time_limit(self) -> float | None:
        """Return `stop_before` in seconds since 1970, for a run that begins now."""
        return None if self.stop_before is None else to_seconds(self.stop_before, time.time())

    def check_actors(self, actors: object) -> None:
        """Refuse what was meant for another option, and a worker class beside actors that are started already.

        Parameters
        ----------
        actors
            What the user gave; ``None`` for nothing.

        Raises
        ------
        TypeError, ValueError
            With the fix.
        """
        if guess := meant(actors, "actors"):
            msg = f"actors must be a list of started workers, such as [ThreadWorker.start()], not {shown(actors)}{guess}"
            raise TypeError(msg)
        if actors is not None and self.worker is not ProcessWorker:
            msg = "worker= is the class of workers to start, and actors= are started ones: leave one out"
            raise ValueError(msg)

    def check_kinds(self, kinds: Sequence[type[Worker]]) -> None:
        """Refuse a time limit where a call cannot be killed, and one of memory where it cannot be measured.

        Parameters
        ----------
        kinds
            The classes of the workers.

        Raises
        ------
        ValueError
            With the fix.
        """
        for kind in kinds:
            if self.timeout is not None and not kind.can_kill:
                msg = (
                    f"timeout= needs workers whose calls can be killed, and those of {kind.__name__} cannot: "
                    "leave timeout out, or use worker=ProcessWorker"
                )
                raise ValueError(msg)
            if self.max_memory is not None and not kind.can_measure:
                msg = (
                    f"max_memory= needs workers with processes of their own, and {kind.__name__} has none: "
                    "leave max_memory out, or use worker=ProcessWorker"
                )
                raise ValueError(msg)


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        expected = ", ".join(map(repr, choices))
        msg = f"{name} must be one of {expected}, not {shown(value)}"
        raise ValueError(msg)


def _check_timeout(timeout: object) -> None:
    if timeout is None:
        return
    advice = "a number of seconds above 0, such as 60, or None for no limit"
    if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real):
        msg = f"timeout must be {advice}, not {shown(timeout)}"
        raise TypeError(msg)
    if not 0 < float(timeout) < math.inf:
        msg = f"timeout must be {advice}, not {timeout!r}"
        raise ValueError(msg)


def _whole(name: str, value: object, least: int) -> int:
    """Return a whole number, NumPy's too; 2.0 and True are none."""
    with suppress(TypeError):
        if not isinstance(value, bool) and (number := operator.index(value)) >= least:  # type: ignore[arg-type]
            return number
    msg = f"{name} must be a whole number of at least {least}, not {shown(value)}"
    if isinstance(value, float) and value.is_integer() and value >= least:
        msg += f": write {name}={int(value)}"
    raise ValueError(msg + (meant(value, name) if name == "chunk_size" else ""))


def check_function(func: object) -> None:
    """Refuse what cannot be called.

    Parameters
    ----------
    func
        What the user gave; ``None`` for the actors' own.

    Raises
    ------
    TypeError
        With the fix.
    """
    if func is not None and not callable(func):
        msg = (
            f"func must be a function, not {shown(func)}: pass the function itself, without quotes or "
            f"parentheses, and before the parameters, such as chunk(f, [[1], [2]]){meant(func)}"
        )
        raise TypeError(msg)


_LAZY: tuple[tuple[Callable[[object], bool], str, str], ...] = (
    (inspect.iscoroutinefunction, "a coroutine function", "asyncio.run({}(*args, **kwargs))"),
    (inspect.isgeneratorfunction, "a generator function", "list({}(*args, **kwargs))"),
    (
        inspect.isasyncgenfunction,
        "an asynchronous generator function",
        "asyncio.run(collect({}(*args, **kwargs)))",
    ),
)
"""Functions whose call runs nothing of them: what tells them, what they are, and what runs them."""

_MOST_WRAPPERS = 20


def check_runs(func: object, kinds: Iterable[type[Worker]]) -> None:
    """Refuse a function whose call would run nothing of it, unless all workers have an `execute` of the user's.

    Parameters
    ----------
    func
        The function; ``None`` if that is the actors' own.
    kinds
        The classes of the workers.

    Raises
    ------
    TypeError
        With the fix.
    """
    called = _really_called(func)
    for is_lazy, kind, fix in _LAZY:
        if is_lazy(called) and any(_is_ours(each.execute) for each in kinds):
            name = getattr(func, "__name__", None) or getattr(called, "__qualname__", "f")
            msg = (
                f"func {name} is {kind}: to call it makes an object, and runs nothing. Pass a function that runs it: "
                f"def run(*args, **kwargs): return {fix.format(name)}"
            )
            raise TypeError(msg)


def _really_called(func: Any) -> object:
    """Return the function that runs when something is called; what a decorator put around it is such a one."""
    for _ in range(_MOST_WRAPPERS):  # what is written in C is called by something that is called in turn
        kind = type(func)  # not its __class__, which may say anything, as that of a mock with a spec
        if issubclass(kind, (functools.partial, functools.partialmethod)):
            func = func.func
        elif issubclass(kind, (type(functools.lru_cache(len)), staticmethod)):
            func = func.__wrapped__
        elif issubclass(kind, (types.FunctionType, types.MethodType, type)):
            return func
        else:
            with suppress(Exception):  # an object of the user's may answer anything
                if inspect.iscoroutinefunction(func):  # it is marked as one
                    return func
            func = inspect.getattr_static(kind, "__call__", None)
    return func


def check_switch(name: str, value: object, *, has_default: bool = True) -> None:
    """Refuse what is neither on nor off.

    Parameters
    ----------
    name, value
        The option.
    has_default
        Whether ``None`` is a value of it.

    Raises
    ------
    TypeError
        With the fix.
    """
    is_number = isinstance(value, int) and value in {0, 1}
    if is_number or type(value).__name__ == "bool_" or type(value).__name__ == "bool":  # NumPy has its own
        return
    if value is not None or not has_default:
        msg = f"{name} must be True or False{', or None for the default' if has_default else ''}, not {shown(value)}"
        raise TypeError(msg + meant(value, name))


def sends_parameters(kinds: Iterable[type[Worker]]) -> bool:
    """Tell whether workers send the parameters on as they are: a worker's own `execute` may do anything.

    Parameters
    ----------
    kinds
        The classes of the workers.

    Returns
    -------
    bool
        Whether one of them does.
    """
    return any(kind.needs_pickle and _is_ours(kind.execute) for kind in kinds)


def _is_ours(execute: Callable[..., Any]) -> bool:
    return str(execute.__module__).partition(".")[0] == __package__


def worker_class(kind: WorkerKind) -> type[Worker]:
    """Return the class of workers to start.

    Parameters
    ----------
    kind
        The ``worker`` option.

    Returns
    -------
    type
        A subclass of `Worker`.

    Raises
    ------
    TypeError
        If it is anything else.
    """
    found = kind.func if isinstance(kind, functools.partial) else kind
    if inspect.isclass(found) and issubclass(found, Worker):
        return found
    msg = f"worker must be a subclass of Worker, such as ProcessWorker or ThreadWorker, not {shown(kind)}"
    raise TypeError(msg + meant(kind))


def checked_size(chunk_size: int | None) -> int:
    """Return how many calls may run at the same time.

    Parameters
    ----------
    chunk_size
        What the user said; ``None`` for the default.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        If it is not a whole number of at least 1.
    """
    return _whole("chunk_size", config.default_chunk_size if chunk_size is None else chunk_size, 1)


def threads_per_call(chunk_size: int) -> int:
    """Share the processors among the calls that run at the same time.

    Parameters
    ----------
    chunk_size
        How many calls may run at the same time.

    Returns
    -------
    int
        Threads that numerical libraries may use inside one call.
    """
    return max(1, int(config.default_chunk_size) // max(1, chunk_size))
