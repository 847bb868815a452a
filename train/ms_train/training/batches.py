"""Training batches: the same seed gives the same batches, whichever epoch training starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.features.spec import FrontEndSpec
from ms_train.augment.augmentations import Chain
from ms_train.augment.bank import Bank


class FixedBatches:
    """Batches of the same clips in every epoch, each time in another order.

    `features` is (n, *feature_shape), `targets` (n, ...).
    """

    def __init__(self, features: Float32, targets: Float32, batch_size: int, seed: int) -> None:
        self.steps_per_epoch = -(-len(features) // batch_size)
        self._parts = (features, targets, batch_size, seed)

    def dataset(self, first_epoch: int) -> tf.data.Dataset:
        """Return an endless dataset of the batches of all epochs from `first_epoch` on."""
        features, targets, batch_size, seed = self._parts
        everything = tf.constant(features), tf.constant(targets)

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            key = tf.stack([tf.constant(seed % (1 << 31), tf.int64), number])
            order = tf.random.experimental.stateless_shuffle(tf.range(len(features)), seed=key)
            return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

        batches = tf.data.Dataset.counter(first_epoch).flat_map(epoch)
        batches = batches.map(lambda rows: tuple(tf.gather(part, rows) for part in everything))
        return batches.prefetch(tf.data.AUTOTUNE)


class BankBatches:
    """Batches of the windows of a bank.

    Every window is used once before any is used again. Each time the order, the levels and the
    positions are different. `lengths` (batches,) holds the length of the windows of each batch, in
    samples. `targets` converts rows (batch, labels) in {0, 1, NaN} to the targets of the network's
    loss.
    """

    def __init__(
        self,
        bank: Bank,
        batch_size: int,
        steps_per_epoch: int,
        lengths: NDArray[np.int64],
        targets: Callable[[Float32], Float32],
    ) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._bank, self._batch_size, self._targets = bank, batch_size, targets
        self._lengths = lengths
        # For each batch, the number of earlier batches with windows of the same length.
        self._turns = np.zeros(len(lengths), np.int64)
        for length in np.unique(lengths):
            self._turns[lengths == length] = np.arange((lengths == length).sum())
        self._order: Callable[[int, int], NDArray[np.int64]] = lru_cache(16)(self._new_order)

    def dataset(self, first_epoch: int) -> tf.data.Dataset:
        """Return an endless dataset of the batches of all epochs from `first_epoch` on."""
        plan = self._bank.plan
        row = self._targets(np.zeros((1, len(plan.scenes.pool.labels)), np.float32))
        frames = plan.spec.frames(int(self._lengths[0])) if len(set(self._lengths)) == 1 else None
        shape = (plan.spec.bins, frames) if plan.spec.layout == "bins_frames" else (frames, plan.spec.bins)

        def batch(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            features, rows = tf.numpy_function(self._batch, [number], (tf.float32, tf.float32), stateful=False)
            return tf.ensure_shape(features, (None, *shape)), tf.ensure_shape(rows, (None, *row.shape[1:]))

        # Batches are made in threads and yielded in order.
        numbers = tf.data.Dataset.counter(first_epoch * self.steps_per_epoch)
        return numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(8)

    def _batch(self, number: np.int64) -> tuple[Float32, Float32]:
        """Return the batch with this number; its random numbers follow from the number and the
        seed.
        """
        plan, index = self._bank.plan, int(number) % len(self._lengths)
        length = int(self._lengths[index])
        count = self._bank.counts[length]
        uses = self._turns[index] * self._batch_size + np.arange(self._batch_size)
        rows = [self._order(length, use // count)[use % count] for use in uses.tolist()]
        rng = np.random.default_rng([plan.seed, 0, index])
        features, targets = self._bank.features(length, rows, rng)
        if isinstance(plan.augment, Chain) and plan.augment.masks:
            features = np.stack([plan.augment.on_features(clip, rng, plan.spec) for clip in features])
        return features, self._targets(targets)

    def _new_order(self, length: int, turn: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._bank.plan.seed, 2, length, turn]).permutation(self._bank.counts[length])


def chances_of_lengths(spec: FrontEndSpec, lengths_s: Mapping[float, float] | None) -> dict[int, float]:
    """Return the probability of each window length in samples: that of `lengths_s`, or only the
    spec's clip.
    """
    return {
        round(length_s * spec.sample_rate_hz): chance for length_s, chance in (lengths_s or {spec.clip_s: 1.0}).items()
    }


def lengths_of_batches(batches: int, chances: Mapping[int, float], seed: int) -> NDArray[np.int64]:
    """Draw the window length of each batch (batches,), in samples, from the probabilities of the
    lengths.
    """
    return np.random.default_rng([seed, 3]).choice(list(chances), batches, p=list(chances.values()))


def counts_of(lengths: NDArray[np.int64], chances: Mapping[int, float], batch_size: int, limit: int) -> dict[int, int]:
    """Return the number of windows of each length in a bank.

    It is the number that batches of these lengths (batches,) use. If that is more than `limit`
    windows in total, it is about `limit` times the probability of the length, so that long
    trainings share one bank.
    """
    uses = {int(length): int(count) for length, count in zip(*np.unique(lengths, return_counts=True), strict=True)}
    if batch_size * len(lengths) > limit:
        uses = {length: max(1, round(chance * limit / batch_size)) for length, chance in chances.items()}
    return {length: batch_size * count for length, count in uses.items()}
