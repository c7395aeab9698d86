"""The wire: what one end packs the other end unpacks, whatever the size and whatever it holds."""

import math
import pickle
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thread_chunks import _wire

NUMBERS = st.integers(0, 2**64 - 1)
CHECKSUMS = st.integers(0, 2**32 - 1)
TIMES = st.floats(allow_nan=False)
ROWS = st.lists(st.tuples(NUMBERS, TIMES, NUMBERS, CHECKSUMS), max_size=50)
RESULTS = st.lists(
    st.tuples(NUMBERS, st.floats(allow_nan=False), st.binary(max_size=99)), min_size=1, max_size=30
)
VIEWS: list[Callable[[bytes], Any]] = [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))]
LARGE = _wire.OUT_OF_BAND_BYTES


def turned(rows: Sequence[tuple[Any, ...]], count: int) -> list[tuple[Any, ...]]:
    """Turn rows into columns."""
    return [tuple(row[place] for row in rows) for place in range(count)]


# --- rows of parameters ------------------------------------------------------------------------

VALUES = st.one_of(st.integers(), st.text(max_size=3), st.none(), st.lists(st.integers(), max_size=2))


@given(
    st.one_of(
        st.lists(st.lists(VALUES, max_size=3)),
        st.lists(st.tuples(VALUES, VALUES)),
        st.lists(st.one_of(st.tuples(VALUES), st.lists(VALUES, min_size=1, max_size=1))),
        st.lists(
            st.one_of(st.lists(VALUES, max_size=2), st.dictionaries(st.text(max_size=3), VALUES, max_size=2))
        ),
    )
)
def test_unflat_gives_the_rows_again(rows: list[Any]) -> None:
    """Rows that are laid out one after the other come back in one shape, equally long or not, mappings too."""
    width, values = _wire.flat(rows)
    found = list(zip(*_wire.unflat(width, values), strict=True))
    assert found == [((), row) if isinstance(row, dict) else (tuple(row), {}) for row in rows]
    if width:
        assert {len(row) for row in rows} == {width}
        assert len(values) == width * len(rows)


def test_flat_takes_only_rows_apart_that_are_equally_long() -> None:
    """Other rows are pairs of positional and keyword arguments, and a mapping is no row of its names."""
    cases: list[list[Any]] = [[{"x": 1}, {"x": 2}], [{"x": 1}, [2]], [], [[], []], [[1], [2, 3]]]
    for rows in cases:
        width, values = _wire.flat(rows)
        assert width == 0
        assert values == [((), row) if isinstance(row, dict) else (tuple(row), {}) for row in rows]


def test_kinds_of_values_are_told_even_if_no_set_can_hold_them() -> None:
    """A class without a hash is a value's class like any other: it is only not told by name."""
    unhashable: type = type("Meta", (type,), {"__hash__": None})("Kind", (), {})
    assert _wire.kinds([1, "a", None]) == {int, str, type(None)}
    assert not _wire.kinds([1, unhashable()]) <= {int}
    assert _wire.kinds([]) == set()


# --- columns and bodies -------------------------------------------------------------------------


@given(ROWS)
def test_unpack_returns_what_was_packed(rows: list[tuple[Any, ...]]) -> None:
    """Columns of any length, an empty one too, come back as they were, to the last bit."""
    indices, seconds, sizes, checksums = columns = turned(rows, 4)
    packed = _wire.pack(indices, seconds, sizes, checksums)
    assert len(packed) == len(rows) * _wire.COLUMN_BYTES
    for view in VIEWS:
        assert list(map(tuple, _wire.unpack(view(packed)))) == columns


def test_unpack_returns_a_time_that_is_not_known() -> None:
    """NaN, which stands for a time that nobody measured, and infinity travel as they are."""
    _, seconds, *_ = _wire.unpack(_wire.pack((1, 2), (math.nan, math.inf), (0, 0), (0, 0)))
    assert math.isnan(seconds[0])
    assert seconds[1] == math.inf


def test_columns_look_as_the_format_says() -> None:
    """Index and size are 8 bytes, times doubles, checksums 4 bytes, little-endian, column after column."""
    packed = _wire.pack(range(5, 7), [0.5, 1.5], iter([8, 9]), iter([10, 11]))
    assert packed == struct.pack("<QQddQQII", 5, 6, 0.5, 1.5, *range(8, 12))


@given(RESULTS)
def test_group_holds_each_result_by_itself(results: list[tuple[int, float, bytes]]) -> None:
    """A group tells of each result whose it is, where it lies and how to know that it is whole."""
    indices, seconds, pickles = turned(results, 3)
    columns, body = _wire.group(indices, seconds, pickles)
    found, times, sizes, checksums = map(tuple, _wire.unpack(columns))
    assert (found, times, sizes) == (indices, seconds, tuple(map(len, pickles)))
    assert checksums == tuple(map(zlib.crc32, pickles))
    for view in VIEWS:
        assert list(map(bytes, _wire.parts(view(body), sizes))) == list(pickles)


