"""What actors of tests import: a store whose recordings break what reads them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem


class BreakingFileSystem(LocalFileSystem):
    """Local files. Opening one ends its process if its name says so, `once` only the first time."""

    protocol = "breaking"

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        name = Path(path).name
        if "crash" in name and not ("once" in name and Path(f"{path}.crashed").exists()):
            with open(f"{path}.crashed", "a") as file:
                file.write(f"{os.getpid()}\n")
            os.kill(os.getpid(), signal.SIGSEGV)
        return super()._open(path, mode, **options)
