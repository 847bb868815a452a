"""Events: what happens on live sources, one line of JSON each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, NamedTuple

SCHEMA = "ms-edge-event/1"
# Kind of event, and what it says.
KINDS = {
    "segment_start": "A segment begins.",
    "label": "What is on, stated again: each full minute of audio, and when `--min-confidence` changes the label.",
    "segment_end": "A segment has ended. Its label, times and probability are final.",
    "connected": "The first sample of the source has arrived.",
    "lost": "The connection was lost.",
    "reconnected": "The connection was regained; `lost_s` is the audio that never came.",
    "stall": "The source is connected, but no audio arrives.",
    "resumed": "Audio arrives again after a stall.",
    "gap": "Audio was lost while the source was connected.",
    "end": "The source has ended, or was given up; `lost_s` is the sum of what was lost.",
    "alert": "The condition of a [rule](#alerts) has held for long enough.",
    "alert_end": "The condition of the rule no longer holds.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened on one source at one moment of its audio."""

    #: what happened: one of the events above
    kind: str
    #: the source as given, without passwords; `-` is standard input
    source: str
    #: the channel that it concerns, from 1 on; None for the mean of all channels and for the whole source
    channel: int | None = None
    #: stream time: seconds since the first sample of the source, including audio that was lost
    time_s: float
    #: the same moment on the clock
    utc: datetime
    #: label of the segment
    label: str | None = None
    #: start of the segment, or of the condition of an alert, in stream time
    start_s: float | None = None
    #: end of the segment, or of the condition of an alert that has ended, in stream time
    end_s: float | None = None
    #: probability of the label, up to this moment; None for silence, and when a segment begins
    probability: float | None = None
    #: mean probability of each label of the model; None where `probability` is
    scores: dict[str, float] | None = None
    #: seconds of audio that were lost
    lost_s: float | None = None
    #: text of the rule of an alert
    rule: str | None = None
    #: since when on the clock the condition of an alert holds; in stream time, this is `start_s`
    since: datetime | None = None
    #: seconds for which the condition has held, including lost audio
    for_s: float | None = None
    #: what happened, in words
    message: str | None = None

    def record(self) -> dict[str, Any]:
        """Return the event as an object of schema `ms-edge-event/1`, ready for JSON.

        Fields that are None are left out. The key of `kind` is `event`. UTC is ISO 8601 with
        milliseconds and `Z`.
        """
        found: dict[str, Any] = {"schema": SCHEMA, "event": self.kind}
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name in ("utc", "since"):
                value = iso_utc(value)
            elif field.name == "probability":
                value = round(value, 6)
            elif field.name == "scores":
                value = {name: round(score, 6) for name, score in value.items()}
            found[field.name] = value
        return found


class Position(NamedTuple):
    """How far a live source is, in seconds of audio.

    Labels are final up to stream time `decided_s`. `arrived_s` is what has arrived so far, whether or
    not its labels are decided.
    """

    decided_s: float
    arrived_s: float


def iso_utc(moment: datetime) -> str:
    """Return a moment as `2026-01-31T23:59:59.123Z`. It must have a time zone."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
