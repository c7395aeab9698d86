"""Kills: the run is killed at every step that changes its file, and again while it recovers."""

import secrets
import signal

import pytest
from conftest import Programs, beginning, sampled
from harness import Case
from soak import Soak

SWEEP = """
    import disk

    at, when = int(sys.argv[2]), sys.argv[3]
    if at:
        disk.kills(at, when)
    outputs = sweep(count=4)
    assert outputs == [value(x) for x in range(4)]
    expect_tidy()
"""


@sampled(3)  # writes and fsyncs take turns, so each is hit
@pytest.mark.parametrize("when", ["half", "after"])  # before one step is after another
def test_run_recovers_when_it_is_killed_at_any_step(when: str, stride: int, programs: Programs) -> None:
    """kill -9 half-way through and after each write, fsync, rename: nothing reported is lost or run again."""
    for at in range(1 + beginning(stride), 100, stride):
        case = Case(programs.within(f"step {at}"), SWEEP, count=4)
        code = case.run(at, when, code=None).returncode
        assert code in {0, -signal.SIGKILL}
        case.finish(0, "never")
        if code == 0:
            break
    assert at > 10  # creation, four results, and the fold are more steps than that


@sampled(3)
@pytest.mark.parametrize("when", ["half", "after"])  # before one step is after another
def test_run_recovers_when_it_is_killed_again_while_it_recovers(
    when: str, stride: int, programs: Programs
) -> None:
    """A run that is killed while it cuts off the torn tail of one that was killed before loses nothing either."""
    torn = Case(programs.within("torn"), SWEEP, count=4)
    torn.run(5, "half", code=-signal.SIGKILL)  # creation is four steps: this tears the first record
    for at in range(1 + beginning(stride), 100, stride):
        case = torn.copied(programs.within(f"step {at}"))
        code = case.run(at, when, code=None).returncode
        assert code in {0, -signal.SIGKILL}
        case.finish(0, "never")
        if code == 0:
            break
    assert at > 8


def test_run_recovers_when_it_is_killed_at_random(programs: Programs) -> None:
    """Whenever the run is killed, no more than the calls that ran or were not saved yet are run again."""
    soak = Soak(programs, secrets.randbits(32))
    print(soak.seed)  # noqa: T201 - pytest shows it when the test fails
    soak.go(kills=5)
    assert soak.counts["kill -9"] == 5
