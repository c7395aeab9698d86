"""Is this the same run? The same function and parameters match in any process; others say where they differ."""

import dataclasses
import functools
import math
import operator
import types
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_canonical import DIFFERENT, EQUAL, SCALARS, VALUES, Plain, Settings, capture, exact

from thread_chunks import config
from thread_chunks._canonical import form
from thread_chunks._identity import (
    FunctionIdentity,
    call_forms,
    codes_differ,
    fingerprint,
    identify,
)
from thread_chunks._mismatch import explain_calls, explain_function, same_call
from thread_chunks._parameters import Calls, read_calls
from thread_chunks._wire import PLAIN
from thread_chunks.messages import Call

NAN = float("nan")
F = FunctionIdentity("f", b"", 0)


def calls(*entries: Any) -> Calls:
    return read_calls(entries)[1]


def one_call(*args: Any, **kwargs: Any) -> Call:
    return Call(0, args, kwargs)


def named(x: Any) -> Any:
    return x


def other_named(x: Any) -> Any:
    return x


def changed() -> Callable[[Any], Any]:
    """Make a function of the same name with other code."""

    def named(x: Any) -> Any:
        return x, x

    return named


def decorated(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def wrapper(*args: Any) -> Any:
        return func(*args)

    return wrapper


class Callee:
    def __init__(self, x: Any) -> None:
        self.x = x

    def __call__(self, y: Any) -> Any:
        return self.x + y


LAMBDAS: list[Any] = [lambda x: x, lambda x: x + 1, lambda x: x + 2]
LAMBDAS.append(lambda *x: x)
DEFAULTS: list[Any] = [lambda x: x]
DEFAULTS.append(lambda x, y=1: x)
DEFAULTS.append(lambda x, y=2: x)


NAMED: Callable[..., Any] = named


class Compiled:
    """A function as a compiler returns it: it has a name, and something else in every process."""

    def __init__(self, func: Callable[..., Any]) -> None:
        functools.update_wrapper(self, func)

    def __call__(self, x: Any) -> Any:
        return x

    def __reduce__(self) -> Any:
        return Compiled, (uuid.uuid4(),)


class Scaled:
    """A function with a name that is not all that it is."""

    def __init__(self, func: Callable[..., Any], factor: float) -> None:
        functools.update_wrapper(self, func)
        self.func, self.factor = func, factor

    def __call__(self, x: Any) -> Any:
        return self.factor * self.func(x)


def compiled(text: str) -> Callable[..., Any]:
    """Make a function as code generators do, all of them with one name."""
    names: dict[str, Any] = {}
    exec(f"def f(x): return {text}", names)  # noqa: S102 - that is how they do it
    made: Callable[..., Any] = names["f"]
    return made


def names_and_keys(*functions: Callable[..., Any]) -> set[tuple[str, bytes]]:
    return {(identity.name, identity.key) for identity in map(identify, functions)}


# --- functions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (named, "named"),
        (changed(), "named"),
        (functools.partial(named, 1), "named"),
        (functools.partial(functools.partial(named, 1), 2), "named"),
        (decorated(named), "named"),
        (functools.lru_cache(named), "named"),
        (Compiled(named), "named"),
        (lambda x: x, "<lambda>"),
        (Plain(1).method, "method"),
        (Callee(1), "Callee"),
        (Callee, "Callee"),
        (len, "len"),
        (math.sqrt, "sqrt"),
        (np.add, "add"),
        ({}.get, "get"),
        (operator.itemgetter(1), "itemgetter"),
    ],
)
def test_identify_names_any_callable(func: Callable[..., Any], name: str) -> None:
    """A function's name is its identity, behind partials and decorators too; an instance has its class's."""
    assert identify(func).name == name
    assert identify(func) == identify(func)


