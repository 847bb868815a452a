"""Documents of HTML that run their own scripts and no others."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from string import Template

from ms_edge.report.drawing import PATTERNS

WAVESURFER = ("wavesurfer.min.js", "regions.min.js")  # see `make report-assets`
MEDIA = "media-src 'self' file: data: blob:"


def document(
    template: str,
    scripts: Sequence[str],
    *,
    title: str,
    style: str = "",
    allowed: str = MEDIA,
    sources: str = "",
    **values: str,
) -> str:
    """Return a template of HTML with its head, scripts and values, and the style sheet of all pages.

    The document's Content-Security-Policy allows the `scripts` (JavaScript), the style sheet, to
    which `style` is added, and what the directives in `allowed` name. No other script runs,
    whatever a file name contains, and nothing is fetched from a network. `sources` are further
    sources of scripts. `title` is HTML, as the `values` are.
    """
    hashes = " ".join(f"'sha256-{_digest(each)}'" for each in scripts)
    nonce = _digest("".join([title, *values.values()]))
    policy = (
        f"default-src 'none'; script-src {hashes}{sources and f' {sources}'}; style-src 'nonce-{nonce}'; "
        f"img-src data:; {allowed}; base-uri 'none'; form-action 'none'"
    )
    head = Template(text("head.html")).substitute(
        policy=policy, title=title, nonce=nonce, style=text("report.css") + style
    )
    return Template(template).substitute(
        values,
        head=head,
        patterns=PATTERNS,
        scripts="".join(f"<script>{each}</script>\n" for each in scripts),
    )


@cache
def text(name: str) -> str:
    """Return a file of this package: a template, a style sheet or a script."""
    return resources.files("ms_edge.report").joinpath(name).read_text("utf-8")


def wavesurfer() -> list[str]:
    """Return the scripts of wavesurfer.js, with its licence; none if they are not installed."""
    try:
        licence, *scripts = (text(f"assets/{name}") for name in ("LICENSE", *WAVESURFER))
    except FileNotFoundError:
        return []
    return [f"/*! wavesurfer.js\n{licence.replace('*/', '')}*/\n{scripts[0]}", *scripts[1:]]


def json_of(data: object) -> str:
    """Return JSON that ends no `<script>` element, whatever text is in it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _digest(given: str) -> str:
    return base64.b64encode(hashlib.sha256(given.encode("utf-8")).digest()).decode("ascii")
