"""`ms-edge report`: pages of recordings, readable without JavaScript, whatever a file is called."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

from ms_edge.classifier import Classifier
from ms_edge.cli.main import main
from ms_edge.report.job import with_settings
from ms_edge.report.sound import Peaks

DATA = "tests/data"


def embedded(page: str) -> dict:
    """The data that a page gives to its script."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_page_shows_what_classify_finds(tmp_path, capsys):
    page_path = tmp_path / "report.html"
    assert main(["report", f"{DATA}/music_zaz.wav", "-o", str(page_path)]) == 0
    page = page_path.read_text("utf-8")
    main(["classify", "--timeline", "--format", "jsonl", f"{DATA}/music_zaz.wav"])
    record = json.loads(capsys.readouterr().out)
    assert embedded(page)["segments"] == [
        [each["start_s"], each["end_s"], each["label"], round(each["probability"], 4)] for each in record["segments"]
    ]
    assert "<td>0.000</td><td>6.000</td>" in page
    assert "<svg" in page
    assert 'aria-hidden="true">M</span>music' in page


def test_directory_gets_index_and_pages(tmp_path, capsys):
    assert main(["report", f"{DATA}/music_zaz.wav", f"{DATA}/nothing.wav", "-o", f"{tmp_path}/"]) == 1
    index = (tmp_path / "index.html").read_text("utf-8")
    assert 'href="pages/tests/data/music_zaz.wav.html"' in index
    assert "2 recordings" in index
    assert "no such file" in html.unescape(index)
    assert (tmp_path / "pages/tests/data/music_zaz.wav.html").exists()
    assert "nothing.wav" in capsys.readouterr().err


def records_of(*arguments: str, folder) -> str:
    path = str(folder / "records.jsonl")
    main(["classify", "-q", "-o", path, *arguments])
    return path


def test_records_are_shown_as_they_were_written(tmp_path):
    hidden = shutil.copy(f"{DATA}/music_zaz.wav", tmp_path / "gone.wav")
    records = records_of(
        f"{DATA}/music_zaz.wav", str(hidden), "--timeline", "--min-confidence", "0.999", folder=tmp_path
    )
    Path(hidden).unlink()
    assert main(["report", records, "-o", f"{tmp_path}/out/"]) == 0
    there = embedded((tmp_path / "out/pages/tests/data/music_zaz.wav.html").read_text("utf-8"))
    page = (tmp_path / f"out/pages/@{tmp_path}/gone.wav.html").read_text("utf-8")
    gone = embedded(page)
    assert there["segments"] == gone["segments"]
    assert there["segments"][0][2] == "uncertain"
    assert "peaks" in there
    assert "peaks" not in gone
    assert "could not be read again" in page
    assert "<audio" not in page


def test_record_without_segments_gets_them_from_its_recording(tmp_path):
    records = records_of(f"{DATA}/music_zaz.wav", folder=tmp_path)
    assert main(["report", records, "-o", f"{tmp_path}/one.html"]) == 0
    assert [each[2] for each in embedded((tmp_path / "one.html").read_text("utf-8"))["segments"]] == ["music"]


def test_record_of_a_missing_recording_has_a_page(tmp_path):
    copy = shutil.copy(f"{DATA}/music_zaz.wav", tmp_path / "gone.wav")
    records = records_of(str(copy), folder=tmp_path)
    Path(copy).unlink()
    assert main(["report", records, "-o", f"{tmp_path}/one.html"]) == 0
    page = (tmp_path / "one.html").read_text("utf-8")
    assert embedded(page)["segments"] == []
    assert "<strong>music</strong>" in page


def test_channels_of_records_have_a_page_each(tmp_path):
    records = records_of(f"{DATA}/music_crossroads_stereo.wav", "--channels", "each", "--timeline", folder=tmp_path)
    assert main(["report", records, "-o", f"{tmp_path}/out/"]) == 0
    pages = sorted(path.name for path in (tmp_path / "out/pages/tests/data").iterdir())
    assert pages == [f"music_crossroads_stereo.wav.channel-{number}.html" for number in (1, 2)]
    assert "2 recordings" in (tmp_path / "out/index.html").read_text("utf-8")


def test_records_keep_failures(tmp_path, capsys):
    records = records_of(f"{DATA}/nothing.wav", f"{DATA}/music_zaz.wav", folder=tmp_path)
    assert main(["report", records, "-o", f"{tmp_path}/out/"]) == 1
    assert "no such file" in capsys.readouterr().err
    assert "1 could not be classified" in (tmp_path / "out/index.html").read_text("utf-8")


