"""Each channel is classified as if it were a recording of its own, and the file is decoded once."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from resuming import classified

from ms_edge import AudioError, UsageError, classify, classify_channels
from ms_edge.audio.source import AudioArrays
from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.output.formats import FORMATS
from ms_edge.results import Classification, Segment

DATA = Path(__file__).parent.parent / "data"
COMMAND = [sys.executable, "-m", "ms_edge.cli"]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """The bundled model on the CPU."""
    return Classifier(device="cpu")


@pytest.fixture(scope="module")
def call() -> np.ndarray:
    """A call (samples, 2) of 72 s at 16 kHz: speech in channel 1, music in channel 2. Several batches."""
    sides = [soundfile.read(DATA / name, dtype="float32")[0] for name in ("speech_italian_man.wav", "music_zaz.wav")]
    return np.tile(np.stack(sides, axis=1), (12, 1))


@pytest.fixture
def folder(tmp_path, monkeypatch, call) -> Path:
    """A working directory with six seconds of the call, and the same speech alone."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("call.wav", call[:96_000], 16_000)
    soundfile.write("mono.wav", call[:96_000, 0], 16_000)
    return tmp_path


def records(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def alone(found: Classification) -> Classification:
    """Return a result without what says that it is about a channel, and of which file."""
    settings = {**found.settings, "channels": "mix"}
    facts = {"file": None, "decoder": None, "container": None, "codec": None}
    return replace(found, path="", channels=0, channel=None, settings=settings, **facts)


# The results are those of mono files, bit for bit


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize(
    ("form", "subtype"), [("WAV", "PCM_16"), ("WAV", "ULAW"), ("FLAC", "PCM_24"), ("WAV", "FLOAT")]
)
def test_each_channel_equals_its_mono_file(classifier, call, tmp_path, rate, form, subtype):
    both, single = tmp_path / "both", tmp_path / "single"
    soundfile.write(both, call, rate, subtype, format=form)
    found = classifier.classify_channels(both)
    assert [each.channel for each in found] == [1, 2]
    for number, each in enumerate(found, 1):
        soundfile.write(single, call[:, number - 1], rate, subtype, format=form)
        expected, windows = classifier.analyse(single)
        chosen, of_channel = classifier.analyse(both, channel=number)
        assert alone(each) == alone(chosen) == alone(expected)
        assert of_channel.scores.tobytes() == windows.scores.tobytes()
        assert np.array_equal(of_channel.starts, windows.starts)


@pytest.mark.parametrize("seconds", [0.25, 0.9, 1.0, 1.01, 40.0])
def test_any_length_equals_its_mono_array(classifier, call, seconds):
    samples = call[: int(seconds * 16_000)]
    for each, number in zip(classifier.classify_channels(samples, 16_000), (1, 2), strict=True):
        assert alone(each) == alone(classifier.classify(samples[:, number - 1], 16_000))


def test_mixing_hides_what_channels_show(folder, capsys):
    cli.main(["classify", "call.wav", "--format", "jsonl"])
    cli.main(["classify", "call.wav", "--format", "jsonl", "--channels", "each"])
    mixed, first, second = records(capsys)
    assert [record["label"] for record in (mixed, first, second)] == ["speech+music", "speech", "music"]
    assert "channel" not in mixed
    assert [record["channel"] for record in (first, second)] == [1, 2]
    assert list(first)[8:10] == ["channels", "channel"]
    assert [record["settings"]["channels"] for record in (mixed, first)] == ["mix", "each"]


def test_a_file_is_decoded_once(folder, monkeypatch, classifier):
    frames = []
    read = soundfile.SoundFile.buffer_read_into

    def counted(self, buffer, kind):
        frames.append(read(self, buffer, kind))
        return frames[-1]

    monkeypatch.setattr(soundfile.SoundFile, "buffer_read_into", counted)
    heard = []
    classifier.classify_channels("call.wav", on_audio=heard.append)
    assert sum(frames) == 96_000
    assert sum(heard) == 6.0


@given(
    channels=st.integers(1, 9),
    lengths=st.lists(st.integers(1, 20_000), min_size=1, max_size=4),
    rate=st.sampled_from([4_000, 16_000, 22_050, 96_000]),
    odd=st.sampled_from([0.5, np.nan, -np.inf, 9.0, 1e9]),
    seed=st.integers(0, 9),
)
@settings(max_examples=30)
def test_samples_and_warnings_equal_mono_sources(channels, lengths, rate, odd, seed):
    random = np.random.default_rng(seed)
    blocks = [random.uniform(-1, 1, (length, channels)).astype(np.float32) for length in lengths]
    blocks[-1][-1, random.integers(channels)] = odd
    with AudioArrays(blocks, rate) as audio:
        together = np.concatenate(list(audio.blocks(16_000, "each")), axis=1)
        assert together.shape[0] == channels
        assert audio.warnings == []
    for number in range(1, channels + 1):
        with AudioArrays(blocks, rate) as chosen, AudioArrays([block[:, number - 1] for block in blocks], rate) as mono:
            expected = np.concatenate(list(mono.blocks(16_000)))
            assert np.concatenate(list(chosen.blocks(16_000, number)), axis=1).tobytes() == expected.tobytes()
            assert together[number - 1].tobytes() == expected.tobytes()
            assert audio.warnings_of(number) == chosen.warnings_of(number) == mono.warnings


def test_memory_does_not_grow_with_duration(classifier, tmp_path):
    raw = tmp_path / "silence.pcm"
    peaks = []
    for seconds in (60, 180):
        raw.touch()
        os.truncate(raw, seconds * 8_000 * 8 * 2)
        tracemalloc.start()
        assert len(classifier.classify_channels(raw, raw="8000:8:s16le")) == 8
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1_000_000


# Odd channels


def test_a_silent_channel_is_silence(classifier, call):
    samples = np.stack([call[:96_000, 0], np.zeros(96_000, np.float32)], axis=1)
    assert [each.label for each in classifier.classify_channels(samples, 16_000)] == ["speech", "silence"]


@pytest.mark.parametrize(("value", "warning"), [(np.nan, "non-finite"), (30_000.0, "out-of-range")])
def test_odd_samples_warn_for_their_channel(folder, call, capsys, value, warning):
    samples = call[:96_000].copy()
    samples[40_000, 1] = value
    soundfile.write("odd.wav", samples, 16_000, "FLOAT")
    soundfile.write("alone.wav", samples[:, 1], 16_000, "FLOAT")
    assert cli.main(["classify", "odd.wav", "--channels", "each", "--format", "jsonl"]) == 0
    assert cli.main(["classify", "odd.wav", "--channels", "1", "--format", "jsonl"]) == 0
    assert cli.main(["classify", "alone.wav", "--format", "jsonl"]) == 0
    first, second, chosen, expected = records(capsys)
    assert [record["warnings"] for record in (first, second, chosen)] == [[], [warning], []]
    assert second["scores"] == expected["scores"]
    assert first["label"] == "speech"


def test_a_cut_file_warns_for_every_channel(folder, capsys):
    content = Path("call.wav").read_bytes()
    Path("call.wav").write_bytes(content[: len(content) // 2])
    assert cli.main(["classify", "call.wav", "--channels", "each", "--format", "jsonl"]) == 0
    found = records(capsys)
    assert [record["warnings"] for record in found] == [["truncated"]] * 2
    assert {record["duration_s"] for record in found} == {3.0}


@pytest.mark.parametrize("channels", ["each", "1"])
def test_a_mono_file_has_one_channel(folder, capsys, channels):
    assert cli.main(["classify", "mono.wav", "--channels", channels, "--format", "jsonl"]) == 0
    assert cli.main(["classify", "mono.wav", "--format", "jsonl"]) == 0
    found, expected = records(capsys)
    assert found["channel"] == 1
    assert found["scores"] == expected["scores"]


def test_sixty_four_channels_have_a_record_each(folder, call, capsys):
    wide = np.zeros((32_000, 64), np.float32)
    wide[:, 62], wide[:, 63] = call[:32_000].T
    soundfile.write("wide.wav", wide, 16_000)
    assert cli.main(["classify", "wide.wav", "--channels", "each", "--format", "jsonl"]) == 0
    found = records(capsys)
    assert [record["channel"] for record in found] == list(range(1, 65))
    assert [record["label"] for record in found] == [*["silence"] * 62, "speech", "music"]


def test_a_channel_that_is_missing_is_an_error(folder, capsys):
    assert cli.main(["classify", "mono.wav", "call.wav", "--channels", "2", "--format", "jsonl"]) == 1
    captured = capsys.readouterr()
    failed, found = [json.loads(line) for line in captured.out.splitlines()]
    assert failed["error"]["code"] == "bad-channels"
    assert captured.err == "ms-edge: mono.wav: has 1 channel, so channel 2 cannot be classified.\n"
    assert (found["channel"], found["label"]) == (2, "music")


def test_a_failed_file_has_one_record(folder, capsys):
    soundfile.write("short.wav", np.zeros((1_000, 2)), 16_000)
    given = ["short.wav", "missing.wav", "call.wav"]
    assert cli.main(["classify", *given, "--channels", "each", "--format", "jsonl", "-q"]) == 1
    found = records(capsys)
    assert [record["path"] for record in found] == [*given, "call.wav"]
    assert [record["error"]["code"] for record in found[:2]] == ["too-short", "not-found"]


@pytest.mark.parametrize("value", ["0", "-1", "65", "1.0", "both", "", "\u0661", "9" * 5_000])
def test_other_values_are_refused(folder, capsys, value):
    assert cli.main(["classify", "call.wav", f"--channels={value}"]) == 2
    assert "--channels must be mix, each or the number of a channel from 1 to 64" in capsys.readouterr().err


# Outputs


def printed(capsys, *arguments: str) -> str:
    assert cli.main(["classify", "call.wav", "mono.wav", "--channels", "each", *arguments]) == 0
    return capsys.readouterr().out


def test_text_has_a_column(folder, capsys):
    header, *rows = printed(capsys).splitlines()
    assert header.split() == ["LABEL", "PROBABILITY", "SHARE", "DURATION", "CHANNEL", "PATH"]
    assert [row.split()[-2:] for row in rows] == [["1", "call.wav"], ["2", "call.wav"], ["1", "mono.wav"]]
    assert {row.index(row.split()[-1]) for row in rows} == {header.index("PATH")}
    header, *rows = printed(capsys, "--timeline").splitlines()
    assert header.split() == ["START", "END", "LABEL", "PROBABILITY", "CHANNEL", "PATH"]
    assert [row.split()[-2] for row in rows] == ["1", "2", "1"]


@pytest.mark.parametrize(("name", "dialect"), [("csv", "excel"), ("tsv", "excel-tab")])
@pytest.mark.parametrize("options", [[], ["--timeline"]])
def test_tables_have_a_last_column(folder, capsys, name, dialect, options):
    cli.main(["classify", "missing.wav", "--format", name, *options])
    before = capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "--format", name, *options)), dialect=dialect))
    (failed,) = csv.DictReader(io.StringIO(before), dialect=dialect)
    assert list(rows[0]) == [*failed, "channel"]
    assert [(row["path"], row["channel"], row["label"]) for row in rows] == [
        ("call.wav", "1", "speech"),
        ("call.wav", "2", "music"),
        ("mono.wav", "1", "speech"),
    ]


