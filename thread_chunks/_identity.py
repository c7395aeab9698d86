"""Is this the same run? Compare functions and parameters by value.

One rule: two values are the same if a function could not tell them apart, however
they travelled. Each value is written in a canonical form, and forms are compared:
``1``, ``1.0`` and ``True`` differ, ``0.0`` and ``-0.0`` differ, NaN equals NaN, sets
and dicts have no order, arrays are their type, shape and bytes, and objects are
the name of their class and what pickle would keep of them.

Pickles themselves are no such form: they differ between processes for sets,
for interned strings and for classes of the script itself.

This room knows calls and nothing of files or actors.
"""

import functools
import hashlib
import pickle
import reprlib
import struct
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from . import config
from .messages import Call

Form = bytes
"""The canonical form of a value."""

_PLAIN = {int, float, bool, str, bytes, complex, type(None)}
_VERSION = b"1"  # of the canonical form; another version is compared by value, not by digest


# --- parameters ----------------------------------------------------------------


def read_calls(parameters: Iterable[Any]) -> tuple[list[Any], list[Call]]:
    """Read a parameter list once and turn each entry into a call.

    Parameters
    ----------
    parameters
        Any iterable of entries: sequences of positional arguments, or mappings
        of keyword arguments.

    Returns
    -------
    list, list of Call
        The entries as they were given, and the calls.

    Raises
    ------
    TypeError
        For an entry that is neither, with the fix.
    """
    if isinstance(parameters, (str, bytes, Mapping)) or not isinstance(parameters, Iterable):
        msg = (
            "parameters must be a list with one entry of arguments for each call, such as "
            f"[[1, 4], [2, 5]]; got {shown(parameters)}"
        )
        raise TypeError(msg)
    entries = list(parameters)
    return entries, [_call(index, entry) for index, entry in enumerate(entries)]


def _call(index: int, entry: Any) -> Call:
    if type(entry) is list or type(entry) is tuple:
        return Call(index, tuple(entry), {})
    if isinstance(entry, Mapping):
        if not all(isinstance(key, str) for key in entry):
            msg = f"parameters[{index}] is a mapping of keyword arguments, so its keys must be strings: {shown(entry)}"
            raise TypeError(msg)
        return Call(index, (), dict(entry))
    is_row = isinstance(entry, (Sequence, np.ndarray)) and not isinstance(entry, (str, bytes, bytearray, memoryview))
    if is_row and getattr(entry, "ndim", 1) > 0:
        return Call(index, tuple(entry), {})
    msg = (
        f"parameters[{index}] is {shown(entry)}, but each entry must be a list of arguments: "
        f"write [{shown(entry)}] for a function of one argument, so [[1], [2]] and not [1, 2]"
    )
    raise TypeError(msg)


# --- the function ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FunctionIdentity:
    """What a checkpoint remembers of a function."""

    name: str
    """Its name, which is its identity."""
    key: Form
    """What stands beside the name: the code of a lambda, the bound arguments of a partial."""
    code: int
    """A digest of its code and the Python version that compiled it; 0 if it has none to see."""


def identify(func: Callable[..., Any]) -> FunctionIdentity:
    """Find out what identifies a function between runs.

    Parameters
    ----------
    func
        Any callable.

    Returns
    -------
    FunctionIdentity
        Its name, what belongs to the name, and a digest of its code.
    """
    bound: list[Form] = []
    while True:
        if isinstance(func, functools.partial):
            bound.append(form((func.args, func.keywords)))
            func = func.func
        elif isinstance(func, types.MethodType):
            bound.append(form(func.__self__))
            func = func.__func__
        else:
            break
    name = getattr(func, "__name__", None)
    if not isinstance(name, str):
        name = type(func).__name__
        bound.append(form(func))
        func = getattr(type(func), "__call__")  # noqa: B004 - its code, not whether it has one
    code = _code_form(func)
    if name == "<lambda>":
        bound.append(code or b"")
    key = hashlib.blake2b(b"".join(bound), digest_size=16).digest() if bound else b""
    return FunctionIdentity(name, key, _code_digest(code))


def codes_differ(one: int, other: int) -> bool:
    """Tell whether two code digests show different code: seen by the same Python, and not equal."""
    return bool(one and other) and one >> 48 == other >> 48 and one != other


def _code_digest(code: Form | None) -> int:
    if code is None:
        return 0
    python = sys.version_info.major << 8 | sys.version_info.minor
    (digest,) = struct.unpack("<Q", hashlib.blake2b(code, digest_size=8).digest())
    return python << 48 | int(digest) & (1 << 48) - 1


