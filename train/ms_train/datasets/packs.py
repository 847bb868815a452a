"""Packs: many arrays in one memory-mapped file.

A process needs one open file for a pack, not one for each array, and an array is read only when it
is used.

A pack holds MAGIC, the length of the JSON in eight bytes (little-endian), a JSON object of names to
types and shapes, and the values of the arrays in this order, little-endian. Each array begins at a
multiple of 64 bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_train.files import atomic_write

MAGIC = b"ms-edge pack 2\n\0"
ALIGNMENT = 64
FULL_SCALE = np.float32(1 << 15)


class Packed(NamedTuple):
    """An array and its place in a file; `path` is None if it is only in memory."""

    array: NDArray[Any]
    path: Path | None = None
    offset: int = 0


class PackedAudio:
    """The samples (n,) float32 of a recording in a pack, stored as 16-bit numbers if these hold
    them exactly.

    Pickling passes the place in the file to another process instead of the samples.
    """

    def __init__(self, packed: Packed) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed.array)

    def __getitem__(self, part: slice, /) -> Float32:
        samples = self._packed.array[part]
        return samples if samples.dtype == np.float32 else samples.astype(np.float32) / FULL_SCALE

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        array, path, offset = self._packed
        if path is None or not path.exists():  # a small pack was merged into another
            return PackedAudio, (Packed(np.array(array)),)
        return _audio_at, (path, offset, array.dtype.str, array.shape)


def _audio_at(path: Path, offset: int, dtype: str, shape: tuple[int, ...]) -> PackedAudio:
    return PackedAudio(Packed(_part(_mapped(path), offset, dtype, shape), path, offset))


@lru_cache(None)
def _mapped(path: Path) -> NDArray[np.uint8]:
    return np.asarray(np.memmap(path, np.uint8, "r"))


def in_16_bits(samples: Float32) -> NDArray[np.int16] | Float32:
    """Return samples (n,) in [-1, 1] as int16 if all are multiples of 2**-15, else unchanged."""
    whole = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return whole if np.array_equal(whole.astype(np.float32) / FULL_SCALE, samples) else samples


def write_pack(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name to a file, atomically. Raises OSError."""
    shapes = {name: (array.dtype.newbyteorder("<").str, array.shape) for name, array in arrays.items()}
    listing = json.dumps(shapes).encode()
    head = MAGIC + len(listing).to_bytes(8, "little") + listing
    with atomic_write(path) as partial, partial.open("wb") as file:
        file.write(head)
        for name, array in arrays.items():
            file.write(bytes(-file.tell() % ALIGNMENT))
            file.write(np.ascontiguousarray(array, shapes[name][0]).tobytes())
        file.flush()
        os.fsync(file.fileno())  # before the rename, so that the file is complete even after a power failure


def read_pack(path: Path) -> dict[str, Packed]:
    """Map a pack and return its arrays by name, read-only.

    Raises ValueError if it is not a complete pack, and OSError.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path}: is not a pack of this version")
        shapes = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        end = file.tell()
        size = os.fstat(file.fileno()).st_size
    places = {}
    for name, (dtype, shape) in shapes.items():
        at = end + -end % ALIGNMENT
        places[name] = at
        end = at + np.dtype(dtype).itemsize * prod(shape)
    if size != end:
        raise ValueError(f"{path}: is not whole")
    content = np.asarray(np.memmap(path, np.uint8, "r"))  # slicing a plain array is faster
    return {
        name: Packed(_part(content, places[name], dtype, tuple(shape)), path, places[name])
        for name, (dtype, shape) in shapes.items()
    }


def _part(content: NDArray[np.uint8], offset: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    return content[offset : offset + np.dtype(dtype).itemsize * prod(shape)].view(dtype).reshape(shape)
