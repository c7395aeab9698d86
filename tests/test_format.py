"""The bytes of the checkpoint file: whatever happens to them, a wrong value never comes out."""

import io
import itertools
import os
import pickle
import random
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thread_chunks import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointVersionError,
    NotACheckpointError,
    _format,
    _records,
    _wire,
)
from thread_chunks._format import (
    HEADER_SIZE,
    HOLDER_OFFSET,
    About,
    Contents,
    header_bytes,
    is_held,
    is_legacy,
    read,
)
from thread_chunks._records import FAILURE, RESULT, Damage, Group, Record, record_pieces

SALT = bytes(range(16))
FINGERPRINT = bytes(range(100, 132))
HEAD = pickle.dumps("what stands in for a Checkpoint")
ABOUT = About("sweep", 9, 2)
START = header_bytes(SALT, FINGERPRINT, HEAD, ABOUT) + HEAD
RECORDS = [
    Record(RESULT, 0, 0.5, 7, pickle.dumps("zero")),
    Record(FAILURE, 1, 0.0, 0, b"Traceback: one"),
    Record(RESULT, 2, 1.5, 7, b"two", [b"first buffer", b"", b"third buffer"], None, (1.7e9, 3, 2**32 - 1)),
    Record(RESULT, 3, 2.5, 2**64 - 1, b""),
]


def group(*results: tuple[int, float, bytes], code: int = 7) -> Group:
    """Make a group of results ``(index, seconds, pickle)``."""
    indices, seconds, pickles = zip(*results, strict=True)
    return Group(code, *_wire.group(indices, seconds, pickles))


def laid_out(records: Sequence[Record | Group], salt: bytes = SALT, offset: int = len(START)) -> bytes:
    """Lay records out as they lie in a file, behind its head or at another place."""
    return b"".join(map(bytes, record_pieces(records, salt, offset)))


def joined(*parts: bytes | Sequence[Record | Group]) -> bytes:
    """Lay out a file of records and other bytes, the records as it would hold them at their place."""
    content = START
    for part in parts:
        content += part if isinstance(part, bytes) else laid_out(part, offset=len(content))
    return content


def whole(records: Sequence[Record | Group] = RECORDS) -> bytes:
    return START + laid_out(records)


def bounds(records: Sequence[Record | Group] = RECORDS) -> list[int]:
    """Return where each record begins, and where the last one ends."""
    return list(itertools.accumulate((len(laid_out([record])) for record in records), initial=len(START)))


def parsed(data: bytes) -> Contents:
    """Read a file that holds these bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return read(file, "a.pkl")


def plain(record: Record | Group) -> tuple[Any, ...]:
    """Return a record in types that compare by value."""
    if isinstance(record, Group):
        return record.code, bytes(record.columns), bytes(record.body)
    return (*record[:4], bytes(record.main), [bytes(buffer) for buffer in record.buffers])


def singles(records: Iterable[Record | Group]) -> Iterator[tuple[Any, ...]]:
    """Take groups apart: what is known of each call that ended, in types that compare by value."""
    for record in records:
        if isinstance(record, Record):
            yield plain(record)
            continue
        indices, seconds, sizes, _ = _wire.unpack(record.columns)
        for index, taken, main in zip(indices, seconds, _wire.parts(record.body, sizes), strict=True):
            yield RESULT, index, taken, record.code, bytes(main), []


def expect(contents: Contents, records: Sequence[Record | Group]) -> None:
    assert [plain(record) for record in contents.records] == [plain(record) for record in records]
    assert contents.head == HEAD


# --- whole files ------------------------------------------------------------------------


def test_read_returns_what_was_written() -> None:
    """A whole file gives back its header, its head and every record, and reports no damage."""
    contents = parsed(whole())
    expect(contents, RECORDS)
    assert contents.damages == []
    assert contents.end == contents.size == len(whole())
    assert contents.header.salt == SALT
    assert contents.header.fingerprint == FINGERPRINT
    assert contents.header.holder == os.getpid()


def test_header_is_a_valid_pickle_when_the_head_follows() -> None:
    """Any tool that unpickles the file sees the head: the header is pickled bytes that are dropped."""
    assert pickle.load(io.BytesIO(whole())) == pickle.loads(HEAD)
    assert len(header_bytes(SALT, FINGERPRINT, HEAD, ABOUT)) == HEADER_SIZE


def test_read_unpickles_nothing(tmp_path: Path) -> None:
    """A whole file is read without running anything that its pickles would run."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    trap = pickle.dumps(Trap())
    records = [Record(RESULT, 0, 0.0, 0, trap)]
    parsed(header_bytes(SALT, FINGERPRINT, trap, ABOUT) + trap + laid_out(records))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotACheckpointError):
        parsed(trap * 9)
    assert list(tmp_path.iterdir()) == []


