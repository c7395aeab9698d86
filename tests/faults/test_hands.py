"""Other people's hands: who writes to the file, cuts it, or takes its name while the run goes on."""

import itertools
import os
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thread_chunks import Checkpoint, CheckpointDamagedWarning, Chunker, ThreadWorker, chunk, config

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

COUNT = 12
AT = 4
ROWS = [[n] for n in range(COUNT)]


def power(x: int) -> Any:
    return [x, "v" * 50 * x]


OUTPUTS = [power(n) for n in range(COUNT)]


def emptied(path: Path) -> None:
    path.open("w").close()


def cut_inside_the_head(path: Path) -> None:
    os.truncate(path, 100)


def cut_inside_the_records(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def written_over_with_text(path: Path) -> None:
    path.write_text("somebody else's notes " * 100)


def written_over_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def written_over_at_the_end(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-30] + b"x" * 30)


def copied_over(path: Path) -> None:
    shutil.copyfile(path.with_name("other.pkl"), path)


def replaced(path: Path) -> None:
    os.replace(path.with_name("other.pkl"), path)


def exchanged_for_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def deleted(path: Path) -> None:
    path.unlink()


def folder_deleted(path: Path) -> None:
    shutil.rmtree(path.parent)


def moved(path: Path) -> None:
    path.rename(path.with_name("moved.pkl"))


def appended_to(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"somebody else's line\n")


HANDS: list[tuple[Callable[[Path], None], str]] = [
    (emptied, "c.pkl"),
    (cut_inside_the_head, "c.pkl.rescued"),
    (cut_inside_the_records, "c.pkl"),
    (written_over_with_text, "c.pkl.rescued"),
    (written_over_with_zeros, "c.pkl.rescued"),
    (written_over_at_the_end, "c.pkl"),
    (copied_over, "c.pkl.rescued"),
    (replaced, "c.pkl.rescued"),
    (exchanged_for_a_folder, "c.pkl.rescued"),
    (deleted, "c.pkl"),
    (folder_deleted, "c.pkl"),
    (moved, "c.pkl"),
    (appended_to, "c.pkl"),
]
"""What is done to the file, and where the results are then."""

QUIET = {deleted, folder_deleted, moved, appended_to}
"""What costs nothing and needs no word."""

READABLE = {appended_to, deleted, moved, replaced, exchanged_for_a_folder, folder_deleted, cut_inside_the_records,
            written_over_at_the_end}  # fmt: skip
"""What leaves all bytes but those of a result where they were, for a stream, which has no outputs in memory."""


def before(path: Path) -> bytes:
    """Put another file beside the checkpoint."""
    chunk(abs, [[-1]], path=path.with_name("other.pkl"))
    return path.with_name("other.pkl").read_bytes()


