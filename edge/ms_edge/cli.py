"""`ms-edge`: parse, call, print."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from ms_edge import __version__
from ms_edge.errors import DeviceError, ModelError, MsEdgeError

FAILED, UNUSABLE, INTERRUPTED = 1, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ms-edge` and return its exit code: 0 all well, 1 some inputs failed, 2 usage, 3 model or device, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name the terminal's encoding lacks must not end the run
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except (ModelError, DeviceError) as error:
        _complain(str(error))
        return UNUSABLE
    except MsEdgeError as error:
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        _complain("interrupted; the records printed so far are complete.")
        return INTERRUPTED
    except OSError as error:  # of stdout: those of inputs and models are translated where they arise
        # Python flushes stdout once more on exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
            return 0  # the reader has had enough (`| head -1`)
        _complain(f"the output cannot be written ({(error.strerror or str(error)).lower()}).")
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ms-edge",
        description="Tell speech from music in audio files.",
        epilog="exit status: 0 all classified, 1 some inputs failed, 2 usage, 3 model or device unusable, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"ms-edge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    classify = commands.add_parser(
        "classify", help="classify audio files", epilog="example: ms-edge classify --format jsonl *.wav > records.jsonl"
    )
    classify.add_argument("paths", nargs="+", metavar="PATH", help="an audio file, or a directory of them")
    classify.add_argument("--format", choices=["text", "jsonl"], default="text", help="a table (default) or JSON Lines")
    _add_model_arguments(classify, "--model", metavar="FILE")
    classify.set_defaults(run=_classify)

    info = commands.add_parser("info", help="show what is in a model file", epilog="example: ms-edge info a.onnx")
    _add_model_arguments(info, "model", nargs="?", metavar="MODEL")
    info.set_defaults(run=_info)
    return parser


def _add_model_arguments(parser: argparse.ArgumentParser, name: str, **keywords: Any) -> None:
    parser.add_argument(name, help="a model made by ms-export (default: the bundled one)", **keywords)
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")


def _classify(args: argparse.Namespace) -> int:
    # Imported here, so that --help and --version do not pay for what they do not use.
    from ms_edge.batch import classify_all
    from ms_edge.classifier import Classifier
    from ms_edge.model import Model
    from ms_edge.results import Failure
    from ms_edge.writers import FORMATS

    classifier = Classifier(Model.load(args.model, args.device))
    header, line = FORMATS[args.format]
    if header:
        print(header)
    failed = False
    for result in classify_all(args.paths, classifier):
        if isinstance(result, Failure):
            failed = True
            _complain(result.message)
        print(line(result), flush=True)
    return FAILED if failed else 0


def _info(args: argparse.Namespace) -> int:
    from ms_edge.model import Model
    from ms_edge.writers import model_card

    print(model_card(Model.load(args.model, args.device)))
    return 0


def _complain(message: str) -> None:
    from ms_edge.writers import printable

    print(f"ms-edge: {printable(message)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
