"""`ms-edge`: parse, call, print."""

from __future__ import annotations

import argparse
import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ms_edge import __version__
from ms_edge.errors import DeviceError, ModelError, MsEdgeError, UsageError

if TYPE_CHECKING:
    from ms_edge.raw import RawFormat

FAILED, UNUSABLE, INTERRUPTED = 1, 3, 130
RECORD_FORMATS = ("text", "jsonl", "json", "csv", "tsv")
TIMELINE_FORMATS = ("audacity", "rttm", "textgrid", "webvtt")


def command() -> None:
    """The program `ms-edge`: `main` as fast as a process can begin and end."""
    # Importing makes tens of thousands of objects and hardly a cycle: not looking for any saves 7 ms.
    gc.set_threshold(100_000)
    # Threads over files, none inside: NumPy's BLAS would start one for each core as it is imported, for products too small to share.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # All is written and flushed. Taking down Python, NumPy and onnxruntime piece by piece takes 20 ms, the system nothing.
    os._exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ms-edge` and return its exit code: 0 all well, 1 some inputs failed, 2 usage, 3 model or device, 130 interrupted."""
    if arguments is None:
        _occupy_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name the terminal's encoding lacks must not end the run
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            args = parser().parse_args(arguments)
            if arguments is None and not getattr(args, "verbose", False):
                _keep_stderr_for_us()
            return int(args.run(args))
        finally:  # here, and not when Python exits, a full disk is one sentence; also of --help, which raises SystemExit
            sys.stdout.flush()
    except (ModelError, DeviceError) as error:
        _complain(str(error))
        return UNUSABLE
    except MsEdgeError as error:
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        _complain("interrupted; what was printed so far is complete.")
        return INTERRUPTED
    except OSError as error:  # of an output: those of inputs and models are translated where they arise
        # Python flushes stdout once more on exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
            return 0  # the reader has had enough (`| head -1`)
        _complain(f"the output cannot be written ({(error.strerror or str(error)).lower()}).")
        return FAILED


def _occupy_standard_descriptors() -> None:
    """Open what the caller closed of 0, 1 and 2, lest the next file that is opened becomes standard input or output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # what should go to a standard output that is closed fails, and is not lost without a word
            os.open(os.devnull, os.O_RDONLY if descriptor == 1 else os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _keep_stderr_for_us() -> None:
    """Send to nowhere what C libraries print to descriptor 2: mpg123 of every bad frame, onnxruntime of absent GPUs."""
    try:
        ours = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except OSError:
        return
    sys.stderr = open(ours, "w", encoding=sys.stderr.encoding, errors="backslashreplace", buffering=1)  # noqa: SIM115
    os.dup2(nowhere, 2)
    os.close(nowhere)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="ms-edge",
        description="Tell speech from music in audio files and streams.",
        epilog="example: ms-edge classify *.wav\n\n"
        "exit status: 0 all classified, 1 some inputs failed, 2 usage, 3 model or device unusable, 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"ms-edge {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    classify = commands.add_parser(
        "classify",
        help="classify audio files",
        description="Print the label, probability, duration and path of each file; with --timeline, what is where in it.",
        epilog="example: ms-edge classify -r recordings/ -o records.jsonl --resume",
    )
    classify.add_argument("paths", nargs="*", metavar="PATH", help="a file, a directory of them, or - for a WAV stream")
    _add_reading(classify)
    _add_judging(classify)
    classify.add_argument(
        "--timeline", action="store_true", help="segments with start and end instead of one label a file"
    )
    classify.add_argument(
        "--min-duration",
        type=float,
        metavar="S",
        help="the shortest segment (default: 1); shorter ones go to what the scores around them fit best",
    )
    out = classify.add_argument_group("output")
    out.add_argument(
        "--format",
        choices=[*RECORD_FORMATS, *TIMELINE_FORMATS],
        help=f"text (default), jsonl (default with -o FILE.jsonl), …; {', '.join(TIMELINE_FORMATS)} are timelines",
    )
    out.add_argument(
        "-o", "--output", metavar="FILE|DIR/", help="write a file, moved into place when whole, or one file an input"
    )
    out.add_argument(
        "--resume", action="store_true", help="with -o FILE.jsonl: do only what an earlier run left undone"
    )
    out.add_argument(
        "-q", "--quiet", action="store_true", help="no lines on stderr about single files, no progress bar"
    )
    out.add_argument("-v", "--verbose", action="store_true", help="say what runs on what, and how fast")
    many = classify.add_argument_group("many files")
    many.add_argument("-r", "--recursive", action="store_true", help="also the directories within directories")
    many.add_argument(
        "--glob", metavar="PATTERN", help="names to take from directories (default: those of audio files)"
    )
    many.add_argument("--files-from", metavar="FILE", help="read paths from a file, one a line; - is standard input")
    many.add_argument("-0", "--null", action="store_true", help="paths of --files-from end with NUL (find -print0)")
    many.add_argument(
        "-j", "--jobs", type=int, metavar="N", help="files at once (default: the cores this process may use)"
    )
    many.add_argument(
        "--shard", metavar="I/N", help="only the I-th of N shares of the files, the same on every machine"
    )
    classify.set_defaults(run=_classify)

    stream = commands.add_parser(
        "stream",
        help="label a live stream as it comes",
        description="Print a line for each window of a stream as soon as it is decided.",
        epilog="example: arecord -q -f S16_LE -r 16000 -c 1 | ms-edge stream -",
    )
    stream.add_argument("source", metavar="SOURCE", help="- for standard input (WAV, or --raw), or a file")
    stream.add_argument("--format", choices=["text", "jsonl"], default="text", help="rows (default) or JSON Lines")
    stream.add_argument("-v", "--verbose", action="store_true", help="say what was odd about the stream")
    _add_reading(stream)
    _add_judging(stream)
    stream.set_defaults(run=_stream)

    info = commands.add_parser(
        "info",
        help="show what is in a model file",
        description="Show what a model hears, how it decides, what it was trained on and how it was proven.",
        epilog="example: ms-edge info a.onnx",
    )
    _add_model(info, "model", nargs="?", metavar="MODEL")
    info.set_defaults(run=_info)

    doctor = commands.add_parser(
        "doctor",
        help="check that this machine computes what the model's makers did",
        description="Show versions, devices and the model; run its golden vector on every device. Exit status 3 if an answer is wrong.",
        epilog="example: ms-edge doctor --json",
    )
    _add_model(doctor, "--model", metavar="FILE")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_doctor)

    benchmark = commands.add_parser(
        "benchmark",
        help="measure how fast this machine is",
        description="Time the model on every device, once its answers are right: latency of one window and of one streamed hop, "
        "and throughput, on one core and from memory. Exit status 3 if an answer is wrong.",
        epilog="example: ms-edge benchmark --seconds 5 --json",
    )
    _add_model(benchmark, "--model", metavar="FILE")
    benchmark.add_argument("--seconds", type=float, default=15.0, metavar="S", help="how long to measure (default: 15)")
    benchmark.add_argument("--json", action="store_true", help="print JSON")
    benchmark.set_defaults(run=_benchmark)
    return top


def _add_model(command: argparse.ArgumentParser, name: str, **keywords: Any) -> None:
    command.add_argument(name, help="a model made by ms-export (default: the bundled one)", **keywords)
    command.add_argument(
        "--device", default="auto", help="auto (default), cpu, cuda, cuda:N or a provider of onnxruntime"
    )


def _add_reading(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--raw", metavar="RATE:CHANNELS:FORMAT", help="headerless PCM, as in 16000:1:s16le (ffmpeg's names)"
    )
    command.add_argument("--wav-only", action="store_true", help="refuse everything that is not WAV")


def _add_judging(command: argparse.ArgumentParser) -> None:
    _add_model(command, "--model", metavar="FILE")
    command.add_argument(
        "--hop", type=float, metavar="S", help="seconds from window to window (default: the model's, 0.5)"
    )
    command.add_argument(
        "--min-confidence", type=float, default=0.0, metavar="P", help="label what is less probable `uncertain`"
    )
    command.add_argument(
        "--binary", action="store_true", help="the likelier of speech and music, never both and never neither"
    )


def _classify(args: argparse.Namespace) -> int:
    # Imported here, so that --help and --version do not pay for what they do not use.
    from ms_edge.batch import usable_cores
    from ms_edge.classifier import MIN_SEGMENT_S, Classifier
    from ms_edge.inputs import Inputs, parse_shard
    from ms_edge.model import Model
    from ms_edge.opening import STDIN
    from ms_edge.outputs import FileOutput, Output, TreeOutput
    from ms_edge.progress import Progress
    from ms_edge.resume import ResumableOutput
    from ms_edge.run import classify
    from ms_edge.writers import formats, wants_colour

    if not args.paths and args.files_from is None:
        raise UsageError("usage", "Nothing to classify; name files or directories, or - for standard input.")
    if [*args.paths, args.files_from].count(STDIN) > 1:
        raise UsageError("usage", "Standard input can be read only once.")
    if args.null and args.files_from is None:
        raise UsageError("usage", "-0 is about the list that --files-from names.")
    if args.output == "":
        raise UsageError("usage", "-o needs the name of a file or a directory.")
    if args.jobs is not None and args.jobs < 1:
        raise UsageError("usage", f"--jobs must be 1 or more, not {args.jobs}.")
    alone = len(args.paths) == 1 and args.files_from is None and not os.path.isdir(args.paths[0])
    into_tree = args.output is not None and (args.output.endswith(("/", os.sep)) or os.path.isdir(args.output))
    name = args.format or _format_of(args.output if not into_tree else None)
    form = formats()[name]
    timeline = args.timeline or form.timeline_only
    if form.single and not alone and not into_tree:
        raise UsageError("usage", f"A {name} document is about one recording; for several give -o DIR/.")
    if args.resume and (args.output is None or into_tree or name != "jsonl"):
        raise UsageError("usage", "--resume needs -o FILE in the format jsonl.")

    if args.output is not None and not into_tree:
        _require_no_recording(args.output, [*args.paths, args.files_from])
    raw = _raw(args)
    inputs = Inputs(
        args.paths,
        args.files_from,
        null_separated=args.null,
        recursive=args.recursive,
        pattern=args.glob,
        shard=parse_shard(args.shard) if args.shard else (1, 1),
    )
    model = Model.load(args.model, args.device)
    classifier = Classifier(
        model,
        hop_s=args.hop,
        min_segment_s=MIN_SEGMENT_S if args.min_duration is None else args.min_duration,
        min_confidence=args.min_confidence,
        binary=args.binary,
        wav_only=args.wav_only,
    )
    known = args.files_from is None and not any(map(os.path.isdir, args.paths)) and not args.shard
    progress = Progress(len(args.paths) if known else None, quiet=args.quiet, verbose=args.verbose)
    if model.fell_back:
        progress.complain("no CUDA device could be used; running on the CPU.")
    progress.tell(f"{model.metadata.recipe} from {model.path} on {model.provider}.")
    output: Output | TreeOutput
    labels = model.metadata.labels
    try:
        if args.output is None:
            if name == "text" and wants_colour():
                form = formats()["text-colour"]
            if name != "text":
                _write_like_a_file(sys.stdout)
            output = Output(form, labels, timeline)
        elif into_tree:
            output = TreeOutput(args.output, form, labels, timeline)
        elif name == "jsonl":
            output = ResumableOutput(args.output, form, labels, timeline, resume=args.resume)
        else:
            output = FileOutput(args.output, form, labels, timeline)
    except OSError as error:
        if args.output is None:
            raise
        reason = (error.strerror or str(error)).lower()
        raise UsageError("usage", f"{args.output}: cannot be written ({reason}).") from None
    return classify(inputs, classifier, output, progress, jobs=0 if alone else args.jobs or usable_cores(), raw=raw)


def _require_no_recording(output: str, inputs: Sequence[str | None]) -> None:
    """Raise UsageError where answers would take the place of what is to be read (`-o *.wav`)."""
    from ms_edge.opening import EXTENSIONS
    from ms_edge.outputs import is_same_file, place

    if place(output).lower().endswith(EXTENSIONS) or any(path and is_same_file(path, output) for path in inputs):
        raise UsageError("usage", f"{output}: is a recording or an input, and not replaced; give -o another name.")


def _write_like_a_file(stream: object) -> None:
    """Let standard output hold the bytes that -o FILE would, names that are not Unicode included."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")


def _raw(args: argparse.Namespace) -> RawFormat | None:
    from ms_edge.raw import RawFormat

    if args.raw and args.wav_only:
        raise UsageError("usage", "--raw is audio without a header, and --wav-only refuses what is not WAV; give one.")
    return RawFormat.parse(args.raw) if args.raw else None


def _format_of(output: str | None) -> str:
    """The format that a file's name asks for."""
    suffix = os.path.splitext(output or "")[1].lower()
    known = {
        ".jsonl": "jsonl",
        ".json": "json",
        ".csv": "csv",
        ".tsv": "tsv",
        ".rttm": "rttm",
        ".textgrid": "textgrid",
        ".vtt": "webvtt",
    }
    return known.get(suffix, "text")


def _stream(args: argparse.Namespace) -> int:
    from ms_edge.classifier import Classifier
    from ms_edge.progress import Progress
    from ms_edge.run import stream

    raw = _raw(args)
    classifier = Classifier(
        args.model,
        args.device,
        hop_s=args.hop,
        min_confidence=args.min_confidence,
        binary=args.binary,
        wav_only=args.wav_only,
    )
    progress = Progress(None, verbose=args.verbose)
    return stream(args.source, classifier, progress, raw=raw, json_lines=args.format == "jsonl")


def _info(args: argparse.Namespace) -> int:
    from ms_edge.card import model_card
    from ms_edge.model import Model

    print(model_card(Model.load(args.model, args.device)))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from ms_edge.doctor import examine, report

    found = examine(args.model, args.device)
    print(report(found, as_json=args.json))
    return 0 if found["ok"] else UNUSABLE


def _benchmark(args: argparse.Namespace) -> int:
    from ms_edge.benchmark import measure, report

    found = measure(args.model, args.device, args.seconds)
    print(report(found, as_json=args.json))
    return 0 if found["ok"] else UNUSABLE


def _complain(message: str) -> None:
    from ms_edge.writers import printable

    print(f"ms-edge: {printable(message)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    command()
