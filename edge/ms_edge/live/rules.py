"""Rules: raise an alert when something has held on a source for long enough, and end it again.

A rule is a sentence such as `no music 60s`. Every rule watches every source on its own. Three things
keep the number of alerts small. An alert is raised only when the condition has held without a break for
the duration of the rule. It ends only when the opposite has held without a break for a quarter of that
duration, and at least 10 s. With every further alert of the same rule and source within an hour these
10 s are doubled, up to 10 minutes, so that there are at most 11 alerts in an hour: an input that comes
and goes is one long alert. Lost audio counts neither for nor against a rule.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter

from ms_edge.errors import UsageError
from ms_edge.live.events import Event, Position, iso_utc
from ms_edge.output.writers import duration
from ms_edge.timeline import OTHER, SILENCE, UNCERTAIN

INPUT = "input"
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
SHORTEST_S = 1.0
SHORTEST_INPUT_S = 5.0  # audio arrives in blocks
QUICKEST_END_S = 10.0
SLOWEST_END_S = 600.0
HOUR_S = 3600.0
LONGEST_TICK_S = 5.0


@dataclass(frozen=True)
class Rule:
    """A condition and how long it must hold, in seconds.

    The condition is that `label` holds, or that it does not hold (`negated`). A label with `+` holds
    in segments that have all of its parts, so `music` holds in segments of `speech+music`, too.
    """

    text: str
    label: str
    negated: bool
    duration_s: float

    def holds(self, label: str) -> bool:
        """Return whether the condition holds in a segment with this label."""
        return set(self.label.split("+")).issubset(label.split("+")) != self.negated


def parse_rule(text: str, labels: Sequence[str]) -> Rule:
    """Return the rule of an option `--alert`; `labels` are those of the model.

    Raises UsageError if the text is no rule.
    """
    known = (*labels, SILENCE, OTHER, UNCERTAIN)
    match = re.fullmatch(r"(no )?(.+?) (\d+(?:\.\d+)?)(s|m|h)", " ".join(text.split()))
    if not match:
        wanted = "a rule is [no] LABEL DURATION, as in 'no music 60s', 'silence 10s', 'speech 5m' or 'no input 15s'"
        raise UsageError(f"--alert {text!r} is no rule: {wanted}.")
    label, duration_s = match[2], float(match[3]) * SECONDS[match[4]]
    if label == INPUT:
        known, shortest_s = (INPUT,), SHORTEST_INPUT_S
        if not match[1]:
            raise UsageError(f"--alert {text!r}: only the lack of input is a condition, as in 'no input 15s'.")
    else:
        shortest_s = SHORTEST_S
    if unknown := [part for part in label.split("+") if part not in known]:
        raise UsageError(f"--alert {text!r}: no segment has the label {unknown[0]!r}; use {', '.join(known)} or input.")
    if duration_s < shortest_s:
        raise UsageError(f"--alert {text!r}: the duration must be at least {shortest_s:g} s.")
    return Rule(match[0], label, bool(match[1]), duration_s)


class _Alert:
    """Decide when the alert of one rule on one source is raised and when it ends.

    All times are seconds on one time axis. `since` and `until` are the start and the end of the time
    for which the condition has held.
    """

    def __init__(self, duration_s: float) -> None:
        self.raised = False
        self.since = self.until = 0.0
        self._duration_s = duration_s
        # When the condition, or its opposite, began to hold, put off by the lost audio since then.
        self._for: float | None = None
        self._against: float | None = None
        self._raised_at: deque[float] = deque()

    def observe(self, start: float, end: float, holds: bool) -> float | None:
        """Take in whether the condition holds from `start` to `end`.

        Return the time at which that raises or ends the alert, or None.
        """
        if holds:
            self._against, self.until = None, end
            if self._for is None:
                self._for = self.since = start
            if not self.raised and end - self._for >= self._duration_s:
                return self._raise(self._for + self._duration_s)
        elif not self.raised:
            self._for = None
        else:
            if self._against is None:
                self._against = start
            if end - self._against >= self._end_s(self._against):
                at = self._against + self._end_s(self._against)
                self.raised, self._for, self._against = False, None, None
                return at
        return None

    def lose(self, duration_s: float) -> None:
        """Take in that nothing is known about so many seconds."""
        if self._for is not None:
            self._for += duration_s
        if self._against is not None:
            self._against += duration_s

    def _raise(self, at: float) -> float:
        self.raised = True
        self._raised_at.append(at)
        return at

    def _end_s(self, now: float) -> float:
        """Return for how long the opposite must hold to end the alert."""
        while self._raised_at and now - self._raised_at[0] > HOUR_S:
            self._raised_at.popleft()
        doubled = QUICKEST_END_S * 2.0 ** max(0, len(self._raised_at) - 1)
        return max(self._duration_s / 4, min(doubled, SLOWEST_END_S))


class Rules:
    """A consumer of events that raises and ends alerts, and passes each to `emit` as an event.

    Labels are followed in stream time. So the alerts of a recording do not depend on how fast it is
    played, or on how often `tick` is called. `no input` is followed by the clock, from `tick` alone: it
    holds while no more audio arrives.
    """

    def __init__(self, rules: Sequence[Rule], emit: Callable[[Event], None]) -> None:
        self._of_labels = tuple(dict.fromkeys(rule for rule in rules if rule.label != INPUT))
        self._of_input = tuple(dict.fromkeys(rule for rule in rules if rule.label == INPUT))
        self._emit = emit
        self._labels: dict[tuple[str, int | None], _Labels] = {}
        self._inputs: dict[str, _Input] = {}
        self._ended: set[str] = set()
        self._before: datetime | None = None
        self._elapsed_s = 0.0

    def take(self, event: Event) -> None:
        """Follow the labels of a source. When its input ends, its alerts end."""
        if event.kind in ("segment_start", "label", "segment_end"):
            key = event.source, event.channel
            if key not in self._labels:
                self._labels[key] = _Labels(*key, self._of_labels, self._emit)
            self._labels[key].follow(event)
        elif event.kind == "end":
            self._ended.add(event.source)
            for watched in [*self._labels.values(), *self._inputs.values()]:
                if watched.source == event.source:
                    watched.end()

    def tick(self, now: datetime, progress: Mapping[str, Position]) -> None:
        """Take in that it is `now`, and how far each source is."""
        if self._before is not None:
            # A clock that is set, or a machine that was asleep, is no sign of a missing input.
            self._elapsed_s += min(max(0.0, (now - self._before).total_seconds()), LONGEST_TICK_S)
        self._before = now
        for (name, _), labels in self._labels.items():
            if name in progress:
                labels.decide(progress[name].decided_s)
        for name, each in progress.items():
            if name in self._ended:
                continue
            if name not in self._inputs:
                self._inputs[name] = _Input(name, None, self._of_input, self._emit)
            self._inputs[name].watch(self._elapsed_s, now, each)

    def close(self) -> None:
        """Do nothing: alerts end with their inputs."""


class _Watched:
    """The alerts of one source, or of one channel of it. Times are seconds on one axis of time."""

    _zero: datetime  # the moment on the clock at time 0
    _last = 0.0  # the time up to which conditions are known

    def __init__(self, source: str, channel: int | None, rules: Sequence[Rule], emit: Callable[[Event], None]) -> None:
        self.source = source
        self._channel, self._emit = channel, emit
        self._alerts = [(rule, _Alert(rule.duration_s)) for rule in rules]
        self._since: dict[Rule, datetime] = {}

    def end(self) -> None:
        """End every alert, because nothing more will be known."""
        for rule, alert in self._alerts:
            if alert.raised:
                alert.raised = False
                self._tell(rule, alert, self._last, "no longer watched, because the input has ended")
        self._alerts = []

    def _observe(self, start: float, end: float, holds: Callable[[Rule], bool | None]) -> None:
        """Take in whether the conditions hold from `start` to `end`; None if that is not known."""
        self._last = end
        changes = []
        for rule, alert in self._alerts:
            held = holds(rule)
            at = None if held is None else alert.observe(start, end, held)
            if at is not None:
                changes.append((at, rule, alert))
        for at, rule, alert in sorted(changes, key=itemgetter(0)):
            self._tell(rule, alert, at)

    def _tell(self, rule: Rule, alert: _Alert, at: float, how: str = "it has ended") -> None:
        until = at if alert.raised else alert.until
        for_s = round(until - alert.since, 3)
        what = "no " * rule.negated + rule.label
        if alert.raised:
            self._since[rule] = self._utc(alert.since)  # the clock may be set before the alert ends
        since = self._since[rule]
        self._emit(
            Event(
                kind="alert" if alert.raised else "alert_end",
                source=self.source,
                channel=self._channel,
                time_s=self._stream_s(at),
                utc=self._utc(at),
                start_s=self._stream_s(alert.since),
                end_s=None if alert.raised else self._stream_s(until),
                rule=rule.text,
                since=since,
                for_s=for_s,
                message=f"{what} for {duration(for_s)} since {iso_utc(since)}{'' if alert.raised else f'; {how}'}",
            )
        )

    def _utc(self, at: float) -> datetime:
        return self._zero + timedelta(seconds=at)

    def _stream_s(self, at: float) -> float:
        return round(at, 3)


class _Labels(_Watched):
    """The alerts about labels. Their time axis is stream time."""

    _label: str | None = None  # None while nothing is known

    def follow(self, event: Event) -> None:
        """Take in that a segment begins, goes on or ends."""
        self.decide(event.time_s)
        self._zero = event.utc - timedelta(seconds=event.time_s)
        label = None if event.kind == "segment_end" else event.label
        if label is not None and self._label is None:
            for _, alert in self._alerts:
                alert.lose(max(0.0, event.time_s - self._last))
            self._last = max(self._last, event.time_s)
        self._label = label

    def decide(self, until_s: float) -> None:
        """Take in that the present label holds until `until_s`."""
        if (label := self._label) is not None and until_s > self._last:
            self._observe(self._last, until_s, lambda rule: rule.holds(label))


class _Input(_Watched):
    """The alerts about missing input. Their time axis is the clock, in seconds since the monitor began."""

    _progress: Position | None = None
    _moved_at = 0.0  # when audio arrived last

    def watch(self, elapsed_s: float, now: datetime, progress: Position) -> None:
        """Take in how far the source is after so many seconds."""
        self._zero = now - timedelta(seconds=elapsed_s)
        if self._progress is None:
            self._progress, self._moved_at = progress, elapsed_s
        more = progress.arrived_s > self._progress.arrived_s
        self._progress = progress
        waited_s = elapsed_s - self._moved_at

        def missing(rule: Rule) -> bool | None:
            # Audio may arrive in blocks, so a pause shorter than the rule's duration is no lack of input.
            return True if waited_s >= rule.duration_s else False if more else None

        self._observe(self._moved_at, elapsed_s, missing)
        if more:
            self._moved_at = elapsed_s

    def _stream_s(self, at: float) -> float:
        return round(self._progress.decided_s if self._progress else 0.0, 3)
