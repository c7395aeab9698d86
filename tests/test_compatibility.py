"""Scripts and files of release 1.0.5 keep working.

The files below were written by the code of that release itself: `Checkpoint.loadifparams`
and `update_save`, which is what its `chunk` calls.
"""

import base64
import inspect
import os
import pickle
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Programs, note, noted

from thread_chunks import (
    Checkpoint,
    CheckpointError,
    CheckpointFailedWarning,
    CheckpointRestartedWarning,
    Chunker,
    ThreadWorker,
    chunk,
    config,
)

pytestmark = pytest.mark.usefixtures("_by_value", "_tidy")

OLD_FILES = {
    "half-finished": (
        "eNqtj0FqwzAQRdNESuveoDdIN75E6UrgGxSjWGMsrMjCkiCbQLqLYXadHKR36ME6TlsC7bafgT8zfIY3R3n+WHwJH1I3gjZ102Xf"
        "x5Idmj4M1ifC+6fr8EaPr3SgDRZt9k3t9Q4IV9oYjgU98phgjPRCGy51owTMvlTy4iu1vrhQtwC4HnIKOc1hJStVVIBFM+yC4xtm"
        "3p6m0wQorTewJyVQmMEDqSXKOujUEd512rVl6B3lbXmU5/fvd2ZAEcG1HNlm65L1kdtn52yINvIX/8xfsX7TT6wr/eKHnps/8OUn"
        "XDCOXA=="
    ),
    "finished": (
        "eNqtj1FKAzEQhqtN2q56AW9QX/YS0qcBbyBLupllw6bZsEnAF6G+KeTN6VG8hKdyUpWC+Nifgf+fYRjm28vD5+xb+Tb2EyrdtH1y"
        "Q6jZsR38aFykfHV/at7p7oWeaZ2rLrm2cWqHlOdKa17zauI24hTokdZccAECi1+CPPocFkcXsETMizFFn2JZBglLqOAac9WOO2/5"
        "ii7zVxZmaZzGJwKRhR4dliAbr2JP+aYzzoQede0HS2lb7+Xh4weqvCkC2o7yapuMjcYFjhtrjQ8mMMuZKR5YfwneWCeC2S8Bh38B"
        "6i+PUpHY"
    ),
    "just begun": (
        "eNrFT0FqwzAQTBopqfOD/CC9+BMhJ0F/UIxsbWphRRaWBL0U0mNhb918pF/ox7JKAj30AR0WZmZZlpmTPP/MbsBN6ifQpun67IdY"
        "M0M3hNH6RLje/Zovevqgd9pidci+a7w+AuFCG8NnQU9sE0yRXmjLo+ZKQOEHJa+8UMsrC7UCwOWYU8ipHD8zAKtuPAbHH0zZfTIA"
        "pfUG3kjNUJjRQxGyCTr1hFULr9nXYXCU2/okz9/3NiWfiOAOhI9tti5ZH1nunbMh2sgl/jO++Ju+vgAfPI8+"
    ),
    "lambda": (
        "eNq1j8FqwzAMhrs2bpu9wd6gu+QJxi5jJ0PeYAQnVomJ45jYhl0G3a0B3aY+yt5hjzWl2yj0vh/BLwkh6TuI09fiR3gX2xGUrpo2"
        "uS4U7NB0fjAuEt4+XYoPun+nN9phvk+uqZzqgXD7YFVfa/XIs16N3IswBnqhHYe8kRnMvpTi7Cu5PnsmNwC4HlL0Kc7DUpQyLwHz"
        "Zui95R167h6n4wQojNPwSjLDTA8OSC5RVF7FlnDDxwvfWUp1cRCnz1+k+cksgN3zf3UyNhoXOH221vhgApP8B0PJuiaYWBeCxR8B"
        "J9cAxTe+YpEO"
    ),
    "arrays": (
        "eNrdkMFKw0AQhpPaSKoeCj2IbxAvOXsQDBQRDOTg2RI2yYaEJptlswv2INSD2MLcnPqcvoFO0opFfQLnsPPv7s+/O9/S2dzbVl9w"
        "pgvFWRanhRHz1qfO07lsSqERjqbfm1c8f8JH9GCUG5HGgtUcwdGNZhUZJVN0oLlqcYbeDGEiTC0XFNco7pPmqkwRjuNcNXVi8pwr"
        "SvTextZ+vV/tREDRfQD1TC8kJzMM8gtcr17wDr3wAOxLjKLo9oOqX0JLYxIOnhHsKWoysRkWJz9fcINtHwdYTDp3cdp7ORw2Rkuj"
        "u+/fBO7WFXEYpU0tK5os625Waw5OKTL+gOEAhlkjOIY2OLFkuiAMTCm2aH05r9Ak/tLZTHeYO3DDllc5gpuYstKlaEleV1Up27Lt"
        "xvv/XKNfPNd7PK0vniT+wOl/AkrG8cU="
    ),
}

