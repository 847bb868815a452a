"""`ms-train data check`: look for what spoils a training, before it.

Every recording is read once, as mono at 16 kHz. The check counts minutes, finds recordings that are
copies, clipped, silent or very quiet, and asks whether the loudness, the bandwidth or the pauses of
a recording alone tell its class: a network then learns how the recordings were made, and fails on
recordings made in another way. `data_report` shows the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from ms_edge.arrays import Float32
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.windows import SILENCE_DBFS
from ms_train.datasets.cache import Cache
from ms_train.datasets.clips import read_all
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.splits import require_label_names, split
from ms_train.errors import DataError
from ms_train.evaluation.shortcuts import QUIET_FRAME_S, Float64, decibels, pauses, regression, root_mean_square
from ms_train.recipes import mel_dscnn

SPEC = mel_dscnn.SPEC
NEITHER = "(none)"  # shown for recordings without a label, which hold none of the classes
FEW_RECORDINGS = 10  # of a class
UNEQUAL = 4  # times as many minutes of one class as of another
CLIPPED, CLIPPED_SHARE, CLIPPED_RUN = 0.999, 1e-4, 3  # level, share of samples, and how many such samples in a row
SILENT_SHARE, QUIET_DB = 0.5, -50.0
EDGE_BELOW_DB = 60.0  # where the spectrum has fallen by this much, the recording's bandwidth ends
CELLS, BANDS, SAME = (64, 12), 48, 0.995  # of a fingerprint; the correlation from which recordings are copies
SAME_LENGTH = 0.01  # copies differ in length by at most this share
TELLING = 0.45  # a property tells classes apart if it removes this share of the errors of guessing
NAMED = 5  # recordings that a finding names


@dataclass(frozen=True)
class Measures:
    """What is measured of one recording; levels are in dB of full scale.

    `clipped` is the share of samples in clipped peaks, `silent` that of frames of 20 ms that the
    runtime calls silence, `pauses` that of frames 20 dB below the recording's level. `bandwidth_khz`
    is the frequency above which the mean spectrum stays 60 dB below its maximum.
    """

    name: str
    label: str
    sha256: str
    seconds: float
    level_db: float
    clipped: float
    silent: float
    pauses: float
    bandwidth_khz: float


# By name, the field of `Measures`.
PROPERTIES = {"loudness": "level_db", "bandwidth": "bandwidth_khz", "pauses": "pauses"}


@dataclass(frozen=True)
class Shortcut:
    """How often a regression that sees one property tells the class of a recording that it did not
    see before, and how often guessing would; the mean over classes.

    `accuracy` is None if a class has a single recording.
    """

    accuracy: float | None
    chance: float
    tells: bool


@dataclass(frozen=True)
class Check:
    """The result: `refused` are the findings because of which a training would end in an error."""

    data: str
    recordings: tuple[Measures, ...]
    classes: tuple[str, ...]
    shortcuts: dict[str, Shortcut]
    refused: tuple[str, ...]
    warnings: tuple[str, ...]
    spectra: dict[str, Float64]

    def of(self, label: str) -> list[Measures]:
        """Return the recordings of a class."""
        return [each for each in self.recordings if each.label == label]


def check(dataset: Dataset, data: str, cache: Cache) -> Check:
    """Read and measure a dataset (named `data` on the command line). Unreadable recordings are named
    on stderr.
    """
    found: list[Measures] = []
    prints: list[Float64] = []
    spectra: dict[str, list[Float64]] = {}
    for recording, audio in read_all(dataset.recordings, SPEC.sample_rate_hz, "the recordings", cache):
        measures, fingerprint, spectrum = measure(recording, audio[:])
        found.append(measures)
        prints.append(fingerprint)
        spectra.setdefault(measures.label, []).append(spectrum)
    present = {each.label for each in found}
    others = sorted(present - set(dataset.labels))
    classes = tuple(label for label in (*dataset.labels, *others) if label in present)
    refused, warnings = _findings(dataset, found, list(copies(found, prints)))
    if not refused:
        refused += _refused_by_fit(dataset)
    shortcuts = {name: told_by(found, name) for name in PROPERTIES} if len(classes) > 1 else {}
    for name, shortcut in shortcuts.items():
        if shortcut.tells and shortcut.accuracy is not None:
            warnings.append(
                f"The {name} of a recording alone tells its class in {shortcut.accuracy:.0%} (guessing: {shortcut.chance:.0%}). "
                f"{ADVICE[name]}"
            )
    mean = {label: np.mean(spectra[label], axis=0) for label in classes}
    return Check(data, tuple(found), classes, shortcuts, tuple(refused), tuple(warnings), mean)


def _refused_by_fit(dataset: Dataset) -> list[str]:
    """Return why `ms-train fit` would refuse a dataset of which every label has a recording."""
    try:
        require_label_names(dataset)
        if all(each.label is None or each.label in dataset.labels for each in dataset.recordings):
            split(dataset, 0)
    except DataError as error:
        return [error.message]
    return []


ADVICE = {
    "loudness": "If the sounds do not differ so much themselves, record all classes at the same distance and gain, or let the "
    "training vary the level: ms-train finetune does, and ms-train fit --augment gain.",
    "bandwidth": "If the classes come from different microphones, codecs or sample rates, record all of them alike, or let the "
    "training vary the channel: ms-train fit --augment channel.",
    "pauses": "If the classes were cut in different ways, cut all of them alike.",
}


def measure(recording: Recording, samples: Float32) -> tuple[Measures, Float64, Float64]:
    """Return the measures of a recording (samples,) at 16 kHz, its fingerprint, and its mean
    spectrum in dB (bands,).
    """
    rate_hz = SPEC.sample_rate_hz
    frame = round(QUIET_FRAME_S * rate_hz)
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame).astype(float)
    levels = np.sqrt(np.mean(frames**2, axis=1))
    features = FrontEnd(SPEC).features(np.resize(samples, max(len(samples), SPEC.clip_samples))).astype(float)
    power = _mean_power(samples)
    return (
        Measures(
            name=recording.name,
            label=NEITHER if recording.label is None else recording.label,
            sha256=recording.sha256,
            seconds=len(samples) / rate_hz,
            level_db=round(decibels(root_mean_square(samples)), 2),
            clipped=_clipped(samples),
            silent=float(np.mean(levels < 10 ** (SILENCE_DBFS / 20))),
            pauses=float(pauses(samples, rate_hz)[0]),
            bandwidth_khz=round(_edge_khz(power), 3),
        ),
        _fingerprint(features),
        10 * np.log10(power / power.max() + 1e-12),
    )


def _mean_power(samples: Float32) -> Float64:
    """Return the mean power spectrum (bins,) in 128 bands up to 8 kHz, from frames of 256 samples."""
    padded = np.resize(samples, max(len(samples), 256))
    total, count = np.zeros(129), 0
    for start in range(0, len(padded) - 255, 1 << 20):  # blocks, as an hour of frames would need a gigabyte
        block = np.lib.stride_tricks.sliding_window_view(padded[start : start + (1 << 20) + 128], 256)[::128]
        total += np.sum(np.abs(np.fft.rfft(block * np.hanning(256))) ** 2, axis=0)
        count += len(block)
    return np.asarray(total[1:] / max(1, count) + 1e-20)


def _edge_khz(power: Float64) -> float:
    """Return the frequency in kHz of the last band that is less than EDGE_BELOW_DB below the
    loudest.
    """
    above = np.flatnonzero(power > power.max() * 10 ** (-EDGE_BELOW_DB / 10))
    return float((above[-1] + 1) * SPEC.sample_rate_hz / 256 / 1000)


def _clipped(samples: Float32) -> float:
    """Return the share of samples in runs of CLIPPED_RUN or more at full scale, or at the largest
    magnitude if it is above half of full scale.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    full = np.abs(samples) >= max(0.5, CLIPPED * peak)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]])))
    lengths = edges[1::2] - edges[::2]
    return float(lengths[lengths >= CLIPPED_RUN].sum() / len(samples))


