"""Classify mutated recordings and look for crashes, hangs, invalid records and damage without a warning.

`python tests/fuzz/decoders.py --inputs 1000000 --jobs 2` changes the files of the corpus at random
(`mutations`) and classifies each result in a worker process, which may die. It prints what happened
for each format, saves a small file for every finding, and exits with status 1 if there is one.

Every input is read three times: as a file, as a file object, and as a stream that can only be read
forward. The first two must give the same record. The rules that each record must follow are in
`problem_of`, those for the process in `_Reader`. If the record has no warning, FFmpeg decodes the
input by itself, and it may not complain either.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import pairwise, product
from pathlib import Path
from typing import IO

from forking import Forked
from mutations import mutated
from workers import LIMIT_BYTES, LIMIT_S, SILENT, Outcome, Worker, command_line, peak_bytes

from ms_edge.arrays import Float32
from ms_edge.audio import media
from ms_edge.audio.containers import CONTAINERS, START_BYTES, recognised
from ms_edge.classifier import Classifier
from ms_edge.errors import ERROR_CODES, AudioError
from ms_edge.model.session import Answers
from ms_edge.results import Classification, Failure

CORPUS = Path(__file__).parent / "corpus" / "audio"
LIMIT_CPU_S = 1.5  # processor time for one input; the slowest takes less than a second
# libsndfile prints such a line for damaged ALAC. The command line sends descriptor 1 to stderr.
KNOWN_PRINT = re.compile(rb"alac_pakt_read_decode .*")
WARNINGS = re.compile(r"[a-z]+(-[a-z]+)*")
# Container and coding where FFmpeg's word is not asked for.
UNREFERENCED = {
    # FFmpeg does not read these, or not in this container: it complains about whole files too.
    *(("wav", f"nms_adpcm_{rate}") for rate in (16, 24, 32)),
    *(("aiff", f"dwvw_{bits}") for bits in (12, 16, 24, "n")),
    # Nothing in these says whether what is within a frame or packet is sound, and libsndfile's decoders
    # decode it as it is (docs/robustness.md).
    *product(("mp3", "wav"), ("mp3", "mp2")),
    ("caf", "alac"),
    *product(("wav", "w64", "aiff"), ("adpcm_ms", "adpcm_ima_wav")),
    *product(("ogg",), ("vorbis", "opus")),  # a changed page has a wrong checksum, unless `mutations` restores it
}
# No loss of sound: FFmpeg looks at the pictures of a video and at other tracks, too (a changed byte in FLV makes a
# packet one of another track, in Nellymoser), and WAV may end with a part of a sample.
NO_LOSS = re.compile(r"^\[(mpeg4|nellymoser) @|Invalid PCM packet|Frame invalidly split")
DEMUXERS = {container.short: container.demuxer for container in CONTAINERS}


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
    by LIMIT_BYTES, and LIMIT_CPU_S is enough. FFmpeg decodes in forks of a process that has imported PyAV
    (`forking`). What differs or is silent there counts only if it is so in a new fork, too.
    """

    def __init__(self, classifier: Classifier, folder: str) -> None:
        self._classifier = classifier
        self._stem = os.path.join(folder, f"input-{os.getpid()}")
        # A file object is copied for FFmpeg. Its error for a size of exabytes depends on the file system.
        tempfile.tempdir = folder
        os.dup2(os.memfd_create("stdout"), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        media.subprocess.Popen = Forked  # type: ignore[misc, assignment]
        self._usual_bytes = 0
        self._answers: dict[bytes, Answers] = {}
        model = classifier.model
        self._run, model._answers = model._answers, self._answered  # type: ignore[method-assign]
        for name in ("wav_pcm_16.wav", "ogg_vorbis.ogg", "aac.m4a"):  # what is loaded at first use stays
            self.outcome((CORPUS / name).read_bytes(), Path(name).suffix)
        self._usual_bytes = Forked.peak_bytes

    def outcome(self, content: bytes, suffix: str) -> Outcome:
        """Return what became of one input. It is in a file whose name has this suffix."""
        self._path = self._stem + suffix
        Path(self._path).write_bytes(content)
        before, peak = _held(), peak_bytes()
        Forked.peak_bytes = 0
        began, cpu_s = time.monotonic(), time.process_time()
        try:
            result, kind, problem = self._judged(content)
            if problem and problem.partition(":")[0] in ("different", SILENT):  # not because decoders are reused
                Forked.fresh = True
                result, kind, problem = self._judged(content)
        finally:
            Forked.fresh = False
            Path(self._path).unlink()
        seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
        grown = max(peak_bytes() - peak, Forked.peak_bytes - self._usual_bytes)
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
        return Outcome(result, kind, problem, seconds, grown)

    def _judged(self, content: bytes) -> tuple[str, str, str | None]:
        """Read the input in all ways. Return the label or error code, its kind, and a problem."""
        self._answers.clear()
        try:
            first = self._classified(self._path)
            problem = problem_of(first, self._path) or self._otherwise(first, content)
            if isinstance(first, Failure):
                return first.code, "refused", problem
            if first.warnings:
                return first.label, "warned", problem
            return first.label, "classified", problem or self._unreported(first)
        except Exception as error:
            return "", "classified", f"exception: {type(error).__name__}: {error}"

    def _answered(self, inputs: Float32, windows: int) -> Answers:
        """Run the network, but not again for the samples that another way of reading has given."""
        key = inputs.tobytes()
        if key not in self._answers:
            self._answers[key] = self._run(inputs, windows)
        return self._answers[key]

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

    def _unreported(self, first: Classification) -> str | None:
        """Let FFmpeg decode a file whose record has no warning; return what it complains about."""
        record = first.record()
        if (record["container"], record["codec"]) in UNREFERENCED:
            return None
        # FFmpeg refuses a rate of AIFF that it would round up to a power of two (8191.9 Hz): a sum overflows.
        if record["container"] == "aiff" and (first.sample_rate_hz + 1).bit_count() == 1:
            return None
        said = complaints(self._path, DEMUXERS[str(record["container"])])
        return f"{SILENT}: {record['container']}, {record['codec']}: {said[:3]}" if said else None

    def _classified(self, source: str | IO[bytes]) -> Classification | Failure:
        try:
            return self._classifier.classify(source)
        except AudioError as error:
            return Failure(self._path, error.code, error.message)


def complaints(path: str, demuxer: str) -> list[str]:
    """Decode a file with FFmpeg alone, and return what it prints, as `ffmpeg -v error` does."""
    arguments = media.command(f"file:{path}", demuxer, 1, {"format_whitelist": demuxer})
    assert arguments
    decoder = Forked(arguments, pass_fds=())
    said: list[bytes] = []
    listener = threading.Thread(target=lambda: said.append(decoder.stderr.read()))
    listener.start()
    with contextlib.suppress(BrokenPipeError), decoder.stdin as choice:
        choice.write(media.SEPARATE)
    while decoder.stdout.read(media.BUFFER_BYTES):
        pass
    listener.join()
    decoder.wait()
    decoder.stdout.close()
    decoder.stderr.close()
    lines = said[0].decode("utf-8", "replace").splitlines()
    # The version and the codec begin with blanks.
    return [line for line in lines if line and not line.startswith("  ") and not NO_LOSS.search(line)]


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


def seeds_of(pattern: str = "*") -> dict[str, bytes]:
    """Return the files of the corpus whose names match."""
    return {path.name: path.read_bytes() for path in sorted(CORPUS.iterdir()) if fnmatch(path.name, pattern)}


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


if __name__ == "__main__":
    sys.exit(command_line(__doc__, seeds_of, mutated, reading_worker, None))
