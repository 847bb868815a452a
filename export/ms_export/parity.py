"""Parity: the same recordings through TensorFlow and through anything that claims to equal it, stage by stage.

The reference decodes nothing: it takes a case's samples, means its channels and resamples in float64, cuts its own windows,
and computes spectrum, features, logits and scores with tf.signal and Keras. What is compared with it is an
`Implementation`: a name, a function from a case to the same stages (or some of them), and the tolerance of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import scipy.fft
import soxr
import tensorflow as tf
from numpy.typing import NDArray

from ms_edge.compare import Deviation, deviation
from ms_edge.frontend import FrontEnd, hann_window, mel_filterbank
from ms_edge.metadata import Decision
from ms_edge.model import Model
from ms_edge.providers import CPU
from ms_edge.sources import AudioArrays
from ms_edge.spec import WAVEFORM, FrontEndSpec
from ms_edge.timeline import window_label
from ms_edge.windows import windows
from ms_export.signals import Case
from ms_export.waveform import computed_features
from ms_train.frontend import FrontEndLayer

Array = NDArray[Any]
Stages = dict[str, Array]  # samples (n,) at the spec's rate; then (windows, ...) each

STAGES = ("samples", "spectrum", "features", "logits", "scores", "label")
BATCH = 32
SERVED = "as served"

# At the model's own rate.
TOLERANCES = {
    # The mean of two channels in float32 against float64, relative: one rounding.
    "samples": 1e-6,
    # Of the largest magnitude. Two float32 transforms sum in different orders; each term has 6e-8 of the largest.
    "spectrum": 1e-6,
    # Absolute. A logarithm just above its floor divides the above by floor / sum of the window, which recipes keep over 5e-5.
    "features": 1e-3,
    # Absolute. Sums of some thousand products in float32 of features that are equal to 1e-6 of their size.
    "logits": 1e-4,
    # Absolute. A quarter of the difference of logits at the steepest, and most are far from there.
    "scores": 1e-5,
    # Share of windows with another label, those within the tolerance of a border aside: none.
    "label": 0.0,
}
# After resampling, where both filters let through what there is (`PASSBAND`). soxr's streaming HQ interpolates its
# coefficients, which costs up to 1e-4 of the signal against VHQ in float64; a step less in quality costs 5e-3.
RESAMPLED = {
    **TOLERANCES,
    "samples": 3e-4,
    # Of the largest magnitude of the case: above the passband both fall, not alike, and a window smears some of that down.
    "spectrum": 3e-2,
    # That over the floor, where a bin holds nothing else. The bands of a mel spectrum stay within 0.03.
    "features": 1.5,
    # A network hears what is above the passband too, and how much it cares is its own affair: trained ones move by 0.02, an
    # untrained one by 0.1. That the resampler is right is seen in the samples.
    "logits": 3.0,
    "scores": 0.25,
}
PASSBAND = 0.88
# Of a model that takes the waveform: a product with the transform's rows rounds sums of hundreds of terms where a fast transform
# rounds a few, and shows near a full-scale tone.
WAVEFORM_TOLERANCES = {**TOLERANCES, "features": 2e-3, "logits": 1e-3, "scores": 1e-4}


@dataclass(frozen=True)
class Implementation:
    """Something that claims to equal the reference: from a case to stages, and how far each may be from it.

    `resampled` are the tolerances of cases that come at another rate; None: it is not asked for those, since what it
    shows has nothing to do with resampling.
    """

    name: str
    stages: Callable[[Case], Stages]
    tolerances: Mapping[str, float] = field(default_factory=lambda: TOLERANCES)
    resampled: Mapping[str, float] | None = field(default_factory=lambda: RESAMPLED)


@dataclass(frozen=True)
class Finding:
    """One stage of one case."""

    case: str
    stage: str
    resampled: bool
    deviation: Deviation


@dataclass(frozen=True)
class Report:
    """What one implementation's comparison found. `compared` counts windows, `relabelled` those with another label."""

    name: str
    findings: tuple[Finding, ...]
    cases: int
    windows: int
    relabelled: int

    @property
    def passed(self) -> bool:
        """Every stage of every case is within its tolerance."""
        return bool(self.findings) and all(finding.deviation.passed for finding in self.findings)

    def worst(self) -> list[Finding]:
        """The finding nearest to or furthest over its tolerance, per stage, first as recorded and then resampled."""
        found = []
        for resampled in (False, True):
            for stage in STAGES:
                of_stage = [f for f in self.findings if f.stage == stage and f.resampled == resampled]
                if of_stage:
                    found.append(max(of_stage, key=lambda f: (not f.deviation.passed, _rank(f.deviation.largest))))
        return found

    def describe(self) -> str:
        """What is wrong, in one sentence without its full stop."""
        wrong = [f for f in self.worst() if not f.deviation.passed]
        if not wrong:
            return f"{self.name} equals TensorFlow on {self.cases} cases"
        parts = ", ".join(f"{f.stage} {f.deviation} on {f.case!r}" for f in wrong)
        return f"{self.name} differs from TensorFlow: {parts}"


