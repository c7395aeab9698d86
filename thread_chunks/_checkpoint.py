"""The checkpoint: what a run has computed so far, as an object and as a file.

`Checkpoint` is the `saveable_objects.SaveableObject` that users load and read.
One rule: saving goes through `_log`, under its lock, and never loses a result that
the file holds. Each result is pickled by itself, so that one that cannot be
unpickled any more costs nothing but itself. This room knows no actors.
"""

import os
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import IO, Any, Self, TypeAlias

import cloudpickle
from saveable_objects import SaveableObject

from . import _child
from ._canonical import form
from ._format import FAILURE, RESULT, Contents, Record, is_held, is_legacy, read
from ._identity import FunctionIdentity, codes_differ, explain_calls, explain_function, fingerprint
from ._log import Log
from ._parameters import read_calls
from .errors import (
    CheckpointCorruptError,
    CheckpointDamagedWarning,
    CheckpointRestartedWarning,
    NotACheckpointError,
)

RawResult: TypeAlias = tuple[bytes, tuple[bytearray, ...]]
"""A result as it was pickled, and its large buffers."""


class Checkpoint(SaveableObject):
    """The progress of a run: which calls are done and what they returned.

    Load one at any time, during the run too, with ``Checkpoint.load(path)``.

    Parameters
    ----------
    func_name : str
        The name of the function.
    parameters : list
        One entry for each call.
    output : list
        The outputs in the order of the parameters; ``None`` for what is missing.
    completed : list of bool
        Which outputs were computed: this tells a ``None`` result from a missing one.
    index : int
        One more than the largest index that was computed so far.
    done : int
        How many outputs were computed.
    path : str, optional
        File to save to. Results that an existing file already holds are kept.

    Attributes
    ----------
    seconds : list of float or None
        How long each call took.
    failures : dict of int to str
        For each call whose last try failed, the traceback as text.
    """

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
        path: str | os.PathLike[str] | None = None,
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
        super().__init__(path=self._updatepathroot(path))

    @classmethod
    def _updatepathroot(cls, path: str | bytes | os.PathLike[Any] | None) -> str | None:
        return None if path is None else str(super()._updatepathroot(os.fsdecode(path)))

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
        for name in ("output", "completed", "done", "_notes"):
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
        Checkpoint
            Good for pickling, and for nothing else.
        """
        copy = self.__class__.__new__(self.__class__)
        copy.__dict__.update(self.__dict__, results=dict(results))
        return copy

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state back; a result that cannot be unpickled is missing, with a warning."""
        results = state.pop("results", None)
        self.__dict__.update(state)
        count = len(self.parameters)
        if results is None:  # release 1.0.5
            self.seconds, self.failures = [None] * count, {}
            self._key, self._codes, self._dependencies, self._notes = None, [0] * count, {}, []
            return
        self._notes = []
        self.output, self.completed, self.done = [None] * count, [False] * count, 0
        for index, (main, buffers) in results.items():
            record = Record(RESULT, index, self.seconds[index] or 0.0, self._codes[index], main, buffers)
            self._apply(record)

    def _apply(self, record: Record) -> None:
        """Take over one record; what cannot be used is noted and counts as missing."""
        if not 0 <= record.index < len(self.output):
            self._note(f"a record of call {record.index} was ignored: there are {len(self.output)} calls")
        elif record.kind == FAILURE:
            self.add_failure(record.index, bytes(record.main).decode("utf-8", "replace"))
        else:
            try:
                output = pickle.loads(record.main, buffers=record.buffers)
            except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
                self._note(
                    f"the result of call {record.index} cannot be unpickled ({error!r}) and counts as missing"
                )
            else:
                self.add_result(record.index, output, record.seconds, record.code)

    def _note(self, text: str) -> None:
        self._notes.append(CheckpointDamagedWarning(text))

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

    def difference(self, saved: "Checkpoint") -> str | None:
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

    def copy_result(self, index: int, source: "Checkpoint", place: int) -> None:
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

    def keep_results(self, saved: "Checkpoint") -> None:
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

    # --- reading files -----------------------------------------------------------------

    @classmethod
    def _load(
        cls,
        file: IO[bytes],
        new_path: str | None = None,
        strict_typing: bool = True,
    ) -> Self:
        name = getattr(file, "name", "the file")
        start = file.read(128)
        file.seek(0)
        if is_legacy(start):
            instance = _load_legacy(file, str(name))
        else:
            contents = read(file, str(name))  # type: ignore[arg-type]
            instance = assemble(contents, str(name))
        if strict_typing and not isinstance(instance, cls):
            msg = f"{name} holds a {type(instance).__qualname__} and not a {cls.__qualname__}"
            raise TypeError(msg)
        for note in instance.take_notes():
            warnings.warn(note, stacklevel=3)
        if new_path is not None:
            instance.path = new_path
        return instance  # type: ignore[no-any-return]

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        new_path: str | None = None,
        strict_typing: bool = True,
    ) -> Self:
        """Read a checkpoint file, during a run too; the file is not changed.

        Parameters
        ----------
        path
            The file. Never open one from a stranger: a pickle can run code.
        new_path
            The path that the object has from now on; by default `path`.
        strict_typing
            Whether anything but a `Checkpoint` is a `TypeError`.

        Returns
        -------
        Checkpoint
            What the file holds at this moment.

        Raises
        ------
        FileNotFoundError
            If there is no file.
        NotACheckpointError, CheckpointVersionError, CheckpointCorruptError
            If the file cannot be read as a checkpoint.
        """
        name = cls._updatepathroot(path)
        if name is None:
            msg = "a path is needed to load a checkpoint from"
            raise TypeError(msg)
        with open(name, "rb") as file:
            return cls._load(file, name if new_path is None else new_path, strict_typing)

    @classmethod
    def loadifparams(
        cls, *args: Any, dependencies: dict[str, Any] | None = None, **kwargs: Any
    ) -> tuple[Self, bool]:
        """Load a checkpoint if it belongs to these arguments, and begin a new one otherwise.

        Function name, parameters and dependencies are compared by value; the other
        arguments are progress and not compared. A file that does not match is set
        aside, with a warning.

        Parameters
        ----------
        *args, **kwargs
            The arguments of `Checkpoint`.
        dependencies
            Further named values that must match.

        Returns
        -------
        Checkpoint, bool
            The checkpoint, and whether it was loaded.
        """
        wanted = unsaved(cls, args, kwargs)
        wanted._dependencies = dict(dependencies or {})
        if wanted.path is not None and os.path.exists(wanted.path) and os.path.getsize(wanted.path):
            saved = cls.load(wanted.path)
            if wanted.difference(saved) is None:
                return saved, True
        if wanted.path is not None:
            wanted.save()
        return wanted, False

    # --- writing files -------------------------------------------------------------------

    def _save(self, path: str, write_mode: str = "wb") -> None:
        """Save atomically; results that the file holds and this object does not are kept."""
        log = Log(path)
        try:
            keep_old = False
            if log.size:
                saved = read_any(log)
                reason = self.difference(saved)
                keep_old = reason is not None
                if reason is None:
                    self.keep_results(saved)
            backup = log.replace(cloudpickle.dumps(self), self._fingerprint(), keep_old=keep_old)
        finally:
            log.close()
        if backup is not None:
            warnings.warn(
                restarted_text(path, backup, reason or ""), CheckpointRestartedWarning, stacklevel=4
            )

    def update_save(self, path: str | None = None) -> bool:
        """Save to a file that exists already.

        Parameters
        ----------
        path
            The file; by default the object's own.

        Returns
        -------
        bool
            True: the arguments that the file was begun with are always kept.

        Raises
        ------
        FileNotFoundError
            If there is no file.
        """
        target = self._getpath(path)
        os.stat(target)
        self.save(target)
        return True

    def _fingerprint(self) -> bytes:
        return fingerprint(self.identity(), read_calls(self.parameters)[1])


