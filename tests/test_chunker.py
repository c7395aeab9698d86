"""`Chunker`: workers that are kept between calls."""

import gc
import itertools
import operator
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pykka
import pytest
from conftest import Programs, children, note, noted, wait_for, wait_until

from thread_chunks import (
    Checkpoint,
    CheckpointDamagedWarning,
    CheckpointLockedError,
    Chunker,
    Failure,
    ProcessWorker,
    RunStoppedError,
    ThreadWorker,
    chunk,
    config,
)
from thread_chunks._pool import Pool

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")


def double(x: Any) -> Any:
    return 2 * x


def pid(_: object = None) -> int:
    return os.getpid()


def test_chunker_can_be_called_again_and_again() -> None:
    """Each call returns its own outputs in order."""
    with Chunker(double, chunk_size=2) as chunker:
        assert chunker([[1], [2], [3]]) == [2, 4, 6]
        assert chunker([]) == []
        assert chunker([n] for n in range(50)) == [2 * n for n in range(50)]


def test_chunker_keeps_its_children_between_calls() -> None:
    """The worker processes are the same in every call."""
    with Chunker(pid, chunk_size=2) as chunker:
        first = set(chunker([[n] for n in range(50)]))
        second = set(chunker([[n] for n in range(50)]))
        assert len(first | second) <= 2  # calls are so short that one child may run all of them
        assert first | second <= children()


def test_chunker_keeps_the_function_in_its_children(tmp_path: Path) -> None:
    """The function travels once to each worker, not once for each call of the Chunker."""

    class Travelling:
        __name__ = "travelling"

        def __call__(self, x: int) -> int:
            return x

        def __setstate__(self, state: Any) -> None:
            note(tmp_path / "log", os.getpid())

        def __getstate__(self) -> int:
            return 1

    with Chunker(Travelling(), chunk_size=1) as chunker:
        for _ in range(3):
            assert chunker([[1], [2]]) == [1, 2]
    assert len(noted(tmp_path / "log")) == 1


def test_chunker_keeps_a_new_function_when_one_was_given() -> None:
    """func replaces the function that the workers hold, for this call and those after it."""
    with Chunker(double, chunk_size=2) as chunker:
        assert chunker([[2]]) == [4]
        assert chunker([[-2]], func=abs) == [2]
        assert chunker([[-3]]) == [3]


@pytest.mark.parametrize("size", [10, 100_000])
def test_chunker_gives_another_child_the_same_function_when_one_died(size: int) -> None:
    """A child that is started again computes with what the others do, though an array of the script changed meanwhile."""
    table = np.zeros(size)

    def look(is_last: bool) -> float:
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(table[0])

    with Chunker(look, chunk_size=1, on_error="return") as chunker:
        assert chunker([[False]]) == [0.0]
        table[:] = 7
        assert chunker([[False]]) == [0.0]
        assert isinstance(chunker([[True]])[0], Failure)
        assert chunker([[False]]) == [0.0]


def test_chunker_starts_another_child_when_one_died() -> None:
    """A child that died between two calls is replaced."""
    with Chunker(pid, chunk_size=1) as chunker:
        first = chunker([[1]])[0]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: first not in children())
        assert chunker([[1]])[0] != first


def test_chunker_starts_another_worker_when_one_was_stopped() -> None:
    """A worker that someone stopped between two calls is replaced."""
    with Chunker(double, chunk_size=2) as chunker:
        chunker([[1]])
        for actor in chunker.actors:
            actor.stop()
        assert chunker([[1], [2]]) == [2, 4]


def test_chunker_can_be_called_after_a_failure() -> None:
    """A call that failed leaves the workers ready for the next."""

    def inverse(x: int) -> float:
        return 1 / x

    with Chunker(inverse, chunk_size=2) as chunker:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                chunker([[1], [0], [2]])
            assert chunker([[1], [2]]) == [1.0, 0.5]


