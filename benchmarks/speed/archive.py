"""Measure what `ms-edge archive` costs beside `ms-edge classify`, on the same recordings.

    python -m benchmarks.speed.archive AUDIO -o DIR [--recordings 2000] [--rounds 3] [--docs]

AUDIO is a folder of any audio. Recordings of 3 to 120 seconds (log-uniform, 16 kHz mono FLAC) are
made of it once, and kept in DIR. `classify -j N` and `archive` with N actors take turns. The answers
are compared before any times are: rows and records must be equal, one for each recording.

Then the constants of `benchmarks.speed.archive_scaling` are measured. `--docs` writes the figures and the
plot of the model into docs/benchmarks; `make docs` takes the tables from there.

*wall*: from the start of the command to its end. *start*: the same with a single recording, which
is what starting costs. *CPU*: seconds of all processes of the command, by what they do; the
processes are those that descend from the command.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.speed.archive_constants import constants
from benchmarks.speed.archive_scaling import Archive, plot, total_s
from benchmarks.speed.timing import BrokenError, environment, machine
from ms_edge.audio.file import read_mono
from ms_edge.errors import AudioError
from ms_edge.output.records import read_records

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs" / "benchmarks"
RATE_HZ = 16_000
SHORTEST_S, LONGEST_S = 3.0, 120.0
CPUS = 0.5  # of an actor: a fraction leaves CPUs to others
BAR = 0.25  # overhead that is allowed
POLL_S = 0.2  # between two looks at the processes
TIMEOUT_S = 600.0
RUN = ("-c", "import sys; from ms_edge.cli.main import command; sys.exit(command())")
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure, print the table and write the JSON. The exit status is 1 if the bar is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.archive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("audio", type=Path, help="folder of audio that recordings are made of")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for recordings and results")
    parser.add_argument("--recordings", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns (default: 3)")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="workers, or actors (default: 2)")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks/archive.json and archive.png, too")
    args = parser.parse_args()
    recordings = made(args.audio, args.out / f"recordings-{args.recordings}", args.recordings)
    try:
        found = measured(recordings, args.out, args.rounds, args.jobs)
    except BrokenError as error:
        print(f"archive: {error}", file=sys.stderr)
        return 1
    print(table(found), flush=True)
    print("archive: constants", file=sys.stderr, flush=True)
    start_s = statistics.median(found["systems"]["archive"]["start_s"])
    cost = constants(recordings, start_s)
    found["constants"] = asdict(cost)
    of_run = Archive(len(recordings), found["audio_s"] / len(recordings), in_store=False)
    found["model_s"] = total_s(cost, of_run, args.jobs)
    print(f"the model of this run takes {found['model_s']:.1f} s")
    for folder in (args.out, *([DOCS] if args.docs else [])):
        (folder / "archive.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        plot(cost, folder / "archive.png")
    return 0 if found["overhead"] <= BAR else 1


def made(audio: Path, folder: Path, count: int) -> list[Path]:
    """Return `count` recordings below a folder, and make them if it does not exist."""
    if not folder.exists():
        sources = sorted(path for path in audio.rglob("*") if path.is_file())
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with ProcessPoolExecutor() as pool:
            list(pool.map(_make, [sources] * count, [part] * count, range(count), chunksize=64))
        part.rename(folder)
    return sorted(folder.glob("*.flac"))


def _make(sources: Sequence[Path], folder: Path, number: int) -> None:
    """Write one recording: excerpts of random sources, one after the other."""
    random = np.random.default_rng(number)
    left = round(math.exp(random.uniform(math.log(SHORTEST_S), math.log(LONGEST_S))) * RATE_HZ)
    with soundfile.SoundFile(folder / f"{number:06}.flac", "w", RATE_HZ, 1, subtype="PCM_16") as file:
        while left:
            try:
                samples = read_mono(sources[int(random.integers(len(sources)))], RATE_HZ)[:left]
            except AudioError:
                continue  # not audio
            file.write(np.clip(samples, -1, 1))
            left -= len(samples)


def measured(recordings: Sequence[Path], out: Path, rounds: int, jobs: int) -> dict[str, Any]:
    """Run both commands in turns and return all figures. Raises BrokenError for a wrong answer."""
    audio_s = sum(soundfile.info(path).duration for path in recordings)
    for path in recordings:
        path.read_bytes()  # into the page cache
    systems: dict[str, dict[str, list[Any]]] = {name: {"wall_s": [], "start_s": [], "cpu_s": []} for name in COMMANDS}
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        every, first = Path(scratch, "every.txt"), Path(scratch, "first.txt")
        every.write_text("".join(f"{path}\n" for path in recordings), "utf-8")
        first.write_text(f"{recordings[0]}\n", "utf-8")
        for turn in range(rounds):
            results: dict[str, Path] = {}
            for name in sorted(COMMANDS, reverse=turn % 2 == 1):
                print(f"archive: round {turn + 1} of {rounds}, {name}", file=sys.stderr, flush=True)
                results[name] = Path(scratch, f"{name}-{turn}")
                start = run(COMMANDS[name](first, Path(scratch, f"{name}-{turn}-first"), jobs))
                whole = run(COMMANDS[name](every, results[name], jobs))
                systems[name]["start_s"].append(start["wall_s"])
                systems[name]["wall_s"].append(whole["wall_s"])
                systems[name]["cpu_s"].append(whole["cpu_s"])
            _compare(results, [str(path) for path in recordings])
    found: dict[str, Any] = {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(sorted(os.sched_getaffinity(0))),
        "recordings": len(recordings),
        "audio_s": audio_s,
        "jobs": jobs,
        "systems": systems,
    }
    ratios = [a / b - 1 for a, b in zip(systems["archive"]["wall_s"], systems["classify"]["wall_s"], strict=True)]
    found["overhead"] = statistics.median(ratios)
    beyond = [
        (a - b) / (c - d) - 1
        for a, b, c, d in zip(
            *(systems[name][kind] for name in ("archive", "classify") for kind in ("wall_s", "start_s")), strict=True
        )
    ]
    found["overhead_beyond_start"] = statistics.median(beyond)
    return found


def _classify(inputs: Path, to: Path, jobs: int) -> list[str]:
    to_file = ("--timeline", "--format", "jsonl", "-o", f"{to}.jsonl")
    return ["classify", "-q", "-j", str(jobs), "--files-from", str(inputs), *to_file]


def _archive(inputs: Path, to: Path, jobs: int) -> list[str]:
    return ["archive", "-q", "-j", str(jobs), "--cpus", str(CPUS), str(inputs), "-o", str(to)]


COMMANDS = {"archive": _archive, "classify": _classify}


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Run ms-edge, and return the seconds on the clock and the CPU seconds of each kind of process.

    Raises BrokenError if the command fails or does not end.
    """
    env = environment(PYTHONPATH=str(ROOT / "edge"), RAY_USAGE_STATS_ENABLED="0")
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([sys.executable, *RUN, *arguments], stdout=said, stderr=said, env=env)
        cpu_s: dict[int, tuple[str, float]] = {}
        while process.poll() is None:
            _look(process.pid, cpu_s)
            if time.perf_counter() - began > TIMEOUT_S:
                process.kill()
                raise BrokenError(f"{' '.join(arguments)}: no end after {TIMEOUT_S:g} s")
            time.sleep(POLL_S)
        wall_s = time.perf_counter() - began
        if process.returncode:
            said.seek(0)
            raise BrokenError(f"{' '.join(arguments)}: exit status {process.returncode}: {said.read()[-2000:]}")
    kinds: dict[str, float] = {}
    for kind, seconds in cpu_s.values():
        kinds[kind] = kinds.get(kind, 0.0) + seconds
    return {"wall_s": wall_s, "cpu_s": kinds}


