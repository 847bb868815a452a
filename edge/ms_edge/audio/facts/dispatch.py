"""Recognise a container from its first bytes, and read what it states about its audio."""

from __future__ import annotations

from ms_edge.audio.facts.reader import Facts
from ms_edge.audio.riff import ReadAt


def facts_of(read_at: ReadAt, size: int, track: int = 1) -> Facts:
    """Return what a file of `size` bytes states about its audio track number `track`, from 1.

    `read_at(offset, count)` reads at most `count` bytes. The tracks are counted among the audio
    tracks, in the order of the container. Returns `Facts()` if the container is unknown, states
    nothing, or has no such track.
    """
    return Facts()
