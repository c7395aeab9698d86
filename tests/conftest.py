"""What the behaviour tests share: real programs, their processes, and logs outside the checkpoint.

The rules of the harness: every test and every program has a hard time limit; on
time-out all stacks are dumped and the test fails. Calls note what they do with one
``os.write(O_APPEND)``, so the oracle is never the file under test.
"""

import compileall
import contextlib
import faulthandler
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import cloudpickle
import pykka
import pytest

import thread_chunks
from thread_chunks import config

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Whoever starts the tests in the background ignores Ctrl-C, and programs would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

for _name in (
    *(
        "PYTHONWARNINGS",
        "PYTHONOPTIMIZE",
        "PYTHONDEVMODE",
        "PYTHONUNBUFFERED",
        "PYTHONINSPECT",
        "PYTHONSTARTUP",
    ),
    *("PYTHONIOENCODING", "PYTHONSAFEPATH", "PYTHON_COLORS", "FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES"),
    *(name for name in os.environ if name.startswith(("TQDM_", "DASK_", "RAY_", "SLURM_"))),
    *(name for name in os.environ if name.endswith("_NUM_THREADS")),
):
    os.environ.pop(_name, None)  # settings of whoever runs the tests, which programs would inherit

# These only end what hangs: a busy machine keeps them. What hangs on purpose in a test hangs for 600 s.
TEST_SECONDS = 400
PROGRAM_SECONDS = 200.0
WAIT_SECONDS = 100.0
GONE_SECONDS = 30.0  # less, as a process that is left must not end by itself in the meantime
STRICT = (
    *("-W", "error"),
    # Of packages of others, whose own business it is; a flag that names modules would import re in each child.
    *("-W", "ignore::DeprecationWarning", "-W", "ignore::PendingDeprecationWarning"),
    *("-W", "ignore::FutureWarning"),
)
"""Has a program take warnings for errors."""
SHARED = r"/dev/shm/.*"  # noqa: S108 - nothing is put there

# Helpers used inside a call travel by value: its child need not import this file, and pytest with it.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def pytest_sessionstart() -> None:
    """Compile the package once; where Python may write no bytecode, each program would compile it anew."""
    compileall.compile_dir(os.path.dirname(thread_chunks.__file__), quiet=2)


# --- logs and flags -----------------------------------------------------------------


def note(path: str | os.PathLike[str], entry: object) -> None:
    """Append one line, whole, whoever else writes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, f"{entry}\n".encode())
    finally:
        os.close(descriptor)


def noted(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines that were noted so far; a line that was only begun does not count."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().split("\n")[:-1]
    except FileNotFoundError:
        return []


def wait_until(
    condition: Callable[[], object], seconds: float = WAIT_SECONDS, what: str = "condition"
) -> None:
    """Look again and again until something holds; fail after the bound."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            msg = f"waited {seconds:g} s in vain for: {what}"
            raise TimeoutError(msg)
        time.sleep(0.005)


def wait_for(path: str | os.PathLike[str], seconds: float = WAIT_SECONDS) -> None:
    """Wait until a file exists."""
    name = os.fspath(path)
    wait_until(lambda: os.path.exists(name), seconds, name)


def least(measure: Callable[[int], float], bound: float) -> float:
    """Measure up to five times until the figure is below a promised bound: what neighbours add is not ours."""
    figures: list[float] = []
    while len(figures) < 5 and min(figures, default=bound) >= bound:
        figures.append(measure(len(figures)))
    return min(figures)


# --- processes ------------------------------------------------------------------------


def _process_table() -> Iterator[tuple[int, int, int]]:
    """Yield process, parent and session of all that live: a zombie does not."""
    if os.path.isdir("/proc/self"):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    yield int(name), int(fields[1]), int(fields[3])
        return
    table = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,sess=,stat="], capture_output=True, text=True, check=True
    )
    for line in table.stdout.splitlines():
        pid, parent, session, state = line.split()
        if not state.startswith("Z"):
            yield int(pid), int(parent), int(session)


def children(parent: int | None = None) -> set[int]:
    """Return the living children of a process."""
    wanted = os.getpid() if parent is None else parent
    return {pid for pid, above, _ in _process_table() if above == wanted}


def members(session: int) -> set[int]:
    """Return the living processes of a session, orphans and children in groups of their own included."""
    return {pid for pid, _, own in _process_table() if own == session}


def is_living(wanted: int) -> bool:
    """Tell whether a process lives; a zombie does not."""
    return any(pid == wanted for pid, _, _ in _process_table())


def shared_memory(*pids: int) -> set[str]:
    """Return the shared memory and semaphores that processes have mapped, where Linux says so, by their names."""
    mapped = set[str]()
    for pid in pids:
        with contextlib.suppress(OSError):
            mapped.update(re.findall(SHARED, Path(f"/proc/{pid}/maps").read_text()))
    return mapped


