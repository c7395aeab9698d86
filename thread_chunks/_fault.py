"""Which part of something cannot travel: the global, captured value, default or attribute at fault.

One rule: each part is tried by itself, and then its parts, until one fails that has none. This is done after
a failure only, so it may take long; it changes nothing and calls nothing of the user's but what pickling calls. This
room knows pickles, and nothing of workers.
"""

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from . import _classes
from ._by_value import dump
from ._parameters import shown

_DEEPEST = 12
_MOST = 1000  # parts of one value that are tried


def unpicklable_part(value: Any) -> str | None:
    """Say which part of a value cannot be pickled.

    Parameters
    ----------
    value
        What could not be.

    Returns
    -------
    str or None
        Where it is, from the outside in, and what; ``None`` if each part by itself can be pickled.
    """
    return _first(value, _fails_to_pickle)


def unreadable_part(value: Any) -> str | None:
    """Say which part of a value cannot be unpickled here; as `unpicklable_part`.

    Parameters
    ----------
    value
        What could not be unpickled elsewhere.

    Returns
    -------
    str or None
        Where it is, and what.
    """
    return _first(value, _fails_to_load)


def _first(value: Any, fails: Callable[[Any], bool]) -> str | None:
    places: list[str] = []
    seen = {id(value)}
    while len(places) < _DEEPEST:
        parts = ((place, part) for place, part in _parts(value) if id(part) not in seen)
        found = None
        with suppress(Exception):  # to go through an object of the user's may do anything
            found = next(((place, part) for place, part in islice(parts, _MOST) if fails(part)), None)
        if found is None:
            break
        places.append(found[0])
        value = found[1]
        seen.add(id(value))
    return f"{', '.join(places)} ({shown(value)})" if places else None


def _fails_to_pickle(value: Any) -> bool:
    try:
        dump(value)
    except Exception:  # noqa: BLE001 - pickling runs the user's code
        return True
    return False


def _fails_to_load(value: Any) -> bool:
    try:
        main, buffers = dump(value)
        _classes.load(main, buffers)
    except Exception:  # noqa: BLE001 - so does unpickling
        return True
    return False


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case types.FunctionType():
            yield from _parts_of_function(value)
        case functools.partial():
            yield "the function of the partial", value.func
            yield from ((f"argument {place} of the partial", each) for place, each in enumerate(value.args))
            yield from ((f"argument {name!r} of the partial", each) for name, each in value.keywords.items())
        case types.MethodType():
            yield "the object of the method", value.__self__
            yield "the function of the method", value.__func__
        case dict():
            yield from ((f"the key {shown(key)}", key) for key in value)
            yield from ((f"the value of {shown(key)}", each) for key, each in value.items())
        case list() | tuple():
            yield from ((f"item {place}", each) for place, each in enumerate(value))
        case set() | frozenset():
            yield from (("an item", each) for each in value)
        case types.ModuleType():
            return
        case _:
            yield from _attributes(value)


def _parts_of_function(func: types.FunctionType) -> Iterator[tuple[str, Any]]:
    own = f"of {func.__name__}()"
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=True):
        try:
            yield f"the captured value {name!r} {own}", cell.cell_contents
        except ValueError:  # it is empty
            continue
    names = func.__code__.co_varnames[: func.__code__.co_argcount]
    defaults = func.__defaults__ or ()
    given = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True)) | (
        func.__kwdefaults__ or {}
    )
    yield from ((f"the default of {name!r} {own}", each) for name, each in given.items())
    for name in sorted(_names(func.__code__)):
        if name in func.__globals__:
            yield f"the global {name!r} {own}", func.__globals__[name]
    yield from _attributes(func)


def _names(code: types.CodeType) -> set[str]:
    inner = [_names(const) for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*inner)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what pickle finds of an object without running its code: what its `__dict__` and its slots hold."""
    own: dict[str, Any] = getattr(value, "__dict__", None) or {}
    yield from ((f"the attribute {name!r}", each) for name, each in own.items())
    for kind in type(value).__mro__:
        for name, place in vars(kind).items():
            if type(place) is types.MemberDescriptorType and "__slots__" in vars(kind):
                try:
                    yield f"the attribute {name!r}", place.__get__(value)
                except AttributeError:  # it is empty
                    continue
