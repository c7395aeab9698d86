"""What a function's results depend on, beside its parameters, by name; and what of that changed, in words.

One rule: a value is a setting if nobody can change it, only put another in its place. This
room knows values and nothing of the code that reads them.
"""

import datetime as dt
import enum
import io
import operator
import pathlib
import pickle
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from . import _wire
from ._canonical import Form, form, tagged

_SCALARS = {bool, int, float, complex, str, bytes, type(None), type(...)}
_DATES = {dt.date, dt.time, dt.datetime, dt.timedelta}
_PATHS = {pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath}
_WHOLE_TEXTS = {Decimal, Fraction, range, *_DATES, *_PATHS}  # their repr says all
DEEPEST = 10  # what is nested more deeply is no setting, and no table of functions
_MOST_NAMED = 3  # in a warning; more would hide how many results it concerns


class Watched(NamedTuple):
    """Something that a function's results depend on, beside its parameters."""

    name: str
    """As the script says it: `SCALE`, `helper()`, `Model.fit()`; empty for the function's own code."""
    key: Form
    """Its value, or its code."""
    text: str
    """What to show of a value; empty for code, which only the same Python compiles alike."""


class Changes(NamedTuple):
    """What of a function changed."""

    is_own: bool = True
    """Whether its own code did, as far as is known."""
    text: str = ""
    """What else did, in words."""

    def __bool__(self) -> bool:
        """Tell whether anything did."""
        return self.is_own or bool(self.text)


def changes(saved: Iterable[Watched], now: Iterable[Watched]) -> Changes:
    """Say what of a function changed.

    Parameters
    ----------
    saved, now
        What is watched of it.

    Returns
    -------
    Changes
        At most a few of them by name.
    """
    one, other = {each.name: each for each in saved}, {each.name: each for each in now}
    changed = [name for name in sorted(one.keys() & other.keys()) if one[name].key != other[name].key]
    said = [_said(name, one[name].text, other[name].text) for name in changed if name]
    if not changed:  # else names come and go with the code
        said += [f"{name} is gone" for name in sorted(one.keys() - other.keys())]
        said += [f"{name} is new" for name in sorted(other.keys() - one.keys())]
    more = [f"and {len(said) - _MOST_NAMED} more"] if len(said) > _MOST_NAMED else []
    return Changes("" in changed, "; ".join(said[:_MOST_NAMED] + more))


def _said(name: str, saved: str, now: str) -> str:
    return f"{name} changed" if saved == now else f"{name}: {saved} was saved, {now} now"


def changed_values(saved: Iterable[Watched], now: Iterable[Watched]) -> Changes:
    """Say which values changed, whichever Python compiled the code around them.

    Parameters
    ----------
    saved, now
        What is watched of a function.

    Returns
    -------
    Changes
        Of the values that both name.
    """
    one, other = ([each for each in many if each.text] for many in (saved, now))
    both = {each.name for each in one} & {each.name for each in other}
    return changes(*([each for each in many if each.name in both] for many in (one, other)))


def is_plain(value: Any) -> bool:
    """Tell whether a value is plain: nobody can change it, only put another in its place.

    Parameters
    ----------
    value
        Anything.

    Returns
    -------
    bool
        True for numbers, texts, dates, members of enumerations, and tuples, frozen sets and frozen dataclasses of them.
    """
    return _is_plain(value, 0)


def _is_plain(value: Any, level: int) -> bool:
    kind = type(value)
    if kind in _SCALARS or kind in _WHOLE_TEXTS:
        return True
    if issubclass(kind, (np.generic, enum.Enum)):
        return not issubclass(kind, np.void)
    if level == DEEPEST:
        return False
    if _is_frozen(kind):
        return all(_is_plain(_attribute(value, each), level + 1) for each in kind.__dataclass_fields__)
    if not issubclass(kind, (tuple, frozenset)):
        return False
    return set(map(type, value)) <= _SCALARS or all(_is_plain(each, level + 1) for each in value)


def _pickled(value: Any) -> bytes:
    """Write scalars at the speed of C: without its memo, pickle is canonical for them."""
    out = io.BytesIO()
    pickler = pickle.Pickler(out, 5)
    pickler.fast = True
    pickler.dump(value)
    return out.getvalue()


def _attribute(value: Any, name: str) -> Any:
    """Return an attribute; what is not there is as good as what is not plain."""
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return value.__class__


def _is_frozen(kind: Any) -> bool:
    return bool(getattr(vars(kind).get("__dataclass_params__"), "frozen", False))


def value_form(value: Any) -> Form:
    """Write a plain value: in every Python alike, where pickle changed what it keeps of a kind.

    Parameters
    ----------
    value
        For which `is_plain` is true.

    Returns
    -------
    bytes
        Equal for equal values of one type.
    """
    kind = type(value)
    if kind in _WHOLE_TEXTS:
        return tagged(b"x", kind.__name__.encode(), repr(value).encode("utf-8", "surrogatepass"))
    if kind is tuple and set(map(type, value)) <= _wire.PLAIN and all(map(operator.eq, value, value)):
        return tagged(b"q", _pickled(value))
    if kind is tuple:
        return tagged(b"t", *map(value_form, value))
    if kind is frozenset:
        return tagged(b"s", *sorted(map(value_form, value)))
    if issubclass(kind, enum.Enum):
        return tagged(b"e", str(value.name).encode(), form(value.value))
    return form(value)
