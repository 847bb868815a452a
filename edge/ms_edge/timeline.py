"""Turn the scores of windows into segments that cover a recording without gaps, and into its label.

The label of a window follows the model's decision rule; a silent window has the label `silence`.
There are many ways to cut a recording into segments of at least the minimum duration. The most
probable one is chosen: the one with the largest sum of the windows' log-probabilities, minus a cost
for each change of label. It is found exactly, by dynamic programming. (This is the Viterbi algorithm
for a hidden semi-Markov model. Durations have a hard minimum and a geometric distribution beyond it;
Levinson 1986, Ferguson 1980.)

Neighbouring windows overlap and come from one recording, so they are not independent evidence. The
log-probabilities of a window are therefore multiplied by the seconds that it stands for. Each second
of audio counts once, however short the hop is. With a minimum of 0 every window keeps its own label.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.model.metadata import Decision
from ms_edge.results import Segment

SILENCE, UNCERTAIN, OTHER = "silence", "uncertain", "other"
CLOSEST_TO_CERTAIN = 1e-6  # probabilities are clipped this far from 0 and 1
LOG_SILENT_SOUND = -1e4  # log-probability per window that sound is `silence`: never
LOG_PAUSE = -1.0  # log-probability per second that silence is a pause inside a segment of sound
CHUNK = 4096  # windows that are converted to Python numbers at a time


@dataclass(frozen=True)
class Prior:
    """What is known about segments before any audio is scored.

    `change` is the cost of a change of label, in log-probability times seconds. `to_silence` is the
    cost of a change to or from silence: a pause becomes a segment of its own from 2 s of silent
    windows on. `beyond_s` maps a label to the seconds for which windows have it before its sound
    begins and after it ends (0 for other labels): a window with a little speech is labelled speech.
    `python -m benchmarks.quality.segment_prior` fits these values.
    """

    change: float = 6.0
    to_silence: float = 1.0
    beyond_s: Mapping[str, float] = field(default_factory=lambda: {"speech": 0.2, "music": 0.1})


PRIOR = Prior()


def window_labels(
    scores: NDArray[np.floating], labels: tuple[str, ...], decision: Decision, silent: NDArray[np.bool_] | None = None
) -> list[str]:
    """Return the label of each window, given the scores (windows, labels) and which windows are silent
    (windows,); by default none is.

    With exclusive labels it is the one with the largest score. With independent labels it is every
    label that reaches its threshold, joined by `+`, or `other` if none does.
    """
    if decision.kind == "exclusive":
        names = [labels[best] for best in scores.argmax(axis=1).tolist()]
    else:
        over = (scores >= _float32(decision.thresholds)).tolist()
        names = [_joined(labels, *each) for each in over]
    if silent is None:
        return names
    return [SILENCE if quiet else name for name, quiet in zip(names, silent.tolist(), strict=True)]


@lru_cache
def _float32(values: tuple[float, ...]) -> Float32:
    return np.array(values, np.float32)


@lru_cache
def _joined(labels: tuple[str, ...], *over: bool) -> str:
    """Return the label of a window whose scores reach these thresholds."""
    return "+".join(label for label, reached in zip(labels, over, strict=True) if reached) or OTHER


def probability_of(label: str, scores: dict[str, float]) -> float:
    """Return the probability of a label, given the scores of the model's labels.

    For labels joined by `+` it is the smallest of their scores; for `other` it is 1 minus the largest
    score; for `silence` it is 1.
    """
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
    """Return the segments of a recording.

    `scores` (windows, labels) are probabilities; `silent` (windows,) says which windows are silent.
    Window i stands for the time from `borders_s[i]` to `borders_s[i + 1]`, (windows + 1,).

    No segment is shorter than `min_duration_s`, unless the recording is. With 0 every window keeps
    its own label. The scores of a segment are the means over its windows that are not silent (over
    all windows if all are silent), weighted by the time that each window stands for.
    """
    starts, names = _own_runs(scores, silent, labels, decision)
    smooth = min_duration_s > 0 and len(starts) > 1
    if smooth:
        starts, names = _smoothed(names, scores, silent, borders_s, labels, decision, min_duration_s, prior)
    edges_s = borders_s[[*starts, len(scores)]].tolist()
    if smooth:
        edges_s = _moved(edges_s, names, min_duration_s, prior)
    weights = np.diff(borders_s) * ~silent
    # A segment of silent windows only has the unweighted mean.
    weights[np.repeat(np.add.reduceat(weights, starts) == 0, np.diff([*starts, len(scores)]))] = 1
    sums = np.add.reduceat(scores * weights[:, np.newaxis], starts)
    means = (sums / np.add.reduceat(weights, starts)[:, np.newaxis]).tolist()
    found = []
    for name, (start_s, end_s), mean in zip(names, pairwise(edges_s), means, strict=True):
        mean_scores = dict(zip(labels, mean, strict=True))
        found.append(Segment(start_s, end_s, name, probability_of(name, mean_scores), mean_scores))
    return tuple(found)


def doubted(parts: Iterable[Segment], min_confidence: float) -> tuple[Segment, ...]:
    """Relabel segments that are less probable than `min_confidence` as `uncertain`.

    Neighbours that become uncertain are merged. The probability and scores of a merged segment are
    means weighted by time.
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


