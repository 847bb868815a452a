"""`ms-edge archive`: one row for each recording, once, whatever happens."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import soundfile
from breaking import BreakingFileSystem
from measured import LongFileSystem, idle_mb, measured

from ms_edge import archive
from ms_edge.archive.output import ArchiveOutput
from ms_edge.archive.stores import Stores
from ms_edge.classifier import Classifier
from ms_edge.cli.main import main
from ms_edge.errors import UsageError
from ms_edge.output.parquet import record_of_row, recordings_table, row_of, segments_table

DATA = Path(__file__).parent.parent / "data"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def source(tmp_path):
    """A folder of recordings, one of them broken."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(DATA / "music_zaz.wav", folder / "a.wav")
    shutil.copy(DATA / "speech_french_woman.wav", folder / "deep" / "b.wav")
    (folder / "broken.flac").write_bytes(b"fLaC and no more")
    (folder / "notes.txt").write_text("no audio")
    return folder


def rows(output: Path, table: str = "recordings") -> list[dict]:
    return sorted(pq.read_table(output / table).to_pylist(), key=lambda row: row["path"])


def test_rows_hold_the_records_of_classify(source, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["archive", str(source), "-o", str(output), "--segments"]) == 1
    errors = capsys.readouterr().err
    assert "skipped 1 file (1 .txt)" in errors
    assert "3 of 3 recordings, 1 errors" in errors
    main(["classify", "-r", str(source), "--timeline", "--format", "jsonl"])
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for record in records:
        record.pop("checksum", None)  # of the line
    assert [record_of_row(row) for row in rows(output)] == sorted(records, key=lambda record: record["path"])
    found = [(row["path"], row["start_s"], row["end_s"], row["label"]) for row in rows(output, "segments")]
    assert found == [
        (record["path"], part["start_s"], part["end_s"], part["label"])
        for record in sorted(records, key=lambda record: record["path"])
        for part in record.get("segments", ())
    ]


def test_rows_hold_levels_of_the_music():
    (speech, rate_hz), (music, _) = (
        soundfile.read(DATA / f"{name}.wav") for name in ("speech_italian_man", "music_zaz")
    )
    samples = speech[: len(music)] + 0.7 * music[: len(speech)]
    found = Classifier("music-speech-level", "cpu").classify(samples, rate_hz)
    table = recordings_table([row_of(found), row_of(replace(found, path="b"))])
    assert [record_of_row(row)["segments"] for row in table.to_pylist()] == [found.record(True)["segments"]] * 2
    (first, *_) = segments_table(table).to_pylist()
    assert first["music_to_speech_db"] == round(found.segments[0].music_to_speech_db, 1)
    assert len(first["music_to_speech_db_interval"]) == 2


