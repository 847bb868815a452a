"""From the scores of windows to segments that cover a recording without gaps.

A window's label follows the model's decision rule; a silent window is `silence`. Labels are then smoothed by one
parameter, the minimum duration of a segment: of all ways to cut the recording into segments at least that long, the one
with the largest sum of log-probabilities of its windows is taken, found exactly by dynamic programming (the Viterbi
algorithm for a hidden semi-Markov model with a hard minimum duration and no other preference; Levinson 1986, Ferguson 1980).
With a minimum of 0 every window keeps its own label.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ms_edge.metadata import Decision
from ms_edge.results import Segment

Float32 = NDArray[np.float32]

SILENCE, UNCERTAIN, OTHER = "silence", "uncertain", "other"
CLOSEST_TO_CERTAIN = 1e-6  # probabilities are kept this far from 0 and 1 before their logarithm is taken
LOG_SILENT_SOUND = -1e4  # a window with sound in it is never silence; a silent one may be a pause in anything:
LOG_PAUSE = -1.0


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
    return [states[state] for state in best_path(evidence, borders_s.tolist(), min_duration_s)]


def _log_probabilities(
    states: list[str], scores: Float32, silent: NDArray[np.bool_], labels: tuple[str, ...], decision: Decision
) -> NDArray[np.float64]:
    """How well each label that occurs fits each window, (windows, states): the largest is the window's own label."""
    p = np.clip(scores.astype(np.float64), CLOSEST_TO_CERTAIN, 1 - CLOSEST_TO_CERTAIN)
    yes, no = np.log(p), np.log1p(-p)
    if decision.kind == "independent":
        # Shifted so that a score on its threshold is as likely as not.
        at = np.array(decision.thresholds)
        logit = yes - no - (np.log(at) - np.log1p(-at))
        yes, no = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    result = np.empty((len(scores), len(states)))
    for column, state in enumerate(states):
        if state == SILENCE:
            result[:, column] = np.where(silent, 0.0, LOG_SILENT_SOUND)
            continue
        members = {state} if state in labels else set(state.split("+")) - {OTHER}
        chosen = np.array([label in members for label in labels])
        fit = yes[:, chosen].sum(axis=1) if decision.kind == "exclusive" else np.where(chosen, yes, no).sum(axis=1)
        result[:, column] = np.where(silent, LOG_PAUSE, fit)
    return result


def best_path(evidence: NDArray[np.float64], borders: list[float], min_duration: float) -> list[int]:
    """The state of each window, (windows,), with the largest sum of evidence (windows, states) in runs of at least so long.

    Where even the whole is shorter, it is one run. Time is O(windows x states).
    """
    windows, states = evidence.shape
    total = np.concatenate([np.zeros((1, states)), evidence.cumsum(axis=0)]).tolist()
    none = float("-inf")
    best = [0.0] + [none] * windows  # of all ways to cut the windows before this border
    came_from: list[tuple[int, int]] = [(0, 0)] * (windows + 1)  # (border, state) of the last run of that way
    lead = [none] * states  # the most that a run of this state may have ahead of its evidence, and where it begins
    lead_from = [0] * states
    start = 0
    for end in range(1, windows + 1):
        while borders[end] - borders[start] >= min_duration - 1e-9 and start < end:
            for state in range(states):
                if best[start] - total[start][state] > lead[state]:
                    lead[state], lead_from[state] = best[start] - total[start][state], start
            start += 1
        state = max(range(states), key=lambda k: lead[k] + total[end][k])
        best[end], came_from[end] = lead[state] + total[end][state], (lead_from[state], state)
    if best[windows] == none:
        return [max(range(states), key=lambda k: total[windows][k])] * windows
    path = [0] * windows
    end = windows
    while end:
        start, state = came_from[end]
        path[start:end] = [state] * (end - start)
        end = start
    return path
