from __future__ import annotations

import functools
import gzip
import io
import json
import os
import stat
import struct

import hostile
import numpy as np
import pytest
import soundfile
import soxr

from ms_edge.audio import file as audio_file
from ms_edge.audio import opening, riff
from ms_edge.audio.containers import CONTAINERS, EXTENSIONS, READ
from ms_edge.audio.file import AudioFile, read_mono
from ms_edge.audio.raw import RAW_FORMATS, RawFormat
from ms_edge.audio.source import BLOCK_SAMPLES
from ms_edge.cli import main as cli
from ms_edge.errors import AudioError, UsageError


@pytest.fixture
def tone() -> np.ndarray:
    return (0.5 * np.sin(np.arange(22_050) / 10)).astype(np.float32)


def code_of(path) -> str:
    with pytest.raises(AudioError) as caught, AudioFile(path) as file:
        list(file.blocks(16_000))
    assert str(path) in caught.value.message or repr(str(path)) in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.code


@pytest.mark.parametrize("block_s", [1e-6, 37 / 44_100, 0.01, 1.0, None])
@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100])
def test_resampling_in_blocks_equals_resampling_the_whole_file(tmp_path, tone, rate, block_s):
    path = tmp_path / "a.wav"
    stereo = np.stack([tone, tone * 0.5], axis=1)
    soundfile.write(path, stereo, rate, subtype="FLOAT")
    with AudioFile(path, block_s=block_s) as file:
        found = np.concatenate(list(file.blocks(16_000)))
        assert (file.channels, file.sample_rate_hz, file.frames, file.warnings) == (2, rate, len(tone), [])
    np.testing.assert_array_equal(found, soxr.resample(stereo.mean(axis=1), rate, 16_000, quality="HQ"))