def test_json_is_one_array(folder, capsys):
    found = json.loads(printed(capsys, "--format", "json", "--timeline"))
    assert [(record["path"], record["channel"]) for record in found] == [
        ("call.wav", 1),
        ("call.wav", 2),
        ("mono.wav", 1),
    ]
    assert all(record["segments"] for record in found)


def test_rttm_names_the_channel(folder, capsys):
    fields = [line.split() for line in printed(capsys, "--format", "rttm").splitlines()]
    assert [(each[1], each[2], each[7]) for each in fields] == [
        ("call.wav", "1", "speech"),
        ("call.wav", "2", "music"),
        ("mono.wav", "1", "speech"),
    ]


def two_channels(classifier: Classifier) -> tuple[Classification, ...]:
    """Return results of two channels whose segments overlap."""
    found = classifier.classify(np.zeros(80_000, np.float32), 16_000)
    parts = [[(0.0, 2.0, "speech"), (2.0, 5.0, "music")], [(0.0, 3.5, "music"), (3.5, 5.0, "a<b")]]
    return tuple(
        replace(found, channel=number, segments=tuple(Segment(*part, 0.5, {}) for part in segments))
        for number, segments in enumerate(parts, 1)
    )


def test_a_textgrid_has_a_tier_per_channel(classifier, tmp_path):
    import tgt

    path = tmp_path / "a.TextGrid"
    path.write_text(FORMATS["textgrid"](("speech", "music"), True, True).records(two_channels(classifier)), "utf-8")
    tiers = tgt.io.read_textgrid(str(path), encoding="utf-8").tiers
    assert [tier.name for tier in tiers] == ["channel 1", "channel 2"]
    assert [[part.text for part in tier.intervals] for tier in tiers] == [["speech", "music"], ["music", "a<b"]]
    assert {tier.end_time for tier in tiers} == {5.0}


