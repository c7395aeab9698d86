"""The harness of the fault tests: a real program, a fault, and an oracle outside of the file under test.

Every case is a program in an interpreter of its own, with a hard time limit; on
time-out its stacks are dumped and the test fails. Each call notes its start and its
end, and ``on_result`` notes what was reported as saved, all in one log, each with one
``os.write(O_APPEND)``: so the log holds one order of events, whoever wrote them.

After every run of a case `Case.verify` checks what must always hold:

1. every result that was reported as saved is in the file;
2. every value in the file is the right one;
3. no call was started after its result was reported, or after the file held it;
4. no process, lock file or temporary file is left (threads, actors and descriptors
   are checked by the program itself, where it comes to its end);
5. and `Case.finish` lets a last run, without faults, come to the right list.
"""

import os
import shutil
import signal
import subprocess
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from conftest import Programs, noted

from thread_chunks import Checkpoint

FAULTS = Path(__file__).resolve().parent

PRELUDE = '''
import os, sys, threading, time
import pykka
import thread_chunks
from thread_chunks import *
from thread_chunks import config

RUN = int(sys.argv[1])
FOLDER = os.getcwd()
DESCRIPTORS = set(os.listdir("/dev/fd"))

def note(what, index):
    """Append one line to the log of events."""
    descriptor = os.open(os.path.join(FOLDER, "events.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, f"{sys.argv[1]} {what} {index}\\n".encode())  # RUN is a setting, and would be watched
    finally:
        os.close(descriptor)

def value(x):
    return [x * x, "v" * (7 * x % 500)]

def fault(x):
    """What a case does inside of a call."""

def f(x):
    note("start", x)
    fault(x)
    output = value(x)
    note("end", x)
    return output

def acknowledge(index, output):
    note("ack", index)

def sweep(count=6, **options):
    usual = dict(chunk_size=2, path="c.pkl", progress_bar=False, on_result=acknowledge)
    return chunk(f, [[n] for n in range(count)], **(usual | options))

def expect_tidy():
    """Check that nothing of a run is left in this process; bounded, as threads take a moment to end."""
    end = time.monotonic() + 100
    while True:
        threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
        actors = pykka.ActorRegistry.get_all()
        descriptors = set(os.listdir("/dev/fd")) - DESCRIPTORS
        if not threads and not actors and not descriptors:
            return
        assert time.monotonic() < end, f"left behind: {threads} {actors} {descriptors}"
        time.sleep(0.01)
'''
"""What every program of a case begins with."""


def value(x: int) -> Any:
    """Return what ``f(x)`` of the prelude returns."""
    return [x * x, "v" * (7 * x % 500)]


class Event(NamedTuple):
    """One line of the log of events."""

    run: int
    what: str
    index: int  # type: ignore[assignment]


@dataclass(slots=True)
class Case:
    """One program that is run again and again, and the oracle that watches it.

    Its source comes behind `PRELUDE`; ``RUN`` tells it the how-manieth run it is.
    """

    programs: Programs
    source: str
    count: int = 6
    path: str = "c.pkl"
    flags: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)
    runs: int = 0
    _held: set[int] = field(default_factory=set)
    _program: Path | None = None
    _was_killed: bool = False

    @property
    def folder(self) -> Path:
        """Where the program runs."""
        return self.programs.folder

    @property
    def file(self) -> Path:
        """The file under test."""
        return self.folder / self.path

    def start(self, *arguments: object) -> "subprocess.Popen[str]":
        """Start the next run."""
        if self._program is None:
            self._program = self.programs.write(PRELUDE + textwrap.dedent(self.source), "case.py")
        run, self.runs = self.runs, self.runs + 1
        paths = os.pathsep.join(
            [str(FAULTS), self.env.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))]
        ).rstrip(os.pathsep)
        return self.programs.start(
            None, self._program, run, *arguments, flags=self.flags, env=self.env | {"PYTHONPATH": paths}
        )

    def end(
        self, process: "subprocess.Popen[str]", code: int | None = 0
    ) -> "subprocess.CompletedProcess[str]":
        """Wait for a run's end, which must be the expected one if there is one, and verify."""
        out, err = self.programs.finish(process)
        if code is not None:
            assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        self.programs.expect_gone(process)
        self._was_killed = process.returncode == -signal.SIGKILL
        self.verify()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run(self, *arguments: object, code: int | None = 0) -> "subprocess.CompletedProcess[str]":
        """Carry out one run to its end and verify."""
        return self.end(self.start(*arguments), code)

    def finish(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Carry out the run that must complete: every result is there, none was computed in vain."""
        done = self.run(*arguments)
        checkpoint = self.load()
        assert checkpoint is not None
        assert checkpoint.output == [value(x) for x in range(self.count)]
        return done

    def copied(self, programs: Programs) -> "Case":
        """Return a case that goes on in another folder from where this one is."""
        shutil.copytree(self.folder, programs.folder, dirs_exist_ok=True)
        program = self._program and programs.folder / self._program.name
        return replace(self, programs=programs, _program=program)

    # --- the oracle ----------------------------------------------------------------------

    def events(self) -> list[Event]:
        """Return what happened so far, in order."""
        fields = [line.split() for line in noted(self.folder / "events.log")]
        return [Event(int(run), what, int(index)) for run, what, index in fields]

    def started(self, run: int) -> list[int]:
        """Return the calls that a run started, in order."""
        return [event.index for event in self.events() if (event.run, event.what) == (run, "start")]

    def acknowledged(self) -> set[int]:
        """Return the calls whose results were reported as saved by any run."""
        return {event.index for event in self.events() if event.what == "ack"}

    def load(self) -> Checkpoint | None:
        """Read the file under test; damage is expected, and found out by what is missing."""
        if not self.file.exists() or not self.file.stat().st_size:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Checkpoint.load(self.file)

    def verify(self) -> None:
        """Check what must hold after every run, however it ended."""
        checkpoint = self.load()
        completed = set[int]()
        if checkpoint is not None:
            completed = {index for index, done in enumerate(checkpoint.completed) if done}
            for index in completed:
                assert checkpoint.output[index] == value(index), f"a wrong value for call {index}"
        assert self.acknowledged() <= completed, f"lost: {sorted(self.acknowledged() - completed)}"
        again = set(self.started(self.runs - 1)) & self._held
        assert not again, f"calls that the file held were run again: {sorted(again)}"
        safe = set[int]()
        for event in self.events():
            assert event.what != "start" or event.index not in safe, (
                f"call {event.index} ran after its report"
            )
            safe |= {event.index} if event.what == "ack" else set()
        self._held = completed
        left = [name for name in os.listdir(self.folder) if name.endswith((".tmp", ".lock"))]
        assert self._was_killed or not left, f"left in the folder: {left}"  # the next run removes them
