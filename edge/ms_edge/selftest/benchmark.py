"""`ms-edge benchmark`: how fast the installed model is on each device of this machine.

Only correct answers are timed. The golden vector is checked first, and then the scores of the same
window computed in each of the ways that are timed.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ms_edge._version import __version__
from ms_edge.arrays import Float32
from ms_edge.classifier import Classifier
from ms_edge.errors import MsEdgeError, UsageError
from ms_edge.features.frontend import model_input
from ms_edge.jobs.limits import usable_cores
from ms_edge.model.providers import CPU, REMOTE, SUFFIX
from ms_edge.model.session import Model, import_onnxruntime
from ms_edge.output.writers import printable
from ms_edge.results import Segment
from ms_edge.selftest.deviation import deviation
from ms_edge.selftest.device import Unusable, all_ok
from ms_edge.selftest.golden import golden_deviations, golden_signal

SCHEMA = "ms-edge-benchmark/1"
SECONDS = 15.0  # default time for all measurements; with imports and loading it stays below 20 s
MIN_SECONDS, MAX_SECONDS = 0.1, 3600.0
AUDIO_S = 60.0  # length of the recording whose classification is timed


@dataclass(frozen=True)
class ModelFacts:
    """Which model was measured."""

    path: str
    sha256: str
    recipe: str


@dataclass(frozen=True)
class Percentiles:
    """The distribution of a time, in milliseconds, over `runs` measurements."""

    runs: int
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, times_s: list[float]) -> Percentiles:
        """Compute the percentiles of times in seconds."""
        values = (np.percentile(times_s, (50, 95, 99)) * 1000).tolist()
        return cls(len(times_s), *(round(value, 4) for value in values))

    def cells(self) -> str:
        """Return the percentiles as columns."""
        return f"{self.p50:8.3f}{self.p95:8.3f}{self.p99:8.3f}"


@dataclass(frozen=True)
class Timed:
    """How fast a device is.

    `window_ms`: from the samples of one window to its scores. `hop_ms`: from the last sample of a
    streamed window to its segment. `times_real_time`: from audio in memory to its label.
    """

    device: str
    provider: str
    ok: bool
    window_ms: Percentiles
    hop_ms: Percentiles
    times_real_time: float


@dataclass(frozen=True)
class Wrong:
    """A device that was not timed because its answers are wrong.

    `wrong` maps each wrong stage to its deviation.
    """

    device: str
    provider: str
    ok: bool
    wrong: dict[str, str]


@dataclass(frozen=True)
class Measurement:
    """What `measure` found.

    `ok` is false if an answer is wrong or a device that must work is unusable.
    """

    schema: str
    ok: bool
    versions: dict[str, str]
    machine: str
    model: ModelFacts | None
    devices: tuple[Timed | Wrong | Unusable, ...]

    def json(self) -> str:
        """Return the measurement as JSON."""
        return json.dumps(asdict(self), indent=2)

    def text(self) -> str:
        """Return the measurement as a table."""
        versions = ", ".join(f"{name} {value}" for name, value in self.versions.items())
        lines = [f"{self.machine}; {versions}"]
        if self.model:
            lines.append(f"{self.model.recipe}, {self.model.path}, sha256 {self.model.sha256[:12]}")
        lines.append(
            f"{'DEVICE':<10}{'ONE WINDOW, ms p50  p95  p99':>32}{'STREAMED HOP, ms p50  p95  p99':>34}{'x REAL TIME':>14}"
        )
        lines += [f"{found.device:<10}{_row(found)}" for found in self.devices]
        return "\n".join(map(printable, lines))


def _row(found: Timed | Wrong | Unusable) -> str:
    """Return the cells of one device's row of the table."""
    if isinstance(found, Unusable):
        return f"not usable: {found.error.message}"
    if isinstance(found, Wrong):
        return "WRONG, not timed: " + "; ".join(f"{stage}: {how}" for stage, how in found.wrong.items())
    return f"{found.window_ms.cells():>32}{found.hop_ms.cells():>34}{found.times_real_time:>14,.0f}"


