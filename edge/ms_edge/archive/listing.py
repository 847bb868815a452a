"""The recordings of an archive: what SOURCE names, and the tasks that they are divided into."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

import pyarrow as pa
from pyarrow import fs

from ms_edge.archive.stores import Stores, repeated, require_no_password
from ms_edge.audio.containers import EXTENSIONS
from ms_edge.audio.opening import file_facts
from ms_edge.errors import MsEdgeError, UsageError, first_line, reason
from ms_edge.jobs.inputs import Inputs, Skipped, is_skipped
from ms_edge.results import Failure

TOGETHER = 1000  # paths of a list whose facts are asked for at a time
# Bytes of a second of audio, by which the work for a recording is estimated before it is read.
UNCOMPRESSED = (".wav", ".wave", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf")
UNCOMPRESSED_BYTES_S, COMPRESSED_BYTES_S = 100_000, 16_000
OPENING_S = 20.0  # seconds of audio that are classified in the time that opening a recording takes
# A task is what an actor is given at a time, and the work that a crash repeats. Larger ones cost less
# scheduling. They become smaller towards the end, so that all actors end at about the same time.
TASK_SHARE = 4  # a task is one part in so many, for each actor, of the work that is left
# Its least and its most work, in seconds of audio: a second and a minute of one core. A longer
# recording is a task of its own. Ray takes 4 ms and 50 kB for a task, before the first one begins.
TASK_S = (600.0, 36_000.0)
TASKS = pa.schema([("index", pa.int64()), ("path", pa.string()), ("bytes", pa.int64()), ("modified", pa.string())])


@dataclass(frozen=True)
class Recording:
    """A recording before it is read: its size in bytes and time of change, None if they are unknown.

    `failure` is set if it is known already that there is nothing to read.
    """

    path: str
    bytes: int | None = None
    modified: str | None = None
    failure: Failure | None = None

    @property
    def work_s(self) -> float:
        """About how many seconds of audio it takes as long to classify."""
        rate = UNCOMPRESSED_BYTES_S if self.path.lower().endswith(UNCOMPRESSED) else COMPRESSED_BYTES_S
        return OPENING_S + (self.bytes or 0) / rate


def recordings(source: str, stores: Stores, tell: Callable[[str], None]) -> list[Recording]:
    """Return what SOURCE names, each recording once, in the order of the source.

    SOURCE is a directory or the URL of one, which is searched to any depth; a recording; or a text
    file with a path or URL per line. `tell` is given sentences about what is left out. Raises
    UsageError if there is no such source.
    """
    found_fs, path = stores.at(source)
    try:
        kind = repeated(lambda: found_fs.get_file_info(path)).type
    except OSError as error:
        raise UsageError(f"{source}: cannot be read ({first_line(error)}).") from None
    if kind == fs.FileType.NotFound:
        raise UsageError(f"{source}: there is no such directory, list or recording.")
    if kind == fs.FileType.Directory:
        listed = _local(source, tell) if stores.is_local(source) else _remote(source, stores, tell)
    elif source.lower().endswith(EXTENSIONS):
        listed = _facts([source], stores)
    else:
        listed = _facts(_lines(source, found_fs, path), stores)
    unique: dict[str, Recording] = {}
    repeats = 0
    for each in listed:
        repeats += each.path in unique
        unique.setdefault(each.path, each)
    if not unique:
        raise UsageError(f"{source}: there are no audio files.")
    if repeats:
        what = "1 name is" if repeats == 1 else f"{repeats:,} names are"
        tell(f"{source}: {what} not the first of their recording, which has one row.")
    return list(unique.values())


def _local(directory: str, tell: Callable[[str], None]) -> Iterator[Recording]:
    inputs = Inputs([_without_scheme(directory)], recursive=True)
    for found in inputs:
        if isinstance(found, Failure) and found.code == "no-audio":
            raise UsageError(found.message)
        if isinstance(found, Failure):
            yield Recording(_text(found.path), failure=Failure(_text(found.path), found.code, _text(found.message)))
        elif found is not None:
            yield _local_facts(found)
    if skipped := inputs.skipped():
        tell(skipped)


def _local_facts(path: str) -> Recording:
    if (name := _text(path)) != path:
        why = f"{name}: the file name is not UTF-8, and Parquet holds no other text; rename the file."
        return Recording(name, failure=Failure(name, "cannot-open", why))
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # reading it gives the error
        return Recording(path)
    if not stat.S_ISREG(status.st_mode):
        return Recording(path)
    facts = file_facts(status)
    return Recording(path, int(facts["bytes"]), str(facts["modified"]))


def _remote(url: str, stores: Stores, tell: Callable[[str], None]) -> Iterator[Recording]:
    store, root = stores.at(url)
    root = root.rstrip("/")
    skipped = Skipped()
    try:
        infos = repeated(lambda: store.get_file_info(fs.FileSelector(root, recursive=True)))
    except OSError as error:
        raise UsageError(f"{url}: cannot be listed ({first_line(error)}).") from None
    for info in infos:
        if info.type != fs.FileType.File:
            continue
        key = info.path[len(root) :].removeprefix("/")
        if any(part.startswith(".") for part in key.split("/")):
            continue
        if info.path.lower().endswith(EXTENSIONS):
            yield _remote_facts(f"{url.rstrip('/')}/{key}", info)
        elif is_skipped(info.base_name):
            skipped.add(info.base_name)
    if skipped:
        tell(f"{url}: skipped {skipped}.")


def _remote_facts(path: str, info: fs.FileInfo) -> Recording:
    modified = None
    if info.mtime_ns is not None:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=info.mtime_ns // 1000)
        modified = f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
    return Recording(path, info.size, modified)


def _facts(paths: Iterable[str], stores: Stores) -> Iterator[Recording]:
    """Yield the recordings of a list, with what their stores know of them."""
    remaining = iter(paths)
    while some := list(islice(remaining, TOGETHER)):
        by_store: dict[int, list[str]] = {}
        known: dict[str, Recording] = {}
        for path in some:
            try:
                if stores.is_local(path):
                    known[path] = _local_facts(_without_scheme(path))
                else:
                    by_store.setdefault(id(stores.at(path)[0]), []).append(path)
            except MsEdgeError as error:  # no store is known for this one
                known[path] = Recording(path, failure=Failure(path, error.code, error.message))
        for remote in by_store.values():
            store = stores.at(remote[0])[0]
            keys = [stores.at(path)[1] for path in remote]
            try:
                infos = repeated(lambda store=store, keys=keys: store.get_file_info(keys))  # type: ignore[misc]
            except OSError:  # reading them gives the errors
                known.update((path, Recording(path)) for path in remote)
                continue
            known.update((path, _remote_facts(path, info)) for path, info in zip(remote, infos, strict=True))
        yield from (known[path] for path in some)


def _lines(source: str, store: fs.FileSystem, path: str) -> list[str]:
    try:
        with repeated(lambda: store.open_input_stream(path)) as file:
            text = file.read().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{source}: the list cannot be read ({reason(error)}).") from None
    except UnicodeDecodeError:
        raise UsageError(f"{source}: is neither a recording nor a list of paths in UTF-8.") from None
    names = [line.removesuffix("\r") for line in text.split("\n")]  # a name may hold other line ends
    for number, name in enumerate(names, 1):
        require_no_password(name, f"{source}: line {number:,}: ")
    return [name for name in names if name.strip()]


def _without_scheme(path: str) -> str:
    return path.removeprefix("file://")


def _text(name: str) -> str:
    """Return a file name as text that UTF-8 can hold."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def tasks(found: Iterable[tuple[int, Recording]], actors: int) -> list[pa.Table]:
    """Divide recordings into tasks, the longest first: then no long one is left for the end.

    `found` are recordings with their numbers. Each task is a table of the schema TASKS.
    """
    ordered = sorted(found, key=lambda each: -each[1].work_s)
    left_s = sum(recording.work_s for _, recording in ordered)
    made: list[pa.Table] = []
    task: list[tuple[int, Recording]] = []
    task_s = 0.0
    for each in ordered:
        most_s = min(max(left_s / (actors * TASK_SHARE), TASK_S[0]), TASK_S[1])
        if task and task_s + each[1].work_s > most_s:
            made.append(_task(task))
            left_s -= task_s
            task, task_s = [], 0.0
        task.append(each)
        task_s += each[1].work_s
    return [*made, _task(task)] if task else made


def _task(some: list[tuple[int, Recording]]) -> pa.Table:
    rows = [{"index": index, "path": each.path, "bytes": each.bytes, "modified": each.modified} for index, each in some]
    return pa.Table.from_pylist(rows, schema=TASKS)
