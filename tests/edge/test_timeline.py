from __future__ import annotations

import json
from dataclasses import replace
from itertools import groupby, pairwise, product

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ms_edge.audio.file import read_mono
from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.errors import UsageError
from ms_edge.model.metadata import Decision
from ms_edge.model.session import Model
from ms_edge.timeline import Prior, best_path, seconds_by_label, segments, window_labels

LABELS = ("speech", "music")
DECISIONS = [Decision("exclusive", ()), Decision("independent", (0.5, 0.5)), Decision("independent", (0.3, 0.8))]
PRIOR = Prior(change=5.0, to_silence=1.0, beyond_s={})  # independent of the fitted values
probabilities = st.floats(0, 1, width=32)


def worth(evidence, path, costs):
    """Return the sum of a path's evidence minus the costs of its changes."""
    changes = sum(min(costs[a], costs[b]) for a, b in pairwise(path) if a != b)
    return evidence[np.arange(len(path)), path].sum() - changes


@settings(max_examples=2 * settings.default.max_examples)
@given(
    evidence=st.lists(st.tuples(*[st.integers(-20, 0)] * 3), min_size=1, max_size=7),
    widths=st.lists(st.sampled_from([0.5, 0.75, 1.0]), min_size=7, max_size=7),
    minimum=st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.5, 100.0]),
    costs=st.lists(st.integers(0, 9), min_size=3, max_size=3),
)
def test_best_path_beats_all_other_paths(evidence, widths, minimum, costs):
    evidence = np.array(evidence, np.float64)
    count = len(evidence)
    borders = [0.0, *np.cumsum(widths[:count])]

    def allowed(path):
        starts = [i for i in range(count) if i == 0 or path[i] != path[i - 1]]
        ends = [*starts[1:], count]
        return len(starts) == 1 or all(
            borders[end] - borders[start] >= minimum for start, end in zip(starts, ends, strict=True)
        )

    best = max(worth(evidence, path, costs) for path in product(range(3), repeat=count) if allowed(path))
    found = best_path(evidence, np.array(borders), minimum, costs).tolist()
    assert allowed(found)
    assert worth(evidence, found, costs) == pytest.approx(best)


@settings(max_examples=2 * settings.default.max_examples)
@given(
    rows=st.lists(st.tuples(probabilities, probabilities, st.booleans()), min_size=1, max_size=30),
    minimum=st.sampled_from([0.0, 0.3, 1.0, 2.0, 50.0]),
    decision=st.sampled_from(DECISIONS),
)
def test_segments_have_no_gaps_and_minimum_duration(rows, minimum, decision):
    scores = np.array([row[:2] for row in rows], np.float32)
    silent = np.array([row[2] for row in rows])
    borders = np.arange(len(rows) + 1) / 2
    parts = segments(scores, silent, borders, LABELS, decision, minimum)
    assert parts[0].start_s == 0
    assert parts[-1].end_s == borders[-1]
    for before, after in pairwise(parts):
        assert before.end_s == after.start_s
        assert before.label != after.label
    if len(parts) > 1:
        assert min(part.end_s - part.start_s for part in parts) >= minimum - 1e-9
    assert all(0 <= part.probability <= 1 for part in parts)
    assert sum(seconds_by_label(parts).values()) == pytest.approx(borders[-1])
    if minimum == 0:
        for name, start in zip(window_labels(scores, LABELS, decision, silent), borders[:-1], strict=True):
            (here,) = [part.label for part in parts if part.start_s <= start < part.end_s]
            assert here == name


def test_only_short_changes_are_smoothed_away():
    speech, music = [0.95, 0.05], [0.05, 0.95]
    scores = np.array([speech] * 6 + [music] + [speech] * 6 + [music] * 4, np.float32)
    parts = segments(scores, np.zeros(17, bool), np.arange(18) / 2, LABELS, DECISIONS[1], 1.0, PRIOR)
    assert [(part.start_s, part.end_s, part.label) for part in parts] == [(0.0, 6.5, "speech"), (6.5, 8.5, "music")]


