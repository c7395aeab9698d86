"""The far half of an executor worker: what runs in the processes of somebody else's engine.

One rule: what goes in and what comes out is plain data that pickles in any way an engine may
pickle it, and whatever the user's code does, an exit included, becomes part of what comes out.
So an exception that an engine reports is the engine's own. This room knows nothing of actors,
nor which engine it runs in. thread-chunks must be installed there.
"""

import functools
import hashlib
import pickle
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _inside, _outcome, _wire

Row = tuple[bytes, tuple[bytearray, ...]]
"""The positional and the keyword arguments of one call: their pickle, and its large buffers."""

_KEPT = 4  # functions that a process remembers; a long-lived engine sees many
_functions: dict[str, Any] = {}
_lock = threading.RLock()  # engines run calls in threads, and all of them want the same function at the start


@dataclass(frozen=True, slots=True)
class Shipped:
    """A function on its way, pickled. Each process that it reaches unpickles it once.

    Attributes
    ----------
    key : str
        Tells it from others.
    main : bytes
        The pickle.
    buffers : sequence
        Its large buffers.
    """

    key: str
    main: bytes
    buffers: Sequence[bytearray]

    @classmethod
    def of(cls, pickled: tuple[bytes, list[Any]]) -> "Shipped":
        """Make one of a pickle and its buffers."""
        digest = hashlib.blake2b(pickled[0], digest_size=16)
        for buffer in pickled[1]:
            digest.update(buffer)
        return cls(digest.hexdigest(), pickled[0], pickled[1])

    @property
    def size(self) -> int:
        """Bytes that travel."""
        return len(self.main) + sum(map(_wire.size, self.buffers))

    def loaded(self) -> Any:
        """Return the function, the same one to every call of this process."""
        with _lock:
            if self.key not in _functions:
                # Of copies: the engine may hold on to what it brought, and the function may write into its arrays.
                _functions[self.key] = pickle.loads(self.main, buffers=list(map(bytearray, self.buffers)))
                for key in list(_functions)[:-_KEPT]:
                    del _functions[key]
            return _functions[self.key]


def run(function: Shipped, index: int, row: Row, slot: int) -> tuple[Any, ...]:
    """Run one call; this is what an executor is asked to do.

    Parameters
    ----------
    function
        What to call.
    index
        The index of the call.
    row
        Its arguments.
    slot
        The number that its trace names as the worker.

    Returns
    -------
    tuple
        As a child process would tell it: ``("results", columns, trace, body, buffers)`` or
        ``("failed", description)``.
    """
    try:
        func = function.loaded()
        arguments = pickle.loads(row[0], buffers=row[1])
    except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
        return "failed", _outcome.packed(error)
    start, seconds, outcome = _inside.calling(
        _inside.ELSEWHERE, functools.partial(_outcome.run_call, func, *arguments)
    )
    if outcome[0] == "failed":
        return outcome  # type: ignore[no-any-return]
    _, main, views = ("", outcome, ()) if type(outcome) is bytes else outcome
    # Copies: it may be pickled later, when another call writes into the same memory. Arrays: those travel
    # beside the message where an engine can do that, and inside of it where not.
    buffers = [np.array(view, np.uint8) for view in views]
    started = time.time() - (time.perf_counter() - start)
    columns = _wire.sent(index, seconds, main, buffers)
    return "results", columns, (started, slot, 0), main, buffers


def run_tied(_unique: str, function: Shipped, index: int, row: Row, slot: int) -> tuple[Any, ...]:
    """Run one call in a process that is to end with the one which started it.

    Parameters
    ----------
    _unique
        Tells this attempt from every other one, for engines that look whether they made an equal one before.
    function, index, row, slot
        As for `run`.

    Returns
    -------
    tuple
        As `run`.
    """
    with suppress(Exception):  # only Linux can
        _tie()
    return run(function, index, row, slot)


@functools.cache
def _tie() -> None:
    """Have the kernel kill this process with the thread that started it, or with the process of that."""
    import ctypes  # noqa: PLC0415 - a Python may be built without it

    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
