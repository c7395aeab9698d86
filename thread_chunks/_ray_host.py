"""The far half of a Ray worker: what each of its Ray actors is made of.

One rule: as `_engine`, which does the work, it brings back plain data and lets nothing of the
user's code past, so an exception that Ray reports is Ray's own. This room runs in Ray's
processes, and imports nothing of Ray. thread-chunks must be installed there.
"""

from typing import Any

from . import _engine


class RayHost:
    """Run the calls of one worker, one after another."""

    def __init__(self) -> None:
        self._function: _engine.Shipped | None = None

    def hold(self, function: _engine.Shipped) -> None:
        """Take the function that the next calls are for; it is unpickled with the first of them.

        Parameters
        ----------
        function
            It. Ray brings it once to each machine, and its large buffers are not copied here.
        """
        self._function = function

    def run(self, index: int, main: bytes, buffers: tuple[Any, ...], slot: int) -> tuple[Any, ...]:
        """Run one call.

        Parameters
        ----------
        index
            The index of the call.
        main, buffers
            Its arguments: their pickle, and its large buffers.
        slot
            The number that its trace names as the worker.

        Returns
        -------
        tuple
            As `_engine.run`.
        """
        assert self._function is not None
        # Copies: what Ray brings is read-only, and the function may write into its arguments.
        return _engine.run(self._function, index, (main, tuple(map(bytearray, buffers))), slot)
