"""Processes that classify files in parallel. Python runs one thread at a time, and a third of the
time of a short file is spent in Python, so threads are used only where processes cannot be.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from ms_edge.errors import MsEdgeError, resource_error

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Item = TypeVar("Item")
Result = TypeVar("Result")
Answer = Callable[[Item, Callable[[float], None]], Result]

JOBS_PER_CORE = 4  # more workers only cost time to start, even if files come from a slow network
OWN_DESCRIPTORS, JOB_DESCRIPTORS = 16, 4  # open files of this process, and for each worker
REPORT_S = 120.0  # seconds of audio between two progress messages of a worker
RETRY_S = 5.0  # how long to retry if the system refuses a process after one has died


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, limited by its container (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def most_jobs() -> tuple[int, str]:
    """Return the largest useful number of files to work on at once, and the reason as a clause."""
    most, why = usable_cores() * JOBS_PER_CORE, f"more than {JOBS_PER_CORE} for each core take longer"
    with contextlib.suppress(ImportError):  # Windows
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = max(1, (limit - OWN_DESCRIPTORS) // JOB_DESCRIPTORS)
        if limit != resource.RLIM_INFINITY and allowed < most:
            return allowed, f"this process may have only {limit} files open (ulimit -n)"
    return most, why


def can_fork() -> bool:
    """Return whether a forked copy of this process works: on Linux, without a second Python thread,
    which could hold a lock at the time of the fork.
    """
    return sys.platform == "linux" and threading.active_count() == 1


@dataclass
class _Task(Generic[Item]):
    """Items by their numbers. `killed_by` says how the worker ended that had the item before."""

    items: dict[int, Item]
    killed_by: str = ""


class _Worker(Generic[Item]):
    """A process or, without `process`, a thread of this process, at the other end of `pipe`."""

    def __init__(self, pipe: Connection, process: int | None) -> None:
        self.pipe = pipe
        self.task: _Task[Item] | None = None
        self._process = process

    def end(self) -> str:
        """End the worker and return how it ended. A thread finishes its task first; do not wait for it."""
        self.pipe.close()
        if self._process is None:
            return ""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)  # of no effect on a process that is ending already
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        except ChildProcessError:  # SIGCHLD is ignored, so the system keeps no status
            return "killed"
        return f"signal {-status}" if status < 0 else f"status {status}"


class Workers(Generic[Item, Result]):
    """Up to `count` workers that compute `answer(item, on_audio)`; this process only waits for them.

    A worker starts when there is a task and no idle worker. With `fork` the workers are copies of this
    process, which share the loaded model; see `can_fork`. Otherwise they are threads. With a `count` of
    0, or if the system grants no worker, `collect` computes the results itself.

    If a worker dies, another one takes its place, and the result for the item that it worked on is
    `died(item, how)`. Workers ignore interrupts, and end if this process ends in whatever way.
    `on_audio` is called in this process with the seconds of audio that workers have read.
    """

    def __init__(
        self,
        answer: Answer[Item, Result],
        count: int,
        died: Callable[[Item, str], Result],
        on_audio: Callable[[float], None],
        *,
        fork: bool = False,
    ) -> None:
        self.count = count
        self._answer, self._died, self._on_audio = answer, died, on_audio
        self._start = _fork if fork else _start_thread
        self._workers: list[_Worker[Item]] = []
        self._queue: deque[_Task[Item]] = deque()
        self._last_death = float("-inf")

    @property
    def ready(self) -> bool:
        """Return whether a further task could begin at once."""
        busy = sum(worker.task is not None for worker in self._workers)
        return busy + len(self._queue) < max(self.count, 1)

    def submit(self, items: dict[int, Item]) -> None:
        """Give items, each with a number, to one worker."""
        self._queue.append(_Task(items))
        self._assign()

    def collect(self, timeout_s: float, also: Sequence[int] = ()) -> list[tuple[int, Result | Exception]]:
        """Wait for results, until `timeout_s` has passed or one of the descriptors `also` can be read.

        Return (number, result) of the items that are done. The result is the exception if `answer` raised one.
        """
        self._assign()
        if self.count == 0 and self._queue:
            return self._answer_here(self._queue.popleft())
        from multiprocessing.connection import wait

        if not (self._workers or also):  # the system has refused a process, or Windows cannot wait for a list
            time.sleep(timeout_s)
            return []
        ready = wait([*(worker.pipe for worker in self._workers), *also], timeout_s)
        found = [self._receive(worker) for worker in list(self._workers) if worker.pipe in ready]
        return [result for results in found for result in results]

    def _answer_here(self, task: _Task[Item]) -> list[tuple[int, Result | Exception]]:
        """Compute the results in this process, but not that of an item that may have killed a worker."""
        if task.killed_by:
            return self._dead(task, task.killed_by)
        return [(number, self._answer(item, self._on_audio)) for number, item in task.items.items()]

    def _dead(self, task: _Task[Item], how: str) -> list[tuple[int, Result | Exception]]:
        return [(number, self._died(item, how)) for number, item in task.items.items()]

    def _assign(self) -> None:
        """Give queued tasks to idle workers; start a worker if there is none."""
        while self._queue and (worker := self._idle()):
            try:
                worker.pipe.send(list(self._queue[0].items.values()))
            except OSError:  # it died while it was idle
                self._remove(worker)
            else:
                worker.task = self._queue.popleft()

    def _idle(self) -> _Worker[Item] | None:
        """Return a worker without a task, a new one if necessary; None if there can be none now."""
        for worker in self._workers:
            if worker.task is None:
                return worker
        if len(self._workers) >= self.count:
            return None
        try:
            worker = self._start(self._answer, [worker.pipe for worker in self._workers])
        except (OSError, RuntimeError):  # no more processes, threads or open files are granted
            # After a death memory may be short for a moment, so the next call tries again.
            if time.monotonic() > self._last_death + RETRY_S:
                self.count = len(self._workers)
            return None
        self._workers.append(worker)
        return worker

    def _receive(self, worker: _Worker[Item]) -> list[tuple[int, Result | Exception]]:
        """Read one message of a worker. If the worker has died, queue its items one by one, or
        return the result of `died` for a single item.
        """
        task = worker.task
        try:
            audio_s, answers = worker.pipe.recv()
        except (EOFError, OSError):
            how = self._remove(worker)
            if task and len(task.items) == 1:
                return self._dead(task, how)
            if task:
                self._queue.extendleft(_Task({number: item}, how) for number, item in reversed(task.items.items()))
            return []
        self._on_audio(audio_s)
        if answers is None:
            return []
        assert task
        worker.task = None
        return list(zip(task.items, answers, strict=True))

    def _remove(self, worker: _Worker[Item]) -> str:
        self._workers.remove(worker)
        self._last_death = time.monotonic()
        return worker.end()

    def __enter__(self) -> Workers[Item, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all workers at once, whatever they are doing."""
        while self._workers:
            self._workers.pop().end()


