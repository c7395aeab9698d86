"""The canonical form of a value: the same bytes in every process.

One rule: two values have the same form if a function could not tell them apart,
however they travelled. ``1``, ``1.0`` and ``True`` differ, ``0.0`` and ``-0.0`` differ,
NaN equals NaN, sets and dicts have no order, arrays are their type, shape and
values, dataclasses are their fields, and other objects are the name of their class
and what pickle would keep of them.

Pickles themselves are no such form: they differ between processes for sets, for
interned strings and for classes of the script itself. This room knows values and
nothing of calls.
"""

import copyreg
import dataclasses
import functools
import hashlib
import struct
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cloudpickle
import numpy as np

from . import _script, _wire

Form = bytes
"""The canonical form of a value."""

_LONGEST = 96  # longer forms are digested, so that shared parts cannot make a form explode
_MOST_CYCLES = 1000
_PYTHON = sys.version_info.major, sys.version_info.minor
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.MethodWrapperType)


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
    try:
        return _Walk().form(value)
    except _TangledError:
        return _Walk(is_numbered=True).form(value)
    except RecursionError:
        # Nested too deeply to walk: its pickle may differ in another process, which costs a restart, no result.
        return tagged(b"P", cloudpickle.dumps(value, 5))


def tagged(tag: bytes, *parts: bytes) -> Form:
    """Join parts so that no other parts give the same bytes; digest what gets long."""
    lengths = struct.pack(f"<{len(parts) + 1}Q", len(parts), *map(len, parts))
    if len(tag) + len(lengths) + sum(map(len, parts)) <= _LONGEST:
        return b"".join([tag, lengths, *parts])
    digest = hashlib.blake2b(tag + lengths, digest_size=32)
    for part in parts:
        digest.update(part)
    return b"#" + digest.digest()


class _TangledError(Exception):
    """The value runs in circles so often that writing every way through it would take for ever."""


class _Walk:
    """One walk through a value: what it is inside of now, and the forms of parts that it met before.

    In a numbered walk every part that was met before is written as its number. That
    ends for any value, but tells shared parts from equal ones.
    """

    def __init__(self, *, is_numbered: bool = False) -> None:
        self._numbers: dict[int, tuple[Any, int]] | None = {} if is_numbered else None
        self._path: dict[int, int] = {}
        self._known: dict[int, tuple[Any, Form]] = {}
        self._cycles = 0

    def form(self, value: Any) -> Form:
        """Write one value, each shared part only once."""
        if type(value) in _wire.PLAIN:
            return _scalar_form(value)
        key = id(value)
        if self._numbers is not None:
            if key in self._numbers:
                return tagged(b"@", str(self._numbers[key][1]).encode())
            self._numbers[key] = value, len(self._numbers)
        if key in self._path:
            self._cycles += 1
            if self._cycles > _MOST_CYCLES:
                raise _TangledError
            return tagged(b"^", str(len(self._path) - self._path[key]).encode())
        if key in self._known:
            return self._known[key][1]
        cycles = self._cycles
        self._path[key] = len(self._path)
        found = self._compound(value)
        del self._path[key]
        if self._cycles == cycles:  # else the form depends on where the walk came from
            self._known[key] = value, found  # the value is kept, so that its id stays its own
        return found

    def _compound(self, value: Any) -> Form:  # noqa: PLR0911 - one line for each kind of value
        kind = type(value)
        if kind is tuple or kind is list:
            return tagged(b"t" if kind is tuple else b"l", *map(self.form, value))
        if kind is dict:
            return tagged(b"d", *sorted(self.form(pair[0]) + self.form(pair[1]) for pair in value.items()))
        if isinstance(value, (set, frozenset)):
            state = getattr(value, "__dict__", None)
            return tagged(b"s", _name(kind), self.form(state), *sorted(map(self.form, value)))
        if isinstance(value, (np.ndarray, np.generic)):
            return self._array(value)
        if isinstance(value, _NAMED):
            return self._named(value)
        if is_pandas(value):
            return tagged(b"p", _name(kind), *map(self.form, _frame_parts(value)))
        if dataclasses.is_dataclass(value) and _pickles_plainly(kind):
            names = {field.name for field in dataclasses.fields(value)} | set(getattr(value, "__dict__", ()))
            names = {
                name for name in names if not isinstance(getattr(kind, name, None), functools.cached_property)
            }
            return tagged(
                b"D", _name(kind), *(self.form((name, getattr(value, name, None))) for name in sorted(names))
            )
        return self._object(value)

    def _array(self, value: Any) -> Form:
        array = np.asarray(value)
        head = self.form((_name(type(value)), str(array.dtype.names or array.dtype.str), array.shape))
        if isinstance(value, np.ma.MaskedArray):
            extra = [self._array(np.ma.getmaskarray(value)), self.form(value.fill_value)]
        else:
            extra = [self.form(getattr(value, "__dict__", None))]
        if array.dtype.names is not None:
            return tagged(b"f", head, *extra, *(self._array(array[name]) for name in array.dtype.names))
        if array.dtype.hasobject:
            return tagged(b"o", head, *extra, *map(self.form, array.ravel().tolist()))
        return tagged(b"a", head, *extra, *array_bytes(array))

    def _named(self, value: Any) -> Form:
        """Write classes, modules and named functions as their names; other functions also as what they are."""
        more: Any = None
        if isinstance(value, types.FunctionType) and "<" in value.__qualname__:
            more = code_form(value, self.form)
        owner = getattr(value, "__self__", None)
        if not isinstance(value, type) and owner is not None and not isinstance(owner, types.ModuleType):
            more = owner
        return tagged(b"N", _name(value), self.form(more))

    def _object(self, value: Any) -> Form:
        """Write an object as its class and what pickle would keep of it."""
        reduce = copyreg.dispatch_table.get(type(value))
        try:
            reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception:  # noqa: BLE001 - it cannot be pickled: then it is only what it shows
            return tagged(b"r", _name(type(value)), repr(value).encode())
        if isinstance(reduced, str):
            return tagged(b"g", _name(type(value)), reduced.encode())
        maker, args, state, items, pairs = (*reduced, None, None, None)[:5]
        content = (
            maker,
            args,
            state,
            None if items is None else list(items),
            None if pairs is None else dict(pairs),
        )
        return tagged(b"O", _name(type(value)), self.form(content))


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


