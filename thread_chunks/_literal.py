"""The text of a value: what Python would write, whole, so that `ast.literal_eval` reads it back.

One rule: nothing is cut short, and no digit and no unit is lost. NumPy's values are written as
Python's, at every depth; a quantity is its value and its unit; a frame is what makes it again. What
a value is, its type says: an object that answers to every name is taken for nothing else. This
room knows values, and nothing of tables and files.
"""

import collections
import dataclasses
import enum
import math
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

_LONG = (np.longdouble, np.clongdouble)
_LIKE_DICT = (collections.OrderedDict, collections.defaultdict, collections.Counter)
_TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "polars": ("to_dict", {"as_series": False}), "pyarrow": ("to_pydict", {}), "xarray": ("to_dict", {}),
}  # fmt: skip
"""How the tables of other packages are taken apart, whose `repr` leaves out most of them."""


class Written(NamedTuple):
    """The text of a value, and what it is worth."""

    text: str
    is_whole: bool
    """Whether the value is all in it: a ``repr`` of others that leaves something out looks like one."""


def written(value: Any) -> Written:
    """Write a value.

    Parameters
    ----------
    value
        Anything.

    Returns
    -------
    Written
        Its text, and whether that is all of it; a text inside of another value is in quotes.
    """
    text = _Text()
    try:
        with suppress(RecursionError):
            return Written(text.of(value), text.is_whole)
        return Written(_repr(value), is_whole=True)  # Python's own goes deeper
    except (Exception, SystemExit):  # noqa: BLE001 - the user's __repr__ may do anything; RecursionError for what is nested too deeply
        return Written(f"a {type(value).__qualname__}", is_whole=False)


def _is_plain(dtype: Any) -> bool:
    """Tell whether a NumPy type is one of numbers that an ``int`` or a ``float`` holds exactly."""
    return dtype.kind in "biuf" and dtype.type is not np.longdouble


def _repr(value: Any) -> str:
    """Have NumPy show everything, and its numbers as Python's."""
    legacy = {"legacy": "1.25"} if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else {}
    options: dict[str, Any] = {"threshold": sys.maxsize, "floatmode": "unique", **legacy}
    with np.printoptions(**options):
        return repr(value)


