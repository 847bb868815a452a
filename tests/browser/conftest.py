"""Debian's Chromium, driven by playwright. Nothing but the page's own files, or its own site, may be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "tests" / "data"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """A function that opens a page in a new profile, and then requires that it kept to its own files.

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
        own.append(address.rpartition("/")[0] + "/")
        page.goto(address)
        return page

    open_page.asked, open_page.problems = asked, problems
    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
    assert [url for url in asked if not url.startswith(tuple(own))] == []


@pytest.fixture(scope="session")
def programme(tmp_path_factory) -> Path:
    """Speech, then music, then speech: 18 seconds at 16 kHz."""
    parts = []
    for name in ("speech_italian_man", "music_zaz", "speech_french_woman"):
        samples, rate = soundfile.read(DATA / f"{name}.wav", always_2d=True)
        parts.append(soxr.resample(samples.mean(axis=1), rate, 16_000))
    path = tmp_path_factory.mktemp("audio") / "programme.wav"
    soundfile.write(path, np.concatenate(parts), 16_000)
    return path
