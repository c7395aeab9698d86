"""What a function's code does: the same after comments, layout and docstrings were changed.

One rule: only what is executed counts, that is the instructions, the names, and the
constants that they load. Its docstring is a constant that no function loads. This
room knows functions and nothing of who compares them.
"""

import opcode
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from ._canonical import Form, form, tagged

_HAS_DOCSTRING = 0x4000000  # a flag of Python 3.14 and later
_LOADS_A_CONSTANT = frozenset(opcode.hasconst)
_STORE_NAME = opcode.opmap["STORE_NAME"]
_IN_A_CLASS = {_STORE_NAME, opcode.opmap["DELETE_NAME"]}
_OF_THE_SOURCE = {"__doc__", "__firstlineno__", "__static_attributes__"}  # what a class knows of its text
_USES = {
    0: ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"),
    1: ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_NAME", "DELETE_NAME"),
    2: ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"),
    3: ("STORE_ATTR", "DELETE_ATTR"),
}
_NAMES = {opcode.opmap[name]: use for use, many in _USES.items() for name in many if name in opcode.opmap}
_HAS_A_NAME = frozenset(opcode.hasname)
_FLAGS = {
    "LOAD_GLOBAL": 1,
    "LOAD_ATTR": int(sys.version_info >= (3, 12)),
    "LOAD_SUPER_ATTR": 2,
}  # bits beside the name
_SHIFTS = {opcode.opmap[name]: bits for name, bits in _FLAGS.items() if name in opcode.opmap}


def function_form(func: types.FunctionType, values: dict[str, Any]) -> Form:
    """Write what a function does.

    Parameters
    ----------
    func
        The function.
    values
        What of its defaults and of what it captured is to count, by name.

    Returns
    -------
    bytes
        The same after comments, layout and docstrings were changed.
    """
    return tagged(b"F", _code_form(func.__code__), form(values))


class Names(NamedTuple):
    """The names in a function's code, and in the functions and classes inside of it."""

    read: set[str]
    """Those of globals that it reads."""
    written: set[str]
    """Those of globals that it sets or deletes."""
    attributes: set[str]
    """Those of attributes that it reads."""
    changed: set[str]
    """Those of attributes that it sets or deletes."""


def names(code: types.CodeType) -> Names:
    """Find the names in code.

    Parameters
    ----------
    code
        Of a function.

    Returns
    -------
    Names
        By what is done with them.
    """
    found = Names(set(), set(), set(), set())
    own: set[str] = set()  # the names of a class inside
    for operation, argument in _steps(code):
        if operation in _NAMES:
            name = _name(code, operation, argument)
            (own if operation in _IN_A_CLASS else found[_NAMES[operation]]).add(name)
    found.read.difference_update(own)
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            for mine, inner in zip(found, names(each), strict=True):
                mine |= inner  # noqa: PLW2901 - in place
    return found


def captured(func: types.FunctionType) -> dict[str, Any]:
    """Return what a function captured from around it, by name.

    Parameters
    ----------
    func
        The function.

    Returns
    -------
    dict
        Without what has no value yet.
    """
    cells = zip(func.__code__.co_freevars, func.__closure__ or (), strict=True)
    return {name: cell.cell_contents for name, cell in cells if cell != types.CellType()}


def defaults(func: types.FunctionType) -> dict[str, Any]:
    """Return the default values of a function's arguments, by name.

    Parameters
    ----------
    func
        The function.

    Returns
    -------
    dict
        Of positional and of keyword arguments.
    """
    code, values = func.__code__, func.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    return dict(zip(names[len(names) - len(values) :], values, strict=True)) | (func.__kwdefaults__ or {})


def _steps(code: types.CodeType) -> Iterator[tuple[int, int]]:
    """Give instructions, each with its whole argument."""
    wide = 0
    for operation, argument in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument |= wide << 8  # noqa: PLW2901 - so Python writes large arguments
        wide = argument if operation == opcode.EXTENDED_ARG else 0
        if operation != opcode.EXTENDED_ARG:
            yield operation, argument


def _name(code: types.CodeType, operation: int, argument: int) -> str:
    return code.co_names[argument >> _SHIFTS.get(operation, 0)]


def _code_form(code: types.CodeType) -> Form:
    """Write instructions with the constants they load in place of where these are kept."""
    steps: list[tuple[int, int]] = []
    constants: list[Form] = []
    words: list[str] = []
    for operation, argument in _steps(code):
        if operation in _LOADS_A_CONSTANT:
            value = code.co_consts[argument]
            constants.append(_code_form(value) if isinstance(value, types.CodeType) else form(value))
            steps.append((operation, 0))
        elif operation == _STORE_NAME and _name(code, operation, argument) in _OF_THE_SOURCE:
            last, _ = steps.pop()
            del constants[len(constants) - (last in _LOADS_A_CONSTANT) :]
        else:
            steps.append((operation, argument))
            if operation in _HAS_A_NAME:
                steps[-1] = operation, argument & (1 << _SHIFTS.get(operation, 0)) - 1
                words.append(_name(code, operation, argument))
    counts = (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags & ~_HAS_DOCSTRING,
    )
    rest = words, code.co_varnames, code.co_freevars, counts
    return tagged(b"c", repr((steps, rest)).encode(), code.co_exceptiontable, *constants)
