"""What an argument in the wrong place was meant to be: the end of an error's text.

One rule: the guess is made from the type, and is only made where one option takes such values.
This room knows what options are called, and nothing of what they do.
"""

import functools
import os
from typing import Any

import numpy as np

from .worker import Worker

_MOST = 10_000
"""No chunk_size is larger; what is is another number."""


def meant(value: object, but: str = "") -> str:
    """Guess which option a value was meant for.

    Parameters
    ----------
    value
        What stands in the wrong place.
    but
        The option that it was given as.

    Returns
    -------
    str
        A question to be put behind what is wrong; empty if there is no guess.
    """
    guess = _guess(value, but)
    return f": did you mean {guess}?" if guess and not guess.startswith(f"{but}=") else ""


def _guess(value: Any, but: str) -> str:
    kind = type(value)
    if issubclass(kind, (bool, np.bool_)):
        return f"progress_bar={bool(value)}"
    number = (
        int(value) if issubclass(kind, str) and value.isdecimal() and len(value) < len(str(_MOST)) else value
    )
    if issubclass(type(number), (int, float, np.integer)):
        return f"chunk_size={int(number)}" if number in range(1, _MOST) else ""
    if issubclass(kind, (str, bytes, os.PathLike)):
        return f"path={os.fsdecode(value)!r}" if but in {"actors", "chunk_size"} or _is_path(value) else ""
    made = value.func if kind is functools.partial else value
    if isinstance(made, type) and issubclass(made, Worker):
        return f"worker={made.__name__}" if made is value else "worker=functools.partial(...)"
    is_executor = _is_executor(value if isinstance(value, type) else kind)
    return "worker=ExecutorWorker.on(executor)" if is_executor else ""


def _is_executor(kind: type) -> bool:
    return hasattr(kind, "submit") and hasattr(kind, "shutdown")


def _is_path(value: Any) -> bool:
    """Tell whether it is more likely the name of a file than another word."""
    text = value if isinstance(value, str) else os.fsdecode(value)
    return not isinstance(value, (str, bytes)) or bool(set(text) & {".", "/", os.sep})
