"""A checkpoint as a file for other programs: CSV or Parquet.

One rule: nothing is cut short. A cell that the format cannot hold becomes text from
which the value can be read again, where it has such a text. This room knows tables.
"""

import io
from typing import Any, BinaryIO

import numpy as np

from ._checkpoint import Checkpoint
from ._frame import needed
from ._literal import Written, written
from ._outfile import OutputError, replacing

_CELL = 32_767  # characters that a spreadsheet takes in a cell; Python's csv takes 131,072 before it refuses


def export(path: str, out: str) -> list[str]:
    """Write the table of a checkpoint to a file.

    Parameters
    ----------
    path
        The checkpoint.
    out
        The table; its extension says which format: ``.csv`` or ``.parquet``.

    Returns
    -------
    list of str
        What became of values that the format cannot hold, or not well.

    Raises
    ------
    ImportError
        If pandas, or an engine for Parquet, is not installed.
    OutputError
        If the format is another one, or `out` must not be overwritten.
    """
    format_ = out.rpartition(".")[2].lower()
    if format_ not in {"csv", "parquet"}:
        msg = f"{out} must end in .csv or .parquet, which says what to write"
        raise OutputError(msg)
    if format_ == "parquet":
        _need_engine()
    frame = Checkpoint.load(path).to_frame()
    with replacing(out) as file:
        return _write_csv(frame, file) if format_ == "csv" else _write_parquet(frame, file)


def _need_engine() -> None:
    """Find out before the work whether Parquet can be written."""
    pandas = needed("pandas", "frame")
    try:
        pandas.DataFrame({"a": [1]}).to_parquet(io.BytesIO())
    except ImportError as error:
        msg = "Parquet needs pyarrow: install it, with pip install pyarrow, or export to .csv"
        raise ImportError(msg, name="pyarrow") from error


def _write_csv(frame: Any, file: BinaryIO) -> list[str]:
    notes = []
    for name in frame.columns:
        if frame[name].dtype == object or frame[name].dtype.kind == "c":
            frame[name], found = _as_text(frame[name])
            notes += found + _long_cells(frame[name])
    frame.to_csv(file, mode="wb", encoding="utf-8", errors="backslashreplace")
    return notes


def _write_parquet(frame: Any, file: BinaryIO) -> list[str]:
    """Store objects as they are where that can be done, as lists and dictionaries, and as text otherwise."""
    notes = []
    for name in frame.columns:
        if not _is_plain(frame[name].dtype) and not _is_storable(frame[[name]]):
            frame[name], found = _as_text(frame[name])
            notes.append(f"Parquet cannot hold the values of column {name!r}: they were written as text")
            notes += found
    frame.to_parquet(file)
    return notes


def _is_plain(dtype: Any) -> bool:
    """Tell whether a column holds numbers or times that every format holds exactly."""
    return dtype.kind in "biufmM" and (dtype.kind != "f" or dtype.itemsize <= _DOUBLE)


def _is_storable(column: Any) -> bool:
    """Tell whether Parquet gives back the values that it is given, and nothing like them."""
    if column.iloc[:, 0].dtype == object and not all(map(_is_exact, column.iloc[:, 0])):
        return False
    try:
        column.to_parquet(io.BytesIO())
    except Exception:  # noqa: BLE001 - every engine has errors of its own
        return False
    return True


def _is_exact(value: Any) -> bool:
    """Tell whether Parquet has a type for a value and all that is in it: engines drop units, and digits."""
    kind = type(value)
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(_is_exact, value.values()))
    if kind in {list, tuple}:
        return all(map(_is_exact, value))
    if kind is np.ndarray or issubclass(kind, np.generic):
        return value.dtype.kind in "biufSU" and (value.dtype.kind != "f" or value.dtype.itemsize <= _DOUBLE)
    return kind in _KNOWN or str(kind.__module__).partition(".")[0] in {"datetime", "decimal", "pandas"}


def _as_text(column: Any) -> tuple[Any, list[str]]:
    """Write each value of a column, and say what was not written whole."""
    texts = np.full(len(column), None, object)
    cut = []
    for place, value in enumerate(column):
        if value is not None:
            text, is_whole = _cell(value)
            texts[place] = text.encode("utf-8", "backslashreplace").decode()
            cut += [] if is_whole else [place]
    notes = []
    if cut:
        notes.append(
            f"column {column.name!r} has values that no text holds whole, in {len(cut)} of {len(column)} calls, "
            f"the first of them call {cut[0]}: take them from Checkpoint.load(FILE).to_frame()"
        )
    return type(column)(texts, index=column.index, dtype=object), notes


def _long_cells(column: Any) -> list[str]:
    """Say which cell is longer than many readers take."""
    sizes = [0 if value is None else len(value) for value in column]
    largest = max(sizes, default=0)
    if largest <= _CELL:
        return []
    note = (
        f"column {column.name!r} has cells of up to {largest} characters, the longest of call {sizes.index(largest)}: "
        f"a spreadsheet takes {_CELL}, and Python's csv needs csv.field_size_limit({largest})"
    )
    return [note]


def _cell(value: Any) -> Written:
    """Write what fills a cell: texts as they are, and times and numbers without quotes."""
    kind = type(value)
    if issubclass(kind, str):
        return Written(str.__str__(value), is_whole=True)
    if issubclass(kind, (np.datetime64, np.timedelta64)) or (issubclass(kind, float) and value in _INFINITE):
        return Written(str(value), is_whole=True)
    return written(value)


_INFINITE = {float("inf"), float("-inf")}
_DOUBLE = np.dtype("f8").itemsize
_KNOWN = {type(None), bool, int, float, str, bytes}
