"""`ms-edge cut`: the right samples, each of them as it was, and no file lost."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import struct
import time
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from test_formats import LONG

import ms_edge
from ms_edge.audio.file import STORED_AS, AudioFile
from ms_edge.audio.opening import file_facts
from ms_edge.cli import main as cli
from ms_edge.cli.cut import Table
from ms_edge.errors import AudioError, UsageError
from ms_edge.output.writers import json_line
from ms_edge.report import cut as cut_module
from ms_edge.report import cut_files
from ms_edge.report.cut_lists import LISTS, Piece
from ms_edge.results import Failure, Segment

RATE = 8000
LABELS = ("speech", "music", "silence", "speech+music", "other", "speech")  # of one second each


def timeline(path, labels=LABELS, length_s=1.0, **changes):
    """A result with a segment of `length_s` for each label."""
    segments = tuple(Segment(n * length_s, (n + 1) * length_s, label, 0.9, {}) for n, label in enumerate(labels))
    file = file_facts(Path(path).stat()) if Path(path).exists() else None
    facts = {"segments": segments, "duration_s": len(labels) * length_s, "file": file, "channel": None}
    return replace(LONG, path=str(path), **{**facts, **changes})


def cut(tmp_path, *results, keep="speech", options=()):
    """Cut what the results describe into tmp_path/out, and return the exit status."""
    (tmp_path / "r.jsonl").write_text("".join(json_line(result, True) for result in results))
    return cli.main(["cut", str(tmp_path / "r.jsonl"), "--keep", keep, "-o", str(tmp_path / "out"), *options])


def numbers(seconds=6.0, channels=1, seed=0):
    return np.random.default_rng(seed).integers(-(2**31), 2**31, (round(seconds * RATE), channels), np.int32)


def written(path, form, subtype, channels=1, seconds=6.0):
    """Write numbers that use every bit of a subtype; return what soundfile reads back."""
    samples = numbers(seconds, channels)
    if subtype in ("FLOAT", "DOUBLE"):
        samples = samples / 2.0**28  # far over full scale
    soundfile.write(path, samples, RATE, subtype, format=form)
    return stored(path)


def stored(path):
    info = soundfile.info(path)
    samples, rate = soundfile.read(path, dtype=STORED_AS[info.subtype], always_2d=True)
    assert rate == RATE
    return samples


def outputs(tmp_path):
    return sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())


FORMATS = [
    *[("WAV", subtype) for subtype in STORED_AS if subtype != "PCM_S8"],
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_32"),
    ("AIFF", "PCM_S8"),
    ("AIFF", "PCM_24"),
    ("AU", "ALAW"),
    ("CAF", "DOUBLE"),
    ("FLAC", "PCM_S8"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
]


@pytest.mark.parametrize(("form", "subtype"), FORMATS)
@pytest.mark.parametrize("join", [False, True])
def test_samples_are_copied_bit_for_bit(tmp_path, monkeypatch, form, subtype, join, capsys):
    monkeypatch.setattr("ms_edge.audio.file.BLOCK_SAMPLES", 6000)  # borders of blocks and parts differ
    path = tmp_path / f"a.{form.lower()}"
    samples = written(path, form, subtype, channels=3 if form != "FLAC" else 8)
    assert cut(tmp_path, timeline(path), options=["--join"] * join) == 0
    assert "copied" in capsys.readouterr().out
    kept = [samples[:RATE], samples[3 * RATE : 4 * RATE], samples[5 * RATE :]]
    found = outputs(tmp_path)
    for each in found:
        info = soundfile.info(each)
        assert (info.subtype, info.channels) == (subtype, samples.shape[1])
        assert info.format == form or (form, info.format) == ("WAV", "WAV")
    assert len(found) == (1 if join else 3)
    expected = [np.concatenate(kept)] if join else kept
    for each, part in zip(found, expected, strict=True):
        np.testing.assert_array_equal(stored(each), part)


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "AIFF"])
def test_files_over_four_gigabytes_are_rf64(tmp_path, monkeypatch, form):
    monkeypatch.setattr(cut_files, "LARGE_BYTES", 2 * RATE * 2)  # two seconds of 16 bits instead
    path = tmp_path / "a.wav"
    samples = written(path, form, "PCM_16")
    assert cut(tmp_path, timeline(path), options=["--join"]) == 0
    assert soundfile.info(outputs(tmp_path)[0]).format == "RF64"
    kept = [samples[:RATE], samples[3 * RATE : 4 * RATE], samples[5 * RATE :]]
    np.testing.assert_array_equal(stored(outputs(tmp_path)[0]), np.concatenate(kept))


def test_all_labels_joined_are_the_recording(tmp_path):
    path = tmp_path / "a.flac"
    samples = written(path, "FLAC", "PCM_24", seconds=6.00013)  # a frame more than the segments say
    assert cut(tmp_path, timeline(path), keep="speech,music,silence,other", options=["--join"]) == 0
    np.testing.assert_array_equal(stored(outputs(tmp_path)[0]), samples)


def test_pieces_are_named_by_their_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("d").mkdir()
    written("d/a b.WAV", "WAV", "PCM_U8")
    assert cut(tmp_path, timeline("d/a b.WAV")) == 0
    folder = tmp_path / "out" / "d" / "a b.WAV"
    assert [path.name for path in outputs(tmp_path)] == [f"00-00-0{n}.000.wav" for n in (0, 3, 5)]
    assert {path.parent for path in outputs(tmp_path)} == {folder}


@pytest.mark.parametrize(
    ("keep", "drop", "pad_s", "parts"),
    [
        ("speech", "", 0, [(0, 1), (3, 4), (5, 6)]),
        ("speech+music", "", 0, [(3, 4)]),
        ("music", "", 0, [(1, 2), (3, 4)]),
        ("speech,other", "", 0, [(0, 1), (3, 6)]),
        ("speech", "", 0.25, [(0, 1.25), (2.75, 4.25), (4.75, 6)]),
        ("speech", "", 0.5, [(0, 1.5), (2.5, 6)]),  # parts that meet are joined
        ("uncertain", "", 9, []),
        ("", "music", 0, [(0, 1), (2, 3), (4, 6)]),
        ("", "speech,music", 0, [(2, 3), (4, 5)]),
        ("", "silence", 0.1, [(0, 2.1), (2.9, 6)]),
    ],
)
def test_labels_choose_parts(keep, drop, pad_s, parts):
    labels = [tuple(filter(None, text.split(","))) for text in (keep, drop)]
    assert timeline("a.wav").intervals(*labels[0], drop=labels[1], pad_s=pad_s) == parts


@pytest.mark.parametrize(
    ("keep", "options", "said"),
    [
        ((), {}, "labels to keep, or labels to drop"),
        (("speech",), {"drop": "music"}, "labels to keep, or labels to drop"),
        (("speach",), {}, r"no label 'speach'; the labels are speech, music, other, silence, uncertain"),
        (("speech+noise",), {}, r"no label 'speech\+noise'"),
        (("speech",), {"pad_s": -1}, "0 seconds or more, not by -1"),
        (("speech",), {"pad_s": float("nan")}, "0 seconds or more, not by nan"),
    ],
)
def test_impossible_intervals_are_refused(keep, options, said):
    with pytest.raises(UsageError, match=said):
        timeline("a.wav").intervals(*keep, **options)


def test_real_recordings_are_cut_where_labels_are(tmp_path):
    """The samples that are kept of speech, music and silence are those of the speech."""
    speech, rate = soundfile.read("tests/data/speech_italian_man.wav", dtype="int16")
    music, _ = soundfile.read("tests/data/music_zaz.wav", dtype="int16")
    programme = np.concatenate([music, speech, np.zeros(3 * rate, np.int16), music, speech])
    path = tmp_path / "programme.flac"
    soundfile.write(path, programme, rate)
    assert cli.main(["cut", str(path), "--keep", "speech", "-o", str(tmp_path / "out")]) == 0
    starts = []
    for each in outputs(tmp_path):
        part, _ = soundfile.read(each, dtype="int16")
        hours, minutes, seconds = each.name.removesuffix(".flac").split("-")
        start = round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * rate)
        np.testing.assert_array_equal(part, programme[start : start + len(part)])
        starts.append((start / rate, (start + len(part)) / rate))
    assert np.allclose(starts, [(6, 12), (21, 27)], atol=0.5), starts


def test_other_codings_become_flac_and_say_so(tmp_path, capsys):
    samples, rate = soundfile.read("tests/data/speech_italian_man.wav")
    soundfile.write(tmp_path / "a.mp3", samples, rate)
    soundfile.write(tmp_path / "b.ogg", np.stack([samples] * 9, axis=1), rate)  # FLAC has eight channels
    soundfile.write(tmp_path / "c.caf", samples, rate, "ALAC_24")
    results = [timeline(tmp_path / name, length_s=1.0) for name in ("a.mp3", "b.ogg", "c.caf")]
    assert cut(tmp_path, *results, options=["--join"]) == 0
    found = {path.name: soundfile.info(path) for path in outputs(tmp_path)}
    assert {name: (info.format, info.subtype) for name, info in found.items()} == {
        "a.mp3.flac": ("FLAC", "PCM_16"),
        "b.ogg.wav": ("WAV", "PCM_16"),
        "c.caf.flac": ("FLAC", "PCM_24"),
    }
    assert "as FLAC 16" in capsys.readouterr().out
    kept = np.concatenate([samples[:rate], samples[3 * rate : 4 * rate], samples[5 * rate :]])
    lossless, _ = soundfile.read(next(path for path in outputs(tmp_path) if path.name == "c.caf.flac"))
    np.testing.assert_array_equal(lossless, kept)


def test_fades_begin_and_end_at_zero(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(6 * RATE, 30_000, np.int16), RATE)
    assert cut(tmp_path, timeline(path), options=["--fade", "0.1"]) == 0
    first, middle, last = (stored(each)[:, 0] for each in outputs(tmp_path))
    fade = RATE // 10
    ramp = np.rint(30_000 * (np.arange(fade) + 0.5) / fade)
    assert (first[:-fade] == 30_000).all()  # the recording begins as it did
    assert (last[fade:] == 30_000).all()
    np.testing.assert_array_equal(first[-fade:], ramp[::-1])
    np.testing.assert_array_equal(last[:fade], ramp)
    np.testing.assert_array_equal(middle, np.concatenate([ramp, np.full(RATE - 2 * fade, 30_000), ramp[::-1]]))


@pytest.mark.parametrize(
    ("name", "labels", "said"),
    [("a.wav", LABELS, "faded"), ("a.wav", ["speech"] * 6, "copied"), ("a.ogg", LABELS, "as FLAC 16")],
)
def test_faded_samples_are_not_called_copied(tmp_path, capsys, name, labels, said):
    """Nothing fades where a recording is kept whole."""
    soundfile.write(tmp_path / name, np.zeros(6 * RATE), RATE)
    assert cut(tmp_path, timeline(tmp_path / name, labels), options=["--fade", "0.1"]) == 0
    assert f"  {said}  " in capsys.readouterr().out


def test_arrays_are_cut_like_files(tmp_path):
    path = tmp_path / "a.wav"
    samples = written(path, "WAV", "PCM_16", channels=2)
    found = timeline(path)
    assert cut(tmp_path, found, options=["--fade", "3", "--pad", "0.1"]) == 0  # fades longer than half a part
    parts = ms_edge.cut(samples, RATE, found.intervals("speech", pad_s=0.1), fade_s=3)
    for each, part in zip(outputs(tmp_path), parts, strict=True):
        np.testing.assert_array_equal(stored(each), part)
    assert ms_edge.cut(samples[:, 0], RATE, [(1.0, 2.0)])[0].shape == (RATE,)
    assert not np.shares_memory(ms_edge.cut(samples, RATE, [(1.0, 2.0)])[0], samples)
    np.testing.assert_array_equal(ms_edge.cut(samples, RATE, [(1.0, np.inf)])[0], samples[RATE:])
    with pytest.raises(UsageError, match="An interval starts"):
        ms_edge.cut(samples, RATE, [(2.0, 1.0)])
    for fade_s in (-1.0, np.nan):
        with pytest.raises(UsageError, match="fade_s must be 0 seconds or more"):
            ms_edge.cut(samples, RATE, [(1.0, 2.0)], fade_s=fade_s)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_fades_begin_and_end_at_silence(dtype):
    """Half of the largest number is silence in samples without a sign."""
    silence = np.iinfo(dtype).max // 2 + 1 if np.dtype(dtype).kind == "u" else 0
    samples = np.full((8, 1), silence + 100, dtype)
    (part,) = ms_edge.cut(samples, 4000, [(0.00025, 0.00175)], fade_s=np.inf)
    assert part.dtype == dtype
    np.testing.assert_allclose(part[:, 0] - np.float64(silence), [16.7, 50, 83.3, 83.3, 50, 16.7], atol=0.5)


def test_a_fade_of_any_length_is_possible(tmp_path):
    written(tmp_path / "a.wav", "WAV", "PCM_16")
    assert cut(tmp_path, timeline(tmp_path / "a.wav"), options=["--fade", "1e308"]) == 0


def test_a_recording_that_may_have_changed_is_said(tmp_path, capsys):
    """Copies of a recording have other times, so this is no error; another size is one."""
    path = tmp_path / "a.wav"
    written(path, "WAV", "PCM_16")
    found = timeline(path)
    written(path, "WAV", "PCM_16")
    os.utime(path, (0, 0))
    assert cut(tmp_path, found) == 0
    assert "its time of change is not that of its record)" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "out")
    for modified in (None, "1970-01-01T00:00:01Z", "yesterday"):  # unknown, or rounded
        assert cut(tmp_path, replace(found, file={**found.file, "modified": modified}), options=["--join"]) == 0
        assert "its time of change" not in capsys.readouterr().out
        shutil.rmtree(tmp_path / "out")
    assert cut(tmp_path, replace(found, file={**found.file, "bytes": 7}), options=["--join"]) == 1
    assert "has changed since its record was written" in capsys.readouterr().err


def test_standard_input_cannot_be_cut_again(tmp_path, capsys):
    assert cut(tmp_path, replace(timeline(tmp_path / "gone.wav"), path="-")) == 1
    assert "was standard input, which cannot be read again" in capsys.readouterr().err


def test_a_list_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    written(path, "WAV", "PCM_16")

    def full(name, *arguments, **keywords):
        file = open(name, *arguments, **keywords)  # noqa: SIM115
        file.write("half")
        file.close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cut_module, "open", full, raising=False)
    assert cut(tmp_path, timeline(path), options=["--list", "edl"]) == 1
    assert not outputs(tmp_path)
    monkeypatch.undo()
    assert cut(tmp_path, timeline(path), options=["--list", "edl"]) == 0


def test_inputs_of_one_name_are_kept_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        Path(folder).mkdir()
        written(f"{folder}/x.wav", "WAV", "PCM_16")
    assert cut(tmp_path, timeline("a/x.wav"), timeline("b/x.wav"), timeline("b/../b/x.wav"), options=["--join"]) == 0
    assert len(outputs(tmp_path)) == 3


def test_existing_files_are_not_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written("x.wav", "WAV", "PCM_16")
    for options in ([], ["--join"]):
        Path("out").mkdir(exist_ok=True)
        (tmp_path / "out" / "x.wav").write_text("mine")
        assert cut(tmp_path, timeline("x.wav"), options=options) == 1
        assert "out/x.wav: exists and is not replaced" in capsys.readouterr().err
        (tmp_path / "out" / "x.wav").unlink()
        (tmp_path / "out" / "x.wav.cue").write_text("mine")
        assert cut(tmp_path, timeline("x.wav"), options=[*options, "--list", "cue"]) == 1
        assert [(path.name, path.read_text()) for path in outputs(tmp_path)] == [("x.wav.cue", "mine")]
        (tmp_path / "out" / "x.wav.cue").unlink()


def test_inputs_below_the_output_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    written("out/x.wav", "WAV", "PCM_16")
    assert cut(tmp_path, timeline("out/x.wav")) == 1
    assert "lies in the directory of -o" in capsys.readouterr().err


def test_n_inputs_have_n_lines(tmp_path, capsys):
    path = tmp_path / "a.wav"
    written(path, "WAV", "PCM_16")
    short = tmp_path / "short.wav"
    written(short, "WAV", "PCM_16", seconds=5.5)
    gone = Failure("gone.wav", "not-found", "gone.wav: no such file or directory.")
    results = [
        timeline(path, ["music", "silence"]),
        gone,
        timeline(tmp_path / "removed.wav"),
        timeline(short, file={"bytes": 1, "modified": ""}),
        timeline(path, segments=()),
    ]
    (tmp_path / "r.jsonl").write_text(
        "".join(json_line(result, bool(getattr(result, "segments", 0))) for result in results)
    )
    assert cli.main(["cut", str(tmp_path / "r.jsonl"), "--keep", "speech", "-o", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[-1] for line in out.splitlines()[1:]] == [
        "(usage)",
        "(not-found)",
        "(not-found)",
        "(has-changed)",
    ]
    assert "its record has no segments; write records with classify --timeline" in err
    assert "short.wav: has changed since its record was written" in err
    assert not outputs(tmp_path)


def test_nothing_to_keep_is_no_error(tmp_path, capsys):
    path = tmp_path / "a.wav"
    written(path, "WAV", "PCM_16")
    assert cut(tmp_path, timeline(path), keep="uncertain", options=["--list", "m3u"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:5] == ["0.0", "s", "6.0", "s", "0"]
    assert not outputs(tmp_path)


def test_records_of_channels_are_refused(tmp_path, capsys):
    path = tmp_path / "a.wav"
    written(path, "WAV", "PCM_16", channels=2)
    assert cut(tmp_path, timeline(path, channel=1), timeline(path, channel=2)) == 1
    assert "has a record for each channel" in capsys.readouterr().err
    assert cut(tmp_path, timeline(path, channel=2)) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-", "--keep", "speech"], "it cannot be standard input"),
        (["a.wav", "--keep", ","], "at least one label"),
        (["a.wav", "--keep", "speech", "--pad", "-1"], "--pad must be 0 seconds or more, not -1"),
        (["a.wav", "--keep", "speech", "--fade", "nan"], "--fade must be 0 seconds or more, not nan"),
        (["a.wav", "--keep", "speach"], "There is no label 'speach'"),
        (["a.wav", "--keep", "speech", "--channels", "each"], "All channels of a recording are cut together"),
        (["a.wav", "--keep", "speech", "-j", "0"], "--jobs must be 1 or more"),
        (["r.jsonl", "--keep", "speech"], "r.jsonl: the records cannot be read"),
    ],
)
def test_wrong_options_are_one_sentence(tmp_path, monkeypatch, arguments, said, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["cut", *arguments, "-o", "out"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_standard_output_is_no_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in (["cut", "a.wav", "--keep", "speech"], ["report", "a.wav"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main([*command, "-o", "-"])
        assert "a name is needed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_output_must_be_a_directory(tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    written(tmp_path / "a.wav", "WAV", "PCM_16")
    assert cut(tmp_path, timeline(tmp_path / "a.wav")) == 2
    assert "is no directory and cannot become one" in capsys.readouterr().err


def test_damaged_headers_and_raw_audio_are_cut(tmp_path, monkeypatch, capsys):
    """A stream's header without sizes, a truncated file, and PCM without a header."""
    monkeypatch.chdir(tmp_path)
    samples = written("a.wav", "WAV", "PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    (tmp_path / "raw.pcm").write_bytes(content[44:])
    (tmp_path / "cut.wav").write_bytes(content[:-RATE])
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "stream.wav").write_bytes(content)
    raw = {"raw": f"{RATE}:1:s16le"}
    results = [timeline("stream.wav"), timeline("cut.wav"), timeline("raw.pcm", settings=raw)]
    assert cut(tmp_path, *(replace(each, warnings=()) for each in results), options=["--join"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.partition(" (")[2] for line in lines] == ["stream-header)", "truncated)", ""]
    kept = np.concatenate([samples[:RATE], samples[3 * RATE : 4 * RATE], samples[5 * RATE :]])
    found = {path.name: stored(path) for path in outputs(tmp_path)}
    assert sorted(found) == ["cut.wav", "raw.pcm.wav", "stream.wav"]
    np.testing.assert_array_equal(found["stream.wav"], kept)
    np.testing.assert_array_equal(found["raw.pcm.wav"], kept)
    np.testing.assert_array_equal(found["cut.wav"], kept[: -RATE // 2])


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF"])
def test_tags_are_kept(tmp_path, form):
    path = tmp_path / f"a.{form.lower()}"
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format=form) as file:
        file.title, file.artist = "Café", "Me"
        file.write(numbers(6))
    assert cut(tmp_path, timeline(path)) == 0
    for each in outputs(tmp_path):
        with soundfile.SoundFile(each) as file:
            assert (file.title, file.artist) == ("Café", "Me")


@pytest.mark.parametrize("before", [True, False])
def test_bext_says_when_a_piece_began(tmp_path, before):
    path = tmp_path / "a.wav"
    written(path, "WAV", "PCM_U8", seconds=6.000125)  # an odd number of bytes
    body = bytearray(602)
    body[:5], body[320:338] = b"Alley", b"2026-11-2823:59:58"
    body[338:346] = ((24 * 3600 - 2) * RATE).to_bytes(8, "little")
    chunk = b"bext" + struct.pack("<I", len(body)) + body
    content = bytearray(path.read_bytes())
    content = content[:12] + chunk + content[12:] if before else content + chunk
    content[4:8] = struct.pack("<I", len(content) - 8)
    path.write_bytes(content)
    assert cut(tmp_path, timeline(path)) == 0
    began = []
    for each in outputs(tmp_path):
        assert len(each.read_bytes()) == 8 + struct.unpack("<I", each.read_bytes()[4:8])[0]
        assert b"bext\x5a\x02\0\0Alley" in each.read_bytes()
        with AudioFile(each) as file:
            began.append(file.recorded_at)
            assert file.warnings == []
    assert began == ["2026-11-28T23:59:58", "2026-11-29T00:00:01", "2026-11-29T00:00:03"]


def test_ffmpeg_reads_the_concat_list(tmp_path):
    path = tmp_path / "it's.wav"
    samples = written(path, "WAV", "PCM_16")
    assert cut(tmp_path, timeline(path), options=["--list", "concat"]) == 0
    (script,) = (each for each in outputs(tmp_path) if each.suffix == ".ffconcat")
    with av.open(str(script), format="concat", options={"safe": "0"}) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    kept = np.concatenate([samples[:RATE], samples[3 * RATE : 4 * RATE], samples[5 * RATE :]])
    np.testing.assert_allclose(sum(frame.shape[1] for frame in frames), len(kept), atol=3 * 4096)


@pytest.mark.parametrize("join", [False, True])
def test_playlists_name_the_files(tmp_path, join):
    path = tmp_path / '#a "é".flac'  # without ./ before it, a comment in a playlist
    written(path, "FLAC", "PCM_16")
    assert cut(tmp_path, timeline(path), options=["--list", "m3u", *["--join"] * join]) == 0
    (playlist,) = (each for each in outputs(tmp_path) if each.suffix == ".m3u8")
    head, *lines = playlist.read_text("utf-8").splitlines()
    assert head == "#EXTM3U"
    assert [line.partition(",")[0] for line in lines[::2]] == (["#EXTINF:3"] if join else ["#EXTINF:1"] * 3)
    assert all((playlist.parent / line).is_file() for line in lines[1::2])
    assert not any(line.startswith("#") for line in lines[1::2])


def test_cue_sheets_point_into_the_files(tmp_path):
    path = tmp_path / "a.wav"
    written(path, "WAV", "PCM_16")
    assert cut(tmp_path, timeline(path), options=["--list", "cue", "--join"]) == 0
    sheet = next(each for each in outputs(tmp_path) if each.suffix == ".cue").read_text()
    assert re.findall(r'FILE "(.*)" WAVE', sheet) == ["a.wav"]
    assert re.findall(r"TITLE \"a.wav (.*)\"", sheet) == ["0.000", "3.000", "5.000"]
    assert re.findall(r"INDEX 01 (.*)", sheet) == ["00:00:00", "00:01:00", "00:02:00"]


def test_edit_lists_add_up(tmp_path):
    path = tmp_path / "a.wav"
    written(path, "WAV", "PCM_16")
    assert cut(tmp_path, timeline(path), options=["--list", "edl", "--join", "--pad", "0.1"]) == 0
    text = next(each for each in outputs(tmp_path) if each.suffix == ".edl").read_text()
    times = [[_frames(time) for time in line.split()[4:]] for line in text.splitlines() if line[:3].isdigit()]
    assert [end - start for start, end, _, _ in times] == [end - start for _, _, start, end in times]
    assert times[0][2] == 3600 * 25
    assert all(before[3] == after[2] for before, after in pairwise(times))
    assert [start for start, *_ in times] == pytest.approx([0, 2.9 * 25, 4.9 * 25], abs=0.51)


@pytest.mark.parametrize(
    ("start_h", "end_h", "fits"),
    [(0.5, 23.4, True), (0, 23, False), (23.5, 23.9, True), (23.5, 24, False), (30, 31, False)],
)
def test_edit_lists_end_before_24_hours(start_h, end_h, fits):
    """In the recording, and in the new programme, which begins at one hour."""
    pieces = [Piece(start_h * 3600, end_h * 3600, "a.wav")]
    if fits:
        assert "FROM CLIP NAME" in LISTS["edl"].text(LONG, pieces, True)
    else:
        with pytest.raises(AudioError, match="has times of 24 hours or more"):
            LISTS["edl"].text(LONG, pieces, True)


def _frames(timecode):
    hours, minutes, seconds, frames = map(int, timecode.split(":"))
    return ((hours * 60 + minutes) * 60 + seconds) * 25 + frames


def test_lists_that_cannot_be_written_leave_nothing(tmp_path, capsys):
    many, broken = tmp_path / "a.wav", tmp_path / "a\nb.wav"
    for path in (many, broken):
        written(path, "WAV", "PCM_U8")
    results = [timeline(many, ["speech", "music"] * 100, 0.03), timeline(broken)]
    assert cut(tmp_path, *results, options=["--list", "cue"]) == 1
    assert "has 100 parts, and a cue sheet 99 at most" in capsys.readouterr().err
    assert not outputs(tmp_path)


@pytest.mark.parametrize("options", [[], ["--join"]])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, options, capfd):
    path = tmp_path / "a.wav"
    written(path, "WAV", "PCM_16")

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 10_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data[:3000])  # a short write is no error

    monkeypatch.setattr(cut_files, "open", lambda name, mode, buffering: Full(name, mode), raising=False)
    assert cut(tmp_path, timeline(path), options=options) == 1
    assert not outputs(tmp_path)
    out, err = capfd.readouterr()
    assert err == f"ms-edge: {path}: its parts cannot be written in {tmp_path / 'out'} (no space left on device).\n"
    assert "(cannot-write)" in out


