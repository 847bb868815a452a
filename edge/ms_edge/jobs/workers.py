"""Classify files in worker processes, and return the results in the order of the inputs.

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TYPE_CHECKING, NoReturn

from ms_edge.audio.opening import STDIN
from ms_edge.errors import MsEdgeError, resource_error
from ms_edge.results import Classification, Failure

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Result = tuple[Classification, ...] | Failure | str  # a str is lines: the records of an earlier run, or of a page
# Called with a path and a function that takes the seconds of audio read since its last call.
Answer = Callable[[str, Callable[[float], None]], Result]

LOOK_AHEAD = 4  # tasks for each worker that are taken before the result of the first is yielded
POLL_S = 0.1  # seconds between checks for a stop request
ATTEMPTS = 100  # workers in a row that die before they begin, until this process does without
# Wall time that a worker may take for a file without any audio. Each second of audio that it reads
# adds BUDGET_PER_AUDIO_S, up to BUDGET_S.
BUDGET_S, BUDGET_PER_AUDIO_S = 300.0, 20.0
TICK_S = 1.0  # at most so much time is counted at once: this process may have been stopped (Ctrl-Z)
BEGUN, AUDIO_S = 0, 1  # places in the memory that a worker shares


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


@dataclass(eq=False)
class Item:
    """An input of a run. `result` is set if it is known already."""

    path: str = ""
    share: float = 1 / 8  # of a task: files whose shares sum to at most 1 become one task
    left_s: float = BUDGET_S  # what is left of its budget of wall time
    result: Result | Exception | None = None


END = Item()


class Worker:
    """A forked process, or a thread of this process, at the other end of a pipe.

    It receives lists of paths and sends their results. In memory that it shares with this process
    it counts the paths that it has begun and the seconds of audio that it has read.
    """

    def __init__(self, answer: Answer, *, fork: bool) -> None:
        """Start a worker. Raises ImportError, OSError or RuntimeError if the system grants none."""
        import mmap
        from multiprocessing.connection import Pipe

        self.task: list[Item] = []  # empty: idle
        self.heard_s = 0.0  # audio of the task that `audio_s` has returned
        self._shared = memoryview(mmap.mmap(-1, 16)).cast("d")
        self.pipe, theirs = Pipe()
        self.process, parent = None, os.getpid()
        if fork:
            self.process = os.fork()
        else:
            threading.Thread(target=_serve, args=(answer, theirs, self._shared), daemon=True).start()
        if self.process == 0:
            self.pipe.close()
            _be_worker(answer, theirs, self._shared, parent)
        if self.process:
            theirs.close()  # the worker has the only copy, so that its death closes the pipe

    def begin(self, task: list[Item]) -> None:
        """Send paths. Raises OSError if that is impossible; the worker can then only be replaced."""
        self.task = task
        self.pipe.send([item.path for item in task])

    def receive(self) -> None:
        """Read the results. Raises EOFError or OSError if the worker has died."""
        for item, result in zip(self.task, self.pipe.recv(), strict=True):
            item.result = result
        self.task, self.heard_s = [], 0.0
        self._shared[BEGUN] = self._shared[AUDIO_S] = 0.0

    def audio_s(self) -> float:
        """Return the seconds of audio that the worker has read since the last call."""
        before, self.heard_s = self.heard_s, self._shared[AUDIO_S]
        return self.heard_s - before

    def in_progress(self) -> Item | None:
        """Return the path that the worker has begun last; None if it has begun none of its task."""
        begun = int(self._shared[BEGUN])
        return self.task[begun - 1] if self.task and begun else None

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

    A worker starts when there is an input and no idle worker. With `fork` the workers are copies of
    this process, which share the loaded model; see `can_fork`. Otherwise they are threads. If
    `count` is 0 or the system grants no worker, this process computes the results.

    If a worker dies, another one takes its place. The path that it had begun gets a Failure; one
    that it had not begun is given to another worker. Workers ignore interrupts. However this
    process ends, they end too. `on_audio` is called in this process.
    """

    def __init__(self, answer: Answer, count: int, on_audio: Callable[[float], None], *, fork: bool) -> None:
        self.count = count
        self._answer, self._on_audio, self._fork = answer, on_audio, fork
        self._workers: list[Worker] = []
        self._todo: deque[Item] = deque()  # taken and not begun
        self._attempts = 0
        self._watched_at = 0.0

    def results(
        self,
        inputs: Iterator[Item | None],
        *,
        stopped: Callable[[], bool] = lambda: False,
        give_up: Callable[[str], bool] = lambda path: False,
        pending: Sequence[int] = (),
    ) -> Iterator[Result]:
        """Yield the results of `inputs`, in their order.

        `inputs` yields None if the next input has not arrived yet. In that case the descriptors
        `pending` become readable when it has. An exception that `inputs` raises, or that is the
        result of an input, is raised at its position.

        Tasks become smaller towards the end, so that all workers finish at about the same time. If
        a worker takes longer than `left_s` of a file without any audio, it is ended, and the file
        gets a Failure `too-long`. Each second of audio adds to that time.

        `stopped()` is called before a task begins. If it returns true (then it must go on to do
        so), no further task begins, and the iteration ends after the results of those that have.
        `give_up(path)` is called while the next result is that of `path`. If it returns true, the
        iteration ends without that result.
        """
        line: deque[Item] = deque()  # taken, and the result not yielded
        self._todo.clear()
        room = float(self.count * LOOK_AHEAD or 1)
        while True:
            waiting = False
            while room > 0 and not waiting and (item := _next(inputs)) is not END:
                if item:
                    line.append(item)
                    room -= item.share
                    if item.result is None:
                        self._todo.append(item)
                waiting = not item
            self._begin(stopped)
            if line and (result := line[0].result) is not None:
                if isinstance(result, Exception):
                    raise result
                yield result
                room += line.popleft().share
            elif not any(worker.task for worker in self._workers) and (not (line or waiting) or stopped()):
                return  # whatever is in line was not begun because of a stop
            elif line and line[0] not in self._todo and give_up(line[0].path):
                return
            else:
                self._receive(pending if waiting else ())

    def _begin(self, stopped: Callable[[], bool]) -> None:
        """Give a task to each idle worker. If there are no workers, compute one result here."""
        while self._todo and ((worker := self._idle()) or not self.count) and not stopped():
            if not worker:
                item = self._todo.popleft()
                item.result = _outcome(self._answer, item.path, self._on_audio)
                return
            most = -(-len(self._todo) // (2 * self.count))
            shares = accumulate(item.share for item in islice(self._todo, most))
            together = sum(share <= 1 for share in shares) or 1
            try:
                worker.begin([self._todo.popleft() for _ in range(together)])
            except OSError:  # the worker has died, or the system lacks memory for the pipe
                self._replace(worker)

    def _idle(self) -> Worker | None:
        """Return a worker without a path, a new one if necessary; None if there is none."""
        idle = next((worker for worker in self._workers if not worker.task), None)
        if not idle and len(self._workers) < self.count:
            try:
                idle = Worker(self._answer, fork=self._fork)
                self._workers.append(idle)
            except (ImportError, OSError, RuntimeError):  # too many processes, threads or open files
                self.count = len(self._workers)
        return idle

    def _receive(self, also: Sequence[int]) -> None:
        """Wait for results. Return earlier after POLL_S, or if a descriptor of `also` can be read."""
        if not (self._workers or also):  # Windows cannot wait for the list of `Inputs`
            time.sleep(POLL_S)
            return
        from multiprocessing.connection import wait

        ready = wait([*(worker.pipe for worker in self._workers), *also], POLL_S)
        now = time.monotonic()
        tick_s, self._watched_at = min(now - self._watched_at, TICK_S), now
        for worker in list(self._workers):
            audio_s, item = worker.audio_s(), worker.in_progress()
            self._on_audio(audio_s)
            if item:
                refilled_s = min(item.left_s + audio_s * BUDGET_PER_AUDIO_S, BUDGET_S)
                item.left_s = max(item.left_s, refilled_s) - tick_s
            if worker.pipe in ready:
                try:
                    worker.receive()
                    self._attempts = 0
                except (EOFError, OSError):
                    self._replace(worker)
            elif item and item.left_s < 0:
                self._replace(worker, late=item)

    def _replace(self, worker: Worker, late: Item | None = None) -> None:
        """Remove a worker that has died, or that took too long for the item `late`.

        That item, or the one that it had begun last, gets a Failure. The rest of its task is done again.
        """
        self._workers.remove(worker)
        how = worker.end()
        self._on_audio(-worker.heard_s)
        if found := late or worker.in_progress():  # after `late` it may have begun the next one, which is not to blame
            found.result = _too_long(found.path) if late else _died(found.path, how)
        else:
            self._attempts += 1
            if self._attempts >= ATTEMPTS:
                self.count = len(self._workers)
        self._todo.extendleft(item for item in reversed(worker.task) if item is not found)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers at once, whatever they are doing."""
        while self._workers:
            self._workers.pop().end()


def _next(inputs: Iterator[Item | None]) -> Item | None:
    try:
        return next(inputs, END)
    except Exception as error:
        return Item(result=error)


def _died(path: str, how: str) -> Failure:
    hint = "" if path == STDIN else "; -j 1 tries it in this process"
    why = f"perhaps for want of memory, or by a crash in a decoder{hint}"
    return Failure(path, "worker-died", f"{path}: the process that read it ended ({how}), {why}.")


def _too_long(path: str) -> Failure:
    why = "it may be damaged, or come from a network that does not answer; -j 1 waits without a limit"
    return Failure(path, "too-long", f"{path}: reading it took too long without any audio: {why}.")


def _be_worker(answer: Answer, pipe: Connection, shared: memoryview[float], parent: int) -> NoReturn:
    """Serve in a worker process until the parent process ends or closes the pipe."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # for the parent process
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(ImportError, OSError, AttributeError):  # then it finishes its path first
            import ctypes  # NumPy has imported it, if this Python has it

            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() == parent:
            _serve(answer, pipe, shared)
        status = 0
    finally:
        os._exit(status)


def _serve(answer: Answer, pipe: Connection, shared: memoryview[float]) -> None:
    """Receive lists of paths and send their results, until the other end of the pipe is closed."""

    def on_audio(seconds: float) -> None:
        shared[AUDIO_S] += seconds

    with pipe, contextlib.suppress(EOFError, OSError):
        while True:
            results = []
            for path in pipe.recv():
                shared[BEGUN] += 1
                results.append(_picklable(_outcome(answer, path, on_audio)))
            pipe.send(results)


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
    if isinstance(result, OSError) and not resource_error(result):
        # Errors of inputs are MsEdgeErrors, and workers write nothing: a module could not be read.
        result = ImportError(str(result))
    import traceback  # only here: it costs half a millisecond of every start

    return resource_error(result) or RuntimeError("".join(traceback.format_exception(result)))
