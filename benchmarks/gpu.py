"""What a CUDA device makes of a model that takes the waveform, beside the CPU and beside moving the samples there, which no way avoids.

    python -m benchmarks.gpu MODEL.onnx [--device cuda:0] [--batches 1 16 256 4096] [-o FILE.json]

MODEL is one of `ms-export convert --input waveform`. Real windows are scored in batches of a fixed size: *cpu*, one thread; on the
device, *run*: NumPy in, NumPy out; *bound*: into memory kept there (I/O binding), scores brought back; *graph*: the same, the kernels
launched as one CUDA graph; *moving*: the samples copied there, and nothing else. Scores within the model's own tolerance of the CPU's
come first: a way that is wrong or cannot be had is reported as that, and not timed. Ways take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.recordings import LABELS, one
from benchmarks.timing import machine
from ms_edge.audio import read_mono
from ms_edge.compare import deviation
from ms_edge.errors import MsEdgeError
from ms_edge.model import Model, import_onnxruntime
from ms_edge.providers import obtained_provider, requested_providers
from ms_edge.spec import WAVEFORM

SCHEMA = "ms-edge-gpu/1"
BATCHES = (1, 16, 256, 4096)
WARM_UP, SECONDS, MOST = 5, 2.0, 2000  # runs that are not counted; seconds and runs of each way at most
GRAPH = {"enable_cuda_graph": "1"}

Float32 = NDArray[np.float32]
Call = Callable[[], Float32]


class Bound:
    """A session whose input and output stay where they are, on the CPU or a CUDA device: for one batch size."""

    def __init__(self, model: Model, device: str, options: dict[str, str], windows: Float32) -> None:
        ort: Any = import_onnxruntime()
        kind, _, index = device.partition(":")
        number = int(index or 0)
        [asked] = requested_providers(device, ort.get_available_providers())
        provider = asked if isinstance(asked, str) else (asked[0], {**asked[1], **options})
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        self._session = ort.InferenceSession(model.path, settings, providers=[provider], enable_fallback=0)
        obtained_provider([provider], self._session.get_providers())
        self._windows = windows
        self._input = ort.OrtValue.ortvalue_from_numpy(windows, kind, number)
        shape = [len(windows), len(model.metadata.labels)]
        self._output = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, kind, number)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input(WAVEFORM, self._input)
        self._binding.bind_ortvalue_output("scores", self._output)

    def move(self) -> Float32:
        """Copy the windows to the device."""
        self._input.update_inplace(self._windows)
        return self._windows

    def __call__(self) -> Float32:
        """Copy the windows to the device, run, and bring the scores back, (windows, labels) float32."""
        self.move()
        self._session.run_with_iobinding(self._binding)
        scores: Float32 = self._output.numpy()
        return scores


def ways(path: str, device: str, windows: Float32) -> dict[str, Call | str]:
    """Every way to score the windows by its name, or why it cannot be had."""
    cpu = Model.load(path, "cpu")

    def run() -> Call:
        model = Model.load(path, device)
        return lambda: model.scores(windows)

    made: dict[str, Callable[[], Call]] = {"cpu": lambda: lambda: cpu.scores(windows)}
    made[f"{device}, run"] = run
    made[f"{device}, bound"] = lambda: Bound(cpu, device, {}, windows)
    if device != "cpu":
        made[f"{device}, graph"] = lambda: Bound(cpu, device, GRAPH, windows)
    made[f"{device}, moving"] = lambda: Bound(cpu, device, {}, windows).move
    found: dict[str, Call | str] = {}
    for name, make in made.items():
        try:
            found[name] = make()
        except Exception as error:  # onnxruntime's own exceptions have no common ancestor
            found[name] = str(error).strip().splitlines()[0][:200]
    return found


def measure(path: str, device: str, windows: Float32, seconds: float = SECONDS) -> dict[str, Any]:
    """Of each way the median and 99th percentile of milliseconds a batch, and audio over time; or `absent`, or `wrong`."""
    model = Model.load(path, "cpu")
    expected, tolerance = model.scores(windows), model.metadata.golden.score_tolerance
    audio_s = len(windows) * model.metadata.spec.clip_s
    found: dict[str, Any] = {}
    calls: dict[str, Call] = {}
    for name, call in ways(path, device, windows).items():
        if isinstance(call, str):
            found[name] = {"absent": call}
            continue
        try:
            answers = [call() for _ in range(WARM_UP)]
        except Exception as error:  # a graph that cannot be captured is known when it is
            found[name] = {"absent": str(error).strip().splitlines()[0][:200]}
            continue
        if not name.endswith("moving"):
            offs = [deviation(scores, expected, tolerance) for scores in answers]
            if wrong := next((off for off in offs if not off.passed), None):
                found[name] = {"wrong": str(wrong)}
                continue
        calls[name] = call
    times: dict[str, list[float]] = {name: [] for name in calls}
    ends = time.perf_counter() + seconds * len(calls)
    while calls and time.perf_counter() < ends and len(next(iter(times.values()))) < MOST:
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    for name, taken in times.items():
        middle, late = np.percentile(taken, (50, 99))
        found[name] = {
            "n": len(taken),
            "p50_ms": round(float(middle) * 1000, 4),
            "p99_ms": round(float(late) * 1000, 4),
            "times_real_time": round(audio_s / float(middle)),
        }
    return found


def real_windows(model: Model, count: int, folder: Path) -> Float32:
    """So many windows of speech and music, (count, samples) float32, half a second apart, over and over."""
    spec = model.metadata.spec
    audio = np.concatenate([read_mono(one(folder, label).path, spec.sample_rate_hz) for label in LABELS])
    starts = range(0, len(audio) - spec.clip_samples + 1, spec.sample_rate_hz // 2)
    different = np.stack([audio[start : start + spec.clip_samples] for start in starts])
    return np.ascontiguousarray(different[np.arange(count) % len(different)])


def table(found: dict[str, Any]) -> str:
    """Markdown: a row for each batch size and way."""
    lines = ["| windows | way | ms, median | p99 | x real time |", "|---|---|---|---|---|"]
    for batch, of_batch in found["batches"].items():
        for name, one_way in of_batch.items():
            if "p50_ms" in one_way:
                cells = f"{one_way['p50_ms']:.3f} | {one_way['p99_ms']:.3f} | {one_way['times_real_time']:,}"
            else:
                cells = " | ".join([" ".join(f"{what}: {why}" for what, why in one_way.items()), "", ""])
            lines.append(f"| {batch} | {name} | {cells} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write JSON where it is wanted; 1 where a way is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu to try the script (default: cuda:0)")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, metavar="N")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each way and batch size (default: 2)")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE.json")
    args = parser.parse_args(arguments)
    try:
        model = Model.load(args.model, "cpu")
    except MsEdgeError as error:
        print(f"gpu: {error}", file=sys.stderr)
        return 2
    if model.input != WAVEFORM:
        print(
            f"gpu: {args.model}: takes {model.input}; ms-export convert --input waveform makes another.",
            file=sys.stderr,
        )
        return 2
    ort: Any = import_onnxruntime()
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine(sorted(os.sched_getaffinity(0))[-1:]),
        "onnxruntime": ort.__version__,
        "model": model.sha256,
        "batches": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for batch in args.batches:
            windows = real_windows(model, batch, Path(folder))
            found["batches"][str(batch)] = measure(args.model, args.device, windows, args.seconds)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(table(found))
    return int(any("wrong" in way for ways_of in found["batches"].values() for way in ways_of.values()))


if __name__ == "__main__":
    sys.exit(main())
