"""Decide the segments of a stream while it arrives: `ms_edge.timeline` with a bounded delay.

`timeline.segments` finds the most probable segments of a whole recording by dynamic programming.
`Online` runs the same recursion window by window. A window is decided when it is as old as the caller
lets it become: it gets the label that it has on the path that is most probable so far (fixed-lag
decoding). A segment that has not yet lasted the minimum duration competes with its evidence so far.

A decision is final, and the recursion does not know of it. If a change of label becomes probable only
after its time was decided, the new segment begins at the first time that is not decided. A segment
that began late still lasts the minimum duration.

Work per window and memory are proportional to the lag and to the minimum duration, not to the
length of the stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from math import inf
from operator import add, sub
from typing import NamedTuple

import numpy as np

from ms_edge.model.metadata import Decision
from ms_edge.timeline import PRIOR, SILENCE, UNCERTAIN, Prior, edge_shift_s, log_probabilities, probability_of

# An edge that is found at the last moment is moved back by at most so much. Room for the whole correction
# (`Prior.beyond_s`, 0.2 s for speech) would cost an instant of later audio that is worth as much.
LATEST_MS = 80
# A change that has just become probable must be better by this share of its cost: a segment that begins
# also ends. Fitted like the prior; without it twice as many short segments are false.
MARGIN = 0.25
MINUTE_MS = 60_000
REBASE = 4096  # windows after which sums are made small again, so that they keep their precision
SILENT_WEIGHT = 1e-9  # of a silent window in the mean of a segment


class Window(NamedTuple):
    """One window: the time that it stands for, its probabilities (labels,), and its label."""

    start_ms: int
    end_ms: int
    scores: Sequence[float]
    silent: bool
    label: str


Border = tuple[int, int]  # number and time in ms


class Change(NamedTuple):
    """What was decided. `kind` is that of an event, and `at_ms` the time at which it happens.

    `start_ms` is the start of the segment. `probability` and `scores` are those of the segment up to
    then; None for silence, and when a segment starts.
    """

    kind: str
    at_ms: int
    label: str
    start_ms: int
    probability: float | None = None
    scores: dict[str, float] | None = None


class Run:
    """The segment that is on, as far as it is decided.

    `label` is that of its path, `stated` the one that was reported last. Its first window begins at
    `first_ms`; `start_ms` is the corrected time.
    """

    def __init__(self, label: str, first_ms: int, start_ms: int, labels: int) -> None:
        self.label = self.stated = label
        self.first_ms, self.start_ms = first_ms, start_ms
        self.next_minute_ms = (start_ms // MINUTE_MS + 1) * MINUTE_MS
        self._sums, self._weight = [0.0] * labels, 0.0

    def add(self, window: Window) -> None:
        """Add a decided window."""
        weight = _weight(window)
        self._sums = [total + weight * score for total, score in zip(self._sums, window.scores, strict=True)]
        self._weight += weight

    def mean(self, more: Sequence[Window] = ()) -> list[float]:
        """Return the mean score of each label in the decided windows and in `more` windows."""
        sums, whole = self._sums, self._weight
        for window in more:
            weight = _weight(window)
            sums = [total + weight * score for total, score in zip(sums, window.scores, strict=True)]
            whole += weight
        return [total / whole for total in sums]


class Online:
    """Decides the segments of one channel of an unbroken stream.

    `labels` and `decision` are those of the model. Segments last at least `min_duration_ms`; with 0
    every window keeps its own label. A segment less probable than `min_confidence` is `uncertain`.
    The first window begins at `start_ms`. All times are whole milliseconds, so they stay exact in a
    stream of any length.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        decision: Decision,
        min_duration_ms: int,
        min_confidence: float,
        start_ms: int = 0,
        prior: Prior = PRIOR,
    ) -> None:
        self.decided_ms = start_ms
        self._labels, self._decision, self._prior = labels, decision, prior
        self._min_ms, self._min_confidence = min_duration_ms, min_confidence
        self._run: Run | None = None
        self._states: list[str] = []  # the labels that windows had so far
        self._windows: deque[Window] = deque()  # those that are not decided
        self._decided = 0  # number of decided windows, which is the number of the first undecided one
        self._paths = Paths(start_ms, min_duration_ms)
        self._likeliest: tuple[list[Stretch], float] | None = None  # the runs of `_best`
        self._found: list[Change] = []

    @property
    def settled(self) -> bool:
        """Whether nothing so far hints that the segment that is on will end, or one of another label begin."""
        if not self._min_ms:
            return True
        run = self._run
        if run is None or self._windows[-1].label != run.label:
            return False
        runs, _ = self._best(ended=False)
        return [self._states[each.state] for each in runs] == [run.label]

    def decide(self, lag_ms: int) -> list[Change]:
        """Return what is decided if windows that end `lag_ms` before the last one are."""
        # The last window stays undecided, because the end of the stream changes it.
        self._decide(self._windows[-1].end_ms - max(1, lag_ms))
        return self._taken()

    def close(self, windows: Sequence[Window], end_ms: int) -> list[Change]:
        """Add the last windows, and decide all, because the stream ends at `end_ms`.

        The last window of a stream is aligned with its end, so the one before it may end earlier than
        it was said to end.
        """
        rest = [self._windows.pop()] if self._windows else []
        if rest:
            self._paths.undo()
        rest += windows
        if rest:
            ends = [window.start_ms for window in rest[1:]] + [end_ms]
            self.add([window._replace(end_ms=end) for window, end in zip(rest, ends, strict=True)])
            self._decide(end_ms, ended=True)
        if self._run is not None:
            self._end(self._run, end_ms)
            self._run = None
        self.decided_ms = end_ms
        return self._taken()

    def _taken(self) -> list[Change]:
        found, self._found = self._found, []
        return found

    def add(self, windows: Sequence[Window]) -> None:
        """Add windows to the recursion."""
        new = dict.fromkeys(window.label for window in windows if window.label not in self._states)
        for label in new:
            self._states.append(label)
            self._paths.add_state(self._cost(label))
        if new and not self._decided:  # segments of these labels can still begin earlier
            self._paths = self._paths.anew()
            self._advance(self._windows)
        self._advance(windows)
        self._windows += windows

    def _advance(self, windows: Sequence[Window]) -> None:
        if not windows:
            return
        evidence = log_probabilities(
            self._states,
            np.array([window.scores for window in windows], np.float32),
            np.array([window.silent for window in windows]),
            np.array([windows[0].start_ms, *(window.end_ms for window in windows)]) / 1000,
            self._labels,
            self._decision,
        )
        ends_ms, rows = [window.end_ms for window in windows], evidence.tolist()
        self._paths.add(ends_ms[:-1], rows[:-1])
        self._paths.save()  # the end of the stream may change the last window
        self._paths.add(ends_ms[-1:], rows[-1:])
        self._likeliest = None

    def _best(self, ended: bool) -> tuple[list[Stretch], float]:
        """Return the runs of the most probable path through the undecided windows, and its total."""
        if ended or self._likeliest is None:
            self._likeliest = self._paths.best(self._decided, ended)
        return self._likeliest

    def _runs(self, ended: bool) -> list[Stretch]:
        """Return the runs of the most probable path through the undecided windows.

        If another segment begins on it and has not ended, the path must be better, by a share of the
        cost of the change, than the best one on which the segment before goes on.
        """
        if not self._min_ms:
            return [
                Stretch(number, window.start_ms, self._states.index(window.label))
                for number, window in enumerate(self._windows, self._decided)
            ]
        runs, total = self._best(ended)
        if self._run is None or ended or self._states[runs[-1].state] == self._run.label:
            return runs
        state = self._states.index(self._run.label)
        cost = MARGIN * min(self._cost(self._run.label), self._cost(self._states[runs[-1].state]))
        if total - self._paths.going_on(self._decided, state) < cost:  # too close to be sure
            return [Stretch(self._decided, self._windows[0].start_ms, state)]
        return runs

    def _cost(self, state: str) -> float:
        return self._prior.to_silence if state == SILENCE else self._prior.change

    def _decide(self, until_ms: int, ended: bool = False) -> None:
        """Decide the windows that end at or before `until_ms`."""
        if self._windows[0].end_ms > until_ms:
            return
        runs = self._runs(ended)
        bounds = [run.first for run in runs[1:]] + [self._decided + len(self._windows)]
        at, run = 0, self._run
        goes_on = run is not None and [self._states[each.state] for each in runs] == [run.label]
        while self._windows and self._windows[0].end_ms <= until_ms:
            window = self._windows[0]
            if not goes_on:
                while bounds[at] <= self._decided:
                    at += 1
                label = self._states[runs[at].state]
                if self._changes(window, label):
                    rest = list(islice(self._windows, bounds[at] - self._decided))  # of its run
                    open_ended = at == len(runs) - 1 and not ended
                    self._begin(label, runs[at].first_ms, rest, inf if open_ended else rest[-1].end_ms)
                    run = self._run
            assert run is not None
            run.add(window)
            self._windows.popleft()
            self._decided += 1
        assert run is not None
        self._paths.forget(self._decided)
        self._likeliest = None
        self.decided_ms = max(self.decided_ms, run.start_ms, window.end_ms - LATEST_MS)
        self._state_minutes(run, self.decided_ms + 1)
        if self._min_confidence:
            rest = list(islice(self._windows, bounds[at] - self._decided))
            if (stated := self._stated(run.label, run.mean(rest))) != run.stated:
                run.stated = stated
                self._report("label", self.decided_ms, run)

    def _changes(self, window: Window, label: str) -> bool:
        """Return whether a segment with this label begins with the window."""
        run = self._run
        return run is None or (label != run.label and window.start_ms - run.first_ms >= self._min_ms)

    def _begin(self, label: str, since_ms: int, windows: Sequence[Window], end_ms: float) -> None:
        """End the segment that is on, and begin the next one, which has `windows` so far.

        `since_ms` is the start of the run on the path, `end_ms` its end, infinity if it goes on.
        """
        at_ms = first_ms = windows[0].start_ms
        if (run := self._run) is not None:
            if self._min_ms:
                shift_ms = 1000 * edge_shift_s(run.label, label, self._prior)
                slacks = [max(0.0, span - self._min_ms) / 2 for span in (first_ms - run.first_ms, end_ms - first_ms)]
                at_ms = since_ms + round(min(max(shift_ms, -slacks[0]), slacks[1]))
                # The start may be decided already; and the edge before was corrected without knowing
                # the duration of the segment after it.
                at_ms = max(at_ms, self.decided_ms, run.start_ms + self._min_ms)
            self._end(run, at_ms)
        self._run = run = Run(label, first_ms, at_ms, len(self._labels))
        if self._min_confidence:
            run.stated = self._stated(label, run.mean(windows))
        self._found.append(Change("segment_start", at_ms, run.stated, at_ms))

    def _end(self, run: Run, at_ms: int) -> None:
        self._state_minutes(run, at_ms)
        run.stated = self._stated(run.label, run.mean())
        self._report("segment_end", at_ms, run)

    def _state_minutes(self, run: Run, until_ms: int) -> None:
        """Report the segment at each full minute after its start and before `until_ms`."""
        for minute_ms in range(run.next_minute_ms, until_ms, MINUTE_MS):
            self._report("label", minute_ms, run)
            run.next_minute_ms = minute_ms + MINUTE_MS

    def _stated(self, label: str, mean: Sequence[float]) -> str:
        """Return the label of a segment with these mean scores."""
        probability = probability_of(label, dict(zip(self._labels, mean, strict=True)))
        return label if probability >= self._min_confidence else UNCERTAIN

    def _report(self, kind: str, at_ms: int, run: Run) -> None:
        if run.label == SILENCE:
            self._found.append(Change(kind, at_ms, run.stated, run.start_ms))
            return
        mean = dict(zip(self._labels, run.mean(), strict=True))
        self._found.append(Change(kind, at_ms, run.stated, run.start_ms, probability_of(run.label, mean), mean))


