"""`ms-edge watch`: classify the recordings of folders as they arrive.

The folders are listed again and again. Notifications of the system are not used, because none of
them says that a recording is complete: a closed file may be opened again, a copy of a directory
creates files before they can be watched, and network shares report only what this machine does. What
arrived while nothing was watching must be found by listing anyway.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence

from ms_edge.errors import AudioError
from ms_edge.jobs.inputs import Inputs, Skipped
from ms_edge.output.growing import GrowingOutput
from ms_edge.results import Failure

INTERVAL_S = 2.0  # the longest pause between two listings that take little time
SHARE = 0.05  # of the time that listing may take
PATIENCE_S = 0.05  # of listing, after which results are written


class Arrivals(Inputs):
    """Inputs that never end: the recordings in folders and their subfolders, when each is complete.

    A recording is complete when its size and its times have not changed for `settle_s` seconds. It
    is yielded again if they change later. A recording that `output` has a valid record of is not
    yielded. None is yielded while there is none. `complain` is called once with a sentence about
    each folder that cannot be listed.
    """

    def __init__(
        self, folders: Sequence[str], output: GrowingOutput, complain: Callable[[str], None], *, settle_s: float
    ) -> None:
        super().__init__(folders, recursive=True)
        self._output, self._complain, self._settle_s = output, complain, settle_s
        # Of each file: a hash of its size and times, and since when these are as they are (seconds
        # of the monotonic clock; infinity after it was yielded or found in the output).
        self._seen: dict[str, tuple[int, float]] = {}
        self._links: dict[str, int] = {}  # to directories, by folder, at the last time
        self._troubles: set[str] = set()  # folders that could not be listed the last time

    def __iter__(self) -> Iterator[str | None]:
        """Yield each recording when it is complete, and None while there is none."""
        while True:
            began, cpu_began = time.monotonic(), time.thread_time()
            yield from self._complete()
            self._output.sync()
            pause_s = max(min(INTERVAL_S, self._settle_s / 4), (time.thread_time() - cpu_began) / SHARE)
            while time.monotonic() < began + pause_s:
                yield None

    def _complete(self) -> Iterator[str | None]:
        """List the folders once, and yield the recordings that have become complete."""
        before, self._seen = self._seen, {}
        while self._output.vanished:
            before.pop(self._output.vanished.pop(), None)
        pause_at = time.monotonic() + PATIENCE_S
        for path in self._listed():
            now = time.monotonic()
            if now > pause_at:
                yield None
                pause_at = time.monotonic() + PATIENCE_S
            try:
                found = os.stat(path)
            except (OSError, ValueError):  # removed after it was listed
                continue
            if path in self._seen or not stat.S_ISREG(found.st_mode):
                continue
            state = hash((found.st_size, found.st_mtime_ns, found.st_ctime_ns))
            known, since = before.get(path, (None, now))
            if known != state:
                since = now
            complete = now - since >= self._settle_s
            self._seen[path] = state, math.inf if complete else since
            if complete and not self._output.done(path):
                yield path

    def _listed(self) -> Iterator[str]:
        troubles: set[str] = set()
        for folder in self.paths:
            skipped = Skipped()
            try:
                for found in self._walk(folder, skipped):
                    if isinstance(found, str):
                        yield found
                    else:
                        self._note(found, troubles)
            except AudioError as error:
                self._note(Failure(folder, error.code, error.message), troubles)
            if skipped.links > self._links.get(folder, 0):
                self._complain(f"{folder}: links to directories are not followed.")
            self._links[folder] = skipped.links
        self._troubles = troubles

    def _note(self, failure: Failure, troubles: set[str]) -> None:
        """Complain once about a folder that cannot be listed, unless it is a subfolder that was removed."""
        if failure.path in self.paths or os.path.lexists(failure.path):
            troubles.add(failure.path)
            if failure.path not in self._troubles:
                self._complain(f"{failure.message.rstrip('.')}; it is tried again.")
