"""Classes of the script in results and parameters: they are those of the script again, and stay as they are."""

import io
import operator
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Programs

from thread_chunks import (
    Checkpoint,
    Chunker,
    ProcessWorker,
    ThreadWorker,
    _classes,
    _definitions,
    _wire,
    chunk,
)

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

CLASSES = '''
import abc, collections, dataclasses, enum, functools, sys, typing

T = typing.TypeVar("T")
SCALE = 10

class Plain:
    total = 0
    def __init__(self, x=1):
        self.x = x
    def value(self):
        return SCALE * self.x
    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x
    __hash__ = None

class Derived(Plain):
    def value(self):
        return super().value() + 1

class Outer:
    class Inner(Plain):
        class Innermost(Plain):
            pass

class Slots(Plain):
    __slots__ = ("x",)

class OneSlot(Plain):
    __slots__ = "x"

class HiddenSlot:
    __slots__ = ("__x",)
    def __init__(self):
        self.__x = 1
    def __eq__(self, other):
        return type(self) is type(other) and self.__x == other.__x

class DocumentedSlot:
    __slots__ = {"x": "the x"}
    def __init__(self):
        self.x = 1
    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x and not hasattr(self, "__dict__")

class SlotsAndMore(DocumentedSlot):
    __slots__ = ("__dict__", "__weakref__", "y")
    def __init__(self):
        self.x, self.y, self.z = 1, 2, 3
    def __eq__(self, other):
        return type(self) is type(other) and (self.y, self.__dict__) == (other.y, other.__dict__)

class Generic(typing.Generic[T]):
    __slots__ = ("x",)
    __init__, __eq__ = Plain.__init__, Plain.__eq__

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...

class Square(Shape):
    __init__, __eq__ = Plain.__init__, Plain.__eq__
    def area(self):
        return self.x

class Registered:
    pass

Shape.register(Registered)

class Meta(type):
    made = []
    def __new__(kind, name, bases, names, **options):
        Meta.made.append(name)
        return super().__new__(kind, name, bases, names)

class Made(Plain, metaclass=Meta):
    pass

class Noting(Plain):
    noted = []
    def __init_subclass__(cls, **options):
        Noting.noted.append(cls.__name__)

class Noted(Noting):
    pass

class Point(typing.NamedTuple):
    x: int = 1

Old = collections.namedtuple("Old", "x")

class Color(enum.Enum):
    RED = 1

class Bits(enum.Flag):
    ONE = 1
    TWO = 2

class Wrong(Exception):
    pass

class Names(dict):
    pass

class Cached(Plain):
    @functools.cached_property
    def tenfold(self):
        return SCALE * self.x

Data = dataclasses.make_dataclass("Data", [("x", int, 1)], namespace={"__module__": __name__})
Data.__module__ = __name__
Frozen = dataclasses.dataclass(frozen=True)(type("Frozen", (), {"__annotations__": {"x": int}, "x": 1}))

@dataclasses.dataclass(slots=True)
class SlottedData:
    x: int = 1
    more: list = dataclasses.field(default_factory=list)

@dataclasses.dataclass(slots=True, frozen=True)
class FrozenSlottedData:
    x: int = 1

@dataclasses.dataclass(slots=True, weakref_slot=True)
class WeakSlottedData:
    x: int = 1

@dataclasses.dataclass(slots=True)
class DerivedSlottedData(SlottedData):
    y: int = 2

VALUES = {
    "plain": lambda: Plain(),
    "derived": lambda: Derived(),
    "nested": lambda: (Outer.Inner(), Outer.Inner.Innermost()),
    "slots": lambda: (Slots(), OneSlot(), HiddenSlot(), DocumentedSlot(), SlotsAndMore()),
    "generic": lambda: (Generic(1), Generic[int](2)),
    "abstract": lambda: (Square(), isinstance(Registered(), Shape)),
    "of a class of classes": lambda: Made(),
    "whose base notes it": lambda: Noted(),
    "tuples": lambda: (Point(), Old(1)),
    "enumerations": lambda: (Color.RED, Bits.ONE | Bits.TWO),
    "with a cached property": lambda: (Cached(), Cached().tenfold),
    "dict": lambda: Names(a=Plain()),
    "data": lambda: (Data(), Frozen()),
    "slotted data": lambda: (SlottedData(), FrozenSlottedData(), WeakSlottedData(), DerivedSlottedData()),
    "the class itself": lambda: Plain,
    "deep inside": lambda: {"a": [SlottedData(), ({1: Plain()},)]},
}

def snapshot():
    """Return what belongs to each class; pickle itself notes the names of slots."""
    kinds = [each for each in list(globals().values()) if isinstance(each, type)]
    own = {kind: {name: id(each) for name, each in vars(kind).items() if name != "__slotnames__"} for kind in kinds}
    return own, list(Meta.made), list(Noting.noted)
'''

