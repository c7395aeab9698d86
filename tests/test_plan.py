"""The plan: every rule by table, and whatever happens in whatever order by simulation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from thread_chunks import RunStoppedError, TimeLimitError, WorkerDiedError, config
from thread_chunks._memory import to_bytes
from thread_chunks._plan import Action, End, GiveUp, HandOut, Plan, Save
from thread_chunks._policy import RestartPolicy, RunPolicy
from thread_chunks._queue import Chunk, Queue
from thread_chunks.messages import NOT_PICKLED, FailedCall, Outcome, Results

KILLED = WorkerDiedError("the worker process was killed by SIGKILL", -9)


def returned(*indices: int, seconds: float = 0.0) -> Results:
    """Make a group of calls that returned; each is one byte when it is pickled."""
    return Results(indices, list(indices), (seconds,) * len(indices), NOT_PICKLED, size=len(indices))


def each(*indices: int) -> list[Results]:
    """Make calls that returned, each by itself."""
    return [returned(index) for index in indices]


def raised(index: int) -> FailedCall:
    return FailedCall(index, ValueError(index), f"ValueError: {index}")


def begun(calls: int, workers: str = "a", policy: RunPolicy | None = None) -> tuple[Plan, list[Action]]:
    """Start a run with workers that are all ready."""
    plan = Plan(range(calls), policy or RunPolicy(), len(workers))
    actions = plan.start()
    for worker in workers:
        actions += plan.worker_ready(worker)
    return plan, actions


def handed_out(actions: Iterable[Action]) -> list[tuple[str, tuple[int, ...]]]:
    return [(str(action.worker), tuple(action.indices)) for action in actions if isinstance(action, HandOut)]


def ends(actions: Iterable[Action]) -> list[BaseException | None]:
    return [action.error for action in actions if isinstance(action, End)]


def given_up(actions: Iterable[Action]) -> list[FailedCall]:
    return [action.failed for action in actions if isinstance(action, GiveUp)]


def saves(actions: Iterable[Action]) -> list[int]:
    outcomes = [outcome for action in actions if isinstance(action, Save) for outcome in action.outcomes]
    return [index for outcome in outcomes for index in places(outcome)]


def places(outcome: Outcome) -> Sequence[int]:
    return (outcome.index,) if isinstance(outcome, FailedCall) else outcome.indices


def finish(
    plan: Plan, worker: str, indices: Sequence[int], seconds: float = 0.0, size: int = 0
) -> list[Action]:
    """Finish a whole chunk, in two groups, and save it."""
    half = len(indices) // 2
    outcomes = [returned(*part, seconds=seconds) for part in (indices[:half], indices[half:]) if part]
    actions = plan.calls_finished(worker, outcomes, is_last=True, chunk_bytes=size * len(indices))
    return actions + plan.results_saved(outcomes)


def chunk_sizes(plan: Plan, actions: Iterable[Action], seconds: float = 0.0, size: int = 0) -> list[int]:
    """Run a plan of one worker to its end and return how large its chunks were."""
    sizes: list[int] = []
    while chunks := handed_out(actions):
        ((_, indices),) = chunks
        sizes.append(len(indices))
        actions = finish(plan, "a", indices, seconds, size)
    assert ends(actions) == [None]
    return sizes


# --- sizes of chunks ----------------------------------------------------------------


def test_plan_hands_out_single_calls_first() -> None:
    """The first chunk of every worker is one call: a wrong guess is found out while it is cheap."""
    _, actions = begun(1000, "abc")
    assert handed_out(actions) == [("a", (0,)), ("b", (1,)), ("c", (2,))]


def test_plan_grows_chunks_step_by_step_when_calls_cost_nothing() -> None:
    """A chunk is at most so many times larger than the last one, and at the end at most a fair part of the rest."""
    sizes = chunk_sizes(*begun(100_000))
    growth = config.chunk_growth
    assert sizes[:4] == [1, growth, growth**2, growth**3]
    left = 100_000
    for previous, size in zip([1, *sizes], sizes, strict=False):
        smallest = int(config.smallest_chunk_seconds / config.call_overhead_seconds)
        assert size <= previous * growth
        assert size <= max(left / 2, smallest)
        left -= size
    assert left == 0


def test_plan_gives_each_worker_a_fair_part_when_there_are_several() -> None:
    """No chunk is more than half of one worker's equal share of what is left."""
    plan, actions = begun(100, "ab")
    sizes: list[int] = []
    for _ in range(3):
        ((_, indices),) = [chunk for chunk in handed_out(actions) if chunk[0] == "a"]
        pending = 98 - sum(sizes[1:])
        actions = finish(plan, "a", indices, seconds=0.002)
        sizes.append(len(indices))
    assert sizes[1] == 8
    assert sizes[2] <= (pending + 8) / 4


