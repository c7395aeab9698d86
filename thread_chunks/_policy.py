"""Supervision as data: what a run does about failures and deaths.

One rule: the policy says, the plan decides by it, the supervisor acts. (The idea
is Erlang/OTP's: how many restarts in which period is a value, not code.)
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """What the user asked for, and how deaths are answered.

    Attributes
    ----------
    stop_at_failure : bool
        Whether the first failed call ends the run.
    retries : int
        How often a call that raised is tried again.
    one_by_one : bool
        Whether every chunk is a single call.
    call_restarts : int
        How often a call that took its worker's process down is tried again.
    restart_budget : int
        Deaths in `restart_seconds` that end the run.
    restart_seconds : float
        The period of the budget.
    """

    stop_at_failure: bool = True
    retries: int = 0
    one_by_one: bool = False
    call_restarts: int = 1
    restart_budget: int = 10
    restart_seconds: float = 10.0
