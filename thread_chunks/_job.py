"""What the user asked for, read and checked before anything starts.

One rule: after `Job.read` nothing about the input can be wrong any more, but for
what only the file or the function itself can tell. This room knows no actors.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from . import config
from ._checkpoint import Checkpoint
from ._options import Options, checked_size
from ._parameters import Calls, read_calls
from ._policy import RestartPolicy, RunPolicy


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
    """

    func: Callable[..., Any] | None
    parameters: list[Any]
    calls: Calls
    path: str | None
    has_bar: bool
    options: Options
    chunk_size: int

    @classmethod
    def read(
        cls,
        func: Callable[..., Any] | None,
        parameters: Iterable[Any],
        path: str | os.PathLike[str] | None,
        progress_bar: bool | None,
        options: Options,
        chunk_size: int | None,
    ) -> Self:
        """Check everything that can be checked before anything starts.

        Parameters
        ----------
        func, parameters, path, progress_bar, options, chunk_size
            As the user gave them.

        Returns
        -------
        Job
            Ready to run.
        """
        if func is not None and not callable(func):
            msg = f"func must be a function, not {func!r}"
            raise TypeError(msg)
        entries, calls = read_calls(parameters)
        name = None if path is None else os.path.abspath(Checkpoint._updatepathroot(path) or "")  # noqa: SLF001
        has_bar = config.progress_bar if progress_bar is None else progress_bar
        return cls(func, entries, calls, name, bool(has_bar), options, checked_size(chunk_size))

    @property
    def policy(self) -> RunPolicy:
        """The rules for the plan."""
        return RunPolicy(
            stop_at_failure=self.options.on_error == "raise",
            retries=self.options.retries,
            one_by_one=self.options.timeout is not None,
            backlog_bytes=config.backlog_bytes,
            max_memory=self.options.memory_limit,
            restart=RestartPolicy(
                call_restarts=config.call_restarts,
                budget=config.restart_budget * self.chunk_size,
                seconds=config.restart_seconds,
                grace=config.grace_seconds,
            ),
        )
