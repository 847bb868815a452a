"""Progress of a run over an archive, in numbers: recordings, errors, hours of audio, speed."""

from __future__ import annotations

import contextlib
import sys
import time

from ms_edge.output.writers import duration, printable

SHOWN_S, LOGGED_S = 0.5, 60.0  # seconds between two states on a terminal, and between two lines of a log


class Numbers:
    """Counts of recordings, shown on standard error: in one line of a terminal, or as lines of a log.

    `total` is the number of recordings, `work` what is to be done, in any unit, and `done` is what an
    earlier run did. `quiet` hides everything.
    """

    def __init__(self, total: int, work: float, done: int, *, quiet: bool) -> None:
        self.recordings, self.errors, self.audio_s = done, 0, 0.0
        self._total, self._work, self._worked, self._earlier = total, work, 0.0, done
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._began = self._shown = time.monotonic()
        self._first: tuple[float, float] | None = None  # when the first results came, and the work for them
        if self._terminal:
            self._print(self._state(self._began), end="")

    def add(self, recordings: int, errors: int, audio_s: float, work: float) -> None:
        """Count recordings that are done, and the work that was done for them."""
        self.recordings += recordings
        self.errors += errors
        self.audio_s += audio_s
        self._worked += work
        now = time.monotonic()
        self._first = self._first or (now, self._worked)
        if now - self._shown >= (SHOWN_S if self._terminal else LOGGED_S):
            self._shown = now
            self._print(self._state(now), end="" if self._terminal else "\n")

    def complain(self, message: str) -> None:
        """Print a line about a problem."""
        self._print(printable(message))

    def finish(self) -> None:
        """Print what was done."""
        self._print(self._state(time.monotonic(), ended=True))

    def _state(self, now: float, ended: bool = False) -> str:
        took_s = max(now - self._began, 1e-9)
        counted = f"{self.recordings:,} of {self._total:,} recordings, {self.errors:,} errors"
        before = f" ({self._earlier:,} done before)" if self._earlier and ended else ""
        pace = f"{self.audio_s / 3600:,.1f} h of audio in {duration(took_s)}, {self.audio_s / took_s:,.0f} x real time"
        left = ""
        if not ended and self._first and self._worked > self._first[1]:  # Ray's start counts for the speed alone
            pace_s = (now - self._first[0]) / (self._worked - self._first[1])
            left = f", {duration(pace_s * (self._work - self._worked))} left"
        return f"{counted}{before}, {pace}{left}"

    def _print(self, text: str, end: str = "\n") -> None:
        if not self._quiet:
            start = "\r\x1b[K" if self._terminal else ""
            with contextlib.suppress(OSError):  # the terminal has been closed
                print(f"{start}ms-edge: {text}", end=end, file=sys.stderr, flush=True)