HALF: dict[str, tuple[list[Any], list[bool]]] = {
    "half-finished": ([5, None, 9, None], [True, False, True, False]),
    "finished": ([5, 7, 9, 11], [True] * 4),
    "just begun": ([None] * 4, [False] * 4),
}
PARAMETERS = [[1, 4], [2, 5], [3, 6], [4, 7]]


def old_file(kind: str, folder: Path) -> Path:
    """Write a file as release 1.0.5 left it."""
    path = folder / "old.pkl"
    path.write_bytes(zlib.decompress(base64.b64decode(OLD_FILES[kind])))
    return path


def adder(log: Path) -> Callable[[int, int], int]:
    def add(x: int, y: int) -> int:
        note(log, x)
        return x + y

    return add


# --- files ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HALF)
def test_old_file_is_loaded(kind: str, folder: Path) -> None:
    """A file of 1.0.5 loads with all its results, knows its path, and is not changed."""
    path = old_file(kind, folder)
    before = path.read_bytes()
    output, completed = HALF[kind]
    checkpoint = Checkpoint.load(path)
    assert checkpoint.func_name == "add"
    assert checkpoint.parameters == PARAMETERS
    assert checkpoint.output == output
    assert checkpoint.completed == completed
    assert checkpoint.done == sum(completed)
    assert checkpoint.seconds == [None] * 4
    assert checkpoint.failures == {}
    assert checkpoint.path == str(path)
    assert path.read_bytes() == before
    with path.open("rb") as file:
        assert pickle.load(file).output == output


@pytest.mark.parametrize("kind", HALF)
@pytest.mark.parametrize("on_mismatch", ["restart", "reuse", "raise"])
def test_old_file_is_resumed(kind: str, on_mismatch: str, folder: Path, tmp_path: Path) -> None:
    """A run goes on from a file of 1.0.5: only what it lacks is executed, and no warning is given."""
    path = old_file(kind, folder)
    output, _ = HALF[kind]
    for _ in range(2):
        outputs = chunk(
            adder(tmp_path / "log"),
            PARAMETERS,
            chunk_size=1,
            path=path,
            on_mismatch=on_mismatch,
            progress_bar=False,
        )
        assert outputs == [5, 7, 9, 11]
    assert noted(tmp_path / "log") == [str(n + 1) for n in range(4) if output[n] is None]
    assert Checkpoint.load(path).output == [5, 7, 9, 11]
    assert os.listdir(folder) == ["old.pkl"]


def test_old_file_of_arrays_is_resumed(folder: Path, tmp_path: Path) -> None:
    """Parameters that are arrays match by value in a file of 1.0.5 too."""
    path = old_file("arrays", folder)

    def total(array: np.ndarray[Any, Any]) -> float:
        note(tmp_path / "log", array[0])
        return float(array.sum())

    parameters = [[np.array([1.0, 2.0])], [np.array([3.0, 4.0])]]
    assert chunk(total, parameters, path=path, progress_bar=False) == [3.0, 7.0]
    assert noted(tmp_path / "log") == ["3.0"]


def test_old_file_of_a_lambda_is_resumed(folder: Path) -> None:
    """1.0.5 knew nothing of a lambda's code, so there its name is all that can match; from then on the code counts."""
    path = old_file("lambda", folder)
    assert chunk(lambda x, y: x + y, PARAMETERS, path=path, chunk_size=1, progress_bar=False) == [5, 7, 9, 11]
    with pytest.warns(CheckpointRestartedWarning, match="lambda"):
        assert chunk(lambda x, y: x * y, PARAMETERS, path=path, progress_bar=False) == [4, 10, 18, 28]


