"""A system that grants little (processes, threads, open files, memory) and values that no clock or recording has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from ms_edge.audio import file as audio
from ms_edge.audio import opening
from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.errors import UsageError, resource_error
from ms_edge.jobs import classify as run
from ms_edge.jobs import limits
from ms_edge.jobs.workers import Item, Workers
from ms_edge.output import journal as resume

COMMAND = [sys.executable, "-m", "ms_edge.cli"]


def modified(seconds: int, nanoseconds: int = 0) -> object:
    status = SimpleNamespace(st_size=1, st_mtime_ns=seconds * 1_000_000_000 + nanoseconds)
    return opening.file_facts(status)["modified"]


@pytest.mark.parametrize(
    ("seconds", "time"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.000000Z"),
        (1_763_702_206, "2025-11-21T05:16:46.000000Z"),
        (253_402_300_799, "9999-12-31T23:59:59.000000Z"),
        (253_402_300_800, "+010000-01-01T00:00:00.000000Z"),
        (300_000_000_000, "+011476-08-15T05:20:00.000000Z"),  # as GNU date says
        (9_000_000_000_000_000_000, "+285198648531-04-21T16:00:00.000000Z"),
        (-62_135_596_800, "0001-01-01T00:00:00.000000Z"),
        (-62_135_596_801, "0000-12-31T23:59:59.000000Z"),
        (-62_167_219_201, "-000001-12-31T23:59:59.000000Z"),
    ],
)
def test_a_file_may_be_of_any_year(seconds, time):
    assert modified(seconds) == time
    assert modified(seconds, 999_999_999) == time.replace(".000000Z", ".999999Z")


def test_modification_times_equal_those_of_datetime():
    for day in range(-700_000, 2_900_000, 9_973):
        seconds = day * 86_400 + day % 86_400
        assert modified(seconds) == datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace(
            "+00:00", "Z"
        )


def test_resume_knows_a_file_of_the_year_11476(samples, tmp_path, monkeypatch):
    facts = opening.file_facts
    later = 300_000_000_000_000_000_000

    def aged(status):
        return facts(SimpleNamespace(st_size=status.st_size, st_mtime_ns=status.st_mtime_ns + later))

    monkeypatch.setattr(audio, "file_facts", aged)
    monkeypatch.setattr(resume, "file_facts", aged)
    command = ["classify", "-q", str(samples[0]), "-o", str(tmp_path / "r.jsonl"), "--resume"]
    assert cli.main(command) == 0
    assert json.loads((tmp_path / "r.jsonl").read_text())["file"]["modified"].startswith("+0115")
    monkeypatch.delattr(Classifier, "classify")  # it has nothing to do
    assert cli.main(command) == 0
    later += 1_000_000
    with pytest.raises(AttributeError):  # it was changed
        cli.main(command)


@pytest.mark.parametrize("granted", range(6))
def test_few_threads_are_enough(monkeypatch, granted):
    start, started = threading.Thread.start, []

    def start_some(self):
        if len(started) >= granted:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    with Workers(lambda item, on_audio: item * item, 4, lambda seconds: None, fork=False) as workers:
        assert list(workers.results(map(Item, range(100)))) == [item * item for item in range(100)]
    assert len(started) == min(granted, 4)
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


NO_PROCESS = """
import os, sys, threading
from ms_edge.cli import main as cli

def none(*_, **__):
    raise BlockingIOError(11, "resource temporarily unavailable")

def no_thread(*_, **__):
    raise RuntimeError("can't start new thread")

