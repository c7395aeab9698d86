"""Pickle what travels to a child: by value whatever the child cannot import.

One rule: code keeps the name of the file it was written in, so that a traceback
from the child shows the user's own line. (cloudpickle 3.1.3 and later leave the
name out.) This room knows pickles and nothing of processes.
"""

import io
import types
from collections import ChainMap
from typing import Any, ClassVar

import cloudpickle

_LEFT_OUT = "<dynamic-code>"  # what cloudpickle writes in place of a file's name


def _reduce_code(code: types.CodeType) -> tuple[Any, ...]:
    make, fields = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    return make, tuple(code.co_filename if field == _LEFT_OUT else field for field in fields)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it ships no types
    dispatch_table: ClassVar[Any] = ChainMap(
        {types.CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
    )


def dumps(value: Any) -> bytes:
    """Pickle `value`; raises whatever its pickling raises."""
    out = io.BytesIO()
    _Pickler(out).dump(value)
    return out.getvalue()
