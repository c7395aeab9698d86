"""What a parameter list is: read once, and every error shows the fix."""

import array
from collections import OrderedDict, UserList, deque
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_literal import Proxy

from thread_chunks import _parameters, _wire, config
from thread_chunks._parameters import read_calls, shown
from thread_chunks.messages import Call

ENTRIES = st.one_of(st.lists(st.integers()), st.tuples(st.text()), st.dictionaries(st.text(), st.none()))


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("entry", "args", "kwargs"),
    [
        pytest.param([1, 2], (1, 2), {}, id="list"),
        pytest.param((1, 2), (1, 2), {}, id="tuple"),
        pytest.param([], (), {}, id="empty-list"),
        pytest.param({}, (), {}, id="empty-mapping"),
        pytest.param(range(3), (0, 1, 2), {}, id="range"),
        pytest.param(deque([1, 2]), (1, 2), {}, id="deque"),
        pytest.param(UserList([1, 2]), (1, 2), {}, id="sequence"),
        pytest.param(Point(1, 2), (1, 2), {}, id="named-tuple"),
        pytest.param(["text"], ("text",), {}, id="text-in-a-list"),
        pytest.param([[1, 2]], ([1, 2],), {}, id="list-in-a-list"),
        pytest.param({"x": 1, "y": 2}, (), {"x": 1, "y": 2}, id="mapping"),
        pytest.param(OrderedDict(x=1), (), {"x": 1}, id="ordered-mapping"),
        pytest.param(MappingProxyType({"x": 1}), (), {"x": 1}, id="mapping-proxy"),
        pytest.param(np.array([1.0, 2.0]), (1.0, 2.0), {}, id="array"),
    ],
)
def test_read_calls_makes_a_call_of_each_entry(
    entry: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """A sequence is positional arguments, and a mapping is keyword arguments."""
    entries, calls = read_calls([entry, entry])
    assert list(calls) == [Call(0, args, kwargs), Call(1, args, kwargs)]
    assert all(one is entry for one in entries)


def test_read_calls_passes_rows_of_a_matrix_as_arrays_when_they_are_nested() -> None:
    """The rows of an array are its entries; what is in them are the arguments."""
    _, calls = read_calls(np.arange(8).reshape(2, 2, 2))
    assert [call.index for call in calls] == [0, 1]
    np.testing.assert_array_equal(calls[1].args[0], [4, 5])


def test_read_calls_reads_an_iterable_once() -> None:
    """A generator is read once, from its first entry to its last."""
    read: list[int] = []

    def entries() -> Iterator[list[int]]:
        for number in range(3):
            read.append(number)
            yield [number]

    assert [call.args for call in read_calls(entries())[1]] == [(0,), (1,), (2,)]
    assert read == [0, 1, 2]


def test_read_calls_refuses_a_generator_that_was_used_up() -> None:
    """A generator that somebody went through holds no call any more, which is not the same as a list of none."""
    entries = ([number] for number in range(3))
    assert len(read_calls(entries)[0]) == 3
    with pytest.raises(
        ValueError, match=r"a generator that was used up before.* keep its entries with list\(...\)"
    ):
        read_calls(entries)
    assert read_calls([number] for number in range(0))[0] == []


def test_read_calls_takes_a_set_of_rows() -> None:
    """Any iterable will do, one without an order too."""
    assert sorted(call.args for call in read_calls({(1,), (2,)})[1]) == [(1,), (2,)]


@pytest.mark.parametrize(
    "entry", [Mock(), MagicMock(), Mock(spec=list), MagicMock(spec=dict), Proxy(), [Proxy()].__class__],
    ids=lambda entry: type(entry).__name__,
)  # fmt: skip
def test_read_calls_looks_at_the_type_of_an_entry(entry: Any) -> None:
    """An object that answers to every name, or says that it is a list, is no row; within a row it is an argument."""
    with pytest.raises(TypeError, match=r"parameters\[0\] is .*but each entry must be a list of arguments"):
        read_calls([entry])
    assert read_calls([[entry]])[1][0].args[0] is entry


@given(st.lists(ENTRIES))
def test_read_calls_keeps_every_argument(entries: list[Any]) -> None:
    """Whatever rows there are: as many calls, in order, with the arguments as they stand there."""
    kept, calls = read_calls(iter(entries))
    assert kept == entries
    for number, (entry, call) in enumerate(zip(entries, calls, strict=True)):
        assert call.index == number
        assert (call.kwargs if isinstance(entry, dict) else list(call.args)) == (
            entry if isinstance(entry, dict) else list(entry)
        )


def eager(entries: list[Any]) -> list[Call]:
    """Make every call at once, as one would by hand."""
    return [
        Call(index, (), dict(entry)) if isinstance(entry, dict) else Call(index, tuple(entry), {})
        for index, entry in enumerate(entries)
    ]


@given(st.lists(ENTRIES, max_size=9), st.slices(9), st.slices(9))
def test_calls_are_those_of_a_list_however_they_are_looked_at(
    entries: list[Any], some: slice, others: slice
) -> None:
    """A run's calls are a sequence like the list of them: by number, by slice, forwards and backwards."""
    wanted = eager(entries)
    _, calls = read_calls(entries)
    assert len(calls) == len(wanted)
    assert list(calls) == wanted
    assert list(reversed(calls)) == wanted[::-1]
    assert [calls[index] for index in range(len(wanted))] == wanted
    assert calls[some] == wanted[some]
    assert [calls[some][index] for index in range(len(wanted[some]))] == wanted[some]
    assert all(call in calls for call in wanted[others])
    for beyond in (len(wanted), -len(wanted) - 1):
        with pytest.raises(IndexError):
            calls[beyond]


def test_calls_are_those_of_a_list_when_they_are_counted_from_the_end() -> None:
    """The last call is the last one by its index, too, however one asks for it."""
    _, calls = read_calls([[1], [2], {"x": 3}])
    assert [calls[-1], calls[-3]] == [Call(2, (), {"x": 3}), Call(0, (1,), {})]


@given(st.lists(ENTRIES, max_size=9), st.data())
def test_rows_of_calls_are_their_arguments(entries: list[Any], data: st.DataObject) -> None:
    """The rows of some calls, in whatever order, make the same calls again: those of a range as those of a list."""
    wanted = eager(entries)
    _, calls = read_calls(entries)
    places = st.integers(0, len(wanted))
    first, last = sorted([data.draw(places), data.draw(places)])
    some = range(first, last, data.draw(st.integers(1, 3)))
    any_order = data.draw(st.permutations(list(some)))
    for indices in (some, list(some), tuple(any_order)):
        rows = _wire.unflat(*calls.rows_of(indices))
        assert list(map(Call, indices, *rows)) == [wanted[index] for index in indices]


def test_calls_are_made_only_when_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of very many calls holds their arguments, and no object for each that nobody looks at."""
    made: list[int] = []

    def counted(index: int, args: Any, kwargs: Any) -> Call:
        made.append(index)
        return Call(index, args, kwargs)

    monkeypatch.setattr(_parameters, "Call", counted)
    _, calls = read_calls([[number] for number in range(1000)])
    assert len(calls) == 1000
    args, kwargs = _wire.unflat(*calls.rows_of(range(400, 402)))
    assert [*args, *kwargs] == [(400,), (401,), {}, {}]
    assert made == []
    assert [calls[7], *calls[20:22]] == [Call(7, (7,), {}), Call(20, (20,), {}), Call(21, (21,), {})]
    assert made == [7, 20, 21]


@pytest.mark.parametrize(
    "entry",
    [
        5, 2.5, None, True, "text", b"bytes", bytearray(b"x"), memoryview(b"x"), {1, 2}, iter([1]), object(),
        np.float64(3.0), np.array(3.0), len, range,
    ],
    ids=lambda entry: type(entry).__name__,
)  # fmt: skip
def test_read_calls_shows_the_fix_when_an_entry_is_no_row(entry: Any) -> None:
    """Whatever is not clearly one entry of arguments is an error that says which, and how to write it."""
    with pytest.raises(TypeError) as caught:
        read_calls([[1], [2], entry])
    text = str(caught.value)
    assert "parameters[2]" in text
    assert shown(entry) in text
    assert f"write [{shown(entry)}]" in text
    assert "[[1], [2]] and not [1, 2]" in text


@pytest.mark.parametrize("entry", [{1: 2}, {"x": 1, 2: 3}, {None: 1}])
def test_read_calls_refuses_keywords_that_are_no_text(entry: Any) -> None:
    """The keys of a mapping are keywords, so others are an error that says which entry it is."""
    with pytest.raises(TypeError, match=r"parameters\[0\].*keys must be strings"):
        read_calls([entry])


@pytest.mark.parametrize(
    "parameters",
    [5, None, "text", b"bytes", {"x": 1}, len, np.float64(1.0)],
    ids=lambda it: type(it).__name__,
)
def test_read_calls_shows_the_fix_when_the_list_is_no_list(parameters: Any) -> None:
    """One set of arguments without a list around it is an error that shows what a list looks like."""
    with pytest.raises(TypeError, match=r"\[\[1, 4\], \[2, 5\]\]") as caught:
        read_calls(parameters)
    assert shown(parameters) in str(caught.value)


def test_read_calls_shares_no_mapping_with_its_caller() -> None:
    """A mapping is copied: to change it later changes no call."""
    entry = {"x": 1}
    _, calls = read_calls([entry])
    entry["x"] = 2
    assert calls[0].kwargs == {"x": 1}


def test_read_calls_shares_no_list_with_its_caller() -> None:
    """A list is copied: to change it later, while calls wait, changes no call."""
    entry = [1, 2]
    _, calls = read_calls([entry])
    entry[0] = 9
    entry.append(3)
    assert calls[0].args == (1, 2)


class Broken:
    def __repr__(self) -> str:
        msg = "no repr"
        raise RuntimeError(msg)


class Exiting:
    def __repr__(self) -> str:
        raise SystemExit(3)


class Lying(str):
    __slots__ = ()

    def split(self, *_: Any) -> Any:
        return [1, 2]

    def __repr__(self) -> str:
        return Lying("text\nof two lines")


class Lines:
    def __repr__(self) -> str:
        return "one\n   two\r\n\tthree"


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6, list(range(10**5)), dict.fromkeys(range(99), "x" * 99), 10**4000, b"\n" * 10**5,
        np.zeros((50, 50)), array.array("d", range(1000)), [[[["x" * 100] * 9] * 9] * 9] * 9, Lines(), Broken(),
        [Broken()], Exiting(), Lying(), MagicMock(), Proxy(),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_shown_is_one_short_line_whatever_the_value(value: Any) -> None:
    """Any value is shown in one line that fits into a message, even one that cannot show itself."""
    text = shown(value)
    assert text == " ".join(text.split())
    assert len(text) <= config.resume_repr_chars


def test_shown_tells_of_a_number_that_python_does_not_write() -> None:
    """A number of more digits than Python writes hides nothing of what stands beside it."""
    assert shown([1, 10**5000]) == "[1, a number of 16610 bits]"
    assert shown(10**100).startswith("1000")


def test_shown_cuts_at_the_configured_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much of a value is shown is the user's choice, at the time of the call."""
    assert len(shown("x" * 500)) == config.resume_repr_chars
    monkeypatch.setattr(config, "resume_repr_chars", 20)
    assert len(shown("x" * 500)) == 20
    assert shown("short") == "'short'"
