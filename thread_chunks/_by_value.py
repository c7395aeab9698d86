"""Pickle what travels to a child: by value whatever the child cannot import.

cloudpickle does, and what it makes of functions is rewritten in two ways. One: `_code`
puts them together again, so that a child need not import cloudpickle for a function of
the script. Two: code travels as Python itself writes it, and so keeps the name of its
file, and a traceback from the child shows the user's own line. (cloudpickle 3.1.3 and
later leave the name out.) Where a release of cloudpickle takes functions apart in another
way, its own makers are left in place. This room knows pickles and nothing of processes.
"""

import functools
import io
import marshal
import sys
import threading
import types
from collections import ChainMap
from contextlib import suppress
from typing import Any, ClassVar

import cloudpickle

from . import _code, _definitions, _script, _wire
from ._importable import is_importable

_CACHED = type(functools.lru_cache(lambda: None))
_LOADED = {"__builtins__", "__cached__", "__loader__", "__spec__"}  # how a module came here
_lock = threading.RLock()
_SLOTS = {"__globals__", "__closure__", "_cloudpickle_submodules"}


def _reduce_code(code: types.CodeType) -> tuple[Any, ...]:
    with suppress(ValueError):
        written = marshal.dumps(code)
        if marshal.loads(written) == code:  # noqa: S302 - our own; else it has constants that no compiler makes
            return marshal.loads, (written,)
    reduced: tuple[Any, ...] = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    return reduced


def _reduce_cell(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return types.CellType, (cell.cell_contents,)
    except ValueError:  # it is empty
        return types.CellType, ()


def _reduce_module(module: types.ModuleType) -> tuple[Any, ...]:
    if module.__name__ not in sys.modules or not is_importable(module.__name__):
        own = {name: value for name, value in vars(module).items() if name not in _LOADED}
        return _code.made_module, (module.__name__,), own
    reduced: tuple[Any, ...] = cloudpickle.Pickler.dispatch_table[types.ModuleType](module)
    return (_code.module, reduced[1]) if reduced[0] is cloudpickle.cloudpickle.subimport else reduced


def _with_our_makers(func: types.FunctionType, reduced: Any) -> Any:
    """Name our own makers in what cloudpickle made of a function that travels by value."""
    match reduced:
        case (
            _,
            (types.CodeType() as code, dict() as names, None, None, closure),
            (attributes, slots),
            None,
            None,
            _,
        ) if set(slots) >= _SLOTS:
            state = attributes, {**slots, "is_named": _definitions.is_named(func)}
            return _code.function, (code, names, closure), state, None, None, _code.complete
    return reduced


def _is_scripts(value: Any) -> bool:
    """Tell whether a child could not import something: cloudpickle does not look at what is no Python function."""
    name = value.__module__
    is_script = name in _script.NAMES or "<locals>" in value.__qualname__
    return is_script or name not in sys.modules or not is_importable(name)


class _Pickler(_definitions.pickler()):  # type: ignore[misc]  # cloudpickle ships no types
    has_versions = True
    dispatch_table: ClassVar[Any] = ChainMap(
        {types.CodeType: _reduce_code, types.CellType: _reduce_cell, types.ModuleType: _reduce_module},
        _definitions.pickler().dispatch_table,
    )

    def reducer_override(self, value: Any) -> Any:
        if value is types.CellType:
            return getattr, (types, "CellType")
        if isinstance(value, _CACHED) and _is_scripts(value):
            return _code.cached, (value.__wrapped__, value.cache_parameters())
        reduced = super().reducer_override(value)
        if reduced is NotImplemented and _is_elsewhere(value):
            reduced = self._taken_by_value(value)
        return _with_our_makers(value, reduced) if isinstance(value, types.FunctionType) else reduced

    def _taken_by_value(self, value: Any) -> Any:
        """Reduce a function or class as one of a module that cloudpickle was told to take by value."""
        with _lock:
            module = sys.modules[value.__module__]
            cloudpickle.register_pickle_by_value(module)
            try:
                return super().reducer_override(value)
            finally:
                cloudpickle.unregister_pickle_by_value(module)


def _is_elsewhere(value: Any) -> bool:
    """Tell whether something that cloudpickle takes by name is one of a module that a child could not import."""
    is_named = isinstance(value, types.FunctionType) or issubclass(type(value), type)
    name = getattr(value, "__module__", None) if is_named else None
    module = sys.modules.get(name) if isinstance(name, str) else None
    is_usual = isinstance(module, types.ModuleType) and module.__name__ == name
    return is_usual and not is_importable(str(name))


def dump(value: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle `value` into ``(main, buffers)``; raises whatever its pickling raises.

    A function brings its classes with it, and parameters refer to them.
    """
    _script.let_travel()
    buffers: list[memoryview] = []
    out = io.BytesIO()
    _Pickler(out, _wire.buffer_taker(buffers), is_inline=callable(value)).dump(value)
    return out.getvalue(), buffers


def dump_copied(value: Any) -> tuple[bytes, list[bytearray]]:
    """Pickle `value` as it is now: as `dump`, but its buffers are copies, which pickle in turn."""
    main, buffers = dump(value)
    return main, list(map(bytearray, buffers))
