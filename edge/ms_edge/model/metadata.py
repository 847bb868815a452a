"""What a model file says of itself: bounded JSON into frozen dataclasses, field by field. Nothing in it is trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ms_edge.errors import ModelError
from ms_edge.features.spec import MIN_HOP_S, FrontEndSpec

SCHEMA_MAJOR = 1
SCHEMA = f"{SCHEMA_MAJOR}.0"
MAX_TEXT = 1 << 20
MAX_LABELS = 1000
MAX_LABEL = 100
# A test vector with room for any answer would prove nothing. The widest that ms-export gives are 5e-2 (scores of int8) and
# 1e-3 (features).
MAX_SCORE_TOLERANCE, MAX_FEATURE_TOLERANCE = 0.1, 0.01
RESERVED_LABELS = ("silence", "other", "uncertain", "error")  # what the runtime says itself
LABEL_RULE = (
    f"a name is printable, has no +, at most {MAX_LABEL} characters, and is none of {', '.join(RESERVED_LABELS)}"
)


def is_label(name: str) -> bool:
    """Whether a model may call a class so (LABEL_RULE)."""
    return 0 < len(name) <= MAX_LABEL and name.isprintable() and "+" not in name and name not in RESERVED_LABELS


@dataclass(frozen=True)
class Decision:
    """How scores become a label.

    `exclusive`: the largest score. `independent`: every label whose score is at least its threshold; none is `other`.
    """

    kind: str
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Golden:
    """A signal anyone can make, and what the model answered to it where it was exported.

    The signal is `seed`'s sequence of `golden_signal`, one clip long; `scores` are in label order.
    """

    seed: int
    feature_mean: tuple[float, ...]
    feature_max: tuple[float, ...]
    feature_tolerance: float
    scores: tuple[float, ...]
    score_tolerance: float


@dataclass(frozen=True)
class Metadata:
    """Everything a model file says of itself.

    `step_frames` is None where the graph answers windows: features (windows, *spec.feature_shape) -> scores (windows, labels).
    Otherwise it answers runs of windows that share their frames, one every `step_frames` frames: features (runs, frames, bins) ->
    scores (runs, windows, labels), with n windows in a run of frames of a clip + (n - 1) * step_frames.
    """

    spec: FrontEndSpec
    labels: tuple[str, ...]
    decision: Decision
    recipe: str
    license: str
    training: Mapping[str, Any]
    parity: Mapping[str, Any]
    golden: Golden
    step_frames: int | None = None

    @classmethod
    def parse(cls, entries: Mapping[str, str]) -> Metadata:
        """Read the `ms_edge.*` entries of a model. Raises ModelError for anything missing, lying or too large."""
        schema = _text(entries, "schema")
        if schema.partition(".")[0] != str(SCHEMA_MAJOR):
            raise ModelError(
                "bad-schema", f"The model's metadata has schema {schema[:20]!r}; this ms-edge reads {SCHEMA_MAJOR}.x."
            )
        spec = FrontEndSpec.from_json(_text(entries, "frontend"))
        if _text(entries, "frontend_sha256") != spec.digest:
            raise ModelError("bad-digest", "The model's front-end spec does not have the digest that the model states.")
        if spec.hop_s < MIN_HOP_S:
            raise ModelError("bad-spec", f"The model's hop_s must be {MIN_HOP_S} or more, not {spec.hop_s:g}.")
        labels = _json(entries, "labels")
        if not (
            isinstance(labels, list)
            and 2 <= len(labels) <= MAX_LABELS
            and all(isinstance(label, str) and label for label in labels)
        ):
            raise ModelError("bad-metadata", f"The model's labels must be a list of 2 to {MAX_LABELS} names.")
        for label in labels:
            if not is_label(label):
                raise ModelError(
                    "bad-metadata", f"The model's label {label[:MAX_LABEL]!r} is not usable: {LABEL_RULE}."
                )
        if len(set(labels)) != len(labels):
            raise ModelError("bad-metadata", "The model's labels must differ from one another.")
        return cls(
            spec=spec,
            labels=tuple(labels),
            decision=_decision(_object(entries, "decision"), len(labels)),
            recipe=_text(entries, "recipe"),
            license=_text(entries, "license"),
            training=_object(entries, "training"),
            parity=_object(entries, "parity"),
            golden=_golden(_object(entries, "golden"), len(labels), spec.bins),
            step_frames=_step_frames(_object(entries, "steps"), spec) if "ms_edge.steps" in entries else None,
        )


def _decision(value: Mapping[str, Any], labels: int) -> Decision:
    kind = value.get("kind")
    if kind not in ("exclusive", "independent"):
        raise ModelError(
            "bad-metadata", f"The model's decision must be 'exclusive' or 'independent', not {str(kind)[:40]!r}."
        )
    thresholds = _numbers(value, "thresholds", labels if kind == "independent" else 0)
    if not all(0 < threshold < 1 for threshold in thresholds):
        raise ModelError("bad-metadata", "The model's thresholds must lie between 0 and 1.")
    return Decision(kind, thresholds)


def _step_frames(value: Mapping[str, Any], spec: FrontEndSpec) -> int:
    frames, most = value.get("step_frames"), spec.frames(spec.clip_samples)
    if not isinstance(frames, int) or isinstance(frames, bool) or not 1 <= frames <= most:
        raise ModelError("bad-metadata", f"The model's step_frames must be 1 to {most}, the frames of a window.")
    if spec.layout != "frames_bins":
        raise ModelError("bad-metadata", "A model with step_frames must have features in the layout frames_bins.")
    return frames


def _golden(value: Mapping[str, Any], labels: int, bins: int) -> Golden:
    seed = value.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 32:
        raise ModelError("bad-metadata", "The model's golden seed must be a whole number of 32 bits.")
    feature_tolerance, score_tolerance = _numbers(
        {"tolerances": [value.get(f"{kind}_tolerance") for kind in ("feature", "score")]}, "tolerances", 2
    )
    if not (0 < feature_tolerance <= MAX_FEATURE_TOLERANCE and 0 < score_tolerance <= MAX_SCORE_TOLERANCE):
        raise ModelError(
            "bad-metadata",
            f"The model's golden tolerances must be over 0 and at most {MAX_FEATURE_TOLERANCE:g} for features and "
            f"{MAX_SCORE_TOLERANCE:g} for scores, not {feature_tolerance:g} and {score_tolerance:g}.",
        )
    scores = _numbers(value, "scores", labels)
    if not all(0 <= score <= 1 for score in scores):
        raise ModelError("bad-metadata", "The model's golden scores must lie between 0 and 1.")
    return Golden(
        seed=seed,
        feature_mean=_numbers(value, "feature_mean", bins),
        feature_max=_numbers(value, "feature_max", bins),
        feature_tolerance=feature_tolerance,
        scores=scores,
        score_tolerance=score_tolerance,
    )


def _numbers(value: Mapping[str, Any], key: str, count: int) -> tuple[float, ...]:
    numbers = value.get(key)
    if not (
        isinstance(numbers, list)
        and len(numbers) == count
        and all(
            isinstance(number, int | float)
            and not isinstance(number, bool)
            and abs(number) < 1e300  # or too long an int
            for number in numbers
        )
    ):
        raise ModelError("bad-metadata", f"The model's metadata must have {count} numbers as {key}.")
    return tuple(float(number) for number in numbers)


def _text(entries: Mapping[str, str], key: str) -> str:
    text = entries.get(f"ms_edge.{key}")
    if text is None:
        raise ModelError("no-metadata", f"The model has no entry ms_edge.{key}: it was not made by ms-export.")
    if len(text) > MAX_TEXT:
        raise ModelError(
            "bad-metadata",
            f"The model's entry ms_edge.{key} is {len(text):,} characters long; at most {MAX_TEXT:,} are read.",
        )
    return text


def _json(entries: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(_text(entries, key))
    except (ValueError, RecursionError):
        raise ModelError("bad-metadata", f"The model's entry ms_edge.{key} is not JSON.") from None


def _object(entries: Mapping[str, str], key: str) -> dict[str, Any]:
    value = _json(entries, key)
    if not isinstance(value, dict):
        raise ModelError("bad-metadata", f"The model's entry ms_edge.{key} must be a JSON object.")
    return value
