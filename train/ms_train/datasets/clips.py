"""Cut recordings into clips, and compute the arrays a network is trained on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.errors import MsEdgeError
from ms_edge.features.spec import FrontEndSpec
from ms_edge.features.windows import windows
from ms_train.datasets.cache import Cache
from ms_train.datasets.dataset import Recording
from ms_train.errors import DataError
from ms_train.signals import Audio

Made = TypeVar("Made")


def cut(samples: Float32, spec: FrontEndSpec, limit: int) -> Float32:
    """Return the first `limit` windows (clips, clip_samples) float32 of a recording, cut as the
    runtime cuts them.
    """
    return np.stack([window for _, window in islice(windows([samples], spec), limit)])


@dataclass(frozen=True)
class Clips:
    """Clips of several recordings: features (n, *feature_shape), targets (n, labels) in {0, 1},
    indices of recordings (n,).
    """

    features: Float32
    targets: Float32
    recording: NDArray[np.int64]
    names: tuple[str, ...]


def load(
    recordings: Sequence[Recording],
    labels: tuple[str, ...],
    spec: FrontEndSpec,
    features_of: Callable[[Float32], Float32],
    limit: int,
    what: str,
    cache: Cache | None = None,
) -> Clips:
    """Read recordings and compute the features of at most `limit` clips from each, or take them
    from the cache.

    `features_of` makes (n, *feature_shape) of (n, clip_samples). A recording that cannot be read is
    named on stderr and left out. Raises DataError(`bad-data`) if none is left of a label.
    """
    kept = cache or Cache(None)

    def make(recording: Recording) -> Float32:
        return features_of(cut(recording.read(spec.sample_rate_hz), spec, limit))

    found: list[Float32] = []
    targets: list[Float32] = []
    index: list[NDArray[np.int64]] = []
    names: list[str] = []
    for recording, clips in _each(recordings, make, what, partial(kept.features, spec=spec, limit=limit)):
        found.append(clips)
        targets.append(np.tile(target(recording.label, labels), (len(clips), 1)))
        index.append(np.full(len(clips), len(names)))
        names.append(recording.name)
    require_labels([labels[row.argmax()] for rows in targets for row in rows if row.any()], labels, what)
    return Clips(np.concatenate(found), np.concatenate(targets), np.concatenate(index), tuple(names))


def read_all(
    recordings: Sequence[Recording], sample_rate_hz: int, what: str, cache: Cache | None = None
) -> Iterator[tuple[Recording, Audio]]:
    """Yield each recording that can be read, with its samples (in memory or on disk), under a
    progress bar.
    """
    kept = cache or Cache(None)
    through = partial(kept.audio, sample_rate_hz=sample_rate_hz)
    yield from _each(recordings, lambda recording: recording.read(sample_rate_hz), what, through)


def _each(
    recordings: Sequence[Recording],
    make: Callable[[Recording], Float32],
    what: str,
    through: Callable[..., Iterator[tuple[Recording, Made]]],
) -> Iterator[tuple[Recording, Made]]:
    """Yield each recording with what `make` makes of it `through` the cache; name on stderr what
    cannot be read.
    """
    left_out = 0

    def made(recording: Recording) -> Float32 | None:
        nonlocal left_out
        try:
            return make(recording)
        except MsEdgeError as error:
            left_out += 1
            tqdm.write(f"left out: {error}", file=sys.stderr)
            return None

    bar = tqdm(recordings, desc=f"reading {what}", unit="file", file=sys.stderr, disable=None)
    yield from through(bar, make=made)
    if left_out:
        tqdm.write(f"{what}: {left_out} of {len(recordings)} recordings left out.", file=sys.stderr)


def require_labels(found: Iterable[str | None], labels: tuple[str, ...], what: str) -> None:
    """Raise DataError(`bad-data`) if a label has no recording."""
    if missing := sorted(set(labels) - set(found)):
        raise DataError("bad-data", f"No recording of {', '.join(missing)} can be read for the {what}; add recordings.")


def target(label: str | None, labels: tuple[str, ...]) -> Float32:
    """Return the one-hot row (labels,) of a label; all zeros for None."""
    return np.array([float(label == name) for name in labels], np.float32)
