"""Can the parameters travel? Find out before anything starts.

One rule: a value of each type that occurs is pickled on trial, wherever it lies in lists,
tuples, dicts and sets. To pickle everything would cost as much as to send it, and what
passes here and cannot travel after all fails its own call, and no other. This room knows
calls and pickles, and nothing of workers or files.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from . import _wire
from ._by_value import dump
from ._canonical import is_pandas
from ._parameters import Calls, shown


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
    tried: set[type] = set(_wire.PLAIN)
    for index, key, argument in _arguments(calls):
        if type(argument) in tried:
            continue
        for value in _leaves(argument, tried):
            try:
                dump(value)
            except Exception as error:
                inside = "" if value is argument else f", in {shown(argument)}"
                msg = (
                    f"the parameters cannot be pickled, so they cannot be {goal}: parameters[{index}], argument {key!r}, "
                    f"is {shown(value)}{inside} ({error}). Pass what it is made from and make it inside the "
                    f"function, or {fix}"
                )
                raise TypeError(msg) from error


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
