"""The level of the music under speech: from the network's second output to segments, tables, pages and `check-dialogue`."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import soundfile

from ms_edge.audio.file import read_mono
from ms_edge.classifier import Classifier
from ms_edge.cli.main import main
from ms_edge.errors import ModelError
from ms_edge.model.levels import LevelScale
from ms_edge.model.metadata import Metadata
from ms_edge.model.session import LEVEL_NAME, Answers, Model
from ms_edge.output.records import read_records
from ms_edge.report.dialogue import loud_music, require_levels

RATE_HZ = 16_000
SCALE = LevelScale((-30.0, 20.0), 0.1, 2.0)


@pytest.fixture(scope="module")
def mixed(samples, tmp_path_factory):
    """A function that writes 12 s of a woman and a band at equal levels, the band raised by some dB."""
    speech, music = (
        np.tile(read_mono(str(next(path for path in samples if path.stem == name)), RATE_HZ), 2)
        for name in ("speech_french_woman", "music_zaz")
    )
    folder = tmp_path_factory.mktemp("mixed")

    def write(*levels_db: float) -> str:
        """Write one such stretch after the other."""
        path = folder / f"{'_'.join(f'{level:g}' for level in levels_db)}.wav"
        parts = [speech + music * 10 ** (db / 20) * np.std(speech) / np.std(music) for db in levels_db]
        soundfile.write(path, 0.3 * np.concatenate([part / np.abs(part).max() for part in parts]), RATE_HZ)
        return str(path)

    return write


def test_scores_are_those_of_bundled_model(samples, mixed):
    plain, leveled = Classifier(device="cpu"), Classifier(LEVEL_NAME, device="cpu")
    for path in [*samples, mixed(-5.0)]:
        (one, expected), (other, found) = plain.analyse(path), leveled.analyse(path)
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert [part.label for part in one.segments] == [part.label for part in other.segments]
        assert expected.levels is None
        assert found.levels.shape == (len(found.scores), 2)


def test_level_follows_the_mixture(mixed):
    classifier = Classifier(LEVEL_NAME, device="cpu")
    found = {db: classifier.classify(mixed(db)).segments for db in (-8.0, -3.0, 2.0)}
    levels = [segments[0].music_to_speech_db for segments in found.values()]
    assert all(len(segments) == 1 for segments in found.values())
    np.testing.assert_allclose(np.diff(levels), 5, atol=2.5)
    for (part,) in found.values():
        low, high = part.music_to_speech_db_interval
        assert low < part.music_to_speech_db < high
        assert high - low < 25


def test_windows_of_runs_equal_single_windows(mixed):
    samples = read_mono(mixed(-5.0), RATE_HZ)[: 5 * RATE_HZ + 77]
    classifier = Classifier(LEVEL_NAME, device="cpu")
    spec = classifier.spec
    _, whole = classifier.analyse(samples, RATE_HZ)
    for start, level in zip(whole.starts, whole.levels, strict=True):
        _, alone = classifier.analyse(samples[start : start + spec.clip_samples], RATE_HZ)
        np.testing.assert_allclose(alone.levels[0], level, atol=1e-3)


def test_each_segment_has_its_own_level(mixed):
    parts = Classifier(LEVEL_NAME, device="cpu").classify(mixed(-5.0, -40.0, 3.0)).segments
    assert [part.label for part in parts] == ["speech+music", "speech", "speech+music"]
    assert parts[2].music_to_speech_db - parts[0].music_to_speech_db == pytest.approx(8, abs=2.5)


def test_silence_inside_a_segment_changes_no_level(mixed, tmp_path):
    """Three seconds of digital silence, which are too short for a segment of their own."""
    classifier = Classifier(LEVEL_NAME, device="cpu", min_segment_s=6.0)
    whole = mixed(0.0)
    first, last = np.split(read_mono(whole, RATE_HZ), 2)
    paused = str(tmp_path / "paused.wav")
    soundfile.write(paused, np.concatenate([first, np.zeros(3 * RATE_HZ), last]), RATE_HZ)
    segments = [classifier.classify(path).segments[0] for path in (whole, paused)]
    places = [loud_music(classifier, path, -20.0, 2.0)[0] for path in (whole, paused)]
    assert [part.end_s for part in segments] == [place.end_s for place in places] == [12, 15]
    assert segments[1].music_to_speech_db == pytest.approx(segments[0].music_to_speech_db, abs=0.3)
    assert places[1].level.db == pytest.approx(places[0].level.db, abs=0.3)


def test_pauses_of_the_voice_count_little(samples):
    """Two thirds of the time the voice pauses, and the music goes on: the loudness of both is the same."""
    classifier = Classifier(LEVEL_NAME, device="cpu")
    speech, music = (
        read_mono(str(next(path for path in samples if path.stem == name)), RATE_HZ)
        for name in ("speech_french_woman", "music_zaz")
    )
    word, pause = round(0.8 * RATE_HZ), round(1.6 * RATE_HZ)
    words = [speech[at : at + word] for at in range(0, len(speech) - word + 1, word)]
    paused = np.concatenate([np.pad(each, (0, pause)) for each in words])
    speech, music = (np.resize(each, len(paused)) for each in (speech, music))
    music *= 10 ** (-10 / 20) * np.std(speech) / np.std(music)
    found = []
    for voice in (speech, paused):
        _, windows = classifier.analyse(0.3 * (voice + music), RATE_HZ)
        found.append(require_levels(classifier).combined(windows.levels, len(paused) / RATE_HZ).db)
    assert found[1] == pytest.approx(found[0], abs=6)


@pytest.mark.parametrize("samples", ["speech_french_woman.wav", "music_zaz.wav"])
def test_no_level_without_both_sounds(samples):
    segments = Classifier(LEVEL_NAME, device="cpu").classify(f"tests/data/{samples}").segments
    assert {part.music_to_speech_db for part in segments} == {None}
    assert not any("music_to_speech_db" in part.record() for part in segments)


def test_sure_windows_count_more():
    found = SCALE.combined(np.array([[-10.0, 2.0], [10.0, 6.0]], np.float32), 2)
    assert found.db == pytest.approx(-8)  # 9 to 1
    half = 2 / (2 / 1.1 * (1 / 4 + 1 / 36) / 2) ** 0.5
    assert found.interval_db == pytest.approx((-8 - half, -8 + half))


def test_more_windows_narrow_the_interval():
    one = np.array([[-10.0, 6.0]], np.float32)
    alone, many = SCALE.combined(one, 1), SCALE.combined(np.tile(one, (60, 1)), 10)
    assert alone.db == pytest.approx(-10)
    assert alone.interval_db == pytest.approx((-22, 2))
    assert alone.interval_db[0] < many.interval_db[0] < many.db < many.interval_db[1] < alone.interval_db[1]
    assert many.db == pytest.approx(alone.db)
    overlapping = SCALE.combined(np.tile(one, (120, 1)), 10)
    assert overlapping.db == pytest.approx(many.db)
    assert overlapping.interval_db == pytest.approx(many.interval_db)


@pytest.mark.parametrize(("level", "deviation"), [(-90.0, 0.0), (90.0, 1e6), (0.0, 1e9), (-30.0, 1e-9)])
def test_levels_stay_within_their_range(level, deviation):
    found = SCALE.combined(np.full((3, 2), [level, deviation], np.float32), 3)
    low, high = found.interval_db
    assert -30 <= low <= found.db <= high <= 20


def test_records_and_tables_hold_levels(mixed, tmp_path, capsys):
    path = mixed(-5.0)
    assert main(["classify", "--model", LEVEL_NAME, "--timeline", "--format", "jsonl", path]) == 0
    line = capsys.readouterr().out
    (part,) = json.loads(line)["segments"]
    (tmp_path / "a.jsonl").write_text(line)
    (again,) = read_records(str(tmp_path / "a.jsonl"))
    assert again.segments[0].record() == part
    low, high = part["music_to_speech_db_interval"]
    assert low < part["music_to_speech_db"] < high
    assert main(["classify", "--model", LEVEL_NAME, "--timeline", "--format", "csv", path]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert [*row][-3:] == ["music_to_speech_db", "music_to_speech_db_low", "music_to_speech_db_high"]
    assert [float(each) for each in [*row.values()][-3:]] == [part["music_to_speech_db"], low, high]


def test_other_models_have_no_level_columns(mixed, capsys):
    assert main(["classify", "--timeline", "--format", "csv", mixed(-5.0)]) == 0
    assert "music_to_speech" not in capsys.readouterr().out


def test_stream_gives_level_of_each_window(mixed):
    samples = read_mono(mixed(0.0), RATE_HZ)
    windows = [*Classifier(LEVEL_NAME, device="cpu").stream(np.split(samples, 32), RATE_HZ)]
    both = [each for each in windows if each.label == "speech+music"]
    assert len(both) > 10
    assert all(-30 <= each.record()["music_to_speech_db"] <= 20 for each in both)
    assert not any("music_to_speech_db" in each.record() for each in windows if each not in both)


def test_page_shows_levels(mixed, tmp_path):
    assert main(["report", "--model", LEVEL_NAME, mixed(-5.0), "-o", str(tmp_path / "a.html")]) == 0
    page = (tmp_path / "a.html").read_text()
    assert re.search(r"<td>[+-]\d+ dB \([+-]\d+ to [+-]\d+\)</td>", page)
    assert 'class="curve level"' in page
    assert main(["report", mixed(-5.0), "-o", str(tmp_path / "b.html")]) == 0
    assert "Music level" not in (tmp_path / "b.html").read_text()


def check(capsys, *arguments: str) -> tuple[int, list[dict]]:
    status = main(["check-dialogue", "--format", "jsonl", *arguments])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


CRASHING = """
import os, signal
from ms_edge.cli import check_dialogue, main
def crash(classifier, path, *arguments, **keywords):
    if path.endswith("b.wav"):
        os.kill(os.getpid(), signal.SIGKILL)
    return []
