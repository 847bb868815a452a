"""Compare two answers for one recording: the truth and what was found.

Both are frames of 10 ms, as in MIREX 2018 (music-ir.org/mirex/wiki/2018:Music_and/or_Speech_Detection):
for each class, whether it is present. All measures are made from these frames, so times are exact to
10 ms, and segments that touch or overlap are one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = ("speech", "music")
FRAME_S = 0.01
WITHIN_S = 2.0  # boundaries further apart do not match
TOLERANCE_S = 0.5  # of the start and the end of a segment, as in MIREX 2018

Frames = NDArray[np.bool_]  # (frames, classes): whether each class is present
Times = NDArray[np.floating[Any]]  # in seconds


def frames_of(parts: Iterable[tuple[float, float, str]], seconds: float) -> Frames:
    """Return the frames of a recording of that duration.

    `parts` are start and end in seconds and a label: classes joined by `+`. They may overlap, and
    other labels are neither class. The middle of a frame decides.
    """
    middles = frame_middles(seconds)
    found = np.zeros((len(middles), len(CLASSES)), bool)
    for start_s, end_s, label in parts:
        names = label.split("+")
        rows = slice(*np.searchsorted(middles, (start_s, end_s)))
        found[rows] |= np.array([name in names for name in CLASSES])
    return found


def frame_middles(seconds: float) -> Times:
    """Return the middle of each frame, (frames,), in seconds."""
    return (np.arange(round(seconds / FRAME_S)) + 0.5) * FRAME_S


def boundaries(frames: Frames) -> Times:
    """Return the times, (boundaries,), at which any of the classes begins or ends inside the recording."""
    return (np.flatnonzero((frames[1:] != frames[:-1]).any(axis=1)) + 1) * FRAME_S


def matched(true: Times, found: Times) -> tuple[Times, int, int]:
    """Match boundaries, both in order of time, that are at most `WITHIN_S` apart.

    The closest pairs match first, and no boundary matches twice. Return the distances of the pairs in
    seconds, and the numbers of true and of found boundaries that have no partner.
    """
    limit = WITHIN_S + FRAME_S / 2
    first, last = np.searchsorted(found, true - limit), np.searchsorted(found, true + limit, "right")
    rows = np.repeat(np.arange(len(true)), last - first)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(last - first) - last, last - first)
    distances = np.abs(true[rows] - found[columns])
    free_rows, free_columns = np.ones(len(true), bool), np.ones(len(found), bool)
    pairs = []
    for at in np.argsort(distances, kind="stable"):
        if free_rows[rows[at]] and free_columns[columns[at]]:
            free_rows[rows[at]] = free_columns[columns[at]] = False
            pairs.append(distances[at])
    return np.array(pairs, float), len(true) - len(pairs), len(found) - len(pairs)


def segments_of(present: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the first frame and the frame after the last, (segments, 2), of each run of frames with a class."""
    return np.flatnonzero(np.diff(present, prepend=False, append=False)).reshape(-1, 2)


def matched_segments(true: NDArray[np.intp], found: NDArray[np.intp], tolerance_s: float, ends: bool) -> int:
    """Return how many segments (n, 2) have a partner of their own: the most pairs that are possible.

    Two segments can be a pair if their starts differ by at most `tolerance_s` and, with `ends`, their
    ends too. Segments of one class do not overlap, so both lists are in order of their starts and of
    their ends; to take the first possible partner of each is then the best choice.
    """
    limit = round(tolerance_s / FRAME_S)
    pairs = at = 0
    for start, end in true.tolist():
        while at < len(found) and (found[at, 0] < start - limit or (ends and found[at, 1] < end - limit)):
            at += 1
        if at < len(found) and found[at, 0] <= start + limit and (not ends or found[at, 1] <= end + limit):
            pairs += 1
            at += 1
    return pairs


