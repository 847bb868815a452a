"""Facts about Ogg: the length that the last page of a stream states.

Sources: RFC 3533 (pages); RFC 7845 (Opus); Xiph.Org, Vorbis I specification, A.2; RFC 9639, 10.1 (FLAC
in Ogg); Xiph.Org, The Speex Codec Manual, 7 (Speex in Ogg).
"""

from __future__ import annotations

from ms_edge.audio.facts.reader import Facts, Reader
from ms_edge.audio.parts import (
    FIRST,
    MAX_HEADER_PAGES,
    MAX_OGG_PAGE,
    MOST_FALL,
    ogg_end,
    ogg_parts,
    opus_begins_before_0,
)

OPUS_HZ = 48_000  # of all granule positions of Opus
NO_POSITION = (1 << 64) - 1  # of a page on which no packet ends
LATE_S = 10  # a page has less; a first position beyond it is that of a station that had begun before
SLACK = 4096  # samples; the first block of Vorbis has at most so many, and gives none


def facts(data: Reader, track: int) -> Facts:
    """Return the sum of what the last pages of the recordings in an Ogg file state.

    Nothing is stated about a file with several streams beside one another, such as video.
    """
    falls: list[int] = []
    starts = ogg_parts(data.at, falls)
    ends = [*starts[1:], data.size]
    cut = any(ogg_end(data.at, end) for end in ends)
    total, rate = 0, 0
    for start, end in zip(starts, ends, strict=True):
        hz, skipped, streams, audio = _first_pages(data, start)
        last = _last_position(data, end)
        if hz and (begun := _first_position(data, audio)) > LATE_S * hz:
            skipped = begun
        if not hz or streams != 1 or track != 1 or last is None or rate not in (0, hz):
            return Facts(cut=cut)
        total, rate = total + max(0, last - skipped), hz
    wrong = max(falls) >= MOST_FALL or opus_begins_before_0(data.at)
    return Facts(total, rate, cut, slack_s=SLACK / rate, contradictory=wrong)


def _first_pages(data: Reader, at: int) -> tuple[int, int, int, int]:
    """Return the rate of the first stream, the samples to skip, the number of streams and their end."""
    rate = skipped = streams = 0
    while streams < MAX_HEADER_PAGES and (page := data.at(at, 27 + 255 + 64))[:4] == b"OggS":
        if len(page) <= 27 or not page[5] & FIRST:
            break
        body = page[27 + page[26] :]
        if streams == 0 and body[:8] == b"OpusHead":
            rate, skipped = OPUS_HZ, int.from_bytes(body[10:12], "little")
        elif streams == 0 and body[:7] == b"\x01vorbis":
            rate = int.from_bytes(body[12:16], "little")
        elif streams == 0 and body[:5] == b"\x7fFLAC":
            rate = int.from_bytes(body[27:30], "big") >> 4
        elif streams == 0 and body[:8] == b"Speex   ":
            rate = int.from_bytes(body[36:40], "little")
        streams += 1
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return rate, skipped, streams, at


def _first_position(data: Reader, at: int) -> int:
    """Return the position of the first page from an offset that states one."""
    for _ in range(MAX_HEADER_PAGES):
        page = data.at(at, 27 + 255)
        if page[:4] != b"OggS" or len(page) < 27:
            break
        position = int.from_bytes(page[6:14], "little")
        if position not in (0, NO_POSITION):
            return position
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return 0


def _last_position(data: Reader, end: int) -> int | None:
    """Return the position of the last page before `end` that states one."""
    start = max(0, end - 2 * MAX_OGG_PAGE)
    tail = data.at(start, end - start)
    at = len(tail)
    while (at := tail.rfind(b"OggS", 0, at)) >= 0:
        position = int.from_bytes(tail[at + 6 : at + 14], "little")
        if position != NO_POSITION and len(tail) >= at + 27:
            return position
    return None
