"""Deaths of actors: an error inside of one, or a stop from outside, at any message.

However it happens, the run carries on and returns the right list, or it ends within
seconds with an error that leads to its cause and says how many results are safe. It
never hangs, and nothing that was reported as saved is lost. The cases of one test run
in one program, with a file and a time limit each; the program prints one line for each.
"""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import Programs, beginning, sampled
from harness import Case

COUNT = 6

PROGRAM = '''
import faulthandler, itertools, json, logging, re, traceback, warnings
from thread_chunks._supervisor import Supervisor
from thread_chunks._writer import CheckpointWriter

COUNT = 6
logging.disable(logging.CRITICAL)  # pykka logs what it catches
config.grace_seconds = 0.3  # nobody waits long for actors that fail while they stop
KINDS = {"threads": ThreadWorker, "processes": ProcessWorker}

class Stranger(pykka.ThreadingActor):
    """Somebody else's actor."""

    def on_receive(self, message):
        return "here"

class InjectedError(Exception):
    """What goes wrong inside of an actor."""

ERRORS = {error.__name__: error for error in (InjectedError, SystemExit, KeyboardInterrupt, GeneratorExit)}

def chain(error):
    """Return the names of an error and all its causes."""
    names = []
    while error is not None and len(names) < 9:
        names.append(type(error).__name__)
        if isinstance(error, BaseExceptionGroup):
            names += [type(inner).__name__ for inner in error.exceptions]
        error = error.__cause__ or error.__context__
    return names

def attempt(name, workers, before=None, on_result=None, **options):
    """Make one run that goes wrong, then another; print what came of it."""
    faulthandler.dump_traceback_later(100, exit=True)
    path, reported, calls = f"{name}.pkl", [], []
    stranger = Stranger.start()
    start = time.monotonic()
    found = {"name": name, "names": [], "notes": [], "outputs": None, "text": ""}

    def report(index, output):
        reported.append(index)
        if on_result is not None:
            on_result(index)

    def g(x):
        calls.append(x)
        return value(x)

    usual = dict(chunk_size=2, path=path, progress_bar=False, on_result=report)
    if not options.get("actors"):
        usual["worker"] = workers
    try:
        if before is not None:
            before()
        outputs = chunk(g, [[x] for x in range(COUNT)], **(usual | options))
        found["outputs"] = outputs == [value(x) for x in range(COUNT)]
    except BaseException as error:
        found |= {"names": chain(error), "notes": getattr(error, "__notes__", []), "text": str(error)}
    found["seconds"] = time.monotonic() - start
    restore()
    try:
        found["stranger"] = stranger.ask("?", timeout=100) == "here"
    except pykka.ActorDeadError:
        found["stranger"] = False
    stranger.stop()
    for actor in options.get("actors") or ():
        actor.stop()
    found["reported"] = reported
    expect_tidy()
    found["saved"] = []
    if os.path.exists(path):
        checkpoint = Checkpoint.load(path)
        found["saved"] = [x for x in range(COUNT) if checkpoint.completed[x]]
        assert all(checkpoint.output[x] == value(x) for x in found["saved"])
    calls.clear()
    again = chunk(g, [[x] for x in range(COUNT)], chunk_size=2, path=path, progress_bar=False, worker=ThreadWorker)
    assert again == [value(x) for x in range(COUNT)]
    found["again"] = calls
    print(json.dumps(found))

saved_methods = []

def inject(kind, method, nth, error):
    """Let the nth call of a method of an actor class raise."""
    original, count = kind.__dict__.get(method), itertools.count(1)
    inherited = getattr(kind, method)

    def injected(self, *arguments):
        if next(count) == nth:
            raise error
        return inherited(self, *arguments)

    saved_methods.append((kind, method, original))
    setattr(kind, method, injected)

def restore():
    while saved_methods:
        kind, method, original = saved_methods.pop()
        if original is None:
            delattr(kind, method)
        else:
            setattr(kind, method, original)

def fault(x):
    pass
'''


