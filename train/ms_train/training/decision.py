"""Calibrate the logits of independent labels, and choose a threshold for each label.

Both are fitted after training, on windows of recordings that the network was not trained on: those
of the dataset's part `calib`, or of the validation part if there is no part `calib`. Equally many
windows hold each label alone, two labels, and none. Half of them are plain: as recorded, with
mixtures at MIXTURE_DB. The other half is augmented as in training, in other rooms.

1. A scale and an offset of each label's logit minimise the log loss (Platt 1999). They are folded
   into the last layer, so that the network and every model made from it give calibrated
   probabilities.
2. The thresholds are chosen together by the share of windows whose labels are all correct, as the
   mean over the kinds of windows. Of the thresholds within one standard error of the best, those
   closest to a half are taken, because the best for a few sources are not the best for others. This
   share on the validation set, for three networks: 83.3, 83.7 and 78.9 with the chosen thresholds;
   83.2, 83.0 and 78.9 with the middle of those within the error; 83.2, 83.0 and 78.7 with the best.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from ms_edge.arrays import Float32
from ms_edge.errors import UsageError, first_line
from ms_edge.timeline import OTHER
from ms_train.augment.pool import Pool
from ms_train.augment.scenes import presence
from ms_train.datasets import clips
from ms_train.datasets.by_name import dataset_of_run
from ms_train.datasets.cache import Cache
from ms_train.datasets.clips import target
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.errors import RunError
from ms_train.frontend import FrontEndLayer, clip_features
from ms_train.recipes.by_name import get_recipe
from ms_train.recipes.recipe import Recipe
from ms_train.scores.calibration import expected_calibration_error, reliability
from ms_train.scores.metrics import accuracy, predict
from ms_train.scores.outputs import with_logits
from ms_train.signals import Rng, loudness
from ms_train.training.rendering import pool_of, scenes_of
from ms_train.training.runs import save_model, write_json

Float64 = NDArray[np.float64]

PART = "calib"
WINDOWS = 8_000
BATCH = 100
TRIES = 10  # at most this many times WINDOWS are drawn, to have enough of each kind
MIXTURE_DB = (-10.0, 20.0)  # of plain mixtures: level of the first label's sound over the second's
SEVERAL = "several"  # the kind of windows with two labels
PRIOR = 1.0  # standard deviation of scale and offset around 1 and 0, so that few windows hardly change them
SCALES, OFFSETS = (0.1, 10.0), (-10.0, 10.0)
THRESHOLDS = np.arange(5, 96) / 100
TIE = 1e-9  # shares of windows that differ by less are equal
SAME = 1e-3  # largest difference between logits before and after folding


@dataclass(frozen=True)
class Held:
    """Recordings to fit the decision on: their part of the dataset, their names, and a pool of
    them.
    """

    part: str
    names: tuple[str, ...]
    pool: Pool


def read_held(dataset: Dataset, val: Sequence[Recording], recipe: Recipe, cache: Cache) -> Held:
    """Read the recordings of the dataset's part `calib`, or `val` if that part lacks a label.

    Raises DataError(`bad-data`) if no recording of a label can be read or has enough sound.
    """
    calib = [recording for recording in dataset.recordings if recording.split == PART]
    complete = set(dataset.labels) <= {recording.label for recording in calib}
    what = "calibration data" if complete else "validation data"
    found = list(clips.read_all(calib if complete else val, recipe.spec.sample_rate_hz, what, cache))
    pool = pool_of(found, dataset, recipe, cache)
    clips.require_labels(filter(pool.has, dataset.labels), dataset.labels, what)
    return Held(PART if complete else "val", tuple(recording.name for recording, _ in found), pool)


def decide(
    model: keras.Model, held: Held, recipe: Recipe, layer: FrontEndLayer, seed: int, cache: Cache
) -> dict[str, Any]:
    """Fold fitted scales and offsets into a network's last layer; return them, the thresholds and
    their effect.

    If they cannot be folded into the last layer, the network stays unchanged, the scales are 1 and
    the offsets are 0.
    """
    labels = held.pool.labels
    network = with_logits(model, labels, "independent")
    logits, rows = [], []
    for windows, targets in _batches(draw(held.pool, recipe, seed, cache)):
        logits.append(_logits(network, clip_features(layer, windows)))
        rows.append(targets)
    z, targets = np.concatenate(logits), np.concatenate(rows)
    scale, offset = fit_logits(z, targets)
    if not fold(model, labels, scale, offset, recipe.spec.feature_shape):
        scale, offset = np.ones(len(labels)), np.zeros(len(labels))
    kinds, half = kinds_of(targets, labels), np.full(len(labels), 0.5)
    before, after = expit(z), expit(z * scale + offset)
    chosen = choose_thresholds(after, targets, kinds)
    exact = exact_by_kind(after, targets, kinds, chosen)
    return {
        "part": held.part,
        "recordings": len(held.names),
        "windows": len(z),
        "scale": _rounded(scale),
        "offset": _rounded(offset),
        "log_loss": {"before": _log_losses(z, targets), "after": _log_losses(z * scale + offset, targets)},
        "calibration_error": {
            "before": _calibration_errors(before, targets),
            "after": _calibration_errors(after, targets),
        },
        "thresholds": _rounded(chosen),
        "exact_label": {
            "at_half_before": _mean(exact_by_kind(before, targets, kinds, half)),
            "at_half": _mean(exact_by_kind(after, targets, kinds, half)),
            "chosen": _mean(exact),
            "kinds": {
                kind: {"windows": int((kinds == kind).sum()), "exact": round(share, 4)} for kind, share in exact.items()
            },
        },
    }


def decide_again(run: Path, data: str | None = None, cache: Path | None = None) -> dict[str, Any]:
    """Fit the decision of a complete run folder again, without training; change `model.keras` and
    `metrics.json`.

    `data` names the run's data as --data does, by default as the run recorded it; `cache` is the
    folder of a cache. Return the metrics. Raises MsEdgeError if the folder is not a complete run,
    if its labels are not independent, or if its recipe has changed.
    """
    metrics: dict[str, Any]
    try:
        names = ("run", "metrics", "split", "data", "recordings")
        facts, metrics, *used = (json.loads((run / f"{name}.json").read_text("utf-8")) for name in names)
        model = keras.models.load_model(run / "model.keras", compile=False)
        labels = tuple(facts["labels"])
    except Exception as error:  # Keras raises many types
        raise RunError("bad-run", f"{run}: is no complete run folder ({first_line(error)}).") from None
    recipe, dataset, kept = get_recipe(facts["recipe"]), dataset_of_run(data or facts["data"]), Cache(cache)
    spec, layer = recipe.spec, FrontEndLayer(recipe.spec)
    if facts["decision"] != "independent" or (dataset.labels, dataset.decision) != (labels, "independent"):
        raise UsageError(f"{run}: only independent labels have thresholds, and only on the run's own data.")
    if (facts["frontend_sha256"], facts["augment"]) != (spec.digest, recipe.augmentation):
        raise UsageError(f"{run}: was trained with another {recipe.name}; train it again.")
    by_name = {recording.name: recording for recording in dataset.recordings}
    parts = {part: [by_name[name] for name in used[0][part] if name in by_name] for part in ("val", "test")}
    held = read_held(dataset, parts["val"], recipe, kept)
    if earlier := metrics.get("decision", {}).get("scale"):
        scale, offset = np.array(earlier), np.array(metrics["decision"]["offset"])
        fold(model, labels, 1 / scale, -offset / scale, spec.feature_shape)
    metrics["decision"] = decide(model, held, recipe, layer, facts["seed"], kept)
    for part, recordings in parts.items():
        if part in metrics:
            features_of = partial(clip_features, layer)
            found = clips.load(recordings, labels, spec, features_of, recipe.clips_per_recording, part, kept)
            metrics[part] = accuracy(predict(model, labels, "independent", found.features), found)
    if held.part == PART:
        own = {name: by_name[name] for name in held.names}
        used[0][PART] = list(held.names)
        used[1] |= {name: each.sha256 for name, each in own.items()}
        used[2] |= {name: {"label": each.label, "file_sha256": each.file_sha256} for name, each in own.items()}
    save_model(model, run / "model.keras")
    for name, value in zip(names[1:], (metrics, *used), strict=True):
        write_json(run / f"{name}.json", value)
    return metrics


def draw(pool: Pool, recipe: Recipe, seed: int, cache: Cache) -> Iterator[tuple[Float32, Float32]]:
    """Yield about WINDOWS windows (clip_samples,) with their targets (labels,): equally many of
    each kind.

    Half of them are plain; all of them if the recipe trains on clips as they are.
    """
    rng = np.random.default_rng([seed, 2])
    labels, length, rate_hz = pool.labels, pool.spec.clip_samples, pool.spec.sample_rate_hz
    kinds = (*labels, SEVERAL, OTHER)
    count = max(1, WINDOWS // len(kinds) // (2 if recipe.augment else 1))
    for kind in kinds:
        for _ in range(count):
            yield plain(pool, kind, rng)
    if recipe.augment is None:
        return
    scenes = scenes_of(pool, recipe, "val", cache)
    missing = dict.fromkeys(kinds, count)
    for _ in range(TRIES * WINDOWS):
        window, row = scenes.draw(length, rng)
        (kind,) = kinds_of(row[np.newaxis], labels)
        if missing.get(kind):
            missing[kind] -= 1
            yield recipe.augment(window, rng, rate_hz), row
        if not any(missing.values()):
            return


def _batches(drawn: Iterator[tuple[Float32, Float32]]) -> Iterator[tuple[Float32, Float32]]:
    """Yield windows (n, samples) with their targets (n, labels), BATCH at a time."""
    while found := list(islice(drawn, BATCH)):
        windows, rows = zip(*found, strict=True)
        yield np.stack(windows), np.stack(rows)


def plain(pool: Pool, kind: str, rng: Rng) -> tuple[Float32, Float32]:
    """Return a window (clip_samples,) of a kind (a label, SEVERAL or `other`) as recorded, and its
    targets (labels,).
    """
    labels, length, rate_hz = pool.labels, pool.spec.clip_samples, pool.spec.sample_rate_hz
    if kind == OTHER:
        recorded = pool.has(None)
        return pool.window(None, length, rng) if recorded else pool.neither(length, rng), target(None, labels)
    if kind != SEVERAL:
        return pool.window(kind, length, rng), target(kind, labels)
    places = sorted(rng.permutation(len(labels))[:2])
    first, second = (pool.stretch(labels[place], length, 0, rng) for place in places)
    # The level of each sound while it is active, as in scenes.
    levels = [loudness(each.samples, rate_hz) for each in (first, second)]
    active = [
        level - 10 * np.log10(max(each.active, 0.01)) for level, each in zip(levels, (first, second), strict=True)
    ]
    gain_db = active[0] - active[1] - rng.uniform(*MIXTURE_DB)
    row = target(None, labels)
    row[places[0]] = presence(active[0], -np.inf, levels[1] + gain_db)
    row[places[1]] = presence(active[1] + gain_db, levels[0], -np.inf)
    return first.samples + second.samples * np.float32(10 ** (gain_db / 20)), row


def kinds_of(targets: Float32, labels: Sequence[str]) -> NDArray[np.str_]:
    """Return the kind of each row of targets (n, labels): its label, SEVERAL, `other` for none, or
    "" if one is NaN.
    """
    names = np.array([*labels, SEVERAL, OTHER, ""])
    count = targets.sum(axis=1)
    place = np.where(count == 1, targets.argmax(axis=1), np.where(count > 1, len(labels), len(labels) + 1))
    found: NDArray[np.str_] = names[np.where(np.isnan(count), len(labels) + 2, place)]
    return found


def fit_logits(logits: Float64, targets: Float32) -> tuple[Float64, Float64]:
    """Return the scale and the offset (labels,) of each label's logits (n, labels) that minimise
    the log loss.

    Targets of NaN are left out. If the loss of a label does not decrease, its scale is 1 and its
    offset 0.
    """
    found = []
    for column in range(targets.shape[1]):
        known = np.isfinite(targets[:, column])
        z, true = logits[known, column], targets[known, column].astype(np.float64)

        def loss(values: Float64, z: Float64 = z, true: Float64 = true) -> tuple[float, Float64]:
            scaled = z * values[0] + values[1]
            apart = (values - (1.0, 0.0)) / PRIOR**2
            wrong = expit(scaled) - true
            slope = np.array([wrong @ z, wrong.sum()]) + apart
            return float(_log_loss(scaled, true).sum() + PRIOR**2 * apart @ apart / 2), slope

        start = np.array([1.0, 0.0])
        fitted = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=(SCALES, OFFSETS)).x
        better = _log_loss(z * fitted[0] + fitted[1], true).sum() < _log_loss(z, true).sum()
        found.append(fitted if better else start)
    scale, offset = np.array(found).T
    return scale, offset


def fold(model: keras.Model, labels: tuple[str, ...], scale: Float64, offset: Float64, shape: tuple[int, ...]) -> bool:
    """Multiply a network's logits by `scale` and add `offset`, (labels,) each, in the weights of
    its last layer.

    The layer must be dense or a convolution, with a bias and an output for each label. Return
    whether the logits of features of that shape are then correct; if they are not, the network is
    unchanged.
    """
    last = next((layer for layer in reversed(model.layers) if layer.weights), None)
    if not isinstance(last, keras.layers.Dense | keras.layers.Conv1D | keras.layers.Conv2D):
        return False
    if not last.use_bias or last.kernel.shape[-1] != len(labels):
        return False
    features = np.random.default_rng(0).standard_normal((16, *shape)).astype(np.float32)
    before = last.get_weights()
    expected = _logits(with_logits(model, labels, "independent"), features) * scale + offset
    kernel, bias = before
    last.set_weights([kernel * scale.astype(np.float32), bias * scale.astype(np.float32) + offset.astype(np.float32)])
    found = _logits(with_logits(model, labels, "independent"), features)
    if np.allclose(found, expected, rtol=SAME, atol=SAME):
        return True
    last.set_weights(before)
    return False


def choose_thresholds(scores: Float64, targets: Float32, kinds: NDArray[np.str_]) -> Float64:
    """Choose thresholds (labels,) by the share of rows (n, labels) whose labels are all correct, as
    the mean over kinds.

    The threshold of one label after the other is moved to the best value until none moves. On the
    line from a half to these thresholds, the first whose mean is within one standard error of the
    best are returned. Rows with a NaN are left out.
    """
    known = kinds != ""
    scores, targets, kinds = scores[known], targets[known], kinds[known]
    counts = {str(kind): int((kinds == kind).sum()) for kind in np.unique(kinds)}
    weights = np.array([1 / len(counts) / counts[kind] for kind in kinds.tolist()])
    # (labels, thresholds, n): whether each label is correct at each threshold.
    right = np.stack([(p >= THRESHOLDS[:, None]) == (true > 0.5) for p, true in zip(scores.T, targets.T, strict=True)])
    from_half = np.abs(THRESHOLDS - 0.5)
    places = np.full(len(right), from_half.argmin())
    moved, best = True, -1.0
    while moved:
        moved = False
        for label in range(len(right)):
            others = [right[j, place] for j, place in enumerate(places) if j != label]
            means = right[label] @ (weights * np.logical_and.reduce(others, axis=0))
            if means.max() > best + TIE:
                moved, best = True, means.max()
                ties = np.flatnonzero(means >= best - TIE)
                places[label] = ties[from_half[ties].argmin()]
    shares = exact_by_kind(scores, targets, kinds, THRESHOLDS[places])
    error = np.sqrt(sum(share * (1 - share) / counts[kind] for kind, share in shares.items())) / len(counts)
    for part in np.linspace(0, 1, len(THRESHOLDS)):
        chosen: Float64 = np.round(0.5 + part * (THRESHOLDS[places] - 0.5), 3)
        if np.mean(list(exact_by_kind(scores, targets, kinds, chosen).values())) >= best - error - TIE:
            break
    return chosen


def exact_by_kind(scores: Float64, targets: Float32, kinds: NDArray[np.str_], thresholds: Float64) -> dict[str, float]:
    """Return, for each kind, the share of rows (n, labels) whose labels are all correct; rows with
    a NaN are left out.
    """
    right = ((scores >= thresholds) == (targets > 0.5)).all(axis=1)
    return {str(kind): float(right[kinds == kind].mean()) for kind in np.unique(kinds) if kind}


def _logits(network: keras.Model, features: Float32) -> Float64:
    # A network with several windows gives their mean; a clip of the spec's length is one window.
    return np.asarray(network.predict_on_batch(features)[0], np.float64)


def _log_loss(logits: Float64, true: Float64) -> Float64:
    """Return the negative log-likelihood in nats, (n,)."""
    found: Float64 = np.logaddexp(0, logits) - true * logits
    return found


def _log_losses(logits: Float64, targets: Float32) -> list[float]:
    known = np.isfinite(targets)
    return [round(float(_log_loss(z[k], t[k]).mean()), 5) for z, t, k in zip(logits.T, targets.T, known.T, strict=True)]


def _calibration_errors(scores: Float64, targets: Float32) -> list[float]:
    known = np.isfinite(targets)
    return [
        round(expected_calibration_error(reliability(p[k], t[k] > 0.5)), 5)
        for p, t, k in zip(scores.T, targets.T, known.T, strict=True)
    ]


def _mean(shares: dict[str, float]) -> float:
    return round(float(np.mean(list(shares.values()))), 4)


def _rounded(values: Float64) -> list[float]:
    return [round(float(value), 6) for value in values]
