from __future__ import annotations

import numpy as np
import pytest

from ms_edge.model.metadata import Decision
from ms_edge.timeline import probability_of, seconds_by_label, segments, vote

LABELS = ("speech", "music")
EXCLUSIVE = Decision("exclusive", ())
INDEPENDENT = Decision("independent", (0.5, 0.6))


def ask(rows, decision, silent=None):
    rows, silent = np.array(rows, np.float32), np.array(silent or [False] * len(rows))
    parts = segments(rows, silent, np.arange(len(rows) + 1.0), LABELS, decision, 0.0)
    voting = rows[~silent] if not silent.all() else rows
    scores = dict(zip(LABELS, map(float, voting.mean(axis=0)), strict=True))
    label = vote(parts, scores, decision)
    return label, probability_of(label, scores), seconds_by_label(parts)


def test_exclusive_label_has_the_largest_mean():
    label, probability, seconds = ask([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]], EXCLUSIVE)
    assert label == "speech"
    assert probability == pytest.approx(17 / 30)
    assert seconds == {"speech": 1.0, "music": 2.0}


@pytest.mark.parametrize(
    ("row", "label", "probability"),
    [
        ([0.9, 0.1], "speech", 0.9),
        ([0.1, 0.9], "music", 0.9),
        ([0.8, 0.7], "speech+music", 0.7),
        ([0.3, 0.2], "other", 0.7),
        ([0.1, 0.55], "other", 0.45),
    ],
)
def test_independent_labels_follow_their_thresholds(row, label, probability):
    found = ask([row], INDEPENDENT)
    assert found[0] == label
    assert found[1] == pytest.approx(probability)


def test_independent_file_label_has_most_seconds():
    assert ask([[0.6, 0.1], [0.6, 0.1], [0.0, 1.0]], INDEPENDENT)[0] == "speech"
    assert ask([[0.6, 0.1], [0.0, 1.0]], INDEPENDENT)[0] == "music"


def test_silent_windows_have_seconds_but_no_vote():
    label, probability, seconds = ask([[1.0, 0.0], [0.2, 0.8], [1.0, 0.0]], INDEPENDENT, [True, False, True])
    assert (label, probability) == ("music", pytest.approx(0.8))
    assert seconds == {"silence": 2.0, "music": 1.0}


@pytest.mark.parametrize("decision", [EXCLUSIVE, INDEPENDENT])
def test_silence_alone_is_silence(decision):
    assert ask([[0.5, 0.5]], decision, [True]) == ("silence", 1.0, {"silence": 1.0})
