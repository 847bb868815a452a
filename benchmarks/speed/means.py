"""What each means of being fast brings: the program's way beside others, taking turns on one core.

    python -m benchmarks.speed.means [--model FILE] [--seconds 2]

Of the front end and the network microseconds for a second of audio, of starting milliseconds; each beside the program's way, as a
ratio. Every other way has to give the same numbers, or is marked as giving others: then it is another model's, not another way.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.recordings import both
from benchmarks.speed.tables import table
from ms_edge.arrays import Float32
from ms_edge.audio.file import read_mono
from ms_edge.classifier import BATCH_S
from ms_edge.features import frontend
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.spec import FrontEndSpec
from ms_edge.model.session import Model, import_onnxruntime

AUDIO_S = 30.0
SAME = 1e-4  # of features and of scores

Ways = dict[str, Callable[[], Any]]


class Plain(FrontEnd):
    """All frames at once, each step into fresh memory."""

    def _blocks(self, samples: Float32) -> Iterator[tuple[slice, Float32]]:
        spec = self.spec
        framed = np.lib.stride_tricks.sliding_window_view(samples, self._seen)[:: spec.frame_step]
        yield slice(0, len(framed)), np.abs(np.fft.rfft(framed * self._window, spec.fft_length))


class Scipy(FrontEnd):
    """SciPy's transform in place of NumPy's."""

    def _blocks(self, samples: Float32) -> Iterator[tuple[slice, Float32]]:
        from scipy.fft import rfft

        spec = self.spec
        framed = np.lib.stride_tricks.sliding_window_view(samples, self._seen)[:: spec.frame_step]
        most = max(1, frontend.BLOCK_SAMPLES // spec.fft_length)
        for start in range(0, len(framed), most):
            rows = slice(start, min(start + most, len(framed)))
            yield rows, np.abs(rfft(framed[rows] * self._window, spec.fft_length))


class OneProduct(FrontEnd):
    """All mel bands in one product with all bins, most of whose weights are zero."""

    def __init__(self, spec: FrontEndSpec) -> None:
        super().__init__(spec)
        self._bands = [(slice(None), slice(None), frontend.mel_filterbank(spec))]


class Sparse(FrontEnd):
    """The mel bands as a sparse product."""

    def __init__(self, spec: FrontEndSpec) -> None:
        from scipy.sparse import csr_array

        super().__init__(spec)
        self._weights = csr_array(frontend.mel_filterbank(spec).T)

    def _frames(self, samples: Float32) -> Float32:
        assert self._floor is not None
        parts = [np.ascontiguousarray((self._weights @ spectrum.T).T) for _, spectrum in self._blocks(samples)]
        return np.log(np.concatenate(parts) + self._floor)


def front_ends(spec: FrontEndSpec, audio: Float32) -> Ways:
    """Ways to the features of overlapping windows."""
    starts = np.arange(0, len(audio) - spec.clip_samples + 1, spec.hop_samples)

    def of(made: FrontEnd, block: int | None = None) -> Callable[[], Any]:
        def way() -> Any:
            kept = frontend.BLOCK_SAMPLES
            frontend.BLOCK_SAMPLES = block or kept
            try:
                return made.features_of_clips(audio, starts)
            finally:
                frontend.BLOCK_SAMPLES = kept

        return way

    ours = FrontEnd(spec)
    ways: Ways = {
        "as it is: blocks that fit the cache, buffers used again, frames shared by windows": of(ours),
        "blocks a quarter as large": of(ours, frontend.BLOCK_SAMPLES // 4),
        "blocks four times as large": of(ours, frontend.BLOCK_SAMPLES * 4),
        "all frames at once, fresh memory": of(Plain(spec)),
        "every window by itself": lambda: np.stack([ours.features(audio[at:][: spec.clip_samples]) for at in starts]),
        "SciPy's transform (its import not counted)": of(Scipy(spec)),
    }
    if spec.mel:
        ways["all mel bands in one product"] = of(OneProduct(spec))
        ways["mel bands as a sparse product"] = of(Sparse(spec))
    for step_ms in (10, 16):
        ways[f"a frame every {step_ms} ms"] = of(
            FrontEnd(replace(spec, frame_step=spec.sample_rate_hz * step_ms // 1000))
        )
    return ways


def networks(model: Model, inputs: Float32) -> Ways:
    """Ways through the network."""
    ort: Any = import_onnxruntime()

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    ready = ort.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])

    def batched(size: int) -> Callable[[], Any]:
        return lambda: np.concatenate(
            [ready.run(["scores"], {model.input: inputs[at : at + size]})[0] for at in range(0, len(inputs), size)]
        )

    ours = int(BATCH_S / model.metadata.spec.clip_s)
    ways: Ways = {f"as it is: {ours} windows at a time": batched(ours)}
    ways |= {f"{size} at a time": batched(size) for size in (1, 4, 16, 128) if size != ours}
    return ways


def starts(model: Model, folder: Path) -> Ways:
    """Ways to get a session from the model's bytes."""
    ort: Any = import_onnxruntime()
    content = Path(model.path).read_bytes()

    def written(name: str, level: Any) -> bytes:
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(folder / name)
        options.log_severity_level = 4
        ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return (folder / name).read_bytes()

    optimised = written("optimised.onnx", ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    ort_format = written("optimised.ort", ort.GraphOptimizationLevel.ORT_ENABLE_ALL)

    def opened(given: bytes, level: Any = None) -> Callable[[], Any]:
        def way() -> Any:
            options = ort.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 4
            if level is not None:
                options.graph_optimization_level = level
            return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])

        return way

    none = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return {
        "as it is: an ONNX file, optimised as it is loaded": opened(content),
        "not optimised": opened(content, none),
        "an ONNX file optimised before": opened(optimised, none),
        "ORT format, optimised before (for one kind of machine)": opened(ort_format),
    }


