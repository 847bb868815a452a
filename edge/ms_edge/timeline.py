"""From the scores of windows to segments that cover a recording without gaps.

A window's label follows the model's decision rule; a silent window is `silence`. Of all ways to cut
a recording into segments of at least the minimum duration, the one is taken that is most probable:
the sum of the windows' log-probabilities, less a cost for each change of label, is largest. It is
found exactly, by dynamic programming (the Viterbi algorithm for a hidden semi-Markov model whose
durations have a hard minimum and are geometric beyond it; Levinson 1986, Ferguson 1980).

Neighbouring windows overlap and come from one recording, so they are no independent evidence: their
log-probabilities are multiplied by the seconds that each window answers for. A second counts once,
however short the hop. With a minimum of 0 every window keeps its own label.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.model.metadata import Decision
from ms_edge.results import Segment

SILENCE, UNCERTAIN, OTHER = "silence", "uncertain", "other"
CLOSEST_TO_CERTAIN = 1e-6  # probabilities are kept this far from 0 and 1 before their logarithm is taken
LOG_SILENT_SOUND = -1e4  # a window with sound in it is never silence; a silent one may be a pause in anything:
LOG_PAUSE = -1.0  # for a second
CHUNK = 4096  # windows whose numbers are Python's at a time


@dataclass(frozen=True)
class Prior:
    """What is known of segments before a recording is heard; `python -m benchmarks.quality.segment_prior` fits it.

    `change` is what a change of label costs, in log-probabilities of windows times seconds, and `to_silence` the same to and
    from silence: from 2 s of silent windows on, a pause is a segment of its own. `beyond_s` says by how many seconds a label
    is heard before it begins and after it ends (0 where it is not named): a window that holds a little speech is speech.
    """

    change: float = 6.0
    to_silence: float = 1.0
    beyond_s: Mapping[str, float] = field(default_factory=lambda: {"speech": 0.2, "music": 0.1})


PRIOR = Prior()


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
    prior: Prior = PRIOR,
) -> tuple[Segment, ...]:
    """Segments of a recording from its windows' scores (windows, labels) and whether they are silent.

    Window i answers for `borders_s[i]` to `borders_s[i + 1]`, (windows + 1,). No segment is shorter than `min_duration_s`
    (unless the recording is); with 0 every window keeps its own label. A segment's scores are the means over its
    windows that are not silent, weighted by the time they answer for (over all, where all are silent).
    """
    starts, names = _own_runs(scores, silent, labels, decision)
    smooth = min_duration_s > 0 and len(starts) > 1
    if smooth:
        starts, names = _smoothed(names, scores, silent, borders_s, labels, decision, min_duration_s, prior)
    edges_s = borders_s[[*starts, len(scores)]].tolist()
    if smooth:
        edges_s = _moved(edges_s, names, min_duration_s, prior)
    weights = np.diff(borders_s) * ~silent
    # Of silent windows alone, the plain mean.
    weights[np.repeat(np.add.reduceat(weights, starts) == 0, np.diff([*starts, len(scores)]))] = 1
    sums = np.add.reduceat(scores * weights[:, np.newaxis], starts)
    means = (sums / np.add.reduceat(weights, starts)[:, np.newaxis]).tolist()
    found = []
    for name, (start_s, end_s), mean in zip(names, pairwise(edges_s), means, strict=True):
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
    names: list[str],
    scores: Float32,
    silent: NDArray[np.bool_],
    borders_s: NDArray[np.float64],
    labels: tuple[str, ...],
    decision: Decision,
    min_duration_s: float,
    prior: Prior,
) -> tuple[NDArray[np.intp], list[str]]:
    """Runs of the best path, as `_own_runs` gives those of its own."""
    states = list(dict.fromkeys(names))
    evidence = _log_probabilities(states, scores, silent, borders_s, labels, decision)
    costs = [prior.to_silence if state == SILENCE else prior.change for state in states]
    path = best_path(evidence, borders_s, min_duration_s, costs)
    starts = _changes(path[:, np.newaxis])
    return starts, [states[state] for state in path[starts]]


def _moved(edges_s: list[float], names: list[str], min_duration_s: float, prior: Prior) -> list[float]:
    """The edges of segments, (segments + 1,), moved by how far their labels are heard beyond them.

    No segment becomes too short by that, and the edges of silence stay.
    """
    slack = [max(0.0, end - start - min_duration_s) / 2 for start, end in pairwise(edges_s)]
    moved = edges_s.copy()
    for place, (before, after) in enumerate(pairwise(names), 1):
        if SILENCE in (before, after):
            continue
        ends, begins = (
            [prior.beyond_s.get(label, 0.0) for label in some.split("+") if label not in other.split("+")]
            for some, other in ((before, after), (after, before))
        )
        shift = sum(begins) / max(1, len(begins)) - sum(ends) / max(1, len(ends))
        moved[place] = round(edges_s[place] + min(max(shift, -slack[place - 1]), slack[place]), 3)
    return moved


def _log_probabilities(
    states: list[str],
    scores: Float32,
    silent: NDArray[np.bool_],
    borders_s: NDArray[np.float64],
    labels: tuple[str, ...],
    decision: Decision,
) -> Float32:
    """How well each label that occurs fits each window, (windows, states): the largest is the window's own label.

    These are log-probabilities times the seconds that a window answers for.
    """
    p = np.clip(scores, np.float32(CLOSEST_TO_CERTAIN), np.float32(1 - CLOSEST_TO_CERTAIN))
    yes, no = np.log(p), np.log1p(-p)
    if decision.kind == "independent":
        # Shifted so that a score on its threshold is as likely as not.
        at = np.array(decision.thresholds)
        logit = yes - no - (np.log(at) - np.log1p(-at)).astype(np.float32)
        yes, no = -np.logaddexp(np.float32(0), -logit), -np.logaddexp(np.float32(0), logit)
    seconds = np.diff(borders_s).astype(np.float32)
    result = np.empty((len(scores), len(states)), np.float32)
    for column, state in enumerate(states):
        if state == SILENCE:
            result[:, column] = np.where(silent, 0.0, LOG_SILENT_SOUND)
            continue
        members = {state} if state in labels else set(state.split("+")) - {OTHER}
        chosen = np.array([label in members for label in labels])
        fit = yes[:, chosen].sum(axis=1) if decision.kind == "exclusive" else np.where(chosen, yes, no).sum(axis=1)
        result[:, column] = np.where(silent, LOG_PAUSE, fit) * seconds
    return result


def best_path(
    evidence: NDArray[np.floating[Any]], borders: NDArray[np.float64], min_duration: float, costs: Sequence[float]
) -> NDArray[np.intp]:
    """The state of each window, (windows,), so that the sum of evidence (windows, states) less the costs of changes is the
    largest, in runs of at least so long.

    A change from one state to another costs the smaller of their two `costs` (states,). `borders` (windows + 1,) are where
    windows begin and end. Where even the whole is shorter than the minimum, it is one run. Time is O(windows x states).
    """
    windows, states = evidence.shape
    none = float("-inf")
    every = range(states)
    sums = [0.0] * states  # of the evidence up to here
    # Borders too near for a run to begin there: where, index, best sum of all ways after which a run of each state may begin
    # there, sums up to there.
    near = deque([(float(borders[0]), 0, sums, sums)])
    lead = [none] * states  # the most that a run of this state may have ahead of its evidence,
    lead_from = [0] * states  # and the border it begins at
    # Of the best way up to each border whose last run is of a state: where that run begins; and after which state a run
    # begins there, if the change costs what the one before asks, or the one after.
    begins = np.empty((windows + 1, states), np.int32)
    before = np.zeros((windows + 1, 3))
    for chunk in range(0, windows, CHUNK):
        rows = zip(
            evidence[chunk : chunk + CHUNK].tolist(), borders[chunk + 1 : chunk + CHUNK + 1].tolist(), strict=True
        )
        chunk_begins, chunk_before = [], []
        for end, (row, here) in enumerate(rows, chunk + 1):
            sums = [value + more for value, more in zip(sums, row, strict=True)]
            while near and here - near[0][0] >= min_duration - 1e-9:
                _, start, ways, then = near.popleft()
                for state in every:
                    if ways[state] - then[state] > lead[state]:
                        lead[state], lead_from[state] = ways[state] - then[state], start
            totals = [ahead + more for ahead, more in zip(lead, sums, strict=True)]
            best = max(totals)
            left = [total - cost for total, cost in zip(totals, costs, strict=True)]
            best_left = max(left)
            near.append((here, end, [max(best_left, best - cost) for cost in costs], sums))
            chunk_begins.append(lead_from.copy())
            chunk_before.append((totals.index(best), left.index(best_left), best - best_left))
        begins[chunk + 1 : chunk + 1 + len(chunk_begins)] = chunk_begins
        before[chunk + 1 : chunk + 1 + len(chunk_before)] = chunk_before
    path = np.empty(windows, np.intp)
    if best == none:
        path[:] = sums.index(max(sums))
        return path
    end, state = windows, totals.index(best)
    while end:
        start = begins[end, state]
        path[start:end] = state
        likeliest, cheapest, difference = before[start]
        end, state = start, int(likeliest if difference > costs[state] else cheapest)
    return path
