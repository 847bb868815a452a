from __future__ import annotations

import os
import stat

import numpy as np
import pytest
import soundfile
import soxr

from ms_edge.audio import AudioFile, read_mono
from ms_edge.errors import AudioError


@pytest.fixture
def tone() -> np.ndarray:
    return (0.5 * np.sin(np.arange(22_050) / 10)).astype(np.float32)


def code_of(path) -> str:
    with pytest.raises(AudioError) as caught, AudioFile(path, 16_000) as file:
        list(file.blocks())
    assert str(path) in caught.value.message or repr(str(path)) in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.code


@pytest.mark.parametrize("block", [1 << 6, 1 << 11, 1 << 17])
@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100])
def test_resampled_blocks_are_the_whole_file_resampled(tmp_path, tone, rate, block):
    path = tmp_path / "a.wav"
    stereo = np.stack([tone, tone * 0.5], axis=1)
    soundfile.write(path, stereo, rate, subtype="FLOAT")
    with AudioFile(path, 16_000, block) as file:
        found = np.concatenate(list(file.blocks()))
        assert (file.channels, file.sample_rate_hz, file.frames, file.warnings) == (2, rate, len(tone), [])
    np.testing.assert_array_equal(found, soxr.resample(stereo.mean(axis=1), rate, 16_000, quality="HQ"))


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        ("wav", "PCM_U8"),
        ("wav", "PCM_16"),
        ("wav", "PCM_24"),
        ("wav", "ULAW"),
        ("wav", "IMA_ADPCM"),
        ("flac", "PCM_16"),
        ("ogg", "VORBIS"),
        ("mp3", "MPEG_LAYER_III"),
    ],
)
def test_what_libsndfile_reads_is_read(tmp_path, tone, suffix, subtype):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone, 22_050, subtype=subtype)
    found = read_mono(path, 22_050)
    assert abs(len(found) - len(tone)) < 3000
    assert np.sqrt(np.mean(found**2)) == pytest.approx(np.sqrt(np.mean(tone**2)), rel=0.1)


def test_missing_empty_text_and_directory_are_told_apart(tmp_path):
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


def test_a_header_without_samples_is_an_error(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), 16_000)
    assert code_of(tmp_path / "a.wav") == "no-samples"


@pytest.mark.parametrize(
    ("rate", "channels", "code"),
    [(1, 1, "bad-rate"), (3_999, 1, "bad-rate"), (2_000_000_000, 1, "bad-rate"), (16_000, 65, "too-many-channels")],
)
def test_absurd_formats_are_refused(tmp_path, rate, channels, code):
    soundfile.write(tmp_path / "a.wav", np.zeros((100, channels), np.float32), rate)
    assert code_of(tmp_path / "a.wav") == code


def test_a_truncated_file_is_read_and_said_to_be_truncated(tmp_path, tone):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone, 22_050)
    path.write_bytes(path.read_bytes()[:20_000])
    with AudioFile(path, 22_050) as file:
        assert sum(map(len, file.blocks())) == (20_000 - 44) // 2
        assert file.warnings == ["truncated"]


def test_a_file_that_shrinks_while_it_is_read_gives_no_stale_samples(tmp_path, tone):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.tile(tone, 20), 22_050)
    with AudioFile(path, 22_050, 4096) as file:
        blocks = file.blocks()
        count = len(next(blocks))
        os.truncate(path, 20_000)
        count += sum(map(len, blocks))
        assert count == (20_000 - 44) // 2
        assert file.warnings == ["truncated"]


def test_samples_that_are_no_numbers_become_silence_and_are_said(tmp_path, tone):
    tone[100], tone[200], tone[300] = np.nan, np.inf, -np.inf
    soundfile.write(tmp_path / "a.wav", tone, 22_050, subtype="FLOAT")
    with AudioFile(tmp_path / "a.wav", 22_050) as file:
        found = np.concatenate(list(file.blocks()))
        assert file.warnings == ["non-finite"]
    assert found[100] == found[200] == found[300] == 0
    assert np.isfinite(found).all()


@pytest.mark.skipif(os.name != "posix", reason="Windows does not list open descriptors")
def test_no_descriptor_is_left_open(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", tone, 22_050)
    (tmp_path / "text.wav").write_text("I am not audio.")
    before = os.listdir("/dev/fd")
    read_mono(tmp_path / "a.wav", 16_000)
    for name in ("text.wav", "missing.wav", "."):
        with pytest.raises(AudioError):
            read_mono(tmp_path / name, 16_000)
    assert os.listdir("/dev/fd") == before
