"""Decide how calls are carried out: three workers of our own.

A worker is a class with one method to override: ``execute(func, *args, **kwargs)``.
Every call of a run comes through it, in the worker's own thread.
"""

import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from thread_chunks import ProcessWorker, ThreadWorker, chunk


class TimedWorker(ThreadWorker):
    """Run calls in threads, and print how long each took.

    The prefix is an argument of the constructor, so the class is handed to
    `chunk` as ``functools.partial(TimedWorker, prefix=...)``.
    """

    def __init__(self, func: Callable[..., Any] | None = None, prefix: str = "") -> None:
        super().__init__(func)
        self.prefix = prefix

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run the call between two looks at the clock."""
        start = time.perf_counter()
        output = super().execute(func, *args, **kwargs)
        print(f"{self.prefix}call{args} took {time.perf_counter() - start:.1f} s")
        return output


class PatientWorker(ProcessWorker):
    """Run calls in child processes; wait and try again where something was busy.

    ``retries=`` tries every kind of failure again, at once. This worker chooses
    which ones, and how long to wait.
    """

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run the call in the child; three attempts, and a longer pause after each."""
        for pause in (0.1, 0.2):
            try:
                return super().execute(func, *args, **kwargs)
            except BlockingIOError:
                time.sleep(pause)
        return super().execute(func, *args, **kwargs)


class TakingTurns(ProcessWorker):
    """Run calls in child processes, but those with ``exclusive=True`` one at a time.

    The override runs in the script's process, so all workers share this lock.
    """

    turn = threading.Lock()

    def execute(self, func: Callable[..., Any], /, *args: Any, exclusive: bool = False, **kwargs: Any) -> Any:
        """Take ``exclusive`` out of the parameters; the function never sees it."""
        if not exclusive:
            return super().execute(func, *args, **kwargs)
        with self.turn:
            return super().execute(func, *args, **kwargs)


def wait(seconds: float) -> float:
    """Stand in for work that does not need the interpreter: a download, a large matrix."""
    time.sleep(seconds)
    return seconds


def read_when_ready(file: str) -> str:
    """Fail the first time, as a device that is still busy does."""
    path = Path(file)
    if not path.exists():
        path.write_text("ready")
        message = f"{path.name} is busy"
        raise BlockingIOError(message)
    return path.read_text()


print(chunk(wait, [[0.3], [0.1], [0.2]], worker=functools.partial(TimedWorker, prefix="  ")))

with TemporaryDirectory() as folder:
    print(chunk(read_when_ready, [[f"{folder}/one"], [f"{folder}/two"]], worker=PatientWorker))

print(chunk(pow, [{"base": 2, "exp": 10}, {"base": 3, "exp": 4, "exclusive": True}], worker=TakingTurns))