def test_chunker_can_be_called_after_an_interrupt() -> None:
    """After Ctrl-C the workers are ready for the next call."""

    def interrupt(index: int, output: int) -> None:
        raise KeyboardInterrupt

    with Chunker(double, chunk_size=2, on_result=interrupt) as chunker:
        with pytest.raises(KeyboardInterrupt):
            chunker([[n] for n in range(20)])
        with pytest.raises(KeyboardInterrupt):
            chunker([[n] for n in range(20)])
    with Chunker(double, chunk_size=2) as chunker:
        assert chunker([[1]]) == [2]


def test_chunker_has_actors_and_chunk_size() -> None:
    """`actors` are the workers, and `chunk_size` is their number."""
    with Chunker(double, chunk_size=3) as chunker:
        assert chunker.chunk_size == len(chunker.actors) == 3
        assert all(issubclass(actor.actor_class, ProcessWorker) for actor in chunker.actors)
        assert all(actor.is_alive() for actor in chunker.actors)
    with Chunker(double) as chunker:
        assert chunker.chunk_size == config.default_chunk_size


def test_chunker_uses_the_worker_class_it_is_given() -> None:
    """`worker` decides what kind of workers are started."""
    with Chunker(pid, chunk_size=2, worker=ThreadWorker) as chunker:
        assert chunker([[1], [2]]) == [os.getpid()] * 2


@pytest.mark.parametrize("arguments", [{}, {"func": double, "actors": []}], ids=["neither", "both"])
def test_chunker_refuses_to_start_without_exactly_one_of_func_and_actors(arguments: dict[str, Any]) -> None:
    """Neither or both of func and actors is a ValueError."""
    with pytest.raises(ValueError, match="func or actors"):
        Chunker(**arguments)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_chunker_refuses_a_size_when_it_is_not_the_number_of_actors(size: int) -> None:
    """A chunk_size other than the number of actors is a ValueError."""
    actors = [ThreadWorker.start(double) for _ in range(2)]
    with pytest.raises(ValueError, match="2 actors"):
        Chunker(actors=actors, chunk_size=size)


def test_chunker_stops_its_workers_when_the_block_is_left() -> None:
    """Leaving the context stops workers and children, also by an exception."""
    before = children()
    actors = []

    def leave() -> None:
        with Chunker(double, chunk_size=2) as chunker:
            chunker([[1], [2]])
            actors.extend(chunker.actors)
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert len(actors) == 2
    assert not any(actor.is_alive() for actor in actors)
    wait_until(lambda: children() <= before)


def test_chunker_stops_its_workers_when_it_is_forgotten() -> None:
    """A Chunker that is deleted stops its workers."""
    before = children()
    chunker = Chunker(double, chunk_size=2)
    chunker([[1], [2]])
    actors = chunker.actors
    del chunker
    gc.collect()
    wait_until(lambda: not any(actor.is_alive() for actor in actors))
    wait_until(lambda: children() <= before)


def test_chunker_leaves_its_workers_running_when_it_is_persistent() -> None:
    """persistent=True: the actors outlive the Chunker and can be used again."""
    with Chunker(double, chunk_size=2, persistent=True) as chunker:
        actors = chunker.actors
    del chunker
    gc.collect()
    assert all(actor.is_alive() for actor in actors)
    assert chunk(None, [[1], [2]], actors) == [2, 4]


def test_chunker_leaves_the_users_actors_running() -> None:
    """Actors that the user started are never stopped by a Chunker."""
    actors = [ThreadWorker.start(double)]
    with Chunker(actors=actors) as chunker:
        assert chunker([[1]]) == [2]
    del chunker
    gc.collect()
    assert actors[0].is_alive()


def test_chunker_uses_the_path_of_the_call_before_its_own(tmp_path: Path) -> None:
    """A path given to the call wins over the Chunker's own."""
    with Chunker(double, chunk_size=1, path=tmp_path / "own.pkl") as chunker:
        chunker([[1]])
        chunker([[2]], path=tmp_path / "other.pkl")
    assert Checkpoint.load(tmp_path / "own.pkl").output == [2]
    assert Checkpoint.load(tmp_path / "other.pkl").output == [4]


