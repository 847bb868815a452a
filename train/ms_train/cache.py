"""What is costly to make from a recording, on disk: decoded audio by sample rate, features by front-end spec.

FOLDER/KIND/NAME.pack

A pack holds the arrays of many recordings, and is mapped into memory as one: a process holds one open file for each 128 MiB or
more, not one for each recording, and no array is read before it is used. A pack appears whole or not at all, so a build that was
interrupted goes on with the recordings that are in no pack yet. KIND names all that decides what an array holds but the recording,
whose digest is in the pack: what has changed has another name, and nothing has to be declared stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from math import prod
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.spec import FrontEndSpec
from ms_train.datasets import Recording

Float32 = NDArray[np.float32]
Make = Callable[[Recording], Float32 | None]  # None: the recording is left out
Arrays = Iterator[tuple[Recording, Float32]]

READING = 1  # of the code that reads a recording: raise it when the same file becomes other samples
DECODED_BY = f"{READING}-sndfile-{soundfile.__libsndfile_version__}-soxr-{soxr.__libsoxr_version__}"
PACK_BYTES = 256 << 20
MAGIC = b"ms-edge pack 1\n\0"
ALIGNMENT = 64


def default_folder() -> Path:
    """`ms-edge` in the user's cache folder (XDG_CACHE_HOME, or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ms-edge"


class Cache:
    """Arrays on disk, made when they are first asked for. With no folder everything is made anew and kept by the caller alone."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._stored: dict[str, dict[str, Float32]] = {}  # by kind and SHA-256 of the recording
        self._full = False

    def audio(self, recordings: Iterable[Recording], sample_rate_hz: int, make: Make) -> Arrays:
        """Yield recordings with their samples (n,) at a sample rate; `make` is called for those that are not stored."""
        return self._arrays(f"audio-{sample_rate_hz}-{DECODED_BY}", recordings, make)

    def features(self, recordings: Iterable[Recording], spec: FrontEndSpec, limit: int, make: Make) -> Arrays:
        """Yield recordings with the features of their first `limit` clips, (clips, *spec.feature_shape), as `audio` does."""
        front_end = f"{spec.digest[:16]}-{spec.hop_s:g}-{limit}"
        return self._arrays(f"features-{front_end}-{DECODED_BY}-tf-{version('tensorflow')}", recordings, make)

    def _arrays(self, kind: str, recordings: Iterable[Recording], make: Make) -> Arrays:
        """Yield in the order of `recordings`, but none before all of them are stored: a pack is mapped when it is whole."""
        if self._folder is None:
            for recording in recordings:
                if (made := make(recording)) is not None:
                    yield recording, made
            return
        stored = self._of_kind(self._folder / kind, kind)
        present: list[Recording] = []
        waiting: dict[str, Float32] = {}
        size = 0
        try:
            for recording in recordings:
                if recording.sha256 not in stored and recording.sha256 not in waiting:
                    if (made := make(recording)) is None:
                        continue
                    waiting[recording.sha256] = made
                    size += made.nbytes
                    if size >= PACK_BYTES:
                        self._store(self._folder / kind, kind, waiting)
                        waiting, size = {}, 0
                present.append(recording)
        finally:  # also when interrupted: what has been made is not made again
            if waiting:
                self._store(self._folder / kind, kind, waiting)
        for recording in present:
            yield recording, stored[recording.sha256]

    def _of_kind(self, folder: Path, kind: str) -> dict[str, Float32]:
        if kind not in self._stored:
            self._stored[kind] = {}
            for path in sorted(folder.glob("*.pack")):
                with contextlib.suppress(OSError, ValueError):  # not a whole pack: its arrays are made again
                    self._stored[kind] |= read_pack(path)
        return self._stored[kind]

    def _store(self, folder: Path, kind: str, arrays: Mapping[str, Float32]) -> None:
        """Write arrays and those of small packs to one pack, and map it; if it cannot be written, keep the arrays in memory."""
        try:
            if not self._full:
                folder.mkdir(parents=True, exist_ok=True)
                small = [path for path in folder.glob("*.pack") if path.stat().st_size < PACK_BYTES // 2]
                for path in small:  # which a training on a few more recordings leaves each time
                    with contextlib.suppress(OSError, ValueError):
                        arrays = {**read_pack(path), **arrays}
                # Two processes that make the same arrays at the same time write the same file.
                name = hashlib.sha256("\n".join(sorted(arrays)).encode()).hexdigest()[:16]
                write_pack(folder / f"{name}.pack", arrays)
                for path in small:
                    if path.stem != name:
                        with contextlib.suppress(OSError):  # a system that lets nobody remove what somebody has mapped
                            path.unlink()
                arrays = read_pack(folder / f"{name}.pack")
        except OSError as error:
            self._full = True
            tqdm.write(f"{self._folder}: not cached ({(error.strerror or str(error)).lower()}).", file=sys.stderr)
        self._stored[kind] |= arrays


def write_pack(path: Path, arrays: Mapping[str, Float32]) -> None:
    """Write arrays by name to a file that appears whole or not at all. Raises OSError.

    The file holds MAGIC, the length of what follows in eight bytes (little-endian), a JSON object of names and shapes, zeros up to
    a multiple of 64 bytes, and the values of all arrays in that order, float32 little-endian.
    """
    shapes = json.dumps({name: array.shape for name, array in arrays.items()}).encode()
    head = MAGIC + len(shapes).to_bytes(8, "little") + shapes
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(head + bytes(-len(head) % ALIGNMENT))
            for array in arrays.values():
                file.write(np.ascontiguousarray(array, "<f4").data)
            file.flush()
            os.fsync(file.fileno())  # before the name is there: after a power failure, too, what has it is whole
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_pack(path: Path) -> dict[str, Float32]:
    """Map a pack: its arrays by name, read-only. Raises ValueError where it is not one, or not whole, and OSError."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path}: is not a pack of this version")
        shapes = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell() + -file.tell() % ALIGNMENT
        size = os.fstat(file.fileno()).st_size
    if size != start + 4 * sum(map(prod, shapes.values())):
        raise ValueError(f"{path}: is not whole")
    values = np.asarray(np.memmap(path, "<f4", "r", offset=start))  # a plain array: a slice of it costs less
    arrays, at = {}, 0
    for name, shape in shapes.items():
        arrays[name] = values[at : at + prod(shape)].reshape(shape)
        at += prod(shape)
    return arrays
