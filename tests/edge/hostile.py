"""Make malformed and hostile audio files, one function for each kind.

`CASES` states the expected record of each file: the code of its error, or the warnings of its classification.
All files contain the same two seconds of speech-like noise, so that the readable part can be classified.
"""

from __future__ import annotations

import io
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
SOUND = (np.random.default_rng(0).standard_normal(2 * RATE) * 0.1 * np.sin(np.arange(2 * RATE) / 900) ** 2).astype(
    np.float32
)
PCM = (SOUND * 32767).astype("<i2").tobytes()


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    """Return a RIFF chunk, whose declared size may be wrong."""
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def fmt(
    tag: int = 1,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    frame_bytes: int | None = None,
    byte_rate: int | None = None,
) -> bytes:
    """Return the body of a format chunk."""
    frame_bytes = channels * bits // 8 if frame_bytes is None else frame_bytes
    byte_rate = rate * frame_bytes if byte_rate is None else byte_rate
    return struct.pack("<HHIIHH", tag, channels, rate & 0xFFFFFFFF, byte_rate & 0xFFFFFFFF, frame_bytes & 0xFFFF, bits)


def wav(*chunks: bytes, size: int | None = None, magic: bytes = b"RIFF", kind: bytes = b"WAVE") -> bytes:
    """Return a RIFF file of these chunks, whose declared size may be wrong."""
    body = kind + b"".join(chunks)
    return magic + struct.pack("<I", len(body) if size is None else size) + body


def plain(body: bytes = PCM, **fields: int) -> bytes:
    """Return a valid WAV file except for the given fields of its format."""
    return wav(chunk(b"fmt ", fmt(**fields)), chunk(b"data", body))


