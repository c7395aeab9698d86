"""What a process made of calls, made into outcomes again.

One rule: what came from another process may fail to unpickle, exit, or do anything else, and
then it fails its own call, and no other. This room knows the layout of what travels, and nothing
of the processes.
"""

import contextlib
import io
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from . import _outcome, _wire
from ._trace import traced
from .errors import RemoteError, RemoteTraceback
from .messages import NOT_PICKLED, FailedCall, Outcome, Pickled, Results


def results(
    indices: Sequence[int],
    columns: bytes,
    trace: tuple[float, int, int],
    body: Any,
    buffers: Sequence[Any],
    *,
    durable: bool,
) -> Iterator[Outcome]:
    """Unpickle a group of results; one that cannot be unpickled fails its call, and no other."""
    found, seconds, sizes, checksums = _wire.unpack(columns)
    assert (found[0], found[-1]) == (indices[0], indices[-1])
    pickles = [body] if len(found) == 1 else _wire.parts(body, sizes)
    if buffers and durable:  # not before it arrived: until then others may have written into it
        columns = _wire.single(found[0], seconds[0], body, buffers)
    try:
        outputs = [_loaded(body, buffers, durable)] if buffers else list(map(pickle.loads, pickles))
    except BaseException as error:  # noqa: BLE001 - unpickling runs the user's code
        if len(found) == 1:
            yield FailedCall(indices[0], *_unreadable_result(error))
            return
        traces = zip(*traced(trace, seconds), strict=True)
        for index, taken, pickled, checksum, here in zip(
            found, seconds, pickles, checksums, traces, strict=True
        ):
            alone = _wire.pack((index,), (taken,), (len(pickled),), (checksum,))
            yield from results((index,), alone, here, pickled, (), durable=durable)
        return
    kept = Pickled(columns, body, buffers) if durable else NOT_PICKLED
    yield Results(indices, outputs, seconds, kept, trace, sum(map(_wire.size, (body, *buffers))))


class _ForeignError(Exception):
    """A pickle names something that may write into its buffers while it is unpickled."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] != "numpy":
            raise _ForeignError
        return super().find_class(module, name)


def _loaded(body: Any, buffers: Sequence[Any], durable: bool) -> Any:
    """Unpickle a result with buffers; what will be saved stays as it arrived, whatever a class makes of it."""
    if durable:
        try:
            return _ArrayUnpickler(io.BytesIO(body), buffers=buffers).load()
        except _ForeignError:
            buffers = list(map(bytearray, buffers))
    return pickle.loads(body, buffers=buffers)


def outcome(index: int, value: tuple[Any, ...], *, durable: bool) -> Outcome:
    """Make an outcome of what `_engine.run` returned."""
    kind, *content = value
    if kind == "failed":
        (description,) = content
        return FailedCall(index, rebuilt(*description), description[2])
    columns, trace, body, buffers = content
    # As after any other journey: the user may write into the arrays of a result.
    own = [bytearray(buffer) if memoryview(buffer).readonly else buffer for buffer in buffers]
    (found,) = results((index,), columns, trace, body, own, durable=durable)
    return found


def rebuilt(name: str, message: str, text: str, pickled: bytes | None, _: bool) -> BaseException:
    """Make the exception of a call again, or a stand-in with its name and message."""
    exception: BaseException | None = None
    if pickled is not None:
        with contextlib.suppress(BaseException):  # unpickling runs the user's code
            loaded = pickle.loads(pickled)
            exception = loaded if issubclass(type(loaded), BaseException) else None
    if exception is None or not _outcome.is_sound(exception):
        return stand_in(name, message, text)
    # Not by an assignment: the user's class may refuse attributes.
    BaseException.__setattr__(exception, "__cause__", RemoteTraceback(text))
    return exception


def stand_in(name: str, message: str, text: str) -> RemoteError:
    """Make what is handed on instead of an exception that cannot be."""
    error = RemoteError(f"{name}: {message}", name)
    error.__cause__ = RemoteTraceback(text)
    return error


def _unreadable_result(error: BaseException) -> tuple[BaseException, str]:
    name, message, text = _outcome.describe(error)
    return (
        RemoteError(f"the result of the call cannot be unpickled: {name}: {message}", name),
        str(text),
    )
