"""The result does not depend on the source: block size, batch size, threads, file, stream or array."""

from __future__ import annotations

import io
import json
import pickle
import queue
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from ms_edge import classifier as classifier_module
from ms_edge.audio.file import AudioFile, read_mono
from ms_edge.audio.raw import RawFormat
from ms_edge.audio.source import AudioArrays
from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError, UsageError

SOUND = np.full(16_000, 0.1, np.float32)


@pytest.fixture(scope="module")
def classifier():
    return Classifier()


@pytest.fixture(scope="module")
def stereo(samples, tmp_path_factory):
    """5.3 s of mixed audio in 44.1 kHz stereo, whose end is not a multiple of the hop."""
    path = tmp_path_factory.mktemp("stereo") / "stereo.wav"
    left = np.concatenate([read_mono(sample, 44_100) for sample in samples])[13 * 44_100 : round(18.3 * 44_100)]
    soundfile.write(path, np.stack([left, np.roll(left, 7) * 0.5], axis=1), 44_100, "PCM_16")
    return path


@pytest.mark.parametrize("block_s", [pytest.param(1 / 44_100, marks=pytest.mark.slow), 37 / 44_100, 0.02, 1.0, 600.0])
def test_block_size_changes_no_bit_of_scores(classifier, stereo, block_s):
    def scored(**options):
        with AudioFile(stereo, **options) as audio:
            return classifier.window_scores(audio.blocks(16_000))

    expected, found = scored(), scored(block_s=block_s)
    np.testing.assert_array_equal(found.starts, expected.starts)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.silent, expected.silent)


@pytest.mark.parametrize("batch_s", [0.1, 1.0, 7.0, 64.0])
def test_scores_hardly_depend_on_batch_size(classifier, stereo, monkeypatch, batch_s):
    samples = read_mono(stereo, 16_000)
    expected = classifier.window_scores([samples])
    monkeypatch.setattr(classifier_module, "BATCH_S", batch_s)
    np.testing.assert_allclose(classifier.window_scores([samples]).scores, expected.scores, atol=1e-6, rtol=0)


def test_threads_share_a_classifier(classifier, samples):
    expected = [classifier.classify(path) for path in samples]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(classifier.classify, samples * 5)) == expected * 5


def test_copy_in_another_process_gives_same_result(samples):
    original = Classifier(hop_s=0.25, min_segment_s=2.0, min_confidence=0.1, thresholds={"music": 0.9})
    copy = pickle.loads(pickle.dumps(original))
    assert copy.settings() == original.settings()
    assert copy.classify(samples[0]) == original.classify(samples[0])


def test_files_objects_and_arrays_are_the_same_audio(classifier, samples):
    path = samples[0]
    from_path = classifier.classify(path)
    with path.open("rb") as file:
        from_file = classifier.classify(file)
    audio, rate = soundfile.read(path, dtype="float32")
    from_array = classifier.classify(audio, rate)
    integers, _ = soundfile.read(path, dtype="int16")
    from_integers = classifier.classify(integers, rate)
    for other in (from_file, from_array, from_integers):
        assert (other.scores, other.segments, other.duration_s) == (
            from_path.scores,
            from_path.segments,
            from_path.duration_s,
        )
    assert (from_array.path, from_array.file) == ("array", None)


@pytest.mark.parametrize("count", [1, 100, 4_000, 1 << 20])
def test_stream_yields_each_window_when_complete(classifier, samples, count):
    audio, rate = soundfile.read(samples[0], dtype="float32", always_2d=True)
    audio = audio[: 3 * rate] if count > 1 else audio[: rate + 10]
    heard = 0

    def blocks():
        nonlocal heard
        for start in range(0, len(audio), count):
            heard = start + min(count, len(audio) - start)
            yield audio[start : start + count]

    for part in classifier.stream(blocks(), rate):
        if part.end_s < len(audio) / rate:  # the last window is known only at the end
            assert heard / rate - part.end_s < count / rate + 0.06  # the delay of the resampler
        assert part.label in ("speech", "music", "speech+music", "other")


@pytest.mark.parametrize(
    "call",
    [
        lambda: Classifier().classify(SOUND, "16000"),
        lambda: Classifier().classify(SOUND, 16_000.5),
        lambda: Classifier().classify([[0.0], [0.0, 0.0]] * 8_000, 16_000),
        lambda: Classifier().classify([1] * 8_000, 16_000),
        lambda: Classifier().classify([None] * 8_000, 16_000),
        lambda: Classifier().classify(SOUND, 16_000, raw=RawFormat(16_000, 1, "s16le")),
        lambda: Classifier().classify("a.pcm", raw="16000:1"),
        lambda: Classifier().classify("a.pcm", raw=("16000", 1, "s16le")),
        lambda: list(Classifier().stream(5, 16_000)),
        lambda: list(Classifier().stream([SOUND], "16000")),
        lambda: list(Classifier().stream([[[0.0], [0.0, 0.0]]], 16_000)),
        lambda: Classifier(hop_s="x"),
        lambda: Classifier(min_segment_s="1"),
        lambda: Classifier(min_confidence=None),
        lambda: Classifier(hop_s=float("nan")),
        lambda: Classifier(thresholds=0.6),
        lambda: Classifier(thresholds={"speech": "x"}),
        lambda: Classifier(thresholds={"speech": 10**400}),
        lambda: Classifier(thresholds={5: 0.5}),
        lambda: Classifier(device=None),
        lambda: Classifier(model=7),
        lambda: RawFormat(16_000, 1, "zzz"),
        lambda: RawFormat("16000", 1, "s16le"),
        lambda: RawFormat(16_000, 1.5, "s16le"),
    ],
)
def test_wrong_argument_types_are_usage_errors(call):
    with pytest.raises(UsageError) as caught:
        call()
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message


