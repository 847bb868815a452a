"""`ms-export`: parse arguments into options, call, print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ms_edge.errors import UsageError
from ms_train.console import add_data_arguments, run

if TYPE_CHECKING:
    from ms_export.source import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ms-export` and return its exit code."""
    args = vars(parser().parse_args(arguments))
    options, command = args.pop("options"), args.pop("command")
    return run("ms-export", "cpu,export", partial(command, options(**args)))


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """The options that name the trained model, and the recordings to compare it with.

    `run` is a run folder or a Keras model; `spec`, `labels` and `decision` describe a Keras model.
    """

    run: Path
    spec: Path | None
    labels: str | None
    decision: str | None
    data: str | None
    archive: Path | None

    def load(self) -> Run:
        """Read the trained model. Raises UsageError if the options do not fit what `run` is."""
        from ms_export.source import Run
        from ms_train.training.bundled import run_folder

        given = [name for name in ("spec", "labels", "decision") if getattr(self, name)]
        if run_folder(self.run).is_dir():
            if given:
                raise UsageError(f"{self.run}: a run folder states its spec and labels; leave out --{given[0]}.")
            return Run.load(self.run)
        if not (self.spec and self.labels):
            raise UsageError(f"{self.run}: not a run folder; for a Keras model, also give --spec and --labels.")
        labels = tuple(label.strip() for label in self.labels.split(","))
        return Run.of_keras(self.run, self.spec, labels, self.decision or "exclusive")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(SourceOptions):
    """The options of `ms-export convert`."""

    out: Path
    input: str
    window: float | None
    level: bool
    license: str


@dataclass(frozen=True, kw_only=True)
class CheckOptions(SourceOptions):
    """The options of `ms-export check`."""

    model: Path
    all: bool
    report: Path | None


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """The options of `ms-export quantize`."""

    model: Path
    against: Path | None
    out: Path
    data: str | None
    archive: Path | None


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """The options of `ms-export triton`."""

    repository: Path
    model: Path
    name: str | None


def parser() -> argparse.ArgumentParser:
    """Return the parser of `ms-export`."""
    whole = argparse.ArgumentParser(prog="ms-export", description="Turn trained models into ONNX files, with proof.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    _add_convert(commands)
    _add_check(commands)
    _add_quantize(commands)
    _add_triton(commands)
    return whole


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert",
        help="convert a run folder or a Keras model, and compare the result with TensorFlow",
        description="Convert a run folder of ms-train, or a Keras model that was trained elsewhere on\n"
        "features of ms-edge's front end, to one ONNX file. It is written only if the\n"
        "served model equals TensorFlow. A report of the comparison is written beside it.",
        epilog="examples: ms-export convert runs/a -o a.onnx\n"
        "          ms-export convert mine.keras --spec spec.json --labels music,speech --data folder:clips -o mine.onnx",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_source_arguments(convert, "run")
    convert.add_argument("-o", "--out", type=Path, required=True, help="the ONNX file to write")
    convert.add_argument(
        "--input",
        choices=["features", "waveform"],
        default="features",
        help="input of the model: features, which ms-edge computes outside it (default), or the waveform, with the front end in"
        " the graph, for GPUs, servers and other languages",
    )
    convert.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help="length of audio that the network gets at once, if it takes any number of frames (default: the recipe's)",
    )
    convert.add_argument(
        "--level",
        action="store_true",
        help="give the model its second output, the level of the music relative to the speech, which ms-train level has trained",
    )
    convert.add_argument("--license", default="unspecified", help="licence of the model, for its metadata")
    convert.set_defaults(command=_convert, options=ConvertOptions)


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="compare a model file with the run it was converted from",
        description="Compare a model file with TensorFlow, stage by stage: each transform, optimisation level, batch size and number"
        " of threads, on real recordings and on a grid of signals, lengths and rates. Exits 1 if a difference is over its tolerance.",
        epilog="example: ms-export check a.onnx --against runs/a",
    )
    check.add_argument(
        "model", type=Path, metavar="MODEL", help="an ONNX file that ms-export made, bundled or music-speech-large"
    )
    _add_source_arguments(check, "--against")
    check.add_argument(
        "--all", action="store_true", help="compare on the whole grid (minutes), not only on each pair of its values"
    )
    check.add_argument(
        "--report", type=Path, metavar="FILE.md", help="write a report to this file, and a picture beside it"
    )
    check.set_defaults(command=_check, options=CheckOptions)


def _add_quantize(commands: Any) -> None:
    quantize = commands.add_parser(
        "quantize",
        help="write smaller variants of a model, int8 and fp16, and print what they cost",
        description="Write int8 and fp16 variants of a model and compare each with the model on the run's validation clips. A variant"
        " that loses more than 0.5 points of accuracy is not written.",
        epilog="example: ms-export quantize a.onnx --against runs/a -o small",
    )
    quantize.add_argument(
        "model", type=Path, metavar="MODEL", help="a model that ms-export convert wrote, bundled or music-speech-large"
    )
    quantize.add_argument(
        "--against",
        type=Path,
        metavar="RUN",
        help="the run folder it was converted from (bundled and music-speech-large need none)",
    )
    quantize.add_argument(
        "-o", "--out", type=Path, required=True, help="folder for MODEL-int8.onnx and MODEL-fp16.onnx"
    )
    add_data_arguments(quantize, required=False, note="; default: the run's own")
    quantize.set_defaults(command=_quantize, options=QuantizeOptions)


