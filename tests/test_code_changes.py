"""Changed settings and helpers: what a function reads in its module is watched, and what changed is said by name."""

import functools
import os
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Programs

from thread_chunks import FunctionChangedWarning, ThreadWorker, chunk
from thread_chunks._identity import identify

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

OTHERS = types.ModuleType("others")
exec(  # noqa: S102 - our own source
    "import functools\n"
    "LIMIT = 1\n"
    "def tool(x):\n    return x + LIMIT\n"
    "def plain(g):\n    def h(*args):\n        return tool(g(*args))\n    return h\n"
    "def polite(g):\n    @functools.wraps(g)\n    def h(*args):\n        return tool(g(*args))\n    return h\n"
    "class Timed:\n    def __init__(self, g):\n        self.g = g\n    def __call__(self, *args):\n        return self.g(*args)\n"
    "class Wrapped(Timed):\n    def __init__(self, g):\n        functools.update_wrapper(self, g)\n        self.g = g\n",
    OTHERS.__dict__,
)


def scripted(source: str, **values: Any) -> Any:
    """Run a script, and return its ``f``."""
    module = types.ModuleType("script")
    sys.modules["script"] = module  # where it is looked up
    names = vars(module)
    names.update(functools=functools, np=np, others=OTHERS, **values)
    exec(compile(source, "script.py", "exec"), names)  # noqa: S102 - our own source
    MODULES.append((names["f"], module))
    return names["f"]


MODULES: list[tuple[Any, types.ModuleType]] = []  # with what each returned: a run of it is one of its script


def imported(func: Any) -> None:
    """Have names looked up in the version of the script that a function is of."""
    for each, module in MODULES:
        if each is func:
            sys.modules["script"] = module
            sys.modules.setdefault(
                func.__globals__["__name__"] if hasattr(func, "__globals__") else "script", module
            )


def said(path: Path, *functions: Any) -> list[str]:
    """Run functions one after the other on one file; return what the last run warned of."""
    for func in functions:
        imported(func)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            chunk(func, [[1], [2]], path=path, worker=ThreadWorker, chunk_size=1)
    assert {each.category for each in caught} <= {FunctionChangedWarning}
    return [str(each.message) for each in caught]


SCALE = "SCALE = 10\ndef f(x):\n    return x * SCALE\n"
HELPER = "def helper(x):\n    return x + 1\n"
CALLS = f"{HELPER}def f(x):\n    return helper(x)\n"
METHOD = "class Model:\n    rate = 1\n    def fit(self, x):\n        return self.step(x)\n    def step(self, x):\n        return x + 1\n"

