"""Sessions: segments of a live stream, decided with a bounded delay."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from ms_edge import AudioError, Classifier, UsageError
from ms_edge.jobs.progress import Progress
from ms_edge.live import stream
from ms_edge.live.online import Online, Window
from ms_edge.live.pipes import PIPE_SHARE
from ms_edge.live.stream import BLOCK_S, Pace
from ms_edge.model.metadata import Decision
from ms_edge.timeline import segments, window_labels

RATE = 16_000
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def classifier():
    return Classifier(device="cpu")


def read(path):
    samples, rate = soundfile.read(path, dtype="float32")
    assert samples.ndim == 1
    return soxr.resample(samples, rate, RATE)


@pytest.fixture(scope="module")
def programme(samples):
    """Return speech, music, speech, silence and music at 16 kHz."""
    named = {path.name: path for path in samples}
    speech, music = (read(named[name]) for name in ("speech_french_woman.wav", "music_zaz.wav"))
    return np.concatenate([speech, music, speech[:50_000], np.zeros(70_001, np.float32), music[:61_111]])


def events_of(session, samples, step=1_600):
    found = []
    for start in range(0, len(samples), step):
        found += session.push(samples[start : start + step])
    return found + session.close()


def ends(events):
    return [(event.start_s, event.end_s, event.label) for event in events if event.kind == "segment_end"]


def test_with_enough_delay_equals_offline_timeline(classifier, programme):
    offline = classifier.timeline(programme, RATE)
    events = events_of(classifier.session(RATE, delay_s=300), programme)
    assert ends(events) == [(part.start_s, part.end_s, part.label) for part in offline]
    for part, event in zip(offline, [each for each in events if each.kind == "segment_end"], strict=True):
        if part.label != "silence":
            assert event.probability == pytest.approx(part.probability, abs=1e-6)


def test_batches_of_a_stream_share_features(programme, monkeypatch):
    classifier = Classifier(device="cpu")
    features, frames = classifier._features, []

    def counted(samples):
        frames.append(len(found := features(samples)))
        return found

    monkeypatch.setattr(classifier, "_features", counted)
    events_of(classifier.session(RATE), programme)
    assert len(frames) > 10
    assert sum(frames) < 1.1 * classifier.spec.frames(len(programme))


@pytest.mark.parametrize(
    "chosen", [{"hop_s": 0.1}, {"hop_s": 1.0}, {"hop_s": 0.0701}, {"min_segment_s": 3.0}, {"binary": True}], ids=str
)
def test_settings_change_live_segments_as_they_change_timeline(programme, chosen):
    other = Classifier(device="cpu", **chosen)
    offline = [(part.start_s, part.end_s, part.label) for part in other.timeline(programme, RATE)]
    assert ends(events_of(other.session(RATE, delay_s=300), programme)) == offline


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10_000),
    windows=st.integers(1, 120),
    together=st.integers(1, 9),
    spread=st.sampled_from([0.5, 2.0, 6.0]),
    lag_ms=st.sampled_from([0, 300, 1_000, 10**6]),
)
def test_online_segments_are_valid_and_with_lag_optimal(seed, windows, together, spread, lag_ms):
    """Compare the recursion with that of the whole recording, on scores that nobody has seen before."""
    random = np.random.default_rng(seed)
    walk = np.cumsum(random.normal(0, spread / 3, (windows, 2)), axis=0) + random.normal(0, spread, (windows, 2))
    scores = (1 / (1 + np.exp(-np.clip(walk, -30, 30)))).astype(np.float32)
    silent = np.repeat(random.random(windows // 8 + 1) < 0.2, 8)[:windows]
    times = [0, *range(580, 580 + 160 * (windows - 1), 160), 580 + 160 * windows + 33]
    decision, labels = Decision("independent", (0.5, 0.4)), ("speech", "music")
    names = window_labels(scores, labels, decision, silent)
    given_windows = [
        Window(start, end, row, quiet, name)
        for (start, end), row, quiet, name in zip(pairwise(times), scores.tolist(), silent.tolist(), names, strict=True)
    ]
    online, ready, changes = Online(labels, decision, 1_000, 0.0), (windows - 1) // together * together, []
    for first in range(0, ready, together):
        online.add(given_windows[first : first + together])
        changes += online.decide(lag_ms)
    changes += online.close(given_windows[ready:], times[-1])
    found = [(each.start_ms, each.at_ms, each.label) for each in changes if each.kind == "segment_end"]
    assert [end for _, end, _ in found] == [start for start, _, _ in found[1:]] + [times[-1]]
    assert all(one[2] != other[2] for one, other in pairwise(found))
    assert all(end - start >= 1_000 for start, end, _ in found[:-1])
    assert [each.at_ms for each in changes] == sorted(each.at_ms for each in changes)
    if lag_ms == 10**6:
        offline = segments(scores, silent, np.array(times) / 1000, labels, decision, 1.0)
        assert found == [(round(1000 * part.start_s), round(1000 * part.end_s), part.label) for part in offline]


def test_events_do_not_depend_on_blocks(classifier, programme):
    whole = events_of(classifier.session(RATE, started_at=NOON), programme, len(programme))
    for step in (37, 2_560, 16_001):
        assert events_of(classifier.session(RATE, started_at=NOON), programme, step) == whole


@pytest.mark.parametrize(
    ("rate", "delay_s"), [(48_000, 2.0), (44_100, 1.1), (8_000, 1.95), (4_000, 1.95), (96_000, 1.95), (16_000, 4.0)]
)
def test_each_moment_is_decided_within_delay(classifier, rate, delay_s):
    noise = np.random.default_rng(1).normal(0, 0.1, (20 * rate, 2))
    noise[8 * rate : 14 * rate] = 0  # changes of label are decided with more audio in view
    session = classifier.session(rate, delay_s=delay_s)
    for start in range(0, len(noise), rate // 50):
        session.push(noise[start : start + rate // 50])
        waits_for_first_window = 0.42 if session.decided_s == 0 else 0
        assert session.received_s - session.decided_s <= delay_s + waits_for_first_window
    session.close()
    assert session.decided_s == session.received_s == 20


def test_segments_cover_stream_and_follow_each_other(classifier, programme):
    events = events_of(classifier.session(RATE, started_at=NOON), programme)
    found = ends(events)
    assert found[0][0] == 0
    assert [end for _, end, _ in found[:-1]] == [start for start, _, _ in found[1:]]
    assert found[-1][1] == round(len(programme) / RATE, 3)
    assert [event.kind for event in events if event.kind != "label"] == ["segment_start", "segment_end"] * len(found)
    assert all(event.utc == NOON + timedelta(seconds=event.time_s) for event in events)


def test_silence_has_no_probability(classifier, programme):
    events = events_of(classifier.session(RATE), programme)
    silent = [event.record() for event in events if event.label == "silence"]
    assert silent
    assert not any("probability" in record or "scores" in record for record in silent)


def test_lost_audio_counts_and_ends_segment(classifier, programme):
    session = classifier.session(RATE, started_at=NOON)
    session.push(programme[:80_000])
    assert [event.time_s for event in session.lose(7.25) if event.kind == "segment_end"] == [5.0]
    assert session.received_s == session.decided_s == 12.25
    after = session.push(programme[:80_000]) + session.close()
    assert after[0].kind == "segment_start"
    assert after[0].time_s == 12.25
    assert after[-1].end_s == 17.25
    assert after[-1].utc == NOON + timedelta(seconds=17.25)


def test_label_is_stated_each_minute(classifier):
    events = events_of(classifier.session(RATE), np.zeros(RATE * 150, np.float32), RATE)
    assert [(event.time_s, event.label) for event in events if event.kind == "label"] == [
        (60.0, "silence"),
        (120.0, "silence"),
    ]


def test_each_channel_has_its_events(classifier, programme):
    both = np.stack([programme, np.zeros_like(programme)], axis=1)
    events = events_of(classifier.session(RATE, channels="each", started_at=NOON), both)
    alone = events_of(classifier.session(RATE, started_at=NOON), programme)
    assert ends(event for event in events if event.channel == 1) == ends(alone)
    assert {event.label for event in events if event.channel == 2} == {"silence"}


def test_improbable_segments_are_uncertain(programme):
    strict = Classifier(device="cpu", min_confidence=1.0)
    events = events_of(strict.session(RATE), programme)
    assert {event.label for event in events if event.kind == "segment_end"} == {"uncertain", "silence"}
    assert next(event.label for event in events if event.kind == "segment_start") == "uncertain"


def test_zero_minimum_keeps_label_of_each_window(programme):
    own = Classifier(device="cpu", min_segment_s=0)
    offline = [(part.start_s, part.end_s, part.label) for part in own.timeline(programme, RATE)]
    assert ends(events_of(own.session(RATE), programme)) == offline


@pytest.mark.parametrize("seconds", [0.3, 0.9, 1.0, 1.1, 1.5])
def test_short_streams_equal_offline_timeline(classifier, programme, seconds):
    samples = programme[: round(seconds * RATE)]
    offline = [(part.start_s, part.end_s, part.label) for part in classifier.timeline(samples, RATE)]
    assert ends(events_of(classifier.session(RATE), samples)) == offline


def test_less_than_quarter_second_has_no_segment(classifier):
    session = classifier.session(RATE)
    assert session.push(np.zeros(3_000, np.float32)) + session.close() == []


def test_errors_say_what_to_do(classifier):
    with pytest.raises(UsageError, match=r"at least 0.82 s .*, not 0.5 s"):
        classifier.session(RATE, delay_s=0.5)
    with pytest.raises(UsageError, match=r"at least 0.94 s with this model, hop and sample rate, .*, not 0.9 s"):
        classifier.session(8_000, delay_s=0.9)
    with pytest.raises(UsageError, match="at most 600 s in a live stream"):
        Classifier(device="cpu", min_segment_s=1e6).session(RATE)
    with pytest.raises(AudioError, match="sample rate"):
        classifier.session(1)
    session = classifier.session(RATE)
    session.push(np.zeros((100, 2)))
    with pytest.raises(UsageError, match="has 1 channels, but the first one had 2"):
        session.push(np.zeros(100))
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.push(np.zeros((100, 2)))
    with pytest.raises(AudioError, match="channel 3"):
        classifier.session(RATE, channels=3).push(np.zeros((100, 2)))


def test_asynchronous_blocks_give_events(classifier, programme):
    async def blocks():
        for start in range(0, len(programme), 8_000):
            yield programme[start : start + 8_000]

    async def collected():
        return [event async for event in classifier.events(blocks(), RATE, started_at=NOON)]

    assert asyncio.run(collected()) == events_of(classifier.session(RATE, started_at=NOON), programme)


def test_session_warns_of_odd_samples(classifier):
    session = classifier.session(RATE, channels="each")
    block = np.zeros((RATE * 2, 2), np.float32)
    block[5_000, 1] = np.nan
    session.push(block)
    assert session.warnings == ["non-finite"]


FAKE_SOUNDDEVICE = """
import os, threading, types
import numpy as np