@pytest.mark.parametrize(
    "func",
    [named, changed(), len, math.sqrt, Callee, Plain.method],
    ids=lambda func: func.__qualname__ if hasattr(func, "__qualname__") else str(func),
)
def test_identify_needs_no_more_than_the_name_when_there_is_one(func: Callable[..., Any]) -> None:
    """A named function is its name and nothing else, so an edited one still matches."""
    assert identify(func).key == b""


@pytest.mark.parametrize(
    "functions",
    [
        pytest.param(LAMBDAS, id="lambdas"),
        pytest.param(DEFAULTS, id="defaults"),
        pytest.param([capture(1), capture(2), capture(1.0)], id="captured"),
        pytest.param(
            [
                named,
                functools.partial(named, 1),
                functools.partial(named, 1.0),
                functools.partial(named, x=1),
            ],
            id="partials",
        ),
        pytest.param(
            [functools.partial(lambda x: x, 1), functools.partial(lambda x: x + 1, 1)], id="partial-lambdas"
        ),
        pytest.param([Plain(1).method, Plain(2).method, Plain.method], id="methods"),
        pytest.param([{1: 2}.get, {3: 4}.get], id="methods-of-builtins"),
        pytest.param([(5).__add__, (6).__add__], id="slots-of-builtins"),
        pytest.param([Callee(1), Callee(2), Callee(np.ones(2)), Callee], id="instances"),
        pytest.param([operator.itemgetter(1), operator.itemgetter(2)], id="itemgetters"),
        pytest.param([np.vectorize(lambda x: x + 1), np.vectorize(lambda x: x + 2)], id="vectorized"),
        pytest.param(
            [functools.lru_cache(lambda x: x + 1), functools.lru_cache(lambda x: x + 2)], id="cached"
        ),
        pytest.param([Compiled(lambda x: x + 1), Compiled(lambda x: x + 2)], id="compiled"),
        pytest.param([decorated(lambda x: x + 1), decorated(lambda x: x + 2)], id="decorated"),
        pytest.param([named, other_named, len, lambda x: x], id="names"),
        pytest.param([named, decorated(named), decorated(decorated(named))], id="decorated-not-in-place"),
        pytest.param([Scaled(named, 2), Scaled(named, 3), Scaled(other_named, 2)], id="objects-with-a-name"),
        pytest.param([functools.partial(Scaled(named, n)) for n in (2, 3)], id="partials-of-objects"),
        pytest.param([compiled("x + 1"), compiled("x + 2")], id="made-from-texts"),
        pytest.param(
            [functools.lru_cache(compiled(text)) for text in ("x", "-x")], id="cached-made-from-texts"
        ),
        pytest.param([functools.singledispatch(compiled(text)) for text in ("x", "-x")], id="dispatchers"),
        pytest.param([np.poly1d([1, 2]), np.poly1d([1, 3])], id="polynomials"),
        pytest.param([np.vectorize(named), np.vectorize(other_named)], id="vectorized-by-name"),
        pytest.param([np.trace, np.linalg.trace], id="one-name-in-two-modules"),
        pytest.param([np.frompyfunc(lambda x, n=n: x + n, 1, 1) for n in (1, 2)], id="opaque"),
        pytest.param([type("Made", (), {"x": n}) for n in (1, 2)], id="classes-made-at-run-time"),
    ],
)
def test_identify_tells_functions_apart(functions: Sequence[Callable[..., Any]]) -> None:
    """Where a name does not say it all, code, captured values and bound arguments do."""
    assert len(names_and_keys(*functions)) == len(functions)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(lambda x: x + 1, lambda x: x + 1, id="lambdas"),
        pytest.param(capture([1, {2}]), capture([1, {2}]), id="captured"),
        pytest.param(functools.partial(named, {1, 2}), functools.partial(named, {2, 1}), id="partials"),
        pytest.param(
            functools.partial(operator.call, a=1, b=2),
            functools.partial(operator.call, b=2, a=1),
            id="keywords",
        ),
        pytest.param(Plain(NAN).method, Plain(NAN).method, id="methods"),
        pytest.param({1: 2}.get, {1: 2}.get, id="methods-of-builtins"),
        pytest.param(Callee(np.ones(2)), Callee(np.ones(2)), id="instances"),
        pytest.param(np.vectorize(lambda x: x + 1), np.vectorize(lambda x: x + 1), id="vectorized"),
        pytest.param(named, changed(), id="edited"),
        pytest.param(Compiled(named), Compiled(named), id="compiled"),
        pytest.param(Compiled(lambda x: x + 1), Compiled(lambda x: x + 1), id="compiled-lambdas"),
    ],
)
def test_identify_recognises_equal_functions(one: Callable[..., Any], other: Callable[..., Any]) -> None:
    """Functions made anew from the same code and equal values are the same."""
    assert names_and_keys(one) == names_and_keys(other)


