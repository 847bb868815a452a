"""Count the frames of a sound file, and find where a cut leaves a whole file, without a decoder.

None of this uses code of ms-edge. Sources: ISO/IEC 11172-3 and 13818-3 (MPEG audio), gabriel.mp3-
tech.org/mp3infotag.html (Xing, Info and LAME headers), ISO/IEC 13818-7 (ADTS), 13818-1 (streams of
MPEG), 14496-12 (MP4), ETSI TS 102 366 (AC-3, E-AC-3), RFC 3533, 7845 and the Vorbis I
specification (Ogg), RFC 4867 (AMR), RFC 9559 (Matroska), Adobe's specification of FLV 10.1, ETSI TS
102 114 (DTS), RFC 3551, 4.5.8.1 (GSM), Dolby's MLP bitstream description (TrueHD).
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from benchmarks.quality.completeness_files import Sound

Frame = tuple[int, int]  # bytes and samples per channel of a coded frame
FRAME_SAMPLES = {"AAC": 1024, "HE-AAC": 4096, "MP3": 1152, "MP2": 1152, "AC-3": 1536, "E-AC-3": 1536, "AMR-NB": 160}
LONGEST_FRAME = 4096  # samples by which a lossy codec may pad a recording where no other count exists
SMPB = re.compile(rb"iTunSMPB.{16,24} 0{8} [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{16})", re.DOTALL)  # frames
ELEMENTARY = {
    **{"MP3": "mpeg", "MP2": "mpeg", "AAC": "adts", "HE-AAC": "adts", "AC-3": "ac3", "E-AC-3": "ac3"},
    **{"DTS": "dts", "TrueHD": "truehd", "GSM 06.10": "gsm"},
}


@dataclass(frozen=True)
class Count:
    """What is known of a whole file: at least `least` and at most `most` frames, by which `method`.

    They count at the rate of the recording, or at that of the file if `own_rate` (an encoder may
    resample). `ends` are the sizes in bytes at which a cut leaves a whole, shorter file, since nothing before
    it states a length or an end.
    """

    least: int
    most: int
    method: str
    ends: frozenset[int] = field(default_factory=frozenset)
    own_rate: bool = False


def count(sound: Sound) -> Count:
    """Return the number of frames of a file that was written from `sound.frames` frames."""
    data = sound.path.read_bytes()
    ends = ends_of(sound, data)
    if sound.lossless and sound.container != "VOC":
        # libsndfile writes an odd number of bytes in AIFF as one sample more, and FFmpeg rounds the
        # size in Wave64 up to eight bytes.
        frames = aiff_frames(data) or wave64_frames(data) or sound.frames
        # GStreamer's wavenc ends a stream of unknown length with a chunk of 12 bytes.
        extra = 6 if sound.writer == "gstreamer" and "(pipe)" in sound.codec else 0
        return Count(frames, frames + extra, "given to the writer", ends)
    codec = sound.codec.split(" (")[0].split(" and ")[0]
    if sound.container == "Ogg" and codec in ("Vorbis", "Opus"):
        frames = ogg_frames(data, codec == "Opus", sound.rate_hz)
        return Count(frames, frames, "granules", ends)
    if sound.container in ("MP3", "MP2", "ADTS", "AC-3", "E-AC-3", "AMR"):
        frames = elementary_frames(sound.container, codec, data)
        empty = 1024 if sound.writer == "faac" else 0  # its first frame has no sound
        return Count(frames - empty, frames, "walk of the frames", ends, own_rate=True)
    if sound.container in ("MP4", "MOV", "3GP"):
        frames = mp4_frames(data, sound.rate_hz)
        if frames is not None:  # FFmpeg decodes the padding of the last coded frame
            frames -= 1024 if sound.writer == "faac" else 0
            return Count(frames, frames + FRAME_SAMPLES.get(codec, LONGEST_FRAME), "sample tables", ends)
    # FFmpeg leaves the last 8 bytes of VOC out, and the second half of the last block of WMA.
    least = sound.frames - {"VOC": 4, "ASF": 2048}.get(sound.container, 0)
    if sound.writer == "gstreamer" and codec == "AAC":  # its encoder leaves an incomplete last frame out
        least -= 1024
    probed = probed_frames(sound)
    if probed is not None and probed < sound.frames:  # some encoders do not write their last frame
        slack = FRAME_SAMPLES.get(codec, LONGEST_FRAME)
        return Count(probed - slack, sound.frames + LONGEST_FRAME, "ffprobe", ends)
    return Count(least, sound.frames + LONGEST_FRAME, "given to the writer", ends)


def ends_of(sound: Sound, data: bytes) -> frozenset[int]:
    """Return the sizes at which a cut file is a whole file."""
    codec = sound.codec.split(" (")[0].split(" and ")[0]
    found: Iterator[int] | list[int] = []
    if sound.container in ("MP3", "MP2", "ADTS", "AC-3", "E-AC-3", "AMR", "DTS", "TrueHD", "GSM 06.10"):
        if not (sound.container == "MP3" and _stated(data)):
            found = _frame_ends(sound.container, codec, data)
    elif sound.container == "AU" and data[8:12] == b"\xff\xff\xff\xff":
        start, frame = struct.unpack(">I", data[4:8])[0], _au_frame(data)
        found = list(range(start, len(data), frame))
    elif sound.container in ("MP4", "MOV", "3GP"):
        boxes = list(_boxes(data, 0, len(data)))
        if any(kind == b"moof" for kind, *_ in boxes):
            found = [end for kind, _, end in boxes if kind == b"mdat"]
    elif sound.container in ("Matroska", "WebM"):
        found = _matroska_ends(data)
    elif sound.container == "IRCAM":
        found = list(range(1024, len(data), 2 * sound.channels))
    elif sound.container == "FLV" and not any(data[data.find(b"duration") + 9 :][:8]):
        found = _flv_ends(data)
    elif sound.container in ("MPEG-TS", "MPEG-PS"):
        packets = _ts_packets(data) if sound.container == "MPEG-TS" else _ps_packets(data)
        found = _stream_ends(packets, ELEMENTARY[codec])
    return frozenset(found)


# Frames that follow one another.


def _mpeg(data: bytes, at: int) -> Frame | None:
    head = int.from_bytes(data[at : at + 4], "big")
    version, layer, rate, index = head >> 19 & 3, 4 - (head >> 17 & 3), head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer == 4 or rate == 15 or index == 3:
        return None
    tables = {
        (True, 1): range(0, 449, 32),
        (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
        (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
        (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
        (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
        (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    }
    hz = (44_100, 48_000, 32_000)[index] // {3: 1, 2: 2, 0: 4}[version]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    if rate == 0:  # free format: up to the next header of the same kind
        following = data.find(data[at : at + 2], at + 48)
        while following >= 0 and (data[following + 2] ^ data[at + 2]) & 0xFC:
            following = data.find(data[at : at + 2], following + 1)
        return ((following if following >= 0 else len(data)) - at, samples)
    slot = 4 if layer == 1 else 1
    size = samples // 8 * tables[version == 3, layer][rate] * 1000 // (hz * slot) * slot + slot * (head >> 9 & 1)
    return size, samples


def _adts(data: bytes, at: int) -> Frame | None:
    head = int.from_bytes(data[at : at + 7], "big")
    if head >> 44 != 0xFFF:
        return None
    return head >> 13 & 0x1FFF, 1024 * ((head & 3) + 1)


def _ac3(data: bytes, at: int) -> Frame | None:
    head = data[at : at + 6]
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return None
    if head[5] >> 3 > 10:  # E-AC-3
        blocks = (1, 2, 3, 6)[3 if head[4] >> 6 == 3 else head[4] >> 4 & 3]
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1), 256 * blocks
    rates = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
    kbit_s, odd = rates[head[4] >> 1 & 31], head[4] & 1
    words = {0: 2 * kbit_s, 1: 320 * kbit_s // 147 + odd, 2: 3 * kbit_s}[head[4] >> 6]
    return 2 * words, 1536


def _dts(data: bytes, at: int) -> Frame | None:
    head = int.from_bytes(data[at : at + 8], "big")
    return ((head >> 4 & 0x3FFF) + 1, 32 * ((head >> 18 & 127) + 1)) if head >> 32 == 0x7FFE8001 else None


def _truehd(data: bytes, at: int) -> Frame | None:
    size = 2 * (int.from_bytes(data[at : at + 2], "big") & 0xFFF)
    return (size, 40) if size else None


def _gsm(data: bytes, at: int) -> Frame | None:
    return (33, 160) if at < len(data) and data[at] >> 4 == 13 else None


def _amr(sizes: tuple[int, ...], samples: int) -> Callable[[bytes, int], Frame | None]:
    return lambda data, at: (1 + sizes[data[at] >> 3 & 15], samples) if at < len(data) else None


AMR_NB = _amr((12, 13, 15, 17, 19, 20, 26, 31, 5, 0, 0, 0, 0, 0, 0, 0), 160)
AMR_WB = _amr((17, 23, 32, 36, 40, 46, 50, 58, 60, 5, 0, 0, 0, 0, 0, 0), 320)
WALKS = {
    **{"mpeg": _mpeg, "adts": _adts, "ac3": _ac3, "amr-nb": AMR_NB, "amr-wb": AMR_WB},
    **{"dts": _dts, "truehd": _truehd, "gsm": _gsm},
}


def _walk(kind: str, data: bytes, at: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the end in bytes and the samples of each whole frame from an offset."""
    while (frame := WALKS[kind](data, at)) and at + frame[0] <= len(data):
        at += frame[0]
        yield at, frame[1]