@pytest.mark.parametrize("command", ["report", "cut --keep music", "summary --format csv"])
@pytest.mark.parametrize("name", ["\ud800.wav", "a\0b.wav"])
def test_record_of_any_path_is_read(tmp_path, capsys, command, name):
    records = records_of(f"{DATA}/music_zaz.wav", "--timeline", folder=tmp_path)
    record = json.loads(Path(records).read_text("utf-8"))
    Path(records).write_text(json.dumps({**record, "path": name}) + "\n", "utf-8")
    assert main([*command.split(), records, "-o", f"{tmp_path}/out{'' if 'summary' in command else '/'}"]) in (0, 1)


@pytest.mark.parametrize("command", ["report", "cut --keep music", "summary --format csv"])
@pytest.mark.parametrize(
    "changes",
    [
        {"file": {"x": 1}},
        {"file": {"bytes": "1"}},
        {"sample_rate_hz": 10**400},
        *({name: "\ud800"} for name in ("label", "model", "container")),
        {"warnings": ["\ud800"]},
        {"scores": {"\ud800": 0.5}},
        {"seconds": {"\udc80": 0.5}},
    ],
    ids=str,
)
def test_a_line_that_is_no_record_is_one_sentence(tmp_path, capsys, command, changes):
    records = records_of(f"{DATA}/music_zaz.wav", "--timeline", folder=tmp_path)
    record = json.loads(Path(records).read_text("utf-8"))
    Path(records).write_text(json.dumps({**record, **changes}), "utf-8")  # without a newline at its end
    assert main([*command.split(), records, "-o", f"{tmp_path}/out{'' if 'summary' in command else '/'}"]) == 2
    assert f"line 1 is no record of ms-edge (its field {next(iter(changes))} is wrong" in capsys.readouterr().err


def test_record_of_standard_input_has_a_page(tmp_path):
    """Standard input now is another recording, or a terminal that waits."""
    records = records_of(f"{DATA}/music_zaz.wav", "--timeline", folder=tmp_path)
    record = json.loads(Path(records).read_text("utf-8"))
    Path(records).write_text(json.dumps({**record, "path": "-"}) + "\n", "utf-8")
    assert main(["report", records, "-o", f"{tmp_path}/one.html"]) == 0
    assert "standard input, which cannot be read again" in (tmp_path / "one.html").read_text("utf-8")


def test_record_with_an_impossible_name_is_a_failure(tmp_path, capsys):
    records = records_of(f"{DATA}/music_zaz.wav", "--timeline", folder=tmp_path)
    record = json.loads(Path(records).read_text("utf-8"))
    Path(records).write_text(json.dumps({**record, "path": "a\0b.wav"}), "utf-8")
    assert main(["report", records, "-o", f"{tmp_path}/out/"]) == 1
    assert "not a usable file name" in capsys.readouterr().err
    assert "not a usable file name" in (tmp_path / "out/index.html").read_text("utf-8")


@pytest.mark.parametrize("duration_s", [0, 1e200])
def test_record_of_any_duration_has_a_page(tmp_path, duration_s):
    record = {"schema": "ms-edge/1", "path": "gone.wav", "label": "speech", "probability": 1, "duration_s": duration_s}
    part = {"start_s": 0, "end_s": duration_s, "label": "speech", "probability": 1, "scores": {"speech": 1}}
    (tmp_path / "r.jsonl").write_text(json.dumps({**record, "scores": {"speech": 1}, "segments": [part]}))
    assert main(["report", f"{tmp_path}/r.jsonl", "-o", f"{tmp_path}/out/"]) == 0


def test_changed_recording_is_said(tmp_path):
    copy = shutil.copy(f"{DATA}/music_zaz.wav", tmp_path / "a.wav")
    records = records_of(str(copy), "--timeline", folder=tmp_path)
    page = tmp_path / "one.html"
    assert main(["report", records, "-o", str(page)]) == 0
    assert "has changed since it was classified" not in page.read_text("utf-8")
    shutil.copy(f"{DATA}/speech_italian_man.wav", copy)
    assert main(["report", records, "-o", str(page)]) == 0
    assert "has changed since it was classified" in page.read_text("utf-8")


@pytest.mark.parametrize(
    "rule", [{"binary": False, "thresholds": {"speech": 0.4, "music": 0.6}}, {"binary": True, "thresholds": None}]
)
def test_recordings_are_read_again_as_before(rule):
    settings = {"hop_s": 0.5, "min_segment_s": 2.0, "min_confidence": 0.9, "wav_only": False, **rule}
    settings |= {"decoder": "ffmpeg", "track": 2}
    classifier = Classifier()
    found = with_settings(classifier, replace(classifier.classify(f"{DATA}/music_zaz.wav"), settings=settings))
    assert found.settings().items() >= settings.items()


