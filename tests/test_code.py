"""Changed code: what is a change of a function's own code, what is none, and which lambdas are the same."""

import functools
import os
import shutil
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Programs, noted

from thread_chunks import CheckpointRestartedWarning, FunctionChangedWarning, ThreadWorker, chunk

pytestmark = pytest.mark.usefixtures("_quiet", "_tidy")

PACKAGES = os.pathsep.join([str(Path(__file__).parent.parent)])


def made(source: str, name: str = "f", **values: Any) -> Callable[..., Any]:
    """Define a function as a script would."""
    module = types.ModuleType("script")
    names = vars(module)
    names.update(functools=functools, **values)
    exec(compile(source, "script.py", "exec"), names)  # noqa: S102 - our own source
    function: Callable[..., Any] = names[name]
    SCRIPTS.append((function, module))
    return function


SCRIPTS: list[tuple[Any, types.ModuleType]] = []  # with what each defined: a run of it is one of its script


def seen(path: Path, *functions: Any) -> list[type[Warning]]:
    """Run functions one after the other on one file; return what the last run warned of."""
    for func in functions:
        for each, module in SCRIPTS:
            if each is func:
                sys.modules["script"] = module
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            chunk(func, [[1], [2]], path=path, worker=ThreadWorker, chunk_size=1)
    return [each.category for each in caught]


ONE = "def f(x):\n    return x + 1\n"

SAME: dict[str, tuple[str, str]] = {
    "comment": (ONE, "def f(x):\n    # plus one\n    return x + 1  # here\n"),
    "lines": (ONE, "\n\n\nimport os\n\n\ndef f(\n    x,\n):\n\n    return (\n        x\n        + 1\n    )\n"),
    "new docstring": (ONE, 'def f(x):\n    """Add one."""\n    return x + 1\n'),
    "edited docstring": ('def f(x):\n    """Add."""\n    return x + 1\n', 'def f(x):\n    """Add one."""\n    return x + 1\n'),
    "docstring beside None": ("def f(x):\n    print(end='')\n", 'def f(x):\n    """Show."""\n    print(end="")\n'),
    "docstring of an inner function": (
        "def f(x):\n    def g():\n        return x\n    return g()\n",
        'def f(x):\n    def g():\n        """Give x."""\n        return x\n    return g()\n',
    ),
    "annotations": (ONE, "def f(x: int) -> int:\n    return x + 1\n"),
}  # fmt: skip

CHANGED: dict[str, tuple[str, str]] = {
    "constant": (ONE, "def f(x):\n    return x + 2\n"),
    "type of a constant": (ONE, "def f(x):\n    return x + 1.0\n"),
    "operator": (ONE, "def f(x):\n    return x - 1\n"),
    "name": ("def f(x):\n    return abs(x)\n", "def f(x):\n    return int(x)\n"),
    "default": ("def f(x, y=1):\n    return x + y\n", "def f(x, y=2):\n    return x + y\n"),
    "new default": ("def f(x):\n    return x\n", "def f(x, y=2):\n    return x\n"),
    "keyword default": ("def f(x, *, y=1):\n    return x + y\n", "def f(x, *, y=2):\n    return x + y\n"),
    "text that is no docstring": ("def f(x):\n    return 'a'\n", "def f(x):\n    return 'b'\n"),
    "inner function": (
        "def f(x):\n    def g():\n        return x\n    return g()\n",
        "def f(x):\n    def g():\n        return x, 1\n    return g()\n",
    ),
    "inner lambda": (
        "def f(x):\n    return (lambda y: y)(x)\n", "def f(x):\n    return (lambda y: y + 1)(x)\n",
    ),
    "what try covers": (
        "def f(x):\n    try:\n        abs(x)\n    except ValueError:\n        pass\n    abs(x)\n",
        "def f(x):\n    try:\n        abs(x)\n        abs(x)\n    except ValueError:\n        pass\n",
    ),
    "decorated": (
        f"{{wrap}}@wrap\n{ONE}", "{wrap}@wrap\ndef f(x):\n    return x + 2\n",
    ),
    "decorator": (
        f"{{wrap}}@wrap\n{ONE}", f"{{other}}@wrap\n{ONE}",
    ),
    "cached": (
        f"@functools.lru_cache\n{ONE}", "@functools.lru_cache\ndef f(x):\n    return x + 2\n",
    ),
    "captured": (
        "def make(k):\n    def f(x):\n        return x + k\n    return f\nf = make(1)\n",
        "def make(k):\n    def f(x):\n        return x + k\n    return f\nf = make(2)\n",
    ),
}  # fmt: skip

