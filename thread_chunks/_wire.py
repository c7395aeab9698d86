"""What a worker and its child process say to each other, as bytes.

A message is one pickle of builtin types, its large buffers out of band:
``count, lengths of the parts, pickle, buffer, buffer, ...``

Results travel in groups: each pickled by itself, the pickles side by side, and beside
them the *columns*: four arrays with the index, the seconds, the size and the checksum
of each. So a short call costs a few bytes and no object of its own, and what a child
made is written to the checkpoint as it came. A group has one *trace*: when its first call
was started, on which worker, and the peak of the memory. One rule: both ends, and the
file, know the layout from here. This room knows bytes, and runs in the child, so it imports little.
"""

from __future__ import annotations

import builtins
import itertools
import sys
from array import array
from zlib import crc32

from . import _definitions

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    import pickle
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Protocol

    class Stream(Protocol):
        """What both ends of the conversation are: a socket in the parent, a descriptor in the child."""

        def send(self, data: memoryview, /) -> int: ...
        def recv_into(self, buffer: memoryview, /) -> int: ...
else:  # the same without what a child does not need: it starts in half the time
    import _pickle as pickle

# A call may replace what it likes in its process, and later calls see that; what serves the run has its own.
globals()["__builtins__"] = dict(vars(builtins))
_dumps, _loads = pickle.dumps, pickle.loads

PROTOCOL = _definitions.PROTOCOL
OUT_OF_BAND_BYTES = 1 << 16  # below this, copying is cheaper than another system call
MAX_BUFFERS = 1000  # beyond this the buffers travel inside the pickle
PLAIN = {int, float, bool, str, bytes, complex, type(None)}
"""The types whose values cannot change, hold nothing else and have no buffers."""

NO_TRACE = 0.0, 0, 0
"""The trace of what nobody watched."""

_SCRIPT = b"_main__"  # is in each pickle that refers to something of the script, by either of its names
COLUMN_BYTES = 28  # for each result: index and size of 8 bytes, seconds as a double, a checksum of 4


# --- pickling -------------------------------------------------------------------