def test_a_run_that_ends_early_leaves_nothing(tmp_path, monkeypatch):
    """As below `head -1`: the table cannot be printed while another recording is being cut."""
    written(tmp_path / "a.wav", "WAV", "PCM_16")
    written(tmp_path / "b.wav", "WAV", "PCM_16", channels=2)
    begun = tmp_path / "begun"

    def write(sink, block):
        while block.shape[1] == 2 or not begun.exists():
            if block.shape[1] == 2:
                begun.touch()
            time.sleep(0.01)

    def closed(table, result):
        raise BrokenPipeError

    monkeypatch.setattr(cut_files.Sink, "write", write)
    monkeypatch.setattr(Table, "write", closed)
    cut(tmp_path, timeline(tmp_path / "a.wav"), timeline(tmp_path / "b.wav"), options=["-j", "2"])
    assert begun.exists()
    assert {path.parent.name for path in outputs(tmp_path)} == {"a.wav"}


def test_segments_after_the_end_are_left_out():
    """A record may state anything."""
    assert timeline("a.wav", duration_s=2.5).intervals("speech", pad_s=0.1) == [(0.0, 1.1)]


def test_a_segment_inside_another_shortens_nothing():
    """A record may state anything."""
    times = [(0, 5), (1, 2), (4, 6)]
    segments = tuple(Segment(start, end, "speech", 0.9, {}) for start, end in times)
    assert timeline("a.wav", segments=segments).intervals("speech") == [(0, 6)]


def test_segments_in_any_order_are_cut(tmp_path):
    path = tmp_path / "a.wav"
    samples = written(path, "WAV", "PCM_16")
    found = timeline(path)
    assert cut(tmp_path, replace(found, segments=found.segments[::-1]), options=["--join"]) == 0
    kept = [samples[:RATE], samples[3 * RATE : 4 * RATE], samples[5 * RATE :]]
    np.testing.assert_array_equal(stored(outputs(tmp_path)[0]), np.concatenate(kept))


def test_long_recordings_need_little_memory(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(3600 * RATE, np.int16), RATE)
    found = timeline(path, ["speech", "music"] * 900, 2.0)
    (tmp_path / "r.jsonl").write_text(json_line(found, True))
    arguments = ["cut", str(tmp_path / "r.jsonl"), "--keep", "speech", "--join", "-o", str(tmp_path / "out")]
    tracemalloc.start()
    try:
        assert cli.main(arguments) == 0
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert soundfile.info(outputs(tmp_path)[0]).frames == 1800 * RATE
