"""Recognise a container from its first bytes, and read what it states about its audio."""

from __future__ import annotations

from ms_edge.audio.facts.reader import Facts, Reader
from ms_edge.audio.riff import ReadAt

# The types of the boxes that an MP4 or QuickTime file may begin with.
MP4_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"sidx")


def facts_of(read_at: ReadAt, size: int, track: int = 1) -> Facts:
    """Return what a file of `size` bytes states about its audio track number `track`, from 1.

    `read_at(offset, count)` reads at most `count` bytes. The tracks are counted among the audio
    tracks, in the order of the container. Returns `Facts()` if the container is unknown, states
    nothing, or has no such track.
    """
    data = Reader(read_at, size)
    start = data.at(0, 12)
    if start[:3] != b"ID3":
        return _facts_of(data, track)
    from ms_edge.audio.mpeg import after_tags  # imported here because few files have tags: AAC, FLAC, TTA and others

    skipped = after_tags(data.at, 0)
    found = _facts_of(Reader(lambda offset, count: read_at(skipped + offset, count), max(0, size - skipped)), track)
    # Its version has no byte 255, and its size has seven bits in each byte (ID3v2.4.0, 3.1).
    wrong = 0xFF in start[3:5] or any(byte & 0x80 for byte in start[6:10])
    return found._replace(
        contradictory=found.contradictory or wrong,
        lowered=tuple((skipped + at, number) for at, number in found.lowered),
    )


def _facts_of(data: Reader, track: int) -> Facts:
    start = data.at(0, 12)
    if start[4:8] in MP4_BOXES:
        from ms_edge.audio.facts import mp4

        return mp4.facts(data, track)
    if start[:4] == b"\x1a\x45\xdf\xa3":
        from ms_edge.audio.facts import matroska

        return matroska.facts(data, track)
    if start[:4] == b"\x30\x26\xb2\x75":
        from ms_edge.audio.facts import asf

        return asf.facts(data, track)
    if start[:4] == b"fLaC":
        from ms_edge.audio.facts import flac

        return flac.facts(data)
    if start[:4] == b"OggS":
        from ms_edge.audio.facts import ogg

        return ogg.facts(data, track)
    from ms_edge.audio.facts import blocks, chunks, frames, others, transport

    found = chunks.facts(data, track) or blocks.facts(data) or others.facts(data)
    return found or transport.facts(data) or frames.facts(data) or Facts()