def test_edges_move_by_the_fitted_correction():
    speech, music, both, neither = [0.95, 0.05], [0.05, 0.95], [0.95, 0.95], [0.05, 0.05]
    scores = np.repeat(np.array([speech, music, both, neither, speech], np.float32), 10, axis=0)
    prior = Prior(5.0, beyond_s={"speech": 0.2, "music": 0.1})

    def edges_s(min_duration_s):
        parts = segments(scores, np.zeros(50, bool), np.arange(51.0), LABELS, DECISIONS[1], min_duration_s, prior)
        return [part.start_s for part in parts] + [parts[-1].end_s]

    # If two labels begin or end together, by the mean of their corrections.
    assert edges_s(1.0) == [0, 10 + 0.1 - 0.2, 20.2, 30 - 0.15, 40.2, 50]
    assert edges_s(10.0) == [0, 10, 20, 30, 40, 50]  # no segment may become too short
    assert edges_s(0.0) == [0, 10, 20, 30, 40, 50]  # every window keeps its own label


@pytest.mark.parametrize("hop_s", [0.16, 0.25, 0.5, 1.0])
def test_segments_do_not_depend_on_the_hop(hop_s):
    """Evidence counts per second: more windows per second do not make a doubtful change certain."""
    times = np.arange(0, 60, hop_s) + hop_s / 2
    doubtful = np.where((times % 4 > 2)[:, np.newaxis], (0.8, 0.6), (0.9, 0.1))
    scores = np.where((times < 40)[:, np.newaxis], doubtful, (0.05, 0.9)).astype(np.float32)
    borders = np.append(times - hop_s / 2, times[-1] + hop_s / 2)
    own = segments(scores, np.zeros(len(scores), bool), borders, LABELS, DECISIONS[1], 0.0)
    assert len(own) > 15
    parts = segments(scores, np.zeros(len(scores), bool), borders, LABELS, DECISIONS[1], 1.0, PRIOR)
    assert [part.label for part in parts] == ["speech", "music"]
    assert parts[0].end_s == pytest.approx(40, abs=hop_s)


def test_only_long_pauses_are_segments_of_silence():
    scores = np.array([[0.9, 0.1]] * 20, np.float32)
    silent = np.zeros(20, bool)
    silent[4], silent[10:16] = True, True
    parts = segments(scores, silent, np.arange(21) / 2, LABELS, DECISIONS[1], 1.0)
    assert [(part.start_s, part.end_s, part.label) for part in parts] == [
        (0.0, 5.0, "speech"),
        (5.0, 8.0, "silence"),
        (8.0, 10.0, "speech"),
    ]


def test_a_sound_is_never_called_silence():
    scores = np.array([[0.9, 0.1]] * 41, np.float32)
    silent = np.ones(41, bool)
    silent[20] = False
    parts = segments(scores, silent, np.arange(42) / 2, LABELS, DECISIONS[1], 3.0)
    assert [part.label for part in parts] == ["silence", "speech", "silence"]


@pytest.fixture(scope="module")
def programme(samples, tmp_path_factory):
    """A short programme: 18 s of speech, 5 s of silence, 18 s of music, each sound from three sources."""
    path = tmp_path_factory.mktemp("programme") / "programme.wav"
    rate = 16_000
    speech, music = (
        np.concatenate(
            [read_mono(sample, rate)[: 6 * rate] for sample in samples if sample.name.startswith(label)][-3:]
        )
        for label in ("speech", "music")
    )
    soundfile.write(path, np.concatenate([speech, np.zeros(5 * rate, np.float32), music]), rate)
    return path, len(speech) / rate, (len(speech) + len(music)) / rate + 5


def test_programme_is_cut_where_it_changes(programme):
    path, speech_s, total_s = programme
    found = Classifier().classify(path)
    # One second of it may have another label.
    long = [part.label for part in found.segments if part.end_s - part.start_s > 1]
    assert [label for label, _ in groupby(long)] == ["speech", "silence", "music"]
    assert sum(part.end_s - part.start_s for part in found.segments if part.label not in long) <= 1.0
    borders = [part.end_s for part in found.segments]
    assert min(abs(border - speech_s) for border in borders) < 0.75
    assert min(abs(border - speech_s - 5) for border in borders) < 0.75
    assert borders[-1] == found.duration_s == pytest.approx(total_s, abs=1e-3)


class Scripted(Model):
    """The bundled model, but its scores repeat the given rows."""

    def __init__(self, rows, decision):
        bundled = Model.load()
        vars(self).update(vars(bundled), metadata=replace(bundled.metadata, decision=decision, step_frames=None))
        self._rows, self._at = np.array(rows, np.float32), 0

    def scores(self, inputs):
        places = np.arange(self._at, self._at + len(inputs))
        self._at += len(inputs)
        return self._rows[places % len(self._rows)]


