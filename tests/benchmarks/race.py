"""Run contenders in turns, each in a fresh interpreter, and keep what each measured.

One rule: what is compared was measured within the same round, one right after the other.
Machines are noisy, and neighbours in time share their noise.
"""

import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import contender
import peers

DISK = "/var/tmp"  # noqa: S108 - files that survive a reboot: this is hardly ever memory, so fsync is real

CALIBRATED = -1
"""The size of work whose calls take 5 ms."""

WATCH_SECONDS = 0.2
"""Seconds between two looks at the memory of children."""

Result = dict[str, float]
Round = dict[str, Result]


class Entry(NamedTuple):
    """One contender at the start."""

    label: str
    contender: str
    """Its module and function."""
    work: str
    calls: int
    size: int = 0
    scale: int = 1
    """How many times more the others have to do; the seconds are multiplied by it."""
    watched: bool = False
    """Whether the memory of its children is looked at, which costs a little time."""
    slow: bool = False
    """Whether it takes part only when all are asked for."""

    def is_installed(self) -> bool:
        """Tell whether what it needs can be imported."""
        module = peers.MODULES.get(self.contender.split(".")[1])
        return module is None or importlib.util.find_spec(module) is not None

    def shrunk(self) -> "Entry":
        """Return one with next to nothing to do, only to see that it runs."""
        return self._replace(calls=min(self.calls, max(4, self.calls // 100)), size=self.size // 10)


class ContenderError(Exception):
    """A contender failed, or returned something wrong."""


def race(
    entries: Sequence[Entry],
    rounds: int,
    setup: Entry | None = None,
    warm_up: int = 0,
    note: Callable[[str], object] = str,
) -> list[Round]:
    """Let all contenders run once in each round.

    Parameters
    ----------
    entries
        Who takes part. Those that are not installed are left out.
    rounds
        How many rounds.
    setup
        Writes files that all find in their folder.
    warm_up
        How many further rounds come first and are thrown away.
    note
        Told what runs now.
    """
    present = [entry for entry in entries if entry.is_installed()]
    # Only removed at the end of the race: for minutes after thousands of files were deleted, ext4 creates
    # new ones five times slower (it does not reuse their inodes yet), which slowed whoever came next.
    with tempfile.TemporaryDirectory(dir=DISK, prefix="benchmarks-", ignore_cleanup_errors=True) as common:
        if setup is not None:
            note("preparing")
            run(setup, common)
        results: list[Round] = []
        for number in range(1 - warm_up, rounds + 1):
            results.append({})
            for entry in present:
                note(f"round {number} of {rounds}: {entry.label}")
                results[-1][entry.label] = run(entry, common) if setup else run_alone(entry, common)
    return results[warm_up:]


def run_alone(entry: Entry, common: str) -> Result:
    """Run one contender with a folder of its own; the few large files in there are removed at once."""
    folder = tempfile.mkdtemp(dir=common)
    result = run(entry, folder)
    for found in os.scandir(folder):
        if found.is_file(follow_symlinks=False):
            os.unlink(found)
    return result


def run(entry: Entry, folder: str) -> Result:
    """Run one contender and return what it measured, and what was seen from outside."""
    size = calibrated_loops() if entry.size == CALIBRATED else entry.size
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "contender.py")
    command = [sys.executable, script, entry.contender, entry.work, str(entry.calls), str(size), folder]
    os.sync()  # nobody's fsync writes down what another left behind
    # Files and not pipes: a process that a library leaves behind would hold a pipe open.
    with tempfile.TemporaryFile(dir=DISK) as out, tempfile.TemporaryFile(dir=DISK) as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment())
        outside = watch(process) if entry.watched else {}
        code = process.wait()
        outside["process_seconds"] = time.perf_counter() - start
        out.seek(0)
        err.seek(0)
        if code:
            msg = f"{entry.label} ended with {code}:\n{err.read().decode()}"
            raise ContenderError(msg)
        result: Result = json.loads(out.read().splitlines()[-1]) | outside
    result["seconds"] *= entry.scale
    return result


def environment() -> dict[str, str]:
    """Return an environment in which compiled code is kept, as that of an installed package is."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def watch(process: subprocess.Popen[bytes]) -> Result:
    """Look at the memory of all children until the process ends; Linux only."""
    peaks = {0: 0.0}
    while process.poll() is None:
        for child in descendants(process.pid):
            peaks[child] = max(peaks.get(child, 0.0), peak_mb(child))
        time.sleep(WATCH_SECONDS)
    return {"largest_child_mb": max(peaks.values())}


def descendants(pid: int) -> Iterator[int]:
    """Yield the children of a process, and theirs."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        for thread in threads:
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                children = file.read().split()
            for child in children:
                yield int(child)
                yield from descendants(int(child))
    except OSError:  # it ended meanwhile
        return


def peak_mb(pid: int) -> float:
    """Return the largest resident memory of a process so far, 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/status") as file:
            lines = [line for line in file if line.startswith("VmHWM:")]
    except OSError:
        return 0.0
    return int(lines[0].split()[1]) * 1024 / 1e6 if lines else 0.0


@functools.cache
def calibrated_loops() -> int:
    """Find out, once, how many loops take 5 ms here: calls do fixed work, whoever runs them."""
    loops = 100_000
    times = []
    for _ in range(15):
        start = time.perf_counter()
        contender.burn(0, loops)
        times.append(time.perf_counter() - start)
    return round(loops * 0.005 / statistics.median(times))


def median(rounds: Sequence[Round], label: str, what: str) -> float:
    """Return the median of one figure of one contender."""
    return statistics.median(result[label][what] for result in rounds)
