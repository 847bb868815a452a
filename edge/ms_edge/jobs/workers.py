"""Processes that classify files in parallel.

Python runs one thread at a time, and a third of the time of a short file is spent in Python, so
threads are used only where processes cannot be: for a model on a GPU, and outside Linux.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from ms_edge.errors import MsEdgeError, resource_error
from ms_edge.results import Classification, Failure

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Result = tuple[Classification, ...] | Failure
Task = dict[int, str]  # paths by their numbers
# Called with a path and a function that takes the seconds of audio read since its last call.
Answer = Callable[[str, Callable[[float], None]], Result]

JOBS_PER_CORE = 4  # more workers only cost time to start, even if files come from a slow network
OWN_DESCRIPTORS, JOB_DESCRIPTORS = 16, 4  # open files of this process, and for each worker
REPORT_S = 120.0  # seconds of audio between two progress messages of a worker
ATTEMPTS = 100  # to give one call's tasks to workers that die before they begin
RETRY_S = 5.0  # how long to retry if the system refuses a process after one has died


def usable_cores() -> int:
    """Return how many cores this process may use: affinity and container limit (cgroup v2)."""
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
    """Return whether a forked copy of this process works.

    It does on Linux if this process has one thread. Another one, of Python or of a C library, could
    hold a lock during the fork, for which the copy would wait forever.
    """
    return sys.platform == "linux" and threading.active_count() == 1 and _native_threads() <= 1


def _native_threads() -> int:
    """Return the number of threads that the system counts in this process; 0 if it is unknown."""
    try:
        with open("/proc/self/stat", "rb") as file:  # proc_pid_stat(5); qemu-user says 0
            return int(file.read().rpartition(b")")[2].split()[17])
    except (OSError, ValueError, IndexError):
        return 0


@dataclass
class Worker:
    """A process or, if `process` is None, a thread of this process, at the other end of `pipe`."""

    pipe: Connection
    process: int | None
    task: Task = field(default_factory=dict)  # empty: idle

    def end(self) -> str:
        """End a process and return how it ended; let a thread finish without waiting for it."""
        self.pipe.close()
        if self.process is None:
            return ""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)  # no effect on a process that has begun to end
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        except ChildProcessError:  # SIGCHLD is ignored, so the system keeps no status
            return "killed"
        return f"signal {-status}" if status < 0 else f"status {status}"


class Workers:
    """Up to `count` workers that compute `answer(path, on_audio)`, while this process waits.

    A worker starts when there is a task and no idle worker. With `fork` the workers are copies of
    this process, which share the loaded model; see `can_fork`. Otherwise they are threads. If
    `count` is 0 or the system grants no worker, `collect` computes the results itself.

    If a worker dies, another one takes its place, and the result of its path is a Failure. Workers
    ignore interrupts. However this process ends, they end too. `on_audio` is called in this
    process.
    """

    def __init__(self, answer: Answer, count: int, on_audio: Callable[[float], None], *, fork: bool) -> None:
        self.count = count
        self._answer, self._on_audio, self._fork = answer, on_audio, fork
        self._workers: list[Worker] = []
        self._queue: deque[tuple[Task, str]] = deque()  # and how the last worker of each died
        self._last_death = float("-inf")

    @property
    def ready(self) -> bool:
        """Whether a further task would begin at once."""
        return len(self._queue) + sum(bool(worker.task) for worker in self._workers) < max(self.count, 1)

    def submit(self, task: Task) -> None:
        """Let one worker compute the results of these paths."""
        self._queue.append((task, ""))
        self._assign()

    def collect(self, timeout_s: float, also: Sequence[int] = ()) -> dict[int, Result | Exception]:
        """Wait for results and return them by number.

        Return earlier if `timeout_s` have passed or a descriptor of `also` can be read. A result is
        an exception if `answer` raised it.
        """
        self._assign()
        if not self.count and self._queue:
            task, killed_by = self._queue.popleft()
            if killed_by:  # the task could kill this process too
                return _died(task, killed_by)
            return {number: _outcome(self._answer, path, self._on_audio) for number, path in task.items()}
        if not (self._workers or also):  # no process is granted just now, or on Windows
            time.sleep(timeout_s)
            return {}
        from multiprocessing.connection import wait

        ready = wait([*(worker.pipe for worker in self._workers), *also], timeout_s)
        found: dict[int, Result | Exception] = {}
        for worker in [worker for worker in self._workers if worker.pipe in ready]:
            found |= self._receive(worker)
        return found

    def _assign(self) -> None:
        """Give queued tasks to idle workers; start workers if necessary."""
        died = 0
        while self._queue and (worker := self._idle()):
            try:
                worker.pipe.send(list(self._queue[0][0].values()))
            except OSError:  # it died while it was idle
                self._remove(worker)
                died += 1
                if died == ATTEMPTS:  # new ones die too: do without them
                    self.count = len(self._workers)
            else:
                worker.task, _ = self._queue.popleft()

    def _idle(self) -> Worker | None:
        """Return a worker without a task, a new one if necessary; None if there is none."""
        if idle := next((worker for worker in self._workers if not worker.task), None):
            return idle
        if len(self._workers) == self.count:
            return None
        try:
            self._workers.append(_start(self._answer, self._fork))
        except (OSError, RuntimeError):  # too many processes, threads or open files
            # After a death, memory may be short for a moment: the next call tries again.
            if time.monotonic() > self._last_death + RETRY_S:
                self.count = len(self._workers)
            return None
        return self._workers[-1]

    def _receive(self, worker: Worker) -> dict[int, Result | Exception]:
        """Read one message of a worker and return the results in it.

        If the worker has died of one of several paths, queue each of them as a task of its own.
        """
        try:
            audio_s, results = worker.pipe.recv()
        except (EOFError, OSError):
            how = self._remove(worker)
            if len(worker.task) == 1:
                return _died(worker.task, how)
            self._queue.extendleft(({number: path}, how) for number, path in reversed(worker.task.items()))
            return {}
        self._on_audio(audio_s)
        if results is None:
            return {}
        task, worker.task = worker.task, {}
        return dict(zip(task, results, strict=True))

    def _remove(self, worker: Worker) -> str:
        self._workers.remove(worker)
        self._last_death = time.monotonic()
        return worker.end()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers at once, whatever they are doing."""
        while self._workers:
            self._workers.pop().end()


