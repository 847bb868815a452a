"""`ms-export`: parse, call, print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ms_edge.errors import UsageError
from ms_train.console import add_data_arguments, run

if TYPE_CHECKING:
    from ms_export.source import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ms-export` and return its exit code."""
    args = parser().parse_args(arguments)
    return run("ms-export", "cpu,export", partial(args.run, args))


def parser() -> argparse.ArgumentParser:
    """Return the parser of `ms-export`."""
    whole = argparse.ArgumentParser(prog="ms-export", description="Turn trained models into ONNX files, with proof.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    convert = commands.add_parser(
        "convert",
        help="convert a run folder or a Keras model, and compare the result with TensorFlow",
        description="Convert a run folder of ms-train, or a Keras model trained elsewhere on a front end of ours, to one ONNX file."
        " It is written only if what is served equals TensorFlow, with a report of that beside it.",
        epilog="examples: ms-export convert runs/a -o a.onnx\n"
        "          ms-export convert mine.keras --spec spec.json --labels music,speech --data folder:clips -o mine.onnx",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_run_arguments(convert, "source")
    convert.add_argument("-o", "--out", type=Path, required=True, help="the ONNX file to write")
    convert.add_argument(
        "--input",
        choices=["features", "waveform"],
        default="features",
        help="what the model takes: features, computed outside it as ms-edge does (default), or the waveform, with the "
        "front end in the graph, for GPUs, servers and other languages",
    )
    convert.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help="of audio that the network sees at once, where it takes any number of frames (default: the recipe's)",
    )
    convert.add_argument("--license", default="unspecified", help="licence of the model, for its metadata")
    convert.set_defaults(run=_convert)
    check = commands.add_parser(
        "check",
        help="compare a model file with the run it came from",
        description="Compare a model file with TensorFlow, stage by stage: every transform, optimisation level, batch and number of"
        " threads, on real recordings and a grid of signals, lengths and rates. Exits 1 if anything is out of tolerance.",
        epilog="example: ms-export check a.onnx --against runs/a",
    )
    check.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file that ms-export made")
    _add_run_arguments(check, "--against")
    check.add_argument("--all", action="store_true", help="the whole grid, not every pair of its values once (minutes)")
    check.add_argument(
        "--report", type=Path, metavar="FILE.md", help="write the findings there, and a picture beside it"
    )
    check.set_defaults(run=_check)

    quantize = commands.add_parser(
        "quantize",
        help="make a model smaller, int8 and fp16, and say what it costs",
        description="Write int8 and fp16 variants of a model, each measured beside it on the run's validation clips; one that "
        "loses more than 0.5 points of accuracy is not written.",
        epilog="example: ms-export quantize a.onnx --against runs/a -o small",
    )
    quantize.add_argument("model", type=Path, metavar="MODEL", help="what ms-export convert wrote")
    quantize.add_argument(
        "--against", type=Path, required=True, metavar="RUN", help="the run folder it was converted from"
    )
    quantize.add_argument(
        "-o", "--out", type=Path, required=True, help="folder for MODEL-int8.onnx and MODEL-fp16.onnx"
    )
    add_data_arguments(quantize, required=False, note="; default: the run's own")
    quantize.set_defaults(run=_quantize)
    triton = commands.add_parser(
        "triton",
        help="write a model repository for NVIDIA Triton or KServe",
        description="Write DIR/NAME/ with configuration, labels and model, for NVIDIA Triton and other KServe v2 servers.",
        epilog="example: ms-export triton models --model a.onnx",
    )
    triton.add_argument("repository", type=Path, metavar="DIR", help="the model repository; made where there is none")
    triton.add_argument(
        "--model", type=Path, metavar="FILE", required=True, help="a model made by ms-export convert --input waveform"
    )
    triton.add_argument("--name", help="the model's name on the server (default: its recipe)")
    triton.set_defaults(run=_triton)
    return whole


def _add_run_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    required = {"required": True} if name.startswith("-") else {}
    parser.add_argument(
        name, type=Path, metavar="RUN", help="a run folder of ms-train fit, or a Keras model (.keras)", **required
    )
    parser.add_argument("--spec", type=Path, metavar="FILE", help="of a Keras model: its front-end spec, as JSON")
    parser.add_argument("--labels", metavar="A,B", help="of a Keras model: its labels, in the order of its outputs")
    parser.add_argument(
        "--decision",
        choices=("exclusive", "independent"),
        help="of a Keras model: whether one label excludes the others (default), or each is a question of its own",
    )
    add_data_arguments(parser, required=False, note="; default: the run's held-out recordings")


def _load(path: Path, args: argparse.Namespace) -> Run:
    from ms_export.source import Run

    given = [name for name in ("spec", "labels", "decision") if getattr(args, name)]
    if path.is_dir():
        if given:
            raise UsageError(f"{path}: a run folder says its spec and labels itself; leave out --{given[0]}.")
        return Run.load(path)
    if not (args.spec and args.labels):
        raise UsageError(f"{path}: not a run folder; of a Keras model, give --spec and --labels too.")
    labels = tuple(label.strip() for label in args.labels.split(","))
    return Run.of_keras(path, args.spec, labels, args.decision or "exclusive")


def _convert(args: argparse.Namespace) -> int:
    from ms_export.certificate import table
    from ms_export.convert import convert

    run = _load(args.source, args)
    reports = convert(
        run if args.window is None else run.in_windows_of(args.window),
        args.out,
        data=args.data,
        archive=args.archive,
        licence=args.license,
        input=args.input,
    )
    print(table(reports))
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, and beside it its certificate")
    return 0


def _check(args: argparse.Namespace) -> int:
    from ms_edge.model.session import Model
    from ms_export import certificate
    from ms_export.convert import compare, require_golden, require_same, source_of

    if args.report and (args.report.suffix != ".md" or not args.report.parent.is_dir()):
        raise UsageError(f"{args.report}: give --report a file that ends in .md, in a folder that exists.")
    run = _load(args.against, args)
    model = Model.load(args.model, "cpu")
    run = require_same(model, run)
    recordings = run.held_out(args.data, args.archive)
    reports = compare(run, args.model, recordings, everything=args.all)
    print(certificate.table(reports))
    if args.report:
        certificate.write(reports, model, args.report, source_of(recordings, args.data))
    for report in reports:
        if not report.passed:
            print(f"ms-export: {report.describe()}.", file=sys.stderr)
    require_golden(model)
    return 0 if all(report.passed for report in reports) else 1


def _quantize(args: argparse.Namespace) -> int:
    from ms_export.quantize import MAX_LOSS_POINTS, TIMED_BATCHES, quantize

    variants = quantize(args.model, args.against, args.out, data=args.data, archive=args.archive)
    speeds = "".join(f"{f'CLIPS/S BY {batch}':>15}{'X FP32':>8}" for batch in TIMED_BATCHES)
    print(f"{'VARIANT':<8}{'BYTES':>12}{'VAL ACCURACY':>14}{'POINTS':>8}{'OTHER LABELS':>14}{speeds}")
    for variant in variants:
        found = variant.judgement
        speeds = "".join(
            f"{rate:>15,.0f}{ratio:>8.2f}" for rate, ratio in zip(variant.clips_per_s, variant.speed, strict=True)
        )
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


def _triton(args: argparse.Namespace) -> int:
    from ms_export.triton import write_repository

    print(write_repository(args.repository, args.model, args.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