@pytest.mark.parametrize(
    ("seconds", "size", "largest"),
    [
        pytest.param(config.chunk_seconds / 3, 0, 2, id="a-third-of-a-chunk"),
        pytest.param(config.chunk_seconds * 1.5, 0, 1, id="longer-than-a-chunk"),
        pytest.param(3600.0, 0, 1, id="hours"),
        pytest.param(0.0, config.chunk_bytes // 2, 2, id="half-a-chunk-of-bytes"),
        pytest.param(0.0, 2 * config.chunk_bytes, 1, id="more-bytes-than-a-chunk"),
    ],
)
def test_plan_limits_chunks_by_work_and_bytes(seconds: float, size: int, largest: int) -> None:
    """A chunk holds so much work and so many bytes, and always at least one call."""
    assert max(chunk_sizes(*begun(100), seconds=seconds, size=size)) == largest


def test_plan_shrinks_chunks_when_calls_become_slow() -> None:
    """Costs drift along a sweep: the newest chunk weighs as much as all before it."""
    plan, actions = begun(10_000)
    for seconds in (0.0, 0.0, 1.0):
        ((_, indices),) = handed_out(actions)
        actions = finish(plan, "a", indices, seconds)
    assert [len(indices) for _, indices in handed_out(actions)] == [1]


def test_plan_hands_out_one_by_one_when_the_policy_says_so() -> None:
    """Under a time limit for single calls, every chunk is a single call."""
    assert set(chunk_sizes(*begun(50, policy=RunPolicy(one_by_one=True)))) == {1}


def test_plan_keeps_the_order_of_calls() -> None:
    """Calls are handed out in the order of the parameters."""
    plan, actions = begun(300)
    order: list[int] = []
    while chunks := handed_out(actions):
        order += chunks[0][1]
        actions = finish(plan, "a", chunks[0][1])
    assert order == list(range(300))


def test_plan_runs_only_what_is_missing() -> None:
    """Calls that a checkpoint holds are not run."""
    plan = Plan([3, 8], RunPolicy(), 1)
    assert handed_out(plan.start() + plan.worker_ready("a")) == [("a", (3,))]
    assert handed_out(finish(plan, "a", [3])) == [("a", (8,))]


# --- the end ---------------------------------------------------------------------------


def test_plan_ends_at_once_when_nothing_is_missing() -> None:
    """A run without calls is over as soon as it starts."""
    assert Plan([], RunPolicy(), 0).start() == [End(None)]


def test_plan_ends_only_when_all_results_are_saved() -> None:
    """The last result is received, and the run waits until it is durable."""
    plan, _ = begun(2, "ab")
    assert ends(plan.calls_finished("a", [returned(0)], is_last=True)) == []
    assert ends(plan.calls_finished("b", [returned(1)], is_last=True)) == []
    assert ends(plan.results_saved(each(1))) == []
    assert plan.results_saved(each(0)) == [End(None)]
    assert ends(plan.results_saved(each(0)) + plan.worker_ready("a") + plan.stop()) == []


def test_plan_saves_results_as_they_come_when_a_chunk_is_not_done() -> None:
    """A result is passed on for saving at once, not at the end of its chunk."""
    plan, actions = begun(100)
    ((_, chunk),) = handed_out(finish(plan, "a", handed_out(actions)[0][1]))
    actions = plan.calls_finished("a", [returned(chunk[0])], is_last=False)
    assert saves(actions) == [chunk[0]]
    assert handed_out(actions) == []


def test_plan_gives_unstarted_calls_back_to_the_front_when_a_lease_ends() -> None:
    """Calls that a worker did not start are the next ones to be handed out, in order."""
    plan, actions = begun(100)
    ((_, chunk),) = handed_out(finish(plan, "a", handed_out(actions)[0][1]))
    assert chunk == tuple(range(1, 9))
    actions = plan.calls_finished("a", [returned(1, 2, seconds=1.0)], is_last=True)
    assert handed_out(actions) == [("a", (3,))]


def test_plan_gives_calls_to_others_when_a_worker_hands_them_back() -> None:
    """Calls behind a long one are handed back while it runs, and are the next ones that others get."""
    plan, actions = begun(100, "ab")
    ((_, chunk),) = handed_out(finish(plan, "a", handed_out(actions)[0][1]))
    assert chunk == tuple(range(2, 10))
    assert plan.calls_finished("a", [returned(2)], is_last=False, returned=(5, 6, 7, 8, 9)) == [
        Save((returned(2),))
    ]
    ((worker, next_chunk),) = handed_out(finish(plan, "b", [1]))
    assert worker == "b"
    assert next_chunk == tuple(range(5, 10))
    assert plan.busy == ("a", "b")
    actions = plan.calls_finished("a", [returned(3, 4)], is_last=True)
    assert saves(actions) == [3, 4]
    assert handed_out(actions)[0][1][0] == 10


def test_plan_takes_nothing_back_that_the_worker_does_not_run() -> None:
    """Calls that a worker never had, or that ended already, are not run again because it hands them back."""
    plan, actions = begun(20)
    ((_, chunk),) = handed_out(finish(plan, "a", handed_out(actions)[0][1]))
    actions = plan.calls_finished("a", [returned(*chunk)], is_last=True, returned=(0, *chunk, 15))
    order: list[int] = []
    while chunks := handed_out(actions):
        order += chunks[0][1]
        actions = finish(plan, "a", chunks[0][1])
    assert order == list(range(chunk[-1] + 1, 20))


def test_plan_hands_single_calls_to_workers_that_cannot_hand_back() -> None:
    """A worker that cannot give up what it has not started gets one call at a time."""
    plan = Plan(range(50), RunPolicy(), 1)
    actions = plan.start() + plan.worker_ready("a", takes_chunks=False)
    assert set(chunk_sizes(plan, actions)) == {1}


@pytest.mark.parametrize(
    "stray",
    [returned(5), raised(5), returned(0, 1), returned(2, 1), returned(1, 3), returned(2), returned(5, 6), raised(2)],
    ids=lambda stray: f"{type(stray).__name__} {tuple(places(stray))}",
)  # fmt: skip
def test_plan_ignores_outcomes_that_nobody_waits_for(stray: Outcome) -> None:
    """Outcomes of calls that the worker does not run, or not next, change nothing: a group counts whole or not at all."""
    plan, actions = begun(100)
    ((_, chunk),) = handed_out(finish(plan, "a", handed_out(actions)[0][1]))
    assert chunk == tuple(range(1, 9))
    assert plan.calls_finished("a", [stray], is_last=False) == []
    assert plan.calls_finished("stranger", [stray], is_last=True) == []
    assert plan.failures == {}
    actions = plan.calls_finished("a", [returned(*chunk)], is_last=True)
    assert saves(actions) == list(chunk)
    assert handed_out(actions)[0][1][0] == 9


def test_plan_waits_for_a_group_until_all_of_it_is_saved() -> None:
    """Results that came as a group are saved as one, and count with all their bytes until then."""
    plan, actions = begun(100, policy=RunPolicy(backlog_bytes=7))
    ((_, chunk),) = handed_out(finish(plan, "a", handed_out(actions)[0][1]))
    group = returned(*chunk)
    assert len(chunk) == group.size == 8
    actions = plan.calls_finished("a", [group], is_last=True)
    assert actions == [Save((group,))], "8 bytes wait, and no more than 7 may"
    assert handed_out(plan.results_saved([group])) != []


def test_plan_stops_handing_out_when_told_to_stop() -> None:
    """After a stop no call is started, what runs is waited for, and the end has no error."""
    plan, _ = begun(10, "ab")
    assert plan.stop() == []
    assert plan.busy == ("a", "b")
    assert handed_out(finish(plan, "a", [0])) == []
    assert finish(plan, "b", [1])[-1] == End(None)


# --- calls that raise -------------------------------------------------------------------


def test_plan_stops_handing_out_when_a_call_fails_and_errors_raise() -> None:
    """The first failed call starts no further one; those that run are finished and saved first."""
    plan, _ = begun(10, "ab")
    actions = plan.calls_finished("a", [raised(0)], is_last=True)
    assert [failed.index for failed in given_up(actions)] == [0]
    assert saves(actions) == [0]
    assert handed_out(actions) == []
    assert ends(actions) == []
    assert plan.calls_finished("b", [returned(1)], is_last=True) == [Save((returned(1),))]
    assert plan.results_saved(each(1)) == [End(None)]


def test_plan_goes_on_when_a_call_fails_and_errors_do_not_raise() -> None:
    """Failed calls are noted in the order in which they failed, and everything else runs."""
    plan, actions = begun(4, policy=RunPolicy(stop_at_failure=False, one_by_one=True))
    while chunks := handed_out(actions):
        index = chunks[0][1][0]
        if index % 2:
            actions = plan.calls_finished("a", [raised(index)], is_last=True)
        else:
            actions = finish(plan, "a", [index])
    assert list(plan.failures) == [1, 3]
    assert ends(actions) == [None]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_plan_tries_a_call_again_when_retries_are_left(retries: int) -> None:
    """A call that raises is run once more for each retry, and then failed with its last exception."""
    plan, actions = begun(1, policy=RunPolicy(retries=retries))
    for _ in range(retries):
        assert handed_out(actions) == [("a", (0,))]
        actions = plan.calls_finished("a", [raised(0)], is_last=True)
        assert given_up(actions) == []
    last = raised(0)
    actions = plan.calls_finished("a", [last], is_last=True)
    assert given_up(actions) == [last]
    assert ends(actions) == [None]


def test_plan_keeps_the_result_when_a_retry_returns() -> None:
    """A call that raised once and then returned has not failed."""
    plan, _ = begun(1, policy=RunPolicy(retries=1))
    plan.calls_finished("a", [raised(0)], is_last=True)
    assert ends(finish(plan, "a", [0])) == [None]
    assert plan.failures == {}


def test_plan_does_not_retry_when_it_is_stopping() -> None:
    """A call that raises after a stop is failed at once: no further call is started."""
    plan, _ = begun(3, "ab", RunPolicy(retries=5))
    plan.stop()
    assert [failed.index for failed in given_up(plan.calls_finished("a", [raised(0)], is_last=True))] == [0]


# --- calls that need more room than others ---------------------------------------------------------


def test_plan_tries_deadly_calls_last_and_alone() -> None:
    """Calls that took their process down in an earlier run wait for all others, and run beside nobody."""
    plan = Plan(range(4), RunPolicy(), 2, deadly=(0, 2))
    actions = plan.start() + plan.worker_ready("a") + plan.worker_ready("b")
    assert handed_out(actions) == [("a", (1,)), ("b", (3,))]
    assert handed_out(finish(plan, "a", [1])) == []
    assert handed_out(finish(plan, "b", [3])) == [("a", (0,))]
    assert handed_out(finish(plan, "a", [0])) == [("b", (2,))]
    assert ends(finish(plan, "b", [2])) == [None]


def test_plan_tries_a_deadly_call_alone_when_it_is_the_only_one() -> None:
    """A run whose missing calls are all deadly goes through them one by one."""
    plan = Plan([7], RunPolicy(), 2, deadly=(7,))
    assert handed_out(plan.start() + plan.worker_ready("a") + plan.worker_ready("b")) == [("a", (7,))]


def test_plan_tries_a_killed_call_with_half_as_many_neighbours_until_it_is_alone() -> None:
    """A call that was killed, as for memory, gets more room each time; only alone it is to blame in the end."""
    plan, actions = begun(20, "abcdefgh", RunPolicy(one_by_one=True, restart=RestartPolicy(call_restarts=1)))
    assert len(handed_out(actions)) == 8
    running = dict(handed_out(actions))
    worker, others = "a", list("bcdefgh")
    for neighbours in (3, 1, 0):
        actions = plan.worker_died(worker, KILLED, 0.0)
        while not handed_out(actions):
            assert given_up(actions) == []
            assert len(others) > neighbours
            other = others.pop()
            actions = finish(plan, other, running[other])
        assert len(others) == neighbours
        ((worker, indices),) = handed_out(actions)
        assert indices == (0,)
    assert [failed.index for failed in given_up(plan.worker_died(worker, KILLED, 0.0))] == [0]


def test_plan_lets_nobody_join_a_killed_call_beyond_its_neighbours() -> None:
    """While it runs again no further call is started; once it ended all workers are used again."""
    plan, _ = begun(9, "ab", RunPolicy(one_by_one=True))
    assert handed_out(plan.worker_died("a", KILLED, 0.0)) == []
    ((worker, indices),) = handed_out(finish(plan, "b", [1]))
    assert indices == (0,)
    assert {index for _, (index,) in handed_out(finish(plan, worker, [0]))} == {2, 3}


def test_plan_tries_a_crashed_call_beside_all_others() -> None:
    """A crash is not for memory: its call needs no more room than any other."""
    plan, _ = begun(9, "ab", RunPolicy(one_by_one=True))
    crash = WorkerDiedError("the worker process was killed by SIGSEGV", -11)
    assert handed_out(plan.worker_died("a", crash, 0.0)) == [("a", (0,))]


def test_failure_of_a_call_that_took_its_process_down_says_so() -> None:
    """So the next run knows to try it last."""
    plan, _ = begun(1, policy=RunPolicy(restart=RestartPolicy(call_restarts=0)))
    (failed,) = given_up(plan.worker_died("a", KILLED, 0.0))
    assert failed.is_death
    plan, _ = begun(1)
    (failed,) = given_up(plan.calls_finished("a", [raised(0)], is_last=True))
    assert not failed.is_death


# --- memory -----------------------------------------------------------------------------------------

GIB = 1 << 30


def limited(limit: int, workers: str, **resident: int) -> tuple[Plan, list[Action]]:
    """Start a run of calls that go out one by one under a limit of memory."""
    plan = Plan(range(9), RunPolicy(one_by_one=True, max_memory=limit), len(workers))
    actions = plan.memory_measured(resident) + plan.start()
    for worker in workers:
        actions += plan.worker_ready(worker)
    return plan, actions


def peaked(index: int, peak: int) -> Results:
    return returned(index)._replace(trace=(0.0, 0, peak // 1024))


def test_plan_starts_no_call_while_memory_and_the_largest_growth_would_pass_the_limit() -> None:
    """What a finished call needed is what the next one may need; room for it must be there."""
    plan, actions = limited(4 * GIB, "ab", a=GIB, b=GIB)
    assert len(handed_out(actions)) == 2, "nothing is known yet"
    plan.memory_measured({"a": GIB, "b": GIB})
    # It held 2.5 GiB, so one call grows by 1.5: two of them, and what the workers held, are 5 GiB.
    assert handed_out(plan.calls_finished("a", [peaked(0, 5 * GIB // 2)], is_last=True)) == []
    assert handed_out(finish(plan, "b", [1])) == [("a", (2,))]


def test_plan_counts_what_running_calls_may_still_need() -> None:
    """A call that was just started has not grown yet: room is kept for it all the same."""
    plan, _ = limited(4 * GIB, "abc", a=0, b=0, c=0)
    plan.memory_measured({"a": GIB, "b": 0, "c": 0})
    assert handed_out(plan.calls_finished("a", [peaked(0, GIB)], is_last=True)) == [("a", (3,))]
    assert handed_out(plan.memory_measured({"a": 2 * GIB, "b": 2 * GIB, "c": 0})) == []
    assert handed_out(plan.calls_finished("c", [peaked(2, 0)], is_last=True)) == []


def test_plan_always_runs_one_call_whatever_it_needs() -> None:
    """A limit that no call can keep slows a run down to one at a time, and never stops it."""
    plan, actions = limited(1, "ab", a=GIB, b=GIB)
    assert handed_out(actions) == [("a", (0,))]
    calls = list(range(1, 9))
    first = peaked(0, 2 * GIB)
    actions = plan.calls_finished("a", [first], is_last=True) + plan.results_saved([first])
    while calls:
        ((worker, indices),) = handed_out(actions)
        assert indices == (calls.pop(0),)
        actions = finish(plan, worker, indices)
    assert ends(actions) == [None]


def test_plan_starts_calls_again_when_memory_was_given_back() -> None:
    """What is measured later counts, without any call having ended."""
    plan, _ = limited(4 * GIB, "ab", a=2 * GIB, b=GIB)
    assert handed_out(plan.calls_finished("a", [peaked(0, 3 * GIB)], is_last=True)) == []
    assert handed_out(plan.memory_measured({"a": 3 * GIB, "b": GIB})) == []
    assert handed_out(plan.memory_measured({"a": GIB, "b": GIB})) == [("a", (2,))]


def test_plan_learns_of_growth_from_running_calls() -> None:
    """The first calls are not over yet, and it shows already what one needs."""
    plan, _ = limited(3 * GIB, "abc", a=0, b=0, c=0)
    assert handed_out(plan.memory_measured({"a": GIB, "b": 0, "c": 0})) == []
    assert handed_out(finish(plan, "c", [2])) == [("c", (3,))]
    assert handed_out(plan.memory_measured({"a": 2 * GIB, "b": 0, "c": 0})) == []
    assert handed_out(finish(plan, "c", [3])) == []


# --- the time limit ------------------------------------------------------------------------


def timed(
    workers: str = "a", longest: float = 0.0, now: float = 0.0, calls: int = 9
) -> tuple[Plan, list[Action]]:
    """Start a run that has to be over at second 100; a call that raised is tried again."""
    policy = RunPolicy(one_by_one=True, stop_before=100.0, retries=1)
    plan = Plan(range(calls), policy, len(workers), longest=longest)
    actions = plan.time_told(now) + plan.start()
    for worker in workers:
        actions += plan.worker_ready(worker)
    return plan, actions


def limits(actions: Iterable[Action]) -> list[str]:
    """Return what is said when the run ends for want of time."""
    errors = ends(actions)
    assert all(isinstance(error, TimeLimitError) for error in errors)
    return [str(error).partition(":40")[2] for error in errors]


@pytest.mark.parametrize(
    ("seconds", "now", "is_started"),
    [(30.0, 69.0, True), (30.0, 70.0, False), (30.0, 99.0, False), (0.0, 99.0, True), (69.0, 69.5, False)],
)
def test_plan_starts_only_calls_that_end_before_the_limit(
    seconds: float, now: float, is_started: bool
) -> None:
    """A further call starts while one that takes as long as the longest so far would end in time."""
    plan, actions = timed()
    assert handed_out(actions) == [("a", (0,))]
    actions = plan.time_told(now) + finish(plan, "a", [0], seconds)
    assert handed_out(actions) == ([("a", (1,))] if is_started else [])
    assert len(limits(actions)) == (not is_started)


@pytest.mark.parametrize(
    ("longest", "is_started"), [(0.0, True), (99.0, True), (100.0, False), (7380.0, False)]
)
def test_plan_knows_the_longest_call_of_earlier_runs(longest: float, is_started: bool) -> None:
    """What a checkpoint knows of long calls counts from the first one on."""
    _, actions = timed(longest=longest)
    assert bool(handed_out(actions)) == is_started
    if longest == 7380.0:
        assert limits(actions) == [": the longest so far took 2 h 3 min"]


def test_plan_lets_running_calls_end_and_saves_them_when_time_is_short() -> None:
    """Nothing further starts, what runs is left to end, and the run is over once that is saved."""
    plan, _ = timed("ab")
    plan.time_told(60.0)
    assert plan.calls_finished("a", [returned(0, seconds=60.0)], is_last=True) == [
        Save((returned(0, seconds=60.0),))
    ]
    plan.time_told(90.0)
    actions = plan.calls_finished("b", [returned(1, seconds=90.0)], is_last=True)
    assert saves(actions) == [1]
    assert ends(actions) == []
    assert ends(plan.results_saved(each(0))) == []
    assert limits(plan.results_saved(each(1))) == [": the longest so far took 1 min"]
    assert plan.time_told(101.0) == []


def test_plan_gives_up_what_runs_when_the_limit_has_come() -> None:
    """At the limit the run is over, once, whatever still runs; what comes after that is saved all the same."""
    plan, _ = timed("ab", calls=2)
    assert plan.time_told(99.9) == []
    assert limits(plan.time_told(100.0)) == [" was given up, as stop_before says"]
    assert plan.time_told(100.1) == []
    assert saves(finish(plan, "a", [0], 100.0)) == [0]
    assert plan.worker_died("b", KILLED, 0.0) == []


def test_plan_ends_without_an_error_when_every_call_ended_in_time() -> None:
    """Calls that were all handed out need no room for another one."""
    plan, actions = timed("ab", calls=2)
    plan.time_told(99.0)
    actions = finish(plan, "a", [0], 99.0) + finish(plan, "b", [1], 99.0)
    assert ends(actions) == [None]
    assert ends(timed(now=200.0, calls=0)[1]) == [None]


def test_plan_runs_nothing_when_the_limit_is_past() -> None:
    """A run that begins too late has an error and no call."""
    _, actions = timed("ab", now=100.0)
    assert handed_out(actions) == []
    assert limits(actions) == [" is past, and stop_before says so"]


@pytest.mark.parametrize("how", ["raised", "died"])
def test_plan_counts_a_call_to_be_tried_again_as_one_that_waits(how: str) -> None:
    """A call that ended without a result took its time, too, and a second try of it may not end before the limit."""
    plan, _ = timed(calls=1)
    plan.time_told(50.0)
    if how == "raised":
        actions = plan.calls_finished("a", [raised(0)], is_last=True)
    else:
        actions = plan.worker_died("a", KILLED, 0.0)
    assert handed_out(actions) == []
    assert given_up(actions) == []
    assert limits(actions) == [": the longest so far took 50 s"]


def test_plan_tries_a_call_again_while_there_is_time() -> None:
    """A call that raised early is tried again before the limit."""
    plan, _ = timed(calls=1)
    plan.time_told(49.0)
    assert handed_out(plan.calls_finished("a", [raised(0)], is_last=True)) == [("a", (0,))]


def test_plan_counts_a_chunk_of_short_calls_as_one_long_call() -> None:
    """Short calls are handed out together, so all of them must end before the limit."""
    plan = Plan(range(100), RunPolicy(stop_before=100.0), 1)
    actions = plan.time_told(0.0) + plan.start() + plan.worker_ready("a")
    ((_, chunk),) = handed_out(finish(plan, "a", handed_out(actions)[0][1], 0.001))
    assert len(chunk) == 8
    plan.time_told(99.995)
    assert limits(finish(plan, "a", chunk, 0.001)) == [": the longest so far took <1 s"]


def test_plan_leaves_the_end_to_a_failure_that_came_first() -> None:
    """A run that stops because a call failed is not ended for want of time as well."""
    plan = Plan(range(9), RunPolicy(stop_before=100.0), 2)
    plan.start()
    plan.worker_ready("a")
    plan.worker_ready("b")
    plan.calls_finished("a", [raised(0)], is_last=True)
    plan.time_told(99.0)
    assert ends(finish(plan, "b", [1], 99.0)) == [None]


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (1, 1), (5 * GIB, 5 * GIB), ("7", 7), ("8 GB", 8 * 10**9), ("8GB", 8 * 10**9), ("1.5 GiB", 3 * GIB // 2),
        ("500 MB", 5 * 10**8), ("2k", 2000), ("2 KiB", 2048), (" 1 tb ", 10**12), ("3B", 3), (".5 gib", GIB // 2),
    ],
)  # fmt: skip
def test_to_bytes_reads_what_people_write(amount: object, expected: int) -> None:
    """Numbers, and numbers with the units of everyday use, of thousands and of 1024."""
    assert to_bytes(amount) == expected


@pytest.mark.parametrize(
    "amount", [0, -1, 0.5, True, "", "8 XB", "GB", "-1 GB", "0", "8 GB please", None, [1], "i", "3 iB"]
)
def test_to_bytes_refuses_anything_else_and_shows_how_to_write_it(amount: object) -> None:
    """An amount that could be meant otherwise is no amount."""
    with pytest.raises(ValueError, match=r'max_memory must be .*"8 GB"'):
        to_bytes(amount)


# --- workers that die -------------------------------------------------------------------


@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_plan_blames_a_lone_call_when_its_workers_keep_dying(restarts: int) -> None:
    """A call that died alone is tried again so often, and then failed as what it is: with index and exit code."""
    plan, actions = begun(1, policy=RunPolicy(restart=RestartPolicy(call_restarts=restarts)))
    for now in range(restarts):
        assert handed_out(actions) == [("a", (0,))]
        actions = plan.worker_died("a", KILLED, now)
    actions = plan.worker_died("a", KILLED, restarts)
    (failed,) = given_up(actions)
    assert isinstance(failed.exception, WorkerDiedError)
    assert failed.exception.index == failed.index == 0
    assert failed.exception.exit_code == -9
    assert "call 0" in str(failed.exception)
    assert "SIGKILL" in str(failed.exception)
    assert saves(actions) == [0]
    assert ends(actions) == [None]


def test_plan_runs_suspects_alone_when_a_chunk_died() -> None:
    """Every call without an outcome is a suspect and runs alone, before all others, so that one can be blamed."""
    plan, actions = begun(100)
    ((_, chunk),) = handed_out(finish(plan, "a", handed_out(actions)[0][1]))
    plan.calls_finished("a", [returned(chunk[0])], is_last=False)
    actions = plan.worker_died("a", KILLED, 0.0)
    for suspect in chunk[1:]:
        assert handed_out(actions) == [("a", (suspect,))]
        assert given_up(actions) == []
        actions = finish(plan, "a", [suspect])
    assert plan.failures == {}
    assert handed_out(actions)[0][1][0] == chunk[-1] + 1


def test_plan_goes_on_when_a_worker_died_without_calls() -> None:
    """The death of an idle worker's process costs no call."""
    plan, _ = begun(1, "ab")
    assert plan.worker_died("b", KILLED, 0.0) == []
    assert ends(finish(plan, "a", [0])) == [None]


def test_plan_ends_the_run_when_workers_die_in_a_loop() -> None:
    """More deaths than the budget within its period end the run with an error that says so."""
    policy = RunPolicy(restart=RestartPolicy(call_restarts=99, budget=3, seconds=10.0))
    plan, actions = begun(5, policy=policy)
    for now in range(3):
        actions = plan.worker_died("a", KILLED, now)
        assert len(handed_out(actions)) == 1
    actions = plan.worker_died("a", KILLED, 3)
    (error,) = ends(actions)
    assert isinstance(error, RunStoppedError)
    assert error.__cause__ is KILLED
    assert "4 worker processes died within 10 seconds" in str(error)
    assert handed_out(actions) == []


def test_plan_starts_nothing_while_too_many_bytes_wait_to_be_saved() -> None:
    """When saving is slower than computing the workers wait for it, and go on as soon as it caught up."""
    plan, actions = begun(4, "ab", RunPolicy(backlog_bytes=1, one_by_one=True))
    assert handed_out(actions) == [("a", (0,)), ("b", (1,))]
    assert handed_out(plan.calls_finished("a", [returned(0)], is_last=True)) == [("a", (2,))]
    assert handed_out(plan.calls_finished("b", [returned(1)], is_last=True)) == []
    assert handed_out(plan.results_saved(each(0))) == [("b", (3,))]
    plan.calls_finished("a", [returned(2)], is_last=True)
    plan.calls_finished("b", [returned(3)], is_last=True)
    assert ends(plan.results_saved(each(1, 2, 3))) == [None]


def test_plan_counts_the_bytes_of_results_that_wait() -> None:
    """What fills the memory is what results take, however they travelled."""
    plan, _ = begun(3, policy=RunPolicy(backlog_bytes=100, one_by_one=True))
    large = Results((0,), [None], (0.0,), NOT_PICKLED, size=101)
    assert handed_out(plan.calls_finished("a", [large], is_last=True)) == []
    assert handed_out(plan.results_saved([large])) == [("a", (1,))]


def test_plan_ends_with_the_reason_when_no_worker_can_be_started() -> None:
    """If the last worker leaves because of an error, the run ends with that error as its cause."""
    plan, _ = begun(3, "ab")
    assert ends(plan.worker_stopped("a", error=KILLED)) == []
    (error,) = ends(plan.worker_stopped("b", error=KILLED))
    assert isinstance(error, RunStoppedError)
    assert error.__cause__ is KILLED
    assert str(KILLED) in str(error)


def test_plan_goes_on_when_deaths_are_far_apart() -> None:
    """Deaths that lie further back than the period do not count."""
    policy = RunPolicy(restart=RestartPolicy(call_restarts=99, budget=3, seconds=10.0))
    plan, _ = begun(1, policy=policy)
    for number in range(20):
        assert len(handed_out(plan.worker_died("a", KILLED, 4.0 * number))) == 1


def test_plan_waits_for_running_calls_when_it_gives_up() -> None:
    """A run that crashed in a loop ends only when what else runs is finished and saved."""
    plan, _ = begun(3, "ab", RunPolicy(restart=RestartPolicy(budget=0)))
    assert ends(plan.worker_died("a", KILLED, 0.0)) == []
    assert ends(plan.calls_finished("b", [returned(1)], is_last=True)) == []
    (error,) = ends(plan.results_saved(each(1)))
    assert isinstance(error, RunStoppedError)


# --- workers that stop -------------------------------------------------------------------


def test_plan_goes_on_without_a_worker_when_it_was_stopped() -> None:
    """The calls of a worker that was stopped are run by the others, without blame."""
    plan, _ = begun(3, "ab")
    assert plan.worker_stopped("a") == []
    actions = finish(plan, "b", [1])
    assert handed_out(actions) == [("b", (0,))]
    assert handed_out(finish(plan, "b", [0])) == [("b", (2,))]
    assert ends(finish(plan, "b", [2])) == [None]
    assert plan.failures == {}


def test_plan_ends_with_an_error_when_every_worker_was_stopped() -> None:
    """With nobody left to run calls the run ends at once, and says why."""
    plan, _ = begun(3, "ab")
    assert ends(plan.worker_stopped("a")) == []
    (error,) = ends(plan.worker_stopped("b"))
    assert isinstance(error, RunStoppedError)
    assert "every worker was stopped" in str(error)


def test_plan_ends_without_an_error_when_workers_stop_after_the_last_call() -> None:
    """Workers that nobody needs any more may go."""
    plan, _ = begun(1, "ab")
    plan.calls_finished("a", [returned(0)], is_last=True)
    assert plan.worker_stopped("a") + plan.worker_stopped("b") == []
    assert plan.results_saved(each(0)) == [End(None)]


@pytest.mark.parametrize("late", ["ready", "died"])
def test_plan_hands_nothing_to_a_stopped_worker_when_its_last_message_comes_late(late: str) -> None:
    """A stop may be noticed before the worker's last words are read: they bring it no further call."""
    plan, _ = begun(3, "ab")
    plan.worker_stopped("a")
    actions = plan.worker_ready("a") if late == "ready" else plan.worker_died("a", KILLED, 0.0)
    assert [worker for worker, _ in handed_out(actions)] == []


# --- what a worker runs, and what waits ----------------------------------------------------


def test_chunk_takes_its_calls_in_order_and_gives_them_back_from_the_end() -> None:
    """A worker ends its calls from the front, in groups of any size, and hands back from the end."""
    chunk = Chunk(range(10, 20))
    assert chunk.take((10,))
    assert chunk.take([11, 12, 13])
    assert tuple(chunk.give_back((18, 19))) == (18, 19)
    assert tuple(chunk.give_back(range(16, 18))) == (16, 17)
    assert tuple(chunk.left) == (14, 15)
    assert chunk.finished == 4
    assert chunk.take((14, 15))
    assert tuple(chunk.left) == ()
    assert chunk.finished == 6


@pytest.mark.parametrize(
    "indices", [(9,), (11,), (10, 12), (10, 10), (11, 10), (10, 11, 12, 13, 14), (99,)], ids=str
)
def test_chunk_ignores_outcomes_that_are_not_the_next(indices: tuple[int, ...]) -> None:
    """What is stale, out of order or of another chunk is not taken, and nothing of it counts."""
    chunk = Chunk((10, 11, 12, 13))
    assert not chunk.take(indices)
    assert (tuple(chunk.left), chunk.finished) == ((10, 11, 12, 13), 0)


@pytest.mark.parametrize(
    "indices", [(), (12,), (10, 11), (13, 12), (11, 13), (9, 10, 11, 12, 13), (99,)], ids=str
)
def test_chunk_gives_nothing_back_that_is_not_its_end(indices: tuple[int, ...]) -> None:
    """Calls that a worker cannot hand back, because they are over or not the last, stay with it."""
    chunk = Chunk((10, 11, 12, 13))
    assert tuple(chunk.give_back(indices)) == ()
    assert tuple(chunk.left) == (10, 11, 12, 13)


def emptied(queue: Queue, sizes: Iterable[int]) -> list[int]:
    """Take everything out of a queue, and check each time that it was some, and no more than asked for."""
    order: list[int] = []
    for size in sizes:
        if not len(queue):
            break
        before, taken = len(queue), queue.take(size)
        assert 1 <= len(taken) <= size
        assert len(queue) == before - len(taken)
        order += taken
    return order


@given(st.integers(0, 30), st.integers(0, 30), st.data())
def test_queue_gives_what_was_handed_back_first_then_the_rest_then_what_is_tried_again(
    count: int, taken: int, data: st.DataObject
) -> None:
    """Calls keep their order: handed back ones before all others, those to be tried again behind all others."""
    queue = Queue(range(100, 100 + count))
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=count + 20))
    begun = list(queue.take(taken)) if taken and count else []
    back = data.draw(st.integers(0, len(begun)))
    again = data.draw(st.permutations(begun[: len(begun) - back]))
    for index in again:
        queue.put(index)
    queue.give_back(begun[len(begun) - back :])
    assert len(queue) == count
    assert emptied(queue, sizes) == [*range(100 + len(begun) - back, 100 + count), *again]
    assert len(queue) == 0
    assert not queue


def test_queue_puts_what_comes_back_last_before_what_came_back_earlier() -> None:
    """Whatever was handed back is in front of all that waits, in its own order, also when more comes back later."""
    queue = Queue([7, 8, 9])
    queue.give_back((3, 4))
    queue.put(0)
    queue.give_back((1, 2))
    assert emptied(queue, [1] * 9) == [1, 2, 3, 4, 7, 8, 9, 0]


def test_queue_hands_out_slices_of_what_is_missing() -> None:
    """A run that begins from nothing takes no list of its calls apart: parts of a range are ranges."""
    queue = Queue(range(10**12))
    assert queue.take(3) == range(3)
    assert queue.take(10**9) == range(3, 3 + 10**9)
    assert len(queue) == 10**12 - 10**9 - 3
    assert tuple(Queue([4, 5, 9]).take(2)) == (4, 5)


# --- anything, in any order ------------------------------------------------------------


@dataclass
class World:
    """Workers and a writer that do what a schedule says, and watch what the plan answers."""

    calls: int
    count: int
    policy: RunPolicy
    deadly: frozenset[int] = frozenset()
    now: float = 0.0
    clock: float = 0.0
    joined: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)
    running: dict[str, list[int]] = field(default_factory=dict)
    unsaved: list[Results] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    ends: list[BaseException | None] = field(default_factory=list)
    is_stopping: bool = False

    def __post_init__(self) -> None:
        self.workers = [f"worker {number}" for number in range(self.count)]
        self.plan = Plan(range(self.calls), self.policy, self.count, sorted(self.deadly))
        self.watch(self.plan.start())

    def watch(self, actions: list[Action]) -> None:
        """Carry actions out, and check that each may be."""
        for action in actions:
            match action:
                case HandOut(worker, indices):
                    self._begin(str(worker), list(indices))
                case Save(outcomes):
                    self.unsaved += [outcome for outcome in outcomes if isinstance(outcome, Results)]
                case GiveUp(failed):
                    self.failed.append(failed.index)
                    self.is_stopping |= self.policy.stop_at_failure
                case End(error):
                    if not isinstance(error, TimeLimitError) or self.clock < (self.policy.stop_before or 0):
                        assert not self.running, "the run ended while calls were running"
                        assert not self.unsaved, "the run ended before everything was saved"
                    self.ends.append(error)
        over = self._over()
        assert len(over) == len(set(over)), "a call ended twice"
        assert len(self.running) <= self.count
        assert set(self.plan.busy) == set(self.running)

    def _begin(self, worker: str, indices: list[int]) -> None:
        busy = [index for chunk in self.running.values() for index in chunk]
        over = self._over()
        assert not self.is_stopping, "a call was handed out after the stop"
        assert not self.ends, "a call was handed out after the end"
        assert worker in self.joined - self.stopped, "calls were handed to a worker that is not there"
        assert worker not in self.running, "a busy worker got another chunk"
        assert indices, "an empty chunk was handed out"
        assert len(set(indices)) == len(indices)
        assert not set(indices) & set(busy), "a call runs twice at once"
        assert not set(indices) & set(over), "a call was run again after it had ended"
        if self.deadly & set(indices):
            assert not busy, "a deadly call has neighbours"
            assert len(indices) == 1
            assert set(range(self.calls)) - set(over) <= self.deadly, (
                "a deadly call did not wait for all others"
            )
        assert not self.deadly & set(busy), "a deadly call got a neighbour"
        waiting = sum(len(results.indices) for results in self.unsaved)
        assert waiting <= self.policy.backlog_bytes, "a call was started ahead of a slow disk"
        self.running[worker] = indices

    def _over(self) -> list[int]:
        return [index for results in self.unsaved for index in results.indices] + self.saved + self.failed

    def ready(self, number: int) -> None:
        worker = self.workers[number % self.count]
        if worker not in self.stopped:
            self.joined.add(worker)
            self.watch(self.plan.worker_ready(worker))

    def finish(self, number: int, how: str, *, is_last: bool) -> None:
        """Let a busy worker end some calls: r, it returned in a group with those before, s, alone, x, it raised."""
        if not self.running:
            return
        worker = sorted(self.running)[number % len(self.running)]
        chunk = self.running[worker]
        done, chunk[:] = chunk[: len(how)], chunk[len(how) :]
        outcomes: list[Outcome] = []
        for index, kind in zip(done, how, strict=False):
            if kind == "x":
                outcomes.append(raised(index))
            elif kind == "r" and outcomes and isinstance(last := outcomes[-1], Results):
                outcomes[-1] = returned(*last.indices, index)
            else:
                outcomes.append(returned(index))
        is_last = is_last or not chunk
        if is_last:
            del self.running[worker]
        self.watch(self.plan.calls_finished(worker, outcomes, is_last=is_last))

    def hand_back(self, number: int) -> None:
        """Let a busy worker give up all that it has not started, while a call runs."""
        if not self.running:
            return
        worker = sorted(self.running)[number % len(self.running)]
        back = tuple(self.running[worker][1:])
        del self.running[worker][1:]
        self.watch(self.plan.calls_finished(worker, (), is_last=False, returned=back))

    def stray(self, number: int, count: int) -> None:
        """Let a worker tell of calls that it does not run, or not now: the second of its chunk, or what is over."""
        worker = self.workers[number % self.count]
        behind = self.running.get(worker, [])[1 : 1 + count]
        for strays in (behind, self._over()[-count:], [self.calls, self.calls + 1]):
            if strays:
                assert self.plan.calls_finished(worker, [returned(*strays)], is_last=False) == []
                assert self.plan.calls_finished(worker, [raised(strays[0])], is_last=False) == []

    def die(self, number: int, later: float) -> None:
        if not self.joined - self.stopped:
            return
        alive = sorted(self.joined - self.stopped)
        worker = alive[number % len(alive)]
        self.running.pop(worker, None)
        self.now += later
        self.watch(self.plan.worker_died(worker, KILLED, self.now))

    def leave(self, number: int) -> None:
        worker = self.workers[number % self.count]
        if worker not in self.stopped:
            self.stopped.add(worker)
            self.running.pop(worker, None)
            self.watch(self.plan.worker_stopped(worker))

    def measure(self, *sizes: int) -> None:
        """Tell how much memory some workers hold."""
        self.watch(self.plan.memory_measured(dict(zip(self.workers, sizes, strict=False))))

    def tell(self, later: float) -> None:
        """Tell what time it is."""
        self.clock += later
        self.watch(self.plan.time_told(self.clock))

    def save(self, count: int) -> None:
        """Make some results durable."""
        done, self.unsaved = self.unsaved[:count], self.unsaved[count:]
        self.saved += [index for results in done for index in results.indices]
        self.watch(self.plan.results_saved(done))

    def stop(self) -> None:
        self.is_stopping = True
        self.watch(self.plan.stop())

    def drain(self) -> None:
        """From now on nothing goes wrong: whoever is left works until there is nothing to do."""
        for number in range(self.count):
            self.ready(number)
        while self.running or self.unsaved:
            self.finish(0, "r", is_last=False)
            self.save(2)


STEPS = st.one_of(
    st.tuples(st.just("ready"), st.integers(0, 3)),
    st.tuples(st.just("finish"), st.integers(0, 3), st.text("rrrsx", max_size=9), st.booleans()),
    st.tuples(st.just("finish"), st.integers(0, 3), st.just("r" * 99), st.just(value=False)),
    st.tuples(st.just("hand_back"), st.integers(0, 3)),
    st.tuples(st.just("stray"), st.integers(0, 3), st.integers(1, 3)),
    st.tuples(st.just("die"), st.integers(0, 3), st.sampled_from([0.0, 1.0, 100.0])),
    st.tuples(st.just("save"), st.integers(1, 9)),
    st.tuples(st.just("measure"), *[st.integers(0, 9)] * 4),
    st.tuples(st.just("tell"), st.integers(0, 9)),
)
RARE_STEPS = st.one_of(STEPS, st.tuples(st.just("leave"), st.integers(0, 3)), st.tuples(st.just("stop")))
POLICIES = st.builds(
    RunPolicy,
    stop_at_failure=st.booleans(),
    retries=st.integers(0, 2),
    one_by_one=st.booleans(),
    backlog_bytes=st.integers(0, 2),
    max_memory=st.none() | st.integers(1, 20),
    stop_before=st.none() | st.integers(0, 60),
    restart=st.builds(RestartPolicy, call_restarts=st.integers(0, 2), budget=st.integers(0, 6)),
)


def perform(world: World, step: Sequence[object]) -> None:
    match step:
        case ("finish", int(number), str(how), bool(is_last)):
            world.finish(number, how, is_last=is_last)
        case ("die", int(number), float(later)):
            world.die(number, later)
        case (str(name), *arguments):
            getattr(world, name)(*arguments)


@settings(max_examples=250, deadline=None)
@given(
    st.integers(0, 60),
    st.integers(1, 4),
    POLICIES,
    st.frozensets(st.integers(0, 59), max_size=5),
    st.lists(STEPS, max_size=60),
    st.lists(RARE_STEPS, max_size=10),
)
def test_plan_ends_every_run_exactly_once_whatever_happens(
    calls: int,
    count: int,
    policy: RunPolicy,
    deadly: frozenset[int],
    steps: list[Sequence[object]],
    rare: list[Sequence[object]],
) -> None:
    """Whatever workers do: no call runs twice at once or again after it ended, and the run ends exactly once."""
    world = World(calls, count, policy, deadly & frozenset(range(calls)))
    for number in range(count):
        world.ready(number)
    for step in [*steps, *rare]:
        perform(world, step)
    world.drain()
    (error,) = world.ends
    over = sorted(world.saved + world.failed)
    if error is None and not world.is_stopping:
        event("ran to its end")
        assert over == list(range(calls)), "a call was forgotten"
    assert sorted(world.plan.failures) == sorted(world.failed)
    assert isinstance(error, RunStoppedError | TimeLimitError | None)
    assert (
        not isinstance(error, TimeLimitError) or len(over) < calls or world.clock >= (policy.stop_before or 0)
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(1, 4), st.lists(STEPS, max_size=40))
def test_plan_ends_every_call_when_nobody_stops_it(
    calls: int, count: int, steps: list[Sequence[object]]
) -> None:
    """Without a stop every call ends, saved or failed, however many workers die on the way."""
    world = World(calls, count, RunPolicy(stop_at_failure=False, restart=RestartPolicy(budget=10**6)))
    for step in steps:
        perform(world, step)
    world.drain()
    assert world.ends == [None]
    assert sorted(world.saved + world.failed) == list(range(calls))
