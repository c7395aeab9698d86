"""Can the parameters travel, and be recognised when they come back? Find out before anything starts.

One rule: a value of each type that occurs is pickled on trial, wherever it lies in lists,
tuples, dicts and sets, and unpickled where a checkpoint will keep it. To pickle everything would cost as
much as to send it, and what passes here and cannot travel after all fails its own call, and no other.
This room knows calls and pickles, and nothing of workers or files.
"""

import io
import pickle
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from . import _wire
from ._arrays import is_pandas
from ._by_value import dump
from ._canonical import form
from ._classes import load
from ._difference import explain
from ._parameters import Calls, shown
from ._parts import generator, generator_name
from .errors import ParametersUnstableWarning


def is_plain(calls: Calls) -> bool:
    """Tell whether calls have nothing but scalars, and so can always travel.

    Parameters
    ----------
    calls
        The calls.

    Returns
    -------
    bool
        True also if there are none.
    """
    rows = calls.values
    if not calls.width:
        rows = list(chain.from_iterable(chain(args, kwargs.values()) for args, kwargs in rows))
    return _wire.kinds(rows) <= _wire.PLAIN


def check(calls: Calls, goal: str, fix: str) -> None:
    """Pickle one value of each type on trial.

    Parameters
    ----------
    calls
        The calls.
    goal, fix
        What they have to be pickled for, and what else can be done.

    Raises
    ------
    TypeError
        If one cannot be pickled. It names the call and the argument.
    """
    for where, value, inside in _samples(calls):
        try:
            dump(value)
        except Exception as error:
            msg = (
                f"the parameters cannot be pickled, so they cannot be {goal}: {where}, is {shown(value)}{inside} "
                f"({error}). Pass what it is made from and make it inside the function, or {fix}"
            )
            raise TypeError(msg) from error


def check_kept(calls: Calls) -> Warning | None:
    """Unpickle one value of each type on trial, as a new process will, and compare it with itself.

    Parameters
    ----------
    calls
        The calls. They can be pickled.

    Returns
    -------
    Warning or None
        What will not be recognised after a restart.

    Raises
    ------
    TypeError
        If one cannot be unpickled. It names the call and the argument.
    """
    warning = None
    for where, value, inside in _samples(calls):
        try:
            copy = _copied(value)
        except Exception as error:
            msg = (
                f"the parameters can be pickled and not unpickled, so a checkpoint of them could not be read: {where}, "
                f"is {shown(value)}{inside} ({error!r}). Mend how its class is pickled (see __reduce__ in Python's "
                "pages about pickle), pass what it is made from, or leave path= out"
            )
            raise TypeError(msg) from error
        if warning is None and type(value) is not np.ndarray and form(value) != form(copy):
            difference = explain(f"{where}{inside}", value, copy)
            warning = ParametersUnstableWarning(
                f"a new process will not recognise {difference.partition(': ')[0]}, a {type(value).__qualname__}, so that "
                "its calls will run again: it is another value once it was pickled and unpickled. Leave out of its pickle "
                "what differs each time, or say what it is with thread_chunks.register_identity"
            )
    return warning


def _copied(value: Any) -> Any:
    """Return what a new process would find; classes and functions are looked up by their names where that is possible."""
    out = io.BytesIO()
    try:
        _Pickler(out, _wire.PROTOCOL).dump(value)
        return _Unpickler(io.BytesIO(out.getvalue())).load()
    except (pickle.PicklingError, AttributeError, TypeError):
        return load(*dump(value))


class _Pickler(pickle.Pickler):
    """Takes the generators that all of a process shares for what they are in each process."""

    def persistent_id(self, value: Any) -> str | None:
        return generator_name(value)


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, name: str) -> Any:
        return generator(name)


def _samples(calls: Calls) -> Iterator[tuple[str, Any, str]]:
    """Yield a value of each type, with the words for where it is, and for what it is inside of."""
    tried: set[type] = set(_wire.PLAIN)
    for index, key, argument in _arguments(calls):
        if type(argument) not in tried:
            for value in _leaves(argument, tried):
                inside = "" if value is argument else f", in {shown(argument)}"
                yield f"parameters[{index}], argument {key!r}", value, inside


def _arguments(calls: Calls) -> Iterator[tuple[int, int | str, Any]]:
    if calls.width:
        for place, value in enumerate(calls.values):
            yield place // calls.width, place % calls.width, value
        return
    for call in calls:
        for place, value in enumerate(call.args):
            yield call.index, place, value
        for name, value in call.kwargs.items():
            yield call.index, name, value


def _leaves(argument: Any, tried: set[type]) -> Iterator[Any]:
    """Yield what is no container, a value of each type that was not tried yet."""
    seen: set[int] = set()
    left = [argument]
    while left:
        value = left.pop()
        parts = _parts(value)
        if parts is None:
            if type(value) not in tried:
                tried.add(type(value))
                yield value
        elif id(value) not in seen:
            seen.add(id(value))
            for each in parts:
                if not _wire.kinds(each) <= tried:
                    left.extend(each)


def _parts(value: Any) -> Iterable[Iterable[Any]] | None:
    """Return what a container holds, or ``None`` if it is none."""
    kind = type(value)
    if kind is dict:
        return value.keys(), value.values()
    if kind in {list, tuple, set, frozenset}:
        return (value,)
    if issubclass(kind, np.ndarray) and value.dtype.hasobject:
        return (np.asarray(value).ravel().tolist(),)
    if is_pandas(value) and hasattr(kind, "dtype") and value.dtype == object:
        return (list(value.to_numpy()),)
    return None
