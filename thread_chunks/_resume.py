"""Does the file at a path belong to this run, and what of it can be used?

One rule: decide before any call runs, and leave a file that cannot be used as it
is, or set it aside whole. This room knows the checkpoint and its file, and no
actors.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ._checkpoint import (
    Checkpoint,
    about_run,
    assemble,
    pickle_head,
    read_any,
    unsaved,
)
from ._format import Scan, is_legacy
from ._garbage import paused
from ._identity import FunctionIdentity, call_forms, fingerprint, plain_form
from ._log import Log
from ._mismatch import explain_function, kept_by_reuse, mismatch_text, restarted_text
from ._mutation import Mutations
from ._parameters import Calls, read_calls
from ._records import RESULT, Group, Record
from ._sections import Section, as_sections, joined, loaded, sections_of
from ._survey import Passing, survey
from ._travel import check_kept
from .errors import CheckpointMismatchError, CheckpointRestartedWarning, FunctionChangedWarning


@dataclass(slots=True)
class OpenedRun:
    """A checkpoint that is ready for a run, and the file it is held in."""

    checkpoint: Checkpoint
    log: Log
    warnings: list[Warning] = field(default_factory=list)
    is_fresh: bool = False
    """Whether the file was begun by this run."""
    has_unreadable: bool = False
    """Whether it holds results that cannot be unpickled here: it is to be kept before they are superseded."""
    mutations: Mutations | None = None
    """What the arguments of the calls are."""
    results: Iterable[tuple[int, Any]] = ()
    """In a stream: the index and the output of each call that has a result. They are nowhere else, but in the file."""


def open_run(
    path: str,
    identity: FunctionIdentity,
    parameters: list[Any],
    calls: Calls,
    on_mismatch: str,
    *,
    is_stream: bool = False,
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
    is_stream
        Whether results are handed on and not kept.

    Returns
    -------
    OpenedRun
        The checkpoint, its file, held against other runs, and what to warn of.

    Raises
    ------
    CheckpointError
        If the file must be left alone. It is as it was.
    OSError
        If the file cannot be read and written; it names the file.
    TypeError
        If function or parameters cannot be pickled.
    """
    fresh = _fresh(path, identity, parameters)
    plain = plain_form(calls)
    if plain is None:
        pickle_head(fresh, ())  # whether that can be done is to be known before the file is looked at
    forms = list(call_forms(calls)) if plain is None else []
    digest = fingerprint(identity, calls, plain, forms)
    with _named(path), paused():
        run = _Run(digest, plain, calls, identity.arguments, is_stream)
        opened = _open(Log(path), fresh, identity, run, on_mismatch)
        opened.mutations = Mutations(calls, forms)
        return opened


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the file in what the system says of it, where the system does not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = path
        raise


def _open(
    log: Log, fresh: Checkpoint, identity: FunctionIdentity, run: "_Run", on_mismatch: str
) -> OpenedRun:
    try:
        if not log.size:
            warnings = _tried(run)
            log.replace(pickle_head(fresh, (), run.plain), run.digest, about=about_run(fresh, 0))
            return OpenedRun(fresh, log, warnings, is_fresh=True)
        opened = _open_existing(log, fresh, run, on_mismatch)
        opened.warnings.extend(_changed_code(opened.checkpoint, identity))
    except BaseException:
        log.close()
        raise
    return opened


def _tried(run: "_Run") -> list[Warning]:
    """Try, before a file of these parameters is begun, whether they can be read back, and will be recognised."""
    warning = check_kept(run.calls) if run.plain is None else None
    return [] if warning is None else [warning]


class _Run(NamedTuple):
    """What is looked for in the file."""

    digest: bytes
    """The fingerprint."""
    plain: bytes | None
    """The plain form of the calls."""
    calls: Calls
    """The calls."""
    names: Sequence[str]
    """What the function calls its arguments."""
    is_stream: bool
    """Whether results are handed on and not kept."""


class _Found(NamedTuple):
    """What the file at the path is to this run."""

    saved: Checkpoint | None
    """What it holds; ``None`` if it was not read."""
    reason: str | None
    """Why it is of another run, or ``None`` if it is of this one."""
    is_current: bool
    """Whether it can be appended to as it is."""


def _find(log: Log, fresh: Checkpoint, run: _Run, on_mismatch: str) -> _Found:
    """Decide from the header whose file it is; unpickle no more of it than that asks for."""
    if is_legacy(log.start()):
        saved = read_any(log)
        return _Found(saved, fresh.difference(saved, run.names), is_current=False)
    with log.scan() as contents:
        return _find_in(contents, log, fresh, run, on_mismatch)


def _find_in(contents: Scan, log: Log, fresh: Checkpoint, run: _Run, on_mismatch: str) -> _Found:
    if contents.header.fingerprint == run.digest:
        kind = Passing if run.is_stream else Checkpoint
        saved = assemble(contents, log.path, is_growing=False, kind=kind, is_match=True)
        is_current = all(damage.is_tail for damage in contents.damages)
        if run.is_stream and not is_current:  # it will be written anew, results and all
            saved = assemble(contents, log.path, is_growing=False, is_match=True)
        return _Found(saved, None, is_current=is_current)
    if on_mismatch != "reuse":
        if (distrusted := log.distrust) is not None:
            unread = f"it is of another run, and as it {distrusted} it was not read to say what differs"
            return _Found(None, unread, is_current=False)
        saved = survey(contents, log.path)
        if (reason := fresh.difference(saved, run.names)) is not None:
            return _Found(saved, reason, is_current=False)
    saved = assemble(contents, log.path, is_growing=False)
    return _Found(saved, fresh.difference(saved, run.names), is_current=False)


