"""Parse the metadata of a model file into frozen dataclasses.

The metadata is not trusted: the size of the JSON is limited, and every field is checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ms_edge.errors import ModelError
from ms_edge.features.spec import MIN_HOP_S, FrontEndSpec

if TYPE_CHECKING:
    from ms_edge.model.levels import LevelScale

SCHEMA_MAJOR = 1
SCHEMA = f"{SCHEMA_MAJOR}.0"
MAX_TEXT = 1 << 20
MAX_LABELS = 1000
MAX_LABEL = 100
# A golden vector whose tolerances allow any result would prove nothing. The widest tolerances that
# ms-export writes are 5e-2 (scores of int8) and 1e-3 (features).
MAX_SCORE_TOLERANCE, MAX_FEATURE_TOLERANCE, MAX_LEVEL_TOLERANCE = 0.1, 0.01, 1.0
MAX_LEVEL_DB = 100.0
RESERVED_LABELS = ("silence", "other", "uncertain", "error")  # labels that the runtime itself gives
LABEL_RULE = (
    f"a label must be printable, without +, at most {MAX_LABEL} characters, and none of {', '.join(RESERVED_LABELS)}"
)


def is_label(name: str) -> bool:
    """Return whether a model may have this label (LABEL_RULE)."""
    return 0 < len(name) <= MAX_LABEL and name.isprintable() and "+" not in name and name not in RESERVED_LABELS


@dataclass(frozen=True)
class Decision:
    """How the scores of a window become a label.

    With the kind `exclusive`, the label with the largest score. With `independent`, every label
    whose score is at least its threshold, or `other` if there is none. `thresholds` are in the
    order of the labels, empty for `exclusive`.
    """

    kind: str
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Golden:
    """The results of the model for a reproducible signal, as computed during the export.

    The signal is one clip of `golden_signal(seed)`. `feature_mean` and `feature_max` (bins,) are
    taken over its frames; `scores` are in the order of the labels. `level` are the level of the
    music and its deviation, empty if the model has no such output. Each tolerance is the largest
    allowed absolute difference.
    """

    seed: int
    feature_mean: tuple[float, ...]
    feature_max: tuple[float, ...]
    feature_tolerance: float
    scores: tuple[float, ...]
    score_tolerance: float
    level: tuple[float, ...] = ()
    level_tolerance: float = 0.0


@dataclass(frozen=True)
class Metadata:
    """The metadata of a model file.

    `step_frames` is None if the graph takes single windows: features (windows,
    *spec.feature_shape), or waveforms, to scores (windows, labels). Otherwise the graph takes runs
    of overlapping windows, one every `step_frames` frames: features (runs, frames, bins) to scores
    (runs, windows, labels). A run of n windows has spec.frames(spec.clip_samples) + (n - 1) *
    step_frames frames.

    `level` is None if the graph has only the output `scores`. Otherwise it has a second one,
    `level`, of the same shape with 2 in place of labels: for each window the level of the music
    relative to the speech, and its standard deviation, in dB.
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
    level: LevelScale | None = None

    @classmethod
    def parse(cls, entries: Mapping[str, str]) -> Metadata:
        """Parse the `ms_edge.*` entries of a model.

        Raises ModelError for anything missing, wrong or too large.
        """
        schema = _text(entries, "schema")
        if schema.partition(".")[0] != str(SCHEMA_MAJOR):
            raise ModelError(
                "bad-schema",
                f"The model's metadata has schema {schema[:20]!r}, but this version of ms-edge reads {SCHEMA_MAJOR}.x.",
            )
        spec = FrontEndSpec.from_json(_text(entries, "frontend"))
        if _text(entries, "frontend_sha256") != spec.digest:
            raise ModelError("bad-digest", "The digest of the model's front-end spec is not the one in its metadata.")
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
            raise ModelError("bad-metadata", "The model's labels must all be different.")
        level = _level_scale(_object(entries, "level"), labels) if "ms_edge.level" in entries else None
        return cls(
            spec=spec,
            labels=tuple(labels),
            decision=_decision(_object(entries, "decision"), len(labels)),
            recipe=_text(entries, "recipe"),
            license=_text(entries, "license"),
            training=_object(entries, "training"),
            parity=_object(entries, "parity"),
            golden=_golden(_object(entries, "golden"), len(labels), spec.bins, level is not None),
            step_frames=_step_frames(_object(entries, "steps"), spec) if "ms_edge.steps" in entries else None,
            level=level,
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


def _level_scale(value: Mapping[str, Any], labels: list[str]) -> LevelScale:
    if not {"speech", "music"}.issubset(labels):
        raise ModelError("bad-metadata", "Only a model with the labels speech and music can have levels of music.")
    low, high = _numbers(value, "range_db", 2)
    if not -MAX_LEVEL_DB <= low < high <= MAX_LEVEL_DB:
        raise ModelError(
            "bad-metadata", f"The model's range_db must rise, within -{MAX_LEVEL_DB:g} to {MAX_LEVEL_DB:g} dB."
        )
    correlation, width = _numbers(
        {"correlation and width": [value.get("correlation"), value.get("width")]}, "correlation and width", 2
    )
    if not (0 <= correlation <= 1 and 0 < width <= 100):
        raise ModelError(
            "bad-metadata", "The correlation of the model's levels must be 0 to 1, and their width over 0, at most 100."
        )
    from ms_edge.model.levels import LevelScale  # imported here because few models measure levels

    return LevelScale((low, high), correlation, width)


def _golden(value: Mapping[str, Any], labels: int, bins: int, with_level: bool) -> Golden:
    seed = value.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 32:
        raise ModelError("bad-metadata", "The model's golden seed must be a whole number from 0 to 2^32 - 1.")
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
    (level_tolerance,) = (
        _numbers({"level_tolerance": [value.get("level_tolerance")]}, "level_tolerance", 1) if with_level else (0,)
    )
    if with_level and not 0 < level_tolerance <= MAX_LEVEL_TOLERANCE:
        raise ModelError(
            "bad-metadata",
            f"The model's golden level_tolerance must be over 0 and at most {MAX_LEVEL_TOLERANCE:g} dB, "
            f"not {level_tolerance:g}.",
        )
    return Golden(
        seed=seed,
        feature_mean=_numbers(value, "feature_mean", bins),
        feature_max=_numbers(value, "feature_max", bins),
        feature_tolerance=feature_tolerance,
        scores=scores,
        score_tolerance=score_tolerance,
        level=_numbers(value, "level", 2) if with_level else (),
        level_tolerance=level_tolerance,
    )


def _numbers(value: Mapping[str, Any], key: str, count: int) -> tuple[float, ...]:
    numbers = value.get(key)
    if not (
        isinstance(numbers, list)
        and len(numbers) == count
        and all(
            isinstance(number, int | float)
            and not isinstance(number, bool)
            and abs(number) < 1e300  # a longer int does not fit a float
            for number in numbers
        )
    ):
        raise ModelError("bad-metadata", f"The model's metadata must have exactly {count} numbers in {key}.")
    return tuple(float(number) for number in numbers)


def _text(entries: Mapping[str, str], key: str) -> str:
    text = entries.get(f"ms_edge.{key}")
    if text is None:
        raise ModelError("no-metadata", f"The model has no metadata entry ms_edge.{key}: ms-export did not make it.")
    if len(text) > MAX_TEXT:
        raise ModelError(
            "bad-metadata",
            f"The model's entry ms_edge.{key} has {len(text):,} characters; the limit is {MAX_TEXT:,}.",
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
