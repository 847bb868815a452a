"""`ms-edge archive` on an object store that answers late and fails. The store is moto's stand-in for S3."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import soundfile
from measured import idle_mb, measured
from object_store import FAULTS, REGION, object_store
from pyarrow import fs

from ms_edge.archive import stores
from ms_edge.archive.actor import Recordings
from ms_edge.archive.cluster import joined
from ms_edge.cli.main import main
from ms_edge.output.parquet import record_of_row

DATA = Path(__file__).parent.parent / "data"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store():
    """A store with the buckets radio and results, and a Ray whose workers find it."""
    with object_store() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment().items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]))
        for bucket in ("radio", "results"):
            found.client().create_bucket(Bucket=bucket)
        with joined(None, verbose=False):
            yield found


@pytest.fixture(scope="module")
def recordings(store, tmp_path_factory):
    """A folder of recordings that are also in the bucket: WAV, FLAC, MP3, a long one, and one that is no audio."""
    folder = tmp_path_factory.mktemp("radio")
    clips = sorted(DATA.glob("*.wav"))
    for number in range(24):
        samples, rate_hz = soundfile.read(clips[number % len(clips)])
        suffix = ("wav", "flac", "mp3")[number % 3]
        soundfile.write(folder / f"{number:02} é%20+.{suffix}", samples, rate_hz)
    samples = soundfile.read(DATA / "speech_italian_man.wav")[0]
    long = np.tile(samples, 120)
    soundfile.write(folder / "long.wav", long, 16_000)  # several blocks of the reader
    (folder / "broken.wav").write_bytes(b"RIFF")
    for path in folder.iterdir():
        store.client().upload_file(str(path), "radio", f"2026/{path.name}")
    return folder


def rows_of(store, output):
    bucket, _, key = output.removeprefix("s3://").partition("/")
    found = fs.S3FileSystem(endpoint_override=store.moto, region=REGION, access_key="a", secret_key="b")
    return pq.read_table(f"{bucket}/{key}/recordings", filesystem=found).to_pylist()


def test_faults_of_a_store_change_no_row(store, recordings, monkeypatch, capsys):
    monkeypatch.setattr(store, "latency_s", 0.02)
    monkeypatch.setattr(store, "every", 4)
    output = "s3://results/faults"
    assert main(["archive", "s3://radio/2026", "-o", output, "--segments", "--cpus", "0.5"]) == 1
    monkeypatch.setattr(store, "every", 0)
    assert all(store.injected[fault] for fault in FAULTS), store.injected
    capsys.readouterr()
    assert main(["classify", str(recordings), "--timeline", "--format", "jsonl"]) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = rows_of(store, output)
    assert len(rows) == len(records) == 26
    by_name = {row["path"].removeprefix("s3://radio/2026/"): row for row in rows}
    for record in records:
        row = by_name[Path(record["path"]).name]
        if "error" in record:
            assert row["error"]["code"] == record["error"]["code"]
            continue
        assert row["error"] is None
        assert row["file"]["bytes"] == record["file"]["bytes"]
        found = record_of_row(row)
        del record["checksum"]  # of the line
        assert found == {**record, "path": row["path"], "file": found["file"]}


def test_actor_needs_bounded_memory_for_objects(store, recordings):
    """AWS's library is in the actor, too: at most 150 MB more than a worker of Ray that does nothing."""
    paths = [f"s3://radio/2026/{path.name}" for path in sorted(recordings.iterdir())]
    rows = measured(ray, paths, stores.Stores()).to_pylist()
    assert [row["error"]["code"] for row in rows if row["error"]] == ["not-audio"]
    assert rows[0]["most_mb"] - idle_mb(ray) < 150


def test_store_without_answers_gives_error_rows(store, recordings, monkeypatch):
    monkeypatch.setattr(store, "every", 1)
    monkeypatch.setattr(stores, "ATTEMPTS", 1)  # pyarrow itself tries for seven seconds
    paths = ["s3://radio/2026/long.wav", "s3://radio/2026/gone.wav", "s3://gone/a.wav"]
    rows = Recordings({}, {}, stores.Stores())(pa.table({"path": paths})).to_pylist()
    assert [row["path"] for row in rows] == paths
    assert [row["error"]["code"] for row in rows] == ["cannot-read", "not-found", "not-found"]
