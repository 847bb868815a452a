"""What actors of tests import: a store whose recordings break what reads them, and actors that state their memory."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from ms_edge.archive.actor import Recordings


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


def with_memory(table: pa.Table) -> pa.Table:
    """Return the table with the most memory (RSS) that this process has had, in MB."""
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1000
    return table.append_column("peak_mb", pa.array([peak] * len(table)))


class Measured(Recordings):
    """The actor, which also states its memory."""

    def __call__(self, table: pa.Table) -> pa.Table:
        return with_memory(super().__call__(table))


class Idle:
    """An actor of Ray Data that does nothing."""

    def __call__(self, table: pa.Table) -> pa.Table:
        return with_memory(table)
