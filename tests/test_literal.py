"""The text of a value: whole, and as Python reads it again."""

import ast
import collections
import enum
import math
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from unittest.mock import MagicMock, Mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_chunks._literal import written


class Point(NamedTuple):
    x: Any
    y: Any = 2


@dataclass
class Body:
    mass: Any
    secret: Any = field(default=0, repr=False)


@dataclass
class Quiet:
    mass: Any

    def __repr__(self) -> str:
        return "Quiet()"


class Rows(list[Any]):
    pass


class Kind(enum.Enum):
    GAS = 1


class Level(enum.IntEnum):
    LOW = 1


class Metres(np.ndarray):
    """An array with a unit, as astropy and unyt have them."""

    unit = None
    units = "m"


class Seconds:
    """A quantity as pint has them."""

    magnitude = 1 / 3
    units = "s"

    def __repr__(self) -> str:
        return "<0.33 s>"


class Tensor:
    """An array of another package."""

    def __array__(self) -> Any:
        raise AssertionError

    def tolist(self) -> list[float]:
        return [0.5] * 2000

    def __repr__(self) -> str:
        return "tensor([0.5, ..., 0.5])"


class Proxy:
    """An object that has every attribute, and is no use as any of them."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Proxy()

    def __bool__(self) -> bool:
        msg = "the truth of it is not known"
        raise TypeError(msg)

    def __eq__(self, other: object) -> Any:
        return Proxy()

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        msg = "no length"
        raise TypeError(msg)

    def __iter__(self) -> Any:
        msg = "no parts"
        raise TypeError(msg)

    def __repr__(self) -> str:
        return "Proxy()"


LONG = np.longdouble(1) / 3
FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", 2.5]}, index=[7, 8])


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (
            {"m": np.ones(3).mean(), "a": np.ones(3), "t": (np.int64(1),)},
            {"m": 1.0, "a": [1.0] * 3, "t": (1,)},
        ),
        ([{(np.int8(1), np.str_("k")): {np.float64(0.1)}}], [{(1, "k"): {0.1}}]),
        (collections.OrderedDict(a=np.int64(1)), {"a": 1}),
        (collections.defaultdict(list, a=[np.True_]), {"a": [True]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (Rows([np.float32(0.1)]), [float(np.float32(0.1))]),
        (set(), set()),
        (np.array(5), 5),
        (np.zeros((0, 3)), []),
        (np.array([object, None])[1:], [None]),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (np.zeros(2, "i4,f8"), [(0, 0.0), (0, 0.0)]),
        (np.array([1.0, -np.inf]), [1.0, -math.inf]),
        ([math.inf, complex(1, -math.inf)], [math.inf, complex(1, -math.inf)]),
        (np.complex64(1 + 2j), 1 + 2j),
        (np.bytes_(b"a\0b"), b"a\0b"),
        ([np.datetime64("2024-01-01T00:00:00.000000001")], ["2024-01-01T00:00:00.000000001"]),
        (np.array(["2024"], "M8[ns]"), ["2024-01-01T00:00:00.000000000"]),
        ({"t": np.timedelta64(5, "ns")}, {"t": "5 nanoseconds"}),
        ([10**5000], [10**5000]),
        ([-(10**5000)], [-(10**5000)]),
        (np.arange(5000).reshape(50, 100), np.arange(5000).reshape(50, 100).tolist()),
        (FRAME, {"index": [7, 8], "columns": ["a", "b"], "data": [[1, "x"], [2, 2.5]]}),
        (pd.DataFrame(), {"index": [], "columns": [], "data": []}),
        (pd.Series([1, None], dtype="Int64", name="s"), {"index": [0, 1], "data": [1, None], "name": "s"}),
        ([pd.Index(["a"]), pd.Categorical(["b"])], [["a"], ["b"]]),
        (np.arange(2.0).view(Metres), {"value": [0.0, 1.0], "unit": "m"}),
        ({"q": np.array(0.5).view(Metres)}, {"q": {"value": 0.5, "unit": "m"}}),
        ([Seconds()], [{"value": 1 / 3, "unit": "s"}]),
        (Tensor(), [0.5] * 2000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_text_of_a_value_is_read_back(value: Any, literal: Any) -> None:
    """Whatever consists of numbers, texts and containers, NumPy's and those of others included, is a literal."""
    text, is_whole = written(value)
    assert is_whole
    assert ast.literal_eval(text) == literal


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Point(np.float64(1), np.arange(2)), "Point(x=1.0, y=[0, 1])"),
        (Body({"a": np.int64(1)}), "Body(mass={'a': 1})"),
        (Quiet(np.int64(1)), "Quiet()"),
        (frozenset({np.int64(1)}), "frozenset({1})"),
        (Kind.GAS, "Kind.GAS"),
        ([Level.LOW], "[Level.LOW]"),
        (collections.deque([np.float64(1)]), "deque([1.0])"),
        (LONG, str(LONG)),
        ([np.array([LONG])], f"[[{LONG!s}]]"),
        ([math.nan], "[nan]"),
        ([Decimal("0.1"), Fraction(1, 3)], "[Decimal('0.1'), Fraction(1, 3)]"),
        (Fraction(1, 10**5000), f"Fraction(1, {10**5000:#x})"),
        (pd.Timestamp("2024-01-01"), "Timestamp('2024-01-01 00:00:00')"),
        ([pd.NaT, pd.NA], "[None, None]"),
        (Proxy(), "Proxy()"),
        ({"p": [Proxy()]}, "{'p': [Proxy()]}"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_text_of_an_object_is_what_python_would_write(value: Any, text: str) -> None:
    """Objects of classes are written as their class writes them, with Python's numbers inside."""
    assert written(value) == (text, True)


class Broken:
    def __repr__(self) -> str:
        msg = "no repr"
        raise RuntimeError(msg)


class Exiting:
    def __repr__(self) -> str:
        raise SystemExit(3)


NESTED_DEEP: Any = 1
for _ in range(400):
    NESTED_DEEP = [NESTED_DEEP]


def test_text_is_written_as_deep_as_python_writes_it() -> None:
    """What is nested a few hundred times has a text still."""
    assert written(NESTED_DEEP) == (repr(NESTED_DEEP), True)


RING: list[Any] = [1]
RING.append(RING)
DEEP: Any = None
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "text"),
    [(RING, "[1, ...]"), (DEEP, "a list"), (Broken(), "a Broken"), (Exiting(), "a Exiting"), ([Broken()], "a list"), (Mock, "<class "),
     (Mock(), "<Mock "), ([MagicMock(spec=np.ndarray)], "[<MagicMock "), (lambda: 1, "<function ")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_text_that_is_not_the_value_is_known_to_be_none(value: Any, text: str) -> None:
    """What has no end, no text, or only a description is told apart, and ends nothing."""
    found = written(value)
    assert found.text.startswith(text)
    assert not found.is_whole


NUMBERS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(),
    st.complex_numbers(allow_nan=False),
)  # fmt: skip
NUMPY = st.one_of(
    NUMBERS, st.integers(-(2**63), 2**63 - 1).map(np.int64), st.floats(allow_nan=False).map(np.float64),
    st.booleans().map(np.bool_), st.floats(allow_nan=False, width=32).map(np.float32),
    st.lists(st.floats(allow_nan=False)).map(np.array),
)  # fmt: skip
NESTED = st.recursive(
    NUMPY,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.integers()), inner),
    ),
)


def plain(value: Any) -> Any:
    """Turn NumPy's values into Python's."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, (list, tuple)) else value


@given(NESTED)
def test_text_of_nested_values_is_read_back(value: Any) -> None:
    """However values are nested, the literal is the value with Python's numbers."""
    text, is_whole = written(value)
    assert is_whole
    assert ast.literal_eval(text) == plain(value)
