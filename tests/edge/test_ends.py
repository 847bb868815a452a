"""What a container states about its audio shows every loss, and no loss where there is none.

The files are written by FFmpeg (PyAV), and cut at many places.
"""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from hostile import RATE, encoded, refitted
from hypothesis import given, settings
from hypothesis import strategies as st

from ms_edge.audio.facts.dispatch import facts_of
from ms_edge.audio.facts.flac import any_missing
from ms_edge.audio.facts.reader import Facts, span
from ms_edge.audio.file import open_audio
from ms_edge.audio.parts import opus_begins_before_0
from ms_edge.audio.riff import ReadAt
from ms_edge.errors import AudioError

SECONDS = 2.5
MANY = 4_000_000_000
FAST = {"movflags": "faststart"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}
FILES: dict[str, tuple[str, str, int, dict[str, str]]] = {  # container, coding, sample rate, options
    "m4a": ("ipod", "aac", 44_100, {}),
    "m4a, fast start": ("ipod", "aac", 44_100, FAST),
    "m4a, alac": ("ipod", "alac", 44_100, FAST),
    "mp4, mp3": ("mp4", "libmp3lame", 44_100, FAST),
    "mp4, opus": ("mp4", "libopus", 48_000, FAST),
    "mp4, flac": ("mp4", "flac", 44_100, FAST),
    "mp4, fragments": ("mp4", "aac", 44_100, FRAGMENTS),
    "mp4, dash": ("mp4", "aac", 44_100, {"movflags": "dash+global_sidx", "frag_duration": "500000"}),
    "mov, pcm, fragments": ("mov", "pcm_s16le", 44_100, FRAGMENTS),
    "mov, pcm": ("mov", "pcm_s16le", 44_100, FAST),
    "3gp, amr": ("3gp", "libopencore_amrnb", 8_000, FAST),
    "mka, aac": ("matroska", "aac", 48_000, {}),
    "mka, flac": ("matroska", "flac", 48_000, {}),
    "webm, opus": ("webm", "libopus", 48_000, {}),
    "webm, live": ("webm", "libopus", 48_000, {"live": "1"}),
    "wma": ("asf", "wmav2", 44_100, {}),
    "wma, old": ("asf", "wmav1", 22_050, {}),
    "adts": ("adts", "aac", 44_100, {}),
    "ac3": ("ac3", "ac3", 48_000, {}),
    "eac3": ("eac3", "eac3", 48_000, {}),
    "amr": ("amr", "libopencore_amrnb", 8_000, {}),
    "wavpack": ("wv", "wavpack", 44_100, {}),
    "tta": ("tta", "tta", 44_100, {}),
    "avi, mp3": ("avi", "libmp3lame", 44_100, {}),
    "avi, pcm": ("avi", "pcm_s16le", 44_100, {}),
    "flv, aac": ("flv", "aac", 44_100, {}),
    "ts, aac": ("mpegts", "aac", 44_100, {}),
    "ts, mp2": ("mpegts", "mp2", 44_100, {}),
    "mpg, mp2": ("mpeg", "mp2", 44_100, {}),
    "voc": ("voc", "pcm_s16le", 44_100, {}),
    "rm": ("rm", "ac3", 44_100, {}),
    "latm": ("latm", "aac", 44_100, {}),
    "mxf": ("mxf_opatom", "pcm_s16le", 48_000, {}),
    "oga, flac": ("ogg", "flac", 44_100, {}),
    "wav, mp2": ("wav", "mp2", 44_100, {}),
    "aiff": ("aiff", "pcm_s16be", 44_100, {}),
    "caf": ("caf", "pcm_s16be", 44_100, {}),
    "caf, alac": ("caf", "alac", 44_100, {}),
    "au": ("au", "pcm_s16be", 44_100, {}),
    "wave64": ("w64", "pcm_s16le", 44_100, {}),
}
CREATED = {"m4a", "m4a, fast start", "mp4, fragments", "mov, pcm", "3gp, amr", "mka, aac", "webm, opus", "wma"}
STREAMS = {"latm", "adts", "ac3", "eac3", "amr"}
LENGTHLESS = STREAMS | {"voc", "rm", "mxf", "wav, mp2", "ts, aac", "ts, mp2", "mpg, mp2", "flv, aac"}
LENGTHLESS |= {"webm, live", "mp4, fragments", "mov, pcm, fragments"}


