"""What a function's code does: the same after comments, layout and docstrings were changed.

One rule: only what is executed counts, that is the instructions, the names, and the
constants that they load. Its docstring is a constant that no function loads. This
room knows functions and nothing of who compares them.
"""

import opcode
import types
from typing import Any

from ._canonical import Form, form, tagged

_HAS_DOCSTRING = 0x4000000  # a flag of Python 3.14 and later
_LOADS_A_CONSTANT = frozenset(opcode.hasconst)


def body_form(func: Any) -> Form | None:
    """Write what a function does, behind decorators that say what they wrap, too.

    Parameters
    ----------
    func
        The function.

    Returns
    -------
    bytes or None
        ``None`` if there is no Python code to see.
    """
    bodies: list[Form] = []
    seen: set[int] = set()
    while func is not None and id(func) not in seen:
        seen.add(id(func))
        if isinstance(func, types.FunctionType):
            bodies.append(_function_form(func))
        func = getattr(func, "__wrapped__", None)
    return tagged(b"B", *bodies) if bodies else None


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


def _function_form(func: types.FunctionType) -> Form:
    return tagged(b"F", _code_form(func.__code__), form(defaults(func)), form(captured(func)))


def _code_form(code: types.CodeType) -> Form:
    """Write instructions with the constants they load in place of where these are kept."""
    steps: list[tuple[int, int]] = []
    constants: list[Form] = []
    wide = 0
    for operation, argument in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument |= wide << 8  # noqa: PLW2901 - so Python writes large arguments
        wide = argument if operation == opcode.EXTENDED_ARG else 0
        if operation in _LOADS_A_CONSTANT:
            value = code.co_consts[argument]
            constants.append(_code_form(value) if isinstance(value, types.CodeType) else form(value))
            steps.append((operation, 0))
        elif operation != opcode.EXTENDED_ARG:
            steps.append((operation, argument))
    counts = (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags & ~_HAS_DOCSTRING,
    )
    names = code.co_names, code.co_varnames, code.co_freevars, counts
    return tagged(b"c", repr((steps, names)).encode(), code.co_exceptiontable, *constants)