def _fingerprint(features: Float64) -> Float64:
    """Return features (frames, bands) as means over a grid of time and bands, without their level
    and of length 1.
    """
    time, bands = CELLS
    rows = np.linspace(0, len(features), time + 1).astype(int)
    cells = np.stack([features[low : max(high, low + 1)].mean(axis=0) for low, high in pairwise(rows)])
    cells = cells.reshape(time, bands, -1).mean(axis=2)
    cells -= cells.mean()
    return np.asarray((cells / max(float(np.linalg.norm(cells)), 1e-9)).ravel())


def copies(found: Sequence[Measures], prints: Sequence[Float64]) -> Iterator[tuple[Measures, Measures]]:
    """Yield pairs of recordings that are the same file, or the same audio at another level or in
    another format; each recording is the second of one pair at most.
    """
    order = sorted(range(len(found)), key=lambda index: found[index].seconds)
    stack = np.stack([prints[index] for index in order]) if order else np.zeros((0, 1))
    lengths = np.array([found[index].seconds for index in order])
    taken: set[int] = set()
    for place, index in enumerate(order):
        if place in taken:
            continue
        last = int(np.searchsorted(lengths, lengths[place] * (1 + SAME_LENGTH), "right"))
        alike = stack[place + 1 : last] @ stack[place]
        for offset, likeness in enumerate(alike.tolist(), place + 1):
            other = found[order[offset]]
            if offset not in taken and (likeness > SAME or other.sha256 == found[index].sha256):
                taken.add(offset)
                yield found[index], other


