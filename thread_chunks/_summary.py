"""What a checkpoint file tells of its run: counts, times, failures, what is left.

Counting needs no unpickling. The parameters of a call, and how calls ran whose results
were folded into the head, lie in the head's pickle: it is read where the file is whole
and nobody else could have written it. Results are never unpickled here.

One rule: whatever cannot be told is said to be unknown, and why. This room knows files
and numbers, and nothing of how they are shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from ._checkpoint import Checkpoint, untrusted
from ._glance import Failed, Glance, Lookout, Spans, latest
from ._parameters import shown
from ._records import Damage
from ._survey import outline
from .errors import CheckpointError, NotACheckpointError

RECENT = 1000
"""From how many results of the end the time left is told."""

State = Literal["complete", "running", "stopped"]


class Extreme(NamedTuple):
    """The call with the largest value of something."""

    index: int  # type: ignore[assignment]
    value: float
    parameters: str | None
    """Shortened; ``None`` if they are not known."""


@dataclass(frozen=True)
class Summary:
    """What a file tells at one moment."""

    path: str
    size: int
    """Bytes."""
    function: str
    calls: int
    done: int
    failures: Mapping[int, Failed]
    """Of the calls without a result."""
    holder: int | None
    """The process whose run has the file open now."""
    spans: Spans
    """How the calls with a result ran, as far as that is known."""
    damages: Sequence[Damage] = ()
    notes: Sequence[str] = ()
    """What is not shown, and why."""
    outline: Checkpoint | None = field(default=None, repr=False)
    """The unpickled head, without its results."""

    @property
    def state(self) -> State:
        """Whether all calls have a result, and if not, whether a run is at work."""
        if self.done == self.calls:
            return "complete"
        return "stopped" if self.holder is None else "running"

    @property
    def missing(self) -> int:
        """How many calls have no result."""
        return self.calls - self.done

    @cached_property
    def seconds(self) -> Any:
        """The times that are known, in seconds."""
        return self.spans.seconds[~np.isnan(self.spans.seconds)]

    @cached_property
    def slowest(self) -> Extreme | None:
        """The call that took longest."""
        return self._largest(np.nan_to_num(self.spans.seconds, nan=-1.0)) if len(self.seconds) else None

    @cached_property
    def largest(self) -> Extreme | None:
        """The call whose process held the most memory, in bytes."""
        return self._largest(self.spans.peak.astype("u8") * 1024) if self.spans.peak.any() else None

    def _largest(self, values: Any) -> Extreme:
        place = int(values.argmax())
        index = int(self.spans.index[place])
        return Extreme(index, values[place].item(), self.parameters_of(index))

    def parameters_of(self, index: int) -> str | None:
        """Show the parameters of one call in a line, if they are known."""
        if self.outline is None or index >= len(self.outline.parameters):
            return None
        return shown(self.outline.parameters[index])

    @cached_property
    def traced(self) -> Spans:
        """The calls of which it is known when they ran, in the order in which they were started."""
        known = np.flatnonzero((self.spans.started > 0) & ~np.isnan(self.spans.seconds))
        order = known[np.argsort(self.spans.started[known], kind="stable")]
        return Spans(*(column[order] for column in self.spans))

    @property
    def started(self) -> float | None:
        """When the first call was started, in seconds since 1970."""
        return float(self.traced.started[0]) if len(self.traced.index) else None

    @property
    def last_result(self) -> float | None:
        """When the last call ended, in seconds since 1970."""
        if not len(self.traced.index):
            return None
        return float((self.traced.started + self.traced.seconds).max())

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take a run that is at work: the mean of the last calls, on as many workers."""
        recent = slice(-RECENT, None)
        if self.state != "running" or not len(self.traced.index):
            return None
        workers = len(np.unique(self.traced.worker[recent]))
        return float(self.missing * self.traced.seconds[recent].mean() / workers)


class Inspector:
    """Looks into one file, once or again and again.

    Parameters
    ----------
    path
        The file.
    unpickles
        Whether its head may be unpickled, if nobody else could have written it.
    """

    def __init__(self, path: str, *, unpickles: bool = True) -> None:
        self._path, self._unpickles = path, unpickles
        self._lookout = Lookout(path, wants_head=unpickles)
        self._salt: bytes | None = None
        self._outline: Any = None
        self._reason: str | None = None

    def look(self) -> Summary:
        """Look once; blocks while it reads.

        Returns
        -------
        Summary
            What the file tells now.

        Raises
        ------
        OSError
            If the file is not there or cannot be read.
        CheckpointError
            If it cannot be read as a checkpoint.
        """
        glance = self._lookout.look()
        if glance.header is None:
            return self._legacy(glance)
        if glance.header.salt != self._salt:
            self._salt = glance.header.salt
            self._open(glance)
        return self._summary(glance, glance.header.about)

    def _open(self, glance: Glance) -> None:
        """Unpickle the head if that may be done, and remember why it was not."""
        self._outline = None
        if not self._unpickles:
            self._reason = "nothing was unpickled, as you asked"
        elif glance.distrust is not None:
            self._reason = f"nothing was unpickled: {untrusted(self._path, glance.distrust)}"
        else:
            try:
                self._outline, self._reason = outline(glance.head, self._path), None
            except CheckpointError as error:
                self._reason = str(error)

    def _summary(self, glance: Glance, about: Any) -> Summary:
        known = self._outline
        folded = known.spans if known is not None else ()
        spans = latest(about.calls, glance.spans, folded)
        done = len(spans.index) + (0 if known is not None else about.folded)
        failures = {} if known is None else _failures(known)
        failures.update(glance.failures)
        for index in set(failures).intersection(spans.index.tolist()) if failures else ():
            del failures[index]
        return Summary(
            self._path,
            glance.size,
            about.name if known is None else known.func_name,
            about.calls,
            min(done, about.calls),
            {index: failures[index] for index in sorted(failures) if index < about.calls},
            glance.holder,
            spans,
            glance.damages,
            () if self._reason is None else (self._reason,),
            known,
        )

    def _legacy(self, glance: Glance) -> Summary:
        """A file of release 1.0.5 can only be unpickled as a whole."""
        if not self._unpickles or glance.distrust is not None:
            reason = "" if glance.distrust is None else f" {untrusted(self._path, glance.distrust)}"
            msg = (
                f"{self._path} was written by release 1.0.5, whose files cannot be counted without unpickling "
                f"them.{reason}"
            )
            raise NotACheckpointError(msg)
        checkpoint = Checkpoint.load(self._path)
        note = "the file was written by release 1.0.5, which noted no times"
        count = len(checkpoint.output)
        return Summary(
            self._path, glance.size, checkpoint.func_name, count, checkpoint.done, {}, None,
            latest(count, ()), (), (note,), checkpoint,
        )  # fmt: skip


def _failures(known: Any) -> dict[int, Failed]:
    """Return the failures that a head tells of: it was written in the middle of a run."""
    return {index: Failed(text, index in known.deadly) for index, text in known.failures.items()}
