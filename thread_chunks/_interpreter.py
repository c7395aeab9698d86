"""The interpreter of a child process: which one, with which options, and in which environment.

One rule: it is the one that this process runs in, unless `multiprocessing` was told of another. This room knows
nothing of what the child does.
"""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
"""What tells numerical libraries how many threads they may use."""

_AT_START = sys.executable

_WAY_OUT = (
    "use worker=ThreadWorker, or say where there is one: multiprocessing.set_executable('/usr/bin/python3'), "
    "of the same version and with the same packages"
)


class Socket(socket.socket):
    """Our end of the connection to a child: a child that is gone is an error to us, and no signal."""

    _FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send some bytes; return how many."""
        return super().send(data, flags | self._FLAGS)


def executable() -> str:
    """Return the path of the interpreter.

    Raises
    ------
    RuntimeError
        If there is none, with the way out.
    """
    found = _told() or sys.executable
    if not found:
        msg = f"ProcessWorker starts the interpreter that it runs in, and sys.executable does not say which: {_WAY_OUT}"
        raise RuntimeError(msg)
    if getattr(sys, "frozen", False) and found == sys.executable:
        msg = (
            f"this is a frozen application: {sys.executable} would start itself again in place of a Python "
            f"interpreter, so ProcessWorker cannot be used: {_WAY_OUT}"
        )
        raise RuntimeError(msg)
    return found


def _told() -> str:
    """Return what the user told `multiprocessing`, if he did; by itself it has what was there at the start."""
    spawn: Any = sys.modules.get("multiprocessing.spawn")  # not imported here: then nobody told it anything
    told = os.fsdecode((None if spawn is None else spawn.get_executable()) or "")
    return "" if told == _AT_START else told


def started(
    program: str, environment: Mapping[str, str], outputs: tuple[int | None, int | None]
) -> "tuple[Socket, subprocess.Popen[bytes]]":
    """Start one that runs a program, whose argument is the number of its end of a socket; return ours, and the process.

    Raises
    ------
    OSError
        If the system refuses.
    """
    ours, theirs = map(_above_standard, socket.socketpair())
    with theirs:
        os.set_blocking(theirs.fileno(), True)  # whatever the default time-out is, or who made the socket
        try:
            return ours, subprocess.Popen(  # noqa: S603 - our own interpreter and file
                [*_command(), "-c", program, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=outputs[0] if _is_open(1) else subprocess.DEVNULL,
                stderr=outputs[1] if _is_open(2) else subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=dict(environment),
                process_group=0,  # what a call starts ends with it, when it is killed
            )
        except BaseException:
            ours.close()
            raise


def environment(environ: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return what a child is to find in its environment."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads)) | dict(environ)


def _above_standard(end: socket.socket) -> Socket:
    """Keep a socket from the numbers of the standard streams, should these be closed: calls print to them."""
    if end.fileno() > 2:  # noqa: PLR2004 - stderr
        return Socket(fileno=end.detach())
    with end:
        return Socket(fileno=fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _command() -> list[str]:
    # -P: the working directory must not become importable before the parent says so.
    return [executable(), *subprocess._args_from_interpreter_flags(), "-P", *_x_options()]  # type: ignore[attr-defined]  # noqa: SLF001


def _x_options() -> Iterator[str]:
    """Yield all of them: what Python itself would pass on are only some."""
    for name, value in sys._xoptions.items():  # noqa: SLF001 - it is documented
        yield from ("-X", name if value is True else f"{name}={value}")
