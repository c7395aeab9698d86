"""What workers have in common whose one call runs elsewhere, in something that can die.

One rule: a call that raised is an outcome, and what carried it out and died is none: the plan
decides about that. What it is that dies, a child process or an actor of Ray, is known to the
worker classes themselves.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from ._here import failed_call
from ._not_started import NotStartedError
from .errors import WorkerDiedError
from .messages import Call, Outcome, WorkerStopped
from .worker import Worker


class RemoteWorker(Worker):
    """Has each call carried out by something of its own that may die with it, and that can be killed."""

    can_kill: ClassVar[bool] = True
    needs_pickle: ClassVar[bool] = True

    def _carry_out(self, func: Callable[..., Any], call: Call, *, durable: bool) -> Outcome:
        """Have one call carried out, and wait for it; a death is noted in `_death` and raised."""
        raise NotImplementedError

    @property
    def _is_plain(self) -> bool:
        """Whether `execute` is ours: then results go straight on to the supervisor."""
        raise NotImplementedError

    def _outcome(self, call: Call) -> Outcome:
        if not self._is_plain or self._func is None:
            return super()._outcome(call)
        try:
            durable = self._run is not None and self._run.durable
            return self._carry_out(self._func, call, durable=durable)
        except BaseException as error:  # what came of the call is its outcome, an exit too
            if error is self._death:
                raise
            return failed_call(call.index, error)

    def _died(self, error: WorkerDiedError) -> None:
        """Report a death; where nothing can be started, leave the run to the other workers."""
        self._death = None
        error.with_traceback(None)  # its frames hold what was sent, and say nothing of the call
        if isinstance(error, NotStartedError):
            self._leave_run(error)
        else:
            super()._died(error)

    def _leave_run(self, error: BaseException | None) -> None:
        self._report(WorkerStopped(self.actor_ref, error))
        self._run = None
