"""How pools take one bad call among three: run the same bad calls through each, and print a table.

Run it with ``python tests/faults/compare.py``; it needs the extra ``bench``. Each case is
a program in an interpreter and a session of its own, which is killed after `LIMIT`
seconds. Every pool is used as its own documentation does it when each call's outcome
counts: three calls are handed in, one of them is bad, and all three
outcomes are collected. Judged is what comes back of the other two:

isolates
    Both other results come back, and the bad call is an error of its own.
all fail
    Neither comes back: each outcome is an error.
one fails
    One of them comes back.
wrong
    The bad call is reported as a result.
hangs
    Something is still waited for at the limit.
dies
    The program of the user ended without its outcomes.

There are two workers, and the good calls take `GOOD` seconds: one of them is under way
and the other waits while the bad one does its worst, at once. Nothing here is a test: pools
differ on purpose, and what they promise is theirs to say.
"""

import concurrent.futures
import contextlib
import ctypes
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thread_chunks import Failure, chunk

LIMIT = 8.0
"""Seconds for one case."""

GOOD = 0.5
"""Seconds that a good call takes."""

HANG = 2.0
"""Seconds that a call may take, where a pool takes a time-out."""


# --- the bad calls; this very file is what the pools' processes import ---------------------


class LoadingError(Exception):
    """An exception that pickles, and fails to unpickle: the usual bug of two arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


class HeldError(Exception):
    """An exception that holds something that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("it holds a generator")
        self.held = (number for number in range(0))


class FailsAtLoad:
    """A result whose unpickling raises."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


class ExitsAtLoad:
    """A result whose unpickling exits."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)


def _segfault() -> None:
    ctypes.string_at(0)


def _raise(error: BaseException) -> None:
    raise error


def _nested() -> list[Any]:
    result: list[Any] = []
    for _ in range(100_000):
        result = [result]
    return result


def _hang() -> None:
    while True:
        pass


