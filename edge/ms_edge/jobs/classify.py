"""`ms-edge classify` and `ms-edge stream`: inputs through a classifier to an output, whatever comes in between."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import TypeGuard

from ms_edge.audio.file import AudioFile
from ms_edge.audio.opening import STDIN
from ms_edge.audio.raw import RawFormat
from ms_edge.classifier import Classifier
from ms_edge.errors import AudioError, MsEdgeError
from ms_edge.jobs.inputs import Inputs
from ms_edge.jobs.interrupts import INTERRUPTED, Interrupts, raised_for_certain
from ms_edge.jobs.ordered import in_order
from ms_edge.jobs.progress import Progress
from ms_edge.model.providers import CPU
from ms_edge.output.destination import Output, TreeOutput
from ms_edge.output.journal import ResumableOutput
from ms_edge.output.writers import LIVE_HEADER, live_line
from ms_edge.results import SCHEMA, Classification, Failure

DONE, FAILED = 0, 1
TOGETHER, TOGETHER_BYTES = 8, 1 << 22  # small files that are asked of at once: so many, or so large
Result = Classification | Failure
# To paths and what hears of audio read: what is to be said of each, or raised.
Answer = Callable[[Sequence[str], Callable[[float], None]], Sequence[Result | Exception]]


def classify(
    inputs: Inputs,
    classifier: Classifier,
    output: Output | TreeOutput,
    progress: Progress,
    *,
    jobs: int,
    raw: RawFormat | None = None,
) -> int:
    """Write one result for each input, in their order; returns the exit status.

    The first interrupt (Ctrl-C, SIGTERM, SIGHUP) lets the files in progress finish, the second ends the process.
    """
    interrupts = Interrupts(progress)
    failed = False
    try:
        undone = _undone(inputs, classifier, output, raw)
        with interrupts:
            with _answering(classifier, raw, jobs) as (answer, share):
                work = partial(_work, answer, progress, interrupts)
                results: Generator[Result | str, None, None] = in_order(work, undone, jobs, interrupts.stopped, share)
                with contextlib.closing(results):  # before the processes end, which its threads may be waiting for
                    try:
                        for result in results:
                            with progress.aside():
                                result = output.write(result)
                            if isinstance(result, Failure):
                                failed = True
                                progress.complain(result.message)
                            progress.file(isinstance(result, Failure))
                            interrupts.written += 1
                    finally:
                        interrupts.over = True
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
        progress.complain(f"interrupted after {interrupts.written} results: {kept}{resume}.")
        return INTERRUPTED
    return FAILED if failed else DONE


def _undone(
    inputs: Inputs, classifier: Classifier, output: Output | TreeOutput, raw: RawFormat | None
) -> Iterator[str | Result | _Line]:
    settings = classifier.settings(raw)
    for item in map(output.checked, inputs):
        line = None
        if isinstance(output, ResumableOutput) and isinstance(item, str):
            line = output.done(item, settings, classifier.model.sha256, classifier.model.provider)
        yield item if line is None else _Line(line)


class _Line(str):
    """A record line of an earlier run."""


@contextlib.contextmanager
def _answering(
    classifier: Classifier, raw: RawFormat | None, jobs: int
) -> Iterator[tuple[Answer, Callable[[object], float]]]:
    """What answers for some items, for up to `jobs` threads at once, and which part of them an item is: in processes, several at
    once, where that can be and there is more than one.
    """

    def answer(item: str, on_audio: Callable[[float], None]) -> Result:
        try:
            return classifier.classify(item, raw=raw, on_audio=on_audio)
        except AudioError as error:
            return Failure(item, error.code, error.message)

    def answer_here(items: Sequence[str], on_audio: Callable[[float], None]) -> Sequence[Result]:
        return [answer(item, on_audio) for item in items]

    if jobs < 2 or classifier.model.provider != CPU:
        yield answer_here, lambda item: 1.0
        return
    from ms_edge.jobs.workers import WorkerError, Workers, can_fork

    if not can_fork():
        yield answer_here, lambda item: 1.0
        return
    with Workers(jobs, answer) as workers:

        def answer_elsewhere(items: Sequence[str], on_audio: Callable[[float], None]) -> Sequence[Result | Exception]:
            if list(items) == [STDIN]:  # which copies of this process would share
                return answer_here(items, on_audio)
            found = workers(items, on_audio)
            return [
                died(item, each) if isinstance(each, WorkerError) else each
                for item, each in zip(items, found, strict=True)
            ]

        def died(item: str, how: WorkerError) -> Failure:
            why = "for want of memory, or by a crash in a decoder; -j 1 tries it in this process"
            return Failure(item, "worker-died", f"{item}: the process that read it ended ({how}), perhaps {why}.")

        yield answer_elsewhere, _share


def _is_path(item: object) -> TypeGuard[str]:
    return isinstance(item, str) and not isinstance(item, _Line)


def _share(item: object) -> float:
    """Which part an item is of what is asked at once: small files go together, for to ask costs as much as a second of audio."""
    if not _is_path(item):
        return 1 / TOGETHER
    if item == STDIN:
        return 1.0
    try:
        found = os.stat(item)
    except (OSError, ValueError):  # which is about to be said
        return 1 / TOGETHER
    if not (stat.S_ISREG(found.st_mode) and found.st_size):  # it may take for ever, as what Linux has in /proc does
        return 1.0
    return min(max(found.st_size / TOGETHER_BYTES, 1 / TOGETHER), 1.0)


def _work(
    answer: Answer, progress: Progress, interrupts: Interrupts, items: Sequence[str | Result | _Line]
) -> Sequence[Result | str | Exception | None]:
    paths = list(filter(_is_path, items))
    if paths == [STDIN] and not stat.S_ISREG(os.fstat(0).st_mode):
        return interrupts.limited(lambda: answer(paths, progress.audio))
    answers = iter(answer(paths, progress.audio) if paths else ())
    return [next(answers) if _is_path(item) else item for item in items]


def stream(
    source: str, classifier: Classifier, progress: Progress, *, raw: RawFormat | None = None, json_lines: bool = False
) -> int:
    """Print a line for each window of a live source as soon as it is decided; returns the exit status."""
    try:
        with (
            raised_for_certain(),
            AudioFile(source, raw=raw, wav_only=classifier.wav_only, block_s=classifier.spec.hop_s / 10) as audio,
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
