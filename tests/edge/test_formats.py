"""Every format is read back by a reader that is not ours, where there is one."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import openpyxl
import pytest

from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.output import xlsx
from ms_edge.output.destination import Output, TreeOutput
from ms_edge.output.formats import FORMATS, format_of
from ms_edge.output.writers import UnwritableError, clock, duration, printable
from ms_edge.results import Classification, Failure, Segment

MAIN = "import sys; from ms_edge.cli.main import main; sys.exit(main())"
LONG = Classification(
    path="a b/é%.wav",
    label="speech",
    probability=0.75,
    scores={"speech": 0.75, "music": 0.25},
    seconds={"speech": 360_000.25, "speech+music": 10.5, "silence": 3.25},
    duration_s=360_014.0,
    sample_rate_hz=16_000,
    channels=1,
    segments=(
        Segment(0.0, 360_000.25, "speech", 0.9, {"speech": 0.9, "music": 0.1}),
        Segment(360_000.25, 360_010.75, "speech+music", 0.6, {"speech": 0.7, "music": 0.6}),
        Segment(360_010.75, 360_014.0, "silence", 1.0, {"speech": 0.0, "music": 0.0}),
    ),
    warnings=("truncated", "non-finite"),
    file={"bytes": 1, "modified": "2026-01-01T00:00:00.000000Z"},
    recorded_at="2026-01-01T00:00:00Z",
    settings={},
    model="0" * 64,
    provider="CPUExecutionProvider",
)
SPANS = [(part.start_s, part.end_s, part.label) for part in LONG.segments]


def document(name, results, timeline=True, labels=("speech", "music"), tiers=False):
    writer = FORMATS[name](labels, timeline, tiers=tiers)
    inputs = (result if isinstance(result, Failure) else (result,) for result in results)
    return written_by(writer, inputs).decode()


def written_by(writer, inputs):
    """Return the bytes of a document of the results of inputs."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", newline="")
    output = Output(writer, out)
    for results in inputs:
        output.write(results)
    output.finish()
    return out.buffer.getvalue()


@pytest.fixture
def written(tmp_path):
    def write(name, results=(LONG,), timeline=True, tiers=False):
        path = tmp_path / f"out.{FORMATS[name].suffix}"
        path.write_text(document(name, results, timeline, tiers=tiers), "utf-8", newline="")
        return path

    return write


def test_tgt_reads_the_textgrid(written):
    import tgt

    (tier,) = tgt.io.read_textgrid(str(written("textgrid")), encoding="utf-8").tiers
    assert [(part.start_time, part.end_time, part.text) for part in tier.intervals] == SPANS


@pytest.mark.parametrize("label", ["two words", "a --> b", "<i> & </i>", "50%"])
def test_any_label_can_be_read_back(written, label):
    import webvtt
    from pyannote.database.util import load_rttm

    named = replace(LONG, segments=(replace(LONG.segments[0], label=label),))
    (annotation,) = load_rttm(str(written("rttm", [named]))).values()
    assert [unquote(name) for name in annotation.labels()] == [label]
    (cue,) = webvtt.read(str(written("webvtt", [named])))
    assert html.unescape(cue.raw_text) == label


def test_pyannote_reads_the_rttm(written):
    from pyannote.database.util import load_rttm

    found = load_rttm(str(written("rttm", [LONG, LONG])))
    ((name, annotation),) = found.items()
    assert name == "a%20b/é%25.wav"
    spans = [
        (round(span.start, 3), round(span.end, 3), label) for span, _, label in annotation.itertracks(yield_label=True)
    ]
    assert spans[::2] == SPANS


def test_webvtt_py_reads_the_webvtt(written):
    import webvtt

    cues = webvtt.read(str(written("webvtt")))
    assert [cue.text for cue in cues] == [label for _, _, label in SPANS]
    assert [(cue.start_in_seconds, cue.end_in_seconds) for cue in cues] == [(int(a), int(b)) for a, b, _ in SPANS]
    assert cues[0].end == "100:00:00.250"


def test_audacity_labels_are_three_columns(written):
    rows = [line.split("\t") for line in written("audacity").read_text().splitlines()]
    assert [(float(start), float(end), label) for start, end, label in rows] == SPANS