def measure(model: str | None = None, device: str = "auto", seconds: float = SECONDS) -> Measurement:
    """Measure latency and throughput on one device, or with `auto` on every device of this machine.

    One thread is used. All measurements together take about `seconds`. Raises DeviceError if
    onnxruntime is missing, UsageError if `seconds` is out of range or `device` is no device's name.
    """
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise UsageError(f"--seconds must be {MIN_SECONDS:g} to {MAX_SECONDS:g}, not {seconds:g}.")
    onnxruntime: Any = import_onnxruntime()
    others = [name for name in onnxruntime.get_available_providers() if name not in (CPU, REMOTE)]
    devices = [device] if device != "auto" else ["cpu", *(name.removesuffix(SUFFIX).lower() for name in others)]
    measured = [_measure_device(model, name, seconds / len(devices)) for name in devices]
    facts = [facts for _, facts in measured if facts is not None]
    results = tuple(found for found, _ in measured)
    return Measurement(
        schema=SCHEMA,
        ok=all_ok(results, device),
        versions={
            "ms-edge": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        machine=f"{platform.system()} {platform.machine()}, {usable_cores()} usable cores, one used",
        model=facts[-1] if facts else None,
        devices=results,
    )


def _measure_device(
    path: str | None, device: str, seconds: float
) -> tuple[Timed | Wrong | Unusable, ModelFacts | None]:
    """Check a device's answers, then time it for about `seconds`."""
    try:
        model = Model.load(path, device)
        facts = ModelFacts(model.path, model.sha256, model.metadata.recipe)
        failed = golden_deviations(model).failed
        if failed:
            wrong = {stage: str(found) for stage, found in failed.items()}
            return Wrong(device, model.provider, False, wrong), facts
        return _timed(model, device, seconds), facts
    except UsageError:
        raise
    except MsEdgeError as error:
        return Unusable.of(device, error), None


def _timed(model: Model, device: str, seconds: float) -> Timed | Wrong:
    """Time a model in three ways, once all three give the golden vector's scores for its window."""
    spec, golden = model.metadata.spec, model.metadata.golden
    clip = golden_signal(golden.seed, spec.clip_samples)
    classifier, make_input = Classifier(model), model_input(spec, model.input)
    # At least a few windows, however long they are.
    audio = np.resize(clip, max(spec.clip_samples + 3 * spec.hop_samples, round(AUDIO_S * spec.sample_rate_hz)))
    first = [
        model.scores(make_input(clip)[np.newaxis])[0],
        classifier.window_scores([audio]).scores[0],
        np.array(list(next(_live(classifier, audio)).scores.values())),
    ]
    if not all(deviation(scores, golden.scores, golden.score_tolerance).passed for scores in first):
        return Wrong(device, model.provider, False, {"scores": "a window's scores depend on how its audio arrives"})
    return Timed(
        device=device,
        provider=model.provider,
        ok=True,
        window_ms=Percentiles.of(_call_times(lambda: model.scores(make_input(clip)[np.newaxis]), seconds / 3)),
        hop_ms=Percentiles.of(_hop_times(classifier, audio, seconds / 3)),
        times_real_time=_throughput(classifier, audio, seconds / 3),
    )


def _live(classifier: Classifier, audio: Float32) -> Iterator[Segment]:
    """Stream the audio in blocks of one hop, so that each block completes one window."""
    hop, rate = classifier.spec.hop_samples, classifier.spec.sample_rate_hz
    return classifier.stream((audio[at : at + hop] for at in range(0, len(audio) - hop + 1, hop)), rate)


def _call_times(call: Callable[[], object], seconds: float) -> list[float]:
    """Call again and again for `seconds`, at least once; return each call's time in seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def _hop_times(classifier: Classifier, audio: Float32, seconds: float) -> list[float]:
    """Stream the audio again and again for `seconds`; return each window's time in seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        windows = _live(classifier, audio)
        next(windows)  # the first window waits for more than one block
        began = time.perf_counter()
        for _ in windows:
            now = time.perf_counter()
            times.append(now - began)
            began = now
            if now > end:
                break
    return times


def _throughput(classifier: Classifier, audio: Float32, seconds: float) -> float:
    """Return how many times faster than real time the audio is classified."""
    rate = classifier.spec.sample_rate_hz
    times = _call_times(lambda: classifier.classify(audio, rate), seconds)
    return round(len(audio) / rate / float(np.median(times)), 1)
