"""From the scores of windows to segments that cover a recording without gaps.

A window's label follows the model's decision rule; a silent window is `silence`. Labels are then smoothed by one
parameter, the minimum duration of a segment: of all ways to cut the recording into segments at least that long, the one
with the largest sum of log-probabilities of its windows is taken, found exactly by dynamic programming (the Viterbi
algorithm for a hidden semi-Markov model with a hard minimum duration and no other preference; Levinson 1986, Ferguson 1980).
With a minimum of 0 every window keeps its own label.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ms_edge.metadata import Decision
from ms_edge.results import Segment

Float32 = NDArray[np.float32]

SILENCE, UNCERTAIN, OTHER = "silence", "uncertain", "other"
CLOSEST_TO_CERTAIN = 1e-6  # probabilities are kept this far from 0 and 1 before their logarithm is taken
LOG_SILENT_SOUND = -1e4  # a window with sound in it is never silence; a silent one may be a pause in anything:
LOG_PAUSE = -1.0
CHUNK = 4096  # windows whose numbers are Python's at a time


def window_label(row: Float32, labels: tuple[str, ...], decision: Decision) -> str:
    """The label of one window's scores (labels,): the largest, or every one that reaches its threshold, or `other`."""
    if decision.kind == "exclusive":
        return labels[int(row.argmax())]
    over = [name for name, score, threshold in zip(labels, row, decision.thresholds, strict=True) if score >= threshold]
    return "+".join(over) or OTHER


def probability_of(label: str, scores: dict[str, float]) -> float:
    """Probability of a label: its score; of several joined by `+`, the smallest; of `other`, 1 - the largest; of silence, 1."""
    if label in scores:
        return scores[label]
    if label == SILENCE:
        return 1.0
    if label == OTHER:
        return 1 - max(scores.values())
    return min(scores[name] for name in label.split("+"))


def segments(
    scores: Float32,
    silent: NDArray[np.bool_],
    borders_s: NDArray[np.float64],
    labels: tuple[str, ...],
    decision: Decision,
    min_duration_s: float,
) -> tuple[Segment, ...]:
    """Segments of a recording from its windows' scores (windows, labels) and whether they are silent.

    Window i answers for `borders_s[i]` to `borders_s[i + 1]`, (windows + 1,). A segment's scores are the means over its
    windows that are not silent, weighted by the time they answer for (over all, where all are silent).
    """
    names = [
        SILENCE if quiet else window_label(row, labels, decision) for row, quiet in zip(scores, silent, strict=True)
    ]
    if _shortest_run_s(names, borders_s) < min_duration_s:
        names = _smoothed(names, scores, silent, borders_s, labels, decision, min_duration_s)
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    found = []
    weights = np.diff(borders_s) * ~silent
    for start, end in pairwise([*starts, len(names)]):
        part = weights[start:end] if weights[start:end].any() else None
        mean = np.average(scores[start:end].astype(np.float64), axis=0, weights=part)
        mean_scores = dict(zip(labels, mean.tolist(), strict=True))
        found.append(
            Segment(
                start_s=float(borders_s[start]),
                end_s=float(borders_s[end]),
                label=names[start],
                probability=probability_of(names[start], mean_scores),
                scores=mean_scores,
            )
        )
    return tuple(found)


def doubted(parts: Iterable[Segment], min_confidence: float) -> tuple[Segment, ...]:
    """The segments with those less probable than that called `uncertain`; neighbours that both are become one, whose
    probability and scores are their means over time.
    """
    found: list[Segment] = []
    for part in parts:
        if part.probability >= min_confidence:
            found.append(part)
        elif not found or found[-1].label != UNCERTAIN:
            found.append(replace(part, label=UNCERTAIN))
        else:
            before = found.pop()
            share = (part.end_s - part.start_s) / (part.end_s - before.start_s)
            found.append(
                Segment(
                    start_s=before.start_s,
                    end_s=part.end_s,
                    label=UNCERTAIN,
                    probability=before.probability + share * (part.probability - before.probability),
                    scores={name: score + share * (part.scores[name] - score) for name, score in before.scores.items()},
                )
            )
    return tuple(found)