def _fork(answer: Answer[Item, Result], others: Sequence[Connection]) -> _Worker[Item]:
    """Start a worker process. `others` are this process's ends of the pipes to the other workers.

    Raises OSError if the system grants no process.
    """
    from multiprocessing.connection import Pipe

    ours, theirs = Pipe()
    parent = os.getpid()
    try:
        process = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if process:
        theirs.close()  # if the worker has the only copy, its death closes the pipe
        return _Worker(ours, process)
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # sent to the whole process group
            signal.signal(number, signal.SIG_IGN)
        _end_with(parent)
        for pipe in (ours, *others):
            pipe.close()
        _serve(answer, theirs)
        status = 0
    finally:
        os._exit(status)


def _end_with(parent: int) -> None:
    """Let Linux kill this process when its parent ends."""
    import ctypes  # NumPy has imported it

    with contextlib.suppress(OSError, AttributeError):  # then the closed pipe ends it, after its task
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _start_thread(answer: Answer[Item, Result], others: Sequence[Connection]) -> _Worker[Item]:
    """Start a worker thread. Raises OSError or RuntimeError if the system grants none."""
    from multiprocessing.connection import Pipe

    ours, theirs = Pipe()
    try:
        threading.Thread(target=_serve, args=(answer, theirs), name="ms-edge-worker", daemon=True).start()
    except RuntimeError:
        ours.close()
        theirs.close()
        raise
    return _Worker(ours, None)


def _serve(answer: Answer[Item, Result], pipe: Connection) -> None:
    """Receive lists of items and send the results, until the other end of the pipe is closed.

    A message is (seconds of audio read since the last message, results). The results are None in a
    message about progress, which is sent only for a single item: a list may be repeated elsewhere.
    """
    unreported_s, alone = 0.0, True

    def on_audio(seconds: float) -> None:
        nonlocal unreported_s
        unreported_s += seconds
        if alone and unreported_s >= REPORT_S:
            pipe.send((unreported_s, None))
            unreported_s = 0.0

    with pipe, contextlib.suppress(EOFError, OSError):
        while True:
            items = pipe.recv()
            alone = len(items) == 1
            results = [_outcome(answer, item, on_audio) for item in items]
            pipe.send((unreported_s, results))
            unreported_s = 0.0


def _outcome(answer: Answer[Item, Result], item: Item, on_audio: Callable[[float], None]) -> Result | Exception:
    """Return the answer or the exception that it raised, in a form that can be pickled."""
    try:
        return answer(item, on_audio)
    except MsEdgeError as error:
        return error
    except Exception as error:
        return resource_error(error) or RuntimeError(traceback.format_exc())