NAMED: dict[str, tuple[str, str, str, str]] = {
    "a number": (SCALE, "= 10", "= 100", "SCALE: 10 was saved, 100 now"),
    "its type": (SCALE, "= 10", "= 10.0", "SCALE: 10 was saved, 10.0 now"),
    "a truth": (SCALE, "= 10", "= True", "SCALE: 10 was saved, True now"),
    "a text": (SCALE, "= 10", "= 'ten'", "SCALE: 10 was saved, 'ten' now"),
    "bytes": (SCALE, "= 10", "= b'10'", "SCALE: 10 was saved, b'10' now"),
    "nothing": (SCALE, "= 10", "= None", "SCALE: 10 was saved, None now"),
    "a tuple": (SCALE.replace("10", "(1, (2, 'a'))"), "2", "3", "SCALE: (1, (2, 'a')) was saved, (1, (3, 'a')) now"),
    "a frozenset": (SCALE.replace("10", "len(S)") + "S = frozenset({1})\n", "{1}", "{2}", ""),
    "NumPy's number": (SCALE.replace("10", "np.float64(10)"), "np.float64", "float", "SCALE: "),
    "a long text": (f"{SCALE}".replace("10", f"'{'a' * 500}bb{'a' * 500}'"), "bb", "cc", "SCALE changed"),
    "a name inside": ("K = 1\ndef f(x):\n    return [(lambda y: y + K)(n) for n in range(x)]\n", "K = 1", "K = 2", "K: 1"),
    "a class inside": (
        "K = 1\ndef f(x):\n    class A:\n        k = K\n    return A.k\n", "K = 1", "K = 2", "K: 1 was saved, 2 now",
    ),
    "a text with values": ("K = 1\ndef f(x):\n    return f'{K} {x}'\n", "K = 1", "K = 2", "K: 1 was saved, 2 now"),
    "a match": (
        "class A:\n    K = 1\ndef f(x):\n    match x:\n        case A.K:\n            return 1\n", "K = 1", "K = 2",
        "A.K: 1 was saved, 2 now",
    ),
    "a builtin that has another value": ("__debug = 1\nlicense = 1\ndef f(x):\n    return license\n", "e = 1", "e = 2", "license: 1"),
    "a helper": (CALLS, "x + 1", "x + 2", "helper() changed"),
    "a helper's setting": (CALLS.replace("x + 1", "x + K") + "K = 1\n", "K = 1", "K = 2", "K: 1 was saved, 2 now"),
    "a helper's default": (CALLS.replace("(x):\n    return x", "(x, y=1):\n    return x + y", 1), "y=1", "y=2", "helper() changed"),
    "a helper of a helper": (
        "def last(x):\n    return x\n" + CALLS.replace("x + 1", "last(x)"), "return x\n", "return -x\n", "last() changed",
    ),
    "functions that call each other": (
        "def g(x):\n    return x and h(x - 1)\ndef h(x):\n    return x and g(x - 1)\ndef f(x):\n    return f(0) if x > 9 else g(x)\n",
        "x and g", "x or g", "h() changed",
    ),
    "a lambda": ("g = lambda x: x + 1\ndef f(x):\n    return g(x)\n", "x + 1", "x + 2", "g() changed"),
    "another function of that name": (
        "def a(x):\n    return 1\ndef b(x):\n    return 2\ng = a\ndef f(x):\n    return g(x)\n", "g = a", "g = b", "g() changed",
    ),
    "a cached helper": (f"@functools.lru_cache\n{CALLS}", "x + 1", "x + 2", "helper() changed"),
    "a partial": (f"{HELPER}g = functools.partial(helper)\ndef f(x):\n    return g(x)\n", "x + 1", "x + 2", "g() changed"),
    "a partial's value": (
        "g = functools.partial(pow, 2)\ndef f(x):\n    return g(x)\n", "2)", "3)", "what is bound to g: 2 was saved, 3 now",
    ),
    "a decorated helper": (
        f"def wrap(g):\n    def h(x):\n        return g(x)\n    return h\n@wrap\n{CALLS}", "x + 1", "x + 2", "() changed",
    ),
    "the decorator of a helper": (
        f"def wrap(g):\n    def h(x):\n        return g(x)\n    return h\n@wrap\n{CALLS}", "return g(x)", "return g(-x)", "() changed",
    ),
    "a helper that another module decorates": (f"@others.plain\n{CALLS}", "x + 1", "x + 2", "() changed"),
    "a helper in an object": (f"@others.Timed\n{CALLS}", "x + 1", "x + 2", "helper() changed"),
    "a helper in np.vectorize": (f"@np.vectorize\n{CALLS}", "x + 1", "x + 2", "helper() changed"),
    "a helper in a table": (f"{HELPER}T = {{'a': helper}}\ndef f(x):\n    return T['a'](x)\n", "x + 1", "x + 2", "T() changed"),
    "a helper as a default": (f"{HELPER}def f(x, g=helper):\n    return g(x)\n", "x + 1", "x + 2", "g() changed"),
    "a helper in a cell": (
        f"{HELPER}def make(g):\n    def f(x):\n        return g(x)\n    return f\nf = make(helper)\n", "x + 1", "x + 2", "g() changed",
    ),
    "a captured number": (
        "def make(k):\n    def f(x):\n        return x + k\n    return f\nf = make(1)\n", "(1)", "(2)", "the captured 'k': 1 was saved, 2 now",
    ),
    "a default": ("def f(x, y=1):\n    return x\n", "y=1", "y=2", "the default of 'y': 1 was saved, 2 now"),
    "a method": (f"{METHOD}def f(x):\n    return Model().fit(x)\n", "x + 1", "x + 2", "Model.step() changed"),
    "a method of a base": (
        f"{METHOD}class Sub(Model):\n    pass\ndef f(x):\n    return Sub().fit(x)\n", "x + 1", "x + 2", "Model.step() changed",
    ),
    "a method of a global object": (
        f"{METHOD}M = Model()\ndef f(x):\n    return M.fit(x)\n", "x + 1", "x + 2", "Model.step() changed",
    ),
    "a static method": (
        "class A:\n    @staticmethod\n    def g(x):\n        return x\ndef f(x):\n    return A.g(x)\n", "return x\n", "return 1\n", "A.g() changed",
    ),
    "a property": (
        "class A:\n    @property\n    def g(self):\n        return 1\ndef f(x):\n    return A().g\n", "return 1", "return 2", "A.g() changed",
    ),
    "an operator": (
        "class A:\n    def __add__(self, x):\n        return x\ndef f(x):\n    return A() + x\n", "return x\n", "return 1\n",
        "A.__add__() changed",
    ),
    "a constant of a class": (f"{METHOD}def f(x):\n    return Model.rate\n", "rate = 1", "rate = 2", "Model.rate: 1 was saved, 2 now"),
    "a member of an enumeration": (
        "import enum\nclass Color(enum.Enum):\n    RED = 1\ndef f(x):\n    return Color.RED.value\n", "RED = 1", "RED = 2",
        "Color.RED: 1 was saved, 2 now",
    ),
    "a field of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    n: int = 1\ndef f(x):\n    return P().n\n", "= 1", "= 2",
        "P.n: 1 was saved, 2 now",
    ),
    "a method of the object": (f"{METHOD}f = Model().fit\n", "x + 1", "x + 2", "Model.step() changed"),
    "a method of the class": (
        "class A:\n    @classmethod\n    def fit(cls, x):\n        return cls.g(x)\n    @staticmethod\n    def g(x):\n        return x\nf = A.fit\n",
        "return x\n", "return 1\n", "A.g() changed",
    ),
    "a helper of a callable object": (
        f"{HELPER}class A:\n    def __call__(self, x):\n        return helper(x)\nf = A()\n", "x + 1", "x + 2", "helper() changed",
    ),
    "a helper of a bound function": (f"{CALLS}f = functools.partial(f)\n", "x + 1", "x + 2", "helper() changed"),
    "a helper of a decorated function": (CALLS.replace("def f", "@others.polite\ndef f"), "x + 1", "x + 2", "helper() changed"),
    "a helper of a function in a wrapper": (CALLS.replace("def f", "@others.plain\ndef f"), "x + 1", "x + 2", "helper() changed"),
    "a helper of a cached function": (CALLS.replace("def f", "@functools.lru_cache\ndef f"), "x + 1", "x + 2", "helper() changed"),
    "a helper of a function in an object": (CALLS.replace("def f", "@others.Wrapped\ndef f"), "x + 1", "x + 2", "helper() changed"),
    "a helper of a class": (
        f"{HELPER}class f:\n    def __init__(self, x):\n        self.x = helper(x)\n", "x + 1", "x + 2", "helper() changed",
    ),
    "a helper of a lambda": (f"{HELPER}f = lambda x: helper(x)\n", "x + 1", "x + 2", "helper() changed"),
    "a name that was a list": (SCALE.replace("10", "[0]"), "[0]", "7", "SCALE is new"),
    "a name that is a list now": (SCALE, "10", "[0]", "SCALE is gone"),
    "a table of classes": (
        f"{METHOD}T = {{'a': [(1, Model)]}}\ndef f(x):\n    return T['a'][0][1]().fit(x)\n", "x + 1", "x + 2", "Model.step() changed",
    ),
    "a function of another module": (
        "S = np.sin\ndef f(x):\n    return S(x)\n", "sin", "cos", "S: numpy.sin was saved, numpy.cos now",
    ),
    "a module": ("import math as m\ndef f(x):\n    return m.pi\n", "math", "cmath", "m: math was saved, cmath now"),
    "a class": ("T = int\ndef f(x):\n    return T(x)\n", "int", "float", "T: builtins.int was saved, builtins.float now"),
    "a class of the module": (
        "class A:\n    pass\nclass B:\n    pass\nT = A\ndef f(x):\n    return T is A\n", "T = A", "T = B", "T: A was saved, B now",
    ),
    "a frozen dataclass": (
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass C:\n    k: int\nS = C(1)\ndef f(x):\n    return S.k\n",
        "C(1)", "C(2)", "S: C(k=1) was saved, C(k=2) now",
    ),
    "a named tuple": (
        "import typing\nclass C(typing.NamedTuple):\n    k: int = 1\nS = C()\ndef f(x):\n    return S.k\n", "= 1", "= 2", "C.k: 1 was saved",
    ),
    "a path": ("import pathlib\nP = pathlib.PurePosixPath('a')\ndef f(x):\n    return P\n", "'a'", "'b'", "P: PurePosixPath('a') was"),
    "a date in a tuple": (
        "import datetime\nP = (datetime.date(2026, 1, 1),)\ndef f(x):\n    return P\n", "1, 1", "1, 2", "P: (datetime.date(2026, 1, 1),) was",
    ),
    "a kind of a function": (
        "@functools.singledispatch\ndef g(x):\n    return 0\n@g.register\ndef g_int(x: int):\n    return 1\ndef f(x):\n    return g(x)\n",
        "return 1", "return 2", "g() changed",
    ),
    "a class in a class": (
        "class A:\n    class B:\n        k = 1\ndef f(x):\n    return A.B.k\n", "k = 1", "k = 2", "A.B.k: 1 was saved, 2 now",
    ),
    "a descriptor": (
        "class D:\n    def __get__(self, *args):\n        return 1\nclass A:\n    d = D()\ndef f(x):\n    return A().d\n",
        "return 1", "return 2", "D.__get__() changed",
    ),
    "a method of a metaclass": (
        "class M(type):\n    def g(cls):\n        return 1\nclass A(metaclass=M):\n    pass\ndef f(x):\n    return A.g()\n",
        "return 1", "return 2", "M.g() changed",
    ),
    "a method's bound value": (
        "class A:\n    def g(self, k):\n        return k\n    h = functools.partialmethod(g, 3)\ndef f(x):\n    return A().h()\n",
        "g, 3", "g, 4", "what is bound to A.h: 3 was saved, 4 now",
    ),
    "a method beside a method": (f"{METHOD}O = Model()\ndef call(x):\n    return O.fit(x)\nf = Model.fit\nf = functools.partial(f, O)\n",
        "x + 1", "x + 2", "Model.step() changed",
    ),
    "a helper of a dataclass": (
        f"import dataclasses\n{HELPER}@dataclasses.dataclass\nclass f:\n    x: int\n    def __post_init__(self):\n        self.y = helper(1)\n",
        "x + 1", "x + 2", "helper() changed",
    ),
    "many at once": (
        "A, B, C, D, E = range(5)\ndef f(x):\n    return A, B, C, D, E\n", "range(5)", "range(1, 6)",
        "A: 0 was saved, 1 now; B: 1 was saved, 2 now; C: 2 was saved, 3 now; and 2 more",
    ),
    "a helper that became shorter": (
        CALLS.replace("x + 1", "x + K") + "K = 1\n", "x + K", "x", "helper() changed)",
    ),
}  # fmt: skip
NAMED["a frozenset"] = (
    "S = frozenset({'a'})\ndef f(x):\n    return x in S\n", "'a'", "'b'", "S: frozenset({'a'}) was saved, frozenset({'b'}) now",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_change_outside_of_a_function_is_named(name: str, tmp_path: Path) -> None:
    """A value that a function reads, or a function that it calls, has changed: the warning says which, and how."""
    source, before, after, text = NAMED[name]
    assert source.replace(before, after, 1) != source
    first = scripted(source)
    assert said(tmp_path / "c.pkl", first, scripted(source)) == []
    (message,) = said(tmp_path / "c.pkl", scripted(source.replace(before, after, 1)))
    assert text in message
    assert ": 2 of 2 results in " in message


SAME: dict[str, tuple[str, str, str]] = {
    "comments and layout of a helper": (CALLS, "return x + 1", "# plus\n\n    return (x +\n        1)"),
    "a helper's docstring": (CALLS, "(x):\n", '(x):\n    """Add one."""\n'),
    "a helper's annotations": (CALLS, "(x):\n", "(x: int) -> int:\n"),
    "the order of definition": (
        "A = 1\nB = 2\ndef g(x):\n    return B\ndef f(x):\n    return A, g(x)\n", "A = 1\nB = 2\n", "B = 2\nA = 1\n",
    ),
    "a global that is not read": (f"OTHER = 1\n{SCALE}", "OTHER = 1", "OTHER = 2"),
    "a global that an attribute is called like": (
        "rate = 1\nclass A:\n    rate = 3\ndef f(x):\n    return A.rate\n", "rate = 1", "rate = 2",
    ),
    "a global behind a local name": ("K = 1\ndef f(x):\n    K = x\n    return K\n", "K = 1", "K = 2"),
    "a global behind a name of a class": (
        "K = 1\ndef f(x):\n    class A:\n        K = 5\n        L = K\n    return A.L\n", "K = 1", "K = 2",
    ),
    "a function that is not called": (f"def other():\n    return 1\n{SCALE}", "return 1", "return 2"),
    "a global that the function writes": (
        "N = 1\ndef f(x):\n    global N\n    N = N + 1\n    return x\n", "N = 1", "N = 2",
    ),
    "a global that a helper writes": (
        "N = 1\ndef count():\n    global N\n    N += 1\ndef f(x):\n    count()\n    return N\n", "N = 1", "N = 2",
    ),
    "a helper that is set when it is first needed": (
        "def a(x):\n    return 1\ng = None\ndef f(x):\n    global g\n    g = g or a\n    return g(x)\n", "g = None", "g = a",
    ),
    "an attribute that the function writes": (
        "class A:\n    n = 1\ndef f(x):\n    A.n += 1\n    return x\n", "n = 1", "n = 2",
    ),
    "a list, which calls may fill": ("L = [1]\ndef f(x):\n    return x in L\n", "[1]", "[2]"),
    "a dict, which calls may fill": ("L = {1: 1}\ndef f(x):\n    return x in L\n", "{1: 1}", "{2: 1}"),
    "an array": ("L = np.zeros(3)\ndef f(x):\n    return x in L\n", "zeros", "ones"),
    "a memo of a helper": (
        f"def memo(g):\n    seen = {{}}\n    def h(x):\n        return seen.setdefault(x, g(x))\n    return h\n@memo\n{CALLS}",
        "seen = {}", "seen = {1: 2}",
    ),
    "another module's helper": (
        "exec('def tool(x): return 1', vars(others))\ntool = others.tool\ndef f(x):\n    return tool(x)\n", "return 1", "return 2",
    ),
    "methods that are not called": (
        f"{METHOD}    def other(self):\n        return 1\ndef f(x):\n    return Model().fit(x)\n", "return 1", "return 2",
    ),
    "a constant of a class that is not read": (f"{METHOD}def f(x):\n    return Model().fit(x)\n", "rate = 1", "rate = 2"),
    "where it lies": ("def f(x):\n    return __name__\n", "def f", "__name__ = 'c'\ndef f"),
    "how an object is pickled": (
        f"{METHOD}    def __getstate__(self):\n        return 1\ndef f(x):\n    return Model().fit(x)\n", "return 1", "return 2",
    ),
    "the place and the docstring of a class inside": (
        "def f(x):\n    class A:\n        def g(self):\n            self.a = self.b = x\n            return 1\n    return A().g()\n",
        "    class A:\n", '    # here\n    class A:\n        """What A is."""\n',
    ),
    "a docstring of a decorated function": (
        CALLS.replace("def f(x):\n", "@others.plain\ndef f(x):\n"), "f(x):\n", 'f(x):\n    """Help."""\n',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_change_that_no_result_depends_on_is_not_warned_of(name: str, tmp_path: Path) -> None:
    """Text, what is not read, what calls change, and other people's modules are no change of a function."""
    source, before, after = SAME[name]
    assert source.replace(before, after, 1) != source
    assert said(tmp_path / "c.pkl", scripted(source), scripted(source.replace(before, after, 1))) == []


def test_changed_function_is_said_as_before_and_what_it_reads_beside_it(tmp_path: Path) -> None:
    """Where its own code changed, that comes first; names that only the new code reads are no news."""
    path = tmp_path / "c.pkl"
    (message,) = said(
        path, scripted(SCALE), scripted(SCALE.replace("x * SCALE", "x * SCALE + M") + "M = 1\n")
    )
    assert message.startswith(
        f"the code of 'f' changed: 2 of 2 results in {path} stem from older code and are kept"
    )
    (message,) = said(path, scripted(SCALE.replace("x *", "x +").replace("10", "11")))
    assert message.startswith("the code of 'f' changed (SCALE: 10 was saved, 11 now): 2 of 2 results in ")
    (message,) = said(path, scripted(SCALE.replace("10", "11")))
    assert message.startswith("what 'f' uses changed (SCALE: 10 was saved, 11 now): 2 of 2 results in ")


def test_results_of_code_in_between_are_counted_and_not_named(tmp_path: Path) -> None:
    """A file remembers what the code read that it was begun with; of results of other code it says that they are."""
    path = tmp_path / "c.pkl"
    options: dict[str, Any] = {"path": path, "worker": ThreadWorker, "chunk_size": 1, "on_error": "return"}
    source = "K = 1\ndef f(x):\n    return 1 // (x < K)\n"
    chunk(scripted(source), [[0], [1], [2]], **options)
    with pytest.warns(FunctionChangedWarning, match=r"\(K: 1 was saved, 2 now\): 1 of 1 results"):
        chunk(scripted(source.replace("= 1", "= 2")), [[0], [1], [2]], **options)
    with pytest.warns(FunctionChangedWarning, match=r"\(K: 1 was saved, 3 now\): 2 of 2 results"):
        chunk(scripted(source.replace("= 1", "= 3")), [[0], [1], [2]], **options)
    with pytest.warns(FunctionChangedWarning, match=r"the code of 'f' changed: 2 of 3 results"):
        chunk(scripted(source), [[0], [1], [2]], **options)
    with pytest.warns(FunctionChangedWarning, match=r"\(K: 1 was saved, 2 now\): 2 of 3 results"):
        chunk(scripted(source.replace("= 1", "= 2")), [[0], [1], [2]], **options)


def test_settings_are_compared_when_another_python_compiled_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values are the same in every Python, so a changed one is told; code is not compared."""
    path = tmp_path / "c.pkl"
    source = f"{SCALE}{HELPER}"
    assert said(path, scripted(source)) == []
    newer = sys.version_info.major, sys.version_info.minor + 1
    monkeypatch.setattr("thread_chunks._identity._PYTHON", newer)
    assert said(path, scripted(source.replace("x * SCALE", "x + SCALE"))) == []
    (message,) = said(path, scripted(source.replace("= 10", "= 100")))
    assert message.startswith("what 'f' uses changed (SCALE: 10 was saved, 100 now): 2 of 2 results in ")


def test_code_that_is_not_pythons_has_no_settings() -> None:
    """Nothing can be seen of a builtin function."""
    assert [identify(func).watched for func in (len, np.add, int)] == [(), (), ()]


def test_function_that_wraps_itself_is_read_once() -> None:
    """Circles of decorators, tables and methods end."""
    source = f"{METHOD}T = [Model]\ndef g(x):\n    return T, Model, f(x), g\ng.__wrapped__ = g\nT.append(T)\ndef f(x):\n    return g(x)\n"
    f = scripted(source)
    f.__wrapped__ = f
    assert [each.name for each in identify(f).watched] == ["", "Model", "T", "g()"]


HARM: dict[str, str] = {
    "attributes": "class A:\n    def __getattribute__(self, name):\n        raise RuntimeError\n    __hash__ = None\nP = A()\n",
    "attributes of the class": "class M(type):\n    def __getattribute__(self, name):\n        raise RuntimeError\nclass P(metaclass=M):\n    pass\n",
    "items": "class A(tuple):\n    def __iter__(self):\n        raise RuntimeError\nP = A()\n",
    "a module without a name": "import types\nP = types.ModuleType('P')\ndel P.__name__\n",
    "a deep tuple": "P = ()\nfor n in range(100_000):\n    P = (P,)\n",
    "a deep list": "P = []\nfor n in range(100_000):\n    P = [P]\n",
    "a list of itself": "P = []\nP += [P, (P,), {1: P}] * 2\n",
    "a long list": "P = [object] * 100_000\n",
    "a mock": "import unittest.mock\nP = unittest.mock.call\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_object_that_fails_when_it_is_looked_at_hides_nothing_else(name: str) -> None:
    """Whatever lies behind a global name, the function is still known by its code, and by the rest that it reads."""
    watched = identify(scripted(f"{HARM[name]}K = 1\ndef f(x):\n    return P, K\n")).watched
    assert {"", "K"} <= {each.name for each in watched}


def test_one_name_of_very_many_is_looked_up_alone() -> None:
    """What is watched grows with what is read, and not with the module."""
    many = {f"K{number}": number for number in range(10_000)}
    names = [each.name for each in identify(scripted("def f(x):\n    return K7 + K300\n", **many)).watched]
    assert names == ["", "K300", "K7"]


SCRIPT = """
    import warnings
    from thread_chunks import chunk

    SCALE = 10
    NAMES = frozenset({"a", "b", "c", "d"})

    class Model:
        def fit(self, x):
            return helper(x), x in NAMES

    def helper(x):
        return x + 1

    def scaled(x):
        return Model().fit(x * SCALE)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        print(chunk(scaled, [[1], [2]], path="c.pkl", progress_bar=False, chunk_size=1))
    print(*(each.message for each in caught))
"""


def test_script_that_was_edited_between_two_runs_is_told_what_changed(programs: Programs) -> None:
    """The same in every process, whatever its hashes: silence, or the name of what was edited."""
    output = "[(11, False), (21, False)]\n"
    for seed in ("1", "2"):
        assert programs.run(SCRIPT, env={"PYTHONHASHSEED": seed}).stdout == f"{output}\n"
    told = programs.run(SCRIPT.replace("SCALE = 10", "SCALE = 100").replace("x + 1", "x + 2")).stdout
    kept = f"2 of 2 results in {os.path.realpath(programs.folder)}/c.pkl stem from before that and are kept."
    assert told.startswith(
        f"{output}what 'scaled' uses changed (SCALE: 10 was saved, 100 now; helper() changed): {kept}"
    )
