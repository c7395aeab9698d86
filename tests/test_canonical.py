"""The canonical form: the same in every process for equal values, and different for different ones."""

import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import math
import operator
import pickle
import random
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from conftest import Programs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thread_chunks._canonical import code_form, form, tagged

NAN = float("nan")
SHARED = [1]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Settings:
    rate: Any
    names: Any = None


@dataclasses.dataclass
class Record(dict[Any, Any]):
    """A mapping with a field."""

    name: str


def record(name: str, **items: Any) -> Record:
    made = Record(name)
    made.update(items)
    return made


def with_attribute(value: Any) -> Settings:
    """Make a dataclass that holds more than its fields."""
    made = Settings(1)
    made.more = value  # type: ignore[attr-defined]
    return made


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    rate: Any


class Pair(NamedTuple):
    x: Any
    y: Any


class Plain:
    def __init__(self, x: Any) -> None:
        self.x = x

    def method(self) -> None: ...

    def other(self) -> None: ...


class Slotted:
    __slots__ = ("x", "y")

    def __init__(self, x: Any) -> None:
        self.x = x


class Tags(set[Any]):
    pass


class FrozenTags(frozenset[Any]):
    pass


class Quantity(np.ndarray[Any, Any]):
    """An array with a unit, as astropy's."""

    unit: str

    def __reduce__(self) -> Any:
        return quantity, (np.asarray(self), self.unit)


def quantity(values: Any, unit: str) -> Quantity:
    made = np.asarray(values).view(Quantity)
    made.unit = unit
    return made


def named(x: Any) -> Any:
    return x + 1


def also_named(x: Any) -> Any:
    return x + 1


def capture(value: Any) -> Callable[[int], Any]:
    return lambda x: (x, value)


def capture_by_name(value: Any) -> Callable[[int], Any]:
    def inner(x: int) -> Any:
        return x, value

    return inner


