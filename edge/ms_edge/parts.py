"""Where one recording ends and the next begins, in files that hold several: libsndfile decodes the first and says nothing.

Ogg may be chained (RFC 3533, section 4), as recordings of internet radio are. MP3 files are joined by whoever likes to; where
the first has a Xing or Info header (gabriel.mp3-tech.org/mp3infotag.html), the decoder stops where that one ended.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

ReadAt = Callable[[int, int], bytes]

MAX_OGG_PAGE = 27 + 255 + 255 * 255
CONTINUED, FIRST, LAST = 1, 2, 4  # flags of an Ogg page
MAX_PARTS = 10_000
MAX_GAPS = 1_000  # places of an Ogg file where no page follows a page: looking for the next costs more than a page
MIN_REST = 4096  # bytes after the last frame of an MP3 file that are worth a word
# Bytes of an MPEG frame before its Xing header: version 1 or later, stereo or mono.
XING_AT = {(True, False): 36, (True, True): 21, (False, False): 21, (False, True): 13}


def ogg_parts(read_at: ReadAt) -> list[int]:
    """Where the links of an Ogg file begin: where a stream's first page follows a page that is none."""
    starts, offset, before, before_is_first, gaps = [0], 0, 0, True, 0
    while len(page := read_at(offset, 27 + 255)) >= 27 and len(starts) < MAX_PARTS:
        if page[:4] != b"OggS":
            # The page before may have been cut short, with the next within what it declares.
            skipped = read_at(before + 4, 2 * MAX_OGG_PAGE).find(b"OggS")
            gaps += 1
            if skipped < 0 or gaps > MAX_GAPS:
                break
            offset = before + 4 + skipped
            continue
        is_first = bool(page[5] & FIRST)
        if is_first and not before_is_first:
            starts.append(offset)
        before, before_is_first = offset, is_first
        offset += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return starts


def ogg_is_cut(read_at: ReadAt, size: int) -> bool:
    """Whether the first `size` bytes of an Ogg file end without the page that says so (RFC 3533, section 6).

    libsndfile does not tell.
    """
    end = read_at(max(0, size - MAX_OGG_PAGE), min(size, MAX_OGG_PAGE))
    page = end.rfind(b"OggS")
    if page < 0 or len(end) < page + 27 or len(end) < page + 27 + end[page + 26]:
        return True
    body = sum(end[page + 27 : page + 27 + end[page + 26]])
    return not end[page + 5] & LAST or len(end) < page + 27 + end[page + 26] + body


def mp3_parts(read_at: ReadAt, size: int) -> tuple[list[int], bool]:
    """Where the parts of an MP3 file begin, tags left out but those it begins with; and whether what follows is no part."""
    starts = [0]
    while len(starts) < MAX_PARTS:
        frame = _after_tags(read_at, starts[-1])
        declared = _xing_bytes(read_at(frame, 64))
        end = frame + (declared or size)
        if declared is None or end >= size:
            return starts, False
        rest = _after_tags(read_at, end)
        if size - rest < MIN_REST and _xing_bytes(read_at(rest, 64)) is None:
            return starts, False
        if not _is_frame(read_at(rest, 4)):
            return starts, True
        starts.append(rest)
    return starts, False


def is_mp3(read_at: ReadAt) -> bool:
    """Whether a file begins with a frame of MPEG audio, after its tags."""
    return _is_frame(read_at(_after_tags(read_at, 0), 4))


def _is_frame(header: bytes) -> bool:
    """Whether these four bytes begin a frame of MPEG audio: of some layer, at some bit rate and sampling rate."""
    return (
        len(header) >= 4
        and header[0] == 0xFF
        and header[1] >= 0xE0
        and header[1] & 0x06 != 0
        and header[2] < 0xF0
        and header[2] & 0x0C != 0x0C
    )


def _xing_bytes(frame: bytes) -> int | None:
    """Bytes from the beginning of this frame to the end of its part, where it says so."""
    if not _is_frame(frame):
        return None
    at = XING_AT[frame[1] & 0x18 == 0x18, frame[3] >> 6 == 3]
    if frame[at : at + 4] not in (b"Xing", b"Info") or len(frame) < at + 16:
        return None
    flags = frame[at + 7]
    where = at + 8 + (4 if flags & 1 else 0)
    return struct.unpack(">I", frame[where : where + 4])[0] or None if flags & 2 else None


def _after_tags(read_at: ReadAt, offset: int) -> int:
    """Past the ID3v2, ID3v1 and APE tags that begin here."""
    for _ in range(MAX_PARTS):
        head = read_at(offset, 32)
        if head[:3] == b"ID3" and len(head) >= 10:
            a, b, c, d = head[6:10]
            offset += 10 + (a << 21 | b << 14 | c << 7 | d)
        elif head[:3] == b"TAG":
            offset += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            offset += 32 + struct.unpack("<I", head[12:16])[0]
        else:
            break
    return offset
