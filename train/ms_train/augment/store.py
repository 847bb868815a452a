"""Arrays of raw numbers in files: named files in a folder, or unnamed ones that are not kept."""

from __future__ import annotations

import errno
import math
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ms_edge.errors import reason

Shapes = Mapping[str, tuple[Any, tuple[int, ...]]]  # type and shape of arrays by file name


class Store:
    """Arrays of one or more sets.

    A set with a file that is missing or has another size is made again, with zeros.

    They are in `folder`. If that is None or cannot be written, they are in unnamed files in the
    folder `other`, which are removed when the process ends. Raises OSError if the disk has too
    little space.
    """

    def __init__(self, folder: Path | None, other: Path, sets: tuple[Shapes, ...]) -> None:
        self.folder = folder
        self.shapes = {name: each for shapes in sets for name, each in shapes.items()}
        self._nameless: dict[str, IO[bytes]] = {}
        if folder:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                tqdm.write(f"{folder.parent}: windows are not kept ({reason(error)}).", file=sys.stderr)
                self.folder = None
        missing = [name for shapes in sets if not all(map(self._is_whole, shapes)) for name in shapes]
        if shutil.disk_usage(self.folder or other).free < sum(map(self._size, missing)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for name in missing:
            if self.folder:
                with (self.folder / name).open("wb") as file:
                    file.truncate(self._size(name))
            else:
                self._nameless[name] = TemporaryFile(dir=other)  # noqa: SIM115
                self._nameless[name].truncate(self._size(name))

    @property
    def bytes(self) -> int:
        """The size of all arrays."""
        return sum(map(self._size, self.shapes))

    def read(self, name: str) -> NDArray[Any]:
        """Return an array, mapped into memory."""
        dtype, shape = self.shapes[name]
        return np.memmap(self.folder / name if self.folder else self._nameless[name], dtype, "r", shape=shape)

    def write(self, name: str, first: int, values: NDArray[Any]) -> None:
        """Write rows, beginning at row `first`. Raises OSError on a full disk.

        Writing to a memory map would then end the process.
        """
        dtype, (_, *row) = self.shapes[name]
        content = np.ascontiguousarray(values, dtype).tobytes()
        at = first * math.prod(row) * np.dtype(dtype).itemsize
        if self.folder:
            with (self.folder / name).open("r+b") as file:
                file.seek(at)
                file.write(content)
        else:
            self._nameless[name].seek(at)
            self._nameless[name].write(content)
            self._nameless[name].flush()

    def _size(self, name: str) -> int:
        dtype, shape = self.shapes[name]
        return math.prod(shape) * np.dtype(dtype).itemsize

    def _is_whole(self, name: str) -> bool:
        path = self.folder and self.folder / name
        return bool(path and path.is_file() and path.stat().st_size == self._size(name))
