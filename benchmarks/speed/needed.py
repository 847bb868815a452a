"""Where the time of a long recording goes, next to what is physically needed for it on this core.

    python -m benchmarks.speed.needed MONO STEREO [MODEL]      a 16 kHz mono WAV and a 44.1 kHz stereo one

Every stage alone, as the program does it, beside the least that a library does of it: bytes read, one transform a frame by SciPy,
products at the speed of a large matrix product, one channel resampled. Medians of turns, in microseconds for a second of audio. Prints
JSON. Started by benchmarks.speed in the development environment, for SciPy, on one core with one thread in each library.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import soxr
from onnx import numpy_helper, shape_inference
from scipy.fft import rfft

from ms_edge.arrays import Float32
from ms_edge.audio.file import AudioFile
from ms_edge.classifier import Classifier
from ms_edge.features.frontend import BLOCK_SAMPLES, FrontEnd, mel_filterbank
from ms_edge.features.windows import batches, silent_windows

ROUNDS = 15
MATRIX = 512  # rows and columns of the product that tells the core's speed


def operations(path: str, frames: int | None = None) -> int:
    """Multiplications and additions of a model's convolutions and products, for one window, or for a run of so many frames."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    if frames:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = frames
        model.graph.output[0].type.tensor_type.shape.dim[1].Clear()
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.value_info}
    shapes |= {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.output}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    if unknown := [name for name, shape in shapes.items() if 0 in shape]:
        raise ValueError(f"{path}: the shapes of {unknown} are not known")
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += 2 * int(np.prod(shapes[node.output[0]])) * int(np.prod(weights[node.input[1]].shape[1:]))
        elif node.op_type in ("MatMul", "Gemm"):
            by = weights[node.input[1]]
            transposed = any(each.name == "transB" and each.i for each in node.attribute)
            total += 2 * int(np.prod(shapes[node.output[0]])) * by.shape[-1 if transposed else -2]
    return total


