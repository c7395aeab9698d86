"""Run calls on Ray: on this machine, or, unchanged, on a cluster.

Without a running Ray, one is started for the run and stopped after it, which takes some
seconds. Where ``RAY_ADDRESS`` names a cluster, the calls run there, and the checkpoint stays here.

End it half-way in any way you like, with ``kill -9`` too, and run it again: it goes on from there.
"""

import os
import random
import sys

from thread_chunks import Checkpoint, RayWorker, chunk

PATH = "on_ray.pkl"


def points_in_circle(seed: int, count: int) -> int:
    """Throw points into a square, and count those inside of the circle in it."""
    generator = random.Random(seed)
    return sum(generator.random() ** 2 + generator.random() ** 2 < 1 for _ in range(count))


def main() -> None:
    """Estimate pi from forty samples."""
    count = 200_000
    worker = RayWorker  # on a cluster with graphics cards: RayWorker.on(num_gpus=1)
    hits = chunk(points_in_circle, [[seed, count] for seed in range(40)], path=PATH, worker=worker)
    print(f"pi is about {4 * sum(hits) / (len(hits) * count):.4f}")
    seconds = sum(second or 0.0 for second in Checkpoint.load(PATH).seconds)
    print(f"{len(hits)} calls took {seconds:.1f} s of computing; {os.path.abspath(PATH)} holds them.")


try:
    main()
except ImportError as error:  # Ray is optional
    sys.exit(str(error))
