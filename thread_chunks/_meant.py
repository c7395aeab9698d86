"""What an argument in the wrong place was meant to be: the end of an error's text.

One rule: the guess is made from the type, and is only made where one option takes such values.
This room knows what options are called, and nothing of what they do.
"""

import functools
import os
from typing import Any

import numpy as np

from .worker import Worker


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
    if issubclass(kind, (int, np.integer)):
        return f"chunk_size={int(value)}" if value > 0 else ""
    if issubclass(kind, (str, bytes, os.PathLike)):
        return f"path={os.fsdecode(value)!r}" if but == "actors" or _is_path(value) else ""
    made = value.func if kind is functools.partial else value
    if isinstance(made, type) and issubclass(made, Worker):
        return f"worker={made.__name__}" if made is value else "worker=functools.partial(...)"
    if hasattr(kind, "submit") and hasattr(kind, "shutdown"):
        return "worker=ExecutorWorker.on(executor)"
    return ""


def _is_path(value: Any) -> bool:
    """Tell whether it is more likely the name of a file than another word."""
    text = value if isinstance(value, str) else os.fsdecode(value)
    return not isinstance(value, (str, bytes)) or bool(set(text) & {".", "/", os.sep})
