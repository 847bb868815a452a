"""How live audio arrives: in packets, through a pipe that may not fill."""

from __future__ import annotations

import contextlib

PACKET_S = 0.05  # audio comes in packets of this duration or less
PIPE_BYTES = 1 << 20
# How much of a pipe may fill while nothing is read: small writes fill its pages by half, and a reader may be late.
PIPE_SHARE = 0.25
SMALLEST_PIPE_BYTES = 1 << 14  # of macOS, which does not tell


def enlarge_pipe(descriptor: int) -> int:
    """Let a pipe hold a megabyte, so that what writes to it waits less. Return how many bytes it holds.

    Only Linux can do so, and only for the first pipes of a user (pipe(7)).
    """
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        with contextlib.suppress(OSError):
            return fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    return SMALLEST_PIPE_BYTES
