"""The implementations that must equal TensorFlow: other transforms, the model as served, and its
network with every option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import scipy.fft

from ms_edge.audio.source import AudioArrays
from ms_edge.features.frontend import FrontEnd, hann_window, mel_filterbank
from ms_edge.features.spec import WAVEFORM, FrontEndSpec
from ms_edge.features.windows import windows
from ms_edge.model.providers import CPU, CUDA, CUDA_OPTIONS, obtained_provider
from ms_edge.model.session import Model
from ms_export.cases import Case
from ms_export.errors import ExportError
from ms_export.parity import SERVED, Array, Implementation, Stages
from ms_export.reference import BATCH, Reference, batches, decide, in_batches
from ms_export.tolerances import DEVICE_TOLERANCES, NETWORK_TOLERANCES, RESAMPLED, TOLERANCES, VARIANT_TOLERANCES
from ms_export.waveform import computed_features


def edge_front_end(spec: FrontEndSpec, front_end: FrontEnd | None = None) -> Callable[[Case], Stages]:
    """Return a function that computes the stages up to the features as a deployed machine does:
    soxr streams, NumPy in float32.
    """
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
    """Return a function that computes spectra and features with SciPy in float64.

    If two float32 transforms differ, it shows which one is wrong. It takes the windows of the
    reference.
    """
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
    """Return a function that gives what a waveform model computes inside, for the windows that a
    deployed machine cuts.
    """
    computed = computed_features(content)

    def stages(case: Case) -> Stages:
        blocks = list(AudioArrays([case.samples], case.sample_rate_hz).blocks(spec.sample_rate_hz))
        clips = np.stack([samples for _, samples in windows(blocks, spec)])
        spectra, features = in_batches(computed, clips)
        return {"samples": np.concatenate(blocks), "waveform": clips, "spectrum": spectra, "features": features}

    return stages


class OnnxNetwork:
    """The network of a model file with chosen session options, from inputs to logits and scores.

    If the network answers runs of windows, the rows of its results are the windows of all runs, in
    order.
    """

    def __init__(
        self,
        content: bytes,
        *,
        level: str = "ORT_ENABLE_ALL",
        threads: int = 1,
        provider: str | tuple[str, dict[str, str]] = CPU,
        batch: int = 4,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(with_logits_output(content), options, providers=[provider])
        obtained_provider([provider], self._session.get_providers())
        self._input = self._session.get_inputs()[0].name
        self._batch = batch

    def __call__(self, inputs: Array) -> tuple[Array, Array]:
        """Return logits (n, outputs) and scores (n, labels). A smaller last batch is filled up with
        its own rows.
        """

        def run(batch: Array) -> tuple[Array, Array]:
            full = np.resize(batch, (self._batch, *batch.shape[1:]))
            logits, scores = self._session.run(["logits", "scores"], {self._input: full})
            first, second = (found[: len(batch)].reshape(-1, found.shape[-1]) for found in (logits, scores))
            return first, second

        return in_batches(run, inputs, self._batch)


def with_logits_output(content: bytes) -> bytes:
    """Return a model file with another output, `logits`: the input of its last sigmoid or softmax."""
    graph = onnx.load_from_string(content)
    last = next((node for node in reversed(graph.graph.node) if node.op_type in ("Sigmoid", "Softmax")), None)
    if last is None:
        raise ExportError("bad-graph", "The model ends in neither a sigmoid nor a softmax: ms-export did not make it.")
    name = last.input[0]
    last.input[0] = "logits"
    for node in graph.graph.node:
        node.output[:] = ["logits" if output == name else output for output in node.output]
        if node is not last:
            node.input[:] = ["logits" if given == name else given for given in node.input]
    graph.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))
    return bytes(graph.SerializeToString())


def served(
    model: Model,
    network: Callable[[Array], tuple[Array, Array]] | None = None,
    front_end: Callable[[Case], Stages] | None = None,
) -> Callable[[Case], Stages]:
    """Return a function that computes all stages as a served model does; `network`, if given,
    computes logits and scores instead.
    """
    metadata = model.metadata
    front_end = front_end or edge_front_end(metadata.spec)

    def stages(case: Case) -> Stages:
        found = dict(front_end(case))
        inputs = found[model.input]
        if network:
            found["logits"], found["scores"] = network(inputs)
        else:
            found["scores"] = np.concatenate([model.scores(batch) for batch in batches(inputs, BATCH)])
        found["label"], _ = decide(found["scores"], metadata.labels, metadata.decision)
        return found

    return stages


def implementations(model: Model, content: bytes, *, everything: bool = False) -> list[Implementation]:
    """Return all implementations for a model: transforms, optimisation levels, batch sizes, numbers
    of threads, devices.

    An int8 or fp16 variant has only one, as served, whose labels are compared. With `everything`,
    each option of the network is compared on all cases, not on every fourth or eighth.
    """
    spec = model.metadata.spec
    if variant := model.metadata.parity.get("variant"):
        return [
            Implementation(
                f"{variant}, {SERVED}", served(model), VARIANT_TOLERANCES, VARIANT_TOLERANCES, real_only=True
            )
        ]
    stages_of = graph_front_end(spec, content) if model.input == WAVEFORM else edge_front_end(spec)
    front_end = lru_cache(maxsize=1)(stages_of)  # all implementations get the same case in turn

    def network(
        name: str,
        allowed: Mapping[str, float] = TOLERANCES,
        resampled: Mapping[str, float] | None = None,
        every: int = 1,
        alone: Mapping[str, float] = NETWORK_TOLERANCES,
        **options: Any,
    ) -> Implementation:
        stages = served(model, OnnxNetwork(content, **options), front_end)
        return Implementation(f"ONNX, {name}", stages, allowed, resampled, alone, every=1 if everything else every)

    devices = [
        network(
            provider,
            {**TOLERANCES, **DEVICE_TOLERANCES},
            alone={},
            provider=(provider, CUDA_OPTIONS if provider == CUDA else {}),
        )
        for provider in onnxruntime.get_available_providers()
        if provider not in (CPU, "AzureExecutionProvider")  # the latter is a service, not a device
    ]
    return [
        Implementation("tf.signal, float64", Reference(spec, dtype="float64"), resampled=None),
        Implementation("NumPy/SciPy, float64", double_front_end(spec), resampled=None),
        Implementation(SERVED, served(model, front_end=front_end), TOLERANCES, network=NETWORK_TOLERANCES),
        network("all optimisations", resampled=RESAMPLED),
        # These use mostly the same kernels and networks cost most of the time, so they get fewer
        # cases.
        network("extended optimisations", every=4, level="ORT_ENABLE_EXTENDED"),
        network("basic optimisations", every=4, level="ORT_ENABLE_BASIC"),
        network("no optimisations", every=4, level="ORT_DISABLE_ALL"),
        network("batch 1", every=4, batch=1),
        network("batch 64, 4 threads", every=8, batch=64, threads=4),
        *devices,
    ]