os.fork = none
threading.Thread.start = no_thread
sys.exit(cli.main(["classify", "--format", "tsv", "-j", "4", *sys.argv[1:]]))
"""


def test_a_run_needs_no_processes_or_threads(samples):
    command = [sys.executable, "-c", NO_PROCESS, *map(str, samples), "-"]
    with samples[0].open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(samples) + 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Python needs more files")
@pytest.mark.parametrize("limit", [12, 16, 20, 24, 40])
def test_few_open_files_are_enough(samples, limit):
    import resource

    done = subprocess.run(
        [*COMMAND, "classify", "-j", "4", *map(str, samples)],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1 + len(samples)
    jobs = "2 files" if limit == 24 else "1 file"
    why = f"this process may have only {limit} files open (ulimit -n)"
    assert done.stderr == ("" if limit == 40 else f"ms-edge: -j 4: working on {jobs} at once: {why}.\n")


def test_no_more_jobs_than_help(samples, monkeypatch, capsys):
    monkeypatch.setattr(limits, "usable_cores", lambda: 1)
    counts = []

    class Counted(Workers):
        def __init__(self, answer, count, on_audio, *, fork):
            counts.append(count)
            super().__init__(answer, 0, on_audio, fork=fork)

    monkeypatch.setattr(run, "Workers", Counted)
    for option, said in (([], True), (["-q"], False)):
        assert cli.main(["classify", "-j", "3000", *option, *map(str, samples)]) == 0
        assert counts.pop() == 4
        expected = "ms-edge: -j 3000: working on 4 files at once: more than 4 for each core take longer.\n"
        assert capsys.readouterr().err == (expected if said else "")


def test_a_default_that_is_too_many_says_nothing(samples, monkeypatch, capsys):
    monkeypatch.setattr(limits, "usable_cores", lambda: 4)
    monkeypatch.setattr(limits, "most_jobs", lambda: (1, "why"))
    assert cli.main(["classify", *map(str, samples[:2])]) == 0
    assert capsys.readouterr().err == ""


NO_MEMORY = """
import sys
from ms_edge.cli import main as cli
from ms_edge.classifier import Classifier

def full(*_, **__):
    raise MemoryError

Classifier.classify = full
sys.exit(cli.main(["classify", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_too_little_memory_is_one_sentence(samples, jobs):
    command = [sys.executable, "-c", NO_MEMORY, "-j", jobs, *map(str, samples)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr == (
        "ms-edge: not enough memory; allow this process more (ulimit -v), or classify fewer files at a time (-j 1).\n"
    )


def test_memory_errors_do_not_blame_the_model(samples):
    script = "import onnxruntime, sys; from ms_edge.cli import main as cli\n"
    script += "def full(*_, **__): raise MemoryError('std::bad_alloc')\n"
    script += "onnxruntime.InferenceSession = full; sys.exit(cli.main(['classify', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", script, samples[0]], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.partition(";")[0]) == (3, "ms-edge: not enough memory")


def test_reading_a_model_needs_its_size_in_memory(tmp_path):
    import tracemalloc

    from ms_edge.model import session as model

    tracemalloc.start()
    model._read(model._BUNDLED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * model.BUNDLED.stat().st_size < model.MAX_BYTES


@pytest.mark.parametrize(
    ("module", "raises"),
    [
        ("numpy", 'raise ImportError("READ THIS\\n" * 20) from ImportError("libblas.so: failed to map segment")'),
        ("numpy", "raise AttributeError('failed to map segment')"),
        ("numpy", "raise OSError(5, 'failed to map segment')"),
        ("soxr", "raise OSError(5, 'failed to map segment')"),  # imported in a worker
        ("onnxruntime", "raise AttributeError('failed to map segment')"),
        ("soundfile", 'raise OSError("cannot load library libsndfile.so: failed to map segment")'),
    ],
)
def test_unloadable_libraries_are_reported_in_one_sentence(samples, tmp_path, module, raises):
    (tmp_path / f"{module}.py").write_text(raises)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    run = [*COMMAND, "classify", str(samples[0])]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) <= 1  # the heading of the table
    assert done.stderr.startswith("ms-edge: a library cannot be loaded (")
    assert "failed to map segment" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_output_errors_are_not_system_errors():
    assert resource_error(OSError(28, "No space left on device")) is None
    assert resource_error(ValueError()) is None
    assert "too many open files" in str(resource_error(OSError(24, "Too many open files")))


@pytest.mark.parametrize("seconds", [1e308, 1e7, float("inf"), float("nan"), -1e308, 10**400])
def test_a_duration_that_nothing_has_is_refused(seconds):
    with pytest.raises(UsageError, match="minimum duration must be 0 to 1,000,000 s"):
        Classifier(device="cpu", min_segment_s=seconds)


def test_the_longest_duration_makes_one_segment(samples):
    (segment,) = Classifier(device="cpu", min_segment_s=1e6).timeline(samples[0])
    assert segment.start_s == 0