def _rank(value: float) -> float:
    return float("inf") if np.isnan(value) else value


def check(
    implementations: Sequence[Implementation],
    reference: Callable[[Case], Stages],
    cases: Iterable[Case],
    spec: FrontEndSpec,
) -> list[Report]:
    """Compare implementations with a reference over cases: one report each, in their order.

    A case is resampled where its rate is not the spec's. Each implementation is asked for what it has; a stage
    that it leaves out is not compared, one that the reference leaves out neither.
    """
    findings: list[list[Finding]] = [[] for _ in implementations]
    counted = compared = 0
    relabelled = [0] * len(implementations)
    for case in cases:
        resampled = case.sample_rate_hz != spec.sample_rate_hz
        expected = reference(case)
        counted += 1
        compared += len(expected["features"])
        for index, implementation in enumerate(implementations):
            tolerances = implementation.resampled if resampled else implementation.tolerances
            if tolerances is None:
                continue
            found = implementation.stages(case)
            for stage in STAGES:
                if stage not in found or stage not in expected or stage not in tolerances:
                    continue
                if stage == "label":
                    differ = _relabelled(found, expected, tolerances.get("scores", 0.0))
                    relabelled[index] += differ
                    share = differ / max(1, len(expected["label"]))
                    result = Deviation(share, tolerances["label"])
                elif stage == "samples" and resampled:
                    result = _samples_deviation(found[stage], expected[stage], case, spec, tolerances[stage])
                else:
                    scale = _peak(expected[stage], resampled) if stage in ("samples", "spectrum") else 1.0
                    seen = _in_passband(stage, spec, case) if resampled else ...
                    result = deviation(found[stage][seen], expected[stage][seen], tolerances[stage], scale)
                findings[index].append(Finding(case.name, stage, resampled, result))
    return [
        Report(implementation.name, tuple(found), counted, compared, differ)
        for implementation, found, differ in zip(implementations, findings, relabelled, strict=True)
    ]


def _peak(expected: Array, resampled: bool) -> float:
    # What a filter leaves of an impulse outside its band is no measure of anything: -60 dB of a full-scale tone is the least.
    largest = float(np.abs(expected).max(initial=0.0))
    return max(largest, 1e-3 * expected.shape[-1]) if resampled else largest or 1.0


def _relabelled(found: Stages, expected: Stages, score_tolerance: float) -> int:
    """How many windows have another label, where the expected scores are not so near a border that either will do."""
    if found["label"].shape != expected["label"].shape:
        return max(len(expected["label"]), len(found["label"]))
    differ = found["label"] != expected["label"]
    return int((differ & (expected["margin"] > 2 * score_tolerance)).sum())


