"""Batches to train on, the same for the same seed, from any epoch on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ms_train.augment import Augment, Pool, random_windows
from ms_train.frontend import FrontEndLayer

Float32 = NDArray[np.float32]


class FixedBatches:
    """The same clips every epoch, in another order: features (n, *feature_shape) and targets (n, ...)."""

    def __init__(self, features: Float32, targets: Float32, batch_size: int, seed: int) -> None:
        self.steps_per_epoch = -(-len(features) // batch_size)
        self._parts = (features, targets, batch_size, seed)

    def dataset(self, first_epoch: int, state: Any) -> tf.data.Dataset:
        """All epochs from `first_epoch` on, without end; `state` is none, since the order follows from the epoch."""
        features, targets, batch_size, seed = self._parts
        everything = tf.constant(features), tf.constant(targets)

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            key = tf.stack([tf.constant(seed % (1 << 31), tf.int64), number])
            order = tf.random.experimental.stateless_shuffle(tf.range(len(features)), seed=key)
            return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

        batches = tf.data.Dataset.counter(first_epoch).flat_map(epoch)
        batches = batches.map(lambda rows: tuple(tf.gather(part, rows) for part in everything))
        return batches.prefetch(tf.data.AUTOTUNE)

    def state(self, epochs: int) -> Any:
        """Where it stands after so many epochs: nothing to keep."""
        return None


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
    ) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._pool, self._augment, self._layer = pool, augment, layer
        self._batch_size, self._targets, self._seed = batch_size, targets, seed
        self._rng = np.random.default_rng(seed)
        self._states: dict[int, Any] = {}

    def dataset(self, first_epoch: int, state: Any) -> tf.data.Dataset:
        """All epochs from `first_epoch` on, without end, `state` being what `state(first_epoch)` was."""
        if state is not None:
            self._rng.bit_generator.state = state
        row = self._targets(np.zeros((1, len(self._pool.labels)), np.float32))
        signature = (tf.TensorSpec((None, self._pool.spec.clip_samples)), tf.TensorSpec((None, *row.shape[1:])))
        # One generator thread, so that the same seed gives the same batches in the same order.
        batches = tf.data.Dataset.from_generator(lambda: self._windows(first_epoch), output_signature=signature)
        batches = batches.map(lambda samples, rows: (self._layer(samples), rows), num_parallel_calls=1)
        if getattr(self._augment, "masks", ()):
            first = first_epoch * self.steps_per_epoch
            batches = batches.enumerate(first).map(self._masked, num_parallel_calls=1)
        return batches.prefetch(8)

    def _masked(self, number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The augmentation's masks, drawn by the batch's number, so that they are the same after `--resume`."""

        def mask(features: Float32, number: np.int64) -> Float32:
            rng, spec = np.random.default_rng([self._seed, 1, int(number)]), self._pool.spec
            return np.stack([self._augment.on_features(clip, rng, spec) for clip in features])

        masked = tf.numpy_function(mask, [batch[0], number], tf.float32)
        return tf.ensure_shape(masked, batch[0].shape), batch[1]

    def state(self, epochs: int) -> Any:
        """Where the random numbers stood after so many epochs; the generator itself is ahead of the network."""
        return self._states.pop(epochs)

    def _windows(self, first_epoch: int) -> Iterator[tuple[Float32, Float32]]:
        batches = random_windows(self._pool, self._augment, self._batch_size, self._rng)
        done = first_epoch * self.steps_per_epoch
        for samples, rows in batches:
            done += 1
            if done % self.steps_per_epoch == 0:
                self._states[done // self.steps_per_epoch] = self._rng.bit_generator.state
            yield samples, self._targets(rows)