def _pickles_plainly(kind: type) -> bool:
    """Tell whether an object is its attributes and nothing more: no container, and no pickling of its own."""
    plain: Any = object
    is_plain = kind.__reduce__ is plain.__reduce__ and kind.__reduce_ex__ is plain.__reduce_ex__
    return is_plain and not issubclass(kind, (list, dict))


def array_bytes(array: Any) -> Iterable[Any]:
    """Give the values of an array as bytes; every NaN is the same one, and padding does not count."""
    if array.dtype.kind == "c":
        return (*array_bytes(array.real), *array_bytes(array.imag))
    if array.dtype.kind == "f":
        if array.dtype.itemsize > np.dtype("f8").itemsize:
            return [repr(array.astype(array.dtype.newbyteorder("=")).ravel().tolist()).encode()]
        is_nan = np.isnan(array)
        if is_nan.any():
            array = np.where(is_nan, array.dtype.type("nan"), array).astype(array.dtype)
    return [np.ascontiguousarray(array).reshape(-1).view(np.uint8)]


def is_pandas(value: Any) -> bool:
    """Tell whether a value is a frame, series or index, without importing pandas."""
    kind = type(value)  # and not the value, which may have an attribute of any name
    is_theirs = str(kind.__module__).partition(".")[0] == "pandas" and hasattr(kind, "to_numpy")
    return is_theirs and (hasattr(kind, "columns") or hasattr(kind, "dtype"))


def _name(value: Any) -> bytes:
    name = f"{_script.known(getattr(value, '__module__', None))}.{getattr(value, '__qualname__', value.__name__)}"
    return name.encode()


def _frame_parts(value: Any) -> Iterator[Any]:
    """Take a frame, series or index apart: how its blocks lie in memory is not part of its value."""
    if hasattr(type(value), "columns"):
        yield value.columns
        for number in range(len(value.columns)):
            yield value.iloc[:, number].dtype, value.iloc[:, number].to_numpy()
    else:
        yield getattr(value, "dtype", None), value.to_numpy()
        yield list(value.names) if hasattr(type(value), "names") else [], getattr(value, "name", None)
    yield getattr(value, "index", None)


def code_form(func: Any, write: Callable[[Any], Form] = form) -> Form | None:
    """Write a function's code, defaults and captured values.

    Parameters
    ----------
    func
        The function.
    write
        What writes the values in it.

    Returns
    -------
    bytes or None
        ``None`` if it is not a Python function.
    """
    wrapped = getattr(func, "__wrapped__", None)
    if not isinstance(func, types.FunctionType):
        return code_form(wrapped, write) if wrapped is not None and wrapped is not func else None
    cells = [cell.cell_contents for cell in func.__closure__ or () if cell != types.CellType()]
    values = func.__defaults__, func.__kwdefaults__, cells
    return tagged(b"F", _compiled_form(func.__code__), *map(write, values))


def _compiled_form(code: types.CodeType) -> Form:
    constants = [
        _compiled_form(value) if isinstance(value, types.CodeType) else form(value)
        for value in code.co_consts
    ]
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    # Bytes mean different things to different Pythons: 6b 02 is == in 3.11, and < in 3.12.
    names = repr((_PYTHON, code.co_names, code.co_varnames, code.co_freevars, counts)).encode()
    return tagged(b"c", code.co_code, names, *constants)