class Programs:
    """Programs in interpreters of their own, each the leader of a session."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []
        self._count = 0

    def within(self, name: str) -> "Programs":
        """Return programs of a new folder inside this one; they end together with these."""
        inner = Programs(self.folder / name)
        inner.folder.mkdir()
        inner._started = self._started
        return inner

    def write(self, source: str, name: str | None = None) -> Path:
        """Write a program's source to a file."""
        if name is None:
            self._count += 1
            name = f"program_{self._count}.py"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return path

    def start(
        self,
        source: str | None,
        *arguments: object,
        flags: Sequence[str] = STRICT,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
    ) -> "subprocess.Popen[str]":
        """Start a program; without source, `arguments` follow the interpreter."""
        command = [sys.executable, *flags]
        if source is not None:
            command.append(str(self.write(source)))
        given = None
        if stdin is not None:
            given = open(self.write(stdin, "stdin.txt"), encoding="utf-8")  # noqa: SIM115 - closed below
        environment = os.environ | {"PYTHONFAULTHANDLER": "1"} | (env or {})
        process = subprocess.Popen(
            [*command, *map(str, arguments)],
            cwd=cwd or self.folder,
            env=environment,
            stdin=given or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if given is not None:
            given.close()
        self._started.append(process)
        return process

    def finish(self, process: "subprocess.Popen[str]", seconds: float = PROGRAM_SECONDS) -> tuple[str, str]:
        """Wait for a program's end and return what it wrote; at the limit dump its stacks and fail."""
        try:
            return process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            out, err = process.communicate(timeout=100)
            pytest.fail(f"the program did not end within {seconds:g} s\n{out}\n{err}")

    def run(
        self,
        source: str | None,
        *arguments: object,
        flags: Sequence[str] = STRICT,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
        code: int = 0,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end, which must be the expected one, and leave no process behind."""
        process = self.start(source, *arguments, flags=flags, env=env, stdin=stdin, cwd=cwd)
        out, err = self.finish(process)
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        self.expect_gone(process)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def expect_gone(self, process: "subprocess.Popen[str]", seconds: float = GONE_SECONDS) -> None:
        """Check that nothing of a program that ended is left."""
        wait_until(lambda: not members(process.pid), seconds, "the end of all child processes")

    def close(self) -> None:
        """Kill what a failed test left."""
        for process in self._started:
            for pid in members(process.pid):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(100)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


# --- what must not be unpickled -----------------------------------------------------------


class Trap:
    """Leaves a trace, a folder, when it is unpickled."""

    def __init__(self, trace: str | Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> tuple[object, ...]:
        return os.makedirs, (self.trace, 0o777, True)


# --- sweeps -------------------------------------------------------------------------------


def sampled(stride: int) -> pytest.MarkDecorator:
    """Let a sweep take every so-manieth of its places, and all of them under the nightly marker."""
    every = pytest.param(1, marks=pytest.mark.nightly, id="every")
    return pytest.mark.parametrize("stride", [pytest.param(stride, id="sample"), every])


def beginning(stride: int) -> int:
    """Return at which of its first places a sweep begins, by chance; pytest shows it when the test fails."""
    start = secrets.randbelow(stride)
    print(f"one of {stride} places, beginning at {start}")  # noqa: T201
    return start


# --- engines of others ---------------------------------------------------------------------


def engines(code: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a test that runs some code: `engines`, if it needs one of them."""
    needs = re.search(r"\b(from|import) (dask|distributed|executorlib|mpi4py|ray)\b|\bRayWorker\b", code)
    return [pytest.mark.engines] if needs else []


# --- fixtures ---------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    """Fail a test that hangs, with all stacks."""

    def give_up(number: int, frame: FrameType | None) -> None:
        with open(os.devnull, "w", encoding="utf-8") as devnull:
            stream = sys.__stderr__ or devnull
            faulthandler.dump_traceback(file=stream)
        msg = f"the test took longer than {TEST_SECONDS} s"
        raise TimeoutError(msg)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Programs to start in the test's own folder."""
    started = Programs(tmp_path)
    yield started
    started.close()


@pytest.fixture
def _by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the functions of a test file travel by value, as those of a script do."""
    cloudpickle.register_pickle_by_value(request.module)
    yield
    cloudpickle.unregister_pickle_by_value(request.module)


@pytest.fixture
def _quiet(_by_value: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show no progress bars unless a test asks."""
    monkeypatch.setattr(config, "progress_bar", False)


@pytest.fixture
def _tidy() -> Iterator[None]:
    """Stop the actors that a test started, and only those."""
    before = set(pykka.ActorRegistry.get_all())
    yield
    for actor in pykka.ActorRegistry.get_all():
        if actor not in before:
            actor.stop(block=True, timeout=100)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that holds nothing but what the test puts there."""
    path = tmp_path / "work"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)
