"""Interrupts: Ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
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

    With `at_once` the first one ends the process. It does not raise KeyboardInterrupt: Python cannot
    raise an exception through a callback of libsndfile, which would take the failed read for the
    end of the stream. Everything printed must have been flushed.

    `unfinished` becomes true if something was left undone because of an interrupt. `message` is what
    a terminal shows after the first one.
    """

    def __init__(
        self,
        *,
        at_once: bool = False,
        message: str = "finishing the files in progress; interrupt again to stop at once.",
    ) -> None:
        self.unfinished = False
        self._message = f"\nms-edge: {message}\n".encode()
        self._at_once = at_once
        self._asked_at = math.inf
        self._before: dict[int, Any] = {}

    def stopped(self) -> bool:
        """Return whether to begin nothing more. Call it only if there is more to begin."""
        asked = self._asked_at < math.inf
        self.unfinished |= asked
        return asked

    def gave_up(self) -> bool:
        """Return whether to stop waiting for an input that may never end. Call it only then."""
        over = time.monotonic() > self._asked_at + GRACE_S
        self.unfinished |= over
        return over

    def __enter__(self) -> Interrupts:
        # Python handles signals in the main thread only. SIGTERM and SIGHUP stay ignored if they
        # are (`nohup`).
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before is not None and (number == signal.SIGINT or before != signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        with contextlib.suppress(OSError):  # the terminal has been closed
            if self._at_once:
                os.write(sys.stderr.fileno(), b"ms-edge: interrupted; what was printed so far is complete.\n")
            elif self._asked_at == math.inf and sys.stderr.isatty():
                os.write(sys.stderr.fileno(), self._message)
        if self._at_once or now > self._asked_at + TOGETHER_S:
            os._exit(INTERRUPTED)  # a long file may be in progress; the results are flushed
        self._asked_at = min(self._asked_at, now)