@pytest.mark.parametrize("sizes", [(), (0,), (0, 0, 0), (3,), (0, 3, 0), (1, 1, 1)], ids=str)
def test_parts_are_cut_where_the_sizes_say(sizes: tuple[int, ...]) -> None:
    """As many parts as sizes, empty ones too, one behind the other."""
    body = b"abc"[: sum(sizes)]
    parts = _wire.parts(body, sizes)
    assert tuple(map(len, parts)) == sizes
    assert b"".join(parts) == body


@given(st.binary(max_size=200), st.lists(st.binary(max_size=200), max_size=4))
def test_single_is_a_group_of_one_whose_checksum_covers_its_buffers(
    main: bytes, buffers: list[bytes]
) -> None:
    """A result that stands alone has the columns of a group; its checksum is that of what stands in the file."""
    lengths = struct.pack(f"<{len(buffers)}Q", *map(len, buffers))
    assert _wire.lengths(buffers) == lengths
    checksum = zlib.crc32(b"".join([lengths, main, *buffers]))
    assert _wire.checksum(main, buffers) == checksum
    assert _wire.single(7, 0.5, main, buffers) == _wire.pack((7,), (0.5,), (len(main),), (checksum,))
    if not buffers:
        assert _wire.single(7, 0.5, main, buffers) == _wire.group((7,), (0.5,), (main,))[0]


def test_checksum_sees_where_one_buffer_ends_and_the_next_begins() -> None:
    """The same bytes cut in another way are another result."""
    cuts = [
        (b"ab", [b"c"]),
        (b"a", [b"bc"]),
        (b"", [b"abc"]),
        (b"abc", [b""]),
        (b"abc", []),
        (b"", [b"abc", b""]),
    ]
    assert len({_wire.checksum(main, buffers) for main, buffers in cuts}) == len(cuts)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (5,), (2, 3, 4)], ids=str)
def test_size_counts_bytes_whatever_the_shape(shape: tuple[int, ...]) -> None:
    """What has a buffer is measured in bytes, and not in items or rows."""
    array = np.zeros(shape)
    assert _wire.size(array) == array.nbytes
    assert _wire.checksum(b"", [array]) == zlib.crc32(struct.pack("<Q", array.nbytes) + array.tobytes())


# --- pickling -------------------------------------------------------------------------------------


def test_dump_keeps_large_buffers_out_of_band() -> None:
    """Large contiguous buffers are not copied; small and scattered ones travel inside the pickle."""
    large = np.zeros(LARGE, np.uint8)
    assert [len(buffers) for _, buffers in map(_wire.dump, (large, large[:-1], large[::2], [large] * 2))] == [
        1,
        0,
        0,
        1,
    ]
    main, buffers = _wire.dump([large, large.copy()])
    assert len(main) < 1000
    assert len(buffers) == 2
    assert np.shares_memory(np.frombuffer(buffers[0], np.uint8), large)


def test_dump_takes_by_value_what_pickle_cannot() -> None:
    """Lambdas and local classes are results, too."""
    main, buffers = _wire.dump(lambda x: x + 1)
    assert cloudpickle.loads(main, buffers=buffers)(1) == 2


def test_dump_begins_anew_when_pickle_gives_up_behind_a_large_buffer() -> None:
    """A value that pickle could take only in part is taken whole by value: no buffer is left over, none is missing."""
    array = np.arange(float(LARGE))
    main, buffers = _wire.dump([array, lambda x: x + 1, array + 1])
    assert len(buffers) == 2
    first, func, second = cloudpickle.loads(main, buffers=buffers)
    np.testing.assert_array_equal(second - first, np.ones(LARGE))
    assert func(1) == 2


def test_dumps_keeps_everything_in_the_pickle_when_there_is_no_list() -> None:
    """Without a place for buffers the pickle is whole by itself."""
    np.testing.assert_array_equal(pickle.loads(_wire.dumps(np.arange(float(LARGE)))), np.arange(float(LARGE)))


@pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, 3 * LARGE])
def test_out_of_band_leaves_a_message_small(size: int) -> None:
    """Large bytes travel beside the message and small ones in it, and both come out with the same bytes."""
    main, buffers = _wire.dump(["kind", *_wire.out_of_band(b"x" * size, ())])
    assert len(buffers) == (size >= LARGE)
    assert len(main) < LARGE + 100
    kind, found, nothing = pickle.loads(main, buffers=buffers)
    assert (kind, bytes(found), nothing) == ("kind", b"x" * size, ())


# --- framing ----------------------------------------------------------------------------------------


