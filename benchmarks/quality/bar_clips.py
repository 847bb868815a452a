"""Make the clips in rooms and in noise for `benchmarks.quality.bars`. They are cut from `val`, on
which nothing was trained.

*Rooms*: the simulated rooms `test` (see `ms_train.augment.rooms`), which are never used for
choices. For each position in each room there is one clip of speech and one of music, of 1 s and of
5 s. The recording is put into the room before the clip is cut. *Noise*: 100 clips of speech of each
length, each with white and with pink noise 25, 15 and 8 dB below its RMS.

Clips are drawn like those of `benchmarks.quality.validation_set`, from each source in turn, but
with another seed.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np

from benchmarks.quality import conditions
from benchmarks.quality.testsets import RATE_HZ
from benchmarks.quality.validation_set import (
    LISTING,
    Clip,
    Cut,
    _clip,
    clips_in,
    cuts_of,
    in_turn,
    part_of,
    source_of,
    write_clips,
    write_listing,
)
from ms_edge.arrays import Float32
from ms_train.augment import rooms as simulated
from ms_train.augment.rooms import Room
from ms_train.datasets.cache import default_folder
from ms_train.datasets.dataset import Recording
from ms_train.errors import DataError

SECONDS = (5, 1)
PER_SOURCE = 40
NOISY = 100
COLOURS, SNRS_DB = ("white", "pink"), (25, 15, 8)


def build(corpus: Path, out: Path) -> list[Clip]:
    """Write the clips to `out`, or read them if they are there. Raises MsEdgeError if audio is
    missing.
    """
    if not (out / LISTING).exists():
        write(out, part_of(corpus, "val"), simulated.load("test", RATE_HZ, default_folder()))
    return clips_in(out)


def write(out: Path, recordings: Sequence[Recording], rooms: Sequence[Room]) -> None:
    """Write the clips to `out`. Raises DataError(`bad-data`) if a label has no clips."""
    write_listing(out, write_clips(out, _all(recordings, rooms)))


def _all(recordings: Sequence[Recording], rooms: Sequence[Room]) -> Iterator[tuple[Clip, Float32]]:
    for seconds in SECONDS:
        for label in ("speech", "music"):
            cuts = _cuts(recordings, label, seconds)
            endless = cycle(cuts)
            for number, room in enumerate(rooms):
                for place, response in enumerate(room.responses):
                    cut = next(endless)
                    clip = _clip(f"room {number:02} {room.kind}, place {place}", cut)
                    yield clip, conditions.in_room(cut.audio, cut.start, cut.length, response)
            for cut in cuts[:NOISY] if label == "speech" else ():
                for colour in COLOURS:
                    for snr_db in SNRS_DB:
                        clip = _clip(f"{colour} noise {snr_db} dB", cut)
                        rng = np.random.default_rng(zlib.crc32(clip.file.encode()))
                        yield clip, conditions.noisy(cut.samples, colour, snr_db, rng)


def _cuts(recordings: Sequence[Recording], label: str, seconds: int) -> list[Cut]:
    """Return clips of a label, from each source in turn. Raises DataError(`bad-data`) if there are
    none.
    """
    sources: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        if recording.label == label:
            sources[source_of(recording)].append(recording)
    found = in_turn(
        [
            [replace(cut, source=source) for cut in cuts_of(f"bars {source}", members, seconds, PER_SOURCE)]
            for source, members in sorted(sources.items())
        ]
    )
    if not found:
        raise DataError("bad-data", f"val: has no {label} of {seconds} s to put into rooms.")
    return found
