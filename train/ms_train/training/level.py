"""Train a second output of a network: the level of the music relative to the speech.

The trunk is the network of a run of `mel_residual`. It stays as it is, and so do its scores. A small
branch reads four of its layers, since the last ones have lost what the level needs: the normalised
bands, the input and the output of the convolution over all bands, and the mean and maximum that the
scores are computed from. It gives two values a window: the level and its standard deviation, in dB.

The branch is trained on mixtures whose levels are known (`ms_train.augment.levels`), with the
pinball loss (Koenker and Bassett 1978) of the 5 %, 50 % and 95 % quantiles of a normal distribution.
Half of the sound is mixtures of one window. The other half is programmes of eight seconds: there
the answers of all windows are combined as in a segment, and each window learns the level of its
programme. So a window in which the voice or the music pauses learns how little it says. How windows
become the level of a segment, and how wide the interval must be, is fitted on programmes
of the validation recordings (conformal prediction, Vovk et al. 2005).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
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
from ms_edge.model.levels import LEAST_DEVIATION_DB, LevelScale
from ms_train.augment import rooms
from ms_train.augment.bank import digest
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
EPOCHS, USES = 10, 8
PROGRAMME = 8  # windows without overlap in a programme of the training
BATCH = 256  # windows without overlap in a step, of single windows and of programmes each
EVERY = 11  # of the overlapping windows of a programme, those that learn its level on their own
CORRELATION = 0.5  # of the errors of windows, when their answers are combined in training
RATE, WEIGHT_DECAY, DROPOUT = 3e-3, 0.02, 0.1
QUANTILES = (0.05, 0.5, 0.95)
NORMAL = 1.645  # the 95 % quantile of the normal distribution
COVERAGE = 0.9
PROGRAMMES, PROGRAMMES_OF = 240, (1, 3, 10, 30)  # of the calibration: of each duration, in windows
BAND_STEP, BAND_STEPS, LOCAL_STEPS = 4, 10, 7  # frames of a step, and steps of a window in the branch
CHUNK_FRAMES = 25_000  # of features that the trunk reads at once
Sounds = tuple[NDArray[np.float16], Float32]  # features (n, frames, bins) of mixtures and their levels (n,) in dB
Batch = tuple[list[NDArray[np.float16]], Float32]  # the tapped layers' values for some mixtures, and their levels


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


def rendered(mixtures: Mixtures, count: int, length: int, rng: np.random.Generator, uses: int) -> Sounds:
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


def train(served: keras.Model, windows: Sounds, programmes: Sounds, epochs: int, seed: int) -> keras.Model:
    """Train the branch of a frozen network on single windows and on programmes of PROGRAMME windows;
    return the branch.

    The trunk's answers are computed once.
    """
    trunk = keras.Model(served.inputs[0], taps(served))
    parts = [(_embedded(trunk, features), levels_db) for features, levels_db in (windows, programmes)]
    keras.utils.set_random_seed(seed)
    level = branch([values.shape for values in parts[0][0]])
    steps = max(1, len(windows[0]) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(RATE, epochs * steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY)
    optimizer.build(level.trainable_variables)

    @tf.function
    def step(windows: Batch, programmes: Batch) -> tf.Tensor:
        with tf.GradientTape() as tape:
            alone, together = (
                level([tf.cast(each, tf.float32) for each in given], training=True)
                for given, _ in (windows, programmes)
            )
            loss = pinball(windows[1], alone[:, 0]) + programme_loss(programmes[1], together)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, level.trainable_variables), level.trainable_variables, strict=True)
        )
        return loss

    rng = np.random.default_rng(seed)
    batches = [_batches(*part, size, rng) for part, size in zip(parts, (BATCH, BATCH // PROGRAMME), strict=True)]
    bar = tqdm(range(epochs), desc="training", unit="epoch", file=sys.stderr, disable=None)
    for _ in bar:
        losses = [float(step(*(next(each) for each in batches))) for _ in range(steps)]
        bar.set_postfix_str(f"loss {np.mean(losses):.2f}")
    return level


def _batches(
    embedded: list[NDArray[np.float16]], levels_db: Float32, size: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Yield batches without end, in a new random order after each pass. A pass leaves out the mixtures
    that would be an incomplete last batch, unless it is the only one.
    """
    while True:
        order = rng.permutation(len(levels_db))
        for at in range(0, max(1, len(order) - size + 1), size):
            rows = np.sort(order[at : at + size])
            yield [each[rows] for each in embedded], levels_db[rows]


