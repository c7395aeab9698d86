"""What came of a call, as plain data that travels: its result pickled, or its exception described.

One rule: whatever comes out of the user's code, an exit included, becomes an outcome, and so
does whatever comes out of pickling it. This room runs in the child, and in the parent for
workers without one, so it imports little and knows nothing of who asks.
"""

from __future__ import annotations

import os
import time

from . import _wire

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    import pickle
    from collections.abc import Callable
    from typing import Any

    Ran = tuple[float, float, Any]  # the reading of perf_counter at the start, the seconds, and the outcome
else:  # the same without what a child does not need
    import _pickle as pickle

FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


def run_call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ran:
    """Run one call; whatever comes out of it, an exit included, becomes an outcome of plain data.

    That is the start and the seconds it took, beside its pickle if that is small, ``("large", pickle,
    buffers)`` for another result, and ``("failed", description)`` for an exception.
    """
    start = time.perf_counter()
    try:
        result = func(*args, **kwargs) if kwargs else func(*args)
    except BaseException as error:
        return start, time.perf_counter() - start, ("failed", packed(error))
    seconds = time.perf_counter() - start
    try:
        if type(result) in _wire.PLAIN:
            return start, seconds, pickle.dumps(result, _wire.PROTOCOL)
        main, buffers = _wire.dump(result)
    except BaseException as error:
        return start, seconds, ("failed", packed(unpicklable(error)))
    if buffers or len(main) >= _wire.OUT_OF_BAND_BYTES:
        return start, seconds, ("large", main, buffers)
    return start, seconds, main


def unpicklable(error: BaseException) -> Exception:
    """Say that it was the result of a call that could not be pickled; why is the cause."""
    name, message, _ = describe(error)
    error.with_traceback(_users_part(error))
    BaseException.__setattr__(error, "__context__", None)  # how pickle failed before cloudpickle did
    found = pickle.PicklingError(f"the result of the call cannot be pickled: {name}: {message}")
    found.__cause__ = error
    return found


def _users_part(error: BaseException) -> Any:
    """Return the traceback from the user's code on: our own frames only hide it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(FOLDER):
        trace = trace.tb_next
    return trace


def packed(error: BaseException) -> tuple[str, str, str, bytes | None, bool]:
    """Turn an exception into plain data: its description, its pickle, and whether memory ran out."""
    if isinstance(error, MemoryError):
        give_back(error)
    try:
        pickled = _wire.dumps(error)
    except BaseException:
        pickled = None
    return *describe(error), pickled, isinstance(error, MemoryError)


def give_back(error: BaseException) -> None:
    """Drop what the frames of an exception hold: without memory not even that could be said."""
    trace = error.__traceback__
    while trace is not None:
        try:
            trace.tb_frame.clear()
        except RuntimeError:  # our own frame still runs
            pass
        trace = trace.tb_next


def describe(error: BaseException) -> tuple[str, str, str]:
    """Turn an exception into ``(type name, message, traceback)``."""
    try:
        message = str(error)
    except BaseException:
        message = "(its message cannot be shown)"
    import traceback

    try:
        text = "".join(traceback.format_exception(type(error), error, _users_part(error)))
    except BaseException:
        text = f"{type(error).__qualname__}: {message}\n"
    return type(error).__qualname__, message, text
