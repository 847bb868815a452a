"""A cache on disk of decoded audio and its activity, by sample rate, and of features, by front-end
spec.

FOLDER/KIND/NAME.pack

A pack holds the arrays of many recordings (`ms_train.datasets.packs`), so that a process needs one
open file for 128 MiB or more, not one for each recording. Packs are written atomically, so an
interrupted build continues with the recordings that are in no pack yet. KIND names everything that
decides the content of an array, except the recording, whose digest is in the pack, with the version
of FFmpeg if FFmpeg reads it. Changed content therefore has another name, and no entry becomes
invalid.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.arrays import Float32
from ms_edge.audio import media
from ms_edge.audio.containers import MEDIA, named
from ms_edge.errors import reason
from ms_edge.features.spec import FrontEndSpec
from ms_train.datasets import activity
from ms_train.datasets.dataset import Recording
from ms_train.datasets.packs import Packed, PackedAudio, in_16_bits, read_pack, write_pack
from ms_train.signals import Audio

Make = Callable[[Recording], NDArray[Any] | None]  # returns None to leave the recording out

READING = 2  # version of the code that reads recordings: raise it when the same file gives other samples
DECODED_BY = f"{READING}-sndfile-{soundfile.__libsndfile_version__}-soxr-{soxr.__libsoxr_version__}"
PACK_BYTES = 256 << 20


def _key(recording: Recording) -> str:
    """Return the name of the arrays of a recording: its digest, and what decodes it if FFmpeg does.

    The name of the file tells that. FFmpeg also reads some codings in WAV and Ogg: their arrays are
    not renewed with it.
    """
    return f"{recording.sha256}-{_ffmpeg()}" if named(recording.name, MEDIA) else recording.sha256


@functools.cache
def _ffmpeg() -> str:
    """Return the version of FFmpeg that `media` uses."""
    if media.pyav():
        return f"pyav-{version('av')}"
    if not (program := media.ffmpeg()):
        return "none"
    run = subprocess.run([program, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return f"ffmpeg-{(run.stdout.split() + ['?'] * 3)[2]}"


def default_folder() -> Path:
    """Return `ms-edge` in the user's cache folder (XDG_CACHE_HOME, or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ms-edge"


class Cache:
    """Arrays on disk, made at their first use.

    Without a folder, nothing is stored, and arrays are made at every use.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._stored: dict[str, dict[str, Packed]] = {}  # by kind and SHA-256 of the recording
        self._full = False

    def audio(
        self, recordings: Iterable[Recording], sample_rate_hz: int, make: Make
    ) -> Iterator[tuple[Recording, Audio]]:
        """Yield recordings with their samples (n,) at a sample rate; `make` is called for
        recordings that are not stored.
        """

        def narrow(recording: Recording) -> NDArray[Any] | None:
            return None if (samples := make(recording)) is None else in_16_bits(samples)

        if self.folder is None:
            for recording, packed in self._arrays("", recordings, make):
                yield recording, packed.array
            return
        for recording, packed in self._arrays(f"audio-{sample_rate_hz}-{DECODED_BY}", recordings, narrow):
            yield recording, PackedAudio(packed)

    def activity(
        self, recordings: Iterable[tuple[Recording, Audio]], sample_rate_hz: int
    ) -> dict[str, NDArray[np.bool_]]:
        """Return the active frames (`ms_train.datasets.activity`) of recordings with samples at a
        sample rate, by name.
        """
        given = {recording.sha256: (recording, audio) for recording, audio in recordings}
        kind = f"activity-{activity.VERSION}-{sample_rate_hz}-{DECODED_BY}"

        def make(recording: Recording) -> NDArray[np.bool_]:
            return activity.activity(given[recording.sha256][1][:], sample_rate_hz)

        found = self._arrays(kind, (recording for recording, _ in given.values()), make)
        by_digest = {recording.sha256: packed.array for recording, packed in found}
        return {recording.name: by_digest[recording.sha256] for recording, _ in recordings}

    def features(
        self, recordings: Iterable[Recording], spec: FrontEndSpec, limit: int, make: Make
    ) -> Iterator[tuple[Recording, Float32]]:
        """Yield recordings with the features (clips, *spec.feature_shape) of their first `limit`
        clips, as `audio` does.
        """
        front_end = f"{spec.digest[:16]}-{spec.hop_s:g}-{limit}"
        kind = f"features-{front_end}-{DECODED_BY}-tf-{version('tensorflow')}"
        for recording, packed in self._arrays(kind, recordings, make):
            yield recording, packed.array

    def _arrays(self, kind: str, recordings: Iterable[Recording], make: Make) -> Iterator[tuple[Recording, Packed]]:
        """Yield in the order of `recordings`, after all of them are stored, because only complete
        packs can be mapped.
        """
        if self.folder is None:
            for recording in recordings:
                if (made := make(recording)) is not None:
                    yield recording, Packed(made)
            return
        stored = self._of_kind(self.folder / kind, kind)
        present: list[Recording] = []
        waiting: dict[str, NDArray[Any]] = {}
        size = 0
        try:
            for recording in recordings:
                key = _key(recording)
                if key not in stored and key not in waiting:
                    if (made := make(recording)) is None:
                        continue
                    waiting[key] = made
                    size += made.nbytes
                    if size >= PACK_BYTES:
                        self._store(self.folder / kind, kind, waiting)
                        waiting, size = {}, 0
                present.append(recording)
        finally:  # also when interrupted, so that finished arrays are not made again
            if waiting:
                self._store(self.folder / kind, kind, waiting)
        for recording in present:
            yield recording, stored[_key(recording)]

    def _of_kind(self, folder: Path, kind: str) -> dict[str, Packed]:
        if kind not in self._stored:
            self._stored[kind] = {}
            for path in sorted(folder.glob("*.pack")):
                with contextlib.suppress(OSError, ValueError):  # not a complete pack: its arrays are made again
                    self._stored[kind] |= read_pack(path)
        return self._stored[kind]

    def _store(self, folder: Path, kind: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write arrays and the arrays of small packs to one pack, and map it; if that fails, keep
        the arrays in memory.
        """
        stored = {name: Packed(array) for name, array in arrays.items()}
        try:
            if not self._full:
                folder.mkdir(parents=True, exist_ok=True)
                small = [path for path in folder.glob("*.pack") if path.stat().st_size < PACK_BYTES // 2]
                for path in small:  # each training on a few more recordings leaves one
                    with contextlib.suppress(OSError, ValueError):
                        arrays = {name: each.array for name, each in read_pack(path).items()} | dict(arrays)
                # Two processes that make the same arrays at the same time write the same file.
                name = hashlib.sha256("\n".join(sorted(arrays)).encode()).hexdigest()[:16]
                write_pack(folder / f"{name}.pack", arrays)
                for path in small:
                    if path.stem != name:
                        with contextlib.suppress(OSError):  # some systems do not remove a mapped file
                            path.unlink()
                stored = read_pack(folder / f"{name}.pack")
        except OSError as error:
            self._full = True
            tqdm.write(f"{self.folder}: not cached ({reason(error)}).", file=sys.stderr)
        self._stored[kind] |= stored
