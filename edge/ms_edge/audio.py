"""Files, standard input and file objects as audio. The one wall soundfile's errors stop at."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

import numpy as np
import soundfile
from numpy.typing import ArrayLike, NDArray

from ms_edge.errors import AudioError, UsageError
from ms_edge.riff import Stream, is_wav, ogg_is_cut
from ms_edge.sources import BLOCK_SAMPLES, AudioArrays, AudioSource, require_plausible

Float32 = NDArray[np.float32]

EXTENSIONS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".w64", ".rf64", ".caf", ".au")
STDIN = "-"
CAREFUL_FRAMES = 1024  # read at a time where a file is damaged

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

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Read `RATE:CHANNELS:FORMAT`, as in `16000:1:s16le`. Raises UsageError."""
        found = re.fullmatch(r"(\d{1,9}):(\d{1,9}):(\w+)", text)
        if not found or found[3] not in RAW_FORMATS:
            raise UsageError(
                "usage",
                f"Raw audio is given as RATE:CHANNELS:FORMAT, as in 16000:1:s16le, not {text[:40]!r}; formats: {', '.join(RAW_FORMATS)}.",
            )
        return cls(int(found[1]), int(found[2]), found[3])

    def __str__(self) -> str:
        return f"{self.sample_rate_hz}:{self.channels}:{self.sample_format}"


class AudioFile(AudioSource):
    """A file, standard input (`-`) or a binary file object, decoded by libsndfile.

    Standard input that is no file is read as it comes, without seeking: a WAV stream, or headerless PCM given as `raw`.
    `wav_only` refuses what is not WAV (RIFF, RF64 or Wave64) before libsndfile sees it. `block_s` is how much is waited for
    at a time; nothing of the samples depends on it.
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
        notes: list[str] = []
        if isinstance(source, str | os.PathLike):
            name = os.fspath(source)
            self._descriptor, size = _open_descriptor(name)
            opened: Any = None
        else:
            name, opened, size = str(getattr(source, "name", "audio")), source, None
        try:
            if self._descriptor is not None:
                opened = self._look(name, self._descriptor, size, raw, wav_only, notes)
            elif wav_only:
                start = opened.read(40)
                opened.seek(-len(start), os.SEEK_CUR)
                _require_wav(name, start)
            self._opened, self._raw = opened, raw
            self._sound = _open_sound(name, opened, raw, self._stream)
        except BaseException as error:
            if self._descriptor is not None:
                os.close(self._descriptor)
            if isinstance(error, OSError):
                raise _unreadable(name, error) from None
            raise
        if self._stream:
            self._stream.opening = False
            # soundfile seeks to where it is after every read, and codings in blocks then read their block once more.
            self._sound.seekable = lambda: False
        try:
            super().__init__(name, self._sound.samplerate, self._sound.channels)
            if self._sound.frames == 0:
                raise AudioError("no-samples", f"{name}: its header says that it holds no samples.")
        except AudioError:
            self.close()
            raise
        self.warnings += notes
        most = BLOCK_SAMPLES // self.channels
        self._block_frames = most if block_s is None else min(most, max(1, round(block_s * self.sample_rate_hz)))

    def _look(
        self, name: str, descriptor: int, size: int | None, raw: RawFormat | None, wav_only: bool, notes: list[str]
    ) -> object:
        """What to hand to libsndfile of an open descriptor, after a look at its header."""
        if size is not None:
            self.file = file_facts(os.fstat(descriptor))
        stream = Stream(descriptor)
        header, start = None, b""
        if raw is None:
            header = stream.read_header(size)
            start = stream.start
            if wav_only:
                _require_wav(name, start)
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
            if size and ((header and header.cut) or (start[:4] == b"OggS" and ogg_is_cut(stream.read_at, size))):
                notes.append("truncated")
        # How long it is need not be known: of raw audio and of what a pipe wrote nothing is declared.
        self._declared = raw is None and not (header and header.open_ended)
        self._noted = size is not None and header is None
        if size is None or (header and header.open_ended):
            self._stream = stream
            return stream
        os.lseek(descriptor, 0, os.SEEK_SET)
        # Windows: libsndfile may live with another C runtime, where our descriptor means nothing.
        return descriptor if os.name == "posix" or name == STDIN else name

    def _decoded(self) -> Iterator[Float32]:
        buffer = np.empty((self._block_frames, self.channels), np.float32)
        while count := self._read(buffer):
            yield buffer[:count]
        log = self._sound.extra_info  # where libsndfile notes what it forgives
        if self._declared and (self.frames < self._sound.frames or (self._noted and "(should be" in log)):
            self._warn("truncated")
        if not self._declared and self.frames == self._sound.frames and self._raw is None:
            self._warn("truncated")  # it went on for longer than libsndfile can count
        if "libogg reports a hole" in log or "Corrupted bitstream" in log:
            self._warn("damaged")

    def _read(self, buffer: Float32) -> int:
        if self._damaged:  # up to the next multiple, so that what is left does not depend on the block size
            buffer = buffer[: CAREFUL_FRAMES - self.frames % CAREFUL_FRAMES]
        try:
            # Not SoundFile.blocks(), which hands out stale samples after a short read.
            count = len(self._sound.read(len(buffer), dtype="float32", always_2d=True, out=buffer))
        except soundfile.SoundFileError:
            self._warn("truncated")
            count = 0
            if not self._damaged and self._stream is None:
                self._damaged = True
                return self._read(buffer) if self._open_again() else 0
        if self._stream:
            if error := self._stream.error:
                raise _unreadable(self.name, error) if isinstance(error, OSError) else error
            left = self._stream.frames_left(self.frames)
            return count if left is None else min(count, left)
        return count

    def _open_again(self) -> bool:
        """Go back to where the last good block ended: what was decoded after it is lost, and so is the decoder's state."""
        self._sound.close()
        if self._descriptor is not None:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        else:
            self._opened.seek(0)
        self._sound = _open_sound(self.name, self._opened, self._raw, None)
        with contextlib.suppress(soundfile.SoundFileError):
            left = self.frames
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
    raw: RawFormat | None = None,
    wav_only: bool = False,
) -> AudioSource:
    """Open a path, `-`, a binary file object, or an array of samples at `sample_rate_hz`.

    Raises AudioError where it is not audio, UsageError where a rate is missing or given without need.
    """
    if isinstance(source, str | os.PathLike) or hasattr(source, "read"):
        if sample_rate_hz is not None:
            raise UsageError("usage", "sample_rate_hz is for arrays; a file says its own (or give raw).")
        return AudioFile(source, raw=raw, wav_only=wav_only)  # type: ignore[arg-type]
    if sample_rate_hz is None:
        raise UsageError("usage", "An array needs its sample_rate_hz.")
    return AudioArrays([source], sample_rate_hz)


