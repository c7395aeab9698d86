"""Looking into a checkpoint without keeping, or without unpickling, its results.

One rule: what a file holds can be told without holding it all. This room knows
checkpoints and records, and nothing of runs.
"""

import array
from collections.abc import Iterable, Sequence
from typing import Any

from . import _wire
from ._checkpoint import Checkpoint, load_head
from ._format import Contents, Scan
from ._records import RESULT, Group, Record


class Passing(Checkpoint):
    """A checkpoint that unpickles every result, to see that it can be, and keeps none."""

    def _put(self, place: slice, outputs: Sequence[Any], *rest: Any) -> None:
        super()._put(place, [None] * len(outputs), *rest)


class _Unread(Checkpoint):
    """A checkpoint of which only the parameters were unpickled: it knows what it has, and not what that is."""

    spans: "tuple[array.array[Any], ...]"
    """How the calls ran whose results are in the head: indices, seconds, and the three of `traced`."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        indices, seconds = array.array("Q"), array.array("d")
        for _, columns, *_ in self._begin(state) or ():
            found, taken = _wire.unpack(columns)[:2]
            indices += found
            seconds += taken
        self._count(indices)
        traces = (
            array.array(column.typecode, map(column.__getitem__, indices)) for column in self._traces.whole
        )
        self.spans = indices, seconds, *traces

    def count(self, records: Iterable[Record | Group]) -> None:
        """Count the results that stand behind the head."""
        for record in records:
            if isinstance(record, Group):
                self._count(_wire.unpack(record.columns)[0])
            elif record.kind == RESULT:
                self._count((record.index,))


def outline(head: bytes, path: str) -> Any:
    """Make a checkpoint of a head alone, without unpickling a result; its `spans` tell how its calls ran."""
    return load_head(head, path, _Unread)


def survey(contents: Contents | Scan, path: str) -> Any:
    """Make a checkpoint that tells whose it is and how much it holds, without unpickling a result."""
    checkpoint = load_head(contents.head, path, _Unread)
    checkpoint.count(contents.records)
    return checkpoint
