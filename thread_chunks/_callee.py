"""What a callable consists of: the functions that run when it is called, and the modules that they are of.

One rule: nothing of it is run, only looked at. This room knows what can be called, and nothing of
what their code reads.
"""

import functools
import types
from collections.abc import Iterator
from typing import Any

from ._bytecode import captured

_CALLABLE = {types.FunctionType, types.MethodType, functools.partial}
"""What is called as it is; anything else that can be called is an object with a class."""


class Callee:
    """The functions that a callable itself consists of, behind decorators, partials and objects.

    Parameters
    ----------
    func
        Any callable.
    """

    def __init__(self, func: Any) -> None:
        self.functions: list[types.FunctionType] = []
        self.classes: list[type] = []
        self.homes: dict[int, dict[str, Any]] = {}
        """The modules whose names are followed: that of the function, and not those of its decorators."""
        self._seen: dict[int, Any] = {}
        left = [func]
        while left:
            left += self._take(left.pop())
        if not self.homes:
            self.homes = {id(each.__globals__): each.__globals__ for each in self.functions}

    def _take(self, func: Any) -> list[Any]:
        """Take one of them; return what it hands its calls on to."""
        if id(func) in self._seen:
            return []
        self._seen[id(func)] = func
        within = list(inner(func))
        if type(func) is types.FunctionType:
            self.functions.append(func)
            self.classes += _class_of(func)
            if not within:
                self.homes[id(func.__globals__)] = func.__globals__
        elif issubclass(type(func), type):
            self.classes.append(func)
            made_by = (_method(func, name) for name in ("__new__", "__init__", "__post_init__"))
            self.functions += [each for each in made_by if is_written(each)]
        elif type(func) is types.MethodType:
            self.classes.append(func.__self__ if isinstance(func.__self__, type) else type(func.__self__))
        elif type(func) is not functools.partial and type(func).__module__ != "builtins":
            self.classes.append(type(func))
            call = _method(type(func), "__call__")
            self.functions += [call] if is_written(call) else []
        return within


def _method(kind: type, name: str) -> Any:
    return next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None)


def _class_of(func: types.FunctionType) -> list[type]:
    """Find the class that a function was taken from, if its name leads there."""
    first, *path = func.__qualname__.split(".")
    found: Any = func.__globals__.get(first)
    for name in path:
        if not issubclass(type(found), type):
            return []
        if vars(found).get(name) is func:
            return [found]
        found = vars(found).get(name)
    return []


def inner(func: Any) -> Iterator[Any]:
    """Give what a callable hands its calls on to, without running any code of it.

    Parameters
    ----------
    func
        Anything.

    Yields
    ------
    Any
        Functions mostly.
    """
    kind: Any = type(func)
    if kind is types.MethodType:
        yield func.__func__
        return
    if issubclass(kind, functools.partial):
        yield func.func
    if issubclass(kind, (type, types.ModuleType)):
        return
    try:
        held = object.__getattribute__(func, "__dict__")
    except AttributeError:
        return
    if kind is types.FunctionType:
        replaced = [each for each in captured(func).values() if _is_replaced(each)]
        if type(held.get("registry")) is types.MappingProxyType:  # of functools.singledispatch
            yield from (each for each in held["registry"].values() if type(each) in _CALLABLE)
        yield from [held["__wrapped__"]] if "__wrapped__" in held else replaced
    elif kind is functools.partialmethod:
        yield func.func
    elif type(held) is dict and "__wrapped__" in held:
        yield held["__wrapped__"]
    elif type(held) is dict:
        yield from (each for each in list(held.values()) if type(each) in _CALLABLE)


def _is_replaced(func: Any) -> bool:
    """Tell whether a function of a module is no longer found there: a decorator holds it."""
    if type(func) is not types.FunctionType or "<" in func.__qualname__:
        return False
    return func.__globals__.get(func.__qualname__) is not func and not _class_of(func)


def is_written(func: Any) -> bool:
    """Tell whether somebody wrote a function: those of a dataclass are made from its fields.

    Parameters
    ----------
    func
        Anything.

    Returns
    -------
    bool
        False for what is no Python function.
    """
    return type(func) is types.FunctionType and not func.__code__.co_qualname.startswith("__create_fn__")
