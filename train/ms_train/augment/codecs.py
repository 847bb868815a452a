"""Codecs as augmentation: samples are encoded and decoded in memory by libsndfile.

The codecs of telephony and radio run at 8 kHz. The others run at the audio's own rate, or at the
next higher rate that they support. The result has the same length and no delay: libsndfile removes
the delay of Vorbis and Opus, and that of MP3 if the encoder wrote it down. At low bit rates it does
not, and the delay is removed here.
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
MP3_DELAY = 576 + 529  # samples: the delays of LAME and of the decoder's filter bank
BLOCK = 1 << 16  # a long Ogg written in one call overflows libsndfile's stack


def mp3(samples: Float32, rng: Rng, sample_rate_hz: int, *, level: Range = (0.3, 0.99)) -> Float32:
    """MPEG layer III by LAME at a constant bit rate; compression level 0 is 160 kb/s at 16 kHz,
    0.99 is 8 kb/s.
    """
    return coded(samples, sample_rate_hz, "MP3", "MPEG_LAYER_III", MP3_HZ, rng.uniform(*level))


def vorbis(samples: Float32, rng: Rng, sample_rate_hz: int, *, level: Range = (0.3, 1.0)) -> Float32:
    """Ogg Vorbis by libvorbis; compression level 0 is quality 10, level 1 is quality 0."""
    return coded(samples, sample_rate_hz, "OGG", "VORBIS", (), rng.uniform(*level))


def opus(samples: Float32, rng: Rng, sample_rate_hz: int, *, level: Range = (0.8, 1.0)) -> Float32:
    """Opus (RFC 6716) by libopus; compression level 0 is 256 kb/s, level 1 is 6 kb/s."""
    return coded(samples, sample_rate_hz, "OGG", "OPUS", OPUS_HZ, rng.uniform(*level))


def gsm(samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
    """GSM 06.10 full rate, 13 kb/s at 8 kHz: mobile telephones of the nineties."""
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
    """Apply a random codec of those above."""
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
    """Encode and decode samples (n,) float32; return (n,) float32 in [-1, 1], without delay.

    `container` and `subtype` are libsndfile's names. `rates_hz` are the rates that the codec
    supports (empty: any). `level` is the compression level from 0 to 1, for codecs that have one.
    """
    rate_hz = next((rate for rate in rates_hz if rate >= sample_rate_hz), rates_hz[-1]) if rates_hz else sample_rate_hz
    sent = samples if rate_hz == sample_rate_hz else soxr.resample(samples, sample_rate_hz, rate_hz)
    sent = np.clip(sent, -1, 1)
    settings: dict[str, float | str] = {} if level is None else {"compression_level": level}
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
