"""`ms-edge info`."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ms_edge.features.spec import FEATURES, WAVEFORM
from ms_edge.model.levels import LevelScale
from ms_edge.model.session import Model
from ms_edge.output.writers import printable


@dataclass(frozen=True)
class Options:
    """The options of `ms-edge info`; the fields are the options' names."""

    model: str | None
    device: str


def run(options: Options) -> int:
    """Print what a model file contains, and return the exit status."""
    print(model_card(Model.load(options.model, options.device)))
    return 0


def model_card(model: Model) -> str:
    """Describe a model file in aligned lines, one for each fact."""
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
        ("input", _input(model)),
        *([("level", _level(data.level))] if data.level else []),
        ("frontend", spec.digest),
        ("license", data.license),
    ]
    facts += [(f"training.{key}", _short(value)) for key, value in data.training.items()]
    facts += [(f"parity.{key}", _short(value)) for key, value in data.parity.items()]
    width = max(len(name) for name, _ in facts) + 2
    return "\n".join(f"{printable(name):<{width}}{printable(str(value))}" for name, value in facts)


def _input(model: Model) -> str:
    """Describe what the model takes."""
    if model.input == WAVEFORM:
        return f"waveform ({model.metadata.spec.clip_samples} samples): the front end is in the model"
    step = model.metadata.step_frames
    return f"{FEATURES}, any number of frames: a window every {step}" if step else FEATURES


def _level(scale: LevelScale) -> str:
    """Describe the model's second output."""
    low, high = scale.range_db
    return f"of the music relative to the speech, {low:g} to {high:g} dB, with intervals of 90 %"


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