def _first(container: str, codec: str, data: bytes) -> tuple[str, int]:
    """Return the kind of frames, and the offset of the first one."""
    if container == "AMR":
        wide = codec == "AMR-WB"
        return ("amr-wb", 9) if wide else ("amr-nb", 6)
    at = 0
    if data[:3] == b"ID3":
        a, b, c, d = data[6:10]
        at = 10 + (a << 21 | b << 14 | c << 7 | d)
    return ELEMENTARY[codec], at


def _frame_ends(container: str, codec: str, data: bytes) -> list[int]:
    kind, at = _first(container, codec, data)
    return [at, *(end for end, _ in _walk(kind, data, at))]


def _stated(data: bytes) -> int | None:
    """Return the offset of a Xing or Info header in the first frame of an MP3 file."""
    _, at = _first("MP3", "MP3", data)
    frame = _mpeg(data, at)
    if frame:
        for mark in (b"Xing", b"Info"):
            if (found := data.find(mark, at, at + 40)) > 0:
                return found if data[found + 7] & 1 else None
    return None


def elementary_frames(container: str, codec: str, data: bytes) -> int:
    """Return the samples per channel of a file of frames, without the delay that a header states."""
    kind, at = _first(container, codec, data)
    samples = [each for _, each in _walk(kind, data, at)]
    total = sum(samples) * (2 if codec == "HE-AAC" else 1)
    if container == "MP3" and (mark := _stated(data)):
        total -= samples[0]  # the frame of the header
        flags = data[mark + 7]
        lame = mark + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
        gaps = int.from_bytes(data[lame + 21 : lame + 24], "big")
        # A decoder delays by 529 samples, which take from the padding.
        delay, padding = gaps >> 12, gaps & 0xFFF
        # libmpg123 leaves the delay of a decoder out if a header has no delay of an encoder, too.
        known = data[lame : lame + 4] in (b"LAME", b"Lavf", b"Lavc")
        total -= delay + 529 + max(0, padding - 529) if known else 529
    return total


