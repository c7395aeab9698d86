"""The state of a run: which calls are done, however their results come in, and each pickled by itself."""

import itertools
import math
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_format import group, singles

from thread_chunks import _wire
from thread_chunks._records import FAILURE, RESULT, Group, Record
from thread_chunks._sections import as_sections, joined
from thread_chunks._state import RunState

COUNT = 12
LARGE = _wire.OUT_OF_BAND_BYTES


def fresh(count: int = COUNT) -> RunState:
    return RunState("f", [[number] for number in range(count)], [None] * count, [False] * count, 0, 0)


def known(state: RunState) -> tuple[Any, ...]:
    """Return all that a state knows, in types that compare by value."""
    return (
        state.output,
        state.completed,
        state.done,
        state.index,
        state.seconds,
        state._codes,
        dict(state.failures),
    )


def notes(state: RunState) -> list[str]:
    return [str(note) for note in state.take_notes()]


class Fragile:
    """A result that cannot be unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Exits:
    """A result that ends the process which unpickles it."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit",)


# --- results come in --------------------------------------------------------------------------

PLACES = st.integers(0, COUNT - 1)
BATCHES = st.lists(
    st.one_of(
        st.builds(
            lambda first, count: list(range(first, min(first + count, COUNT))), PLACES, st.integers(1, COUNT)
        ),
        st.lists(PLACES, min_size=1, max_size=COUNT),
        PLACES.map(lambda place: [place]),
    ),
    max_size=6,
)


@given(BATCHES, st.sets(PLACES), st.sampled_from([list, tuple]))
def test_results_count_as_if_each_came_by_itself(
    batches: list[list[int]], failed: set[int], kind: type
) -> None:
    """Neighbours, calls with gaps between them, in any order, twice: a group is no more than its results, the last wins."""
    state, model = fresh(), fresh()
    for index in failed:
        for each in (state, model):
            each.add_failure(index, f"failure {index}")
    for number, indices in enumerate(batches):
        outputs = [f"{index} of {number}, {place}" for place, index in enumerate(indices)]
        seconds = [number + place / 16 for place in range(len(indices))]
        state.add_results(kind(indices), outputs, kind(seconds), number)
        for index, output, taken in zip(indices, outputs, seconds, strict=True):
            model.add_results([index], [output], [taken], number)
    assert known(state) == known(model)
    done = {index for indices in batches for index in indices}
    assert state.done == len(done) == sum(state.completed)
    assert set(state.failures) == failed - done
    assert list(state.missing) == [index for index in range(COUNT) if not state.completed[index]]


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        pytest.param(range(3), [0, 1, 2], id="neighbours"),
        pytest.param(range(9, 12), [9, 10, 11], id="neighbours-at-the-end"),
        pytest.param((2, 3, 5), [2, 3, 5], id="with-a-gap"),
        pytest.param((4, 3, 2), [2, 3, 4], id="backwards"),
        pytest.param((0, 2, 1), [0, 1, 2], id="out-of-order"),
        pytest.param((7,), [7], id="one"),
        pytest.param(range(12), list(range(12)), id="all"),
    ],
)
def test_results_stand_in_their_places(indices: Sequence[int], expected: list[int]) -> None:
    """However a group is made up, each result is found at its own call, with its own time, and nothing else changes."""
    state = fresh()
    state.add_results(indices, [10 * index for index in indices], [index / 2 for index in indices], 7)
    assert state.output == [10 * index if index in expected else None for index in range(COUNT)]
    assert state.seconds == [index / 2 if index in expected else None for index in range(COUNT)]
    assert state._codes == [7 if index in expected else 0 for index in range(COUNT)]
    assert state.completed == [index in expected for index in range(COUNT)]
    assert (state.done, state.index) == (len(expected), expected[-1] + 1)
    assert (len(state.output), len(state.seconds), len(state.completed)) == (COUNT,) * 3


