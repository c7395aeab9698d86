"""Calls on the ranks of an MPI job: the executor of mpi4py, started by a real mpiexec."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import STRICT, Programs, noted, wait_until

from thread_chunks import Checkpoint

pytestmark = pytest.mark.engines

ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",  # tests in a container are run by root
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",  # more ranks than processors; Open MPI 4
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # and 5
}

REPLACE = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
"""Has a program's interpreter become another program, in the same session."""

SWEEP = """
import os, sys, time
from mpi4py.futures import MPIPoolExecutor
from thread_chunks import ExecutorWorker, chunk

def note(path, line):
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\\n".encode())
    os.close(descriptor)

def double(x, gate):
    note("log", f"{x} {os.getpid()}")
    if x == 10 and not os.path.exists(gate):
        note(gate, "")
        if gate == "exit":
            os._exit(3)
        time.sleep(600)
    return 2 * x

if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        print(chunk(
            double, [[x, sys.argv[1]] for x in range(20)], path="sweep.pkl", worker=ExecutorWorker.on(executor),
            chunk_size=4, progress_bar=False, on_result=lambda index, _: note("saved", index),
        ))
"""
DOUBLED = f"{[2 * x for x in range(20)]}\n"


@pytest.fixture(scope="session")
def mpiexec() -> str:
    """Find what starts MPI jobs: the one of the environment, as its library is the one that mpi4py finds."""
    folders = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    found = shutil.which("mpiexec", path=folders)
    assert found, "there is no mpiexec: install the extra test-engines"
    return found


def start(programs: Programs, mpiexec: str, script: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start a script on three ranks."""
    job = [mpiexec, "-n", "3", sys.executable, *STRICT, "-m", "mpi4py.futures", script, *arguments]
    return programs.start(None, "-c", REPLACE, *job, env=ENVIRONMENT)


def finish(programs: Programs, process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for its end, and for that of all ranks."""
    out, err = programs.finish(process)
    programs.expect_gone(process)
    return process.returncode, out, err


def test_mpi_ranks_run_the_scripts_own_function(programs: Programs, mpiexec: str, tmp_path: Path) -> None:
    """All ranks but the first run calls, each once, and the results are saved."""
    (tmp_path / "ready").touch()
    script = programs.write(SWEEP, "sweep.py")
    code, out, err = finish(programs, start(programs, mpiexec, script, "ready"))
    assert (code, out) == (0, DOUBLED), err
    assert Checkpoint.load(str(tmp_path / "sweep.pkl")).done == 20
    lines = [line.split() for line in noted(tmp_path / "log")]
    assert sorted(int(x) for x, _ in lines) == list(range(20))
    assert len({process for _, process in lines}) == 2


@pytest.mark.parametrize("gate", [pytest.param("exit", marks=pytest.mark.nightly), "killed"])
def test_mpi_job_that_lost_a_rank_ends_and_resumes(
    gate: str, programs: Programs, mpiexec: str, tmp_path: Path
) -> None:
    """mpiexec ends the job when a rank dies; the next job executes no call again whose result was saved."""
    script = programs.write(SWEEP, "sweep.py")
    job = start(programs, mpiexec, script, gate)
    if gate == "killed":
        wait_until(lambda: len(noted(tmp_path / "saved")) == 19)  # the other rank does the rest meanwhile
        (rank,) = [line.split()[1] for line in noted(tmp_path / "log") if line.startswith("10 ")]
        os.kill(int(rank), signal.SIGKILL)
    code, _, _ = finish(programs, job)
    assert code != 0
    saved = {int(index) for index in noted(tmp_path / "saved")}
    assert len(saved) >= 8
    code, out, err = finish(programs, start(programs, mpiexec, script, gate))
    assert (code, out) == (0, DOUBLED), err
    runs = Counter(int(line.split()[0]) for line in noted(tmp_path / "log"))
    assert runs[10] == 2
    assert {x for x, count in runs.items() if count > 1}.isdisjoint(saved)


ALONE = """
from mpi4py.futures import MPIPoolExecutor
from thread_chunks import ExecutorWorker, chunk

with MPIPoolExecutor(2, main=False) as executor:
    print(chunk(lambda x: 2 * x, [[1], [2]], worker=ExecutorWorker.on(executor), progress_bar=False))
"""

BROKEN = """
from mpi4py.futures import _core

def client_spawn(*_):
    raise RuntimeError("there are no slots")

_core.client_spawn = client_spawn
"""


def test_mpi_processes_are_started_by_the_executor_without_mpiexec(programs: Programs, mpiexec: str) -> None:
    """A plain script gets its processes from the executor, and with ``main=False`` it needs no guard."""
    path = os.pathsep.join([os.path.dirname(mpiexec), os.environ.get("PATH", "")])
    process = programs.start(ALONE, env=ENVIRONMENT | {"PATH": path})
    code, out, err = finish(programs, process)
    assert (code, out) == (0, "[2, 4]\n"), err


def test_run_ends_with_an_error_when_mpi_starts_no_processes(programs: Programs) -> None:
    """Where MPI cannot start processes, no run waits for them; the error says how to start the script."""
    process = programs.start(BROKEN + ALONE, env=ENVIRONMENT)
    code, _, err = finish(programs, process)
    assert code == 1
    assert "there are no slots" in err
    assert "RunStoppedError: no worker is left to run the calls: MPI started no processes" in err
    assert "mpiexec -n 8 python -m mpi4py.futures script.py" in err
