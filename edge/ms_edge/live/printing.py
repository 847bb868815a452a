"""Print events on standard output, and the log on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from ms_edge.errors import reason
from ms_edge.live.events import Event, Position, iso_utc
from ms_edge.output.writers import json_text, printable


def log(message: str) -> None:
    """Print a line with the time on standard error."""
    with contextlib.suppress(OSError):  # the terminal has been closed
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        print(f"{now} ms-edge: {printable(message)}", file=sys.stderr, flush=True)


class Printer:
    """A consumer that prints each event as it happens, as text or JSON Lines.

    In text, `several` puts the name of the source into each line. With JSON Lines, which a program
    reads, what happens to connections is logged for people too. If standard output cannot be written,
    that is raised if `alone` is set: nothing else uses the events. Otherwise it is logged once.
    """

    def __init__(self, form: str, *, several: bool, alone: bool) -> None:
        self._json, self._several, self._alone = form == "jsonl", several, alone
        self._failed: object = None  # the standard output that cannot be written

    def take(self, event: Event) -> None:
        """Print one event. Raises OSError."""
        if not self._failed:
            try:
                sys.stdout.write(line(event, json_lines=self._json, several=self._several))
                sys.stdout.flush()
            except OSError as error:
                if self._alone:
                    raise
                self._failed = sys.stdout
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (what the other one holds is written nowhere)
                log(f"events are not printed any more: standard output cannot be written ({reason(error)}).")
        if self._json and event.label is None and event.rule is None:
            log(f"{event.source}: {text_of(event)}.")

    def tick(self, now: datetime, progress: Mapping[str, Position]) -> None:
        """Do nothing: events are printed when they happen."""

    def close(self) -> None:
        """Do nothing: all is printed."""


def line(event: Event, *, json_lines: bool, several: bool) -> str:
    """Return an event as a line of JSON or of text, in which `several` puts the name of the source."""
    if json_lines:
        return json_text(event.record()) + "\n"
    where = f"{event.source}  " if several else ""
    return f"{iso_utc(event.utc)}  {clock(event.time_s)}  {printable(where + text_of(event))}\n"


def clock(time_s: float) -> str:
    """Return a stream time as hours, minutes and seconds, for example `00:01:02.500`."""
    milliseconds = round(1000 * time_s)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds / 1000:06.3f}"


def text_of(event: Event) -> str:
    """Return an event in words, without its time and source."""
    channel = "" if event.channel is None else f"channel {event.channel}: "
    if event.label is not None:
        if event.kind == "segment_end" and event.start_s is not None:
            sure = "" if event.probability is None else f", probability {event.probability:.2f}"
            return f"{channel}{event.label} ends after {event.time_s - event.start_s:.3f} s{sure}"
        return f"{channel}{event.label} {'begins' if event.kind == 'segment_start' else 'goes on'}"
    lost = "" if event.lost_s is None or event.kind == "end" else f", {event.lost_s:.3f} s lost"
    said = "" if event.message is None else f": {event.message}"
    return f"{channel}{event.kind.replace('_', ' ')}{lost}{said}"