def array(values: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
    return np.array(values, dtype)


def cycle(value: Any) -> list[Any]:
    items = [value]
    items.append(items)
    return items


def blocks() -> pd.DataFrame:
    """Make a frame whose columns were added one by one."""
    frame = pd.DataFrame({"a": [1, 2]})
    frame["b"] = [3, 4]
    return frame


STRUCTURED = np.dtype([("a", "<i4"), ("b", "<f8")])
OUT_OF_ORDER = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": [4, 0]})


def with_padding(filler: int) -> np.ndarray[Any, Any]:
    """Make a long double of value 1, with something in the bytes that carry no value."""
    values = np.ones(2, np.longdouble)
    unused = 10 if np.finfo(np.longdouble).nmant == 63 else values.itemsize
    values.view(np.uint8).reshape(2, -1)[:, unused:] = filler
    return values


def with_gaps(filler: int) -> np.ndarray[Any, Any]:
    """Make a record array with something in a gap between its fields."""
    whole = np.zeros(2, [("a", "<i4"), ("gap", "<i4"), ("b", "<i4")])
    whole["gap"] = filler
    return whole[["a", "b"]]


def filled(value: Any, **attributes: Any) -> Any:
    """Give attributes to anything that takes them."""
    vars(value).update(attributes)
    return value


def renamed(text: str, *defaults: Any, **names: Any) -> Any:
    """Make a function from a text, as code generators do; it bears the name of another one."""
    exec(f"def named(x): return {text}", names)  # noqa: S102 - that is how they do it
    made = names["named"]
    made.__defaults__ = defaults or None
    return made


def wrapped(func: Any, factor: int) -> Any:
    @functools.wraps(func)
    def inner(x: Any) -> Any:
        return factor * func(x)

    return inner


def made_module(x: int) -> types.ModuleType:
    made: types.ModuleType = filled(types.ModuleType("made"), x=x)
    return made


class Numbered:
    __slots__ = ("number",)


@dataclasses.dataclass(slots=True)
class Leaf(Numbered):
    mass: float


def leaf(number: int) -> Leaf:
    made = Leaf(0.5)
    made.number = number  # type: ignore[attr-defined]
    return made


@dataclasses.dataclass
class Length(float):
    unit: str = "m"


def length(value: float, unit: str) -> Length:
    made = Length.__new__(Length, value)
    made.unit = unit
    return made


class Items(list[Any]):
    pass


class Text(str):  # noqa: SLOT000 - it has attributes, as those of users do
    pass


class Stateful:
    def __init__(self, state: Any) -> None:
        self._state = state

    def __getstate__(self) -> Any:
        return self._state

    def __setstate__(self, state: Any) -> None:
        self._state = state


class Found:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> str:
        return self.name


FOUND, ALSO_FOUND = Found("FOUND"), Found("ALSO_FOUND")


def described_frame(**attrs: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs.update(attrs)
    return frame


def ring(count: int) -> list[Any]:
    """Make lists that hold each other in a circle, with nothing to tell them by."""
    made: list[list[Any]] = [[] for _ in range(count)]
    for one, other in zip(made, made[1:] + made[:1], strict=True):
        one.append(other)
    return made[0]


class Agent:
    def __init__(self, number: int) -> None:
        self.number = number
        self.near: set[Agent] = set()


def net(count: int, step: int = 1) -> list[Agent]:
    """Make agents that have each other as neighbours, in sets."""
    agents = [Agent(number) for number in range(count)]
    for agent in agents:
        agent.near = {agents[(agent.number + each) % count] for each in (step, 2)}
    return agents


# --- equal and different ------------------------------------------------------------

EQUAL: dict[str, tuple[Any, Any]] = {
    "text": ("ab", b"ab".decode()),
    "NaNs": (NAN, -NAN),
    "complex NaNs": (complex(NAN, 1), complex(-NAN, 1)),
    "sets": ({"a", "b", "c"}, {"c", "b", "a"}),
    "sets that grew": ({0, 8}, {8, 0}),
    "frozen sets": (frozenset([0, 8]), frozenset([8, 0])),
    "sets of sets": ({frozenset([0, 8]), frozenset([1])}, {frozenset([1]), frozenset([8, 0])}),
    "subclasses of sets": (Tags([0, 8]), Tags([8, 0])),
    "subclasses of frozen sets": (FrozenTags([0, 8]), FrozenTags([8, 0])),
    "dicts in another order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "default dicts": (collections.defaultdict(int, a=1), collections.defaultdict(int, a=1)),
    "shared and equal items": ([SHARED, SHARED], [[1], [1]]),
    "interned and other text": (["abc"] * 2, ["abc", "".join("abc")]),
    "huge numbers": (10**5000, 10**4999 * 10),
    "arrays": (array([1.0, 2.0]), array([1.0, 2.0])),
    "arrays with NaN": (array([1.0, NAN]), array([1.0, -NAN])),
    "arrays in another order of memory": (array([[1, 2], [3, 4]]), np.asfortranarray([[1, 2], [3, 4]])),
    "views of arrays": (np.arange(10)[::2], array([0, 2, 4, 6, 8])),
    "read-only arrays": (np.broadcast_to(1.0, 3), np.ones(3)),
    "structured arrays": (array([(1, 2.0)], STRUCTURED), array([(1, 2.0)], STRUCTURED)),
    "structured arrays with NaN": (array([(1, NAN)], STRUCTURED), array([(1, -NAN)], STRUCTURED)),
    "structured arrays with gaps": (with_gaps(0), with_gaps(7)),
    "structured arrays out of order": (array([(1, 2)], OUT_OF_ORDER), array([(1, 2)], OUT_OF_ORDER)),
    "object arrays": (array([1, "a", NAN, None], object), array([1, "a", -NAN, None], object)),
    "object arrays of sets": (array([{0, 8}, 1], object), array([{8, 0}, 1], object)),
    "text arrays": (array(["a", "bc"]), array(["a", "bc"])),
    "long text in arrays": (array(["x" * 50], "T"), array(["x" * 50], "T")),
    "dates": (array(["2020-01-01"], "M8[D]"), array(["2020-01-01"], "M8[D]")),
    "masked arrays": (np.ma.array([1, 2], mask=[False, True]), np.ma.array([1, 2], mask=[False, True])),
    "long doubles": (with_padding(0), with_padding(7)),
    "scalars of numpy": (np.float64(NAN), np.float64(-NAN)),
    "arrays with units": (quantity([1.0], "m"), quantity([1.0], "m")),
    "types of arrays": (np.dtype("f8"), np.dtype("float64")),
    "frames": (pd.DataFrame({"a": [1.0, NAN]}), pd.DataFrame({"a": [1.0, NAN]})),
    "frames in other blocks": (pd.DataFrame({"a": [1, 2], "b": [3, 4]}), blocks()),
    "slices of frames": (pd.DataFrame({"a": [1, 2, 3], "b": [1, 2, 3]})[:2], pd.DataFrame({"a": [1, 2], "b": [1, 2]})),
    "series": (pd.Series(["a", None], name="x"), pd.Series(["a", None], name="x")),
    "categories": (pd.Series(["a", "b"], dtype="category"), pd.Series(["a", "b"], dtype="category")),
    "times": (pd.Timestamp("2020", tz="UTC"), pd.Timestamp("2020", tz="UTC")),
    "missing": (pd.NA, pd.NA),
    "dataclasses": (Settings(1.0, {"a"}), Settings(1.0, {"a"})),
    "frozen dataclasses": (Frozen(NAN), Frozen(-NAN)),
    "enums": (Colour.RED, Colour(1)),
    "objects": (Plain([1, {2, 3}]), Plain([1, {3, 2}])),
    "slots": (Slotted(1), Slotted(1)),
    "named tuples": (Pair(1, NAN), Pair(1, NAN)),
    "decimals": (decimal.Decimal("1.5"), decimal.Decimal("1.5")),
    "points in time": (dt.datetime(2020, 1, 1, tzinfo=dt.UTC),) * 2,
    "functions": (named, named),
    "lambdas of the same code": (lambda x: x + 1, lambda x: x + 1),
    "closures over equal values": (capture([1, {2, 3}]), capture([1, {3, 2}])),
    "named closures over equal values": (capture_by_name(1), capture_by_name(1)),
    "partials": (functools.partial(named, 1), functools.partial(named, 1)),
    "partials of lambdas": (functools.partial(lambda x: x, 1), functools.partial(lambda x: x, 1)),
    "bound methods": (Plain(1).method, Plain(1).method),
    "bound methods of builtins": ({1: 2}.get, {1: 2}.get),
    "cycles": (cycle(1), cycle(1)),
    "patterns": (re.compile("a+", re.IGNORECASE), re.compile("a+", re.IGNORECASE)),
    "classes": (Plain, Plain),
    "modules": (math, math),
    "generators of random numbers": (np.random.default_rng(1), np.random.default_rng(1)),
    "byte arrays": (bytearray(b"x"), bytearray(b"x")),
    "ranges": (range(3), range(3)),
}  # fmt: skip

DIFFERENT: dict[str, list[Any]] = {
    "numbers": [1, 1.0, True, "1", b"1", 1 + 0j, np.float64(1), np.int64(1), np.float32(1), Number.ONE,
                decimal.Decimal(1), fractions.Fraction(1), None, array(1), array(1.0)],
    "zeros": [0, 0.0, -0.0, False, None, "", b"", (), [], {}, set(), 0j, complex(0.0, -0.0), complex(-0.0, 0.0)],
    "complex NaNs": [complex(NAN, 1), complex(NAN, 2), complex(1, NAN), complex(2, NAN), complex(NAN, NAN), NAN],
    "neighbours": [0.1, math.nextafter(0.1, 1), 10**17, 10**17 + 1, float(10**17), 10**5000, 10**5000 + 1],
    "text": ["a", b"a", bytearray(b"a"), "A", "a\0", "\ud800", "\ufffd"],
    "sequences": [[1, 2], (1, 2), {1, 2}, frozenset([1, 2]), [2, 1], [[1], 2], [[1, 2]], [1, [2]], Pair(1, 2),
                  collections.deque([1, 2]), collections.deque([1, 2], 5), array([1, 2]), range(1, 3), Tags([1, 2])],
    "nested emptiness": [[], [[]], [[], []], [[[]]], [()], ([],), [{}], [set()]],
    "strings that join alike": [["a", "b"], ["ab"], ["ab", ""], ["", "ab"], ["a", "b", ""]],
    "mappings": [{1: 2}, {1: 3}, {2: 1}, {1: 2, 3: 4}, {1: 4, 3: 2}, {True: 2}, {1.0: 2}, {"1": 2}, [(1, 2)],
                 collections.OrderedDict({1: 2}), collections.defaultdict(int, {1: 2}), collections.Counter({1: 2}),
                 types.MappingProxyType({1: 2})],
    "ordered mappings": [collections.OrderedDict({1: 2, 3: 4}), collections.OrderedDict({3: 4, 1: 2}), {1: 2, 3: 4},
                         filled(collections.OrderedDict({1: 2, 3: 4}), more=1)],
    "functions of one name": [named, renamed("x + 1"), renamed("x + 2"), renamed("x + n", n=1), renamed("x + n", n=2),
                              renamed("x", 1), wrapped(named, 1), wrapped(named, 2), wrapped(wrapped(named, 1), 1)],
    "functions of one name in two modules": [np.trace, np.linalg.trace, np.linalg.norm],
    "functions of NumPy": [np.add, np.subtract, np.add.reduce, np.multiply.reduce],
    "functions with attributes": [filled(capture_by_name(1), unit=unit) for unit in "ms"],
    "methods": [Plain(1).method, Plain(1).other, Plain(2).method, [1].append, [2].append, "a".join, "b".join],
    "callable objects": [operator.itemgetter(1), operator.itemgetter(2), operator.attrgetter("a"),
                         operator.methodcaller("a", 1), operator.methodcaller("a", 2),
                         np.vectorize(named), np.vectorize(also_named), np.poly1d([1, 2]), np.poly1d([1, 3]),
                         filled(functools.partial(named), more=1), filled(functools.partial(named), more=2)],
    "descriptors": [property(capture(1)), property(capture(2)), staticmethod(capture(1)), staticmethod(capture(2))],
    "classes made at run time": [type("Made", (), {"x": x}) for x in (1, 2)],
    "objects of classes made at run time": [type("Made", (), {"x": x})() for x in (1, 2)],
    "modules made by hand": [made_module(1), made_module(2), math],
    "slots of bases": [leaf(1), leaf(2), Leaf(0.5)],
    "values of bases": [length(1.0, "m"), length(2.0, "m"), length(1.0, "s"), 1.0],
    "attributes of containers": [filled(kind, more=n) for n in (1, 2) for kind in (Items([1]), Text("a"), Tags([1]))],
    "state of its own": [Stateful(0), Stateful(""), Stateful(1), Stateful([])],
    "found by name": [FOUND, ALSO_FOUND],
    "frames with attributes": [described_frame(unit="m"), described_frame(unit="s"), described_frame()],
    "frequencies": [pd.date_range("2020", periods=3, freq=freq) for freq in ("D", "B")],
    "flags": [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)],
    "masked arrays": [np.ma.array([1, 2], mask=[False, True]), np.ma.array([1, 2], mask=[True, False]),
                      np.ma.array([1, 2], mask=[False, True], fill_value=3)],
    "random generators": [np.random.default_rng(1), np.random.default_rng(2), np.random.RandomState(1),
                          np.random.RandomState(2)],
    "rings": [ring(2), ring(3), ring(6), [ring(3), ring(3)]],
    "nets": [net(5), net(5, 3), net(6)],
    "types in a set": [{1}, {1.0}, {True}, {"1"}],
    "arrays": [array([1, 2], "<i8"), array([1, 2], "<i4"), array([1, 2], "<u8"), array([1, 2], ">i8"),
               array([1.0, 2.0]), array([[1, 2]], "<i8"), array([[1], [2]], "<i8"), array([1, 2], object),
               array([2, 1], "<i8"), array([1, 2, 3], "<i8"), np.ma.array([1, 2]), np.ma.array([1, 2], mask=[False, True])],
    "arrays with NaN": [array([1.0, NAN]), array([NAN, 1.0]), array([1.0, 0.0]), array([1.0, -0.0]),
                        array([1.0, np.inf]), array([1.0, NAN], "f4"), array([1.0, NAN], object)],
    "complex arrays": [array([complex(NAN, 1)]), array([complex(NAN, 2)]), array([complex(1, NAN)]), array([NAN])],
    "empty arrays": [np.empty(0), np.empty((0, 1)), np.empty((1, 0)), np.empty(0, "i4")],
    "structured arrays": [array([(1, 2.0)], STRUCTURED), array([(1, 3.0)], STRUCTURED), array([(2, 2.0)], STRUCTURED),
                          array([(1, 2.0)], [("a", "<i4"), ("c", "<f8")]), array([(1, 2.0)], "<i8,<f8"),
                          array([(1, 2.0)], STRUCTURED).view(np.recarray)],
    "structured arrays out of order": [array([(1, 2)], OUT_OF_ORDER), array([(2, 1)], OUT_OF_ORDER)],
    "object arrays": [array([1, None], object), array([1.0, None], object), array([True, None], object)],
    "text arrays": [array(["x" * 50]), array(["x" * 50], "T"), array(["y" * 50], "T"), array([b"x" * 50])],
    "dates": [array(["2020-01-01"], "M8[D]"), array(["2020-01-01"], "M8[s]"), array(["NaT"], "M8[D]")],
    "units": [quantity([1.0], "m"), quantity([1.0], "km"), quantity([2.0], "m"), array([1.0])],
    "frames": [pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]}), pd.DataFrame({"b": [1, 2]}),
               pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"a": [1, 2]}, index=[5, 6]),
               pd.DataFrame({"a": [1, 2]}, dtype="Int64"), pd.DataFrame({"a": [1, 2], "b": [1, 2]}),
               pd.Series([1, 2]), pd.Series([1, 2], name="a"), pd.Index([1, 2]), pd.Index([1, 2], name="a")],
    "columns": [pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"b": [2], "a": [1]}), pd.DataFrame({"a": [1], "b": [2.0]})],
    "categories": [pd.Series(["a"], dtype=pd.CategoricalDtype(["a", "b"])),
                   pd.Series(["a"], dtype=pd.CategoricalDtype(["b", "a"])),
                   pd.Series(["a"], dtype=pd.CategoricalDtype(["a", "b"], ordered=True)),
                   pd.Series(["a"], dtype=pd.CategoricalDtype(["b", "a"], ordered=True)),
                   pd.Series(["a"], dtype=pd.CategoricalDtype(["a"])), pd.Series(["a"], dtype=object)],
    "names of levels": [pd.MultiIndex.from_tuples([(1, 2)], names=["a", "b"]),
                        pd.MultiIndex.from_tuples([(1, 2)], names=["b", "a"]), pd.MultiIndex.from_tuples([(1, 2)])],
    "times": [pd.Timestamp("2020"), pd.Timestamp("2020", tz="UTC"), pd.Timestamp("2020-01-01 01:00", tz="Europe/Berlin"),
              pd.NaT, pd.Timedelta(0)],
    "times in columns": [pd.Series(pd.to_datetime(["2020"])), pd.Series(pd.to_datetime(["2020"], utc=True))],
    "dataclasses": [Settings(1), Settings(1.0), Settings(rate=True), Settings(1, 2), Frozen(1), Frozen(1.0), Plain(1)],
    "dataclasses that are mappings": [record("r", a=1), record("r", a=2), record("q", a=1), record("r")],
    "dataclasses with attributes": [with_attribute(1), with_attribute(2)],
    "enums": [Colour.RED, Colour.BLUE, 1, Number.ONE],
    "slots": [Slotted(1), Slotted(2), Slotted(1.0)],
    "named functions": [named, also_named, len, abs, Plain, Slotted, math, operator],
    "lambdas": [lambda x: x + 1, lambda x: x + 2, lambda x: x - 1, lambda x, y: x + 1, lambda x: (x + 1, 0)],
    "constants of lambdas": [lambda: 1, lambda: 1.0, lambda: True, lambda: "1", lambda: (1,), lambda: (1.0,)],
    "signatures of lambdas": [lambda x: x, lambda *x: x, lambda **x: x, lambda x=1: x, lambda x=2: x, lambda x=1.0: x],
    "kinds of arguments": [lambda x, y: x, lambda x, *, y: x, lambda x, /, y: x, lambda x, *y: x, lambda x, **y: x],
    "names in lambdas": [lambda x: x.real, lambda x: x.imag, lambda: len, lambda: abs],
    "lambdas in lambdas": [lambda: lambda: 1, lambda: lambda: 2, lambda: lambda *x: 1],
    "captured values": [capture(1), capture(1.0), capture([1]), capture(array([1])), capture(array([2])), capture(capture(1))],
    "named captures": [capture_by_name(1), capture_by_name(2)],
    "partials": [functools.partial(named, 1), functools.partial(named, 2), functools.partial(named, x=1),
                 functools.partial(also_named, 1), functools.partial(named, 1.0)],
    "bound methods": [Plain(1).method, Plain(2).method, Plain(1).other, Plain.method],
    "bound methods of builtins": [{1: 2}.get, {3: 4}.get, {1: 2}.pop, "a".upper, "b".upper, [].append, [1].append,
                                  np.random.default_rng(1).normal, np.random.default_rng(2).normal],
    "cycles": [cycle(1), cycle(2), [1, [1]], [1, []]],
    "patterns": [re.compile("a"), re.compile("b"), re.compile("a", re.IGNORECASE), re.compile(b"a"),
                 re.compile("a" * 300 + "b"), re.compile("a" * 300 + "c")],
    "generators of random numbers": [np.random.default_rng(1), np.random.default_rng(2)],
}  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_form_is_the_same_when_values_are_equal(name: str) -> None:
    """Values that a function could not tell apart have one form, however they were made."""
    one, other = EQUAL[name]
    assert form(one) == form(other)
    assert form([one, {"x": one}]) == form([other, {"x": other}])


