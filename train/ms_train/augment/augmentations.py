"""Augmentations by name, and chains of them, for recipes and `ms-train show --augment`.

Each takes samples (n,) float32 in [-1, 1], a random generator and the sample rate in Hz, and
returns (n,) float32 within full scale. The same state of the generator gives the same result.
Random parameters are drawn from ranges in physical units, which are keyword arguments.

They use SciPy, soxr and libsndfile. audiomentations 0.43 is not used, because it needs soxr below 1
while the runtime uses 1.1, and because it depends on librosa, numba and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from scipy.fft import irfft, next_fast_len, rfft

from ms_edge.arrays import Float32
from ms_edge.errors import UsageError
from ms_edge.features.spec import FrontEndSpec
from ms_train.augment import codecs, masks
from ms_train.augment.channel import channel
from ms_train.augment.masks import Mask
from ms_train.signals import Augment, Range, Rng, coloured_noise, mix, rms


def gain(samples: Float32, rng: Rng, sample_rate_hz: int, *, gain_db: Range = (-20.0, 6.0)) -> Float32:
    """Change the level; samples beyond full scale are clipped, as in a converter."""
    louder: Float32 = np.clip(samples * np.float32(10 ** (rng.uniform(*gain_db) / 20)), -1, 1)
    return louder


def noise(samples: Float32, rng: Rng, sample_rate_hz: int, *, snr_db: Range = (3.0, 30.0)) -> Float32:
    """Add coloured Gaussian noise (`ms_train.signals.coloured_noise`), `snr_db` below the clip's
    RMS.
    """
    return _within_full_scale(mix(samples, coloured_noise(len(samples), rng), rng.uniform(*snr_db)))


def telephone(samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
    """Limit to the band of analogue telephony, 300-3,400 Hz (ITU-T G.712): flat within 350-3,350
    Hz, without delay.
    """
    size = next_fast_len(
        len(samples) + sample_rate_hz // 10, real=True
    )  # padding, for the impulse response of the filter
    hz = np.linspace(0, sample_rate_hz / 2, size // 2 + 1, dtype=np.float32)
    inside = np.clip(np.minimum(hz - 300, 3400 - hz) / 50, 0, 1)
    response = 0.5 - 0.5 * np.cos(np.pi * inside)
    return _within_full_scale(irfft(rfft(samples, size) * response, size)[: len(samples)])


def reverberation(
    samples: Float32,
    rng: Rng,
    sample_rate_hz: int,
    *,
    decay_s: Range = (0.2, 1.0),
    direct_to_reverberant_db: Range = (-3.0, 12.0),
) -> Float32:
    """Add reverberation: the sound is convolved with an impulse and Gaussian noise that decays by
    60 dB in `decay_s`.

    The level of the sound is kept. This is the statistical model of late reverberation (Polack
    1988; Moorer 1979), without the shape of a room and without early echoes.
    """
    seconds = rng.uniform(*decay_s)
    time_s = np.arange(1, max(2, int(seconds * sample_rate_hz)), dtype=np.float32) / sample_rate_hz
    tail = rng.standard_normal(len(time_s), np.float32) * 10 ** (-3 * time_s / np.float32(seconds))
    tail *= 10 ** (-rng.uniform(*direct_to_reverberant_db) / 20) / np.sqrt(np.sum(tail * tail))
    response = np.concatenate([np.ones(1, np.float32), tail])
    size = next_fast_len(len(samples) + len(response), real=True)
    wet = irfft(rfft(samples, size) * rfft(response, size), size)[: len(samples)]
    return _within_full_scale(wet * np.float32(rms(samples) / rms(wet)))


def speed(samples: Float32, rng: Rng, sample_rate_hz: int, *, factor: Range = (0.9, 1.1)) -> Float32:
    """Change pitch and tempo by one factor (Ko et al.

    2015); the result is cut or repeated to the original length.
    """
    played = soxr.resample(samples, sample_rate_hz * rng.uniform(*factor), sample_rate_hz)
    return _within_full_scale(np.resize(played, len(samples)))


def _within_full_scale(samples: Float32) -> Float32:
    """Scale samples down if their peak is over 1, because clipping would be another augmentation."""
    return (samples / max(1.0, float(np.abs(samples).max()))).astype(np.float32)


AUGMENTATIONS: dict[str, Augment] = {
    function.__name__: function
    for function in (
        gain,
        noise,
        telephone,
        codecs.mp3,
        codecs.vorbis,
        codecs.opus,
        codecs.gsm,
        codecs.mu_law,
        codecs.a_law,
        codecs.ima_adpcm,
        codecs.codec,
        reverberation,
        speed,
        channel,
    )
}
MASKS: dict[str, Mask] = {function.__name__: function for function in (masks.time_mask, masks.frequency_mask)}


@dataclass(frozen=True)
class Chain:
    """Augmentations of samples and masks of features, applied one after the other, each with its
    probability.
    """

    steps: tuple[tuple[str, float], ...]

    def __call__(self, samples: Float32, rng: Rng, sample_rate_hz: int) -> Float32:
        """Apply all steps but the masks to samples (n,) float32."""
        for name, probability in self.steps:
            if name in AUGMENTATIONS and rng.random() < probability:
                samples = AUGMENTATIONS[name](samples, rng, sample_rate_hz)
        return samples

    @property
    def masks(self) -> tuple[str, ...]:
        """The names of the steps that are masks."""
        return tuple(name for name, _ in self.steps if name in MASKS)

    def on_features(self, features: Float32, rng: Rng, spec: FrontEndSpec) -> Float32:
        """Apply the masks to the features of one clip, spec.feature_shape float32."""
        for name, probability in self.steps:
            if name in MASKS and rng.random() < probability:
                features = MASKS[name](features, rng, spec)
        return features

    def __str__(self) -> str:
        return ", ".join(f"{name} {probability:g}" for name, probability in self.steps) or "none"


def chain(*steps: str | tuple[str, float]) -> Chain:
    """Return a chain of augmentations by name, each always or with a probability.

    Raises UsageError for invalid steps.

    >>> print(chain(("reverberation", 0.2), ("noise", 0.3), "gain"))
    reverberation 0.2, noise 0.3, gain 1
    """
    named = tuple((step, 1.0) if isinstance(step, str) else step for step in steps)
    for name, probability in named:
        require_known(name)
        if not 0 <= probability <= 1:
            raise UsageError(f"{name}: a probability lies between 0 and 1; {probability} does not.")
    return Chain(named)


def parse_chain(texts: Sequence[str]) -> Chain:
    """Return the chain of texts `NAME` or `NAME:PROBABILITY`; a single `none` is the empty chain.

    Raises UsageError.

    >>> print(parse_chain(["noise:0.3", "gain"]))
    noise 0.3, gain 1
    """
    if list(texts) == ["none"]:
        return chain()
    steps = []
    if "none" in texts:
        raise UsageError("--augment none stands alone; leave it out, or leave out the others.")
    for text in texts:
        name, colon, share = text.partition(":")
        require_known(name)
        try:
            steps.append((name, float(share) if colon else 1.0))
        except ValueError:
            raise UsageError(f"{text}: after the colon comes a probability, as in {name}:0.5.") from None
    return chain(*steps)


def require_known(name: str) -> None:
    """Raise UsageError, with the known names, if there is no augmentation of that name."""
    if name not in AUGMENTATIONS and name not in MASKS:
        raise UsageError(f"There is no augmentation {name!r}; there are {', '.join([*AUGMENTATIONS, *MASKS])}.")
