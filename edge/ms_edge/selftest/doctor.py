"""`ms-edge doctor`: what is installed, and does the model give its reference results here?"""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import Any

import numpy as np
import soundfile

from ms_edge._version import __version__
from ms_edge.audio import media
from ms_edge.errors import DeviceError, MsEdgeError, UsageError
from ms_edge.features.frontend import model_input
from ms_edge.jobs.limits import usable_cores
from ms_edge.model.providers import CUDA, SUFFIX
from ms_edge.model.session import Model, import_onnxruntime
from ms_edge.output.writers import printable
from ms_edge.selftest.deviation import Deviation
from ms_edge.selftest.device import Unusable, all_ok
from ms_edge.selftest.golden import golden_deviations, golden_signal

TIMED_RUNS = 50
PROBE_S = 120.0  # for the import of onnxruntime in another process


@dataclass(frozen=True)
class ModelFacts:
    """What a model file says of itself."""

    path: str
    sha256: str
    recipe: str
    labels: tuple[str, ...]
    input: str
    frontend_sha256: str

    @classmethod
    def of(cls, model: Model) -> ModelFacts:
        """Return the facts of a loaded model."""
        data = model.metadata
        return cls(model.path, model.sha256, data.recipe, data.labels, model.input, data.spec.digest)


@dataclass(frozen=True)
class Checked:
    """A device that ran the model: how far it is from the golden vector, and how fast.

    `feature_error` is None for a model that takes the waveform, whose features cannot be compared,
    and `level_error`, in dB, for one without levels of the music.
    `clip_latency_ms` is the median time from the samples of one window to its scores.
    """

    device: str
    ok: bool
    provider: str
    feature_error: float | None
    feature_tolerance: float
    score_error: float
    score_tolerance: float
    clip_latency_ms: float
    level_error: float | None = None
    level_tolerance: float | None = None

    def line(self) -> str:
        """Describe the result in one line, without the device's name."""
        scores = Deviation(self.score_error, self.score_tolerance)
        if self.feature_error is None:
            within = f"{scores.shown} (scores, at most {scores.allowed}; the features are inside the model)"
        else:
            features = Deviation(self.feature_error, self.feature_tolerance)
            within = (
                f"{features.shown} (features, at most {features.allowed}) and "
                f"{scores.shown} (scores, at most {scores.allowed})"
            )
        if self.level_error is not None and self.level_tolerance is not None:
            level = Deviation(self.level_error, self.level_tolerance)
            within += f" and {level.shown} dB (level, at most {level.allowed})"
        return (
            f"{'right' if self.ok else 'WRONG'}: golden vector within {within}; "
            f"one clip in {self.clip_latency_ms:.2f} ms on {self.provider}"
        )


@dataclass(frozen=True)
class Examination:
    """What `examine` found. `ok` is false if an answer is wrong or the model cannot be used."""

    ok: bool
    warnings: tuple[str, ...]
    versions: dict[str, str | None]
    machine: str
    onnxruntime_distributions: tuple[str, ...]
    providers_available: tuple[str, ...]
    decoders: tuple[str, ...]
    model: ModelFacts | None
    devices: tuple[Checked | Unusable, ...]

    def json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(asdict(self), indent=2)

    def text(self) -> str:
        """Return the report as aligned lines."""
        installed = ", ".join(self.onnxruntime_distributions) or "onnxruntime (not by pip)"
        rows: list[tuple[str, object]] = [
            *self.versions.items(),
            ("machine", self.machine),
            ("installed", installed),
            ("providers", ", ".join(name.removesuffix(SUFFIX) for name in self.providers_available)),
            ("decoders", ", ".join(self.decoders)),
        ]
        if model := self.model:
            rows += [
                ("model", f"{model.recipe}: {' | '.join(model.labels)}"),
                ("", f"takes the {model.input}"),
                ("", model.path),
                ("", f"sha256 {model.sha256}"),
            ]
        for found in self.devices:
            line = f"not usable: {found.error.message}" if isinstance(found, Unusable) else found.line()
            rows.append((found.device, line))
        rows += [("warning", warning) for warning in self.warnings]
        return "\n".join(printable(f"{name:<14}{value}") for name, value in rows)  # paths may hold anything


