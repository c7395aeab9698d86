"""What a parameter list is: read it once, and turn each entry into a call.

One rule: whatever is not clearly one entry of arguments is an error that shows
the fix. This room knows calls and nothing else.
"""

import inspect
import itertools
import reprlib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from . import _wire, config
from .messages import Call, Row


class Calls(Sequence[Call]):
    """The calls of a run, each made when it is looked at: a million cost no more than their arguments.

    They are a copy: whoever changes a row of the list during the run changes nothing here.

    Parameters
    ----------
    rows
        The arguments of each call.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.width, self.values = _wire.flat(rows)

    def __len__(self) -> int:
        return len(self.values) // (self.width or 1)

    def __iter__(self) -> Iterator[Call]:
        return map(Call, itertools.count(), *_wire.unflat(self.width, self.values))

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> list[Call]: ...
    def __getitem__(self, index: int | slice) -> Call | list[Call]:
        """Make one call, or some."""
        found = range(len(self))[index]
        if isinstance(found, range):
            return [self[each] for each in found]
        return Call(found, *self._row(found))

    def _row(self, index: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not self.width:
            args, kwargs = self.values[index]
            return args, kwargs
        return tuple(self.values[index * self.width : (index + 1) * self.width]), {}

    def rows_of(self, indices: Sequence[int]) -> tuple[int, Sequence[Any]]:
        """Return the arguments of some calls.

        Parameters
        ----------
        indices
            Which.

        Returns
        -------
        int, sequence
            What `_wire.flat` makes of their rows.
        """
        if isinstance(indices, range) and indices.step == 1:
            each = self.width or 1
            return self.width, self.values[indices.start * each : indices.stop * each]
        return 0, list(map(self._row, indices))


def read_calls(parameters: Iterable[Any]) -> tuple[list[Any], Calls]:
    """Read a parameter list once and turn each entry into a call.

    Parameters
    ----------
    parameters
        Any iterable of entries: sequences of positional arguments, or mappings
        of keyword arguments.

    Returns
    -------
    list, Calls
        The entries as they were given, and the calls.

    Raises
    ------
    TypeError, ValueError
        For what is no such list, and for an entry that is neither, with the fix.
    """
    _check_list(parameters)
    entries = list(parameters)
    if _wire.kinds(entries) <= {list, tuple}:
        return entries, Calls(entries)
    return entries, Calls([_row(index, entry) for index, entry in enumerate(entries)])


def _check_list(parameters: Any) -> None:
    """Refuse what is no list of entries, and what goes through something else than its rows."""
    kind = type(parameters)
    frame = next((way for way in _ROWS_OF_FRAMES if hasattr(kind, way)), None)
    if frame is not None and hasattr(kind, "columns"):
        msg = (
            f"parameters is a {kind.__qualname__}, and to go through one gives its columns and not its rows: "
            f"write {_ROWS_OF_FRAMES[frame]}"
        )
        raise TypeError(msg)
    if issubclass(kind, (str, bytes, Mapping)) or not issubclass(kind, Iterable):
        msg = (
            "parameters must be a list with one entry of arguments for each call, such as "
            f"[[1, 4], [2, 5]]; got {shown(parameters)}{_WAYS if issubclass(kind, Mapping) else ''}"
        )
        raise TypeError(msg)
    if issubclass(kind, types.GeneratorType) and parameters.gi_frame is None:
        msg = (
            "parameters is a generator that was used up before, so there is no call in it: make a new one for each "
            "run, or keep its entries with list(...)"
        )
        raise ValueError(msg)


_ROWS_OF_FRAMES = {
    "itertuples": 'df.itertuples(index=False) for arguments by place, or df.to_dict("records") for arguments by name',
    "iter_rows": "df.iter_rows() for arguments by place, or df.to_dicts() for arguments by name",
    "to_pylist": "table.to_pylist() for arguments by name",
}
"""How the rows of a frame of pandas, of polars and of pyarrow are had."""

_WAYS = (
    ". A mapping is one call with arguments by name if a list is around it, as in [{...}]; for a call for each of its "
    "items write mapping.items()"
)


def _row(index: int, entry: Any) -> Row:
    if issubclass(type(entry), Mapping):
        if not all(isinstance(key, str) for key in entry):
            msg = f"parameters[{index}] is a mapping of keyword arguments, so its keys must be strings: {shown(entry)}"
            raise TypeError(msg)
        return dict(entry) or ()
    kind = type(entry)
    is_text = issubclass(kind, (str, bytes, bytearray, memoryview))
    is_array = hasattr(kind, "__array_interface__")
    if (issubclass(kind, Sequence) and not is_text) or (is_array and entry.ndim > 0):
        return tuple(entry)
    msg = (
        f"parameters[{index}] is {shown(entry)}, but each entry must be a list of arguments: "
        f"write [{shown(entry)}] for a function of one argument, so [[1], [2]] and not [1, 2]"
    )
    raise TypeError(msg)


def names_of(func: Callable[..., Any]) -> tuple[str, ...]:
    """Return what the parameters of a function are called, as its signature would write them.

    Parameters
    ----------
    func
        Any callable.

    Returns
    -------
    tuple of str
        Such as ``("x", "*rest", "scale", "**options")``; empty for a function that has no signature.
    """
    try:
        parameters = inspect.signature(func).parameters.values()
    except Exception:  # noqa: BLE001 - builtins may have none, and the user's __signature__ may do anything
        return ()
    names: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not any(name[0] == "*" for name in names):
            names.append("*")
        is_rest, is_options = (
            parameter.kind is parameter.VAR_POSITIONAL,
            parameter.kind is parameter.VAR_KEYWORD,
        )
        names.append(f"{'*' * (is_rest + 2 * is_options)}{parameter.name}")
    return tuple(names)


def columns_of(calls: Calls, names: Sequence[str]) -> dict[str, list[Any]]:
    """Turn calls into one column for each parameter.

    Parameters
    ----------
    calls
        The calls.
    names
        What `names_of` says of their function.

    Returns
    -------
    dict of str to list
        In the order of the signature; ``None`` where a call does not give the parameter.
    """
    plain = list(itertools.takewhile(lambda name: name[0] != "*", names))
    rest = next((name[1:] for name in names if name[0] == "*" and name[1:2] not in {"", "*"}), None)
    columns: dict[str, list[Any]] = {}
    for call in calls:
        row = {_name(place, plain, rest): value for place, value in enumerate(call.args)}
        for name, value in call.kwargs.items():
            while name in row:  # f(x, /, **options) may be given another x
                name += "_"  # noqa: PLW2901
            row[name] = value
        for name, value in row.items():
            column = columns.get(name)
            if column is None:
                column = columns[name] = [None] * len(calls)
            column[call.index] = value
    ranks = {name.strip("*"): rank for rank, name in enumerate(names)}
    after = ranks.get(rest or "", len(ranks))
    is_rest = {_name(len(plain) + more, plain, rest) for more in range(len(columns))}
    order = sorted(columns, key=lambda name: ranks.get(name, after if name in is_rest else len(ranks)))
    return {name: columns[name] for name in order}


def _name(place: int, plain: Sequence[str], rest: str | None) -> str:
    if place < len(plain):
        return plain[place]
    return f"arg{place}" if rest is None else f"{rest}_{place - len(plain)}"


def shown(value: Any) -> str:
    """Show a value in one short line.

    Parameters
    ----------
    value
        Anything.

    Returns
    -------
    str
        One line.
    """
    limit = config.resume_repr_chars
    shorten = _Short()
    shorten.maxstring = shorten.maxother = limit
    try:
        text = " ".join(str.split(shorten.repr(value)))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the user's __repr__ may do anything, and exit
        text = f"a {type(value).__qualname__}"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def name_of(func: Any) -> str:
    """Return a function's name with its module, to be shown.

    Parameters
    ----------
    func
        Anything that can be called.

    Returns
    -------
    str
        Such as ``numpy.sin``.
    """
    module, name = (getattr(func, each, None) for each in ("__module__", "__qualname__"))
    if not isinstance(name, str):
        return shown(func)
    return f"{module}.{name}" if isinstance(module, str) and module not in {"builtins", "__main__"} else name


class _Short(reprlib.Repr):
    """Shows a value shortened, also a number of so many digits that Python refuses to write them."""

    def repr_int(self, x: int, level: int) -> str:
        return f"a number of {x.bit_length()} bits" if x.bit_length() > _LONG else super().repr_int(x, level)


_LONG = 10_000  # bits, which are 3,000 digits: Python writes 4,300 unless it is told otherwise


def last_line(text: str) -> str:
    """Return what stands last in a traceback: the error.

    Parameters
    ----------
    text
        The traceback.

    Returns
    -------
    str
        One line.
    """
    return next(reversed(text.strip().splitlines()), "")
