"""Find where one recording ends and the next begins in an Ogg file: libsndfile decodes the first and says nothing.

Ogg may be chained (RFC 3533, section 4), as recordings of internet radio are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ReadAt = Callable[[int, int], bytes]

MAX_OGG_PAGE = 27 + 255 + 255 * 255
CONTINUED, FIRST, LAST = 1, 2, 4  # flags of an Ogg page
MAX_PARTS = 10_000
MAX_GAPS = 1_000  # places of an Ogg file where no page follows a page: looking for the next costs more than a page


@dataclass
class Part:
    """Stretches of a file, as (start, end), that libsndfile decodes as one recording.

    `length` is how long it is told that they are, in bytes, and `samples` how many there are of each channel; 0 where that is
    up to libsndfile. `direct`: the whole file is this part, and libsndfile decodes all of it.
    """

    stretches: list[tuple[int, int]]
    length: int = 0
    samples: int = 0
    direct: bool = False


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