def _in_passband(stage: str, spec: FrontEndSpec, case: Case) -> Any:
    """Index of the bins or bands of a stage whose frequencies both resamplers let through, and all of another stage."""
    top_hz = PASSBAND * min(case.sample_rate_hz, spec.sample_rate_hz) / 2
    bin_hz = spec.sample_rate_hz / spec.fft_length
    bins = max(1, int(top_hz / bin_hz) - 4)  # less what the window smears
    if stage == "spectrum":
        return np.s_[..., :bins]
    if stage != "features":
        return ...
    if spec.mel:
        bins = max(1, int((mel_filterbank(spec)[bins:] == 0).all(axis=0).sum()))
    return np.s_[:, :bins] if spec.layout == "bins_frames" else np.s_[..., :bins]


def _samples_deviation(found: Array, expected: Array, case: Case, spec: FrontEndSpec, tolerance: float) -> Deviation:
    """Relative RMS difference of two resampled signals below `PASSBAND` of the lower Nyquist frequency, their ends aside.

    Above it two good filters may differ; at the ends they see the zeros around a recording through different lengths.
    """
    if found.shape != expected.shape:
        return Deviation(float("inf"), tolerance, f"{found.shape[0]} samples instead of {expected.shape[0]}")
    top = int(PASSBAND * min(1.0, case.sample_rate_hz / spec.sample_rate_hz) * len(expected) / 2)
    fade = np.hanning(len(expected))
    difference = np.fft.rfft(fade * (found.astype(np.float64) - expected))[:top]
    whole = np.fft.rfft(fade * expected)
    # Of the whole signal, and of no less than -60 dB of full scale: of what lies outside the passband nothing is expected in it.
    scale = max(float(np.linalg.norm(whole)), 1e-3 * float(np.linalg.norm(fade)) * np.sqrt(len(fade)) / 2)
    return Deviation(float(np.linalg.norm(difference)) / scale, tolerance)


class Reference:
    """The reference: float64 resampling at soxr's highest quality, windows of its own, tf.signal, and Keras where given.

    `network` gives logits and scores (`ms_train.outputs.with_logits`). `dtype` is that of the transform: float32, as
    models are trained.
    """

    def __init__(
        self,
        spec: FrontEndSpec,
        network: keras.Model | None = None,
        labels: tuple[str, ...] = (),
        decision: Decision | None = None,
        dtype: str = "float32",
    ) -> None:
        self.spec = spec
        self.dtype = dtype
        layer = FrontEndLayer(spec, dtype=dtype, autocast=False)
        # Traced once, for any number of windows: a case is small, and Python's share of a call is not.
        self._front_end = tf.function(
            lambda clips: (layer.spectrum(clips), layer(clips)),
            input_signature=[tf.TensorSpec((None, spec.clip_samples), dtype)],
        )
        self._network = network and tf.function(
            lambda features: network(features, training=False),
            input_signature=[tf.TensorSpec((None, *spec.feature_shape), tf.float32)],
        )
        self._labels, self._decision = labels, decision

    def samples(self, case: Case) -> NDArray[np.float64]:
        """The mono signal (n,) at the spec's rate."""
        mono = case.samples.astype(np.float64).mean(axis=1)
        if case.sample_rate_hz == self.spec.sample_rate_hz:
            return mono
        return np.asarray(soxr.resample(mono, case.sample_rate_hz, self.spec.sample_rate_hz, quality="VHQ"))

    def windows(self, samples: Array) -> Array:
        """(windows, clip_samples): every hop, the last at the end; a short recording over and over."""
        clip, hop = self.spec.clip_samples, self.spec.hop_samples
        if len(samples) < clip:
            return samples[np.arange(clip) % len(samples)][np.newaxis]
        starts = list(range(0, len(samples) - clip + 1, hop))
        if starts[-1] + clip < len(samples):
            starts.append(len(samples) - clip)
        return np.stack([samples[start : start + clip] for start in starts])

    def __call__(self, case: Case) -> Stages:
        """All stages of a case, in float32 (or the dtype asked for)."""
        samples = self.samples(case)
        clips = self.windows(samples).astype(np.float32).astype(self.dtype)  # what both are given is float32
        found: Stages = {"samples": samples}
        found["spectrum"], found["features"] = _in_batches(self._front_end, clips)
        if self._network is not None:
            found["logits"], found["scores"] = _in_batches(self._network, found["features"].astype(np.float32))
            if self._decision:
                found["label"], found["margin"] = decide(found["scores"], self._labels, self._decision)
        return found


