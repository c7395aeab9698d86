"""What a child has to say: results wait a moment for others, and are sent as groups.

One rule: no result waits longer than `PATIENCE`, nor behind a call that is still running, and
what it costs a short call to be put here is next to nothing. This room runs in the child, so
it imports little, and knows nothing of sockets or of who runs the calls.
"""

from __future__ import annotations

import builtins
from time import time

from . import _wire

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    import queue
    from collections.abc import Iterator
    from typing import Any
else:  # the same without what a child does not need
    import _queue as queue

globals()["__builtins__"] = dict(vars(builtins))  # as in `_wire`
Empty = queue.Empty

PATIENCE = 0.025  # seconds that a result waits for others to share a message with
MANY = 4096  # results that do not wait for more: whoever unpickles them can begin
# A call that takes longer than a result waits is sent by itself, with a peak of memory of its own: reading
# that takes 0.05 ms. Shorter ones are sent in groups, and have what the group has.
LONG = PATIENCE
DONE = None  # in the outbox: the chunk is over; as a message: end of the conversation


class Outbox:
    """What the main thread has to say, for the sender; each put costs next to nothing.

    The sender is woken by the first thing that is put, and not again before it has looked,
    unless something is urgent: a thread that wakes up takes the interpreter from the calls.
    """

    def __init__(self) -> None:
        # Lists side by side and no list of tuples: what the garbage collector cannot see costs it nothing.
        self._indices: list[int] = []
        self._seconds: list[float] = []
        self._items: list[Any] = []
        self._began = 0.0
        self._bell: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._is_rung = False

    def say(self, item: Any) -> None:
        """Put something that is not the outcome of a call."""
        self.put(0, 0.0, item, is_urgent=True)

    def put(self, index: int, seconds: float, item: Any, *, is_urgent: bool = False) -> None:
        """Put one thing behind all others."""
        self._indices.append(index)
        self._seconds.append(seconds)
        self._items.append(item)  # last, for `take` counts these
        if is_urgent or not self._is_rung or len(self._items) == MANY:
            if not self._is_rung:
                self._began = time() - seconds
            self._bell.put(is_urgent or self._is_rung)
            self._is_rung = True

    def take(self, timeout: float | None) -> tuple[float, list[int], list[float], list[Any]]:
        """Wait for something, and then a moment for more; return it all, or nothing after the time-out.

        First comes when that began which was put first.
        """
        try:
            is_urgent = self._bell.get(timeout=timeout)
            if not is_urgent:
                self._bell.get(timeout=PATIENCE)
        except Empty:
            pass
        began = self._began
        self._is_rung = False  # from here on, what is put rings again
        count = len(self._items)
        indices, seconds, items = self._indices[:count], self._seconds[:count], self._items[:count]
        del self._indices[:count], self._seconds[:count], self._items[:count]
        return began, indices, seconds, items


class Message:
    """What was taken out of the outbox, made into what the parent is sent."""

    def __init__(self, worker: int, indices: list[int], seconds: list[float], items: list[Any]) -> None:
        self.worker = worker
        self.indices = indices
        self.seconds = seconds
        self.items = items
        self.peak = 0  # of the short calls, not read yet

    def parts(self, began: float) -> Iterator[Any]:
        """Join neighbouring small results into groups; everything else goes by itself.

        Calls follow each other at once: so a group began when what is before it ended.
        """
        start = 0
        for place, item in enumerate(self.items):
            if type(item) is bytes:
                continue
            if start < place:
                yield self._group(slice(start, place), began)
                began += sum(self.seconds[start:place])
            start = place + 1
            kind = DONE if item is DONE else item[0]
            if kind == "alone":
                yield self._alone(place, *item[1:])
                began = item[3] + self.seconds[place]
            elif kind == "failed":
                yield "failed", self.indices[place], item[1]
                began += self.seconds[place]
            elif kind != "lease":  # that is for the sender itself
                yield item
        if start < len(self.items):
            yield self._group(slice(start, None), began)

    def _alone(
        self, place: int, main: bytes, buffers: list[memoryview], started: float, peak: int
    ) -> tuple[Any, ...]:
        columns = _wire.sent(self.indices[place], self.seconds[place], main, buffers)
        return "results", columns, self._trace(started, peak), *_wire.out_of_band(main, buffers)

    def _group(self, place: slice, began: float) -> tuple[Any, ...]:
        columns, body = _wire.group(self.indices[place], self.seconds[place], self.items[place])
        return "results", columns, self._trace(began), *_wire.out_of_band(body, ())

    def _trace(self, started: float, peak: int = 0) -> tuple[float, int, int]:
        if not peak and not self.peak:  # only between two chunks no call runs that would lose its own
            self.peak = read_peak(forget=self.items[-1] is DONE)
        return started, self.worker, peak or self.peak


def read_peak(*, forget: bool = True) -> int:
    """Return the peak of this process's memory in KiB, since it was last forgotten; 0 where it cannot be read.

    Linux keeps it, and forgets it when asked: behind a call that took long, so that the next one
    has a peak of its own. Calls so short that this would cost more than they do share one.
    """
    try:
        with open("/proc/self/status", "rb") as status:
            _, _, rest = status.read().partition(b"VmHWM:")
        if forget:
            with open("/proc/self/clear_refs", "wb") as clear:
                clear.write(b"5")
        return int(rest[: rest.index(b"kB")])
    except Exception:  # noqa: BLE001 - there is none; or a call left what refuses, as an audit hook can
        return 0
