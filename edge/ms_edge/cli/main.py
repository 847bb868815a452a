"""`ms-edge`: parse, call, print."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ms_edge.cli.arguments import parser
from ms_edge.errors import DeviceError, ModelError, MsEdgeError, UsageError, reason, resource_error

if TYPE_CHECKING:
    import argparse

    from ms_edge.audio.raw import RawFormat

FAILED, UNUSABLE, INTERRUPTED = 1, 3, 130


def command() -> None:
    """The program `ms-edge`: `main` as fast as a process can begin and end."""
    # Importing makes tens of thousands of objects and hardly a cycle: not looking for any saves 7 ms.
    gc.set_threshold(100_000)
    # One thread a process: NumPy's BLAS would start one for each core as it is imported, for products too small to share.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _stop_when_told()
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
            if arguments is None:
                import numpy  # noqa: F401  (before: for want of memory its BLAS ends the process, and says so there)

                if not getattr(args, "verbose", False):
                    _keep_stderr_for_us()
                _keep_stdout_for_us()
                if hasattr(args, "output"):
                    args.output = _ours(args.output)
            return COMMANDS[args.command](args)
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
    except (ImportError, MemoryError) as error:
        _complain(str(resource_error(error)))
        return UNUSABLE
    except OSError as error:
        if lack := resource_error(error):
            _complain(str(lack))
            return UNUSABLE
        # Of an output: those of inputs and models are translated where they arise.
        # Python flushes stdout once more on exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
            return 0  # the reader has had enough (`| head -1`)
        _complain(f"the output cannot be written ({reason(error)}).")
        return FAILED


def _stop_when_told() -> None:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does, unless whoever began the process has it ignore them (`nohup`)."""
    import signal

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


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


def _keep_stdout_for_us() -> None:
    """Send what C libraries print to descriptor 1 to where descriptor 2 leads: it has no place between the results."""
    before = sys.stdout
    if not isinstance(before, io.TextIOWrapper):
        return
    before.flush()
    try:
        ours = os.dup(1)
    except OSError:
        return
    unbuffered = isinstance(before.buffer, io.RawIOBase)  # PYTHONUNBUFFERED
    sys.stdout = io.TextIOWrapper(
        open(ours, "wb", buffering=0 if unbuffered else -1),  # noqa: SIM115
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
    os.dup2(2, 1)


def _ours(output: str | None) -> str | None:
    """Return the path of our own copy if a path names descriptor 1 or 2, which the C libraries have now."""
    for number, name, stream in ((1, "stdout", sys.stdout), (2, "stderr", sys.stderr)):
        if output in (f"/dev/{name}", f"/dev/fd/{number}", f"/proc/self/fd/{number}"):
            return f"/dev/fd/{stream.fileno()}"
    return output


def _classify(args: argparse.Namespace) -> int:
    # Imported here, so that --help and --version do not pay for what they do not use.
    from ms_edge.audio.opening import STDIN
    from ms_edge.classifier import MIN_SEGMENT_S, Classifier
    from ms_edge.jobs.classify import classify
    from ms_edge.jobs.inputs import Inputs, parse_shard
    from ms_edge.jobs.ordered import most_jobs, usable_cores
    from ms_edge.jobs.progress import Progress
    from ms_edge.model.session import Model
    from ms_edge.output.destination import FileOutput, Output, TreeOutput
    from ms_edge.output.journal import ResumableOutput
    from ms_edge.output.writers import format_of, formats, wants_colour

    if not args.paths and args.files_from is None:
        raise UsageError("Nothing to classify; name files or directories, or - for standard input.")
    if [*args.paths, args.files_from].count(STDIN) > 1:
        raise UsageError("Standard input can be read only once.")
    if args.null and args.files_from is None:
        raise UsageError("-0 is about the list that --files-from names.")
    if args.output == "":
        raise UsageError("-o needs the name of a file or a directory.")
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"--jobs must be 1 or more, not {args.jobs}.")
    alone = len(args.paths) == 1 and args.files_from is None and not os.path.isdir(args.paths[0])
    into_tree = args.output is not None and (args.output.endswith(("/", os.sep)) or os.path.isdir(args.output))
    if args.output is not None and not into_tree:
        _require_no_recording(args.output, [*args.paths, args.files_from, args.model])
    name = args.format or ("text" if args.output is None or into_tree else format_of(args.output))
    form = formats()[name]
    timeline = args.timeline or form.timeline_only
    if form.single and not alone and not into_tree:
        raise UsageError(f"A {name} document is about one recording; for several give -o DIR/.")
    if args.resume and (args.output is None or into_tree or name != "jsonl"):
        raise UsageError("--resume needs -o FILE in the format jsonl.")

    raw = _raw(args)
    inputs = Inputs(
        args.paths,
        args.files_from,
        null_separated=args.null,
        recursive=args.recursive,
        pattern=args.glob,
        shard=parse_shard(args.shard) if args.shard else (1, 1),
    )
    _keep_freed_memory()
    model = Model.load(args.model, args.device)
    classifier = Classifier(
        model,
        hop_s=args.hop,
        min_segment_s=MIN_SEGMENT_S if args.min_duration is None else args.min_duration,
        min_confidence=args.min_confidence,
        binary=args.binary,
        thresholds=_thresholds(args),
        wav_only=args.wav_only,
    )
    known = args.files_from is None and not any(map(os.path.isdir, args.paths)) and not args.shard
    progress = Progress(len(args.paths) if known else None, quiet=args.quiet, verbose=args.verbose)
    inputs.tell = progress.tell
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
            given = [path for path in (*args.paths, args.files_from, args.model) if path]
            output = TreeOutput(args.output, form, labels, timeline, given)
        elif name == "jsonl":
            output = ResumableOutput(args.output, form, labels, timeline, resume=args.resume)
        else:
            output = FileOutput(args.output, form, labels, timeline)
    except OSError as error:
        if args.output is None:
            raise
        raise UsageError(f"{args.output}: cannot be written ({reason(error)}).") from None
    jobs = args.jobs or usable_cores()
    jobs = min(jobs, len(args.paths)) if known else jobs
    most, why = most_jobs()
    if jobs > most:
        asked = f"-j {args.jobs}: " if args.jobs else ""
        say = progress.complain if args.jobs else progress.tell
        say(f"{asked}working on {most} file{'' if most == 1 else 's'} at once: {why}.")
        jobs = most
    # Nothing to wait for, and nothing at once: then this thread does it, without others to be woken by.
    jobs = 0 if alone or (jobs == 1 and args.files_from is None) else jobs
    return classify(inputs, classifier, output, progress, jobs=jobs, raw=raw)


