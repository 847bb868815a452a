"""Training windows: how they are drawn and processed, and which labels they get."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.signal import correlate, fftconvolve

from ms_edge.audio.file import read_mono
from ms_train.augment import pool as pools
from ms_train.augment import scenes as scenes_module
from ms_train.augment.augmentations import chain
from ms_train.augment.channel import channel
from ms_train.augment.dynamics import compress, duck
from ms_train.augment.pool import Pool, capped
from ms_train.augment.rooms import Room
from ms_train.augment.scenes import Scenes, presence, random_batch
from ms_train.datasets.activity import Sound, activity
from ms_train.datasets.dataset import Recording
from ms_train.recipes.by_name import get_recipe
from ms_train.signals import coloured_noise, loudness, mix, rms

RATE_HZ = 16_000
LABELS = ("speech", "music")
SPEC = get_recipe("mel_patches").spec


def pool_of(sounds, **options) -> Pool:
    """Return a pool of (label, source, samples) or (label, source, group, samples)."""
    recordings = []
    for number, (label, source, *group, audio) in enumerate(sounds):
        recording = Recording(
            str(number), label, source, str(number), lambda rate: None, group=group[0] if group else ""
        )
        recordings.append((recording, audio))
    return Pool(recordings, LABELS, "independent", SPEC, **options)


def tone(hz: float, seconds: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def real(samples) -> list[tuple[str, str, np.ndarray]]:
    """Return label, source and samples of the sample recordings; each is its own source."""
    return [(path.name.partition("_")[0], path.stem, read_mono(path, RATE_HZ)) for path in samples]


@pytest.fixture(scope="module")
def decaying() -> Room:
    """Return a room of half a second; its responses are decaying noise, one with loud direct sound."""
    rng = np.random.default_rng(5)
    tail = rng.standard_normal(RATE_HZ // 2) * 10 ** (-3 * np.arange(RATE_HZ // 2) / (RATE_HZ // 2))
    responses = []
    for direct in (1.0, 20.0):
        response = tail.copy()
        response[0] = direct
        responses.append((response / np.sqrt(np.sum(response**2))).astype(np.float32))
    return Room("noise", 0.5, (0.0, 20.0), tuple(responses))


@pytest.fixture
def only(monkeypatch):
    """Return a function that disables all random processing of scenes except the given one."""

    def switch(**shares: float) -> None:
        for name in ("MIXTURE", "NEITHER", "BACKGROUND", "WET", "SPEED", "NOISE", "COMPRESSED", "BABBLE", "DUCKED"):
            monkeypatch.setattr(scenes_module, f"{name}_SHARE", shares.pop(name, 0.0))
        monkeypatch.setattr(pools, "JOINED_SHARE", shares.pop("JOINED", 0.0))
        assert not shares

    return switch


# Drawing.


def test_no_source_gives_more_than_its_cap():
    assert capped(np.array([0.9, *[0.1 / 9] * 9]), 0.15).max() == pytest.approx(0.15)
    few = capped(np.array([0.9, 0.05, 0.05]), 0.15)  # too few for the cap, so all are equal
    np.testing.assert_allclose(few, 1 / 3)
    sounds = [("music", "a", tone(100, 600)), *(("music", f"b{n}", tone(200 + 20 * n, 5)) for n in range(9))]
    pool, rng = pool_of(sounds), np.random.default_rng(0)
    found = Counter(
        round(np.abs(np.fft.rfft(pool.window("music", RATE_HZ, rng)))[50:].argmax() + 50) for _ in range(600)
    )
    assert found[100] / 600 == pytest.approx(0.15, abs=0.05)


def test_groups_of_a_source_come_before_recordings():
    """Sixteen times as many recordings have four times the probability."""
    sounds = [*[("speech", "a", "many", tone(100, 2))] * 16, ("speech", "a", "one", tone(200, 2))]
    pool, rng = pool_of(sounds), np.random.default_rng(0)
    windows = [np.abs(np.fft.rfft(pool.window("speech", RATE_HZ, rng))) for _ in range(400)]
    assert np.mean([spectrum[200] > spectrum[100] for spectrum in windows]) == pytest.approx(0.2, abs=0.06)


def test_every_labelled_window_holds_active_sound(real):
    """This also holds for recordings that are mostly pauses, silent or noisy."""
    rng, sounds = np.random.default_rng(0), []
    for label, source, audio in real:
        pause = 0.002 * rng.standard_normal(4 * RATE_HZ).astype(np.float32) * (len(sounds) % 2)
        sounds.append(
            (
                label,
                source,
                np.concatenate([pause, audio[: RATE_HZ // 2], pause, audio[RATE_HZ:][: RATE_HZ // 2], pause]),
            )
        )
    pool = pool_of(sounds)
    loud = {source: np.sqrt(np.percentile(frames(audio), 95)) for _, source, audio in real}
    for label in LABELS:
        for length_s in (0.5, 1.0, 2.0):
            for _ in range(60):
                window = pool.window(label, int(length_s * RATE_HZ), rng)
                heard = np.sqrt(frames(window)) > 0.03 * min(loud.values())
                assert heard.sum() * 0.02 >= 0.2  # of 0.3 s, because some active frames are quieter


def frames(samples: np.ndarray) -> np.ndarray:
    return np.mean(samples[: len(samples) // 320 * 320].reshape(-1, 320) ** 2, axis=1)


def test_pauses_and_noise_are_not_active(real):
    _, _, audio = next(each for each in real if each[1] == "speech_italian_man")
    rng = np.random.default_rng(0)
    noise = (rms(audio) * 0.05 * rng.standard_normal(3 * RATE_HZ)).astype(np.float32)
    found = activity(np.concatenate([noise, audio, noise]), RATE_HZ)
    assert found[: 3 * 50].mean() < 0.05
    assert found[3 * 50 : -3 * 50].mean() > 0.5
    assert activity(tone(440, 2), RATE_HZ).all()  # steady music has no background
    assert not activity(np.zeros(RATE_HZ, np.float32), RATE_HZ).any()


def test_starts_are_drawn_where_sound_suffices():
    active = np.zeros(500, bool)
    active[200:230] = True
    sound, rng = Sound(np.zeros(500 * 320, np.float32), active, RATE_HZ), np.random.default_rng(0)
    starts = [sound.start(RATE_HZ, round(0.3 * RATE_HZ), rng) for _ in range(300)]
    inside = [sound.active_in(start, start + RATE_HZ) for start in starts]
    assert min(inside) >= 0.3 * RATE_HZ
    assert min(starts) < 170 * 320
    assert max(starts) > 210 * 320


def test_speech_and_music_windows_have_equal_joins(monkeypatch):
    """Much of the speech is too short for a window, and none of the music is."""
    joined = Counter()
    join = Pool._join

    def counted(self, group, *args):
        joined[group.sounds[0].audio[1] > 0.05] += 1
        return join(self, group, *args)

    monkeypatch.setattr(Pool, "_join", counted)
    words = [("speech", f"s{n}", tone(100, seconds)) for n, seconds in enumerate((0.6, 0.6, 30.0))]
    pool = pool_of([*words, *(("music", f"m{n}", tone(1000, 30)) for n in range(3))])
    rng = np.random.default_rng(0)
    for label in LABELS:
        for _ in range(400):
            pool.window(label, RATE_HZ, rng)
    assert joined[False] / 400 == pytest.approx(2 / 3, abs=0.08)
    assert joined[True] / 400 == pytest.approx(2 / 3, abs=0.08)


@pytest.mark.parametrize("label", LABELS)
def test_gaps_hold_noise_and_rarely_digital_silence(real, monkeypatch, label):
    monkeypatch.setattr(pools, "JOINED_SHARE", 1.0)
    monkeypatch.setattr(pools, "GAP_SHARE", 1.0)
    pool, rng, silent, gaps = pool_of(real), np.random.default_rng(1), 0, 0
    for _ in range(200):
        window = pool.window(label, 2 * RATE_HZ, rng)
        level = frames(window)
        silent += (level == 0).any()
        gaps += (level < level.max() * 10**-2.5).any()
    assert gaps > 150
    assert silent / 200 == pytest.approx(pools.SILENT_SHARE, abs=0.08)


# Rooms.


@pytest.mark.parametrize("label", LABELS)
def test_windows_are_cut_after_reverberation(real, decaying, only, label):
    only(WET=1.0)
    audio = np.concatenate([each for name, _, each in real if name == label])
    scenes, rng = Scenes(pool_of([(name, "a", audio) for name in LABELS]), [decaying]), np.random.default_rng(0)
    reverberated = [fftconvolve(audio.astype(float), response) for response in decaying.responses]
    for _ in range(10):
        window, _ = scenes.draw(RATE_HZ, rng)
        assert min(np.abs(differences(whole, window)).max() for whole in reverberated) < 1e-4


def differences(whole: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return the difference of a window from the most similar cut of the same length."""
    ones = np.ones(len(window))
    energy = (
        fftconvolve(whole**2, ones[::-1], "valid")
        + np.dot(window, window)
        - 2 * correlate(whole, window, "valid", "fft")
    )
    best = int(energy.argmin())
    return whole[best : best + len(window)] - window


