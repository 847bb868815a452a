"""Train a recipe on a dataset and leave a run folder (`ms_train.training.runs`) from which everything else follows."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm
from tqdm.keras import TqdmCallback

from ms_edge.model.metadata import LABEL_RULE, is_label
from ms_train import plots
from ms_train.datasets import clips
from ms_train.datasets.cache import Cache
from ms_train.datasets.dataset import Dataset
from ms_train.datasets.splits import split
from ms_train.errors import DataError
from ms_train.frontend import FrontEndLayer, clip_features
from ms_train.recipes.recipe import Recipe
from ms_train.scores.metrics import accuracy, predict
from ms_train.training import checkpoint
from ms_train.training.batches import BankBatches, FixedBatches
from ms_train.training.decision import decide, read_held
from ms_train.training.rendering import batches_of
from ms_train.training.runs import describe, open_folder, save_model, write_json

# After weights are averaged: how much of the statistics each batch leaves as it was, and how many batches there are.
STATISTICS_MOMENTUM, STATISTICS_BATCHES = 0.98, 250


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
        if self.reached(logs):
            tqdm.write(
                f"Epoch: {epoch + 1:3d}, Val Acc: {logs['val_accuracy']:.4f} reached the target {self.target}",
                file=sys.stderr,
            )
            self.model.stop_training = True

    def reached(self, logs: dict[str, float]) -> bool:
        """Whether an epoch ended with the target reached."""
        return self.target is not None and logs["val_accuracy"] >= self.target


def fit(
    recipe: Recipe,
    dataset: Dataset,
    data: str,
    out: Path,
    *,
    seed: int = 0,
    fold: tuple[int, int] | None = None,
    epochs: int | None = None,
    cache: Path | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    mixed_precision: bool = False,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Train `recipe` on `dataset` (named `data` on the command line) into the folder `out`; returns the metrics.

    The validation part decides when to stop; a held-out fold is looked at once, at the end. `resume` goes on where a
    training into `out` with the same settings was interrupted, and ends with the same weights. All GPUs that TensorFlow
    sees are used; `mixed_precision` computes in 16 bits on them. `command` is what does the same on the command line, without --out: the
    run folder keeps it. Raises MsEdgeError where the data or the folder cannot be used.
    """
    if wrong := [label for label in dataset.labels if not is_label(label)]:  # now, not when it is exported
        raise DataError("bad-data", f"{dataset.name}: no model can call a class {wrong[0]!r}: {LABEL_RULE}; rename it.")
    began = time.monotonic()
    epochs = recipe.epochs if epochs is None else epochs
    settings = {
        "recipe": recipe.name,
        "labels": list(dataset.labels),
        "decision": dataset.decision,
        "data": data,
        "dataset": dataset.name,
        "frontend_sha256": recipe.spec.digest,
        "seed": seed,
        "fold": fold and f"{fold[0]}/{fold[1]}",
        "epochs": epochs,
        "augment": recipe.augmentation,
        "mixed_precision": mixed_precision,
        "settings": recipe.settings,
        **({"head_only": recipe.origin["head_only"]} if recipe.origin else {}),
        **({"origin_sha256": recipe.origin["model_sha256"]} if recipe.origin else {}),
    }
    open_folder(out, settings, resume)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    parts = split(dataset, seed, fold, val_share=recipe.val_share)
    spec, labels = recipe.spec, dataset.labels
    layer, kept = FrontEndLayer(spec), Cache(cache)
    features_of = partial(clip_features, layer)

    def load(recordings: Any, what: str) -> clips.Clips:
        return clips.load(recordings, labels, spec, features_of, recipe.clips_per_recording, what, kept)

    keras.mixed_precision.set_global_policy("mixed_float16" if mixed_precision else "float32")
    try:
        with strategy().scope():
            model = recipe.build_model(labels, dataset.decision, epochs)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    one_neuron = model.output_shape[-1] == 1
    sparse = isinstance(model.loss, keras.losses.SparseCategoricalCrossentropy)

    def targets(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        if sparse:
            return rows.argmax(axis=1).astype(np.float32)
        return rows[:, 1:] if one_neuron else rows

    val = load(parts.val, "validation data")
    # Read now, so that what is wrong with it is said before the training.
    test = load(parts.test, "held-out data") if parts.test else None
    held = read_held(dataset, parts.val, recipe, kept) if dataset.decision == "independent" else None
    batches: FixedBatches | BankBatches
    if recipe.augment:
        recordings = list(clips.read_all(parts.train, spec.sample_rate_hz, "training data", kept))
        trained_on = tuple(recording.name for recording, _ in recordings)
        clips.require_labels([recording.label for recording, _ in recordings], labels, "training data")
        batches = batches_of(recordings, dataset, recipe, targets, epochs=epochs, seed=seed, cache=kept, out=out)
        if not recipe.origin and any(isinstance(each, keras.layers.Normalization) for each in model.layers):
            adapt(model, load(parts.train, "training data").features)
    else:
        train = load(parts.train, "training data")
        trained_on = train.names
        adapt(model, train.features)
        batches = FixedBatches(train.features, targets(train.targets), recipe.batch_size, seed)

    used = {"train": trained_on, "val": val.names, "test": test.names if test else ()}
    used |= {held.part: held.names} if held and held.part not in used else {}
    describe(out, recipe, dataset, parts.train, used, settings, command)
    first_epoch, history = checkpoint.restore(out, model) if resume else (0, [])
    saving = checkpoint.Checkpoint(out, history)
    stopping = TargetAccuracy(recipe.target_accuracy, recipe.log_every_epochs)
    if first_epoch < epochs and not (history and stopping.reached(history[-1])):
        build_variables(model, val.features[:1], targets(val.targets[:1]))
        model.fit(
            batches.dataset(first_epoch),
            steps_per_epoch=batches.steps_per_epoch,
            initial_epoch=first_epoch,
            epochs=epochs,
            validation_data=(val.features, targets(val.targets)),
            shuffle=False,
            verbose=0,
            callbacks=[
                TqdmCallback(verbose=0, desc=recipe.name, file=sys.stderr, disable=not sys.stderr.isatty()),
                stopping,
                saving,
                *([keras.callbacks.TensorBoard(out / "tensorboard")] if tensorboard else []),
            ],
        )
    settle(model, batches, epochs)
    if mixed_precision:  # what is kept, exported and scored computes in 32 bits
        plain = recipe.build_model(labels, dataset.decision, epochs)
        plain.set_weights(model.get_weights())
        model = plain

    decision = decide(model, held, recipe, layer, seed, kept) if held else None
    save_model(model, out / "model.keras")
    metrics: dict[str, Any] = {
        "epochs": len(saving.history),
        "parameters": model.count_params(),
        "val": accuracy(predict(model, labels, dataset.decision, val.features), val),
    }
    if test:
        metrics["test"] = accuracy(predict(model, labels, dataset.decision, test.features), test)
    if decision:
        metrics["decision"] = decision
    metrics["seconds"] = round(time.monotonic() - began, 1)
    checkpoint.write_history(saving.history, out / "history.csv")
    columns = {name: [epoch[name] for epoch in saving.history] for name in saving.history[0]}
    plots.curves(columns, out / "curves.png", f"{recipe.name} on {dataset.name}")
    write_json(out / "metrics.json", metrics)
    (out / checkpoint.NAME).unlink(missing_ok=True)
    return metrics


def build_variables(model: keras.Model, features: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
    """Make the variables of a model's optimizer, loss and metrics, from features (n, ...) and targets (n, ...).

    If Keras makes them during the first training step, TensorFlow traces that step twice: five seconds of mel_dscnn's ten.
    On several devices Keras makes them before.
    """
    if strategy().num_replicas_in_sync == 1:
        model.optimizer.build(model.trainable_variables)
        model.evaluate(features, targets, verbose=0)


def settle(model: keras.Model, batches: FixedBatches | BankBatches, epochs: int) -> None:
    """Give a model whose optimizer averages weights the averaged ones, and its normalisation layers the statistics of those.

    The statistics are of batches after the last epoch: those gathered in training are of other weights (Izmailov et al. 2018).
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        return
    optimizer.finalize_variable_values(model.trainable_variables)
    layers = [each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)]
    momenta = [each.momentum for each in layers]
    for each in layers:
        each.momentum = STATISTICS_MOMENTUM
    step = tf.function(lambda features: model(features, training=True), reduce_retracing=True)
    for features, _ in batches.dataset(epochs).take(STATISTICS_BATCHES):
        step(features)
    for each, momentum in zip(layers, momenta, strict=True):
        each.momentum = momentum


def strategy() -> tf.distribute.Strategy:
    """Over all GPUs where there are several, else TensorFlow's default: one GPU or the CPU."""
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def adapt(model: keras.Model, features: NDArray[np.float32]) -> None:
    """Give every Normalization layer of a model the mean and variance of the training set's features (n, ...), all values alike."""
    for network_layer in model.layers:
        if isinstance(network_layer, keras.layers.Normalization):
            values = features.astype(np.float64)
            network_layer.adapt_mean.assign(np.full(network_layer.adapt_mean.shape, values.mean()))
            network_layer.adapt_variance.assign(np.full(network_layer.adapt_variance.shape, values.var()))
            network_layer.finalize_state()
