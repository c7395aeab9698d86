"""When does water find its way through? A sweep on the nodes of a Slurm cluster, and on any other machine too.

In a square of cells, of which each is open with some chance, water is poured on the upper
edge. How often it reaches the lower one jumps from never to always near a chance of 0.593.

    python examples/on_slurm.py

* On a login node, where there is ``sbatch``: each call is a Slurm job of its own. The partition
  is that of the environment: ``export SBATCH_PARTITION=...``.
* In a Slurm job, where there is ``srun``: the calls share what was given to the job.
* Anywhere else: the calls run in processes of this machine.

The script itself stays, saves each result, and must live until the last call ended. End it
half-way in any way you like, and run it again: it goes on from there.
"""

import os
import shutil
import sys
from concurrent.futures import Executor

import numpy as np

from thread_chunks import Checkpoint, ExecutorWorker, chunk

try:
    from executorlib import SingleNodeExecutor, SlurmClusterExecutor, SlurmJobExecutor
except ImportError:
    sys.exit('This example needs executorlib: python -m pip install "thread-chunks[executorlib]"')

WORKERS = int(os.environ.get("SLURM_NTASKS", "2"))  # in a Slurm job: as many as it has tasks
AT_ONCE = 20  # jobs of ours in the queue of Slurm, when this runs on a login node


def chance_of_passage(openness: float, size: int, samples: int, seed: int) -> float:
    """Estimate how often water finds its way through a square of cells.

    Parameters
    ----------
    openness
        The chance of each cell to be open.
    size
        Cells along an edge.
    samples
        How many squares to look at.
    seed
        Where the random numbers begin.

    Returns
    -------
    float
        Between 0 and 1.
    """
    rng = np.random.default_rng(seed)
    passages = 0
    for _ in range(samples):
        is_open = rng.random((size, size)) < openness
        is_wet = np.zeros((size + 2, size + 2), bool)  # with an edge all around
        is_wet[0] = True
        count = 0
        while count != (count := int(is_wet.sum())):
            inner = is_wet[1:-1, 1:-1]
            inner |= is_open & (is_wet[:-2, 1:-1] | is_wet[2:, 1:-1] | is_wet[1:-1, :-2] | is_wet[1:-1, 2:])
        passages += bool(is_wet[-2].any())
    return passages / samples


def is_on_login_node() -> bool:
    """Whether jobs can be submitted, and this is none."""
    return "SLURM_JOB_ID" not in os.environ and shutil.which("sbatch") is not None


def make_executor() -> Executor:
    """Make what runs the calls; the run shuts it down, and makes another one if it breaks."""
    if is_on_login_node():
        needs = {"cores": 1, "run_time_max": 600}  # what each job asks for; seconds
        return SlurmClusterExecutor(resource_dict=needs)  # type: ignore[no-any-return]
    if "SLURM_JOB_ID" in os.environ and shutil.which("srun"):
        return SlurmJobExecutor(max_workers=WORKERS, block_allocation=True)  # type: ignore[no-any-return]
    return SingleNodeExecutor(  # type: ignore[no-any-return]
        max_workers=WORKERS,
        block_allocation=True,  # processes that stay; otherwise each call starts one
        hostname_localhost=True,
    )


def main() -> None:
    """Run the sweep and draw what came of it."""
    if is_on_login_node():
        try:
            import pysqa  # type: ignore[import-not-found] # noqa: F401, PLC0415 - only to submit jobs
        except ImportError:
            sys.exit('To submit Slurm jobs: python -m pip install "executorlib[cluster]"')

    parameters = [[0.5 + 0.01 * step, 48, 40, step] for step in range(19)]
    chances = chunk(
        chance_of_passage,
        parameters,
        path="passage.pkl",
        worker=ExecutorWorker.on(make_executor),
        chunk_size=AT_ONCE if is_on_login_node() else 2 * WORKERS,  # one waits for each that runs
    )
    for (openness, *_), chance in zip(parameters, chances, strict=True):
        print(f"{openness:.2f} {'#' * round(40 * chance):40} {chance:4.0%}")
    seconds = sum(each or 0.0 for each in Checkpoint.load("passage.pkl").seconds)
    print(f"\nAll calls together computed for {seconds:.1f} s.")


main()  # no `if __name__ == "__main__":` is needed