def test_one_of_two_sounds_may_reverberate(decaying, only, monkeypatch):
    """One of two tones, for speech and music, may be in a room, which extends it in time."""
    only(WET=1.0, MIXTURE=1.0)
    rest = np.zeros(RATE_HZ, np.float32)
    pieces = [
        (label, "a", np.concatenate([tone(hz, 0.4), rest])) for label, hz in zip(LABELS, (440, 3000), strict=True)
    ]
    scenes, rng, found = Scenes(pool_of(pieces), [decaying]), np.random.default_rng(0), Counter()
    drawn = []
    wet = scenes_module._Scene._wet

    def watched(self, samples, wet_=True):
        drawn.append(wet_)
        return wet(self, samples, wet_)

    monkeypatch.setattr(scenes_module._Scene, "_wet", watched)
    for _ in range(200):
        drawn.clear()
        scenes.draw(RATE_HZ, rng)
        found[tuple(drawn[-2:])] += 1
    assert {(True, True), (True, False), (False, True)} <= set(found)


# Mixtures and their targets.


@pytest.fixture
def tones() -> Pool:
    return pool_of(
        [
            ("speech", "a", tone(200, 4)),
            ("speech", "b", tone(300, 5)),
            ("music", "c", tone(1000, 30)),
            (None, "d", tone(5000, 3)),
        ]
    )