@dataclass(frozen=True)
class Counts:
    """What was counted for one class in one recording. Sums over recordings and classes are Counts too."""

    #: numbers of frames where the class is true and found, only found, only true, and neither
    right: int = 0
    false: int = 0
    missed: int = 0
    rest: int = 0
    #: numbers of segments in the truth and found
    true_segments: int = 0
    found_segments: int = 0
    #: numbers of segments that match by their starts, and by their starts and ends
    starts: int = 0
    wholes: int = 0
    #: distances of matched boundaries in seconds, and the numbers of boundaries without a partner
    distances_s: Times = field(default_factory=lambda: np.empty(0))
    missed_boundaries: int = 0
    false_boundaries: int = 0

    def __add__(self, other: Counts) -> Counts:
        sums: dict[str, Any] = {
            name: value + vars(other)[name] for name, value in vars(self).items() if name != "distances_s"
        }
        return Counts(**sums, distances_s=np.concatenate((self.distances_s, other.distances_s)))

    def measures(self) -> dict[str, Any]:
        """Return the measures, ready for JSON. A measure without anything to measure is None."""
        frames = self.right + self.false + self.missed + self.rest
        paired = len(self.distances_s)
        return {
            "seconds": round((self.right + self.missed) * FRAME_S, 2),
            "found_seconds": round((self.right + self.false) * FRAME_S, 2),
            "frames": {
                **_f1(self.right, self.right + self.missed, self.right + self.false),
                "accuracy": _share(self.right + self.rest, frames),
            },
            "segments": {
                "true": self.true_segments,
                "found": self.found_segments,
                "onset": _f1(self.starts, self.true_segments, self.found_segments),
                "onset_offset": _f1(self.wholes, self.true_segments, self.found_segments),
            },
            "boundaries": {
                "true": paired + self.missed_boundaries,
                "found": paired + self.false_boundaries,
                "median_s": round(float(np.median(self.distances_s)), 4) if paired else None,
                "mean_s": round(float(np.mean(self.distances_s)), 4) if paired else None,
                "missed": _share(self.missed_boundaries, paired + self.missed_boundaries),
                "false": _share(self.false_boundaries, paired + self.false_boundaries),
            },
        }


def _f1(both: int, true: int, found: int) -> dict[str, float | None]:
    return {"precision": _share(both, found), "recall": _share(both, true), "f1": _share(2 * both, true + found)}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def counted(
    true: NDArray[np.bool_], found: NDArray[np.bool_], tolerance_s: float = TOLERANCE_S, collar_s: float = 0.0
) -> Counts:
    """Return the counts of one class in one recording; `true` and `found` are its frames, (frames,).

    Frames within `collar_s` of the start or the end of a segment of the truth are not counted, as in
    NIST's evaluations (the collar of pyannote.metrics is both sides together, twice this). Segments
    and boundaries have no collar.
    """
    counts = ~_near(true, round(collar_s / FRAME_S))
    edges = [boundaries(frames[:, np.newaxis]) for frames in (true, found)]
    distances_s, missed, false = matched(*edges)
    segments = segments_of(true), segments_of(found)
    return Counts(
        right=int((true & found & counts).sum()),
        false=int((~true & found & counts).sum()),
        missed=int((true & ~found & counts).sum()),
        rest=int((~true & ~found & counts).sum()),
        true_segments=len(segments[0]),
        found_segments=len(segments[1]),
        starts=matched_segments(*segments, tolerance_s, ends=False),
        wholes=matched_segments(*segments, tolerance_s, ends=True),
        distances_s=distances_s,
        missed_boundaries=missed,
        false_boundaries=false,
    )


def _near(true: NDArray[np.bool_], collar: int) -> NDArray[np.bool_]:
    """Return which frames are less than `collar` frames from the start or the end of a segment."""
    found = np.zeros(len(true), bool)
    for edge in segments_of(true).ravel() if collar else ():
        found[max(0, edge - collar) : edge + collar] = True
    return found
