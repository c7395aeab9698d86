"""How Sphinx builds the docs: offline, from these pages and the docstrings of the package."""

from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from thread_chunks import __version__

project = "thread-chunks"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

# Single backticks in docstrings are names: linked where they are documented, plain where not.
default_role = "py:obj"
python_maximum_signature_line_length = 88

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True  # attributes are listed with their class, not documented a second time

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"thread-chunks {release}"
html_show_copyright = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["book.css"]


class Picture(SphinxDirective):
    """Show a picture of ``_static`` in the reader's colour scheme; the words below its name stand in its place."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return an image for each scheme; the theme shows one of them."""
        words = " ".join(self.content)
        pictures: list[nodes.Node] = []
        for scheme in ("light", "dark"):
            file = f"_static/{directives.uri(self.arguments[0])}-{scheme}.svg"
            pictures.append(nodes.image(uri=file, alt=words, classes=[f"only-{scheme}", "picture"]))
        return pictures


def setup(app: Sphinx) -> None:
    """Add `Picture`, and keep napoleon away from fields: it takes whatever stands before a colon for their type."""
    kept: dict[str, list[str]] = {}

    def keep(_app: Sphinx, what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
        if what in {"attribute", "data"}:
            kept[name] = list(lines)

    def restore(_app: Sphinx, _what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
        if name in kept:
            lines[:] = kept.pop(name)

    app.add_directive("picture", Picture)
    app.connect("autodoc-process-docstring", keep, priority=400)  # napoleon comes at 500
    app.connect("autodoc-process-docstring", restore, priority=600)