def encoded(samples: np.ndarray = SOUND, form: str = "WAV", subtype: str | None = None, rate: int = RATE) -> bytes:
    """Return a file as libsndfile writes it."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=form, subtype=subtype)
    return out.getvalue()


def floats(**changes: float) -> bytes:
    samples = SOUND.copy()
    for place, value in changes.items():
        samples[int(place[1:])] = value
    return encoded(samples, subtype="FLOAT")


@dataclass(frozen=True)
class Case:
    """A file that `make` writes, and the `expected` error code or tuple of warnings."""

    make: Callable[[Path], object]
    expected: str | tuple[str, ...]


def holding(content: bytes | Callable[[], bytes], expected: str | tuple[str, ...]) -> Case:
    return Case(lambda path: path.write_bytes(content() if callable(content) else content), expected)


def _bind(path: Path) -> None:
    os.chdir(path.parent)  # the path of a socket has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(
            wav(chunk(b"fmt ", fmt(channels=64, rate=384_000)), chunk(b"data", b"", 0xFFFF_FF00 - 64), size=0xFFFF_FFF0)
        )
        file.truncate(44 + 0xFFFF_FF00 - 64)


FMT, DATA = chunk(b"fmt ", fmt()), chunk(b"data", PCM)
LIST = chunk(b"LIST", b"INFOISFT\x06\0\0\0Lavf58")
AIFF_NAME = b"NAME\0\0\0\4name"
EXTENSIBLE = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, RATE * 2, 2, 16, 22, 16, 0)
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")

ID3 = b"ID3\x04\0\0\0\0\x01\0" + bytes(128)

CASES: dict[str, Case] = {
    # valid files, for comparison
    "plain": holding(plain(), ()),
    "list before the samples": holding(wav(FMT, LIST, DATA), ()),
    "list after the samples": holding(wav(FMT, DATA, LIST), ()),
    "extensible": holding(wav(chunk(b"fmt ", EXTENSIBLE + PCM_GUID), DATA), ()),
    "odd chunk, padded": holding(wav(FMT, chunk(b"note", b"odd"), DATA), ()),
    "big-endian": holding(lambda: _rifx(), ()),
    "rf64": holding(lambda: encoded(form="RF64"), ()),
    "a flac named .wav": holding(lambda: encoded(form="FLAC"), ()),
    # files whose content differs from their name
    "empty": holding(b"", "empty-file"),
    "one byte": holding(b"R", "not-audio"),
    "only RIFF": holding(b"RIFF", "not-audio"),
    "only a RIFF header": holding(wav(), "not-audio"),
    "text": holding(b"I am not audio.\n" * 1000, "not-audio"),
    "a picture": holding(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100, "not-audio"),
    "zeros": holding(bytes(100_000), "not-audio"),
    "noise bytes": holding(np.random.default_rng(1).bytes(100_000), "not-audio"),
    "an AVI": holding(wav(FMT, DATA, kind=b"AVI "), "not-audio"),
    "an mp3 header and no more": holding(b"ID3\x04\0\0\0\0\0\0" + b"\xff\xfb\x90\0", "not-audio"),
    # chunks
    "no format": holding(wav(DATA), "not-audio"),
    "no samples chunk": holding(wav(FMT), "not-audio"),
    "samples before the format": holding(wav(DATA, FMT), "not-audio"),
    "format cut": holding(wav(chunk(b"fmt ", fmt()[:10]), DATA), "not-audio"),
    "two formats": holding(wav(FMT, chunk(b"fmt ", fmt(rate=44_100)), DATA), "not-audio"),
    "two samples chunks": holding(wav(FMT, DATA, DATA), "not-audio"),
    "a chunk that claims to be huge": holding(wav(FMT, chunk(b"LIST", b"INFO", 0xFFFFFFF0), DATA), "not-audio"),
    "a chunk that claims to be longer": holding(wav(FMT, chunk(b"LIST", b"INFO", 5000), DATA), ("bad-header",)),
    "ten thousand chunks": holding(wav(*[chunk(b"junk", b"")] * 10_000, FMT, DATA), "not-audio"),
    "junk after the samples": holding(wav(FMT, DATA) + np.random.default_rng(2).bytes(20_000), ("bad-header",)),
    "a picture after the samples": holding(wav(FMT, DATA) + b"\x89PNG" + bytes(range(256)) * 9, ("bad-header",)),
    # sizes
    "cut in the samples": holding(plain()[:20_000], ("truncated",)),
    "cut in a sample": holding(plain()[:20_001], ("truncated",)),
    "cut in the header": holding(plain()[:30], "not-audio"),
    "cut before the samples": holding(plain()[:44], "no-samples"),
    "declared longer": holding(wav(FMT, chunk(b"data", PCM, len(PCM) + 1000)), ("truncated",)),
    "declared shorter": holding(wav(FMT, chunk(b"data", PCM, 30_000)), ("bad-header",)),
    "declared odd": holding(wav(FMT, chunk(b"data", PCM, len(PCM) - 1)), ()),
    "declared empty, and is": holding(wav(FMT, chunk(b"data", b"")), "no-samples"),
    "declared empty, more follows": holding(wav(FMT, chunk(b"data", b""), LIST), "no-samples"),
    "declared empty by a pipe": holding(wav(FMT, chunk(b"data", PCM, 0), size=0), ("stream-header",)),
    "declared endless by a pipe": holding(
        wav(FMT, chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF), ("stream-header",)
    ),
    "declared 2 GB by a pipe": holding(wav(FMT, chunk(b"data", PCM, 0x7FFFFFDB), size=0x7FFFFFFF), ("stream-header",)),
    "declared by gstreamer to a pipe": holding(
        wav(FMT, chunk(b"data", PCM, 0x7FFF0000), size=0x7FFF0024), ("stream-header",)
    ),
    "odd samples, a chunk after no pad byte": holding(lambda: plain(PCM[:32_001], bits=8)[:-1] + LIST, ()),
    "declared negative": holding(wav(FMT, chunk(b"data", PCM, 0x80000000)), ("stream-header",)),
    "riff size too small": holding(wav(FMT, DATA, size=100), ()),
    "riff size too large": holding(wav(FMT, DATA, size=1 << 30), ()),
    "rf64 of unknown length": holding(lambda: _rf64(1 << 63), ("stream-header",)),
    "rf64 longer than it is": holding(lambda: _rf64(1 << 40), ("truncated",)),
    "rf64, more samples than bytes": holding(lambda: _rf64(len(PCM), 1 << 63), ("bad-header",)),
    "rf64 that states no number of samples": holding(lambda: _rf64(len(PCM), 0), ()),
    "rf64 without long sizes": holding(wav(FMT, DATA, size=0xFFFFFFFF, magic=b"RF64"), ("bad-header",)),
    # formats
    "rate 0": holding(plain(rate=0), "not-audio"),
    "rate 1": holding(plain(rate=1), "bad-rate"),
    "rate 3,999": holding(plain(rate=3_999), "bad-rate"),
    "rate 4e9": holding(plain(rate=4_000_000_000), "not-audio"),
    "0 channels": holding(plain(channels=0, frame_bytes=2), "not-audio"),
    "65 channels": holding(plain(channels=65), "bad-channels"),
    "65,535 channels": holding(plain(channels=65_535), "not-audio"),
    "0 bits": holding(plain(bits=0, frame_bytes=2), "not-audio"),
    "17 bits": holding(plain(bits=17, frame_bytes=3), ()),  # in the upper bits of 24, as the specification requires
    "64-bit integers": holding(plain(bits=64), ()),
    "frame size 0": holding(plain(frame_bytes=0), ("bad-header",)),
    "frame size of another format": holding(plain(frame_bytes=4), ("bad-header",)),
    "byte rate of another format": holding(plain(byte_rate=1), ("bad-header",)),
    "extensible, more valid bits than bits": holding(
        lambda: refitted("PCM_16", valid=24, form="WAVEX"), ("bad-header",)
    ),
    "extensible, frame size of another format": holding(
        lambda: refitted("PCM_16", frame=4, form="WAVEX"), ("bad-header",)
    ),
    "extensible, samples of another size": holding(lambda: refitted("PCM_16", tag=6, form="WAVEX"), ("bad-header",)),
    "a-law of 16 bits": holding(lambda: refitted("ALAW", bits=16), ("bad-header",)),
    "mu-law, frame size of another format": holding(lambda: refitted("ULAW", frame=2), ("bad-header",)),
    "unknown coding": holding(plain(tag=0x1234), "not-audio"),
    "mp3 inside, garbage": holding(plain(tag=0x55), "not-audio"),
    "adpcm, garbage": holding(plain(tag=2, bits=4, frame_bytes=256), "too-short"),
    # samples
    "digital silence": holding(plain(bytes(64_000)), ()),
    "a tenth of a second": holding(plain(PCM[:3200]), "too-short"),
    "NaN": holding(lambda: floats(s100=np.nan), ("non-finite",)),
    "infinity": holding(lambda: floats(s100=np.inf, s200=-np.inf), ("non-finite",)),
    "1e30": holding(lambda: floats(s100=1e30), ("out-of-range",)),
    "3e38": holding(lambda: encoded(SOUND * np.float32(3e38), subtype="FLOAT"), ("out-of-range",)),
    "3e38 in stereo": holding(
        lambda: encoded(np.stack([SOUND, SOUND], axis=1) * np.float32(3e38), subtype="FLOAT"), ("out-of-range",)
    ),
    "all NaN": holding(lambda: encoded(SOUND * np.float32(np.nan), subtype="FLOAT"), ("non-finite",)),
    "16-bit numbers as floats": holding(lambda: encoded(SOUND * 32768, subtype="FLOAT"), ("out-of-range",)),
    "doubles over float's range": holding(
        lambda: encoded(SOUND.astype(np.float64) * 1e300, subtype="DOUBLE"), ("non-finite",)
    ),
    "mp3, cut": holding(lambda: encoded(form="MP3", subtype="MPEG_LAYER_III")[:4_000], ("truncated",)),
    "mp3, damaged": holding(
        lambda: _damaged(encoded(form="MP3", subtype="MPEG_LAYER_III"), 3_000, 1_000), ("damaged",)
    ),
    "mp3 that states no length": holding(lambda: without_header(_mp3()), ()),
    "mp3 that states no length, cut": holding(lambda: without_header(_mp3())[:-100], ("truncated",)),
    "mp3 that begins within a frame": holding(lambda: _mp3()[500:], ("damaged",)),
    "mp3 that states more than there is": holding(lambda: _stating(_mp3(), 9_999), ("truncated",)),
    "mp3 that states less than there is": holding(lambda: _stating(_mp3(), 5), ()),
    "mp3 inside a wav": holding(lambda: wav(chunk(b"fmt ", fmt(tag=0x55)), chunk(b"data", without_header(_mp3()))), ()),
    "mp3 inside a wav, cut": holding(
        lambda: wav(chunk(b"fmt ", fmt(tag=0x55)), chunk(b"data", without_header(_mp3())))[:9_000], ("truncated",)
    ),
    "mp3 inside a wav of a pipe": holding(
        lambda: wav(chunk(b"fmt ", fmt(tag=0x55)), chunk(b"data", without_header(_mp3()), 0xFFFFFFFF)),
        ("stream-header",),
    ),
    "mp2": holding(lambda: silent_mp2(80), ()),
    "mp2, cut": holding(lambda: silent_mp2(80)[:-1], ("truncated",)),
    "mp2 inside a wav": holding(lambda: wav(chunk(b"fmt ", fmt(tag=0x50)), chunk(b"data", silent_mp2(80))), ()),
    "g721 that never ends": holding(lambda: endless("G721_32"), ("stream-header",)),
    "nms that never ends": holding(lambda: endless("NMS_ADPCM_32"), ("stream-header",)),
    # formats that libsndfile would read
    "voc": holding(lambda: encoded(form="VOC"), ()),
    "nist": holding(lambda: encoded(form="NIST"), ()),
    "ircam": holding(lambda: encoded(form="IRCAM"), ()),
    "matlab": holding(lambda: encoded(form="MAT5", subtype="PCM_16"), "not-audio"),
    "sds, damaged": holding(lambda: _damaged(encoded(form="SDS"), 3_000, 200), "not-audio"),
    "htk": holding(lambda: encoded(form="HTK"), "not-audio"),
    "an m4a": holding(b"\0\0\0\x1cftypM4A \0\0\0\0" + bytes(10_000), "not-audio"),
    "aiff, cut": holding(lambda: encoded(form="AIFF")[:20_000], ("truncated",)),
    "au, cut": holding(lambda: encoded(form="AU")[:20_000], ("truncated",)),
    "w64, cut": holding(lambda: encoded(form="W64")[:20_000], ("truncated",)),
    "caf, its last byte cut": holding(lambda: encoded(form="CAF")[:-1], ("truncated",)),
    "aiff of 8 bits, without a pad byte": holding(lambda: _unpadded_aiff(), ()),
    "aiff of 8 bits, without a pad byte, a chunk after it": holding(lambda: _unpadded_aiff() + AIFF_NAME, ()),
    "aiff, a chunk after the samples": holding(lambda: encoded(form="AIFF") + AIFF_NAME, ()),
    "aiff, zeros after the samples": holding(lambda: encoded(form="AIFF") + bytes(2_000), ()),
    "aiff, junk after the samples": holding(
        lambda: encoded(form="AIFF") + np.random.default_rng(4).bytes(2_000), ("bad-header",)
    ),
    "aiff, two formats": holding(lambda: _aiff_of_two_formats(), ("bad-header",)),
    "aiff of 0 bytes": holding(lambda: _sized_aiff(0, None), ("bad-header",)),
    "aiff that never ends": holding(lambda: _sized_aiff(0xFFFFFFFF, None), ()),
    "aiff whose head is not counted": holding(lambda: _sized_aiff(len(encoded(form="AIFF")) - 20, None), ()),
    "aiff, samples of 0 bytes": holding(lambda: _sized_aiff(None, 0), ("bad-header",)),
    "aiff, samples of 0 bytes by a pipe": holding(lambda: _sized_aiff(0, 0, samples=0), ("stream-header",)),
    "aiff, samples of 2 GB by a pipe": holding(
        lambda: _sized_aiff(0x7F000050, 0x7F000008, samples=0x3F800000), ("stream-header",)
    ),
    "w64 of 0 bytes": holding(lambda: _sized_w64(0, None), ("bad-header",)),
    "w64, samples of 0 bytes": holding(lambda: _sized_w64(None, 0), ("bad-header",)),
    "w64, samples of unknown length": holding(lambda: _sized_w64((1 << 64) - 1, (1 << 63) - 1), ("stream-header",)),
    "w64, zeros after the samples": holding(lambda: encoded(form="W64") + bytes(2_000), ()),
    "w64, junk after the samples": holding(lambda: encoded(form="W64") + b"\xff" * 2_000, ("bad-header",)),
    "caf, zeros after the samples": holding(lambda: encoded(form="CAF") + bytes(2_000), ()),
    "caf, junk after the samples": holding(
        lambda: encoded(form="CAF") + np.random.default_rng(4).bytes(2_000), ("bad-header",)
    ),
    "caf, cut": holding(lambda: encoded(form="CAF")[:20_000], "not-audio"),
    "flac, cut": holding(lambda: encoded(form="FLAC")[:20_000], ("truncated",)),
    "flac, cut in its header": holding(lambda: encoded(form="FLAC")[:60], "not-audio"),
    "ogg, damaged": holding(lambda: _damaged(encoded(form="OGG"), 5_000, 1_000), ("damaged",)),
    "ogg, cut": holding(lambda: encoded(form="OGG")[:8_000], ("truncated",)),
    "flac, damaged": holding(lambda: _damaged(encoded(form="FLAC")), ("truncated",)),
    "flac, another rate in its header": holding(
        lambda: _flac_stating(encoded(form="FLAC"), rate=44_100), ("bad-header",)
    ),
    "flac, other bits in its header": holding(lambda: _flac_stating(encoded(form="FLAC"), bits=24), ("bad-header",)),
    "flac, fewer samples in its header": holding(
        lambda: _flac_stating(encoded(form="FLAC"), samples=20_000), ("truncated",)
    ),
    "flac, more samples in its header": holding(
        lambda: _flac_stating(encoded(form="FLAC"), samples=33_000), ("truncated",)
    ),
    "flac, frames of its middle missing": holding(lambda: _without_frames(encoded(form="FLAC"), 2, 4), ("damaged",)),
    "flac, a part of it silent": holding(lambda: encoded(_part_silent(), form="FLAC"), ()),
    "flac, a part of it silent, frames missing": holding(
        lambda: _without_frames(encoded(_part_silent(), form="FLAC"), 3, 4), ("damaged",)
    ),
    "flac of unknown length": holding(lambda: _of_unknown_length(encoded(form="FLAC")), ("stream-header",)),
    "flac of unknown length, cut": holding(
        lambda: _of_unknown_length(encoded(form="FLAC"))[:20_000], ("stream-header", "truncated")
    ),
    "ogg, its last page damaged": holding(lambda: _damaged(encoded(form="OGG"), -100, 20), ("damaged",)),
    "ogg, its last page cut": holding(lambda: encoded(form="OGG")[:-1], ("truncated",)),
    "opus, its last page damaged": holding(lambda: _damaged(_opus(), -100, 20), ("damaged",)),
    "opus, its last page cut": holding(lambda: _opus()[:-1], ("truncated",)),
    # several recordings in one file, of which most decoders read the first
    "ogg, chained": holding(lambda: encoded(form="OGG") + encoded(SOUND[:20_000], form="OGG"), ()),
    "ogg, twice": holding(lambda: encoded(form="OGG") * 2, ()),
    "ogg, chained, the first cut": holding(lambda: encoded(form="OGG")[:-3_000] + encoded(form="OGG"), ("truncated",)),
    "ogg, chained, the last cut": holding(lambda: encoded(form="OGG") + encoded(form="OGG")[:-3_000], ("truncated",)),
    "ogg, chained to another rate": holding(
        lambda: encoded(form="OGG") + encoded(form="OGG", rate=24_000), ("truncated",)
    ),
    "opus, chained": holding(lambda: encoded(form="OGG", subtype="OPUS") + encoded(form="OGG", subtype="OPUS"), ()),
    "mp3, joined": holding(lambda: _mp3() + _mp3(SOUND[:20_000]), ()),
    "mp3, joined with their tags": holding(lambda: _mp3() + b"TAG" + bytes(125) + ID3 + _mp3(), ()),
    "mp3, joined to another rate": holding(lambda: _mp3() + _mp3(rate=24_000), ("truncated",)),
    "mp3, joined to stereo": holding(lambda: _mp3() + _mp3(np.stack([SOUND, SOUND], axis=1)), ("truncated",)),
    "mp3, with a tag at its end": holding(lambda: _mp3() + b"TAG" + bytes(125), ()),
    "mp3, more after it": holding(lambda: _mp3() + np.random.default_rng(3).bytes(20_000), ("bad-header",)),
    # names and kinds of file
    "directory": Case(lambda path: path.mkdir(), "is-directory"),
    "missing": Case(lambda path: None, "not-found"),
}
POSIX_CASES: dict[str, Case] = {
    "fifo": Case(lambda path: os.mkfifo(path), "not-a-file"),
    "socket": Case(_bind, "not-a-file"),
    "device": Case(lambda path: path.symlink_to("/dev/zero"), "not-a-file"),
    "dangling link": Case(lambda path: path.symlink_to(path.parent / "nowhere"), "not-found"),
    "looping link": Case(lambda path: path.symlink_to(path.name), "cannot-open"),
    "4 GB, sparse": Case(_sparse, ()),
}


def _rifx() -> bytes:
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", RATE, 1, "PCM_16", endian="BIG", format="WAV") as file:
        file.write(SOUND)
    return out.getvalue()


def refitted(subtype: str, form: str = "WAV", **fields: int) -> bytes:
    """Return a file whose format chunk has other values in some fields of 16 bits.

    `valid` are the valid bits of an extensible header or the samples per block of ADPCM, and `tag`
    the coding in an extensible header.
    """
    content = bytearray(encoded(form=form, subtype=subtype))
    for field, value in fields.items():
        at = content.index(b"fmt ") + 8 + {"frame": 12, "bits": 14, "valid": 18, "tag": 24}[field]
        struct.pack_into("<H", content, at, value)
    return bytes(content)


def _rf64(declared: int, samples: int | None = None) -> bytes:
    samples = declared // 2 if samples is None else samples
    sizes = chunk(b"ds64", struct.pack("<QQQI", declared, declared, samples, 0))
    return wav(sizes, FMT, chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF, magic=b"RF64")


def _mp3(samples: np.ndarray = SOUND, rate: int = RATE) -> bytes:
    return encoded(samples, form="MP3", subtype="MPEG_LAYER_III", rate=rate)


def without_header(mp3: bytes) -> bytes:
    """Return the frames of an MP3 file without the first, which states the number of frames."""
    assert b"Info" in mp3[:50] or b"Xing" in mp3[:50]
    return mp3[mp3.index(mp3[:2], 4) :]


def _stating(mp3: bytes, frames: int) -> bytes:
    """Return the file with another number of frames in its header, and no number of bytes."""
    at = max(mp3[:50].find(b"Info"), mp3[:50].find(b"Xing"))
    return mp3[: at + 4] + struct.pack(">II", 1, frames) + mp3[at + 12 :]


def silent_mp2(frames: int, kbit_s: int = 64, rate: int = 44_100, header: bytes = b"\xff\xfd\x40\xc0") -> bytes:
    """Return frames of MPEG 1, layer II, mono, that are silent because no bits are allocated."""
    made, over = [], 0
    for _ in range(frames):
        size, over = divmod(144_000 * kbit_s + over, rate)  # a padding byte whenever the remainders add up to one
        padding = size - 144_000 * kbit_s // rate
        made.append(header[:2] + bytes([header[2] | padding << 1, header[3]]) + bytes(size - 4))
    return b"".join(made)


def endless(subtype: str) -> bytes:
    """Return a WAV file with the data size that a program writes to a pipe."""
    content = bytearray(encoded(subtype=subtype, rate=8_000))
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff" * 4
    return bytes(content)


def _opus() -> bytes:
    return encoded(form="OGG", subtype="OPUS")


def _unpadded_aiff() -> bytes:
    """Return an AIFF file of 8 bits whose odd number of samples is not padded."""
    content = bytearray(encoded(SOUND[:20_001], form="AIFF", subtype="PCM_S8"))
    at = content.index(b"SSND")
    return bytes(content[: at + 8 + struct.unpack(">I", content[at + 4 : at + 8])[0]])


def _aiff_of_two_formats() -> bytes:
    """Return an AIFF file whose first chunk states an impossible rate, and the next one the rate of its sound."""
    content = encoded(form="AIFF")
    at = content.index(b"COMM")
    wrong = bytearray(content[at : at + 26])
    wrong[16:18] = b"\x45\x52"  # the exponent of the rate
    size = struct.pack(">I", len(content) - 8 + len(wrong))
    return content[:4] + size + content[8:at] + bytes(wrong) + content[at:]


def _sized_aiff(file: int | None, sound: int | None, samples: int | None = None) -> bytes:
    """Return an AIFF file with other sizes of the file and of its sound, and another number of samples."""
    content = bytearray(encoded(form="AIFF"))
    places = (4, file), (content.index(b"SSND") + 4, sound), (content.index(b"COMM") + 10, samples)
    for at, number in places:
        if number is not None:
            content[at : at + 4] = struct.pack(">I", number)
    return bytes(content)


def _sized_w64(file: int | None, sound: int | None) -> bytes:
    """Return a Wave64 file with other sizes of the file and of its samples."""
    content = bytearray(encoded(form="W64"))
    for at, number in ((16, file), (content.index(b"data") + 16, sound)):
        if number is not None:
            content[at : at + 8] = struct.pack("<Q", number)
    return bytes(content)


def _flac_stating(flac: bytes, rate: int = RATE, samples: int = len(SOUND), bits: int = 16) -> bytes:
    """Return a FLAC file of mono, 16 bits, whose STREAMINFO states another rate, number of samples or bits."""
    return flac[:18] + (rate << 44 | bits - 1 << 36 | samples).to_bytes(8, "big") + flac[26:]


def _without_frames(flac: bytes, first: int, last: int) -> bytes:
    """Remove the frames from one number up to another. libsndfile writes frames of 4,096 samples."""
    at, ends = 0, []
    for number in (first, last):
        at = flac.index(b"\xff\xf8\xc5\x08" + bytes([number]), at)
        ends.append(at)
    return flac[: ends[0]] + flac[ends[1] :]


def _part_silent() -> np.ndarray:
    samples = SOUND.copy()
    samples[8_000:20_000] = 0
    return samples


def _of_unknown_length(flac: bytes) -> bytes:
    """Return a FLAC file as an encoder writes it to a pipe: 36 bits of STREAMINFO are 0."""
    changed = bytearray(flac)
    changed[21] &= 0xF0
    changed[22:26] = bytes(4)
    return bytes(changed)


def _damaged(content: bytes, start: int = 15_000, count: int = 5_000) -> bytes:
    broken = bytearray(content)
    start %= len(broken)
    broken[start : start + count] = bytes(count)
    return bytes(broken)
