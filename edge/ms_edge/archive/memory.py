"""The memory of an actor: what its start leaves behind, and what it frees, goes back to the system."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

M_MMAP_THRESHOLD, MADV_DONTNEED = -3, 4  # of <malloc.h> and <sys/mman.h>
LARGE_BYTES = 2 << 20  # as the blocks of a recording in a store, unlike the arrays of a classifier


def give_back() -> None:
    """Give back the pages that only the start of this process needed, and later each large block once it is free.

    Before an actor runs anything of ms-edge, Ray Data has imported its libraries. Most of the pages
    of their code are not used again; the others come back from the system's page cache when they
    are. Linux only; elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        code = _code()  # the first step, because only Linux has /proc
        libc = ctypes.CDLL(None)
        libc.madvise.argtypes = ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int
        for start, end in code:
            libc.madvise(start, end - start, MADV_DONTNEED)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)  # of glibc


def _code() -> list[tuple[int, int]]:
    """Return the addresses of parts of libraries that equal their file: nobody writes them, or has done so.

    A library stays where it is, so the addresses stay right while other threads go on.
    """
    found: list[tuple[int, int]] = []
    unwritten = False
    for line in Path("/proc/self/smaps").read_text("utf-8", "surrogateescape").splitlines():
        name, *values = line.split()
        if not name.endswith(":"):  # the first line of a mapping: addresses, permissions, offset, device, inode, path
            unwritten = values[0][:2] == "r-" and ".so" in values[-1]
            start, _, end = name.partition("-")
        elif name == "Anonymous:" and unwritten and values[0] == "0":
            found.append((int(start, 16), int(end, 16)))
    return found