check_dialogue.loud_music = crash
main.command()
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no fork")
def test_a_crash_of_a_decoder_ends_one_recording_of_a_directory(mixed, tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        shutil.copy(mixed(-40.0), tmp_path / name)
    command = [sys.executable, "-c", CRASHING, "check-dialogue", "--format", "jsonl", str(tmp_path)]
    one_thread = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # so that the process can fork
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)
    assert run.returncode == 1
    found = map(json.loads, run.stdout.splitlines())
    assert [record.get("error", {}).get("code") for record in found] == [None, "worker-died", None]


def test_loud_music_is_found_where_it_is(mixed, capsys):
    status, (found,) = check(capsys, mixed(-40.0, -5.0, -40.0), "--max-music", "-15")
    assert status == 1
    (place,) = found["places"]
    assert place["start_s"] == pytest.approx(12, abs=1.5)
    assert place["end_s"] == pytest.approx(24, abs=1.5)
    assert place["music_to_speech_db_interval"][0] < place["music_to_speech_db"]


def test_quiet_music_passes(mixed, samples, capsys):
    speech = [str(path) for path in samples if path.name.startswith("speech")]
    assert check(capsys, mixed(-40.0), *speech)[0] == 0
    assert check(capsys, mixed(-5.0), "--max-music", "10")[0] == 0


