"""MIDI songs of the open corpus. FluidSynth is replaced: these machines need not have it."""

import subprocess
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from ms_edge.errors import AudioError
from ms_train.datasets import midi, origins
from ms_train.datasets import open_corpus as corpus
from ms_train.errors import DataError

PIANO, OVERDRIVEN = 0, 29


def song(path, programs=(PIANO,), notes=8, beat_s=0.25, hold_last=False):
    """Write a song in which each program plays a scale on its own channel, and drums play along."""
    file = mido.MidiFile(ticks_per_beat=480)
    for channel, program in enumerate((*programs, None)):
        track = file.add_track()
        channel = midi.DRUMS if program is None else channel
        if program is not None:
            track.append(mido.Message("program_change", channel=channel, program=program))
        for note in range(notes):
            track.append(mido.Message("note_on", channel=channel, note=60 + note, time=480))
            if not (hold_last and note == notes - 1):
                track.append(mido.Message("note_off", channel=channel, note=60 + note, time=round(960 * beat_s)))
    file.save(path)
    return path


def events_of(path):
    return midi._events(path)


def notes_of(events):
    return [(message.channel, message.note) for _, message in events if message.type == "note_on"]


@pytest.fixture
def fluidsynth(monkeypatch):
    """Play every note as a sine tone, and keep the commands."""
    commands = []

    def run(command, **options):
        *_, audio, _font, path = command
        found = events_of(path)
        samples = np.zeros((round((found[-1][0] + 0.1) * midi.RATE_HZ), 2), np.float32)
        started = {}
        for seconds, message in found:
            key = message.channel, getattr(message, "note", None)
            if message.type == "note_on":
                started[key] = seconds
            ended = [key] if message.type == "note_off" else []
            if message.is_cc(midi.ALL_SOUND_OFF):
                ended = [each for each in started if each[0] == message.channel]
            for each in ended:
                first, end = (round(at * midi.RATE_HZ) for at in (started.pop(each), seconds))
                tone = np.sin(np.arange(end - first) * 2 * np.pi * 440 * 2 ** ((each[1] - 69) / 12) / midi.RATE_HZ)
                samples[first:end] += 0.1 * tone.astype(np.float32)[:, None]
        assert not started, "FluidSynth would play for ever"
        soundfile.write(audio, samples, midi.RATE_HZ, "FLOAT", format="WAV")
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(midi.subprocess, "run", run)
    return commands


FONTS = [Path("a.sf2"), Path("b.sf2"), Path("c.sf3")]


def test_each_song_always_sounds_the_same(tmp_path, fluidsynth):
    first = midi.render(song(tmp_path / "a.mid", (PIANO, OVERDRIVEN)), FONTS)
    again = midi.render(song(tmp_path / "b.mid", (PIANO, OVERDRIVEN)), FONTS)
    other = midi.render(song(tmp_path / "c.mid", (PIANO, OVERDRIVEN), notes=9), FONTS)
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape
    assert np.abs(first).max() == pytest.approx(0.9)
    assert first.dtype == np.float32


def test_songs_differ_in_font_tempo_and_key(tmp_path, fluidsynth):
    lengths = {len(midi.render(song(tmp_path / "a.mid", notes=4 + number), FONTS)) for number in range(12)}
    assert len(lengths) == 12
    assert {command[-2] for command in fluidsynth} == set(FONTS)


def test_long_songs_are_cut_and_end(tmp_path, fluidsynth):
    samples = midi.render(song(tmp_path / "a.mid", notes=60, beat_s=1.0, hold_last=True), FONTS)
    assert len(samples) <= midi.LONGEST_S * midi.RATE_HZ
    assert len(samples) > 0.95 * midi.LONGEST_S * midi.RATE_HZ
    assert np.abs(samples[-midi.RATE_HZ :]).max() > 0.1


