"""`ms-edge benchmark`: how fast the installed model is on each device of this machine, in less than half a minute.

Nothing is timed before it is right: the model's golden vector first, then the same window's scores by each way that is timed.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ms_edge._version import __version__
from ms_edge.arrays import Float32
from ms_edge.audio.source import AudioArrays
from ms_edge.classifier import Classifier
from ms_edge.errors import MsEdgeError, UsageError
from ms_edge.features.frontend import model_input
from ms_edge.jobs.workers import usable_cores
from ms_edge.model.providers import CPU, REMOTE, SUFFIX
from ms_edge.model.session import Model, import_onnxruntime
from ms_edge.output.writers import printable
from ms_edge.selftest.deviation import deviation
from ms_edge.selftest.golden import golden_deviations, golden_signal

SCHEMA = "ms-edge-benchmark/1"
SECONDS = 15.0  # of timing, by default: with imports and loading less than 20
MIN_SECONDS, MAX_SECONDS = 0.1, 3600.0
AUDIO_S = 60.0  # classified at a time
PERCENTILES = (50, 95, 99)


def measure(model: str | None = None, device: str = "auto", seconds: float = SECONDS) -> dict[str, Any]:
    """Latency and throughput on one thread of each device; `auto` measures every one at hand. Takes some `seconds` in all.

    Of each device: `window_ms`, from the samples of one window to its scores; `hop_ms`, from the last sample of a streamed
    window to its line; `times_real_time`, audio in memory to its label. `ok` is false where an answer is wrong or nothing could
    be measured. Raises DeviceError where onnxruntime is missing, UsageError for seconds that cannot be.
    """
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise UsageError(f"--seconds must be {MIN_SECONDS:g} to {MAX_SECONDS:g}, not {seconds:g}.")
    onnxruntime: Any = import_onnxruntime()
    available = onnxruntime.get_available_providers()
    others = [name for name in available if name not in (CPU, REMOTE)]
    devices = [device] if device != "auto" else ["cpu", *(name.removesuffix(SUFFIX).lower() for name in others)]
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "ok": True,
        "versions": {
            "ms-edge": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        "machine": f"{platform.system()} {platform.machine()}, {usable_cores()} usable cores, one used",
        "model": None,
        "devices": [],
    }
    for name in devices:
        measured = _device(model, name, seconds / len(devices))
        found["model"] = measured.pop("model", None) or found["model"]
        found["devices"].append(measured)
        # A device that is not there is no fault where nobody asked for it.
        if not measured["ok"] and (name in (device, "cpu") or "error" not in measured):
            found["ok"] = False
    return found


def _device(path: str | None, device: str, seconds: float) -> dict[str, Any]:
    try:
        model = Model.load(path, device)
        spec, golden = model.metadata.spec, model.metadata.golden
        facts = {
            "device": device,
            "provider": model.provider,
            "model": {"path": model.path, "sha256": model.sha256, "recipe": model.metadata.recipe},
        }
        wrong = {stage: str(off) for stage, off in golden_deviations(model).items() if not off.passed}
        if wrong:
            return {**facts, "ok": False, "wrong": wrong}
        clip = golden_signal(golden.seed, spec.clip_samples)
        classifier, make_input = Classifier(model), model_input(spec, model.input)
        # Of the longest windows too there are some.
        audio = np.resize(clip, max(spec.clip_samples + 3 * spec.hop_samples, round(AUDIO_S * spec.sample_rate_hz)))
        first = [
            model.scores(make_input(clip)[np.newaxis])[0],
            classifier.window_scores([audio]).scores[0],
            np.array(list(next(_live(classifier, audio)).scores.values())),
        ]
        if not all(deviation(scores, golden.scores, golden.score_tolerance).passed for scores in first):
            return {**facts, "ok": False, "wrong": {"scores": "those of a window depend on how it comes"}}
        return {
            **facts,
            "ok": True,
            "window_ms": _percentiles(_window_times(lambda: model.scores(make_input(clip)[np.newaxis]), seconds / 3)),
            "hop_ms": _percentiles(_hop_times(classifier, audio, seconds / 3)),
            "times_real_time": _throughput(classifier, audio, seconds / 3),
        }
    except UsageError:
        raise
    except MsEdgeError as error:
        return {"device": device, "ok": False, "error": {"code": error.code, "message": error.message}}


def _live(classifier: Classifier, audio: Float32) -> Iterator[Any]:
    """The windows of a stream whose blocks are one hop long, so that each completes one window."""
    hop, rate = classifier.spec.hop_samples, classifier.spec.sample_rate_hz
    return classifier.live(AudioArrays((audio[at : at + hop] for at in range(0, len(audio) - hop + 1, hop)), rate))


def _window_times(call: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def _hop_times(classifier: Classifier, audio: Float32, seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        windows = _live(classifier, audio)
        next(windows)  # which waits for more than one block
        began = time.perf_counter()
        for _ in windows:
            now = time.perf_counter()
            times.append(now - began)
            began = now
            if now > end:
                break
    return times


def _throughput(classifier: Classifier, audio: Float32, seconds: float) -> float:
    rate = classifier.spec.sample_rate_hz
    times = _window_times(lambda: classifier.classify(audio, rate), seconds)
    return round(len(audio) / rate / float(np.median(times)), 1)


def _percentiles(times_s: list[float]) -> dict[str, float | int]:
    values = np.percentile(times_s, PERCENTILES) * 1000
    return {
        "runs": len(times_s),
        **{f"p{at}": round(float(value), 4) for at, value in zip(PERCENTILES, values, strict=True)},
    }


def report(found: dict[str, Any], as_json: bool = False) -> str:
    """What `measure` found, as a table for people or as JSON."""
    if as_json:
        return json.dumps(found, indent=2)
    lines = [f"{found['machine']}; " + ", ".join(f"{name} {value}" for name, value in found["versions"].items())]
    if model := found["model"]:
        lines.append(f"{model['recipe']}, {model['path']}, sha256 {model['sha256'][:12]}")
    lines.append(
        f"{'DEVICE':<10}{'ONE WINDOW, ms p50  p95  p99':>32}{'STREAMED HOP, ms p50  p95  p99':>34}{'x REAL TIME':>14}"
    )
    for device in found["devices"]:
        start = f"{device['device']:<10}"
        if "error" in device:
            lines.append(f"{start}not usable: {device['error']['message']}")
        elif "wrong" in device:
            said = "; ".join(f"{stage}: {off}" for stage, off in device["wrong"].items())
            lines.append(f"{start}WRONG, not timed: {said}")
        else:
            cells = [
                "".join(f"{device[name][f'p{at}']:8.3f}" for at in PERCENTILES) for name in ("window_ms", "hop_ms")
            ]
            lines.append(f"{start}{cells[0]:>32}{cells[1]:>34}{device['times_real_time']:>14,.0f}")
    return "\n".join(map(printable, lines))
