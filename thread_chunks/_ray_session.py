"""The Ray of this process: who starts it, and who stops it.

One rule: Ray is stopped by whoever started it. What the script had initialised already is used
and left; otherwise the first worker that needs Ray starts it, or connects to the one that the
environment names, and the last one gives it back. A process has one Ray at most, so all workers
share one session, whichever run they belong to.

A thread of its own starts Ray, waits, and stops it. On Linux, Ray's processes end with the
*thread* that started them, so nothing is left when this process is killed, and a worker's own
thread would take the Ray of others along. And only the main thread would let Ray change how
this process takes SIGTERM. This room knows no messages and no runs.
"""

import atexit
import importlib
import importlib.util
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np

from . import _engine, config
from ._not_started import NotStartedError
from ._ray_host import RayHost

# Ray would restart actors and repeat calls by itself; here the plan decides about that.
FIXED = {"max_restarts": 0, "max_task_retries": 0}
"""What every Ray actor of ours is made with."""


class UnwantedError(Exception):
    """Nobody waits any more for what was waited for."""


class Session:
    """The time in which this process uses Ray: from the first worker that needs it to the last.

    Parameters
    ----------
    after
        Set when the session before this one is over.

    Attributes
    ----------
    is_local : bool
        Whether the Ray was started here, and so will never have more than it has now.
    users : int
        How many workers use it.
    process : int
        Where it works: not in a fork of that.
    over : Event
        Set when Ray is stopped, if that was to be done.
    """

    _lock: ClassVar[Any] = threading.RLock()  # a worker may be forgotten while its thread holds it
    _latest: ClassVar["Session | None"] = None

    def __init__(self, after: threading.Event | None) -> None:
        self.is_local = False
        self._is_ours = False
        self._ray: Any = None
        self._hosts: Any = None
        self.users = 0
        self.process = os.getpid()
        self._error: BaseException | None = None
        self._is_up = threading.Event()
        self._is_unused = threading.Event()
        self.over = threading.Event()
        self._shared: tuple[Any, Any] | None = None
        threading.Thread(target=self._keep, args=(after,), name="thread_chunks ray", daemon=True).start()

    @classmethod
    def joined(cls) -> "Session":
        """Use Ray from now on, and do not wait until it is there; to be followed by one `leave`.

        Raises
        ------
        NotStartedError
            If this process was forked from one that uses Ray: it cannot use it, too.
        """
        with cls._lock:
            latest = cls._latest
            if latest is None or not latest.is_open:
                after = None if latest is None else latest.hand_over()
                latest = cls._latest = Session(after)
            elif latest.process != os.getpid():
                msg = "this process was forked from one that uses Ray, which works in its parent only"
                raise NotStartedError(msg)
            latest.users += 1
            return latest

    @classmethod
    def wait_over(cls, seconds: float) -> None:
        """Wait until Ray is stopped, if nobody uses it any more; in any thread.

        Parameters
        ----------
        seconds
            At most so long.
        """
        latest = cls._latest
        if latest is not None and not latest.users and latest.process == os.getpid():
            latest.over.wait(seconds)

    @property
    def is_open(self) -> bool:
        """Whether Ray is there, or will be."""
        if not self.users or self._error is not None:
            return False
        return not self._is_up.is_set() or bool(self._ray.is_initialized())

    def leave(self) -> None:
        """Use Ray no longer; the last one to say so has it stopped, if it was started here."""
        with self._lock:
            self.users -= 1
            if not self.users:
                self._is_unused.set()

    def opened(self, is_wanted: Callable[[], bool]) -> Any:
        """Wait until Ray is there, and return its module.

        Parameters
        ----------
        is_wanted
            Asked at each heartbeat whether to go on waiting.

        Raises
        ------
        UnwantedError
            If not.
        NotStartedError
            If it cannot be started; Ray's own error is the cause.
        """
        while not self._is_up.wait(config.heartbeat_seconds):
            if not is_wanted():
                raise UnwantedError
        if self._error is not None:
            msg = f"Ray could not be started: {type(self._error).__name__}: {self._error}"
            raise NotStartedError(msg) from self._error
        return self._ray

    def started(self, options: dict[str, Any]) -> Any:
        """Have Ray start an actor of ours, and do not wait for it.

        Parameters
        ----------
        options
            What Ray is asked for.

        Returns
        -------
        ActorHandle
            It.
        """
        return self._hosts.options(**options).remote()

    def shared(self, pickled: tuple[bytes, list[Any]]) -> Any:
        """Put a function where every machine can take it from; once for all workers that are told the same.

        Parameters
        ----------
        pickled
            The function, pickled, and its large buffers.

        Returns
        -------
        ObjectRef
            Of an `_engine.Shipped`.
        """
        with self._lock:
            if self._shared is None or self._shared[0] is not pickled:
                main, buffers = pickled
                function = _engine.Shipped.of((main, [np.frombuffer(buffer, np.uint8) for buffer in buffers]))
                self._shared = pickled, self._ray.put(function)
            return self._shared[1]

    def hand_over(self) -> threading.Event | None:
        """Leave what comes to the next session; return what it has to wait for."""
        if self.process != os.getpid():
            return None
        if self.users:  # the script stopped Ray under its workers
            self._is_ours = False
            return None
        return self.over

    def _keep(self, after: threading.Event | None) -> None:
        try:
            if after is not None:
                after.wait()
            self._ray = importlib.import_module("ray")
            atexit.unregister(_finish)
            atexit.register(_finish)  # now, so that it comes before what Ray does at the end
            if not self._ray.is_initialized():
                self._is_ours = True
                self.is_local = _start(self._ray)
            self._hosts = self._ray.remote(**FIXED)(RayHost)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            self._error = error
        self._is_up.set()
        self._is_unused.wait()
        self._shared = None
        if self._is_ours and self._ray is not None:
            with suppress(Exception):
                self._ray.shutdown()
        self.over.set()


def _finish() -> None:
    """Let Ray be stopped in peace before the interpreter ends, if it is being stopped: after Ctrl-C nobody waited."""
    Session.wait_over(config.grace_seconds)


def _start(ray: Any) -> bool:
    """Connect to the Ray that the environment names, or start one; tell whether it was started here."""
    options: dict[str, Any] = {"logging_level": logging.ERROR}
    named = os.environ.get("RAY_ADDRESS", "")
    if "://" not in named:
        options["include_dashboard"] = False
    if not _answers(named or ray._private.utils.read_ray_address() or ""):  # noqa: SLF001 - as below
        if named:
            msg = (
                f"nothing answers at {named}, which RAY_ADDRESS names: start that Ray, or unset the variable"
            )
            raise ConnectionError(msg)
        options["address"] = "local"  # what `ray start` left a note of has ended since
    ray.init(**options)
    node = getattr(ray._private.worker, "_global_node", None)  # noqa: SLF001 - nothing public tells it
    return node is not None and bool(node.is_head())


def _answers(address: str) -> bool:
    """Tell whether a Ray may be there, in seconds: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdecimal():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), config.grace_seconds).close()
    except OSError:
        return False
    return True


def check_installed() -> None:
    """Refuse to go on without Ray; looks for it, and does not import it.

    Raises
    ------
    ImportError
        With the fix.
    """
    if importlib.util.find_spec("ray") is None:
        msg = 'RayWorker needs Ray: install it, with python -m pip install "thread-chunks[ray]"'
        raise ImportError(msg, name="ray")
