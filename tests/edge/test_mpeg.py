"""All audio of MPEG files is decoded, whatever their headers state, and only missing audio causes warnings."""

from __future__ import annotations

import io
import struct
import time

import hostile
import numpy as np
import pytest
import soundfile

from ms_edge.audio import mpeg
from ms_edge.audio.file import AudioFile
from ms_edge.errors import AudioError

# The delay of an encoder and a decoder of layer III. libsndfile removes it if a header states it.
DELAY = 1105


def decoded(content: bytes, block_s: float | None = None) -> tuple[np.ndarray, list[str]]:
    with AudioFile(io.BytesIO(content), block_s=block_s) as file:
        return np.concatenate(list(file.blocks(file.sample_rate_hz))), file.warnings


def same(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-6)


def parts_of(content: bytes) -> tuple[list[mpeg.Part], list[str]]:
    return mpeg.mpeg_parts(lambda offset, count: content[offset : offset + count], 0, len(content))


def recording(rate: int, channels: int = 1, mode: str = "VARIABLE", seconds: float = 8.0) -> bytes:
    """An MP3 file of variable bit rate: a second of loud noise, then a soft tone. Its first frames are the largest."""
    samples = 0.05 * np.sin(np.arange(round(seconds * rate)) / 9)
    samples[:rate] += np.random.default_rng(0).standard_normal(rate) * 0.2
    if channels == 2:
        samples = np.stack([samples, np.roll(samples, 7) * 0.7], axis=1)
    level = 0.3 if mode == "VARIABLE" else 0.6
    out = io.BytesIO()
    soundfile.write(out, samples, rate, "MPEG_LAYER_III", format="MP3", bitrate_mode=mode, compression_level=level)
    return out.getvalue()


@pytest.mark.parametrize("rate", [44_100, 48_000, 32_000, 22_050, 16_000, 11_025, 8_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["VARIABLE", "AVERAGE", "CONSTANT"])
def test_mp3_without_stated_length_is_decoded_completely(rate, channels, mode):
    stated = recording(rate, channels, mode, 3.0)
    expected, warnings = decoded(stated)
    assert (len(expected), warnings) == (3 * rate, [])
    bare = hostile.without_header(stated)
    inside = hostile.wav(hostile.chunk(b"fmt ", hostile.fmt(0x55, channels, rate)), hostile.chunk(b"data", bare))
    for content in (bare, inside, hostile.ID3 + bare, bare + b"TAG" + bytes(125)):
        found, warnings = decoded(content)
        assert warnings == []
        assert 0 < len(found) - len(expected) < 4 * 1152
        same(found[DELAY : DELAY + len(expected)], expected)


def test_libsndfile_estimates_far_too_short_a_length():
    """Otherwise the test above would prove nothing."""
    bare = hostile.without_header(recording(44_100, 1))
    assert soundfile.info(io.BytesIO(bare)).duration < 5
    assert len(decoded(bare)[0]) > 8 * 44_100


@pytest.mark.parametrize("block_s", [0.001, 0.05, None])
def test_block_size_does_not_change_samples(block_s):
    bare = hostile.without_header(recording(22_050))
    same(decoded(bare, block_s)[0], decoded(bare)[0])


@pytest.mark.parametrize("size", [mpeg.AHEAD + 1, mpeg.AHEAD + 100, 3 * mpeg.AHEAD])
def test_read_size_does_not_change_frames(monkeypatch, size):
    one, other = recording(44_100, 1), recording(24_000, 2)
    bare = hostile.without_header(one)
    content = one + hostile.ID3 + other + bare[:20_000] + bytes(5_000) + bare[20_000:] + bytes(30_000)
    expected = parts_of(content)
    assert len(expected[0]) == 3
    assert expected[1] == ["damaged", "bad-header"]
    monkeypatch.setattr(mpeg, "BLOCK", size)
    assert parts_of(content) == expected


@pytest.mark.parametrize(
    ("header", "kbit_s", "rate", "samples"),
    [
        (b"\xff\xfd\x40\xc0", 64, 44_100, 1152),  # MPEG 1, layer II, in which every 26th frame has no padding
        (b"\xff\xfd\x44\xc0", 64, 48_000, 1152),
        (b"\xff\xfd\x48\xc0", 64, 32_000, 1152),
        (b"\xff\xf5\x80\xc0", 64, 22_050, 1152),  # MPEG 2
        (b"\xff\xf5\x88\xc0", 64, 16_000, 1152),
        (b"\xff\xe5\x88\xc0", 64, 8_000, 1152),  # MPEG 2.5
    ],
)
def test_mp2_is_decoded_completely(header, kbit_s, rate, samples):
    content = hostile.silent_mp2(100, kbit_s, rate, header)
    found, warnings = decoded(content)
    assert (len(found), warnings) == (100 * samples, [])
    found, warnings = decoded(content[:-1])
    assert (len(found), warnings) == (99 * samples, ["truncated"])


def test_mp1_is_decoded_completely():
    frame = b"\xff\xff\x14\xc0" + bytes(28)  # layer I, 32 kbit/s, 48 kHz: 32 bytes for 384 samples
    found, warnings = decoded(frame * 100)
    assert (len(found), warnings) == (100 * 384, [])


@pytest.mark.parametrize("size", [200, 1001, 3400])
def test_free_format_is_decoded_completely(size):
    frame = b"\xff\xfd\x04\xc0" + bytes(size - 4)
    found, warnings = decoded(frame * 50)
    assert (len(found), warnings) == (50 * 1152, [])
    found, warnings = decoded(b"ID3\x04\0\0\0\0\0\0" + frame * 50 + frame[:100])
    assert (len(found), warnings) == (50 * 1152, ["truncated"])


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 100])
def test_incomplete_last_frame_is_truncated(cut):
    bare = hostile.without_header(recording(44_100))
    (part,), _ = parts_of(bare)
    (start, end), last = part.stretches[0], bare.rindex(bare[:2])
    assert (start, end) == (0, len(bare))
    assert decoded(bare[: last + cut])[1] == ["truncated"]
    assert decoded(bare[:last])[1] == []  # nothing shows that a frame is missing