def require_agreement(found, min_confidence):
    """Check that segments, seconds and label agree, as docs/timeline.md promises."""
    assert found.seconds == seconds_by_label(found.segments)
    assert sum(found.seconds.values()) == pytest.approx(found.duration_s, abs=1e-6)
    assert found.label in found.seconds
    if len(found.segments) == 1:
        assert found.label == found.segments[0].label
    voting = {label: value for label, value in found.seconds.items() if label != "silence"} or found.seconds
    if found.label == "uncertain":
        assert voting["uncertain"] == max(voting.values())
    else:
        assert voting.get("uncertain", 0) <= max(value for label, value in voting.items() if label != "uncertain")
    assert all(0 <= score <= 1 for score in found.scores.values())
    for part in found.segments:
        assert (part.label == "uncertain") == (part.probability < min_confidence)
    for before, after in pairwise(found.segments):
        assert before.end_s == after.start_s
        assert before.label != after.label


@settings(max_examples=2 * settings.default.max_examples)
@given(
    rows=st.lists(st.tuples(probabilities, probabilities), min_size=1, max_size=30),
    loud=st.lists(st.booleans(), min_size=1, max_size=12),
    decision=st.sampled_from(DECISIONS),
    hop_s=st.sampled_from([0.1, 0.37, 0.5, 1.0]),
    min_segment_s=st.sampled_from([0.0, 0.3, 1.0, 7.0, 100.0]),
    min_confidence=st.floats(0, 1),
    odd=st.integers(4_000, 20_000),
)
def test_any_scores_give_consistent_segments_and_label(rows, loud, decision, hop_s, min_segment_s, min_confidence, odd):
    sound = np.repeat(np.array(loud, np.float32) * 0.1, 16_000)
    sound = np.concatenate([sound, np.full(odd, 0.1, np.float32)])
    classifier = Classifier(
        Scripted(rows, decision), hop_s=hop_s, min_segment_s=min_segment_s, min_confidence=min_confidence
    )
    found = classifier.classify(sound, 16_000)
    require_agreement(found, min_confidence)
    if decision.kind == "independent" and found.label != "uncertain":
        voting = {label: value for label, value in found.seconds.items() if label != "silence"} or found.seconds
        assert voting[found.label] == max(voting.values())


def test_one_segment_and_its_file_agree_on_uncertainty(samples):
    path = next(path for path in samples if path.name == "speech_italian_man.wav")
    mean = Classifier(min_segment_s=100).classify(path).probability
    for min_confidence in np.linspace(
        mean - 0.005, min(mean + 0.005, 1.0), 41
    ):  # around the mean scores of file and segment
        found = Classifier(min_segment_s=100, min_confidence=float(min_confidence)).classify(path)
        assert [part.label for part in found.segments] == [found.label]


@pytest.mark.parametrize("hop_s", [0.1, 0.16, 0.37, 0.5, 1.0])
@pytest.mark.parametrize("min_segment_s", [0.0, 1.0, 7.0])
@pytest.mark.parametrize("min_confidence", [0.0, 0.9, 1.0])
def test_segments_seconds_and_label_agree(programme, hop_s, min_segment_s, min_confidence):
    found = Classifier(hop_s=hop_s, min_segment_s=min_segment_s, min_confidence=min_confidence).classify(programme[0])
    require_agreement(found, min_confidence)


def test_binary_gives_the_more_probable_label(samples):
    rows = [(0.9, 0.8), (0.1, 0.2), (0.3, 0.7)]  # both, neither, music
    independent = Decision("independent", (0.5, 0.5))
    sound = np.full(48_000, 0.1, np.float32)
    plain, binary = (
        Classifier(Scripted(rows, independent), hop_s=1.0, min_segment_s=0, binary=chosen).classify(sound, 16_000)
        for chosen in (False, True)
    )
    assert [part.label for part in plain.segments] == ["speech+music", "other", "music"]
    assert [(part.label, part.end_s) for part in binary.segments] == [("speech", 1.0), ("music", 3.0)]
    assert binary.scores == plain.scores
    assert binary.label == "music"  # the larger mean
    live = Classifier(Scripted(rows, independent), hop_s=1.0, binary=True).stream([sound], 16_000)
    assert [part.label for part in live] == ["speech", "music", "music"]
    for path in samples:
        found = Classifier(binary=True).classify(path)
        assert found.label == path.name.partition("_")[0] == max(found.scores, key=found.scores.get)
        assert set(found.seconds) <= {"speech", "music", "silence"}