def elan_tiers(path):
    """Return start and end in seconds and label of the annotations of each tier, as pympi reads them."""
    import pympi

    document = pympi.Eaf(str(path))
    return {
        tier: sorted(
            (start / 1000, end / 1000, label) for start, end, label in document.get_annotation_data_for_tier(tier)
        )
        for tier in document.get_tier_names()
    }


def test_pympi_reads_the_elan_document(written):
    assert elan_tiers(written("elan")) == {"ms-edge": SPANS}


def test_elan_finds_the_recording(written, tmp_path):
    import pympi

    recording = tmp_path / "a&b é\udcff.wav"
    here, stream = replace(LONG, path=str(recording), container="wav"), replace(LONG, path="-")
    (media,) = pympi.Eaf(str(written("elan", [here]))).get_linked_files()
    assert (media["MIME_TYPE"], unquote(urlsplit(media["MEDIA_URL"]).path, errors="surrogateescape")) == (
        "audio/x-wav",
        str(recording),
    )
    assert pympi.Eaf(str(written("elan", [stream]))).get_linked_files() == []


def test_elan_times_ascend(written):
    slots = ElementTree.parse(written("elan", [TIERS], tiers=True)).findall("TIME_ORDER/TIME_SLOT")
    times = [int(slot.get("TIME_VALUE")) for slot in slots]
    assert times == sorted(times)
    assert len(times) == 2 * 3  # each end of a segment has its own


@pytest.mark.parametrize("modified", ["+012026-01-01T00:00:00.000000Z", None])
def test_elan_has_a_date_that_xml_allows(written, modified):
    file = {"bytes": 1, "modified": modified} if modified else None
    root = ElementTree.parse(written("elan", [replace(LONG, file=file)])).getroot()
    assert datetime.fromisoformat(root.get("DATE")).year == 1970


def test_srt_reads_the_subtitles(written):
    import srt

    text = written("srt").read_text("utf-8")
    assert re.findall("-->.*", text)[1] == "--> 100:00:10,750"  # players, unlike srt, insist on the comma
    found = list(srt.parse(text))
    assert [(part.start.total_seconds(), part.end.total_seconds(), part.content) for part in found] == SPANS
    assert [part.index for part in found] == [1, 2, 3]


def test_raven_rows_have_its_columns(written):
    with written("raven").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, dialect="excel-tab"))
    spans = [(float(row["Begin Time (s)"]), float(row["End Time (s)"]), row["Annotation"]) for row in rows]
    assert spans == SPANS
    assert [row["Selection"] for row in rows] == ["1", "2", "3"]
    assert {(row["View"], row["Channel"]) for row in rows} == {("Spectrogram 1", "1")}
    assert {(row["Low Freq (Hz)"], row["High Freq (Hz)"]) for row in rows} == {("0", "8000")}


def test_a_cue_sheet_follows_its_specification(written):
    """As of the manual of CDRWIN: one file, tracks from 01 on, times of 75 frames a second."""
    hostile = replace(LONG, path='a "b"\n.mp3', container="mp3")
    sheet = written("cue", [hostile]).read_text("utf-8")
    track = r'  TRACK \d\d AUDIO\n    TITLE "[^"\n]+"\n    INDEX 01 \d\d+:[0-5]\d:[0-7]\d\n'
    file, tracks = re.fullmatch(rf'REM COMMENT "ms-edge"\nFILE "([^"\n]+)" MP3\n((?:{track})+)', sheet).groups()
    assert file == os.path.abspath("a 'b'?.mp3")
    found = re.findall(r'TRACK (\d\d) AUDIO\s+TITLE "(.+)"\s+INDEX 01 (\d+):(\d\d):(\d\d)', tracks)
    assert [(number, title) for number, title, *_ in found] == [
        ("01", "speech"),
        ("02", "speech+music"),
        ("03", "silence"),
    ]
    starts = [60 * int(minutes) + int(seconds) + int(frames) / 75 for _, _, minutes, seconds, frames in found]
    assert starts == pytest.approx([start for start, _, _ in SPANS], abs=1 / 150)
    assert max(int(frames) for *_, frames in found) < 75


