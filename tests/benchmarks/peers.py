"""Everybody else in the races: each function prepares, yields what is timed, and cleans up.

Each is used as its own documentation does it. A pool is started and stopped within the
time; joblib is the exception, as it leaves its processes to the next call of the script,
and Dask and Ray, whose clusters run before the clock does. Modules are imported by whoever
needs them: nobody pays for another.
"""

import os
from collections.abc import Callable, Iterator
from importlib import import_module as load
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # there it runs as __main__
    from contender import Work

Steps = Iterator[Callable[[], list[Any]]]

MANY_CALLS = 1000
"""More calls than anybody hands to an executor one by one."""

MODULES = {"memory": "joblib", "memory_parallel": "joblib"} | {
    name: name for name in ("joblib", "mpire", "loky", "distributed", "ray")
}
"""What must be installed for which contender; the others need nothing."""


def joblib(work: "Work") -> Steps:
    """Run joblib with its default processes."""
    module = load("joblib")
    yield lambda: module.Parallel(n_jobs=work.workers)(
        module.delayed(work.func)(*call) for call in work.calls
    )


def memory(work: "Work") -> Steps:
    """Call a function that joblib caches on disk, one call after the other."""
    cached = load("joblib").Memory(work.folder, verbose=0).cache(work.func)
    yield lambda: [cached(*call) for call in work.calls]


def memory_parallel(work: "Work") -> Steps:
    """Call a function that joblib caches on disk, in joblib's processes."""
    module = load("joblib")
    cached = module.Memory(work.folder, verbose=0).cache(work.func)
    yield lambda: module.Parallel(n_jobs=work.workers)(module.delayed(cached)(*call) for call in work.calls)


def mpire(work: "Work") -> Steps:
    """Run mpire."""
    module = load("mpire")

    def run() -> list[Any]:
        with module.WorkerPool(n_jobs=work.workers) as pool:
            return list(pool.map(work.func, work.calls, concatenate_numpy_output=False))

    yield run


def executor(work: "Work", module: str = "concurrent.futures") -> Steps:
    """Run a ProcessPoolExecutor as it is, call by call, if there are not too many calls for that."""
    return executor_in_chunks(work, module, chunksize=1 if len(work.calls) <= MANY_CALLS else None)


def executor_in_chunks(
    work: "Work", module: str = "concurrent.futures", chunksize: int | None = None
) -> Steps:
    """Run a ProcessPoolExecutor that is told to hand out chunks."""
    chunksize = work.chunksize if chunksize is None else chunksize
    kind = load(module).ProcessPoolExecutor
    load("concurrent.futures.process")

    def run() -> list[Any]:
        with kind(work.workers) as pool:
            return list(pool.map(work.func, *zip(*work.calls, strict=True), chunksize=chunksize))

    yield run


def loky(work: "Work") -> Steps:
    """Run the executor of loky."""
    return executor(work, "loky")


def pool(work: "Work") -> Steps:
    """Run a pool of forked processes."""
    context = load("multiprocessing").get_context("fork")
    load("multiprocessing.pool")

    def run() -> list[Any]:
        with context.Pool(work.workers) as processes:
            return list(processes.starmap(work.func, work.calls, work.chunksize))

    yield run


def spawned(work: "Work") -> Steps:
    """Hand the array that the function holds to spawned processes, by an initializer."""
    main = load("__main__")
    context = load("multiprocessing").get_context("spawn")
    load("multiprocessing.pool")

    def run() -> list[Any]:
        array = work.func.args[0]  # type: ignore[attr-defined]  # the function is a partial
        with context.Pool(work.workers, main.hold, (array,)) as processes:
            return list(processes.starmap(main.peek_held, work.calls))

    yield run


def distributed(work: "Work") -> Steps:
    """Run Dask, on a cluster of processes that is up already."""
    os.environ["DASK_TEMPORARY_DIRECTORY"] = work.folder
    module = load("distributed")
    cluster = module.LocalCluster(
        n_workers=work.workers,
        threads_per_worker=1,
        dashboard_address=None,
        local_directory=work.folder,
    )
    with cluster, module.Client(cluster) as client:
        yield lambda: list(client.gather(client.map(work.func, *zip(*work.calls, strict=True), pure=False)))


def ray(work: "Work") -> Steps:
    """Run Ray, which is up already."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    module = load("ray")
    module.init(num_cpus=work.workers, include_dashboard=False, log_to_driver=False, _temp_dir=work.folder)
    remote = module.remote(work.func)
    yield lambda: list(module.get([remote.remote(*call) for call in work.calls]))
    module.shutdown()


# --- what the machine itself can do -------------------------------------------------------------


def forked(work: "Work") -> Steps:
    """Fork bare processes that do an even part each, after the ideal was measured here."""
    context = load("multiprocessing").get_context("fork")
    load("multiprocessing.connection")

    def part(first: int, end: Any) -> None:
        end.send([work.func(*call) for call in work.calls[first :: work.workers]])

    def run() -> list[Any]:
        outputs: list[Any] = [None] * len(work.calls)
        pipes = [context.Pipe(duplex=False) for _ in range(work.workers)]
        processes = [context.Process(target=part, args=(i, end)) for i, (_, end) in enumerate(pipes)]
        for process in processes:
            process.start()
        for i, (reader, _) in enumerate(pipes):
            outputs[i :: work.workers] = reader.recv()
            processes[i].join()
        return outputs

    work.measured["ideal_seconds"] = load("ours").serial_seconds(work) / work.workers
    yield run


def plain_write(work: "Work") -> Steps:
    """Write the bytes of the results to one file and sync it; computing them is not timed."""
    arrays = [work.func(*call) for call in work.calls]

    def run() -> list[Any]:
        with open(os.path.join(work.folder, "plain"), "wb") as file:
            file.writelines(array.data for array in arrays)
            file.flush()
            os.fsync(file.fileno())
        return arrays

    yield run


def plain_load(work: "Work") -> Steps:
    """Load lists of parameters and results with bare pickle."""
    pickle = load("pickle")

    def run() -> list[Any]:
        with open(os.path.join(work.folder, "plain.pickle"), "rb") as file:
            parameters, outputs = pickle.load(file)
        assert len(parameters) == len(work.calls)
        return list(outputs)

    yield run