def test_music_too_quiet_for_the_label_is_found(mixed, capsys):
    path = mixed(-10.0)
    assert [part.label for part in Classifier(LEVEL_NAME, device="cpu").classify(path).segments] == ["speech"]
    status, (found,) = check(capsys, path)
    assert status == 1
    assert found["places"][0]["music_to_speech_db"] == pytest.approx(-15, abs=4)  # as loudness, 5 dB less than as power


@pytest.mark.parametrize("limit", ["20", "50", "-31"])
def test_limit_no_level_can_pass_is_refused(limit, mixed, capsys):
    assert main(["check-dialogue", "--max-music", limit, mixed(0.0)]) == 2
    assert "from -30 to below 20" in capsys.readouterr().err


def test_occasional_sounds_are_allowed(mixed, tmp_path, capsys):
    samples, quiet = (read_mono(mixed(db), RATE_HZ) for db in (0.0, -40.0))
    for seconds, places in ((1.0, 0), (6.0, 1)):
        length = round(seconds * RATE_HZ)
        soundfile.write(tmp_path / "a.wav", np.concatenate([quiet, samples[:length], quiet]), RATE_HZ)
        _, (found,) = check(capsys, str(tmp_path / "a.wav"), "--max-music", "-10", "--shortest", "4")
        assert len(found["places"]) == places
    assert main(["check-dialogue", "--shortest", "-1", "a.wav"]) == 2


def test_place_goes_on_in_the_next_segment(mixed, capsys):
    """The label changes from speech+music to music, and each segment is shorter than --shortest."""
    path, threshold = mixed(-8.0, 6.0), 0.95
    parts = Classifier(LEVEL_NAME, device="cpu", thresholds={"speech": threshold}).classify(path).segments
    assert [part.label for part in parts] == ["speech+music", "music"]
    status, (found,) = check(capsys, path, "--shortest", "20", "--threshold", f"speech={threshold}")
    assert status == 1
    (place,) = found["places"]
    assert (place["start_s"], place["end_s"]) == (0, 24)
    low, high = place["music_to_speech_db_interval"]
    assert low < place["music_to_speech_db"] < high


def test_failed_file_is_a_record(mixed, capsys):
    status, (failed, found) = check(capsys, "README.md", mixed(0.0))
    assert status == 1
    assert failed["error"]["code"] == "not-audio"
    assert found["places"]


