"""Classes that no other process can import: used where the reader has them, made where it has not.

Such a class travels beside its definition, as `_definitions` writes it: a pickle of its own that only a
reader looks into that has no such class. One rule: *a class that the reader has is used as it is, and never
changed.* That of a result is looked up by the name that it had where it was defined; else, and in workers, whose
script may be another one, by a number that it has in all processes that it comes to. What was made here of a
definition is filled again only after the process that sent it has changed its own. A function of the
script in a result is looked up as its classes are. This room runs in the child, and imports cloudpickle late.
"""

from __future__ import annotations

import os
import sys
import threading
import types
from io import BytesIO  # as it was before any call could replace it

from . import _code, _script

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    import pickle
    from collections.abc import Callable
    from typing import Any

    # Who sent a class, a digest of what it was then, and whether it had its name then; None for results.
    Version = tuple[str, bytes, bool] | None
    Place = tuple[str, str] | None  # the module and the qualified name by which it can be looked up
else:  # the same without what a child does not need
    import _pickle as pickle

_lock = threading.RLock()
_made: dict[str, Version] = {}  # the classes that were made here, and of what
_unfinished: set[str] = set()  # those of them that still lack what belongs to them
_given: dict[str, set[str]] = {}  # the attributes that each of them got
when_changed: list[Callable[[], None]] = []  # called when one of them is filled again
_named: set[str] = set()  # those of them that can be looked up by name where they were defined
_process: list[Any] = [0, ""]  # the number of this process, and a name that no other one has


class Loader(pickle.Unpickler):
    """Unpickle what the script sends; the makers of functions are here, without the package they are in there."""

    def find_class(self, module: str, name: str) -> Any:
        return getattr(_code, name) if module == _code.__name__ else super().find_class(module, name)


def load(pickled: bytes, buffers: list[Any]) -> Any:
    """Unpickle one value."""
    return Loader(BytesIO(pickled), buffers=buffers).load()


def looked_up(module: str, name: str) -> Any:
    """Return what a module has under a qualified name, or ``None``; nothing is imported, and no code of it run."""
    first, *rest = name.split(".")
    try:
        found: Any = (_script.names() if module in _script.NAMES else vars(sys.modules[module]))[first]
        for part in rest:
            found = vars(found)[part]
    except (KeyError, TypeError):
        return None
    if type(found) is staticmethod:
        found = found.__func__
    is_it = issubclass(type(found), type) or isinstance(found, types.FunctionType)
    return found if is_it and place_of(found) == (_script.known(module), name) else None


def place_of(value: Any) -> tuple[str, str]:
    """Return the module in which a class or function says that it was defined, and its qualified name."""
    return str(_script.known(value.__module__)), str(value.__qualname__)


def reference(place: Place, number: str, version: Version, definition: bytes | None) -> Any:
    """Return the class that this process has, or make it."""
    found = _known(place, number, version)
    if found is not None and number not in _unfinished and not _is_news(number, version):
        return found
    with _lock:
        return _defined(place, definition)


def function(place: Place, definition: bytes | None) -> Any:
    """Return the function that this process has, or make it."""
    assert place is not None
    return looked_up(*place) or _defined(place, definition)


def skeleton(place: Place, number: str, version: Version, is_enum: bool, args: tuple[Any, ...]) -> Any:
    """Return the class that this process has, or begin to make it: it may be a part of what it needs itself."""
    with _lock:
        found = _known(place, number, version)
        if found is None:
            from cloudpickle.cloudpickle import _make_skeleton_class, _make_skeleton_enum

            found = (_make_skeleton_enum if is_enum else _make_skeleton_class)(*args)
        elif not _is_news(number, version):
            return found
        for tell in when_changed:
            tell()
        _made[number] = version
        _unfinished.add(number)
        (_named.discard if place is None else _named.add)(number)
    return found


def complete(made: Any, state: tuple[str, Any]) -> None:
    """Give a class that was begun here what belongs to it, and leave any other as it is."""
    number, attributes = state
    with _lock:
        if number in _unfinished:
            from cloudpickle.cloudpickle import _class_setstate

            for name in _given.get(number, set()) - attributes[0].keys():
                if name in vars(made):  # the script has deleted it since
                    delattr(made, name)
            _given[number] = set(attributes[0])
            _class_setstate(made, attributes)
            _unfinished.discard(number)


def _known(place: Place, number: str, version: Version) -> Any:
    found = None if place is None or version is not None else looked_up(*place)
    if found is None:
        tracker = sys.modules.get("cloudpickle.cloudpickle")
        found = None if tracker is None else tracker._DYNAMIC_CLASS_TRACKER_BY_ID.get(number)  # noqa: SLF001 - no public way
    return found


def _defined(place: Place, definition: bytes | None) -> Any:
    if definition is None:
        module, name = place or ("", "")
        msg = f"there is no {name} in {module} here, and what defines it could not be pickled"
        raise AttributeError(msg)
    return Loader(BytesIO(definition)).load()


def is_named(number: str) -> bool:
    """Tell whether a class that was made here can be looked up by name where it was defined."""
    return number in _named


def _is_news(number: str, version: Version) -> bool:
    """Tell whether a class comes from another process that has changed it since it came the last time."""
    return version is not None and version[0] != this_process() and _made.get(number) != version


def this_process() -> str:
    """Return a name that no other process has."""
    if _process[0] != os.getpid():  # a fork is another one
        _process[:] = os.getpid(), os.urandom(8).hex()
    return str(_process[1])
