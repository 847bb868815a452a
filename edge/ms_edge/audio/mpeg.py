"""Find every frame of MPEG audio (MP3, MP2, MP1) in a file.

libsndfile estimates the length of a file without a Xing header from the size of its first frame,
and stops there. It refuses a file that does not begin with a frame, and stops at other bytes
between frames. This module therefore reads the headers of all frames first. libsndfile then gets
only the frames, and a length in bytes that makes its estimate exact.

Sources: ISO/IEC 11172-3 and 13818-3, and the unofficial MPEG 2.5 (frames);
gabriel.mp3-tech.org/mp3infotag.html (Xing and Info headers).
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from ms_edge.audio.parts import Part
from ms_edge.audio.riff import ReadAt

RATES_HZ = (44_100, 48_000, 32_000)  # of MPEG 1
RATE_DIVISOR = {3: 1, 2: 2, 0: 4}  # by the two bits of the version: MPEG 1, 2, 2.5
KBIT_S = {  # by (is MPEG 1, layer); 0 means free format, where all frames have the same, arbitrary size
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MIN_FRAME = 24  # bytes of the smallest frame of MP3
MIN_FREE, MAX_FRAME = 40, 3456  # bytes of a frame in free format; libmpg123 decodes no larger frame
# The offset of the mark in a frame that states the length of its part, by (is MPEG 1, is mono).
MARK_AT = {(True, False): 36, (True, True): 21, (False, False): 21, (False, True): 13}
VBRI_AT = 36
MARKS = frozenset((b"Xing", b"Info", b"VBRI"))
CANDIDATE = re.compile(rb"\xff(?=[\xe2-\xff][\x00-\xef])")  # a frame may begin here

BLOCK = 1 << 17  # bytes read at a time
AHEAD = 4 * MAX_FRAME  # enough bytes to see whether frames follow one another
MAX_JUNK = 1 << 20  # bytes searched for the first frame after a tag, which may be larger than it declares
MAX_TRIES = 200_000  # candidates checked between frames; 100 MB of noise have 20,000
MAX_STRETCHES = 100_000  # in one file: each is a run of frames that follow one another
MAX_TAGS = 10_000  # one after another
MIN_REST = 4096  # this many bytes after the last frame cause a warning


def mpeg_parts(read_at: ReadAt, start: int, end: int) -> tuple[list[Part], list[str]]:
    """Find the frames between two offsets of a file that `read_at(offset, count)` reads.

    Returns the parts and the warnings. A part has all frames of one kind (version, layer, sampling
    rate, number of channels) up to the next header that states a length. There is no part if this
    is not MPEG audio. The warnings are `truncated` if the last frame is incomplete or a header
    states more than there is, `damaged` if there are other bytes between frames, before the first,
    or in place of the last ones that a header states, and `bad-header` if many bytes follow the last frame.
    """
    return _Walk(read_at, start, end).parts()


class _Sizes(dict[bytes, int]):
    """The size of a frame in bytes, by the four bytes of its header; 0 for a frame of another kind.

    `free` is the size of a frame in free format, without padding; 0 for other frames.
    """

    def __init__(self, header: bytes, free: int = 0) -> None:
        self._kind = _kind(header)
        self._free = free
        version, rate, self.layer, mono = self._kind
        mpeg1 = version == 3
        self.samples = 384 if self.layer == 1 else 576 if self.layer == 3 and not mpeg1 else 1152
        self.slot = 4 if self.layer == 1 else 1  # the unit of frame sizes, in bytes
        self.mark_at = MARK_AT[mpeg1, mono]
        self._kbit_s = KBIT_S[mpeg1, self.layer]
        self.rate_hz = RATES_HZ[rate] // RATE_DIVISOR[version]

    def __missing__(self, header: bytes) -> int:
        if not _is_header(header) or _kind(header) != self._kind or (header[2] < 0x10) != bool(self._free):
            return 0
        bytes_s = self._kbit_s[header[2] >> 4] * 125
        size = self._free or self.samples * bytes_s // (self.rate_hz * self.slot) * self.slot
        self[header] = size = size + self.slot * (header[2] >> 1 & 1)
        return size


class _Stated(NamedTuple):
    """What a Xing, Info or VBRI header states about the length of its part; None for no statement."""

    frames: int | None  # without the frame of the header
    bytes: int | None  # with the frame of the header
    known: bool  # libsndfile reads this header, and removes the delay of the encoder that it states

    @property
    def frames_known(self) -> int:
        """The number of frames that libsndfile would decode; -1 if it would estimate it."""
        return self.frames if self.known and self.frames is not None else -1

    def more_than(self, frames: int, size: int) -> bool:
        """Return whether all stated values exceed the ones found.

        Encoders count frames and bytes differently, so one value that is larger proves nothing.
        """
        over = [a > b for a, b in ((self.frames, frames), (self.bytes, size)) if a is not None]
        return bool(over) and all(over)


class _Walk:
    """One pass over a file, with one block in memory at a time."""

    def __init__(self, read_at: ReadAt, start: int, end: int) -> None:
        self._read_at = read_at
        self._start, self._whole = start, end
        self._end = before_tags(read_at, start, end)
        self._base, self._block = 0, b""
        self._tries, self._stretches = MAX_TRIES, MAX_STRETCHES  # remaining
        self._warnings: list[str] = []

    def parts(self) -> tuple[list[Part], list[str]]:
        """Return the parts and the warnings, as `mpeg_parts` describes."""
        parts: list[Part] = []
        at = self._first()
        while at is not None:
            part, at = self._part(at)
            if part:
                parts.append(part)
        return parts, self._warnings

    def _first(self) -> int | None:
        """Return the offset of the first frame: after tags, or after an incomplete first frame."""
        tagged = _tag_bytes(self._read_at(self._start, 32)) > 0
        after = after_tags(self._read_at, self._start)
        if after >= self._end:  # a tag that declares too large a size
            after = self._start
        if self._follow(after, 2):
            return after
        found = self._search(after, after + (MAX_JUNK if tagged else MAX_FRAME))
        if found is not None and any(self._read_at(after, found - after)):  # zeros are the padding of a tag
            self._warn("damaged")
        return found

    def _part(self, first: int) -> tuple[Part | None, int | None]:
        """Return the part that begins at a frame, and the offset of the next part.

        The part is None if it is too short, and the offset is None at the end.
        """
        sizes = self._sizes(first)
        assert sizes is not None
        stated = self._stated(first, sizes)
        begin = at = first + (self._size(first, sizes) if stated else 0)
        part = Part([], self._size(at, sizes), 0, sizes.rate_hz)
        while True:
            at, frames = self._frames(begin, sizes)
            if frames:
                part.stretches.append((begin, at))
                part.samples += frames * sizes.samples
                self._stretches -= 1
            rest = after_tags(self._read_at, at)
            following = self._search(rest, self._end) if self._stretches > 0 else None
            if following is None:
                self._leave(rest, sizes)
                break
            if following > rest:
                self._warn("damaged")
            # In free format the frames from here on may have another size, so that none was found.
            if following == begin or not self._size(following, sizes) or self._stated(following, sizes):
                break
            begin = following
        frames = part.samples // sizes.samples
        if stated and stated.more_than(frames, (self._whole if following is None else rest) - first):
            self._warn("truncated")
        elif stated and following is None and self._end - rest >= MIN_FRAME and (stated.frames or 0) > frames:
            # What follows the last frame is the rest of the frames; `_leave` has reported one that is cut.
            self._warnings += [] if self._warnings else ["damaged"]
        kept = bool(stated and stated.frames_known >= frames > 0)
        part.length *= frames
        if following is None and len(part.stretches) == 1:
            # Too high an estimate is harmless, because libsndfile stops at the end of the file.
            decoded = stated.frames_known == frames if stated else part.length <= self._end
            to_the_end = after_tags(self._read_at, at) >= self._whole
            part.direct = decoded and to_the_end and self._begins_file(first)
        if kept:
            part.stretches.insert(0, (first, part.stretches[0][0]))
            part.length = sum(end - begin for begin, end in part.stretches)
        return (part if frames + kept > 1 else None), following

    def _frames(self, at: int, sizes: _Sizes) -> tuple[int, int]:
        """Follow frames of one kind that directly follow one another.

        Returns the offset of their end and how many there are. They also end before a header that
        states the length of another part.
        """
        frames, mark, end_of_mark = 0, sizes.mark_at, sizes.mark_at + 4
        while True:
            block, i = self._load(at)
            began, end = i, len(block)
            while (size := sizes[block[i : i + 4]]) and i + size <= end:
                if block[i + mark : i + end_of_mark] in MARKS and _stated(block, i, sizes):
                    return self._base + i, frames
                i += size
                frames += 1
            at = self._base + i
            cut = i + (size or 4) > end  # by the end of the block
            if not cut or i == began or self._base + end >= self._end:
                return at, frames

    def _search(self, at: int, limit: int) -> int | None:
        """Return the offset before `limit` of the next frame that others follow; None without one."""
        limit = min(limit, self._end)
        while at < limit:
            block, i = self._load(at)
            last = self._base + len(block) >= self._end
            stop = len(block) if last else len(block) - AHEAD
            for match in CANDIDATE.finditer(block, i, stop + 2):  # 2: the pattern looks ahead
                place = self._base + match.start()
                self._tries -= 1
                if place >= limit or self._tries < 0:
                    return None
                if self._follow(place, 3):
                    return place
            at = self._base + stop
            if stop <= i:  # the file was shortened meanwhile
                return None
        return None

    def _follow(self, at: int, wanted: int) -> bool:
        """Return whether `wanted` frames of one kind follow one another from an offset.

        Two are enough before the end or a tag.
        """
        sizes = self._sizes(at)
        if sizes is None:
            return False
        block, i = self._load(at)
        found = 0
        while found < wanted and (size := sizes[block[i : i + 4]]) and i + size <= len(block):
            i += size
            found += 1
        ended = bool(size) or self._base + i + 4 > self._end or _tag_bytes(block[i : i + 32]) > 0
        return found >= wanted or (found >= 2 and ended)

    def _sizes(self, at: int) -> _Sizes | None:
        """Return the sizes of frames like the one at an offset; None if no frame begins there."""
        block, i = self._load(at)
        header = block[i : i + 4]
        if not _is_header(header):
            return None
        sizes = _Sizes(header)
        if header[2] >= 0x10:
            return sizes
        # Free format: the distance to the next header, if a third header follows at the same
        # distance.
        padding = sizes.slot * (header[2] >> 1 & 1)
        j = i + MIN_FREE
        while (j := block.find(header[:2], j, i + MAX_FRAME + 4)) >= 0 and self._tries > 0:
            self._tries -= 1
            sizes = _Sizes(header, j - i - padding)
            if (size := sizes[block[j : j + 4]]) and sizes[block[j + size : j + size + 4]]:
                return sizes
            j += 1
        return None

    def _size(self, at: int, sizes: _Sizes) -> int:
        block, i = self._load(at)
        return sizes[block[i : i + 4]]

    def _stated(self, at: int, sizes: _Sizes) -> _Stated | None:
        return _stated(*self._load(at), sizes)

    def _load(self, at: int) -> tuple[bytes, int]:
        """Return a block, and the position in it of an offset.

        At least AHEAD bytes follow the position, fewer at the end of the file.
        """
        i = at - self._base
        end = self._base + len(self._block)
        if i < 0 or at > end or (at + AHEAD >= end and end < self._end):
            self._base, i = at, 0
            self._block = self._read_at(at, max(0, min(BLOCK, self._end - at)))
        return self._block, i

    def _leave(self, rest: int, sizes: _Sizes) -> None:
        """Warn about the bytes that follow the last frame."""
        left = self._end - rest
        if left <= 0:
            return
        block, i = self._load(rest)
        incomplete = sizes[block[i : i + 4]] > left or (left < 4 and block[i : i + 1] == b"\xff")
        if incomplete or min(self._tries, self._stretches) <= 0:
            self._warn("truncated")
        elif left >= MIN_REST:
            self._warn("bad-header")

    def _begins_file(self, frame: int) -> bool:
        """Return whether a frame is at the beginning, or after one ID3v2 tag that libsndfile skips."""
        if frame == 0 or self._start:
            return frame == 0
        head = self._read_at(0, 32)
        return head[:3] == b"ID3" and not head[5] & 0x10 and _tag_bytes(head) == frame

    def _warn(self, code: str) -> None:
        if code not in self._warnings:
            self._warnings.append(code)


def _is_header(header: bytes) -> bool:
    """Return whether four bytes are the header of a frame: valid version, layer, rates."""
    return (
        len(header) == 4
        and header[0] == 0xFF
        and header[1] >= 0xE0
        and header[1] & 0x18 != 0x08
        and header[1] & 0x06 != 0
        and header[2] < 0xF0
        and header[2] & 0x0C != 0x0C
    )


def _kind(header: bytes) -> tuple[int, int, int, bool]:
    """Return the coded version and sampling rate, the layer, and whether the frame is mono."""
    return header[1] >> 3 & 3, header[2] >> 2 & 3, 4 - (header[1] >> 1 & 3), header[3] >> 6 == 3


def _stated(block: bytes, i: int, sizes: _Sizes) -> _Stated | None:
    """Return what the frame at `i` states about its part; None for an ordinary frame."""
    if sizes.layer != 3:
        return None
    frame, at = block[i : i + sizes[block[i : i + 4]]], sizes.mark_at
    # libmpg123 recognises the header by its side information, which is all zeros.
    if frame[at : at + 4] in (b"Xing", b"Info") and not any(frame[6:at]) and len(frame) >= at + 8:
        flags = frame[at + 7]
        frames = _number(frame, at + 8) if flags & 1 else None
        size = _number(frame, at + (12 if flags & 1 else 8)) if flags & 2 else None
        return _Stated(frames, size, True)
    if frame[VBRI_AT : VBRI_AT + 4] == b"VBRI":
        return _Stated(_number(frame, VBRI_AT + 14), _number(frame, VBRI_AT + 10), False)
    return None


def _number(frame: bytes, at: int) -> int | None:
    """Return a 32-bit number of a header; None if it is missing, or 0 as encoders write to a pipe."""
    return (struct.unpack(">I", frame[at : at + 4])[0] or None) if len(frame) >= at + 4 else None


def _tag_bytes(head: bytes) -> int:
    """Return the size of the ID3v2, ID3v1 or APE tag in these 32 bytes; 0 if there is none."""
    if head[:3] == b"ID3" and len(head) >= 10:
        a, b, c, d = head[6:10]
        return 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if head[5] & 0x10 else 0)
    if head[:3] == b"TAG":
        return 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        return 32 + int(struct.unpack("<I", head[12:16])[0])
    return 0


def after_tags(read_at: ReadAt, offset: int) -> int:
    """Return the offset after all tags that begin at an offset."""
    for _ in range(MAX_TAGS):
        if not (size := _tag_bytes(read_at(offset, 32))):
            break
        offset += size
    return offset


def before_tags(read_at: ReadAt, start: int, end: int) -> int:
    """Return the offset before all tags that end at `end`: ID3v1 and its extension, APE, Lyrics3."""
    for _ in range(4):
        if end - start < 512:
            break
        tail = read_at(end - 355, 355)
        size = 0
        if tail[-128:-125] == b"TAG":
            size = 355 if tail[:4] == b"TAG+" else 128
        elif tail[-32:-24] == b"APETAGEX":
            size, flags = struct.unpack("<I4xI", tail[-20:-8])
            size += 32 if flags >> 31 else 0
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            size = int(tail[-15:-9]) + 15
        if not 0 < size <= end - start:
            break
        end -= size
    return end