@cache
def written(name: str, start_s: float = 0.0) -> bytes:
    """Return a file of noise that begins at a time, with a creation time."""
    container, coding, rate, options = FILES[name]
    samples = (np.random.default_rng(0).standard_normal((1, int(SECONDS * rate))) * 3000).astype(np.int16)
    path = Path(tempfile.mkdtemp()) / "a"
    with av.open(str(path), "w", format=container, options=options) as file:  # a path: a fast start reads it again
        file.metadata["creation_time"] = "2024-05-06T07:08:09Z"
        stream = file.add_stream(coding, rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = 12_200 if "amr" in coding else 64_000
        resampler = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.codec_context.frame_size or 1024)
        whole = av.AudioFrame.from_ndarray(samples, "s16", "mono")
        whole.sample_rate, whole.pts = rate, int(start_s * rate)
        for frame in (*resampler.resample(whole), *resampler.resample(None), None):
            file.mux(stream.encode(frame))
    content = path.read_bytes()
    path.unlink()
    path.parent.rmdir()
    return content


def stated(content: bytes, track: int = 1) -> Facts:
    return facts_of(lambda offset, count: content[offset : offset + min(count, 1 << 20)], len(content), track)


def decoded(content: bytes) -> tuple[int, int]:
    """Return the number of frames that FFmpeg decodes, and their rate."""
    frames, rate = 0, 1
    try:
        with av.open(io.BytesIO(content)) as file:
            for packet in file.demux(audio=0):
                try:
                    for frame in packet.decode():
                        frames, rate = frames + frame.samples, frame.sample_rate
                except av.FFmpegError:
                    pass
    except (av.FFmpegError, IndexError, ValueError):
        pass
    return frames, rate


@pytest.mark.parametrize("name", FILES)
def test_intact_file_shows_no_loss(name):
    frames, rate = decoded(written(name))
    assert frames / rate == pytest.approx(SECONDS, abs=0.1)
    found = stated(written(name))
    assert not found.cut
    assert not found.more_than(frames, rate)
    assert found.packets <= len(written(name))


@pytest.mark.parametrize("name", FILES)
def test_no_loss_by_a_cut_is_silent(name):
    content = written(name)
    whole = decoded(content)[0]
    places = np.random.default_rng(1).integers(1, len(content), 12).tolist()
    for size in (*places, len(content) - 1, len(content) - 2):
        frames, rate = decoded(content[:size])
        found = stated(content[:size])
        # Nothing shows that a file ends between two frames. One byte more is the beginning of another.
        between = name in STREAMS and stated(content[: size + 1]).cut
        if 0 < frames < whole and not between:
            assert found.cut or found.more_than(frames, rate), size


@pytest.mark.parametrize("name", sorted(set(FILES) - LENGTHLESS - {"au", "wave64"}))
def test_fewer_frames_than_stated_are_noticed(name):
    found = stated(written(name))
    assert found.samples is not None
    assert found.sample_rate_hz
    assert found.samples / found.sample_rate_hz == pytest.approx(SECONDS, abs=0.15)
    assert found.more_than(int((SECONDS - 0.5) * 1000), 1000)


@pytest.mark.parametrize("name", sorted(CREATED))
def test_container_states_when_it_was_recorded(name):
    assert stated(written(name)).recorded_at == "2024-05-06T07:08:09Z"