@pytest.mark.parametrize("name", DIFFERENT)
def test_form_differs_when_values_do(name: str) -> None:
    """Values that a function could tell apart have different forms, one by one and inside others."""
    values = DIFFERENT[name]
    alike = [
        (repr(one), repr(other))
        for number, one in enumerate(values)
        for other in values[:number]
        if form(one) == form(other) or form([one]) == form([other])
    ]
    assert alike == []


TRAVELLERS = {
    **{f"{name} {number}": value for name, values in EQUAL.items() for number, value in enumerate(values)},
    **{
        f"{name} - {number}": value
        for name, values in DIFFERENT.items()
        for number, value in enumerate(values)
    },
}
TRAVELLERS = {
    name: value for name, value in TRAVELLERS.items() if not isinstance(value, types.MappingProxyType)
}


@pytest.mark.parametrize("name", TRAVELLERS)
def test_form_survives_a_journey(name: str) -> None:
    """A value that was pickled, as to a child or into a file, keeps its form."""
    value = TRAVELLERS[name]
    assert form(cloudpickle.loads(cloudpickle.dumps(value))) == form(value)
    assert form(value) == form(value)


# --- in a new process -------------------------------------------------------------------

ELSEWHERE = """
    import dataclasses, enum, functools, sys, threading, weakref
    import numpy as np, pandas as pd
    from thread_chunks._canonical import form
    from thread_chunks._identity import fingerprint, identify
    from thread_chunks._parameters import read_calls

    class Colour(enum.Enum):
        RED = "red"

    @dataclasses.dataclass
    class Settings:
        rate: float
        names: set

    class Node:
        def __init__(self):
            self.me = self
            self.tags = {"x", "y", "z", frozenset(["p", "q"])}

    class Tags(set):
        pass

    def function(x):
        return x

    def closure(value):
        return lambda x: (x, value)

    names = ["alpha", "beta", "gamma", "delta"]
    class Agent:
        def __init__(self, net, number):
            self.net, self.number, self.near = net, number, set()

    class Net:
        def __init__(self, count):
            self.agents = [Agent(self, number) for number in range(count)]
            for agent in self.agents:
                agent.near = {self.agents[(agent.number + step) % count] for step in (1, 2, 7)}

    class Mesh:
        def __init__(self):
            self.cells, self.lock, self.me = 3, threading.Lock(), weakref.ref(function)
        def __getstate__(self):
            return {"cells": self.cells}
        def run(self, x):
            return x

    class Held(Mesh):
        __getstate__ = object.__getstate__
        @functools.cached_property
        def size(self):
            return len(self.names)

    def looked_at():
        held = Held()
        held.names = set(names)
        return held, held.size

    class Holder:
        def __init__(self):
            self.random = np.random.mtrand._rand

    def local():
        class Local:
            x = set(names)
        return Local

    def mapped():
        np.save("mapped.npy", np.arange(5.0))
        return np.load("mapped.npy", mmap_mode="r")

    ring = [1]
    ring.append({"ring": ring, "names": set(names)})
    values = [
        Net(20), Net(200), Mesh(), Mesh().run, looked_at(), Holder(), local(), local()(), mapped(), ring, np.random.normal,
        [float(n) / 7 for n in range(1000)], threading.Lock(), {Agent(None, 1).near.__len__},
        set(names), frozenset(names), {name: {name} for name in names}, dict.fromkeys(reversed(names)), Colour.RED,
        {Colour.RED, function, Settings}, Settings(0.5, set(names)), Node(), function, lambda x: x in {"a", "b", "c"},
        closure(set(names)), functools.partial(function, set(names)), Settings, np.array([set(names), None], object),
        pd.DataFrame({"a": names}).set_index("a"), Node().__init__, {(name, None) for name in names},
        {name: hash for name in names}, Tags(names), float("nan"), (lambda: (lambda: {"a", "b"}))(),
    ]
    for value in values:
        print(type(value).__name__, form(value).hex())
    for each in (function, lambda x: {"a", "b", x}, functools.partial(function, set(names)), Settings(1.0, set(names))):
        identity = identify(each)
        print(identity.name, identity.key.hex(), identity.code)
        rows = [row for value in values for row in ((value,), {"y": value})]
        print(fingerprint(identity, read_calls(rows)[1]).hex())
    rows = [(n, str(n), n / 7, None, 1j * n) for n in range(99)]
    print(fingerprint(identify(function), read_calls(rows)[1]).hex())
"""