@pytest.mark.parametrize("start", [1, 2, 50, 103, 1_000])
def test_only_the_incomplete_first_frame_is_lost(start):
    bare = hostile.without_header(recording(44_100))
    whole, _ = decoded(bare)
    found, warnings = decoded(bare[start:])
    assert warnings == ["damaged"]
    lost = len(whole) - len(found)
    assert lost in (1152, 2 * 1152)
    same(found[4 * 1152 :], whole[lost + 4 * 1152 :])  # after the samples that depend on earlier frames


def test_junk_between_frames_is_skipped():
    bare = hostile.without_header(recording(44_100))
    whole, _ = decoded(bare)
    frame = next(place for place in _frames(bare) if place > 20_000)
    for junk in (b"\xff" * 700, np.random.default_rng(0).bytes(70_000), b"\xff\xfb\x90\x00" * 500):
        found, warnings = decoded(bare[:frame] + junk + bare[frame:])
        assert warnings == ["damaged"]
        assert len(found) == len(whole)
    tags = hostile.ID3 + b"TAG" + bytes(125) + b"APETAGEX" + struct.pack("<5I", 2000, 40, 0, 0, 0) + bytes(44)
    found, warnings = decoded(bare[:frame] + tags + bare[frame:])
    assert warnings == []
    same(found, whole)


@pytest.mark.parametrize(
    "tail",
    [
        b"TAG" + bytes(125),
        b"TAG+" + bytes(223) + b"TAG" + bytes(125),
        b"LYRICSBEGIN" + bytes(9_000) + b"009011LYRICS200" + b"TAG" + bytes(125),
        bytes(9_000) + b"APETAGEX" + struct.pack("<4I", 1000, 9_032, 1, 0) + bytes(8),
        b"APETAGEX" + bytes(24) + bytes(9_000) + b"APETAGEX" + struct.pack("<4I", 2000, 9_032, 1, 1 << 31) + bytes(8),
    ],
    ids=["ID3v1", "ID3v1 extended", "Lyrics3", "APE 1", "APE 2"],
)
def test_tags_at_the_end_add_no_samples(tail):
    stated = recording(44_100)
    for content in (stated, hostile.without_header(stated)):
        expected, _ = decoded(content)
        found, warnings = decoded(content + tail)
        assert warnings == []
        same(found, expected)
        assert decoded(content[:-10] + tail)[1] == ["truncated"]


@pytest.mark.parametrize("extra", [b"", bytes(3_000), b"\xff\xd8" + bytes(range(256)) * 1_000])
def test_first_tag_may_exceed_its_stated_length(extra):
    bare = hostile.without_header(recording(44_100))
    found, warnings = decoded(hostile.ID3 + extra + bare)
    same(found, decoded(bare)[0])
    assert warnings == (["damaged"] if any(extra) else [])
    too_long = b"ID3\x04\0\0\x7f\x7f\x7f\x7f"  # and a tag that declares the size of the whole file
    same(decoded(too_long + bare)[0], decoded(bare)[0])


