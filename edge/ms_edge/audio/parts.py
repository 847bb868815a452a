"""Find the recordings in a chained Ogg file. libsndfile decodes only the first of them.

Ogg files may be chained (RFC 3533, section 4); recordings of internet radio are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ms_edge.audio.riff import ReadAt

MAX_OGG_PAGE = 27 + 255 + 255 * 255
CONTINUED, FIRST, LAST = 1, 2, 4  # flags of an Ogg page
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte with its bits reversed
MAX_PARTS = 10_000
MAX_HEADER_PAGES = 100  # before the first audio
MOST_FALL = 1 << 31  # of the positions in Ogg, in samples; libsndfile subtracts them as 32-bit integers
MOST_CUT_OFF = 8192  # samples of delay and padding at the ends of an MP3 file, which decoders remove
MAX_GAPS = 1_000  # places where no page follows a page; the search for the next one takes longer than a page


@dataclass
class Part:
    """Sections of a file that libsndfile decodes as one recording.

    `stretches` are the sections as (start, end) offsets in bytes. `length` is the length in bytes
    that libsndfile is told, and `samples` the number of samples per channel at `sample_rate_hz`; 0
    means that libsndfile determines it. `direct` means that the part is the whole file and
    libsndfile can decode it as it is.
    """

    stretches: list[tuple[int, int]]
    length: int = 0
    samples: int = 0
    sample_rate_hz: int = 0
    direct: bool = False


def ogg_parts(read_at: ReadAt, falls: list[int] | None = None) -> list[int]:
    """Return the offsets of the recordings in an Ogg file.

    A recording begins where the first page of a stream follows a page that is not a first page. For
    each recording, `falls` gets by how much the position (granule) of the last page of its first
    stream is below the highest.
    """
    starts, offset, before, before_is_first, gaps = [0], 0, 0, True, 0
    serial, highest, last = read_at(14, 4), 0, 0
    falls = [] if falls is None else falls
    while len(page := read_at(offset, 27 + 255)) >= 27 and len(starts) < MAX_PARTS:
        if page[:4] != b"OggS":
            # The previous page may be shorter than it declares, with the next one inside it.
            skipped = read_at(before + 4, 2 * MAX_OGG_PAGE).find(b"OggS")
            gaps += 1
            if skipped < 0 or gaps > MAX_GAPS:
                break
            offset = before + 4 + skipped
            continue
        is_first = bool(page[5] & FIRST)
        if is_first and not before_is_first:
            starts.append(offset)
            falls.append(highest - last)
            serial, highest, last = page[14:18], 0, 0
        position = int.from_bytes(page[6:14], "little", signed=True)
        if position >= 0 and page[14:18] == serial:
            highest, last = max(highest, position), position
        before, before_is_first = offset, is_first
        offset += 27 + page[26] + sum(page[27 : 27 + page[26]])
    falls.append(highest - last)
    return starts


def opus_begins_before_0(read_at: ReadAt) -> bool:
    """Return whether pages of Opus are missing before the first audio, although its position says that none is.

    The position of a page is that of its end (RFC 7845, section 4), so that it would begin before 0.
    libsndfile then counts wrongly, and gives memory that nobody has written.
    """
    offset = expected = 0
    for _ in range(MAX_HEADER_PAGES if read_at(28, 8) == b"OpusHead" else 0):
        page = read_at(offset, MAX_OGG_PAGE)
        if page[:4] != b"OggS" or len(page) < 27 or len(page) < 27 + page[26]:
            return False
        position, number = struct.unpack_from("<q4xI", page, 6)
        laced = page[27 : 27 + page[26]]
        if position > 0:
            return bool(number > expected and position < _opus_samples(page, laced))
        expected, offset = number + 1, offset + 27 + len(laced) + sum(laced)
    return False


def _opus_samples(page: bytes, laced: bytes) -> int:
    """Return the samples at 48 kHz of all packets that end in a page (RFC 6716, section 3.1)."""
    samples, at, size = 0, 27 + len(laced), 0
    for piece in laced:
        size += piece
        if piece < 255:
            head = page[at : at + 2]
            if len(head) == 2 or (head and head[0] & 3 < 3):
                config, code = head[0] >> 3, head[0] & 3
                frame = 120 << (config & 3)  # CELT: 2.5 to 20 ms
                if config < 12:  # SILK: 10, 20, 40, 60 ms
                    frame = (480, 960, 1920, 2880)[config & 3]
                elif config < 16:  # both: 10, 20 ms
                    frame = 480 << (config & 1)
                samples += frame * (head[1] & 63 if code == 3 else min(code + 1, 2))
            at, size = at + size, 0
    return samples


def ogg_end(read_at: ReadAt, size: int) -> str | None:
    """Return the warning for the end of the Ogg data in the first `size` bytes of a file, if any.

    It is `truncated` if they end without a last page: RFC 3533, section 6, requires a page with the
    flag `LAST`. It is `damaged` if the check sum of that page is wrong. libsndfile ignores such a
    page, and reports neither.
    """
    end = read_at(max(0, size - MAX_OGG_PAGE), min(size, MAX_OGG_PAGE))
    at = end.rfind(b"OggS")
    if at < 0 or len(end) < at + 27 or len(end) < at + 27 + end[at + 26]:
        return "truncated"
    after = at + 27 + end[at + 26] + sum(end[at + 27 : at + 27 + end[at + 26]])
    if not end[at + 5] & LAST or len(end) < after:
        return "truncated"
    page = end[at : at + 22] + bytes(4) + end[at + 26 : after]
    return None if _ogg_crc(page) == int.from_bytes(end[at + 22 : at + 26], "little") else "damaged"


def _ogg_crc(page: bytes) -> int:
    """Return the check sum of a page whose own check sum is zeros (RFC 3533, section 6).

    It is the CRC of zlib with all bits in reverse order, and without its complements.
    """
    import zlib  # imported here because WAV and FLAC do not need it

    crc = zlib.crc32(page.translate(REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{crc:032b}"[::-1], 2)