def examine(model: str | None = None, device: str = "auto") -> Examination:
    """Check the model on one device, or with `auto` on every device of this machine.

    Raises DeviceError if onnxruntime is missing or ends its process, UsageError if `device` is not
    the name of a device.
    """
    _probe_onnxruntime()
    onnxruntime: Any = import_onnxruntime()
    available = tuple(onnxruntime.get_available_providers())
    devices = [device] if device != "auto" else ["cpu", *(["cuda"] if CUDA in available else [])]
    checked = [_check(model, name) for name in devices]
    facts = [facts for _, facts in checked if facts is not None]
    results = tuple(found for found, _ in checked)
    installed = _onnxruntime_distributions()
    warnings = (f"{' and '.join(installed)} overwrite each other's files; uninstall all of them and install one.",)
    return Examination(
        ok=all_ok(results, device),
        warnings=warnings if len(installed) > 1 else (),
        versions={
            "ms-edge": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in ("numpy", "soundfile", "soxr")},
            "libsndfile": soundfile.__libsndfile_version__,
            "onnxruntime": onnxruntime.__version__,
        },
        machine=f"{platform.system()} {platform.machine()}, {usable_cores()} usable cores",
        onnxruntime_distributions=installed,
        providers_available=available,
        decoders=_decoders(),
        model=facts[-1] if facts else None,
        devices=results,
    )


def _probe_onnxruntime() -> None:
    """Import onnxruntime in another process, and raise DeviceError if it crashes or hangs there.

    onnxruntime crashes on processors without the instructions that it was built for, and in
    sandboxes that hide the processor. Exceptions are ignored here: the import in this process raises
    them again.
    """
    if "onnxruntime" in sys.modules or not sys.executable or getattr(sys, "frozen", False):
        return
    code = "import sys; sys.path[:] = sys.argv[1:]; import onnxruntime"
    try:
        status = subprocess.run(
            [sys.executable, "-c", code, *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_S,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        problem = f"does not finish its import within {PROBE_S:.0f} s"
    except OSError:  # no further process is allowed
        return
    else:
        if 0 <= status < 256:
            return
        problem = f"ends the process that imports it ({_ended_by(status)})"
    raise DeviceError(
        "no-onnxruntime",
        f"onnxruntime {problem}; it may not suit this processor or this sandbox: "
        "install another version of it, or run ms-edge outside the sandbox.",
    )


def _ended_by(status: int) -> str:
    """Return how a process ended: the name of a signal, or the status of a crash on Windows."""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"status {status:#x}" if status > 0 else f"signal {-status}"


def _check(path: str | None, device: str) -> tuple[Checked | Unusable, ModelFacts | None]:
    """Compare one device with the golden vector, and time it."""
    try:
        model = Model.load(path, device)
        found = golden_deviations(model)
        latency_s = _median_latency_s(model)
    except UsageError:
        raise
    except MsEdgeError as error:
        return Unusable.of(device, error), None
    golden = model.metadata.golden
    checked = Checked(
        device=device,
        ok=not found.failed,
        provider=model.provider,
        feature_error=found.features.largest if found.features else None,
        feature_tolerance=golden.feature_tolerance,
        score_error=found.scores.largest,
        score_tolerance=golden.score_tolerance,
        clip_latency_ms=round(latency_s * 1000, 3),
        level_error=found.level.largest if found.level else None,
        level_tolerance=golden.level_tolerance if found.level else None,
    )
    return checked, ModelFacts.of(model)


def _median_latency_s(model: Model) -> float:
    """Return the median time from the samples of one window to its scores, in seconds."""
    spec = model.metadata.spec
    make_input, clip = model_input(spec, model.input), golden_signal(model.metadata.golden.seed, spec.clip_samples)
    times_s = []
    for _ in range(TIMED_RUNS):
        began = time.perf_counter()
        model.scores(make_input(clip)[np.newaxis])
        times_s.append(time.perf_counter() - began)
    return float(np.median(times_s))


def _onnxruntime_distributions() -> tuple[str, ...]:
    """Return the installed packages that hold onnxruntime, with their versions, sorted."""
    names = {
        f"{found.metadata['Name']} {found.version}"
        for found in distributions()
        if (found.metadata["Name"] or "").lower().startswith("onnxruntime")
    }
    return tuple(sorted(names))


def _decoders() -> tuple[str, ...]:
    """Return what decodes audio here; FFmpeg is optional."""
    sndfile = f"libsndfile {soundfile.__libsndfile_version__}"
    folder, broken = media.pyav(), ""
    if folder and not (why := media.why_unusable(folder)):
        return sndfile, f"FFmpeg (PyAV {_version('av')})"
    if folder:
        broken = f" (PyAV cannot be imported: {why})"
    if program := media.ffmpeg():
        return sndfile, f"FFmpeg ({program}){broken}"
    return sndfile, f"no FFmpeg{broken}: for M4A, WMA and other formats {media.INSTALL}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
