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
import types
from collections import ChainMap
from contextlib import suppress
from typing import Any, ClassVar

import cloudpickle

from . import _code, _definitions, _script, _wire

_CACHED = type(functools.lru_cache(lambda: None))
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
    reduced: tuple[Any, ...] = cloudpickle.Pickler.dispatch_table[types.ModuleType](module)
    return (_code.module, reduced[1]) if reduced[0] is cloudpickle.cloudpickle.subimport else reduced


def _with_our_makers(reduced: Any) -> Any:
    """Name our own makers in what cloudpickle made of a function that travels by value."""
    match reduced:
        case (
            _,
            (types.CodeType() as code, dict() as names, None, None, closure),
            (_, slots) as state,
            None,
            None,
            _,
        ) if set(slots) >= _SLOTS:
            return _code.function, (code, names, closure), state, None, None, _code.complete
    return reduced


def _is_scripts(value: Any) -> bool:
    """Tell whether a child could not import something: cloudpickle does not look at what is no Python function."""
    return value.__module__ in _script.NAMES or "<locals>" in value.__qualname__


class _Pickler(_definitions.pickler()):  # type: ignore[misc]  # cloudpickle ships no types
    has_versions = True
    dispatch_table: ClassVar[Any] = ChainMap(
        {types.CodeType: _reduce_code, types.CellType: _reduce_cell, types.ModuleType: _reduce_module},
        cloudpickle.Pickler.dispatch_table,
    )

    def reducer_override(self, value: Any) -> Any:
        if value is types.CellType:
            return getattr, (types, "CellType")
        if isinstance(value, _CACHED) and _is_scripts(value):
            return _code.cached, (value.__wrapped__, value.cache_parameters())
        reduced = super().reducer_override(value)
        return _with_our_makers(reduced) if isinstance(value, types.FunctionType) else reduced


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