@dataclass(frozen=True)
class Found:
    """What came of one attempt."""

    name: str
    names: list[str]
    notes: list[str]
    text: str
    outputs: bool | None
    seconds: float
    stranger: bool
    reported: list[int]
    saved: list[int]
    again: list[int]

    def check(self, *causes: str) -> None:
        """Check what must hold whatever happened; an error must lead to one of the causes, if any are named."""
        assert self.seconds < 50, self  # no bound of ours for what is gone is as long
        assert set(self.reported) <= set(self.saved), self
        assert not set(self.again) & set(self.saved), self
        if self.outputs is not None:
            assert self.outputs, self
            return
        assert self.names, self
        if causes:
            assert set(causes) & set(self.names), self
        if self.saved:
            assert any(f"of {COUNT} results are safe in {self.name}.pkl" in note for note in self.notes), self
        for note in self.notes:
            if "results are safe" in note:
                number = int(note.removeprefix("at least ").split()[0])
                assert number == len(self.saved) or (
                    note.startswith("at least") and number <= len(self.saved)
                )


def attempts(programs: Programs, source: str, *arguments: object) -> list[Found]:
    """Run a program of attempts and return what came of each."""
    done = Case(programs, PROGRAM + source, count=0).run(*arguments)
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert found
    return [Found(**entry) for entry in found]


# --- an error inside of an actor ------------------------------------------------------------------

INSIDE = """
ACTORS = {"writer": CheckpointWriter, "supervisor": Supervisor}
which, error = ACTORS[sys.argv[2]], ERRORS[sys.argv[3]]
for nth in range(1, 40):
    attempt(f"{nth}", ThreadWorker, lambda: inject(which, "on_receive", nth, error("injected")))
"""


@pytest.mark.parametrize("error", ["InjectedError", "SystemExit"])
@pytest.mark.parametrize("actor", ["writer", "supervisor"])
def test_run_ends_with_the_cause_when_one_of_its_own_actors_fails_at_any_message(
    actor: str, error: str, programs: Programs
) -> None:
    """An error in writer or supervisor, at whatever message, ends the run with that error as its cause, and keeps results."""
    found = attempts(programs, INSIDE, actor, error)
    for one in found:
        one.check(error)
        if error == "InjectedError":  # at an exit, pykka itself stops every actor of the process
            assert one.stranger, one
    failed = [one for one in found if one.outputs is None]
    assert len(failed) > 6  # each message of a run was hit, and then none was left to hit
    assert found[-1].outputs


IN_PROCESSES = """
ACTORS = {"writer": CheckpointWriter, "supervisor": Supervisor}
for actor in ACTORS:
    for nth in (2, 5):
        for name in ("InjectedError", "SystemExit"):
            error = ERRORS[name]("injected")
            attempt(
                f"{actor}-{nth}-{name}", ProcessWorker,
                lambda: inject(ACTORS[actor], "on_receive", nth, error),
            )
"""


def test_run_leaves_no_child_when_one_of_its_own_actors_fails(programs: Programs) -> None:
    """With child processes, too, such a run ends, with its cause, and its children are gone."""
    for one in attempts(programs, IN_PROCESSES):
        one.check(one.name.rpartition("-")[2])
        assert one.outputs is None


IN_WORKERS = """
kind = KINDS[sys.argv[2]]
error = ERRORS[sys.argv[3]]
for nth in (1, 2, 3, 4, 6):
    class Mine(kind):
        pass

    attempt(f"{nth}", Mine, lambda: inject(Mine, "on_receive", nth, error("injected")))

class All(kind):
    def on_receive(self, message):
        raise error("injected")

attempt("all", All)
"""


@pytest.mark.parametrize("error", ["InjectedError", "SystemExit"])
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_run_goes_on_or_ends_with_the_cause_when_a_workers_message_handler_fails(
    kind: str, error: str, programs: Programs
) -> None:
    """An error in a worker's own message handling costs that worker, and an error of the run names its cause."""
    found = attempts(programs, IN_WORKERS, kind, error)
    for one in found:
        one.check(error)
        if error == "InjectedError":
            assert one.stranger, one
            assert one.outputs or one.name == "all", one  # the other worker finishes the run
    assert found[-1].outputs is None


