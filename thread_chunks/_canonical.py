"""The canonical form of a value: the same bytes in every process.

One rule: two values have the same form if a function could not tell them apart,
however they travelled. ``1``, ``1.0`` and ``True`` differ, ``0.0`` and ``-0.0`` differ,
NaN equals NaN, sets and dicts have no order, arrays are their type, shape and
values, and other objects are their class and what pickle would keep of them. What a value
consists of is known to `_parts`.

Pickles themselves are no such form: they differ between processes for sets, for
interned strings and for classes of the script itself. This room knows values and
nothing of calls.
"""

import hashlib
import struct
import types
from collections.abc import Container, Iterable, Iterator
from typing import Any

import numpy as np

from . import _wire
from ._parts import Parts, function_parts, parts

Form = bytes
"""The canonical form of a value."""

_LONGEST = 96  # longer forms are digested, so that shared parts cannot make a form explode
_DEEPEST = 100  # what is nested more deeply is walked without recursion
_LARGE = 1000  # parts of so many parts are remembered, as other values may share them
_ROUNDS = 64  # so far around itself each part of a tangle is looked at to tell it from others


def form(value: Any) -> Form:
    """Write any value in canonical form.

    Parameters
    ----------
    value
        Anything.

    Returns
    -------
    bytes
        Equal for two values exactly if they are the same in the sense of this module.
    """
    return Walk().form(value)


def tagged(tag: bytes, *parts: bytes) -> Form:
    """Join parts so that no other parts give the same bytes; digest what gets long."""
    lengths = struct.pack(f"<{len(parts) + 1}Q", len(parts), *map(len, parts))
    if len(tag) + len(lengths) + sum(map(len, parts)) <= _LONGEST:
        return b"".join([tag, lengths, *parts])
    digest = hashlib.blake2b(tag + lengths, digest_size=32)
    for part in parts:
        digest.update(part)
    return b"#" + digest.digest()


def code_form(func: Any) -> Form | None:
    """Write a function's code, defaults and captured values.

    Parameters
    ----------
    func
        The function.

    Returns
    -------
    bytes or None
        ``None`` if it is not a Python function.
    """
    if isinstance(func, types.FunctionType):
        return Walk().joined(func, function_parts(func))
    wrapped = getattr(func, "__wrapped__", None)
    return code_form(wrapped) if wrapped is not None and wrapped is not func else None


class _CycleError(Exception):
    """A part of the value holds a value that it is in; ``depth`` says how far up the walk has to turn back."""

    def __init__(self, depth: int) -> None:
        self.depth = depth


