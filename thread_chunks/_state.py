"""The state of a run: which calls are done, what they returned, and whose they are.

One rule: each result is pickled by itself, so that one that cannot be unpickled
any more costs nothing but itself. The checkpoint writer changes it, and nobody
else. This room knows no files.
"""

import functools
import io
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeAlias

from . import _child
from ._canonical import form
from ._format import FAILURE, RESULT, Record
from ._identity import FunctionIdentity, codes_differ, explain_calls, explain_function
from ._parameters import read_calls
from .errors import CheckpointDamagedWarning

RawResult: TypeAlias = tuple[bytes, tuple[bytearray, ...]]
"""A result as it was pickled, and its large buffers."""


class RunState:
    """What `Checkpoint` keeps in its file; its attributes are described there."""

    func_name: str
    parameters: list[Any]
    output: list[Any]
    completed: list[bool]
    index: int
    done: int
    seconds: list[float | None]
    failures: dict[int, str]

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
        self.parameters = parameters
        self.output = output
        self.completed = completed
        self.index = index
        self.done = done
        self.seconds = [None] * len(output)
        self.failures = {}
        self._key: bytes | None = None
        self._codes = [0] * len(output)
        self._dependencies: dict[str, Any] = {}
        self._notes: list[Warning] = []
        self._has_gaps = False

    def __repr__(self) -> str:
        """Show the progress in one line."""
        return f"<Checkpoint of {self.func_name}: {self.done} of {len(self.parameters)} calls done>"

    # --- changing it: the checkpoint writer does, and nobody else ----------------

    def add_result(self, index: int, output: Any, seconds: float, code: int) -> None:
        """Note the result of one call.

        Parameters
        ----------
        index
            Which call.
        output
            What it returned.
        seconds
            How long it took.
        code
            The digest of the code that computed it.
        """
        if not self.completed[index]:
            self.completed[index] = True
            self.done += 1
        if index >= self.index:
            self.index = index + 1
        self.output[index] = output
        self.seconds[index] = seconds
        self._codes[index] = code
        if self.failures:
            self.failures.pop(index, None)

    def add_failure(self, index: int, text: str) -> None:
        """Note that a call failed; the next run tries it again.

        Parameters
        ----------
        index
            Which call.
        text
            The traceback.
        """
        self.failures[index] = text
        self.index = max(self.index, index + 1)

    # --- pickling: every result by itself -------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return the state, each result pickled by itself."""
        state = dict(self.__dict__)
        for name in ("output", "completed", "done", "_notes", "_has_gaps"):
            del state[name]
        if "results" not in state:
            state["results"] = {
                index: plain(*_child.dump(self.output[index]))
                for index, is_completed in enumerate(self.completed)
                if is_completed
            }
        return state

    def with_results(self, results: Mapping[int, Any]) -> Self:
        """Return a copy that pickles with these results, which are pickled already.

        Parameters
        ----------
        results
            For each completed call, its pickle and its buffers.

        Returns
        -------
        RunState
            Good for pickling, and for nothing else.
        """
        copy = self.__class__.__new__(self.__class__)
        copy.__dict__.update(self.__dict__, results=dict(results))
        return copy

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state back; a result that cannot be unpickled is missing, with a warning."""
        for index, (main, buffers) in (self._begin(state) or {}).items():
            is_ours = index in range(len(self.output))
            seconds, code = (self.seconds[index], self._codes[index]) if is_ours else (None, 0)
            self._apply(Record(RESULT, index, seconds or 0.0, code, main, buffers))

    def _begin(self, state: dict[str, Any]) -> Mapping[int, RawResult] | None:
        """Take everything back but the results, and return those as they were pickled; 1.0.5 has none such."""
        results: Mapping[int, RawResult] | None = state.pop("results", None)
        self.__dict__.update(state, _notes=[], _has_gaps=False)
        count = len(self.parameters)
        if results is None:  # release 1.0.5
            self.seconds, self.failures = [None] * count, {}
            self._key, self._codes, self._dependencies = None, [0] * count, {}
            return None
        self.output, self.completed, self.done = [None] * count, [False] * count, 0
        return results

    def _count(self, index: int) -> None:
        """Count a result that is there and is not looked at."""
        if index in range(len(self.completed)) and not self.completed[index]:
            self.completed[index] = True
            self.done += 1

    def _apply(self, record: Record) -> None:
        """Take over one record; what cannot be used is noted and counts as missing."""
        if not 0 <= record.index < len(self.output):
            self._note(f"a record of call {record.index} was ignored: there are {len(self.output)} calls")
        elif record.kind == FAILURE:
            self.add_failure(record.index, bytes(record.main).decode("utf-8", "replace"))
        else:
            try:
                output = _load_result(bytes(record.main), record.buffers)
            except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
                self._note(
                    f"the result of call {record.index} cannot be unpickled ({error!r}) and counts as missing"
                )
            else:
                self.add_result(record.index, output, record.seconds, record.code)

    def _note(self, text: str, *, is_gap: bool = True) -> None:
        self._notes.append(CheckpointDamagedWarning(text))
        self._has_gaps |= is_gap

    @property
    def has_gaps(self) -> bool:
        """Whether the file holds more than could be read of it; a torn tail is none."""
        return self._has_gaps

    def take_notes(self) -> list[Warning]:
        """Return what was wrong with the file that this object was read from, once.

        Returns
        -------
        list of Warning
            Empty if the file was whole.
        """
        notes, self._notes = self._notes, []
        return notes

    # --- matching: is this the same run? -------------------------------------------------

    def identity(self) -> FunctionIdentity:
        """Return what is known of the function."""
        return FunctionIdentity(self.func_name, self._key or b"", 0)

    def difference(self, saved: "RunState") -> str | None:
        """Say why a saved checkpoint is not of the same run, or ``None`` if it is.

        Parameters
        ----------
        saved
            What a file holds.

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
            reason = explain_calls(read_calls(saved.parameters)[1], read_calls(self.parameters)[1])
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
        self.add_result(index, source.output[place], source.seconds[place] or 0.0, source._codes[place])

    def keep_results(self, saved: "RunState") -> None:
        """Take over everything that a checkpoint of the same run has and this one has not.

        Parameters
        ----------
        saved
            The other one.
        """
        for index, is_completed in enumerate(saved.completed):
            if is_completed and not self.completed[index]:
                self.copy_result(index, saved, index)
        for index, text in saved.failures.items():
            if not self.completed[index]:
                self.failures.setdefault(index, text)
        self.index = max(self.index, saved.index)
        if self._key is None:
            self._key = saved._key

    def count_older(self, code: int) -> int:
        """Count the results that stem from other code of the function.

        Parameters
        ----------
        code
            The digest of its code now.

        Returns
        -------
        int
            How many of the completed calls.
        """
        codes = zip(self.completed, self._codes, strict=True)
        return sum(is_completed and codes_differ(each, code) for is_completed, each in codes)