def _in_batches(function: Callable[[Array], tuple[Any, Any]], rows: Array, size: int = BATCH) -> tuple[Array, Array]:
    first, second = zip(*(function(batch) for batch in _batches(rows, size)), strict=True)
    return np.concatenate(first), np.concatenate(second)


def _batches(rows: Array, size: int) -> Iterator[Array]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def edge_front_end(spec: FrontEndSpec, front_end: FrontEnd | None = None) -> Callable[[Case], Stages]:
    """What a deployed machine computes up to the features: streaming resampler, windows, NumPy/SciPy in float32."""
    front_end = front_end or FrontEnd(spec)

    def stages(case: Case) -> Stages:
        blocks = list(AudioArrays([case.samples], case.sample_rate_hz).blocks(spec.sample_rate_hz))
        clips = [samples for _, samples in windows(blocks, spec)]
        return {
            "samples": np.concatenate(blocks),
            "spectrum": np.stack([front_end.spectrum(clip) for clip in clips]),
            "features": np.stack([front_end.features(clip) for clip in clips]),
        }

    return stages


def double_front_end(spec: FrontEndSpec) -> Callable[[Case], Stages]:
    """NumPy/SciPy in float64, from the reference's windows: says which of two float32 transforms is the one that is off."""
    source = Reference(spec)
    seen = min(spec.frame_length, spec.fft_length)
    window = hann_window(spec.frame_length)[:seen]

    def stages(case: Case) -> Stages:
        clips = source.windows(source.samples(case)).astype(np.float32).astype(np.float64)
        framed = np.lib.stride_tricks.sliding_window_view(clips, seen, axis=1)[:, :: spec.frame_step]
        framed = framed[:, : spec.frames(spec.clip_samples)]
        spectrum = np.abs(scipy.fft.rfft(framed * window, n=spec.fft_length))
        if spec.magnitude == "power":
            spectrum = np.square(spectrum)
        features = spectrum @ mel_filterbank(spec).astype(np.float64) if spec.mel else spectrum
        if spec.log_floor is not None:
            features = np.log(features + spec.log_floor)
        return {
            "spectrum": spectrum,
            "features": features.swapaxes(1, 2) if spec.layout == "bins_frames" else features,
        }

    return stages


def graph_front_end(spec: FrontEndSpec, content: bytes) -> Callable[[Case], Stages]:
    """What a model file that takes the waveform computes within, of the windows that a deployed machine cuts."""
    computed = computed_features(content)

    def stages(case: Case) -> Stages:
        blocks = list(AudioArrays([case.samples], case.sample_rate_hz).blocks(spec.sample_rate_hz))
        clips = np.stack([samples for _, samples in windows(blocks, spec)])
        spectra, features = zip(*(computed(batch) for batch in _batches(clips, BATCH)), strict=True)
        return {
            "samples": np.concatenate(blocks),
            "waveform": clips,
            "spectrum": np.concatenate(spectra),
            "features": np.concatenate(features),
        }

    return stages


