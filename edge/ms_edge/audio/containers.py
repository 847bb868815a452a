"""The supported file formats. Any other format that libsndfile would open is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ms_edge.audio.riff import is_wav


@dataclass(frozen=True)
class Container:
    """A file format: its name for users, its names in libsndfile, and its file name extensions.

    `frames_per_byte` is an upper limit for the samples per channel that one byte of a file can
    hold. libsndfile decodes without end for some codings if the header declares a wrong size.
    """

    name: str
    known_as: tuple[str, ...]
    extensions: tuple[str, ...]
    frames_per_byte: int


CONTAINERS = (
    # The densest coding, GSM 6.10, has 320 samples in 65 bytes. MP3 in WAV counts as MP3.
    Container("WAV (also RF64 and Wave64)", ("WAV", "WAVEX", "RF64", "W64"), (".wav", ".rf64", ".w64"), 8),
    # Digital silence has 65,535 samples in a frame of 12 bytes.
    Container("FLAC", ("FLAC",), (".flac",), 8192),
    # Vorbis has at most 4,096 samples in 2 bytes, Opus 5,760 samples in 3 bytes.
    Container("Ogg (Vorbis or Opus)", ("OGG",), (".ogg", ".oga", ".opus"), 8192),
    # MP3 has 576 samples in 24 bytes at 8 kbit/s and 24 kHz, and 1,152 in 40 in free format.
    Container("MP3 and MP2", ("MP3",), (".mp3", ".mp2"), 64),
    # Silence in DWVW has one sample per bit.
    Container("AIFF", ("AIFF",), (".aiff", ".aif", ".aifc"), 16),
    # Silence in ALAC has 4,096 samples in 20 bytes.
    Container("CAF", ("CAF",), (".caf",), 8192),
    # G.723 at 24 kbit/s has 8 samples in 3 bytes.
    Container("AU", ("AU",), (".au",), 8),
)
EXTENSIONS = tuple(extension for container in CONTAINERS for extension in container.extensions)
READ = ", ".join(container.name for container in CONTAINERS[:-1]) + f" and {CONTAINERS[-1].name}"

OTHERS = {  # the first bytes of formats that are not supported, most of which libsndfile would open
    "NIST SPHERE": rb"NIST",
    "Creative Voice (VOC)": rb"Creative",
    "IRCAM": rb"\x64\xa3[\x00-\x07]\x00|\x00[\x00-\x07]\xa3\x64",
    "AVR": rb"2BIT",
    "PAF": rb" paf|fap ",
    "PVF": rb"PVF1",
    "MATLAB": rb"MATLAB 5|\x00\x00\x03\xe8\x00\x00\x00\x01|\x00\x00\x00\x00\x01\x00\x00\x00",
    "FastTracker (XI)": rb"Extended Ins",
    "Psion (WVE)": rb"ALawSoundFil",
    "MIDI Sample Dump (SDS)": rb"\xf0\x7e[\x00-\x7f]\x01",
    "Akai MPC": rb"\x01\x04",
    "Amiga (8SVX)": rb"FORM....(8SVX|16SV)",
    "REX2": rb"CAT ....REX2",
    "AVI": rb"RIFF....AVI ",
    "MP4 (M4A)": rb"....ftyp",
    "Windows Media (WMA)": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "Matroska (WebM)": rb"\x1a\x45\xdf\xa3",
    "AAC": rb"\xff[\xf0\xf1\xf8\xf9]",
    "AMR": rb"#!AMR",
    "Monkey's Audio": rb"MAC ",
    "WavPack": rb"wvpk",
    "HTK": rb"........\x00\x02\x00\x00",
}


def begins_as_read(start: bytes) -> bool:
    """Return whether a file that begins with these 40 bytes has a supported format.

    MP3 and MP2 are not recognised.
    """
    return (
        is_wav(start)
        or start[:4] in (b"fLaC", b"OggS", b"caff", b".snd", b"dns.")
        or (start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"))
    )


def container_of(known_as: str) -> Container | None:
    """Return the format with this name in libsndfile, or None if it is not supported."""
    return next((container for container in CONTAINERS if known_as in container.known_as), None)


def name_of(start: bytes) -> str | None:
    """Return the name of an unsupported format from the first 12 bytes; None if unknown."""
    return next((name for name, pattern in OTHERS.items() if re.match(pattern, start, re.DOTALL)), None)
