"""The canonical form of a value: the same bytes in every process.

One rule: two values have the same form if a function could not tell them apart,
however they travelled. ``1``, ``1.0`` and ``True`` differ, ``0.0`` and ``-0.0`` differ,
NaN equals NaN, sets and dicts have no order, arrays are their type, shape and
bytes, and objects are the name of their class and what pickle would keep of them.

Pickles themselves are no such form: they differ between processes for sets, for
interned strings and for classes of the script itself. This room knows values and
nothing of calls.
"""

import struct
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

Form = bytes
"""The canonical form of a value."""

PLAIN = {int, float, bool, str, bytes, complex, type(None)}
"""The types whose values are written directly."""


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
    return _form(value, ())


def tagged(tag: bytes, *parts: bytes) -> Form:
    """Join parts so that no other parts give the same bytes."""
    lengths = struct.pack(f"<{len(parts) + 1}Q", len(parts), *map(len, parts))
    return b"".join([tag, lengths, *parts])


def _form(value: Any, seen: tuple[int, ...]) -> Form:  # noqa: PLR0911 - one line per kind of value
    kind = type(value)
    if kind in PLAIN:
        return _scalar_form(value)
    if id(value) in seen:
        return tagged(b"^", str(seen[::-1].index(id(value))).encode())
    seen = (*seen, id(value))
    if kind is tuple or kind is list:
        return tagged(b"t" if kind is tuple else b"l", *(_form(item, seen) for item in value))
    if kind is dict:
        items = (_form(key, seen) + _form(item, seen) for key, item in value.items())
        return tagged(b"d", *sorted(items))
    if kind is set or kind is frozenset:
        return tagged(kind.__name__.encode(), *sorted(_form(item, seen) for item in value))
    if isinstance(value, (np.ndarray, np.generic)):
        return _array_form(value, seen)
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)):
        return _named_form(value, seen)
    if kind.__module__.startswith("pandas."):
        return tagged(b"p", _name(kind), *(_form(part, seen) for part in _frame_parts(value)))
    return _object_form(value, seen)


def _scalar_form(value: Any) -> Form:
    if isinstance(value, (float, complex)):
        if value != value:  # noqa: PLR0124 - NaN
            value = type(value)("nan")
        return tagged(b"n", type(value).__name__.encode(), repr(value).encode())
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    return tagged(b"s", type(value).__name__.encode(), data)


def _array_form(value: Any, seen: tuple[int, ...]) -> Form:
    array = np.asarray(value)
    head = repr(
        (type(value).__name__, array.dtype.descr if array.dtype.names else array.dtype.str, array.shape)
    ).encode()
    if array.dtype.hasobject:
        return tagged(b"o", head, *(_form(item, seen) for item in array.ravel().tolist()))
    if array.dtype.kind in "fc" and np.isnan(array).any():
        array = np.where(np.isnan(array), array.dtype.type("nan"), array)
    mask = [_array_form(np.ma.getmaskarray(value), seen)] if isinstance(value, np.ma.MaskedArray) else []
    return tagged(b"a", head, np.ascontiguousarray(array).tobytes(), *mask)


def _name(value: Any) -> bytes:
    name = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', value.__name__)}"
    return name.encode()


def _named_form(value: Any, seen: tuple[int, ...]) -> Form:
    """Classes, modules and named functions are their names; other functions also their code."""
    code = b""
    if isinstance(value, types.FunctionType) and "<" in value.__qualname__:
        code = code_form(value, seen) or b""
    return tagged(b"N", _name(value), code)


def _frame_parts(value: Any) -> Iterator[Any]:
    """Take a pandas object apart: how its blocks are laid out in memory is not part of its value."""
    if hasattr(value, "columns"):
        yield value.columns
        yield value.index
        for number in range(len(value.columns)):
            column = value.iloc[:, number]
            yield str(column.dtype), column.to_numpy()
    elif hasattr(value, "to_numpy"):
        yield str(getattr(value, "dtype", "")), getattr(value, "name", None), value.to_numpy()
        yield getattr(value, "index", None)
    else:
        yield value.__reduce_ex__(4)


def _object_form(value: Any, seen: tuple[int, ...]) -> Form:
    """Write an object as its class and what pickle would keep of it."""
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - it cannot be pickled: then it is only what it shows
        return tagged(b"r", _name(type(value)), repr(value).encode())
    if isinstance(reduced, str):
        return tagged(b"g", _name(type(value)), reduced.encode())
    maker, args, state, items, pairs = (*reduced, None, None, None)[:5]
    content = (
        args,
        state,
        None if items is None else list(items),
        None if pairs is None else dict(pairs),
    )
    return tagged(b"O", _name(type(value)), _form(maker, seen), _form(content, seen))


def code_form(func: Any, seen: tuple[int, ...] = ()) -> Form | None:
    """Write a function's code, defaults and captured values; ``None`` if it is not Python's."""
    wrapped = getattr(func, "__wrapped__", None)
    if not isinstance(func, types.FunctionType):
        return code_form(wrapped, seen) if wrapped is not None and wrapped is not func else None
    cells = [cell.cell_contents for cell in func.__closure__ or () if cell != types.CellType()]
    return b"".join(
        [
            _compiled_form(func.__code__),
            _form((func.__defaults__, func.__kwdefaults__), (*seen, id(func))),
            _form(cells, (*seen, id(func))),
        ]
    )


def _compiled_form(code: types.CodeType) -> Form:
    constants = [
        _compiled_form(value) if isinstance(value, types.CodeType) else form(value)
        for value in code.co_consts
    ]
    names = repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    return tagged(b"c", code.co_code, names, *constants)
