"""Pickle what other processes cannot import so that any of them can read it: classes as references.

cloudpickle takes a class apart; what is made of that here is a reference: where the class can be looked up, its number, and beside
them its definition. One rule: whoever has the class never looks at the definition, so that one costs its bytes and
no more; and it is written once in a run, however many results or parameters refer to it. A function that goes to a worker brings
the definitions of its classes in it, as they share its globals. How references are read is known to `_classes`. This room
runs in the child, and imports cloudpickle late.
"""

from __future__ import annotations

import types
from io import BytesIO  # as it was before any call could replace it

from . import _classes, _code, _script

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import, and only type checkers need it
    import pickle
    from collections.abc import Callable
    from typing import Any

    from ._classes import Place

PROTOCOL = 5
DIGEST_BYTES = 16  # of a class: enough to see any change


def dumps(value: Any) -> bytes:
    """Pickle the head of a checkpoint so that any process can read it; its functions as they are now."""
    _script.let_travel()
    out = BytesIO()
    pickler()(out).dump(value)
    return out.getvalue()


def dumps_result(value: Any, buffer_callback: Callable[[pickle.PickleBuffer], bool] | None) -> bytes:
    """Pickle a result so that any process can read it: functions of the script are those of who reads it, too."""
    _script.let_travel()
    out = BytesIO()
    pickler()(out, buffer_callback, names_functions=True).dump(value)
    return out.getvalue()


def pickler() -> Any:
    """Return the pickler, a class; it is made when it is first needed, as that takes cloudpickle."""
    if not _picklers:
        import functools
        import weakref
        from collections import ChainMap

        import cloudpickle

        own = {functools.cached_property: _reduce_cached_property}
        table = ChainMap(own, cloudpickle.Pickler.dispatch_table)
        _kept.append(weakref.WeakKeyDictionary())
        _classes.when_changed.append(renew)
        _picklers.append(type("Pickler", (References, cloudpickle.Pickler), {"dispatch_table": table}))
    return _picklers[0]


def renew() -> None:
    """Look at classes again that were pickled before: they may have changed, as when a run begins."""
    for kept in _kept:
        kept.clear()


_picklers: list[Any] = []
_kept: list[Any] = []  # a dict of what classes were pickled to, and of their digests


