"""Results as they stand in a pickled checkpoint, and how they are read again.

One rule: each result is pickled by itself, so that one that cannot be unpickled any more
costs nothing but itself. This room knows pickles and records, and nothing of runs.
"""

import contextlib
import functools
import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from . import _script, _wire
from ._records import Group, Record

Section: TypeAlias = tuple[int, bytes, bytes, tuple[bytearray, ...]]
"""Results as they stand in a pickled checkpoint: the digest of the code that computed them, their
columns, their pickles side by side, and the large buffers of a result that stands alone."""

_AGAIN = _script.AGAIN.encode()


def load_result(main: bytes, buffers: Sequence[Any]) -> Any:
    """Unpickle one result; objects of the script's own classes become instances of those again."""
    if b"_make_skeleton_" in main or _AGAIN in main:
        return _ScriptUnpickler(io.BytesIO(main), buffers=buffers).load()
    return pickle.loads(main, buffers=buffers)


def loaded(section: Section) -> Iterator[tuple[int, Any]]:
    """Unpickle the results of a section one after the other; one that cannot be is left out.

    Parameters
    ----------
    section
        The results.

    Yields
    ------
    int, Any
        The index and the output of each.
    """
    _, columns, body, buffers = section
    indices, _, sizes, _ = _wire.unpack(columns)
    for index, piece in zip(indices, _wire.parts(body, sizes), strict=True):
        output = []
        with contextlib.suppress(BaseException):  # unpickling runs the user's code
            output.append(load_result(piece, buffers))
        if output:
            yield index, output.pop()


class _ScriptUnpickler(pickle.Unpickler):
    """Take classes of the script that were pickled by value from the running script, where it has them.

    Otherwise results of an earlier run would be of other classes than those of this one: not
    equal, not instances. The names are those in which cloudpickle writes such a class.
    """

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(str(_script.known(module)), name)
        if module != "cloudpickle.cloudpickle":
            return found
        if name in {"_make_skeleton_class", "_make_skeleton_enum"}:
            return functools.partial(_skeleton, found)
        return functools.partial(_set_state, found) if name == "_class_setstate" else found


def _script_class(name: str) -> type | None:
    found = _script.names().get(name)
    is_own = isinstance(found, type) and found.__module__ in _script.NAMES and found.__qualname__ == name
    return found if is_own else None


def _skeleton(make: Callable[..., Any], *args: Any) -> Any:
    names = [arg for arg in args if isinstance(arg, str)]
    is_script = any(isinstance(arg, dict) and arg.get("__module__") in _script.NAMES for arg in args)
    is_script = is_script or not _script.NAMES.isdisjoint(names[1:])
    own = _script_class(names[0]) if names and is_script else None
    return make(*args) if own is None else own


def _set_state(set_state: Callable[..., Any], made: type, state: Any) -> Any:
    return made if _script_class(made.__name__) is made else set_state(made, state)


class _Anything(type):
    """The type of what may be made, called and filled in any way, as a class or as an object of it."""

    def __setitem__(cls, *_: Any) -> None: ...

    def __call__(cls, *_: Any, **__: Any) -> "_Anything":
        return cls


class _Unread(metaclass=_Anything):
    """Stands for each object that is not unpickled."""

    @staticmethod
    def __new__(cls: Any, *_: Any, **__: Any) -> Any:
        return cls

    @staticmethod
    def _fill(*_: Any) -> None: ...

    __setstate__ = append = extend = add = update = _fill


_BUILTIN = {
    "list",
    "tuple",
    "dict",
    "set",
    "frozenset",
    "bytes",
    "bytearray",
    "str",
    "int",
    "float",
    "bool",
    "complex",
}


class BlindReader(pickle.Unpickler):
    """Unpickle a head without the objects in it: none of the user's code is run, and none is missed.

    Parameters
    ----------
    head
        The pickle.
    kind
        What the checkpoint in it becomes.
    """

    def __init__(self, head: bytes, kind: type) -> None:
        super().__init__(io.BytesIO(head))
        self._kind = kind

    def find_class(self, module: str, name: str) -> Any:
        """Give the class of the checkpoint and what its results consist of, and a stand-in for all else."""
        if (module, name) == ("thread_chunks._checkpoint", "Checkpoint"):
            return self._kind
        is_ours = module == "array" or (module == "builtins" and name in _BUILTIN)
        return super().find_class(module, name) if is_ours else _Unread


class _Raw:
    """What is made of a head of which only the results are wanted, as they were pickled."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.sections = list(state["results"])


def sections_of(head: bytes) -> list[Section]:
    """Return the results in a head, as they were pickled.

    Parameters
    ----------
    head
        The pickle.

    Returns
    -------
    list of Section
        All results.
    """
    sections: list[Section] = BlindReader(head, _Raw).load().sections
    return sections


def rows(kind: type, _: int, plain: bytes) -> list[Any]:
    """Make rows of their plain form again."""
    lengths, values = pickle.loads(plain)
    made = _wire.cut(values, lengths)
    return made if kind is list else list(map(kind, made))


def joined(records: Iterable[Record | Group]) -> Iterator[Record | Group]:
    """Join small results that follow each other into groups, which have no trace.

    Parameters
    ----------
    records
        Results and groups, as they were pickled.

    Yields
    ------
    Record or Group
        Fewer of them, with the same results in the same order.
    """
    small: list[Record] = []
    for record in records:
        is_small = (
            isinstance(record, Record) and not record.buffers and len(record.main) < _wire.OUT_OF_BAND_BYTES
        )
        if small and not (is_small and record.code == small[0].code):
            yield _grouped(small)
            small = []
        if is_small:
            assert isinstance(record, Record)
            small.append(record)
        else:
            yield record
    if small:
        yield _grouped(small)


def _grouped(small: Sequence[Record]) -> Group:
    _, indices, seconds, codes, pickles, *_ = zip(*small, strict=True)
    return Group(codes[0], *_wire.group(indices, seconds, list(map(bytes, pickles))))


def as_sections(records: Iterable[Record | Group]) -> list[Section]:
    """Copy pickled results into builtin types; bytearrays, so that their arrays stay writable.

    Parameters
    ----------
    records
        Results and groups.

    Returns
    -------
    list of Section
        One for each.
    """
    return [
        (record.code, record.columns, bytes(record.body), ())
        if isinstance(record, Group)
        else (
            record.code,
            _wire.single(record.index, record.seconds, record.main, record.buffers),
            bytes(record.main),
            tuple(map(bytearray, record.buffers)),
        )
        for record in records
    ]
