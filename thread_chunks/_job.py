"""What the user asked for, read and checked before anything starts.

One rule: after `Job.read` nothing about the input can be wrong any more, but for
what only the file or the function itself can tell. This room knows no actors.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from . import _inside, config
from ._checkpoint import Checkpoint
from ._meant import meant
from ._options import Options, check_function, check_runs, check_switch, checked_size, sends_parameters
from ._parameters import Calls, read_calls, shown
from ._policy import RestartPolicy, RunPolicy
from ._travel import check, is_plain
from .worker import Worker


@dataclass(frozen=True, slots=True)
class Job:
    """What the user asked for, read and checked.

    Attributes
    ----------
    func : callable or None
        The function; ``None`` for the workers' own.
    parameters : list
        The entries as they were given.
    calls : Calls
        The same, as calls.
    path : str or None
        The checkpoint file.
    has_bar : bool
        Whether to show progress.
    options : Options
        Everything else.
    chunk_size : int
        How many calls may run at the same time.
    is_plain : bool
        Whether the parameters are nothing but scalars, and so are known to pickle.
    stop_before : float or None
        When the run has to be over, in seconds since 1970.
    """

    func: Callable[..., Any] | None
    parameters: list[Any]
    calls: Calls
    path: str | None
    has_bar: bool
    options: Options
    chunk_size: int
    is_plain: bool
    stop_before: float | None

    @classmethod
    def read(
        cls,
        func: Callable[..., Any] | None,
        parameters: Iterable[Any],
        path: str | os.PathLike[str] | None,
        progress_bar: bool | None,
        options: Options,
        chunk_size: int | None,
        kinds: Sequence[type[Worker]],
    ) -> Self:
        """Check everything that can be checked before anything starts.

        Parameters
        ----------
        func, parameters, path, progress_bar, options, chunk_size
            As the user gave them.
        kinds
            The classes of the workers.

        Returns
        -------
        Job
            Ready to run.
        """
        _inside.check_imported(func)
        stop_before = options.time_limit()  # first: to read the parameters can take long
        check_function(func)
        check_runs(func, kinds)
        check_switch("progress_bar", progress_bar)
        size, name = checked_size(chunk_size), checked_path(path)
        options.check_kinds(kinds)
        entries, calls = read_calls(parameters)
        if not (plain := is_plain(calls)) and sends_parameters(kinds):
            check(
                calls, "sent to another process", "use worker=ThreadWorker" + (" and no path" if name else "")
            )
        elif not plain and name is not None:
            check(calls, "kept in a checkpoint", "leave path= out")
        # A run in a call is part of another one, which has the bar.
        has_bar = config.progress_bar and not _inside.is_in_call() if progress_bar is None else progress_bar
        return cls(func, entries, calls, name, bool(has_bar), options, size, plain, stop_before)

    @property
    def policy(self) -> RunPolicy:
        """The rules for the plan."""
        return RunPolicy(
            stop_at_failure=self.options.on_error == "raise",
            retries=self.options.retries,
            one_by_one=self.options.timeout is not None,
            backlog_bytes=config.backlog_bytes,
            max_memory=self.options.memory_limit,
            stop_before=self.stop_before,
            restart=RestartPolicy(
                call_restarts=config.call_restarts,
                budget=config.restart_budget * self.chunk_size,
                seconds=config.restart_seconds,
                grace=config.grace_seconds,
            ),
        )


def checked_path(path: str | os.PathLike[str] | None) -> str | None:
    """Return the whole name of the checkpoint file.

    Parameters
    ----------
    path
        What the user said.

    Returns
    -------
    str or None
        An absolute path; ``None`` for no file.

    Raises
    ------
    TypeError, ValueError
        If it is no path, or none of a file.
    """
    if path is None:
        return None
    if not isinstance(path, (str, bytes, os.PathLike)):
        msg = f"path must be the name of a file, such as 'results.pkl', and not {shown(path)}{meant(path)}"
        raise TypeError(msg)
    text = os.fsdecode(path)
    if not text or os.path.basename(text) in {".", ".."} or "\0" in text:
        msg = f"path must name a file, such as {os.path.join(text.split(chr(0))[0], 'results.pkl')!r}, not {text!r}"
        raise ValueError(msg)
    return os.path.abspath(Checkpoint._updatepathroot(text) or "")  # noqa: SLF001
