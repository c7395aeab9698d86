"""Does the file at a path belong to this run, and what of it can be used?

One rule: decide before any call runs, and leave a file that cannot be used as it
is, or set it aside whole. This room knows the checkpoint and its file, and no
actors.
"""

import io
import pickle
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._checkpoint import (
    Checkpoint,
    assemble,
    pickle_head,
    read_any,
    restarted_text,
    unsaved,
)
from ._format import RESULT, is_legacy
from ._identity import FunctionIdentity, call_form, explain_function, fingerprint
from ._log import Log
from ._parameters import read_calls
from ._state import RawResult, plain
from .errors import CheckpointMismatchError, CheckpointRestartedWarning, FunctionChangedWarning
from .messages import Call


@dataclass(slots=True)
class OpenedRun:
    """A checkpoint that is ready for a run, and the file it is held in."""

    checkpoint: Checkpoint
    log: Log
    warnings: list[Warning] = field(default_factory=list)
    is_fresh: bool = False
    """Whether the file was begun by this run."""


def open_run(
    path: str, identity: FunctionIdentity, parameters: list[Any], calls: Sequence[Call], on_mismatch: str
) -> OpenedRun:
    """Lock the file at a path and find out what of it this run can use.

    Parameters
    ----------
    path
        The file; it need not exist.
    identity, parameters, calls
        The run.
    on_mismatch
        What to do about a file of another run: "restart", "reuse" or "raise".

    Returns
    -------
    OpenedRun
        The checkpoint, its file, held against other runs, and what to warn of.

    Raises
    ------
    CheckpointError
        If the file must be left alone. It is as it was.
    TypeError
        If function or parameters cannot be pickled.
    """
    fresh = _fresh(path, identity, parameters)
    head = pickle_head(fresh, {})
    digest = fingerprint(identity, calls)
    log = Log(path)
    try:
        if not log.size:
            log.replace(head, digest)
            return OpenedRun(fresh, log, is_fresh=True)
        opened = _open_existing(log, fresh, head, digest, calls, on_mismatch)
        opened.warnings.extend(_changed_code(opened.checkpoint, identity))
    except BaseException:
        log.close()
        raise
    return opened


def _open_existing(
    log: Log, fresh: Checkpoint, head: bytes, digest: bytes, calls: Sequence[Call], on_mismatch: str
) -> OpenedRun:
    is_old_format = is_legacy(log.start())
    if is_old_format:
        saved, is_same, is_damaged = read_any(log), False, False
    else:
        contents = log.read()
        is_same = log.fingerprint == digest
        if not is_same and on_mismatch != "reuse" and (distrusted := log.distrust):
            unread = f"it is of another run, and as it {distrusted} it was not read to say what differs"
            return _open_mismatched(log, fresh, head, digest, None, calls, unread, on_mismatch)
        saved = assemble(contents, log.path)
        is_damaged = not all(damage.is_tail for damage in contents.damages)
    if not is_same and (reason := fresh.difference(saved)) is not None:
        opened = _open_mismatched(log, fresh, head, digest, saved, calls, reason, on_mismatch)
    else:
        fresh.keep_results(saved)
        if is_damaged or not is_same:
            # A damaged file is set aside as evidence; another format is fully carried over.
            log.replace(pickle_head(fresh, _sections(fresh)), digest, keep_old=is_damaged)
        log.hold()
        opened = OpenedRun(fresh, log)
    opened.warnings[:0] = saved.take_notes()
    return opened


def _open_mismatched(
    log: Log, fresh: Checkpoint, head: bytes, digest: bytes,
    saved: Checkpoint | None, calls: Sequence[Call], reason: str, on_mismatch: str,
) -> OpenedRun:  # fmt: skip
    if on_mismatch == "raise":
        held = "" if saved is None else f", with {saved.done} of {len(saved.parameters)} results"
        msg = (
            f"{log.path} does not belong to this run: {reason}. It was left alone{held}. "
            'Give this run another path, or pass on_mismatch="restart" or "reuse".'
        )
        raise CheckpointMismatchError(msg)
    is_lossless = False
    if (
        saved is not None
        and on_mismatch == "reuse"
        and explain_function(saved.identity(), fresh.identity()) is None
    ):
        is_lossless = _reuse(saved, fresh, calls)
        head = pickle_head(fresh, _sections(fresh))
    backup = log.replace(head, digest, keep_old=not is_lossless)
    if backup is None:
        return OpenedRun(fresh, log)
    return OpenedRun(
        fresh, log, [CheckpointRestartedWarning(restarted_text(log.path, backup, reason, fresh.done))]
    )


def _reuse(saved: Checkpoint, fresh: Checkpoint, calls: Sequence[Call]) -> bool:
    """Carry over every result whose parameters still occur; tell whether that was all of them."""
    places = defaultdict(list)
    for call in read_calls(saved.parameters)[1]:
        if saved.completed[call.index]:
            places[call_form(call)].append(call.index)
    used: set[int] = set()
    for call in calls:
        if found := places.get(call_form(call)):
            fresh.copy_result(call.index, saved, found[0])
            used.add(found[0])
            del found[: len(found) > 1]
    return len(used) == saved.done


def fold(checkpoint: Checkpoint, log: Log, results: Mapping[int, RawResult] | None) -> None:
    """Rewrite a finished file as one plain pickle; results are copied as they were pickled.

    Parameters
    ----------
    checkpoint
        The checkpoint that the file belongs to.
    log
        Its file.
    results
        Every result as it was pickled; ``None`` to read them from the file.

    Raises
    ------
    OSError
        If it cannot be written; the file is as it was.
    """
    if results is None:
        contents = log.read()
        results = _HeadReader(io.BytesIO(contents.head)).load().results | {
            record.index: plain(record.main, record.buffers)
            for record in contents.records
            if record.kind == RESULT
        }
    log.replace(pickle_head(checkpoint, results), log.fingerprint)


def new_checkpoint(identity: FunctionIdentity, parameters: list[Any]) -> Checkpoint:
    """Make the checkpoint of a run that has no file.

    Parameters
    ----------
    identity, parameters
        The run.

    Returns
    -------
    Checkpoint
        Nothing is completed.
    """
    return _fresh(None, identity, parameters)


def _fresh(path: str | None, identity: FunctionIdentity, parameters: list[Any]) -> Checkpoint:
    count = len(parameters)
    checkpoint: Checkpoint = unsaved(
        Checkpoint, (identity.name, parameters, [None] * count, [False] * count, 0, 0, path), {}
    )
    checkpoint._key = identity.key  # noqa: SLF001
    return checkpoint


def _sections(checkpoint: Checkpoint) -> dict[int, Any]:
    return dict(checkpoint.__getstate__()["results"])


class _RawHead:
    """What `_HeadReader` makes of a head: its results stay as they were pickled."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.results = dict(state["results"])


class _HeadReader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_checkpoint = (module, name) == (Checkpoint.__module__, Checkpoint.__qualname__)
        return _RawHead if is_checkpoint else super().find_class(module, name)


def _changed_code(checkpoint: Checkpoint, identity: FunctionIdentity) -> Iterable[Warning]:
    older = checkpoint.count_older(identity.code)
    if older:
        yield FunctionChangedWarning(
            f"the code of {identity.name!r} changed: {older} of {checkpoint.done} results in "
            f"{checkpoint.path} stem from older code and are kept. Delete the file to compute them again."
        )
