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
    starts, names = _own_runs(scores, silent, labels, decision)
    if np.diff(borders_s[[*starts, len(scores)]]).min() < min_duration_s:
        starts, names = _smoothed(starts, names, scores, silent, borders_s, labels, decision, min_duration_s)
    weights = np.diff(borders_s) * ~silent
    # Of silent windows alone, the plain mean.
    weights[np.repeat(np.add.reduceat(weights, starts) == 0, np.diff([*starts, len(scores)]))] = 1
    sums = np.add.reduceat(scores * weights[:, np.newaxis], starts)
    means = (sums / np.add.reduceat(weights, starts)[:, np.newaxis]).tolist()
    found = []
    for name, (start_s, end_s), mean in zip(
        names, pairwise(borders_s[[*starts, len(scores)]].tolist()), means, strict=True
    ):
        mean_scores = dict(zip(labels, mean, strict=True))
        found.append(Segment(start_s, end_s, name, probability_of(name, mean_scores), mean_scores))
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


def _own_runs(
    scores: Float32, silent: NDArray[np.bool_], labels: tuple[str, ...], decision: Decision
) -> tuple[NDArray[np.intp], list[str]]:
    """Where runs of windows with one label of their own begin, (runs,), and that label."""
    thresholds = np.array(decision.thresholds, np.float32)
    answers = scores.argmax(axis=1)[:, np.newaxis] if decision.kind == "exclusive" else scores >= thresholds
    starts = _changes(np.column_stack((silent, answers * ~silent[:, np.newaxis])))
    names = [SILENCE if silent[at] else window_label(scores[at], labels, decision) for at in starts]
    return starts, names


def _changes(rows: NDArray[Any]) -> NDArray[np.intp]:
    """Where rows (n, values) begin that differ from those before them, (changes,); the first is one."""
    return np.flatnonzero(np.concatenate(([True], (rows[1:] != rows[:-1]).any(axis=1))))


def _smoothed(
    starts: NDArray[np.intp],
    names: list[str],
    scores: Float32,
    silent: NDArray[np.bool_],
    borders_s: NDArray[np.float64],
    labels: tuple[str, ...],
    decision: Decision,
    min_duration_s: float,
) -> tuple[NDArray[np.intp], list[str]]:
    """Runs of the best path, as `_own_runs` gives those of its own."""
    states = list(dict.fromkeys(names))
    evidence = _log_probabilities(states, scores, silent, labels, decision)
    own = np.repeat([states.index(name) for name in names], np.diff([*starts, len(scores)]))
    path = best_path_near(own, starts, evidence, borders_s, min_duration_s)
    starts = _changes(path[:, np.newaxis])
    return starts, [states[state] for state in path[starts]]


def best_path_near(
    own: NDArray[np.intp],
    starts: NDArray[np.intp],
    evidence: NDArray[np.floating[Any]],
    borders: NDArray[np.float64],
    min_duration: float,
) -> NDArray[np.intp]:
    """`best_path` where each window's most likely state, `own` (windows,), is known, and where its runs start: in little time
    where most of them are long.

    Within a long run a best path has the run's state, but for its first and last `min_duration`: any other way could change to
    that state there at a gain, no segment becoming too short. So long runs are cut two such lengths from their ends (and two
    windows, as segments end where windows do), and the best path is sought between the cuts.
    """
    ends = np.append(starts[1:], len(own))
    margin = 2 * (min_duration + np.diff(borders).max())
    enters = np.searchsorted(borders, borders[starts] + margin)
    leaves = np.searchsorted(borders, borders[ends] - margin, "right") - 1
    cuts = [cut for enter, leave in zip(enters, leaves, strict=True) if enter <= leave for cut in (enter, leave)]
    path = own.copy()
    around = [0, *cuts, len(own)]
    for start, end in zip(around[::2], around[1::2], strict=True):
        path[start:end] = best_path(evidence[start:end], borders[start : end + 1], min_duration)
    lengths = np.diff(borders[np.append(_changes(path[:, np.newaxis]), len(path))])
    if len(lengths) > 1 and lengths.min() < min_duration - 1e-9:  # where states are equally likely all along a long run
        return best_path(evidence, borders, min_duration)
    return path


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
