"""What a network heard in its training, as the values before its last layers.

A network that only learns new examples forgets the old ones. Its old answers to stored values are
learnt along with the new examples ("latent replay", Pellegrini et al. 2020, with the old answers as
targets: "learning without forgetting", Li and Hoiem 2016). The values of a thousand windows are
small, and no recording can be made from them; those of the bundled model are part of the package.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import keras
import numpy as np

from ms_edge.arrays import Float32
from ms_edge.timeline import OTHER
from ms_train.augment.pool import Pool
from ms_train.datasets.cache import Cache
from ms_train.datasets.clips import read_all
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.frontend import FrontEndLayer, clip_features
from ms_train.training.decision import SEVERAL, plain
from ms_train.training.finetune import trunk
from ms_train.training.runs import TrainedRun

FILE = "replay.npz"
WINDOWS = 1_000
PER_SOURCE = 8  # recordings of each source and label that windows are drawn from


def replay(run: TrainedRun, folder: Path, dataset: Dataset, cache: Cache) -> Float32:
    """Return the values before the last layers of the run in `folder`, (windows, ...), for windows
    of recordings that it was trained on: equally many of each label, of two labels, and of none.
    """
    chosen: dict[tuple[str, str | None], list[Recording]] = defaultdict(list)
    trained = set(run.split["train"])
    for recording in dataset.recordings:
        of_source = chosen[recording.source, recording.label]
        if recording.name in trained and len(of_source) < PER_SOURCE:
            of_source.append(recording)
    spec = run.spec
    recordings = [each for of_source in chosen.values() for each in of_source]
    audio = list(read_all(recordings, spec.sample_rate_hz, "what the network was trained on", cache))
    pool = Pool(audio, run.labels, "independent", spec, active=cache.activity(audio, spec.sample_rate_hz))
    rng = np.random.default_rng(0)
    kinds = [*(label for label in run.labels if pool.has(label)), *([SEVERAL] if len(run.labels) > 1 else []), OTHER]
    windows = [plain(pool, kind, rng)[0] for kind in kinds for _ in range(WINDOWS // len(kinds))]
    return latents(trunk(folder), clip_features(FrontEndLayer(spec), np.stack(windows)))


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
