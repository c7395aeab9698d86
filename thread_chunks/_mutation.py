"""Did the arguments of calls change during the run?

The file says what they were when it began, and a call that was handed out later, or that
ran in this process, may have been made with others. One rule: each call is compared with
what it was at the start, by value, once, at the end; nothing can be said of the time between,
and so a call whose arguments changed has no result that the file may keep. This room knows
calls, and nothing of files.
"""

import hashlib
from collections.abc import Callable, Iterable

from . import _wire
from ._identity import call_forms
from ._parameters import Calls
from ._records import RESULT, Group, Record


class Mutations:
    """Remembers what the arguments of calls are, and tells later which changed.

    Parameters
    ----------
    calls
        The calls.
    forms
        What they are at the start, in order; none if they hold nothing but plain values: `Calls` are a copy.
    """

    def __init__(self, calls: Calls, forms: Iterable[bytes]) -> None:
        self._calls = calls
        self._digests = list(map(_digest, forms))

    def found(self) -> list[int]:
        """Return the calls whose arguments are not what they were, in order; looks at each again."""
        if not self._digests:
            return []
        try:
            now: list[bytes | None] = list(map(_digest, call_forms(self._calls)))
        except Exception:  # noqa: BLE001 - it has become something that cannot be looked at: see which
            now = [_digest_or_none(self._calls, index) for index in range(len(self._calls))]
        pairs = enumerate(zip(self._digests, now, strict=True))
        return [index for index, (before, after) in pairs if before != after]


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()


def _digest_or_none(calls: Calls, index: int) -> bytes | None:
    try:
        return _digest(next(call_forms([calls[index]])))
    except Exception:  # noqa: BLE001 - the user's objects may do anything
        return None


def without(indices: set[int]) -> Callable[[Record | Group], Record | Group | None]:
    """Return what leaves the results of some calls out of a record.

    Parameters
    ----------
    indices
        The calls.

    Returns
    -------
    callable
        Gives what is left of a record, ``None`` if that is nothing.
    """

    def left(record: Record | Group) -> Record | Group | None:
        if isinstance(record, Record):
            return None if record.kind == RESULT and record.index in indices else record
        numbers, seconds, sizes, _ = _wire.unpack(record.columns)
        if indices.isdisjoint(numbers):
            return record
        results = zip(numbers, seconds, _wire.parts(record.body, sizes), strict=True)
        kept = list(zip(*(each for each in results if each[0] not in indices), strict=True))
        return Group(record.code, *_wire.group(*kept), record.trace) if kept else None

    return left
