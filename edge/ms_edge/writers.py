"""Results as text for people and JSON Lines for programs, one line each."""

from __future__ import annotations

import json
from collections.abc import Callable

from ms_edge.model import Model
from ms_edge.results import Classification, Failure

HEADER = f"{'LABEL':<13}{'PROBABILITY':>11}  {'DURATION':>10}  PATH"


def text_line(result: Classification | Failure) -> str:
    """One aligned row: label, probability, duration, path."""
    if isinstance(result, Failure):
        return f"{'error':<13}{'-':>11}  {'-':>10}  {printable(result.path)} ({result.code})"
    warnings = f" ({', '.join(result.warnings)})" if result.warnings else ""
    return f"{result.label:<13}{result.probability:>11.1%}  {duration(result.duration_s):>10}  {printable(result.path)}{warnings}"


def json_line(result: Classification | Failure) -> str:
    """One record of schema `ms-edge/1`, pure ASCII: names that are not Unicode survive as lone surrogates."""
    return json.dumps(result.record(), separators=(", ", ": "), allow_nan=False)


def model_card(model: Model) -> str:
    """What is in a model file, for people: one aligned line a fact."""
    data, spec = model.metadata, model.metadata.spec
    mel = f"{spec.mel.bands} mel bands {spec.mel.low_hz:g}-{spec.mel.high_hz:g} Hz" if spec.mel else f"{spec.bins} bins"
    logarithm = f"log(x + {spec.log_floor:g})" if spec.log_floor else "linear"
    thresholds = ", ".join(
        f"{label} >= {value:g}" for label, value in zip(data.labels, data.decision.thresholds, strict=False)
    )
    facts: list[tuple[str, object]] = [
        ("file", model.path),
        ("sha256", model.sha256),
        ("size", f"{model.size:,} bytes"),
        ("recipe", data.recipe),
        ("labels", ", ".join(data.labels)),
        ("decision", f"{data.decision.kind} ({thresholds})" if thresholds else data.decision.kind),
        ("audio", f"{spec.sample_rate_hz:,} Hz mono, windows of {spec.clip_s:g} s every {spec.hop_s:g} s"),
        (
            "frames",
            f"{spec.frame_length} samples every {spec.frame_step}, FFT of {spec.fft_length}, {spec.window} window",
        ),
        (
            "features",
            f"{spec.magnitude}, {mel}, {logarithm}, {spec.feature_shape[0]} x {spec.feature_shape[1]} ({spec.layout})",
        ),
        ("frontend", spec.digest),
        ("license", data.license),
    ]
    facts += [(f"training.{key}", _short(value)) for key, value in data.training.items()]
    facts += [(f"parity.{key}", _short(value)) for key, value in data.parity.items()]
    width = max(len(name) for name, _ in facts) + 2
    return "\n".join(f"{name:<{width}}{printable(str(value))}" for name, value in facts)


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def duration(seconds: float) -> str:
    """h:mm:ss.s, as short as it can be: 7.2 s, 3:07.2, 1:02:03.4."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    if not minutes:
        return f"{tenths / 10:.1f} s"
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02}:{tenths / 10:04.1f}" if hours else f"{minutes}:{tenths / 10:04.1f}"
    return f"{hours}:{clock}" if hours else clock


def printable(path: str) -> str:
    """A path on one line of any terminal: control characters and what is not Unicode are escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in path
    )


FORMATS: dict[str, tuple[str | None, Callable[[Classification | Failure], str]]] = {
    "text": (HEADER, text_line),
    "jsonl": (None, json_line),
}
