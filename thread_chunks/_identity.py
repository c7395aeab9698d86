"""Is this the same run? Compare functions and parameters by value.

One rule: a function is its name, and parameters are their canonical forms, so
that a run is recognised in a new process; and where it is not, the first
difference is named. This room knows calls and nothing of files or actors.
"""

import functools
import hashlib
import io
import operator
import pickle
import struct
import sys
import types
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from . import _wire
from ._canonical import Form, code_form, form, tagged
from ._parameters import Calls, names_of, shown
from .messages import Call

_VERSION = b"2"  # of the canonical form; another version is compared by value, not by digest


@dataclass(frozen=True, slots=True)
class FunctionIdentity:
    """What a checkpoint remembers of a function."""

    name: str
    """Its name, which is its identity."""
    key: Form
    """What stands beside the name: the code of a lambda, the bound arguments of a partial."""
    code: int
    """A digest of its code and the Python version that compiled it; 0 if it has none to see."""
    names: tuple[str, ...] = field(default=(), compare=False)
    """What its parameters are called, for tables; no part of the identity."""


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
    names, bound = names_of(func), list[Form]()
    while True:
        if isinstance(func, functools.partial):
            bound.append(form((func.args, func.keywords)))
            func = func.func
        elif isinstance(func, types.MethodType):
            bound.append(form(func.__self__))
            func = func.__func__
        else:
            break
    owner = None if isinstance(func, type) else getattr(func, "__self__", None)
    if owner is not None and not isinstance(owner, types.ModuleType):
        bound.append(form(owner))  # a method of a builtin
    name = getattr(func, "__name__", None)
    if not isinstance(name, str):
        name = type(func).__name__
        bound.append(form(func))  # a callable object: its state counts
        func = type(func).__call__
    code = code_form(func)
    if name == "<lambda>":
        bound.append(form(func) if code is None else code)
    key = hashlib.blake2b(b"".join(bound), digest_size=16).digest() if bound else b""
    return FunctionIdentity(name, key, _code_digest(code), names)


def codes_differ(one: int, other: int) -> bool:
    """Tell whether two code digests show different code: seen by the same Python, and not equal."""
    return bool(one and other) and one >> 48 == other >> 48 and one != other


def _code_digest(code: Form | None) -> int:
    if code is None:
        return 0
    python = sys.version_info.major << 8 | sys.version_info.minor
    (digest,) = struct.unpack("<Q", hashlib.blake2b(code, digest_size=8).digest())
    return python << 48 | int(digest) & (1 << 48) - 1


def fingerprint(identity: FunctionIdentity, calls: Calls, plain: Form | None = None) -> bytes:
    """Digest a whole run: the same in every process for the same function and parameters.

    Parameters
    ----------
    identity
        The function.
    calls
        The calls, in order.
    plain
        Their `plain_form`, if it is known already.

    Returns
    -------
    bytes
        32 bytes.
    """
    digest = hashlib.blake2b(_VERSION, digest_size=32)
    digest.update(tagged(b"f", identity.name.encode(), identity.key))
    plain = plain_form(calls) if plain is None else plain
    if plain is not None:
        digest.update(plain)
    else:
        for call in calls:
            digest.update(call_form(call))
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
        if not _wire.kinds(calls.values) <= {tuple}:
            return None
        lengths, values = list(map(len, calls.values)), list(chain.from_iterable(calls.values))
    kinds = _wire.kinds(values)
    if not kinds <= _wire.PLAIN:
        return None
    if kinds & {float, complex} and not all(map(operator.eq, values, values)):
        return None  # NaN is not itself, and has many bit patterns
    out = io.BytesIO()
    pickler = pickle.Pickler(out, 5)
    pickler.fast = True
    pickler.dump((lengths, values))
    return out.getvalue()


def call_form(call: Call) -> Form:
    """Write one call's arguments in canonical form."""
    return form((call.args, call.kwargs))


def explain_function(saved: FunctionIdentity, now: FunctionIdentity) -> str | None:
    """Say how two functions differ in identity, or ``None``."""
    if saved.name != now.name:
        return f"the file holds results of {saved.name!r}, and this run is of {now.name!r}"
    if saved.key != now.key:
        if now.name == "<lambda>":
            return "the code of the lambda differs from the one saved"
        return f"the bound arguments of {now.name!r} differ from those saved"
    return None


def explain_calls(saved: Sequence[Call], now: Sequence[Call]) -> str | None:
    """Say where two parameter lists first differ, or ``None`` if they are the same.

    Parameters
    ----------
    saved, now
        The calls of the file and of this run.

    Returns
    -------
    str or None
        One sentence that names the call and the argument.
    """
    for one, other in zip(saved, now, strict=False):
        if not same_call(one, other):
            break
    else:
        if len(saved) == len(now):
            return None
        common = min(len(saved), len(now))
        return f"{_counts(saved, now)}; the first {'is' if common == 1 else f'{common} are'} the same"
    reordered = len(saved) == len(now) and Counter(map(call_form, saved)) == Counter(map(call_form, now))
    prefix = "the same parameters stand in another order; " if reordered else ""
    if len(saved) != len(now):
        prefix = f"{_counts(saved, now)}; "
    return f"{prefix}call {one.index} differs: {_first_difference(one, other)}"


def _counts(saved: Sequence[Call], now: Sequence[Call]) -> str:
    calls = f"{len(saved)} call" if len(saved) == 1 else f"{len(saved)} calls"
    return f"the file holds {calls}, and this run has {len(now)}"


def same_call(one: Call, other: Call) -> bool:
    """Compare two calls by value."""
    return call_form(one) == call_form(other)


def _first_difference(one: Call, other: Call) -> str:
    saved: dict[Any, Any] = {**dict(enumerate(one.args)), **one.kwargs}
    now: dict[Any, Any] = {**dict(enumerate(other.args)), **other.kwargs}
    for key in [*now, *saved]:
        if key not in saved:
            return f"argument {key!r} is new ({shown(now[key])})"
        if key not in now:
            return f"argument {key!r} is gone (it was {shown(saved[key])})"
        if form(saved[key]) != form(now[key]):
            was, is_now = shown(saved[key]), shown(now[key])
            if was == is_now:
                was, is_now = (
                    f"{text} ({type(value).__qualname__})"
                    for text, value in ((was, saved[key]), (is_now, now[key]))
                )
            return f"argument {key!r} was {was} and is now {is_now}"
    return "its arguments"
