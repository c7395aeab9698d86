"""The canvas: boxes, arrows and words, written down as SVG in two colour schemes.

One rule: colours have names of what they mean, and only this room knows which colour that is on light
and on dark paper. The paper itself is left clear. Lengths are in pixels; pictures are narrow, so that their
words can be read on a phone.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

SCHEMES: Final = {
    "light": {
        "ink": "#1f2933",
        "soft": "#5b6875",
        "line": "#b6c0ca",
        "box": "#eef3f8",
        "ours": "#1b6ca8",
        "saved": "#2b7a4b",
        "lost": "#c2362b",
        "other": "#8a5a00",
        "tint": "#d6e6f4",
    },
    "dark": {
        "ink": "#e4e9ee",
        "soft": "#9aa7b4",
        "line": "#4a5663",
        "box": "#1d2730",
        "ours": "#6cb4ee",
        "saved": "#6fcf97",
        "lost": "#ff8a80",
        "other": "#e3b341",
        "tint": "#1f3a52",
    },
}
FONT: Final = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
CODE: Final = "ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace"


class Point(NamedTuple):
    """A place on the canvas."""

    x: float
    y: float


class Canvas:
    """Collect what is drawn; `save` writes it once for each colour scheme.

    Parameters
    ----------
    title
        What the picture shows, for those who cannot see it.
    width, height
        In pixels.
    """

    def __init__(self, title: str, width: int, height: int) -> None:
        self.title = title
        self.width = width
        self.height = height
        self._parts: list[str] = []

    def words(
        self,
        at: Point,
        text: str,
        colour: str = "ink",
        *,
        anchor: str = "middle",
        size: float = 11.5,
        is_bold: bool = False,
        is_code: bool = False,
    ) -> None:
        """Write text, its lines one below the other."""
        font = f' font-family="{CODE}"' if is_code else ""
        weight = ' font-weight="600"' if is_bold else ""
        for number, line in enumerate(text.splitlines()):
            self._parts.append(
                f'<text x="{at.x:g}" y="{at.y + 14 * number:g}" fill="{{{colour}}}" text-anchor="{anchor}"'
                f' font-size="{size:g}"{font}{weight}>{_braced(escape(line))}</text>'
            )

    def box(
        self,
        corner: Point,
        size: Point,
        lines: Sequence[str] = (),
        *,
        fill: str = "box",
        edge: str = "line",
        is_dashed: bool = False,
    ) -> None:
        """Draw a box with words in it, the first line bold."""
        dash = ' stroke-dasharray="4 3"' if is_dashed else ""
        paint = "none" if fill == "none" else f"{{{fill}}}"
        self._parts.append(
            f'<rect x="{corner.x:g}" y="{corner.y:g}" width="{size.x:g}" height="{size.y:g}" rx="5"'
            f' fill="{paint}" stroke="{{{edge}}}"{dash}/>'
        )
        top = corner.y + size.y / 2 - 8 * len(lines) + 12
        for number, line in enumerate(lines):
            place = Point(corner.x + size.x / 2, top + 16 * number)
            self.words(
                place, line, "soft" if number else "ink", size=11.5 if number else 13, is_bold=not number
            )

    def line(self, start: Point, end: Point, colour: str = "line", *, is_dashed: bool = False) -> None:
        """Draw a line."""
        dash = ' stroke-dasharray="3 3"' if is_dashed else ""
        self._parts.append(
            f'<line x1="{start.x:g}" y1="{start.y:g}" x2="{end.x:g}" y2="{end.y:g}" stroke="{{{colour}}}"{dash}/>'
        )

    def arrow(self, start: Point, end: Point, colour: str = "ink") -> None:
        """Draw a line with a head at its end."""
        self._parts.append(
            f'<line x1="{start.x:g}" y1="{start.y:g}" x2="{end.x:g}" y2="{end.y:g}" stroke="{{{colour}}}"'
            f' stroke-width="1.4" marker-end="url(#{colour})"/>'
        )

    def curve(self, points: Sequence[Point], colour: str = "ink", *, has_head: bool = False) -> None:
        """Draw a line through points, with a head if one is wanted."""
        path = " ".join(f"{point.x:g},{point.y:g}" for point in points)
        head = f' marker-end="url(#{colour})"' if has_head else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{{{colour}}}" stroke-width="1.6"{head}/>'
        )

    def dot(self, at: Point, colour: str, shape: str = "circle", radius: float = 4.5) -> None:
        """Draw a mark of one of the shapes circle, ring, square, diamond, cross, bar."""
        x, y, r = at.x, at.y, radius
        line = f'fill="none" stroke="{{{colour}}}" stroke-width="1.6"'
        shapes = {
            "circle": f'<circle cx="{x:g}" cy="{y:g}" r="{r:g}" fill="{{{colour}}}"/>',
            "ring": f'<circle cx="{x:g}" cy="{y:g}" r="{r - 0.5:g}" {line}/>',
            "square": f'<rect x="{x - r + 1:g}" y="{y - r + 1:g}" width="{2 * r - 2:g}" height="{2 * r - 2:g}" {line}/>',
            "diamond": f'<path d="M{x - r:g} {y:g}L{x:g} {y - r:g}L{x + r:g} {y:g}L{x:g} {y + r:g}Z" {line}/>',
            "cross": f'<path d="M{x - r + 1:g} {y - r + 1:g}l{2 * r - 2:g} {2 * r - 2:g}m0 {2 - 2 * r:g}l{2 - 2 * r:g} {2 * r - 2:g}" {line}/>',
            "bar": f'<path d="M{x:g} {y - r:g}V{y + r:g}" {line}/>',
        }
        self._parts.append(shapes[shape])

    def number(self, at: Point, value: int) -> None:
        """Draw the number of a step in a disc."""
        self._parts.append(f'<circle cx="{at.x:g}" cy="{at.y:g}" r="8.5" fill="{{ours}}"/>')
        self._parts.append(
            f'<text x="{at.x:g}" y="{at.y + 3.8:g}" text-anchor="middle" font-size="10.5" font-weight="600"'
            f' fill="{{number}}">{value}</text>'
        )

    def svg(self, scheme: str) -> str:
        """Return the picture in one colour scheme."""
        colours = SCHEMES[scheme] | {"number": "#ffffff" if scheme == "light" else "#101820"}
        heads = "".join(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L8 4L0 8Z" fill="{colours[name]}"/></marker>'
            for name in ("ink", "ours", "saved", "lost", "soft")
        )
        body = "\n".join(part.format(**colours) for part in self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}"'
            f' height="{self.height}" font-family="{FONT}" role="img">\n'
            f"<title>{escape(self.title)}</title>\n<defs>{heads}</defs>\n{body}\n</svg>\n"
        )

    def save(self, folder: Path, name: str) -> None:
        """Write ``NAME-light.svg`` and ``NAME-dark.svg``."""
        for scheme in SCHEMES:
            (folder / f"{name}-{scheme}.svg").write_text(self.svg(scheme), encoding="utf-8")


def _braced(text: str) -> str:
    """Keep braces of the text from being taken for colours."""
    return text.replace("{", "{{").replace("}", "}}")
