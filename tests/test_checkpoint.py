"""`Checkpoint` as the saveable object that it is: no entry point ever loses a saved result."""

import os
import pickle
import stat
from collections import UserList, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import note, noted
from saveable_objects import SaveableObject

from thread_chunks import (
    Checkpoint,
    CheckpointError,
    CheckpointLockedError,
    CheckpointRestartedWarning,
    Chunker,
    NotACheckpointError,
    ThreadWorker,
    chunk,
)

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

PARAMETERS = [[0], [1], [2], [3]]


def picky(x: int) -> int | None:
    """Fail for 2, and return None for 1."""
    if x == 2:
        raise OSError
    return None if x == 1 else 10 * x


ARGUMENTS: tuple[str, list[Any], list[Any], list[bool], int, int] = (
    "picky",
    PARAMETERS,
    [None] * 4,
    [False] * 4,
    0,
    0,
)
OUTPUT = [0, None, None, 30]
COMPLETED = [True, True, False, True]


@pytest.fixture
def path(folder: Path) -> Path:
    """Return the path of a half-finished checkpoint with three results and one failure."""
    path = folder / "c.pkl"
    chunk(picky, PARAMETERS, chunk_size=1, worker=ThreadWorker, path=path, on_error="return")
    return path


def check(checkpoint: Checkpoint) -> None:
    """Check that the three results and the failure are all there."""
    assert checkpoint.func_name == "picky"
    assert checkpoint.parameters == PARAMETERS
    assert checkpoint.output == OUTPUT
    assert checkpoint.completed == COMPLETED
    assert checkpoint.done == 3
    assert checkpoint.index == 4
    assert "OSError" in checkpoint.failures[2]
    assert [seconds is None for seconds in checkpoint.seconds] == [False, False, True, False]


# --- the object -----------------------------------------------------------------------


def test_checkpoint_is_a_saveable_object(path: Path) -> None:
    """A Checkpoint is what saveable-objects says one can rely on."""
    checkpoint = Checkpoint.load(path)
    assert isinstance(checkpoint, SaveableObject)
    assert checkpoint.path == str(path)
    assert checkpoint.name == "c"
    assert "picky" in repr(checkpoint)
    assert "3 of 4" in repr(checkpoint)


def test_checkpoint_is_saved_when_it_is_made_with_a_path(folder: Path) -> None:
    """A Checkpoint with a path saves itself, and loads with all its fields."""
    path = str(folder / "made.pkl")
    made = Checkpoint("name", [[1], [2]], [7, None], [True, False], 1, 1, path)
    assert made.path == path
    loaded = Checkpoint.load(path)
    assert (loaded.func_name, loaded.parameters, loaded.output) == ("name", [[1], [2]], [7, None])
    assert (loaded.completed, loaded.index, loaded.done, loaded.path) == ([True, False], 1, 1, path)


def test_checkpoint_is_not_saved_when_it_is_made_without_a_path(folder: Path) -> None:
    """Without a path nothing is written, and saving says that a path is missing."""
    made = Checkpoint("name", [[1]], [None], [False], 0, 0)
    assert made.path is None
    assert made.name is None
    assert os.listdir(folder) == []
    with pytest.raises(ValueError, match="path"):
        made.save()
    with pytest.raises(ValueError, match="path"):
        made.update_save()


def test_checkpoint_keeps_the_results_of_a_file_when_it_is_made_on_it(path: Path) -> None:
    """Checkpoint(path=...) never wipes an existing file's results: it takes them over."""
    made = Checkpoint(*ARGUMENTS, path)
    check(Checkpoint.load(path))
    assert made.output == OUTPUT
    assert made.completed == COMPLETED
    assert os.listdir(path.parent) == ["c.pkl"]


def test_checkpoint_sets_a_file_aside_when_it_is_made_on_one_of_another_run(path: Path) -> None:
    """Made on a file of other parameters, it sets that file aside with a warning, as a run does."""
    with pytest.warns(CheckpointRestartedWarning, match="c.pkl.bak"):
        Checkpoint("picky", [[9]], [None], [False], 0, 0, path)
    check(Checkpoint.load(f"{path}.bak"))
    assert Checkpoint.load(path).parameters == [[9]]


