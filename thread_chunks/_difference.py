"""Where do two values first differ? Say it in words that a user understands.

One rule: what is compared is the canonical form, so a difference is named exactly
where the identity of a run sees one, and it is shown in few words however large the
values are. Every step goes one level deeper, into the first part that differs. This
room knows values and nothing of calls, functions or files.
"""

import dataclasses
import re
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from . import config
from ._canonical import form
from ._parameters import shown
from ._parts import array_bytes, is_pandas

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
    if was == is_now and isinstance(now, types.FunctionType):
        return f"{was} was saved, and one of that name with other code or captured values is asked for"
    if was == is_now:
        return f"{was} was saved, and one that looks the same but holds something else is asked for"
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
    if isinstance(saved, (type, types.ModuleType, *_FUNCTIONS)):
        return None
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
    return None


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
    shorter = min(len(saved), len(now))
    place = next((index for index in range(shorter) if saved[index] != now[index]), shorter)
    start = max(0, place - limit // 6)
    unit = "character" if isinstance(saved, str) else "byte"
    return f"from {unit} {start} on", saved[start : start + limit // 2], now[start : start + limit // 2]


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
    for label in ("columns", "index"):
        if not hasattr(type(saved), label):
            continue
        one, other = getattr(saved, label), getattr(now, label)
        if form(one) != form(other):
            yield f"its {label}", one.tolist(), other.tolist()
    one, other = getattr(saved, "name", None), getattr(now, "name", None)
    if not hasattr(type(saved), "columns") and form(one) != form(other):
        yield "its name", one, other


def _row(saved: Any, now: Any) -> Found:
    if saved.dtype != now.dtype:
        return None
    places = np.flatnonzero(_differing(saved, now))
    return (f"row {places[0]}", saved[places[0]], now[places[0]]) if len(places) else None


def _attributes(saved: Any, now: Any) -> Found:
    """Look into an object: its fields, or what else it holds."""
    what = "field" if dataclasses.is_dataclass(saved) else "attribute"
    names = [field.name for field in dataclasses.fields(saved)] if what == "field" else []
    names += [name for name in getattr(saved, "__dict__", ()) if name not in names]
    names += [name for name in getattr(now, "__dict__", ()) if name not in names]
    missing = object()
    get: Callable[[Any, str], Any] = lambda value, name: getattr(value, name, missing)  # noqa: E731 - a default for both
    for name in names:
        one, other = get(saved, name), get(now, name)
        if one is missing or other is missing:
            return f"{what} {name!r} is {'new' if one is missing else 'gone'}"
        if form(one) != form(other):
            return f"{what} {name!r}", one, other
    return None
