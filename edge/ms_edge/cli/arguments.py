"""The command line of `ms-edge`: its commands, options, help texts and exit statuses."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ms_edge._version import __version__

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

RECORD_FORMATS = ("text", "jsonl", "json", "csv", "tsv", "xlsx")
TIMELINE_FORMATS = ("audacity", "cue", "elan", "raven", "rttm", "srt", "textgrid", "webvtt")
FAILED, USAGE, UNUSABLE, INTERRUPTED = 1, 2, 3, 130
# What --device takes, in a help text.
DEVICES = (
    "auto (default), cpu, cuda, cuda:N or the name of an onnxruntime provider; "
    "if a device you name is unavailable, the command fails"
)
MODELS = (
    "a model file made by ms-export, or the name of a model of this package: bundled (default), "
    "music-speech-large (more accurate, slower), music-speech-level (bundled, with the level of the music), "
    "music-speech-waveform (bundled, for other runtimes) or music-speech-0.1 (the previous one)"
)


class Lists(tuple[str, ...]):
    """The values of an option that takes one of them, or several with commas between them."""

    def __contains__(self, given: object) -> bool:
        return isinstance(given, str) and set(self).issuperset(given.split(","))


def _file(text: str) -> str | None:
    """Return the name of an output; None, as without -o, for `-`, standard output."""
    return None if text == "-" else text


def _named(text: str) -> str:
    """Return the name of an output that cannot be standard output."""
    if text in ("", "-"):
        raise argparse.ArgumentTypeError("a name is needed, since this output cannot be standard output")
    return text


def _duration(text: str) -> float:
    """Return seconds, from text such as `10`, `10s`, `5m`, `2h` or `1d`."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
    try:
        seconds = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"a duration is a number with s, m, h or d after it, as in 10s, not {text!r}")
    return seconds


