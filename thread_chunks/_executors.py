"""What an executor is asked, and how the function gets to where its calls run.

One rule: everything here is said in the words of `concurrent.futures.Executor`. What one kind of
executor needs beyond that is a subclass: threads here, and those that reach other machines in
`_cluster_executors`. This room runs in the worker's thread and knows nothing of runs.
"""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, ClassVar

from . import _engine
from ._by_value import dump_copied
from ._here import run_here
from ._received import outcome
from .messages import Call, Outcome


class Engine:
    """An executor that pickles what it is given.

    Parameters
    ----------
    executor
        It.
    """

    _advice: ClassVar[str] = "give the run an executor of its own"

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._occupied: tuple[object, ...] = ()

    def join(self, occupied: tuple[object, ...]) -> None:
        """Take note of what waits for the calls that are about to come.

        Parameters
        ----------
        occupied
            As in `JoinRun`.

        Raises
        ------
        RuntimeError
            If that is this executor: its threads may all be in calls that wait for these.
        """
        if self.address in occupied:
            msg = (
                "this run is made in a call that the same executor runs, and all its threads may be in calls that "
                f"wait for such runs: {self._advice}"
            )
            raise RuntimeError(msg)
        self._occupied = *occupied, self.address

    @property
    def address(self) -> object:
        """What tells it from others in this process."""
        return self.executor

    def ship(self, func: Callable[..., Any], pickled: tuple[bytes, list[Any]] | None) -> Any:
        """Return what stands for a function in each call; blocks where that takes the network.

        Parameters
        ----------
        func
            The function.
        pickled
            The same, pickled; ``None`` if that is still to be done.
        """
        return _engine.Shipped.of(pickled or dump_copied(func))

    def pack(self, call: Call) -> Any:
        """Make one call ready to travel; raises whatever pickling its arguments raises."""
        return call.index, dump_copied((call.args, call.kwargs))

    def submit(self, function: Any, packed: Any, slot: int, *, durable: bool) -> "Future[Any]":
        """Hand one call over, and do not wait for it.

        Parameters
        ----------
        function
            What `ship` returned.
        packed
            What `pack` returned.
        slot
            The number that its trace names as the worker.
        durable
            Whether the result will be saved.

        Returns
        -------
        Future
            Of an outcome, or of what `_engine.run` returns.
        """
        return self._submit(_engine.run, function, *packed, slot)

    def _submit(self, run: Callable[..., Any], *args: Any) -> "Future[Any]":
        return self.executor.submit(run, *args)

    def outcome(self, index: int, value: Any, *, durable: bool) -> Outcome:
        """Make an outcome of what a future brought.

        Parameters
        ----------
        index
            The index of the call.
        value
            The result of the future.
        durable
            Whether it will be saved.
        """
        return outcome(index, value, durable=durable)

    def check(self) -> str | None:
        """Look whether calls can be carried out; must not block.

        Returns
        -------
        str or None
            Why not for now; ``None`` if they can, or nobody knows.

        Raises
        ------
        BrokenExecutor
            If they never will be again, and no future may tell.
        CancelledError
            If what is in flight may be lost, and no future may tell.
        """
        return None

    def is_broken_by(self, error: BaseException) -> bool:
        """Tell whether an executor that reports this takes no more calls."""
        return isinstance(error, BrokenExecutor)

    def close(self, *, is_idle: bool) -> None:
        """Shut an executor down that was made here; waits for its end only where nothing runs."""
        if is_idle:
            self.executor.shutdown()
            return
        try:
            self.executor.shutdown(wait=False, cancel_futures=True)
        except TypeError:  # Dask's has no such argument, and cancels then by itself
            self.executor.shutdown(wait=False)


class ThreadEngine(Engine):
    """Threads of this process: nothing is pickled on the way, so calls share what the script holds."""

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)
        self._running: set[int] = set()
        self._has_begun = False

    def check(self) -> str | None:
        """Look whether any call has begun: the threads may all wait for this very run."""
        has_begun, self._has_begun = self._has_begun, False
        return None if has_begun or self._running else "no thread of the executor begins a call"

    def ship(self, func: Callable[..., Any], pickled: tuple[bytes, list[Any]] | None) -> Any:
        """Return the function."""
        return func

    def pack(self, call: Call) -> Any:
        """Return the call."""
        return call

    def submit(self, function: Any, packed: Any, slot: int, *, durable: bool) -> "Future[Outcome]":
        """Hand one call over."""
        return self.executor.submit(self._run, function, packed, slot, durable)

    def _run(self, func: Callable[..., Any], call: Call, slot: int, durable: bool) -> Outcome:
        """Run one call; in one of those threads."""
        self._has_begun = True
        self._running.add(call.index)
        try:
            return run_here(func, call, slot, durable, self._occupied)
        finally:
            self._running.discard(call.index)

    def outcome(self, index: int, value: Any, *, durable: bool) -> Outcome:
        """Return it: it was made where the call ran."""
        return value  # type: ignore[no-any-return]