PAYLOADS = st.binary(max_size=300)
NUMBERS = st.integers(0, 2**64 - 1)
SMALL_NUMBERS = st.integers(0, 2**32 - 1)
TRACES = st.tuples(st.floats(allow_nan=False), SMALL_NUMBERS, SMALL_NUMBERS)
ANY_RECORD = st.builds(
    Record,
    st.sampled_from([RESULT, FAILURE]),
    NUMBERS,
    st.floats(allow_nan=False),
    NUMBERS,
    PAYLOADS,
    st.lists(PAYLOADS, max_size=3),
    st.none(),
    TRACES,
)
ANY_RESULTS = st.lists(st.tuples(NUMBERS, st.floats(allow_nan=False), PAYLOADS), min_size=1, max_size=9)
ANY_GROUP = st.builds(lambda results, code: group(*results, code=code), ANY_RESULTS, NUMBERS)
ANY_RECORDS = st.lists(ANY_RECORD | ANY_GROUP, max_size=8)


@settings(max_examples=150, deadline=None)
@given(ANY_RECORDS)
def test_records_come_back_whatever_they_hold(records: list[Record | Group]) -> None:
    """Any list of records and groups is read as it was written, in order, duplicates too."""
    contents = parsed(whole(records))
    expect(contents, records)
    assert contents.damages == []
    assert contents.end == contents.size == len(whole(records))


@settings(max_examples=50, deadline=None)
@given(ANY_RECORD)
def test_record_is_the_same_in_the_file_when_its_checksum_is_known(record: Record) -> None:
    """A checksum that the child computed already is the one of the file, and the one that comes back from it."""
    known = record._replace(checksum=_wire.checksum(record.main, record.buffers))
    assert laid_out([known]) == laid_out([record])
    (found,) = parsed(whole([record])).records
    assert isinstance(found, Record)
    assert found.checksum == known.checksum


@settings(max_examples=150, deadline=None)
@given(ANY_RECORDS, st.data())
def test_read_never_gives_a_wrong_value_when_bytes_are_changed_at_random(
    records: list[Record | Group], data: st.DataObject
) -> None:
    """However a file is overwritten, cut or mixed up, each result that is read is one that was written."""
    content = bytearray(whole(records))
    for _ in range(data.draw(st.integers(1, 3))):
        first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
        content[first:last] = data.draw(st.binary(max_size=100))
    written = list(singles(records))
    try:
        contents = parsed(bytes(content))
    except CheckpointError:
        return
    assert contents.head == HEAD
    assert all(found in written for found in singles(contents.records))


def test_large_buffers_come_back_when_they_are_out_of_band() -> None:
    """Buffers of megabytes are read as they were written, and can be written to."""
    arrays = [np.arange(300_000.0).reshape(3, -1), np.full(1_000_001, 7, np.uint8)]
    buffers: list[pickle.PickleBuffer] = []
    main = pickle.dumps(arrays, 5, buffer_callback=buffers.append)
    contents = parsed(START + laid_out([Record(RESULT, 5, 0.0, 0, main, [each.raw() for each in buffers])]))
    (record,) = contents.records
    assert isinstance(record, Record)
    found = pickle.loads(record.main, buffers=record.buffers)
    for one, other in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(one, other)
        assert other.flags.writeable


# --- damaged heads -----------------------------------------------------------------------


@pytest.mark.parametrize("length", range(len(START)))
def test_read_refuses_a_file_when_it_is_cut_inside_the_head(length: int) -> None:
    """A file that ends inside its header or head is an error, and one that can still be told as ours is corrupt."""
    with pytest.raises(
        CheckpointCorruptError if length > 4 else (NotACheckpointError, CheckpointCorruptError)
    ):
        parsed(START[:length])


@pytest.mark.parametrize("place", [byte for byte in range(len(START)) if not 0 <= byte - HOLDER_OFFSET < 4])
def test_read_refuses_a_file_when_a_bit_of_the_head_is_flipped(place: int) -> None:
    """One wrong bit in header or head, and nothing of the file is trusted: it is ours and corrupt."""
    for bit in range(8):
        content = bytearray(whole())
        content[place] ^= 1 << bit
        with pytest.raises(CheckpointCorruptError, match=r"a\.pkl"):
            parsed(bytes(content))


