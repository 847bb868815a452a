"""Praat reads our TextGrid. Not in tests/edge: Praat has no wheel for arm64 Linux, and `tgt` reads the file there."""

from __future__ import annotations

import parselmouth
from test_formats import LONG, MUSIC, SPANS, SPEECH, TIERS, document


def test_praat_reads_the_textgrid(tmp_path):
    path = tmp_path / "out.TextGrid"
    path.write_text(document("textgrid", [LONG]), "utf-8", newline="")
    (tier,) = parselmouth.read(str(path)).to_tgt().tiers
    assert tier.name == "ms-edge"
    assert [(part.start_time, part.end_time, part.text) for part in tier.intervals] == SPANS


def test_praat_reads_tiers_that_overlap(tmp_path):
    path = tmp_path / "out.TextGrid"
    path.write_text(document("textgrid", [TIERS], tiers=True), "utf-8", newline="")
    found = parselmouth.read(str(path))
    tiers = {tier.name: [(part.start_time, part.end_time, part.text) for part in tier] for tier in found.to_tgt().tiers}
    assert tiers == {"speech": SPEECH, "music": MUSIC}
    # Praat's own count, with the empty intervals that to_tgt() leaves out.
    assert [parselmouth.praat.call(found, "Get number of intervals", tier) for tier in (1, 2)] == [2, 4]
