"""Could a child import a module of this process, and would it find the same one?

One rule: nothing is imported to find out. A child starts as this process did, and is given its `sys.path`. So it
has the finders of Python, and those that files with ``.pth`` put there when an interpreter starts (packages that are
installed to be edited need some), and lacks what the script did by itself: a hook of its own, a module loaded
from a path, run or made by hand. Where a module belongs to a package that a child can import, and is no
file, that package made it. This room knows modules, and nothing of pickles.
"""

import os
import re
import site
import sys
from collections.abc import Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

_PYTHONS = {"_frozen_importlib", "_frozen_importlib_external", "zipimport", "sitecustomize", "usercustomize"}
_LIBRARIES = {
    "site-packages",
    "dist-packages",
}  # what is found in place of one of these is another release of it
_seen: dict[str, tuple[object, bool]] = {}
_path: list[str] = []


def is_importable(name: str) -> bool:
    """Tell whether a child could import a module; a module that is not there is nobody's question.

    Parameters
    ----------
    name
        Its name.

    Returns
    -------
    bool
        Kept until `sys.path` changes.
    """
    module = sys.modules.get(name)
    if module is None:
        return True
    if _path != sys.path:
        _path[:] = sys.path
        _seen.clear()
    seen = _seen.get(name)
    if seen is None or seen[0] is not module:
        _seen[name] = seen = module, _look(name, module)
    return seen[1]


def _look(name: str, module: Any) -> bool:
    parent = name.rpartition(".")[0]
    if parent and not is_importable(parent):
        return False
    own = getattr(module, "__spec__", None)
    if parent and (own is None or own.name != name):
        return True  # the parent has made it, or given another module this name
    try:
        spec = _found(name, _search_path(parent) if parent else None)
    except Exception:  # noqa: BLE001 - finders of others may do anything
        return True
    if spec is not None:
        return _is_same(module, spec)
    is_made = parent and own is not None and not own.has_location and _is_there(own.loader, name)
    return bool(is_made) or name in _at_start()


def _search_path(package: str) -> Sequence[str] | None:
    module = sys.modules.get(package)
    if module is not None:
        return getattr(module, "__path__", None)
    above = package.rpartition(".")[0]
    spec = _found(package, _search_path(above) if above else None)
    return () if spec is None else spec.submodule_search_locations


def _found(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Ask the finders that a child has."""
    for finder in sys.meta_path:
        if (
            _is_there(finder, name)
            and (spec := finder.find_spec(name, path))
            and _is_there(spec.loader, name)
        ):
            return spec
    return None


def _is_there(part: object, name: str) -> bool:
    """Tell whether a child has a finder or loader: from Python, from its start, or from the package looked for."""
    kind = part if isinstance(part, type) else type(part)
    top = kind.__module__.partition(".")[0]
    return (
        kind.__module__ in _PYTHONS
        or kind is type(None)
        or top == name.partition(".")[0]
        or top in _at_start()
    )


@cache
def _at_start() -> set[str]:
    """Return the words of what is run when an interpreter starts."""
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    files = [file for folder in folders for file in Path(folder).glob("*.pth")]
    lines = [line for file in files for line in file.read_text("utf-8", "replace").splitlines()]
    return {word for line in lines if line.startswith("import") for word in re.findall(r"\w+", line)}


def _is_same(module: Any, spec: ModuleSpec) -> bool:
    file = getattr(module, "__file__", None)
    is_folder = spec.origin is None and spec.submodule_search_locations is not None
    if not isinstance(file, str) or not (spec.has_location or is_folder):
        return True  # a part of Python, a package without a file, or what a module put in its own place
    own = os.path.realpath(file)
    return own == os.path.realpath(spec.origin or "") or not _LIBRARIES.isdisjoint(own.split(os.sep))
