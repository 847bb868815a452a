"""Sphinx configuration of the documentation site: `make docs-site` builds it into build/docs-site."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

import ms_edge

project = "ms-edge"
author = "the authors of ms-edge"
release = version = ms_edge.__version__
copyright = "the authors; MIT licence"

sys.path.insert(0, str(Path(__file__).parent))  # for try_page

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "try_page"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
exclude_patterns = ["examples/*"]

smartquotes = False  # `--option` is no dash
nitpicky = True
nitpick_ignore_regex = [
    # The site links to no other site's index, since a build needs no network.
    (r"py:.*", r"(numpy|np|onnxruntime|collections|datetime|os|pathlib|typing|dataclasses|IO)\b.*"),
    (r"py:.*", r"(NDArray|ArrayLike|float32|Float32|Any|Channels|Exception|Source)"),
]
default_role = "code"  # docstrings mark code with single backticks
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_type_aliases = {"Source": "Source"}  # not the long union of NumPy's ArrayLike

html_theme = "furo"
html_title = f"ms-edge {release}"
html_theme_options = {"navigation_with_keys": True}


def setup(app: Sphinx) -> None:
    """Prepare pages and docstrings for Sphinx."""

    def named(app: Sphinx, page: str, source: list[str]) -> None:
        """Name files outside docs/ instead of linking them: the site does not contain them."""
        source[0] = re.sub(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)", r"\1 (`\2`)", source[0])

    def escaped(app: Sphinx, kind: str, name: str, obj: object, options: object, lines: list[str]) -> None:
        """Keep stars as they are: docstrings use them for shapes and products, not for emphasis."""
        lines[:] = [re.sub(r"(`[^`]*`)|\*", lambda found: found[1] or r"\*", line) for line in lines]

    app.connect("source-read", named)
    app.connect("autodoc-process-docstring", escaped)