def test_arrangement_keeps_drums_and_distorted_guitars(tmp_path):
    events = events_of(song(tmp_path / "a.mid", (PIANO, OVERDRIVEN)))
    keys, programs = set(), set()
    for seed in range(40):
        found = midi.arranged(events, np.random.default_rng(seed))
        assert len(found) == len(events)
        assert min(seconds for seconds, message in found if message.type == "note_on") == 0
        notes = notes_of(found)
        assert [note for channel, note in notes if channel == midi.DRUMS] == list(range(60, 68))
        keys |= {note - 60 for channel, note in notes[:1] if channel != midi.DRUMS}
        chosen = {message.channel: message.program for _, message in found if message.type == "program_change"}
        assert chosen[1] == OVERDRIVEN
        programs.add(chosen[0])
    assert keys == set(range(midi.KEY[0], midi.KEY[1] + 1))
    assert len(programs) > 5


def test_distorted_guitars_are_split_off_whole(tmp_path):
    events = events_of(song(tmp_path / "a.mid", (PIANO, OVERDRIVEN, OVERDRIVEN)))
    counts = set()
    for seed in range(20):
        guitars, rest = midi.guitars_of(events, np.random.default_rng(seed))
        assert sorted(notes_of([event for part in (*guitars, rest) for event in part])) == sorted(notes_of(events))
        assert {0, midi.DRUMS} <= {channel for channel, _ in notes_of(rest)}
        for part in guitars:
            programs = {message.program for _, message in part if message.type == "program_change"}
            assert programs <= set(midi.CLEAN)
            assert programs
        counts.add(len(guitars))
    assert counts == {0, 1, 2}


def test_amplifier_distorts_within_its_band():
    time = np.arange(2 * midi.RATE_HZ) / midi.RATE_HZ
    chord = (0.1 * np.sin(2 * np.pi * 200 * time) + 0.1 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)
    for seed in range(10):
        spectrum = np.abs(np.fft.rfft(midi.amplifier(chord, np.random.default_rng(seed))[midi.RATE_HZ :]))
        strongest = spectrum.max()
        assert spectrum[700] > 0.01 * strongest, "sums of the notes' harmonics"
        assert spectrum[9_000:].max() < 0.01 * strongest
        assert spectrum[:10].max() < 0.05 * strongest


def test_no_fluidsynth_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"FluidSynth, which is not installed: apt-get install fluidsynth\.") as caught:
        midi.render(song(tmp_path / "a.mid"), FONTS)
    assert caught.value.code == "no-fluidsynth"


def test_a_font_that_cannot_be_played_is_named(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "fluidsynth: error: Not a SoundFont file")
    monkeypatch.setattr(midi.subprocess, "run", lambda command, **options: failed)
    with pytest.raises(DataError, match=r"\.sf[23]: FluidSynth cannot play with it \(.*Not a SoundFont"):
        midi.render(song(tmp_path / "a.mid"), FONTS)


@pytest.mark.parametrize("content", [b"", b"MThd\0\0\0\6\0\0", b"RIFF" + bytes(100), None])
def test_other_files_are_audio_errors(tmp_path, content):
    path = song(tmp_path / "a.mid", notes=0)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.mid: (is not a MIDI file|this MIDI file holds no notes)"):
        midi.render(path, FONTS)


def test_a_song_of_the_corpus_is_rendered(tmp_path, fluidsynth, monkeypatch):
    made = {}

    def unpack(deb, folder):
        font = next(font for font in midi.FONTS if font.package == deb)
        (folder / font.path).parent.mkdir(parents=True)
        (folder / font.path).write_bytes(font.package.encode())

    monkeypatch.setattr(origins, "get_package", lambda name, *_: made.setdefault(name, name))
    monkeypatch.setattr(origins, "unpack_package", unpack)
    song(tmp_path / "a.mid", (OVERDRIVEN,))
    row = corpus.Row("train", "music", "me/songs", "0" * 40, "", "a.mid", "", "", "", "CC0-1.0", "1")
    line = corpus.store(tmp_path / "corpus", tmp_path, row)
    assert not isinstance(line, AudioError)
    info = soundfile.info(tmp_path / "corpus" / row.flac)
    assert (info.samplerate, info.channels) == (16_000, 1)
    assert 2 < info.duration < 8
    assert set(made) == {font.package for font in midi.FONTS}
    assert fluidsynth[0][-2].parent == tmp_path / "corpus" / "soundfonts"
