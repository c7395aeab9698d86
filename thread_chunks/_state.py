"""The state of a run: which calls are done, what they returned, and whose they are.

One rule: each result is pickled by itself, so that one that cannot be unpickled
any more costs nothing but itself. The checkpoint writer changes it, and nobody
else. This room knows no files.
"""

import array
import contextlib
import itertools
import math
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from . import _wire, config
from ._canonical import form
from ._identity import FunctionIdentity, Part, codes_differ
from ._mismatch import explain_calls, explain_function
from ._parameters import read_calls
from ._records import DEATH, RESULT, Group, Record
from ._sections import Section, as_sections, joined, load_result, rows
from ._settings import Changes, Watched, changed_values, changes
from ._trace import Traces, stretch
from .errors import CheckpointDamagedWarning

_UNPICKLED = "output", "completed", "done", "_seconds", "_traces", "_codes"
"""What the results hold, as they are pickled."""
_READING = "_notes", "_has_gaps", "_unreadable", "_failure_bytes"
"""What is known of the file that was read."""


class RunState:
    """What `Checkpoint` keeps in its file; its attributes are described there."""

    func_name: str
    output: list[Any]
    completed: list[bool]
    index: int
    done: int
    failures: dict[int, str]
    _parts: tuple[tuple[str, bytes, str], ...] = ()  # of the key; older files do not have it
    _begun: tuple[int, tuple[tuple[str, bytes, str], ...]] = (0, ())  # the first code; nor this

    def __init__(
        self,
        func_name: str,
        parameters: list[Any],
        output: list[Any],
        completed: list[bool],
        index: int,
        done: int,
    ) -> None:
        self.func_name = func_name
        self._parameters = parameters
        self._plain: tuple[type, int, bytes] | None = None
        self.output = output
        self.completed = completed
        self.index = index
        self.done = done
        self._seconds = array.array("d", [math.nan]) * len(output)
        self._traces = Traces(len(output))
        self.failures = {}
        self._deaths: set[int] = set()
        self._key: bytes | None = None
        self._names: list[str] = []
        self._codes = [0] * len(output)
        self._dependencies: dict[str, Any] = {}
        self._notes: list[Warning] = []
        self._has_gaps = False
        self._unreadable: dict[int, str] = {}
        self._failure_bytes = 0

    def __repr__(self) -> str:
        """Show the progress in one line."""
        return f"<Checkpoint of {self.func_name}: {self.done} of {len(self.output)} calls done>"

    @property
    def parameters(self) -> list[Any]:
        """One entry for each call; rows of plain values are made when they are first looked at."""
        if self._plain is not None:
            self._parameters, self._plain = rows(*self._plain), None
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: list[Any]) -> None:
        self._parameters, self._plain = parameters, None

    @property
    def seconds(self) -> list[float | None]:
        """How long each call took, in seconds; ``None`` for what is missing or not known."""
        return [None if math.isnan(taken) else taken for taken in self._seconds]

    @property
    def started(self) -> list[float | None]:
        """When each call was started, in seconds since 1970; ``None`` for what is missing or not known.

        That of a call of less than 25 ms is told from those before it, and good to a few milliseconds.
        """
        return self._traces.known(0, self.completed)

    @property
    def workers(self) -> list[int | None]:
        """Which worker ran each call, from 0 on; ``None`` for what is missing or not known."""
        return self._traces.known(1, self.completed)

    @property
    def peak_memory(self) -> list[int | None]:
        """The most memory that the process of each call held while it ran, in bytes; ``None`` if not known.

        Resident memory, with the interpreter and what it had imported. Calls of less than 25 ms
        that were run one after the other share one reading.
        """
        peaks = self._traces.known(2, self.completed)
        return [None if peak is None else peak * 1024 or None for peak in peaks]

    # --- changing it: the checkpoint writer does, and nobody else ----------------

    def add_results(
        self,
        indices: Sequence[int],
        outputs: Sequence[Any],
        seconds: Sequence[float],
        code: int,
    ) -> None:
        """Note the results of some calls.

        Parameters
        ----------
        indices
            Which calls.
        outputs, seconds
            What each returned, and how long it took, NaN if that is not known.
        code
            The digest of the code that computed them.
        """
        place = stretch(indices, len(self.output))
        if place is not None:
            self._put(place, outputs, seconds, code)
        else:
            for index, output, taken in zip(indices, outputs, seconds, strict=True):
                self._put(slice(index, index + 1), [output], (taken,), code)
        self.index = max(self.index, 1 + (indices[-1] if isinstance(indices, range) else max(indices)))
        for noted in filter(None, (self.failures, self._unreadable)):
            for index in indices:
                noted.pop(index, None)
        self._deaths.difference_update(indices)

    def _put(self, place: slice, outputs: Sequence[Any], seconds: Sequence[float], code: int) -> None:
        count = len(outputs)
        self.done += count - sum(self.completed[place])
        self.completed[place] = [True] * count
        self.output[place] = outputs
        self._seconds[place] = seconds if isinstance(seconds, array.array) else array.array("d", seconds)
        self._codes[place] = [code] * count

    def add_failure(self, index: int, text: str, *, is_death: bool = False) -> None:
        """Note that a call failed; the next run tries it again.

        Parameters
        ----------
        index
            Which call.
        text
            The traceback.
        is_death
            Whether it took its process down: then it is tried last, and alone.
        """
        self.failures[index] = text
        (self._deaths.add if is_death else self._deaths.discard)(index)
        self.index = max(self.index, index + 1)

    def knows_failure(self, index: int, text: str, *, is_death: bool) -> bool:
        """Tell whether a call is known to have failed in this way.

        Parameters
        ----------
        index, text, is_death
            As for `add_failure`.

        Returns
        -------
        bool
            Whether it would change nothing to note it.
        """
        return self.failures.get(index) == text and (index in self._deaths) == is_death

    # --- pickling: every result by itself -------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return the state, each result pickled by itself."""
        state = dict(self.__dict__)
        for name in (*_UNPICKLED, *_READING):
            del state[name]
        if self._traces.columns is not None:
            state["_trace"] = self._traces.columns
        if "results" not in state:
            state["results"] = self.sections()
        return state

    def sections(self) -> list[Section]:
        """Pickle every result by itself, small neighbours side by side.

        Returns
        -------
        list of Section
            All results.
        """
        records = [
            self.as_record(index, *_wire.dump(self.output[index]))
            for index, is_completed in enumerate(self.completed)
            if is_completed
        ]
        return as_sections(joined(records))

    def as_record(self, index: int, main: bytes, buffers: Sequence[Any]) -> Record:
        """Return the record of a result that was pickled; without its trace."""
        return Record(RESULT, index, self._seconds[index], self._codes[index], main, buffers)

    def with_results(self, results: Sequence[Section], plain: bytes | None = None) -> Self:
        """Return a copy that pickles with what is pickled already.

        Parameters
        ----------
        results
            Every result.
        plain
            The `plain_form` of the parameters, if they have one.

        Returns
        -------
        RunState
            Good for pickling, and for nothing else.
        """
        copy = self.__class__.__new__(self.__class__)
        copy.__dict__.update(self.__dict__, results=list(results))
        kinds = _wire.kinds(self.parameters)
        if plain is not None and kinds in ({list}, {tuple}):
            copy._parameters, copy._plain = [], (kinds.pop(), len(self.parameters), plain)
        return copy

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state back; a result that cannot be unpickled is missing, with a warning."""
        for section in self._begin(state) or ():
            self._take(*section)

    def _begin(self, state: dict[str, Any]) -> Sequence[Section] | None:
        """Take everything back but the results, and return those as they were pickled; 1.0.5 has none such."""
        results: Sequence[Section] | None = state.pop("results", None)
        columns = state.pop("_trace", None)
        self._plain, self._parameters = None, state.pop("parameters", [])
        self._deaths, self._names = set(), []  # 1.0.5 knows none
        self.__dict__.update(state, _notes=[], _has_gaps=False, _unreadable={}, _failure_bytes=0)
        count = len(self._parameters) if self._plain is None else self._plain[1]
        self._seconds, self._codes = array.array("d", [math.nan]) * count, [0] * count
        self._traces = Traces(count, columns)
        if results is None:  # release 1.0.5
            self.failures, self._key, self._dependencies = {}, None, {}
            return None
        self.output, self.completed, self.done = [None] * count, [False] * count, 0
        return results

    def _count(self, indices: Iterable[int]) -> None:
        """Count results that are there and are not looked at."""
        for index in indices:
            if index in range(len(self.completed)) and not self.completed[index]:
                self.completed[index] = True
                self.done += 1

    def _apply(self, record: "Record | Group") -> None:
        """Take over what a record holds; what cannot be used is noted and counts as missing."""
        if isinstance(record, Group):
            self._take(record.code, record.columns, record.body, ())
            self._traces.add_records((record,))
        elif record.kind == RESULT:
            main = bytes(record.main)
            columns = _wire.single(record.index, record.seconds, main, record.buffers)
            self._take(record.code, columns, main, record.buffers)
            self._traces.add_records((record,))
        elif self._has_place(record.index):
            self._failure_bytes += len(record.main)
            text = bytes(record.main).decode("utf-8", "replace")
            self.add_failure(record.index, text, is_death=record.kind == DEATH)

    def _take(self, code: int, columns: bytes, body: Any, buffers: Sequence[Any]) -> None:
        """Take over a section; where one of its results cannot be used, one by one."""
        indices, seconds, sizes, _ = _wire.unpack(columns)
        pieces = _wire.parts(body, sizes)
        if not buffers and b"_make_skeleton_" not in body and max(indices) < len(self.output):
            with contextlib.suppress(BaseException):  # unpickling runs the user's code
                self.add_results(indices, list(map(pickle.loads, pieces)), seconds, code)
                return
        for index, taken, piece in zip(indices, seconds, pieces, strict=True):
            self._take_result(index, taken, code, piece, buffers)

    def _take_result(
        self, index: int, seconds: float, code: int, main: bytes, buffers: Sequence[Any]
    ) -> None:
        if not self._has_place(index):
            return
        try:
            output = load_result(main, buffers)
        except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
            text = f"the result of call {index} cannot be unpickled ({error!r}) and counts as missing"
            self._unreadable[index] = text
        else:
            self.add_results((index,), [output], (seconds,), code)

    def _has_place(self, index: int) -> bool:
        if index in range(len(self.output)):
            return True
        self._note(f"a record of call {index} was ignored: there are {len(self.output)} calls")
        return False

    def _note(self, text: str, *, is_gap: bool = True) -> None:
        self._notes.append(CheckpointDamagedWarning(text))
        self._has_gaps |= is_gap

    @property
    def has_gaps(self) -> bool:
        """Whether the file holds more than could be read of it; a torn tail is none."""
        return self._has_gaps or self.has_unreadable

    @property
    def has_unreadable(self) -> bool:
        """Whether results are whole in the file, and cannot be unpickled."""
        return any(not self.completed[index] for index in self._unreadable)

    @property
    def is_mostly_failures(self) -> bool:
        """Whether more than half of what the file tells of failures was superseded, and is worth leaving out."""
        last = sum(map(len, self.failures.values()))
        return self._failure_bytes > 2 * last + config.failure_bytes

    def last_failures(self) -> Callable[[Record | Group], Record | Group | None]:
        """Return what leaves superseded failures out of a file: it gives a record again, or ``None``."""
        left = dict(self.failures)

        def last(record: Record | Group) -> Record | Group | None:
            if isinstance(record, Group) or record.kind == RESULT:
                return record
            is_last = left.get(record.index) == bytes(record.main).decode("utf-8", "replace")
            if is_last:
                del left[record.index]
            return record if is_last else None

        return last

    def take_notes(self) -> list[Warning]:
        """Return what was wrong with the file that this object was read from, once.

        Returns
        -------
        list of Warning
            Empty if the file was whole.
        """
        unreadable = [CheckpointDamagedWarning(text) for text in self._unreadable.values() if text]
        self._unreadable = dict.fromkeys(self._unreadable, "")
        notes, self._notes = self._notes, []
        return [*unreadable, *notes]

    # --- matching: is this the same run? -------------------------------------------------

    def identity(self) -> FunctionIdentity:
        """Return what is known of the function."""
        parts = tuple(Part(*part) for part in self._parts)
        return FunctionIdentity(self.func_name, self._key or b"", 0, parts)

    def difference(self, saved: "RunState", names: Sequence[str] = ()) -> str | None:
        """Say why a saved checkpoint is not of the same run, or ``None`` if it is.

        Parameters
        ----------
        saved
            What a file holds.
        names
            What the function calls its arguments, if that is known.

        Returns
        -------
        str or None
            The first difference, in one sentence.
        """
        one, other = saved.identity(), self.identity()
        if saved._key is None or self._key is None:  # 1.0.5, or made by hand: the name is all there is
            one, other = replace(one, key=b""), replace(other, key=b"")
        reason = explain_function(one, other)
        if reason is None:
            reason = explain_calls(read_calls(saved.parameters)[1], read_calls(self.parameters)[1], names)
        if reason is None and form(saved._dependencies) != form(self._dependencies):
            reason = "the dependencies differ"
        return reason

    def copy_result(self, index: int, source: "RunState", place: int) -> None:
        """Take over one result of another checkpoint.

        Parameters
        ----------
        index
            Which call it is here.
        source
            The other checkpoint.
        place
            Which call it is there.
        """
        seconds = (source._seconds[place],)
        self.add_results((index,), [source.output[place]], seconds, source._codes[place])
        self._traces.copy(index, source._traces, place)

    def keep_results(self, saved: "RunState") -> None:
        """Take over everything that a checkpoint of the same run has and this one has not.

        Parameters
        ----------
        saved
            The other one. It is given away: this one may go on with its lists.
        """
        if not any(self.completed):
            self.output, self.completed, self.done = saved.output, saved.completed, saved.done
            self._seconds, self._traces, self._codes = saved._seconds, saved._traces, saved._codes
        else:
            for index, is_completed in enumerate(saved.completed):
                if is_completed and not self.completed[index]:
                    self.copy_result(index, saved, index)
        for index, text in saved.failures.items():
            if not self.completed[index]:
                self.failures.setdefault(index, text)
                self._deaths |= {index} & saved._deaths
        self.index = max(self.index, saved.index)
        if self._key is None:
            self._key = saved._key
        self._names = self._names or saved._names
        if saved._begun[1]:
            self._begun = saved._begun

    @property
    def missing(self) -> Sequence[int]:
        """The calls without a result, in order."""
        if self.done in {0, len(self.output)}:
            return range(len(self.output) - self.done)
        return [index for index, is_completed in enumerate(self.completed) if not is_completed]

    @property
    def deadly(self) -> Sequence[int]:
        """The calls without a result that took their process down when they were last tried."""
        return sorted(index for index in self._deaths if not self.completed[index])

    @property
    def longest(self) -> float:
        """Seconds that the longest call took that has a result; 0 if none is known."""
        return float(np.fmax.reduce(self._seconds, initial=0.0))

    def give_results_away(self) -> Iterator[tuple[int, Any]]:
        """Yield the index and the output of each call that has a result, and keep no output.

        Yields
        ------
        int, Any
            One call after the other.
        """
        for index, is_completed in enumerate(self.completed):
            if is_completed:
                output = [self.output[index]]
                self.output[index] = None
                yield index, output.pop()

    def count_older(self, function: FunctionIdentity) -> tuple[int, Changes]:
        """Count the results that stem from other code of the function, or from other values that it read.

        Parameters
        ----------
        function
            The function now.

        Returns
        -------
        int, Changes
            How many of the completed calls, and what changed since the file was begun.
        """
        first, saved = self._begun[0], [Watched(*each) for each in self._begun[1]]
        is_seen = codes_differ(first, function.code)
        found = (changes if is_seen else changed_values)(saved, function.watched)
        counts = Counter(itertools.compress(self._codes, self.completed))
        older = {
            code: count
            for code, count in counts.items()
            if codes_differ(code, function.code) or (code == first and found)
        }
        return sum(older.values()), found if first in older and found else Changes()
