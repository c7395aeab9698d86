"""Supervision as data: what a run does about failures and deaths.

One rule: the policy says, the plan decides by it, the supervisor acts. (The idea
is Erlang/OTP's: how many restarts in which period, and how long to wait before
the kill, are values and not code.)
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How the deaths of worker processes are answered. Actors that the user started are never restarted.

    Attributes
    ----------
    call_restarts : int
        How often a call that took its worker's process down is tried again.
    budget : int
        More deaths than this within `seconds` end the run.
    seconds : float
        The period of the budget.
    grace : float
        Seconds that a process which was told to stop has to end by itself before it is killed.
    """

    call_restarts: int = 1
    budget: int = 10
    seconds: float = 10.0
    grace: float = 2.0


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """What the user asked for, and how deaths and slow disks are answered.

    Attributes
    ----------
    stop_at_failure : bool
        Whether the first failed call ends the run.
    retries : int
        How often a call that raised is tried again.
    one_by_one : bool
        Whether every chunk is a single call.
    backlog_bytes : int
        No further call starts while more bytes of results than this wait to be saved.
    max_memory : int or None
        Bytes of memory that all workers together may hold before no further call starts.
    stop_before : float or None
        When the run has to be over, in seconds since 1970.
    restart : RestartPolicy
        How deaths are answered.
    """

    stop_at_failure: bool = True
    retries: int = 0
    one_by_one: bool = False
    backlog_bytes: int = 1 << 26
    max_memory: int | None = None
    stop_before: float | None = None
    restart: RestartPolicy = RestartPolicy()