@pytest.mark.parametrize(("count", "fits"), [(99, True), (100, False)])
def test_a_cue_sheet_has_99_tracks(tmp_path, count, fits):
    many = replace(LONG, path="a.wav", segments=LONG.segments[:1] * count)
    writer = FORMATS["cue"](("speech", "music"), True)
    tree = TreeOutput(str(tmp_path), [writer])
    written = tree.write((many,))
    assert (tmp_path / "a.wav.cue").exists() is fits
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav.cue"] * fits
    if not fits:
        assert written.code == "cannot-write"
        assert written.message.startswith("a.wav: has 100 segments, and a cue sheet 99 tracks at most")


# Tiers: each label on its own


TIERS = replace(
    LONG,
    segments=(
        Segment(0.0, 2.0, "speech", 0.9, {"speech": 0.9, "music": 0.1}),
        Segment(2.0, 6.0, "speech+music", 0.6, {"speech": 0.6, "music": 0.7}),
        Segment(6.0, 7.0, "music", 0.95, {"speech": 0.0, "music": 0.95}),
        Segment(7.0, 8.0, "silence", 1.0, {"speech": 0.0, "music": 0.0}),
        Segment(8.0, 9.0, "music", 0.8, {"speech": 0.0, "music": 0.8}),
    ),
)
SPEECH, MUSIC = [(0.0, 6.0, "speech")], [(2.0, 7.0, "music"), (8.0, 9.0, "music")]


def test_praats_tiers_overlap(written):
    import tgt

    tiers = tgt.io.read_textgrid(str(written("textgrid", [TIERS], tiers=True)), encoding="utf-8").tiers
    found = {tier.name: [(part.start_time, part.end_time, part.text) for part in tier.intervals] for tier in tiers}
    assert found == {"speech": SPEECH, "music": MUSIC}  # tgt leaves out what is empty
    assert {tier.end_time for tier in tiers} == {9.0}


def test_elans_tiers_overlap(written):
    assert elan_tiers(written("elan", [TIERS], tiers=True)) == {"speech": SPEECH, "music": MUSIC}


def test_the_speakers_of_rttm_overlap(written):
    from pyannote.database.util import load_rttm

    path = written("rttm", [TIERS, replace(TIERS, path="b", segments=TIERS.segments[3:4])], tiers=True)
    annotation = load_rttm(str(path))["a%20b/é%25.wav"]
    spans = {label: [tuple(span) for span in annotation.label_timeline(label)] for label in annotation.labels()}
    assert {label: [(*span, label) for span in found] for label, found in spans.items()} == {
        "speech": SPEECH,
        "music": MUSIC,
    }
    lines = path.read_text().splitlines()
    assert lines[0].split()[7:9] == ["speech", "0.700000"]  # (2 x 0.9 + 4 x 0.6) / 6
    assert lines[-1] == ";; b no-segments"


@pytest.mark.parametrize("name", ["audacity", "raven", "srt", "webvtt"])
def test_lists_of_segments_overlap(written, name):
    text = written(name, [TIERS], tiers=True).read_text("utf-8")
    assert re.findall("speech|music", text) == ["speech", "music", "music"]
    assert not re.search(r"silence|\+", text)


def test_tiers_of_channels_name_both():
    each = tuple(replace(TIERS, channel=number) for number in (1, 2))
    document = FORMATS["elan"](("speech", "music"), True, True, True).records(each)
    assert re.findall('TIER_ID="(.+?)"', document) == [
        f"channel {number}: {label}" for number in (1, 2) for label in ("speech", "music")
    ]


def test_cue_sheets_are_about_one_channel():
    each = tuple(replace(TIERS, channel=number) for number in (1, 2))
    with pytest.raises(UnwritableError, match="a cue sheet describes one channel"):
        FORMATS["cue"](("speech", "music"), True, True).records(each)


