"""Batches to train on, the same for the same seed, from any epoch on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ms_train.augment import Augment, Pool, random_batch
from ms_train.frontend import FrontEndLayer

Float32 = NDArray[np.float32]


class FixedBatches:
    """The same clips every epoch, in another order: features (n, *feature_shape) and targets (n, ...)."""

    def __init__(self, features: Float32, targets: Float32, batch_size: int, seed: int) -> None:
        self.steps_per_epoch = -(-len(features) // batch_size)
        self._parts = (features, targets, batch_size, seed)

    def dataset(self, first_epoch: int) -> tf.data.Dataset:
        """All epochs from `first_epoch` on, without end."""
        features, targets, batch_size, seed = self._parts
        everything = tf.constant(features), tf.constant(targets)

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            key = tf.stack([tf.constant(seed % (1 << 31), tf.int64), number])
            order = tf.random.experimental.stateless_shuffle(tf.range(len(features)), seed=key)
            return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

        batches = tf.data.Dataset.counter(first_epoch).flat_map(epoch)
        batches = batches.map(lambda rows: tuple(tf.gather(part, rows) for part in everything))
        return batches.prefetch(tf.data.AUTOTUNE)


class RandomBatches:
    """Random windows through an augmentation: other ones every epoch, made while the network learns.

    `targets` makes of rows (batch, labels) in {0, 1} what the network's loss wants.
    """

    def __init__(
        self,
        pool: Pool,
        augment: Augment,
        layer: FrontEndLayer,
        batch_size: int,
        steps_per_epoch: int,
        seed: int,
        targets: Callable[[Float32], Float32],
        lengths_s: Mapping[float, float] | None = None,
    ) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._pool, self._augment, self._layer = pool, augment, layer
        self._batch_size, self._targets, self._seed, self._lengths_s = batch_size, targets, seed, lengths_s

    def dataset(self, first_epoch: int) -> tf.data.Dataset:
        """All epochs from `first_epoch` on, without end."""
        row = self._targets(np.zeros((1, len(self._pool.labels)), np.float32))
        shapes = (None, None if self._lengths_s else self._pool.spec.clip_samples), (None, *row.shape[1:])

        def windows(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            samples, rows = tf.numpy_function(self._windows, [number], (tf.float32, tf.float32), stateful=False)
            rows = tf.ensure_shape(rows, shapes[1])
            return number, self._layer(tf.ensure_shape(samples, shapes[0])), rows

        # In threads: the transforms that most of the time goes into let Python do other things. In their order, whoever is first.
        numbers = tf.data.Dataset.counter(first_epoch * self.steps_per_epoch)
        batches = numbers.map(windows, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        masked = getattr(self._augment, "masks", ())
        batches = batches.map(self._masked if masked else lambda number, features, rows: (features, rows))
        return batches.prefetch(8)

    def _windows(self, number: np.int64) -> tuple[Float32, Float32]:
        """The batch of that number: its random numbers follow from it, so that any epoch can be begun with."""
        rng = np.random.default_rng([self._seed, 0, int(number)])
        samples, rows = random_batch(self._pool, self._augment, self._batch_size, rng, self._lengths_s)
        return samples, self._targets(rows)

    def _masked(self, number: tf.Tensor, features: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The augmentation's masks, drawn by the batch's number too."""

        def mask(features: Float32, number: np.int64) -> Float32:
            rng, spec = np.random.default_rng([self._seed, 1, int(number)]), self._pool.spec
            return np.stack([self._augment.on_features(clip, rng, spec) for clip in features])

        masked = tf.numpy_function(mask, [features, number], tf.float32, stateful=False)
        return tf.ensure_shape(masked, features.shape), rows
