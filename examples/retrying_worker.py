"""A worker that tries again, but only what may succeed the next time, and not at once.

``retries=2`` tries every call that raised again, whatever it raised, at the end of the list. A
service that is busy wants something else: the same call, after a pause, and a longer one after
each failure. The pauses are random, so that workers that were turned away together do not come
back together (Brooker, "Exponential Backoff And Jitter", 2015, calls it *full jitter*).
"""

import functools
import random
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from thread_chunks import CallTimeoutError, ProcessWorker, WorkerDiedError, chunk


class RetryingWorker(ProcessWorker):
    """Run calls in a child process; wait and try again where that may help.

    Parameters
    ----------
    func : callable, optional
        The function.
    retry_on : tuple of exception types
        What may go away by itself.
    tries : int
        How often a call is tried.
    pause : float
        The longest pause after the first failure, in seconds; it doubles with each.
    """

    def __init__(
        self,
        func: Callable[..., Any] | None = None,
        retry_on: tuple[type[Exception], ...] = (OSError,),
        tries: int = 5,
        pause: float = 0.5,
    ) -> None:
        super().__init__(func)
        self.retry_on = retry_on
        self.tries = tries
        self.pause = pause

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Try, and pause; the last failure is the call's."""
        for failures in range(self.tries - 1):
            try:
                return super().execute(func, *args, **kwargs)
            except (WorkerDiedError, CallTimeoutError):
                raise  # it is about the process: the supervisor decides
            except self.retry_on:
                time.sleep(random.uniform(0, self.pause * 2**failures))
        return super().execute(func, *args, **kwargs)


BUSY = 2


def download(name: str, folder: str) -> str:
    """Stand in for a service that turns away the first ones who ask for a file."""
    visitors = Path(folder, name)
    with visitors.open("a") as file:
        file.write("x")
    if visitors.stat().st_size <= BUSY:
        message = f"{name}: the service is busy"
        raise ConnectionError(message)
    return f"{name} after {visitors.stat().st_size} tries"


patient = functools.partial(RetryingWorker, retry_on=(ConnectionError,), pause=0.05)

with TemporaryDirectory() as folder:
    print(
        *chunk(
            download,
            [["one", folder], ["two", folder], ["three", folder]],
            worker=patient,
        ),
        sep="\n",
    )
