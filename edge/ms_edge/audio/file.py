"""Read files, standard input and file objects as audio.

This module and `opening` translate the errors of soundfile; no other module catches them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
import soundfile
from numpy.typing import ArrayLike

from ms_edge.arrays import Float32
from ms_edge.audio.containers import codec_of, container_of
from ms_edge.audio.opening import (
    NotForLibsndfileError,
    file_facts,
    header_warnings,
    open_descriptor,
    open_sound,
    parts_of,
    raise_error_of,
    require_streamable,
    require_wav,
    size_of,
    unreadable,
)
from ms_edge.audio.parts import MOST_CUT_OFF, Part
from ms_edge.audio.raw import RawFormat
from ms_edge.audio.riff import GSM
from ms_edge.audio.source import (
    BLOCK_SAMPLES,
    AudioArrays,
    AudioSource,
    Samples,
    as_float32,
    require_plausible,
    whole_number,
)
from ms_edge.audio.streams import Section, Stream
from ms_edge.errors import AudioError, UsageError

if TYPE_CHECKING:
    from ms_edge.audio.facts.reader import Facts

DECODERS = ("auto", "libsndfile", "ffmpeg")
SIXTEEN_BITS = ("PCM_16", "PCM_S8", "PCM_U8")  # libsndfile's subtypes with integers of at most 16 bits
# libsndfile's subtypes that store samples without loss: the type that holds their numbers. G.711 (ULAW,
# ALAW) is among them because encoding a decoded sample gives the same byte.
STORED_AS = {
    **dict.fromkeys((*SIXTEEN_BITS, "ULAW", "ALAW"), "int16"),
    "PCM_24": "int32",
    "PCM_32": "int32",
    "FLOAT": "float32",
    "DOUBLE": "float64",
}
MAX_BEXT = 1 << 20  # bytes of a `bext` chunk; its coding history has no limit
CAREFUL_FRAMES = 1024  # frames read at a time from a damaged file
UNKNOWN_FRAMES = (1 << 63) - 1  # libsndfile's number of frames for a FLAC file whose header has none


class Layout(NamedTuple):
    """How a file stores its samples, and what else is in it.

    `format`, `subtype` and `endian` are libsndfile's names. `tags` are its texts (title, artist and
    others), `bext` is the body of that chunk of a WAV file, or empty.
    """

    format: str
    subtype: str
    endian: str
    tags: dict[str, str]
    bext: bytes


class AudioFile(AudioSource):
    """A file, standard input (`-`) or a binary file object, decoded by libsndfile.

    A source that can seek is read from its beginning, and all recordings in it are decoded. A
    source that cannot seek is read forward: it must be a WAV stream, or headerless PCM described by
    `raw`. `wav_only` refuses everything but WAV (RIFF, RF64 or Wave64) before libsndfile sees it.
    `block_s` is the longest audio, in seconds, to wait for at a time; the samples do not depend on
    it. Raises AudioError if the source cannot be read as audio.
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
        self._declared = True  # the header declares how many frames there are
        self._facts: Facts | None = None  # what a container states that libsndfile does not check
        self._silent: set[int] = set()  # the frames of FLAC that are silent, or missing
        self._damaged = False
        self._is_wav = False
        self._parts: list[Part] = []  # not yet decoded
        self._part: Part | None = None
        self._in_blocks: int | None = None  # frames in the blocks that the header declares
        self._before = 0  # frames of the parts that are already decoded
        self._bext = b""  # from the size of this chunk on
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
                # Not its fileno(): a decompressing object has that of the compressed file.
                self._source = source  # type: ignore[assignment]
                size = size_of(name, self._source)
            self._size, self._raw = size, raw
            self._opened = self._prepare(name, size, raw, wav_only, notes)
            self._sound = self._open(name, size, raw)
        except BaseException as error:
            if self._descriptor is not None:
                os.close(self._descriptor)
            if isinstance(error, OSError):
                raise unreadable(name, error) from None
            raise
        self._name_formats(raw)
        if self._sound.frames == UNKNOWN_FRAMES:
            self._declared = False
            notes.append("stream-header")
        try:
            super().__init__(name, self._sound.samplerate, self._sound.channels)
            if self._sound.frames == 0:
                raise AudioError("no-samples", f"{name}: according to its header, the file has no samples.")
        except AudioError:
            self.close()
            raise
        self.warnings += dict.fromkeys(notes)  # each once
        # NumPy converts 16-bit integers to the same floats as libsndfile, five times as fast.
        self._kind = "int16" if self._sound.subtype in SIXTEEN_BITS else "float32"
        self._block_frames = self._most_frames = BLOCK_SAMPLES // self.channels
        if block_s is not None:
            self._most_frames *= 2  # each read of live audio has a price
            self.expect(block_s)

    def expect(self, duration_s: float) -> None:
        """Let the next blocks be so long, if that is possible. The samples do not depend on it."""
        self._block_frames = min(self._most_frames, max(1, round(duration_s * self.sample_rate_hz)))

    def _open(self, name: str, size: int | None, raw: RawFormat | None) -> soundfile.SoundFile:
        """Open what `_prepare` has returned. Raises AudioError."""
        try:
            return open_sound(name, self._opened, raw)
        except AudioError:
            if not (isinstance(self._opened, int) and size):
                raise
        # By a descriptor, libsndfile takes a read error for another format. A Section tells them apart.
        self._opened = Section(self._source, [(0, size)])
        return open_sound(name, self._opened, raw)

    def _name_formats(self, raw: RawFormat | None) -> None:
        """Set the names of the decoder, the container and the coding."""
        self.decoder = "libsndfile"
        sound = self._sound
        form = None if raw else container_of(sound.format)
        self._frames_per_byte = form.frames_per_byte if form else None
        if form:  # libsndfile does not see that its MP3 is in a WAV file
            self.container = "wav" if self._is_wav else form.short
        self.codec = codec_of(sound.subtype, sound.format, sound.endian)

    def _prepare(self, name: str, size: int | None, raw: RawFormat | None, wav_only: bool, notes: list[str]) -> object:
        """Inspect the header of an open source, and return what to give to libsndfile.

        `size` is in bytes; None for a source that can only be read forward. Adds to the warnings in
        `notes`.
        """
        if self._descriptor is not None and size is not None:
            self.file = file_facts(os.fstat(self._descriptor))
        stream = Stream(self._source)
        if raw:
            require_plausible(name, raw.sample_rate_hz, raw.channels)
            if size is not None and size % raw.frame_bytes:
                notes.append("truncated")
            self._declared = False
            return self._as_one(stream, size)
        header = stream.read_header(size)
        self._is_wav = header is not None
        if wav_only:
            require_wav(name, stream.start)
        if size is None:
            require_streamable(name, stream.start, header)
        notes += header_warnings(stream.start, header)
        if header and header.bext:
            from ms_edge.audio.facts.times import BEXT_BYTES, of_bext  # imported here because few files have it

            chunk = stream.start[header.bext :][:BEXT_BYTES] or stream.read_at(header.bext, BEXT_BYTES)
            self.recorded_at = of_bext(chunk, header.sample_rate_hz)
            at = header.bext - 4
            self._bext = stream.start[at:] or (b"" if size is None else stream.read_at(at, MAX_BEXT))
        open_ended = header is not None and header.open_ended
        self._declared = not open_ended
        if size is not None and header and header.block and header.coding == GSM and not (open_ended or header.cut):
            blocks, rest = divmod(header.data_bytes, header.block[0])
            # libsndfile decodes the padding of an odd number of blocks as one more block.
            self._in_blocks = None if rest else blocks * header.block[1]
        if size is not None:
            self._parts = parts_of(name, stream.read_at, size, stream.start, header, notes)
            if self._parts:
                self._part = self._parts.pop(0)
                if not self._part.direct:
                    return Section(self._source, self._part.stretches, self._part.length)
            elif header is None:
                from ms_edge.audio.facts.dispatch import facts_of  # imported here because WAV does not need it

                self._facts = facts_of(stream.read_at, size)
                self.recorded_at = self._facts.recorded_at
                notes += self._facts.warnings()
        return self._as_one(stream, None if open_ended else size)

    def _as_one(self, stream: Stream, size: int | None) -> object:
        """Return the whole source for libsndfile, as one recording.

        That is the forward-only `stream` if `size`, in bytes, is None: the size of the samples is
        unknown.
        """
        if size is None:
            self._stream = stream
            return stream
        if self._descriptor is not None and stream.start[:4] == b"fLaC":
            # libFLAC reads 8 kB at a time, which costs 3 % less by descriptor, and tells of read errors.
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            return self._descriptor
        # Not the descriptor: libsndfile takes some read errors for the end of the file.
        return Section(self._source, [(0, size)])

    def layout(self) -> Layout | None:
        """Return how the samples are stored; None if they are not stored without loss."""
        sound = self._sound
        if sound.subtype not in STORED_AS or sound.format == "OGG":
            return None
        end = 4 + int.from_bytes(self._bext[:4], "little")
        return Layout(sound.format, sound.subtype, sound.endian, sound.copy_metadata(), self._bext[4:end])

    def numbers(self) -> Iterator[Samples]:
        """Yield the source once, as blocks (n, channels) of the numbers that the file stores.

        They are int16, int32 (the most significant bits, if the file has fewer), float32 or float64.
        The next block may overwrite the one before. Only for files that have a `layout`.
        """
        self._kind = STORED_AS[self._sound.subtype]
        for block in self._decoded():
            self.frames += len(block)
            yield block

    def _decoded(self) -> Iterator[Samples]:
        buffer: Samples = np.empty((self._most_frames, self.channels), self._kind)
        while True:
            while count := self._read(buffer[: self._block_frames]):
                self._require_possible(self.frames + count)
                self._note_silence(buffer[:count])
                yield buffer[:count]
            frames = self.frames - self._before
            log = self._sound.extra_info  # libsndfile logs here the errors that it ignores
            if self._part and self._part.samples:
                if frames + MOST_CUT_OFF < self._part.samples:
                    self._warn("truncated")
            elif self._declared:
                if frames < (self._in_blocks or self._sound.frames):
                    self._warn("truncated")
            elif frames == self._sound.frames and self._raw is None:
                self._warn("truncated")  # the stream is longer than libsndfile can count
            if self._facts and (self._facts.cut or self._facts.more_than(frames, self.sample_rate_hz)):
                self._warn("truncated")
            if self._raw and self._stream and self._stream.received % self._raw.frame_bytes:
                self._warn("truncated")
            if "libogg reports a hole" in log or "Corrupted bitstream" in log or self._lacks_frames():
                self._warn("damaged")
            if not (self._parts and self._open_next()):
                return

    def _note_silence(self, block: Samples) -> None:
        """Note the frames of FLAC that are silent in the block (n, channels) that follows `frames`."""
        if self._facts and self._facts.frame_samples:
            from ms_edge.audio.facts.flac import silent_frames  # `_prepare` has imported it

            self._silent.update(silent_frames(block, self.frames, self._facts.frame_samples))

    def _lacks_frames(self) -> bool:
        """Return whether a silent frame of FLAC is not in the file: libFLAC puts silence in its place."""
        if not (self._silent and self._size):
            return False
        from ms_edge.audio.facts.flac import any_missing

        return any_missing(Stream(self._source).read_at, self._size, self._silent)

    def _open_next(self) -> bool:
        """Open the next part and return True; False if there is none.

        A part that is not audio, or has another rate or number of channels, is skipped with a
        warning.
        """
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
        """Raise AudioError(`too-long`) if the source has too few bytes for so many frames."""
        size = self._size
        if size is None and self._stream:
            size = max(self._stream.received, len(self._stream.start))
        if size is not None and self._frames_per_byte and frames > self._frames_per_byte * size:
            raise AudioError(
                "too-long",
                f"{self.name}: decodes to more audio than its {size:,} bytes can hold, so its header is wrong.",
            )

    def _read(self, buffer: Samples) -> int:
        """Decode the next frames into `buffer` (frames, channels).

        Return how many; 0 at the end.
        """
        done = self.frames - self._before
        if self._damaged:  # read to the next multiple, so that the result does not depend on the block size
            buffer = buffer[: CAREFUL_FRAMES - done % CAREFUL_FRAMES]
        try:
            # Not SoundFile.blocks(), which returns stale samples after a short read.
            count: int = self._sound.buffer_read_into(buffer, self._kind)
        except soundfile.SoundFileError as error:
            raise_error_of(self._opened, self.name, error)
            self._warn("truncated")
            count = 0
            if not self._damaged and self._stream is None:
                self._damaged = True
                return self._read(buffer) if self._open_again(done) else 0
        raise_error_of(self._opened, self.name)
        left = self._stream.frames_left(done) if self._stream else None
        if self._in_blocks is not None:
            left = max(0, self._in_blocks - done)
        return count if left is None else min(count, left)

    def _open_again(self, left: int) -> bool:
        """Open the source again and skip `left` frames, the ones before an error.

        Return whether that worked. Raises AudioError for a read error. The error before has lost the
        frames that were decoded after the last good block, and the state of the decoder.
        """
        self._sound.close()
        if isinstance(self._opened, Section):
            self._opened.opening = True
            self._opened.seek(0)
        elif isinstance(self._opened, int):
            os.lseek(self._opened, 0, os.SEEK_SET)
        self._sound = self._open(self.name, self._size, self._raw)
        try:
            while left and (count := len(self._sound.read(min(left, CAREFUL_FRAMES), dtype="float32"))):
                left -= count
        except soundfile.SoundFileError as error:
            raise_error_of(self._opened, self.name, error)
            return False
        raise_error_of(self._opened, self.name)
        return left == 0

    def close(self) -> None:
        """Close the file. The end of a `with` block does this too."""
        self._sound.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def usable_decoder(decoder: str) -> str:
    """Return the name of a decoder.

    Raises UsageError if there is none of this name, and DeviceError if it is not installed.
    """
    if decoder not in DECODERS:
        raise UsageError(f"The decoder must be {', '.join(DECODERS[:-1])} or {DECODERS[-1]}, not {decoder!r}.")
    if decoder == "ffmpeg":
        from ms_edge.audio.media import require_ffmpeg

        require_ffmpeg()
    return decoder