class Stretch(NamedTuple):
    """A run of windows on a path: its first window and the start of that in ms, and its state."""

    first: int
    first_ms: int
    state: int


class Paths:
    """The recursion of `timeline.best_path`, one window at a time, in bounded memory.

    States are numbers from 0 on; there are none at first. Windows are numbered from 0 on, and the
    border before a window has its number. The first one is at `start_ms`.
    """

    def __init__(self, start_ms: int, min_ms: int) -> None:
        self._start_ms, self._min_ms = start_ms, min_ms
        self._count = 0  # windows so far
        self._costs: list[float] = []  # of a change to or from each state
        self._sums: list[float] = []  # of the evidence for each state
        # Borders that are too near for a run from there to end here: number and time, the best total of
        # a path after which a run of each state can begin there, and the sums at the border.
        self._near: deque[tuple[Border, list[float], list[float]]] = deque([((0, start_ms), [], [])])
        # The largest total before a run of each state, less the sum there; and where that run begins.
        self._lead: list[float] = []
        self._lead_from: list[Border] = []
        # The largest total at the last border, before and after the cost of the earlier state.
        self._best = self._best_left = 0.0
        # For each border from number `_oldest` on: where the best run of each state that ends there
        # begins; the state that a run from there follows, as in `timeline.best_path`; and the largest
        # total of a path that ends there with each state, less the sum there.
        self._borders: deque[tuple[list[Border], int, int, float, list[float]]] = deque()
        self._oldest = 1

    def add_state(self, cost: float) -> None:
        """Add a state, of which runs can begin at the present border or later."""
        present = max(self._best_left, self._best - cost) if self._count else 0.0
        entries = list(self._near)
        for place, (border, ways, sums) in enumerate(entries):
            way = present if place == len(entries) - 1 else -inf
            self._near[place] = (border, [*ways, way], [*sums, 0.0])
        self._costs = [*self._costs, cost]
        self._sums = [*self._sums, 0.0]
        self._lead.append(-inf)
        for *_, lead in self._borders:
            lead.append(-inf)
        self._lead_from.append((0, self._start_ms))

    def anew(self) -> Paths:
        """Return the recursion with all states from its beginning on, and without windows."""
        paths = Paths(self._start_ms, self._min_ms)
        for cost in self._costs:
            paths.add_state(cost)
        return paths

    def add(self, ends_ms: Sequence[int], evidence: Sequence[Sequence[float]]) -> None:
        """Add windows that end at `ends_ms`, with their evidence (windows, states)."""
        lead, lead_from, near, costs, borders = self._lead, self._lead_from, self._near, self._costs, self._borders
        for end_ms, more in zip(ends_ms, evidence, strict=True):
            if self._count % REBASE == 0:
                self._rebase()
                lead = self._lead
            self._count += 1
            self._sums = sums = list(map(add, self._sums, more))
            while near and end_ms - near[0][0][1] >= self._min_ms:
                start, ways, then = near.popleft()
                for state, ahead in enumerate(map(sub, ways, then)):
                    if ahead > lead[state]:
                        lead[state], lead_from[state] = ahead, start
            totals = list(map(add, lead, sums))
            self._best = best = max(totals)
            left = list(map(sub, totals, costs))
            self._best_left = best_left = max(left)
            near.append(((self._count, end_ms), [max(best_left, best - cost) for cost in costs], sums))
            # If no run can end here, the difference is NaN, and no path leads here.
            borders.append((lead_from.copy(), totals.index(best), left.index(best_left), best - best_left, lead.copy()))

    def save(self) -> None:
        """Let `undo` remove the window that is added next."""
        if self._count % REBASE == 0:
            self._rebase()
        self._saved = self._sums, self._near.copy(), self._lead.copy(), self._lead_from.copy()

    def undo(self) -> None:
        """Remove the window that was added after `save`, the last one."""
        self._sums, self._near, self._lead, self._lead_from = self._saved
        self._borders.pop()
        self._count -= 1

    def _rebase(self) -> None:
        """Subtract from each sum its present value, and from each total the best one."""
        best, zeros = (self._best if self._best > -inf else 0.0), [0.0] * len(self._sums)
        self._lead = [ahead + more - best for ahead, more in zip(self._lead, self._sums, strict=True)]
        for place, (border, ways, then) in enumerate(list(self._near)):
            then = [before - more for before, more in zip(then, self._sums, strict=True)]
            self._near[place] = (border, [way - best for way in ways], then)
        for _, _, _, _, lead in self._borders:
            lead[:] = [ahead + more - best for ahead, more in zip(lead, self._sums, strict=True)]
        self._sums, self._best, self._best_left = zeros, self._best - best, self._best_left - best

    def going_on(self, since: int, state: int) -> float:
        """Return the total of the best path that has one state from before border `since` up to now."""
        lead = self._borders[since - self._oldest][-1]
        return lead[state] + self._sums[state]

    def best(self, since: int, ended: bool) -> tuple[list[Stretch], float]:
        """Return the runs of the most probable path that end after border `since`, and its total.

        If the stream has not `ended`, the last run may be shorter than the minimum duration.
        """
        totals = [ahead + more for ahead, more in zip(self._lead, self._sums, strict=True)]
        total = max(totals)
        state = totals.index(total)
        first = self._lead_from[state]
        if not ended or total == -inf:
            for start, ways, then in islice(self._near, len(self._near) - 1):
                for each, (way, before, now) in enumerate(zip(ways, then, self._sums, strict=True)):
                    if way - before + now > total:
                        total, state, first = way - before + now, each, start
        runs = [Stretch(*first, state)]
        while first[0] > since:
            begins, likeliest, cheapest, difference, _ = self._borders[first[0] - self._oldest]
            state = likeliest if difference > self._costs[state] else cheapest
            first = begins[state]
            runs.append(Stretch(*first, state))
        return runs[::-1], total

    def forget(self, decided: int) -> None:
        """Drop what only paths through the first `decided` windows need."""
        while self._oldest < decided:
            self._borders.popleft()
            self._oldest += 1


def _weight(window: Window) -> float:
    seconds = (window.end_ms - window.start_ms) / 1000
    return seconds * SILENT_WEIGHT if window.silent else seconds