class InputStream:
    def __init__(self, *, samplerate, channels, dtype, callback):
        assert (samplerate, channels, dtype) == (48_000, 1, "int16")
        self._callback = callback

    def __enter__(self):
        threading.Thread(target=self._record).start()

    def __exit__(self, *_):
        pass

    def _record(self):
        buffer = np.empty((4_800, 1), np.int16)  # used again for each block, as PortAudio does
        samples = np.load(os.environ["RECORDING"])
        for number in range(len(samples) // 4_800):
            buffer[:, 0] = samples[number * 4_800 :][:4_800]
            lost_s = 2.5 if number >= 30 else 0.0
            self._callback(buffer, 4_800, types.SimpleNamespace(inputBufferAdcTime=7 + 0.1 * number + lost_s), None)
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no signal to one process")
def test_microphone_example_prints_events_and_counts_losses(programme, tmp_path):
    (tmp_path / "sounddevice.py").write_text(FAKE_SOUNDDEVICE, encoding="utf-8")
    np.save(
        tmp_path / "speech.npy",
        (32_767 * soxr.resample(np.tile(programme[: 5 * RATE], 2), RATE, 48_000)).astype(np.int16),
    )
    environment = {**os.environ, "RECORDING": str(tmp_path / "speech.npy")}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
    script = Path(__file__).parents[2] / "docs" / "examples" / "microphone.py"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test in the background ignores it
    try:
        process = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        lines += process.stdout.readlines()
    assert process.returncode == 0
    assert [line.split()[1:] for line in lines[:3]] == [
        ["0.000", "segment_start", "speech"],
        ["3.000", "segment_end", "speech"],
        ["5.500", "segment_start", "speech"],
    ]
    assert lines[-1].split()[2:] == ["segment_end", "speech"]


class Time:
    """A clock that only sleeping and reading move."""

    def __init__(self):
        self.now = 0.0

    def sleep(self, seconds):
        self.now += seconds


@pytest.mark.parametrize(("speed", "waits"), [(1.0, True), (1.2, False), (50.0, False)])
def test_only_live_sources_are_waited_for(speed, waits):
    time = Time()
    pace, slept, audio_s, next_s = Pace(2.0, lambda: time.now, time.sleep), 0.0, 0.0, BLOCK_S
    while audio_s < 120:
        audio_s += next_s
        time.now = max(time.now, audio_s / speed)  # a read ends when its last sample has come
        pace.read(audio_s)
        before = time.now
        next_s = pace.wait(1.28)
        slept += time.now - before
    assert (slept > 100) == waits
    assert time.now < 120 / speed + 4


def test_no_more_waits_in_the_pipe_than_it_holds():
    time, audio_s, next_s = Time(), 0.0, BLOCK_S
    pace = Pace(0.2, lambda: time.now, time.sleep)
    waits, unread = [], []
    for _ in range(90):
        audio_s += min(0.1, next_s)  # a source may give less than it is asked for
        time.now = max(time.now, audio_s)
        pace.read(audio_s)
        before = time.now
        next_s = pace.wait(5.0)
        waits.append(time.now - before)
        unread.append(time.now - audio_s)
    assert max(unread) == pytest.approx(0.2, rel=0.1)  # more if it takes the source for a slower one
    assert max(waits) == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize(("subtype", "sample_bytes"), [("PCM_16", 2), ("FLOAT", 4), ("DOUBLE", 8)])
def test_pipe_holds_fewer_seconds_of_wider_samples(tmp_path, monkeypatch, classifier, subtype, sample_bytes):
    soundfile.write(tmp_path / "a.wav", np.zeros((2 * RATE, 2)), RATE, subtype)
    most_s = []
    monkeypatch.setattr(stream, "enlarge_pipe", lambda descriptor: 1 << 20)
    monkeypatch.setattr(stream, "Pace", lambda seconds: most_s.append(seconds) or Pace(seconds))
    assert stream.stream(str(tmp_path / "a.wav"), classifier, Progress(None), delay_s=2.0) == 0
    assert most_s == [PIPE_SHARE * (1 << 20) / (2 * sample_bytes * RATE)]


def test_stream_that_becomes_faster_is_no_more_waited_for():
    time, audio_s, next_s = Time(), 0.0, BLOCK_S
    pace = Pace(2.0, lambda: time.now, time.sleep)
    while audio_s < 3600:
        audio_s += next_s
        time.now = max(time.now, audio_s if audio_s < 600 else 0.0)  # then all comes at once
        pace.read(audio_s)
        next_s = pace.wait(0.64)
    assert time.now < 640


def test_waits_for_a_slow_clock_do_not_add_up():
    time, audio_s, worst_s, next_s = Time(), 0.0, 0.0, BLOCK_S
    pace = Pace(2.0, lambda: time.now, time.sleep)
    while audio_s < 3600:
        audio_s += next_s
        comes = 1.0002 * audio_s
        worst_s = max(worst_s, time.now - comes)
        time.now = max(time.now, comes)
        pace.read(audio_s)
        next_s = pace.wait(1.28)
    assert worst_s < 0.15


@pytest.mark.parametrize("duration_s", [-1, float("nan"), float("inf"), 1e300])
def test_lost_audio_never_turns_time_back(classifier, duration_s):
    session = classifier.session(16_000)
    with pytest.raises(UsageError, match=r"must be from 0 to 1e\+09 s, not"):
        session.lose(duration_s)
    assert session.received_s == 0
