"""Put functions that travelled by value together again, in the child.

cloudpickle knows what belongs to a function: its code, its globals, what it captured. But
to import it takes a child as long as the interpreter itself takes to start. So `_by_value`
has cloudpickle take functions apart, and names these few makers in place of its own. This
room runs in the child and imports next to nothing.
"""

from __future__ import annotations

import builtins
import functools
import sys
import types
from weakref import WeakSet

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    from typing import Any


named: WeakSet[types.FunctionType] = WeakSet()  # those made here that have their names where they come from


def function(
    code: types.CodeType, names: dict[str, Any], closure: tuple[types.CellType, ...] | None
) -> types.FunctionType:
    """Make a function that is nothing but its code: it may be a part of what it needs itself."""
    names["__builtins__"] = builtins.__dict__
    return types.FunctionType(code, names, None, None, closure)


def complete(made: types.FunctionType, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Give a function what cloudpickle found to belong to it: attributes, globals, captured values."""
    attributes, slots = state
    made.__dict__.update(attributes)
    made.__globals__.update(slots.pop("__globals__"))
    for own, given in zip(made.__closure__ or (), slots.pop("__closure__") or (), strict=True):
        try:
            own.cell_contents = given.cell_contents
        except ValueError:  # it is empty
            continue
    del slots["_cloudpickle_submodules"]  # they had to be imported, and now are
    if slots.pop("is_named", False):
        named.add(made)
    for name, value in slots.items():
        setattr(made, name, value)


def cached(func: Any, parameters: dict[str, Any]) -> Any:
    """Put a cache around a function, an empty one."""
    return functools.lru_cache(**parameters)(func)


def made_module(name: str) -> types.ModuleType:
    """Make a module that no import can find; what belongs to it comes after."""
    return types.ModuleType(name)


def module(name: str) -> types.ModuleType:
    """Import a module."""
    __import__(name)
    return sys.modules[name]
