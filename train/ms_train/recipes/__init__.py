"""Recipes: one module per trainable system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from ms_edge.errors import UsageError
from ms_edge.spec import FrontEndSpec
from ms_train.augment import Augment


@dataclass(frozen=True)
class Recipe:
    """Everything one system is trained with.

    `build_model(labels, decision, epochs)` returns a compiled Keras model, to be trained for so many epochs, from features
    (batch, *spec.feature_shape) to scores or logits: one sigmoid neuron (the probability of the second of two labels), or one
    column per label (see `ms_train.outputs`). A Normalization layer in it is adapted to the training set.
    `clips_per_recording` fixed clips are cut from the start of each recording. With `augment`, training draws
    `steps_per_epoch` batches of random windows instead and passes each through it (see `ms_train.augment`).
    """

    name: str
    spec: FrontEndSpec
    build_model: Callable[[tuple[str, ...], str, int], keras.Model]
    batch_size: int
    epochs: int
    clips_per_recording: int
    target_accuracy: float | None = None  # stop as soon as validation accuracy reaches it
    log_every_epochs: int = 5
    steps_per_epoch: int | None = None
    augment: Augment | None = None
    val_share: float = 0.2  # of the recordings that are left to train on, for validation
    apart: bool = (
        False  # a random window is of one recording, over and over where it is short (see `ms_train.augment.Pool`)
    )
    origin: Mapping[str, Any] | None = (
        None  # what the weights come from, where they are not random (`ms_train.finetune`)
    )

    def to_dict(self) -> dict[str, Any]:
        """What a run folder records of the recipe; the spec is recorded beside it."""
        return {
            "name": self.name,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "clips_per_recording": self.clips_per_recording,
            "target_accuracy": self.target_accuracy,
            "steps_per_epoch": self.steps_per_epoch,
            "augment": self.augment is not None,
            "val_share": self.val_share,
        }


def recipes() -> dict[str, Recipe]:
    """All recipes by name."""
    from ms_train.recipes import linear_dscnn, logstft_cnn, mel_attention, mel_dscnn, resized_cnn

    modules = (logstft_cnn, resized_cnn, mel_dscnn, linear_dscnn, mel_attention)
    return {module.RECIPE.name: module.RECIPE for module in modules}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises UsageError naming those there are."""
    known = recipes()
    if name not in known:
        raise UsageError("usage", f"There is no recipe {name!r}; there are {', '.join(known)}.")
    return known[name]
