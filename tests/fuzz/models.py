"""Load mutated model files and run what is accepted; look for crashes, hangs and invalid scores.

`python tests/fuzz/models.py --inputs 10000` changes model files at random (`onnx_mutations`) and loads
each result in a worker process, which may die. It needs onnxruntime and NumPy alone, so that it also
runs in an environment with the oldest onnxruntime. It prints what happened for each file, saves a
small file for every finding, and exits with status 1 if there is one.

A model is refused with a ModelError of one sentence, or it gives scores for windows, and for a run
of windows, which are probabilities. The memory of the worker is limited.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from onnx_mutations import OUTSIDE, mutated_model
from workers import LIMIT_BYTES, Outcome, Worker, command_line, peak_bytes

from ms_edge.errors import ERROR_CODES, ModelError
from ms_edge.model.session import BUNDLED, Model, import_onnxruntime, input_shape

ROOT = Path(__file__).parents[2]
MODELS = (ROOT / "tests/data/steps.onnx", BUNDLED, BUNDLED.with_name("music-speech-0.1.onnx"))
LIMIT_S = 60.0  # wall time for one input
LIMIT_CPU_S = 10.0  # processor time for one input
MOST_BYTES = 2 << 30  # address space that one input may add
MOST_FEATURES = 1 << 22  # values of a window: a model whose metadata says more is not run
WINDOWS = 3


class _Loader:
    """Loads and runs models in a worker process, and checks what they do to the process."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "model.onnx")
        Path(folder, OUTSIDE).write_bytes(bytes(1 << 20))  # a model that could read it would find values
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        self.outcome(MODELS[0].read_bytes())  # what is loaded at first use stays
        (kilobytes,) = re.findall(r"^VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
        most = (int(kilobytes) << 10) + MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def outcome(self, content: bytes, suffix: str = "") -> Outcome:
        """Return what became of one input."""
        Path(self._path).write_bytes(content)
        began, cpu_s, peak = time.monotonic(), time.process_time(), peak_bytes()
        result, kind, problem = "loaded", "classified", None
        try:
            problem = self._run(Model.load(self._path, "cpu"))
            if not problem and OUTSIDE.encode() + b"\x70\x01" in content:
                problem = "external: a model that names another file was loaded"
        except ModelError as error:
            result, kind, message = error.code, "refused", str(error)
            if error.code not in ERROR_CODES or not message.endswith(".") or "\n" in message:
                problem = f"message: {error.code}: {message!r}"
        except Exception as error:
            problem = f"exception: {type(error).__name__}: {error}"
        seconds, grown, cpu_s = time.monotonic() - began, peak_bytes() - peak, time.process_time() - cpu_s
        if grown > LIMIT_BYTES:
            problem = problem or f"memory: {grown >> 20} MB for {len(content)} bytes"
        if cpu_s > LIMIT_CPU_S:
            problem = problem or f"slow: {cpu_s:.1f} s for {len(content)} bytes"
        return Outcome(result, kind, problem, seconds, grown)

    def _run(self, model: Model) -> str | None:
        """Run a model; return which rule its scores break, or None."""
        metadata = model.metadata
        shape = input_shape(metadata.spec, model.input)
        if np.prod(shape, dtype=float) > MOST_FEATURES:
            return None
        values = np.random.default_rng(0).standard_normal((WINDOWS, *shape), np.float32)
        found = [model.scores(values[:1]), model.scores(values)]
        if metadata.step_frames:
            found.append(model.run_scores(values.reshape(-1, shape[-1])))
        for scores in found:
            if scores.shape[1:] != (len(metadata.labels),) or not np.all((scores >= 0) & (scores <= 1)):
                return f"scores: {scores.shape}, {scores[:3]}"
        return None


def seeds_of(pattern: str = "*") -> dict[str, bytes]:
    """Return the model files whose names match."""
    return {path.name: path.read_bytes() for path in MODELS if fnmatch(path.name, pattern)}


@contextlib.contextmanager
def loading_worker(limit_s: float = LIMIT_S) -> Iterator[Worker]:
    """Return a worker that loads models."""
    import_onnxruntime()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        worker = Worker(lambda: _Loader(folder).outcome, limit_s)
        try:
            yield worker
        finally:
            worker.end()


def main() -> int:
    """Run from the command line."""
    print(f"onnxruntime {import_onnxruntime().__version__}, Python {sys.version.split()[0]}")
    return command_line(__doc__, seeds_of, mutated_model, loading_worker, None)


if __name__ == "__main__":
    sys.exit(main())