def test_numpy_numbers_are_accepted(tmp_path):
    classifier = Classifier(hop_s=np.float32(0.25), min_segment_s=np.int64(1), min_confidence=np.float32(0.5))
    found = classifier.classify(SOUND, np.int64(16_000))
    assert found == Classifier(hop_s=0.25, min_confidence=0.5).classify(SOUND, 16_000)
    json.dumps(found.record(timeline=True))
    (tmp_path / "a.pcm").write_bytes(bytes(32_000))
    for raw in (RawFormat(np.int32(16_000), np.int8(1), "s16le"), "16000:1:s16le"):
        json.dumps(classifier.classify(tmp_path / "a.pcm", raw=raw).record())


def test_arrays_that_cannot_be_audio_are_refused(classifier):
    for array in (np.zeros((2, 2, 2)), np.zeros(10, complex), np.zeros(100, np.uint8), np.zeros(10, np.int64), ["a"]):
        with pytest.raises(UsageError):
            classifier.classify(array, 16_000)
    with pytest.raises(AudioError, match="no samples"):
        classifier.classify(np.zeros(0), 16_000)
    with pytest.raises(AudioError, match="65 channels"):
        classifier.classify(np.zeros((16_000, 65)), 16_000)
    with pytest.raises(AudioError, match="rate"):
        classifier.classify(np.zeros(16_000), 1)
    with pytest.raises(UsageError, match="sample_rate_hz"):
        classifier.classify(np.zeros(16_000))
    with pytest.raises(UsageError, match="sample_rate_hz"):
        classifier.classify("a.wav", 16_000)
    with pytest.raises(UsageError, match="channels"):
        list(AudioArrays([np.zeros((10, 2)), np.zeros((10, 1))], 16_000).blocks(16_000))
    with pytest.raises(AudioError, match="not audio"):
        classifier.classify(io.BytesIO(b"nothing" * 100))


@pytest.mark.parametrize(
    "source", [b"RIFF", bytearray(b"RIFF"), 3, 1.5, True, None, object(), iter([[0.0]]), {}, {1.0}]
)
@pytest.mark.parametrize("sample_rate_hz", [None, 16_000])
def test_error_names_the_type_of_other_sources(classifier, source, sample_rate_hz):
    with pytest.raises(UsageError, match=f"not {type(source).__name__}"):
        classifier.classify(source, sample_rate_hz)


@pytest.mark.parametrize("source", [["a.wav", "b.wav"], [1, 2], np.zeros(4, np.uint8), np.zeros((2, 2, 2))])
def test_array_type_is_checked_before_its_rate(classifier, source):
    with pytest.raises(UsageError, match="Samples must be"):
        classifier.classify(source)


def test_masked_samples_are_refused(classifier):
    samples = np.ma.masked_array(np.zeros(16_000), mask=np.arange(16_000) < 100)
    with pytest.raises(UsageError, match="Samples must not be masked"):
        classifier.classify(samples, 16_000)
    assert classifier.classify(np.ma.masked_array(np.zeros(16_000)), 16_000).label == "silence"


def test_queue_blocks_end_at_the_sentinel(classifier):
    def queued(*blocks):
        given = queue.SimpleQueue()
        for block in blocks:
            given.put(block)
        return given

    blocks = [SOUND[:4_000]] * 8
    expected = list(classifier.stream(blocks, 16_000))
    assert len(expected) > 1
    assert list(classifier.stream(iter(queued(*blocks, None).get, None), 16_000)) == expected
    lists = [block.tolist() for block in blocks]
    assert list(classifier.stream(iter(queued(*lists, []).get, []), 16_000)) == expected
    ended = iter(queued(None).get, None)
    assert list(ended) == []
    with pytest.raises(AudioError, match="no samples"):
        list(classifier.stream(ended, 16_000))


def test_error_in_block_iterator_is_not_translated(classifier):
    def broken():
        raise ValueError("closed")

    with pytest.raises(ValueError, match="closed"):
        list(classifier.stream(iter(broken, None), 16_000))


def test_memory_does_not_grow_with_duration(classifier):
    """Ten hours of blocks need the memory of a few clips and sixteen bytes per window."""
    import tracemalloc

    second = np.zeros(4_000, np.float32)
    tracemalloc.start()
    try:
        found = classifier.window_scores(second for _ in range(4 * 600))
        _, ten_minutes = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        longer = classifier.window_scores(second for _ in range(4 * 3600))
        _, an_hour = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    clip, hop = classifier.spec.clip_samples, classifier.spec.hop_samples
    for windows, seconds in ((longer, 3_600), (found, 600)):
        assert len(windows.starts) == 1 - (clip - seconds * 16_000) // hop  # the last one ends with the stream
    assert an_hour - ten_minutes < 1_500_000  # less than 20 MB for ten hours
