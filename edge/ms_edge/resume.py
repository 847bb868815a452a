"""`--resume`: a JSON Lines file whose own records say what is done, and finding them again."""

from __future__ import annotations

import contextlib
import json
import os
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from ms_edge.errors import UsageError
from ms_edge.opening import file_facts
from ms_edge.outputs import FileOutput, place
from ms_edge.results import SCHEMA
from ms_edge.writers import Format, json_text

OUR_START = f'{{"schema": "{SCHEMA}"'.encode()


class ResumableOutput(FileOutput):
    """A JSON Lines file, written as FILE.part, that with `resume` goes on where an earlier run ended, however it ended.

    The records themselves tell what is done: a record stands if the file (size, time of change), the model and the
    settings are what they were. What an interrupted run left in FILE.part is kept in FILE.resume until FILE is whole.
    Raises OSError where it cannot be written, UsageError where something that is not ours has one of these names.
    """

    def __init__(self, path: str, form: Format, labels: Sequence[str], timeline: bool, *, resume: bool) -> None:
        path = place(path)
        part, self.kept = f"{path}.part", f"{path}.resume"
        for name in (part, self.kept):
            _require_ours(name)
        if resume and os.path.exists(part):
            with open(self.kept, "ab") as kept, open(part, "rb") as file:
                for line in file:
                    if line.endswith(b"\n"):  # the last one may be torn
                        kept.write(line)
                kept.flush()
                os.fsync(kept.fileno())
            os.remove(part)
        earlier = (self.kept, path) if resume else ()
        self._earlier = [EarlierRecords(name) for name in earlier if os.path.isfile(name)]
        super().__init__(path, form, labels, timeline, part)

    def done(self, path: str, settings: dict[str, Any], model: str, provider: str) -> str | None:
        """The record line of an earlier run that still stands for this path, if there is one."""
        if not self._earlier:
            return None
        facts = _facts(path)
        expected = {"settings": settings, "model": model, "provider": provider}
        for earlier in self._earlier:
            line, record = earlier.find(path)
            if (
                record
                and ("segments" in record) == self.timeline
                and record["file"] == facts
                and all(record.get(key) == value for key, value in expected.items())
            ):
                return line
        return None

    def finish(self) -> None:
        """Move the file into place and forget the interrupted runs."""
        super().finish()
        for earlier in self._earlier:
            earlier.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.kept)


class EarlierRecords:
    """Finds records by path in a JSON Lines file, holding 16 bytes for each."""

    def __init__(self, name: str) -> None:
        self._file = open(name, "rb")  # noqa: SIM115
        keys, offsets = array("Q"), array("Q")
        offset = 0
        for line in self._file:
            if line.endswith(b"\n") and (record := _record(line)) is not None:
                keys.append(_key(record["path"]))
                offsets.append(offset)
            offset += len(line)
        unsorted = np.frombuffer(keys, np.uint64) if keys else np.empty(0, np.uint64)
        order = unsorted.argsort(kind="stable")
        self._keys = unsorted[order]
        self._offsets = (np.frombuffer(offsets, np.uint64) if offsets else np.empty(0, np.uint64))[order]

    def find(self, path: str) -> tuple[str, dict[str, Any] | None]:
        """The last line about that path, and its record."""
        key = np.uint64(_key(path))
        for at in range(int(np.searchsorted(self._keys, key, "right")) - 1, -1, -1):
            if self._keys[at] != key:
                break
            self._file.seek(int(self._offsets[at]))
            line = self._file.readline()
            record = _record(line)
            if record and record["path"] == path and _is_as_written(line, record):
                return line.decode("ascii"), record
        return "", None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _facts(path: str) -> dict[str, int | str] | None:
    try:
        return file_facts(os.stat(path))
    except (OSError, ValueError):
        return None


def _record(line: bytes) -> dict[str, Any] | None:
    """A record that may stand: of a file that was classified."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, dict) and isinstance(record.get("path"), str) and record.get("file"):
        return record
    return None


def _is_as_written(line: bytes, record: dict[str, Any]) -> bool:
    """Whether a line is as we write it; another tool may have written the file anew."""
    try:
        return json_text(record).encode("ascii") == line
    except (ValueError, RecursionError):
        return False


def _key(path: str) -> int:
    return int.from_bytes(blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _require_ours(name: str) -> None:
    if os.path.exists(name):
        with open(name, "rb") as file:
            start = file.read(len(OUR_START)).rstrip(b"\0")  # a torn write may leave zeros
        if not OUR_START.startswith(start):
            raise UsageError("usage", f"{name}: is not what an earlier run left; rename it, or give -o another name.")
