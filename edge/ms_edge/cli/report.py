"""`ms-edge report`."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ms_edge.audio.opening import STDIN
from ms_edge.cli.options import FileOptions
from ms_edge.errors import UsageError
from ms_edge.jobs.classify import run as run_job
from ms_edge.jobs.limits import keep_freed_memory, workers_for
from ms_edge.jobs.progress import Progress
from ms_edge.model.session import Model
from ms_edge.output.destination import is_answer, require_no_recording
from ms_edge.report.job import Index, Pages, Recorded


@dataclass(kw_only=True, eq=False, repr=False)  # see ClassifierOptions
class Options(FileOptions):
    """The options of `ms-edge report`; the fields are the options' names."""

    output: str
    embed: bool

    @property
    def into_directory(self) -> bool:
        """True if -o names a directory, for an index and one page per recording."""
        return self.output.endswith(("/", os.sep)) or os.path.isdir(self.output)


def run(options: Options) -> int:
    """Write the pages, and return the exit status."""
    _check(options)
    raw, channels = options.raw_format(), options.chosen_channels()
    if channels == "each":
        raise UsageError("A page is about one channel or the mean of all; give --channels mix or a number.")
    inputs = Recorded(options.paths, recursive=options.recursive)
    count, single = inputs.count, not options.into_directory
    if single and count != 1:
        raise UsageError(f"{options.output}: a page is about one recording; for several give -o DIR/.")
    keep_freed_memory()
    model = Model.load(options.model, options.device)
    classifier = options.classifier(model, options.min_duration)
    progress = Progress(count, quiet=options.quiet, verbose=options.verbose)
    inputs.tell = progress.tell
    for note in inputs.notes:
        progress.complain(note)
    pages = Pages(inputs, classifier, options.output, single=single, embed=options.embed, raw=raw, channel=channels)
    jobs = workers_for(options.jobs, inputs, count, progress)
    return run_job(inputs, pages, Index(options.output, single=single), progress, jobs=jobs, provider=model.provider)


def _check(options: Options) -> None:
    """Raise UsageError if the inputs and -o do not suit each other."""
    if options.paths.count(STDIN) > 1:
        raise UsageError("Standard input can be read only once.")
    options.require_jobs()
    if not options.output:
        raise UsageError("-o needs the name of a page or a directory.")
    if options.into_directory:
        return
    device = os.path.exists(options.output) and not os.path.isfile(options.output)  # as /dev/stdout
    if not (device or options.output.lower().endswith((".html", ".htm"))):
        raise UsageError(f"{options.output}: a page has the suffix .html; for an index and several pages give -o DIR/.")
    require_no_recording(options.output, options.paths)
    if os.path.isfile(options.output) and not is_answer(options.output):
        raise UsageError(f"{options.output}: is not a result of ms-edge and is not replaced; give -o another name.")
