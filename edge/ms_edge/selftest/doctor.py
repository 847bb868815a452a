"""A self-test for the machine it runs on: is everything there, and does it compute what the model's makers computed?"""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import Any

import numpy as np
import soundfile

from ms_edge._version import __version__
from ms_edge.errors import MsEdgeError, UsageError
from ms_edge.features.frontend import model_input
from ms_edge.jobs.workers import usable_cores
from ms_edge.model.providers import CUDA, SUFFIX
from ms_edge.model.session import Model, import_onnxruntime
from ms_edge.output.writers import printable
from ms_edge.selftest.deviation import Deviation
from ms_edge.selftest.golden import golden_deviations, golden_signal

TIMED_RUNS = 50


def examine(model: str | None = None, device: str = "auto") -> dict[str, Any]:
    """Everything the report shows; `ok` is false where an answer is wrong or the model cannot be used.

    `device` auto examines every device at hand, another one only that. Raises DeviceError where onnxruntime is missing.
    """
    onnxruntime: Any = import_onnxruntime()
    installed = sorted(
        {
            f"{found.metadata['Name']} {found.version}"
            for found in distributions()
            if (found.metadata["Name"] or "").lower().startswith("onnxruntime")
        }
    )
    found: dict[str, Any] = {
        "ok": True,
        "warnings": [],
        "versions": {
            "ms-edge": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in ("numpy", "soundfile", "soxr")},
            "libsndfile": soundfile.__libsndfile_version__,
            "onnxruntime": onnxruntime.__version__,
        },
        "machine": f"{platform.system()} {platform.machine()}, {usable_cores()} usable cores",
        "onnxruntime_distributions": installed,
        "providers_available": onnxruntime.get_available_providers(),
        "model": None,
        "devices": [],
    }
    if len(installed) > 1:
        found["warnings"].append(
            f"{' and '.join(installed)} overwrite each other's files; uninstall all of them and install one."
        )
    devices = [device] if device != "auto" else ["cpu", *(["cuda"] if CUDA in found["providers_available"] else [])]
    for name in devices:
        checked = _check(model, name)
        if facts := checked.pop("model", None):
            found["model"] = facts
        found["devices"].append(checked)
        # A GPU that is not there is no fault where nobody asked for it.
        if not checked["ok"] and (name == device or name == "cpu" or "error" not in checked):
            found["ok"] = False
    return found


def _check(path: str | None, device: str) -> dict[str, Any]:
    try:
        model = Model.load(path, device)
        found = golden_deviations(model)
        golden, spec = model.metadata.golden, model.metadata.spec
        make_input, clip = model_input(spec, model.input), golden_signal(golden.seed, spec.clip_samples)
        times_s = []
        for _ in range(TIMED_RUNS):
            began = time.perf_counter()
            model.scores(make_input(clip)[np.newaxis])
            times_s.append(time.perf_counter() - began)
    except UsageError:
        raise
    except MsEdgeError as error:
        return {"device": device, "ok": False, "error": {"code": error.code, "message": error.message}}
    return {
        "device": device,
        "ok": all(stage.passed for stage in found.values()),
        "provider": model.provider,
        "feature_error": found["features"].largest if "features" in found else None,
        "feature_tolerance": golden.feature_tolerance,
        "score_error": found["scores"].largest,
        "score_tolerance": golden.score_tolerance,
        "clip_latency_ms": round(float(np.median(times_s)) * 1000, 3),
        "model": {
            "path": model.path,
            "sha256": model.sha256,
            "recipe": model.metadata.recipe,
            "labels": list(model.metadata.labels),
            "input": model.input,
            "frontend_sha256": spec.digest,
        },
    }


def report(found: dict[str, Any], as_json: bool = False) -> str:
    """What `examine` found, as aligned lines for people or as JSON."""
    if as_json:
        return json.dumps(found, indent=2)
    lines = [f"{name:<14}{value}" for name, value in found["versions"].items()]
    lines += [f"{'machine':<14}{found['machine']}"]
    lines += [f"{'installed':<14}{', '.join(found['onnxruntime_distributions']) or 'onnxruntime (not by pip)'}"]
    lines += [f"{'providers':<14}{', '.join(name.removesuffix(SUFFIX) for name in found['providers_available'])}"]
    if model := found["model"]:
        lines += [
            f"{'model':<14}{model['recipe']}: {' | '.join(model['labels'])}",
            f"{'':<14}takes the {model['input']}",
            f"{'':<14}{model['path']}",
            f"{'':<14}sha256 {model['sha256']}",
        ]
    for device in found["devices"]:
        if "error" in device:
            lines.append(f"{device['device']:<14}not usable: {device['error']['message']}")
            continue
        verdict = "right" if device["ok"] else "WRONG"
        seen = device["feature_error"] is not None  # what a model computes of a waveform within itself is not
        features = ""
        if seen:
            off = Deviation(device["feature_error"], device["feature_tolerance"])
            features = f"{off.shown} (features, at most {off.allowed}) and "
        off = Deviation(device["score_error"], device["score_tolerance"])
        lines.append(
            f"{device['device']:<14}{verdict}: golden vector within {features}{off.shown} "
            f"(scores, at most {off.allowed}{'' if seen else '; the features are inside the model'}); "
            f"one clip in {device['clip_latency_ms']:.2f} ms on {device['provider']}"
        )
    lines += [f"{'warning':<14}{warning}" for warning in found["warnings"]]
    return "\n".join(map(printable, lines))  # paths and recipes may hold anything


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
