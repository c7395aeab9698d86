"""The calls that wait, and those of a chunk that runs: in which order, and who has which.

One rule: a call is in one place at a time. What is done with it there, and when, is the
plan's to say; this room knows numbers of calls and nothing of what they are.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Chunk:
    """What one worker is running: it takes its calls in order, and gives back from the end."""

    left: Sequence[int]
    finished: int = 0
    seconds: float = 0.0
    started: float = 0.0

    def take(self, indices: Sequence[int]) -> bool:
        """Take note that the next calls ended; tell whether they are the next."""
        count = len(indices)
        if not _same(self.left[:count], indices):
            return False
        self.left = self.left[count:]
        self.finished += count
        return True

    def give_back(self, indices: Sequence[int]) -> Sequence[int]:
        """Take back calls that were not started, if they are the last."""
        kept = len(self.left) - len(indices)
        if kept < 0 or not _same(self.left[kept:], indices):
            return ()
        self.left = self.left[:kept]
        return indices


def _same(one: Sequence[int], other: Sequence[int]) -> bool:
    """Compare indices; two ranges are compared without looking at each."""
    return one == other if type(one) is type(other) else tuple(one) == tuple(other)


class Queue:
    """The calls that wait, in order: given back first, then those never handed out, then what is tried again."""

    def __init__(self, missing: Sequence[int]) -> None:
        self._missing = missing  # slices of it are handed out, so a range stays a range
        self._next = 0
        self._first: deque[int] = deque()
        self._again: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._first) + len(self._missing) - self._next + len(self._again)

    def give_back(self, indices: Sequence[int]) -> None:
        """Put calls in front of all others."""
        self._first.extendleft(reversed(indices))

    def put(self, index: int) -> None:
        """Put a call behind all others."""
        self._again.append(index)

    def take(self, count: int) -> Sequence[int]:
        """Take some calls; at least one, and no more than there are."""
        if self._first or self._next == len(self._missing):
            queue = self._first or self._again
            return tuple(queue.popleft() for _ in range(min(count, len(queue))))
        taken = self._missing[self._next : self._next + count]
        self._next += len(taken)
        return taken if isinstance(taken, range) else tuple(taken)
