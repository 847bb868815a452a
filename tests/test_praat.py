"""Praat reads our TextGrid. Not in tests/edge: Praat has no wheel for arm64 Linux, and `tgt` reads the file there."""

from __future__ import annotations

import parselmouth
from test_formats import LONG, SPANS, document


def test_praat_reads_the_textgrid(tmp_path):
    path = tmp_path / "out.TextGrid"
    path.write_text(document("textgrid", [LONG]), "utf-8", newline="")
    (tier,) = parselmouth.read(str(path)).to_tgt().tiers
    assert tier.name == "ms-edge"
    assert [(part.start_time, part.end_time, part.text) for part in tier.intervals] == SPANS