def valid_track(track: object) -> int:
    """Return the number of an audio track. Raises UsageError unless it is 1 or more."""
    if (number := whole_number("track", track)) < 1:
        raise UsageError(f"Audio tracks are counted from 1, so track must be 1 or more, not {number}.")
    return number


def open_file(
    source: str | os.PathLike[str] | IO[bytes],
    *,
    raw: RawFormat | None = None,
    wav_only: bool = False,
    block_s: float | None = None,
    decoder: str = "auto",
    track: int = 1,
) -> AudioSource:
    """Open a file, standard input (`-`) or a binary file object, with libsndfile or FFmpeg.

    `decoder` is `libsndfile`, `ffmpeg`, or `auto`: libsndfile, and FFmpeg for what libsndfile does
    not read. `track` is the audio track, from 1. The other arguments are those of `AudioFile`.
    Raises AudioError if the source cannot be read as audio, and UsageError for FFmpeg together with
    `raw` or `wav_only`.
    """
    refused = None
    if decoder == "ffmpeg" and (raw or wav_only):
        raise UsageError("raw and wav_only are for libsndfile, so they cannot be used with the decoder ffmpeg.")
    if decoder != "ffmpeg":
        try:
            file = AudioFile(source, raw=raw, wav_only=wav_only, block_s=block_s)
        except NotForLibsndfileError as error:
            if decoder == "libsndfile" or raw or wav_only:
                raise
            refused = error
        else:
            if track > 1:
                file.close()
                raise AudioError("no-track", f"{file.name}: has one audio track, and track {track} was asked for.")
            return file
    from ms_edge.audio.media import MediaFile  # imported here because most files do not need it

    return MediaFile(source, track=track, refused=refused)


