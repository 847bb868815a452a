"""The one result shape: what was found in a file, or why nothing could be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = "ms-edge/1"


@dataclass(frozen=True)
class Classification:
    """What one recording is.

    `scores` are the mean probabilities of the model's labels over the windows that are not silent; `seconds` says how
    much of the recording carries which label, and sums to `duration_s`. `model` is the SHA-256 of the model file,
    `provider` what it ran on.
    """

    path: str
    label: str
    probability: float
    scores: dict[str, float]
    seconds: dict[str, float]
    duration_s: float
    sample_rate_hz: int
    channels: int
    warnings: tuple[str, ...]
    model: str
    provider: str

    def record(self) -> dict[str, Any]:
        """The record of schema `ms-edge/1`, ready for JSON."""
        return {"schema": SCHEMA, **asdict(self), "warnings": list(self.warnings)}


@dataclass(frozen=True)
class Failure:
    """Why one recording could not be classified: a stable code and a sentence."""

    path: str
    code: str
    message: str

    def record(self) -> dict[str, Any]:
        """The record of schema `ms-edge/1`, ready for JSON."""
        return {"schema": SCHEMA, "path": self.path, "error": {"code": self.code, "message": self.message}}
