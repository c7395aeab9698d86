"""Where do two values first differ? Say it in words that a user understands.

One rule: what is compared is the canonical form, so a difference is named exactly
where the identity of a run sees one, and it is shown in few words however large the
values are. Every step goes one level deeper, into the first part that differs. This
room knows values and nothing of calls, functions or files.
"""

import dataclasses
import re
import types
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from . import _wire, config
from ._arrays import array_bytes, is_pandas
from ._canonical import form
from ._parameters import shown
from ._parts import attributes, parts

Found: TypeAlias = "tuple[str, Any, Any] | str | None"
"""The part that differs and its two values; or what differs, said; or ``None`` where there is nothing inside."""

_DEEPEST = 20
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)


def explain(where: str, saved: Any, now: Any) -> str:
    """Say where two values that differ do so first.

    Parameters
    ----------
    where
        What the values are, such as "argument 2".
    saved, now
        The value of the file, and that of this run.

    Returns
    -------
    str
        Such as "argument 2, key 'alpha', item 3: 0.1 was saved, 0.2 is asked for".
    """
    path = [where]
    for _ in range(_DEEPEST):
        found = _look_inside(saved, now) if type(saved) is type(now) else None
        if found is None:
            break
        if isinstance(found, str):
            return f"{_joined(path)}: {found}"
        label, saved, now = found
        path.append(label)
    return f"{_joined(path)}: {changed(saved, now)}"


def changed(saved: Any, now: Any) -> str:
    """Say what a value was and what it is, with the types where those tell the difference.

    Parameters
    ----------
    saved, now
        The value of the file, and that of this run.

    Returns
    -------
    str
        Such as "1 (int) was saved, 1.0 (float) is asked for".
    """
    was, is_now = _text(saved), _text(now)
    if type(saved) is not type(now):
        one, other = type(saved), type(now)
        names = one.__qualname__, other.__qualname__
        if names[0] == names[1]:
            names = f"{one.__module__}.{names[0]}", f"{other.__module__}.{names[1]}"
        was, is_now = f"{was} ({names[0]})", f"{is_now} ({names[1]})"
    if was == is_now:
        return f"{was} was saved, and another one that shows itself so is asked for"
    return f"{was} was saved, {is_now} is asked for"


def _joined(path: Sequence[str]) -> str:
    """Write a way into a value; of a very long one only both ends."""
    text = ", ".join(path)
    if len(path) > 2 and len(text) > 2 * config.resume_repr_chars:  # noqa: PLR2004 - both ends and something between
        return f"{path[0]}, ..., {path[-1]}"
    return text


def _text(value: Any) -> str:
    if isinstance(value, _FUNCTIONS):
        return f"the function {value.__qualname__}"
    if isinstance(value, np.generic):
        return shown(_Bare(value))
    return _ADDRESS.sub("", shown(value))


