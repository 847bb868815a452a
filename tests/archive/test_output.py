"""What a run writes into OUT, whatever comes twice or was left by an interrupted run."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ms_edge
from ms_edge.archive import run
from ms_edge.archive.listing import Recording
from ms_edge.archive.output import ArchiveOutput
from ms_edge.archive.progress import Numbers
from ms_edge.archive.run import _take
from ms_edge.archive.stores import Stores
from ms_edge.errors import UsageError
from ms_edge.output.parquet import recordings_table, row_of

PATH = "tests/data/music_zaz.wav"


@pytest.fixture(scope="module")
def row():
    return row_of(ms_edge.classify(PATH))


def opened(place, **options) -> ArchiveOutput:
    return ArchiveOutput(str(place), Stores(), **{"segments": True, "resume": True, **options})


def test_repeated_rows_are_written_once(row, tmp_path):
    table = recordings_table([row, row]).append_column("index", pa.array([0, 1], pa.int64()))
    listed, missing = [Recording(PATH), Recording(PATH)], np.ones(2, bool)
    output, numbers = opened(tmp_path), Numbers(2, 1.0, 0, quiet=True)
    for part in (table.slice(0, 1), table, table):
        _take(part, listed, missing, output, numbers)
    output.flush()
    assert pq.read_table(tmp_path / "recordings").num_rows == 2
    assert not missing.any()
    assert numbers.recordings == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not lock directories")
def test_a_second_run_is_refused(tmp_path):
    first = opened(tmp_path)
    with pytest.raises(UsageError, match="another run is writing it"):
        opened(tmp_path)
    first.close()
    opened(tmp_path).flush()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not lock directories")
def test_a_run_that_failed_can_be_tried_again(tmp_path, monkeypatch):
    """Also in one process, where its exception still holds its variables, as in a notebook."""

    def refuse(*arguments, **options):
        raise UsageError("no cluster")

    monkeypatch.setattr(run, "joined", refuse)
    kept = []
    for _ in range(2):
        with pytest.raises(UsageError, match="no cluster") as raised:
            run.archive(PATH, str(tmp_path / "out"), resume=True)
        kept.append(raised)


def test_resume_refuses_a_table_of_another_program(tmp_path):
    (tmp_path / "recordings").mkdir()
    pq.write_table(pa.table({"path": [PATH]}), tmp_path / "recordings" / "z.parquet")
    with pytest.raises(UsageError, match=r"z\.parquet: cannot be read \(it has no column"):
        opened(tmp_path).done([Recording(PATH)], "", "")


def test_resume_repairs_what_an_interrupted_run_left(row, tmp_path):
    for _ in range(2):  # two runs at once have written the same recording, in a store without locks
        output = opened(tmp_path)
        output.add(recordings_table([row]))
        output.flush()
        del output
    first, second = sorted((tmp_path / "segments").iterdir())
    first.unlink()  # a run ended before it wrote its segments
    (tmp_path / "recordings" / ".x.parquet.part").write_bytes(b"PAR1")  # or in the middle of a file
    now = Recording(PATH, row["file"]["bytes"], row["file"]["modified"])
    assert opened(tmp_path).done([now], row["model"], row["settings"]) == {0}
    assert pq.read_table(tmp_path / "recordings").to_pylist()[0]["path"] == PATH
    assert pq.read_table(tmp_path / "recordings").num_rows == 1
    assert pq.read_table(tmp_path / "segments").num_rows == len(row["segments"])
    assert second.exists()


def test_table_of_segments_stays_complete(row, tmp_path):
    for segments in (True, False):
        output = opened(tmp_path, segments=segments)
        assert output.done([Recording(PATH)], row["model"], "other settings") == set()
        output.add(recordings_table([row]))
        output.flush()
        del output  # which unlocks the directory
    assert pq.read_table(tmp_path / "segments").num_rows == len(row["segments"])


@pytest.mark.parametrize("other", ["model", "settings", "bytes", "modified"])
def test_row_of_anything_else_is_not_valid(other, row, tmp_path):
    output = opened(tmp_path)
    output.add(recordings_table([row]))
    output.flush()
    del output
    stated = {"model": row["model"], "settings": row["settings"], **row["file"]}
    stated[other] = 1 if other == "bytes" else "another"
    now = Recording(PATH, stated["bytes"], stated["modified"])
    assert opened(tmp_path).done([now], stated["model"], stated["settings"]) == set()
    assert not list((tmp_path / "recordings").glob("*.parquet"))
    assert not list((tmp_path / "segments").glob("*.parquet"))


def test_unreadable_earlier_file_is_named(tmp_path):
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"recordings/x\.parquet: cannot be read"):
        opened(tmp_path).done([], "", "")
