"""Audio in, `Classification` out: decode, window, front end, model, vote."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ms_edge.audio import AudioFile
from ms_edge.errors import AudioError
from ms_edge.frontend import FrontEnd
from ms_edge.metadata import Decision
from ms_edge.model import Model
from ms_edge.results import Classification
from ms_edge.windows import is_silent, owned_samples, windows

Float32 = NDArray[np.float32]

BATCH_WINDOWS = 32
MIN_DURATION_S = 0.25


@dataclass(frozen=True)
class WindowScores:
    """What the model said of each window of a stream: start in samples, scores (windows, labels), and whether silent."""

    starts: NDArray[np.int64]
    scores: Float32
    silent: NDArray[np.bool_]


class Classifier:
    """Classifies recordings with one model. Threads may share it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._front_end = FrontEnd(model.metadata.spec)

    def classify(self, path: str | os.PathLike[str]) -> Classification:
        """Classify one audio file. Raises AudioError where it cannot be decoded or is too short."""
        spec = self.model.metadata.spec
        with AudioFile(path, spec.sample_rate_hz) as file:
            found = self.window_scores(file.blocks())
            duration_s = file.frames / file.sample_rate_hz
            if duration_s < MIN_DURATION_S:
                raise AudioError(
                    "too-short", f"{file.path}: {duration_s:.3f} s of audio; at least {MIN_DURATION_S} s are needed."
                )
            owned_s = (
                owned_samples(found.starts, spec.clip_samples, file.frames * spec.sample_rate_hz // file.sample_rate_hz)
                / spec.sample_rate_hz
            )
            label, probability, scores, seconds = vote(
                found, owned_s, self.model.metadata.labels, self.model.metadata.decision
            )
            return Classification(
                path=file.path,
                label=label,
                probability=round(probability, 6),
                scores={name: round(score, 6) for name, score in scores.items()},
                seconds={name: round(value, 3) for name, value in seconds.items()},
                duration_s=round(duration_s, 3),
                sample_rate_hz=file.sample_rate_hz,
                channels=file.channels,
                warnings=tuple(file.warnings),
                model=self.model.sha256,
                provider=self.model.provider,
            )

    def window_scores(self, blocks: Iterable[Float32]) -> WindowScores:
        """Score every window of a stream of mono blocks at the model's sample rate, in bounded memory."""
        starts, silent, scores = [], [], [np.empty((0, len(self.model.metadata.labels)), np.float32)]
        stream = windows(blocks, self.model.metadata.spec)
        for batch in _batches(stream, BATCH_WINDOWS):
            starts += [start for start, _ in batch]
            silent += [is_silent(samples) for _, samples in batch]
            scores.append(self.model.scores(np.stack([self._front_end.features(samples) for _, samples in batch])))
        return WindowScores(np.array(starts, np.int64), np.concatenate(scores), np.array(silent, bool))


def vote(
    found: WindowScores, owned_s: NDArray[np.float64], labels: tuple[str, ...], decision: Decision
) -> tuple[str, float, dict[str, float], dict[str, float]]:
    """Label, probability, mean scores by label and seconds by label of a stream from its windows' scores.

    `owned_s` (windows,) is how many seconds each window answers for. Silent windows do not vote; where all are silent
    the label is `silence`. `exclusive`: the label with the largest mean score. `independent`: the label with most
    seconds, ties to the larger probability.
    """
    names = np.array([_label(row, labels, decision) for row in found.scores], dtype=object)
    names[found.silent] = "silence"
    seconds: dict[str, float] = {}
    for name, value in zip(names, owned_s, strict=True):
        seconds[name] = seconds.get(name, 0.0) + float(value)
    voting = ~found.silent
    mean = found.scores[voting if voting.any() else slice(None)].mean(axis=0, dtype=np.float64)
    scores = dict(zip(labels, map(float, mean), strict=True))
    if not voting.any():
        return "silence", 1.0, scores, seconds
    if decision.kind == "exclusive":
        label = labels[int(mean.argmax())]
    else:
        label = max(
            (name for name in seconds if name != "silence"),
            key=lambda name: (seconds[name], probability_of(name, scores)),
        )
    return label, probability_of(label, scores), scores, seconds


def probability_of(label: str, scores: dict[str, float]) -> float:
    """Probability of a label: its score; of several joined by `+`, the smallest; of `other`, 1 - the largest."""
    if label in scores:
        return scores[label]
    if label == "other":
        return 1 - max(scores.values())
    return min(scores[name] for name in label.split("+"))


def _label(row: Float32, labels: tuple[str, ...], decision: Decision) -> str:
    if decision.kind == "exclusive":
        return labels[int(row.argmax())]
    over = [name for name, score, threshold in zip(labels, row, decision.thresholds, strict=True) if score >= threshold]
    return "+".join(over) or "other"


def _batches(stream: Iterator[tuple[int, Float32]], size: int) -> Iterator[list[tuple[int, Float32]]]:
    while batch := list(islice(stream, size)):
        yield batch
