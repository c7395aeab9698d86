"""Functions that travel by value: in the child they are what they were in the script, whatever belongs to them."""

import asyncio
import collections
import functools
import math
import os.path
import pickle
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import numpy as np
import pytest

from thread_chunks import _by_value, chunk

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

COUNTED = {"calls": 0}
TABLE = {"a": 1, "b": [2, 3]}


def defaults(a: Any, b: int = 2, *rest: Any, c: int = 3, d: Any = None, **more: Any) -> Any:
    return a, b, rest, c, d, more


def documented(x: int) -> Any:
    """Return what is known of itself."""
    return x, documented.__doc__, documented.__name__, documented.__annotations__


def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


def is_even(n: int) -> bool:
    return n == 0 or is_odd(n - 1)


def is_odd(n: int) -> bool:
    return n != 0 and is_even(n - 1)


def count() -> int:
    COUNTED["calls"] += 1
    return COUNTED["calls"]


def counts_twice(_: int) -> Any:
    before = COUNTED["calls"]
    return count() - before, count() - before, COUNTED["calls"] - before


def twice(func: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: func(func(x))


def generates(n: int) -> list[int]:
    def numbers() -> Iterator[int]:
        for number in range(n):
            yield number * number

    return list(numbers())


def waits(n: int) -> int:
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    return asyncio.run(later(n))


def wrapped(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def wrapper(*args: Any) -> Any:
        return "wrapped", func(*args), wrapper.__wrapped__ is func

    return wrapper


def with_attributes(x: int) -> Any:
    return with_attributes.factor * x, sorted(vars(with_attributes))  # type: ignore[attr-defined]


with_attributes.factor = 7  # type: ignore[attr-defined]


def nested(x: int) -> Any:
    def outer(y: int) -> Callable[[int], int]:
        def inner(z: int) -> int:
            nonlocal y
            y += z
            return x + y

        return inner

    adder = outer(10)
    return adder(1), adder(2)


def closure() -> Callable[[int], Any]:
    table, large = {"x": [1, 2]}, np.arange(20_000.0)

    def recursive(n: int) -> Any:
        return [table["x"], float(large[n])] if n < 1 else recursive(n - 1)

    return recursive


def late_cell() -> Callable[[int], Any]:
    def uses(x: int) -> Any:
        try:
            return x + later  # type: ignore[has-type]
        except NameError:
            return "not there yet"

    made = uses
    if made is None:
        later = 5
    return made


class Base:
    factor = 2

    def __init__(self, x: int) -> None:
        self.x = x

    def times(self, y: int) -> int:
        return self.x * y * self.factor


class Derived(Base):
    @property
    def twice(self) -> int:
        return 2 * self.x

    @classmethod
    def make(cls, x: int) -> "Derived":
        return cls(x)

    @staticmethod
    def helper(x: int) -> int:
        return x + 1

    def times(self, y: int) -> int:
        return super().times(y) + self.twice + self.helper(y)

    def __call__(self, y: int) -> int:
        return self.times(y)


def uses_classes(x: int) -> Any:
    made = Derived.make(x)
    return made.times(3), isinstance(made, Base), type(made).__mro__[1].__name__


def uses_modules(x: int) -> Any:
    return math.sqrt(x), os.path.join("a", "b"), collections.OrderedDict(x=x), np.float64(x).item()


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "defaults": (defaults, (1,)),
    "all kinds of arguments": (defaults, (1, 5, 6, 7)),
    "documented": (documented, (1,)),
    "recursive": (factorial, (20,)),
    "two that call each other": (is_even, (11,)),
    "shared globals": (counts_twice, (0,)),
    "generator inside": (generates, (5,)),
    "coroutine inside": (waits, (5,)),
    "decorated": (wrapped(factorial), (5,)),
    "partial": (functools.partial(defaults, 1, c=9), (2,)),
    "attributes": (with_attributes, (3,)),
    "nested": (nested, (3,)),
    "closure": (closure(), (2,)),
    "empty cell": (late_cell(), (2,)),
    "lambda": (lambda x, y=TABLE: (x, y), (2,)),
    "lambda of lambdas": (twice(lambda x: 3 * x), (2,)),
    "classes": (uses_classes, (4,)),
    "bound method": (Derived(5).times, (4,)),
    "class method": (functools.partial(lambda make, x: make(x).x, Derived.make), (4,)),
    "callable object": (Derived(6), (4,)),
    "modules": (uses_modules, (4,)),
    "comprehensions": (lambda n: [[y for y in range(x) if y % 2] for x in range(n)], (6,)),
    "global data": (lambda x: (TABLE["b"], x), (6,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_returns_in_the_child_what_it_returns_here(name: str) -> None:
    """Whatever belongs to a function of the script goes with it: defaults, globals, captured values, classes."""
    func, args = FUNCTIONS[name]
    assert chunk(func, [args], chunk_size=1) == [func(*args)]


def test_function_knows_its_own_name_and_line_in_the_child() -> None:
    """Name, qualified name, module and the file of its code are those of the script."""

    def who(_: int) -> Any:
        frame = sys._getframe()
        code = frame.f_code
        return code.co_name, code.co_filename, code.co_firstlineno, frame.f_globals["__name__"]

    (found,) = chunk(who, [[1]], chunk_size=1)
    assert found == ("who", __file__, who.__code__.co_firstlineno, __name__)
    (names,) = chunk(lambda _: (factorial.__module__, factorial.__qualname__), [[1]], chunk_size=1)
    assert names == (factorial.__module__, factorial.__qualname__)


def test_traceback_shows_the_users_lines() -> None:
    """What a function of the script raised is shown with the lines as they stand in the script."""

    def fails(x: int) -> int:
        return x // (x - x)  # the line that is shown

    with pytest.raises(ZeroDivisionError) as caught:
        chunk(fails, [[1]], chunk_size=1)
    text = "".join(traceback.format_exception(caught.value))
    assert "return x // (x - x)  # the line that is shown" in text
    assert f'File "{__file__}", line {fails.__code__.co_firstlineno + 1}, in fails' in text


def test_child_needs_no_cloudpickle_for_a_function_of_the_script() -> None:
    """The slow import of cloudpickle is spared where nothing but functions, modules and plain data travels."""

    def loaded(x: int) -> bool:
        return math.sqrt(x) > 0 and "cloudpickle" in sys.modules

    def recurses(n: int) -> Any:
        return "cloudpickle" in sys.modules if n < 1 else recurses(n - 1)

    assert chunk(loaded, [[1]], chunk_size=1) == [False]
    assert chunk(recurses, [[3]], chunk_size=1) == [False]


def test_functions_are_the_same_with_cloudpickles_own_makers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cloudpickle takes functions apart in a way we do not know, its own makers put them together."""
    monkeypatch.setattr(_by_value, "_with_our_makers", lambda _, reduced: reduced)
    for name, (func, args) in FUNCTIONS.items():
        assert chunk(func, [args], chunk_size=1) == [func(*args)], name


def test_dump_gives_large_arrays_out_of_band() -> None:
    """What a function holds of large arrays is not copied into its pickle."""
    main, buffers = _by_value.dump(closure())
    assert len(main) < 5000
    assert [buffer.nbytes for buffer in buffers] == [20_000 * 8]
    assert cloudpickle.loads(main, buffers=buffers)(0) == [[1, 2], 0.0]


def test_dump_raises_what_its_pickling_raises() -> None:
    """A function that holds what cannot be pickled is an error, and not a function without it."""
    lock = __import__("threading").Lock()
    with pytest.raises(TypeError, match="lock"):
        _by_value.dump(lambda: lock)


def test_dump_keeps_code_of_any_constants() -> None:
    """Code that a library put together, with constants that Python itself does not write, travels all the same."""

    def give() -> Any:
        return "a constant"

    consts = tuple(fraction if const == "a constant" else const for const in give.__code__.co_consts)
    made = types.FunctionType(give.__code__.replace(co_consts=consts), {}, "give")
    main, buffers = _by_value.dump(made)
    assert cloudpickle.loads(main, buffers=buffers)() == fraction


fraction = np.float64(0.25)


@functools.lru_cache(maxsize=7, typed=True)
def cached_factorial(number: int) -> int:
    return 1 if number < 2 else number * cached_factorial(number - 1)


def test_function_of_the_script_may_be_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function under functools.cache travels by value like any other, with an empty cache of the same size."""

    @functools.cache
    def doubled(number: int) -> int:
        return 2 * number

    assert chunk(lambda number: doubled(number) + 1, [[1], [2]]) == [3, 5]
    monkeypatch.setattr(cached_factorial, "__module__", "__main__")
    monkeypatch.setattr(cached_factorial.__wrapped__, "__module__", "__main__")
    main, buffers = _by_value.dump(cached_factorial)
    made = pickle.loads(main, buffers=buffers)
    assert made(5) == 120
    assert made.cache_parameters() == {"maxsize": 7, "typed": True}
    assert made.cache_info().currsize == 5
    assert cached_factorial.cache_info().currsize == 0
