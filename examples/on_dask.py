"""How dense may a forest be before a fire gets through? The same call on a Dask cluster.

Without arguments it starts a small cluster on this machine. With the address of a
scheduler it runs there, and thread-chunks must be installed there, too::

    python examples/on_dask.py
    python examples/on_dask.py tcp://scheduler:8786

The checkpoint stays with the script. End it half-way in any way you like, and run it
again: it goes on from there, on the same cluster or on another.
"""

import argparse
import random
import sys

from thread_chunks import ExecutorWorker, chunk

SIZE = 60  # trees on each side of the forest
FIRES = 150  # that are lit for each density and seed


def share_that_burns_through(density: float, seed: int, fires: int) -> float:
    """Light one edge of many random forests, and count in how many the fire reaches the other.

    Parameters
    ----------
    density
        The share of places that hold a tree.
    seed
        Of the random numbers.
    fires
        How many forests.

    Returns
    -------
    float
        From 0 to 1.
    """
    rng = random.Random(seed)
    return sum(burns_through(density, rng) for _ in range(fires)) / fires


def burns_through(density: float, rng: random.Random) -> bool:
    """Let a fire run from the first row of a forest, and tell whether it reached the last."""
    trees = {(row, column) for row in range(SIZE) for column in range(SIZE) if rng.random() < density}
    burning = [place for place in trees if place[0] == 0]
    trees.difference_update(burning)
    while burning:
        row, column = burning.pop()
        if row == SIZE - 1:
            return True
        for place in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if place in trees:
                trees.remove(place)
                burning.append(place)
    return False


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Burn random forests on a Dask cluster.")
    parser.add_argument("address", nargs="?", help="of a Dask scheduler (default: start a cluster here)")
    parser.add_argument("--path", default="on_dask.pkl", help="the checkpoint (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="few fires, of a second or two")
    return parser.parse_args()


def main() -> None:
    """Run the sweep and show what came of it."""
    args = arguments()
    try:
        from distributed import Client  # noqa: PLC0415 - optional
    except ImportError:
        sys.exit('this example needs Dask: python -m pip install "thread-chunks[dask]"')

    densities = [0.52 + 0.01 * step for step in range(16)]
    fires = FIRES // 10 if args.quick else FIRES
    parameters = [[density, seed, fires] for density in densities for seed in range(3)]
    # One thread for each process: two fires in Python code would only take turns.
    cluster = {} if args.address else {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with Client(args.address, **cluster) as client:
        outputs = chunk(
            share_that_burns_through,
            parameters,
            chunk_size=2 * sum(client.nthreads().values()),  # the next call is there when one ends
            path=args.path,
            worker=ExecutorWorker.on(client.get_executor()),
        )
    for place, density in enumerate(densities):
        shares = outputs[3 * place : 3 * place + 3]
        print(f"{density:.2f} " + "#" * round(20 * sum(shares)))


if __name__ == "__main__":  # the processes of a local cluster import this file
    main()
