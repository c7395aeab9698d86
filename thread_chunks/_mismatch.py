"""Why is a file not of this run, and what to do? Said to someone who has to act on it.

One rule: the first difference is named in the user's words, in time that grows
linearly with the number of calls. This room knows functions, calls and how they are
told apart; of a file it knows no more than its name and how much it holds.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from ._difference import explain
from ._identity import FunctionIdentity, Part, call_key, call_keys
from ._parameters import Calls, shown
from .messages import Call


def explain_function(saved: FunctionIdentity, now: FunctionIdentity) -> str | None:
    """Say how two functions differ in identity, or ``None``."""
    if saved.name != now.name:
        return f"the function was {saved.name!r}, now it is {now.name!r}"
    if saved.key == now.key:
        return None
    whose = "the lambda" if now.name == "<lambda>" else repr(now.name)
    found = next(_changed_parts(saved.parts, now.parts, whose), None) if saved.parts else None
    if found is None and now.name == "<lambda>":
        return "the code of the lambda differs from the one saved"
    return found or f"what is bound to {now.name!r} differs from what was saved"


def _changed_parts(saved: Sequence[Part], now: Sequence[Part], whose: str) -> Iterator[str]:
    ours = {part.what: part for part in now}
    for part in saved:
        if (other := ours.pop(part.what, None)) is None:
            yield f"{part.what} of {whose} is gone (it was {part.text})"
        elif part.key != other.key:
            yield _changed_part(part.what, part.text, other.text, whose)
    for part in ours.values():
        yield f"{part.what} of {whose} is new ({part.text})"


def _changed_part(what: str, saved: str, now: str, whose: str) -> str:
    if what == "the code" and saved != now:
        return (
            f"a lambda has no name, so its bytecode stands in for it; {saved} compiled the saved one and "
            f"{now} this one, and whether they say the same cannot be told (a function with a name, made "
            "by def, resumes in any Python)"
        )
    if what == "the code":
        return f"{what} of {whose} differs from the one saved"
    if saved == now:
        return f"{what} of {whose}, {now}, holds something else than the one saved"
    return f"{what} of {whose}: {saved} was saved, {now} is asked for"


def explain_calls(saved: Calls, now: Calls, names: Sequence[str] = ()) -> str | None:
    """Say where two parameter lists first differ, or ``None`` if they are the same.

    Parameters
    ----------
    saved, now
        The calls of the file and of this run.
    names
        What the function calls its arguments, if that is known.

    Returns
    -------
    str or None
        One sentence that names the call and the argument, counted from 0.
    """
    keys, ours = call_keys(saved), call_keys(now)
    counts = None if len(keys) == len(ours) else _counts(len(keys), len(ours))
    place = next(
        (index for index, (one, other) in enumerate(zip(keys, ours, strict=False)) if one != other), None
    )
    if place is None:
        common = min(len(keys), len(ours))
        same = f"the first {'one is' if common == 1 else f'{common} are'} the same"
        return counts and (f"{counts}; {same}" if common else counts)
    prefix = f"{counts}; " if counts else ""
    if not counts and Counter(keys) == Counter(ours):
        prefix = "the same parameters stand in another order: "
    return f"{prefix}call {place}, {_first_difference(saved[place], now[place], names)}"


def _counts(saved: int, now: int) -> str:
    difference = abs(now - saved)
    calls = "1 call" if difference == 1 else f"{difference} calls"
    kept = "1 call" if saved == 1 else f"{saved} calls"
    return (
        f"the file holds {kept}, this run has {now}: {calls} {'more' if now > saved else 'fewer'} than saved"
    )


def same_call(one: Call, other: Call) -> bool:
    """Compare two calls by value."""
    return call_key(one) == call_key(other)


def _first_difference(one: Call, other: Call, names: Sequence[str]) -> str:
    saved: dict[Any, Any] = {**dict(enumerate(one.args)), **one.kwargs}
    now: dict[Any, Any] = {**dict(enumerate(other.args)), **other.kwargs}
    for key in [*now, *saved]:
        where = _argument(key, names)
        if key not in saved:
            return f"{where} is new ({shown(now[key])})"
        if key not in now:
            return f"{where} is gone (it was {shown(saved[key])})"
        if not same_call(Call(0, (saved[key],), {}), Call(0, (now[key],), {})):
            return explain(where, saved[key], now[key])
    return "its arguments"


def _argument(key: int | str, names: Sequence[str]) -> str:
    if isinstance(key, str):
        return f"argument {key!r}"
    return f"argument {key} ({names[key]!r})" if key < len(names) else f"argument {key}"


def kept_by_reuse(saved: Calls, completed: Sequence[bool], now: Calls) -> Iterator[tuple[int, int]]:
    """Pair each call with a saved result of the same parameters; none is used twice.

    A function may draw random numbers: its result for parameters that occur once more is one result more.

    Parameters
    ----------
    saved, completed
        The calls of the file, and which of them have a result.
    now
        The calls of this run.

    Yields
    ------
    int, int
        A call of this run, and the call of the file whose result it takes.
    """
    places: dict[bytes, list[int]] = {}
    keys = call_keys(saved)
    for place in reversed(range(len(keys))):
        if completed[place]:
            places.setdefault(keys[place], []).append(place)
    for index, key in enumerate(call_keys(now)):
        if found := places.get(key):
            yield index, found.pop()


# --- what is said of the file ----------------------------------------------------------

Held: TypeAlias = "tuple[int, int, int] | None"
"""Of the old file: its results, its calls, and how many of the results ``"reuse"`` keeps; ``None`` if it was not read."""


def restarted_text(
    path: str, backup: str, reason: str, held: Held = None, *, has_reused: bool = False
) -> str:
    """Say that a file was set aside, why, and how to get its results back."""
    done, _, kept = held or (0, 0, 0)
    aside = (
        f"The old file{_with(held)}, is kept as {backup}." if held else f"The old file is kept as {backup}."
    )
    if has_reused and kept:
        carried = f"{kept} of its {_results(done)} were carried over, the others have no place in this run"
        if kept == done:
            carried = f"All that could be read, {_results(done)}, was carried over"
        return f"{path} did not match this run: {reason}. {carried}. {aside}"
    text = f"{path} did not match, so this run starts afresh: {reason}. {aside}"
    if not kept:
        return text
    return (
        f"{text} To keep {_kept(held)}, stop this run, rename that file to {os.path.basename(path)} "
        'again, and pass on_mismatch="reuse".'
    )


def mismatch_text(path: str, reason: str, held: Held) -> str:
    """Say that a file was left alone, why, and what can be done."""
    reuse = f'on_mismatch="reuse" to keep {_kept(held)}, or ' if held and held[2] else ""
    return (
        f"{path} does not belong to this run: {reason}. No call was run, and the file was left alone"
        f'{_with(held)}. Give this run another path, or pass {reuse}on_mismatch="restart" to set the file aside.'
    )


def _with(held: Held) -> str:
    return "" if held is None else f", with {held[0]} of {_results(held[1])}"


def _kept(held: Held) -> str:
    done, _, kept = held or (0, 0, 0)
    return f"{kept} of them" if kept < done else _results(kept)


def _results(count: int) -> str:
    return "1 result" if count == 1 else f"{count} results"
