"""The near half of one Ray actor: start it, have it run calls, end it.

One rule: every wait ends: with a result, with what Ray says of a death, at the time limit, or
when nobody waits any more. And nothing of Ray's outlives that: no handle, no reference. What is done about a death is not known here.
"""

import concurrent.futures
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy as np

from . import config
from ._by_value import dump
from ._halt import Halt
from ._not_started import NotStartedError
from ._ray_session import Session, UnwantedError
from ._received import outcome
from .errors import CallTimeoutError, WorkerDiedError
from .messages import Call, Outcome

_LINE = 300  # characters of what Ray says of a death


class RayActor:
    """One Ray actor, and what it holds.

    Parameters
    ----------
    session
        The Ray that starts it.
    options
        What it needs.
    is_wanted
        Asked while waiting whether to go on.
    woken
        Set by whoever wants that to be asked at once.
    tell_stalled
        Told, once, why it takes long to start the actor.
    """

    def __init__(
        self,
        session: Session,
        options: dict[str, Any],
        is_wanted: Callable[[], bool],
        woken: threading.Event,
        tell_stalled: Callable[[str], None],
    ) -> None:
        self._session = session
        self._options = options
        self._is_wanted = is_wanted
        self._woken = woken
        self._tell_stalled = tell_stalled
        self._ray = session.opened(is_wanted)
        self._func: Callable[..., Any] | None = None
        self._handle: Any = session.started(options)

    def holds(self, func: Callable[..., Any]) -> bool:
        """Tell whether a function is the one that it holds."""
        return func is self._func

    def hold(self, func: Callable[..., Any], pickled: tuple[bytes, list[Any]]) -> None:
        """Give it a function; blocks until there is room for the actor.

        Parameters
        ----------
        func
            The function.
        pickled
            The same, pickled.

        Raises
        ------
        NotStartedError
            If Ray does not start the actor.
        UnwantedError
            If nobody waits any more.
        """
        try:
            self._wait(self._handle.hold.remote(self._session.shared(pickled)).future(), self._check_room())
        except self._ray.exceptions.RayError as error:
            msg = f"Ray could not start an actor: {_shown(error)}"
            raise NotStartedError(msg) from error
        self._func = func

    def run(self, call: Call, timeout: float | None, slot: int, *, durable: bool) -> Outcome:
        """Run one call of the function that it holds; blocks until the call ended.

        Parameters
        ----------
        call
            What to run.
        timeout
            Seconds after which the actor is killed.
        slot
            The number that its trace names as the worker.
        durable
            Whether the result will be saved.

        Raises
        ------
        CallTimeoutError
            If it took longer; the actor was killed.
        WorkerDiedError
            If the actor died, or was lost.
        UnwantedError
            If nobody waits any more; the actor was killed.
        BaseException
            Whatever pickling the arguments raises.
        """
        main, buffers = dump((call.args, call.kwargs))
        arrays = tuple(np.frombuffer(buffer, np.uint8) for buffer in buffers)
        try:
            value = self._wait(
                self._handle.run.remote(call.index, main, arrays, slot).future(), _limit(timeout)
            )
        except (CallTimeoutError, UnwantedError):
            raise
        except Exception as error:
            # Ray reports deaths in many ways, and a Ray that was shut down meanwhile in some more.
            raise _death(error) from error
        return outcome(call.index, value, durable=durable)

    def kill(self) -> None:
        """End it at once, whatever it runs."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(Exception):
                self._ray.kill(handle)

    def stop(self) -> None:
        """Let it end by itself, as it runs nothing; does not wait."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(Exception):
                handle.__ray_terminate__.remote()

    def _wait(self, future: "Future[Any]", check: Callable[[], float]) -> Any:
        """Wait for what Ray promised; `check` says how long until it is to be asked again, or raises."""
        try:
            future.add_done_callback(self._wake)
            while not future.done():
                if not self._is_wanted():
                    raise UnwantedError
                self._woken.wait(min(check(), config.heartbeat_seconds))
                self._woken.clear()
            return future.result()
        except BaseException:
            self.kill()
            concurrent.futures.wait((future,), config.heartbeat_seconds)
            raise
        finally:
            # Not to be kept by a traceback: Ray ends this process if it is told of a reference's end after its own.
            del future

    def _wake(self, _: object) -> None:
        self._woken.set()

    def _check_room(self) -> Callable[[], float]:
        """Return what looks, while an actor waits to be started, whether there can ever be room for it."""
        halt = Halt(config.stall_seconds)

        def check() -> float:
            if self._session.is_local and (lack := self._lack()):
                msg = f"the Ray that was started here has {lack}: ask for less in RayWorker.on()"
                raise NotStartedError(msg)
            if halt.is_news(time.monotonic()):
                needed = f" with {self._options}" if self._options else ""
                self._tell_stalled(f"Ray has no room for another actor{needed}")
            return config.heartbeat_seconds

        return check

    def _lack(self) -> str:
        """Say what the actor needs and Ray has not, not even when nothing runs."""
        needed = {"CPU": self._options.get("num_cpus"), "GPU": self._options.get("num_gpus")}
        needed |= self._options.get("resources") or {}
        there = self._ray.cluster_resources()
        return " and ".join(
            f"{there.get(name, 0):g} {name} of the {count:g} that a worker needs"
            for name, count in needed.items()
            if (count or 0) > there.get(name, 0)
        )


def _limit(timeout: float | None) -> Callable[[], float]:
    """Return what raises when the time of a call is up."""
    if timeout is None:
        return lambda: config.heartbeat_seconds
    deadline = time.monotonic() + timeout

    def check() -> float:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            msg = f"the call took longer than its timeout of {timeout:g} s, and its Ray actor was killed"
            raise CallTimeoutError(msg)
        return remaining + 0.001

    return check


def _death(error: Exception) -> WorkerDiedError:
    """Say how an actor ended; with a machine, or for want of memory, others may be to blame."""
    shown = _shown(error)
    is_shared = any(word in shown.lower() for word in ("memory", "node"))
    death = WorkerDiedError(f"the Ray actor died: {shown}", is_shared=is_shared)
    death.__cause__ = error
    return death


def _shown(error: BaseException) -> str:
    """Say in one line what Ray says; the whole of it is the cause of what we raise."""
    lines = str(error).partition("Some common causes")[0].strip().splitlines()
    line = lines[-1].strip() if lines else ""
    return f"{type(error).__name__}: {line[:_LINE]}" if line else type(error).__name__