# Sizes in RIFF and IFF.


def aiff_frames(data: bytes) -> int | None:
    """Return the frames that an AIFF file states; None for another file."""
    at = data.find(b"COMM", 12) if data[:4] == b"FORM" else -1
    return int.from_bytes(data[at + 10 : at + 14], "big") if at > 0 else None


def wave64_frames(data: bytes) -> int | None:
    """Return the frames by the size of the samples in a Wave64 file; None for another file."""
    if data[:4] != b"riff":
        return None
    form, at = data.find(b"fmt "), data.find(b"data")
    (size,), (frame,) = struct.unpack("<Q", data[at + 16 : at + 24]), struct.unpack("<H", data[form + 36 : form + 38])
    return int((size - 24) // frame)


# Ogg.


def ogg_frames(data: bytes, opus: bool, rate_hz: int) -> int:
    """Return the samples per channel of an Ogg file by the granule positions of its pages."""
    at, last, first, skip = 0, 0, b"", 0
    while data[at : at + 4] == b"OggS":
        (granule,) = struct.unpack("<q", data[at + 6 : at + 14])
        body = at + 27 + data[at + 26]
        first = first or data[body : body + 32]
        last = max(last, granule)
        at = body + sum(data[at + 27 : body])
    if opus:
        (skip,) = struct.unpack("<H", first[10:12])
        return round((last - skip) * Fraction(rate_hz, 48_000))
    return last


# MP4.


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start of the content and end of each box between two offsets."""
    while at + 8 <= end:
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        start = at + 8
        if size == 1:
            (size,), start = struct.unpack(">Q", data[start : start + 8]), at + 16
        size = size or end - at
        if size < 8:
            return
        yield kind, start, at + size
        at += size


def _inner(data: bytes, path: str, at: int, end: int) -> Iterator[tuple[int, int]]:
    name, _, rest = path.partition("/")
    for kind, start, stop in _boxes(data, at, end):
        if kind == name.encode():
            if rest:
                yield from _inner(data, rest, start, stop)
            else:
                yield start, stop


def mp4_frames(data: bytes, rate_hz: int) -> int | None:
    """Return the samples per channel by the edit list, else by the sample table, of the audio track.

    None if the file has fragments, or an edit list that is not a part from a delay to the end.
    """
    if any(kind == b"moof" for kind, *_ in _boxes(data, 0, len(data))):
        return None
    (movie, _), *_ = _inner(data, "moov/mvhd", 0, len(data))
    scale_at = movie + (20 if data[movie] else 12)
    (movie_scale,) = struct.unpack(">I", data[scale_at : scale_at + 4])
    for start, end in _inner(data, "moov/trak", 0, len(data)):
        (handler, _), *_ = _inner(data, "mdia/hdlr", start, end)
        if data[handler + 8 : handler + 12] != b"soun":
            continue
        (media, _), *_ = _inner(data, "mdia/mdhd", start, end)
        scale_at = media + (20 if data[media] else 12)
        (scale,) = struct.unpack(">I", data[scale_at : scale_at + 4])
        (table, _), *_ = _inner(data, "mdia/minf/stbl/stts", start, end)
        (entries,) = struct.unpack(">I", data[table + 4 : table + 8])
        pairs = [struct.unpack(">II", data[at : at + 8]) for at in range(table + 8, table + 8 + 8 * entries, 8)]
        length = sum(samples * step for samples, step in pairs)
        if tagged := SMPB.search(data):
            length = int(tagged[1], 16)
            return round(Fraction(length * rate_hz, scale))
        for edits, _ in _inner(data, "edts/elst", start, end):
            (number,) = struct.unpack(">I", data[edits + 4 : edits + 8])
            form = ">Qq4x" if data[edits] else ">Ii4x"
            size = struct.calcsize(form)
            kept = [
                struct.unpack(form, data[at : at + size]) for at in range(edits + 8, edits + 8 + number * size, size)
            ]
            kept = [(duration, at) for duration, at in kept if at >= 0]
            if len(kept) != 1:
                return None
            left = length - kept[0][1]
            stated = round(Fraction(kept[0][0] * scale, movie_scale))
            # The movie's clock is coarse: an end within one of its ticks is the end of the track.
            length = left if abs(left - stated) <= Fraction(scale, movie_scale) or not stated else min(left, stated)
        return round(Fraction(length * rate_hz, scale))
    return None


# Matroska and FLV.


def _ebml(data: bytes, at: int, keep: bool) -> tuple[int, int]:
    """Return a number of EBML with its marker if `keep`, and its length; -1 if it is unknown."""
    length = 9 - data[at].bit_length() if at < len(data) and data[at] else 9
    value = int.from_bytes(data[at : at + length], "big")
    if not keep:
        value &= (1 << 7 * length) - 1
        value = -1 if value == (1 << 7 * length) - 1 else value
    return value, length


SEGMENT, INFO, CLUSTER, DURATION, BLOCK, GROUP = 0x18538067, 0x1549A966, 0x1F43B675, 0x4489, 0xA3, 0xA0


def _matroska_ends(data: bytes) -> list[int]:
    """Return the ends of the blocks that no enclosing element of known size continues beyond."""
    found: list[int] = []
    stated = False

    def elements(at: int, end: int, known: bool) -> None:
        nonlocal stated
        while at < end:
            name, length = _ebml(data, at, True)
            size, more = _ebml(data, at + length, False)
            body = at + length + more
            stop = end if size < 0 else body + size
            if name in (SEGMENT, CLUSTER):
                elements(body, stop, known or size >= 0)
                if name == CLUSTER and not known:
                    found.append(stop)
            elif name == INFO:
                elements(body, stop, True)
            elif name == DURATION:
                stated = True
            elif name in (BLOCK, GROUP) and not known:
                found.append(stop)
            at = stop

    elements(0, len(data), False)
    return [] if stated else found


def _flv_ends(data: bytes) -> list[int]:
    found, at = [], 9 + 4
    while at + 11 <= len(data):
        end = at + 11 + int.from_bytes(data[at + 1 : at + 4], "big")
        found += [end, end + 4]  # before and after the size that follows a tag
        at = end + 4
    return found


# Transport and program streams: packets of the audio stream.

Packet = tuple[int, bytes, int]  # end in the file, new bytes of the stream, bytes that its PES packet still lacks


def _pes(data: bytes) -> tuple[int, int]:
    """Return the offset of the content in a PES packet, and the length of the packet; 0 is unknown."""
    (length,) = struct.unpack(">H", data[4:6])
    if data[6] >> 6 == 2:
        start = 9 + data[8]
    else:  # MPEG-1
        start = 6
        while data[start] == 0xFF:
            start += 1
        start += 2 if data[start] >> 6 == 1 else 0
        start += {2: 5, 3: 10}.get(data[start] >> 4, 1)
    return start, length + 6 if length else 0


def _is_audio(data: bytes) -> bool:
    return data[:3] == b"\0\0\1" and (0xC0 <= data[3] <= 0xDF or data[3] == 0xBD)


def _ts_packets(data: bytes) -> Iterator[Packet]:
    pid, left = None, 0
    for at in range(0, len(data) - 187, 188):
        head = int.from_bytes(data[at : at + 4], "big")
        start = at + 4 + (1 + data[at + 4] if head >> 5 & 1 else 0)
        body = data[start : at + 188] if head >> 4 & 1 else b""
        if head >> 22 & 1 and _is_audio(body) and pid in (None, head >> 8 & 0x1FFF):
            pid = head >> 8 & 0x1FFF
            skip, length = _pes(body)
            left = length - len(body) if length else 0
            body = body[skip:]
        elif head >> 8 & 0x1FFF == pid:
            left -= len(body)
        else:
            body = b""
        yield at + 188, body, max(0, left)


def _ps_packets(data: bytes) -> Iterator[Packet]:
    at = 0
    while at + 6 <= len(data) and data[at : at + 3] == b"\0\0\1":
        if data[at + 3] == 0xBA:
            size = 14 + (data[at + 13] & 7) if data[at + 4] >> 6 == 1 else 12
        elif data[at + 3] == 0xB9:
            size = 4
        else:
            size = 6 + struct.unpack(">H", data[at + 4 : at + 6])[0]
        packet = data[at : at + size]
        at += size
        yield at, packet[_pes(packet)[0] :] if _is_audio(packet) else b"", 0


def _stream_ends(packets: Iterator[Packet], kind: str) -> list[int]:
    """Return the ends of the packets at which the audio stream ends with a whole frame."""
    found, length = [], 0
    parts = list(packets)
    whole = {0, *(end for end, _ in _walk(kind, b"".join(body for _, body, _ in parts)))}
    for end, body, lacks in parts:
        length += len(body)
        if not lacks and length in whole:
            found.append(end)
    return found


def _au_frame(data: bytes) -> int:
    coding, _, channels = struct.unpack(">III", data[12:24])
    return channels * {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}[coding]


# Everything else.


def probed_frames(sound: Sound) -> int | None:
    """Return the frames by the durations of the packets that ffprobe finds; None without ffprobe."""
    if not shutil.which("ffprobe"):
        return None
    options = ["-v", "error", "-select_streams", "a:0", "-of", "json"]
    shown = [
        "-show_entries",
        "packet=duration:stream=time_base,sample_rate:packet_side_data=skip_samples,discard_padding",
    ]
    done = subprocess.run(["ffprobe", *options, *shown, str(sound.path)], capture_output=True, text=True, timeout=60)
    found = json.loads(done.stdout or "{}")
    if not found.get("streams") or not found.get("packets"):
        return None
    stream = found["streams"][0]
    base, rate_hz = Fraction(stream["time_base"]), int(stream["sample_rate"])
    if any("duration" not in packet for packet in found["packets"]):
        return None
    total = round(sum(int(packet["duration"]) for packet in found["packets"]) * base * rate_hz)
    for packet in found["packets"]:
        for side in packet.get("side_data_list", ()):
            total -= int(side.get("skip_samples", 0)) + int(side.get("discard_padding", 0))
    return total
