"""Pages that may ask only for their own files, or for those of their own site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page


@contextmanager
def watched(chromium: Browser) -> Iterator[Any]:
    """Yield a function that opens a page in a new profile, and then require that it kept to its own files.

    The page is a file, or the address of a site. A script `before` runs before those of the page.
    """
    contexts, problems, asked = [], [], []
    own = ["file:", "data:", "blob:"]

    def open_page(place: Path | str, before: str = "", **options: Any) -> Page:
        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)  # browsers are slow on a machine that does much else
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.add_init_script(before)
        address = place if isinstance(place, str) else place.as_uri()
        own.append(f"{address.rpartition('/')[0]}/")
        page.goto(address)
        return page

    open_page.asked, open_page.problems = asked, problems
    yield open_page
    for context in contexts:
        context.close()
    assert not problems, problems
    strange = [url for url in asked if not url.startswith(tuple(own))]
    assert not strange, strange