def test_webvtt_cues_are_in_order(classifier, tmp_path):
    import webvtt

    path = tmp_path / "a.vtt"
    path.write_text(FORMATS["webvtt"](("speech", "music"), True, True).records(two_channels(classifier)), "utf-8")
    cues = webvtt.read(str(path))
    assert [(cue.start, cue.voice) for cue in cues] == [
        ("00:00:00.000", "channel 1"),
        ("00:00:00.000", "channel 2"),
        ("00:00:02.000", "channel 1"),
        ("00:00:03.500", "channel 2"),
    ]
    assert cues[3].raw_text == "<v channel 2>a&lt;b"


def test_audacity_labels_name_the_channel(classifier):
    text = FORMATS["audacity"](("speech", "music"), True, True).records(two_channels(classifier))
    rows = [line.split("\t") for line in text.splitlines()]
    assert [(float(start), label) for start, _, label in rows] == [
        (0.0, "channel 1: speech"),
        (0.0, "channel 2: music"),
        (2.0, "channel 1: music"),
        (3.5, "channel 2: a<b"),
    ]


def test_a_cue_sheet_has_one_channel(folder, capsys):
    command = ["classify", "call.wav", "-o", "out/", "--format", "cue", "--channels"]
    assert cli.main([*command, "each"]) == 1
    assert "call.wav: a cue sheet describes one channel; choose it with --channels N." in capsys.readouterr().err
    assert cli.main([*command, "2"]) == 0
    assert 'TITLE "music"' in Path("out/call.wav.cue").read_text()


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"cue", "text-colour"}))
def test_a_tree_has_one_file_per_input(folder, capsys, name):
    assert cli.main(["classify", "call.wav", "mono.wav", "-o", "out/", "--channels", "each", "--format", name]) == 0
    suffix = FORMATS[name].suffix
    assert {path.name for path in Path("out").iterdir()} == {f"call.wav.{suffix}", f"mono.wav.{suffix}"}
    content = Path(f"out/call.wav.{suffix}").read_bytes()
    if name != "xlsx":
        assert b"speech" in content
        assert b"music" in content
    assert content != Path(f"out/mono.wav.{suffix}").read_bytes()


