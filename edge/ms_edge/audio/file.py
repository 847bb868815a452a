"""Files, standard input and file objects as audio. With `opening`, the one wall soundfile's errors stop at."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import IO

import numpy as np
import soundfile
from numpy.typing import ArrayLike

from ms_edge.arrays import Float32
from ms_edge.audio.containers import container_of
from ms_edge.audio.opening import (
    STDIN,
    file_facts,
    open_descriptor,
    open_sound,
    parts_of,
    raise_error_of,
    require_wav,
    size_of,
    unreadable,
)
from ms_edge.audio.parts import Part
from ms_edge.audio.raw import RawFormat
from ms_edge.audio.riff import MPEG_CODINGS
from ms_edge.audio.source import BLOCK_SAMPLES, AudioArrays, AudioSource, Samples, as_float32, require_plausible
from ms_edge.audio.streams import Section, Stream
from ms_edge.errors import AudioError, UsageError

SIXTEEN_BITS = ("PCM_16", "PCM_S8", "PCM_U8")  # libsndfile's subtypes whose samples are integers of at most 16 bits
CAREFUL_FRAMES = 1024  # read at a time where a file is damaged
UNKNOWN_FRAMES = (1 << 63) - 1  # as libsndfile counts a FLAC file whose header does not say
MOST_CUT_OFF = 8192  # samples at the beginning and end of an MP3 file that its encoder states to be its own


class AudioFile(AudioSource):
    """A file, standard input (`-`) or a binary file object, decoded by libsndfile.

    What can seek is read from its beginning, and a file of several recordings through all of them. What cannot is read as it
    comes: a WAV stream, or headerless PCM given as `raw`. `wav_only` refuses what is not WAV (RIFF, RF64 or Wave64) before
    libsndfile sees it. `block_s` is how much is waited for at a time; nothing of the samples depends on it.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | IO[bytes],
        *,
        raw: RawFormat | None = None,
        wav_only: bool = False,
        block_s: float | None = None,
    ) -> None:
        self._descriptor: int | None = None
        self._stream: Stream | None = None
        self._declared = self._noted = True
        self._damaged = False
        self._parts: list[Part] = []  # still to come
        self._part: Part | None = None
        self._before = 0  # frames of the parts that are done
        notes: list[str] = []
        if isinstance(source, str | os.PathLike):
            name = os.fsdecode(source)
            self._descriptor, size = open_descriptor(name)
        else:
            name = str(getattr(source, "name", "audio"))
        try:
            if self._descriptor is not None:
                self._source: IO[bytes] = io.FileIO(self._descriptor, closefd=False)
            else:
                # Never its fileno(): a decompressing one has that of the compressed file.
                self._source = source  # type: ignore[assignment]
                size = size_of(name, self._source)
            self._size, self._raw = size, raw
            self._opened = self._look(name, size, raw, wav_only, notes)
            self._sound = open_sound(name, self._opened, raw)
        except BaseException as error:
            if self._descriptor is not None:
                os.close(self._descriptor)
            if isinstance(error, OSError):
                raise unreadable(name, error) from None
            raise
        if self._sound.frames == UNKNOWN_FRAMES:
            self._declared = False
            notes.append("stream-header")
        try:
            super().__init__(name, self._sound.samplerate, self._sound.channels)
            if self._sound.frames == 0:
                raise AudioError("no-samples", f"{name}: its header says that it holds no samples.")
        except AudioError:
            self.close()
            raise
        self.warnings += notes
        # libsndfile takes five times as long as NumPy to make the same floats of integers of 16 bits.
        self._kind = "int16" if self._sound.subtype in SIXTEEN_BITS else "float32"
        most = BLOCK_SAMPLES // self.channels
        self._block_frames = most if block_s is None else min(most, max(1, round(block_s * self.sample_rate_hz)))

    def _look(self, name: str, size: int | None, raw: RawFormat | None, wav_only: bool, notes: list[str]) -> object:
        """What to hand to libsndfile of an open source, after a look at its header."""
        if raw:
            require_plausible(name, raw.sample_rate_hz, raw.channels)
        if self._descriptor is not None and size is not None:
            self.file = file_facts(os.fstat(self._descriptor))
        stream = Stream(self._source)
        header, start = None, b""
        if raw is None:
            header = stream.read_header(size)
            start = stream.start
            if wav_only:
                require_wav(name, start)
            if size is None and not start:
                raise AudioError("empty-file", f"{name}: the stream ended before it began.")
            if size is None and header is None:
                raise AudioError(
                    "not-audio",
                    f"{name}: the stream is not WAV; convert it (ffmpeg -i … -f wav - | ms-edge classify -) or say what it is with --raw.",
                )
            if header and header.open_ended:
                notes.append("stream-header")
            if (header and header.contradictory) or (header is None and start[:4] in (b"RIFF", b"RIFX", b"RF64")):
                notes.append("bad-header")
            if header and header.cut:
                notes.append("truncated")
        elif size is not None and size % raw.frame_bytes:
            notes.append("truncated")
        # How long it is need not be known: of raw audio and of what a pipe wrote nothing is declared.
        self._declared = raw is None and not (header and header.open_ended)
        self._noted = size is not None and header is None
        if size is None and header and header.coding in MPEG_CODINGS:
            raise AudioError(
                "not-audio",
                f"{name}: MPEG audio within WAV is not read from a stream; redirect the file (< FILE), or decode it "
                "(ffmpeg -i … -f wav - | ms-edge classify -).",
            )
        if size is not None and raw is None:
            self._parts = parts_of(name, stream.read_at, size, start, header, notes)
            if self._parts:
                self._part = self._parts.pop(0)
                if not self._part.direct:
                    return Section(self._source, self._part.stretches, self._part.length)
        if size is None or (header and header.open_ended):
            self._stream = stream
            return stream
        if self._descriptor is None:
            return Section(self._source, [(0, size)])
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        # Windows: libsndfile may live with another C runtime, where our descriptor means nothing.
        return self._descriptor if os.name == "posix" or name == STDIN else name

    def _decoded(self) -> Iterator[Samples]:
        buffer: Samples = np.empty((self._block_frames, self.channels), self._kind)
        while True:
            while count := self._read(buffer):
                self._require_possible(self.frames + count)
                yield buffer[:count]
            frames = self.frames - self._before
            log = self._sound.extra_info  # where libsndfile notes what it forgives
            if self._part and self._part.samples:
                if frames + MOST_CUT_OFF < self._part.samples:
                    self._warn("truncated")
            elif self._declared:
                if frames < self._sound.frames or (self._noted and "(should be" in log):
                    self._warn("truncated")
            elif frames == self._sound.frames and self._raw is None:
                self._warn("truncated")  # it went on for longer than libsndfile can count
            if self._raw and self._stream and self._stream.received % self._raw.frame_bytes:
                self._warn("truncated")
            if "libogg reports a hole" in log or "Corrupted bitstream" in log:
                self._warn("damaged")
            if not (self._parts and self._open_next()):
                return

    def _open_next(self) -> bool:
        """Go on with the next part. Leave out, with a warning, what is no audio or of another rate or number of channels."""
        self._sound.close()
        self._before, self._damaged = self.frames, False
        while self._parts:
            self._part = self._parts.pop(0)
            self._opened = Section(self._source, self._part.stretches, self._part.length)
            try:
                self._sound = open_sound(self.name, self._opened, None)
                if (self._sound.samplerate, self._sound.channels) == (self.sample_rate_hz, self.channels):
                    return True
            except AudioError as error:
                if error.code == "cannot-read":
                    raise
            self._warn("truncated")
            self._sound.close()
        return False

    def _require_possible(self, frames: int) -> None:
        """Raise AudioError(`too-long`) where so many samples of a channel cannot have come of as many bytes."""
        size = self._size
        if size is None and self._stream:
            size = max(self._stream.received, len(self._stream.start))
        container = container_of(self._sound.format)
        if size is not None and container and frames > container.frames_per_byte * size:
            raise AudioError(
                "too-long",
                f"{self.name}: decodes to more audio than {size:,} bytes of it can hold, so its header is wrong.",
            )

    def _read(self, buffer: Samples) -> int:
        done = self.frames - self._before
        if self._damaged:  # up to the next multiple, so that what is left does not depend on the block size
            buffer = buffer[: CAREFUL_FRAMES - done % CAREFUL_FRAMES]
        try:
            # Not SoundFile.blocks(), which hands out stale samples after a short read.
            count: int = self._sound.buffer_read_into(buffer, self._kind)
        except soundfile.SoundFileError:
            raise_error_of(self._opened, self.name)
            self._warn("truncated")
            count = 0
            if not self._damaged and self._stream is None:
                self._damaged = True
                return self._read(buffer) if self._open_again(done) else 0
        raise_error_of(self._opened, self.name)
        left = self._stream.frames_left(done) if self._stream else None
        return count if left is None else min(count, left)

    def _open_again(self, left: int) -> bool:
        """Go back to where the last good block ended: what was decoded after it is lost, and so is the decoder's state."""
        self._sound.close()
        if isinstance(self._opened, Section):
            self._opened.opening = True
            self._opened.seek(0)
        elif self._descriptor is not None:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._sound = open_sound(self.name, self._opened, self._raw)
        with contextlib.suppress(soundfile.SoundFileError):
            while left and (count := len(self._sound.read(min(left, CAREFUL_FRAMES), dtype="float32"))):
                left -= count
            return left == 0
        return False

    def close(self) -> None:
        """Close the file; leaving a `with` does it too."""
        self._sound.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_audio(
    source: str | os.PathLike[str] | IO[bytes] | ArrayLike,
    sample_rate_hz: int | None = None,
    *,
    raw: RawFormat | str | None = None,
    wav_only: bool = False,
) -> AudioSource:
    """Open a path, `-`, a binary file object, or an array of samples at `sample_rate_hz`.

    `raw` may be the text of a `RawFormat`. Raises AudioError where it is not audio, UsageError where it is nothing of these, or
    where a rate is missing or given without need.
    """
    if isinstance(raw, str):
        raw = RawFormat.parse(raw)
    elif not isinstance(raw, RawFormat | None):
        raise UsageError(f"raw must be a RawFormat or text as in '16000:1:s16le', not {raw!r}.")
    if isinstance(source, str | os.PathLike) or hasattr(source, "read"):
        if sample_rate_hz is not None:
            raise UsageError("sample_rate_hz is for arrays; a file says its own (or give raw).")
        return AudioFile(source, raw=raw, wav_only=wav_only)  # type: ignore[arg-type]
    if isinstance(source, bytes | bytearray) or not (hasattr(source, "__len__") or hasattr(source, "__array__")):
        raise UsageError(
            "A recording is a path, a binary file object (io.BytesIO makes one of bytes) or an array of samples, "
            f"not {type(source).__name__}."
        )
    samples = as_float32(source)
    if sample_rate_hz is None:
        raise UsageError("An array needs its sample_rate_hz.")
    if raw is not None:
        raise UsageError("raw is for files of headerless PCM; an array says what it holds.")
    return AudioArrays([samples], sample_rate_hz)


def read_mono(path: str | os.PathLike[str], sample_rate_hz: int) -> Float32:
    """The whole file as mono float32 (n,) at `sample_rate_hz`. Raises AudioError, also where not one sample is left of it."""
    with AudioFile(path) as file:
        blocks = list(file.blocks(sample_rate_hz))
        if not file.frames:
            raise AudioError("no-samples", f"{file.name}: not one sample of it can be decoded.")
        return np.concatenate(blocks)