def _look(root: int, cpu_s: dict[int, tuple[str, float]]) -> None:
    """Note the CPU seconds so far of a process and of all that descend from it, with what they do."""
    parents: dict[int, int] = {}
    times: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        pid = int(stat.parent.name)
        parents[pid], times[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS
    for pid, seconds in times.items():
        at = pid
        while at != root and at in parents:
            at = parents[at]
        if at == root:
            cpu_s[pid] = _kind(pid, root, cpu_s), seconds


def _kind(pid: int, root: int, cpu_s: dict[int, tuple[str, float]]) -> str:
    """Return what a process does. A worker of Ray is named after its last task."""
    if pid == root:
        return "command"
    before = cpu_s.get(pid, ("", 0.0))[0]
    try:
        line = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").replace("\0", " ").strip()
    except OSError:
        return before
    if line.startswith("ray::"):
        name = line.removeprefix("ray::").partition("(")[0] if "MapWorker" not in line else "actors"
        return name if name.strip() and "IDLE" not in name else before or "idle workers"
    if "gcs_server" in line or "raylet" in line:
        return "Ray's own processes"
    return before or ("workers" if "ray" not in line else "Ray's own processes")


def _compare(results: dict[str, Path], paths: Sequence[str]) -> None:
    """Raise BrokenError unless both commands gave the same record of each recording, once."""
    expected = list(read_records(f"{results['classify']}.jsonl"))
    found = sorted(read_records(str(results["archive"])), key=lambda result: result.path)
    if [result.path for result in found] != list(paths) or len(expected) != len(paths):
        raise BrokenError(f"{len(expected):,} records and {len(found):,} rows of {len(paths):,} recordings")
    for one, other in zip(expected, found, strict=True):
        if one != other:
            raise BrokenError(f"{one.path}: {other} is not {one}")


def table(found: dict[str, Any]) -> str:
    """Return the figures as a table."""
    lines = [
        f"{found['recordings']:,} recordings, {found['audio_s'] / 3600:.1f} hours of audio, "
        f"{found['jobs']} workers or actors, {found['machine']['cores']} cores; medians of "
        f"{len(found['systems']['classify']['wall_s'])} rounds; answers equal",
        "",
        f"{'':10}{'wall':>9}{'start':>9}{'x real time':>13}{'CPU':>9}",
    ]
    for name in ("classify", "archive"):
        one = found["systems"][name]
        wall_s, start_s = statistics.median(one["wall_s"]), statistics.median(one["start_s"])
        cpu_s = statistics.median(sum(kinds.values()) for kinds in one["cpu_s"])
        lines.append(f"{name:10}{wall_s:7.1f} s{start_s:7.1f} s{found['audio_s'] / wall_s:13,.0f}{cpu_s:7.1f} s")
    lines += ["", "CPU seconds of archive by process:"]
    kinds = found["systems"]["archive"]["cpu_s"]
    names = sorted({name for one in kinds for name in one})
    means = {name: statistics.median(one.get(name, 0.0) for one in kinds) for name in names}
    lines += [f"{value:9.1f} s  {name}" for name, value in sorted(means.items(), key=lambda item: -item[1])]
    lines += [
        "",
        f"overhead {found['overhead']:+.1%} (allowed {BAR:.0%}), without the start {found['overhead_beyond_start']:+.1%}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
