"""Datasets of `ms-edge archive` are read as records, by the other commands and by other programs."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_formats import LONG

from ms_edge.cli.main import main
from ms_edge.errors import DeviceError, UsageError
from ms_edge.output.parquet import recordings_table, row_of, segments_table
from ms_edge.output.records import read_records
from ms_edge.results import Failure, Segment

PAGE = Path(__file__).parent.parent.parent / "docs" / "archive.md"
FAILURE = Failure("s3://radio/kl1/2026-11-28_140000.flac", "not-audio", "It is not audio.")
SETTINGS = {"version": "0.1.0", "thresholds": {"music": 0.5, "speech": 0.25}, "raw": None}


def written(folder, *parts):
    """Write each part, a list of results, as one file of recordings and one of segments."""
    for name in ("recordings", "segments"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, results in enumerate(parts):
        rows = recordings_table(map(row_of, results))
        pq.write_table(rows, folder / "recordings" / f"{number}.parquet")
        pq.write_table(segments_table(rows), folder / "segments" / f"{number}.parquet")
    return folder


def programme(station, start, *parts):
    """Return the result for a recording of a station: labels with their minutes, one after the other."""
    segments, at_s = [], 0.0
    for label, minutes in parts:
        scores = {name: 0.9 if name in label.split("+") else 0.1 for name in ("speech", "music")}
        segments.append(Segment(at_s, at_s + 60 * minutes, label, 0.9, scores))
        at_s += 60 * minutes
    seconds = {label: sum(part.end_s - part.start_s for part in segments if part.label == label) for label, _ in parts}
    path = f"s3://radio/{station}/{start.replace(':', '').replace('T', '_')}.flac"
    return replace(
        LONG, path=path, probability=0.9, segments=tuple(segments), seconds=seconds, duration_s=at_s, recorded_at=start
    )


@pytest.fixture
def radio(tmp_path):
    """A dataset of two stations and two days; a recording lasts over midnight, and one could not be read."""
    first = [
        programme("kl1", "2026-11-27T23:50:00", ("music", 20), ("speech", 10)),
        programme("kl1", "2026-11-28T12:00:00", ("speech+music", 5), ("speech", 25)),
    ]
    return written(tmp_path / "radio", first, [programme("opus", "2026-11-28T12:00:00", ("music", 30)), FAILURE])


def test_rows_are_read_as_the_results_written(tmp_path):
    channel = replace(LONG, channel=2, codec="opus", recorded_at=None, file=None, settings=SETTINGS)
    results = [
        LONG,
        FAILURE,
        channel,
        replace(LONG, segments=(), seconds={"music": 1.0}, file={"bytes": 2, "etag": "x"}),
    ]
    assert list(read_records(str(written(tmp_path, results[:1], results[1:])))) == results


def test_unfinished_files_are_not_read(tmp_path):
    written(tmp_path, [LONG])
    (tmp_path / "recordings" / ".1.parquet.part").write_bytes(b"PAR1")
    (tmp_path / "recordings" / "_1.parquet").write_bytes(b"PAR1")
    assert list(read_records(str(tmp_path))) == [LONG]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "cannot be read as records of ms-edge (Parquet magic bytes not found"),
        (pa.table({"station": ["kl1"]}), "cannot be read as records of ms-edge (it has no column path)"),
        (
            recordings_table([{"schema": "ms-edge/1", "path": "a.wav", "label": "music"}]),
            "row 1 is no record of ms-edge (its field duration_s",
        ),
    ],
)
def test_other_parquet_is_refused_in_one_sentence(table, message, tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    if table is None:
        (folder / "a.parquet").write_bytes(b"not Parquet at all")
    else:
        pq.write_table(table, folder / "a.parquet")
    with pytest.raises(UsageError, match=re.escape(message)):
        list(read_records(str(tmp_path)))


def test_directory_without_dataset_is_refused(tmp_path, capsys):
    assert main(["summary", str(tmp_path)]) == 2
    assert "a directory of ms-edge archive has recordings/*.parquet" in capsys.readouterr().err


def test_missing_pyarrow_is_one_sentence(radio, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DeviceError, match="pyarrow, which is not installed"):
        list(read_records(str(radio)))
    assert main(["summary", str(radio)]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_summary_divides_recordings_at_midnight(radio, capsys):
    assert main(["summary", f"{radio}/", "--by", "day", "--format", "json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    days = {group["day"]: group["seconds"] for group in groups}
    assert days["2026-11-27"] == {"music": 600.0}
    assert days["2026-11-28"] == {"music": 600.0 + 1800.0, "speech": 600.0 + 1500.0, "speech+music": 300.0}


def test_report_has_a_page_for_each_row(radio, samples, tmp_path):
    written(radio, [replace(LONG, path=str(samples[0]), duration_s=6.0, segments=())])
    assert main(["report", str(radio), "-q", "-o", f"{tmp_path}/pages/"]) == 1
    index = (tmp_path / "pages" / "index.html").read_text("utf-8")
    assert "opus/2026-11-28_120000.flac" in index
    assert samples[0].name in index
    assert len(list((tmp_path / "pages").rglob("*.html"))) == 1 + 2


@pytest.fixture
def archive(radio, monkeypatch):
    """The page's dataset: the one of two stations with the name that the queries use."""
    radio.rename(radio.with_name("archive"))
    monkeypatch.chdir(radio.parent)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.S)


def test_queries_of_the_page_give_what_it_shows(archive):
    music, errors, doubtful = (duckdb.sql(query).fetchall() for query in blocks("sql"))
    shown = [line.split() for line in blocks("text")[0].splitlines()]
    assert [[str(value) for value in row] for row in music] == shown
    assert errors == [("not-audio", 1, FAILURE.path)]
    assert [row[0] for row in doubtful][:2] == [
        "s3://radio/kl1/2026-11-27_235000.flac",
        "s3://radio/kl1/2026-11-28_120000.flac",
    ]


def test_pandas_gives_the_minutes_of_the_query(archive, capsys):
    (program,) = (block for block in blocks("python") if "pandas" in block)
    exec(compile(program, str(PAGE), "exec"), found := {})
    minutes = found["music"].groupby(["day", "station"]).minutes.sum()
    assert [(*key, value) for key, value in minutes.items()] == duckdb.sql(blocks("sql")[0]).fetchall()
    assert "opus" in capsys.readouterr().out