@pytest.mark.parametrize("mismatch", ["parameters", "name"])
def test_old_file_is_set_aside_when_it_does_not_match(mismatch: str, folder: Path) -> None:
    """A file of 1.0.5 of another function or other parameters is kept as .bak, to the byte."""
    path = old_file("half-finished", folder)
    before = path.read_bytes()

    def add(x: int, y: int) -> int:
        return x + y

    def other(x: int, y: int) -> int:
        return x * y

    func = other if mismatch == "name" else add
    parameters = PARAMETERS if mismatch == "name" else PARAMETERS[:2]
    with pytest.warns(CheckpointRestartedWarning):
        outputs = chunk(func, parameters, path=path, progress_bar=False)
    assert outputs == [func(x, y) for x, y in parameters]
    assert Path(f"{path}.bak").read_bytes() == before


@pytest.mark.parametrize("method", ["save", "update_save", "loadif", "loadifparams", "new"])
def test_old_file_loses_nothing_at_any_entry_point(method: str, folder: Path) -> None:
    """Whatever is done with a file of 1.0.5 through Checkpoint, its results stay."""
    path = old_file("half-finished", folder)
    arguments: tuple[str, list[Any], list[Any], list[bool], int, int] = (
        "add",
        PARAMETERS,
        [None] * 4,
        [False] * 4,
        0,
        0,
    )
    if method == "new":
        Checkpoint(*arguments, path)
    elif method in {"loadif", "loadifparams"}:
        checkpoint, is_loaded = getattr(Checkpoint, method)(*arguments, path=path)
        assert is_loaded
        assert checkpoint.done == 2
    else:
        getattr(Checkpoint.load(path), method)()
    assert Checkpoint.load(path).output == [5, None, 9, None]


def test_old_file_is_left_alone_when_it_was_cut_short(folder: Path) -> None:
    """A file that 1.0.5 was killed over is an error before any call, and its bytes stay."""
    path = old_file("half-finished", folder)
    whole = path.read_bytes()
    for size in (60, 100, 150):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            chunk(adder(folder / "log"), PARAMETERS, path=path, progress_bar=False)
        with pytest.raises(CheckpointError):
            Checkpoint.load(path)
        assert path.read_bytes() == whole[:size]
    assert os.listdir(folder) == ["old.pkl"]


def test_old_file_is_read_when_only_its_arguments_were_cut_short(folder: Path, tmp_path: Path) -> None:
    """If only the second pickle is torn, all results are there."""
    path = old_file("half-finished", folder)
    path.write_bytes(path.read_bytes()[:-20])
    assert Checkpoint.load(path).output == [5, None, 9, None]
    assert chunk(adder(tmp_path / "log"), PARAMETERS, path=path, chunk_size=1, progress_bar=False) == [
        5,
        7,
        9,
        11,
    ]
    assert noted(tmp_path / "log") == ["2", "4"]


# --- the names that release 1.0.5 has, and how its own tests used them -----------------------

PARAMETER_LIST = [[1], [2], [3]] * 2
DOUBLED = [2, 4, 6] * 2


def double(x: int) -> int:
    return 2 * x


def nothing(x: int) -> None:
    return None


def test_signatures_keep_their_positional_order() -> None:
    """Positional arguments stand where they stood in 1.0.5; what is new is keyword-only."""
    assert _positional(chunk) == ["func", "parameters", "actors", "chunk_size", "progress_bar", "path"]
    assert _positional(Chunker) == ["func", "actors", "chunk_size", "progress_bar", "persistent", "path"]
    assert _positional(Chunker.__call__) == ["self", "parameters", "func", "progress_bar", "path"]
    assert _positional(Checkpoint.__init__) == [
        "self", "func_name", "parameters", "output", "completed", "index", "done", "path",
    ]  # fmt: skip


def _positional(func: Callable[..., Any]) -> list[str]:
    kinds = inspect.signature(func).parameters.values()
    return [parameter.name for parameter in kinds if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]


def test_labelled_actor_runs_its_function_with_a_label() -> None:
    """What LabelledActor did, a ThreadWorker does: run, set_func and get_func on an instance."""
    actor = ThreadWorker(double)
    assert actor.run("label", 3) == ("label", 6)
    actor.set_func(lambda x: 3 * x)
    assert actor.run("label", 3) == ("label", 9)
    func = actor.get_func()
    assert func is not None
    assert func(3) == 9


@pytest.mark.parametrize(("size", "bar"), [(None, None), (1, True), (3, False)])
def test_chunk_takes_the_arguments_of_1_0_5(size: int | None, bar: bool | None, folder: Path) -> None:
    """chunk() called by position, with any chunk size and bar, returns what it returned."""
    assert chunk(double, PARAMETER_LIST, None, size, bar, str(folder / "c.pkl")) == DOUBLED


