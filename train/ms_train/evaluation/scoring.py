"""Ask a model about recordings as `ms-edge classify` would: whole, in pieces, and under noise."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.errors import AudioError
from ms_edge.results import Classification
from ms_edge.timeline import OTHER, SILENCE, window_label
from ms_train.datasets.dataset import Recording
from ms_train.errors import DataError
from ms_train.evaluation.results import Mistake
from ms_train.evaluation.subject import Subject
from ms_train.scores.calibration import log_loss
from ms_train.scores.metrics import Answers, name_of
from ms_train.signals import with_noise

LENGTHS_S = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
CROPS_PER_RECORDING = 30  # of each length, evenly from the first to the last
NOISES = ("white", "pink")
SNRS_DB = (20.0, 10.0, 5.0, 0.0, -5.0)
EXCERPT_S = 30.0  # of the middle of a recording, to hear under noise
MISTAKES = 10


@dataclass
class Rows:
    """Answers as they come."""

    labels: tuple[str, ...]
    _rows: list[tuple[int, NDArray[np.bool_], NDArray[np.float64], str]] = field(default_factory=list)

    def add(self, recording: int, target: NDArray[np.bool_], scores: Any, answer: str) -> None:
        """One clip or one recording: `target` and `scores` are (labels,)."""
        self._rows.append((recording, target, np.asarray(scores, np.float64), answer))

    def answers(self) -> Answers:
        """All of them."""
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
    """A mistake with its sound: `context` (n,) is the clip with up to a clip's length before and after it."""

    mistake: Mistake
    clip_s: float
    context: Float32
    context_start_s: float
    sample_rate_hz: int


@dataclass(frozen=True)
class Heard:
    """What a model said of recordings.

    `clips` are the windows that the runtime cuts, all of them; `clips.part(~silent)` those that have a vote. `lengths` is by
    seconds, `snrs` by (noise, dB) with clips and recordings; (none, inf) is the same excerpts without noise.
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


def hear(
    subject: Subject, recordings: Sequence[Recording], what: str, *, conditions: bool = True, seed: int = 0
) -> Heard:
    """Classify recordings; with `conditions` also in crops of LENGTHS_S and with NOISES at SNRS_DB (the same for a seed).

    Recordings that cannot be read are left out and listed with the reason, those whose label the model does not know are
    counted. Raises DataError(`bad-data`) where none is left.
    """
    labels, decision = subject.labels, subject.decision
    listener, rate = subject.listener, subject.listener.spec.sample_rate_hz
    clips, files = Rows(labels), Rows(labels)
    lengths = {length: Rows(labels) for length in LENGTHS_S} if conditions else {}
    levels = [("none", np.inf), *((noise, snr) for noise in NOISES for snr in SNRS_DB)] if conditions else []
    snrs = {level: (Rows(labels), Rows(labels)) for level in levels}
    names: list[str] = []
    silent: list[NDArray[np.bool_]] = []
    unreadable: dict[str, str] = {}
    unknown: dict[str, int] = {}
    mistakes: list[MistakeExcerpt] = []
    seconds = 0.0
    for recording in tqdm(recordings, desc=what, unit="file", file=sys.stderr, disable=None):
        target = subject.target(recording.label)
        if target is None:
            label = recording.label or OTHER
            unknown[label] = unknown.get(label, 0) + 1
            continue
        try:
            samples = np.asarray(recording.read(rate), np.float32)
            whole = listener.classify(samples, rate)
        except AudioError as error:
            unreadable[recording.name] = str(error)
            tqdm.write(f"left out: {error}", file=sys.stderr)
            continue
        index, found = len(names), listener.last
        names.append(recording.name)
        seconds += whole.duration_s
        silent.append(found.silent)
        files.add(index, target, list(whole.scores.values()), whole.label)
        for row, quiet in zip(found.scores, found.silent, strict=True):
            clips.add(index, target, row, SILENCE if quiet else window_label(row, labels, decision))
        mistakes += _worst(subject, recording.name, samples, target)
        mistakes = sorted(mistakes, key=lambda excerpt: -excerpt.mistake.log_loss)[:MISTAKES]
        for length, rows in lengths.items():
            for crop in _crops(samples, round(length * rate)):
                piece = listener.classify(crop, rate)
                rows.add(index, target, list(piece.scores.values()), piece.label)
        if snrs:
            _under_noise(subject, samples, target, index, snrs, [seed, int(recording.sha256[:8], 16)])
    if not names:
        why = next(iter(unreadable.values()), "their labels are not the model's.")
        raise DataError("bad-data", f"None of the {len(recordings)} recordings can be scored: {why}")
    return Heard(
        tuple(names),
        seconds,
        clips.answers(),
        np.concatenate(silent),
        files.answers(),
        unreadable,
        unknown,
        {length: rows.answers() for length, rows in lengths.items()},
        {level: (one.answers(), all_.answers()) for level, (one, all_) in snrs.items()},
        tuple(mistakes),
    )


def _crops(samples: Float32, length: int) -> Iterator[Float32]:
    """Pieces at whole multiples of their length, at most CROPS_PER_RECORDING."""
    starts = np.arange(0, len(samples) - length + 1, length)
    chosen = np.linspace(0, len(starts) - 1, min(len(starts), CROPS_PER_RECORDING)).round().astype(int)
    for start in starts[chosen]:
        yield samples[start : start + length]


def _under_noise(
    subject: Subject,
    samples: Float32,
    target: NDArray[np.bool_],
    index: int,
    snrs: dict[tuple[str, float], tuple[Rows, Rows]],
    seed: list[int],
) -> None:
    listener, rate = subject.listener, subject.listener.spec.sample_rate_hz
    length = min(len(samples), round(EXCERPT_S * rate))
    excerpt = samples[(len(samples) - length) // 2 :][:length]
    sounding: NDArray[np.bool_] = np.empty(0, bool)
    for (colour, snr_db), (clips, files) in snrs.items():
        # The same noise at every level: what differs is the level.
        noisy = excerpt if colour == "none" else with_noise(excerpt, colour, snr_db, np.random.default_rng(seed))
        whole: Classification = listener.classify(noisy, rate)
        if colour == "none":
            sounding = ~listener.last.silent
            if not sounding.any():
                return  # noise under silence is noise
        files.add(index, target, list(whole.scores.values()), whole.label)
        for row in listener.last.scores[sounding]:
            clips.add(index, target, row, window_label(row, subject.labels, subject.decision))


def _worst(subject: Subject, name: str, samples: Float32, target: NDArray[np.bool_]) -> list[MistakeExcerpt]:
    """The clip just heard that was got most wrong; none where all answers were right. At most one of a recording."""
    found, spec, labels = subject.listener.last, subject.listener.spec, subject.labels
    truth = name_of(target, labels)
    names = [window_label(row, labels, subject.decision) for row in found.scores]
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