def test_chunker_resumes_from_a_file_of_chunk(tmp_path: Path) -> None:
    """A checkpoint belongs to function and parameters, not to the way in."""
    path = tmp_path / "c.pkl"

    def logged(x: int) -> int:
        note(tmp_path / "log", x)
        return x

    chunk(logged, [[1], [2]], chunk_size=1, path=path)
    with Chunker(logged, chunk_size=2) as chunker:
        assert chunker([[1], [2]], path=path) == [1, 2]
        assert list(chunker.as_completed([[1], [2]], path=path)) == [(0, 1), (1, 2)]
    assert noted(tmp_path / "log") == ["1", "2"]


def test_chunker_shows_a_bar_when_the_call_asks_for_one(capfd: pytest.CaptureFixture[str]) -> None:
    """progress_bar of the call wins over the Chunker's, which wins over config."""
    with Chunker(double, chunk_size=1, progress_bar=True) as chunker:
        chunker([[1]], progress_bar=False)
        assert capfd.readouterr() == ("", "")
        chunker([[1]])
        out, err = capfd.readouterr()
        assert out == ""
        assert "1/1" in err


# --- as_completed ---------------------------------------------------------------------


def test_as_completed_yields_every_result_with_its_index() -> None:
    """Each call is yielded once, with its own index."""
    with Chunker(double, chunk_size=2) as chunker:
        assert sorted(chunker.as_completed([[n] for n in range(30)])) == [(n, 2 * n) for n in range(30)]


def test_as_completed_yields_a_result_while_others_run(tmp_path: Path) -> None:
    """A result is yielded as soon as it is saved: here the other call waits for that."""

    def waits(x: int) -> int:
        if x:
            wait_for(tmp_path / "go on")
        return x

    with Chunker(waits, chunk_size=2) as chunker:
        seen = []
        for index, output in chunker.as_completed([[1], [0]]):
            (tmp_path / "go on").touch()
            seen.append((index, output))
    assert seen == [(1, 0), (0, 1)]


def test_as_completed_yields_results_that_are_in_the_file(tmp_path: Path) -> None:
    """Whatever was yielded is saved."""
    path = tmp_path / "c.pkl"
    with Chunker(double, chunk_size=2, path=path) as chunker:
        for index, output in chunker.as_completed([[n] for n in range(30)]):
            checkpoint = Checkpoint.load(path)
            assert checkpoint.completed[index]
            assert checkpoint.output[index] == output


def test_as_completed_yields_each_of_thousands_of_short_calls_once(tmp_path: Path) -> None:
    """Results that are saved in groups are yielded one by one, with their own index, and are in the file by then."""
    path = tmp_path / "c.pkl"
    count = 5000
    with Chunker(double, chunk_size=2, path=path) as chunker:
        seen: dict[int, int] = {}
        for index, output in chunker.as_completed([[n] for n in range(count)]):
            assert index not in seen
            seen[index] = output
            if len(seen) % 1000 == 1:
                checkpoint = Checkpoint.load(path)
                assert all(
                    checkpoint.completed[each] and checkpoint.output[each] == seen[each] for each in seen
                )
        assert seen == {n: 2 * n for n in range(count)}
        assert sorted(chunker.as_completed([[n] for n in range(count)])) == [(n, 2 * n) for n in range(count)]


def test_as_completed_keeps_the_rest_of_a_group_when_the_loop_is_left(tmp_path: Path) -> None:
    """Leaving the loop after one of many results that were saved together loses none of them."""
    path = tmp_path / "c.pkl"
    with Chunker(double, chunk_size=2, path=path) as chunker:
        results = chunker.as_completed([[n] for n in range(3000)])
        seen = dict(itertools.islice(results, 700))
        results.close()
        checkpoint = Checkpoint.load(path)
        assert checkpoint.done >= 700
        assert all(checkpoint.output[index] == output == 2 * index for index, output in seen.items())
        rest = dict(chunker.as_completed([[n] for n in range(3000)]))
    assert rest == {n: 2 * n for n in range(3000)}