def _shortest_run_s(names: list[str], borders_s: NDArray[np.float64]) -> float:
    changes = [0, *(i for i in range(1, len(names)) if names[i] != names[i - 1]), len(names)]
    return float(np.diff(borders_s[changes]).min())


def _smoothed(
    names: list[str],
    scores: Float32,
    silent: NDArray[np.bool_],
    borders_s: NDArray[np.float64],
    labels: tuple[str, ...],
    decision: Decision,
    min_duration_s: float,
) -> list[str]:
    states = sorted(set(names), key=names.index)
    evidence = _log_probabilities(states, scores, silent, labels, decision)
    return [states[state] for state in best_path(evidence, borders_s, min_duration_s)]


def _log_probabilities(
    states: list[str], scores: Float32, silent: NDArray[np.bool_], labels: tuple[str, ...], decision: Decision
) -> Float32:
    """How well each label that occurs fits each window, (windows, states): the largest is the window's own label."""
    p = np.clip(scores, np.float32(CLOSEST_TO_CERTAIN), np.float32(1 - CLOSEST_TO_CERTAIN))
    yes, no = np.log(p), np.log1p(-p)
    if decision.kind == "independent":
        # Shifted so that a score on its threshold is as likely as not.
        at = np.array(decision.thresholds)
        logit = yes - no - (np.log(at) - np.log1p(-at)).astype(np.float32)
        yes, no = -np.logaddexp(np.float32(0), -logit), -np.logaddexp(np.float32(0), logit)
    result = np.empty((len(scores), len(states)), np.float32)
    for column, state in enumerate(states):
        if state == SILENCE:
            result[:, column] = np.where(silent, 0.0, LOG_SILENT_SOUND)
            continue
        members = {state} if state in labels else set(state.split("+")) - {OTHER}
        chosen = np.array([label in members for label in labels])
        fit = yes[:, chosen].sum(axis=1) if decision.kind == "exclusive" else np.where(chosen, yes, no).sum(axis=1)
        result[:, column] = np.where(silent, LOG_PAUSE, fit)
    return result


def best_path(
    evidence: NDArray[np.floating[Any]], borders: NDArray[np.float64], min_duration: float
) -> NDArray[np.intp]:
    """The state of each window, (windows,), with the largest sum of evidence (windows, states) in runs of at least so long.

    `borders` (windows + 1,) are where windows begin and end. Where even the whole is shorter, it is one run. Time is
    O(windows x states); the ten hours of a long day fit in a few megabytes.
    """
    windows, states = evidence.shape
    none = float("-inf")
    sums = [0.0] * states  # of the evidence up to here
    # Borders too near for a run to begin there: where, index, sum of the best way up to there, sums up to there.
    near = deque([(float(borders[0]), 0, 0.0, sums)])
    lead = [
        none
    ] * states  # the most that a run of this state may have ahead of its evidence, and the border it begins at
    lead_from = [0] * states
    runs = np.zeros((windows + 1, 2), np.int32)  # (border, state) of the last run of the best way up to each border
    best = none
    for chunk in range(0, windows, CHUNK):
        rows = zip(
            evidence[chunk : chunk + CHUNK].tolist(), borders[chunk + 1 : chunk + CHUNK + 1].tolist(), strict=True
        )
        for end, (row, here) in enumerate(rows, chunk + 1):
            sums = [before + more for before, more in zip(sums, row, strict=True)]
            while near and here - near[0][0] >= min_duration - 1e-9:
                _, start, value, then = near.popleft()
                for state in range(states):
                    if value - then[state] > lead[state]:
                        lead[state], lead_from[state] = value - then[state], start
            totals = [ahead + more for ahead, more in zip(lead, sums, strict=True)]
            best = max(totals)
            state = totals.index(best)
            runs[end] = lead_from[state], state
            near.append((here, end, best, sums))
    path = np.empty(windows, np.intp)
    if best == none:
        path[:] = sums.index(max(sums))
        return path
    end = windows
    while end:
        start, state = runs[end]
        path[start:end] = state
        end = start
    return path
