"""The checkpoint: what a run has computed so far, as an object and as a file.

`Checkpoint` is the `saveable_objects.SaveableObject` that users load and read.
One rule: saving goes through `_log`, under its lock, and never loses a result that
the file holds. What is saved is known to `_state`. This room knows no actors.
"""

import io
import os
import pickle
import warnings
from collections.abc import Sequence
from typing import IO, Any, Self

from saveable_objects import SaveableObject

from . import _definitions
from ._format import About, Contents, Scan, is_held, is_legacy, read
from ._frame import frame_of
from ._garbage import paused
from ._identity import fingerprint
from ._log import Log, distrust
from ._mismatch import restarted_text
from ._parameters import read_calls
from ._sections import BlindReader, Section
from ._state import RunState
from .errors import (
    CheckpointCorruptError,
    CheckpointRestartedWarning,
    CheckpointUntrustedWarning,
    CheckpointVersionError,
    NotACheckpointError,
)


class Checkpoint(RunState, SaveableObject):
    """The progress of a run: which calls are done and what they returned.

    Load one at any time, during the run too, with ``Checkpoint.load(path)``. It is a plain object of the
    thread that loaded it: what a run saves afterwards is not in it. All lists are as long as `parameters`, and
    hold ``None`` where something is not known.

    Parameters
    ----------
    func_name : str
        The name of the function.
    parameters : list
        One entry for each call.
    output : list
        The outputs in the order of the parameters, and as many; ``None`` for what is missing.
    completed : list of bool
        Which outputs were computed: this tells a ``None`` result from a missing one.
    index : int
        One more than the largest index that was computed so far.
    done : int
        How many outputs were computed.
    path : str or os.PathLike, optional
        File to save to, at once, which blocks until it is durable. Results that an existing file already holds
        are kept.

    Attributes
    ----------
    seconds : list of float or None
        How long each call took, in seconds.
    started : list of float or None
        When each call was started, in seconds since 1970.
    workers : list of int or None
        Which worker ran each call, from 0 on.
    peak_memory : list of int or None
        The most memory that the process of each call held while it ran, in bytes.
    failures : dict of int to str
        For each call whose last try failed, the traceback as text.

    Examples
    --------
    >>> from thread_chunks import Checkpoint, chunk
    >>> outputs = chunk(abs, [[-1], ["one"]], path="abs.pkl", on_error="return", progress_bar=False)
    >>> checkpoint = Checkpoint.load("abs.pkl")
    >>> checkpoint.done, checkpoint.output, checkpoint.completed, list(checkpoint.failures)
    (1, [1, None], [True, False], [1])
    """

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
        RunState.__init__(self, func_name, parameters, output, completed, index, done)
        SaveableObject.__init__(self, path=self._updatepathroot(path))

    @classmethod
    def _updatepathroot(cls, path: str | bytes | os.PathLike[Any] | None) -> str | None:
        return None if path is None else str(super()._updatepathroot(os.fsdecode(path)))

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
            with paused():
                contents = read(file, str(name))  # type: ignore[arg-type]
                instance = assemble(contents, str(name), is_growing=is_held(contents.header))
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

        Runs in the thread that calls it, and blocks it until the file is read; it waits for no lock.

        Parameters
        ----------
        path : str or os.PathLike
            The file. Never open one from a stranger: a pickle can run code.
        new_path : str, optional
            The path that the object has from now on; by default `path`.
        strict_typing : bool, optional
            Whether a checkpoint of another class than the one that `load` is called on, such as a subclass of
            yours, is a `TypeError`. By default it is.

        Returns
        -------
        Checkpoint
            What the file holds at this moment.

        Raises
        ------
        FileNotFoundError, OSError
            If there is no file, or it cannot be read.
        NotACheckpointError, CheckpointVersionError, CheckpointCorruptError
            If the file cannot be read as a checkpoint.
        TypeError
            If `path` is none, or as `strict_typing` says.

        Warns
        -----
        CheckpointUntrustedWarning
            If another user could have written the file: before anything in it is unpickled.
        CheckpointDamagedWarning
            If results in it are damaged, or cannot be unpickled: they count as missing.

        Examples
        --------
        >>> from thread_chunks import Checkpoint, Chunker
        >>> with Chunker(abs, chunk_size=1, progress_bar=False) as chunker:
        ...     for index, output in chunker.as_completed([[-5], [-7]], path="abs.pkl"):
        ...         print(Checkpoint.load("abs.pkl").done > index)  # in the middle of the run
        True
        True
        """
        name = cls._updatepathroot(path)
        if name is None:
            msg = "a path is needed to load a checkpoint from"
            raise TypeError(msg)
        if os.path.exists(name) and not os.path.isfile(name):
            msg = f"{name} is not a regular file, so it cannot be a checkpoint"
            raise NotACheckpointError(msg)
        with open(name, "rb") as file:
            reason = distrust(os.fstat(file.fileno()))
            if reason is not None:
                warnings.warn(untrusted(name, reason), stacklevel=2)
            return cls._load(file, name if new_path is None else new_path, strict_typing)

    @classmethod
    def loadifparams(
        cls, *args: Any, dependencies: dict[str, Any] | None = None, **kwargs: Any
    ) -> tuple[Self, bool]:
        """Load a checkpoint if it belongs to these arguments, and begin a new one otherwise.

        Function name, parameters and dependencies are compared by value; the other
        arguments are progress and not compared. A file that does not match is set
        aside, with a warning. Runs in the thread that calls it, and blocks it until the
        file is read, or the new one is durable.

        Parameters
        ----------
        *args, **kwargs : Any
            The arguments of `Checkpoint`.
        dependencies : dict of str to Any, optional
            Further named values that must match.

        Returns
        -------
        Checkpoint, bool
            The checkpoint, and whether it was loaded.

        Raises
        ------
        CheckpointLockedError
            If a run holds a file that does not match.
        CheckpointError, OSError
            As for `load`, but for a file that is not there.

        Warns
        -----
        CheckpointRestartedWarning
            If the file does not match: it was set aside.

        Examples
        --------
        >>> from thread_chunks import Checkpoint
        >>> for _ in range(2):
        ...     checkpoint, was_there = Checkpoint.loadifparams("f", [[1]], [None], [False], 0, 0, path="f.pkl")
        ...     print(was_there)
        False
        True
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

    def to_frame(self) -> Any:
        """Return a table with one row for each call; its index is that of the call.

        The parameters come first, named and ordered as in the signature of the function. Those
        of a function without a signature are called ``arg0``, ``arg1``; those that ``*rest``
        takes, ``rest_0``, ``rest_1``. What a call does not give is missing. Then follow:

        - ``output``: what it returned. Values other than numbers and texts stay the objects they are.
        - ``completed``: whether it has a result.
        - ``seconds``: how long it took.
        - ``started``: when it was started, in UTC.
        - ``worker``: which worker ran it.
        - ``peak_memory``: in bytes.
        - ``error``: if its last try failed, the last line of the traceback.

        A parameter that has one of these names gets an underscore behind it, as ``output_``. The table is made in
        the thread that calls this, from what is in memory: it reads no file.

        Returns
        -------
        pandas.DataFrame
            Numbers with gaps are nullable integers, or floats with NaN.

        Raises
        ------
        ImportError
            If pandas is not installed.

        Examples
        --------
        >>> from thread_chunks import Checkpoint, chunk
        >>> outputs = chunk(pow, [[2, 3], [2, 4]], path="pow.pkl", progress_bar=False)
        >>> frame = Checkpoint.load("pow.pkl").to_frame()
        >>> frame["exp"].tolist(), frame["output"].tolist(), frame.index.name
        ([3, 4], [8, 16], 'call')
        """
        return frame_of(self, self._names)

    # --- writing files -------------------------------------------------------------------

    def _save(self, path: str, write_mode: str = "wb") -> None:
        """Save atomically; results that the file holds and this object does not are kept."""
        log = Log(path)
        try:
            reason, keep_old = None, False
            if log.size:
                if log.distrust is not None:
                    warnings.warn(untrusted(path, log.distrust), stacklevel=4)
                saved = read_any(log)
                for note in saved.take_notes():
                    warnings.warn(note, stacklevel=4)
                reason = self.difference(saved)
                keep_old = reason is not None or saved.has_gaps
                if reason is None:
                    self.keep_results(saved)
            head, about = _definitions.dumps(self), about_run(self, self.done)
            backup = log.replace(head, self._fingerprint(), about=about, keep_old=keep_old)
        finally:
            log.close()
        if reason is not None:
            warnings.warn(restarted_text(path, str(backup), reason), CheckpointRestartedWarning, stacklevel=4)

    def update_save(self, path: str | None = None) -> bool:
        """Save to a file that exists already, in the thread that calls this; blocks until it is durable.

        Parameters
        ----------
        path : str, optional
            The file; by default the object's own.

        Returns
        -------
        bool
            True: the arguments that the file was begun with are always kept.

        Raises
        ------
        FileNotFoundError
            If there is no file.
        ValueError
            If neither `path` nor the object names one.
        CheckpointLockedError
            If a run holds the file.

        Warns
        -----
        CheckpointRestartedWarning
            If the file belongs to another function or other parameters: it was set aside.
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


def file_of(path: str) -> str:
    """Return the file that a path means: without an extension it is ``NAME_Checkpoint.pkl``."""
    return str(Checkpoint._updatepathroot(path))


def pickle_head(checkpoint: Checkpoint, results: Sequence[Section], plain: bytes | None = None) -> bytes:
    """Pickle a checkpoint with results that are pickled already, and with the plain form of its rows, if any."""
    try:
        return _definitions.dumps(checkpoint.with_results(results, plain))
    except Exception as error:
        msg = (
            f"the parameters cannot be pickled, so they cannot be kept in a checkpoint: {error}. "
            "Pass values that pickle, or leave out path=."
        )
        raise TypeError(msg) from error


def about_run(checkpoint: Checkpoint, folded: int) -> About:
    """Return what the header of a file says of a run, with so many results in its head."""
    return About(checkpoint.func_name, len(checkpoint.output), folded)


def read_any(log: Log) -> Checkpoint:
    """Read the checkpoint of a locked file, of either format."""
    if not is_legacy(log.start()):
        checkpoint: Checkpoint = assemble(log.read(), log.path, is_growing=False)
        return checkpoint
    with open(log.path, "rb") as file:
        return Checkpoint._load(file)


def _load_legacy(file: IO[bytes], path: str) -> Any:
    """Read what release 1.0.5 wrote: it saved in place, so a crash may have torn the pickle."""
    try:
        return pickle.load(file)
    except Exception as error:
        msg = f"{path} was written by release 1.0.5 and is damaged ({error!r}). The file was left alone."
        raise CheckpointCorruptError(msg) from error


def assemble(
    contents: Contents | Scan,
    path: str,
    *,
    is_growing: bool,
    kind: type[Checkpoint] = Checkpoint,
    is_match: bool = False,
) -> Any:
    """Make the checkpoint out of a file's head and records, and report damage.

    A file that grows while it is read ends in the record that its run is just writing. Of one
    that matches by its digest, the parameters are those of the run, and need not be readable.
    """
    checkpoint = load_head(contents.head, path, kind, is_match=is_match)
    for record in contents.records:
        checkpoint._apply(record)
    for damage in contents.damages:
        if damage.is_tail and is_growing:
            continue
        whose = "" if damage.index is None else f" of call {damage.index}"
        what = "a torn tail" if damage.is_tail else "a damaged record"
        checkpoint._note(
            f"{path}: {what}{whose}, {damage.size} bytes at byte {damage.offset}, was left out; "
            f"{checkpoint.done} of {len(checkpoint.output)} results are whole",
            is_gap=not damage.is_tail,
        )
    return checkpoint


class HeadReader(pickle.Unpickler):
    """Unpickle a head, the checkpoint in it as another class."""

    def __init__(self, head: bytes, kind: type) -> None:
        super().__init__(io.BytesIO(head))
        self._kind = kind

    def find_class(self, module: str, name: str) -> Any:
        is_checkpoint = (module, name) == (Checkpoint.__module__, Checkpoint.__qualname__)
        return self._kind if is_checkpoint else super().find_class(module, name)


def load_head(head: bytes, path: str, kind: type[Checkpoint], *, is_match: bool = False) -> Any:
    """Unpickle the head of a file, the checkpoint in it as one of this class; the errors are those of `read`.

    One that matches is read without its parameters, should they be unreadable.
    """
    if head[:1] == b"\x80" and head[1] > pickle.HIGHEST_PROTOCOL:
        msg = (
            f"{path} was written by a newer Python (pickle protocol {head[1]}; this one reads up "
            f"to {pickle.HIGHEST_PROTOCOL}). It was left alone. Use that Python to read it."
        )
        raise CheckpointVersionError(msg)
    try:
        try:
            checkpoint = HeadReader(head, kind).load()
        except BaseException:
            if not is_match:
                raise
            checkpoint = BlindReader(head, kind).load()
    except BaseException as error:
        msg = (
            f"the head of {path} cannot be unpickled: {error!r}. The file was left alone. A module that its "
            "parameters need may be missing, or an object among them pickles and does not unpickle. "
            "A run of the same function with the same parameters resumes from it all the same."
        )
        raise CheckpointCorruptError(msg) from error
    if not isinstance(checkpoint, Checkpoint):
        msg = f"{path} holds a {type(checkpoint).__qualname__} and not a Checkpoint; it was left alone"
        raise NotACheckpointError(msg)
    return checkpoint


def untrusted(path: str, reason: str) -> CheckpointUntrustedWarning:
    return CheckpointUntrustedWarning(
        f"{path} {reason}. A checkpoint is a pickle, and loading one can run code of whoever wrote it. "
        "If you trust them, make a copy of your own, with cp, and use that."
    )
