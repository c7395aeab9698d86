"""Kills: the run is killed at every step that changes its file, and again while it recovers."""

import signal

import pytest
from conftest import Programs
from harness import Case

SWEEP = """
    import disk

    at, when = int(sys.argv[2]), sys.argv[3]
    if at:
        disk.kills(at, when)
    outputs = sweep(count=4)
    assert outputs == [value(x) for x in range(4)]
    expect_tidy()
"""


@pytest.mark.parametrize("when", ["before", "half", "after"])
def test_run_recovers_when_it_is_killed_at_any_step(when: str, programs: Programs) -> None:
    """kill -9 before, half-way through and after each write, fsync, rename: nothing reported is lost or run again."""
    for at in range(1, 100):
        case = Case(programs.within(f"step {at}"), SWEEP, count=4)
        code = case.run(at, when, code=None).returncode
        assert code in {0, -signal.SIGKILL}
        case.finish(0, "never")
        if code == 0:
            break
    assert at > 10  # creation, four results, and the fold are more steps than that
