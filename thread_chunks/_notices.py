"""What the user is told beside the results: warnings, and notes on exceptions.

One rule: say it where the user looks, at the line of the script and on the
exception that is raised. This room knows no actors.
"""

import os
import sys
import warnings
from contextlib import suppress

from . import _outcome
from .errors import CallExitWarning, CheckpointFailedWarning


def add_note(error: BaseException, text: str) -> None:
    """Add a line to what is shown of an exception, once.

    Parameters
    ----------
    error
        The exception.
    text
        The line.
    """
    with suppress(BaseException):  # the user's exception class may do anything
        notes = getattr(error, "__notes__", [])
        if text not in notes:
            # Not by add_note: the user's class may refuse attributes.
            BaseException.__setattr__(error, "__notes__", [*notes, text])


def short(path: str) -> str:
    """Return a path as seen from here, if it lies below; else whole."""
    try:
        seen = os.path.relpath(path)
    except OSError:  # the working directory was removed
        return path
    return path if seen.startswith(os.pardir) else seen


def failed_save(path: str | None, error: Exception) -> CheckpointFailedWarning:
    """Say that results could not be saved for now.

    Parameters
    ----------
    path
        The file.
    error
        What the system said.

    Returns
    -------
    CheckpointFailedWarning
        For `warn`.
    """
    return CheckpointFailedWarning(
        f"results cannot be saved to {path} for now ({error}). The run goes on and keeps trying; "
        "what was saved before is safe."
    )


def exit_warning(error: SystemExit) -> CallExitWarning:
    """Say that a script ends because a call did: of this exception nothing is shown, its notes neither.

    Parameters
    ----------
    error
        What the call raised.

    Returns
    -------
    CallExitWarning
        For `warn`.
    """
    try:
        text = f"{error!r}, which was raised {'; '.join(getattr(error, '__notes__', ()))}"
    except BaseException:  # noqa: BLE001 - the user's exception class may do anything
        text = f"a {_outcome.type_name(error)}"
    return CallExitWarning(f"the script ends with {text}")


def warn(warning: Warning) -> None:
    """Warn at the line of the user's that called into this package.

    Parameters
    ----------
    warning
        What to warn of.
    """
    depth, frame = 2, sys._getframe(1)  # noqa: SLF001
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__")):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(warning, stacklevel=depth)


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] == __package__