def test_codes_differ_when_a_function_was_edited() -> None:
    """An edited body is seen, whatever stays behind in its name."""
    assert codes_differ(identify(named).code, identify(changed()).code)
    assert not codes_differ(identify(named).code, identify(named).code)
    assert codes_differ(identify(Callee(1)).code, identify(Callee(1).__call__).code) is False


@pytest.mark.parametrize("func", [len, math.sqrt, np.add])
def test_codes_do_not_differ_when_there_is_none_to_see(func: Callable[..., Any]) -> None:
    """Functions that are not Python's have no code, and never count as changed."""
    assert identify(func).code == 0
    assert not codes_differ(identify(func).code, identify(named).code)


def test_codes_do_not_differ_when_another_python_compiled_them() -> None:
    """Every Python compiles to other code: that is no change of the function."""
    code = identify(named).code
    assert code < 2**64
    assert codes_differ(code, code ^ 1)
    assert not codes_differ(code, code ^ (1 << 48))


@pytest.mark.parametrize(
    ("saved", "now", "text"),
    [
        (F, F, None),
        (F, FunctionIdentity("f", b"", 99), None),
        (F, FunctionIdentity("g", b"", 0), "the function was 'f', now it is 'g'"),
        (F, FunctionIdentity("f", b"k", 0), "what is bound to 'f' differs"),
        (identify(lambda x: x), identify(lambda x: x + 1), "the code of the lambda differs"),
        (identify(lambda x: x), identify(lambda y: y), "the code of the lambda differs"),
        (
            identify(DEFAULTS[1]),
            identify(DEFAULTS[2]),
            "the default of 'y' of the lambda: 1 was saved, 2 is asked for",
        ),
        (
            identify(capture(1)),
            identify(capture(1.5)),
            "the captured 'value' of the lambda: 1 was saved, 1.5 is",
        ),
        (
            identify(functools.partial(NAMED, 1, z={1: 2})),
            identify(functools.partial(NAMED, 1, z={1: 3})),
            "the bound argument 'z' of 'named': {1: 2} was saved, {1: 3} is asked for",
        ),
        (
            identify(functools.partial(NAMED, 1)),
            identify(functools.partial(NAMED, 1, y=2)),
            "the bound argument 'y' of 'named' is new (2)",
        ),
        (
            identify(functools.partial(NAMED, 1, y=2)),
            identify(functools.partial(NAMED, 1)),
            "the bound argument 'y' of 'named' is gone (it was 2)",
        ),
        (identify(Plain(1).method), identify(Plain(2).method), "the object of 'method'"),
        (
            identify("{} a".format),
            identify("{} b".format),
            "the object of 'format': '{} a' was saved, '{} b'",
        ),
        (identify(Callee(1)), identify(Callee(2)), "the object of 'Callee'"),
    ],
)
def test_explain_function_says_what_differs(
    saved: FunctionIdentity, now: FunctionIdentity, text: str | None
) -> None:
    """Name, code of a lambda, or bound arguments: the first of them that differs is named."""
    found = explain_function(saved, now)
    if text is None:
        assert found is None
    else:
        assert found is not None
        assert text in found


