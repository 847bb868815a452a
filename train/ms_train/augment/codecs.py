"""Codecs as augmentation: what libsndfile can encode, encoded and decoded again in memory.

The telephone's and the radio's codecs run at the rate they have there, 8 kHz; the others at the audio's own, or at the nearest above it
that they know. What comes back has its length and its place in time: libsndfile takes the delays of Vorbis and Opus off, and of MP3
where the encoder could write it down; where it could not (at low bit rates), it is taken off here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import soundfile
import soxr

from ms_edge.arrays import Float32
from ms_train.signals import Range, Rng

TELEPHONE_HZ = (8_000,)
MP3_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
OPUS_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
MP3_DELAY = 576 + 529  # samples: LAME's own, and that of the decoder's filter bank
BLOCK = 1 << 16  # a long Ogg written in one call overflows libsndfile's stack


def mp3(samples: Float32, rng: Rng, sample_rate_hz: int, *, level: Range = (0.3, 0.99)) -> Float32:
    """MPEG layer III by LAME at a constant bit rate; the level of compression goes from 0 (160 kb/s at 16 kHz) to 0.99 (8 kb/s)."""
    return coded(samples, sample_rate_hz, "MP3", "MPEG_LAYER_III", MP3_HZ, rng.uniform(*level))


def vorbis(samples: Float32, rng: Rng, sample_rate_hz: int, *, level: Range = (0.3, 1.0)) -> Float32:
    """Ogg Vorbis by libvorbis; the level of compression goes from 0 (quality 10) to 1 (quality 0)."""
    return coded(samples, sample_rate_hz, "OGG", "VORBIS", (), rng.uniform(*level))


def opus(samples: Float32, rng: Rng, sample_rate_hz: int, *, level: Range = (0.8, 1.0)) -> Float32:
    """Opus (RFC 6716) by libopus; the level of compression goes from 0 (256 kb/s) to 1 (6 kb/s)."""
    return coded(samples, sample_rate_hz, "OGG", "OPUS", OPUS_HZ, rng.uniform(*level))


def gsm(samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
    """GSM 06.10 full rate: a mobile telephone of the nineties, 13 kb/s at 8 kHz."""
    return coded(samples, sample_rate_hz, "WAV", "GSM610", TELEPHONE_HZ)


def mu_law(samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
    """ITU-T G.711 mu-law, 8 bits at 8 kHz: telephones of North America and Japan."""
    return coded(samples, sample_rate_hz, "WAV", "ULAW", TELEPHONE_HZ)


def a_law(samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
    """ITU-T G.711 A-law, 8 bits at 8 kHz: telephones of the rest of the world."""
    return coded(samples, sample_rate_hz, "WAV", "ALAW", TELEPHONE_HZ)


def ima_adpcm(samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
    """IMA ADPCM, 4 bits a sample at the audio's own rate: games and voice recorders."""
    return coded(samples, sample_rate_hz, "WAV", "IMA_ADPCM", ())


def codec(samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
    """Any one of the above."""
    each = (mp3, vorbis, opus, gsm, mu_law, a_law, ima_adpcm)
    return each[rng.integers(len(each))](samples, rng, sample_rate_hz)


def coded(
    samples: Float32,
    sample_rate_hz: int,
    container: str,
    subtype: str,
    rates_hz: Sequence[int],
    level: float | None = None,
) -> Float32:
    """Samples (n,) float32 through a codec in libsndfile's names: (n,) float32 in [-1, 1], at the time they were.

    `rates_hz` are the rates the codec knows (none: any), `level` how hard it compresses, 0 to 1, where it can.
    """
    rate_hz = next((rate for rate in rates_hz if rate >= sample_rate_hz), rates_hz[-1]) if rates_hz else sample_rate_hz
    sent = samples if rate_hz == sample_rate_hz else soxr.resample(samples, sample_rate_hz, rate_hz)
    sent = np.clip(sent, -1, 1)
    settings = {} if level is None else {"compression_level": level}
    if container == "MP3":
        settings["bitrate_mode"] = "CONSTANT"
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate_hz, 1, subtype, format=container, **settings) as sound:
        for start in range(0, len(sent), BLOCK):
            sound.write(sent[start : start + BLOCK])
    file.seek(0)
    with soundfile.SoundFile(file) as sound:
        late = MP3_DELAY if container == "MP3" and sound.frames > len(sent) else 0
        received = sound.read(late + len(sent), dtype="float32")[late:]
    if rate_hz != sample_rate_hz:
        received = soxr.resample(received, rate_hz, sample_rate_hz)
    out = np.zeros(len(samples), np.float32)
    out[: len(received)] = np.clip(received[: len(samples)], -1, 1)
    return out