def read_mono(path: str | os.PathLike[str], sample_rate_hz: int) -> Float32:
    """The whole file as mono float32 (n,) at `sample_rate_hz`. Raises AudioError, also where not one sample is left of it."""
    with AudioFile(path) as file:
        blocks = list(file.blocks(sample_rate_hz))
        if not file.frames:
            raise AudioError("no-samples", f"{file.name}: not one sample of it can be decoded.")
        return np.concatenate(blocks)


def _unreadable(name: str, error: OSError) -> AudioError:
    return AudioError("cannot-read", f"{name}: cannot be read ({(error.strerror or str(error)).lower()}).")


def file_facts(status: os.stat_result) -> dict[str, int | str]:
    """Size and time of change (UTC, in microseconds) of a file, as records hold them."""
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    modified = datetime.fromtimestamp(seconds, UTC)
    return {"bytes": status.st_size, "modified": f"{modified:%Y-%m-%dT%H:%M:%S}.{nanoseconds // 1000:06}Z"}


def _open_descriptor(path: str) -> tuple[int, int | None]:
    """A descriptor of our own, and the size of the file behind it; None for standard input that can only be read forward."""
    if path == STDIN:
        try:
            descriptor = os.dup(0)
        except OSError:
            raise AudioError("cannot-open", f"{path}: standard input is closed.") from None
    else:
        # The descriptor is looked at before anything is read: a FIFO would hang, and libsndfile calls every failure
        # "System error".
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except OSError as error:
            code = {
                errno.ENOENT: "not-found",
                errno.ENOTDIR: "not-found",
                errno.EACCES: "no-permission",
                errno.EISDIR: "is-directory",
                errno.ENXIO: "not-a-file",  # a socket
            }.get(error.errno or 0, "cannot-open")
            if os.path.isdir(path):  # Windows says "no permission" of a directory
                code = "is-directory"
            raise AudioError(code, f"{path}: {(error.strerror or 'it cannot be opened').lower()}.") from None
        except ValueError:
            raise AudioError("cannot-open", f"{path!r}: not a usable file name.") from None
    status = os.fstat(descriptor)
    problem = None
    if stat.S_ISDIR(status.st_mode):
        problem = AudioError("is-directory", f"{path}: is a directory.")
    elif not stat.S_ISREG(status.st_mode):
        if path == STDIN:
            return descriptor, None
        problem = AudioError(
            "not-a-file",
            f"{path}: is not a regular file; a pipe or device is read from standard input (ms-edge classify -).",
        )
    elif status.st_size == 0:
        problem = AudioError("empty-file", f"{path}: the file is empty (0 bytes).")
    if problem:
        os.close(descriptor)
        raise problem
    return descriptor, status.st_size


def _open_sound(name: str, opened: object, raw: RawFormat | None, stream: Stream | None) -> soundfile.SoundFile:
    options: dict[str, Any] = {}
    if raw:
        require_plausible(name, raw.sample_rate_hz, raw.channels)
        subtype, endian = RAW_FORMATS[raw.sample_format]
        options = {
            "format": "RAW",
            "samplerate": raw.sample_rate_hz,
            "channels": raw.channels,
            "subtype": subtype,
            "endian": endian,
        }
    try:
        return soundfile.SoundFile(opened, closefd=False, **options)
    except (soundfile.SoundFileError, TypeError) as error:
        if stream and stream.error:
            raise stream.error from None
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise AudioError("not-audio", f"{name}: not audio that can be read ({reason}).") from None


def _require_wav(name: str, start: bytes) -> None:
    if not is_wav(start[:40]):
        raise AudioError("not-wav", f"{name}: is not a WAV file, and --wav-only refuses the rest.")
