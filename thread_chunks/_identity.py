"""Is this the same run? Compare functions and parameters by value.

One rule: a function is its name, and parameters are their canonical forms, so
that a run is recognised in a new process. Where it is not, `_mismatch` says why.
This room knows calls and nothing of files or actors.
"""

import functools
import hashlib
import marshal
import os
import struct
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, takewhile
from typing import Any, NamedTuple

from . import _names, _wire
from ._arrays import is_compiled
from ._bytecode import captured, defaults
from ._canonical import Form, Walk, code_form, form, tagged
from ._parameters import Calls, names_of, shown
from ._parts import UNPICKLABLE, attributes, is_plain, plain_bytes
from ._parts import parts as parts_of
from ._reach import watched
from ._settings import Watched
from .messages import Call

_UNSHARED = 2  # the last version of marshal that writes equal values alike, however they are shared
_CACHED = type(functools.lru_cache(lambda: None))
_HEAP_TYPE = 1 << 9  # a flag of classes that Python code made
_VERSION = b"3"  # of the canonical form; another version is compared by value, not by digest


_PYTHON = sys.version_info.major, sys.version_info.minor
_CODES = 1 << 13  # marks how the code is digested: digests of another way are not compared


class Part(NamedTuple):
    """Something that belongs to a function beside its name: to say later what of it changed."""

    what: str
    """What it is, such as "the bound argument 'rate'"."""
    key: Form
    """Its value."""
    text: str
    """What to show of it."""


@dataclass(frozen=True, slots=True)
class FunctionIdentity:
    """What a checkpoint remembers of a function."""

    name: str
    """Its name, which is its identity."""
    key: Form
    """What stands beside the name: the code of a lambda, the bound arguments of a partial."""
    code: int
    """A digest of what is watched of it and the Python version that compiled it; 0 if it has no code to see."""
    parts: tuple[Part, ...] = field(default=(), compare=False)
    """What the key consists of."""
    names: tuple[str, ...] = field(default=(), compare=False)
    """What its parameters are called, as in its signature; no part of the identity."""
    watched: tuple[Watched, ...] = field(default=(), compare=False)
    """Its code and what that reads: to say later what of it changed."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of its positional arguments."""
        return tuple(takewhile(lambda name: name[0] != "*", self.names))


def identify(func: Callable[..., Any]) -> FunctionIdentity:
    """Find out what identifies a function between runs.

    Parameters
    ----------
    func
        Any callable.

    Returns
    -------
    FunctionIdentity
        Its name, what belongs to the name, and a digest of its code.
    """
    names = names_of(func)
    reads = watched(func)
    bound: list[Form] = []
    parts: list[Part] = []
    while (inner := _inside_of(func, bound, parts)) is not None:
        func = inner
    name = getattr(func, "__name__", None)
    name = name if isinstance(name, str) else type(func).__name__
    if not _stands_for_itself(func):
        code = code_form(func) if isinstance(func, types.FunctionType) else None
        bound.append(_object_form(func) if code is None else code)
        parts += _lambda_parts(func) if code is not None else [_part("the object", func)]
    key = hashlib.blake2b(b"".join(bound), digest_size=16).digest() if bound else b""
    return FunctionIdentity(name, key, _code_digest(reads), tuple(parts), names, reads)


def _inside_of(func: Any, bound: list[Form], parts: list[Part]) -> Any:
    """Return the function inside of a callable, and note what is bound to it; ``None`` if there is none inside."""
    kind = type(func)
    if kind is functools.partial:
        bound.append(form((func.args, func.keywords, vars(func))))
        parts += _bound_parts(func)
        return func.func
    owner = getattr(func, "__self__", None) if kind in {types.MethodType, types.BuiltinFunctionType} else None
    if owner is not None and not isinstance(owner, types.ModuleType):
        bound.append(form(owner))
        parts.append(_part("the object", owner))
        return func.__func__ if kind is types.MethodType else None
    if kind is staticmethod or (kind is _CACHED and _names.found(func) is None):
        return func.__wrapped__
    if is_compiled(kind) and _names.found(func) is None:
        return func.py_func
    return None


def _object_form(func: Any) -> Form:
    """Write a callable object: by its attributes, if pickle would keep something else of it each time.

    One that nobody can look into, as those of `numpy.frompyfunc`, is only the same as itself.
    """
    found, own = parts_of(func), attributes(func)
    if found.tag == UNPICKLABLE and "__wrapped__" not in own and not type(func).__flags__ & _HEAP_TYPE:
        return os.urandom(16)
    written = form(func)
    return written if written == form(func) else form((type(func), own))


