"""Facts about MP4, M4A, MOV and 3GP, with and without fragments.

Sources: ISO/IEC 14496-12 (boxes, sample tables, edit lists, fragments, segment index); Apple,
QuickTime File Format (the same, before it was a standard); the iTunSMPB tag of iTunes (encoder delay
and padding) is described in Apple, Technical Q&A QA1636.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sized
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ms_edge.audio.facts.reader import MOST_PACKETS, EndOfFileError, Facts, Reader, TooManyStepsError
from ms_edge.audio.facts.times import utc

SINCE_1904_S = 2_082_844_800  # from 1904 to 1970
PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"mvex", b"moof", b"traf"}
MAX_TABLE = 1 << 24  # entries of a table; ten hours of AAC have 1.6 million
TABLE_BLOCK = 3 << 14  # entries of a table in memory at a time: whole rows of 1, 2, 3 and 4 of them
BOX_HEAD = 8  # bytes of a size and a type
MAX_DEPTH = 8  # of boxes inside boxes
MAX_KEPT = 10_000  # tracks, edits, and different durations of packets; this limits memory
# The audio of an intact file may be shorter than stated: FAAC ends with an empty packet, and packets
# whose durations vary follow a clock that is not that of the samples.
MOST_DELAY = 8192  # samples of an encoder's delay and padding, which an edit list leaves out
SLACK_PACKETS, DRIFT = 2, 0.005
# If the table of durations holds one duration, and that is 1, FFmpeg lists PCM by pieces of up to 1024
# samples, and other codings without a table of sizes by frames, of which those of GSM are the shortest.
PCM = {b"sowt", b"twos", b"raw ", b"NONE", b"in24", b"in32", b"fl32", b"fl64", b"lpcm", b"ulaw", b"alaw"}
PCM_PIECE, SHORTEST_FRAME = 1024, 160
# A compressed header, as QuickTime wrote them: its sizes, and a number of packets above every limit.
MAX_COMPRESSED, MAX_HEADER, TOO_MANY = 1 << 20, 1 << 24, 1 << 40
MOST_DURATION = (1 << 31) - 1 - 480_000  # FFmpeg takes a longer one for 1

Numbers = NDArray[np.int64]
Box = tuple[bytes, int, int]  # its type, and the offsets of its body and of its end


@dataclass
class _Track:
    """What the boxes of a track state; durations and times in units of `scale` per second."""

    kind: bytes = b""
    scale: int = 0
    durations: Counter[int] = field(default_factory=Counter)  # the number of packets of each duration
    tables: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    edits: list[tuple[int, int]] = field(default_factory=list)  # duration in movie time, start in media time
    begin: int = 0  # the time of the first packet, which a fragment states
    end: int = 0  # of the last packet, as an offset in the file


@dataclass
class _Movie:
    scale: int = 0
    created: int = 0
    in_fragments: int = 0  # packets that fragments state, of all tracks, or a compressed header
    compressed: bool = False  # a compressed header was read
    tracks: list[_Track] = field(default_factory=list)
    numbered: dict[int, _Track] = field(default_factory=dict)  # the same tracks
    defaults: dict[int, tuple[int, int]] = field(default_factory=dict)  # by track: duration, size of packets
    original: int = 0  # samples before encoding, of iTunSMPB


def facts(data: Reader, track: int) -> Facts:
    """Return what the boxes state about the audio track with this number, from 1."""
    movie = _Movie()
    found, lowered = _of_track(data, movie, track), dict[int, int]()
    packets = movie.in_fragments + sum(_listed(data, each, lowered) for each in movie.tracks)
    return found._replace(packets=packets, lowered=tuple(lowered.items()))


def _of_track(data: Reader, movie: _Movie, track: int) -> Facts:
    """Return the facts about a track, and fill the empty `movie`."""
    cut, fragments, end = False, False, 0
    try:
        for name, body, end in _boxes(data, 0, data.size):
            cut |= end > data.size
            fragments |= name == b"moof"
            if name == b"moov":
                _moov(data, movie, body, end)
            elif name == b"moof":
                _moof(data, movie, body, end)
            elif name == b"sidx":
                cut |= _sidx_end(data, body, end) > data.size
    except EndOfFileError:
        cut = True
    except TooManyStepsError:
        return Facts(cut=cut)
    cut |= fragments and 0 < data.size - end < BOX_HEAD  # the first bytes of another fragment
    heard = [each for each in movie.tracks if each.kind == b"soun"]
    if not 1 <= track <= len(heard):
        return Facts(cut=cut)
    chosen = heard[track - 1]
    try:
        _count(data, chosen)
    except EndOfFileError:
        cut = True
    except TooManyStepsError:
        return Facts(cut=cut)
    return _result(movie, chosen, cut or chosen.end > data.size)


def _boxes(data: Reader, start: int, stop: int) -> Iterator[Box]:
    """Yield the boxes between two offsets. The end of the last one may lie after `stop`.

    Raises EndOfFileError if the file ends within the header of a box.
    """
    while start < stop:
        data.step()
        head = data.at(start, 8)
        if len(head) < 8:
            if any(head):
                raise EndOfFileError
            return
        size, body = int.from_bytes(head[:4], "big"), start + 8
        if size == 1:
            size, body = data.number(body, 8), body + 8
        elif size == 0:
            size = stop - start
        if size < body - start:  # zeros or other bytes that are no box
            return
        yield head[4:], body, start + size
        start += size


def _inside(data: Reader, start: int, stop: int, depth: int = 0) -> Iterator[Box]:
    """Yield the boxes between two offsets and those inside the parents among them, depth first."""
    for name, body, end in _boxes(data, start, stop):
        yield name, body, min(end, stop)
        if name in PARENTS and depth < MAX_DEPTH:
            yield from _inside(data, body, min(end, stop), depth + 1)


def _moov(data: Reader, movie: _Movie, start: int, stop: int) -> None:
    track = _Track()
    for name, body, end in _inside(data, start, stop):
        wide = 8 if data.at(body, 1) == b"\1" else 4  # version 1 has times of 64 bits
        if name == b"mvhd":
            movie.created, movie.scale = data.number(body + 4, wide), data.number(body + 4 + 2 * wide, 4)
        elif name == b"trak" and len(movie.tracks) < MAX_KEPT:
            track = _Track()
            movie.tracks.append(track)
        elif name == b"tkhd":
            movie.numbered[data.number(body + 4 + 2 * wide, 4)] = track
        elif name == b"mdhd":
            track.scale = data.number(body + 4 + 2 * wide, 4)
        elif name == b"hdlr":
            track.kind = track.kind or data.at(body + 8, 4)
        elif name in (b"stsd", b"stts", b"stsz", b"stz2", b"stsc", b"stco", b"co64"):
            track.tables[name] = body, end
        elif name == b"elst":
            track.edits = list(_edits(data, body, wide))
        elif name == b"trex" and len(movie.defaults) < MAX_KEPT:
            movie.defaults[data.number(body + 4, 4)] = data.number(body + 12, 4), data.number(body + 16, 4)
        elif name == b"cmov":
            movie.in_fragments += TOO_MANY if movie.compressed else _compressed(data, body, end)
            movie.compressed = True
        elif name == b"udta":
            movie.original = movie.original or _original(data.at(body, min(end - body, 1 << 20)))


def _compressed(data: Reader, start: int, stop: int) -> int:
    """Return how many packets FFmpeg lists because of the compressed header between two offsets."""
    found = next((box for box in _boxes(data, start, stop) if box[0] == b"cmvd"), None)
    if not found:
        return 0
    packed = data.at(found[1] + 4, min(stop - found[1], MAX_COMPRESSED))
    with contextlib.suppress(zlib.error):
        header = zlib.decompressobj().decompress(packed, MAX_HEADER)
        inner, movie, lowered = (
            Reader(lambda at, count: header[at : at + count], len(header)),
            _Movie(),
            dict[int, int](),
        )
        movie.compressed = True  # it has no other one in it
        with contextlib.suppress(EndOfFileError, TooManyStepsError):
            _moov(inner, movie, 0, len(header))
        packets = movie.in_fragments + sum(_listed(inner, each, lowered) for each in movie.tracks)
        return TOO_MANY if lowered or len(header) == MAX_HEADER or len(packed) == MAX_COMPRESSED else packets
    return 0


def _edits(data: Reader, body: int, wide: int) -> Iterator[tuple[int, int]]:
    """Yield the edits: a duration in movie time and a start in media time, -1 for an empty edit."""
    for i in range(min(data.number(body + 4, 4), MAX_KEPT)):
        at = body + 8 + i * (2 * wide + 4)
        start = data.number(at + wide, wide)
        yield data.number(at, wide), start if start < 1 << (8 * wide - 1) else -1


def _original(tags: bytes) -> int:
    """Return the number of samples that iTunSMPB states in these tags; 0 without it."""
    at = tags.find(b"iTunSMPB")
    stated = re.search(rb" [0-9A-F]{8} ([0-9A-F]{8}) ([0-9A-F]{8}) ([0-9A-F]{16})", tags[at : at + 200])
    return int(stated[3], 16) if at >= 0 and stated else 0


def _table(data: Reader, at: int, count: int, width: int) -> Iterator[Numbers]:
    """Yield `count` big-endian numbers of `width` bytes in blocks (n,)."""
    for start in range(0, min(count, MAX_TABLE), TABLE_BLOCK):
        n = min(TABLE_BLOCK, count - start)
        block = data.at(at + start * width, n * width)
        if len(block) < n * width:
            raise EndOfFileError
        yield np.frombuffer(block, f">u{width}").astype(np.int64)


def _count(data: Reader, track: _Track) -> None:
    """Add the packets of the sample tables to a track, and find the end of the last one."""
    if b"stts" in track.tables:
        at = track.tables[b"stts"][0]
        for runs in _table(data, at + 8, 2 * data.number(at + 4, 4), 4):
            for count, duration in runs[: len(runs) // 2 * 2].reshape(-1, 2).tolist():
                data.step()
                track.durations[duration] += count
                track.begin = 0 if count else track.begin  # these packets come before those of fragments
            _require_few(track.durations)
    width = 8 if b"co64" in track.tables else 4
    if not {b"stsc", b"co64" if width == 8 else b"stco"} <= set(track.tables):
        return
    at = track.tables[b"co64" if width == 8 else b"stco"][0]
    chunks, last, offset = min(data.number(at + 4, 4), MAX_TABLE), 0, 0
    for index, offsets in enumerate(_table(data, at + 8, chunks, width)):
        most = int(offsets.argmax())
        if offsets[most] > offset:
            last, offset = index * TABLE_BLOCK + most, int(offsets[most])
    first, count = _packets_of_chunk(data, track.tables[b"stsc"][0], last)
    if offset:
        track.end = max(track.end, offset + _bytes_of_packets(data, track, first, count))


def _listed(data: Reader, track: _Track, lowered: dict[int, int]) -> int:
    """Return how many packets FFmpeg lists because of numbers in the sample tables of a track.

    A number for each packet takes bytes of the file. Only packets that have none are counted. Adds a
    number that the file is far too small for to `lowered`, by its offset, with the one that it can hold.
    """
    tables, pieces, packets = track.tables, 0, 0
    try:
        if b"stts" in tables and data.number(tables[b"stts"][0] + 4, 4) == 1:
            duration = data.number(tables[b"stts"][0] + 12, 4)
            if duration == 1 or duration > MOST_DURATION:
                pieces = _pieces(data, tables)
        if pieces and track.kind == b"soun":
            return pieces
        if b"stsz" in tables and (each := data.number(tables[b"stsz"][0] + 4, 4)):
            at = tables[b"stsz"][0] + 8
            packets = data.number(at, 4)
            if packets > data.size + MOST_PACKETS:
                lowered[at] = packets = data.size // each + 1
    except (EndOfFileError, TooManyStepsError):
        pass
    return max(pieces, packets)


def _pieces(data: Reader, tables: dict[bytes, tuple[int, int]]) -> int:
    """Return into how many pieces FFmpeg divides the chunks of a track."""
    coding = data.at(tables[b"stsd"][0] + 12, 4) if b"stsd" in tables else b""
    most = PCM_PIECE if coding in PCM else SHORTEST_FRAME
    offsets = tables.get(b"co64") or tables.get(b"stco")
    if not offsets or b"stsc" not in tables:
        return 0
    chunks, at = data.number(offsets[0] + 4, 4), tables[b"stsc"][0]
    chunks = min(chunks, (data.size - offsets[0]) // 4)  # there are as many as have an offset
    pieces, before, each = 0, 0, 0
    for runs in _table(data, at + 8, 3 * data.number(at + 4, 4), 4):
        for first, samples in runs[: len(runs) // 3 * 3].reshape(-1, 3)[:, :2].tolist():
            data.step()
            pieces += max(0, min(first - 1, chunks) - before) * each
            before, each = max(before, first - 1), -(-samples // most)
    return pieces + max(0, chunks - before) * each


def _require_few(kept: Sized) -> None:
    """Raise TooManyStepsError for more than any recording has."""
    if len(kept) > MAX_KEPT:
        raise TooManyStepsError


def _packets_of_chunk(data: Reader, at: int, chunk: int) -> tuple[int, int]:
    """Return the index of the first packet of a chunk, from 0, and the number of its packets."""
    before, previous, count = 0, 0, 0
    for runs in _table(data, at + 8, 3 * data.number(at + 4, 4), 4):
        for run in runs[: len(runs) // 3 * 3].reshape(-1, 3)[:, :2].tolist():
            data.step()
            if run[0] - 1 > chunk:
                return before + (chunk - previous) * count, count
            before += (run[0] - 1 - previous) * count
            previous, count = run[0] - 1, run[1]
    return before + (chunk - previous) * count, count


def _bytes_of_packets(data: Reader, track: _Track, first: int, count: int) -> int:
    """Return the size of some packets, from the table of sizes."""
    if b"stsz" in track.tables:
        at = track.tables[b"stsz"][0]
        if size := data.number(at + 4, 4):
            # Of PCM in QuickTime, the size of a packet is the size of one sample.
            return size * count
        entries = min(count, max(0, data.number(at + 8, 4) - first))
        return sum(int(block.sum()) for block in _table(data, at + 12 + 4 * first, entries, 4))
    return 0


def _moof(data: Reader, movie: _Movie, start: int, stop: int) -> None:
    """Add the packets of a fragment to their tracks."""
    track, base, duration, size = _Track(), start - 8, 0, 0
    for name, body, _ in _inside(data, start, stop):
        if name == b"tfdt" and not track.durations:
            track.begin = data.number(body + 4, 8 if data.at(body, 1) == b"\1" else 4)
        if name not in (b"tfhd", b"trun"):
            continue
        flags, at = data.number(body + 1, 3), body + 8
        if name == b"tfhd":
            number = data.number(body + 4, 4)
            track = movie.numbered.get(number, _Track())
            duration, size = movie.defaults.get(number, (0, 0))
            base = start - 8
            if flags & 1:
                base, at = data.number(at, 8), at + 8
            at += 4 if flags & 2 else 0
            if flags & 8:
                duration, at = data.number(at, 4), at + 4
            if flags & 16:
                size = data.number(at, 4)
        else:
            movie.in_fragments += data.number(body + 4, 4)
            base = _trun(data, track, body, base, duration, size)


def _trun(data: Reader, track: _Track, body: int, base: int, duration: int, size: int) -> int:
    """Add one run of packets to a track. Return the offset of its end."""
    flags, count, at = data.number(body + 1, 3), data.number(body + 4, 4), body + 8
    if flags & 1:
        base, at = base + (data.number(at, 4) ^ 1 << 31) - (1 << 31), at + 4
    at += 4 if flags & 4 else 0
    columns = [bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800)]
    held = count * size
    width = sum(columns)
    if not columns[0]:
        track.durations[duration] += count
    if columns[0] or columns[1]:
        held = 0 if columns[1] else held
        for block in _table(data, at, count * width, 4):
            if columns[0]:
                track.durations.update(block[::width].tolist())
                _require_few(track.durations)
            if columns[1]:
                held += int(block[columns[0] :: width].sum())
    track.end = max(track.end, base + held)
    return base + held


def _sidx_end(data: Reader, body: int, end: int) -> int:
    """Return the offset where the last segment of a segment index ends."""
    wide = 8 if data.at(body, 1) == b"\1" else 4
    at = end + data.number(body + 12 + wide, wide)
    count = data.number(body + 12 + 2 * wide + 2, 2)
    fields = _table(data, body + 16 + 2 * wide, 3 * count, 4)
    return at + sum(int((block[::3] & 0x7FFF_FFFF).sum()) for block in fields)


def _result(movie: _Movie, track: _Track, cut: bool) -> Facts:
    """Apply the edit list, and turn the numbers of a track into facts."""
    packets = sum(track.durations.values())
    if not track.scale or not packets:
        return Facts(cut=cut, recorded_at=utc(movie.created - SINCE_1904_S))
    # A recorder that lost packets states a longer duration for the packet before. No decoder fills
    # such a gap.
    usual = track.durations.most_common(1)[0][0]
    total = sum(count * (usual if each > 2 * usual else each) for each, count in track.durations.items())
    steady = track.durations[usual] >= 0.99 * packets
    shown, delay_s = float(total), 0.0
    slack_s = (SLACK_PACKETS * usual + (0 if steady else DRIFT * total)) / track.scale
    movie_s = 1 / movie.scale if movie.scale else 0.0
    if track.edits and movie_s:
        shown = 0.0
        for duration, start in track.edits:
            rest = max(0, total - start)
            if start >= 0:
                shown += min(duration * movie_s * track.scale, rest) if duration else rest
            elif not shown:
                delay_s += duration * movie_s
        slack_s += len(track.edits) * movie_s
    primed = next((start for _, start in track.edits if start >= 0), 0)
    delay_s += max(0, track.begin - primed) / track.scale
    edited = len(track.edits) > 1 or shown < total - MOST_DELAY
    if movie.original and len(movie.tracks) == 1:
        shown = min(shown, movie.original)
    return Facts(int(shown), track.scale, cut, utc(movie.created - SINCE_1904_S, delay_s), slack_s, edited=edited)
