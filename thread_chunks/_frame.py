"""A checkpoint as a table: one row for each call.

Its parameters come first, named as the function's signature names them, then what is
known of the call. One rule: a value stays what it is; only whole columns of plain numbers
and texts become columns of such. pandas is asked for when a table is. This room knows
the state of a run and no files.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._late import imported
from ._parameters import columns_of, last_line, read_calls
from ._state import RunState

KNOWN = ("output", "completed", "seconds", "started", "worker", "peak_memory", "error")
"""The columns behind the parameters; a parameter of such a name gets an underscore behind it."""


def frame_of(state: RunState, names: Sequence[str]) -> Any:
    """Make the table of a run.

    Parameters
    ----------
    state
        The run.
    names
        What `names_of` says of its function; may be empty.

    Returns
    -------
    pandas.DataFrame
        As `Checkpoint.to_frame` describes it.

    Raises
    ------
    ImportError
        If there is no pandas.
    """
    pandas = needed("pandas", "frame")
    columns: dict[str, Any] = {}
    for name, values in columns_of(read_calls(state.parameters)[1], names).items():
        columns[_free(name, columns)] = _column(pandas, values)
    columns["output"] = _column(pandas, state.output)
    columns["completed"] = pandas.Series(state.completed, dtype=bool)
    columns["seconds"] = pandas.Series(state.seconds, dtype="float64")
    columns["started"] = pandas.to_datetime(pandas.Series(state.started, dtype="float64"), unit="s", utc=True)
    columns["worker"] = pandas.Series(state.workers, dtype="Int64")
    columns["peak_memory"] = pandas.Series(state.peak_memory, dtype="Int64")
    errors = np.full(len(state.output), None, object)
    for index, text in state.failures.items():
        errors[index] = last_line(text)
    columns["error"] = pandas.Series(errors, dtype=object)
    return pandas.DataFrame(columns, index=pandas.RangeIndex(len(state.output), name="call"))


def _free(name: str, taken: dict[str, Any]) -> str:
    while name in KNOWN or name in taken:
        name += "_"
    return name


def _column(pandas: Any, values: Sequence[Any]) -> Any:
    """Make a column; what is missing does not turn whole numbers into others, nor objects into texts."""
    cells = np.fromiter(values, object, len(values))  # as they are: no list is taken apart, and no unit off
    column = pandas.Series(cells, dtype=object)
    if not _is_exact(values):
        return column
    try:
        if not any(value is None for value in values):
            return column.infer_objects()
        dtype = _WITH_GAPS.get(pandas.api.types.infer_dtype(cells, skipna=True))
        return column if dtype is None else column.astype(dtype)
    except Exception:  # noqa: BLE001 - pandas asks the user's objects, which may answer anything
        return column


def _is_exact(values: Sequence[Any]) -> bool:
    """Tell whether a column of plain numbers would hold these as they are."""
    kinds = set(map(type, values))
    if any(issubclass(kind, (np.longdouble, np.clongdouble, np.ndarray)) for kind in kinds):
        return False
    if any(issubclass(kind, (np.datetime64, np.timedelta64)) for kind in kinds):
        return all(_is_nanoseconds(value) for value in values if issubclass(type(value), np.generic))
    if any(issubclass(kind, (float, complex, np.inexact)) for kind in kinds):
        return not any(
            issubclass(type(value), (int, np.integer)) and abs(int(value)) > _WHOLE for value in values
        )
    return True


def _is_nanoseconds(value: Any) -> bool:
    """Tell whether a time is a whole number of nanoseconds: years and months of no date are none."""
    units = {"W", "D", "h", "m", "s", "ms", "us", "ns"} | ({"Y", "M"} if value.dtype.kind == "M" else set())
    return value.dtype.kind not in "mM" or np.datetime_data(value.dtype)[0] in units


_WHOLE = 2**53
"""Up to it a float holds every whole number."""

_WITH_GAPS = {
    "integer": "Int64",
    "floating": "float64",
    "mixed-integer-float": "float64",
    "boolean": "boolean",
}


def needed(name: str, extra: str) -> Any:
    """Import an optional dependency.

    Parameters
    ----------
    name
        The module.
    extra
        The extra of ours that installs it.

    Returns
    -------
    module
        The module.

    Raises
    ------
    ImportError
        If it is not installed, with the fix.
    """
    try:
        return imported(name)
    except ImportError as error:
        msg = f"this needs {name}: install it, with pip install {name}, or as thread-chunks[{extra}]"
        raise ImportError(msg, name=name) from error
