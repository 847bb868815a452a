"""Learn from corrected segments: the same labels, new audio.

Only the last layers learn (`finetune.trunk` says which), from the corrected segments and from
`replay`. The calibration and the thresholds stay those of the first network. The accuracy that is
reported is measured on recordings that were left out: the corrections are learnt several times,
each time without a part of the recordings.
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
REPLAY = 300.0  # weight of all that is replayed, relative to all corrections
FOLDS = 5


@dataclass(frozen=True)
class Segment:
    """A corrected segment: the values before the last layers of its windows, and its target
    (labels,).
    """

    recording: Recording
    values: Float32
    target: Float32


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
    base = trunk(folder)
    segments = _segments(dataset, run, base)
    network = keras.models.load_model(folder / "model.keras", compile=False)
    head = keras.Model(_end(network, base), network.outputs[0])
    old = read(folder)
    if old is None:
        old = replay(run, folder, dataset_of_run(str(run.facts["data"])), cache)
    learner = _Learner(head, old)
    before = [_right(learner.answers(each.values), each, run) for each in segments]
    after = left_out_in_turn(learner, segments, run)
    learner.learn(segments)
    names = tuple(each.recording.name for each in segments)
    describe(out, recipe, dataset, dataset.recordings, {"train": names, "val": (), "test": ()}, settings, command)
    metrics = {
        "epochs": STEPS,
        "parameters": network.count_params(),
        "val": _accuracy(after, segments),
        "before": _accuracy(before, segments),
        "decision": json.loads((folder / "metrics.json").read_text("utf-8")).get("decision", {}),
        "seconds": round(time.monotonic() - began, 1),
    }
    write(np.concatenate([old, *(each.values for each in segments)]), out)  # what learns from this run replays both
    save_model(network, out / "model.keras")
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
        found.append(Segment(recording, latents(base, clip_features(layer, np.stack(cut))), target))
    if silent:
        tqdm.write(f"{silent} segments are silent, and are left out.", file=sys.stderr)
    if len(found) < 2:
        raise DataError("bad-data", f"{len(found)} corrected segments have sound; at least two are needed.")
    return found


def _end(network: keras.Model, base: keras.Model) -> keras.KerasTensor:
    """Return the tensor of `network` that is the output of its trunk `base`."""
    return network.get_layer(base.layers[-1].name).output


class _Learner:
    """The last layers of a network, and the old answers to what is replayed."""

    def __init__(self, head: keras.Model, old: Float32) -> None:
        self._head, self._old = head, old
        self._start = head.get_weights()
        self._answers = np.asarray(head.predict(old, batch_size=1024, verbose=0))

    def answers(self, values: Float32) -> Float32:
        """Return the scores (windows, labels) of values."""
        return np.asarray(self._head(values, training=False))

    def learn(self, segments: Sequence[Segment]) -> None:
        """Train from the first weights on; all segments together weigh 1, what is replayed
        REPLAY.
        """
        self._head.set_weights(self._start)
        values = tf.constant(np.concatenate([self._old, *(each.values for each in segments)]))
        targets = np.concatenate([self._answers, *(np.tile(each.target, (len(each.values), 1)) for each in segments)])
        weights = np.concatenate(
            [
                np.full(len(self._old), REPLAY / len(self._old)),
                *(np.full(len(each.values), 1 / len(each.values) / len(segments)) for each in segments),
            ]
        )
        wanted, weighted = tf.constant(targets, tf.float32), tf.constant(weights, tf.float32)
        optimizer = keras.optimizers.Adam(RATE)
        optimizer.build(self._head.trainable_variables)

        @tf.function
        def step() -> None:
            with tf.GradientTape() as tape:
                each = keras.losses.binary_crossentropy(wanted, self._head(values, training=False))
                loss = tf.reduce_sum(weighted * each)
            variables = self._head.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)

        for _ in range(STEPS):
            step()


def left_out_in_turn(learner: _Learner, segments: Sequence[Segment], run: TrainedRun) -> list[NDArray[np.bool_]]:
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
                found[place] = _right(learner.answers(each.values), each, run)
    return [found[place] for place in range(len(segments))]


def _right(scores: Float32, segment: Segment, run: TrainedRun) -> NDArray[np.bool_]:
    """Return which windows (windows,) have exactly the labels of the segment."""
    said = scores >= np.array(run.decision.thresholds, np.float32)
    right: NDArray[np.bool_] = (said == (segment.target > 0.5)).all(axis=1)
    return right


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
