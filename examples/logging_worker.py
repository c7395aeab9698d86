"""A worker that logs each call: which one, on which worker, how long it took, how it failed.

The calls run in child processes. The worker does not: its `execute` runs in a thread of the
script. So there is one logger and one log file, and no process writes into another's lines.
"""

import itertools
import logging
import math
import time
from collections.abc import Callable
from typing import Any

from thread_chunks import Failure, ProcessWorker, chunk


class LoggingWorker(ProcessWorker):
    """Run calls in a child process, and log the beginning and the end of each."""

    numbers = itertools.count()  # of the class: each worker takes the next one

    def __init__(self, func: Callable[..., Any] | None = None, log: str = "calls") -> None:
        super().__init__(func)
        self.log = logging.getLogger(f"{log}.worker_{next(self.numbers)}")

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Log, have the child run the call, and log again; a failure stays one."""
        name = getattr(func, "__name__", type(func).__name__)
        self.log.debug("%s%s begins", name, args)
        start = time.perf_counter()
        try:
            output = super().execute(func, *args, **kwargs)
        except Exception as error:
            self.log.warning("%s%s failed: %s", name, args, error)
            raise
        self.log.info("%s%s took %.3f s", name, args, time.perf_counter() - start)
        return output


def logarithm(x: float) -> float:
    """Compute something that is not defined everywhere."""
    return math.log(x)


logging.basicConfig(
    filename="calls.log",
    filemode="w",
    format="%(name)s %(levelname)s %(message)s",
    level="INFO",
)

outputs = chunk(
    logarithm,
    [[1.0], [0.0], [math.e]],
    worker=LoggingWorker,
    chunk_size=2,
    on_error="return",
)
print(["failed" if isinstance(output, Failure) else output for output in outputs])

with open("calls.log", encoding="utf-8") as lines:
    print(*sorted(line.strip() for line in lines if line.startswith("calls.")), sep="\n")
