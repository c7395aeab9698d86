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
from ._knot import Knot, Node, knots
from ._parts import Parts, function_parts, parts

Form = bytes
"""The canonical form of a value."""

_LONGEST = 96  # longer forms are digested, so that shared parts cannot make a form explode
_DEEPEST = 100  # what is nested more deeply is walked without recursion
_LARGE = 1000  # parts of so many parts are remembered, as other values may share them


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

    A value that holds itself somewhere, or is nested too deeply, is written as a tangle: without recursion, and
    what holds itself as the graph of its parts.
    """

    def __init__(self) -> None:
        self._path: dict[int, int] = {}
        self._known: dict[int, tuple[Any, Form]] = {}
        self._parts: dict[int, tuple[Any, Parts]] = {}
        self._large: dict[int, tuple[Any, Form]] = {}
        self._tied: dict[int, tuple[Any, Knot, int]] = {}
        self._count = 0

    def forms(self, values: Iterable[Any]) -> Iterator[Form]:
        """Write several values; large parts that they share are looked at once."""
        for value in values:
            yield self.form(value)
            self._known = dict(self._large)
            self._tied = {key: each for key, each in self._tied.items() if len(each[1]) >= _LARGE}
            self._parts.clear()

    def form(self, value: Any) -> Form:
        """Write one value, each shared part only once."""
        key = id(value)
        if key in self._known:
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
        if key in self._tied:
            self._known[key] = value, self._inner(value, {})
            return self._known[key][1]
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
        """Write a value that holds itself, or is nested too deeply, without recursion, the innermost parts first.

        All that hold each other are written at once: of a thousand agents with neighbours, the knot is looked at once.
        """
        reached = self._reached(value)
        forms: dict[int, Form] = {}
        held = {
            key: [id(part) for part in self._parts_of(each).values if id(part) in reached]
            for key, each in reached.items()
        }
        for group in knots(id(value), held):
            if len(group) == 1 and group[0] not in held[group[0]]:
                tag, values, is_ordered = self._parts_of(reached[group[0]])
                written = [self._inner(part, forms) for part in values]
                forms[group[0]] = tagged(tag, *(written if is_ordered else sorted(written)))
            else:
                self._tie([reached[key] for key in group], forms)
        return self._inner(value, forms)

    def _tie(self, values: list[Any], forms: dict[int, Form]) -> None:
        """Remember values that hold each other; each is written once it is asked for."""
        numbers = {id(each): number for number, each in enumerate(values)}
        nodes = []
        for each in values:
            tag, held, is_ordered = self._parts_of(each)
            written = [b"@" if id(part) in numbers else self._inner(part, forms) for part in held]
            edges = [numbers[id(part)] for part in held if id(part) in numbers]
            nodes.append(Node(tagged(tag, *(written if is_ordered else sorted(written))), edges, is_ordered))
        knot = Knot(nodes)
        self._tied |= {id(each): (each, knot, numbers[id(each)]) for each in values}

    def _inner(self, part: Any, forms: dict[int, Form]) -> Form:
        """Write a part of which all parts are written."""
        key = id(part)
        if key not in forms:
            if key not in self._tied:
                return self._scalar(part)
            _, knot, number = self._tied[key]
            forms[key] = tagged(b"G", knot.form(number))
        return forms[key]


def _bytes_of(value: Any) -> int:
    if type(value) in {list, tuple}:
        return 8 * len(value)
    return value.nbytes if isinstance(value, np.ndarray) else 0


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