def test_results_that_come_again_take_the_place_of_the_earlier_ones() -> None:
    """The last result of a call wins, and it is counted once."""
    state = fresh()
    state.add_results(range(4), list("abcd"), [1.0] * 4, 1)
    state.add_results((3, 1), list("DB"), [2.0] * 2, 2)
    state.add_results(range(1, 3), [None, "C"], [3.0] * 2, 3)
    assert state.output[:5] == ["a", None, "C", "D", None]
    assert state.completed[:5] == [True, True, True, True, False]
    assert state.seconds[:4] == [1.0, 3.0, 3.0, 2.0]
    assert state._codes[:4] == [1, 3, 3, 2]
    assert (state.done, state.index) == (4, 4)


def test_missing_calls_are_a_range_until_there_is_a_result() -> None:
    """A run that begins from nothing makes no list of its calls."""
    state = fresh()
    assert state.missing == range(COUNT)
    assert list(state.give_results_away()) == []
    state.add_results((1, 3), ["b", None], [0.0] * 2, 0)
    assert list(state.missing) == [0, 2, *range(4, COUNT)]
    assert list(state.give_results_away()) == [(1, "b"), (3, None)]
    assert state.output == [None] * len(state.output), "what was given away is kept"


# --- what a file holds ------------------------------------------------------------------------------


def pickled(*results: tuple[int, Any]) -> Group:
    """Make a group of results as a child would."""
    return group(*[(index, 0.5, cloudpickle.dumps(value)) for index, value in results])


def test_group_of_a_file_is_taken_over() -> None:
    """Results of a group become results of their calls, with time and code."""
    state = fresh()
    state._apply(pickled((4, "four"), (5, None), (2, [2])))
    assert [state.output[index] for index in (2, 4, 5)] == [[2], "four", None]
    assert [index for index in range(COUNT) if state.completed[index]] == [2, 4, 5]
    assert [state.seconds[index] for index in (2, 4, 5)] == [0.5] * 3
    assert [state._codes[index] for index in (2, 4, 5)] == [7] * 3
    assert notes(state) == []
    assert not state.has_gaps


@pytest.mark.parametrize("bad", [Fragile(), Exits()], ids=["raises", "exits"])
def test_group_keeps_its_other_results_when_one_cannot_be_unpickled(bad: Any) -> None:
    """A result that cannot be unpickled counts as missing, by name; those that were saved with it are there."""
    state = fresh()
    state._apply(pickled((0, "a"), (1, bad), (2, "c"), (3, bad), (4, "e")))
    assert state.output[:5] == ["a", None, "c", None, "e"]
    assert state.completed[:5] == [True, False, True, False, True]
    assert state.done == 3
    found = notes(state)
    assert [note.split(" cannot")[0] for note in found] == ["the result of call 1", "the result of call 3"]
    assert all("counts as missing" in note for note in found)
    assert state.has_gaps


@pytest.mark.parametrize("beyond", [COUNT, COUNT + 5, 2**63, 2**64 - 1])
@pytest.mark.parametrize("place", range(3))
def test_group_keeps_its_other_results_when_one_is_of_no_call(place: int, beyond: int) -> None:
    """A result with a number that no call has is ignored, and said; those beside it are taken."""
    results: list[tuple[int, Any]] = [(COUNT - 2, "a"), (COUNT - 1, "b")]
    results.insert(place, (beyond, "stray"))
    state = fresh()
    state._apply(pickled(*results))
    assert state.output == [None] * (COUNT - 2) + ["a", "b"]
    assert (state.done, state.index) == (2, COUNT)
    (note,) = notes(state)
    assert f"call {beyond} was ignored" in note
    assert f"{COUNT} calls" in note


def test_group_removes_earlier_failures_of_its_calls_and_no_others() -> None:
    """A call that failed and then returned has not failed."""
    state = fresh()
    for index in (1, 2, 9):
        state._apply(Record(FAILURE, index, 0.0, 0, b"Traceback"))
    state._apply(pickled((0, "a"), (1, "b"), (2, Fragile())))
    assert set(state.failures) == {2, 9}


