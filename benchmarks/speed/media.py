"""Measure what ms-edge costs on AAC in MP4, beside `ffmpeg` and beside the same audio as WAV.

    python -m benchmarks.speed.media -o build/media --before DIR [--to docs/benchmarks/media.json]

All commands run on one core, one after another in turns, every other turn in reverse, with one
thread in each library; the results are medians. *ratio*: ms-edge on ten minutes of 44.1 kHz stereo
AAC in MP4, over the sum of `ffmpeg -i x.m4a -f null -` and of ms-edge on the same audio as WAV, in
each turn. It is measured with both ways to run FFmpeg: PyAV and the program. *before*: WAV and FLAC
with the checkout of an earlier commit in DIR (`git worktree add DIR COMMIT`), in the same turns, and
the ratios to them. *memory*, for `--hours` of the same AAC: the largest resident sets of ms-edge and
of the decoder that it starts, and the largest sum of their proportional sets at any one time, which
counts the libraries that they share once. Other programs with these libraries make it smaller.

Times are those on the clock (`wall_s`) and those of the processor (`cpu_s`, with child processes).
Other programs on the machine change the second less, and hardly at all if Linux lets this run before
them: `chrt -r 10 python -m benchmarks.speed.media ...`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import soundfile

from benchmarks.speed.recordings import both
from benchmarks.speed.timing import BrokenError, Done, environment, machine, whole

ROOT = Path(__file__).parent.parent.parent
MINUTES = 10.0
ENCODER = ("-c:a", "aac", "-b:a", "128k")
RATIO_BAR, MEMORY_BAR = 1.1, 120e6
CLOCKS = ("wall_s", "cpu_s")
VARIANTS = ("pyav", "ffmpeg")
RUN = "import sys; {}from ms_edge.cli.main import command; sys.exit(command())"
WITHOUT_PYAV = "sys.modules['av'] = None; "
POLL_S = 0.1  # between two looks at the memory of the processes


def main() -> int:
    """Measure and print or write the results. The exit status is 1 if a bar is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.media",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the audio")
    parser.add_argument("--before", type=Path, help="checkout of an earlier commit, for WAV and FLAC")
    parser.add_argument("--to", type=Path, help="the JSON file to write")
    parser.add_argument("--repeat", type=int, default=7, help="turns (default: 7)")
    parser.add_argument(
        "--hours", type=float, default=10.0, help="length of the long recording; 0 for none (default: 10)"
    )
    args = parser.parse_args()
    out = args.out.resolve()
    core = sorted(os.sched_getaffinity(0))[-1:]
    files = _files(out)
    try:
        found: dict[str, Any] = {
            "measured": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine(core),
            "ffmpeg": subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True).stdout.split()[2],
            "audio_s": MINUTES * 60,
            **times(files, args.before, core, args.repeat),
        }
        if args.hours:
            long = _repeated(files["m4a"], args.hours)
            found["memory"] = {
                "audio_s": args.hours * 3600,
                **{name: memory(_ours(ROOT, long, name == "ffmpeg"), core) for name in VARIANTS},
            }
    except BrokenError as error:
        print(f"media: {error}", file=sys.stderr)
        return 1
    text = json.dumps(found, indent=1) + "\n"
    print(text, end="")
    if args.to:
        args.to.write_text(text, "utf-8")
    missed = 0
    for name, ratio in found["ratio"].items():
        missed += ratio["cpu_s"] > RATIO_BAR
        print(f"ratio, {name}: {ratio['cpu_s']:.3f} (bar {RATIO_BAR})", file=sys.stderr)
    for name, ratio in found["to_before"].items():
        print(f"{name} to before: {ratio['cpu_s']:.3f}", file=sys.stderr)
    for name in VARIANTS if args.hours else ():
        used = found["memory"][name]
        missed += used["at_once_bytes"] > MEMORY_BAR
        print(f"memory, {name}: {used['at_once_bytes'] / 1e6:.0f} MB (bar {MEMORY_BAR / 1e6:.0f})", file=sys.stderr)
    return int(missed > 0)


def _files(out: Path) -> dict[str, Path]:
    """Make ten minutes of 44.1 kHz stereo as WAV, FLAC and AAC in MP4, unless they exist."""
    wav = both(out, MINUTES * 60, "stereo44").path
    files = {"wav": wav, "flac": wav.with_suffix(".flac"), "m4a": wav.with_suffix(".m4a")}
    for kind, options in (("flac", ()), ("m4a", ENCODER)):
        if not files[kind].exists():
            subprocess.run(["ffmpeg", "-v", "error", "-i", str(wav), *options, str(files[kind])], check=True)
    return files