def test_samples_do_not_depend_on_what_is_expected(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", np.tile(tone, 20), 44_100)
    chance, found = np.random.default_rng(0), []
    with AudioFile(tmp_path / "a.wav", block_s=0.01) as file:
        for block in file.unmixed():
            found.append(block.copy())
            file.expect(chance.uniform(0, 5))
    assert {len(block) for block in found} - {441}
    np.testing.assert_array_equal(np.concatenate(found)[:, 0], soundfile.read(tmp_path / "a.wav", dtype="int16")[0])


# Every supported format, coding and byte order that libsndfile can write.
DIALECTS = [
    *[(form, subtype, "FILE") for form in ("WAV", "WAVEX", "RF64", "W64") for subtype in
      ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")],
    ("WAV", "IMA_ADPCM", "FILE"), ("WAV", "MS_ADPCM", "FILE"), ("WAV", "GSM610", "FILE"), ("WAV", "PCM_16", "BIG"),
    ("W64", "MS_ADPCM", "FILE"),
    ("AIFF", "PCM_16", "FILE"), ("AIFF", "PCM_S8", "FILE"), ("AIFF", "FLOAT", "FILE"), ("AU", "PCM_16", "FILE"), ("AU", "ULAW", "FILE"),
    ("WAV", "G721_32", "FILE"), ("WAV", "NMS_ADPCM_16", "FILE"), ("WAV", "NMS_ADPCM_24", "FILE"), ("WAV", "NMS_ADPCM_32", "FILE"),
    ("AU", "G721_32", "FILE"), ("AU", "G723_24", "FILE"), ("AU", "G723_40", "FILE"), ("AIFF", "IMA_ADPCM", "FILE"),
    ("CAF", "PCM_24", "FILE"), ("CAF", "ALAC_16", "FILE"), ("FLAC", "PCM_S8", "FILE"), ("FLAC", "PCM_16", "FILE"),
    ("FLAC", "PCM_24", "FILE"),
    ("OGG", "VORBIS", "FILE"), ("OGG", "OPUS", "FILE"), ("MP3", "MPEG_LAYER_III", "FILE"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "subtype", "endian"), DIALECTS)
def test_files_written_by_libsndfile_are_read(tmp_path, form, subtype, endian):
    rate = 24_000  # all formats support this rate
    tone = (0.5 * np.sin(np.arange(rate) / 10)).astype(np.float32)
    path = tmp_path / "a.bin"  # the content determines the format, not the name
    with soundfile.SoundFile(path, "w", rate, 1, subtype, endian, form) as file:
        file.write(tone)
    with AudioFile(path) as file:
        found = np.concatenate(list(file.blocks(rate)))
        assert file.warnings == []
    assert abs(len(found) - len(tone)) < 3000
    assert np.sqrt(np.mean(found**2)) == pytest.approx(np.sqrt(np.mean(tone**2)), rel=0.1)


@pytest.mark.parametrize("rate", [4_000, 11_025, 48_000, 96_000, 384_000])
@pytest.mark.parametrize("channels", [1, 2, 3, 9, 64])
def test_any_rate_and_channels_become_model_mono(tmp_path, rate, channels):
    time_s = np.arange(rate // 2) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_s)
    path = tmp_path / "a.wav"
    soundfile.write(
        path, np.stack([tone * channel / channels for channel in range(1, channels + 1)], axis=1), rate, "FLOAT"
    )
    found = read_mono(path, 16_000)
    assert abs(len(found) - 8_000) <= 1
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 16_000) * (channels + 1) / 2 / channels
    np.testing.assert_allclose(found[500:7_500], expected[500:7_500], atol=2e-3)


@pytest.mark.parametrize(
    ("form", "wav"),
    [("WAV", True), ("WAVEX", True), ("RF64", True), ("W64", True), ("FLAC", False), ("OGG", False), ("AIFF", False)],
)
def test_wav_only_refuses_other_formats(tmp_path, tone, form, wav):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone, 22_050, format=form)
    if wav:
        AudioFile(path, wav_only=True).close()
        return
    with pytest.raises(AudioError, match="not a WAV file") as caught:
        AudioFile(path, wav_only=True)
    assert caught.value.code == "not-wav"
    with path.open("rb") as file, pytest.raises(AudioError, match="not a WAV file"):
        AudioFile(file, wav_only=True)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW", "FLAC", "RAW"])
@pytest.mark.parametrize("channels", [1, 2, 3, 9])
def test_integers_equal_libsndfile_floats_bit_for_bit(samples, tmp_path, subtype, channels):
    """Samples of at most 16 bits are read as integers and converted to the floats of libsndfile."""
    recorded = [read_mono(sample, 16_000)[:40_000] for sample in samples]
    loudest = np.clip(np.sum(recorded, axis=0), -1, 1)  # includes both ends of the full scale
    channels = min(channels, 8) if subtype == "FLAC" else channels
    audio = np.stack([loudest, *recorded][:channels], axis=1)
    path = tmp_path / "a"
    form = {"PCM_S8": "AIFF", "FLAC": "FLAC", "RAW": "RAW"}.get(subtype, "WAV")
    subtype = "PCM_16" if subtype in ("FLAC", "RAW") else subtype
    soundfile.write(path, audio, 16_000, subtype, format=form)
    options = {"samplerate": 16_000, "channels": channels, "format": form, "subtype": subtype} if form == "RAW" else {}
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True, **options)
    mean = functools.reduce(np.add, expected.T) / np.float32(channels) if channels <= 8 else expected.mean(axis=1)
    with AudioFile(path, raw=RawFormat(16_000, channels, "s16le") if form == "RAW" else None) as file:
        found = np.concatenate(list(file.blocks(16_000)))
        assert file.warnings == []
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, mean)


@pytest.mark.parametrize("name", RAW_FORMATS)
def test_headerless_pcm_is_read_as_described(tmp_path, tone, name):
    subtype, endian = RAW_FORMATS[name]
    path = tmp_path / "a.pcm"
    stereo = np.stack([tone, -tone / 2], axis=1)
    soundfile.write(path, stereo, 22_050, subtype, endian, "RAW")
    with AudioFile(path, raw=RawFormat.parse(f"22050:2:{name}")) as file:
        found = np.concatenate(list(file.blocks(22_050)))
    np.testing.assert_allclose(found, tone / 4, atol=0.02)


@pytest.mark.parametrize(
    "text", ["", "16000", "16000:1", "16000:1:wav", "16000:one:s16le", "16 kHz:1:s16le", "-1:1:u8"]
)
def test_invalid_raw_formats_are_refused(text):
    with pytest.raises(UsageError, match="RATE:CHANNELS:FORMAT"):
        RawFormat.parse(text)


