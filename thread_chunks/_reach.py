"""What a function reaches in its module: the settings that it reads, and the functions that it calls.

One rule: what is watched is what can be told without a guess, and what no call changes:
plain values, and code of the function's own module. Names are followed from the function
through everything that it calls there. This room knows functions and nothing of files.
"""

import contextlib
import dataclasses
import enum
import functools
import hashlib
import itertools
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ._bytecode import captured, defaults, function_form, names
from ._callee import Callee, inner, is_written
from ._canonical import Form, tagged
from ._parameters import shown
from ._settings import DEEPEST, Watched, is_plain, value_form

_NAMED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, np.ufunc)
_OF_MODULES = {"__name__", "__file__", "__doc__", "__package__", "__spec__", "__loader__", "__builtins__"}
_PICKLING = {
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__setstate__",
    "__getnewargs__",
    "__getnewargs_ex__",
}
_NOT_CALLED = _PICKLING | {"__annotate__", "__annotate_func__"}  # these are functions since Python 3.14
_TABLES = {list, set, dict}
_MOST_ITEMS = 10_000  # of a table of functions; a longer one is data


def watched(func: Any) -> tuple[Watched, ...]:
    """Find what the results of a function depend on, through everything that it calls in its module.

    Parameters
    ----------
    func
        Any callable.

    Returns
    -------
    tuple of Watched
        Sorted by name, its own code first; empty if there is no Python code to see.
    """
    own = Callee(func)
    if not own.functions:
        return ()
    reading = _Reading(own, set())
    while not reading.written <= reading.ignored:  # what a helper writes is known when all were read
        reading = _Reading(own, reading.ignored | reading.written)
    return reading.watched()


