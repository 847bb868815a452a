"""The one result shape: what was found in a recording, or why nothing could be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCHEMA = "ms-edge/1"


@dataclass(frozen=True)
class Segment:
    """What one stretch of a recording is; `scores` are the mean probabilities of the model's labels in it."""

    start_s: float
    end_s: float
    label: str
    probability: float
    scores: dict[str, float]

    def record(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "start_s": self.start_s,
            "end_s": self.end_s,
            "label": self.label,
            "probability": round(self.probability, 6),
            "scores": _rounded(self.scores),
        }


@dataclass(frozen=True)
class Classification:
    """What one recording is.

    `scores` are the mean probabilities of the model's labels over the windows that are not silent; `segments` cover the
    recording without gaps, and `seconds` says how much of it they give to which label. `file` tells the bytes that were
    read (size, time of change), where it is a file. `settings` is what the answer depends on beside the model, whose file
    has the SHA-256 `model`; `provider` is what it ran on.
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
        """The record of schema `ms-edge/1`, ready for JSON, with or without its segments."""
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
    """Why one recording could not be classified: a stable code and a sentence."""

    path: str
    code: str
    message: str

    def record(self, timeline: bool = False) -> dict[str, Any]:
        """The record of schema `ms-edge/1`, ready for JSON."""
        return {"schema": SCHEMA, "path": self.path, "error": {"code": self.code, "message": self.message}}


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(score, 6) for name, score in scores.items()}
