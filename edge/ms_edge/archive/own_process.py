"""Run a function in a process of its own, since Ray ends its process if it loses its cluster.

Ray does that at once, in C++: no exception says why, and no code of ours runs any more.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, NoReturn

from ms_edge.errors import DeviceError, MsEdgeError
from ms_edge.jobs.interrupts import SIGNALS

EXPECTED = (MsEdgeError, OSError, ImportError, MemoryError, KeyboardInterrupt)  # of which `ms-edge` makes a sentence
TOGETHER_S = 1.0  # interrupts within this time are one: a terminal sends it to both processes, and one passes it on
UNEXPECTED = 1  # the exit status of Python after a traceback


def in_own_process(run: Callable[[], int], lost: str) -> int:
    """Run a function in a fork of this process, and return what it returns or raise what it raises.

    Interrupts are passed on. If this process ends, the fork is interrupted. Raises DeviceError with
    the message `lost` if the fork ends without an answer.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    answers, answer = os.pipe()
    held, hold = os.pipe()  # `held` ends when this process does
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until both processes have their handlers
    try:
        child = os.fork()
        if child == 0:
            os.close(answers)
            os.close(hold)
            _be_child(run, answer, held, mask)
        before = _passed_on(child)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for descriptor in (answer, held):
        os.close(descriptor)
    try:
        with open(answers, "rb") as pipe:
            content = pipe.read()
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(hold)
    if not content:
        killed = (
            f"The process of this run was ended (signal {-status}), perhaps for want of memory; --resume continues it."
        )
        raise DeviceError("ray-failed", killed if status < 0 else lost)
    found: int | BaseException = pickle.loads(content)
    if isinstance(found, BaseException):
        raise found
    return found


def _passed_on(child: int) -> dict[int, Any]:
    """Pass interrupts on to a process from now on. Return the handlers before."""

    def send(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    return _handled(send)


def _handled(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Set the handler of all interrupts that are not ignored (`nohup`). Return the handlers before."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, handler)
    return before


def _be_child(run: Callable[[], int], answer: int, held: int, mask: Iterable[int]) -> NoReturn:
    """Run the function, write what it returns or raises to the pipe `answer`, and exit.

    `mask` has the signals to block, in place of those that were blocked for the fork.
    """
    found: int | BaseException
    last_s = -TOGETHER_S

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last_s
        before, last_s = last_s, time.monotonic()
        if last_s - before > TOGETHER_S:
            raise KeyboardInterrupt

    def end_with_parent() -> None:
        os.read(held, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        _handled(interrupt)
        signal.signal(signal.SIGTERM, interrupt)  # for `end_with_parent`, also if it was ignored
        threading.Thread(target=end_with_parent, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        found = run()
    except EXPECTED as error:
        found = error
    except BaseException:
        traceback.print_exc()
        found = UNEXPECTED
    with contextlib.suppress(BaseException):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    with contextlib.suppress(OSError), open(answer, "wb") as pipe:
        pipe.write(_pickled(found))
    os._exit(0)


def _pickled(found: int | BaseException) -> bytes:
    """Return what pickle makes of an answer; of UNEXPECTED for an error that it cannot restore, which is printed."""
    try:
        content = pickle.dumps(found)
        pickle.loads(content)
        return content
    except Exception:  # another library's error can have a constructor of its own
        if isinstance(found, BaseException):
            traceback.print_exception(found)
        return pickle.dumps(UNEXPECTED)
