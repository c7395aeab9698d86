"""The recipe for random numbers: a stream for each call, whatever the worker, the order and the history of the run."""

import os
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Programs, note, noted, wait_until

from thread_chunks import Checkpoint, CheckpointRestartedWarning, ThreadWorker, chunk

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

PARAMETERS: list[list[Any]] = [[2024, number, 1.0] for number in range(8)]


def simulate(seed: int, number: int, scale: float) -> list[float]:
    """Draw as the documents say."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    return [scale * float(value) for value in rng.random(3)]


EXPECTED = [simulate(*entry) for entry in PARAMETERS]


@pytest.mark.parametrize("chunk_size", [1, 4])
@pytest.mark.parametrize("is_kept", [True, False])
def test_recipe_gives_the_same_numbers_whatever_the_workers(
    chunk_size: int, is_kept: bool, tmp_path: Path
) -> None:
    """One worker or four, with a file or without: a call draws what its number says, and no two the same."""
    path = tmp_path / "c.pkl" if is_kept else None
    outputs = chunk(simulate, PARAMETERS, chunk_size=chunk_size, path=path)
    assert outputs == EXPECTED
    assert len(set(map(tuple, outputs))) == len(PARAMETERS)
    assert chunk(simulate, PARAMETERS[::-1], chunk_size=chunk_size, worker=ThreadWorker) == EXPECTED[::-1]


def test_recipe_gives_the_same_numbers_when_the_run_was_killed(programs: Programs) -> None:
    """What was saved before the kill, and what is computed after it, is one sample."""
    program = """
        import os, sys, time
        import numpy as np
        from thread_chunks import chunk

        def simulate(seed, number, scale):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
            if number > 3 and sys.argv[1] == "stop":
                time.sleep(600)
            return (scale * rng.random(3)).tolist()

        def saved(index, output):
            with open("saved.log", "a") as log:
                log.write(f"{index}\\n")

        parameters = [[2024, number, 1.0] for number in range(8)]
        outputs = chunk(simulate, parameters, chunk_size=2, path="c.pkl", progress_bar=False, on_result=saved)
        print(repr(outputs))
    """
    process = programs.start(program, "stop")
    wait_until(lambda: len(noted(programs.folder / "saved.log")) == 4)
    os.kill(process.pid, signal.SIGKILL)
    programs.finish(process)
    programs.expect_gone(process)
    assert programs.run(program, "go").stdout.strip() == repr(EXPECTED)
    assert len(noted(programs.folder / "saved.log")) == 8


def test_recipe_keeps_its_numbers_when_the_list_is_reordered_and_extended(tmp_path: Path) -> None:
    """The number of a call travels with it, so "reuse" finds the results and computes only new calls."""
    path, log = tmp_path / "c.pkl", tmp_path / "log"

    def counted(seed: int, number: int, scale: float) -> list[float]:
        note(log, number)
        return simulate(seed, number, scale)

    chunk(counted, PARAMETERS, chunk_size=2, path=path)
    log.unlink()
    longer: list[list[Any]] = [[2024, 8, 1.0], *PARAMETERS[::-1]]
    outputs = chunk(counted, longer, chunk_size=2, path=path, on_mismatch="reuse")
    assert outputs == [simulate(*longer[0]), *EXPECTED[::-1]]
    assert noted(log) == ["8"]


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    """The seed is a parameter, so results of another one are never mixed in."""
    path = tmp_path / "c.pkl"
    chunk(simulate, PARAMETERS, chunk_size=1, path=path, worker=ThreadWorker)
    other = [[7, *rest] for _, *rest in PARAMETERS]
    with pytest.warns(
        CheckpointRestartedWarning, match=r"call 0, argument 0 \('seed'\): 2024 was saved, 7 is asked for"
    ):
        assert chunk(simulate, other, chunk_size=1, path=path, worker=ThreadWorker)[0] != EXPECTED[0]


def test_reuse_gives_no_sample_twice(tmp_path: Path) -> None:
    """A function that draws without a seed has as many samples as calls, also when a list of equal calls grows."""
    path = tmp_path / "c.pkl"
    first = chunk(lambda: float(np.random.default_rng().random()), [[]] * 3, chunk_size=1, path=path)
    more = chunk(
        lambda: float(np.random.default_rng().random()),
        [[]] * 6,
        chunk_size=1,
        path=path,
        on_mismatch="reuse",
    )
    assert more[:3] == first
    assert len(set(more)) == 6


# --- a generator as a parameter ---------------------------------------------------------------


def draw(rng: Any, count: int) -> list[float]:
    return [float(value) for value in rng.random(count)]


def test_generator_among_the_parameters_is_copied_for_each_call() -> None:
    """Calls of child processes draw from copies: equal ones give equal numbers, spawned ones do not, yours stays."""
    rng = np.random.default_rng(1)
    one, other = chunk(draw, [[rng, 3], [rng, 3]], chunk_size=2)
    assert one == other == draw(np.random.default_rng(1), 3)
    assert draw(rng, 3) == one
    spawned = np.random.default_rng(1).spawn(2)
    assert chunk(draw, [[each, 3] for each in spawned], chunk_size=1) == [
        draw(each, 3) for each in np.random.default_rng(1).spawn(2)
    ]


def test_generator_among_the_parameters_is_compared_by_its_state(tmp_path: Path) -> None:
    """A generator made anew from its seed resumes; one that was drawn from is another value."""
    path = tmp_path / "c.pkl"
    chunk(draw, [[np.random.default_rng(1), 3]], chunk_size=1, path=path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chunk(draw, [[np.random.default_rng(1), 3]], chunk_size=1, path=path)
    drawn = np.random.default_rng(1)
    drawn.random()
    with pytest.warns(
        CheckpointRestartedWarning,
        match=r"argument 0 \('rng'\), what it is made of, .*key 'state': [0-9]+ was saved, ",
    ):
        chunk(draw, [[drawn, 3]], chunk_size=1, path=path)
    assert Checkpoint.load(path).done == 1
