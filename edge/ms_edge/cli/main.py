"""`ms-edge`: parse the arguments, run the command, turn errors into exit codes."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ms_edge.cli.arguments import FAILED, INTERRUPTED, UNUSABLE, USAGE, parser
from ms_edge.cli.descriptors import (
    hide_stderr_of_libraries,
    hide_stdout_of_libraries,
    open_standard_descriptors,
    path_of_our_copy,
)
from ms_edge.errors import DeviceError, ModelError, MsEdgeError, reason, resource_error


def command() -> None:
    """Run the program `ms-edge`. Start and end the process as fast as possible."""
    _use_utf8_names()
    # Imports create tens of thousands of objects and almost no cycles. Without the search for cycles
    # they take 7 ms less.
    gc.set_threshold(100_000)
    # NumPy's BLAS starts one thread per core at import. Our products are too small to share, and
    # files are processed in parallel, with one thread per process, since a process that has more
    # cannot be forked.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    _interrupt_on_termination()
    # All output is flushed. Python, NumPy and onnxruntime take 20 ms to clean up; the system none.
    os._exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ms-edge` and return its exit code.

    0: all inputs classified. 1: some inputs failed. 2: usage error. 3: the model, the device or an
    optional feature cannot be used. 130: interrupted. docs/errors.md has those of single commands.
    Without `arguments`, those of the process are used, and its standard output and error are kept
    free of what C libraries print.
    """
    try:
        if arguments is None:
            open_standard_descriptors()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # so that any file name can be printed
                stream.reconfigure(errors="backslashreplace")
        try:
            return _run(arguments)
        finally:  # Flush here, so that a full disk is reported in one sentence, also after --help.
            sys.stdout.flush()
    except KeyboardInterrupt:
        _complain("interrupted; what was printed so far is complete.")
        return INTERRUPTED
    except Exception as error:
        known = error if isinstance(error, MsEdgeError) else resource_error(error)
        if not (known or isinstance(error, OSError)):
            raise
        return _failed(known or error)


def _run(arguments: Sequence[str] | None) -> int:
    """Parse the arguments and run the command in the module of its name."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    values = vars(parser(*given[:1]).parse_args(given))
    if arguments is None:
        # Before stderr is hidden: if memory is short, NumPy's BLAS says so there and ends the process.
        import numpy  # noqa: F401

        if not values.get("verbose"):
            hide_stderr_of_libraries()
        hide_stdout_of_libraries()
        if "output" in values:
            values["output"] = path_of_our_copy(values["output"])
    module = import_module(f"ms_edge.cli.{values.pop('command').replace('-', '_')}")
    code: int = module.run(module.Options(**values))
    return code


def _failed(error: Exception) -> int:
    """Print an error of ms-edge or of the output in one sentence, and return the exit code for it."""
    if isinstance(error, MsEdgeError):
        _complain(str(error))
        return UNUSABLE if isinstance(error, ModelError | DeviceError) else USAGE
    # What remains are errors of the output: errors of inputs and models are MsEdgeErrors. Python
    # flushes standard output again when it exits, which must not fail again.
    assert isinstance(error, OSError)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
        return 0  # the reader wants no more (`| head -1`)
    _complain(f"the output cannot be written ({reason(error)}).")
    return FAILED


def _use_utf8_names() -> None:
    """Start this program again in Python's UTF-8 mode (PEP 540) if the locale has another encoding.

    Then a record holds the same path in every locale, and `--resume` finds it. Python does this
    itself in the locales C and POSIX, but not in those of Latin-1 or EUC, nor with PYTHONUTF8=0.
    A script that Python reads from standard input cannot be started again, nor can a frozen program.
    """
    if os.name == "nt" or sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8":
        return
    if sys.executable and sys.argv[0] not in ("", "-") and not getattr(sys, "frozen", False):
        with contextlib.suppress(OSError):  # it is forbidden: go on in this encoding
            os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _interrupt_on_termination() -> None:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does.

    A signal that the process was started to ignore (`nohup`) stays ignored.
    """
    import signal

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _complain(message: str) -> None:
    """Print one line on standard error."""
    with contextlib.suppress(ImportError, OSError, MemoryError):  # the import may fail too
        from ms_edge.output.writers import printable

        message = printable(message)
    with contextlib.suppress(OSError):  # the terminal was closed
        print(f"ms-edge: {message}", file=sys.stderr, flush=True)