# --- parameters ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", EQUAL)
def test_calls_match_when_their_arguments_are_equal(name: str) -> None:
    """Equal arguments are one run: same call, same fingerprint, nothing to explain."""
    one, other = EQUAL[name]
    saved, now = calls([one], {"x": [one]}), calls([other], {"x": [other]})
    assert all(map(same_call, saved, now))
    assert explain_calls(saved, now) is None
    assert fingerprint(F, saved) == fingerprint(F, now)


@pytest.mark.parametrize("name", DIFFERENT)
def test_calls_differ_when_their_arguments_do(name: str) -> None:
    """Different arguments are another run, and the explanation names the call and the argument."""
    values = DIFFERENT[name]
    for number, value in enumerate(values):
        for other in values[:number]:
            saved, now = calls([0, 1], [2, other]), calls([0, 1], [2, value])
            assert fingerprint(F, saved) != fingerprint(F, now), (other, value)
            assert not same_call(saved[1], now[1]), (other, value)
            explained = explain_calls(saved, now)
            assert explained is not None
            assert explained.startswith("call 1, argument 1"), explained


@dataclasses.dataclass
class Cached:
    """A value with a cache that is no part of it."""

    x: int

    @functools.cached_property
    def squared(self) -> int:
        return self.x**2


class Rounded:
    """A value that says itself when it is equal."""

    def __init__(self, x: float) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rounded) and round(self.x) == round(other.x)

    def __hash__(self) -> int:
        return round(self.x)


class Furious:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        msg = "no comparison"
        raise RuntimeError(msg)

    __hash__ = None  # type: ignore[assignment]


class Vague(Furious):
    def __eq__(self, other: object) -> Any:
        return np.array([True, False])

    __hash__ = None


def test_calls_differ_when_objects_only_say_that_they_are_equal() -> None:
    """An object is what it holds: an equality of its own cannot make a result that may be wrong count."""
    assert explain_calls(calls([Rounded(1.1)]), calls([Rounded(0.9)])) is not None
    assert explain_calls(calls([Rounded(1.1)]), calls([Rounded(1.1)])) is None


def test_calls_match_when_a_property_was_cached() -> None:
    """A value that was looked at is still the same value."""
    looked_at = Cached(3)
    assert looked_at.squared == 9
    assert explain_calls(calls([looked_at]), calls([Cached(3)])) is None
    assert explain_calls(calls([looked_at]), calls([Cached(4)])) is not None


@pytest.mark.parametrize("kind", [Furious, Vague])
def test_calls_are_compared_without_asking_objects(kind: type[Any]) -> None:
    """An object whose equality raises, or is neither true nor false, is compared like any other."""
    assert explain_calls(calls([kind(1)]), calls([kind(1)])) is None
    assert explain_calls(calls([kind(1)]), calls([kind(2)])) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(Settings(1), Settings(1.0), id="dataclass"),
        pytest.param(Settings([0.0]), Settings([-0.0]), id="list-in-a-dataclass"),
        pytest.param(Settings(Settings(1)), Settings(Settings(rate=True)), id="dataclass-in-a-dataclass"),
        pytest.param({1: "a"}, {True: "a"}, id="keys"),
        pytest.param({1: "a"}, {1.0: "a"}, id="number-keys"),
        pytest.param({(1, 2): "a"}, {(1.0, 2): "a"}, id="tuple-keys"),
        pytest.param(types.SimpleNamespace(x=1), types.SimpleNamespace(x=True), id="namespace"),
    ],
)
def test_calls_differ_when_python_calls_unlike_numbers_equal(one: Any, other: Any) -> None:
    """1, 1.0 and True do not match each other wherever they stand, although Python compares them as equal."""
    assert explain_calls(calls([one]), calls([other])) is not None


