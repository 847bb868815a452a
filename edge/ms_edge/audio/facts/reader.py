"""The facts about an audio track, and the access to the bytes of a file that all parsers share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What a container states about one audio track. None means that it states nothing.

    `samples` is the number of samples per channel, which lasts `samples / sample_rate_hz` seconds;
    a decoder may use another rate. `cut` means that the file ends before its own structure does, or
    within the last frame. `recorded_at` is the time of the first sample in ISO 8601; it ends with
    `Z` if the container says that it is UTC. `slack_s` is how much shorter, in seconds, the audio of
    an intact file may be than stated.
    """

    samples: int | None = None
    sample_rate_hz: int | None = None
    cut: bool = False
    recorded_at: str | None = None
    slack_s: float = 0.0

    def more_than(self, frames: int, sample_rate_hz: int) -> bool:
        """Return whether the container states more audio than `frames` frames at `sample_rate_hz`."""
        if self.samples is None or not self.sample_rate_hz:
            return False
        return self.samples / self.sample_rate_hz - self.slack_s > frames / sample_rate_hz