def parser(command: str = "") -> argparse.ArgumentParser:
    """Return the parser of the whole command line, or of one command, which takes 4 ms less."""
    top = argparse.ArgumentParser(
        prog="ms-edge",
        description="Tell speech from music in audio files and streams.",
        epilog="example: ms-edge classify *.wav\n\n"
        "exit status: 0 all classified, 1 some inputs failed (check-dialogue: or music is too loud), 2 usage, "
        "3 model, device or extra unusable, 4 or 5 a live source was given up (monitor), 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"ms-edge {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    every = {
        "classify": _add_classify,
        "stream": _add_stream,
        "monitor": _add_monitor,
        "watch": _add_watch,
        "archive": _add_archive,
        "report": _add_report,
        "summary": _add_summary,
        "cut": _add_cut,
        "check-dialogue": _add_check_dialogue,
        "score": _add_score,
        "info": _add_info,
        "doctor": _add_doctor,
        "benchmark": _add_benchmark,
    }
    for add in [every[command]] if command in every else every.values():
        add(commands)
    return top


def _add_classify(commands: Commands) -> None:
    classify = commands.add_parser(
        "classify",
        help="classify audio files",
        description="Print the label, probability, duration and path of each file; with --timeline, print its segments.",
        epilog="example: ms-edge classify -r recordings/ -o records.jsonl --resume",
    )
    classify.add_argument(
        "paths", nargs="*", metavar="PATH", help="an audio file, a directory of audio files, or - for standard input"
    )
    _add_reading(classify)
    _add_judging(classify)
    classify.add_argument(
        "--timeline", action="store_true", help="print segments with start and end instead of one label per file"
    )
    _add_min_duration(classify)
    _add_output(classify.add_argument_group("output"))
    _add_many_files(classify.add_argument_group("many files"))


def _add_min_duration(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--min-duration",
        type=float,
        metavar="S",
        help="the shortest segment, in seconds (default: 1); with 0, every window keeps its own label",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--format",
        choices=Lists((*RECORD_FORMATS, *TIMELINE_FORMATS)),
        metavar="NAME[,NAME...]",
        help=f"the output format: {', '.join(RECORD_FORMATS)} or, with segments always, {', '.join(TIMELINE_FORMATS)} "
        "(default: from the suffix of -o FILE, otherwise text); several only with -o DIR/",
    )
    group.add_argument(
        "--tiers",
        action="store_true",
        help="in formats with segments, except cue: segments of each label of the model on its own, so that speech "
        "and music overlap",
    )
    group.add_argument(
        "-o",
        "--output",
        type=_file,
        metavar="FILE|DIR/",
        help="write all results to FILE (atomically; - is standard output, the default), or one file per input and "
        "format into DIR/",
    )
    group.add_argument(
        "--resume", action="store_true", help="with -o FILE.jsonl: classify only what an earlier run did not finish"
    )
    group.add_argument(
        "-q", "--quiet", action="store_true", help="no messages on stderr about single files, no progress bar"
    )
    group.add_argument(
        "-v", "--verbose", action="store_true", help="also report the device, the speed and skipped files on stderr"
    )


def _add_many_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-r", "--recursive", action="store_true", help="search directories inside directories too")
    group.add_argument(
        "--glob", metavar="PATTERN", help="names of files to read in directories (default: names of audio files)"
    )
    group.add_argument("--files-from", metavar="FILE", help="read paths from FILE, one per line; - is standard input")
    group.add_argument("-0", "--null", action="store_true", help="paths in --files-from end with NUL (find -print0)")
    group.add_argument(
        "-j",
        "--jobs",
        type=int,
        metavar="N",
        help="files to classify at a time (default: the number of cores this process may use; "
        "at most four times that number)",
    )
    group.add_argument(
        "--shard",
        metavar="I/N",
        help="classify only share I of N of the files; every machine divides them in the same way",
    )


def _add_stream(commands: Commands) -> None:
    stream = commands.add_parser(
        "stream",
        help="label a live stream while it arrives",
        description="Print a line when speech, music or silence begins and when it ends, shortly after it was heard.",
        epilog="example: arecord -q -f S16_LE -r 16000 -c 1 | ms-edge stream -",
    )
    stream.add_argument("source", metavar="SOURCE", help="- for standard input (WAV, or --raw), or a file")
    stream.add_argument(
        "--format", choices=["text", "jsonl"], default="text", help="lines of text (default) or of JSON (jsonl)"
    )
    _add_delay(stream)
    stream.add_argument(
        "--windows",
        action="store_true",
        help="print each window as soon as its last sample arrives, with what is known then, instead of segments",
    )
    stream.add_argument(
        "-v", "--verbose", action="store_true", help="also print what libraries report about the stream"
    )
    _add_reading(stream)
    _add_judging(stream)


def _add_delay(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--delay",
        type=_duration,
        default=2.0,
        metavar="TIME",
        help="how much later audio is needed to decide a label, which is then final (default: 2s, at least about 1s "
        "with the bundled model and its hop); a longer time gives better labels",
    )


def _add_monitor(commands: Commands) -> None:
    monitor = commands.add_parser(
        "monitor",
        help="follow live sources for as long as they run",
        description="Print what is on live sources as events: when speech, music or silence begins and ends, and what "
        "happens to the connection. Sources that fail are connected again, and the audio that was lost is counted.",
        epilog="examples:\n"
        "  ms-edge monitor http://radio.example/live.ogg --format jsonl > events.jsonl\n"
        "  ms-edge monitor alsa:hw:1 udp://239.1.1.1:5004 https://tv.example/live.m3u8\n"
        "  rtl_fm -f 98.5M -M wbfm -r 48000 | ms-edge monitor - --raw 48000:1:s16le\n"
        "  ms-edge monitor http://radio.example/live.ogg --alert 'no music 60s' --alert 'no input 15s' \\\n"
        "    --exec 'logger \"$MS_EDGE_MESSAGE\"'\n\n"
        "exit status: 0 all sources have ended, 1 one could not be read at all or records were lost, 2 usage, "
        "3 model, device or extra unusable, 4 one was given up after a stall, 5 one after a lost connection, "
        "130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    monitor.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="- for standard input (WAV, or --raw), alsa:DEVICE or pulse:DEVICE for a sound card, the URL of a stream "
        "(http, https, rtsp, rtmp, udp, rtp; Icecast and HLS too), an .sdp file, or an audio file",
    )
    monitor.add_argument(
        "--stall",
        type=_duration,
        default=10.0,
        metavar="TIME",
        help="connect again to a source that has sent no audio for this long (default: 10s)",
    )
    monitor.add_argument(
        "--give-up",
        type=_duration,
        metavar="TIME",
        help="end a source that has had no audio for this long (default: never, go on trying)",
    )
    _add_delay(monitor)
    monitor.add_argument(
        "--format", choices=["text", "jsonl"], default="text", help="a line of text (default) or JSON (jsonl) per event"
    )
    _add_live_reading(monitor)
    monitor.add_argument("-v", "--verbose", action="store_true", help="also print what libraries report")
    _add_alerts(monitor.add_argument_group("alerts"))
    _add_accounts(monitor.add_argument_group("records and metrics"))
    monitor.set_defaults(wav_only=False, decoder="auto")
    _add_judging(monitor)


def _add_live_reading(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--raw",
        metavar="RATE:CHANNELS:FORMAT",
        help="the format of headerless PCM on standard input, and of what sound cards record (default: 48000:1:s16le)",
    )
    command.add_argument(
        "--track",
        type=int,
        default=1,
        metavar="N",
        help="the audio track of a stream with several, from 1 (default: 1)",
    )
    command.add_argument(
        "--channels",
        default="mix",
        metavar="mix|each|N",
        help="label the mean of all channels (mix, default), each channel on its own, or only channel N (from 1)",
    )


def _add_alerts(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--alert",
        action="append",
        default=[],
        metavar="RULE",
        help="raise an alert when a condition has held for some time, on each source on its own: [no] LABEL DURATION, as "
        "in 'no music 60s', 'silence 10s', 'speech 5m' or 'no input 15s'; it ends when the opposite has held for a "
        "while (repeatable)",
    )
    group.add_argument(
        "--exec",
        metavar="CMD",
        help="run a shell command when an alert is raised and when it ends, with MS_EDGE_ALERT, MS_EDGE_SOURCE, "
        "MS_EDGE_MESSAGE and others in its environment, and the event as JSON on its standard input",
    )
    group.add_argument(
        "--webhook", metavar="URL", help="send the event as JSON to URL (POST) when an alert is raised and when it ends"
    )


def _add_accounts(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--records",
        metavar="DIR",
        help="add records of what was heard to DIR/YYYY-MM-DD.jsonl, a file per day (UTC), which summary and report can "
        "read meanwhile",
    )
    group.add_argument(
        "--metrics",
        metavar="FILE.prom",
        help="write metrics for Prometheus to FILE every ten seconds, for the textfile collector of node_exporter",
    )
    group.add_argument(
        "--metrics-port", type=_port, metavar="PORT", help="serve the metrics at http://127.0.0.1:PORT/metrics"
    )


def _port(text: str) -> int:
    """Return the number of a port."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")
    return int(text)


def _add_watch(commands: Commands) -> None:
    watch = commands.add_parser(
        "watch",
        help="classify recordings as they arrive in a folder",
        description="Classify each recording in a folder and its subfolders once it is complete, and add its record to a "
        "file, until interrupted. Recordings that the file has a record of are left out, so the same command goes on "
        "after any interruption.",
        epilog="example: ms-edge watch recordings/ -o records.jsonl",
    )
    watch.set_defaults(recursive=True)
    watch.add_argument("paths", nargs="+", metavar="DIR", help="a folder of recordings")
    _add_named_output(
        watch, "FILE.jsonl", "add the records to FILE, as JSON Lines, which summary and report can read meanwhile"
    )
    watch.add_argument(
        "--settle",
        type=float,
        default=10.0,
        metavar="S",
        help="a recording is complete when its size and its times have not changed for S seconds (default: 10)",
    )
    watch.add_argument("--timeline", action="store_true", help="also write segments with start and end")
    _add_min_duration(watch)
    watch.add_argument(
        "-j",
        "--jobs",
        type=int,
        metavar="N",
        help="files to classify at a time (default: the number of cores this process may use)",
    )
    watch.add_argument("-q", "--quiet", action="store_true", help="print nothing on stderr except errors of the run")
    watch.add_argument("-v", "--verbose", action="store_true", help="also report the device and the speed on stderr")
    _add_reading(watch)
    _add_judging(watch)


def _add_archive(commands: Commands) -> None:
    archive = commands.add_parser(
        "archive",
        help="classify an archive of millions of recordings on a Ray cluster",
        description="Classify all recordings of a directory or an object store with Ray, and write a Parquet dataset "
        "with one row per recording. A directory is searched to any depth.",
        epilog="example: ms-edge archive s3://radio/2026/ -o s3://results/2026/ --address auto",
    )
    archive.add_argument(
        "source",
        metavar="SOURCE",
        help="a directory, a URL of one (s3://, gs://, az://, file://), or a text file with a path or URL per line",
    )
    _add_named_output(
        archive,
        "OUT",
        "the directory, or a URL of one, for the Parquet files: OUT/recordings/ and, with --segments, OUT/segments/",
    )
    archive.add_argument("--segments", action="store_true", help="also write a table with one row per segment")
    archive.add_argument(
        "--resume",
        action="store_true",
        help="classify only what earlier runs did not finish: recordings without a row, or with an error, and those that "
        "have changed; a row is also replaced if the model or a setting is another one",
    )
    archive.add_argument(
        "--address",
        metavar="ADDRESS",
        help="the Ray cluster to join, as in auto or HOST:6379 (default: a new one of the cores of this machine)",
    )
    archive.add_argument(
        "-j", "--jobs", type=int, metavar="N", help="recordings to classify at a time (default: one for each CPU)"
    )
    archive.add_argument(
        "--cpus", type=float, default=1.0, metavar="F", help="CPUs that one of them takes, as in 0.5 (default: 1)"
    )
    archive.add_argument("-q", "--quiet", action="store_true", help="no messages and no progress on stderr")
    archive.add_argument("-v", "--verbose", action="store_true", help="also print what Ray reports")
    _add_reading(archive, each=False)
    _add_judging(archive, "auto (default) or cpu: an archive is classified on the CPUs of a cluster")
    _add_min_duration(archive)


def _add_report(commands: Commands) -> None:
    report = commands.add_parser(
        "report",
        help="make pages that show, play and correct what is in recordings",
        description="Write a page for each recording, with its waveform, timeline, scores and segments, for any browser "
        "and without network; corrections made on it can be downloaded. Several recordings have a page each and an index.",
        epilog="example: ms-edge report -r recordings/ -o report/",
    )
    report.add_argument(
        "paths",
        nargs="+",
        metavar="INPUT",
        help="an audio file, a directory of audio files, or records (FILE.jsonl of classify, a directory of archive), "
        "whose recordings are read again with the settings of the records",
    )
    _add_named_output(report, "FILE.html|DIR/", "the page of one recording, or a directory")
    report.add_argument(
        "--embed",
        action="store_true",
        help="put recordings of up to 32 MiB into their pages (default: a page plays the file where it is)",
    )
    _add_reading(report, each=False)
    _add_judging(report)
    _add_min_duration(report)
    _add_many(report, "read")


def _add_summary(commands: Commands) -> None:
    summary = commands.add_parser(
        "summary",
        help="add up how much speech and music there is",
        description="Print the minutes and the share of each label by file, folder, hour or day, from the records that "
        "classify --format jsonl or archive has written.",
        epilog="example: ms-edge summary records.jsonl --by day -o days.png",
    )
    summary.add_argument(
        "records",
        nargs="+",
        metavar="RECORDS",
        help="a file of JSON Lines, a directory of archive, or - for standard input",
    )
    summary.add_argument(
        "--by",
        choices=["file", "folder", "hour", "day"],
        default="file",
        help="what to add up: each file (default), all files of a folder, or what was recorded in an hour or on a day",
    )
    summary.add_argument(
        "--each", action="store_true", help="with --by hour or day: add up each file, or live source, on its own"
    )
    summary.add_argument(
        "--time-pattern",
        metavar="PATTERN",
        help="where file names state the time of recording, as in radio_%%Y%%m%%d_%%H%%M%%S "
        "(default: recorded_at of the record, else the time of the file)",
    )
    summary.add_argument(
        "--format",
        choices=["text", "csv", "json"],
        help="the output format (default: from the suffix of -o FILE, otherwise text)",
    )
    summary.add_argument(
        "-o",
        "--output",
        type=_file,
        metavar="FILE",
        help="write to FILE: .txt, .csv, .json, .xlsx, or a chart as .png or .svg (default: -, standard output)",
    )


def _add_check_dialogue(commands: Commands) -> None:
    check = commands.add_parser(
        "check-dialogue",
        help="find the places where music is too loud under speech",
        description="Print the places where the music is louder than --max-music relative to the speech, with its level and "
        "the interval that holds the true level in 90 % of cases. WCAG 2.2 criterion 1.4.7 wants -20 dB. "
        "Exit status 1 if there are any.",
        epilog="example: ms-edge check-dialogue episode.wav --max-music -20",
    )
    check.add_argument(
        "paths", nargs="+", metavar="PATH", help="an audio file, a directory of audio files, or - for standard input"
    )
    check.add_argument(
        "--max-music",
        type=float,
        default=-20.0,
        metavar="DB",
        help="the highest level of the music relative to the speech, in dB (default: -20)",
    )
    check.add_argument(
        "--shortest",
        type=float,
        default=2.0,
        metavar="S",
        help="leave out places of less than S seconds, as the criterion allows (default: 2)",
    )
    check.add_argument(
        "--format", choices=["text", "jsonl"], default="text", help="a table (text, default) or JSON Lines (jsonl)"
    )
    _add_reading(check, each=False)
    _add_judging(check, models="music-speech-level (default), or a model file made by ms-export convert --level")
    _add_min_duration(check)
    _add_many(check, "check")


def _add_cut(commands: Commands) -> None:
    cut = commands.add_parser(
        "cut",
        help="keep only the speech, or the music, of recordings",
        description="Copy the parts of recordings that have a label into new files, without loss where the format allows "
        "it. No existing file is replaced.",
        epilog="example: ms-edge cut talk.flac --keep speech --pad 0.2 --join -o speech/",
    )
    cut.add_argument(
        "paths",
        nargs="+",
        metavar="INPUT",
        help="an audio file, a directory of audio files, or records (FILE.jsonl of classify --timeline, a directory of "
        "archive)",
    )
    what = cut.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--keep",
        metavar="LABELS",
        help="labels to keep, separated by commas; speech also keeps speech over music (speech+music)",
    )
    what.add_argument(
        "--drop", metavar="LABELS", help="labels to leave out, separated by commas; speech also leaves out speech+music"
    )
    _add_named_output(cut, "DIR", "write DIR/INPUT/TIME.SUFFIX, or DIR/INPUT with --join")
    cut.add_argument("--join", action="store_true", help="one file per recording (default: one for each part)")
    cut.add_argument(
        "--pad", type=float, default=0.0, metavar="S", help="seconds to keep before and after each part (default: 0)"
    )
    cut.add_argument(
        "--fade", type=float, default=0.0, metavar="S", help="seconds to fade in and out at each cut (default: 0)"
    )
    cut.add_argument(
        "--list",
        choices=["cue", "m3u", "edl", "concat"],
        help="also write a list beside each output: of the new files (cue, m3u), or of what to keep of the recording, "
        "for video editors (edl) or ffmpeg (concat)",
    )
    _add_reading(cut, each=False)
    _add_judging(cut)
    _add_min_duration(cut)
    _add_many(cut, "cut")


def _add_score(commands: Commands) -> None:
    score = commands.add_parser(
        "score",
        help="compare records with reference segments",
        description="Print how well the segments that classify --timeline --format jsonl has written match references: "
        "precision, recall and F1 of frames of 10 ms and of whole segments, and the errors of their boundaries. "
        "Exit status 1 if a record or a reference has no partner.",
        epilog="example: ms-edge score --reference labels/ records.jsonl",
    )
    score.add_argument(
        "records", metavar="RECORDS", help="a file of JSON Lines, a directory of archive, or - for standard input"
    )
    score.add_argument(
        "--reference",
        required=True,
        metavar="FILE|DIR",
        help="Audacity labels (.txt), a Praat TextGrid, RTTM, CSV or TSV (columns start, end, label), or a directory of "
        "them; file names, or the names in RTTM and CSV, are those of the recordings without their suffix",
    )
    score.add_argument(
        "--tolerance",
        type=float,
        default=0.5,
        metavar="S",
        help="how far the start or the end of a segment may be away, in seconds (default: 0.5)",
    )
    score.add_argument(
        "--collar",
        type=float,
        default=0.0,
        metavar="S",
        help="leave out frames up to S seconds before and after each boundary of the reference (default: 0)",
    )
    score.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=CLASS",
        help="what a label means: speech, music, speech+music or neither, as in jingle=music (repeatable)",
    )
    score.add_argument("--each", action="store_true", help="also print the F1 of frames of each recording")
    score.add_argument("--format", choices=["text", "json"], default="text", help="a table (text, default) or JSON")


def _add_info(commands: Commands) -> None:
    info = commands.add_parser(
        "info",
        help="show what a model file contains",
        description="Show what audio a model takes, how it decides, what it was trained on and how its export was verified.",
        epilog="example: ms-edge info a.onnx",
    )
    _add_model(info, "model", nargs="?", metavar="MODEL")


def _add_doctor(commands: Commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="check that the model gives its reference results on this machine",
        description="Show versions, devices and the model, and compare the model's results on every device with its "
        "reference results. Exit status 3 if a result is wrong.",
        epilog="example: ms-edge doctor --json",
    )
    _add_model(doctor, "--model", metavar="FILE")
    doctor.add_argument("--json", action="store_true", help="print JSON")


def _add_benchmark(commands: Commands) -> None:
    benchmark = commands.add_parser(
        "benchmark",
        help="measure how fast this machine is",
        description="Time the model on every device whose results are right: the latency of one window and of one "
        "streamed hop, and the throughput, on one core with audio in memory. Exit status 3 if a result is wrong.",
        epilog="example: ms-edge benchmark --seconds 5 --json",
    )
    _add_model(benchmark, "--model", metavar="FILE")
    benchmark.add_argument(
        "--seconds", type=float, default=15.0, metavar="S", help="how long to measure, in seconds (default: 15)"
    )
    benchmark.add_argument("--json", action="store_true", help="print JSON")


def _add_model(
    command: argparse.ArgumentParser, name: str, devices: str = DEVICES, models: str = MODELS, **keywords: Any
) -> None:
    command.add_argument(name, help=models, **keywords)
    command.add_argument("--device", default="auto", help=devices)


def _add_named_output(command: argparse.ArgumentParser, metavar: str, what: str) -> None:
    """Add the option -o of a command that writes files, and needs a name for them."""
    command.add_argument("-o", "--output", type=_named, required=True, metavar=metavar, help=what)


def _add_many(command: argparse.ArgumentParser, verb: str) -> None:
    command.add_argument("-r", "--recursive", action="store_true", help="search directories inside directories too")
    command.add_argument(
        "-j", "--jobs", type=int, metavar="N", help=f"files to {verb} at a time (default: the number of cores)"
    )
    command.add_argument(
        "-q", "--quiet", action="store_true", help="no messages on stderr about single files, no progress bar"
    )
    command.add_argument(
        "-v", "--verbose", action="store_true", help="also report the speed and skipped files on stderr"
    )


def _add_reading(command: argparse.ArgumentParser, *, each: bool = True) -> None:
    """Add the options that say how to read audio; `each` if the command takes `--channels each`."""
    command.add_argument(
        "--raw", metavar="RATE:CHANNELS:FORMAT", help="read headerless PCM, as in 16000:1:s16le (FFmpeg's format names)"
    )
    command.add_argument("--wav-only", action="store_true", help="refuse formats other than WAV")
    command.add_argument(
        "--decoder",
        choices=["auto", "libsndfile", "ffmpeg"],
        default="auto",
        help="what decodes files: libsndfile, and FFmpeg for what libsndfile does not read (auto, default), "
        "or only one of them",
    )
    command.add_argument(
        "--track", type=int, default=1, metavar="N", help="the audio track of a file with several, from 1 (default: 1)"
    )
    command.add_argument(
        "--channels",
        default="mix",
        metavar="mix|each|N" if each else "mix|N",
        help="classify the mean of all channels (mix, default), "
        f"{'each channel on its own, ' if each else ''}or only channel N (from 1)",
    )


def _add_judging(command: argparse.ArgumentParser, devices: str = DEVICES, models: str = MODELS) -> None:
    _add_model(command, "--model", devices, models, metavar="FILE")
    command.add_argument(
        "--hop",
        type=float,
        metavar="S",
        help="time between window starts, in seconds (default: the model's; the bundled model's is 0.16)",
    )
    command.add_argument(
        "--min-confidence",
        type=float,
        default=0.0,
        metavar="P",
        help="label everything less probable than P `uncertain` (default: 0)",
    )
    command.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="LABEL=P",
        help="give LABEL if its probability is at least P, as in speech=0.6 (repeatable; default: the model's thresholds)",
    )
    command.add_argument("--binary", action="store_true", help="always answer speech or music, even for noise")