def test_form_is_the_same_in_another_process(programs: Programs) -> None:
    """Sets, dicts, functions and classes of the script itself have one form under every hash seed."""
    outputs = {programs.run(ELSEWHERE, env={"PYTHONHASHSEED": seed}).stdout for seed in ("0", "1", "random")}
    first, *others = (output.splitlines() for output in outputs)
    for other in others:
        changed = [one.split()[0] for one, line in zip(first, other, strict=True) if one != line]
        assert changed == []


def test_form_of_a_script_is_the_same_wherever_it_lies(programs: Programs, tmp_path: Path) -> None:
    """A script that was moved, or gained lines at its top, still has its values and functions."""
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    seed = {"PYTHONHASHSEED": "0"}
    one = programs.run(ELSEWHERE, env=seed).stdout
    other = programs.run("\n\nimport os\n" + "\n" * 50 + _dedented(ELSEWHERE), env=seed, cwd=moved).stdout
    assert one == other


def _dedented(source: str) -> str:
    return "\n".join(line[4:] for line in source.splitlines())


# --- any plain value ---------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters()),
    st.binary(),
)
HASHABLE = st.recursive(
    SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.sets(HASHABLE, max_size=3),
    ),
    max_leaves=12,
)


def exact(value: Any) -> Any:
    """Write a plain value so that Python itself compares it as strictly as a form does."""
    match value:
        case list() | tuple():
            return type(value).__name__, tuple(map(exact, value))
        case set() | frozenset():
            return type(value).__name__, frozenset(collections.Counter(map(exact, value)).items())
        case dict():
            pairs = ((exact(key), exact(item)) for key, item in value.items())
            return "dict", frozenset(collections.Counter(pairs).items())
        case complex():
            return "complex", repr(value.real), repr(value.imag)
        case _:
            return type(value).__name__, repr(value)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_form_survives_pickling_for_any_value(value: Any) -> None:
    """Any plain value has its form back after a journey, and so has its copy."""
    assert form(pickle.loads(pickle.dumps(value))) == form(value)
    assert form(copy.deepcopy(value)) == form(value)


