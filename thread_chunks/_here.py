"""Calls that run in this process: what came of each, as an outcome.

One rule: whatever comes out of the user's code, an exit included, becomes an outcome, and so
does whatever comes out of pickling it. `_outcome` is the same for other processes, where there
are no messages. This room knows nothing of workers.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from . import _inside, _outcome, _wire
from ._received import stand_in
from .errors import CallTimeoutError
from .messages import NOT_PICKLED, Call, FailedCall, Outcome, Pickled, Results


def run_here(
    func: Callable[..., Any], call: Call, number: int, durable: bool, occupied: tuple[object, ...]
) -> Outcome:
    """Run one call in this thread; whatever comes out of it, an exit included, is its outcome."""
    started, start, process = time.time(), time.perf_counter(), os.getpid()
    try:
        output = _inside.calling(occupied, partial(func, *call.args, **call.kwargs))
    except BaseException as error:  # noqa: BLE001 - an exit in f is f's failure, not ours
        failed = failed_call(call.index, error)
        _outcome.leave_fork(process, failed.traceback)
        return failed
    _outcome.leave_fork(process, None)
    return returned(call.index, output, time.perf_counter() - start, (started, number, 0), durable=durable)


def returned(
    index: int, output: Any, seconds: float, trace: tuple[float, int, int], *, durable: bool
) -> Outcome:
    """Wrap what a call returned in this process, pickled if it will be saved."""
    if not durable:
        return Results((index,), [output], (seconds,), NOT_PICKLED, trace, _size(output))
    try:
        main, buffers = _wire.dump(output)
    except BaseException as error:  # noqa: BLE001 - pickling runs the user's code
        return failed_call(index, _outcome.unpicklable(error))
    copies = list(map(bytearray, buffers))  # the next call may write into the same memory
    pickled = Pickled(_wire.single(index, seconds, main, copies), main, copies)
    size = sum(map(_wire.size, (main, *copies)))
    return Results((index,), [output], (seconds,), pickled, trace, size)


def failed_call(index: int, error: BaseException) -> FailedCall:
    """Wrap what a call raised in this process; its traceback starts at the user's code."""
    if type(error) is CallTimeoutError:
        error.with_traceback(None)  # where we waited for it tells nobody anything
    name, message, text = _outcome.describe(error)
    is_sound = _outcome.is_sound(error)
    return FailedCall(index, error if is_sound else stand_in(name, message, text), text)


def _size(output: Any) -> int:
    """Return the bytes that a result says it takes."""
    try:
        return sys.getsizeof(output, 0)
    except BaseException:  # noqa: BLE001 - it is the user's code that says so
        return 0
