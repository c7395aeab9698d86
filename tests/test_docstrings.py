"""Every public name is explained where it stands: what it takes, where it runs, and an example that runs, too."""

import ast
import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import thread_chunks
from thread_chunks import messages

NAMES = sorted(thread_chunks.__all__)
CLASSES = [name for name in NAMES if inspect.isclass(getattr(thread_chunks, name))]
WORKERS = ["Worker", "ProcessWorker", "ThreadWorker", "ExecutorWorker", "RayWorker"]
PLACES = re.compile(r"\b(thread|threads|process|processes|child|children)\b")


def docstring(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def section(text: str, title: str) -> str:
    """Return what stands below a heading of a docstring."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def named(text: str) -> set[str]:
    """Return the names that a section explains."""
    heads = re.findall(r"^(\*{0,2}\w[\w, *]*?)(?: : .*)?$", text, re.MULTILINE)
    return {name.strip().strip("*") for head in heads for name in head.split(",")}


def own_methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class of ours lets others call."""
    for name, member in vars(kind).items():
        function = getattr(member, "__func__", member)
        if inspect.isfunction(function) and (not name.startswith("_") or name == "__call__"):
            yield name, function


@pytest.mark.parametrize("name", NAMES)
def test_example_of_a_public_name_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each name that the package exports has an example, and all of its examples do what they show."""
    monkeypatch.chdir(tmp_path)
    thing = getattr(thread_chunks, name)
    if not inspect.ismodule(thing):
        assert ">>> " in section(docstring(thing), "Examples")
    tests = doctest.DocTestFinder(recurse=inspect.isclass(thing)).find(thing, name, globs={})
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert sum(len(test.examples) for test in tests) > 0
    for test in tests:
        test.globs = {"__name__": "__main__"}
        runner.run(test)
    assert runner.failures == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_public_name_says_what_it_takes(name: str) -> None:
    """Each parameter of a function, a constructor and a public method is explained, and what comes back."""
    thing = getattr(thread_chunks, name)
    if inspect.ismodule(thing):
        return
    text = docstring(thing)
    if not (inspect.isclass(thing) and issubclass(thing, BaseException)):
        taken = set(inspect.signature(thing.__init__ if inspect.isclass(thing) else thing).parameters) - {
            "self"
        }
        assert sorted(taken - named(section(text, "Parameters") + section(text, "Attributes"))) == []
    for method, function in own_methods(thing) if inspect.isclass(thing) else [(name, thing)]:
        own = docstring(function)
        signature = inspect.signature(function)
        taken = set(signature.parameters) - {"self", "cls"}
        assert own, f"{name}.{method}"
        if not method.startswith("on_"):  # hooks of pykka, which calls them
            assert sorted(taken - named(section(own, "Parameters"))) == [], f"{name}.{method}"
        if signature.return_annotation not in {None, "None", signature.empty} and method != "__call__":
            assert section(own, "Returns") or section(own, "Yields"), f"{name}.{method}"


@pytest.mark.parametrize(
    "name", [name for name in CLASSES if issubclass(getattr(thread_chunks, name), BaseException)]
)
def test_exception_says_where_it_is_raised(name: str) -> None:
    """Each error and warning names the thread in which one meets it, and its attributes."""
    kind = getattr(thread_chunks, name)
    text = docstring(kind)
    assert PLACES.search(text)
    if "__init__" in vars(kind):
        own = set(inspect.signature(kind.__init__).parameters) - {"self", "message"}
        assert sorted(own - named(section(text, "Attributes"))) == []


@pytest.mark.parametrize("name", ["chunk", "Chunker", "Checkpoint", *WORKERS])
def test_what_runs_says_where_and_whether_it_blocks(name: str) -> None:
    """What does work names the thread or process it does it in; so does each of its methods that waits."""
    thing = getattr(thread_chunks, name)
    everything = docstring(thing) + "".join(docstring(method) for _, method in own_methods(thing))
    assert PLACES.search(docstring(thing))
    assert re.search(r"\bblock", everything, re.IGNORECASE)


def test_methods_that_wait_say_so() -> None:
    """Who calls one of these knows that it blocks."""
    chunker, checkpoint = thread_chunks.Chunker, thread_chunks.Checkpoint
    executes = [getattr(thread_chunks, worker).execute for worker in WORKERS]
    waiting = [
        thread_chunks.chunk,
        chunker.__call__,
        chunker.as_completed,
        chunker.close,
        checkpoint.load,
        *executes,
    ]
    for function in waiting:
        assert re.search(r"\bblock", docstring(function), re.IGNORECASE), function


def test_numbers_have_reasons() -> None:
    """Each number of `config` is explained below its name."""
    config = thread_chunks.config
    body = ast.parse(Path(str(config.__file__)).read_text(encoding="utf-8")).body
    assigned = [node for node in body if isinstance(node, ast.AnnAssign)]
    assert len(assigned) > 20
    for node in assigned:
        following = body[body.index(node) + 1]
        assert isinstance(following, ast.Expr), ast.unparse(node)
        assert isinstance(following.value, ast.Constant), ast.unparse(node)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, kind in vars(messages).items()
        if inspect.isclass(kind) and kind.__module__ == messages.__name__
    ],
)
def test_message_explains_its_fields(name: str) -> None:
    """Each message says what it is, and each of its fields has its own words."""
    tree = ast.parse(Path(str(messages.__file__)).read_text(encoding="utf-8"))
    (node,) = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == name]
    assert ast.get_docstring(node)
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
    for field in fields:
        following = node.body[node.body.index(field) + 1 :][:1]
        assert following, f"{name}: {ast.unparse(field)}"
        assert isinstance(following[0], ast.Expr), f"{name}: {ast.unparse(field)}"