def told_by(found: Sequence[Measures], name: str) -> Shortcut:
    """Return how well one property tells classes apart, on recordings that were left out in turn.

    The accuracy is the mean over classes.
    """
    values = np.array([[getattr(each, PROPERTIES[name])] for each in found])
    labels = np.array([each.label for each in found])
    counts = Counter(labels.tolist())
    folds = min(5, *counts.values())
    if folds < 2:
        return Shortcut(None, 1 / len(counts), False)
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    model = regression().set_params(logisticregression__class_weight="balanced")
    answers = cross_val_predict(model, values, labels, cv=split)
    accuracy = float(np.mean([np.mean(answers[labels == label] == label) for label in counts]))
    chance = 1 / len(counts)
    error = np.sqrt(accuracy * (1 - accuracy) / len(found))
    tells = accuracy - 2 * error > chance and accuracy > chance + TELLING * (1 - chance)
    return Shortcut(round(accuracy, 4), chance, bool(tells))


def _findings(
    dataset: Dataset, found: Sequence[Measures], same: Sequence[tuple[Measures, Measures]]
) -> tuple[list[str], list[str]]:
    """Return the findings that a training refuses, and the others."""
    refused, warnings = [], []
    if missing := [label for label in dataset.labels if not any(each.label == label for each in found)]:
        refused.append(f"No recording of {', '.join(missing)} can be read.")
    if len(found) < len(dataset.recordings):
        warnings.append(
            f"{len(dataset.recordings) - len(found)} of {len(dataset.recordings)} recordings cannot be read."
        )
    for one, other in same:
        if one.label != other.label:
            what = f"{one.name} and {other.name} are the same audio with two labels; remove one."
            (refused if one.sha256 == other.sha256 else warnings).append(what)
    if alike := [f"{other.name} = {one.name}" for one, other in same if one.label == other.label]:
        warnings.append(f"{_count(alike, 'recording is a copy', 'recordings are copies')}: {_named(alike)}.")
    for what, many, chosen in (
        ("recording is clipped", "recordings are clipped", [e for e in found if e.clipped > CLIPPED_SHARE]),
        ("recording is mostly silence", "recordings are mostly silence", [e for e in found if e.silent > SILENT_SHARE]),
        ("recording is very quiet", "recordings are very quiet", [e for e in found if e.level_db < QUIET_DB]),
    ):
        if names := [each.name for each in chosen]:
            warnings.append(f"{_count(names, what, many)}: {_named(names)}.")
    return refused, warnings + _amounts(dataset, found)


def _amounts(dataset: Dataset, found: Sequence[Measures]) -> list[str]:
    """Return the findings about how much there is of each class."""
    counts = Counter(each.label for each in found)
    minutes = {label: sum(each.seconds for each in found if each.label == label) / 60 for label in dataset.labels}
    warnings = [
        f"{label} has only {_count(range(counts[label]), 'recording', 'recordings')}; collect at least {FEW_RECORDINGS}."
        for label in dataset.labels
        if 0 < counts[label] < FEW_RECORDINGS
    ]
    least, most = min(minutes, key=minutes.__getitem__), max(minutes, key=minutes.__getitem__)
    if minutes[least] and minutes[most] > UNEQUAL * minutes[least]:
        warnings.append(
            f"{most} has {minutes[most] / minutes[least]:.0f} times as many minutes as {least}; collect more of {least}."
        )
    return warnings


def _count(names: Sequence[object], one: str, many: str) -> str:
    return f"1 {one}" if len(names) == 1 else f"{len(names):,} {many}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