# Many files


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_workers_keep_the_order(folder, capsys, jobs):
    Path("list").write_text("call.wav\nmissing.wav\nmono.wav\n" * 5)
    assert (
        cli.main(["classify", "-q", "--files-from", "list", "--channels", "each", "-j", jobs, "--format", "jsonl"]) == 1
    )
    found = [(record["path"], record.get("channel")) for record in records(capsys)]
    assert found == [("call.wav", 1), ("call.wav", 2), ("missing.wav", None), ("mono.wav", 1)] * 5


def test_progress_counts_files(folder, capsys):
    assert cli.main(["classify", "call.wav", "mono.wav", "--channels", "each", "-v"]) == 0
    assert "2 files, 0 failed, 12.0 s of audio" in capsys.readouterr().err


def resumed(*options: str) -> list[str]:
    """Run with --resume. Return the recordings that were classified."""
    status, paths = classified("call.wav", "mono.wav", "-o", "r.jsonl", "--resume", *options)
    assert status == 0
    return paths


def test_resume_keeps_files_with_all_channels(folder):
    assert resumed("--channels", "each") == ["call.wav", "mono.wav"]
    whole = Path("r.jsonl").read_bytes()
    assert resumed("--channels", "each") == []
    assert Path("r.jsonl").read_bytes() == whole
    lines = whole.splitlines(keepends=True)
    for kept in (lines[1:], [lines[0], *lines[2:]], [lines[0].replace(b"speech", b"speedy", 1), *lines[1:]]):
        Path("r.jsonl").write_bytes(b"".join(kept))
        assert resumed("--channels", "each") == ["call.wav"]
        assert Path("r.jsonl").read_bytes() == whole
    Path("r.jsonl").rename("r.jsonl.part")
    Path("r.jsonl.part").write_bytes(whole[: len(lines[0]) + 50])  # killed while it wrote the second record
    assert resumed("--channels", "each") == ["call.wav", "mono.wav"]
    assert Path("r.jsonl").read_bytes() == whole


def test_other_channels_are_classified_again(folder):
    for channels in ("mix", "1", "each", "mix", "1"):
        assert resumed("--channels", channels) == ["call.wav", "mono.wav"]
        assert resumed("--channels", channels) == []


# Streams


