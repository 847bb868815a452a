"""Score recordings as `ms-edge classify` does: whole, in crops, and under noise."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.classifier import WindowScores
from ms_edge.errors import AudioError
from ms_edge.results import Classification
from ms_edge.timeline import OTHER, window_labels
from ms_train.datasets.dataset import Recording
from ms_train.errors import DataError
from ms_train.evaluation.results import Mistake
from ms_train.evaluation.subject import Subject
from ms_train.scores.calibration import log_loss
from ms_train.scores.metrics import Answers, name_of
from ms_train.signals import with_noise

LENGTHS_S = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
CROPS_PER_RECORDING = 30  # of each length, spread evenly over the recording
NOISES = ("white", "pink")
SNRS_DB = (20.0, 10.0, 5.0, 0.0, -5.0)
NO_NOISE = ("none", np.inf)
EXCERPT_S = 30.0  # of the middle of a recording, classified under noise
MISTAKES = 10


@dataclass
class Rows:
    """Collect the answers to clips or recordings, one row each."""

    labels: tuple[str, ...]
    _rows: list[tuple[int, NDArray[np.bool_], NDArray[np.float64], str]] = field(default_factory=list)

    def add(self, recording: int, target: NDArray[np.bool_], scores: Any, answer: str) -> None:
        """Add one clip or one recording: `target` and `scores` are (labels,)."""
        self._rows.append((recording, target, np.asarray(scores, np.float64), answer))

    def add_recording(self, recording: int, target: NDArray[np.bool_], found: Classification) -> None:
        """Add the answer to a whole recording, or to a piece of it."""
        self.add(recording, target, list(found.scores.values()), found.label)

    def answers(self) -> Answers:
        """Return all rows."""
        shape = (len(self._rows), len(self.labels))
        return Answers(
            np.array([row[2] for row in self._rows]).reshape(shape),
            np.array([row[1] for row in self._rows], bool).reshape(shape),
            tuple(row[3] for row in self._rows),
            np.array([row[0] for row in self._rows], np.int64),
            self.labels,
        )


@dataclass(frozen=True)
class MistakeExcerpt:
    """A mistake with its sound: `context` (n,) is the clip with up to one clip's length before and
    after it.
    """

    mistake: Mistake
    clip_s: float
    context: Float32
    context_start_s: float
    sample_rate_hz: int


@dataclass(frozen=True)
class Scored:
    """The answers of a model to a set of recordings.

    `clips` are all windows that the runtime cuts; `clips.part(~silent)` are those that vote.
    `lengths` maps the length of crops in seconds to the answers to them. `snrs` maps (noise, dB) to
    the answers to clips and to recordings; NO_NOISE is the same excerpts without noise.
    """

    names: tuple[str, ...]
    seconds: float
    clips: Answers
    silent: NDArray[np.bool_]
    files: Answers
    unreadable: dict[str, str]
    unknown: dict[str, int]
    lengths: dict[float, Answers]
    snrs: dict[tuple[str, float], tuple[Answers, Answers]]
    mistakes: tuple[MistakeExcerpt, ...]


def score_recordings(
    subject: Subject, recordings: Sequence[Recording], what: str, *, conditions: bool = True, seed: int = 0
) -> Scored:
    """Classify recordings and compare the answers with their labels.

    With `conditions`, also classify crops of LENGTHS_S and excerpts with NOISES at SNRS_DB. The
    same seed gives the same noise. `what` names the recordings in the progress bar.

    Recordings that cannot be read are listed with the reason, and recordings whose label the model
    does not know are counted. Raises DataError(`bad-data`) if no other recording is left.
    """
    scorer = _Scorer(subject, conditions, seed)
    for recording in tqdm(recordings, desc=what, unit="file", file=sys.stderr, disable=None):
        scorer.add(recording)
    if not scorer.names:
        why = next(iter(scorer.unreadable.values()), "their labels are not the model's.")
        raise DataError("bad-data", f"None of the {len(recordings)} recordings can be scored: {why}")
    return scorer.scored()


class _Scorer:
    """Classify one recording after another and collect the answers."""

    def __init__(self, subject: Subject, conditions: bool, seed: int) -> None:
        labels = subject.labels
        self.subject = subject
        self.seed = seed
        self.names: list[str] = []
        self.unreadable: dict[str, str] = {}
        self.unknown: dict[str, int] = {}
        self.seconds = 0.0
        self.silent: list[NDArray[np.bool_]] = []
        self.mistakes: list[MistakeExcerpt] = []
        self.clips, self.files = Rows(labels), Rows(labels)
        self.lengths = {length: Rows(labels) for length in LENGTHS_S} if conditions else {}
        levels = [NO_NOISE, *((noise, snr) for noise in NOISES for snr in SNRS_DB)] if conditions else []
        self.snrs = {level: (Rows(labels), Rows(labels)) for level in levels}

    def add(self, recording: Recording) -> None:
        """Classify a recording, whole and under the conditions; list it if that is impossible."""
        target = self.subject.target(recording.label)
        if target is None:
            label = recording.label or OTHER
            self.unknown[label] = self.unknown.get(label, 0) + 1
            return
        classifier = self.subject.classifier
        rate = classifier.spec.sample_rate_hz
        try:
            samples = np.asarray(recording.read(rate), np.float32)
            whole, windows = classifier.analyse(samples, rate)
        except AudioError as error:
            self.unreadable[recording.name] = str(error)
            tqdm.write(f"left out: {error}", file=sys.stderr)
            return
        index = len(self.names)
        self.names.append(recording.name)
        self.seconds += whole.duration_s
        self.silent.append(windows.silent)
        self.files.add_recording(index, target, whole)
        for row, name in zip(windows.scores, self._labels(windows.scores, windows.silent), strict=True):
            self.clips.add(index, target, row, name)
        worst = _worst(self.subject, recording.name, samples, target, windows)
        self.mistakes = sorted([*self.mistakes, *worst], key=lambda excerpt: -excerpt.mistake.log_loss)[:MISTAKES]
        for length, rows in self.lengths.items():
            for crop in _crops(samples, round(length * rate)):
                rows.add_recording(index, target, classifier.classify(crop, rate))
        if self.snrs:
            self._add_under_noise(index, target, samples, [self.seed, int(recording.sha256[:8], 16)])

    def _add_under_noise(self, index: int, target: NDArray[np.bool_], samples: Float32, seed: list[int]) -> None:
        """Classify the middle of a recording under each noise; do nothing if it is silent."""
        classifier = self.subject.classifier
        rate = classifier.spec.sample_rate_hz
        length = min(len(samples), round(EXCERPT_S * rate))
        excerpt = samples[(len(samples) - length) // 2 :][:length]
        sounding: NDArray[np.bool_] = np.empty(0, bool)
        for level, (clips, files) in self.snrs.items():
            # The same noise at every level, so that only the level differs.
            noisy = excerpt if level == NO_NOISE else with_noise(excerpt, *level, np.random.default_rng(seed))
            whole, windows = classifier.analyse(noisy, rate)
            if level == NO_NOISE:
                sounding = ~windows.silent
                if not sounding.any():
                    return  # noise over silence is only noise
            files.add_recording(index, target, whole)
            scores = windows.scores[sounding]
            for row, name in zip(scores, self._labels(scores), strict=True):
                clips.add(index, target, row, name)

    def _labels(self, scores: Float32, silent: NDArray[np.bool_] | None = None) -> list[str]:
        return window_labels(scores, self.subject.labels, self.subject.decision, silent)

    def scored(self) -> Scored:
        """Return all answers."""
        return Scored(
            tuple(self.names),
            self.seconds,
            self.clips.answers(),
            np.concatenate(self.silent),
            self.files.answers(),
            self.unreadable,
            self.unknown,
            {length: rows.answers() for length, rows in self.lengths.items()},
            {level: (clips.answers(), files.answers()) for level, (clips, files) in self.snrs.items()},
            tuple(self.mistakes),
        )


def _crops(samples: Float32, length: int) -> Iterator[Float32]:
    """Yield pieces of `length` samples that do not overlap, at most CROPS_PER_RECORDING."""
    starts = np.arange(0, len(samples) - length + 1, length)
    chosen = np.linspace(0, len(starts) - 1, min(len(starts), CROPS_PER_RECORDING)).round().astype(int)
    for start in starts[chosen]:
        yield samples[start : start + length]


def _worst(
    subject: Subject, name: str, samples: Float32, target: NDArray[np.bool_], found: WindowScores
) -> list[MistakeExcerpt]:
    """Return the clip with the largest log loss among those labelled wrongly; [] if there is none."""
    spec, labels = subject.classifier.spec, subject.labels
    truth = name_of(target, labels)
    names = window_labels(found.scores, labels, subject.decision)
    wrong = np.array([answer != truth for answer in names]) & ~found.silent
    if not wrong.any():
        return []
    losses = log_loss(found.scores.astype(np.float64), np.tile(target, (len(names), 1)), subject.decision.kind)
    worst = int(np.where(wrong, losses, -np.inf).argmax())
    start, clip = int(found.starts[worst]), spec.clip_samples
    first = max(0, start - clip)
    mistake = Mistake(
        name=name,
        start_s=start / spec.sample_rate_hz,
        truth=truth,
        answer=names[worst],
        scores=dict(zip(labels, found.scores[worst].astype(float).tolist(), strict=True)),
        log_loss=float(losses[worst]),
    )
    return [
        MistakeExcerpt(
            mistake,
            clip_s=min(clip, len(samples)) / spec.sample_rate_hz,
            context=samples[first : start + 2 * clip].copy(),
            context_start_s=first / spec.sample_rate_hz,
            sample_rate_hz=spec.sample_rate_hz,
        )
    ]
