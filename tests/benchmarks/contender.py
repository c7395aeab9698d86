"""One contender doing one piece of work in this one fresh interpreter; prints one line of JSON.

``python contender.py peers.joblib add 20000 0 FOLDER``: who, what, how many calls, of
which size, and where files may go. The functions under test are defined here, in
``__main__``, where a user's are. One row times a whole process from cold, so what is
imported at the top is imported by everybody: next to nothing. Every result is checked.
"""

import functools
import importlib
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

WORKERS = len(os.sched_getaffinity(0))

HELD: list[Any] = []
"""The array of a process that was given it when it started."""


class Work(NamedTuple):
    """What is to be done, and how to tell that it was."""

    func: Callable[..., Any]
    calls: list[list[Any]]
    is_right: Callable[[int, Any], bool]
    """Whether this is the output of the call with this index."""
    chunksize: int
    """How many calls a pool that wants to be told hands out at once."""
    folder: str
    measured: dict[str, float]
    """What a contender measured beside the seconds."""
    workers: int = WORKERS


# --- the functions under test --------------------------------------------------------------


def add(x: int, y: int) -> int:
    """Do next to nothing."""
    return x + y


def blob(index: int, size: int) -> bytes:
    """Return bytes that differ from call to call."""
    return index.to_bytes(10, "little") * (size // 10)


def burn(index: int, loops: int) -> int:
    """Keep a processor busy with pure Python: so much work, and not so much time."""
    total = index
    for number in range(loops):
        total += number % 7
    return total


def full(index: int, size: int) -> Any:
    """Return an array, quickly made."""
    numpy = importlib.import_module("numpy")
    return numpy.full(size, float(index))


def total(array: Any) -> float:
    """Take an array and return a number."""
    return float(array.sum())


def peek(array: Any, index: int) -> float:
    """Use an array that the function itself holds."""
    return float(array[index])


def hold(array: Any) -> None:
    """Keep an array in this process: what a pool's initializer does."""
    HELD.append(array)


def peek_held(index: int) -> float:
    """Use the array that this process holds."""
    return float(HELD[0][index])


# --- the work -----------------------------------------------------------------------------

Parts = tuple[Callable[..., Any], list[list[Any]], Callable[[int, Any], bool]]


def work_add(count: int, size: int) -> Parts:
    """Trivial calls; `size` has no meaning."""
    return add, [[i, i + 1] for i in range(count)], lambda i, output: output == 2 * i + 1


def work_blob(count: int, size: int) -> Parts:
    """Results of `size` bytes."""
    return blob, [[i, size] for i in range(count)], lambda i, output: output == blob(i, size)


def work_burn(count: int, size: int) -> Parts:
    """Calls of `size` loops."""
    base = burn(0, size)
    return burn, [[i, size] for i in range(count)], lambda i, output: output == base + i


def work_full(count: int, size: int) -> Parts:
    """Results that are arrays of `size` floats."""
    importlib.import_module("numpy")  # as a user's script would, so that forked processes have it
    return (
        full,
        [[i, size] for i in range(count)],
        lambda i, output: len(output) == size and output[0] == output[-1] == i,
    )


def work_total(count: int, size: int) -> Parts:
    """Parameters that are arrays of `size` floats."""
    return total, [[full(i, size)] for i in range(count)], lambda i, output: output == float(i) * size


def work_peek(count: int, size: int) -> Parts:
    """A function that holds an array of `size` floats."""
    array = importlib.import_module("numpy").arange(float(size))
    return functools.partial(peek, array), [[i] for i in range(count)], lambda i, output: output == i


def prepare(kind: str, count: int, size: int, folder: str) -> Work:
    """Make the parameters of one kind of work.

    Pools hand calls out as `multiprocessing.Pool` does by itself, in four parts for each
    worker; but those of large arrays one by one, as no pool is fast with gigabytes in a pipe.
    """
    func, calls, is_right = globals()[f"work_{kind}"](count, size)
    chunksize = 1 if kind in {"full", "total"} else max(1, count // (4 * WORKERS))
    return Work(func, calls, is_right, chunksize, folder, {})


def peak_mb() -> float:
    """Return the largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main(contender: str, kind: str, count: int, size: int, folder: str) -> None:
    """Time one contender from just before its call to just after, and check what it returned."""
    work = prepare(kind, count, size, folder)
    module, name = contender.split(".")
    steps = getattr(importlib.import_module(module), name)(work)
    run = next(steps)  # imports are done
    start_mb = peak_mb()
    start = time.perf_counter()
    outputs = run()
    work.measured["seconds"] = time.perf_counter() - start
    work.measured.update(start_mb=start_mb, peak_mb=peak_mb())
    work.measured["call_seconds"] = work.measured["seconds"] / count
    assert len(outputs) == count
    assert all(map(work.is_right, range(count), outputs))
    next(steps, None)  # stop what it left running
    work.measured["output_mb"] = sum(getattr(output, "nbytes", 0) for output in outputs) / 1e6
    pairs = ", ".join(f'"{key}": {value!r}' for key, value in work.measured.items())
    sys.stdout.write(f"{{{pairs}}}\n")  # by hand, because importing json takes milliseconds


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