def held(path: Path) -> set[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint = Checkpoint.load(path)
    found = {index for index in range(COUNT) if checkpoint.completed[index]}
    assert all(checkpoint.output[index] == OUTPUTS[index] for index in found)
    assert checkpoint.parameters == ROWS
    return found


class Meddling:
    """Calls of which one does something to the file, while nothing is being saved; or the loop does, at the end."""

    def __init__(self, hand: Callable[[Path], None], path: Path, at: int) -> None:
        self.hand, self.path, self.at = hand, path, at
        self.before_is_saved = threading.Event()
        self.theirs = b""

    def act(self) -> None:
        """Do it, and keep what is there then."""
        self.hand(self.path)
        self.theirs = self.path.read_bytes() if self.path.is_file() else b""

    def call(self, x: int) -> Any:
        """Do it in one of the calls."""
        if x == self.at:
            assert self.before_is_saved.wait(60)
            self.act()
        return power(x)

    def taken(self, index: int, output: Any) -> None:
        """Do it once the last result is saved."""
        if index == self.at - 1:
            self.before_is_saved.set()
        if index == COUNT - 1 and self.at == COUNT:
            self.act()


MOMENTS = pytest.mark.parametrize("at", [AT, COUNT], ids=["in the middle", "at the end"])


@pytest.mark.parametrize("fold_bytes", [0, 1 << 20], ids=["unfolded", "folded"])
@MOMENTS
@pytest.mark.parametrize(("hand", "name"), HANDS, ids=lambda value: getattr(value, "__name__", ""))
def test_run_keeps_every_result_when_somebody_else_lays_hands_on_its_file(
    hand: Callable[[Path], None],
    name: str,
    at: int,
    fold_bytes: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All is in a file whose name the warning tells when the run returns; what is not ours is left as it is."""
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)
    path = folder / "c.pkl"
    other = before(path)
    meddling = Meddling(hand, path, at)

    def f(x: int) -> Any:
        return meddling.call(x)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outputs = chunk(f, ROWS, chunk_size=1, path=path, worker=ThreadWorker, on_result=meddling.taken)
    assert outputs == OUTPUTS
    assert held(folder / name) == set(range(COUNT))
    texts = [str(each.message) for each in caught if each.category is CheckpointDamagedWarning]
    assert len(texts) == len(caught) == (hand not in QUIET)
    assert not texts or f"is in {folder / name}" in texts[0]
    if name != "c.pkl" and path.is_file():
        assert path.read_bytes() == meddling.theirs
    files = [found.read_bytes() for found in folder.iterdir() if found.is_file()]
    assert other in files or hand is folder_deleted


@MOMENTS
@pytest.mark.parametrize("hand", [hand for hand, _ in HANDS], ids=lambda hand: hand.__name__)
def test_stream_counts_no_result_as_saved_that_is_in_no_file(
    hand: Callable[[Path], None], at: int, folder: Path
) -> None:
    """A stream holds no outputs: what can be read of the file is copied, and the warning says how many results are lost."""
    path = folder / "c.pkl"
    before(path)
    meddling = Meddling(hand, path, at)

    def f(x: int) -> Any:
        return meddling.call(x)

    with (
        warnings.catch_warnings(record=True) as caught,
        Chunker(f, chunk_size=1, worker=ThreadWorker) as chunker,
    ):
        warnings.simplefilter("always")
        for index, output in chunker.as_completed(ROWS, path=path):
            assert output == OUTPUTS[index]
            meddling.taken(index, output)
    found = held(folder / dict(HANDS)[hand])
    lost = set(range(COUNT)) - found
    assert lost <= set(range(at))
    assert len(lost) <= 1 or hand not in READABLE
    texts = [str(each.message) for each in caught]
    assert any(f"{len(lost)} results are lost" in text for text in texts) == bool(lost)


@pytest.mark.parametrize("hand", [replaced, deleted, emptied, copied_over], ids=lambda hand: hand.__name__)
def test_result_is_not_reported_when_the_file_is_lost_while_it_is_written(
    hand: Callable[[Path], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the write and before the report the file is looked at again: what is reported is where it can be found."""
    path = folder / "c.pkl"
    before(path)
    fsync, count, taken = os.fsync, itertools.count(), threading.Semaphore()

    def f(x: int) -> Any:
        assert taken.acquire(timeout=60)  # one result after the other
        return power(x)

    def sync(descriptor: int) -> None:
        fsync(descriptor)
        if next(count) == 5:
            hand(path)

    def on_result(index: int, output: Any) -> None:
        files = [path, folder / "c.pkl.rescued"]
        assert any(index in held(file) for file in files if is_ours(file))
        taken.release()

    monkeypatch.setattr(os, "fsync", sync)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chunk(f, ROWS, chunk_size=1, path=path, worker=ThreadWorker, on_result=on_result)
    assert next(count) > COUNT


def is_ours(path: Path) -> bool:
    return path.exists() and len(Checkpoint.load(path).parameters) == COUNT


def test_rescued_file_has_no_output_that_the_caller_changed(folder: Path) -> None:
    """Outputs are the caller's: one that is not what was saved counts as missing, and never as a result."""
    path = folder / "c.pkl"

    def on_result(index: int, output: Any) -> None:
        if index == 1:
            output.append("changed")
        if index == AT:
            emptied(path)

    with pytest.warns(CheckpointDamagedWarning, match="1 results are lost"):
        chunk(power, ROWS, chunk_size=1, path=path, worker=ThreadWorker, on_result=on_result)
    rescued = path.with_name("c.pkl.rescued")  # where the file was emptied in the middle of an append
    assert held(rescued if rescued.exists() else path) == set(range(COUNT)) - {1}


def test_error_tells_where_results_are_when_another_file_took_the_name(folder: Path) -> None:
    """Whoever reads only the error of the run learns the name, too, and can go on from there."""
    path = folder / "c.pkl"
    before(path)

    def on_result(index: int, output: Any) -> None:
        if index == AT:
            replaced(path)
            raise KeyboardInterrupt

    warnings.simplefilter("ignore")  # pytest resets it
    with pytest.raises(KeyboardInterrupt) as stopped:
        chunk(power, ROWS, chunk_size=1, path=path, worker=ThreadWorker, on_result=on_result)
    assert any(
        "call again with path=" in note and "c.pkl.rescued" in note for note in stopped.value.__notes__
    )
    warnings.simplefilter("error")
    assert chunk(power, ROWS, chunk_size=1, path=f"{path}.rescued", worker=ThreadWorker) == OUTPUTS
    assert held(folder / "c.pkl.rescued") >= set(range(AT + 1))
