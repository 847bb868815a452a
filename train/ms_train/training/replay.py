"""Stored values before the last layers of a network, with which it keeps what it knows.

A network that only learns new examples forgets the old ones. Its old answers to stored values are
learnt along with the new examples ("latent replay", Pellegrini et al. 2020, with the old answers as
targets: "learning without forgetting", Li and Hoiem 2016). The values of a thousand windows are
small, and no recording can be made from them; those of the bundled model are part of the package.

Which windows matters. Of recordings that a network was trained on it is so sure that their labels
stay while those of other recordings change. So the windows are those on which the decision is
fitted: of other recordings, half of them in rooms, noise and other channels. And most of those
chosen are in doubt, because their labels change first.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np

from ms_edge.arrays import Float32
from ms_train.datasets.cache import Cache
from ms_train.datasets.dataset import Dataset
from ms_train.frontend import FrontEndLayer, clip_features
from ms_train.recipes.by_name import recipes
from ms_train.training.decision import draw, read_held
from ms_train.training.finetune import recipe_from, trunk
from ms_train.training.runs import TrainedRun

FILE = "replay.npz"
WINDOWS = 1_000
CERTAIN = 0.05  # relative chance of a window whose labels are certain; a label with the score 0.5 adds 0.25


def replay(run: TrainedRun, folder: Path, dataset: Dataset, cache: Cache) -> Float32:
    """Return the values before the last layers of the run in `folder`, (windows, ...), for windows
    drawn as its decision is fitted (`ms_train.training.decision`).

    Raises DataError(`bad-data`) if no held-out recording of a label can be read.
    """
    recipe = dataclasses.replace(recipes().get(run.recipe) or recipe_from(folder), spec=run.spec)
    val = set(run.split["val"])
    held = read_held(dataset, [each for each in dataset.recordings if each.name in val], recipe, cache)
    windows, _ = zip(*draw(held.pool, recipe, 0, cache), strict=True)
    features = clip_features(FrontEndLayer(run.spec), np.stack(windows))
    scores = np.asarray(run.network.predict(features, batch_size=256, verbose=0)[1])
    doubt = (scores * (1 - scores)).sum(axis=1) + CERTAIN
    chosen = np.random.default_rng(0).choice(len(doubt), min(WINDOWS, len(doubt)), replace=False, p=doubt / doubt.sum())
    return latents(trunk(folder), features[chosen])


def latents(base: keras.Model, features: Float32) -> Float32:
    """Return the values (clips, ...) before a network's last layers, of features (clips, ...)."""
    return np.asarray(base.predict(features, batch_size=64, verbose=0), np.float32)


def write(values: Float32, folder: Path) -> None:
    """Write values into a run folder, in 16 bits."""
    np.savez_compressed(folder / FILE, values=values.astype(np.float16))


def read(folder: Path) -> Float32 | None:
    """Return the values in a run folder, or None if it has none."""
    path = folder / FILE
    if not path.exists():
        return None
    with np.load(path) as found:
        return np.asarray(found["values"], np.float32)