RUN = """
from concurrent.futures import ThreadPoolExecutor
from thread_chunks import ExecutorWorker, Failure, ProcessWorker, ThreadWorker, chunk, config
config.progress_bar = False
before = snapshot()
def f(name, value):
    if name == "failure":
        raise Wrong(value)
    return VALUES[name](), value
with ThreadPoolExecutor(1) as pool:
    kinds = {"threads": ThreadWorker, "processes": ProcessWorker, "executor": ExecutorWorker.on(pool)}
    for name, worker in kinds.items():
        for again in range(2):
            rows = [[each, VALUES[each]()] for each in VALUES]
            outputs = chunk(f, rows, path=name + ".pkl", worker=worker, chunk_size=1)
            for (each, value), output in zip(rows, outputs, strict=True):
                assert output == (VALUES[each](), value), (name, again, each, output)
        failed, = chunk(f, [["failure", Plain(7)]], worker=worker, chunk_size=1, on_error="return")
        assert type(failed.exception) is Wrong and failed.exception.args == (Plain(7),), failed
assert snapshot() == before
print("done", len(VALUES))
"""


def test_classes_of_the_script_come_back_as_they_are_and_stay_as_they_are(programs: Programs) -> None:
    """Results are of the script's own classes, in this process and in the next, and no class is changed by it."""
    for _ in range(2):  # the second process only resumes
        assert programs.run(CLASSES + RUN).stdout == "done 16\n"


def test_results_of_classes_of_a_script_can_be_read_without_it(programs: Programs) -> None:
    """Whatever the kind of worker, a result brings the definition of its class to a reader who has none."""
    programs.run(CLASSES + RUN)
    for name in ("threads", "processes", "executor"):
        checkpoint = Checkpoint.load(programs.folder / f"{name}.pkl")
        assert checkpoint.done == 16, name
        plain, inner, slots = (checkpoint.output[place][0] for place in (0, 2, 3))
        assert (plain.x, plain.value(), type(plain).__qualname__) == (1, 10, "Plain")
        assert [type(each).__qualname__ for each in inner] == ["Outer.Inner", "Outer.Inner.Innermost"]
        assert [type(each).__slots__ for each in slots[:2]] == [("x",), "x"]
        assert not hasattr(slots[3], "__dict__")
        assert type(checkpoint.parameters[0][1]).__qualname__ == "Plain"


class Counting:
    calls = 0
    scale = 1

    def count(self) -> tuple[int, int, bool]:
        Counting.calls += 1
        return Counting.calls, Counting.scale, type(self) is Counting


def counts(counting: Counting) -> Any:
    return counting.count()


def test_class_stays_as_calls_left_it_in_a_child_until_the_script_changes_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Parameters do not set a class of the script back; a change in the script arrives with the next run."""
    with Chunker(counts, chunk_size=1) as chunker:
        assert chunker([[Counting()] for _ in range(3)]) == [(1, 1, True), (2, 1, True), (3, 1, True)]
        assert chunker([[Counting()]]) == [(4, 1, True)]
        monkeypatch.setattr(Counting, "scale", 2)
        assert chunker([[Counting()] for _ in range(2)]) == [(1, 2, True), (2, 2, True)]
    assert Counting.calls == 0


class Base:
    scale = 1


class Derived(Base):
    def value(self) -> int:
        return self.scale

    @staticmethod
    def say() -> str:
        return "said"


class Reading:
    def value(self) -> int:
        return Base.scale


def valued(each: Any) -> Any:
    return each.value(), each, type(each).__name__


CHANGES: dict[str, tuple[type, type, str, Any]] = {
    "of its base": (Derived, Base, "scale", 2),
    "of a class that it reads": (Reading, Base, "scale", 2),
    "of its method": (Derived, Derived, "value", lambda _: 2),
    "by a new attribute": (Derived, Derived, "scale", 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_in_a_class_of_the_script_arrives_and_so_does_its_end(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a class needs counts as much as what is in it, and what was deleted is gone in a process that stays."""
    kind, changed, name, value = CHANGES[change]
    with Chunker(valued, chunk_size=1) as chunker:
        assert chunker([[kind()]])[0][0] == 1
        with monkeypatch.context() as patch:
            patch.setattr(changed, name, value, raising=False)
            assert chunker([[kind()]])[0][0] == 2
        assert chunker([[kind()]])[0][0] == 1


