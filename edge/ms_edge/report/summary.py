"""Totals of many results: how much of each label is in each file, folder, hour or day."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ms_edge.errors import UsageError
from ms_edge.results import OTHER_LABELS, Classification, Failure, Segment

NO_TIME = "no-time"  # the group of results whose time is not known
WIDTH_S = {"hour": 3600, "day": 86_400}
BY = ("file", "folder", *WIDTH_S)
MOST_PIECES = 100_000  # hours in eleven years: what is longer has a wrong duration
SLACK_S = 1.0  # a recording of an hour is often some samples longer
# What a time pattern may contain, as in strptime: the digits that each directive matches.
DIRECTIVES = {"%Y": r"\d{4}", "%j": r"\d{3}", "%f": r"\d{1,6}"} | dict.fromkeys(
    ("%y", "%m", "%d", "%H", "%M", "%S"), r"\d{2}"
)


@dataclass
class Group:
    """What is in the recordings of one group: `seconds` by label, failures and warnings by code.

    `name` is that of the file, folder, hour or day; `path` is that of the file if each file has
    groups of its own.
    """

    name: str = ""
    path: str = ""
    recordings: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    #: records by what stated their time: `time-pattern`, `recorded_at`, `file-time` or `no-time`
    times: Counter[str] = field(default_factory=Counter)

    @property
    def duration_s(self) -> float:
        """The duration of everything in the group, in seconds."""
        return math.fsum(self.seconds.values())

    def share(self, label: str) -> float:
        """Return how much of the duration has this label, from 0 to 1."""
        return self.seconds.get(label, 0.0) / (self.duration_s or 1)

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Add the seconds of each label of a recording, or of a part of one."""
        for label, value in seconds.items():
            self.seconds[label] = self.seconds.get(label, 0.0) + value


@dataclass(frozen=True)
class Began:
    """When a recording began, in the zone of what stated it, and what did."""

    moment: datetime
    source: str


class Summary:
    """Add results, then look at `groups` (in order) and `total`.

    `by` is one of BY. With `each`, every file has hours (days) of its own. `time_pattern` finds the
    time at which a recording began in its path; without it, or where it does not match,
    `recorded_at` counts, and else the time of the file minus the duration, since a recorder writes
    to the end. Raises UsageError for a pattern that cannot be used.
    """

    def __init__(self, by: str, time_pattern: str | None = None, *, each: bool = False) -> None:
        self.by, self.each, self.total = by, each, Group()
        #: recordings that last into another hour (day), without segments that say what is where
        self.undivided = 0
        #: records that are about one channel of a recording
        self.single_channels = 0
        self._pattern = None if time_pattern is None else TimePattern(time_pattern, by)
        self._groups: dict[str, Group] = {}
        self._labels: dict[str, None] = {}  # of the models, in their order
        self._combined: dict[str, None] = {}

    @property
    def groups(self) -> dict[str, Group]:
        """The groups in order: those of time and folders sorted, files as they were added."""
        names = list(self._groups) if self.by == "file" else sorted(self._groups)
        if self.by in WIDTH_S:
            names.sort(key=lambda name: self._groups[name].name == NO_TIME)
        return {name: self._groups[name] for name in names}

    @property
    def labels(self) -> list[str]:
        """All labels of the models and of the results, in the order in which they are shown."""
        both = (
            ["+".join(self._labels)] if len(self._labels) == 2 else []
        )  # columns of every table, as in CSV of classify
        combined = dict.fromkeys([*both, *sorted(self._combined.keys() - {*self._labels, *OTHER_LABELS})])
        return [*self._labels, *combined, *(label for label in OTHER_LABELS if label not in self._labels)]

    def add(self, result: Classification | Failure) -> None:
        """Add one result."""
        began = self._began(result) if self.by in WIDTH_S else None
        if isinstance(result, Failure):
            name = _hour_or_day(began.moment, self.by) if began else self._name(result.path)
            for group in (self._group(name, result.path), self.total):
                group.errors[result.code] += 1
                _note_time(group, began, self.by)
            return
        self._labels |= dict.fromkeys(result.scores)
        self._combined |= dict.fromkeys(result.seconds)
        self.single_channels += result.channel is not None
        pieces = self._pieces(result, began)
        for number, (name, seconds) in enumerate(pieces.items()):
            group = self._group(name, result.path)
            group.recordings += 1
            group.add_seconds(seconds)
            _note_time(group, began, self.by)
            if not number:
                group.warnings.update(result.warnings)
        self.total.recordings += 1
        self.total.add_seconds(result.seconds)
        self.total.warnings.update(result.warnings)
        _note_time(self.total, began, self.by)

    def _group(self, name: str, path: str) -> Group:
        if self.each:
            return self._groups.setdefault(f"{name}  {path}", Group(name, path))
        return self._groups.setdefault(name, Group(name))

    def _name(self, path: str) -> str:
        if self.by in WIDTH_S:
            return NO_TIME
        return path if self.by == "file" else os.path.dirname(path) or "."

    def _began(self, result: Classification | Failure) -> Began | None:
        """Return when a recording began; None if nothing states it."""
        if self._pattern and (moment := self._pattern.find(result.path)):
            return Began(moment, "time-pattern")
        if isinstance(result, Failure):
            return None
        if result.recorded_at and (moment := _parsed(result.recorded_at)):
            return Began(moment, "recorded_at")
        modified = (result.file or {}).get("modified")
        if isinstance(modified, str) and (moment := _parsed(modified)):
            try:
                return Began(moment - timedelta(seconds=result.duration_s), "file-time")
            except OverflowError:
                return None
        return None

    def _pieces(self, result: Classification, began: Began | None) -> dict[str, dict[str, float]]:
        """Return the seconds of each label of a recording by group: several hours or days if it spans them."""
        if began is None:
            return {self._name(result.path): result.seconds}
        width_s = WIDTH_S[self.by]
        first = began.moment.replace(
            minute=0, second=0, microsecond=0, hour=began.moment.hour if width_s == 3600 else 0
        )
        offset_s = (began.moment - first).total_seconds()
        # Records may come from anywhere: a segment may end long after its recording.
        end_s = offset_s + max([result.duration_s, *(part.end_s for part in result.segments)])
        if end_s > width_s and result.segments and end_s < MOST_PIECES * width_s:
            found: dict[str, dict[str, float]] = {}
            try:
                for part in result.segments:
                    for number, seconds in _divided(part, offset_s, width_s):
                        name = _hour_or_day(first + timedelta(seconds=number * width_s), self.by)
                        piece = found.setdefault(name, {})
                        piece[part.label] = piece.get(part.label, 0.0) + seconds
                return found
            except OverflowError:  # beyond the year 9999
                pass
        self.undivided += end_s > width_s + SLACK_S
        return {_hour_or_day(began.moment, self.by): result.seconds}


