"""OUT: the Parquet files that a run adds to, and what earlier runs have left in them.

Only one process, the one that starts the run, writes here. A file appears whole or not at all: on a
disk by renaming it, in a store because an object appears when its upload ends. A file of segments
holds the segments of the file of recordings with its name, and is written after it, so it can be
made again if it is missing.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from ms_edge.archive.listing import Recording
from ms_edge.archive.stores import Stores, repeated
from ms_edge.errors import UsageError, first_line
from ms_edge.output.parquet import RECORDINGS, segments_table
from ms_edge.output.records import PARQUET, RECORDINGS_FOLDER, SEGMENTS_FOLDER

FILE_ROWS = 20_000  # rows of one file of recordings, at most
COMPARED = ["path", "file", "model", "settings", "error"]  # columns that say whether a row is valid
FILE_S = 60.0  # seconds after which results are written, however few they are


class ArchiveOutput:
    """A Parquet dataset in a directory or a store: `recordings/`, and `segments/` if they are wanted or there already.

    Raises UsageError if it cannot be written, if another run writes it (on a disk of this machine), or
    if it has results and `resume` is not set.
    """

    def __init__(self, place: str, stores: Stores, *, segments: bool, resume: bool) -> None:
        self.place = place.rstrip("/")
        self._store, root = stores.at(self.place)
        self._recordings_at, self._segments_at = f"{root}/{RECORDINGS_FOLDER}", f"{root}/{SEGMENTS_FOLDER}"
        self._run = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"
        self._files = 0
        self._waiting: list[pa.Table] = []
        self._since = time.monotonic()
        self._unlock: Callable[[], object] = lambda: None
        try:
            for folder in (self._recordings_at, *([self._segments_at] if segments else [])):
                repeated(lambda folder=folder: self._store.create_dir(folder, recursive=True))  # type: ignore[misc]
            if isinstance(self._store, fs.LocalFileSystem):
                self._unlock = _locked(self, root)
            self._earlier = self._names(self._recordings_at)
            self._segments = segments or bool(self._names(self._segments_at))  # a table stays complete
        except OSError as error:
            self.close()
            raise UsageError(f"{place}: cannot be written ({first_line(error)}).") from None
        if self._earlier and not resume:
            self.close()
            raise UsageError(f"{place}: has results of an earlier run; --resume continues it, or give -o another name.")

    def close(self) -> None:
        """Let another run write here."""
        self._unlock()

    def done(self, recordings: Sequence[Recording], model: str, settings: str) -> set[int]:
        """Return the numbers of the recordings whose rows are still valid, and remove the other rows.

        A row is valid if the size and the time of the recording, the model (SHA-256) and the settings
        are the same, and if it has no error. Rows of recordings that are not among these stay.
        """
        numbers = {recording.path: number for number, recording in enumerate(recordings)}
        found: set[int] = set()
        for name in self._earlier:
            table = self._read(name)
            keep = []
            for row in table.select(COMPARED).to_pylist():
                number = numbers.get(row["path"])
                if number is None:
                    keep.append(True)
                    continue
                now = recordings[number]
                before = row["file"] or {}
                valid = (
                    number not in found
                    and row["error"] is None
                    and (before.get("bytes"), before.get("modified")) == (now.bytes, now.modified)
                    and (row["model"], row["settings"]) == (model, settings)
                )
                if valid:
                    found.add(number)
                keep.append(valid)
            self._keep(name, table, keep)
        return found

    def _read(self, name: str) -> pa.Table:
        """Read a file of recordings. Raises UsageError."""
        where = f"{self.place}/{RECORDINGS_FOLDER}/{name}"
        try:
            table = repeated(lambda: pq.read_table(f"{self._recordings_at}/{name}", filesystem=self._store))
            if missing := [column for column in COMPARED if column not in table.column_names]:
                raise OSError(f"it has no column {missing[0]}")
            return table
        except OSError as error:
            raise UsageError(f"{where}: cannot be read ({first_line(error)}); without it, --resume goes on.") from None

    def _keep(self, name: str, table: pa.Table, keep: list[bool]) -> None:
        """Leave only some rows in a file, and give it its file of segments."""
        if not all(keep):
            for folder in (self._segments_at, self._recordings_at):
                if folder == self._segments_at or not any(keep):
                    self._remove(f"{folder}/{name}")
            table = table.filter(pa.array(keep, pa.bool_()))
            if any(keep):
                self._write(f"{self._recordings_at}/{name}", table)
        if self._segments and any(keep) and self._kind(f"{self._segments_at}/{name}") == fs.FileType.NotFound:
            self._write(f"{self._segments_at}/{name}", segments_table(table))

    def add(self, rows: pa.Table) -> None:
        """Take rows of the schema RECORDINGS, and write them when there are enough or time has passed."""
        self._waiting.append(rows.select(RECORDINGS.names).cast(RECORDINGS))
        count = sum(map(len, self._waiting))
        if count >= FILE_ROWS or time.monotonic() - self._since >= FILE_S:
            self.flush()

    def flush(self) -> None:
        """Write the rows that were taken. Raises OSError."""
        self._since = time.monotonic()
        table = pa.concat_tables(self._waiting, promote_options="none") if self._waiting else None
        self._waiting = []
        if not table:
            return
        name = f"{self._run}-{self._files:05}{PARQUET}"
        self._files += 1
        self._write(f"{self._recordings_at}/{name}", table)
        if self._segments:
            self._write(f"{self._segments_at}/{name}", segments_table(table))

    def _write(self, path: str, table: pa.Table) -> None:
        """Write a Parquet file that appears whole or not at all. Raises OSError."""
        content = pa.BufferOutputStream()
        pq.write_table(table, content, compression="zstd")
        body = content.getvalue()
        local = isinstance(self._store, fs.LocalFileSystem)
        folder, _, name = path.rpartition("/")
        part = f"{folder}/.{name}.part" if local else path  # readers of Parquet ignore names with a dot

        def write() -> None:
            with self._store.open_output_stream(part) as file:
                file.write(body)
            if local:
                self._store.move(part, path)

        repeated(write)

    def _remove(self, path: str) -> None:
        if self._kind(path) != fs.FileType.NotFound:
            repeated(lambda: self._store.delete_file(path))

    def _kind(self, path: str) -> Any:
        return repeated(lambda: self._store.get_file_info(path)).type

    def _names(self, folder: str) -> list[str]:
        """Return the names of the Parquet files in a folder, the latest first."""
        selector = fs.FileSelector(folder, allow_not_found=True)
        infos = repeated(lambda: self._store.get_file_info(selector))
        names = [info.base_name for info in infos]
        return sorted((name for name in names if name.endswith(PARQUET) and name[0] not in "._"), reverse=True)


def _locked(owner: object, directory: str) -> Callable[[], object]:
    """Lock a directory, and return a function that unlocks it. So does the end of `owner`, or of this process.

    A file system without locks has no such protection. Raises UsageError if another run has locked it.
    """
    if sys.platform == "win32":
        return lambda: None
    import fcntl

    descriptor = os.open(directory, os.O_RDONLY)
    unlock = weakref.finalize(owner, os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{directory}: another run is writing it; wait for it, or give -o another name.") from None
    except OSError:
        pass
    return unlock


def counted(rows: pa.Table) -> tuple[int, float]:
    """Return how many rows have an error, and the seconds of audio of the others."""
    return pc.sum(pc.is_valid(rows["error"])).as_py() or 0, pc.sum(rows["duration_s"]).as_py() or 0.0
