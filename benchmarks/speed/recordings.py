"""Make the recordings that systems are timed on: real audio, tiled from the sample clips in
tests/data, with hardly any silence.

Clips of one label follow each other in random order, each from a random start and attenuated by 0
to 10 dB. Recordings longer than 10 s are speech in their first half and music in their second.
Shorter recordings have one label.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from ms_edge.arrays import Float32
from ms_edge.audio.file import read_mono

SAMPLES = Path(__file__).parent.parent.parent / "tests" / "data"
LABELS = ("speech", "music")
RATE_HZ = 16_000
SHORT_S = 10.0
LEAST_SOUND = 0.95  # share of the tenths of a second of each file with an RMS over QUIET_DBFS
QUIET_DBFS = -60.0
BLOCK_S = 60  # seconds written at a time


@dataclass(frozen=True)
class Recording:
    """A file with its length, the shares of its labels, and the share of it that is not quiet."""

    path: Path
    seconds: float
    shares: dict[str, float]
    sound: float
    rate_hz: int = RATE_HZ
    channels: int = 1

    @property
    def label(self) -> str | None:
        """The label of the whole recording, or None if it has both."""
        return next((label for label, share in self.shares.items() if share == 1), None)


def make(folder: Path, seconds: float, kind: str, shares: dict[str, float], seed: int = 0) -> Recording:
    """Write one file unless it exists: `kind` is wav, flac or mp3 (16 kHz mono), or stereo44 (44.1
    kHz WAV, 16 bits).
    """
    name = f"{kind}-{seconds:g}s-{''.join(label[0] for label, share in shares.items() if share)}-{seed}"
    path = folder / f"{name}.{'wav' if kind == 'stereo44' else kind}"
    rate_hz, channels = (44_100, 2) if kind == "stereo44" else (RATE_HZ, 1)
    facts = path.with_suffix(".json")
    if facts.exists():
        return Recording(path, seconds, shares, json.loads(facts.read_text("utf-8")), rate_hz, channels)
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    quiet: list[bool] = []
    with soundfile.SoundFile(path, "w", rate_hz, channels, subtype=None if kind == "mp3" else "PCM_16") as file:
        for label in LABELS:
            clips = [read_mono(clip, rate_hz) for clip in sorted(SAMPLES.glob(f"{label}_*.wav"))]
            left = round(seconds * shares[label] * rate_hz)
            while left:
                block = _tiled(clips, min(left, BLOCK_S * rate_hz), random)
                left -= len(block)
                tenths = block[: len(block) // (rate_hz // 10) * (rate_hz // 10)].reshape(-1, rate_hz // 10)
                quiet += (np.mean(np.square(tenths), axis=1) < 10 ** (QUIET_DBFS / 10)).tolist()
                # The other channel is later and quieter, so that the two differ.
                file.write(block if channels == 1 else np.stack([block, 0.7 * np.roll(block, 9)], axis=1))
    sound = 1 - float(np.mean(quiet))
    if sound < LEAST_SOUND:
        raise RuntimeError(f"{path}: only {sound:.1%} of it is sound")
    facts.write_text(json.dumps(sound), "utf-8")
    return Recording(path, seconds, shares, sound, rate_hz, channels)


def _tiled(clips: Sequence[Float32], length: int, random: np.random.Generator) -> Float32:
    parts: list[Float32] = []
    while sum(map(len, parts)) < length:
        for index in random.permutation(len(clips)):
            clip = clips[index]
            gain = np.float32(10 ** (-random.uniform(0, 10) / 20))
            parts.append(np.roll(clip, int(random.integers(len(clip)))) * gain)
    return np.concatenate(parts)[:length]


def both(folder: Path, seconds: float, kind: str = "wav") -> Recording:
    """Return a recording of speech, then music."""
    return make(folder, seconds, kind, {"speech": 0.5, "music": 0.5})


def one(folder: Path, label: str, kind: str = "wav", seed: int = 0) -> Recording:
    """Return a recording of ten seconds of one label."""
    return make(folder, SHORT_S, kind, {other: float(other == label) for other in LABELS}, seed)


def facts(recording: Recording) -> dict[str, object]:
    """Return what the results state about a recording."""
    return {**asdict(recording), "path": recording.path.name}