class OnnxNetwork:
    """The network of a model file under session options of one's own: inputs to (logits, scores)."""

    def __init__(
        self,
        content: bytes,
        *,
        level: str = "ORT_ENABLE_ALL",
        threads: int = 1,
        provider: str | tuple[str, dict[str, str]] = CPU,
        batch: int = BATCH,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(with_logits_output(content), options, providers=[provider])
        self._input = self._session.get_inputs()[0].name
        self._batch = batch

    def __call__(self, inputs: Array) -> tuple[Array, Array]:
        """Logits (n, outputs) and scores (n, labels)."""
        found = [
            self._session.run(["logits", "scores"], {self._input: batch}) for batch in _batches(inputs, self._batch)
        ]
        return np.concatenate([logits for logits, _ in found]), np.concatenate([scores for _, scores in found])


def with_logits_output(content: bytes) -> bytes:
    """A model file with what goes into its last sigmoid or softmax as another output, `logits`."""
    graph = onnx.load_from_string(content)
    last = next(node for node in reversed(graph.graph.node) if node.op_type in ("Sigmoid", "Softmax"))
    name = last.input[0]
    last.input[0] = "logits"
    for node in graph.graph.node:
        node.output[:] = ["logits" if output == name else output for output in node.output]
        if node is not last:
            node.input[:] = ["logits" if given == name else given for given in node.input]
    graph.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))
    return graph.SerializeToString()


def served(
    model: Model,
    network: Callable[[Array], tuple[Array, Array]] | None = None,
    front_end: Callable[[Case], Stages] | None = None,
) -> Callable[[Case], Stages]:
    """A model as it is served, from the recording on; `network`, where given, computes its logits and scores instead."""
    metadata = model.metadata
    front_end = front_end or edge_front_end(metadata.spec)

    def stages(case: Case) -> Stages:
        found = dict(front_end(case))
        inputs = found[model.input]
        if network:
            found["logits"], found["scores"] = network(inputs)
        else:
            found["scores"] = np.concatenate([model.scores(batch) for batch in _batches(inputs, BATCH)])
        found["label"], _ = decide(found["scores"], metadata.labels, metadata.decision)
        return found

    return stages


def decide(scores: Array, labels: tuple[str, ...], decision: Decision) -> tuple[Array, Array]:
    """The label of each window (windows,), and how far its scores are from those of another label (windows,)."""
    names = np.array([window_label(row, labels, decision) for row in scores])
    if decision.kind == "exclusive":
        ordered = np.sort(scores, axis=1)
        return names, ordered[:, -1] - ordered[:, -2]
    return names, np.abs(scores - np.array(decision.thresholds)).min(axis=1)


def tolerances_of(model_input: str) -> Mapping[str, float]:
    """What is allowed of each stage, at the model's own rate, of a model that takes `features` or the `waveform`."""
    return WAVEFORM_TOLERANCES if model_input == WAVEFORM else TOLERANCES


def implementations(model: Model, content: bytes) -> list[Implementation]:
    """All that must equal TensorFlow where a model is served: transforms, optimisation levels, batches, threads."""
    spec, tolerances = model.metadata.spec, tolerances_of(model.input)
    stages_of = graph_front_end(spec, content) if model.input == WAVEFORM else edge_front_end(spec)
    front_end = lru_cache(maxsize=1)(stages_of)  # one case goes through all of them

    def network(name: str, resampled: Mapping[str, float] | None = None, **options: Any) -> Implementation:
        stages = served(model, OnnxNetwork(content, **options), front_end)
        return Implementation(f"ONNX, {name}", stages, tolerances, resampled)

    return [
        Implementation("tf.signal, float64", Reference(spec, dtype="float64"), resampled=None),
        Implementation("NumPy/SciPy, float64", double_front_end(spec), resampled=None),
        Implementation(SERVED, served(model, front_end=front_end), tolerances),
        network("all optimisations", RESAMPLED),
        network("extended optimisations", level="ORT_ENABLE_EXTENDED"),
        network("basic optimisations", level="ORT_ENABLE_BASIC"),
        network("no optimisations", level="ORT_DISABLE_ALL"),
        network("batch 1", batch=1),
        network("batch 64, 4 threads", batch=64, threads=4),
    ]