def test_read_accepts_any_holder() -> None:
    """Who holds a file is no part of its checksum: a wrong process number harms nobody."""
    content = bytearray(whole())
    content[HOLDER_OFFSET : HOLDER_OFFSET + 4] = b"\xff\xff\xff\xff"
    expect(parsed(bytes(content)), RECORDS)


def with_version(version: int) -> bytes:
    """Lay out a header of another version, its checksum as it should be."""
    fields = (version, 0, SALT, FINGERPRINT, len(HEAD), zlib.crc32(HEAD), 9, 2, b"sweep")
    crc = _format._header_crc(*fields)
    packed = _format._HEADER.pack(_format.MAGIC, version, 0, 0, *fields[2:], crc)
    return _format._OPEN + packed + _format._CLOSE + HEAD


@pytest.mark.parametrize("version", [_format.VERSION + 1, 2**16 - 1])
def test_read_refuses_a_newer_version(version: int) -> None:
    """A file of a newer release is not guessed at: the error says what to install."""
    with pytest.raises(CheckpointVersionError, match=f"file format {version}.*newer release"):
        parsed(with_version(version))
    assert parsed(with_version(_format.VERSION)).head == HEAD


@pytest.mark.parametrize("data", [_format._UNRELEASED + bytes(200), with_version(2)], ids=["1", "2"])
def test_read_refuses_a_format_from_before_the_release(data: bytes) -> None:
    """The first formats were never released; their files are known as such, and not taken for damaged ones."""
    with pytest.raises(CheckpointVersionError, match="development version"):
        parsed(data)


@pytest.mark.parametrize("size", [len(HEAD) + 1, 2**40, 2**63, 2**64 - 1])
def test_read_takes_no_memory_when_the_head_claims_more_than_there_is(size: int) -> None:
    """A header that checks and tells of a head that the file cannot hold is damage."""
    fields = (_format.VERSION, 0, SALT, FINGERPRINT, size, zlib.crc32(HEAD), 9, 2, b"sweep")
    packed = _format._HEADER.pack(_format.MAGIC, fields[0], 0, 0, *fields[2:], _format._header_crc(*fields))
    with pytest.raises(CheckpointCorruptError):
        parsed(_format._OPEN + packed + _format._CLOSE + HEAD)


def test_header_says_what_the_run_is() -> None:
    """Name and numbers of calls stand in plain bytes; a long name is cut between two characters."""
    assert parsed(whole()).header.about == ABOUT
    about = About("\u00fc" * 40 + "x", 2**64 - 1, 0)
    found = parsed(header_bytes(SALT, FINGERPRINT, HEAD, about) + HEAD).header.about
    assert found == about._replace(name="\u00fc" * 32)
    found = parsed(
        header_bytes(SALT, FINGERPRINT, HEAD, about._replace(name="x" + about.name)) + HEAD
    ).header.about
    assert found.name == "x" + "\u00fc" * 31


def foreign(name: str) -> bytes:
    rest = random.Random(7).randbytes(4096)  # noqa: S311 - bytes that are nobody's
    return {
        "empty": b"",
        "byte": b"\x80",
        "text": b"x,y\n1,4\n2,5\n" * 40,
        "short text": b"hello",
        "png": b"\x89PNG\r\n\x1a\n" + rest,
        "sqlite": b"SQLite format 3\x00" + rest,
        "zip": b"PK\x03\x04" + rest,
        "random": rest,
        "zeros": bytes(4096),
        "pickle": pickle.dumps({"results": list(range(500))}),
        "small pickle": pickle.dumps(1),
        "pickle of bytes": pickle.dumps(rest[:80]),
        "old pickle": pickle.dumps(list(range(100)), 0),
    }[name]


FOREIGN = ["empty", "byte", "text", "short text", "png", "sqlite", "zip", "random", "zeros", "pickle",
           "small pickle", "pickle of bytes", "old pickle"]  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_read_refuses_the_file_of_another_program(name: str) -> None:
    """A file that is not ours is recognised from its first bytes, and the error says what to do."""
    with pytest.raises(NotACheckpointError, match=r"a\.pkl is not a checkpoint.*left alone"):
        parsed(foreign(name))


def test_legacy_files_are_recognised_by_their_start() -> None:
    """A pickle of release 1.0.5 begins with its class's name; nothing else does."""
    assert is_legacy(pickle.dumps(b"", 4)[:2] + b"\x95" + bytes(8) + _format.LEGACY_START)
    assert not is_legacy(whole()[:128])
    assert not any(is_legacy(foreign(name)[:128]) for name in FOREIGN)