def test_audio_may_begin_later_than_its_file():
    # Of WMA, the encoder's delay of 2,048 samples comes first.
    assert stated(written("wma", 1.5)).recorded_at == "2024-05-06T07:08:10.454Z"
    fragments = bytearray(written("mp4, fragments"))
    at = fragments.index(b"tfdt") + 8
    fragments[at : at + 8] = struct.pack(">Q", 10 * 44_100)
    assert fragments[at - 4] == 1  # a time of 64 bits
    assert stated(bytes(fragments)).recorded_at == "2024-05-06T07:08:19Z"


@pytest.mark.parametrize(
    ("name", "box", "at", "numbers", "packets"),
    [
        ("mp4, fragments", b"trun", 8, (MANY,), MANY),
        ("3gp, amr", b"stsz", 8, (32, 1_000_000), 1_000_000),  # one size for all packets, and how many they are
        ("mov, pcm", b"stsc", 12, (1, MANY), MANY // 1024),  # in each chunk; FFmpeg reads 1024 at a time
    ],
)
def test_packets_without_bytes_are_counted(name, box, at, numbers, packets):
    content = bytearray(written(name))
    at += content.index(box)
    content[at : at + 4 * len(numbers)] = struct.pack(f">{len(numbers)}I", *numbers)
    assert packets <= stated(bytes(content)).packets < 2 * packets


def test_only_packets_that_fit_are_listed(tmp_path):
    content = bytearray(written("3gp, amr"))
    for box, at in ((b"stts", 12), (b"stsz", 12), (b"stsc", 16)):
        at += content.index(box)
        content[at : at + 4] = struct.pack(">I", 80_000_000)  # as in the header of a long recording
    assert stated(bytes(content)).packets < len(content) / 32 + 2
    path = tmp_path / "cut.3gp"
    path.write_bytes(content)
    with open_audio(path, decoder="ffmpeg") as audio:
        assert sum(map(len, audio.blocks(8_000))) == pytest.approx(SECONDS * 8_000, abs=160)
        assert audio.warnings == ["truncated"]
    assert path.read_bytes() == content  # FFmpeg reads a copy


def with_compressed_header(content: bytes) -> bytes:
    """Return an MP4 whose header is compressed, as QuickTime wrote it, and takes the same space."""

    def box(name: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return struct.pack(">I", 8 + len(body)) + name + body

    at = content.index(b"moov") - 4
    header = content[at : at + int.from_bytes(content[at : at + 4], "big")]
    parts = box(b"dcom", b"zlib"), box(b"cmvd", struct.pack(">I", len(header)), zlib.compress(header))
    packed = box(b"moov", box(b"cmov", *parts))
    return content[:at] + packed + box(b"free", bytes(len(header) - len(packed) - 8)) + content[at + len(header) :]


def test_packets_of_a_compressed_header_are_counted(tmp_path):
    content = bytearray(written("3gp, amr"))
    path = tmp_path / "a.mov"
    path.write_bytes(with_compressed_header(bytes(content)))
    with open_audio(path, decoder="ffmpeg") as audio:
        assert sum(map(len, audio.blocks(8_000))) == pytest.approx(SECONDS * 8_000, abs=160)
    at = content.index(b"stsz") + 12
    content[at : at + 4] = struct.pack(">I", 20_000_000)  # FFmpeg would take 700 MB for them
    path.write_bytes(with_compressed_header(bytes(content)))
    with pytest.raises(AudioError) as caught:
        open_audio(path, decoder="ffmpeg")
    assert caught.value.code == "too-long"


def test_only_one_compressed_header_is_read():
    content = with_compressed_header(written("3gp, amr"))
    assert stated(content).packets < 1_000
    at = content.index(b"cmov") - 4
    size = int.from_bytes(content[at : at + 4], "big")
    whole = struct.pack(">I", 8 + 2 * size) + b"moov" + 2 * content[at : at + size]
    assert stated(content[: at - 8] + whole).packets > 1 << 32


def test_numbers_of_packets_are_found_behind_tags():
    content, tag = bytearray(written("3gp, amr")), b"ID3\4\0\0\0\0\0\x0a" + bytes(10)
    at = content.index(b"stsz") + 12
    content[at : at + 4] = struct.pack(">I", MANY)
    assert stated(bytes(content)).lowered == ((at, len(content) // 32 + 1),)
    assert stated(tag + content).lowered == ((len(tag) + at, len(content) // 32 + 1),)


def test_samples_of_pcm_in_quicktime_are_no_packets():
    content = bytearray(written("mov, pcm"))
    at = content.index(b"stsz") + 12
    content[at : at + 4] = struct.pack(">I", MANY)
    assert stated(bytes(content)).packets == stated(written("mov, pcm")).packets


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*FILES, "FLAC", "OGG", "MP3", "WAV"]), st.data())
def test_damaged_bytes_never_raise(name, data):
    content = bytearray(written(name) if name in FILES else encoded(form=name))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(content) - 1, 3000)))
        content[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    assert isinstance(stated(bytes(content)), Facts)


@pytest.mark.parametrize("name", ["m4a", "mka, aac", "wma", "avi, mp3"])
def test_missing_track_states_no_length(name):
    assert stated(written(name), 2).samples is None


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM"])
@pytest.mark.parametrize("fields", [{"valid": 100}, {"frame": 500}])
def test_adpcm_block_contradicts_its_samples(subtype, fields):
    assert not stated(encoded(subtype=subtype)).contradictory
    assert stated(refitted(subtype, **fields)).contradictory


@pytest.mark.parametrize("name", ["adts", "ac3"])
def test_one_frame_and_the_next_begun_are_cut(name):
    content = written(name)
    frame = content.index(content[:2], 1)
    assert not stated(content[:frame]).cut
    assert all(stated(content[: frame + left]).cut for left in range(1, 20))


@pytest.mark.parametrize("left", range(1, 12))
def test_truehd_ends_with_a_whole_frame(left):
    frame = struct.pack(">HH", 6, 0) + b"\xf8\x72\x6f\xba" + bytes(4)  # 6 words
    assert not stated(frame * 3).cut
    assert stated(frame * 3 + frame[:left]).cut


def test_pauses_of_amr_are_not_counted():
    speech, pause, nothing = b"\x04" + bytes(12), b"\x44" + bytes(5), b"\x7c"
    found = stated(b"#!AMR\n" + speech * 50 + pause + nothing * 7 + speech * 50)
    assert (found.samples, found.sample_rate_hz, found.cut) == (16_000, 8_000, False)
    assert stated(b"#!AMR\n" + speech * 50 + speech[:-1]).cut


def test_monkeys_audio_states_its_samples_and_sizes():
    descriptor = b"MAC " + struct.pack("<HHIIIIIII", 3990, 0, 52, 24, 8, 44, 1000, 0, 10) + bytes(16)
    header = struct.pack("<HHIIIHHI", 2000, 0, 73_728, 1_000, 3, 16, 2, 44_100)
    content = descriptor + header + bytes(8 + 44 + 1000 + 10)
    assert stated(content) == Facts(2 * 73_728 + 1_000, 44_100)
    assert stated(content[:-1]).cut


def test_dsd_states_its_samples_and_sizes():
    form = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 2, 2, 2_822_400, 1, 2_822_400, 4096, 0)
    dsf = struct.pack("<4sQQQ", b"DSD ", 28, 28 + 52 + 12 + 8192, 0) + form + struct.pack("<4sQ", b"data", 12 + 8192)
    assert stated(dsf + bytes(8192)) == Facts(2_822_400, 2_822_400)
    assert stated(dsf + bytes(8191)).cut
    rate = struct.pack(">4sQI", b"FS  ", 4, 2_822_400) + struct.pack(">4sQH8s", b"CHNL", 10, 2, b"SLFTSRGT")
    prop = struct.pack(">4sQ4s", b"PROP", 4 + len(rate), b"SND ") + rate
    dff = struct.pack(">4sQ4s", b"FRM8", 4 + len(prop) + 12 + 1000, b"DSD ") + prop + struct.pack(">4sQ", b"DSD ", 1000)
    assert stated(dff + bytes(1000)) == Facts(4_000, 2_822_400)
    assert stated(dff + bytes(999)).cut