def test_targets_say_what_is_in_the_window(tones, only):
    only(NEITHER=0.25, MIXTURE=0.2)
    scenes, rng = Scenes(tones), np.random.default_rng(0)
    for _ in range(200):
        window, target = scenes.draw(RATE_HZ, rng)
        spectrum = np.abs(np.fft.rfft(window))
        heard = {"speech": max(spectrum[190:211].max(), spectrum[290:311].max()), "music": spectrum[990:1011].max()}
        for label, present in zip(LABELS, target, strict=True):
            if target.any() and np.isfinite(present):
                assert (heard[label] > 50) == bool(present)


def test_faint_sounds_are_undecided_and_fainter_ones_absent():
    assert presence(-40, -21, -90) == 1  # music 19 dB under speech
    assert np.isnan(presence(-45, -21, -90))
    assert presence(-52, -21, -90) == 0
    assert presence(-40, -90, -31) == 1  # 9 dB under noise
    assert np.isnan(presence(-45, -90, -31))
    assert presence(-52, -90, -31) == 0


def test_no_label_lies_far_below_the_noise(real, only, monkeypatch):
    only(MIXTURE=1.0, NOISE=1.0)
    monkeypatch.setattr(scenes_module, "NOISE_DB", (-10.0, 30.0))
    levels = []
    level = scenes_module.presence

    def watched(own_db, voice_db, other_db):
        found = level(own_db, voice_db, other_db)
        levels.append((own_db - other_db, own_db - voice_db, found))
        return found

    monkeypatch.setattr(scenes_module, "presence", watched)
    room = Room("none", 0.1, (0.0,), (np.ones(1, np.float32),))
    scenes, rng = Scenes(pool_of(real), [room]), np.random.default_rng(0)
    targets = np.stack([scenes.draw(RATE_HZ, rng)[1] for _ in range(300)])
    assert all(over_noise >= -10 and over_voice >= -20 for over_noise, over_voice, found in levels if found == 1)
    assert {0.0, 1.0} <= set(targets[np.isfinite(targets)])
    assert 0.02 < np.isnan(targets).mean() < 0.3


def test_babble_is_undecided_speech_and_not_music(real, only, decaying, monkeypatch):
    only(NEITHER=1.0)
    monkeypatch.setattr(scenes_module, "BABBLE_ALONE_SHARE", 1.0)
    scenes, rng = Scenes(pool_of(real), [decaying]), np.random.default_rng(0)
    for _ in range(20):
        window, (speech, music) = scenes.draw(RATE_HZ, rng)
        assert np.isnan(speech)
        assert music == 0
        assert rms(window) > 1e-3
    only(BACKGROUND=1.0, BABBLE=1.0)
    found = {tuple(np.nan_to_num(scenes.draw(RATE_HZ, rng)[1], nan=-1)) for _ in range(40)}
    # One voice is clearly louder. With music, speech is undecidable unless the babble is far below.
    assert {(1.0, 0.0), (-1.0, 1.0)} <= found <= {(1.0, 0.0), (-1.0, 1.0), (0.0, 1.0)}


