"""The front end as data: all parameters that turn samples into features, in physical units."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from ms_edge.errors import ModelError

# The names that the input of a model may have. A model of waveforms has the front end in its graph.
FEATURES, WAVEFORM = "features", "waveform"

# Limits for the spec in a model file. Every published front end is far within them.
MAX_FRAME = 1 << 16
MIN_CLIP_S, MAX_CLIP_S = 0.01, 60.0
BATCH_S = 32.0  # audio scored at a time: less is slower, more is no faster and needs more memory
MIN_DURATION_S = 0.25  # shorter audio is not classified
MIN_HOP_S = 0.01  # when serving: one window per sample would take thousands of times as long
MAX_BANDS = 1024
MAX_VALUES = 1 << 24  # in a spectrum or the features of a clip, and in a network at work: 64 MiB of float32
MIN_LOG_FLOOR, MAX_LOG_FLOOR = 1e-12, 1e6  # float32 represents these and their logarithms well


@dataclass(frozen=True)
class MelSpec:
    """Triangular filters between two frequencies in Hz, evenly spaced on the mel scale."""

    bands: int
    low_hz: float
    high_hz: float


@dataclass(frozen=True)
class FrontEndSpec:
    """A short-time spectrum of clips of a fixed length, optionally with mel bands and a logarithm.

    All fields except `hop_s` are trained: a model gives correct scores only with the values of its
    training. The `digest` covers these fields. `hop_s` is the time between the starts of two
    windows and may be changed freely. Raises ModelError(`bad-spec`) for values that are not valid
    or need too much memory.
    """

    sample_rate_hz: int
    frame_length: int  # samples in the analysis window
    frame_step: int  # samples between the starts of two frames
    fft_length: int  # a longer frame is cropped to its first fft_length samples, a shorter one padded with zeros
    clip_s: float  # length of a window, the input of the network
    hop_s: float  # time between the starts of two windows; not trained
    window: str = "hann"
    magnitude: str = "amplitude"  # or "power", the squared amplitude
    mel: MelSpec | None = None
    log_floor: float | None = None  # features are log(x + log_floor); None for no logarithm
    layout: str = "bins_frames"  # or "frames_bins"

    def __post_init__(self) -> None:
        for field in ("sample_rate_hz", "frame_length", "frame_step", "fft_length"):
            _require(_is_int(getattr(self, field)), f"{field} must be a whole number, not {getattr(self, field)!r}")
        for field in ("clip_s", "hop_s"):
            _require(_is_real(getattr(self, field)), f"{field} must be a number of seconds")
        _require(
            4_000 <= self.sample_rate_hz <= 384_000,
            f"sample_rate_hz must be 4,000 to 384,000, not {self.sample_rate_hz}",
        )
        for field in ("frame_length", "frame_step", "fft_length"):
            _require(
                1 <= getattr(self, field) <= MAX_FRAME, f"{field} must be 1 to {MAX_FRAME}, not {getattr(self, field)}"
            )
        _require(self.fft_length % 2 == 0, f"fft_length must be even, not {self.fft_length}")
        _require(
            MIN_CLIP_S <= self.clip_s <= MAX_CLIP_S,
            f"clip_s must be {MIN_CLIP_S} to {MAX_CLIP_S:.0f}, not {self.clip_s}",
        )
        _require(self.clip_samples >= self.frame_length, f"a clip of {self.clip_s} s is shorter than one frame")
        _require(
            self.frames(self.clip_samples) * (self.fft_length + self.frame_length) <= MAX_VALUES,
            f"the frames of one clip may have at most {MAX_VALUES:,} values; use a longer frame_step",
        )
        _require(
            1 / self.sample_rate_hz <= self.hop_s <= self.clip_s,
            f"hop_s must be at least one sample and at most clip_s, not {self.hop_s}",
        )
        _require(self.window == "hann", f"window must be 'hann', not {self.window!r}")
        _require(
            self.magnitude in ("amplitude", "power"),
            f"magnitude must be 'amplitude' or 'power', not {self.magnitude!r}",
        )
        _require(
            self.layout in ("bins_frames", "frames_bins"),
            f"layout must be 'bins_frames' or 'frames_bins', not {self.layout!r}",
        )
        if self.log_floor is not None:
            _require(
                _is_real(self.log_floor) and MIN_LOG_FLOOR <= self.log_floor <= MAX_LOG_FLOOR,
                f"log_floor must be {MIN_LOG_FLOOR:g} to {MAX_LOG_FLOOR:g} or null, not {self.log_floor!r}",
            )
        if self.mel is not None:
            self._check_mel(self.mel)

    def _check_mel(self, mel: MelSpec) -> None:
        _require(
            _is_int(mel.bands) and 1 <= mel.bands <= MAX_BANDS,
            f"mel.bands must be 1 to {MAX_BANDS}, not {mel.bands!r}",
        )
        _require(
            _is_real(mel.low_hz)
            and _is_real(mel.high_hz)
            and 0 <= mel.low_hz <= mel.high_hz - 1 <= self.sample_rate_hz / 2 - 1,
            f"mel needs 0 <= low_hz, low_hz + 1 <= high_hz <= {self.sample_rate_hz / 2}, not {mel.low_hz!r} and {mel.high_hz!r}",
        )
        _require(
            max(self.frames(self.clip_samples), self.fft_length // 2 + 1) * mel.bands <= MAX_VALUES,
            f"the mel bands of one clip, and their weights, may have at most {MAX_VALUES:,} values; use fewer bands",
        )

    @property
    def clip_samples(self) -> int:
        """The number of samples in one clip."""
        return round(self.clip_s * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        """The number of samples between the starts of two windows."""
        return round(self.hop_s * self.sample_rate_hz)

    @property
    def bins(self) -> int:
        """The number of values in one frame: mel bands, or bins of the spectrum."""
        return self.mel.bands if self.mel else self.fft_length // 2 + 1

    def frames(self, samples: int) -> int:
        """Return the number of complete frames in `samples` samples.

        `tf.signal.stft` drops an incomplete one too.
        """
        return max(0, 1 + (samples - self.frame_length) // self.frame_step)

    @property
    def feature_shape(self) -> tuple[int, int]:
        """The shape of the features of one clip, in the order of `layout`."""
        frames = self.frames(self.clip_samples)
        return (self.bins, frames) if self.layout == "bins_frames" else (frames, self.bins)

    def to_json(self) -> str:
        """Return the spec as canonical JSON: sorted keys, no spaces."""
        return canonical_json(asdict(self))

    @property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal, of the canonical JSON of the trained fields."""
        trained = asdict(self)
        del trained["hop_s"]
        return hashlib.sha256(canonical_json(trained).encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> FrontEndSpec:
        """Parse the result of `to_json`.

        The text is not trusted: raises ModelError(`bad-spec`) for anything else.
        """
        try:
            values: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError("bad-spec", f"The front-end spec is not JSON: {error}.") from None
        _require(isinstance(values, dict), "it must be a JSON object")
        expected = {field.name for field in fields(cls)}
        _require(values.keys() == expected, f"its fields must be {sorted(expected)}, not {sorted(values)[:20]}")
        if values["mel"] is not None:
            mel = values["mel"]
            _require(
                isinstance(mel, dict) and mel.keys() == {"bands", "low_hz", "high_hz"},
                "mel needs bands, low_hz and high_hz",
            )
            values["mel"] = MelSpec(**mel)
        return cls(**values)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    # A large int does not fit a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ModelError("bad-spec", f"The front-end spec is not usable: {what}.")


def canonical_json(value: object) -> str:
    """Return the one JSON text of a value: keys in order, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