def test_a_higher_threshold_changes_answers_not_scores(samples, tmp_path):
    plain = Classifier()

    def largest(path):
        return plain.window_scores([read_mono(path, plain.spec.sample_rate_hz)]).scores.max(axis=0)

    path = min(samples, key=lambda path: largest(path).max())
    before = plain.classify(path)
    top = float(largest(path)[plain.model.metadata.labels.index(before.label)])
    for places in range(2, 7):  # as few decimal places as possible
        over = round(top + 0.5 * 10**-places, places)
        if top < over < 1:
            break
    after = Classifier(thresholds={before.label: over}).classify(path)
    assert after.label == "other"
    assert {part.label for part in after.segments} <= {"other", "silence"}
    assert after.scores == before.scores
    other = ({"speech", "music"} - {before.label}).pop()
    default = dict(zip(plain.model.metadata.labels, plain.decision.thresholds, strict=True))
    assert before.settings["thresholds"] == default
    assert after.settings["thresholds"] == {before.label: over, other: default[other]}
    assert {**after.settings, "thresholds": default} == before.settings

    out = tmp_path / "r.jsonl"
    command = ["classify", "--timeline", "-o", str(out), "--resume", str(path)]
    for options, expected in (
        ([], before),
        (["--threshold", f"{before.label}=0.4", "--threshold", f"{before.label}={over}"], after),
        (["--threshold", f"{before.label}={default[before.label]}"], before),  # the same as none
    ):
        assert cli.main([*command, *options]) == 0
        record = json.loads(out.read_text())
        assert record.pop("checksum")
        assert record == expected.record(timeline=True)


def test_thresholds_apply_to_streams():
    rows = [(0.9, 0.1), (0.55, 0.1), (0.55, 0.7)]
    sound = np.full(48_000, 0.1, np.float32)
    independent = Decision("independent", (0.5, 0.6))
    live = Classifier(Scripted(rows, independent), hop_s=1.0, thresholds={"speech": 0.6}).stream([sound], 16_000)
    assert [part.label for part in live] == ["speech", "other", "music"]


def test_only_independent_labels_have_thresholds():
    exclusive = Scripted([(0.9, 0.1)], Decision("exclusive", ()))
    with pytest.raises(UsageError, match="only models of independent labels have thresholds"):
        Classifier(exclusive, thresholds={"speech": 0.6})
    assert Classifier(exclusive).settings()["thresholds"] is None
    assert Classifier(binary=True).settings()["thresholds"] is None


def test_improbable_labels_become_uncertain_with_same_scores(samples):
    sure = Classifier().classify(samples[0])
    unsure = Classifier(min_confidence=1.0).classify(samples[0])
    assert unsure.label == "uncertain"
    assert set(unsure.seconds) == {"uncertain"}
    assert unsure.scores == sure.scores
    assert unsure.probability == sure.probability


def test_analyse_returns_the_scores_of_every_window(samples):
    classifier = Classifier()
    found, windows = classifier.analyse(samples[0])
    assert found == classifier.classify(samples[0])
    expected = classifier.window_scores([read_mono(samples[0], classifier.spec.sample_rate_hz)])
    np.testing.assert_array_equal(windows.starts, expected.starts)
    np.testing.assert_array_equal(windows.scores, expected.scores)
    np.testing.assert_array_equal(windows.silent, expected.silent)
    assert found.scores == dict(zip(LABELS, windows.scores.mean(axis=0, dtype=np.float64).tolist(), strict=True))


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (Decision("independent", (0.5, 0.4)), ["speech", "speech+music", "other", "music", "silence"]),
        (Decision("exclusive", ()), ["speech", "speech", "speech", "music", "silence"]),
    ],
)
def test_labels_of_windows(decision, expected):
    scores = np.array([[0.6, 0.3], [0.5, 0.4], [0.49, 0.39], [0.1, 0.9], [0.9, 0.9]], np.float32)
    silent = np.array([False, False, False, False, True])
    assert window_labels(scores, ("speech", "music"), decision, silent) == expected
    assert window_labels(scores[:4], ("speech", "music"), decision) == expected[:4]
