"""`ms-edge watch`."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from ms_edge.cli.options import FileOptions
from ms_edge.errors import UsageError, reason
from ms_edge.jobs.classify import classify
from ms_edge.jobs.limits import keep_freed_memory, workers_for
from ms_edge.jobs.progress import Progress
from ms_edge.live.watch import Arrivals
from ms_edge.model.session import Model
from ms_edge.output.destination import require_no_recording
from ms_edge.output.growing import GrowingOutput
from ms_edge.output.writers import JsonLines


@dataclass(kw_only=True, eq=False, repr=False)  # see ClassifierOptions
class Options(FileOptions):
    """The options of `ms-edge watch`; the fields are the options' names."""

    output: str
    settle: float
    timeline: bool


def run(options: Options) -> int:
    """Classify what arrives in the folders until interrupted, and return the exit status."""
    _check(options)
    raw, channels = options.raw_format(), options.chosen_channels()
    keep_freed_memory()
    model = Model.load(options.model, options.device)
    classifier = options.classifier(model, options.min_duration)
    progress = Progress(None, quiet=options.quiet, verbose=options.verbose)
    expected = {
        "settings": classifier.settings(raw, channels),
        "model": model.sha256,
        "provider": model.provider,
    }
    writer = JsonLines(model.metadata.labels, options.timeline, options.channels != "mix")
    try:
        output = GrowingOutput(options.output, writer, expected)
    except OSError as error:
        raise UsageError(f"{options.output}: cannot be written ({reason(error)}).") from None
    inputs = Arrivals(options.paths, output, progress.complain, settle_s=options.settle)
    if model.fell_back:
        progress.complain("no CUDA device could be used; running on the CPU.")
    progress.tell(f"{model.metadata.recipe} from {model.path} on {model.provider}.")
    progress.complain(f"watching {', '.join(options.paths)}; the records go to {options.output}.")
    # At least one worker: a crash in a decoder must not end this process.
    jobs = workers_for(options.jobs, inputs, None, progress) or 1
    return classify(inputs, classifier, output, progress, jobs=jobs, raw=raw, channels=channels)


def _check(options: Options) -> None:
    """Raise UsageError if an option is invalid."""
    options.require_jobs()
    for path in options.paths:
        if not os.path.isdir(path):
            why = "is a file; watch takes folders" if os.path.exists(path) else "there is no such folder"
            raise UsageError(f"{path}: {why}.")
    if not (options.settle >= 0 and math.isfinite(options.settle)):
        raise UsageError(f"--settle must be 0 seconds or more, not {options.settle:g}.")
    require_no_recording(options.output, [options.model] if options.model else [])
