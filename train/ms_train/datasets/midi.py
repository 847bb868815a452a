"""Render MIDI songs to audio with free sound fonts, for the open corpus.

FluidSynth plays a song with a sound font. Everything else is drawn by a generator whose seed is the
SHA-256 of the MIDI file, so that songs differ in timbre but each always sounds the same: sound
font, tempo, key, reverberation, some of the instruments, and the amplifiers of distorted guitars.
Sound fonts hold such guitars as short samples of single notes. Chords through a real amplifier are
distorted as a whole, so each of these parts is also rendered with a clean guitar, clipped and
filtered like a guitar loudspeaker.
"""

from __future__ import annotations

import math
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.errors import AudioError
from ms_train.datasets import origins
from ms_train.datasets.reading import file_digest
from ms_train.errors import DataError
from ms_train.signals import Rng

if TYPE_CHECKING:
    import mido

SUFFIXES = (".mid", ".midi")
LONGEST_S = 60.0  # of a song
RATE_HZ = 32_000  # of the rendering
TICKS = 480  # per half second, the beat of a MIDI file that states no tempo
TEMPO, KEY = (0.8, 1.2), (-5, 5)  # factor; semitones
OTHER_SHARE, OTHERS = 0.3, 80  # share of the parts with another instrument, among the first of General MIDI
ALL_SOUND_OFF = 120  # a controller of MIDI
DRUMS = 9  # the channel of percussion in General MIDI
DISTORTED, CLEAN = (29, 30), (26, 27, 28)  # programs of General MIDI: guitars
AMPLIFIED_SHARE = 0.75  # share of the distorted guitars through the amplifier below
DRIVE_DB, LEVEL_DB = (10.0, 45.0), (-6.0, 6.0)  # gain before clipping; level relative to the other instruments
SPEAKER_HZ = (60.0, 130.0), (3000.0, 6500.0)  # band of a guitar loudspeaker: lower and upper edge


class SoundFont(NamedTuple):
    """A sound font in a Debian package."""

    package: str
    version: str
    package_sha256: str
    path: str


FONTS = (  # their licences: MIT; MIT; GPL-2
    SoundFont(
        "fluid-soundfont-gm",
        "3.1-5.3",
        "6f531493ac4e4d9772fd96b2488ea1790af81c196135fbdd25997da0781fc60e",
        "usr/share/sounds/sf2/FluidR3_GM.sf2",
    ),
    SoundFont(
        "musescore-general-soundfont-small",
        "0.2.1-1",
        "65f9c1cb658c49e8713d2c95238d5d26868f520341f74a4fe26248a8f763c739",
        "usr/share/sounds/sf3/MuseScore_General_Lite.sf3",
    ),
    SoundFont(
        "timgm6mb-soundfont",
        "1.3-5",
        "034abdfb296d9353433513dad5dbdcab46425ee6008fc02fe7039b46e75edc54",
        "usr/share/sounds/sf2/TimGM6mb.sf2",
    ),
)
Event = tuple[float, "mido.Message"]  # seconds from the start of the song, and a message of a channel
_getting = Lock()


def sound_fonts(root: Path) -> list[Path]:
    """Return the files of `FONTS` in `root/soundfonts`, downloading their packages into
    `root/packages` if they are missing. Raises MsEdgeError.
    """
    folder = root / "soundfonts"
    files = [folder / Path(font.path).name for font in FONTS]
    with _getting:
        for font, file in zip(FONTS, files, strict=True):
            if not file.is_file():
                folder.mkdir(parents=True, exist_ok=True)
                with origins.unpacked(root, font.package, font.version, font.package_sha256) as tree:
                    (tree.folder / font.path).replace(file)
    return files


def render(path: Path, fonts: Sequence[Path]) -> Float32:
    """Return the first LONGEST_S seconds of a MIDI file as samples (n,) at RATE_HZ, with a peak of
    at most 0.9.

    Raises AudioError(`not-audio`) for an invalid or empty file, and DataError(`no-fluidsynth`).
    """
    rng = np.random.default_rng(int(file_digest(path)[:16], 16))
    font = fonts[int(rng.integers(len(fonts)))]
    reverberation = bool(rng.random() < 0.5)
    events = arranged(_events(path), rng)
    if not any(message.type == "note_on" for _, message in events):
        raise AudioError("not-audio", f"{path}: this MIDI file holds no notes.")
    guitars, rest = guitars_of(events, rng)
    total = _played(rest, font, reverberation)
    loud = _rms(total) or 0.05  # of a guitar alone, any level will do
    for guitar in guitars:
        amplified = amplifier(_played(guitar, font, False), rng)
        amplified *= np.float32(loud * 10 ** (rng.uniform(*LEVEL_DB) / 20) / max(_rms(amplified), 1e-6))
        longer, shorter = (total, amplified) if len(total) >= len(amplified) else (amplified, total)
        longer[: len(shorter)] += shorter
        total = longer
    return total * np.float32(0.9 / max(float(np.abs(total).max(initial=0)), 1e-6))


