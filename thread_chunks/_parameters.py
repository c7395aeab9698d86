"""What a parameter list is: read it once, and turn each entry into a call.

One rule: whatever is not clearly one entry of arguments is an error that shows
the fix. This room knows calls and nothing else.
"""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from . import config
from .messages import Call

_NO_KWARGS: dict[str, Any] = {}  # shared by all calls, so that it is pickled once


def read_calls(parameters: Iterable[Any]) -> tuple[list[Any], list[Call]]:
    """Read a parameter list once and turn each entry into a call.

    Parameters
    ----------
    parameters
        Any iterable of entries: sequences of positional arguments, or mappings
        of keyword arguments.

    Returns
    -------
    list, list of Call
        The entries as they were given, and the calls.

    Raises
    ------
    TypeError
        For an entry that is neither, with the fix.
    """
    if isinstance(parameters, (str, bytes, Mapping)) or not isinstance(parameters, Iterable):
        msg = (
            "parameters must be a list with one entry of arguments for each call, such as "
            f"[[1, 4], [2, 5]]; got {shown(parameters)}"
        )
        raise TypeError(msg)
    entries = list(parameters)
    return entries, [
        Call(index, tuple(entry), _NO_KWARGS) if type(entry) in {list, tuple} else _call(index, entry)
        for index, entry in enumerate(entries)
    ]


def _call(index: int, entry: Any) -> Call:
    if isinstance(entry, Mapping):
        if not all(isinstance(key, str) for key in entry):
            msg = f"parameters[{index}] is a mapping of keyword arguments, so its keys must be strings: {shown(entry)}"
            raise TypeError(msg)
        return Call(index, (), dict(entry))
    is_row = isinstance(entry, (Sequence, np.ndarray)) and not isinstance(
        entry, (str, bytes, bytearray, memoryview)
    )
    if is_row and getattr(entry, "ndim", 1) > 0:
        return Call(index, tuple(entry), _NO_KWARGS)
    msg = (
        f"parameters[{index}] is {shown(entry)}, but each entry must be a list of arguments: "
        f"write [{shown(entry)}] for a function of one argument, so [[1], [2]] and not [1, 2]"
    )
    raise TypeError(msg)


def shown(value: Any) -> str:
    """Show a value in one short line.

    Parameters
    ----------
    value
        Anything.

    Returns
    -------
    str
        One line.
    """
    limit = config.resume_repr_chars
    shorten = reprlib.Repr()
    shorten.maxstring = shorten.maxother = limit
    try:
        text = " ".join(shorten.repr(value).split())
    except Exception:  # noqa: BLE001 - the user's __repr__ may do anything
        text = f"a {type(value).__qualname__}"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
