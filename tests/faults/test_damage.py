"""Damaged files: whatever happened to the bytes, no value is wrong, and only what was hit is computed again."""

import errno
import itertools
import os
import pickle
import random
import re
import secrets
import struct
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Trap, beginning, note, noted, sampled
from disk import Disk
from test_compatibility import HALF, old_file
from test_compatibility import PARAMETERS as OLD_ROWS

import thread_chunks._log
from thread_chunks import (
    Checkpoint,
    CheckpointCorruptError,
    CheckpointDamagedWarning,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointRestartedWarning,
    CheckpointVersionError,
    Chunker,
    FunctionChangedWarning,
    NotACheckpointError,
    ParametersUnstableWarning,
    ProcessWorker,
    ThreadWorker,
    _format,
    _records,
    _wire,
    chunk,
    config,
)
from thread_chunks._format import HEADER_SIZE, HOLDER_OFFSET
from thread_chunks._records import FAILURE, RESULT, Group, Record

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy", "_unfolded")

ROWS = [[n] for n in range(4)]
RECORD_HEAD = 72


@pytest.fixture
def _unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the records of finished runs as they were written."""
    monkeypatch.setattr(config, "fold_bytes", 0)


# --- the runs whose files are damaged ------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """A run of four calls, one after another, that notes its calls outside of the file."""

    path: Path
    log: Path
    kind: str = "small"

    def value(self, x: int) -> Any:
        """Return what the call of x returns."""
        if self.kind == "arrays":
            return np.full(20, x, dtype=np.int16)
        return [x, "r" * (1500 + x if self.kind == "large" else x)]

    def run(self, rows: list[list[int]] = ROWS, **options: Any) -> list[Any]:
        """Carry the run out, in this process."""
        log, value = self.log, self.value

        def f(x: int) -> Any:
            note(log, x)
            return value(x)

        usual: dict[str, Any] = {"chunk_size": 1, "worker": ThreadWorker, "path": self.path}
        return chunk(f, rows, **(usual | options))

    def made(self) -> bytes:
        """Carry out the run whose file is to be damaged, and return the file's bytes."""
        self.path.unlink(missing_ok=True)
        self.run()
        self.executed()
        return self.path.read_bytes()

    def put(self, data: bytes) -> None:
        """Make the folder hold nothing but a file of these bytes."""
        for found in self.path.parent.iterdir():
            found.unlink()
        self.path.write_bytes(data)

    def executed(self) -> list[int]:
        """Return which calls were executed since the last time."""
        found = list(map(int, noted(self.log)))
        self.log.unlink(missing_ok=True)
        return found

    def load(self) -> tuple[Checkpoint, list[str]]:
        """Read the file; return what it holds and what was warned of."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            checkpoint = Checkpoint.load(self.path)
        assert {warning.category for warning in caught} <= {CheckpointDamagedWarning}
        return checkpoint, [str(warning.message) for warning in caught]

    def expect_held(self, missing: set[int] | None = None) -> list[str]:
        """Check that the file holds everything but what is missing, unchanged; return the warnings."""
        checkpoint, texts = self.load()
        held = {index for index, is_completed in enumerate(checkpoint.completed) if is_completed}
        assert held == set(range(4)) - (missing or set())
        self.expect_values(checkpoint.output, held)
        assert all(checkpoint.output[index] is None for index in set(range(4)) - held)
        assert checkpoint.done == len(held)
        return texts

    def expect_values(self, outputs: list[Any], which: set[int] | None = None) -> None:
        """Check that outputs are what the calls return, to the last bit."""
        for index in range(4) if which is None else which:
            assert plain(outputs[index]) == plain(self.value(index))

    def expect_completed(self, missing: set[int]) -> list[str]:
        """Let a run resume: only what is missing is executed, and then all is there; return its warnings."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.expect_values(self.run())
        assert {warning.category for warning in caught} <= {CheckpointDamagedWarning}
        assert self.executed() == sorted(missing)
        return [str(warning.message) for warning in caught]

    def expect_refused(self, *errors: type[CheckpointError]) -> None:
        """Check that nothing reads the file or runs a call, and that its bytes stay."""
        before = self.path.read_bytes()
        for attempt in (lambda: Checkpoint.load(self.path), self.run):
            with pytest.raises(CheckpointError, match=re.escape(self.path.name)) as caught:
                attempt()
            assert type(caught.value) in errors
        assert self.path.read_bytes() == before
        assert os.listdir(self.path.parent) == [self.path.name]
        assert self.executed() == []


def plain(value: Any) -> Any:
    return (value.dtype.str, value.tolist()) if isinstance(value, np.ndarray) else value


@pytest.fixture
def sweep(folder: Path, tmp_path: Path) -> Sweep:
    return Sweep(folder / "c.pkl", tmp_path / "log")


@pytest.fixture
def seeded() -> random.Random:
    """Return chance whose seed is shown when the test fails."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)  # noqa: S311 - it only chooses bits


def starts(data: bytes) -> list[int]:
    """Return where each of the four records begins, and where the last one ends."""
    found = [match.start() for match in re.finditer(b"\xfarec", data)]
    assert len(found) == 4
    return [*found, len(data)]


def flipped(data: bytes, byte: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[byte] ^= 1 << bit
    return bytes(changed)


def errors_at(byte: int) -> tuple[type[CheckpointError], ...]:
    """Return what damage to one byte of the head may be taken for: at the magic, another program's file."""
    if byte < HOLDER_OFFSET - 4:
        return CheckpointCorruptError, NotACheckpointError
    return (CheckpointCorruptError,)


# --- truncation: row 9 ------------------------------------------------------------------