CALLS: dict[str, tuple[str, Callable[[], Any]]] = {
    "exit": ("`os._exit(3)`", lambda: os._exit(3)),
    "kill": ("killed by SIGKILL", lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "segfault": ("segmentation fault", _segfault),
    "exception-load": ("exception that fails to unpickle", lambda: _raise(LoadingError(1, 2))),
    "exception-dump": ("exception that cannot be pickled", lambda: _raise(HeldError())),
    "result-dump": ("result that cannot be pickled", lambda: (number for number in range(0))),
    "result-load": ("result that fails at unpickling", FailsAtLoad),
    "result-exit": ("result that exits at unpickling", ExitsAtLoad),
    "system-exit": ("`SystemExit` in f", lambda: _raise(SystemExit(3))),
    "interrupt": ("`KeyboardInterrupt` in f", lambda: _raise(KeyboardInterrupt())),
    "generator-exit": ("`GeneratorExit` in f", lambda: _raise(GeneratorExit())),
    "nested": ("too deeply nested result", _nested),
    "hang": (f"never ends (pool's own time-out of {HANG:g} s, if it has one)", _hang),
}


def work(number: int, name: str) -> Any:
    """Be one of three calls: the second is the bad one."""
    if number == 1:
        return CALLS[name][1]()
    time.sleep(GOOD)
    return number


# --- the pools: each returns or raises each call's outcome through `note` -------------------

Note = Callable[[int, Callable[[], Any]], None]


def _multiprocessing(name: str, note: Note) -> None:
    """``apply_async`` for each call; ``get`` takes a time-out, which gives up waiting."""
    with multiprocessing.Pool(2) as pool:
        waiting = [pool.apply_async(work, (number, name)) for number in range(3)]
        for number in (0, 2, 1):
            limit = HANG if (name, number) == ("hang", 1) else None
            note(number, lambda found=waiting[number], limit=limit: found.get(limit))  # type: ignore[misc]


def _futures(name: str, note: Note) -> None:
    """``submit`` for each call; ``result`` takes a time-out, which gives up waiting."""
    _submit(concurrent.futures.ProcessPoolExecutor(2), name, note)


def _loky(name: str, note: Note) -> None:
    """``submit`` for each call, as with `concurrent.futures`."""
    _submit(importlib.import_module("loky").get_reusable_executor(2), name, note)


def _submit(pool: Any, name: str, note: Note) -> None:
    waiting = [pool.submit(work, number, name) for number in range(3)]
    for number in (0, 2, 1):
        limit = HANG if (name, number) == ("hang", 1) else None
        note(number, lambda found=waiting[number], limit=limit: found.result(limit))  # type: ignore[misc]
    pool.shutdown(wait=name != "hang", cancel_futures=True)


def _joblib(name: str, note: Note) -> None:
    """``return_as="generator_unordered"``: results as they come, until an error ends the generator."""
    joblib = importlib.import_module("joblib")
    parallel = joblib.Parallel(
        n_jobs=2, return_as="generator_unordered", timeout=HANG if name == "hang" else None, batch_size=1
    )
    results = parallel(joblib.delayed(_labelled)(number, name) for number in range(3))
    missing = {0, 1, 2}
    try:
        for number, value in results:
            missing.remove(number)
            note(number, lambda value=value: value)  # type: ignore[misc]
    except BaseException as error:  # noqa: BLE001 - it is the outcome of all that did not come
        for number in missing:
            note(number, lambda error=error: _raise(error))  # type: ignore[misc]


def _labelled(number: int, name: str) -> Any:
    return number, work(number, name)


def _pebble(name: str, note: Note) -> None:
    """``schedule`` for each call, with its time-out, which kills the call."""
    pebble = importlib.import_module("pebble")
    with pebble.ProcessPool(max_workers=2) as pool:
        waiting = [
            pool.schedule(work, args=[number, name], timeout=HANG if name == "hang" else None)
            for number in range(3)
        ]
        for number in (0, 2, 1):
            note(number, waiting[number].result)


def _mpire(name: str, note: Note) -> None:
    """``apply_async`` for each call, with its time-out, which kills the call."""
    mpire = importlib.import_module("mpire")
    with mpire.WorkerPool(n_jobs=2) as pool:
        limit = HANG if name == "hang" else None
        waiting = [pool.apply_async(work, args=(number, name), task_timeout=limit) for number in range(3)]
        for number in (0, 2, 1):
            note(number, waiting[number].get)


def _thread_chunks(name: str, note: Note) -> None:
    """``chunk(..., on_error="return")``, with its time-out, which kills the call."""
    outputs = chunk(
        work, [[number, name] for number in range(3)], chunk_size=2, on_error="return", progress_bar=False,
        timeout=HANG if name == "hang" else None,
    )  # fmt: skip
    for number, output in enumerate(outputs):
        if isinstance(output, Failure):
            note(number, lambda error=output.exception: _raise(error))  # type: ignore[misc]
        else:
            note(number, lambda value=output: value)  # type: ignore[misc]


POOLS: dict[str, Callable[[str, Note], None]] = {
    "mp.Pool": _multiprocessing,
    "ProcessPoolExecutor": _futures,
    "loky": _loky,
    "joblib": _joblib,
    "Pebble": _pebble,
    "mpire": _mpire,
    "thread-chunks": _thread_chunks,
}


# --- one case: a program that notes each outcome in a file as soon as it knows it -----------


def run_case(pool: str, name: str, log: str) -> None:
    """Hand in the three calls and note their outcomes."""

    def note(number: int, outcome: Callable[[], Any]) -> None:
        try:
            outcome()
        except BaseException as error:  # noqa: BLE001 - it is the outcome
            text = type(error).__name__
        else:
            text = "returned"
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps([number, text]) + "\n")

    POOLS[pool](name, note)


def judge(outcomes: dict[int, str], *, has_ended: bool) -> str:
    """Say in a few words what became of the calls."""
    others = [outcomes.get(number) for number in (0, 2)]
    bad = outcomes.get(1)
    if None in others or bad is None:
        back = sum(other == "returned" for other in others)
        lost = "dies" if has_ended else "hangs"
        return lost if not back else f"{lost} ({back} of 2 came back)"
    if bad == "returned":
        return "wrong: reported as a result"
    if others == ["returned", "returned"]:
        return "isolates" if has_ended else "isolates, then hangs at the end"
    if "returned" in others:
        return f"one fails ({next(other for other in others if other != 'returned')})"
    return f"all fail ({others[0]})"


def measure(pool: str, name: str) -> str:
    """Run one case in a session of its own and judge it."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        process = subprocess.Popen(
            [sys.executable, __file__, pool, name, str(log)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        has_ended = True
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            has_ended = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return judge(dict(json.loads(line) for line in lines), has_ended=has_ended)


def main() -> None:
    """Print the versions and the table."""
    versions = [f"Python {sys.version.split()[0]} ({sys.platform})"]
    versions += [
        f"{package} {importlib.metadata.version(package)}"
        for package in ("joblib", "loky", "pebble", "mpire", "thread-chunks")
    ]
    write = sys.stdout.write
    write(", ".join(versions) + f"; limit {LIMIT:g} s\n\n")
    write("| the bad call | " + " | ".join(POOLS) + " |\n")
    write("|---" * (len(POOLS) + 1) + "|\n")
    for name, (text, _) in CALLS.items():
        cells = [measure(pool, name) for pool in POOLS]
        write(f"| {text} | " + " | ".join(cells) + " |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) == 4:  # pool, call, log
        run_case(*sys.argv[1:])
    else:
        main()