class _Text:
    """Writes one value; it knows where it is inside of it."""

    def __init__(self) -> None:
        self._around: set[int] = set()
        self.is_whole = True

    def of(self, value: Any) -> str:
        """Write a value, which may stand in itself."""
        kind = type(value)
        write = _ATOMS.get(kind)
        if write is not None:
            return write(value)
        if id(value) in self._around:
            self.is_whole = False
            return "..."
        self._around.add(id(value))
        try:
            return self._parts(value, kind)
        finally:
            self._around.discard(id(value))

    def _parts(self, value: Any, kind: type) -> str:
        if issubclass(kind, (np.ndarray, np.generic)):
            return self._numpy(value, kind)
        if issubclass(kind, dict) and (kind.__repr__ is dict.__repr__ or kind in _LIKE_DICT):
            return f"{{{', '.join(f'{self.of(key)}: {self.of(each)}' for key, each in dict.items(value))}}}"
        for builtin, (opening, closing) in _BRACKETS.items():
            if kind is builtin or (issubclass(kind, builtin) and kind.__repr__ is builtin.__repr__):
                return self._several(value, builtin, opening, closing)
        return self._record(value, kind) or self._foreign(value, kind)

    def _record(self, value: Any, kind: type) -> str | None:
        """Write what the standard library made a class for, as its `repr` would."""
        if issubclass(kind, tuple) and hasattr(kind, "_fields") and _module(kind.__repr__) == "collections":
            return self._called(kind, zip(kind._fields, tuple.__iter__(value), strict=True))
        if issubclass(kind, enum.Enum) and value.name:
            return f"{kind.__qualname__}.{value.name}"
        if dataclasses.is_dataclass(kind) and _has_made_repr(kind):
            names = [field.name for field in dataclasses.fields(kind) if field.repr]
            return self._called(kind, ((name, getattr(value, name)) for name in names))
        return None

    def _several(self, value: Any, builtin: type, opening: str, closing: str) -> str:
        if builtin in {set, frozenset} and not value:
            return f"{builtin.__name__}()"
        comma = "," if builtin is tuple and len(value) == 1 else ""
        return f"{opening}{', '.join(map(self.of, value))}{comma}{closing}"

    def _called(self, kind: type, fields: Iterable[tuple[str, Any]]) -> str:
        return f"{kind.__qualname__}({', '.join(f'{name}={self.of(each)}' for name, each in fields)})"

    def _numpy(self, value: Any, kind: type) -> str:
        if issubclass(kind, np.ndarray):
            unit = None if _module(kind).startswith("numpy") else _unit(value)
            bare = value if issubclass(kind, np.ma.MaskedArray) else np.asarray(value)
            return self._array(bare) if unit is None else self._quantity(bare, unit)
        if value.dtype.names is not None:
            return self.of(tuple(value[name] for name in value.dtype.names))
        if value.dtype.kind in "mM":
            return repr(str(value))  # with all its digits, and its unit
        if issubclass(kind, _LONG):
            return _long_text(value)
        return self.of(value.item())

    def _array(self, array: Any) -> str:
        if isinstance(array, np.ma.MaskedArray):
            return self.of(array.tolist())
        if not array.ndim:
            return self.of(array[()])
        if _is_plain(array.dtype) and (array.dtype.kind != "f" or np.isfinite(array).all()):
            return repr(array.tolist())
        return self.of(list(array))

    def _quantity(self, bare: Any, unit: Any) -> str:
        """Write a value with a unit: its `repr` would leave out digits, and `tolist` the unit."""
        return f"{{'value': {self.of(bare)}, 'unit': {str(unit)!r}}}"

    def _foreign(self, value: Any, kind: type) -> str:
        """Write an object of another package, or of the user's."""
        families = {_module(base).partition(".")[0] for base in kind.__mro__}
        if "pandas" in families and (kind.__name__ in _MISSING or hasattr(kind, "__iter__")):
            return self._pandas(value, kind)
        for family in families & _TABLES.keys():
            method, options = _TABLES[family]
            if hasattr(kind, method):
                return self.of(getattr(value, method)(**options))
        if hasattr(kind, "magnitude") and hasattr(kind, "units"):
            return self._quantity(value.magnitude, value.units)
        for method in ("tolist", "to_list", "to_pylist"):
            if hasattr(kind, "__array__") and hasattr(kind, method):
                return self.of(getattr(value, method)())
        text = _repr(value)
        self.is_whole = self.is_whole and "..." not in text and not text.startswith("<")
        return text

    def _pandas(self, value: Any, kind: type) -> str:
        """Write what makes it again: ``DataFrame(**literal)``, ``Series(**literal)``."""
        if kind.__name__ in _MISSING:
            return "None"
        if hasattr(kind, "columns"):
            columns = [list(value.iloc[:, place]) for place in range(value.shape[1])]
            rows = list(map(list, zip(*columns, strict=True))) if columns else [[] for _ in value.index]
            parts = {"index": list(value.index), "columns": list(value.columns), "data": rows}
        elif hasattr(kind, "index"):
            parts = {"index": list(value.index), "data": list(value), "name": value.name}
        else:
            return self.of(list(value))
        return self.of(parts)


def _int_text(value: int) -> str:
    with suppress(ValueError):
        return repr(value)
    return hex(value)  # Python refuses to write so many digits otherwise, and to read them


def _float_text(value: float) -> str:
    return repr(value) if math.isfinite(value) or value != value else repr(value).replace("inf", "1e999")  # noqa: PLR0124 - NaN


def _complex_text(value: complex) -> str:
    if math.isfinite(value.real) and math.isfinite(value.imag):
        return repr(value)
    imaginary = _float_text(value.imag)
    return f"({_float_text(value.real)}{'' if imaginary[0] == '-' else '+'}{imaginary}j)"


def _long_text(value: Any) -> str:
    """Write a number of more digits than a float has; whoever wants them reads the text with NumPy."""
    if not isinstance(value, np.complexfloating):
        return str(value) if np.isfinite(value) else _float_text(float(value))
    imaginary = _long_text(value.imag)
    return f"({_long_text(value.real)}{'' if imaginary[0] == '-' else '+'}{imaginary}j)"


def _fraction_text(value: Fraction) -> str:
    return f"Fraction({_int_text(value.numerator)}, {_int_text(value.denominator)})"


_ATOMS: dict[type, Callable[[Any], str]] = {
    bool: repr, type(None): repr, str: repr, bytes: repr,
    int: _int_text, float: _float_text, complex: _complex_text, Fraction: _fraction_text,
}  # fmt: skip
_BRACKETS = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), frozenset: ("frozenset({", "})")}
_MISSING = {"NAType", "NaTType"}


def _has_made_repr(kind: type) -> bool:
    """Tell whether the `repr` of a dataclass is the one that was made for it; a user's own says what it likes."""
    made = getattr(kind.__repr__, "__wrapped__", None)
    return "__create_fn__" in getattr(made, "__qualname__", "")


def _unit(value: Any) -> Any:
    """Return the unit of an array of another package, if it has one."""
    unit = getattr(value, "unit", None)
    return getattr(value, "units", None) if unit is None else unit


def _module(thing: Any) -> str:
    return str(getattr(thing, "__module__", ""))