@pytest.mark.parametrize(
    ("saved", "now", "text"),
    [
        ([[1, 2]], [[1, 3]], "call 0, argument 1: 2 was saved, 3 is asked for"),
        ([[1], [2], [3]], [[1], [2], [4]], "call 2, argument 0: 3 was saved, 4 is asked for"),
        ([{"x": 1, "y": 2}], [{"x": 1, "y": 5}], "call 0, argument 'y': 2 was saved, 5 is asked for"),
        ([{"x": 1}], [{"x": 1, "y": 5}], "argument 'y' is new (5)"),
        ([{"x": 1, "y": 5}], [{"x": 1}], "argument 'y' is gone (it was 5)"),
        ([[1]], [[1, 2]], "argument 1 is new (2)"),
        ([[1, 2]], [[1]], "argument 1 is gone (it was 2)"),
        ([[1]], [[1.0]], "argument 0: 1 (int) was saved, 1.0 (float) is asked for"),
        (
            [[Settings(1)]],
            [[Settings(2)]],
            "argument 0, field 'rate': 1 was saved, 2 is asked for",
        ),
        ([[[1, 2]]], [[(1, 2)]], "argument 0: [1, 2] (list) was saved, (1, 2) (tuple) is asked for"),
        ([[np.int64(1)]], [[np.int32(1)]], "argument 0: 1 (int64) was saved, 1 (int32) is asked for"),
        (
            [[1], [2]],
            [[2], [1]],
            "the same parameters stand in another order: call 0, argument 0: 1 was saved, 2 is",
        ),
        (
            [[1], [2]],
            [[1], [2], [3]],
            "the file holds 2 calls, this run has 3: 1 call more than saved; the first 2 are the same",
        ),
        (
            [[1], [2], [3]],
            [[1]],
            "the file holds 3 calls, this run has 1: 2 calls fewer than saved; the first one is the same",
        ),
        (
            [[1], [2]],
            [[1], [9], [3]],
            "the file holds 2 calls, this run has 3: 1 call more than saved; call 1, argument 0: 2 was",
        ),
        ([], [[1]], "the file holds 0 calls, this run has 1: 1 call more than saved"),
    ],
)
def test_explain_calls_names_call_and_argument(saved: list[Any], now: list[Any], text: str) -> None:
    """The first difference is named: which call, which argument, what it was and what it is now."""
    found = explain_calls(calls(*saved), calls(*now))
    assert found is not None
    assert text in found


def test_explain_calls_names_the_types_when_values_look_alike() -> None:
    """Two values that look the same are told apart by their types."""

    class One:
        def __repr__(self) -> str:
            return "1"

    found = explain_calls(calls([1]), calls([One()]))
    assert found is not None
    assert "argument 0: 1 (int) was saved, 1 (" in found
    assert "One)" in found


def test_explain_calls_stays_short_when_arguments_are_large() -> None:
    """An explanation fits into a message, whatever the arguments."""
    large = {"x" * 500: [list(range(200))] * 10}
    found = explain_calls(calls([large, np.zeros(10**5)]), calls([{**large, "y": 1}, np.zeros(10**5)]))
    assert found is not None
    assert len(found) < 100 + 2 * config.resume_repr_chars
    assert "\n" not in found


@pytest.mark.parametrize(
    ("one", "other"),
    [([1, 2], {"x": 1, "y": 2}), ([], [None]), ([(1, 2)], [1, 2]), ([[]], []), ([{"x": 1}], {"x": 1})],
)
def test_calls_differ_when_arguments_are_passed_another_way(one: Any, other: Any) -> None:
    """Positional and keyword arguments, one tuple and two values: none of these match."""
    assert fingerprint(F, calls(one)) != fingerprint(F, calls(other))
    assert explain_calls(calls(one), calls(other)) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [([1, 2], (1, 2)), ([0, 1], range(2)), ({"x": 1, "y": 2}, {"y": 2, "x": 1}), ([], {})],
)
def test_calls_match_when_rows_are_written_another_way(one: Any, other: Any) -> None:
    """How the row itself was written does not matter: list, tuple, range, or keywords in any order."""
    assert fingerprint(F, calls(one)) == fingerprint(F, calls(other))
    assert explain_calls(calls(one), calls(other)) is None


