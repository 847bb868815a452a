"""`ms-edge archive` on clusters of Ray: several nodes, nodes that die, and too few CPUs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import soundfile
from ray.cluster_utils import Cluster

import ms_edge
from ms_edge.archive import classify
from ms_edge.archive.output import ArchiveOutput
from ms_edge.cli.main import main
from ms_edge.errors import UsageError

DATA = Path(__file__).parent.parent / "data"
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


@contextlib.contextmanager
def cluster_of(nodes, **node):
    """A cluster of several nodes on this machine; the first one is the head."""
    found = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **NODE, **node})
    try:
        for _ in range(nodes - 1):
            found.add_node(**NODE, **node)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


@pytest.fixture
def source(tmp_path):
    """Forty names of a recording of ten minutes: speech, music, speech, music ..."""
    clips = [soundfile.read(DATA / name)[0] for name in ("speech_italian_man.wav", "music_zaz.wav")]
    folder = tmp_path / "in"
    folder.mkdir()
    samples = np.concatenate([clips[number % 2] for number in range(100)])
    soundfile.write(tmp_path / "long.wav", samples, 16_000)
    for number in range(40):
        (folder / f"{number:03}.wav").symlink_to(tmp_path / "long.wav")
    return folder


def actors_of(node):
    """Return the process numbers of the actors on a node that runs on this machine."""
    raylet = node.all_processes["raylet"][0].process.pid
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == raylet and "MapWorker" in (status.parent / "cmdline").read_text():
                found.append(int(status.parent.name))
    return found


@pytest.mark.slow
def test_lost_node_loses_and_repeats_nothing(source, tmp_path, monkeypatch, capsys):
    killed, late = [], []  # actors that were killed, and tables that came afterwards

    def add(self, rows):
        if killed:
            late.append(rows)
        for node in workers if not killed else ():
            if actors := actors_of(node):
                killed.extend(actors)
                cluster.remove_node(node, allow_graceful=False)
                break
        written(self, rows)

    written = ArchiveOutput.add
    monkeypatch.setattr(ArchiveOutput, "add", add)
    output = tmp_path / "out"
    with cluster_of(3) as cluster:
        ray.init(address=cluster.address, log_to_driver=False)
        workers = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]
        status = main(["archive", str(source), "-o", str(output), "--segments", "--address", cluster.address])
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    assert killed
    assert len(late) > 3  # it was in the middle
    assert not capsys.readouterr().out
    rows = pq.read_table(output / "recordings").to_pylist()
    assert [row["error"] for row in rows if row["error"]] == []
    assert status == 0
    assert sorted(row["path"] for row in rows) == sorted(map(str, source.iterdir()))
    expected = ms_edge.classify(tmp_path / "long.wav")
    parts = [(part.start_s, part.end_s, part.label) for part in expected.segments]
    assert len(parts) > 90
    for row in rows:
        assert row["error"] is None
        assert [(part["start_s"], part["end_s"], part["label"]) for part in row["segments"]] == parts
    assert pq.read_table(output / "segments").num_rows == 40 * len(parts)


@pytest.mark.slow
def test_lost_head_is_one_sentence_and_resume_does_the_rest(source, tmp_path):
    for path in sorted(source.iterdir())[20:]:
        path.unlink()
    output = tmp_path / "out"
    command = [sys.executable, "-m", "ms_edge.cli", "archive", str(source), "-o", str(output), "--resume", "-q"]
    soon = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}  # Ray ends the process after 60 s otherwise
    with cluster_of(2) as cluster:
        address = cluster.address
        asked = [*command, "--address", address]
        running = subprocess.Popen(asked, env=soon, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            until = time.monotonic() + 120
            while not any(map(actors_of, cluster.list_all_nodes())) and time.monotonic() < until:
                time.sleep(0.1)
            for server in cluster.head_node.all_processes["gcs_server"]:
                server.process.kill()
            printed, errors = running.communicate(timeout=120)
        finally:
            running.kill()
    assert (running.returncode, printed, errors.count("\n")) == (3, "", 1)
    assert errors.startswith(f"ms-edge: The cluster at {address} was lost")
    assert "--resume does the rest" in errors
    with cluster_of(1) as cluster:
        subprocess.run([*command, "--address", cluster.address], check=True, timeout=240)
    paths = pq.read_table(output / "recordings")["path"].to_pylist()
    assert sorted(paths) == sorted(map(str, source.iterdir()))


@pytest.fixture
def two_cpus():
    """A cluster of one node with two CPUs."""
    with cluster_of(1, num_cpus=2) as cluster:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster


@pytest.mark.slow
def test_actors_that_take_every_cpu_are_refused(two_cpus, tmp_path, capsys):
    """They would wait for ever for rows that no CPU is left to read; half a CPU each leaves one."""
    names = tmp_path / "names.csv"
    names.write_text("path\n" + "".join(f"{path}\n" for path in sorted(DATA.glob("*.wav"))))
    with pytest.raises(UsageError, match="2 actors of 1 CPU could leave no whole CPU"):
        classify(ray.data.read_csv(str(names)), actors=(2, 2))
    found = classify(ray.data.read_csv(str(names)), actors=(2, 2), num_cpus=0.5).take_all()
    assert sorted(row["path"] for row in found) == sorted(map(str, DATA.glob("*.wav")))
    assert {row["label"] for row in found} == {"speech", "music"}
    one = tmp_path / "one.txt"
    one.write_text(f"{DATA / 'music_zaz.wav'}\n")
    output = str(tmp_path / "out")
    assert main(["archive", str(one), "-o", output, "--address", two_cpus.address, "--cpus", "4"]) == 2
    assert "no node of the cluster has more than 2" in capsys.readouterr().err
    assert main(["archive", str(one), "-o", output, "--address", two_cpus.address, "-j", "2", "--cpus", "1"]) == 0