def ways(classifier: Classifier, mono: Path, stereo: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is timed: the program's stages, and of some the least that is needed."""
    spec = classifier.spec
    rate_hz, most = spec.sample_rate_hz, max(1, BLOCK_SAMPLES // spec.fft_length)

    def decoded(path: Path) -> list[Float32]:
        with AudioFile(str(path)) as audio:
            return [block.copy() for block in audio.blocks(rate_hz)]

    def bytes_of(path: Path) -> None:
        buffer = bytearray(1 << 17)
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    def consumed(path: Path) -> None:
        with AudioFile(str(path)) as audio:
            for _ in audio.blocks(rate_hz):
                pass

    blocks = decoded(mono)
    size = classifier.windows_at_a_time
    cut = [(batch.samples.copy(), batch.offsets) for batch in batches(blocks, spec, size)]
    front_end = FrontEnd(spec)
    runs = classifier.model.metadata.step_frames is not None
    scores = classifier.model.run_scores if runs else classifier.model.scores

    def featured() -> list[Float32]:
        if runs:
            return [front_end.features(samples) for samples, _ in cut]
        return [front_end.features_of_clips(samples, offsets) for samples, offsets in cut]

    features = featured()
    frames = np.lib.stride_tricks.sliding_window_view(np.concatenate(blocks), spec.frame_length)[:: spec.frame_step]
    kept = np.ones((len(frames), spec.bins), np.float32)
    square = np.random.default_rng(0).normal(size=(MATRIX, MATRIX)).astype(np.float32)
    with AudioFile(str(stereo)) as audio:
        stereo_hz = audio.sample_rate_hz
        channel = np.concatenate([block.copy() for block in audio.blocks(stereo_hz)])
    parts = [channel[at : at + (1 << 15)] for at in range(0, len(channel), 1 << 15)]

    def resampled() -> None:
        stream = soxr.ResampleStream(stereo_hz, rate_hz, 1, dtype="float32", quality="HQ")
        for part in parts:
            stream.resample_chunk(part)

    yield "whole", lambda: classifier.classify(str(mono))
    yield "stereo", lambda: classifier.classify(str(stereo))
    yield "read", lambda: consumed(mono)
    yield "read, stereo", lambda: consumed(stereo)
    yield "bytes", lambda: bytes_of(mono)
    yield "bytes, stereo", lambda: bytes_of(stereo)
    yield "resampled", resampled
    yield "windows", lambda: [silent_windows(batch) for batch in batches(blocks, spec, size)]
    yield "squares", lambda: [np.dot(block, block) for block in blocks]
    yield "spectrum", lambda: [None for samples, _ in cut for _ in front_end._blocks(samples)]
    yield "transform", lambda: [rfft(frames[at : at + most], spec.fft_length) for at in range(0, len(frames), most)]
    yield "features", featured
    yield "logarithm", lambda: [np.log(kept[at : at + most]) for at in range(0, len(kept), most)]
    yield "network", lambda: [scores(inputs) for inputs in features]
    yield "product", lambda: square @ square


def measured(classifier: Classifier, mono: Path, stereo: Path) -> dict[str, Any]:
    """`stages`: of each the microseconds it takes for a second of audio, those needed, and what for; and the core's `gflops`."""
    with AudioFile(str(mono)) as audio:
        seconds = (
            sum(len(block) for block in audio.blocks(classifier.spec.sample_rate_hz)) / classifier.spec.sample_rate_hz
        )
    todo = dict(ways(classifier, mono, stereo))
    times: dict[str, list[float]] = {name: [] for name in todo}
    for turn in range(ROUNDS + 1):
        for name, way in todo.items():
            began = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - began)
    us = {name: 1e6 * median(taken) / seconds for name, taken in times.items()}
    flops = 2 * MATRIX**3 / median(times["product"])
    spec = classifier.spec
    per_second = spec.sample_rate_hz / spec.frame_step
    mel = 2 * int(np.count_nonzero(mel_filterbank(spec))) if spec.mel else 0
    if classifier.model.metadata.step_frames is None:
        network = operations(classifier.model.path) / spec.hop_s
    else:  # what a run of windows takes, by its hops
        hops = classifier.windows_at_a_time
        frames = spec.frames(spec.clip_samples + (hops - 1) * spec.hop_samples)
        network = operations(classifier.model.path, frames) / (hops * spec.hop_s)
    rows = [
        ("read the file", us["read"], us["bytes"], "its bytes, copied"),
        ("windows, silence", us["windows"], us["squares"], "a sum of squares"),
        ("window, transform, amplitude", us["spectrum"], us["transform"], "SciPy's transform of each frame"),
        (
            "mel bands, logarithm, frames to windows",
            us["features"] - us["spectrum"],
            us["logarithm"] + 1e6 * mel * per_second / flops,
            "weights that are not zero, a logarithm",
        ),
        (
            "network",
            us["network"],
            1e6 * network / flops,
            f"{network / 1e6:,.1f} million operations, as in a large product",
        ),
    ]
    done = sum(row[1] for row in rows)
    least = sum(row[2] for row in rows)
    read = us["bytes, stereo"] + us["resampled"]
    rows += [
        ("segments, vote, the rest", us["whole"] - done, 0.0, ""),
        ("all of it", us["whole"], least, ""),
        (
            "read, mix, resample 44.1 kHz stereo instead",
            us["read, stereo"],
            read,
            "its bytes, copied; soxr of one channel",
        ),
        ("all of that", us["stereo"], least - us["bytes"] + read, ""),
    ]
    stages = {name: {"us": takes, "needed_us": needs, "needed": what} for name, takes, needs, what in rows}
    return {"gflops": flops / 1e9, "stages": stages}


def main() -> None:
    """Measure and print."""
    mono, stereo, *model = sys.argv[1:]
    print(json.dumps(measured(Classifier(*model, device="cpu"), Path(mono), Path(stereo))))


if __name__ == "__main__":
    main()
