"""Train a second output of a network: the level of the music relative to the speech.

The trunk is the network of a run of `mel_residual`. It stays as it is, and so do its scores. A small
branch reads four of its layers, since the last ones have lost what the level needs: the normalised
bands, the input and the output of the convolution over all bands, and the mean and maximum that the
scores are computed from. It gives two values a window: the level and its standard deviation, in dB.

The branch is trained on mixtures whose levels are known (`ms_train.augment.levels`), with the
pinball loss (Koenker and Bassett 1978) of the 5 %, 50 % and 95 % quantiles of a normal distribution.
How windows become the level of a segment, and how wide the interval must be, is fitted on programmes
of the validation recordings (conformal prediction, Vovk et al. 2005).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.errors import UsageError, first_line
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.spec import FrontEndSpec
from ms_edge.model.levels import LevelScale
from ms_train.augment import rooms
from ms_train.augment.levels import JUDGED_DB, LEVELS_DB, MUSIC, SPEECH, Mixtures
from ms_train.augment.pool import Pool
from ms_train.datasets.cache import Cache
from ms_train.datasets.clips import read_all, require_labels
from ms_train.datasets.dataset import Dataset
from ms_train.errors import RunError
from ms_train.files import atomic_write
from ms_train.training.bundled import run_folder
from ms_train.training.runs import TrainedRun, write_json

NETWORK, SCALE = "level.keras", "level.json"  # the files of a run folder
BATCH, EPOCHS, USES = 256, 10, 8
RATE, WEIGHT_DECAY, DROPOUT = 3e-3, 0.02, 0.1
QUANTILES = (0.05, 0.5, 0.95)
NORMAL = 1.645  # the 95 % quantile of the normal distribution
COVERAGE = 0.9
PROGRAMMES, PROGRAMMES_S = 240, (1.0, 3.0, 10.0, 30.0)  # of each duration
BAND_STEP, BAND_STEPS, LOCAL_STEPS = 4, 10, 7  # frames of a step, and steps of a window in the branch
CHUNK = 512


def taps(network: keras.Model) -> list[keras.KerasTensor]:
    """Return the tensors of a `mel_residual` that the branch reads.

    They are bands (batch, frames, 48), local (batch, steps, 5, n), wide (batch, steps, 1, n) and
    pooled (batch, windows, 1, n). Raises RunError(`bad-network`) for another network.
    """
    bands = [layer for layer in network.layers if layer.name == "band_normalisation"]
    active = [layer for layer in network.layers if isinstance(layer, keras.layers.ReLU)]
    joined = [layer for layer in network.layers if isinstance(layer, keras.layers.Concatenate)]
    if len(bands) != 1 or len(active) < 4 or len(joined) != 1:
        raise RunError("bad-network", f"{network.name!r}: only a network of mel_residual can learn levels.")
    return [layer.output for layer in (bands[0], active[2], active[3], joined[0])]


def branch(shapes: Sequence[tuple[int | None, ...]]) -> keras.Model:
    """Return the untrained branch: tensors of the tapped layers, of these `shapes`, to levels (batch,
    windows, 2).
    """
    inputs = [keras.Input((None, *shape[2:])) for shape in shapes]
    bands, local, wide, pooled = inputs
    found = [pooled]
    x = _convolved(keras.ops.expand_dims(bands, 2), 32, (BAND_STEP, 1), (BAND_STEP, 1))
    found += _pooled(_convolved(x, 32, (3, 1)), BAND_STEPS)
    x = _convolved(local, 32, (1, local.shape[2]))
    found += _pooled(_convolved(x, 32, (3, 1)), LOCAL_STEPS)
    found += _pooled(_convolved(wide, 48, (3, 1)), LOCAL_STEPS)
    x = keras.layers.Dropout(DROPOUT)(keras.layers.Concatenate()(found))
    x = keras.layers.Dropout(DROPOUT)(keras.layers.Conv2D(64, 1, activation="relu")(x))
    x = keras.ops.squeeze(keras.layers.Conv2D(2, 1, kernel_initializer="zeros")(x), 2)
    low, high = LEVELS_DB
    level = (high - low) / 4 * x[..., :1] + (low + high) / 2  # in dB; the network's own numbers are near 1
    deviation = (high - low) / 8 * keras.ops.softplus(x[..., 1:])
    return keras.Model(inputs, keras.layers.Concatenate()([level, deviation]), name="level")


def _convolved(
    x: keras.KerasTensor, filters: int, size: tuple[int, int], step: tuple[int, int] = (1, 1)
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(filters, size, strides=step, use_bias=False)(x)
    return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.98)(x))


def _pooled(x: keras.KerasTensor, steps: int) -> list[keras.KerasTensor]:
    return [layer((steps, 1), strides=1)(x) for layer in (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D)]


def with_level(served: keras.Model, level: keras.Model) -> keras.Model:
    """Return a network of logits and scores (`ms_train.scores.outputs.with_logits`) with a third
    output: the level and its standard deviation (batch, 2), the means over the windows.
    """
    windows = level(taps(served))
    return keras.Model(
        served.inputs[0], [*served.outputs, keras.layers.GlobalAveragePooling1D()(windows)], name=served.name
    )


def rendered(
    mixtures: Mixtures, count: int, length: int, rng: np.random.Generator, uses: int
) -> tuple[NDArray[np.float16], Float32]:
    """Return the features (count, frames, bins) float16 and the levels (count,) of mixtures."""
    spec = mixtures.pool.spec
    front_end = FrontEnd(spec)
    features = np.empty((count, spec.frames(length), spec.bins), np.float16)
    levels_db = np.empty(count, np.float32)
    at_a_time = 32 * uses
    with tqdm(total=count, desc="rendering mixtures", unit="mixture", file=sys.stderr, disable=None) as bar:
        for at in range(0, count, at_a_time):
            size = min(at_a_time, count - at)
            windows, levels_db[at : at + size] = mixtures.batch(size, length, rng, uses)
            for place, window in enumerate(windows, at):
                features[place] = front_end.features(window)
            bar.update(size)
    return features, levels_db


def train(
    served: keras.Model, features: NDArray[np.float16], levels_db: Float32, epochs: int, seed: int
) -> keras.Model:
    """Train the branch of a frozen network on features (n, frames, bins) of single windows with
    known levels (n,); return the branch.

    The trunk's answers are computed once.
    """
    trunk = keras.Model(served.inputs[0], taps(served))
    embedded = _embedded(trunk, features)
    keras.utils.set_random_seed(seed)
    level = branch([values.shape for values in embedded])
    steps = max(1, len(features) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(RATE, epochs * steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY)
    optimizer.build(level.trainable_variables)

    @tf.function
    def step(inputs: list[tf.Tensor], truth: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = pinball(truth, level([tf.cast(each, tf.float32) for each in inputs], training=True)[:, 0])
        optimizer.apply_gradients(
            zip(tape.gradient(loss, level.trainable_variables), level.trainable_variables, strict=True)
        )
        return loss

    rng = np.random.default_rng(seed)
    bar = tqdm(range(epochs), desc="training", unit="epoch", file=sys.stderr, disable=None)
    for _ in bar:
        order = rng.permutation(len(features))
        losses = []
        for at in range(steps):
            rows = np.sort(order[at * BATCH : (at + 1) * BATCH])
            losses.append(float(step([each[rows] for each in embedded], levels_db[rows])))
        bar.set_postfix_str(f"loss {np.mean(losses):.2f}")
    return level


def _embedded(trunk: keras.Model, features: NDArray[np.float16]) -> list[NDArray[np.float16]]:
    run: Callable[[Float32], list[tf.Tensor]] = tf.function(lambda given: trunk(given, training=False))
    found: list[NDArray[np.float16]] = []
    for at in range(0, len(features), CHUNK):
        values = run(tf.constant(features[at : at + CHUNK].astype(np.float32)))
        if not found:
            found = [np.empty((len(features), *each.shape[1:]), np.float16) for each in values]
        for whole, each in zip(found, values, strict=True):
            whole[at : at + CHUNK] = each.numpy()
    return found


def pinball(truth: tf.Tensor, given: tf.Tensor) -> tf.Tensor:
    """Return the mean pinball loss in dB of levels and deviations (n, 2) for true levels (n,)."""
    total = tf.constant(0.0)
    for quantile, place in zip(QUANTILES, (-NORMAL, 0.0, NORMAL), strict=True):
        over = truth - given[:, 0] - place * given[:, 1]
        total += tf.reduce_mean(tf.maximum(quantile * over, (quantile - 1) * over))
    return total


def levels_of(network: keras.Model, features: NDArray[np.float16], spec: FrontEndSpec) -> Float32:
    """Return the levels and deviations (programmes, windows, 2) of the windows of programmes,
    (programmes, frames, bins); one every hop.
    """
    clip, hop = spec.frames(spec.clip_samples), spec.hop_samples // spec.frame_step
    starts = range(0, features.shape[1] - clip + 1, hop)
    run = tf.function(lambda given: network(given, training=False)[-1])
    found = []
    for programme in features:
        windows = np.stack([programme[start : start + clip] for start in starts]).astype(np.float32)
        found.append(run(tf.constant(windows)).numpy())
    return np.stack(found)


def fit(
    run: TrainedRun, folder: Path, dataset: Dataset, out: Path, cache: Cache, *, mixtures: int, seed: int
) -> dict[str, Any]:
    """Train the branch on the training recordings of a run, calibrate it on its validation
    recordings, and write both into `out`, a new folder, with the files of the run folder. Return what
    level.json holds.

    Raises UsageError if `out` exists, and RunError or DataError if the run, its data or a package does
    not serve.
    """
    if out.exists():
        raise UsageError(f"{out}: exists; give --out a new folder.")
    if not {SPEECH, MUSIC}.issubset(run.labels):
        raise RunError(
            "bad-network", f"{folder}: has the labels {', '.join(run.labels)}; levels need speech and music."
        )
    taps(run.network)  # before any work
    sounds = {part: _mixtures(run, dataset, part, cache) for part in ("train", "val")}
    rng = np.random.default_rng([seed, 0])
    clip = run.spec.clip_samples
    level = train(run.network, *rendered(sounds["train"], mixtures, clip, rng, USES), EPOCHS, seed)
    network = with_level(run.network, level)
    given = []
    for seconds in PROGRAMMES_S:
        features, truth = rendered(sounds["val"], PROGRAMMES, round(seconds * run.spec.sample_rate_hz), rng, 1)
        given.append((seconds / run.spec.clip_s, levels_of(network, features, run.spec), truth))
    scale = calibrated(given)
    facts: dict[str, Any] = {"mixtures": mixtures, "epochs": EPOCHS, "seed": seed, "val": accuracies(scale, given)}
    shutil.copytree(folder, out)
    write(out, level, scale, facts)
    return json.loads((out / SCALE).read_text("ascii"))  # type: ignore[no-any-return]


def _mixtures(run: TrainedRun, dataset: Dataset, part: str, cache: Cache) -> Mixtures:
    """Return mixtures of the speech and music of a part of the run's recordings."""
    names = set(run.split[part])
    chosen = [each for each in dataset.recordings if each.name in names and each.label in (SPEECH, MUSIC)]
    read = list(read_all(chosen, run.spec.sample_rate_hz, f"{part} recordings", cache))
    require_labels([recording.label for recording, _ in read], (SPEECH, MUSIC), f"levels ({part})")
    active = cache.activity(read, run.spec.sample_rate_hz)
    pool = Pool(read, run.labels, run.decision.kind, run.spec, active=active)
    return Mixtures(pool, rooms.load(part, run.spec.sample_rate_hz, cache.folder))


