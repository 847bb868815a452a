"""Count what the hot path costs and compare with a stored baseline; counts do not depend on how
busy a machine is.

    python -m benchmarks.speed.regression              compare with baseline.json; exit status 1 if a count has grown by 10 %
    python -m benchmarks.speed.regression --update     store the counts as the new baseline (`make bench-baseline`)

The hot path classifies two sample recordings (16 kHz mono; 44.1 kHz stereo) and streams one in
blocks of a hop, after a first time that is not counted. *calls*: calls of Python functions, and of
C functions by Python. *peak_bytes*: the most memory that Python and NumPy hold at once.
*instructions*: those of the hot path, by `valgrind --tool=cachegrind` (which hides AVX-512, so that
machines agree). *start instructions*: those of the process before that, with imports and loading.
Counts hold for the same versions and kind of processor.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tracemalloc
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import ms_edge
from ms_edge.audio.file import read_mono
from ms_edge.classifier import Classifier

ROOT = Path(__file__).parent.parent.parent
BASELINE = Path(__file__).parent / "baseline.json"
SAMPLES = [str(ROOT / "tests" / "data" / name) for name in ("music_zaz.wav", "music_crossroads_stereo.wav")]
GROWTH = 0.1  # a larger growth is a failure
REPEATS = 3  # repetitions of the hot path under valgrind, since loading varies by 0.05 % of a start


class HotPath:
    """A loaded classifier and its inputs. A call does the work once; the constructor has done it
    once before.
    """

    def __init__(self) -> None:
        self._classifier = Classifier(device="cpu")
        spec = self._classifier.spec
        samples = read_mono(SAMPLES[0], spec.sample_rate_hz)
        self._rate = spec.sample_rate_hz
        self._blocks = [samples[at : at + spec.hop_samples] for at in range(0, len(samples), spec.hop_samples)]
        self()

    def __call__(self) -> None:
        """Do the work once. Raises RuntimeError if an answer is wrong."""
        labels = [self._classifier.classify(path).label for path in SAMPLES]
        labels += [part.label for part in self._classifier.stream(self._blocks, self._rate)][:1]
        if set(labels) != {"music"}:
            raise RuntimeError(f"the hot path says {labels} of music")


def counts() -> dict[str, int]:
    """Return `calls` and `peak_bytes` of the hot path in this process."""
    work = HotPath()
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.collect()
    gc.disable()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        if not tracing:
            tracemalloc.stop()
        gc.enable()
    return {"calls": calls, "peak_bytes": peak - held}


def instructions() -> dict[str, int]:
    """Return `instructions` of the hot path and `start_instructions`, counted in two other
    processes.

    This needs valgrind and takes about a minute.
    """

    def run(repeats: int, *under: str) -> str:
        code = "import gc, os, sys; gc.disable(); from benchmarks.speed.regression import HotPath; work = HotPath()\n"
        code += "for _ in range(int(sys.argv[1])): work()\nos._exit(0)"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(Path(ms_edge.__file__).parent.parent), str(ROOT)]),
            "PYTHONHASHSEED": "0",
            "OPENBLAS_NUM_THREADS": "1",
        }
        command = [*under, sys.executable, "-c", code, str(repeats)]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, errors="replace", check=True
        ).stderr

    def counted(repeats: int) -> int:
        said = run(repeats, "valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={os.devnull}")
        return int(re.findall(r"I +refs: +([\d,]+)", said)[-1].replace(",", ""))

    run(0)  # compiles the modules to bytecode
    start = counted(0)
    return {"instructions": (counted(REPEATS) - start) // REPEATS, "start_instructions": start}


def setting() -> dict[str, str]:
    """Return the versions and the processor, on which counts depend beside the code."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": f"{platform.system()} {platform.machine()}",
        **{name: version(name) for name in ("numpy", "onnxruntime", "soundfile", "soxr")},
    }


def grown(found: dict[str, int], baseline: dict[str, int]) -> list[str]:
    """Return a sentence for each count that is over its baseline by more than GROWTH, or has no
    baseline.
    """
    said = []
    for name, count in found.items():
        before = baseline.get(name)
        if before is None:
            said.append(f"{name}: no baseline; make bench-baseline")
        elif count > (1 + GROWTH) * before:
            said.append(f"{name}: {count:,}, {count / before - 1:+.1%} over the baseline's {before:,}")
    return said


def main() -> int:
    """Count, and compare or store the counts."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.regression",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--update", action="store_true", help="store the counts as the new baseline")
    args = parser.parse_args()
    found = counts()
    if shutil.which("valgrind"):
        found |= instructions()
    else:
        print("regression: no valgrind here: instructions are not counted.", file=sys.stderr)
    stored: dict[str, Any] = json.loads(BASELINE.read_text("utf-8")) if BASELINE.exists() else {"counts": {}}
    for name, count in found.items():
        before = stored["counts"].get(name)
        print(f"{name:<20}{count:>15,}" + (f"{count / before - 1:>+9.1%}" if before else ""))
    if args.update:
        kept = {"setting": setting(), "counts": {**stored["counts"], **found}}
        BASELINE.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
        return 0
    if stored.get("setting") != setting():
        print(f"regression: counted with {stored.get('setting')}, not with {setting()}.", file=sys.stderr)
        return 1
    for sentence in (said := grown(found, stored["counts"])):
        print(f"regression: {sentence}.", file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
