"""The memory of an actor: what its start leaves behind, and what it frees, goes back to the system."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

M_MMAP_THRESHOLD, MADV_DONTNEED = -3, 4  # of <malloc.h> and <sys/mman.h>
LARGE_BYTES = 2 << 20  # as the blocks of a recording in a store, unlike the arrays of a classifier


def give_back() -> None:
    """Give back the pages of all libraries' code now, and from now on each large block when it is freed.

    Before an actor runs anything of ms-edge, Ray Data has imported its libraries. Most of the pages
    of their code are not used again. The system reads the others again, from its page cache. On
    other systems than Linux, nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        code = _code()  # the first step, because only Linux has /proc
        libc = ctypes.CDLL(None)
        libc.madvise.argtypes = ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int
        for start, end in code:
            libc.madvise(start, end - start, MADV_DONTNEED)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)  # of glibc


def _code() -> list[tuple[int, int]]:
    """Return where the parts of libraries begin and end that are read-only and have never been written.

    Their pages are those of the file. A library stays where it is, so the addresses stay correct
    while other threads go on.
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
