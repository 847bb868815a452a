"""Train a recipe on a dataset and write a run folder (`ms_train.training.runs`), which all other
commands read.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm
from tqdm.keras import TqdmCallback

from ms_edge.arrays import Float32
from ms_train import plots
from ms_train.datasets import clips
from ms_train.datasets.cache import Cache
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.splits import Split, require_label_names, split
from ms_train.errors import DataError
from ms_train.frontend import FrontEndLayer, clip_features
from ms_train.recipes.recipe import Recipe
from ms_train.scores.metrics import accuracy, predict
from ms_train.training import checkpoint
from ms_train.training.batches import BankBatches, FixedBatches
from ms_train.training.decision import Held, decide, read_held
from ms_train.training.rendering import batches_of
from ms_train.training.runs import describe, open_folder, save_model, write_json

# Used after weights are averaged: the momentum of the statistics, and the number of batches they
# are computed on.
STATISTICS_MOMENTUM, STATISTICS_BATCHES = 0.98, 250


class TargetAccuracy(keras.callbacks.Callback):
    """Print a line every few epochs, and stop as soon as validation accuracy reaches a target, if
    there is one.

    This is the callback of the article that `logstft_cnn` reproduces.
    """

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
        """Return whether the validation accuracy of an epoch reached the target."""
        return self.target is not None and logs["val_accuracy"] >= self.target


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to train; the defaults are those of `fit`.

    `fold` is (i, n): the i-th of n folds is held out for testing. `epochs` replaces the recipe's
    number. `cache` is the folder of a cache, None for no cache. With `resume`, training continues
    where a training with the same settings was interrupted, and ends with the same weights.
    `mixed_precision` computes in 16 bits on GPUs. `command` is the command line that trains the
    same, without --out; the run folder keeps it.
    """

    seed: int = 0
    fold: tuple[int, int] | None = None
    epochs: int | None = None
    cache: Path | None = None
    resume: bool = False
    tensorboard: bool = False
    mixed_precision: bool = False
    command: Sequence[str] = ()


@dataclass(frozen=True)
class _Prepared:
    """What a training reads before it begins: batches, clips, and the names of the recordings of
    each part.
    """

    batches: FixedBatches | BankBatches
    val: clips.Clips
    test: clips.Clips | None
    held: Held | None
    used: dict[str, tuple[str, ...]]


def fit(recipe: Recipe, dataset: Dataset, data: str, out: Path, options: Options | None = None) -> dict[str, Any]:
    """Train `recipe` on `dataset` (named `data` on the command line) into the folder `out`, and
    return the metrics.

    The validation part decides when to stop. A held-out fold is used once, at the end. All GPUs
    that TensorFlow sees are used. Raises MsEdgeError if the data or the folder cannot be used.
    """
    require_label_names(dataset)  # now, not when it is exported
    if several := [each for each in dataset.recordings if each.label and each.label not in dataset.labels]:
        raise DataError(
            "bad-data",
            f"{several[0].name}: has several labels, {several[0].label}; only ms-train finetune learns from these.",
        )
    began = time.monotonic()
    training = _Training(recipe, dataset, options or Options(), out)
    settings = training.settings(data)
    open_folder(out, settings, training.options.resume)
    keras.utils.set_random_seed(training.options.seed)
    tf.config.experimental.enable_op_determinism()
    parts = split(dataset, training.options.seed, training.options.fold, val_share=recipe.val_share)
    model = training.build()
    prepared = training.prepare(parts, model)
    describe(out, recipe, dataset, parts.train, prepared.used, settings, training.options.command)
    history = training.run(model, prepared)
    if training.options.mixed_precision:
        model = training.in_32_bits(model)
    metrics = training.finish(model, prepared, history)
    metrics["seconds"] = round(time.monotonic() - began, 1)
    checkpoint.write_history(history, out / "history.csv")
    columns = {name: [epoch[name] for epoch in history] for name in history[0]}
    plots.curves(columns, out / "curves.png", f"{recipe.name} on {dataset.name}")
    write_json(out / "metrics.json", metrics)
    (out / checkpoint.NAME).unlink(missing_ok=True)
    return metrics


