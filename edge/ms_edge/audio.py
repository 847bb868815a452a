"""Audio files to mono float32 blocks at the rate a front end wants. The one wall soundfile's errors stop at."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from types import TracebackType

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ms_edge.errors import AudioError

EXTENSIONS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".w64", ".rf64", ".caf", ".au")
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_CHANNELS = 64
BLOCK_SAMPLES = 1 << 17  # interleaved samples decoded at a time: bounds memory whatever the channels or duration


class AudioFile:
    """One open audio file: its format, and its samples as mono float32 blocks at `sample_rate_hz`.

    Raises AudioError where the file cannot be opened as audio. After the last block, `frames` holds the frames that
    were there (at the file's own rate) and `warnings` what a listener should know: `truncated`, `non-finite`.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate_hz: int, block_samples: int = BLOCK_SAMPLES) -> None:
        self.path = os.fspath(path)
        self.target_rate_hz = sample_rate_hz
        self.warnings: list[str] = []
        self.frames = 0
        self._descriptor = _open_regular(self.path)
        try:
            self._file = _open_sound(self.path, self._descriptor)
        except AudioError:
            os.close(self._descriptor)
            raise
        self.sample_rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        try:
            self._refuse_absurd()
        except AudioError:
            self.close()
            raise
        self._block_frames = max(1, block_samples // self.channels)

    def _refuse_absurd(self) -> None:
        if not MIN_RATE_HZ <= self.sample_rate_hz <= MAX_RATE_HZ:
            raise AudioError(
                "bad-rate",
                f"{self.path}: a sample rate of {self.sample_rate_hz:,} Hz is not audio; {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,} is read.",
            )
        if self.channels > MAX_CHANNELS:
            raise AudioError(
                "too-many-channels", f"{self.path}: {self.channels} channels; at most {MAX_CHANNELS} are read."
            )
        if self._file.frames == 0:
            raise AudioError("no-samples", f"{self.path}: its header says that it holds no samples.")

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the file once, as mono float32 blocks (n,) at the target rate; n varies and may be 0."""
        resampler = None
        if self.sample_rate_hz != self.target_rate_hz:
            resampler = soxr.ResampleStream(self.sample_rate_hz, self.target_rate_hz, 1, dtype="float32", quality="HQ")
        buffer = np.empty((self._block_frames, self.channels), np.float32)
        while count := self._read(buffer):
            self.frames += count
            # A copy even where there is one channel: the buffer is filled again while the block is still in use.
            mono = buffer[:count].mean(axis=1) if self.channels > 1 else buffer[:count, 0].copy()
            if not np.isfinite(mono).all():
                np.nan_to_num(mono, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
                self._warn("non-finite")
            yield resampler.resample_chunk(mono) if resampler else mono
        if resampler:
            yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
        # libsndfile shortens the frame count of a cut file by itself and notes it only in its log.
        if self.frames < self._file.frames or "should be" in self._file.extra_info:
            self._warn("truncated")

    def _read(self, buffer: NDArray[np.float32]) -> int:
        try:
            # Not SoundFile.blocks(), which hands out stale samples after a short read.
            return len(self._file.read(len(buffer), dtype="float32", always_2d=True, out=buffer))
        except soundfile.SoundFileError:
            self._warn("truncated")
            return 0

    def _warn(self, code: str) -> None:
        if code not in self.warnings:
            self.warnings.append(code)

    def close(self) -> None:
        """Close the file; leaving a `with` does it too."""
        self._file.close()
        os.close(self._descriptor)

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_mono(path: str | os.PathLike[str], sample_rate_hz: int) -> NDArray[np.float32]:
    """The whole file as mono float32 (n,) at `sample_rate_hz`. Raises AudioError."""
    with AudioFile(path, sample_rate_hz) as file:
        return np.concatenate(list(file.blocks()))


def _open_regular(path: str) -> int:
    # The descriptor is looked at before anything is read: a FIFO would hang, and libsndfile calls every failure
    # "System error".
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        code = {errno.ENOENT: "not-found", errno.EACCES: "no-permission", errno.EISDIR: "is-directory"}.get(
            error.errno or 0, "cannot-open"
        )
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
        problem = AudioError("not-a-file", f"{path}: is not a regular file.")
    elif status.st_size == 0:
        problem = AudioError("empty-file", f"{path}: the file is empty (0 bytes).")
    if problem:
        os.close(descriptor)
        raise problem
    return descriptor


def _open_sound(path: str, descriptor: int) -> soundfile.SoundFile:
    try:
        # Windows: libsndfile may live with another C runtime, where our descriptor means nothing.
        return soundfile.SoundFile(descriptor if os.name == "posix" else path, closefd=False)
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise AudioError("not-audio", f"{path}: not audio that can be read ({reason}).") from None