def test_raven_selections_are_of_their_channel():
    each = tuple(replace(TIERS, channel=number) for number in (1, 2))
    document = FORMATS["raven"](("speech", "music"), True, True).records(each)
    channels = [row["Channel"] for row in csv.DictReader(document.splitlines(), dialect="excel-tab")]
    assert {*channels} == {"1", "2"}
    assert channels.count("1") == channels.count("2")


def test_a_recording_without_labels_has_an_empty_track(tmp_path):
    silent = replace(TIERS, path="a.wav", segments=TIERS.segments[3:4])
    tree = TreeOutput(str(tmp_path), [FORMATS["audacity"](("speech", "music"), True, tiers=True)])
    assert tree.write((silent,)) == (silent,)
    assert (tmp_path / "a.wav.labels.txt").read_bytes() == b""
    tree.write(Failure("a.wav", "not-found", "a.wav: no such file."))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tiers"], "--tiers needs a format in which segments may overlap (audacity, elan, raven, rttm, "),
        (["--tiers", "--format", "cue"], "webvtt), not cue."),
        (["--format", "csv,elan"], "Several formats (csv,elan) need -o DIR/"),
        (["--format", "csv,elan", "-o", "a.csv"], "Several formats (csv,elan) need -o DIR/"),
        (["--format", "jsonl,elan", "-o", "out/", "--resume"], "--resume needs -o FILE in the format jsonl."),
        (["-o", "a.html"], "a.html: no format has the suffix .html; the suffixes are .txt, .jsonl, "),
        (
            ["--format", "elan", "b.wav"],
            "A document of the format elan describes one recording; for several give -o DIR/.",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, monkeypatch, capsys, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["classify", *arguments, "a.wav"]) == 2
    assert complaint in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_several_formats_at_once(samples, tmp_path, monkeypatch):
    (tmp_path / "a.wav").symlink_to(samples[0])
    monkeypatch.chdir(tmp_path)
    formats = "csv,textgrid,rttm,csv"
    assert cli.main(["classify", "-q", "a.wav", "missing.wav", "--format", formats, "-o", "out/", "--tiers"]) == 1
    found = {path.name for path in Path("out").iterdir()}
    assert found == {"a.wav.csv", "a.wav.TextGrid", "a.wav.rttm", "missing.wav.csv"}
    assert "music" in Path("out/a.wav.TextGrid").read_text()
    with pytest.raises(SystemExit) as refused:
        cli.main(["classify", "a.wav", "--format", "csv,html", "-o", "out/"])
    assert refused.value.code == 2


@pytest.mark.parametrize(("name", "dialect"), [("csv", "excel"), ("tsv", "excel-tab")])
def test_tables_are_read_by_csv(written, name, dialect):
    with written(name, timeline=False).open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file, dialect=dialect)
    assert (row["path"], row["label"], float(row["score_music"])) == (LONG.path, "speech", 0.25)
    assert (row["warnings"], row["error"]) == ("truncated non-finite", "")
    with written(name).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, dialect=dialect))
    assert [(float(row["start_s"]), float(row["end_s"]), row["label"]) for row in rows] == SPANS


@pytest.mark.parametrize(("name", "dialect"), [("csv", "excel"), ("tsv", "excel-tab")])
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "'", "''", "\uff1d"])
@pytest.mark.parametrize("timeline", [False, True])
def test_no_cell_is_a_formula(written, name, dialect, start, timeline):
    path = f"{start}1+1.wav"
    named = replace(LONG, path=path, label="@x", segments=(replace(LONG.segments[0], start_s=-1.0, label="@x"),))
    with written(name, [named, Failure(path, "a", f"{path}: no.")], timeline).open(
        newline="", encoding="utf-8"
    ) as file:
        first, second = csv.DictReader(file, dialect=dialect)
    assert first["path"] == second["path"] == f"'{path}"
    assert second["message"] == f"'{path}: no."
    assert first["label"] == "'@x"
    assert first["score_music"] == ("0.1" if timeline else "0.25")
    assert first.get("start_s", "-1.0") == "-1.0"  # numbers are not text
    assert not any(cell[:1] in "=+@\t\r\n" for row in (first, second) for cell in row.values() if cell)


