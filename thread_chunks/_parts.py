"""What a value consists of: one rule for each kind of value, one level deep.

One rule above all: a rule may say more of a value than pickle would keep, never less. What
a process made for itself does not count: places in memory, locks, caches, the order of sets,
the folder of a mapped file. How parts become bytes is known to `_canonical`.
"""

import copyreg
import enum
import functools
import io
import operator
import pickle
import re
import sys
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import cloudpickle
import numpy as np

from . import _names, _wire
from ._arrays import is_compiled, is_pandas, is_theirs, of_array, of_frame, of_labelled, of_tensor

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")
_CACHED = type(functools.lru_cache(lambda: None))
_CACHES = {"cached_property", "lazyproperty", "lazy_property", "reify"}  # names that libraries give them
_CACHE_NAMES = {"__networkx_cache__"}
_GENERATORS = "numpy.random.mtrand._rand", "random._inst"
_PLAIN_LENGTH = 8  # shorter sequences are not worth looking at twice
_PYTHON = sys.version_info.major, sys.version_info.minor
_MADE_BY_PYTHON = {
    "__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__slotnames__", "_abc_impl",
    "__firstlineno__", "__static_attributes__", "__annotate__", "__annotate_func__", "__annotations_cache__",
}  # fmt: skip
"""What a class holds beside what its definition says."""

UNPICKLABLE = b"r"
"""The tag of what pickle refuses."""

described: dict[type, Callable[[Any], Any]] = {}
"""What users and libraries say of the objects of a class."""


class Parts(NamedTuple):
    """What a value consists of."""

    tag: bytes
    """Tells kinds of values apart."""
    values: Sequence[Any]
    """The parts; bytes among them are parts, too."""
    is_ordered: bool = True


def register_identity(kind: type, describe: Callable[[Any], Any]) -> None:
    """Say what objects of a class are, where parameters are compared with those of a checkpoint.

    As `copyreg.pickle` does for pickling. By default an object is its class and what pickle would keep of it.
    Call it before `chunk`, in every script that uses the checkpoint. It counts in this process, in any thread, and
    does not block.

    Parameters
    ----------
    kind : type
        The class; it does not count for subclasses, which may hold more.
    describe : callable
        Called with an object, returns any value: objects are taken for equal if and only if their values are. It must
        not change the object, and return the same in every process.

    Raises
    ------
    TypeError
        If one is no class, or the other cannot be called.

    Examples
    --------
    >>> from thread_chunks import chunk, register_identity
    >>> class Mesh:
    ...     def __init__(self, cells):
    ...         self.cells, self.made_by = cells, object()  # something that differs in each process
    >>> register_identity(Mesh, lambda mesh: mesh.cells)
    >>> ran = []
    >>> for _ in range(2):
    ...     chunk(lambda mesh: mesh.cells, [[Mesh(3)]], path="mesh.pkl", progress_bar=False,
    ...           on_result=lambda index, output: ran.append(index))
    [3]
    [3]
    >>> ran
    [0]
    """
    if not isinstance(kind, type) or not callable(describe):
        msg = "register_identity needs a class and a function of its objects, as in register_identity(Mesh, lambda m: m.cells)"
        raise TypeError(msg)
    described[kind] = describe


def parts(value: Any) -> Parts:  # noqa: PLR0911 - one line for each kind of value
    """Take a value apart that is no scalar."""
    kind = type(value)
    if kind in described:
        return Parts(b"H", [kind, described[kind](value)])
    if kind is tuple or kind is list:
        return _sequence(value)
    if kind is dict:
        return Parts(b"d", list(value.items()), is_ordered=False)
    if kind is set or kind is frozenset:
        return Parts(b"s" if kind is set else b"z", list(value), is_ordered=False)
    if issubclass(kind, (np.ndarray, np.generic)):
        return Parts(b"a", list(of_array(value)))
    if kind is types.FunctionType:
        return _function(value)
    if issubclass(kind, type):
        return _class(value)
    if issubclass(kind, types.ModuleType):
        return _module(value)
    if kind is types.CodeType:
        return _code(value)
    return _special(value) or _object(value)