def _keep_freed_memory() -> None:
    """Let glibc use freed memory again instead of handing it back.

    It hands back blocks of over 128 kB, and fetches them anew with a fault a page, until one of up to 32 MB has been freed (`mallopt(3)`,
    M_MMAP_THRESHOLD): for an hour of audio as much time as the front end takes. This one is never touched, so it takes no memory.
    """
    import numpy as np

    with contextlib.suppress(MemoryError):  # it only saves time
        np.empty((32 << 20) - 8192, np.uint8)


def _require_no_recording(output: str, inputs: Sequence[str | None]) -> None:
    """Raise UsageError where answers would take the place of what is to be read (`-o *.wav`)."""
    from ms_edge.audio.opening import EXTENSIONS
    from ms_edge.output.destination import is_same_file, place
    from ms_edge.output.journal import parts

    for name in (output, *parts(place(output))):
        replaced = os.path.exists(name) and any(path and is_same_file(path, name) for path in inputs)
        if replaced or place(name).lower().endswith(EXTENSIONS):
            raise UsageError(f"{name}: is a recording or an input, and not replaced; give -o another name.")


def _write_like_a_file(stream: object) -> None:
    """Let standard output hold the bytes that -o FILE would, names that are not Unicode included."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")


def _raw(args: argparse.Namespace) -> RawFormat | None:
    from ms_edge.audio.raw import RawFormat

    if args.raw and args.wav_only:
        raise UsageError("--raw is audio without a header, and --wav-only refuses what is not WAV; give one.")
    return RawFormat.parse(args.raw) if args.raw else None


def _thresholds(args: argparse.Namespace) -> dict[str, float]:
    """Read --threshold LABEL=P, of each label the last. Raises UsageError if it is not that."""
    found = {}
    for text in args.threshold:
        label, _, value = text.rpartition("=")
        try:
            found[label] = float(value)
        except ValueError:
            label = ""
        if not label:
            raise UsageError(f"--threshold takes LABEL=P, as in speech=0.6, not {text!r}.")
    return found


def _stream(args: argparse.Namespace) -> int:
    from ms_edge.classifier import Classifier
    from ms_edge.jobs.classify import stream
    from ms_edge.jobs.progress import Progress

    raw = _raw(args)
    classifier = Classifier(
        args.model,
        args.device,
        hop_s=args.hop,
        min_confidence=args.min_confidence,
        binary=args.binary,
        thresholds=_thresholds(args),
        wav_only=args.wav_only,
    )
    progress = Progress(None, verbose=args.verbose)
    return stream(args.source, classifier, progress, raw=raw, json_lines=args.format == "jsonl")


def _info(args: argparse.Namespace) -> int:
    from ms_edge.cli.info import model_card
    from ms_edge.model.session import Model

    print(model_card(Model.load(args.model, args.device)))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from ms_edge.selftest.doctor import examine, report

    found = examine(args.model, args.device)
    print(report(found, as_json=args.json))
    return 0 if found["ok"] else UNUSABLE


def _benchmark(args: argparse.Namespace) -> int:
    from ms_edge.selftest.benchmark import measure, report

    found = measure(args.model, args.device, args.seconds)
    print(report(found, as_json=args.json))
    return 0 if found["ok"] else UNUSABLE


COMMANDS = {"classify": _classify, "stream": _stream, "info": _info, "doctor": _doctor, "benchmark": _benchmark}


def _complain(message: str) -> None:
    with contextlib.suppress(ImportError, OSError, MemoryError):  # the message may be of what importing lacks
        from ms_edge.output.writers import printable

        message = printable(message)
    with contextlib.suppress(OSError):  # a terminal that has been closed
        print(f"ms-edge: {message}", file=sys.stderr, flush=True)