def test_checkpoint_refuses_a_file_when_it_is_another_programs(folder: Path) -> None:
    """Made on or saved to another program's file, it is an error and the bytes stay."""
    path = folder / "notes.txt"
    path.write_text("my notes" * 30)
    with pytest.raises(NotACheckpointError):
        Checkpoint(*ARGUMENTS, path)
    with pytest.raises(NotACheckpointError):
        Checkpoint(*ARGUMENTS).save(str(path))
    assert path.read_text() == "my notes" * 30


# --- load -----------------------------------------------------------------------------


def test_load_reads_a_half_finished_file_and_does_not_change_it(path: Path) -> None:
    """`load` applies every record, and the file stays as it is to the byte."""
    before = path.read_bytes()
    check(Checkpoint.load(path))
    check(Checkpoint.load(str(path)))
    assert path.read_bytes() == before


def test_load_gives_the_object_another_path_when_it_is_told(path: Path) -> None:
    """`new_path` is where the object saves itself from then on."""
    checkpoint = Checkpoint.load(path, str(path.with_name("new.pkl")))
    assert checkpoint.path == str(path.with_name("new.pkl"))
    checkpoint.save()
    check(Checkpoint.load(path.with_name("new.pkl")))
    check(Checkpoint.load(path))


def test_load_knows_its_path_when_the_file_was_moved(path: Path) -> None:
    """The object's path is where it was loaded from, not where it was written once."""
    moved = path.rename(path.with_name("moved.pkl"))
    checkpoint = Checkpoint.load(moved)
    assert checkpoint.path == str(moved)
    checkpoint.save()
    assert os.listdir(path.parent) == ["moved.pkl"]


def test_load_says_what_is_wrong_when_there_is_no_checkpoint(folder: Path) -> None:
    """A missing file is a FileNotFoundError; other programs' files are errors of their own."""
    with pytest.raises(FileNotFoundError):
        Checkpoint.load(folder / "missing.pkl")
    (folder / "other.pkl").write_bytes(pickle.dumps(["other"] * 100))
    with pytest.raises(CheckpointError):
        Checkpoint.load(folder / "other.pkl")
    assert os.listdir(folder) == ["other.pkl"]


def test_load_refuses_another_class_when_typing_is_strict(path: Path) -> None:
    """A subclass loads only its own objects unless told otherwise."""

    class Special(Checkpoint):
        pass

    with pytest.raises(TypeError):
        Special.load(path)
    check(Special.load(path, strict_typing=False))


def test_tryload_returns_the_checkpoint_or_false(path: Path) -> None:
    """`tryload` returns False where there is nothing to load."""
    check(Checkpoint.tryload(path))
    assert Checkpoint.tryload(None) is False
    assert Checkpoint.tryload(path.with_name("missing.pkl")) is False


def test_loadif_loads_what_is_there_and_makes_what_is_not(path: Path) -> None:
    """`loadif` loads an existing file and never overwrites it."""
    before = path.read_bytes()
    checkpoint, is_loaded = Checkpoint.loadif(*ARGUMENTS, path=path)
    assert is_loaded
    check(checkpoint)
    assert path.read_bytes() == before
    made, is_loaded = Checkpoint.loadif(*ARGUMENTS, path=str(path.with_name("new.pkl")))
    assert not is_loaded
    assert made.done == 0
    assert Checkpoint.load(path.with_name("new.pkl")).parameters == PARAMETERS


def test_loadif_leaves_another_programs_file_alone(folder: Path) -> None:
    """`loadif` on a file that is no checkpoint does not take its place."""
    path = folder / "other.pkl"
    path.write_bytes(b"other" * 100)
    with pytest.raises(CheckpointError):
        Checkpoint.loadif(*ARGUMENTS, path=str(path))
    assert path.read_bytes() == b"other" * 100


