"""The fuzzers find what they look for, and a short run of each finds nothing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import decoders
import pytest
import targets
from decoders import Outcome, Worker
from mutations import mutated, restore_ogg_checksums

from ms_edge.results import Failure

FOUND = sorted((Path(__file__).parent / "corpus" / "found").iterdir())
FINE = Outcome("speech", None, 0.0, 0)


def test_corpus_is_small():
    seeds = decoders.seeds_of()
    assert len(seeds) > 90
    assert sum(map(len, seeds.values())) < 500_000


def test_same_number_gives_same_input():
    seeds = list(decoders.seeds_of().values())
    inputs = [mutated(seeds, number, 5) for number in range(200)]
    assert inputs == [mutated(seeds, number, 5) for number in range(200)]
    assert inputs != [mutated(seeds, number, 6) for number in range(200)]
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


def outcome_of(content: bytes) -> Outcome:
    """Stand for a reader that dies, hangs or raises for some bytes."""
    if b"crash" in content:
        os.kill(os.getpid(), signal.SIGTERM)
    if b"hang" in content:
        time.sleep(60)
    return Outcome("not-audio", "exception: KeyError", 0.0, 0) if b"raise" in content else FINE


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
        assert decoders.minimised(worker, bytes(1_000) + b"crash" + bytes(3_000), "died: signal 15") == b"crash"
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
def test_intact_recordings_are_read():
    with decoders.reading_worker() as worker:
        for name, content in decoders.seeds_of().items():
            outcome = worker.outcome(content)
            assert outcome.problem is None, name
            assert outcome.result in {"speech", "silence", "other"}, name


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_past_finding_is_no_finding(path):
    with decoders.reading_worker() as worker:
        assert worker.outcome(path.read_bytes()).problem is None
    for target in targets.TARGETS.values():
        target.read(path.read_bytes())


@pytest.mark.slow
def test_mutated_recordings_give_valid_records():
    findings: list[decoders.Finding] = []
    seeds = decoders.seeds_of()
    with decoders.reading_worker() as worker:
        outcomes = list(decoders.run(seeds, range(300), 1, worker, findings.append))  # each file is used
    assert not findings
    assert {name for name, _, _ in outcomes} == set(seeds)
    assert [number for _, number, _ in outcomes] == list(range(300))
    results = {outcome.result for _, _, outcome in outcomes}
    assert results > {"speech", "not-audio", "too-short"}


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
