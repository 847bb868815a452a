from __future__ import annotations

import numpy as np
import pytest

from ms_edge.classifier import WindowScores, vote
from ms_edge.metadata import Decision

LABELS = ("speech", "music")
EXCLUSIVE = Decision("exclusive", ())
INDEPENDENT = Decision("independent", (0.5, 0.6))


def ask(rows, decision, silent=None):
    found = WindowScores(np.arange(len(rows)), np.array(rows, np.float32), np.array(silent or [False] * len(rows)))
    return vote(found, np.ones(len(rows)), LABELS, decision)


def test_exclusive_label_has_the_largest_mean():
    label, probability, scores, seconds = ask([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]], EXCLUSIVE)
    assert label == "speech"
    assert probability == pytest.approx(17 / 30)
    assert scores == pytest.approx({"speech": 17 / 30, "music": 13 / 30})
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


def test_independent_file_label_has_most_seconds_and_ties_go_to_the_likelier():
    assert ask([[0.6, 0.1], [0.6, 0.1], [0.0, 1.0]], INDEPENDENT)[0] == "speech"
    assert ask([[0.6, 0.1], [0.0, 1.0]], INDEPENDENT)[0] == "music"


def test_silent_windows_do_not_vote_but_have_their_seconds():
    label, probability, scores, seconds = ask([[1.0, 0.0], [0.2, 0.8], [1.0, 0.0]], INDEPENDENT, [True, False, True])
    assert (label, probability) == ("music", pytest.approx(0.8))
    assert scores == pytest.approx({"speech": 0.2, "music": 0.8})
    assert seconds == {"silence": 2.0, "music": 1.0}


@pytest.mark.parametrize("decision", [EXCLUSIVE, INDEPENDENT])
def test_silence_alone_is_silence_and_still_has_scores(decision):
    label, probability, scores, seconds = ask([[0.5, 0.5]], decision, [True])
    assert (label, probability, seconds) == ("silence", 1.0, {"silence": 1.0})
    assert scores == {"speech": 0.5, "music": 0.5}