@pytest.mark.parametrize("positional", [True, False])
def test_loadifparams_loads_when_function_and_parameters_match(positional: bool, path: Path) -> None:
    """`loadifparams` compares function and parameters by value; progress is not compared."""
    before = path.read_bytes()
    if positional:
        checkpoint, is_loaded = Checkpoint.loadifparams(*ARGUMENTS, path)
    else:
        checkpoint, is_loaded = Checkpoint.loadifparams(*ARGUMENTS, path=path)
    assert is_loaded
    check(checkpoint)
    assert path.read_bytes() == before
    again, is_loaded = Checkpoint.loadifparams(
        "picky", ((0,), (1,), (2,), (3,)), OUTPUT, COMPLETED, 4, 3, path=path
    )
    assert is_loaded
    check(again)


@pytest.mark.parametrize(
    "arguments",
    [
        ("other", *ARGUMENTS[1:]),
        ("picky", [[0], [1], [2], [4]], *ARGUMENTS[2:]),
        ("picky", [[0], [1]], [None] * 2, [False] * 2, 0, 0),
    ],
)
def test_loadifparams_sets_the_file_aside_when_they_do_not_match(
    arguments: tuple[Any, ...], path: Path
) -> None:
    """A mismatch begins a new file, and the old one is set aside with a warning."""
    with pytest.warns(CheckpointRestartedWarning):
        checkpoint, is_loaded = Checkpoint.loadifparams(*arguments, path=path)
    assert not is_loaded
    assert checkpoint.done == 0
    check(Checkpoint.load(f"{path}.bak"))
    assert Checkpoint.load(path).parameters == arguments[1]


def test_loadifparams_compares_dependencies(folder: Path) -> None:
    """Further named values must match too, arrays and NaN by value."""
    path = folder / "d.pkl"
    dependencies = {"grid": np.array([1.0, np.nan]), "version": 3}
    assert Checkpoint.loadifparams(*ARGUMENTS, path=path, dependencies=dependencies)[1] is False
    same = {"version": 3, "grid": np.array([1.0, np.nan])}
    assert Checkpoint.loadifparams(*ARGUMENTS, path=path, dependencies=same)[1] is True
    with pytest.warns(CheckpointRestartedWarning):
        assert Checkpoint.loadifparams(*ARGUMENTS, path=path, dependencies=same | {"version": 4})[1] is False


def test_loadifparams_works_without_a_path() -> None:
    """Without a path there is nothing to load, and nothing is written."""
    checkpoint, is_loaded = Checkpoint.loadifparams(*ARGUMENTS)
    assert not is_loaded
    assert checkpoint.path is None


# --- save -----------------------------------------------------------------------------


def _save(checkpoint: Checkpoint) -> None:
    checkpoint.save()


def _update_save(checkpoint: Checkpoint) -> None:
    assert checkpoint.update_save() is True


both_saves = pytest.mark.parametrize("save", [_save, _update_save])


@both_saves
def test_save_keeps_all_results(save: Callable[[Checkpoint], None], path: Path) -> None:
    """Saving a loaded checkpoint to its own file keeps every result, and the run goes on from there."""
    save(Checkpoint.load(path))
    check(Checkpoint.load(path))
    assert os.listdir(path.parent) == ["c.pkl"]
    outputs = chunk(picky, PARAMETERS, chunk_size=1, path=path, on_error="return")
    assert [outputs[n] for n in (0, 1, 3)] == [0, None, 30]


@both_saves
def test_save_keeps_results_that_the_object_does_not_have(
    save: Callable[[Checkpoint], None], folder: Path
) -> None:
    """Saving an object that was loaded earlier does not lose what was saved since."""
    path = folder / "c.pkl"

    def later(x: int) -> int:
        if x > 1 and not (folder / "later").exists():
            raise OSError
        return 10 * x

    chunk(later, PARAMETERS, chunk_size=1, path=path, on_error="return")
    old = Checkpoint.load(path)
    (folder / "later").touch()
    chunk(later, PARAMETERS, chunk_size=1, path=path)
    save(old)
    assert Checkpoint.load(path).output == [0, 10, 20, 30]


