"""When, on which worker and in how much memory calls ran.

A group of short calls has one trace: they were run one right behind the other, so the start
of the first and the seconds of each tell when each was started. One rule: what nobody
watched is unknown, and never a zero that looks like a measurement. This room knows numbers.
"""

import array
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from . import _wire
from ._records import Group, Record

Trace: TypeAlias = tuple[float, int, int]
"""When the first call was started, in seconds since 1970, the number of the worker, the peak of memory in KiB."""

Columns: TypeAlias = "tuple[array.array[Any], ...]"
"""The same for each call, in three arrays; zeros stand for what is not known."""


def traced(trace: Trace, seconds: Sequence[float]) -> Columns:
    """Return the trace of each call of a group.

    Parameters
    ----------
    trace
        That of the group.
    seconds
        How long each call took.

    Returns
    -------
    array, array, array
        Starts, workers and peaks.
    """
    count, (started, *others) = len(seconds), trace
    starts = array.array("d", (started,)) * count
    if started and count > 1:
        starts[1:] = array.array("d", (started + np.cumsum(seconds)[:-1]).tobytes())
    return starts, *(array.array("I", (each,)) * count for each in others)


def stretch(indices: Sequence[int], count: int) -> slice | None:
    """Return where calls stand among all, if they are neighbours: then nothing need be done for each.

    Parameters
    ----------
    indices
        The calls.
    count
        How many there are in all.

    Returns
    -------
    slice or None
        ``None`` also if some lie beyond the end.
    """
    neighbours = range(indices[0], indices[0] + len(indices))
    is_one = indices == neighbours or list(indices) == list(neighbours)
    return slice(neighbours.start, neighbours.stop) if is_one and neighbours.stop <= count else None


class Traces:
    """The traces of all calls of a run; they take no memory before one is known.

    Parameters
    ----------
    count
        How many calls there are.
    columns
        What is known of them, if anything.
    """

    def __init__(self, count: int, columns: "Columns | None" = None) -> None:
        self._count = count
        self.columns = columns

    @property
    def whole(self) -> Columns:
        """The columns, in any case."""
        return self.columns or traced(_wire.NO_TRACE, range(self._count))

    def add(self, indices: Sequence[int], seconds: Sequence[float], trace: Trace) -> None:
        """Note how the calls of a group ran.

        Parameters
        ----------
        indices
            Which, in the order in which they were run.
        seconds
            How long each took.
        trace
            That of the group.
        """
        self.columns = self.whole
        place = stretch(indices, self._count)
        for column, values in zip(self.columns, traced(trace, seconds), strict=True):
            if place is not None:
                column[place] = values
                continue
            for index, value in zip(indices, values, strict=True):
                if index < self._count:
                    column[index] = value

    def add_records(self, records: Iterable[Record | Group]) -> None:
        """Note how calls ran whose results stand in a file.

        Parameters
        ----------
        records
            The results.
        """
        for record in records:
            if isinstance(record, Group):
                indices, seconds, *_ = _wire.unpack(record.columns)
                self.add(indices, seconds, record.trace)
            else:
                self.add((record.index,), (record.seconds,), record.trace)

    def copy(self, index: int, source: "Traces", place: int) -> None:
        """Take over what another run knows of one call.

        Parameters
        ----------
        index
            Which call it is here.
        source
            The traces of the other run.
        place
            Which call it is there.
        """
        if source.columns is not None:
            started, worker, peak = (column[place] for column in source.columns)
            self.add((index,), (0.0,), (started, worker, peak))

    def known(self, column: int, completed: Sequence[bool]) -> list[Any]:
        """Return one of the three for each call, with ``None`` where it is not known.

        Parameters
        ----------
        column
            Which one.
        completed
            Which calls have a result.

        Returns
        -------
        list
            One entry for each call.
        """
        known = zip(completed, self.whole[0], self.whole[column], strict=True)
        return [value if is_completed and started else None for is_completed, started, value in known]
