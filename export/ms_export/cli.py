"""`ms-export`: parse, call, print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ms_train.console import add_data_arguments, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ms-export` and return its exit code."""
    return run("ms-export", "cpu,export", _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ms-export", description="Turn trained models into ONNX files, with proof.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    convert = commands.add_parser(
        "convert",
        help="convert a run folder and compare the result with TensorFlow",
        description="Convert a run folder of ms-train to one ONNX file, written only if the edge runtime equals TensorFlow on it.",
        epilog="example: ms-export convert runs/a -o a.onnx",
    )
    convert.add_argument("folder", type=Path, metavar="RUN", help="what ms-train fit wrote")
    convert.add_argument("-o", "--out", type=Path, required=True, help="the ONNX file to write")
    add_data_arguments(convert, required=False, note="; default: the run's held-out recordings")
    convert.add_argument("--license", default="unspecified", help="licence of the model, for its metadata")
    convert.set_defaults(run=_convert)

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
    return parser


def _convert(args: argparse.Namespace) -> int:
    from ms_export.convert import convert

    difference = convert(args.folder, args.out, data=args.data, archive=args.archive, licence=args.license)
    stages = {"spectra": difference.spectrum, "features": difference.features, "scores": difference.scores}
    print("largest difference TensorFlow - edge: " + ", ".join(f"{name} {value:.1e}" for name, value in stages.items()))
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")
    return 0


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
            f"ms-export: {variant.name} loses {variant.judgement.lost_points:.2f} points of accuracy on the validation clips, "
            f"more than {MAX_LOSS_POINTS}, and was not written.",
            file=sys.stderr,
        )
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