def vote(parts: Iterable[Segment], scores: dict[str, float], decision: Decision) -> str:
    """Choose the label of a recording from its segments and its mean scores.

    Only labels of segments that are not silent can win. If labels are exclusive, the label with the
    largest mean score wins. If labels are independent, the label with the most seconds wins; of two
    with equal seconds, the more probable one. The answer is `silence` if every segment is silent, and
    `uncertain` if more seconds are uncertain than have any other label.
    """
    seconds = seconds_by_label(parts)
    seconds.pop(SILENCE, None)
    uncertain_s = seconds.pop(UNCERTAIN, 0.0)
    if uncertain_s > max(seconds.values(), default=0.0):
        return UNCERTAIN
    if not seconds:
        return SILENCE
    if decision.kind == "exclusive":
        return max(seconds, key=lambda label: scores[label])
    return max(seconds, key=lambda label: (seconds[label], probability_of(label, scores)))


def seconds_by_label(parts: Iterable[Segment]) -> dict[str, float]:
    """Return the total duration of the segments of each label, in seconds to the millisecond."""
    seconds: dict[str, float] = {}
    for part in parts:
        seconds[part.label] = seconds.get(part.label, 0.0) + part.end_s - part.start_s
    return {label: round(value, 3) for label, value in seconds.items()}


def _own_runs(
    scores: Float32, silent: NDArray[np.bool_], labels: tuple[str, ...], decision: Decision
) -> tuple[NDArray[np.intp], list[str]]:
    """Group neighbouring windows of the same label into runs.

    Return the first window of each run, (runs,), and the label of each run.
    """
    thresholds = np.array(decision.thresholds, np.float32)
    answers = scores.argmax(axis=1)[:, np.newaxis] if decision.kind == "exclusive" else scores >= thresholds
    starts = _changes(np.column_stack((silent, answers * ~silent[:, np.newaxis])))
    return starts, window_labels(scores[starts], labels, decision, silent[starts])


def _changes(rows: NDArray[Any]) -> NDArray[np.intp]:
    """Return the indices (changes,) of rows (n, values) that differ from the row before; the first is 0."""
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
    """Return the runs of the most probable path, in the form of `_own_runs`."""
    states = list(dict.fromkeys(names))
    evidence = log_probabilities(states, scores, silent, borders_s, labels, decision)
    costs = [prior.to_silence if state == SILENCE else prior.change for state in states]
    path = best_path(evidence, borders_s, min_duration_s, costs)
    starts = _changes(path[:, np.newaxis])
    return starts, [states[state] for state in path[starts]]


def _moved(edges_s: list[float], names: list[str], min_duration_s: float, prior: Prior) -> list[float]:
    """Correct the edges of segments, (segments + 1,), in seconds, by `edge_shift_s`.

    The correction leaves every segment at least `min_duration_s` long.
    """
    slack = [max(0.0, end - start - min_duration_s) / 2 for start, end in pairwise(edges_s)]
    moved = edges_s.copy()
    for place, (before, after) in enumerate(pairwise(names), 1):
        shift = edge_shift_s(before, after, prior)
        moved[place] = round(edges_s[place] + min(max(shift, -slack[place - 1]), slack[place]), 3)
    return moved


