"""What a dataset is: named recordings with a label each, whatever they were read from.

A dataset is a tuple of `Recording`; every split is made over recordings, never over clips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ms_edge.arrays import Float32


@dataclass(frozen=True)
class Recording:
    """One recording: the unit of every split.

    `name` is unique in its dataset and independent of the machine (a relative path). `label` is the class, or None where
    none of the dataset's labels is true (noise). `source` is what the recording came from (package, album, speaker), and
    `group` what is alike within the source (language, kind of noise).
    `sha256` is the digest of what is read, by which it is known to caches and runs: of the file, or of the file and the place
    in it. `read(sample_rate_hz)` returns the whole recording as mono float32 in [-1, 1] at that rate and raises
    `ms_edge.errors.AudioError` where it cannot. `split` is the part the dataset itself prescribes (`train`, `val`, `test`;
    any other is kept out of all three), or None where `ms_train.datasets.splits` decides. `excerpt_of` is the digest of the
    file that an excerpt is cut from: excerpts of one file never part. `fold` is the part of the training recordings that
    choices by cross-validation hold out with it, or None.
    """

    name: str
    label: str | None
    source: str
    sha256: str
    read: Callable[[int], Float32]
    split: str | None = None
    excerpt_of: str | None = None
    group: str = ""
    fold: int | None = None

    @property
    def file_sha256(self) -> str:
        """The digest of the file that is read, wholly or in part: recordings of one file are never in two parts."""
        return self.excerpt_of or self.sha256


@dataclass(frozen=True)
class Dataset:
    """Recordings with the labels a model is to tell apart, in the order of its scores.

    `decision` is `exclusive` where every recording has exactly one of the labels, `independent` where each label is a
    question of its own (noise has none of them, a mixture several). `licences` are those of what is trained on.
    """

    name: str
    labels: tuple[str, ...]
    decision: Literal["exclusive", "independent"]
    recordings: tuple[Recording, ...]
    licences: tuple[str, ...] = ()
