"""A file that a command writes: whole or not at all, and never in the place of a checkpoint.

One rule: what was at the path stays until its successor is complete. This room knows files.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO

from ._format import START, is_legacy
from .errors import ThreadChunksError


class OutputError(ThreadChunksError, ValueError):
    """What was asked for cannot be written; everything is as it was."""


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Open a temporary file that takes a path's place in the end.

    Parameters
    ----------
    path
        Where the file is to be. What is there is overwritten.

    Yields
    ------
    file
        Open for writing. After an error it is removed, and the old one stays.

    Raises
    ------
    OutputError
        If there is a checkpoint at the path, or something that is not a file.
    OSError
        If it cannot be written.
    """
    target = os.path.realpath(path)
    _refuse_checkpoint(target)
    temporary = f"{target}.{os.urandom(6).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in {None, temporary}:
            error.filename, error.filename2 = path, None
        raise


def _refuse_checkpoint(path: str) -> None:
    if not os.path.lexists(path):
        return
    if not os.path.isfile(path):
        msg = f"{path} is not a regular file, so it was left alone. Use another path."
        raise OutputError(msg)
    with open(path, "rb") as file:
        start = file.read(128)
    if start.startswith(START) or is_legacy(start):
        msg = f"{path} is a checkpoint, so it was not overwritten. Use another path."
        raise OutputError(msg)