class TimePattern:
    """A pattern as of `strptime`, such as `radio_%Y%m%d_%H%M%S`, which is searched for in paths.

    Raises UsageError if it contains a directive that is not in DIRECTIVES, or states no hour or day.
    """

    def __init__(self, pattern: str, by: str) -> None:
        parts = re.findall(r"%.?|[^%]+", pattern, re.DOTALL)
        used = [part for part in parts if part.startswith("%") and part != "%%"]
        if unknown := [part for part in used if part not in DIRECTIVES]:
            raise UsageError(
                f"--time-pattern {pattern!r}: {unknown[0]} is not read in names; use {', '.join(DIRECTIVES)} or %%."
            )
        date = ("%Y" in used or "%y" in used) and ("%j" in used or {"%m", "%d"} <= set(used))
        if not date or (by == "hour" and "%H" not in used) or len(used) != len(set(used)):
            hour = " and the hour (%H)" if by == "hour" else ""
            raise UsageError(
                f"--time-pattern {pattern!r}: must state the date (as in %Y%m%d){hour}, each part of them once."
            )
        self._format = "".join(parts)
        expression = "".join(DIRECTIVES.get(part, re.escape("%" if part == "%%" else part)) for part in parts)
        # Digits that belong to the time do not begin or end inside a longer number.
        before = r"(?<!\d)" if parts[0] in DIRECTIVES else ""
        after = r"(?!\d)" if parts[-1] in DIRECTIVES else ""
        self._expression = re.compile(rf"{before}(?=({expression}){after})")

    def find(self, path: str) -> datetime | None:
        """Return the time in a path, or None. If several parts of the path match, the last one counts."""
        for text in reversed(self._expression.findall(path.replace(os.sep, "/"))):
            try:
                return datetime.strptime(text, self._format)
            except ValueError:  # a month 13
                continue
        return None


def _parsed(text: str) -> datetime | None:
    """Return a time in ISO 8601 as the text states it, without its zone; None if it is no time."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return None


def _hour_or_day(moment: datetime, by: str) -> str:
    return f"{moment.isoformat(' ', 'hours')}:00" if by == "hour" else moment.date().isoformat()


def _divided(part: Segment, offset_s: float, width_s: float) -> Iterator[tuple[int, float]]:
    """Yield the number of each hour (day) that a segment touches, and its seconds there."""
    start_s, end_s = offset_s + part.start_s, offset_s + part.end_s
    while start_s < end_s:
        number = int(start_s // width_s)
        border_s = min(end_s, (number + 1) * width_s)
        yield number, border_s - start_s
        start_s = border_s


def _note_time(group: Group, began: Began | None, by: str) -> None:
    if by in WIDTH_S:
        group.times[began.source if began else NO_TIME] += 1