def test_class_that_was_defined_anew_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object of the old class comes back as one of the old class, though a process knew it by its name."""
    old, new = Derived, type("Derived", (Base,), {"__module__": __name__, "value": lambda _: 3})
    with Chunker(valued, chunk_size=1) as chunker:
        assert type(chunker([[old()]])[0][1]) is old
        monkeypatch.setattr(sys.modules[__name__], "Derived", new)
        found = [(value, type(each)) for value, each, _ in chunker([[old()], [new()], [old()]])]
    assert found == [(1, old), (3, new), (1, old)]


@pytest.mark.parametrize("worker", [ProcessWorker, ThreadWorker])
def test_functions_of_the_script_in_a_result_are_those_of_the_script(worker: Any, tmp_path: Path) -> None:
    """One that has its name in the script is looked up there; a local one, or one without its name, is a copy."""
    own = [valued, Derived.value, Derived.say, local]

    def made() -> Any:
        return own, lambda: own[0]

    path = tmp_path / "c.pkl"
    [(found, copy)] = chunk(made, [[]], path=path, chunk_size=1, worker=worker)
    assert all(map(operator.is_, found, own))
    assert all(map(operator.is_, Checkpoint.load(path).output[0][0], own))
    assert copy() is valued


def local(name: str) -> Any:
    class Local:
        def __init__(self, x: int) -> None:
            self.x = x

    Local.name = name  # type: ignore[attr-defined]
    return Local


def test_local_classes_of_one_name_are_told_apart() -> None:
    """A class that has no name in its module is known by itself, and another of the same name is another one."""
    one, other = local("one"), local("other")
    [(first, second, third)] = chunk(lambda x: (one(x), other(x), one), [[1]], chunk_size=1)
    assert (type(first), type(second), third) == (one, other, one)
    assert (one.name, other.name) == ("one", "other")


def test_class_that_a_call_makes_is_not_taken_for_one_of_the_script() -> None:
    """Only a class that had its name in the script is looked up there: another one may bear the same."""

    def makes() -> Any:
        return type("Counting", (), {"__module__": __name__, "is_mine": True})()

    (made,) = chunk(makes, [[]], chunk_size=1)
    assert type(made) is not Counting
    assert made.is_mine


def test_result_whose_class_cannot_be_defined_is_kept_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that holds a lock cannot be taken elsewhere, but this script has it."""

    class Locked:
        lock = threading.Lock()

    for name, value in {"__module__": "__main__", "__qualname__": "Locked"}.items():
        setattr(Locked, name, value)
    with pytest.raises(TypeError, match="lock"):
        _wire.dump(Locked())
    monkeypatch.setattr("__main__.Locked", Locked, raising=False)
    main, buffers = _wire.dump(Locked())
    assert type(pickle.loads(main, buffers=buffers)) is Locked
    monkeypatch.delattr("__main__.Locked")
    monkeypatch.setattr(_classes, "_known", lambda *_: None)
    with pytest.raises(AttributeError, match="no Locked in __main__"):
        pickle.loads(main, buffers=buffers)


def test_definition_is_read_by_those_only_who_have_no_such_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that has the class does not look into what defines it: it may be for another Python."""
    out = io.BytesIO()
    _definitions.pickler()(out).dump(Counting())
    whole, definition, rest = out.getvalue().rpartition(b"\x80\x05")
    damaged = whole + b"\x80\x7f" + rest
    assert (bool(whole), definition) == (True, b"\x80\x05")
    assert type(pickle.loads(damaged)) is Counting
    monkeypatch.setattr(_classes, "_known", lambda *_: None)
    with pytest.raises(ValueError, match="unsupported pickle protocol: 127"):
        pickle.loads(damaged)


POOLS = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from thread_chunks import ExecutorWorker, chunk

class Fit:
    scale = 1
    def __init__(self, x):
        self.x = x

def f(fit):
    return Fit(fit.x * Fit.scale), type(fit) is Fit, Fit.scale

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            for scale in (1, 5):
                Fit.scale = scale
                (fit, is_own, seen), = chunk(f, [[Fit(1)]], worker=ExecutorWorker.on(pool), progress_bar=False)
                assert (type(fit), fit.x, is_own, seen) == (Fit, scale, True, scale), (method, scale, seen)
"""


def test_pool_that_stays_gets_a_class_as_the_script_has_it_now(programs: Programs) -> None:
    """Processes that have the script themselves, as it was when they started, run with what it has become."""
    programs.run(POOLS, flags=("-W", "error", "-W", "ignore::DeprecationWarning"))