@sampled(5)
@pytest.mark.parametrize("kind", ["small", "arrays"])
def test_run_keeps_all_whole_records_when_the_file_is_cut_at_any_byte(
    kind: str, stride: int, folder: Path, tmp_path: Path
) -> None:
    """Of a file that is cut anywhere behind its head, every whole record counts, and the torn bytes are reported."""
    sweep = Sweep(folder / "c.pkl", tmp_path / "log", kind)
    data = sweep.made()
    bounds = starts(data)
    for length in sorted({*range(bounds[0] + beginning(stride), len(data), stride), *bounds[:-1]}):
        sweep.put(data[:length])
        whole = sum(end <= length for end in bounds[1:])
        torn = length - bounds[whole]
        missing = set(range(whole, 4))
        for texts in (sweep.expect_held(missing), sweep.expect_completed(missing)):
            assert len(texts) == bool(torn)
            for text in texts:
                assert f"{sweep.path}: a torn tail" in text
                assert f"{torn} bytes at byte {bounds[whole]}" in text
                assert (f"of call {whole}," in text) == (torn >= RECORD_HEAD)
        assert sweep.expect_held() == []
        assert os.listdir(folder) == ["c.pkl"]


@sampled(5)
@pytest.mark.parametrize("fold_bytes", [0, 1 << 20], ids=["unfolded", "folded"])
def test_run_leaves_the_file_alone_when_it_is_cut_inside_the_head(
    fold_bytes: int, stride: int, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that ends before its head does is refused before any call, at every byte, and its bytes stay."""
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)
    data = sweep.made()
    size = len(data) if fold_bytes else starts(data)[0]
    for length in range(1 + beginning(stride), size, stride):
        sweep.put(data[:length])
        sweep.expect_refused(CheckpointCorruptError, *([NotACheckpointError] if length < 12 else []))


# --- flipped bits: row 10 -----------------------------------------------------------------


@sampled(7)  # so one bit of each byte at least
@pytest.mark.parametrize("kind", ["small", "arrays"])
def test_load_never_gives_a_wrong_value_when_any_bit_is_flipped(
    kind: str, stride: int, folder: Path, tmp_path: Path
) -> None:
    """Each bit of the file in turn: the hit record alone is missing, with a warning; a hit head is an error."""
    sweep = Sweep(folder / "c.pkl", tmp_path / "log", kind)
    data = sweep.made()
    bounds = starts(data)
    for place in range(beginning(stride), 8 * len(data), stride):
        byte, bit = divmod(place, 8)
        damaged = flipped(data, byte, bit)
        sweep.path.write_bytes(damaged)
        if 0 <= byte - HOLDER_OFFSET < 4:  # who held the file is no part of what it holds
            assert sweep.expect_held() == []
        elif byte < bounds[0]:
            with pytest.raises(errors_at(byte)):
                Checkpoint.load(sweep.path)
        else:
            hit = sum(end <= byte for end in bounds[1:])
            texts = sweep.expect_held({hit})
            assert len(texts) == 1
            assert f"{bounds[hit + 1] - bounds[hit]} bytes at byte {bounds[hit]}" in texts[0]
        assert sweep.path.read_bytes() == damaged


@sampled(5)
@pytest.mark.parametrize("kind", ["small", "arrays"])
def test_run_executes_only_the_hit_call_when_a_bit_is_flipped(
    kind: str, stride: int, folder: Path, tmp_path: Path, seeded: random.Random
) -> None:
    """One bit of each byte: the call that was hit runs again, and no other; a hit head runs none."""
    sweep = Sweep(folder / "c.pkl", tmp_path / "log", kind)
    data = sweep.made()
    bounds = starts(data)
    for byte in range(beginning(stride), len(data), stride):
        damaged = flipped(data, byte, seeded.randrange(8))
        sweep.put(damaged)
        if 0 <= byte - HOLDER_OFFSET < 4:
            assert sweep.expect_completed(set()) == []
        elif byte < bounds[0]:
            sweep.expect_refused(*errors_at(byte))
        else:
            hit = sum(end <= byte for end in bounds[1:])
            assert len(sweep.expect_completed({hit})) == 1
            assert sweep.expect_held() == []
            expect_evidence(sweep, damaged, is_inside=hit < 3)


def expect_evidence(sweep: Sweep, damaged: bytes, *, is_inside: bool) -> None:
    """Check that a file with damage inside was set aside to the byte; a torn tail is no news."""
    backup = Path(f"{sweep.path}.bak")
    assert backup.exists() == is_inside
    assert not is_inside or backup.read_bytes() == damaged
    assert len(os.listdir(sweep.path.parent)) == 1 + is_inside


@sampled(5)
def test_run_leaves_the_file_alone_when_a_bit_of_a_folded_file_is_flipped(
    stride: int, sweep: Sweep, seeded: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished file is one checksummed head: damage anywhere in it is an error, never a wrong value."""
    monkeypatch.setattr(config, "fold_bytes", 1 << 20)
    data = sweep.made()
    for byte in range(beginning(stride), len(data), stride):
        sweep.put(flipped(data, byte, seeded.randrange(8)))
        if 0 <= byte - HOLDER_OFFSET < 4:
            assert sweep.expect_completed(set()) == []
        else:
            sweep.expect_refused(*errors_at(byte))


@sampled(5)
def test_run_never_gives_a_wrong_value_when_several_stretches_are_overwritten(
    stride: int, sweep: Sweep, seeded: random.Random
) -> None:
    """Noise, zeros and bytes of the file itself, at several places at once: what is held afterwards is right."""
    data = sweep.made()
    for _ in range(400 // stride):
        damaged = bytearray(data)
        for _ in range(seeded.randint(1, 4)):
            size = seeded.choice([1, 4, 8, 60, 130])
            place = seeded.randrange(starts(data)[0], len(data) - 1)
            source = seeded.randrange(len(data))
            noise = seeded.choice([seeded.randbytes(size), bytes(size), data[source : source + size]])
            damaged[place : place + len(noise)] = noise
        sweep.put(bytes(damaged))
        checkpoint, texts = sweep.load()
        held = {index for index, is_completed in enumerate(checkpoint.completed) if is_completed}
        sweep.expect_values(checkpoint.output, held)
        assert len(held) == 4 or texts or bytes(damaged) == data
        sweep.expect_completed(set(range(4)) - held)
        assert sweep.expect_held() == []


@sampled(5)
def test_run_unpickles_nothing_when_the_head_is_damaged(
    stride: int, folder: Path, tmp_path: Path, seeded: random.Random
) -> None:
    """Of a file whose head is damaged nothing is unpickled, neither of the head nor of whole records behind it."""
    path, trace = folder / "c.pkl", tmp_path / "trace"

    def f(trap: Trap, n: int) -> Any:
        return trap

    rows = [[Trap(str(trace)), n] for n in range(2)]
    with pytest.warns(ParametersUnstableWarning):
        chunk(f, rows, chunk_size=1, worker=ThreadWorker, path=path)
    data = path.read_bytes()
    if trace.exists():
        trace.rmdir()
    head = data.index(b"\xfarec")
    for byte in range(beginning(stride), head, stride):
        if 0 <= byte - HOLDER_OFFSET < 4:
            continue
        path.write_bytes(flipped(data, byte, seeded.randrange(8)))
        with pytest.raises(errors_at(byte)):
            Checkpoint.load(path)
        with pytest.raises(errors_at(byte)):
            chunk(f, rows, chunk_size=1, worker=ThreadWorker, path=path)
    assert not trace.exists()
    path.write_bytes(data)
    Checkpoint.load(path)
    assert trace.exists()


# --- zeros and holes: row 11 ----------------------------------------------------------------


@pytest.mark.parametrize("size", [512, 4096])
def test_run_keeps_all_records_before_the_zeros_when_the_end_is_zeroed(
    size: int, folder: Path, tmp_path: Path
) -> None:
    """A block of zeros at the end, as a file system leaves it after a power cut, is a torn tail."""
    sweep = Sweep(folder / "c.pkl", tmp_path / "log", "large")
    data = sweep.made()
    bounds = starts(data)
    sweep.put(data[:-size] + bytes(size))
    whole = sum(end <= len(data) - size for end in bounds[1:])
    missing = set(range(whole, 4))
    assert 0 < len(missing) < 4
    for texts in (sweep.expect_held(missing), sweep.expect_completed(missing)):
        assert len(texts) == 1
        assert f"a torn tail of call {whole}, {len(data) - bounds[whole]} bytes" in texts[0]
    assert sweep.expect_held() == []
    assert os.listdir(folder) == ["c.pkl"]


@pytest.mark.parametrize("size", [1, RECORD_HEAD, 512, 4096, 3 << 20])
@pytest.mark.parametrize("whole", [2, 4], ids=["half", "finished"])
def test_run_takes_zeros_for_a_torn_tail_when_the_file_was_extended(
    whole: int, size: int, sweep: Sweep
) -> None:
    """Zeros behind the last record cost nothing: they are reported, and cut before the next record is appended."""
    data = sweep.made()
    data = data[: starts(data)[whole]]
    sweep.put(data + bytes(size))
    missing = set(range(whole, 4))
    for texts in (sweep.expect_held(missing), sweep.expect_completed(missing)):
        assert len(texts) == 1
        assert f"a torn tail, {size} bytes at byte {len(data)}" in texts[0]
    if missing:
        assert sweep.expect_held() == []
        assert sweep.path.stat().st_size < len(data) * 2


def test_run_executes_everything_when_only_the_head_is_left(sweep: Sweep) -> None:
    """Zeros in the place of all records: the head is whole, so the run is known, and every call runs again."""
    data = sweep.made()
    first = starts(data)[0]
    sweep.put(data[:first] + bytes(len(data) - first))
    assert len(sweep.expect_completed({0, 1, 2, 3})) == 1
    assert sweep.expect_held() == []


# --- damage in the middle: row 12 -------------------------------------------------------------


def record_head(data: bytes, at: list[int]) -> bytes:
    return flipped(data, at[1] + 20, 3)


def payload(data: bytes, at: list[int]) -> bytes:
    return flipped(data, at[1] + RECORD_HEAD + 2, 3)


def two_together(data: bytes, at: list[int]) -> bytes:
    return flipped(flipped(data, at[1] + RECORD_HEAD + 4, 0), at[2] + 5, 0)


def two_apart(data: bytes, at: list[int]) -> bytes:
    return flipped(flipped(data, at[0] + RECORD_HEAD + 4, 0), at[2] + RECORD_HEAD + 4, 0)


def hole(data: bytes, at: list[int]) -> bytes:
    return data[: at[1]] + bytes(at[2] - at[1]) + data[at[2] :]


def bytes_gone(data: bytes, at: list[int]) -> bytes:
    return data[: at[1] + 30] + data[at[1] + 50 :]


def payload_gone(data: bytes, at: list[int]) -> bytes:
    return data[: at[1] + RECORD_HEAD + 1] + data[at[2] :]


def record_gone_halves(data: bytes, at: list[int]) -> bytes:
    return data[: at[0] + RECORD_HEAD + 14] + data[at[1] + RECORD_HEAD + 14 :]


def noise_over(data: bytes, at: list[int]) -> bytes:
    return data[: at[1] - 3] + b"noise" * 4 + data[at[1] + 17 :]


def noise_between(data: bytes, at: list[int]) -> bytes:
    return data[: at[1]] + b"noise" * 40 + data[at[1] :]


def all_but_the_last(data: bytes, at: list[int]) -> bytes:
    return data[: at[0]] + b"\xff" * (at[3] - at[0]) + data[at[3] :]


INSIDE: dict[str, tuple[Callable[[bytes, list[int]], bytes], set[int], set[int]]] = {
    "the head of a record": (record_head, {1}, set()),
    "a payload": (payload, {1}, {1}),
    "two records together": (two_together, {1, 2}, {1}),
    "two records apart": (two_apart, {0, 2}, {0, 2}),
    "a hole of zeros": (hole, {1}, set()),
    "bytes are gone": (bytes_gone, {1, 2, 3}, set()),
    "a payload is gone": (payload_gone, {1, 2, 3}, {1}),
    "the halves of two records are gone": (record_gone_halves, {0, 1, 2, 3}, {0}),
    "noise over two records": (noise_over, {0, 1}, {0}),
    "noise in between": (noise_between, {1, 2, 3}, set()),
    "all but the last record": (all_but_the_last, {0, 1, 2}, set()),
}
"""How the file is damaged, which calls are lost, and whose number a warning can tell."""


@pytest.mark.parametrize("name", INSIDE)
def test_run_recovers_later_records_when_the_middle_is_damaged(name: str, sweep: Sweep) -> None:
    """Records behind damage that are at their place are recovered; warnings name file, call and bytes, and .bak is kept."""
    damage, missing, named = INSIDE[name]
    data = sweep.made()
    damaged = damage(data, starts(data))
    sweep.put(damaged)
    for texts in (sweep.expect_held(missing), sweep.expect_completed(missing)):
        assert texts
        assert all(
            re.search(r"c\.pkl: a damaged record.*, \d+ bytes at byte \d+, was left out", text)
            for text in texts
        )
        assert {int(call) for text in texts for call in re.findall(r"of call (\d+)", text)} == named
    assert sweep.expect_held() == []
    expect_evidence(sweep, damaged, is_inside=True)
    assert sweep.expect_completed(set()) == []


def test_damage_is_counted_to_the_byte(sweep: Sweep) -> None:
    """The bytes that warnings tell are all that is not covered by the head and whole records."""
    data = sweep.made()
    for damage, missing, _ in INSIDE.values():
        damaged = damage(data, at := starts(data)) + b"torn"
        sweep.put(damaged)
        told = sum(int(found) for text in sweep.load()[1] for found in re.findall(r"(\d+) bytes at", text))
        whole = sum(at[index + 1] - at[index] for index in range(4) if index not in missing)
        assert told == len(damaged) - at[0] - whole


def test_run_keeps_the_evidence_when_its_warning_is_an_error(sweep: Sweep) -> None:
    """Under -W error the warning stops the run before any call; the damaged bytes are kept, and nothing is locked."""
    data = sweep.made()
    damaged = payload(data, starts(data))
    sweep.put(damaged)
    with pytest.raises(CheckpointDamagedWarning, match="of call 1"):
        sweep.run()
    assert sweep.executed() == []
    kept = [path.read_bytes() for path in sweep.path.parent.iterdir()]
    assert damaged in kept
    sweep.expect_completed({1})
    assert damaged in [path.read_bytes() for path in sweep.path.parent.iterdir()]


@pytest.mark.parametrize("on_mismatch", ["restart", "reuse", "raise"])
def test_damaged_file_is_kept_when_it_is_of_another_run(on_mismatch: str, sweep: Sweep) -> None:
    """A damaged file of other parameters is kept to the byte, and under "reuse" what is whole in it is used."""
    data = sweep.made()
    damaged = payload(data, starts(data))
    sweep.put(damaged)
    rows = [*ROWS, [4]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if on_mismatch == "raise":
            with pytest.raises(CheckpointMismatchError):
                sweep.run(rows, on_mismatch=on_mismatch)
        else:
            sweep.expect_values(sweep.run(rows, on_mismatch=on_mismatch))
    executed = {"restart": [0, 1, 2, 3, 4], "reuse": [1, 4], "raise": []}
    assert sweep.executed() == executed[on_mismatch]
    kept = sweep.path if on_mismatch == "raise" else Path(f"{sweep.path}.bak")
    assert kept.read_bytes() == damaged
    if on_mismatch == "restart":
        assert CheckpointRestartedWarning in {warning.category for warning in caught}
    if on_mismatch == "reuse":
        assert any("of call 1" in str(warning.message) for warning in caught)


def save(path: Path) -> None:
    Checkpoint.load(path).save()


def update_save(path: Path) -> None:
    Checkpoint.load(path).update_save()


def made_on_it(path: Path) -> None:
    Checkpoint("f", ROWS, [None] * 4, [False] * 4, 0, 0, path=path)


@pytest.mark.parametrize("act", [save, update_save, made_on_it])
def test_damaged_file_is_kept_when_a_checkpoint_is_saved_over_it(
    act: Callable[[Path], None], sweep: Sweep
) -> None:
    """Saving a Checkpoint over a file with damage inside keeps that file as .bak, as a run does."""
    data = sweep.made()
    damaged = payload(data, starts(data))
    sweep.put(damaged)
    with pytest.warns(CheckpointDamagedWarning, match="of call 1"):
        act(sweep.path)
    assert sweep.expect_held({1}) == []
    expect_evidence(sweep, damaged, is_inside=True)


# --- appending behind a torn tail: row 13 -------------------------------------------------------


@pytest.mark.parametrize("torn", [b"\0" * 4096, b"noise", "half a record", "a record of another file"])
def test_torn_tail_is_cut_and_synced_before_anything_is_appended(
    torn: bytes | str, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run first cuts what the first left torn, makes that durable, and only then appends."""
    data = sweep.made()
    at = starts(data)
    if torn == "half a record":
        tail = data[at[2] : at[2] + 60]
    elif torn == "a record of another file":
        tail = sweep.made()[at[2] : at[3]]
    else:
        assert isinstance(torn, bytes)
        tail = torn
    sweep.put(data[: at[2]] + tail)
    disk = Disk()
    monkeypatch.setattr(thread_chunks._log, "os", disk)
    assert len(sweep.expect_completed({2, 3})) == 1
    assert disk.done[: disk.done.index("write")][-2:] == ["ftruncate", "fsync"]
    assert sweep.path.read_bytes()[: at[2]] == data[: at[2]]
    assert sweep.expect_held() == []


def test_run_keeps_everything_when_tails_are_torn_again_and_again(
    sweep: Sweep, seeded: random.Random
) -> None:
    """Run after run ends in a torn record: what was whole stays whole, and the next run goes on from there."""
    data = sweep.made()
    sweep.put(data[: starts(data)[0]])
    for done in range(4):
        sweep.expect_completed(set(range(done, 4)))
        whole = sweep.path.read_bytes()
        at = starts(whole)
        cut = seeded.randrange(at[done + 1], at[done + 2]) if done < 3 else len(whole)
        sweep.put(whole[:cut] + seeded.randbytes(seeded.randrange(9)))
    sweep.expect_completed(set())
    assert sweep.executed() == []


# --- records that do not fit: row 15 --------------------------------------------------------------


def with_records(data: bytes, *records: Record | Group) -> bytes:
    """Append records to a file, as if they had been written by a run of it."""
    salt, _, _ = header_of(data)
    return data + b"".join(map(bytes, _records.record_pieces(records, salt, len(data))))


def header_of(data: bytes) -> tuple[bytes, bytes, int]:
    """Return salt, fingerprint and size of the head of a file."""
    fields = _format._HEADER.unpack(data[len(_format._OPEN) : HEADER_SIZE - 1])
    return fields[4], fields[5], fields[6]


def record(index: int, value: Any) -> Record:
    return Record(RESULT, index, 0.5, 0, pickle.dumps(value))


def test_last_record_wins_when_a_call_has_two(sweep: Sweep) -> None:
    """Of two whole records of one call the later one counts, for load, resume and fold."""
    sweep.put(with_records(sweep.made(), record(1, "later")))
    assert sweep.load()[0].output[1] == "later"
    assert sweep.load()[0].done == 4
    assert sweep.load()[1] == []
    assert sweep.run()[1] == "later"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "fold_bytes", 1 << 20)
        assert sweep.run()[1] == "later"
    assert b"\xfarec" not in sweep.path.read_bytes()
    assert sweep.load()[0].output[1] == "later"
    assert sweep.executed() == []


@pytest.mark.parametrize("damaged", ["earlier", "later"])
def test_whole_record_counts_when_the_other_one_of_its_call_is_damaged(damaged: str, sweep: Sweep) -> None:
    """Damage to one of two records of a call costs nothing: the whole one counts, and no call runs."""
    data = sweep.made()
    both = with_records(data, record(1, sweep.value(1)))
    sweep.put(flipped(both, starts(data)[1] + 58 if damaged == "earlier" else len(data) + 58, 2))
    assert len(sweep.expect_held()) == 1
    assert len(sweep.expect_completed(set())) == 1
    sweep.expect_held()


@pytest.mark.parametrize("index", [4, 2**32, 2**63, 2**64 - 1])
@pytest.mark.parametrize("kind", [RESULT, FAILURE])
@pytest.mark.parametrize("fold_bytes", [0, 1 << 20], ids=["unfolded", "folded"])
def test_record_is_ignored_when_there_is_no_such_call(
    fold_bytes: int, kind: int, index: int, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of a call beyond the list is ignored with a warning, and harms nothing, also when the file is folded."""
    data = sweep.made()
    data = data[: starts(data)[3]]
    sweep.put(with_records(data, Record(kind, index, 0.5, 0, pickle.dumps("beyond"))))
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)
    for texts in (sweep.expect_held({3}), sweep.expect_completed({3})):
        assert len(texts) == 1
        assert f"a record of call {index} was ignored: there are 4 calls" in texts[0]
    sweep.expect_held()
    sweep.expect_completed(set())


def test_records_are_accepted_when_they_are_out_of_order(sweep: Sweep) -> None:
    """Results stand in the order of the parameters, whatever the order of their records."""
    data = sweep.made()
    at = starts(data)
    with sweep.path.open("rb") as file:
        records = _format.read(file, "c.pkl").records
    for order in itertools.permutations(records):
        sweep.put(with_records(data[: at[0]], *order))
        assert sweep.expect_held() == []
        assert sweep.expect_completed(set()) == []


def sealed(data: bytes, **changes: int) -> bytes:
    """Change fields of the second record's head and set its checksum right."""
    names = (
        "magic",
        "mark",
        "index",
        "seconds",
        "code",
        "length",
        "kind",
        "parts",
        "crc",
        "started",
        "worker",
        "peak",
    )
    at = starts(data)[1]
    fields = dict(zip(names, struct.unpack_from("<4s8sQdQQHHIdII", data, at), strict=True)) | changes
    head = struct.pack("<4s8sQdQQHHIdII", *fields.values())
    salt, _, _ = header_of(data)
    head += struct.pack("<I", zlib.crc32(head, zlib.crc32(salt + struct.pack("<Q", at))))
    return data[:at] + head + data[at + len(head) :]


ABSURD = [
    {"length": 0},
    {"length": 1},
    {"length": 2**20},
    {"length": 2**31},
    {"length": 2**63},
    {"length": 2**64 - 1},
    {"parts": 1},
    {"parts": 3},
    {"parts": 2**16 - 1},
    {"parts": 2**16 - 1, "length": 2**64 - 1},
    {"parts": 2, "length": 16},
]


@pytest.mark.parametrize("changes", ABSURD, ids=str)
def test_absurd_length_costs_its_own_call_only(changes: dict[str, int], sweep: Sweep) -> None:
    """A record head that claims impossible sizes neither takes memory nor hides the records behind it."""
    data = sweep.made()
    damaged = sealed(data, **changes)
    sweep.put(damaged)
    texts = sweep.expect_held({1})
    assert any("of call 1" in text for text in texts)
    assert sweep.expect_completed({1})
    assert sweep.expect_held() == []
    expect_evidence(sweep, damaged, is_inside=True)


# --- files of release 1.0.5: row 17 --------------------------------------------------------------


@sampled(5)
def test_old_file_gives_no_wrong_value_when_it_is_cut_at_any_byte(
    stride: int, folder: Path, tmp_path: Path
) -> None:
    """A file of 1.0.5 that was torn is read whole or refused: its bytes stay, and no call runs before that is known."""
    path, log = old_file("half-finished", folder), tmp_path / "log"
    whole = path.read_bytes()
    output, completed = HALF["half-finished"]

    def add(x: int, y: int) -> int:
        note(log, x)
        return x + y

    options: dict[str, Any] = {"chunk_size": 1, "worker": ThreadWorker}
    refused = 0
    lengths = range(1 + beginning(stride), len(whole) + 1, stride)
    for length in lengths:
        path.write_bytes(whole[:length])
        try:
            checkpoint = Checkpoint.load(path)
        except CheckpointError:
            refused += 1
            with pytest.raises(CheckpointError):
                chunk(add, OLD_ROWS, path=path, **options)
            assert path.read_bytes() == whole[:length]
            assert noted(log) == []
            continue
        assert (checkpoint.output, checkpoint.completed) == (output, completed)
        assert chunk(add, OLD_ROWS, path=path, **options) == [5, 7, 9, 11]
        assert noted(log) == ["2", "4"]
        log.unlink()
    assert 0 < refused < len(lengths) - 1
    assert os.listdir(folder) == ["old.pkl"]


def test_old_file_stays_resumed_when_the_run_is_torn_afterwards(folder: Path, tmp_path: Path) -> None:
    """Once resumed, a file of 1.0.5 is as safe as any: a torn record costs its own call only."""
    path, log = old_file("half-finished", folder), tmp_path / "log"

    def add(x: int, y: int) -> int:
        note(log, x)
        return x + y

    options: dict[str, Any] = {"chunk_size": 1, "worker": ThreadWorker}
    chunk(add, OLD_ROWS, path=path, **options)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.warns(CheckpointDamagedWarning, match="torn tail of call 3"):
        assert chunk(add, OLD_ROWS, path=path, **options) == [5, 7, 9, 11]
    assert noted(log) == ["2", "4", "4"]


# --- newer formats: row 18 ------------------------------------------------------------------------


@pytest.mark.parametrize("version", [_format.VERSION + 1, 2**16 - 1])
def test_newer_file_is_left_alone_at_every_entry_point(version: int, sweep: Sweep) -> None:
    """A file of a newer format is refused by whatever would read or replace it, with its version, and stays."""
    data = newer(sweep.made(), version)
    sweep.put(data)
    sweep.expect_refused(CheckpointVersionError)
    for act in (
        made_on_it,
        lambda path: Checkpoint.loadif("f", ROWS, [None] * 4, [False] * 4, 0, 0, path=path),
    ):
        with pytest.raises(CheckpointVersionError, match=f"file format {version}"):
            act(sweep.path)
    assert sweep.path.read_bytes() == data
    assert os.listdir(sweep.path.parent) == ["c.pkl"]


def newer(data: bytes, version: int) -> bytes:
    start, end = len(_format._OPEN), HEADER_SIZE - 1
    magic, _, spare, holder, *rest, _ = _format._HEADER.unpack(data[start:end])
    crc = _format._header_crc(version, spare, *rest)
    return data[:start] + _format._HEADER.pack(magic, version, spare, holder, *rest, crc) + data[end:]


def test_file_is_left_alone_when_its_head_is_of_a_newer_pickle_protocol(sweep: Sweep) -> None:
    """A whole file that a newer Python pickled is refused as such, and not as damaged; its bytes stay."""
    data = sweep.made()
    salt, fingerprint, size = header_of(data)
    head = data[HEADER_SIZE : HEADER_SIZE + size]
    assert head[:2] == b"\x80\x05"
    head = b"\x80\x7f" + head[2:]
    sweep.put(_format.header_bytes(salt, fingerprint, head, _format.About()) + head)
    sweep.expect_refused(CheckpointVersionError)


def test_call_runs_again_when_its_record_is_of_a_newer_pickle_protocol(sweep: Sweep) -> None:
    """A single result that this Python cannot read is named in a warning, and computed again."""
    data = sweep.made()
    sweep.put(with_records(data[: starts(data)[3]], Record(RESULT, 3, 0.5, 0, b"\x80\x7fK\x01.")))
    for texts, more in ((sweep.expect_held({3}), []), (sweep.expect_completed({3}), [".bak"])):
        assert "call 3 cannot be unpickled" in texts[0]
        assert "protocol" in texts[0]
        assert [text[-4:] for text in texts[1:]] == more


# --- a module that is gone: row 19 ------------------------------------------------------------------


@dataclass
class Module:
    """A module that can go and come back."""

    folder: Path

    def come(self) -> Any:
        """Make it importable, and import it."""
        self.folder.mkdir(exist_ok=True)
        source = "class Thing:\n    def __init__(self, n): self.n = n\n"
        (self.folder / "coming_and_going.py").write_text(source)
        sys.path.insert(0, str(self.folder))
        import coming_and_going  # type: ignore[import-not-found]  # noqa: PLC0415 - only now it exists

        return coming_and_going

    def go(self) -> None:
        """Make it not importable."""
        sys.path[:] = [name for name in sys.path if name != str(self.folder)]
        sys.modules.pop("coming_and_going", None)
        sys.path_importer_cache.pop(str(self.folder), None)


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Module]:
    found = Module(tmp_path / "modules")
    yield found
    found.go()


def thing_run(path: Path, log: Path, **options: Any) -> list[Any]:
    """Run calls of which those of even numbers return objects of the module."""

    def things(n: int) -> Any:
        note(log, n)
        if n % 2:
            return n
        import coming_and_going  # noqa: PLC0415 - it may be gone

        return coming_and_going.Thing(n)

    usual: dict[str, Any] = {"chunk_size": 1, "worker": ThreadWorker, "path": path}
    return chunk(things, ROWS, **(usual | options))


def expect_things(path: Path) -> None:
    output = Checkpoint.load(path).output
    assert [getattr(thing, "n", thing) for thing in output] == [0, 1, 2, 3]
    assert [type(thing).__name__ for thing in output] == ["Thing", "int"] * 2


FOLDED = pytest.mark.parametrize("fold_bytes", [0, 1 << 20], ids=["unfolded", "folded"])


@FOLDED
def test_results_come_back_when_the_module_they_need_comes_back(
    fold_bytes: int, folder: Path, tmp_path: Path, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results whose module is gone count as missing, each named with the module; failing to redo them loses nothing."""
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)
    path, log = folder / "c.pkl", tmp_path / "log"
    module.come()
    thing_run(path, log)
    log.unlink()
    module.go()
    for act in (lambda: Checkpoint.load(path), lambda: thing_run(path, log, on_error="return")):
        with pytest.warns(CheckpointDamagedWarning) as caught:
            act()
        texts = [str(warning.message) for warning in caught]
        assert len(texts) == 2
        for text, index in zip(texts, (0, 2), strict=True):
            assert f"call {index} cannot be unpickled" in text
            assert "coming_and_going" in text
    assert noted(log) == ["0", "2"]
    module.come()
    expect_things(path)


@FOLDED
@pytest.mark.parametrize("act", [save, update_save])
def test_results_are_not_lost_when_a_checkpoint_is_saved_while_their_module_is_gone(
    act: Callable[[Path], None],
    fold_bytes: int,
    folder: Path,
    tmp_path: Path,
    module: Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loading and saving where a module is missing does not throw away the results that need it."""
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)
    path = folder / "c.pkl"
    module.come()
    thing_run(path, tmp_path / "log")
    module.go()
    with pytest.warns(CheckpointDamagedWarning, match="coming_and_going"):
        act(path)
    module.come()
    kept = [found for found in folder.iterdir() if Checkpoint.load(found).done == 4]
    assert kept
    expect_things(kept[0])


@FOLDED
def test_results_are_not_lost_when_a_longer_run_reuses_them_while_their_module_is_gone(
    fold_bytes: int, folder: Path, tmp_path: Path, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that takes over what it can read keeps the file of what it cannot read."""
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)
    path, log = folder / "c.pkl", tmp_path / "log"
    module.come()
    thing_run(path, log)
    module.go()

    def things(n: int) -> Any:
        return n

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options: dict[str, Any] = {"chunk_size": 1, "worker": ThreadWorker, "path": path}
        chunk(things, [*ROWS, [4]], on_mismatch="reuse", **options)
    module.come()
    kept = [found for found in folder.iterdir() if len(Checkpoint.load(found).output) == 4]
    assert kept
    expect_things(kept[0])


@FOLDED
@pytest.mark.parametrize("way", ["a list", "a stream", "no links"])
def test_results_are_kept_aside_when_a_run_supersedes_them_while_their_module_is_gone(
    fold_bytes: int,
    way: str,
    folder: Path,
    tmp_path: Path,
    module: Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What cannot be read here is computed again; before that the whole file is set aside, byte for byte, once."""
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)
    path, log = folder / "c.pkl", tmp_path / "log"
    module.come()
    thing_run(path, log)
    before = path.read_bytes()
    module.go()

    def things(n: int) -> int:
        return n

    if way == "no links":
        monkeypatch.setattr(os, "link", refuse)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if way == "a stream":
            with Chunker(things, chunk_size=1, worker=ThreadWorker) as chunker:
                outputs = [output for _, output in sorted(chunker.as_completed(ROWS, path=path))]
        else:
            outputs = chunk(things, ROWS, chunk_size=1, worker=ThreadWorker, path=path)
    assert outputs == [0, 1, 2, 3]
    assert len([each for each in caught if "kept as" in str(each.message)]) == 1
    warnings.simplefilter("ignore", FunctionChangedWarning)  # pytest resets it
    assert (folder / "c.pkl.bak").read_bytes() == before
    assert Checkpoint.load(path).output == outputs  # and no warning: nothing is missing any more
    assert chunk(things, ROWS, chunk_size=1, worker=ThreadWorker, path=path) == outputs
    assert sorted(os.listdir(folder)) == ["c.pkl", "c.pkl.bak"]
    module.come()
    expect_things(folder / "c.pkl.bak")


def refuse(*_: Any) -> None:
    """Refuse to give a file a second name."""
    raise PermissionError(errno.EPERM, "Operation not permitted")


class Hollow:
    """Pickles, and does not unpickle any more once a file is there."""

    def __init__(self, one: int, two: int, broken: Path) -> None:
        self.one, self.two, self.broken = one, two, broken

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["broken"].exists():
            msg = "another release of Hollow"
            raise TypeError(msg)
        self.__dict__.update(state)


@FOLDED
@pytest.mark.parametrize("is_stream", [False, True], ids=["list", "stream"])
def test_run_resumes_by_its_digest_when_the_parameters_in_the_file_cannot_be_unpickled(
    fold_bytes: int, is_stream: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run has its own parameters and needs those of the file only to say what differs; loading says what is wrong."""
    monkeypatch.setattr(config, "fold_bytes", fold_bytes)
    path, log = folder / "c.pkl", tmp_path / "log"

    def f(hollow: Any, n: int) -> int:
        note(log, n)
        return int(hollow.one + hollow.two + n)

    def rows(two: int = 3) -> list[Any]:
        return [[Hollow(2, two, tmp_path / "broken"), n] for n in range(3)]

    def run() -> list[int]:
        if not is_stream:
            return chunk(f, rows(), worker=ThreadWorker, path=path)
        with Chunker(f, chunk_size=1, worker=ThreadWorker) as chunker:
            return [output for _, output in sorted(chunker.as_completed(rows(), path=path))]

    assert run() == [5, 6, 7]
    (tmp_path / "broken").touch()
    assert run() == [5, 6, 7]
    assert sorted(noted(log)) == ["0", "1", "2"]
    before = path.read_bytes()
    with pytest.raises(CheckpointCorruptError, match=r"another release.*resumes from it"):
        Checkpoint.load(path)
    with pytest.raises(CheckpointCorruptError, match="another release"):
        chunk(f, rows(4), worker=ThreadWorker, path=path)
    assert path.read_bytes() == before


def test_file_does_not_grow_when_a_run_fails_again_and_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure that is known is not written again, and of those that always differ the last ones are kept."""
    path = folder / "c.pkl"

    def fail(n: int) -> int:
        if n == 3:
            return n
        raise ValueError("no" * 1000)

    def differ(n: int) -> int:
        if n == 3:
            return n
        raise ValueError(f"{os.urandom(2000).hex()}")

    def size(f: Callable[[int], int]) -> int:
        chunk(f, ROWS, chunk_size=1, worker=ThreadWorker, path=path, on_error="return")
        return path.stat().st_size

    first = size(fail)
    assert {size(fail) for _ in range(3)} == {first}
    path.unlink()
    monkeypatch.setattr(config, "failure_bytes", 100)
    first = size(differ)
    assert max(size(differ) for _ in range(9)) < 4 * first
    checkpoint = Checkpoint.load(path)
    assert sorted(checkpoint.failures) == [0, 1, 2]
    assert checkpoint.output == [None, None, None, 3]


def test_file_is_left_alone_when_a_module_that_its_parameters_need_is_gone(
    folder: Path, tmp_path: Path, module: Module
) -> None:
    """Parameters that cannot be read make the whole file unreadable: the error names the module, and the bytes stay."""
    path = folder / "c.pkl"
    thing = module.come().Thing(1)
    chunk(repr, [[thing], [2]], chunk_size=1, worker=ThreadWorker, path=path)
    before = path.read_bytes()
    module.go()
    del thing
    for act in (
        lambda: Checkpoint.load(path),
        lambda: chunk(repr, [[1], [2]], chunk_size=1, worker=ThreadWorker, path=path),
    ):
        with pytest.raises(CheckpointError, match="coming_and_going"):
            act()
    assert path.read_bytes() == before
    assert os.listdir(folder) == ["c.pkl"]


# --- short calls, saved in groups: rows 10 to 12 ----------------------------------------------------

SHORT_ROWS = [[n] for n in range(300)]


def short_run(path: Path, log: Path, worker: Any = ThreadWorker) -> list[str]:
    """Carry out a run of short calls, check what it returns, and return what it warned of."""

    def square(x: int) -> Any:
        note(log, x)
        return [x * x, "s" * (x % 9)]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outputs = chunk(square, SHORT_ROWS, chunk_size=1, worker=worker, path=path)
    assert outputs == [[n * n, "s" * (n % 9)] for n in range(300)]
    return [str(warning.message) for warning in caught]


def grouped_file(path: Path, log: Path) -> tuple[bytes, int]:
    """Make the finished file of a run of short calls; return its bytes and where its records begin."""
    short_run(path, log, ProcessWorker)
    with path.open("rb") as file:
        contents = _format.read(file, str(path))
    groups = [record for record in contents.records if isinstance(record, Group)]
    assert max(len(group.columns) // _wire.COLUMN_BYTES for group in groups) > 20
    log.unlink()
    return path.read_bytes(), HEADER_SIZE + len(contents.head)


def expect_repaired(path: Path, log: Path, data: bytes) -> set[int]:
    """Load and then resume from a file of damaged groups, and return which calls it had lost.

    No value is wrong, exactly the lost calls are run again, the damaged file is kept,
    and the new one is whole.
    """
    for found in path.parent.iterdir():
        found.unlink()
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoint = Checkpoint.load(path)
    assert {warning.category for warning in caught} == {CheckpointDamagedWarning}
    lost = {index for index, is_completed in enumerate(checkpoint.completed) if not is_completed}
    assert all(checkpoint.output[n] == [n * n, "s" * (n % 9)] for n in set(range(300)) - lost)
    is_tail = all("a torn tail" in str(warning.message) for warning in caught)
    assert short_run(path, log) == [str(warning.message) for warning in caught]
    assert sorted(map(int, noted(log))) == sorted(lost)
    log.unlink(missing_ok=True)
    backup = Path(f"{path}.bak")
    assert (backup.exists() and backup.read_bytes()[HEADER_SIZE:] == data[HEADER_SIZE:]) or is_tail
    assert short_run(path, log) == []
    assert noted(log) == []
    return lost


def test_run_repeats_at_most_one_short_call_when_any_bit_of_its_groups_is_flipped(
    folder: Path, tmp_path: Path, seeded: random.Random
) -> None:
    """Thousands of results side by side, and one wrong bit costs one of them at most, wherever it is."""
    data, start = grouped_file(folder / "c.pkl", tmp_path / "log")
    for _ in range(40):
        changed = flipped(data, seeded.randrange(start, len(data)), seeded.randrange(8))
        assert len(expect_repaired(folder / "c.pkl", tmp_path / "log", changed)) <= 1


@pytest.mark.parametrize("size", [16, 512])
def test_run_repeats_only_what_was_hit_when_a_sector_of_its_groups_is_lost(
    size: int, folder: Path, tmp_path: Path, seeded: random.Random
) -> None:
    """A stretch that reads as zeros costs the results that were in it, and none that lie elsewhere."""
    data, start = grouped_file(folder / "c.pkl", tmp_path / "log")
    places = _places(data, folder / "c.pkl")
    for _ in range(20):
        at = seeded.randrange(start, len(data) - size)
        changed = data[:at] + bytes(size) + data[at + size :]
        if changed == data:  # the numbers of workers are zeros, too
            continue
        hit = {n for n, (begin, end) in places.items() if begin < at + size and at < end}
        assert expect_repaired(folder / "c.pkl", tmp_path / "log", changed) <= hit


def _places(data: bytes, path: Path) -> dict[int, tuple[int, int]]:
    """Return where the result of each call lies in a file; a single record lies from its head to its end."""
    path.write_bytes(data)
    with path.open("rb") as file:
        contents = _format.read(file, str(path))
    places, offset = {}, HEADER_SIZE + len(contents.head)
    for each in contents.records:
        size = sum(map(len, _records.record_pieces([each], contents.header.salt, offset)))
        if isinstance(each, Group):
            indices, _, sizes, *_ = _wire.unpack(each.columns)
            begin = offset + RECORD_HEAD + len(each.columns)
            for index, length in zip(indices, sizes, strict=True):
                places[index] = (begin, begin + length)
                begin += length
        else:
            places[each.index] = (offset, offset + size)
        offset += size
    assert offset == len(data)
    return places


def test_run_goes_on_from_what_was_whole_when_a_file_of_groups_is_cut(
    folder: Path, tmp_path: Path, seeded: random.Random
) -> None:
    """Of a file that is cut inside of a group all groups before it count, and the next run adds the rest."""
    data, start = grouped_file(folder / "c.pkl", tmp_path / "log")
    places = _places(data, folder / "c.pkl")
    for _ in range(15):
        length = seeded.randrange(start + 1, len(data))
        lost = expect_repaired(folder / "c.pkl", tmp_path / "log", data[:length])
        assert {n for n, (_, end) in places.items() if end > length} <= lost