def arranged(events: Sequence[Event], rng: Rng) -> list[Event]:
    """Return events in another tempo and key, with some instruments replaced and without silence at
    the start, up to LONGEST_S.
    """
    tempo, key = float(rng.uniform(*TEMPO)), int(rng.integers(KEY[0], KEY[1] + 1))
    others = {channel: int(rng.integers(OTHERS)) for channel in range(16) if rng.random() < OTHER_SHARE}
    first = min((seconds for seconds, message in events if message.type == "note_on"), default=0.0)
    found = []
    for seconds, message in events:
        at = max(0.0, seconds - first) / tempo
        if at > LONGEST_S:
            break
        if message.channel != DRUMS:
            if message.type in ("note_on", "note_off"):
                message = message.copy(note=min(127, max(0, message.note + key)))
            elif message.type == "program_change" and message.program not in DISTORTED and message.channel in others:
                message = message.copy(program=others[message.channel])
        found.append((at, message))
    return found


def guitars_of(events: Sequence[Event], rng: Rng) -> tuple[list[list[Event]], list[Event]]:
    """Split the distorted guitars to be amplified, one list for each channel, with clean guitars
    instead, from all other events.
    """
    program = dict.fromkeys(range(16), 0)
    amplified = {channel: int(rng.choice(CLEAN)) for channel in range(16) if rng.random() < AMPLIFIED_SHARE}
    guitars: dict[int, list[Event]] = defaultdict(list)
    rest = []
    for seconds, message in events:
        channel = message.channel
        if message.type == "program_change":
            program[channel] = message.program
            if channel in amplified:
                guitars[channel].append((seconds, message.copy(program=amplified[channel])))
            rest.append((seconds, message))
        elif message.type not in ("note_on", "note_off"):
            rest.append((seconds, message))
            guitars[channel].append((seconds, message))
        elif channel != DRUMS and channel in amplified and program[channel] in DISTORTED:
            guitars[channel].append((seconds, message))
        else:
            rest.append((seconds, message))
    sounding = [part for part in guitars.values() if any(message.type == "note_on" for _, message in part)]
    return sounding, rest


def amplifier(samples: Float32, rng: Rng) -> Float32:
    """Return samples (n,) at RATE_HZ as a guitar amplifier and its loudspeaker change them: clipped
    at a random gain, softly or hard, and limited to a random band.
    """
    from scipy.signal import butter, sosfilt

    drive = 10 ** (rng.uniform(*DRIVE_DB) / 20) / max(_rms(samples), 1e-6)
    offset = rng.uniform(0, 0.3)  # an asymmetric curve also makes even harmonics
    low, high = (float(rng.uniform(*edge)) for edge in SPEAKER_HZ)
    shaped = sosfilt(butter(1, low, "highpass", fs=RATE_HZ, output="sos"), samples) * drive + offset
    clipped = np.tanh(shaped) if rng.random() < 0.7 else np.clip(shaped, -1, 1)
    sections = butter(2, low, "highpass", fs=RATE_HZ, output="sos"), butter(4, high, fs=RATE_HZ, output="sos")
    return np.asarray(sosfilt(np.concatenate(sections), clipped - math.tanh(offset)), np.float32)


def _events(path: Path) -> list[Event]:
    """Return all messages of the channels of a MIDI file with their times."""
    import mido

    found, seconds = [], 0.0
    try:
        for message in mido.MidiFile(path, clip=True):
            seconds += message.time
            if not message.is_meta and hasattr(message, "channel"):
                found.append((seconds, message))
    except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
        raise AudioError("not-audio", f"{path}: is not a MIDI file ({error}).") from None
    return found


def _played(events: Sequence[Event], font: Path, reverberation: bool) -> Float32:
    """Return events as samples (n,) at RATE_HZ, both channels averaged."""
    import mido

    with TemporaryDirectory() as work:
        song, audio = Path(work) / "song.mid", Path(work) / "song.wav"
        track = mido.MidiTrack()
        before = 0
        for seconds, message in events:
            ticks = round(2 * TICKS * seconds)
            track.append(message.copy(time=ticks - before))
            before = ticks
        # FluidSynth plays until no note sounds, and the cut at LONGEST_S leaves notes without end.
        track += [mido.Message("control_change", channel=channel, control=ALL_SOUND_OFF) for channel in range(16)]
        mido.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track]).save(song)
        effects = int(reverberation)  # also the chorus
        options = (
            f"-niq -g 0.3 -r {RATE_HZ} -R {effects} -C {effects} -o synth.dynamic-sample-loading=1 -O float -T wav -F"
        )
        try:
            result = subprocess.run(
                ["fluidsynth", *options.split(), audio, font, song], capture_output=True, text=True, errors="replace"
            )
        except FileNotFoundError:
            raise DataError(
                "no-fluidsynth",
                "MIDI songs are played by FluidSynth, which is not installed: apt-get install fluidsynth.",
            ) from None
        with suppress(soundfile.SoundFileError):
            samples, _ = soundfile.read(audio, dtype="float32", always_2d=True)
            return np.ascontiguousarray(samples[: round(LONGEST_S * RATE_HZ)].mean(axis=1))
        raise DataError(
            "cannot-render", f"{font.name}: FluidSynth cannot play with it ({result.stderr.strip()[-200:]})."
        )


def _rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
