"""thread-chunks in the races: each function prepares, yields what is timed, and cleans up."""

import os
import pickle
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import thread_chunks
from thread_chunks import chunk

if TYPE_CHECKING:  # there it runs as __main__
    from contender import Work

Steps = Iterator[Callable[[], list[Any]]]

CHECKPOINT = "results.pkl"
UNFOLDED = "unfolded.pkl"
PLAIN = "plain.pickle"


def unsaved(work: "Work") -> Steps:
    """Do without a checkpoint."""
    yield lambda: chunk(work.func, work.calls, chunk_size=work.workers, progress_bar=False)


def saved(work: "Work") -> Steps:
    """Save every result."""
    path = os.path.join(work.folder, CHECKPOINT)
    yield lambda: chunk(work.func, work.calls, chunk_size=work.workers, progress_bar=False, path=path)


def as_typed(work: "Work") -> Steps:
    """Give no option but the path: the size is looked up, and the bar writes to a log."""
    path = os.path.join(work.folder, CHECKPOINT)
    yield lambda: chunk(work.func, work.calls, path=path)


def closure(work: "Work") -> Steps:
    """Let the function hold its array in a closure and not in a partial."""
    peek, array = work.func.func, work.func.args[0]  # type: ignore[attr-defined]  # a partial has them
    yield lambda: chunk(lambda i: peek(array, i), work.calls, chunk_size=work.workers, progress_bar=False)


def warm(work: "Work") -> Steps:
    """Call workers that run already; first measure the ideal, the serial time divided by the workers."""
    with thread_chunks.Chunker(work.func, chunk_size=work.workers, progress_bar=False) as chunker:
        chunker(work.calls[: 2 * work.workers])
        work.measured["ideal_seconds"] = serial_seconds(work) / work.workers
        yield lambda: chunker(work.calls)


def warm_saved(work: "Work") -> Steps:
    """Save the results of workers that run already."""
    with thread_chunks.Chunker(work.func, chunk_size=work.workers, progress_bar=False) as chunker:
        chunker(work.calls[:100], path=os.path.join(work.folder, "first.pkl"))
        yield lambda: chunker(work.calls, path=os.path.join(work.folder, CHECKPOINT))


def serial_seconds(work: "Work") -> float:
    """Return how long the calls take in a plain loop, here and now."""
    start = time.perf_counter()
    for call in work.calls:
        work.func(*call)
    return time.perf_counter() - start


# --- finished files -------------------------------------------------------------------------


def write_files(work: "Work") -> Steps:
    """Save the same results three times: as they are by default, unfolded, and with bare pickle."""

    def run() -> list[Any]:
        outputs = chunk(work.func, work.calls, progress_bar=False, path=os.path.join(work.folder, CHECKPOINT))
        thread_chunks.config.fold_bytes = 0
        chunk(work.func, work.calls, progress_bar=False, path=os.path.join(work.folder, UNFOLDED))
        with open(os.path.join(work.folder, PLAIN), "wb") as file:
            pickle.dump((work.calls, outputs), file)
        return outputs

    yield run


def resume(work: "Work", name: str = CHECKPOINT) -> Steps:
    """Make the call again whose results are all saved; no call may run."""
    path = os.path.join(work.folder, f"copy-of-{name}")
    with open(os.path.join(work.folder, name), "rb") as original, open(path, "wb") as copy:
        copy.write(original.read())  # each round finds the file as it was
    executed: list[int] = []

    def note(index: int, output: Any) -> None:
        executed.append(index)

    yield lambda: chunk(work.func, work.calls, progress_bar=False, path=path, on_result=note)
    assert not executed


def resume_unfolded(work: "Work") -> Steps:
    """Resume from a file that is still records, one after the other, and leave it so."""
    thread_chunks.config.fold_bytes = 0
    return resume(work, UNFOLDED)


def load(work: "Work", name: str = CHECKPOINT) -> Steps:
    """Load a checkpoint."""
    yield lambda: thread_chunks.Checkpoint.load(os.path.join(work.folder, name)).output


def load_unfolded(work: "Work") -> Steps:
    """Load a file that is still records, one after the other."""
    return load(work, UNFOLDED)
