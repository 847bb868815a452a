"""The cache of decoded audio and features: few open files, complete after an interruption, never
out of date.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from ms_edge.audio import media
from ms_edge.audio.file import read_mono
from ms_edge.errors import AudioError
from ms_edge.features.spec import FrontEndSpec
from ms_train.datasets import cache, clips
from ms_train.datasets.cache import Cache
from ms_train.datasets.dataset import Recording
from ms_train.datasets.packs import in_16_bits, read_pack, write_pack

SPEC = FrontEndSpec(8_000, 256, 128, 256, clip_s=0.5, hop_s=0.5, log_floor=0.01)


class Corpus:
    """Recordings of noise of a second or more that count how often each is read."""

    def __init__(self, count: int) -> None:
        self.reads: list[str] = []
        self.recordings = tuple(map(self._recording, range(count)))

    def _recording(self, index: int) -> Recording:
        def read(sample_rate_hz: int) -> np.ndarray:
            self.reads.append(str(index))
            return self.samples(index, sample_rate_hz)

        return Recording(str(index), "ab"[index % 2], "", hashlib.sha256(b"%d" % index).hexdigest(), read)

    @staticmethod
    def samples(index: int, sample_rate_hz: int = 8_000) -> np.ndarray:
        return np.random.default_rng(index).uniform(-1, 1, sample_rate_hz + 10 * index).astype(np.float32)

    def read_all(self, folder: Path | None, sample_rate_hz: int = 8_000) -> list[np.ndarray]:
        found = list(clips.read_all(self.recordings, sample_rate_hz, "data", Cache(folder)))
        assert [recording.name for recording, _ in found] == [recording.name for recording in self.recordings]
        return [audio for _, audio in found]


def assert_right(found: list[np.ndarray]) -> None:
    for index, audio in enumerate(found):
        np.testing.assert_array_equal(audio[:], Corpus.samples(index))
        assert audio[:].dtype == np.float32


def test_stored_recording_is_not_read_again(tmp_path):
    corpus = Corpus(5)
    for reads in (5, 5):
        assert_right(corpus.read_all(tmp_path))
        assert len(corpus.reads) == reads
    assert_right(corpus.read_all(None))
    assert len(corpus.reads) == 10


@pytest.mark.parametrize("again", [False, True])
def test_arrays_are_mapped_and_not_held_in_memory(tmp_path, again):
    corpus = Corpus(3)
    for _ in range(1 + again):
        found = corpus.read_all(tmp_path)
    for audio in found:
        array = audio[:10]
        while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
            array = array.base
        assert isinstance(array, np.memmap)


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_cache import Corpus, assert_right

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
for _ in range(3):
    corpus = Corpus(200)
    kept = corpus.read_all(Path(sys.argv[2]))
    assert_right(kept)
    print(len(corpus.reads))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no open files")
def test_many_recordings_need_few_open_files(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["200", "0", "0"]
    assert "not cached" not in done.stderr


def test_interrupted_build_continues(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PACK_BYTES", 100_000)  # three recordings
    corpus = Corpus(10)

    def interrupted(sample_rate_hz: int) -> np.ndarray:
        raise KeyboardInterrupt

    broken = [*corpus.recordings[:8], Recording("8", "a", "", corpus.recordings[8].sha256, interrupted)]
    with pytest.raises(KeyboardInterrupt):
        list(clips.read_all(broken, 8_000, "data", Cache(tmp_path)))
    assert len(corpus.reads) == 8
    assert_right(corpus.read_all(tmp_path))
    assert corpus.reads[8:] == ["8", "9"]


def test_build_keeps_one_pack_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PACK_BYTES", 100_000)
    corpus, packs = Corpus(20), []
    write = cache.write_pack
    monkeypatch.setattr(
        cache, "write_pack", lambda path, arrays: packs.append(len(corpus.reads)) or write(path, arrays)
    )
    assert_right(corpus.read_all(tmp_path))
    assert max(np.diff([0, *packs])) <= 4


@pytest.mark.parametrize(
    "tear",
    [
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:20],
        lambda content: b"",
        lambda content: bytes(len(content)),
        lambda content: content.replace(b"{", b"[", 1),
    ],
)
def test_incomplete_pack_is_made_again(tmp_path, tear):
    corpus = Corpus(3)
    assert_right(corpus.read_all(tmp_path))
    (pack,) = tmp_path.glob("*/*.pack")
    pack.write_bytes(tear(pack.read_bytes()))
    for reads in (6, 6):
        assert_right(corpus.read_all(tmp_path))
        assert len(corpus.reads) == reads
    assert list(tmp_path.glob("*/*")) == [pack]


def test_unreadable_recording_is_left_out_every_time(tmp_path, capsys):
    corpus = Corpus(3)

    def missing(sample_rate_hz: int) -> np.ndarray:
        raise AudioError("not-found", "gone.wav: no such file.")

    recordings = [Recording("gone.wav", "a", "", "0" * 64, missing), *corpus.recordings]
    for _ in range(2):
        found = list(clips.read_all(recordings, 8_000, "data", Cache(tmp_path)))
        assert [recording.name for recording, _ in found] == ["0", "1", "2"]
        errors = capsys.readouterr().err
        assert "left out: gone.wav: no such file." in errors
        assert "data: 1 of 4 recordings left out." in errors


def test_copies_of_one_recording_share_an_array(tmp_path):
    corpus = Corpus(2)
    recordings = [*corpus.recordings, *corpus.recordings]
    found = [audio for _, audio in clips.read_all(recordings, 8_000, "data", Cache(tmp_path))]
    assert corpus.reads == ["0", "1"]
    assert_right(found[:2])
    assert_right(found[2:])


def test_rate_spec_limit_and_decoder_decide_the_array(tmp_path, monkeypatch):
    corpus = Corpus(2)
    assert len(corpus.read_all(tmp_path, 4_000)[0]) == 4_000
    assert_right(corpus.read_all(tmp_path))
    assert len(corpus.reads) == 4
    monkeypatch.setattr(cache, "DECODED_BY", "another")
    assert_right(corpus.read_all(tmp_path))
    assert len(corpus.reads) == 6

    def features(spec: FrontEndSpec, limit: int) -> clips.Clips:
        return clips.load(corpus.recordings, ("a", "b"), spec, lambda cut: cut[:, :7], limit, "data", Cache(tmp_path))

    for reads, spec, limit in ((8, SPEC, 2), (8, SPEC, 2), (10, SPEC, 1), (12, replace(SPEC, frame_step=64), 1)):
        found = features(spec, limit)
        assert len(found.features) == 2 * limit
        np.testing.assert_array_equal(found.features[0], Corpus.samples(0)[:7])
        assert len(corpus.reads) == reads


def test_another_ffmpeg_renews_what_it_reads(tmp_path, monkeypatch):
    corpus = Corpus(2)
    corpus.recordings = (replace(corpus.recordings[0], name="a.M4A"), replace(corpus.recordings[1], name="b.wav"))
    for version, reads in (("pyav-1", "01"), ("pyav-1", "01"), ("ffmpeg-7.1", "010")):
        monkeypatch.setattr(cache, "_ffmpeg", lambda version=version: version)
        assert_right(corpus.read_all(tmp_path))
        assert "".join(corpus.reads) == reads


def test_version_of_ffmpeg_is_found(monkeypatch, tmp_path):
    assert cache._ffmpeg() == f"pyav-{av.__version__}"
    monkeypatch.setattr(media, "pyav", lambda: None)
    (tmp_path / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert re.match(r"ffmpeg-n?\d", cache._ffmpeg.__wrapped__())


def test_small_packs_are_joined(tmp_path):
    """Repeated trainings with one more recording each do not leave one file each, which would be
    held open.
    """
    for count in range(1, 8):
        corpus = Corpus(count)
        assert_right(corpus.read_all(tmp_path))
        assert corpus.reads == [str(count - 1)]
        assert len(list(tmp_path.glob("*/*"))) == 1


def test_large_packs_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PACK_BYTES", 100_000)
    assert_right(Corpus(6).read_all(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.pack")}
    assert_right(Corpus(10).read_all(tmp_path))
    assert before.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.pack")}.items()


def test_two_builds_at_once_are_safe(tmp_path):
    """Each build finds an empty cache and makes everything; both write the same bytes."""
    corpus = Corpus(4)
    builds = [clips.read_all(corpus.recordings, 8_000, "data", Cache(tmp_path)) for _ in range(2)]
    first = [next(build)[1] for build in builds]
    found = [[one, *(audio for _, audio in build)] for one, build in zip(first, builds, strict=True)]
    for audios in found:
        assert_right(audios)
    assert len(list(tmp_path.glob("*/*"))) == 1


def test_a_pack_keeps_types_shapes_and_values(tmp_path):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.float32([1.5]),
        "c": np.ones((2, 2, 2), np.float32)[:, ::2],
        "d": np.int16([-32768, 0, 32767]),
        "e": np.array([True, False, True]),
    }
    write_pack(tmp_path / "a.pack", arrays)
    found = read_pack(tmp_path / "a.pack")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].array, array)
        assert found[name].array.dtype == array.dtype
        assert not found[name].array.flags.writeable


@pytest.mark.parametrize("scale", [1.0, 0.7])  # of 16 bits, and of more
def test_stored_audio_is_exact_and_narrow(samples, tmp_path, scale):
    audio = read_mono(samples[0], 16_000) * np.float32(scale)
    recording = Recording("a", "speech", "", "0" * 64, lambda rate_hz: audio)
    for _ in range(2):
        ((_, stored),) = clips.read_all([recording], 16_000, "data", Cache(tmp_path))
        assert len(stored) == len(audio)
        np.testing.assert_array_equal(stored[:], audio)
        np.testing.assert_array_equal(stored[100:300], audio[100:300])
        np.testing.assert_array_equal(np.asarray(stored), audio)
    (pack,) = tmp_path.glob("*/*.pack")
    exact = np.array_equal(np.round(audio * 32768), audio * 32768)
    assert 0 < pack.stat().st_size - (2 if exact else 4) * len(audio) < 256


def test_another_process_maps_stored_audio_itself(tmp_path):
    corpus = Corpus(3)
    for audio, index in zip(corpus.read_all(tmp_path), range(3), strict=True):
        sent = pickle.dumps(audio)
        assert len(sent) < 1000
        np.testing.assert_array_equal(pickle.loads(sent)[:], Corpus.samples(index))


def test_audio_of_a_removed_pack_is_pickled_whole(tmp_path):
    (audio, *_) = Corpus(1).read_all(tmp_path)
    for pack in tmp_path.glob("*/*.pack"):
        pack.unlink()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(audio))[:], Corpus.samples(0))


def test_activity_is_found_once(samples, tmp_path, monkeypatch):
    audio = read_mono(samples[0], 16_000)
    short = np.zeros(100, np.float32)
    recordings = [
        (Recording("a", "speech", "", "0" * 64, lambda rate_hz: audio), audio),
        (Recording("copy", "speech", "", "0" * 64, lambda rate_hz: audio), audio),
        (Recording("short", "speech", "", "1" * 64, lambda rate_hz: short), short),
    ]
    found = Cache(tmp_path).activity(recordings, 16_000)
    assert list(found) == ["a", "copy", "short"]
    assert found["a"].dtype == bool
    assert len(found["a"]) == len(audio) // 320
    assert len(found["short"]) == 0
    monkeypatch.setattr("ms_train.datasets.activity.activity", None)
    again = Cache(tmp_path).activity(recordings, 16_000)
    for name, active in found.items():
        np.testing.assert_array_equal(again[name], active)


def test_samples_of_16_bits_are_recognised():
    assert in_16_bits(np.float32([-1, 0, 32767 / 32768])).dtype == np.int16
    for more in ([1.0], [1e-6], [0.5 / 32768]):
        assert in_16_bits(np.float32(more)).dtype == np.float32