def test_ducked_music_is_lower_while_speech_sounds():
    speech = np.concatenate([np.zeros(RATE_HZ), tone(300, 1), np.zeros(2 * RATE_HZ)]).astype(np.float32)
    out = duck(tone(1000, 4), speech, 12.0, np.random.default_rng(0), RATE_HZ)
    before, during, after = (rms(out[int(at * RATE_HZ) :][: RATE_HZ // 4]) for at in (0.5, 1.5, 3.5))
    assert 20 * np.log10(before / during) == pytest.approx(12, abs=0.5)
    assert after == pytest.approx(before, rel=0.1)


def test_compression_narrows_the_range_of_levels(real):
    narrower = []
    for seed, (_, _, audio) in enumerate(real):
        out = compress(audio[: 4 * RATE_HZ], np.random.default_rng(seed), RATE_HZ)
        assert rms(out) == pytest.approx(rms(audio[: 4 * RATE_HZ]), rel=1e-3)
        spread = [
            np.diff(np.percentile(10 * np.log10(frames(each[: 4 * RATE_HZ]) + 1e-9), [50, 99]))[0]
            for each in (audio, out)
        ]
        narrower.append(spread[0] - spread[1])
    assert min(narrower) > -0.5
    assert max(narrower) > 3


# Batches, noise and the channel.


def test_same_seed_gives_same_batches(real, decaying):
    scenes = Scenes(pool_of(real), [decaying])
    one, other, different = (
        random_batch(scenes, channel, RATE_HZ, 16, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert not np.array_equal(one[0], different[0])


def test_batches_have_all_targets_and_finite_samples(real, decaying):
    samples, targets = random_batch(Scenes(pool_of(real), [decaying]), channel, RATE_HZ, 128, np.random.default_rng(0))
    assert samples.shape == (128, RATE_HZ)
    assert samples.dtype == targets.dtype == np.float32
    assert np.abs(samples).max() <= 1
    assert (samples.std(axis=1) > 0).all()
    assert {(0, 0), (0, 1), (1, 0), (1, 1)} <= {tuple(row) for row in targets}


def test_a_chain_serves_as_an_augmentation(real):
    augment = chain(("mp3", 0.5), ("noise", 0.5), "gain")
    one, other = (random_batch(Scenes(pool_of(real)), augment, RATE_HZ, 8, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    assert one[0].shape == (8, RATE_HZ)


def test_channel_keeps_the_length_and_hides_the_level():
    rng = np.random.default_rng(0)
    levels = []
    for _ in range(100):
        out = channel((0.1 * rng.standard_normal(RATE_HZ)).astype(np.float32), rng, RATE_HZ)
        assert out.shape == (RATE_HZ,)
        assert out.dtype == np.float32
        assert np.isfinite(out).all()
        levels.append(20 * np.log10(rms(out)))
    assert min(levels) < -40
    assert max(levels) > -16


def test_mix_has_the_requested_level_difference():
    rng = np.random.default_rng(0)
    loud, quiet = coloured_noise(RATE_HZ, rng), 5 * coloured_noise(RATE_HZ, rng)
    added = mix(loud, quiet, 6.0) - loud
    assert 20 * np.log10(rms(loud) / rms(added)) == pytest.approx(6.0, abs=0.01)


def test_loudness_is_a_weighted_level():
    """A-weighting, IEC 61672-1, table 3: 0 dB at 1 kHz, -19.1 at 100 Hz, -1.1 at 8 kHz (here 6.3
    kHz: -0.1).
    """
    full_db = 20 * np.log10(0.3 / np.sqrt(2))
    for hz, weight_db in ((1000, 0.0), (100, -19.1), (6300, -0.1)):
        assert loudness(tone(hz, 1), RATE_HZ) - full_db == pytest.approx(weight_db, abs=0.15)


def test_channel_output_is_unchanged():
    """Random numbers are compared exactly, samples within the differences of processors, because a
    change alters the model.
    """
    rng = np.random.default_rng(42)
    samples = (0.1 * np.random.default_rng(7).standard_normal(RATE_HZ)).astype(np.float32)
    outs = np.stack([channel(samples, rng, RATE_HZ) for _ in range(60)])
    assert rng.bit_generator.state["state"]["state"] == 302380267927404444423897623279478522183
    np.testing.assert_allclose(np.sqrt(np.mean(outs**2)), 0.0950115, rtol=1e-5)
    np.testing.assert_allclose(
        outs[::12, 8_000], [-0.00117515, -0.01184005, -0.00685746, -0.09078431, -0.16000712], rtol=1e-3
    )
