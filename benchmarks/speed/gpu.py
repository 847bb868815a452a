"""Measure how fast a CUDA device scores windows with a model that takes the waveform, beside the
CPU and the copying of samples.

    python -m benchmarks.speed.gpu MODEL.onnx [--device cuda:0] [--batches 1 16 256 4096] [-o FILE.json]

MODEL is a result of `ms-export convert --input waveform`. Windows of real audio, a hop apart, are
scored in batches of a fixed size in these ways. *cpu*: the same model on one thread (a features
model, which `ms-edge benchmark` measures, is twice as fast there). On the device, *run*: from NumPy
arrays to NumPy arrays; *bound*: from memory kept on the device (I/O binding), with scores copied
back;
*graph*: the same, with the kernels launched as one CUDA graph; *moving*: only the copying of
samples to the device. Each way first scores other windows than before, and its scores must be
within the model's own tolerance of the CPU's. A way that is wrong or not available is reported and
not timed. Ways take turns. The exit status is 1 if a way is wrong or the device has no way.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.recordings import LABELS, one
from benchmarks.speed.timing import machine
from ms_edge.arrays import Float32
from ms_edge.audio.file import read_mono
from ms_edge.errors import MsEdgeError, first_line
from ms_edge.features.spec import WAVEFORM
from ms_edge.model.providers import obtained_provider, requested_providers
from ms_edge.model.session import Model, import_onnxruntime
from ms_edge.selftest.deviation import deviation
from ms_train.tables import markdown_table

SCHEMA = "ms-edge-gpu/1"
BATCHES = (1, 16, 256, 4096)
WARM_UP, SECONDS, TURNS = 5, 2.0, 10  # runs that are not counted; seconds of each way; number of turns
FEW = 1000  # fewest runs for a 99th percentile
GRAPH = {"enable_cuda_graph": "1"}

Call = Callable[[Float32], Float32]


class Bound:
    """A session with fixed input and output memory, on the CPU or a CUDA device, for one batch
    size.
    """

    def __init__(self, model: Model, device: str, options: dict[str, str], shape: tuple[int, int]) -> None:
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
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32, kind, number)
        answer = [shape[0], len(model.metadata.labels)]
        self._output = ort.OrtValue.ortvalue_from_shape_and_type(answer, np.float32, kind, number)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input(WAVEFORM, self._input)
        self._binding.bind_ortvalue_output("scores", self._output)

    def move(self, windows: Float32) -> Float32:
        """Copy windows (windows, samples) to the device."""
        self._input.update_inplace(windows)
        return windows

    def __call__(self, windows: Float32) -> Float32:
        """Copy windows to the device, run, and return the scores (windows, labels), float32."""
        self.move(windows)
        self._session.run_with_iobinding(self._binding)
        scores: Float32 = self._output.numpy()
        return scores


def ways(path: str, device: str, shape: tuple[int, int]) -> dict[str, Call | str]:
    """Return each way to score windows (windows, samples) by name, or the reason why it is not
    available.
    """
    cpu = Model.load(path, "cpu")
    made: dict[str, Callable[[], Call]] = {"cpu": lambda: cpu.scores}
    made[f"{device}, run"] = lambda: Model.load(path, device).scores
    made[f"{device}, bound"] = lambda: Bound(cpu, device, {}, shape)
    if device != "cpu":
        made[f"{device}, graph"] = lambda: Bound(cpu, device, GRAPH, shape)
    made[f"{device}, moving"] = lambda: Bound(cpu, device, {}, shape).move
    found: dict[str, Call | str] = {}
    for name, make in made.items():
        try:
            found[name] = make()
        except Exception as error:  # onnxruntime's own exceptions have no common ancestor
            found[name] = first_line(error)
    return found


def measure(path: str, device: str, windows: Float32, seconds: float = SECONDS) -> dict[str, Any]:
    """Return for each way the median and 99th percentile in ms per batch, and audio over time; or
    `absent` or `wrong`.
    """
    model = Model.load(path, "cpu")
    tolerance, audio_s = model.metadata.golden.score_tolerance, len(windows) * model.metadata.spec.hop_s
    # Two batches in turn, so that a way that keeps its first input is found.
    different = [windows, windows[::-1, ::-1] / 2, windows]
    different = [np.ascontiguousarray(each) for each in different]
    expected = [model.scores(each) for each in different]
    found: dict[str, Any] = {}
    calls: dict[str, Call] = {}
    for name, call in ways(path, device, windows.shape).items():
        if isinstance(call, str):
            found[name] = {"absent": call}
            continue
        try:
            answers = [call(each).copy() for each in different]
            for _ in range(WARM_UP):
                call(windows)
        except Exception as error:  # whether a graph can be captured is known only now
            found[name] = {"absent": first_line(error)}
            continue
        if not name.endswith("moving"):
            offs = [deviation(found, right, tolerance) for found, right in zip(answers, expected, strict=True)]
            if wrong := next((off for off in offs if not off.passed), None):
                found[name] = {"wrong": str(wrong)}
                continue
        calls[name] = call
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):  # each way has its own time, so slow ways do not limit the runs of fast ways
        for name, call in calls.items():
            ends = time.perf_counter() + seconds / TURNS
            while not times[name] or time.perf_counter() < ends:
                began = time.perf_counter()
                call(windows)
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
    """Return windows of speech and music, (count, samples), float32, a hop apart, repeated as
    needed.
    """
    spec = model.metadata.spec
    audio = np.concatenate([read_mono(one(folder, label).path, spec.sample_rate_hz) for label in LABELS])
    starts = range(0, len(audio) - spec.clip_samples + 1, spec.hop_samples)
    different = np.stack([audio[start : start + spec.clip_samples] for start in starts])
    return np.ascontiguousarray(different[np.arange(count) % len(different)])


def table(found: dict[str, Any]) -> str:
    """Return a Markdown table with a row for each batch size and way."""
    lines = []
    for batch, of_batch in found["batches"].items():
        for name, one_way in of_batch.items():
            if "p50_ms" in one_way:
                late = f"{one_way['p99_ms']:.3f}" if one_way["n"] >= FEW else ""
                cells = [f"{one_way['n']:,}", f"{one_way['p50_ms']:.3f}", late, f"{one_way['times_real_time']:,}"]
            else:
                cells = [" ".join(f"{what}: {why}" for what, why in one_way.items()), "", "", ""]
            lines.append([batch, name, *cells])
    return markdown_table(("windows", "way", "runs", "ms, median", "p99", "x real time"), lines)


def gpu() -> str:
    """Return the name and driver of the GPU, if there is one."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write JSON if asked; return 1 if a way is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu to try the script (default: cuda:0)")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, metavar="N")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="seconds for each way and batch size (default: 2)"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="FILE.json")
    args = parser.parse_args(arguments)
    device = args.device.lower()
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        parser.error(f"--device must be cuda, cuda:N or cpu, not {args.device}")
    if min(args.batches) < 1 or not args.seconds > 0:
        parser.error("--batches and --seconds must be over 0")
    if args.out and not args.out.parent.is_dir():
        parser.error(f"{args.out.parent}: no such folder")
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
    core = sorted(os.sched_getaffinity(0))[-1:]
    os.sched_setaffinity(0, core)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine(core),
        "gpu": gpu(),
        "onnxruntime": ort.__version__,
        "model": model.sha256,
        "batches": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for batch in args.batches:
            windows = real_windows(model, batch, Path(folder))
            found["batches"][str(batch)] = measure(args.model, device, windows, args.seconds)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(table(found))
    measured = [item for of_batch in found["batches"].values() for item in of_batch.items()]
    on_device = [way for name, way in measured if name.startswith(f"{device}, ")]
    return int(any("wrong" in way for _, way in measured) or all("absent" in way for way in on_device))


if __name__ == "__main__":
    sys.exit(main())
