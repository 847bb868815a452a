"""Datasets: named recordings with a label each. Splits are made over recordings, never over clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ms_edge.arrays import Float32


@dataclass(frozen=True)
class Recording:
    """One recording, the unit of every split.

    * `name` is unique in its dataset and does not depend on the machine (a relative path).
    * `label` is the class, or None if none of the dataset's labels is true (noise). Only in
      corrections, several labels are joined by `+`.
    * `source` is the recording's origin (package, album, speaker), and `group` a property within
      the source (language, kind of noise).
    * `sha256` is the digest of the file, or of the file and the place of an excerpt in it. Caches
      and runs identify the recording by it.
    * `read(sample_rate_hz)` returns the whole recording as mono float32 in [-1, 1] at this rate, or
      raises `ms_edge.errors.AudioError`.
    * `split` is the part that the dataset prescribes (`train`, `val`, `test`; recordings of any
      other part are in none of the three), or None if `ms_train.datasets.splits` decides.
    * `excerpt_of` is the digest of the file that an excerpt is cut from; excerpts of one file stay
      in one part.
    * `fold` is the fold of the training recordings that cross-validation holds out together, or
      None.
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
        """The digest of the file that holds the recording; recordings of one file are never in two
        parts.
        """
        return self.excerpt_of or self.sha256


@dataclass(frozen=True)
class Dataset:
    """Recordings, and the labels that a model is to tell apart, in the order of its scores.

    `decision` is `exclusive` if every recording has exactly one label, and `independent` if it may
    have none (noise) or several (a mixture). `licences` are the licences of the training
    recordings.
    """

    name: str
    labels: tuple[str, ...]
    decision: Literal["exclusive", "independent"]
    recordings: tuple[Recording, ...]
    licences: tuple[str, ...] = ()
