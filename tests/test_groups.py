"""Groups in the checkpoint file: damage costs the one call it hits, wherever in a group it is."""

import itertools
import pickle
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_format import (
    ANY_GROUP,
    ANY_RECORD,
    SALT,
    START,
    bounds,
    expect,
    group,
    joined,
    laid_out,
    parsed,
    plain,
    singles,
    whole,
)

from thread_chunks import _records, _wire
from thread_chunks._format import Contents
from thread_chunks._records import FAILURE, GROUP, GROUP_END, RESULT, Damage, Group, Record

HEAD_SIZE = _records.RECORD_SIZE
FIRST = group((0, 0.5, b"zero"), (1, 0.25, b""), (2, 0.125, b"number two"), (3, 1.0, b"3"))
MIDDLE = group((7, 2.0, pickle.dumps("seven")), (5, 2.5, b"out of order"), code=2**64 - 1)
LAST = group((9, 0.5, b"nine"), (10, 0.5, b"ten, the last one"))
RECORDS: list[Record | Group] = [
    FIRST,
    Record(RESULT, 4, 0.5, 7, b"by itself", [b"buffer", b""]),
    MIDDLE,
    Record(FAILURE, 8, 0.0, 0, b"Traceback: eight"),
    LAST,
]
ALL = list(singles(RECORDS))


def front(of: Group) -> int:
    """Return how many bytes stand before the results of a group, and again behind them."""
    return HEAD_SIZE + len(of.columns)


def piece_at(records: Sequence[Record | Group], place: int) -> tuple[int, int, int] | None:
    """Return number, begin and end of the result that a byte of the file is in, ``None`` for what is beside them.

    Whatever belongs to a single record counts as its result.
    """
    number = 0
    for record, begin, end in zip(records, *[bounds(records)[shift:] for shift in (0, 1)], strict=False):
        if isinstance(record, Record):
            pieces = [(begin, end)]
        else:
            sizes = _wire.unpack(record.columns)[2]
            ends = list(itertools.accumulate(sizes, initial=begin + front(record)))
            pieces = list(itertools.pairwise(ends))
        for first, last in pieces:
            if first <= place < last:
                return number, first, last
            number += 1
    return None