def sheets(file):
    """Return the rows of each sheet of a workbook, as openpyxl reads them; None is an empty cell."""
    book = openpyxl.load_workbook(file)
    return {sheet.title: [[cell.value for cell in row] for row in sheet] for sheet in book}


def workbook(results, timeline=False, by_channel=False):
    inputs = (result if isinstance(result, Failure) else (result,) for result in results)
    return io.BytesIO(written_by(FORMATS["xlsx"](("speech", "music"), timeline, by_channel), inputs))


@pytest.mark.parametrize("timeline", [False, True])
def test_openpyxl_reads_what_csv_has(timeline):
    results = [LONG, Failure("b", "not-found", "b: no such file.")]
    (rows,) = sheets(workbook(results, timeline)).values()
    table = list(csv.reader(io.StringIO(document("csv", results, timeline), newline="")))
    assert rows[0] == table[0]
    assert [["" if cell is None else str(cell) for cell in row] for row in rows] == [
        [str(int(float(cell))) if re.fullmatch(r"\d+\.0", cell) else cell for cell in row] for row in table
    ]
    assert {type(row[rows[0].index("probability")]) for row in rows[1:-1]} <= {int, float}  # numbers are numbers


def test_a_workbook_filters_under_its_header():
    (sheet,) = openpyxl.load_workbook(workbook([LONG, LONG], timeline=True))
    assert (sheet.title, sheet.freeze_panes, sheet.auto_filter.ref) == ("segments", "A2", "A1:K7")
    assert all(cell.font.bold for cell in sheet[1])


@pytest.mark.parametrize("path", ["=1+1", "#N/A", "-1", "1e5", " a ", "a\tb\nc\x01\udcff", "a" * 4000])
def test_text_in_a_workbook_stays_text(path):
    (sheet,) = openpyxl.load_workbook(workbook([replace(LONG, path=path)]))
    assert (sheet["A2"].value, sheet["A2"].data_type) == (printable(path), "s")


def test_rows_beyond_a_sheet_are_on_the_next(monkeypatch):
    monkeypatch.setattr(xlsx, "MOST_ROWS", 3)
    found = sheets(workbook([LONG, LONG, LONG]))
    assert {title: [row[0] for row in rows] for title, rows in found.items()} == {
        "recordings": ["path", LONG.path, LONG.path],
        "recordings 2": ["path", LONG.path],
    }


def test_memory_stays_flat_in_a_workbook(tmp_path):
    def grown(rows):
        tracemalloc.start()
        with (tmp_path / "a.xlsx").open("w", encoding="utf-8") as file:
            output = Output(FORMATS["xlsx"](("speech", "music"), False), file)
            for _ in range(rows):
                output.write((LONG,))
            output.finish()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    few = grown(50)
    assert grown(1000) < few + 500_000


@pytest.mark.parametrize("command", ["classify", "summary"])
def test_a_full_disk_takes_no_workbook(samples, tmp_path, command):
    records = tmp_path / "r.jsonl"
    assert cli.main(["classify", str(samples[0]), "-o", str(records)]) == 0
    (tmp_path / "full").mkdir()
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); {MAIN}"
    arguments = [
        command,
        str(samples[0] if command == "classify" else records),
        "-o",
        str(tmp_path / "full" / "a.xlsx"),
    ]
    run = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True)
    assert run.returncode in (1, 2)
    assert re.fullmatch(r"ms-edge: .* cannot be written \(file too large\)\.\n", run.stderr)
    assert not list((tmp_path / "full").iterdir())