def test_as_completed_yields_resumed_results_first(tmp_path: Path) -> None:
    """Results that the file held already come first, as they were saved, and are not run again."""
    path = tmp_path / "c.pkl"

    def odd_later(x: int) -> int:
        note(tmp_path / "log", x)
        if x % 2 and not (tmp_path / "later").exists():
            raise OSError
        return x

    parameters = [[n] for n in range(6)]
    chunk(odd_later, parameters, chunk_size=2, path=path, on_error="return")
    (tmp_path / "later").touch()
    before = len(noted(tmp_path / "log"))
    with Chunker(odd_later, chunk_size=1) as chunker:
        results = list(chunker.as_completed(parameters, path=path))
    assert sorted(results[:3]) == [(0, 0), (2, 2), (4, 4)]
    assert results[3:] == [(1, 1), (3, 3), (5, 5)]
    assert noted(tmp_path / "log")[before:] == ["1", "3", "5"]


def test_as_completed_keeps_what_was_yielded_when_the_loop_is_left(tmp_path: Path) -> None:
    """Leaving the loop early keeps what was received, stops what runs, and frees workers and file."""
    path = tmp_path / "c.pkl"

    def hangs_later(x: int) -> int:
        if x > 2:
            wait_for(tmp_path / "never")
        return x

    with Chunker(hangs_later, chunk_size=2, path=path) as chunker:
        parameters = [[n] for n in range(6)]
        seen = []
        results = chunker.as_completed(parameters)
        for index, _ in results:
            seen.append(index)
            if len(seen) == 3:
                break
        results.close()
        assert Checkpoint.load(path).completed == [True] * 3 + [False] * 3
        assert chunker([[0], [1]], path=tmp_path / "other.pkl") == [0, 1]


def test_as_completed_starts_nothing_until_it_is_asked(tmp_path: Path) -> None:
    """Parameters are checked at once; nothing runs before the first result is asked for."""
    with Chunker(lambda x: note(tmp_path / "log", x), chunk_size=1) as chunker:
        with pytest.raises(TypeError):
            chunker.as_completed([1, 2])
        results = chunker.as_completed([[1]])
        assert noted(tmp_path / "log") == []
        assert list(results) == [(0, None)]


def test_as_completed_raises_the_functions_exception_after_the_results() -> None:
    """Failures are raised as on_error says."""

    def inverse(x: int) -> float:
        return 1 / x

    with Chunker(inverse, chunk_size=1, on_error="continue") as chunker:
        seen = []

        def collect() -> None:
            for index, _ in chunker.as_completed([[1], [0], [2]]):
                seen.append(index)

        with pytest.raises(ExceptionGroup):
            collect()
        assert seen == [0, 2]


def test_as_completed_yields_failures_when_told_to_return() -> None:
    """Under "return" each failure is yielded too, with its index."""

    def inverse(x: int) -> float:
        return 1 / x

    with Chunker(inverse, chunk_size=1, on_error="return") as chunker:
        results = dict(chunker.as_completed([[1], [0], [2]]))
    assert (results[0], results[2]) == (1.0, 0.5)
    assert isinstance(results[1], Failure)
    assert results[1].index == 1


def test_chunker_refuses_a_second_call_when_one_is_going_on() -> None:
    """A call in the middle of another is an error that says what to do, and does not disturb it."""
    with Chunker(double, chunk_size=2) as chunker:
        results = chunker.as_completed([[n] for n in range(100)])
        seen = [next(results)]
        with pytest.raises(RuntimeError, match="another run"):
            chunker([[1]])
        with pytest.raises(RuntimeError, match="another run"):
            next(chunker.as_completed([[1]]))
        seen.extend(results)
        assert sorted(seen) == [(n, 2 * n) for n in range(100)]
        assert chunker([[1]]) == [2]


