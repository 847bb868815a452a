"""The cases of benchmarks.speed: each system is run, its answer is checked, and it is timed in
turns with the others.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.speed.contenders import ROOT, Check, Contender, contenders, installed_bytes, same_model
from benchmarks.speed.recordings import LABELS, Recording, both, facts, one
from benchmarks.speed.timing import BrokenError, Done, Worker, environment, machine, pace, spread, whole
from benchmarks.speed.words import SCHEMA
from ms_edge.model.session import Model

CASES = ("10s", "10min", "1h", "stereo", "flac", "mp3", "files", "start", "latency")
T = TypeVar("T")
# The most that the machine can do: one command per core, each with its share of the files.
APART = """
import os, sys
cut = sys.argv.index("--")
command, paths, cores = sys.argv[1:cut], sys.argv[cut + 1 :], sorted(os.sched_getaffinity(0))
children = []
for number, core in enumerate(cores):
    if not (child := os.fork()):
        os.sched_setaffinity(0, [core])
        os.execv(command[0], command + paths[number :: len(cores)])
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


@dataclass(frozen=True)
class Scale:
    """How much is measured: seconds of audio, files, repetitions, and the most seconds of one
    system in one case.
    """

    long_s: float = 600.0
    longest_s: float = 3600.0
    files: int = 1000
    repeat: int = 15
    starts: int = 40
    latency_runs: int = 12_000  # ten of these are over the 99.9th percentile
    patience_s: float = 10.0


QUICK = Scale(60.0, 300.0, 20, 3, 5, 200, 4.0)


