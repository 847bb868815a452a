"""Learn from corrected segments: the same labels, new audio.

Only the last layers learn (`finetune.trunk` says which), from what is wrong in the corrected
segments and from `replay`. The calibration and the thresholds stay those of the first network. The
accuracy that is reported is measured on recordings that were left out: the corrections are learnt
several times, each time without a part of the recordings.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.errors import UsageError
from ms_edge.features.windows import is_silent, windows
from ms_train.datasets.by_name import dataset_of_run
from ms_train.datasets.cache import Cache
from ms_train.datasets.clips import read_all
from ms_train.datasets.corrections import require_known_labels
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.errors import DataError
from ms_train.frontend import FrontEndLayer, clip_features
from ms_train.training.bundled import run_folder
from ms_train.training.finetune import recipe_from, trunk
from ms_train.training.replay import latents, read, replay, write
from ms_train.training.runs import TrainedRun, describe, open_folder, save_model, write_json

SUFFIX = "_corrected"
STEPS, RATE = 300, 1e-3
REPLAY = 150.0  # weight of all that is replayed, relative to all corrections
FOLDS = 5


@dataclass(frozen=True)
class Example:
    """What is learnt: the values before the last layers of some windows, (windows, ...), and the
    target of all of them, (labels,).
    """

    values: Float32
    target: Float32


@dataclass(frozen=True)
class Segment(Example):
    """A corrected segment of a recording."""

    recording: Recording


def correct(
    origin: Path, dataset: Dataset, data: str, out: Path, cache: Cache, command: Sequence[str] = ()
) -> dict[str, Any]:
    """Let the network of the run `origin` learn the corrected segments of `dataset` (named `data`
    on the command line); write the run folder `out` and return its metrics.

    Raises UsageError if the labels are not the network's or not independent, and DataError if the
    segments have no sound, or if the recordings of another run than the bundled one are not there.
    """
    began = time.monotonic()
    folder, run = run_folder(origin), TrainedRun.load(origin)
    if run.decision.kind != "independent":
        raise UsageError(f"{origin}: only networks with independent labels learn from corrections.")
    require_known_labels(dataset, run.labels)
    recipe = recipe_from(origin)
    recipe = dataclasses.replace(recipe, name=str(run.recipe).removesuffix(SUFFIX) + SUFFIX, augment=None)
    settings = {
        "recipe": recipe.name,
        "labels": list(run.labels),
        "decision": run.decision.kind,
        "data": data,
        "dataset": dataset.name,
        "frontend_sha256": run.spec.digest,
        "seed": 0,
        "fold": None,
        "epochs": STEPS,
        "corrected": True,
    }
    open_folder(out, settings, resume=False)
    learner = Learner(run, folder, cache)
    segments = _segments(dataset, run, learner.base)
    before = [learner.right(each) for each in segments]
    after = left_out_in_turn(learner, segments)
    learner.learn(segments)
    names = tuple(each.recording.name for each in segments)
    describe(out, recipe, dataset, dataset.recordings, {"train": names, "val": (), "test": ()}, settings, command)
    metrics = {
        "epochs": STEPS,
        "parameters": learner.network.count_params(),
        "val": _accuracy(after, segments),
        "before": _accuracy(before, segments),
        "decision": json.loads((folder / "metrics.json").read_text("utf-8")).get("decision", {}),
        "seconds": round(time.monotonic() - began, 1),
    }
    # What learns from this run replays both.
    write(np.concatenate([learner.replayed, *(each.values for each in segments)]), out)
    save_model(learner.network, out / "model.keras")
    write_json(out / "metrics.json", metrics)
    return metrics


def _segments(dataset: Dataset, run: TrainedRun, base: keras.Model) -> list[Segment]:
    """Return the segments that have sound, in the order of the dataset. Raises
    DataError(`bad-data`) if fewer than two have.
    """
    spec, layer, found, silent = run.spec, FrontEndLayer(run.spec), [], 0
    for recording, audio in read_all(dataset.recordings, spec.sample_rate_hz, "the corrected segments"):
        cut = [window for _, window in windows([audio[:]], spec) if not is_silent(window)]
        if not cut:
            silent += 1
            continue
        members = recording.label.split("+") if recording.label else []
        target = np.array([float(label in members) for label in run.labels], np.float32)
        found.append(Segment(latents(base, clip_features(layer, np.stack(cut))), target, recording))
    if silent:
        tqdm.write(f"{silent} segments are silent, and are left out.", file=sys.stderr)
    if len(found) < 2:
        raise DataError("bad-data", f"{len(found)} corrected segments have sound; at least two are needed.")
    return found


class Learner:
    """A network whose last layers learn: `network`, `base` (what comes before these layers), and the
    values that are `replayed` (windows, ...).
    """

    def __init__(self, run: TrainedRun, folder: Path, cache: Cache) -> None:
        """Read the network of the run in `folder`, and what it replays. Raises DataError if that
        is not stored, and the run's recordings are not there.
        """
        old = read(folder)
        self.replayed = replay(run, folder, dataset_of_run(str(run.facts["data"])), cache) if old is None else old
        self.base = trunk(folder)
        self.network = keras.models.load_model(folder / "model.keras", compile=False)
        end = self.network.get_layer(self.base.layers[-1].name).output
        self._head = keras.Model(end, self.network.outputs[0])
        self._thresholds = np.array(run.decision.thresholds, np.float32)
        self._start = self._head.get_weights()
        self._answers = np.asarray(self._head.predict(self.replayed, batch_size=1024, verbose=0))

    def answers(self, values: Float32) -> Float32:
        """Return the scores (windows, labels) of values."""
        return np.asarray(self._head(values, training=False))

    def right(self, example: Example) -> NDArray[np.bool_]:
        """Return which windows have exactly their labels, (windows,)."""
        return np.asarray(self._labels(self.answers(example.values), example).all(axis=1))

    def _labels(self, answers: Float32, example: Example) -> NDArray[np.bool_]:
        """Return which labels of each window are right, (windows, labels)."""
        found: NDArray[np.bool_] = (answers >= self._thresholds) == (example.target > 0.5)
        return found

    def forget(self) -> None:
        """Return to the first weights."""
        self._head.set_weights(self._start)

    def learn(self, examples: Sequence[Example]) -> None:
        """Train from the first weights on; all examples together weigh 1, what is replayed
        REPLAY.

        Labels of a window that are right already keep their old scores as targets. To push these
        further would change the answers to other recordings for nothing.
        """
        self.forget()
        answers = [self.answers(each.values) for each in examples]
        wanted = [
            np.where(self._labels(old, each), old, each.target) for old, each in zip(answers, examples, strict=True)
        ]
        values = tf.constant(np.concatenate([self.replayed, *(each.values for each in examples)]))
        targets = tf.constant(np.concatenate([self._answers, *wanted]), tf.float32)
        weights = np.concatenate(
            [
                np.full(len(self.replayed), REPLAY / len(self.replayed)),
                *(np.full(len(each.values), 1 / len(each.values) / len(examples)) for each in examples),
            ]
        )
        weighted = tf.constant(weights, tf.float32)
        optimizer = keras.optimizers.Adam(RATE)
        optimizer.build(self._head.trainable_variables)

        @tf.function
        def step() -> None:
            with tf.GradientTape() as tape:
                each = keras.losses.binary_crossentropy(targets, self._head(values, training=False))
                loss = tf.reduce_sum(weighted * each)
            variables = self._head.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)

        for _ in range(STEPS):
            step()


def left_out_in_turn(learner: Learner, segments: Sequence[Segment]) -> list[NDArray[np.bool_]]:
    """Return which windows of each segment are right after learning from the other recordings.

    Segments of one recording are left out together, if there are several recordings.
    """
    files = [each.recording.file_sha256 for each in segments]
    groups = sorted(set(files)) if len(set(files)) > 1 else [each.recording.sha256 for each in segments]
    keys = files if len(set(files)) > 1 else groups
    fold_of = {key: place % FOLDS for place, key in enumerate(groups)}
    found: dict[int, NDArray[np.bool_]] = {}
    for fold in sorted(set(fold_of.values())):
        learner.learn([each for each, key in zip(segments, keys, strict=True) if fold_of[key] != fold])
        for place, (each, key) in enumerate(zip(segments, keys, strict=True)):
            if fold_of[key] == fold:
                found[place] = learner.right(each)
    return [found[place] for place in range(len(segments))]


def _accuracy(right: Sequence[NDArray[np.bool_]], segments: Sequence[Segment]) -> dict[str, Any]:
    """Return the shares of windows and of segments (by most of their windows) that are right."""
    whole = [float(each.mean()) > 0.5 for each in right]
    return {
        "clips": int(sum(map(len, right))),
        "clip_accuracy": round(float(np.concatenate(right).mean()), 5),
        "files": len(segments),
        "file_accuracy": round(float(np.mean(whole)), 5),
        "wrong_files": [each.recording.name for each, well in zip(segments, whole, strict=True) if not well],
    }
