"""What cannot travel is named: the global, captured value, default, argument or attribute at fault."""

import functools
import threading
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from thread_chunks import chunk
from thread_chunks._fault import unpicklable_part, unreadable_part

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

LOCK = threading.Lock()


class Holder:
    def __init__(self, held: Any) -> None:
        self.plain = 1
        self.held = held

    def method(self, x: Any) -> Any:
        return x

    def __call__(self, x: Any) -> Any:
        return x


class Slotted:
    __slots__ = ("empty", "held")

    def __init__(self, held: Any) -> None:
        self.held = held


HOLDER = Holder({"deep": [1, LOCK]})


def reads_lock(x: Any) -> Any:
    return x, LOCK


def reads_holder(x: Any) -> Any:
    return [(x, HOLDER) for _ in range(2)]


def helps(x: Any) -> Any:
    return reads_lock(x)


def has_default(x: Any, *, lock: Any = LOCK) -> Any:
    return x, lock


def has_attribute(x: Any) -> Any:
    return x


has_attribute.lock = LOCK  # type: ignore[attr-defined]


def captures(value: Any) -> Callable[[Any], Any]:
    return lambda x: (x, value)


UNPICKLABLE: list[tuple[Any, str]] = [
    (
        reads_lock,
        r"the global 'LOCK' of reads_lock\(\) \(<unlocked _thread.lock.*\), which cannot be pickled: create",
    ),
    (
        reads_holder,
        r"the global 'HOLDER' of reads_holder\(\), the attribute 'held', the value of 'deep', item 1 \(",
    ),
    (helps, r"the global 'reads_lock' of helps\(\), the global 'LOCK' of reads_lock\(\) \("),
    (has_default, r"the default of 'lock' of has_default\(\) \("),
    (has_attribute, r"the attribute 'lock' \("),
    (captures(LOCK), r"the captured value 'value' of <lambda>\(\) \("),
    (captures(Slotted(LOCK)), r"the captured value 'value' of <lambda>\(\), the attribute 'held' \("),
    (functools.partial(int, LOCK), r"argument 0 of the partial \("),
    (functools.partial(dict, lock={LOCK}), r"argument 'lock' of the partial, an item \("),
    (Holder(LOCK), r"the attribute 'held' \("),
    (Holder(LOCK).method, r"the object of the method, the attribute 'held' \("),
]
"""Functions that cannot travel, and what is said to be at fault."""


@pytest.mark.parametrize(("func", "part"), UNPICKLABLE, ids=[part for _, part in UNPICKLABLE])
def test_error_names_the_part_of_a_function_that_cannot_be_pickled(func: Any, part: str) -> None:
    """Before any call, the error leads to what is at fault, from the outside in."""
    with pytest.raises(TypeError, match=f"cannot be sent to another process: .*lock.* At fault is {part}"):
        chunk(func, [[1]])


class Unreadable:
    def __setstate__(self, state: Any) -> None:
        msg = "made for another release"
        raise ValueError(msg)

    def __init__(self) -> None:
        self.x = 1


UNREADABLE = {"model": Unreadable()}


def reads_unreadable(x: Any) -> Any:
    return x, UNREADABLE


def test_error_names_the_part_of_a_function_that_cannot_be_unpickled() -> None:
    """What a child cannot load is named in a note of the error that it raised."""
    with pytest.raises(ValueError, match="made for another release") as caught:
        chunk(reads_unreadable, [[1]], chunk_size=1)
    place = "At fault is the global 'UNREADABLE' of reads_unreadable(), the value of 'model' ("
    assert any(note.startswith(place) for note in caught.value.__notes__), caught.value.__notes__


def test_no_part_is_blamed_when_each_can_travel() -> None:
    """A value that can travel has no part at fault, however it is built; one that holds itself ends the search, too."""
    endless: list[Any] = [1]
    endless.append(endless)
    endless.append({"again": endless, "lock": LOCK})
    assert unpicklable_part(has_attribute.__code__) is None
    assert unpicklable_part([1, {"a": Holder(2)}, helps.__name__]) is None
    assert unreadable_part([1, {"a": Holder(2)}]) is None
    assert str(unpicklable_part(endless)).startswith("item 2, the value of 'lock' (<unlocked")


def test_no_part_is_blamed_where_a_look_at_the_parts_fails() -> None:
    """An object that says that it is a function, and is none, is still the documented error."""
    with pytest.raises(TypeError, match=r"cannot be sent to another process.*[Mm]ock"):
        chunk(Mock(spec=chunk), [[1]], chunk_size=1)
