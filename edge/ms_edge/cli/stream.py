"""`ms-edge stream`."""

from __future__ import annotations

from dataclasses import dataclass

from ms_edge.cli.options import ClassifierOptions
from ms_edge.jobs.progress import Progress
from ms_edge.live.stream import stream
from ms_edge.model.session import Model


@dataclass(kw_only=True, eq=False, repr=False)  # see ClassifierOptions
class Options(ClassifierOptions):
    """The options of `ms-edge stream`; the fields are the options' names."""

    source: str
    format: str
    delay: float
    windows: bool
    verbose: bool


def run(options: Options) -> int:
    """Print what is on a stream while it arrives, and return the exit status."""
    raw, channels = options.raw_format(), options.chosen_channels()
    classifier = options.classifier(Model.load(options.model, options.device))
    progress = Progress(None, verbose=options.verbose)
    return stream(
        options.source,
        classifier,
        progress,
        raw=raw,
        channels=channels,
        json_lines=options.format == "jsonl",
        delay_s=None if options.windows else options.delay,
    )
