"""The model to evaluate: a model file or the network of a run folder. `ms_edge` runs both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.classifier import Classifier
from ms_edge.errors import ModelError, UsageError, first_line
from ms_edge.features.spec import FEATURES
from ms_edge.model.metadata import Decision, Golden, Metadata
from ms_edge.model.session import Model
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.errors import RunError
from ms_train.training.bundled import run_folder
from ms_train.training.runs import PARTS, TrainedRun

UNLIMITED = 1 << 30  # windows at a time: scoring needs no more memory than the training did
NO_GOLDEN = Golden(0, (), (), 0.0, (), 0.0)  # a network that is not exported has no golden vector


class NetworkModel:
    """The Keras network of a run folder, for a `Classifier` (see `ms_edge.classifier.Scorer`)."""

    input = FEATURES
    provider = "TensorFlow"
    max_batch = UNLIMITED

    def __init__(self, path: Path, content: bytes, run: TrainedRun, training: Mapping[str, Any]) -> None:
        self.path = str(path)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.metadata = Metadata(
            run.spec, run.labels, run.decision, run.recipe, "unspecified", training, parity={}, golden=NO_GOLDEN
        )
        signature = [tf.TensorSpec((None, *run.spec.feature_shape), tf.float32)]
        self._scores = tf.function(lambda features: run.network(features, training=False)[1], input_signature=signature)

    def scores(self, inputs: Float32) -> Float32:
        """Return the probabilities (windows, labels) of features (windows, *spec.feature_shape).

        Raises ModelError(`bad-scores`) if they are not numbers.
        """
        scores: Float32 = self._scores(inputs).numpy()
        if np.isnan(scores).any():
            raise ModelError("bad-scores", f"{self.path}: the network's scores are not numbers (NaN).")
        return scores.clip(0, 1)

    def run_scores(self, features: Float32) -> Float32:
        """Raise NotImplementedError: without `step_frames` in the metadata nobody calls this."""
        raise NotImplementedError


@dataclass(frozen=True)
class Subject:
    """A model to evaluate, and what is known of the recordings it was trained with.

    `parts` maps the SHA-256 of each recording of a run to its part: `train`, `val` or `test`. `files`
    does so for the file that each recording is, or was cut from. `data` is the run's name for its
    dataset. For a model file these are unknown, and empty.
    """

    classifier: Classifier
    kind: str  # "run" or "model"
    training: Mapping[str, Any]
    parts: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Subject:
        """Load a run folder of `ms-train fit`, or one of the package by its name, or a model file of
        `ms-export`.

        Raises MsEdgeError if it is neither.
        """
        path = run_folder(path)
        if not path.is_dir():
            model = Model.load(path, "cpu")
            return cls(Classifier(model), "model", model.metadata.training)
        try:
            content = (path / "model.keras").read_bytes()
        except OSError as error:
            raise RunError("bad-run", f"{path}: not a run folder of ms-train fit ({first_line(error)}).") from None
        run = TrainedRun.load(path)
        training = {
            **{name: run.facts[name] for name in ("dataset", "sources", "seed", "fold")},
            "recordings": {part: len(names) for part, names in run.split.items()},
        }
        network = NetworkModel(path, content, run, training)
        parts = {run.sha256[name]: part for part, names in run.split.items() for name in names}
        files = {run.files[name]: part for part, names in run.split.items() for name in names}
        return cls(Classifier(network), "run", training, parts, str(run.facts["data"]), files)

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels, in the order of the scores."""
        return self.classifier.model.metadata.labels

    @property
    def decision(self) -> Decision:
        """The rule that turns scores into a label."""
        return self.classifier.model.metadata.decision

    def target(self, label: str | None) -> NDArray[np.bool_] | None:
        """Return which of the model's labels (labels,) a recording with the dataset's label has.

        Return None if the model has no such label. With independent labels, `speech+music` means both
        and `other` means neither, as in the answers of the runtime.
        """
        members = set() if label is None else {label}
        if self.decision.kind == "independent" and label is not None and label not in self.labels:
            members = set() if label == "other" else set(label.split("+"))
        if not members <= set(self.labels) or (not members and self.decision.kind == "exclusive"):
            return None
        return np.array([name in members for name in self.labels], bool)

    def part_of(self, recording: Recording) -> str | None:
        """Return `train`, `val` or `test` if the run used this recording's file; None if that is unknown."""
        return self.files.get(recording.file_sha256)

    def choose(self, dataset: Dataset, part: str | None) -> tuple[str, tuple[Recording, ...]]:
        """Return the name of the part to score and its recordings.

        It is `part`, if given. Otherwise it is what the run held out for testing (or else for
        validation), or all recordings of a dataset that the run did not use. The parts are the run's,
        by digest, or those that the dataset prescribes. Raises UsageError if there is no such part.
        """
        by_run = any(self.part_of(recording) for recording in dataset.recordings)
        by_part: dict[str, list[Recording]] = {name: [] for name in PARTS}
        for recording in dataset.recordings:
            name = self.part_of(recording) if by_run else recording.split
            by_part.get(str(name), []).append(recording)
        if part is None:
            part = next((name for name in ("test", "val") if by_run and name in self.parts.values()), "all")
        chosen = dataset.recordings if part == "all" else tuple(by_part[part])
        if not chosen:
            known = [name for name in PARTS if by_part[name]]
            raise UsageError(
                f"{dataset.name}: has no part {part!r} of this model's; give --part {' or '.join([*known, 'all'])}."
            )
        return part, chosen

    def warnings(self, dataset: Dataset, chosen: Sequence[Recording]) -> list[str]:
        """Return what a reader must know about the recordings that are scored.

        That is: which of them the model was trained on, which are missing, and what is unknown.
        """
        digests = {recording.name: recording.sha256 for recording in dataset.recordings}
        same = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
        counts = {name: sum(self.part_of(recording) == name for recording in chosen) for name in PARTS}
        if self.kind == "model":
            prescribed = self.training.get("dataset") == dataset.name
            counts = {name: sum(prescribed and recording.split == name for recording in chosen) for name in PARTS}
            if self.training.get("data_sha256") == same and not any(counts.values()):
                return ["The model was made with exactly these recordings: most of them it was trained on."]
        found = []
        there = set(digests.values()) & set(self.parts)
        if self.parts and len(there) < len(self.parts) and (there or self.training.get("dataset") == dataset.name):
            found.append(
                f"{len(self.parts) - len(there)} of the {len(self.parts)} recordings that the run was made with are not in "
                f"{dataset.name} as they were: they are gone or have changed since."
            )
        if counts["train"]:
            found.append(f"The model was trained on {counts['train']} of the {len(chosen)} recordings scored.")
        if counts["val"]:
            found.append(
                f"{counts['val']} of the {len(chosen)} recordings scored decided when its training stopped: the figures "
                "are a little too good."
            )
        if self.kind == "model" and not any(counts.values()):
            found.append(
                "Whether the model was trained on any of these recordings cannot be told from its file, which says only that it "
                f"was trained on {self.training.get('dataset', 'what is not recorded')}."
            )
        return found
