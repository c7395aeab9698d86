"""The documents tell the truth: every code block runs, and so does every example."""

import itertools
import os
import re
import shutil
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import Programs, engines

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OPTIONS = {"sweep.py": ["--quick"], "on_dask.py": ["--quick"]}


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of one language, as they stand in a page."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=str(page.relative_to(ROOT)), marks=engines("".join(blocks(page, "python"))))
        for page in PAGES
    ],
)
def test_page_runs_and_prints_what_it_shows(page: Path, programs: Programs) -> None:
    """The Python blocks of a page are one program that runs without a warning; a text block right behind one is its output."""
    text = page.read_text(encoding="utf-8")
    assert text.strip()
    pairs = re.findall(
        r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", text + "\n", re.DOTALL | re.MULTILINE
    )
    if not pairs:
        return
    mark = "-- the next block --"
    program = "\n".join(f"{code}print({mark!r}, flush=True)" for code, _ in pairs)
    printed = programs.run(program, env={"MPLBACKEND": "agg"}).stdout.split(f"{mark}\n")
    for (code, shown), output in zip(pairs, printed, strict=False):
        if shown:
            assert _steady(output) == _steady(shown), code


def _steady(text: str) -> list[str]:
    """Leave out what differs from run to run: process numbers, times, and in which folder a file lies."""
    lines = [re.sub(r"(/[\w.-]+)+/", "", line.rstrip()) for line in text.strip().splitlines()]
    return [re.sub(r"\d+\.\d+|\d{4,}", "#", line) for line in lines]


def from_examples(mark: str, language: str) -> list[tuple[str, str]]:
    """Return what pages say is from an example: its name, and the block behind the mark."""
    pattern = rf"^<!-- {mark} examples/(\S+) -->\n```{language}\n(.*?)^```"
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    return re.findall(pattern, pages, re.DOTALL | re.MULTILINE)


def test_pages_show_what_examples_print(programs: Programs, tmp_path: Path) -> None:
    """Where a page says that an example prints something, it does, but for numbers and the order of lines."""
    shown = from_examples("output of", "text")
    assert shown
    for name, text in shown:
        printed = programs.run(None, str(ROOT / "examples" / name), cwd=tmp_path).stdout
        plain, wanted = (sorted(re.sub(r"[\d.]+", "#", each).split("\n")) for each in (printed, text))
        assert plain == wanted


def test_pages_quote_examples_as_they_are() -> None:
    """Where a page says that a block is from an example, it is, letter by letter but for how far it is indented."""
    quoted = from_examples("from", "py")
    assert len(quoted) > 5
    for name, code in quoted:
        example = (ROOT / "examples" / name).read_text(encoding="utf-8")
        assert code in example or textwrap.indent(code, "    ") in example, name


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=example.name, marks=engines(example.read_text(encoding="utf-8")))
        for example in EXAMPLES
    ],
)
def test_example_runs(example: Path, programs: Programs, tmp_path: Path) -> None:
    """Each example runs by itself in an empty folder, and runs again on what it left there."""
    for _ in range(2):
        done = programs.run(
            None, str(example), *OPTIONS.get(example.name, []), env={"MPLBACKEND": "agg"}, cwd=tmp_path
        )
        assert done.stdout.strip()
        assert "Traceback" not in done.stderr


def test_examples_are_there() -> None:
    """The sweep of the README exists, and so do four kinds of worker and a script that reads a checkpoint."""
    workers = {f"{kind}_worker.py" for kind in ("logging", "retrying", "resource", "command")}
    assert {example.name for example in EXAMPLES} >= {"sweep.py", "inspect_checkpoint.py"} | workers


def test_readme_holds_the_two_set_up_commands() -> None:
    """Two bash blocks of one line each: set up and run the sweep; add what the tests need and run them."""
    first, second = blocks(ROOT / "README.md", "bash")
    for command in (first, second):
        assert command.count("\n") == 1
        assert not command.startswith("$")
    assert "venv" in first
    assert "examples/sweep.py" in first
    assert "[test]" in second
    assert "pytest" in second


def test_pages_link_only_to_files_that_exist() -> None:
    """A relative link of a page leads to a file of the repository."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_repository_holds_no_unfinished_work() -> None:
    """No open notes, no skipped and no expected failures anywhere in code, tests, examples and documents."""
    marks = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", r"mark\.sk" + "ip", "xf" + r"ail\("]))
    for folder in ("thread_chunks", "tests", "examples", "docs"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".md"} and "_build" not in file.parts:
                assert not marks.search(file.read_text(encoding="utf-8")), file


def test_interpreter_is_new_enough_for_the_documents() -> None:
    """The programs above run with the interpreter of the tests."""
    assert sys.version_info >= (3, 11)
    assert shutil.which(sys.executable) or os.path.exists(sys.executable)


def test_links_have_words() -> None:
    """A link can be read where the page is not built: it has a text of its own."""
    assert [page.name for page in PAGES if "[](" in page.read_text(encoding="utf-8")] == []


def test_pages_follow_each_other() -> None:
    """The table of contents names every page once, and each page ends with what to read next: first the page behind it."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.DOTALL | re.MULTILINE)
    order = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert sorted([*order, "index"]) == sorted(page.stem for page in PAGES if page.parent.name == "docs")
    for name, following in itertools.zip_longest(order, order[1:], fillvalue="overview"):
        *_, last = (
            (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8").partition("\n## What to read next\n\n")
        )
        assert "\n#" not in last, f"{name}: what to read next is not its end"
        assert re.findall(r"\]\(([^)#]+)", last)[:1] == [f"{following}.md"], name


def test_links_lead_to_headings_that_exist() -> None:
    """A link into a page names one of its headings."""
    for page in PAGES:
        for target, anchor in re.findall(
            r"\]\(([\w./-]*\.md)?#([^)\s]+)\)", page.read_text(encoding="utf-8")
        ):
            other = page.parent / target if target else page
            assert anchor in _anchors(other), f"{page.name}: {target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """Return the names of the headings of a page, as they stand in links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.lower())) for title in titles}


def test_figures_of_the_readme_are_those_of_the_page_on_performance() -> None:
    """Each of its seconds stands in the table there, in the line of the same task."""
    table = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8").splitlines()
    tasks = {
        "1,000,000 calls of `x + y`, saved": "1,000,000 of them, saved and synced",
        "20,000 calls of `x + y`, saved": "20,000 calls of `x + y`, saved and synced",
        "3,000 results of 10 kB, saved": "3,000 results of 10 kB, saved and synced",
        "200 calls of 5 ms": "200 calls of 5 ms of pure Python, cold",
        "60 results of 8 MB": "60 results of 8 MB",
        "three trivial calls, saved: the whole process": "three trivial calls, saved: the whole process",
    }
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for task, there in tasks.items():
        (cells,) = re.findall(rf"^\| {re.escape(task)} \|(.*)$", text, re.MULTILINE)
        seconds = re.findall(r"\d+\.\d+", cells)
        (line,) = [row for row in table if row.startswith(f"| {there} |")]
        assert len(seconds) > 1
        assert [each for each in seconds if f"{each} s" not in line] == []