# --- files and matching ------------------------------------------------------------


def unsaved(cls: type[Checkpoint], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Construct a checkpoint without the save that its metaclass performs."""
    instance = cls.__new__(cls, *args, **kwargs)
    instance.__init__(*args, **kwargs)  # type: ignore[misc]
    return instance


def pickle_head(checkpoint: Checkpoint, results: Mapping[int, Any]) -> bytes:
    try:
        return bytes(cloudpickle.dumps(checkpoint.with_results(results), pickle.HIGHEST_PROTOCOL))
    except Exception as error:
        msg = (
            f"the parameters cannot be pickled, so they cannot be kept in a checkpoint: {error}. "
            "Pass values that pickle, or leave out path=."
        )
        raise TypeError(msg) from error


def read_any(log: Log) -> Checkpoint:
    """Read the checkpoint of a locked file, of either format."""
    with open(log.path, "rb") as file:
        return Checkpoint._load(file)


def _load_legacy(file: IO[bytes], path: str) -> Any:
    """Read what release 1.0.5 wrote: it saved in place, so a crash may have torn the pickle."""
    try:
        return pickle.load(file)
    except Exception as error:
        msg = f"{path} was written by release 1.0.5 and is damaged ({error!r}). The file was left alone."
        raise CheckpointCorruptError(msg) from error


def assemble(contents: Contents, path: str) -> Any:
    """Make the checkpoint out of a file's head and records, and report damage."""
    try:
        checkpoint = pickle.loads(contents.head)
    except BaseException as error:
        msg = (
            f"the head of {path} cannot be unpickled: {error!r}. The file was left alone. "
            "A module that its parameters need may be missing."
        )
        raise CheckpointCorruptError(msg) from error
    if not isinstance(checkpoint, Checkpoint):
        msg = f"{path} holds a {type(checkpoint).__qualname__} and not a Checkpoint; it was left alone"
        raise NotACheckpointError(msg)
    for record in contents.records:
        checkpoint._apply(record)
    for damage in contents.damages:
        if damage.is_tail and is_held(contents.header):
            continue  # a run is writing this very record
        whose = "" if damage.index is None else f" of call {damage.index}"
        what = "a torn tail" if damage.is_tail else "a damaged record"
        checkpoint._note(
            f"{path}: {what}{whose}, {damage.size} bytes at byte {damage.offset}, was left out; "
            f"{checkpoint.done} of {len(checkpoint.parameters)} results are whole"
        )
    return checkpoint


def plain(main: Any, buffers: Sequence[Any]) -> RawResult:
    """Copy a pickled result into builtin types; bytearrays, so that its arrays stay writable."""
    return bytes(main), tuple(map(bytearray, buffers))


def restarted_text(path: str, backup: str, reason: str, kept: int = 0) -> str:
    carried = f" {kept} results were carried over." if kept else ""
    return f"{path} did not match, so this run starts afresh: {reason}. The old file is {backup}.{carried}"
