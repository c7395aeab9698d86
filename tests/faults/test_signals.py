"""Signals and surroundings: Ctrl-C, SIGTERM and SIGHUP at any moment, and programs of every kind.

Moments are random, their seed is printed, or they are counted: a signal at each step
that changes the file hits creation, every save and the fold at the end.
"""

import os
import pty
import random
import secrets
import signal
import subprocess
import sys
import textwrap
import time
import zipapp
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from conftest import Programs, beginning, least, members, noted, sampled, wait_for, wait_until
from harness import Case

BOUND = 3.0  # the contract says one second

# --- Ctrl-C, SIGTERM, SIGHUP at random moments -----------------------------------------------

SWEEPS = {
    "sweep": "outputs = sweep(40)",
    "bar": "outputs = sweep(40, progress_bar=True)",
    "start": "outputs = sweep(40, progress_bar=True, chunk_size=None)",
    "iterator": """
with Chunker(f, chunk_size=2, path="c.pkl", progress_bar=False) as chunker:
    outputs = [None] * 40
    for index, output in chunker.as_completed([[n] for n in range(40)]):
        outputs[index] = output
        acknowledge(index, output)
""",
    "Chunker": """
with Chunker(f, chunk_size=2, path="c.pkl", progress_bar=False, on_result=acknowledge) as chunker:
    outputs = chunker([[n] for n in range(40)])
""",
}

PROGRAM = """
import signal, time, warnings
warnings.simplefilter("error")

def fault(x):
    time.sleep(0.003)  # work, so that there are moments to choose from

try:
    try:
        open(f"ready {RUN}", "w").close()
        SWEEP
    except KeyboardInterrupt as error:
        print("interrupted", *getattr(error, "__notes__", ()))
    else:
        print("complete", outputs == [value(x) for x in range(40)])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
except KeyboardInterrupt:
    print("late")  # the signal, or the second one, came when the run was over
signal.signal(signal.SIGINT, signal.SIG_IGN)
if "twice" not in sys.argv:  # a second Ctrl-C cuts the clearing up short; the end of the program does the rest
    expect_tidy()
"""

MOMENTS = {"sweep": 0.25, "bar": 0.3, "start": 0.2, "iterator": 0.25, "Chunker": 0.25}
"""Up to how many seconds after the start the signal comes: the start alone for "start"."""


def _chance() -> random.Random:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)  # noqa: S311 - it only chooses moments


def _sweeps(programs: Programs, name: str) -> Case:
    body = textwrap.indent(SWEEPS[name].strip(), 8 * " ").strip()
    return Case(programs, PROGRAM.replace("SWEEP", body), count=40)


def _to_group(process: "subprocess.Popen[str]", number: int) -> None:
    os.killpg(process.pid, number)


def _to_parent(process: "subprocess.Popen[str]", number: int) -> None:
    process.send_signal(number)


def _twice(process: "subprocess.Popen[str]", number: int) -> None:
    os.killpg(process.pid, number)
    os.killpg(process.pid, number)


def _hit(case: Case, send: Callable[["subprocess.Popen[str]", int], None], number: int, after: float) -> str:
    """Send a signal some time after a run is ready; return what it printed, once everything was verified."""
    said = ""

    def measure(_: int) -> float:
        nonlocal said
        took, said = _send(case, send, number, after)
        return 0.0 if "complete" in said else took

    assert least(measure, BOUND) < BOUND
    return said


def _send(
    case: Case, send: Callable[["subprocess.Popen[str]", int], None], number: int, after: float
) -> tuple[float, str]:
    process = case.start(*(["twice"] if send is _twice else []))
    wait_for(case.folder / f"ready {case.runs - 1}")
    time.sleep(after)  # the moment of the signal
    sent = time.monotonic()
    send(process, number)
    out, err = case.programs.finish(process)
    took = time.monotonic() - sent
    case.programs.expect_gone(process)
    case._was_killed = process.returncode < 0  # then the next run removes what is half-written
    case.verify()
    assert "Traceback" not in err, err
    assert "complete False" not in out
    return took, f"{process.returncode} {out} {err}"


