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
    return parser


def _convert(args: argparse.Namespace) -> int:
    from ms_export.convert import convert

    difference = convert(args.folder, args.out, data=args.data, archive=args.archive, licence=args.license)
    stages = {"spectra": difference.spectrum, "features": difference.features, "scores": difference.scores}
    print("largest difference TensorFlow - edge: " + ", ".join(f"{name} {value:.1e}" for name, value in stages.items()))
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
