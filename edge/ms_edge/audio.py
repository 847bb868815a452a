"""Files, standard input and file objects as audio. The one wall soundfile's errors stop at."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import IO, Any

import numpy as np
import soundfile
from numpy.typing import ArrayLike, NDArray

from ms_edge.errors import AudioError, UsageError
from ms_edge.parts import is_mp3, mp3_parts, ogg_is_cut, ogg_parts
from ms_edge.riff import is_wav
from ms_edge.sources import BLOCK_SAMPLES, AudioArrays, AudioSource, require_plausible, whole_number
from ms_edge.streams import Section, Stream

Float32 = NDArray[np.float32]

EXTENSIONS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".w64", ".rf64", ".caf", ".au")
STDIN = "-"
CAREFUL_FRAMES = 1024  # read at a time where a file is damaged
UNKNOWN_FRAMES = (1 << 63) - 1  # as libsndfile counts a FLAC file whose header does not say

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
            raise UsageError(
                "usage", f"sample_format must be one of {', '.join(RAW_FORMATS)}, not {self.sample_format!r}."
            )

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
                "usage",
                f"Raw audio is given as RATE:CHANNELS:FORMAT, as in 16000:1:s16le, not {text[:40]!r}; formats: {', '.join(RAW_FORMATS)}.",
            )
        return cls(int(found[1]), int(found[2]), found[3])

    def __str__(self) -> str:
        return f"{self.sample_rate_hz}:{self.channels}:{self.sample_format}"


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
        self._parts: list[tuple[int, int]] = []  # still to come
        self._before = 0  # frames of the parts that are done
        notes: list[str] = []
        if isinstance(source, str | os.PathLike):
            name = os.fsdecode(source)
            self._descriptor, size = _open_descriptor(name)
        else:
            name = str(getattr(source, "name", "audio"))
        try:
            if self._descriptor is not None:
                self._source: IO[bytes] = io.FileIO(self._descriptor, closefd=False)
            else:
                # Never its fileno(): a decompressing one has that of the compressed file.
                self._source = source  # type: ignore[assignment]
                size = _size(name, self._source)
            self._opened = self._look(name, size, raw, wav_only, notes)
            self._raw = raw
            self._sound = _open_sound(name, self._opened, raw)
        except BaseException as error:
            if self._descriptor is not None:
                os.close(self._descriptor)
            if isinstance(error, OSError):
                raise _unreadable(name, error) from None
            raise
        if self._stream:
            self._stream.opening = False
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
            if header and header.cut:
                notes.append("truncated")
        elif size is not None and size % raw.frame_bytes:
            notes.append("truncated")
        # How long it is need not be known: of raw audio and of what a pipe wrote nothing is declared.
        self._declared = raw is None and not (header and header.open_ended)
        self._noted = size is not None and header is None
        if size is None or (header and header.open_ended):
            self._stream = stream
            return stream
        if header is None and raw is None:
            self._parts = _parts(stream.read_at, size, start, notes)
            if len(self._parts) > 1:
                return Section(self._source, *self._parts.pop(0))
        self._parts = []
        if self._descriptor is None:
            return Section(self._source, 0, size)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        # Windows: libsndfile may live with another C runtime, where our descriptor means nothing.
        return self._descriptor if os.name == "posix" or name == STDIN else name

    def _decoded(self) -> Iterator[Float32]:
        buffer = np.empty((self._block_frames, self.channels), np.float32)
        while True:
            while count := self._read(buffer):
                yield buffer[:count]
            frames = self.frames - self._before
            log = self._sound.extra_info  # where libsndfile notes what it forgives
            if self._declared and (frames < self._sound.frames or (self._noted and "(should be" in log)):
                self._warn("truncated")
            if not self._declared and frames == self._sound.frames and self._raw is None:
                self._warn("truncated")  # it went on for longer than libsndfile can count
            if self._raw and self._stream and self._stream.received % self._raw.frame_bytes:
                self._warn("truncated")
            if "libogg reports a hole" in log or "Corrupted bitstream" in log:
                self._warn("damaged")
            if not (self._parts and self._open_next()):
                return

    def _open_next(self) -> bool:
        """Go on with the next part; false, and a warning, where it is no audio or of another rate or number of channels."""
        self._sound.close()
        self._before, self._damaged = self.frames, False
        self._opened = Section(self._source, *self._parts.pop(0))
        try:
            self._sound = _open_sound(self.name, self._opened, None)
            if (self._sound.samplerate, self._sound.channels) == (self.sample_rate_hz, self.channels):
                return True
        except AudioError as error:
            if error.code == "cannot-read":
                raise
        self._warn("truncated")
        return False

    def _read(self, buffer: Float32) -> int:
        done = self.frames - self._before
        if self._damaged:  # up to the next multiple, so that what is left does not depend on the block size
            buffer = buffer[: CAREFUL_FRAMES - done % CAREFUL_FRAMES]
        try:
            # Not SoundFile.blocks(), which hands out stale samples after a short read.
            count = len(self._sound.read(len(buffer), dtype="float32", always_2d=True, out=buffer))
        except soundfile.SoundFileError:
            _raise_error_of(self._opened, self.name)
            self._warn("truncated")
            count = 0
            if not self._damaged and self._stream is None:
                self._damaged = True
                return self._read(buffer) if self._open_again(done) else 0
        _raise_error_of(self._opened, self.name)
        left = self._stream.frames_left(done) if self._stream else None
        return count if left is None else min(count, left)

    def _open_again(self, left: int) -> bool:
        """Go back to where the last good block ended: what was decoded after it is lost, and so is the decoder's state."""
        self._sound.close()
        if isinstance(self._opened, Section):
            self._opened.seek(0)
        elif self._descriptor is not None:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._sound = _open_sound(self.name, self._opened, self._raw)
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

    `raw` may be the text of a `RawFormat`. Raises AudioError where it is not audio, UsageError where a rate is missing or given
    without need.
    """
    if isinstance(raw, str):
        raw = RawFormat.parse(raw)
    elif not isinstance(raw, RawFormat | None):
        raise UsageError("usage", f"raw must be a RawFormat or text as in '16000:1:s16le', not {raw!r}.")
    if isinstance(source, str | os.PathLike) or hasattr(source, "read"):
        if sample_rate_hz is not None:
            raise UsageError("usage", "sample_rate_hz is for arrays; a file says its own (or give raw).")
        return AudioFile(source, raw=raw, wav_only=wav_only)  # type: ignore[arg-type]
    if sample_rate_hz is None:
        raise UsageError("usage", "An array needs its sample_rate_hz.")
    if raw is not None:
        raise UsageError("usage", "raw is for files of headerless PCM; an array says what it holds.")
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


def _size(name: str, source: IO[bytes]) -> int | None:
    """Bytes in a file object; None where it can only be read forward. Raises UsageError where it gives no bytes."""
    try:
        usable = isinstance(source.read(0), bytes)
    except (OSError, ValueError):  # of another mode, or closed
        usable = False
    if not usable:
        raise UsageError("usage", f"{name}: a file object must be open for reading, in binary mode ('rb').")
    try:
        source.seek(0, os.SEEK_END)
        size = source.tell()
    except (OSError, ValueError, AttributeError):
        return None
    if size == 0:
        raise AudioError("empty-file", f"{name}: the file is empty (0 bytes).")
    return size


def _parts(read_at: Callable[[int, int], bytes], size: int, start: bytes, notes: list[str]) -> list[tuple[int, int]]:
    """(start, end) of each recording in a file of several; one that is the whole file in others."""
    starts = [0]
    if start[:4] == b"OggS":
        starts = ogg_parts(read_at)
        if any(ogg_is_cut(read_at, end) for end in (*starts[1:], size)):
            notes.append("truncated")
    elif is_mp3(read_at):
        starts, more = mp3_parts(read_at, size)
        if more:
            notes.append("bad-header")
    return list(pairwise([*starts, size]))


def _raise_error_of(opened: object, name: str) -> None:
    """What went wrong while libsndfile read from us, which it does not tell."""
    if error := getattr(opened, "error", None):
        raise _unreadable(name, error) if isinstance(error, OSError) else error


def _open_sound(name: str, opened: object, raw: RawFormat | None) -> soundfile.SoundFile:
    options: dict[str, Any] = {}
    if raw:
        subtype, endian = RAW_FORMATS[raw.sample_format]
        options = {
            "format": "RAW",
            "samplerate": raw.sample_rate_hz,
            "channels": raw.channels,
            "subtype": subtype,
            "endian": endian,
        }
    try:
        sound = soundfile.SoundFile(opened, closefd=False, **options)
    except (soundfile.SoundFileError, TypeError) as error:
        _raise_error_of(opened, name)
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise AudioError("not-audio", f"{name}: not audio that can be read ({reason}).") from None
    # Or soundfile seeks to where it is after every read. MP3 then goes on without what it keeps of the frames before, codings in
    # blocks read their block once more, and FLAC of unknown length fails at its end.
    sound.seekable = lambda: False
    return sound


def _require_wav(name: str, start: bytes) -> None:
    if not is_wav(start[:40]):
        raise AudioError("not-wav", f"{name}: is not a WAV file, and --wav-only refuses the rest.")