def test_text_shows_places_only(mixed, capsys):
    assert main(["check-dialogue", mixed(-40.0)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["check-dialogue", mixed(0.0)]) == 1
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["START", "END", "MUSIC", "INTERVAL", "PATH"]
    assert all(re.search(r"[+-]\d+\.\d dB +[+-]\d+\.\d to +[+-]\d+\.\d dB", row) for row in rows)


def test_model_without_levels_is_refused(capsys):
    assert main(["check-dialogue", "--model", "bundled", "tests/data/music_zaz.wav"]) == 3
    assert (
        "does not measure the level of music under speech; give --model music-speech-level" in capsys.readouterr().err
    )


def test_golden_vector_checks_the_level(tmp_path, capsys):
    golden = Model.load(LEVEL_NAME, "cpu").metadata.golden
    assert len(golden.level) == 2
    assert main(["doctor", "--model", LEVEL_NAME]) == 0
    assert "(level" in capsys.readouterr().out


@pytest.fixture
def entries() -> dict[str, str]:
    options = onnxruntime.SessionOptions()
    session = onnxruntime.InferenceSession(Model.load(LEVEL_NAME).path, options, providers=["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


@pytest.mark.parametrize(
    ("key", "lie"),
    [
        ("level", {"range_db": [20, -30]}),
        ("level", {"range_db": [-1e9, 1e9]}),
        ("level", {"range_db": "wide"}),
        ("level", {"correlation": 1.5}),
        ("level", {"width": 0}),
        ("level", {"width": None}),
        ("golden", {"level": [1.0]}),
        ("golden", {"level": None}),
        ("golden", {"level_tolerance": 0}),
        ("golden", {"level_tolerance": 100}),
    ],
)
def test_wrong_metadata_of_levels_is_refused(entries, key, lie):
    assert Metadata.parse(entries).level is not None
    entries[f"ms_edge.{key}"] = json.dumps({**json.loads(entries[f"ms_edge.{key}"]), **lie})
    with pytest.raises(ModelError) as caught:
        Metadata.parse(entries)
    assert caught.value.code == "bad-metadata"


def test_levels_need_speech_and_music(entries):
    entries["ms_edge.labels"] = '["voice", "song"]'
    with pytest.raises(ModelError, match="Only a model with the labels speech and music"):
        Metadata.parse(entries)


def test_output_that_metadata_does_not_state_is_refused(tmp_path, monkeypatch):
    """The file of the level, read by a program that does not know its entry: the second output is no surprise."""
    real = Metadata.parse.__func__

    def without(cls, entries):
        return real(cls, {key: text for key, text in entries.items() if key != "ms_edge.level"})

    monkeypatch.setattr(Metadata, "parse", classmethod(without))
    with pytest.raises(ModelError) as caught:
        Model.load(LEVEL_NAME, "cpu")
    assert caught.value.code == "bad-shape"


def test_level_that_is_no_number_is_an_error(monkeypatch):
    model = Model.load(LEVEL_NAME, "cpu")

    class Session:
        def run(self, names, inputs):
            return [np.full((1, 1, 2), 0.5, np.float32), np.full((1, 1, 2), np.nan, np.float32)]

    monkeypatch.setattr(model, "_session", Session())
    with pytest.raises(ModelError, match="levels of the music are not numbers"):
        model.answers(np.zeros((1, 49, 48), np.float32))


def test_voice_that_music_hides_is_found(mixed, samples, capsys):
    path, never = mixed(3.0), 0.999999
    assert Classifier(LEVEL_NAME, device="cpu", thresholds={"speech": never}).classify(path).label == "music"
    status, (found,) = check(capsys, path, "--threshold", f"speech={never}")
    assert status == 1
    assert found["places"]
    music = [str(path) for path in samples if path.name.startswith("music")]
    assert check(capsys, *music)[0] == 0


@pytest.mark.parametrize(("above_db", "found"), [(-1.0, True), (1.0, False), (6.5, False)])
def test_music_alone_needs_a_clear_level(above_db, found, samples, monkeypatch):
    """A level of music alone counts if its interval ends 7 dB below 20, the top of the range."""
    classifier = Classifier(LEVEL_NAME, device="cpu")
    real, three_seconds = Model.run_answers, np.full((19, 2), [0.0, 3.0], np.float32)
    level_db = 13 + above_db - require_levels(classifier).combined(three_seconds, 3.0).interval_db[1]

    def constant(model, features):
        answers = real(model, features)
        return Answers(answers.scores, np.full_like(answers.levels, [level_db, 3.0]))

    monkeypatch.setattr(Model, "run_answers", constant)
    (music,) = (str(path) for path in samples if path.stem == "music_zaz")
    assert {part.label for part in classifier.classify(music).segments} == {"music"}
    assert bool(loud_music(classifier, music, -20.0, 2.0)) == found


def test_page_of_a_record_names_no_missing_curve(mixed, tmp_path, capsys):
    """The record has levels; the model that reads the recording again has none."""
    assert main(["classify", "--model", LEVEL_NAME, "--timeline", mixed(-5.0), "-o", str(tmp_path / "a.jsonl")]) == 0
    assert main(["report", str(tmp_path / "a.jsonl"), "-o", str(tmp_path / "a.html")]) == 0
    page = (tmp_path / "a.html").read_text()
    assert "Music level</th>" in page
    assert "music level</span>" not in page
    assert 'class="curve level"' not in page
