"""Interrupts: Ctrl-C, SIGTERM and SIGHUP.

During `ms-edge classify` the first one lets the files in progress finish, and the second ends the
process. A live stream ends at the first one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

INTERRUPTED = 130  # the exit status
GRACE_S = 1.0  # for standard input to end: its writer probably got the interrupt too
# Two signals within this time count as one: `timeout` and a terminal that closes send a signal to
# the process and again to its group.
TOGETHER_S = 0.1
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupts:
    """A context in which the first interrupt asks to stop and the second ends the process.

    `unfinished` becomes true if something was left undone because of an interrupt.
    """

    def __init__(self) -> None:
        self.unfinished = False
        self._asked_at: float | None = None
        self._before: dict[int, Any] = {}

    def stopped(self) -> bool:
        """Return whether to begin nothing more. Call it only if there is more to begin."""
        self.unfinished |= self._asked_at is not None
        return self._asked_at is not None

    def gave_up(self) -> bool:
        """Return whether to stop waiting for an input that may never end. Call it only then."""
        over = self._asked_at is not None and time.monotonic() > self._asked_at + GRACE_S
        self.unfinished |= over
        return over

    def __enter__(self) -> Interrupts:
        self._before = _handled_by(self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked_at is not None:
            if now - self._asked_at > TOGETHER_S:
                os._exit(INTERRUPTED)  # a long file may be in progress; the results are flushed
            return
        self._asked_at = now
        with contextlib.suppress(OSError):  # the terminal has been closed
            if sys.stderr.isatty():
                message = b"\nms-edge: finishing the files in progress; interrupt again to stop at once.\n"
                os.write(sys.stderr.fileno(), message)


def _handled_by(handle: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Let a function handle the signals that ask to stop. Return their handlers so far.

    SIGTERM and SIGHUP stay ignored if they are (`nohup`). Outside the main thread this does
    nothing, since Python handles signals in the main thread only.
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
    """Raise KeyboardInterrupt at the end if a signal came, even if the exception was lost.

    Python cannot raise it through a callback of libsndfile. It prints the exception there, and
    libsndfile takes the failed read for the end of the stream.
    """
    if threading.current_thread() is not threading.main_thread():  # it gets no signals
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
