"""The command line of `ms-edge`: what may be said, and how it is explained."""

from __future__ import annotations

import argparse
from typing import Any

from ms_edge._version import __version__

RECORD_FORMATS = ("text", "jsonl", "json", "csv", "tsv")
TIMELINE_FORMATS = ("audacity", "rttm", "textgrid", "webvtt")


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
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

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
        help="the shortest segment (default: 1); with 0, nothing is smoothed and every window keeps its own label",
    )
    out = classify.add_argument_group("output")
    out.add_argument(
        "--format",
        choices=[*RECORD_FORMATS, *TIMELINE_FORMATS],
        help=f"default: what the suffix of -o FILE says, else text; {', '.join(TIMELINE_FORMATS)} are timelines",
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
    out.add_argument(
        "-v", "--verbose", action="store_true", help="say what runs on what, how fast, and what is skipped"
    )
    many = classify.add_argument_group("many files")
    many.add_argument("-r", "--recursive", action="store_true", help="also the directories within directories")
    many.add_argument(
        "--glob", metavar="PATTERN", help="names to take from directories (default: those of audio files)"
    )
    many.add_argument("--files-from", metavar="FILE", help="read paths from a file, one a line; - is standard input")
    many.add_argument("-0", "--null", action="store_true", help="paths of --files-from end with NUL (find -print0)")
    many.add_argument(
        "-j",
        "--jobs",
        type=int,
        metavar="N",
        help="files at once (default: the cores this process may use; four times as many at most)",
    )
    many.add_argument(
        "--shard", metavar="I/N", help="only the I-th of N shares of the files, the same on every machine"
    )

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

    info = commands.add_parser(
        "info",
        help="show what is in a model file",
        description="Show what a model hears, how it decides, what it was trained on and how it was proven.",
        epilog="example: ms-edge info a.onnx",
    )
    _add_model(info, "model", nargs="?", metavar="MODEL")

    doctor = commands.add_parser(
        "doctor",
        help="check that this machine computes what the model's makers did",
        description="Show versions, devices and the model; run its golden vector on every device. Exit status 3 if an answer is wrong.",
        epilog="example: ms-edge doctor --json",
    )
    _add_model(doctor, "--model", metavar="FILE")
    doctor.add_argument("--json", action="store_true", help="print JSON")

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
    return top


def _add_model(command: argparse.ArgumentParser, name: str, **keywords: Any) -> None:
    command.add_argument(
        name,
        help="a model made by ms-export, or music-speech-0.1, which was bundled before (default: the bundled one)",
        **keywords,
    )
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
        "--hop",
        type=float,
        metavar="S",
        help="seconds from window to window (default: the model's; the bundled one's is 0.16)",
    )
    command.add_argument(
        "--min-confidence", type=float, default=0.0, metavar="P", help="label what is less probable `uncertain`"
    )
    command.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="LABEL=P",
        help="give LABEL from the probability P on, as in speech=0.6 (repeatable; default: the model's thresholds)",
    )
    command.add_argument(
        "--binary", action="store_true", help="the likelier of speech and music, never both and never neither"
    )