def _code_form(func: Any, seen: tuple[int, ...] = ()) -> Form | None:
    """Write a function's code, defaults and captured values; ``None`` if it is not Python's."""
    wrapped = getattr(func, "__wrapped__", None)
    if not isinstance(func, types.FunctionType):
        return _code_form(wrapped, seen) if wrapped is not None and wrapped is not func else None
    cells = [
        cell.cell_contents for cell in func.__closure__ or () if cell != types.CellType()
    ]
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
    return _tagged(b"c", code.co_code, names, *constants)


# --- the canonical form -------------------------------------------------------------


def fingerprint(identity: FunctionIdentity, calls: Sequence[Call]) -> bytes:
    """Digest a whole run: the same in every process for the same function and parameters.

    Parameters
    ----------
    identity
        The function.
    calls
        The calls, in order.

    Returns
    -------
    bytes
        32 bytes.
    """
    digest = hashlib.blake2b(_VERSION, digest_size=32)
    digest.update(_tagged(b"f", identity.name.encode(), identity.key))
    rows = [call.args for call in calls]
    if set(map(type, chain.from_iterable(rows))) <= _PLAIN and not any(call.kwargs for call in calls):
        digest.update(_plain_form(rows))
    else:
        for call in calls:
            digest.update(call_form(call))
    return digest.digest()


def _plain_form(rows: Sequence[tuple[Any, ...]]) -> Form:
    """Write rows of scalars at the speed of C: without its memo, pickle is canonical for them."""
    import io  # noqa: PLC0415

    out = io.BytesIO()
    pickler = pickle.Pickler(out, 5)
    pickler.fast = True
    rows = [tuple(float("nan") if value != value else value for value in row) for row in rows] if _has_nan(rows) else rows  # noqa: PLR0124
    pickler.dump(rows)
    return out.getvalue()


def _has_nan(rows: Sequence[tuple[Any, ...]]) -> bool:
    return any(value != value for value in chain.from_iterable(rows))  # noqa: PLR0124 - only NaN is not itself


def call_form(call: Call) -> Form:
    """Write one call's arguments in canonical form."""
    return _form((call.args, call.kwargs), ())


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


def _tagged(tag: bytes, *parts: bytes) -> Form:
    """Join parts so that no other parts give the same bytes."""
    lengths = struct.pack(f"<{len(parts) + 1}Q", len(parts), *map(len, parts))
    return b"".join([tag, lengths, *parts])


def _form(value: Any, seen: tuple[int, ...]) -> Form:  # noqa: PLR0911 - one line per kind of value
    kind = type(value)
    if kind in _PLAIN:
        return _scalar_form(value)
    if id(value) in seen:
        return _tagged(b"^", str(seen[::-1].index(id(value))).encode())
    seen = (*seen, id(value))
    if kind is tuple or kind is list:
        return _tagged(b"t" if kind is tuple else b"l", *(_form(item, seen) for item in value))
    if kind is dict:
        items = (_form(key, seen) + _form(item, seen) for key, item in value.items())
        return _tagged(b"d", *sorted(items))
    if kind is set or kind is frozenset:
        return _tagged(kind.__name__.encode(), *sorted(_form(item, seen) for item in value))
    if isinstance(value, (np.ndarray, np.generic)):
        return _array_form(value, seen)
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)):
        return _named_form(value, seen)
    if kind.__module__.startswith("pandas."):
        return _tagged(b"p", _name(kind), *(_form(part, seen) for part in _frame_parts(value)))
    return _object_form(value, seen)


def _scalar_form(value: Any) -> Form:
    if isinstance(value, (float, complex)):
        if value != value:  # noqa: PLR0124 - NaN
            value = type(value)("nan")
        return _tagged(b"n", type(value).__name__.encode(), repr(value).encode())
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    return _tagged(b"s", type(value).__name__.encode(), data)


def _array_form(value: Any, seen: tuple[int, ...]) -> Form:
    array = np.asarray(value)
    head = repr((type(value).__name__, array.dtype.descr if array.dtype.names else array.dtype.str, array.shape)).encode()
    if array.dtype.hasobject:
        return _tagged(b"o", head, *(_form(item, seen) for item in array.ravel().tolist()))
    if array.dtype.kind in "fc" and np.isnan(array).any():
        array = np.where(np.isnan(array), array.dtype.type("nan"), array)
    mask = [_array_form(np.ma.getmaskarray(value), seen)] if isinstance(value, np.ma.MaskedArray) else []
    return _tagged(b"a", head, np.ascontiguousarray(array).tobytes(), *mask)


