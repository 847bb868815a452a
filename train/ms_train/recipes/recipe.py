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
    """Everything that defines one trainable system.

    `build_model(labels, decision, epochs)` returns a compiled Keras model, to be trained for this
    number of epochs, from features (batch, *spec.feature_shape) to scores or logits. Its output is
    one sigmoid neuron (the probability of the second of two labels), or one column for each label
    (see `ms_train.scores.outputs`). A Normalization layer in it is adapted to the training set.
    `build_model` also takes each name in `ranges` as a keyword argument; the defaults are the
    recipe's own settings, and `with_settings` chooses others.

    `clips_per_recording` fixed clips are cut from the start of each recording. With `augment`,
    training draws random windows instead, as long as the spec's clip or as `clip_lengths_s`, and
    augments each (see `ms_train.augment`). An epoch has `steps_per_epoch` batches of them or, if
    that is None, as many batches as the fixed clips would fill. With `scenes`, the sounds are first
    put into rooms, mixed with noise and compressed. At most `bank_windows` windows are rendered; a
    longer training uses them again, at other levels.
    """

    name: str
    spec: FrontEndSpec
    build_model: Callable[..., keras.Model]
    batch_size: int
    epochs: int
    clips_per_recording: int
    # The probability of each length of random windows; None: only the spec's clip.
    clip_lengths_s: Mapping[float, float] | None = None
    target_accuracy: float | None = None  # stop as soon as validation accuracy reaches it
    log_every_epochs: int = 5
    steps_per_epoch: int | None = None
    augment: Augment | None = None
    scenes: bool = False
    bank_windows: int = 300_000
    val_share: float = 0.2  # the share of the training recordings that is used for validation
    ranges: Mapping[str, Range] = field(default_factory=dict)
    # A random window is cut from one recording, which is repeated if it is short (see
    # `ms_train.augment.pool`).
    apart: bool = False
    # `joined(model, labels, decision)` returns the network to save, in which the trained one is a part
    # (see `mel_pair`). None: the trained one is saved.
    joined: Callable[[keras.Model, tuple[str, ...], str], keras.Model] | None = None
    origin: Mapping[str, Any] | None = (
        None  # what the weights come from, where they are not random (`ms_train.training.finetune`)
    )

    @property
    def settings(self) -> dict[str, Value]:
        """The settings that `build_model` uses: the default of each name in `ranges`, or the choice
        of `with_settings`.
        """
        # Read from the function, so that the defaults are written only once.
        taken = inspect.signature(self.build_model).parameters
        return {name: taken[name].default for name in self.ranges if name in taken}

    def with_settings(self, chosen: Mapping[str, Value]) -> Recipe:
        """Return the recipe with other values (or their text) for some of its settings.

        Raises UsageError for an unknown name, and for a value outside its range.
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
        """The name of the augmentation, or None if clips are fixed."""
        return None if self.augment is None else str(getattr(self.augment, "__name__", self.augment))

    def to_dict(self) -> dict[str, Any]:
        """Return what a run folder records of the recipe; the spec has a file of its own."""
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