def open_audio(
    source: str | os.PathLike[str] | IO[bytes] | ArrayLike,
    sample_rate_hz: int | None = None,
    *,
    raw: RawFormat | str | None = None,
    wav_only: bool = False,
    decoder: str = "auto",
    track: int = 1,
) -> AudioSource:
    """Open a path, `-` (standard input), a binary file object, or an array of samples.

    `sample_rate_hz` is required for an array and not allowed otherwise. `raw` describes headerless
    PCM: a `RawFormat`, or text that `RawFormat.parse` accepts. `wav_only` refuses every format but
    WAV. `decoder` and `track` are those of `open_file`. Raises AudioError if the source is not
    audio, and UsageError for another kind of source or arguments that do not fit it.
    """
    if isinstance(raw, str):
        raw = RawFormat.parse(raw)
    elif not isinstance(raw, RawFormat | None):
        raise UsageError(f"raw must be a RawFormat or text such as '16000:1:s16le', not {raw!r}.")
    if isinstance(source, str | os.PathLike) or hasattr(source, "read"):
        if sample_rate_hz is not None:
            raise UsageError(
                "sample_rate_hz is only for arrays: a file states its own rate, and raw states that of headerless PCM."
            )
        return open_file(source, raw=raw, wav_only=wav_only, decoder=decoder, track=track)  # type: ignore[arg-type]
    if isinstance(source, bytes | bytearray) or not (hasattr(source, "__len__") or hasattr(source, "__array__")):
        raise UsageError(
            "A recording must be a path, a binary file object (for bytes, use io.BytesIO) or an array of samples, "
            f"not {type(source).__name__}."
        )
    samples = as_float32(source)
    if sample_rate_hz is None:
        raise UsageError("An array of samples needs sample_rate_hz.")
    if raw is not None:
        raise UsageError("raw is only for files of headerless PCM, not for arrays.")
    return AudioArrays([samples], sample_rate_hz)


def read_mono(path: str | os.PathLike[str], sample_rate_hz: int) -> Float32:
    """Return a whole file as mono samples (n,) float32 at `sample_rate_hz`. Raises AudioError."""
    with open_file(path) as file:
        blocks = list(file.blocks(sample_rate_hz))
        if not file.frames:
            raise AudioError("no-samples", f"{file.name}: not a single sample can be decoded.")
        return np.concatenate(blocks)
