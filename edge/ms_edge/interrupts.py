"""Ctrl-C: the first one lets what is in progress finish, the second ends the process; a live stream ends at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TypeVar

from ms_edge.batch import POLL_S
from ms_edge.progress import Progress

INTERRUPTED = 130  # the exit status
GRACE_S = 1.0  # for standard input to end after an interrupt: who writes it was most likely interrupted too

Result = TypeVar("Result")


class Interrupts:
    """While entered, the first interrupt (Ctrl-C) asks to stop, the second ends the process at once."""

    def __init__(self, progress: Progress) -> None:
        self.unfinished = False
        self.written = 0
        self.over = False  # nobody waits for results any more
        self._progress = progress
        self._asked = False
        self._before: object = None

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
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            os._exit(INTERRUPTED)  # threads may be deep in a file of ten hours; what was written is flushed
        self._asked = True
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\nms-edge: finishing what is in progress; once more to stop at once.\n")


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

    before = signal.signal(signal.SIGINT, handle)
    sys.unraisablehook = lambda lost: None if lost.exc_type is KeyboardInterrupt else tell(lost)
    try:
        yield
    finally:
        sys.unraisablehook = tell
        signal.signal(signal.SIGINT, before)
        if came:
            raise KeyboardInterrupt
