"""The pictures of the book are those that its script draws, and can be read by all."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
DRAWN = sorted((DOCS / "_static").glob("*.svg"))


def test_pictures_are_what_the_script_draws(tmp_path: Path) -> None:
    """Drawn anew, from the tables of the pages as they are, each is the committed one, byte by byte."""
    subprocess.run([sys.executable, str(DOCS / "pictures" / "draw.py"), str(tmp_path)], check=True)
    drawn = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert drawn == {file.name: file.read_bytes() for file in DRAWN}


@pytest.mark.parametrize("picture", DRAWN, ids=lambda picture: str(picture.name))
def test_picture_stands_alone(picture: Path) -> None:
    """It says in words what it shows, and takes nothing from the network."""
    text = picture.read_text(encoding="utf-8")
    root = ET.fromstring(text)  # noqa: S314 - it is our own
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text
    assert text.count("://") == 1, "the name space is the only address"


def test_pictures_are_shown_in_both_schemes() -> None:
    """Each picture has a light and a dark file, and a page that shows it."""
    names = {file.name.removesuffix("-light.svg") for file in DRAWN if file.name.endswith("-light.svg")}
    assert {file.name for file in DRAWN} == {
        f"{name}-{scheme}.svg" for name in names for scheme in ("light", "dark")
    }
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    assert [name for name in sorted(names) if f"(_static/{name}-light.svg)" not in pages] == []
