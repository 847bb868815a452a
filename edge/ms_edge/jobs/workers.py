"""Recordings answered for in processes of their own: Python runs one thread at a time, and of a short file a third is Python."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ms_edge.errors import MsEdgeError, resource_error

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess

Result = TypeVar("Result")
# What is said of an item, given what is to be told how much audio has been read.
Answer = Callable[[str, Callable[[float], None]], Result]

TOLD_S = 120.0  # of audio: how much is read before it is told, for a message costs as much as a second of audio

ATTEMPTS = 100  # to give items to processes that die before they begin with them, or have died while they were idle
FORK_S = 5.0  # to try for where the system grants no process in the place of one that has ended


def can_fork() -> bool:
    """Whether a copy of this process works: on Linux, with no other thread of Python's that may hold a lock just now."""
    alone = threading.active_count() == 1 and not multiprocessing.current_process().daemon
    return sys.platform == "linux" and alone


class WorkerError(Exception):
    """The process that was to answer has ended instead: killed, or crashed in a C library."""


class Workers(Generic[Result]):
    """`count` copies of this process, which share what it has loaded; `answer` is what each of them does with an item.

    Call it from up to `count` threads. Where a process ends, another takes its place. Where none can be had, this one answers.
    Interrupts are for the process that this is a copy of; workers are killed when it ends, however it does.
    """

    def __init__(self, count: int, answer: Answer[Result]) -> None:
        self._answer = answer
        self._idle: SimpleQueue[_Worker | None] = SimpleQueue()  # None: this process
        ours: list[socket.socket] = []
        for _ in range(count):
            try:
                self._idle.put(_Worker(answer, ours))
            except OSError:  # as many as the system grants
                self._idle.put(None)

    def __call__(self, items: Sequence[str], on_audio: Callable[[float], None]) -> list[Result | Exception]:
        """What `answer` says of each item, or raises; a WorkerError where a process ended of it."""
        worker = self._idle.get()
        try:
            if worker is None:
                return self._here(items, on_audio)
            found: list[Result | Exception] | None = worker.asked(list(items), on_audio)
            if worker.gone:
                worker = None
            return found or self._here(items, on_audio)
        finally:
            self._idle.put(worker)

    def _here(self, items: Sequence[str], on_audio: Callable[[float], None]) -> list[Result | Exception]:
        return [_found(self._answer, item, on_audio) for item in items]

    def __enter__(self) -> Workers[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while not self._idle.empty():
            if worker := self._idle.get():
                worker.end()


class _Worker:
    """A process that answers, and one that begins another in its place: it does nothing else, has no threads, and so can be copied
    at any time. Each that answers has a pipe of its own, whose other end comes from the one that begins it, over a socket.

    Raises OSError where the system grants no process.
    """

    def __init__(self, answer: Answer[Any], ours: list[socket.socket]) -> None:
        self.gone = False  # nobody begins another
        self._pipe: Connection | None = None
        self._begun, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.append(self._begun)
        try:
            # Copies hold all that is open: while any of them has our end, none is told that we are gone.
            self._process: ForkProcess = multiprocessing.get_context("fork").Process(
                target=_begin, args=(answer, theirs, tuple(ours)), daemon=True
            )
            self._process.start()
        except OSError:
            ours.remove(self._begun)
            self._begun.close()
            raise
        finally:
            theirs.close()

    def asked(self, items: list[str], on_audio: Callable[[float], None]) -> list[Any] | None:
        """What is said of each item, a WorkerError of one that a process ended of; None where nobody is there to begin with them.

        Of several, who ended of them is asked one by one; where nobody is there to ask, each is a WorkerError.
        """
        how = ""
        for _ in range(ATTEMPTS):
            if not self._pipe and not self._next():
                return None
            assert self._pipe
            try:
                self._pipe.send(items)
            except OSError:  # it died before, and of nothing that was asked
                how = self._next() or "killed"
                continue
            begun, answers = self._heard(len(items) > 1, on_audio)
            if answers is not None:
                return answers
            how = self._next() or "killed"
            if begun and len(items) > 1:
                return [answer for item in items for answer in self.asked([item], on_audio) or [WorkerError(how)]]
            if begun:
                break
        return [WorkerError(how) for _ in items]

    def _heard(self, several: bool, on_audio: Callable[[float], None]) -> tuple[bool, list[Any] | None]:
        """Whether the process began with what it has been sent, and what it says of it if it does not end before."""
        assert self._pipe
        begun, heard_s = False, 0.0
        answers: list[Any] | None = None
        while answers is None:
            try:
                seconds, answers = self._pipe.recv()
            except (EOFError, OSError):
                return begun, None
            begun, heard_s = True, heard_s + seconds
            if several and answers is None:  # it may all be said once more
                continue
            try:
                on_audio(heard_s)
            except BaseException:  # what it goes on to say is nobody's answer
                self._pipe.close()
                self._pipe = None
                raise
            heard_s = 0.0
        return True, answers

    def _next(self) -> str | None:
        """Take the pipe of the process that has been begun; returns how the one before it ended, or None where there is no other."""
        from multiprocessing.connection import Connection

        if self._pipe:
            self._pipe.close()
        self._pipe = None
        with contextlib.suppress(OSError):
            how, descriptors, _, _ = socket.recv_fds(self._begun, 100, 1)
            if descriptors:
                os.set_inheritable(descriptors[0], False)
                self._pipe = Connection(descriptors[0])
                return how.decode()
        self.gone = True
        return None

    def end(self) -> None:
        """Let it end what it does, and wait for that."""
        if self._pipe:
            self._pipe.close()
        self._begun.close()
        self._process.join()


def _begin(answer: Answer[Any], begun: socket.socket, others: tuple[socket.socket, ...]) -> None:
    """In a process of its own: begin one that answers, and another where it dies, until one ends because nobody asks any more."""
    for ours in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # which a whole group of processes gets
        signal.signal(ours, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for other in others:
        other.close()
    how, died = "at first", False
    with contextlib.suppress(OSError):
        while True:
            pipe, theirs = multiprocessing.Pipe()
            ended, alive = os.pipe()  # the other end of the first goes with the process
            if (process := _fork(FORK_S if died else 0.0)) == 0:
                status = 1
                try:
                    os.close(ended)
                    pipe.close()
                    begun.close()
                    _serve(answer, theirs)
                    status = 0
                finally:
                    os._exit(status)
            os.close(alive)
            theirs.close()
            socket.send_fds(begun, [how.encode()], [pipe.fileno()])
            pipe.close()
            if deserted := _deserted(begun, ended):
                os.kill(process, signal.SIGKILL)
            os.close(ended)
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if status == 0 or deserted:
                return
            how, died = f"signal {-status}" if status < 0 else f"status {status}", True


def _deserted(begun: socket.socket, ended: int) -> bool:
    """Wait until nobody asks any more, or the process at the other end of a pipe has ended; returns whether it was the former."""
    poll = select.poll()
    poll.register(begun, select.POLLIN)
    poll.register(ended, select.POLLIN)
    return any(descriptor != ended for descriptor, _ in poll.poll())


def _fork(patience_s: float) -> int:
    until = time.monotonic() + patience_s
    while True:
        try:
            return os.fork()
        except OSError:  # memory or processes may be short for a moment, as when something has just been killed for it
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _serve(answer: Answer[Any], pipe: Connection) -> None:
    """Answer one call after another; return where nobody is there to ask or to hear it.

    What is sent is how much audio has been read since it was last told, and the answers, when they are there.
    """
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            items = pipe.recv()
            pipe.send((0.0, None))
            told = _Told(pipe)
            found = [_found(answer, item, told) for item in items]
            pipe.send((told.rest_s, found))


def _found(answer: Answer[Result], item: str, on_audio: Callable[[float], None]) -> Result | Exception:
    try:
        return answer(item, on_audio)
    except MsEdgeError as error:
        return error
    except Exception as error:  # which may be of a kind that cannot be sent
        return resource_error(error) or RuntimeError(traceback.format_exc())


class _Told:
    """Seconds of audio, sent on when there are enough of them."""

    def __init__(self, pipe: Connection) -> None:
        self.rest_s = 0.0
        self._pipe = pipe

    def __call__(self, seconds: float) -> None:
        self.rest_s += seconds
        if self.rest_s >= TOLD_S:
            self._pipe.send((self.rest_s, None))
            self.rest_s = 0.0
