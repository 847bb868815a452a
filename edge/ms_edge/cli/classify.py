"""`ms-edge classify`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from ms_edge.audio.opening import STDIN
from ms_edge.cli.descriptors import write_like_a_file
from ms_edge.cli.options import FileOptions
from ms_edge.errors import UsageError, reason
from ms_edge.jobs.classify import classify
from ms_edge.jobs.inputs import Inputs, parse_shard
from ms_edge.jobs.limits import keep_freed_memory, workers_for
from ms_edge.jobs.progress import Progress
from ms_edge.model.metadata import Metadata
from ms_edge.model.session import Model
from ms_edge.output.destination import FileOutput, Output, TreeOutput, place, require_no_recording
from ms_edge.output.formats import FORMATS, format_of
from ms_edge.output.journal import ResumableOutput, parts
from ms_edge.output.writers import Writer, wants_colour


@dataclass(kw_only=True, eq=False, repr=False)  # see ClassifierOptions
class Options(FileOptions):
    """The options of `ms-edge classify`; the fields are the options' names."""

    files_from: str | None
    null: bool
    glob: str | None
    shard: str | None
    timeline: bool
    format: str | None
    tiers: bool
    output: str | None
    resume: bool

    @property
    def one_file(self) -> bool:
        """True if the only input is one path that is no directory."""
        return len(self.paths) == 1 and self.files_from is None and not os.path.isdir(self.paths[0])

    @property
    def into_directory(self) -> bool:
        """True if -o names a directory, for one output file per input."""
        return self.output is not None and (self.output.endswith(("/", os.sep)) or os.path.isdir(self.output))

    @property
    def count(self) -> int | None:
        """The number of inputs; None if it is known only after they are listed."""
        if self.files_from is not None or self.shard or any(map(os.path.isdir, self.paths)):
            return None
        return len(self.paths)

    @property
    def files_read(self) -> list[str]:
        """The paths that the command reads."""
        return [path for path in (*self.paths, self.files_from, self.model) if path]


def run(options: Options) -> int:
    """Classify the inputs, write the results, and return the exit status."""
    _check_inputs(options)
    names = _output_formats(options)
    raw, channels = options.raw_format(), options.chosen_channels()
    inputs = Inputs(
        options.paths,
        options.files_from,
        null_separated=options.null,
        recursive=options.recursive,
        pattern=options.glob,
        shard=parse_shard(options.shard) if options.shard else (1, 1),
    )
    keep_freed_memory()
    model = Model.load(options.model, options.device)
    classifier = options.classifier(model, options.min_duration)
    count = options.count
    progress = Progress(count, quiet=options.quiet, verbose=options.verbose)
    inputs.tell = progress.tell
    if model.fell_back:
        progress.complain("no CUDA device could be used; running on the CPU.")
    progress.tell(f"{model.metadata.recipe} from {model.path} on {model.provider}.")
    output = _output(options, names, model.metadata)
    jobs = workers_for(options.jobs, inputs, count, progress)
    return classify(inputs, classifier, output, progress, jobs=jobs, raw=raw, channels=channels)


def _check_inputs(options: Options) -> None:
    """Raise UsageError if the inputs contradict each other."""
    if not options.paths and options.files_from is None:
        raise UsageError("Nothing to classify; name files or directories, or - for standard input.")
    if [*options.paths, options.files_from].count(STDIN) > 1:
        raise UsageError("Standard input can be read only once.")
    if options.null and options.files_from is None:
        raise UsageError("-0 needs --files-from: it says how the paths in that list end.")
    options.require_jobs()


def _output_formats(options: Options) -> list[str]:
    """Return the names of the output formats. Raises UsageError if one does not suit the inputs or -o."""
    if options.output == "":
        raise UsageError("-o needs the name of a file or a directory.")
    into_file = options.output if not options.into_directory else None
    if into_file is not None:
        for name in (into_file, *parts(place(into_file))):
            require_no_recording(name, options.files_read)
    given = options.format or ("text" if into_file is None else format_of(into_file))
    names = list(dict.fromkeys(given.split(",")))
    if len(names) > 1 and not options.into_directory:
        raise UsageError(f"Several formats ({given}) need -o DIR/, which takes a file of each per input.")
    if FORMATS[names[0]].single and not options.one_file and not options.into_directory:
        raise UsageError(f"A document of the format {given} describes one recording; for several give -o DIR/.")
    if FORMATS[names[0]].binary and options.output is None and sys.stdout.isatty():
        raise UsageError(f"A document of the format {given} is not text; give -o FILE.{FORMATS[names[0]].suffix}.")
    if options.resume and (into_file is None or names != ["jsonl"]):
        raise UsageError("--resume needs -o FILE in the format jsonl.")
    if options.tiers and not any(FORMATS[name].overlaps for name in names):
        overlapping = ", ".join(name for name, form in FORMATS.items() if form.overlaps)
        raise UsageError(f"--tiers needs a format in which segments may overlap ({overlapping}), not {given}.")
    return names


def _output(options: Options, names: list[str], metadata: Metadata) -> Output | TreeOutput:
    """Open the output. Raises UsageError if a file or directory cannot be written."""

    def writer(name: str) -> Writer:
        form = FORMATS[name]
        timeline = options.timeline or form.timeline_only
        levels = metadata.level is not None
        return form(metadata.labels, timeline, options.channels != "mix", options.tiers, levels)

    name = names[0]
    if options.output is None:
        if name != "text":
            write_like_a_file(sys.stdout)
        return Output(writer("text-colour" if name == "text" and wants_colour() else name))
    try:
        if options.into_directory:
            return TreeOutput(options.output, [*map(writer, names)], options.files_read)
        if name == "jsonl":
            return ResumableOutput(options.output, writer(name), resume=options.resume)
        return FileOutput(options.output, writer(name))
    except OSError as error:
        raise UsageError(f"{options.output}: cannot be written ({reason(error)}).") from None
