"""Standard input, output and error of the process: open, and free of what C libraries print."""

from __future__ import annotations

import io
import os
import sys


def open_standard_descriptors() -> None:
    """Open descriptors 0, 1 and 2 if the caller closed them.

    Otherwise the next file to be opened becomes standard input or output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # A closed standard output is opened for reading, so that writing to it fails.
            os.open(os.devnull, os.O_RDONLY if descriptor == 1 else os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def hide_stderr_of_libraries() -> None:
    """Discard what C libraries print to descriptor 2; `sys.stderr` gets a copy of descriptor 2.

    mpg123 prints every bad frame, onnxruntime every GPU that is missing.
    """
    try:
        ours = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except OSError:
        return
    sys.stderr = open(ours, "w", encoding=sys.stderr.encoding, errors="backslashreplace", buffering=1)  # noqa: SIM115
    os.dup2(nowhere, 2)
    os.close(nowhere)


def hide_stdout_of_libraries() -> None:
    """Send what C libraries print to descriptor 1 to descriptor 2.

    `sys.stdout` gets a copy of descriptor 1.
    """
    before = sys.stdout
    if not isinstance(before, io.TextIOWrapper):
        return
    before.flush()
    try:
        ours = os.dup(1)
    except OSError:
        return
    # Buffered, also with PYTHONUNBUFFERED: without a buffer, Python does not notice that a full disk took a part only.
    sys.stdout = io.TextIOWrapper(
        open(ours, "wb"),  # noqa: SIM115
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
    os.dup2(2, 1)


def path_of_our_copy(output: str | None) -> str | None:
    """Return the path of our copy if `output` names descriptor 1 or 2.

    Descriptors 1 and 2 themselves now belong to the C libraries.
    """
    for number, name, stream in ((1, "stdout", sys.stdout), (2, "stderr", sys.stderr)):
        if output in (f"/dev/{name}", f"/dev/fd/{number}", f"/proc/self/fd/{number}"):
            return f"/dev/fd/{stream.fileno()}"
    return output


def write_like_a_file(stream: object) -> None:
    """Let standard output carry the bytes that `-o FILE` would hold.

    They include file names that are not Unicode.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")