def is_plain(values: Sequence[Any]) -> bool:
    """Tell whether values are scalars, and none is NaN: it is not itself, and has many bit patterns."""
    kinds = _wire.kinds(values)
    return kinds <= _wire.PLAIN and (not kinds & {float, complex} or all(map(operator.eq, values, values)))


def _sequence(value: Sequence[Any]) -> Parts:
    tag = b"t" if type(value) is tuple else b"l"
    if len(value) >= _PLAIN_LENGTH and is_plain(value):
        return Parts(tag + b"*", [plain_bytes(value)])  # at the speed of C
    return Parts(tag, value)


def plain_bytes(values: Any) -> bytes:
    """Write scalars, or lists of them, at the speed of C: without its memo, pickle is canonical for them."""
    out = io.BytesIO()
    pickler = pickle.Pickler(out, 5)
    pickler.fast = True
    pickler.dump(values)
    return out.getvalue()


def _special(value: Any) -> Parts | None:  # noqa: PLR0911 - one line for each kind of value
    kind = type(value)
    if issubclass(kind, enum.Enum):
        return Parts(b"E", [kind, value._name_, value._value_])
    if issubclass(kind, (set, frozenset)) and kind.__reduce__ in {set.__reduce__, frozenset.__reduce__}:
        return Parts(b"S", [kind, _without_caches(kind, value.__getstate__()), frozenset(value)])
    if kind is types.MethodType:
        return Parts(b"m", [value.__func__, value.__self__])
    if kind is staticmethod or kind is classmethod:
        return Parts(b"m", [kind, value.__func__])
    if kind is _CACHED and _names.found(value) is None:
        return Parts(b"C", [value.__wrapped__, value.cache_parameters(), vars(value)])
    if issubclass(kind, (weakref.ref, weakref.ProxyType, weakref.CallableProxyType)):
        return Parts(b"w", [kind])
    if (name := generator_name(value)) is not None:
        return Parts(b"g", [name])
    with suppress(
        Exception
    ):  # a release of theirs may do it in another way; then it is an object as any other
        return _theirs(value)
    return None


def _theirs(value: Any) -> Parts | None:
    """Take apart what pickle writes with addresses, or with the places where things lie in memory."""
    kind = type(value)
    if is_pandas(value):
        return Parts(b"p", list(of_frame(value)))
    if is_theirs(kind, "torch", "Tensor"):
        return Parts(b"T", list(of_tensor(value)))
    if is_theirs(kind, "xarray", "Variable", "Dataset", "DataArray"):
        found = of_labelled(value)
        return None if found is None else Parts(b"X", found)
    if is_compiled(kind) and (name := _names.found(value)) is not None:
        return Parts(b"N", [name])
    if is_compiled(kind):
        return Parts(b"J", [kind, value.py_func, vars(value).get("targetoptions")])
    return None


# --- functions, classes, modules ------------------------------------------------------


def _function(func: types.FunctionType) -> Parts:
    name = _names.found(func)
    return function_parts(func) if name is None else Parts(b"N", [name])


def function_parts(func: types.FunctionType) -> Parts:
    """Take a function apart that no name stands for: its code, and what belongs to it."""
    cells = [cell.cell_contents for cell in func.__closure__ or () if cell != types.CellType()]
    values = func.__code__, func.__defaults__, func.__kwdefaults__, cells, vars(func), _foreign_names(func)
    return Parts(b"F", values)


def _foreign_names(func: types.FunctionType) -> dict[str, Any]:
    """Return the globals that a function reads, where no module has them: of `exec`, of a code generator."""
    if _names.is_of_module(func):
        return {}
    return {name: func.__globals__[name] for name in sorted(_read(func.__code__)) if name in func.__globals__}


def _read(code: types.CodeType) -> set[str]:
    return set(code.co_names).union(
        *(_read(each) for each in code.co_consts if isinstance(each, types.CodeType))
    )