def travelled(*messages: Any) -> list[Any]:
    """Send messages over a socket and return what arrives."""
    one, other = socket.socketpair()
    with one, other:
        sender = threading.Thread(target=lambda: [_wire.send(one, message) for message in messages])
        sender.start()
        received = [_wire.receive(other) for _ in messages]
        sender.join(100)
    return received


@pytest.mark.parametrize(
    "message",
    [
        None,
        0,
        "text",
        [1, None],
        b"x" * 200_000,
        ("kind", [bytearray(b"y" * 100_000)] * 3),
        list(range(50_000)),
        {"a": [{}, (), b""]},
    ],
    ids=lambda message: type(message).__name__,
)
def test_messages_arrive_as_they_were_sent(message: Any) -> None:
    """Any message comes out at the other end as it went in, and what follows it too."""
    assert travelled(message, "next") == [message, "next"]


@settings(max_examples=50, deadline=None)
@given(RESULTS, st.lists(st.sampled_from([0, 1, LARGE - 1, LARGE, LARGE + 1]), max_size=4))
def test_groups_arrive_as_they_were_sent(results: list[tuple[int, float, bytes]], sizes: list[int]) -> None:
    """Columns, bodies and buffers of any size, none and empty ones too, arrive side by side."""
    columns, body = _wire.group(*turned(results, 3))
    buffers = [bytes([number]) * size for number, size in enumerate(sizes)]
    _, (found, piece, views) = travelled("first", (columns, *_wire.out_of_band(body, buffers)))
    assert (found, bytes(piece)) == (columns, body)
    assert list(map(bytes, views)) == buffers


def test_arrays_that_arrive_can_be_written_to_if_they_could_before() -> None:
    """A large array is the receiver's own; one that was protected stays so."""
    free, frozen = np.arange(float(LARGE)), np.ones(LARGE)
    frozen.flags.writeable = False
    ((one, other),) = travelled([free, frozen])
    assert (one.flags.writeable, other.flags.writeable) == (True, False)
    one[0] = -1
    assert free[0] == 0


@pytest.mark.parametrize("count", [_wire.MAX_BUFFERS - 1, _wire.MAX_BUFFERS, _wire.MAX_BUFFERS + 1])
def test_messages_arrive_when_they_have_very_many_buffers(count: int) -> None:
    """There is a bound on the buffers beside a message: what is beyond it travels inside, and arrives too."""
    arrays = [np.full(LARGE, number % 251, np.uint8) for number in range(count)]
    assert len(_wire.dump(arrays)[1]) == min(count, _wire.MAX_BUFFERS)
    (received,) = travelled(arrays)
    assert [int(array[-1]) for array in received] == [number % 251 for number in range(count)]


class Trickle:
    """A stream that moves a few bytes at a time and often has to wait, in memory."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.turns = 0

    def _wait(self) -> None:
        self.turns += 1
        if self.turns % 3 == 0:
            raise TimeoutError

    def send(self, data: memoryview, /) -> int:
        self._wait()
        self.data += data[:7]
        return len(data[:7])

    def recv_into(self, buffer: memoryview, /) -> int:
        self._wait()
        count = min(5, len(buffer), len(self.data))
        buffer[:count] = self.data[:count]
        del self.data[:count]
        return count


def test_messages_arrive_when_the_stream_moves_a_few_bytes_at_a_time() -> None:
    """However a message is cut on its way, it comes out whole, and each wait is a chance to look up."""
    looks: list[str] = []
    stream = Trickle()
    message = ["text", bytes(range(256)), np.arange(float(LARGE))[:3].tolist()]
    _wire.send(stream, message, lambda: looks.append("sending"))
    assert _wire.receive(stream, lambda: looks.append("receiving")) == message
    assert set(looks) == {"sending", "receiving"}


def test_send_and_receive_end_when_the_look_up_says_so() -> None:
    """Whatever the check raises at a wait ends it."""

    def give_up() -> None:
        raise InterruptedError

    stream = Trickle()
    with pytest.raises(InterruptedError):
        _wire.send(stream, bytes(100), give_up)
    with pytest.raises(InterruptedError):
        _wire.receive(stream, give_up)


def test_send_returns_what_it_moved() -> None:
    """The bytes of a message are counted with its buffers, and without the little that frames them."""
    stream = Trickle()
    array = np.zeros(2 * LARGE, np.uint8)
    moved = _wire.send(stream, array)
    assert array.nbytes < moved < array.nbytes + 500
    assert len(stream.data) == moved + 4 + 2 * 8


def test_receive_says_when_the_other_end_is_gone() -> None:
    """A conversation that ends, even in the middle of a message, is an end of file."""
    for content in (b"", b"\x01", b"\x01\x00\x00\x00" + b"\x10" + bytes(7) + b"half"):
        one, other = socket.socketpair()
        with other:
            one.sendall(content)
            one.close()
            with pytest.raises(EOFError):
                _wire.receive(other)
