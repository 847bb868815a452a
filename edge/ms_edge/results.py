"""The result for one recording: a `Classification`, or a `Failure` with the reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ms_edge.errors import UsageError

SCHEMA = "ms-edge/1"
# What `Classification.warnings` may contain: code, and what is odd about the input.
WARNINGS = {
    "truncated": "ends too early: its last frame is incomplete, its header states more than there is, it cannot be "
    "decoded to its end, or a part of a joined file has another rate or number of channels. What is there is "
    "classified.",
    "damaged": "has holes: pages of an Ogg file were changed, frames are missing in the middle of a FLAC file (they "
    "are classified as silence), something that is no frame lies before or between the frames of an MP3 file, or "
    "FFmpeg reports errors in what it decodes.",
    "stream-header": "has a header (WAV, AIFF, Wave64 or FLAC) without a size, as a pipe or a killed recorder leaves "
    "it. It is read to its end.",
    "bad-header": "has a header that contradicts itself (WAV, AIFF, Wave64, CAF or ID3), a FLAC header that contradicts "
    "the frames, Ogg pages whose positions contradict one another, or bytes after the samples (or after the last MP3 "
    "frame) that belong to nothing.",
    "non-finite": "contains samples that are not numbers (NaN, infinity). They count as silence.",
    "out-of-range": "contains samples over +18 dB of full scale, for example 16-bit numbers stored as floats. Samples "
    "over 65,536 are clipped.",
}
LOST = "lost"  # label of what a live source lost, in records of `ms-edge monitor` only
OTHER_LABELS = ("other", "silence", "uncertain")  # that no model has


@dataclass(frozen=True)
class Segment:
    """One stretch of a recording and its label."""

    #: start, in seconds
    start_s: float
    #: end, in seconds
    end_s: float
    #: label of the segment
    label: str
    #: probability of that label
    probability: float
    #: mean probability of each label of the model, over the windows that are not silent
    scores: dict[str, float]
    #: level of the music relative to the speech, in dB (only where both are, of a model that measures it)
    music_to_speech_db: float | None = None
    #: interval that holds the true level in 90 % of cases, in dB
    music_to_speech_db_interval: tuple[float, float] | None = None

    def record(self) -> dict[str, Any]:
        """Return the segment as a dictionary, ready for JSON."""
        level: dict[str, Any] = {}
        if self.music_to_speech_db is not None and self.music_to_speech_db_interval is not None:
            level["music_to_speech_db"] = round(self.music_to_speech_db, 1)
            level["music_to_speech_db_interval"] = [round(end, 1) for end in self.music_to_speech_db_interval]
        return {
            "start_s": self.start_s,
            "end_s": self.end_s,
            "label": self.label,
            "probability": round(self.probability, 6),
            "scores": _rounded(self.scores),
            **level,
        }


@dataclass(frozen=True)
class Classification:
    """The label of one recording, and what it was computed from."""

    #: the input as given; `-` is standard input
    path: str
    #: label of the recording
    label: str
    #: probability of that label
    probability: float
    #: mean probability of each label of the model, over the windows that are not silent
    scores: dict[str, float]
    #: seconds of the recording for each label that occurs
    seconds: dict[str, float]
    #: duration of the recording, in seconds
    duration_s: float
    #: sample rate of the recording, in Hz
    sample_rate_hz: int
    #: channels of the recording
    channels: int
    #: segments, which cover the recording without gaps (in records only with `--timeline`)
    segments: tuple[Segment, ...]
    #: codes of what is odd about the input, empty if nothing is
    warnings: tuple[str, ...]
    #: size in bytes and time of change of the file, by which `--resume` recognises it; null if the input is no file
    file: dict[str, int | str] | None
    #: time at which the recording began, in ISO 8601, if its container states it; with `Z` if that is UTC, else local
    recorded_at: str | None
    #: settings that the result depends on; `thresholds` are those that were used
    settings: dict[str, Any]
    #: SHA-256 of the model file
    model: str
    #: execution provider of onnxruntime that ran the network
    provider: str
    #: what decoded the recording, `libsndfile` or `ffmpeg`; null for samples in memory
    decoder: str | None = None
    #: file format, for example `wav` or `mp4`; null for samples in memory
    container: str | None = None
    #: coding of the samples, with FFmpeg's name, for example `pcm_s16le` or `aac`; null if it is not known
    codec: str | None = None
    #: the channel that was classified, from 1 on (only with `--channels`); without it, the mean of all channels was
    channel: int | None = None

    def intervals(self, *keep: str, drop: str | Sequence[str] = (), pad_s: float = 0.0) -> list[tuple[float, float]]:
        """Return the parts of the recording that have some labels, each as its start and end in seconds.

        `keep` are labels. `speech` keeps every segment in which there is speech, so `speech+music`
        too; `speech+music` keeps only segments with both. `drop` returns instead what `keep` would
        leave out. Segments side by side are one part. Parts are extended by `pad_s` seconds at both
        ends, and those that then meet are joined.

        Raises UsageError for a label that the model does not know, unless either `keep` or `drop` is
        given, and if there are no segments.

        >>> import ms_edge
        >>> ms_edge.classify("tests/data/speech_french_woman.wav").intervals("speech")
        [(0.0, 6.0)]
        """
        dropped = (drop,) if isinstance(drop, str) else tuple(drop)
        wanted = keep or dropped
        self._require_intervals(keep, dropped, pad_s)
        found: list[tuple[float, float]] = []
        for part in self.segments:
            sounds = set(part.label.split("+"))
            if any(sounds.issuperset(label.split("+")) for label in wanted) == bool(keep):
                start_s, end_s = max(0.0, part.start_s - pad_s), min(self.duration_s, part.end_s + pad_s)
                if start_s >= end_s:  # in a record from elsewhere: after the end of the recording
                    continue
                if found and start_s <= found[-1][1]:
                    before = found.pop()
                    start_s, end_s = before[0], max(before[1], end_s)  # segments from elsewhere may overlap
                found.append((start_s, end_s))
        return found

    def _require_intervals(self, keep: Sequence[str], drop: Sequence[str], pad_s: float) -> None:
        """Raise UsageError if `intervals` cannot be computed from these arguments."""
        if bool(keep) == bool(drop):
            raise UsageError("Give labels to keep, or labels to drop.")
        if not (pad_s >= 0 and math.isfinite(pad_s)):
            raise UsageError(f"Parts can be extended by 0 seconds or more, not by {pad_s!r}.")
        known = [*self.scores, *OTHER_LABELS]
        for label in (*keep, *drop):
            if self.scores and not set(label.split("+")).issubset(known):
                raise UsageError(f"{self.path}: there is no label {label!r}; the labels are {', '.join(known)}.")
        if not self.segments:
            raise UsageError(f"{self.path}: its record has no segments; write records with classify --timeline.")

    def record(self, timeline: bool = False) -> dict[str, Any]:
        """Return the record of schema `ms-edge/1`, ready for JSON, with segments if `timeline` is set."""
        return {
            "schema": SCHEMA,
            "path": self.path,
            "label": self.label,
            "probability": round(self.probability, 6),
            "scores": _rounded(self.scores),
            "seconds": self.seconds,
            "duration_s": self.duration_s,
            "sample_rate_hz": self.sample_rate_hz,
            "channels": self.channels,
            **({} if self.channel is None else {"channel": self.channel}),
            "container": self.container,
            "codec": self.codec,
            "decoder": self.decoder,
            **({"segments": [segment.record() for segment in self.segments]} if timeline else {}),
            "warnings": list(self.warnings),
            "file": self.file,
            "recorded_at": self.recorded_at,
            "settings": self.settings,
            "model": self.model,
            "provider": self.provider,
        }


@dataclass(frozen=True)
class Failure:
    """The reason why a recording could not be classified: a stable code and a sentence."""

    path: str
    code: str
    message: str

    def record(self, timeline: bool = False) -> dict[str, Any]:
        """Return the record of schema `ms-edge/1`, ready for JSON."""
        return {"schema": SCHEMA, "path": self.path, "error": {"code": self.code, "message": self.message}}


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(score, 6) for name, score in scores.items()}
