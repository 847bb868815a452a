"""`ms-edge summary`: no second, error or warning is lost, whatever the groups are."""

from __future__ import annotations

import csv
import filecmp
import io
import json
import sys
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib.image
import openpyxl
import pytest
from test_formats import LONG

from ms_edge.cli import main as cli
from ms_edge.output.writers import json_line
from ms_edge.report import summary_tables
from ms_edge.report.summary import NO_TIME, Summary
from ms_edge.report.summary_chart import chart
from ms_edge.results import Failure, Segment

MODIFIED = "2026-11-28T15:00:00.000000Z"


def recording(path="a/b.wav", start=None, minutes=(("speech", 30), ("music", 20)), **changes):
    """A result with one segment per pair of label and minutes; `start` is its `recorded_at`."""
    segments, at = [], 0.0
    for label, length in minutes:
        segments.append(Segment(at, at + 60.0 * length, label, 0.9, {}))
        at += 60.0 * length
    seconds = {}
    for part in segments:
        seconds[part.label] = seconds.get(part.label, 0) + part.end_s - part.start_s
    facts = {"segments": tuple(segments), "seconds": seconds, "duration_s": at, "warnings": ()}
    facts |= {"recorded_at": start, "file": {"bytes": 1, "modified": MODIFIED}}
    return replace(LONG, path=path, **{**facts, **changes})


def summary_of(by, *results, pattern=None):
    summary = Summary(by, pattern)
    for result in results:
        summary.add(result)
    return summary


def minutes(summary):
    return {
        name: {label: round(seconds / 60, 6) for label, seconds in group.seconds.items()}
        for name, group in summary.groups.items()
    }


def written(tmp_path, *results):
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json_line(result, True) for result in results))
    return str(path)


FAILED = Failure("a/$x_20261128_160000.wav", "not-audio", "no.")


