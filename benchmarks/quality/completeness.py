"""Prove that ms-edge reads sound files completely, or says that something is missing.

    python -m benchmarks.quality.completeness -o build/completeness --to docs/benchmarks/completeness.json

`completeness_files` writes one recording in every format with every encoder of this machine.
`completeness_counts` counts the frames of each file without code of ms-edge. A whole file must give
that number of frames and no warning. Then each file is cut: within its header, around its end,
around the frames after which it would be a whole file again, and at random places. If samples of the
whole file are missing or different, the cut file must give a warning or an error. The only exception
is a place before which nothing states a length or an end (`Count.ends`).

The JSON file has one row for each container and codec; `docs/refresh.py` makes the table in
docs/robustness.md from it. On one core this takes about an hour. The exit status is 1 if a file
was not read as it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.completeness_counts import Count, count
from benchmarks.quality.completeness_files import Sound, versions, write_all
from ms_edge import Classifier
from ms_edge.audio.file import open_audio
from ms_edge.errors import AudioError, MsEdgeError

CUTS = 30  # for each file, at least
CONTAINER_CUTS = 1_000  # for the files of each container together, at least
HEADER_BYTES = 400
LISTED = 20  # failures of a row that the results list
NO_LENGTH = "stream-header"  # the warning for files that state no length


@dataclass(frozen=True)
class Answer:
    """What ms-edge returns for a file: an error code, or frames, rate, a checksum of the samples and
    warnings.
    """

    error: str | None = None
    frames: int = 0
    rate_hz: int = 0
    checksum: int = 0
    warnings: tuple[str, ...] = ()


@dataclass
class Found:
    """The result for one file.

    `whole`: what is wrong with the answer for the whole file. `answers`: how many cuts were answered
    in which way. `unreported`: the sizes in bytes of cut files whose loss was not reported.
    """

    sound: Sound
    method: str
    decoder: str
    whole: list[str]
    answers: Counter[str] = field(default_factory=Counter)
    unreported: list[int] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Everything that is wrong, in words."""
        return [*self.whole, *(f"cut to {size:,} bytes: loss without a warning" for size in self.unreported)]