def _name(value: Any) -> bytes:
    name = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', value.__name__)}"
    return name.encode()


def _named_form(value: Any, seen: tuple[int, ...]) -> Form:
    """Classes, modules and named functions are their names; other functions also their code."""
    code = b""
    if isinstance(value, types.FunctionType) and "<" in value.__qualname__:
        code = _code_form(value, seen) or b""
    return _tagged(b"N", _name(value), code)


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
        return _tagged(b"r", _name(type(value)), repr(value).encode())
    if isinstance(reduced, str):
        return _tagged(b"g", _name(type(value)), reduced.encode())
    maker, args, state, items, pairs = (*reduced, None, None, None)[:5]
    content = (
        args,
        state,
        None if items is None else list(items),
        None if pairs is None else dict(pairs),
    )
    return _tagged(b"O", _name(type(value)), _form(maker, seen), _form(content, seen))


# --- comparison ------------------------------------------------------------------------


def explain_function(saved: FunctionIdentity, now: FunctionIdentity) -> str | None:
    """Say how two functions differ in identity, or ``None``."""
    if saved.name != now.name:
        return f"the file holds results of {saved.name!r}, and this run is of {now.name!r}"
    if saved.key != now.key:
        what = "the code of the lambda" if now.name == "<lambda>" else "the bound arguments"
        return f"{what} of {now.name!r} differs from the one saved" if now.name == "<lambda>" else f"{what} of {now.name!r} differ from those saved"
    return None


def explain_calls(saved: Sequence[Call], now: Sequence[Call]) -> str | None:
    """Say where two parameter lists first differ, or ``None`` if they are the same.

    Parameters
    ----------
    saved, now
        The calls of the file and of this run.

    Returns
    -------
    str or None
        One sentence that names the call and the argument.
    """
    for one, other in zip(saved, now, strict=False):
        if not same_call(one, other):
            break
    else:
        if len(saved) == len(now):
            return None
        return f"the file holds {len(saved)} calls, and this run has {len(now)}; the first {min(len(saved), len(now))} are the same"
    reordered = len(saved) == len(now) and Counter(map(call_form, saved)) == Counter(map(call_form, now))
    prefix = "the same parameters stand in another order; " if reordered else ""
    if len(saved) != len(now):
        prefix = f"the file holds {len(saved)} calls, and this run has {len(now)}; "
    return f"{prefix}call {one.index} differs: {_first_difference(one, other)}"


def same_call(one: Call, other: Call) -> bool:
    """Compare two calls by value."""
    return _same((one.args, one.kwargs), (other.args, other.kwargs))


def _same(one: Any, other: Any) -> bool:
    if form(one) == form(other):
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return _says_equal(one, other)


def _says_equal(one: Any, other: Any) -> bool:
    """Ask objects that define equality themselves; caches in their state are not part of it."""
    if type(one).__module__ in {"builtins", "numpy"} or type(one).__eq__ is object.__eq__:
        return False
    try:
        return (one == other) is True
    except Exception:  # noqa: BLE001 - the user's __eq__ may do anything
        return False


def _first_difference(one: Call, other: Call) -> str:
    saved: dict[Any, Any] = {**dict(enumerate(one.args)), **one.kwargs}
    now: dict[Any, Any] = {**dict(enumerate(other.args)), **other.kwargs}
    for key in [*now, *saved]:
        if key not in saved:
            return f"argument {key!r} is new ({shown(now[key])})"
        if key not in now:
            return f"argument {key!r} is gone (it was {shown(saved[key])})"
        if not _same(saved[key], now[key]):
            return f"argument {key!r} was {shown(saved[key])} and is now {shown(now[key])}"
    return "its arguments"


def shown(value: Any) -> str:
    """Show a value in one short line; its type too, where the text alone may mislead.

    Parameters
    ----------
    value
        Anything.

    Returns
    -------
    str
        One line.
    """
    limit = config.resume_repr_chars
    shorten = reprlib.Repr()
    shorten.maxstring = shorten.maxother = limit
    try:
        text = " ".join(shorten.repr(value).split())
    except Exception:  # noqa: BLE001 - the user's __repr__ may do anything
        text = f"a {type(value).__qualname__}"
    return text if type(value) in _PLAIN else f"{text} ({type(value).__qualname__})"
