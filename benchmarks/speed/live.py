"""Measure the processor time of one live stream: 48 kHz stereo, at the pace of real time.

    python -m benchmarks.speed.live RECORDING [--seconds 600] [--command stream|monitor] [-o FILE.json]

RECORDING is played again and again into standard input of `ms-edge stream` (or `monitor`) as 16-bit
samples, 1024 frames at a time, as a sound card or FFmpeg delivers them. The first seconds count as
start-up: loading the program and the model. The rest is divided by its duration: the share of a core
that the stream takes. Needs Linux, whose scheduler counts the nanoseconds of each thread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import soxr

from ms_edge.audio.file import read_mono

RATE_HZ, CHANNELS, BLOCK = 48_000, 2, 1024
START_UP_S = 10.0


def main() -> int:
    """Measure, print the result, and write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recording", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0, help="duration to measure (default: 600)")
    parser.add_argument("--command", choices=["stream", "monitor"], default="stream")
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    found = {"command": args.command, **measured(args.recording, args.command, args.seconds)}
    print(
        f"{args.command}: {found['cpu_s']:.2f} s of processor time in {found['seconds']:.0f} s: "
        f"{100 * found['share']:.3f} % of a core; start-up {found['start_up_cpu_s']:.2f} s, "
        f"{found['events']} events, {found['memory_mb']:.0f} MB"
    )
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(recording: Path, command: str, seconds: float) -> dict[str, float]:
    """Return the processor time of a stream, and of its start-up, in seconds."""
    mono = soxr.resample(read_mono(recording, 16_000), 16_000, RATE_HZ)
    stereo = np.repeat((32_767 * mono).astype("<i2")[:, np.newaxis], CHANNELS, axis=1)
    blocks = cycle([stereo[at : at + BLOCK].tobytes() for at in range(0, len(stereo) - BLOCK, BLOCK)])
    program = [sys.executable, "-m", "ms_edge.cli", command, "--raw", f"{RATE_HZ}:{CHANNELS}:s16le"]
    with subprocess.Popen(
        [*program, "--format", "jsonl", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        began, frames, start_up = time.monotonic(), 0, None
        while frames < (START_UP_S + seconds) * RATE_HZ:
            wait = began + frames / RATE_HZ - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            process.stdin.write(next(blocks))
            process.stdin.flush()
            frames += BLOCK
            if start_up is None and frames >= START_UP_S * RATE_HZ:
                start_up, measured_from = processor_s(process.pid), frames
        total = processor_s(process.pid)
        memory_mb = peak_mb(process.pid)
        process.stdin.close()
        events = len(process.stdout.read().splitlines())
    assert start_up is not None
    duration_s = (frames - measured_from) / RATE_HZ
    return {
        "seconds": duration_s,
        "cpu_s": total - start_up,
        "share": (total - start_up) / duration_s,
        "start_up_cpu_s": start_up,
        "events": events,
        "memory_mb": memory_mb,
    }


def processor_s(pid: int) -> float:
    """Return the processor time of all threads of a process, in seconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


def peak_mb(pid: int) -> float:
    """Return the largest memory that a process has used, in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