WRAP = "def wrap(g):\n    @functools.wraps(g)\n    def h(*args):\n        return g(*args)\n    return h\n"
OTHER = WRAP.replace("return g(*args)", "return [g(*args)]")


def filled(source: str) -> str:
    return source.replace("{wrap}", WRAP).replace("{other}", OTHER)


@pytest.mark.parametrize("name", SAME)
def test_function_is_the_same_when_only_its_text_changed(name: str, tmp_path: Path) -> None:
    """Comments, layout, docstrings and annotations are no change of its code."""
    one, other = SAME[name]
    assert seen(tmp_path / "c.pkl", made(one), made(other)) == []


@pytest.mark.parametrize("name", CHANGED)
def test_function_resumes_with_a_warning_when_its_own_code_changed(name: str, tmp_path: Path) -> None:
    """Constants, names, defaults, inner functions, what is decorated and what is captured are its own code."""
    one, other = map(filled, CHANGED[name])
    assert seen(tmp_path / "c.pkl", made(one), made(one)) == []
    assert seen(tmp_path / "c.pkl", made(one), made(other)) == [FunctionChangedWarning]


LAMBDAS: dict[str, tuple[str, str]] = {
    "constants": ("f = lambda x: x + 1", "f = lambda x: x + 2"),
    "types of constants": ("f = lambda x: x + 1", "f = lambda x: x + 1.0"),
    "constants True and 1": ("f = lambda x: (x, 1)", "f = lambda x: (x, True)"),
    "signs of zero": ("f = lambda x: (x, 0.0)", "f = lambda x: (x, -0.0)"),
    "text": ("f = lambda x: 'a'", "f = lambda x: 'b'"),
    "defaults": ("f = lambda x, y=1: x + y", "f = lambda x, y=2: x + y"),
    "keyword defaults": ("f = lambda x, *, y=1: x + y", "f = lambda x, *, y=2: x + y"),
    "captured values": ("f = (lambda k: lambda x: x + k)(1)", "f = (lambda k: lambda x: x + k)(2)"),
    "inner lambdas": ("f = lambda x: (lambda y: y)(x)", "f = lambda x: (lambda y: -y)(x)"),
    "names": ("f = lambda x: abs(x)", "f = lambda x: int(x)"),
    "arguments": ("f = lambda *x: x", "f = lambda x: x"),
}


@pytest.mark.parametrize("name", LAMBDAS)
@pytest.mark.parametrize("mode", ["restart", "reuse"])
def test_lambdas_never_share_results_when_they_differ(name: str, mode: str, tmp_path: Path) -> None:
    """Whatever two lambdas differ in, the second one is run for every call, under "reuse" too."""
    one, other = (made(source) for source in LAMBDAS[name])
    options: dict[str, Any] = {"worker": ThreadWorker, "chunk_size": 1, "path": tmp_path / "c.pkl"}
    chunk(one, [[1], [2]], **options)
    with pytest.warns(CheckpointRestartedWarning, match="of the lambda"):
        assert list(map(repr, chunk(other, [[1], [2]], on_mismatch=mode, **options))) == [
            repr(other(1)),
            repr(other(2)),
        ]


def test_lambda_is_the_same_when_only_its_text_changed(tmp_path: Path) -> None:
    """Where a lambda stands, and how it is laid out, does not matter."""
    functions = made("f = lambda x: x + 1"), made("\n\n\nf = (\n    lambda x:  # plus one\n    x + 1\n)\n")
    assert seen(tmp_path / "c.pkl", *functions) == []


# --- other versions of Python ----------------------------------------------------------------


