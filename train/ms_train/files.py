"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file in the same folder, which takes the place of `path` at the
    end.

    The temporary name ends as `path` does. Where anything is raised, `path` stays as it was and the
    temporary file is removed. Raises OSError.

    A process that is killed (SIGKILL) leaves the temporary file. It is not removed later: on a
    shared disk, its process may run on another machine.
    """
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