def test_a_workbook_without_openpyxl_is_one_sentence(samples, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert cli.main(["classify", str(samples[0]), "-o", str(tmp_path / "a.xlsx")]) == 3
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "XLSX file needs openpyxl" in sentence
    assert "extra report" in sentence
    assert not any(tmp_path.iterdir())


def test_workbook_goes_to_a_pipe_not_a_terminal(samples, monkeypatch, capsys):
    command = [sys.executable, "-m", "ms_edge.cli", "classify", "--format", "xlsx", str(samples[0])]
    piped = subprocess.run(command, check=True, capture_output=True).stdout
    (rows,) = sheets(io.BytesIO(piped)).values()
    assert rows[1][:2] == [str(samples[0]), "music"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(command[3:]) == 2
    assert "give -o FILE.xlsx" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["csv", "tsv"])
@pytest.mark.parametrize("path", ["-", "a=b.wav", "a'b.wav", ""])
def test_what_is_no_formula_stays(written, name, path):
    assert f"{path}," in written(name, [replace(LONG, path=path)], timeline=False).read_text("utf-8").replace("\t", ",")
    assert "'" + path + "," not in written(name, [replace(LONG, path=path)], False).read_text("utf-8").replace(
        "\t", ","
    )


@pytest.mark.parametrize(("name", "dialect"), [("csv", "excel"), ("tsv", "excel-tab")])
def test_new_columns_come_last(written, name, dialect):
    with written(name, [LONG, Failure("b", "c", "d")], timeline=False).open(newline="", encoding="utf-8") as file:
        row, failed = csv.DictReader(file, dialect=dialect)
    columns = ["speech", "music", "speech+music", "other", "silence", "uncertain"]
    assert list(row)[:3] == ["path", "label", "probability"]
    later = ["recorded_at", "decoder", "container", "codec"]
    assert list(row)[-12:] == ["model", "provider", *(f"seconds_{column}" for column in columns), *later]
    assert (row["recorded_at"], failed["recorded_at"]) == ("2026-01-01T00:00:00Z", "")
    assert [float(row[f"seconds_{column}"]) for column in columns] == [360_000.25, 0, 10.5, 0, 3.25, 0]
    assert {failed[f"seconds_{column}"] for column in columns} == {""}
    with written(name, [LONG, Failure("b", "c", "d")]).open(newline="", encoding="utf-8") as file:
        *rows, failed = csv.DictReader(file, dialect=dialect)
    assert list(failed)[-4:] == ["error", "message", "warnings", "recorded_at"]
    assert [row["recorded_at"] for row in rows] == ["2026-01-01T00:00:00Z"] * 3
    assert [row["warnings"] for row in rows] == ["truncated non-finite"] * 3
    assert failed["warnings"] == ""


def test_seconds_of_several_labels_are_one_column():
    labels = ("a", "b", "c")
    many = replace(LONG, seconds={"a": 1.0, "a+b": 2.0, "a+b+c": 3.25, "other": 0.5}, scores=dict.fromkeys(labels, 0.5))
    (row,) = csv.DictReader(io.StringIO(document("csv", [many], timeline=False, labels=labels), newline=""))
    assert {name: float(value) for name, value in row.items() if name.startswith("seconds_")} == {
        "seconds_a": 1.0,
        "seconds_b": 0.0,
        "seconds_c": 0.0,
        "seconds_2+": 5.25,
        "seconds_other": 0.5,
        "seconds_silence": 0.0,
        "seconds_uncertain": 0.0,
    }


def test_every_format_has_its_own_suffix():
    suffixes = {name: form.suffix for name, form in FORMATS.items() if name != "text-colour"}
    assert len(set(suffixes.values())) == len(suffixes)
    for name, suffix in suffixes.items():
        assert format_of(f"a.b.{suffix.upper()}") == format_of(f"/x.y/.{suffix}") == name
    assert format_of("/x.csv/a") == format_of("x.csv/.a") == "text"


@pytest.mark.parametrize(("name", "dialect"), [("csv", "excel"), ("tsv", "excel-tab")])
@pytest.mark.parametrize("path", ["a\rb.wav", "a\nb.wav", "a\r\nb.wav", "\r", 'a"\t,b\r'])
def test_any_name_is_one_field(written, name, dialect, path):
    content = written(name, [replace(LONG, path=path), Failure(path, "a", path)], timeline=False).read_bytes()
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline=""), dialect=dialect))
    cell = f"'{path}" if path == "\r" else path  # which a spreadsheet could take for the beginning of a formula
    assert [row["path"] for row in rows] == [cell, cell]
    assert content.endswith(b"\n")
    assert not content.endswith(b"\r\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only here may a name be any bytes")
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("jsonl", "textgrid") else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted({*FORMATS} - {"text", "text-colour", "xlsx"})
    ],
)
def test_standard_output_has_the_bytes_of_a_file(samples, tmp_path, name):
    path = tmp_path / os.fsdecode(b"\xc3\xa9\xff.wav")
    path.symlink_to(samples[0])
    command = [sys.executable, "-m", "ms_edge.cli", "classify", "--format", name, path]
    subprocess.run([*command, "-o", tmp_path / "out"], check=True)
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    run = subprocess.run(command, check=True, capture_output=True, env=ascii_only)
    assert run.stdout == (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_is_one_document(written, count):
    found = json.loads(written("json", [LONG] * count).read_text())
    assert found == [LONG.record(timeline=True)] * count


def test_failures_have_their_place_in_every_format(tmp_path, capsys):
    missing = str(tmp_path / "missing.wav")
    assert cli.main(["classify", "--format", "xlsx", "-o", str(tmp_path / "a.xlsx"), missing]) == 1
    assert "not-found" in str(sheets(tmp_path / "a.xlsx"))
    for name in ("text", "csv", "tsv", "json", "jsonl", "rttm"):
        assert cli.main(["classify", "--format", name, missing]) == 1
        assert "not-found" in capsys.readouterr().out
    for name in ("audacity", "cue", "elan", "raven", "srt", "textgrid", "webvtt"):
        assert cli.main(["classify", "--format", name, missing]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "missing.wav" in captured.err


def test_a_timeline_prints_its_segments(samples, capsys):
    path = str(samples[-1])
    assert cli.main(["classify", "--timeline", "--format", "jsonl", path]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["segments"] == [part.record() for part in Classifier().timeline(path)]
    assert cli.main(["classify", "--timeline", path]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["START", "END", "LABEL", "PROBABILITY", "PATH"]
    assert row.split()[:3] == ["0.000", "6.000", "speech"]


@pytest.mark.parametrize(
    ("seconds", "share"),
    [
        ({"speech": 30.0, "music": 10.0}, "75%"),
        ({"speech": 1.0, "music": 0.001}, "100%"),
        ({"speech": 0.0}, "100%"),  # less than half a millisecond
        ({"music": 1.0}, "0%"),
    ],
)
def test_the_table_shows_the_share_of_the_label(seconds, share):
    header, row, failed = document(
        "text", [replace(LONG, duration_s=9.0, seconds=seconds), Failure("b", "c", "d")], False
    ).splitlines()
    assert header.split()[2] == "SHARE"
    assert (row.split()[2], failed.split()[2]) == (share, "-")
    assert header.index("PATH") == row.index(LONG.path) == failed.index("b (c)")


def test_colour_needs_a_terminal_and_no_refusal():
    plain, coloured = (document(name, [LONG], timeline=False) for name in ("text", "text-colour"))
    assert "\x1b" not in plain
    assert coloured.replace("\x1b[36m", "").replace("\x1b[0m", "") == plain
    assert coloured != plain


@pytest.mark.pty
@pytest.mark.parametrize(
    ("environment", "colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_no_color_and_dumb_terminals_are_respected(samples, environment, colour):
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on Windows")
    ours, theirs = pty.openpty()
    base = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    with subprocess.Popen(
        [sys.executable, "-m", "ms_edge.cli", "classify", str(samples[0])],
        stdout=theirs,
        env={**base, "TERM": "xterm", **environment},
    ) as process:
        process.wait()
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 1000):
            shown += piece
    except OSError:  # Linux says so at the end of a terminal
        pass
    os.close(ours)
    assert (b"\x1b[33mmusic" in shown) is colour


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (0, "0.000", "0.0 s"),
        (59.9999, "1:00.000", "1:00.0"),
        (61.5, "1:01.500", "1:01.5"),
        (3600, "1:00:00.000", "1:00:00.0"),
        (360_000.25, "100:00:00.250", "100:00:00.2"),
    ],
)
def test_clocks(seconds, long, short):
    assert (clock(seconds), duration(seconds)) == (long, short)


def test_what_cannot_be_shown_is_escaped():
    assert printable("a\n\x1b[31m\u202eb\udcff") == "a\\n\\x1b[31m\\u202eb\\udcff"
