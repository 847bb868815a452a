"""Recordings answered for in processes of their own: Python runs one thread at a time, and of a short file a third is Python."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from ms_edge.errors import MsEdgeError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess

Result = TypeVar("Result")
# What is said of an item, given what is to be told how much audio has been read.
Answer = Callable[[str, Callable[[float], None]], Result]

TOLD_S = 120.0  # of audio: how much is read before it is told, for a message costs as much as a second of audio

ATTEMPTS = 3  # to give items to a worker whose process dies before it has them


def can_fork() -> bool:
    """Whether a copy of this process works: on Linux, with no other thread of Python's that may hold a lock just now."""
    alone = threading.active_count() == 1 and not multiprocessing.current_process().daemon
    return sys.platform == "linux" and alone


class WorkerError(Exception):
    """The process that was to answer has ended instead: killed, or crashed in a C library."""


class Workers(Generic[Result]):
    """`count` copies of this process, which share what it has loaded; `answer` is what each of them does with an item.

    Call it from up to `count` threads. Where a process ends, another takes its place: each is begun by one that does nothing else,
    has no threads, and so can be copied at any time. Where no process can be had, this one answers. Interrupts are for the process
    that this is a copy of; workers end when it does, however it does.
    """

    def __init__(self, count: int, answer: Answer[Result]) -> None:
        self._answer = answer
        self._numbers = itertools.count()
        self._idle: SimpleQueue[tuple[ForkProcess, Connection] | None] = SimpleQueue()  # None: this process
        context = multiprocessing.get_context("fork")
        ours: list[Connection] = []
        for _ in range(count):
            try:
                pipe, theirs = context.Pipe()
                ours.append(pipe)
                # Copies hold all that is open: while any of them has our end, none is told that we are gone.
                process = context.Process(target=_begin, args=(answer, theirs, tuple(ours)), daemon=True)
                process.start()
                theirs.close()
            except OSError:  # as many as the system grants
                self._idle.put(None)
            else:
                self._idle.put((process, pipe))

    def __call__(self, items: Sequence[str], on_audio: Callable[[float], None]) -> list[Result | WorkerError]:
        """What `answer` says of each item, or a WorkerError where a process ended of it; raises what `answer` raises."""
        worker = self._idle.get()
        try:
            if worker is None:
                return [self._answer(item, on_audio) for item in items]
            found = self._asked(worker[1], list(items), on_audio)
            if found is None:
                worker = None
                return [WorkerError("killed") for _ in items]
        finally:
            self._idle.put(worker)
        for each in found:
            if isinstance(each, Exception) and not isinstance(each, WorkerError):
                raise each
        return found  # type: ignore[return-value]

    def _asked(
        self, pipe: Connection, items: list[str], on_audio: Callable[[float], None]
    ) -> list[Result | Exception] | None:
        """What a worker says of items, or why it died of one; None where nobody is there any more."""
        number = next(self._numbers)
        taken, attempts = False, 0
        try:
            pipe.send((number, items))
            while attempts < ATTEMPTS:
                kind, of, seconds, found = pipe.recv()
                if kind == "died":
                    if taken:
                        return [WorkerError(found)] if len(items) == 1 else self._asked_singly(pipe, items, on_audio)
                    # Before it had them, or just then: so once more, and what is said of them twice is heard once.
                    attempts += 1
                    pipe.send((number, items))
                elif of == number:
                    taken = True
                    on_audio(seconds)
                    if kind == "answer":
                        answers: list[Result | Exception] = found
                        return answers
        except (EOFError, ConnectionError):
            pass
        pipe.close()
        return None

    def _asked_singly(
        self, pipe: Connection, items: list[str], on_audio: Callable[[float], None]
    ) -> list[Result | Exception] | None:
        """`_asked` where a worker died of one of the items, and nobody knows of which."""
        answers: list[Result | Exception] = []
        for item in items:
            answer = self._asked(pipe, [item], on_audio)
            if answer is None:
                return None
            answers += answer
        return answers

    def __enter__(self) -> Workers[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while not self._idle.empty():
            if worker := self._idle.get():
                process, pipe = worker
                pipe.close()
                process.join()


def _begin(answer: Answer[Result], pipe: Connection, others: tuple[Connection, ...]) -> None:
    """In a process of its own: begin one that answers, and another where it dies, until one ends because nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for other in others:
        other.close()
    with contextlib.suppress(OSError):
        while True:
            if (process := os.fork()) == 0:
                status = 1
                try:
                    _serve(answer, pipe)
                    status = 0
                finally:
                    os._exit(status)
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if status == 0:
                return
            pipe.send(("died", "", 0.0, f"signal {-status}" if status < 0 else f"status {status}"))


def _serve(answer: Answer[Result], pipe: Connection) -> None:
    """Answer one call after another; return where nobody is there to ask or to hear it."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            number, items = pipe.recv()
            pipe.send(("taken", number, 0.0, None))
            told = _Told(pipe, number)
            found: list[Result | Exception] = []
            for item in items:
                try:
                    found.append(answer(item, told))
                except MsEdgeError as error:
                    found.append(error)
                except Exception:  # which may be of a kind that cannot be sent
                    found.append(RuntimeError(traceback.format_exc()))
            pipe.send(("answer", number, told.rest_s, found))


class _Told:
    """Seconds of audio, sent on when there are enough of them."""

    def __init__(self, pipe: Connection, number: int) -> None:
        self.rest_s = 0.0
        self._pipe, self._number = pipe, number

    def __call__(self, seconds: float) -> None:
        self.rest_s += seconds
        if self.rest_s >= TOLD_S:
            self._pipe.send(("audio", self._number, self.rest_s, None))
            self.rest_s = 0.0