def _open_existing(log: Log, fresh: Checkpoint, run: _Run, on_mismatch: str) -> OpenedRun:
    saved, reason, is_current = _find(log, fresh, run, on_mismatch)
    if saved is None or reason is not None:
        opened = _open_mismatched(log, fresh, run, saved, str(reason), on_mismatch)
    else:
        fresh.keep_results(saved)
        if not is_current:
            # A damaged file is set aside as evidence; another format is fully carried over.
            _write_anew(log, fresh, run.digest, keep_old=saved.has_gaps)
        elif saved.is_mostly_failures:
            log.rewrite(saved.last_failures())
        log.hold()
        opened = OpenedRun(fresh, log, has_unreadable=is_current and saved.has_unreadable)
    if run.is_stream:
        is_in_file = isinstance(saved, Passing)
        opened.results = stored(log.path, fresh.completed) if is_in_file else fresh.give_results_away()
    opened.warnings[:0] = saved.take_notes() if saved is not None else []
    return opened


def _write_anew(log: Log, fresh: Checkpoint, digest: bytes, *, keep_old: bool) -> str | None:
    about = about_run(fresh, fresh.done)
    return log.replace(pickle_head(fresh, fresh.sections()), digest, about=about, keep_old=keep_old)


def _open_mismatched(
    log: Log, fresh: Checkpoint, run: _Run, saved: Checkpoint | None, reason: str, on_mismatch: str
) -> OpenedRun:
    pairs: list[tuple[int, int]] = []
    if saved is not None and explain_function(saved.identity(), fresh.identity()) is None:
        pairs = list(kept_by_reuse(read_calls(saved.parameters)[1], saved.completed, run.calls))
    held = None if saved is None else (saved.done, len(saved.parameters), len(pairs))
    if on_mismatch == "raise":
        raise CheckpointMismatchError(mismatch_text(log.path, reason, held))
    is_lossless = False
    if saved is not None and on_mismatch == "reuse":
        for index, place in pairs:
            fresh.copy_result(index, saved, place)
        is_lossless = 0 < len({place for _, place in pairs}) == saved.done and not saved.has_gaps
    warnings = _tried(run)
    backup = _write_anew(log, fresh, run.digest, keep_old=not is_lossless)
    if backup is None:
        return OpenedRun(fresh, log, warnings)
    text = restarted_text(log.path, backup, reason, held, has_reused=on_mismatch == "reuse")
    return OpenedRun(fresh, log, [*warnings, CheckpointRestartedWarning(text)])


def fold(checkpoint: Checkpoint, log: Log, calls: Calls, records: Iterable[Record | Group] | None) -> None:
    """Rewrite a finished file as one plain pickle; results are copied as they were pickled.

    The arguments of the calls must be as they were: the file shows them so.

    Parameters
    ----------
    checkpoint
        The checkpoint that the file belongs to.
    log
        Its file.
    calls
        The calls of the run.
    records
        Every result as it was pickled; ``None`` to read them from the file.

    Raises
    ------
    OSError
        If it cannot be written; the file is as it was.
    """
    plain = plain_form(calls)
    sections: list[Section] = []
    if records is None:
        contents = log.read()
        sections, records = sections_of(contents.head), contents.records
    results = [record for record in records if isinstance(record, Group) or record.kind == RESULT]
    sections += as_sections(joined(results))
    checkpoint._traces.add_records(results)  # noqa: SLF001
    about = about_run(checkpoint, checkpoint.done)
    log.replace(pickle_head(checkpoint, sections, plain), log.fingerprint, about=about)


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
    checkpoint._parts = tuple((part.what, part.key, part.text) for part in identity.parts)  # noqa: SLF001
    checkpoint._begun = identity.code, tuple((*each,) for each in identity.watched)  # noqa: SLF001
    checkpoint._names = list(identity.names)  # noqa: SLF001
    return checkpoint


def stored(path: str, completed: Sequence[bool]) -> Iterator[tuple[int, Any]]:
    """Read the results of a checkpoint that this run holds, one after the other, and keep none.

    Parameters
    ----------
    path
        The file.
    completed
        Which calls have a result that can be unpickled.

    Yields
    ------
    int, Any
        The index and the output of each.
    """
    left = bytearray(completed)
    with open(path, "rb", buffering=1 << 20) as file:
        scan = Scan(file, path)
        records = (record for record in scan.records if isinstance(record, Group) or record.kind == RESULT)
        for section in itertools.chain(
            sections_of(scan.head), (as_sections([record])[0] for record in records)
        ):
            for index, output in loaded(section):
                if left[index]:
                    left[index] = False
                    yield index, output


def _changed_code(checkpoint: Checkpoint, identity: FunctionIdentity) -> Iterable[Warning]:
    older, what = checkpoint.count_older(identity)
    if older:
        changed = f"the code of {identity.name!r}" if what.is_own else f"what {identity.name!r} uses"
        named = f" ({what.text})" if what.text else ""
        yield FunctionChangedWarning(
            f"{changed} changed{named}: {older} of {checkpoint.done} results in {checkpoint.path} stem from "
            f"{'older code' if what.is_own else 'before that'} and are kept. Delete the file to compute them again."
        )