@pytest.mark.parametrize(
    ("name", "send"),
    [
        *(pytest.param(name, _to_group, id=f"{name}-group") for name in SWEEPS),
        pytest.param("sweep", _to_parent, id="sweep-parent"),
        pytest.param("start", _to_parent, id="start-parent"),
        *(
            pytest.param(name, _to_parent, id=f"{name}-parent", marks=pytest.mark.nightly)
            for name in ("bar", "iterator", "Chunker")
        ),
    ],
)
def test_run_is_safe_when_it_is_interrupted_at_a_random_moment(
    name: str, send: Callable[["subprocess.Popen[str]", int], None], programs: Programs
) -> None:
    """Ctrl-C, whatever is going on: KeyboardInterrupt, nothing lost, nothing left, and the next run goes on."""
    chance = _chance()
    case = _sweeps(programs, name)
    for _ in range(chance.randint(1, 2)):  # the first run, and half of the time one that resumes
        said = _hit(case, send, signal.SIGINT, chance.uniform(0, MOMENTS[name]))
        assert said.startswith(("0 interrupted", "0 complete", "0 late")), said
    case.finish()


@pytest.mark.parametrize("name", ["sweep", "bar", "iterator"])
def test_run_is_safe_when_it_is_interrupted_twice_at_a_random_moment(name: str, programs: Programs) -> None:
    """A second Ctrl-C may cut the clearing up short, but never the file, and leaves no process."""
    chance = _chance()
    case = _sweeps(programs, name)
    for _ in range(chance.randint(1, 2)):  # the first run, and half of the time one that resumes
        said = _hit(case, _twice, signal.SIGINT, chance.uniform(0, MOMENTS[name]))
        assert said.startswith(("0 interrupted", "0 complete", "0 late")), said
    case.finish()