class _Training:
    """The steps of one training, in the order in which `fit` calls them."""

    def __init__(self, recipe: Recipe, dataset: Dataset, options: Options, out: Path) -> None:
        self.recipe, self.dataset, self.options, self.out = recipe, dataset, options, out
        self.epochs = recipe.epochs if options.epochs is None else options.epochs
        self.layer, self.cache = FrontEndLayer(recipe.spec), Cache(options.cache)

    def settings(self, data: str) -> dict[str, Any]:
        """Return the facts that must be the same for a training to be resumed."""
        recipe, dataset, options = self.recipe, self.dataset, self.options
        return {
            "recipe": recipe.name,
            "labels": list(dataset.labels),
            "decision": dataset.decision,
            "data": data,
            "dataset": dataset.name,
            "frontend_sha256": recipe.spec.digest,
            "seed": options.seed,
            "fold": options.fold and f"{options.fold[0]}/{options.fold[1]}",
            "epochs": self.epochs,
            "augment": recipe.augmentation,
            "mixed_precision": options.mixed_precision,
            "settings": recipe.settings,
            **({"head_only": recipe.origin["head_only"]} if recipe.origin else {}),
            **({"origin_sha256": recipe.origin["model_sha256"]} if recipe.origin else {}),
        }

    def build(self) -> keras.Model:
        """Build and compile the network, on all GPUs, in the precision that the options ask for."""
        keras.mixed_precision.set_global_policy("mixed_float16" if self.options.mixed_precision else "float32")
        try:
            with strategy().scope():
                return self._new_model()
        finally:
            keras.mixed_precision.set_global_policy("float32")

    def in_32_bits(self, model: keras.Model) -> keras.Model:
        """Return the same network computing in 32 bits, in which it is kept, exported and scored."""
        plain = self._new_model()
        plain.set_weights(model.get_weights())
        return plain

    def _new_model(self) -> keras.Model:
        return self.recipe.build_model(self.dataset.labels, self.dataset.decision, self.epochs)

    def _load(self, recordings: Sequence[Recording], what: str) -> clips.Clips:
        """Return the fixed clips of recordings, from the cache if they are there."""
        recipe, features_of = self.recipe, partial(clip_features, self.layer)
        limit = recipe.clips_per_recording
        return clips.load(recordings, self.dataset.labels, recipe.spec, features_of, limit, what, self.cache)

    def prepare(self, parts: Split, model: keras.Model) -> _Prepared:
        """Read all data before the training starts, so that a problem with any of them is reported
        at once.
        """
        recipe, dataset = self.recipe, self.dataset
        val = self._load(parts.val, "validation data")
        test = self._load(parts.test, "held-out data") if parts.test else None
        held = read_held(dataset, parts.val, recipe, self.cache) if dataset.decision == "independent" else None
        batches, trained_on = (self._random if recipe.augment else self._fixed)(parts.train, model)
        used = {"train": trained_on, "val": val.names, "test": test.names if test else ()}
        used |= {held.part: held.names} if held and held.part not in used else {}
        return _Prepared(batches, val, test, held, used)

    def _random(self, train: tuple[Recording, ...], model: keras.Model) -> tuple[BankBatches, tuple[str, ...]]:
        """Return batches of random windows, and the names of the recordings they are drawn from."""
        recipe, dataset = self.recipe, self.dataset
        recordings = list(clips.read_all(train, recipe.spec.sample_rate_hz, "training data", self.cache))
        clips.require_labels([recording.label for recording, _ in recordings], dataset.labels, "training data")
        batches = batches_of(
            recordings,
            dataset,
            recipe,
            targets_for(model),
            epochs=self.epochs,
            seed=self.options.seed,
            cache=self.cache,
            out=self.out,
        )
        if not recipe.origin and any(isinstance(each, keras.layers.Normalization) for each in model.layers):
            adapt(model, self._load(train, "training data").features)
        return batches, tuple(recording.name for recording, _ in recordings)

    def _fixed(self, train: tuple[Recording, ...], model: keras.Model) -> tuple[FixedBatches, tuple[str, ...]]:
        """Return batches of fixed clips, and the names of their recordings."""
        found = self._load(train, "training data")
        adapt(model, found.features)
        targets = targets_for(model)(found.targets)
        return FixedBatches(found.features, targets, self.recipe.batch_size, self.options.seed), found.names

    def run(self, model: keras.Model, prepared: _Prepared) -> list[dict[str, float]]:
        """Train the network from its checkpoint or from the start, and return its history, one
        dictionary an epoch.
        """
        recipe, options = self.recipe, self.options
        first_epoch, history = checkpoint.restore(self.out, model) if options.resume else (0, [])
        saving = checkpoint.Checkpoint(self.out, history)
        stopping = TargetAccuracy(recipe.target_accuracy, recipe.log_every_epochs)
        if first_epoch < self.epochs and not (history and stopping.reached(history[-1])):
            val, targets = prepared.val, targets_for(model)
            build_variables(model, val.features[:1], targets(val.targets[:1]))
            model.fit(
                prepared.batches.dataset(first_epoch),
                steps_per_epoch=prepared.batches.steps_per_epoch,
                initial_epoch=first_epoch,
                epochs=self.epochs,
                validation_data=(val.features, targets(val.targets)),
                shuffle=False,
                verbose=0,
                callbacks=[
                    TqdmCallback(verbose=0, desc=recipe.name, file=sys.stderr, disable=not sys.stderr.isatty()),
                    stopping,
                    saving,
                    *([keras.callbacks.TensorBoard(self.out / "tensorboard")] if options.tensorboard else []),
                ],
            )
        settle(model, prepared.batches, self.epochs)
        return saving.history

    def finish(self, model: keras.Model, prepared: _Prepared, history: Sequence[dict[str, float]]) -> dict[str, Any]:
        """Join the network with those of its recipe, fit the decision, save the network, and return
        the metrics.
        """
        labels, decision = self.dataset.labels, self.dataset.decision
        if self.recipe.joined:
            model = self.recipe.joined(model, labels, decision)
        held = prepared.held
        decided = decide(model, held, self.recipe, self.layer, self.options.seed, self.cache) if held else None
        save_model(model, self.out / "model.keras")

        def accuracy_on(part: clips.Clips) -> dict[str, Any]:
            return accuracy(predict(model, labels, decision, part.features), part)

        return {
            "epochs": len(history),
            "parameters": model.count_params(),
            "val": accuracy_on(prepared.val),
            **({"test": accuracy_on(prepared.test)} if prepared.test else {}),
            **({"decision": decided} if decided else {}),
        }