# --- torn tails --------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(len(START), len(whole()) + 1))
def test_read_keeps_all_whole_records_when_the_file_is_cut(length: int) -> None:
    """Wherever a file is cut: whole records count, and what is left of the next is one torn tail."""
    contents = parsed(whole()[:length])
    kept = sum(end <= length for end in bounds()[1:])
    expect(contents, RECORDS[:kept])
    assert contents.end == bounds()[kept]
    torn = length - contents.end
    assert [(each.offset, each.size, each.is_tail) for each in contents.damages] == (
        [(contents.end, torn, True)] if torn else []
    )


@pytest.mark.parametrize("size", [1, 55, 56, 57, 512, 4096, 1 << 21])
@pytest.mark.parametrize("kind", ["zeros", "noise"])
def test_read_takes_what_no_record_explains_as_a_torn_tail(size: int, kind: str) -> None:
    """A tail of zeros, as file systems leave it after a power cut, is torn, and so is any other."""
    tail = bytes(size) if kind == "zeros" else random.Random(size).randbytes(size)  # noqa: S311
    contents = parsed(whole() + tail)
    expect(contents, RECORDS)
    assert contents.damages == [Damage(len(whole()), size, None, is_tail=True)]
    assert contents.end == len(whole())


@pytest.mark.parametrize("size", [1, 56, 100, 512, 4096])
def test_read_keeps_all_records_before_the_zeros_when_the_end_is_zeroed(size: int) -> None:
    """Zeros over the end of a file cost the records they hit, and no other."""
    records = [Record(RESULT, index, 0.0, 0, bytes([index % 255 + 1]) * 90) for index in range(40)]
    content = whole(records)
    contents = parsed(content[:-size] + bytes(size))
    kept = sum(end <= len(content) - size for end in bounds(records)[1:])
    expect(contents, records[:kept])
    (damage,) = contents.damages
    assert damage.is_tail


def test_read_names_the_call_of_a_torn_record_when_its_head_is_whole() -> None:
    """A record whose payload was not written in full says whose it was."""
    contents = parsed(whole(RECORDS[:3])[:-12])
    assert [damage.index for damage in contents.damages] == [2]


# --- damage inside -----------------------------------------------------------------------


@pytest.mark.parametrize("place", range(len(START), len(whole())))
def test_read_loses_only_the_hit_record_when_a_bit_is_flipped(place: int) -> None:
    """One wrong bit costs the record it is in; the damage is reported, and named if its head is whole."""
    starts = bounds()
    hit = sum(end <= place for end in starts[1:])
    in_payload = place - starts[hit] >= _records.RECORD_SIZE
    for bit in range(8):
        content = bytearray(whole())
        content[place] ^= 1 << bit
        contents = parsed(bytes(content))
        expect(contents, RECORDS[:hit] + RECORDS[hit + 1 :])
        (damage,) = contents.damages
        assert (damage.offset, damage.offset + damage.size) == (starts[hit], starts[hit + 1])
        assert damage.is_tail == (hit == len(RECORDS) - 1)
        assert damage.index == (hit if in_payload else None)


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("count", [1, 2])
def test_read_recovers_later_records_when_earlier_ones_are_overwritten(first: int, count: int) -> None:
    """Results do not depend on each other: those behind a hole are as good as those before it."""
    starts = bounds()
    begin, end = starts[first], starts[min(first + count, 3)]
    content = whole()[:begin] + b"\xee" * (end - begin) + whole()[end:]
    contents = parsed(content)
    expect(contents, RECORDS[:first] + RECORDS[min(first + count, 3) :])
    assert contents.damages == [Damage(begin, end - begin, None, is_tail=False)]
    assert contents.end == len(content)


@pytest.mark.parametrize("shift", [-130, -90, -30, -1, 1, 30, 1000])
def test_read_takes_no_record_when_it_is_not_at_its_place(shift: int) -> None:
    """Bytes that are missing or were put in move what follows: it is reported as damage, and never cut as a torn tail."""
    records = [Record(RESULT, index, 0.0, 0, bytes([index + 1]) * 80) for index in range(5)]
    gap = bounds(records)[1] + _records.RECORD_SIZE + 1
    content = whole(records)
    moved = content[:gap] + b"\xee" * max(shift, 0) + content[gap - min(shift, 0) :]
    contents = parsed(moved)
    expect(contents, records[:1])
    end = bounds(records)[1]
    assert contents.damages == [Damage(end, len(moved) - end, contents.damages[0].index, is_tail=False)]


