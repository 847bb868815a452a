"""The level of the music under speech in the course of a recording, and the places where it is too high.

WCAG 2.2, success criterion 1.4.7, wants background sounds to be at least 20 dB below speech, except
occasional ones of a second or two. The level at a time is that of the windows within 1.5 s of it: EBU
R 128 measures short-term loudness over 3 s as well.

Segments of speech are looked at too, because music 15 dB below speech is often too quiet for the
label. There the level counts only where its interval does not reach the bottom of the range, which
means no music. Segments of music are looked at because loud music hides speech from the label. There
the level counts only where its interval ends ALONE_DB below the top of the range. Of the time of
recordings of `val`, 5 % of those of speech alone and 4 % of those of music alone are reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.audio.raw import RawFormat
from ms_edge.classifier import Classifier, WindowScores
from ms_edge.errors import ModelError
from ms_edge.features.spec import FrontEndSpec
from ms_edge.model.levels import Level, LevelScale
from ms_edge.results import Segment

ALONE_DB = 7.0  # where the interval of the level ends further below the top of the range, there must be speech
AROUND_S = 1.5  # windows at most so far from a time say what the level is then

Stretch = tuple[float, float, NDArray[np.intp]]  # start and end in seconds, and the numbers of the windows inside


@dataclass(frozen=True)
class Place:
    """A stretch of a recording, in seconds, and the level of the music relative to the speech in it."""

    start_s: float
    end_s: float
    level: Level

    def record(self) -> dict[str, Any]:
        """Return the place as a dictionary, ready for JSON."""
        return {
            "start_s": self.start_s,
            "end_s": self.end_s,
            "music_to_speech_db": round(self.level.db, 1),
            "music_to_speech_db_interval": [round(end, 1) for end in self.level.interval_db],
        }


def require_levels(classifier: Classifier) -> LevelScale:
    """Return how the model's levels are combined. Raises ModelError(`no-level`) if it gives none."""
    scale = classifier.model.metadata.level
    if scale is None:
        raise ModelError(
            "no-level",
            f"{classifier.model.path}: does not measure the level of music under speech; give --model music-speech-level.",
        )
    return scale


def loud_music(
    classifier: Classifier,
    path: str,
    max_db: float,
    shortest_s: float,
    *,
    channel: int | None = None,
    raw: RawFormat | str | None = None,
    on_audio: Callable[[float], None] | None = None,
) -> list[Place]:
    """Return the places where the music is more than `max_db` louder than the speech, in order.

    Places that touch at a border of segments are one. Places of less than `shortest_s` seconds are
    left out. Raises AudioError as `Classifier.classify` does, and ModelError(`no-level`).
    """
    scale = require_levels(classifier)
    found, windows = classifier.analyse(path, channel=channel, raw=raw, on_audio=on_audio)
    places: list[Place] = []
    for start_s, end_s, inside in _joined(_stretches(found.segments, windows, classifier.spec, scale, max_db)):
        duration_s = round(end_s - start_s, 3)
        if windows.levels is not None and duration_s >= shortest_s:
            level = scale.combined(windows.levels[inside], duration_s / classifier.spec.clip_s)
            places.append(Place(start_s, end_s, level))
    return places


def _stretches(
    segments: Sequence[Segment], windows: WindowScores, spec: FrontEndSpec, scale: LevelScale, max_db: float
) -> Iterator[Stretch]:
    """Yield the stretches of each segment in which the music is too loud, in order."""
    for part in segments:
        names = part.label.split("+")
        inside, times_s = _inside(part, windows, spec)
        if windows.levels is None or not len(inside) or not {"speech", "music"}.intersection(names):
            continue
        levels = _short_term(times_s, windows.levels[inside], spec, scale)
        # Where the label names one sound, the level must show that there is the other, too.
        least_db = -math.inf if "music" in names else scale.range_db[0]
        most_db = math.inf if "speech" in names else scale.range_db[1] - ALONE_DB
        ends_db = np.array([each.interval_db for each in levels])
        loud = np.array([each.db > max_db for each in levels]) & (ends_db[:, 0] > least_db) & (ends_db[:, 1] < most_db)
        edges_s = np.concatenate(([part.start_s], (times_s[1:] + times_s[:-1]) / 2, [part.end_s]))
        for first, last in _runs(loud):
            yield round(float(edges_s[first]), 3), round(float(edges_s[last]), 3), inside[first:last]


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Return stretches, which are in order, with those that touch at a border of segments as one."""
    found: list[Stretch] = []
    for start_s, end_s, inside in stretches:
        if found and found[-1][1] == start_s:
            start_s, _, before = found.pop()
            inside = np.concatenate((before, inside))
        found.append((start_s, end_s, inside))
    return found


def curve(
    segments: Sequence[Segment], windows: WindowScores, spec: FrontEndSpec, scale: LevelScale
) -> NDArray[np.float64]:
    """Return the level at each window (windows,) in dB, NaN outside of the segments that state one."""
    found = np.full(len(windows.starts), np.nan)
    for part in segments:
        inside, times_s = _inside(part, windows, spec)
        if windows.levels is not None and part.music_to_speech_db is not None and len(inside):
            found[inside] = [each.db for each in _short_term(times_s, windows.levels[inside], spec, scale)]
    return found


def _short_term(times_s: NDArray[np.float64], levels: Float32, spec: FrontEndSpec, scale: LevelScale) -> list[Level]:
    """Return the level at each of n windows, from those within AROUND_S of it; `times_s` (n,) are
    their middles, and `levels` (n, 2) what the network gave for them.
    """
    near = np.searchsorted(times_s, [times_s - AROUND_S, times_s + AROUND_S], "right").T
    return [
        scale.combined(levels[first:last], (times_s[last - 1] - times_s[first] + spec.hop_s) / spec.clip_s)
        for first, last in near
    ]


def _inside(part: Segment, windows: WindowScores, spec: FrontEndSpec) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the numbers of the windows of a segment that are not silent, and their middles in seconds."""
    centres_s = (windows.starts + spec.clip_samples / 2) / spec.sample_rate_hz
    inside = np.flatnonzero((centres_s >= part.start_s) & (centres_s < part.end_s) & ~windows.silent)
    return inside, centres_s[inside]


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and the last index, exclusive, of each run of true flags (n,)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
