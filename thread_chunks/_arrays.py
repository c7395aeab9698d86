"""What arrays, frames, tensors and the like consist of: values that lie in memory in one way or another.

One rule: where something lies, in which blocks or in which file, is no part of it. What pickle writes of such
values may depend on that. No library but NumPy is imported here: a class is known by its name. This room knows nothing of how
parts are put together.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def is_compiled(kind: type) -> bool:
    """Tell whether objects of a class are functions that numba compiled; what pickle writes of them is new each time."""
    return is_theirs(kind, "numba", "Dispatcher")


def is_theirs(kind: type, library: str, *names: str) -> bool:
    """Tell whether a class is one of a library's, or made of it, without importing the library."""
    return any(
        each.__name__ in names and str(getattr(each, "__module__", "")).partition(".")[0] == library
        for each in kind.__mro__
    )


def of_array(value: Any) -> Iterator[Any]:
    kind, array = type(value), np.asarray(value)
    yield kind
    yield array.dtype.type, array.dtype.names or array.dtype.str, array.shape
    if issubclass(kind, np.ndarray) and kind.__reduce__ not in {
        np.ndarray.__reduce__,
        np.ma.MaskedArray.__reduce__,
    }:
        yield _beside_data(value.__reduce__(), array.shape)
    if issubclass(kind, np.ma.MaskedArray):
        fill = np.ma.default_fill_value(array.dtype) if value._fill_value is None else value._fill_value  # noqa: SLF001 - the property would set it
        yield np.ma.getmaskarray(value), np.array(fill).astype(array.dtype)
    if array.dtype.names is not None:
        yield from (np.asarray(array[name]) for name in array.dtype.names)
    elif array.dtype.kind not in "biufcmMSUV":  # of objects, or of texts of any length
        yield from array.ravel().tolist()
    else:
        digest = hashlib.blake2b(digest_size=32)
        for piece in array_bytes(array):
            digest.update(piece)
        yield digest.digest()


def _beside_data(reduced: Any, shape: tuple[int, ...]) -> Any:
    """Return what a subclass keeps beside the array itself, which is compared by value."""
    match reduced:
        case (int(), tuple() as own, np.dtype(), bool() | int(), *_) if own == shape:
            return None
        case np.ndarray():
            return np.asarray(reduced)
        case tuple() | list():
            return [_beside_data(each, shape) for each in reduced]
    return reduced


def array_bytes(array: Any) -> Sequence[Any]:
    """Give the values of an array as bytes; every NaN is the same one, and padding does not count."""
    if array.dtype.kind == "c":
        return (*array_bytes(array.real), *array_bytes(array.imag))
    if array.dtype.kind == "f":
        if array.dtype.itemsize > np.dtype("f8").itemsize:
            return [repr(array.astype(array.dtype.newbyteorder("=")).ravel().tolist()).encode()]
        is_nan = np.isnan(array)
        if is_nan.any():
            array = np.where(is_nan, array.dtype.type("nan"), array).astype(array.dtype)
    return [np.ascontiguousarray(array).reshape(-1).view(np.uint8)]


def is_pandas(value: Any) -> bool:
    """Tell whether a value is a frame, series, index or array of pandas, without importing pandas."""
    return is_theirs(type(value), "pandas", "DataFrame", "Series", "Index", "ExtensionArray")


def of_frame(value: Any) -> Iterator[Any]:
    """Take a frame, series or index apart: how its blocks lie in memory is not part of its value."""
    kind = type(value)
    # The values of a range are those of any other index. A series takes other names for labels.
    yield (
        next(each for each in kind.__mro__ if each.__name__ == "Index")
        if kind.__name__ == "RangeIndex"
        else kind
    )
    if hasattr(kind, "columns"):
        yield value.columns
        for number in range(len(value.columns)):
            yield value.iloc[:, number].dtype, value.iloc[:, number].to_numpy()
    else:
        yield value.dtype, value.to_numpy()
    for name in ("names", "name", "index", "freq", "attrs"):
        if hasattr(kind, name):
            found = getattr(value, name)
            yield name, str(found) if name == "freq" else list(found) if name == "names" else found
    if hasattr(kind, "flags") and hasattr(kind, "attrs"):
        yield value.flags.allows_duplicate_labels
    if hasattr(kind, "iloc"):
        own = getattr(kind, "_metadata", ())  # what a subclass declares to be kept
        yield [getattr(value, name, None) for name in own if name not in {"_name", "name"}]


def of_labelled(value: Any) -> list[Any] | None:
    """Take apart what xarray holds, which may be read from a file only when it is asked for; not where Dask has it."""
    kind = type(value)
    if is_theirs(kind, "xarray", "Dataset"):
        return [kind, dict(value.variables), frozenset(value.coords), dict(value.attrs)]
    if is_theirs(kind, "xarray", "DataArray"):
        coordinates = {name: each.variable for name, each in value.coords.items()}
        return [kind, value.name, value.variable, coordinates]
    if type(value._data).__module__.partition(".")[0] == "dask":  # noqa: SLF001 - to look at its values would compute them
        return None
    return [kind, value.dims, np.asarray(value.values), dict(value.attrs)]


def of_tensor(value: Any) -> Iterator[Any]:
    plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    yield type(value)
    yield str(value.dtype), tuple(value.shape), bool(value.requires_grad), str(value.device)
    yield plain.reshape(-1).view(sys.modules["torch"].uint8).numpy() if plain.numel() else None
    yield {name: each for name, each in vars(value).items() if not name.startswith("_")}
