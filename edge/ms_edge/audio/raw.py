"""The format of headerless PCM."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ms_edge.audio.source import whole_number
from ms_edge.errors import UsageError

RAW_FORMATS = {  # FFmpeg's name of a sample format: libsndfile's subtype and byte order
    "u8": ("PCM_U8", "FILE"),
    "s8": ("PCM_S8", "FILE"),
    "alaw": ("ALAW", "FILE"),
    "mulaw": ("ULAW", "FILE"),
    **{
        f"{name}{order}": (subtype, endian)
        for name, subtype in {
            "s16": "PCM_16",
            "s24": "PCM_24",
            "s32": "PCM_32",
            "f32": "FLOAT",
            "f64": "DOUBLE",
        }.items()
        for order, endian in {"le": "LITTLE", "be": "BIG"}.items()
    },
}


@dataclass(frozen=True)
class RawFormat:
    """The sample rate, the number of channels and the sample format of headerless PCM.

    `sample_format` is a key of `RAW_FORMATS`, for example `s16le`. Raises UsageError for another
    name or a rate or number that is not whole.
    """

    sample_rate_hz: int
    channels: int
    sample_format: str

    def __post_init__(self) -> None:
        for field in ("sample_rate_hz", "channels"):
            object.__setattr__(self, field, whole_number(field, getattr(self, field)))
        if self.sample_format not in RAW_FORMATS:
            raise UsageError(f"sample_format must be one of {', '.join(RAW_FORMATS)}, not {self.sample_format!r}.")

    @property
    def frame_bytes(self) -> int:
        """The size in bytes of one sample of all channels."""
        return self.channels * int("".join(filter(str.isdecimal, self.sample_format)) or 8) // 8

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Parse `RATE:CHANNELS:FORMAT`, for example `16000:1:s16le`. Raises UsageError."""
        found = re.fullmatch(r"(\d{1,9}):(\d{1,9}):(\w+)", text)
        if not found or found[3] not in RAW_FORMATS:
            raise UsageError(
                f"Raw audio must be RATE:CHANNELS:FORMAT, such as 16000:1:s16le, not {text[:40]!r}; formats: {', '.join(RAW_FORMATS)}."
            )
        return cls(int(found[1]), int(found[2]), found[3])

    def __str__(self) -> str:
        return f"{self.sample_rate_hz}:{self.channels}:{self.sample_format}"
