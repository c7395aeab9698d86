"""The pace: what is counted, what is promised about the rest, and in which words."""

import pytest

from thread_chunks._pace import Pace, duration


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Give a clock for one test."""
    return Clock()


def test_pace_promises_nothing_before_a_call_returned(clock: Clock) -> None:
    """Before the first result of this run the time left is a question mark, whatever was resumed or failed."""
    pace = Pace("f", 60, 12, 4, clock=clock)
    clock.now += 3600
    assert pace.seconds_left is None
    pace.failed()
    assert pace.seconds_left is None
    assert pace.line() == "f: 12/60 calls (20%), 12 resumed, 1 failed, 1 h/call, ? left, 1 h elapsed"


def test_pace_of_long_calls_follows_their_mean_and_how_many_run_at_once(clock: Clock) -> None:
    """The first result of four calls of an hour makes 60 calls take 15 hours, and not 59."""
    pace = Pace("f", 60, 0, 4, clock=clock)
    clock.now += 3600
    pace.saved(1, 3600)
    assert pace.seconds_left == pytest.approx(3600 * 59 / 4)
    pace.saved(3, 3 * 3600)
    assert pace.seconds_left == pytest.approx(3600 * 56 / 4)


def test_pace_of_short_calls_follows_what_the_run_really_needs(clock: Clock) -> None:
    """Calls of no time at all take the time that handing out and saving takes."""
    pace = Pace("f", 3000, 0, 2, clock=clock)
    clock.now += 10
    pace.saved(1000, 0.001)
    assert pace.seconds_left == pytest.approx(20, rel=0.01)
    assert "100 calls/s, 19 s left" in pace.note()


def test_pace_counts_only_calls_that_really_run_at_once_at_the_end(clock: Clock) -> None:
    """With fewer calls left than could run, the rest takes as long as one call."""
    pace = Pace("f", 10, 0, 8, clock=clock)
    clock.now += 20
    pace.saved(8, 80)
    assert pace.seconds_left == pytest.approx(10)


def test_pace_is_not_changed_by_what_was_resumed(clock: Clock) -> None:
    """A run that resumed a million calls promises the same as one of the rest alone."""
    resumed, alone = Pace("f", 1_000_010, 1_000_000, 2, clock=clock), Pace("f", 10, 0, 2, clock=clock)
    clock.now += 8
    for pace in (resumed, alone):
        pace.saved(4, 16)
    assert resumed.seconds_left == alone.seconds_left == pytest.approx(12)
    assert "2 s/call" in resumed.note()
    assert "2 s/call" in alone.note()


def test_pace_counts_a_failed_call_as_ended_and_not_as_done(clock: Clock) -> None:
    """A failed call is not waited for any more, yet it is no result."""
    pace = Pace("f", 4, 0, 1, clock=clock)
    clock.now += 10
    pace.saved(1, 10)
    clock.now += 10
    pace.failed()
    assert pace.seconds_left == pytest.approx(20)
    assert pace.percent == 25
    pace.failed()
    pace.failed()
    assert pace.seconds_left == 0
    assert pace.note() == "1/4 calls, 3 failed, 5 s/call, 20 s elapsed"


def test_pace_counts_down_between_results_and_never_reaches_zero(clock: Clock) -> None:
    """The time left goes down with the clock; once calls are overdue it is not known any more."""
    pace = Pace("f", 2, 0, 1, clock=clock)
    clock.now += 7200
    pace.saved(1, 7200)
    clock.now += 3000
    assert pace.seconds_left == pytest.approx(4200)
    assert "1 h 10 min left, 2 h 50 min elapsed" in pace.note()
    clock.now += 4200
    assert pace.seconds_left is None
    assert "? left" in pace.note()


def test_pace_says_that_a_run_stops_after_a_failure(clock: Clock) -> None:
    """Where no further call is started, no time is claimed for those that are left."""
    pace = Pace("f", 60, 0, 4, stops_at_failure=True, clock=clock)
    clock.now += 2
    pace.saved(2, 4)
    pace.failed()
    assert "1 failed, 1.5 calls/s, stopping" in pace.note()


def test_pace_says_how_long_it_took_at_the_end(clock: Clock) -> None:
    """After the end the clock stands still, and nothing is left."""
    pace = Pace("f", 60, 12, 4, clock=clock)
    clock.now += 69
    pace.saved(30, 120)
    pace.end()
    clock.now += 1000
    pace.end()
    assert pace.line() == "f: 42/60 calls (70%), 12 resumed, 2.3 s/call, took 1 min 9 s"


def test_pace_drops_what_matters_least_where_there_is_no_room(clock: Clock) -> None:
    """Counts, failures and the time left are the last to go."""
    pace = Pace("f", 60, 12, 4, clock=clock)
    clock.now += 69
    pace.saved(29, 120)
    pace.failed()
    whole = pace.note()
    assert whole == "41/60 calls, 12 resumed, 1 failed, 2.3 s/call, 36 s left, 1 min 9 s elapsed"
    assert pace.note(len(whole)) == whole
    assert pace.note(60) == "41/60 calls, 12 resumed, 1 failed, 2.3 s/call, 36 s left"
    assert pace.note(50) == "41/60 calls, 12 resumed, 1 failed, 36 s left"
    assert pace.note(10) == "41/60 calls, 1 failed, 36 s left"


@pytest.mark.parametrize(("done", "total", "percent"), [(0, 0, 100), (0, 3, 0), (999, 1000, 99), (3, 3, 100)])
def test_pace_says_a_hundred_per_cent_only_of_all(done: int, total: int, percent: int) -> None:
    """Per cent are rounded down."""
    assert Pace("f", total, done).percent == percent


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "<1 s"),
        (0.99, "<1 s"),
        (1, "1 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (69, "1 min 9 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h"),
        (7980, "2 h 13 min"),
        (86400, "1 d"),
        (273600, "3 d 4 h"),
    ],
)
def test_duration_takes_two_units_at_most(seconds: float, words: str) -> None:
    """Durations are said as people say them."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "seconds", "words"),
    [
        (1, 90, "1 min 30 s/call"),
        (2, 5, "2.5 s/call"),
        (5, 2, "2.5 calls/s"),
        (1234567, 10, "123,457 calls/s"),
    ],
)
def test_rate_is_said_the_way_round_that_reads_well(
    count: int, seconds: float, words: str, clock: Clock
) -> None:
    """Slow calls have seconds, fast ones a number in each second."""
    pace = Pace("f", 2 * count, clock=clock)
    clock.now += seconds
    pace.saved(count, seconds)
    assert words in pace.note()
