"""Splits of recordings into parts, stratified by label and seeded.

Clips of one recording stay in one part.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ms_edge.errors import UsageError
from ms_edge.model.metadata import LABEL_RULE, is_label
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.reading import say_left_out
from ms_train.errors import DataError


@dataclass(frozen=True)
class Split:
    """Disjoint parts of a dataset; `test` is empty unless a fold is held out or the dataset
    prescribes it.
    """

    train: tuple[Recording, ...]
    val: tuple[Recording, ...]
    test: tuple[Recording, ...]


def require_label_names(dataset: Dataset) -> None:
    """Raise DataError(`bad-data`) if a class has a name that no model may give as a label."""
    if wrong := [label for label in dataset.labels if not is_label(label)]:
        raise DataError("bad-data", f"{dataset.name}: no model can call a class {wrong[0]!r}: {LABEL_RULE}; rename it.")


def split(dataset: Dataset, seed: int, fold: tuple[int, int] | None = None, *, val_share: float = 0.2) -> Split:
    """Divide a dataset's recordings into training, validation and test parts.

    Parts that the dataset prescribes are used. Its other recordings are divided into training and
    validation. If there are none, and the dataset prescribes no validation part, its training part
    is divided. Validation gets `val_share` of the recordings of each label. With `fold` = (i, n), i
    from 1 to n, the i-th of n folds is held out for testing first, so that neither training nor any
    decision during training uses it. Each fold validates on other recordings. If the dataset
    prescribes its parts, it must prescribe n folds of its training recordings too, of which the
    i-th is held out; its test recordings are then not used. Raises UsageError if it does not.

    Copies of one recording stay together. So do excerpts of one file, which count as one recording
    with all their labels. If the dataset prescribes copies in several parts, those for testing are
    kept, else those for validation; the others are named on stderr. Raises DataError(`bad-data`) if
    a part would lack a label, or if one recording has two labels.
    """
    label_of: dict[str, Recording] = {}
    for recording in dataset.recordings:
        other = label_of.setdefault(recording.sha256, recording)
        if other.label != recording.label:
            raise DataError(
                "bad-data", f"{recording.name} and {other.name} are the same recording with two labels; remove one."
            )
    parts: dict[str | None, list[Recording]] = defaultdict(list)
    for recording in dataset.recordings:
        parts[recording.split].append(recording)
    held_out = fold is not None
    if fold and set(parts) != {None}:
        parts["train"], parts["test"] = _without_fold(dataset, parts["train"], fold)
        fold = None
    left_open = parts.pop(None, [])
    if not left_open and not parts["val"]:
        left_open = parts.pop("train", [])
    for pool in _strata(left_open, seed):
        if fold:
            index, count = fold
            parts["test"] += _joined(pool[index - 1 :: count])
            pool = [unit for place, unit in enumerate(pool) if place % count != index - 1]
        val_count = max(1, round(len(pool) * val_share))
        # Each fold validates on other recordings, so that a few easy or hard ones do not decide
        # when all folds stop.
        first = (fold[0] - 1) * val_count % len(pool) if fold and pool else 0
        pool = pool[first:] + pool[:first]
        parts["val"] += _joined(pool[:val_count])
        parts["train"] += _joined(pool[val_count:])
    result = _without_copies(dataset, parts)
    for name, part in (("training", result.train), ("validation", result.val), ("testing", result.test)):
        if name == "testing" and not held_out:
            continue
        missing = set(dataset.labels) - {recording.label for recording in part}
        if missing:
            raise DataError(
                "bad-data",
                f"{dataset.name}: no recording of {', '.join(sorted(missing))} is left for {name}; add recordings.",
            )
    return result


def _without_fold(
    dataset: Dataset, recordings: Sequence[Recording], fold: tuple[int, int]
) -> tuple[list[Recording], list[Recording]]:
    """Return the recordings outside and inside the i-th of the n folds that the dataset prescribes."""
    index, count = fold
    prescribed = {recording.fold for recording in recordings} - {None}
    if not prescribed:
        raise UsageError(f"{dataset.name} prescribes its own split; --fold does not apply.")
    if prescribed != set(range(count)):
        raise UsageError(f"{dataset.name} prescribes {len(prescribed)} folds; type: --fold I/{len(prescribed)}")
    kept = [recording for recording in recordings if recording.fold != index - 1]
    return kept, [recording for recording in recordings if recording.fold == index - 1]


def _without_copies(dataset: Dataset, parts: Mapping[str | None, Sequence[Recording]]) -> Split:
    """Return the three parts; of copies in several parts, only those of test are kept, else those
    of val.
    """
    kept: dict[str, tuple[Recording, ...]] = {}
    part_of: dict[str, str] = {}
    left_out, count = [], 0
    for part in ("test", "val", "train"):
        mine = parts.get(part, ())
        kept[part] = tuple(recording for recording in mine if recording.file_sha256 not in part_of)
        left_out += [
            f"{recording.name}: is in the part {part!r}, and a copy of it in {part_of[recording.file_sha256]!r}."
            for recording in mine
            if recording.file_sha256 in part_of
        ]
        part_of |= {recording.file_sha256: part for recording in kept[part]}
        count += len(mine)
    say_left_out(dataset.name, left_out, count, "recordings")
    return Split(kept["train"], kept["val"], kept["test"])


def _strata(recordings: Sequence[Recording], seed: int) -> list[list[list[Recording]]]:
    """Return the units that stay together (copies, or excerpts of one file), grouped by their
    labels and shuffled.
    """
    units: dict[str, list[Recording]] = defaultdict(list)
    for recording in sorted(recordings, key=lambda recording: recording.name):
        units[recording.file_sha256].append(recording)
    strata: dict[str, list[list[Recording]]] = defaultdict(list)
    for unit in units.values():
        strata["+".join(sorted({str(recording.label) for recording in unit}))].append(unit)
    for labels, pool in strata.items():
        random.Random(f"{seed}/{labels}").shuffle(pool)
    return [pool for _, pool in sorted(strata.items())]


def _joined(units: Sequence[Sequence[Recording]]) -> list[Recording]:
    return [recording for unit in units for recording in unit]