def _load_result(main: bytes, buffers: Sequence[Any]) -> Any:
    """Unpickle one result; objects of the script's own classes become instances of those again."""
    if b"_make_skeleton_" in main:
        return _ScriptUnpickler(io.BytesIO(main), buffers=buffers).load()
    return pickle.loads(main, buffers=buffers)


class _ScriptUnpickler(pickle.Unpickler):
    """Take classes of ``__main__`` that were pickled by value from the running script, where it has them.

    Otherwise results of an earlier run would be of other classes than those of this one: not
    equal, not instances. The names are those in which cloudpickle writes such a class.
    """

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module != "cloudpickle.cloudpickle":
            return found
        if name in {"_make_skeleton_class", "_make_skeleton_enum"}:
            return functools.partial(_skeleton, found)
        return functools.partial(_set_state, found) if name == "_class_setstate" else found


def _script_class(name: str) -> type | None:
    found = getattr(sys.modules["__main__"], name, None)
    is_own = isinstance(found, type) and (found.__module__, found.__qualname__) == ("__main__", name)
    return found if is_own else None


def _skeleton(make: Callable[..., Any], *args: Any) -> Any:
    names = [arg for arg in args if isinstance(arg, str)]
    is_script = any(isinstance(arg, dict) and arg.get("__module__") == "__main__" for arg in args)
    is_script = is_script or "__main__" in names[1:]
    own = _script_class(names[0]) if names and is_script else None
    return make(*args) if own is None else own


def _set_state(set_state: Callable[..., Any], made: type, state: Any) -> Any:
    return made if _script_class(made.__name__) is made else set_state(made, state)


def plain(main: Any, buffers: Sequence[Any]) -> RawResult:
    """Copy a pickled result into builtin types; bytearrays, so that its arrays stay writable."""
    return bytes(main), tuple(map(bytearray, buffers))