def _add_triton(commands: Any) -> None:
    triton = commands.add_parser(
        "triton",
        help="write a model repository for NVIDIA Triton or KServe",
        description="Write DIR/NAME/ with configuration, labels and model, for NVIDIA Triton and other KServe v2 servers.",
        epilog="example: ms-export triton models --model bundled",
    )
    triton.add_argument(
        "repository", type=Path, metavar="DIR", help="the model repository; created if it does not exist"
    )
    triton.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        required=True,
        help="a model made by ms-export convert --input waveform, or bundled",
    )
    triton.add_argument("--name", help="the model's name on the server (default: its recipe)")
    triton.set_defaults(command=_triton, options=TritonOptions)


def _add_source_arguments(to: argparse.ArgumentParser, name: str) -> None:
    """Add the arguments of SourceOptions; `name` is that of the run, an option if it begins with
    `-`.
    """
    text = "a run folder of ms-train fit, that of bundled or music-speech-large, or a Keras model (.keras)"
    if name.startswith("-"):
        to.add_argument(name, dest="run", type=Path, metavar="RUN", help=text, required=True)
    else:
        to.add_argument(name, type=Path, metavar="RUN", help=text)
    to.add_argument("--spec", type=Path, metavar="FILE", help="front-end spec of a Keras model, as JSON")
    to.add_argument("--labels", metavar="A,B", help="labels of a Keras model, in the order of its outputs")
    to.add_argument(
        "--decision",
        choices=("exclusive", "independent"),
        help="decision of a Keras model: one label excludes the others (default), or each label is decided alone",
    )
    add_data_arguments(to, required=False, note="; default: the run's held-out recordings")


def _convert(options: ConvertOptions) -> int:
    from ms_export.certificate import table
    from ms_export.convert import convert

    run = options.load()
    if options.level:
        if options.input != "features":
            raise UsageError("--level is for models that take features; leave out --input waveform.")
        run = run.with_level(options.run)
    reports = convert(
        run if options.window is None else run.in_windows_of(options.window),
        options.out,
        data=options.data,
        archive=options.archive,
        licence=options.license,
        input=options.input,
    )
    print(table(reports))
    print(f"{options.out}: {options.out.stat().st_size:,} bytes, and beside it its certificate")
    return 0


def _check(options: CheckOptions) -> int:
    from ms_edge.model.session import Model
    from ms_export import certificate
    from ms_export.convert import compare, require_golden, require_same, source_of

    if options.report and (options.report.suffix != ".md" or not options.report.parent.is_dir()):
        raise UsageError(f"{options.report}: give --report a file that ends in .md, in a folder that exists.")
    if options.report:
        certificate.require_own_report(options.report)
    run = options.load()
    model = Model.load(options.model, "cpu")
    run = require_same(model, run)
    if model.metadata.level:
        run = run.with_level(options.run)
    recordings = run.held_out(options.data, options.archive)
    reports = compare(run, Path(model.path), recordings, everything=options.all)
    print(certificate.table(reports))
    if options.report:
        certificate.write(reports, model, options.report, source_of(recordings, options.data))
    for report in reports:
        if not report.passed:
            print(f"ms-export: {report.describe()}.", file=sys.stderr)
    require_golden(model)
    return 0 if all(report.passed for report in reports) else 1


def _quantize(options: QuantizeOptions) -> int:
    from ms_export.quantize import MAX_LOSS_POINTS, TIMED_BATCHES, quantize
    from ms_train.training.bundled import run_folder

    against = options.against or options.model
    if options.against is None and run_folder(against) == against:
        raise UsageError(f"{options.model}: also give --against, the run folder that it was converted from.")
    variants = quantize(options.model, against, options.out, data=options.data, archive=options.archive)
    speeds = "".join(f"{f'CLIPS/S BY {batch}':>15}{'X FP32':>8}" for batch in TIMED_BATCHES)
    print(f"{'VARIANT':<8}{'BYTES':>12}{'VAL ACCURACY':>14}{'POINTS':>8}{'OTHER LABELS':>14}{speeds}")
    for variant in variants:
        found = variant.judgement
        speeds = "".join(f"{speed.clips_per_s:>15,.0f}{speed.of_fp32:>8.2f}" for speed in variant.speeds)
        print(
            f"{variant.name:<8}{variant.size:>12,}{found.accuracy:>14.3%}{0 - found.lost_points:>+8.3f}{found.other_labels:>14,}{speeds}"
        )
    for variant in variants:
        if variant.path and variant.name != "fp32":
            print(f"{variant.path}: {variant.size:,} bytes")
    refused = [variant for variant in variants if not variant.path]
    for variant in refused:
        print(
            f"ms-export: {variant.name} loses {variant.judgement.lost_points:g} points of accuracy on the validation clips, "
            f"more than {MAX_LOSS_POINTS}, and was not written.",
            file=sys.stderr,
        )
    return 1 if refused else 0


def _triton(options: TritonOptions) -> int:
    from ms_export.triton import write_repository

    print(write_repository(options.repository, options.model, options.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
