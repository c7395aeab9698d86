"""What of a run is safe: how many results are durable, and which still wait for the disk.

One rule: nothing counts as saved before the writer said so. This room counts, and
nothing more: who computes and who writes is not known to it.
"""

import os
from collections.abc import Iterable, Sequence

from ._notices import add_note, failed_save, short, warn
from .errors import CheckpointError, EngineStalledWarning
from .messages import CheckpointClosed, Results


class Tally:
    """The count of one run.

    Parameters
    ----------
    path
        Its checkpoint; ``None`` if it keeps its results in memory.
    calls
        How many calls it has.

    Attributes
    ----------
    closed : CheckpointClosed or None
        What the writer said when it closed the file; before that, ``None``.
    """

    def __init__(self, path: str | None, calls: int) -> None:
        self._path = self._asked = path
        self._calls = calls
        self._saved = 0
        self._is_open = self._is_failing = False
        self._unsaved: list[Results] = []
        self._warnings: Sequence[Warning] = ()
        self.closed: CheckpointClosed | None = None

    @property
    def is_open(self) -> bool:
        """Whether the checkpoint was ever open."""
        return self._is_open

    def opened(self, resumed: int) -> None:
        """Begin with what was saved before."""
        self._is_open, self._saved = True, resumed

    def add(self, saved: Sequence[Results]) -> int:
        """Count results that are durable; whatever could not be saved before is among them.

        Parameters
        ----------
        saved
            The results.

        Returns
        -------
        int
            How many calls they are of.
        """
        self._is_failing = False
        self._unsaved.clear()
        count = _count(saved)
        self._saved += count
        return count

    def add_unsaved(self, unsaved: Sequence[Results], error: Exception) -> None:
        """Keep results that cannot be saved for now, and warn, once until it goes well again.

        Parameters
        ----------
        unsaved
            The results.
        error
            What the system said.
        """
        if not self._is_failing:
            self._is_failing = True
            warn(failed_save(self._path, error))
        self._unsaved += unsaved

    def warn_of_halt(self, reason: str) -> None:
        """Warn that calls wait for an engine, and say what is safe.

        Parameters
        ----------
        reason
            Why they wait, as the beginning of a sentence.
        """
        safe = (
            ""
            if self._path is None
            else f" {self._saved} of {self._calls} results are safe in {short(self._path)}."
        )
        what = "The run goes on as soon as it can; Ctrl-C ends it."
        warn(EngineStalledWarning(f"{reason}, so calls wait.{safe} {what}"))

    def moved(self, path: str) -> None:
        """Note where the checkpoint is now, if that is another place."""
        if self._asked is not None and os.path.realpath(self._asked) != path:
            self._path = path

    def close(self, closed: CheckpointClosed) -> None:
        """Note what the writer said when it closed the file."""
        if closed is not self.closed:
            self.closed, self._warnings = closed, closed.warnings
            if closed.path is not None:
                self.moved(closed.path)

    @property
    def _elsewhere(self) -> str:
        return "" if self._path == self._asked else f" with path={short(self._path or '')!r}"

    def take_warnings(self) -> Sequence[Warning]:
        """Return what the writer warned of when it closed the file, once."""
        warnings, self._warnings = self._warnings, ()
        return warnings

    @property
    def late(self) -> Sequence[Results]:
        """The results that only the last attempt saved."""
        return () if self.closed is None or self.closed.unsaved else tuple(self._unsaved)

    def take_unsaved(self) -> Sequence[Results]:
        """Return the results that were not saved to the end, once."""
        unsaved, self._unsaved = self._unsaved, []
        return unsaved

    def note_on(self, error: BaseException) -> None:
        """Say on an exception what is safe, and what is not.

        Parameters
        ----------
        error
            The exception that ends the run.
        """
        if self._path is None:
            return
        if not self._is_open:
            if isinstance(error, OSError) and not isinstance(error, CheckpointError):
                add_note(error, f"the checkpoint {self._path} cannot be used, so no call was run")
            return
        for warning in self.take_warnings():
            add_note(error, str(warning))
        saved = f"at least {self._saved}" if self.closed is None else str(self.closed.saved)
        add_note(
            error,
            f"{saved} of {self._calls} results are safe in {short(self._path)}; "
            f"make the same call again{self._elsewhere} to go on from there",
        )
        if self._unsaved and (self.closed is None or self.closed.unsaved):
            add_note(error, f"{_count(self._unsaved)} more were computed and could not be saved")


def _count(saved: Iterable[Results]) -> int:
    return sum(len(results.indices) for results in saved)
