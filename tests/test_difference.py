"""Why did it not resume? The way into any value is named, in few words, as a user would say it."""

import collections
import dataclasses
import functools
import types
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_canonical import DIFFERENT, capture

from thread_chunks import _identity, config
from thread_chunks._canonical import form
from thread_chunks._difference import explain
from thread_chunks._mismatch import explain_calls, kept_by_reuse
from thread_chunks._parameters import read_calls
from thread_chunks.messages import Call

NAN = float("nan")


@dataclasses.dataclass
class Fit:
    """What a scientist passes around."""

    rate: float
    grid: Any = None


class Model:
    """An object with attributes, and one of them only sometimes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def ramp(place: int | None = None, size: int = 100) -> Any:
    values = np.arange(float(size))
    if place is not None:
        values[place] = -1.0
    return values


FRAME = pd.DataFrame({"a": [1, 2], "b": [1.5, NAN]})
LONG = "x" * 300


def compiled(text: str) -> Any:
    names: dict[str, Any] = {}
    exec(f"def f(x): return {text}", names)  # noqa: S102 - as code generators do
    return names["f"]


def scaled(factor: int) -> Any:
    @functools.wraps(ramp)
    def inner(*args: Any) -> Any:
        return factor * ramp(*args)

    return inner


def with_attrs(**attrs: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs.update(attrs)
    return frame


class Numbered:
    __slots__ = ("number",)


@dataclasses.dataclass(slots=True)
class Node(Numbered):
    mass: float = 1.0


def node(number: int) -> Node:
    made = Node()
    made.number = number  # type: ignore[attr-defined]
    return made


class Watched:
    """Whoever asks it for its number changes it."""

    def __init__(self, x: int) -> None:
        self._x = x

    @property
    def x(self) -> int:
        raise AssertionError


CASES: dict[str, tuple[Any, Any, str]] = {
    "number": (0.1, 0.2, ": 0.1 was saved, 0.2 is asked for"),
    "int and float": (1, 1.0, ": 1 (int) was saved, 1.0 (float) is asked for"),
    "bool": (1, True, ": 1 (int) was saved, True (bool) is asked for"),
    "numpy and python": (1.0, np.float64(1.0), ": 1.0 (float) was saved, 1.0 (float64) is asked for"),
    "text": ("a", "b", ": 'a' was saved, 'b' is asked for"),
    "long text": (LONG + "a", LONG + "b", ", from character 290 on: 'xxxxxxxxxxa' was saved, 'xxxxxxxxxxb' is asked for"),
    "longer text": (LONG, LONG + "b", ", from character 290 on: 'xxxxxxxxxx' was saved, 'xxxxxxxxxxb' is asked for"),
    "long bytes": (LONG.encode(), LONG.encode() + b"b", ", from byte 290 on: b'xxxxxxxxxx' was saved, b'xxxxxxxxxxb'"),
    "nested": ({"alpha": [1, 2, 3, 0.1]}, {"alpha": [1, 2, 3, 0.2]}, ", key 'alpha', item 3: 0.1 was saved, 0.2 is"),
    "more items": ([1, 2], [1, 2, 3], ": 2 items were saved, 3 are asked for"),
    "fewer items": ((1, 2), (1,), ": 2 items were saved, 1 is asked for"),
    "list and tuple": ([1], (1,), ": [1] (list) was saved, (1,) (tuple) is asked for"),
    "new key": ({"a": 1}, {"a": 1, "b": 2}, ": key 'b' is new (2)"),
    "gone key": ({"a": 1, "b": 2}, {"a": 1}, ": key 'b' is gone (it was 2)"),
    "other key": ({1: "a"}, {True: "a"}, ": key True is new ('a')"),
    "set": ({1, 2}, {2, 3}, ": element 1 is gone; element 3 is new"),
    "larger set": ({1}, {1, 2, 3}, ": element 2 is new, and 1 more"),
    "array": (ramp(), ramp(17), ", element [17] of an array of shape (100,): 17.0 was saved, -1.0 is asked for"),
    "array of two axes": (
        ramp().reshape(10, 10), ramp(17).reshape(10, 10), ", element [1, 7] of an array of shape (10, 10): 17.0 was",
    ),
    "arrays": (ramp(), ramp() + 1, ", element [0] of an array of shape (100,), the first of 100 that differ: 0.0 was"),
    "NaN": (np.array([1.0, NAN]), np.array([1.0, 2.0]), ", element [1] of an array of shape (2,): nan was saved, 2.0 is"),
    "zeros": (np.array([0.0]), np.array([-0.0]), ", element [0] of an array of shape (1,): 0.0 was saved, -0.0 is"),
    "complex": (np.array([1j, 2j]), np.array([1j, 3j]), ", element [1] of an array of shape (2,): 2j was saved, 3j"),
    "long double": (
        np.array([1, 2], np.longdouble), np.array([1, 3], np.longdouble), ", element [1] of an array of shape (2,): 2.0",
    ),
    "no axis": (np.array(1), np.array(2), ", element [] of an array of shape (): 1 was saved, 2 is asked for"),
    "dtype": (ramp(), ramp().astype("f4"), ": an array of float64 was saved, one of float32 is asked for"),
    "shape": (ramp(), ramp(size=99), ": an array of shape (100,) was saved, one of shape (99,) is asked for"),
    "objects in an array": (
        np.array([1, [2, 3]], object), np.array([1, [2, 4]], object), ", element [1] of an array of shape (2,), item 1: 3",
    ),
    "record": (
        np.array([(1, 2)], "i4,f8"), np.array([(1, 3)], "i4,f8"), ", field 'f1', element [0] of an array of shape (1,): 2.0",
    ),
    "mask": (
        np.ma.array([1, 2], mask=[False, True]), np.ma.array([1, 2], mask=[True, True]), ", its mask, element [0] of an array of",
    ),
    "frame": (FRAME, FRAME.assign(b=[1.5, 2.5]), ", column 'b', row 1: nan was saved, 2.5 is asked for"),
    "columns": (FRAME, FRAME.rename(columns={"b": "c"}), ", its columns, item 1: 'b' was saved, 'c' is asked for"),
    "index": (FRAME, FRAME.set_index(np.array([0, 5])), ", its index, item 1: 1 was saved, 5 is asked for"),
    "rows": (FRAME, FRAME[:1], ": 2 rows were saved, 1 is asked for"),
    "column type": (
        FRAME, FRAME.astype({"a": "int32"}), ", column 'a': values of int64 were saved, values of int32 are asked for",
    ),
    "series": (FRAME["a"], FRAME["a"] + 1, ", row 0: 1 was saved, 2 is asked for"),
    "name of a series": (FRAME["a"], FRAME["a"].rename("z"), ", its name: 'a' was saved, 'z' is asked for"),
    "dataclass": (Fit(0.1, [1]), Fit(0.1, [2]), ", field 'grid', item 0: 1 was saved, 2 is asked for"),
    "object": (Model(a=1, b=2), Model(a=1, b=3), ", attribute 'b': 2 was saved, 3 is asked for"),
    "new attribute": (Model(a=1), Model(a=1, b=3), ": attribute 'b' is new"),
    "gone attribute": (Model(a=1, b=3), Model(a=1), ": attribute 'b' is gone"),
    "namespace": (types.SimpleNamespace(x=[1]), types.SimpleNamespace(x=[2]), ", attribute 'x', item 0: 1 was saved"),
    "functions": (ramp, explain, ": the function ramp was saved, the function explain is asked for"),
    "lambdas": (lambda x: x, lambda x: -x, ", its code: it says something else in <lambda>()"),
    "captured": (capture(1), capture(2), ", what it captured, item 0: 1 was saved, 2 is asked for"),
    "made from a text": (compiled("x + 1"), compiled("x + 2"), ", its code: it says something else in f()"),
    "decorated": (scaled(2), scaled(3), ", what it captured, item 0: 2 was saved, 3 is asked for"),
    "generator": (np.random.default_rng(1), np.random.default_rng(2), ", what it is made of, item 0, its state, item 0, key 'state', key 'state': "),
    "frames of other numbers": (
        pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1.0, 2.0]}), ", column 'a': values of int64 were saved, values of float64",
    ),
    "kind of index": (
        pd.Series([1, 2], pd.Index([0, 1], dtype="int64")), pd.Series([1, 2], pd.Index([0, 1], dtype="int32")),
        "its index was a Index of int64, now it is a Index of int32",
    ),
    "categories": (pd.Categorical(["a"], ["a", "b"]), pd.Categorical(["a"], ["a", "c"]), "['a', 'b'] was saved, "),
    "nullable": (pd.array([1, None], dtype="Int64"), pd.array([1, 2], dtype="Int64"), "<NA>] Length: 2, dtype: Int64 was saved, "),
    "attrs": (with_attrs(unit="m"), with_attrs(unit="s"), ", its attrs, key 'unit': 'm' was saved, 's' is asked for"),
    "ordered dicts": (
        collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), ", the order of its keys, item 0: 'a' was saved, 'b' is",
    ),
    "state of a base": (node(1), node(2), ", field 'number': 1 was saved, 2 is asked for"),
    "behind a property": (Watched(1), Watched(2), ", attribute '_x': 1 was saved, 2 is asked for"),
    "types of one name": (
        types.SimpleNamespace(), type("SimpleNamespace", (), {"__module__": "mine"})(), "(types.SimpleNamespace) was saved, ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_explain_names_the_way_to_the_first_difference(name: str) -> None:
    """Keys, items, elements, columns, fields and attributes on the way in, then what was saved and what is asked for."""
    saved, now, text = CASES[name]
    assert form(saved) != form(now)
    found = explain("argument 2", saved, now)
    assert found.startswith("argument 2")
    assert text in found
    if text[0] in ":,":
        assert found.startswith(f"argument 2{text}")


@pytest.mark.parametrize("name", DIFFERENT)
def test_explain_says_something_short_whatever_differs(name: str) -> None:
    """No value is too odd to be told from another, and no message is long."""
    values = DIFFERENT[name]
    for number, value in enumerate(values):
        for other in values[:number]:
            found = explain("argument 0", other, value)
            assert found.startswith("argument 0")
            assert len(found) < 6 * config.resume_repr_chars, found
            assert "\n" not in found


def test_explain_shows_both_ends_of_a_very_long_way() -> None:
    """Nested as deep as they may be, values are told apart in one line."""
    saved: Any = 1
    now: Any = 2
    for _ in range(15):
        saved, now = {"a long name for a key": [saved]}, {"a long name for a key": [now]}
    found = explain("argument 0", saved, now)
    assert found.startswith("argument 0, ..., ")
    assert len(found) < 4 * config.resume_repr_chars
    ring: list[Any] = [1]
    other: list[Any] = [2]
    ring.insert(0, ring)
    other.insert(0, other)
    assert explain("argument 0", ring, other).startswith("argument 0")


def test_explain_calls_names_arguments_as_the_function_does() -> None:
    """The number of an argument, counted from 0, and its name where the function says it."""
    saved, now = read_calls([[1, 2], [3, 4]])[1], read_calls([[1, 2], [3, 5]])[1]
    assert (
        explain_calls(saved, now, ("x", "rate")) == "call 1, argument 1 ('rate'): 4 was saved, 5 is asked for"
    )
    assert explain_calls(saved, now, ("x",)) == "call 1, argument 1: 4 was saved, 5 is asked for"


# --- reuse, and what it costs -----------------------------------------------------------------


def pairs(saved: Any, now: Any, completed: list[bool] | None = None) -> list[tuple[int, int]]:
    return list(kept_by_reuse(read_calls(saved)[1], completed or [True] * len(saved), read_calls(now)[1]))


@pytest.mark.parametrize(
    ("saved", "now", "expected"),
    [
        ([[1], [2]], [[2], [3], [1]], [(0, 1), (2, 0)]),
        ([[1], [1], [2]], [[2], [1], [1], [1]], [(0, 2), (1, 0), (2, 1)]),
        ([[1], [1], [1]], [[1]], [(0, 0)]),
        ([[1]], [[1], [1], [1]], [(0, 0)]),
        ([[1]], [[1.0], [True]], []),
        ([[NAN, "a"]], [[float("nan"), "a"]], [(0, 0)]),
        ([[0.0], [-0.0]], [[-0.0], [0.0]], [(0, 1), (1, 0)]),
        ([[np.array([1.0, NAN])], [{1, 2}]], [[{2, 1}], [np.array([1.0, NAN])]], [(0, 1), (1, 0)]),
        ([[Fit(1)], [Fit(2)]], [[Fit(2)], [Fit(1.0)]], [(0, 1)]),
        ([{"x": 1, "y": 2}], [{"y": 2, "x": 1}], [(0, 0)]),
        ([[1]], [{"x": 1}], []),
        ([[1], [2, 3], [[4]]], [[[4]], [2, 3], [1]], [(0, 2), (1, 1), (2, 0)]),
        ([["a" + "b"], [b"ab"], [None]], [[None], [b"ab"], [chr(97) + "b"]], [(0, 2), (1, 1), (2, 0)]),
        ([], [[1]], []),
    ],
    ids=str,
)
def test_reuse_pairs_calls_with_results_by_value_and_uses_none_twice(
    saved: Any, now: Any, expected: list[tuple[int, int]]
) -> None:
    """Whatever the order and the kind of value; parameters that occur more often than they were saved are new calls."""
    assert pairs(saved, now) == expected


def test_reuse_pairs_only_results_that_are_there() -> None:
    """Calls that failed or were never run have nothing to give."""
    assert pairs([[1], [1], [2]], [[1], [2], [1]], [False, True, False]) == [(0, 1)]


@pytest.mark.parametrize("task", ["explain", "reuse"])
@pytest.mark.parametrize("kind", ["different", "equal"])
def test_work_grows_linearly_with_the_number_of_calls(
    task: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call is written once, on either side, in any order; ten times the calls are ten times the work."""
    written: list[int] = []
    call_forms = _identity.call_forms

    def counted(calls: Iterable[Call]) -> Iterator[bytes]:
        for call in calls:
            written.append(call.index)
            yield from call_forms([call])

    monkeypatch.setattr(_identity, "call_forms", counted)
    for count in (200, 2000):
        written.clear()
        value = (lambda n: n) if kind == "different" else (lambda _: 0)
        saved = [[[value(n)]] for n in range(count)]
        if task == "reuse":
            assert len(pairs(saved, saved[::-1])) == count
        else:
            other = [*saved[::-1], [[-1]]]
            assert explain_calls(read_calls(saved)[1], read_calls(other)[1]) is not None
        assert len(written) <= 2 * count + 5


def test_plain_calls_are_compared_without_a_form_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million calls of numbers are told apart in seconds: nothing of Python's own is done for each."""

    def never(calls: Iterable[Call]) -> Iterator[bytes]:
        for call in calls:
            raise AssertionError(call)
        yield from ()

    monkeypatch.setattr(_identity, "call_forms", never)
    saved = [[n, 0.5, "a"] for n in range(1000)]
    assert len(pairs(saved, saved[::-1])) == 1000
    found = explain_calls(read_calls(saved)[1], read_calls(saved[::-1])[1])
    assert (
        found
        == "the same parameters stand in another order: call 0, argument 0: 0 was saved, 999 is asked for"
    )


def test_explain_finds_the_place_in_a_long_text_by_halving() -> None:
    """The place where texts of 20 million characters part is found without a look at each character by itself."""
    text = "x" * 20_000_000
    found = explain("argument 0", text, text[:-3] + "yxx")
    assert found.startswith("argument 0, from character 199999")
    assert "yxx" in found