# --- fingerprints --------------------------------------------------------------------------


def test_fingerprint_depends_on_all_of_a_run() -> None:
    """Function name, its key, each argument, their number and their order all count; the code does not."""
    runs = [
        (F, calls([1], [2])),
        (FunctionIdentity("g", b"", 0), calls([1], [2])),
        (FunctionIdentity("f", b"k", 0), calls([1], [2])),
        (F, calls([2], [1])),
        (F, calls([1])),
        (F, calls([1], [2], [3])),
        (F, calls([1, 2])),
        (F, calls([[1], [2]])),
        (F, calls({"x": 1}, {"x": 2})),
        (F, calls()),
        (F, calls([])),
        (F, calls([], [])),
    ]
    assert len({fingerprint(*run) for run in runs}) == len(runs)
    assert fingerprint(FunctionIdentity("f", b"", 99), calls([1], [2])) == fingerprint(*runs[0])
    assert {len(fingerprint(*run)) for run in runs} == {32}


ROWS = st.lists(st.lists(SCALARS, max_size=3), max_size=4)


@settings(max_examples=200, deadline=None)
@given(ROWS, ROWS, st.booleans())
def test_fingerprint_of_scalars_says_what_the_forms_say(
    one: list[Any], other: list[Any], alike: bool
) -> None:
    """The fast way for plain scalars tells apart exactly what the canonical forms tell apart."""
    if alike:
        other = [
            [type(value)(value) if type(value) in {str, bytes} else value for value in row] for row in one
        ]
    first, second = calls(*one), calls(*other)
    assert {type(value) for call in first for value in call.args} <= PLAIN
    forms_match = list(call_forms(first)) == list(call_forms(second))
    assert (fingerprint(F, first) == fingerprint(F, second)) == forms_match


@pytest.mark.parametrize("name", ["NaNs", "complex NaNs", "text", "huge numbers"])
def test_fingerprint_of_equal_scalars_is_the_same(name: str) -> None:
    """The fast way sees values and not how they were made, NaNs and equal text included."""
    one, other = EQUAL[name]
    assert fingerprint(F, calls([one, one, 1], [one])) == fingerprint(F, calls([one, other, 1], [other]))


@pytest.mark.parametrize("name", ["numbers", "zeros", "complex NaNs", "neighbours", "text"])
def test_fingerprint_of_different_scalars_differs(name: str) -> None:
    """The fast way tells types, signs of zero and the other half of a complex NaN apart."""
    values = [value for value in DIFFERENT[name] if type(value) in PLAIN]
    assert len({fingerprint(F, calls([value, 1])) for value in values}) == len(values)


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=3), st.lists(VALUES, min_size=1, max_size=3))
def test_calls_with_any_values_match_exactly_if_they_are_the_same(one: list[Any], other: list[Any]) -> None:
    """Fingerprint, comparison and explanation agree with each other for any plain values."""
    first, second = calls(one), calls(other)
    same = exact(one) == exact(other)
    assert (fingerprint(F, first) == fingerprint(F, second)) == same
    assert (list(call_forms(first)) == list(call_forms(second))) == same
    assert same_call(first[0], second[0]) == same
    assert (explain_calls(first, second) is None) == same


def test_fingerprint_reads_frames_and_arrays_by_value() -> None:
    """Arguments of a scientist: arrays and frames match by what they hold."""
    saved = calls([np.array([1.0, NAN]), pd.DataFrame({"a": [1, 2]})])
    now = calls([np.array([1.0, NAN]), pd.DataFrame({"a": [1, 2]})])
    assert fingerprint(F, saved) == fingerprint(F, now)
    now[0].args[0][0] = 1.5
    assert fingerprint(F, saved) != fingerprint(F, now)
    assert form(saved[0].args[1]) == form(now[0].args[1])
    assert not same_call(one_call(np.ones(2)), one_call(np.zeros(2)))