@pytest.mark.parametrize("kind", [5, 6, 2**16 - 1])
def test_read_skips_a_record_when_it_is_of_an_unknown_kind(kind: int) -> None:
    """What a newer release may have meant is reported and kept as damage is, and never taken for a failure."""
    record = Record(kind, 3, 0.0, 0, b"payload")
    contents = parsed(joined(RECORDS[:2], [record], RECORDS[2:]))
    expect(contents, RECORDS)
    assert [(damage.size, damage.is_tail) for damage in contents.damages] == [
        (len(laid_out([record])), False)
    ]


def test_read_takes_no_record_of_a_copy_when_the_head_before_it_is_damaged() -> None:
    """A result may hold a copy of this very file: its records, valid as they are there, are none of this place."""
    record = Record(RESULT, 7, 0.0, 0, whole(RECORDS) + laid_out([group((8, 0.0, b"other"))], offset=0))
    content = joined(RECORDS, [record], [Record(RESULT, 9, 0.0, 0, b"last")])
    place = bounds()[-1]
    for hit in (place + 20, place + _records.RECORD_SIZE + 3):
        damaged = content[:hit] + bytes([content[hit] ^ 1]) + content[hit + 1 :]
        expect(parsed(damaged), [*RECORDS, Record(RESULT, 9, 0.0, 0, b"last")])
    expect(parsed(content[: len(content) - 100]), RECORDS)


def test_read_recovers_the_last_record_when_the_one_before_claims_its_bytes() -> None:
    """A record that was cut short does not hide a whole one that was written behind it."""
    long = Record(RESULT, 0, 0.0, 0, b"x" * 5000)
    last = Record(RESULT, 1, 0.0, 0, b"the last one")
    content = joined(laid_out([long])[:700], [last])
    contents = parsed(content)
    expect(contents, [last])
    assert [(damage.index, damage.is_tail) for damage in contents.damages] == [(0, False)]


@pytest.mark.parametrize("gap", [1, 12, 56, (1 << 20) - 6, (1 << 20) + 5, 3 << 20])
def test_read_finds_the_next_record_when_the_gap_is_of_any_size(gap: int) -> None:
    """The search for the next record does not miss one that lies across its own blocks."""
    content = joined(b"\x01" * gap, RECORDS)
    contents = parsed(content)
    expect(contents, RECORDS)
    assert contents.damages == [Damage(len(START), gap, None, is_tail=False)]


def test_read_ignores_records_of_another_file() -> None:
    """A record that strayed in from another file, whole as it is, does not count: its salt is not this file's."""
    stray = laid_out([Record(RESULT, 9, 0.0, 0, b"stray")], bytes(range(1, 17)))
    similar = laid_out([Record(RESULT, 9, 0.0, 0, b"stray")], SALT[:8] + bytes(8))
    contents = parsed(joined(stray, RECORDS[:1], similar, RECORDS[1:]))
    expect(contents, RECORDS)
    assert [damage.size for damage in contents.damages] == [len(stray), len(similar)]


def test_read_keeps_duplicates_in_the_order_they_were_written() -> None:
    """The last record of an index wins: so none may change its place."""
    records = [Record(RESULT, 1, 0.0, 0, text) for text in (b"old", b"new")]
    expect(parsed(whole(records)), records)


def test_read_refuses_part_lengths_that_do_not_fit() -> None:
    """A record whose parts claim more bytes than it has is damaged, and nothing is read beyond its end."""
    payload = struct.pack("<Q", 10**15) + b"short"
    fields = _records._RECORD.pack(
        _records._RECORD_MAGIC, SALT[:8], 4, 0.0, 0, len(payload), RESULT, 1, zlib.crc32(payload), 0.0, 0, 0
    )
    record = fields + _records._head_crc(fields, SALT, len(START)) + payload
    contents = parsed(joined(record, RECORDS))
    expect(contents, RECORDS)
    assert contents.damages == [Damage(len(START), len(record), 4, is_tail=False)]


# --- who holds a file ---------------------------------------------------------------------


def test_is_held_tells_whether_the_named_process_lives() -> None:
    """A file is held while the process lives that its header names; 0 names nobody."""
    header = parsed(whole()).header
    assert is_held(header)
    assert not is_held(header._replace(holder=0))
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(child, 0)
    assert not is_held(header._replace(holder=child))
