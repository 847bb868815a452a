"""`ms-edge report`: pages of recordings, readable without JavaScript, whatever a file is called."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest

from ms_edge.cli.main import main
from ms_edge.report.sound import Peaks

DATA = "tests/data"


def embedded(page: str) -> dict:
    """The data that a page gives to its script."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_page_shows_what_classify_finds(tmp_path, capsys):
    page_path = tmp_path / "report.html"
    assert main(["report", f"{DATA}/music_zaz.wav", "-o", str(page_path)]) == 0
    page = page_path.read_text("utf-8")
    main(["classify", "--timeline", "--format", "jsonl", f"{DATA}/music_zaz.wav"])
    record = json.loads(capsys.readouterr().out)
    assert embedded(page)["segments"] == [
        [each["start_s"], each["end_s"], each["label"], round(each["probability"], 4)] for each in record["segments"]
    ]
    assert "<td>0.000</td><td>6.000</td>" in page
    assert "<svg" in page
    assert 'aria-hidden="true">M</span>music' in page


def test_directory_gets_index_and_pages(tmp_path, capsys):
    assert main(["report", f"{DATA}/music_zaz.wav", f"{DATA}/nothing.wav", "-o", f"{tmp_path}/"]) == 1
    index = (tmp_path / "index.html").read_text("utf-8")
    assert 'href="pages/tests/data/music_zaz.wav.html"' in index
    assert "2 recordings" in index
    assert "nothing.wav: no such file" in html.unescape(index)
    assert (tmp_path / "pages/tests/data/music_zaz.wav.html").exists()
    assert "nothing.wav" in capsys.readouterr().err


@pytest.mark.parametrize("block", [1, 37, 320, 5000, 100_000])
def test_peaks_do_not_depend_on_blocks(block):
    samples = np.random.default_rng(0).uniform(-1, 1, 50_123).astype(np.float32)
    most = 100
    whole, parts = Peaks(16_000, most), Peaks(16_000, most)
    whole.add(samples)
    for start in range(0, len(samples), block):
        parts.add(samples[start : start + block])
    assert whole.bin_s == parts.bin_s
    assert (whole.values() == parts.values()).all()
    size = round(whole.bin_s * 16_000)
    expected = [np.abs(samples[start : start + size]).max() * 255 for start in range(0, len(samples), size)]
    assert (whole.values() == np.round(expected)).all()
    assert len(expected) <= most + 1