def test_unknown_times_come_back_as_unknown() -> None:
    """A result without a known time, from a file of 1.0.5, has none after it was saved anew, either."""
    state = fresh(3)
    state.add_results(range(3), list("abc"), [1.0, math.nan, 2.0], 7)
    again = pickle.loads(pickle.dumps(state))
    assert again.seconds == [1.0, None, 2.0]
    _, columns, *_ = again.sections()[0]
    assert [math.isnan(taken) for taken in _wire.unpack(columns)[1]] == [False, True, False]


def test_state_knows_its_longest_call_also_after_a_resume() -> None:
    """What took longest is known of results that are here; what is not known of any is nothing."""
    state = fresh()
    assert state.longest == 0.0
    state.add_results((0,), [0], (math.nan,), 0)
    assert state.longest == 0.0
    state.add_results((3, 7, 5), [0, 0, 0], (1.0, 4.0, 2.0), 0)
    assert state.longest == 4.0
    again = fresh()
    again.keep_results(pickle.loads(pickle.dumps(state)))
    assert again.longest == 4.0
    other = fresh()
    other.copy_result(2, state, 5)
    assert other.longest == 2.0
    assert fresh(0).longest == 0.0


# --- sections: every result by itself -----------------------------------------------------------------

TRACES = st.tuples(st.floats(0, 2e9), st.integers(0, 9), st.integers(0, 2**32 - 1))
SMALL = st.builds(
    Record,
    st.just(RESULT),
    PLACES,
    st.floats(0, 9),
    st.integers(0, 2),
    st.binary(max_size=20),
    st.just(()),
    st.none(),
    TRACES,
)
STANDING_ALONE = st.builds(
    Record,
    st.just(RESULT),
    PLACES,
    st.floats(0, 9),
    st.integers(0, 2),
    st.binary(max_size=20),
    st.just([b"buffer"]),
    st.none(),
    TRACES,
)
GROUPS = st.builds(
    lambda results, code: group(*results, code=code),
    st.lists(st.tuples(PLACES, st.floats(0, 9), st.binary(max_size=20)), min_size=1, max_size=4),
    st.integers(0, 2),
)


@given(st.lists(st.one_of(SMALL, SMALL, SMALL, STANDING_ALONE, GROUPS), max_size=12))
def test_joined_results_are_the_same_in_fewer_pieces(records: list[Record | Group]) -> None:
    """Small results that follow each other become groups; all results are there, in order, and nothing is joined with other code."""
    found = list(joined(records))
    assert list(singles(found)) == list(singles(records))
    singly = [record for record in records if isinstance(record, Record) and not record.buffers]
    assert not any(isinstance(record, Record) and not record.buffers for record in found)
    assert len(found) <= len(records)
    if len(singly) == len(records):
        changes = sum(one.code != other.code for one, other in itertools.pairwise(singly))
        assert len(found) == (changes + 1 if records else 0)


def test_joined_results_keep_large_ones_apart() -> None:
    """A large pickle and one with buffers stand alone, as they are; groups are not copied."""
    large, small = Record(RESULT, 1, 0.0, 7, b"x" * LARGE), Record(RESULT, 2, 0.0, 7, b"small")
    buffers = Record(RESULT, 3, 0.0, 7, b"main", [b"y" * LARGE])
    ready = group((4, 0.0, b"four"), (5, 0.0, b"five"))
    found = list(joined([small, small, large, small, buffers, ready, small]))
    assert [type(each) for each in found] == [Group, Record, Group, Record, Group, Group]
    assert found[1] is large
    assert found[3] is buffers
    assert found[4] is ready
    assert list(joined([])) == []


@given(st.lists(st.one_of(SMALL, STANDING_ALONE, GROUPS), max_size=8))
def test_sections_are_builtin_types_that_hold_all_results(records: list[Record | Group]) -> None:
    """A pickled checkpoint holds its results without a class of ours, so that any release can read them."""
    sections = as_sections(records)
    for code, columns, body, buffers in sections:
        assert (type(code), type(columns), type(body), type(buffers)) == (int, bytes, bytes, tuple)
        assert all(type(buffer) is bytearray for buffer in buffers)
    assert list(_singles(sections)) == [each for record in records for each in singles([record])]