def _repeated(path: Path, hours: float) -> Path:
    """Return the file with the audio of another one, repeated without decoding it, up to a length."""
    long = path.with_stem(f"{path.stem}-{hours:g}h")
    if not long.exists():
        loops = ["-stream_loop", "-1", "-i", str(path), "-t", f"{hours * 3600:g}", "-c", "copy"]
        subprocess.run(["ffmpeg", "-v", "error", *loops, str(long)], check=True)
    return long


def _ours(checkout: Path, path: Path, without_pyav: bool = False) -> list[str]:
    """Return the command `ms-edge classify PATH` with the code of a checkout."""
    code = RUN.format(WITHOUT_PYAV if without_pyav else "")
    setting = f"PYTHONPATH={checkout / 'edge'}"
    return ["env", setting, sys.executable, "-c", code, "classify", "--format", "jsonl", "-j1", str(path)]


def times(files: dict[str, Path], before: Path | None, core: list[int], repeat: int) -> dict[str, Any]:
    """Return the median times of each command, run in turns, and the medians of the ratios."""
    decode = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-i", str(files["m4a"]), "-f", "null", "-"]
    commands = {
        "ffmpeg": decode,
        "wav": _ours(ROOT, files["wav"]),
        "flac": _ours(ROOT, files["flac"]),
        "m4a, pyav": _ours(ROOT, files["m4a"]),
        "m4a, ffmpeg": _ours(ROOT, files["m4a"], without_pyav=True),
    }
    if before:
        commands |= {f"{kind}, before": _ours(before.resolve(), files[kind]) for kind in ("wav", "flac")}
    runs: dict[str, list[Done]] = {name: [] for name in commands}
    for turn in range(repeat + 1):
        for name in list(commands)[:: -1 if turn % 2 else 1]:
            done = whole(commands[name], "", core, environment())
            if name != "ffmpeg":
                _require_classified(name, done.lines, soundfile.info(files["wav"]).duration)
            if turn:  # the first turn fills caches
                runs[name].append(done)
    kinds = ("wav", "flac") if before else ()
    return {
        "times": {name: _medians(done) for name, done in runs.items()},
        "ratio": {name: _ratios(runs, f"m4a, {name}", "ffmpeg", "wav") for name in VARIANTS},
        "to_before": {kind: _ratios(runs, kind, f"{kind}, before") for kind in kinds},
    }


def _medians(done: list[Done]) -> dict[str, float]:
    return {clock: statistics.median(getattr(run, clock) for run in done) for clock in CLOCKS}


def _ratios(runs: dict[str, list[Done]], ours: str, *others: str) -> dict[str, float]:
    """Return the medians over all turns of the time of a command over the sum of those of others."""
    return {
        clock: statistics.median(
            getattr(own, clock) / sum(getattr(each, clock) for each in rest)
            for own, *rest in zip(*(runs[name] for name in (ours, *others)), strict=True)
        )
        for clock in CLOCKS
    }


def _require_classified(name: str, lines: list[str], seconds: float) -> None:
    record = json.loads(lines[0])
    if "error" in record or abs(record["duration_s"] - seconds) > 0.1 or record["warnings"]:
        raise BrokenError(f"{name}: wrong record: {lines[0][:300]}")


def memory(command: list[str], core: list[int]) -> dict[str, float]:
    """Return the memory of a command and of its child processes in bytes.

    `own_bytes` and `children_bytes` are the largest resident sets. `at_once_bytes` is the largest sum
    of the proportional sets of all of them at one time.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [shutil.which("taskset") or "taskset", "-c", str(core[0]), *command],
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    peaks: dict[int, int] = {}
    at_once = 0
    while process.poll() is None:
        family = _family(process.pid)
        for pid in family:
            peaks[pid] = max(peaks.get(pid, 0), _bytes_of(pid, "status", "VmHWM"))
        at_once = max(at_once, sum(_bytes_of(pid, "smaps_rollup", "Pss") for pid in family))
        time.sleep(POLL_S)
    assert process.stdout
    if process.returncode:
        raise BrokenError(f"exit status {process.returncode}: {process.stdout.read()[:300]}")
    own = peaks.pop(process.pid)
    return {
        "own_bytes": own,
        "children_bytes": sum(peaks.values()),
        "at_once_bytes": at_once,
        "wall_s": time.monotonic() - began,
    }


def _family(pid: int) -> list[int]:
    """Return the process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        return [pid, *(each for child in children for each in _family(int(child)))]
    except OSError:  # it has just ended
        return [pid]


def _bytes_of(pid: int, table: str, row: str) -> int:
    """Return a number of kB in a table of Linux about a process, in bytes; 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/{table}").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{row}:")), 0)


if __name__ == "__main__":
    sys.exit(main())
