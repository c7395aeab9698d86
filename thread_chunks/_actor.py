"""What all our actors share, and how they are started, asked and stopped without a leak or a hang.

Two rules. Every wait for an actor looks whether it lives. And what Ctrl-C must not
cut in half, such as starting an actor and noting that it was started, is done in a
`Steward`: signals reach the main thread only, so another thread does it, and the main
one waits where it can be interrupted. This room knows no messages.
"""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import pykka

from . import config
from .errors import RunStoppedError

_Jobs: TypeAlias = (
    "queue.SimpleQueue[tuple[Callable[[], None], queue.SimpleQueue[BaseException | None]] | None]"
)


_SHUTDOWN = (
    "chunk() cannot run at interpreter shutdown, as no thread can be started then, and none runs any more: "
    "call it before the script ends, and not in __del__ or an exit handler"
)


class Actor(pykka.ThreadingActor):
    """An actor whose end is its own.

    Its thread does not keep the script alive. It is forgotten if it cannot be started. An
    exit in one of its messages ends this actor, as any error does: pykka would take
    ``SystemExit`` as a reason to stop every actor of the process, other people's too.
    """

    use_daemon_thread = True

    def _handle_receive(self, message: Any) -> Any:
        try:
            return super()._handle_receive(message)
        except Exception:
            raise
        except BaseException as error:
            msg = f"{type(self).__name__} ended with {error!r}"
            raise RuntimeError(msg) from error

    def begin(self) -> None:
        """Start an actor that was only constructed: the rest of what pykka's ``start`` does."""
        pykka.ActorRegistry.register(self.actor_ref)
        self._start_actor_loop()

    def _start_actor_loop(self) -> None:
        try:
            super()._start_actor_loop()
        except BaseException:
            # It is in the registry by now, and nobody could ever stop it.
            pykka.ActorRegistry.unregister(self.actor_ref)
            raise

    def _actor_loop_setup(self) -> None:
        try:
            super()._actor_loop_setup()
        except BaseException:  # noqa: BLE001 - an exit in a start hook; pykka would take it for a living actor
            self._handle_failure(*sys.exc_info())


class Steward:
    """One thread that does one thing after another, out of reach of Ctrl-C.

    What was begun is finished, whoever stopped waiting for it, and what is asked for later
    comes behind it.
    """

    def __init__(self) -> None:
        self._jobs: _Jobs = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    def do(self, job: Callable[[], None]) -> None:
        """Have a job done. Blocks until it is; Ctrl-C ends the waiting, and not the job.

        Parameters
        ----------
        job
            What to do.

        Raises
        ------
        RunStoppedError
            As for `check`.
        BaseException
            What the job raised.
        """
        self.check()
        if self._thread is None:
            self._thread = self._started()
        answer: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._jobs.put((job, answer))
        error = self._answer(answer)
        if error is not None:
            raise error

    def _answer(self, answer: "queue.SimpleQueue[BaseException | None]") -> BaseException | None:
        while True:
            with suppress(queue.Empty):
                return answer.get(timeout=config.heartbeat_seconds)
            self.check()

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=_work, args=(self._jobs,), name="thread_chunks steward", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if "shutdown" not in str(error):  # else Python 3.12 says so in exit handlers
                raise
            raise RunStoppedError(_SHUTDOWN) from error
        return thread

    @property
    def is_left_behind(self) -> bool:
        """Whether this process was forked from the one that the run is in: no thread came with it."""
        return os.getpid() != self._process

    def check(self) -> None:
        """Refuse to wait for threads that run no more.

        Raises
        ------
        RunStoppedError
            If this process was forked in the middle of the run, or the interpreter shuts down.
        """
        if self.is_left_behind:
            msg = (
                "this process was forked in the middle of a run, which goes on in its parent only. "
                "End the copy with os._exit() where it was forked, or call chunk() in it anew"
            )
            raise RunStoppedError(msg)
        if sys.is_finalizing():
            raise RunStoppedError(_SHUTDOWN)

    def dismiss(self, last: Callable[[], None] = lambda: None) -> None:
        """Let the thread end behind one last job; waits for it only a moment.

        Parameters
        ----------
        last
            What to do, if anything is left to do.
        """
        self._jobs.put((last, queue.SimpleQueue()))
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(config.interrupt_seconds)

    def __del__(self) -> None:
        """Let the thread end if Ctrl-C came before `dismiss` could."""
        self._jobs.put(None)


def _work(jobs: _Jobs) -> None:
    while (task := jobs.get()) is not None:
        job, answer = task
        try:
            job()
            answer.put(None)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
            answer.put(error)
        del task, job, answer  # they would keep a run alive that nobody else needs


def wait(stopping: Sequence["pykka.Future[bool]"], seconds: float) -> None:
    """Wait for actors to end; those that take longer are daemon threads and are left.

    Parameters
    ----------
    stopping
        What their `stop` returned.
    seconds
        How long to wait for all of them together.
    """
    deadline = time.monotonic() + seconds
    for future in stopping:
        with suppress(Exception):  # its stop hook raised: it has ended all the same
            try:
                future.get(timeout=max(0.0, deadline - time.monotonic()))
            except pykka.Timeout:
                return


def ask(actor: "pykka.ActorRef[Any]", message: Any, check: Callable[[], None] = lambda: None) -> Any:
    """Ask an actor and wait for the answer, as long as it lives.

    Parameters
    ----------
    actor
        Whom.
    message
        What.
    check
        Called at each look whether it lives; what it raises ends the waiting.

    Returns
    -------
    Any
        The answer.

    Raises
    ------
    RunStoppedError
        If the actor ended without one.
    Exception
        What the actor raised.
    """
    future = actor.ask(message, block=False)
    while True:
        is_alive = actor.is_alive()
        check()
        try:
            return future.get(timeout=config.heartbeat_seconds)
        except pykka.Timeout:
            if not is_alive:
                break
        except pykka.ActorDeadError:
            break
    check()  # that may be why
    msg = f"{actor.actor_class.__name__} was stopped by someone else"
    raise RunStoppedError(msg)
