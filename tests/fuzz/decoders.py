"""Classify mutated recordings and look for crashes, hangs and invalid records.

`python tests/fuzz/decoders.py --inputs 20000` changes the files of the corpus at random
(`mutations`) and classifies each result in a worker process, which may die. It prints what happened
for each format, saves a small file for every finding, and exits with status 1 if there is one.

Every input is read three times: as a file, as a file object, and as a stream that can only be read
forward. The first two must give the same record. The rules that each record must follow are in
`problem_of`, those for the process in `_Reader`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import pairwise
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, NoReturn

from forking import Forked
from mutations import mutated

from ms_edge.audio import media
from ms_edge.audio.containers import MEDIA, START_BYTES, recognised
from ms_edge.classifier import Classifier
from ms_edge.errors import ERROR_CODES, AudioError
from ms_edge.results import Classification, Failure

CORPUS = Path(__file__).parent / "corpus" / "audio"
LIMIT_S = 150.0  # wall time for one input, before its worker is ended; ms-edge waits for FFmpeg 60 s
LIMIT_CPU_S = 1.5  # processor time for one input; the slowest takes less than a second
LIMIT_BYTES = 256 << 20  # memory that one input may add to its worker
MINIMISE_S = 60.0  # time to make a finding smaller
# libsndfile prints such a line for damaged ALAC. The command line sends descriptor 1 to stderr.
KNOWN_PRINT = re.compile(rb"alac_pakt_read_decode .*")
WARNINGS = re.compile(r"[a-z]+(-[a-z]+)*")


@dataclass(frozen=True)
class Outcome:
    """What one input gave: a label or an error code, and what was wrong (None: nothing)."""

    result: str
    problem: str | None
    seconds: float
    grown_bytes: int


@dataclass
class Tally:
    """The outcomes of all inputs that were made from the files of one format."""

    results: Counter[str] = field(default_factory=Counter)
    problems: int = 0
    slowest_s: float = 0.0
    slowest: int = 0  # the number of the slowest input
    grown_bytes: int = 0

    def add(self, number: int, outcome: Outcome) -> None:
        self.results["refused" if outcome.result in ERROR_CODES else "classified"] += 1
        self.problems += outcome.problem is not None
        self.grown_bytes = max(self.grown_bytes, outcome.grown_bytes)
        if outcome.seconds > self.slowest_s:
            self.slowest_s, self.slowest = outcome.seconds, number


@dataclass(frozen=True)
class Finding:
    """An input that broke a rule, and the smallest file found that breaks it too."""

    number: int
    seed: str
    problem: str
    content: bytes


class Forward:
    """A file object that can only be read forward, as a pipe is."""

    def __init__(self, content: bytes, name: str) -> None:
        self._content = io.BytesIO(content)
        self.name = name

    def read(self, count: int = -1) -> bytes:
        return self._content.read(count)


def problem_of(result: Classification | Failure, path: str) -> str | None:
    """Return which rule a result breaks, or None.

    A record is JSON without NaN. A failure has a known code and one sentence that begins with the
    path. A classification has probabilities, and segments without gaps that cover the recording.
    """
    record = result.record()
    try:
        json.dumps(record, allow_nan=False)
    except ValueError:
        return "record: is not JSON"
    if isinstance(result, Failure):
        sentence = result.message.startswith(path) and result.message.endswith(".") and "\n" not in result.message
        return None if sentence and result.code in ERROR_CODES else f"message: {result.code}: {result.message!r}"
    scores = [result.probability, *result.scores.values()]
    if not all(math.isfinite(score) and 0 <= score <= 1 for score in scores):
        return f"scores: {scores}"
    parts = result.segments
    if not (parts and parts[0].start_s == 0 and parts[-1].end_s == result.duration_s):
        return "segments: do not cover the recording"
    if any(a.end_s != b.start_s for a, b in pairwise(parts)):
        return "segments: have gaps"
    if len(set(result.warnings)) < len(result.warnings) or not all(map(WARNINGS.fullmatch, result.warnings)):
        return f"warnings: {result.warnings}"
    return None


class _Reader:
    """Classifies inputs in a worker process, and checks what they do to the process.

    Nothing may be printed to descriptor 1. No descriptor, thread or child process may be left. Memory may grow
    by LIMIT_BYTES, and LIMIT_CPU_S is enough.
    """

    def __init__(self, classifier: Classifier, folder: str) -> None:
        self._classifier = classifier
        if media.pyav():
            media.subprocess.Popen = Forked  # type: ignore[misc, assignment]
        self._path = os.path.join(folder, f"input-{os.getpid()}")
        os.dup2(os.memfd_create("stdout"), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        for name in ("wav_pcm_16.wav", "ogg_vorbis.ogg", "aac.m4a"):  # what is loaded at first use stays
            self.outcome((CORPUS / name).read_bytes())

    def outcome(self, content: bytes) -> Outcome:
        """Return what became of one input."""
        Path(self._path).write_bytes(content)
        before, peak = _held(), _peak_bytes()
        began, cpu_s = time.monotonic(), time.process_time()
        result, problem = "", None
        try:
            first = self._classified(self._path)
            result = first.code if isinstance(first, Failure) else first.label
            problem = problem_of(first, self._path) or self._otherwise(first, content)
        except Exception as error:
            problem = f"exception: {type(error).__name__}: {error}"
        seconds, grown, cpu_s = time.monotonic() - began, _peak_bytes() - peak, time.process_time() - cpu_s
        if unexpected := [line for line in _printed() if not KNOWN_PRINT.fullmatch(line)]:
            problem = problem or f"printed: {unexpected[:3]}"
        for _ in range(100):  # a thread that has been joined takes a moment to disappear
            if (after := _held()) == before:
                break
            time.sleep(0.01)
        else:
            problem = problem or f"left: (descriptors, threads, children) are {after}, before {before}"
        if grown > LIMIT_BYTES:
            problem = problem or f"memory: {grown >> 20} MB for {len(content)} bytes"
        if cpu_s > LIMIT_CPU_S:
            problem = problem or f"slow: {cpu_s:.1f} s for {len(content)} bytes"
        return Outcome(result, problem, seconds, grown)

    def _otherwise(self, first: Classification | Failure, content: bytes) -> str | None:
        """Read the same bytes as a file object and as a stream; return what is wrong."""
        file = io.BytesIO(content)
        file.name = self._path  # type: ignore[attr-defined]
        second = self._classified(file)
        known = recognised(content[:START_BYTES])
        # FFmpeg's decoder of WMA uses memory that it has not written, and each fork has its own.
        if _without_file(first) != _without_file(second) and not (known and known.short == "asf"):
            return f"different: file {_without_file(first)}, file object {_without_file(second)}"
        return problem_of(self._classified(Forward(content, self._path)), self._path)  # type: ignore[arg-type]

    def _classified(self, source: str | IO[bytes]) -> Classification | Failure:
        try:
            return self._classifier.classify(source)
        except AudioError as error:
            return Failure(self._path, error.code, error.message)


def _without_file(result: Classification | Failure) -> dict[str, object]:
    return {key: value for key, value in result.record().items() if key != "file"}


def _printed() -> list[bytes]:
    """Return the lines that were printed to descriptor 1 since the last call."""
    size = os.fstat(1).st_size
    lines = os.pread(1, size, 0).splitlines()
    if size:
        os.ftruncate(1, 0)
        os.lseek(1, 0, os.SEEK_SET)
    return lines


def _held() -> tuple[int, int, int]:
    """Return how many descriptors, threads and child processes this process has."""
    children = []
    tasks = list(Path("/proc/self/task").iterdir())
    for task in tasks:
        with contextlib.suppress(OSError):  # the thread has just ended
            children += (task / "children").read_text().split()
    return len(os.listdir("/proc/self/fd")), len(tasks), len(children)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Worker:
    """A process that classifies inputs one after the other. It is started again if it dies."""

    def __init__(self, make: Callable[[], Callable[[bytes], Outcome]], limit_s: float = LIMIT_S) -> None:
        self._make, self._limit_s = make, limit_s
        self._process = 0
        self._pipe: Connection | None = None

    def outcome(self, content: bytes) -> Outcome:
        """Return what became of one input. A hang ends the worker."""
        began = time.monotonic()
        pipe = self._pipe or self._start()
        problem = f"hang: no answer within {self._limit_s:g} s"
        try:
            pipe.send_bytes(content)
            if pipe.poll(self._limit_s):
                outcome: Outcome = pipe.recv()
                return outcome
        except (EOFError, OSError):
            problem = ""
        how = self.end()
        return Outcome("died", problem or f"died: {how}", time.monotonic() - began, 0)

    def _start(self) -> Connection:
        self._pipe, theirs = Pipe()
        self._process = os.fork()
        if self._process == 0:
            self._pipe.close()
            self._serve(theirs)
        theirs.close()
        return self._pipe

    def _serve(self, pipe: Connection) -> NoReturn:
        status = 1
        try:
            outcome = self._make()
            with contextlib.suppress(EOFError):
                while True:
                    pipe.send(outcome(pipe.recv_bytes()))
            status = 0
        finally:
            os._exit(status)

    def end(self) -> str:
        """End the process and return how it ended."""
        if not self._pipe:
            return "not started"
        self._pipe.close()
        self._pipe = None
        # A process that has died keeps its own status; one that hangs gets this signal.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        return f"signal {-status}" if status < 0 else f"status {status}"


def minimised(worker: Worker, content: bytes, problem: str, seconds: float = MINIMISE_S) -> bytes:
    """Return a smaller input with the same kind of problem: blocks are deleted while it stays."""
    kind = problem.partition(":")[0]
    until = time.monotonic() + seconds

    def stays(tried: bytes) -> bool:
        return (worker.outcome(tried).problem or "").partition(":")[0] == kind

    count = len(content) // 2
    while count and time.monotonic() < until:
        at = 0
        while at < len(content) and time.monotonic() < until:
            tried = content[:at] + content[at + count :]
            if tried and stays(tried):
                content = tried
            else:
                at += count
        count //= 2
    return content


def run(
    seeds: dict[str, bytes], numbers: range, seed: int, worker: Worker, on_finding: Callable[[Finding], None]
) -> Iterator[tuple[str, int, Outcome]]:
    """Yield the name of the changed file, the number and the outcome of each input.

    Each kind of problem of a file is reported once, with its smallest input.
    """
    names, contents = list(seeds), list(seeds.values())
    known: set[tuple[str, str]] = set()
    for number in numbers:
        name = names[number % len(names)]
        content = mutated(contents, number, seed)
        outcome = worker.outcome(content)
        if outcome.problem and (kind := (name, outcome.problem.partition(":")[0])) not in known:
            known.add(kind)
            on_finding(Finding(number, name, outcome.problem, minimised(worker, content, outcome.problem)))
        yield name, number, outcome


def seeds_of(pattern: str = "*", *, only_ffmpeg: bool = False) -> dict[str, bytes]:
    """Return the files of the corpus whose names match, or of these the ones that FFmpeg reads."""
    found = {path.name: path.read_bytes() for path in sorted(CORPUS.iterdir()) if fnmatch(path.name, pattern)}
    return {name: content for name, content in found.items() if not only_ffmpeg or recognised(content, MEDIA)}


@contextlib.contextmanager
def reading_worker(limit_s: float = LIMIT_S) -> Iterator[Worker]:
    """Return a worker with the bundled model."""
    classifier = Classifier()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        worker = Worker(lambda: _Reader(classifier, folder).outcome, limit_s)
        try:
            yield worker
        finally:
            worker.end()


def report(tallies: dict[str, Tally]) -> str:
    """Return a table with a row for each format."""
    rows = [("format", "inputs", "classified", "refused", "findings", "slowest ms (input)", "memory MB")]
    for suffix, tally in sorted(tallies.items()):
        rows.append(
            (
                suffix,
                f"{tally.results.total():,}",
                f"{tally.results['classified']:,}",
                f"{tally.results['refused']:,}",
                str(tally.problems),
                f"{1000 * tally.slowest_s:.0f} ({tally.slowest})",
                str(tally.grown_bytes >> 20),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=300, help="how many inputs (default: 300)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="another number gives other inputs (default: 0)")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="use the files of the corpus with these names")
    parser.add_argument("--save", type=Path, default=Path("build/fuzz"), metavar="DIR", help="where findings are saved")
    parser.add_argument("--ffmpeg", action="store_true", help="use only the files that FFmpeg reads")
    options = parser.parse_args(arguments)
    tallies: dict[str, Tally] = {}
    findings: list[Finding] = []

    def save(finding: Finding) -> None:
        findings.append(finding)
        options.save.mkdir(parents=True, exist_ok=True)
        kind = finding.problem.partition(":")[0]
        path = options.save / f"{kind}-{options.seed}-{finding.number}-{finding.seed}"
        path.write_bytes(finding.content)
        print(f"{path}: {finding.problem[:600]}", flush=True)

    began = time.monotonic()
    with reading_worker() as worker:
        seeds = seeds_of(options.only, only_ffmpeg=options.ffmpeg)
        numbers = range(options.first, options.first + options.inputs)
        for name, number, outcome in run(seeds, numbers, options.seed, worker, save):
            tallies.setdefault(Path(name).suffix, Tally()).add(number, outcome)
    print(report(tallies))
    print(f"{options.inputs:,} inputs in {time.monotonic() - began:.0f} s, {len(findings)} kinds of findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
