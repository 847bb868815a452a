"""What is costly to make from a recording, on disk: decoded audio by sample rate, features by front-end spec.

FOLDER/audio-RATE/SHA256.npy, FOLDER/features-SPEC-HOP-LIMIT/SHA256.npy

A file is named by the digest of the recording it was made from and of the spec it was made by, so that nothing has to be
declared stale: what has changed has another name.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.spec import FrontEndSpec
from ms_train.datasets import Recording

Float32 = NDArray[np.float32]


def default_folder() -> Path:
    """`ms-edge` in the user's cache folder (XDG_CACHE_HOME, or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ms-edge"


class Cache:
    """Arrays on disk, made when they are first asked for. With no folder everything is made anew."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._full = False

    def audio(self, recording: Recording, sample_rate_hz: int) -> Float32:
        """A recording (n,) float32 at a sample rate, read from disk as it is needed. Raises AudioError as `recording.read`."""
        return self._array(f"audio-{sample_rate_hz}", recording.sha256, lambda: recording.read(sample_rate_hz))

    def features(self, recording: Recording, spec: FrontEndSpec, limit: int, make: Callable[[], Float32]) -> Float32:
        """What `make` returns for the first `limit` clips of a recording: (clips, *spec.feature_shape) float32."""
        return self._array(f"features-{spec.digest[:16]}-{spec.hop_s:g}-{limit}", recording.sha256, make)

    def _array(self, kind: str, name: str, make: Callable[[], Float32]) -> Float32:
        if self._folder is None:
            return make()
        path = self._folder / kind / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError):  # not there, or not whole
            made = make()
        partial = path.with_name(f".{name}.{os.getpid()}.npy")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(partial, made)
            os.replace(partial, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            if not self._full:
                self._full = True
                tqdm.write(f"{self._folder}: not cached ({(error.strerror or str(error)).lower()}).", file=sys.stderr)
        return made