@pytest.mark.parametrize(
    ("text", "code"), [("1:1:s16le", "bad-rate"), ("16000:0:s16le", "bad-channels"), ("16000:65:u8", "bad-channels")]
)
def test_implausible_raw_formats_are_refused(tmp_path, text, code):
    (tmp_path / "a.pcm").write_bytes(bytes(1000))
    with pytest.raises(AudioError) as caught:
        AudioFile(tmp_path / "a.pcm", raw=RawFormat.parse(text))
    assert caught.value.code == code


def test_missing_empty_text_and_directory_have_different_errors(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("I am not audio.\n" * 100)
    assert code_of(tmp_path / "missing.wav") == "not-found"
    assert code_of(tmp_path / "empty.wav") == "empty-file"
    assert code_of(tmp_path / "text.wav") == "not-audio"
    assert code_of(tmp_path) == "is-directory"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no FIFOs in its file system")
def test_a_fifo_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "fifo.wav")
    assert stat.S_ISFIFO((tmp_path / "fifo.wav").stat().st_mode)
    assert code_of(tmp_path / "fifo.wav") == "not-a-file"


def test_header_without_samples_is_an_error(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), 16_000)
    assert code_of(tmp_path / "a.wav") == "no-samples"


@pytest.mark.parametrize(
    ("rate", "channels", "code"),
    [(1, 1, "bad-rate"), (3_999, 1, "bad-rate"), (2_000_000_000, 1, "bad-rate"), (16_000, 65, "bad-channels")],
)
def test_implausible_formats_are_refused(tmp_path, rate, channels, code):
    soundfile.write(tmp_path / "a.wav", np.zeros((100, channels), np.float32), rate)
    assert code_of(tmp_path / "a.wav") == code


def test_truncated_file_is_read_with_a_warning(tmp_path, tone):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone, 22_050)
    path.write_bytes(path.read_bytes()[:20_000])
    with AudioFile(path) as file:
        assert sum(map(len, file.blocks(22_050))) == (20_000 - 44) // 2
        assert file.warnings == ["truncated"]


def test_shrinking_file_gives_no_stale_samples(tmp_path, tone):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.tile(tone, 20), 22_050)
    whole = soundfile.read(path, dtype="float32")[0]
    with AudioFile(path, block_s=0.1) as file:
        blocks = file.blocks(22_050)
        found = [next(blocks)]
        os.truncate(path, 200_000)
        samples = np.concatenate([*found, *blocks])
        assert file.warnings == ["truncated"]
    assert (200_000 - 44) // 2 - len(samples) < 2205  # the last block may be lost
    np.testing.assert_array_equal(samples, whole[: len(samples)])


def test_non_finite_samples_become_silence_with_a_warning(tmp_path, tone):
    tone[100], tone[200], tone[300] = np.nan, np.inf, -np.inf
    soundfile.write(tmp_path / "a.wav", tone, 22_050, subtype="FLOAT")
    with AudioFile(tmp_path / "a.wav") as file:
        found = np.concatenate(list(file.blocks(22_050)))
        assert file.warnings == ["non-finite"]
    assert found[100] == found[200] == found[300] == 0
    assert np.isfinite(found).all()


