"""Kill a run again and again, at random moments, and count what that costs.

::

    python tests/faults/soak.py --kills 200

Every kill is followed by a look at the file, by an oracle that is outside of it, and
by the run that goes on from there. Exit code 0 means that no result that was reported
as saved was lost, none was wrong, and none was computed again. The seed is printed;
``--seed`` repeats its moments, though not what the machine makes of them.
"""

import argparse
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from conftest import Programs, children, wait_until  # noqa: E402 - the path had to be set first
from harness import Case  # noqa: E402

CALLS = 150
CHUNK_SIZE = 2

SWEEP = f"""
    def fault(x):
        time.sleep(0.0015 * (x % 13))

    note("ready", RUN)
    outputs = sweep(count={CALLS}, chunk_size={CHUNK_SIZE})
    assert outputs == [value(x) for x in range({CALLS})]
    expect_tidy()
"""
"""Calls of 0 to 18 ms: some share chunks, some go out alone."""

SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}


class Soak:
    """Runs that are killed at random, and what was counted.

    Parameters
    ----------
    programs
        Where they run.
    seed
        Of the moments.
    """

    def __init__(self, programs: Programs, seed: int) -> None:
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self._programs = programs
        self._chance = random.Random(seed)  # noqa: S311 - it only chooses moments

    def go(self, kills: int = 0, terms: int = 0, interrupts: int = 0, children: int = 0) -> None:
        """Carry out so many of each, in random order, each sweep finished before the next is begun."""
        faults = ["kill -9"] * kills + ["SIGTERM"] * terms + ["Ctrl-C"] * interrupts + ["child"] * children
        self._chance.shuffle(faults)
        while faults:
            self.counts["sweeps"] += 1
            case = Case(self._programs.within(f"sweep {self.counts['sweeps']}"), SWEEP, count=CALLS)
            while faults and self._break(case, faults[-1]):
                self.counts[faults.pop()] += 1
            case.finish()
            self._count(case)

    def _break(self, case: Case, fault: str) -> bool:
        """Start a run and break it; tell whether it was still running when the fault came."""
        process = case.start()
        run = case.runs - 1
        wait_until(lambda: any(event[:2] == (run, "ready") for event in case.events()), what="the start")
        time.sleep(self._chance.uniform(0.0, 0.8))  # the moment of the fault
        if fault == "child":
            for pid in list(children(process.pid))[:1]:
                os.kill(pid, signal.SIGKILL)
        else:
            process.send_signal(SIGNALS[fault])
        case.end(process, code=None)
        expected = {0, 1} if fault == "child" else {0, -SIGNALS[fault]}
        assert process.returncode in expected, f"{fault}: exit code {process.returncode}"
        return fault == "child" or process.returncode != 0

    def _count(self, case: Case) -> None:
        """Count what a finished sweep cost."""
        events = case.events()
        ended = Counter((event.run, event.index) for event in events if event.what == "end")
        starts = [event for event in events if event.what == "start"]
        last = {event.index: event.run for event in starts}
        again = [event for event in starts if event.run != last[event.index]]
        self.counts["calls"] += case.count
        self.counts["executions"] += len(starts)
        self.counts["reported"] += sum(event.what == "ack" for event in events)
        self.counts["run again: was running"] += sum(not ended[event.run, event.index] for event in again)
        self.counts["run again: was not saved"] += sum(bool(ended[event.run, event.index]) for event in again)
        by_run = Counter(event.run for event in again)
        self.counts["most at once"] = max([self.counts["most at once"], *by_run.values()])


def main() -> None:
    """Read the command line, go, and print what was counted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="kill -9 of the run")
    parser.add_argument("--children", type=int, default=0, help="kill -9 of one of its children")
    parser.add_argument("--terms", type=int, default=0, help="SIGTERM to the run")
    parser.add_argument("--interrupts", type=int, default=0, help="SIGINT to the run")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)  # noqa: T201 - a program
    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(Path(folder))
        try:
            soak = Soak(programs, given.seed)
            soak.go(given.kills, given.terms, given.interrupts, given.children)
        finally:
            programs.close()
    for name, count in soak.counts.items():
        print(f"{name:25} {count:7}")  # noqa: T201


if __name__ == "__main__":
    main()
