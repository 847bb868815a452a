"""A progress bar on standard error: only on a terminal, and only for runs of more than a second."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ms_edge.output.writers import duration, printable

if TYPE_CHECKING:
    from tqdm import tqdm

DELAY_S, INTERVAL_S = 1.0, 0.1


class Progress:
    """Counts of files and of the audio in them.

    `total` is the number of files, None if it is not known.
    `quiet` hides everything, `verbose` shows a summary and the messages of `tell`.
    """

    def __init__(self, total: int | None, *, quiet: bool = False, verbose: bool = False) -> None:
        self.files = self.failed = 0
        self.audio_s = 0.0
        self._total, self._quiet, self._verbose = total, quiet, verbose
        self._shown = not quiet and sys.stderr.isatty()
        self._began = time.monotonic()
        self._next = self._began + DELAY_S
        self._bar: tqdm[None] | None = None

    def audio(self, seconds: float) -> None:
        """Count so many more seconds of audio that have been read."""
        self.audio_s += seconds
        self._refresh()

    def file(self, failed: bool) -> None:
        """Count one more file that is done."""
        self.files += 1
        self.failed += failed
        self._refresh()

    def complain(self, message: str) -> None:
        """Print a line about a problem."""
        if not self._quiet:
            with self.aside(), contextlib.suppress(OSError):  # the terminal has been closed
                print(f"ms-edge: {printable(message)}", file=sys.stderr, flush=True)

    def tell(self, message: str) -> None:
        """Print a line if the output is verbose."""
        if self._verbose:
            self.complain(message)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Remove the bar while something else is printed."""
        if self._bar is not None:
            with self._while_shown():
                self._bar.clear()
        yield

    def finish(self) -> None:
        """Remove the bar, and print a summary if the output is verbose."""
        if self._bar is not None:
            with self._while_shown():
                self._bar.leave = False
                self._bar.close()
                self._bar = None
        took_s = max(time.monotonic() - self._began, 1e-9)
        counted = f"{self.files} file{'' if self.files == 1 else 's'}, {self.failed} failed"
        pace = f"{duration(self.audio_s)} of audio in {duration(took_s)} ({self.audio_s / took_s:,.0f} x real time)"
        self.tell(f"{counted}, {pace}")

    def _refresh(self) -> None:
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        self._next = now + INTERVAL_S
        with self._while_shown():
            self._show(now)

    def _show(self, now: float) -> None:
        if self._bar is None:
            from tqdm import tqdm

            tqdm.monitor_interval = 0  # no thread: this process may still fork workers
            self._bar = tqdm(
                total=self._total,
                unit=" files",
                file=sys.stderr,
                dynamic_ncols=True,
                initial=self.files,
                bar_format=None
                if self._total is None
                else "{l_bar}{bar}| {n_fmt}/{total_fmt} files [{elapsed}<{remaining}{postfix}]",
            )
            self._bar.start_t -= now - self._began  # tqdm counts from its own start
        self._bar.n = self.files
        speed = self.audio_s / (now - self._began)
        self._bar.set_postfix_str(f"{duration(self.audio_s)} of audio, {speed:,.0f} x real time", refresh=False)
        self._bar.refresh()

    @contextlib.contextmanager
    def _while_shown(self) -> Iterator[None]:
        """Change the bar. If the terminal has been closed, drop the bar: the run goes on."""
        try:
            yield
        except OSError:
            self._shown = False
            if self._bar is not None:
                self._bar.disable = True  # otherwise it would write once more when it is deleted
                self._bar = None