def test_header_with_too_few_frames_hides_nothing():
    stated = recording(44_100)
    bare = hostile.without_header(stated)
    at = max(stated[:50].find(b"Info"), stated[:50].find(b"Xing"))
    for frames in (0, 1, 100):
        lying = stated[: at + 8] + struct.pack(">I", frames) + stated[at + 12 :]
        found, warnings = decoded(lying)
        same(found, decoded(bare)[0])
        assert warnings == []


def test_joined_file_without_length_is_decoded_completely():
    one, other = recording(44_100), recording(44_100, seconds=5.0)
    lengths = {name: len(decoded(content)[0]) for name, content in _named(one, other).items()}
    for first, second in (("one", "bare other"), ("bare one", "other"), ("bare one", "bare other"), ("one", "other")):
        found, warnings = decoded(_named(one, other)[first] + _named(one, other)[second])
        assert warnings == []
        # The header is dropped before a file without one, and so is the encoder's delay that it states.
        first = "bare one" if second == "bare other" else first
        assert len(found) == lengths[first] + lengths[second]


def test_only_parts_of_another_rate_are_skipped():
    one, other = recording(44_100), recording(24_000)
    found, warnings = decoded(one + other + one)
    assert warnings == ["truncated"]
    same(found, np.tile(decoded(one)[0], 2))


def test_vbri_header_adds_no_samples():
    bare = hostile.silent_mp2(50, header=b"\xff\xfb\x50\xc0")  # a layer III frame without side information is silence
    vbri = bare[:36] + b"VBRI" + struct.pack(">HHHII", 1, 0, 0, len(bare), 49) + bare[54:]
    found, warnings = decoded(vbri)
    assert (len(found), warnings) == (49 * 1152, [])
    assert decoded(vbri[: 20 * 209])[1] == ["truncated"]


def test_libsndfile_reads_correct_files_directly():
    """A callback for every frame makes decoding a fifth slower."""
    stated, constant = recording(44_100), recording(48_000, mode="CONSTANT")
    for content in (stated, hostile.ID3 + stated, stated + b"TAG" + bytes(125), hostile.without_header(constant)):
        (part,), warnings = parts_of(content)
        assert (part.direct, warnings) == (True, [])
    for content in (hostile.without_header(stated), constant[:-10], constant + bytes(2_000)):
        (part,), _ = parts_of(content)
        assert not part.direct


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfb\x90\x00" * 500_000,
        b"\xff\xfb\x00\x00" * 500_000,  # free format
        np.random.default_rng(0).bytes(5_000_000),
        b"TAG" * 700_000,
        (b"\xff\xfd\x40\xc0" + bytes(204) + b"TAG" + bytes(125)) * 5_000,
        hostile.silent_mp2(10) + b"\xff\xfb\x90\x00" * 500_000,
        hostile.silent_mp2(10) + b"\xff\xfb\x00\x00" * 500_000,
        hostile.silent_mp2(10) + b"ID3\x04\0\0\0\0\0\0" * 200_000,
    ],
)
def test_any_bytes_are_searched_quickly(content):
    began = time.process_time()
    parts_of(content)
    assert time.process_time() - began < 10


def test_mpeg_in_a_wav_stream_is_one_sentence():
    content = hostile.wav(hostile.chunk(b"fmt ", hostile.fmt(tag=0x55)), hostile.chunk(b"data", bytes(1_000)))

    class Forward(io.RawIOBase):
        def __init__(self) -> None:
            self.content = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            return self.content.readinto(buffer)

    with pytest.raises(AudioError, match="cannot be read from a stream") as caught:
        AudioFile(Forward())
    assert caught.value.code == "not-audio"


def _frames(bare: bytes) -> list[int]:
    """The offsets of frames with the same first two bytes, found by following their sizes."""
    rates = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    places, at = [], 0
    while at + 4 <= len(bare):
        assert bare[at : at + 2] == bare[:2]
        places.append(at)
        at += 144_000 * rates[bare[at + 2] >> 4] // 44_100 + (bare[at + 2] >> 1 & 1)
    return places


def _named(one: bytes, other: bytes) -> dict[str, bytes]:
    return {
        "one": one,
        "other": other,
        "bare one": hostile.without_header(one),
        "bare other": hostile.without_header(other),
    }
