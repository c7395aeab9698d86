"""One process that was started here: whether it lives, how it ends with all that it started, and what it ended with.

One rule: a number is killed only while it is known to be the process's own: nobody but us gives it free, or it
was looked at. This room knows processes, and nothing of what they do.
"""

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress

from . import _child

_PAUSE = 0.05  # seconds between two looks, at most


class Process:
    """It, and its process group, whose leader it is.

    Parameters
    ----------
    popen
        As it was started.

    Attributes
    ----------
    pid : int
        Its number.
    code : int or None
        What it ended with, negative for a signal; ``None`` while it lives, and if somebody else took it.
    has_ended : bool
        Whether it was found to have ended, and its number was given back.
    """

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen
        self._lock = threading.Lock()  # between who kills it, in any thread, and who gives its number back
        self._is_taken = False
        self.pid = popen.pid
        self.code: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it was waited for to its end."""
        return self._popen.returncode is not None

    @property
    def is_alive(self) -> bool:
        """Whether it still runs. Its number stays taken: what it had started is killed by that."""
        if self.has_ended or self._is_taken:
            return False
        if not hasattr(os, "waitid"):
            self.code = self._popen.poll()
            return self.code is None
        try:
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # somebody else waited for it, or the system did
            self._is_taken = True
            return False
        if found is not None:
            self.code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return found is None

    def kill(self) -> None:
        """End it and its group at once. May be called from any thread, more than once."""
        with self._lock:
            self.is_alive  # noqa: B018 - to learn whether its number is still its own
            if self.has_ended or (self._is_taken and _is_in_use(self.pid)):
                return
            for kill in (os.killpg, os.kill):  # it may have left its group
                with suppress(ProcessLookupError, PermissionError):
                    kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = float("inf")) -> bool:
        """Wait for its end, and give its number back; tell whether it came in time."""
        end, pause = time.monotonic() + seconds, 0.0005
        while self.is_alive:
            if time.monotonic() >= end:
                return False
            time.sleep(pause := min(2 * pause, _PAUSE))
        with self._lock:
            self._popen.wait()
        return True

    def describe(self) -> str:
        """Say how it ended."""
        if self.code is None:
            return (
                "ended; how is not known, because the script takes the exit codes of its children itself "
                "(it ignores SIGCHLD, or waits for every child)"
            )
        return _describe_exit(self.code)


def _is_in_use(pid: int) -> bool:
    """Tell whether a number that was given free is that of another process: a group alone keeps nobody's."""
    try:
        os.getsid(pid)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _describe_exit(code: int) -> str:
    if code in _OURS:
        return f"ended with exit code {code}: {_OURS[code]}"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if code == -signal.SIGKILL:
        return (
            f"was killed by {name}: often the system's out-of-memory killer; "
            "a smaller chunk_size needs less memory"
        )
    if code == -signal.SIGSEGV:
        return f"was killed by {name}: run the script with python -X faulthandler to see where it crashed"
    return f"was killed by {name}"


_OURS = {
    _child.LOST_SOCKET: "a call closed the descriptors of its process, our socket too",
    _child.NO_MEMORY: "it had no memory left for parameters or results; a smaller chunk_size needs less memory",
    _child.BROKEN: (
        "outside of a call something failed that it needs, as when a call replaces a builtin; stderr has the traceback"
    ),
}
