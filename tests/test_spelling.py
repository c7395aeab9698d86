"""Words are spelled right: in the pages, in the docstrings, and in the words of the pictures."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from spellchecker import SpellChecker

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [
    module
    for folder in ("thread_chunks", "examples", "docs/pictures")
    for module in sorted((ROOT / folder).glob("*.py"))
]
PICTURES = sorted((ROOT / "docs" / "_static").glob("*-light.svg"))
WORDS = ROOT / "tests" / "words.txt"
ENGLISH = SpellChecker(language="en")


def own_words() -> list[str]:
    """Return the words that are not in the dictionary and are spelled right."""
    return WORDS.read_text(encoding="utf-8").split()


def prose(file: Path) -> str:
    """Return what of a file is written for people."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        lines = [line for docstring in _docstrings(ast.parse(text)) for line in docstring.splitlines()]
        return "\n".join(line for line in lines if not line.lstrip().startswith((">>>", "...")))
    if file.suffix == ".svg":
        return re.sub(r"<[^>]*>", " ", text)
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def _docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            yield ast.get_docstring(node) or ""


def words(text: str) -> set[str]:
    """Return the words of a text that can be misspelled: no code, no addresses, no names made of several words."""
    for code in (
        r"``.*?``",
        r"`[^`\n]*`",
        r"\]\([^)]*\)",
        r"https?://\S+",
        r"<[^>]*>",
        r"\*\*?\w+(?=,|\n| :)",
    ):
        text = re.sub(code, " ", text, flags=re.DOTALL)
    found = re.findall(r"(?<![\w.@\\-])[A-Za-z]+(?:'[a-z]+)?(?![\w(=\\]|\.\w)", text)
    return {word for word in found if not re.search(r"[a-z][A-Z]", word)}


def unknown(found: set[str]) -> set[str]:
    """Return those that neither the dictionary nor our own list has."""
    stems = {word: re.sub(r"'s$", "", word.lower()) for word in found}
    ours = {word.lower() for word in own_words()}
    missing = ENGLISH.unknown(stems.values())
    return {word for word, stem in stems.items() if stem in missing and stem not in ours}


@pytest.mark.parametrize("file", [*PAGES, *MODULES, *PICTURES], ids=lambda file: str(file.relative_to(ROOT)))
def test_words_are_spelled_right(file: Path) -> None:
    """Each word is in the dictionary, or in tests/words.txt: add it there if it is right."""
    assert sorted(unknown(words(prose(file)))) == []


def test_misspelled_words_are_found() -> None:
    """The test sees a wrong word, and leaves code and names alone."""
    text = "A chekpoint of `fnord(x)` by CheckpointWriter, see [here](ths-page.md). Its actor's [lnk](x)."
    assert unknown(words(text)) == {"chekpoint", "lnk"}


def test_own_words_are_sorted_and_needed() -> None:
    """The list holds no word twice, none that the dictionary has, and none that is written nowhere."""
    listed = own_words()
    assert listed == sorted(set(listed), key=str.lower)
    assert sorted(ENGLISH.known(listed)) == []
    written = {word.lower() for file in [*PAGES, *MODULES, *PICTURES] for word in words(prose(file))}
    written = {re.sub(r"'s$", "", word) for word in written}
    assert [word for word in listed if word.lower() not in written] == []