@both_saves
def test_save_takes_results_that_were_added_by_hand(save: Callable[[Checkpoint], None], path: Path) -> None:
    """A result that the user put into the object is saved with the rest, and used by the next run."""
    checkpoint = Checkpoint.load(path)
    checkpoint.output[2] = "by hand"
    checkpoint.completed[2] = True
    checkpoint.done += 1
    save(checkpoint)
    assert Checkpoint.load(path).output == [0, None, "by hand", 30]
    assert chunk(picky, PARAMETERS, chunk_size=1, path=path) == [0, None, "by hand", 30]


def test_save_to_another_path_copies_everything(path: Path) -> None:
    """`save(other)` writes a whole copy, which is the object's path from then on; a run can go on from it."""
    other = path.with_name("other.pkl")
    checkpoint = Checkpoint.load(path)
    checkpoint.save(str(other))
    assert checkpoint.path == str(other)
    check(Checkpoint.load(other))
    check(Checkpoint.load(path))
    outputs = chunk(picky, PARAMETERS, chunk_size=1, path=other, on_error="return")
    assert [outputs[n] for n in (0, 1, 3)] == [0, None, 30]


def test_update_save_needs_a_file(path: Path) -> None:
    """`update_save` to a file that is not there is a FileNotFoundError, and makes none."""
    with pytest.raises(FileNotFoundError):
        Checkpoint.load(path).update_save(str(path.with_name("missing.pkl")))
    assert os.listdir(path.parent) == ["c.pkl"]


@both_saves
def test_save_is_refused_while_a_run_goes_on(save: Callable[[Checkpoint], None], folder: Path) -> None:
    """While a run holds the file, saving is refused and nothing is lost; loading works."""
    path = folder / "c.pkl"
    with Chunker(abs, chunk_size=1, path=path) as chunker:
        results = chunker.as_completed([[-n] for n in range(6)])
        next(results)
        checkpoint = Checkpoint.load(path)
        assert checkpoint.done >= 1
        with pytest.raises(CheckpointLockedError):
            save(checkpoint)
        list(results)
    assert Checkpoint.load(path).output == [0, 1, 2, 3, 4, 5]


def test_save_does_not_mix_runs(path: Path) -> None:
    """Saving over the file of another run sets that file aside."""
    other = Checkpoint("other", [[1]], [11], [True], 1, 1)
    with pytest.warns(CheckpointRestartedWarning):
        other.save(str(path))
    assert Checkpoint.load(path).output == [11]
    check(Checkpoint.load(f"{path}.bak"))


def test_run_resumes_from_a_checkpoint_made_by_hand(folder: Path) -> None:
    """A Checkpoint that the user made, of the right name and parameters, is resumed like any other."""
    path = folder / "c.pkl"
    Checkpoint("noted_square", [[1], [2]], [None, "mine"], [False, True], 1, 1, path)

    def noted_square(x: int) -> int:
        note(folder / "log", x)
        return x * x

    assert chunk(noted_square, [[1], [2]], path=path, chunk_size=1) == [1, "mine"]
    assert noted(folder / "log") == ["1"]


class Point(NamedTuple):
    x: int
    y: str


class Row(list[Any]):
    """A list that knows more than its entries."""

    name = "none"


def _named(entries: list[Any], name: str) -> Row:
    row = Row(entries)
    row.name = name
    return row


