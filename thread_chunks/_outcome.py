"""What came of a call, as plain data that travels: its result pickled, or its exception described.

One rule: whatever comes out of the user's code, an exit included, becomes an outcome, and so
does whatever comes out of pickling it. This room runs in the child, and in the parent for
workers without one, so it imports little and knows nothing of who asks.
"""

from __future__ import annotations

import builtins
import os
import sys
from os import _exit, getpid
from time import perf_counter

from . import _wire

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    import pickle
    from collections.abc import Callable, Iterator
    from typing import Any

    Ran = tuple[float, float, Any]  # the reading of perf_counter at the start, the seconds, and the outcome
else:  # the same without what a child does not need
    import _pickle as pickle

globals()["__builtins__"] = dict(vars(builtins))  # as in `_wire`
_dumps = pickle.dumps

FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
MESSAGE_CHARS = 10_000  # what is shown of a message: nobody reads more, and it goes into logs and errors
TRACEBACK_CHARS = (
    200_000  # of a traceback: its beginning and its end, for two functions can recurse 100,000 deep
)
CHAIN = 1000  # causes that a traceback may have; one that has more is shown without them

_READ = {"__class__", "__getattribute__", "__cause__", "__context__", "__suppress_context__", "__traceback__"}
"""What Python itself reads where it shows, groups or raises an exception; a class may make anything of it."""


def run_call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ran:
    """Run one call; whatever comes out of it, an exit included, becomes an outcome of plain data.

    That is the start and the seconds it took, beside its pickle if that is small, ``("large", pickle,
    buffers)`` for another result, and ``("failed", description)`` for an exception.
    """
    start = perf_counter()
    try:
        result = func(*args, **kwargs) if kwargs else func(*args)
    except BaseException as error:
        return start, perf_counter() - start, ("failed", packed(error))
    seconds = perf_counter() - start
    try:
        if type(result) in _wire.PLAIN:
            return start, seconds, _dumps(result, _wire.PROTOCOL)
        main, buffers = _wire.dump(result)
    except BaseException as error:
        return start, seconds, ("failed", packed(unpicklable(error)))
    if buffers or len(main) >= _wire.OUT_OF_BAND_BYTES:
        return start, seconds, ("large", main, buffers)
    return start, seconds, main


def unpicklable(error: BaseException) -> Exception:
    """Say that it was the result of a call that could not be pickled; why is the cause."""
    name, message, _ = describe(error)
    BaseException.with_traceback(error, _users_part(error))
    BaseException.__setattr__(error, "__context__", None)  # how pickle failed before cloudpickle did
    found = pickle.PicklingError(f"the result of the call cannot be pickled: {name}: {message}")
    found.__cause__ = error
    return found


def is_kind(error: BaseException, kinds: Any) -> bool:
    """Tell what an exception is by its type alone: `isinstance` asks ``__class__``, too, which may be the user's code."""
    return issubclass(type(error), kinds)


def is_sound(error: BaseException) -> bool:
    """Tell whether Python finds of an exception what it put there: else to show it, or to raise it, may do anything."""
    kinds = [
        kind
        for kind in _slot(type, "__mro__", type(error))
        if kind is not BaseException and kind is not object
    ]
    return not any(_READ.intersection(_slot(type, "__dict__", kind)) for kind in kinds)


def type_name(error: BaseException) -> str:
    """Return the name of its type, whatever a metaclass says."""
    return str(_slot(type, "__qualname__", type(error)))


def _slot(owner: type, name: str, value: Any) -> Any:
    """Read what an object has under a name, past everything that its class may have put before it."""
    return vars(owner)[name].__get__(value)


def _users_part(error: BaseException) -> Any:
    """Return the traceback from the user's code on: our own frames only hide it."""
    trace = _slot(BaseException, "__traceback__", error)
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(FOLDER):
        trace = trace.tb_next
    return trace


def packed(error: BaseException) -> tuple[str, str, str, bytes | None, bool]:
    """Turn an exception into plain data: its description, its pickle, and whether memory ran out."""
    is_exhausted = is_kind(error, MemoryError)
    if is_exhausted:
        give_back(error)
    try:
        pickled = _wire.dumps(error)
    except BaseException:
        pickled = None
    return *describe(error), pickled, is_exhausted


def leave_fork(process: int, failure: str | None) -> None:
    """End a copy of a process that a call forked and let out of the call: nothing waits for it, and it is no worker.

    It is told by the number of the process that the call was begun in; another one is a copy.
    """
    if getpid() == process:
        return
    if failure is not None and sys.stderr is not None:
        sys.stderr.write(failure)
    flush()
    _exit(failure is not None)


def flush() -> None:
    """Write what the user's code printed; exit handlers or calls may have put other streams there, or none."""
    for output in (sys.stdout, sys.stderr):
        if output is not None:
            output.flush()


def give_back(error: BaseException) -> None:
    """Drop what the frames of an exception hold: without memory not even that could be said."""
    trace = _slot(BaseException, "__traceback__", error)
    while trace is not None:
        try:
            trace.tb_frame.clear()
        except RuntimeError:  # our own frame still runs
            pass
        trace = trace.tb_next


def describe(error: BaseException) -> tuple[str, str, str]:
    """Turn an exception into ``(type name, message, traceback)``, all of them plain texts of a readable length."""
    name = type_name(error)
    try:
        message = _plain(str(error), MESSAGE_CHARS)
    except BaseException:
        message = "(its message cannot be shown)"
    try:
        text = _plain(_traceback(error, f"{name}: {message}\n"), TRACEBACK_CHARS)
    except BaseException:
        text = f"{name}: {message}\n"
    return name, message, text


def _traceback(error: BaseException, last_line: str) -> str:
    import traceback

    trace = _users_part(error)
    chain = list(_chain(error))
    if len(chain) <= CHAIN and all(map(is_sound, chain)):
        try:
            return "".join(traceback.format_exception(type(error), error, trace))
        except BaseException:  # its notes are the user's, too
            pass
    return "".join(["Traceback (most recent call last):\n", *traceback.format_tb(trace), last_line])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that led to it, which are shown with it."""
    todo: list[Any] = [error]
    seen: set[int] = set()
    while todo and len(seen) <= CHAIN:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        todo += [_slot(BaseException, name, each) for name in ("__cause__", "__context__")]
        if is_kind(each, BaseExceptionGroup):
            todo += _slot(BaseExceptionGroup, "exceptions", each)


def _plain(text: str, limit: int) -> str:
    """Return a text as a plain string, the middle of a long one left out; a subclass of str may be anything."""
    size = str.__len__(text)
    if size <= limit:
        return str.__getitem__(text, slice(None))
    half = limit // 2
    left_out = f"\n[... {size - 2 * half} characters left out ...]\n"
    return str.__getitem__(text, slice(half)) + left_out + str.__getitem__(text, slice(size - half, None))