def test_real_recordings_add_up(tmp_path, capsys):
    records = str(tmp_path / "records.jsonl")
    assert cli.main(["classify", "-q", "--timeline", "tests/data", "gone.wav", "-o", records]) == 1
    assert cli.main(["summary", records, "--by", "folder", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    gone, data = found["groups"]
    assert (gone["folder"], gone["recordings"], gone["errors"]) == (".", 0, {"not-found": 1})
    assert (data["folder"], data["recordings"], data["errors"]) == ("tests/data", 12, {})
    assert data["seconds"] == {"speech": 35.0, "music": 32.0}
    assert data["share"]["speech"] == pytest.approx(35 / 67, abs=1e-6)
    assert found["total"]["recordings"] == 12


def test_files_keep_their_order():
    summary = summary_of("file", recording("z.wav"), FAILED, recording("a.wav"))
    assert list(summary.groups) == ["z.wav", FAILED.path, "a.wav"]


def test_a_recording_is_divided_at_full_hours():
    long = recording(start="2026-11-28T23:50:00Z", minutes=(("speech", 5), ("music", 80), ("silence", 1)))
    assert minutes(summary_of("hour", long)) == {
        "2026-11-28 23:00": {"speech": 5, "music": 5},
        "2026-11-29 00:00": {"music": 60},
        "2026-11-29 01:00": {"music": 15, "silence": 1},
    }
    days = summary_of("day", long)
    assert minutes(days) == {"2026-11-28": {"speech": 5, "music": 5}, "2026-11-29": {"music": 75, "silence": 1}}
    assert days.total.recordings == 1


def test_warnings_of_a_divided_recording_count_once():
    long = recording(start="2026-11-28T23:50:00Z", minutes=(("speech", 90),), warnings=("truncated",))
    found = summary_of("hour", long)
    assert [group.warnings.total() for group in found.groups.values()] == [1, 0, 0]
    assert found.total.warnings.total() == 1


@pytest.mark.parametrize(("length_s", "undivided"), [(3600.9, 0), (3601.1, 1)])
def test_a_second_over_the_hour_is_no_note(length_s, undivided):
    whole = recording(start="2026-11-28T23:00:00Z", minutes=(("speech", length_s / 60),))
    assert summary_of("hour", replace(whole, segments=())).undivided == undivided


def test_without_segments_the_first_hour_counts():
    whole = recording(start="2026-11-28T14:30:00", segments=())
    summary = summary_of("hour", whole)
    assert minutes(summary) == {"2026-11-28 14:00": {"speech": 30, "music": 20}}
    assert any("1 recording without a timeline" in note for note in summary_tables.notes(summary))
    assert not summary_of("day", whole).undivided


@pytest.mark.parametrize(
    ("result", "pattern", "hour", "source"),
    [
        (recording(start="2026-01-02T03:04:05.678"), None, "2026-01-02 03:00", "recorded_at"),
        (recording(start="2026-01-02T03:04:05Z"), None, "2026-01-02 03:00", "recorded_at"),  # as it is
        (recording(), None, "2026-11-28 14:00", "file-time"),  # 50 minutes before the file's time
        (recording(start="soon"), None, "2026-11-28 14:00", "file-time"),
        (recording(file=None), None, NO_TIME, NO_TIME),
        (recording(file={"modified": "+012026-01-01T00:00:00Z"}), None, NO_TIME, NO_TIME),
        (recording(file={"modified": "0001-01-01T00:00:00Z"}), None, NO_TIME, NO_TIME),
        (recording("x/2025-06-07 08.wav"), "%Y-%m-%d %H", "2025-06-07 08:00", "time-pattern"),
        (recording("2024/12/31/23/20250101_00.wav"), "%Y%m%d_%H", "2025-01-01 00:00", "time-pattern"),
        (recording("2024/12/31/23/00.wav"), "%Y/%m/%d/%H", "2024-12-31 23:00", "time-pattern"),
        (recording("100%_240229T07.wav"), "%%_%y%m%dT%H", "2024-02-29 07:00", "time-pattern"),
        (recording("2025366_07 2024366_07 2025999_07"), "%Y%j_%H", "2024-12-31 07:00", "time-pattern"),
        (recording("920250607_08.wav", start="2026-01-02T03:04:05Z"), "%Y%m%d_%H", "2026-01-02 03:00", "recorded_at"),
        (FAILED, "x_%Y%m%d_%H%M%S", "2026-11-28 16:00", "time-pattern"),
        (FAILED, None, NO_TIME, NO_TIME),
    ],
)
def test_time_comes_from_pattern_record_or_file(result, pattern, hour, source):
    summary = summary_of("hour", result, pattern=pattern)
    assert list(summary.groups) == [hour]
    assert summary.total.times == {source: 1}


@pytest.mark.parametrize("pattern", ["%Y%m%d", "%H", "%Y%m%d_%H%%M%Q", "%Y%m%d%H%Y", "radio", "%"])
def test_an_unusable_pattern_is_refused(pattern, capsys):
    assert cli.main(["summary", "x.jsonl", "--by", "hour", "--time-pattern", pattern]) == 2
    assert capsys.readouterr().err.startswith(f"ms-edge: --time-pattern '{pattern}': ")


def test_endless_recordings_end():
    """A record may state any duration."""
    for duration_s in (1e12, 1e299):
        endless = recording(start="2026-01-01T00:00:00", segments=(Segment(0, duration_s, "music", 1, {}),))
        summary = summary_of("hour", replace(endless, duration_s=duration_s, seconds={"music": duration_s}))
        assert list(summary.groups) == ["2026-01-01 00:00"]
        summary = summary_of("hour", replace(endless, duration_s=4000.0))  # a segment that ends after it
        assert list(summary.groups) == ["2026-01-01 00:00"]
    last = recording(start="9999-12-31T23:59:00")
    assert minutes(summary_of("hour", last)) == {"9999-12-31 23:00": {"speech": 30, "music": 20}}


def test_errors_and_warnings_are_shown(tmp_path, capsys):
    records = written(tmp_path, FAILED, recording(warnings=("truncated", "damaged")), recording("c.wav"))
    assert cli.main(["summary", records]) == 0
    table, notes = capsys.readouterr().out.split("\n\n")
    *_, total = table.splitlines()
    assert table.splitlines()[0].split()[:6] == ["MINUTES", "█", "SPEECH", "▒", "MUSIC", "ERRORS"]
    assert total.split()[:8] == ["100.0", "60.0", "60.0%", "40.0", "40.0%", "1", "2", "█" * 14 + "▒" * 10]
    assert notes == "2 recordings, failed: 1 not-audio.\nwarnings: 1 damaged, 1 truncated.\n"


def test_every_bar_is_full(tmp_path):
    for count in range(1, 30):
        summary = summary_of("file", recording(minutes=[(f"label {number}", 1) for number in range(count)]))
        bar = summary_tables.text(summary).splitlines()[1].split("%")[-1].split()[0]
        assert len(bar) == summary_tables.BAR, count


def test_csv_keeps_its_columns(tmp_path, capsys):
    records = written(tmp_path, recording("=a.wav", minutes=(("speech", 1), ("speech+music", 3))), FAILED)
    assert cli.main(["summary", records, "--format", "csv"]) == 0
    out, err = capsys.readouterr()
    first, second = csv.DictReader(io.StringIO(out))
    labels = ["speech", "music", "speech+music", "other", "silence", "uncertain"]
    names = ["file", "recordings", "errors", "warnings", "minutes", *(f"minutes_{label}" for label in labels)]
    assert list(first) == [*names, *(f"share_{label}" for label in labels), "error_codes", "warning_codes"]
    assert (first["file"], first["minutes_speech+music"], first["share_speech"]) == ("'=a.wav", "3.0", "0.25")
    assert (second["minutes"], second["errors"], second["error_codes"]) == ("0.0", "1", "not-audio:1")
    assert "1 recording, failed: 1 not-audio." in err


def test_xlsx_is_read_by_openpyxl(tmp_path):
    hostile = '=HYPERLINK("http://x")\x01\udcff.wav'
    records, out = written(tmp_path, recording(hostile), FAILED), tmp_path / "s.xlsx"
    assert cli.main(["summary", records, "-o", str(out)]) == 0
    book = openpyxl.load_workbook(out)
    rows = list(book["summary"].iter_rows(values_only=True))
    assert rows[1][:6] == (r'=HYPERLINK("http://x")\x01\udcff.wav', 1, 0, 0, 50, 30)
    assert book["summary"]["A2"].data_type == "s"
    assert rows[-1][:4] == ("total", 1, 1, 0)
    assert book["notes"]["A1"].value == "1 recording, failed: 1 not-audio."


@pytest.mark.parametrize(
    "by", ["file", *(pytest.param(by, marks=pytest.mark.slow) for by in ("folder", "hour", "day"))]
)
def test_charts_are_pictures(tmp_path, by):
    many = [recording(f"dir$ {number}/é.wav", f"2026-11-{1 + number % 28:02}T00:00:00Z") for number in range(50)]
    records = written(tmp_path, *many, FAILED)
    png, svg, again = (str(tmp_path / name) for name in ("a.png", "a.svg", "b.SVG"))
    for out in (png, svg, again):
        assert cli.main(["summary", records, "--by", by, "-o", out]) == 0
    picture = matplotlib.image.imread(png)
    assert min(picture.shape[:2]) > 500
    assert len({tuple(pixel) for row in picture[::5, ::5] for pixel in row}) > 3
    words = "".join(ElementTree.parse(svg).getroot().itertext())
    assert all(word in words for word in ("speech", "music", "minutes" if by != "day" else ""))
    assert filecmp.cmp(svg, again, shallow=False)


def test_nothing_to_add_up_is_no_error(tmp_path, capsys):
    records = written(tmp_path)
    for suffix in ("txt", "csv", "json", "xlsx", "png", "svg"):
        for by in ("file", "hour"):
            assert cli.main(["summary", records, "--by", by, "-o", str(tmp_path / f"s.{suffix}")]) == 0
    assert (tmp_path / "s.txt").read_text("utf-8").endswith("\n\n0 recordings.\n")


def test_a_hyphen_is_standard_output(tmp_path, monkeypatch, capsys):
    records = written(tmp_path, recording())
    monkeypatch.chdir(tmp_path)
    for options in ([], ["--format", "csv"]):
        assert cli.main(["summary", records, *options]) == 0
        plain = capsys.readouterr()
        assert cli.main(["summary", records, *options, "-o", "-"]) == 0
        assert capsys.readouterr() == plain
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch, capsys):
    records = written(tmp_path, recording())
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for suffix, package in (("xlsx", "openpyxl"), ("png", "matplotlib")):
        assert cli.main(["summary", records, "-o", str(tmp_path / f"s.{suffix}")]) == 3
        assert f"needs {package}, which is not installed" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]