def test_chunk_takes_the_actors_of_a_persistent_chunker() -> None:
    """Actors of a persistent Chunker run their own function, or another that is given."""
    actors = Chunker(double, persistent=True).actors
    assert chunk(None, actors=actors, parameters=PARAMETER_LIST) == DOUBLED
    assert chunk(None, PARAMETER_LIST, actors, len(actors), not config.progress_bar) == DOUBLED
    actors = Chunker(nothing, persistent=True).actors
    assert chunk(double, PARAMETER_LIST, actors) == DOUBLED


@pytest.mark.parametrize("difference", [-1, 1])
def test_chunk_size_must_be_the_number_of_actors(difference: int) -> None:
    """As in 1.0.5 it is a ValueError if it is not, for chunk and for Chunker."""
    actors = Chunker(double, persistent=True).actors
    with pytest.raises(ValueError, match="chunk_size"):
        chunk(None, PARAMETER_LIST, actors, len(actors) + difference)
    with pytest.raises(ValueError, match="chunk_size"):
        Chunker(actors=actors, chunk_size=len(actors) + difference)


@pytest.mark.parametrize("bar", [None, True])
def test_chunker_takes_the_arguments_of_1_0_5(bar: bool | None, folder: Path) -> None:
    """A Chunker called by position, with another function, bar and path, returns what it returned."""
    assert Chunker(double)(PARAMETER_LIST) == DOUBLED
    assert Chunker(nothing, None, 3, bar)(PARAMETER_LIST, double, bar, str(folder / "c.pkl")) == DOUBLED
    actors = Chunker(double, persistent=True).actors
    assert Chunker(actors=actors, progress_bar=bar)(PARAMETER_LIST, progress_bar=bar) == DOUBLED


@pytest.mark.parametrize("how", ["chunk", "chunker", "call"])
def test_checkpoint_fields_are_those_of_1_0_5_after_a_run(how: str, folder: Path) -> None:
    """After a run the file holds name, parameters, output, completed, index, done and path, as it did."""
    path = str(folder / "c.pkl")
    if how == "chunk":
        chunk(double, PARAMETER_LIST, path=path)
    elif how == "chunker":
        Chunker(double, path=path)(PARAMETER_LIST)
    else:
        Chunker(double)(PARAMETER_LIST, path=path)
    checkpoint = Checkpoint.load(path)
    assert checkpoint.func_name == double.__name__
    assert checkpoint.parameters == PARAMETER_LIST
    assert checkpoint.output == DOUBLED
    assert checkpoint.completed == [True] * 6
    assert checkpoint.index == checkpoint.done == 6
    assert checkpoint.path == path


def test_checkpoint_can_be_made_and_loaded_as_in_1_0_5(folder: Path) -> None:
    """A Checkpoint made by position loads with every field as it was given, `index` included."""
    path = str(folder / "c.pkl")
    Checkpoint("name", [[1], [2], [3]], [None] * 3, [False] * 3, 2, 0, path)
    loaded = Checkpoint.load(path)
    assert loaded.func_name == "name"
    assert loaded.parameters == [[1], [2], [3]]
    assert loaded.output == [None] * 3
    assert loaded.completed == [False] * 3
    assert (loaded.index, loaded.done, loaded.path) == (2, 0, path)
    assert Checkpoint.__module__ == "thread_chunks._checkpoint"


def test_checkpoint_failed_warning_is_a_warning() -> None:
    """CheckpointFailedWarning can be raised, filtered and caught as a warning."""
    with pytest.warns(CheckpointFailedWarning, match="test"):
        warnings.warn("test", CheckpointFailedWarning, stacklevel=1)


def test_config_gives_the_defaults(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """config.default_chunk_size and config.progress_bar are read when a call is made."""
    assert Chunker(double).chunk_size == config.default_chunk_size
    monkeypatch.setattr(config, "default_chunk_size", 3, raising=False)
    assert Chunker(double).chunk_size == 3
    capfd.readouterr()
    monkeypatch.setattr(config, "progress_bar", False)
    chunk(double, PARAMETER_LIST)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(config, "progress_bar", True)
    chunk(double, PARAMETER_LIST)
    assert "6/6" in capfd.readouterr().err


def test_default_chunk_size_is_the_processors_that_may_be_used(programs: Programs) -> None:
    """The default sees the affinity of the process."""
    program = """
        import os
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
            from thread_chunks import Chunker, config
            assert config.default_chunk_size == 1
            with Chunker(abs) as chunker:
                assert chunker.chunk_size == 1
    """
    programs.run(program)
