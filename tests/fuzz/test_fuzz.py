"""The fuzzers find what they look for, and a short run of each finds nothing."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import decoders
import models
import numpy as np
import onnx_mutations
import pytest
import targets
import workers
from mutations import mutated, restore_ogg_checksums
from workers import Outcome, Worker

from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError
from ms_edge.results import Failure

FOUND = sorted((Path(__file__).parent / "corpus" / "found").iterdir())
FINE = Outcome("speech", "classified", None, 0.0, 0)


@pytest.fixture(scope="module")
def reading() -> Iterator[Worker]:
    """A worker that reads recordings; another process takes its place if it dies."""
    with decoders.reading_worker() as worker:
        yield worker


def test_corpus_is_small():
    seeds = decoders.seeds_of()
    assert len(seeds) > 110
    assert sum(map(len, seeds.values())) < 600_000


def test_same_number_gives_same_input():
    seeds = list(decoders.seeds_of().values())
    inputs = [mutated(seeds, number, 5) for number in range(1000)]
    assert inputs == [mutated(seeds, number, 5) for number in range(1000)]
    assert inputs != [mutated(seeds, number, 6) for number in range(1000)]
    assert sum(changed != seed for changed, seed in zip(inputs, seeds * 3, strict=False)) > 190


@pytest.mark.parametrize("name", ["chained.ogg", "opus_pages.opus", "flac.oga"])
def test_checksums_of_ogg_are_restored(name):
    intact = decoders.seeds_of(name)[name]
    content = bytearray(intact)
    for page in range(intact.count(b"OggS")):
        at = [at for at in range(len(intact)) if intact.startswith(b"OggS", at)][page]
        content[at + 22 : at + 26] = b"\1\2\3\4"
    restore_ogg_checksums(content)
    assert content == intact


def outcome_of(content: bytes, suffix: str) -> Outcome:
    """Stand for a reader that dies, hangs or raises for some bytes."""
    if b"crash" in content:
        os.kill(os.getpid(), signal.SIGTERM)
    if b"hang" in content:
        time.sleep(60)
    return Outcome("not-audio", "refused", "exception: KeyError", 0.0, 0) if b"raise" in content else FINE


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a crash", "died: signal 15"),
        (b"a hang", "hang: no answer within 1 s"),
        (b"raise", "exception: KeyError"),
        (b"a", None),
    ],
)
def test_worker_reports_death_hang_and_exception(content, problem):
    worker = Worker(lambda: outcome_of, limit_s=1)
    try:
        assert worker.outcome(content).problem == problem
        assert worker.outcome(b"next").problem is None
    finally:
        worker.end()


def test_finding_becomes_small():
    worker = Worker(lambda: outcome_of)
    try:
        assert workers.minimised(worker, bytes(1_000) + b"crash" + bytes(3_000), "", "died: signal 15") == b"crash"
    finally:
        worker.end()


def test_failure_without_sentence_breaks_rule():
    assert decoders.problem_of(Failure("a.wav", "not-audio", "a.wav: not audio."), "a.wav") is None
    for failure in (
        Failure("a.wav", "not-audio", "Traceback\n  a.wav."),
        Failure("a.wav", "no-such-code", "a.wav: not audio."),
    ):
        assert str(decoders.problem_of(failure, "a.wav")).startswith("message: ")


@pytest.mark.slow
def test_intact_recordings_are_read(reading):
    for name, content in decoders.seeds_of().items():
        outcome = reading.outcome(content, Path(name).suffix)
        assert outcome.problem is None, name
        assert outcome.result in {"speech", "silence", "other"}, name
        assert outcome.kind == ("warned" if name == "endless.wav" else "classified"), name


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_past_finding_is_no_finding(path, reading):
    assert reading.outcome(path.read_bytes(), path.suffix).problem is None
    for target in targets.TARGETS.values():
        target.read(path.read_bytes())


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        ("last_frame.mp3", ("damaged",)),
        ("half_a_sample.au", ("truncated",)),
        ("bytes_after.au", ("bad-header",)),
        ("no_packets.caf", ("bad-header",)),
        ("no_data.w64", ("bad-header",)),
        ("no_data.caf", ("bad-header",)),
        ("past_the_end.dts", ("damaged",)),
        ("corrupt_frame.amr", ("damaged",)),
        ("latin1_title.avi", ()),
        ("longest_frame_of_1.flac", ("bad-header",)),
        ("form_of_0.aiff", ("bad-header",)),
        ("sound_of_0.aiff", ("bad-header",)),
        ("offset_of_1.aiff", ("bad-header",)),
        ("bytes_after.aiff", ("bad-header",)),
        ("of_a_pipe.aiff", ("stream-header",)),
        ("of_a_pipe.w64", ("stream-header",)),
        ("riff_of_0.w64", ("bad-header",)),
        ("negative_count.rf64", ("bad-header",)),
        ("bits_of_0.wav", ("bad-header",)),
        ("size_of_8_bits.flac", ("bad-header",)),
        ("frames_of_8_bits.flac", ("bad-header",)),
        ("vorbis_setup.mkv", ("damaged",)),
        ("second_data.caf", ("bad-header",)),
    ],
)
def test_past_damage_has_a_warning(name, warnings):
    assert Classifier().classify(FOUND[0].with_name(name)).warnings == warnings


def test_opus_that_begins_before_0_is_too_short():
    # FFmpeg finds 0.2 s in it. libsndfile gives 0.4 s of what was in memory before.
    with pytest.raises(AudioError) as caught:
        Classifier().classify(FOUND[0].with_name("begins_before_0.ogg"))
    assert caught.value.code == "too-short"


def test_opus_with_wrong_positions_gives_one_answer():
    # libsndfile gives what was in memory before, so that most answers differ.
    path, classifier = FOUND[0].with_name("positions_of_years.opus"), Classifier()
    found = {(found.scores["speech"], found.warnings, found.decoder) for found in map(classifier.classify, [path] * 5)}
    assert len(found) == 1
    assert found.pop()[1:] == (("bad-header",), "ffmpeg")


def test_past_memory_is_an_error():
    with pytest.raises(AudioError) as caught:
        Classifier().classify(FOUND[0].with_name("packets_without_bytes.mp4"))
    assert caught.value.code == "too-long"


@pytest.mark.slow
def test_mutated_recordings_give_valid_records(reading):
    findings: list[workers.Finding] = []
    seeds = decoders.seeds_of()
    numbers = range(1000)  # each file is used eight times
    outcomes = list(workers.run(seeds, mutated, numbers, 1, reading, findings.append))
    assert not findings
    assert {name for name, _, _ in outcomes} == set(seeds)
    assert [number for _, number, _ in outcomes] == list(numbers)
    assert {outcome.kind for _, _, outcome in outcomes} == set(workers.KINDS)


@pytest.mark.slow
def test_command_gives_one_record_per_mutated_recording(tmp_path):
    seeds = decoders.seeds_of()
    names = [f"{number}{Path(name).suffix}" for number, name in enumerate([*seeds, *seeds])]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(mutated(list(seeds.values()), number, 2))
    command = [sys.executable, "-m", "ms_edge.cli", "classify", "-q", "-j", "2", "--format", "jsonl", *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1  # some are no recordings any more
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == names
    assert all(line.startswith("ms-edge: ") and line.endswith(".") for line in done.stderr.splitlines())


@pytest.mark.slow
def test_mutated_models_are_refused_or_give_scores():
    findings: list[workers.Finding] = []
    with models.loading_worker() as worker:
        outcomes = list(
            workers.run(models.seeds_of(), onnx_mutations.mutated_model, range(500), 1, worker, findings.append)
        )
    assert not findings
    assert {outcome.kind for _, _, outcome in outcomes} == {"classified", "refused"}


def test_model_is_written_as_it_was_read():
    for content in models.seeds_of().values():
        assert onnx_mutations.written(onnx_mutations.parsed(content)) == content


@pytest.mark.slow
def test_changes_of_models_are_of_every_kind():
    (content,) = models.seeds_of("steps.onnx").values()
    changed = [onnx_mutations.mutated_model([content], number, 0) for number in range(1000)]
    assert changed == [onnx_mutations.mutated_model([content], number, 0) for number in range(1000)]
    for part in (
        onnx_mutations.OUTSIDE.encode(),
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        np.float32("inf").tobytes(),
    ):
        assert part not in content
        assert any(part in each for each in changed)


def test_jobs_run_each_input_once():
    @contextlib.contextmanager
    def prepare() -> Iterator[Worker]:
        worker = Worker(lambda: outcome_of)
        yield worker
        worker.end()

    parts = [range(at, at + 10) for at in range(0, 50, 10)]
    found = list(workers.in_jobs({"a.wav": b"a", "b.wav": b"raise"}, only, 0, prepare, parts, 2, math.inf))
    assert sum(tally.results.total() for part in found for tally in part.tallies.values()) == 50
    assert sorted(part.numbers.start for part in found) == list(range(0, 50, 10))
    assert {(finding.name, finding.problem) for part in found for finding in part.findings} == {
        ("b.wav", "exception: KeyError")
    }


def slow_outcome(content: bytes, suffix: str) -> Outcome:
    time.sleep(0.01)
    return FINE


@contextlib.contextmanager
def slow_worker() -> Iterator[Worker]:
    worker = Worker(lambda: slow_outcome)
    yield worker
    worker.end()


def test_interrupted_run_says_what_it_did(tmp_path):
    code = (
        "import sys, test_fuzz as t, workers; workers.CHUNK, workers.PROGRESS = 10, 1; sys.exit(workers.command_line("
        "'', lambda _: {'a.wav': b'a'}, t.only, t.slow_worker, ['--inputs', '1000000', '--first', '70', '--jobs', '1']))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        first = [run.stdout.readline() for _ in range(4)]
        run.send_signal(signal.SIGINT)
        rest = run.communicate(timeout=60)[0]
    assert all(" inputs in " in line for line in first)
    assert "not finished: all inputs before " in rest
    assert run.returncode == 130
    assert int(rest.rsplit("--first ", 1)[1]) >= 110  # four parts of ten


def only(contents: Sequence[bytes], number: int, seed: int) -> bytes:
    return contents[number % len(contents)]


@pytest.mark.slow
@pytest.mark.parametrize("name", targets.TARGETS)
def test_parsers_keep_their_promises(name):
    target = targets.TARGETS[name]
    seeds = target.seeds()
    for content in (b"", *seeds, *(mutated(seeds, number, 1) for number in range(300))):
        target.read(content)


def test_target_notices_endless_reading():
    file = targets.File(bytes(10))
    with pytest.raises(AssertionError, match="too many reads"):
        all(iter(lambda: file(0, 1), b""))