def _embedded(trunk: keras.Model, features: NDArray[np.float16]) -> list[NDArray[np.float16]]:
    run: Callable[[Float32], list[tf.Tensor]] = tf.function(lambda given: trunk(given, training=False))
    found: list[NDArray[np.float16]] = []
    at_a_time = max(1, CHUNK_FRAMES // features.shape[1])
    for at in range(0, len(features), at_a_time):
        values = run(tf.constant(features[at : at + at_a_time].astype(np.float32)))
        if not found:
            found = [np.empty((len(features), *each.shape[1:]), np.float16) for each in values]
        for whole, each in zip(found, values, strict=True):
            whole[at : at + at_a_time] = each.numpy()
    return found


def programme_loss(truth: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    """Return the pinball loss in dB of the windows of programmes, levels and deviations (n, windows,
    2), alone and combined as in a segment (`LevelScale.combined`), for true levels (n,).
    """
    some = levels[:, ::EVERY]
    alone = pinball(tf.repeat(truth, some.shape[1]), tf.reshape(some, (-1, 2)))
    low, high = LEVELS_DB
    precision = tf.clip_by_value(levels[..., 1], LEAST_DEVIATION_DB, (high - low) / 12**0.5) ** -2
    level = tf.reduce_sum(levels[..., 0] * precision, 1) / tf.reduce_sum(precision, 1)
    worth = PROGRAMME / (1 + (PROGRAMME - 1) * CORRELATION)
    deviation = (worth * tf.reduce_mean(precision, 1)) ** -0.5
    return alone + pinball(truth, tf.stack([level, deviation], 1))


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
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    sounds = {part: _KeptMixtures(run, dataset, part, cache, seed) for part in ("train", "val")}
    windows = sounds["train"].of(1, mixtures, USES)
    programmes = sounds["train"].of(PROGRAMME, -(-mixtures // PROGRAMME), USES)
    level = train(run.network, windows, programmes, EPOCHS, seed)
    network = with_level(run.network, level)
    given = []
    for duration in PROGRAMMES_OF:
        features, truth = sounds["val"].of(duration, PROGRAMMES, 1)
        given.append((duration, levels_of(network, features, run.spec), truth))
    scale = calibrated(given)
    facts: dict[str, Any] = {"mixtures": mixtures, "epochs": EPOCHS, "seed": seed, "val": accuracies(scale, given)}
    shutil.copytree(folder, out)
    write(out, level, scale, facts)
    return json.loads((out / SCALE).read_text("ascii"))  # type: ignore[no-any-return]


class _KeptMixtures:
    """Mixtures of the speech and music of a part of a run's recordings, kept in the cache: they do not
    depend on the network.
    """

    def __init__(self, run: TrainedRun, dataset: Dataset, part: str, cache: Cache, seed: int) -> None:
        rate_hz, names = run.spec.sample_rate_hz, set(run.split[part])
        chosen = [each for each in dataset.recordings if each.name in names and each.label in (SPEECH, MUSIC)]
        read = list(read_all(chosen, rate_hz, f"{part} recordings", cache))
        require_labels([recording.label for recording, _ in read], (SPEECH, MUSIC), f"levels ({part})")
        pool = Pool(read, run.labels, run.decision.kind, run.spec, active=cache.activity(read, rate_hz))
        self._mixtures = Mixtures(pool, rooms.load(part, rate_hz, cache.folder))
        self._folder, self._seed = cache.folder, seed
        self._facts = {
            "recordings": [(each.name, each.sha256, each.label, each.source, each.group) for each, _ in read],
            # That of `rendered`; `digest` adds the code of ms_train.augment.
            "code_sha256": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
            "frontend_sha256": run.spec.digest,
            "rooms": rooms.digest(part, rate_hz),
            "pyloudnorm": version("pyloudnorm"),
            "seed": seed,
        }

    def of(self, windows: int, count: int, uses: int) -> Sounds:
        """Return `count` mixtures of `windows` windows, from the cache if they are there."""
        facts = {**self._facts, "windows": windows, "count": count, "uses": uses}
        path = self._folder and self._folder / f"levels-{digest(facts)[:16]}.npz"
        if path:
            with (
                contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile),
                np.load(path) as kept,
            ):
                return kept["features"], kept["levels_db"]
        rng = np.random.default_rng([self._seed, windows])
        features, levels_db = rendered(
            self._mixtures, count, windows * self._mixtures.pool.spec.clip_samples, rng, uses
        )
        if path:
            with contextlib.suppress(OSError), atomic_write(path) as partial:  # the next training makes them again
                np.savez(partial, features=features, levels_db=levels_db)
        return features, levels_db


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
            "bad-run",
            f"{folder}: has no level of the music ({first_line(error)}); ms-train level trains one for a run of mel_residual.",
        ) from None