def main() -> int:
    """Write the files, cut them and write the JSON file. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.completeness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the sound files")
    parser.add_argument("--to", type=Path, help="the JSON file to write")
    parser.add_argument(
        "--cuts", type=int, default=CONTAINER_CUTS, help=f"cuts of each container (default: {CONTAINER_CUTS})"
    )
    parser.add_argument("--only", nargs="+", metavar="CONTAINER", help="only these containers, such as WAV")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--without-pyav", action="store_true", help="decode with the program ffmpeg")
    args = parser.parse_args()
    began = time.monotonic()
    sounds = list(write_all(args.out.resolve(), containers=args.only or ()))
    found = []
    files = Counter(sound.container for sound in sounds)
    cuts = {container: max(CUTS, -(-args.cuts // number)) for container, number in files.items()}
    for each in measure(sounds, cuts, args.jobs, args.without_pyav):
        found.append(each)
        for wrong in each.wrong[:LISTED]:
            print(f"{each.sound.path.name} ({each.sound.container}, {each.sound.codec}): {wrong}", flush=True)
    totals = sum((each.answers for each in found), Counter[str]())
    print(f"{len(found)} files, {totals.total()} cuts: {dict(totals)}")
    result = {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": round(time.monotonic() - began),
        "writers": versions(),
        "rows": rows(found),
    }
    if args.to:
        args.to.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return int(any(each.wrong for each in found))


def measure(
    sounds: Sequence[Sound], cuts: Mapping[str, int], jobs: int = 1, without_pyav: bool = False
) -> Iterator[Found]:
    """Yield the result for each file. `cuts`: how many each file of a container has, at least."""
    each = [cuts[sound.container] for sound in sounds]
    if jobs == 1 and not without_pyav:
        yield from map(examine, sounds, each)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), _hide_pyav if without_pyav else None) as pool:
        yield from pool.map(examine, sounds, each)


def _hide_pyav() -> None:
    sys.modules["av"] = None  # type: ignore[assignment]


def examine(sound: Sound, cuts: int) -> Found:
    """Compare a file with its independent count, then cut it at many places."""
    expected = count(sound)
    intact = answer(sound.path)
    found = Found(sound, expected.method, _decoder(sound.path, intact), _compared(sound, expected, intact))
    if intact.error:
        return found
    data = sound.path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder) / sound.path.name
        for place in places(data, expected, cuts):
            short.write_bytes(data[:place])
            verdict = judged(answer(short), intact, place in expected.ends)
            found.answers[verdict] += 1
            if verdict == "unreported":
                found.unreported.append(place)
    return found


def _compared(sound: Sound, expected: Count, intact: Answer) -> list[str]:
    """Return what is wrong with the answer for a whole file."""
    if intact.error:
        return [f"error `{intact.error}`"]
    wrong = []
    # A decoder may have another rate than the recording (Opus has 48 kHz); then frames are rounded.
    rate_hz = intact.rate_hz if expected.own_rate else sound.rate_hz
    frames = Fraction(intact.frames * rate_hz, intact.rate_hz)
    rounding = 0 if intact.rate_hz == rate_hz else 1
    if not expected.least - rounding <= frames <= expected.most + rounding:
        wrong.append(
            f"{float(frames):g} frames, expected {expected.least} to {expected.most} "
            f"({expected.method}; {sound.frames} were written)"
        )
    unstated = {NO_LENGTH} if "(pipe)" in sound.codec else set()
    if set(intact.warnings) - unstated:
        wrong.append(f"warned of: {', '.join(intact.warnings)}")
    return wrong


def places(data: bytes, expected: Count, cuts: int) -> list[int]:
    """Return the sizes in bytes to which a file is cut, at least `cuts` of them if it is long enough."""
    size, random = len(data), np.random.default_rng(zlib.crc32(data))
    ends = sorted(expected.ends)
    near = [end + off for end in ends for off in (-1, 0, 1)]
    last = [size - back for back in (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 33, 64, 100, 128, 129, 188, 500, 1000, 2000)]
    pools = [list(range(1, min(HEADER_BYTES, size))), last, near, list(range(1, size))]
    pools = [pool for pool in pools if pool]
    found: set[int] = set()
    for pool in pools:
        found |= set(random.permutation(pool)[: cuts // len(pools)].tolist())
    found = {place for place in {*found, *last[:3]} if 0 < place < size}
    others = [place for place in range(1, size) if place not in found]
    return sorted(found | set(random.permutation(others)[: max(0, cuts - len(found))].tolist()))


def answer(path: Path) -> Answer:
    """Decode a file as ms-edge does before it classifies it."""
    checksum = 0
    try:
        with open_audio(path) as audio:
            for block in audio.blocks(audio.sample_rate_hz):
                checksum = zlib.crc32(np.ascontiguousarray(block).tobytes(), checksum)
            if not audio.frames:
                return Answer(error="no-samples")
            return Answer(None, audio.frames, audio.sample_rate_hz, checksum, tuple(audio.warnings))
    except AudioError as error:
        return Answer(error=error.code)


def judged(cut: Answer, intact: Answer, whole_again: bool) -> str:
    """Return how the loss in a cut file was reported.

    `whole_again`: nothing in the cut file shows that it was longer.
    """
    if cut.error:
        return "error"
    if cut.warnings:
        return "warned"
    if (cut.frames, cut.checksum) == (intact.frames, intact.checksum):
        return "no loss"
    return "not detectable" if whole_again else "unreported"


def _decoder(path: Path, intact: Answer) -> str:
    """Return the name of the decoder in the record of a file, whose duration must be the one
    decoded.
    """
    if intact.error:
        return "-"
    try:
        record = _classifier().classify(str(path)).record()
    except MsEdgeError as error:
        return f"error: {error}"
    if abs(record["duration_s"] - intact.frames / intact.rate_hz) > 0.001:  # records have milliseconds
        raise RuntimeError(f"{path}: the record states {record['duration_s']} s, but {intact.frames} were decoded")
    return str(record.get("decoder") or "libsndfile")


_classifiers: list[Classifier] = []


def _classifier() -> Classifier:
    if not _classifiers:
        _classifiers.append(Classifier(device="cpu"))
    return _classifiers[0]


def rows(found: Iterable[Found]) -> list[dict[str, Any]]:
    """Return the results by container and codec."""
    groups: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for each in found:
        groups[each.sound.container, each.sound.codec].append(each)
    containers = list(dict.fromkeys(container for container, _ in groups))
    return [
        {
            "container": container,
            "codec": codec,
            "writers": sorted({each.sound.writer for each in group}),
            "decoders": sorted({each.decoder for each in group}),
            "counted_by": sorted({each.method for each in group}),
            "files": len(group),
            "whole_wrong": sum(bool(each.whole) for each in group),
            "cuts": sum(each.answers.total() for each in group),
            **dict(sorted(sum((each.answers for each in group), Counter[str]()).items())),
            "wrong": [f"{each.sound.writer}: {wrong}" for each in group for wrong in each.wrong][:LISTED],
        }
        for (container, codec), group in sorted(groups.items(), key=lambda item: containers.index(item[0][0]))
    ]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
