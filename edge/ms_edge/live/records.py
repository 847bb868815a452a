"""Records of live sources: what was heard, in one file of JSON Lines per day."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from ms_edge.errors import UsageError, reason
from ms_edge.live.events import Event, Position, iso_utc
from ms_edge.output.growing import SYNC_S, GrowingFile
from ms_edge.output.writers import line_of
from ms_edge.results import LOST, SCHEMA

MOST_WAITING = 100_000  # lines that wait for a disk that is full
LOSSES = ("gap", "reconnected", "resumed")  # events that say what audio was lost before them


@dataclass(frozen=True)
class Piece:
    """A stretch of one source, or of one channel of it, that has one label, or was lost.

    Times are stream time, in seconds. `utc` is the time of the start. `probability` and `scores` are
    those of the segment that the stretch is a part of, as in an `Event`.
    """

    source: str
    channel: int | None
    start_s: float
    end_s: float
    utc: datetime
    label: str
    probability: float | None = None
    scores: dict[str, float] | None = None


class Pieces:
    """Divide the audio of sources into pieces, which follow each other without gaps.

    A piece ends where its segment ends, and at each full minute, so that little is lost if this
    process is killed.
    """

    def __init__(self) -> None:
        # Of each source and channel: up to where there are pieces (stream time), and what is on there.
        self._until: dict[tuple[str, int | None], tuple[float, str | None]] = {}

    def of(self, event: Event) -> Iterator[Piece]:
        """Yield the pieces that are complete with an event."""
        key = event.source, event.channel
        until_s, label = self._until.get(key, (0.0, None))
        if event.kind == "segment_start":
            # Less than 0.25 s of audio between two losses has no label.
            yield from self._piece(event, event.channel, until_s, event.time_s, "uncertain")
            self._until[key] = event.time_s, event.label
        elif event.kind in ("label", "segment_end"):
            label = event.label if event.kind == "segment_end" else label
            yield from self._piece(event, event.channel, until_s, event.time_s, str(label or event.label))
            self._until[key] = event.time_s, event.label if event.kind == "label" else None
        elif event.kind in LOSSES and event.lost_s:
            for channel in [channel for source, channel in self._until if source == event.source] or [None]:
                until_s, _ = self._until.get((event.source, channel), (0.0, None))
                lost_at_s = max(until_s, event.time_s - event.lost_s)
                yield from self._piece(event, channel, until_s, lost_at_s, "uncertain")
                yield from self._piece(event, channel, lost_at_s, event.time_s, LOST)
                self._until[event.source, channel] = event.time_s, None

    def _piece(self, event: Event, channel: int | None, start_s: float, end_s: float, label: str) -> Iterator[Piece]:
        start_s, end_s = round(start_s, 3), round(end_s, 3)
        if start_s < end_s:
            utc = event.utc - timedelta(seconds=event.time_s - start_s)
            sure = (event.probability, event.scores) if label == event.label else (None, None)
            yield Piece(event.source, channel, start_s, end_s, utc, label, *sure)


class Records:
    """A consumer that writes a record of each piece into `directory`/YYYY-MM-DD.jsonl.

    The date is that of the audio in UTC; a piece that lasts over midnight is divided. The lines are
    records of schema `ms-edge/1` with one segment. `facts` are their fields `settings`, `model` and
    `provider`. If the disk does not take them, `log` is called, and they wait in memory. `lost` says
    how many never reached the disk.

    Raises UsageError if the directory or the file of this day cannot be written.
    """

    def __init__(self, directory: str, facts: Mapping[str, Any], log: Callable[[str], None]) -> None:
        self._directory, self._facts, self._log = directory, dict(facts), log
        self._pieces = Pieces()
        self._waiting: deque[tuple[date, bytes]] = deque(maxlen=MOST_WAITING)
        self._failing = False
        self.lost = 0
        self._dropped = 0  # lines for which there was no place to wait
        self._day: date | None = None
        self._file: GrowingFile | None = None
        try:
            os.makedirs(directory, exist_ok=True)
            self._open(datetime.now(UTC).date())
        except OSError as error:
            raise UsageError(f"{directory}: cannot be written ({reason(error)}).") from None

    def take(self, event: Event) -> None:
        """Add the pieces that are complete with an event."""
        for piece in self._pieces.of(event):
            for utc, start_s, end_s in _by_day(piece):
                record = self._record(piece, utc, end_s - start_s)
                self._dropped += len(self._waiting) == MOST_WAITING  # the oldest makes room
                self._waiting.append((utc.date(), line_of(record).encode("ascii")))
        if self._waiting:
            self._write()

    def _record(self, piece: Piece, utc: datetime, duration_s: float) -> dict[str, Any]:
        """Return the record of a piece, or of the part of it that begins at `utc`."""
        duration_s = round(duration_s, 3)
        probability = 1.0 if piece.probability is None else round(piece.probability, 6)
        scores = {name: round(score, 6) for name, score in (piece.scores or {}).items()}
        sure = {"label": piece.label, "probability": probability, "scores": scores}
        return {
            "schema": SCHEMA,
            "path": piece.source,
            **sure,
            "seconds": {piece.label: duration_s},
            "duration_s": duration_s,
            **({} if piece.channel is None else {"channel": piece.channel}),
            "segments": [{"start_s": 0.0, "end_s": duration_s, **sure}],
            "warnings": [],
            "recorded_at": iso_utc(utc),
            **self._facts,
        }

    def tick(self, now: datetime, progress: Mapping[str, Position]) -> None:
        """Write what waits, and see that it is on the disk."""
        self._write(sync=True)

    def _write(self, *, sync: bool = False) -> None:
        """Write what waits. If that is impossible, say so once, and keep it."""
        try:
            self._append()
            if sync and self._file:
                self._file.sync(every_s=SYNC_S)
        except (OSError, UsageError) as error:
            if not self._failing:
                why = reason(error) if isinstance(error, OSError) else str(error)
                self._log(f"{self._directory}: records cannot be written and wait in memory ({why.rstrip('.')}).")
            self._failing = True
            with contextlib.suppress(OSError):
                self._close()
        else:
            if self._failing:
                lost = f"; the {self._dropped:,} oldest were dropped" if self._dropped else ""
                self._log(f"{self._directory}: records are written again{lost}.")
            self.lost += self._dropped
            self._failing, self._dropped = False, 0

    def _append(self) -> None:
        while self._waiting:
            day, line = self._waiting[0]
            if self._file is None or day != self._day:
                self._open(day)
            assert self._file
            self._file.append(line)
            self._waiting.popleft()

    def _open(self, day: date) -> None:
        self._close()
        self._file = GrowingFile(os.path.join(self._directory, f"{day}.jsonl"))
        self._day = day

    def _close(self) -> None:
        file, self._file = self._file, None
        if file:
            file.close()

    def close(self) -> None:
        """Write everything to disk. Say how many records are lost if that is impossible."""
        self._write()
        if lost := len(self._waiting) + self._dropped:
            self._log(f"{self._directory}: {lost:,} records are lost, because the monitor ends.")
        self.lost += lost
        with contextlib.suppress(OSError):
            self._close()


def _by_day(piece: Piece) -> Iterator[tuple[datetime, float, float]]:
    """Yield the parts of a piece that lie in one day each: its time, and start and end in stream time."""
    utc, start_s = piece.utc, piece.start_s
    while start_s < piece.end_s:
        midnight = datetime.combine(utc.date() + timedelta(days=1), time(), UTC)
        end_s = min(piece.end_s, round(start_s + (midnight - utc).total_seconds(), 3))
        if end_s > start_s:
            yield utc, start_s, end_s
        utc, start_s = midnight, end_s