class Walk:
    """A walk through values that may share parts: what it is inside of now, and what it met before.

    A value that holds itself somewhere, or is nested too deeply, is written as a tangle: every part
    once, and in its other places as a number.
    """

    def __init__(self) -> None:
        self._path: dict[int, int] = {}
        self._known: dict[int, tuple[Any, Form]] = {}
        self._parts: dict[int, tuple[Any, Parts]] = {}
        self._large: dict[int, tuple[Any, Form]] = {}
        self._reach: dict[int, dict[int, Any]] = {}  # of tangles
        self._count = 0

    def forms(self, values: Iterable[Any]) -> Iterator[Form]:
        """Write several values; large parts that they share are looked at once."""
        for value in values:
            yield self.form(value)
            self._known = dict(self._large)
            self._reach = {key: reached for key, reached in self._reach.items() if key in self._large}
            self._parts.clear()

    def form(self, value: Any) -> Form:
        """Write one value, each shared part only once."""
        key = id(value)
        if key in self._known:
            self._check_way(self._reach.get(key, ()))
            return self._known[key][1]
        if type(value) in _wire.PLAIN:
            return self._scalar(value)
        if key in self._path or len(self._path) > _DEEPEST:
            self._check_way(self._reached(value))
            raise _CycleError(0)
        return self._remembered(value)

    def joined(self, value: Any, found: Parts) -> Form:
        """Write a value of which the parts are known."""
        self._parts[id(value)] = value, found
        return self._remembered(value)

    def _remembered(self, value: Any) -> Form:
        key, depth, count = id(value), len(self._path), self._count
        self._path[key] = depth
        try:
            written = self._tree(value)
        except _CycleError as error:
            if error.depth != depth:
                raise
            written = self._tangle(value)
        except RecursionError:
            if depth:
                raise
            written = self._tangle(value)
        finally:
            del self._path[key]
        self._known[key] = value, written  # the value is kept, so that its id stays its own
        if self._count - count >= _LARGE:
            self._large[key] = value, written
        return written

    def _tree(self, value: Any) -> Form:
        tag, values, is_ordered = self._parts_of(value)
        forms = list(map(self.form, values))
        return tagged(tag, *(forms if is_ordered else sorted(forms)))

    def _parts_of(self, value: Any) -> Parts:
        """Take a value apart, once: what is made anew each time is the same to all of the walk."""
        if id(value) not in self._parts:
            found = parts(value)
            self._parts[id(value)] = value, found
            self._count += len(found.values) + _bytes_of(value) // 64
        return self._parts[id(value)][1]

    def _reached(self, value: Any) -> dict[int, Any]:
        """Return all that a value holds, itself included, in the order in which it is met."""
        met: dict[int, Any] = {}
        left = [value]
        while left:
            each = left.pop()
            if id(each) in met or type(each) in _wire.PLAIN:
                continue
            met[id(each)] = each
            left.extend(reversed(self._parts_of(each).values))
        return met

    def _check_way(self, reached: Container[int]) -> None:
        """Turn back to the outermost value on the way that is part of what was met, if there is one."""
        for key, depth in self._path.items():  # from the outermost on
            if key in reached:
                raise _CycleError(depth)

    def _scalar(self, value: Any) -> Form:
        written = _scalar_form(value)
        if type(value) in {str, bytes} and len(value) > _LARGE * 64:
            self._known[id(value)] = self._large[id(value)] = value, written
        return written

    # --- tangles ----------------------------------------------------------------------

    def _tangle(self, value: Any) -> Form:
        """Write a value that holds itself: every part as its tag and the numbers of its own parts.

        What has no order is put into that of the colours, which say what is around a part
        (as in the test of Weisfeiler and Leman). Parts with the same surroundings may be told apart that are
        the same: that costs a restart. None is taken for another.
        """
        reached = self._reach[id(value)] = self._reached(value)
        colours = self._colours(reached)
        numbers: dict[int, int] = {}
        written: list[bytes] = []
        left = [value]
        while left:
            each = left.pop()
            if type(each) in _wire.PLAIN:
                written.append(_scalar_form(each))
            elif id(each) in numbers:
                written.append(tagged(b"@", str(numbers[id(each)]).encode()))
            else:
                numbers[id(each)] = len(numbers)
                tag, values, is_ordered = self._parts_of(each)
                ordered = values if is_ordered else sorted(values, key=lambda part: _colour(part, colours))
                written.append(tagged(b"(", tag, str(len(ordered)).encode()))
                left.extend(reversed(ordered))
        return tagged(b"G", *written)

    def _colours(self, reached: dict[int, Any]) -> dict[int, bytes]:
        """Tell parts apart by what they hold, and what that holds, and so on; only sets and dicts need it."""
        colours = dict.fromkeys(reached, b"")
        if all(self._parts_of(each).is_ordered for each in reached.values()):
            return colours
        for _ in range(_ROUNDS):
            before = len(set(colours.values()))
            colours = {key: self._mixed(each, colours) for key, each in reached.items()}
            if len(set(colours.values())) == before:
                break
        return colours

    def _mixed(self, value: Any, colours: dict[int, bytes]) -> bytes:
        tag, values, is_ordered = self._parts_of(value)
        around = [_colour(part, colours) for part in values]
        return tagged(tag, *(around if is_ordered else sorted(around)))


def _bytes_of(value: Any) -> int:
    if type(value) in {list, tuple}:
        return 8 * len(value)
    return value.nbytes if isinstance(value, np.ndarray) else 0


def _colour(part: Any, colours: dict[int, bytes]) -> bytes:
    return _scalar_form(part) if type(part) in _wire.PLAIN else colours[id(part)]


def _scalar_form(value: Any) -> Form:
    kind = type(value)
    if kind is str:
        data = value.encode("utf-8", "surrogatepass")
    elif kind is int:
        data = b"%x" % value if value >= 0 else b"-%x" % -value  # decimal digits are limited
    elif kind is float:
        data = b"nan" if value != value else repr(value).encode()  # noqa: PLR0124 - NaN
    elif kind is complex:
        data = _scalar_form(value.real) + _scalar_form(value.imag)
    else:
        data = value if kind is bytes else repr(value).encode()
    return tagged(b"v", kind.__name__.encode(), data)
