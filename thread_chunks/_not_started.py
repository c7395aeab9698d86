"""What workers tell of what they could not start: a child process, or Ray and its actors.

One rule: no call can be blamed for it, and to try again would not help, so such a worker leaves
the run to the others. Users meet it as the cause of what ends a run.
"""

from .errors import WorkerDiedError


class NotStartedError(WorkerDiedError):
    """What should run calls could not be started."""