def _died(task: Task, how: str) -> dict[int, Result | Exception]:
    why = "for want of memory, or by a crash in a decoder; -j 1 tries it in this process"
    return {
        number: Failure(path, "worker-died", f"{path}: the process that read it ended ({how}), perhaps {why}.")
        for number, path in task.items()
    }


def _start(answer: Answer, fork: bool) -> Worker:
    """Start a worker. Raises OSError or RuntimeError if the system grants none."""
    from multiprocessing.connection import Pipe

    ours, theirs = Pipe()
    parent, process = os.getpid(), None
    try:
        if fork:
            process = os.fork()
        else:
            threading.Thread(target=_serve, args=(answer, theirs), daemon=True).start()
    except (OSError, RuntimeError):
        ours.close()
        theirs.close()
        raise
    if process == 0:
        ours.close()
        _be_worker(answer, theirs, parent)
    if process:
        theirs.close()  # the worker has the only copy, so that its death closes the pipe
    return Worker(ours, process)


def _be_worker(answer: Answer, pipe: Connection, parent: int) -> NoReturn:
    """Serve in a worker process until the parent process ends or closes the pipe."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # for the parent process
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(ImportError, OSError, AttributeError):  # then it finishes its task first
            import ctypes  # NumPy has imported it, if this Python has it

            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() == parent:
            _serve(answer, pipe)
        status = 0
    finally:
        os._exit(status)


def _serve(answer: Answer, pipe: Connection) -> None:
    """Receive lists of paths and send their results, until the other end of the pipe is closed.

    A message is (seconds of audio since the last message, results); during a long file the results
    are None.
    """
    unreported_s = 0.0
    paths: list[str] = []

    def on_audio(seconds: float) -> None:
        nonlocal unreported_s
        unreported_s += seconds
        # Not during several files: if this worker dies, all of them are read again.
        if unreported_s >= REPORT_S and len(paths) == 1:
            pipe.send((unreported_s, None))
            unreported_s = 0.0

    with pipe, contextlib.suppress(EOFError, OSError):
        while True:
            paths = pipe.recv()
            results = [_picklable(_outcome(answer, path, on_audio)) for path in paths]
            pipe.send((unreported_s, results))
            unreported_s = 0.0


def _outcome(answer: Answer, path: str, on_audio: Callable[[float], None]) -> Result | Exception:
    """Return the answer or the exception that it raised."""
    try:
        return answer(path, on_audio)
    except Exception as error:
        return error


def _picklable(result: Result | Exception) -> Result | Exception:
    """Replace an exception that may not be picklable by one that has its traceback as a message."""
    if isinstance(result, MsEdgeError) or not isinstance(result, Exception):
        return result
    import traceback  # only here: it costs half a millisecond of every start

    return resource_error(result) or RuntimeError("".join(traceback.format_exception(result)))
