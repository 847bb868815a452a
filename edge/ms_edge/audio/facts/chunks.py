"""Facts about WAV, AVI, AIFF, CAF, AU, Wave64, DSF, DSDIFF and others: files of chunks that state their size.

Sources: Microsoft, AVI RIFF File Reference and OpenDML AVI File Format Extensions 1.02; Apple, Audio
Interchange File Format 1.3 and AIFF-C; Apple, Core Audio Format Specification 1.0; Sun, Audio File
Format (AU); Sony, Wave64 File Format 1.0; Sony, DSF File Format Specification 1.01; Philips, DSDIFF
1.5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Literal

from ms_edge.audio.facts.reader import EndOfFileError, Facts, Reader, TooManyStepsError
from ms_edge.audio.facts.times import BEXT_BYTES, of_bext
from ms_edge.audio.riff import ENDLESS, MAX_PADDING, chunks_after, read_header

W64_BEXT = bytes.fromhex("62657874f3acd3118cd100c04f8edb8a")
W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
W64_FORMAT = bytes.fromhex("666d7420f3acd3118cd100c04f8edb8a")
UNKNOWN = 0xFFFF_FFFF  # a size of AU that the writer did not know
UNKNOWN_WAVE64 = 1 << 62  # so large a size of Wave64 means the same
AU_BYTES = {3: 2, 4: 3, 5: 4, 6: 4, 7: 8}  # of a sample, by the number of the coding; 1 for A-law, mu-law and others
CAF_SAMPLES = (b"lpcm", b"alaw", b"ulaw")  # codings of CAF whose packet is one sample of each channel
AVI_SLACK_S = 0.1  # writers count the packets of coded audio differently
AIFF_HEAD, WAVE64_HEAD = 12, 40  # bytes before the first chunk; some writers leave them out of the size of the file
AIFF_GSM = 160, 33  # samples and bytes of a block
# Bytes of a sample of each channel, by the coding of AIFF-C; PCM has as many as its bits need.
AIFF_BYTES = {b"raw ": 1, b"ulaw": 1, b"ULAW": 1, b"alaw": 1, b"ALAW": 1, b"in24": 3, b"in32": 4, b"fl32": 4}
AIFF_BYTES |= {b"FL32": 4, b"fl64": 8, b"FL64": 8}

Chunk = tuple[bytes, int, int]  # its name, and the offsets of its body and of its end


def facts(data: Reader, track: int) -> Facts | None:
    """Return what the chunks of a file state; None if the file is of another kind."""
    start = data.at(0, 16)
    kinds: dict[bytes, Callable[[], Facts]] = {
        b"RIFF": lambda: _avi(data, track),  # also xWMA and QCP
        b"FORM": lambda: _aiff(data) if data.at(8, 4) in (b"AIFF", b"AIFC") else _form(data),
        b"caff": lambda: _caf(data),
        b".snd": lambda: _au(data),
        b"dns.": lambda: _au(data),
        b"riff": lambda: _wave64(data),
        b"DSD ": lambda: _dsf(data),
        b"FRM8": lambda: _dsdiff(data),
    }
    if data.at(8, 4) == b"WAVE":
        kinds |= dict.fromkeys((b"RIFF", b"RIFX", b"RF64"), lambda: _wave(data))
    if start[:4] not in kinds:
        return None
    try:
        return kinds[start[:4]]()
    except EndOfFileError:
        return Facts(cut=True)
    except TooManyStepsError:
        return Facts()


def _chunks(
    data: Reader,
    start: int,
    *,
    width: int = 4,
    order: Literal["little", "big"] = "big",
    parents: tuple[bytes, ...] = (),
    padded: bool = True,
) -> Iterator[Chunk]:
    """Yield the chunks from an offset to the end of the file, with sizes of `width` bytes.

    Parents (a list with a type of four bytes) are entered. `padded` chunks begin at even offsets.
    Raises EndOfFileError if the file ends within the head of a chunk.
    """
    while start < data.size:
        data.step()
        head = data.at(start, 4 + width)
        if len(head) < 4 + width:
            if any(head.strip(b"\0")):
                raise EndOfFileError
            return
        if not _is_name(head[:4]):
            return
        size, body = int.from_bytes(head[4:], order), start + 4 + width
        inside = head[:4] in parents and data.at(body, 4) != b"movi"
        yield head[:4], body, body + size
        start = body + (4 if inside or (size == 0 and head[:4] in parents) else size + (size % 2 if padded else 0))


def _avi(data: Reader, track: int) -> Facts:
    found, cut = [], False
    for name, body, end in _chunks(data, 0, order="little", parents=(b"RIFF", b"LIST")):
        cut |= end > data.size and name != b"RIFF"  # whose size many writers state as another
        if name == b"strh" and data.at(body, 4) == b"auds":
            found.append([data.little(body + at, 4) for at in (20, 24, 32)])
    if not 1 <= track <= len(found):
        return Facts(cut=cut)
    scale, rate, length = found[track - 1]
    return Facts(scale * length, rate, cut, slack_s=AVI_SLACK_S) if scale and rate and length else Facts(cut=cut)


def _form(data: Reader) -> Facts:
    """State whether a file of chunks as in AIFF is cut, such as 8SVX."""
    return Facts(cut=any(end > data.size for _, _, end in _chunks(data, AIFF_HEAD)))


def _aiff(data: Reader) -> Facts:
    samples, rate, least, cut, wrong, open_ended, needed = 0, None, 0, False, False, False, 0
    counts = {b"COMM": 0, b"SSND": 0}
    for name, body, end in _chunks(data, AIFF_HEAD):
        if name in counts:
            counts[name] += 1
            needed = max(needed, end)
        if name == b"COMM":
            samples = data.number(body + 2, 4)
            least = _aiff_bytes(data, body, samples)
            exponent, mantissa = data.number(body + 8, 2), data.number(body + 10, 8)
            rate = mantissa >> 16446 - exponent if 16383 <= exponent <= 16446 else None  # 80-bit float
        elif name == b"SSND":
            open_ended = (end == body and not samples) or (end - body >= ENDLESS and end > data.size)
            if open_ended:
                break
            start = data.number(body, 4)  # libsndfile ignores it
            wrong |= end < body + 8 or (start > 0 and end - body - 8 - start < least)
            after = end + (end - body) % 2
            pieces = chunks_after(data.at, ">", after, data.size)[0] or chunks_after(data.at, ">", end, data.size)[0]
            wrong |= end < data.size and not pieces
        cut |= end > data.size
    if open_ended:
        return Facts(cut=cut, contradictory=wrong, open_ended=True)
    wrong |= counts != {b"COMM": 1, b"SSND": 1} or 8 + data.number(4, 4) + AIFF_HEAD < needed
    # IMA ADPCM counts packets of 64 samples, so that the number is only a lower limit.
    return Facts(samples, rate or None, cut, contradictory=wrong)


def _aiff_bytes(data: Reader, body: int, samples: int) -> int:
    """Return the bytes of so many samples, by the `COMM` chunk at `body`; 0 if its coding is not known."""
    channels, bits = data.number(body, 2), data.number(body + 6, 2)
    coding = data.at(body + 18, 4) if data.at(8, 4) == b"AIFC" else b"NONE"
    if coding == b"GSM ":
        return -(-samples // AIFF_GSM[0]) * AIFF_GSM[1]
    width = -(-bits // 8) if coding in (b"NONE", b"twos", b"sowt") else AIFF_BYTES.get(coding, 0)
    return samples * channels * width


def _caf(data: Reader) -> Facts:
    samples, rate, packet_bytes, packet_frames, cut, slack, wrong, sound = None, 0, 0, 0, False, 0, False, False
    for name, body, end in _chunks(data, 8, width=8, padded=False):
        if name == b"desc":
            value = struct.unpack(">d", data.number(body, 8).to_bytes(8, "big"))[0]
            rate = int(value) if 1 <= value < 1e9 else 0
            packet_bytes, packet_frames = data.number(body + 16, 4), data.number(body + 20, 4)
            if (coding := data.at(body + 8, 4)) in CAF_SAMPLES:
                channels, bits = data.number(body + 24, 4), data.number(body + 28, 4)
                least = channels * (-(-bits // 8) if coding == b"lpcm" else 1)
                wrong = packet_frames != 1 or packet_bytes < least
        elif name == b"pakt":
            samples, slack = data.number(body + 8, 8), packet_frames  # FFmpeg counts the last packet as a whole one
        elif name == b"data":
            wrong |= sound
            sound = True
            if end - body == (1 << 64) - 1:  # the writer did not know the size
                break
            wrong |= not _followed(data, end)
            if samples is None and packet_bytes and packet_frames:
                samples = max(0, end - body - 4) // packet_bytes * packet_frames
                cut |= (end - body - 4) % packet_bytes > 0
        cut |= end > data.size
    wrong |= not sound
    if not rate or samples is None:
        return Facts(cut=cut, contradictory=wrong)
    return Facts(samples, rate, cut, slack_s=slack / rate, contradictory=wrong)


def _followed(data: Reader, end: int) -> bool:
    """Return whether a CAF file ends after its samples, goes on with a chunk, or fills a block of a disk with zeros."""
    if end >= data.size or _is_name(data.at(end, 4)):
        return True
    return data.size - end <= MAX_PADDING and not any(data.at(end, MAX_PADDING))


def _is_name(four: bytes) -> bool:
    return all(32 <= byte < 127 for byte in four)


def _au(data: Reader) -> Facts:
    number = data.number if data.at(0, 1) == b"." else data.little
    start, size = number(4, 4), number(8, 4)
    end = data.size if size == UNKNOWN else start + size
    frame_bytes = AU_BYTES.get(number(12, 4), 1) * (number(20, 4) or 1)
    return Facts(cut=end > data.size or (end - start) % frame_bytes > 0, contradictory=end < data.size)


def _wave(data: Reader) -> Facts:
    header = read_header(data.at, data.size)
    if header is None:
        return Facts(contradictory=True)
    recorded_at = of_bext(data.at(header.bext, BEXT_BYTES), header.sample_rate_hz) if header.bext else None
    return Facts(
        cut=header.cut,
        contradictory=header.contradictory,
        recorded_at=recorded_at,
        open_ended=header.open_ended,
    )


def _wave64(data: Reader) -> Facts:
    """State whether the sizes in a Wave64 file are possible, and the time in its `bext` chunk."""
    at, rate, chunk, cut, sound, wrong, open_ended = WAVE64_HEAD, 0, b"", False, False, False, False
    while at + 24 <= data.size:
        data.step()
        name, size = data.at(at, 16), data.little(at + 16, 8)
        if sound and data.size - at <= MAX_PADDING and not any(data.at(at, MAX_PADDING)):
            break
        if name == W64_DATA:
            sound, open_ended = True, size >= UNKNOWN_WAVE64
            wrong |= not open_ended and data.little(16, 8) + WAVE64_HEAD < at + size
        if not 24 < size < UNKNOWN_WAVE64:
            wrong |= not open_ended
            break
        if name == W64_FORMAT:
            rate = data.little(at + 24 + 4, 4)
        elif name == W64_BEXT:
            chunk = data.at(at + 24, min(size - 24, BEXT_BYTES))
        cut |= at + size > data.size
        at += size + -size % 8
    wrong |= not sound
    return Facts(cut=cut, contradictory=wrong, recorded_at=of_bext(chunk, rate), open_ended=open_ended)


def _dsf(data: Reader) -> Facts:
    start = 28 + data.little(32, 8)
    return Facts(
        data.little(28 + 36, 8), data.little(28 + 28, 4) or None, start + data.little(start + 4, 8) > data.size
    )


def _dsdiff(data: Reader) -> Facts:
    rate, channels, samples, cut = 0, 0, None, False
    for name, body, end in _chunks(data, 16, width=8, parents=(b"PROP",)):
        cut |= end > data.size
        if name == b"FS  ":
            rate = data.number(body, 4)
        elif name == b"CHNL":
            channels = data.number(body, 2)
        elif name == b"DSD " and channels:
            samples = (end - body) * 8 // channels
    return Facts(samples, rate or None, cut)