class _Bare:
    """A value that shows itself without its type, which is said beside it where it matters."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return str(self._value)


def _look_inside(saved: Any, now: Any) -> Found:  # noqa: PLR0911 - one line for each kind of value
    if isinstance(saved, (list, tuple)):
        return _items(saved, now)
    if isinstance(saved, dict):
        return _keys(saved, now)
    if isinstance(saved, (set, frozenset)):
        return _members(saved, now)
    if isinstance(saved, (str, bytes)):
        return _characters(saved, now)
    if isinstance(saved, np.ndarray):
        return _array(saved, now)
    if is_pandas(saved):
        return _frame(saved, now)
    if isinstance(saved, types.CodeType):
        return f"it says something else in {saved.co_name}()" if saved.co_name == now.co_name else None
    if isinstance(saved, (type, types.ModuleType, *_FUNCTIONS)):
        return _part(saved, now)
    return _attributes(saved, now)


def _items(saved: Sequence[Any], now: Sequence[Any]) -> Found:
    for index, (one, other) in enumerate(zip(saved, now, strict=False)):
        if form(one) != form(other):
            return f"item {index}", one, other
    return _count("item", len(saved), len(now))


def _count(what: str, saved: int, now: int) -> str | None:
    if saved == now:
        return None
    were = f"1 {what} was" if saved == 1 else f"{saved} {what}s were"
    return f"{were} saved, {now} {'is' if now == 1 else 'are'} asked for"


def _keys(saved: dict[Any, Any], now: dict[Any, Any]) -> Found:
    known = {form(key): key for key in saved}
    for key, value in now.items():
        if (same := known.pop(form(key), known)) is known:
            return f"key {shown(key)} is new ({_text(value)})"
        if form(saved[same]) != form(value):
            return f"key {shown(key)}", saved[same], value
    for key in known.values():
        return f"key {shown(key)} is gone (it was {_text(saved[key])})"
    if isinstance(saved, OrderedDict) and form(list(saved)) != form(list(now)):
        return "the order of its keys", list(saved), list(now)
    return _attributes(saved, now) if type(saved) is not dict else None


def _members(saved: Iterable[Any], now: Iterable[Any]) -> Found:
    one, other = ({form(value): _text(value) for value in values} for values in (saved, now))
    parts = [
        f"element {min(texts)} is {what}" + (f", and {len(texts) - 1} more" if texts[1:] else "")
        for what, texts in (
            ("gone", [text for key, text in one.items() if key not in other]),
            ("new", [text for key, text in other.items() if key not in one]),
        )
        if texts
    ]
    return "; ".join(parts) or None


def _characters(saved: Any, now: Any) -> Found:
    """Show of long texts the place where they part."""
    limit = config.resume_repr_chars
    if max(len(saved), len(now)) + 3 <= limit:
        return None
    place = _parting(saved, now)
    start = max(0, place - limit // 6)
    unit = "character" if isinstance(saved, str) else "byte"
    return f"from {unit} {start} on", saved[start : start + limit // 2], now[start : start + limit // 2]


def _parting(saved: Any, now: Any) -> int:
    """Return how much two texts have in common, by halving: each half is compared at the speed of C."""
    same, shorter = 0, min(len(saved), len(now))
    end = shorter
    while same < end:
        middle = (same + end + 1) // 2
        if saved[same:middle] == now[same:middle]:
            same = middle
        else:
            end = middle - 1
    return same


def _array(saved: Any, now: Any) -> Found:
    if saved.dtype != now.dtype:
        return f"an array of {saved.dtype} was saved, one of {now.dtype} is asked for"
    if saved.shape != now.shape:
        return f"an array of shape {saved.shape} was saved, one of shape {now.shape} is asked for"
    for name in saved.dtype.names or ():
        if form(saved[name]) != form(now[name]):
            return f"field {name!r}", np.asarray(saved[name]), np.asarray(now[name])
    if isinstance(saved, np.ma.MaskedArray) and form(one := np.ma.getmaskarray(saved)) != form(
        other := np.ma.getmaskarray(now)
    ):
        return "its mask", one, other
    return _element(np.asarray(saved), np.asarray(now))


def _element(saved: Any, now: Any) -> Found:
    places = np.flatnonzero(_differing(saved, now))
    if not len(places):
        return None
    place = int(places[0])
    index = ", ".join(str(number) for number in np.unravel_index(place, saved.shape))
    label = f"element [{index}] of an array of shape {saved.shape}"
    if len(places) > 1:
        label += f", the first of {len(places)} that differ"
    return label, saved.reshape(-1)[place], now.reshape(-1)[place]


def _differing(saved: Any, now: Any) -> Any:
    """Tell for every element of two arrays of one type and shape whether it differs."""
    differs = np.zeros(saved.size, bool)
    if saved.dtype.hasobject or saved.dtype.names is not None:
        pairs = zip(saved.reshape(-1), now.reshape(-1), strict=True)
        return np.fromiter((form(one) != form(other) for one, other in pairs), bool, saved.size)
    for one, other in zip(array_bytes(saved), array_bytes(now), strict=True):
        if not isinstance(one, np.ndarray):  # of no fixed width: element by element
            pairs = zip(saved.reshape(-1).tolist(), now.reshape(-1).tolist(), strict=True)
            return np.fromiter((repr(a) != repr(b) for a, b in pairs), bool, saved.size)
        if saved.size:
            differs |= (one.reshape(saved.size, -1) != other.reshape(saved.size, -1)).any(axis=1)
    return differs


def _frame(saved: Any, now: Any) -> Found:
    """Look at labels before values: a frame with one row more has other labels, too."""
    if len(saved) != len(now):
        return _count("row", len(saved), len(now))
    for found in _labels(saved, now):
        return found
    if hasattr(type(saved), "columns"):
        for number, name in enumerate(saved.columns):
            one, other = saved.iloc[:, number], now.iloc[:, number]
            if form(one) != form(other):
                return f"column {shown(name)}", one, other
        return None
    if str(saved.dtype) != str(now.dtype):
        return f"values of {saved.dtype} were saved, values of {now.dtype} are asked for"
    return _row(saved.to_numpy(), now.to_numpy())


def _labels(saved: Any, now: Any) -> Iterator[Found]:
    for label in ("columns", "index", "attrs"):
        if not hasattr(type(saved), label):
            continue
        one, other = getattr(saved, label), getattr(now, label)
        if form(one) == form(other):
            continue
        if label == "attrs":
            yield "its attrs", one, other
        elif form(one.tolist()) != form(other.tolist()):
            yield f"its {label}", one.tolist(), other.tolist()
        else:
            yield f"its {label} was {_described(one)}, now it is {_described(other)}"
    if hasattr(type(saved), "name") and form(saved.name) != form(now.name):
        yield "its name", saved.name, now.name


def _described(index: Any) -> str:
    names = f" named {index.name!r}" if index.name is not None else ""
    freq = f" of frequency {index.freq}" if hasattr(type(index), "freq") else ""
    return f"a {type(index).__name__} of {index.dtype}{names}{freq}"


def _row(saved: Any, now: Any) -> Found:
    if saved.dtype != now.dtype:
        return None
    places = np.flatnonzero(_differing(saved, now))
    return (f"row {places[0]}", saved[places[0]], now[places[0]]) if len(places) else None


_LABELS = {
    b"F": ("its code", "its defaults", "its defaults of keywords", "what it captured", "its attributes", "the globals that it reads"),
    b"O": ("what it is made of", "its state", "its items", "its keys"),
    b"m": ("its function", "its object"),
    b"C": ("its function", "its parameters", "its attributes"),
    b"K": ("its metaclass", "its name", "its bases", "what it defines"),
}  # fmt: skip
"""What the parts of a value are called, by its kind."""


def _attributes(saved: Any, now: Any) -> Found:
    """Look into an object: its fields, or what else it holds; no code of its class is run."""
    one, other = attributes(saved), attributes(now)
    what = "field" if dataclasses.is_dataclass(saved) else "attribute"
    fields = [field.name for field in dataclasses.fields(saved)] if what == "field" else []
    for name in dict.fromkeys([*fields, *one, *other]):
        if (name in one) != (name in other):
            return f"{what} {name!r} is {'gone' if name in one else 'new'}"
        if name in one and form(one[name]) != form(other[name]):
            return f"{what} {name!r}", one[name], other[name]
    return _part(saved, now)


def _part(saved: Any, now: Any) -> Found:
    """Find the part that differs where nothing has a name that the user knows."""
    if type(saved) in _wire.PLAIN or isinstance(saved, np.generic):
        return None
    one, other = parts(saved), parts(now)
    if one.tag != other.tag or one.tag not in _LABELS:
        return None
    values = (one.values[1][1:], other.values[1][1:]) if one.tag == b"O" else (one.values, other.values)
    for name, was, is_now in zip(_LABELS[one.tag], *values, strict=False):
        if form(was) != form(is_now):
            return name, was, is_now
    return None
