"""How far a long run is, on standard error: only on a terminal, only after a second, never in the way of other lines."""

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
    """Counts files and the audio in them. `total` files are expected, None where nobody knows yet."""

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
        """Print a line of trouble with one input."""
        if not self._quiet:
            with self.aside(), contextlib.suppress(OSError):  # of a terminal that has been closed
                print(f"ms-edge: {printable(message)}", file=sys.stderr, flush=True)

    def tell(self, message: str) -> None:
        """Print a line for those who asked for more."""
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
        """Take the bar away for good, and sum up for those who asked for more."""
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
            self._bar.start_t -= now - self._began  # tqdm counts from its own beginning
        self._bar.n = self.files
        speed = self.audio_s / (now - self._began)
        self._bar.set_postfix_str(f"{duration(self.audio_s)} of audio, {speed:,.0f} x real time", refresh=False)
        self._bar.refresh()

    @contextlib.contextmanager
    def _while_shown(self) -> Iterator[None]:
        """Do something with the bar, and forget it if its terminal has been closed: that must not end the run."""
        try:
            yield
        except OSError:
            self._shown = False
            if self._bar is not None:
                self._bar.disable = True  # or it would write once more as it is deleted
                self._bar = None