def test_chunker_refuses_one_of_two_threads_that_call_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one gets the workers, however close the other one is, which learns so by the usual error."""
    both, is_refused = threading.Barrier(2), threading.Event()
    check = Pool.check_free
    outputs: list[Any] = []
    refused: list[str] = []

    def check_together(self: Pool, occupied: tuple[object, ...]) -> None:
        check(self, occupied)
        both.wait(10)

    def wait(x: int) -> int:
        assert is_refused.wait(10)
        return x

    def call() -> None:
        try:
            outputs.append(chunker([[1], [2]]))
        except RuntimeError as error:
            refused.append(str(error))
            is_refused.set()

    monkeypatch.setattr(Pool, "check_free", check_together)
    with Chunker(wait, chunk_size=2, worker=ThreadWorker) as chunker:
        threads = [threading.Thread(target=call) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        monkeypatch.undo()
        assert chunker([[3]], progress_bar=False) == [3]
    assert outputs == [[1, 2]]
    assert refused == ["these workers are in the middle of another run: wait for it, or close its iterator"]


def test_chunker_refuses_a_path_when_another_run_holds_it(tmp_path: Path) -> None:
    """Two Chunkers of one process cannot write to one file at once."""
    path = tmp_path / "c.pkl"
    with Chunker(double, chunk_size=1) as one, Chunker(double, chunk_size=1) as other:
        results = one.as_completed([[n] for n in range(10)], path=path)
        next(results)
        with pytest.raises(CheckpointLockedError, match=str(os.getpid())):
            other([[n] for n in range(10)], path=path)
        assert len(list(results)) == 9
        assert other([[n] for n in range(10)], path=path) == [2 * n for n in range(10)]


def test_chunker_leaves_nothing_in_the_registry() -> None:
    """After a Chunker was closed, no actor of its runs is registered."""
    before = set(pykka.ActorRegistry.get_all())
    with Chunker(double, chunk_size=2) as chunker:
        chunker([[1]])
        assert set(pykka.ActorRegistry.get_all()) - before == set(chunker.actors)
    wait_until(lambda: set(pykka.ActorRegistry.get_all()) == before)


def test_chunker_can_be_closed_twice() -> None:
    """Closing is idempotent, and a closed Chunker starts its workers anew when it is called."""
    chunker = Chunker(double, chunk_size=1)
    chunker.close()
    chunker.close()
    assert chunker([[1]]) == [2]
    chunker.close()


def test_chunker_leaves_what_a_function_holds_writable(tmp_path: Path) -> None:
    """A large array that a function holds is its own in the child: it may write into it."""
    table = np.zeros(100_000)

    def counted() -> float:
        table[0] += 1
        return float(table[0])

    with Chunker(counted, chunk_size=1) as chunker:
        assert chunker([[], []]) == [1.0, 2.0]
    assert table[0] == 0


# --- a stream keeps nothing --------------------------------------------------------------------


@pytest.mark.parametrize("has_path", [False, True])
def test_as_completed_computes_no_further_ahead_of_the_loop_than_the_backlog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_path: bool
) -> None:
    """A slow loop holds up the calls, and results do not pile up in memory."""
    monkeypatch.setattr(config, "backlog_bytes", 0)
    log = tmp_path / "log"

    def run(number: int) -> int:
        note(log, number)
        return number

    with Chunker(run, chunk_size=1, timeout=60) as chunker:  # so that calls go out one by one
        path = tmp_path / "a.pkl" if has_path else None
        for taken, (index, output) in enumerate(
            chunker.as_completed([[number] for number in range(40)], path=path)
        ):
            assert index == output == taken
            assert len(noted(log)) == taken + 1, "a call ran ahead of the loop"


STREAM = """
    import resource, sys
    import numpy as np
    from thread_chunks import Checkpoint, Chunker, config

    config.progress_bar = False
    config.backlog_bytes = 8 << 20
    MEGABYTE = 1 << 20

    def peak():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) >> 10 for line in status if line.startswith("VmHWM"))

    def make(number):
        return np.full(MEGABYTE, number % 256, "u1")

    with Chunker(make, chunk_size=2) as chunker:
        list(chunker([[0]]))
        before = peak()
        for run in range(2):  # the second one resumes everything
            seen = set()
            for index, output in chunker.as_completed([[number] for number in range(300)], path=sys.argv[1]):
                assert output[0] == index % 256
                seen.add(index)
            assert seen == set(range(300))
            print(peak() - before)
