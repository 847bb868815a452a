"""Run folders: write and read what `ms-train fit` leaves.

model.keras, recipe.json, spec.json, run.json (labels, decision, data, seed, settings, versions,
command), split.json, data.json (SHA-256 of every recording used), recordings.json (the label of
each, and the SHA-256 of its file), history.csv, metrics.json, curves.png; during training also
checkpoint.npz
"""

from __future__ import annotations

import errno
import json
import shlex
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import keras

from ms_edge.errors import UsageError, first_line, reason
from ms_edge.features.spec import FrontEndSpec
from ms_edge.model.metadata import Decision
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.errors import DataError, RunError
from ms_train.files import atomic_write
from ms_train.recipes.recipe import Recipe
from ms_train.scores.outputs import with_logits
from ms_train.training.bundled import recordings_of, run_folder

PARTS = ("train", "val", "test")
FACTS = ("dataset", "data", "sources", "licences", "seed", "fold")  # the entries of run.json that other modules read
INDEPENDENT_THRESHOLD = 0.5
SOFTWARE = ("ms-edge", "tensorflow", "keras", "numpy", "scipy", "soxr", "soundfile")


class CompleteError(UsageError):
    """The training to resume is already complete; the commands report success."""


def open_folder(out: Path, settings: dict[str, Any], resume: bool) -> None:
    """Make the folder; with `resume`, check that it holds an interrupted training with the same
    settings.

    Raises UsageError for other settings or a folder with files, RunError(`bad-run`) if run.json
    cannot be read.
    """
    if resume and (out / "run.json").exists():
        try:
            found = dict(json.loads((out / "run.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            raise RunError("bad-run", f"{out}: its run.json cannot be read; give --out a new folder.") from None
        for name, value in settings.items():
            if found.get(name) != value:
                raise UsageError(
                    f"{out}: was begun with {name} {found.get(name)}, not {value}; --resume goes on with what was begun."
                )
        if (out / "metrics.json").exists():
            raise CompleteError(f"{out}: this training is finished; there is nothing to resume.")
        return
    if out.is_dir() and any(out.iterdir()):
        unfinished = (out / "run.json").exists() and not (out / "metrics.json").exists()
        hint = "go on with --resume, or give --out a new folder" if unfinished else "give --out a new folder"
        raise UsageError(f"{out}: already holds files; {hint}.")
    try:
        out.mkdir(parents=True, exist_ok=True)  # now, not after hours of training
    except OSError as error:
        raise UsageError(f"{out}: cannot be made ({reason(error)}); give --out a new folder.") from None


def describe(
    out: Path,
    recipe: Recipe,
    dataset: Dataset,
    train: tuple[Recording, ...],
    used: dict[str, tuple[str, ...]],
    settings: dict[str, Any],
    command: Sequence[str],
) -> None:
    """Write the files that describe a training, before it begins."""
    by_name = {recording.name: recording for recording in dataset.recordings}
    sources = {recording.name: recording.source for recording in train}
    listed = [by_name[name] for names in used.values() for name in names]
    manifest = {
        "split": {part: list(names) for part, names in used.items()},
        "data": {recording.name: recording.sha256 for recording in listed},
        "recordings": {
            recording.name: {"label": recording.label, "file_sha256": recording.file_sha256} for recording in listed
        },
    }
    for name, value in manifest.items():
        path = out / f"{name}.json"
        try:
            before = json.loads(path.read_text("utf-8")) if path.exists() else value
        except (OSError, ValueError):
            raise RunError("bad-run", f"{out}: its {path.name} cannot be read; give --out a new folder.") from None
        if before != value:
            raise DataError(
                "bad-data",
                f"{out}: its recordings, their labels or their parts have changed since it was begun; give --out a new folder.",
            )
    write_json(out / "recipe.json", {**recipe.to_dict(), "epochs": settings["epochs"]})
    write_json(out / "spec.json", json.loads(recipe.spec.to_json()))
    for name, value in manifest.items():
        write_json(out / f"{name}.json", value)
    write_json(
        out / "run.json",
        {
            **settings,
            **({"command": shlex.join([*command, "--out", str(out)])} if command else {}),
            **({"origin": recipe.origin} if recipe.origin else {}),
            "licences": sorted({*dataset.licences, *(recipe.origin or {}).get("licences", ())}),
            "sources": sorted({sources[name] for name in used["train"]}),
            "versions": {name: version(name) for name in SOFTWARE},
        },
    )


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model atomically.

    Raises RunError(`cannot-write`) if that fails; the checkpoint then stays.
    """
    try:
        with atomic_write(path) as partial:
            model.save(partial)
    except OSError as error:
        first = {
            errno.ENOSPC: "make room, and ",
            errno.EDQUOT: "make room, and ",
            errno.EMFILE: "allow more open files (ulimit -n), and ",
        }.get(error.errno or 0, "")
        raise RunError(
            "cannot-write",
            f"{path}: cannot be written ({reason(error)}); {first}go on with --resume.",
        ) from None


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically."""
    with atomic_write(path) as partial:  # whether a run is at its end is read off what it holds
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="ascii")  # names that are no Unicode too


@dataclass(frozen=True)
class TrainedRun:
    """A trained network and the records of its training in the run folder.

    `network` has two outputs, logits and scores (`ms_train.scores.outputs.with_logits`). `facts` is
    the content of run.json. `split` holds the names of the recordings of each part. By a
    recording's name, `sha256` holds its digest, and `files` the digest of the file that it is, or
    is cut from.
    """

    network: keras.Model
    spec: FrontEndSpec
    recipe: str
    labels: tuple[str, ...]
    decision: Decision
    facts: dict[str, Any]
    metrics: dict[str, Any]
    split: dict[str, list[str]]
    sha256: dict[str, str]
    files: dict[str, str]

    @property
    def bundled(self) -> bool:
        """Whether this is a run of the package, whose dataset few users have."""
        return bool(self.facts.get("bundled"))

    @property
    def corrected(self) -> bool:
        """Whether this run only learnt from corrections (`ms_train.training.correct`)."""
        return bool(self.facts.get("corrected"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a run folder, or one of the package by its name (`bundled`, `music-speech-large`).

        Raises RunError(`bad-run`) if it is not the folder of a complete training.
        """
        folder = run_folder(folder)
        try:
            facts, metrics = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("run", "metrics"))
            used = recordings_of(folder)
            spec = FrontEndSpec.from_json((folder / "spec.json").read_text("utf-8"))
            if facts["frontend_sha256"] != spec.digest:
                raise ValueError("spec.json is not the spec it was trained with")
            if not zipfile.is_zipfile(folder / "model.keras"):
                raise ValueError("its model.keras is missing or damaged; copy or train it again")
            network = keras.models.load_model(folder / "model.keras", compile=False)
            labels, kind = tuple(facts["labels"]), str(facts["decision"])
            named = {part: used.split[part] for part in PARTS}
            for part in metrics["val"], *([metrics["test"]] if named["test"] else []):
                float(part["clip_accuracy"])
            {used.sha256[name] for names in named.values() for name in names}
            for name in FACTS:
                facts[name]
            return cls(
                with_logits(network, labels, kind, spec.feature_shape),
                spec,
                str(facts["recipe"]),
                labels,
                decision_of(kind, labels, metrics.get("decision", {}).get("thresholds")),
                facts,
                metrics,
                named,
                used.sha256,
                used.files,
            )
        except Exception as error:  # Keras raises many types
            raise RunError("bad-run", f"{folder}: not a run folder of ms-train fit ({first_line(error)}).") from None


def decision_of(kind: str, labels: tuple[str, ...], thresholds: Sequence[float] | None = None) -> Decision:
    """Return the rule that turns scores into a label, `exclusive` or `independent`, with thresholds
    for independent labels.

    Without `thresholds`, each label's is 0.5. Raises RunError(`bad-run`) for another rule, and for
    thresholds that are not one number from 0 to 1 for each label.
    """
    if kind not in ("exclusive", "independent"):
        raise RunError("bad-run", f"the decision must be 'exclusive' or 'independent', not {kind!r}")
    if kind == "exclusive":
        return Decision(kind, ())
    chosen = tuple(map(float, thresholds or (INDEPENDENT_THRESHOLD,) * len(labels)))
    if len(chosen) != len(labels) or not all(0 <= each <= 1 for each in chosen):
        raise RunError("bad-run", f"the thresholds must be one number from 0 to 1 for each label, not {chosen}")
    return Decision(kind, chosen)
