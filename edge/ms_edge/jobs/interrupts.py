"""Ctrl-C, SIGTERM and SIGHUP: the first one lets what is in progress finish, the second ends the process; a live stream ends at
once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, TypeVar

from ms_edge.jobs.ordered import POLL_S
from ms_edge.jobs.progress import Progress

INTERRUPTED = 130  # the exit status
GRACE_S = 1.0  # for standard input to end after an interrupt: who writes it was most likely interrupted too
# Within this time, two signals are one: `timeout` and a terminal that closes send theirs to a process and to its group.
TOGETHER_S = 0.1
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

Result = TypeVar("Result")


class Interrupts:
    """While entered, the first interrupt (Ctrl-C, SIGTERM, SIGHUP) asks to stop, the second ends the process at once."""

    def __init__(self, progress: Progress) -> None:
        self.unfinished = False
        self.written = 0
        self.over = False  # nobody waits for results any more
        self._progress = progress
        self._asked = False
        self._asked_at = 0.0
        self._before: dict[int, Any] = {}

    def stopped(self) -> bool:
        """Whether to begin nothing more; asked only where there is more to begin."""
        self.unfinished |= self._asked
        return self._asked

    def limited(self, answer: Callable[[], Sequence[Result]]) -> Sequence[Result | None]:
        """What comes of an input that may never end; None of it where it does not end in time after an interrupt, or all is over."""
        from concurrent.futures import Future

        found: Future[Sequence[Result]] = Future()

        def run() -> None:
            try:
                found.set_result(answer())
            except BaseException as error:
                found.set_exception(error)

        thread = threading.Thread(target=run, name="ms-edge-stdin", daemon=True)  # which may wait for input for ever
        try:
            thread.start()
        except RuntimeError:  # the system grants no more threads
            return answer()
        left_s = GRACE_S
        while thread.is_alive() and left_s > 0 and not self.over:
            thread.join(POLL_S)
            left_s -= POLL_S * self._asked
        if found.done():
            return found.result()
        self.unfinished = True
        return [None]

    def __enter__(self) -> Interrupts:
        self._before = _handled_by(self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked:
            if now - self._asked_at > TOGETHER_S:
                os._exit(INTERRUPTED)  # threads may be deep in a file of ten hours; what was written is flushed
            return
        self._asked, self._asked_at = True, now
        with contextlib.suppress(OSError):  # of a terminal that has been closed
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), b"\nms-edge: finishing what is in progress; once more to stop at once.\n")


def _handled_by(handle: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Let a function handle the signals that ask to stop; return what handled them before.

    SIGTERM and SIGHUP stay ignored where they are (`nohup`). Outside the main thread nothing is done: no signal reaches it.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handled = signal.getsignal(number)
            if handled is not None and (number == signal.SIGINT or handled != signal.SIG_IGN):
                before[number] = signal.signal(number, handle)
    return before


@contextlib.contextmanager
def raised_for_certain() -> Iterator[None]:
    """An interrupt that comes in a callback of libsndfile is told there, lost, and ends the stream as its end would: raise it then."""
    if threading.current_thread() is not threading.main_thread():  # which none comes to
        yield
        return
    came = False
    tell = sys.unraisablehook

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    before = _handled_by(handle)
    sys.unraisablehook = lambda lost: None if lost.exc_type is KeyboardInterrupt else tell(lost)
    try:
        yield
    finally:
        sys.unraisablehook = tell
        for number, handled in before.items():
            signal.signal(number, handled)
        if came:
            raise KeyboardInterrupt
