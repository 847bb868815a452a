"""Loss and accuracy of independent labels, without the targets that are undecidable (NaN)."""

from __future__ import annotations

import keras

EXCLUSIVE = "categorical_crossentropy"


@keras.saving.register_keras_serializable("ms_train")
def decidable_crossentropy(targets: keras.KerasTensor, scores: keras.KerasTensor) -> keras.KerasTensor:
    """Return the mean binary cross-entropy (batch,) of probabilities (batch, labels); a target of
    NaN counts as no error.
    """
    known = keras.ops.isfinite(targets)
    targets = keras.ops.where(
        known, targets, keras.ops.zeros_like(targets)
    )  # before the logarithm: NaN has no gradient
    each = keras.ops.binary_crossentropy(targets, scores)
    return keras.ops.mean(keras.ops.where(known, each, keras.ops.zeros_like(each)), axis=-1)


@keras.saving.register_keras_serializable("ms_train")
class DecidableAccuracy(keras.metrics.Mean):
    """The share of targets of 0 or 1 whose score is on the same side of a half."""

    def update_state(
        self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor, sample_weight: keras.KerasTensor | None = None
    ) -> None:
        """Called by Keras."""
        known = keras.ops.isfinite(y_true)
        right = keras.ops.equal(keras.ops.cast(y_pred > 0.5, y_true.dtype), y_true)
        super().update_state(keras.ops.cast(right, self.dtype), keras.ops.cast(known, self.dtype))


def compile_for(model: keras.Model, independent: bool, optimizer: keras.Optimizer, smoothing: float = 0.0) -> None:
    """Compile a network with `decidable_crossentropy` for independent labels, else with categorical
    cross-entropy, whose targets `smoothing` moves from 0 and 1 towards equal ones.
    """
    exclusive = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing) if smoothing else EXCLUSIVE
    model.compile(
        optimizer=optimizer,
        loss=decidable_crossentropy if independent else exclusive,
        metrics=[DecidableAccuracy(name="accuracy") if independent else "accuracy"],
    )
