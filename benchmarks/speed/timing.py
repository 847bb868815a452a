"""Time processes: whole commands, and workers that answer each line with a line.

Each process is pinned to cores, with one thread in each library.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TIMEOUT_S = 300.0  # seconds for one file
LIBRARIES = ("OMP", "OPENBLAS", "MKL")
ONE_THREAD = {
    **{f"{library}_NUM_THREADS": "1" for library in LIBRARIES},
    **{f"TF_NUM_{kind}OP_THREADS": "1" for kind in ("INTRA", "INTER")},
}
# On Linux, a process inherits the largest memory of its parent, so a small process starts the
# measured one. Smaller values than that process's few MB cannot be measured.
LAUNCHER = """
import json, os, signal, sys, time
out, cores, most, *command = sys.argv[1:]
os.sched_setaffinity(0, map(int, cores.split(",")))
began = time.perf_counter()
pid = os.posix_spawnp(command[0], command, os.environ)
signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
signal.setitimer(signal.ITIMER_REAL, float(most))
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - began
with open(out, "w") as file:
    facts = usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
    json.dump([wall, *facts], file)
"""


class BrokenError(Exception):
    """A process failed or gave a wrong answer."""


@dataclass(frozen=True)
class Done:
    """A finished command: seconds from start to end, peak memory in bytes, printed lines, CPU
    seconds.
    """

    wall_s: float
    peak_bytes: int
    lines: list[str]
    cpu_s: float = 0.0


def environment(**more: str) -> dict[str, str]:
    """Return the environment of child processes: no Python variables of this process, one thread in
    each library.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "TF_CPP_MIN_LOG_LEVEL": "3", **ONE_THREAD, **more}


def whole(command: Sequence[str], given: str, cores: Sequence[int], env: Mapping[str, str]) -> Done:
    """Run a command to its end. Raises BrokenError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured"
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(out), ",".join(map(str, cores)), str(TIMEOUT_S)]
        done = subprocess.run([*launcher, *command], input=given, capture_output=True, text=True, env=dict(env))
        if not out.exists():
            raise BrokenError(_last(done.stderr))
        wall_s, peak_bytes, code, cpu_s = json.loads(out.read_text("utf-8"))
    if code and wall_s >= TIMEOUT_S:
        raise BrokenError(f"no end after {TIMEOUT_S:g} s")
    if code:
        raise BrokenError(f"exit status {code}: {_last(done.stderr)}")
    return Done(wall_s, peak_bytes, done.stdout.splitlines(), cpu_s)


class Worker:
    """A process that answers each line with a line until the end of a `with` block."""

    def __init__(self, command: Sequence[str], cores: Sequence[int], env: Mapping[str, str]) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, env=dict(env)
        )
        os.sched_setaffinity(self._process.pid, cores)

    def ask(self, line: str) -> tuple[float, str]:
        """Return the seconds until the answer, and the answer. Raises BrokenError if there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Timer(TIMEOUT_S, self._process.kill)
        late.start()
        began = time.perf_counter()
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        taken_s = time.perf_counter() - began
        late.cancel()
        if not answer:
            self._said.seek(0)
            raise BrokenError(_last(self._said.read()))
        return taken_s, answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return the median, the quartiles and the number of values."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {"n": len(values), "median": middle, "q1": low, "q3": high}


def pace(cores: Sequence[int]) -> float:
    """Return the median seconds of a fixed piece of work, which shows whether the machine keeps its
    pace.
    """
    kept, times = os.sched_getaffinity(0), []
    frames = np.random.default_rng(0).normal(size=(200, 400)).astype(np.float32)
    os.sched_setaffinity(0, cores)
    try:
        for _ in range(100):
            began = time.perf_counter()
            for _ in range(4):
                np.fft.rfft(frames)
            times.append(time.perf_counter() - began)
    finally:
        os.sched_setaffinity(0, kept)
    return statistics.median(times)


def machine(cores: Sequence[int]) -> dict[str, Any]:
    """Return a description of this machine."""
    cpu = platform.processor() or platform.machine()
    memory = 0
    for path, name in (("/proc/cpuinfo", "model name"), ("/proc/meminfo", "MemTotal")):
        try:
            line = next(line for line in Path(path).read_text("utf-8").splitlines() if line.startswith(name))
        except (OSError, StopIteration):
            continue
        value = line.partition(":")[2].strip()
        cpu, memory = (value, memory) if name == "model name" else (cpu, int(value.split()[0]) * 1024)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "pinned_to": list(cores),
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "load_before": os.getloadavg()[0],
    }


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no word"])[-1][:200]