class _Ours:
    """A function of `_classes`, pickled so that a child finds it without the package that it is in."""

    def __init__(self, called: Callable[..., Any] | None = None) -> None:
        self.called = called

    def __call__(self) -> None:
        """Be what a pickler takes for a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        import importlib

        if self.called is None:
            return importlib.import_module, (_classes.__name__,)
        return getattr, (_ROOM, self.called.__name__)


_ROOM = _Ours()
_REFERENCE, _FUNCTION = _Ours(_classes.reference), _Ours(_classes.function)
_SKELETON, _COMPLETE = _Ours(_classes.skeleton), _Ours(_classes.complete)


class References:
    """Has a pickler of cloudpickle write references in place of classes that cannot be imported.

    In a definition there are none: all classes that it needs are defined in it, as they may need each
    other. And for the digest of one, `root`, the numbers of the others stand for them.
    """

    has_versions = False  # what goes to workers has, and results have not

    def __init__(
        self,
        out: Any,
        buffer_callback: Any = None,
        *,
        is_inline: bool = False,
        names_functions: bool = False,
        root: Any = None,
    ) -> None:
        super().__init__(out, PROTOCOL, buffer_callback)  # type: ignore[call-arg]  # of cloudpickle
        self.is_inline, self.names_functions, self.root = is_inline, names_functions, root
        self.others: list[type] = []  # the classes that `root` needs

    def reducer_override(self, value: Any) -> Any:
        """Say how a value is pickled; any but a few builtin ones."""
        is_class = issubclass(type(value), type)
        if is_class and not self.is_inline and (found := self._found(value)) is not None:
            return _REFERENCE, found
        reduced = super().reducer_override(value)  # type: ignore[misc]  # of cloudpickle
        match reduced:
            case make, tuple() as args, state, *_ if is_class:
                return self._class(value, make, args, state)
            case (*_,) if isinstance(value, types.FunctionType):
                return self._function(value, reduced)
        return reduced

    def _class(self, kind: type, make: Any, args: tuple[Any, ...], state: Any) -> Any:
        is_enum = make.__name__ == "_make_skeleton_enum"
        if not is_enum:
            args, state = _with_slots(kind, args, state)
        number: str = args[-2]
        if self.root is not None and self.root is not kind:
            self.others.append(kind)
            return str, (number,)
        if self.root is not None:
            return make, args, state, None, None, _COMPLETE
        place = _place(kind, number)
        version = None
        if self.has_versions:
            version = _classes.this_process(), self._digest(kind), place is not None
        if self.is_inline:
            head = place, number, version, is_enum, args
            return _SKELETON, head, (number, state), None, None, _COMPLETE
        found = place, number, version, self._definition(kind, place)
        _kept[0].setdefault(kind, {})[type(self)] = found
        return _REFERENCE, found

    def _found(self, kind: type) -> Any:
        """Return what a class was pickled to in this run."""
        try:
            return _kept[0].get(kind, {}).get(type(self))
        except TypeError:  # one whose own class has no hash
            return None

    def _function(self, func: types.FunctionType, reduced: Any) -> Any:
        if not self.names_functions or not is_named(func):
            return reduced
        place = _classes.place_of(func)
        return _FUNCTION, (place, self._definition(func, place))

    def _definition(self, value: Any, place: Place) -> bytes | None:
        try:
            return self._alone(value)
        except Exception:
            if self.has_versions or place is None:
                raise
            return None  # it can be looked up, as what is imported is

    def _digest(self, kind: type) -> bytes:
        """Return a digest of a class and of all that it needs: whoever has it looks at none of their definitions."""
        found = _kept[0].setdefault(kind, {})
        if "digest" not in found:
            needed, digests = {id(kind): kind}, b""
            while len(digests) < len(needed) * DIGEST_BYTES:
                own, others = self._own_digest(list(needed.values())[len(digests) // DIGEST_BYTES])
                digests += own
                needed.update((id(other), other) for other in others)
            found["digest"] = _hash(digests)
        return found["digest"]  # type: ignore[no-any-return]

    def _own_digest(self, kind: type) -> tuple[bytes, list[type]]:
        """Return a digest of a class by itself, and the classes that it needs."""
        found = _kept[0].setdefault(kind, {})
        if "own digest" not in found:
            out = BytesIO()
            pickler = type(self)(out, is_inline=True, root=kind)
            pickler.dump(kind)  # type: ignore[attr-defined]  # of cloudpickle
            found["own digest"] = _hash(out.getvalue()), pickler.others
        return found["own digest"]  # type: ignore[no-any-return]

    def _alone(self, value: Any) -> bytes:
        out = BytesIO()
        type(self)(out, is_inline=True).dump(value)  # type: ignore[attr-defined]  # of cloudpickle
        return out.getvalue()


def _hash(data: bytes) -> bytes:
    import hashlib

    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _reduce_cached_property(value: Any) -> tuple[Any, ...]:
    """Leave the lock out that it has in Python 3.11."""
    return type(value), (value.func,), {"attrname": value.attrname, "__doc__": value.__doc__}


def is_named(func: types.FunctionType) -> bool:
    """Tell whether a function can be looked up by name where it was defined."""
    return func in _code.named or _classes.looked_up(*_classes.place_of(func)) is func


def _place(kind: type, number: str) -> Place:
    """Return where a class can be looked up by whoever has the module in which it was defined."""
    place = _classes.place_of(kind)
    return place if _classes.is_named(number) or _classes.looked_up(*place) is kind else None


def _with_slots(kind: type, args: tuple[Any, ...], state: Any) -> tuple[tuple[Any, ...], Any]:
    """Add what cloudpickle leaves out of a class: its qualified name, and that it has slots."""
    own, (attributes, slots) = vars(kind), state
    namespace = {**args[3], "__qualname__": kind.__qualname__}
    if "__slots__" in own and not issubclass(kind, tuple):  # which has no places for any
        places = [name for name, each in own.items() if type(each) is types.MemberDescriptorType]
        kinds = {name: type(own.get(name)) for name in ("__dict__", "__weakref__")}
        others = [name for name, each in kinds.items() if each is types.GetSetDescriptorType]
        namespace["__slots__"] = (*places, *others)
        attributes = {name: each for name, each in attributes.items() if name not in places}
    if "__class__" in attributes:  # as of a proxy: no class takes that later
        namespace["__class__"] = attributes["__class__"]
        attributes = {name: each for name, each in attributes.items() if name != "__class__"}
    return (*args[:3], namespace, *args[4:]), (attributes, slots)
