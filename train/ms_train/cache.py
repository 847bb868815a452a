"""What is costly to make from a recording, on disk: decoded audio and where it sounds by sample rate, features by
front-end spec.

FOLDER/audio-RATE/SHA256.npy, FOLDER/activity-RATE/SHA256.npy, FOLDER/features-SPEC-HOP-LIMIT/SHA256.npy

A file is named by the digest of the recording it was made from and of the spec it was made by, so that nothing has to be
declared stale: what has changed has another name.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.spec import FrontEndSpec
from ms_train.augment.activity import activity
from ms_train.augment.signals import Audio, Float32
from ms_train.datasets import Recording

FULL_SCALE = np.float32(1 << 15)


def default_folder() -> Path:
    """`ms-edge` in the user's cache folder (XDG_CACHE_HOME, or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ms-edge"


class Cache:
    """Arrays on disk, made when they are first asked for. With no folder everything is made anew."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._full = False

    def audio(self, recording: Recording, sample_rate_hz: int) -> Float32 | KeptAudio:
        """A recording (n,) float32 at a sample rate, read from disk as it is needed. Raises AudioError as `recording.read`.

        Samples of 16 bits are kept as such.
        """
        if self.folder is not None:
            with contextlib.suppress(OSError, ValueError, EOFError):
                return KeptAudio(self._path(f"audio-{sample_rate_hz}", recording.sha256))
        samples = recording.read(sample_rate_hz)
        whole = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        exact = np.array_equal(whole.astype(np.float32) / FULL_SCALE, samples)
        if path := self._keep(f"audio-{sample_rate_hz}", recording.sha256, whole if exact else samples):
            return KeptAudio(path)
        return samples

    def activity(self, recording: Recording, audio: Audio, sample_rate_hz: int) -> NDArray[np.bool_]:
        """Where a recording is active (`ms_train.augment.activity`), its samples being `audio`."""
        made = self._array(
            f"activity-{sample_rate_hz}",
            recording.sha256,
            lambda: np.packbits(np.append(activity(audio[:], sample_rate_hz), True)),  # the last tells the length
        )
        bits = np.unpackbits(np.asarray(made))
        return bits[: int(np.flatnonzero(bits)[-1])].astype(bool)

    def features(self, recording: Recording, spec: FrontEndSpec, limit: int, make: Callable[[], Float32]) -> Float32:
        """What `make` returns for the first `limit` clips of a recording: (clips, *spec.feature_shape) float32."""
        return self._array(f"features-{spec.digest[:16]}-{spec.hop_s:g}-{limit}", recording.sha256, make)

    def _array(self, kind: str, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        if self.folder is None:
            return make()
        try:
            return np.load(self._path(kind, name))
        except (OSError, ValueError, EOFError):  # not there, or not whole
            made = make()
        self._keep(kind, name, made)
        return made

    def _path(self, kind: str, name: str) -> Path:
        return Path(self.folder or "") / kind / f"{name}.npy"

    def _keep(self, kind: str, name: str, made: NDArray[Any]) -> Path | None:
        """Where an array was written, or None where it cannot be."""
        if self.folder is None:
            return None
        path = self._path(kind, name)
        partial = path.with_name(f".{name}.{os.getpid()}.npy")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(partial, made)
            os.replace(partial, path)
            return path
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            if not self._full:
                self._full = True
                tqdm.write(f"{self.folder}: not cached ({(error.strerror or str(error)).lower()}).", file=sys.stderr)
        return None


class KeptAudio:
    """Samples (n,) float32 on disk: a slice is read when it is asked for.

    Not a memory map, which holds a file open: recordings are more than files a process may open. Raises OSError or ValueError
    where the file is not whole.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"{path}: .npy of version {version}")
            (self._count,), _, self._dtype = np.lib.format.read_array_header_1_0(file)
            self._path, self._offset = path, file.tell()
            if os.fstat(file.fileno()).st_size != self._offset + self._count * self._dtype.itemsize:
                raise ValueError(f"{path}: is cut off")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice, /) -> Float32:
        start, end, step = part.indices(self._count)
        assert step == 1
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._offset + start * self._dtype.itemsize)
            samples = np.fromfile(file, self._dtype, max(0, end - start))
        return samples if self._dtype == np.float32 else samples.astype(np.float32) / FULL_SCALE

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)
