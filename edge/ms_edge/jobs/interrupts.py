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
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

INTERRUPTED = 130  # the exit status
GRACE_S = 1.0  # for standard input to end after an interrupt: who writes it was most likely interrupted too
# Within this time, two signals are one: `timeout` and a terminal that closes send theirs to a process and to its group.
TOGETHER_S = 0.1
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupts:
    """While entered, the first interrupt (Ctrl-C, SIGTERM, SIGHUP) asks to stop, the second ends the process at once.

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
        """Return whether to wait no longer for an input that may never end. Call it only if there is one."""
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
                os._exit(INTERRUPTED)  # a file of ten hours may be in progress; all results so far are flushed
            return
        self._asked_at = now
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
