"""`ms-edge classify` and `ms-edge stream`: run a classifier on inputs and write the results."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator

from ms_edge.audio.file import open_file
from ms_edge.audio.opening import STDIN
from ms_edge.audio.raw import RawFormat
from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError, MsEdgeError
from ms_edge.jobs.inputs import Inputs, stdin_may_wait
from ms_edge.jobs.interrupts import INTERRUPTED, Interrupts, raised_for_certain
from ms_edge.jobs.ordered import Finished, InOrder
from ms_edge.jobs.progress import Progress
from ms_edge.jobs.workers import Workers, can_fork
from ms_edge.model.providers import CPU
from ms_edge.output.destination import Output, TreeOutput
from ms_edge.output.journal import ResumableOutput
from ms_edge.output.writers import LIVE_HEADER, live_line
from ms_edge.results import SCHEMA, Classification, Failure

DONE, FAILED = 0, 1
TOGETHER, TOGETHER_BYTES = 8, 1 << 22  # small files in one task: at most so many, of so many bytes


def classify(
    inputs: Inputs,
    classifier: Classifier,
    output: Output | TreeOutput,
    progress: Progress,
    *,
    jobs: int,
    raw: RawFormat | None = None,
) -> int:
    """Write one result for each input, in the order of the inputs, and return the exit status.

    `jobs` workers classify the files; with 0 this process does. The first interrupt (Ctrl-C,
    SIGTERM, SIGHUP) lets the files in progress finish, the second ends the process.
    """
    interrupts = Interrupts()
    try:
        with interrupts, _workers(classifier, raw, jobs, progress) as workers:
            results = InOrder(
                workers,
                _undone(inputs, classifier, output, raw),
                stopped=interrupts.stopped,
                give_up=lambda path: path == STDIN and stdin_may_wait() and interrupts.gave_up(),
                share=_share if workers.count > 1 else lambda path: 1.0,
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


def _undone(
    inputs: Inputs, classifier: Classifier, output: Output | TreeOutput, raw: RawFormat | None
) -> Iterator[str | Finished | None]:
    """Yield the paths to classify, and known results: failures and records of an earlier run."""
    settings = classifier.settings(raw)
    for given in inputs:
        item = None if given is None else output.checked(given)
        if isinstance(item, Failure):
            yield Finished(item)
        elif item is not None and isinstance(output, ResumableOutput):
            line = output.done(item, settings, classifier.model.sha256, classifier.model.provider)
            yield item if line is None else Finished(line)
        else:
            yield item


def _workers(classifier: Classifier, raw: RawFormat | None, jobs: int, progress: Progress) -> Workers:
    """Return workers: processes, or threads for a model on a GPU or if this process cannot be forked."""

    def answer(path: str, on_audio: Callable[[float], None]) -> Classification | Failure:
        try:
            return classifier.classify(path, raw=raw, on_audio=on_audio)
        except AudioError as error:
            return Failure(path, error.code, error.message)

    fork = classifier.model.provider == CPU and can_fork()
    return Workers(answer, jobs, progress.audio, fork=fork)


def _share(path: str) -> float:
    """Return which part of a task a file is.

    Small files share a task, because a task costs as much as a second of audio.
    """
    if path == STDIN:
        return 1.0
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # classifying it gives a Failure
        return 1 / TOGETHER
    if not (stat.S_ISREG(found.st_mode) and found.st_size):  # a file in /proc may never end
        return 1.0
    return min(max(found.st_size / TOGETHER_BYTES, 1 / TOGETHER), 1.0)


def stream(
    source: str, classifier: Classifier, progress: Progress, *, raw: RawFormat | None = None, json_lines: bool = False
) -> int:
    """Print a line for each window of a live source without delay, and return the exit status."""
    try:
        with (
            raised_for_certain(),
            open_file(
                source,
                raw=raw,
                wav_only=classifier.wav_only,
                block_s=classifier.spec.hop_s / 10,
                decoder=classifier.decoder,
                track=classifier.track,
            ) as audio,
        ):
            any_window = False
            for part in classifier.live(audio):
                line = (
                    json.dumps({"schema": SCHEMA, "path": source, **part.record(), "warnings": audio.warnings}) + "\n"
                    if json_lines
                    else live_line(part)
                )
                sys.stdout.write(line if any_window or json_lines else LIVE_HEADER + line)
                sys.stdout.flush()
                any_window = True
            if not any_window:
                raise AudioError("no-samples", f"{source}: the stream ended before its first sample.")
            for warning in audio.warnings:
                progress.complain(f"{source}: warning: {warning}.")
    except AudioError as error:
        progress.complain(error.message)
        return FAILED
    return DONE
