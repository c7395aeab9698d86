"""The calls of a run that failed for good, and what the user gets for each.

One rule: an error names its call and the parameters of that. This room knows
calls and what the user asked for, and nothing of actors.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress

from ._inside import is_script
from ._job import Job
from ._notices import add_note
from ._parameters import last_line, shown
from .errors import CallExitError, CallTimeoutError, Failure, WorkerDiedError
from .messages import FailedCall

_EXITS = (SystemExit, KeyboardInterrupt, StopIteration, CancelledError)
"""Beside what is no `Exception`. An event loop takes the cancellation of a future for one of its own task, and from a
thread it takes no ``StopIteration`` at all: that of Python 3.11 waits for ever."""

log = logging.getLogger("thread_chunks")


class Failures:
    """Those of one run, in the order in which they came.

    Parameters
    ----------
    job
        What is run.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._failed: list[FailedCall] = []

    def add(self, failed: FailedCall) -> None:
        """Keep one, and log it at once.

        Parameters
        ----------
        failed
            The call and what it raised.
        """
        self._failed.append(failed)
        text = last_line(failed.traceback)
        log.warning("call %d, with parameters %s, failed: %s", failed.index, self._shown(failed), text)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._failed)

    def error(self) -> BaseException | None:
        """Return what is to be raised at the end of the run.

        Returns
        -------
        BaseException or None
            What the first one raised, a group of all, or nothing, by the ``on_error`` option.
        """
        mode = self._job.options.on_error
        if mode == "return" or not self._failed:
            return None
        if mode == "raise":
            return self._raised(self._failed[0])
        errors = [self._raised(failed) for failed in self._failed]
        return BaseExceptionGroup(f"{len(errors)} of {len(self._job.calls)} calls failed", errors)

    def returned(self) -> Iterator[tuple[int, Failure]]:
        """Yield what stands in the place of each output, if the user asked for that.

        Yields
        ------
        int, Failure
            The index of the call.
        """
        for failed in self._failed if self._job.options.on_error == "return" else ():
            parameters = self._job.parameters[failed.index]
            yield failed.index, Failure(self._described(failed), failed.index, parameters, failed.traceback)

    def _raised(self, failed: FailedCall) -> BaseException:
        """Return what stands for a failure where it is raised: an exit ends scripts, and nothing around `chunk`."""
        error = self._described(failed)
        if (isinstance(error, Exception) and not isinstance(error, _EXITS)) or is_script():
            return error
        msg = f"call {failed.index}, with parameters {self._shown(failed)}, ended with {shown(error)}"
        exit_error = CallExitError(msg)
        exit_error.__cause__ = error
        return exit_error

    def _described(self, failed: FailedCall) -> BaseException:
        """Name the call in its exception."""
        error = failed.exception
        if isinstance(error, (WorkerDiedError, CallTimeoutError)) and error.parameters is None:
            with suppress(Exception):  # a class of the user's may refuse
                error.index, error.parameters = failed.index, self._job.parameters[failed.index]
        add_note(error, f"in call {failed.index}, with parameters {self._shown(failed)}")
        if isinstance(error, MemoryError):
            add_note(error, "a smaller chunk_size needs less memory")
        return error

    def _shown(self, failed: FailedCall) -> str:
        return shown(self._job.parameters[failed.index])