def accuracies(scale: LevelScale, given: Sequence[tuple[float, Float32, Float32]]) -> dict[str, dict[str, float]]:
    """Return for each duration the mean absolute error from -20 to 10 dB, the share of intervals that
    hold the true level, and their mean width; arguments are those of `calibrated`.
    """
    result = {}
    for windows, levels, truth in given:
        found = [scale.combined(each, windows) for each in levels]
        error = np.abs([each.db for each in found] - truth)
        low, high = np.array([each.interval_db for each in found]).T
        result[f"{windows:g} windows"] = {
            "error_db": round(float(error[(truth >= JUDGED_DB[0]) & (truth <= JUDGED_DB[1])].mean()), 2),
            "covered": round(float(np.mean((truth >= low) & (truth <= high))), 3),
            "interval_db": round(float(np.mean(high - low)), 1),
        }
    return result


def calibrated(given: Sequence[tuple[float, Float32, Float32]]) -> LevelScale:
    """Fit how windows of programmes are combined, and the width of the interval.

    `given` holds for each duration (in windows) the levels (programmes, windows, 2) and the true
    ones (programmes,). For each correlation, the width is the smallest with which the interval covers
    90 % of the programmes of every duration. Of these pairs, the one with the smallest mean interval
    score is returned (Gneiting and Raftery 2007): the width, and 20 times what a level lies outside.
    """
    tried = []
    for correlation in np.round(np.arange(0.05, 1.0, 0.05), 2):
        unit = LevelScale(LEVELS_DB, float(correlation), 1.0)
        needed = 0.0
        for windows, levels, truth in given:
            found = [unit.combined(each, windows) for each in levels]
            error = np.abs([each.db for each in found] - truth)
            # The interval ends at the ends of the range, so the width is measured on its longer side.
            half = [max(each.db - each.interval_db[0], each.interval_db[1] - each.db) for each in found]
            share = min(1.0, np.ceil((len(error) + 1) * COVERAGE) / len(error))
            needed = max(needed, float(np.quantile(error / np.array(half), share)))
        scale = LevelScale(LEVELS_DB, float(correlation), round(needed, 3))
        tried.append((_interval_score(scale, given), scale))
    return min(tried, key=lambda each: each[0])[1]


