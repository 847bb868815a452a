"""Debian's Chromium, driven by playwright. Nothing but the page's own files, or its own site, may be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from playwright.sync_api import Browser, sync_playwright
from watched import watched

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
    """A function that opens a page: see `watched`."""
    with watched(chromium) as open_page:
        yield open_page


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
