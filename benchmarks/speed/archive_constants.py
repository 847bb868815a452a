"""Measure what each step of `ms-edge archive` costs, of which `archive_scaling` makes a model.

Each constant is measured alone, on this machine, with the code that the command runs. Where a step
keeps one processor busy, its CPU seconds count, which other programs on the machine change least.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa
import soundfile

from benchmarks.speed.archive_scaling import Constants
from ms_edge.archive import listing
from ms_edge.archive.actor import Recordings
from ms_edge.archive.cluster import joined
from ms_edge.archive.output import ArchiveOutput
from ms_edge.archive.run import archive
from ms_edge.archive.stores import Stores

NAMES = 20_000  # of files without content that are listed
KEYS = 1000  # of objects that are listed: those of one answer of S3
SAMPLE = 300  # recordings that are classified one by one
STORED = 60  # recordings that are also read from the store
MISSING = 900  # recordings that do not exist: their rows cost nothing but scheduling
PLANNED = 200_000  # recordings that are divided into tasks
ROWS = 20_000  # rows that are written
POOLS = (1, 9)  # actors, of two runs whose difference is the cost of an actor
KEYS_OF_STORE = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


def constants(recordings: Sequence[Path], start_s: float) -> Constants:
    """Measure all constants with some recordings. `start_s` is a constant that was measured before."""
    some = [str(path) for path in recordings[:SAMPLE]]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        open_s, audio_s = _classifying(some)
        list_page_s, stored_s, megabyte_s = _store(some[:STORED])
        task_s, actor_s = _scheduling(folder)
        return Constants(
            list_file_s=_listing(folder),
            list_page_s=list_page_s,
            plan_s=_planning(),
            task_s=task_s,
            row_s=_writing(folder, some),
            actor_s=actor_s,
            start_s=start_s,
            open_s=open_s,
            audio_s=audio_s,
            stored_s=stored_s,
            megabyte_s=megabyte_s,
        )


def _cpu_s(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def _listing(folder: Path) -> float:
    root = folder / "names"
    for number in range(NAMES):
        path = root / f"{number // 1000:03}" / f"{number:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    began = time.perf_counter()
    found = listing.recordings(str(root), Stores(), print)
    taken_s = time.perf_counter() - began
    assert len(found) == NAMES
    shutil.rmtree(root)
    return taken_s / NAMES


def _planning() -> float:
    found = [listing.Recording(f"s3://radio/{number:09}.flac", 700_000 + number) for number in range(PLANNED)]
    return _cpu_s(lambda: listing.tasks(enumerate(found), 100)) / PLANNED


def _classifying(paths: Sequence[str]) -> tuple[float, float]:
    """Return the CPU seconds for a recording and for a second of audio, by least squares."""
    actor = Recordings({}, {}, Stores())
    _batch(actor, paths[:1])
    spent_s = [_cpu_s(lambda path=path: _batch(actor, [path])) for path in paths]  # type: ignore[misc]
    lengths_s = [soundfile.info(path).duration for path in paths]
    (open_s, audio_s), *_ = np.linalg.lstsq(np.stack([np.ones(len(paths)), lengths_s], 1), np.array(spent_s))
    return max(0.0, float(open_s)), float(audio_s)


def _batch(actor: Recordings, paths: Sequence[str]) -> pa.Table:
    rows = actor(pa.table({"path": pa.array(paths, pa.string())}))
    assert not any(rows["error"].to_pylist()), rows["error"]
    return rows


def _store(paths: Sequence[str]) -> tuple[float, float, float]:
    """Return the CPU seconds to list 1,000 keys, and for a recording and a megabyte that are read."""
    with _server() as endpoint, mock.patch.dict(os.environ, {**KEYS_OF_STORE, "AWS_ENDPOINT_URL": endpoint}):
        urlopen(Request(f"{endpoint}/radio", method="PUT")).close()
        stores = Stores()
        found, _ = stores.at("s3://radio")
        for number in range(KEYS):
            with found.open_output_stream(f"radio/names/{number:06}.wav"):
                pass
        page_s = _cpu_s(lambda: listing.recordings("s3://radio/names", stores, print))
        local, remote = Recordings({}, {}, Stores()), Recordings({}, {}, stores)
        megabytes, more_s = [], []
        for number, path in enumerate(paths):
            content = Path(path).read_bytes()
            with found.open_output_stream(f"radio/{number}.flac") as file:
                file.write(content)
            megabytes.append(len(content) / 1e6)
            far = _cpu_s(lambda number=number: _batch(remote, [f"s3://radio/{number}.flac"]))  # type: ignore[misc]
            more_s.append(far - _cpu_s(lambda path=path: _batch(local, [path])))  # type: ignore[misc]
    (stored_s, megabyte_s), *_ = np.linalg.lstsq(np.stack([np.ones(len(paths)), megabytes], 1), np.array(more_s))
    return page_s, max(0.0, float(stored_s)), max(0.0, float(megabyte_s))


@contextmanager
def _server() -> Iterator[str]:
    """Run moto's server, a stand-in for S3, and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as tried:
                if not tried.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _writing(folder: Path, paths: Sequence[str]) -> float:
    some = _batch(Recordings({}, {}, Stores()), paths[:100])
    output = ArchiveOutput(str(folder / "written"), Stores(), segments=True, resume=False)

    def write() -> None:
        for _ in range(ROWS // 100):
            output.add(some)
        output.flush()

    return _cpu_s(write) / ROWS


def _scheduling(folder: Path) -> tuple[float, float]:
    """Return the CPU seconds of this process for a task, and for an actor."""
    with joined(None, verbose=False) as ray:
        few, many = _run(folder, "few", 600.0), _run(folder, "many", 40.0)
        small, large = (_pool_s(ray, actors) for actors in POOLS)
    return (many[0] - few[0]) / (many[1] - few[1]), (large - small) / (POOLS[1] - POOLS[0])


def _run(folder: Path, name: str, work_s: float) -> tuple[float, int]:
    """Classify recordings that do not exist, in tasks of some work. Return the CPU seconds and the number of tasks."""
    names = folder / f"{name}.txt"
    names.write_text("".join(f"/missing/{number}.wav\n" for number in range(MISSING)), "utf-8")
    count: list[int] = []
    divide = listing.tasks

    def counted(*given: Any) -> list[pa.Table]:
        found = divide(*given)
        count.append(len(found))
        return found

    with (
        mock.patch("ms_edge.archive.listing.TASK_S", (work_s, work_s)),
        mock.patch("ms_edge.archive.run.tasks", counted),
    ):
        cpu_s = _cpu_s(lambda: archive(str(names), str(folder / name), num_cpus=0.5))
    return cpu_s, count[0]


class _Nothing:
    def __call__(self, batch: pa.Table) -> pa.Table:
        return batch


def _pool_s(ray: Any, actors: int) -> float:
    """Return the CPU seconds of this process to run one task on each of some actors."""
    data = ray.data.from_arrow([pa.table({"path": ["a"]})] * actors)
    pool = ray.data.ActorPoolStrategy(size=actors)
    found = data.map_batches(_Nothing, batch_size=None, batch_format="pyarrow", compute=pool, num_cpus=0.01)
    return _cpu_s(found.materialize)