def test_outputs_that_make_no_sense_are_refused(tmp_path, capsys):
    records = written(tmp_path, recording())
    before = (tmp_path / "records.jsonl").read_bytes()
    for arguments, said in (
        ([records, "-o", records], "is an input and is not replaced"),
        (
            [records, "-o", str(tmp_path / "s.pdf")],
            "one of the suffixes .txt, .csv, .json, .xlsx, .png, .svg, not .pdf",
        ),
        ([records, "-o", str(tmp_path / "no" / "s.csv")], "cannot be written (no such file or directory)"),
        ([records, "--time-pattern", "%Y%m%d"], "--time-pattern needs --by hour or day"),
        (["-", "-"], "Standard input can be read only once"),
        (["tests/data/music_zaz.wav"], "tests/data/music_zaz.wav: line 1 is no record of ms-edge"),
    ):
        assert cli.main(["summary", *arguments]) == 2
        assert said in capsys.readouterr().err
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_a_terminal_without_blocks_gets_ascii(tmp_path):
    assert summary_tables.text(summary_of("day", recording(), FAILED), ascii_only=True).isascii()


def test_each_file_has_hours_of_its_own(tmp_path, capsys):
    records = tmp_path / "r.jsonl"
    first, second = recording("a.wav"), recording("b.wav")
    records.write_text("".join(json_line(found, True) for found in (first, second, FAILED)))
    command = ["summary", str(records), "--by", "day", "--each", "--format"]
    assert cli.main([*command, "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [group["path"] for group in found["groups"]] == ["a.wav", "b.wav", FAILED.path]
    assert sum(group["duration_s"] for group in found["groups"]) == found["total"]["duration_s"]
    assert cli.main([*command, "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["path"] for row in rows] == ["a.wav", "b.wav", FAILED.path]
    assert list(rows[0])[-1] == "path"
    assert [row["day"] for row in rows][-1] == NO_TIME
    assert cli.main([*command, "text"]) == 0
    assert f"{rows[0]['day']}  a.wav" in capsys.readouterr().out


@pytest.mark.parametrize(("by", "first"), [("day", "0001-02-03"), ("hour", "0001-02-03 23:00")])
def test_early_years_have_four_digits(by, first, tmp_path):
    summary = summary_of(by, recording(start="0001-02-03T23:50:00"))
    assert next(iter(summary.groups)) == first
    with (tmp_path / "s.svg").open("wb") as file:
        chart(summary, file, "svg")
    assert (tmp_path / "s.svg").stat().st_size > 0