def test_a_stream_has_each_channel_in_turn(folder):
    content = Path("call.wav").read_bytes()
    command = [*COMMAND, "stream", "-", "--windows", "--hop", "1", "--channels", "each", "--format", "jsonl"]
    run = subprocess.run(command, input=content, capture_output=True, timeout=60, check=True)
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert [(record["start_s"], record["channel"]) for record in found] == [
        (float(start), channel) for start in range(6) for channel in (1, 2)
    ]
    assert [record["label"] for record in found] == ["speech", "music"] * 6
    command = [*COMMAND, "stream", "-", "--windows", "--hop", "1", "--channels", "2"]
    run = subprocess.run(command, input=content, capture_output=True, text=False, timeout=60, check=True)
    header, *rows = run.stdout.decode().splitlines()
    assert header.split() == ["START", "END", "LABEL", "PROBABILITY", "CHANNEL"]
    assert [row.split()[2::2] for row in rows] == [["music", "2"]] * 6


def test_a_stream_names_the_channel_of_a_warning(folder, call, capsys):
    samples = call[:96_000].copy()
    samples[40_000, 1] = np.nan
    soundfile.write("odd.wav", samples, 16_000, "FLOAT")
    assert cli.main(["stream", "odd.wav", "--windows", "--channels", "each", "--format", "jsonl"]) == 0
    captured = capsys.readouterr()
    last = {record["channel"]: record["warnings"] for record in map(json.loads, captured.out.splitlines())}
    assert last == {1: [], 2: ["non-finite"]}
    assert captured.err == "ms-edge: odd.wav, channel 2: warning: non-finite.\n"
    assert cli.main(["stream", "odd.wav", "--channels", "3"]) == 1
    assert "odd.wav: has 2 channels, so channel 3 cannot be classified." in capsys.readouterr().err


def test_standard_input_and_raw_have_channels(folder, call):
    expected = [each.scores for each in classify_channels("call.wav")]
    for content, options in (
        (Path("call.wav").read_bytes(), []),
        (Path("call.wav").read_bytes()[44:], ["--raw", "16000:2:s16le"]),
    ):
        command = [*COMMAND, "classify", "-", "--channels", "each", "--format", "jsonl", *options]
        run = subprocess.run(command, input=content, capture_output=True, timeout=60, check=True)
        found = [json.loads(line)["scores"] for line in run.stdout.splitlines()]
        assert found == [{label: round(score, 6) for label, score in scores.items()} for scores in expected]


# Python


def test_streamed_windows_are_those_of_the_channel(call):
    classifier = Classifier(device="cpu", hop_s=0.5)
    blocks = [call[start : start + 700] for start in range(0, 56_000, 700)]
    together = list(classifier.stream_channels(blocks, 16_000))
    for number in (1, 2):
        expected = list(classifier.stream([block[:, number - 1] for block in blocks], 16_000))
        assert [channels[number - 1] for channels in together] == expected
        assert list(classifier.stream(blocks, 16_000, channel=number)) == expected


def test_a_window_comes_before_the_next_block(call):
    taken = []

    def blocks():
        for start in range(0, 48_000, 1_600):
            taken.append(start)
            yield call[start : start + 1_600]

    windows = Classifier(device="cpu", hop_s=0.5).stream_channels(blocks(), 16_000)
    assert len(next(windows)) == 2
    assert len(taken) == 10


def test_python_takes_files_arrays_and_objects(folder, call):
    expected = [alone(each) for each in classify_channels("call.wav")]
    with open("call.wav", "rb") as file:
        assert [alone(each) for each in classify_channels(file)] == expected
    samples, rate = soundfile.read("call.wav", dtype="int16")
    assert [alone(each) for each in classify_channels(samples, rate)] == expected
    assert alone(classify("call.wav", channel=np.int64(2))) == expected[1]
    assert [each.channel for each in classify_channels(samples[:, 0], rate)] == [1]


@pytest.mark.parametrize("channel", [0, -1, 65, 1.0, "1", "each"])
def test_a_wrong_channel_is_a_usage_error(classifier, call, channel):
    with pytest.raises(UsageError, match="channel"):
        classifier.classify(call, 16_000, channel=channel)
    with pytest.raises(UsageError, match="channel"):
        list(classifier.stream([call], 16_000, channel=channel))


def test_an_array_may_lack_the_channel(classifier, call):
    with pytest.raises(AudioError, match="array: has 2 channels, so channel 3 cannot be classified") as caught:
        classifier.timeline(call, 16_000, channel=3)
    assert caught.value.code == "bad-channels"
