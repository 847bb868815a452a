from __future__ import annotations

import numpy as np
import pytest

from ms_edge.audio import read_mono
from ms_train.cache import Cache, KeptAudio
from ms_train.datasets import Recording

RATE_HZ = 16_000


def recording(samples: np.ndarray, reads: list | None = None, name: str = "a") -> Recording:
    def read(rate_hz: int) -> np.ndarray:
        if reads is not None:
            reads.append(rate_hz)
        return samples

    return Recording(name, "speech", "a", name, read)


@pytest.mark.parametrize("scale", [1.0, 0.7])  # of 16 bits, and of more
def test_kept_audio_is_the_recording_slice_by_slice(samples, tmp_path, scale):
    audio, reads = read_mono(samples[0], RATE_HZ) * np.float32(scale), []
    cache = Cache(tmp_path)
    for _ in range(2):
        kept = cache.audio(recording(audio, reads), RATE_HZ)
        assert len(kept) == len(audio)
        assert kept[:].dtype == np.float32
        np.testing.assert_array_equal(kept[:], audio)
        np.testing.assert_array_equal(kept[100:300], audio[100:300])
        np.testing.assert_array_equal(np.asarray(kept), audio)
    assert reads == [RATE_HZ]
    size = next((tmp_path / "audio-16000").iterdir()).stat().st_size
    exact = np.array_equal(np.round(audio * 32768), audio * 32768)
    assert size == 128 + (2 if exact else 4) * len(audio)


def test_a_torn_file_of_audio_is_made_again(tmp_path):
    audio = np.linspace(-0.5, 0.5, 1000, dtype=np.float32)
    cache = Cache(tmp_path)
    cache.audio(recording(audio), RATE_HZ)
    path = next((tmp_path / "audio-16000").iterdir())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="cut off"):
        KeptAudio(path)
    np.testing.assert_array_equal(cache.audio(recording(audio), RATE_HZ)[:], audio)


def test_kept_audio_holds_no_file_open(tmp_path):
    import resource

    cache, limit = Cache(tmp_path), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limit[0]), limit[1]))
    try:
        kept = [cache.audio(recording(np.zeros(400, np.float32), name=str(n)), RATE_HZ) for n in range(300)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert all(len(each) == 400 for each in kept)


def test_activity_is_found_once(samples, tmp_path, monkeypatch):
    audio = read_mono(samples[0], RATE_HZ)
    cache = Cache(tmp_path)
    found = cache.activity(recording(audio), audio, RATE_HZ)
    assert found.dtype == bool
    assert len(found) == len(audio) // 320
    monkeypatch.setattr("ms_train.cache.activity", None)
    np.testing.assert_array_equal(cache.activity(recording(audio), audio, RATE_HZ), found)
    short = np.zeros(100, np.float32)
    monkeypatch.undo()
    assert len(cache.activity(recording(short, name="b"), short, RATE_HZ)) == 0
