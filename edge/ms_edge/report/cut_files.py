"""The new files of `ms-edge cut`: which format they have, and how they are written."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import soundfile

from ms_edge.audio.file import AudioFile, Layout
from ms_edge.audio.source import AudioSource, Samples
from ms_edge.report.cut_tags import append_bext

SUFFIXES = {  # of the files of libsndfile's formats, the one for new names first
    "WAV": (".wav", ".wave", ".bwf"),
    "WAVEX": (".wav", ".wave", ".bwf"),
    "RF64": (".wav", ".rf64", ".wave", ".bwf"),
    "W64": (".w64",),
    "AIFF": (".aiff", ".aif", ".aifc"),
    "AU": (".au", ".snd"),
    "CAF": (".caf",),
    "FLAC": (".flac",),
}
SMALL = ("WAV", "WAVEX", "AIFF", "AU")  # formats that state sizes with 32 bits
LARGE_BYTES = 4_000_000_000
SAMPLE_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}  # of other subtypes 1
FLAC_CHANNELS = 8
# Codings whose decoded samples have more than 16 bits, by the beginning of FFmpeg's names.
LOSSLESS = ("alac", "ape", "dsd", "flac", "mlp", "pcm_", "shorten", "tak", "truehd", "tta", "wavpack", "wmalossless")


@dataclass(frozen=True)
class Stored:
    """How pieces are written: libsndfile's format, subtype and byte order, and the texts in them.

    `layout` is that of the recording if its samples are copied as they are, else None.
    """

    format: str
    subtype: str
    endian: str
    layout: Layout | None
    sample_rate_hz: int
    channels: int

    @classmethod
    def of(cls, audio: AudioSource, longest_s: float) -> Stored:
        """Choose the form of a recording itself if it stores samples without loss, and FLAC otherwise.

        `longest_s` is the duration of the longest file that will be written.
        """
        rate, channels = audio.sample_rate_hz, audio.channels
        layout = audio.layout() if isinstance(audio, AudioFile) else None
        if layout:
            form, subtype, endian = layout.format, layout.subtype, layout.endian
            if form == "RAW":
                form, subtype, endian = "WAV", {"PCM_S8": "PCM_U8"}.get(subtype, subtype), "FILE"
        else:
            lossless = (audio.codec or "").startswith(LOSSLESS)
            form, subtype, endian = "FLAC", "PCM_24" if lossless else "PCM_16", "FILE"
            if channels > FLAC_CHANNELS:
                form = "WAV"
        if form in SMALL and longest_s * rate * channels * SAMPLE_BYTES.get(subtype, 1) > LARGE_BYTES:
            form, endian = "RF64", "FILE"
        if not soundfile.check_format(form, subtype, endian):
            endian = "FILE"
        return cls(form, subtype, endian, layout, rate, channels)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The suffixes of files of this format."""
        return SUFFIXES[self.format]

    @property
    def name(self) -> str:
        """What became of the samples."""
        if self.layout:
            return "copied"
        return f"as {self.format} {self.subtype.removeprefix('PCM_')}"


class Sink:
    """A file of audio that is being written, in a `with` block. Raises OSError if the disk is full.

    `start_s` is where it begins in the recording.
    """

    def __init__(self, path: str, stored: Stored, start_s: float) -> None:
        self._path, self._stored, self._start_s = path, stored, start_s
        self._file = File(open(path, "xb+", buffering=0))  # noqa: SIM115
        self._sound = soundfile.SoundFile(
            self._file,
            "w",
            stored.sample_rate_hz,
            stored.channels,
            stored.subtype,
            stored.endian,
            stored.format,
        )
        for name, text in (stored.layout.tags if stored.layout else {}).items():
            with contextlib.suppress(soundfile.SoundFileError):  # the format has no such text
                setattr(self._sound, name, text)

    def write(self, block: Samples) -> None:
        """Write frames (n, channels)."""
        with self._file.errors():
            self._sound.write(block)

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        with self._file.errors():
            self._sound.close()
        self._file.source.close()
        layout = self._stored.layout
        if kind is None and layout and layout.bext and self._stored.format in ("WAV", "WAVEX"):
            append_bext(self._path, layout.bext, self._start_s, self._stored.sample_rate_hz)


class File:
    """A file for libsndfile, whose callbacks cannot raise: keep the error and write nothing more.

    The file has no buffer, so that only `write` writes.
    """

    def __init__(self, source: io.FileIO) -> None:
        self.source = source
        self.error: OSError | None = None
        self.seek, self.tell, self.readinto = source.seek, source.tell, source.readinto

    def write(self, data: bytes) -> int:
        """Write bytes. Return how many; fewer than given after an error."""
        done = 0
        try:
            while done < len(data) and not self.error:
                done += self.source.write(data[done:])
        except OSError as error:
            self.error = error
        return done

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the OSError that is behind an error of libsndfile (or of soundfile, which asserts)."""
        try:
            yield
        except (soundfile.SoundFileError, AssertionError):
            if self.error is None:
                raise
        if self.error:
            raise self.error