class _Reading:
    """One walk from a function through what it reads."""

    def __init__(self, own: Callee, ignored: set[tuple[int, str]]) -> None:
        self.ignored = ignored
        """Names that the code writes: their values are no settings."""
        self.written: set[tuple[int, str]] = set()
        self._homes = own.homes
        self._names = {each.get("__name__"): each for each in own.homes.values()}
        self._own = own.functions
        self._classes: dict[int, type] = {}
        self._attributes: set[str] = set()
        self._seen = set(map(id, own.functions))
        self._met: dict[tuple[str, int], Any] = {}
        self._found: dict[str, dict[Form, str]] = {}
        self._left = list(own.functions)
        for each in own.classes:
            self._take_class(each)
        for func in own.functions:
            self._take_values(func)
        self._read()

    def watched(self) -> tuple[Watched, ...]:
        """Return what was found."""
        own = tagged(b"B", *(function_form(each, self._other(each)) for each in self._own))
        found = [Watched("", _digest([own]), "")]
        for name, forms in sorted(self._found.items()):
            found.append(
                Watched(name, _digest(sorted(forms)), ", ".join(sorted(filter(None, forms.values()))))
            )
        return tuple(found)

    def _read(self) -> None:
        known = -1
        while known != len(self._classes) + len(self._attributes) + len(self._seen):
            known = len(self._classes) + len(self._attributes) + len(self._seen)
            while self._left:
                self._follow(self._left.pop())
            for each in list(self._classes.values()):
                self._take_members(each)

    def _follow(self, func: types.FunctionType) -> None:
        """Take what the code of a function names."""
        home = self._home(func)
        if home is None:
            return
        read, written, attributes, changed = names(func.__code__)
        self.written |= {(id(home), name) for name in written} | {(0, name) for name in changed}
        self._attributes |= attributes
        for name in read - _OF_MODULES:
            if name in home and (id(home), name) not in self.ignored:
                self._take(name, home[name])

    def _home(self, func: types.FunctionType) -> dict[str, Any] | None:
        """Find the module of a function, if it is followed: one that travelled has a copy of its globals."""
        names = func.__globals__
        return names if id(names) in self._homes else self._names.get(names.get("__name__"))

    def _take(self, name: str, value: Any) -> None:
        """Take what stands behind a name, if it can be watched: classes of a script may fail when they are asked."""
        with contextlib.suppress(Exception):
            self._take_any(name, value)

    def _take_any(self, name: str, value: Any) -> None:
        if is_plain(value):
            self._found.setdefault(name, {})[value_form(value)] = shown(value)
            self._take_class(type(value))
        elif (name, id(value)) not in self._met:
            self._met[name, id(value)] = value
            self._take_what_is_called(name, value)

    def _take_name(self, name: str, value: Any) -> None:
        """Take a function, class or module as what it is called: another one may stand behind a name."""
        module = value.__name__ if issubclass(type(value), types.ModuleType) else _module(value)
        if module not in self._names or issubclass(type(value), type):
            called = str(getattr(value, "__qualname__", value.__name__))
            package = (
                "" if module in self._names else module.partition(".")[0]
            )  # inside of one, modules are moved
            key = tagged(b"n", package.encode(), called.encode())
            self._found.setdefault(name, {})[key] = (
                f"{module}.{called}" if package and called != module else called
            )

    def _take_what_is_called(self, name: str, value: Any) -> None:
        kind: Any = type(value)
        if issubclass(kind, _NAMED):
            self._take_name(name, value)
        if kind is types.FunctionType:
            self._take_function(name, value)
        elif issubclass(kind, type):
            self._take_class(value)
        elif issubclass(kind, (tuple, frozenset)):
            for each in value:
                self._take(name, each)
        elif kind in _TABLES:
            self._take_table(name, value)
        else:
            self._take_object(name, value)

    def _take_table(self, name: str, table: Any, level: int = 0) -> None:
        """Take the functions and classes of a table; its values are none, as calls may change them."""
        if level > DEEPEST or len(table) > _MOST_ITEMS:
            return
        for each in list(table.values() if type(table) is dict else table):
            if (name, id(each)) in self._met:
                continue
            self._met[name, id(each)] = each
            if type(each) in _TABLES or type(each) in {tuple, frozenset}:
                self._take_table(name, each, level + 1)
            elif not is_plain(each):
                self._take_what_is_called(name, each)

    def _take_function(self, name: str, func: types.FunctionType) -> None:
        if not is_written(func):
            return
        for each in inner(func):
            self._take(name, each)
        if self._home(func) is None or any(func is each for each in self._own):
            return
        values = {key: value for key, value in (defaults(func) | captured(func)).items() if is_plain(value)}
        self._found.setdefault(f"{name}()", {})[function_form(func, values)] = ""
        if id(func) not in self._seen:
            self._seen.add(id(func))
            self._left.append(func)
            for key, value in (defaults(func) | captured(func)).items():
                if not is_plain(value):
                    self._take(key, value)

    def _take_object(self, name: str, value: Any) -> None:
        if type(value) in {functools.partial, functools.partialmethod}:
            for bound in (*value.args, *value.keywords.values()):
                self._take(f"what is bound to {name}", bound)
        for each in inner(value):
            self._take(name, each)
        self._take_class(type(value))

    def _take_class(self, kind: type) -> None:
        meta: type = type(kind)
        for each in (*kind.__mro__, *meta.__mro__):
            if each.__module__ in self._names:
                self._classes.setdefault(id(each), each)

    def _take_members(self, kind: type) -> None:
        """Take the methods and constants of a class whose names are read, and the methods that Python calls."""
        members = vars(kind)
        if issubclass(kind, enum.Enum):
            for name, member in kind.__members__.items():
                self._take(f"{kind.__qualname__}.{name}", member.value)
        for name, default in _field_defaults(members):
            self._take(f"{kind.__qualname__}.{name}", default)
        for name, value in list(members.items()):
            is_special = name[:2] == name[-2:] == "__"
            if (0, name) not in self.ignored and (is_special or name in self._attributes):
                for each in _accessors(value):
                    if not is_special or (name not in _NOT_CALLED and self._is_ours(each)):
                        self._take(f"{kind.__qualname__}.{name}", each)

    def _is_ours(self, func: Any) -> bool:
        """Tell whether a special method was written here, behind its decorators."""
        return any(is_written(each) and self._is_followed(each) for each in (func, *inner(func)))

    def _take_values(self, func: types.FunctionType) -> None:
        """Take the defaults of the function itself, and what it captured."""
        for what, values in (("default", defaults(func)), ("captured", captured(func))):
            for name, value in values.items():
                of = "the default of" if what == "default" else "the captured"
                self._take(f"{of} {name!r}" if is_plain(value) else name, value)

    def _other(self, func: types.FunctionType) -> dict[str, Any]:
        """Return the defaults of the function itself, and what it captured, that are not watched by name."""
        return {
            name: value
            for name, value in itertools.chain(defaults(func).items(), captured(func).items())
            if not is_plain(value) and not self._is_followed(value)
        }

    def _is_followed(self, value: Any) -> bool:
        return type(value) is types.FunctionType and self._home(value) is not None


def _field_defaults(members: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give the defaults of a dataclass or a named tuple, which its constructor fills in."""
    if type(members.get("_field_defaults")) is dict:
        yield from members["_field_defaults"].items()
    if "__dataclass_params__" in members:
        for name, each in members["__dataclass_fields__"].items():
            if each.default is not dataclasses.MISSING:
                yield name, each.default
            if type(each.default_factory) is types.FunctionType:
                yield name, each.default_factory


def _module(value: Any) -> str:
    """Name the module of a function or class."""
    return str(getattr(value, "__module__", None) or getattr(type(value), "__module__", None))


def _accessors(value: Any) -> Sequence[Any]:
    """Give the functions behind an attribute of a class, or what else it is."""
    if isinstance(value, (staticmethod, classmethod)):
        return (value.__func__,)
    if isinstance(value, property):
        return tuple(each for each in (value.fget, value.fset, value.fdel) if each is not None)
    if isinstance(value, functools.cached_property):
        return (value.func,)
    return () if isinstance(value, (enum.Enum, types.MemberDescriptorType)) else (value,)


def _digest(forms: Iterable[Form]) -> Form:
    return hashlib.blake2b(tagged(b"w", *forms), digest_size=16).digest()
