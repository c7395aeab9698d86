"""What a child could import goes by name, and what it could not goes by value, however it came to be here."""

import importlib
import sys
import types
from pathlib import Path

import pytest
from conftest import Programs

from thread_chunks._importable import is_importable

MODULE = '''
"""A module somewhere, which names itself, has a class, a global, a helper and a cached function."""
import functools
FACTOR = 3
class Thing:
    count = 0
    def __init__(self, x):
        self.x = x
    def times(self):
        return FACTOR * self.x
def helper(x):
    return Thing(x).times()
def f(x):
    return helper(x) + 1, __name__
@functools.cache
def cached(x):
    return helper(x)
'''

PROGRAM = """
import importlib.abc, importlib.machinery, importlib.util, os, runpy, sys, types
from thread_chunks import chunk, config
config.progress_bar = False
from pathlib import Path
source = Path("source.py").read_text()
os.makedirs("away/package"), os.makedirs("shadow"), os.makedirs("gone"), os.makedirs("space")
for name in ("away/plugin.py", "away/shadowed.py", "gone/gone.py", "away/package/__init__.py", "away/package/part.py",
             "away/run.py"):
    Path(name).write_text(source)
Path("shadow/shadowed.py").write_text("def f(x):\\n    return 'wrong'\\nhelper = cached = Thing = f\\n")

def loaded(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

def by_hand(name):
    module = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
    return module

class Hook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name in {"hooked", "space.hooked"} else None
    def exec_module(self, module):
        exec(source, module.__dict__)

class PathHook:
    def __init__(self, entry):
        if not entry.startswith("hook:"):
            raise ImportError
    def find_spec(self, name, target=None):
        return importlib.machinery.ModuleSpec(name, Hook()) if name == "entry" else None

def imported(name):
    return __import__(name, fromlist=["f"])

sys.meta_path.append(Hook())
sys.path_hooks.append(PathHook)
sys.path.append("hook:")
sys.path.insert(0, os.path.abspath("gone"))
gone = imported("gone")
sys.path.pop(0)
sys.path.insert(0, os.path.abspath("shadow"))
run = types.SimpleNamespace(**runpy.run_path("away/run.py"))
tests = sys.modules["tests"] = types.ModuleType("tests")  # as pytest does in its importlib mode
unlisted = loaded("unlisted", "away/plugin.py")
del sys.modules["unlisted"]
sys.modules["manual"] = by_hand("manual")
MODULES = {
    "from a path": loaded("plugin", "away/plugin.py"),
    "from a path, and in no list": unlisted,
    "from a path, with another one of its name on the path": loaded("shadowed", "away/shadowed.py"),
    "a part of a package from a path": (loaded("package", "away/package/__init__.py"), loaded("package.part", "away/package/part.py"))[1],
    "a part of a package made by hand": loaded("tests.part", "away/plugin.py"),
    "by a hook": imported("hooked"),
    "by a hook, as a part of a package": imported("space.hooked"),
    "by a hook of the path": imported("entry"),
    "from a folder that left the path": gone,
    "run from a path": run,
    "made by hand": sys.modules["manual"],
}

def calls(module, x):
    return module.f(x)

for title, module in MODULES.items():
    def uses(x):
        return module.f(x)[0], module.Thing(x).times()
    if isinstance(module, types.ModuleType):
        assert chunk(uses, [[2]], chunk_size=1) == [(7, 6)], title
    for func, wanted in ((module.f, module.f(2)), (module.cached, 6), (module.Thing.times, 6), (module.Thing, None)):
        argument = module.Thing(2) if func is module.Thing.times else 2
        output, = chunk(func, [[argument]], chunk_size=1)
        if func is module.Thing:
            assert type(output) is module.Thing and output.x == 2, (title, output)
        else:
            assert output == wanted, (title, func, output)
    assert module.Thing.times.__globals__["helper"] is module.helper
print("done", len(MODULES))
"""


def test_what_a_child_could_not_import_travels_by_value(programs: Programs) -> None:
    """Functions, classes and modules that were loaded in an unusual way work in a child, and come back as they are."""
    programs.write(MODULE, "source.py")
    assert programs.run(PROGRAM).stdout == "done 11\n"


def test_what_a_child_can_import_goes_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Programs
) -> None:
    """Packages, parts of packages, namespaces, archives and what others make of themselves are imported there."""
    for name in (
        "plain.py",
        "whole/__init__.py",
        "whole/part.py",
        "space/inner.py",
        "replaces.py",
        "aliases/__init__.py",
    ):
        programs.write("x = 1", name)
    programs.write("import sys, types\nsys.modules[__name__] = type('Other', (), {'x': 1})()", "replaces.py")
    programs.write(
        "import sys, types, json.decoder\nsys.modules['aliases.alias'] = json.decoder\n"
        "sys.modules['aliases.made'] = types.ModuleType('aliases.made')",
        "aliases/__init__.py",
    )
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("plain", "whole.part", "space.inner", "replaces", "aliases"):
        importlib.import_module(name)
    ours = set(sys.modules) - before - {"json", "json.decoder"}
    assert {"plain", "whole", "space", "aliases.alias", "aliases.made"} <= ours
    assert [name for name in ours if not is_importable(name)] == []
    monkeypatch.setattr(sys, "path", sys.path[1:])
    gone = {"plain", "whole", "whole.part", "space.inner"}
    assert {name for name in gone if not is_importable(name)} == gone
    for name in ours:
        del sys.modules[name]


def test_installed_modules_go_by_name() -> None:
    """Nothing that Python brings or that is installed is taken for a module of the script."""
    names = [
        name for name in list(sys.modules) if name.partition(".")[0] in {*sys.stdlib_module_names, *LIBRARIES}
    ]
    assert len(names) > 300
    assert [name for name in names if name != "__main__" and not is_importable(name)] == []


LIBRARIES = {
    "numpy",
    "pytest",
    "_pytest",
    "pluggy",
    "hypothesis",
    "cloudpickle",
    "pykka",
    "tqdm",
    "thread_chunks",
}


def test_module_that_is_not_there_is_nobodys_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another module of that name says counts anew."""
    assert is_importable("not_there_at_all")
    monkeypatch.setitem(sys.modules, "not_there_at_all", types.ModuleType("not_there_at_all"))
    assert not is_importable("not_there_at_all")