def _code(code: types.CodeType) -> Parts:
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    # Bytes mean different things to different Pythons: 6b 02 is == in 3.11, and < in 3.12.
    names = repr((_PYTHON, code.co_names, code.co_varnames, code.co_freevars, counts)).encode()
    return Parts(b"c", [code.co_code, names, *code.co_consts])


def _class(kind: type) -> Parts:
    name = _names.found(kind)
    if name is not None:
        return Parts(b"N", [name])
    if is_theirs(type(kind), "sympy", "UndefinedFunction"):  # its members depend on the order of sets
        return Parts(b"K", [type(kind), kind.__name__, vars(kind).get("_kwargs")])
    members = {
        key: member
        for key, member in vars(kind).items()
        if key not in _MADE_BY_PYTHON
        and not isinstance(member, (types.MemberDescriptorType, types.GetSetDescriptorType))
    }
    return Parts(b"K", [type(kind), kind.__qualname__, kind.__bases__, members])


def _module(module: types.ModuleType) -> Parts:
    name = _names.found(module)
    if name is not None:
        return Parts(b"M", [name])
    return Parts(
        b"M", [module.__name__, {key: each for key, each in vars(module).items() if not key.startswith("__")}]
    )


# --- other objects --------------------------------------------------------------------


def generator_name(value: Any) -> str | None:
    """Return the name of a random generator that all of a process shares: its state is no part of who holds it."""
    return next(
        (name for name in _GENERATORS if type(value) not in _wire.PLAIN and generator(name) is value), None
    )


def generator(name: str) -> Any:
    """Return the generator of that name, if its module is imported."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None)


def _object(value: Any) -> Parts:
    """Take an object apart: its class, and what pickle would keep of it."""
    kind = type(value)
    reduce = cloudpickle.Pickler.dispatch_table.get(kind)  # has those of copyreg, too
    try:
        reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
    except Exception:  # noqa: BLE001 - it cannot be pickled
        return _unpicklable(value)
    if isinstance(reduced, str):
        name = _names.found(value, reduced)
        return _unpicklable(value) if name is None else Parts(b"g", [kind, name])
    maker, args, state, items, pairs = (*reduced, None, None, None)[:5]
    if pairs is not None:
        pairs = list(pairs) if isinstance(value, OrderedDict) else dict(pairs)
    content = maker, args, _without_caches(kind, state), None if items is None else list(items), pairs
    return Parts(b"O", [kind, content])


def _unpicklable(value: Any) -> Parts:
    """Take apart what pickle refuses: its class, its attributes, and what it shows, but for addresses."""
    kind = type(value)
    try:
        text = repr(value) if vars(object)["__repr__"] is not kind.__repr__ else ""
    except Exception:  # noqa: BLE001 - the user's __repr__ may do anything
        text = ""
    return Parts(UNPICKLABLE, [kind, attributes(value), "" if _ADDRESS.search(text) else text])


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, past all that its class may do when they are asked for."""
    kind, found = type(value), {}
    for name in copyreg._slotnames(kind):  # type: ignore[attr-defined]  # noqa: SLF001 - as pickle finds them
        with suppress(AttributeError):
            found[name] = object.__getattribute__(value, name)
    with suppress(AttributeError):
        found |= object.__getattribute__(value, "__dict__")
    left: dict[str, Any] = _without_caches(kind, found)
    return left


def _without_caches(kind: type, state: Any) -> Any:
    """Leave out of the state of an object what its class computes of the rest when it is asked."""
    if type(state) is tuple and len(state) == 2 and isinstance(state[1], dict):  # noqa: PLR2004 - and slots
        return _without_caches(kind, state[0]), state[1]
    if type(state) is not dict:
        return state
    return {
        name: each for name, each in state.items() if name not in _CACHE_NAMES and not _is_cached(kind, name)
    }


def _is_cached(kind: type, name: Any) -> bool:
    found = next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None)
    return isinstance(found, functools.cached_property) or type(found).__name__ in _CACHES
