"""How Sphinx builds the docs: offline, from these pages and the docstrings of the package."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

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

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"thread-chunks {release}"
html_show_copyright = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["book.css"]


class BothSchemes(SphinxTransform):
    """Put the dark version of each of our pictures beside the light one; the theme shows one of them."""

    default_priority = 200  # before Sphinx looks which files the images are

    def apply(self, **_: Any) -> None:
        """Pages name ``NAME-light.svg``, so that they can be read without Sphinx, too."""
        for light in list(self.document.findall(nodes.image)):
            if light["uri"].endswith("-light.svg"):
                dark = light.deepcopy()
                dark["uri"] = light["uri"].replace("-light.svg", "-dark.svg")
                light["classes"] += ["only-light", "picture"]
                dark["classes"] += ["only-dark", "picture"]
                light.parent.insert(light.parent.index(light) + 1, dark)


def setup(app: Sphinx) -> None:
    """Show pictures in both schemes, and keep napoleon away from fields.

    It takes whatever stands before a colon for their type.
    """
    kept: dict[str, list[str]] = {}

    def keep(_app: Sphinx, what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
        if what in {"attribute", "data"}:
            kept[name] = list(lines)

    def restore(_app: Sphinx, _what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
        if name in kept:
            lines[:] = kept.pop(name)

    app.add_transform(BothSchemes)
    app.connect("autodoc-process-docstring", keep, priority=400)  # napoleon comes at 500
    app.connect("autodoc-process-docstring", restore, priority=600)