HOOKS = """
kind = KINDS[sys.argv[2]]
hook = sys.argv[3]
for name in ("InjectedError", "SystemExit", "KeyboardInterrupt"):
    for who in ("first", "all"):
        count = itertools.count()

        def fails(self):
            if hook == "on_stop":
                kind.on_stop(self)
            if who == "all" or not next(count):
                raise ERRORS[name]("injected")
            if hook == "on_start":
                kind.on_start(self)

        Mine = type("Mine", (kind,), {hook: fails})
        attempt(f"{who}-{name}", Mine)
"""


@pytest.mark.parametrize("hook", ["on_start", "on_stop"])
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_run_goes_on_or_ends_with_an_error_when_a_workers_hook_fails(
    kind: str, hook: str, programs: Programs
) -> None:
    """A worker whose start hook fails is missing, a stop hook that fails changes nothing: neither hangs the run."""
    for one in attempts(programs, HOOKS, kind, hook):
        one.check()
        assert one.outputs or (hook == "on_start" and one.name.startswith("all")), one
        assert one.stranger, one


# --- a stop from outside ---------------------------------------------------------------------------

OUTSIDE = """
kind = KINDS[sys.argv[2]]

def of(*classes):
    return [actor for actor in pykka.ActorRegistry.get_all() if issubclass(actor.actor_class, classes)]

def stop(actors, block=False):
    for actor in actors:
        actor.stop(block=block)

WHOM = {
    "writer": lambda: stop(of(CheckpointWriter)),
    "supervisor": lambda: stop(of(Supervisor)),
    "worker": lambda: stop(of(Worker)[:1]),
    "workers": lambda: stop(of(Worker)),
    "writer-blocking": lambda: stop(of(CheckpointWriter), block=True),
    "supervisor-blocking": lambda: stop(of(Supervisor), block=True),
    "worker-blocking": lambda: stop(of(Worker)[:1], block=True),
    "everything": lambda: pykka.ActorRegistry.stop_all(block=False),
    "everything-blocking": lambda: pykka.ActorRegistry.stop_all(block=True),
}

for name, act in WHOM.items():
    for moment in range(int(sys.argv[3]), COUNT + 1, int(sys.argv[4])):
        hits = []

        def on_result(index):
            hits.append(index)
            if len(hits) == moment:
                act()

        attempt(f"{name}-{moment}", kind, on_result=on_result)

    def from_elsewhere():
        def soon():
            end = time.monotonic() + 100
            while not of(Supervisor) and time.monotonic() < end:
                time.sleep(0.0001)
            act()
        threading.Thread(target=soon).start()

    attempt(f"{name}-start", kind, from_elsewhere)
"""


@sampled(3)
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_run_ends_or_goes_on_when_someone_stops_actors_at_any_result(
    kind: str, stride: int, programs: Programs
) -> None:
    """Whoever stops writer, supervisor, workers or every actor: the right list or an error that says what is safe."""
    for one in attempts(programs, OUTSIDE, kind, 1 + beginning(stride), stride):
        one.check()
        if one.outputs is None:
            assert "RunStoppedError" in one.names, one
            assert "stopped" in one.text, one
        if one.name.startswith("worker-"):
            assert one.outputs, one  # one worker is enough
        assert one.stranger or one.name.startswith("everything"), one


# --- actors of the user ------------------------------------------------------------------------------

OWNED = """
kind = KINDS[sys.argv[2]]
started = []

class Mine(kind):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        started.append(self)

def crew(size=2):
    started.clear()
    return [Mine.start() for _ in range(size)]

def stopping(actors):
    return lambda index: [actor.stop(block=False) for actor in actors]

def tell_nonsense(actors):
    def on_result(index):
        for actor in actors:
            actor.tell({"somebody's": "message"})
    return on_result

for name, size, doomed in (("one", 2, 1), ("all", 2, 2), ("only", 1, 1)):
    actors = crew(size)
    attempt(name, Mine, on_result=stopping(actors[:doomed]), actors=actors, chunk_size=None)
    assert len(started) == size, f"somebody started {len(started) - size} more"
    assert not any(actor.is_alive() for actor in actors[:doomed])

class Fails(Mine):
    def on_receive(self, message):
        if type(message).__name__ == "RunChunk":
            raise InjectedError("injected")
        return super().on_receive(message)

started.clear()
actors = [Fails.start(), Mine.start()]
attempt("failing", Mine, actors=actors, chunk_size=None)
assert len(started) == 2
started.clear()
actors = [Fails.start(), Fails.start()]
attempt("all failing", Mine, actors=actors, chunk_size=None)
assert len(started) == 2
actors = crew()
attempt("strange message", Mine, on_result=tell_nonsense(actors), actors=actors, chunk_size=None)
"""


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_users_actors_are_never_started_again_when_they_die_or_are_stopped(
    kind: str, programs: Programs
) -> None:
    """Actors that the user started and that end in a run are missing, and none is started behind his back."""
    found = {one.name: one for one in attempts(programs, OWNED, kind)}
    for one in found.values():
        one.check("RunStoppedError")
    for name in ("one", "failing", "strange message"):
        assert found[name].outputs, found[name]
    found["all failing"].check("InjectedError")
    assert found["all failing"].outputs is None