@pytest.mark.parametrize("send", [_to_group, _to_parent], ids=["group", "parent"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: str(number.name))
def test_run_leaves_nothing_when_it_is_terminated_at_a_random_moment(
    number: signal.Signals, send: Callable[["subprocess.Popen[str]", int], None], programs: Programs
) -> None:
    """SIGTERM and a lost terminal end the program as the signal says; children go, reported results stay."""
    chance = _chance()
    case = _sweeps(programs, "sweep")
    for _ in range(chance.randint(1, 2)):  # the first run, and half of the time one that resumes
        said = _hit(case, send, number, chance.uniform(0, 0.25))
        assert said.startswith((f"-{number:d} ", "0 complete")), said
    case.finish()


# --- Ctrl-C at every step ---------------------------------------------------------------------

STEPS = """
import faulthandler, signal
import disk

for at in range(1, 200):
    faulthandler.dump_traceback_later(20, exit=True)
    path = f"{at}.pkl"
    calls, reported = [], []

    def count(x):
        calls.append(x)
        return value(x)

    def run():
        return chunk(count, [[n] for n in range(4)], chunk_size=1, path=path, progress_bar=False,
                     worker=ThreadWorker, on_result=lambda index, output: reported.append(index))

    steps = 0

    def before(name):
        global steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGINT)

    the_disk = disk.Disk(before=before).install()
    try:
        outputs = run()
    except KeyboardInterrupt as error:
        the_disk.before = None
        notes = getattr(error, "__notes__", [])
        assert len(notes) < 2, notes
        if os.path.exists(path) and os.path.getsize(path):
            checkpoint = Checkpoint.load(path)
            assert {index for index in range(4) if checkpoint.completed[index]} >= set(reported)
            if notes:
                assert f"{checkpoint.done} of 4 results are safe in {path}" in notes[0], (notes, checkpoint)
        else:
            assert not reported
    else:
        assert outputs == [value(x) for x in range(4)]
    the_disk.before = None
    expect_tidy()
    saved = set(reported)
    calls.clear()
    assert run() == [value(x) for x in range(4)]
    assert not saved & set(calls), (at, saved, calls)
    expect_tidy()
    left = [name for name in os.listdir() if name.endswith(".tmp")]
    assert not left, left
    if steps < at:
        break
print(at)
"""


def test_run_is_safe_when_it_is_interrupted_at_any_step(programs: Programs) -> None:
    """Ctrl-C at each write, fsync and rename, of creation, saves and the fold: nothing lost, nothing left, resumed."""
    case = Case(programs, STEPS, count=0)
    assert int(case.run().stdout) > 10  # creation, four results, and the fold are more steps than that


LINES = """
import faulthandler, itertools

OURS = os.path.dirname(thread_chunks.__file__)
TRACED = OURS, os.path.join(os.path.dirname(pykka.__file__), "_actor.py")
WHAT = sys.argv[2]
place = None

def enter(frame, event, arg):
    return line if frame.f_code.co_filename.startswith(TRACED) else None

def is_swallowed(frame):
    # Python itself swallows what is raised while an object is deleted.
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None

def line(frame, event, arg):
    global countdown, place
    if event == "line":
        countdown -= 1
        if not countdown and is_swallowed(frame):
            countdown = 1
        if not countdown:
            place = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} in {frame.f_code.co_name}"
            raise KeyboardInterrupt
    return line

def interrupt(index, output):
    sys.settrace(enter)
    raise KeyboardInterrupt

def run(path):
    options = dict(chunk_size=2, path=path, progress_bar=False, worker=ThreadWorker)
    if WHAT == "second":
        return chunk(value, [[0], [1]], **options, on_result=interrupt)
    sys.settrace(enter)
    if WHAT == "chunk":
        return chunk(value, [[0], [1]], **options)
    with Chunker(value, **options) as chunker:
        return chunker([[0], [1]])

bad = []
for at in itertools.count(int(sys.argv[3]), int(sys.argv[4])):
    faulthandler.dump_traceback_later(20, exit=True)
    countdown, place = at, None
    try:
        try:
            run(f"{at}.pkl")
        finally:
            sys.settrace(None)
    except KeyboardInterrupt:
        pass
    else:
        assert place is None, f"swallowed at {place}"
    if place is None:
        break
    end = time.monotonic() + 100
    while threading.active_count() > 1 or pykka.ActorRegistry.get_all():
        time.sleep(0.001)
        if time.monotonic() > end:
            actors = pykka.ActorRegistry.get_all()
            bad.append(f"Ctrl-C at {place} left {[actor.actor_class.__name__ for actor in actors]}")
            for actor in actors:
                pykka.ActorRegistry.unregister(actor)
                actor.tell(pykka.messages._ActorStop())
            while threading.active_count() > 1:
                time.sleep(0.001)
            break
    if os.path.exists(f"{at}.pkl"):
        checkpoint = Checkpoint.load(f"{at}.pkl")
        assert all(checkpoint.output[x] == value(x) for x in range(2) if checkpoint.completed[x])
        checkpoint.save()  # nobody holds it
print(at, *bad, sep="\\n")
"""


@sampled(3)
@pytest.mark.parametrize("what", ["chunk", "Chunker", "second"])
def test_run_leaves_no_actor_when_it_is_interrupted_at_any_line(
    what: str, stride: int, programs: Programs
) -> None:
    """Ctrl-C, or a second one, before any line of ours in the caller's thread: no actor and no lock stays."""
    case = Case(programs, LINES, count=0)
    count, *bad = case.run(what, 1 + beginning(stride), stride).stdout.splitlines()
    assert int(count) > 20  # what stops the actors runs in another thread
    assert not bad, "\n".join(bad)


# --- the caller's own masks, handlers and threads ------------------------------------------------

SURROUNDINGS = """
import signal

KIND = sys.argv[2]
calls = []
set_signal = signal.signal
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

def state():
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return handlers, signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getitimer(signal.ITIMER_REAL)

def watched(number, handler):
    calls.append((number, threading.current_thread().name))
    return set_signal(number, handler)

def fault(x):
    open(f"started {x}", "w").close()
    while not os.path.exists("go on"):
        time.sleep(0.005)

def handler(number, frame):
    open("handled", "w").close()

if KIND == "blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
if KIND == "ignored":
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
if KIND in {"handled", "thread"}:
    for number in SIGNALS:
        signal.signal(number, handler)
signal.signal = watched

def run():
    before = state()
    outputs = sweep(4)
    assert state() == before
    assert outputs == [value(x) for x in range(4)]
    print("done")

if KIND == "thread":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    thread = threading.Thread(target=run)  # it inherits the mask
    thread.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
    before = state()
    while thread.is_alive():
        thread.join(0.05)  # a signal that another thread received does not wake this one
    assert state() == before
else:
    run()
assert not calls, calls
if KIND == "blocked" and RUN == 0:
    waiting = signal.sigpending()
    assert waiting == set(SIGNALS), waiting
    while signal.sigpending():
        signal.sigwait(waiting)
expect_tidy()
"""


@pytest.mark.parametrize("kind", ["blocked", "ignored", "handled", "thread"])
def test_run_leaves_signals_to_the_caller_when_he_sees_to_them(kind: str, programs: Programs) -> None:
    """Where the caller blocks, ignores or handles signals, they neither stop the run nor change hands."""
    case = Case(
        programs, SURROUNDINGS, count=4, env={"OPENBLAS_NUM_THREADS": "1"}
    )  # its threads block nothing
    process = case.start(kind)
    for x in range(2):
        wait_for(case.folder / f"started {x}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.killpg(process.pid, number)
    if kind in {"handled", "thread"}:
        wait_for(case.folder / "handled")
    (case.folder / "go on").touch()
    assert case.end(process).stdout == "done\n"
    case.finish(kind)


IN_A_THREAD = """
def fault(x):
    open(f"started {x}", "w").close()
    while not os.path.exists("go on"):
        time.sleep(0.005)

def run():
    outputs = sweep(4)
    print(outputs == [value(x) for x in range(4)])

thread = threading.Thread(target=run)
thread.start()
try:
    while thread.is_alive():
        thread.join(0.05)  # a signal that another thread received does not wake this one
except KeyboardInterrupt:
    print("interrupted")
    open("go on", "w").close()
    thread.join()
expect_tidy()
"""


def test_run_in_another_thread_goes_on_when_the_main_one_is_interrupted(programs: Programs) -> None:
    """Ctrl-C belongs to the main thread: a run in another one is the program's to stop, and loses no child."""
    case = Case(programs, IN_A_THREAD, count=4)
    process = case.start()
    for x in range(2):
        wait_for(case.folder / f"started {x}")
    os.killpg(process.pid, signal.SIGINT)
    assert case.end(process).stdout == "interrupted\nTrue\n"
    case.finish()


# --- programs of every kind ---------------------------------------------------------------------

BODY = """
import dataclasses, os
from thread_chunks import Checkpoint, chunk

with open("main.log", "a") as log:
    log.write("body\\n")
OFFSET = 100

@dataclasses.dataclass
class Point:
    x: int

def shift(point, by):
    return Point(point.x + by + OFFSET)

outputs = chunk(shift, [[Point(n), 1] for n in range(5)], chunk_size=2, path="c.pkl", progress_bar=False)
print([point.x for point in outputs], all(type(point) is Point for point in outputs))
"""


def _package(programs: Programs) -> list[str]:
    programs.write("", "package/__init__.py")
    programs.write(BODY, "package/__main__.py")
    return ["-m", "package"]


def _folder(programs: Programs) -> list[str]:
    programs.write(BODY, "tool/__main__.py")
    return ["tool"]


def _zipapp(programs: Programs) -> list[str]:
    programs.write(BODY, "source/__main__.py")
    zipapp.create_archive(programs.folder / "source", programs.folder / "tool.pyz")
    return ["tool.pyz"]


def _runpy(programs: Programs) -> list[str]:
    programs.write(BODY, "inner.py")
    programs.write("import runpy\nrunpy.run_path('inner.py', run_name='__main__')\n", "outer.py")
    return ["outer.py"]


@pytest.mark.parametrize(
    "kind", [_package, _folder, _zipapp, _runpy], ids=lambda kind: str(kind.__name__)[1:]
)
def test_chunk_needs_no_main_guard_however_a_program_is_packed(
    kind: Callable[[Programs], list[str]], programs: Programs
) -> None:
    """Whatever is run as __main__: its body runs once, its classes work, and the next run resumes."""
    command = kind(programs)
    for count in (1, 2):
        assert programs.run(None, *command).stdout == "[101, 102, 103, 104, 105] True\n"
        assert noted(programs.folder / "main.log") == ["body"] * count


@dataclass
class Terminal:
    """A program at a terminal of its own, as a person sees it."""

    process: "subprocess.Popen[bytes]"
    descriptor: int
    seen: str = ""

    def read_until(self, text: str, seconds: float = 100.0) -> str:
        """Read until a text appears; return everything that came before."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} never came: {self.seen}"
            try:
                self.seen += os.read(self.descriptor, 1 << 16).decode()
            except BlockingIOError:
                time.sleep(0.005)
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, *lines: str) -> None:
        """Type lines, each after its prompt."""
        for line in lines:
            os.write(self.descriptor, f"{line}\n".encode())


@pytest.fixture
def terminal(programs: Programs) -> Iterator[Terminal]:
    """Give an interpreter at its prompt, with the terminal as its controlling one."""
    outer, inner = pty.openpty()
    starter = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    process = subprocess.Popen(
        [sys.executable, "-c", starter + "os.execv(sys.executable, [sys.executable, '-i', '-q'])"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        cwd=programs.folder,
        env=os.environ | {"TERM": "dumb", "PYTHON_BASIC_REPL": "1", "NO_COLOR": "1"},
        start_new_session=True,
    )
    os.close(inner)
    os.set_blocking(outer, False)
    yield Terminal(process, outer)
    for pid in members(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(100)
    os.close(outer)


def test_chunk_works_at_a_prompt_when_it_is_interrupted_and_called_again(
    terminal: Terminal, programs: Programs
) -> None:
    """Functions that were typed in work; Ctrl-C at the keyboard gives the prompt back, the next line resumes."""
    terminal.read_until(">>> ")
    terminal.type(
        "import os, time",
        "from thread_chunks import Checkpoint, chunk",
        "options = dict(chunk_size=2, path='c.pkl', progress_bar=False)",
        "def f(x):",
        "    while x > 1 and not os.path.exists('go on'):",
        "        open(f'started {x}', 'w').close()",
        "        time.sleep(0.01)",
        "    return x * x",
        "",
        "outputs = chunk(f, [[n] for n in range(5)], **options)",
    )
    wait_for(programs.folder / "started 2")
    wait_for(programs.folder / "started 3")
    os.write(terminal.descriptor, b"\x03")  # what the key sends: the terminal makes a signal of it
    assert "2 of 5 results are safe in c.pkl" in terminal.read_until("to go on from there") + "c.pkl"
    terminal.read_until(">>> ")
    (programs.folder / "go on").touch()
    terminal.type("print(Checkpoint.load('c.pkl').done, chunk(f, [[n] for n in range(5)], **options))")
    terminal.read_until("2 [0, 1, 4, 9, 16]")
    terminal.type("exit()")
    assert terminal.process.wait(100) == 0
    wait_until(lambda: not members(terminal.process.pid), what="the end of all children")


# --- a notebook ------------------------------------------------------------------------------------

NOTEBOOK = """
import os, sys, time
from jupyter_client.manager import KernelManager

def execute(code, interrupt_at=()):
    # Execute a cell; interrupt the kernel once the files that are named exist.
    message = client.execute(code)
    wanted = list(interrupt_at)
    text, error = "", None
    end = time.monotonic() + 100
    while time.monotonic() < end:
        if wanted and all(map(os.path.exists, wanted)):
            wanted.clear()
            manager.interrupt_kernel()
        try:
            reply = client.get_iopub_msg(timeout=0.05)
        except Exception:
            continue
        if reply["parent_header"].get("msg_id") != message:
            continue
        content = reply["content"]
        if reply["msg_type"] == "stream" and content["name"] == "stdout":
            text += content["text"]
        elif reply["msg_type"] == "error":
            error = content["ename"], "\\n".join(content["traceback"])
        elif reply["msg_type"] == "status" and content["execution_state"] == "idle":
            return text, error
    raise TimeoutError(code)

CELLS = [
'''
import os, time
from thread_chunks import Checkpoint, chunk
print(os.getpid())
def f(x):
    while x > 1 and not os.path.exists("go on"):
        open(f"started {x}", "w").close()
        time.sleep(0.01)
    return x * x
''',
'''
outputs = chunk(f, [[n] for n in range(5)], chunk_size=2, path="c.pkl")
''',
'''
done = Checkpoint.load("c.pkl").done
outputs = chunk(f, [[n] for n in range(5)], chunk_size=2, path="c.pkl")
print(done, outputs)
''',
'''
import pykka, threading
print(pykka.ActorRegistry.get_all(), [t.name for t in threading.enumerate() if "Worker" in t.name])
''',
]

manager = KernelManager(kernel_name="python3")
manager.start_kernel(cwd=os.getcwd())
client = manager.client()
try:
    client.start_channels()
    client.wait_for_ready(timeout=100)
    text, error = execute(CELLS[0])
    assert error is None, error
    with open("kernel", "w") as file:
        file.write(text)
    text, error = execute(CELLS[1], ["started 2", "started 3"])
    assert error is not None and error[0] == "KeyboardInterrupt", (text, error)
    print(error[1])
    open("go on", "w").close()
    for cell in CELLS[2:]:
        text, error = execute(cell)
        assert error is None, error
        print(text)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=False)
"""


def test_chunk_works_in_a_notebook_when_it_is_interrupted_and_called_again(programs: Programs) -> None:
    """Functions of a cell work in a real kernel; its interrupt is a KeyboardInterrupt, and the next cell resumes."""
    out = programs.run(NOTEBOOK, flags=()).stdout
    assert "2 of 5 results are safe in c.pkl" in out
    assert "2 [0, 1, 4, 9, 16]" in out
    assert out.endswith("[] []\n\n")  # neither actors nor threads stay
    kernel = int((programs.folder / "kernel").read_text())
    wait_until(lambda: not members(kernel), what="the end of the kernel and its children")


# --- a forked parent ----------------------------------------------------------------------------------

OPEN = """
chunker = Chunker(whoami, chunk_size=2, progress_bar=False)
workers = set(chunker([[n] for n in range(8)]))
"""

FORKS = {
    "before any run": "",
    "after a run": "assert sweep(4, path='first.pkl', on_result=None) == [value(x) for x in range(4)]",
    "with a Chunker open": OPEN,
    "with a persistent Chunker": OPEN.replace("=False)", "=False, persistent=True)"),
    "in an iteration": f"""{OPEN}
results = chunker.as_completed([[n] for n in range(8)], path="other.pkl")
next(results)
""",
}

FORK = """
import signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of os.fork() in a process with threads

chunker = results = None

def whoami(x):
    time.sleep(0.01)
    return os.getpid()

def check(pid):
    end = time.monotonic() + 100
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "it hangs"
        time.sleep(0.005)

SETUP
child = os.fork()
if not child:
    assert sweep(6) == [value(x) for x in range(6)]
    print("child", flush=True)
    sys.exit()
code = check(child)
assert code == 0, f"the child ended with {code}"
if results is not None:
    assert len(list(results)) == 7
if chunker is not None:
    assert set(chunker([[n] for n in range(8)])) <= workers, "the child took its parent's workers with it"
    for actor in chunker.actors:
        actor.stop()
assert sweep(6) == [value(x) for x in range(6)]  # nothing runs: the child saved it all
expect_tidy()
print("parent")
"""


@pytest.mark.parametrize("name", FORKS)
def test_chunk_works_in_a_forked_child(name: str, programs: Programs) -> None:
    """A forked child makes runs of its own and ends as any program does, and the parent's workers never notice."""
    case = Case(programs, FORK.replace("SETUP", FORKS[name].strip()))
    assert case.run().stdout == "child\nparent\n"


INHERITED = """
import faulthandler, warnings
warnings.simplefilter("ignore", DeprecationWarning)

with Chunker(abs, chunk_size=2, progress_bar=False) as chunker:
    assert chunker([[-1], [-2]]) == [1, 2]
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(10, exit=True)
        try:
            print(chunker([[-1], [-2]]), flush=True)
        except Exception as error:
            print("an error", type(error).__name__, flush=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child hangs"
    assert chunker([[-3]]) == [3]
"""


def test_chunker_is_never_silent_when_a_forked_child_uses_its_parents(programs: Programs) -> None:
    """Workers do not survive a fork: a Chunker that was inherited starts others or says so, and never hangs."""
    out = Case(programs, INHERITED).run().stdout
    assert out.startswith(("[1, 2]", "an error"))
