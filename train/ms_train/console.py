"""What `ms-train` and `ms-export` share: exit codes, one-sentence errors, a quiet start of
TensorFlow.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from ms_edge.errors import DeviceError, MsEdgeError, UsageError, reason
from ms_edge.model.quiet import quiet_stderr

INTERRUPTED = 130


def run(program: str, extras: str, command: Callable[[], int]) -> int:
    """Call `command` and return the exit code: its own, or 1 error, 2 usage, 3 missing software,
    130 interrupted.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: half files are removed
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # so that a file name outside the terminal's encoding can be printed
            stream.reconfigure(errors="backslashreplace")
    try:
        # TensorFlow writes messages about oneDNN and CUDA to descriptor 2 before any log level
        # applies.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        sys.stderr.flush()
        with quiet_stderr():
            import tensorflow  # noqa: F401  (here, so that its start-up messages are suppressed)
        status = command()
        sys.stdout.flush()  # here, so that a full disk is reported as an error
        return status
    except ModuleNotFoundError as error:
        print(
            f"{program}: needs {error.name}, which is not installed; type in a clone of ms-edge: pip install '.[{extras}]'",
            file=sys.stderr,
        )
        return 3
    except MsEdgeError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return {UsageError: 2, DeviceError: 3}.get(type(error), 1)
    except OSError as error:  # from writing; errors from reading are translated where files are read
        print(f"{program}: {error.filename or 'the output'}: {reason(error)}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted.", file=sys.stderr)
        return INTERRUPTED
    finally:  # what was printed before an error, too
        with contextlib.suppress(OSError):
            sys.stdout.flush()


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return an argparse type for whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def add_data_arguments(parser: argparse.ArgumentParser, *, required: bool, note: str = "") -> None:
    """Add the options that name a dataset, which are the same in every command."""
    parser.add_argument(
        "--data",
        required=required,
        help="folder:PATH (a sub-folder of audio per class), csv:FILE (columns path, label; split, start, end), "
        "corrections:FILE (saved by the page of ms-edge report; several files with commas), tfds:NAME (an audio "
        "dataset of tensorflow-datasets: NAME[/CONFIG][:VERSION], or the folder of a prepared one), open-corpus:PATH (what "
        f"`ms-train data fetch` made), or gtzan{note}",
    )
    parser.add_argument("--archive", type=Path, help="gtzan: a local music_speech.tar.gz, or its unpacked folder")