ROWS: dict[str, list[Any]] = {
    "lists": [[1, "a"], [2, "b"]],
    "tuples": [(1, "a"), (2, "b")],
    "both": [(1, "a"), [2, "b"]],
    "of other lengths": [[], [1], [1, 2, 3]],
    "empty": [[], []],
    "none": [],
    "keywords": [{"x": 1}, {"y": 2}],
    "all kinds of values": [
        [None, True, 1, 1.5, 2j, "text", b"bytes"],
        [False, 0, -0.0, "", b"", 10**30, "ü"],
    ],
    "not a number": [[float("inf"), 1], [2.0, float("-inf")]],
    "named tuples": [Point(1, "a"), Point(2, "b")],
    "ranges": [range(2), range(3, 9, 2)],
    "deques": [deque([1, 2]), deque([3])],
    "user lists": [UserList([1]), UserList([2])],
    "own lists": [_named([1], "one"), _named([2], "two")],
    "nested": [[[1, 2], (3,)], [{"a": [4]}, None]],
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("is_finished", [True, False])
def test_checkpoint_shows_the_parameters_as_they_were_given(
    name: str, is_finished: bool, folder: Path
) -> None:
    """Whatever the rows are, the file gives back the same ones: equal, of the same types, in a new list."""
    path = folder / "c.pkl"

    def accept(*args: Any, **kwargs: Any) -> int:
        if not is_finished:
            raise OSError
        return len(args) + len(kwargs)

    rows = ROWS[name]
    for _ in range(2):
        chunk(accept, rows, chunk_size=1, path=path, worker=ThreadWorker, on_error="return")
    for checkpoint in (Checkpoint.load(path), pickle.loads(pickle.dumps(Checkpoint.load(path)))):
        assert checkpoint.parameters == rows
        assert list(map(type, checkpoint.parameters)) == list(map(type, rows))
        assert [list(map(type, row)) for row in checkpoint.parameters] == [
            list(map(type, row)) for row in rows
        ]
        assert [getattr(row, "name", None) for row in checkpoint.parameters] == [
            getattr(row, "name", None) for row in rows
        ]
        assert len(checkpoint.output) == len(checkpoint.completed) == len(rows)
        assert f"of {len(rows)} calls" in repr(checkpoint)


def test_checkpoint_can_be_pickled_and_copied(path: Path) -> None:
    """A Checkpoint is a plain object: pickling one gives it back with all its results."""
    check(pickle.loads(pickle.dumps(Checkpoint.load(path))))


# --- paths ------------------------------------------------------------------------------


def test_path_gets_name_and_extension_when_it_has_none(folder: Path) -> None:
    """A path without an extension is completed as saveable-objects does: NAME_Checkpoint.pkl."""
    chunk(abs, [[-1]], path=str(folder / "sweep"))
    assert os.listdir(folder) == ["sweep_Checkpoint.pkl"]
    assert Checkpoint.load(folder / "sweep").output == [1]
    checkpoint = Checkpoint.load(str(folder / "sweep"))
    assert checkpoint.path == str(folder / "sweep_Checkpoint.pkl")
    assert checkpoint.name == "sweep_Checkpoint"
    assert chunk(abs, [[-1]], path=folder / "sweep_Checkpoint.pkl") == [1]
    checkpoint.path = str(folder / "other")
    assert checkpoint.path == str(folder / "other_Checkpoint.pkl")


@pytest.mark.parametrize("name", ["c.dat", ".hidden.pkl", "ünïcode ∂.pkl", "two words.pkl", "a.b.c"])
def test_path_may_be_any_name(name: str, folder: Path) -> None:
    """Any file name works, and is used as it is."""
    for _ in range(2):
        assert chunk(abs, [[-1]], path=folder / name) == [1]
    assert os.listdir(folder) == [name]


@pytest.mark.parametrize("convert", [Path, str, os.fsencode], ids=["pathlib", "str", "bytes"])
def test_path_may_be_of_any_type(convert: Callable[[str], Any], folder: Path) -> None:
    """A path is a string, bytes or a pathlib path."""
    path = convert(str(folder / "c.pkl"))
    assert chunk(abs, [[-1]], path=path) == [1]
    assert Checkpoint.load(path).output == [1]


def test_path_is_relative_to_where_the_call_was_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the working directory at the time of the call, and `load` keeps it as it was given."""
    monkeypatch.chdir(folder)

    def on_result(index: int, output: int) -> None:
        os.chdir("/")

    chunk(abs, [[-1], [-2], [-3]], path="c.pkl", chunk_size=1, on_result=on_result)
    monkeypatch.chdir(folder)
    assert os.listdir(folder) == ["c.pkl"]
    assert Checkpoint.load("c.pkl").path == "c.pkl"


def test_path_may_lead_to_a_missing_folder(folder: Path) -> None:
    """Missing folders are created."""
    path = folder / "one" / "two" / "c.pkl"
    assert chunk(abs, [[-1]], path=path) == [1]
    Checkpoint.load(path).save(str(folder / "three" / "d.pkl"))
    assert Checkpoint.load(folder / "three" / "d.pkl").output == [1]


@pytest.mark.parametrize("is_dangling", [True, False])
def test_path_may_be_a_link_and_stays_one(is_dangling: bool, folder: Path) -> None:
    """A symbolic link stays a link: what it leads to is the checkpoint."""
    target = folder / "elsewhere" / "target.pkl"
    if not is_dangling:
        chunk(abs, [[-1], [-2]], path=target)
    link = folder / "link.pkl"
    link.symlink_to(target)
    assert chunk(abs, [[-1], [-2]], path=link) == [1, 2]
    Checkpoint.load(link).save()
    assert link.is_symlink()
    assert target.is_file()
    assert Checkpoint.load(target).output == [1, 2]
    assert os.listdir(target.parent) == ["target.pkl"]


def test_file_keeps_its_permissions(path: Path) -> None:
    """What the user allowed others to do with the file stays so, through folding and saving."""
    path.chmod(0o640)
    Checkpoint.load(path).save()
    chunk(lambda x: x, [[1]], path=path.with_name("new.pkl"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.with_name("new.pkl").stat().st_mode) == 0o666 & ~mask


# --- the file, for other tools ------------------------------------------------------------


def test_file_is_a_plain_pickle_with_all_results_when_it_is_finished(folder: Path) -> None:
    """pickle.load of a finished file gives the Checkpoint with every result."""
    path = folder / "c.pkl"
    parameters = [[np.arange(3) + n] for n in range(50)]
    outputs = chunk(np.sum, parameters, path=path)
    with path.open("rb") as file:
        checkpoint = pickle.load(file)
    assert type(checkpoint) is Checkpoint
    assert checkpoint.output == outputs == [3 + 3 * n for n in range(50)]
    assert checkpoint.completed == [True] * 50
    assert checkpoint.done == 50


@pytest.mark.parametrize("is_resumed", [True, False])
def test_file_is_a_plain_pickle_when_thousands_of_short_calls_are_finished(
    is_resumed: bool, folder: Path
) -> None:
    """pickle.load gives every result of a run whose results came in groups, in one run or in two."""
    path, count = folder / "c.pkl", 3000
    seen: list[int] = []

    def stop(index: int, output: Any) -> None:
        seen.append(index)
        if len(seen) == 1000:
            raise KeyboardInterrupt

    parameters = [[n, "x"] for n in range(count)]
    if is_resumed:
        with pytest.raises(KeyboardInterrupt):
            chunk(lambda *args: args, parameters, chunk_size=2, path=path, on_result=stop)
    outputs = chunk(lambda *args: args, parameters, chunk_size=2, path=path)
    with path.open("rb") as file:
        checkpoint = pickle.load(file)
    assert checkpoint.output == outputs == list(map(tuple, parameters))
    assert checkpoint.parameters == parameters
    assert (checkpoint.done, checkpoint.index) == (count, count)
    assert all(seconds is not None and seconds >= 0 for seconds in checkpoint.seconds)
    assert b"\xfarec" not in path.read_bytes()


def test_file_is_a_plain_pickle_when_it_is_half_finished(path: Path) -> None:
    """pickle.load of a half-finished file gives a Checkpoint, if without the newest results."""
    with path.open("rb") as file:
        checkpoint = pickle.load(file)
    assert type(checkpoint) is Checkpoint
    assert checkpoint.parameters == PARAMETERS


def test_file_holds_large_arrays_whole(folder: Path) -> None:
    """Arrays of many megabytes are saved and loaded to the last bit, and can be written to."""
    path = folder / "c.pkl"

    def make(n: int) -> np.ndarray[Any, Any]:
        return np.random.default_rng(n).random(300_000)

    outputs = chunk(make, [[n] for n in range(4)], chunk_size=2, path=path)
    for loaded in (Checkpoint.load(path).output, chunk(make, [[n] for n in range(4)], path=path)):
        assert all(np.array_equal(one, other) for one, other in zip(outputs, loaded, strict=True))
        loaded[0][0] = 0.0