def test_wave64_of_a_pipe_is_not_cut():
    content = bytearray(encoded(form="W64"))
    assert not stated(bytes(content)).cut
    assert stated(bytes(content[:-1])).cut
    at = content.index(b"data") + 16
    content[16:24] = content[at : at + 8] = b"\xff" * 8
    assert not stated(bytes(content[:-1])).cut


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=20))
def test_bytes_like_a_flac_frame_never_raise(head):
    content = encoded(form="FLAC")
    assert stated(content + b"\xff\xf8" + head).sample_rate_hz == RATE


def read(content: bytes) -> tuple[float, list[str], str]:
    """Return the seconds, the warnings and the codec of a file as ms-edge reads it."""
    with open_audio(io.BytesIO(content)) as audio:
        frames = sum(map(len, audio.blocks(audio.sample_rate_hz)))
        assert audio.codec
        return frames / audio.sample_rate_hz, audio.warnings, audio.codec


@pytest.mark.parametrize(("name", "codec"), [("caf, alac", "alac"), ("oga, flac", "flac"), ("wav, mp2", "mp2")])
def test_codings_that_libsndfile_refuses_are_read(name, codec):
    seconds, warnings, found = read(written(name))
    assert seconds == pytest.approx(SECONDS, abs=1152 / 44_100)
    assert (warnings, found) == ([], codec)