def _interval_score(scale: LevelScale, given: Sequence[tuple[float, Float32, Float32]]) -> float:
    scores = []
    for windows, levels, truth in given:
        low, high = np.array([scale.combined(each, windows).interval_db for each in levels]).T
        outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
        scores.append(float(np.mean(high - low + 2 / (1 - COVERAGE) * outside)))
    return float(np.mean(scores))


def write(folder: Path, level: keras.Model, scale: LevelScale, facts: dict[str, object]) -> None:
    """Write the branch and what it needs into a run folder."""
    with atomic_write(folder / NETWORK) as partial:
        level.save(partial)
    write_json(
        folder / SCALE,
        {"range_db": list(scale.range_db), "correlation": scale.correlation, "width": scale.width, **facts},
    )


def read(folder: Path) -> tuple[keras.Model, LevelScale]:
    """Return the branch of a run folder, that of the bundled model if `folder` is `bundled`, and how
    its levels are combined. Raises RunError(`bad-run`) if there is none.
    """
    folder = run_folder(folder)
    try:
        scale = json.loads((folder / SCALE).read_text("ascii"))
        low, high = scale["range_db"]
        found = LevelScale((float(low), float(high)), float(scale["correlation"]), float(scale["width"]))
        return keras.models.load_model(folder / NETWORK, compile=False), found
    except Exception as error:  # Keras raises many types
        raise RunError(
            "bad-run", f"{folder}: has no level of the music ({first_line(error)}); train it with ms-train level."
        ) from None