def timed(ways: Ways, seconds: float, per: float) -> list[list[str]]:
    """Rows: way, median in `per` seconds, and over that of the first way."""
    answers = {name: way() for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    ends = time.perf_counter() + seconds * len(ways)
    while time.perf_counter() < ends:
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    medians = {name: float(np.median(taken)) / per for name, taken in times.items()}
    first = next(iter(ways))
    rows = []
    for name, median in medians.items():
        found, expected = answers[name], answers[first]
        same = not isinstance(found, np.ndarray) or (
            found.shape == expected.shape and np.allclose(found, expected, rtol=0, atol=SAME)
        )
        rows.append([name + ("" if same else " (other numbers)"), f"{median:.3g}", f"{median / medians[first]:.2f}"])
    return rows


def main() -> int:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.means",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", help="instead of the bundled one; it has to take features")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way (default: 2)")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # the libraries' threads have begun: one core for all
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    model = Model.load(args.model, "cpu")
    spec = model.metadata.spec
    with tempfile.TemporaryDirectory() as folder:
        audio = read_mono(both(Path(folder), AUDIO_S).path, spec.sample_rate_hz)
        inputs = np.stack([FrontEnd(spec).features(part) for part in _clips(audio, spec)])
        print(f"Front end, us for a second of audio, windows every {spec.hop_s:g} s:\n")
        print(table(["", "us", "ratio"], timed(front_ends(spec, audio), args.seconds, 1e-6 * AUDIO_S)))
        print(f"Network, us for a window of {spec.clip_s:g} s:\n")
        print(table(["", "us", "ratio"], timed(networks(model, inputs), args.seconds, 1e-6 * len(inputs))))
        print("A session from the model's bytes, ms:\n")
        print(table(["", "ms", "ratio"], timed(starts(model, Path(folder)), args.seconds, 1e-3)))
    return 0


def _clips(audio: Float32, spec: FrontEndSpec) -> list[Float32]:
    """128 windows."""
    starts_at = range(0, len(audio) - spec.clip_samples + 1, spec.hop_samples)
    found = [audio[at:][: spec.clip_samples] for at in starts_at]
    return [found[index % len(found)] for index in range(128)]


if __name__ == "__main__":
    sys.exit(main())
