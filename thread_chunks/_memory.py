"""How much memory the workers hold, and whether there is room for one more call.

One rule: a further call starts only if what all workers hold now, what the running calls may
still grow by, and the growth of the further one stay below the limit. The growth is the
largest one seen so far. Pure policy, as the plan is: somebody else measures.
"""

import numbers
import re
from collections.abc import Container, Hashable, Mapping

from ._parameters import shown
from .messages import Results

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12} | {
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
}  # fmt: skip
_MOST = 2**64  # no machine holds more: it is infinite, or a mistake


def to_bytes(amount: object) -> int:
    """Read an amount of memory.

    Parameters
    ----------
    amount
        Bytes, a whole number or not, or text such as "8 GB" (of 10^9 bytes) or "8 GiB" (of 2^30 bytes).

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ValueError
        If it is neither, or not above 0.
    """
    count = _count(amount)
    if not 1 <= count < _MOST:
        msg = f'max_memory must be a number of bytes above 0, or text such as "8 GB" or "500 MB", not {shown(amount)}'
        raise ValueError(msg)
    return int(count)


def _count(amount: object) -> float:
    """Read a number, as Python's and NumPy's are, or a text; 0 stands for what is neither."""
    if isinstance(amount, str):
        found = re.fullmatch(
            r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([kmgt]?i?)b?\s*", amount, re.IGNORECASE
        )
        return float(found[1]) * _UNITS[found[2].lower()] if found and found[2].lower() in _UNITS else 0
    if isinstance(amount, bool) or not isinstance(amount, numbers.Real):
        return 0
    return amount if isinstance(amount, int) else float(amount)


class Memory:
    """What is known of the workers' memory.

    Parameters
    ----------
    limit
        Bytes that all workers together may hold; ``None`` for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._growth = 0
        self._now: dict[Hashable, int] = {}
        self._before: dict[Hashable, int] = {}

    def measured(self, resident: Mapping[Hashable, int]) -> None:
        """Take note of what each worker holds now.

        Parameters
        ----------
        resident
            Bytes for each worker.
        """
        self._now = dict(resident)
        for worker, before in self._before.items():
            self._grew(self._now.get(worker, 0) - before)

    def started(self, worker: Hashable) -> None:
        """Take note that a worker starts calls: what it holds above this is theirs."""
        if self._limit is not None:
            self._before[worker] = self._now.get(worker, 0)

    def ended(self, worker: Hashable, results: Results) -> None:
        """Learn from calls that returned how much one may need."""
        if worker in self._before:
            *_, peak = results.trace
            self._grew(1024 * peak - self._before[worker])

    def _grew(self, size: int) -> None:
        self._growth = max(self._growth, size)

    def forget(self, worker: Hashable) -> None:
        """Forget what a worker held: its process died."""
        self._before.pop(worker, None)
        self._now.pop(worker, None)

    def has_room(self, running: Container[Hashable]) -> bool:
        """Tell whether a further call may start beside those of some workers.

        Parameters
        ----------
        running
            The workers that run calls.

        Returns
        -------
        bool
            Always true without a limit.
        """
        if self._limit is None:
            return True
        held = sum(
            max(now, self._before.get(worker, 0) + self._growth if worker in running else 0)
            for worker, now in self._now.items()
        )
        return held + self._growth <= self._limit