@settings(max_examples=150, deadline=None)
@given(VALUES, VALUES)
def test_form_tells_any_two_values_apart(one: Any, other: Any) -> None:
    """Two plain values have one form exactly if they are the same, types and signs of zero included."""
    assert (form(one) == form(other)) == (exact(one) == exact(other))


@settings(max_examples=100, deadline=None)
@given(VALUES, VALUES)
def test_form_tells_apart_what_is_built_alike(one: Any, other: Any) -> None:
    """Different values stay different inside whatever holds them."""
    assume(exact(one) != exact(other))
    for build in (
        lambda it: [it],
        lambda it: {"k": it},
        Settings,
        capture,
        lambda it: functools.partial(named, it),
    ):
        assert form(build(one)) != form(build(other))


@given(st.lists(st.binary()), st.lists(st.binary()))
def test_tagged_joins_parts_so_that_no_others_give_the_same(one: list[bytes], other: list[bytes]) -> None:
    """Parts that are joined can be told apart again."""
    assert (tagged(b"x", *one) == tagged(b"x", *other)) == (one == other)


# --- values that are hard to write ----------------------------------------------------------


class Unpicklable:
    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce_ex__(self, protocol: Any) -> Any:
        msg = "no"
        raise TypeError(msg)

    def __repr__(self) -> str:
        return f"Unpicklable({self.text})"


