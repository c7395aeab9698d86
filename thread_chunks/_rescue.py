"""What can be written anew of a checkpoint that somebody else spoilt during the run.

One rule: only what is known to be as it was acknowledged. That are records that are still whole
at their place in the file, and outputs in memory whose pickles are the very bytes that were saved:
the caller may have changed an output since. This room knows a checkpoint and its file, and no actors.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import _wire
from ._checkpoint import Checkpoint, about_run, pickle_head
from ._log import Log
from ._records import RESULT, Group, Record
from ._sections import joined, sections_of


class Checks:
    """The checksums of the results that this run computed.

    Parameters
    ----------
    completed
        Which calls had a result before: nobody has been given those yet.
    """

    def __init__(self, completed: Sequence[bool]) -> None:
        self.is_older = bytes(completed)
        self._checksums: Any = np.zeros(len(completed), "<u4")

    def add(self, columns: bytes) -> None:
        """Note the checksums of a group, or of a result that stands alone."""
        count = len(columns) // _wire.COLUMN_BYTES
        indices = np.frombuffer(columns, "<u8", count)
        self._checksums[indices] = np.frombuffer(columns, "<u4", count, 24 * count)

    def hold(self, index: int, main: bytes, buffers: Sequence[Any]) -> bool:
        """Tell whether a pickle is what was saved."""
        return bool(self.is_older[index]) or _wire.checksum(main, buffers) == self._checksums[index]


def rescue(checkpoint: Checkpoint, log: Log, checks: Checks | None, waiting: set[int]) -> int:
    """Write a spoilt file anew, at its path or beside it; return how many results are lost.

    Parameters
    ----------
    checkpoint
        The checkpoint of the run.
    log
        Its file; afterwards, where it is now.
    checks
        The checksums of its outputs; ``None`` if they are not in memory, as in a stream.
    waiting
        The calls whose results were not yet in the file.

    Returns
    -------
    int
        How many results were in the file and are in no file now.

    Raises
    ------
    OSError
        If it could not be written.
    """
    head, records = log.salvage()
    held = {index for record in records for index in _indices(record)}
    folded = (
        {index for _, columns, *_ in sections_of(head) for index in _wire.unpack(columns)[0]}
        if head
        else set()
    )
    wanted = [
        index
        for index, is_completed in enumerate(checkpoint.completed)
        if is_completed and index not in held and index not in folded and index not in waiting
    ]
    again = [] if checks is None else list(_pickled_again(checkpoint, checks, wanted))
    log.rescue(
        head or pickle_head(checkpoint, ()), [*records, *joined(again)], about_run(checkpoint, len(folded))
    )
    return len(wanted) - len(again)


def _indices(record: Record | Group) -> Sequence[int]:
    if isinstance(record, Group):
        return _wire.unpack(record.columns)[0]
    return (record.index,) if record.kind == RESULT else ()


def _pickled_again(checkpoint: Checkpoint, checks: Checks, wanted: Sequence[int]) -> Iterator[Record]:
    """Pickle outputs; leave out those that cannot be, or that are not what was saved."""
    for index in wanted:
        with contextlib.suppress(Exception):  # pickling runs the user's code
            main, buffers = _wire.dump(checkpoint.output[index])
            if checks.hold(index, main, buffers):
                yield checkpoint.as_record(index, main, buffers)
