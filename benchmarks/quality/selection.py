"""Compute the number by which models are chosen, and whether two models differ in it.

Each clip gives a credit. For speech or music it is the mean of both rules of
`benchmarks.quality.accuracy`: whether the larger score is right, and whether the label as shipped
is right. For both or neither it is whether the label is right. Each source and each kind of
condition (rooms, added noise ...) has one line for each label: the mean of its clips' credits.
Sources with fewer than 50 clips share a line for each label. The number is the mean of two values:
the mean over lines, and the mean over the worst quarter of lines, which depends on the model.

Intervals are by bootstrap over recordings within each source. A recording that is drawn twice
counts twice in its own line and in the conditions. Two systems are compared on the same draws.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.accuracy import LABELS, RULES, Answers
from benchmarks.quality.kinds import kind_of_condition, kind_of_source
from benchmarks.quality.validation_set import CLEAN, Clip
from ms_edge.model.metadata import Decision
from ms_edge.timeline import OTHER, SILENCE, window_labels

LEAST_CLIPS = 50
WORST_SHARE = 0.25
ROUNDS = 1000

Float64 = NDArray[np.float64]


def line_of(clips: Sequence[Clip]) -> list[str]:
    """Return the line of each clip: a source, all small sources, or a kind of condition; with its
    true label.
    """
    names = [
        f"{clip.source if clip.condition == CLEAN else kind_of_condition(clip.condition)}, {clip.truth}"
        for clip in clips
    ]
    count = Counter(names)
    return [
        f"small sources, {clip.truth}" if clip.condition == CLEAN and count[name] < LEAST_CLIPS else name
        for name, clip in zip(names, clips, strict=True)
    ]


def answers_of(scores: NDArray[np.floating], thresholds: Sequence[float] = (0.5, 0.5)) -> Answers:
    """Return answers from mean probabilities of speech and music, (clips, 2): labels reach their
    thresholds.
    """
    rows = np.asarray(scores, np.float32)
    names = window_labels(rows, LABELS, Decision("independent", tuple(thresholds)))
    return [
        {**dict(zip(LABELS, row, strict=True)), "label": name} for row, name in zip(rows.tolist(), names, strict=True)
    ]


def targets(clips: Sequence[Clip]) -> NDArray[np.bool_]:
    """Return whether each label is true for each clip, (clips, labels)."""
    return np.array([[label in clip.truth.split("+") for label in LABELS] for clip in clips])


def right(clips: Sequence[Clip], answers: Answers, rule: str) -> Float64:
    """Return whether each answer is right by a rule of `benchmarks.quality.accuracy`, (clips,); NaN
    if the rule does not apply.
    """
    found = []
    for clip, answer in zip(clips, answers, strict=True):
        said = {**answer, "label": OTHER if answer["label"] == SILENCE else answer["label"]}
        asked = rule == "as_shipped" or clip.truth in LABELS
        found.append(float(RULES[rule](clip, said) == clip.truth) if asked else np.nan)
    return np.array(found)


def credits(clips: Sequence[Clip], answers: Answers) -> Float64:
    """Return the mean over the rules that apply, (clips,)."""
    mean: Float64 = np.nanmean([right(clips, answers, rule) for rule in RULES], axis=0)
    return mean


class Measure:
    """The lines of a set of clips, and the draws of its bootstrap."""

    def __init__(self, clips: Sequence[Clip], rounds: int = ROUNDS) -> None:
        self.clips = clips
        self.names, self._line = np.unique(line_of(clips), return_inverse=True)
        recordings, self._recording = np.unique([clip.recording for clip in clips], return_inverse=True)
        sources = dict(zip(self._recording.tolist(), (clip.source for clip in clips), strict=True))
        strata = np.array([sources[index] for index in range(len(recordings))])
        rng = np.random.default_rng(0)
        self._weights = np.zeros((rounds, len(recordings)), np.float32)  # how often each recording is drawn
        for source in np.unique(strata):
            members = np.flatnonzero(strata == source)
            for row in self._weights:
                row[members] = np.bincount(rng.integers(0, len(members), len(members)), minlength=len(members))

    def values(self, credit: Float64, drawn: bool = False) -> Float64:
        """Return the mean credit of each line, (lines,), or for each draw, (rounds, lines); NaN
        credits do not count.
        """
        asked = ~np.isnan(credit)
        place = (self._recording[asked], self._line[asked])
        total, count = np.zeros((2, self._weights.shape[1], len(self.names)))
        np.add.at(total, place, credit[asked])
        np.add.at(count, place, 1)
        weights = self._weights if drawn else np.ones((1, len(total)))
        with np.errstate(invalid="ignore"):
            found: Float64 = (weights @ total) / (weights @ count)
        return found if drawn else found[0]

    def selection(self, answers: Answers) -> float:
        """Return the number by which models are chosen, 0 to 1."""
        return float(_selection(self.values(credits(self.clips, answers))))

    def numbers(self, answers: Answers) -> dict[str, Any]:
        """Return the number with its interval and its two parts, and the clips, recordings and
        values by each rule of each line.

        The latter are also given for each kind of source, each small source and each condition.
        """
        credit = credits(self.clips, answers)
        lines, draws = self.values(credit), self.values(credit, drawn=True)
        rules = {rule: self.values(right(self.clips, answers, rule)) for rule in RULES}
        bounds = np.nanpercentile(draws, [2.5, 97.5], axis=0)
        return {
            "selection": {**_interval(_selection(lines), _selection(draws))},
            "mean": float(lines.mean()),
            "worst_quarter": float(_worst(lines)),
            "lines": {
                name: {
                    "clips": int(np.sum(self._line == index)),
                    "recordings": len(np.unique(self._recording[self._line == index])),
                    "credit": {"value": lines[index], "low": bounds[0, index], "high": bounds[1, index]},
                    **{rule: values[index] for rule, values in rules.items() if not np.isnan(values[index])},
                }
                for index, name in enumerate(self.names)
            },
            "details": {name: self._detail(answers, clips) for name, clips in sorted(self._details().items())},
        }

    def _details(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for index, (clip, line) in enumerate(zip(self.clips, line_of(self.clips), strict=True)):
            if clip.condition != CLEAN:
                found[f"{clip.condition}, {clip.truth}"].append(index)
                continue
            found[kind_of_source(clip.source, clip.truth)].append(index)
            if line.startswith("small sources"):
                found[f"{clip.source}, {clip.truth}"].append(index)
        return found

    def _detail(self, answers: Answers, members: Sequence[int]) -> dict[str, Any]:
        clips, some = [self.clips[index] for index in members], [answers[index] for index in members]
        rules = {rule: right(clips, some, rule) for rule in RULES if rule == "as_shipped" or clips[0].truth in LABELS}
        return {"clips": len(clips), **{rule: float(np.mean(hits)) for rule, hits in rules.items()}}

    def difference(self, one: Answers, other: Answers) -> dict[str, float]:
        """Return how much larger the number is for `one` than for `other`, with an interval, on the
        same draws.
        """
        mine, theirs = credits(self.clips, one), credits(self.clips, other)
        drawn = _selection(self.values(mine, drawn=True)) - _selection(self.values(theirs, drawn=True))
        return _interval(_selection(self.values(mine)) - _selection(self.values(theirs)), drawn)


def _selection(lines: Float64) -> Float64:
    """Return the number (...) of values (..., lines)."""
    mean: Float64 = (np.nanmean(lines, axis=-1) + _worst(lines)) / 2
    return mean


def _worst(lines: Float64) -> Float64:
    quarter = max(1, round(WORST_SHARE * lines.shape[-1]))
    worst: Float64 = np.sort(lines, axis=-1)[..., :quarter].mean(axis=-1)
    return worst


def _interval(value: Float64, drawn: Float64) -> dict[str, float]:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"value": float(value), "low": float(low), "high": float(high)}
