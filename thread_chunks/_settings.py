"""What a function does and reads: the part of a script that its results depend on, by name.

One rule: what is watched is what can be told without a guess and what no call changes:
plain values, and code of the function's own module. Names are followed from the
function through everything that it calls there. This room knows functions and nothing
of files or who compares them.
"""

import enum
import functools
import hashlib
import itertools
import types
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ._bytecode import captured, defaults, function_form, names
from ._canonical import Form, form, tagged
from ._parameters import shown

_SCALARS = {bool, int, float, complex, str, bytes, type(None), type(...), Decimal, Fraction}
_OF_MODULES = {"__name__", "__file__", "__doc__", "__package__", "__spec__", "__loader__", "__builtins__"}
_CONTAINERS = {list, tuple, set, frozenset}
_MOST_NAMED = 3  # in a warning; more would hide how many results it concerns

Globals = dict[str, Any]


class Watched(NamedTuple):
    """Something that a function's results depend on, beside its parameters."""

    name: str
    """As the script says it: `SCALE`, `helper()`, `Model.fit()`; empty for the function's own code."""
    key: Form
    """Its value, or its code."""
    text: str
    """What to show of a value; empty for code, which only the same Python compiles alike."""


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
    own = _Own(func)
    if not own.functions:
        return ()
    reading = _Reading(own, set())
    while not reading.written <= reading.ignored:  # what a helper writes is known when all were read
        reading = _Reading(own, reading.ignored | reading.written)
    return reading.watched()


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


class _Own:
    """The functions that a callable itself consists of, behind decorators, partials and objects."""

    def __init__(self, func: Any) -> None:
        self.functions: list[types.FunctionType] = []
        self.classes: list[type] = []
        self.homes: dict[int, Globals] = {}
        """The modules whose names are followed: that of the function, and not those of its decorators."""
        self._seen: dict[int, Any] = {}
        self._take(func)
        if not self.homes:
            self.homes = {id(each.__globals__): each.__globals__ for each in self.functions}

    def _take(self, func: Any) -> None:
        if id(func) in self._seen:
            return
        self._seen[id(func)] = func
        inner = list(_inner(func))
        if type(func) is types.FunctionType:
            self.functions.append(func)
            if not inner:
                self.homes[id(func.__globals__)] = func.__globals__
        elif issubclass(type(func), type):
            self.classes.append(func)
            self.functions += [
                each for each in map(vars(func).get, ("__new__", "__init__")) if _is_written(each)
            ]
        elif type(func) is types.MethodType:
            self.classes.append(func.__self__ if isinstance(func.__self__, type) else type(func.__self__))
        elif type(func) is not functools.partial and type(func).__module__ != "builtins":
            self.classes.append(type(func))
            calls = (vars(each).get("__call__") for each in type(func).__mro__)
            self.functions += [call for call in calls if type(call) is types.FunctionType][:1]
        for each in inner:
            self._take(each)


def _inner(func: Any) -> Iterator[Any]:
    """Give what a callable hands its calls on to, without running any code of it."""
    kind = type(func)
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
        yield from [held["__wrapped__"]] if "__wrapped__" in held else replaced
    elif type(held) is dict and "__wrapped__" in held:
        yield held["__wrapped__"]
    elif type(held) is dict:
        yield from (each for each in list(held.values()) if type(each) in _CALLABLE)


_CALLABLE = {types.FunctionType, types.MethodType, functools.partial}


def _is_replaced(func: Any) -> bool:
    """Tell whether a function of a module is no longer found there: a decorator holds it."""
    if type(func) is not types.FunctionType or "<" in func.__qualname__:
        return False
    found: Any = func.__globals__.get(func.__qualname__.partition(".")[0])
    for name in func.__qualname__.split(".")[1:]:
        found = getattr(found, name, None)
    return found is not func


def _is_written(func: Any) -> bool:
    """Tell whether somebody wrote a function: those of a dataclass are made from its fields."""
    return type(func) is types.FunctionType and not func.__code__.co_qualname.startswith("__create_fn__")


def is_plain(value: Any) -> bool:
    """Tell whether a value is plain: nobody can change it, only put another in its place.

    Parameters
    ----------
    value
        Anything.

    Returns
    -------
    bool
        True for numbers, texts, members of enumerations, and tuples and frozen sets of them.
    """
    kind = type(value)
    if kind in _SCALARS or issubclass(kind, (np.number, np.bool_, enum.Enum)):
        return True
    return issubclass(kind, (tuple, frozenset)) and all(map(is_plain, value))


class _Reading:
    """One walk from a function through what it reads."""

    def __init__(self, own: _Own, ignored: set[tuple[int, str]]) -> None:
        self.ignored = ignored
        """Names that the code writes: their values are no settings."""
        self.written: set[tuple[int, str]] = set()
        self._homes = own.homes
        self._names = {each.get("__name__") for each in own.homes.values()}
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
        while self._left:
            while self._left:
                self._follow(self._left.pop())
            for each in list(self._classes.values()):
                self._take_members(each)

    def _follow(self, func: types.FunctionType) -> None:
        """Take what the code of a function names."""
        if id(func.__globals__) not in self._homes:
            return
        read, written, attributes, changed = names(func.__code__)
        self.written |= {(id(func.__globals__), name) for name in written} | {(0, name) for name in changed}
        self._attributes |= attributes
        for name in read - _OF_MODULES:
            if name in func.__globals__ and (id(func.__globals__), name) not in self.ignored:
                self._take(name, func.__globals__[name])

    def _take(self, name: str, value: Any) -> None:
        """Take what stands behind a name, if it can be watched."""
        if is_plain(value):
            self._found.setdefault(name, {})[form(value)] = shown(value)
        elif (name, id(value)) not in self._met:
            self._met[name, id(value)] = value
            self._take_what_is_called(name, value)

    def _take_what_is_called(self, name: str, value: Any) -> None:
        if type(value) is types.FunctionType:
            self._take_function(name, value)
        elif issubclass(type(value), type):
            self._take_class(value)
        elif type(value) in _CONTAINERS or type(value) is dict:
            for each in list(value.values() if type(value) is dict else value):
                if type(each) in _CALLABLE:
                    self._take(name, each)
        else:
            self._take_object(name, value)

    def _take_function(self, name: str, func: types.FunctionType) -> None:
        for each in _inner(func):
            self._take(name, each)
        if id(func.__globals__) not in self._homes or any(func is each for each in self._own):
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
        if type(value) is functools.partial:
            for bound in (*value.args, *value.keywords.values()):
                self._take(f"what is bound to {name}", bound)
        for each in _inner(value):
            self._take(name, each)
        self._take_class(type(value))

    def _take_class(self, kind: type) -> None:
        for each in kind.__mro__:
            if each.__module__ in self._names:
                self._classes.setdefault(id(each), each)

    def _take_members(self, kind: type) -> None:
        """Take the methods and constants of a class whose names are read, and the methods that Python calls."""
        members = vars(kind)
        if issubclass(kind, enum.Enum):
            for name, member in kind.__members__.items():
                self._take(f"{kind.__qualname__}.{name}", member.value)
        for name, value in list(members.items()):
            is_special = name[:2] == name[-2:] == "__"
            if (is_special and not _is_written(value)) or (0, name) in self.ignored:
                continue
            if is_special or name in self._attributes:
                for each in _accessors(value):
                    self._take(f"{kind.__qualname__}.{name}", each)

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
        return type(value) is types.FunctionType and id(value.__globals__) in self._homes


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