def test_form_of_what_cannot_be_pickled_is_what_it_shows() -> None:
    """An object that pickle refuses is its class and its repr."""
    assert form(Unpicklable("a")) == form(Unpicklable("a"))
    assert form(Unpicklable("a")) != form(Unpicklable("b"))


def test_form_does_not_change_values() -> None:
    """Iterators inside a value's pickle are fresh ones: writing its form uses nothing up."""
    value = collections.deque([1, 2]), collections.OrderedDict(a=1), {1: iter([1, 2])}
    before = form(value)
    assert form(value) == before
    assert list(value[2][1]) == [1, 2]


def test_form_of_a_recursive_closure_ends() -> None:
    """A function that captures itself has a form."""

    def make(step: int) -> Callable[[int], int]:
        def fall(n: int) -> int:
            return n if n < 1 else fall(n - step)

        return fall

    assert form(make(1)) == form(make(1))
    assert form(make(1)) != form(make(2))


class TooMuch(BaseException):
    """Ends a form that is not going to end."""


class Node:
    """A node that knows its neighbours, and counts how often it is looked at."""

    looked = 0

    def __init__(self) -> None:
        self.neighbours: list[Node] = []
        self.label: Any = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        Node.looked += 1
        if Node.looked > 20_000:
            raise TooMuch
        return object.__reduce_ex__(self, protocol)