"""


def test_as_completed_holds_no_result_that_was_yielded(programs: Programs, tmp_path: Path) -> None:
    """300 results of a megabyte each pass through a few of memory; the file has them all."""
    path = tmp_path / "a.pkl"
    peaks = programs.run(STREAM, str(path)).stdout.split()
    assert len(peaks) == 2
    assert all(int(peak) < 100 for peak in peaks), peaks
    assert path.stat().st_size > 300 << 20


def test_as_completed_yields_what_an_earlier_run_saved_in_records_groups_and_the_head(tmp_path: Path) -> None:
    """Whatever stands in the file is yielded once, before anything is computed, also what follows a fold."""
    path, log = tmp_path / "a.pkl", tmp_path / "log"

    def run(number: int) -> Any:
        note(log, number)
        return np.full(100_000, number) if number % 10 == 0 else number

    calls = [[number] for number in range(60)]
    chunk(run, calls[:20], path=path)  # folded into the head
    with Chunker(run, on_mismatch="reuse") as chunker:
        for _ in zip(range(25), chunker.as_completed(calls[:40], path=path), strict=False):
            pass  # the rest stands in records
    saved = set(np.flatnonzero(Checkpoint.load(path).completed).tolist())
    assert set(range(20)) < saved
    log.unlink()
    with Chunker(run, on_mismatch="reuse") as chunker:
        results = list(chunker.as_completed(calls, path=path))
    assert [int(np.max(output)) for _, output in results] == [index for index, _ in results]
    assert sorted(index for index, _ in results) == list(range(60))
    assert {index for index, _ in results[: len(saved)]} == saved
    assert {int(line) for line in noted(log)} == set(range(60)) - saved
    with Chunker(run) as chunker:
        assert sorted(index for index, _ in chunker.as_completed(calls, path=path)) == list(range(60))


class Fragile:
    """Cannot be unpickled any more once a file is there."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __setstate__(self, state: dict[str, Any]) -> None:
        if os.path.exists(state["path"]):
            msg = "broken"
            raise ValueError(msg)
        self.__dict__.update(state)


def test_as_completed_computes_a_saved_result_again_when_it_cannot_be_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file cannot give again is missing, with a warning, and is yielded once, when it is computed."""
    monkeypatch.setattr(config, "fold_bytes", 0)
    path, broken = tmp_path / "a.pkl", tmp_path / "broken"

    def run(number: int) -> Any:
        return number if number != 1 or broken.exists() else Fragile(str(broken))

    calls = [[number] for number in range(4)]
    chunk(run, calls, path=path)
    broken.touch()
    with Chunker(run) as chunker:
        kept = pytest.warns(CheckpointDamagedWarning, match=r"kept as .*\.bak")
        with kept, pytest.warns(CheckpointDamagedWarning, match="call 1 cannot be unpickled"):
            results = list(chunker.as_completed(calls, path=path))
        assert sorted(results) == [(number, number) for number in range(4)]
        assert sorted(chunker.as_completed(calls, path=path)) == sorted(
            results
        )  # it was superseded: no warning


@pytest.mark.parametrize("rival", ["call", "call with another function", "stream", "close"])
def test_chunker_runs_one_of_two_that_come_at_once(rival: str) -> None:
    """Of two threads one runs, and its list is right; the other gets the documented error, and disturbs nothing."""
    seen: set[str] = set()
    barrier = threading.Barrier(2)

    def call(chunker: Chunker, func: Any = double) -> None:
        barrier.wait(100)
        try:
            outputs = chunker([[1], [2], [3]], func)
            seen.add("right" if outputs == list(map(func, [1, 2, 3])) else f"wrong: {outputs}")
        except RunStoppedError as error:
            seen.add("right" if rival == "close" and "was closed" in str(error) else f"wrong: {error}")
        except RuntimeError as error:
            seen.add("right" if "another run" in str(error) else f"wrong: {error}")

    def come(chunker: Chunker) -> None:
        if rival == "close":
            barrier.wait(100)
            chunker.close()
        elif rival == "stream":
            barrier.wait(100)
            with suppress(RuntimeError):
                assert next(chunker.as_completed([[1], [2], [3]]))[1] in {2, 4, 6}
        else:
            call(chunker, operator.neg if "function" in rival else double)

    for _ in range(20):
        with Chunker(double, chunk_size=2, worker=ThreadWorker) as chunker:
            threads = [threading.Thread(target=each, args=(chunker,), daemon=True) for each in (call, come)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(100)
                assert not thread.is_alive()
            assert chunker([[4]], double) == [8]
    assert seen == {"right"}
