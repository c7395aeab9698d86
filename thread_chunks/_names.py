"""What a name stands for.

One rule: it stands for a function, a class or an object only if looking it up in its module
gives that very object, as pickle checks, too. Names can lie: those of functions that were made
by `exec` or by a decorator, and of what was defined anew since. This room knows modules, and
nothing of values.
"""

import pickle
import sys
import types
from contextlib import suppress
from typing import Any

from . import _script


def found(value: Any, name: str | None = None) -> str | None:
    """Return the name by which every process finds a value, with its module; ``None`` if there is none.

    Parameters
    ----------
    value
        A function, a class, a module, or any object that is known by a name.
    name
        The name in its module; by default its qualified name.
    """
    if isinstance(value, types.ModuleType):
        return value.__name__ if sys.modules.get(value.__name__) is value else None
    with suppress(Exception):  # a metaclass or a module may do anything
        name = value.__qualname__ if name is None else name
        module = pickle.whichmodule(value, name)  # type: ignore[attr-defined]  # the one that pickle looks into
        if any(_holds(each, name, value) for each in _spaces(module)) or _is_elsewhere(value, module):
            return f"{_script.known(module)}.{name}"
    return None


def _spaces(module: str) -> list[dict[str, Any]]:
    """Return the names of a module; of the script by all names that it goes by."""
    names = _script.NAMES if module in _script.NAMES else {module}
    found = [vars(sys.modules[each]) for each in names if sys.modules.get(each) is not None]
    return [*found, _script.names()] if module in _script.NAMES else found


def _holds(space: dict[str, Any], name: str, value: Any) -> bool:
    first, *rest = name.split(".")
    place = space.get(first)
    for part in rest:
        place = getattr(place, part, None)
    return place is value or (
        place is not None and getattr(place, "__func__", None) is value
    )  # a class method


def _is_elsewhere(value: Any, module: str) -> bool:
    """Whether a value is of a script that runs in another process, and travelled here: nothing can be looked up."""
    if module not in _script.NAMES or "<" in value.__qualname__:
        return False
    own = _spaces(module)
    return any(
        func.__globals__.get("__name__") in _script.NAMES
        and not any(func.__globals__ is each for each in own)
        and not func.__code__.co_filename.startswith("<")
        for func in _functions(value)
    )


def _functions(value: Any) -> list[types.FunctionType]:
    """Return a function, or the first of the methods of a class."""
    members = [value, *vars(value).values()] if isinstance(value, type) else [value]
    return [each for each in members if isinstance(each, types.FunctionType)][:1]


def is_of_module(func: types.FunctionType) -> bool:
    """Tell whether the globals of a function are those of a module that every process can import, or of the script."""
    if func.__code__.co_filename.startswith("<"):  # made from a text, in a namespace of its own or not
        return any(each is func.__globals__ for each in _spaces(func.__module__))
    if func.__module__ in _script.NAMES:
        return True
    module = sys.modules.get(func.__module__)
    return module is not None and vars(module) is func.__globals__