def lost(contents: Contents, written: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return what was not read; what was read is as it was written, in order, and once."""
    found = iter(singles(contents.records))
    missing, each = [], next(found, None)
    for one in written:
        if one == each:
            each = next(found, None)
        else:
            missing.append(one)
    assert each is None, "something was read that was not written, or not in this order"
    return missing


def covered(contents: Contents, place: int) -> bool:
    return any(damage.offset <= place < damage.offset + damage.size for damage in contents.damages)


def flipped(data: bytes, *places: int, bit: int = 0) -> bytes:
    content = bytearray(data)
    for place in places:
        content[place] ^= 1 << bit
    return bytes(content)


# --- whole groups -------------------------------------------------------------------------------


def test_groups_come_back_as_they_were_written() -> None:
    """Groups and single records are read side by side, each as it was written, and no damage is seen."""
    contents = parsed(whole(RECORDS))
    expect(contents, RECORDS)
    assert contents.damages == []
    assert contents.end == contents.size


def test_group_lies_in_the_file_as_it_was_given() -> None:
    """Columns and body are written as they came from the child, between two heads, the columns twice."""
    content = laid_out([FIRST])
    columns, body = FIRST.columns, bytes(FIRST.body)
    assert len(content) == 2 * (HEAD_SIZE + len(columns)) + len(body)
    assert content[HEAD_SIZE : -HEAD_SIZE - len(columns)] == columns + body
    assert content[-len(columns) :] == columns
    pieces = _records.record_pieces([FIRST], SALT, 0)
    assert any(piece is FIRST.body for piece in pieces), "the body was copied"
    heads = [_records._RECORD.unpack_from(content, place) for place in (0, len(content) - front(FIRST))]
    assert [head[2:] for head in heads] == [
        (4, 0.0, 7, len(body), kind, 0, zlib.crc32(columns), 0.0, 0, 0) for kind in (GROUP, GROUP_END)
    ]


@pytest.mark.parametrize("view", [bytes, bytearray, memoryview])
def test_group_may_hold_any_buffer(view: Any) -> None:
    """What the child sent is written whatever it arrived in."""
    contents = parsed(START + laid_out([FIRST._replace(body=view(FIRST.body), columns=view(FIRST.columns))]))
    expect(contents, [FIRST])


# --- one wrong bit --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(len(START), len(whole(RECORDS))))
def test_read_loses_at_most_the_hit_call_when_a_bit_is_flipped(place: int) -> None:
    """One wrong bit costs the call it is in, and none if it is beside the results of a group; it is always reported."""
    hit = piece_at(RECORDS, place)
    expected = [] if hit is None else [ALL[hit[0]]]
    for bit in range(8):
        contents = parsed(flipped(whole(RECORDS), place, bit=bit))
        assert lost(contents, ALL) == expected
        assert covered(contents, place)
        assert len(contents.damages) == 1
        assert not any(damage.is_tail for damage in contents.damages)
        assert contents.end == contents.size


@pytest.mark.parametrize("number", range(4))
def test_read_names_the_call_when_its_result_in_a_group_is_damaged(number: int) -> None:
    """The message says which call a damaged piece of a group belongs to, and where it lies."""
    begin = len(START) + front(FIRST) + sum(_wire.unpack(FIRST.columns)[2][:number])
    size = _wire.unpack(FIRST.columns)[2][number]
    if size:
        contents = parsed(flipped(whole(RECORDS), begin + size - 1))
        assert contents.damages == [Damage(begin, size, number, is_tail=False)]


@pytest.mark.parametrize("side", ["front", "end"])
@pytest.mark.parametrize("part", ["head", "columns"])
@pytest.mark.parametrize("number", [0, 2, 4])
def test_read_uses_the_other_copy_when_one_of_the_columns_is_overwritten(
    number: int, part: str, side: str
) -> None:
    """What says where the results lie stands twice: any one copy may be lost from its first byte to its last."""
    chosen = RECORDS[number]
    assert isinstance(chosen, Group)
    start, end = bounds(RECORDS)[number : number + 2]
    begin = start if side == "front" else end - front(chosen)
    first, size = (begin, HEAD_SIZE) if part == "head" else (begin + HEAD_SIZE, len(chosen.columns))
    content = whole(RECORDS)[:first] + b"\xee" * size + whole(RECORDS)[first + size :]
    contents = parsed(content)
    expect(contents, RECORDS)
    assert contents.damages == [Damage(begin, front(chosen), None, is_tail=False)]


# --- more than one -----------------------------------------------------------------------------------


def both_copies(number: int) -> list[tuple[int, int]]:
    """Return places to hit at once: one of each copy of a group's columns."""
    chosen = RECORDS[number]
    assert isinstance(chosen, Group)
    start, end = bounds(RECORDS)[number : number + 2]
    places = [0, 5, 15, 46, HEAD_SIZE - 1, HEAD_SIZE, front(chosen) - 1]
    return [(start + one, end - front(chosen) + other) for one in places for other in places]


@pytest.mark.parametrize("number", [0, 2, 4])
def test_read_loses_only_the_group_when_both_copies_of_its_columns_are_hit(number: int) -> None:
    """Without its columns a group cannot be cut into results: it is lost and reported, and nothing else is."""
    chosen = RECORDS[number]
    is_last = number == len(RECORDS) - 1
    for places in both_copies(number):
        contents = parsed(flipped(whole(RECORDS), *places))
        assert lost(contents, ALL) == list(singles([chosen]))
        assert covered(contents, places[0])
        assert is_last or not any(damage.is_tail for damage in contents.damages)
        assert contents.end == (bounds(RECORDS)[number] if is_last else contents.size)


def test_read_says_how_long_a_tail_is_when_the_last_group_has_lost_its_columns() -> None:
    """What is left out at the end of a file is told to the byte."""
    for places in both_copies(4):
        contents = parsed(flipped(whole(RECORDS), *places))
        is_tail = contents.damages[0].is_tail
        assert contents.damages == [Damage(contents.end, contents.size - contents.end, None, is_tail)]


@pytest.mark.parametrize("hits", list(itertools.combinations([0, 2, 3], 2)), ids=str)
def test_read_loses_only_the_hit_calls_when_several_of_a_group_are_damaged(hits: tuple[int, ...]) -> None:
    """However many results of a group are damaged, the others are whole."""
    sizes = _wire.unpack(FIRST.columns)[2]
    begin = len(START) + front(FIRST)
    places = [begin + sum(sizes[:number]) for number in hits]
    contents = parsed(flipped(whole(RECORDS), *places))
    assert lost(contents, ALL) == [ALL[number] for number in hits]
    assert [damage.index for damage in contents.damages] == list(hits)


def test_read_loses_nothing_but_a_group_of_which_no_result_is_whole() -> None:
    """A group whose every result is damaged is no torn tail and no error, and what is behind it is read."""
    contents = parsed(joined(flipped(laid_out([LAST]), front(LAST), front(LAST) + 4), RECORDS[1:2]))
    expect(contents, RECORDS[1:2])
    assert [(damage.index, damage.is_tail) for damage in contents.damages] == [(9, False), (10, False)]
    contents = parsed(START + flipped(laid_out([LAST]), front(LAST), front(LAST) + 4))
    assert contents.records == []
    assert contents.end == contents.size
    assert [(damage.index, damage.is_tail) for damage in contents.damages] == [(9, False), (10, False)]


@pytest.mark.parametrize("damaged", ["front", "end", "result"])
def test_read_loses_only_the_hit_call_when_a_result_and_a_copy_of_the_columns_are_damaged(
    damaged: str,
) -> None:
    """Two wounds of one group cost no more than each by itself."""
    result = len(START) + front(FIRST)
    other = {"front": len(START) + 20, "end": bounds(RECORDS)[1] - 1, "result": result}[damaged]
    contents = parsed(flipped(whole(RECORDS), *{result, other}))
    assert lost(contents, ALL) == ALL[:1]
    assert covered(contents, result)
    assert covered(contents, other)


def test_read_loses_nothing_when_the_end_of_one_group_and_the_front_of_the_next_are_overwritten() -> None:
    """A hole across two groups that hits no result costs none: each is read from its other side."""
    records = [FIRST, MIDDLE, *RECORDS[3:]]
    border = bounds(records)[1]
    first, last = border - front(FIRST), border + front(MIDDLE)
    contents = parsed(whole(records)[:first] + bytes(last - first) + whole(records)[last:])
    expect(contents, records)
    assert covered(contents, first)
    assert covered(contents, last - 1)


@pytest.mark.parametrize("place", [0, 20, HEAD_SIZE, HEAD_SIZE + 5])
@pytest.mark.parametrize("other", [0, 30, HEAD_SIZE - 1, HEAD_SIZE, -front(MIDDLE) - 1])
def test_read_loses_only_a_damaged_record_when_the_front_of_the_group_behind_it_is_damaged(
    place: int, other: int
) -> None:
    """Damage before a group does not keep it from being read from its end."""
    records = [FIRST, RECORDS[1], MIDDLE, LAST]
    _, record, start, end, _ = bounds(records)
    record_hit = record + place
    group_hit = start + other if other >= 0 else start + front(MIDDLE) - 1
    contents = parsed(flipped(whole(records), record_hit, group_hit))
    assert lost(contents, list(singles(records))) == list(singles([RECORDS[1]]))
    assert covered(contents, record_hit)
    assert covered(contents, group_hit)
    assert contents.end == contents.size > end


@pytest.mark.parametrize("number", range(4))
def test_read_returns_the_record_behind_a_group_when_all_of_the_group_is_overwritten(number: int) -> None:
    """Nothing of a group need be there for what follows it to be found."""
    start, end = bounds(RECORDS)[number : number + 2]
    for filler in (b"\x00", b"\xee"):
        contents = parsed(whole(RECORDS)[:start] + filler * (end - start) + whole(RECORDS)[end:])
        expect(contents, RECORDS[:number] + RECORDS[number + 1 :])
        assert contents.damages == [Damage(start, end - start, None, is_tail=False)]


# --- cuts and holes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(len(START), len(whole(RECORDS)) + 1))
def test_read_keeps_all_before_a_group_when_the_file_is_cut_inside_it(length: int) -> None:
    """A group that was not written to its end was never reported as saved: it is one torn tail, and all before counts."""
    contents = parsed(whole(RECORDS)[:length])
    kept = sum(end <= length for end in bounds(RECORDS)[1:])
    expect(contents, RECORDS[:kept])
    assert contents.end == bounds(RECORDS)[kept]
    torn = length - contents.end
    assert [(each.offset, each.size, each.is_tail) for each in contents.damages] == (
        [(contents.end, torn, True)] if torn else []
    )


def inside(number: int) -> Iterator[tuple[int, int, int]]:
    """Yield begin, end and length of holes in a group, in all of its parts."""
    start, end = bounds(RECORDS)[number : number + 2]
    for size in (1, 3, 30, HEAD_SIZE, 100, 150):
        for begin in range(start, end - size + 1, 5):
            yield begin, begin + size, size


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("is_more", [False, True], ids=["missing", "put in"])
def test_read_never_gives_a_wrong_value_when_bytes_of_a_group_are_missing_or_too_many(
    number: int, is_more: bool
) -> None:
    """Such bytes move all behind them, which is reported and no torn tail; what lies before the group is as it was."""
    before = [plain(record) for record in RECORDS[:number]]
    for begin, end, size in inside(number):
        middle, rest = (b"\xee" * size, begin) if is_more else (b"", end)
        contents = parsed(whole(RECORDS)[:begin] + middle + whole(RECORDS)[rest:])
        lost(contents, ALL)
        assert [plain(record) for record in contents.records][:number] == before
        assert contents.damages
        assert not any(damage.is_tail for damage in contents.damages)


def test_read_keeps_the_results_before_a_hole_in_a_group() -> None:
    """Where bytes of a later result are gone, the earlier ones of the same group are as good as before."""
    begin = len(START) + front(FIRST) + 4 + 3  # in the third result
    contents = parsed(whole(RECORDS)[:begin] + whole(RECORDS)[begin + 2 :])
    assert lost(contents, ALL) == ALL[2:]
    assert {2, 3} <= {damage.index for damage in contents.damages}


@pytest.mark.parametrize("size", [(1 << 20) - 300, 1 << 20, (1 << 20) + 1, 5 << 20])
def test_read_finds_the_end_of_a_group_however_large_it_is(size: int) -> None:
    """A group whose front is damaged is read from its end across any distance."""
    large = group((0, 0.0, bytes(size // 2)), (1, 0.0, b"\xfarec" * (size // 8)))
    contents = parsed(flipped(START + laid_out([large, *RECORDS]), len(START) + 30))
    expect(contents, [large, *RECORDS])
    assert contents.damages == [Damage(len(START), front(large), None, is_tail=False)]


@settings(max_examples=300, deadline=None)
@given(st.lists(ANY_RECORD | ANY_GROUP, min_size=1, max_size=5), st.data())
def test_read_loses_at_most_one_call_when_any_bit_of_any_file_is_flipped(
    records: list[Record | Group], data: st.DataObject
) -> None:
    """Whatever the groups hold: one wrong bit costs at most the call that it is in, and is reported."""
    content = whole(records)
    place = data.draw(st.integers(len(START), len(content) - 1))
    hit = piece_at(records, place)
    written = list(singles(records))
    contents = parsed(flipped(content, place, bit=data.draw(st.integers(0, 7))))
    expected = written if hit is None else written[: hit[0]] + written[hit[0] + 1 :]
    assert list(singles(contents.records)) == expected
    assert covered(contents, place)


# --- what does not belong there ------------------------------------------------------------------------


@pytest.mark.parametrize("salt", [bytes(range(1, 17)), SALT[:8] + bytes(8)], ids=["other", "similar"])
@pytest.mark.parametrize("number", range(6))
def test_read_ignores_groups_of_another_file(salt: bytes, number: int) -> None:
    """A group that strayed in from another file, whole as it is, does not count: its salt is not this file's."""
    stray = laid_out([FIRST], salt)
    contents = parsed(joined(RECORDS[:number], stray, RECORDS[number:]))
    expect(contents, RECORDS)
    is_torn = number == len(RECORDS) and salt[:8] != SALT[:8]
    assert contents.damages == [Damage(bounds(RECORDS)[number], len(stray), None, is_tail=is_torn)]


@pytest.mark.parametrize("kind", [GROUP, GROUP_END])
@pytest.mark.parametrize("count", [1, 1000, 2**32, 2**60, 2**64 - 1])
@pytest.mark.parametrize("length", [0, 10**6, 2**64 - 1])
def test_read_goes_on_when_a_group_claims_more_than_there_is(kind: int, count: int, length: int) -> None:
    """A head that tells of more results or bytes than the file has is damage, and nothing is read beyond the end."""
    fields = _records._RECORD.pack(
        _records._RECORD_MAGIC, SALT[:8], count, 0.0, 7, length, kind, 0, 12345, 0.0, 0, 0
    )
    head = fields + _records._head_crc(fields, SALT, bounds(RECORDS)[1])
    contents = parsed(joined([FIRST], head, RECORDS[1:]))
    expect(contents, RECORDS)
    assert [damage.is_tail for damage in contents.damages] == [False]


@pytest.mark.parametrize("sizes", [(0, 0), (3, 99), (2**64 - 1, 2**64 - 1), (4, 0)], ids=str)
def test_read_returns_what_checks_when_the_sizes_of_a_group_do_not_fit(sizes: tuple[int, int]) -> None:
    """Columns that do not fit their body, whole as they are, give no result whose own checksum does not hold."""
    columns = _wire.pack((0, 1), (0.5, 0.5), sizes, (zlib.crc32(b"fine"), zlib.crc32(b"too")))
    contents = parsed(START + laid_out([Group(7, columns, b"finetoo"), *RECORDS[1:]]))
    kept: list[tuple[Any, ...]] = [(RESULT, 0, 0.5, 7, b"fine", [])]
    assert list(singles(contents.records)) == kept[: sizes[0] == 4] + list(singles(RECORDS[1:]))
    assert contents.damages


def test_read_keeps_the_order_of_groups_and_records() -> None:
    """The last result of an index wins, in whatever it was written: so nothing changes its place."""
    records: list[Record | Group] = [
        group((1, 0.0, b"old"), (1, 0.0, b"newer")),
        Record(RESULT, 1, 0.0, 0, b"new"),
        group((1, 0.0, b"last")),
    ]
    contents = parsed(whole(records))
    assert [each[4] for each in singles(contents.records)] == [b"old", b"newer", b"new", b"last"]
    damaged = parsed(flipped(whole(records), len(START) + 5))  # the first group is read from its end
    assert list(map(plain, damaged.records)) == list(map(plain, records))


def test_read_takes_an_end_alone_for_no_group() -> None:
    """The end of a group without the group, as an overwritten file may hold it, gives nothing, and hides nothing."""
    end = laid_out([FIRST])[-front(FIRST) :]
    assert struct.unpack_from("<4s", end) == (_records._RECORD_MAGIC,)
    contents = parsed(joined(end, RECORDS))
    expect(contents, RECORDS)
