"""What a recipe is: everything one system is trained with."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras

from ms_edge.errors import UsageError
from ms_edge.features.spec import FrontEndSpec
from ms_train.recipes.ranges import Range, Value
from ms_train.signals import Augment


@dataclass(frozen=True)
class Recipe:
    """Everything one system is trained with.

    `build_model(labels, decision, epochs)` returns a compiled Keras model, to be trained for so many epochs, from features
    (batch, *spec.feature_shape) to scores or logits: one sigmoid neuron (the probability of the second of two labels), or one
    column per label (see `ms_train.scores.outputs`). A Normalization layer in it is adapted to the training set. It takes each name in
    `ranges` as a keyword argument too, whose default is what the recipe stands for; `with_settings` chooses others.
    `clips_per_recording` fixed clips are cut from the start of each recording. With `augment`, training draws random windows
    instead, of the spec's clip or of `clip_lengths_s`, and passes each through it (see `ms_train.augment`): `steps_per_epoch`
    batches of them, or, where that is None, as many batches as the fixed clips would fill. With `scenes` the sounds are also put
    into rooms, over noise and through compressors first. At most `bank_windows` windows are rendered; a longer training uses them
    again, at other levels.
    """

    name: str
    spec: FrontEndSpec
    build_model: Callable[..., keras.Model]
    batch_size: int
    epochs: int
    clips_per_recording: int
    # Of random windows: the chance of each length, where it is not the spec's alone.
    clip_lengths_s: Mapping[float, float] | None = None
    target_accuracy: float | None = None  # stop as soon as validation accuracy reaches it
    log_every_epochs: int = 5
    steps_per_epoch: int | None = None
    augment: Augment | None = None
    scenes: bool = False
    bank_windows: int = 300_000
    val_share: float = 0.2  # of the recordings that are left to train on, for validation
    ranges: Mapping[str, Range] = field(default_factory=dict)
    # A random window is of one recording, over and over where it is short (see `ms_train.augment.pool`).
    apart: bool = False
    origin: Mapping[str, Any] | None = (
        None  # what the weights come from, where they are not random (`ms_train.training.finetune`)
    )

    @property
    def settings(self) -> dict[str, Value]:
        """What `build_model` builds with: of each name in `ranges` its default, or what `with_settings` chose."""
        # Read off the function, which alone knows: a default written here too could become another one.
        taken = inspect.signature(self.build_model).parameters
        return {name: taken[name].default for name in self.ranges if name in taken}

    def with_settings(self, chosen: Mapping[str, Value]) -> Recipe:
        """The recipe with other values (or their text) for some of its settings.

        Raises UsageError for a name it does not have, and for a value that is not in its range.
        """
        values = {}
        for name, value in chosen.items():
            if name not in self.settings:
                known = f"it has {', '.join(self.settings)}" if self.settings else "it has none"
                raise UsageError(f"{self.name} has no setting {name!r}; {known}.")
            try:
                values[name] = self.ranges[name].read(value)
            except ValueError:
                raise UsageError(f"{name} of {self.name} is {self.ranges[name]}, not {value!r}.") from None
        return dataclasses.replace(self, build_model=partial(self.build_model, **values)) if values else self

    @property
    def augmentation(self) -> str | None:
        """The name of what windows pass through, or None where clips are fixed."""
        return None if self.augment is None else str(getattr(self.augment, "__name__", self.augment))

    def to_dict(self) -> dict[str, Any]:
        """What a run folder records of the recipe; the spec is recorded beside it."""
        return {
            "name": self.name,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "clips_per_recording": self.clips_per_recording,
            "clip_lengths_s": self.clip_lengths_s,
            "target_accuracy": self.target_accuracy,
            "steps_per_epoch": self.steps_per_epoch,
            "augment": self.augmentation,
            "scenes": self.scenes,
            "bank_windows": self.bank_windows,
            "val_share": self.val_share,
            "settings": self.settings,
        }