def dump(value: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle `value` into ``(main, buffers)``: by value what is of the script, and what pickle cannot take."""
    buffers: list[memoryview] = []
    return dumps(value, buffers), buffers


def dumps(value: Any, buffers: list[memoryview] | None = None) -> bytes:
    """Pickle `value`, its large buffers out of band if there is a list for them."""
    keep_in_band = buffer_taker(buffers)
    main = None
    try:
        main = _dumps(value, PROTOCOL, buffer_callback=keep_in_band)
        if main.find(_SCRIPT) < 0:  # faster than `in`
            return main
    except (pickle.PicklingError, AttributeError, TypeError):
        pass
    if buffers is not None:
        buffers.clear()
    try:
        return _definitions.dumps_result(value, keep_in_band)
    except Exception:
        if main is None:
            raise
    if buffers is not None:
        buffers.clear()
    return _dumps(value, PROTOCOL, buffer_callback=keep_in_band)  # this process can read it, at least


def buffer_taker(buffers: list[memoryview] | None) -> Callable[[pickle.PickleBuffer], bool] | None:
    """Return what a pickler asks about each buffer: it moves the large ones to the list, if there is one."""
    if buffers is None:
        return None

    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        # Only contiguous buffers have a flat view; the others travel inside the pickle.
        if len(buffers) == MAX_BUFFERS:
            return True
        try:
            view = buffer.raw()
        except BufferError:
            return True
        if view.nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(view)
        return False

    return keep_in_band


# --- rows of parameters -----------------------------------------------------------


def kinds(values: Iterable[Any]) -> set[type]:
    """Return the types of values; only `object` if there are types that no set can hold."""
    try:
        return set(map(type, values))
    except TypeError:
        return {object}


def flat(rows: Sequence[Any]) -> tuple[int, Sequence[Any]]:
    """Write rows that are equally long one after the other: one list is faster to pickle than many.

    Returns the length of each row, and all values; or 0, and of each row a pair of its positional and
    its keyword arguments. A dict is a row of keyword arguments, and any other one of positional ones.
    """
    widths = set(map(len, rows)) if kinds(rows) <= {list, tuple} else set()
    width = widths.pop() if len(widths) == 1 else 0
    if width:
        return width, list(itertools.chain.from_iterable(rows))
    return 0, [((), row) if type(row) is dict else (tuple(row), {}) for row in rows]


def unflat(width: int, values: Sequence[Any]) -> tuple[Iterable[tuple[Any, ...]], Iterable[dict[str, Any]]]:
    """Give the positional arguments of each row again, and beside them the keyword arguments."""
    if width:
        return zip(*[iter(values)] * width, strict=True), itertools.repeat({}, len(values) // width)
    return [args for args, _ in values], [kwargs for _, kwargs in values]


# --- groups of results ------------------------------------------------------------


def pack(
    indices: Iterable[int], seconds: Iterable[float], sizes: Iterable[int], checksums: Iterable[int]
) -> bytes:
    """Lay the columns of a group out."""
    columns = zip(_CODES, (indices, seconds, sizes, checksums), strict=True)
    return b"".join([_little(array(code, column)).tobytes() for code, column in columns])


def unpack(columns: Any) -> list[array[Any]]:
    """Return the four columns again: indices, seconds, sizes, checksums."""
    count = len(columns) // COLUMN_BYTES
    unpacked = [array(code) for code in _CODES]
    start = 0
    for column in unpacked:
        end = start + count * column.itemsize
        column.frombytes(columns[start:end])
        start = end
    return list(map(_little, unpacked))


_CODES = "QdQI"  # the types of the columns, as the array module names them


def _little(column: array[Any]) -> array[Any]:
    """Turn between the machine's order of bytes and the layout's."""
    if sys.byteorder == "big":
        column.byteswap()
    return column


def group(indices: Sequence[int], seconds: Sequence[float], pickles: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Join small results into columns and a body."""
    return pack(indices, seconds, map(len, pickles), map(crc32, pickles)), b"".join(pickles)


def single(index: int, seconds: float, main: Any, buffers: Sequence[Any]) -> bytes:
    """Return the columns of a result that stands alone; its checksum covers the buffers."""
    return pack((index,), (seconds,), (len(main),), (checksum(main, buffers),))


def sent(index: int, seconds: float, main: Any, buffers: Sequence[Any]) -> bytes:
    """Return the same for a result on its way: others may still write into buffers, so it has no checksum of them.

    Whoever receives it makes that, of what arrived.
    """
    return pack((index,), (seconds,), (len(main),), (0 if buffers else checksum(main, ()),))


def checksum(main: Any, buffers: Sequence[Any]) -> int:
    """Checksum one result as it lies in the file: with the lengths of its buffers before it."""
    value = 0
    for part in [lengths(buffers), main, *buffers]:
        value = crc32(part, value)
    return value


def lengths(buffers: Sequence[Any]) -> bytes:
    """Return what stands before a result in the file: the length of each of its buffers."""
    return _little(array("Q", map(size, buffers))).tobytes()


def parts(body: Any, sizes: Iterable[int]) -> list[bytes]:
    """Cut the body of a group into its pickles."""
    return cut(bytes(body), sizes)  # slices of other types take several times as long


def cut(whole: Any, sizes: Iterable[int]) -> list[Any]:
    """Cut a sequence into pieces of these sizes."""
    ends = itertools.accumulate(sizes, initial=0)
    return [whole[start:end] for start, end in itertools.pairwise(ends)]


# --- framing ------------------------------------------------------------------------


def send(stream: Stream, message: Any, check: Callable[[], None] | None = None) -> int:
    """Write one message. With a time-out on the socket, `check` is called at each, to raise or go on."""
    buffers: list[memoryview] = []
    body = _dumps(message, PROTOCOL, buffer_callback=buffer_taker(buffers))
    pieces = [body, *buffers]
    head = array("I", [len(pieces)]).tobytes() + array("Q", map(size, pieces)).tobytes()
    _write(stream, head + body, check)
    for buffer in buffers:
        _write(stream, buffer, check)
    return len(body) + sum(buffer.nbytes for buffer in buffers)


def receive(stream: Stream, check: Callable[[], None] | None = None) -> Any:
    """Read one message, as `send` wrote it; an `EOFError` if the other end is gone."""
    (count,) = array("I", bytes(_read(stream, 4, check)))
    if not 0 < count <= 1 + MAX_BUFFERS:  # no message of ours: somebody else wrote into the socket
        raise EOFError
    sizes = array("Q", bytes(_read(stream, 8 * count, check)))
    body, *buffers = [_read(stream, size, check) for size in sizes]
    return _loads(body, buffers=buffers)


def out_of_band(main: bytes, buffers: Iterable[Any]) -> tuple[Any, tuple[pickle.PickleBuffer, ...]]:
    """Wrap a pickle and its buffers so that what is large travels beside the message, without a copy."""
    large = len(main) >= OUT_OF_BAND_BYTES
    return pickle.PickleBuffer(main) if large else main, tuple(map(pickle.PickleBuffer, buffers))


def size(part: Any) -> int:
    """Return how many bytes anything with a buffer has."""
    return memoryview(part).nbytes


def _write(stream: Stream, data: Any, check: Callable[[], None] | None) -> None:
    view = memoryview(data).cast("B")
    while view:
        try:
            view = view[stream.send(view) :]
            continue
        except TimeoutError:
            pass
        _look_up(check)


def _read(stream: Stream, count: int, check: Callable[[], None] | None) -> Any:
    data = _room(count)
    view = memoryview(data)
    while view:
        try:
            received = stream.recv_into(view)
        except TimeoutError:
            received = None
        if received is None:
            _look_up(check)
        elif not received:
            raise EOFError
        else:
            view = view[received:]
    return data


def _room(count: int) -> Any:
    """Return memory to receive into; NumPy's, where it is there, need not be cleared first."""
    numpy = sys.modules.get("numpy") if count >= OUT_OF_BAND_BYTES else None
    return bytearray(count) if numpy is None else memoryview(numpy.empty(count, "u1"))


def _look_up(check: Callable[[], None] | None) -> None:
    """Call `check`, with no exception being handled: it would be the context of what is raised, and keep our frames."""
    if check is not None:
        check()