def targets_for(model: keras.Model) -> Callable[[Float32], Float32]:
    """Return the function that converts one-hot rows (n, labels) to the targets of the network's
    loss.

    Sparse cross-entropy takes the index of the label, (n,). A network with one neuron takes the
    second column, (n, 1).
    """
    one_neuron = model.output_shape[-1] == 1
    sparse = isinstance(model.loss, keras.losses.SparseCategoricalCrossentropy)

    def targets(rows: Float32) -> Float32:
        if sparse:
            return np.asarray(rows.argmax(axis=1), np.float32)
        return rows[:, 1:] if one_neuron else rows

    return targets


def build_variables(model: keras.Model, features: Float32, targets: Float32) -> None:
    """Make the variables of a model's optimizer, loss and metrics, from features (n, ...) and
    targets (n, ...).

    If Keras makes them during the first training step, TensorFlow traces that step twice: five of
    ten seconds for mel_dscnn. On several devices Keras makes them before.
    """
    if strategy().num_replicas_in_sync == 1:
        checkpoint.build_optimizer(model)
        model.evaluate(features, targets, verbose=0)


def settle(model: keras.Model, batches: FixedBatches | BankBatches, epochs: int) -> None:
    """Set the averaged weights in a model whose optimizer averages weights, and compute their
    normalisation statistics.

    The statistics are computed on the batches after the last epoch, because those gathered in
    training belong to other weights (Izmailov et al. 2018).
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
    """Return a strategy over all GPUs if there are several, else TensorFlow's default: one GPU or
    the CPU.
    """
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def adapt(model: keras.Model, features: NDArray[np.float32]) -> None:
    """Set the mean and variance of all features (n, ...) of the training set in every Normalization
    layer of a model.

    One mean and one variance are taken over all values.
    """
    for network_layer in model.layers:
        if isinstance(network_layer, keras.layers.Normalization):
            values = features.astype(np.float64)
            network_layer.adapt_mean.assign(np.full(network_layer.adapt_mean.shape, values.mean()))
            network_layer.adapt_variance.assign(np.full(network_layer.adapt_variance.shape, values.var()))
            network_layer.finalize_state()