@pytest.mark.skipif(os.name != "posix", reason="Windows does not list open descriptors")
def test_no_descriptor_stays_open(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", tone, 22_050)
    (tmp_path / "text.wav").write_text("I am not audio.")
    before = os.listdir("/dev/fd")
    read_mono(tmp_path / "a.wav", 16_000)
    for name in ("text.wav", "missing.wav", "."):
        with pytest.raises(AudioError):
            read_mono(tmp_path / name, 16_000)
    assert os.listdir("/dev/fd") == before


@pytest.mark.parametrize(
    "form", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")], ids=lambda form: form[1]
)
@pytest.mark.parametrize("block_s", [0.003, None])
def test_all_recordings_in_one_file_are_decoded(tmp_path, tone, form, block_s):
    pieces, expected = [], []
    for number, gain in enumerate((1.0, 0.5, 0.25)):
        path = tmp_path / str(number)
        soundfile.write(path, np.tile(tone, 2 + number) * gain, 24_000, form[1], format=form[0])
        pieces.append(path.read_bytes())
        expected.append(read_mono(path, 24_000))
    (tmp_path / "all").write_bytes(b"".join(pieces))
    for source in (tmp_path / "all", io.BytesIO(b"".join(pieces))):
        with AudioFile(source, block_s=block_s) as file:
            found = np.concatenate(list(file.blocks(24_000)))
            assert file.warnings == []
        np.testing.assert_array_equal(found, np.concatenate(expected))


def test_damage_in_a_later_part_is_skipped(tmp_path, tone):
    path = tmp_path / "a.mp3"
    soundfile.write(path, np.tile(tone, 8), 24_000, "MPEG_LAYER_III", format="MP3")
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(whole + whole[:half] + bytes(2_000) + whole[half + 2_000 :])
    found = {}
    for block_s in (0.01, None):
        with AudioFile(path, block_s=block_s) as file:
            found[block_s] = np.concatenate(list(file.blocks(24_000)))
            assert file.warnings == ["damaged"]
    np.testing.assert_array_equal(found[0.01], found[None])
    assert 1.7 * 8 * len(tone) < len(found[None]) < 2 * 8 * len(tone)


class Forward(io.RawIOBase):
    """A file object that can only be read forward, a few bytes at a time, as a pipe."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._content.readinto(memoryview(buffer)[:1000])


def test_file_object_without_seek_is_read_forward(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", tone, 22_050, "FLOAT")
    content = (tmp_path / "a.wav").read_bytes()
    for source in (Forward(content), io.BufferedReader(Forward(content))):
        with AudioFile(source) as file:
            np.testing.assert_array_equal(np.concatenate(list(file.blocks(22_050))), tone)
            assert file.warnings == []
    with AudioFile(Forward(content[:20_000])) as file:
        list(file.blocks(22_050))
        assert file.warnings == ["truncated"]
    with pytest.raises(AudioError, match="not WAV"):
        AudioFile(Forward(b"OggS" + bytes(1000)))


def test_compressed_file_object_is_read_decompressed(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", tone, 22_050, "FLOAT")
    with gzip.open(tmp_path / "a.wav.gz", "wb") as file:
        file.write((tmp_path / "a.wav").read_bytes())
    with gzip.open(tmp_path / "a.wav.gz") as file, AudioFile(file) as audio:
        np.testing.assert_array_equal(np.concatenate(list(audio.blocks(22_050))), tone)


def test_file_objects_without_bytes_are_a_usage_error(tmp_path, capfd):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(22_050, np.float32), 22_050)
    closed = path.open("rb")
    closed.close()
    with path.open(encoding="latin-1") as text, (tmp_path / "b.wav").open("wb") as written:
        for source in (text, closed, written, io.StringIO("RIFF")):
            with pytest.raises(UsageError, match="binary mode"):
                AudioFile(source)
    assert capfd.readouterr().err == ""


def test_failing_file_object_is_an_error_without_output(tmp_path, capfd):
    class Failing(io.BytesIO):
        def read(self, count=-1):
            if self.tell() > 20_000:
                raise OSError("the network is gone")
            return super().read(count)

    soundfile.write(tmp_path / "a.wav", np.zeros(220_500, np.float32), 22_050)
    with AudioFile(Failing((tmp_path / "a.wav").read_bytes())) as file:
        with pytest.raises(AudioError, match="the network is gone") as caught:
            list(file.blocks(22_050))
        assert caught.value.code == "cannot-read"
    assert capfd.readouterr().err == ""


@pytest.fixture
def failing_reads(tmp_path):
    """A function that makes all further reads by a descriptor fail: it becomes that of a directory."""
    if os.name != "posix":
        pytest.skip("directories can be opened on Linux and macOS only")
    directory = os.open(tmp_path, os.O_RDONLY)
    yield lambda descriptor: os.dup2(directory, descriptor)
    os.close(directory)


@pytest.fixture
def noise_flac(tmp_path) -> str:
    path = str(tmp_path / "a.flac")
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 160_000), 16_000)
    return path


def test_read_error_in_flac_is_an_error(noise_flac, failing_reads):
    with AudioFile(noise_flac) as file:
        blocks = file.blocks(16_000)
        assert len(next(blocks)) == BLOCK_SAMPLES
        failing_reads(file._descriptor)
        with pytest.raises(AudioError, match="cannot be read") as caught:
            list(blocks)
        assert caught.value.code == "cannot-read"


@pytest.mark.parametrize("opening", [1, 2])
def test_read_error_while_flac_is_opened_is_an_error(noise_flac, failing_reads, monkeypatch, opening):
    """It is opened by its descriptor, and again behind an error in its samples."""
    descriptors, real = [], audio_file.open_sound

    def open_sound(name, opened, raw):
        if isinstance(opened, int):
            descriptors.append(opened)
            if len(descriptors) == opening:
                failing_reads(opened)
        return real(name, opened, raw)

    with open(noise_flac, "r+b") as damaged:
        damaged.seek(200_000)
        damaged.write(bytes(2_000))
    monkeypatch.setattr(audio_file, "open_sound", open_sound)
    assert code_of(noise_flac) == "cannot-read"
    assert len(descriptors) == opening


def test_read_error_behind_damage_of_flac_is_an_error(noise_flac, failing_reads, monkeypatch):
    sounds, real = [], audio_file.open_sound

    def open_sound(name, opened, raw):
        sounds.append(real(name, opened, raw))
        if len(sounds) == 2:
            failing_reads(opened)
        return sounds[-1]

    with open(noise_flac, "r+b") as damaged:
        damaged.seek(200_000)
        damaged.write(bytes(2_000))
    monkeypatch.setattr(audio_file, "open_sound", open_sound)
    assert code_of(noise_flac) == "cannot-read"
    assert len(sounds) == 2


@pytest.mark.parametrize(
    ("name", "size"), [("u8", 2), ("alaw", 2), ("s16le", 4), ("s24be", 6), ("f32le", 8), ("f64be", 16)]
)
def test_raw_samples_with_incomplete_frame_are_truncated(tmp_path, name, size):
    raw = RawFormat(16_000, 2, name)
    assert raw.frame_bytes == size
    for extra in (0, 1, size - 1):
        content = bytes(size * 1000 + extra)
        for source in (io.BytesIO(content), Forward(content)):
            with AudioFile(source, raw=raw) as file:
                assert sum(map(len, file.blocks(16_000))) == 1000
                assert file.warnings == (["truncated"] if extra else [])


ADPCM = ["IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32"]


def test_padding_of_gsm_is_no_audio(tmp_path, tone):
    path = tmp_path / "odd.wav"
    for seconds in (0.96, 1.0):  # an even and an odd number of blocks of 65 bytes
        soundfile.write(path, tone[: round(seconds * 8000)], 8000, subtype="GSM610")
        with AudioFile(path) as file:
            frames = sum(map(len, file.blocks(8_000)))
            assert file.warnings == []
        assert frames == -(-round(seconds * 8000) // 320) * 320


@pytest.mark.parametrize("subtype", ADPCM)
@pytest.mark.parametrize("size", [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", bytes(4), b"\0\0\0\x40"])
def test_wrong_size_neither_adds_nor_hides_samples(tmp_path, tone, subtype, size):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone, 8_000, subtype)
    expected = read_mono(path, 8_000)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = size
    path.write_bytes(content)
    for source in (path, io.BytesIO(content), Forward(bytes(content))):
        with AudioFile(source) as file:
            found = np.concatenate(list(file.blocks(8_000)))
            assert file.warnings == ["truncated" if size == b"\0\0\0\x40" else "stream-header"]
        assert abs(len(found) - len(expected)) <= 1024  # the last block may be incomplete
        shorter = min(len(found), len(expected))
        np.testing.assert_array_equal(found[:shorter], expected[:shorter])


def test_impossibly_long_audio_fails_only_its_file(tmp_path, monkeypatch, capsys):
    """libsndfile decodes without end, as it does for a coding with blocks that ms-edge does not know."""
    monkeypatch.setattr(riff, "_block", lambda fields, order: None)
    (tmp_path / "a.wav").write_bytes(hostile.endless("G721_32"))
    (tmp_path / "b.wav").write_bytes(hostile.plain())
    assert cli.main(["classify", "--format", "jsonl", str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]) == 1
    failed, classified = map(json.loads, capsys.readouterr().out.splitlines())
    assert failed["error"]["code"] == "too-long"
    assert classified["duration_s"] == 2.0
    for source in (io.BytesIO(hostile.endless("G721_32")), Forward(hostile.endless("G721_32"))):
        with AudioFile(source) as file, pytest.raises(AudioError, match="can hold") as caught:
            list(file.blocks(8_000))
        assert caught.value.code == "too-long"


@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        ("FLAC", "PCM_S8"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("CAF", "ALAC_16"), ("AIFF", "DWVW_16"),
        ("MP3", "MPEG_LAYER_III"), ("WAV", "GSM610"), ("WAV", "NMS_ADPCM_16"), ("AU", "G723_24"),
    ],
)  # fmt: skip
def test_minutes_of_digital_silence_are_accepted(tmp_path, form, subtype):
    path = tmp_path / "a"
    with soundfile.SoundFile(path, "w", 8_000, 1, subtype, format=form) as file:
        for _ in range(4):
            file.write(np.zeros(8_000 * 60, np.float32))
    with AudioFile(path) as file:
        assert sum(map(len, file.blocks(8_000))) >= 8_000 * 240
        assert file.warnings == []


def test_silence_in_longest_flac_frames_is_accepted():
    """An encoder may write an hour at 8 kHz in 7 kB: 4,300 samples per byte."""
    count, length = 440, 65_535

    def crc(content: bytes, polynomial: int, bits: int) -> int:
        value = 0
        for byte in content:
            value ^= byte << bits - 8
            for _ in range(8):
                value = (value << 1 ^ (polynomial if value >> bits - 1 else 0)) & (1 << bits) - 1
        return value

    def frame(number: int) -> bytes:
        coded = chr(number).encode("utf-8")  # the frame number in the coding of FLAC
        head = b"\xff\xf8\x74\x08" + coded + struct.pack(">H", length - 1)
        head += bytes([crc(head, 0x07, 8)]) + bytes(3)  # a constant subframe of value 0
        return head + struct.pack(">H", crc(head, 0x8005, 16))

    info = struct.pack(">HH6x", length, length) + struct.pack(">Q", 8_000 << 44 | 15 << 36 | count * length) + bytes(16)
    content = b"fLaC\x80\0\0\x22" + info + b"".join(map(frame, range(count)))
    assert count * length / len(content) > 4_000
    with AudioFile(io.BytesIO(content)) as file:
        assert sum(map(len, file.blocks(8_000))) == count * length
        assert file.warnings == []


OTHERS = sorted(set(soundfile.available_formats()) - {name for one in CONTAINERS for name in one.libsndfile} - {"RAW"})


@pytest.mark.parametrize("form", OTHERS)
def test_unsupported_formats_never_reach_libsndfile(tmp_path, tone, form, monkeypatch):
    path = tmp_path / "a.wav"
    if form == "SD2":  # the header is in another file, so the bytes may be anything
        path.write_bytes(bytes(1000))
    else:
        subtypes = soundfile.available_subtypes(form)
        rate = 8_000 if form == "WVE" else 16_000
        soundfile.write(path, tone, rate, "PCM_16" if "PCM_16" in subtypes else next(iter(subtypes)), format=form)
    monkeypatch.setattr(soundfile, "SoundFile", None)
    for prefix in (b"", hostile.ID3):
        path.write_bytes(prefix + path.read_bytes())
        with pytest.raises(AudioError) as caught:
            AudioFile(path)
        assert caught.value.code == "not-audio"
        assert any(text in caught.value.message for text in (READ, "which libsndfile does not read"))
        assert prefix or form == "SD2" or " not audio of" not in caught.value.message  # the error names the format


def test_formats_that_libsndfile_misreads_are_refused(tmp_path, tone, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone, 16_000, format="VOC")
    monkeypatch.setattr(opening, "begins_as_read", lambda start: True)
    with pytest.raises(AudioError, match=r"Creative.*not supported") as caught:
        AudioFile(tmp_path / "a.wav")
    assert caught.value.code == "not-audio"


def test_no_two_formats_share_an_extension():
    assert len(set(EXTENSIONS)) == len(EXTENSIONS)
    assert len({one.short for one in CONTAINERS}) == len(CONTAINERS)


def test_object_that_only_has_read_is_read():
    class Only(io.RawIOBase):
        """Bytes that can be read once; the method `readinto` of its base does not exist."""

        def __init__(self, data):
            self._data = io.BytesIO(data)

        def readable(self):
            return True

        def seekable(self):
            return False

        def read(self, size=-1):
            return self._data.read(size)

    header = struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    wav = b"RIFF\xff\xff\xff\xffWAVEfmt " + header + b"data\xff\xff\xff\xff" + bytes(2 * 48_000)
    with AudioFile(Only(wav)) as file:
        assert sum(map(len, file.unmixed())) == 48_000
