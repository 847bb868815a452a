"""Train new classes on the trunk of a trained network, from few recordings.

The trunk is the network before its last dense layers. It is taken from a run folder, and a new
dense layer after it tells the new classes apart. The result is a `Recipe`, which
`ms_train.training.fit` trains like any other.
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
from ms_train.training.bundled import recordings_of, run_folder

HEAD = (keras.layers.Dense, keras.layers.Dropout, keras.layers.Activation, keras.layers.Softmax)
SUFFIX = "_finetuned"
BATCH_S = 32.0  # seconds of audio in a batch, which has at least MIN_BATCH clips
MIN_BATCH = 8
EPOCHS, STEPS_PER_EPOCH = 10, 40
RATE, HEAD_RATE = 1e-3, 5e-3  # largest learning rate: for all weights, and for the head only
# Without it, a network that is right on all of its few recordings becomes so steep that rounding
# moves its scores by more than the export allows.
SMOOTHING = 0.1
# Milder than the augmentation of a trunk: few recordings hold little information, and the trunk has
# already learnt channels.
AUGMENT = chain(("speed", 0.3), ("reverberation", 0.1), ("noise", 0.2), "gain")


def recipe_from(run: Path, *, head_only: bool = False) -> Recipe:
    """Return a recipe with the spec and the trunk of a run folder (`bundled`: the bundled model's),
    and a new head; with `head_only`, the trunk is frozen.

    Raises UsageError for a model file, and RunError(`bad-run`) if the folder is not a run or its
    network has no trunk.
    """
    if run.suffix == ".onnx" and not run.is_dir():
        raise UsageError(
            f"{run}: a model file cannot be trained; give --from the run folder it was made from, or bundled."
        )
    folder = run_folder(run)
    try:
        facts, recipe = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("run", "recipe"))
        spec = FrontEndSpec.from_json((folder / "spec.json").read_text("utf-8"))
        digest = hashlib.sha256((folder / "model.keras").read_bytes()).hexdigest()
        name = str(recipe["name"]).removesuffix(SUFFIX)
        clips_per_recording = int(recipe["clips_per_recording"])
        origin = {
            "run": str(run),
            "model_sha256": digest,
            "head_only": head_only,
            **{key: facts[key] for key in ("recipe", "dataset", "labels", "sources", "licences")},
            **({"origin": facts["origin"]} if "origin" in facts else {}),
        }
        trunk(folder)
    except UsageError:
        raise
    except Exception as error:  # Keras raises many types
        raise RunError(
            "bad-run", f"{run}: not a run folder whose training is complete ({first_line(error)})."
        ) from None
    return Recipe(
        name=name + SUFFIX,
        spec=spec,
        build_model=partial(build_model, folder, head_only),
        batch_size=max(MIN_BATCH, round(BATCH_S / spec.clip_s)),
        epochs=EPOCHS,
        clips_per_recording=clips_per_recording,
        steps_per_epoch=STEPS_PER_EPOCH,
        augment=AUGMENT,
        val_share=0.1,  # one in ten: validation does not decide when to stop
        apart=True,
        origin=origin,
    )


def heard_before(origin: Path, run: Path) -> tuple[int, int]:
    """Return how many of the recordings that `run` held out were used to train or validate
    `origin`, and how many it held out.
    """
    before, mine = recordings_of(run_folder(origin)), recordings_of(run)
    seen = {before.files[name] for part in ("train", "val") for name in before.split[part]}
    return sum(mine.files[name] in seen for name in mine.split["test"]), len(mine.split["test"])


def trunk(run: Path) -> keras.Model:
    """Return a run's network up to the input of its last dense layers (with dropout and
    activation), (batch, values).

    For a network that is a mean over windows, the output is (batch, windows, 1, values).

    All last dense layers are removed, not only the final one, because the values after the first
    describe the old classes. Measured with a new head only, on five narrators unknown to the
    bundled model's trunk: 96 % of recordings are correct with the values before all of these
    layers, 55 % with the 24 values before the final one.

    Raises UsageError for two networks that were joined (`mel_pair`), whose dense layers lie inside.
    """
    network = keras.models.load_model(run / "model.keras", compile=False)
    if any(isinstance(layer, keras.Model) for layer in network.layers):
        raise UsageError(f"{run.name}: joins two networks and cannot be trained further; give --from bundled.")
    windows = window_scores(network)
    outputs = end = network.outputs[0] if windows is None else windows
    while _of_head(layer := end._keras_history.operation, of_windows=windows is not None):
        (end,) = layer._inbound_nodes[0].input_tensors
    if end is outputs or end is network.inputs[0] or len(end.shape) != (2 if windows is None else 4):
        raise RunError("bad-network", "its network does not end in dense layers on values without time")
    return keras.Model(network.inputs[0], end)


def _of_head(layer: keras.Operation, *, of_windows: bool) -> bool:
    """Return whether a layer may belong to a head; with windows, a dense layer is a 1 x 1
    convolution.
    """
    if isinstance(layer, HEAD):
        return True
    pointwise = isinstance(layer, keras.layers.Conv2D) and tuple(layer.kernel_size) == (1, 1)
    return of_windows and (pointwise or type(layer).__name__ == "Squeeze")


def build_model(run: Path, head_only: bool, labels: tuple[str, ...], decision: str, epochs: int) -> keras.Model:
    """Return a compiled network from features to scores (batch, labels).

    Exclusive labels get a softmax, independent labels a sigmoid each. Batch normalisation keeps the
    statistics of the trunk's own training, which had more data.
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
    compile_for(model, independent, keras.optimizers.AdamW(rate, weight_decay=1e-3), SMOOTHING)
    return model
