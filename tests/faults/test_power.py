"""Power cuts: every state that the disk may be left in keeps what the user was told is saved."""

import errno
import os
import re
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from disk import Disk, Fault, crash_states

import thread_chunks._log
from thread_chunks import Checkpoint, ThreadWorker, chunk, config

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

PARAMETERS = [[n] for n in range(4)]
OUTPUTS = [[n, "r" * n] for n in range(4)]


def f(x: int) -> Any:
    return [x, "r" * x]


def run(path: Path, disk: Disk | None = None, count: int = 4, **options: Any) -> list[Any]:
    """Run some calls one after another, so that each group holds one result."""

    def told(index: int, output: Any) -> None:
        if disk is not None:
            disk.told(index)

    return chunk(
        f, PARAMETERS[:count], chunk_size=1, path=path, worker=ThreadWorker, on_result=told, **options
    )


def put(folder: Path, state: dict[str, bytes]) -> None:
    """Make a folder hold exactly these files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in state.items():
        (folder / os.path.basename(name)).write_bytes(content)


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Callable[[Disk], Disk]:
    """Put a disk between the log and the system, for one test."""

    def install(disk: Disk) -> Disk:
        monkeypatch.setattr(thread_chunks._log, "os", disk)
        return disk

    return install


def new(path: Path, disk: Disk) -> None:
    """A run from its start to its end: creation, appends, and the fold."""
    assert run(path, disk) == OUTPUTS


def resumed(path: Path, disk: Disk) -> None:
    """A run that takes up a file with a torn tail: the tail is cut, and the rest appended."""
    assert run(path, disk) == OUTPUTS


def reused(path: Path, disk: Disk) -> None:
    """A run of a longer list that keeps what the file of the shorter one holds."""
    assert run(path, disk, on_mismatch="reuse") == OUTPUTS


def restarted(path: Path, disk: Disk) -> None:
    """A run that sets the file of other parameters aside."""
    assert run(path, disk) == OUTPUTS


def restarted_without_links(path: Path, disk: Disk) -> None:
    """The same on a file system that gives no file a second name: the old one is renamed."""
    disk.fault = Fault(1, ("link",), error=errno.EPERM, is_lasting=True)
    assert run(path, disk) == OUTPUTS


def rewritten(path: Path, disk: Disk) -> None:
    """A run whose fsync fails once in its middle, so that everything is written anew."""
    disk.fault = Fault(3, ("fsync",), error=5)
    assert run(path, disk) == OUTPUTS


def nothing(path: Path) -> None:
    """No file is there."""


def half(path: Path) -> None:
    """A run that was killed after two results, in the middle of the third record."""
    usual, config.fold_bytes = config.fold_bytes, 0
    run(path)
    config.fold_bytes = usual
    data = path.read_bytes()
    third = [found.start() for found in re.finditer(b"\xfarec", data)][2]
    path.write_bytes(data[: third + 20])


def shorter(path: Path) -> None:
    """A finished run of the first two calls."""
    run(path, count=2)


def others(path: Path) -> None:
    """A finished run of other parameters."""
    chunk(f, [[7], [8]], chunk_size=1, path=path, worker=ThreadWorker)


CASES: dict[str, tuple[Callable[[Path], None], Callable[[Path, Disk], None], set[int]]] = {
    "new": (nothing, new, set()),
    "resumed": (half, resumed, {0, 1}),
    "reused": (shorter, reused, {0, 1}),
    "restarted": (others, restarted, set()),
    "restarted without links": (others, restarted_without_links, set()),
    "rewritten": (nothing, rewritten, set()),
}


@pytest.mark.parametrize("name", CASES)
def test_power_cut_loses_no_reported_result(
    name: str, folder: Path, tmp_path: Path, record: Callable[[Disk], Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every state that a power cut may leave, what was reported is there, nothing is wrong, and the run goes on."""
    before, act, safe = CASES[name]
    path = folder / "c.pkl"
    before(path)
    disk = Disk()
    if path.exists():
        disk.found(str(path))
    found = len(disk.changes)
    monkeypatch.setattr(config, "save_retry_seconds", 0.0)
    record(disk)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        act(path, disk)
    monkeypatch.undo()
    monkeypatch.setattr(config, "progress_bar", False)
    assert [change for change in disk.changes if change.what == "told"]
    after = tmp_path / "after"
    states = 0
    for state, told in crash_states(disk.changes, found):
        states += 1
        put(after, state)
        expect_safe(after / "c.pkl", told | safe, mismatch="reuse" if name == "reused" else "restart")
        if act in {restarted, restarted_without_links}:
            expect_kept(sorted(after.glob("c.pkl*")))
    print(f"{name}: {len(disk.changes)} changes, {states} states")  # noqa: T201 - counted in the docs
    assert states > len(disk.changes)


def expect_safe(path: Path, told: set[int], *, mismatch: str) -> None:
    """Check one state, and that the next run completes what it can find there."""
    executed: list[int] = []

    def again(x: int) -> Any:
        executed.append(x)
        return f(x)

    again.__name__ = "f"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if told:
            checkpoint = Checkpoint.load(path)
            assert all(checkpoint.completed[index] for index in told)
            assert all(checkpoint.output[index] == OUTPUTS[index] for index in told)
        outputs = chunk(again, PARAMETERS, chunk_size=1, path=path, worker=ThreadWorker, on_mismatch="reuse")
        assert outputs == OUTPUTS
        assert not told & set(executed)


def expect_kept(files: Sequence[Path]) -> None:
    """Check that the results of the other run are still somewhere."""
    held = [Checkpoint.load(file).output for file in files]
    assert [[7, "rrrrrrr"], [8, "rrrrrrrr"]] in held
