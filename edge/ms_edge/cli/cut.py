"""`ms-edge cut`."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from dataclasses import dataclass

from ms_edge.audio.opening import STDIN
from ms_edge.classifier import Classifier
from ms_edge.cli.options import FileOptions
from ms_edge.errors import UsageError, reason
from ms_edge.jobs.classify import run as run_job
from ms_edge.jobs.limits import workers_for
from ms_edge.jobs.progress import Progress
from ms_edge.model.providers import CPU
from ms_edge.model.session import Model
from ms_edge.output.records import are_records
from ms_edge.output.writers import printable
from ms_edge.report.cut import HEADER, Cuts, Plan
from ms_edge.report.job import Recorded
from ms_edge.results import OTHER_LABELS, Failure


@dataclass(kw_only=True, eq=False, repr=False)  # see ClassifierOptions
class Options(FileOptions):
    """The options of `ms-edge cut`; the fields are the options' names."""

    keep: str | None
    drop: str | None
    pad: float
    fade: float
    join: bool
    list: str | None
    output: str


class Table:
    """A line on standard output for each recording: what was kept, and where it is.

    `directory` is where the pieces go. Nothing in it is an input.
    """

    def __init__(self, directory: str) -> None:
        self._inside = os.path.join(os.path.realpath(directory), "")
        self._any = False

    def checked(self, given: str | Failure) -> str | Failure:
        """Return the input, or a Failure if it may be a piece that this run has written."""
        with contextlib.suppress(ValueError):  # a record may hold a path that no file can have
            if isinstance(given, str) and os.path.realpath(given).startswith(self._inside):
                return Failure(
                    given, "cannot-open", f"{given}: lies in the directory of -o; give -o another directory."
                )
        return given

    def write(self, result: object) -> object:
        """Print the line of an input."""
        if not self._any:
            print(HEADER)
            self._any = True
        if isinstance(result, Failure):
            print(f"{'-':>10}  {'-':>10}  {'-':>6}  {'error':<12}  {printable(result.path)} ({result.code})")
        else:
            print(result)
        sys.stdout.flush()
        return result

    def finish(self) -> None:
        """Do nothing: each line is complete."""

    def abandon(self) -> str:
        """Return "": each line is complete."""
        return ""


def run(options: Options) -> int:
    """Cut the recordings, print a line for each, and return the exit status."""
    raw, channels = options.raw_format(), options.chosen_channels()
    plan = _plan(options)
    if channels == "each":
        raise UsageError("All channels of a recording are cut together; give --channels mix or a number.")
    inputs = Recorded(options.paths, recursive=options.recursive)
    progress = Progress(inputs.count, quiet=options.quiet, verbose=options.verbose)
    inputs.tell = progress.tell
    classifier = _classifier(options, plan)
    cuts = Cuts(inputs, classifier, options.output, plan, raw=raw, channel=channels)
    try:
        os.makedirs(options.output, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{options.output}: is no directory and cannot become one ({reason(error)}).") from None
    jobs = workers_for(options.jobs, inputs, inputs.count, progress)
    provider = classifier.model.provider if classifier else CPU
    try:
        return run_job(inputs, cuts, Table(options.output), progress, jobs=jobs, provider=provider)
    finally:
        cuts.clean()


def _classifier(options: Options, plan: Plan) -> Classifier | None:
    """Return a classifier; None if all inputs are records. Raises UsageError for a label it does not know."""
    if all(map(are_records, options.paths)):
        return None
    model = Model.load(options.model, options.device)
    known = (*model.metadata.labels, *OTHER_LABELS)
    for label in (*plan.keep, *plan.drop):
        if not set(label.split("+")).issubset(known):
            raise UsageError(f"There is no label {label!r}; the labels are {', '.join(known)}.")
    return options.classifier(model, options.min_duration)


def _plan(options: Options) -> Plan:
    """Return what to cut. Raises UsageError for invalid values."""
    if STDIN in options.paths:
        raise UsageError("A recording is read twice, to classify it and to cut it, so it cannot be standard input.")
    options.require_jobs()
    for name, value in (("--pad", options.pad), ("--fade", options.fade)):
        if not (value >= 0 and math.isfinite(value)):
            raise UsageError(f"{name} must be 0 seconds or more, not {value:g}.")
    keep, drop = (tuple(filter(None, (text or "").split(","))) for text in (options.keep, options.drop))
    if bool(keep) == bool(drop):
        raise UsageError("Give --keep or --drop with at least one label, as in --keep speech.")
    return Plan(keep, drop, options.pad, options.fade, options.join, options.list)
