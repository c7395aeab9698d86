"""A glance at a checkpoint file: what can be told of it without unpickling anything.

Header and record heads hold the counts, and when, where and how long each call ran.
Payloads are checked and let go of, one by one, so a file of any size can be looked at;
and what was read once is not read again when the file grows.

One rule: nothing is unpickled, nothing is written, and no lock is taken. This room
knows bytes, and nothing of what they mean to a run.
"""

import array
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from . import _wire
from ._format import Header, is_held, is_legacy, joined_damages, read_head, read_header
from ._log import distrust
from ._records import DEATH, RESULT, Damage, Group, Record, RecordReader
from ._trace import traced
from .errors import NotACheckpointError


class Spans(NamedTuple):
    """How calls ran: a row for each that has a result, ordered by index."""

    index: Any
    seconds: Any
    """NaN if it is not known."""
    started: Any
    """Seconds since 1970; 0 if it is not known."""
    worker: Any
    peak: Any
    """KiB; 0 if it is not known."""


class Failed(NamedTuple):
    """A call whose last try failed."""

    text: str
    """The traceback."""
    is_death: bool
    """Whether it took its process down."""


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """What a file shows at one moment."""

    path: str
    size: int
    """Bytes."""
    distrust: str | None
    """Why somebody else could have written the file, if so."""
    header: Header | None
    """``None`` for a file of release 1.0.5, which has none: it can only be unpickled."""
    holder: int | None = None
    """The process whose run has the file open."""
    head: bytes = b""
    """The head, if it may be unpickled and was asked for."""
    spans: tuple["array.array[Any]", ...] = ()
    """How the calls in the records ran, as the file has them; see `latest`."""
    failures: dict[int, Failed] = field(default_factory=dict)
    """Of the calls in the records."""
    damages: list[Damage] = field(default_factory=list)


class Lookout:
    """Looks at a file again and again; what did not change is not read twice.

    Parameters
    ----------
    path
        The file.
    wants_head
        Whether to keep the head, of a file that nobody else could have written.
    """

    def __init__(self, path: str, *, wants_head: bool) -> None:
        self._path = path
        self._wants_head = wants_head
        self._header: Header | None = None

    def look(self) -> Glance:
        """Read what is new in the file; blocks for as long as that takes.

        Returns
        -------
        Glance
            What the file holds now.

        Raises
        ------
        OSError
            If the file is not there or cannot be read.
        NotACheckpointError, CheckpointVersionError, CheckpointCorruptError
            If it is not ours, too new, or its head is damaged.
        """
        if os.path.exists(self._path) and not os.path.isfile(self._path):
            msg = f"{self._path} is not a regular file, so it cannot be a checkpoint"
            raise NotACheckpointError(msg)
        with open(self._path, "rb", buffering=1 << 20) as file:
            found = os.fstat(file.fileno())
            reason = distrust(found)
            if is_legacy(file.read(128)):
                return Glance(self._path, found.st_size, reason, None)
            file.seek(0)
            header = read_header(file, self._path)
            holder = _holder(header, found, self._path)
            if self._header is None or self._header.salt != header.salt:
                keep = self._wants_head and reason is None
                self._begin(header, read_head(file, header, self._path, keep=keep))
            damages = self._read_on(file, found.st_size, is_growing=holder is not None)
        return Glance(
            self._path, found.st_size, reason, header, holder, self._head,
            self._spans, dict(self._failures), damages,
        )  # fmt: skip

    def _begin(self, header: Header, head: bytes) -> None:
        """Forget everything: this is another file, or the same written anew."""
        self._header, self._head = header, head
        self._end = header.records_start
        self._spans = _empty()
        self._failures: dict[int, Failed] = {}
        self._damages: list[Damage] = []

    def _read_on(self, file: BinaryIO, size: int, *, is_growing: bool) -> list[Damage]:
        """Read the records that are new; return all damages: a growing file ends in a record being written."""
        assert self._header is not None
        reader = RecordReader(file, size, self._header.salt)
        for record in reader.read_from(self._end):
            self._take(record)
        found = joined_damages(reader)
        self._end = reader.end
        self._damages += [damage for damage in found if damage.offset < reader.end]
        return self._damages + [damage for damage in found if damage.offset >= reader.end and not is_growing]

    def _take(self, record: Record | Group) -> None:
        if isinstance(record, Group):
            indices, seconds, *_ = _wire.unpack(record.columns)
            columns = indices, seconds, *traced(record.trace, seconds)
            for column, values in zip(self._spans, columns, strict=True):
                column.extend(values)
            self._succeeded(indices)
        elif record.kind == RESULT:
            started, worker, peak = record.trace
            row = (record.index, record.seconds, started, worker, peak)
            for column, value in zip(self._spans, row, strict=True):
                column.append(value)
            self._succeeded((record.index,))
        else:
            text = bytes(record.main).decode("utf-8", "replace")
            self._failures[record.index] = Failed(text, record.kind == DEATH)

    def _succeeded(self, indices: Iterable[int]) -> None:
        if self._failures:
            for index in indices:
                self._failures.pop(index, None)


def _empty() -> tuple["array.array[Any]", ...]:
    return tuple(map(array.array, "QddII"))


def latest(
    calls: int, spans: Sequence["array.array[Any]"], folded: Sequence["array.array[Any]"] = ()
) -> Spans:
    """Return one row for each call with a result: the last one of an index wins.

    Parameters
    ----------
    calls
        How many calls there are; what is of no call is left out.
    spans
        The rows of the records.
    folded
        Those of the results in the head, if they are known: they came first.

    Returns
    -------
    Spans
        Arrays.
    """
    pairs = zip(folded or _empty(), spans or _empty(), strict=True)
    joined = [np.array(one + other) for one, other in pairs]
    index = joined[0][::-1]
    _, places = np.unique(index, return_index=True)
    places = places[index[places] < calls]
    return Spans(*(column[::-1][places] for column in joined))


def _holder(header: Header, found: os.stat_result, path: str) -> int | None:
    """Return the process that has the file open for its run.

    A run that was killed leaves its number in the header, and the system may give that number
    to another process: where it shows what that one has open, it is not taken for the run.
    """
    if not is_held(header):
        return None
    folder = f"/proc/{header.holder}/fd"
    try:
        names = os.listdir(folder)
        now = os.stat(path)
    except OSError:
        return header.holder  # another user's, or a system that does not tell
    for name in names:
        try:
            opened = os.stat(f"{folder}/{name}")
        except OSError:
            continue
        if os.path.samestat(opened, found) or os.path.samestat(opened, now):
            return header.holder
    return None
