"""What headerless PCM is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ms_edge.audio.source import whole_number
from ms_edge.errors import UsageError

RAW_FORMATS = {  # ffmpeg's names: libsndfile's subtype and byte order
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
    """What headerless PCM is: its rate, its channels, and the name of its sample format in `RAW_FORMATS`."""

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
        """Bytes of one sample of every channel."""
        return self.channels * int("".join(filter(str.isdecimal, self.sample_format)) or 8) // 8

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Read `RATE:CHANNELS:FORMAT`, as in `16000:1:s16le`. Raises UsageError."""
        found = re.fullmatch(r"(\d{1,9}):(\d{1,9}):(\w+)", text)
        if not found or found[3] not in RAW_FORMATS:
            raise UsageError(
                f"Raw audio is given as RATE:CHANNELS:FORMAT, as in 16000:1:s16le, not {text[:40]!r}; formats: {', '.join(RAW_FORMATS)}."
            )
        return cls(int(found[1]), int(found[2]), found[3])

    def __str__(self) -> str:
        return f"{self.sample_rate_hz}:{self.channels}:{self.sample_format}"
