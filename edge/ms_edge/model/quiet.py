"""Silence C libraries that write to standard error whatever their settings say."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

_lock = threading.Lock()


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard everything that is written to descriptor 2 inside the `with` block.

    Only one thread at a time can be inside, so that the descriptor is always restored.
    """
    with _lock:
        try:
            kept = os.dup(2)
        except OSError:  # the process has no standard error
            yield
            return
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
