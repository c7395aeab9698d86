"""Draw all pictures of the book: ``python docs/pictures/draw.py`` writes them to ``docs/_static``.

Another folder may be named. Nothing is measured here; ``python docs/pictures/timeline.py`` makes the run anew that
one of them shows.
"""

import sys
from pathlib import Path

from diagrams import actors, layout_of_the_file, life_of_a_call
from plots import growth, speeds, timeline

PICTURES = {
    "actors": actors,
    "life-of-a-call": life_of_a_call,
    "layout-of-the-file": layout_of_the_file,
    "timeline": timeline,
    "speeds": speeds,
    "growth": growth,
}


def main() -> None:
    """Write each in both colour schemes."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).resolve().parent.parent / "_static"
    for name, draw in PICTURES.items():
        draw().save(folder, name)


if __name__ == "__main__":
    main()
