"""`ms-edge classify`: run a classifier on inputs and write the results."""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Callable, Iterator
from typing import Protocol

from ms_edge.audio.opening import STDIN
from ms_edge.audio.raw import RawFormat
from ms_edge.audio.source import Channels
from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError, MsEdgeError
from ms_edge.jobs.inputs import Inputs, stdin_may_wait
from ms_edge.jobs.interrupts import INTERRUPTED, Interrupts
from ms_edge.jobs.progress import Progress
from ms_edge.jobs.workers import BUDGET_S, Answer, Item, Result, Workers, can_fork
from ms_edge.model.providers import CPU
from ms_edge.output.journal import ResumableOutput
from ms_edge.results import Classification, Failure

DONE, FAILED = 0, 1
SLOWEST_BYTES_S = 100_000  # how fast a whole file can be read from the slowest network
TOGETHER, TOGETHER_BYTES = 8, 1 << 22  # small files in one task: at most so many, of so many bytes


class Destination(Protocol):
    """Where the results of a run go; `Output` and `GrowingOutput` are two."""

    def checked(self, given: str | Failure) -> str | Failure:
        """Return the input if it may be read, otherwise a Failure."""

    def write(self, results: Result) -> object:
        """Write the results of an input. Return them, or a Failure if they cannot be written."""

    def finish(self) -> None:
        """Do what is left to do after the last result."""

    def abandon(self) -> str:
        """End an incomplete run. Return a clause that says where the results are, or ""."""


def classify(
    inputs: Inputs,
    classifier: Classifier,
    output: Destination,
    progress: Progress,
    *,
    jobs: int,
    raw: RawFormat | None = None,
    channels: Channels = None,
) -> int:
    """Write the results of each input, in the order of the inputs, and return the exit status.

    An input has one result, or one for each channel if `channels` is "each". See `run`.
    """

    def answer(path: str, on_audio: Callable[[float], None]) -> tuple[Classification, ...] | Failure:
        try:
            if channels == "each":
                return classifier.classify_channels(path, raw=raw, on_audio=on_audio)
            return (classifier.classify(path, channel=channels, raw=raw, on_audio=on_audio),)
        except AudioError as error:
            return Failure(path, error.code, error.message)

    def done(path: str) -> str | None:
        if not isinstance(output, ResumableOutput):
            return None
        return output.done(path, settings, classifier.model.sha256, classifier.model.provider)

    settings = classifier.settings(raw, channels)
    return run(inputs, answer, output, progress, jobs=jobs, provider=classifier.model.provider, done=done)


def run(
    inputs: Inputs,
    answer: Answer,
    output: Destination,
    progress: Progress,
    *,
    jobs: int,
    provider: str,
    done: Callable[[str], str | None] = lambda path: None,
) -> int:
    """Write `answer(path, on_audio)` of each input, in their order, and return the exit status.

    `jobs` workers compute the answers; with 0 this process does. They are processes, or threads if
    the `provider` of the model is a GPU or this process cannot be forked. `done` returns the lines of
    an input that an earlier run has finished. The first interrupt (Ctrl-C, SIGTERM, SIGHUP) lets the
    files in progress finish, the second ends the process.
    """
    interrupts = Interrupts()
    fork = provider == CPU and can_fork()
    try:
        with interrupts, Workers(answer, jobs, progress.audio, fork=fork) as workers:
            results = workers.results(
                _undone(inputs, output, done),
                stopped=interrupts.stopped,
                give_up=lambda path: path == STDIN and stdin_may_wait() and interrupts.gave_up(),
                pending=inputs.pending,
            )
            for result in results:
                with progress.aside():
                    written = output.write(result)
                if isinstance(written, Failure):
                    progress.complain(written.message)
                progress.file(isinstance(written, Failure))
            if not interrupts.unfinished:
                output.finish()
        if skipped := inputs.skipped():
            progress.complain(skipped)
        if isinstance(output, ResumableOutput) and not interrupts.unfinished and (count := output.left_out()):
            records = "the record of 1 recording" if count == 1 else f"the records of {count:,} recordings"
            progress.complain(f"left out {records} of the earlier run that this run was not given.")
    except (MsEdgeError, OSError):
        with contextlib.suppress(OSError):
            if kept := output.abandon():
                progress.complain(f"{kept}.")
        raise
    finally:
        progress.finish()
    if interrupts.unfinished:
        resume = "; the same command with --resume does the rest" if isinstance(output, ResumableOutput) else ""
        kept = output.abandon() or "what was printed or written so far is complete"
        progress.complain(f"interrupted after {progress.files} results: {kept}{resume}.")
        return INTERRUPTED
    return FAILED if progress.failed else DONE


def _undone(inputs: Inputs, output: Destination, done: Callable[[str], str | None]) -> Iterator[Item | None]:
    """Yield the inputs. Failures and the records of an earlier run are results already."""
    for given in inputs:
        item = None if given is None else output.checked(given)
        if item is None:
            yield None
        elif isinstance(item, Failure):
            yield Item(result=item)
        elif lines := done(item):
            yield Item(result=lines)
        else:
            yield _item(item)


def _item(path: str) -> Item:
    """Return an input with its share of a task and its budget.

    Small files share a task, because a task costs as much as a second of audio. Some formats are
    read whole before they are decoded, so a file may take as long as reading it takes. Standard
    input may wait as long as it likes.
    """
    if path == STDIN:
        return Item(path, 1.0, math.inf)
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # classifying it gives a Failure
        return Item(path)
    share = min(max(found.st_size / TOGETHER_BYTES, 1 / TOGETHER), 1.0)
    if not (stat.S_ISREG(found.st_mode) and found.st_size):  # a file in /proc may never end
        share = 1.0
    return Item(path, share, BUDGET_S + found.st_size / SLOWEST_BYTES_S)