DEAD_BETWEEN = """
actors = [ThreadWorker.start(abs), ThreadWorker.start(abs)]
with Chunker(actors=actors, progress_bar=False) as chunker:
    assert chunker([[-1], [-2]]) == [1, 2]
    actors[0].stop()
    try:
        print(chunker([[-1], [-2], [-3]]))
    except RunStoppedError as error:
        print("an error", error)
    actors[1].stop()
    try:
        print(chunker([[-1], [-2], [-3]]))
    except RunStoppedError as error:
        print("an error", error)
    assert not pykka.ActorRegistry.get_all()
"""


def test_chunker_goes_on_or_says_so_when_the_users_actors_died_between_calls(
    programs: Programs,
) -> None:
    """A Chunker of actors that the user stopped neither hangs nor starts others: it uses the rest, or is an error."""
    first, second = Case(programs, DEAD_BETWEEN, count=0).run().stdout.splitlines()
    assert first == "[1, 2, 3]" or first.startswith("an error")
    assert second.startswith("an error")


# --- what the user's own callback raises ----------------------------------------------------------------

CALLBACK = """
kind = KINDS[sys.argv[2]]
for name, error in ERRORS.items():
    for moment in (1, 3, COUNT):
        hits = []

        def on_result(index):
            hits.append(index)
            if len(hits) == moment:
                raise error("mine")

        attempt(f"{name}-{moment}", kind, on_result=on_result)
"""


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_run_raises_what_on_result_raised_and_says_what_is_safe(kind: str, programs: Programs) -> None:
    """Whatever on_result raises, an exit included, is what the caller gets, with a note of what is safe; no actor dies of it."""
    for one in attempts(programs, CALLBACK, kind):
        one.check()
        assert one.outputs is None
        assert one.names[0] == one.name.partition("-")[0], one
        assert one.text == "mine"
        assert one.stranger
        assert len(one.reported) == int(one.name.partition("-")[2])


SUPERVISOR_ENDS = """
import sys, threading, time
import psutil, pykka
from thread_chunks import chunk
from thread_chunks.messages import ResultsSaved

def end(how):
    time.sleep(1)  # the calls run
    if how == "all":
        pykka.ActorRegistry.stop_all(block=False)
    else:
        [supervisor] = pykka.ActorRegistry.get_by_class_name("Supervisor")
        supervisor.stop(block=False) if how == "stop" else supervisor.tell(ResultsSaved(5))  # 5 is no tuple

for how in ("stop", "error", "all"):
    threading.Thread(target=end, args=[how]).start()
    try:
        chunk(time.sleep, [[600], [600], [600]], chunk_size=2, path=f"{how}.pkl")
    except (RuntimeError, TypeError) as error:
        print(how, type(error).__name__, len(psutil.wait_procs(psutil.Process().children(), timeout=100)[1]))
"""


def test_long_calls_are_killed_when_the_supervisor_ends(programs: Programs) -> None:
    """However the supervisor ends, no call of ten minutes goes on behind the back of a run that was given up."""
    done = programs.run(SUPERVISOR_ENDS)
    assert done.stdout.splitlines() == [
        "stop RunStoppedError 0",
        "error TypeError 0",
        "all RunStoppedError 0",
    ]