def test_resume_reads_only_what_is_new_or_changed(source, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["archive", str(source), "-o", str(output), "--segments", "--resume"]
    main(arguments)
    before = {row["path"]: row for row in rows(output)}
    shutil.copy(DATA / "music_palace.wav", source / "deep" / "b.wav")  # changed
    shutil.copy(DATA / "music_palace.wav", source / "c.wav")  # new
    shutil.copy(DATA / "music_palace.wav", source / "broken.flac")  # was an error
    capsys.readouterr()
    assert main(arguments) == 0
    assert "4 of 4 recordings, 0 errors (1 done before)" in capsys.readouterr().err
    after = rows(output)
    assert [Path(row["path"]).name for row in after] == ["a.wav", "broken.flac", "c.wav", "b.wav"]
    assert after[0] == before[str(source / "a.wav")]
    assert after[3]["label"] == "music"
    assert {row["path"] for row in rows(output, "segments")} == {row["path"] for row in after}
    assert len(rows(output, "segments")) == sum(len(row["segments"]) for row in after)


def test_results_are_not_mixed_without_resume(source, tmp_path, capsys):
    output = tmp_path / "out"
    main(["archive", str(source), "-o", str(output)])
    assert main(["archive", str(source), "-o", str(output)]) == 2
    assert "--resume continues it" in capsys.readouterr().err


def test_crash_costs_a_retry_then_one_row(tmp_path):
    names = ["a.wav", "crash_once.wav", "b.wav", "crash.wav", "c.wav"]
    for name in names:
        shutil.copy(DATA / "music_zaz.wav", tmp_path / name)
    paths = pa.table({"path": [str(tmp_path / name) for name in names], "station": list("vwxyz")})
    found = archive.classify(ray.data.from_arrow(paths), filesystem=BreakingFileSystem()).take_all()
    assert [(row["station"], row["label"]) for row in found] == list(
        zip("vwxyz", [*["music"] * 3, None, "music"], strict=True)
    )
    assert found[3]["error"]["code"] == "worker-died"
    assert "(signal 11)" in found[3]["error"]["message"]
    assert len((tmp_path / "crash.wav.crashed").read_text().split()) == 1  # the other actor died before
    assert found[1]["file"] is None


def test_actors_leave_a_cpu_to_readers(tmp_path):
    (tmp_path / "list.csv").write_text("path\na.wav\n")
    dataset = ray.data.read_csv(str(tmp_path / "list.csv"))
    cpus = int(ray.cluster_resources()["CPU"])
    with pytest.raises(UsageError, match="could leave no whole CPU"):
        archive.classify(dataset, actors=(cpus, cpus))
    with pytest.raises(UsageError, match="no node of the cluster has more than"):
        archive.classify(dataset, num_cpus=cpus + 1)


def test_interrupt_keeps_rows_and_resume_adds_the_rest(source, tmp_path, monkeypatch, capsys):
    def interrupted(self, rows):
        add(self, rows)
        if len(rows):
            raise KeyboardInterrupt

    add = ArchiveOutput.add
    monkeypatch.setattr(ArchiveOutput, "add", interrupted)
    monkeypatch.setattr("ms_edge.archive.listing.TASK_S", (1.0, 1.0))
    arguments = ["archive", str(source), "-o", str(tmp_path / "out"), "--resume", "-j", "1"]
    assert main(arguments) == 130
    assert "the same command with --resume does the rest" in capsys.readouterr().err
    assert len(rows(tmp_path / "out")) == 1
    monkeypatch.setattr(ArchiveOutput, "add", add)
    assert main(arguments) == 1
    assert len(rows(tmp_path / "out")) == 3


def encode(path: Path, codec: str, samples: np.ndarray, rate_hz: int) -> None:
    """Write mono samples as FFmpeg encodes them."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        for each in (frame, None):
            file.mux(stream.encode(each))


@pytest.mark.native
def test_actor_needs_bounded_memory_for_any_input(tmp_path):
    """At most 150 MB more than a worker of Ray that does nothing, also with a decoder of FFmpeg's formats."""
    clip, rate_hz = soundfile.read(DATA / "music_zaz.wav", dtype="float32")
    for suffix in ("wav", "flac", "mp3", "ogg", "aiff"):
        with soundfile.SoundFile(tmp_path / f"long.{suffix}", "w", rate_hz, 2) as file:
            for _ in range(40):
                file.write(np.stack([clip, clip], axis=1))
    encode(tmp_path / "long.m4a", "aac", np.tile(clip, 40), rate_hz)
    formats = sorted(str(path) for path in tmp_path.iterdir())
    paths = [str(DATA / "music_zaz.wav")] * 300 + formats + [str(tmp_path / "3.hours")]
    rows = measured(ray, paths, Stores(filesystem=LongFileSystem())).to_pylist()  # by ranges, as from a store
    assert [row["error"] for row in rows if row["error"]] == []
    assert len(rows) == len(paths)
    assert {row["decoder"] for row in rows} == {"libsndfile", "ffmpeg"}
    assert rows[-1]["duration_s"] == 10_800
    assert len(rows[-1]["segments"]) > 900
    assert rows[0]["most_mb"] - idle_mb(ray) < 150
