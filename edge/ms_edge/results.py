"""The result for one recording: a `Classification`, or a `Failure` with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCHEMA = "ms-edge/1"


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording with one label.

    `scores` are the mean probabilities of the model's labels, `probability` that of `label`.
    """

    start_s: float
    end_s: float
    label: str
    probability: float
    scores: dict[str, float]

    def record(self) -> dict[str, Any]:
        """Return the segment as a dictionary, ready for JSON."""
        return {
            "start_s": self.start_s,
            "end_s": self.end_s,
            "label": self.label,
            "probability": round(self.probability, 6),
            "scores": _rounded(self.scores),
        }


@dataclass(frozen=True)
class Classification:
    """The answer for one recording.

    `scores` are the mean probabilities of the model's labels over the windows that are not silent.
    `segments` cover the recording without gaps; `seconds` maps each label to its total duration.
    `file` identifies the file that was read by its size and its time of change; it is None for other
    sources. `settings` holds everything except the model that the answer depends on. `model` is the
    SHA-256 of the model file, and `provider` the onnxruntime provider that ran it.
    """

    path: str
    label: str
    probability: float
    scores: dict[str, float]
    seconds: dict[str, float]
    duration_s: float
    sample_rate_hz: int
    channels: int
    segments: tuple[Segment, ...]
    warnings: tuple[str, ...]
    file: dict[str, int | str] | None
    settings: dict[str, Any]
    model: str
    provider: str

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
            **({"segments": [segment.record() for segment in self.segments]} if timeline else {}),
            "warnings": list(self.warnings),
            "file": self.file,
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