class Bench:
    """One run: the systems that are available, and the results."""

    def __init__(self, out: Path, scale: Scale, args: argparse.Namespace) -> None:
        self.scale, self.model, self.python = scale, args.model, ""
        self.audio = out / "audio"
        cores = sorted(os.sched_getaffinity(0))
        self.core, self.cores = cores[-1:], cores
        self.found: dict[str, Any] = {
            "schema": SCHEMA,
            "quick": args.quick,
            "measured": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine(self.core),
            "model": Model.load(args.model, "cpu").sha256,
            "recordings": {},
            "cases": {},
        }
        # Messages of tools contain paths of this machine; these names replace them.
        self.places = {
            str(ROOT): "REPOSITORY",
            str(out): "DIR",
            sys.prefix: "ENVIRONMENT",
            str(Path.home()): "HOME",
            tempfile.gettempdir(): "TEMPORARY",
            **({str(args.model): "MODEL"} if args.model else {}),
        }
        systems, absent = contenders(out, args.model, not args.no_peers, args.repositories)
        self.python = systems[0].worker[0]
        self.systems = [system for system in systems if self._right(system, absent)]
        self.found["systems"] = {
            system.name: {"versions": system.versions, "installed_bytes": installed_bytes(system)}
            for system in self.systems
        } | {name: {"absent": reason} for name, reason in absent.items()}

    def without_places(self) -> dict[str, Any]:
        """Return the results without paths of this machine."""
        places = sorted(self.places.items(), key=lambda item: -len(item[0]))

        def cleaned(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: cleaned(each) for key, each in value.items()}
            if isinstance(value, list):
                return [cleaned(each) for each in value]
            if isinstance(value, str):
                for place, name in places:
                    value = value.replace(place, name)
            return value

        found: dict[str, Any] = cleaned(self.found)
        return found

    def _right(self, system: Contender, absent: dict[str, str]) -> bool:
        """Return whether a system tells speech from music, and gives ms-edge's answers if it runs
        the same model.
        """
        try:
            for label in LABELS:
                recording = self.recording(one(self.audio, label))
                with Worker(system.worker, self.core, system.env) as worker:
                    answer = json.loads(worker.ask(str(recording.path))[1])
                system.check(recording, answer)
                if system.name == "ms-edge":
                    self.found.setdefault("answers", {})[label] = answer
                elif system.name in ("TensorFlow", "LiteRT"):
                    same_model(answer, self.found["answers"][label])
        except Exception as error:  # the other systems are measured anyway
            if system.name == "ms-edge":
                raise BrokenError(f"ms-edge {told(error)}") from None
            absent[system.name] = f"wrong on ten seconds: {told(error)}"
            return False
        return True

    def recording(self, recording: Recording) -> Recording:
        """Add a recording to the results and return it."""
        self.found["recordings"][recording.path.name] = facts(recording)
        return recording

    def of_file(self, name: str, recording: Recording) -> None:
        """Time all systems that can read a file, as whole commands and inside a running process."""
        self.recording(recording)
        plain = recording.rate_hz == 16_000 and recording.channels == 1 and recording.path.suffix == ".wav"
        able = [system for system in self.systems if plain or system.any_format]
        path = str(recording.path)

        def run(system: Contender) -> tuple[float, dict[str, Any], int]:
            command = system.command(path) if system.command else list(system.worker)
            done = whole(command, "" if system.command else path + "\n", self.core, system.env)
            return done.wall_s, json.loads(done.lines[-1]), done.peak_bytes

        workers: dict[str, Worker] = {}

        def ask(system: Contender) -> tuple[float, dict[str, Any], int]:
            if system.name not in workers:
                workers[system.name] = Worker(system.worker, self.core, system.env)
                workers[system.name].ask(str(one(self.audio, "speech").path))
            taken_s, answer = workers[system.name].ask(path)
            return taken_s, json.loads(answer), 0

        results: dict[str, Any] = {system.name: {"audio_s": recording.seconds} for system in able}
        try:
            for kind, do in (("whole", run), ("inside", ask)):
                for system_name, times in self._in_turns(able, do, recording).items():
                    found = results[system_name]
                    if "failed" in times or "failed" in found:
                        results[system_name] = {"failed": times.get("failed") or found["failed"]}
                        continue
                    if kind == "whole":
                        found["peak_bytes"] = max(times.pop("peaks"))
                    found[kind] = spread(times["seconds"]) | {"seconds": times["seconds"]}
        finally:
            for worker in workers.values():
                worker.__exit__()
        self.found["cases"][name] = results

    def _in_turns(
        self,
        systems: Sequence[Contender],
        do: Callable[[Contender], tuple[float, dict[str, Any], int]],
        recording: Recording,
    ) -> dict[str, Any]:
        found: dict[str, Any] = {system.name: {"seconds": [], "peaks": []} for system in systems}
        for turn in range(self.scale.repeat):
            for system in _rotated(systems, turn):
                mine = found[system.name]
                if "failed" in mine or (sum(mine["seconds"]) + max(mine["seconds"], default=0) > self.scale.patience_s):
                    continue
                try:
                    seconds, answer, peak = do(system)
                    system.check(recording, answer)
                except Exception as error:  # the other systems are measured anyway
                    found[system.name] = {"failed": told(error)}
                    continue
                mine["seconds"].append(seconds)
                mine["peaks"].append(peak)
        for mine in found.values():
            if "failed" not in mine and len(mine["seconds"]) > 1:  # the first run warms up
                del mine["seconds"][0]
        return found

    def of_files(self) -> None:
        """Time a folder of short files: ms-edge on one core and on all, the floor on one."""
        folder = self.audio / f"{self.scale.files} files"
        recordings = [one(folder, LABELS[index % 2], seed=index) for index in range(self.scale.files)]
        labels = {str(recording.path): recording for recording in recordings}
        by_name = {system.name: system for system in self.systems}
        times: dict[str, list[float]] = {}
        results: dict[str, Any] = {}
        wrong: dict[str, int] = {}

        def check(name: str, done: Done) -> None:
            answers = [json.loads(line) for line in done.lines]
            if len(answers) != len(recordings):
                raise BrokenError(f"{len(answers)} answers of {len(recordings)}")
            if name.startswith("floor"):
                for recording, answer in zip(recordings, answers, strict=True):
                    floor.check(recording, answer)
                return
            wrong[name] = sum(answer.get("label") != labels[answer["path"]].label for answer in answers)
            # Some labels may be wrong, since a mistake takes as long; but not a quarter of them.
            if wrong[name] > len(recordings) / 4:
                raise BrokenError(f"{wrong[name]} of {len(recordings)} labels are wrong")

        ours, floor = by_name["ms-edge"], by_name.get("floor")
        assert ours.many is not None
        ways: dict[str, tuple[list[str], str, list[int], Contender]] = {
            "ms-edge, one core": (ours.many(folder), "", self.core, ours),
            "ms-edge, all cores": (ours.many(folder), "", self.cores, ours),
        }
        if len(self.cores) > 1:
            *command, _ = ours.many(folder)
            apart = [sys.executable, "-I", "-S", "-c", APART, *command, "--", *labels]
            ways["ms-edge, a command of its own on each core"] = (apart, "", self.cores, ours)
        if floor:
            given = "".join(f"{path}\n" for path in labels)
            ways["floor, one core"] = (list(floor.worker), given, self.core, floor)
        for turn in range(max(2, self.scale.repeat // 2)):
            for name, (command, given, cores, system) in _rotated(list(ways.items()), turn):
                if "failed" in results.get(name, {}):
                    continue
                try:
                    done = whole(command, given, cores, system.env)
                    check(name, done)
                except Exception as error:
                    results[name] = {"failed": told(error)}
                    continue
                peak = max(done.peak_bytes, results.get(name, {}).get("peak_bytes", 0))
                results[name] = {"peak_bytes": peak, "cores": len(cores)}
                if system is ours:
                    results[name]["wrong_labels"] = wrong[name]
                if turn:
                    times.setdefault(name, []).append(done.wall_s)
        for name, seconds in times.items():
            if "failed" not in results[name]:
                results[name] |= {"audio_s": 10.0 * len(recordings), "whole": spread(seconds) | {"seconds": seconds}}
        self.found["cases"]["files"] = results

    def of_start(self) -> None:
        """Time the start: imports alone, --version and --help, and all systems on ten seconds of
        audio.
        """
        recording = self.recording(one(self.audio, "speech"))
        path, env = str(recording.path), environment()
        program = str(Path(self.python).parent / "ms-edge")
        ways: dict[str, tuple[list[str], str]] = {
            "python -c pass": ([self.python, "-c", "pass"], ""),
            "import onnxruntime": ([self.python, "-c", "import onnxruntime"], ""),
            "import numpy, onnxruntime, soundfile": (
                [self.python, "-c", "import numpy, onnxruntime, soundfile"],
                "",
            ),
            "ms-edge --version": ([program, "--version"], ""),
            "ms-edge --help": ([program, "--help"], ""),
        }
        envs = dict.fromkeys(ways, env)
        checks: dict[str, Check] = {}
        for system in self.systems:
            name = f"{system.name}, 10 s clip"
            checks[name] = system.check
            ways[name] = (system.command(path), "") if system.command else (list(system.worker), path + "\n")
            envs[name] = system.env
        times: dict[str, list[float]] = {name: [] for name in ways}
        results: dict[str, Any] = {}
        for turn in range(self.scale.starts):
            for name, (command, given) in _rotated(list(ways.items()), turn):
                if name in results or sum(times[name]) > self.scale.patience_s:
                    continue
                try:
                    done = whole(command, given, self.core, envs[name])
                    if name in checks:
                        checks[name](recording, json.loads(done.lines[-1]))
                except Exception as error:
                    results[name] = {"failed": told(error)}
                    continue
                if turn:
                    times[name].append(done.wall_s)
        for name, seconds in times.items():
            if name not in results:
                results[name] = {"whole": spread(seconds) | {"seconds": seconds}}
        self.found["cases"]["start"] = results

    def of_latency(self) -> None:
        """Measure ms-edge in one process: percentiles and stages of clips and streamed hops."""
        recordings = {
            "10 s, 16 kHz mono": one(self.audio, "music"),
            "10 s, 44.1 kHz stereo": one(self.audio, "music", "stereo44"),
            f"{self.scale.long_s:g} s, 16 kHz mono": both(self.audio, self.scale.long_s),
        }
        script = str(Path(__file__).parent / "latency.py")
        limits = [str(self.scale.latency_runs), str(6 * self.scale.patience_s)]
        command = [self.python, "-P", script, *limits, str(self.model or "")]
        done = whole(
            [*command, *(str(self.recording(each).path) for each in recordings.values())], "", self.core, environment()
        )
        found = json.loads(done.lines[-1])
        for index, recording in enumerate(recordings.values()):
            self.systems[0].check(recording, found[f"file {index}"].pop("answer"))
        if (told := found["hop"].pop("answer")) != "music":
            raise BrokenError(f"says {told} of a stream of music")
        named = {name: found[f"file {index}"] for index, name in enumerate(recordings)}
        self.found["cases"]["latency"] = {**named, "streamed hop": found["hop"]}

    def measure(self, case: str) -> None:
        """Measure one of CASES, and the pace of the machine before and after it."""
        paces = self.found["machine"].setdefault("pace_s", [pace(self.core)])
        try:
            self._measure(case)
        finally:
            paces.append(pace(self.core))

    def _measure(self, case: str) -> None:
        scale = self.scale
        kinds = {"stereo": "stereo44", "flac": "flac", "mp3": "mp3"}
        if case == "10s":
            self.of_file(case, one(self.audio, "speech"))
        elif case in ("10min", "1h", *kinds):
            seconds = scale.longest_s if case == "1h" else scale.long_s
            self.of_file(case, both(self.audio, seconds, kinds.get(case, "wav")))
        else:
            {
                "files": self.of_files,
                "start": self.of_start,
                "latency": self.of_latency,
            }[case]()


def _rotated(values: Sequence[T], turn: int) -> list[T]:
    """Return the values rotated by the turn, so that no system always runs after the same one."""
    shift = turn % len(values)
    return [*values[shift:], *values[:shift]]


def told(error: Exception) -> str:
    """Return the error as text."""
    return str(error) if isinstance(error, BrokenError) else repr(error)
