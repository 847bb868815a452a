"""Recordings answered for in processes of their own: Python runs one thread at a time, and of a short file a third is Python."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, ForkProcess
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

Result = TypeVar("Result")
Answer = Callable[
    [str, Callable[[float], None]], Result
]  # an item, and what is to be told how much audio has been read

TOLD_S = 30.0  # of audio: how much is read before it is told, for a message costs as much as a second of audio


def can_fork() -> bool:
    """Whether a copy of this process works: on Linux, and with no other thread that may hold a lock just now."""
    return sys.platform == "linux" and threading.active_count() == 1


class WorkerError(Exception):
    """The process that was to answer has ended instead: killed, or crashed in a C library."""


class Workers(Generic[Result]):
    """`count` copies of this process, which share what it has loaded; `answer` is what each of them does with an item.

    Call it from up to `count` threads. An item whose process ends raises `WorkerError`, and another process takes its place. Interrupts
    are for the process that this is a copy of; workers end when it does, however it does.
    """

    def __init__(self, count: int, answer: Answer[Result]) -> None:
        self._context: ForkContext = multiprocessing.get_context("fork")
        self._answer = answer
        self._lock = threading.Lock()
        self._ours: set[Connection] = set()
        self._idle: SimpleQueue[tuple[ForkProcess, Connection]] = SimpleQueue()
        for _ in range(count):
            self._idle.put(self._begun())

    def __call__(self, item: str, on_audio: Callable[[float], None]) -> Result:
        """What `answer` says of an item; raises what it raises."""
        process, pipe = self._idle.get()
        try:
            pipe.send(item)
            while isinstance(found := pipe.recv(), float):
                on_audio(found)
        except (EOFError, OSError):
            self._forget(pipe)
            process.join()
            status = process.exitcode
            process, pipe = self._begun()
            raise WorkerError(f"signal {-status}" if status and status < 0 else f"status {status}") from None
        finally:
            self._idle.put((process, pipe))
        answer, rest_s = found
        on_audio(rest_s)
        if isinstance(answer, Exception):
            raise answer
        result: Result = answer
        return result

    def __enter__(self) -> Workers[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while not self._idle.empty():
            process, pipe = self._idle.get()
            self._forget(pipe)
            process.join()

    def _begun(self) -> tuple[ForkProcess, Connection]:
        with self._lock:
            ours, theirs = self._context.Pipe()
            self._ours.add(ours)
            # Copies hold all that is open: while any of them has our end, none is told that we are gone.
            process = self._context.Process(target=_serve, args=(self._answer, theirs, set(self._ours)), daemon=True)
            process.start()
            theirs.close()
        return process, ours

    def _forget(self, pipe: Connection) -> None:
        with self._lock:
            self._ours.remove(pipe)
            pipe.close()


def _serve(answer: Answer[Result], pipe: Connection, others: set[Connection]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in others:
        other.close()
    try:
        while True:
            told = _Told(pipe)
            try:
                found: Result | Exception = answer(pipe.recv(), told)
            except (EOFError, BrokenPipeError):
                return
            except Exception as error:
                found = error
            pipe.send((found, told.rest_s))
    except OSError:  # nobody is there to hear it
        return


class _Told:
    """Seconds of audio, sent on when there are enough of them."""

    def __init__(self, pipe: Connection) -> None:
        self.rest_s = 0.0
        self._pipe = pipe

    def __call__(self, seconds: float) -> None:
        self.rest_s += seconds
        if self.rest_s >= TOLD_S:
            self._pipe.send(self.rest_s)
            self.rest_s = 0.0
