"""The Ray worker: an actor of ours with one Ray actor of its own, on this machine or another.

It is to Ray what the process worker is to child processes: the Ray actor is started when it is
first needed and again after a call took it down, and whether the worker gets another call after
that is the plan's decision. How one talks to a Ray actor is known to `_ray_actor`, and who starts
and stops Ray to `_ray_session`. Nothing here imports Ray before a worker needs it.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, Self

from . import config
from ._by_value import dump_copied
from ._late import imported
from ._not_started import NotStartedError
from ._ray_actor import RayActor
from ._ray_host import RayHost
from ._ray_session import FIXED, Session, UnwantedError, check_installed
from ._remote_worker import RemoteWorker
from .errors import CallTimeoutError, WorkerDiedError
from .messages import Call, EngineStalled, FailedCall, GetReady, JoinRun, Outcome, WorkerJoined

__all__ = ["RayWorker"]


class RayWorker(RemoteWorker):
    """Run calls in a Ray actor of its own: on this machine, or on any of a cluster.

    A Ray that the script has initialised is used and left as it is. Otherwise the one that the
    environment names (``RAY_ADDRESS``), or that ``ray start`` started on this machine, is connected to;
    and if there is none, one is started here, and stopped when the last worker ends.

    The function travels once to each machine. A call that crashes or hangs takes only its own Ray
    actor down. thread-chunks must be installed wherever Ray runs.

    An override of `execute` runs in the worker's thread in the script's process; its
    ``super().execute(...)`` runs the call in the Ray actor, blocks until it ended, and returns the result.
    So each worker has a thread here and, in a run, a Ray actor there.

    Parameters
    ----------
    func : callable, optional
        The function to run until a run brings another.
    **options : Any
        What the Ray actor needs: see `on`.

    Raises
    ------
    ImportError
        If Ray is not installed.
    ValueError
        If Ray knows no such option, or if it is one that the worker decides about itself. `chunk`, which makes
        its workers in the thread that called it, raises both before any call runs.

    Examples
    --------
    Nothing is started before a run, as in ``chunk(f, parameters, worker=worker)``.

    >>> from thread_chunks import RayWorker
    >>> worker = RayWorker.on(num_cpus=1)
    >>> worker.func is RayWorker, worker.keywords
    (True, {'num_cpus': 1})
    >>> RayWorker(abs, max_restarts=3)
    Traceback (most recent call last):
        ...
    ValueError: RayWorker decides about max_restarts itself: leave that out, and see retries= of chunk()
    """

    def __init__(self, func: Callable[..., Any] | None = None, **options: Any) -> None:
        super().__init__(func)
        check_installed()
        _check_options(options)
        self._options = options
        self._session: Session | None = None
        self._actor: RayActor | None = None
        self._is_killed = False
        self._woken = threading.Event()

    @classmethod
    def on(cls, **options: Any) -> "functools.partial[Self]":
        """Choose what each Ray actor needs; for the ``worker`` of `chunk` and `Chunker`.

        Starts nothing and does not block. The options are looked at when a worker is made.

        Parameters
        ----------
        **options : Any
            Whatever Ray's own ``@ray.remote(...)`` takes for an actor: ``num_cpus``, ``num_gpus``, ``memory``,
            ``resources``, ``scheduling_strategy``, ``runtime_env``, ... By default, as with any actor of Ray,
            a machine must have a CPU, and the actor keeps none: so any number of them fits.

        Returns
        -------
        functools.partial
            ``worker=RayWorker.on(num_gpus=1)``.
        """
        return functools.partial(cls, **options)

    @classmethod
    def wait_released(cls, seconds: float) -> None:
        """Wait until Ray is stopped, if nobody uses it any more and it was started by workers.

        Blocks the thread that calls it: that of the worker which used it last, or the one that called `chunk`.

        Parameters
        ----------
        seconds : float
            At most so long.
        """
        Session.wait_over(seconds)

    def execute(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run one call in the Ray actor and return its result.

        Blocks the worker's thread until the call ended; the first time until Ray has started, too.

        Parameters
        ----------
        func : callable
            The function. It travels unless it was the last one there.
        *args, **kwargs : Any
            The arguments; they are pickled.

        Returns
        -------
        Any
            What the call returned.

        Raises
        ------
        WorkerDiedError
            If the Ray actor died.
        CallTimeoutError
            If the run has a ``timeout`` and the call took longer.
        BaseException
            Whatever the call raised.
        """
        outcome = self._carry_out(func, Call(0, args, kwargs), durable=False)
        if isinstance(outcome, FailedCall):
            raise outcome.exception
        return outcome.outputs[0]

    # --- the actor ---------------------------------------------------------------

    def on_stop(self) -> None:
        """End the Ray actor, stop Ray if nobody else needs it, and report.

        Blocks the worker's thread until Ray has stopped, at most `config.ray_stop_seconds`.
        """
        self._end_actor()
        self._leave_session()
        self.wait_released(config.ray_stop_seconds)
        super().on_stop()

    def __del__(self) -> None:
        """Leave Ray to the others if the worker was forgotten without being stopped."""
        if hasattr(self, "_actor"):
            self._end_actor()
            self._leave_session()

    def _get_ready(self, message: GetReady) -> None:
        """Have Ray started, which takes seconds, and do not wait."""
        self._joined_session()

    def _join(self, message: JoinRun) -> None:
        self._run, self._is_killed = message, False
        self._report(WorkerJoined(self.actor_ref, self._kill, lambda: 0))
        try:
            func = self._func if message.func is None else message.func
            if func is not None:
                self._holding(func)
        except NotStartedError as error:
            self._leave_run(error)
        except UnwantedError:
            self._leave_run(None)
        except Exception:  # noqa: BLE001 - a function that cannot travel fails its calls, as they come
            super()._join(message)
        else:
            super()._join(message)

    def _leave_run(self, error: BaseException | None) -> None:
        self._end_actor()
        super()._leave_run(error)

    def _kill(self) -> None:
        """Have the worker's thread end its Ray actor at once; called in the supervisor's thread."""
        self._is_killed = True
        self._woken.set()

    def _is_wanted(self) -> bool:
        """Whether somebody still waits for what this worker waits for."""
        return not self._is_killed and (self._run is None or self._run.supervisor.is_alive())

    def _tell_stalled(self, reason: str) -> None:
        self._report(EngineStalled(reason))

    def _joined_session(self) -> Session:
        if self._session is not None and not self._session.is_open:
            self._actor = None
            self._leave_session()
        if self._session is None:
            self._session = Session.joined()
        return self._session

    def _leave_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.leave()

    def _end_actor(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None:
            actor.stop()

    def _holding(self, func: Callable[..., Any]) -> RayActor:
        """Return a Ray actor that holds the function; what the run pickled is not pickled again."""
        session = self._joined_session()
        if self._actor is None:
            self._actor = RayActor(session, self._options, self._is_wanted, self._woken, self._tell_stalled)
        if not self._actor.holds(func):
            self._actor.hold(func, self._pickled_by_run(func) or dump_copied(func))
        return self._actor

    # --- calls -------------------------------------------------------------------

    @property
    def _is_plain(self) -> bool:
        """Whether `execute` is ours: then results go straight from Ray to the supervisor."""
        return type(self).execute is RayWorker.execute

    def _carry_out(self, func: Callable[..., Any], call: Call, *, durable: bool) -> Outcome:
        run = self._run
        timeout, number = (None, 0) if run is None else (run.timeout, run.number)
        try:
            return self._holding(func).run(call, timeout, number, durable=durable)
        except UnwantedError:
            self._actor, self._death = None, WorkerDiedError("the Ray actor was ended with its run")
            raise self._death from None
        except (WorkerDiedError, CallTimeoutError) as error:
            self._actor = None
            self._death = error if isinstance(error, WorkerDiedError) else None
            raise


def _check_options(options: dict[str, Any]) -> None:
    """Refuse what Ray would refuse, and what would take decisions from the plan.

    Raises
    ------
    ValueError
        With the fix.
    """
    taken = sorted({*FIXED, "max_concurrency", "lifetime", "name", "get_if_exists"} & set(options))
    if taken:
        msg = (
            f"RayWorker decides about {', '.join(taken)} itself: leave that out, and see retries= of chunk()"
        )
        raise ValueError(msg)
    if options:
        imported("ray").remote(**FIXED)(RayHost).options(**options)