def mesh(label: Any = None) -> Node:
    """Make a grid of nodes, one of them with a label, and return its corner."""
    grid = {(x, y): Node() for x in range(6) for y in range(6)}
    for (x, y), node in grid.items():
        places = [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
        node.neighbours = [grid[place] for place in places if place in grid]
    grid[3, 4].label = label
    Node.looked = 0
    return grid[0, 0]


def test_form_of_a_mesh_ends_in_reasonable_time() -> None:
    """Objects that know each other are written in a number of steps that grows with their number, not with their paths."""
    assert form(mesh("a")) == form(mesh("a"))
    assert form(mesh("a")) != form(mesh("b"))
    assert form(pickle.loads(pickle.dumps(mesh("a")))) == form(mesh("a"))


def test_form_of_shared_parts_ends_in_reasonable_time() -> None:
    """A part that occurs twice at every level is written in a number of steps that grows with the levels."""
    top = Node()
    for _ in range(40):
        above = Node()
        above.neighbours = [top, top]
        top = above
    Node.looked = 0
    assert form(top)


# --- code ------------------------------------------------------------------------------------


def test_code_form_sees_the_code_behind_decorators() -> None:
    """A wrapper that names what it wraps is looked through; what has no Python code has no form."""
    assert code_form(functools.lru_cache(named)) == code_form(named)
    assert code_form(len) is None
    assert code_form(object()) is None


def test_code_form_ignores_where_code_stands() -> None:
    """The same source elsewhere in a file, or in another file, is the same code."""
    source = "def f(x):\n    '''Say.'''\n    return [y + 1 for y in x if y in {'a', 'b'}]\n"
    spaces: list[dict[str, Any]] = [{}, {}]
    for number, space in enumerate(spaces):
        exec(compile("\n" * number + source, f"file{number}", "exec"), space)  # noqa: S102 - the code under test
    assert code_form(spaces[0]["f"]) == code_form(spaces[1]["f"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("return x + 1", "return x + 2"),
        ("return x + 1", "return x - 1"),
        ("return x.real", "return x.imag"),
        ("return len(x)", "return abs(x)"),
        ("return lambda: 1", "return lambda: 2"),
        ("return x in {1}", "return x in {True}"),
        ("return -0.0", "return 0.0"),
        ("try:\n  a()\n except E:\n  b()\n c()", "try:\n  a()\n  c()\n except E:\n  b()"),
    ],
)
def test_code_form_sees_every_change_of_code(one: str, other: str) -> None:
    """An edit that changes what a function does changes the form of its code."""
    forms = []
    for body in (one, other):
        space: dict[str, Any] = {}
        exec(f"def f(x):\n {body}\n", space)  # noqa: S102 - the code under test
        forms.append(code_form(space["f"]))
    assert forms[0] != forms[1]


def test_form_is_the_same_when_code_was_run_often() -> None:
    """The interpreter rewrites code that is hot, and its form does not change by that."""

    def hot(x: int) -> int:
        return sum(number * x for number in range(50))

    before = form(hot)
    assert [hot(2) for _ in range(200)]
    assert form(hot) == before


def test_form_exists_when_a_value_is_nested_deeply() -> None:
    """A long chain of objects, which pickle accepts, is no reason to refuse a run."""
    chain: Any = None
    for number in range(150):
        chain = types.SimpleNamespace(value=number, rest=chain)
    other = types.SimpleNamespace(value=-1, rest=chain.rest)
    assert form(chain) == form(chain)
    assert form(chain) != form(other)


class Neighbour:
    """Knows others, and nothing of itself by which it could be told from them."""

    def __init__(self) -> None:
        self.near: set[Neighbour] = set()


def _neighbours(edges: list[tuple[int, int]]) -> list[Neighbour]:
    count = 1 + max(max(pair) for pair in edges)
    found = [Neighbour() for _ in range(count)]
    for one, other in random.sample(edges, len(edges)):
        found[one].near.add(found[other])
        found[other].near.add(found[one])
    return found


_RING = [(number, (number + 1) % 6) for number in range(6)]
_TRIANGLES = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
_HUB = [(number, 6) for number in range(6)]


@pytest.mark.parametrize(
    "edges",
    [
        [(0, 1), (0, 0), (1, 1)], _RING, _RING + _HUB, _TRIANGLES + _HUB, [(0, each) for each in range(1, 30)],
        [(one, other) for one in range(6) for other in range(one)], [(each, each + 1) for each in range(200)],
    ],
    ids=["two", "ring", "wheel", "triangles", "star", "complete", "line"],
)  # fmt: skip
def test_form_is_the_same_for_what_looks_alike_however_its_sets_are_ordered(
    edges: list[tuple[int, int]],
) -> None:
    """Objects with nothing but neighbours are recognised in a process where their sets have another order."""
    assert len({form(set(_neighbours(edges))) for _ in range(5)}) == 1
    assert len({form(_neighbours(edges)[0]) for _ in range(5)}) == 1


def test_form_tells_apart_what_looks_alike_to_all_its_neighbours() -> None:
    """A hub of a ring of six is no hub of two triangles, and a place in the ring is none in a triangle."""
    assert form(_neighbours(_RING + _HUB)[6]) != form(_neighbours(_TRIANGLES + _HUB)[6])
    far = [(one + 7, other + 7) for one, other in _RING] + [(number + 7, 6) for number in range(6)]
    both = _neighbours(_TRIANGLES + _HUB + far)
    assert form(both[0]) == form(both[5])
    assert form(both[0]) != form(both[7])
    assert form(both[0]) != form(both[6])
