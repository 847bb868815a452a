"""Metrics compared with hand calculations, and properties that hold for any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn.metrics import roc_auc_score

from ms_train.evaluation.markdown import measured
from ms_train.scores import calibration
from ms_train.scores.metrics import (
    Answers,
    Confusion,
    Interval,
    accuracies,
    bootstrap,
    confusion,
    measures,
    weighted_roc_auc,
)
from ms_train.signals import noise, with_noise

LABELS = ("speech", "music")


def answers(scores, targets, said=None, recording=None) -> Answers:
    scores, targets = np.array(scores, float), np.array(targets, bool)
    said = said or [LABELS[row.argmax()] for row in scores]
    recording = np.arange(len(scores)) if recording is None else np.array(recording)
    return Answers(scores, targets, tuple(said), recording, LABELS)


BY_HAND = answers(
    [[0.9, 0.2], [0.6, 0.7], [0.2, 0.1], [0.3, 0.8], [0.8, 0.9], [0.4, 0.3]],
    [[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 0]],
    ["speech", "speech+music", "silence", "music", "speech+music", "other"],
)


def test_measures_equal_hand_calculation():
    found = measures(BY_HAND, seed=0, rounds=50)
    assert found.count == 6
    assert found.accuracy.value == 3 / 6
    assert found.largest_score_accuracy.value == 4 / 5  # the last has no true label
    speech, music = (found.labels[label] for label in LABELS)
    assert speech.count == 3
    assert speech.precision.value == speech.recall.value == speech.f1.value == pytest.approx(2 / 3)
    assert speech.roc_auc.value == pytest.approx((3 + 1 + 0 + 1) / 9)  # pairs in the correct order
    assert music.precision.value == 2 / 3
    assert music.recall.value == 1
    assert music.f1.value == 0.8
    assert music.roc_auc.value == 1
    for number in (found.accuracy, speech.f1, music.roc_auc):
        assert number.low <= number.value <= number.high


def test_confusion_holds_the_answers_of_the_runtime():
    assert confusion(BY_HAND) == Confusion(
        truths=["speech", "music", "other"],
        answers=["speech", "music", "speech+music", "other", "silence"],
        counts=[[1, 0, 1, 0, 1], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]],
    )


def test_undefined_measures_have_no_value():
    found = measures(answers([[0.9, 0.1], [0.2, 0.8]], [[1, 0], [1, 0]]), seed=0, rounds=20)
    none = Interval(None, None, None)
    assert found.labels["speech"].roc_auc == found.labels["music"].recall == none
    assert found.labels["speech"].recall.value == 0.5


def test_no_answers_have_no_value():
    found = measures(answers(np.empty((0, 2)), np.empty((0, 2)), []), seed=0)
    assert found.count == 0
    assert found.accuracy.value is None


def test_a_perfect_classifier_and_a_useless_one():
    rng = np.random.default_rng(0)
    targets = np.eye(2)[rng.integers(0, 2, 2000)]
    perfect = measures(answers(targets * 0.5 + 0.2, targets), seed=0, rounds=20)
    useless = measures(answers(rng.random((2000, 2)), targets), seed=0, rounds=20)
    for label in LABELS:
        assert perfect.labels[label].roc_auc == Interval(1, 1, 1)
        assert useless.labels[label].roc_auc.value == pytest.approx(0.5, abs=0.05)


def test_intervals_by_recording_are_wider_than_by_clip():
    """Forty clips of one recording are not independent."""
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(20) < 0.7, 40)
    scores = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
    targets = np.tile([1, 0], (800, 1))
    by_recording = accuracies(answers(scores, targets, recording=np.repeat(np.arange(20), 40)), seed=0).accuracy
    by_clip = accuracies(answers(scores, targets), seed=0).accuracy
    assert by_recording.value == by_clip.value == right.mean()
    assert by_recording.high - by_recording.low > 4 * (by_clip.high - by_clip.low)


def test_intervals_equal_scipy_with_single_clips():
    values = np.random.default_rng(1).exponential(size=60)
    ours = bootstrap(lambda weights: {"mean": np.average(values, weights=weights)}, np.arange(60), 0, rounds=5000)[
        "mean"
    ]
    theirs = scipy_bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=0).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_intervals_are_the_same_for_a_seed():
    assert measures(BY_HAND, seed=3, rounds=30) == measures(BY_HAND, seed=3, rounds=30)
    assert measures(BY_HAND, seed=3, rounds=30) != measures(BY_HAND, seed=4, rounds=30)


PROBABILITY = st.floats(0, 1, width=32)


@given(st.lists(st.tuples(PROBABILITY, PROBABILITY, st.integers(0, 2)), min_size=1, max_size=30))
def test_measures_are_between_0_and_1(rows):
    found = answers([row[:2] for row in rows], [[row[2] == 0, row[2] == 1] for row in rows])
    result = measures(found, seed=0, rounds=3)
    assert np.sum(result.confusion.counts) == len(rows)
    numbers = [result.accuracy, *(number for row in result.labels.values() for number in (row.f1, row.roc_auc))]
    for number in numbers:
        assert number.value is None or 0 <= number.low <= number.high <= 1


@given(st.lists(st.tuples(st.booleans(), PROBABILITY, st.integers(0, 3)), max_size=30))
def test_roc_auc_equals_that_of_scikit_learn(rows):
    true, scores, weights = (np.array(column) for column in zip(*rows, (True, 0.5, 0), strict=True))
    found = weighted_roc_auc(true, scores)(weights.astype(float))
    if weights[true].any() and weights[~true].any():
        assert found == pytest.approx(roc_auc_score(true, scores, sample_weight=weights), abs=1e-12)
    else:
        assert np.isnan(found)


def test_reliability_equals_hand_calculation():
    curve = calibration.reliability(np.array([0.05, 0.15, 0.15, 1.0]), np.array([0, 1, 0, 1], bool))
    assert curve.count == [1, 2, 1]
    assert curve.probability == pytest.approx([0.05, 0.15, 1.0])
    assert curve.share == [0, 0.5, 1]
    assert calibration.expected_calibration_error(curve) == pytest.approx((0.05 + 2 * 0.35 + 0) / 4)


def test_log_loss_equals_hand_calculation():
    scores, targets = np.array([[0.8, 0.2]]), np.array([[True, False]])
    assert calibration.log_loss(scores, targets, "exclusive")[0] == pytest.approx(-np.log(0.8))
    assert calibration.log_loss(scores, np.array([[True, True]]), "independent")[0] == pytest.approx(
        -(np.log(0.8) + np.log(0.2)) / 2
    )


@pytest.mark.parametrize("decision", ["exclusive", "independent"])
@given(seed=st.integers(0, 1000), sharpness=st.floats(0.2, 6))
def test_temperature_keeps_labels_and_lowers_loss(decision, seed, sharpness):
    rng = np.random.default_rng(seed)
    targets = np.eye(2, dtype=bool)[rng.integers(0, 2, 60)]
    scores = calibration.tempered(
        1 / (1 + np.exp(-(2 * targets - 1 + 2 * rng.standard_normal((60, 2))))), 1 / sharpness, "independent"
    )
    if decision == "exclusive":
        scores = scores / scores.sum(axis=1, keepdims=True)
    temperature = calibration.fit_temperature(scores, targets, decision)
    after = calibration.tempered(scores, temperature or 1.0, decision)
    before = np.clip(scores, 1e-6, 1 - 1e-6)
    sure = np.abs(before - 0.5).min(axis=1) > 1e-6  # not exactly at a half
    np.testing.assert_array_equal((before >= 0.5)[sure], (after >= 0.5)[sure])
    if temperature:
        before_loss, loss = (calibration.log_loss(part, targets, decision).mean() for part in (before, after))
        assert loss <= before_loss + 1e-9


def test_removed_temperature_is_recovered():
    rng = np.random.default_rng(0)
    honest = rng.random(20_000)
    targets = np.stack([rng.random(20_000) < honest, rng.random(20_000) < 1 - honest], axis=1)
    sharp = calibration.tempered(np.stack([honest, 1 - honest], axis=1), 0.4, "independent")
    assert calibration.fit_temperature(sharp, targets, "independent") == pytest.approx(2.5, rel=0.05)


def test_correct_answers_determine_no_temperature():
    targets = np.eye(2, dtype=bool)
    for decision in ("exclusive", "independent"):
        assert calibration.fit_temperature(targets * 0.4 + 0.3, targets, decision) is None


@pytest.mark.parametrize("colour", ["white", "pink"])
def test_noise_has_requested_level_and_spectrum(colour):
    signal = np.sin(np.arange(160_000) / 9).astype(np.float32) * np.float32(0.1)
    for snr_db in (20, -5):
        added = with_noise(signal, colour, snr_db, np.random.default_rng(0)) - signal
        assert 20 * np.log10(np.std(signal) / np.std(added)) == pytest.approx(snr_db, abs=0.1)
    power = np.abs(np.fft.rfft(noise(colour, 160_000, np.random.default_rng(0)))) ** 2
    octaves = [10 * np.log10(power[start : 2 * start].mean()) for start in (1_000, 4_000, 16_000)]
    np.testing.assert_allclose(np.diff(octaves), {"white": 0, "pink": -6}[colour], atol=0.5)


def test_report_says_few_recordings_prove_little():
    targets = [[1, 0], [0, 1], [0, 0], [0, 0]]
    right = measures(
        answers([[0.9, 0.2], [0.1, 0.8], [0.1, 0.2], [0.3, 0.9]], targets, ["speech", "music", "other", "music"]), 0, 5
    )
    text = "\n".join(measured(right, right, "independent"))
    assert "No error of 2 recordings by larger score" in text  # two of four have no true label
    assert "77.6 %" in text  # two of them are both correct with a probability of 0.224 ** 2 = 0.05
    assert "label as answered proves" not in text
