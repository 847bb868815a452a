"""Facts about VOC, NIST SPHERE, IRCAM, RealMedia, MXF and Musepack.

Sources: Creative Labs, Creative Voice File Format 1.20; NIST, SPHERE 2.6 (header); IRCAM, BICSF sound
file format; Helix Community, RealMedia File Format; SMPTE ST 377-1 (KLV coding of MXF); Musepack
Development Team, SV7 and SV8 specifications (trac.musepack.net).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ms_edge.audio.facts.reader import EndOfFileError, Facts, Reader, TooManyStepsError

IRCAM_HEADER = 1024  # bytes
REAL_EXCESS = 10  # bytes that FFmpeg states too many
MUSEPACK_RATES_HZ = (44_100, 48_000, 37_800, 32_000)
MUSEPACK_FRAME = 1152  # samples
MUSEPACK_SLACK = 2 * MUSEPACK_FRAME  # the encoder's delay, and the end of the last frame


def facts(data: Reader) -> Facts | None:
    """Return what the headers and blocks of a file state; None if the file is of another kind."""
    start = data.at(0, 8)
    kinds: dict[bytes, Callable[[Reader], Facts]] = {
        b"Crea": _voc,
        b"NIST": _sphere,
        b".RMF": _real,
        b"\x06\x0e\x2b\x34": _mxf,
        b"MP+\x07": _musepack7,
        b"MP+\x17": _musepack7,
        b"MPCK": _musepack8,
    }
    if start[:2] == b"\x64\xa3" or start[2:4] == b"\xa3\x64":  # IRCAM
        return Facts(cut=data.size < IRCAM_HEADER)
    if start[:4] not in kinds:
        return None
    try:
        return kinds[start[:4]](data)
    except EndOfFileError:
        return Facts(cut=True)
    except TooManyStepsError:
        return Facts()


def _voc(data: Reader) -> Facts:
    at = data.little(20, 2)
    # A block of type 0 is the last one, and SoX states too small a size.
    while at < data.size and 0 < data.little(at, 1) <= 9:
        data.step()
        at += 4 + data.little(at + 1, 3)
    return Facts(cut=at > data.size)


def _sphere(data: Reader) -> Facts:
    header = data.at(0, 1024)
    fields = dict(re.findall(rb"(\w+) -\w+ ([^\n]{1,20})\n", header))
    try:
        size = int(header[8:16])
        samples, rate, channels, width = (
            int(fields[name]) for name in (b"sample_count", b"sample_rate", b"channel_count", b"sample_n_bytes")
        )
    except (ValueError, KeyError):
        return Facts()
    if min(size, samples, rate, channels, width) < 0 or max(samples, rate) >= 1 << 48:
        return Facts()
    whole = fields.get(b"sample_coding", b"pcm") in (b"pcm", b"ulaw", b"alaw")
    return Facts(samples, rate or None, whole and size + samples * channels * width > data.size)


def _real(data: Reader) -> Facts:
    at = 0
    while at < data.size:
        data.step()
        name, size = data.at(at, 4), data.number(at + 4, 4)
        if size < 10 or not name.strip(b"."):  # the size of a live stream is 0
            break
        at += size
    return Facts(cut=at > data.size + REAL_EXCESS)


def _mxf(data: Reader) -> Facts:
    at = 0
    while at < data.size:
        data.step()
        if data.at(at, 4) != b"\x06\x0e\x2b\x34"[: data.size - at]:
            break
        size, at = data.number(at + 16, 1), at + 17
        if size & 0x80:
            width = min(size & 0x7F, 8)
            size, at = data.number(at, width) if width else 0, at + width
        at += size
    return Facts(cut=at > data.size)


def _musepack7(data: Reader) -> Facts:
    rate = MUSEPACK_RATES_HZ[data.little(10, 1) & 3]
    return Facts(data.little(4, 4) * MUSEPACK_FRAME, rate, slack_s=MUSEPACK_SLACK / rate)


def _musepack8(data: Reader) -> Facts:
    at, samples, rate = 4, None, 0
    while at < data.size:
        data.step()
        name = data.at(at, 2)
        size, body = _variable(data, at + 2)
        if name == b"SH":
            samples, after = _variable(data, body + 5)
            rate = MUSEPACK_RATES_HZ[data.number(_variable(data, after)[1], 1) >> 5 & 3]
        if name == b"SE" or size < 3:  # the end of the stream
            break
        at += size
    else:
        return Facts(samples, rate or None, cut=True)
    return Facts(samples, rate or None, slack_s=MUSEPACK_SLACK / rate if rate else 0.0)


def _variable(data: Reader, at: int) -> tuple[int, int]:
    """Return a number of seven bits per byte, and the offset after it."""
    value = 0
    for _ in range(9):
        byte = data.number(at, 1)
        value, at = value << 7 | byte & 0x7F, at + 1
        if byte < 0x80:
            break
    return value, at