def edge_shift_s(before: str, after: str, prior: Prior = PRIOR) -> float:
    """Return how much later than its windows the edge between two segments is, given their labels.

    Windows have a label shortly before its sound begins and after it ends, by `prior.beyond_s`. The
    edges of silence stay in place.
    """
    if SILENCE in (before, after):
        return 0.0
    ends, begins = (
        [prior.beyond_s.get(label, 0.0) for label in some.split("+") if label not in other.split("+")]
        for some, other in ((before, after), (after, before))
    )
    return sum(begins) / max(1, len(begins)) - sum(ends) / max(1, len(ends))


def log_probabilities(
    states: Sequence[str],
    scores: Float32,
    silent: NDArray[np.bool_],
    borders_s: NDArray[np.float64],
    labels: tuple[str, ...],
    decision: Decision,
) -> Float32:
    """Return how well each label in `states` fits each window, (windows, states) float32.

    The values are log-probabilities times the seconds that a window stands for. The largest value of
    a window belongs to its own label.
    """
    # `np.clip` and `np.diff` are Python functions, which take as long as the rest does for few windows.
    p = np.minimum(np.maximum(scores, np.float32(CLOSEST_TO_CERTAIN)), np.float32(1 - CLOSEST_TO_CERTAIN))
    yes, no = np.log(p), np.log1p(-p)
    if decision.kind == "independent":
        # Shift the scores so that a score equal to its threshold has the probability 0.5.
        logit = yes - no - _logits(decision.thresholds)
        yes, no = -np.logaddexp(np.float32(0), -logit), -np.logaddexp(np.float32(0), logit)
    else:
        no = np.zeros_like(yes)
    seconds = (borders_s[1:] - borders_s[:-1]).astype(np.float32)
    members = _members(tuple(states), labels)[..., np.newaxis]
    fit = np.where(members, yes.T[:, np.newaxis], no.T[:, np.newaxis]).sum(axis=0)  # (states, windows)
    result: Float32 = np.where(silent, np.float32(LOG_PAUSE), fit) * seconds
    if SILENCE in states:
        result[states.index(SILENCE)] = np.where(silent, 0.0, LOG_SILENT_SOUND)
    return result.T


@lru_cache
def _logits(thresholds: tuple[float, ...]) -> Float32:
    """Return the log odds of the thresholds of labels, (labels,)."""
    at = np.array(thresholds)
    return np.asarray(np.log(at) - np.log1p(-at), np.float32)


@lru_cache
def _members(states: tuple[str, ...], labels: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return which states each label of the model is a part of, (labels, states)."""
    parts = [{state} if state in labels else set(state.split("+")) for state in states]
    return np.array([[label in each for each in parts] for label in labels])


def best_path(
    evidence: NDArray[np.floating[Any]], borders: NDArray[np.float64], min_duration: float, costs: Sequence[float]
) -> NDArray[np.intp]:
    """Return the state of each window, (windows,), on the most probable path.

    It has the largest sum of `evidence` (windows, states) minus the costs of its changes, among the
    paths whose runs of one state last at least `min_duration`. A change between two states costs the
    smaller of their `costs` (states,). `borders` (windows + 1,) are the times at which windows begin
    and end. If the recording is shorter than `min_duration`, it is one run. The time is
    O(windows x states).
    """
    windows, states = evidence.shape
    none = float("-inf")
    every = range(states)
    sums = [0.0] * states  # sum of the evidence for each state up to the current border
    # Borders that are too near for a run from there to end here. For each: its time, its index, the
    # best total of a path after which a run of each state can begin there, and `sums` at the border.
    near = deque([(float(borders[0]), 0, sums, sums)])
    # For each state, the largest total before a run of it, less the evidence for the state before the
    # run; and the border where that run begins.
    lead = [none] * states
    lead_from = [0] * states
    # `begins`: for the best path up to each border that ends with a run of each state, the border
    # where that run begins. `before`: the state that a run from each border follows, if the change
    # costs what the later state asks, or what the earlier state asks; and the difference of the two.
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
