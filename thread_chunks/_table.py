"""A checkpoint as a file for other programs: CSV or Parquet.

One rule: nothing is cut short. A cell that the format cannot hold becomes text from
which the value can be read again, where it has such a text. This room knows tables.
"""

import io
import sys
from typing import Any, BinaryIO

import numpy as np

from ._checkpoint import Checkpoint
from ._frame import needed
from ._outfile import OutputError, replacing


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
        What became of columns that the format cannot hold.

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
    notes: list[str] = []
    with replacing(out) as file:
        if format_ == "csv":
            _write_csv(frame, file)
        else:
            notes = _write_parquet(frame, file)
    return notes


def _need_engine() -> None:
    """Find out before the work whether Parquet can be written."""
    pandas = needed("pandas", "frame")
    try:
        pandas.DataFrame({"a": [1]}).to_parquet(io.BytesIO())
    except ImportError as error:
        msg = "Parquet needs pyarrow: install it, with pip install pyarrow, or export to .csv"
        raise ImportError(msg, name="pyarrow") from error


def _write_csv(frame: Any, file: BinaryIO) -> None:
    for name in frame.columns:
        if frame[name].dtype == object:
            frame[name] = _as_text(frame[name])
    frame.to_csv(file, mode="wb", encoding="utf-8", errors="backslashreplace")


def _write_parquet(frame: Any, file: BinaryIO) -> list[str]:
    """Store objects as they are where that can be done, as lists and dictionaries, and as text otherwise."""
    notes = []
    for name in frame.columns:
        if frame[name].dtype == object and not _is_storable(frame[[name]]):
            frame[name] = _as_text(frame[name])
            notes.append(f"Parquet cannot hold the values of column {name!r}: they were written as text")
    frame.to_parquet(file)
    return notes


def _is_storable(column: Any) -> bool:
    try:
        column.to_parquet(io.BytesIO())
    except Exception:  # noqa: BLE001 - every engine has errors of its own
        return False
    return True


def _as_text(column: Any) -> Any:
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
        texts = np.full(len(column), None, object)
        for place, value in enumerate(column):
            texts[place] = value if value is None or isinstance(value, str) else _text(value)
    return type(column)(texts, index=column.index, dtype=object)


def _text(value: Any) -> str:
    """Write a value as Python would: arrays as nested lists, the others as their ``repr``."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - the user's __repr__ may do anything
        return f"a {type(value).__qualname__}"
