"""Calls on an executor of executorlib: its processes end with the script, and whatever is lost runs again."""

import functools
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

import pytest
from conftest import Programs, children, note, noted, wait_until

from thread_chunks import (
    CallExitError,
    Checkpoint,
    ExecutorWorker,
    Failure,
    RunStoppedError,
    WorkerDiedError,
    chunk,
)

pytestmark = [pytest.mark.engines, pytest.mark.usefixtures("_quiet", "_tidy", "_by_value")]

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "on_slurm.py"


def maker(*, block: bool = True, workers: int = 2) -> Callable[[], Executor]:
    """Return what makes an executor whose processes stay, or are started for each call."""
    import executorlib  # noqa: PLC0415 - it may be missing where these tests are not run

    return functools.partial(
        executorlib.SingleNodeExecutor, max_workers=workers, block_allocation=block, hostname_localhost=True
    )


@pytest.fixture(autouse=True)
def _leaves_no_process() -> Iterator[None]:
    """Check that no process is left after the executor was shut down; its threads may take a moment."""
    before = children()
    yield
    wait_until(lambda: children() <= before, what="the end of the processes of executorlib")


# --- runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [False, True], ids=["each", "block"])
def test_executorlib_runs_calls_and_resumes(
    block: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results are right and saved, a second run executes none, and nothing but the checkpoint is left."""
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"

    def call(x: int, factor: int) -> int:
        note(log, x)
        return factor * x

    with maker(block=block)() as executor:
        for _ in range(2):
            outputs = chunk(
                call, [[x, 3] for x in range(4)], worker=ExecutorWorker.on(executor), path="results.pkl"
            )
            assert outputs == [0, 3, 6, 9]
    assert sorted(noted(log)) == list("0123")
    assert sorted(os.listdir()) == ["log", "results.pkl"]


@pytest.mark.parametrize("block", [False, True], ids=["each", "block"])
def test_call_that_ends_its_process_fails_alone_when_the_run_may_make_executors(
    block: bool, tmp_path: Path
) -> None:
    """Whichever way executorlib tells of a lost process, only the call to blame fails."""

    def call(x: int) -> int:
        if x == 1:
            os._exit(3)
        return x

    worker = ExecutorWorker.on(maker(block=block))
    outputs = chunk(call, [[x] for x in range(4)], worker=worker, chunk_size=2, on_error="return")
    assert [output for output in outputs if not isinstance(output, Failure)] == [0, 2, 3]
    assert isinstance(outputs[1].exception, WorkerDiedError)
    assert str(outputs[1].exception).startswith("call 1: the executor lost it: ExecutorlibSocketError")


def test_exit_of_a_call_leaves_a_process_of_executorlib_alive() -> None:
    """A task may run chunk() in the main thread of its process; an exit there would be the end of it."""

    def task() -> str:
        try:
            chunk(sys.exit, [[3]], progress_bar=False)
        except CallExitError as error:
            return repr(error.__cause__)
        return "nothing"

    with maker(workers=1)() as executor:
        assert [executor.submit(task).result(100) for _ in range(2)] == ["SystemExit(3)"] * 2


@pytest.mark.parametrize(
    ("made", "inner"), [(False, True), (True, False)], ids=["borrowed-inner", "made-outer"]
)
def test_run_ends_with_what_is_saved_when_a_thread_of_the_executor_ends(
    made: bool, inner: bool, programs: Programs
) -> None:
    """executorlib's own threads just end at an error, such as one of squeue, and no future tells of it."""
    program = f"""
        import functools, os, time
        import executorlib
        from thread_chunks import ExecutorWorker, RunStoppedError, chunk

        made = []

        def make():
            made.append(executorlib.SingleNodeExecutor(max_workers=2, hostname_localhost=True))
            return made[-1]

        def call(x):
            if x and not os.path.exists("begun"):
                open("begun", "w").close()
                time.sleep(600)
            return x

        def end_thread(index, output):
            scheduler = made[0]._task_scheduler
            if {inner}:
                scheduler = scheduler._process_kwargs["executor"]
            while not os.path.exists("begun"):
                time.sleep(0.01)
            scheduler._future_queue.put(1)  # it expects a dict

        try:
            worker = ExecutorWorker.on(make if {made} else make())
            outputs = chunk(call, [[0], [1]], worker=worker, path="c.pkl", on_result=end_thread, progress_bar=False)
        except RunStoppedError as error:
            outputs = error, error.__notes__
        print(outputs, flush=True)
        os._exit(0)  # nothing else ends those threads that wait for the dead one
        """
    out = programs.run(program, flags=("-W", "error::UserWarning")).stdout
    if made:
        assert out == "[0, 1]\n"
    else:
        assert "a thread of executorlib ended" in out
        assert "1 of 2 results are safe" in out


def test_run_ends_with_what_is_saved_when_no_process_of_a_block_is_left(tmp_path: Path) -> None:
    """An executor of the user's that lost its processes ends the run, and no innocent call is blamed."""
    path, log, gate = tmp_path / "results.pkl", tmp_path / "log", tmp_path / "gate"

    def call(x: int) -> int:
        note(log, x)
        if x == 3 and not gate.exists():
            gate.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    run = functools.partial(chunk, call, [[x] for x in range(6)], path=path, chunk_size=1)
    with (
        maker(workers=1)() as executor,
        pytest.raises(RunStoppedError, match="takes no more calls: ExecutorlibSocketError") as caught,
    ):
        run(worker=ExecutorWorker.on(executor))
    assert "3 of 6 results are safe" in "".join(caught.value.__notes__)
    assert run(worker=ExecutorWorker.on(maker())) == list(range(6))
    assert noted(log)[:4] == list("0123")
    assert Counter(noted(log)) == Counter("0123345")


def test_no_two_attempts_are_equal_to_an_engine_that_keeps_what_it_ran(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a cache executorlib takes equal calls for one, and would give the failure of the first attempt again."""
    import executorlib  # noqa: PLC0415 - as above
    from executorlib.standalone.serialize import serialize_funct  # noqa: PLC0415

    keys: list[str] = []
    submit = executorlib.SingleNodeExecutor.submit

    def noticed(self: Executor, fn: Callable[..., object], /, *args: object) -> object:
        keys.append(serialize_funct(fn, list(args))[0])
        return submit(self, fn, *args)

    monkeypatch.setattr(executorlib.SingleNodeExecutor, "submit", noticed)

    def call(x: int) -> int:
        raise ValueError(x)

    with maker(workers=1)() as executor, pytest.raises(ValueError, match="1"):
        chunk(call, [[1]], worker=ExecutorWorker.on(executor), retries=2)
    assert len(set(keys)) == 3


# --- the end of the script -------------------------------------------------------------------

ENDLESS = """
import os, signal, sys, time
from executorlib import SingleNodeExecutor
from thread_chunks import ExecutorWorker, chunk

signal.signal(signal.SIGINT, signal.default_int_handler)

def call(x):
    if x == 1:
        open(f"ready{x}", "w").close()
        time.sleep(600)
    time.sleep(0.05)
    open(f"ready{x}", "w").close()
    time.sleep(600 * (x > 5))
    return x

def make():
    return SingleNodeExecutor(max_workers=2, block_allocation=True, hostname_localhost=True)

chunk(call, [[x] for x in range(9)], path="results.pkl", worker=ExecutorWorker.on(make), chunk_size=2, progress_bar=False)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda each: each.name)
def test_processes_of_executorlib_end_with_the_script(
    number: signal.Signals, programs: Programs, tmp_path: Path
) -> None:
    """Whatever ends the script in mid-run, no process that got a call is left, and the results are saved."""
    process = programs.start(ENDLESS)
    for x in (1, 6):
        wait_until((tmp_path / f"ready{x}").exists)
    process.send_signal(number)
    _, err = programs.finish(process)
    programs.expect_gone(process)
    assert Checkpoint.load(str(tmp_path / "results.pkl")).completed == [
        x in (0, 2, 3, 4, 5) for x in range(9)
    ]
    if number == signal.SIGINT:
        assert "5 of 9 results are safe in results.pkl" in err


# --- the example -----------------------------------------------------------------------------

HERE = {"PATH": os.path.dirname(sys.executable)}
"""Without the commands of a Slurm that may be there."""


def test_example_resumes_after_it_was_killed(programs: Programs, tmp_path: Path) -> None:
    """Killed half-way and run again, the example goes on from there and shows the whole table."""
    process = programs.start(None, EXAMPLE, env=HERE)
    path = tmp_path / "passage.pkl"
    wait_until(lambda: path.exists() and path.stat().st_size)
    wait_until(lambda: any(Checkpoint.load(str(path)).completed))
    process.kill()
    process.wait(100)  # and not for its processes: one that was just starting stays until the end of the test
    saved = sum(Checkpoint.load(str(path)).completed)
    done = programs.run(None, EXAMPLE, env=HERE)
    assert f"19/19 calls (100%), {saved} resumed" in done.stderr
    assert done.stdout.count("%\n") == 19


def test_example_runs_its_calls_with_srun_inside_of_a_slurm_job(programs: Programs, tmp_path: Path) -> None:
    """In a job the calls run in job steps, and there are as many as the job has tasks."""
    srun = programs.write(
        f"""\
        #!/bin/sh
        echo "$*" >> {tmp_path}/steps
        until [ -x "$1" ]; do shift; done
        exec "$@"
        """,
        "bin/srun",
    )
    srun.chmod(0o755)
    job = {"PATH": f"{srun.parent}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "1"}
    done = programs.run(None, EXAMPLE, env=job)
    assert done.stdout.count("%\n") == 19
    (step,) = noted(tmp_path / "steps")
    assert step.startswith("-n 1 --cpus-per-task=1 ")


def test_example_says_what_to_install_when_executorlib_is_missing(programs: Programs) -> None:
    """Without executorlib the example ends with one line, and not with a traceback."""
    source = f"""
    import runpy, sys
    sys.modules["executorlib"] = None
    runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
    """
    done = programs.run(source, code=1)
    assert done.stderr == (
        'This example needs executorlib: python -m pip install "thread-chunks[executorlib]"\n'
    )


def test_example_says_what_to_install_when_jobs_cannot_be_submitted(programs: Programs) -> None:
    """On a login node the example needs what submits jobs, and says so in one line before anything runs."""
    sbatch = programs.write("#!/bin/sh\n", "bin/sbatch")
    sbatch.chmod(0o755)
    source = f"""
    import runpy, sys
    sys.modules["pysqa"] = None
    runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
    """
    done = programs.run(source, code=1, env={"PATH": str(sbatch.parent)})
    assert done.stderr == 'To submit Slurm jobs: python -m pip install "executorlib[cluster]"\n'