def _stands_for_itself(func: Any) -> bool:
    """Tell whether the name of a callable is enough: of plain functions, builtins and classes that it stands for.

    A function that is local to another one has no name that could be looked up, and is known by the one it has: what it
    captured is watched as its code is.
    """
    if type(func) is types.BuiltinFunctionType:
        return _names.found(func) is not None or func.__self__ is not None
    if type(func) is _CACHED or is_compiled(type(func)):
        return True  # it is found: else what is inside of it is looked at
    if type(func) is types.FunctionType and func.__name__ != "<lambda>":
        return _names.found(func) is not None or "<locals>" in func.__qualname__
    return isinstance(func, type) and _names.found(func) is not None


def _part(what: str, value: Any) -> Part:
    return Part(what, form(value), shown(value))


def _bound_parts(func: "functools.partial[Any]") -> Iterator[Part]:
    for number, value in enumerate(func.args):
        yield _part(f"the bound argument {number}", value)
    for name, value in func.keywords.items():
        yield _part(f"the bound argument {name!r}", value)


def _lambda_parts(func: Any) -> Iterator[Part]:
    """Take a lambda apart; behind the code stands which Python compiled it."""
    if not isinstance(func, types.FunctionType):
        return
    python = "Python {}.{}".format(*_PYTHON)
    empty = tuple(types.CellType() for _ in func.__closure__ or ())
    yield Part("the code", code_form(types.FunctionType(func.__code__, {}, closure=empty)) or b"", python)
    for name, value in defaults(func).items():
        yield _part(f"the default of {name!r}", value)
    for name, value in captured(func).items():
        yield _part(f"the captured {name!r}", value)


def codes_differ(one: int, other: int) -> bool:
    """Tell whether two code digests show different code: seen by the same Python, and not equal."""
    return bool(one and other) and one >> 48 == other >> 48 and one != other


def _code_digest(reads: tuple[Watched, ...]) -> int:
    if not reads:
        return 0
    python = _CODES | _PYTHON[0] << 8 | _PYTHON[1]
    code = tagged(b"w", *chain.from_iterable((each.name.encode(), each.key) for each in reads))
    (digest,) = struct.unpack("<Q", hashlib.blake2b(code, digest_size=8).digest())
    return python << 48 | int(digest) & (1 << 48) - 1


def fingerprint(
    identity: FunctionIdentity, calls: Calls, plain: Form | None = None, forms: Iterable[Form] = ()
) -> bytes:
    """Digest a whole run: the same in every process for the same function and parameters.

    Parameters
    ----------
    identity
        The function.
    calls
        The calls, in order.
    plain, forms
        Their `plain_form`, or the forms of each, if they are known already.

    Returns
    -------
    bytes
        32 bytes.
    """
    digest = hashlib.blake2b(_VERSION, digest_size=32)
    digest.update(tagged(b"f", identity.name.encode("utf-8", "surrogatepass"), identity.key))
    plain = plain_form(calls) if plain is None else plain
    if plain is not None:
        digest.update(plain)
    else:
        for written in forms or call_forms(calls):
            digest.update(written)
    return digest.digest()


def plain_form(calls: Calls) -> Form | None:
    """Write calls with nothing but scalars at the speed of C: without its memo, pickle is canonical for them.

    Parameters
    ----------
    calls
        The calls.

    Returns
    -------
    bytes or None
        A pickle of the number of arguments of each and of all values; ``None`` if there is more than scalars.
    """
    lengths, values = [calls.width] * len(calls), calls.values
    if not calls.width:
        rows, names = _wire.unflat(calls.width, calls.values)
        if any(names):
            return None
        lengths, values = list(map(len, rows)), list(chain.from_iterable(rows))
    if not is_plain(values):
        return None
    return plain_bytes((lengths, values))


def call_forms(calls: Iterable[Call]) -> Iterator[Form]:
    """Write the arguments of calls in canonical form; what they share is looked at once."""
    return Walk().forms((call.args, call.kwargs) for call in calls)


def call_key(call: Call) -> bytes:
    """Return bytes that are equal for equal calls of this process: its form, or faster for plain scalars.

    Parameters
    ----------
    call
        Its arguments.

    Returns
    -------
    bytes
        Not to be kept: another Python may write others.
    """
    if not _has_plain_key(call):
        return next(call_forms([call]))
    return marshal.dumps(call.args, _UNSHARED)


def call_keys(calls: Calls) -> list[bytes]:
    """Return the `call_key` of every call: of plain rows at the speed of C.

    Parameters
    ----------
    calls
        The calls.

    Returns
    -------
    list of bytes
        In order.
    """
    if calls.width and is_plain(calls.values):
        return [marshal.dumps(row, _UNSHARED) for row in _wire.unflat(calls.width, calls.values)[0]]
    forms = call_forms(call for call in calls if not _has_plain_key(call))
    return [call_key(call) if _has_plain_key(call) else next(forms) for call in calls]


def _has_plain_key(call: Call) -> bool:
    return not call.kwargs and is_plain(call.args)
