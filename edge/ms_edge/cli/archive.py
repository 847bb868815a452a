"""`ms-edge archive`."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import Any

from ms_edge.archive.cluster import no_ray
from ms_edge.archive.own_process import in_own_process
from ms_edge.classifier import MIN_SEGMENT_S
from ms_edge.cli.options import ClassifierOptions
from ms_edge.errors import UsageError

LEAST_CPUS = 0.0001  # Ray counts CPUs in ten-thousandths


@dataclass(kw_only=True, eq=False, repr=False)  # see ClassifierOptions
class Options(ClassifierOptions):
    """The options of `ms-edge archive`; the fields are the options' names."""

    source: str
    output: str
    segments: bool
    resume: bool
    address: str | None
    jobs: int | None
    cpus: float
    min_duration: float | None
    quiet: bool
    verbose: bool


def run(options: Options) -> int:
    """Classify the archive, write the rows, and return the exit status."""
    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs must be 1 or more, not {options.jobs}.")
    if not options.cpus >= LEAST_CPUS:
        raise UsageError(f"--cpus must be {LEAST_CPUS:g} or more, not {options.cpus:g}.")
    if options.device not in ("auto", "cpu"):
        raise UsageError(
            f"An archive is classified on the CPUs of a cluster, so --device must be cpu, not {options.device}."
        )
    raw, channel = options.raw_format(), options.chosen_channels()
    if channel == "each":
        raise UsageError("In an archive, a recording has one row; give --channels mix or a number.")
    settings: dict[str, Any] = {
        "model": options.model,
        "device": "cpu",
        "hop_s": options.hop,
        "min_segment_s": MIN_SEGMENT_S if options.min_duration is None else options.min_duration,
        "min_confidence": options.min_confidence,
        "binary": options.binary,
        "thresholds": options.thresholds(),
        "wav_only": options.wav_only,
        "decoder": options.decoder,
        "track": options.track,
    }
    try:
        from ms_edge.archive.run import archive
    except ImportError as error:  # pyarrow or fsspec, which come with Ray Data
        raise no_ray(error) from None

    def classified() -> int:
        # Ray prints about lost nodes and processes on standard output, from a thread of its own.
        with contextlib.ExitStack() as stack:
            aside = sys.stderr if options.verbose else stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(aside))
            return archive(
                options.source,
                options.output,
                settings=settings,
                reading={"raw": str(raw) if raw else None, "channel": channel},
                segments=options.segments,
                resume=options.resume,
                address=options.address,
                actors=options.jobs,
                num_cpus=options.cpus,
                quiet=options.quiet,
                verbose=options.verbose,
            )

    if "ray" in sys.modules or not hasattr(os, "fork"):  # a process that runs Ray cannot be forked
        return classified()
    return in_own_process(classified, _lost(options.address))


def _lost(address: str | None) -> str:
    """Return the message about a cluster that is lost."""
    if not address:
        return "Ray on this machine has ended; the same command with --resume does the rest."
    return (
        f"The cluster at {address} was lost: its head, or Ray on this machine, does not answer; "
        "start it again, and then the same command with --resume does the rest."
    )
