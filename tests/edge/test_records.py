"""Records are read back as the results that they were written from."""

from __future__ import annotations

import json
import os
import tracemalloc
from dataclasses import replace

import pytest
from test_formats import LONG

from ms_edge.errors import UsageError
from ms_edge.output.records import read_records, result_of
from ms_edge.output.writers import json_line
from ms_edge.results import Failure

FAILURE = Failure("gone\udcff.wav", "not-found", "gone: no such file or directory.")
BEGIN = '{"schema": "ms-edge/1", "path": "a.wav", '


def reading(folder, text):
    path = folder / "records.jsonl"
    path.write_bytes(text.encode())
    return list(read_records(str(path)))


def test_results_are_read_as_written(tmp_path):
    results = [LONG, FAILURE, replace(LONG, channel=2, codec="opus", recorded_at=None, file=None)]
    assert reading(tmp_path, "".join(json_line(each, True) for each in results)) == results


def test_without_timeline_there_are_no_segments(tmp_path):
    assert reading(tmp_path, json_line(LONG, False)) == [replace(LONG, segments=())]


def test_segments_are_in_order_of_time(tmp_path):
    assert reading(tmp_path, json_line(replace(LONG, segments=LONG.segments[::-1]), True)) == [LONG]


def test_standard_input_is_read(tmp_path):
    (tmp_path / "records").write_text(json_line(LONG, True))
    with (tmp_path / "records").open("rb") as file:
        saved = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            assert list(read_records("-")) == [LONG]
        finally:
            os.dup2(saved, 0)
            os.close(saved)


def test_old_new_and_edited_records_are_read(tmp_path):
    """Of the first version, of a later one, and as an editor or `jq` leaves them on Windows."""
    oldest = '"label": "music", "probability": 0.9, "scores": {}, "duration_s": 2.5}'
    later = f'"seconds": {{}}, "mood": {{"calm": 1}}, {oldest}'
    old, new = reading(tmp_path, f"\ufeff{BEGIN}{oldest}\r\n\r\n{BEGIN}{later}")
    assert (old.seconds, old.warnings, old.recorded_at) == ({"music": 2.5}, (), None)
    assert new.seconds == {}
    parts = '[{"start_s": 0, "end_s": 2, "label": "music", "probability": 1}, '
    parts += '{"start_s": 2, "end_s": 2.5, "label": "silence", "probability": 1}]'
    assert reading(tmp_path, f'{BEGIN}"segments": {parts}, {oldest}')[0].seconds == {"music": 2, "silence": 0.5}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("RIFF\0\0\0\0WAVEfmt ", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("\udcff", "it is not JSON"),
        ('{"a": 1}', 'it has no "schema"'),
        ("[]", 'it has no "schema"'),
        ('{"schema": "ms-edge/2", "path": "a"}', "its schema is 'ms-edge/2', and this version reads 'ms-edge/1'"),
        ('{"schema": "ms-edge/1"}', "its field path is missing"),
        (BEGIN + '"start_s": 0, "label": "music"}', "its field duration_s is missing"),  # of `stream`
        (BEGIN + '"error": "sad"}', "its field error is wrong"),
        (BEGIN + '"label": "music", "duration_s": NaN}', "its field duration_s is wrong"),
        (BEGIN + '"label": "music", "duration_s": 1e999}', "its field duration_s is wrong"),
        (BEGIN + f'"label": "music", "duration_s": 1{"0" * 400}}}', "its field duration_s is wrong"),
        (BEGIN + '"label": "music", "duration_s": -1}', "its field duration_s is wrong"),
        (BEGIN + '"label": "a", "duration_s": 1, "segments": [3]}', "a segment of it is no object"),
        (
            BEGIN + '"label": "a", "duration_s": 1, "segments": [{"start_s": 1, "end_s": 0}]}',
            "a segment of it ends before it starts",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, why):
    path = tmp_path / "records.jsonl"
    path.write_bytes(f"{json_line(LONG, True)}\n{line}\n".encode("utf-8", "surrogateescape"))
    read = read_records(str(path))
    assert next(read) == LONG
    with pytest.raises(UsageError) as caught:
        next(read)
    assert str(caught.value).startswith(f"{path}: line 3 is no record of ms-edge ({why}")


def test_a_cut_off_line_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"line 2 is no record .* cut off if its run was interrupted"):
        reading(tmp_path, json_line(LONG, True) + json_line(LONG, True)[:200])


@pytest.mark.parametrize("path", ["missing.jsonl", ".", "a\0b"])
def test_an_unreadable_file_is_one_sentence(path):
    with pytest.raises(UsageError, match=r"records cannot be read|not a usable file name"):
        list(read_records(path))


def test_many_records_need_constant_memory(tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_text(json_line(replace(LONG, segments=LONG.segments * 10), True) * 1000)
    read = read_records(str(path))
    next(read)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read) == 999
        assert tracemalloc.get_traced_memory()[1] < 300_000 < path.stat().st_size / 10
    finally:
        tracemalloc.stop()


def test_record_fields_are_those_of_results():
    """A field that is added to `Classification` must be read, too."""
    full = replace(LONG, channel=1, decoder="ffmpeg", container="mp4", codec="aac")
    assert result_of(json.loads(json_line(full, True))) == full


@pytest.mark.parametrize("at", [1, 100, 300])
def test_lines_that_become_blank_are_left_out(tmp_path, at):
    """`ms-edge watch` replaces a record while another command reads it."""
    line, path = json_line(LONG, True), tmp_path / "r.jsonl"
    blank = " " * (len(line) - 1) + "\n"
    path.write_text(line + line[:at] + blank[at:] + blank[: -1 - at] + line[-1 - at :] + line)
    assert list(read_records(str(path))) == [LONG, LONG]