def _singles(sections: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    for code, columns, body, buffers in sections:
        indices, seconds, sizes, _ = _wire.unpack(columns)
        for index, taken, main in zip(indices, seconds, _wire.parts(body, sizes), strict=True):
            yield RESULT, index, taken, code, bytes(main), list(map(bytes, buffers))


def test_sections_take_nothing_of_what_they_were_made_from() -> None:
    """Results are copied into sections: whoever holds the array that a buffer belongs to may change it."""
    array = np.zeros(LARGE, np.uint8)
    (section,) = as_sections([Record(RESULT, 0, 0.0, 7, b"main", [array.data])])
    array[:] = 1
    assert bytes(section[3][0]) == bytes(LARGE)


VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.sampled_from(["long text", "array"]))
OUTPUTS = {"long text": "x" * LARGE, "array": np.arange(LARGE)}  # hypothesis would show them in full


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(PLACES, st.tuples(VALUES, st.floats(0, 9) | st.just(math.nan), st.integers(0, 2**64 - 1)))
)
def test_state_comes_back_from_its_pickle(results: dict[int, tuple[Any, float, int]]) -> None:
    """Whatever results there are, small ones side by side and large ones alone: all are there after pickling."""
    state = fresh()
    for index, (output, taken, code) in results.items():
        state.add_results((index,), [OUTPUTS.get(str(output), output)], [taken], code)
    if COUNT - 1 not in results:
        state.add_failure(COUNT - 1, "Traceback")
    again = pickle.loads(pickle.dumps(state))
    assert known(again)[1:] == known(state)[1:]
    for one, other in zip(again.output, state.output, strict=True):
        assert type(one) is type(other)
        assert np.array_equal(one, other)
        assert not isinstance(one, np.ndarray) or one.flags.writeable
    assert notes(again) == []


def test_state_loses_one_result_only_when_it_cannot_be_unpickled() -> None:
    """A result that cannot be unpickled any more costs nothing but itself, wherever it was saved."""
    state = fresh(5)
    state.add_results(range(5), ["a", Fragile(), "c", Exits(), np.zeros(LARGE)], [1.0] * 5, 7)
    again = pickle.loads(pickle.dumps(state))
    assert again.completed == [True, False, True, False, True]
    assert again.output[:4] == ["a", None, "c", None]
    assert len(notes(again)) == 2
    assert again.has_gaps


def test_state_pickles_with_results_that_are_pickled_already() -> None:
    """Sections are put into a copy as they are, those of calls that it does not have are ignored, and the last wins."""
    sections = as_sections([pickled((0, "old"), (1, "b")), pickled((COUNT, "stray"), (0, "new"))])
    again = pickle.loads(pickle.dumps(fresh().with_results(sections)))
    assert again.output[:3] == ["new", "b", None]
    assert again.done == 2
    (note,) = notes(again)
    assert f"call {COUNT} was ignored" in note


# --- one state takes over from another ------------------------------------------------------------------


@given(st.sets(PLACES), st.sets(PLACES), st.sets(PLACES))
def test_state_keeps_what_another_one_has_and_it_has_not(
    own: set[int], saved: set[int], failed: set[int]
) -> None:
    """Of two states of one run nothing is lost: the own result comes before the saved one, and that before a failure."""
    state, other = fresh(), fresh()
    for index in own:
        state.add_results([index], [f"own {index}"], [1.0], 1)
    for index in saved:
        other.add_results([index], [f"saved {index}"], [2.0], 2)
    for index in failed - saved:
        other.add_failure(index, "Traceback")
    state.keep_results(other)
    assert state.output == [
        f"own {index}" if index in own else f"saved {index}" if index in saved else None
        for index in range(COUNT)
    ]
    assert state.seconds == [
        1.0 if index in own else 2.0 if index in saved else None for index in range(COUNT)
    ]
    assert state.done == sum(state.completed) == len(own | saved)
    assert set(state.failures) == failed - saved - own
    assert state.index == max([0, *(index + 1 for index in own | saved | failed - saved)])
