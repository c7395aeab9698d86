"""Where the time of a trivial call goes: ``python tests/benchmarks/stages.py``.

Each stage of the way from the parameter list to the file is run by itself, in this one
process and for the same calls, and its time is given for each call: the best of some
rounds, as whatever disturbs a round only adds to it. Nothing waits here, and nothing runs
at the same time, so the sum is processor time and not what a run takes.
"""

import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from contender import add
from facts import facts
from race import DISK

from thread_chunks import _by_value, _child, _outbox, _received, _wire
from thread_chunks._format import About
from thread_chunks._identity import fingerprint, identify, plain_form
from thread_chunks._log import Log
from thread_chunks._parameters import read_calls
from thread_chunks._records import Group
from thread_chunks._resume import new_checkpoint
from thread_chunks.messages import Results

CALLS = 100_000
CHUNK = 20_000
ROUNDS = 7
CHUNKS = [range(start, start + CHUNK) for start in range(0, CALLS, CHUNK)]


def main() -> None:
    """Run each stage and print the table."""
    parameters = [[i, i + 1] for i in range(CALLS)]
    _, calls = read_calls(parameters)
    identity = identify(add)
    sent = [_by_value.dump((chunk, calls.rows_of(chunk))) for chunk in CHUNKS]
    outcomes = [run(*each) for each in sent]
    messages = [joined(*columns) for columns in outcomes]
    received = [results(chunk, message) for chunk, message in zip(CHUNKS, messages, strict=True)]
    checkpoint = new_checkpoint(identity, parameters)
    with tempfile.TemporaryDirectory(dir=DISK) as folder:
        log = Log(os.path.join(folder, "stages.pkl"))
        log.replace(b"head", bytes(32), about=About())
        groups = [Group(0, *each.pickled[:2]) for each in received]
        stages: list[tuple[str, str, Callable[[], object]]] = [
            ("script", "read and copy the parameter list", lambda: read_calls(parameters)),
            (
                "writer",
                "digest it, to know the run again",
                lambda: fingerprint(identity, calls, plain_form(calls)),
            ),
            ("worker", "pickle a chunk", lambda: [_by_value.dump((c, calls.rows_of(c))) for c in CHUNKS]),
            (
                "child",
                "unpickle it",
                lambda: [list(zip(*_wire.unflat(*pickle.loads(main)[1]), strict=True)) for main, _ in sent],
            ),
            ("child", "run the calls and pickle each result", lambda: [run(*each) for each in sent]),
            ("child", "join the results into groups", lambda: [joined(*columns) for columns in outcomes]),
            ("worker", "unpickle the results", lambda: list(map(results, CHUNKS, messages))),
            ("writer", "note them in the checkpoint", lambda: note(checkpoint, received)),
            ("writer", "append them, with fsync", lambda: append(log, groups)),
        ]
        sys.stdout.write(f"{facts()}\n\n| who | what | µs for each call |\n|---|---|--:|\n")
        for who, what, stage in stages:
            sys.stdout.write(f"| {who} | {what} | {1e6 * best(stage) / CALLS:.2f} |\n")
        bare = best(lambda: [add(*row) for row in parameters])
        sys.stdout.write(f"| - | the same calls in a plain loop | {1e6 * bare / CALLS:.2f} |\n")
        log.close()


def run(main: bytes, buffers: Any) -> Any:
    """Run a chunk as the child's main thread does; return what its sender would find."""
    runner = _child.Runner(SimpleQueue(), _outbox.Outbox())
    runner.func = add
    runner.chunk(main, buffers, 1e9, stops_at_failure=True, worker=0)
    return runner.outbox.take(0)


def joined(began: float, indices: Any, seconds: Any, items: Any) -> list[Any]:
    """Join the results of a chunk as the sender of its child does."""
    return list(_outbox.Message(0, indices, seconds, items).parts(began))


def results(chunk: range, message: list[Any]) -> Results:
    """Unpickle the results of a chunk as its worker does."""
    columns, trace, body, _ = next(
        item[1:] for item in message if item is not _outbox.DONE and item[0] == "results"
    )
    (made,) = _received.results(chunk, columns, trace, bytes(body), (), durable=True)
    assert isinstance(made, Results)
    return made


def note(checkpoint: Any, received: list[Results]) -> None:
    """Note results as the writer does."""
    for made in received:
        checkpoint.add_results(made.indices, made.outputs, made.seconds, 0)


def append(log: Log, groups: list[Group]) -> None:
    """Append results as the writer does, if it has to sync for each chunk."""
    for group in groups:
        log.append([group])


def best(stage: Callable[[], object]) -> float:
    """Return the seconds of the fastest round."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        stage()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