def test_page_in_a_directory_replaces_no_other_file(tmp_path, capsys):
    other = tmp_path / "out/pages/tests/data/music_zaz.wav.html"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    assert main(["report", f"{DATA}/music_zaz.wav", "-o", f"{tmp_path}/out/"]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert other.read_text() == "mine"


def test_index_names_the_common_folder_once(tmp_path):
    names = ["music_zaz.wav", "speech_italian_man.wav"]
    assert main(["report", *(f"{DATA}/{name}" for name in names), "-o", f"{tmp_path}/out/"]) == 0
    rows = embedded((tmp_path / "out/index.html").read_text("utf-8"))["rows"]
    assert [row[0] for row in rows] == names


def test_several_recordings_need_a_directory(tmp_path, capsys):
    arguments = ["report", f"{DATA}/music_zaz.wav", f"{DATA}/music_palace.wav", "-o", f"{tmp_path}/one.html"]
    assert main(arguments) == 2
    assert "for several give -o DIR/" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_not_replaced(tmp_path, capsys):
    (tmp_path / "index.html").write_text("mine")
    assert main(["report", f"{DATA}/music_zaz.wav", "-o", f"{tmp_path}/"]) == 2
    assert (tmp_path / "index.html").read_text() == "mine"
    assert main(["report", f"{DATA}/music_zaz.wav", "-o", f"{DATA}/music_zaz.wav"]) == 2
    assert "a page has the suffix .html" in capsys.readouterr().err


HOSTILE = "<img src=x onerror=alert(1)>\"'& ${x} %2e \u202e\udcff.wav"


@pytest.mark.skipif(sys.platform != "linux", reason="only here may a name be any bytes")
def test_hostile_name_is_escaped_everywhere(tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(f"{DATA}/music_zaz.wav", tmp_path / "in" / HOSTILE)
    assert main(["report", f"{tmp_path}/in", "-o", f"{tmp_path}/out/"]) == 0
    (page,) = (tmp_path / "out/pages").rglob("*.html")
    text = page.read_text("utf-8")
    assert "<img" not in text
    assert "\u202e" not in text
    assert embedded(text)["path"] == str(tmp_path / "in" / HOSTILE)
    (source,) = re.findall(r'<audio[^>]* src="([^"]*)"', text)
    played = page.parent / os.fsdecode(unquote_to_bytes(html.unescape(source)))
    assert played.samefile(tmp_path / "in" / HOSTILE)
    assert "<img" not in (tmp_path / "out/index.html").read_text("utf-8")


def test_scripts_are_those_that_the_policy_allows(tmp_path):
    main(["report", f"{DATA}/music_zaz.wav", "-o", f"{tmp_path}/out/"])
    for page in (tmp_path / "out").rglob("*.html"):
        text = page.read_text("utf-8")
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
        assert policy.startswith("default-src 'none'; ")
        scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
        digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts]
        assert re.findall(r"'sha256-([^']*)'", policy) == digests
        assert not re.search(
            r"https?://", re.sub(r"<script>.*?</script>|http://www.w3.org/[\w/]*", "", text, flags=re.S)
        )


@pytest.mark.parametrize("block", [1, 37, 320, 5000, 100_000])
def test_peaks_do_not_depend_on_blocks(block):
    samples = np.random.default_rng(0).uniform(-1, 1, 50_123).astype(np.float32)
    most = 100
    whole, parts = Peaks(16_000, most), Peaks(16_000, most)
    whole.add(samples)
    for start in range(0, len(samples), block):
        parts.add(samples[start : start + block])
    assert whole.bin_s == parts.bin_s
    assert (whole.values() == parts.values()).all()
    size = round(whole.bin_s * 16_000)
    expected = [np.abs(samples[start : start + size]).max() * 255 for start in range(0, len(samples), size)]
    assert (whole.values() == np.round(expected)).all()
    assert len(expected) <= most + 1


def test_samples_are_handed_on_while_they_are_classified():
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (50_000, 2)).astype(np.float32)
    for channel, expected in ((None, samples.mean(axis=1)), (2, samples[:, 1])):
        blocks: list[np.ndarray] = []
        found, _ = Classifier().analyse(
            samples, 16_000, channel=channel, on_samples=lambda block, kept=blocks: kept.append(block.copy())
        )
        assert np.allclose(np.concatenate(blocks), expected, atol=1e-7)
        assert found == Classifier().classify(samples, 16_000, channel=channel)
