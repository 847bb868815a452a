"""Learn other classes on the trunk of a trained network, from few recordings.

A trunk is what comes before a network's last dense layers: how it hears. A run folder gives its own, a new dense layer after it tells
the new classes apart. What comes of that is a `Recipe`, and `ms_train.training.fit` trains it like any other.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import keras

from ms_edge.errors import UsageError, first_line
from ms_edge.features.spec import FrontEndSpec
from ms_train.augment.augmentations import chain
from ms_train.errors import RunError
from ms_train.recipes.recipe import Recipe
from ms_train.scores.losses import compile_for
from ms_train.scores.outputs import WINDOW_SCORES, window_scores
from ms_train.training.runs import files_of

HEAD = (keras.layers.Dense, keras.layers.Dropout, keras.layers.Activation, keras.layers.Softmax)
SUFFIX = "_finetuned"
BATCH_S = 32.0  # of audio in a batch, at least MIN_BATCH clips
MIN_BATCH = 8
EPOCHS, STEPS_PER_EPOCH = 10, 40
RATE, HEAD_RATE = 1e-3, 5e-3  # the largest, of all weights and of the head alone
# Milder than what a trunk is trained with: of few recordings little may be taken away, and the trunk knows channels already.
AUGMENT = chain(("speed", 0.3), ("reverberation", 0.1), ("noise", 0.2), "gain")


def recipe_from(run: Path, *, head_only: bool = False) -> Recipe:
    """The recipe that goes on from a run folder: its spec and trunk, a new head; `head_only` leaves the trunk as it is.

    Raises UsageError for a model file, RunError(`bad-run`) where the folder is no run or its network has no trunk.
    """
    if run.suffix == ".onnx" and not run.is_dir():
        raise UsageError(f"{run}: a model file cannot be trained; give --from the run folder it was made from.")
    try:
        facts, recipe = (json.loads((run / f"{name}.json").read_text("utf-8")) for name in ("run", "recipe"))
        spec = FrontEndSpec.from_json((run / "spec.json").read_text("utf-8"))
        digest = hashlib.sha256((run / "model.keras").read_bytes()).hexdigest()
        name = str(recipe["name"]).removesuffix(SUFFIX)
        clips_per_recording = int(recipe["clips_per_recording"])
        origin = {
            "run": str(run),
            "model_sha256": digest,
            "head_only": head_only,
            **{key: facts[key] for key in ("recipe", "dataset", "labels", "sources", "licences")},
            **({"origin": facts["origin"]} if "origin" in facts else {}),
        }
        trunk(run)
    except UsageError:
        raise
    except Exception as error:  # Keras raises what it likes
        raise RunError(
            "bad-run", f"{run}: not a run folder whose training is complete ({first_line(error)})."
        ) from None
    return Recipe(
        name=name + SUFFIX,
        spec=spec,
        build_model=partial(build_model, run, head_only),
        batch_size=max(MIN_BATCH, round(BATCH_S / spec.clip_s)),
        epochs=EPOCHS,
        clips_per_recording=clips_per_recording,
        steps_per_epoch=STEPS_PER_EPOCH,
        augment=AUGMENT,
        val_share=0.1,  # one of ten: it is not what decides when to stop
        apart=True,
        origin=origin,
    )


def heard_before(origin: Path, run: Path) -> tuple[int, int]:
    """How many of the recordings that a fine-tuned run held out its origin was trained or validated on, and how many it held out."""
    parts, tested = (json.loads((folder / "split.json").read_text("utf-8")) for folder in (origin, run))
    files, mine = files_of(origin), files_of(run)
    seen = {files[name] for part in ("train", "val") for name in parts[part]}
    return sum(mine[name] in seen for name in tested["test"]), len(tested["test"])


def trunk(run: Path) -> keras.Model:
    """A run's network up to what its last dense layers (with dropout and activation) take, (batch, values).

    Of a network that is a mean over windows, (batch, windows, 1, values).

    All of them, not the last alone: what comes after the first is about the old classes. A head alone, on five narrators unknown to the
    bundled model's trunk, got 96 % of recordings right behind the values before all of them, 55 % behind the 24 before the last.
    """
    network = keras.models.load_model(run / "model.keras", compile=False)
    windows = window_scores(network)
    outputs = end = network.outputs[0] if windows is None else windows
    while _of_head(layer := end._keras_history.operation, of_windows=windows is not None):
        (end,) = layer._inbound_nodes[0].input_tensors
    if end is outputs or end is network.inputs[0] or len(end.shape) != (2 if windows is None else 4):
        raise RunError("bad-network", "its network does not end in dense layers on values without time")
    return keras.Model(network.inputs[0], end)


def _of_head(layer: keras.Operation, *, of_windows: bool) -> bool:
    """Whether a layer may belong to a head: of windows, a dense layer on each is a convolution of one by one."""
    if isinstance(layer, HEAD):
        return True
    pointwise = isinstance(layer, keras.layers.Conv2D) and tuple(layer.kernel_size) == (1, 1)
    return of_windows and (pointwise or type(layer).__name__ == "Squeeze")


def build_model(run: Path, head_only: bool, labels: tuple[str, ...], decision: str, epochs: int) -> keras.Model:
    """Features to scores (batch, labels): softmax where labels exclude one another, one sigmoid each where they do not.

    Normalisation keeps the statistics of the trunk's own training, which had more to take them from.
    """
    base = trunk(run)
    for layer in base.layers:
        layer.trainable = not (head_only or isinstance(layer, keras.layers.BatchNormalization))
    x = keras.layers.Dropout(0.3, name="head_dropout")(base.outputs[0])
    independent = decision == "independent"
    activation = "sigmoid" if independent else "softmax"
    if len(x.shape) == 4:
        x = keras.ops.squeeze(keras.layers.Conv2D(len(labels), 1, name="head")(x), 2)
        x = keras.layers.Activation(activation, name=WINDOW_SCORES)(x)
        scores = keras.layers.GlobalAveragePooling1D()(x)
    else:
        scores = keras.layers.Dense(len(labels), activation=activation, name="head")(x)
    model = keras.Model(base.inputs[0], scores, name="finetuned")
    rate = keras.optimizers.schedules.CosineDecay(HEAD_RATE if head_only else RATE, epochs * STEPS_PER_EPOCH)
    compile_for(model, independent, keras.optimizers.AdamW(rate, weight_decay=1e-3))
    return model