@pytest.mark.parametrize("name", ["oga, flac", "wav, mp2", "m4a, fast start", "mka, aac", "wma", "ac3", "tta"])
def test_half_a_file_is_truncated(name):
    content = written(name)
    seconds, warnings, _ = read(content[: len(content) // 2])
    assert 0.3 * SECONDS < seconds < 0.6 * SECONDS
    assert "truncated" in warnings


@pytest.mark.parametrize("name", ["adts", "tta", "FLAC"])
def test_tag_before_a_file_is_skipped(name):
    tag = b"ID3\x04\0\0\0\0\x01\0" + bytes(128)
    content = written(name) if name in FILES else encoded(form=name)
    assert read(tag + content) == read(content)
    assert stated(tag + content) == stated(content)
    assert stated(tag + content[:-1]) == stated(content[:-1])


@pytest.mark.parametrize("name", ["adts", "ac3"])
def test_recording_of_a_station_begins_within_a_frame(name):
    whole, rest = stated(written(name)), stated(written(name)[50:])
    assert whole.samples is not None
    assert rest.samples == whole.samples - (1024 if name == "adts" else 1536)
    assert not rest.cut
    assert stated(written(name)[50:-1]).cut


@pytest.mark.parametrize("left", range(1, 8))
def test_first_bytes_of_another_fragment_are_a_cut(left):
    content = written("mp4, fragments")
    at = content.rindex(b"moof") - 4
    assert not stated(content[:at]).cut
    assert stated(content[: at + left]).cut


def test_program_stream_ends_with_a_whole_packet():
    content = written("mpg, mp2")
    at = content.rindex(b"\0\0\1\xc0")
    assert not stated(content[:at]).cut
    assert all(stated(content[: at + left]).cut for left in range(1, 100))


@pytest.mark.parametrize("name", [*FILES, "FLAC", "OGG", "MP3", "WAV"])
def test_file_that_shrinks_meanwhile_ends(name):
    content = written(name) if name in FILES else encoded(form=name)
    for size in range(20, len(content), len(content) // 20):
        shorter = content[:size]
        assert isinstance(
            facts_of(lambda offset, count, file=shorter: file[offset : offset + count], len(content)), Facts
        )


@pytest.mark.parametrize("name", [*FILES, "FLAC", "OGG", "MP3", "WAV"])
def test_file_that_is_emptied_meanwhile_ends(name):
    content = written(name) if name in FILES else encoded(form=name)
    for reads in range(1, 8):
        assert isinstance(facts_of(emptied_after(reads, content), len(content)), Facts)


@pytest.mark.parametrize("sizes", [(7, 1), (4096, 4095), (0, 0), (100, 200)])
def test_flac_with_frames_longer_than_its_longest_is_contradictory(sizes):
    content = bytearray(encoded(form="FLAC"))
    assert not stated(bytes(content)).contradictory
    content[8:12] = struct.pack(">HH", *sizes)  # the shortest and the longest frame
    assert stated(bytes(content)).contradictory


def test_flac_that_is_emptied_meanwhile_ends():
    reads: list[int] = []

    def read_at(offset: int, count: int) -> bytes:
        reads.append(offset)
        assert len(reads) < 10
        return b""

    assert any_missing(read_at, 1 << 40, {1})


def emptied_after(reads: int, content: bytes) -> ReadAt:
    """Return the `read_at` of a file that another process empties after so many reads."""
    left = iter(range(reads))

    def read_at(offset: int, count: int) -> bytes:
        return b"" if next(left, None) is None else content[offset : offset + count]

    return read_at


def test_flv_states_its_size():
    content = written("flv, aac")
    last = int.from_bytes(content[-4:], "big") + 4  # each tag is followed by its size
    assert stated(content[:-last]).cut


def test_gap_counts_as_one_packet():
    assert span([0.0, 0.02, 0.04, 5.0, 5.02]) == pytest.approx(0.08)
    assert span([]) == span([1.0]) == 0.0


@pytest.mark.parametrize("position", [-1, 0, 2**40])
def test_ogg_may_end_with_a_page_without_audio(position):
    content = bytearray(encoded(form="OGG"))
    last = content.rindex(b"OggS")
    head = content[last : last + 27]
    content[last + 5] &= ~4  # not the end of the stream
    end = head[:5] + bytes([4]) + struct.pack("<q", position) + head[14:26] + b"\0"
    assert not stated(bytes(content + end)).contradictory


def test_ogg_whose_positions_fall_by_years_is_contradictory():
    content = bytearray(encoded(form="OGG"))
    page = content.index(b"OggS", content.index(b"OggS", 1) + 1)  # the third, which is followed by others
    assert page < content.rindex(b"OggS")
    content[page + 6 : page + 14] = struct.pack("<q", 2**40)
    assert stated(bytes(content)).contradictory


def test_opus_begins_before_0_only_if_pages_are_missing():
    whole = (Path(__file__).parent.parent / "fuzz" / "corpus" / "audio" / "ogg_opus.ogg").read_bytes()
    audio = whole.rindex(b"OggS")  # after two pages of headers

    def begins_before_0(position: int, number: int, start: bytes = whole[28:36]) -> bool:
        page = bytearray(whole)
        page[28:36] = start
        struct.pack_into("<q4xI", page, audio + 6, position, number)
        return opus_begins_before_0(lambda offset, count: bytes(page[offset : offset + count]))

    samples = 20 * 960 + 480  # packets of 20 ms, and one of 10
    assert not begins_before_0(samples - 1, 2)
    assert begins_before_0(samples - 1, 3)
    assert not begins_before_0(samples, 3)
    assert not begins_before_0(samples - 1, 3, b"\x01vorbis\0")


def test_only_the_first_pages_of_opus_are_read():
    first = b"OggS" + bytes(22) + bytes([1, 8]) + b"OpusHead"
    content = first + 1_000 * (b"OggS" + bytes(23))
    offsets = []

    def read_at(offset: int, count: int) -> bytes:
        offsets.append(offset)
        return content[offset : offset + count]

    assert not opus_begins_before_0(read_at)
    assert max(offsets) < 100 * 36
