"""Every public name is explained where it stands: what it takes, where it runs, and an example that runs, too."""

import ast
import doctest
import inspect
import itertools
import operator
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import engines

import thread_chunks
from thread_chunks import messages

NAMES = sorted(thread_chunks.__all__)
CLASSES = [name for name in NAMES if inspect.isclass(getattr(thread_chunks, name))]
WORKERS = ["Worker", "ProcessWorker", "ThreadWorker", "ExecutorWorker", "RayWorker"]
PLACES = re.compile(r"\b(thread|threads|process|processes|child|children)\b")


def docstring(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def in_a_thread(text: str) -> bool:
    return re.search(r"\bthreads?\b", text) is not None


def blocks(text: str) -> bool:
    return re.search(r"\bblock", text, re.IGNORECASE) is not None


def section(text: str, title: str) -> str:
    """Return what stands below a heading of a docstring."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def heads(text: str) -> list[tuple[str, str]]:
    """Return the names that a section explains, those together that it explains together, and their types."""
    return re.findall(r"^(\*{0,2}\w[\w, *]*?)(?: : (.*))?$", text, re.MULTILINE)


def named(text: str) -> set[str]:
    """Return the names that a section explains."""
    return {name.strip().strip("*") for head, _ in heads(text) for name in head.split(",")}


def own_methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class of ours lets others call."""
    for name, member in vars(kind).items():
        function = getattr(member, "__func__", member)
        if inspect.isfunction(function) and (not name.startswith("_") or name == "__call__"):
            yield name, function


def own_attributes(kind: type) -> Iterator[str]:
    """Yield the public values of a class of ours and of its objects, those of base classes excepted."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    made = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    for each in itertools.chain(node.body, *(function.body for function in made)):
        if isinstance(each, (ast.Assign, ast.AnnAssign)):
            for target in each.targets if isinstance(each, ast.Assign) else [each.target]:
                name = ast.unparse(target).removeprefix("self.")
                if not name.startswith("_"):
                    yield name


def example_code(text: str) -> str:
    """Return the code of the examples of a docstring."""
    return "\n".join(re.findall(r"^(?:>>>|\.\.\.) (.*)$", text, re.MULTILINE))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=engines(example_code(docstring(getattr(thread_chunks, name)))))
        for name in NAMES
    ],
)
def test_example_of_a_public_name_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each name that the package exports has an example, and each of its examples does what it shows, in an empty folder."""
    thing = getattr(thread_chunks, name)
    assert ">>> " in section(docstring(thing), "Examples")
    tests = doctest.DocTestFinder(recurse=inspect.isclass(thing)).find(thing, name, globs={})
    runner = doctest.DocTestRunner()
    for number, test in enumerate(tests):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        test.globs = {"__name__": "__main__"}
        runner.run(test)
    assert runner.tries > 0
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


@pytest.mark.parametrize("name", CLASSES)
def test_public_class_explains_what_its_objects_have(name: str) -> None:
    """Each public attribute is explained where the class is, or one that it derives from, and each property in itself."""
    kind = getattr(thread_chunks, name)
    texts = [docstring(each) for each in kind.__mro__ if each.__module__.startswith("thread_chunks")]
    explained = set[str]().union(
        *(named(section(text, title)) for text in texts for title in ("Parameters", "Attributes"))
    )
    assert sorted(set(own_attributes(kind)) - explained) == []
    for base in kind.__mro__:
        for attribute, member in vars(base).items():
            if isinstance(member, property) and not attribute.startswith("_"):
                assert attribute in explained or docstring(member), attribute


@pytest.mark.parametrize("name", NAMES)
def test_what_a_public_name_takes_and_has_is_of_a_type(name: str) -> None:
    """Each parameter and attribute that is explained by itself has its type beside it."""
    thing = getattr(thread_chunks, name)
    texts = [docstring(thing)]
    if inspect.isclass(thing):
        texts += [docstring(method) for each, method in own_methods(thing) if not each.startswith("on_")]
    for text in texts:
        for title in ("Parameters", "Attributes"):
            untyped = [head for head, kind in heads(section(text, title)) if not kind]
            assert [head for head in untyped if "," not in head] == []  # several are as they are elsewhere


@pytest.mark.parametrize(
    "name", [name for name in CLASSES if issubclass(getattr(thread_chunks, name), BaseException)]
)
def test_exception_says_where_it_is_raised(name: str) -> None:
    """Each error and warning names the thread in which one meets it."""
    assert in_a_thread(docstring(getattr(thread_chunks, name)))


@pytest.mark.parametrize("name", ["chunk", "Chunker", "Checkpoint", *WORKERS])
def test_what_runs_says_where_and_whether_it_blocks(name: str) -> None:
    """What does work names the thread or process it does it in; so does each of its methods that waits."""
    thing = getattr(thread_chunks, name)
    everything = docstring(thing) + "".join(docstring(method) for _, method in own_methods(thing))
    assert PLACES.search(docstring(thing))
    assert blocks(everything)


@pytest.mark.parametrize(
    "name",
    [
        "chunk",
        "Chunker.__call__",
        "Chunker.as_completed",
        "Chunker.close",
        "Checkpoint.load",
        "Checkpoint.loadifparams",
        "Checkpoint.update_save",
        "Worker.run",
        "Worker.wait_released",
        "RayWorker.wait_released",
        *(f"{worker}.execute" for worker in WORKERS),
    ],
)
def test_what_waits_says_so(name: str) -> None:
    """Who calls one of these knows that it blocks, and which thread."""
    text = docstring(operator.attrgetter(name)(thread_chunks))
    assert in_a_thread(text)
    assert blocks(text)


def test_numbers_have_units_and_reasons() -> None:
    """Each number of `config` is explained below its name, in the unit that ends it."""
    units = {"seconds": "seconds", "bytes": "bytes", "chars": "characters"}
    config = thread_chunks.config
    body = ast.parse(Path(str(config.__file__)).read_text(encoding="utf-8")).body
    assigned = [node for node in body if isinstance(node, ast.AnnAssign)]
    assert len(assigned) > 20
    for node in assigned:
        following = body[body.index(node) + 1]
        assert isinstance(following, ast.Expr), ast.unparse(node)
        assert isinstance(following.value, ast.Constant), ast.unparse(node)
        name, text = ast.unparse(node.target), str(following.value.value)
        assert len(text.split()) > 5, name
        assert units.get(name.rpartition("_")[2], "") in text.lower(), name


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
