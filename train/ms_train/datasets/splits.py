"""Splits: by recording, stratified by label, seeded. Clips of one recording never part."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ms_edge.errors import MsEdgeError, UsageError
from ms_train.datasets import Dataset, Recording


@dataclass(frozen=True)
class Split:
    """Disjoint parts of a dataset; `test` is empty unless a fold was held out."""

    train: tuple[Recording, ...]
    val: tuple[Recording, ...]
    test: tuple[Recording, ...]


def split(dataset: Dataset, seed: int, fold: tuple[int, int] | None = None, *, val_share: float = 0.2) -> Split:
    """Part a dataset's recordings.

    Where the dataset prescribes parts, they are used. Otherwise a share (a fifth) of the recordings of each label validates. With
    `fold` = (i, n), i from 1 to n, the i-th of n folds is held out for testing before that: training, and every decision
    taken while training, see nothing of it; and each fold validates on other recordings. Copies of one recording stay
    together. Raises MsEdgeError(`bad-data`) where a part would lack a label, or one recording has two.
    """
    label_of: dict[str, Recording] = {}
    for recording in dataset.recordings:
        other = label_of.setdefault(recording.sha256, recording)
        if other.label != recording.label:
            raise MsEdgeError(
                "bad-data", f"{recording.name} and {other.name} are the same recording with two labels; remove one."
            )
    if any(recording.split for recording in dataset.recordings):
        if fold:
            raise UsageError("usage", f"{dataset.name} prescribes its own split; --fold does not apply.")
        parts: dict[str | None, list[Recording]] = defaultdict(list)
        for recording in dataset.recordings:
            parts[recording.split].append(recording)
        result = Split(tuple(parts["train"]), tuple(parts["val"]), tuple(parts["test"]))
    else:
        train: list[Recording] = []
        val: list[Recording] = []
        test: list[Recording] = []
        by_label: dict[str | None, list[Recording]] = defaultdict(list)
        for recording in dataset.recordings:
            by_label[recording.label].append(recording)
        for label in sorted(by_label, key=str):
            copies: dict[str, list[Recording]] = defaultdict(list)
            for recording in by_label[label]:
                copies[recording.sha256].append(recording)
            pool = _shuffled([same[0] for same in copies.values()], seed, label)
            if fold:
                index, count = fold
                held_out = pool[index - 1 :: count]
                test += _with_copies(held_out, copies)
                kept = {recording.name for recording in held_out}
                pool = [recording for recording in pool if recording.name not in kept]
            val_count = max(1, round(len(pool) * val_share))
            # Each fold validates on others: on always the same few, easy or hard, every fold would stop by them.
            first = (fold[0] - 1) * val_count % len(pool) if fold else 0
            pool = pool[first:] + pool[:first]
            val += _with_copies(pool[:val_count], copies)
            train += _with_copies(pool[val_count:], copies)
        result = Split(tuple(train), tuple(val), tuple(test))
    for name, part in (("training", result.train), ("validation", result.val), ("testing", result.test)):
        if name == "testing" and not fold:
            continue
        missing = set(dataset.labels) - {recording.label for recording in part}
        if missing:
            raise MsEdgeError(
                "bad-data",
                f"{dataset.name}: no recording of {', '.join(sorted(missing))} is left for {name}; add recordings.",
            )
    return result


def _with_copies(recordings: Sequence[Recording], copies: dict[str, list[Recording]]) -> list[Recording]:
    return [copy for recording in recordings for copy in copies[recording.sha256]]


def _shuffled(recordings: Sequence[Recording], seed: int, label: str | None) -> list[Recording]:
    ordered = sorted(recordings, key=lambda recording: recording.name)
    random.Random(f"{seed}/{label}").shuffle(ordered)
    return ordered
