"""Train a recipe on a dataset and leave a run folder from which everything else follows.

run folder: model.keras, recipe.json, spec.json, run.json (labels, decision, data, seed, versions), split.json, data.json
(SHA-256 of every recording used), history.csv, metrics.json, curves.png
"""

from __future__ import annotations

import csv
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm
from tqdm.keras import TqdmCallback

from ms_edge.errors import UsageError
from ms_train import clips, evaluate, plots
from ms_train.augment import Pool, random_windows
from ms_train.datasets import Dataset
from ms_train.datasets.splits import split
from ms_train.frontend import FrontEndLayer, clip_features
from ms_train.recipes import Recipe


class TargetAccuracy(keras.callbacks.Callback):
    """The article's callback: a line every few epochs, and an end as soon as validation accuracy reaches a target, if any."""

    def __init__(self, target: float | None, log_every: int) -> None:
        super().__init__()
        self.target = target
        self.log_every = log_every

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Called by Keras."""
        logs = logs or {}
        if (epoch + 1) % self.log_every == 0:
            tqdm.write(
                f"Epoch: {epoch + 1:3d}, Loss: {logs['loss']:.4f}, Acc: {logs['accuracy']:.4f}, "
                f"Val Loss: {logs['val_loss']:.4f}, Val Acc: {logs['val_accuracy']:.4f}",
                file=sys.stderr,
            )
        if self.target is not None and logs["val_accuracy"] >= self.target:
            tqdm.write(
                f"Epoch: {epoch + 1:3d}, Val Acc: {logs['val_accuracy']:.4f} reached the target {self.target}",
                file=sys.stderr,
            )
            self.model.stop_training = True


def fit(
    recipe: Recipe,
    dataset: Dataset,
    data: str,
    out: Path,
    *,
    seed: int = 0,
    fold: tuple[int, int] | None = None,
    epochs: int | None = None,
) -> dict[str, Any]:
    """Train `recipe` on `dataset` (named `data` on the command line) into the new folder `out`; returns the metrics.

    The validation part decides when to stop; a held-out fold is looked at once, at the end. Raises MsEdgeError where
    the data or the folder cannot be used.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError("usage", f"{out}: already holds files; give --out a new folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)  # now, not after hours of training
    except OSError as error:
        raise UsageError("usage", f"{out}: cannot be made ({error.strerror}).") from None
    began = time.monotonic()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    epochs = recipe.epochs if epochs is None else epochs
    parts = split(dataset, seed, fold, val_share=recipe.val_share)
    spec, labels = recipe.spec, dataset.labels
    layer = FrontEndLayer(spec)

    model = recipe.build_model(labels, dataset.decision, epochs)
    one_neuron = model.output_shape[-1] == 1
    sparse = isinstance(model.loss, keras.losses.SparseCategoricalCrossentropy)

    def targets(part: clips.Clips) -> NDArray[np.float32]:
        if sparse:
            return part.targets.argmax(axis=1).astype(np.float32)
        return part.targets[:, 1:] if one_neuron else part.targets

    val = clips.load(parts.val, labels, spec, recipe.clips_per_recording, "validation data")
    test = None
    if parts.test:  # read now, so that what is wrong with it is said before the training
        test = clips.load(parts.test, labels, spec, recipe.clips_per_recording, "held-out data")
    val_features = clip_features(layer, val.samples)
    callbacks = [
        TqdmCallback(verbose=0, desc=recipe.name, file=sys.stderr, disable=not sys.stderr.isatty()),
        TargetAccuracy(recipe.target_accuracy, recipe.log_every_epochs),
    ]
    common: dict[str, Any] = {
        "validation_data": (val_features, targets(val)),
        "epochs": epochs,
        "callbacks": callbacks,
        "verbose": 0,
    }
    augment = recipe.augment
    if augment and recipe.steps_per_epoch:
        recordings = list(clips.read_all(parts.train, spec.sample_rate_hz, "training data"))
        trained_on = tuple(recording.name for recording, _ in recordings)
        clips.require_labels([recording.label for recording, _ in recordings], labels, "training data")
        pool = Pool(recordings, labels, dataset.decision, spec)
        signature = (tf.TensorSpec((None, spec.clip_samples)), tf.TensorSpec((None, len(labels))))
        # One generator thread, so that the same seed gives the same batches in the same order.
        batches = tf.data.Dataset.from_generator(
            lambda: random_windows(pool, augment, recipe.batch_size, seed), output_signature=signature
        )
        batches = batches.map(
            lambda samples, rows: (layer(samples), rows[:, 1:] if one_neuron else rows), num_parallel_calls=1
        ).prefetch(8)
        history = model.fit(batches, steps_per_epoch=recipe.steps_per_epoch, shuffle=False, **common)
    else:
        train = clips.load(parts.train, labels, spec, recipe.clips_per_recording, "training data")
        trained_on = train.names
        features = clip_features(layer, train.samples)
        adapt(model, features)
        batches = (
            tf.data.Dataset.from_tensor_slices((features, targets(train)))
            .cache()
            .shuffle(len(features), seed=seed)
            .batch(recipe.batch_size)
            .prefetch(tf.data.AUTOTUNE)
        )
        history = model.fit(batches, shuffle=False, **common)

    model.save(out / "model.keras")
    metrics: dict[str, Any] = {
        "epochs": len(history.epoch),
        "parameters": model.count_params(),
        "val": evaluate.accuracy(evaluate.predict(model, labels, dataset.decision, val_features), val),
    }
    if test:
        test_scores = evaluate.predict(model, labels, dataset.decision, clip_features(layer, test.samples))
        metrics["test"] = evaluate.accuracy(test_scores, test)
    metrics["seconds"] = round(time.monotonic() - began, 1)

    used = {"train": trained_on, "val": val.names, "test": test.names if test else ()}
    digests = {recording.name: recording.sha256 for recording in dataset.recordings}
    sources = {recording.name: recording.source for recording in parts.train}
    _write_json(out / "recipe.json", {**recipe.to_dict(), "epochs": epochs})
    _write_json(out / "spec.json", json.loads(spec.to_json()))
    _write_json(out / "split.json", {name: list(names) for name, names in used.items()})
    _write_json(out / "data.json", {name: digests[name] for names in used.values() for name in names})
    _write_json(out / "metrics.json", metrics)
    _write_json(
        out / "run.json",
        {
            "recipe": recipe.name,
            "labels": list(labels),
            "decision": dataset.decision,
            "data": data,
            "dataset": dataset.name,
            "licences": list(dataset.licences),
            "sources": sorted({sources[name] for name in trained_on}),
            "frontend_sha256": spec.digest,
            "seed": seed,
            "fold": fold and f"{fold[0]}/{fold[1]}",
            "versions": {
                name: version(name)
                for name in ("ms-edge", "tensorflow", "keras", "numpy", "scipy", "soxr", "soundfile")
            },
        },
    )
    with (out / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history.history])
        writer.writerows(
            [epoch + 1, *values] for epoch, *values in zip(history.epoch, *history.history.values(), strict=True)
        )
    plots.curves(history.history, out / "curves.png", f"{recipe.name} on {dataset.name}")
    return metrics


def adapt(model: keras.Model, features: NDArray[np.float32]) -> None:
    """Give every Normalization layer of a model the mean and variance of the training set's features (n, ...), all values alike."""
    for network_layer in model.layers:
        if isinstance(network_layer, keras.layers.Normalization):
            values = features.astype(np.float64)
            network_layer.adapt_mean.assign(np.full(network_layer.adapt_mean.shape, values.mean()))
            network_layer.adapt_variance.assign(np.full(network_layer.adapt_variance.shape, values.var()))
            network_layer.finalize_state()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="ascii")  # names that are no Unicode too