def others() -> list[str]:
    """Return other versions of Python that can run the library with the packages that are here."""
    found = []
    for minor in (11, 12, 13, 14):
        name = shutil.which(os.environ.get(f"PYTHON3{minor}", f"python3.{minor}"))
        if name is None or sys.version_info.minor == minor:
            continue
        done = subprocess.run(
            [name, "-c", "import thread_chunks"], capture_output=True, check=False, env=ENVIRONMENT
        )
        if done.returncode == 0:
            found.append(name)
    return found


ENVIRONMENT = os.environ | {"PYTHONPATH": PACKAGES}

PROGRAM = """
    import warnings
    from thread_chunks import chunk

    def note(name):
        with open("execution.log", "a") as log:
            log.write(name + chr(10))
        return True

    def f(x):
        '''Add one.'''
        note("f")
        try:
            return [x + n for n in (1, 2)]
        except ValueError:
            return None

    def make(k):
        return lambda x: note("lambda") and x + k

    for func, path in ((f, "f.pkl"), (make(1), "lambda.pkl")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            chunk(func, [[1], [2]], path=path, progress_bar=False, chunk_size=1)
        print(path, *(f"{each.category.__name__} {each.message}" for each in caught))
"""


def test_named_function_resumes_in_another_python_without_a_warning(programs: Programs) -> None:
    """A new Python compiles the same text to other code: no change of a function, and nothing that a lambda survives."""
    source = programs.write(PROGRAM)
    other_pythons = others()
    for number, python in enumerate([sys.executable, *other_pythons]):
        done = subprocess.run(
            [python, source], capture_output=True, text=True, check=True, env=ENVIRONMENT, cwd=programs.folder
        )
        named, *lambdas = done.stdout.splitlines()
        assert named == "f.pkl"
        assert ("a lambda has no name" in lambdas[0]) == bool(number), done.stdout
        assert ("compiled the saved one and Python 3." in lambdas[0]) == bool(number)
    log = noted(programs.folder / "execution.log")
    assert log.count("f") == 2
    assert log.count("lambda") == 2 * (1 + len(other_pythons))


LAMBDA = """
    from thread_chunks import chunk
    print(chunk(lambda x: x {} 1, [[0], [1]], path="c.pkl", progress_bar=False, chunk_size=1))
"""


def test_lambdas_never_share_results_when_another_python_made_the_same_instruction(
    programs: Programs,
) -> None:
    """The instruction of ``x == 1`` in Python 3.11 is that of ``x < 1`` in Python 3.12, but for its padding."""
    programs.run(LAMBDA.format("=="))
    for python in others():
        source = programs.write(LAMBDA.format("<"))
        done = subprocess.run(
            [python, source], capture_output=True, text=True, check=True, env=ENVIRONMENT, cwd=programs.folder
        )
        assert done.stdout == "[True, False]\n"


@pytest.mark.parametrize("mode", ["restart", "reuse"])
def test_lambda_of_another_python_starts_afresh_and_says_why(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a lambda is the same cannot be told across versions: its results are set aside, and a name is advised."""
    path = tmp_path / "c.pkl"
    options: dict[str, Any] = {"path": path, "worker": ThreadWorker, "chunk_size": 1}
    chunk(made("f = lambda x: x + 1"), [[1]], **options)
    newer = sys.version_info.major, sys.version_info.minor + 1
    monkeypatch.setattr("thread_chunks._parts._PYTHON", newer)
    monkeypatch.setattr("thread_chunks._identity._PYTHON", newer)
    with pytest.warns(
        CheckpointRestartedWarning, match=rf"Python 3\.{newer[1] - 1} compiled .* Python 3\.{newer[1]} this"
    ):
        chunk(made("f = lambda x: x + 1"), [[1]], on_mismatch=mode, **options)
    assert (tmp_path / "c.pkl.bak").exists()


def test_function_of_another_python_resumes_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that another Python compiled is not compared, so a named function has not changed."""
    path = tmp_path / "c.pkl"
    assert seen(path, made(ONE)) == []
    newer = sys.version_info.major, sys.version_info.minor + 1
    monkeypatch.setattr("thread_chunks._identity._PYTHON", newer)
    assert seen(path, made("def f(x):\n    return x + 2\n")) == []
